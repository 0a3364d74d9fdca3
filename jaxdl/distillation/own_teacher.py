"""The report on networks that teach themselves: gains, targets, calibration, exits."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from jaxdl.distillation.runs import said
from jaxdl.viz.curves import learning_curves, lines
from jaxdl.viz.early_exits import exit_claims, head_rows, write_exits
from jaxdl.viz.report import Report, aggregate, paper_table, result_row, spread
from jaxdl.viz.significance import mcnemar

YUAN = 'Yuan et al. 2020, CIFAR-100, ResNet-18: {} against 75.87; best epoch on test'
ZHANG = 'Zhang et al. 2019, CIFAR-100, ResNet-50: 80.56, as transcribed, against 77.68, from memory'
GAINS = {  # arm -> (points above the baseline, source); another set, so only the order compares
  'label_smoothing': (1.39, YUAN.format(77.26)),
  'tf_kd_self': (1.23, YUAN.format('77.10')),
  'tf_kd_reg': (1.49, YUAN.format(77.36)),
  'byot': (2.88, ZHANG),
}
HEADS = (  # published accuracies of Be Your Own Teacher by head
  ['ResNet-18', 67.85, 74.57, 78.23, 78.64, 79.67],
  ['ResNet-50', 68.23, 74.21, 75.23, 80.56, 81.04],
)
LAST, BEST, CHOSEN = 'test accuracy, last epoch (%)', 'best epoch (%)', 'best on validation (%)'
CLAIMS = (  # claim, the arm that it says is better, the other
  ('A teacher that is the same network helps', 'tf_kd_self', 'baseline'),
  ('The same with half of the loss left to the labels helps', 'tf_kd_mild', 'baseline'),
  ('What it says of the wrong classes matters', 'tf_kd_self', 'tf_kd_shuffled'),
  ('A teacher written by hand helps', 'tf_kd_reg', 'baseline'),
  ('Label smoothing helps', 'label_smoothing', 'baseline'),
  ('Exits that learn from the labels help the deepest head', 'deep_supervision', 'baseline'),
  ('Be Your Own Teacher helps', 'byot', 'baseline'),
  ('Learning from the deepest head is more than deep supervision', 'byot', 'deep_supervision'),
  ('Comparing features adds to comparing logits', 'byot', 'byot_logits'),
)


def write(report: Report, runs: Mapping[str, Sequence[Mapping]], c) -> None:
  """Adds results, the papers' numbers, claims, exits and figures.

  Args:
    report: gets sections, figures and rows.
    runs: arm -> one finished network for each seed: what `classifier.train` returned, 'ece', 'nll',
      'entropy', 'target entropy', 'target at label', 'log' (metric -> (steps, values)), 'heads',
      and 'arrays' with `correct` (bool [C, N]), `bins` ([2, bins]) and `of_class` ([K, K]).
    c: the configuration.
  """
  rows, data = result_rows(c, runs), c.train.data
  report.rows(rows)
  cell = {(r['setting'], r['metric']): spread(r['value'], r['std'], r['n']) for r in rows}
  table = lambda names: [[arm, *(cell[arm, m] for m in names)] for arm in c.arms]
  report.section('Results')
  names = [LAST, BEST, *([CHOSEN] if data.validation else []), 'train accuracy (%)']
  report.table(
    ['arm', *names], table(names), 'Test accuracy of the last epoch, of the epoch that is best on '
    'the test set, which flatters and which the papers report, and of that best on validation '
    'images; training images without augmentation, last epoch.',
  )
  names = ['ECE (%)', 'NLL (nats)', 'entropy (nats)', 'target entropy (nats)', 'target at label']
  report.table(
    ['arm', *names], table(names), 'Calibration and entropy of the predictions on test images; '
    'entropy of the soft targets on training images, and what they give to the label.',
  )
  if published := [r for r in rows if r['paper'] is not None]:
    report.section('The papers')
    report.table(*paper_table(published), 'Other networks, and CIFAR-100: compare the order.')
    report.table(
      ['published', 'exit 1', 'exit 2', 'exit 3', 'deepest', 'ensemble (from memory)'], HEADS,
      'Be Your Own Teacher on CIFAR-100, test accuracy (%) as transcribed in a re-implementation; '
      'baselines 77.09 and 77.68 (from memory).', '.2f',
    )
  report.section('Claims')
  report.text('\n'.join(f'- {line}' for line in claims(c, runs)))
  if 'baseline' in runs:
    report.table(
      ['arm', 'right where baseline is wrong', 'wrong where baseline is right', 'p', 'likeness'],
      [against_baseline(arm, runs) for arm in c.arms if arm != 'baseline'], 'Last epoch, against '
      'the baseline on the same test images, seeds in pairs; exact McNemar test. Likeness: '
      'correlation with the baseline of the mean probability that images of one class get for each '
      'other class.', '.3g',
    )
  if exits := exit_arms(c, runs):
    report.section('Exits')
    plain = {'baseline': [MEASURES[LAST](run) for run in runs.get('baseline', ())]}
    write_exits(report, exits, c.thresholds, {k: v for k, v in plain.items() if v})
  report.section('Training and calibration')
  report.figure(
    learning_curves({arm: [run['log'] for run in seeds] for arm, seeds in runs.items()},
                    ['train/accuracy', 'test/accuracy', 'test/loss']), 'curves',
    'Accuracy on augmented batches, test accuracy and test cross-entropy.',
  )
  stated, right = (
    {arm: seeds[0]['arrays']['bins'][i] for arm, seeds in runs.items()} | {'perfect': (0.0, 1.0)}
    for i in (0, 1)
  )
  report.figure(
    lines(stated, {arm: (y, None) for arm, y in right.items()}, 'confidence', 'accuracy'),
    'reliability',
    'Accuracy against confidence by bin, first seed. Where the two differ, a network is too sure '
    '(below the diagonal) or not sure enough.',
  )


def exit_arms(c, runs):
  sections = [arm for arm in c.arms if c.arm[arm].method == 'sections']
  return {arm: [run['heads'] for run in runs[arm]] for arm in sections}


def at_best(run, split):
  """Test accuracy (%) of the epoch that is best on this split."""
  test, chosen = (run['log'][f'{name}/accuracy'][1] for name in ('test', split))
  return 100 * test[np.argmax(chosen)]


MEASURES = {
  LAST: lambda run: 100 * run['test']['accuracy'],
  BEST: lambda run: at_best(run, 'test'),
  'train accuracy (%)': lambda run: 100 * run['train']['accuracy'],
  'ECE (%)': lambda run: 100 * run['ece'],
  'NLL (nats)': lambda run: run['nll'],
  'entropy (nats)': lambda run: run['entropy'],
  'target entropy (nats)': lambda run: run['target entropy'],
  'target at label': lambda run: run['target at label'],
}


def result_rows(c, runs):
  measures = MEASURES
  if c.train.data.validation:
    measures = measures | {CHOSEN: lambda run: at_best(run, 'validation')}
  rows = [
    result_row(arm, metric, *aggregate([f(run) for run in seeds]))
    for arm, seeds in runs.items() for metric, f in measures.items()
  ]
  for arm in c.arms:
    if arm != 'baseline' and 'baseline' in runs:
      for epoch, f in (('last', MEASURES[LAST]), ('best', MEASURES[BEST])):
        gains = [f(a) - f(b) for a, b in zip(runs[arm], runs['baseline'], strict=True)]
        known = epoch == 'best' and c.train.data.name in ('cifar10', 'cifar100')
        paper = GAINS.get(arm, ()) if known else ()
        rows.append(result_row(arm, f'gain, {epoch} epoch (points)', *aggregate(gains), *paper))
  return rows + [r for arm, seeds in exit_arms(c, runs).items() for r in head_rows(arm, seeds)]


def claims(c, runs) -> Iterator[str]:
  """The papers' claims as sentences with our numbers; a miss is said as one."""
  mean = lambda arm, metric: float(np.mean([MEASURES[metric](run) for run in runs[arm]]))
  if 'baseline' in runs:
    gap = mean('baseline', 'train accuracy (%)') - mean('baseline', LAST)
    yield ('All arms regularise. The gap of the baseline between training and test accuracy, which '
           f'they can close, is {gap:.2f} points.')
  for claim, one, other in CLAIMS:
    if one in runs and other in runs:
      a, b, p = mean(one, LAST), mean(other, LAST), paired(runs[one], runs[other])[-1]
      yield (f'{claim}: {said(a > b)} (last epoch, {one} {a:.2f} %, {other} {b:.2f} %; McNemar p = '
             f'{p:.2g}, n = {len(runs[one])}).')
  for arm in c.arms:
    if arm != 'baseline' and 'baseline' in runs:
      a, b = mean(arm, 'ECE (%)'), mean('baseline', 'ECE (%)')
      yield f'{arm} is better calibrated than the baseline: {said(a < b)} (ECE {a:.2f}, {b:.2f} %).'
  for arm, seeds in exit_arms(c, runs).items():
    yield from exit_claims(arm, seeds, c.thresholds)


def paired(one, other) -> tuple[int, int, float]:
  """`mcnemar` of the deepest heads on the same test images, the seeds pooled in pairs."""
  right = lambda several: np.concatenate([run['arrays']['correct'][-1] for run in several])
  return mcnemar(right(one), right(other))


def against_baseline(arm, runs):
  """Paired with the baseline of the same seed: answers, and which classes are taken for another."""
  pairs = zip(runs[arm], runs['baseline'], strict=True)
  other = lambda run: run['arrays']['of_class'][~np.eye(len(run['arrays']['of_class']), dtype=bool)]
  alike = [np.corrcoef(other(one), other(base))[0, 1] for one, base in pairs]
  return [arm, *paired(runs[arm], runs['baseline']), float(np.mean(alike))]
