"""Seeds as an axis: each member is its own run."""

import copy

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from test_classifier import CONFIG

from jaxdl.core import init_state
from jaxdl.train.cells import training_stages
from jaxdl.train.checkpoint import load_variables
from jaxdl.train.loop import Every, fit
from jaxdl.train.metrics import read_metrics
from jaxdl.train.seeds import SeedBatches, init_over, member, resolve, step_over
from jaxdl.train.stages import run_stages

SEEDS = (3, 0, 7)


def plain(tree):
  return jax.tree.map(
    lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x, tree
  )


@pytest.mark.parametrize('axis', ['vmap', 'map'])
@pytest.mark.parametrize('perturbation', [None, {'name': 'sam', 'rho': 0.1}], ids=['sgd', 'sam'])
def test_each_seed_equals_its_own_run_and_resumes(tmp_path, axis, perturbation):
  optimizer = {'name': 'sgd', 'lr': 0.1, 'momentum': 0.9, 'perturbation': perturbation}
  _, step, data, model = tiny.setup(optimizer, dropout=0.2)
  tx = tiny.build(optimizer, 12)
  init = lambda key: init_state(model.init, tx, key, jnp.zeros((1, 4, 4, 1)))
  every = Every(log=4, checkpoint=6)
  together = lambda where, steps: fit(
    init=init_over(init, SEEDS), step=step_over(step, SEEDS, axis), steps=steps, every=every,
    data=SeedBatches(tiny.split(), 8, SEEDS), workdir=tmp_path / where,
  )
  state = together('all', 12)
  for i, seed in enumerate(SEEDS):
    own, own_step, own_data, _ = tiny.setup(optimizer, seed=seed, dropout=0.2)
    alone = fit(init=own, step=own_step, data=own_data, steps=12, workdir=tmp_path / f'{seed}',
                every=every)
    chex.assert_trees_all_close(plain(member(state, i)), plain(alone), rtol=2e-4, atol=1e-5)
    want, got = read_metrics(tmp_path / f'{seed}'), read_metrics(tmp_path / 'all')
    np.testing.assert_allclose(got[f'train/seed{seed}/loss'], want['train/loss'], rtol=1e-4)
  together('broken', 6)
  chex.assert_trees_all_equal(plain(together('broken', 12)), plain(state))
  with pytest.raises(AssertionError):  # members differ from each other
    chex.assert_trees_all_close(member(state, 0).params, member(state, 1).params, rtol=1e-2)


@pytest.mark.parametrize('axis', ['map', 'vmap'])
def test_cells_are_the_same_with_an_axis(tmp_path, axis):
  config = copy.deepcopy(CONFIG) | {'model': {'name': 'resnet8', 'width': 0.25}, 'epochs': 0.5}
  other = config | {'batch_size': 10}
  cells = [('a-0', config, 0), ('b-0', other, 0), ('a-1', config, 1)]
  flat = lambda axis: [s for stages in training_stages(cells, axis) for s in stages]
  assert [s.name for s in flat('off')] == ['a-0', 'b-0', 'a-1']
  assert [s.name for s in flat('on')] == ['a-0-together', 'a-0', 'b-0-together', 'b-0', 'a-1']
  alone = run_stages(flat('off'), tmp_path / 'off', log=lambda _: None)
  joined = run_stages(flat(axis), tmp_path / 'on', log=lambda _: None)
  for name, _, seed in cells:
    assert alone[name]['steps'] == joined[name]['steps']
    for part in ('train', 'validation', 'test'):
      assert joined[name][part] == pytest.approx(alone[name][part], rel=0.02), (name, part)
    weights = [load_variables(tmp_path / w / name) for w in ('off', 'on')]
    chex.assert_trees_all_close(*weights, rtol=5e-2, atol=5e-3)
    logs = [read_metrics(tmp_path / w / name) for w in ('off', 'on')]
    assert logs[0].keys() == logs[1].keys()
    np.testing.assert_allclose(logs[0]['train/loss'], logs[1]['train/loss'], rtol=1e-2)
    assert not [k for k in logs[1] if 'seed' in k], seed


def test_the_axis_follows_the_platform(monkeypatch):
  assert resolve('off') == 'off' and resolve('vmap') == 'vmap'
  assert resolve('on') == 'map'
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  assert resolve('on') == 'vmap'
  with pytest.raises(ValueError, match='seed_axis must be one of off, on, vmap, map'):
    resolve('yes')
