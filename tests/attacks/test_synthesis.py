import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.ndimage
import scipy.signal

from jaxdl import image_quality as quality
from jaxdl.attacks import at_epsilons, attack_images
from jaxdl.attacks import synthesis as s
from jaxdl.attacks.inversion import representing
from jaxdl.core import bind

KEY = jax.random.key(3)


class Small(nn.Module):
  """One convolution, a mean, a linear layer: small and curved enough to climb."""

  @nn.compact
  def __call__(self, x, train=False):
    x = nn.tanh(nn.Conv(6, (3, 3), kernel_init=nn.initializers.normal(1.0))(x))
    pooled = jnp.concatenate([x.mean((1, 2)), x[:, ::3, ::3].reshape(len(x), -1)], axis=-1)
    return nn.Dense(4, kernel_init=nn.initializers.normal(1.0))(pooled), {'pooled': pooled}


MODEL = bind(Small(), mean=0.5, std=0.25)
IMAGES = np.random.default_rng(0).uniform(0.2, 0.8, (6, 8, 8, 3)).astype(np.float32)
LABELS = np.array([0, 1, 2, 3, 0, 1], np.int32)
VARIABLES = MODEL.init(jax.random.key(0), jnp.asarray(IMAGES))


def classify(x):
  return MODEL.apply(*VARIABLES, x)[0][0]


def images_of(attack, images=IMAGES, labels=LABELS, model=MODEL):
  return attack_images(model, *VARIABLES, images, labels, attack, KEY)


def gone():
  """Which pixels `cut(4)` takes from each of IMAGES, bool [N, H, W, 1]."""
  keys = jax.vmap(lambda i: jax.random.fold_in(KEY, i))(jnp.arange(len(IMAGES)))
  return np.asarray(s.squares(keys, (8, 8, 3), 4)) > 0


def rejecting(images):
  """Cross-entropy of the labels, [N]."""
  logits = np.asarray(classify(jnp.asarray(images)), np.float64)
  return scipy.special.logsumexp(logits, axis=1) - logits[np.arange(len(LABELS)), LABELS]


def test_seeds_of_a_class_have_its_mean_and_covariance():
  images = np.random.default_rng(1).uniform(0.45, 0.55, (5, 4, 4, 1))
  images[:, 1] = images[:, 0]  # pixels that go together
  gaussian = s.fit_gaussian(images)
  drawn = np.asarray(s.draw_gaussian(gaussian, jax.random.split(KEY, 40_000)))
  assert drawn.min() > 0 and drawn.max() < 1  # so that the clip has changed nothing
  flat, of = drawn.reshape(len(drawn), -1), images.reshape(len(images), -1)
  np.testing.assert_allclose(flat.mean(0), of.mean(0), atol=1e-3)
  want = np.cov(of, rowvar=False, bias=True) + 1e-4 * np.eye(16)
  np.testing.assert_allclose(np.cov(flat, rowvar=False), want, atol=4e-5)
  assert np.abs(want - np.diag(np.diag(want))).max() > 5e-4  # the covariances are seen, too


def test_seeds_are_drawn_for_each_key_alone_and_grains_are_blocks():
  gaussian = s.fit_gaussian((IMAGES * 255).astype(np.uint8), grain=2)
  assert gaussian.mean.shape == (4, 4, 3)
  keys = jax.random.split(KEY, 5)
  seeds = np.asarray(s.draw_gaussian(gaussian, keys))
  assert seeds.shape == (5, 8, 8, 3) and seeds.min() >= 0 and seeds.max() <= 1
  np.testing.assert_array_equal(seeds[:, ::2, ::2], seeds[:, 1::2, 1::2])
  np.testing.assert_allclose(seeds[2:3], s.draw_gaussian(gaussian, keys[2:3]), atol=1e-6)
  assert np.abs(seeds[0] - seeds[1]).max() > 0.05


def test_a_class_without_images_and_a_grain_that_does_not_divide_are_refused():
  with pytest.raises(ValueError, match='A class without images has no seeds'):
    s.fit_gaussian(IMAGES[:0])
  with pytest.raises(ValueError, match='Images of 8 x 8 pixels have no blocks of 3 x 3'):
    s.fit_gaussian(IMAGES, grain=3)


def test_block_means_undo_enlarging():
  low = s.area(IMAGES, 2)
  want = np.mean([IMAGES[:, i::2, j::2] for i in (0, 1) for j in (0, 1)], axis=0)
  np.testing.assert_allclose(low, want, atol=1e-6)
  np.testing.assert_allclose(s.area(s.enlarge(low, 2), 2), low, atol=1e-6)
  np.testing.assert_array_equal(s.enlarge(low, 2), low.repeat(2, 1).repeat(2, 2))


