"""Which leaves of a parameter tree are weights proper."""

import jax


def is_kernel(path):
  """Whether a tree path (as `jax.tree_util` gives it) ends in Flax's name for a weight tensor."""
  return bool(path) and getattr(path[-1], 'key', None) == 'kernel'


def kernel_mask(params):
  """A tree of bools like `params`: True for convolution and dense kernels.

  Biases and normalisation parameters are False.
  """
  return jax.tree_util.tree_map_with_path(lambda path, _: is_kernel(path), params)
