"""A first convolution whose outputs are uncorrelated over the patches of natural images.

Jordan 2024 (arXiv 2404.00498), section 3.1, after Page's and tysam-code's speed runs: the kernels
are the eigenvectors of the covariance of small patches, each divided by the square root of its
eigenvalue, and their negatives. They are computed once and stay as they are.
"""

import itertools

import jax
import jax.numpy as jnp

EPSILON = 5e-4


def patches(images, side: int = 2):
  """All windows of images [N, H, W, C]: [N, (H - side + 1)(W - side + 1), side^2 C].

  A window's entries are in the order of a kernel [side, side, C, .]: row, column, channel.

  Raises:
    ValueError: images of another rank, or smaller than a window.
  """
  if images.ndim != 4 or min(images.shape[1:3]) < side:
    raise ValueError(
      f'Patches of {side} x {side} pixels need images [N, H, W, C] of at least that size, got '
      f'{tuple(images.shape)}.'
    )
  n, height, width, channels = images.shape
  rows, columns = height - side + 1, width - side + 1
  shifted = [
    images[:, i : i + rows, j : j + columns]
    for i, j in itertools.product(range(side), range(side))
  ]
  return jnp.concatenate(shifted, axis=-1).reshape(n, rows * columns, side * side * channels)


def whitening_kernel(images, side: int = 2, epsilon: float = EPSILON):
  """The convolution kernel [side, side, C, 2 side^2 C] that whitens the patches of images.

  The second moment of a patch is taken about zero, so images should be normalised. With D = side^2
  C, outputs 0..D-1 of a convolution without padding have second moment l / (l + epsilon) each (l
  the eigenvalue, largest first) and no correlation; outputs D..2D-1 are their negatives, so that a
  rectifier after it loses nothing.

  Args:
    images: float [N, H, W, C], normalised.
    side: of the window, in pixels.
    epsilon: added to the eigenvalues, so that directions with almost no variance are not blown up.

  Raises:
    ValueError: see `patches`.
  """
  x = patches(images, side)
  # Image by image: one float32 sum over millions of patches would lose the small eigenvalues.
  moment = jax.lax.map(
    lambda p: jnp.matmul(p.T, p, precision='highest') / len(p), x, batch_size=min(len(x), 100)
  ).mean(0)
  values, vectors = jnp.linalg.eigh(moment)
  columns = (vectors / jnp.sqrt(jnp.maximum(values, 0) + epsilon))[:, ::-1]
  kernel = jnp.concatenate([columns, -columns], axis=1)
  return kernel.reshape(side, side, images.shape[-1], kernel.shape[1])
