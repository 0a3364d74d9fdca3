"""What the paper claims and the course asks of patches, as sentences with our numbers.

Each sentence says whether it was seen; a miss is said as one.
"""

from collections.abc import Iterator

import numpy as np

from jaxdl.patches.findings import Findings
from jaxdl.patches.measure import GOALS

CEILING = 0.5  # from this share of predictions on, a patch is said to make one class of all images


def claims(f: Findings) -> Iterator[str]:
  """All sentences, in the order of the report."""
  for part in (_size, _longer, _controls, _targets, _one_class, _shapes, _transfer, _several,
               _disguise, _robust, _places):
    yield from part(f)


def verdict(holds) -> str:
  """In bold."""
  return '**seen**' if holds else '**not seen**'


def listed(values, unit='%') -> str:
  """'1.2, 3.4 %'."""
  return ', '.join(f'{x:.1f}' for x in values) + (f' {unit}' if unit else '')


def _size(f):
  for arm in f.c.arms:
    if not f.alone(arm) or len(f.sizes(arm)) < 2:
      continue
    for goal in GOALS:
      values = [f.percent(arm, s, f.own(arm), goal) for s in f.sizes(arm)]
      grows = all(a < b for a, b in zip(values, values[1:], strict=False))
      yield f'Success grows with the size: {verdict(grows)} ({arm}, {goal}: {listed(values)}).'


def _longer(f):
  for arm, size in f.rates:
    short = f.twin(arm, size)
    if 'steps' not in f.c.arm[arm] or short is None:
      continue
    v = f.own(arm)
    free = [f.percent(a, size, v, 'untargeted') for a in (arm, short)]
    long, brief = f.of_targets(arm, size, v), f.of_targets(short, size, v)
    aimed = [float(np.mean([of[k] for k in long])) for of in (long, brief)]
    yield (f'More steps make a stronger patch: {verdict(free[0] > free[1] and aimed[0] > aimed[1])}'
           f' ({arm} {size} x {size}, {f.c.arm[arm].steps} steps against {f.c.patch.steps}: '
           f'untargeted {free[0]:.1f} against {free[1]:.1f} %, the same targets {aimed[0]:.1f} '
           f'against {aimed[1]:.1f} %).')


def _controls(f):
  for arm in f.plain():
    v, sizes = f.own(arm), f.sizes(arm)
    made = [f.percent(arm, s, v, 'untargeted') for s in sizes]
    for kind, what in (('noise', 'noise'), ('gray', 'a gray square')):
      other = [f.control(s, v, kind, 'untargeted') for s in sizes]
      beats = all(a > b for a, b in zip(made, other, strict=True))
      yield (f'A trained patch beats {what} at every size: {verdict(beats)} ({arm}, untargeted: '
             f'{listed(made, "")} against {listed(other)}).')
    made = [f.percent(arm, s, v, 'targeted') for s in sizes]
    real = [f.control(s, v, 'real', 'targeted') for s in sizes]
    beats = all(a > b for a, b in zip(made, real, strict=True))
    yield (f'A trained patch says more of a class than a part of a real image of it does: '
           f'{verdict(beats)} ({arm}, targeted: {listed(made, "")} against {listed(real)}).')


def _targets(f):
  for arm in f.plain():
    v, sizes = f.own(arm), f.sizes(arm)
    free, aimed = ([f.percent(arm, s, v, goal) for s in sizes] for goal in GOALS)
    harder = all(a > b for a, b in zip(free, aimed, strict=True))
    yield (f'A target is harder than any error at every size: {verdict(harder)} ({arm}: untargeted '
           f'{listed(free, "")}, targeted {listed(aimed)}).')
    best = [
      100 * float(np.mean(f.rates[arm, s][v]['untargeted'][f.made[arm, s]['strongest']]))
      for s in sizes
    ]
    as_good = all(a >= b for a, b in zip(free, best, strict=True))
    yield ('The untargeted patch errs at least as often as the best targeted one used so, which '
           f'training images chose: {verdict(as_good)} ({arm}: {listed(free, "")} against '
           f'{listed(best)}).')
    size = f.largest()
    of = f.of_targets(arm, size, v)
    easy, hard = max(of, key=of.get), min(of, key=of.get)
    aims = zip(f.filling[arm], f.made[arm, size]['targets'], strict=True)
    own = sum(seen == aim for seen, aim in aims)
    yield (f'Which class is easiest? {f.names[easy]} ({of[easy]:.1f} %), hardest {f.names[hard]} '
           f'({of[hard]:.1f} %; {arm}, {size} x {size}). Do the patches look like their classes? '
           f'Filling an image, {own} of {len(of)} are taken for their target by {v}.')


def _one_class(f):
  size = f.largest()
  for arm in f.plain():
    share = np.array(f.rates[arm, size][f.own(arm)]['predicted'][0])
    yield (f'An untargeted patch of {size} x {size} makes one class of most images, which is a '
           f'ceiling to its success: {verdict(share.max() > CEILING)} ({arm}: '
           f'{100 * share.max():.0f} % are taken for {f.names[int(share.argmax())]}, success '
           f'{f.percent(arm, size, f.own(arm), "untargeted"):.1f} %).')


