"""The CIFAR-10 speed run, timed, with each of its tricks left out in turn.

Every arm is one network trained by the library's own loop; arms differ in values alone. See
configs/speedrun.py for the papers, the claim, the variants and the commands.
"""

import functools
import inspect
import json
import time

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl import app
from jaxdl.augment import alternating_flip, compose, random_crop, random_flip
from jaxdl.core import count_params, init_state
from jaxdl.data.pipeline import resident, unit_range
from jaxdl.data.sources import check_apart
from jaxdl.layers.whitening import whitening_kernel
from jaxdl.losses.classification import cross_entropy
from jaxdl.models.airbench import whitened
from jaxdl.objectives import supervised
from jaxdl.optim import airbench_muon, airbench_sgd, build
from jaxdl.optim.builders import OWN
from jaxdl.options import (
  check_flags,
  check_keys,
  check_mapping,
  check_name,
  check_names,
  check_number,
  check_seeds,
)
from jaxdl.train import classifier
from jaxdl.train.checkpoint import load_variables
from jaxdl.train.clock import Clock
from jaxdl.train.evaluate import classification, predict
from jaxdl.train.loop import Every, fit
from jaxdl.train.metrics import read_metrics
from jaxdl.train.recipe import check_task
from jaxdl.train.stages import Stage, write_json
from jaxdl.train.step import grad_step
from jaxdl.train.tta import with_views
from jaxdl.viz.curves import learning_curves, lines
from jaxdl.viz.grids import image_grid
from jaxdl.viz.report import Report, aggregate, paper_table, result_row, spread

OURS = ('total_steps', 'batch_size', 'whiten_steps', 'freeze')  # not options of the optimizer
SPEEDRUNS = {'airbench_sgd': airbench_sgd, 'airbench_muon': airbench_muon}
KEYS = (
  'data', 'model', 'whitening', 'whiten_epochs', 'flip', 'pad', 'mode', 'smoothing', 'epochs',
  'batch_size', 'optimizer', 'evaluate', 'checkpoint', 'log',
)  # fmt: skip
WHITENING_IMAGES = 5_000
TIMES = 'times.json'
JORDAN = 'Jordan 2024, airbench94: one A100, mean of 1000 runs'
MUON = 'airbench94_muon: one A100, mean of 200 runs'
PAPER = {  # (arm, metric) -> published value, source
  ('sgd', 'accuracy with views (%)'): (94.01, JORDAN),
  ('sgd', 'time (s)'): ('3.09-3.83', f'{JORDAN}; with and without torch.compile'),
  ('muon', 'accuracy with views (%)'): (94.01, MUON),
  ('muon', 'time (s)'): (2.59, MUON),
}
METRICS = {  # of one run; None where it was not measured
  'accuracy (%)': lambda r: 100 * r['test']['accuracy'],
  'accuracy with views (%)': lambda r: 100 * r['views']['accuracy'],
  'time (s)': lambda r: total(r),
  'processor time (s)': lambda r: r['seconds']['processor'] if r['platform'] == 'cpu' else None,
  'images per second': lambda r: (s := r['seconds']['training']) and r['images'] / s,
}
PROTOCOL = """
- **Counted:** whitening, training (with its logging and checkpoints), and the evaluation of the
  finished network with its six views.
- **Not counted:** reading the data, compilation, and the evaluations that the curves are made of.
- The training time is the number of steps times the mean time of a step, measured from the end of
  each evaluation to the start of the next; the steps before the first evaluation, which wait for
  the compiler, are taken to last as long as the others. Whitening and the last evaluation are
  measured the second time they run.
- On a CPU other programs take part of the cores. Processor time is what this one spent on training,
  added up over the cores; compare arms by it.
"""
views = functools.lru_cache(with_views)  # one compiled program for all cells of a network


def stages(c):
  check_seeds(c.seeds)
  check_names('arms', c.arms, c.arm)
  check_number('target', c.target, 0, 100)
  cells = [(arm, seed) for seed in c.seeds for arm in c.arms]
  configs = {arm: arm_config(c, arm) for arm in c.arms}
  out = [
    Stage(
      f'{arm}-{seed}',
      functools.partial(train, configs[arm], seed),
      {'train': configs[arm], 'seed': seed},
      plan=functools.partial(classifier.plan, configs[arm]),
      check=functools.partial(check, configs[arm]),
    )
    for arm, seed in cells
  ]
  report = functools.partial(write_report, c, configs)
  return [*out, Stage('report', report, {}, needs=[s.name for s in out], always=True)]


