"""Exact evaluation: every example once, whatever the batch size."""

import functools

import jax
import numpy as np
import scipy.special

from jaxdl import parallel
from jaxdl.core import Model
from jaxdl.data.pipeline import unit_range
from jaxdl.train import interrupt


@functools.lru_cache(maxsize=8)
def _forward(apply, layout):
  @functools.partial(jax.jit, out_shardings=layout.everywhere if layout.count > 1 else None)
  def forward(params, model_state, images):
    (logits, _), _ = apply(params, model_state, unit_range(images), train=False)
    return logits

  return forward


def predict(model: Model, params, model_state, images, chunk: int = 500) -> np.ndarray:
  """Logits [N, K] of images [N, H, W, C] (uint8, or float in [0, 1]), batch norm in eval mode."""
  n = len(images)
  if n == 0:
    raise ValueError('There are no images to evaluate on.')
  chunk = min(chunk, n)
  layout = parallel.evaluation_layout(chunk)
  chunk += -chunk % layout.count
  forward = _forward(model.apply, layout)
  params, model_state = layout.replicate((params, model_state))
  out = []
  for start in range(0, n, chunk):
    part = np.asarray(images[start : start + chunk])
    padded = np.concatenate([part, np.zeros((chunk - len(part), *part.shape[1:]), part.dtype)])
    interrupt.poll()
    out.append(forward(params, model_state, layout.scatter(padded)))
    jax.block_until_ready(out[-2:-1])  # run at most one chunk ahead, so that a stop is prompt
  return np.concatenate(jax.device_get(out))[:n]


def classification(logits, labels) -> dict[str, float]:
  """Mean cross-entropy (nats) and accuracy, in float64 on the host.

  Args:
    logits: [N, K].
    labels: int [N].
  """
  log_p = scipy.special.log_softmax(np.asarray(logits, np.float64), axis=-1)
  labels = np.asarray(labels)
  return {
    'loss': float(-log_p[np.arange(len(labels)), labels].mean()),
    'accuracy': float((log_p.argmax(-1) == labels).mean()),
  }


def confusion(logits, labels, classes: int) -> np.ndarray:
  """Counts [K, K]: row = true class, column = predicted class."""
  counts = np.zeros((classes, classes), np.int64)
  np.add.at(counts, (np.asarray(labels), np.asarray(logits).argmax(-1)), 1)
  return counts
