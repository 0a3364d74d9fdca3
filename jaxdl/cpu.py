"""What only XLA:CPU needs: a lowering rule for convolutions, and huge pages for malloc.

Model code knows nothing of this file. `install()` replaces how `lax.conv_general_dilated` is
lowered on the CPU platform, and only there; the primitive, its gradient and its batching rules stay
JAX's own, so grad, jvp, Hessian-vector products, vmap and scan work as before. Three things change:

* XLA:CPU makes convolutions fit for its fast kernel in the entry computation only; inside a loop
  the backward ones run as scalar loops. Here each convolution is lowered as NHWC x HWIO -> NHWC.
* A weight gradient becomes matrix products over chunks of the batch. XLA fuses the network's
  forward chain into the transposes that its own weight gradient needs, and recomputes it there.
* A depthwise convolution becomes multiply-adds over shifted images.
"""

import functools
import os
import sys
import warnings

import jax
import jax.numpy as jnp
from jax import lax
from jax.interpreters import mlir

_PRIMITIVE = lax.conv_general_dilated_p
_CHUNK_BYTES = 3 << 20  # of patches in one step of a weight gradient: about what the L2 cache holds
_MAX_CHUNK = 16
_MAX_DEPTHWISE_TAPS = 49
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
  x, w = ctx.avals_in
  rewrite = None
  if x.dtype == w.dtype == ctx.avals_out[0].dtype == jnp.float32:
    rewrite = _float32_rewrite(x.shape, w.shape, ctx.avals_out[0].shape, **params)
    # The chunks cut the batch dimension, which a partitioned program may have spread over devices.
    if rewrite in (_weight_gradient_3x3, _weight_gradient_3x3_stride2) and _partitioned(ctx):
      rewrite = None
  if rewrite is None:
    if _is_canonical(params['dimension_numbers'], x.ndim) or x.dtype.kind == 'c':
      return stock(ctx, lhs, rhs, **params)
    rewrite = _canonical
  shape = ctx.avals_out[0].shape
  lowered = functools.partial(rewrite, shape=shape, **params)
  return mlir.lower_fun(lowered, multiple_results=False)(ctx, lhs, rhs)


def _partitioned(ctx):
  return getattr(ctx.module_context.axis_context, 'num_devices', 1) not in (None, 1)


def _float32_rewrite(lhs_shape, rhs_shape, out_shape, *, dimension_numbers, window_strides, padding,
                     lhs_dilation, rhs_dilation, feature_group_count, batch_group_count, **_):
  """The function that computes this convolution faster than XLA does, or None."""
  d = dimension_numbers
  channels = lhs_shape[d.lhs_spec[1]]
  features = out_shape[d.out_spec[1]]
  taps = 1
  for i in d.rhs_spec[2:]:
    taps *= rhs_shape[i]
  if feature_group_count == channels == features > 1 and taps <= _MAX_DEPTHWISE_TAPS:
    return _depthwise
  if len(lhs_shape) != 4 or feature_group_count != 1 or batch_group_count != 1:
    return None
  image = [lhs_shape[i] for i in d.lhs_spec[2:]]
  kernel = [rhs_shape[i] for i in d.rhs_spec[2:]]
  out = [out_shape[i] for i in d.out_spec[2:]]
  if tuple(window_strides) != (1, 1) or tuple(lhs_dilation) != (1, 1):
    return None
  if not all(k > o for k, o in zip(kernel, out, strict=True)):
    return None
  low = tuple(p[0] for p in padding)
  if out == [3, 3] and tuple(rhs_dilation) == (1, 1) and kernel == image and low == (1, 1):
    return _weight_gradient_3x3
  if out == [3, 3] and tuple(rhs_dilation) == (2, 2):
    return _weight_gradient_3x3_stride2
  if out == [1, 1] and low == (0, 0) and all(p[1] <= 0 for p in padding):
    return _weight_gradient_1x1
  return None


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


def _depthwise(lhs, rhs, *, shape, dimension_numbers, window_strides, padding, lhs_dilation,
               rhs_dilation, **_):
  d = dimension_numbers
  x, w = _channels_last(lhs, d.lhs_spec), _kernel_last(rhs, d.rhs_spec)
  size = [shape[i] for i in d.out_spec[2:]]
  spatial = [(lo, hi, s - 1) for (lo, hi), s in zip(padding, lhs_dilation, strict=True)]
  x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *spatial, (0, 0, 0)])
  y = None
  for tap in _taps(w.shape[:-2]):
    start = [t * r for t, r in zip(tap, rhs_dilation, strict=True)]
    term = _window(x, start, size, window_strides) * w[tap][0]
    y = term if y is None else y + term
  return _from(y, (d.out_spec[0], *d.out_spec[2:], d.out_spec[1]))


def _taps(kernel):
  taps = [()]
  for k in kernel:
    taps = [(*t, i) for t in taps for i in range(k)]
  return taps


