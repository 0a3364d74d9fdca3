"""When a difference of accuracies is one."""

import numpy as np

SEEN, NOT_SEEN = '**seen**', '**not seen**'


def said(seen: bool) -> str:
  return SEEN if seen else NOT_SEEN


def error(one: float, other: float, images: int) -> float:
  """Two standard errors of the difference of two accuracies (%) on so many images each.

  Taken as independent: on the same images the difference is known better than that.
  """
  spread = sum(p * (100 - p) for p in (one, other))
  return 2 * float(np.sqrt(max(spread, 0) / images))


def verdict(difference: float, noise: float) -> str:
  """'seen' where the difference exceeds the noise; where it does not, by how much it may."""
  if abs(difference) <= noise:
    return f'{said(False)}, the difference is within two standard errors ({noise:.1f} points)'
  return said(difference > 0)
