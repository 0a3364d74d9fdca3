"""AutoAttack (Croce and Hein 2020, arXiv:2003.01690): several attacks, the worst case of all.

Each attack runs on the images that withstood those before it, gathered into chunks of a few fixed
sizes, so that it is compiled a few times only. Every chunk's outcome is a file: a run that was
stopped goes on with the next chunk, and ends the same bit for bit.
"""

import functools
import time
import zlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from jaxdl import parallel
from jaxdl.attacks import reliability
from jaxdl.attacks.apgd import apgd
from jaxdl.attacks.balls import BALLS, ball
from jaxdl.attacks.evaluate import check_images, check_labels, chunk_layout, over_devices
from jaxdl.attacks.fab import fab
from jaxdl.attacks.outcomes import Outcomes
from jaxdl.attacks.square import square
from jaxdl.core import Model
from jaxdl.data.pipeline import unit_range
from jaxdl.options import check_name, check_names, check_number
from jaxdl.train import interrupt

VERSIONS = {
  'standard': ('apgd-ce', 'apgd-t', 'fab-t', 'square'),
  'plus': ('apgd-ce', 'apgd-dlr', 'fab', 'square', 'apgd-t', 'fab-t'),
  'rand': ('apgd-ce', 'apgd-dlr'),
}
ATTACKS = VERSIONS['plus']
_EOT = 20  # draws of a randomised classifier for each gradient
_BUCKETS = 4  # sizes of chunks: the batch, a half, a quarter, an eighth
_SLACK = 1e-5  # of the radius, for rounding


class Evaluation(NamedTuple):
  """What an evaluation found.

  Attributes:
    accuracy: 'clean' and each attack -> the share of images still right after it, in order.
    robust: bool [N], right under every attack.
    adversarial: float32 [N, H, W, C]; the image that fooled the classifier, elsewhere the clean
      one.
    found_by: [N], which attack did; '' where none, 'clean' where it was wrong from the start.
    warnings: sentences that say why the result may be too good, see `reliability`.
  """

  accuracy: dict[str, float]
  robust: np.ndarray
  adversarial: np.ndarray
  found_by: np.ndarray
  warnings: list[str]


def autoattack(
  model: Model,
  params,
  model_state,
  images,
  labels,
  eps: float,
  norm: str = 'linf',
  version: str = 'standard',
  seed: int = 0,
  workdir=None,
  batch: int = 250,
  attacks: Sequence[str] | None = None,
  steps: int = 100,
  queries: int = 5000,
  target_classes: int | None = None,
  log: Callable[[str], None] = print,
) -> Evaluation:
  """The robust accuracy of a classifier.

  Args:
    model: of the victim; evaluated in eval mode. It must return logits.
    params, model_state: of the victim.
    images: [N, H, W, C], uint8 or float in [0, 1].
    labels: int [N].
    eps: radius in pixel units.
    norm: 'linf', 'l2' or 'l1'.
    version: 'standard' (APGD on the cross-entropy, targeted APGD, targeted FAB, Square), 'plus'
      (those, and untargeted APGD-DLR and FAB; five restarts) or 'rand' (APGD averaged over draws
      of a randomised classifier).
    seed: of all draws; those of an image depend on its place in the set, not on its chunk.
    workdir: where the outcomes of chunks are kept, so that the same call goes on after a stop. What
      is there of the same call is not computed again.
    batch: images in the largest chunks.
    attacks: which of `ATTACKS` to run, in this order; default all of the version.
    steps, queries: of each run of APGD and FAB, and of Square; others than the default make a
      weaker evaluation, which is not comparable with published ones.
    target_classes: of the targeted attacks; default 9 (5 for APGD in L1), no more than there are.
    log: gets lines on the progress, and the warnings.

  Raises:
    ValueError: an argument out of range, images outside [0, 1], labels that are no classes, or a
      workdir that holds another evaluation.
  """
  check_number('eps', eps, 0)
  check_name('norm', norm, BALLS)
  check_name('version', version, VERSIONS)
  attacks = tuple(VERSIONS[version] if attacks is None else attacks)
  check_names('attacks', attacks, ATTACKS)
  for what, value in (('batch', batch), ('steps', steps), ('queries', queries)):
    check_number(what, value, 1, whole=True)
  if target_classes is not None:
    check_number('target_classes', target_classes, 1, whole=True)
  check_images(images, labels)
  images, labels = np.asarray(unit_range(np.asarray(images))), np.asarray(labels, np.int32)
  settings = {
    'eps': float(eps), 'norm': norm, 'version': version, 'attacks': list(attacks), 'seed': seed,
    'batch': batch, 'steps': steps, 'queries': queries, 'target_classes': target_classes,
  }
  say = lambda line: log(line) if parallel.is_first() else None
  victim = _Victim(model, params, model_state, images, labels, seed, float(eps), batch)
  store = Outcomes(workdir, settings | victim.checksums())
  logits = victim.over(np.arange(len(labels)), _look)
  check_labels(labels, logits.shape[1])
  if 'apgd-dlr' in attacks and logits.shape[1] < 3:
    raise ValueError(
      f'apgd-dlr compares three logits, and this model has {logits.shape[1]}: leave it out of '
      "`attacks`, or take version 'standard'."
    )
  found = _Found(logits.argmax(-1) == labels, images.copy(), np.full(len(labels), '', object))
  found.by[~found.robust] = 'clean'
  accuracy = {'clean': float(found.robust.mean())}
  say(f'clean accuracy: {accuracy["clean"]:.2%} of {len(labels)} images')
  warnings = []

  def warn(sentence):
    if sentence:
      warnings.append(sentence)
      say(f'Warning: {sentence}')

  network = model.apply, params, model_state, images[:batch]
  if version != 'rand':
    warn(reliability.randomised(*network, jax.random.fold_in(victim.key, 1)))
  warn(reliability.probabilities(logits))
  warn(reliability.optimises(*network))
  if found.robust.any():
    right = np.flatnonzero(found.robust)
    warn(reliability.zero_gradients(victim.over(right, _vanish(norm))))
  order = _other_classes(logits, labels)
  passes = _passes(norm, version, attacks, steps, queries, target_classes, order.shape[1])
  for attack in attacks:
    for part in passes[attack]:
      _attack(victim, store, part, found, order[:, part.place])
    accuracy[attack] = float(found.robust.mean())
    say(f'robust accuracy after {attack}: {accuracy[attack]:.2%}')
  warn(reliability.black_box_improves(accuracy))
  return Evaluation(accuracy, found.robust, found.images, found.by.astype(str), warnings)


