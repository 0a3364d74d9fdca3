"""Test-time augmentation: the network's answer averaged over views of each image."""

import jax.numpy as jnp
from jax import lax

from jaxdl.core import Model

# (weight, rows down, columns right) of each translation; every one is also seen mirrored.
CENTRE = ((1.0, 0, 0),)
DIAGONAL = ((0.5, 0, 0), (0.25, -1, -1), (0.25, 1, 1))


def with_views(model: Model, shifts=DIAGONAL, mirror: bool = True) -> Model:
  """The model whose logits in eval mode are a weighted mean over views of the image.

  Jordan 2024 (arXiv 2404.00498), section 3.5: half of the weight on the image, a quarter each on
  its translations by one pixel up and left, and down and right; each half as it is, half mirrored.
  Edges are reflected. Made for `jaxdl.train.evaluate.predict`: keep the returned model, since what
  was compiled is kept for it.

  Args:
    model: outputs `(logits, features)`.
    shifts: (weight, pixels down, pixels right) each; the weights sum to 1.
    mirror: whether every view is also seen mirrored.

  Returns:
    A `Model`; `apply` gives `((logits [B, K], {}), model_state)` and evaluates only.

  Raises:
    ValueError: the weights do not sum to 1; from `apply`, `train=True`.
  """
  if abs(sum(weight for weight, *_ in shifts) - 1) > 1e-6:
    raise ValueError(f'The weights of the views must sum to 1, got {shifts}.')
  weights = [w for w, *_ in shifts]
  weights = [w / 2 for w in weights for _ in range(2)] if mirror else weights

  def apply(params, model_state, x, *, train=False, key=None):
    if train:
      raise ValueError('Test-time augmentation is for evaluation: train must be False.')
    views = []
    for _, down, right in shifts:
      view = translate(x, down, right)
      views += [view, view[:, :, ::-1]] if mirror else [view]
    (logits, _), _ = model.apply(params, model_state, jnp.concatenate(views), key=key)
    logits = logits.reshape(len(views), len(x), -1)
    return (jnp.tensordot(jnp.asarray(weights), logits, 1, precision='highest'), {}), model_state

  return Model(model.init, apply)


def translate(x, down: int, right: int):
  """Moves the content of images [B, H, W, C] by whole pixels; what enters is reflected."""
  pad = max(abs(down), abs(right))
  if pad == 0:
    return x
  padded = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode='reflect')
  return lax.dynamic_slice(padded, (0, pad - down, pad - right, 0), x.shape)
