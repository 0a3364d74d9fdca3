"""Auto-PGD (Croce and Hein 2020, arXiv:2003.01690, algorithm 1): PGD that finds its own step size.

The step starts at twice the radius and is halved, going on from the best image so far, wherever the
loss has not risen often enough since the last checkpoint, or has no new maximum there. In L1
(Croce and Hein 2021, arXiv:2103.01208) the sparsity of the steps is what adapts, in three balls of
shrinking radius. Every example has a step size of its own.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxdl.attacks.apgd_schedule import phases, windows_of
from jaxdl.attacks.ascend import example_keys
from jaxdl.attacks.balls import Ball, ball, column, l1, rows, unit
from jaxdl.attacks.victim import ClassifierAttack
from jaxdl.core import Array
from jaxdl.losses.classification import cross_entropy
from jaxdl.losses.margin import dlr, targeted_dlr, targeted_margin
from jaxdl.options import check_name, check_number

LOSSES = {'ce': cross_entropy, 'dlr': dlr}
MOMENTUM = 0.75


class Best(NamedTuple):
  """The best image found: one that fools the classifier, else the one of the largest loss.

  Attributes:
    x: float [B, ...].
    loss: float [B].
    fooled: bool [B].
  """

  x: Array
  loss: Array
  fooled: Array


class Ascent(NamedTuple):
  """One run.

  Attributes:
    best: over this run and those before it.
    top: the image with the largest loss of this run [B, ...].
    step_sizes: length of every step [steps, B]; 0 for those that an early stop spared.
  """

  best: Best
  top: Array
  step_sizes: Array


class _State(NamedTuple):
  i: Array
  x: Array
  previous: Array  # the image before x
  loss: Array  # of the image before x
  top: Array
  top_gradient: Array
  top_loss: Array
  step: Array
  rises: Array  # of the loss since the last checkpoint
  top_loss_then: Array  # at the last checkpoint
  halved_then: Array
  density: Array  # L1: the share of the pixels that a step moves
  moved_then: Array  # L1: how many pixels the top image had moved
  best: Best
  step_sizes: Array


def apgd(
  eps,
  steps: int = 100,
  norm: str = 'linf',
  loss: str = 'ce',
  restarts: int = 1,
  targeted: bool = False,
  target_classes: int | Sequence[int] = 9,
  rho: float = 0.75,
  early_stop: bool = False,
  eot: int = 1,
) -> ClassifierAttack:
  """Auto-PGD against a classifier.

  The image returned for an example is one that is misclassified, else the one of the largest loss
  seen, x0 included.

  Args:
    eps: radius in pixel units, a number or float [B].
    steps: of a run.
    norm: 'linf', 'l2' or 'l1'.
    loss: 'ce' (cross-entropy) or 'dlr' (needs three classes); not used when targeted.
    restarts: runs from different random images (for every target).
    targeted: APGD-T: towards the most likely other classes one after the other, by the targeted DLR
      loss (with fewer than four classes: the difference of the two logits). Labels stay the true
      classes.
    target_classes: how many of them, in the order of their logits at x0 (no more than there are);
      or a list of their places in that order, counted from 1.
    rho: the step is halved where no more than this share of the steps has raised the loss.
    early_stop: leave an image alone once it is misclassified, and end when all are.
    eot: draws of a randomised classifier, whose losses and gradients are averaged (Athalye et al.
      2018, arXiv:1707.07397). Above 1 it is called as `classify(x, key)`.

  Returns:
    An attack; when targeted, it also takes `targets` int [B] after the key, which then are the only
    ones.

  Raises:
    ValueError: an argument out of range.
  """
  ball(norm, eps)
  check_number('steps', steps, 1, whole=True)
  check_number('restarts', restarts, 1, whole=True)
  check_name('loss', loss, LOSSES)
  check_number('rho', rho, 0, 1)
  check_number('eot', eot, 1, whole=True)
  if isinstance(target_classes, int):
    check_number('target_classes', target_classes, 1, whole=True)
    target_classes = range(1, target_classes + 1)
  for place in target_classes:
    check_number('Each of target_classes', place, 1, whole=True)

  def attack(classify, x0, labels, key, targets=None):
    keys = example_keys(key, len(x0))
    predict = (lambda x, keys: classify(x)) if eot == 1 else jax.vmap(
      lambda x, key: classify(x[None], key)[0]
    )
    clean = predict(x0, keys)
    wrong = lambda logits: logits.argmax(-1) != labels
    value = lambda number, logits: LOSSES[loss](logits, labels)
    runs = restarts
    if targeted:
      order = _order(clean, labels, target_classes) if targets is None else targets[:, None]
      value = _towards(clean, labels, order, restarts)
      runs = restarts * order.shape[1]

    def run(number, best):
      own = _fold(keys, number)

      def loss_of_x(x, keys):
        logits = predict(x, keys)
        return value(number, logits), wrong(logits)

      return search(
        _averaged(loss_of_x, eot), x0, own, eps, steps, norm, rho, best, early_stop
      ).best

    return lax.fori_loop(0, runs, run, Best(x0, value(0, clean), wrong(clean))).x

  return attack


def search(
  evaluate: Callable, x0, keys, eps, steps: int, norm: str, rho: float, best: Best | None = None,
  early_stop: bool = False,
) -> Ascent:
  """One run of Auto-PGD on a per-example loss.

  Args:
    evaluate: (x [B, ...], keys [B]) -> (loss [B], fooled [B] bool, gradient of the loss [B, ...]).
    x0: float [B, ...] in [0, 1].
    keys: typed, [B]; of the random start, and folded with the step for `evaluate`.
    eps, steps, norm, rho, early_stop: see `apgd`.
    best: from the runs before; None where there are none.
  """
  radius = jnp.broadcast_to(jnp.asarray(eps, x0.dtype), len(x0))
  if best is None:
    nothing = jnp.full(len(x0), -jnp.inf, x0.dtype)
    best = Best(x0, nothing, jnp.zeros(len(x0), bool))
  parts = phases(norm, steps)
  first = ball(norm, parts[0][0] * radius)
  start = _random_start(first, norm, keys, x0)

  def climb(carry, phase):
    factor, count, windows = phase
    return _climb(
      evaluate, x0, keys, ball(norm, factor * radius), norm, count, windows, rho, factor == 1,
      early_stop, *carry,
    )

  # As a loop, so that the network is in the program once.
  factors, counts = zip(*parts, strict=True)
  windows = [windows_of(count, max(counts), norm) for count in counts]
  phase = jnp.array(factors), jnp.array(counts), jnp.array(windows)
  (top, best), sizes = lax.scan(climb, (start, best), phase)
  return Ascent(best, top, jnp.concatenate([s[:c] for s, c in zip(sizes, counts, strict=True)]))


def _random_start(region: Ball, norm, keys, x0):
  """On the sphere, not inside it; in L1 the projection of Gaussian noise, which is sparse."""
  if norm == 'linf':
    draw = lambda key: jax.random.uniform(key, x0.shape[1:], x0.dtype, -1, 1)
  else:
    draw = lambda key: jax.random.normal(key, x0.shape[1:], x0.dtype)
  noise = jax.vmap(draw)(keys)
  if norm == 'l1':
    return x0 + noise
  return x0 + column(region.eps, x0) * unit(noise, region.norm)


def _climb(
  evaluate, x0, keys, region: Ball, norm, steps, windows, rho, counts, early_stop, start, best
):
  """One ball: ((top image, best), step sizes). What the larger balls of L1 find does not count."""
  sparse = norm == 'l1'
  longest = region.eps if sparse else 2 * region.eps
  x = region.project(start, x0)

  def body(s: _State) -> _State:
    loss, fooled, g = evaluate(s.x, _fold(keys, s.i))
    best = _record(s.best, s.x, loss, fooled, counts, early_stop)
    higher = loss > s.top_loss
    s = s._replace(
      best=best,
      rises=s.rises + ((s.i > 0) & (loss > s.loss)),
      loss=loss,
      top=_where(higher, s.x, s.top),
      top_gradient=_where(higher, g, s.top_gradient),
      top_loss=jnp.where(higher, loss, s.top_loss),
    )
    s = s._replace(top_loss_then=jnp.where(s.i == 0, s.top_loss, s.top_loss_then))
    window = windows[s.i]
    checked, back = _sparsify(s, x0, longest) if sparse else _halve(s, window, rho)
    s = jax.tree.map(lambda new, old: jnp.where(window > 0, new, old), checked, s)
    back = back & (window > 0)
    x, g = _where(back, s.top, s.x), _where(back, s.top_gradient, g)
    step = column(s.step, x)
    if sparse:
      new = region.project(x + step * _sparse_sign(g, s.density), x0)
    else:
      new = region.project(x + step * region.steepest(g, x), x0)
      a = jnp.where(s.i == 0, 1, MOMENTUM)
      new = region.project(x + a * (new - x) + (1 - a) * (x - s.previous), x0)
    return s._replace(
      i=s.i + 1, x=new, previous=x, step_sizes=s.step_sizes.at[s.i].set(s.step, mode='drop')
    )

  none = jnp.zeros_like(region.eps)
  moved = _moved(x, x0)
  first = _State(
    i=jnp.zeros((), jnp.int32), x=x, previous=x, loss=none, top=x, top_gradient=jnp.zeros_like(x),
    top_loss=none - jnp.inf, step=longest, rises=jnp.zeros(len(x), jnp.int32), top_loss_then=none,
    halved_then=jnp.ones(len(x), bool), density=_density(moved, x0), moved_then=moved, best=best,
    step_sizes=jnp.zeros((len(windows) - 1, len(x)), x.dtype),
  )
  unfinished = lambda s: (s.i <= steps) & ~(early_stop & jnp.all(s.best.fooled))
  s = lax.while_loop(unfinished, body, first)
  return (s.top, s.best), s.step_sizes


def _halve(s: _State, window, rho):
  """Conditions 1 and 2 of the paper; condition 1 holds at equality too, as in its authors' code."""
  few = s.rises <= rho * window
  stuck = ~s.halved_then & (s.top_loss_then >= s.top_loss)
  back = few | stuck
  checked = s._replace(
    step=jnp.where(back, s.step / 2, s.step),
    halved_then=back,
    top_loss_then=s.top_loss,
    rises=jnp.zeros_like(s.rises),
  )
  return checked, back


