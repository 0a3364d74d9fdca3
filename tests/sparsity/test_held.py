"""Pruned weights that are held: what each action makes of them, and that nothing moves them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl.core import bind, init_state
from jaxdl.models.mlp import MLP
from jaxdl.objectives import supervised
from jaxdl.optim import build
from jaxdl.sparsity import held, masks
from jaxdl.train.step import grad_step

INITIAL = {'kernel': jnp.array([0.5, -0.4, 0.3, -0.2, 0.1, -0.6]), 'bias': jnp.array([0.7])}
FINAL = {'kernel': jnp.array([0.6, 0.1, 0.2, -0.7, -0.8, -0.5]), 'bias': jnp.array([0.1])}
MASK = {'kernel': jnp.array([1, 0, 1, 0, 0, 0], bool), 'bias': jnp.array([True])}
ALLOWED = {'kernel': True, 'bias': False}
# Training shrank weights 1, 2 and 5; 0 and 2 are kept.
WANTED = {
  'frozen': [0.5, -0.4, 0.3, -0.2, 0.1, -0.6],
  'frozen_zero_if_shrunk': [0.5, 0, 0.3, -0.2, 0.1, 0],
  'frozen_zero_if_grown': [0.5, -0.4, 0.3, 0, 0, -0.6],
  'zero_if_shrunk': [0.5, 0, 0, -0.2, 0.1, 0],
}


@pytest.mark.parametrize('name', held.ACTIONS)
def test_actions(name):
  new = held.ACTIONS[name](INITIAL, FINAL, MASK, ALLOWED, jax.random.key(0))
  w, first = np.asarray(new['kernel']), np.asarray(INITIAL['kernel'])
  np.testing.assert_array_equal(new['bias'], INITIAL['bias'])
  if name in WANTED:
    np.testing.assert_array_equal(w, np.float32(WANTED[name]))
    return
  zeros = [
    tuple(np.flatnonzero(held.ACTIONS[name](INITIAL, FINAL, MASK, ALLOWED, jax.random.key(i))
                         ['kernel'] == 0)) for i in range(8)
  ]
  assert name == 'frozen_zero_random' and len(set(zeros)) > 2
  assert all(len(at) == 2 and set(at) <= {1, 3, 4, 5} for at in zeros)
  assert (w[w != 0] == first[w != 0]).all()


def test_split_is_inside_and_outside():
  inside, outside = held.split(INITIAL, MASK)
  np.testing.assert_array_equal(inside['kernel'], np.float32([0.5, 0, 0.3, 0, 0, 0]))
  np.testing.assert_array_equal(outside['kernel'], np.float32([0, -0.4, 0, -0.2, 0.1, -0.6]))
  np.testing.assert_array_equal(outside['bias'], [0])


def test_nothing_moves_what_is_held_and_the_rest_trains_around_it():
  """The oracle trains the whole network by plain SGD and puts the held weights back every time."""
  plain = bind(MLP(3, hidden=(5,)))
  assert held.held(plain) is held.held(plain)
  model = held.held(plain)
  draw = np.random.default_rng(0)
  batch = {'image': jnp.asarray(draw.random((8, 2, 2, 1)), jnp.float32),
           'label': jnp.asarray(draw.integers(0, 3, 8))}
  tx = build({'lr': 0.5, 'momentum': 0.9}, 4, masked=True)
  state = init_state(model.init, tx, jax.random.key(0), batch['image'])
  whole = state.params
  leaves, treedef = jax.tree.flatten(whole)
  mask = treedef.unflatten([jnp.asarray(draw.random(w.shape) < 0.5) for w in leaves])
  inside, values = held.split(whole, mask)
  state = state.replace(params=inside, model_state={**state.model_state, held.HELD: values})
  step = jax.jit(grad_step(supervised(model.apply), tx))
  loss = supervised(plain.apply)
  grad = jax.jit(jax.grad(lambda p: loss(p, {}, batch, None, None)[0]))
  velocity = jax.tree.map(jnp.zeros_like, whole)
  for _ in range(4):
    state, _ = step(state, batch, {'mask': mask})
    velocity = jax.tree.map(lambda v, g: 0.9 * v + g, velocity, grad(whole))
    whole = jax.tree.map(lambda w, v, m: jnp.where(m, w - 0.5 * v, w), whole, velocity, mask)
  jax.tree.map(np.testing.assert_array_equal, state.model_state[held.HELD], values)
  assert masks.occupancy(state.params, mask)['revived'] == 0
  ours = jax.tree.map(jnp.add, state.params, values)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), ours, whole)
  logits = jax.jit(model.apply)(state.params, state.model_state, batch['image'])[0][0]
  wanted = jax.jit(plain.apply)(whole, {}, batch['image'])[0][0]
  np.testing.assert_allclose(logits, wanted, rtol=1e-4, atol=1e-5)
