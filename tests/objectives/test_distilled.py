"""Objectives with a teacher against the formula written out, and a teacher that nothing moves."""

import sys
from pathlib import Path

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from jaxdl import models
from jaxdl.core import bind, init_state
from jaxdl.losses import attention_transfer, cross_entropy, dkd, hint
from jaxdl.models.regressor import Regressed
from jaxdl.objectives import distilled
from jaxdl.objectives.distilled import (
  CACHED,
  cached,
  calibrate,
  changed,
  check_teacher,
  class_means,
  forget_others,
  network,
  permute_others,
  soft_targets,
  teacher_logits,
  tell_class_means,
  weighted_labels,
  where_unsure,
  with_logits,
)
from jaxdl.optim import build
from jaxdl.train.step import grad_step

sys.path.append(str(Path(__file__).parent.parent / 'train'))
import tiny  # noqa: E402

TEACHER = bind(tiny.Net(width=6, dropout=0.3), mean=0.5, std=0.25)
STUDENT = bind(tiny.Net(width=4), mean=0.5, std=0.25)
IMAGE = jnp.zeros((1, 4, 4, 1))
KEY = jax.random.key(0)


def batch_of(n=12, seed=0):
  rng = np.random.default_rng(seed)
  return {
    'image': jnp.asarray(rng.random((n, 4, 4, 1)), jnp.float32),
    'label': jnp.asarray(rng.integers(0, 3, n), jnp.int32),
    'index': jnp.asarray(rng.permutation(100)[:n], jnp.int32),
  }


@pytest.fixture(scope='module')
def taught():
  """(student's variables, frozen with a teacher whose batch statistics are not the first ones)."""
  params, state = TEACHER.init(jax.random.key(1), IMAGE)
  _, state = TEACHER.apply(params, state, batch_of(seed=5)['image'], train=True, key=KEY)
  return STUDENT.init(jax.random.key(2), IMAGE), {'teacher': (params, state)}


def float64(logits):
  return np.asarray(logits, np.float64)


@pytest.mark.parametrize('alpha, t', [(0.0, 1.0), (0.7, 4.0), (1.0, 20.0)])
def test_the_loss_is_the_formula(taught, alpha, t):
  (params, state), frozen = taught
  batch = batch_of()
  loss, out = jax.jit(distilled(STUDENT.apply, network(TEACHER.apply), alpha, t))(
    params, state, batch, KEY, frozen
  )
  (z_s, _), _ = STUDENT.apply(params, state, batch['image'], train=True, key=KEY)
  (z_t, _), _ = TEACHER.apply(*frozen['teacher'], batch['image'], train=False)
  log_p, log_q = (scipy.special.log_softmax(float64(z) / t, -1) for z in (z_t, z_s))
  soft = t**2 * (np.exp(log_p) * (log_p - log_q)).sum(-1)
  hard = -scipy.special.log_softmax(float64(z_s), -1)[np.arange(12), batch['label']]
  np.testing.assert_allclose(loss, np.mean((1 - alpha) * hard + alpha * soft), rtol=1e-4)
  np.testing.assert_allclose(out.metrics['loss/hard'], hard, rtol=1e-4)
  np.testing.assert_allclose(out.metrics['loss/soft'], soft, rtol=2e-3, atol=1e-4)
  np.testing.assert_array_equal(out.metrics['agreement'], z_s.argmax(-1) == z_t.argmax(-1))


def test_cached_logits_are_the_same_as_asking_at_every_step(taught):
  (params, state), frozen = taught
  split = tiny.split(40)
  asked = teacher_logits(TEACHER, *frozen['teacher'], split)
  rows = np.array([3, 0, 17, 39])
  batch = {
    'image': jnp.asarray(split.images[rows] / 255, jnp.float32),
    'label': jnp.asarray(split.labels[rows]), 'index': jnp.asarray(rows),
    CACHED: jnp.asarray(asked.extras[CACHED][rows]),
  }
  losses = [
    distilled(STUDENT.apply, teacher, 0.7, 4.0)(params, state, batch, KEY, frozen)[0]
    for teacher in (network(TEACHER.apply), cached())
  ]
  np.testing.assert_allclose(*losses, rtol=1e-5)


@pytest.mark.parametrize('perturbation', [None, {'name': 'sam', 'rho': 0.1}])
def test_the_teacher_is_unmoved_and_the_student_moves(taught, perturbation):
  (_, _), frozen = taught
  before = jax.tree.map(np.array, frozen)
  tx = build({'lr': 0.1, 'momentum': 0.9, 'perturbation': perturbation}, 10)
  state = init_state(STUDENT.init, tx, jax.random.key(3), IMAGE)
  first = jax.tree.map(np.array, state.params)
  step = jax.jit(
    grad_step(distilled(STUDENT.apply, network(TEACHER.apply), 1.0, 4.0), tx), donate_argnums=0
  )
  for seed in range(3):
    state, metrics = step(state, batch_of(seed=seed), frozen)
  jax.tree.map(np.testing.assert_array_equal, before, jax.tree.map(np.array, frozen))
  moved = jax.tree.map(lambda a, b: not np.array_equal(a, b), first, state.params)
  assert all(jax.tree.leaves(moved)) and step._cache_size() == 1
  assert np.isfinite(jax.device_get(jax.tree.leaves(metrics))).all()


