"""Prepared archives: one plain `.npz` per set, which anyone can make."""

import contextlib
import math
import os
import re
import zipfile
from pathlib import Path

import numpy as np

from jaxdl.data import memory
from jaxdl.data.dataset import Dataset, Split, make_dataset, make_split

# Nothing else in an archive is ever read.
_ARRAY = re.compile(r'((train|test)_\w+|label_names)\.npy')
_HEADERS = {
  (1, 0): np.lib.format.read_array_header_1_0,
  (2, 0): np.lib.format.read_array_header_2_0,
}


def read(name: str, path: Path) -> Dataset:
  """Reads an archive. It may come from anywhere: nothing in it is unpickled or written to disk.

  Args:
    name: the set's name.
    path: a `.npz` with uint8 `train_images`, `test_images` [N, H, W, C], integer `train_labels`,
      `test_labels` [N] and, optionally, `label_names` and further `train_<x>`, `test_<x>`. Those
      with one entry per example become extras; others (lists of indices, say) are left out. Labels
      of shape [N, H, W] are masks: they become the extra `segmentation`, with label 0 for all.
      Either half may be missing or have no images.

  Raises:
    ValueError: not a readable archive, one larger than the memory that is free, or its arrays do
      not fit together.
  """
  headers = _headers(path)
  memory.require(sum(_size(*header) for header in headers.values()), f'The set in {path}')
  with _reading(path), np.load(path, allow_pickle=False) as archive:
    arrays = {key: archive[key] for key in headers}
  halves = [half for half in ('train', 'test') if f'{half}_images' in arrays]
  if not halves:
    raise ValueError(
      f"{path} holds neither 'train_images' nor 'test_images'; it holds "
      f'{sorted(arrays) or "nothing"}.'
    )
  for half in halves:
    if f'{half}_labels' not in arrays:
      raise ValueError(f"{path} holds '{half}_images' but no '{half}_labels'.")
  found = {half: _split(arrays, half, f"'{half}' in {path}") for half in halves}
  empty = _empty_like(found[halves[0]])
  return make_dataset(
    name, found.get('train', empty), found.get('test', empty), arrays.get('label_names')
  )


def describe(path: Path) -> dict[str, tuple[int, ...]]:
  """The shapes of the image arrays by half ('train', 'test'), from the headers alone.

  Raises:
    ValueError: not a readable archive.
  """
  shapes = {key: shape for key, (shape, _) in _headers(path).items()}
  return {h: shapes[f'{h}_images'] for h in ('train', 'test') if f'{h}_images' in shapes}


def write(dataset: Dataset, path: Path) -> None:
  """Writes an archive whole or not at all: a temporary file beside it, then a rename."""
  arrays = {'label_names': np.array(dataset.label_names)}
  for half, split in (('train', dataset.train), ('test', dataset.test)):
    arrays[f'{half}_images'], arrays[f'{half}_labels'] = split.images, split.labels
    arrays.update({f'{half}_{name}': x for name, x in split.extras.items()})
  path.parent.mkdir(parents=True, exist_ok=True)
  part = path.with_name(f'.{path.name}.{os.getpid()}.part')
  try:
    with open(part, 'wb') as file:
      np.savez(file, **arrays)
    os.replace(part, path)
  finally:
    part.unlink(missing_ok=True)


@contextlib.contextmanager
def _reading(path: Path):
  try:
    yield
  except Exception as error:  # a damaged file makes zipfile, zlib and NumPy raise nearly anything
    reason = ' '.join(str(error).split())[:200].rstrip('.') or type(error).__name__
    raise ValueError(
      f"{path} is not a readable archive ({reason}); make it again with np.savez, or with 'python "
      f"-m jaxdl.data prepare {path.stem} --overwrite'."
    ) from error


def _headers(path: Path) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
  """name -> (shape, type) of the arrays, without reading them."""
  with _reading(path), zipfile.ZipFile(path) as archive:
    for name in archive.namelist():
      if '/' in name or '\\' in name or name.startswith('.'):
        raise ValueError(f'its member {name!r} is a path, not the name of an array')
    names = [name for name in archive.namelist() if _ARRAY.fullmatch(name)]
    return {name.removesuffix('.npy'): _header(archive, name) for name in names}


def _header(archive: zipfile.ZipFile, name: str):
  with archive.open(name) as file:
    read_header = _HEADERS.get(np.lib.format.read_magic(file))
    if read_header is None:
      raise ValueError(f'{name} has an unknown version of the .npy format')
    shape, _, dtype = read_header(file)
    held = archive.getinfo(name).file_size - file.tell()
  if dtype.hasobject:
    raise ValueError(f'{name} holds Python objects, which are never loaded')
  if _size(shape, dtype) != held:
    raise ValueError(f'{name} says it holds {_size(shape, dtype):,} bytes, but holds {held:,}')
  return shape, dtype


def _size(shape: tuple[int, ...], dtype: np.dtype) -> int:
  return math.prod(shape) * dtype.itemsize


def _split(arrays: dict, half: str, where: str) -> Split:
  images, labels = arrays[f'{half}_images'], arrays[f'{half}_labels']
  prefix = f'{half}_'
  extras = {
    key.removeprefix(prefix): x
    for key, x in arrays.items()
    if key.startswith(prefix) and x.ndim and len(x) == len(images)
  }
  del extras['images']
  extras.pop('labels', None)
  if labels.ndim == 3 and labels.shape == images.shape[:3]:
    extras['segmentation'], labels = labels, np.zeros(len(labels), np.int32)
  return make_split(images, labels, extras, where=where)


def _empty_like(split: Split) -> Split:
  return Split(split.images[:0], split.labels[:0], {k: x[:0] for k, x in split.extras.items()})
