"""The step: optax's contract, batch statistics of the clean pass, keys, subtrees, devices."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny

from jaxdl.core import Output, TrainState, init_state
from jaxdl.objectives import supervised
from jaxdl.train.step import alternate, grad_step


def batch_of(n=8, seed=1):
  s = tiny.split(n, seed)
  return {'image': jnp.asarray(s.images, jnp.float32) / 255, 'label': jnp.asarray(s.labels)}


def test_equals_a_hand_written_sgd_step():
  init, step, _, model = tiny.setup({'name': 'sgd', 'lr': 0.1})
  state, batch = init(), batch_of()

  def loss(params):
    (logits, _), new = model.apply(params, state.model_state, batch['image'], train=True)
    log_p = jax.nn.log_softmax(logits)
    return -log_p[jnp.arange(8), batch['label']].mean(), new

  (value, new_state), grads = jax.value_and_grad(loss, has_aux=True)(state.params)
  after, metrics = jax.jit(step)(state, batch)
  expected = jax.tree.map(lambda p, g: p - 0.1 * g, state.params, grads)
  chex.assert_trees_all_close(after.params, expected, rtol=1e-5, atol=1e-6)
  chex.assert_trees_all_close(after.model_state, new_state, rtol=1e-5)
  np.testing.assert_allclose(metrics['loss'], value, rtol=1e-5)
  assert int(after.step) == 1


def test_batch_statistics_come_from_the_clean_pass_under_sam():
  plain = tiny.setup({'name': 'sgd', 'lr': 0.1})
  sam = tiny.setup({'name': 'sgd', 'lr': 0.1, 'perturbation': {'name': 'sam', 'rho': 0.5}})
  one, _ = jax.jit(plain[1])(plain[0](), batch_of())
  two, _ = jax.jit(sam[1])(sam[0](), batch_of())
  chex.assert_trees_all_equal(one.model_state, two.model_state)
  with pytest.raises(AssertionError):
    chex.assert_trees_all_close(one.params, two.params, rtol=1e-4)


def test_extra_arguments_reach_the_chain_and_chunks_are_slices():
  seen = {}

  def update(updates, state, params=None, *, value, key, grad_fn, local_grads, local_grad_fn, **_):
    full, halves = grad_fn(params), [grad_fn(params, chunk=(i, 2)) for i in range(2)]
    seen.update(value=value, key=key, full=full, halves=halves, own=local_grad_fn(params))
    seen.update(updates=updates, local=local_grads)
    return updates, state

  tx = optax.GradientTransformationExtraArgs(lambda p: optax.EmptyState(), update)
  model = tiny.setup(norm=False)[3]
  state = init_state(model.init, tx, jax.random.key(0), jnp.zeros((1, 4, 4, 1)))
  grad_step(supervised(model.apply), tx)(state, batch_of())
  chex.assert_trees_all_close(seen['full'], seen['updates'], rtol=1e-6)
  chex.assert_trees_all_close(seen['own'], seen['local'], rtol=1e-6)
  mean = jax.tree.map(lambda a, b: (a + b) / 2, *seen['halves'])
  chex.assert_trees_all_close(mean, seen['full'], rtol=1e-4, atol=1e-6)
  assert np.isfinite(seen['value'])
  assert jax.dtypes.issubdtype(seen['key'].dtype, jax.dtypes.prng_key)


def test_chunks_must_divide_the_batch():
  sam = {'name': 'sam', 'rho': 1.0, 'microbatches': 3}
  init, step, *_ = tiny.setup({'name': 'sgd', 'lr': 0.1, 'perturbation': sam})
  with pytest.raises(ValueError, match='8 examples cannot be cut into 3'):
    step(init(), batch_of())


def test_no_gradient_flows_through_the_transform_and_it_sees_the_step():
  scale = lambda params, model_state, batch, key, frozen: {
    **batch, 'image': batch['image'] * params['hidden']['kernel'].sum() + batch['step']
  }
  fixed = lambda params, model_state, batch, key, frozen: {
    **batch, 'image': batch['image'] * frozen + batch['step']
  }
  init, step, *_ = tiny.setup({'name': 'sgd', 'lr': 0.1}, transform=scale)
  other = tiny.setup({'name': 'sgd', 'lr': 0.1}, transform=fixed)[1]
  state = init().replace(step=jnp.asarray(3))
  total = state.params['hidden']['kernel'].sum()
  chex.assert_trees_all_close(
    step(state, batch_of())[0].params, other(state, batch_of(), total)[0].params, rtol=1e-6
  )


def test_keys_differ_by_step_and_are_a_function_of_it():
  init, step, *_ = tiny.setup({'name': 'sgd', 'lr': 0.0}, dropout=0.5, norm=False)
  step, state = jax.jit(step), init()
  later = state.replace(step=jnp.asarray(7, jnp.int32))
  losses = [float(step(s, batch_of())[1]['loss']) for s in (state, later, state)]
  assert losses[0] == losses[2] != losses[1]


def two_players():
  noise = lambda key: jax.random.normal(key, ())

  def game(params, model_state, batch, key, frozen):
    loss = (params['a'] - params['b']) ** 2
    return loss, Output(model_state, {'noise': noise(key)})

  txs = {'a': optax.sgd(0.1), 'b': optax.sgd(0.2)}
  params = {'a': jnp.asarray(1.0), 'b': jnp.asarray(3.0)}
  opt = {k: tx.init(params[k]) for k, tx in txs.items()}
  state = TrainState(jnp.asarray(0, jnp.int32), params, {}, opt, jax.random.key(0))
  return state, alternate(**{k: grad_step(game, tx, wrt=k) for k, tx in txs.items()})


def test_alternate_moves_each_subtree_in_turn_and_counts_once():
  state, step = two_players()
  after, metrics = jax.jit(step)(state, {'image': jnp.zeros((2, 1))})
  a = 1.0 - 0.1 * 2 * (1.0 - 3.0)
  b = 3.0 - 0.2 * 2 * (3.0 - a)
  np.testing.assert_allclose([after.params['a'], after.params['b']], [a, b], rtol=1e-6)
  assert int(after.step) == 1
  assert metrics['a/noise'] != metrics['b/noise']
  assert jax.random.key_data(after.key).tolist() == jax.random.key_data(state.key).tolist()
