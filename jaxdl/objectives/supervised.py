"""Learning from labels."""

import jax.numpy as jnp

from jaxdl.core import Apply, Loss, Objective, Output
from jaxdl.losses.classification import correct, cross_entropy


def supervised(apply: Apply, loss: Loss = cross_entropy) -> Objective:
  """The mean over the batch of `loss(logits [B, K], labels) -> [B]`.

  Args:
    apply: `Model.apply`, whose outputs are `(logits, features)`.
    loss: per-example loss; labels are int [B] or soft [B, K].
  """

  def objective(params, model_state, batch, key, frozen):
    (logits, _), model_state = apply(params, model_state, batch['image'], train=True, key=key)
    losses = loss(logits, batch['label'])
    return jnp.mean(losses), Output(model_state, {'accuracy': correct(logits, batch['label'])})

  return objective
