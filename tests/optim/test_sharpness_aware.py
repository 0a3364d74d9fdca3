import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from jaxdl.optim.sharpness_aware import perturbation, sharpness_aware

RHO = 0.1


def visited(tx, params, grad_fn, state=None, **extra):
  """Runs one update eagerly; returns (perturbations at which grad_fn was asked, grads, state)."""
  points = []

  def spy(p, chunk=None):
    points.append(jax.tree.map(lambda a, b: np.asarray(a - b, np.float64), p, params))
    return grad_fn(p)

  state = tx.init(params) if state is None else state
  grads, state = tx.update(grad_fn(params), state, params, grad_fn=spy, **extra)
  return points, grads, state


def flat(tree):
  return np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)]).astype(np.float64)


def moved(params, e):
  return jax.tree.map(lambda w, d: w + jnp.float32(d), params, e)


def quadratic(seed, n=12):
  """Gradient and value of a convex quadratic with its minimum away from the origin."""
  a = np.random.default_rng(seed).normal(size=(n, n))
  a, b = jnp.asarray(a @ a.T / n, jnp.float32), jnp.arange(n, dtype=jnp.float32) / n
  value = lambda p: 0.5 * (p['kernel'] - b) @ a @ (p['kernel'] - b)
  return {'kernel': jnp.zeros(n)}, value


def test_equals_optax_contrib_sam(problem, loss, run):
  optimizer = optax.sgd(0.3, momentum=0.9, nesterov=True)
  ascent = optax.chain(optax.contrib.normalize(), optax.sgd(RHO))
  oracle = optax.contrib.sam(optimizer, ascent, sync_period=2, opaque_mode=True)
  params, state = problem.params, oracle.init(problem.params)
  grad = lambda p, _=None: jax.grad(loss)(p, problem.batch)
  for _ in range(5):
    updates, state = oracle.update(grad(params), state, params, grad_fn=grad)
    params = optax.apply_updates(params, updates)
  ours, _ = run(optax.chain(sharpness_aware(RHO), optimizer), problem, 5)
  plain, _ = run(optimizer, problem, 5)
  chex.assert_trees_all_close(ours, params, rtol=1e-5, atol=1e-6)
  assert np.abs(flat(plain) - flat(params)).max() > 1e-3  # the oracle does differ from SGD


@pytest.mark.parametrize('options', [
  {}, {'norm': 'linf'}, {'norm': 'random'}, {'adaptive': True}, {'steps': 3}, {'microbatches': 2},
])
def test_rho_zero_is_the_plain_optimizer_bit_for_bit(problem, run, options):
  optimizer = optax.sgd(0.3, momentum=0.9)
  plain, _ = run(optimizer, problem)
  ours, _ = run(optax.chain(sharpness_aware(0, **options), optimizer), problem)
  chex.assert_trees_all_equal(ours, plain)


@pytest.mark.parametrize('steps', [1, 3])
def test_a_schedule_that_is_at_zero_gives_the_plain_gradient(problem, loss, steps):
  tx = sharpness_aware(optax.constant_schedule(0.0), steps=steps)
  grad = lambda p: jax.grad(loss)(p, problem.batch)
  points, grads, _ = visited(tx, problem.params, grad)
  assert all(not flat(p).any() for p in points)
  chex.assert_trees_all_equal(grads, grad(problem.params))


def test_length_and_direction_of_one_step():
  params, value = quadratic(0)
  g = flat(jax.grad(value)(params))
  (e,), _, _ = visited(sharpness_aware(RHO), params, jax.grad(value))
  np.testing.assert_allclose(flat(e), RHO * g / np.linalg.norm(g), rtol=1e-5)
  (e,), _, _ = visited(sharpness_aware(RHO, 'linf'), params, jax.grad(value))
  np.testing.assert_allclose(flat(e), RHO * np.sign(g), rtol=1e-6)


def test_the_l2_norm_spans_all_leaves(problem, loss):
  grads = jax.grad(loss)(problem.params, problem.batch)
  e = perturbation(grads, problem.params, RHO)
  np.testing.assert_allclose(np.linalg.norm(flat(e)), RHO, rtol=1e-6)
  np.testing.assert_allclose(
    flat(e), RHO * flat(grads) / np.linalg.norm(flat(grads)), rtol=1e-5, atol=1e-9
  )


