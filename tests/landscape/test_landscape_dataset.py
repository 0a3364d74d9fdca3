"""Set means, gradients and Hessian products against one undivided batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl.core import Model
from jaxdl.landscape import (
  evaluate_arrays,
  hessian_vector_product,
  loss_and_grad,
  mean_loss_and_grad,
  mean_metrics,
)

CHUNKS = [1, 4, 22, 23, 100]


def close(a, b, rtol=1e-4):
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=1e-6), a, b)


def numpy_metrics(case, params=None):
  params = case.params if params is None else params
  x = case.images.astype(np.float32) / 255
  logits = jax.jit(case.model.apply)(params, case.model_state, x)[0][0]
  logits = np.asarray(logits, np.float64)
  log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
  rows = np.arange(len(x))
  return {
    'loss': -log_p[rows, case.labels].mean(), 'accuracy': (logits.argmax(-1) == case.labels).mean()
  }


def whole_batch_loss(case):
  x = case.images.astype(np.float32) / 255

  def loss(params):
    log_p = jax.nn.log_softmax(case.model.apply(params, case.model_state, x)[0][0])
    return -jnp.take_along_axis(log_p, case.labels[:, None], 1).mean()

  return loss


@pytest.mark.parametrize('chunk', CHUNKS)
def test_means_are_exact_for_any_chunk(conv, chunk):
  expected = numpy_metrics(conv)
  assert 0 < expected['accuracy'] < 1
  close(evaluate_arrays(conv.model)(*conv[1:], chunk=chunk), expected, rtol=1e-5)


def test_float_images_soft_labels_and_jax_arrays_are_the_same_set(conv):
  expected = numpy_metrics(conv)
  evaluate = evaluate_arrays(conv.model)
  floats = jnp.asarray(conv.images, jnp.float32) / 255
  soft = np.eye(3, dtype=np.float32)[conv.labels]
  close(evaluate(*conv.net[1:], floats, jnp.asarray(conv.labels), chunk=5), expected, rtol=1e-5)
  close(evaluate(*conv.net[1:], conv.images, soft, chunk=5), expected, rtol=1e-5)


@pytest.mark.parametrize('chunk', [4, 23])
def test_gradients_are_those_of_one_batch(conv, chunk):
  value, expected = jax.jit(jax.value_and_grad(whole_batch_loss(conv)))(conv.params)
  loss, grads = loss_and_grad(conv.model)(*conv[1:], chunk=chunk)
  close((loss, grads), (value, expected))
  differentiated = jax.jit(
    jax.grad(lambda p: mean_metrics(conv.model, p, *conv[2:], chunk=chunk)['loss'])
  )(conv.params)
  close(differentiated, expected)


def test_custom_losses_reach_every_function(smooth):
  margin = lambda logits, labels: logits[:, 0] ** 2
  x = smooth.images.astype(np.float32) / 255
  whole = lambda p: jnp.mean(smooth.model.apply(p, {}, x)[0][0][:, 0] ** 2)
  value, grads = jax.jit(jax.value_and_grad(whole))(smooth.params)
  close(mean_metrics(*smooth, chunk=6, loss=margin)['loss'], value)
  close(mean_loss_and_grad(*smooth, chunk=6, loss=margin), (value, grads))


@pytest.mark.parametrize('chunk', [4, 23])
def test_hessian_vector_product_is_the_hessian_times_the_vector(smooth, chunk):
  flat, unravel = jax.flatten_util.ravel_pytree(smooth.params)
  hessian = jax.jit(jax.hessian(lambda w: whole_batch_loss(smooth)(unravel(w))))(flat)
  vector = np.random.default_rng(1).normal(size=flat.shape).astype(np.float32)
  product = jax.jit(lambda v: hessian_vector_product(*smooth, v, chunk=chunk))(
    unravel(jnp.asarray(vector))
  )
  close(jax.flatten_util.ravel_pytree(product)[0], hessian @ vector)


def test_new_values_do_not_trace_again(conv):
  traces = []

  def apply(*args, **kwargs):
    traces.append(1)
    return conv.model.apply(*args, **kwargs)

  model = Model(conv.model.init, apply)
  first = evaluate_arrays(model)(*conv[1:], chunk=5)
  once = len(traces)
  other = evaluate_arrays(model)(
    jax.tree.map(lambda w: 2 * w, conv.params), *conv[2:4], (conv.labels + 1) % 3, chunk=5
  )
  assert len(traces) == once
  assert first['loss'] != other['loss']


def test_wrong_sets_are_refused(conv):
  with pytest.raises(ValueError, match='23 images and 22 labels'):
    mean_metrics(*conv.net, conv.images, conv.labels[1:])
  with pytest.raises(ValueError, match='0 images'):
    mean_metrics(*conv.net, conv.images[:0], conv.labels[:0])
  with pytest.raises(ValueError, match='chunk is 0'):
    mean_metrics(*conv, chunk=0)
