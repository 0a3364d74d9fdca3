"""A tiny network with batch norm and dropout, and a tiny set, for tests of the training code."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.core import bind, init_state
from jaxdl.data.dataset import make_split
from jaxdl.data.pipeline import resident
from jaxdl.objectives import supervised
from jaxdl.optim import build
from jaxdl.train.step import grad_step


class Net(nn.Module):
  width: int = 8
  norm: bool = True
  dropout: float = 0.0

  @nn.compact
  def __call__(self, x, train=False):
    x = x.reshape(len(x), -1)
    x = nn.Dense(self.width, name='hidden')(x)
    if self.norm:
      x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
    x = nn.Dropout(self.dropout, deterministic=not train)(nn.relu(x))
    return nn.Dense(3, name='head')(x), {'pooled': x}


def split(n=40, seed=0):
  rng = np.random.default_rng(seed)
  labels = rng.integers(0, 3, n)
  images = rng.integers(0, 100, (n, 4, 4, 1)) + 70 * labels[:, None, None, None]
  return make_split(images.astype(np.uint8), labels.astype(np.int32))


def setup(optimizer=None, steps=12, seed=0, objective=None, transform=None, **net):
  """(init, step, data, model) of a run of `steps` updates."""
  model = bind(Net(**net), mean=0.5, std=0.25)
  tx = build(optimizer or {'name': 'sgd', 'lr': 0.1, 'momentum': 0.9}, steps)
  init = lambda: init_state(model.init, tx, jax.random.key(seed), jnp.zeros((1, 4, 4, 1)))
  step = grad_step(objective or supervised(model.apply), tx, transform=transform)
  return init, step, resident(split(), 8, seed), model
