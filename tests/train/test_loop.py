"""The loop: resume, periods, NaN, signals, one compilation."""

import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from jaxdl.data.pipeline import streaming
from jaxdl.train import interrupt
from jaxdl.train.checkpoint import Checkpoints, Mismatch, load_variables
from jaxdl.train.loop import Every, NonFinite, fit
from jaxdl.train.metrics import read_metrics

EVERY = Every(log=4, evaluate=6, checkpoint=5, keep=2)
OPTIMIZERS = {
  'sgd': {'name': 'sgd', 'lr': 0.1, 'momentum': 0.9},
  'sam': {'name': 'adam', 'lr': 0.01, 'ema': 0.9, 'perturbation': {'name': 'sam', 'rho': 0.1}},
  'gaussian': {'name': 'sgd', 'lr': 0.1, 'perturbation': {'name': 'gaussian', 'sigma': 0.1}},
}


class Stop(Exception):
  pass


def run(workdir, optimizer='sgd', steps=12, stop_at=None, every=EVERY, **options):
  init, step, data, model = tiny.setup(OPTIMIZERS[optimizer], steps=12, dropout=0.2)
  evaluated = []

  def evaluate(state):
    evaluated.append(int(state.step))
    if stop_at is not None and int(state.step) >= stop_at:
      raise Stop
    return {'norm': float(jnp.linalg.norm(state.params['head']['kernel']))}

  state = fit(init=init, step=step, data=data, steps=steps, workdir=workdir,
              evals={'test': evaluate}, every=every, **options)
  return state, evaluated


def plain(state):
  return jax.tree.map(
    lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x, state
  )


@pytest.mark.parametrize('optimizer', OPTIMIZERS)
def test_stopped_and_resumed_equals_straight_bit_for_bit(tmp_path, optimizer):
  straight, _ = run(tmp_path / 'straight', optimizer)
  with pytest.raises(Stop):
    run(tmp_path / 'broken', optimizer, stop_at=6)
  resumed, evaluated = run(tmp_path / 'broken', optimizer)
  assert evaluated == [6, 12]  # went on from the checkpoint of step 5
  chex.assert_trees_all_equal(plain(straight), plain(resumed))
  lines = [(tmp_path / w / 'metrics.jsonl').read_bytes() for w in ('straight', 'broken')]
  assert lines[0] == lines[1]
  early, _ = run(tmp_path / 'early', optimizer, steps=7)
  with pytest.raises(AssertionError):  # the comparison can fail
    chex.assert_trees_all_equal(plain(straight).params, plain(early).params)


def test_periods_and_final_evaluation(tmp_path):
  _, evaluated = run(tmp_path, steps=8)
  assert evaluated == [6, 8]
  rows = [json.loads(line) for line in (tmp_path / 'metrics.jsonl').read_text().splitlines()]
  assert [r['step'] for r in rows if 'train/loss' in r] == [4, 8]
  assert [r['step'] for r in rows if 'test/norm' in r] == [6, 8]


def test_logged_loss_is_the_mean_over_the_steps_since_the_last_line(tmp_path):
  each, _ = run(tmp_path / 'each', every=Every(log=1, checkpoint=0))
  run(tmp_path / 'four', every=Every(log=4, checkpoint=0))
  read = lambda w: [
    json.loads(x)['train/loss'] for x in (tmp_path / w / 'metrics.jsonl').read_text().splitlines()
    if 'train/loss' in x
  ]
  np.testing.assert_allclose(np.reshape(read('each'), (3, 4)).mean(1), read('four'), rtol=1e-5)


def test_finished_run_does_nothing_more(tmp_path):
  first, _ = run(tmp_path)
  before = (tmp_path / 'metrics.jsonl').read_bytes()
  again, evaluated = run(tmp_path)
  assert evaluated == [] and (tmp_path / 'metrics.jsonl').read_bytes() == before
  chex.assert_trees_all_equal(plain(first), plain(again))


def test_many_steps_a_dispatch_equal_single_steps(tmp_path):
  one, _ = run(tmp_path / 'one')
  many, _ = run(tmp_path / 'many', per_dispatch=100)
  chex.assert_trees_all_close(plain(one), plain(many), rtol=1e-5, atol=1e-6)
  one, many = (read_metrics(tmp_path / w / 'metrics.jsonl') for w in ('one', 'many'))
  assert one['train/loss'][0].tolist() == many['train/loss'][0].tolist() == [4, 8, 12]


