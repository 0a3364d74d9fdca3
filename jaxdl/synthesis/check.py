"""What of the options of synthesis cannot work."""

from collections.abc import Mapping

import numpy as np

from jaxdl.attacks import synthesis as s
from jaxdl.options import check_flags, check_name, check_number, check_numbers
from jaxdl.synthesis.tasks import TASKS


def check_tasks(options: Mapping[str, Mapping], t) -> None:
  """Refuses tasks that cannot be done, before anything is trained.

  Args:
    options: of every task of `TASKS`.
    t: a `jaxdl.train.classifier.Task` with the networks' data and module.

  Raises:
    ValueError: naming the option.
  """
  side, fewest = min(t.dataset.image_shape[:2]), int(np.bincount(t.test.labels).min())
  for task in TASKS:
    o, what = options[task], lambda key, task=task: f'{task}.{key}'
    check_number(what('steps'), o['steps'], 1, whole=True)
    for key in ('alpha', 'gain'):
      if key in o:
        check_number(what(key), o[key], above=0)
    if 'weight' in o:
      check_number(what('weight'), o['weight'], 0)
    check = check_number if isinstance(o['eps'], int | float) else check_numbers
    check(what('eps'), o['eps'], 0)
    if 'per_class' in o and task != 'generation':
      check_number(what('per_class'), o['per_class'], 1, fewest, whole=True)
    if 'side' in o:
      check_number(what('side (of the square, in pixels)'), o['side'], 1, side, whole=True)
    if 'fake_relu' in o:
      check_flags(task, o, 'fake_relu')
      if o['fake_relu'] and not hasattr(t.module, 'fake_relu'):
        raise ValueError(
          f'{task}.fake_relu is on, but a {type(t.module).__name__} has no such last ReLU: turn it '
          'off, or take a ResNet.'
        )
  check_number('robustness.images', options['robustness']['images'], 1, whole=True)
  generation = options['generation']
  for key in ('per_class', 'controls'):
    check_number(f'generation.{key}', generation[key], 1, whole=True)
  check_numbers('generation.marks', generation['marks'], 0, whole=True)
  for factor in (generation['grain'], options['super_resolution']['factor']):
    s.area(np.zeros((1, *t.dataset.image_shape)), factor)
  check_pairs('translation.pairs', options['translation']['pairs'], t.dataset.label_names)
  if not options['translation']['pairs']:
    raise ValueError('translation.pairs names no pairs of classes; give at least one.')


def check_pairs(what: str, pairs, names) -> None:
  """Refuses pairs that are not two different classes each.

  Args:
    what: how the sentence calls them.
    pairs: of class names; may be none.
    names: of the classes.

  Raises:
    ValueError: naming the pair.
  """
  for pair in pairs:
    if isinstance(pair, str) or len(pair) != 2 or pair[0] == pair[1]:
      raise ValueError(f'{what} holds {pair!r}; a pair is two different classes.')
    for name in pair:
      check_name(f'class in {what}', name, names)
