"""A small network with BatchNorm, one without, and a set whose size no chunk divides."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
import pytest

from jaxdl.core import Model, bind


class ConvNet(nn.Module):
  momentum: float = 0.9

  @nn.compact
  def __call__(self, x, train):
    x = nn.Conv(4, (3, 3), name='conv')(x)
    norm = nn.BatchNorm(use_running_average=not train, momentum=self.momentum, name='norm')
    x = nn.relu(norm(x)).mean((1, 2))
    return nn.Dense(3, name='head')(x), {}


class SmoothNet(nn.Module):
  @nn.compact
  def __call__(self, x, train):
    x = nn.tanh(nn.Dense(4, name='hidden')(x.reshape(len(x), -1)))
    return nn.Dense(3, name='head')(x), {}


class Case(NamedTuple):
  model: Model
  params: Any
  model_state: Any
  images: np.ndarray
  labels: np.ndarray

  @property
  def net(self):
    return self[:3]


def case(module, shape, n=23):
  rng = np.random.default_rng(0)
  model = bind(module, mean=0.5, std=0.25)
  images = rng.integers(0, 256, (n, *shape)).astype(np.uint8)
  params, model_state = jax.jit(model.init)(jax.random.key(0), images[:2] / np.float32(255))
  # Away from zero biases, unit scales and default statistics, where mistakes could hide.
  shake = lambda x: x + rng.uniform(0.05, 0.3, x.shape).astype(np.float32)
  return Case(
    model, jax.tree.map(shake, params), jax.tree.map(shake, model_state), images,
    rng.integers(0, 3, n),
  )


@pytest.fixture(scope='session')
def conv():
  return case(ConvNet(), (5, 5, 2))


@pytest.fixture(scope='session')
def smooth():
  return case(SmoothNet(), (2, 2, 1))
