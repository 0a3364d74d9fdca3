"""Auto-PGD against a second implementation in NumPy, closed forms, and the attacks' contract."""

import functools
import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl.attacks.apgd import apgd, search
from jaxdl.attacks.apgd_schedule import checkpoints
from jaxdl.losses.classification import cross_entropy
from jaxdl.losses.margin import dlr

KEY = jax.random.key(5)
SHAPE = (4, 4, 2)
SIZE = math.prod(SHAPE)
NORMS = {'linf': 0.05, 'l2': 0.4, 'l1': 2.0}
RNG = np.random.default_rng(0)
X0 = jnp.asarray(RNG.random((6, *SHAPE)), jnp.float32)
GREY = jnp.full((6, *SHAPE), 0.5)
LABELS = jnp.asarray(RNG.integers(0, 5, 6), jnp.int32)
W1 = RNG.normal(size=(SIZE, 16)).astype(np.float32)
W2 = RNG.normal(size=(16, 5)).astype(np.float32)
LOSSES = {'ce': {}, 'dlr': {'loss': 'dlr'}, 'targeted': {'targeted': True, 'target_classes': 2}}


def network(x):
  return jnp.tanh(x.reshape(len(x), -1) @ W1 * 0.3) @ W2


def length(norm, d):
  flat = np.asarray(d, np.float64).reshape(len(d), -1)
  return np.linalg.norm(flat, ord={'linf': np.inf, 'l2': 2, 'l1': 1}[norm], axis=1)


# A second implementation, for one example, in float64, written from the papers.


FREQUENCY = RNG.uniform(2, 5, SIZE)  # higher ones make rounding errors grow until they matter
PHASE = RNG.uniform(0, 6, SIZE)


def wavy(x):
  """A loss with many maxima, of one flat example: value and gradient."""
  u = FREQUENCY * x + PHASE
  return np.sum(np.sin(u)) + np.sin(np.sum(u)), FREQUENCY * (np.cos(u) + np.cos(np.sum(u)))


def slow_project(norm, x, x0, eps):
  d = x - x0
  if norm == 'linf':
    return np.clip(x0 + np.clip(d, -eps, eps), 0, 1)
  if norm == 'l2':
    return np.clip(x0 + d * min(1, eps / max(np.linalg.norm(d), 1e-300)), 0, 1)
  room = np.where(d > 0, 1 - x0, x0)
  shrunk = lambda t: np.clip(np.abs(d) - t, 0, room)
  if shrunk(0).sum() <= eps:
    return x0 + np.sign(d) * shrunk(0)
  low, high = 0.0, np.abs(d).max()
  for _ in range(200):
    middle = (low + high) / 2
    low, high = (low, middle) if shrunk(middle).sum() <= eps else (middle, high)
  return x0 + np.sign(d) * shrunk(high)


def slow_checkpoints(steps):
  p = [Fraction(0), Fraction(22, 100)]
  while p[-1] <= 1:
    p.append(p[-1] + max(p[-1] - p[-2] - Fraction(3, 100), Fraction(6, 100)))
  return [math.ceil(q * steps) for q in p[1:-1]]


def slow_apgd(norm, x0, x, eps, steps, rho=0.75):
  """Algorithm 1 of Croce and Hein 2020: the step sizes, the best point."""
  x, eta, sizes = slow_project(norm, x, x0, eps), 2 * eps, []
  before, f = x, [wavy(x)[0]]
  best, best_f, then = x, f[0], f[0]
  last, halved = 0, True
  for k in range(steps):
    g = wavy(x)[1]
    direction = np.sign(g) if norm == 'linf' else g / np.linalg.norm(g)
    z = slow_project(norm, x + eta * direction, x0, eps)
    a = 0.75 if k else 1.0
    x, before = slow_project(norm, x + a * (z - x) + (1 - a) * (x - before), x0, eps), x
    sizes.append(eta)
    f.append(wavy(x)[0])
    if f[-1] > best_f:
      best, best_f = x, f[-1]
    if k + 1 in slow_checkpoints(steps):
      rises = sum(f[i + 1] > f[i] for i in range(last, k + 1))
      condition1 = rises <= rho * (k + 1 - last)
      condition2 = not halved and then == best_f
      halved = condition1 or condition2
      if halved:
        eta, x = eta / 2, best
      then, last = best_f, k + 1
  return sizes, best


