import json
import os
import re
import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxdl import cpu

NHWC = ('NHWC', 'HWIO', 'NHWC')
TORCH = ((1, 1), (1, 1))
CANONICAL = 'b01f_01io->b01f'


@pytest.fixture(autouse=True)
def rule():
  assert cpu.install()
  yield
  cpu.install()


def case(image, kernel, stride=1, padding='SAME', numbers=NHWC, **kw):
  strides = (stride,) * (len(image) - 2) if isinstance(stride, int) else stride
  return image, kernel, dict(
    window_strides=strides, padding=padding, dimension_numbers=numbers, **kw
  )


CASES = {
  '3x3': case((4, 8, 8, 3), (3, 3, 3, 4)),
  '3x3 odd': case((5, 7, 6, 3), (3, 3, 3, 4)),
  '3x3 image smaller than kernel': case((4, 2, 2, 3), (3, 3, 3, 4)),
  '3x3 one channel': case((4, 6, 6, 1), (3, 3, 1, 4)),
  '3x3 valid': case((4, 8, 8, 3), (3, 3, 3, 4), padding='VALID'),
  '3x3 stride 2': case((4, 8, 8, 3), (3, 3, 3, 4), 2),
  '3x3 stride 2 torch': case((4, 8, 8, 3), (3, 3, 3, 4), 2, TORCH),
  '3x3 stride 2 torch odd': case((4, 7, 7, 3), (3, 3, 3, 4), 2, TORCH),
  '5x3 stride (1, 2)': case((4, 9, 8, 3), (5, 3, 3, 4), (1, 2), ((2, 2), (0, 1))),
  'narrow': case((2, 4, 8, 8), (3, 3, 8, 8)),
  'narrow stride (2, 1)': case((2, 5, 12, 4), (3, 3, 4, 6), (2, 1), TORCH),
  'narrow to one pixel': case((2, 5, 8, 16), (3, 5, 16, 1), 1, ((1, 1), (3, 1))),
  'narrow odd': case((2, 3, 8, 3), (3, 3, 3, 9), 1, 'VALID'),
  'narrow channels first': case((2, 8, 4, 8), (16, 8, 3, 3), 1, 'SAME', None),
  '1x1': case((4, 6, 6, 3), (1, 1, 3, 4)),
  '1x1 stride 2': case((4, 6, 6, 3), (1, 1, 3, 4), 2),
  '1x1 stride 2 odd padded': case((4, 7, 7, 3), (1, 1, 3, 4), 2, ((1, 1), (0, 1))),
  '3x3 dilated': case((4, 9, 8, 3), (3, 3, 3, 4), 1, ((2, 2), (0, 1)), rhs_dilation=(2, 2)),
  '3x3 dilated stride 2': case((4, 9, 8, 3), (3, 3, 3, 4), 2, TORCH, rhs_dilation=(2, 1)),
  'transposed': case((4, 5, 4, 3), (4, 4, 3, 2), 1, ((2, 2), (2, 2)), lhs_dilation=(2, 2)),
  'transposed, strided': case((4, 5, 4, 3), (4, 4, 3, 2), (2, 1), TORCH, lhs_dilation=(2, 3)),
  'negative padding': case((4, 8, 8, 3), (3, 3, 3, 4), 1, ((-1, 0), (0, -1))),
  'whole image': case((4, 6, 6, 3), (6, 6, 3, 4), 1, 'VALID'),
  'channels first': case((4, 3, 8, 8), (4, 3, 3, 3), 1, 'SAME', None),
  'channels first stride 2': case((4, 3, 8, 8), (4, 3, 3, 3), 2, TORCH, None),
  'one dimension': case((4, 9, 3), (3, 3, 4), 2, 'SAME', ('NHC', 'HIO', 'NHC')),
  'three dimensions': case((2, 4, 5, 4, 2), (3, 3, 3, 2, 2), 1, 'SAME',
                           ('NDHWC', 'DHWIO', 'NDHWC')),
  'groups': case((4, 6, 6, 4), (3, 3, 2, 6), 2, TORCH, feature_group_count=2),
  'batch groups': case((4, 6, 6, 3), (3, 3, 3, 4), batch_group_count=2),
  'depthwise': case((4, 6, 6, 3), (3, 3, 1, 3), feature_group_count=3),
  'depthwise stride 2': case((4, 7, 7, 3), (3, 3, 1, 3), 2, TORCH, feature_group_count=3),
  'depthwise dilated': case((4, 8, 8, 3), (3, 3, 1, 3), feature_group_count=3, rhs_dilation=(2, 2)),
  'depthwise, two features a channel': case((4, 6, 6, 3), (3, 3, 1, 6), feature_group_count=3),
}


