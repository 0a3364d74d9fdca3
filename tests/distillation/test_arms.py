"""Arms as objectives: each option does what it says, a kept teacher says what an asked one does."""

import importlib.util
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from jaxdl.distillation import arms
from jaxdl.losses import cross_entropy
from jaxdl.objectives.distilled import CACHED
from jaxdl.objectives.ranked import HISTORY
from jaxdl.train.evaluate import predict
from jaxdl.uncertainty.mixture import mixture
from jaxdl.uncertainty.temperature import fit_temperature

PATH = pathlib.Path(__file__).parents[2] / 'experiments' / 'configs' / 'distillation.py'
SPEC = importlib.util.spec_from_file_location('config_of_arms', PATH)
CONFIG = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(CONFIG)

C = CONFIG.get_config('smoke').cifar
TRAIN = {**C.train.to_dict(), 'augment': None}
SMALL, BIG = ({**TRAIN, 'model': C.networks[name].to_dict()} for name in ('small', 'big'))
ROWS = np.arange(10)


def options(**changes):
  features = {'hint': 'hidden1', 'attention': []}
  return {**CONFIG.NONE, 'student': 'small', 'features': features, 'shrink': 1, 'members': 1,
          **changes}


KD = {'teacher': 'big', 'alpha': 0.9, 'temperature': 4.0}


@pytest.fixture(scope='module')
def weights():
  t = arms.task(BIG)
  image = jnp.zeros((1, *t.dataset.image_shape))
  return [jax.jit(t.model.init)(jax.random.key(seed), image) for seed in (1, 2)]


def loss(taught):
  """The loss and metrics of ten examples, for a student at its first weights."""
  t = taught.task
  batch = {
    'image': jnp.asarray(t.train.images[ROWS] / 255, jnp.float32),
    'label': jnp.asarray(t.train.labels[ROWS]), 'index': jnp.asarray(ROWS),
    **{name: jnp.asarray(x[ROWS]) for name, x in t.train.extras.items()},
  }
  params, state = t.model.init(jax.random.key(0), batch['image'])
  value, out = taught.objective(params, state, batch, jax.random.key(3), taught.frozen)
  (logits, _), _ = t.model.apply(params, state, batch['image'])
  return float(value), out, np.float64(logits), np.asarray(batch['label'])


def divergence(teacher, student, t=4.0):
  log_p, log_q = (scipy.special.log_softmax(np.float64(z) / t, -1) for z in (teacher, student))
  return t**2 * (np.exp(log_p) * (log_p - log_q)).sum(-1)


def test_a_kept_teacher_says_what_an_asked_one_does(weights):
  augmented = {**SMALL, 'augment': {'pad': 1, 'mode': 'constant', 'flip': False}}
  kept = arms.taught(SMALL, BIG, options(**KD), weights[:1])
  asked = arms.taught(augmented, BIG, options(**KD), weights[:1])
  assert CACHED in kept.task.train.extras and kept.frozen is None
  assert CACHED not in asked.task.train.extras and asked.frozen['teacher'] is weights[0]
  a, _, logits, labels = loss(kept)
  np.testing.assert_allclose(a, loss(asked)[0], rtol=1e-5)
  teacher = predict(arms.task(BIG).model, *weights[0], kept.task.train.images[ROWS])
  hard = -scipy.special.log_softmax(logits, -1)[ROWS, labels]
  want = 0.1 * hard + 0.9 * divergence(teacher, logits)
  np.testing.assert_allclose(a, want.mean(), rtol=1e-4)
  # Features of a teacher are not kept.
  hinted = arms.taught(SMALL, BIG, options(teacher='big', hint=1.0), weights[:1])
  assert CACHED not in hinted.task.train.extras
  value, out, *_ = loss(hinted)
  np.testing.assert_allclose(
    value, (out.metrics['loss/hard'] + out.metrics['loss/hint']).mean(), rtol=1e-5
  )


def test_an_ensemble_teaches_the_mean_of_its_members(weights):
  taught = arms.taught(SMALL, BIG, options(**KD, ensemble=True), weights)
  members = [predict(arms.task(BIG).model, *w, taught.task.train.images) for w in weights]
  np.testing.assert_allclose(
    scipy.special.softmax(np.float64(taught.task.train.extras[CACHED]), -1),
    np.mean([scipy.special.softmax(np.float64(z), -1) for z in members], 0), rtol=1e-5,
  )


def test_a_calibrated_teacher_has_the_temperature_of_the_held_out_images(weights):
  t = arms.task(SMALL)
  held = 7 * predict(arms.task(BIG).model, *weights[0], t.validation.images)
  taught = arms.taught(SMALL, BIG, options(**KD, calibrated=True), weights[:1], held)
  temperature = fit_temperature(held, t.validation.labels)
  teacher = predict(arms.task(BIG).model, *weights[0], t.train.images[ROWS])
  value, out, logits, labels = loss(taught)
  np.testing.assert_allclose(
    out.metrics['loss/soft'], divergence(teacher / temperature, logits), rtol=1e-3, atol=1e-5
  )


