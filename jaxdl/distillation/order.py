"""How well students know which of their answers are wrong, and where they have it from.

The hypotheses are those of a study of distillation and uncertainty: each has an arm that keeps one
part of what a teacher says and drops the rest.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import scipy.stats

from jaxdl.distillation.runs import Run, said
from jaxdl.uncertainty.bootstrap import paired_bootstrap
from jaxdl.uncertainty.confidence import log_odds
from jaxdl.uncertainty.selective import aurc, auroc, risk_coverage
from jaxdl.uncertainty.summary import summary
from jaxdl.uncertainty.temperature import fit_temperature
from jaxdl.viz.report import Report, aggregate, result_row, spread
from jaxdl.viz.scatter import scatter
from jaxdl.viz.selective import risk_coverage_curves

STATISTICS = ('accuracy', 'AUROC', 'AURC')
# (hypothesis, statistic, the arm that it says is better, the other)
HYPOTHESES = (
  ('Soft targets order a student\'s answers better than labels do', 'AUROC', 'kd_T4', 'small'),
  ('They lower its AURC, which counts accuracy too', 'AURC', 'kd_T4', 'small'),
  ('h1, softness: label smoothing worsens the order', 'AUROC', 'small', 'small_smooth'),
  ('h1, softness: a penalty on confidence improves it', 'AUROC', 'penalty', 'small'),
  ('h2, the label\'s share: with the wrong classes made equal it is still better than with labels',
   'AUROC', 'confidence', 'small'),
  ('h3, similarity: shuffling the wrong classes costs order', 'AUROC', 'kd_T4', 'permuted'),
  ('h3, similarity: what the teacher says of a class on average is enough', 'AUROC', 'class_means',
   'small'),
  ('h3, similarity: what it says of each image is more', 'AUROC', 'kd_T4', 'class_means'),
  ('h4, weights: labels weighted by how probable the teacher finds them help', 'AUROC', 'weighted',
   'small'),
  ('h6, inheritance: a teacher trained on smoothed labels is the worse one', 'AUROC', 'kd_T4',
   'kd_smooth'),
  ('h7, ensembles: four teachers are better than one', 'AUROC', 'kd_ensemble', 'kd_T4'),
  ('h7, generations: a network taught by itself is better', 'AUROC', 'born1', 'small'),
  ('h7, generations: the third is better than the first', 'AUROC', 'born3', 'born1'),
  ('Improvement: a teacher whose temperature was fitted first', 'AUROC', 'calibrated', 'kd_T4'),
  ('Improvement: a loss of the order beside the teacher', 'AUROC', 'kd_ranking', 'kd_T4'),
  ('The loss of the order without a teacher', 'AUROC', 'ranking', 'small'),
  ('Improvement: a teacher for unsure images alone', 'AUROC', 'unsure', 'kd_T4'),
)
_POINTS = {'NLL': 1, 'Brier': 1, 'temperature': 1}  # of the others, 100


def statistic(confidence, correct) -> np.ndarray:
  """Of `STATISTICS`; the AUROC of a resample without a mistake is one half."""
  order = auroc(confidence, correct)
  return np.array([correct.mean(), order if order == order else 0.5, aurc(confidence, correct)])


def measured(run: Run, required: Sequence[float]) -> dict[str, float]:
  """Everything of `summary` on test images; ECE, NLL, Brier and AUROC also after a temperature that
  is fitted on validation images ('+ T'), and that temperature."""
  t = fit_temperature(run.logits['validation'], run.labels['validation'])
  skip = min(200, len(run.labels['test']) // 10)
  test = run.logits['test'], run.labels['test']
  found, scaled = (summary(*test, x, required, skip) for x in (1.0, t))
  after = {f'{k} + T': scaled[k] for k in ('ECE', 'NLL', 'Brier', 'AUROC') if k in scaled}
  return {**found, **after, 'temperature': t}


def compared(one: Run, other: Run, resamples: int) -> dict[str, list[float]]:
  """`STATISTICS` of one less those of the other, with ends of the 95 % interval over resamples of
  the test images: name -> [difference, low, high]."""
  seen = [(log_odds(run.logits['test']), run.correct()) for run in (one, other)]
  d = paired_bootstrap(statistic, *seen, resamples)
  return {name: [float(v[i]) for v in d] for i, name in enumerate(STATISTICS)}


def inherited(student: Run, teacher: Run) -> dict[str, float]:
  """Correlations of both on the test images: of confidence (Spearman, of log odds) and of being
  right (phi; 0 where one of them is always right or never)."""
  odds = [log_odds(run.logits['test']) for run in (student, teacher)]
  right = [run.correct() for run in (student, teacher)]
  varies = all(0 < x.mean() < 1 for x in right)
  return {
    'confidence': float(scipy.stats.spearmanr(*odds).statistic),
    'errors': float(np.corrcoef(*right)[0, 1]) if varies else 0.0,
  }


def fit_line(accuracy, order) -> tuple[float, float]:
  """(slope, intercept) of the least squares of `order` on `accuracy`; slope 0 where that does not
  vary."""
  accuracy, order = np.asarray(accuracy, np.float64), np.asarray(order, np.float64)
  gap = accuracy - accuracy.mean()
  slope = float(gap @ order / (gap @ gap)) if gap @ gap > 0 else 0.0
  return slope, float(order.mean() - slope * accuracy.mean())


def baseline_of(arm: str, p) -> str | None:
  """The arm of the same network that learns from labels alone and is trained as long."""
  alike = [a for a in p.arms if _plain(p.arm[a]) and a != arm
           and (p.arm[a].student, p.arm[a].epochs) == (p.arm[arm].student, p.arm[arm].epochs)]
  return alike[0] if alike else None


def _plain(a):
  return not (a.teacher or a.smoothing or a.penalty or a.ranking)


def partners(arm: str, p) -> list[str]:
  """The arms that this one is compared with: its baseline, and those of the hypotheses."""
  others = [baseline_of(arm, p), *(other for *_, one, other in HYPOTHESES if one == arm)]
  return [other for other in dict.fromkeys(others) if other in p.arms]


def find(arm: str, runs: Mapping[str, Run], p) -> dict:
  """Numbers of one network.

  Args:
    arm: its arm.
    runs: arm -> run of the same seed; of the arm itself, its `partners` and its `teacher_of`.
    p: the part `cifar` of the configuration.

  Returns:
    'measures': metric -> value; 'against': partner -> statistic -> difference and interval;
    'inherited': correlations with its teacher, or, of a network without one, with the other
    network, where that was run.
  """
  reference = runs.get(teacher_of(arm, p))
  return {
    'measures': measured(runs[arm], p.required),
    'against': {
      other: compared(runs[arm], runs[other], p.resamples) for other in partners(arm, p)
    },
    'inherited': inherited(runs[arm], reference) if reference else {},
  }


def gather(each: Mapping[str, Sequence[Mapping]]) -> dict:
  """Of arm -> what `find` found by seed: the same by kind, 'measures' and 'inherited' as arm ->
  [by seed], 'against' as 'arm - partner' -> [by seed]."""
  return {
    'measures': {arm: [x['measures'] for x in seeds] for arm, seeds in each.items()},
    'inherited': {
      arm: [x['inherited'] for x in seeds] for arm, seeds in each.items() if seeds[0]['inherited']
    },
    'against': {
      f'{arm} - {other}': [x['against'][other] for x in seeds]
      for arm, seeds in each.items() for other in seeds[0]['against']
    },
  }


def teacher_of(arm: str, p) -> str:
  """The arm's teacher, or 'big' or 'small', whichever it is not itself."""
  return p.arm[arm].teacher or ('big' if p.arm[arm].student == 'small' else 'small')


