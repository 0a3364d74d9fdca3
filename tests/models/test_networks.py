"""The contract every network keeps."""

import functools
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl.core import bind
from jaxdl.layers import BatchNorm
from jaxdl.models import MODELS, create
from jaxdl.models.convolution import conv
from jaxdl.models.densenet import DenseNet
from jaxdl.models.resnet import ResNet, pad_shortcut
from jaxdl.models.vgg import VGG
from jaxdl.models.wide_resnet import wide_resnet

K = 5


def bottleneck_net(num_classes, **kwargs):
  return ResNet(num_classes, (1, 1), (8, 16), 4, bottleneck=True, **kwargs)


def imagenet_stem_net(num_classes, **kwargs):
  return ResNet(num_classes, (1, 1), (4, 6), 4, shortcut='A', stem='imagenet', **kwargs)


# One small network per family and variant: (factory, stages, whether it has batch statistics)
FAMILIES = {
  'mlp': (lambda k, **kw: create('mlp', k, hidden=(12, 9), **kw), 0, False),
  'resnet A': (lambda k, **kw: create('resnet8', k, width=0.25, **kw), 3, True),
  'bottleneck B': (bottleneck_net, 2, True),
  'imagenet stem': (imagenet_stem_net, 2, True),
  'wide': (lambda k, **kw: create('wrn10_1', k, **kw), 3, True),
  'densenet': (lambda k, **kw: DenseNet(k, depth=10, growth=4, **kw), 3, True),
  'vgg': (lambda k, **kw: VGG(k, depth=11, width=1 / 8, **kw), 5, True),
  'vgg small': (lambda k, **kw: create('vgg_small', k, width=1 / 16, **kw), 3, True),
  'airbench': (lambda k, **kw: create('airbench', k, widths=(6, 8, 8), **kw), 3, True),
}
families = pytest.mark.parametrize('family', FAMILIES)
normed = pytest.mark.parametrize('family', [f for f in FAMILIES if FAMILIES[f][2]])


SIZE = (4, 16, 16, 3)


def images(seed=0):
  return jax.random.normal(jax.random.key(seed), SIZE)


@functools.cache
def make(family, **kwargs):
  """A network and its variables: He-normal kernels, the rest away from 0 and 1.

  Drawn with NumPy, because compiling the initialisers takes longer than everything else here.
  """
  net = FAMILIES[family][0](K, **kwargs)
  rng = np.random.default_rng(1)

  def draw(path, leaf):
    centre = {'scale': 1.0, 'var': 1.2}.get(path[-1].key, 0.1)
    spread = 0.1
    if path[-1].key == 'kernel':
      centre, spread = 0.0, np.sqrt(2 / np.prod(leaf.shape[:-1]))
    return jnp.asarray(centre + spread * rng.standard_normal(leaf.shape), jnp.float32)

  shapes = jax.eval_shape(net.init, jax.random.key(1), images())
  assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype('float32')}
  return net, jax.tree_util.tree_map_with_path(draw, shapes)


@functools.cache
def evaluate(family, **kwargs):
  """x -> ((logits, features), variables), compiled."""
  net, variables = make(family, **kwargs)
  run = jax.jit(lambda v, x: net.apply(v, x, mutable=['batch_stats']))
  return lambda x: run(variables, x)


@functools.cache
def train(family):
  """x -> ((loss, (logits, batch_stats)), gradient), compiled once for all tests."""
  net, variables = make(family)

  def loss(params, x):
    (logits, _), state = net.apply(
      {**variables, 'params': params}, x, True, mutable=['batch_stats']
    )
    return -jnp.mean(nn.log_softmax(logits)[:, 0]), (logits, state.get('batch_stats'))

  run = jax.jit(jax.value_and_grad(loss, has_aux=True))
  return lambda x: run(variables['params'], x)


