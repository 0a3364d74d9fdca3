"""Multiply-accumulates (MACs) of any JAX program, counted on its jaxpr.

The program is traced on shapes, never compiled or run, so a layer, an attack or a whole training
step is counted without the counter knowing it. One MAC is one multiplication and one addition:
published "FLOPs" of networks are usually MACs, XLA's `cost_analysis` counts two flops for each.

Only convolutions and matrix products count; biases, normalisation, activations and pooling are
free, as in the papers. Zero padding is counted as if it were data (output elements x kernel
elements x input channels / groups), again as in the papers; XLA leaves it out. The zeros that a
transposed convolution puts between its inputs are not counted.
"""

import math
from collections.abc import Callable, Container, Iterator, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core as jex_core


class Counts(NamedTuple):
  """The result of `count`.

  Attributes:
    macs: multiply-accumulates of one call, over all devices.
    by_primitive: the same, per JAX primitive.
    by_scope: the same, per named scope: for a Flax module the path of the layer
      ('ResNet/stage1_block1/conv1'), '' for what runs outside any scope; in order of execution.
    notes: what the number does not say (a loop of unknown length), one sentence each.
  """

  macs: int
  by_primitive: dict[str, int]
  by_scope: dict[str, int]
  notes: tuple[str, ...] = ()


class _Op(NamedTuple):
  scope: str
  primitive: str
  macs: int


def count(fn: Callable, *args) -> Counts:
  """Counts the MACs of `fn(*args)`.

  - `scan` (and a `fori_loop` of known length) counts its body times its length.
  - `while_loop` counts its body and its condition once, and a note says so: the trip count depends
    on data.
  - `cond` and `switch` count their most expensive branch.
  - `shard_map` and `pmap` count the program of one device times the number of devices.
  - jit, grad, vmap, remat, custom derivatives and any other primitive that holds a jaxpr are
    followed. A recomputed forward pass under remat is counted, because it is computed.

  Args:
    fn: a function JAX can trace.
    *args: arrays, `jax.ShapeDtypeStruct`s or trees of them; only shapes and dtypes are read.
  """
  notes: dict[str, None] = {}
  by_primitive: dict[str, int] = {}
  by_scope: dict[str, int] = {}
  for op in _walk(jax.make_jaxpr(fn)(*args).jaxpr, '', notes):
    by_primitive[op.primitive] = by_primitive.get(op.primitive, 0) + op.macs
    by_scope[op.scope] = by_scope.get(op.scope, 0) + op.macs
  return Counts(sum(by_primitive.values()), by_primitive, by_scope, tuple(notes))


# May multiply matrices, in a way that shapes alone do not tell.
_OPAQUE = ('pallas_call', 'ragged_dot_general', 'ffi_call', 'pure_callback', 'io_callback')


def _walk(jaxpr, outer: str, notes: dict[str, None]) -> list[_Op]:
  ops = []
  for eqn in jaxpr.eqns:
    name, params = eqn.primitive.name, eqn.params
    # The scopes of an inner jaxpr start at the equation that holds it.
    scope = '/'.join(s for s in (outer, str(eqn.source_info.name_stack)) if s)
    if name == 'dot_general':
      ops.append(_Op(scope, name, _dot_macs(eqn)))
    elif name == 'conv_general_dilated':
      ops.append(_Op(scope, name, _conv_macs(eqn)))
    elif name == 'cond':
      branches = [_walk(branch.jaxpr, scope, notes) for branch in params['branches']]
      ops += max(branches, key=lambda branch: sum(op.macs for op in branch))
    elif name in _OPAQUE:
      notes[f'the primitive {name} was not counted'] = None
    else:
      inner = [op for sub in _jaxprs(params) for op in _walk(sub, scope, notes)]
      if inner and name == 'while':
        notes['a while_loop of unknown length was counted as one iteration'] = None
      repeats = _repeats(name, params)
      ops += [op._replace(macs=op.macs * repeats) for op in inner]
  return ops


def _repeats(name: str, params: Mapping[str, Any]) -> int:
  if name == 'scan':
    return params['length']
  if name == 'shard_map':
    return math.prod(params['mesh'].shape[axis] for axis in params['newly_manual_axes'])
  return 1


def _jaxprs(params: Mapping[str, Any]) -> Iterator[jex_core.Jaxpr]:
  is_jaxpr = lambda x: isinstance(x, jex_core.Jaxpr | jex_core.ClosedJaxpr)
  for leaf in jax.tree.leaves(tuple(params.values()), is_leaf=is_jaxpr):
    if is_jaxpr(leaf):
      yield leaf.jaxpr if isinstance(leaf, jex_core.ClosedJaxpr) else leaf


