import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl.augment import alternating_flip
from jaxdl.augment.alternating_flip import chosen_half
from jaxdl.data.sampler import batch_indices

SIZE = 23


def images(n=SIZE):
  return np.random.default_rng(0).random((n, 2, 3, 1)).astype(np.float32)


def epochs_of_flips(batch_size, epochs, seed=0, size=SIZE):
  """flips[e, i]: whether example i was mirrored in epoch e of the library's own sampler."""
  transform, x = jax.jit(alternating_flip(size, batch_size, seed)), images(size)
  flips = np.full((epochs, size), -1)
  for step in range(-(-epochs * size // batch_size)):
    index = np.asarray(batch_indices(step, batch_size, size, 5))
    batch = {'image': jnp.asarray(x[index]), 'index': jnp.asarray(index), 'step': jnp.int32(step)}
    out = np.asarray(transform(None, None, batch, jax.random.key(step), None)['image'])
    for row, i in enumerate(index):
      epoch = (step * batch_size + row) // size
      mirrored = (out[row] == x[i][:, ::-1]).all()
      assert mirrored or (out[row] == x[i]).all()
      if epoch < epochs:
        flips[epoch, i] = mirrored
  return flips


@pytest.mark.parametrize('batch_size', [1, 5, 23, 40])  # most batches straddle two epochs
def test_each_example_is_mirrored_in_exactly_every_other_epoch(batch_size):
  flips = epochs_of_flips(batch_size, 4)
  assert (flips >= 0).all()
  np.testing.assert_array_equal(flips[1:], 1 - flips[:-1])
  np.testing.assert_array_equal(flips[0], np.asarray(chosen_half(jnp.arange(SIZE), 0)))


def test_half_of_a_set_is_mirrored_and_the_seed_chooses_it():
  halves = [np.asarray(chosen_half(jnp.arange(20_000), seed)) for seed in (0, 1)]
  for half in halves:
    assert abs(half.mean() - 0.5) < 5 * 0.5 / np.sqrt(20_000)
  assert abs((halves[0] == halves[1]).mean() - 0.5) < 5 * 0.5 / np.sqrt(20_000)


def test_the_epoch_is_right_after_many_steps():
  """Against Python's integers, where step * batch_size no longer fits into 32 bits."""
  size, batch_size = 50_000, 1024
  transform, index = alternating_flip(size, batch_size), jnp.arange(batch_size)
  x = jnp.asarray(images(batch_size))
  half = np.asarray(chosen_half(index, 0))
  for step in (0, 48, 49, 10**6 + 7, 2**31 - 1):
    batch = {'image': x, 'index': index, 'step': jnp.int32(step)}
    out = transform(None, None, batch, jax.random.key(0), None)['image']
    epoch = np.array([(step * batch_size + row) // size % 2 for row in range(batch_size)])
    expected = np.where((half ^ (epoch == 1))[:, None, None, None], x[:, :, ::-1], x)
    np.testing.assert_array_equal(out, expected)


def test_a_batch_split_over_devices_is_flipped_as_one():
  x, index = jnp.asarray(images(8)), jnp.arange(8)
  transform = alternating_flip(SIZE, 8)
  run = lambda image, index: transform(
    None, None, {'image': image, 'index': index, 'step': jnp.int32(2)}, None, None
  )['image']
  parts = jax.vmap(run, axis_name='data')(x.reshape(4, 2, *x.shape[1:]), index.reshape(4, 2))
  np.testing.assert_array_equal(parts.reshape(x.shape), run(x, index))


def test_mistakes_are_explained():
  for size, batch in ((0, 4), (10, 0), (2**28, 1024)):
    with pytest.raises(ValueError, match='alternating_flip needs'):
      alternating_flip(size, batch)
  batch = {'image': jnp.zeros((4, 2, 2, 1)), 'index': jnp.arange(4)}
  with pytest.raises(ValueError, match='needs step'):
    alternating_flip(10, 4)(None, None, batch, None, None)
  with pytest.raises(ValueError, match='batches of 8'):
    alternating_flip(10, 8)(None, None, batch, None, None)
