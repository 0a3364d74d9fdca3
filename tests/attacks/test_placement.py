"""Where a patch lies: pasting against NumPy and SciPy, and places."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from jaxdl.attacks import placement as P

RNG = np.random.default_rng(0)
IMAGES = RNG.random((6, 9, 11, 3), np.float32)


def at(corner, turns=0, brightness=0.0, angle=None, scale=None):
  """The same placement for every image of `IMAGES`, or one each."""
  n = len(IMAGES)
  each = lambda x, *shape: None if x is None else jnp.broadcast_to(jnp.asarray(x), (n, *shape))
  place = P.Placement(each(corner, 2), each(turns), each(brightness), each(angle), each(scale))
  return jax.tree.map(lambda x: x.astype(jnp.float32) if x is place.brightness else x, place)


@pytest.mark.parametrize('size', [3, (2, 4)])
@pytest.mark.parametrize('shape', ['square', 'circle'])
def test_paste_is_exact_in_whole_pixels(size, shape):
  h, w = P.sides(size)
  patch, mask = RNG.random((h, w, 3), np.float32), P.cover(size, shape)
  corner = np.array([[0, 0], [9 - h, 11 - w], [1, 2], [4, 3], [2, 7], [5, 0]])
  turns = np.array([0, 2, 0, 2, 2, 0]) + (np.array([0, 0, 1, 1, 0, 1]) if h == w else 0)
  have = jax.jit(P.paste)(IMAGES, patch, mask, at(corner, turns))
  want = IMAGES.copy()
  for image, (r, c), k in zip(want, corner, turns, strict=True):
    m, p = np.rot90(mask, k)[..., None], np.rot90(patch, k)
    image[r : r + h, c : c + w] = image[r : r + h, c : c + w] * (1 - m) + p * m
  if shape == 'square':
    np.testing.assert_array_equal(have, want)
  np.testing.assert_allclose(have, want, rtol=1e-6, atol=1e-7)
  assert np.abs(np.asarray(have) - IMAGES).max() > 0.1


@pytest.mark.parametrize(
  ('angle', 'scale'), [(0.0, 1.0), (np.pi / 2, 1.0), (0.4, 1.0), (0.0, 1.6), (-1.1, 0.8)]
)
def test_resampling_equals_scipy(angle, scale):
  size, corner = 4, np.array([2.0, 3.5])
  patch, mask = RNG.random((size, size, 3), np.float32), P.cover(size, 'circle')
  place = at(corner, 0, 0.0, np.float32(angle), np.float32(scale))
  have = jax.jit(P.paste)(IMAGES, patch, mask, place)
  layer = np.concatenate([patch * mask[..., None], mask[..., None]], -1).astype(np.float64)
  # Output pixel o reads the layer at A (o - centre) + middle, in coordinates of pixel centres.
  cos, sin = np.cos(angle), np.sin(angle)
  matrix = np.array([[cos, sin], [-sin, cos]]) / scale
  centre = corner + scale * size / 2 - 0.5
  offset = (size - 1) / 2 - matrix @ centre
  read = np.stack([
    scipy.ndimage.affine_transform(
      np.pad(layer[..., i], 2), matrix, offset + 2, IMAGES.shape[1:3], order=1)
    for i in range(4)
  ], -1)
  want = IMAGES * (1 - read[..., 3:]) + read[..., :3]
  np.testing.assert_allclose(have, want, atol=2e-5)


def test_an_angle_of_ninety_degrees_is_a_quarter_turn():
  patch, mask = RNG.random((3, 3, 3), np.float32), np.ones((3, 3), np.float32)
  exact = P.paste(IMAGES, patch, mask, at([2, 5], 1))
  ones = np.float32(1)
  angle = P.paste(IMAGES, patch, mask, at([2.0, 5.0], 0, 0.0, np.float32(np.pi / 2), ones))
  both = P.paste(IMAGES, patch, mask, at([2.0, 5.0], 1, 0.0, 0 * ones, ones))
  np.testing.assert_allclose(angle, exact, atol=1e-5)
  np.testing.assert_allclose(both, exact, atol=1e-5)


def test_brightness_is_added_and_clipped():
  patch, mask = np.array([[[0.1, 0.5, 0.95]]], np.float32), np.ones((1, 1), np.float32)
  for change, want in ((0.2, [0.3, 0.7, 1.0]), (-0.2, [0.0, 0.3, 0.75])):
    out = P.paste(IMAGES, patch, mask, at([4, 4], 0, change))
    np.testing.assert_allclose(out[:, 4, 4], np.tile(want, (6, 1)), atol=1e-6)


def test_a_placement_of_one_image_does_not_touch_another():
  patch, mask = RNG.random((2, 2, 3), np.float32), np.ones((2, 2), np.float32)
  corners = np.zeros((6, 2), int)
  moved = corners.copy()
  moved[3] = 5, 5
  a, b = (P.paste(IMAGES, patch, mask, at(c)) for c in (corners, moved))
  different = np.abs(np.asarray(a) - np.asarray(b)).max((1, 2, 3)) > 0
  assert different.tolist() == [False, False, False, True, False, False]


@pytest.mark.parametrize('exact', [True, False])
def test_gradient_of_the_patch(exact):
  size = 3
  patch, mask = RNG.random((size, size, 3), np.float32), P.cover(size, 'circle')
  weight = RNG.normal(size=IMAGES.shape).astype(np.float32)
  place = at([2, 3], 1) if exact else at([2.3, 3.1], 1, 0.0, np.float32(0.3), np.float32(1.2))
  loss = jax.jit(lambda p: jnp.sum(weight * P.paste(IMAGES, p, mask, place)))
  have = jax.jit(jax.grad(loss))(jnp.asarray(patch))
  if exact:
    windows = np.rot90(weight[:, 2:5, 3:6], -1, axes=(1, 2)).sum(0)
    np.testing.assert_allclose(have, windows * mask[..., None], rtol=1e-4, atol=1e-5)
  probe = RNG.normal(size=patch.shape).astype(np.float32)
  # Linear in the patch, so a difference over a large step is exact.
  slope = (loss(patch + 0.01 * probe) - loss(patch - 0.01 * probe)) / 0.02
  np.testing.assert_allclose(np.vdot(have, probe), slope, rtol=2e-2)


def test_covers_have_the_areas_of_their_shapes():
  areas = [100 * P.cover(s).sum() / 32**2 for s in (3, 5, 7, 16)]
  np.testing.assert_allclose(areas, [0.88, 2.44, 4.79, 25.0], atol=0.005)
  for h, w in ((5, 5), (16, 16), (6, 12)):
    circle = P.cover((h, w), 'circle')
    assert circle.sum() == pytest.approx(np.pi / 4 * h * w, rel=0.01)
    np.testing.assert_array_equal(circle, circle[::-1, ::-1])
    assert circle[h // 2, w // 2] == 1 and circle[0, 0] < 0.5


# Placements.


def test_places_are_uniform_over_all_positions():
  place = P.placement((9, 11), (3, 4))
  drawn = P.draw(place, jax.random.key(0), 5600)
  counts = np.zeros((7, 8), int)
  np.add.at(counts, tuple(np.asarray(drawn.corner).T), 1)
  assert counts.min() > 60 and counts.max() < 150  # 100 each, +- 5 standard deviations
  assert set(np.unique(drawn.turns)) == {0, 2}  # a rectangle must keep its shape
  square = P.draw(P.placement((9, 11), 3, brightness=0.2), jax.random.key(0), 400)
  assert set(np.unique(square.turns)) == {0, 1, 2, 3}
  assert -0.2 <= square.brightness.min() < -0.19 and 0.19 < square.brightness.max() <= 0.2
  assert square.angle is None and square.corner.dtype == jnp.int32


def test_scaled_patches_stay_within_the_image():
  drawn = P.draw(P.placement((20, 24), 6, angle=30, scale=(0.5, 3.0)), jax.random.key(1), 2000)
  assert (drawn.corner >= 0).all()
  assert (drawn.corner + 6 * drawn.scale[:, None] <= np.array([20.001, 24.001])).all()
  for values, low, high in ((jnp.rad2deg(drawn.angle), -30, 30), (drawn.scale, 0.5, 3)):
    span = high - low
    assert low <= values.min() < low + 0.02 * span and high - 0.02 * span < values.max() <= high


@pytest.mark.parametrize(('location', 'want'), [('centre', (3, 4)), ((6, 0), (6, 0))])
def test_fixed_locations(location, want):
  drawn = P.draw(P.placement((9, 11), 3, location, turns=False), jax.random.key(0), 5)
  assert np.asarray(drawn.corner).tolist() == [list(want)] * 5 and not drawn.turns.any()


def test_a_placement_belongs_to_its_example():
  place = P.placement((9, 11), 3, brightness=0.1)
  many, few = (P.draw(place, jax.random.key(3), n) for n in (20, 7))
  jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[:7], b), many, few)
  batch = {'image': IMAGES, 'index': jnp.array([5, 3, 9, 0, 1, 2])}
  turned = jax.tree.map(lambda x: x[::-1], batch)
  transform = P.placed(place)
  drawn = jax.jit(lambda x: transform(None, None, x, jax.random.key(4), None)['place'])
  a, b = drawn(batch), drawn(turned)
  jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[::-1], b), a, b)


@pytest.mark.parametrize(
  ('make', 'words'),
  [
    (lambda: P.placement((32, 32), 33), '33 x 33 pixels does not fit into images of 32 x 32'),
    (lambda: P.placement((32, 32), 16, scale=(1, 2.5)), '2.5 times as large, does not fit'),
    (lambda: P.placement((32, 32), 5, (30, 2)), r'at \(30, 2\) is not within images of 32 x 32'),
    (lambda: P.placement((32, 32), 5, 'middle'), "Unknown location 'middle'"),
    (lambda: P.placement((32, 32), 5, (1, 2, 3)), 'location must be two numbers'),
    (lambda: P.placement((32, 32), 5, scale=(2, 1)), 'scale must be'),
    (lambda: P.placement((32, 32), 5, angle=400), 'angle must be a number, at least 0 and at most'),
    (lambda: P.placement((32, 32), 5, brightness=-1), 'brightness must be a number, at least 0'),
    (lambda: P.cover(0), 'side of a patch must be a whole number, at least 1'),
    (lambda: P.cover((2, 3, 4)), 'a height and a width'),
    (lambda: P.cover(3, 'star'), "Unknown shape of a patch 'star'"),
  ],
)
def test_mistakes_are_explained(make, words):
  with pytest.raises(ValueError, match=words):
    make()