@families
def test_outputs(family):
  _, variables = make(family)
  (logits, features), _ = evaluate(family)(images())
  assert logits.shape == (4, K) and logits.dtype == jnp.float32
  head, pooled = variables['params']['head'], features['pooled']
  assert pooled.shape == (4, head['kernel'].shape[0]) and pooled.dtype == jnp.float32
  expected = np.asarray(pooled) @ np.asarray(head['kernel']) + np.asarray(head.get('bias', 0))
  np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)
  stages = [name for name in features if name.startswith('stage') and '_' not in name]
  assert stages == [f'stage{i}' for i in range(1, FAMILIES[family][1] + 1)]
  if stages:
    assert 'stem' in features
    heights = [features[s].shape[1] for s in ('stem', *stages)]
    assert heights == sorted(heights, reverse=True) and heights[-1] < heights[0]


@families
@pytest.mark.parametrize('size', [(28, 28, 1), (17, 33, 3), (5, 1, 4), (64, 64, 3)])
def test_any_image_size_and_channel_count(family, size):
  net = FAMILIES[family][0](K)
  (logits, features), variables = jax.eval_shape(
    lambda x: net.init_with_output(jax.random.key(0), x), jnp.zeros((2, *size))
  )
  assert logits.shape == (2, K)
  assert all(min(f.shape) >= 1 for f in jax.tree.leaves(features))


@families
@pytest.mark.parametrize('training', [False, True])
def test_bfloat16_compute_keeps_float32_state_and_logits(family, training):
  net = FAMILIES[family][0](K, dtype=jnp.bfloat16)
  variables = jax.eval_shape(net.init, jax.random.key(0), images())
  (logits, features), state = jax.eval_shape(
    lambda v, x: net.apply(v, x, training, mutable=['batch_stats']), variables, images()
  )
  assert {a.dtype for a in jax.tree.leaves((variables, state))} == {jnp.dtype('float32')}
  assert logits.dtype == features['pooled'].dtype == jnp.float32
  inner = {f.dtype for name, f in features.items() if name != 'pooled'}
  assert inner == {jnp.dtype('bfloat16')}


def test_bfloat16_logits_are_near_float32():
  (exact, _), _ = evaluate('resnet A')(images())
  (rounded, _), _ = evaluate('resnet A', dtype=jnp.bfloat16)(images())
  assert 0 < jnp.max(jnp.abs(exact - rounded)) < 0.1 * jnp.max(jnp.abs(exact))


@normed
def test_batch_statistics_move_only_in_training(family):
  x = 3 + 2 * images()
  same = lambda a, b: np.array_equal(a, b)
  before = make(family)[1]['batch_stats']
  _, kept = evaluate(family)(x)
  assert all(jax.tree.leaves(jax.tree.map(same, before, kept['batch_stats'])))
  (_, (_, moved)), _ = train(family)(x)
  assert not any(jax.tree.leaves(jax.tree.map(same, before, moved)))


@families
def test_eval_output_does_not_depend_on_batch_mates(family):
  x = images()
  mixed = jnp.concatenate([x[:1], 5 * images(seed=9)[1:]])
  (a, _), _ = evaluate(family)(x)
  (b, _), _ = evaluate(family)(mixed)
  np.testing.assert_allclose(a[0], b[0], rtol=1e-5, atol=1e-6)
  assert jnp.max(jnp.abs(a[1:] - b[1:])) > 1e-2
  if FAMILIES[family][2]:
    (_, (a, _)), _ = train(family)(x)
    (_, (b, _)), _ = train(family)(mixed)
    assert jnp.max(jnp.abs(a[0] - b[0])) > 1e-3


@families
def test_gradient_is_finite_and_reaches_every_kernel(family):
  for x in (images(), jnp.zeros(SIZE)):
    assert all(bool(jnp.all(jnp.isfinite(g))) for g in jax.tree.leaves(train(family)(x)))
  _, grads = train(family)(images())
  kernels = {
    jax.tree_util.keystr(path): jnp.max(jnp.abs(g))
    for path, g in jax.tree_util.tree_flatten_with_path(grads)[0]
    if path[-1].key == 'kernel'
  }
  assert kernels and min(kernels.values()) > 0


