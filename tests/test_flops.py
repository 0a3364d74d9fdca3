"""The MAC counter against XLA's own count, closed forms and published numbers."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.sharding import PartitionSpec as P

from jaxdl import cpu
from jaxdl.flops import count, model_summary


def shape(*sizes, dtype=jnp.float32):
  return jax.ShapeDtypeStruct(sizes, dtype)


@pytest.fixture(scope='module', autouse=True)
def xla_alone():
  """The oracle is XLA's count of the program as written: the rule for CPUs multiplies by zeros."""
  cpu.uninstall()
  yield
  cpu.install()


def xla_macs(fn, *args):
  return jax.jit(fn).lower(*args).cost_analysis()['flops'] / 2


def convolve(x, w, **kwargs):
  defaults = {
    'window_strides': (1, 1),
    'padding': ((0, 0), (0, 0)),
    'dimension_numbers': ('NHWC', 'HWIO', 'NHWC'),
  }
  return lax.conv_general_dilated(x, w, **(defaults | kwargs))


# --- against XLA, which counts two flops per MAC and leaves padding out -------------------------


def test_dense_net_agrees_with_xla():
  net = lambda x, w1, w2: x @ w1 @ w2
  args = shape(5, 7), shape(7, 11), shape(11, 3)
  assert count(net, *args).macs == xla_macs(net, *args) == 5 * 7 * 11 + 5 * 11 * 3


def test_batched_product_with_two_contractions_agrees_with_xla():
  fn = lambda x, y: jnp.einsum('bhqdc,bhkdc->bhqk', x, y)
  args = shape(2, 3, 4, 5, 6), shape(2, 3, 7, 5, 6)
  assert count(fn, *args).macs == xla_macs(fn, *args) == 2 * 3 * 4 * 7 * 5 * 6


@pytest.mark.parametrize(
  ('kernel', 'options'),
  [
    ((3, 3, 4, 6), {}),
    ((3, 2, 4, 6), {'window_strides': (2, 3)}),
    ((3, 3, 4, 6), {'rhs_dilation': (2, 1)}),
    ((3, 3, 1, 8), {'feature_group_count': 4}),
    ((3, 3, 2, 6), {'feature_group_count': 2, 'window_strides': (2, 2)}),
    ((2, 2, 4, 6), {'batch_group_count': 2}),
    ((3, 3, 4, 6), {'lhs_dilation': (2, 3)}),
    ((4, 3, 4, 6), {'lhs_dilation': (2, 2), 'window_strides': (3, 1), 'rhs_dilation': (1, 3)}),
  ],
)
def test_convolution_without_padding_agrees_with_xla(kernel, options):
  fn = lambda x, w: convolve(x, w, **options)
  args = shape(2, 11, 13, 4), shape(*kernel)
  assert count(fn, *args).macs == xla_macs(fn, *args) > 0


def test_convolution_net_in_another_layout_agrees_with_xla():
  def net(x, w1, w2):
    x = convolve(x, w1, dimension_numbers=('NCHW', 'OIHW', 'NHWC'))
    return convolve(x, w2, window_strides=(2, 2))

  args = shape(2, 3, 12, 10), shape(5, 3, 3, 1), shape(2, 4, 5, 7)
  assert count(net, *args).macs == xla_macs(net, *args)


# --- conventions ----------------------------------------------------------------------------------


def test_padding_counts_as_data():
  fn = lambda x, w: convolve(x, w, padding=((1, 1), (1, 1)), window_strides=(2, 2))
  args = shape(2, 8, 8, 4), shape(3, 3, 4, 6)
  assert count(fn, *args).macs == 2 * 4 * 4 * 6 * 9 * 4
  assert xla_macs(fn, *args) < count(fn, *args).macs


def test_transposed_convolution_counts_input_times_kernel():
  fn = lambda x, w: lax.conv_transpose(x, w, (2, 2), ((2, 2), (2, 2)))
  x, w = shape(1, 5, 5, 3), shape(4, 4, 3, 7)
  assert jax.eval_shape(fn, x, w).shape == (1, 10, 10, 7)
  assert count(fn, x, w).macs == 5 * 5 * 3 * 4 * 4 * 7


@pytest.mark.parametrize('stride', [1, 2])
def test_backward_pass_costs_twice_the_forward(stride):
  fn = lambda x, w: convolve(x, w, padding=((1, 1), (1, 1)), window_strides=(stride, stride))
  args = shape(2, 8, 8, 4), shape(3, 3, 4, 6)
  forward = count(fn, *args).macs
  loss = lambda x, w: jnp.sum(fn(x, w) ** 2)
  assert count(jax.grad(loss, argnums=(0, 1)), *args).macs == 3 * forward
  assert count(jax.grad(loss, argnums=1), *args).macs == 2 * forward


def test_elementwise_work_is_free():
  fn = lambda x: nn.softmax(nn.relu(x) + 1.0).sum()
  assert count(fn, shape(8, 8)) == (0, {}, {}, ())


# --- control flow ---------------------------------------------------------------------------------

SQUARE = 4**3
MATRIX = shape(4, 4)


def nested(x):
  return jax.jit(lambda y: jax.jit(lambda z: z @ z)(y) @ y)(x)