def test_class_means_are_of_the_training_images(weights):
  taught = arms.taught(SMALL, BIG, options(**KD, targets='class_means'), weights[:1])
  t = taught.task
  p = scipy.special.softmax(
    np.float64(predict(arms.task(BIG).model, *weights[0], t.train.images)) / 4, -1)
  _, out, logits, labels = loss(taught)
  means = np.stack([p[t.train.labels == k].mean(0) for k in range(10)])[labels]
  log_q = scipy.special.log_softmax(logits / 4, -1)
  want = 16 * (means * (np.log(means) - log_q)).sum(-1)
  np.testing.assert_allclose(out.metrics['loss/soft'], want, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize('targets', ['permuted', 'confidence'])
def test_controls_change_what_is_told(weights, targets):
  plain, control = (
    loss(arms.taught(SMALL, BIG, options(**{**KD, 'targets': x}), weights[:1]))[0]
    for x in ('teacher', targets)
  )
  assert abs(plain - control) > 1e-6


def test_weighted_unsure_and_penalised_arms(weights):
  hard = lambda logits, labels: -scipy.special.log_softmax(logits, -1)[ROWS, labels]
  weighted = arms.taught(
    SMALL, BIG, options(teacher='big', alpha=1.0, loss='weighted'), weights[:1])
  value, _, logits, labels = loss(weighted)
  told = scipy.special.softmax(np.float64(weighted.task.train.extras[CACHED][ROWS]), -1)
  w = told[ROWS, labels]
  np.testing.assert_allclose(value, (w / w.mean() * hard(logits, labels)).mean(), rtol=1e-4)
  # An untrained student is unsure of everything.
  value = loss(arms.taught(SMALL, BIG, options(**KD, below=0.999), weights[:1]))[0]
  np.testing.assert_allclose(
    value, loss(arms.taught(SMALL, BIG, options(**KD), weights[:1]))[0], rtol=1e-5)
  value, _, logits, labels = loss(arms.taught(SMALL, BIG, options(**KD, below=1e-6), weights[:1]))
  np.testing.assert_allclose(value, hard(logits, labels).mean(), rtol=1e-4)
  value, _, logits, labels = loss(arms.taught(SMALL, None, options(penalty=0.5), []))
  entropy = scipy.special.entr(scipy.special.softmax(logits, -1)).sum(-1)
  np.testing.assert_allclose(value, (hard(logits, labels) - 0.5 * entropy).mean(), rtol=1e-4)
  value, _, logits, labels = loss(arms.taught(SMALL, None, options(smoothing=0.2), []))
  np.testing.assert_allclose(
    value, cross_entropy(jnp.asarray(logits), jnp.asarray(labels), 0.2).mean(), rtol=1e-4)


def test_a_loss_of_the_order_goes_with_any_arm(weights):
  for above, o in ((None, options(ranking=1.0)), (BIG, options(**KD, ranking=1.0)),
                   (BIG, options(teacher='big', hint=1.0, ranking=1.0))):
    taught = arms.taught(SMALL, above, o, weights[: 1 if above else 0])
    _, out, *_ = loss(taught)
    np.testing.assert_array_equal(np.flatnonzero(out.model_state[HISTORY]['seen']), ROWS)
    assert out.model_state[HISTORY]['seen'].shape == (len(taught.task.train),)


def test_the_opinion_of_several_is_their_mean():
  z = np.random.default_rng(0).normal(size=(2, 6, 3))
  p = scipy.special.softmax(z, -1).mean(0)
  np.testing.assert_allclose(scipy.special.softmax(mixture(z), -1), p)


def test_a_plan_counts_the_teacher_where_it_is_asked():
  augmented = {**SMALL, 'augment': {'pad': 1}}
  alone, kept = arms.plan(SMALL, None, options()), arms.plan(SMALL, BIG, options(**KD))
  asked = arms.plan(augmented, BIG, options(**KD))
  together = arms.plan(augmented, BIG, options(**KD, ensemble=True, members=2))
  teacher = arms.plan(BIG, None, options())['MACs']
  images = alone['work'] / (3 * alone['MACs'])
  assert kept == alone
  assert asked['work'] - alone['work'] == pytest.approx(images * teacher)
  assert together['work'] - alone['work'] == pytest.approx(2 * images * teacher)


def test_smaller_images_are_the_same_task_every_time():
  assert arms.task(SMALL, 2) is arms.task(dict(SMALL), 2)
  whole, half = arms.task(SMALL), arms.task(SMALL, 2)
  assert half.dataset.image_shape[0] == whole.dataset.image_shape[0] // 2
  assert half.model is whole.model
