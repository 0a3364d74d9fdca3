"""Images made with a single classifier: descent on a loss of the image, in a ball around a seed.

Santurkar et al. 2019 (arXiv:1906.09453). Generation and translation are `pgd(norm='l2',
targeted=True, random_start=False)` itself; here are the seeds, and the tasks whose loss or
projection is another one. All of them are a `ClassifierAttack` on the original images, so that
`attack_images` runs them: what is taken away from an image (a square, half of the resolution) is a
function of the image and of its key alone.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdl.attacks.ascend import ascend, example_keys, steepest, step
from jaxdl.attacks.balls import l2, rows
from jaxdl.attacks.victim import ClassifierAttack
from jaxdl.core import Array, Attack
from jaxdl.losses.classification import cross_entropy
from jaxdl.options import check_number

JITTER = 1e-4  # added to the variance of every pixel
RESIZE = ('nearest', 'linear', 'cubic')


class ClassGaussian(NamedTuple):
  """The normal distribution of a class's images: N(mean, factor^T factor + JITTER I).

  Attributes:
    mean: float32 [H, W, C], of the images after block means.
    factor: float32 [n, H W C], the centred images over sqrt(n).
    grain: side of the blocks.
  """

  mean: np.ndarray
  factor: np.ndarray
  grain: int


def fit_gaussian(images, grain: int = 1) -> ClassGaussian:
  """Fits a class's seed distribution (section 3.1; the covariance is divided by n).

  Args:
    images: [n, H, W, C], uint8 or float in [0, 1], of one class.
    grain: images are averaged over blocks of this side; it must divide H and W.

  Raises:
    ValueError: no images, or a grain that does not divide them.
  """
  images = np.asarray(images)
  if not len(images):
    raise ValueError('A class without images has no seeds: give at least one image of each class.')
  scale = 255 if images.dtype == np.uint8 else 1
  images = np.asarray(area(images.astype(np.float64) / scale, grain))
  mean = images.mean(0)
  factor = (images - mean).reshape(len(images), -1) / np.sqrt(len(images))
  return ClassGaussian(mean.astype(np.float32), factor.astype(np.float32), grain)


def draw_gaussian(gaussian: ClassGaussian, keys: Array) -> Array:
  """Seeds float32 [B, H, W, C] in [0, 1], one for each of keys [B]: clipped after the draw.

  A draw of n normal numbers weighs the centred images, which is the same distribution as a Cholesky
  factor of the 3072 x 3072 covariance gives, without that matrix.
  """
  count, size = gaussian.factor.shape
  low = jax.vmap(lambda key: jax.random.normal(key, (count,)))(keys) @ gaussian.factor
  own = jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, 1), (size,)))(keys)
  x = (low + JITTER**0.5 * own).reshape(len(keys), *gaussian.mean.shape) + gaussian.mean
  return enlarge(jnp.clip(x, 0, 1), gaussian.grain)


def area(images, factor: int):
  """Block means: [B, H, W, C] -> [B, H / factor, W / factor, C], of NumPy or JAX arrays.

  Raises:
    ValueError: the factor does not divide the sides.
  """
  b, h, w, c = images.shape
  check_number('The factor of the resolution', factor, 1, whole=True)
  if h % factor or w % factor:
    raise ValueError(f'Images of {h} x {w} pixels have no blocks of {factor} x {factor}.')
  return images.reshape(b, h // factor, factor, w // factor, factor, c).mean((2, 4))


def enlarge(images, factor: int, method: str = 'nearest') -> Array:
  """[B, H, W, C] -> [B, H factor, W factor, C] by `jax.image.resize`, clipped to [0, 1].

  Args:
    images: float in [0, 1].
    factor: whole.
    method: one of `RESIZE`.
  """
  b, h, w, c = images.shape
  return jnp.clip(jax.image.resize(images, (b, h * factor, w * factor, c), method), 0, 1)


def squares(keys, shape, side: int) -> Array:
  """A random square for each of keys [B]: float32 [B, H, W, 1], 1 inside.

  Args:
    keys: typed keys [B].
    shape: (H, W, ...) of the images.
    side: of the square, in pixels, at most that of the images.
  """
  def one(key):
    top, left = (
      jax.random.randint(jax.random.fold_in(key, i), (), 0, size - side + 1)
      for i, size in enumerate(shape[:2])
    )
    inside = lambda first, size: (jnp.arange(size) >= first) & (jnp.arange(size) < first + side)
    return inside(top, shape[0])[:, None] & inside(left, shape[1])[None, :]

  return jax.vmap(one)(keys)[..., None].astype(jnp.float32)


def mean_filled(x, mask):
  """Images whose pixels under the mask [B, H, W, 1] are the image's mean colour."""
  return jnp.where(mask > 0, x.mean((1, 2), keepdims=True), x)


def consistent(x, low, factor: int):
  """x moved by as little as makes its block means those of low: area(x, factor) == low."""
  gap = low - area(x, factor)
  return x + jax.image.resize(gap, x.shape, 'nearest')