@normed
def test_every_norm_gets_the_axis_and_the_compute_dtype(family):
  seen = []

  def record(method, args, kwargs, context):
    if isinstance(context.module, BatchNorm):
      seen.append((context.module.axis_name, context.module.dtype))
    return method(*args, **kwargs)

  net = FAMILIES[family][0](K, norm_axis='devices', dtype=jnp.bfloat16)
  with nn.intercept_methods(record):
    variables = jax.eval_shape(net.init, jax.random.key(0), images())
  norms = [p for p, _ in jax.tree_util.tree_flatten_with_path(variables['batch_stats'])[0]]
  assert len(seen) == len(norms) / 2  # a mean and a variance each
  assert set(seen) == {('devices', jnp.bfloat16)}


def test_norm_axis_synchronises_statistics():
  net, variables = make('resnet A', norm_axis='devices')
  step = lambda x: net.apply(variables, x, True, mutable=['batch_stats'])
  halves = jax.jit(jax.vmap(step, axis_name='devices'))
  (split, _), split_state = halves(images().reshape(2, 2, *SIZE[1:]))
  (_, (whole, stats)), _ = train('resnet A')(images())
  np.testing.assert_allclose(split.reshape(4, K), whole, rtol=1e-3, atol=1e-3)
  close = lambda a, b: np.testing.assert_allclose(a[1], b, rtol=1e-3, atol=1e-4)
  jax.tree.map(close, split_state['batch_stats'], stats)


@pytest.mark.parametrize('family', ['mlp', 'resnet A'])
def test_bound_as_pure_functions(family):
  net, variables = make(family)
  model = bind(net, mean=0.5, std=0.25)
  x = jax.random.uniform(jax.random.key(0), SIZE)
  params, state = jax.eval_shape(model.init, jax.random.key(1), x)
  assert jax.tree.structure({'params': params, **state}) == jax.tree.structure(variables)
  state = {name: v for name, v in variables.items() if name != 'params'}
  (logits, _), same = jax.jit(model.apply)(variables['params'], state, x)
  (direct, _), _ = evaluate(family)((x - 0.5) / 0.25)
  np.testing.assert_allclose(logits, direct, rtol=1e-4, atol=1e-5)
  assert jax.tree.structure(same) == jax.tree.structure(state)


@pytest.mark.parametrize('family', ['mlp', 'wide'])
def test_dropout_acts_in_training_only(family):
  net, variables = make(family, dropout=0.5)
  run = jax.jit(
    lambda key: net.apply(
      variables, images(), True, rngs={'dropout': key}, mutable=['batch_stats']
    )[0][0]
  )
  a, b, again = run(jax.random.key(0)), run(jax.random.key(1)), run(jax.random.key(0))
  assert jnp.max(jnp.abs(a - b)) > 1e-3
  np.testing.assert_array_equal(a, again)
  # Same parameters, no key: dropout is gone.
  np.testing.assert_array_equal(
    evaluate(family, dropout=0.5)(images())[0][0], evaluate(family)(images())[0][0]
  )


def test_mlp_input_dropout_drops_pixels():
  net = create('mlp', K, hidden=(), input_dropout=0.5)
  x = jnp.ones((2, 10, 10, 1))
  variables = net.init(jax.random.key(0), x)
  _, features = net.apply(variables, x, True, rngs={'dropout': jax.random.key(1)})
  assert set(np.unique(features['pooled'])) == {0.0, 2.0}
  _, features = net.apply(variables, x)
  np.testing.assert_array_equal(features['pooled'], np.ones((2, 100)))


@pytest.mark.parametrize(
  ('factory', 'expected'),
  [
    (lambda **kw: create('resnet8', K, shortcut='B', **kw), 9),
    (lambda **kw: bottleneck_net(K, **kw), 9),
    (lambda **kw: create('wrn10_2', K, **kw), 10),
    (lambda **kw: create('densenet16_12', K, **kw), 15),
    (lambda **kw: create('vgg11_bn', K, **kw), 8),
    (lambda **kw: create('airbench', K, **kw), 6),
  ],
)
def test_every_convolution_comes_from_the_factory(factory, expected):
  made = []

  def recording(*args, **kwargs):
    made.append(kwargs['name'])
    return conv(*args, **kwargs)

  net = factory(conv=recording)
  jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, 16, 16, 3)))
  assert len(made) == expected