def slow_apgd_l1(x0, x, eps, steps):
  """Croce and Hein 2021, algorithm 1, one ball: the step sizes, the best point."""
  x = slow_project('l1', x, x0, eps)
  moved = lambda x: np.sum(np.abs(x - x0) > 1e-12)
  eta, sizes, then = eps, [], moved(x)
  k = then / (1.5 * x0.size)
  every = max(int(0.04 * steps), 1)
  best, best_f = x, wavy(x)[0]
  for i in range(steps):
    g = wavy(x)[1]
    threshold = np.sort(np.abs(g))[int(np.clip((1 - k) * x0.size, 0, x0.size - 1))]
    s = np.sign(g) * (np.abs(g) >= threshold)
    x = slow_project('l1', x + eta * s / np.abs(s).sum(), x0, eps)
    sizes.append(eta)
    if wavy(x)[0] > best_f:
      best, best_f = x, wavy(x)[0]
    if (i + 1) % every == 0:
      now = moved(best)
      if now / then < 0.95:
        eta, x = eps, best
      else:
        eta = max(eta / 1.5, eps / 10)
      then, k = now, now / (1.5 * x0.size)
  return sizes, best


def fast_wavy(x, keys):
  value = lambda x: jnp.sum(jnp.sin(u(x)), 1) + jnp.sin(jnp.sum(u(x), 1))
  u = lambda x: x.reshape(len(x), -1) * FREQUENCY + PHASE
  return value(x), jnp.zeros(len(x), bool), jax.grad(lambda x: value(x).sum())(x)


@pytest.fixture
def float64():
  with jax.enable_x64(True):
    yield


@pytest.mark.parametrize('norm', NORMS)
def test_step_sizes_and_result_equal_a_second_implementation(norm, float64):
  eps, steps, x0 = 2 * NORMS[norm], 50, np.asarray(X0, np.float64)
  keys = jax.random.split(KEY, len(x0))
  out = jax.jit(lambda x: search(fast_wavy, x, keys, eps, steps, norm, 0.75))(x0)
  draw = jax.random.uniform if norm == 'linf' else jax.random.normal
  bounds = (-1, 1) if norm == 'linf' else ()
  for i, start in enumerate(x0):
    noise = np.asarray(draw(keys[i], SHAPE, jnp.float64, *bounds)).ravel()
    start = start.ravel()
    if norm == 'l1':
      sizes, best = slow_apgd_l1(start, start + noise, 3 * eps, 15)
      more, best = slow_apgd_l1(start, best, 2 * eps, 15)
      last, best = slow_apgd_l1(start, best, eps, 20)
      sizes = sizes + more + last
    else:
      at = start + eps * noise / length(norm, noise[None])[0]
      sizes, best = slow_apgd(norm, start, at, eps, steps)
    np.testing.assert_allclose(out.step_sizes[:, i], sizes, rtol=1e-12)
    np.testing.assert_allclose(np.ravel(out.best.x[i]), best, atol=1e-5)  # rounding errors grow
  ratio = np.asarray(out.step_sizes)[-1] / np.asarray(out.step_sizes)[0]
  assert len(set(ratio)) > 1 and (ratio < 1).all()  # they do adapt, each example for itself


@pytest.mark.parametrize('steps', [1, 2, 7, 20, 50, 100, 1000])
def test_checkpoints_are_those_of_the_paper(steps):
  assert checkpoints(steps) == sorted(set(slow_checkpoints(steps)))
  if steps == 100:
    assert checkpoints(steps) == [22, 41, 57, 70, 80, 87, 93, 99]


