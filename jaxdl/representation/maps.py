"""The maps that a network makes on the way: their names, and their sizes for a probe."""

import functools
import re

import jax
import jax.numpy as jnp

from jaxdl.core import Model
from jaxdl.data.smaller import smaller
from jaxdl.options import check_number
from jaxdl.train.classifier import Task


@functools.lru_cache(maxsize=32)
def blocks_of(model: Model, shape: tuple[int, ...]) -> tuple[str, ...]:
  """Names of the features that a whole block or stage makes, first to last.

  Of a network without any ('block{i}', 'stage{i}'), of its hidden layers.

  Args:
    model: of a network whose outputs are `(logits, features)`.
    shape: (H, W, C) of an image.

  Raises:
    ValueError: the network has fewer than two of them.
  """
  x = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
  weights = jax.eval_shape(model.init, jax.random.key(0), x)
  (_, found), _ = jax.eval_shape(lambda w, x: model.apply(*w, x), weights, x)
  for pattern in (r'(block|stage)(\d+)', r'(hidden)(\d+)'):
    names = [name for name in found if re.fullmatch(pattern, name)]
    if len(names) > 1:
      return tuple(sorted(names, key=lambda name: int(re.fullmatch(pattern, name)[2])))
  raise ValueError('The network has no blocks to compare: choose one with features called block1, '
                   'block2, ..., stage1, ... or hidden1, ....')


@functools.lru_cache(maxsize=32)
def cells(model: Model, side: int) -> Model:
  """The model with every map [B, H, W, C] averaged over a grid of side x side cells.

  Rows and columns of places are shared out as evenly as they can be; a map that is no larger, and
  what is no map, stays. 0 leaves all as it is.
  """
  check_number('side of a grid of cells', side, 0, whole=True)

  def apply(params, model_state, x, *, train=False, key=None):
    (logits, found), state = model.apply(params, model_state, x, train=train, key=key)
    found = {
      name: _grid(_grid(f, side, 1), side, 2) if f.ndim == 4 else f for name, f in found.items()
    }
    return (logits, found), state

  return Model(model.init, apply) if side else model


def _grid(x, side, axis):
  if x.shape[axis] <= side:
    return x
  return jnp.stack([part.mean(axis) for part in jnp.array_split(x, side, axis)], axis)


def shrunk(t: Task, factor: int) -> Task:
  """The task on images made smaller; its network stays.

  Args:
    t: of `jaxdl.train.classifier.task`.
    factor: see `smaller`; 1 gives the task itself.
  """
  if factor == 1:
    return t
  splits = {
    name: split._replace(images=smaller(split.images, factor))
    for name, split in (('train', t.train), ('validation', t.validation), ('test', t.test))
  }
  return t._replace(
    dataset=t.dataset._replace(train=splits['train'], test=splits['test']), **splits
  )
