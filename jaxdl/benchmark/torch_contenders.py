"""PyTorch at work: the same networks and the same work as `jax_contenders`, by its own means."""

import copy

import numpy as np
import torch
import torch.nn.functional as F

from jaxdl.benchmark import torch_attacks
from jaxdl.benchmark.torch_networks import create
from jaxdl.benchmark.torch_set_up import (
  LAYOUTS,
  autocast,
  facts,
  finish,
  to_device,
  use_device,
)
from jaxdl.benchmark.work import Work


def train(
  model, batch_size, image=(32, 32, 3), classes=10, dtype='float32', layout='NHWC',
  compiled=False, source='fixed', examples=10_000, workers=0,
) -> Work:
  """Updates of a network: SGD with momentum and weight decay, as in `jax_contenders.SGD`.

  Args:
    model: `name`.
    batch_size: images per update.
    image: [H, W, C].
    classes: K.
    dtype: 'bfloat16' is autocast.
    layout: 'NHWC' (channels_last) or 'NCHW'.
    compiled: torch.compile.
    source: 'fixed' (the same batch again) or 'loader' (a DataLoader).
    examples: in the set of the latter.
    workers: processes of the latter.
  """
  device = use_device()
  network = create(model['name'], image[-1], classes).to(device, memory_format=LAYOUTS[layout])
  forward = torch.compile(network) if compiled else network
  optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
  if source == 'loader':
    batches = _endless(_loader(examples, image, classes, batch_size, workers, pad=4))
  elif source == 'fixed':
    fixed = _batch(batch_size, image, classes, device, layout)
    batches = iter(lambda: fixed, None)
  else:
    raise ValueError(f"source must be 'fixed' or 'loader', not {source!r}.")

  def run(n):
    for _ in range(n):
      x, y = next(batches)
      x = x.to(device, memory_format=LAYOUTS[layout], non_blocking=True)
      optimizer.zero_grad(set_to_none=True)
      with autocast(device, dtype):
        loss = F.cross_entropy(forward(x), y.to(device, non_blocking=True))
      loss.backward()
      optimizer.step()
    finish(device)
    return loss

  loss = run(1)
  run(1)
  return Work(run, batch_size, {**facts(device), 'loss': float(loss.detach())})


def predict(
  model, batch_size, image=(32, 32, 3), classes=10, dtype='float32', layout='NHWC',
  frozen=False, compiled=False,
) -> Work:
  """The logits of a batch of uint8 images in eval mode.

  Args:
    frozen: traced, batch norm folded into the convolutions, optimised for inference.
  """
  device = use_device()
  network = create(model['name'], image[-1], classes).to(device, memory_format=LAYOUTS[layout])
  network.eval()
  x, _ = _batch(batch_size, image, classes, device, layout)
  raw = (x * 255).to(torch.uint8)
  with torch.inference_mode(), autocast(device, dtype):
    if frozen:
      network = torch.jit.optimize_for_inference(torch.jit.trace(copy.deepcopy(network), x))
    if compiled:
      network = torch.compile(network)

  def run(n):
    with torch.inference_mode(), autocast(device, dtype):
      for _ in range(n):
        network(raw.to(torch.float32) / 255)
    finish(device)

  run(3)
  return Work(run, batch_size, facts(device))


def loader_input(
  batch_size, image=(32, 32, 3), classes=10, examples=10_000, pad=4, workers=0
) -> Work:
  """Augmented batches from a DataLoader, without any training."""
  batches = _endless(_loader(examples, image, classes, batch_size, workers, pad))

  def run(n):
    for _ in range(n):
      next(batches)

  run(8)
  return Work(run, batch_size, facts(torch.device('cpu')))


class Noise(torch.utils.data.Dataset):
  """uint8 noise, padded, cropped and flipped image by image, as a transform of a Dataset is."""

  def __init__(self, examples, image, classes, pad):
    rng = np.random.default_rng(0)
    self.images = torch.from_numpy(rng.integers(0, 256, (examples, *image), np.uint8))
    self.labels = torch.from_numpy(rng.integers(0, classes, examples))
    self.pad = pad

  def __len__(self):
    return len(self.labels)

  def __getitem__(self, i):
    x = self.images[i].permute(2, 0, 1).to(torch.float32) / 255
    height, width = x.shape[1:]
    top, left = torch.randint(0, 2 * self.pad + 1, (2,)).tolist()
    x = F.pad(x, (self.pad,) * 4)[:, top : top + height, left : left + width]
    return (x.flip(-1) if torch.rand(()) < 0.5 else x), self.labels[i]


def _loader(examples, image, classes, batch_size, workers, pad):
  return torch.utils.data.DataLoader(
    Noise(examples, image, classes, pad), batch_size, shuffle=True, drop_last=True,
    num_workers=workers, persistent_workers=workers > 0, pin_memory=torch.cuda.is_available(),
  )


def _endless(loader):
  while True:
    yield from loader


def _batch(batch_size, image, classes, device, layout):
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (batch_size, *image), np.uint8)
  return to_device(images, rng.integers(0, classes, batch_size), device, layout)


CONTENDERS = {
  'train': train, 'predict': predict, 'input': loader_input, **torch_attacks.CONTENDERS,
}
