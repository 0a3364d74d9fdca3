import time

import numpy as np
import pytest

from jaxdl.data import load
from jaxdl.data.shapes import ATTRIBUTES, COLOURS, LABEL_NAMES, SIDE, make_shapes

COLUMN = {name: i for i, name in enumerate(ATTRIBUTES)}


@pytest.fixture(scope='module')
def drawn():
  return make_shapes(1000, seed=7)


def inside(split):
  """Examples whose object lies within the image altogether."""
  _, radius, x, y, _ = split.extras['attributes'].T
  return (np.minimum(x, y) > radius) & (np.maximum(x, y) < SIDE - radius)


def test_contents(drawn):
  assert drawn.images.shape == (1000, 32, 32, 3) and drawn.images.dtype == np.uint8
  assert np.bincount(drawn.labels).tolist() == [100] * len(LABEL_NAMES)
  assert set(np.unique(drawn.extras['segmentation'])) == {0, 1}
  assert drawn.extras['segmentation'].shape == (1000, 32, 32)
  attributes = drawn.extras['attributes']
  assert attributes.shape == (1000, 5) and attributes.dtype == np.float32
  assert set(attributes[:, 0]) == set(range(len(COLOURS)))
  # Every object shows, and leaves most of the ground to be seen.
  area = drawn.extras['segmentation'].mean((1, 2))
  assert area.min() > 0.015 and area.max() < 0.45


def test_a_seed_gives_the_same_shapes_and_another_seed_others(drawn):
  again, other = make_shapes(1000, seed=7), make_shapes(1000, seed=8)
  assert (again.images == drawn.images).all()
  assert (again.extras['attributes'] == drawn.extras['attributes']).all()
  assert not (other.images == drawn.images).all(axis=(1, 2, 3)).any()


def test_areas_follow_from_geometry(drawn):
  radius = drawn.extras['attributes'][:, COLUMN['radius']]
  area = drawn.extras['segmentation'].sum((1, 2)) / radius**2
  pentagram = 5 * 0.45 * np.sin(np.pi / 5)  # ten triangles of sides 1 and 0.45
  expected = {
    'circle': np.pi * 0.9**2,
    'square': 2.0,
    'triangle': 3 * np.sqrt(3) / 4,
    'hexagon': 3 * np.sqrt(3) / 2,
    'star': pentagram,
    'ring': np.pi * (0.95**2 - 0.45**2),
    'bar': 4 * 0.95 * 0.32,
    'cross': 2 * 4 * 0.95 * 0.3 - 4 * 0.3**2,
  }
  for name, value in expected.items():
    chosen = inside(drawn) & (drawn.labels == LABEL_NAMES.index(name))
    assert chosen.sum() > 10
    np.testing.assert_allclose(area[chosen].mean(), value, rtol=0.03, err_msg=name)


def test_the_place_is_the_centroid_of_symmetric_shapes(drawn):
  mask = drawn.extras['segmentation'].astype(float)
  pixel = np.arange(SIDE) + 0.5
  total = mask.sum((1, 2))
  centre = np.stack([mask.sum(1) @ pixel / total, mask.sum(2) @ pixel / total], axis=1)
  symmetric = ('circle', 'square', 'star', 'cross', 'ring', 'hexagon', 'bar', 'triangle')
  chosen = inside(drawn) & np.isin(drawn.labels, [LABEL_NAMES.index(n) for n in symmetric])
  place = drawn.extras['attributes'][:, [COLUMN['x'], COLUMN['y']]]
  error = (centre - place)[chosen]
  assert np.abs(error).max() < 0.75  # points of small stars are cut off by whole pixels
  assert np.abs(error).mean() < 0.1 and np.abs(error.mean(0)).max() < 0.02


def test_the_angle_is_that_of_a_bars_long_axis_anticlockwise(drawn):
  chosen = inside(drawn) & (drawn.labels == LABEL_NAMES.index('bar'))
  for mask, angle in zip(
    drawn.extras['segmentation'][chosen],
    drawn.extras['attributes'][chosen, COLUMN['angle']],
    strict=True,
  ):
    row, column = np.nonzero(mask)
    axis = np.linalg.eigh(np.cov(column, -row))[1][:, -1]
    along = abs(axis @ [np.cos(angle), np.sin(angle)])
    assert along > np.cos(np.radians(8))


def test_the_colour_is_that_of_the_masked_pixels(drawn):
  palette = np.array(list(COLOURS.values()))
  mask = drawn.extras['segmentation'][..., None]
  mean = (drawn.images / 255 * mask).sum((1, 2)) / mask.sum((1, 2))
  direction = lambda c: c / np.linalg.norm(c, axis=-1, keepdims=True)
  nearest = (direction(mean) @ direction(palette).T).argmax(1)
  assert (nearest == drawn.extras['attributes'][:, COLUMN['colour']]).mean() > 0.95


def test_objects_stand_out_from_the_ground(drawn):
  mask = drawn.extras['segmentation'][..., None].astype(float)
  x = drawn.images / 255
  mean = lambda m: (x * m).sum((1, 2)) / m.sum((1, 2))
  assert np.linalg.norm(mean(mask) - mean(1 - mask), axis=1).min() > 0.1


def test_colour_does_not_tell_the_class(drawn):
  """Classes share one distribution of colours, sizes and places."""
  attributes = drawn.extras['attributes']
  means = np.stack([attributes[drawn.labels == c].mean(0) for c in range(10)])
  deviation = attributes.std(0) / np.sqrt(100)
  assert (np.abs(means - attributes.mean(0)) < 4 * deviation).all()


def test_the_embedded_set_is_cached_and_quick():
  start = time.process_time()
  d = load('shapes')
  assert time.process_time() - start < 5
  assert load('shapes') is d and d.label_names == LABEL_NAMES
  assert (len(d.train), len(d.test)) == (5000, 1000)


def test_no_shapes_are_refused():
  with pytest.raises(ValueError, match='at least 1'):
    make_shapes(0, seed=0)