def test_squares_lie_inside_and_reach_every_border():
  masks = np.asarray(s.squares(jax.random.split(KEY, 300), (8, 10, 3), 3))
  assert masks.shape == (300, 8, 10, 1) and (masks.sum((1, 2, 3)) == 9).all()
  for mask in masks[..., 0]:
    assert mask[np.ix_(mask.any(1), mask.any(0))].all()
  assert masks.any((0, 2, 3)).all() and masks.any((0, 1, 3)).all()


def test_a_cut_image_has_its_mean_colour_in_the_square():
  cut, mask = images_of(s.cut(4)), gone()
  mean = np.broadcast_to(IMAGES.mean((1, 2), keepdims=True), IMAGES.shape)
  np.testing.assert_allclose(cut, np.where(mask, mean, IMAGES), atol=1e-6)


def test_hard_inpainting_changes_the_square_alone_and_helps_the_label():
  cut, mask = images_of(s.cut(4)), gone()
  filled = images_of(s.inpaint(4, 2.0, 30, 0.1, hard=True))
  np.testing.assert_array_equal(np.where(mask, 0, filled), np.where(mask, 0, IMAGES))
  assert (rejecting(filled) < rejecting(cut)).all()
  assert (np.abs(filled - cut)[np.broadcast_to(mask, cut.shape)] > 1e-3).mean() > 0.5


def test_the_penalty_holds_what_is_outside_the_square():
  outside = lambda x: np.sqrt((np.square(x - IMAGES) * ~gone()).sum((1, 2, 3)))
  loose, tight = (
    outside(images_of(s.inpaint(4, 2.0, 30, 0.1, weight=w))) for w in (0.0, 1e4)
  )
  assert (tight < 0.2).all() and (loose > 2 * tight).all()


@pytest.mark.parametrize('make, seed', [
  (lambda **options: s.inpaint(4, 1.0, 5, 0.1, **options), lambda: images_of(s.cut(4))),
  (lambda **options: s.super_resolve(2, 1.0, 5, 0.1, **options),
   lambda: np.asarray(s.enlarge(s.area(IMAGES, 2), 2))),
])  # fmt: skip
def test_blind_restoration_goes_to_the_prediction(make, seed):
  predicted = np.asarray(classify(jnp.asarray(seed()))).argmax(-1).astype(np.int32)
  assert (predicted != LABELS).any()
  np.testing.assert_array_equal(images_of(make(blind=True)), images_of(make(), labels=predicted))


def test_faithful_restoration_has_the_low_resolution_image():
  low = s.area(IMAGES, 2)
  plain, faithful = (
    images_of(s.super_resolve(2, 0.5, 20, 0.1, faithful=f)) for f in (False, True)
  )
  assert faithful.min() > 0 and faithful.max() < 1  # the box is not active
  np.testing.assert_allclose(s.area(faithful, 2), low, atol=1e-5)
  assert np.abs(s.area(plain, 2) - low).max() > 0.02
  seed = np.asarray(s.enlarge(low, 2))
  assert (rejecting(faithful) < rejecting(seed)).all()
  assert np.linalg.norm((plain - seed).reshape(6, -1), axis=1).max() <= 0.5 + 1e-5


