"""Cross-entropy and correctness against float64 NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl.losses import correct, cross_entropy


def numpy_cross_entropy(logits, targets):
  logits = np.asarray(logits, np.float64)
  top = logits.max(-1, keepdims=True)
  log_p = logits - top - np.log(np.exp(logits - top).sum(-1, keepdims=True))
  return -(targets * log_p).sum(-1)


@pytest.fixture
def batch():
  rng = np.random.default_rng(0)
  return rng.normal(0, 3, (20, 7)).astype(np.float32), rng.integers(0, 7, 20)


@pytest.mark.parametrize('smoothing', [0.0, 0.1, 1.0])
@pytest.mark.parametrize('soft', [False, True])
def test_cross_entropy_is_the_formula(batch, smoothing, soft):
  logits, labels = batch
  targets = np.random.default_rng(1).dirichlet(np.ones(7), 20) if soft else np.eye(7)[labels]
  expected = numpy_cross_entropy(logits, (1 - smoothing) * targets + smoothing / 7)
  given = targets.astype(np.float32) if soft else labels
  np.testing.assert_allclose(cross_entropy(logits, given, smoothing), expected, rtol=2e-5)
  traced = jax.jit(cross_entropy)(logits, given, smoothing)
  np.testing.assert_allclose(traced, expected, rtol=2e-5)


@pytest.mark.parametrize('smoothing', [0.0, 0.1])
def test_huge_logits_stay_finite_and_right(smoothing):
  logits = jnp.array([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4]])
  labels = jnp.array([1, 2])
  expected = numpy_cross_entropy(logits, (1 - smoothing) * np.eye(3)[[1, 2]] + smoothing / 3)
  np.testing.assert_allclose(cross_entropy(logits, labels, smoothing), expected, rtol=1e-5)
  gradient = jax.grad(lambda z: cross_entropy(z, labels, smoothing).sum())(logits)
  assert np.isfinite(gradient).all()


def test_masked_classes_cost_nothing():
  logits = jnp.array([[1.0, 2.0, -jnp.inf]])
  np.testing.assert_allclose(
    cross_entropy(logits, jnp.array([0])), cross_entropy(logits[:, :2], jnp.array([0])), rtol=1e-6
  )


def test_half_precision_logits_are_summed_in_float32():
  logits = jnp.linspace(-3, 3, 5000, dtype=jnp.bfloat16)[None]
  loss = cross_entropy(logits, jnp.array([17]))
  assert loss.dtype == jnp.float32
  expected = numpy_cross_entropy(logits.astype(jnp.float32), np.eye(5000)[[17]])
  np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_correct_counts_hits(batch):
  logits, labels = batch
  expected = (logits.argmax(-1) == labels).astype(np.float32)
  assert 0 < expected.sum() < len(expected)
  np.testing.assert_array_equal(correct(logits, labels), expected)
  np.testing.assert_array_equal(correct(logits, np.eye(7, dtype=np.float32)[labels]), expected)


@pytest.mark.parametrize(
  'labels', [np.zeros(3, np.float32), np.zeros((3, 5), np.float32), np.zeros(2, np.int32)]
)
@pytest.mark.parametrize('function', [cross_entropy, correct])
def test_labels_that_do_not_fit_are_refused(function, labels):
  with pytest.raises(ValueError, match='Labels are'):
    function(np.zeros((3, 4), np.float32), labels)
