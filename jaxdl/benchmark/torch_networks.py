"""The ResNets of `jaxdl.models` in PyTorch, with weights of their own or with a victim's."""

import re

import torch
import torch.nn.functional as F
from torch import nn

from jaxdl.benchmark.victim import Victim


class Block(nn.Module):
  """conv, BN, ReLU, conv, BN, plus a shortcut: 'A' (subsampled, zero channels) or 'B' (1x1)."""

  def __init__(self, channels, features, stride, shortcut):
    super().__init__()
    self.conv1 = nn.Conv2d(channels, features, 3, stride, 1, bias=False)
    self.norm1 = nn.BatchNorm2d(features)
    self.conv2 = nn.Conv2d(features, features, 3, 1, 1, bias=False)
    self.norm2 = nn.BatchNorm2d(features)
    self.stride, self.extra = stride, features - channels
    self.shortcut = None
    if shortcut == 'B' and (stride > 1 or self.extra):
      self.shortcut = nn.Sequential(
        nn.Conv2d(channels, features, 1, stride, bias=False), nn.BatchNorm2d(features)
      )

  def forward(self, x):
    y = F.relu(self.norm1(self.conv1(x)), inplace=True)
    y = self.norm2(self.conv2(y))
    if self.shortcut is not None:
      x = self.shortcut(x)
    elif self.stride > 1 or self.extra:
      half = self.extra // 2
      x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, half, self.extra - half))
    return F.relu(y + x, inplace=True)


class ResNet(nn.Module):
  """[B, 3, H, W], values in [0, 1] -> logits [B, classes]; He et al. 2016 (arXiv 1512.03385)."""

  def __init__(self, sizes, widths, shortcut, channels, classes, mean=0.5, std=0.25):
    super().__init__()
    for name, value in (('mean', mean), ('std', std)):
      value = torch.as_tensor(value, dtype=torch.float32).expand(channels).reshape(1, -1, 1, 1)
      self.register_buffer(name, value.clone(), persistent=False)
    self.stem = nn.Conv2d(channels, widths[0], 3, 1, 1, bias=False)
    self.norm = nn.BatchNorm2d(widths[0])
    blocks, channels = [], widths[0]
    for i, (size, width) in enumerate(zip(sizes, widths, strict=True)):
      for j in range(size):
        blocks.append(Block(channels, width, 2 if i and j == 0 else 1, shortcut))
        channels = width
    self.blocks = nn.Sequential(*blocks)
    self.head = nn.Linear(channels, classes)

  def forward(self, x):
    x = (x - self.mean) / self.std
    x = F.relu(self.norm(self.stem(x)), inplace=True)
    return self.head(self.blocks(x).mean((2, 3)))


NETWORKS = {
  **{f'resnet{6 * n + 2}': ((n,) * 3, (16, 32, 64), 'A') for n in (1, 2, 3, 5, 7, 9, 18)},
  'resnet18': ((2, 2, 2, 2), (64, 128, 256, 512), 'B'),
  'resnet34': ((3, 4, 6, 3), (64, 128, 256, 512), 'B'),
}


def create(name: str, channels: int, classes: int, **normalisation) -> ResNet:
  """The network that `jaxdl.models.create(name, classes)` is; it normalises its images itself.

  Args:
    name: one of `NETWORKS`.
    channels: C.
    classes: K.
    normalisation: `mean` and `std` of the images, numbers or [C]; default 0.5 and 0.25.

  Raises:
    ValueError: one that is not written here.
  """
  if name not in NETWORKS:
    raise ValueError(f'The PyTorch side has no {name!r}, only {", ".join(NETWORKS)}.')
  return ResNet(*NETWORKS[name], channels, classes, **normalisation)


def with_weights(victim: Victim) -> ResNet:
  """The victim's network, in eval mode, for gradients of its images alone.

  Raises:
    ValueError: a network that is not written here.
  """
  params, statistics = victim.params, victim.state['batch_stats']
  tensor = lambda x: torch.from_numpy(x.copy())
  network = create(
    victim.model['name'], victim.images.shape[-1], victim.classes, mean=victim.mean,
    std=victim.std,
  )
  values = {}

  def conv(key, value):
    values[f'{key}.weight'] = tensor(value['kernel'].transpose(3, 2, 0, 1))

  def norm(key, value, running):
    names = {'weight': value['scale'], 'bias': value['bias'], 'running_mean': running['mean'],
             'running_var': running['var']}
    values.update({f'{key}.{n}': tensor(v) for n, v in names.items()})

  conv('stem', params['stem_conv'])
  norm('norm', params['stem_norm'], statistics['stem_norm'])
  for i, name in enumerate(sorted(filter(_number, params), key=_number)):
    block, running, key = params[name], statistics[name], f'blocks.{i}'
    for n in (1, 2):
      conv(f'{key}.conv{n}', block[f'conv{n}'])
      norm(f'{key}.norm{n}', block[f'norm{n}'], running[f'norm{n}'])
    if 'conv_shortcut' in block:
      conv(f'{key}.shortcut.0', block['conv_shortcut'])
      norm(f'{key}.shortcut.1', block['norm_shortcut'], running['norm_shortcut'])
  values['head.weight'] = tensor(params['head']['kernel'].T)
  values['head.bias'] = tensor(params['head']['bias'])
  counters = {k: v for k, v in network.state_dict().items() if k.endswith('num_batches_tracked')}
  network.load_state_dict(values | counters)
  return network.eval().requires_grad_(False)


def _number(name):
  """(stage, block) of 'stage1_block2'; () for other parts of a network."""
  return tuple(int(n) for n in re.findall(r'\d+', name)) if name.startswith('stage') else ()
