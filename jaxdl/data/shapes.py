"""A procedural set: coloured shapes on textured grounds, with object masks and attributes."""

import functools

import numpy as np

from jaxdl.data.dataset import Dataset, Split, make_dataset, make_split

SIDE = 32
LABEL_NAMES = (
  'circle', 'square', 'triangle', 'star', 'cross', 'ring', 'crescent', 'heart', 'hexagon', 'bar',
)  # fmt: skip
# Columns of the extra `attributes`: index into COLOURS; circumradius, x and y of the centre in
# pixels from the upper left corner; anticlockwise angle in radians, 0..2 pi.
ATTRIBUTES = ('colour', 'radius', 'x', 'y', 'angle')
COLOURS = {
  'red': (0.86, 0.16, 0.16),
  'orange': (0.96, 0.55, 0.12),
  'yellow': (0.95, 0.87, 0.22),
  'green': (0.20, 0.66, 0.28),
  'cyan': (0.20, 0.78, 0.82),
  'blue': (0.16, 0.34, 0.86),
  'purple': (0.55, 0.24, 0.76),
  'pink': (0.96, 0.55, 0.76),
}
_CHUNK = 500


@functools.cache
def shapes() -> Dataset:
  """5,000 training and 1,000 test images, always the same ones."""
  return make_dataset('shapes', make_shapes(5000, seed=0), make_shapes(1000, seed=1), LABEL_NAMES)


def make_shapes(count: int, seed: int) -> Split:
  """Draws shapes at random places, sizes, angles and colours, anti-aliased.

  Returns:
    images uint8 [N, 32, 32, 3]; labels as equal in number as possible; extras `segmentation`
    uint8 [N, 32, 32] (1 where the object covers at least half the pixel) and `attributes` float32
    [N, 5], see `ATTRIBUTES`.
  """
  if count < 1:
    raise ValueError(f'The number of shapes must be at least 1, got {count}.')
  generator = np.random.default_rng([seed % 2**64, 0x5AE5])
  labels = generator.permutation(np.arange(count) % len(LABEL_NAMES)).astype(np.int32)
  attributes = _attributes(generator, count)
  images = np.empty((count, SIDE, SIDE, 3), np.uint8)
  segmentation = np.empty((count, SIDE, SIDE), np.uint8)
  for start in range(0, count, _CHUNK):
    chunk = slice(start, start + _CHUNK)
    cover = _coverage(labels[chunk], attributes[chunk])
    images[chunk] = _paint(generator, cover, attributes[chunk])
    segmentation[chunk] = cover >= 0.5
  return make_split(images, labels, {'segmentation': segmentation, 'attributes': attributes})


def _attributes(generator, count: int) -> np.ndarray:
  uniform = lambda low, high: generator.uniform(low, high, count)
  radius = uniform(7.0, 13.0)
  # Only a corner of the object may leave the image.
  margin = 0.85 * radius
  x, y = (margin + uniform(0, 1) * (SIDE - 2 * margin) for _ in range(2))
  colour = generator.integers(len(COLOURS), size=count)
  return np.stack([colour, radius, x, y, uniform(0, 2 * np.pi)], axis=1).astype(np.float32)


def _coverage(labels: np.ndarray, attributes: np.ndarray) -> np.ndarray:
  """The share of each pixel that the object covers, float32 [n, 32, 32]."""
  _, radius, x, y, angle = (c[:, None, None] for c in attributes.T)
  centre = np.arange(SIDE, dtype=np.float32) + 0.5
  dx, dy = centre[None, None, :] - x, y - centre[None, :, None]
  cos, sin = np.cos(angle), np.sin(angle)
  u, v = (cos * dx + sin * dy) / radius, (cos * dy - sin * dx) / radius
  cover = np.empty(u.shape, np.float32)
  for label, distance in enumerate(_DISTANCES):
    of_class = labels == label
    pixels = distance(u[of_class], v[of_class]) * radius[of_class]
    cover[of_class] = np.clip(0.5 - pixels, 0, 1)
  return cover


def _paint(generator, cover: np.ndarray, attributes: np.ndarray) -> np.ndarray:
  n = len(cover)
  pixel = lambda x: x.astype(np.float32)[:, None, None, :]
  palette = np.array(list(COLOURS.values()))
  colour = palette[attributes[:, 0].astype(int)]
  light_direction = generator.uniform(0, 2 * np.pi, n)
  shade = 1 + np.float32(0.25 / SIDE * np.sqrt(2)) * _along(light_direction)
  surface = pixel(colour + generator.normal(0, 0.04, (n, 3))) * shade[..., None]
  dark, light = _ground_colours(generator, colour)
  image = pixel(dark) + pixel(light - dark) * _texture(generator, n)[..., None]
  image += cover[..., None] * (surface - image)
  image += np.float32(0.02) * generator.standard_normal(image.shape, np.float32)
  return np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8)


