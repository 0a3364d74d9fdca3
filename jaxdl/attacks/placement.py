"""Where a patch lies in an image: drawing places, and pasting.

A place is drawn from each example's own key (expectation over transformations, Athalye et al. 2018,
arXiv 1707.07397), and pasting is differentiable in the patch. What patches are trained for is in
`jaxdl.attacks.patch`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxdl.core import Array, BatchTransform, example_keys
from jaxdl.data.pipeline import unit_range
from jaxdl.options import check_flags, check_keys, check_name, check_number, check_numbers

SHAPES = ('square', 'circle')
_FINE = 16  # places a side within a pixel, at which the cover of a circle is counted


class Placement(NamedTuple):
  """Where and how a patch is pasted into each image [B].

  Attributes:
    corner: [B, 2], row and column of the upper left pixel of the upright patch; whole numbers
      unless it is also turned by an angle or scaled.
    turns: int [B], quarter turns anticlockwise; even for a patch that is not square.
    brightness: float [B], added to the patch, which is clipped to [0, 1] then.
    angle: float [B], radians anticlockwise about the patch's centre; None (with `scale`) pastes
      pixel on pixel.
    scale: float [B], factor of the side, about the corner.
  """

  corner: Array
  turns: Array
  brightness: Array
  angle: Array | None = None
  scale: Array | None = None


def sides(size) -> tuple[int, int]:
  """(height, width) of a patch given as one side or as both.

  Raises:
    ValueError: anything but one or two whole numbers of at least 1.
  """
  both = tuple(size) if isinstance(size, list | tuple) else (size, size)
  for side in both:
    check_number('The side of a patch', side, 1, whole=True)
  if len(both) != 2:
    raise ValueError(f'A patch has a side, or a height and a width, got {size!r}.')
  return both


def cover(size, shape: str = 'square') -> np.ndarray:
  """The mask of a patch, float32 [h, w]: the part of each pixel that is inside.

  Args:
    size: the side, or (height, width).
    shape: 'square' (all of the rectangle), or 'circle' (the ellipse that touches its sides).

  Raises:
    ValueError: an unknown shape, or a side below 1.
  """
  check_name('shape of a patch', shape, SHAPES)
  height, width = sides(size)
  if shape == 'square':
    return np.ones((height, width), np.float32)
  fine = lambda n: (np.arange(n * _FINE) + 0.5) * 2 / (n * _FINE) - 1
  inside = fine(height)[:, None] ** 2 + fine(width)[None] ** 2 <= 1
  return inside.reshape(height, _FINE, width, _FINE).mean((1, 3)).astype(np.float32)


def placement(
  image_shape: Sequence[int],
  size,
  location='random',
  turns: bool = True,
  angle: float = 0.0,
  scale: Sequence[float] = (1.0, 1.0),
  brightness: float = 0.0,
) -> Callable[[Array], Placement]:
  """Makes `place(key) -> Placement` of one image.

  Args:
    image_shape: (H, W, ...).
    size: of the patch, its side or (height, width).
    location: 'random' (uniform over all places where the patch lies within the image), 'centre', or
      (row, column) of its upper left pixel.
    turns: by a random multiple of 90 degrees (of 180, where it is not square).
    angle: by up to so many degrees either way, uniform.
    scale: (least, largest) factor of its side, uniform.
    brightness: up to so much, in pixel units, is added to all its pixels or taken away, uniform.

  Raises:
    ValueError: an option out of range, or a patch that does not fit into the image.
  """
  (height, width), (rows, columns) = sides(size), image_shape[:2]
  check_placement({'location': location, 'turns': turns, 'angle': angle, 'scale': scale,
                   'brightness': brightness})
  least, largest = scale
  if max(height * largest / rows, width * largest / columns) > 1:
    times = '' if largest == 1 else f', {largest:g} times as large,'
    raise ValueError(
      f'A patch of {height} x {width} pixels{times} does not fit into images of {rows} x {columns}:'
      ' take a smaller one.'
    )
  resampled = angle > 0 or (least, largest) != (1, 1)
  side, frame = (np.array(x, np.float32) for x in ((height, width), (rows, columns)))
  if isinstance(location, str):
    fixed = (frame - side) // 2 if location == 'centre' else None
  else:
    fixed = np.array(location, np.float32)
    if (fixed + largest * side > frame).any():
      raise ValueError(
        f'A patch of {height} x {width} pixels at {tuple(location)} is not within images of {rows} '
        f'x {columns}: choose another location.'
      )

  def place(key):
    keys = [jax.random.fold_in(key, i) for i in range(5)]
    uniform = lambda i, low, high, shape=(): jax.random.uniform(keys[i], shape, minval=low,
                                                                maxval=high)
    grown = uniform(0, least, largest)
    if fixed is not None:
      corner = jnp.asarray(fixed)
    elif resampled:
      corner = uniform(1, 0, 1, (2,)) * (frame - grown * side)
    else:
      corner = jax.random.randint(keys[1], (2,), 0, np.int32(frame - side) + 1)
    quarters = 1 if height == width else 2
    turned = quarters * jax.random.randint(keys[2], (), 0, 4 // quarters) if turns else 0
    degrees = uniform(3, -angle, angle) if angle else 0.0
    return Placement(
      corner if resampled else corner.astype(jnp.int32),
      jnp.asarray(turned, jnp.int32),
      uniform(4, -brightness, brightness) if brightness else jnp.float32(0),
      jnp.deg2rad(jnp.float32(degrees)) if resampled else None,
      grown if resampled else None,
    )

  return place


def check_placement(options: Mapping) -> None:
  """Refuses options that `placement` cannot take with any image.

  Raises:
    ValueError: naming the option.
  """
  check_keys('a placement', options, ('location', 'turns', 'angle', 'scale', 'brightness'))
  location, scale = options.get('location', 'random'), options.get('scale', (1.0, 1.0))
  if isinstance(location, str):
    check_name('location', location, ('random', 'centre'))
  else:
    check_numbers('location', location, 0, whole=True)
  check_flags('a placement', options, 'turns')
  check_number('angle', options.get('angle', 0), 0, 180)
  check_number('brightness', options.get('brightness', 0), 0, 1)
  check_numbers('scale', scale, above=0)
  for name, pair in (('scale', scale), ('location', location)):
    if not isinstance(pair, str) and len(pair) != 2:
      raise ValueError(f'{name} must be two numbers, got {pair!r}.')
  if scale[0] > scale[1]:
    raise ValueError(f'scale must be (least, largest), got {tuple(scale)}.')


def paste(images, patch, mask, place: Placement):
  """Images with the patch in them: x (1 - m) + p m, p and m placed alike.

  Without angles and scales this moves whole pixels and is exact. With them, patch and mask are read
  bilinearly, transparent outside; a patch much smaller than half its size would need a finer one.

  Args:
    images: float [B, H, W, C] in [0, 1].
    patch: float [h, w, C] in [0, 1].
    mask: float [h, w] in [0, 1].
    place: of each image.

  Returns:
    float [B, H, W, C].
  """
  mask = jnp.asarray(mask, patch.dtype)[..., None]
  turned = lambda x: _turned(x, place.turns)
  lit = jnp.clip(turned(patch) + place.brightness[:, None, None, None], 0, 1)
  masks = turned(mask)
  layers = jnp.concatenate([lit * masks, masks], axis=-1)
  if place.angle is None:
    return jax.vmap(_paste_pixels)(images, layers, place.corner)
  return jax.vmap(_paste_resampled)(images, layers, place.corner, place.angle, place.scale)


def _turned(x, turns):
  """x [h, w, C] turned by each number of quarter turns [B]: [B, h, w, C]."""
  quarters = 1 if x.shape[0] == x.shape[1] else 2
  return jnp.stack([jnp.rot90(x, k) for k in range(0, 4, quarters)])[turns // quarters]


def _paste_pixels(image, layer, corner):
  at = (corner[0], corner[1], 0)
  under = lax.dynamic_slice(image, at, (*layer.shape[:2], image.shape[-1]))
  return lax.dynamic_update_slice(image, under * (1 - layer[..., -1:]) + layer[..., :-1], at)


def _paste_resampled(image, layer, corner, angle, scale):
  """The layer [h, w, C + 1] (colours times cover, and cover) read at every pixel of the image.

  Bilinear weights are products of two tents, so reading is two small matrix products, whose
  gradient needs no scatter.
  """
  (rows, columns), (height, width) = image.shape[:2], layer.shape[:2]
  side = jnp.array([height, width], image.dtype)
  centre = corner + scale * side / 2
  r = (jnp.arange(rows) + 0.5 - centre[0])[:, None] / scale
  c = (jnp.arange(columns) + 0.5 - centre[1])[None] / scale
  cos, sin = jnp.cos(angle), jnp.sin(angle)
  tent = lambda at, n: jax.nn.relu(1 - jnp.abs(at.reshape(-1, 1) - jnp.arange(n)))
  down = tent(r * cos + c * sin + (height - 1) / 2, height)
  across = tent(c * cos - r * sin + (width - 1) / 2, width)
  lines = jnp.matmul(down, layer.reshape(height, -1), precision='highest')
  read = jnp.sum(across[..., None] * lines.reshape(-1, *layer.shape[1:]), axis=1)
  read = read.reshape(rows, columns, -1)
  return image * (1 - read[..., -1:]) + read[..., :-1]


def placed(place: Callable[[Array], Placement]) -> BatchTransform:
  """Draws a placement for each example of a batch: `batch['place']`."""

  def transform(params, model_state, batch, key, frozen):
    return {**batch, 'place': jax.vmap(place)(example_keys(key, batch))}

  return transform


def draw(place: Callable[[Array], Placement], key, count: int) -> Placement:
  """Placements of `count` images; that of image i depends on (key, i) alone."""
  keys = lambda key: jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(count))
  return jax.jit(lambda key: jax.vmap(place)(keys(key)))(key)


def patched_images(images, patch, mask, place: Placement) -> np.ndarray:
  """`paste` on the host's arrays: images uint8 or float [N, H, W, C] -> float32 [N, H, W, C]."""
  return np.asarray(_paste(jnp.asarray(unit_range(np.asarray(images))), patch, mask, place))


_paste = jax.jit(paste)
