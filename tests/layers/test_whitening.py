import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxdl.layers.whitening import patches, whitening_kernel


def correlated_images(n=60, size=9, channels=3, seed=0):
  """Smooth images whose channels go together, as in photographs."""
  rng = np.random.default_rng(seed)
  x = rng.standard_normal((n, size + 2, size + 2, channels))
  x = x[:, :-2, :-2] + x[:, 1:-1, 1:-1] + x[:, 2:, 2:]
  mix = np.eye(channels) + 0.9
  return (0.5 * x @ mix).astype(np.float32)


def numpy_patches(images, side):
  n, h, w, c = images.shape
  windows = np.lib.stride_tricks.sliding_window_view(images, (side, side), axis=(1, 2))
  return np.moveaxis(windows, 3, 5).reshape(n, (h - side + 1) * (w - side + 1), side * side * c)


@pytest.mark.parametrize('side', [1, 2, 3])
def test_patches_are_the_windows(side):
  images = correlated_images(4, 7, 2)
  np.testing.assert_array_equal(patches(jnp.asarray(images), side), numpy_patches(images, side))


def whitened(images, kernel):
  return lax.conv_general_dilated(
    images, kernel, (1, 1), 'VALID', dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    precision='highest',
  )


@pytest.mark.parametrize('side', [2, 3])
def test_outputs_are_white(side):
  images = correlated_images()
  kernel = jax.jit(lambda x: whitening_kernel(x, side, epsilon=0.0))(images)
  d = side * side * 3
  assert kernel.shape == (side, side, 3, 2 * d)
  y = np.asarray(whitened(images, kernel), np.float64).reshape(-1, 2 * d)
  np.testing.assert_allclose(y[:, :d].T @ y[:, :d] / len(y), np.eye(d), atol=2e-3)
  np.testing.assert_allclose(y[:, d:], -y[:, :d], atol=1e-5)


@pytest.mark.parametrize('epsilon', [5e-4, 0.3])
def test_equals_the_eigenvectors_of_numpy_in_float64(epsilon):
  images = correlated_images()
  x = numpy_patches(images.astype(np.float64), 2).reshape(-1, 12)
  values, vectors = np.linalg.eigh(x.T @ x / len(x))
  expected = (vectors / np.sqrt(values + epsilon))[:, ::-1]
  kernel = np.asarray(whitening_kernel(images, 2, epsilon)).reshape(12, 24)[:, :12]
  signs = np.sign((kernel * expected).sum(0))  # an eigenvector's sign is free
  np.testing.assert_allclose(kernel * signs, expected, rtol=1e-3, atol=2e-3)
  y = x @ kernel
  np.testing.assert_allclose(
    (y**2).mean(0), values[::-1] / (values[::-1] + epsilon), rtol=1e-3
  )


def test_flat_images_stay_finite():
  for images in (jnp.zeros((3, 4, 4, 3)), jnp.ones((3, 4, 4, 3))):
    assert bool(jnp.isfinite(whitening_kernel(images)).all())


@pytest.mark.parametrize('shape', [(4, 4, 3), (2, 1, 4, 3)])
def test_images_that_hold_no_patch_are_refused(shape):
  with pytest.raises(ValueError, match='Patches of 2 x 2'):
    whitening_kernel(jnp.zeros(shape))
