"""Calibration errors against closed forms."""

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, log_loss

from jaxdl.viz.calibration import brier, calibration, nll


def _reference(confidence, correct, bins):
  """ECE and MCE straight from the definition, one example at a time."""
  ece, mce = 0.0, 0.0
  for b in range(bins):
    inside = [
      (c, ok)
      for c, ok in zip(confidence, correct, strict=True)
      if b / bins <= c < (b + 1) / bins or (b == bins - 1 and c == 1)
    ]
    if inside:
      gap = abs(sum(ok for _, ok in inside) - sum(c for c, _ in inside)) / len(inside)
      ece, mce = ece + gap * len(inside) / len(confidence), max(mce, gap)
  return ece, mce


def test_constant_confidence_has_its_distance_to_the_accuracy():
  stats = calibration(np.full(10, 0.8), np.arange(10) < 5)
  assert stats.ece == pytest.approx(0.3, abs=1e-15) and stats.mce == pytest.approx(0.3, abs=1e-15)
  assert stats.count.sum() == 10 and stats.count[12] == 10


def test_confidence_one_is_not_lost():
  stats = calibration(np.ones(4), np.array([True, True, False, False]))
  assert stats.count.tolist() == [0] * 14 + [4]
  assert stats.ece == 0.5 and calibration(np.ones(4), np.ones(4, bool)).ece == 0


def test_two_bins_by_hand():
  # bin 0: confidences .2, .4, one right: |.5 - .3|; bin 1: .6, 1., both right: |1 - .8|
  stats = calibration([0.2, 0.4, 0.6, 1.0], np.array([1, 0, 1, 1], bool), bins=2)
  assert stats.ece == pytest.approx(0.2) and stats.mce == pytest.approx(0.2)
  np.testing.assert_allclose(stats.accuracy, [0.5, 1.0])
  np.testing.assert_allclose(stats.confidence, [0.3, 0.8])


@pytest.mark.parametrize('bins', [1, 2, 10, 15])
def test_matches_the_definition(bins):
  rng = np.random.default_rng(bins)
  confidence = np.concatenate([rng.random(300), np.arange(bins + 1) / bins])
  correct = rng.random(len(confidence)) < confidence
  stats = calibration(confidence, correct, bins)
  np.testing.assert_allclose([stats.ece, stats.mce], _reference(confidence, correct, bins))
  assert stats.count.sum() == len(confidence)


def test_probabilities_and_labels_do_as_well():
  rng = np.random.default_rng(0)
  p = rng.dirichlet(np.ones(5), 200)
  labels = rng.integers(0, 5, 200)
  assert calibration(p, labels)[:2] == calibration(p.max(1), p.argmax(1) == labels)[:2]


def test_a_calibrated_forecast_tends_to_zero():
  rng = np.random.default_rng(0)
  confidence = rng.random(200_000)
  stats = calibration(confidence, rng.random(200_000) < confidence)
  assert stats.ece < 0.005


def test_nll_and_brier_match_scikit_learn():
  rng = np.random.default_rng(1)
  p, labels = rng.dirichlet(np.ones(4), 50), rng.integers(0, 4, 50)
  assert nll(p, labels) == pytest.approx(log_loss(labels, p, labels=range(4)), rel=1e-12)
  binary = np.stack([1 - p[:, 0], p[:, 0]], 1)
  expected = 2 * brier_score_loss(labels == 0, p[:, 0])  # scikit-learn counts one class only
  assert brier(binary, (labels == 0).astype(int)) == pytest.approx(expected, rel=1e-12)
  assert brier(np.eye(3), [1, 2, 0]) == 2 and brier(np.eye(3), [0, 1, 2]) == 0
  assert np.isfinite(nll(np.eye(2), [1, 0]))


def test_what_is_no_probability_is_refused():
  for confidence in ([0.5, 1.2], [-0.1, 0.5], [np.nan, 0.5]):
    with pytest.raises(ValueError, match='expected probabilities'):
      calibration(confidence, np.ones(2, bool))
  with pytest.raises(ValueError, match='must both be'):
    calibration(np.ones(3), np.ones(2, bool))
  assert calibration(np.full(2, 1 + 1e-7), np.ones(2, bool)).ece == 0
