"""All numbers of the study of adversarial patches in one place, and what is read from them."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxdl.attacks.patch import UNTARGETED

RATES = tuple(f'{what} success (%)' for what in (
  'untargeted', 'targeted', 'lowest targeted', 'highest targeted', 'best targeted as untargeted',
))
ACCURACY = 'accuracy (%)'


class Findings(NamedTuple):
  """What the stages found. A cell is (arm, size); functions are in `jaxdl.patches.measure`.

  Attributes:
    c: the configuration of the study.
    names: of the classes.
    shape: (H, W) of the images.
    images: number of test images.
    victims: name -> result of its training.
    made: cell -> `targets`, `strongest` (which patch is the best targeted one).
    rates: cell -> victim -> `rates`.
    controls: size -> victim -> `control_rates`.
    placements: goal -> [trained][pasted].
    positions: size as text -> `over_positions`.
    samples: of the first arm, [sizes][T], the classes predicted.
    filling: arm -> [T], the class of an image that each patch of the largest size fills.
    patches: cell -> [T, h, w, C].
    pictures: cell -> [h, w, C], what a disguised patch must look like.
    sampled: of the first arm, images [sizes, T, H, W, C].
    logs: title -> metrics of the training of the first arm's patches.
  """

  c: Any
  names: tuple[str, ...]
  shape: tuple[int, int]
  images: int
  victims: Mapping[str, Mapping]
  made: Mapping[tuple, Mapping]
  rates: Mapping[tuple, Mapping]
  controls: Mapping[int, Mapping]
  placements: Mapping[str, list]
  positions: Mapping[str, Mapping]
  samples: list
  filling: Mapping[str, list]
  patches: Mapping[tuple, np.ndarray]
  pictures: Mapping[tuple, np.ndarray]
  sampled: np.ndarray
  logs: Mapping[str, Any]

  def own(self, arm) -> str:
    """The (first) victim that an arm's patches were made for."""
    return self.c.arm[arm].sources[0]

  def alone(self, arm) -> bool:
    """Whether they were made for that one only."""
    return len(self.c.arm[arm].sources) == 1

  def sizes(self, arm) -> tuple[int, ...]:
    """Of an arm's patches."""
    return tuple(self.c.arm[arm].sizes)

  def full(self, arm) -> bool:
    """Whether an arm has every target and every size of the first one."""
    return self.c.arm[arm].targets == 'all' and self.sizes(arm) == self.sizes(self.c.arms[0])

  def plain(self) -> list[str]:
    """The arms that are square, for one victim, and have nothing of their own, in order."""
    return [arm for arm in self.c.arms if self.alone(arm) and self.c.arm[arm].shape == 'square'
            and not {'disguise', 'steps'} & set(self.c.arm[arm])]

  def twin(self, arm, size) -> str | None:
    """The plain arm for the same victim, if it has this size."""
    return next((a for a in self.plain() if self.own(a) == self.own(arm) and (a, size) in
                 self.rates), None)

  def rounds(self, arm, size, victim, goal) -> np.ndarray:
    """Success over rounds [R]: of the untargeted patch, or the mean of the targeted ones."""
    rates = np.array(self.rates[arm, size][victim][goal])
    return rates[0] if goal == 'untargeted' else rates[1:].mean(0)

  def percent(self, arm, size, victim, goal) -> float:
    """The mean of `rounds`, in per cent; NaN where the arm has no such size."""
    if (arm, size) not in self.rates:
      return float('nan')
    return 100 * float(self.rounds(arm, size, victim, goal).mean())

  def of_targets(self, arm, size, victim) -> dict[int, float]:
    """Target -> success in per cent, mean over rounds."""
    rates = np.mean(self.rates[arm, size][victim]['targeted'], 1)
    return {k: 100 * float(x) for k, x in zip(self.made[arm, size]['targets'], rates, strict=True)
            if k != UNTARGETED}

  def control(self, size, victim, kind, goal) -> float:
    """Success of what was not trained, in per cent."""
    return 100 * float(np.mean(self.controls[size][victim][kind][goal]))

  def largest(self) -> int:
    """The largest size of the first arm."""
    return max(self.sizes(self.c.arms[0]))
