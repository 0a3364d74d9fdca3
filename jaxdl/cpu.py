"""What only XLA:CPU needs: a lowering rule for convolutions, and huge pages for malloc.

Model code knows nothing of this file. `install()` replaces how `lax.conv_general_dilated` is
lowered on the CPU platform, and only there; the primitive, its gradient and its batching rules stay
JAX's own, so grad, jvp, Hessian-vector products, vmap and scan work as before. What changes:

* XLA:CPU makes convolutions fit for its fast kernel in the entry computation only; inside a loop
  the backward ones run as scalar loops. Here each convolution is lowered as NHWC x HWIO -> NHWC.
* A weight gradient becomes matrix products over chunks of the batch. XLA fuses the network's
  forward chain into the transposes that its own weight gradient needs, and recomputes it there.
* A depthwise convolution becomes multiply-adds over shifted images, a convolution of a few groups
  (that of several networks under vmap is one) as many plain ones.
* A convolution with at most 16 channels on either side makes several neighbouring pixels at once:
  XLA gives only wider ones to its fast library.
"""

import functools
import itertools
import math
import os
import sys
import warnings
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.interpreters import mlir

_PRIMITIVE = lax.conv_general_dilated_p
_CHUNK_BYTES = 1 << 19  # of patches in one step of a weight gradient: they stay in the L2 cache
_MAX_CHUNK = 16
_MAX_TAPS = 128  # a larger kernel would only bloat the program
_MAX_GROUPS = 16
_NARROW = 16  # channels: XLA has its fast library do what is wider
_MAX_PIXELS = 8
_THP = '/sys/kernel/mm/transparent_hugepage/enabled'

_installed = False


def install() -> bool:
  """Installs the convolution rule for the CPU platform. Calling it again changes nothing.

  Returns:
    Whether the rule is in place: False, with a warning, on a JAX without the private symbol that it
    falls back to; convolutions then stay as JAX lowers them.
  """
  global _installed
  if _installed:
    return True
  stock = _stock_rule()
  if stock is None:
    warnings.warn(
      f'jaxdl.cpu does not know the convolution lowering of jax {jax.__version__}; convolutions '
      'stay as JAX lowers them on CPU, which is correct but several times slower inside loops.',
      stacklevel=2,
    )
    return False
  mlir.register_lowering(_PRIMITIVE, functools.partial(_rule, stock), platform='cpu')
  _installed = True
  jax.clear_caches()
  return True


def uninstall() -> None:
  """Puts JAX's own rule back."""
  global _installed
  if not _installed:
    return
  mlir.register_lowering(_PRIMITIVE, _stock_rule(), platform='cpu')
  _installed = False
  jax.clear_caches()


def _stock_rule():
  try:
    from jax._src.lax.convolution import _conv_general_dilated_lower as lower
  except ImportError:
    return None
  return functools.partial(lower, expand_complex_convolutions=True)


def _rule(stock, ctx, lhs, rhs, **params):
  rewrite = _rewrite(ctx, **params)
  if rewrite is None:
    return stock(ctx, lhs, rhs, **params)
  lowered = functools.partial(rewrite, shape=ctx.avals_out[0].shape, **params)
  return mlir.lower_fun(lowered, multiple_results=False)(ctx, lhs, rhs)


def _rewrite(ctx, *, dimension_numbers, feature_group_count, batch_group_count, window_strides,
             lhs_dilation, rhs_dilation, **_):
  """The function that computes a convolution better than XLA does, or None."""
  (x, w), (y,), d = ctx.avals_in, ctx.avals_out, dimension_numbers
  if x.ndim < 3 or not all(isinstance(n, int) for n in (*x.shape, *w.shape)):
    return None
  if x.dtype == w.dtype == y.dtype == jnp.float32:
    channels, features = x.shape[d.lhs_spec[1]], y.shape[d.out_spec[1]]
    if 1 < channels == features == feature_group_count and _size(w, d.rhs_spec) <= _MAX_TAPS:
      return _depthwise
    # In a weight gradient the image is the feature dimension, and the channel the batch dimension.
    backward = d.lhs_spec[1] < d.lhs_spec[0] and not _partitioned(ctx)
    if backward and _size(y, d.out_spec) <= _MAX_TAPS:
      if 1 < x.shape[d.lhs_spec[0]] == features == batch_group_count:
        return _depthwise_weight_gradient
      if feature_group_count == batch_group_count == 1:
        return _weight_gradient
    if 1 < max(feature_group_count, batch_group_count) <= _MAX_GROUPS:
      return _by_group
    ungrouped = feature_group_count == batch_group_count == 1
    one_by_one = window_strides[-1] == lhs_dilation[-1] == rhs_dilation[-1] == 1
    if x.ndim == 4 and ungrouped and one_by_one and not backward:
      taps, size = w.shape[d.rhs_spec[-1]], x.shape[d.lhs_spec[-1]]
      pixels = _pixels(channels, features, taps, size, y.shape[d.out_spec[-1]])
      if pixels > 1:
        return functools.partial(_narrow, pixels)
  if _is_canonical(d, x.ndim) or jnp.issubdtype(x.dtype, jnp.complexfloating):
    return None
  return _canonical


