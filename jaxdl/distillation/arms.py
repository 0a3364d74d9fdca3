"""Arms of a comparison: what a student learns from, as options, made into an objective.

An arm is a dict with `student` and `teacher` (networks and arms by name), and what
experiments/configs/distillation.py says of each other option.
"""

import functools
import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.core import Objective, PyTree, bind
from jaxdl.losses import attention_transfer, confidence_penalty, cross_entropy, dkd, hint
from jaxdl.models.regressor import Regressed
from jaxdl.objectives import distilled, supervised
from jaxdl.objectives.distilled import (
  cached,
  calibrate,
  changed,
  check_teacher,
  class_means,
  forget_others,
  network,
  permute_others,
  soft_targets,
  tell_class_means,
  weighted_labels,
  where_unsure,
  with_logits,
)
from jaxdl.objectives.ranked import ranked, with_history
from jaxdl.options import check_flags, check_name, check_names, check_number
from jaxdl.representation.maps import shrunk
from jaxdl.train import classifier
from jaxdl.train.evaluate import predict
from jaxdl.uncertainty.ensemble import ensemble, stack
from jaxdl.uncertainty.temperature import fit_temperature

LOSSES = {
  'kd': soft_targets,
  'dkd': lambda student, teacher, labels, t: dkd(student, teacher, labels, t),
  'weighted': weighted_labels,
}
TARGETS = ('teacher', 'permuted', 'confidence', 'class_means')


class Taught(NamedTuple):
  """What an arm is trained with.

  Attributes:
    task: of `classifier.train`; its network has what the arm needs besides.
    objective, frozen: as there.
  """

  task: classifier.Task
  objective: Objective
  frozen: Mapping | None


def check_arms(arms: Sequence[str], arm: Mapping, networks: Mapping, what: str) -> None:
  """Refuses arms that cannot be, and a teacher that does not come before its student.

  Args:
    arms: those to run, in order.
    arm: name -> options.
    networks: name -> of a configuration.
    what: how they are called in a message.

  Raises:
    ValueError: naming the option that is wrong.
  """
  check_names(f'{what}.arms', arms, arm)
  for i, name in enumerate(arms):
    a, here = arm[name], f'{what}.arm.{name}'
    check_name(f'{here}.student', a.student, networks)
    check_name(f'{here}.loss', a.loss, LOSSES)
    check_name(f'{here}.targets', a.targets, TARGETS)
    check_number(f'{here}.alpha', a.alpha, 0, 1)
    check_number(f'{here}.temperature', a.temperature, above=0)
    check_number(f'{here}.smoothing', a.smoothing, 0, 1)
    check_number(f'{here}.below', a.below, above=0, most=1)
    for key in ('hint', 'attention', 'penalty', 'ranking'):
      check_number(f'{here}.{key}', a[key], 0)
    check_flags(here, {k: a[k] for k in ('ensemble', 'calibrated')}, 'ensemble', 'calibrated')
    check_number(f'{here}.epochs', a.epochs, above=0)
    if a.smoothing and a.penalty:
      raise ValueError(f'{here} has both smoothing and penalty: choose one, or two arms.')
    if a.teacher and a.teacher not in arms[:i]:
      raise ValueError(f'{here} learns from {a.teacher!r}: put that before it in {what}.arms.')
    if a.teacher and arm[a.teacher].hint:
      raise ValueError(f'{here} learns from {a.teacher!r}, whose network has the regressor of a '
                       'hint besides: choose a teacher without one.')
    if not a.teacher and (a.alpha or a.hint or a.attention):
      raise ValueError(f'{here} has no teacher: give it one, or alpha, hint and attention 0.')
    if a.ensemble and (a.hint or a.attention):
      raise ValueError(f'{here} has an ensemble of teachers, which has logits and no features: set '
                       'hint and attention to 0.')


def check_arm(config: Mapping, above: Mapping | None, o: Mapping) -> None:
  """Refuses a teacher of other classes, and features that the networks do not have.

  Args:
    config, above: of the student, and of its teacher if it has one.
    o: the options of the arm, with `features` (which a hint and attention compare), `shrink` (see
      `task`) and `members` (how many teach).

  Raises:
    ValueError: naming what does not fit.
  """
  t = task(config, o['shrink'])
  if not above:
    return
  teacher = task(above, o['shrink'])
  check_teacher(teacher.model, t.model, t.dataset.image_shape)
  one, several = o['features']['hint'], o['features']['attention']
  shown = [_features_of(x) for x in (t, teacher)]
  for name in ([one] if o['hint'] else []) + (several if o['attention'] else []):
    for features in shown:
      check_name('feature', name, features)
  if o['attention']:
    jax.eval_shape(attention_transfer, *([x[name] for name in several] for x in shown))


