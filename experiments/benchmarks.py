"""Speed as ratios: every contender a process of its own, taking turns on one machine.

See configs/benchmarks.py for what is compared, the targets, the variants and the commands, and
`jaxdl.benchmark` for how it is measured and reported.
"""

import functools
import json
import pathlib
import sys
import tempfile
import time

import jax

from jaxdl import app
from jaxdl.benchmark import Contender, compare, start, victim
from jaxdl.benchmark.figures import ratio_bars
from jaxdl.benchmark.report import attacked, compared, cores, idle_share, started, versions
from jaxdl.train import classifier, interrupt
from jaxdl.train.given import trained
from jaxdl.train.stages import Stage, write_json
from jaxdl.viz.report import Report, result_row, spread

HERE = pathlib.Path(__file__).parent
TIME = 'time.json'
ATTACKED = 500  # of a victim's test images, at most
SGD = {'name': 'sgd', 'lr': 0.01, 'momentum': 0.9, 'weight_decay': 5e-4}

# name -> (family, options of its own); 'stock' ones run without huge pages and the lowering rule
CONTENDERS = {
  'jaxdl': ('jax', {'devices': 0}),  # as a study runs: the batch is split over the CPU's cores
  'jaxdl, 1 device': ('jax', {}),
  'stock JAX': ('jax', {'rule': False}),
  'jaxdl bfloat16': ('jax', {'devices': 0, 'dtype': 'bfloat16'}),
  'torch channels_last': ('torch', {'layout': 'NHWC'}),
  'torch NCHW': ('torch', {'layout': 'NCHW'}),
  'torch compiled': ('torch', {'layout': 'NHWC', 'compiled': True}),
  'torch frozen': ('torch', {'layout': 'NHWC', 'frozen': True}),
  'torch bfloat16': ('torch', {'layout': 'NHWC', 'dtype': 'bfloat16'}),
  'loop': ('jax', {'devices': 0}),
  'scan': ('jax', {'devices': 0, 'scan': True}),
  'SGD': ('jax', {'devices': 0, 'optimizer': SGD}),
  'SAM': ('jax', {
    'devices': 0, 'optimizer': {**SGD, 'perturbation': {'name': 'sam', 'rho': 0.05}},
  }),
  'ASAM': ('jax', {
    'devices': 0,
    'optimizer': {**SGD, 'perturbation': {'name': 'sam', 'rho': 0.5, 'adaptive': True}},
  }),
  'foolbox': ('torch', {'library': 'foolbox'}),
  'torchattacks': ('torch', {'library': 'torchattacks'}),
  'its gradients': ('jax', {'devices': 0, 'only_gradients': True}),
  'AutoAttack': ('jax', {'devices': 0}),
  'AutoAttack, reference': ('torch', {}),
  'AutoAttack, torchattacks': ('torch', {'library': 'torchattacks'}),
  'PGD-7 training': ('jax', {
    'devices': 0, 'adversary': {'name': 'pgd', 'eps': 8 / 255, 'steps': 7, 'alpha': 2 / 255},
  }),
  '7 input gradients and SGD': ('jax', {'devices': 0, 'input_gradients': 7}),
  'float': ('jax', {'devices': 0}),
  **{
    f'{name} {w}/{a}': ('jax', {
      'devices': 0, 'quantization': {'name': key, 'weights': w, 'activations': a},
    })
    for name, key, w, a in (
      ('LQ', 'lq', 2, 32), ('LQ', 'lq', 2, 2), ('LQ', 'lq', 3, 3), ('DoReFa', 'dorefa', 2, 2),
      ('LSQ', 'lsq', 2, 2),
    )
  },
  'mask': ('jax', {'devices': 0, 'density': 0.2}),
  'teacher, cached': ('jax', {'devices': 0, 'teacher': 'cached'}),
  'teacher, every step': ('jax', {'devices': 0, 'teacher': 'network'}),
  'no augmentation': ('jax', {'devices': 0}),
  'crop and flip': ('jax', {'devices': 0, 'augment': {'pad': 4}}),
  **{
    name: ('jax', {'devices': 0, 'augment': {'pad': 4, **more}})
    for name, more in {
      'cutout': {'cutout': {'length': 16}}, 'mixup': {'mixup': {'alpha': 1.0}},
      'CutMix': {'cutmix': {'alpha': 1.0}}, 'RandAugment': {'randaugment': {}},
      'AugMix': {'augmix': {}},
    }.items()
  },
  'SimCLR, one view': ('jax', {'devices': 0, 'augment': 'simclr'}),
  'two views': ('views', {}),
  'two views, dm-pix': ('views', {'library': 'dm-pix'}),
  'two views, tf.image': ('tensorflow', {}),
  'SimCLR': ('contrast', {}),
  'SimCLR, views given': ('contrast', {'augment': False}),
  'supervised, 2 B images': ('contrast', {'method': 'supervised', 'augment': False}),
  'fixed batch': ('jax', {'devices': 0}),
  'resident': ('jax', {'devices': 0, 'source': 'resident', 'augment': {'pad': 4}}),
  'tf.data': ('jax', {'devices': 0, 'source': 'tf.data'}),
  'torch, fixed batch': ('torch', {}),
  'DataLoader': ('torch', {'source': 'loader'}),
  'DataLoader, 2 workers': ('torch', {'source': 'loader', 'workers': 2}),
  'ood_metrics': ('metrics', {}),
  'scikit-learn': ('metrics', {'library': 'sklearn'}),
}
SEEDS = {
  'one seed after the other': ('jax', {'axis': 'map', 'seeds': 1}),
  'seeds mapped': ('jax', {'axis': 'map'}),
  'seeds vmapped': ('jax', {'axis': 'vmap'}),
}
# The same names where the input path alone is compared.
INPUTS = {
  'resident': ('jax', {}),
  'tf.data': ('tensorflow', {}),
  'DataLoader': ('torch', {}),
  'DataLoader, 2 workers': ('torch', {'workers': 2}),
}


