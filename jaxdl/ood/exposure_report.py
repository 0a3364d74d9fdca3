"""The report of Outlier Exposure: rows, tables, curves over the kinds of outliers, claims.

Here `c` is the configuration of experiments/outlier_exposure.py, `sets` the names of what is told
from what was learnt, and `runs` maps an arm to its runs, one for each seed: the result of training,
`sets`: set -> score -> metrics, `arrays`: the scores ('MSP known', 'energy svhn', ... [N]) and
`log`: the lines of metrics.jsonl.
"""

import numpy as np

from jaxdl.ood.figures import score_histograms
from jaxdl.ood.metrics import auroc_difference
from jaxdl.ood.sets import NOISE
from jaxdl.viz.curves import learning_curves, lines
from jaxdl.viz.report import Report, aggregate, paper_table, result_row, spread

BASE = 'base'  # the arm without outliers
HENDRYCKS = (
  'Hendrycks et al. 2019, published logs: WRN-40-2, all of CIFAR-10, 80 Million Tiny Images'
)
AUROCS = {  # set -> AUROC (%) of base, oe_tune, oe
  'oe_gaussian': (94.72, 99.60, 99.80), 'oe_rademacher': (79.93, 99.78, 99.65),
  'oe_blobs': (94.54, 99.83, 99.75), 'svhn': (91.83, 98.43, 99.47), 'lsun_r': (89.08, 97.57, 98.72),
}
ACCURACY = 'test accuracy (%)'
METRICS = {'auroc': 'AUROC', 'fpr95': 'FPR95', 'detection_error': 'detection error',
           'aupr_in': 'AUPR in', 'aupr_out': 'AUPR out'}
REST = 'left_out'  # the classes that are not learnt
KINDS = ('MSP', 'energy')


def write_exposure_report(c, runs, sets, task, context):
  """Writes the report of a whole study; returns the number of its rows.

  Args:
    task: the classifier's `Task` on the classes that were learnt.
    context: of the stage that writes it.
  """
  rows, absent = result_rows(c, runs, sets), [s for s in c.sets if s not in sets]
  report = Report(
    'Outlier Exposure', context.directory,
    f'{c.train.model.name} learns {", ".join(task.dataset.label_names)} of {c.train.data.name} '
    f'({len(task.train):,} images, {c.train.epochs:g} epochs); outliers are training images of '
    f'{c.outliers.name}, {c.outliers.ratio} for each image, in the same forward pass. Seeds '
    f'{list(c.seeds)}; means ± one standard deviation. `{REST}` are test images of the classes '
    'that were not learnt. Scores are higher for what was learnt, which is the positive class '
    'except where the convention of OE is named.'
    + (f' Not on this machine, and left out: {", ".join(absent)}.' if absent else ''),
  )
  report.rows(rows)
  _write_comparison(report, c, runs, sets, rows)
  _write_diversity(report, c, runs, sets, rows)
  report.section('Claims')
  report.text('\n'.join(f'- {line}' for line in claims(c, runs, sets)))
  _write_scores(report, c, runs, sets)
  report.write()
  return len(rows)


def _cells(rows, arms, sets):
  cell = {(r['setting'], r['metric']): spread(r['value'], r['std'], r['n']) for r in rows}
  columns = [ACCURACY, *(auroc_of(s) for s in sets)]
  return ['arm', *columns], [[arm, *(cell[arm, name] for name in columns)] for arm in arms]


def _write_comparison(report, c, runs, sets, rows):
  main = [BASE, *c.arms]
  mean = lambda arm, place, kind, metrics: (mean_of(runs[arm], place, kind, m) for m in metrics)
  report.section('With and without outliers')
  report.table(
    *_cells(rows, main, sets),
    'Area under the ROC curve (%) by the score of the arm: energy for arms that learn it, the '
    'largest softmax probability (MSP) for the others.',
  )
  report.table(
    ['set', 'arm', *METRICS.values()],
    [[s, arm, *mean(arm, s, kind_of(c, arm), METRICS)] for s in sets for arm in main],
    'All metrics (%), the images learnt being positive: FPR95 = 1 - TNR at 95 % TPR.', '.2f',
  )
  report.table(
    ['set', 'arm', 'AUROC', 'FPR95', 'AUPR'],
    [[s, arm, *mean(arm, s, 'OE', ('auroc', 'fpr95', 'aupr'))] for s in sets for arm in main],
    'The convention of OE (%): outliers are positive, and a sixth of all images; MSP.', '.2f',
  )
  report.table(
    ['arm', 'score', *sets],
    [[arm, kind, *(mean_of(runs[arm], s, kind, 'auroc') for s in sets)]
     for arm in main for kind in KINDS], 'AUROC (%) of both scores for every arm.', '.2f',
  )
  report.table(
    ['set', 'arm', *(f'seed {s}' for s in c.seeds)],
    [[s, arm, *(_gain(c, runs, arm, s, i) for i in range(len(c.seeds)))]
     for s in sets for arm in c.arms], f'Points of AUROC above {BASE} of the same seed, with 95 % '
    'intervals of a paired bootstrap over test images; bold where the interval excludes 0.',
  )
  if published := [r for r in rows if r['paper'] is not None]:
    report.table(*paper_table(published), 'Another network, all ten classes, other outliers: '
                 'compare the order.')


