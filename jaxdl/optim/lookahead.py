"""Lookahead: every few updates the weights are pulled back to a slow average of themselves."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdl.core import Array, PyTree


class LookaheadState(NamedTuple):
  """The slow weights.

  Attributes:
    count: int32 scalar, updates done.
    slow: float32, shaped like the parameters.
  """

  count: Array
  slow: PyTree


def lookahead(
  total_steps: int, every: int = 5, decay: float = 0.95**5, power: float = 3.0
) -> optax.GradientTransformationExtraArgs:
  """After every `every`-th update t: slow <- d slow + (1 - d) w, then w <- slow.

  Zhang et al. 2019 (arXiv 1907.08610), with the schedule of Jordan 2024 (arXiv 2404.00498), section
  3.4: d = decay (t / total_steps)^power, from no memory at the start to a long average at the
  end. After the last update w <- slow. Must be the last link of a chain, so that the updates it
  sees are the ones applied. Weights that do not move are left exactly as they are. Batch
  statistics are no parameters and follow the weights at their own pace.

  Args:
    total_steps: length of the run.
    every: updates between two pulls.
    decay: d at the end, in [0, 1).
    power: of the schedule.

  Raises:
    ValueError: an argument out of range, or `params` missing in the update.
  """
  if total_steps < 1 or every < 1 or not 0 <= decay < 1:
    raise ValueError(
      'lookahead needs total_steps >= 1, every >= 1 and a decay in [0, 1), got '
      f'{total_steps}, {every}, {decay}.'
    )

  def init(params):
    # A copy: the state is donated together with the parameters, and no buffer may be given twice.
    slow = jax.tree.map(lambda w: jnp.array(w, jnp.float32, copy=True), params)
    return LookaheadState(jnp.zeros((), jnp.int32), slow)

  def update(updates, state, params=None, **extra):
    del extra
    if params is None:
      raise ValueError('lookahead moves the parameters: call tx.update(grads, opt_state, params).')
    count = optax.safe_increment(state.count)
    d = decay * jnp.minimum(count / total_steps, 1.0) ** power
    share = jnp.where(count % every == 0, 1 - d, 0.0)
    pull = (count % every == 0) | (count == total_steps)
    # From the difference, not a weighted mean: equal numbers stay equal.
    slow = jax.tree.map(
      lambda s, w, u: s + share * ((w + u).astype(jnp.float32) - s), state.slow, params, updates
    )
    updates = jax.tree.map(
      lambda s, w, u: jnp.where(pull, s.astype(w.dtype) - w, u), slow, params, updates
    )
    return updates, LookaheadState(count, slow)

  return optax.GradientTransformationExtraArgs(init, update)