def _dot_macs(eqn) -> int:
  (contracted, _), _ = eqn.params['dimension_numbers']
  lhs, out = eqn.invars[0].aval, eqn.outvars[0].aval
  return math.prod(out.shape) * math.prod(lhs.shape[axis] for axis in contracted)


def _conv_macs(eqn) -> int:
  """Batch x out channels x in channels per group x (output position, kernel tap) pairs."""
  params = eqn.params
  kernel, out = eqn.invars[1].aval.shape, eqn.outvars[0].aval.shape
  dims = params['dimension_numbers']
  # rhs_spec is (out channels, in channels / groups, *space); out_spec is (batch, channels, *space).
  macs = out[dims.out_spec[0]] * out[dims.out_spec[1]] * kernel[dims.rhs_spec[1]]
  for i, (size_at, tap_at) in enumerate(zip(dims.out_spec[2:], dims.rhs_spec[2:], strict=True)):
    spread = params['lhs_dilation'][i]
    position = np.arange(out[size_at])[:, None] * params['window_strides'][i]
    tap = np.arange(kernel[tap_at]) * params['rhs_dilation'][i]
    # Only every `spread`-th position of a dilated input holds data.
    macs *= int(np.sum((position + tap - params['padding'][i][0]) % spread == 0))
  return macs


class Row(NamedTuple):
  """One line of a summary: parameters and MACs of everything below a submodule."""

  name: str
  parameters: int
  macs: int


class Summary(NamedTuple):
  """What `model_summary` returns; `print` it for a table.

  Attributes:
    name: the class of the module.
    parameters: scalars in the 'params' collection.
    macs: for one example.
    rows: per submodule, in order of execution; '(itself)' holds what no submodule claims.
    notes: see `Counts`.
  """

  name: str
  parameters: int
  macs: int
  rows: tuple[Row, ...]
  notes: tuple[str, ...] = ()

  def __str__(self) -> str:
    rows = (*self.rows, Row('total', self.parameters, self.macs))
    cells = [(self.name, 'parameters', 'MACs', 'MACs %')]
    share = lambda macs: f'{100 * macs / self.macs:.2f}' if self.macs else '-'
    cells += [(r.name, f'{r.parameters:,}', f'{r.macs:,}', share(r.macs)) for r in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    align = (str.ljust, str.rjust, str.rjust, str.rjust)
    lines = [
      '  '.join(f(c, w) for f, c, w in zip(align, line, widths, strict=True)) for line in cells
    ]
    rule = '-' * len(lines[0])
    return '\n'.join([lines[0], rule, *lines[1:-1], rule, lines[-1], *self.notes])


def model_summary(
  module: nn.Module, input_shape: tuple[int, ...], *, depth: int = 1, dtype=jnp.float32
) -> Summary:
  """Parameters and MACs of a network in eval mode, for one example; nothing is computed.

  Args:
    module: called as `module(x)`.
    input_shape: of one example, without the batch: (H, W, C).
    depth: levels of submodules with a row of their own: 1 gives blocks, a large number layers.
    dtype: of the input (an integer type for token models).
  """
  x = jax.ShapeDtypeStruct((1, *input_shape), dtype)
  keys = {'params': jax.random.key(0), 'dropout': jax.random.key(0)}
  called: dict[tuple[str, ...], None] = {}

  def note_path(method, args, kwargs, context):
    called[context.module.path] = None
    return method(*args, **kwargs)

  with nn.intercept_methods(note_path):
    variables = jax.eval_shape(module.init, keys, x)
  counts = count(module.apply, variables, x)

  # In order of execution, so that the table reads like the network.
  rows = {path[:depth]: [0, 0] for path in called}
  for path, leaf in jax.tree_util.tree_flatten_with_path(variables.get('params', {}))[0]:
    names = tuple(k.key for k in path if isinstance(k, jax.tree_util.DictKey))
    rows.setdefault(names[:-1][:depth], [0, 0])[0] += math.prod(leaf.shape)
  for scope, macs in counts.by_scope.items():
    rows[_module_path(scope, called)[:depth]][1] += macs

  return Summary(
    type(module).__name__,
    sum(parameters for parameters, _ in rows.values()),
    counts.macs,
    tuple(Row('/'.join(path) or '(itself)', *row) for path, row in rows.items() if any(row)),
    counts.notes,
  )


def _module_path(scope: str, known: Container[tuple[str, ...]]) -> tuple[str, ...]:
  """The longest path of known modules along a scope.

  The name of the root class, methods ('block.attend') and transforms ('vmap(block)') are skipped.
  """
  path: tuple[str, ...] = ()
  for part in scope.split('/'):
    longer = (*path, part.split('(')[-1].rstrip(')').split('.')[0])
    if longer in known:
      path = longer
  return path