def stages(c):
  train, first = c.train.to_dict(), c.start.to_dict()
  comparisons = {name: k.to_dict() for name, k in c.comparisons.items()}
  given = {'own': (train, '')}
  if c.victim:
    given['given'] = trained(c.victim)
  measured = [
    Stage('run', functools.partial(whole_run, train), train,
          plan=functools.partial(classifier.plan, train)),
    Stage('victims', functools.partial(write_victims, c.victim, given),
          {'victims': {name: list(v) for name, v in given.items()}}, needs=['run']),
  ]
  for name, k in comparisons.items():
    if 'victim' in k['options'] and not c.victim:
      k['options']['victim'] = 'own'
    needs = ['victims'] if 'victim' in k['options'] else []
    measured.append(Stage(name, functools.partial(measure, k), k, needs=needs))
  measured.append(Stage('start', functools.partial(measure_start, first), first))
  report = functools.partial(write_report, c, comparisons)
  return [*measured, Stage('report', report, {}, needs=[s.name for s in measured], always=True)]


def whole_run(config, context):
  begin = time.perf_counter()
  result = classifier.train(config, 0, context.directory)
  # A file of its own: a stop must not change a stage's result, and it does change its time.
  write_json(context.directory / TIME, {'seconds': time.perf_counter() - begin})
  return {**result, 'images': result['steps'] * config['batch_size']}


def write_victims(folder, given, context):
  """The networks that attacks meet, with test images, in files that every library can read.

  Args:
    folder: of the classifier given on the command line.
    given: 'own' (what the stage `run` trained) and 'given' -> (its configuration, its fingerprint).
  """
  folders = {'own': context.directories['run'], 'given': folder}
  for name, (config, _) in given.items():
    t = classifier.task(config)
    weights = jax.device_get(classifier.load_weights(folders[name]))
    victim.save(context.directory / f'{name}.npz', victim.Victim(
      config['model'], t.dataset.num_classes, *weights, *t.dataset.mean_std(),
      t.test.images[:ATTACKED], t.test.labels[:ATTACKED],
    ))
  return {}


def measure(k, context):
  table = {'input': INPUTS, 'seeds': SEEDS}.get(k['work'], CONTENDERS)
  contenders = []
  for name in k['contenders']:
    family, own = table[name]
    environment = _environment(huge_pages=own.get('rule', True))
    options = {**k['options'], **own}
    if 'victim' in options:
      options['victim'] = str(context.directories['victims'] / f'{options["victim"]}.npz')
    contenders.append(Contender(name, f'{family}/{k["work"]}', options, environment))
  return compare(contenders, k['rounds'], k['units'], poll=interrupt.poll, limit=k['limit'])


