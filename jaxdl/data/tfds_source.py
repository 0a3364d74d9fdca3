"""Image classification sets of TensorFlow Datasets. Nothing is imported before it is needed."""

import os
import socket

import numpy as np

from jaxdl.data.dataset import Dataset, make_dataset, make_split

# Sets known to fit in memory, by our name; any other TFDS name is tried as it is.
KNOWN = {
  'cifar10': 'cifar10',
  'cifar100': 'cifar100',
  'svhn': 'svhn_cropped',
  'mnist': 'mnist',
  'fashion_mnist': 'fashion_mnist',
  'kmnist': 'kmnist',
  'emnist': 'emnist',
  'stl10': 'stl10',
}


class Unavailable(Exception):
  """TFDS cannot give the set; the message is a clause that fits into a sentence."""


def read(name: str) -> Dataset:
  """Downloads (once, by TFDS itself) and reads the train and test split of a TFDS set.

  Raises:
    Unavailable: TFDS is not installed, does not know the name, or could not get the set.
    ValueError: the set is not an image classification set with images of one size.
  """
  try:
    import tensorflow_datasets as tfds
  except ImportError as error:
    raise Unavailable('TensorFlow Datasets is not installed') from error
  source = KNOWN.get(name, name)
  try:
    builder = tfds.builder(source)
  except Exception as error:  # TFDS has no common base class for an unknown or a malformed name.
    raise Unavailable(f"TensorFlow Datasets has no set '{source}'") from error
  missing = {'image', 'label'} - set(builder.info.features or {})
  if missing:
    raise ValueError(
      f"The TFDS set '{source}' is not an image classification set: it has no {sorted(missing)}."
    )
  if not builder.is_prepared() and not _online():
    raise Unavailable(f"there is no network from which TensorFlow Datasets could get '{source}'")
  try:
    builder.download_and_prepare()
  except Exception as error:  # Whatever went wrong (network, disk, checksum), TFDS has no set.
    raise Unavailable(
      f"TensorFlow Datasets could not get '{source}' ({_first_line(error)})"
    ) from error
  train, test = (_split(builder, half, source, tfds) for half in _halves(builder, source))
  return make_dataset(name, train, test, builder.info.features['label'].names)


def _halves(builder, source: str) -> tuple[str, str]:
  test = next((s for s in ('test', 'validation') if s in builder.info.splits), None)
  if 'train' not in builder.info.splits or test is None:
    raise ValueError(
      f"The TFDS set '{source}' needs a train and a test (or validation) split; it has "
      f'{sorted(builder.info.splits)}.'
    )
  return 'train', test


def _split(builder, half: str, source: str, tfds):
  images, labels = [], []
  for example in tfds.as_numpy(builder.as_dataset(split=half)):
    images.append(example['image'])
    labels.append(example['label'])
  sizes = {x.shape for x in images}
  if len(sizes) > 1:
    raise ValueError(
      f"The TFDS set '{source}' has images of different sizes, such as {sorted(sizes)[:2]}; export "
      'them to a folder and prepare that with --folder and --size.'
    )
  return make_split(np.stack(images), np.array(labels), where=f"The '{half}' split of '{source}'")


def _online() -> bool:
  """Whether names resolve. Asked first, because TFDS retries for minutes where they do not."""
  if any(name.lower() in ('http_proxy', 'https_proxy', 'all_proxy') for name in os.environ):
    return True
  try:
    socket.getaddrinfo('storage.googleapis.com', 443)
  except OSError:
    return False
  return True


def _first_line(error: Exception) -> str:
  lines = str(error).strip().splitlines()
  return lines[0][:200].rstrip('. ') if lines else type(error).__name__
