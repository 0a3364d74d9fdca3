"""McNemar's test against the binomial distribution written out."""

import math

import numpy as np
import pytest

from jaxdl.viz.significance import mcnemar


def test_equals_the_binomial_sum():
  one = np.array([True] * 9 + [False] * 2 + [True] * 20)
  other = np.array([False] * 9 + [True] * 2 + [True] * 20)
  p = 2 * sum(math.comb(11, k) for k in range(3)) / 2**11
  assert mcnemar(one, other) == (9, 2, pytest.approx(p))
  assert mcnemar(other, one)[:2] == (2, 9)


def test_agreement_everywhere_says_nothing():
  same = np.array([True, False, True])
  assert mcnemar(same, same) == (0, 0, 1.0)


def test_needs_the_same_examples():
  with pytest.raises(ValueError, match='same examples'):
    mcnemar([True], [True, False])