def _sparsify(s: _State, x0, longest):
  """Steps move two thirds as many pixels as the top image has moved. Where that number falls, the
  step is long again and goes on from the top image; elsewhere it shrinks, to a tenth at least."""
  moved = _moved(s.top, x0)
  back = moved < 0.95 * s.moved_then
  shorter = jnp.maximum(s.step / 1.5, longest / 10)
  checked = s._replace(
    step=jnp.where(back, longest, shorter), density=_density(moved, x0), moved_then=moved
  )
  return checked, back


def _moved(x, x0):
  return jnp.sum(rows(x != x0), axis=1)


def _density(moved, x0):
  return moved / (1.5 * rows(x0).shape[1])


def _sparse_sign(g, density):
  """The step of L1 length 1 that moves the pixels with the largest gradients, all equally."""
  sizes = jnp.sort(rows(jnp.abs(g)), axis=1)
  count = sizes.shape[1]
  place = jnp.clip((1 - density) * count, 0, count - 1).astype(jnp.int32)
  least = jnp.take_along_axis(sizes, place[:, None], axis=1)[:, 0]
  sign = jnp.where(jnp.abs(g) >= column(least, g), jnp.sign(g), 0)
  return unit(sign, l1(0.0).norm)


def _record(best: Best, x, loss, fooled, counts, early_stop) -> Best:
  """Of the best image and a new one, the better; where there is an early stop, the first that
  fools stays, so that it does not matter how long batch mates take."""
  higher = loss > best.loss
  take = counts & ((fooled & ~best.fooled) | (higher & (fooled == best.fooled)))
  take = take & ~best.fooled if early_stop else take
  return jax.tree.map(lambda new, old: _where(take, new, old), Best(x, loss, fooled), best)