def _gain(c, runs, arm, place, i):
  """The AUROC of one run above that of the base, with its interval."""
  one, base = ([runs[name][i]['arrays'][f'{kind_of(c, name)} {k}'] for k in ('known', place)]
               for name in (arm, BASE))
  found = auroc_difference(one, base, resamples=c.resamples)
  value, low, high = (100 * x for x in found[:3])
  text = f'{value:+.2f} [{low:+.2f}, {high:+.2f}]'
  return f'**{text}**' if low > 0 or high < 0 else text


def _write_diversity(report, c, runs, sets, rows):
  both, far = diversity(c, runs), natural(c, sets)
  report.section('How many kinds of outliers')
  for name, curve in both.items():
    shown = [s for s in sets if s not in NOISE] or sets
    series = {s: banded(aurocs(c, curve, [s])) for s in shown}
    report.figure(
      lines([k for k, _ in curve], series, 'classes of outliers', 'AUROC (%)', xscale='log'),
      f'diversity-{name}', f'AUROC against the number of classes of {c.outliers.name}, '
      + ('with all images of each' if name == 'all' else f'with {c.diversity.images} in all')
      + f'; like the arm {c.diversity.like}.',
    )
  if not (c.diversity.classes and far):
    return
  report.figure(
    lines({name: [k for k, _ in curve] for name, curve in both.items()},
          {name: banded(aurocs(c, curve, far)) for name, curve in both.items()},
          'classes of outliers', 'AUROC (%)', xscale='log'),
    'diversity', f'The mean over the natural sets ({", ".join(far)}): with all images of each '
    'class, where classes and images grow together, and with equally many in all.',
  )
  report.table(
    *_cells(rows, [arm for arm in runs if arm not in (BASE, *c.arms)], sets),
    'kN: all images of the first N classes; kN-M: M images of them in all. AUROC (%).',
  )


def _write_scores(report, c, runs, sets):
  main = [BASE, *c.arms]
  report.section('Scores and training')
  for arm in main:
    arrays, kind = runs[arm][0]['arrays'], kind_of(c, arm)
    show = (lambda x: 100 * np.exp(x)) if kind == 'MSP' else (lambda x: x)
    report.figure(
      score_histograms(
        show(arrays[f'{kind} known']), {s: show(arrays[f'{kind} {s}']) for s in sets},
        'MSP (%)' if kind == 'MSP' else 'negative energy'), f'scores-{arm}',
      f'{arm}, first seed: {kind} of test images of what was learnt (inside) and of each other '
      'set (outside).',
    )
  report.figure(
    learning_curves({arm: [run['log'] for run in runs[arm]] for arm in main},
                    ['train/loss', 'test/accuracy', 'test/loss']), 'curves',
    'Training loss, with that of the outliers; accuracy and cross-entropy on test images learnt.',
  )


def auroc_of(place):
  return f'AUROC {place} (%)'


def kind_of(c, arm):
  """The score that an arm is judged by: the one it learns."""
  if arm == BASE:
    return 'MSP'
  return 'energy' if c.arm[arm if arm in c.arm else c.diversity.like].loss == 'energy' else 'MSP'


def mean_of(runs, place, kind, metric):
  return float(np.mean([100 * run['sets'][place][kind][metric] for run in runs]))


def result_rows(c, runs, sets):
  rows = []
  for arm, seeds in runs.items():
    rows.append(
      result_row(arm, ACCURACY, *aggregate([100 * run['test']['accuracy'] for run in seeds])))
    for place in sets:
      ours = [100 * run['sets'][place][kind_of(c, arm)]['auroc'] for run in seeds]
      known = dict(zip((BASE, 'oe_tune', 'oe'), AUROCS.get(place, ()), strict=False))
      known = known if c.train.data.name == 'cifar10' else {}
      rows.append(result_row(arm, auroc_of(place), *aggregate(ours), known.get(arm),
                             HENDRYCKS if arm in known else None))
  return rows


def natural(c, sets):
  """Sets of photographs or drawings that are not of the outliers' own kind."""
  return [s for s in sets if s not in NOISE and s != c.outliers.name]


def arm_with(c, runs, k, images):
  """The name of the arm with outliers of k classes, of so many images in all (0: all of them)."""
  name = f'k{k}-{images}' if images else f'k{k}'
  return name if name in runs else next(
    arm for arm in c.arms
    if c.arm[arm].to_dict() == {**c.arm[c.diversity.like].to_dict(), 'classes': k, 'images': images}
  )


