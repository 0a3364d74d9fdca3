"""Batch normalisation (Ioffe and Szegedy, 2015, arXiv:1502.03167)."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from jaxdl import parallel


class BatchNorm(nn.Module):
  """Normalises each channel over the batch and all positions, then scales and shifts it.

  The numbers, parameters (`scale`, `bias` [C]) and running statistics (`mean`, `var` [C] in
  `batch_stats`, float32) of `flax.linen.BatchNorm`, with a backward pass in closed form:
  two sums over the batch instead of autodiff's passes through both moments.

  Attributes:
    momentum: weight of the old running statistic in the new one.
    epsilon: added to the variance.
    dtype: of the output; None promotes the input's dtype with the parameters' float32. Statistics
      are computed in float32 whatever it is.
    axis_name: where this axis is mapped (pmap, shard_map, vmap), statistics are averaged over it
      too; None keeps them to the device.
    use_scale: whether to scale.
    use_bias: whether to shift.
    scale_init: initializer of the scale.
    bias_init: initializer of the bias.
  """

  momentum: float = 0.9
  epsilon: float = 1e-5
  dtype: object = None
  axis_name: str | None = None
  use_scale: bool = True
  use_bias: bool = True
  scale_init: nn.initializers.Initializer = nn.initializers.ones
  bias_init: nn.initializers.Initializer = nn.initializers.zeros

  @nn.compact
  def __call__(self, x, *, train: bool):
    """Normalises x.

    Args:
      x: [B, ..., C].
      train: use this batch's statistics and move the running ones; False uses the running ones.

    Returns:
      An array of x's shape.
    """
    shape = (x.shape[-1],)
    running_mean = self.variable('batch_stats', 'mean', jnp.zeros, shape, jnp.float32)
    running_var = self.variable('batch_stats', 'var', jnp.ones, shape, jnp.float32)
    scale = self.param('scale', self.scale_init, shape) if self.use_scale else jnp.ones(shape)
    bias = self.param('bias', self.bias_init, shape) if self.use_bias else jnp.zeros(shape)

    wide = jnp.promote_types(x.dtype, jnp.float32)
    dtype = wide if self.dtype is None else self.dtype
    x, scale, bias = x.astype(wide), scale.astype(wide), bias.astype(wide)
    if not train:
      mean, var = running_mean.value, running_var.value
      return _affine(x, mean, var, scale, bias, self.epsilon).astype(dtype)

    axis_name = self.axis_name if parallel.is_mapped(self.axis_name) else None
    y, mean, var = _normalise(x, scale, bias, self.epsilon, axis_name)
    if not self.is_initializing():
      move = lambda old, new: (self.momentum * old + (1 - self.momentum) * new).astype(old.dtype)
      running_mean.value = move(running_mean.value, mean)
      running_var.value = move(running_var.value, var)
    return y.astype(dtype)


def _affine(x, mean, var, scale, bias, epsilon):
  return (x - mean) * (lax.rsqrt(var + epsilon) * scale) + bias


def _means(axis_name, *arrays):
  """Over everything but channels, and over the mapped axis: [..., C] -> [C], each."""
  means = tuple(x.mean(tuple(range(x.ndim - 1))) for x in arrays)
  return means if axis_name is None else lax.pmean(means, axis_name)


@functools.partial(jax.custom_jvp, nondiff_argnums=(3, 4))
def _normalise(x, scale, bias, epsilon, axis_name):
  """x [..., C] normalised by its own moments, and these: ([..., C], mean [C], variance [C])."""
  mean, square = _means(axis_name, x, jnp.square(x))
  var = jnp.maximum(square - jnp.square(mean), 0)
  return _affine(x, mean, var, scale, bias, epsilon), mean, var


@_normalise.defjvp
def _normalise_jvp(epsilon, axis_name, primals, tangents):
  """The tangent, arranged so that its transpose is the closed-form backward.

  With r = 1/sqrt(var + eps) and z = (x - mean) r the tangent is
  y' = s r (x' - E[x'] - z E[z x']) + s' z + b'. What multiplies 1 and z is added up per channel
  first: reverse mode then takes the sums of dy and of x dy once, for x, scale and bias together.
  All of it is written in x, not in z, which XLA would write to memory for the second sum.
  A custom_jvp, not a custom_vjp, keeps forward mode and Hessian-vector products.
  """
  x, scale, _ = primals
  dx, dscale, dbias = tangents
  y, mean, var = _normalise(*primals, epsilon, axis_name)
  r = lax.rsqrt(var + epsilon)
  dmean, xdx = _means(axis_name, dx, x * dx)
  zdx = r * (xdx - mean * dmean)
  gain = scale * r
  slope = r * (dscale - gain * zdx)
  dy = gain * dx + x * slope + (dbias - gain * dmean - mean * slope)
  return (y, mean, var), (dy, dmean, 2 * zdx / r)
