"""LQ-Nets and what its learned levels are worth. See configs/lq_nets.py.

Every arm is the same training with another quantizer in the network's convolutions; with a soft
threshold on the basis, bits vanish while it trains. Every network is then looked at layer by layer.
"""

import functools

import jax
import numpy as np

from jaxdl import app
from jaxdl.data.pipeline import unit_range
from jaxdl.options import check_name, check_names, check_number, check_numbers, check_seeds
from jaxdl.quantization import allocation, packing, tree
from jaxdl.quantization.bits import network_bits
from jaxdl.quantization.claims import claims, orderings
from jaxdl.quantization.precision import MixedPrecision, precision_sections
from jaxdl.quantization.report import weight_sections
from jaxdl.quantization.sparse import SCALES
from jaxdl.quantization.survey import survey
from jaxdl.train import classifier
from jaxdl.train.evaluate import predict
from jaxdl.train.metrics import read_metrics
from jaxdl.train.stages import Stage
from jaxdl.viz.curves import learning_curves
from jaxdl.viz.report import Report, aggregate, paper_table, result_row, spread

TABLE = 'Zhang et al. 2018, table 4'
MEMORY, THIRD = f'{TABLE} (from memory, not checked)', f'{TABLE} (third-party transcription)'
RERUN = 'independent re-run of ResNet-20 (third party)'
PAPER = {  # network -> arm -> test accuracy (%), source
  'resnet20': {
    'float': (92.1, THIRD), 'w1': (90.1, MEMORY), 'w2': (91.8, THIRD), 'w3': (92.0, MEMORY),
    'w1a2': (88.4, THIRD), 'w2a2': (90.2, THIRD), 'w2a3': (91.1, THIRD), 'w3a3': (91.6, THIRD),
    'dorefa_w2': (91.7, RERUN), 'dorefa_w2a2': ('89.5-89.65', RERUN), 'lsq_w2a2': (90.2, RERUN),
  },
  'vgg_small': {
    arm: (value, 'Zhang et al. 2018 (third-party transcription and memory)')
    for arm, value in (('float', 93.8), ('w1a2', 93.4), ('w2a2', 93.5), ('w2a3', 93.8),
                       ('w3a3', 93.8))
  },
}
ALLOCATIONS = {'shuffled': allocation.shuffled, 'even': allocation.even}
VARIANTS = ('revive', *ALLOCATIONS)


def stages(c):
  check_seeds(c.seeds)
  check_names('arms', c.arms, c.arm)
  check_sweep(c.sparsity)
  cells = [(arm, seed) for arm in c.arms for seed in seeds_of(c, c.arm[arm].seeds)]
  sweep = [
    (kind, lam, seed) for seed in seeds_of(c, c.sparsity.seeds)
    for kind, lam in [(scale, lam) for scale, lams in c.sparsity.lams.items() for lam in lams] + [
      (kind, lam) for kind in c.sparsity.variants for lam in c.sparsity.variant_lams
    ]
  ]
  out = []
  for arm, seed in cells:
    config = arm_config(c, c.arm[arm].quantization)
    out += cell(c, f'{arm}-{seed}', config, functools.partial(train, config, seed),
                {'train': config, 'seed': seed})
  for kind, lam, seed in sweep:
    sparsity = c.sparsity.to_dict()
    schedule = {k: sparsity[k] for k in ('start', 'full', 'freeze', 'least')}
    schedule['scale'] = kind if kind in SCALES else sparsity['scale']
    config = arm_config(c, {'name': 'lq', 'weights': sparsity['weights'], 'activations': 32})
    source = f'{c.sparsity.scale}{lam:g}-{seed}' if kind in ALLOCATIONS else None
    out += cell(
      c, f'{kind}{lam:g}-{seed}', config,
      functools.partial(train_sparse, config, schedule, kind, lam, source, seed),
      {'train': config, 'seed': seed, 'kind': kind, 'lam': lam, 'schedule': schedule},
      [source] if source else [],
    )
  report = functools.partial(write_report, c, cells, sweep)
  return [*out, Stage('report', report, {}, needs=[s.name for s in out], always=True)]


def seeds_of(c, count):
  """The first so many seeds of the study; 0 for all."""
  check_number('seeds of an arm', count, 0, whole=True)
  return c.seeds[: count or None]


def check_sweep(s):
  """Refuses a sweep of the soft threshold that cannot run."""
  check_name('sparsity.scale', s.scale, SCALES)
  for scale, lams in s.lams.items():
    check_name('a scale of sparsity.lams', scale, SCALES)
    if lams:
      check_numbers(f'sparsity.lams.{scale}', lams, 0)
  if s.variants:
    check_names('sparsity.variants', s.variants, VARIANTS)
    swept = tuple(s.lams.get(s.scale, ()))
    for lam in s.variant_lams:
      if lam not in swept:
        raise ValueError(f'sparsity.variant_lams has {lam}, which is not one of sparsity.lams.'
                         f'{s.scale} {swept}; add it there.')
  times = [s.start, s.full, s.freeze]
  check_numbers('sparsity.start, full and freeze', times, 0, 1)
  if times != sorted(times):
    raise ValueError('sparsity.start, full and freeze are fractions of the run, one after the '
                     f'other, got {times}.')
  check_number('sparsity.weights', s.weights, 1, 8, whole=True)
  check_number('sparsity.least', s.least, 0, 1, whole=True)