def arrays(*shapes, dtype=jnp.float32):
  rng = np.random.default_rng(0)
  return tuple(jnp.asarray(rng.normal(size=s), dtype) for s in shapes)


def both(f, *args):
  """f's result under the rule, and as stock JAX lowers it."""
  ours = jax.jit(f)(*args)
  cpu.uninstall()
  stock = jax.jit(f)(*args)
  cpu.install()
  return ours, stock


def assert_close(ours, stock, tolerance=1e-4):
  assert jax.tree.structure(ours) == jax.tree.structure(stock)
  for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(stock), strict=True):
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    assert np.abs(a - b).max() <= tolerance * np.abs(b).max()


@pytest.mark.parametrize('name', CASES)
def test_values_and_derivatives_equal_stock_jax(name):
  image, kernel, kw = CASES[name]
  x, w, dx, dw = arrays(image, kernel, image, kernel)
  convolve = lambda x, w: lax.conv_general_dilated(x, w, **kw)
  gradient = jax.grad(lambda x, w: jnp.sin(convolve(x, w)).sum(), (0, 1))

  def everything(x, w):
    forward = jax.jvp(convolve, (x, w), (dx, dw))
    value, product = jax.jvp(gradient, (x, w), (dx, dw))
    seeds = jax.vmap(gradient)(jnp.stack([x, dx]), jnp.stack([w, dw]))
    return forward, value, product, seeds

  assert_close(*both(everything, x, w))


@pytest.mark.parametrize('name', ['3x3', '3x3 stride 2 torch', 'transposed', 'depthwise'])
def test_reverse_over_reverse_equals_stock_jax(name):
  image, kernel, kw = CASES[name]
  x, w, dx, dw = arrays(image, kernel, image, kernel)
  gradient = jax.grad(lambda x, w: jnp.sin(lax.conv_general_dilated(x, w, **kw)).sum(), (0, 1))

  def inner(x, w):
    gx, gw = gradient(x, w)
    return (gx * dx).sum() + (gw * dw).sum()

  assert_close(*both(jax.grad(inner, (0, 1)), x, w))


@pytest.mark.parametrize('name', [n for n in CASES if not re.search('groups|two features', n)])
def test_weight_gradient_has_no_convolution(name):
  image, kernel, kw = CASES[name]
  x, w = arrays(image, kernel)
  f = lambda w: lax.conv_general_dilated(x, w, **kw)
  pullback = lambda dy: jax.vjp(f, w)[1](dy)
  dy = jax.eval_shape(f, w)
  assert 'stablehlo.convolution' not in jax.jit(pullback).lower(dy).as_text()
  cpu.uninstall()
  assert 'stablehlo.convolution' in jax.jit(pullback).lower(dy).as_text()


@pytest.mark.parametrize('image, kernel, window', [
  ((2, 32, 32, 16), (3, 3, 16, 16), (3, 4, 16, 32)),
  ((2, 32, 32, 3), (3, 3, 3, 16), (3, 6, 3, 64)),
  ((2, 28, 28, 1), (5, 5, 1, 6), (5, 11, 1, 42)),
  ((2, 32, 32, 3), (3, 3, 3, 17), (3, 3, 3, 17)),
  ((2, 8, 8, 16), (1, 1, 16, 16), (1, 1, 16, 16)),
  ((2, 4, 4, 4), (3, 3, 4, 4), (3, 3, 4, 4)),
])
def test_narrow_convolutions_are_made_wide(image, kernel, window):
  x, w = arrays(image, kernel)
  f = lambda x, w: lax.conv_general_dilated(x, w, (1, 1), 'SAME', dimension_numbers=NHWC)
  text = jax.jit(f).lower(x, w).as_text()
  (found,) = re.findall(r'stablehlo.convolution.*tensor<\S+>, tensor<([\dx]+)xf32>', text)
  assert found == 'x'.join(map(str, window))
  assert_close(*both(f, x, w))


