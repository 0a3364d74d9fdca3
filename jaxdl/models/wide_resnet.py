"""Wide residual networks: Zagoruyko and Komodakis 2016 (arXiv 1605.07146)."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from jaxdl import parallel
from jaxdl.layers import BatchNorm
from jaxdl.models.convolution import ConvFactory, check_images, conv, global_mean, head


class WideBlock(nn.Module):
  """x + conv(drop(relu(norm(conv(relu(norm(x))))))) on [B, H, W, C].

  Where the shape changes, the shortcut is a 1x1 convolution of relu(norm(x)), without BN.
  """

  features: int
  stride: int = 1
  dropout: float = 0.0
  conv: ConvFactory = conv
  dtype: Any = jnp.float32
  norm_axis: str | None = parallel.AXIS

  @nn.compact
  def __call__(self, x, train: bool = False):
    def norm_relu(x, name):
      norm = BatchNorm(dtype=self.dtype, axis_name=self.norm_axis, name=name)
      return nn.relu(norm(x, train=train))

    def convolve(x, kernel, stride, name):
      return self.conv(self.features, kernel, stride, dtype=self.dtype, name=name)(x)

    activated = norm_relu(x, 'norm1')
    y = convolve(activated, 3, self.stride, 'conv1')
    y = norm_relu(y, 'norm2')
    y = nn.Dropout(self.dropout, deterministic=not train)(y)
    y = convolve(y, 3, 1, 'conv2')
    if self.stride != 1 or x.shape[-1] != self.features:
      x = convolve(activated, 1, self.stride, 'conv_shortcut')
    return x + y


class WideResNet(nn.Module):
  """x float [B, H, W, C], normalised -> (logits float32 [B, num_classes], features).

  Any image size and channel count. `features` holds 'stem', every 'stage{i}_block{j}' and
  'stage{i}' (before the next norm and ReLU: the network is pre-activation), and 'pooled', float32
  [B, 64 k]. Convolutions are He-normal over the fan-out.

  Attributes:
    num_classes: K.
    depth: 6 n + 4, of which n blocks per stage.
    widening: k; the stages have 16 k, 32 k and 64 k channels, the stem 16.
    dropout: rate between the two convolutions of a block; needs a 'dropout' key when above 0.
    conv: makes each convolution.
    dtype: compute dtype; parameters, batch statistics, 'pooled' and logits are float32.
    norm_axis: where this axis is mapped, BN statistics are averaged over it; None keeps them to
      each device.

  Raises:
    ValueError: a depth that is not 6n + 4, or x that is not [B, H, W, C].
  """

  num_classes: int
  depth: int = 28
  widening: int = 10
  dropout: float = 0.0
  conv: ConvFactory = conv
  dtype: Any = jnp.float32
  norm_axis: str | None = parallel.AXIS

  def __post_init__(self):
    if self.depth < 10 or (self.depth - 4) % 6:
      raise ValueError(f'a wide ResNet has depth 6n + 4 (10, 16, 22, 28, ...), got {self.depth}')
    super().__post_init__()

  @nn.compact
  def __call__(self, x, train: bool = False):
    check_images(x)
    features = {}
    x = self.conv(16, 3, 1, dtype=self.dtype, name='stem_conv')(x)
    features['stem'] = x
    for i, width in enumerate((16, 32, 64), 1):
      for j in range(1, (self.depth - 4) // 6 + 1):
        name = f'stage{i}_block{j}'
        x = WideBlock(
          width * self.widening,
          stride=2 if i > 1 and j == 1 else 1,
          dropout=self.dropout,
          conv=self.conv,
          dtype=self.dtype,
          norm_axis=self.norm_axis,
          name=name,
        )(x, train)
        features[name] = x
      features[f'stage{i}'] = x
    x = BatchNorm(dtype=self.dtype, axis_name=self.norm_axis, name='head_norm')(x, train=train)
    features['pooled'] = global_mean(nn.relu(x))
    return head(self.num_classes)(features['pooled']), features