def test_consistency_moves_as_little_as_it_can():
  x, low = jnp.asarray(IMAGES), jnp.full((6, 4, 4, 3), 0.5)
  moved = s.consistent(x, low, 2)
  operator = np.zeros((16, 64))
  for i in range(64):
    operator[i // 16 * 4 + i % 8 // 2, i] = 1 / 4
  flat = lambda a: np.asarray(a, np.float64).transpose(0, 3, 1, 2).reshape(18, -1).T
  gap = flat(low) - operator @ flat(x)
  want = flat(x) + np.linalg.pinv(operator) @ gap  # the least change that satisfies it
  np.testing.assert_allclose(flat(moved), want, atol=1e-6)


def test_a_sketch_is_the_sobel_gradient_on_white():
  sketches = np.asarray(s.sketch(jnp.asarray(IMAGES)))
  bright = IMAGES.mean(-1)
  slopes = [np.stack([scipy.ndimage.sobel(x, axis, mode='nearest') for x in bright])
            for axis in (0, 1)]
  length = np.hypot(*slopes)
  want = 1 - length / length.max((1, 2), keepdims=True)
  np.testing.assert_allclose(sketches, np.repeat(want[..., None], 3, -1), atol=1e-5)
  np.testing.assert_array_equal(s.sketch(jnp.full((1, 4, 4, 3), 0.3)), 1.0)


def test_painting_raises_the_unit_in_the_square():
  units, model = np.arange(6, dtype=np.int32) + 7, representing(MODEL)
  value = lambda x: np.asarray(model.apply(*VARIABLES, jnp.asarray(x))[0][0])[np.arange(6), units]
  painted = images_of(s.paint(4, 2.0, 40, 0.1, gain=1.0), labels=units, model=model)
  free = images_of(s.paint(4, 2.0, 40, 0.1, gain=1.0, weight=0.0), labels=units, model=model)
  assert (value(painted) >= value(IMAGES)).all() and value(painted).mean() > value(IMAGES).mean()
  outside = lambda x: np.square((x - IMAGES) * ~gone()).mean()
  assert outside(painted) < 0.1 * outside(free)


@pytest.mark.parametrize('attack', [
  s.cut(3), s.inpaint(3, 1.0, 4, 0.2), s.inpaint(3, 1.0, 4, 0.2, hard=True, blind=True),
  s.super_resolve(2, 1.0, 4, 0.2, faithful=True), s.paint(3, 1.0, 4, 0.2),
  at_epsilons(lambda eps: s.super_resolve(2, eps, 4, 0.2), (0.5, 1.0)),
])  # fmt: skip
def test_an_image_does_not_depend_on_the_others(attack):
  keys = jax.random.split(KEY, 6)
  run = jax.jit(lambda x, y, k: attack(classify, x, y, k))
  images, labels = IMAGES[::-1].copy(), LABELS[::-1].copy()
  images[2], labels[2] = IMAGES[2], LABELS[2]
  one, other = run(jnp.asarray(IMAGES), LABELS, keys), run(jnp.asarray(images), labels, keys)
  np.testing.assert_array_equal(one[2], other[2])
  assert np.isfinite(one).all() and one.min() >= 0 and one.max() <= 1
  assert np.abs(one[0] - other[0]).max() > 0


@pytest.mark.parametrize('make, words', [
  (lambda: s.synthesis(0.5, 0.1, 1.0), 'steps must be a whole number'),
  (lambda: s.synthesis(5, -0.1, 1.0), 'alpha must be a number, at least 0'),
  (lambda: s.inpaint(3, 1.0, 4, 0.2, weight=-1), 'weight of the penalty must be'),
  (lambda: s.paint(3, 1.0, 4, 0.2, gain=0), 'gain of the unit must be a number, above 0'),
])  # fmt: skip
def test_wrong_values_are_refused(make, words):
  with pytest.raises(ValueError, match=words):
    make()


def by_hand(a, b):
  """SSIM of Wang et al. 2004, equation 13, in float64: windows that lie within the image."""
  bell = np.exp(-np.square(np.arange(11) - 5) / (2 * 1.5**2))
  window = np.outer(bell, bell) / np.square(bell.sum())
  local = lambda x: np.stack([
    [scipy.signal.correlate2d(image[..., k], window, 'valid') for k in range(3)] for image in x
  ])
  a, b = a.astype(np.float64), b.astype(np.float64)
  m, n = local(a), local(b)
  aa, bb, ab = local(a * a) - m * m, local(b * b) - n * n, local(a * b) - m * n
  alike = (2 * m * n + 1e-4) * (2 * ab + 9e-4) / ((m * m + n * n + 1e-4) * (aa + bb + 9e-4))
  return alike.mean((1, 2, 3))


def test_psnr_and_ssim_of_known_images():
  np.testing.assert_allclose(quality.psnr(IMAGES + 0.1, IMAGES), 20.0, atol=1e-4)
  np.testing.assert_allclose(quality.psnr(IMAGES, IMAGES), np.inf)
  big = np.random.default_rng(2).uniform(0, 1, (3, 16, 16, 3)).astype(np.float32)
  np.testing.assert_allclose(quality.ssim(big, big), 1.0, atol=1e-5)
  # Of constant images only the luminance term is left: (2ab + c) / (a^2 + b^2 + c), c = 0.01^2.
  flat = quality.ssim(np.full_like(big, 0.4), np.full_like(big, 0.6))
  np.testing.assert_allclose(flat, (2 * 0.24 + 1e-4) / (0.16 + 0.36 + 1e-4), rtol=1e-3)
  np.testing.assert_allclose(quality.ssim(big, 1 - big), by_hand(big, 1 - big), atol=1e-4)
  near = np.clip(big + 0.1 * np.random.default_rng(3).normal(size=big.shape), 0, 1)
  np.testing.assert_allclose(quality.ssim(near, big), by_hand(near, big), atol=1e-4)
  assert (quality.ssim(IMAGES, 1 - IMAGES) < 0.5).all()  # 8 x 8: a smaller window


def test_classifier_score_and_frechet_distance_of_known_sets():
  assert quality.classifier_score(np.eye(5)) == pytest.approx(5)
  assert quality.classifier_score(np.full((7, 5), 0.2)) == pytest.approx(1)
  generator = np.random.default_rng(3)
  a, b = generator.normal(size=(200, 4)), generator.normal(1, 2, size=(300, 4))
  assert quality.frechet_distance(a, a) == pytest.approx(0, abs=1e-6)
  root = scipy.linalg.sqrtm(np.cov(a.T) @ np.cov(b.T)).real
  want = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(np.cov(a.T) + np.cov(b.T) - 2 * root)
  assert quality.frechet_distance(a, b) == pytest.approx(want, rel=1e-4)
  with pytest.raises(ValueError, match='The number of features must be'):
    quality.frechet_distance(a[:1], b)