@pytest.mark.parametrize('norm', ['l2', 'linf'])
@pytest.mark.parametrize('steps', [2, 3, 5])
def test_several_steps_stay_in_the_ball_and_climb(norm, steps):
  size = {'l2': np.linalg.norm, 'linf': lambda e: np.abs(e).max()}[norm]
  for seed in range(5):
    params, value = quadratic(seed)
    one, _, _ = visited(sharpness_aware(1.0, norm), params, jax.grad(value))
    several, _, _ = visited(sharpness_aware(1.0, norm, steps), params, jax.grad(value))
    assert len(several) == steps  # steps - 1 for the ascent, one for the descent
    assert all(size(flat(e)) <= 1 + 1e-5 for e in several)
    heights = [float(value(moved(params, e))) for e in (one[-1], several[-1])]
    assert heights[1] >= heights[0] - 1e-5
    assert heights[0] > float(value(params))


@pytest.mark.parametrize('step_size', [None, 0.3])
def test_three_steps_equal_numpy(step_size):
  params, value = quadratic(1)
  grad = lambda e: flat(jax.grad(value)({'kernel': jnp.asarray(e, jnp.float32)}))
  alpha, e = step_size or 2 / 3, np.zeros(12)
  for _ in range(3):
    g = grad(e)
    e = e + alpha * g / np.linalg.norm(g)
    e = e / max(1.0, np.linalg.norm(e))
  points, _, _ = visited(sharpness_aware(1.0, steps=3, step_size=step_size), params,
                         jax.grad(value))
  np.testing.assert_allclose(flat(points[-1]), e, atol=1e-5)


def test_a_short_single_step_stays_inside():
  params, value = quadratic(2)
  (e,), _, _ = visited(sharpness_aware(1.0, step_size=0.25), params, jax.grad(value))
  np.testing.assert_allclose(np.linalg.norm(flat(e)), 0.25, rtol=1e-5)


@pytest.mark.parametrize('norm', ['l2', 'linf'])
@pytest.mark.parametrize('eta', [0.0, 0.01])
def test_adaptive_equals_numpy(norm, eta):
  rng = np.random.default_rng(0)
  shapes = {
    'conv': {'kernel': (3, 3, 2, 4), 'bias': (4,)},
    'bn': {'scale': (4,), 'bias': (4,)},
    'words': {'embedding': (5, 4)},
  }
  draw = lambda: jax.tree.map(
    lambda s: jnp.asarray(rng.normal(size=s), jnp.float32), shapes,
    is_leaf=lambda s: isinstance(s, tuple),
  )
  params, grads = draw(), draw()
  t = {
    outer: {
      name: np.ones_like(w) if name == 'bias' else np.abs(np.float64(w)) + eta
      for name, w in inner.items()
    }
    for outer, inner in params.items()
  }
  tg = jax.tree.map(lambda a, b: a * np.float64(b), t, grads)
  if norm == 'l2':
    expected = jax.tree.map(lambda a, b: RHO * a * b / np.linalg.norm(flat(tg)), t, tg)
  else:
    expected = jax.tree.map(lambda a, b: RHO * a * np.sign(b), t, grads)
  ours = perturbation(grads, params, RHO, norm, adaptive=True, eta=eta)
  chex.assert_trees_all_close(ours, expected, rtol=1e-5, atol=1e-8)
  linear = lambda p: grads
  points, _, _ = visited(sharpness_aware(RHO, norm, adaptive=True, eta=eta), params, linear)
  chex.assert_trees_all_close(points[-1], expected, atol=1e-6)
  # On a linear loss more steps end at the same boundary point.
  points, _, _ = visited(sharpness_aware(RHO, norm, 3, adaptive=True, eta=eta), params, linear)
  chex.assert_trees_all_close(points[-1], expected, atol=1e-6)


def test_ascent_decay_is_an_l2_term_in_the_ascended_loss(problem, loss):
  decayed = lambda p: loss(p, problem.batch) + 0.5 * 0.1 * optax.tree.norm(p, squared=True)
  plain = jax.grad(lambda p: loss(p, problem.batch))
  expected, _, _ = visited(sharpness_aware(RHO, steps=3), problem.params, jax.grad(decayed))
  points, grads, _ = visited(sharpness_aware(RHO, steps=3, ascent_decay=0.1), problem.params, plain)
  chex.assert_trees_all_close(points, expected, atol=1e-6)
  at = moved(problem.params, points[-1])
  chex.assert_trees_all_close(grads, plain(at), atol=1e-6)  # the descent does not see it