def test_kernels_are_he_normal_over_the_fan_out():
  variables = conv(256, 3).init(jax.random.key(0), jnp.zeros((1, 4, 4, 32)))
  kernel = np.asarray(variables['params']['kernel'])
  assert kernel.std() == pytest.approx(np.sqrt(2 / (9 * 256)), rel=0.02)
  # Untruncated: Flax's own he_normal never leaves 2.3 standard deviations.
  assert np.abs(kernel).max() > 3.5 * kernel.std()


@pytest.mark.parametrize(('stride', 'size'), [(1, 8), (2, 8), (2, 7), (2, 1)])
def test_shortcut_a_centres_the_channels(stride, size):
  x = jax.random.normal(jax.random.key(0), (2, size, size, 3))
  out = pad_shortcut(x, 8, stride)
  expected = np.zeros((2, -(-size // stride), -(-size // stride), 8), np.float32)
  expected[..., 2:5] = x[:, ::stride, ::stride]
  np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize(
  ('make_net', 'words'),
  [
    (lambda: create('resnet_20', K), ["'resnet_20'", "Did you mean 'resnet20'", 'vgg16_bn']),
    (lambda: create('WRN28_10', K), ["Did you mean 'wrn28_10'"]),
    (lambda: create('zzz', K), ["Unknown model 'zzz'", 'resnet8', 'mlp']),
    (lambda: create('resnet8', K, shortcut='C'), ["'A' or 'B'", "'C'"]),
    (lambda: create('resnet18', K, stem='mnist'), ["'cifar' or 'imagenet'", "'mnist'"]),
    (lambda: create('resnet8', K, width=0.0), ["'width' of the model", 'at least 0.0625']),
    (lambda: create('resnet8', K, widths=(1, 2, 3)), ["'resnet8' has no option 'widths'"]),
    (lambda: create('wrn16_4', K, depth=40), ["'wrn16_4' has no option 'depth'"]),
    (lambda: create('wrn16_4', K, dropout=1.0), ["'dropout'", 'at least 0 and below 1']),
    (lambda: create('mlp', K, hidden=(8, 0)), ["'hidden' of the model 'mlp'", 'whole number']),
    (lambda: create('mlp', K, hidden='ab'), ["'hidden' of the model 'mlp'", "'ab'"]),
    (lambda: VGG(K, depth=12), ['[11, 13, 16, 19]', '12']),
    (lambda: wide_resnet(K, depth=27), ['6n + 4', '27']),
    (lambda: pad_shortcut(jnp.zeros((1, 2, 2, 8)), 4, 1), ['8 channels to 4', "'B'"]),
    (
      lambda: create('resnet8', K).init(jax.random.key(0), jnp.zeros((32, 32, 3))),
      ['[B, H, W, C]', '(32, 32, 3)'],
    ),
  ],
)
def test_mistakes_are_explained(make_net, words):
  with pytest.raises(ValueError) as error:
    make_net()
  assert all(word in str(error.value) for word in words)


def test_names_build_with_the_class_count_asked_for():
  for name, factory in MODELS.items():
    assert create(name, 7).num_classes == factory(7).num_classes == 7


def test_import_needs_neither_torch_nor_tensorflow():
  program = (
    'import sys; import jaxdl.models, jaxdl.flops; '
    "print(sorted({'torch', 'tensorflow'} & set(sys.modules)))"
  )
  done = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, check=True)
  assert done.stdout.strip() == '[]'


def test_an_option_the_network_lacks_is_named():
  with pytest.raises(ValueError, match="The model 'mlp' has no option 'width'"):
    create('mlp', 10, width=2)
