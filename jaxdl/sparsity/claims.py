"""What papers claim of lottery tickets, as sentences with our numbers; and what was best here."""

from jaxdl.sparsity import held
from jaxdl.sparsity.arms import AT_INIT
from jaxdl.sparsity.found import mean_of

MATCHING = 0.2  # points below the dense network that still match it (Frankle et al. 2020)
ZEROS = 'Zeros for the frozen weights that training had shrunk are better than'
# The better, the worse arm of a ticket, and what it shows (Zhou et al. 2019). Read them only where
# the numbers differ by more than the spread over seeds.
PAIRS = (
  ('reinit_same_sign', 'reinit', 'Fresh weights with the old signs beat fresh weights'),
  ('reshuffle_same_sign', 'reshuffle', 'Reshuffled weights with the old signs beat others'),
  ('constant', 'constant_random_sign', 'Constants with the old signs beat those with random ones'),
  ('constant', 'reinit', 'Constants with the old signs beat fresh weights'),
  ('ticket', 'frozen', 'Pruned weights at zero beat pruned weights frozen where they started'),
  ('frozen_zero_if_shrunk', 'frozen', f'{ZEROS} none'),
  ('frozen_zero_if_shrunk', 'frozen_zero_random', f'{ZEROS} as many elsewhere'),
  ('frozen_zero_if_shrunk', 'frozen_zero_if_grown', f'{ZEROS} zeros where it made them grow'),
)
CRITERIA = (
  ('large_final', 'small_final', 'Keeping the largest final weights beats keeping the smallest'),
  ('large_final', 'random', 'Keeping the largest final weights beats keeping random ones'),
  ('magnitude_increase', 'random', 'Keeping those that grew most beats keeping random ones'),
  ('large_final_same_sign', 'large_final_diff_sign',
   'Keeping large weights of their first sign beats keeping those that changed it'),
)


def verdict(seen):
  return '**seen**' if seen else '**not seen**'


def claims(found, barriers):
  """The papers' claims; a miss is said as one.

  Args:
    found: a `Found`.
    barriers: (trunk, level) -> results of linear connectivity, one for each seed.
  """
  for trunk in found.c.trunks:
    yield from of_tickets(found, trunk)
  yield from compared(found, 'rewind', 'init', 'Rewinding to a later step beats rewinding to 0')
  for one in ('rewind', 'global'):
    yield from compared(found, one, 'layer', 'Global pruning is no worse than layer by layer',
                        below=0.12)
  yield from of_lines(found, barriers)
  yield from of_actions(found)
  yield from of_criteria(found)
  yield from of_robustness(found)


def of_tickets(found, trunk):
  """Whether tickets of one search match the dense network, and what else does."""
  c, t = found.c, found.c.trunk[trunk]
  at = lambda n: f'{100 * found.density(trunk, n):.3g} % density'
  dense = found.accuracy(trunk, 0, 'dense')
  reached = {n: found.accuracy(trunk, n, 'ticket') for n in found.levels(trunk, 'ticket')}
  matching = [n for n in reached if reached[n] >= dense - MATCHING]
  how_far = (f'down to {at(max(matching))}' if matching
             else f'the best has {max(reached.values()):.2f} %')
  yield (f'Tickets of `{trunk}` match the dense network (within {MATCHING} point of {dense:.2f} '
         f'%): {verdict(matching)} ({how_far}).')
  random = {n: found.accuracy(trunk, n, 'random') for n in found.levels(trunk, 'random')}
  if len(random) > 1:  # the ranges of Frankle et al. 2020, section 4
    alone = [at(n) for n in random if n in matching and random[n] < dense - MATCHING]
    yield (f'There are densities at which tickets of `{trunk}` match the dense network and random '
           f'masks do not: {verdict(alone)} ({", ".join(alone) or "none of those trained"}).')
  for n in t.at:
    for arm, what in (('reinit', 'a random reinitialisation'), ('random', 'a random mask')):
      other = found.accuracy(trunk, n, arm)
      if other is None:
        continue
      numbers = f'ticket {reached[n]:.2f} %, {arm} {other:.2f} %'
      if trunk == 'init' and c.train.model.name.startswith(('resnet', 'vgg')):
        yield (f'Rewound to step 0 at a large rate, the ticket is no better than {what} at {at(n)} '
               f'(within 1 point): {verdict(abs(reached[n] - other) <= 1)} ({numbers}).')
      else:
        margin = {'rewind': 1.5, 'low': 2.0, 'warmup': 2.0}.get(trunk, 0)
        by = f' by {margin:g} points' if margin else ''
        yield (f'The ticket of `{trunk}` beats {what} at {at(n)}{by}: '
               f'{verdict(reached[n] >= other + margin and reached[n] > other)} ({numbers}).')


def compared(found, one, other, claim, below=1.0):
  """Two searches at the two lowest densities that both reach, below some density."""
  if not {one, other} <= set(found.c.trunks):
    return
  near = lambda n, m: abs(found.density(one, n) / found.density(other, m) - 1) < 0.02
  pairs = [(n, m) for n in found.levels(one, 'ticket') for m in found.levels(other, 'ticket')
           if found.density(one, n) <= below and near(n, m)]
  for n, m in pairs[-2:]:
    have, want = found.accuracy(one, n, 'ticket'), found.accuracy(other, m, 'ticket')
    yield (f'{claim}, at {100 * found.density(one, n):.3g} % density: {verdict(have >= want)} '
           f'(`{one}` {have:.2f} %, `{other}` {want:.2f} %).')