def _ground_colours(generator, colour: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Two muted colours per image, on the side of the object's brightness that has more room."""
  n = len(colour)
  brightness = colour @ np.array([0.30, 0.59, 0.11])
  level = np.where(
    brightness > 0.5, generator.uniform(0.12, 0.32, n), generator.uniform(0.62, 0.85, n)
  )
  spread = generator.uniform(0.01, 0.09, n)
  tint = generator.normal(0, 0.07, (n, 3))
  shift = generator.normal(0, 0.04, (n, 3))
  base = level[:, None] + tint
  return base - spread[:, None] - shift, base + spread[:, None] + shift


def _texture(generator, n: int) -> np.ndarray:
  """float32 [n, 32, 32] in 0..1: clouds, stripes, checks or dots, one kind per image."""
  kinds = (_clouds, _stripes, _checks, _dots)
  kind = generator.integers(len(kinds), size=n)
  texture = np.empty((n, SIDE, SIDE), np.float32)
  for i, draw in enumerate(kinds):
    texture[kind == i] = 0.5 + 0.5 * np.tanh(draw(generator, int((kind == i).sum())))
  return texture


def _clouds(generator, n: int) -> np.ndarray:
  """Noise on a coarse and a fine grid, interpolated bilinearly."""
  layers = [(5, 1.0), (11, 0.5)]
  return sum(weight * _enlarge(generator.normal(0, 1, (n, k, k))) for k, weight in layers)


def _enlarge(grid: np.ndarray) -> np.ndarray:
  k = grid.shape[-1]
  position = np.linspace(0, k - 1, SIDE)
  weights = np.clip(1 - np.abs(position[:, None] - np.arange(k)), 0, None)
  return weights @ grid @ weights.T


def _stripes(generator, n: int) -> np.ndarray:
  return 2 * _waves(generator, n)[0]


def _checks(generator, n: int) -> np.ndarray:
  a, b = _waves(generator, n)
  return 4 * a * b


def _dots(generator, n: int) -> np.ndarray:
  a, b = _waves(generator, n)
  return 6 * (a + b - np.float32(0.8))


def _waves(generator, n: int) -> tuple[np.ndarray, np.ndarray]:
  """Two sinusoids [n, 32, 32] of one period, 4 to 10 pixels, at right angles to each other."""
  angle = generator.uniform(0, np.pi, n)
  wave = (2 * np.pi / generator.uniform(4, 10, n)).astype(np.float32)[:, None, None]
  phase = generator.uniform(0, 2 * np.pi, (2, n, 1, 1)).astype(np.float32)
  return tuple(
    np.sin(wave * _along(angle + turn) + p)
    for turn, p in zip((0, np.pi / 2), phase, strict=True)
  )


def _along(angle: np.ndarray) -> np.ndarray:
  """Pixels from the image's centre in the direction of each angle, float32 [n, 32, 32]."""
  place = np.arange(SIDE, dtype=np.float32) - np.float32((SIDE - 1) / 2)
  cos, sin = (f(angle).astype(np.float32)[:, None, None] for f in (np.cos, np.sin))
  return cos * place[None, None, :] + sin * place[None, :, None]


# Signed distances (negative inside) of shapes with circumradius 1 around the origin, v upwards.
# Distances outside a corner may fall short; only those near the border matter for anti-aliasing.


def _circle(u, v):
  return np.hypot(u, v) - 0.9


def _polygon(sides: int):
  def distance(u, v):
    sector = 2 * np.pi / sides
    angle = np.arctan2(u, v)
    folded = angle - sector * np.round(angle / sector - 0.5) - sector / 2
    return np.hypot(u, v) * np.cos(folded) - np.cos(sector / 2)

  return distance


def _star(u, v):
  """Five points; the inner corners lie at 0.45 of the outer ones."""
  sector = 2 * np.pi / 5
  angle = np.arctan2(u, v)
  folded = np.abs(angle - sector * np.round(angle / sector))
  radius = np.hypot(u, v)
  x, y = radius * np.sin(folded), radius * np.cos(folded)
  inner = 0.45 * np.array([np.sin(sector / 2), np.cos(sector / 2)])
  edge = np.array([inner[0], inner[1] - 1])
  normal = np.array([-edge[1], edge[0]]) / np.hypot(*edge)
  return normal[0] * x + normal[1] * (y - 1)


def _box(u, v, half_u, half_v):
  return np.maximum(np.abs(u) - half_u, np.abs(v) - half_v)


def _cross(u, v):
  return np.minimum(_box(u, v, 0.95, 0.3), _box(u, v, 0.3, 0.95))


def _ring(u, v):
  return np.abs(np.hypot(u, v) - 0.7) - 0.25


def _crescent(u, v):
  return np.maximum(np.hypot(u, v) - 0.95, 0.8 - np.hypot(u - 0.45, v))


def _heart(u, v):
  """Two half discs on the upper sides of a square that stands on its corner."""
  v = v + 0.08
  side = 0.54
  a, b = (u + v) / np.sqrt(2), (v - u) / np.sqrt(2)
  square = _box(a, b, side, side)
  discs = np.minimum(np.hypot(a - side, b), np.hypot(a, b - side)) - side
  return np.minimum(square, discs)


def _bar(u, v):
  return _box(u, v, 0.95, 0.32)


_DISTANCES = (
  _circle, _polygon(4), _polygon(3), _star, _cross, _ring, _crescent, _heart, _polygon(6), _bar,
)  # fmt: skip
