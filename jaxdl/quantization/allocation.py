"""Bits handed out without looking at the weights: what a learned allocation is compared with."""

from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxdl.core import PyTree
from jaxdl.quantization.lq import initial_weights
from jaxdl.quantization.tree import Layer


def shuffled(layers: Mapping[str, Layer], seed: int) -> dict[str, np.ndarray]:
  """name -> bits of each channel, int [C]: those of the layer, in random order."""
  rng = np.random.default_rng(seed)
  return {name: rng.permutation(layer.bits) for name, layer in layers.items()}


def even(layers: Mapping[str, Layer], seed: int) -> dict[str, np.ndarray]:
  """name -> bits of each channel, int [C]: every layer gets the network's average, as near as whole
  bits allow, with the odd bits in random channels."""
  rng = np.random.default_rng(seed)
  weights = sum(layer.kernel.size for layer in layers.values())
  average = sum(layer.kernel.size * layer.bits.mean() for layer in layers.values()) / weights
  out = {}
  for name, layer in layers.items():
    channels = len(layer.bits)
    low, odd = divmod(round(average * channels), channels)
    out[name] = rng.permutation(np.repeat([low + 1, low], [odd, channels - odd]))
  return out


def with_bits(
  model_state: PyTree, layers: Mapping[str, Layer], bits: Mapping, step: int
) -> PyTree:
  """The state of a new network whose channels have so many bits, at the first basis for them.

  Args:
    model_state: of a network whose layers have `sparsity`.
    layers: its layers.
    bits: name -> int [C], at most the bits of the basis.
    step: that the schedule of the threshold starts at; from its `freeze` on the bits stay.
  """
  state = flatten_dict(model_state['lq'], sep='/')
  for name, each in bits.items():
    *window, _, channels = layers[name].kernel.shape
    basis = np.zeros_like(layers[name].basis)
    for channel, count in enumerate(each):
      if count:
        basis[channel, :count] = initial_weights(int(count), int(np.prod(window)) * channels)
    state[f'{name}/weights'] = jnp.asarray(basis)
    state[f'{name}/alive'] = jnp.asarray(np.arange(basis.shape[1]) < each[:, None], jnp.float32)
    state[f'{name}/step'] = jnp.full((), step, jnp.float32)
  return {**model_state, 'lq': unflatten_dict(state, sep='/')}
