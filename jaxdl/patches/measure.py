"""What patches do to a victim: success at random places, at every place, and of what is no patch.

Every rate is a share in [0, 1] by the definitions of `jaxdl.attacks.patch.success`.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from jaxdl.attacks.patch import UNTARGETED, patched_predictions, success
from jaxdl.attacks.placement import Placement, cover, draw, sides
from jaxdl.core import Model
from jaxdl.data import Split
from jaxdl.train.evaluate import predict

GOALS = ('untargeted', 'targeted')
CONTROLS = ('noise', 'gray', 'real')


class Victim(NamedTuple):
  """A classifier, and the images it is shown.

  Attributes:
    model, params, model_state: of the network.
    split: N images with labels.
    clean: int [N], predictions without a patch.
  """

  model: Model
  params: dict
  model_state: dict
  split: Split
  clean: np.ndarray

  def predict(self, images) -> np.ndarray:
    """The classes of images [n, H, W, C], int [n]."""
    return predict(self.model, self.params, self.model_state, images).argmax(-1)

  def patched(self, patches, mask, places: Placement) -> np.ndarray:
    """The classes of the split with each patch [T, h, w, C], int [T, N]."""
    network = self.model, self.params, self.model_state
    return patched_predictions(*network, self.split.images, patches, mask, places)

  def success(self, patched, target: int = UNTARGETED) -> float:
    """Of predictions [N] with a patch."""
    return success(patched, self.split.labels, self.clean, target)


def victim(model: Model, params, model_state, split: Split) -> Victim:
  """Shows the classifier the images without a patch."""
  clean = predict(model, params, model_state, split.images).argmax(-1)
  return Victim(model, params, model_state, split, clean)


def over_rounds(v: Victim, patches_of: Callable, mask, place: Callable, rounds: int) -> np.ndarray:
  """Predictions [T, R, N]: in each round all images get new places, the same for all patches.

  Args:
    v: the victim.
    patches_of: round -> [T, h, w, C].
    mask: [h, w].
    place: see `jaxdl.attacks.placement.placement`.
    rounds: R; the places are fixed by the round.
  """
  at = lambda r: draw(place, jax.random.fold_in(jax.random.key(11), r), len(v.split))
  return np.stack([v.patched(patches_of(r), mask, at(r)) for r in range(rounds)], axis=1)


def rates(v: Victim, patches, targets: Sequence[int], mask, place, rounds: int, classes: int):
  """Everything about T patches on one victim.

  Returns:
    `clean` (accuracy); for each patch over rounds [T][R] `accuracy`, `untargeted` and `targeted` (0
    where it has no target); `predicted` [T][K], how often each class is predicted.
  """
  labels = v.split.labels
  seen = over_rounds(v, lambda _: patches, mask, place, rounds)
  counts = [np.bincount(rows.ravel(), minlength=classes) for rows in seen]
  return {
    'clean': float(np.mean(v.clean == labels)),
    'accuracy': np.mean(seen == labels, -1).tolist(),
    'untargeted': [[v.success(x) for x in rows] for rows in seen],
    'targeted': [
      [0.0 if k == UNTARGETED else v.success(x, k) for x in rows]
      for k, rows in zip(targets, seen, strict=True)
    ],
    'predicted': [(n / n.sum()).tolist() for n in counts],
  }


def enlarged(patches, mask, shape, beside: float = 0.5) -> np.ndarray:
  """Patches [T, h, w, C] with each pixel a block, [T, H, W, C]; gray outside of the mask [h, w].

  Args:
    patches: in [0, 1].
    mask: in [0, 1].
    shape: (H, W).
    beside: the gray.
  """
  mask = np.asarray(mask)[..., None]
  (height, width), (h, w) = shape, mask.shape[:2]
  whole = np.asarray(patches) * mask + beside * (1 - mask)
  return whole[:, np.arange(height) * h // height][:, :, np.arange(width) * w // width]


def strongest(v: Victim, patches, mask, place, key) -> list[float]:
  """The untargeted success of each patch [T] on the victim's images, at one place each."""
  seen = v.patched(patches, mask, draw(place, key, len(v.split)))
  return [v.success(row) for row in seen]