def summary(evaluation: Evaluation, *, model: str, dataset: str, norm: str, eps: float) -> dict:
  """An entry of a leaderboard in the manner of RobustBench: plain values, accuracies in percent."""
  percent = {name: 100 * value for name, value in evaluation.accuracy.items()}
  return {
    'model': model, 'dataset': dataset, 'norm': norm, 'eps': eps, 'n': len(evaluation.robust),
    'clean_acc': percent['clean'], 'autoattack_acc': list(percent.values())[-1],
    'accuracy': percent, 'warnings': evaluation.warnings, 'unreliable': bool(evaluation.warnings),
  }


class _Found(NamedTuple):
  """What is known so far; the arrays are changed in place."""

  robust: np.ndarray
  images: np.ndarray
  by: np.ndarray


class _Part(NamedTuple):
  """One program over the images that are left; an attack is one or several of them.

  Attributes:
    attack: its name.
    number: of the part, folded into the keys.
    work: see `_program`.
    place: of the target in the order of the other classes, from 0.
  """

  attack: str
  number: int
  work: Callable
  place: int = 0


class _Victim:
  """The classifier and its images, and how programs run over some of them."""

  def __init__(self, model, params, model_state, images, labels, seed, eps, batch):
    self.apply, self.variables = model.apply, (params, model_state)
    self.key, self.eps = jax.random.key(seed), np.float32(eps)
    self.images, self.labels = images, labels
    whole = min(batch, len(images))
    sizes = {-(-whole // 2**i) for i in range(_BUCKETS)}
    self.layouts = {}  # size of a chunk -> its devices, which divide it
    for size in sorted(sizes):
      layout = chunk_layout(size)
      self.layouts[size + -size % layout.count] = layout

  def checksums(self):
    crc = lambda arrays: functools.reduce(lambda c, a: zlib.crc32(np.ascontiguousarray(a), c),
                                          arrays, 0)
    leaves = jax.device_get(jax.tree.leaves(self.variables))
    return {'images': crc([self.images]), 'labels': crc([self.labels]), 'model': crc(leaves)}

  def chunks(self, index):
    """The index in pieces of at most the largest size."""
    size = max(self.layouts)
    return [index[i : i + size] for i in range(0, len(index), size)]

  def run(self, rows, work, key, targets):
    """One chunk, filled up with its own images to the next size that there is a program for."""
    size = min(size for size in self.layouts if size >= len(rows))
    layout = self.layouts[size]
    full = np.resize(rows, size).astype(np.int32)
    shared = layout.replicate((self.variables, key, self.eps))
    split = layout.scatter((self.images[full], self.labels[full], targets[full], full))
    out = _program(self.apply, work, layout)(*shared, *split)
    return jax.tree.map(lambda x: np.asarray(x)[: len(rows)], layout.gather(out))

  def over(self, index, work):
    """All chunks of the index, one after the other."""
    out = []
    for rows in self.chunks(index):
      interrupt.poll()
      out.append(self.run(rows, work, self.key, self.labels))
    return np.concatenate(out)


@functools.lru_cache(maxsize=128)
def _program(apply, work, layout):
  """`work(draw, eps, images, labels, targets, key, keys)`, compiled: `draw(x, key)` are the logits,
  for a randomised classifier those of the key; `keys` are the images' own, `key` is that of all."""

  def run(variables, key, eps, images, labels, targets, index):
    draw = lambda x, key: apply(*variables, x, train=False, key=key)[0][0]
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(index)
    return work(draw, eps, images, labels, targets, key, keys)

  return over_devices(run, layout, 3, 4)


def _look(draw, eps, images, labels, targets, key, keys):
  return draw(images, key)


@functools.lru_cache
def _vanish(norm):
  return lambda draw, eps, images, labels, targets, key, keys: reliability.gradient_vanishes(
    lambda x: draw(x, key), images, labels, keys, eps, norm
  )


def _attacking(make, norm, draws=1, targeted=False):
  """Runs the attack `make(eps)`: (the images, which fool the classifier from within the ball)."""

  def work(draw, eps, x0, labels, targets, key, keys):
    once = lambda x: draw(x, jax.random.fold_in(key, 1))
    towards = (targets,) if targeted else ()
    x = make(eps)(once if draws == 1 else draw, x0, labels, keys, *towards)
    each = jax.vmap(lambda x, key: draw(x[None], jax.random.fold_in(key, 2))[0])
    logits = once(x) if draws == 1 else each(x, keys)
    size = ball(norm, eps).norm(x - x0)
    allowed = (size <= eps * (1 + _SLACK) + 1e-7) & ((x >= 0) & (x <= 1)).all((1, 2, 3))
    return x, allowed & (logits.argmax(-1) != labels)

  return work


@functools.lru_cache
def _passes(norm, version, attacks, steps, queries, target_classes, others):
  """attack -> its parts, with the numbers of the authors' implementation. Equal arguments give the
  same functions, so that another radius, or a second model of the same kind, compiles nothing."""
  short = norm == 'l1' and version == 'standard'
  restarts = 5 if short or version == 'plus' else 1
  draws = _EOT if version == 'rand' else 1
  targets = lambda most: min(target_classes or most, others)
  climb = functools.partial(apgd, steps=steps, norm=norm, early_stop=True, eot=draws)
  walk = functools.partial(fab, steps=steps, norm=norm)

  def parts(name):
    if name in ('apgd-ce', 'apgd-dlr'):
      make = functools.partial(climb, loss=name.removeprefix('apgd-'))
      work = _attacking(make, norm, draws)
      return [_Part(name, i, work) for i in range(restarts)]
    if name == 'apgd-t':
      work = _attacking(functools.partial(climb, targeted=True), norm, draws, targeted=True)
      return [_Part(name, i, work, place=i) for i in range(targets(5 if short else 9))]
    if name == 'square':
      make = functools.partial(square, queries=queries, norm=norm, rescale=False)
    elif name == 'fab':
      make = functools.partial(walk, restarts=restarts)
    else:
      make = functools.partial(walk, targeted=True, target_classes=targets(9))
    return [_Part(name, 0, _attacking(make, norm))]

  return {name: parts(name) for name in attacks}


def _other_classes(logits, labels):
  """int32 [N, K - 1]: for each image the classes but its own, the likeliest first."""
  others = np.where(np.arange(logits.shape[1]) == labels[:, None], -np.inf, logits)
  return np.argsort(-others, axis=1, kind='stable')[:, :-1].astype(np.int32)


def _attack(victim, store, part, found, targets):
  """Runs one part on the images that are left; what it finds is entered in `found`."""
  number = zlib.crc32(part.attack.encode()) % 2**31
  key = jax.random.fold_in(jax.random.fold_in(victim.key, number), part.number)
  for i, rows in enumerate(victim.chunks(np.flatnonzero(found.robust))):
    name = f'{part.attack}-{part.number}-{i}'
    outcome = store.load(name)
    if outcome is None:
      interrupt.poll()
      start = time.monotonic()
      images, fooled = victim.run(rows, part.work, key, targets)
      outcome = {'index': rows[fooled], 'images': images[fooled]}
      store.save(name, outcome, part.attack, time.monotonic() - start)
    index = outcome['index']
    found.robust[index] = False
    found.images[index] = outcome['images']
    found.by[index] = part.attack