def arm_config(c, quantization):
  """The training configuration of one arm."""
  config = c.train.to_dict()
  config['model']['quantization'] = quantization and dict(quantization)
  return config


def cell(c, name, config, run, described, needs=()):
  """A network's two stages: training, and a look at its layers."""
  a = {'images': c.survey.images, 'fit_bits': ()}
  if name.rpartition('-')[0] == fitted_arm(c.arms):
    a['fit_bits'] = tuple(c.survey.fit_bits)
  check = functools.partial(classifier.check, config)
  return [
    Stage(name, run, described, needs, plan=lambda: classifier.plan(config), check=check),
    Stage(f'{name}-survey', functools.partial(look, config, a, name), {'survey': a}, [name],
          check=lambda workdir: check_survey(c.survey)),
  ]


def fitted_arm(arms):
  """The arm whose weights quantizers are fitted to, to compare them."""
  return 'float' if 'float' in arms else arms[0]


def check_survey(a):
  check_number('survey.images', a.images, 1, whole=True)
  check_numbers('survey.fit_bits', list(a.fit_bits), 1, 8, whole=True)


def train(config, seed, context):
  return classifier.train(config, seed, context.directory)


def train_sparse(config, schedule, kind, lam, source, seed, context):
  """LQ-Nets with a soft threshold of strength lam; or, of a `kind` in ALLOCATIONS, with as many
  bits as the network `source` kept, handed out blindly from the start."""
  t = classifier.task(config)
  steps = t.steps(config['epochs'], config['batch_size'])
  sparsity = {k: round(schedule[k] * steps) for k in ('start', 'full', 'freeze')}
  sparsity |= {k: schedule[k] for k in ('least', 'scale')}
  sparsity |= {'lam': lam, 'revive': kind == 'revive'}
  start = None
  if kind in ALLOCATIONS:
    layers = tree.layers(*classifier.load_weights(context.directories[source]))
    bits = ALLOCATIONS[kind](layers, seed)
    start = lambda state: state.replace(
      model_state=allocation.with_bits(state.model_state, layers, bits, sparsity['freeze'])
    )
  config = {**config, 'model': {**config['model'], 'quantization': {
    **config['model']['quantization'], 'sparsity': sparsity,
  }}}
  return classifier.train(config, seed, context.directory, start=start)


def look(config, a, name, context):
  """Errors, bits and use of codes of each layer; and the network packed, run once more."""
  t, quantization = classifier.task(config), config['model']['quantization']
  params, state = classifier.load_weights(context.directories[name])
  logits = predict(t.model, params, state, t.test.images)
  np.save(context.directory / 'correct.npy', logits.argmax(-1) == t.test.labels)
  images = unit_range(t.test.images[: a['images']])
  mean, std = t.dataset.mean_std()
  layers = quantized_layers(config)
  out = {'layers': survey(t.module, params, state, (images - mean) / std, layers, a['fit_bits'])}
  bits = quantization['weights'] if quantization else 32
  network = network_bits(params, state, layers if bits != 32 else (), bits,
                         bool(quantization) and quantization['name'] == 'uniform')
  out['bits'] = {
    'average': network.average(), 'average of all': network.average(everything=True),
    'size': network.size, 'float size': network.float_size,
    'empty channels': sum(x.empty for x in network.layers),
    'layers': {x.name: x.bits for x in network.layers if x.quantized},
  }
  if tree.names(state):
    out['file'] = packing.save(context.directory / 'packed.npz', params, state)
    unpacked = repacked_logits(config, context.directory / 'packed.npz', t.test.images[:500])
    out['packed differs by'] = float(np.abs(unpacked - logits[:500]).max())
  return out


def quantized_layers(config):
  """Names of the layers that an arm with quantised weights quantises."""
  quantized = {'name': 'lq', 'weights': 1, 'activations': 32}
  t = classifier.task({**config, 'model': {**config['model'], 'quantization': quantized}})
  image = jax.ShapeDtypeStruct((1, *t.dataset.image_shape), np.float32)
  return tree.names(jax.eval_shape(t.model.init, jax.random.key(0), image)[1])


def repacked_logits(config, path, images):
  """What the network says with the weights of a packed file, which it does not quantise again."""
  inputs = {**config['model']['quantization'], 'weights': 32}
  plain = classifier.task({**config, 'model': {**config['model'], 'quantization': inputs}})
  return predict(plain.model, *packing.load(path), images)