def _where(condition, a, b):
  return jnp.where(column(condition, a) > 0, a, b)


def _fold(keys, number):
  return jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)


def _order(clean, labels, places):
  """int [B, P]: the other classes at these places in the order of their logits."""
  classes = clean.shape[1]
  places = np.array([place for place in places if place < classes])
  if not places.size:
    raise ValueError(f'target_classes are all above {classes - 1}, the number of other classes.')
  others = jnp.where(jnp.arange(classes) == labels[:, None], -jnp.inf, clean)
  return jnp.argsort(-others, axis=1)[:, places - 1]


def _towards(clean, labels, targets, restarts):
  """The gain of a run's logits towards its target, one of targets [B, P]. It counts from the value
  at x0, as losses towards different targets do not compare."""
  loss = targeted_dlr if clean.shape[1] > 3 else targeted_margin

  def value(number, logits):
    target = jnp.take(targets, number // restarts, axis=1)
    return loss(logits, labels, target) - loss(clean, labels, target)

  return value


def _averaged(loss_of_x, draws):
  """(x, keys) -> (loss, fooled, gradient), over draws of the classifier's randomness; fooled is an
  example that most draws fool."""

  def once(x, keys):
    def total(x):
      loss, fooled = loss_of_x(x, keys)
      return loss.sum(), (loss, fooled)

    g, (loss, fooled) = jax.grad(total, has_aux=True)(x)
    return loss, fooled, g

  if draws == 1:
    return once

  def evaluate(x, keys):
    one = lambda i: once(x, _fold(keys, i))
    add = lambda i, sums: jax.tree.map(jnp.add, sums, one(i))
    zeros = jax.tree.map(jnp.zeros_like, jax.eval_shape(lambda: one(0)))
    loss, fooled, g = lax.fori_loop(0, draws, add, zeros)
    return loss / draws, fooled > draws / 2, g / draws

  return evaluate
