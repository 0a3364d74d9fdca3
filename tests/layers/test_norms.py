import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from jaxdl.layers import BatchNorm

SHAPES = {'dense': (16, 5), 'image': (4, 6, 5, 5), 'volume': (2, 3, 4, 3, 5)}


def inputs(shape, dtype=jnp.float32):
  rng = np.random.default_rng(0)
  draw = lambda *s: jnp.asarray(rng.normal(size=s), jnp.float32)
  c = shape[-1]
  variables = {
    'params': {'scale': 1 + 0.3 * draw(c), 'bias': draw(c)},
    'batch_stats': {'mean': draw(c), 'var': 1 + draw(c) ** 2},
  }
  return variables, (2 + 3 * draw(*shape)).astype(dtype)


def ours(variables, x, train=True, **kw):
  return BatchNorm(**kw).apply(variables, x, train=train, mutable=['batch_stats'])


def flax(variables, x, train=True, **kw):
  kw = {'momentum': 0.9, **kw}
  module = nn.BatchNorm(use_running_average=not train, **kw)
  return module.apply(variables, x, mutable=['batch_stats'])


def loss_of(norm, variables, **kw):
  """A loss that every output reaches, the running statistics too."""

  def loss(params, x):
    y, state = norm({**variables, 'params': params}, x, **kw)
    stats = state['batch_stats']
    return (jnp.sin(y) * jnp.cos(x)).sum() + (jnp.tanh(stats['var']) * stats['mean']).sum()

  return loss


def assert_close(a, b, tolerance=2e-5):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  for u, v in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    assert u.dtype == v.dtype and u.shape == v.shape
    u, v = np.asarray(u, np.float64), np.asarray(v, np.float64)
    assert np.abs(u - v).max() <= tolerance * np.abs(v).max()


