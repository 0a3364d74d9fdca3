"""VGG with batch normalisation for small images.

Simonyan and Zisserman 2015 (arXiv 1409.1556), table 1, configurations A, B, D and E. One fully
connected layer, 512 -> K, replaces the three, as in the CIFAR studies we compare with.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from jaxdl import parallel
from jaxdl.layers import BatchNorm, max_pool
from jaxdl.models.convolution import ConvFactory, check_images, conv, global_mean, head

WIDTHS = (64, 128, 256, 512, 512)
# depth -> convolutions per stage
STAGES = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


class VGG(nn.Module):
  """x float [B, H, W, C], normalised -> (logits float32 [B, num_classes], features).

  Any image size and channel count: a 2x2 max pooling ends each stage unless the map is already
  narrower than 2, and a global mean precedes the classifier. `features` holds 'stem' (the first
  convolution, BN and ReLU), every 'stage{i}_conv{j}' after its ReLU, 'stage{i}' after its pooling,
  and 'pooled', float32 [B, 512]. Convolutions have a bias and are He-normal over the fan-out.

  Attributes:
    num_classes: K.
    depth: 11, 13, 16 or 19.
    width: multiplies every channel count.
    conv: makes each convolution.
    dtype: compute dtype; parameters, batch statistics, 'pooled' and logits are float32.
    norm_axis: where this axis is mapped, BN statistics are averaged over it; None keeps them to
      each device.

  Raises:
    ValueError: another depth, or x that is not [B, H, W, C].
  """

  num_classes: int
  depth: int = 16
  width: float = 1
  conv: ConvFactory = conv
  dtype: Any = jnp.float32
  norm_axis: str | None = parallel.AXIS

  def __post_init__(self):
    if self.depth not in STAGES:
      raise ValueError(f'VGG depth must be one of {sorted(STAGES)}, got {self.depth}')
    super().__post_init__()

  @nn.compact
  def __call__(self, x, train: bool = False):
    check_images(x)
    features = {}
    for i, (size, width) in enumerate(zip(STAGES[self.depth], WIDTHS, strict=True), 1):
      for j in range(1, size + 1):
        name = f'stage{i}_conv{j}'
        channels = round(width * self.width)
        x = self.conv(channels, 3, 1, use_bias=True, dtype=self.dtype, name=name)(x)
        norm = BatchNorm(dtype=self.dtype, axis_name=self.norm_axis, name=f'stage{i}_norm{j}')
        x = nn.relu(norm(x, train=train))
        features.setdefault('stem', x)
        features[name] = x
      if min(x.shape[1:3]) >= 2:
        x = max_pool(x, 2, 2, 0)
      features[f'stage{i}'] = x
    features['pooled'] = global_mean(x)
    return head(self.num_classes)(features['pooled']), features