def _size(aval, spec):
  return math.prod(aval.shape[i] for i in spec[2:])


def _partitioned(ctx):
  """Whether XLA may spread the batch, which a weight gradient cuts into chunks, over devices."""
  return getattr(ctx.module_context.axis_context, 'num_devices', 1) not in (None, 1)


def _is_canonical(d, ndim):
  last = (0, ndim - 1, *range(1, ndim - 1))
  return (
    tuple(d.lhs_spec) == last
    and tuple(d.out_spec) == last
    and tuple(d.rhs_spec) == (ndim - 1, ndim - 2, *range(ndim - 2))
  )


def _channels_last(x, spec):
  return lax.transpose(x, (spec[0], *spec[2:], spec[1]))


def _kernel_last(w, spec):
  return lax.transpose(w, (*spec[2:], spec[1], spec[0]))


def _from(y, order):
  """Undoes a transpose to `order`."""
  inverse = [0] * len(order)
  for i, j in enumerate(order):
    inverse[j] = i
  return lax.transpose(y, tuple(inverse))


def _canonical(lhs, rhs, *, shape, dimension_numbers, **params):
  d, n = dimension_numbers, lhs.ndim
  last = (0, n - 1, *range(1, n - 1))
  numbers = lax.ConvDimensionNumbers(last, (n - 1, n - 2, *range(n - 2)), last)
  y = _PRIMITIVE.bind(
    _channels_last(lhs, d.lhs_spec), _kernel_last(rhs, d.rhs_spec), dimension_numbers=numbers,
    **params,
  )
  return _from(y, (d.out_spec[0], *d.out_spec[2:], d.out_spec[1]))


def _pixels(channels, features, taps, size, positions):
  """How many neighbouring pixels a narrow convolution makes at once; 1 for a wide one.

  Enough to be wide; the library needs more for an odd number of input channels to be fast. A kernel
  wider than the image would be worse than before.
  """
  if max(channels, features) > _NARROW or taps == 1:
    return 1
  wide = 2 * _NARROW if channels % 2 else _NARROW
  most = min(_MAX_PIXELS, size - taps + 1)
  fits = (p for p in range(2, most + 1) if positions % p == 0 and p * features > wide)
  return next(fits, 1)


def _narrow(p, lhs, rhs, *, shape, dimension_numbers, window_strides, **params):
  """Each output position makes p pixels, by a kernel that holds p copies side by side.

  A kernel k wide becomes k + p - 1 wide, its stride p; each of the p * features outputs reads k of
  these columns and has zeros in the others. What comes out is the image itself, once reshaped.
  """
  d = dimension_numbers
  x, w = _channels_last(lhs, d.lhs_spec), _kernel_last(rhs, d.rhs_spec)
  beside = [jnp.pad(w, ((0, 0), (i, p - 1 - i), (0, 0), (0, 0))) for i in range(p)]
  last = (0, 3, 1, 2)
  y = _PRIMITIVE.bind(
    x, jnp.concatenate(beside, -1), window_strides=(*window_strides[:-1], p),
    dimension_numbers=lax.ConvDimensionNumbers(last, (3, 2, 0, 1), last), **params,
  )
  y = y.reshape(*y.shape[:2], -1, w.shape[-1])
  return _from(y, (d.out_spec[0], *d.out_spec[2:], d.out_spec[1]))