def measure_start(k, context):
  classify = [sys.executable, str(HERE / 'classify.py')]
  times = {}

  def add(name, measured):
    times.setdefault(name, []).append(measured)
    interrupt.poll()

  for _ in range(k['repeats']):
    for module in k['imports']:
      program = f'import {module}; print("done")'
      add(f'import {module}', start.command([sys.executable, '-c', program], 'done'))
    if k['help']:
      add('--help', start.command([*classify, '--help'], '--helpfull'))
    if k['first_step']:
      with tempfile.TemporaryDirectory() as scratch:
        run = functools.partial(
          start.first_step, [*classify, *k['first_step']], f'{scratch}/run',
          {'JAX_COMPILATION_CACHE_DIR': None, 'XDG_CACHE_HOME': scratch},
        )
        add('cold start to the first step', run())
        add('warm start to the first step', run())
  return times


def _environment(huge_pages):
  """Of a worker: the application's malloc and compilation cache, the GPU's memory shared."""
  return {
    'GLIBC_TUNABLES': 'glibc.malloc.hugetlb=1' if huge_pages else None,
    'JAX_COMPILATION_CACHE_DIR': jax.config.jax_compilation_cache_dir,
    'XLA_PYTHON_CLIENT_PREALLOCATE': 'false',
  }


def write_report(c, comparisons, context):
  results = context.results
  report = Report(
    'Speed', context.directory,
    'Every contender is a process of its own; they take turns, one at a time, in an order that is '
    'reversed every other round. A ratio is that of the medians over the rounds, ± the standard '
    'deviation of the ratios within single rounds. All but "stock" ones have huge pages.\n\n'
    f'{cores()} cores; {versions(results[name] for name in comparisons)}. While it was the '
    f'turn of others, a worker used at most {idle_share(results, comparisons):.1%} of one core.',
  )
  targets, bars, tables = [], {}, []
  for name, k in comparisons.items():
    title = name.replace('_', ' ')
    rows, ratios, table = compared(title, k, results[name])
    strong = attacked(title, k, results[name])
    report.rows(rows + strong)
    targets += [row for row in rows if row['paper']]
    bars |= {title: ratios} if ratios else {}
    tables.append((title, k, table, strong))
  rows, run = started(c.start, results['start']), results['run']
  run |= json.loads((context.directories['run'] / TIME).read_text())
  report.rows([*rows, result_row('a whole training run', 'images/s, compilation and all included',
                                 run['images'] / run['seconds'])])
  targets += [row for row in rows if row['paper']]
  report.section('Targets')
  report.table(
    ['what', 'measure', 'target', 'ours', ''],
    [[r['setting'], r['metric'], r['paper'], spread(r['value'], r['std'], r['n']), r['source']]
     for r in targets],
  )
  if bars:
    report.figure(ratio_bars(bars, 'speed, divided by that of the reference (the line at 1)'),
                  'ratios', 'Speed of each contender as a ratio to its reference.')
  header = ['', 'images/s, best', 'median', 'speed ratio', 'CPU / wall', 'memory, MB']
  for title, k, table, strong in tables:
    report.section(title)
    report.table(header, table, f'{k["rounds"]} rounds of {k["units"]}; the ratio is to '
                 f'{k["reference"]}. {k["options"]}')
    if strong:
      report.table(['', 'how strong the attack was', ''],
                   [[r['setting'].removeprefix(f'{title}: '), r['metric'], r['value']]
                    for r in strong], 'The same weights and images for all.')
  report.section('Start')
  report.table(['', 'seconds'], [[r['setting'], spread(r['value'], r['std'], r['n'])]
                                 for r in rows])
  report.text(
    f'A whole training run ({c.train.model.name} on {c.train.data.name}, batch '
    f'{c.train.batch_size}): {run["steps"]} steps in {run["seconds"]:.1f} s with compilation, '
    'metrics, checkpoints and evaluation.'
  )
  report.write()
  return {'targets': len(targets), 'met': sum(r['source'] == 'met' for r in targets)}


if __name__ == '__main__':
  app.run(stages, default_config='configs/benchmarks.py')
