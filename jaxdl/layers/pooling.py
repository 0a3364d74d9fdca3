"""Pooling."""

import flax.linen as nn


def max_pool(x, window: int = 2, stride: int = 2, padding: int = 0):
  """Placeholder with the final interface: square max pooling of [B, H, W, C]."""
  pads = ((padding, padding), (padding, padding))
  return nn.max_pool(x, (window, window), (stride, stride), pads)
