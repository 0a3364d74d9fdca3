"""Kernels held at a fixed norm."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxdl.optim.leaves import is_kernel


def fixed_norm(labels: Any = None) -> optax.GradientTransformationExtraArgs:
  """Rescales every kernel [..., O] to norm sqrt(O) before the update is added.

  The weight, not the update: w <- sqrt(O) w / ||w|| + u. Before batch normalisation only the
  direction of a kernel matters; fixing its length keeps the size of a step of given length the
  same in angle all along (the Muon speed run, github.com/KellerJordan/cifar10-airbench, does so).

  Args:
    labels: tree of bool like the parameters, or a function params -> such a tree: which to hold;
      default every kernel with at least two axes.

  Raises:
    ValueError: `params` missing in the update.
  """

  def init(params):
    del params
    return optax.EmptyState()

  def update(updates, state, params=None, **extra):
    del extra
    if params is None:
      raise ValueError('fixed_norm rescales the parameters: call tx.update(grads, state, params).')
    held = labels(params) if callable(labels) else labels
    if held is None:
      held = jax.tree_util.tree_map_with_path(
        lambda path, w: is_kernel(path) and jnp.ndim(w) > 1, params
      )

    def one(u, w, hold):
      if not hold:
        return u
      norm = jnp.linalg.norm(w.astype(jnp.float32).ravel())
      # A kernel of zeros has no direction to keep.
      factor = jnp.where(norm > 0, jnp.sqrt(w.shape[-1]) / jnp.where(norm > 0, norm, 1), 1.0)
      return u + ((factor - 1) * w).astype(u.dtype)

    return jax.tree.map(one, updates, params, held), state

  return optax.GradientTransformationExtraArgs(init, update)