@pytest.mark.parametrize('norm', NORMS)
def test_linear_classifier_of_two_classes_has_a_closed_form(norm):
  w = RNG.normal(size=SIZE)
  w[3] = 9.0
  classify = lambda x: jnp.stack([x.reshape(len(x), -1) @ jnp.float32(w), jnp.zeros(len(x))], 1)
  label = jnp.ones(6, jnp.int32)  # to get away from: the score w.x is to rise
  eps = 0.3 if norm == 'l1' else NORMS[norm]
  x = jax.jit(lambda x: apgd(eps, 100, norm)(classify, x, label, KEY))(GREY)
  best = {'linf': np.sign(w), 'l2': w / np.linalg.norm(w), 'l1': np.arange(SIZE) == 3}[norm]
  want = np.broadcast_to((0.5 + eps * best).reshape(SHAPE), x.shape)
  gain = lambda x: (np.asarray(x, np.float64).reshape(6, -1) - 0.5) @ w
  if norm == 'l1':  # steps of equal parts: it stops short of putting everything on one pixel
    assert (gain(x) > 0.5 * gain(want)).all() and (gain(x) <= gain(want)).all()
  else:
    np.testing.assert_allclose(gain(x), gain(want), rtol=1e-5)


@pytest.mark.parametrize('norm', NORMS)
@pytest.mark.parametrize('options', LOSSES.values(), ids=LOSSES)
def test_stays_in_ball_and_box_and_never_lowers_the_loss(norm, options):
  eps = NORMS[norm]
  attack = jax.jit(lambda x: apgd(eps, 12, norm, **options)(network, x, LABELS, KEY))
  x = attack(X0)
  assert x.min() >= 0 and x.max() <= 1
  assert (length(norm, x - X0) <= eps * (1 + 1e-6) + 1e-6).all()
  assert length(norm, x - X0).max() > 0.2 * eps
  fooled = np.asarray(network(x).argmax(-1) != LABELS)
  clean = np.asarray(network(X0).argmax(-1) != LABELS)
  assert (fooled >= clean).all()
  if not options.get('targeted'):
    loss = {'ce': cross_entropy, 'dlr': dlr}[options.get('loss', 'ce')]
    same = fooled == clean
    rose = np.asarray(loss(network(x), LABELS) >= loss(network(X0), LABELS))
    assert same.any() and rose[same].all()


@pytest.mark.parametrize('norm', NORMS)
@pytest.mark.parametrize('options', LOSSES.values(), ids=LOSSES)
def test_eps_zero_is_the_identity_and_an_eps_for_each_example_holds(norm, options):
  attack = jax.jit(lambda e: apgd(e, 6, norm, **options)(network, X0, LABELS, KEY))
  np.testing.assert_array_equal(attack(jnp.zeros(6)), X0)
  each = jnp.linspace(0, NORMS[norm], 6)
  x = attack(each)
  assert (length(norm, x - X0) <= np.asarray(each) * (1 + 1e-6) + 1e-6).all()
  np.testing.assert_array_equal(x[0], X0[0])


@pytest.mark.parametrize('norm', NORMS)
@pytest.mark.parametrize('early_stop', [False, True])
def test_batch_mates_do_not_matter(norm, early_stop):
  w = jnp.asarray(RNG.integers(-8, 8, (SIZE, 5)) / 8, jnp.float32)
  classify = lambda x: jnp.sum(x.reshape(len(x), SIZE, 1) * w, axis=1)
  keys = jax.random.split(KEY, 6)
  attack = apgd(NORMS[norm], 10, norm, restarts=2, early_stop=early_stop)
  attack = jax.jit(functools.partial(attack, classify))
  together = attack(X0, LABELS, keys)
  for i in (0, 4):
    rows = np.full(6, i)
    alone = attack(X0[rows], LABELS[rows], keys[rows])
    np.testing.assert_allclose(alone[0], together[i], atol=1e-6)


