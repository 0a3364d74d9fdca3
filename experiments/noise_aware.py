"""Noise-aware training and SAM: SGD, Gaussian weight noise and sharpness-aware minimisation.

Every arm is SGD with another perturbation link in its optax chain; every network is then examined
under Gaussian and worst-case weight noise, rounding, and along slices of its loss. See
configs/noise_aware.py for the papers, the claim, the variants and the commands.
"""

import functools

import jax
import numpy as np

from jaxdl import app
from jaxdl.landscape.survey import loss_slices, survey
from jaxdl.train import classifier
from jaxdl.train.checkpoint import load_variables
from jaxdl.train.evaluate import predict
from jaxdl.train.metrics import read_metrics
from jaxdl.train.stages import Stage
from jaxdl.viz.curves import learning_curves, lines
from jaxdl.viz.report import Report, aggregate, paper_table, result_row, spread
from jaxdl.viz.significance import mcnemar
from jaxdl.viz.surface import loss_lines, loss_surface

FORET = 'Foret et al. 2021, WRN-28-10, basic augmentation, 200 epochs'
PAPER = {  # (arm, metric) -> published value, source; another network, so only the order compares
  ('sgd', 'test accuracy (%)'): (96.5, FORET),
  ('sam_l2', 'test accuracy (%)'): (97.3, FORET),
  ('sam_k3', 'test accuracy (%)'): (97.27, 'Foret et al. 2021, table 11, WRN-28-10, K = 3'),
  ('sgd', 'largest Hessian eigenvalue'): (24.2, 'Foret et al. 2021, epoch 300'),
  ('sam_l2', 'largest Hessian eigenvalue'): (1.0, 'Foret et al. 2021, epoch 300'),
}
RESNET20 = (91.25, 'He et al. 2016, ResNet-20')


def stages(c):
  options, out = c.analysis.to_dict(), []
  cells = [(arm, seed) for seed in c.seeds for arm in c.arms]
  for arm, seed in cells:
    config, name, slices = arm_config(c, arm), f'{arm}-{seed}', seed == c.seeds[0]
    cost = gradients_per_step(config['optimizer']['perturbation'])
    out += [
      Stage(
        name,
        functools.partial(train, config, seed),
        {'train': config, 'seed': seed},
        plan=functools.partial(classifier.plan, config, cost),
      ),
      Stage(
        f'{name}-analysis',
        functools.partial(analyse, config, options, name, slices),
        {'analysis': options, 'slices': slices},
        needs=[name],
      ),
    ]
  report = functools.partial(write_report, c, cells)
  return [*out, Stage('report', report, {}, needs=[s.name for s in out], always=True)]


def arm_config(c, arm):
  """The training configuration of one arm: SGD's, with its perturbation and its epochs."""
  config, change = c.train.to_dict(), c.arm[arm].to_dict()
  config['epochs'] *= change['epochs_factor']
  config['optimizer']['perturbation'] = change['perturbation']
  return config


def gradients_per_step(perturbation):
  """Gradients of one update; a gradient whose backward pass is dead code costs a third."""
  p = perturbation or {}
  return {'sam': 1 + p.get('steps', 1), 'gaussian': 4 / 3}.get(p.get('name'), 1)


def train(config, seed, context):
  return classifier.train(config, seed, context.directory)


def analyse(config, options, name, slices, context):
  """Everything the report shows of one trained network, as plain numbers."""
  t = classifier.task(config)
  params, state = load_variables(context.directories[name])
  order, key = np.random.default_rng(0).permutation(len(t.train)), jax.random.key(17)
  fixed, calibration = order[: options['train']], order[-options['calibration'] :]
  test = t.test.images[: options['test']], t.test.labels[: options['test']]
  seen = t.train.images[fixed], t.train.labels[fixed]
  correct = predict(t.model, params, state, t.test.images).argmax(-1) == t.test.labels
  np.save(context.directory / 'correct.npy', correct)
  out = survey(t.model, params, state, test, seen, t.train.images[calibration], options, key)
  return out | ({'slices': loss_slices(t.model, params, state, seen, options, key)} if slices else {})