def scanned(x):
  return lax.scan(lambda c, w: (c @ w, c @ c), x, jnp.zeros((5, 4, 4)))


def counted_loop(x):
  return lax.fori_loop(0, 7, lambda i, c: c @ c, x)


def loop_in_loop(x):
  return lax.fori_loop(0, 3, lambda i, c: counted_loop(c) @ c, x)


def branches(x):
  return lax.switch(1, [lambda y: y, lambda y: y @ y @ y, lambda y: y @ y], x)


def rematerialised(x):
  return jax.grad(jax.checkpoint(lambda y: jnp.sum(jnp.sin(y @ y))))(x)


@jax.custom_vjp
def custom(x):
  return x @ x


custom.defvjp(lambda x: (x @ x @ x, x), lambda x, g: (g,))


@jax.custom_jvp
def custom_forward(x):
  return x @ x


custom_forward.defjvp(lambda x, t: (x[0] @ x[0], t[0]))


@pytest.mark.parametrize(
  ('fn', 'products'),
  [
    (nested, 2),
    (scanned, 10),
    (counted_loop, 7),
    (loop_in_loop, 3 * 8),
    (branches, 2),
    (rematerialised, 4),  # forward, again in the backward pass, and two products of the gradient
    (custom, 1),
    (jax.grad(lambda x: jnp.sum(custom(x))), 2),
    (custom_forward, 1),
    (jax.vmap(lambda v: v @ jnp.zeros((4, 4))), 1),
  ],
)
def test_structured_programs(fn, products):
  counts = count(fn, MATRIX)
  assert counts.macs == products * SQUARE
  assert counts.by_primitive == {'dot_general': products * SQUARE}
  assert sum(counts.by_scope.values()) == counts.macs
  assert not counts.notes


def test_loop_of_unknown_length_counts_once_and_says_so():
  fn = lambda x: lax.while_loop(lambda c: jnp.sum(c) < 1, lambda c: c @ c, x)
  counts = count(fn, MATRIX)
  assert counts.macs == SQUARE
  assert len(counts.notes) == 1 and 'while_loop' in counts.notes[0]
  free = count(lambda x: lax.while_loop(lambda c: c[0, 0] < 1, lambda c: c + 1, x), MATRIX)
  assert free.macs == 0 and not free.notes


def test_opaque_primitives_are_named():
  fn = lambda x: jax.pure_callback(lambda a: a, x, x) @ x
  counts = count(fn, MATRIX)
  assert counts.macs == SQUARE
  assert counts.notes == ('the primitive pure_callback was not counted',)


def test_all_devices_count():
  devices = jax.device_count()
  mesh = jax.make_mesh((devices,), ('data',), axis_types=(jax.sharding.AxisType.Auto,))
  specs = {'in_specs': (P('data'), P()), 'out_specs': P('data')}
  sharded = jax.shard_map(lambda x, w: x @ w, mesh=mesh, **specs)
  x, w = shape(2 * devices, 3), shape(3, 5)
  assert count(sharded, x, w).macs == 2 * devices * 3 * 5
  mapped = jax.pmap(lambda x, w: x @ w, in_axes=(0, None))
  assert count(mapped, shape(devices, 2, 3), w).macs == 2 * devices * 3 * 5


# --- summaries ------------------------------------------------------------------------------------


class Inner(nn.Module):
  @nn.compact
  def __call__(self, x):
    x = nn.remat(nn.Dense)(6, name='first')(x)
    many = nn.vmap(
      nn.Dense, variable_axes={'params': 0}, split_rngs={'params': True}, in_axes=None, axis_size=2
    )
    return many(3, name='second')(x)


class Outer(nn.Module):
  def setup(self):
    self.scale = self.param('scale', nn.initializers.ones, (4, 4))
    self.inner = Inner()
    self.last = nn.BatchNorm(use_running_average=True)

  def embed(self, x):
    return self.inner(x @ self.scale)

  def __call__(self, x):
    return self.last(self.embed(x))


def test_summary_rows_follow_the_modules():
  summary = model_summary(Outer(), (4,))
  assert summary.rows == (
    ('(itself)', 16, 16),
    ('inner', (4 * 6 + 6) + 2 * (6 * 3 + 3), 24 + 36),
    ('last', 6, 0),
  )
  assert summary.parameters == 16 + 72 + 6 and summary.macs == 76
  deep = model_summary(Outer(), (4,), depth=2)
  assert [(r.name, r.macs) for r in deep.rows][1:3] == [('inner/first', 24), ('inner/second', 36)]
  assert (deep.parameters, deep.macs) == (summary.parameters, summary.macs)


def test_summary_prints_a_table():
  lines = str(model_summary(Outer(), (4,))).splitlines()
  assert lines[0].split() == ['Outer', 'parameters', 'MACs', 'MACs', '%']
  assert lines[3].split() == ['inner', '72', '60', '78.95']
  assert lines[-1].split() == ['total', '94', '76', '100.00']
  assert len({len(line) for line in lines}) == 1


def test_summary_of_a_token_model():
  summary = model_summary(nn.Embed(10, 4), (7,), dtype=jnp.int32)
  assert summary.parameters == 40 and summary.macs == 0
