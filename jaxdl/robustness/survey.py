"""What networks make of the images of a set, and what a network that learnt one withstands."""

import functools
from collections.abc import Mapping

import jax
import numpy as np

from jaxdl.attacks import at_epsilons, attack_images, noise, pgd, robust
from jaxdl.attacks.balls import l2_norm
from jaxdl.attacks.inversion import representing
from jaxdl.attacks.relabel import next_classes
from jaxdl.core import Model
from jaxdl.data import Split
from jaxdl.options import check_number, check_numbers
from jaxdl.train.evaluate import predict

SHOWN = 2  # images of each label in a picture of a set


def check_attack(options: Mapping) -> None:
  """Raises ValueError where `withstands` cannot measure with these options."""
  check_numbers('attack.eps', options['eps'], above=0)
  check_number('attack.steps', options['steps'], 1, whole=True)
  check_number('attack.long', options['long'] or 0, 0, whole=True)
  check_number('attack.linf', options['linf'] or 0, 0)
  for key in ('test', 'own'):
    check_number(f'attack.{key}', options[key], 1, whole=True)


@functools.lru_cache
def l2_attack(eps: tuple, steps: int):
  """PGD from the image itself, step 2.5 eps / steps, which ends where an image is misclassified."""
  make = lambda e: pgd(e, steps, norm='l2', random_start=False, early_stop=True)
  return at_epsilons(make, eps)


@functools.lru_cache
def control(eps: float):
  """Random noise of the same length."""
  return noise(eps, 'l2')


@functools.lru_cache
def linf_attack(eps: float, steps: int):
  """PGD from a random start, which ends where an image is misclassified."""
  return pgd(eps, steps, early_stop=True)


def withstands(network, classes: int, test: Split, options: Mapping, own: Mapping | None) -> dict:
  """Accuracy of one network on the original test images, as they are and attacked.

  Args:
    network: (model, params, model_state).
    classes: of the set.
    test: the original test split.
    options: `eps` (L2 radii), `steps`, `test` (images attacked), `linf` (a radius, or None), `long`
      (steps of a longer attack at the first radius, or None) and `own`.
    own: the set it learnt, as from `jaxdl.robustness.sets.make`; `own` of its images are attacked.

  Returns:
    Fractions: `accuracy`, `next` (on labels moved on by one), `l2` at each radius, `noise` of the
    largest, and where asked for `linf`, `long` and `brief` (the longer and the usual attack on the
    same images), `own l2`.
  """
  key, eps = jax.random.key(7), tuple(options['eps'])
  said, labels = predict(*network, test.images).argmax(-1), test.labels
  few = test.images[: options['test']], labels[: options['test']]
  out = {
    'accuracy': float((said == labels).mean()),
    'next': float((said == next_classes(labels, classes)).mean()),
    'l2': accuracies(network, *few, eps, options['steps'], key),
    'noise': float(robust(*network, *few, control(eps[-1]), key).mean()),
  }
  if options['linf']:
    attack = linf_attack(options['linf'], options['steps'])
    out['linf'] = float(robust(*network, *few, attack, key).mean())
  if options['long']:
    some = test.images[: options['own']], labels[: options['own']]
    for name, steps in (('brief', options['steps']), ('long', options['long'])):
      out[name] = accuracies(network, *some, eps[:1], steps, key)[0]
  if own is not None:
    order = np.random.default_rng(0).permutation(len(own['labels']))[: options['own']]
    seen = own['images'][order], own['labels'][order]
    out['own l2'] = accuracies(network, *seen, eps, options['steps'], key)
  return out


def accuracies(network, images, labels, eps: tuple, steps: int, key) -> list[float]:
  """Accuracy under PGD at every L2 radius."""
  found = attack_images(*network, images, labels, l2_attack(eps, steps), key)
  return [
    float((predict(*network, found[:, i]).argmax(-1) == labels).mean()) for i in range(len(eps))
  ]


def called(network, made: Mapping) -> tuple[dict, np.ndarray]:
  """How often a network calls the images of a set by their label, and by their true class.

  Returns:
    (`{'label', 'class'}` as fractions, the network's logits [N, K]).
  """
  logits = predict(*network, made['images'])
  said = logits.argmax(-1)
  return {
    'label': float((said == made['labels']).mean()),
    'class': float((said == made['classes']).mean()),
  }, logits


def distances(made: Mapping, begun, originals) -> dict:
  """Mean and largest L2 distance from where the images began, and the mean from the originals."""
  length = lambda x: np.asarray(l2_norm(x), np.float64)
  moved, away = length(made['images'] - begun), length(made['images'] - originals)
  return {
    'moved': float(moved.mean()), 'moved at most': float(moved.max()),
    'from the original': float(away.mean()),
  }


def likeness(model: Model, params, model_state, made: Mapping, begun, originals) -> dict:
  """Mean of ||g(x) - g(original)|| / ||g(original)|| at the start and at the end."""
  g = lambda x: predict(representing(model), params, model_state, x)
  want = g(originals)
  size = np.linalg.norm(want, axis=1)
  return {
    name: float((np.linalg.norm(g(x) - want, axis=1) / size).mean())
    for name, x in (('before', begun), ('after', made['images']))
  }


def shown_places(labels, classes: int) -> dict[int, list[int]]:
  """label -> the first SHOWN images that have it, again from the first where there are fewer."""
  found = {k: np.flatnonzero(np.asarray(labels) == k) for k in range(classes)}
  return {
    k: [int(places[i % len(places)]) for i in range(SHOWN)]
    for k, places in found.items() if len(places)
  }