@pytest.mark.parametrize('shape', SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize('train', [True, False])
def test_values_and_statistics_equal_flax(shape, train):
  variables, x = inputs(shape)
  assert_close(ours(variables, x, train), flax(variables, x, train), 1e-6)


def test_values_follow_the_definition():
  variables, x = inputs((4, 6, 5, 5))
  y, state = ours(variables, x, momentum=0.7, epsilon=1e-3)
  x = np.asarray(x, np.float64)
  mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
  scale, bias = (np.asarray(variables['params'][k]) for k in ('scale', 'bias'))
  np.testing.assert_allclose(y, (x - mean) / np.sqrt(var + 1e-3) * scale + bias, atol=1e-5)
  old = variables['batch_stats']
  for name, batch in (('mean', mean), ('var', var)):
    expected = 0.7 * np.asarray(old[name]) + 0.3 * batch
    np.testing.assert_allclose(state['batch_stats'][name], expected, rtol=1e-5)


@pytest.mark.parametrize('shape', SHAPES.values(), ids=SHAPES)
def test_derivatives_equal_flax(shape):
  variables, x = inputs(shape)
  rng = np.random.default_rng(1)
  point = (variables['params'], x)
  direction = jax.tree.map(lambda v: jnp.asarray(rng.normal(size=v.shape), jnp.float32), point)

  def derivatives(norm):
    loss = loss_of(norm, variables)
    gradient = jax.grad(loss, (0, 1))
    along = lambda *p: jax.tree.reduce(
      jnp.add, jax.tree.map(jnp.vdot, gradient(*p), direction)
    )
    return {
      'jvp': jax.jvp(loss, point, direction),
      'grad': gradient(*point),
      'forward over reverse': jax.jvp(gradient, point, direction)[1],
      'reverse over reverse': jax.grad(along, (0, 1))(*point),
      'reverse over forward': jax.grad(lambda *p: jax.jvp(loss, p, direction)[1], (0, 1))(*point),
    }

  derivatives = jax.jit(derivatives, static_argnums=0)
  assert_close(derivatives(ours), derivatives(flax))


@pytest.mark.parametrize('dtype', [None, jnp.bfloat16, jnp.float32])
def test_bfloat16_input_equals_flax(dtype):
  variables, x = inputs((8, 4, 4, 5), jnp.bfloat16)
  y, state = ours(variables, x, dtype=dtype)
  assert_close((y, state), flax(variables, x, dtype=dtype), 1e-2)
  assert all(v.dtype == jnp.float32 for v in jax.tree.leaves(state))
  gradients = lambda norm: jax.grad(
    lambda p: norm({**variables, 'params': p}, x, dtype=dtype)[0].astype(jnp.float32).var()
  )(variables['params'])
  assert_close(gradients(ours), gradients(flax), 2e-2)


def test_synchronised_statistics_equal_the_whole_batch():
  variables, x = inputs((8, 4, 4, 5))
  whole = loss_of(ours, variables)

  def split(params, x):
    parts = x.reshape(4, 2, *x.shape[1:])
    one = lambda x: ours({**variables, 'params': params}, x, axis_name='shard')
    y, state = jax.vmap(one, axis_name='shard')(parts)
    stats = jax.tree.map(lambda v: v[0], state['batch_stats'])
    y = y.reshape(x.shape)
    return (jnp.sin(y) * jnp.cos(x)).sum() + (jnp.tanh(stats['var']) * stats['mean']).sum()

  point = (variables['params'], x)
  direction = jax.tree.map(jnp.cos, point)
  for f in (
    lambda loss: loss(*point),
    lambda loss: jax.grad(loss, (0, 1))(*point),
    lambda loss: jax.jvp(jax.grad(loss, (0, 1)), point, direction)[1],
  ):
    assert_close(f(split), f(whole))


def test_axis_name_equals_flax_under_vmap():
  variables, x = inputs((4, 2, 3, 3, 5))

  def run(norm):
    def loss(params, x):
      one = lambda x: norm({**variables, 'params': params}, x, axis_name='shard')
      y, state = jax.vmap(one, axis_name='shard')(x)
      return jnp.sin(y).sum(), state

    return jax.grad(loss, (0, 1), has_aux=True)(variables['params'], x)

  assert_close(run(ours), run(flax))


def test_synchronised_statistics_under_shard_map():
  devices = jax.devices()[:2]
  if len(devices) < 2:
    pytest.skip('needs 2 devices')
  variables, x = inputs((8, 4, 4, 5))
  mesh = Mesh(np.array(devices), ('data',))
  one = lambda v, x: ours(v, x, axis_name='data')
  mapped = jax.jit(jax.shard_map(
    one, mesh=mesh, in_specs=(P(), P('data')), out_specs=(P('data'), P())
  ))
  assert_close(mapped(variables, x), ours(variables, x), 1e-5)


def test_parameter_paths():
  class Net(nn.Module):
    @nn.compact
    def __call__(self, x, train):
      return BatchNorm()(BatchNorm()(x, train=train), train=train)

  variables = Net().init(jax.random.key(0), jnp.ones((2, 3)), train=False)
  for name in ('BatchNorm_0', 'BatchNorm_1'):
    assert set(variables['params'][name]) == {'scale', 'bias'}
    assert set(variables['batch_stats'][name]) == {'mean', 'var'}


def test_without_scale_and_bias():
  variables, x = inputs((8, 5))
  variables = {'params': {}, 'batch_stats': variables['batch_stats']}
  kw = dict(use_scale=False, use_bias=False)
  assert_close(ours(variables, x, **kw), flax(variables, x, **kw), 1e-6)
  assert 'params' not in BatchNorm(**kw).init(jax.random.key(0), x, train=True)


def test_initializers_and_first_statistics():
  x = jnp.ones((2, 3)) * 7
  zeros, ones = nn.initializers.zeros, nn.initializers.ones
  made = BatchNorm(scale_init=zeros, bias_init=ones, axis_name='absent').init(
    jax.random.key(0), x, train=True
  )
  np.testing.assert_array_equal(made['params']['scale'], 0)
  np.testing.assert_array_equal(made['params']['bias'], 1)
  np.testing.assert_array_equal(made['batch_stats']['mean'], 0)  # init does not move them
  np.testing.assert_array_equal(made['batch_stats']['var'], 1)


def test_constant_channel_stays_finite():
  variables, _ = inputs((4, 5))
  x = jnp.full((4, 5), 1e4)
  y, gradient = jax.value_and_grad(lambda x: jnp.sin(ours(variables, x)[0]).sum())(x)
  assert np.isfinite(y) and np.isfinite(gradient).all()