def _window(x, start, size, strides):
  """The part of x [N, *spatial, C] that one kernel tap sees, [N, *size, C]."""
  limit = [b + (n - 1) * s + 1 for b, n, s in zip(start, size, strides, strict=True)]
  return lax.slice(x, [0, *start, 0], [x.shape[0], *limit, x.shape[-1]], [1, *strides, 1])


def _weight_gradient(products, lhs, rhs, shape, d, **static):
  """Reads a weight gradient's operands as images and cotangents [N, H, W, C]; returns its layout.

  In such a convolution the image is the feature dimension and the channel is the batch dimension.
  """
  x = lax.transpose(lhs, (d.lhs_spec[1], *d.lhs_spec[2:], d.lhs_spec[0]))
  dy = lax.transpose(rhs, (d.rhs_spec[1], *d.rhs_spec[2:], d.rhs_spec[0]))
  return _from(products(x, dy, **static), (*d.out_spec[2:], d.out_spec[0], d.out_spec[1]))


def _weight_gradient_3x3(lhs, rhs, *, shape, dimension_numbers, **_):
  return _weight_gradient(_fold_3x3, lhs, rhs, shape, dimension_numbers)


def _weight_gradient_3x3_stride2(lhs, rhs, *, shape, dimension_numbers, padding, **_):
  low = tuple(p[0] for p in padding)
  return _weight_gradient(_patches_3x3_stride2, lhs, rhs, shape, dimension_numbers, low=low)


def _weight_gradient_1x1(lhs, rhs, *, shape, dimension_numbers, rhs_dilation, **_):
  return _weight_gradient(_dense, lhs, rhs, shape, dimension_numbers, strides=rhs_dilation)


def _rows(a, b):
  """a^T b over all positions: [N, H, W, A], [N, H, W, B] -> [A, B]."""
  return lax.dot_general(
    a.reshape(-1, a.shape[-1]), b.reshape(-1, b.shape[-1]), (((0,), (0,)), ((), ()))
  )


def _sum_over_chunks(product, x, dy):
  """Sums product(x, dy) over chunks of the batch, each small enough to stay in the cache.

  A chunk also is a loop operand: XLA cannot fuse what made x and dy into it.
  """
  n, h, w, ci = x.shape
  wanted = max(1, min(_MAX_CHUNK, _CHUNK_BYTES // (12 * (ci + dy.shape[-1]) * h * w)))
  chunk = max(c for c in range(1, wanted + 1) if n % c == 0)
  cut = lambda v, i: lax.dynamic_slice_in_dim(v, i * chunk, chunk)
  step = lambda i, total: total + product(cut(x, i), cut(dy, i))
  like = jax.eval_shape(lambda x, dy: product(cut(x, 0), cut(dy, 0)), x, dy)
  # An empty sum is a zero that shard_map's types know to differ between devices, as the rest does.
  zero = x[:0].sum() + dy[:0].sum()
  return lax.fori_loop(0, n // chunk, step, jnp.full(like.shape, zero, like.dtype))


def _fold_3x3(x, dy):
  """3x3, stride 1, padding 1. Columns are shifted on x, rows on dy: 3 + 3 copies instead of 9."""
  ci, co = x.shape[-1], dy.shape[-1]

  def product(x, dy):
    h, w = x.shape[1:3]
    x = jnp.pad(x, ((0, 0), (0, 0), (1, 1), (0, 0)))
    dy = jnp.pad(dy, ((0, 0), (1, 1), (0, 0), (0, 0)))
    columns = jnp.concatenate([x[:, :, b : b + w] for b in range(3)], -1)
    rows = jnp.concatenate([dy[:, 2 - a : 2 - a + h] for a in range(3)], -1)
    return _rows(columns, rows)

  return _sum_over_chunks(product, x, dy).reshape(3, ci, 3, co).transpose(2, 0, 1, 3)


def _patches_3x3_stride2(x, dy, low):
  """3x3, stride 2, any padding: images cut into their four phases, then patches, one product."""
  ci, co = x.shape[-1], dy.shape[-1]
  h, w = dy.shape[1:3]

  def product(x, dy):
    n = x.shape[0]
    high = (2 * h + 2 - x.shape[1] - low[0], 2 * w + 2 - x.shape[2] - low[1])
    pads = [(0, 0, 0), (low[0], high[0], 0), (low[1], high[1], 0), (0, 0, 0)]
    x = lax.pad(x, jnp.zeros((), x.dtype), pads).reshape(n, h + 1, 2, w + 1, 2, ci)
    patches = [
      x[:, a // 2 : a // 2 + h, a % 2, b // 2 : b // 2 + w, b % 2]
      for a in range(3)
      for b in range(3)
    ]
    return _rows(jnp.concatenate(patches, -1), dy)

  return _sum_over_chunks(product, x, dy).reshape(3, 3, ci, co)


def _dense(x, dy, strides):
  """1x1, any stride: one matrix product."""
  x = _window(x, (0, 0), dy.shape[1:3], strides)
  return _rows(x, dy)[None, None]


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