def write(report: Report, found: Mapping, runs: Mapping[str, Sequence[Run]], p) -> None:
  """Adds the sections on confidence.

  Args:
    report: gets sections, figures and rows.
    found: of `gather`.
    runs: arm -> one run for each seed.
    p: the part `cifar` of the configuration.
  """
  measures = {arm: found['measures'][arm] for arm in p.arms}
  report.section('Who knows its mistakes')
  report.text(
    'Confidence is the largest softmax probability, ranked by its log odds. AURC mixes accuracy '
    'and order; AUROC (right against wrong answers) and E-AURC are mostly the order; ECE is '
    'calibration alone. `+ T`: after a temperature fitted on validation images. SAC: the largest '
    'coverage (%) that keeps a selective accuracy.'
  )
  columns = ['accuracy', 'AUROC', 'AURC', 'E-AURC', 'ECE', 'ECE + T', 'NLL', 'NLL + T', 'Brier',
             'temperature', *(f'SAC {a:g}' for a in p.required)]
  shown = [c for c in columns if all(c in run for several in measures.values() for run in several)]
  report.table(
    ['arm', *(_label(c) for c in shown)],
    [[arm, *(spread(*aggregate(_values(several, c))) for c in shown)]
     for arm, several in measures.items()], 'On the test set.',
  )
  report.rows([
    result_row(f'order: {arm}', _label(c), *aggregate(_values(several, c)))
    for arm, several in measures.items() for c in shown if c != 'accuracy'
  ])
  _differences(report, found, p)
  _figures(report, measures, runs, p)
  report.section('Who knows its mistakes: hypotheses')
  report.text(
    'An effect is claimed where the interval of the bootstrap excludes 0 in at least three seeds.'
  )
  report.text('\n'.join(f'- {line}' for line in claims(found, p)))


