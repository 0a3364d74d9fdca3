"""The figures of surveyed networks, for reports."""

import functools
from collections.abc import Mapping, Sequence

import numpy as np

from jaxdl.viz.curves import lines
from jaxdl.viz.report import Report
from jaxdl.viz.surface import loss_lines, loss_surface


def survey_figures(report: Report, options: Mapping, runs: Mapping[str, Sequence[Mapping]]) -> None:
  """Adds accuracy under noise, worst case and rounding, and the loss slices, to a report.

  Args:
    report: gets sections and figures.
    options: those the networks were surveyed with (see `jaxdl.landscape.survey`).
    runs: arm -> one survey for each seed; `slices`, where a first seed has them, are drawn too.
  """
  for section, figures in _curves(options).items():
    report.section(section)
    for name, title, x, xlabel, f in figures:
      series = {arm: _over_seeds([f(run) for run in seeds]) for arm, seeds in runs.items()}
      xscale = 'linear' if xlabel == 'bits' else 'symlog'
      figure = lines(x, series, xlabel, 'test accuracy (%)', title, xscale=xscale)
      report.figure(figure, name, f'Test accuracy: {title[0].lower() + title[1:]}.')
  report.figure(
    _rounding_and_attack(options, runs), 'rounding_radius',
    'Rounding moves a weight by at most half a step: accuracy over that radius, beside the worst '
    'case within the same L-infinity ball.',
  )
  slices = {arm: seeds[0]['slices'] for arm, seeds in runs.items() if 'slices' in seeds[0]}
  if not slices:
    return
  report.section('The loss around the weights')
  x = next(iter(slices.values()))['line']['x']
  report.figure(
    loss_lines(x, {arm: s['line']['loss'] for arm, s in slices.items()}), 'line',
    'Training loss along a filter-normalised random direction (first seed).',
  )
  for arm, s in slices.items():
    s = s['surface']
    report.figure(
      loss_surface(s['x'], s['x'], s['loss'], arm), f'surface_{arm}',
      f'Training loss over two filter-normalised directions: {arm} (first seed).',
    )


def _curves(a):
  """section -> (figure, title, x, label of x, function of one network's numbers)."""
  with_clean = lambda *keys: lambda x: [x['clean'], *functools.reduce(lambda d, k: d[k], keys, x)]
  rounded = lambda name: lambda x: x['rounding'][name]['accuracy']
  return {
    'Gaussian weight noise': [
      (f'noise_{name}', title, [0, *a['absolute' if name == 'absolute' else 'relative']], 'sigma',
       with_clean('gaussian', name))
      for name, title in (
        ('relative', 'Relative noise on the kernels'),
        ('relative_all', 'Relative noise on all weights'),
        ('relative_recalibrated', 'Relative noise, batch statistics recomputed'),
        ('absolute', 'Absolute noise on the kernels'),
      )
    ],
    'Worst-case weight noise': [
      (f'adversarial_{norm}', f'Worst weights within an {norm} ball', [0, *a[norm]], 'radius rho',
       with_clean('adversarial', norm, 'accuracy'))
      for norm in ('l2', 'linf')
    ],
    'Rounding': [
      (f'bits_{name}', title, list(a['bits']), 'bits', rounded(name))
      for name, title in (
        ('tensor', 'One scale a tensor'), ('channel', 'One scale a channel'),
        ('tensor_mse', 'One scale a tensor, MSE-optimal clipping'),
      )
    ],
  }


def _over_seeds(values):
  """(mean, standard deviation or None) in per cent of the seeds' curves [n, P] in [0, 1]."""
  values = 100 * np.array(values)
  return values.mean(0), values.std(0, ddof=1) if len(values) > 1 else None


def _few(runs):
  """Three arms at most: more lines could not be told apart."""
  wanted = [arm for arm in ('sgd', 'sam_l2', 'sam_linf') if arm in runs]
  return wanted or list(runs)[:3]


def _rounding_and_attack(a, runs):
  x, series = {}, {}
  for arm in _few(runs):
    rounded = [run['rounding']['tensor'] for run in runs[arm]]
    x[f'{arm}, rounded'] = np.mean([r['half_step'] for r in rounded], 0)
    series[f'{arm}, rounded'] = _over_seeds([r['accuracy'] for r in rounded])
    x[f'{arm}, worst case'] = np.array(a['linf'])
    series[f'{arm}, worst case'] = _over_seeds(
      [run['adversarial']['linf']['accuracy'] for run in runs[arm]]
    )
  title = 'Rounding and the worst case'
  return lines(x, series, 'largest change of a weight', 'test accuracy (%)', title, xscale='log')