def task(config: Mapping, shrink: int = 1) -> classifier.Task:
  """The task of a configuration on images whose sides are so many times smaller; the same one every
  time."""
  return _task(json.dumps({key: config[key] for key in ('data', 'model')}), shrink)


@functools.lru_cache(maxsize=8)
def _task(config, shrink):
  return shrunk(classifier.task(json.loads(config)), shrink)


def plan(config: Mapping, above: Mapping | None, o: Mapping) -> dict:
  """What an arm costs; the forward passes of a teacher that is asked at every step count too."""
  t = task(config, o['shrink'])
  images = t.steps(config['epochs'], config['batch_size']) * config['batch_size']
  own, work = _cost(t.model, t.dataset.image_shape), 0
  if above and not _is_cached(config, o):
    teacher = _cost(task(above, o['shrink']).model, t.dataset.image_shape)
    work = o['members'] * teacher['MACs'] * images
  return {**own, 'work': 3.0 * own['MACs'] * images + work}


_cost = functools.lru_cache(maxsize=8)(classifier.cost)


def taught(
  config: Mapping, above: Mapping | None, o: Mapping, teachers: Sequence[tuple[PyTree, PyTree]],
  held: np.ndarray | None = None,
) -> Taught:
  """What an arm is trained with. Where nothing is augmented and no feature is compared, the teacher
  is asked once, and its logits come with the examples.

  Args:
    config, above, o: as for `check_arm`.
    teachers: weights of the teacher, or of the members of an ensemble; none without a teacher.
    held: logits [N, K] of the teacher on the validation images, where it is calibrated.
  """
  t = task(config, o['shrink'])
  hard = functools.partial(cross_entropy, smoothing=o['smoothing'])
  if o['penalty']:
    hard = functools.partial(confidence_penalty, weight=o['penalty'])
  if o['ranking']:
    t = t._replace(model=with_history(t.model, len(t.train)))
  if above is None:
    objective, frozen = supervised(t.model.apply, hard), None
  else:
    teacher = task(above, o['shrink'])
    model, weights = teacher.model, teachers[0]
    if o['ensemble']:
      model, weights = ensemble(model, 'map'), stack(teachers)
    t = _with_regressor(t, teacher, config, o)
    told, frozen = network(model.apply), {'teacher': weights}
    logits = None
    if _is_cached(config, o) or o['targets'] == 'class_means':
      logits = predict(model, *weights, t.train.images)
    if _is_cached(config, o):
      t = t._replace(train=with_logits(t.train, logits))
      told, frozen = cached(), None
    told = _changed(told, o, logits, t, held)
    objective = _objective(t, told, hard, o)
  if o['ranking']:
    objective = ranked(objective, o['ranking'])
  return Taught(t, objective, frozen)


def _is_cached(config, o):
  return not (config.get('augment') or o['hint'] or o['attention'])


def _changed(told, o, logits, t, held):
  """What is told of a batch, in place of what the teacher says."""
  temperature = 1.0
  if o['calibrated']:
    temperature = fit_temperature(held, t.validation.labels)
    told = changed(told, calibrate(temperature))
  if o['targets'] == 'permuted':
    return changed(told, permute_others)
  if o['targets'] == 'confidence':
    return changed(told, forget_others(o['temperature']))
  if o['targets'] == 'class_means':
    table = class_means(logits / temperature, t.train.labels, o['temperature'])
    return changed(told, tell_class_means(table))
  return told


def _objective(t, told, hard, o):
  one, several = o['features']['hint'], o['features']['attention']
  matches = {}
  if o['hint']:
    matches['hint'] = o['hint'], lambda s, t: hint(s[f'{one}_regressed'], t[one])
  if o['attention']:
    matches['attention'] = o['attention'], lambda s, t: attention_transfer(
      [s[name] for name in several], [t[name] for name in several]
    )
  loss = LOSSES[o['loss']]
  if o['below'] < 1:
    loss = where_unsure(loss, o['below'])
  return distilled(t.model.apply, told, o['alpha'], o['temperature'], loss, hard, matches)


def _with_regressor(t, teacher, config, o):
  """The task, the network having a regressor to the teacher's width where it is given a hint."""
  if not o['hint']:
    return t
  name, (mean, std) = o['features']['hint'], classifier.task(config).dataset.mean_std()
  module = Regressed(t.module, {name: _features_of(teacher)[name].shape[-1]})
  model = bind(module, mean=mean, std=std)
  if o['ranking']:
    model = with_history(model, len(t.train))
  return t._replace(module=module, model=model)


def _features_of(t):
  """The shapes of everything that a network shows of itself."""
  image = jax.ShapeDtypeStruct((1, *t.dataset.image_shape), jnp.float32)
  show = lambda key, x: t.model.apply(*t.model.init(key, x), x)[0][1]
  return jax.eval_shape(show, jax.random.key(0), image)
