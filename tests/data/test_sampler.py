import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare, spearmanr

from jaxdl.data.sampler import MAX_SIZE, batch_indices, permute

SIZES = [1, 2, 3, 4, 5, 7, 16, 17, 97, 256, 257, 1000, 4096, 4099, 50_000]


def epoch_of(size, epoch, seed):
  return permute(np.arange(size), size, epoch, seed, xp=np)


@pytest.mark.parametrize('size', SIZES)
def test_every_epoch_is_an_exact_permutation(size):
  for epoch, seed in [(0, 0), (1, 0), (2**32 - 1, 2**63 + 5), (3, -1)]:
    assert (np.sort(epoch_of(size, epoch, seed)) == np.arange(size)).all()


@given(st.integers(1, 3000), st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1))
def test_any_epoch_of_any_size_is_a_permutation(size, epoch, seed):
  assert (np.sort(epoch_of(size, epoch, seed)) == np.arange(size)).all()


@pytest.mark.parametrize('size', [1, 3, 97, 50_000])
def test_numpy_equals_jax(size):
  in_jax = jax.jit(lambda x, e: permute(x, size, e, 2**40 + 3))
  for epoch in (0, 9):
    assert (np.asarray(in_jax(jnp.arange(size), epoch)) == epoch_of(size, epoch, 2**40 + 3)).all()


@pytest.mark.parametrize(('batch', 'size'), [(128, 50_000), (10, 3), (7, 7), (64, 1000), (1, 1)])
def test_batches_in_jax_equal_batches_in_numpy(batch, size):
  in_jax = jax.jit(lambda n: batch_indices(n, batch, size, 1))
  for n in (0, 1, 5, 391, 2**31 - 1):
    ours = in_jax(n)
    assert ours.dtype == jnp.int32 and ours.shape == (batch,)
    assert (np.asarray(ours) == batch_indices(n, batch, size, 1, xp=np)).all()


@pytest.mark.parametrize(('batch', 'size'), [(128, 1000), (10, 3), (4096, 1_281_167), (1, 5)])
@pytest.mark.parametrize('n', [0, 1, 12_345, 2**31 - 1])
def test_batch_n_covers_its_positions_even_beyond_32_bits(batch, size, n):
  positions = [n * batch + i for i in range(batch)]
  offset = np.array([p % size for p in positions])
  epoch = np.array([p // size % 2**32 for p in positions])
  expected = permute(offset, size, epoch, 3, xp=np)
  assert (batch_indices(n, batch, size, 3, xp=np) == expected).all()


def test_the_stream_shows_every_example_once_per_epoch():
  stream = np.concatenate([batch_indices(n, 7, 30, 0, xp=np) for n in range(30)])
  for epoch in stream.reshape(7, 30):
    assert (np.sort(epoch) == np.arange(30)).all()


def test_epochs_and_seeds_differ():
  orders = [epoch_of(1000, e, s) for e, s in [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2**32)]]
  for i, a in enumerate(orders):
    for b in orders[:i]:
      assert (a == b).mean() < 0.02  # the expected number of agreements is one in 1,000


def test_orders_are_not_correlated_with_the_set_or_each_other():
  orders = np.array([epoch_of(997, e, s) for s in range(5) for e in range(20)])
  with_set = [spearmanr(o, np.arange(997))[0] for o in orders]
  with_next = [spearmanr(a, b)[0] for a, b in zip(orders, orders[1:], strict=False)]
  # A rank correlation of random orders has deviation 1/sqrt(N-1) = 0.032.
  for r in (with_set, with_next):
    assert abs(np.mean(r)) < 4 * 0.032 / np.sqrt(len(r))
    assert 0.02 < np.std(r) < 0.045


@pytest.mark.parametrize('size', [3, 10, 60])
def test_each_example_is_first_equally_often(size):
  firsts = permute(np.zeros(4000, int), size, np.arange(4000), 0, xp=np)
  assert chisquare(np.bincount(firsts, minlength=size)).pvalue > 1e-3


def test_all_orders_of_three_are_equally_frequent():
  offsets, epochs = np.meshgrid(np.arange(3), np.arange(6000))
  orders = permute(offsets, 3, epochs, 0, xp=np) @ [9, 3, 1]
  _, counts = np.unique(orders, return_counts=True)
  assert len(counts) == 6 and chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize(('batch', 'size'), [(0, 5), (5, 0), (5, MAX_SIZE + 1), (-1, 5)])
def test_impossible_sizes_are_refused(batch, size):
  with pytest.raises(ValueError, match='got'):
    batch_indices(0, batch, size, 0)