def of_lines(found, barriers):
  for (trunk, level), several in barriers.items():
    for other in several[0]:
      height = 100 * mean_of(several, lambda x, other=other: x[other]['barrier'])
      what = f'the ticket at {100 * found.density(trunk, level):.3g} %' if level else 'dense'
      yield (f'`{trunk}`, {what}: linearly connected to {other} (a barrier below 2 points of '
             f'error): {verdict(height < 2)} ({height:.2f} points).')


def of_actions(found):
  """What a ticket may be started from, and what its pruned weights may be, at its last density."""
  for trunk in found.c.trunks:
    for better, worse, claim in PAIRS:
      levels = set(found.levels(trunk, better)) & set(found.levels(trunk, worse))
      if levels:
        n = max(levels)
        have, want = (found.accuracy(trunk, n, arm) for arm in (better, worse))
        yield (f'{claim}, ticket of `{trunk}` at {100 * found.density(trunk, n):.3g} % density: '
               f'{verdict(have > want)} ({have:.2f} % and {want:.2f} %).')


def of_criteria(found):
  trunk = found.c.criteria.trunk
  names = [(n, arm) for _, n, arm, criterion in found.results if criterion]
  for n in dict.fromkeys(n for n, _ in names):
    reached = {arm: found.accuracy(trunk, n, arm, True) for m, arm in names if m == n}
    at = f'{100 * found.density(trunk, n):.3g} % density'
    for better, worse, claim in CRITERIA:
      if {better, worse} <= reached.keys():
        yield (f'{claim}, at {at}: {verdict(reached[better] > reached[worse])} '
               f'({reached[better]:.2f} % and {reached[worse]:.2f} %).')
    early = {arm: value for arm, value in reached.items() if arm in AT_INIT}
    if early and 'large_final' in reached:
      shown = ', '.join(f'{arm} {value:.2f} %' for arm, value in early.items())
      above = max(early.values()) < reached['large_final']
      yield (f'Magnitudes after training choose better than every saliency at the start, at {at}: '
             f'{verdict(above)} (large_final {reached["large_final"]:.2f} %; {shown}).')
      if 'random' in reached:
        worst = min(early, key=early.get)
        yield (f'Every saliency at the start chooses better than chance, at {at}: '
               f'{verdict(early[worst] > reached["random"])} (the lowest, {worst}, '
               f'{early[worst]:.2f} %; random {reached["random"]:.2f} %).')


def of_robustness(found):
  c = found.c
  for trunk in c.trunks:
    of = lambda arm, t=trunk: mean_of(
      [r for r in found.of(t, c.trunk[t].levels, arm) if 'robust' in r],
      lambda r: 100 * r['robust'])
    ticket = of('ticket')
    for arm, what in (('reinit', 'its reinitialisation'), ('dense', 'the dense network')):
      other = of(arm)
      if ticket is not None and other is not None:
        error = (ticket * (100 - ticket) / c.attack.images) ** 0.5
        yield (f'Under PGD training the ticket of `{trunk}` withstands PGD better than {what}: '
               f'{verdict(ticket > other)} ({ticket:.2f} % and {other:.2f} %, on as many images '
               f'each with a standard error of {error:.2g}).')


def best(found):
  """At each density that several ways reach, the three best of them and what they cost."""
  groups = {}
  for key in found.results:
    trunk, level, arm, _ = key
    sparse = arm != 'dense' and arm not in held.ACTIONS
    if sparse and found.training(trunk) == 'standard':
      groups.setdefault(round(found.density(trunk, level), 3), []).append(key)
  first = []
  for density, keys in sorted(groups.items(), reverse=True):
    if len(keys) < 3:
      continue
    keys = sorted(keys, key=lambda key: found.accuracy(*key), reverse=True)
    shown = ', '.join(
      f'`{trunk}` {"by " if crit else ""}{arm} {found.accuracy(trunk, n, arm, crit):.2f} % (cost '
      f'{found.cost(trunk, n, arm, crit):.2g})' for trunk, n, arm, crit in keys[:3]
    )
    cheap = max((k for k in keys if found.cost(*k) < 2.1), key=lambda k: found.accuracy(*k),
                default=None)
    extra = ''
    if cheap and cheap not in keys[:1]:
      extra = (f'; best for at most two trainings: {cheap[2]}, {found.accuracy(*cheap):.2f} %')
    first.append(keys[0])
    yield f'{100 * density:.3g} % density, {len(keys)} ways: {shown}{extra}.'
  names = [f'`{trunk}` {"by " if crit else ""}{arm}' for trunk, _, arm, crit in first]
  if names:
    most = max(reversed(names), key=names.count)  # of equally many, that at the lowest density
    trunk, level, arm, crit = first[-1]
    below = found.accuracy(trunk, 0, 'dense') - found.accuracy(*first[-1])
    yield (f'**The best way here: {most}**, first at {names.count(most)} of {len(names)} '
           f'densities. At the lowest, {names[-1]} is {abs(below):.2f} points '
           f'{"below" if below > 0 else "above"} the dense network.')