@pytest.mark.parametrize('kernel', [3, 7])
def test_depthwise_has_no_convolution(kernel):
  x, w = arrays((2, 9, 9, 5), (kernel, kernel, 1, 5))
  f = lambda x, w: lax.conv_general_dilated(
    x, w, (1, 1), 'SAME', dimension_numbers=NHWC, feature_group_count=5
  )
  text = jax.jit(jax.grad(lambda x, w: jnp.sin(f(x, w)).sum(), (0, 1))).lower(x, w).as_text()
  assert 'stablehlo.convolution' not in text


def test_large_depthwise_kernel_stays_a_convolution():
  x, w = arrays((1, 12, 12, 17), (12, 12, 1, 17))
  f = lambda x, w: lax.conv_general_dilated(
    x, w, (1, 1), 'SAME', dimension_numbers=NHWC, feature_group_count=17
  )
  assert 'stablehlo.convolution' in jax.jit(f).lower(x, w).as_text()


@pytest.mark.parametrize('dtype', [jnp.bfloat16, jnp.float16, jnp.complex64, jnp.int32])
def test_other_dtypes_equal_stock_jax(dtype):
  x, w = arrays((2, 3, 6, 6), (4, 3, 3, 3))
  x, w = (5 * x).astype(dtype), (5 * w).astype(dtype)
  f = lambda x, w: lax.conv_general_dilated(x, w, (1, 1), 'SAME')
  ours, stock = both(f, x, w)
  assert ours.dtype == stock.dtype == dtype
  wide = jnp.complex64 if dtype == jnp.complex64 else jnp.float32
  difference = jnp.abs(ours.astype(wide) - stock.astype(wide)).max()
  assert difference <= 2e-2 * jnp.abs(stock.astype(wide)).max()


def residual_net(params, x):
  convolve = lambda x, w, s: lax.conv_general_dilated(
    x, w, (s, s), 'SAME', dimension_numbers=NHWC
  )
  stem, first, second, skip = params
  x = jax.nn.relu(convolve(x, stem, 1))
  y = convolve(jax.nn.relu(convolve(x, first, 2)), second, 1)
  return jax.nn.relu(y + convolve(x, skip, 2)).mean()


def scanned_training(params, x):
  def step(params, _):
    loss, g = jax.value_and_grad(residual_net)(params, x)
    return jax.tree.map(lambda p, g: p - 0.1 * g, params, g), loss

  return lax.scan(step, params, length=3)


def convolution_layouts(f, *args):
  text = jax.jit(f).lower(*args).compile().as_text()
  return set(re.findall(r'dim_labels=([^\s,}]+)', text))


def test_convolutions_of_a_scanned_gradient_are_canonical():
  params = arrays((3, 3, 3, 4), (3, 3, 4, 8), (3, 3, 8, 8), (1, 1, 4, 8))
  (x,) = arrays((4, 8, 8, 3))
  assert convolution_layouts(scanned_training, params, x) == {CANONICAL}
  cpu.uninstall()
  assert convolution_layouts(scanned_training, params, x) - {CANONICAL}  # else the rule is obsolete


def test_scanned_training_equals_stock_jax():
  params = arrays((3, 3, 3, 4), (3, 3, 4, 8), (3, 3, 8, 8), (1, 1, 4, 8))
  assert_close(*both(scanned_training, params, arrays((4, 8, 8, 3))[0]))


@pytest.mark.parametrize('how', ['mesh', 'shard_map', 'shard_map unchecked', 'pmap'])
def test_gradient_over_four_devices_equals_one(how):
  params = arrays((3, 3, 3, 4), (3, 3, 4, 8), (3, 3, 8, 8), (1, 1, 4, 8))
  (x,) = arrays((8, 8, 8, 3))
  expected = jax.jit(jax.grad(residual_net))(params, x)
  devices = jax.devices()[:4]
  if len(devices) < 4:
    pytest.skip('needs 4 devices')
  mesh = Mesh(np.array(devices), ('data',))
  local = lambda params, x: lax.pmean(jax.grad(residual_net)(params, x), 'data')
  if how == 'mesh':
    sharded = jax.device_put(x, NamedSharding(mesh, P('data')))
    actual = jax.jit(jax.grad(residual_net))(params, sharded)
  elif how == 'pmap':
    split = x.reshape(4, 2, *x.shape[1:])
    mapped = jax.pmap(local, axis_name='data', in_axes=(None, 0), devices=devices)
    actual = jax.tree.map(lambda g: g[0], mapped(params, split))
  else:
    checked = how == 'shard_map'
    vary = lambda p: lax.pcast(p, 'data', to='varying') if checked else p
    actual = jax.jit(jax.shard_map(
      lambda params, x: local(jax.tree.map(vary, params), x), mesh=mesh, in_specs=(P(), P('data')),
      out_specs=P(), check_vma=checked,
    ))(params, x)
  assert_close(actual, expected)


