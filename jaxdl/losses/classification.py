"""Per-example classification losses and scores."""

import jax
import jax.numpy as jnp
import optax
from jax import lax


def cross_entropy(logits, labels, smoothing=0.0):
  """Softmax cross-entropy of each example, in nats.

  Label smoothing follows Szegedy et al. 2016 (1512.00567, section 7): the target becomes
  `(1 - smoothing) * target + smoothing / K`.

  Args:
    logits: float [B, K], any finite scale; half precision is raised to float32.
    labels: int [B] in [0, K), or target distributions float [B, K].
    smoothing: in [0, 1]; a number or a scalar array.

  Returns:
    float [B].

  Raises:
    ValueError: the labels fit neither form.
  """
  logits = jnp.asarray(logits)
  labels = _checked(logits, labels)
  logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
  # Without the shift, log(sum(exp)) of logits near 1e4 carries their rounding error, 1e-3.
  logits = logits - lax.stop_gradient(logits.max(-1, keepdims=True))
  if labels.ndim == logits.ndim:
    loss = optax.softmax_cross_entropy(logits, labels.astype(logits.dtype))
  else:
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
  # Skipped for a plain zero: masked classes (-inf logits) would turn 0 * inf into NaN.
  if not isinstance(smoothing, jax.Array) and smoothing == 0:
    return loss
  uniform = jax.nn.logsumexp(logits, -1) - logits.mean(-1)
  return (1 - smoothing) * loss + smoothing * uniform


def confidence_penalty(logits, labels, weight=0.1):
  """Cross-entropy less `weight` times the entropy of the prediction (Pereyra et al. 2017,
  arXiv:1701.06548, section 3), in nats: being sure costs. Label smoothing is the same with the
  divergence the other way round.

  Args:
    logits: float [B, K].
    labels: int [B], or target distributions float [B, K].
    weight: >= 0.

  Returns:
    float [B]; it may be negative.

  Raises:
    ValueError: the labels fit neither form.
  """
  hard = cross_entropy(logits, labels)
  log_p = jax.nn.log_softmax(jnp.asarray(logits).astype(hard.dtype))
  return hard + weight * jnp.sum(jnp.exp(log_p) * log_p, axis=-1)


def correct(logits, labels):
  """1.0 where the largest logit is at the label, else 0.0.

  Args:
    logits: float [B, K]. Among equal largest logits the first counts.
    labels: int [B], or target distributions float [B, K] (their largest entry is the label).

  Returns:
    float32 [B].

  Raises:
    ValueError: the labels fit neither form.
  """
  logits = jnp.asarray(logits)
  labels = _checked(logits, labels)
  if labels.ndim == logits.ndim:
    labels = labels.argmax(-1)
  return (logits.argmax(-1) == labels).astype(jnp.float32)


def _checked(logits, labels):
  labels = jnp.asarray(labels)
  hard = jnp.issubdtype(labels.dtype, jnp.integer) and labels.shape == logits.shape[:-1]
  soft = jnp.issubdtype(labels.dtype, jnp.floating) and labels.shape == logits.shape
  if not (hard or soft):
    raise ValueError(
      f'Labels are {labels.dtype} {labels.shape} for logits {logits.shape}: pass integer labels '
      f'of shape {logits.shape[:-1]} or float target distributions of shape {logits.shape}.'
    )
  return labels
