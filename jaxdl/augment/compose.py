"""Transforms in a row."""

import jax

from jaxdl.core import BatchTransform


def compose(*transforms: BatchTransform) -> BatchTransform:
  """Applies transforms from left to right, each with its own key (folded with its position).

  Without any, the identity.
  """

  def transform(params, model_state, batch, key, frozen):
    for i, t in enumerate(transforms):
      batch = t(params, model_state, batch, jax.random.fold_in(key, i), frozen)
    return batch

  return transform