def write_report(c, cells, context):
  a, runs = c.analysis, _collect(c, cells, context.results)
  rows = _rows(c, runs)
  report = Report(
    'Noise-aware training and SAM', context.directory,
    f'{c.train.model.name} on {c.train.data.name}, {_scale(c)}; seeds {list(c.seeds)}. '
    'Values are means over seeds ± one standard deviation.',
  )
  report.rows(rows)

  report.section('Results')
  metrics = list(dict.fromkeys(row['metric'] for row in rows))
  cell = {(r['setting'], r['metric']): spread(r['value'], r['std'], r['n']) for r in rows}
  report.table(
    ['arm', *(m for m in metrics)],
    [[arm, *(cell[arm, m] for m in metrics)] for arm in c.arms],
    'Sharpness is L(w + e) - L(w) at the worst weights found within the middle radius of the grids, '
    'on training images. The noise area is the mean accuracy over the grid of relative noise.',
  )
  report.section('The papers')
  report.table(*paper_table([r for r in rows if r['paper'] is not None]))
  report.section('Claims')
  report.text('\n'.join(f'- {line}' for line in _claims(c, cells, runs, context)))

  report.section('Training')
  logs = {
    arm: [read_metrics(context.directories[f'{arm}-{s}'] / 'metrics.jsonl') for s in c.seeds]
    for arm in c.arms
  }
  report.figure(
    learning_curves(logs, ['train/loss', 'train/accuracy', 'test/accuracy']), 'curves',
    'Training loss and accuracy on augmented batches, and test accuracy.',
  )

  report.section('Gaussian weight noise')
  for name, title in (
    ('relative', 'relative noise on the kernels'), ('relative_all', 'relative noise on all weights'),
    ('relative_recalibrated', 'relative noise, batch statistics recomputed'),
    ('absolute', 'absolute noise on the kernels'),
  ):
    sigmas = [0, *(a.absolute if name == 'absolute' else a.relative)]
    curve = {arm: _curve(r, lambda x, n=name: [x['clean'], *x['gaussian'][n]])
             for arm, r in runs.items()}
    figure = lines(sigmas, curve, 'sigma', 'test accuracy (%)', title.capitalize(), xscale='symlog')
    report.figure(figure, f'noise_{name}', f'Accuracy under {title}.')

  report.section('Worst-case weight noise')
  for norm in ('l2', 'linf'):
    curve = {arm: _curve(r, lambda x, n=norm: [x['clean'], *x['adversarial'][n]['accuracy']])
             for arm, r in runs.items()}
    figure = lines([0, *a[norm]], curve, 'radius rho', 'test accuracy (%)',
                   f'Worst weights within an {norm} ball', xscale='symlog')
    report.figure(figure, f'adversarial_{norm}', f'Accuracy at the worst weights found ({norm}).')

  report.section('Rounding')
  for name, title in (('tensor', 'one scale a tensor'), ('channel', 'one scale a channel'),
                      ('tensor_mse', 'one scale a tensor, MSE-optimal clipping')):
    curve = {arm: _curve(r, lambda x, n=name: x['rounding'][n]['accuracy'])
             for arm, r in runs.items()}
    figure = lines(list(a.bits), curve, 'bits', 'test accuracy (%)', title.capitalize())
    report.figure(figure, f'bits_{name}', f'Post-training quantisation of the kernels, {title}.')
  report.figure(_rounding_against_attack(a, runs), 'rounding_radius',
                'Rounding moves a weight by at most half a step: accuracy over that radius, beside '
                'the worst case within the same L-infinity ball.')

  report.section('The loss around the weights')
  slices = {arm: r[0]['slices'] for arm, r in runs.items()}
  x = next(iter(slices.values()))['line']['x']
  report.figure(loss_lines(x, {arm: s['line']['loss'] for arm, s in slices.items()}), 'line',
                'Training loss along a filter-normalised random direction (first seed).')
  for arm in [arm for arm in ('sgd', 'sam_l2', 'sam_linf', 'asam') if arm in slices]:
    s = slices[arm]['surface']
    report.figure(loss_surface(s['x'], s['x'], s['loss'], arm), f'surface_{arm}',
                  f'Training loss over two filter-normalised directions: {arm}.')
  report.write()
  return {'rows': len(rows)}


def _collect(c, cells, results):
  """arm -> what is known of each seed's network."""
  runs = {arm: [] for arm in c.arms}
  for arm, seed in cells:
    runs[arm].append({**results[f'{arm}-{seed}'], **results[f'{arm}-{seed}-analysis']})
  return runs


def _scale(c):
  part = f'{c.train.data.per_class} training images a class' if c.train.data.per_class else 'all images'
  return f'{part}, {c.train.epochs:g} epochs, batch {c.train.batch_size}'