def _differences(report, found, p):
  rows = []
  for arm in p.arms:
    several = found['against'].get(f'{arm} - {baseline_of(arm, p)}')
    if several:
      rows.append([arm, baseline_of(arm, p), *(_counted(several, s) for s in STATISTICS)])
  report.table(
    ['arm', 'against', *(f'{s} (points)' for s in STATISTICS)], rows,
    'Against labels alone, mean over seeds; in brackets, in how many seeds the 95 % interval of a '
    f'paired bootstrap ({p.resamples} resamples of the test images) excludes 0. A lower AURC is '
    'better.',
  )
  report.table(
    ['arm', 'with', 'confidence', 'errors'],
    [
      [arm, teacher_of(arm, p), *(
        spread(*aggregate([run[k] for run in several])) for k in ('confidence', 'errors'))]
      for arm in p.arms if (several := found['inherited'].get(arm))
    ],
    'Correlation with the teacher on test images: rank correlation of confidence, and of being '
    'right. Networks without a teacher are compared with the other network, students of an '
    'ensemble with its member of the same seed.',
  )


def _figures(report, measures, runs, p):
  names = [a for a in ('small', 'small_smooth', 'kd_T4', 'kd_ensemble', 'permuted', 'big')
           if a in runs]
  curves = {
    arm: risk_coverage(log_odds(runs[arm][0].logits['test']), runs[arm][0].correct())
    for arm in names
  }
  report.figure(
    risk_coverage_curves(curves), 'order_risk', 'First seed: the share of errors among the most '
    'confident answers.',
  )
  if all('AUROC' in run for several in measures.values() for run in several):
    points = {}
    for arm, several in measures.items():
      group = points.setdefault(_group(p.arm[arm]), [])
      group += [(100 * run['accuracy'], 100 * run['AUROC']) for run in several]
    slope, intercept = matched(measures, p)
    report.figure(
      scatter(points, 'test accuracy (%)', 'AUROC (%)', line=(slope, 100 * intercept)),
      'order_accuracy', 'Every network. The line is fitted to those that learn from labels alone: '
      'what lies above it orders its answers better than its accuracy explains.',
    )