@functools.cache
def scaled(norm, options):
  attack = apgd(NORMS[norm], 5, norm, **dict(options))
  return jax.jit(lambda scale: attack(lambda x: network(x) * scale, X0, LABELS, KEY))


@pytest.mark.parametrize('scale', [0.0, 1e-30, 1e4])
@pytest.mark.parametrize('norm', NORMS)
def test_tiny_zero_and_huge_gradients_stay_finite(norm, scale):
  for options in LOSSES.values():
    assert jnp.isfinite(scaled(norm, tuple(options.items()))(scale)).all()


def test_targets_are_the_likeliest_other_classes_in_order():
  """Where only the class at one place of the order can be reached, only that target finds it."""
  bias = jnp.array([4.0, 3.0, 2.0, 1.0, 0.0])
  reach = jnp.zeros((SIZE, 5)).at[:, 3].set(1.0)  # every pixel raises class 3 alone
  classify = lambda x: x.reshape(len(x), -1) @ reach + bias
  labels, x0 = jnp.zeros(6, jnp.int32), jnp.zeros_like(X0)
  fooled = lambda places: np.asarray(classify(jax.jit(
    lambda x: apgd(0.2, 10, targeted=True, target_classes=places)(classify, x, labels, KEY)
  )(x0)).argmax(-1) != 0)
  assert fooled([3]).all() and fooled(9).all()
  assert not fooled([1, 2, 4]).any()


def test_early_stop_ends_when_all_are_fooled():
  def evaluate(x, keys):
    return jnp.ones(len(x)), x.reshape(len(x), -1).sum(1) > 0, jnp.ones_like(x)

  keys = jax.random.split(KEY, 6)
  zeros = jnp.zeros_like(X0)
  out = search(evaluate, zeros, keys, 0.1, 30, 'linf', 0.75, early_stop=True)
  assert out.best.fooled.all() and (out.step_sizes == 0)[2:].all()
  full = search(evaluate, zeros, keys, 0.1, 30, 'linf', 0.75)
  assert (full.step_sizes > 0).all()


def test_two_and_three_classes_have_a_targeted_attack():
  for classes in (2, 3):
    classify = lambda x, k=classes: network(x)[:, :k]
    labels = classify(X0).argmax(-1)
    attack = apgd(0.3, 30, targeted=True)
    x = jax.jit(lambda x, c=classify, y=labels, a=attack: a(c, x, y, KEY))(X0)
    assert (classify(x).argmax(-1) != labels).mean() > 0.5


def test_expectation_over_a_random_classifier():
  """Weights under noise four times as large, in which a gradient of one draw is lost."""
  w = jnp.asarray(RNG.normal(size=SIZE), jnp.float32)

  def classify(x, key):
    score = x.reshape(len(x), -1) @ (w + 4 * jax.random.normal(key, (SIZE,)))
    return jnp.stack([score, jnp.zeros(len(x)), -jnp.ones(len(x))], 1)

  label = jnp.ones(6, jnp.int32)
  x = jax.jit(lambda x: apgd(0.1, 15, eot=20)(classify, x, label, KEY))(GREY)
  gain = ((x - GREY).reshape(6, -1) @ w) / (0.1 * jnp.abs(w).sum())  # 1 at the closed form
  one_step = jnp.sign(w + 4 * jax.random.normal(KEY, (200, SIZE))) @ w / jnp.abs(w).sum()
  assert one_step.mean() < 0.4 < gain.mean()


@pytest.mark.parametrize('options, sentence', [
  ({'eps': -1}, 'eps must be'), ({'steps': 0}, 'steps must be'), ({'norm': 'l3'}, "norm 'l3'"),
  ({'loss': 'cs'}, "loss 'cs'"), ({'restarts': 0}, 'restarts must be'), ({'rho': 2}, 'rho must'),
  ({'eot': 0}, 'eot must be'), ({'target_classes': 0}, 'target_classes must be'),
])
def test_bad_options_are_one_sentence(options, sentence):
  with pytest.raises(ValueError, match=sentence):
    apgd(**{'eps': 0.1, **options})
