import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from jaxdl.core import Model
from jaxdl.train.evaluate import predict
from jaxdl.train.tta import CENTRE, translate, with_views


def linear(params, model_state, x, *, train=False, key=None):
  logits = x.reshape(len(x), -1) @ params
  return (logits, {'pooled': x}), model_state


MODEL = Model(None, linear)


def views(image):
  """(weight, image) of the six views of one image [H, W, C], by NumPy."""
  h, w, _ = image.shape
  padded = np.pad(image, ((1, 1), (1, 1), (0, 0)), mode='reflect')
  shifted = [(0.5, image), (0.25, padded[2:, 2:]), (0.25, padded[:h, :w])]
  return [(a / 2, v) for a, s in shifted for v in (s, s[:, ::-1])]


def test_equals_the_weighted_views_of_numpy():
  rng = np.random.default_rng(0)
  x, w = rng.random((5, 6, 7, 2)).astype(np.float32), rng.standard_normal((84, 3))
  tta = with_views(MODEL)
  (logits, _), _ = jax.jit(tta.apply)(jnp.asarray(w, jnp.float32), {}, jnp.asarray(x))
  expected = [sum(a * (v.ravel() @ w) for a, v in views(image)) for image in x]
  np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)


def test_a_mirrored_image_gets_the_same_answer():
  rng = np.random.default_rng(1)
  x, w = jnp.asarray(rng.random((5, 6, 7, 2))), jnp.asarray(rng.standard_normal((84, 3)))
  tta = with_views(MODEL, CENTRE)
  answer = lambda x: np.asarray(tta.apply(w, {}, x)[0][0])
  np.testing.assert_allclose(answer(x), answer(x[:, :, ::-1]), rtol=1e-5, atol=1e-5)
  plain = with_views(MODEL, CENTRE, mirror=False)
  np.testing.assert_allclose(
    plain.apply(w, {}, x)[0][0], linear(w, {}, x)[0][0], rtol=1e-5, atol=1e-5
  )


def test_translation_moves_the_content_and_reflects_at_the_edge():
  x = jnp.arange(12.0).reshape(1, 3, 4, 1)
  down = np.asarray(translate(x, 1, 0))[0, :, :, 0]
  np.testing.assert_array_equal(down, [[4, 5, 6, 7], [0, 1, 2, 3], [4, 5, 6, 7]])
  left = np.asarray(translate(x, 0, -1))[0, 0, :, 0]
  np.testing.assert_array_equal(left, [1, 2, 3, 2])
  assert translate(x, 0, 0) is x


def test_whole_set_with_a_network_in_eval_mode():
  init, _, _, model = tiny.setup()
  state, images = jax.jit(init)(), tiny.split(30).images
  tta = with_views(model)
  logits = predict(tta, state.params, state.model_state, images, chunk=8)
  scaled = images.astype(np.float32) / 255
  ask = lambda x: np.asarray(
    model.apply(state.params, state.model_state, jnp.asarray(x[None]))[0][0]
  )[0]
  expected = [sum(a * ask(np.ascontiguousarray(v)) for a, v in views(x)) for x in scaled]
  np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


def test_mistakes_are_explained():
  with pytest.raises(ValueError, match='sum to 1'):
    with_views(MODEL, ((0.5, 0, 0),))
  with pytest.raises(ValueError, match='train must be False'):
    with_views(MODEL).apply(None, {}, jnp.zeros((1, 4, 4, 1)), train=True)
