"""The tasks of image synthesis, each for one network: images kept as files, opinions as numbers.

Santurkar et al. 2019 (arXiv:1906.09453); the losses and projections are in
`jaxdl.attacks.synthesis`. A task is `task(options, bench) -> numbers`; its options are plain
values, which `jaxdl.synthesis.check` checks.
"""

import functools
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.attacks import at_epsilons, attack_images, example_keys, pgd
from jaxdl.attacks import synthesis as s
from jaxdl.data import Split, per_class
from jaxdl.data.pipeline import unit_range
from jaxdl.image_quality import psnr, ssim
from jaxdl.synthesis.opinions import Network, distance, eye, moved, opinion
from jaxdl.synthesis.seeds import SEEDS
from jaxdl.train.evaluate import predict

SHOWN = 5  # images of a class in the figures
INPAINTINGS = {  # name -> (hard, blind)
  'penalty': (False, False), 'penalty, blind': (False, True),
  'hard': (True, False), 'hard, blind': (True, True),
}
RESTORATIONS = {  # name -> (faithful, blind)
  'plain': (False, False), 'plain, blind': (False, True),
  'faithful': (True, False), 'faithful, blind': (True, True),
}
RESIZES = {'nearest': 'nearest', 'bilinear': 'linear', 'bicubic': 'cubic'}


class Bench(NamedTuple):
  """What a task works with.

  Attributes:
    network: makes the images.
    fake: the same with a last ReLU that passes every gradient, or None to do without.
    judge: another network, which gives no gradient.
    test: the test split.
    names: of the classes.
    key: of the study.
    folder: where the images are kept.
    seeds: folder of `draw_seeds`, for `generation`.
  """

  network: Network
  fake: Network | None
  judge: Network
  test: Split
  names: tuple[str, ...]
  key: jax.Array
  folder: Path
  seeds: Path | None = None

  def images(self, count):
    """(images float [K count, H, W, C], labels) of the test set at random, class after class."""
    split = per_class(self.test, count, seed=1)
    order = np.argsort(split.labels, kind='stable')
    return np.asarray(unit_range(split.images[order])), split.labels[order]

  def make(self, attack, images, labels, network=None):
    """What the network makes of the images."""
    return attack_images(*(network or self.network), images, labels, attack, self.key)

  def opinions(self, images, labels):
    """Of the network itself and of the judge."""
    return {
      'own': opinion(self.network, images, labels), 'judge': opinion(self.judge, images, labels),
    }

  def keep(self, name, images):
    """Saves images in [0, 1] as bytes."""
    np.save(self.folder / f'{name}.npy', np.round(255 * np.asarray(images)).astype(np.uint8))


# Made once for the same values, so that every network runs the same compiled program.
@functools.cache
def towards(eps, alpha, steps, keep_best=True):
  """Targeted descent of the cross-entropy from the image itself; eps a number or several."""
  make = lambda e: pgd(e, steps, alpha, 'l2', random_start=False, targeted=True,
                       keep_best=keep_best)
  return at_epsilons(make, eps) if isinstance(eps, tuple) else make(eps)


@functools.cache
def away(epsilons, steps):
  """The attack of the robustness table: from the image itself, steps of 2.5 eps / steps."""
  return at_epsilons(lambda e: pgd(e, steps, norm='l2', random_start=False), epsilons)


@functools.cache
def on_the_way(marks, eps, alpha):
  """The images after so many steps: [B, M, H, W, C]."""
  def attack(classify, x0, labels, key):
    after = lambda n: towards(eps, alpha, n, False)(classify, x0, labels, key) if n else x0
    return jnp.stack([after(n) for n in marks], axis=1)

  return attack


def for_each(make, *options):
  """One program for several options [V], traced: images [B, V, H, W, C]."""
  def attack(classify, x0, labels, key):
    made = jax.lax.map(lambda values: make(*values)(classify, x0, labels, key), options)
    return jnp.moveaxis(made, 0, 1)

  return attack


@functools.cache
def fill(*values):
  """All of `INPAINTINGS`."""
  make = lambda hard, blind: s.inpaint(*values, hard=hard, blind=blind)
  return for_each(make, *map(jnp.array, zip(*INPAINTINGS.values(), strict=True)))


