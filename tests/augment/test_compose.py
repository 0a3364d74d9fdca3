import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.augment import compose


def noise(params, model_state, batch, key, frozen):
  return {**batch, 'image': batch['image'] + jax.random.normal(key, batch['image'].shape)}


def double(params, model_state, batch, key, frozen):
  return {**batch, 'image': 2 * batch['image']}


def shift(params, model_state, batch, key, frozen):
  return {**batch, 'image': batch['image'] + params['shift'] + model_state + frozen}


BATCH = {'image': jnp.ones((2, 3, 3, 1)), 'label': jnp.arange(2)}
KEY = jax.random.key(3)


def test_from_left_to_right_with_all_arguments():
  arguments = ({'shift': 1.0}, 10.0, BATCH, KEY, 100.0)
  assert (compose(double, shift)(*arguments)['image'] == 113).all()
  assert (compose(shift, double)(*arguments)['image'] == 224).all()


def test_equal_transforms_draw_different_numbers():
  out = compose(noise, noise)(None, None, BATCH, KEY, None)['image']
  first, second = (jax.random.normal(jax.random.fold_in(KEY, i), (2, 3, 3, 1)) for i in range(2))
  np.testing.assert_allclose(out, 1 + first + second, rtol=1e-6)
  assert (first != second).all()


def test_a_later_transform_does_not_change_an_earlier_ones_numbers():
  alone = compose(noise)(None, None, BATCH, KEY, None)['image']
  followed = compose(noise, double)(None, None, BATCH, KEY, None)['image']
  np.testing.assert_array_equal(2 * alone, followed)


def test_without_transforms_the_batch_passes():
  assert compose()(None, None, BATCH, KEY, None) is BATCH
