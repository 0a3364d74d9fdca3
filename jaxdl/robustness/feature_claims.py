"""The claims of the study of robust features as sentences, each with our numbers."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from jaxdl.robustness.verdict import error, said

ABOVE_CHANCE = 1.5  # times chance: what counts as having learnt the classes


def claims(
  settings: Mapping[str, Sequence[Mapping]], radii: Sequence[float], classes: int, attacked: int,
  tested: int,
) -> Iterator[str]:
  """Sentences, each of which says `seen` or `not seen`.

  Args:
    settings: name -> what `jaxdl.robustness.survey.withstands` said of its network, for each seed.
    radii: L2, at which they were attacked.
    classes: of the set.
    attacked, tested: test images with and without attack.
  """
  have = lambda s, read: 100 * float(np.mean([read(run) for run in settings[s]]))
  clean = lambda s: have(s, lambda run: run['accuracy'])
  under = lambda s, i: have(s, lambda run: run['l2'][i])
  chance = 100 / classes
  for i, eps in enumerate(radii[:2] if 'robust' in settings else ()):
    ours, theirs = under('robust', i), under('standard', i)
    yield (f'Adversarial training beats standard training under attack at L2 {eps:g}: '
           f'{said(ours > theirs + error(ours, theirs, attacked))} ({ours:.1f} %, {theirs:.1f} %).')
  last = min(1, len(radii) - 1)
  for name in ('nonrobust_image', 'nonrobust_noise', 'rand', 'det'):
    if name in settings:
      ours, left = clean(name), under(name, last)
      yield (f'{name} teaches accuracy (above {ABOVE_CHANCE:g} times the chance of {chance:.0f} %):'
             f' {said(ours > ABOVE_CHANCE * chance)} ({ours:.1f} %); and no robustness (below half '
             f'of chance at L2 {radii[last]:g}): {said(left < chance / 2)} ({left:.1f} %).')
  for name in ('robust_image', 'robust_noise'):
    against = [s for s in ('original', 'nonrobust_image', 'nonrobust_noise') if s in settings]
    for i, eps in enumerate(radii[:2] if name in settings and against else ()):
      ours, others = under(name, i), {s: under(s, i) for s in against}
      best = max(others.values())
      listed = ', '.join(f'{s} {v:.1f} %' for s, v in others.items())
      yield (f'{name} teaches robustness, by standard training (more than each of the others at L2 '
             f'{eps:g}): {said(ours > best + error(ours, best, attacked))} ({ours:.1f} %; '
             f'{listed}).')
  for one, other in (('rand_by_robust', 'rand'), ('det_by_robust', 'det')):
    if one in settings and other in settings:
      ours, want = clean(one), clean(other)
      yield (f'The same images made with the robust network teach less of the original classes: '
             f'{said(ours < want - error(ours, want, tested))} ({one} {ours:.1f} %, {other} '
             f'{want:.1f} %).')
  if 'det_by_robust' in settings:
    ours, want = have('det_by_robust', lambda run: run['next']), clean('det_by_robust')
    yield (f'They teach the next class instead: {said(ours > want + error(ours, want, tested))} '
           f'(det_by_robust: {ours:.1f} % the next class, {want:.1f} % the own).')
  for name in ('random_labels', 'random_noise'):
    if name in settings:
      ours = clean(name)
      yield (f'{name}, a control, teaches nothing (below {ABOVE_CHANCE:g} times chance): '
             f'{said(ours < ABOVE_CHANCE * chance)} ({ours:.1f} %).')
  longer = {s: (100 * run['brief'], 100 * run['long'])  # of the first seed alone
            for s, (run, *_) in settings.items() if 'long' in run}
  if longer:
    listed = ', '.join(f'{s} {brief:.1f} and {long:.1f} %' for s, (brief, long) in longer.items())
    yield ('A much longer attack finds little more (less than 2 points, the paper\'s section D.2): '
           f'{said(all(brief - long < 2 for brief, long in longer.values()))} (the usual one and '
           f'the longer one: {listed}).')


def depth_claims(
  learnt: Mapping[str, Mapping[tuple[str, str], float]], transfer: Mapping[str, float],
  models: Sequence[str], classes: int,
) -> Iterator[str]:
  """Whether it is a matter of depth, and what the networks have in common.

  Args:
    learnt: set -> (made by, learnt by) -> test accuracy (%), mean over seeds.
    transfer: model -> share (%) of the images of `rand` by the first model that it, trained by
      itself, calls by their label.
    models: in the order of their depth.
    classes: of the set.
  """
  chance = 100 / classes
  for name, cell in learnt.items():
    own = [cell[m, m] for m in models]
    across = [cell[a, b] for a in models for b in models if a != b]
    floor = ABOVE_CHANCE * chance
    yield (f'{name}: every depth learns from the images it made (above {floor:.0f} %): '
           f'{said(min(own) > floor)} ({_each(models, own)}); and from those that the others made: '
           f'{said(min(across) > floor)} ({min(across):.1f} to {max(across):.1f} %).')
    yield (f'{name}: deeper networks learn more from the images they made: '
           f'{said(all(a < b for a, b in zip(own, own[1:], strict=False)))}.')
  if 'rand' in learnt:
    order = sorted(models, key=lambda m: learnt['rand'][models[0], m])
    rates = [transfer[m] for m in order]
    yield ('Networks that learn rand better are fooled more by its images (figure 3): '
           f'{said(all(a <= b for a, b in zip(rates, rates[1:], strict=False)))} '
           f'({_each(order, rates)} called by their label, from the one that learns least).')


def _each(models, values):
  return ', '.join(f'{m} {v:.1f} %' for m, v in zip(models, values, strict=True))
