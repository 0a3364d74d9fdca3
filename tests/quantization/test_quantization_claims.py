"""What is claimed of quantised networks: right numbers, and a miss is said as one."""

import numpy as np
import pytest
import scipy.stats
from ml_collections import ConfigDict

from jaxdl.quantization import claims
from jaxdl.quantization.precision import MixedPrecision


def right(share, count=1000):
  """bool [count], that share of them True, from the front."""
  return np.arange(count) < share * count


def test_two_arms_on_the_same_seeds_and_images():
  one, other = [right(0.60), right(0.65)], [right(0.59), right(0.61), right(0.9)]
  pair = claims.paired(one, other)
  assert (pair.one, pair.other, pair.seeds) == (pytest.approx(62.5), pytest.approx(60), 2)
  assert pair.std == pytest.approx(np.std([1, 4], ddof=1))
  assert (pair.only_one, pair.only_other) == (50, 0)
  assert pair.p == pytest.approx(scipy.stats.binomtest(50, 50).pvalue)
  assert str(pair) == '+2.50 ± 2.12 points over 2 seeds, p = 1.8e-15, within noise'


def test_noise_is_of_seeds_or_of_images():
  assert claims.paired([right(0.6)], [right(0.599)]).noise  # one image: p = 1
  assert not claims.paired([right(0.6)], [right(0.5)]).noise
  spread = claims.paired([right(0.7), right(0.5)], [right(0.5), right(0.6)])
  assert spread.p < 1e-6 and spread.noise  # +20 and -10 points
  assert claims.paired([right(0.6)] * 3, [right(0.5)] * 3).std == 0
  assert not claims.paired([right(0.6)] * 3, [right(0.5)] * 3).noise


def test_a_miss_is_said_and_what_was_not_trained_is_left_out():
  correct = {'w3': [right(0.6)], 'w2': [right(0.7)], 'w1': [right(0.5)]}
  found = claims.orderings(correct)
  assert list(found) == [('w3', 'w2'), ('w2', 'w1')]
  three, two = list(claims.claims(found, {}))
  assert three.startswith('Three bits of weights are no worse than two: **not seen** (w3 60.00 %')
  assert two.startswith('Two bits of weights are no worse than one: **seen** (w2 70.00 %')


def result(accuracy, bits, **more):
  return {'test': {'accuracy': accuracy}, 'bits': {'average': bits}, **more}


def test_packed_weights_and_the_linear_quantizer():
  layers = {'a': {'ratios': [[1.0, 2.0, 3.0]], 'fits': {'2': [0.09, 0.1]}},
            'b': {'ratios': [[2.0, 2.0]], 'fits': {'2': [0.09, 0.1]}}}
  runs = {'float': [{'layers': layers}], 'w2': [{'layers': layers, 'packed differs by': 0.5}]}
  packed, linear = claims.claims({}, runs)
  assert 'reproduce the logits: **not seen** (largest difference 0.5 over 1 networks)' in packed
  assert 'is 2.00 in the median, 1.20 to 2.80' in linear and 'leave 10.0 % less' in linear


def test_error_of_learned_levels_beside_equal_steps():
  of = lambda *errors: [{'layers': {str(i): {'error': e} for i, e in enumerate(errors)}}]
  (worse,) = claims.errors({'w3': of(0.1, 0.3), 'uniform_w3': of(0.1, 0.2), 'w2': of(0.1)})
  assert '**not seen** (w3 0.2000 of their square, uniform_w3 0.1500)' in worse


def test_mixed_precision_beside_the_line_between_fixed_bits():
  runs = {'w1': [result(0.5, 1.0), result(0.9, 1.0)], 'w2': [result(0.6, 2.0), result(0.9, 2.0)]}
  mixed = {('one', 0.1): [result(0.56, 1.5)], ('one', 0.2): [result(0.52, 1.25)],
           ('channel', 0.3): [result(0.9, 2.5)], ('even', 0.1): [result(0.57, 1.5)]}
  options = ConfigDict({'scale': 'one'})
  said = list(MixedPrecision(runs, mixed, options).claims())
  assert said[0].endswith('**seen** (1.50, 1.25 bits).')
  below, above, blind = said[1:]  # over the one seed there is: 50 to 60 %; nothing beyond w2
  assert 'At 1.25 average bits (soft threshold, lam 0.2)' in below
  assert '**not seen** (52 % against 52.50 %; w1 50 %)' in below
  assert '**seen** (56 % against 55.00 %' in above
  assert 'than even ones (lam 0.1): **not seen** (56 % with 1.50 bits, 57 %' in blind
