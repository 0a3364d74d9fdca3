"""Distillation losses against SciPy in float64, and the values worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from jaxdl.losses import confidence_penalty
from jaxdl.losses.distillation import (
  attention_transfer,
  confidence_only,
  distillation,
  dkd,
  hint,
  permuted,
  teacher_free,
  virtual_teacher,
)

RNG = np.random.default_rng(0)
TEACHER, STUDENT = (jnp.asarray(3 * RNG.normal(size=(6, 5)), jnp.float32) for _ in range(2))
LABELS = jnp.array([0, 1, 2, 3, 4, 0])
MAPS = [jnp.asarray(RNG.normal(size=(6, s, s, c)), jnp.float32) for s, c in ((4, 3), (2, 5))]
WIDER = [jnp.asarray(RNG.normal(size=(6, s, s, c)), jnp.float32) for s, c in ((4, 7), (2, 2))]


@pytest.mark.parametrize('t, want', [(1, .508566), (2, .575074), (4, .593009), (20, .588116)])
def test_values_worked_out_by_hand(t, want):
  teacher, student = jnp.array([[2.0, 1, -1]]), jnp.array([[1.0, 2, 0.5]])
  np.testing.assert_allclose(distillation(student, teacher, t), [want], rtol=1e-4)


def test_gradient_at_high_temperature_matches_logits():
  teacher, student = jnp.array([[2.0, 1, -1]]), jnp.array([[1.0, 2, 0.5]])
  gradient = lambda t: jax.grad(lambda z: distillation(z, teacher, t).sum())(student)[0]
  np.testing.assert_allclose(gradient(20.0), [-.504417, .181270, .323147], atol=2e-5)
  centred = lambda z: z - z.mean(-1, keepdims=True)
  limit = (centred(student) - centred(teacher))[0] / 3
  np.testing.assert_allclose(limit, [-.5, .166667, .333333], atol=1e-6)
  errors = [float(jnp.abs(gradient(t) - limit).max()) for t in (5.0, 20.0, 80.0)]
  assert errors[0] > errors[1] > errors[2] and errors[2] < 5e-3


@pytest.mark.parametrize('t', [1.0, 2.5, 20.0])
def test_equals_scipy(t):
  p, q = (scipy.special.softmax(np.asarray(z, np.float64) / t, -1) for z in (TEACHER, STUDENT))
  want = t**2 * scipy.special.rel_entr(p, q).sum(-1)
  np.testing.assert_allclose(distillation(STUDENT, TEACHER, t), want, rtol=1e-4)


@pytest.mark.parametrize('t', [1.0, 4.0])
def test_dkd_with_the_weights_that_make_it_distillation(t):
  own = jax.nn.softmax(TEACHER / t)[jnp.arange(6), LABELS]
  parts = [dkd(STUDENT, TEACHER, LABELS, t, alpha, beta) for alpha, beta in ((1, 0), (0, 1))]
  want = distillation(STUDENT, TEACHER, t)
  np.testing.assert_allclose(parts[0] + (1 - own) * parts[1], want, rtol=2e-5)
  both = dkd(STUDENT, TEACHER, LABELS, t, 1.5, 8)
  np.testing.assert_allclose(both, 1.5 * parts[0] + 8 * parts[1], rtol=1e-5)


def test_dkd_against_probabilities_in_float64():
  t, rows = 4.0, np.arange(6)
  p, q = (scipy.special.softmax(np.asarray(z, np.float64) / t, -1) for z in (TEACHER, STUDENT))
  kl = lambda a, b: scipy.special.rel_entr(a, b).sum(-1)
  own = lambda x: np.stack([x[rows, LABELS], 1 - x[rows, LABELS]], -1)
  keep = np.ones((6, 5), bool)
  keep[rows, LABELS] = False
  rest = lambda x: x[keep].reshape(6, 4) / x[keep].reshape(6, 4).sum(-1, keepdims=True)
  want = t**2 * (kl(own(p), own(q)) + 8 * kl(rest(p), rest(q)))
  np.testing.assert_allclose(dkd(STUDENT, TEACHER, LABELS), want, rtol=2e-5)


@pytest.mark.parametrize('k, soften, own, other', [
  (10, 'probabilities', .1045, .0995), (10, 'logits', .1350, .0961),
  (100, 'probabilities', .0105, .00999), (100, 'logits', .0157, .00994),
])
def test_the_virtual_teacher(k, soften, own, other):
  p = virtual_teacher(jnp.array([2]), k)
  np.testing.assert_allclose(p.sum(), 1, rtol=1e-6)
  np.testing.assert_allclose(p[0, :3], [.01 / (k - 1), .01 / (k - 1), .99], rtol=1e-5)
  # Where the student says what the softened teacher does, the loss is zero: this reads the target.
  target = jnp.where(jnp.arange(k) == 2, own, other)
  gap = teacher_free(jnp.log(target)[None], jnp.array([2]), soften=soften)
  assert abs(float(gap[0])) < 1e-4
  z = jnp.asarray(RNG.normal(size=(1, k)), jnp.float32)
  soft = scipy.special.softmax(np.asarray(p if soften == 'probabilities' else np.log(p)) / 20, -1)
  want = scipy.special.rel_entr(soft, scipy.special.softmax(np.asarray(z, np.float64), -1)).sum(-1)
  np.testing.assert_allclose(teacher_free(z, jnp.array([2]), soften=soften), want, rtol=1e-3)


def test_attention_transfer_equals_numpy():
  def at(x):
    x = (np.asarray(x, np.float64) ** 2).mean(-1).reshape(len(x), -1)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)

  pairs = zip(MAPS, WIDER, strict=True)
  want = sum(((at(a) - at(b)) ** 2).mean(-1) for a, b in pairs)
  np.testing.assert_allclose(attention_transfer(MAPS, WIDER), want, rtol=1e-4)
  np.testing.assert_allclose(attention_transfer(MAPS, [3 * x for x in MAPS]), 0, atol=1e-12)


def test_hint_is_the_mean_square():
  want = ((np.asarray(MAPS[0]) - np.asarray(MAPS[0][::-1])) ** 2).mean((1, 2, 3))
  np.testing.assert_allclose(hint(MAPS[0], MAPS[0][::-1]), want, rtol=1e-5)


def test_permuted_keeps_the_label_and_the_set_of_logits():
  keys = jax.random.split(jax.random.key(1), 6)
  shuffle = jax.jit(permuted)
  moved = shuffle(TEACHER, LABELS, keys)
  rows = jnp.arange(6)
  np.testing.assert_array_equal(moved[rows, LABELS], TEACHER[rows, LABELS])
  np.testing.assert_array_equal(jnp.sort(moved), jnp.sort(TEACHER))
  assert (moved != TEACHER).any(-1).sum() >= 5
  others = shuffle(TEACHER.at[3:].add(1.0), LABELS, keys)
  np.testing.assert_array_equal(moved[:3], others[:3])
  # Every order of three wrong classes comes as often.
  keys = jax.random.split(jax.random.key(0), 2400)
  many = shuffle(jnp.tile(jnp.arange(4.0), (2400, 1)), jnp.full(2400, 1), keys)
  _, counts = np.unique(np.asarray(many), axis=0, return_counts=True)
  assert len(counts) == 6 and counts.min() > 320 and counts.max() < 480


def test_confidence_only_keeps_the_probability_of_the_label():
  p = jax.nn.softmax(confidence_only(TEACHER, LABELS, 4.0) / 4)
  rows = jnp.arange(6)
  np.testing.assert_allclose(
    p[rows, LABELS], jax.nn.softmax(TEACHER / 4)[rows, LABELS], rtol=1e-5
  )
  wrong = np.asarray(p)[~np.eye(5, dtype=bool)[LABELS]].reshape(6, 4)
  np.testing.assert_allclose(wrong, np.repeat(wrong[:, :1], 4, 1), rtol=1e-5)


def test_a_penalty_on_confidence_is_less_entropy():
  p = scipy.special.softmax(np.asarray(STUDENT, np.float64), axis=-1)
  entropy = scipy.special.entr(p).sum(-1)
  want = -np.log(p[np.arange(6), LABELS]) - 0.3 * entropy
  np.testing.assert_allclose(confidence_penalty(STUDENT, LABELS, 0.3), want, rtol=1e-4)
  sure = jnp.array([[90.0, 0.0]])
  np.testing.assert_allclose(confidence_penalty(sure, jnp.array([0])), 0, atol=1e-6)


EVERY = {
  'confidence_penalty': lambda s, t: confidence_penalty(s, LABELS[: len(s)]),
  'distillation': lambda s, t: distillation(s, t, 4.0),
  'dkd': lambda s, t: dkd(s, t, LABELS[: len(s)]),
  'teacher_free': lambda s, t: teacher_free(s, LABELS[: len(s)]),
  'hint': hint,
  'attention': lambda s, t: attention_transfer([s[:, :, None, None] ** 2], [t[:, :, None, None]]),
}


@pytest.mark.parametrize('name', EVERY)
def test_every_loss(name):
  f, jitted = EVERY[name], jax.jit(EVERY[name])
  whole = jitted(STUDENT, TEACHER)
  assert whole.shape == (6,) and whole.dtype == jnp.float32
  np.testing.assert_allclose(f(STUDENT, TEACHER), whole, rtol=1e-5)
  np.testing.assert_allclose(jitted(STUDENT[:2], TEACHER[:2]), whole[:2], rtol=1e-5)  # no mates
  gradients = jax.jit(jax.value_and_grad(lambda s, t: EVERY[name](s, t).sum(), (0, 1)))
  assert jitted(STUDENT.astype(jnp.bfloat16), TEACHER.astype(jnp.bfloat16)).dtype == jnp.float32
  for student in (STUDENT, jnp.zeros((6, 5)), 1e4 * jnp.eye(6, 5)):
    value, (to_student, to_teacher) = gradients(student, TEACHER)
    assert np.isfinite(value) and np.isfinite(to_student).all()
    np.testing.assert_array_equal(to_teacher, 0)


def test_the_losses_are_zero_for_a_student_that_says_the_same():
  for f in (EVERY['distillation'], EVERY['dkd'], hint):
    np.testing.assert_allclose(f(TEACHER, TEACHER), 0, atol=2e-5)


def test_what_does_not_fit_is_refused():
  with pytest.raises(ValueError, match='must know the same classes'):
    distillation(STUDENT, TEACHER[:, :4])
  with pytest.raises(ValueError, match='must know the same classes'):
    dkd(STUDENT, TEACHER[:, :4], LABELS)
  with pytest.raises(ValueError, match='none that are mixed'):
    dkd(STUDENT, TEACHER, jax.nn.one_hot(LABELS, 5))
  with pytest.raises(ValueError, match='soften must be one of'):
    teacher_free(STUDENT, LABELS, soften='both')
  with pytest.raises(ValueError, match='give the student a regressor'):
    hint(MAPS[0], WIDER[0])
  with pytest.raises(ValueError, match='agree in all but C'):
    attention_transfer(MAPS[:1], WIDER[1:])
  with pytest.raises(ValueError, match='at least one'):
    attention_transfer([], [])