@functools.cache
def restore(factor, epsilons, steps, alpha):
  """All of `RESTORATIONS` at every eps."""
  make = lambda eps, *flags: s.super_resolve(factor, eps, steps, alpha, *flags)
  options = [(eps, *flags) for flags in RESTORATIONS.values() for eps in epsilons]
  return for_each(make, *map(jnp.array, zip(*options, strict=True)))


inpaint = functools.cache(s.inpaint)
paint = functools.cache(s.paint)


def robustness(o, bench):
  """Accuracy (%) under PGD at each eps."""
  images, labels = bench.test.images[: o['images']], bench.test.labels[: o['images']]
  attacked = bench.make(away(tuple(o['eps']), o['steps']), images, labels)
  return [
    100 * opinion(bench.network, attacked[:, i], labels)['agreement'] for i in range(len(o['eps']))
  ]


def generation(o, bench):
  """Section 3.1, from seeds of every kind."""
  attack, out = towards(o['eps'], o['alpha'], o['steps']), {}
  for kind in SEEDS:
    with np.load(bench.seeds / f'{kind}.npz') as file:
      seeds, targets = file['seeds'], file['targets']
    images = bench.make(attack, seeds, targets)
    out[kind] = bench.opinions(images, targets) | {'moved': moved(images, seeds)}
    n = len(targets) // len(bench.names)
    bench.keep(kind, images)
    if kind == 'class Gaussian':
      out[kind]['frechet'] = distance(bench.judge, images, bench.test.images)
      way = on_the_way(tuple(o['marks']), o['eps'], o['alpha'])
      bench.keep('way', bench.make(way, seeds[::n], targets[::n]))
  return out


def inpainting(o, bench):
  """Section 3.2: a square of each image, with a penalty or a hard constraint outside of it."""
  images, labels = bench.images(o['per_class'])
  mask = np.asarray(s.squares(example_keys(bench.key, len(images)), images.shape[1:], o['side']))
  inside = lambda x: psnr_inside(x, images, mask)
  cut = bench.make(s.cut(o['side']), images, labels)
  bench.keep('originals', images)
  bench.keep('cut', cut)
  out = {'cut': bench.opinions(cut, labels) | {'psnr': inside(cut)}}
  values = [o[key] for key in ('side', 'eps', 'steps', 'alpha', 'weight')]
  every = bench.make(fill(*values), images, labels, bench.fake)
  made = {name: every[:, i] for i, name in enumerate(INPAINTINGS)}
  if bench.fake:
    made['penalty, true ReLU'] = bench.make(inpaint(*values), images, labels)
  for name, filled in made.items():
    out[name] = bench.opinions(filled, labels) | {
      'psnr': inside(filled), 'outside': moved(filled * (1 - mask), images * (1 - mask)),
    }
    bench.keep(name, filled)
  return out


def first_of_classes(images, classes):
  """[K n, H, W, C], class after class, -> [K, the first SHOWN, H, W, C]."""
  return images.reshape(classes, -1, *images.shape[1:])[:, :SHOWN]


def psnr_inside(images, originals, mask):
  """Mean PSNR over the pixels under the mask [N, H, W, 1], all of them squares of one size."""
  share = mask.mean()
  return float(np.mean(psnr(images * mask, originals * mask) + 10 * np.log10(share)))


def super_resolution(o, bench):
  """Section 3.4: half of the resolution and back."""
  images, labels = bench.images(o['per_class'])
  low = s.area(images, o['factor'])
  measure = lambda x: bench.opinions(x, labels) | {
    'psnr': float(psnr(x, images).mean()), 'ssim': float(ssim(x, images).mean()),
    'low-resolution error': moved(s.area(x, o['factor']), low),
  }
  out = {}
  for name, method in RESIZES.items():
    resized = np.asarray(s.enlarge(low, o['factor'], method))
    out[name] = measure(resized)
    bench.keep(name, resized)
  bench.keep('originals', images)
  attack = restore(o['factor'], tuple(o['eps']), o['steps'], o['alpha'])
  every = np.split(bench.make(attack, images, labels), len(RESTORATIONS), axis=1)
  for name, restored in zip(RESTORATIONS, every, strict=True):
    out[name] = [measure(restored[:, i]) for i in range(len(o['eps']))]
    bench.keep(name, restored)
  return out


