"""Whole forward passes against a NumPy float64 implementation written from the equations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl.models.densenet import DenseNet
from jaxdl.models.resnet import ResNet
from jaxdl.models.vgg import VGG
from jaxdl.models.vgg_small import VGGSmall
from jaxdl.models.wide_resnet import preact_resnet, wide_resnet


class Oracle:
  """Reads the variables of a network by name; images are [B, C, H, W], unlike in the library."""

  def __init__(self, variables, train):
    self.params, self.stats = variables['params'], variables['batch_stats']
    self.train = train

  @staticmethod
  def leaf(tree, path, name):
    for part in path:
      tree = tree[part]
    while name not in tree:  # an inner module of any name may hold the array
      (tree,) = tree.values()
    return np.asarray(tree[name], np.float64)

  def conv(self, x, path, stride=1, bias=False):
    kernel = self.leaf(self.params, path, 'kernel')
    k = kernel.shape[0]
    pad = k // 2
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    height, width = ((n - k) // stride + 1 for n in x.shape[2:])
    out = np.zeros((x.shape[0], kernel.shape[3], height, width))
    for i in range(height):
      for j in range(width):
        patch = x[:, :, i * stride : i * stride + k, j * stride : j * stride + k]
        out[:, :, i, j] = np.einsum('bcij,ijco->bo', patch, kernel)
    return out + self.leaf(self.params, path, 'bias')[:, None, None] if bias else out

  def norm(self, x, path):
    if self.train:
      mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3))
    else:
      mean, var = (self.leaf(self.stats, path, name) for name in ('mean', 'var'))
    scale, bias = (self.leaf(self.params, path, name) for name in ('scale', 'bias'))
    channel = lambda v: v[None, :, None, None]
    return (x - channel(mean)) / np.sqrt(channel(var) + 1e-5) * channel(scale) + channel(bias)

  def head(self, x):
    pooled = x.mean((2, 3))
    return pooled @ self.leaf(self.params, ['head'], 'kernel') + self.leaf(
      self.params, ['head'], 'bias'
    )


def relu(x):
  return np.maximum(x, 0)


def pool(x, window, stride, pad):
  x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)), constant_values=-np.inf)
  height, width = ((n - window) // stride + 1 for n in x.shape[2:])
  rows = [
    [
      x[:, :, i * stride : i * stride + window, j * stride : j * stride + window].max((2, 3))
      for j in range(width)
    ]
    for i in range(height)
  ]
  return np.moveaxis(np.array(rows), (0, 1), (2, 3))


def resnet_forward(net, o, x):
  x = relu(o.norm(o.conv(x, ['stem_conv'], 1 if net.stem == 'cifar' else 2), ['stem_norm']))
  if net.stem == 'imagenet':
    x = pool(x, 3, 2, 1)
  for i, (blocks, width) in enumerate(zip(net.stage_sizes, net.widths, strict=True), 1):
    for j in range(1, blocks + 1):
      name, stride = f'stage{i}_block{j}', 2 if i > 1 and j == 1 else 1
      strides = (1, stride, 1) if net.bottleneck else (stride, 1)
      y = x
      for n, s in enumerate(strides, 1):
        y = o.norm(o.conv(y, [name, f'conv{n}'], s), [name, f'norm{n}'])
        y = relu(y) if n < len(strides) else y
      if stride != 1 or x.shape[1] != width:
        if net.shortcut == 'A':
          low = (width - x.shape[1]) // 2
          short = np.zeros_like(y)
          short[:, low : low + x.shape[1]] = x[:, :, ::stride, ::stride]
          x = short
        else:
          x = o.conv(x, [name, 'conv_shortcut'], stride)
          x = o.norm(x, [name, 'norm_shortcut'])
      x = relu(x + y)
  return o.head(x)


def wide_resnet_forward(net, o, x):
  x = o.conv(x, ['stem_conv'])
  for i, blocks in enumerate(net.stage_sizes, 1):
    for j in range(1, blocks + 1):
      name, stride = f'stage{i}_block{j}', 2 if i > 1 and j == 1 else 1
      active = relu(o.norm(x, [name, 'norm1']))
      y = relu(o.norm(o.conv(active, [name, 'conv1'], stride), [name, 'norm2']))
      y = o.conv(y, [name, 'conv2'])
      same = x.shape == y.shape
      x = y + (x if same else o.conv(active, [name, 'conv_shortcut'], stride))
  return o.head(relu(o.norm(x, ['head_norm'])))


def densenet_forward(net, o, x):
  x = o.conv(x, ['stem_conv'])
  for i in (1, 2, 3):
    if i > 1:
      x = o.conv(relu(o.norm(x, [f'transition{i - 1}_norm'])), [f'transition{i - 1}_conv'])
      height, width = (n // 2 for n in x.shape[2:])
      cut = x[:, :, : 2 * height, : 2 * width]
      x = sum(cut[:, :, a::2, b::2] for a in (0, 1) for b in (0, 1)) / 4
    for j in range(1, (net.depth - 4) // 6 + 1):
      name = f'stage{i}_block{j}'
      y = o.conv(relu(o.norm(x, [name, 'norm1'])), [name, 'conv1'])
      y = o.conv(relu(o.norm(y, [name, 'norm2'])), [name, 'conv2'])
      x = np.concatenate([x, y], axis=1)
  return o.head(relu(o.norm(x, ['head_norm'])))


def vgg_forward(net, o, x):
  for i, blocks in enumerate({11: (1, 1, 2, 2, 2)}[net.depth], 1):
    for j in range(1, blocks + 1):
      x = o.conv(x, [f'stage{i}_conv{j}'], bias=True)
      x = relu(o.norm(x, [f'stage{i}_norm{j}']))
    x = pool(x, 2, 2, 0) if x.shape[2] > 1 else x
  return o.head(x)


def vgg_small_forward(net, o, x):
  for i in (1, 2, 3):
    x = relu(o.norm(o.conv(x, [f'stage{i}_conv1']), [f'stage{i}_norm1']))
    x = pool(o.conv(x, [f'stage{i}_conv2']), 2, 2, 0)
    x = relu(o.norm(x, [f'stage{i}_norm2']))
  flat = np.moveaxis(x, 1, 3).reshape(len(x), -1)
  return flat @ o.leaf(o.params, ['head'], 'kernel') + o.leaf(o.params, ['head'], 'bias')


def randomised(variables):
  """Every array random, so that a zero bias or a unit scale cannot hide a mistake."""
  rng = np.random.default_rng(3)

  def draw(path, leaf):
    name = path[-1].key
    if name == 'var' or name == 'scale':
      return rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
    spread = 1 / np.sqrt(np.prod(leaf.shape[:-1])) if name == 'kernel' else 0.3
    return (spread * rng.standard_normal(leaf.shape)).astype(np.float32)

  return jax.tree_util.tree_map_with_path(draw, variables)


CASES = {
  'basic A': (ResNet(3, (1, 2), (4, 7), 4, shortcut='A'), resnet_forward, (6, 5, 2)),
  'basic B': (ResNet(3, (1, 2), (4, 6), 4, shortcut='B'), resnet_forward, (6, 8, 3)),
  'bottleneck B': (
    ResNet(3, (1, 1), (8, 12), 4, bottleneck=True, stem='imagenet'),
    resnet_forward,
    (18, 20, 3),
  ),
  'bottleneck A': (
    ResNet(3, (1, 1), (8, 12), 4, bottleneck=True, shortcut='A'),
    resnet_forward,
    (5, 6, 3),
  ),
  'wide': (wide_resnet(3, 10, 1), wide_resnet_forward, (8, 7, 3)),
  'preact': (preact_resnet(18, 3, width=1 / 16), wide_resnet_forward, (16, 9, 3)),
  'densenet': (DenseNet(3, 16, growth=3), densenet_forward, (9, 8, 3)),
  'vgg': (VGG(3, 11, width=1 / 32), vgg_forward, (28, 28, 1)),
  'vgg small': (VGGSmall(3, width=1 / 32), vgg_small_forward, (17, 16, 3)),
}


@pytest.mark.parametrize('train', [False, True])
@pytest.mark.parametrize('case', CASES)
def test_forward_equals_numpy(case, train):
  net, forward, size = CASES[case]
  x = np.random.default_rng(0).standard_normal((4, *size)).astype(np.float32)
  variables = randomised(jax.eval_shape(net.init, jax.random.key(0), x))
  apply = jax.jit(lambda v, x: net.apply(v, x, train=train, mutable=['batch_stats']))
  (logits, _), _ = apply(variables, jnp.asarray(x))
  expected = forward(net, Oracle(variables, train), np.moveaxis(x, 3, 1).astype(np.float64))
  assert np.ptp(expected) > 0.1
  np.testing.assert_allclose(logits, expected, rtol=2e-4, atol=2e-4)
