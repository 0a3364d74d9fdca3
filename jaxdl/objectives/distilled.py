"""Learning from a teacher beside, or instead of, the labels."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
from jax import lax

from jaxdl import parallel
from jaxdl.core import Apply, Array, Batch, Loss, Model, Objective, Output, PyTree, example_keys
from jaxdl.data import Split
from jaxdl.losses.classification import correct, cross_entropy
from jaxdl.losses.distillation import confidence_only, distillation, permuted
from jaxdl.options import check_number
from jaxdl.train.evaluate import predict

CACHED = 'teacher_logits'  # the extra of a split that `cached` reads

# (batch, frozen) -> (logits [B, K], features); no gradient flows through it
Teacher = Callable[[Batch, PyTree], tuple[Array, Mapping[str, Array]]]
# (student logits [B, K], teacher logits [B, K], labels, temperature) -> [B]
SoftLoss = Callable[[Array, Array, Array, Any], Array]
# (student features, teacher features) -> [B]
Match = Callable[[Mapping[str, Array], Mapping[str, Array]], Array]


def soft_targets(student, teacher, labels, temperature):
  """`distillation`, which needs no labels, in the form that `distilled` asks for: float [B]."""
  return distillation(student, teacher, temperature)


def weighted_labels(student, teacher, labels, temperature):
  """For `distilled`: the cross-entropy with the labels, each example weighted by the probability
  that the teacher gives to its label at T: how hard it finds the example, and nothing else of what
  it knows (Tang et al. 2020, arXiv:2002.03532; Furlanello et al. 2018, arXiv:1805.04770, section
  3.2). The weights have the mean 1 over the batch. float [B].
  """
  p = jax.nn.softmax(teacher.astype(jnp.float32) / temperature)
  weights = jnp.take_along_axis(p, labels[:, None], axis=-1)[:, 0]
  return lax.stop_gradient(weights / parallel.mean(weights.mean())) * cross_entropy(student, labels)


def where_unsure(loss: SoftLoss, below: float) -> SoftLoss:
  """For `distilled`: the teacher speaks where the student gives the label less than `below`;
  elsewhere, all of the loss is the label's.

  Args:
    loss: used there.
    below: in (0, 1]; examples that the student gets wrong are below 1/2.
  """
  check_number('below', below, above=0, most=1)

  def chosen(student, teacher, labels, temperature):
    hard = cross_entropy(student, labels)
    unsure = lax.stop_gradient(jnp.exp(-hard)) < below
    return jnp.where(unsure, loss(student, teacher, labels, temperature), hard)

  return chosen


def distilled(
  apply: Apply,
  teacher: Teacher,
  alpha: float,
  temperature: float = 1.0,
  loss: SoftLoss = soft_targets,
  hard: Loss = cross_entropy,
  matches: Mapping[str, tuple[float, Match]] | None = None,
) -> Objective:
  """The mean over the batch of (1 - alpha) hard + alpha loss + sum of weight * match.

  Hinton et al. 2015 (arXiv:1503.02531, section 2) with the defaults. The student trains, the
  teacher sees the same augmented images in eval mode, and nothing moves it.

  Args:
    apply: the student's `Model.apply`, whose outputs are `(logits, features)`.
    teacher: `network(apply)`, `cached()`, or what `changed` makes of one.
    alpha: share of the teacher, in [0, 1]; a number.
    temperature: T > 0.
    loss: of both logits; `soft_targets`, or for example
      `lambda s, t, labels, T: dkd(s, t, labels, T)`.
    hard: of the student's logits and the labels.
    matches: name -> (weight, function of both features); `loss/<name>` is logged.

  Raises:
    ValueError: alpha or temperature out of range.
  """
  check_number('alpha', alpha, 0, 1)
  check_number('temperature', temperature, above=0)
  matches = dict(matches or {})

  def objective(params, model_state, batch, key, frozen):
    (logits, features), model_state = apply(
      params, model_state, batch['image'], train=True, key=key
    )
    told, hints = lax.stop_gradient(teacher(batch, frozen))
    parts = {
      'hard': hard(logits, batch['label']),
      'soft': loss(logits, told, batch['label'], temperature),
    }
    losses = (1 - alpha) * parts['hard'] + alpha * parts['soft']
    for name, (weight, match) in matches.items():
      parts[name] = match(features, hints)
      losses = losses + weight * parts[name]
    agreement = (logits.argmax(-1) == told.argmax(-1)).astype(jnp.float32)
    metrics = {'accuracy': correct(logits, batch['label']), 'agreement': agreement}
    metrics |= {f'loss/{name}': value for name, value in parts.items()}
    return jnp.mean(losses), Output(model_state, metrics)

  return objective


def network(apply: Apply) -> Teacher:
  """A network in eval mode that sees the student's batch; `frozen['teacher']` is its
  `(params, model_state)`."""

  def teacher(batch, frozen):
    outputs, _ = apply(*frozen['teacher'], batch['image'], train=False)
    return lax.stop_gradient(outputs)

  return teacher


def cached() -> Teacher:
  """Logits that come with every example, from `teacher_logits`; no features."""

  def teacher(batch, frozen):
    if CACHED not in batch:
      raise ValueError(f'The batch has no {CACHED!r}: train on the split that teacher_logits() '
                       'returns, or let network() look at every batch.')
    return lax.stop_gradient(batch[CACHED]), {}

  return teacher


def changed(teacher: Teacher, change: Callable[[Array, Batch], Array]) -> Teacher:
  """A teacher whose logits are `change(logits, batch)`."""

  def wrapped(batch, frozen):
    logits, features = teacher(batch, frozen)
    return lax.stop_gradient(change(logits, batch)), features

  return wrapped


def permute_others(logits, batch):
  """For `changed`: each example's wrong classes in an order of its own, the same every time."""
  return permuted(logits, batch['label'], example_keys(jax.random.key(0), batch))


