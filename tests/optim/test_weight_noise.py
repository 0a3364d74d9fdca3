import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdl.optim.leaves import kernels_mask
from jaxdl.optim.weight_noise import gaussian_noise, gaussian_weight_noise

PARAMS = {
  'conv': {'kernel': jnp.linspace(-2, 1, 40_000).reshape(200, 200), 'bias': jnp.full(20_000, 3.0)},
  'bn': {'scale': jnp.full(20_000, 0.5)},
}


def test_absolute_statistics():
  noise = gaussian_noise(jax.random.key(0), PARAMS, 0.3)
  for w, e in zip(jax.tree.leaves(PARAMS), jax.tree.leaves(noise), strict=True):
    assert e.shape == w.shape and e.dtype == jnp.float32
    e = np.float64(e).ravel()
    assert abs(e.mean()) < 4 * 0.3 / np.sqrt(e.size)
    np.testing.assert_allclose(e.std(), 0.3, rtol=4 / np.sqrt(2 * e.size))
    np.testing.assert_allclose((e**4).mean() / e.var() ** 2, 3, rtol=0.1)


def test_relative_noise_is_in_units_of_each_tensors_root_mean_square():
  noise = gaussian_noise(jax.random.key(0), PARAMS, 0.3, relative=True)
  for w, e in zip(jax.tree.leaves(PARAMS), jax.tree.leaves(noise), strict=True):
    expected = 0.3 * np.linalg.norm(np.float64(w)) / np.sqrt(w.size)
    np.testing.assert_allclose(np.float64(e).std(), expected, rtol=4 / np.sqrt(2 * e.size))
  scaled = gaussian_noise(
    jax.random.key(0), jax.tree.map(lambda w: 8 * w, PARAMS), 0.3, relative=True
  )
  chex.assert_trees_all_close(scaled, jax.tree.map(lambda e: 8 * e, noise), rtol=1e-6)


def test_the_key_decides_and_leaves_differ():
  draw = lambda k: gaussian_noise(jax.random.key(k), PARAMS, 0.3)
  chex.assert_trees_all_equal(draw(0), draw(0))
  chex.assert_trees_all_close(draw(0), jax.jit(draw)(0), rtol=1e-6)
  a, b = np.float64(draw(0)['conv']['bias']), np.float64(draw(1)['conv']['bias'])
  c = np.float64(draw(0)['bn']['scale'])
  for other in (b, c):
    assert abs(np.corrcoef(a, other)[0, 1]) < 4 / np.sqrt(a.size)


def test_masked_leaves_are_silent_and_the_rest_unchanged():
  key = jax.random.key(0)
  everywhere = gaussian_noise(key, PARAMS, 0.3)
  by_function = gaussian_noise(key, PARAMS, 0.3, mask=kernels_mask)
  traced = jax.jit(lambda mask: gaussian_noise(key, PARAMS, 0.3, mask=mask))(kernels_mask(PARAMS))
  chex.assert_trees_all_close(by_function, traced, rtol=1e-6)
  np.testing.assert_array_equal(by_function['conv']['kernel'], everywhere['conv']['kernel'])
  assert not by_function['conv']['bias'].any() and not by_function['bn']['scale'].any()


def test_the_update_is_the_gradient_at_a_noisy_point(problem, loss):
  tx = gaussian_weight_noise(0.2, mask=kernels_mask)
  points = []

  def spy(p):
    points.append(p)
    return jax.grad(loss)(p, problem.batch)

  update = lambda k: tx.update(
    problem.params, tx.init(problem.params), problem.params, grad_fn=spy, key=jax.random.key(k)
  )[0]
  grads, again, other = update(0), update(0), update(1)
  chex.assert_trees_all_equal(grads, jax.grad(loss)(points[0], problem.batch), again)
  assert np.abs(grads['first']['kernel'] - other['first']['kernel']).max() > 1e-4
  chex.assert_trees_all_equal(points[0]['first']['bias'], problem.params['first']['bias'])
  moved = points[0]['first']['kernel'] - problem.params['first']['kernel']
  assert 0.1 < np.std(moved) < 0.3


def test_the_mean_gradient_of_a_cubic_carries_the_noise_variance():
  """E (w + e)^2 = w^2 + sigma^2 for the gradient of w^3 / 3."""
  params = {'kernel': jnp.full(2000, 2.0)}
  tx = gaussian_weight_noise(0.5)
  grad = lambda p: jax.tree.map(jnp.square, p)
  update = jax.vmap(
    lambda key: tx.update(params, tx.init(params), params, grad_fn=grad, key=key)[0]['kernel']
  )
  mean = np.float64(update(jax.random.split(jax.random.key(0), 50))).mean()
  np.testing.assert_allclose(mean, 4.25, atol=4 * 2.1 / np.sqrt(100_000))


def test_sigma_zero_is_the_plain_optimizer_bit_for_bit(problem, run):
  plain, _ = run(optax.sgd(0.3), problem)
  ours, _ = run(optax.chain(gaussian_weight_noise(0.0), optax.sgd(0.3)), problem)
  chex.assert_trees_all_equal(ours, plain)


def test_errors():
  with pytest.raises(ValueError, match='sigma must be a number, at least 0'):
    gaussian_weight_noise(-0.1)
  tx = gaussian_weight_noise(0.1)
  with pytest.raises(ValueError, match='grad_fn=grad_fn, key=key'):
    tx.update(PARAMS, tx.init(PARAMS), PARAMS, grad_fn=lambda p: p)
  with pytest.raises(ValueError, match='grad_fn=grad_fn, key=key'):
    tx.update(PARAMS, tx.init(PARAMS), PARAMS, key=jax.random.key(0))
