"""What one classifier withstands, attack by attack, and the signs that this can be believed."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

from jaxdl.attacks import attack_images, ball, pgd
from jaxdl.attacks.battery import gradient_attacks, sweep
from jaxdl.attacks.carlini_wagner import carlini_wagner
from jaxdl.attacks.deepfool import deepfool
from jaxdl.data.pipeline import unit_range
from jaxdl.train.evaluate import predict

SLACK = 0.005  # of the accuracy: what chance may do to an order
CONVERGED = 0.01  # of the accuracy: what the last doubling of the steps may still take
WHOLE_BOX = {'linf': lambda size: 1.0, 'l2': lambda size: size**0.5, 'l1': lambda size: float(size)}


class Network(NamedTuple):
  """A trained classifier, in the order `predict` and `attack_images` take its parts."""

  model: object
  params: dict
  model_state: dict


@functools.lru_cache(maxsize=2)
def unbounded(norm, steps, size):
  """PGD in a ball that holds the whole box; compiled once for all networks."""
  return pgd(WHOLE_BOX[norm](size), 2 * steps, norm=norm)


@functools.lru_cache(maxsize=16)
def of_steps(norm, eps, steps, alpha):
  """PGD from one start; compiled once for all networks."""
  return pgd(eps, steps, alpha, norm)


@functools.lru_cache(maxsize=2)
def closest(cw_steps, binary_steps, deepfool_steps):
  """name -> (attack, the norm it makes small)."""
  return {
    'CW, L2': (carlini_wagner(cw_steps, binary_steps=binary_steps), 'l2'),
    'DeepFool, L2': (deepfool(deepfool_steps), 'l2'),
    'DeepFool, L-infinity': (deepfool(deepfool_steps, norm='linf'), 'linf'),
  }


class Attacked(NamedTuple):
  """What gradient attacks did to a network.

  Attributes:
    accuracy: fractions: 'clean', each attack, 'unbounded', 'transfer' (source -> fraction), 'at
      epsilons' and 'at steps' (lists in the order of the options).
    survives: bool [N], right under PGD.
    adversarial: float32 [N, H, W, C], by PGD.
  """

  accuracy: dict
  survives: np.ndarray
  adversarial: np.ndarray


def attacked_one_by_one(
  network: Network, images, labels, options: Mapping, sources: Mapping[str, Network]
) -> Attacked:
  """Attacks with gradients, those made on other networks, and PGD against radius and steps.

  Args:
    network: the victim.
    images, labels: to attack, [N, H, W, C] and [N].
    options: `norm` and `eps` of the ball, `seed`; `steps`, `alpha` and `restarts` of PGD;
      `epsilons` and `counts` (of steps, from one start) of the curves.
    sources: name -> another network of the same images.
  """
  norm, eps, steps, alpha = (options[k] for k in ('norm', 'eps', 'steps', 'alpha'))
  key = jax.random.key(options['seed'])
  clean = predict(*network, images).argmax(-1) == labels
  still = lambda x: clean & (predict(*network, x).argmax(-1) == labels)
  moved = lambda attack, by=network: attack_images(*by, images, labels, attack, key)
  out = {'clean': float(clean.mean())}
  attacks = gradient_attacks(norm, eps, steps, alpha, options['restarts'])
  for name, attack in (attacks | {'unbounded': unbounded(norm, steps, images[0].size)}).items():
    x = moved(attack)
    if name == 'PGD':
      adversarial, survives = x, still(x)
    out[name] = float(still(x).mean())
  out['transfer'] = {
    name: float(still(moved(attacks['PGD'], source)).mean()) for name, source in sources.items()
  }
  curve = moved(sweep(norm, steps, tuple(options['epsilons'])))
  out['at epsilons'] = [float(still(curve[:, i]).mean()) for i in range(curve.shape[1])]
  out['at steps'] = [float(still(moved(of_steps(norm, eps, n, alpha))).mean())
                     for n in options['counts']]
  return Attacked(out, survives, adversarial)


def closest_mistakes(network: Network, images, labels, options: Mapping) -> dict[str, dict]:
  """How far the closest mistake is that each attack found.

  Args:
    network, images, labels: see `attacked_one_by_one`.
    options: `cw_steps`, `binary_steps`, `deepfool_steps`, `seed`.

  Returns:
    attack -> 'median' distance over the images that are right, in the attack's own norm (None where
    it found a mistake for fewer than half), and the fraction 'found'; empty where none is right.
  """
  clean = predict(*network, images).argmax(-1) == labels
  if not clean.any():
    return {}
  images, labels = np.asarray(unit_range(images[clean])), labels[clean]
  out, key = {}, jax.random.key(options['seed'])
  counts = (options[k] for k in ('cw_steps', 'binary_steps', 'deepfool_steps'))
  for name, (attack, norm) in closest(*counts).items():
    x = attack_images(*network, images, labels, attack, key)
    fooled = predict(*network, x).argmax(-1) != labels
    distance = np.asarray(ball(norm, 0.0).norm(x - images), np.float64)
    median = float(np.median(np.where(fooled, distance, np.inf)))
    out[name] = {
      'median': median if np.isfinite(median) else None, 'found': float(fooled.mean()),
    }
  return out


def checklist(
  epsilons: Sequence[float], counts: Sequence[int], run: Mapping, both: tuple[float, float]
) -> Iterator[tuple[str, bool, str]]:
  """(what an honest evaluation shows, whether ours does, its numbers) for one network, after
  Carlini et al. 2019 (arXiv:1902.06705), sections 3 and 5.

  Args:
    epsilons, counts: of the curves.
    run: `Attacked.accuracy`.
    both: accuracy under PGD and under AutoAttack on the images that met both.
  """
  percent = lambda *shares: ', '.join(f'{100 * x:.1f} %' for x in shares)
  yield ('An attack without a bound leaves nothing', run['unbounded'] <= SLACK,
         percent(run['unbounded']))
  yield ('PGD leaves no more than FGSM', run['PGD'] <= run['FGSM'] + SLACK,
         percent(run['PGD'], run['FGSM']))
  by_noise, by_pgd = run['clean'] - run['noise'], run['clean'] - run['PGD']
  yield ('Noise of the same norm breaks less than half of what PGD breaks',
         by_noise <= by_pgd / 2 + SLACK, percent(by_noise, by_pgd))
  for source, left in run['transfer'].items():
    yield (f'Images made on {source} leave no less than those made on the network itself',
           left >= run['PGD'] - SLACK, percent(left, run['PGD']))
  curve = _ordered(epsilons, run['at epsilons'])
  yield 'A larger radius leaves no more', _falls(curve), percent(*curve)
  curve = _ordered(counts, run['at steps'])
  yield 'More steps leave no more', _falls(curve), percent(*curve)
  if len(curve) > 1:
    yield (f'PGD has converged: its last steps, from {sorted(counts)[-2]} to {max(counts)}, take '
           'less than a point', curve[-2] - curve[-1] < CONVERGED, percent(*curve[-2:]))
  by_pgd, by_autoattack = both
  yield ('AutoAttack leaves no more than PGD on the same images', by_autoattack <= by_pgd + SLACK,
         percent(by_autoattack, by_pgd))


def _ordered(places, values):
  return [y for _, y in sorted(zip(places, values, strict=True))]


def _falls(curve):
  return all(b <= a + SLACK for a, b in zip(curve, curve[1:], strict=False))