def forget_others(temperature: float) -> Callable[[Array, Batch], Array]:
  """For `changed`: the wrong classes all alike, the label as probable as it was at T."""
  return lambda logits, batch: confidence_only(logits, batch['label'], temperature)


def calibrate(temperature: float) -> Callable[[Array, Batch], Array]:
  """For `changed`: the logits divided by a temperature that was fitted on held-out images, before
  that of the distillation."""
  check_number('temperature', temperature, above=0)
  return lambda logits, batch: logits / temperature


def class_means(logits, labels, temperature: float) -> np.ndarray:
  """What a teacher says of a class on average: the mean of its probabilities at T over the class's
  examples, as logits float32 [K, K] that are these probabilities at that T again.

  Args:
    logits: [N, K], of training images.
    labels: int [N]; every class comes at least once.
    temperature: T > 0.

  Raises:
    ValueError: a class without an example.
  """
  p, labels = scipy.special.softmax(np.float64(logits) / temperature, axis=-1), np.asarray(labels)
  if missing := sorted(set(range(p.shape[1])) - set(labels.tolist())):
    raise ValueError(f'The class {missing[0]} has no example to take a mean of.')
  means = np.stack([p[labels == k].mean(0) for k in range(p.shape[1])])
  return np.float32(temperature * np.log(np.maximum(means, 1e-30)))


def tell_class_means(table) -> Callable[[Array, Batch], Array]:
  """For `changed`: what the teacher says of the label's class on average, see `class_means`, in
  place of what it says of the example."""
  return lambda logits, batch: jnp.asarray(table)[batch['label']]


def teacher_logits(model: Model, params, model_state, split: Split, augment=None) -> Split:
  """The split with what a teacher says of each of its images, computed once.

  Args:
    model: the teacher.
    params, model_state: its weights.
    split: the student's training split.
    augment: the student's augmentation, which must be none.

  Returns:
    The split with the extra 'teacher_logits', float32 [N, K].

  Raises:
    ValueError: the student's images are augmented.
  """
  if augment:
    raise ValueError('Cached teacher logits are those of images as they are, and this student sees '
                     'augmented ones: set augment to None, or ask the teacher at every step.')
  return with_logits(split, predict(model, params, model_state, split.images))


def with_logits(split: Split, logits) -> Split:
  """The split with logits [N, K] for `cached`.

  Raises:
    ValueError: not one row for each example.
  """
  if len(logits) != len(split):
    raise ValueError(f'{len(logits)} rows of teacher logits for {len(split)} examples.')
  return split._replace(extras={**split.extras, CACHED: logits})


def check_teacher(teacher: Model, student: Model, image_shape) -> None:
  """Refuses, from shapes alone, a teacher of other classes or images than the student's.

  Args:
    teacher, student: the networks.
    image_shape: (H, W, C) of the student's images.

  Raises:
    ValueError: their logits differ in number.
  """
  theirs, ours = (_classes(model, tuple(image_shape)) for model in (teacher, student))
  if theirs != ours:
    raise ValueError(f'The teacher tells {theirs} classes apart and the student {ours}: take a '
                     'teacher that was trained on the classes of the student.')


@functools.lru_cache(maxsize=8)  # a study asks the same of every arm
def _classes(model, image_shape):
  image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
  (logits, _), _ = jax.eval_shape(
    lambda key, x: model.apply(*model.init(key, x), x), jax.random.key(0), image
  )
  return logits.shape[-1]
