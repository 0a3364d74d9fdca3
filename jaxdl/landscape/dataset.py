"""Exact means, and their gradients, over a whole set of images in bounded memory.

The set is an argument (uint8 stays uint8 until its chunk is reached) and is walked by one
`lax.scan`, so each function is one compilation for one (model, set size, chunk). The plain
functions trace into any `jit` of the caller; `evaluate_arrays` is jitted already.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from jaxdl.data.pipeline import unit_range
from jaxdl.losses.classification import correct, cross_entropy


def sum_over_chunks(f, images, labels, chunk):
  """The sum of `f` over a set, chunk by chunk.

  The last chunk is moved back so that it ends with the set, and the examples it shares with the
  one before weigh zero: every chunk has the same shape and nothing is padded or copied.

  Args:
    f: (x float [chunk, ...], y [chunk, ...], weight float32 [chunk]) -> tree of arrays, the
      weighted sums over its chunk.
    images: uint8 or float [N, ...].
    labels: [N, ...].
    chunk: examples per call of `f`; more than N means N.

  Returns:
    The tree of `f`, summed.

  Raises:
    ValueError: an empty set, unequal lengths or a chunk below 1.
  """
  images, labels = jnp.asarray(images), jnp.asarray(labels)
  n = len(images)
  if n == 0 or len(labels) != n:
    raise ValueError(f'{n} images and {len(labels)} labels: pass as many labels as images, not 0.')
  if chunk < 1:
    raise ValueError(f'chunk is {chunk}: pass the number of examples per pass, 1 or more.')
  chunk = min(chunk, n)

  def one(i):
    start = jnp.minimum(i * chunk, n - chunk)
    x = unit_range(lax.dynamic_slice_in_dim(images, start, chunk))
    y = lax.dynamic_slice_in_dim(labels, start, chunk)
    fresh = start + jnp.arange(chunk) >= i * chunk
    return f(x, y, fresh.astype(jnp.float32))

  def body(total, i):
    return jax.tree.map(jnp.add, total, one(i)), None

  zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(one, 0))
  return lax.scan(body, zeros, jnp.arange(-(-n // chunk)))[0]


def mean_metrics(model, params, model_state, images, labels, *, chunk=125, loss=cross_entropy):
  """Mean loss and accuracy over a set, the model in eval mode.

  Differentiable in `params`; the chunks are rematerialised, so memory does not grow with N
  (`mean_loss_and_grad` saves that second forward pass).

  Args:
    model: a `jaxdl.core.Model` whose outputs are `(logits, features)`.
    params: its parameters.
    model_state: its state (batch statistics).
    images: uint8 [N, H, W, C], or float in [0, 1].
    labels: int [N] or float [N, K].
    chunk: examples per forward pass. The default is the fastest for CIFAR networks on a CPU; an
      accelerator wants 1,000 and more.
    loss: (logits [B, K], labels) -> [B].

  Returns:
    `{'loss': float scalar, 'accuracy': float scalar in [0, 1]}`.
  """

  metrics = {'loss': loss, 'accuracy': correct}
  return _means(model, params, model_state, images, labels, metrics, chunk)


def mean_loss(model, params, model_state, images, labels, *, chunk=125, loss=cross_entropy):
  """The loss of `mean_metrics` alone: the labels may be anything that `loss` takes."""
  return _means(model, params, model_state, images, labels, {'loss': loss}, chunk)['loss']


def mean_loss_and_grad(
  model, params, model_state, images, labels, *, chunk=125, loss=cross_entropy
):
  """The mean loss over a set and its gradient in the parameters, from per-chunk gradients.

  Args:
    model: as in `mean_metrics`, and so are the others.

  Returns:
    (float scalar, tree like `params`).
  """

  def sums(x, y, weight):
    return jax.value_and_grad(_weighted_loss(model, model_state, loss, x, y, weight))(params)

  return jax.tree.map(lambda s: s / len(images), sum_over_chunks(sums, images, labels, chunk))


def hessian_vector_product(
  model, params, model_state, images, labels, vector, *, chunk=125, loss=cross_entropy
):
  """The Hessian of the mean loss times a vector, forward over reverse, chunk by chunk.

  Args:
    model: as in `mean_metrics`, and so are the others.
    vector: tree like `params`.

  Returns:
    A tree like `params`.
  """

  def sums(x, y, weight):
    gradient = jax.grad(_weighted_loss(model, model_state, loss, x, y, weight))
    return jax.jvp(gradient, (params,), (vector,))[1]

  return jax.tree.map(lambda s: s / len(images), sum_over_chunks(sums, images, labels, chunk))


def _means(model, params, model_state, images, labels, metrics, chunk):
  @functools.partial(jax.checkpoint, prevent_cse=False)
  def sums(x, y, weight):
    (logits, _), _ = model.apply(params, model_state, x, train=False)
    return {name: jnp.sum(metric(logits, y) * weight) for name, metric in metrics.items()}

  return jax.tree.map(lambda s: s / len(images), sum_over_chunks(sums, images, labels, chunk))


def _weighted_loss(model, model_state, loss, x, y, weight):
  def of(params):
    (logits, _), _ = model.apply(params, model_state, x, train=False)
    return jnp.sum(loss(logits, y) * weight)

  return of


_static = functools.partial(jax.jit, static_argnames=('model', 'chunk', 'loss'))
_mean_metrics = _static(mean_metrics)
_mean_loss_and_grad = _static(mean_loss_and_grad)


def evaluate_arrays(model, *, loss=cross_entropy):
  """`mean_metrics` of one model, jitted.

  Returns:
    (params, model_state, images, labels, chunk=125) -> `{'loss', 'accuracy'}`. Asking again for
    the same model does not compile again.
  """
  return functools.partial(_mean_metrics, model, loss=loss)


def loss_and_grad(model, *, loss=cross_entropy):
  """`mean_loss_and_grad` of one model, jitted.

  Returns:
    (params, model_state, images, labels, chunk=125) -> (loss, gradient tree).
  """
  return functools.partial(_mean_loss_and_grad, model, loss=loss)