def write_report(c, cells, sweep, context):
  result = lambda name: {**context.results[name], **context.results[f'{name}-survey']}
  runs = {}
  for arm, seed in cells:
    runs.setdefault(arm, []).append(result(f'{arm}-{seed}'))
  mixed = {}
  for kind, lam, seed in sweep:
    mixed.setdefault((kind, lam), []).append(result(f'{kind}{lam:g}-{seed}'))
  rows = result_rows(c, runs, mixed)
  part = f'{c.train.data.per_class} images a class' if c.train.data.per_class else 'all images'
  report = Report(
    'LQ-Nets', context.directory,
    f'{c.train.model.name} on {c.train.data.name}: {part}, {c.train.epochs:g} epochs, batch '
    f'{c.train.batch_size}; seeds {list(c.seeds)}. W/A: bits of weights and of activations, 32 '
    'for float; the first convolution and the classifier are in float. Trained from scratch; the '
    'weights of the last step; batch statistics are not estimated anew.',
  )
  report.rows(rows)
  report.section('Accuracy and size')
  found = {(r['setting'], r['metric']): spread(r['value'], r['std'], r['n']) for r in rows}
  metrics = ['test accuracy (%)', 'train accuracy (%)', 'bits of a weight', 'size (kB)']
  report.table(
    ['arm', 'quantizer', 'W/A', *metrics, 'smaller by'],
    [[arm, *described(c.arm[arm].quantization), *(found[arm, m] for m in metrics),
      f"{seeds[0]['bits']['float size'] / seeds[0]['bits']['size']:.1f}x"]
     for arm, seeds in runs.items()],
    'Bits of a weight: the mean over the quantised layers. Size: weights, bases, batch statistics '
    'and the layers in float.',
  )
  if published := [r for r in rows if r['paper'] is not None]:
    report.table(*paper_table(published), 'The paper prints no number for W/A 3/2.' + (
      '' if c.train.data.per_class == 0 else ' Another budget: compare the order.'))
  curve = MixedPrecision(runs, mixed, c.sparsity)
  pairs = orderings(correct_of(cells, context))
  report.section('Claims')
  report.text('\n'.join(f'- {line}' for line in [*claims(pairs, runs), *curve.claims()]))
  if pairs:
    report.table(
      ['arm', 'against', 'difference (points)', 'right where it is wrong',
       'wrong where it is right', 'p'],
      [[*arms, spread(x.difference, x.std, x.seeds), x.only_one, x.only_other, x.p]
       for arms, x in pairs.items()],
      'The same seeds, the same test images; mean and spread of the differences over seeds, and '
      "McNemar's exact test of the images, seeds pooled.", '.3g',
    )
  report.section('Training')
  logs = {
    arm: [read_metrics(context.directories[f'{arm}-{s}']) for a, s in cells if a == arm]
    for arm in c.arms
  }
  for name, group in (('float inputs', True), ('quantised inputs', False)):
    shown = {arm: log for arm, log in logs.items() if float_inputs(c.arm[arm]) == group}
    if shown:
      report.figure(
        learning_curves(shown, ['train/loss', 'train/accuracy', 'test/accuracy']),
        f'curves_{name.replace(" ", "_")}',
        f'Layers with {name}: loss and accuracy on augmented batches, and test accuracy.',
      )
  weights = {
    arm: classifier.load_weights(context.directories[f'{arm}-{c.seeds[0]}'])
    for arm in c.survey.shown if arm in runs
  }
  weight_sections(report, runs, weights, fitted_arm(c.arms), c.survey.fit_bits)
  if mixed:
    precision_sections(report, curve)
  report.write()
  return {'rows': len(rows)}


def correct_of(cells, context):
  """arm -> for each seed, which test images are right."""
  out = {}
  for arm, seed in cells:
    path = context.directories[f'{arm}-{seed}-survey'] / 'correct.npy'
    out.setdefault(arm, []).append(np.load(path))
  return out


def described(quantization):
  """(quantizer, 'W/A')."""
  if quantization is None:
    return 'none', '32/32'
  return quantization.name, f'{quantization.weights}/{quantization.activations}'


def float_inputs(arm):
  return arm.quantization is None or arm.quantization.activations == 32


def result_rows(c, runs, mixed):
  paper = PAPER.get(c.train.model.name, {}) if c.train.data.name == 'cifar10' else {}
  metrics = {
    'test accuracy (%)': lambda x: 100 * x['test']['accuracy'],
    'train accuracy (%)': lambda x: 100 * x['train']['accuracy'],
    'bits of a weight': lambda x: x['bits']['average'],
    'bits of a weight, all layers': lambda x: x['bits']['average of all'],
    'size (kB)': lambda x: x['bits']['size'] / 1000,
  }
  named = {**runs, **{f'{kind} {lam:g}': seeds for (kind, lam), seeds in mixed.items()}}
  return [
    result_row(arm, metric, *aggregate([f(x) for x in seeds]),
               *(paper.get(arm, ()) if metric == 'test accuracy (%)' else ()))
    for arm, seeds in named.items() for metric, f in metrics.items()
  ]


if __name__ == '__main__':
  app.run(stages, default_config='configs/lq_nets.py')