def test_random_direction_has_length_rho_and_depends_on_the_key_alone(problem, loss):
  grad = lambda p: jax.grad(loss)(p, problem.batch)
  tx = sharpness_aware(RHO, 'random')
  e = [flat(visited(tx, problem.params, grad, key=jax.random.key(k))[0][0]) for k in (0, 0, 1)]
  np.testing.assert_allclose([np.linalg.norm(x) for x in e], RHO, rtol=1e-5)
  np.testing.assert_array_equal(e[0], e[1])
  assert abs(e[0] @ e[2]) / RHO**2 < 0.5
  other = flat(visited(tx, problem.params, lambda p: p, key=jax.random.key(0))[0][0])
  np.testing.assert_array_equal(e[0], other)


def test_the_radius_follows_its_schedule(problem, loss):
  grad = lambda p: jax.grad(loss)(p, problem.batch)
  tx, state = sharpness_aware(optax.linear_schedule(0.1, 0.3, 2)), None
  lengths = []
  for _ in range(4):
    (e,), _, state = visited(tx, problem.params, grad, state)
    lengths.append(np.linalg.norm(flat(e)))
  np.testing.assert_allclose(lengths, [0.1, 0.2, 0.3, 0.3], rtol=1e-5)


@pytest.mark.parametrize('norm', ['l2', 'linf'])
@pytest.mark.parametrize('steps', [1, 3])
@pytest.mark.parametrize('adaptive', [False, True])
def test_zero_gradient(norm, steps, adaptive, problem):
  zero = lambda p: jax.tree.map(jnp.zeros_like, p)
  tx = sharpness_aware(RHO, norm, steps, adaptive=adaptive)
  points, grads, _ = visited(tx, problem.params, zero)
  assert not flat(points).any()
  assert not flat(grads).any()


def test_tiny_gradients_are_still_normalised():
  params = {'kernel': jnp.zeros(4)}
  e = perturbation({'kernel': jnp.full(4, 1e-11)}, params, RHO)
  np.testing.assert_allclose(np.linalg.norm(flat(e)), RHO, rtol=1e-5)


def test_half_precision_parameters_keep_their_type(problem, loss):
  half = jax.tree.map(lambda w: w.astype(jnp.bfloat16), problem.params)
  grad = lambda p: jax.tree.map(
    lambda g: g.astype(jnp.float32), jax.grad(loss)(p, problem.batch)
  )
  for options in ({}, {'steps': 2, 'adaptive': True}):
    _, grads, _ = visited(sharpness_aware(RHO, **options), half, grad)
    assert {g.dtype for g in jax.tree.leaves(grads)} == {jnp.dtype(jnp.bfloat16)}
  e = perturbation(half, half, RHO)
  assert {x.dtype for x in jax.tree.leaves(e)} == {jnp.dtype(jnp.float32)}


def m_sharpness(problem, loss, norm, steps, parts=4):
  """The mean over parts of the batch of each part's gradient at its own worst point."""
  grads = []
  for i in range(parts):
    part = jax.tree.map(lambda x: jnp.split(x, parts)[i], problem.batch)  # noqa: B023
    grad = functools.partial(jax.grad(loss), batch=part)
    grads.append(visited(sharpness_aware(RHO, norm, steps), problem.params, grad)[1])
  return jax.tree.map(lambda *g: sum(g) / parts, *grads)


def on_devices(step, mode, problem, tx):
  """Parameters after one step on 4 devices, each with a quarter of the batch."""
  state, key = tx.init(problem.params), jax.random.key(0)
  if mode == 'pmap':
    batch = jax.tree.map(lambda x: x.reshape(4, -1, *x.shape[1:]), problem.batch)
    mapped = jax.pmap(step, 'data', in_axes=(None, None, 0, None))
    params, _ = mapped(problem.params, state, batch, key)
    chex.assert_trees_all_close(*[jax.tree.map(lambda x, i=i: x[i], params) for i in range(4)])
    return jax.tree.map(lambda x: x[0], params)
  mapped = jax.shard_map(
    step, mesh=Mesh(np.array(jax.devices()[:4]), ('data',)),
    in_specs=(P(), P(), P('data'), P()), out_specs=(P(), P()), check_vma=False,
  )
  return jax.jit(mapped)(problem.params, state, problem.batch, key)[0]


