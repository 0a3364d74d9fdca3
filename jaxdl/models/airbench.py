"""The small network of the CIFAR-10 speed runs.

Jordan 2024, 94% on CIFAR-10 in 3.29 seconds on a single GPU (arXiv 2404.00498), section 3 and
appendix A. What is unusual: a first convolution that is not trained (`whitened`), identity
initialisation, no scale in batch normalisation, and logits scaled down.
"""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdl import parallel
from jaxdl.layers import BatchNorm, max_pool
from jaxdl.layers.init import dirac, uniform_fan_in
from jaxdl.models.convolution import ConvFactory, check_images

SIDE = 2  # of the whitening convolution


def conv_with(kernel_init: nn.initializers.Initializer) -> ConvFactory:
  """A factory of square convolutions padded by `kernel // 2`, with this initialiser."""

  def conv(features, kernel, stride=1, *, use_bias=False, dtype=None, name=None):
    pad = kernel // 2
    return nn.Conv(
      features, (kernel, kernel), (stride, stride), ((pad, pad), (pad, pad)), use_bias=use_bias,
      dtype=dtype, kernel_init=kernel_init, name=name,
    )

  return conv


class Airbench(nn.Module):
  """x float [B, H, W, C], normalised -> (logits float32 [B, num_classes], features).

  A 2x2 convolution without padding to 8 C channels and a GELU; three stages of convolution, 2x2 max
  pooling, BN, GELU, convolution, BN, GELU; the maximum over all positions; a linear layer without
  bias. Any image size and channel count: a map narrower than 2 is not pooled, an image narrower
  than 2 is padded. `features` holds 'stem' (after the first GELU), 'stage1'..'stage3', and
  'pooled', float32 [B, widths[-1]], which is already multiplied by `scale`.

  Attributes:
    num_classes: K.
    widths: channels of the three stages.
    identity: start 3x3 convolutions as the identity, see `jaxdl.layers.init.dirac`.
    scale: of the logits.
    head_std: standard deviation of the last layer's first weights; None: 1 / sqrt(3 widths[-1]).
    momentum: of the batch statistics; the published recipe moves them fast.
    conv: makes the six 3x3 convolutions in place of those that `identity` describes.
    dtype: compute dtype; parameters, batch statistics, 'pooled' and logits are float32.
    norm_axis: where this axis is mapped, BN statistics are averaged over it; None keeps them to
      each device.

  Raises:
    ValueError: x is not [B, H, W, C], or not three widths.
  """

  num_classes: int
  widths: Sequence[int] = (64, 256, 256)
  identity: bool = True
  scale: float = 1 / 9
  head_std: float | None = None
  momentum: float = 0.6
  conv: ConvFactory | None = None
  dtype: Any = jnp.float32
  norm_axis: str | None = parallel.AXIS

  def __post_init__(self):
    if not isinstance(self.widths, list | tuple) or len(self.widths) != 3:
      raise ValueError(f'airbench has three widths, got {self.widths!r}')
    super().__post_init__()

  @nn.compact
  def __call__(self, x, train: bool = False):
    check_images(x)
    conv = self.conv or conv_with(dirac() if self.identity else uniform_fan_in)

    def norm_gelu(x, name):
      norm = BatchNorm(
        self.momentum, 1e-12, self.dtype, self.norm_axis, use_scale=False, name=name
      )
      return nn.gelu(norm(x, train=train), approximate=False)

    padding = 'VALID' if min(x.shape[1:3]) >= SIDE else 'SAME'
    whiten = nn.Conv(
      2 * SIDE**2 * x.shape[-1], (SIDE, SIDE), padding=padding, dtype=self.dtype,
      kernel_init=uniform_fan_in, name='whiten',
    )
    x = nn.gelu(whiten(x), approximate=False)
    features = {'stem': x}
    for i, width in enumerate(self.widths, 1):
      x = conv(width, 3, dtype=self.dtype, name=f'stage{i}_conv1')(x)
      if min(x.shape[1:3]) >= 2:
        x = max_pool(x, 2, 2)
      x = norm_gelu(x, f'stage{i}_norm1')
      x = conv(width, 3, dtype=self.dtype, name=f'stage{i}_conv2')(x)
      x = features[f'stage{i}'] = norm_gelu(x, f'stage{i}_norm2')
    features['pooled'] = self.scale * jnp.max(x, axis=(1, 2)).astype(jnp.float32)
    std = self.head_std
    head = nn.Dense(
      self.num_classes, use_bias=False, dtype=jnp.float32, name='head',
      kernel_init=uniform_fan_in if std is None else nn.initializers.normal(std),
    )
    return head(features['pooled']), features


def whitened(init: Callable, kernel: jax.Array) -> Callable:
  """`Model.init` of a bound `Airbench` with this kernel in its first convolution.

  Args:
    init: (key, x) -> (params, model_state).
    kernel: [2, 2, C, 8 C], from `jaxdl.layers.whitening.whitening_kernel`. Nothing here keeps it
      from being trained: that is the optimizer's part (`jaxdl.optim.airbench`).
  """

  def whitened_init(key, x):
    params, model_state = init(key, x)
    if kernel.shape != params['whiten']['kernel'].shape:
      raise ValueError(
        f'The whitening kernel has shape {kernel.shape}, the network wants '
        f'{params["whiten"]["kernel"].shape}.'
      )
    return {**params, 'whiten': {**params['whiten'], 'kernel': kernel}}, model_state

  return whitened_init
