"""A step of SimCLR, and the supervised step of as many forward and backward passes."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl import cpu, models, parallel
from jaxdl.augment import simclr_augment, two_views
from jaxdl.benchmark.jax_contenders import SGD
from jaxdl.benchmark.set_up import random_split
from jaxdl.benchmark.work import Work
from jaxdl.core import bind, init_state
from jaxdl.data.pipeline import unit_range
from jaxdl.models.projected import Projected
from jaxdl.objectives import simclr, supervised
from jaxdl.optim import build
from jaxdl.train.step import grad_step


def contrast(
  model, batch_size, image=(32, 32, 3), classes=10, dtype='float32', method='simclr', augment=True,
) -> Work:
  """Updates on two views of each image.

  Args:
    model: `name` and the network's own options.
    batch_size: B, images per update; the work counts B of them, whatever is computed of each.
    image: [H, W, C].
    classes: K.
    dtype: that of the computation.
    method: 'simclr' (projections of 128 numbers), or 'supervised': the network, on 2 B images.
    augment: whether SimCLR's two views are drawn; otherwise they come with the batch.
  """
  cpu.install()
  parallel.configure(devices=0)
  layout, contrastive = parallel.layout(batch_size), method == 'simclr'
  options = {'dtype': jnp.dtype(dtype), **model}
  network = models.create(options.pop('name'), classes, **options)
  heads = Projected(network, (512, 128)) if contrastive else network
  bound, tx = bind(heads, mean=0.5, std=0.25), build(SGD, 1000)
  images = batch_size if contrastive else 2 * batch_size
  split = random_split(images, image, classes)
  batch = {'image': unit_range(split.images), 'label': split.labels,
           'index': np.arange(images, dtype=np.int32)}
  transform = two_views(simclr_augment()) if augment else _same_twice
  objective = simclr(bound.apply) if contrastive else supervised(bound.apply)
  step = grad_step(objective, tx, transform=transform if contrastive else None)
  init = lambda: init_state(bound.init, tx, jax.random.key(0), jnp.zeros((1, *image)))
  state, batch = layout.replicate(jax.jit(init)()), jax.device_put(layout.split(batch))
  update, device = parallel.compile_step(step, layout), jax.devices()[0]

  def run(n):
    nonlocal state
    for _ in range(n):
      state, _ = update(state, batch)
    jax.block_until_ready(state)

  run(2)
  facts = {'version': f'jax {jax.__version__}',
           'device': f'{device.platform} {device.device_kind}'}
  return Work(run, batch_size, facts)


def _same_twice(params, model_state, batch, key, frozen):
  return {**batch, 'views': jnp.stack([batch['image'], batch['image'][::-1]])}


CONTENDERS = {'step': contrast}