def control_rates(v: Victim, train: Split, size, place, rounds: int, seed: int) -> dict:
  """Success of what was not trained: noise, gray, the middle of a real image of the target class.

  The noise and the images are other ones in every round. Untargeted, `real` is the mean over the
  classes; targeted, every kind is.

  Args:
    v: the victim.
    train: where the real images are from.
    size: of the patch.
    place, rounds: see `over_rounds`.
    seed: of the noise and the images.

  Returns:
    kind of `CONTROLS` -> goal of `GOALS` -> [R].
  """
  classes, channels = np.unique(train.labels), train.images.shape[-1]

  def of_round(r):
    rng = np.random.default_rng([seed, *np.ravel(size), r])
    shape = (*sides(size), channels)
    noise, gray = rng.random(shape, np.float32), np.full(shape, 0.5, np.float32)
    return np.stack([noise, gray, *(crop(train, k, size, rng) for k in classes)])

  seen = over_rounds(v, of_round, cover(size), place, rounds)
  shown = {'noise': [seen[0]] * len(classes), 'gray': [seen[1]] * len(classes), 'real': seen[2:]}
  mean = lambda rows, aims: np.mean([
    [v.success(x, aim) for x in row] for row, aim in zip(rows, aims, strict=True)
  ], 0).tolist()
  aims = {'untargeted': [UNTARGETED] * len(classes), 'targeted': classes.tolist()}
  return {kind: {goal: mean(shown[kind], aims[goal]) for goal in GOALS} for kind in CONTROLS}


def crop(split: Split, label: int, size, rng) -> np.ndarray:
  """The middle of a random image of a class, float32 [h, w, C] in [0, 1]."""
  image = split.images[rng.choice(np.flatnonzero(split.labels == label))]
  (h, w), (rows, columns) = sides(size), image.shape[:2]
  top, left = (rows - h) // 2, (columns - w) // 2
  return image[top : top + h, left : left + w].astype(np.float32) / 255


def at_places(v: Victim, patches, targets: Sequence[int], mask, places: Sequence) -> dict:
  """Success of patches at several kinds of place: the untargeted one, and the mean of the others.

  Args:
    v: the victim.
    patches: [T, h, w, C], the first one untargeted.
    targets: [T].
    mask: [h, w].
    places: `place` functions.

  Returns:
    goal -> one number for each kind of place.
  """
  out = {goal: [] for goal in GOALS}
  for place in places:
    seen = v.patched(patches, mask, draw(place, jax.random.key(13), len(v.split)))
    found = [v.success(row, k) for row, k in zip(seen, targets, strict=True)]
    out['untargeted'].append(found[0])
    out['targeted'].append(float(np.mean(found[1:])))
  return out


def over_positions(v: Victim, patches, targets: Sequence[int], size, stride: int) -> dict:
  """Success of two patches, the first untargeted, pasted upright at every place of a grid.

  Args:
    v: the victim.
    patches: [2, h, w, C].
    targets: [2].
    size: of the patch.
    stride: of the grid, in pixels; the last row and column are always on it.

  Returns:
    `rows`, `columns`: of the upper left pixel; `untargeted`, `targeted`: [rows][columns]; `target`.
  """
  image, n, mask = v.split.images.shape[1:3], len(v.split), cover(size)
  rows, columns = (
    sorted({*range(0, whole - part + 1, stride), whole - part})
    for whole, part in zip(image, sides(size), strict=True)
  )
  found = []
  for row in rows:
    for column in columns:
      at = Placement(np.tile([row, column], (n, 1)), np.zeros(n, int), np.zeros(n, np.float32))
      seen = v.patched(patches, mask, at)
      found.append([v.success(x, k) for x, k in zip(seen, targets, strict=True)])
  maps = np.array(found).reshape(len(rows), len(columns), 2)
  return {'rows': rows, 'columns': columns, 'target': targets[1],
          **{goal: maps[..., i].tolist() for i, goal in enumerate(GOALS)}}
