"""From a set to batches, where batch n is a pure function of (seed, n).

A training batch holds `image` float32 [B, H, W, C] in [0, 1], `label` int32 [B], `index` int32 [B]
(the example's place in the split) and the split's extras as they are stored.
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.data.dataset import Split, require_examples
from jaxdl.data.sampler import batch_indices


class Resident:
  """A set that lives on the device; a batch is a gather inside the jitted step.

  Attributes:
    arrays: `image` uint8 [N, H, W, C], `label` int32 [N] and the extras, on the default device.
      They are an argument of `batch_at`, so that a jitted step does not embed them as constants.
    size: N.
    batch_size: B.
    seed: of the order.
  """

  def __init__(self, arrays: dict[str, jax.Array], batch_size: int, seed: int):
    self.arrays = arrays
    self.size = len(arrays['image'])
    self.batch_size = batch_size
    self.seed = seed

  def batch_at(self, arrays: dict[str, jax.Array], n) -> dict[str, jax.Array]:
    """Batch n. Jittable; `arrays` is `self.arrays`, possibly resharded; n is an int scalar."""
    index = batch_indices(n, self.batch_size, self.size, self.seed)
    rows = {name: jnp.take(x, index, axis=0) for name, x in arrays.items()}
    return {**rows, 'image': unit_range(rows['image']), 'index': index}


def resident(split: Split, batch_size: int, seed: int) -> Resident:
  """Puts a split on the device.

  Raises:
    ValueError: the split is empty, or the batch size is not positive.
  """
  require_examples(split, 'The split to train on')
  _require_batch_size(batch_size)
  arrays = {'image': split.images, 'label': split.labels, **split.extras}
  return Resident({name: jnp.asarray(x) for name, x in arrays.items()}, batch_size, seed)


def eval_batches(split: Split, batch_size: int) -> Iterator[dict[str, np.ndarray]]:
  """Every example exactly once, in order, in NumPy batches that all have the same shape.

  The last batch is filled up with copies of the split's first example; `mask` float32 [B] is 1 for
  real rows and 0 for those.

  Raises:
    ValueError: the split is empty, or the batch size is not positive.
  """
  require_examples(split, 'The split to evaluate on')
  _require_batch_size(batch_size)

  def batches():
    for start in range(0, split.size, batch_size):
      position = np.arange(start, start + batch_size)
      real = position < split.size
      index = np.where(real, position, 0)
      yield {
        'image': unit_range(split.images[index]),
        'label': split.labels[index],
        'index': index.astype(np.int32),
        'mask': real.astype(np.float32),
        **{name: x[index] for name, x in split.extras.items()},
      }

  return batches()


def unit_range(images):
  """uint8 0..255 -> float32 in [0, 1], the same bits in NumPy and JAX."""
  # XLA turns a division by a constant into this product, which differs in the last bit.
  return images.astype(np.float32) * np.float32(1 / 255)


def _require_batch_size(batch_size: int) -> None:
  if batch_size < 1:
    raise ValueError(f'The batch size must be at least 1, got {batch_size}.')
