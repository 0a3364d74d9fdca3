"""The loss of the order of confidences: pairs written out, counts over epochs, any objective."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl.core import bind, init_state
from jaxdl.data import resident
from jaxdl.objectives import distilled, supervised
from jaxdl.objectives.distilled import network
from jaxdl.objectives.ranked import HISTORY, order_loss, ranked, with_history
from jaxdl.optim import build
from jaxdl.parallel import Layout
from jaxdl.train.loop import fit
from jaxdl.train.step import grad_step

sys.path.append(str(Path(__file__).parent.parent / 'train'))
import tiny  # noqa: E402

IMAGE = jnp.zeros((1, 4, 4, 1))
RNG = np.random.default_rng(0)
BATCHES = [
  {
    'image': jnp.asarray(RNG.random((6, 4, 4, 1)), jnp.float32),
    'label': jnp.asarray(RNG.integers(0, 3, 6)), 'index': jnp.asarray(index),
  }
  for index in ([0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11])
]  # fmt: skip


def test_the_loss_is_the_weighted_mean_over_pairs():
  k, h = RNG.random(7), RNG.integers(0, 4, 7) / 3
  pairs = [(max(h[i] - h[j], 0), np.log1p(np.exp(k[j] - k[i])))
           for i in range(7) for j in range(7)]
  want = sum(w * x for w, x in pairs) / sum(w for w, _ in pairs)
  np.testing.assert_allclose(order_loss(jnp.asarray(k), jnp.asarray(h)), want, rtol=1e-5)


def test_where_nothing_differs_there_is_nothing_to_order():
  value, gradient = jax.value_and_grad(order_loss)(jnp.array([0.2, 0.9]), jnp.array([0.5, 0.5]))
  assert value == 0 and (np.asarray(gradient) == 0).all()


def test_what_was_right_more_often_is_made_surer():
  gradient = jax.grad(order_loss)(jnp.array([0.5, 0.5, 0.5]), jnp.array([1.0, 0.5, 0.0]))
  assert gradient[0] < 0 < gradient[2]


@pytest.fixture(scope='module')
def trained():
  """Two epochs of two batches, with a teacher beside: the states, and how often each was right."""
  model = with_history(bind(tiny.Net(width=4), mean=0.5, std=0.25), 12)
  teacher = bind(tiny.Net(width=6), mean=0.5, std=0.25)
  frozen = {'teacher': teacher.init(jax.random.key(1), IMAGE)}
  tx = build({'lr': 0.1, 'momentum': 0.9}, 10)
  state = init_state(model.init, tx, jax.random.key(0), IMAGE)
  step = jax.jit(grad_step(ranked(distilled(model.apply, network(teacher.apply), 0.5, 4.0)), tx))
  right, states, orders = np.zeros(12), [state], []
  for batch in BATCHES * 2:
    (logits, _), _ = model.apply(
      state.params, state.model_state, batch['image'], train=True, key=jax.random.key(0)
    )
    right[np.asarray(batch['index'])] += np.asarray(logits).argmax(-1) == batch['label']
    state, metrics = step(state, batch, frozen)
    states.append(state)
    orders.append(float(metrics['loss/order']))
  assert step._cache_size() == 1
  return states, right, orders


def test_every_visit_is_counted_at_its_example(trained):
  states, right, orders = trained
  history = states[-1].model_state[HISTORY]
  np.testing.assert_array_equal(history['seen'], 2)
  np.testing.assert_array_equal(history['right'], right)
  assert 0 < right.sum() < 24
  assert orders[:2] == [0, 0]  # of a first epoch nothing is known yet
  assert jax.tree.structure(states[0]) == jax.tree.structure(states[-1])


def test_counts_over_devices_are_those_of_one(tmp_path):
  model = with_history(bind(tiny.Net(norm=False)), 40)
  tx = build({'lr': 0.1}, 5)
  step = grad_step(ranked(supervised(model.apply)), tx)
  init = lambda: init_state(model.init, tx, jax.random.key(0), IMAGE)
  one, two = (
    fit(init=init, step=step, data=resident(tiny.split(), 8, 0), steps=5, workdir=tmp_path / name,
        layout=layout).model_state[HISTORY]
    for name, layout in (('1', Layout()), ('2', Layout('shard_map', tuple(jax.devices()[:2]))))
  )
  np.testing.assert_array_equal(one['seen'], 1)
  for name in one:
    np.testing.assert_array_equal(one[name], two[name])


def test_weight_nothing_is_the_objective_itself():
  plain = bind(tiny.Net(width=4), mean=0.5, std=0.25)
  model = with_history(plain, 12)
  params, state = model.init(jax.random.key(0), IMAGE)
  state[HISTORY] = {'right': jnp.arange(12.0), 'seen': jnp.full(12, 11.0)}
  own = {k: v for k, v in state.items() if k != HISTORY}
  arguments = BATCHES[0], jax.random.key(0), None
  loss, out = ranked(supervised(model.apply), 0.0)(params, state, *arguments)
  want, _ = supervised(plain.apply)(params, own, *arguments)
  np.testing.assert_allclose(loss, want, rtol=1e-6)
  more, _ = ranked(supervised(model.apply), 2.0)(params, state, *arguments)
  np.testing.assert_allclose(more, want + 2 * out.metrics['loss/order'], rtol=1e-6)
  assert out.metrics['loss/order'] > 0
  (logits, _), kept = model.apply(params, state, BATCHES[0]['image'])
  (same, _), _ = plain.apply(params, own, BATCHES[0]['image'])
  np.testing.assert_array_equal(logits, same)
  assert kept is state


def test_bad_values_are_refused():
  with pytest.raises(ValueError, match='weight must be a number, at least 0'):
    ranked(supervised(bind(tiny.Net()).apply), -1.0)
  with pytest.raises(ValueError, match='number of examples'):
    with_history(bind(tiny.Net()), 0)
