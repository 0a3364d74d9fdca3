"""Who knows its mistakes: numbers against scipy and enumeration, and what counts as seen."""

import numpy as np
import pytest
import scipy.stats
from ml_collections import ConfigDict

from jaxdl.distillation import order
from jaxdl.distillation.runs import Run
from jaxdl.uncertainty.confidence import log_odds
from jaxdl.uncertainty.selective import aurc, auroc

RNG = np.random.default_rng(0)
LABELS = {split: RNG.integers(0, 5, n) for split, n in (('validation', 200), ('test', 300))}


def run(quality, seed=0):
  """A network that is right the more often the higher its quality."""
  rng = np.random.default_rng(seed)
  logits = {
    split: rng.normal(size=(len(y), 5)) + quality * np.eye(5)[y] for split, y in LABELS.items()
  }
  return Run({}, {}, logits, LABELS)


def part(arms, seeds=3):
  plain = {'student': 'small', 'teacher': None, 'epochs': 1.0, 'smoothing': 0.0, 'penalty': 0.0,
           'ranking': 0.0}
  return ConfigDict({
    'arms': tuple(arms), 'arm': {name: {**plain, **arm} for name, arm in arms.items()},
    'required': (0.8,), 'resamples': 40, 'seeds': tuple(range(seeds)),
  })


ARMS = {
  'small': {}, 'big': {'student': 'big'}, 'small_half': {'epochs': 0.5},
  'small_smooth': {'smoothing': 0.1}, 'kd_T4': {'teacher': 'big'},
  'kd_half': {'teacher': 'big', 'epochs': 0.5},
}


def test_measures_are_those_of_the_test_images_and_the_temperature_of_the_validation_ones():
  one = run(2.0)
  hot = one._replace(logits={k: 5 * z for k, z in one.logits.items()})
  a, b = (order.measured(x, (0.8,)) for x in (one, hot))
  correct = one.correct()
  confidence = log_odds(one.logits['test'])
  assert a['accuracy'] == correct.mean() == b['accuracy']
  assert a['AUROC'] == auroc(confidence, correct) and a['AURC'] == aurc(confidence, correct)
  assert b['temperature'] == pytest.approx(5 * a['temperature'], rel=1e-6)
  for name in ('ECE + T', 'NLL + T', 'Brier + T', 'AUROC + T'):
    assert b[name] == pytest.approx(a[name], abs=1e-9)
  assert b['ECE'] > b['ECE + T'] and b['NLL'] > b['NLL + T'] and 0 <= a['SAC 0.8'] <= 1
  seen = one._replace(logits={**one.logits, 'validation': 3 * one.logits['validation']})
  assert order.measured(seen, ())['temperature'] == pytest.approx(3 * a['temperature'], rel=1e-6)


def test_differences_have_the_sign_of_the_better_and_none_of_the_same():
  found = order.compared(run(3.0), run(0.5, 1), 60)
  for name, sign in (('accuracy', 1), ('AUROC', 1), ('AURC', -1)):
    value, low, high = found[name]
    assert sign * value > 0 and min(sign * low, sign * high) > 0 and low <= value <= high
  assert order.compared(run(2.0), run(2.0), 10) == {k: [0, 0, 0] for k in order.STATISTICS}


def test_inheritance_is_a_correlation_of_confidence_and_of_mistakes():
  one, other = run(2.0), run(2.0, 1)
  assert order.inherited(one, one) == pytest.approx({'confidence': 1, 'errors': 1})
  found = order.inherited(one, other)
  odds = [log_odds(x.logits['test']) for x in (one, other)]
  assert found['confidence'] == pytest.approx(scipy.stats.spearmanr(*odds).statistic)
  a, b = one.correct(), other.correct()
  table = np.array([[(a & b).sum(), (a & ~b).sum()], [(~a & b).sum(), (~a & ~b).sum()]])
  phi = np.linalg.det(table) / np.sqrt(np.prod([*table.sum(0), *table.sum(1)], dtype=float))
  assert found['errors'] == pytest.approx(phi)
  sure = run(50.0)
  assert order.inherited(sure, one)['errors'] == 0


