"""The survey of one network: every curve has its length, zero disturbance is the clean network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl import models
from jaxdl.core import bind
from jaxdl.landscape.survey import NOISE, ROUNDING, loss_slices, survey

OPTIONS = {
  'relative': [0.0, 0.2], 'absolute': [0.0, 0.1, 0.2], 'l2': [0.0, 0.3], 'linf': [0.0, 0.01],
  'bits': [16, 3], 'draws': 2, 'attack_steps': 3, 'eigenvalues': 2, 'lanczos': 4,
  'span': 1.0, 'line': 5, 'surface': 3,
}


@pytest.fixture(scope='module')
def network():
  model = bind(models.create('mlp', 3, hidden=(8,)))
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (30, 4, 4, 1), dtype=np.uint8)
  labels = rng.integers(0, 3, 30).astype(np.int32)
  params, state = model.init(jax.random.key(0), jnp.zeros((1, 4, 4, 1)))
  return model, params, state, (images, labels)


def test_survey(network):
  model, params, state, data = network
  found = survey(model, params, state, data, data, data[0], OPTIONS, jax.random.key(1))
  assert set(found['gaussian']) == set(NOISE) and set(found['rounding']) == set(ROUNDING)
  for name, curve in found['gaussian'].items():
    assert len(curve) == (3 if name == 'absolute' else 2)
    assert curve[0] == pytest.approx(found['clean'])
  for norm in ('l2', 'linf'):
    rows = found['adversarial'][norm]
    assert rows['sharpness'][0] == pytest.approx(0, abs=1e-6) and rows['sharpness'][1] > 0
    assert rows['accuracy'][0] == pytest.approx(found['clean'])
  for rows in found['rounding'].values():
    assert rows['accuracy'][0] == pytest.approx(found['clean'])
    assert rows['half_step'][0] < rows['half_step'][1]
  assert found['eigenvalues'][0] >= found['eigenvalues'][1]
  norm = np.sqrt(sum(float((x**2).sum()) for x in jax.tree.leaves(params)))
  assert found['weight_norm'] == pytest.approx(norm, rel=1e-5)


def test_slices_meet_at_the_network(network):
  model, params, state, data = network
  found = loss_slices(model, params, state, data, OPTIONS, jax.random.key(1))
  line, surface = found['line'], found['surface']
  assert line['x'] == [-1, -0.5, 0, 0.5, 1] and np.shape(surface['loss']) == (3, 3)
  assert line['loss'][2] == pytest.approx(surface['loss'][1][1], rel=1e-5)
  np.testing.assert_allclose([row[1] for row in surface['loss']], line['loss'][::2], rtol=1e-5)