def test_no_gradient_reaches_the_teacher(taught):
  (params, state), frozen = taught
  objective = distilled(
    STUDENT.apply, network(TEACHER.apply), 0.9, 4.0,
    matches={'pooled': (1.0, lambda s, t: hint(s['pooled'], t['pooled'][:, :4]))},
  )
  loss = lambda frozen: objective(params, state, batch_of(), KEY, frozen)[0]
  weights, statistics = jax.grad(loss)({'teacher': frozen['teacher']})['teacher']
  assert all((np.asarray(g) == 0).all() for g in jax.tree.leaves((weights, statistics)))


def test_an_example_does_not_depend_on_its_batch_mates(taught):
  """The teacher is in eval mode: what it says of an image is the same in any batch."""
  (_, _), frozen = taught
  whole, part = batch_of(), {k: v[:2] for k, v in batch_of().items()}
  for change in (lambda z, b: z, permute_others, forget_others(4.0)):
    teacher = changed(network(TEACHER.apply), change)
    (a, _), (b, _) = (teacher(x, frozen) for x in (whole, part))
    np.testing.assert_allclose(a[:2], b, rtol=1e-5)


def test_controls_keep_the_probability_of_the_label(taught):
  (_, _), frozen = taught
  batch, rows = batch_of(), np.arange(12)
  told, _ = network(TEACHER.apply)(batch, frozen)
  p = jax.nn.softmax(told / 4)[rows, batch['label']]
  for change in (permute_others, forget_others(4.0)):
    other, _ = changed(network(TEACHER.apply), change)(batch, frozen)
    np.testing.assert_allclose(jax.nn.softmax(other / 4)[rows, batch['label']], p, rtol=1e-5)
    assert not np.allclose(other, told)


def test_dkd_soft_labels_and_smoothing_take_their_slots(taught):
  (params, state), frozen = taught
  batch = batch_of()
  soft = lambda s, t, labels, temperature: dkd(s, t, labels, temperature)
  hard = lambda z, y: cross_entropy(z, y, 0.1)
  loss, _ = distilled(STUDENT.apply, network(TEACHER.apply), 0.5, 4.0, soft, hard)(
    params, state, batch, KEY, frozen
  )
  (z_s, _), _ = STUDENT.apply(params, state, batch['image'], train=True, key=KEY)
  z_t, _ = network(TEACHER.apply)(batch, frozen)
  want = 0.5 * hard(z_s, batch['label']) + 0.5 * dkd(z_s, z_t, batch['label'])
  np.testing.assert_allclose(loss, want.mean(), rtol=1e-5)
  mixed = {**batch, 'label': jax.nn.softmax(jnp.arange(36.0).reshape(12, 3) % 5)}
  loss, _ = distilled(STUDENT.apply, network(TEACHER.apply), 0.5, 4.0)(
    params, state, mixed, KEY, frozen
  )
  assert np.isfinite(loss)


def some_logits(seed=0, n=12):
  rng = np.random.default_rng(seed)
  teacher, student = (jnp.asarray(3 * rng.normal(size=(n, 3)), jnp.float32) for _ in range(2))
  return student, teacher, jnp.asarray(np.arange(n) % 3)


def test_weighted_labels_are_cross_entropies_weighted_by_the_teacher():
  student, teacher, labels = some_logits()
  p = scipy.special.softmax(float64(teacher) / 2, -1)[np.arange(12), labels]
  hard = -scipy.special.log_softmax(float64(student), -1)[np.arange(12), labels]
  np.testing.assert_allclose(
    weighted_labels(student, teacher, labels, 2.0), p / p.mean() * hard, rtol=1e-4
  )
  # Nothing else of what the teacher says counts: its wrong classes may change places.
  rows, (one, two) = jnp.arange(12), ((labels + 1) % 3, (labels + 2) % 3)
  other = teacher.at[rows, one].set(teacher[rows, two]).at[rows, two].set(teacher[rows, one])
  np.testing.assert_allclose(
    weighted_labels(student, other, labels, 2.0), weighted_labels(student, teacher, labels, 2.0),
    rtol=1e-5,
  )


def test_where_a_student_is_sure_the_label_alone_counts():
  student, teacher, labels = some_logits()
  p = scipy.special.softmax(float64(student), -1)[np.arange(12), labels]
  assert 0 < (p < 0.5).sum() < 12
  soft, hard = soft_targets(student, teacher, labels, 4.0), cross_entropy(student, labels)
  np.testing.assert_array_equal(
    where_unsure(soft_targets, 0.5)(student, teacher, labels, 4.0), np.where(p < 0.5, soft, hard)
  )
  with pytest.raises(ValueError, match='below must be a number, above 0'):
    where_unsure(soft_targets, 0.0)