def arm_config(c, arm):
  """The common values with an arm's changes; a part that names another thing is replaced whole."""
  config = c.train.to_dict()
  for key, change in c.arm[arm].to_dict().items():
    merge = isinstance(change, dict) and 'name' not in change
    config[key] = {**config[key], **change} if merge else change
  return config


def check(config, workdir=None):
  """Refuses what `train` cannot run, where possible before the data is read."""
  check_keys('train', config, KEYS)
  check_task(config)
  check_flags('train', config, 'whitening')
  check_name('flip', config['flip'], ('alternating', 'random'))
  check_number('smoothing', config['smoothing'], 0, 1)
  check_number('epochs', config['epochs'], above=0)
  check_number('batch_size', config['batch_size'], 1, whole=True)
  for key in ('whiten_epochs', 'evaluate', 'checkpoint'):
    check_number(key, config[key], 0)
  check_number('log', config['log'], 0, whole=True)
  if config['whitening'] and config['model']['name'] != 'airbench':
    raise ValueError("Only the model 'airbench' has a whitening convolution: set "
                     'whitening=False for others.')
  optimizer(config, 100, 1)
  if workdir is not None:
    check_apart(workdir, config['data'].get('name'), config['data'].get('folder'))
  t = classifier.task(config)
  check_number('batch_size', config['batch_size'], 1, len(t.train))
  batch = {
    'image': jnp.zeros((config['batch_size'], *t.dataset.image_shape)),
    'index': jnp.zeros(config['batch_size'], jnp.int32), 'step': 0,
  }
  augment = augmentation(config, len(t.train), 0)
  jax.eval_shape(lambda batch: augment(None, None, batch, jax.random.key(0), None), batch)


def optimizer(config, steps, whiten_steps):
  check_mapping('optimizer', config['optimizer'])
  check_name('optimizer', config['optimizer'].get('name'), (*SPEEDRUNS, *OWN))
  values = dict(config['optimizer'])
  if values['name'] not in SPEEDRUNS:
    return build(values, steps)
  name = values.pop('name')
  own = inspect.signature(SPEEDRUNS[name]).parameters
  check_keys(f'optimizer {name}', values, [p for p in own if p not in OURS])
  check_flags(f'optimizer {name}', values, 'average')
  return SPEEDRUNS[name](
    steps, config['batch_size'], whiten_steps, freeze=config['whitening'], **values
  )


def augmentation(config, size, seed):
  flip = random_flip()
  if config['flip'] == 'alternating':
    flip = alternating_flip(size, config['batch_size'], seed)
  return compose(flip, random_crop(config['pad'], config['mode']))


def whitening(t):
  """The kernel, and the seconds it took when the program was compiled."""
  mean, std = (np.asarray(x, np.float32) for x in t.dataset.mean_std())
  images = jnp.asarray(t.train.images[:WHITENING_IMAGES])
  return timed(jax.jit(lambda x: whitening_kernel((unit_range(x) - mean) / std)), images)


def timed(f, *args):
  """`(f(*args), seconds)` of its second call."""
  jax.block_until_ready(f(*args))
  start = time.perf_counter()
  out = jax.block_until_ready(f(*args))
  return out, time.perf_counter() - start


