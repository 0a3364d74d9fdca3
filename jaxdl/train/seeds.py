"""Seeds as an axis: several runs that differ in their seed alone, trained as one program.

One compilation and one dispatch serve all of them, and what one network is too small to fill, a
device may give to the others. Each member equals its own run up to rounding: same initial weights,
batches, augmentation and schedule.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from jaxdl.core import Step
from jaxdl.data import Split, resident

AXES = ('off', 'on', 'vmap', 'map')


def resolve(axis: str) -> str:
  """What 'on' is here: 'vmap' on accelerators; 'map' on a CPU, where the convolutions of several
  networks at once are slower than one after the other.

  Raises:
    ValueError: it is none of `AXES`.
  """
  if axis not in AXES:
    raise ValueError(f'seed_axis must be one of {", ".join(AXES)}, not {axis!r}.')
  if axis == 'on':
    return 'map' if jax.default_backend() == 'cpu' else 'vmap'
  return axis


class SeedBatches:
  """Resident data of one split whose batches have a leading axis of seeds.

  Attributes:
    arrays: as of `Resident`, shared by all seeds.
    batch_size: over all seeds.
  """

  def __init__(self, split: Split, batch_size: int, seeds: Sequence[int]):
    first = resident(split, batch_size, seeds[0])
    self.arrays, self.batch_size = first.arrays, batch_size * len(seeds)
    self._members = [type(first)(first.arrays, batch_size, seed) for seed in seeds]

  def batch_at(self, arrays, n, part=0, parts=1):
    """Batch n[i] of every seed i, stacked: [S, B, ...]."""
    batches = [m.batch_at(arrays, n[i]) for i, m in enumerate(self._members)]
    return jax.tree.map(lambda *x: jnp.stack(x), *batches)


def init_over(init: Callable, seeds: Sequence[int]) -> Callable:
  """`() -> state` with a leading axis [S] on every leaf.

  Args:
    init: `init(key) -> TrainState`.
    seeds: S of them.
  """
  keys = lambda: jnp.stack([jax.random.key(seed) for seed in seeds])
  return lambda: jax.lax.map(init, keys())


def step_over(step: Step, seeds: Sequence[int], axis: str) -> Step:
  """The step on states and batches with a leading axis of seeds.

  Args:
    step: of one run.
    seeds: their names in the metrics: `seed0/loss`, ...
    axis: 'vmap' or 'map' (one after the other).
  """

  def stacked(state, batch, frozen=None):
    one = lambda member: step(*member, frozen)
    over = jax.vmap(one) if axis == 'vmap' else lambda x: jax.lax.map(one, x)
    state, metrics = over((state, batch))
    return state, {
      f'seed{seed}/{name}': values[i]
      for i, seed in enumerate(seeds) for name, values in metrics.items()
    }

  return stacked


def member(tree, i: int):
  """The i-th run's part of a stacked tree."""
  return jax.tree.map(lambda x: x[i], tree)