def test_class_means_are_the_mean_probabilities_of_a_class():
  _, teacher, labels = some_logits()
  batch = {'label': labels}
  table = class_means(teacher, labels, 4.0)
  told = tell_class_means(table)(teacher, batch)
  p = scipy.special.softmax(float64(teacher) / 4, -1)
  want = np.stack([p[labels == k].mean(0) for k in range(3)])[labels]
  np.testing.assert_allclose(jax.nn.softmax(told / 4), want, rtol=1e-5)
  with pytest.raises(ValueError, match='class 2 has no example'):
    class_means(teacher[:2], labels[:2], 4.0)


def test_a_calibrated_teacher_is_one_at_a_product_of_temperatures():
  student, teacher, labels = some_logits()
  told = calibrate(2.5)(teacher, {})
  np.testing.assert_allclose(
    soft_targets(student, told, labels, 4.0), soft_targets(student, teacher / 2.5, labels, 4.0),
    rtol=1e-6,
  )
  np.testing.assert_allclose(
    jax.nn.softmax(told / 4), scipy.special.softmax(float64(teacher) / 10, -1), rtol=1e-5
  )


class Maps(nn.Module):
  width: int

  @nn.compact
  def __call__(self, x, train=False):
    one = nn.relu(nn.Conv(self.width, (3, 3), name='one')(x))
    norm = nn.BatchNorm(use_running_average=not train, name='norm')
    two = nn.relu(norm(nn.Conv(2 * self.width, (3, 3), 2, name='two')(one)))
    return nn.Dense(3, name='head')(two.mean((1, 2))), {'stage1': one, 'stage2': two}


def test_hints_and_attention_between_networks_of_two_widths():
  small, teacher = Maps(2), bind(Maps(4))
  student = bind(Regressed(small, {'stage2': 8}))
  x = jnp.asarray(np.random.default_rng(0).random((4, 8, 8, 1)), jnp.float32)
  batch = {'image': x, 'label': jnp.array([0, 1, 2, 0])}
  frozen = {'teacher': jax.jit(teacher.init)(jax.random.key(0), x)}
  params, state = jax.jit(student.init)(jax.random.key(1), x)
  stages = ('stage1', 'stage2')
  objective = distilled(
    student.apply, network(teacher.apply), 0.0, matches={
      'hint': (10.0, lambda s, t: hint(s['stage2_regressed'], t['stage2'])),
      'attention': (
        500.0, lambda s, t: attention_transfer([s[k] for k in stages], [t[k] for k in stages])
      ),
    },
  )
  (loss, out), gradient = jax.jit(jax.value_and_grad(objective, has_aux=True))(
    params, state, batch, KEY, frozen
  )
  m = out.metrics
  want = m['loss/hard'] + 10 * m['loss/hint'] + 500 * m['loss/attention']
  np.testing.assert_allclose(loss, want.mean(), rtol=1e-5)
  assert (m['loss/hint'] > 0).all() and (m['loss/attention'] > 0).all()
  chex.assert_tree_all_finite(gradient)
  assert np.abs(gradient['stage2_regressor']['kernel']).max() > 0
  # The regressor is no part of the network: without it the logits are the same.
  (logits, _), _ = student.apply(params, state, x)
  (bare, _), _ = bind(small).apply(
    params['network'], {k: v['network'] for k, v in state.items()}, x
  )
  np.testing.assert_allclose(logits, bare, rtol=1e-6)


def test_a_teacher_of_other_classes_is_refused_before_training():
  other = bind(models.create('mlp', 5, hidden=(4,)))
  with pytest.raises(ValueError, match='The teacher tells 5 classes apart and the student 3'):
    check_teacher(other, STUDENT, (4, 4, 1))
  check_teacher(TEACHER, STUDENT, (4, 4, 1))


def test_what_cannot_work_is_one_sentence(taught):
  (params, state), frozen = taught
  split = tiny.split(10)
  with pytest.raises(ValueError, match='set augment to None, or ask the teacher at every step'):
    teacher_logits(TEACHER, *frozen['teacher'], split, augment={'pad': 2})
  with pytest.raises(ValueError, match='3 rows of teacher logits for 10 examples'):
    with_logits(split, np.zeros((3, 3), np.float32))
  with pytest.raises(ValueError, match='has no .teacher_logits.'):
    distilled(STUDENT.apply, cached(), 0.5)(params, state, batch_of(), KEY, None)
  for arguments, what in (((1.5, 1.0), 'alpha'), ((0.5, 0.0), 'temperature')):
    with pytest.raises(ValueError, match=f'{what} must be a number'):
      distilled(STUDENT.apply, cached(), *arguments)
  with pytest.raises(ValueError, match="has no feature 'stage9'"):
    bind(Regressed(tiny.Net(), {'stage9': 3})).init(KEY, IMAGE)
