"""Parameter counts and MACs against published and independently computed values.

MACs are for one image and include every convolution and the classifier. They include the 1x1
projections of shortcut 'B': an account that leaves those out gives 4.88 % of a ResNet-34 for each
block that halves the map, where ours gives 5.06 %.
"""

import math

import jax
import pytest

from jaxdl.flops import model_summary
from jaxdl.models import create

CIFAR = (32, 32, 3)

# name, kwargs, parameters, MACs at 32x32x3 with 10 classes
EXACT = [
  ('resnet8', {}, 75_290, 12_239_488),
  ('resnet14', {}, 172_506, 26_395_264),
  ('resnet20', {}, 269_722, 40_551_040),
  ('resnet20', {'shortcut': 'B'}, 272_474, 40_813_184),
  ('resnet32', {}, 464_154, 68_862_592),
  ('resnet56', {}, 853_018, 125_485_696),
  ('resnet110', {}, 1_727_962, 252_887_680),
  ('resnet18', {}, 11_173_962, 555_422_720),
  ('preact_resnet18', {}, 11_172_170, 555_422_720),
  ('resnet34', {}, 21_282_122, 1_159_402_496),
  ('resnet50', {}, 23_520_842, 1_297_829_888),
  ('vgg16_bn', {}, 14_728_266, 313_201_664),
  ('vgg_small', {}, 4_660_106, 607_600_640),
]


@pytest.mark.parametrize(('name', 'kwargs', 'parameters', 'macs'), EXACT)
def test_size_and_cost(name, kwargs, parameters, macs):
  summary = model_summary(create(name, 10, **kwargs), CIFAR)
  assert (summary.parameters, summary.macs) == (parameters, macs)
  assert sum(row.macs for row in summary.rows) == macs
  assert not summary.notes


@pytest.mark.parametrize(
  ('name', 'parameters'),
  [('wrn40_2', 2_243_546), ('wrn16_8', 10_961_370), ('wrn28_10', 36_479_194)],
)
def test_wide_resnet_size(name, parameters):
  assert model_summary(create(name, 10), CIFAR).parameters == parameters


def wide_resnet_macs(depth, k):
  """Closed form: 3x3 convolutions of all blocks, three 1x1 shortcuts, stem and classifier."""
  blocks = (depth - 4) // 6
  macs, channels = 32 * 32 * 9 * 3 * 16 + 64 * k * 10, 16
  for width, size in ((16 * k, 32), (32 * k, 16), (64 * k, 8)):
    weights = 9 * channels * width + (2 * blocks - 1) * 9 * width**2
    weights += channels * width if channels != width else 0
    macs, channels = macs + size**2 * weights, width
  return macs


def test_a_narrower_wide_resnet_has_all_its_channels_divided():
  half, one = create('wrn16_4', 10, width=0.5), create('wrn16_2', 10)
  assert (half.widths, half.stem_width) == (one.widths, one.stem_width // 2)


@pytest.mark.parametrize(('depth', 'k'), [(16, 1), (16, 4), (40, 2), (28, 10)])
def test_wide_resnet_cost(depth, k):
  assert model_summary(create(f'wrn{depth}_{k}', 10), CIFAR).macs == wide_resnet_macs(depth, k)


@pytest.mark.parametrize(
  ('name', 'parameters', 'giga_macs'),
  [
    ('resnet18', 11_689_512, 1.814),
    ('resnet34', 21_797_672, 3.664),
    ('resnet50', 25_557_032, 4.089),
  ],
)
def test_imagenet_stem_matches_torchvision(name, parameters, giga_macs):
  """The counts torchvision publishes with its weights; 4.089 G needs stride 2 on the 3x3."""
  summary = model_summary(create(name, 1000, stem='imagenet'), (224, 224, 3))
  assert summary.parameters == parameters
  assert summary.macs / 1e9 == pytest.approx(giga_macs, abs=1e-3)


def test_split_of_resnet20_parameters():
  deep = model_summary(create('resnet20', 10), CIFAR, depth=9).rows
  total = lambda word: sum(row.parameters for row in deep if word in row.name)
  assert (total('conv'), total('norm'), total('head')) == (267_696, 1_376, 650)


def test_vgg16_convolution_weights_without_biases():
  module = create('vgg16_bn', 10)
  x = jax.ShapeDtypeStruct((1, *CIFAR), 'float32')
  params = jax.eval_shape(module.init, jax.random.key(0), x)['params']
  kernels = [p['kernel'].shape for name, p in params.items() if 'conv' in name]
  assert len(kernels) == 13 and sum(map(math.prod, kernels)) == 14_710_464


def test_resnet34_blocks_share_the_cost_evenly():
  """Each plain block 6.51 %; a halving block 5.06 % with and 4.88 % without its projection."""
  summary = model_summary(create('resnet34', 10), CIFAR)
  share = {row.name: 100 * row.macs / summary.macs for row in summary.rows}
  halving = [f'stage{i}_block1' for i in (2, 3, 4)]
  blocks = [name for name in share if 'block' in name]
  assert {round(share[b], 2) for b in blocks if b not in halving} == {6.51}
  assert {round(share[b], 2) for b in halving} == {5.06}
  deep = model_summary(create('resnet34', 10), CIFAR, depth=9)
  projections = {r.name: r.macs for r in deep.rows if r.name.endswith('conv_shortcut')}
  assert len(projections) == 3
  for b in halving:
    left = share[b] - 100 * projections[f'{b}/conv_shortcut'] / summary.macs
    assert round(left, 2) == 4.88


def test_width_multiplies_channels():
  """Closed form of ResNet-8 A: kernels, two BN vectors per convolution, the classifier."""
  for width in (0.5, 2):
    a, b, c = (round(w * width) for w in (16, 32, 64))
    kernels = 9 * (3 * a + 2 * a * a + a * b + b * b + b * c + c * c)
    expected = kernels + 2 * (3 * a + 2 * b + 2 * c) + 10 * c + 10
    assert model_summary(create('resnet8', 10, width=width), CIFAR).parameters == expected


def test_mlp_size_and_cost():
  summary = model_summary(create('mlp', 10), (28, 28, 1))
  assert summary.parameters == 266_610  # LeNet-300-100
  assert summary.macs == 784 * 300 + 300 * 100 + 100 * 10


@pytest.mark.parametrize(
  ('name', 'layers'),
  [('resnet44', 44), ('resnet101', 101), ('wrn22_2', 20), ('vgg11_bn', 9), ('vgg19_bn', 17)],
)
def test_depth(name, layers):
  """Weighted layers without shortcuts.

  A wide ResNet's depth 6n + 4 counts three shortcuts but not the classifier; VGG's counts three
  fully connected layers where we have one.
  """
  rows = model_summary(create(name, 7), (32, 32, 1), depth=9).rows
  assert len([row for row in rows if row.macs and 'shortcut' not in row.name]) == layers