def train(config, seed, context):
  t, batch_size = classifier.task(config), config['batch_size']
  steps = t.steps(config['epochs'], batch_size)
  # The bias of a first convolution that is trained like any other is trained to the end.
  whiten_steps = t.steps(config['whiten_epochs'], batch_size) if config['whitening'] else steps
  tx = optimizer(config, steps, whiten_steps)
  init, seconds = t.model.init, {'whitening': 0.0}
  if config['whitening']:
    kernel, seconds['whitening'] = whitening(t)
    init = whitened(init, kernel)
  loss = functools.partial(cross_entropy, smoothing=config['smoothing'])

  def evaluate(state, model=t.model):
    return classification(
      predict(model, state.params, state.model_state, t.test.images), t.test.labels
    )

  clock = Clock(context.directory / 'clock.json')
  period = lambda epochs: t.steps(epochs, batch_size) if epochs else 0
  image = jnp.zeros((1, *t.dataset.image_shape))
  state = fit(
    init=lambda: init_state(init, tx, jax.random.key(seed), image),
    step=grad_step(
      supervised(t.model.apply, loss), tx, transform=augmentation(config, len(t.train), seed)
    ),
    data=resident(t.train, batch_size, seed),
    steps=steps,
    workdir=context.directory,
    evals={'test': clock.between(evaluate)},
    every=Every(config['log'], period(config['evaluate']), period(config['checkpoint']), keep=2),
    hparams={'seed': seed, **config},
    label=context.directory.name,
  )
  seen, seconds['views'] = timed(functools.partial(evaluate, model=views(t.model)), state)
  for name, what in (('training', 'seconds'), ('processor', 'processor')):
    per_step = clock.per_step(what)
    seconds[name] = None if per_step is None else steps * per_step
  # Not part of the result, which is the same whenever and wherever the run was made.
  write_json(
    context.directory / TIMES, {'platform': jax.devices()[0].platform, 'seconds': seconds}
  )
  return {
    'steps': steps, 'images': steps * batch_size, 'parameters': count_params(state.params),
    'test': evaluate(state), 'views': seen,
  }


def total(result):
  parts = [result['seconds'][name] for name in ('whitening', 'training', 'views')]
  return None if None in parts else sum(parts)


def training_time(results):
  """(what it is called, seconds of training of each run): the processor's on a CPU."""
  on_cpu = all(r['platform'] == 'cpu' for r in results)
  name, words = ('processor', 'processor time') if on_cpu else ('training', 'training time')
  return words, [r['seconds'][name] for r in results]


def write_report(c, configs, context):
  times = lambda name: json.loads((context.directories[name] / TIMES).read_text())
  runs = {
    a: [{**context.results[f'{a}-{s}'], **times(f'{a}-{s}')} for s in c.seeds] for a in c.arms
  }
  logs = {
    a: [read_metrics(context.directories[f'{a}-{s}'] / 'metrics.jsonl') for s in c.seeds]
    for a in c.arms
  }
  t = classifier.task(configs[c.arms[0]])
  model = configs[c.arms[0]]['model']
  at_scale = t.dataset.name == 'cifar10' and len(t.train) == 50_000 and tuple(
    model.get('widths', ())) == (64, 256, 256)
  paper = PAPER if at_scale else {}
  rows = [
    result_row(arm, metric, *aggregate([f(r) for r in runs[arm]]), *paper.get((arm, metric), ()))
    for arm in c.arms for metric, f in METRICS.items()
    if all(f(r) is not None for r in runs[arm])
  ]
  rows += target_rows(c, runs, logs)
  report = Report(
    f'Speed run on {t.dataset.name}', context.directory,
    f'{len(t.train):,} training and {len(t.test):,} test images; widths '
    f'{", ".join(map(str, model["widths"]))}; seeds {list(c.seeds)} on '
    f'{jax.devices()[0].device_kind}. Values are means over seeds ± one standard deviation; '
    'nothing was selected on the test set.',
  )
  report.rows(rows)
  report.section('Results')
  cell = {(r['setting'], r['metric']): spread(r['value'], r['std'], r['n']) for r in rows}
  columns = list(dict.fromkeys(r['metric'] for r in rows))
  report.table(
    ['arm', 'epochs', 'batch', 'updates', *columns],
    [[a, configs[a]['epochs'], configs[a]['batch_size'], runs[a][0]['steps'],
      *(cell.get((a, m)) for m in columns)] for a in c.arms],
    'Accuracy on the whole test set, of the image alone and of its six views.',
  )
  if published := [r for r in rows if r['paper'] is not None]:
    report.section('The papers')
    report.table(*paper_table(published))
  report.section('How it was timed')
  report.text(PROTOCOL)
  report.table(
    ['arm', 'whitening (s)', 'training (s)', 'views (s)', 'training, ms per step'],
    [[a, *time_parts(runs[a])] for a in c.arms], 'Means over seeds.', '.3g',
  )
  if len(c.arms) > 1:
    report.section('What each change costs')
    report.table(
      ['arm', 'accuracy (points)', 'accuracy with views (points)', 'training time (ratio)'],
      list(against_first(c, runs)),
      f'Against {c.arms[0]}, paired by seed; the time is processor time on a CPU.',
    )
  report.section('Curves')
  for name, xlabel, per_step in axes(configs, runs, t):
    report.figure(
      accuracy_curves(logs, xlabel, per_step, c.target), f'accuracy_{name}',
      f'Test accuracy without views against {xlabel}; the band is one standard deviation over '
      'seeds.',
    )
  report.figure(
    learning_curves(logs, ['train/loss', 'train/accuracy', 'test/accuracy']), 'curves',
    'Training loss (with the label smoothing of each arm) and accuracy on augmented batches, and '
    'test accuracy.',
  )
  whitening_section(c, configs, context, report)
  report.write()
  return {'rows': len(rows)}


