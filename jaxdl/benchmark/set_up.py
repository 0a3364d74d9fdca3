"""What all JAX contenders begin with: the devices that share the work, and a batch of noise."""

import jax
import numpy as np

from jaxdl import cpu, parallel
from jaxdl.data.dataset import Split
from jaxdl.data.pipeline import unit_range


def use(rule: bool, devices: int, batch_size: int) -> parallel.Layout:
  """The layout for a batch; `rule` and `devices` as of `jax_contenders.train`."""
  (cpu.install if rule else cpu.uninstall)()
  if devices == 1:
    return parallel.Layout()
  parallel.configure(devices=devices)
  return parallel.layout(batch_size)


def random_split(examples: int, image, classes: int) -> Split:
  """uint8 noise [examples, *image] with labels: what it shows does not change the work."""
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (examples, *image), np.uint8)
  return Split(images, rng.integers(0, classes, examples).astype(np.int32), {})


def batch_of(split: Split) -> dict:
  """The whole split as one batch."""
  index = np.arange(len(split.labels), dtype=np.int32)
  images = unit_range(split.images)
  return {'image': images, 'label': split.labels, 'index': index, **split.extras}


def facts() -> dict:
  device = jax.devices()[0]
  return {'version': f'jax {jax.__version__}', 'device': f'{device.platform} {device.device_kind}'}
