"""The soft threshold on a basis: its fixed points, and what stays zero when."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl.quantization import lq, sparse

SCALE = jnp.ones(1)


def settle(lam, least_squares=0.5, steps=400, **options):
  """The basis [1, 1] pulled by a tenth towards `least_squares`, codes held fixed."""
  s = sparse.sparse({'lam': lam, 'freeze': steps, **options})
  v, alive = jnp.full((1, 1), least_squares), jnp.ones((1, 1))
  for step in range(steps):
    v, alive = sparse.shrink(s, 0.9 * v + 0.1 * least_squares * alive, alive, SCALE, step)
  return float(v[0, 0]), float(alive[0, 0])


@pytest.mark.parametrize(('lam', 'want'), [(0.02, 0.3), (0.04, 0.1), (0.06, 0.0)])
def test_fixed_points(lam, want):
  v, alive = settle(lam)
  assert v == pytest.approx(want, abs=1e-5)
  assert alive == (want > 0)


def test_at_least_one_bit_stays_where_asked():
  v, alive = settle(0.2, least=1, steps=50)
  assert alive == 1 and v > 0
  s = sparse.sparse({'lam': 9.0, 'freeze': 9, 'least': 1})
  v, alive = sparse.shrink(s, jnp.array([[0.2, -0.7, 0.3]]), jnp.ones((1, 3)), SCALE, 0)
  np.testing.assert_allclose(v, [[0, -0.7, 0]])
  np.testing.assert_array_equal(alive, [[0, 1, 0]])


def test_strength_rises_and_ends():
  s = sparse.sparse({'lam': 0.4, 'start': 10, 'full': 14, 'freeze': 20})
  have = [float(sparse.strength(s, step)) for step in (0, 9, 10, 11, 13, 19, 20, 99)]
  np.testing.assert_allclose(have, [0, 0, 0.1, 0.2, 0.4, 0.4, 0, 0], atol=1e-7)


def test_a_zero_revives_until_the_freeze_and_only_where_asked():
  for revive in (False, True):
    s = sparse.sparse({'lam': 1.0, 'freeze': 2, 'revive': revive})
    v, alive = sparse.shrink(s, jnp.array([[0.5]]), jnp.ones((1, 1)), SCALE, 0)
    assert float(v[0, 0]) == 0 and float(alive[0, 0]) == revive
    v, alive = sparse.shrink(s, jnp.array([[1.5]]), alive, SCALE, 1)  # grown in between
    assert float(v[0, 0]) == (0.5 if revive else 0)
  s = sparse.sparse({'lam': 1.0, 'freeze': 2, 'revive': True})
  v, alive = sparse.shrink(s, jnp.array([[0.5]]), jnp.ones((1, 1)), SCALE, 1)  # the last cut
  assert float(alive[0, 0]) == 0
  v, alive = sparse.shrink(s, jnp.array([[1.5]]), alive, SCALE, 2)
  assert float(v[0, 0]) == 0 and float(alive[0, 0]) == 0


def test_scales():
  w = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3, 4, 2)) * [1, 5])
  have = {s: sparse.scale_of(sparse.sparse({'scale': s}), w) for s in sparse.SCALES}
  each = np.abs(w).reshape(-1, 2).mean(0)
  np.testing.assert_allclose(have['channel'], each, rtol=1e-5)
  np.testing.assert_allclose(have['layer'], [each.mean()] * 2, rtol=1e-5)
  np.testing.assert_array_equal(have['one'], [1, 1])


def gaussian_bits(lam, scale, count=24, size=432, steps=300):
  """Bits that each of so many Gaussian channels of 3 bits keeps under the threshold."""
  w = jnp.asarray(np.random.default_rng(0).normal(size=(size, count)).astype(np.float32))
  s = sparse.sparse({'lam': lam, 'start': 60, 'full': 100, 'freeze': steps, 'scale': scale})

  def move(step, carry):
    v, alive = carry
    m = sparse.masked(lq.moments(w, lq.codebook(v, True)), alive)
    v = 0.9 * v + 0.1 * lq.solve(m, v, lq.RIDGE)
    return sparse.shrink(s, v, alive, sparse.scale_of(s, w), step)

  start = jnp.tile(lq.initial_weights(3, 2), (count, 1))
  _, alive = jax.lax.fori_loop(0, steps, move, (start, jnp.ones((count, 3))))
  return np.asarray(alive.sum(-1))


def test_relative_to_the_channel_gaussian_channels_lose_a_bit_at_once():
  # Between these strengths, found in NumPy with codes from all levels, lies the whole change.
  assert (gaussian_bits(0.024, 'channel') == 3).all()
  assert (gaussian_bits(0.030, 'channel') == 2).all()
  assert (gaussian_bits(0.060, 'channel') == 1).all()


def test_masked_moments_solve_without_the_dead_bit():
  x = np.random.default_rng(0).normal(size=300).astype(np.float32)
  v = jnp.array([0.3, 0.0, 0.8])
  m = sparse.masked(lq.moments(jnp.asarray(x), lq.codebook(v, True)), jnp.array([1.0, 0, 1]))
  alone = lq.moments(jnp.asarray(x), lq.codebook(v[jnp.array([0, 2])], True))
  have = lq.solve(m, v, lq.RIDGE)
  want = lq.solve(alone, v[jnp.array([0, 2])], lq.RIDGE)
  np.testing.assert_allclose(have, [want[0], 0, want[1]], atol=1e-6)


@pytest.mark.parametrize(('options', 'words'), [
  ({'lamda': 1}, "'lamda'.*mean 'lam'"), ({'lam': -1.0}, 'lam of sparsity must be'),
  ({'freeze': 0.5}, 'freeze of sparsity must be a whole number'),
  ({'least': 2}, 'least of sparsity'), ({'scale': 'chanel'}, "mean 'channel'"),
  ({'revive': 1}, 'revive of sparsity must be True or False'),
])
def test_bad_options_are_refused(options, words):
  with pytest.raises(ValueError, match=words):
    sparse.sparse(options)