def _shapes(f):
  for arm in f.c.arms:
    square = f.twin(arm, f.largest())
    if f.c.arm[arm].shape != 'circle' or square is None:
      continue
    sizes = [s for s in f.sizes(arm) if s in f.sizes(square)]
    round_, whole = ([f.percent(a, s, f.own(arm), 'targeted') for s in sizes]
                     for a in (arm, square))
    yield ('A round patch, with 79 % of the area, does less than the square around it: '
           f'{verdict(np.mean(round_) < np.mean(whole))} (targeted: {listed(round_, "")} against '
           f'{listed(whole)}).')


def _transfer(f):
  for arm in f.plain():
    sizes, others = f.sizes(arm), [v for v in f.c.victims if v != f.own(arm)]
    if not others:
      return
    for goal in GOALS:
      own = [f.percent(arm, s, f.own(arm), goal) for s in sizes]
      away = [float(np.mean([f.percent(arm, s, v, goal) for v in others])) for s in sizes]
      weaker = all(a > b for a, b in zip(own, away, strict=True))
      grows = all(a < b for a, b in zip(away, away[1:], strict=False))
      yield (f'Patches do less to networks they were not made for: {verdict(weaker)} ({arm}, '
             f'{goal}: {listed(own, "")} at home, {listed(away)} elsewhere, which '
             f'{"grows" if grows else "does not always grow"} with the size).')


def _several(f):
  alone = {(f.own(arm), size): arm for arm in reversed(f.plain()) for size in f.sizes(arm)}
  for arm, size in f.rates:
    parts = [alone[v, size] for v in f.c.arm[arm].sources if (v, size) in alone]
    if f.alone(arm) or not parts:
      continue
    for v in (v for v in f.c.victims if v not in f.c.arm[arm].sources):
      together = f.of_targets(arm, size, v)
      single = max(parts, key=lambda part: f.percent(part, size, v, 'targeted'))
      each = f.of_targets(single, size, v)
      shared = [k for k in together if k in each]
      better = sum(together[k] > each[k] for k in shared)
      mean = lambda of, shared=shared: float(np.mean([of[k] for k in shared]))
      yield (f'Several sources transfer better to an unseen {v} than the better one alone: '
             f'{verdict(mean(together) > mean(each) and better > len(shared) / 2)} ({arm} {size} x '
             f'{size}, targeted: {mean(together):.1f} against {mean(each):.1f} %; better for '
             f'{better} of {len(shared)} targets).')


def _disguise(f):
  for arm, size in f.pictures:
    v, same = f.own(arm), f.twin(arm, size)
    if same is None:
      continue
    hidden, open_ = f.of_targets(arm, size, v), f.of_targets(same, size, v)
    of = f.c.arm[arm].disguise.of
    shared = [k for k in hidden if k in open_ and k != of]
    aimed, plain = (float(np.mean([x[k] for k in shared])) for x in (hidden, open_))
    real = f.control(size, v, 'real', 'targeted')
    yield (f'A patch that must stay within {f.c.arm[arm].disguise.eps:g} of a picture '
           f'({f.names[of]}) keeps half of its power: {verdict(aimed > plain / 2)} ({arm} {size} x '
           f'{size}, targeted: {aimed:.1f} %, without the disguise {plain:.1f} %, real images '
           f'{real:.1f} %).')


def _robust(f):
  hardened = [v for v in f.c.victims if f.c.victim[v].get('adversary')]
  model = lambda v: f.c.victim[v].model.to_dict()
  for v in hardened:
    twin = next((w for w in f.c.victims if w not in hardened and model(w) == model(v)), None)
    arms = {f.own(arm): arm for arm in reversed(f.plain())}
    if twin not in arms or v not in arms:
      continue
    sizes = f.sizes(arms[v])
    for goal in GOALS:
      hard, soft = ([f.percent(arms[w], s, w, goal) for s in sizes] for w in (v, twin))
      yield (f'Patches do less to an adversarially trained network than to its standard twin: '
             f'{verdict(all(a < b for a, b in zip(hard, soft, strict=True)))} ({v}, {goal}: '
             f'{listed(hard, "")} against {listed(soft)}).')


def _places(f):
  kinds, found = list(f.c.placements.arms), f.placements['targeted']
  if 'fixed' in kinds and len(kinds) > 1:
    i = kinds.index('fixed')
    j = next(j for j in range(len(kinds)) if j != i)
    yield (f'A patch trained at one place fails elsewhere: {verdict(found[i][j] < found[i][i])} '
           f'(targeted: {100 * found[i][i]:.1f} % there, {100 * found[i][j]:.1f} % at {kinds[j]}).')
  for size, maps in f.positions.items():
    for goal in GOALS:
      table = 100 * np.array(maps[goal])
      r, c = table.shape[0] // 2, table.shape[1] // 2
      corners = table[np.ix_([0, -1], [0, -1])].mean()
      yield (f'A patch of {size} x {size} does more in the middle than in the corners: '
             f'{verdict(table[r, c] > corners)} ({f.c.positions.arm}, {goal}: {table[r, c]:.1f} '
             f'against {corners:.1f} %; lowest {table.min():.1f}, highest {table.max():.1f} %).')
