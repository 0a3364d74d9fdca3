"""Paired comparison of two classifiers."""

import numpy as np
import scipy.stats


def mcnemar(one, other) -> tuple[int, int, float]:
  """McNemar's exact test on the same examples (McNemar 1947; binomial form).

  Args:
    one: bool [N], where the first classifier is right.
    other: bool [N], where the second is right.

  Returns:
    (examples only the first has right, only the second, two-sided p value; 1 where they agree
    everywhere).
  """
  one, other = np.asarray(one, bool), np.asarray(other, bool)
  if one.shape != other.shape:
    raise ValueError(f'McNemar needs the same examples: got {one.shape} and {other.shape}.')
  only_one, only_other = int((one & ~other).sum()), int((other & ~one).sum())
  discordant = only_one + only_other
  p = scipy.stats.binomtest(only_one, discordant).pvalue if discordant else 1.0
  return only_one, only_other, float(p)
