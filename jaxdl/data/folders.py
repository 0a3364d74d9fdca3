"""Class-per-folder image trees: DIR/<class>/..., or DIR/train/<class>/... and DIR/test/..."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxdl.data import memory
from jaxdl.data.dataset import Dataset, Split, make_dataset, make_split
from jaxdl.options import check_number

DEFAULT_SIZE = 32
SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp', '.gif', '.webp', '.tif', '.tiff', '.ppm', '.pgm')
# Pillow's names of the modes without colour.
_GREY = ('1', 'L', 'LA', 'I', 'I;16', 'I;16B', 'I;16L')
# Other names of the second half, as published trees use them.
_TEST_NAMES = ('test', 'val', 'valid', 'validation')


class ImageFolder:
  """Images that are decoded when asked for: a source for `streaming`.

  `folder[i]` is {'image': uint8 [size, size, C], 'label': int}.
  """

  def __init__(self, paths: Sequence[Path], labels: Sequence[int], size: int | None, mode: str):
    """Args:
    paths: one per image.
    labels: one per image.
    size: side to resize (shorter side) and center-crop to; None keeps the image as it is.
    mode: 'RGB' or 'L'.
    """
    self.paths, self.labels, self.size, self.mode = list(paths), list(labels), size, mode

  def __len__(self) -> int:
    return len(self.paths)

  def __getitem__(self, i: int) -> dict:
    return {'image': decode(self.paths[i], self.size, self.mode), 'label': self.labels[i]}


def scan(
  folder: Path, size: int | None = None
) -> tuple[ImageFolder, ImageFolder, tuple[str, ...]]:
  """Finds the images of a tree without decoding them.

  Without a split into train and test, a tenth of the images, chosen by seed 0, is test. Hidden
  files and folders, and files without an image suffix, are skipped; the order is that of the
  sorted paths; the classes are the sorted folder names. If every image is grey, C is 1, else 3.

  Args:
    folder: the tree.
    size: side in pixels (shorter side resized, then center crop). Without it the images keep their
      size if all have the same, else `DEFAULT_SIZE` is taken.

  Returns:
    (train, test, class names).

  Raises:
    ValueError: no such folder, no images in it or in a class of it, an unreadable image (named),
      or size < 1.
  """
  if size is not None:
    check_number('The image size in pixels', size, 1, whole=True)
  if not folder.is_dir():
    raise ValueError(f'There is no folder {folder}; give the folder that holds the classes.')
  halves = _halves(folder)
  names = tuple(sorted({p.name for half in halves for p in _visible(half) if p.is_dir()}))
  found = [_images(half, names) for half in halves]
  if len(halves) == 1:
    found = _ninety_ten(*found[0])
  paths = [p for half, _ in found for p in half]
  if not paths:
    raise ValueError(
      f'{folder} holds no images; expected {folder}/<class>/<image> or '
      f'{folder}/train/<class>/<image> with suffixes {", ".join(SUFFIXES)}.'
    )
  for label, name in enumerate(names):
    if not any(label in labels for _, labels in found):
      raise ValueError(f'The class folder {folder / name} holds no images; remove it or fill it.')
  sizes, modes = zip(*map(_header, paths), strict=True)
  if size is None and len(set(sizes)) > 1:
    size = DEFAULT_SIZE
  mode = 'L' if set(modes) <= set(_GREY) else 'RGB'
  train, test = (ImageFolder(p, labels, size, mode) for p, labels in found)
  return train, test, names


def read(name: str, folder: Path, size: int | None = None) -> Dataset:
  """Decodes a whole tree into memory; see `scan` for the arguments and rules."""
  train, test, names = scan(folder, size)
  example = (train if len(train) else test)[0]['image']
  count = len(train) + len(test)
  memory.require(count * example.size, f'Reading the {count:,} images of {folder}')
  splits = (_load(x, example.shape, folder) for x in (train, test))
  return make_dataset(name, *splits, names)


def decode(path: Path, size: int | None, mode: str) -> np.ndarray:
  """An image file -> uint8 [H, W, C].

  Raises:
    ValueError: the file cannot be read as an image; the message names it.
  """
  from PIL import Image

  try:
    with Image.open(path) as image:
      image = _eight_bit(image).convert(mode)
      if size is not None:
        image = _fit(image, size)
  except Exception as error:  # damaged files make Pillow's decoders raise nearly anything
    raise _unreadable(path, error) from error
  return np.asarray(image).reshape(image.height, image.width, -1)


def _eight_bit(image):
  """Scales 16-bit grey values, which Pillow's own conversion would cut off at 255."""
  from PIL import Image

  if not image.mode.startswith('I'):
    return image
  values = np.asarray(image, np.float64) * (255 / 65535)
  return Image.fromarray(np.rint(values).clip(0, 255).astype(np.uint8))


def _fit(image, size: int):
  from PIL import Image

  scale = size / min(image.size)
  width, height = (max(size, round(side * scale)) for side in image.size)
  image = image.resize((width, height), Image.Resampling.LANCZOS)
  left, top = (width - size) // 2, (height - size) // 2
  return image.crop((left, top, left + size, top + size))


def _header(path: Path) -> tuple[tuple[int, int], str]:
  from PIL import Image

  try:
    with Image.open(path) as image:
      return image.size, image.mode
  except Exception as error:  # damaged files make Pillow's decoders raise nearly anything
    raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> ValueError:
  unknown = type(error).__name__ == 'UnidentifiedImageError'
  reason = 'it is of no known format' if unknown else str(error).rstrip('.')
  return ValueError(
    f'{path} cannot be read as an image ({reason}); repair or remove it.'
  )


def _halves(folder: Path) -> list[Path]:
  test = next((folder / name for name in _TEST_NAMES if (folder / name).is_dir()), None)
  train = folder / 'train'
  return [train, test] if train.is_dir() and test else [train if train.is_dir() else folder]


def _visible(folder: Path) -> list[Path]:
  return sorted(p for p in folder.iterdir() if not p.name.startswith('.'))


def _images(folder: Path, names: Sequence[str]) -> tuple[list[Path], list[int]]:
  paths, labels = [], []
  for label, name in enumerate(names):
    if (folder / name).is_dir():
      found = [p for p in sorted((folder / name).rglob('*')) if _is_image(p, folder)]
      paths += found
      labels += [label] * len(found)
  return paths, labels


def _is_image(path: Path, folder: Path) -> bool:
  hidden = any(part.startswith('.') for part in path.relative_to(folder).parts)
  return not hidden and path.suffix.lower() in SUFFIXES and path.is_file()


def _ninety_ten(paths: list[Path], labels: list[int]):
  test = np.zeros(len(paths), bool)
  test[np.random.default_rng(0).permutation(len(paths))[: round(0.1 * len(paths))]] = True
  return [
    ([paths[i] for i in np.flatnonzero(chosen)], [labels[i] for i in np.flatnonzero(chosen)])
    for chosen in (~test, test)
  ]


def _load(source: ImageFolder, shape: tuple[int, ...], folder: Path) -> Split:
  images = np.empty((len(source), *shape), np.uint8)
  for i in range(len(source)):
    images[i] = source[i]['image']
  return make_split(images, np.array(source.labels, np.int32), where=f'A split of {folder}')
