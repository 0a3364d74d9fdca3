"""What one network of the study of adversarial training withstands."""

from collections.abc import Mapping

import jax
import numpy as np

from jaxdl.attacks import attack_images, autoattack, classifier, pgd, robust
from jaxdl.attacks.battery import gradient_attacks, sweep
from jaxdl.data.pipeline import unit_range
from jaxdl.losses.classification import cross_entropy
from jaxdl.options import check_number, check_numbers
from jaxdl.train.classifier import Task
from jaxdl.train.evaluate import predict

KEY = 5  # of the attacks' random draws


def check_evaluation(options: Mapping) -> None:
  """Raises ValueError where `withstands` cannot run with these options."""
  attacks_of(options)
  check_numbers('evaluation.epsilons', list(options['epsilons']), 0)
  for key in ('images', 'autoattack', 'autoattack_batch', 'queries', 'shown'):
    check_number(f'evaluation.{key}', options[key], 1, whole=True)


def attacks_of(options: Mapping) -> dict:
  """Noise, FGSM and PGD by name."""
  return gradient_attacks(*(options[k] for k in ('norm', 'eps', 'steps', 'alpha', 'restarts')))


def withstands(t: Task, weights, options: Mapping, workdir) -> dict:
  """Accuracy under every attack, as fractions.

  Args:
    t: data and network.
    weights: (params, model_state).
    options: `norm` and `eps` of the ball, `images` attacked, `steps`, `alpha` and `restarts` of
      PGD, `autoattack` (images), `autoattack_batch` and `queries` of AutoAttack, `epsilons` of the
      sweep.
    workdir: of AutoAttack.

  Returns:
    `clean` and each attack; `... there` on the images of AutoAttack alone; `AutoAttack parts` after
    each of its attacks, its `warnings`, and accuracy `at epsilons`.
  """
  key, n = jax.random.key(KEY), min(options['autoattack'], len(t.test))
  images, labels = t.test.images[: options['images']], t.test.labels[: options['images']]
  n = min(n, len(images))
  clean = predict(t.model, *weights, images).argmax(-1) == labels
  out = {'clean': float(clean.mean())}
  for name, attack in attacks_of(options).items():
    survives = robust(t.model, *weights, images, labels, attack, key) & clean
    out[name] = float(survives.mean())
    out[f'{name} there'] = float(survives[:n].mean())
  result = autoattack(
    t.model, *weights, images[:n], labels[:n], options['eps'], options['norm'], workdir=workdir,
    batch=options['autoattack_batch'], queries=options['queries'],
  )
  out['AutoAttack'] = float(result.robust.mean())
  out['AutoAttack parts'], out['warnings'] = result.accuracy, result.warnings
  radii = sweep(options['norm'], options['steps'], tuple(options['epsilons']))
  moved = attack_images(t.model, *weights, images[:n], labels[:n], radii, key)
  said = predict(t.model, *weights, moved.reshape(-1, *images.shape[1:])).argmax(-1)
  out['at epsilons'] = (said.reshape(moved.shape[:2]) == labels[:n, None]).mean(0).tolist()
  return out


def withstands_transfer(t: Task, weights, surrogate, options: Mapping) -> float:
  """Accuracy on the images that PGD makes with another network of the same kind.

  Args:
    t: data and network.
    weights, surrogate: (params, model_state) of the victim, and of the network attacked.
    options: as for `withstands`.
  """
  images, labels = t.test.images[: options['images']], t.test.labels[: options['images']]
  attack = attacks_of(options)['PGD']
  moved = attack_images(t.model, *surrogate, images, labels, attack, jax.random.key(KEY))
  right = [predict(t.model, *weights, x).argmax(-1) == labels for x in (images, moved)]
  return float((right[0] & right[1]).mean())


def pictures(t: Task, weights, options: Mapping) -> dict[str, np.ndarray]:
  """`images`, the `gradient` of the loss there, and images moved `far` towards the next class."""
  images = unit_range(t.test.images[: options['shown']])
  labels = t.test.labels[: options['shown']]
  classify = classifier(t.model.apply, *weights)
  gradient = jax.grad(lambda x: cross_entropy(classify(x), labels).sum())(images)
  target = (labels + 1) % t.dataset.num_classes
  length = 1.6 * options['eps'] * np.sqrt(images[0].size)  # corners of the ball are at 1 eps
  attack = pgd(length, 40, norm='l2', targeted=True, random_start=False)
  moved = jax.jit(lambda x: attack(classify, x, target, jax.random.key(0)))(images)
  return {'images': np.asarray(images), 'gradient': np.asarray(gradient), 'far': np.asarray(moved)}