def time_parts(results):
  mean = lambda f: None if None in (v := [f(r) for r in results]) else float(np.mean(v))
  part = lambda name: mean(lambda r: r['seconds'][name])
  per_step = lambda r: r['seconds']['training'] and 1e3 * r['seconds']['training'] / r['steps']
  return part('whitening'), part('training'), part('views'), mean(per_step)


def against_first(c, runs):
  """(arm, differences of accuracy in points, ratio of speeds)."""
  base = runs[c.arms[0]]
  for arm in c.arms[1:]:
    pairs = list(zip(runs[arm], base, strict=True))
    shown = []
    for metric in ('accuracy (%)', 'accuracy with views (%)'):
      shown.append(spread(*aggregate([METRICS[metric](a) - METRICS[metric](b) for a, b in pairs])))
    times, base_times = training_time(runs[arm])[1], training_time(base)[1]
    measured = None not in (*times, *base_times)
    yield arm, *shown, np.mean(times) / np.mean(base_times) if measured else None


def target_rows(c, runs, logs):
  """When each arm first evaluated at the target or above, if all its runs did."""
  rows = []
  for arm in c.arms:
    reached = [first_step(log, c.target) for log in logs[arm]]
    words, seconds = training_time(runs[arm])
    if None not in (*reached, *seconds):
      times = [n * s / runs[arm][0]['steps'] for n, s in zip(reached, seconds, strict=True)]
      rows.append(result_row(arm, f'{words} to {c.target:g} % (s)', *aggregate(times)))
  return rows


def first_step(log, target):
  steps, accuracy = log['test/accuracy']
  there = np.flatnonzero(100 * accuracy >= target)
  return int(steps[there[0]]) if there.size else None


def axes(configs, runs, t):
  """(name, label, arm -> what one step is) of the axes to show accuracy against."""
  yield 'epochs', 'epochs', {a: c['batch_size'] / len(t.train) for a, c in configs.items()}
  times = {a: training_time(results) for a, results in runs.items()}
  if not any(None in seconds for _, seconds in times.values()):
    words = next(iter(times.values()))[0]
    yield 'seconds', f'{words} (s)', {
      a: np.mean(seconds) / runs[a][0]['steps'] for a, (_, seconds) in times.items()
    }


def accuracy_curves(logs, xlabel, per_step, target):
  x, series = {}, {}
  for arm, several in logs.items():
    steps = several[0]['test/accuracy'][0]
    accuracy = 100 * np.stack([log['test/accuracy'][1] for log in several])
    std = accuracy.std(0, ddof=1) if len(several) > 1 else None
    x[arm], series[arm] = steps * per_step[arm], (accuracy.mean(0), std)
  figure = lines(x, series, xlabel, 'test accuracy (%)')
  figure.axes[0].axhline(target, color='0.6', linewidth=0.8, zorder=0)
  return figure


def whitening_section(c, configs, context, report):
  """The frozen kernels of the first arm, if it has any, each in its own range."""
  if not configs[c.arms[0]]['whitening']:
    return
  params, _ = load_variables(context.directories[f'{c.arms[0]}-{c.seeds[0]}'])
  kernel = np.moveaxis(params['whiten']['kernel'], -1, 0)
  kernel = kernel[: len(kernel) // 2]
  size = np.abs(kernel).max((1, 2, 3), keepdims=True)
  report.section('The whitening kernels')
  report.figure(
    image_grid((0.5 + 0.5 * kernel / size).astype(np.float32), 6), 'whitening',
    'One half of the frozen 2x2 kernels, largest variance first, each scaled to its own range; the '
    'other half are their negatives.',
  )


if __name__ == '__main__':
  app.run(stages, default_config='configs/speedrun.py')
