"""Be surer of what one has always known: examples ordered by how often they were right."""

import jax
import jax.numpy as jnp
from jax import lax

from jaxdl import parallel
from jaxdl.core import Model, Objective, Output
from jaxdl.options import check_number

HISTORY = 'history'  # of the model state: {'right', 'seen'}, float32 [N], counts for each example
_SAID = 'said'  # the logits of this batch; only between the forward pass and the loss


def with_history(model: Model, examples: int) -> Model:
  """A classifier whose model state also counts how often each training example was right.

  What `apply` computes is the network's own. In training it puts the logits of the batch beside the
  counts; `ranked` reads both, counts on, and takes the logits away again.

  Args:
    model: its outputs are `(logits, features)`.
    examples: N, of the training split.
  """
  check_number('The number of examples', examples, 1, whole=True)

  def init(key, x):
    params, model_state = model.init(key, x)
    return params, {**model_state, HISTORY: {k: jnp.zeros(examples) for k in ('right', 'seen')}}

  def apply(params, model_state, x, *, train=False, key=None):
    own = {name: values for name, values in model_state.items() if name != HISTORY}
    outputs, own = model.apply(params, own, x, train=train, key=key)
    if not train:
      return outputs, model_state
    return outputs, {**own, HISTORY: {**model_state[HISTORY], _SAID: outputs[0]}}

  return Model(init, apply)


def ranked(objective: Objective, weight: float = 1.0) -> Objective:
  """The objective, and `weight` times the loss of the order of confidences in the batch.

  After Moon et al. 2020 (arXiv:2007.01687, section 3.2): what was right more often so far should be
  answered with more confidence. With h_i the share of its visits at which example i was right, k_i
  the largest probability that it gets, the term is the mean of softplus(k_j - k_i) over all pairs
  of the batch, weighted by max(h_i - h_j, 0); the paper takes a hinge, and neighbours in the batch
  only. Where no pair differs, as in the first epoch, it is 0. On several devices each orders its
  own part of the batch.

  Args:
    objective: any whose `apply` is that of `with_history`.
    weight: >= 0.
  """
  check_number('weight', weight, 0)

  def with_order(params, model_state, batch, key, frozen):
    loss, out = objective(params, model_state, batch, key, frozen)
    history = dict(out.model_state[HISTORY])
    logits, index, label = history.pop(_SAID), batch['index'], batch['label']
    order = order_loss(jax.nn.softmax(logits.astype(jnp.float32)).max(-1),
                       history['right'][index] / jnp.maximum(history['seen'][index], 1))
    # The state is averaged over devices, of which each sees other examples.
    _, devices = parallel.part()
    right = (logits.argmax(-1) == label).astype(jnp.float32)
    counted = {
      'right': history['right'].at[index].add(devices * right),
      'seen': history['seen'].at[index].add(devices * jnp.ones_like(right)),
    }
    model_state = {**out.model_state, HISTORY: lax.stop_gradient(counted)}
    return loss + weight * order, Output(model_state, {**out.metrics, 'loss/order': order})

  return with_order


def order_loss(confidence, history):
  """The mean of softplus(k_j - k_i) over pairs, weighted by max(h_i - h_j, 0): a scalar.

  Args:
    confidence: k, float [B].
    history: h, float [B] in [0, 1]; no gradient.
  """
  ahead = lax.stop_gradient(jnp.maximum(history[:, None] - history, 0.0))
  losses = jax.nn.softplus(confidence - confidence[:, None])
  return jnp.sum(ahead * losses) / jnp.maximum(jnp.sum(ahead), 1e-12)
