"""The speed-run network against a NumPy float64 account of it, and its published size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from jaxdl.core import bind
from jaxdl.flops import model_summary
from jaxdl.layers.whitening import whitening_kernel
from jaxdl.models import create
from jaxdl.models.airbench import whitened


def conv(x, kernel, pad):
  k = kernel.shape[0]
  x = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
  h, w = x.shape[1] - k + 1, x.shape[2] - k + 1
  out = np.zeros((len(x), h, w, kernel.shape[3]))
  for i in range(k):
    for j in range(k):
      out += x[:, i : i + h, j : j + w] @ kernel[i, j]
  return out


def pool(x, k):
  h, w = x.shape[1] // k * k, x.shape[2] // k * k
  x = x[:, :h, :w].reshape(len(x), h // k, k, w // k, k, -1)
  return x.max((2, 4))


def gelu(x):
  return x * (1 + scipy.special.erf(x / np.sqrt(2))) / 2


def oracle(variables, x, train):
  p = jax.tree.map(np.float64, variables['params'])
  stats = jax.tree.map(np.float64, variables['batch_stats'])

  def norm(x, name):
    mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
    if not train:
      mean, var = stats[name]['mean'], stats[name]['var']
    return (x - mean) / np.sqrt(var + 1e-12) + p[name]['bias']

  x = gelu(conv(x, p['whiten']['kernel'], 0) + p['whiten']['bias'])
  for i in (1, 2, 3):
    x = pool(conv(x, p[f'stage{i}_conv1']['kernel'], 1), 2)
    x = gelu(norm(x, f'stage{i}_norm1'))
    x = gelu(norm(conv(x, p[f'stage{i}_conv2']['kernel'], 1), f'stage{i}_norm2'))
  return pool(x, 3)[:, 0, 0] @ p['head']['kernel'] / 9


@pytest.mark.parametrize('train', [False, True])
def test_forward_equals_numpy(train):
  net = create('airbench', 4, widths=(5, 6, 7))
  x = np.random.default_rng(0).standard_normal((3, 32, 32, 3)).astype(np.float32)
  variables = jax.jit(net.init)(jax.random.key(0), x)
  rng = np.random.default_rng(1)
  variables = jax.tree_util.tree_map_with_path(
    lambda path, w: jnp.asarray(rng.uniform(0.5, 1.5, w.shape), jnp.float32)
    if path[-1].key in ('var', 'bias') else w, variables,
  )
  run = jax.jit(lambda v, x: net.apply(v, x, train=train, mutable=['batch_stats']))
  (logits, features), state = run(variables, x)
  expected = oracle(variables, np.float64(x), train)
  assert np.ptp(expected) > 0.01
  np.testing.assert_allclose(logits, expected, rtol=2e-3, atol=2e-5)
  assert features['stage3'].shape == (3, 3, 3, 7) and features['stem'].shape == (3, 31, 31, 24)
  if train:
    before, after = variables['batch_stats'], state['batch_stats']
    x1 = pool(conv(gelu(conv(x, *whiten(variables), 0) + variables['params']['whiten']['bias']),
                   np.float64(variables['params']['stage1_conv1']['kernel']), 1), 2)
    moved = 0.6 * np.asarray(before['stage1_norm1']['mean']) + 0.4 * x1.mean((0, 1, 2))
    np.testing.assert_allclose(after['stage1_norm1']['mean'], moved, rtol=1e-3, atol=1e-4)


def whiten(variables):
  return (np.float64(variables['params']['whiten']['kernel']),)


def test_size_and_cost():
  """Kernels and biases counted by hand; 0.36 PFLOP for 487,424 images is 123 M MACs each."""
  summary = model_summary(create('airbench', 10), (32, 32, 3))
  kernels = 9 * (24 * 64 + 64 * 64 + 64 * 256 + 3 * 256 * 256)
  assert summary.parameters == 24 * 12 + 24 + kernels + 2 * 64 + 4 * 256 + 2560
  assert 3 * 2 * summary.macs * 487_424 == pytest.approx(0.36e15, rel=0.06)


def test_identity_start_passes_the_first_channels_on():
  net = create('airbench', 10, widths=(32, 40, 40))
  params = jax.jit(net.init)(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))['params']
  for name, same in (('stage1_conv1', 24), ('stage2_conv1', 32), ('stage3_conv2', 40)):
    centre = np.asarray(params[name]['kernel'])[1, 1, :same, :same]
    np.testing.assert_array_equal(centre, np.eye(same))
  plain = create('airbench', 10, widths=(32, 40, 40), identity=False)
  kernel = jax.jit(plain.init)(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))['params'][
    'stage2_conv1']['kernel']
  assert np.abs(kernel).max() <= 1 / np.sqrt(9 * 32)


def test_whitened_init_only_replaces_the_first_kernel():
  model = bind(create('airbench', 10, widths=(4, 4, 4)))
  x = jax.random.normal(jax.random.key(2), (6, 32, 32, 3))
  kernel = whitening_kernel(x)
  params, state = jax.jit(whitened(model.init, kernel))(jax.random.key(0), x[:1])
  plain, plain_state = jax.jit(model.init)(jax.random.key(0), x[:1])
  np.testing.assert_array_equal(params['whiten']['kernel'], kernel)
  params['whiten']['kernel'] = plain['whiten']['kernel']
  jax.tree.map(np.testing.assert_array_equal, (params, state), (plain, plain_state))
  with pytest.raises(ValueError, match='whitening kernel has shape'):
    whitened(model.init, kernel[:1])(jax.random.key(0), x[:1])


def test_head_starts_as_asked_and_widths_are_three():
  net = create('airbench', 500, widths=(4, 4, 64), head_std=2.0)
  head = jax.jit(net.init)(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))['params']['head']
  assert np.asarray(head['kernel']).std() == pytest.approx(2.0, rel=0.02)
  with pytest.raises(ValueError, match='three widths'):
    create('airbench', 10, widths=(4, 4))
