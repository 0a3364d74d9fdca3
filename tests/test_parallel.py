"""Many devices give what one gives: every mode, every kind of data, there and back."""

import os
import subprocess
import sys
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdl import models, parallel
from jaxdl.augment import crop_flip
from jaxdl.core import bind, example_keys, init_state
from jaxdl.data.pipeline import streaming
from jaxdl.objectives import supervised
from jaxdl.parallel import AXIS, MODES, Layout, compile_step
from jaxdl.train import interrupt
from jaxdl.train.evaluate import predict
from jaxdl.train.loop import Every, fit
from jaxdl.train.step import grad_step

sys.path.append(str(Path(__file__).parent / 'train'))
import tiny  # noqa: E402

FOUR = tuple(jax.devices()[:4])
PERTURBATIONS = {
  'plain': None, 'sam': {'name': 'sam', 'rho': 0.3}, 'gaussian': {'name': 'gaussian', 'sigma': 0.1},
}


def batch_of(n=16, size=8, seed=0):
  rng = np.random.default_rng(seed)
  return {
    'image': rng.random((n, size, size, 3), np.float32), 'label': rng.integers(0, 5, n, np.int32),
    'index': rng.permutation(100)[:n].astype(np.int32),
  }


def make(name, perturbation=None, **options):
  model = bind(models.create(name, 5, **options))
  tx = tiny.build({'name': 'sgd', 'lr': 0.1, 'momentum': 0.9, 'perturbation': perturbation}, 10)
  init = lambda: init_state(model.init, tx, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
  return init, grad_step(supervised(model.apply), tx, transform=crop_flip(1))


def run(init, step, layout, steps=2):
  compiled, state = compile_step(step, layout), layout.replicate(jax.jit(init)())
  for i in range(steps):
    state, metrics = compiled(state, layout.split(batch_of(seed=i)))
  return layout.gather(state), metrics


def plain(state):
  return jax.tree.map(
    lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x, state
  )


@pytest.mark.parametrize('perturbation', PERTURBATIONS)
@pytest.mark.parametrize('mode', MODES)
def test_four_devices_equal_one(mode, perturbation):
  init, step = make('mlp', PERTURBATIONS[perturbation], hidden=(8,))
  one, m1 = run(init, step, Layout())
  four, m4 = run(init, step, Layout(mode, FOUR))
  chex.assert_trees_all_close(plain(one), plain(four), rtol=1e-4, atol=1e-6)
  chex.assert_trees_all_close(m1, m4, rtol=1e-4)


@pytest.mark.parametrize('mode', MODES)
def test_batch_norm_is_over_all_devices(mode):
  init, step = make('resnet8', width=0.25)
  one, m1 = run(init, step, Layout(), steps=1)
  four, m4 = run(init, step, Layout(mode, FOUR), steps=1)
  distance = optax.tree.norm(optax.tree.sub(one.params, four.params))
  moved = optax.tree.norm(optax.tree.sub(one.params, jax.jit(init)().params))
  assert distance < 2e-3 * moved
  chex.assert_trees_all_close(one.model_state, four.model_state, rtol=1e-4, atol=1e-6)
  chex.assert_trees_all_close(m1, m4, rtol=1e-4)


@pytest.mark.parametrize('mode', ['pmap', 'shard_map'])
def test_batch_norm_of_each_device_is_an_option_with_its_own_numbers(mode):
  """What the difference is: each quarter is normalised alone, then the results are averaged."""
  init, step = make('resnet8', width=0.25, norm_axis=None)
  whole, _ = run(init, step, Layout(), steps=1)
  four, _ = run(init, step, Layout(mode, FOUR), steps=1)
  parts = zip(*(np.split(x, 4) for x in batch_of().values()), strict=True)
  quarters = [
    jax.jit(step)(init(), dict(zip(batch_of(), part, strict=True)))[0].model_state for part in parts
  ]
  want = jax.tree.map(lambda *x: sum(x) / 4, *quarters)
  chex.assert_trees_all_close(four.model_state, want, rtol=1e-4, atol=1e-6)
  with pytest.raises(AssertionError):
    chex.assert_trees_all_close(four.model_state, whole.model_state, rtol=1e-3)


def test_augmentation_is_the_examples_own():
  batch = {k: jnp.asarray(v) for k, v in batch_of().items()}
  transform, key = crop_flip(2), jax.random.key(3)
  whole = transform(None, None, batch, key, None)['image']
  half = transform(None, None, {k: v[8:] for k, v in batch.items()}, key, None)['image']
  assert (whole[8:] == half).all() and (whole != batch['image']).any()
  keys = jax.random.key_data(example_keys(key, batch))
  assert len(np.unique(np.asarray(keys), axis=0)) == 16


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('kind', ['resident', 'streaming'])
def test_fit_on_four_devices_equals_one(tmp_path, mode, kind):
  init, step, data, _ = tiny.setup(norm=False)
  if kind == 'streaming':
    s = tiny.split()
    rows = [{'image': i, 'label': y} for i, y in zip(s.images, s.labels, strict=True)]
    data = streaming(rows, 8, 0)
  every = Every(log=4, checkpoint=6)
  go = lambda where, layout, **options: fit(
    init=init, step=step, data=data, steps=8, workdir=tmp_path / where, every=every, layout=layout,
    **options,
  )
  want, got = go('one', Layout()), go('four', Layout(mode, FOUR))
  chex.assert_trees_all_close(plain(want), plain(got), rtol=1e-4, atol=1e-6)
  if kind == 'resident':
    many = go('many', Layout(mode, FOUR), per_dispatch=100)
    chex.assert_trees_all_close(plain(want), plain(many), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('there, back', [
  (Layout('shard_map', FOUR), Layout()), (Layout(), Layout('jit', FOUR)),
  (Layout('jit', FOUR[:2]), Layout('pmap', FOUR)),
], ids=['4 to 1', '1 to 4', '2 to 4'])
def test_a_checkpoint_goes_from_some_devices_to_others(tmp_path, there, back):
  optimizer = {'name': 'adam', 'lr': 0.01, 'ema': 0.9}
  init, step, data, _ = tiny.setup(optimizer, norm=False)
  seen = []
  go = lambda where, steps, layout: fit(
    init=init, step=step, data=data, steps=steps, workdir=tmp_path / where, layout=layout,
    every=Every(log=3, checkpoint=5), evals={'test': lambda s: seen.append(int(s.step)) or {}},
  )
  want = go('straight', 10, Layout())
  go('moved', 5, there)
  seen.clear()
  got = go('moved', 10, back)
  assert seen == [10]
  chex.assert_trees_all_close(plain(want), plain(got), rtol=1e-4, atol=1e-6)


def test_weights_are_read_where_those_devices_are_not(tmp_path):
  init, step, data, _ = tiny.setup(norm=False)
  state = fit(init=init, step=step, data=data, steps=2, workdir=tmp_path,
              layout=Layout('shard_map', FOUR))
  read = (
    'import jax; from jaxdl.train.checkpoint import load_variables;'
    f'params, _ = load_variables({str(tmp_path)!r}); assert jax.device_count() == 1;'
    "print(repr(float(params['head']['kernel'].sum())))"
  )
  environment = os.environ | {'XLA_FLAGS': ''}
  done = subprocess.run([sys.executable, '-c', read], env=environment, capture_output=True,
                        text=True, check=False)
  assert done.returncode == 0, done.stderr
  assert float(done.stdout) == pytest.approx(float(state.params['head']['kernel'].sum()))


def test_resume_on_the_same_devices_is_bitwise(tmp_path):
  init, step, data, _ = tiny.setup()
  go = lambda where, steps: fit(
    init=init, step=step, data=data, steps=steps, workdir=tmp_path / where,
    layout=Layout('shard_map', FOUR), every=Every(log=3, checkpoint=3),
  )
  want = go('straight', 9)
  go('broken', 6)
  chex.assert_trees_all_equal(plain(want), plain(go('broken', 9)))


@pytest.mark.parametrize('count', [2, 4])
def test_predict_over_devices(monkeypatch, count):
  init, _ = make('resnet8', width=0.25)
  model = bind(models.create('resnet8', 5, width=0.25))
  state, images = jax.jit(init)(), batch_of(37)['image']
  want = predict(model, state.params, state.model_state, images, chunk=10)
  monkeypatch.setattr(parallel, '_request', parallel._Request(count, 'auto', True))
  on_all = Layout('shard_map', FOUR[:count]).replicate(state)
  for s in (state, on_all):
    got = predict(model, s.params, s.model_state, images, chunk=10)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_what_is_mapped_is_known():
  assert not parallel.is_mapped() and parallel.part() == (0, 1)
  assert jax.vmap(lambda x: x * parallel.is_mapped(), axis_name=AXIS)(jnp.ones(2)).sum() == 2
  assert jax.vmap(lambda x: x * parallel.is_mapped(), axis_name='seeds')(jnp.ones(2)).sum() == 0
  numbers = jax.vmap(lambda x: x + parallel.part()[0], axis_name=AXIS)(jnp.zeros(3))
  assert numbers.tolist() == [0, 1, 2]


@pytest.mark.parametrize('request_, batch, want', [
  ((1, 'auto', False), 128, ('jit', 0)),
  ((4, 'auto', False), 128, ('shard_map', 4)),
  ((4, 'jit', False), 128, ('jit', 4)),
  ((4, 'auto', False), 50, ('shard_map', 2)),  # 4 do not divide it
  ((4, 'auto', False), 32, ('shard_map', 2)),  # 8 images a device are too few
  ((4, 'auto', False), 31, ('jit', 0)),
  ((4, 'auto', True), 8, ('shard_map', 4)),
], ids=str)
def test_the_layout_of_a_request(monkeypatch, request_, batch, want):
  monkeypatch.setattr(parallel, '_request', parallel._Request(*request_))
  layout = parallel.layout(batch)
  assert (layout.mode, len(layout.devices)) == want


def test_a_batch_that_the_devices_do_not_divide(tmp_path, monkeypatch):
  init, step, data, _ = tiny.setup()
  monkeypatch.setattr(parallel, '_request', parallel._Request(3, 'auto', True))
  with pytest.raises(ValueError, match='batch of 8 does not divide over 3 devices.*6 or 9'):
    fit(init=init, step=step, data=data, steps=2, workdir=tmp_path / 'x')
  assert not (tmp_path / 'x').exists()
  with pytest.raises(ValueError, match='does not divide over 4 devices'):
    compile_step(step, Layout('jit', FOUR))(init(), batch_of(6))


@pytest.mark.parametrize('options, said', [
  ({'platform': 'abacus'}, '--platform must be one of cpu, gpu, tpu'),
  ({'mode': 'magic'}, '--mode must be one of auto, jit, pmap, shard_map'),
  ({'devices': -1}, '--devices must be at least 1'),
  ({'devices': 99}, '--devices=99, but this process has only 4'),
])
def test_what_cannot_be_configured(monkeypatch, options, said):
  monkeypatch.setattr(parallel, '_request', parallel._Request())
  monkeypatch.setattr(jax.config, 'update', lambda *_: None)  # JAX has started already
  with pytest.raises(ValueError, match=said):
    parallel.configure(**options)
  assert parallel._request == parallel._Request()


def test_one_process_is_the_first_and_agrees_with_itself():
  assert parallel.is_first() and parallel.largest(15) == 15
  parallel.barrier('alone')
  with interrupt.handling():
    assert not interrupt.requested()
