"""What a parameter is, told from the name Flax gave it."""

import jax

from jaxdl.core import PyTree


def leaf_name(path: tuple) -> str:
  """The last part of a key path: `kernel`, `bias`, `scale`, ...; '' for a bare array."""
  if not path:
    return ''
  last = path[-1]
  return str(getattr(last, 'key', getattr(last, 'name', getattr(last, 'idx', ''))))


def is_kernel(path: tuple) -> bool:
  """True for the weights of convolutions, dense layers and embeddings."""
  name = leaf_name(path)
  return 'kernel' in name or name == 'embedding'


def is_multiplicative(path: tuple) -> bool:
  """True for kernels, embeddings and the scale of normalisation layers: all but additive terms."""
  return is_kernel(path) or leaf_name(path) == 'scale'


def kernels_mask(params: PyTree) -> PyTree:
  """A tree of bool like `params`: True on kernels and embeddings, False on biases and BN."""
  return jax.tree_util.tree_map_with_path(lambda path, _: is_kernel(path), params)