def test_streaming_data_trains_and_resumes_like_resident(tmp_path):
  s = tiny.split()
  rows = [{'image': i, 'label': y} for i, y in zip(s.images, s.labels, strict=True)]
  init, step, resident, _ = tiny.setup(steps=12)
  every = Every(log=4, checkpoint=4)
  go = lambda data, where, steps: fit(
    init=init, step=step, data=data, steps=steps, workdir=tmp_path / where, every=every
  )
  want = go(resident, 'resident', 12)
  go(streaming(rows, 8, 0), 'stream', 4)
  got = go(streaming(rows, 8, 0), 'stream', 12)
  chex.assert_trees_all_close(plain(want), plain(got), rtol=1e-5, atol=1e-6)


def test_nan_stops_with_the_range_and_keeps_the_last_good_checkpoint(tmp_path):
  def poison(params, model_state, batch, key, frozen):
    bad = jnp.where(batch['step'] >= 9, jnp.nan, 1.0)
    return {**batch, 'image': batch['image'] * bad}

  init, step, data, _ = tiny.setup(transform=poison)
  with pytest.raises(NonFinite, match=r'between step 9 and 10.*step 5 is kept.*loss'):
    fit(init=init, step=step, data=data, steps=12, workdir=tmp_path, every=EVERY)
  with Checkpoints(tmp_path / 'checkpoints') as checkpoints:
    assert checkpoints.latest() == 5
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(load_variables(tmp_path)))


def test_a_signal_saves_and_stops_and_the_rest_is_the_same(tmp_path, monkeypatch):
  straight, _ = run(tmp_path / 'straight')
  with interrupt.handling():
    calls = iter(range(100))
    monkeypatch.setattr(interrupt, '_received', None)
    real = interrupt.requested

    def requested():
      if next(calls) == 6:
        interrupt._received = 15
      return real()

    monkeypatch.setattr(interrupt, 'requested', requested)
    with pytest.raises(interrupt.Interrupted, match='SIGTERM'):
      run(tmp_path / 'stopped')
    monkeypatch.setattr(interrupt, 'requested', real)
  with Checkpoints(tmp_path / 'stopped' / 'checkpoints') as checkpoints:
    assert checkpoints.latest() == 7
  resumed, _ = run(tmp_path / 'stopped')
  chex.assert_trees_all_equal(plain(straight), plain(resumed))
  lines = [(tmp_path / w / 'metrics.jsonl').read_bytes() for w in ('straight', 'stopped')]
  assert lines[0] == lines[1]


def test_one_compilation(tmp_path):
  init, step, data, _ = tiny.setup()
  traced = chex.assert_max_traces(step, n=2)  # once for the shapes, once for the program
  fit(init=init, step=traced, data=data, steps=12, workdir=tmp_path, every=EVERY)


def test_a_checkpoint_of_another_network_is_refused_by_name(tmp_path):
  run(tmp_path)
  init, step, data, _ = tiny.setup(OPTIMIZERS['sgd'], width=5)
  named = r'params/\S+ has shape \(8,\) in the checkpoint and \(5,\) here'
  with pytest.raises(Mismatch, match=named):
    fit(init=init, step=step, data=data, steps=20, workdir=tmp_path, every=EVERY)


def test_a_checkpoint_past_the_end_is_refused(tmp_path):
  run(tmp_path)
  with pytest.raises(ValueError, match='step 12, past the end of this run .4 steps'):
    run(tmp_path, steps=4)


def test_unreadable_newest_checkpoint_is_set_aside(tmp_path):
  straight, _ = run(tmp_path / 'straight')
  run(tmp_path / 'broken')
  newest = tmp_path / 'broken' / 'checkpoints' / '12'
  for file in newest.rglob('*'):
    if file.is_file():
      file.write_bytes(b'garbage')
  with pytest.warns(UserWarning, match='Checkpoint 12 .* cannot be read'):
    resumed, evaluated = run(tmp_path / 'broken')
  assert evaluated == [12]
  assert (tmp_path / 'broken' / 'checkpoints.unreadable' / '12').is_dir()
  chex.assert_trees_all_equal(plain(straight), plain(resumed))


def test_load_variables(tmp_path):
  state, _ = run(tmp_path)
  params, model_state = load_variables(tmp_path)
  chex.assert_trees_all_equal(params, jax.device_get(state.params))
  chex.assert_trees_all_equal(model_state, jax.device_get(state.model_state))
  with pytest.raises(FileNotFoundError, match='train it first'):
    load_variables(tmp_path / 'nothing')
