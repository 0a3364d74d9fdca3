"""Figures and rows of selective prediction and of Outlier Exposure."""

import numpy as np
import pytest

from jaxdl.uncertainty.selective import risk_coverage
from jaxdl.viz.selective import ENSEMBLE, MC, PLAIN, claims, result_rows, risk_coverage_curves


def test_curves_are_drawn_in_per_cent_from_the_least_coverage_on():
  rng = np.random.default_rng(0)
  curve = risk_coverage(rng.random(5000), rng.random(5000) < 0.8)
  figure = risk_coverage_curves({'a': curve}, least=0.1, best={'a': 0.2})
  drawn, best = figure.axes[0].get_lines()
  x, y = drawn.get_data()
  assert x[0] == pytest.approx(10, abs=0.1) and x[-1] == 100 and len(x) <= 400
  assert y[-1] == pytest.approx(100 * curve.risk[-1])
  x, y = best.get_data()
  assert (y[x < 80] == 0).all() and y[-1] == pytest.approx(20)
  assert drawn.get_color() == best.get_color()


def test_a_curve_of_few_examples_and_none_at_all():
  figure = risk_coverage_curves({'a': ([0.5, 1.0], [0.0, 0.5])})
  np.testing.assert_array_equal(figure.axes[0].get_lines()[0].get_xdata(), [50, 100])
  with pytest.raises(ValueError, match='at least one curve'):
    risk_coverage_curves({})


def _run(accuracy=0.8, auroc=0.9, aurc=0.05, nll=0.5, ece=0.1):
  return {'accuracy': accuracy, 'AUROC': auroc, 'AURC': aurc, 'E-AURC': 0.01, 'ECE': ece,
          'adaptive ECE': ece, 'NLL': nll, 'Brier': 0.3, 'mean confidence': 0.9,
          'SAC 0.9': 0.5, 'SAC first 0.9': 0.4}


FOUND = {
  'predictors': {
    MC: [_run(nll=0.45, aurc=0.045)], ENSEMBLE: [_run(nll=0.4, aurc=0.04, auroc=0.92)],
    'label_smoothing': [_run(auroc=0.85)], PLAIN: [_run(), _run(nll=0.7, aurc=0.07, auroc=0.5)],
  },
  'differences': {'label_smoothing': [{'AUROC': [-0.05, -0.06, -0.04]}]},
  'confidences': {PLAIN: {'MSP': [{'AURC': 0.05}], 'energy': [{'AURC': 0.06}]}},
  'corrupted': {},
}
FOUND['scaled'] = {
  k: [{**r, 'ECE': r['ECE'] / 2, 'temperature': 1.5} for r in v]
  for k, v in FOUND['predictors'].items()
}


def test_rows_have_units_and_what_was_published():
  rows = result_rows('cifar10', FOUND, (0.9,))
  value = {(r['setting'], r['metric']): r for r in rows}
  assert value['cifar10 plain', 'NLL (nats)']['value'] == pytest.approx(0.6)
  assert value['cifar10 plain', 'NLL (nats)']['paper'] == 0.159
  assert value['cifar10 plain', 'ECE (%)']['value'] == pytest.approx(10)
  assert value['cifar10 plain + T', 'ECE (%)']['value'] == pytest.approx(5)
  assert value['cifar10 ensemble', 'SAC first 0.9 (%)']['value'] == pytest.approx(40)
  assert next(iter(value))[0] == 'cifar10 plain'
  assert not any(r['paper'] for r in result_rows('digits', FOUND, (0.9,)))
  one = {**FOUND, 'predictors': {PLAIN: [{**_run()}]}, 'scaled': {PLAIN: [_run()]}}
  del one['predictors'][PLAIN][0]['AUROC']  # never wrong
  assert not any(r['metric'] == 'AUROC (%)' and '+' not in r['setting']
                 for r in result_rows('digits', one, (0.9,)))


def test_claims_compare_the_same_seeds():
  lines = list(claims('x', FOUND))
  told = {line.split(': ')[1]: line for line in lines}
  # The second plain network has an AUROC of 50 %; label smoothing was trained for the first only.
  assert 'AUROC 85.00 against 90.00 %; the interval excludes 0 in 1 of 1 seeds' in told[
    'label smoothing hurts the order of confidences']
  assert '**seen**' in told['label smoothing hurts the order of confidences']
  assert '0.450 nats, one network of the same seeds 0.500' in told[
    'MC dropout is between the two in NLL']
  assert all('**seen**' in line or '**not seen**' in line for line in lines)