def test_install_twice_and_uninstall_twice():
  assert cpu.install() and cpu.install()
  cpu.uninstall()
  cpu.uninstall()
  assert cpu.install()


def test_unknown_jax_warns_and_keeps_stock_behaviour(monkeypatch):
  cpu.uninstall()
  monkeypatch.setattr(cpu, '_stock_rule', lambda: None)
  with pytest.warns(UserWarning, match='convolution lowering'):
    assert not cpu.install()
  x, w = arrays((1, 3, 6, 6), (4, 3, 3, 3))
  assert convolution_layouts(lambda x, w: lax.conv_general_dilated(x, w, (1, 1), 'SAME'), x, w)
  monkeypatch.undo()
  with warnings.catch_warnings():
    warnings.simplefilter('error')
    assert cpu.install()


PROGRAM = """
import json, os, sys
from jaxdl import cpu
cpu._huge_pages_possible = lambda: True
with open(os.environ['STARTS'], 'a') as f:
  f.write(json.dumps([sys.argv[1:], os.environ.get('GLIBC_TUNABLES')]) + '\\n')
cpu.reexec_with_huge_pages()
print(sys.flags.utf8_mode, *sys.argv[1:])
"""


@pytest.mark.skipif(sys.platform == 'win32', reason='POSIX exec')
@pytest.mark.parametrize('form', ['file', 'module'])
def test_reexec_happens_once_and_keeps_arguments(form, tmp_path):
  (tmp_path / 'program.py').write_text(PROGRAM)
  starts = tmp_path / 'starts'
  root = os.path.dirname(os.path.dirname(cpu.__file__))
  env = {**os.environ, 'STARTS': str(starts), 'PYTHONPATH': os.pathsep.join([root, str(tmp_path)])}
  env.pop('GLIBC_TUNABLES', None)
  what = ['-m', 'program'] if form == 'module' else [str(tmp_path / 'program.py')]
  arguments = ['--name=two words', '-x', '']
  done = subprocess.run(
    [sys.executable, '-X', 'utf8', *what, *arguments], env=env, check=True, capture_output=True,
    text=True,
  )
  assert done.stdout.splitlines() == ['1 --name=two words -x ']
  seen = [json.loads(line) for line in starts.read_text().splitlines()]
  assert seen == [[arguments, None], [arguments, 'glibc.malloc.hugetlb=1']]


@pytest.mark.parametrize(
  ('tunables', 'possible'), [('glibc.malloc.arena_max=1', True), (None, False)]
)
def test_no_reexec_where_set_or_useless(tunables, possible, monkeypatch):
  monkeypatch.delenv('GLIBC_TUNABLES', raising=False)
  if tunables:
    monkeypatch.setenv('GLIBC_TUNABLES', tunables)
  monkeypatch.setattr(cpu, '_huge_pages_possible', lambda: possible)
  monkeypatch.setattr(os, 'execv', lambda *a: pytest.fail('started again'))
  cpu.reexec_with_huge_pages()
  assert os.environ.get('GLIBC_TUNABLES') == tunables


@pytest.mark.skipif(sys.platform != 'linux', reason='Linux only')
@pytest.mark.parametrize(
  ('setting', 'libc', 'possible'),
  [
    ('always [madvise] never', 'glibc 2.36', True),
    ('[always] madvise never', 'glibc 2.36', True),
    ('always madvise [never]', 'glibc 2.36', False),
    ('always [madvise] never', None, False),
    (None, 'glibc 2.36', False),
  ],
)
def test_huge_pages_only_where_they_exist(setting, libc, possible, monkeypatch, tmp_path):
  path = tmp_path / 'enabled'
  if setting is not None:
    path.write_text(setting + '\n')
  monkeypatch.setattr(cpu, '_THP', str(path))
  monkeypatch.setattr(os, 'confstr', lambda name: libc)
  assert cpu._huge_pages_possible() == possible
