"""Adversarial patches: the objective by hand, training against the known best, and success."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special

from jaxdl.attacks import patch as P
from jaxdl.attacks.placement import Placement, cover, draw, placed, placement
from jaxdl.core import TrainState
from jaxdl.data import make_split, resident
from jaxdl.train.loop import Every, fit
from jaxdl.train.step import grad_step

RNG = np.random.default_rng(0)
IMAGES = RNG.random((6, 9, 11, 3), np.float32)


def at(corner):
  """The same upright placement for every image of `IMAGES`."""
  n = len(IMAGES)
  return Placement(jnp.tile(jnp.array(corner), (n, 1)), jnp.zeros(n, int), jnp.zeros(n))


def colours(params, model_state, x, *, train=False, key=None):
  """A classifier whose three logits are a multiple of the mean of each channel."""
  assert not train
  return (params * x.mean((1, 2)), {}), model_state


def batch_of(labels, place):
  labels = jnp.asarray(labels)
  return {'image': jnp.asarray(IMAGES[: len(labels)]), 'label': labels, 'place': jax.tree.map(
    lambda x: x[: len(labels)], place)}


def run(targets, labels, patches, kappa=5.0, sources=('a',)):
  """(loss, gradient of the pixels, metrics) with the patches at one corner."""
  frozen = {'a': (30.0, {}), 'b': (12.0, {})}
  objective = P.universal_patch(
    dict.fromkeys(sources, colours), cover(3), targets, P.pixels('clip'), kappa
  )
  batch = batch_of(labels, at([1, 2]))
  loss = lambda p, batch: objective({'patch': p}, {}, batch, jax.random.key(0), frozen)
  run = jax.jit(jax.value_and_grad(loss, has_aux=True))
  (value, out), grads = run(jnp.asarray(patches), batch)
  return float(value), np.asarray(grads), out.metrics


def by_hand(patch, labels, target, scale, kappa=5.0):
  """Each image's loss and prediction, in float64."""
  out = []
  for image, label in zip(IMAGES.astype(np.float64), labels, strict=False):
    image = image.copy()
    image[1:4, 2:5] = patch
    logits = scale * image.mean((0, 1))
    if target == P.UNTARGETED:
      others = np.delete(logits, label)
      loss = max(logits[label] - others.max(), -kappa)
    else:
      loss = 0.0 if label == target else scipy.special.logsumexp(logits) - logits[target]
    out.append((loss, logits.argmax()))
  return np.array(out).T


def test_losses_equal_those_by_hand_and_leave_the_target_class_out():
  labels = [0, 1, 2, 1, 0, 2]
  patches = RNG.uniform(0.1, 0.9, (3, 3, 3, 3)).astype(np.float32)
  targets = [P.UNTARGETED, 0, 2]
  loss, _, metrics = run(targets, labels, patches)
  each = [by_hand(p, labels, k, 30.0) for p, k in zip(patches, targets, strict=True)]
  assert loss == pytest.approx(sum(losses.mean() for losses, _ in each), rel=1e-5)
  wrong = np.mean(each[0][1] != labels)
  assert metrics['success_untargeted'] == pytest.approx(wrong)
  hits = [np.sum((e[1] == k) & (np.array(labels) != k)) for e, k in zip(each[1:], (0, 2),
                                                                        strict=True)]
  assert metrics['success_targeted'] == pytest.approx(sum(hits) / 8)
  only, gradient, metrics = run([1], [1, 1], patches[:1])
  assert only == 0 and not gradient.any() and metrics['success_targeted'] == 0


def test_a_margin_ends_at_kappa():
  blue = np.zeros((3, 3, 3), np.float32)
  blue[..., 2] = 1
  loss, gradient, _ = run([P.UNTARGETED], [0, 0], blue[None], kappa=0.0)
  assert loss == 0 and not gradient.any()
  loss, gradient, _ = run([P.UNTARGETED], [0, 0], blue[None], kappa=50.0)
  assert loss < 0 and gradient.any()


def test_ensembles_average_and_patches_do_not_feel_each_other():
  labels, patches = [0, 1, 2, 1], RNG.uniform(0.1, 0.9, (2, 3, 3, 3)).astype(np.float32)
  targets = [P.UNTARGETED, 2]
  a, of_a, _ = run(targets, labels, patches)
  both, of_both, _ = run(targets, labels, patches, sources=('a', 'b'))
  b = sum(by_hand(p, labels, k, 12.0)[0].mean() for p, k in zip(patches, targets, strict=True))
  assert both == pytest.approx((a + b) / 2, rel=1e-5) and not np.allclose(of_a, of_both)
  _, alone, _ = run(targets[1:], labels, patches[1:])
  np.testing.assert_allclose(of_a[1:], alone, rtol=1e-6, atol=1e-9)