def sketch(images) -> Array:
  """Dark lines on white where the brightness changes: a drawing of each image, [B, H, W, C].

  The length of the Sobel gradient of the mean over the channels, as a share of its largest value in
  the image, taken from white; the borders are continued by their own pixels.

  Args:
    images: float [B, H, W, C] in [0, 1].
  """
  bright = jnp.pad(images.mean(-1), ((0, 0), (1, 1), (1, 1)), 'edge')
  smooth = lambda x: x[:-2] + 2 * x[1:-1] + x[2:]
  slope = lambda x: x[2:] - x[:-2]
  down = lambda f, x: jnp.moveaxis(f(jnp.moveaxis(x, 1, 0)), 0, 1)
  across = lambda f, x: jnp.moveaxis(f(jnp.moveaxis(x, 2, 0)), 0, 2)
  length = jnp.hypot(down(slope, across(smooth, bright)), across(slope, down(smooth, bright)))
  ink = length / jnp.maximum(length.max((1, 2), keepdims=True), 1e-12)
  return jnp.broadcast_to(1 - ink[..., None], images.shape)


def synthesis(
  steps: int, alpha: float, eps: float, constrain: Callable[[Array], Array] = lambda x: x
) -> Attack:
  """Normalised ascent of a gain in the L2 ball around the seed; the best image seen is kept.

  Args:
    steps: gradients.
    alpha: length of a step, pixel units.
    eps: radius of the ball, a number or float [B]. Where steps * alpha is smaller, it never binds.
    constrain: applied to the image after the ball's projection, and followed by the box.

  Raises:
    ValueError: an argument out of range.
  """
  if not isinstance(alpha, jax.core.Tracer):
    check_number('alpha', alpha, 0)
  region = l2(eps)
  project = lambda x, x0: jnp.clip(constrain(region.project(x, x0)), 0, 1)
  return ascend(steps, optax.chain(steepest(region), step(alpha)), project, keep_best=True)


def cut(side: int) -> ClassifierAttack:
  """No attack: the images as `inpaint` with the same side and key finds them, a square gone."""

  def run(classify, x0, labels, key):
    keys = example_keys(key, len(x0))
    return mean_filled(x0, squares(keys, x0.shape[1:], side))

  return run


def inpaint(
  side: int, eps, steps: int, alpha: float, weight: float = 10.0, hard: bool = False,
  blind: bool = False,
) -> ClassifierAttack:
  """Cuts a random square out of each image and fills it (section 3.2): minimises
  CE(f(x), y) + weight * mean(((x_cut - x) (1 - mask))^2) around the cut image.

  A classifier whose last ReLU passes all gradients (`fake_relu` of the network) is what the
  authors' notebook uses.

  Args:
    side: of the square, pixels.
    eps, steps, alpha: see `synthesis`.
    weight: of the penalty outside of the square.
    hard: put the pixels outside of the square back after every step; no penalty is left then, and
      eps limits the square alone.
    blind: aim at the classifier's own prediction of the cut image instead of the label. Both flags
      may be traced, so that one program does all.
  """
  check_number('weight of the penalty', weight, 0)

  def run(classify, x0, labels, key):
    keys = example_keys(key, len(x0))
    mask = squares(keys, x0.shape[1:], side)
    seed = mean_filled(x0, mask)
    target = jnp.where(blind, classify(seed).argmax(-1), labels)
    penalty = lambda x: weight * jnp.mean(rows(jnp.square((seed - x) * (1 - mask))), axis=1)
    gain = lambda x: -cross_entropy(classify(x), target) - penalty(x)
    constrain = lambda x: jnp.where(hard & (mask == 0), seed, x)
    return synthesis(steps, alpha, eps, constrain)(gain, seed, keys)

  return run


def super_resolve(
  factor: int, eps, steps: int, alpha: float, faithful: bool = False, blind: bool = False
) -> ClassifierAttack:
  """Takes block means of each image and restores its size (section 3.4): minimises CE(f(x), y)
  around the enlarged low-resolution image.

  Args:
    factor: of the resolution.
    eps, steps, alpha: see `synthesis`.
    faithful: after every step, make the block means those of the low-resolution image again.
    blind: aim at the classifier's own prediction of the enlarged image instead of the label. Both
      flags may be traced.
  """

  def run(classify, x0, labels, key):
    low = area(x0, factor)
    seed = enlarge(low, factor)
    target = jnp.where(blind, classify(seed).argmax(-1), labels)
    gain = lambda x: -cross_entropy(classify(x), target)
    constrain = lambda x: jnp.where(faithful, consistent(x, low, factor), x)
    return synthesis(steps, alpha, eps, constrain)(gain, seed, example_keys(key, len(x0)))

  return run


def paint(
  side: int, eps, steps: int, alpha: float, gain: float = 0.1, weight: float = 90.0
) -> ClassifierAttack:
  """Paints a feature into a random square of each image (section 4): maximises
  gain * r_k(x) - weight * mean(((x_0 - x) (1 - mask))^2), r the representation.

  The classifier is a `representation`, the labels are the units k. The square is that of `cut`
  with the same side and key.

  Args:
    side: of the square, pixels.
    eps, steps, alpha: see `synthesis`.
    gain: weight of the unit.
    weight: of the penalty outside of the square.
  """
  check_number('gain of the unit', gain, above=0)
  check_number('weight of the penalty', weight, 0)

  def run(represent, x0, units, key):
    keys = example_keys(key, len(x0))
    mask = squares(keys, x0.shape[1:], side)

    def worth(x):
      unit = jnp.take_along_axis(represent(x), units[:, None], axis=1)[:, 0]
      return gain * unit - weight * jnp.mean(rows(jnp.square((x0 - x) * (1 - mask))), axis=1)

    return synthesis(steps, alpha, eps)(worth, x0, keys)

  return run
