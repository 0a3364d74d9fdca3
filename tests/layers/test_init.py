import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxdl.layers.init import dirac, uniform_fan_in


@pytest.mark.parametrize(('inputs', 'outputs'), [(3, 3), (3, 7), (5, 2)])
def test_a_dirac_convolution_copies_its_inputs(inputs, outputs):
  kernel = dirac()(jax.random.key(0), (3, 3, inputs, outputs))
  x = jax.random.normal(jax.random.key(1), (2, 6, 5, inputs))
  y = lax.conv_general_dilated(
    x, kernel, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC'), precision='highest'
  )
  same = min(inputs, outputs)
  np.testing.assert_array_equal(y[..., :same], x[..., :same])


def test_the_other_channels_keep_their_initialiser():
  shape = (3, 3, 16, 4096)
  kernel = np.asarray(dirac()(jax.random.key(0), shape))[..., 16:]
  bound = 1 / np.sqrt(9 * 16)
  assert np.abs(kernel).max() <= bound
  assert kernel.std() == pytest.approx(bound / np.sqrt(3), rel=0.01)
  zeros = dirac(jax.nn.initializers.zeros)(jax.random.key(0), (3, 3, 2, 5))
  assert float(jnp.sum(jnp.abs(zeros))) == 2


def test_uniform_fan_in_is_the_uniform_distribution():
  w = np.asarray(uniform_fan_in(jax.random.key(0), (400, 300)))
  assert np.abs(w).max() == pytest.approx(1 / 20, rel=0.01)
  assert w.std() == pytest.approx(1 / 20 / np.sqrt(3), rel=0.01)