def _by_group(lhs, rhs, *, shape, dimension_numbers, feature_group_count, batch_group_count,
              **params):
  """Few groups, of several networks under vmap say, one by one; XLA's own way is a scalar loop."""
  d, groups = dimension_numbers, max(feature_group_count, batch_group_count)
  split = d.lhs_spec[1 if feature_group_count > 1 else 0]
  parts = [
    _PRIMITIVE.bind(x, w, dimension_numbers=d, feature_group_count=1, batch_group_count=1, **params)
    for x, w in zip(
      jnp.split(lhs, groups, split), jnp.split(rhs, groups, d.rhs_spec[0]), strict=True
    )
  ]
  return lax.concatenate(parts, d.out_spec[1])


class _Axis(NamedTuple):
  """How a kernel moves along one spatial axis of an array.

  Attributes:
    taps: of the kernel.
    low: zeros put before the axis; negative drops rows.
    size: positions the kernel takes.
    stride: rows between positions.
    dilation: rows between taps.
    interior: rows between the array's own rows once zeros are put between them.
  """

  taps: int
  low: int
  size: int
  stride: int = 1
  dilation: int = 1
  interior: int = 1


def _views(x, axes):
  """What each tap sees of x [N, *spatial, C]: one [N, *size, C] per tap, the last axis fastest."""
  pads = [
    (a.low, (a.taps - 1) * a.dilation + (a.size - 1) * a.stride - (n - 1) * a.interior - a.low,
     a.interior - 1)
    for n, a in zip(x.shape[1:-1], axes, strict=True)
  ]
  x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *pads, (0, 0, 0)])
  steps = [1, *(a.stride for a in axes), 1]
  views = []
  for tap in itertools.product(*(range(a.taps) for a in axes)):
    start = [t * a.dilation for t, a in zip(tap, axes, strict=True)]
    stop = [b + (a.size - 1) * a.stride + 1 for b, a in zip(start, axes, strict=True)]
    views.append(lax.slice(x, [0, *start, 0], [x.shape[0], *stop, x.shape[-1]], steps))
  return views


def _depthwise(lhs, rhs, *, shape, dimension_numbers, window_strides, padding, lhs_dilation,
               rhs_dilation, **_):
  d = dimension_numbers
  x, w = _channels_last(lhs, d.lhs_spec), _kernel_last(rhs, d.rhs_spec)
  low, size = (p[0] for p in padding), (shape[i] for i in d.out_spec[2:])
  axes = [*map(_Axis, w.shape, low, size, window_strides, rhs_dilation, lhs_dilation)]
  taps = w.reshape(-1, w.shape[-1])
  y = functools.reduce(jnp.add, map(jnp.multiply, _views(x, axes), taps))
  return _from(y, (d.out_spec[0], *d.out_spec[2:], d.out_spec[1]))


def _backward_operands(lhs, rhs, d):
  """A weight gradient's operands as images and cotangents [N, *spatial, C]."""
  x = lax.transpose(lhs, (d.lhs_spec[1], *d.lhs_spec[2:], d.lhs_spec[0]))
  return x, lax.transpose(rhs, (d.rhs_spec[1], *d.rhs_spec[2:], d.rhs_spec[0]))


def _depthwise_weight_gradient(lhs, rhs, *, shape, dimension_numbers, window_strides, padding,
                               lhs_dilation, rhs_dilation, **_):
  d = dimension_numbers
  x, dy = _backward_operands(lhs, rhs, d)
  kernel, low = [shape[i] for i in d.out_spec[2:]], (p[0] for p in padding)
  axes = [*map(_Axis, kernel, low, dy.shape[1:-1], rhs_dilation, window_strides, lhs_dilation)]

  def taps(x, dy):
    return jnp.stack([(view * dy).sum(range(dy.ndim - 1)) for view in _views(x, axes)])

  dw = _sum_over_chunks(taps, x, dy, chunk=1).reshape(*kernel, 1, -1)
  return _from(dw, (*d.out_spec[2:], *d.out_spec[:2]))


