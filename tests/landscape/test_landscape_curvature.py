"""Lanczos eigenvalues against dense eigendecompositions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from jaxdl.landscape import lanczos, top_eigenvalues

KEY = jax.random.key(2)


def dense_hessian(case):
  flat, unravel = ravel_pytree(case.params)
  x = case.images.astype(np.float32) / 255

  def loss(w):
    log_p = jax.nn.log_softmax(case.model.apply(unravel(w), case.model_state, x)[0][0])
    return -jnp.take_along_axis(log_p, case.labels[:, None], 1).mean()

  return np.asarray(jax.jit(jax.hessian(loss))(flat), np.float64)


@pytest.mark.parametrize('name', ['smooth', 'conv'])
def test_top_eigenvalues_of_a_network(name, request):
  case = request.getfixturevalue(name)
  hessian = dense_hessian(case)
  expected = np.linalg.eigvalsh((hessian + hessian.T) / 2)[::-1]
  found = top_eigenvalues(*case, key=KEY, k=4, iterations=25, chunk=6)
  np.testing.assert_allclose(found.values, expected[:4], rtol=2e-3, atol=1e-5)
  assert (np.asarray(found.residuals) < 1e-2 * expected[0]).all()
  np.testing.assert_allclose(found.smallest, expected[-1], rtol=0.05, atol=1e-4)


def test_the_residual_bounds_the_error_before_convergence(smooth):
  hessian = dense_hessian(smooth)
  expected = np.linalg.eigvalsh((hessian + hessian.T) / 2)
  found = top_eigenvalues(*smooth, key=KEY, k=3, iterations=6)
  for value, residual in zip(found.values, found.residuals, strict=True):
    assert np.abs(expected - value).min() <= residual + 1e-5
  assert found.values[0] <= expected[-1] + 1e-5
  assert found.residuals[-1] > 1e-4, 'six steps must not have converged'


def spectrum_of(eigenvalues, iterations, seed=0):
  eigenvalues = np.asarray(eigenvalues, np.float64)
  size = len(eigenvalues)
  basis, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(size, size)))
  matrix = jnp.asarray((basis * eigenvalues) @ basis.T, jnp.float32)
  diagonal, below = jax.jit(lambda: lanczos(lambda v: matrix @ v, size, iterations, KEY))()
  diagonal, below = np.asarray(diagonal, np.float64), np.asarray(below, np.float64)
  return np.linalg.eigvalsh(np.diag(diagonal) + np.diag(below[:-1], 1) + np.diag(below[:-1], -1))


def test_no_ghost_copies_of_the_top_eigenvalue():
  """Without reorthogonalisation float32 Lanczos repeats a dominant eigenvalue."""
  eigenvalues = np.concatenate([np.linspace(0, 1, 77), [20.0, 50.0, 1000.0]])
  found = spectrum_of(eigenvalues, 60)
  np.testing.assert_allclose(found[-3:], [20, 50, 1000], rtol=1e-3)
  assert found[-4] < 1.01


@pytest.mark.parametrize(
  'eigenvalues', [np.ones(8), [0, 0, 0, 0, 0, 0, 3, 5], [2, 2, 2, -1, -1, 4, 4, 4], np.zeros(8)]
)
def test_all_iterations_find_repeated_eigenvalues_too(eigenvalues):
  np.testing.assert_allclose(spectrum_of(eigenvalues, 8), np.sort(eigenvalues), atol=2e-5)


def test_more_iterations_than_parameters_and_too_many_values(smooth):
  size = ravel_pytree(smooth.params)[0].size
  found = top_eigenvalues(*smooth, key=KEY, k=2, iterations=size + 50)
  hessian = dense_hessian(smooth)
  np.testing.assert_allclose(found.values, np.linalg.eigvalsh(hessian)[::-1][:2], rtol=1e-3)
  with pytest.raises(ValueError, match='k is 7'):
    top_eigenvalues(*smooth, key=KEY, k=7, iterations=5)
