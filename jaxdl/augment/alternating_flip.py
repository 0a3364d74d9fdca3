"""Alternating flips: each image is seen mirrored in every other epoch."""

import jax
import jax.numpy as jnp

from jaxdl import parallel
from jaxdl.core import BatchTransform


def alternating_flip(size: int, batch_size: int, seed: int = 0) -> BatchTransform:
  """Mirrors half of the set, chosen at random, in epochs 0, 2, ... and the other half in 1, 3, ...

  Jordan 2024 (arXiv 2404.00498), section 3.6: of two epochs, a random flip shows half of the images
  twice the same way; here every image is seen both ways. The flip is the parity of a random bit of
  the example's `index` plus the epoch, a pure function, so a resumed run goes on exactly. An
  epoch is a pass over the set: batch `step` holds places step * batch_size ... of the stream that
  `jaxdl.data.sampler` cuts into permutations of the set.

  Args:
    size: examples in the set.
    batch_size: of the whole batch, over all devices.
    seed: chooses the half.

  Raises:
    ValueError: the numbers are not positive or too large; when called, images that are not
      [B, H, W, C], a batch of another size, or one without `index` or `step`.
  """
  if size < 1 or batch_size < 1 or 2 * size * batch_size >= 2**32:
    raise ValueError(
      f'alternating_flip needs a size and a batch size of at least 1 whose product is below 2^31, '
      f'got {size} and {batch_size}.'
    )

  def transform(params, model_state, batch, key, frozen):
    x, (part, parts) = batch['image'], parallel.part()
    if x.ndim != 4 or len(x) * parts != batch_size:
      raise ValueError(
        f'alternating_flip was made for batches of {batch_size} images [B, H, W, C], got shape '
        f'{x.shape} on {parts} device(s).'
      )
    if missing := {'index', 'step'} - set(batch):
      raise ValueError(f'alternating_flip needs {" and ".join(sorted(missing))} in the batch.')
    flip = chosen_half(batch['index'], seed) ^ (_epoch_parity(batch['step'], part, len(x)) == 1)
    return {**batch, 'image': jnp.where(flip[:, None, None, None], x[:, :, ::-1], x)}

  def _epoch_parity(step, part, rows):
    # Two epochs are a period of the parity: without the remainder long runs would overflow.
    first = (jnp.asarray(step).astype(jnp.uint32) % (2 * size)) * jnp.uint32(batch_size)
    first = first + jnp.asarray(part * rows, jnp.uint32)
    return (first + jnp.arange(rows, dtype=jnp.uint32)) // jnp.uint32(size) % 2

  return transform


def chosen_half(index, seed: int):
  """A fair random bit (bool [B]) for each example, a function of `index` (int [B]) and the seed."""
  bit = lambda i: jax.random.bits(jax.random.fold_in(jax.random.key(seed), i)) & 1 == 1
  return jax.vmap(bit)(index)