def _rows(c, runs):
  a = c.analysis
  middle = {norm: len(a[norm]) // 2 for norm in ('l2', 'linf')}
  measures = {
    'train accuracy (%)': lambda x: 100 * x['train']['accuracy'],
    'test accuracy (%)': lambda x: 100 * x['test']['accuracy'],
    'gap (points)': lambda x: 100 * (x['train']['accuracy'] - x['test']['accuracy']),
    **{
      f'{norm} sharpness, rho {a[norm][i]:g}': lambda x, n=norm, i=i: x['adversarial'][n]['sharpness'][i]
      for norm, i in middle.items()
    },
    'noise area (%)': lambda x: 100 * np.mean(x['gaussian']['relative']),
    **{
      f'{b} bits (%)': lambda x, i=i: 100 * x['rounding']['tensor']['accuracy'][i]
      for i, b in enumerate(a.bits)
    },
    'largest Hessian eigenvalue': lambda x: x['eigenvalues'][0],
    'first / last eigenvalue': lambda x: x['eigenvalues'][0] / x['eigenvalues'][-1],
    'weight norm': lambda x: x['weight_norm'],
  }
  if c.train.data.validation:
    measures['validation accuracy (%)'] = lambda x: 100 * x['validation']['accuracy']
  paper = PAPER if c.train.data.name == 'cifar10' else {}
  if c.train.model.name == 'resnet20':
    paper = paper | {('sgd', 'test accuracy (%)'): RESNET20}
  return [
    result_row(arm, name, *aggregate([f(x) for x in r]), *paper.get((arm, name), ()))
    for arm, r in runs.items() for name, f in measures.items()
  ]


def _claims(c, cells, runs, context):
  """The papers' and the course's claims as sentences with our numbers; a miss is said as one."""
  mean = lambda arm, f: 100 * float(np.mean([f(x) for x in runs[arm]]))
  test = lambda x: x['test']['accuracy']
  noise = lambda x: np.mean(x['gaussian']['relative'])
  low_bits = [i for i, b in enumerate(c.analysis.bits) if b in (3, 4)]
  bits = lambda x: np.mean([x['rounding']['tensor']['accuracy'][i] for i in low_bits])
  claims = [
    ('SAM generalises at least as well as SGD (within 0.1 point)', 'sam_l2', 'sgd', test, -0.1),
    ('SAM generalises at least as well as SGD at twice the epochs', 'sam_l2', 'sgd_2x', test, -0.1),
    ('SAM resists Gaussian weight noise better than SGD', 'sam_l2', 'sgd', noise, 0),
    ('noise training resists Gaussian noise better than SGD', 'gaussian_relative', 'sgd', noise, 0),
    ('L-infinity SAM survives 4-3 bit rounding better than L2 SAM', 'sam_linf', 'sam_l2', bits, 0),
    ('L2 SAM survives 4-3 bit rounding better than SGD', 'sam_l2', 'sgd', bits, 0),
    ('three ascent steps gain little over one', 'sam_k3', 'sam_l2', test, -0.5),
  ]
  for claim, one, other, f, slack in claims:
    if one in runs and other in runs:
      have, want = mean(one, f), mean(other, f)
      held = '**seen**' if have > want + slack else '**not seen**'
      yield f'{claim}: {held} ({one} {have:.2f}, {other} {want:.2f}).'
  for arm in [arm for arm in c.arms if arm != 'sgd' and 'sgd' in runs]:
    correct = lambda arm: np.concatenate([
      np.load(context.directories[f'{arm}-{seed}-analysis'] / 'correct.npy') for seed in c.seeds
    ])
    better, worse, p = mcnemar(correct(arm), correct('sgd'))
    yield (f'{arm} against sgd on the same test images: right where sgd is wrong {better:,}, wrong '
           f'where sgd is right {worse:,}; exact McNemar p = {p:.2g}.')


def _curve(runs, f):
  values = 100 * np.array([f(x) for x in runs])
  return values.mean(0), values.std(0, ddof=1) if len(values) > 1 else None


def _rounding_against_attack(a, runs):
  x, series = {}, {}
  for arm in [arm for arm in ('sgd', 'sam_l2', 'sam_linf') if arm in runs]:
    half = np.mean([r['rounding']['tensor']['half_step'] for r in runs[arm]], 0)
    x[f'{arm}, rounded'], x[f'{arm}, worst case'] = half, np.array(a.linf)
    series[f'{arm}, rounded'] = _curve(runs[arm], lambda r: r['rounding']['tensor']['accuracy'])
    series[f'{arm}, worst case'] = _curve(runs[arm], lambda r: r['adversarial']['linf']['accuracy'])
  return lines(x, series, 'largest change of a weight', 'test accuracy (%)',
               'Rounding and the worst case', xscale='log')


if __name__ == '__main__':
  app.run(stages, default_config='configs/noise_aware.py')
