"""The network and the images that attacks of different libraries meet, in a file each can read."""

import json
import zipfile
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np


class Victim(NamedTuple):
  """A trained CIFAR ResNet and some test images of its set.

  Attributes:
    model: `name`, as `jaxdl.models.create` has it, and the network's own options.
    classes: K.
    params, state: nested dicts of float32 arrays.
    mean, std: of its images' channels, [C].
    images: uint8 [N, H, W, C].
    labels: int32 [N].
  """

  model: Mapping[str, Any]
  classes: int
  params: Mapping
  state: Mapping
  mean: np.ndarray
  std: np.ndarray
  images: np.ndarray
  labels: np.ndarray


def save(path, victim: Victim) -> None:
  """Writes the victim to `path`, an .npz."""
  arrays = {f'params/{k}': v for k, v in _flat(victim.params)}
  arrays |= {f'state/{k}': v for k, v in _flat(victim.state)}
  parts = {k: np.asarray(getattr(victim, k)) for k in ('mean', 'std', 'images', 'labels')}
  model = json.dumps(dict(victim.model))
  np.savez(path, model=model, classes=victim.classes, **parts, **arrays)


def load(path, count: int) -> Victim:
  """What `save` wrote, with the first `count` images.

  Raises:
    ValueError: there is no such file, it is damaged, or it has fewer images.
  """
  try:
    with np.load(path) as file:
      arrays = dict(file)
    trees = {name: _nested(arrays, name) for name in ('params', 'state')}
    victim = Victim(
      json.loads(str(arrays['model'])), int(arrays['classes']), trees['params'], trees['state'],
      *(arrays[k] for k in ('mean', 'std', 'images', 'labels')),
    )
  except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
    raise ValueError(f'{path} is not a victim of the attacks: {error}.') from error
  if not 1 <= count <= len(victim.images):
    raise ValueError(f'The victim {path} has {len(victim.images)} images, not {count}.')
  return victim._replace(images=victim.images[:count], labels=victim.labels[:count])


def _flat(tree, prefix=''):
  for key, value in tree.items():
    if isinstance(value, Mapping):
      yield from _flat(value, f'{prefix}{key}/')
    else:
      yield prefix + key, np.asarray(value, np.float32)


def _nested(arrays, name):
  out = {}
  for path, value in arrays.items():
    first, *keys = path.split('/')
    if first == name:
      branch = out
      for key in keys[:-1]:
        branch = branch.setdefault(key, {})
      branch[keys[-1]] = value
  return out