def _group(a):
  return 'labels alone' if _plain(a) else 'with a teacher' if a.teacher else 'other labels, penalty'


def matched(measures: Mapping, p) -> tuple[float, float]:
  """`fit_line` of AUROC on accuracy over all networks that learn from labels alone."""
  plain = [run for arm, several in measures.items() if _plain(p.arm[arm]) for run in several]
  return fit_line([run['accuracy'] for run in plain], [run['AUROC'] for run in plain])


def claims(found: Mapping, p):
  """The hypotheses with our numbers. An effect is claimed where the interval excludes 0 on its side
  in at least three seeds; anything else is a miss, said as one. Fewer seeds decide nothing."""
  seeds = max(map(len, found['measures'].values()))
  verdict = lambda seen: said(seen) if seeds >= 3 else '**undecided**'

  for claim, name, one, other in HYPOTHESES:
    several = found['against'].get(f'{one} - {other}')
    if several:
      sign = -1 if name == 'AURC' else 1  # a lower AURC is better
      mean = 100 * np.mean([run[name][0] for run in several])
      ends = [sorted(sign * x for x in run[name][1:]) for run in several]
      above = sum(sign * run[name][0] > 0 for run in several)
      better, worse = sum(low > 0 for low, _ in ends), sum(high < 0 for _, high in ends)
      yield (f'{claim}: {verdict(better >= 3)} ({name} of {one} less that of {other} {mean:+.2f} '
             f'points; of {len(several)} seeds better in {above}, clearly in {better}, clearly '
             f'worse in {worse}).')
  measures = found['measures']
  if all('AUROC' in run for several in measures.values() for run in several):
    slope, intercept = matched(measures, p)
    for arm in ('kd_T4', 'kd_half', 'kd_ensemble'):
      over = [100 * (run['AUROC'] - intercept - slope * run['accuracy'])
              for run in measures.get(arm, ())]
      if over:
        yield (f'h5, more than accuracy: {arm} lies above the line of those that learn from labels '
               f'alone: {verdict(min(over) > 0)} '
               f'({spread(*aggregate(over))} points of AUROC).')
  mean = lambda arm, metric: float(np.mean(_values(measures[arm], metric)))
  for arm in ('kd_T4', 'small_smooth'):
    if arm in measures and 'small' in measures:
      (a, b), (c, d) = ([mean(x, k) for x in (arm, 'small')] for k in ('ECE', 'ECE + T'))
      e, f = (mean(x, 'NLL + T') for x in (arm, 'small'))
      yield (f'{arm} is better calibrated than small: {said(a < b)} (ECE {a:.2f} against {b:.2f} '
             f'%), after a temperature too: {said(c < d)} ({c:.2f}, {d:.2f} %); its likelihood is '
             f'then better: {said(e < f)} (NLL {e:.3f}, {f:.3f} nats).')
  kept = found['inherited']
  if 'kd_T4' in kept and 'small' in kept:
    a, b = (np.mean([run['confidence'] for run in kept[arm]]) for arm in ('kd_T4', 'small'))
    yield (f'h6, inheritance: a student is confident where its teacher is: {said(a > b)} (rank '
           f'correlation {a:.3f}, of a network that never heard of it {b:.3f}).')


def _label(metric):
  name = metric.removesuffix(' + T')
  unit = '' if name in _POINTS else ' (%)'
  return f'{metric}{" (nats)" if name == "NLL" else unit}'


def _values(several, metric):
  factor = _POINTS.get(metric.removesuffix(' + T'), 100)
  return [factor * run[metric] for run in several]


def _counted(several, name):
  value = spread(*aggregate([100 * run[name][0] for run in several]))
  clear = sum(low > 0 or high < 0 for _, low, high in (run[name] for run in several))
  return f'{value} [{clear}]'
