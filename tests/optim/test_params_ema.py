import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdl.core import TrainState
from jaxdl.optim.params_ema import ema_params, params_ema, with_ema_params

PARAMS = {'a': {'kernel': jnp.array([1.0, -2.0])}, 'b': jnp.array(3.0)}


@pytest.mark.parametrize('warmup', [False, True])
def test_equals_the_recursion_in_numpy(warmup):
  tx = optax.chain(optax.sgd(0.1, momentum=0.9), params_ema(0.8, warmup))
  plain = optax.sgd(0.1, momentum=0.9)
  params, state = PARAMS, tx.init(PARAMS)
  expected_params, plain_state = PARAMS, plain.init(PARAMS)
  expected = jax.tree.map(np.float64, PARAMS)
  for t in range(20):
    updates, state = tx.update(params, state, params)
    params = optax.apply_updates(params, updates)
    updates, plain_state = plain.update(expected_params, plain_state, expected_params)
    expected_params = optax.apply_updates(expected_params, updates)
    d = min(0.8, (1 + t) / (10 + t)) if warmup else 0.8
    expected = jax.tree.map(lambda a, w: d * a + (1 - d) * np.float64(w), expected, params)  # noqa: B023
  chex.assert_trees_all_equal(params, expected_params)
  chex.assert_trees_all_close(ema_params(state), expected, rtol=1e-5)


def test_closed_form_for_a_constant_step():
  """w_t = w_0 - t gives an average of w_t + d / (1 - d) * (1 - d^t)."""
  tx = optax.chain(optax.sgd(1.0), params_ema(0.9))
  params, state = PARAMS, tx.init(PARAMS)
  chex.assert_trees_all_equal(ema_params(state), PARAMS)
  ones = jax.tree.map(jnp.ones_like, PARAMS)
  for _ in range(30):
    updates, state = tx.update(ones, state, params)
    params = optax.apply_updates(params, updates)
  lag = 0.9 / 0.1 * (1 - 0.9**30)
  chex.assert_trees_all_close(ema_params(state), jax.tree.map(lambda w: w + lag, params), rtol=1e-5)


def test_is_found_in_nested_states_and_only_when_unique():
  inner = optax.chain(optax.adam(0.1), optax.chain(params_ema(0.5)))
  nested = {'gen': inner.init(PARAMS), 'disc': optax.sgd(0.1).init(PARAMS)}
  chex.assert_trees_all_equal(ema_params(nested), PARAMS)
  with pytest.raises(ValueError, match='0 parameter averages'):
    ema_params(nested['disc'])
  with pytest.raises(ValueError, match='2 parameter averages'):
    ema_params([nested['gen'], nested['gen']])


def test_swap_for_evaluation_and_donation_of_the_whole_state():
  half = jax.tree.map(lambda w: w.astype(jnp.bfloat16), PARAMS)
  tx = optax.chain(optax.sgd(1.0), params_ema(0.75))
  init = lambda p: TrainState(jnp.int32(0), p, {}, tx.init(p), jax.random.key(0))

  def step(state):
    updates, opt_state = tx.update(state.params, state.opt_state, state.params)
    return state.replace(params=optax.apply_updates(state.params, updates), opt_state=opt_state)

  step = jax.jit(step, donate_argnums=0)
  state = step(init(jax.tree.map(jnp.array, half)))  # eager: w and its average are two buffers
  swapped = with_ema_params(state)
  chex.assert_trees_all_equal(swapped.params, jax.tree.map(lambda w: 0.75 * w, half))
  chex.assert_trees_all_equal_dtypes(swapped.params, half)
  assert {x.dtype for x in jax.tree.leaves(ema_params(state.opt_state))} == {jnp.dtype('float32')}
  assert swapped.opt_state is state.opt_state
  step(step(jax.jit(init)(PARAMS)))


def test_errors():
  with pytest.raises(ValueError, match='at least 0 and below 1'):
    params_ema(1.0)
  tx = params_ema(0.9)
  with pytest.raises(ValueError, match='averages the parameters'):
    tx.update(PARAMS, tx.init(PARAMS))
