"""Sets by name: embedded, a prepared archive, TensorFlow Datasets, or a folder of images."""

import os
from collections.abc import Callable
from pathlib import Path

from jaxdl.data import archive, embedded, folders, tfds_source
from jaxdl.data.dataset import Dataset
from jaxdl.data.shapes import shapes
from jaxdl.options import nearest

# name -> () -> Dataset, always there
EMBEDDED: dict[str, Callable[[], Dataset]] = {
  'mnist5k': embedded.mnist5k,
  'digits': embedded.digits,
  'shapes': shapes,
}


def load(
  name: str | None = None,
  data_dir: str | os.PathLike | None = None,
  folder: str | os.PathLike | None = None,
  size: int | None = None,
) -> Dataset:
  """Loads an image set.

  Looks, in this order, at the folder if one is given; the embedded sets; the prepared archive
  `<data_dir>/<name>.npz`; TensorFlow Datasets.

  Args:
    name: of the set; with `folder` it may be left out, and is then that of the folder.
    data_dir: where the archives are; without it the environment variable JAXDL_DATA, and without
      that ~/.cache/jaxdl/data.
    folder: a class-per-folder image tree, see `jaxdl.data.folders`.
    size: with `folder`, the side in pixels to bring the images to.

  Raises:
    ValueError: the set is nowhere, or what was found is not a valid set; the message says what was
      looked for, where, and the command that prepares it.
  """
  if folder is not None:
    folder = Path(folder).expanduser()
    return folders.read(name or os.path.basename(os.path.realpath(folder)), folder, size)
  if not name:
    raise ValueError('Which set? Give its name (data.name) or a folder of images (data.folder).')
  if size is not None:
    raise ValueError('A size can only be asked for together with a folder of images.')
  if name in EMBEDDED:
    return EMBEDDED[name]()
  path = archive_path(name, data_dir)
  if path.exists():
    return archive.read(name, path)
  try:
    return tfds_source.read(name)
  except tfds_source.Unavailable as error:
    near = nearest(name, {*EMBEDDED, *tfds_source.KNOWN, *(p.stem for p in archives(path.parent))})
    hint = f" (did you mean '{near}'?)" if near and near != name else ''
    raise ValueError(
      f"There is no set '{name}'{hint}: it is not embedded ({', '.join(EMBEDDED)}), {path} does "
      f'not exist, and {error}; prepare it with '
      f"'python -m jaxdl.data prepare {name} [--folder DIR] --data_dir {path.parent}'."
    ) from error


def archive_path(name: str, data_dir: str | os.PathLike | None = None) -> Path:
  """Where the archive of a set belongs.

  Raises:
    ValueError: the name is not a plain file name.
  """
  plain = isinstance(name, str) and name and name == os.path.basename(name)
  if not plain or name.startswith('.'):
    raise ValueError(f"'{name}' is not a set's name; use letters, digits, '-' and '_'.")
  return resolve_data_dir(data_dir) / f'{name}.npz'


def check_apart(
  workdir: str | os.PathLike, name: str | None, folder: str | os.PathLike | None = None
) -> None:
  """Raises ValueError if the folder a set is read from and a run's folder lie within each other."""
  data = Path(folder).expanduser() if folder else _archive_folder(name)
  if data is None:
    return
  here, there = (Path(os.path.realpath(p)) for p in (workdir, data))
  if here == there or here in there.parents or there in here.parents:
    raise ValueError(
      f'The workdir {workdir} and the data folder {data} lie within each other, so that clearing '
      'one would delete the other; choose another --workdir.'
    )


def _archive_folder(name: str | None) -> Path | None:
  if not name or name in EMBEDDED:
    return None
  path = archive_path(name)
  return path.parent if path.exists() else None


def archives(data_dir: Path) -> list[Path]:
  """The archives in a folder, which need not exist."""
  found = data_dir.glob('*.npz') if data_dir.is_dir() else []
  return sorted(path for path in found if not path.name.startswith('.'))


def resolve_data_dir(data_dir: str | os.PathLike | None = None) -> Path:
  """The argument, else the environment variable JAXDL_DATA, else ~/.cache/jaxdl/data.

  Raises:
    ValueError: it is a file.
  """
  path = Path(data_dir or os.environ.get('JAXDL_DATA') or '~/.cache/jaxdl/data').expanduser()
  if file := next((p for p in (path, *path.parents) if p.is_file()), None):
    raise ValueError(f'The data folder {path} cannot be: {file} is a file; give another folder.')
  return path
