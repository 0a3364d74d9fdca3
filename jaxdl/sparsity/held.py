"""Pruned weights that stay at values of their own instead of at zero: mask-0 actions.

Zhou et al. 2019, Deconstructing Lottery Tickets (arXiv 1905.01067): a pruned weight frozen at its
initial value does harm, frozen at zero where training moved it towards zero it does not; so zero is
a good value because masks choose weights that were on their way there ("masking is training").
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.core import Model, PyTree

HELD = 'held'  # where the values of the pruned weights lie in the model state


@functools.lru_cache(maxsize=16)
def held(model: Model) -> Model:
  """A network whose weights are its parameters plus `model_state['held']`.

  Trained inside a mask the parameters are zero wherever the weights are held, and the held values
  zero elsewhere: neither the optimizer nor weight decay reaches what is held. The same model gives
  the same object, so that all runs share what was compiled.
  """

  def init(key, x):
    params, state = model.init(key, x)
    return params, {**state, HELD: jax.tree.map(jnp.zeros_like, params)}

  def apply(params, model_state, x, *, train=False, key=None):
    values = model_state[HELD]
    state = {name: value for name, value in model_state.items() if name != HELD}
    weights = jax.tree.map(jnp.add, params, values)
    outputs, state = model.apply(weights, state, x, train=train, key=key)
    return outputs, {**state, HELD: values}

  return Model(init, apply)


def split(weights: PyTree, mask: PyTree) -> tuple[PyTree, PyTree]:
  """(what is trained, what is held): the weights inside and outside the mask, zero elsewhere."""
  inside = jax.tree.map(lambda w, m: jnp.where(m, w, jnp.zeros_like(w)), weights, mask)
  return inside, jax.tree.map(jnp.subtract, weights, inside)


def _action(zero):
  """Weights from initial and final ones: zero where `zero(shrunk, pruned, generator)` says so."""

  def weights(initial, final, mask, allowed, key):
    generator = np.random.default_rng(np.asarray(jax.random.key_data(key)))

    def of_layer(i, f, m, a):
      if not a:
        return i
      shrunk = np.abs(np.asarray(f)) < np.abs(np.asarray(i))
      return jnp.where(zero(shrunk, ~np.asarray(m, bool), generator), jnp.zeros_like(i), i)

    return jax.tree.map(of_layer, initial, final, mask, allowed)

  return weights


def _scattered(shrunk, pruned, generator):
  """As many of the pruned weights as have shrunk, others."""
  chosen = np.flatnonzero(pruned)
  out = np.zeros(shrunk.shape, bool)
  out.flat[generator.permutation(chosen)[: np.count_nonzero(shrunk & pruned)]] = True
  return out


# Mask-0 actions: name -> (initial, final, mask, allowed, key) -> weights, for `split`.
# A weight has shrunk where training made its magnitude smaller. The action of the lottery ticket,
# all pruned weights at zero, is plain training inside the mask and needs none of these.
ACTIONS = {
  'frozen': _action(lambda shrunk, pruned, _: np.zeros_like(shrunk)),
  'frozen_zero_if_shrunk': _action(lambda shrunk, pruned, _: pruned & shrunk),
  'frozen_zero_if_grown': _action(lambda shrunk, pruned, _: pruned & ~shrunk),
  'frozen_zero_random': _action(_scattered),
  'zero_if_shrunk': _action(lambda shrunk, pruned, _: shrunk),  # kept weights start at zero too
}
