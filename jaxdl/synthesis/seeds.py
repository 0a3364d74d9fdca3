"""Seeds of every kind, which synthesis starts from, and what networks see in what becomes of them.
"""

from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np

from jaxdl.attacks import synthesis as s
from jaxdl.data import Split
from jaxdl.data.pipeline import unit_range
from jaxdl.synthesis.opinions import Network, distance, opinion


def draw_seeds(options, judge: Network, train: Split, test: Split, classes: int, key, folder):
  """Seeds of every kind for every class, and what the judge makes of them as they are.

  Args:
    options: `per_class` seeds from the class Gaussians and `grain` of those; `controls`, how many
      of noise and of another class.
    judge, test, key: see `Bench`.
    train: the images that the Gaussians are of.
    classes: K.
    folder: gets `<kind>.npz` with `seeds` [K n, H, W, C] and `targets`, class after class.
  """
  out = {'real': opinion(judge, test.images, test.labels)}
  for kind in SEEDS:
    n = {'class Gaussian': options['per_class'], 'grey': 1}.get(kind, options['controls'])
    targets = np.repeat(np.arange(classes, dtype=np.int32), n)
    seeds = np.asarray(_SEEDS[kind](targets, n, train, test, options['grain'], key), np.float32)
    np.savez(folder / f'{kind}.npz', seeds=seeds, targets=targets)
    out[kind] = opinion(judge, seeds, targets)
    if kind == 'class Gaussian':
      out[kind]['frechet'] = distance(judge, seeds, test.images)
      some = np.random.default_rng(0).choice(len(train), len(seeds))
      out['real']['frechet'] = distance(judge, train.images[some], test.images)
  return out


def _gaussian_seeds(targets, n, train, test, grain, key):
  seeds = []
  for label in np.unique(targets):
    gaussian = s.fit_gaussian(train.images[train.labels == label], grain)
    keys = jax.random.split(jax.random.fold_in(key, label), n)
    seeds.append(np.asarray(s.draw_gaussian(gaussian, keys)))
  return np.concatenate(seeds)


def _noise_seeds(targets, n, train, test, grain, key):
  shape = len(targets), *test.images.shape[1:]
  return np.clip(np.random.default_rng(0).normal(0.5, 0.2, shape), 0, 1)


def _other_seeds(targets, n, train, test, grain, key):
  generator = np.random.default_rng(0)
  others = [generator.choice(np.flatnonzero(test.labels != label)) for label in targets]
  return unit_range(test.images[others])


def _grey_seeds(targets, n, train, test, grain, key):
  return np.full((len(targets), *test.images.shape[1:]), 0.5)


_SEEDS = {
  'class Gaussian': _gaussian_seeds, 'noise': _noise_seeds, 'another class': _other_seeds,
  'grey': _grey_seeds,
}
SEEDS = tuple(_SEEDS)


def cross(networks: Mapping[str, Network], made: Mapping[str, Path], seeds: Path) -> dict:
  """What every network sees in what each of the others generated.

  The judge may be fooled by what fools another standard network; a robust network that gave no
  gradient is not so easily.

  Args:
    networks: name -> who looks.
    made: name -> folder of `generation`, whose images are looked at.
    seeds: folder of `draw_seeds`.

  Returns:
    kind of seed -> maker, or 'untouched' -> who looks -> share taken for the class aimed at.
  """
  out = {}
  for kind in SEEDS:
    with np.load(seeds / f'{kind}.npz') as file:
      images, targets = {'untouched': file['seeds']}, file['targets']
    images |= {maker: np.load(folder / f'{kind}.npy') for maker, folder in made.items()}
    out[kind] = {
      maker: {name: opinion(n, x, targets)['agreement'] for name, n in networks.items()}
      for maker, x in images.items()
    }
  return out
