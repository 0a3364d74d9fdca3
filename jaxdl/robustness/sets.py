"""Sets that hold robust or non-robust features alone (Ilyas et al. 2019, arXiv:1905.02175, C).

A set is told by plain values: its `kind`, and what KEYS lists for that.
"""

import jax
import numpy as np

from jaxdl.attacks import classifier as victim
from jaxdl.attacks import noise, pgd
from jaxdl.attacks.construct import construct
from jaxdl.attacks.inversion import grey_noise, match, representation
from jaxdl.attacks.relabel import next_classes, other_images, random_classes
from jaxdl.data import Split
from jaxdl.data.pipeline import unit_range
from jaxdl.options import check_flags, check_keys, check_name, check_number
from jaxdl.train import classifier
from jaxdl.train.recipe import check_task

MAKERS = ('standard', 'robust')  # networks that sets are made with
KEYS = {  # kind -> its own options
  'original': ('labels',),
  'noise': ('labels', 'eps'),
  'attack': ('source', 'labels', 'eps', 'steps', 'alpha', 'keep_best'),
  'invert': ('source', 'start', 'steps', 'alpha', 'keep_best', 'fake_relu'),
}
LEARNING = ('kind', 'per_class', 'epochs', 'lr', 'augment')  # of every set: how it is learnt
LABELS = {
  'own': lambda labels, classes, seed: labels,
  'random': lambda labels, classes, seed: random_classes(len(labels), classes, seed),
  'next': lambda labels, classes, seed: next_classes(labels, classes),
}
STARTS = ('image', 'noise')


def check_set(where: str, options: dict) -> None:
  """Raises ValueError where no set can be made of these options; `where` names them."""
  check_name(f'{where}.kind', options.get('kind'), KEYS)
  keys = (*LEARNING, *KEYS[options['kind']])
  check_keys(where, options, keys)
  for key in keys:
    if options.get(key) is None:
      raise ValueError(f'{where} has no {key!r}; give one.')
  check_number(f'{where}.per_class', options['per_class'], 0, whole=True)
  check_number(f'{where}.epochs', options['epochs'], above=0)
  check_flags(where, options, 'augment', 'keep_best', 'fake_relu')
  if 'source' in options:
    check_name(f'{where}.source', options['source'], MAKERS)
  if 'labels' in options:
    own = options['kind'] == 'attack'
    check_name(f'{where}.labels', options['labels'], [n for n in LABELS if not own or n != 'own'])
  if 'start' in options:
    check_name(f'{where}.start', options['start'], STARTS)
  for key in ('eps', 'alpha', 'lr'):
    if key in options:
      check_number(f'{where}.{key}', options[key], 0)
  if 'steps' in options:
    check_number(f'{where}.steps', options['steps'], 1, whole=True)


def check_make(config: dict, options: dict, workdir) -> None:
  """Raises ValueError where the data or the network do not allow the set."""
  classifier.check(config, workdir)
  if options.get('fake_relu'):
    check_task(_with_fake_relu(config))


def plan(config: dict, options: dict) -> dict:
  """What making the set costs: a gradient of the image is two forward passes."""
  passes = 2.0 * len(classifier.task(config).train) * options.get('steps', 0)
  t = classifier.task(config)
  return {**classifier.cost(t.model, t.dataset.image_shape, passes), 'parameters': 0}


def make(config: dict, options: dict, seed: int, network, parts, chunk: int) -> dict:
  """Makes a set of all training images of a task.

  Args:
    config: `data` and `model`, as for `jaxdl.train.classifier.task`.
    options: of the set, see `check_set`.
    seed: of labels, of starting points and of noise.
    network: (params, model_state) of the maker; not read by the kinds without a source.
    parts: directory of what is done so far; the same call goes on from there.
    chunk: images at a time.

  Returns:
    `images` float32 [N, H, W, C] in [0, 1], `labels` int32 [N], and the true `classes` [N].
  """
  t = classifier.task(config)
  choose = LABELS[options.get('labels', 'own')]
  labels = choose(t.train.labels, t.dataset.num_classes, seed).astype(np.int32)
  if options['kind'] == 'original':
    images = np.asarray(unit_range(t.train.images))
  else:
    run, column = _RUNS[options['kind']](config, options, t.train, labels, seed)
    columns = (_numbers(t.train), t.train.images, column)
    images = construct(run, (network, jax.random.key(seed)), columns, parts, chunk)
  # Stays float32: eight bits would move an image by more than the last steps did.
  return {'images': images, 'labels': labels, 'classes': t.train.labels}


def starts(options: dict, train: Split, seed: int) -> np.ndarray:
  """Where the images of a set came from, float32: themselves, one another, or noise."""
  if options['kind'] != 'invert':
    return unit_range(train.images)
  others = unit_range(train.images[other_images(len(train), seed)])
  keys = _keys_of(jax.random.key(seed), _numbers(train))
  return np.asarray(_first_images(options['start'], keys, others))


def _add_noise(config, options, train, labels, seed):
  """The control: random noise within the ball, whatever the label."""
  move = noise(options['eps'], 'l2')

  def run(variables, index, images, labels):
    return move(None, unit_range(images), labels, _keys_of(variables[1], index))

  return run, labels


def _move_to_labels(config, options, train, labels, seed):
  """C.5: x' = argmin over ||x' - x||_2 <= eps of the cross-entropy to the label, from x itself."""
  model = classifier.task(config).model
  attack = pgd(
    options['eps'], options['steps'], options['alpha'], 'l2', random_start=False, targeted=True,
    keep_best=options['keep_best'],
  )

  def run(variables, index, images, labels):
    network, key = variables
    classify = victim(model.apply, *network)
    return attack(classify, unit_range(images), labels, _keys_of(key, index))

  return run, labels


def _match_features(config, options, train, labels, seed):
  """C.4: from another image or from noise to the representation of each image, within [0, 1]."""
  model = classifier.task(_with_fake_relu(config) if options['fake_relu'] else config).model
  attack = match(options['steps'], options['alpha'], options['keep_best'])

  def run(variables, index, images, others):
    network, key = variables
    represent = representation(model.apply, *network)
    keys = _keys_of(key, index)
    x0 = _first_images(options['start'], keys, unit_range(others))
    return attack(represent, x0, represent(unit_range(images)), keys)

  return run, train.images[other_images(len(train), seed)]


# kind -> the program for a chunk of images, and what it reads beside each image
_RUNS = {'noise': _add_noise, 'attack': _move_to_labels, 'invert': _match_features}


def _with_fake_relu(config):
  return {**config, 'model': {**config['model'], 'fake_relu': True}}


def _numbers(train):
  return np.arange(len(train), dtype=np.int32)


def _keys_of(key, index):
  return jax.vmap(lambda i: jax.random.fold_in(key, i))(index)


def _first_images(start, keys, others):
  return others if start == 'image' else grey_noise(keys, others.shape[1:])