def test_an_image_does_not_feel_its_batch():
  patches = RNG.uniform(0.1, 0.9, (2, 3, 3, 3)).astype(np.float32)
  _, whole, _ = run([P.UNTARGETED, 1], [0, 2], patches)
  _, first, _ = run([P.UNTARGETED, 1], [0], patches)
  _, changed, _ = run([P.UNTARGETED, 1], [0, 1], patches)
  assert not np.allclose(whole, changed)
  # The second image of `changed` is of the target class: only the first one counts.
  np.testing.assert_allclose(changed[1] * 2, first[1], rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize('pixels', ['sigmoid', 'clip'])
def test_training_finds_the_best_patch(pixels, tmp_path):
  """Logits are mean colours: the best patch for a class has that colour and no other."""
  form, targets, size = P.pixels(pixels), [P.UNTARGETED, 0, 1, 2], 3
  labels = np.arange(40) % 3
  rng = np.random.default_rng(1)
  images = rng.integers(0, 120, (40, 9, 9, 3), np.uint8)
  images[np.arange(40), :, :, labels] += 10  # the label's colour is brightest
  tx = optax.chain(optax.adam(0.3 if pixels == 'sigmoid' else 0.05), form.link)
  objective = P.universal_patch({'a': colours}, cover(size), targets, form, kappa=50.0)
  start = P.first_patches(4, size, 3, noise=0.1)

  def init():
    params = {'patch': form.encode(start(jax.random.key(5)))}
    return TrainState(jnp.zeros((), jnp.int32), params, {}, tx.init(params), jax.random.key(0))

  step = grad_step(objective, tx, transform=placed(placement((9, 9), size, brightness=0.05)))
  state = fit(
    init=init, step=step, data=resident(make_split(images, labels), 8, 0), steps=40,
    workdir=tmp_path, frozen={'a': (40.0, {})}, every=Every(10, 0, 20),
  )
  found = np.asarray(form.decode(state.params['patch']))
  assert found.min() >= 0 and found.max() <= 1
  colour = found.mean((1, 2))
  for k in range(3):
    assert colour[1 + k, k] > 0.9 and np.delete(colour[1 + k], k).max() < 0.1
  places = draw(placement((9, 9), size), jax.random.key(2), 40)
  model = dataclasses.make_dataclass('Model', ['apply'])(colours)
  seen = P.patched_predictions(model, 40.0, {}, images, found, cover(size), places)
  noise = P.patched_predictions(
    model, 40.0, {}, images, rng.random((1, size, size, 3)), cover(size), places
  )
  for k in range(3):
    assert P.success(seen[1 + k], labels, labels, k) > 0.9
    assert P.success(noise[0], labels, labels, k) < 0.5


@pytest.mark.parametrize('name', ['sigmoid', 'clip'])
def test_a_disguised_patch_stays_near_its_picture(name, tmp_path):
  """Logits are mean colours, so the best disguise adds eps to one channel and takes it from others.
  """
  picture = RNG.uniform(0, 1, (3, 3, 3)).astype(np.float32)
  low, high = P.near(picture, 0.2)
  np.testing.assert_allclose(low, np.maximum(picture - 0.2, 0))
  np.testing.assert_allclose(high, np.minimum(picture + 0.2, 1))
  form = P.pixels(name, low, high)
  tx = optax.chain(optax.adam(0.3 if name == 'sigmoid' else 0.05), form.link)
  objective = P.universal_patch({'a': colours}, cover(3), [1], form)
  start = P.first_patches(1, 3, 3, 0.3, form)(jax.random.key(0))
  assert (start > low).all() and (start < high).all()
  np.testing.assert_allclose(form.decode(form.encode(start)), start, atol=1e-6)
  params = {'patch': form.encode(start)}
  state = TrainState(jnp.zeros((), jnp.int32), params, {}, tx.init(params), jax.random.key(0))
  step, batch = jax.jit(grad_step(objective, tx)), batch_of([0, 2, 0, 2], at([1, 2]))
  for _ in range(40):
    state, _ = step(state, batch, {'a': (40.0, {})})
  found = np.asarray(form.decode(state.params['patch']))[0]
  assert (found >= low - 1e-6).all() and (found <= high + 1e-6).all()
  want = np.where(np.arange(3) == 1, high, low)
  np.testing.assert_allclose(found, want, atol=0.02)


def test_success_by_its_definition():
  labels, clean = [0, 0, 1, 1, 2, 2], [0, 1, 1, 1, 2, 2]
  patched = [1, 1, 1, 0, 2, 1]
  assert P.success(patched, labels, clean) == 3 / 5  # of 0, 2, 3, 4, 5: 0, 3 and 5
  assert P.success(patched, labels, clean, 1) == 2 / 3  # of 0, 4, 5: 0 and 5
  with pytest.raises(ValueError, match='No image counts'):
    P.success([0, 1], [0, 1], [1, 1], 1)


@pytest.mark.parametrize(
  ('make', 'words'),
  [
    (lambda: P.first_patches(1, 3, 3, 0.6), 'noise must be a number'),
    (lambda: P.universal_patch({}, None, [-2]), 'Each target must be a whole number, at least -1'),
    (lambda: P.universal_patch({}, None, [0], kappa=-1), 'kappa must be a number, at least 0'),
    (lambda: P.pixels('tanh'), "Unknown pixels 'tanh'"),
    (lambda: P.near(np.ones((2, 2, 3)), 0.0), 'eps of a disguise must be a number, above 0'),
  ],
)
def test_mistakes_are_explained(make, words):
  with pytest.raises(ValueError, match=words):
    make()
