"""What a trained quantizer does to each layer, as plain numbers."""

import functools
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from jaxdl.core import PyTree
from jaxdl.layers.lq import INPUT, KERNEL
from jaxdl.quantization import lq
from jaxdl.quantization.tree import kernels, layers

_STEPS = 100  # alternations of a fit


def seen_values(module: nn.Module, params: PyTree, model_state: PyTree, x):
  """What the quantised layers compute with on the inputs x, in evaluation mode.

  Args:
    module: the network.
    x: normalised images [B, H, W, C].

  Returns:
    (kernels, inputs): name of the layer -> array, each as far as it is quantised.
  """
  apply = jax.jit(functools.partial(module.apply, train=False, mutable=['intermediates']))
  _, kept = apply({'params': params, **model_state}, x)
  flat = flatten_dict(kept.get('intermediates', {}), sep='/')
  return tuple(
    {k.removesuffix(f'/{key}'): np.asarray(v[0]) for k, v in sorted(flat.items())
     if k.endswith(f'/{key}')}
    for key in (KERNEL, INPUT)
  )


def survey(module, params, model_state, x, names: Sequence[str], fit_bits: Sequence[int]) -> dict:
  """How far quantised weights are from the float ones, and how the codes are used.

  Args:
    module, params, model_state, x: see `seen_values`.
    names: of the layers to look at; they may be in float.
    fit_bits: bits to fit LQ and uniform quantizers with to the same float kernels.

  Returns:
    name -> `error`: squared error of the trained quantizer, over the weights' own
    square; `fits`: bits -> (LQ's, uniform's) the same after QEM on the weights as they are;
    `entropy`: bits of information in a weight's code, the mean over channels; `input_entropy`: the
    same of an input; `ratios`: v_{j+1} / v_j of the bases, see `ratios`.
  """
  quantised, inputs = seen_values(module, params, model_state, x)
  bases, out = layers(params, model_state), {}
  floats = kernels(params)
  for name in names:
    kernel = floats[name]
    entry = {'fits': {str(b): fit_errors(kernel, b) for b in fit_bits}}
    if name in quantised:
      entry['error'] = relative_error(kernel, quantised[name])
      channels = quantised[name].reshape(-1, kernel.shape[-1]).T
      entry['entropy'] = float(np.mean([entropy(channel) for channel in channels]))
    if name in inputs:
      entry['input_entropy'] = entropy(inputs[name])
    if name in bases:
      entry['ratios'] = ratios(bases[name].basis)
    out[name] = entry
  return out


def relative_error(kernel, quantised) -> float:
  """||q - w||^2 / ||w||^2, 0 for a kernel of zeros."""
  square = float(np.square(kernel, dtype=np.float64).sum())
  return float(np.square(quantised - kernel, dtype=np.float64).sum()) / square if square else 0.0


def entropy(values) -> float:
  """Of how often each value occurs, in bits."""
  p = np.unique(values, return_counts=True)[1] / np.size(values)
  return float(-(p * np.log2(p)).sum())


def ratios(basis) -> list[list[float]]:
  """For each j, v_{j+1} / v_j of the channels of a basis [C, K], by size and of bits in use; 2 is a
  linear quantizer. A channel of fewer bits lacks the first ones."""
  ordered = np.sort(np.abs(basis), -1)
  return [
    (large[small > 0] / small[small > 0]).round(4).tolist()
    for small, large in zip(ordered.T[:-1], ordered.T[1:], strict=True)
  ]


def fit_errors(kernel, bits: int) -> tuple[float, float]:
  """Relative squared error of (LQ, uniform) quantizers fitted to a kernel, from one start."""
  fits = (fitted(kernel, bits, uniform)[1] for uniform in (False, True))
  return tuple(relative_error(kernel, fit) for fit in fits)


def fitted(kernel, bits: int, uniform: bool = False) -> tuple[np.ndarray, np.ndarray]:
  """A quantizer for given weights by QEM, from the first basis of their own variance.

  Args:
    kernel: float [..., C]; zeros do not count and stay zero.
    bits: 1 to 8.
    uniform: equal steps.

  Returns:
    (basis [C, bits], kernel quantised [..., C]).
  """
  rows, channels = kernel.size // kernel.shape[-1], kernel.shape[-1]
  # Zeros up to a common size: most layers of a network share one program.
  padded = np.zeros((-(-rows // 1024) * 1024, -(-channels // 64) * 64), np.float32)
  padded[:rows, :channels] = kernel.reshape(rows, channels)
  basis, quantised = _fitted(padded, bits=bits, uniform=uniform)
  quantised = np.asarray(quantised)[:rows, :channels].reshape(kernel.shape)
  return np.asarray(basis)[:channels], quantised


@functools.partial(jax.jit, static_argnames=('bits', 'uniform'))
def _fitted(x, *, bits, uniform):
  kept = x != 0
  std = jnp.sqrt(jnp.sum(x**2, 0) / jnp.maximum(kept.sum(0), 1))
  start = std[:, None] * lq.initial_weights(bits, 2)
  solver = lq.solve_uniform if uniform else lq.solve
  basis = lq.fit(x, start, True, _STEPS, solver, kept=kept)
  return basis, jnp.where(kept, lq.quantize(x, lq.codebook(basis, signed=True)), 0)
