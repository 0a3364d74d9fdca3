"""Recalibrated BatchNorm statistics against float64 NumPy."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from jaxdl.core import bind
from jaxdl.landscape import recalibrate

EPSILON = 1e-5


class TwoNorms(nn.Module):
  momentum: float

  @nn.compact
  def __call__(self, x, train):
    x = x.reshape(len(x), -1)
    norm = lambda name: nn.BatchNorm(
      use_running_average=not train, momentum=self.momentum, epsilon=EPSILON, name=name
    )
    x = nn.relu(norm('first')(x))
    return norm('second')(nn.Dense(3, name='dense')(x)), {}


def build(momentum=0.9, n=12):
  images = np.random.default_rng(3).integers(0, 256, (n, 2, 2, 1)).astype(np.uint8)
  model = bind(TwoNorms(momentum))
  params, state = jax.jit(model.init)(jax.random.key(1), images / np.float32(255))
  return model, params, {**state, 'memory': {'steps': np.arange(3)}}, images


def numpy_statistics(params, images):
  """Mean and variance before each norm, on one batch in train mode."""
  x = images.reshape(len(images), -1).astype(np.float64) / 255
  first = {'mean': x.mean(0), 'var': x.var(0)}
  x = np.maximum((x - first['mean']) / np.sqrt(first['var'] + EPSILON), 0)
  x = x @ np.asarray(params['dense']['kernel'], np.float64) + params['dense']['bias']
  return {'first': first, 'second': {'mean': x.mean(0), 'var': x.var(0)}}


def close(a, b):
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=5e-5, atol=1e-5), a, b)


@pytest.mark.parametrize('momentum', [0.0, 0.9, 0.99])
def test_one_chunk_gives_the_batch_statistics_exactly(momentum):
  model, params, state, images = build(momentum)
  new = recalibrate(model, params, state, images)
  close(new['batch_stats'], numpy_statistics(params, images))
  np.testing.assert_array_equal(new['memory']['steps'], np.arange(3))


def test_the_old_statistics_leave_no_trace():
  model, params, state, images = build()
  elsewhere = jax.tree.map(lambda s: 100 + 7 * s, state['batch_stats'])
  a = recalibrate(model, params, state, images)
  b = recalibrate(model, params, {**state, 'batch_stats': elsewhere}, images)
  jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize('chunk', [4, 8])
def test_chunks_are_pooled(chunk):
  model, params, state, images = build()
  new = recalibrate(model, params, state, images, chunk=chunk)['batch_stats']
  # Nothing normalised by a chunk's own statistics comes before the first norm: the whole is exact.
  close(new['first'], numpy_statistics(params, images)['first'])
  parts = [images[i : i + chunk] for i in range(0, len(images), chunk)]
  weights = np.array([len(p) for p in parts]) / len(images)
  means, variances = zip(
    *((s['mean'], s['var']) for s in (numpy_statistics(params, p)['second'] for p in parts)),
    strict=True,
  )
  mean = weights @ np.stack(means)
  close(new['second'], {
    'mean': mean, 'var': weights @ (np.stack(variances) + (np.stack(means) - mean) ** 2)
  })


def test_a_model_without_batch_statistics_is_left_alone(smooth):
  assert recalibrate(*smooth.net, smooth.images) == {}