def test_the_line_is_that_of_least_squares():
  x, y = RNG.random(9), RNG.random(9)
  np.testing.assert_allclose(order.fit_line(x, y), np.polyfit(x, y, 1))
  assert order.fit_line([0.5, 0.5], [1.0, 2.0]) == (0, 1.5)


def test_a_baseline_is_as_long_and_the_same_network():
  p = part(ARMS)
  assert {arm: order.baseline_of(arm, p) for arm in ARMS} == {
    'small': None, 'big': None, 'small_half': None, 'small_smooth': 'small', 'kd_T4': 'small',
    'kd_half': 'small_half',
  }


def test_what_is_found_is_paired_by_seed_and_teacher():
  p = part(ARMS, 2)
  runs = {arm: [run(1 + i, 10 * i + s) for s in p.seeds] for i, arm in enumerate(ARMS)}
  assert order.partners('small', p) == ['small_smooth']
  assert order.partners('kd_half', p) == ['small_half'] and order.partners('big', p) == []
  found = order.gather({
    arm: [order.find(arm, {k: x[s] for k, x in runs.items()}, p) for s in p.seeds] for arm in ARMS
  })
  assert set(found['measures']) == set(ARMS) and len(found['measures']['small']) == 2
  assert set(found['against']) == {
    'small - small_smooth', 'small_smooth - small', 'kd_T4 - small', 'kd_half - small_half',
  }
  again = order.compared(runs['kd_T4'][1], runs['small'][1], p.resamples)
  assert found['against']['kd_T4 - small'][1] == again
  assert found['inherited']['kd_T4'][1] == order.inherited(runs['kd_T4'][1], runs['big'][1])
  assert found['inherited']['small'][0] == order.inherited(runs['small'][0], runs['big'][0])


@pytest.mark.parametrize('clear, seeds, verdict', [
  (3, 3, '**seen**'), (2, 3, '**not seen**'), (2, 2, '**undecided**'),
])
def test_an_effect_is_claimed_where_three_seeds_are_clear(clear, seeds, verdict):
  interval = lambda sure: {'AUROC': [0.02, 0.01 if sure else -0.01, 0.03],
                           'AURC': [-0.02, -0.03, -0.01 if sure else 0.01]}
  found = {
    'against': {'kd_T4 - small': [interval(i < clear) for i in range(seeds)]},
    'measures': {'small': [{'accuracy': 0.5}] * seeds}, 'inherited': {},
  }
  lines = list(order.claims(found, part(ARMS)))
  assert len(lines) == 2  # of the order, and of the area, where lower is better
  said = f'of {seeds} seeds better in {seeds}, clearly in {clear}, clearly worse in 0'
  for line in lines:
    assert verdict in line and said in line


def test_calibration_is_compared_before_and_after_a_temperature():
  numbers = lambda ece, after, nll: [
    {'accuracy': 0.5, 'ECE': ece, 'ECE + T': after, 'NLL + T': nll}] * 3
  measures = {'small': numbers(0.2, 0.02, 1.5), 'kd_T4': numbers(0.1, 0.03, 1.4)}
  (line,) = order.claims({'measures': measures, 'against': {}, 'inherited': {}}, part(ARMS))
  assert line == (
    'kd_T4 is better calibrated than small: **seen** (ECE 10.00 against 20.00 %), after a '
    'temperature too: **not seen** (3.00, 2.00 %); its likelihood is then better: **seen** (NLL '
    '1.400, 1.500 nats).')


def test_more_than_accuracy_is_above_the_line_in_every_seed():
  plain = [{'accuracy': a, 'AUROC': 0.5 + 0.4 * a} for a in (0.3, 0.5, 0.6)]
  measures = {'big': plain, 'kd_T4': [{'accuracy': 0.6, 'AUROC': 0.75}] * 3}
  p, rest = part(ARMS), {'against': {}, 'inherited': {}}
  (line,) = order.claims({'measures': measures, **rest}, p)
  assert '**seen**' in line and '1.000000 ± 0.000000 (n = 3) points' in line
  measures['kd_T4'] = [{'accuracy': 0.6, 'AUROC': 0.75}] * 2 + [{'accuracy': 0.6, 'AUROC': 0.73}]
  (line,) = order.claims({'measures': measures, **rest}, p)
  assert '**not seen**' in line