def diversity(c, runs):
  """'all' or 'equal' -> [(classes, runs)], rising."""
  curves = {'all': [(k, runs[arm_with(c, runs, k, 0)]) for k in sorted(c.diversity.classes)]}
  if c.diversity.control:
    equal = [(k, runs[arm_with(c, runs, k, c.diversity.images)]) for k in c.diversity.control]
    # A full arm that happens to have as many images is part of the control too.
    same = [(k, r) for k, r in curves['all'] if r[0]['outliers'] == c.diversity.images]
    curves['equal'] = sorted([*equal, *same], key=lambda point: point[0])
  return {name: curve for name, curve in curves.items() if curve}


def aurocs(c, curve, places):
  """AUROC (%) along a curve, mean over these sets: [K, seeds]."""
  kind = kind_of(c, c.diversity.like)
  return np.array([
    [np.mean([100 * r['sets'][place][kind]['auroc'] for place in places]) for r in runs]
    for _, runs in curve
  ])


def banded(values):
  """(mean, standard deviation or None) [K] over seeds of [K, seeds], for `lines`."""
  return values.mean(1), values.std(1, ddof=1) if values.shape[1] > 1 else None


def claims(c, runs, sets):
  """The papers' claims as sentences with our numbers; a miss is said as one."""
  said = lambda seen: '**seen**' if seen else '**not seen**'
  auroc = lambda arm, place: mean_of(runs[arm], place, kind_of(c, arm), 'auroc')
  real, noise = natural(c, sets), [s for s in sets if s in NOISE]
  pictures = [s for s in sets if s not in NOISE] or sets  # noise varies too much from run to run
  average = lambda arm, places: float(np.mean([auroc(arm, s) for s in places]))
  accuracy = lambda arm: float(np.mean([100 * run['test']['accuracy'] for run in runs[arm]]))
  for arm in (name for name in c.arms if c.arm[name].weight > 0):
    gains = {s: auroc(arm, s) - auroc(BASE, s) for s in sets}
    listed = ', '.join(f'{s} {gain:+.1f}' for s, gain in gains.items())
    yield f'{arm} raises the AUROC on every set: {said(min(gains.values()) > 0)} ({listed} points).'
    if real and noise:
      near, far = (np.mean([gains[s] for s in group]) for group in (real, noise))
      yield (f'{arm} helps more with natural images than with noise, which published networks '
             f'notice anyway: {said(near > far)} (natural {near:+.1f}, noise {far:+.1f} points).')
    change = accuracy(arm) - accuracy(BASE)
    yield (f'{arm} costs no accuracy on what is learnt (half a point is allowed): '
           f'{said(change > -0.5)} ({change:+.2f} points).')
  for claim, one, other in (
    ('Learning with outliers from the start is better than fine-tuning', 'oe', 'oe_tune'),
    ('It is the outliers that help, not the training more', 'oe_tune', 'plain_tune'),
    ('Energy fine-tuning is at least as good as Outlier Exposure', 'energy_tune', 'oe_tune'),
  ):
    if one in runs and other in runs:
      a, b = average(one, pictures), average(other, pictures)
      yield (f'{claim}: {said(a >= b)} (mean AUROC over {", ".join(pictures)}: {a:.2f} and {b:.2f} '
             '%).')
  for places, what in ((real, 'the natural sets'), ([c.outliers.name], 'their own kind')):
    if set(places) <= set(sets) and places:
      yield from _diversity_claims(c, runs, places, what)


def _diversity_claims(c, runs, places, what):
  said = lambda seen: '**seen**' if seen else '**not seen**'
  found = diversity(c, runs)
  each = {name: aurocs(c, curve, places) for name, curve in found.items()}
  at = {name: [k for k, _ in curve] for name, curve in found.items()}
  listed = lambda name: ', '.join(
    f'{k}: {value:.2f}' for k, value in zip(at[name], each[name].mean(1), strict=True))
  if len(each.get('all', ())) > 1:
    y, k = each['all'], at['all']
    yield (f'More classes of outliers help to tell {what}, with every seed: '
           f'{said((y[-1] > y[0]).all())} ({listed("all")} %).')
    if len(k) > 2:
      middle = int(np.searchsorted(k, 20)) if k[-1] > 20 else len(k) - 2
      early, late = (y[middle] - y[0]).mean(), (y[-1] - y[middle]).mean()
      yield (f'That curve rises and flattens: {said(early > max(late, 0))} ({early:+.2f} points '
             f'from {k[0]} to {k[middle]} classes, {late:+.2f} from there to {k[-1]}).')
  if len(each.get('equal', ())) > 1:
    y, images = each['equal'], c.diversity.images
    yield (f'It is the classes: with {images} images in all more of them help to tell {what} too, '
           f'with every seed: {said((y[-1] > y[0]).all())} ({listed("equal")} %).')
    whole = each['all'][-1]
    yield (f'It is the images as well: all of {at["all"][-1]} classes are better than {images} of '
           f'{at["equal"][-1]}, with every seed: {said((whole > y[-1]).all())} '
           f'({whole.mean():.2f}, {y[-1].mean():.2f} %).')