def _weight_gradient(lhs, rhs, *, shape, dimension_numbers, window_strides, padding, lhs_dilation,
                     rhs_dilation, **_):
  """dw[t] = the sum over images and positions o of x[o s + t r - low]^T dy[o].

  s and r are the forward convolution's stride and dilation. Along each axis the taps t are taken
  from x, or else, in opposite order, from dy. With both in use a k x k kernel needs k + k shifted
  copies in place of k^2; then one matrix product makes all taps.
  """
  d = dimension_numbers
  x, dy = _backward_operands(lhs, rhs, d)
  kernel = [shape[i] for i in d.out_spec[2:]]
  on_x = _gather_on_x(rhs_dilation, lhs_dilation)
  x_axes, dy_axes = [], []
  for here, h, o, k, (low, _), s, r, i in zip(
    on_x, x.shape[1:], dy.shape[1:], kernel, padding, rhs_dilation, window_strides, lhs_dilation,
    strict=False,
  ):
    x_axes.append(_Axis(k, low, o, s, r, i) if here else _Axis(1, 0, h))
    dy_axes.append(_Axis(1, 0, o) if here else _Axis(k, (k - 1) * r - low, h, i, r, s))

  def operands(x, dy):
    return jnp.concatenate(_views(x, x_axes), -1), jnp.concatenate(_views(dy, dy_axes), -1)

  def product(x, dy):
    a, b = (v.reshape(-1, v.shape[-1]) for v in operands(x, dy))
    return lax.dot_general(a, b, (((0,), (0,)), ((), ())))

  patches = jax.eval_shape(operands, x[:1], dy[:1])
  chunk = _CHUNK_BYTES // (4 * sum(v.size for v in patches))
  if math.prod(kernel) == 1:
    dw = product(x, dy)
  else:
    dw = _sum_over_chunks(product, x, dy, min(_MAX_CHUNK, chunk))

  n = len(kernel)
  taps_x, taps_dy = [a.taps for a in x_axes], [a.taps for a in dy_axes]
  dw = dw.reshape(*taps_x, x.shape[-1], *taps_dy, dy.shape[-1])
  dw = lax.rev(dw, [n + 1 + i for i in range(n) if not on_x[i]])
  pairs = itertools.chain.from_iterable((i, n + 1 + i) for i in range(n))
  dw = lax.transpose(dw, (*pairs, n, 2 * n + 1)).reshape(*kernel, x.shape[-1], dy.shape[-1])
  return _from(dw, (*d.out_spec[2:], *d.out_spec[:2]))


def _gather_on_x(strides, interior):
  """Per axis, whether a weight gradient's taps are gathered on x: where x is the longer array."""
  last = len(strides) - 1
  return [
    s > 1 or (i == 1 and axis == last)
    for axis, (s, i) in enumerate(zip(strides, interior, strict=True))
  ]


def _sum_over_chunks(product, x, dy, chunk):
  """Sums product(x, dy) over chunks of at most `chunk` images: what stays in the cache.

  A chunk is also a loop's operand: XLA cannot fuse what made x and dy into it.
  """
  n = x.shape[0]
  chunk = max(c for c in range(1, max(chunk, 1) + 1) if n % c == 0)
  cut = lambda v, i: lax.dynamic_slice_in_dim(v, i * chunk, chunk)
  step = lambda i, total: total + product(cut(x, i), cut(dy, i))
  like = jax.eval_shape(lambda x, dy: product(cut(x, 0), cut(dy, 0)), x, dy)
  # An empty sum is a zero that shard_map's types know to differ between devices, as the rest does.
  zero = x[:0].sum() + dy[:0].sum()
  return lax.fori_loop(0, n // chunk, step, jnp.full(like.shape, zero, like.dtype))


def reexec_with_huge_pages() -> None:
  """Restarts this process once with malloc on transparent huge pages.

  XLA:CPU allocates its temporary buffer anew for each execution, 50,000 and more page faults per
  training step; with huge pages a ResNet step is 14-28 % faster, with the same numbers. glibc reads
  the setting at process start only. Call it first thing in `main`, before any work: the program
  starts from its beginning with the same arguments. Does nothing on another system or libc, where
  the kernel never gives huge pages, or where GLIBC_TUNABLES is set already (so it cannot loop).
  """
  if 'GLIBC_TUNABLES' in os.environ or not _huge_pages_possible():
    return
  os.environ['GLIBC_TUNABLES'] = 'glibc.malloc.hugetlb=1'
  sys.stdout.flush()
  sys.stderr.flush()
  os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _huge_pages_possible():
  if sys.platform != 'linux' or not sys.executable:
    return False
  try:
    libc = os.confstr('CS_GNU_LIBC_VERSION')
    with open(_THP) as f:
      setting = f.read()
  except (ValueError, OSError):
    return False
  return bool(libc) and ('[madvise]' in setting or '[always]' in setting)