def translation(o, bench):
  """Section 3.3 with a classifier of all classes: both ways between the classes of each pair."""
  images, labels = bench.images(o['per_class'])
  index = bench.names.index
  ways = [(index(a), index(b)) for pair in o['pairs'] for a, b in (pair, pair[::-1])]
  sources = np.concatenate([images[labels == a] for a, _ in ways])
  targets = np.repeat(np.array([b for _, b in ways], np.int32), o['per_class'])
  classes = np.repeat(np.array([a for a, _ in ways], np.int32), o['per_class'])
  made = bench.make(towards(tuple(o['eps']), o['alpha'], o['steps']), sources, targets)
  bench.keep('sources', sources[:: o['per_class']])
  bench.keep('made', made[:: o['per_class']])
  return {
    'ways': ways,
    'sources': bench.opinions(sources, targets),
    'made': [
      bench.opinions(made[:, i], targets) | {
        'source class': opinion(bench.judge, made[:, i], classes)['agreement'],
        'moved': moved(made[:, i], sources),
      } for i in range(len(o['eps']))
    ],
  }


def between_two(o, bench, classes):
  """Section 3.3 as the paper does it: a classifier of two classes, towards the other one.

  Args:
    o: the options of `translation`.
    bench: `network` knows the two classes alone, as labels 0 and 1; the judge knows all.
    classes: the two, as labels of all.
  """
  images, labels = bench.images(o['per_class'])
  sources = np.concatenate([images[labels == k] for k in classes])
  aims = np.repeat(np.array([1, 0], np.int32), o['per_class'])
  targets = np.array(classes, np.int32)[aims]
  look = lambda x: {
    'own': opinion(bench.network, x, aims), 'judge': opinion(bench.judge, x, targets),
  }
  made = bench.make(towards(tuple(o['eps']), o['alpha'], o['steps']), sources, aims)
  bench.keep('sources', sources[:: o['per_class']])
  bench.keep('made', made[:: o['per_class']])
  return {
    'sources': look(sources),
    'made': [look(made[:, i]) | {'moved': moved(made[:, i], sources)}
             for i in range(len(o['eps']))],
  }


def sketching(o, bench):
  """Section 4: images from sketches, which are drawings of test images; towards their class."""
  images, labels = bench.images(o['per_class'])
  sketches = np.asarray(s.sketch(images))
  made = bench.make(towards(o['eps'], o['alpha'], o['steps']), sketches, labels)
  bench.keep('originals', images)
  bench.keep('sketches', sketches)
  bench.keep('made', made)
  return {
    'before': bench.opinions(sketches, labels), 'after': bench.opinions(made, labels),
    'moved': moved(made, sketches),
  }


def painting(o, bench):
  """Section 4: paints, into images of the next class, the unit that speaks loudest for a class."""
  images, labels = bench.images(o['per_class'])
  targets = (labels + 1) % len(bench.names)
  units = np.asarray(bench.network.params['head']['kernel']).argmax(0)
  values = [o[key] for key in ('side', 'eps', 'steps', 'alpha', 'gain', 'weight')]
  network = eye(bench.fake or bench.network)
  aims = units[targets].astype(np.int32)
  painted = bench.make(paint(*values), images, aims, network)
  value = lambda x: float(predict(*network, x)[np.arange(len(x)), aims].mean())
  bench.keep('originals', images)
  bench.keep('painted', painted)
  return {
    'units': units.tolist(),
    'before': bench.opinions(images, targets) | {'unit': value(images)},
    'after': bench.opinions(painted, targets) | {'unit': value(painted)},
    'moved': moved(painted, images),
  }


TASKS = {
  'robustness': robustness,
  'generation': generation,
  'inpainting': inpainting,
  'super_resolution': super_resolution,
  'translation': translation,
  'sketching': sketching,
  'painting': painting,
}
