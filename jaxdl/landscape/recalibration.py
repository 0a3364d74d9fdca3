"""Batch statistics recomputed for weights that were moved after training."""

import functools

import jax
import jax.numpy as jnp

from jaxdl.data.pipeline import unit_range


def recalibrate(model, params, model_state, images, *, chunk=500, key=None):
  """BatchNorm's running statistics, recomputed from given training images alone.

  Each chunk passes in train mode; the statistics it saw are recovered from the running average,
  which is linear in both: `new = m * old + (1 - m) * batch`, with `m` read off by two probes of
  different `old`. Chunks are pooled by the law of total variance, so with one chunk (the default
  for 500 images) the result is exactly the statistics of that batch.

  Args:
    model: a `jaxdl.core.Model`.
    params: its (perturbed, quantised, pruned) parameters.
    model_state: its state. Only the collection `batch_stats` changes; without one, nothing does.
    images: uint8 [N, H, W, C] or float in [0, 1]; 500 training images are enough for CIFAR.
    chunk: images per train-mode pass. The last chunk may be smaller and weighs less.
    key: for models with dropout.

  Returns:
    The new model state.
  """
  return _recalibrate(model, params, model_state, images, key, chunk=chunk)


@functools.partial(jax.jit, static_argnames=('model', 'chunk'))
def _recalibrate(model, params, model_state, images, key, *, chunk):
  if not model_state.get('batch_stats'):
    return model_state
  images = jnp.asarray(images)
  n = len(images)
  chunk = min(chunk, n)
  whole = n // chunk

  def updated(old, x):
    _, state = model.apply(
      params, {**model_state, 'batch_stats': old}, unit_range(x), train=True, key=key
    )
    return state['batch_stats']

  zeros = jax.tree.map(jnp.zeros_like, model_state['batch_stats'])
  probe = images[: min(n, 8)]
  base = updated(zeros, probe)
  # A probe far above the batch's own statistics, so that its difference is exact to rounding.
  large = jax.tree.map(lambda b: 1 + 1e3 * jnp.abs(b), base)
  fresh = jax.tree.map(lambda b, l, u: 1 - (u - b) / l, base, large, updated(large, probe))

  def statistics(x):
    return jax.tree.map(jnp.divide, updated(zeros, x), fresh)

  chunks = images[: whole * chunk].reshape(whole, chunk, *images.shape[1:])
  stacked = jax.lax.map(statistics, chunks)
  weights = jnp.full(whole, chunk / n, jnp.float32)
  if whole * chunk < n:
    last = statistics(images[whole * chunk :])
    stacked = jax.tree.map(lambda s, l: jnp.concatenate([s, l[None]]), stacked, last)
    weights = jnp.append(weights, 1 - whole * chunk / n)
  return {**model_state, 'batch_stats': _pooled(stacked, weights)}


def _pooled(stacked, weights):
  """Means and variances of chunks [chunks, C] to those of the whole, layer by layer."""
  average = lambda s: jnp.tensordot(weights, s, 1)
  if 'mean' not in stacked or 'var' not in stacked:
    return {
      name: _pooled(s, weights) if isinstance(s, dict) else average(s)
      for name, s in stacked.items()
    }
  mean = average(stacked['mean'])
  return {**jax.tree.map(average, stacked), 'mean': mean,
          'var': average(stacked['var'] + (stacked['mean'] - mean) ** 2)}