@pytest.mark.parametrize('mode, norm, steps', [
  ('pmap', 'l2', 1), ('shard_map', 'l2', 3), ('shard_map', 'linf', 1),
])
def test_devices_and_microbatches(problem, loss, make_step, mode, norm, steps):
  assert jax.device_count() >= 4
  link = functools.partial(sharpness_aware, RHO, norm, steps)
  sgd = optax.sgd(1.0)  # the update is the gradient

  def gradient(params):
    return jax.tree.map(jnp.subtract, problem.params, params)

  def on_one(tx):
    step = jax.jit(make_step(tx))
    return gradient(step(problem.params, tx.init(problem.params), problem.batch,
                         jax.random.key(0))[0])

  def on_four(tx):
    return gradient(on_devices(make_step(tx, 'data'), mode, problem, tx))

  synced, own = optax.chain(link(), sgd), optax.chain(link(sync=False), sgd)
  expected = m_sharpness(problem, loss, norm, steps)
  chex.assert_trees_all_close(on_four(own), expected, rtol=1e-4, atol=1e-6)
  chex.assert_trees_all_close(on_four(synced), on_one(synced), rtol=1e-4, atol=1e-6)
  chex.assert_trees_all_close(on_one(own), on_one(synced), rtol=1e-4, atol=1e-6)
  emulated = on_one(optax.chain(link(microbatches=4), sgd))
  chex.assert_trees_all_close(emulated, expected, rtol=1e-4, atol=1e-6)
  assert np.abs(flat(expected) - flat(on_one(synced))).max() > 1e-4  # m does matter


def test_microbatches_on_devices(problem, loss, make_step):
  """2 slices on each of 4 devices are 8 slices of one example."""
  tx = optax.chain(sharpness_aware(RHO, sync=False, microbatches=2), optax.sgd(1.0))
  params = on_devices(make_step(tx, 'data'), 'shard_map', problem, tx)
  grads = jax.tree.map(jnp.subtract, problem.params, params)
  chex.assert_trees_all_close(
    grads, m_sharpness(problem, loss, 'l2', 1, parts=8), rtol=1e-4, atol=1e-6
  )


def test_microbatches_draw_their_own_random_directions(problem):
  """With the identity as gradient, the update is the mean perturbation."""
  tx = sharpness_aware(RHO, 'random', microbatches=4)
  zeros = jax.tree.map(jnp.zeros_like, problem.params)
  identity = lambda p, chunk=None: p
  mean, _ = tx.update(zeros, tx.init(zeros), zeros, grad_fn=identity, key=jax.random.key(0))
  length = np.linalg.norm(flat(mean))
  assert 0.2 * RHO < length < 0.9 * RHO  # RHO / 2 in high dimension; RHO if all were the same


@pytest.mark.parametrize('options, missing', [
  ({}, 'grad_fn'),
  ({'norm': 'random'}, 'key'),
  ({'sync': False}, 'local_grads'),
  ({'sync': False, 'steps': 2}, 'local_grad_fn'),
  ({'sync': False, 'microbatches': 2}, 'local_grad_fn'),
])
def test_missing_extra_arguments_are_named(problem, options, missing):
  tx = sharpness_aware(RHO, **options)
  extra = {'grad_fn': lambda p, chunk=None: p, 'local_grads': problem.params,
           'local_grad_fn': lambda p, chunk=None: p, 'key': jax.random.key(0)}
  tx.update(problem.params, tx.init(problem.params), problem.params, **extra)
  del extra[missing]
  with pytest.raises(ValueError, match=f'{missing}={missing}'):
    tx.update(problem.params, tx.init(problem.params), problem.params, **extra)


@pytest.mark.parametrize('options, message', [
  ({'rho': -1.0}, 'rho must be a number, at least 0'),
  ({'rho': 0, 'norm': 'l_inf'}, "Did you mean 'linf'"),
  ({'rho': 0.1, 'steps': 0}, 'steps must be a whole number, at least 1'),
  ({'rho': 0.1, 'microbatches': 0}, 'microbatches must be'),
  ({'rho': 0.1, 'norm': 'random', 'steps': 2}, 'steps=1'),
])
def test_impossible_arguments(options, message):
  with pytest.raises(ValueError, match=message):
    sharpness_aware(**options)
