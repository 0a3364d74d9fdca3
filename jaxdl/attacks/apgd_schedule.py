"""When Auto-PGD looks at its steps: the checkpoints, and the balls of the L1 attack."""

import math

import numpy as np

_L1_RADII = ((3, 0.3), (2, 0.3), (1, 0.4))  # times eps, share of the steps


def checkpoints(steps: int) -> list[int]:
  """The steps after which step sizes are looked at: p_0 = 0, p_1 = .22 and p_{j+1} = p_j +
  max(p_j - p_{j-1} - .03, .06) times the steps, rounded up (Croce and Hein 2020,
  arXiv:2003.01690, equation 5)."""
  before, at, out = 0, 22, []  # in hundredths
  while at <= 100:
    out.append(-(-at * steps // 100))
    before, at = at, at + max(at - before - 3, 6)
  return sorted(set(out))


def phases(norm, steps):
  """[(radius over eps, steps)] of the parts of a run: in L1 three balls that shrink to the last
  (Croce and Hein 2021, arXiv:2103.01208), else one."""
  if norm != 'l1' or steps < len(_L1_RADII):
    return [(1, steps)]
  first = [math.ceil(share * steps) for _, share in _L1_RADII[:-1]]
  counts = [*first, steps - sum(first)]
  return [(factor, count) for (factor, _), count in zip(_L1_RADII, counts, strict=True)]


def windows_of(steps, longest, norm):
  """[longest + 1]: at a checkpoint the steps since the one before, elsewhere 0."""
  every = max(int(0.04 * steps), 1)
  at = list(range(every, steps + 1, every)) if norm == 'l1' else checkpoints(steps)
  out = np.zeros(longest + 1, np.int32)
  out[at] = np.diff([0, *at])
  return out
