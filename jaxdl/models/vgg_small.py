"""VGG-small, the network that studies of few bits train on CIFAR-10.

2x128C3 - MP2 - 2x256C3 - MP2 - 2x512C3 - MP2 - FC, as in the published code of Zhang et al. 2018,
LQ-Nets (arXiv 1807.10029).
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from jaxdl import parallel
from jaxdl.layers import BatchNorm, max_pool
from jaxdl.models.convolution import ConvFactory, check_images, conv, head

WIDTHS = (128, 256, 512)


class VGGSmall(nn.Module):
  """x float [B, H, W, C], normalised -> (logits float32 [B, num_classes], features).

  Three stages of two 3x3 convolutions without bias. The second one's map is halved by a 2x2 max
  pooling before its BN and ReLU, unless it is already narrower than 2. The classifier reads every
  place of the last map, so that the first call fixes the size of the images.
  `features` holds 'stem' (the first convolution, BN and ReLU), every 'stage{i}_conv{j}' after its
  ReLU, 'stage{i}' (the last of the stage) and 'pooled', the last map as float32 [B, D].
  Convolutions are He-normal over the fan-out, as in all networks here; the published code takes the
  fan-in.

  Attributes:
    num_classes: K.
    width: multiplies every channel count.
    conv: makes each convolution.
    dtype: compute dtype; parameters, batch statistics, 'pooled' and logits are float32.
    norm_axis: where this axis is mapped, BN statistics are averaged over it; None keeps them to
      each device.

  Raises:
    ValueError: x is not [B, H, W, C].
  """

  num_classes: int
  width: float = 1
  conv: ConvFactory = conv
  dtype: Any = jnp.float32
  norm_axis: str | None = parallel.AXIS

  @nn.compact
  def __call__(self, x, train: bool = False):
    check_images(x)
    features = {}
    for i, width in enumerate(WIDTHS, 1):
      for j in (1, 2):
        name = f'stage{i}_conv{j}'
        x = self.conv(round(width * self.width), 3, 1, dtype=self.dtype, name=name)(x)
        if j == 2 and min(x.shape[1:3]) >= 2:
          x = max_pool(x, 2, 2, 0)
        norm = BatchNorm(dtype=self.dtype, axis_name=self.norm_axis, name=f'stage{i}_norm{j}')
        x = nn.relu(norm(x, train=train))
        features.setdefault('stem', x)
        features[name] = x
      features[f'stage{i}'] = x
    features['pooled'] = x.reshape(len(x), -1).astype(jnp.float32)
    return head(self.num_classes)(features['pooled']), features
