"""Symmetric uniform post-training quantisation of weights."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from jaxdl.optim.leaves import is_kernel

_CLIPS = ('max', 'mse')
# Ternary Gaussian weights are best clipped near a fifth of the maximum of a large tensor.
_FRACTIONS = 100


def quantize_params(params, bits, per_channel=False, clip='max'):
  """Rounds every kernel to `2**bits - 1` levels; the rest stays in float.

  Kernels (`jaxdl.optim.leaves.is_kernel`) include the first and the last layer. They are quantised
  before any folding of BatchNorm; BatchNorm, biases and activations stay in float32. The result
  is dequantised: float values on the grid, so that the model runs as before.

  Args:
    params: parameter tree.
    bits: 2 to 16, a number or a traced scalar.
    per_channel: one scale for each output channel (a kernel's last axis), else one for a tensor.
    clip: 'max' (nothing is clipped) or 'mse' (the clipping point with the least squared error).

  Returns:
    (params, report). The report's scalars, over all kernels:
      half_step: the largest scale / 2. With clip 'max' no weight moved farther: the rounding is a
        perturbation inside the L-infinity ball of this radius.
      max_error: the largest change of a weight.
      relative_error: ||w_q - w|| / ||w||.

  Raises:
    ValueError: bits out of range, an unknown clip, or no kernel among the parameters.
  """
  if not isinstance(bits, jax.core.Tracer) and not 2 <= bits <= 16:
    raise ValueError(f'bits is {bits}: pass 2 to 16.')
  if clip not in _CLIPS:
    raise ValueError(f'clip is {clip!r}: pass one of {_CLIPS}.')
  if not any(is_kernel(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)):
    raise ValueError("No kernel among the parameters: pass the parameters of a Flax model.")
  return _quantize_params(params, bits, per_channel=per_channel, clip=clip)


@functools.partial(jax.jit, static_argnames=('per_channel', 'clip'))
def _quantize_params(params, bits, *, per_channel, clip):
  leaves, treedef = jax.tree_util.tree_flatten_with_path(params)
  quantized, scales, errors, norms = [], [], [], []
  for path, w in leaves:
    if not is_kernel(path):
      quantized.append(w)
      continue
    rounded, scale = quantize(w, bits, per_channel, clip)
    quantized.append(rounded)
    scales.append(scale.max())
    errors.append((rounded - w).ravel())
    norms.append(jnp.sum(w**2))
  squared = sum(jnp.sum(e**2) for e in errors)
  norm = jnp.sqrt(sum(norms))
  report = {
    'half_step': jnp.stack(scales).max() / 2,
    'max_error': jnp.stack([jnp.abs(e).max() for e in errors]).max(),
    'relative_error': jnp.sqrt(squared) / jnp.where(norm > 0, norm, 1),
  }
  return jax.tree.unflatten(treedef, quantized), report


def quantize(w, bits, per_channel=False, clip='max'):
  """One tensor on a symmetric uniform grid: `s * clip(round(w / s), -q, q)`, q = 2^(bits-1) - 1.

  The scale is `s = max|w| / q`, or with clip 'mse' the fraction of it (hundredths) that has the
  least squared error.

  Args:
    w: float array, its last axis counts output channels.
    bits: 2 or more, a number or a traced scalar.
    per_channel: one scale for each output channel.
    clip: 'max' or 'mse'.

  Returns:
    (w on the grid, scale): the scale is positive, of shape [1, ..., 1, C] or [1, ..., 1]; a tensor
    or channel of zeros stays zero, with scale 0.
  """
  axes = tuple(range(w.ndim - 1 if per_channel else w.ndim))
  levels = 2.0 ** (jnp.asarray(bits, w.dtype) - 1) - 1
  widest = jnp.max(jnp.abs(w), axes, keepdims=True) / levels

  def on_grid(scale):
    unit = jnp.where(scale > 0, scale, 1)
    return jnp.clip(jnp.round(w / unit), -levels, levels) * scale

  if clip == 'max':
    return on_grid(widest), widest

  error = lambda fraction: jnp.sum((on_grid(fraction * widest) - w) ** 2, axes, keepdims=True)
  fractions = jnp.arange(_FRACTIONS, 0, -1, dtype=w.dtype) / _FRACTIONS
  best = jnp.argmin(lax.map(error, fractions, batch_size=4), 0)
  scale = fractions[best] * widest
  return on_grid(scale), scale
