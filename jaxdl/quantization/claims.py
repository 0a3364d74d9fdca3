"""What quantised networks are claimed to do, as sentences with our numbers."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxdl.viz.significance import mcnemar

Runs = Mapping[str, Sequence[Mapping]]  # arm -> the results of its seeds, in the order of seeds

# (arm, the arm it is no worse than, the claim)
ORDERINGS = (
  ('w3', 'w2', 'Three bits of weights are no worse than two'),
  ('w2', 'w1', 'Two bits of weights are no worse than one'),
  ('w3a3', 'w2a2', 'Three bits of weights and activations are no worse than two'),
  ('w2a2', 'w1a2', 'With activations of two bits, two bits of weights are no worse than one'),
  ('w2', 'w2a2', 'Activations of two bits cost accuracy'),
  ('float', 'w3', 'Float is no worse than three bits of weights'),
  ('w2', 'uniform_w2', 'Learned levels are no worse than equal steps, W/A 2/32'),
  ('w3', 'uniform_w3', 'Learned levels are no worse than equal steps, W/A 3/32'),
  ('w2a2', 'uniform_w2a2', 'Learned levels are no worse than equal steps, W/A 2/2'),
  ('w2', 'dorefa_w2', 'LQ-Nets is no worse than DoReFa, W/A 2/32'),
  ('w2a2', 'dorefa_w2a2', 'LQ-Nets is no worse than DoReFa, W/A 2/2'),
  ('w2', 'lsq_w2', 'LQ-Nets is no worse than LSQ, W/A 2/32'),
  ('w2a2', 'lsq_w2a2', 'LQ-Nets is no worse than LSQ, W/A 2/2'),
)


def said(seen) -> str:
  return '**seen**' if seen else '**not seen**'


class Paired(NamedTuple):
  """Two arms on the same seeds and test images.

  Attributes:
    one, other: mean test accuracy (%).
    std: of the differences over seeds, in points; None for one seed.
    seeds: how many.
    only_one, only_other: test images that one alone has right, the seeds pooled.
    p: of McNemar's exact test on them. It knows the spread over images, not that over seeds.
  """

  one: float
  other: float
  std: float | None
  seeds: int
  only_one: int
  only_other: int
  p: float

  @property
  def difference(self) -> float:
    return self.one - self.other

  @property
  def noise(self) -> bool:
    """Whether the difference is smaller than two standard errors over seeds, or than what the
    choice of test images makes of nothing (p >= 0.05)."""
    of_seeds = self.std is not None and abs(self.difference) < 2 * self.std / self.seeds**0.5
    return bool(of_seeds or self.p >= 0.05)

  def __str__(self) -> str:
    spread = '' if self.std is None else f' ± {self.std:.2f}'
    over = '' if self.std is None else f' over {self.seeds} seeds'
    noise = ', within noise' if self.noise else ''
    return f'{self.difference:+.2f}{spread} points{over}, p = {self.p:.2g}{noise}'


def paired(one: Sequence, other: Sequence) -> Paired:
  """Compares two arms over the seeds they share.

  Args:
    one, other: for each seed, bool [N], which test images are right.
  """
  pairs = list(zip(one, other, strict=False))
  means = 100 * np.array([[np.mean(a), np.mean(b)] for a, b in pairs])
  pooled = (np.concatenate([pair[i] for pair in pairs]) for i in (0, 1))
  differences = means[:, 0] - means[:, 1]
  std = float(differences.std(ddof=1)) if len(pairs) > 1 else None
  return Paired(*means.mean(0).tolist(), std, len(pairs), *mcnemar(*pooled))


def orderings(correct: Mapping[str, Sequence]) -> dict[tuple[str, str], Paired]:
  """(arm, other) -> how they compare, of those in `ORDERINGS` that were trained.

  Args:
    correct: arm -> for each seed, bool [N], which test images are right.
  """
  return {
    (a, b): paired(correct[a], correct[b]) for a, b, _ in ORDERINGS if {a, b} <= correct.keys()
  }


def claims(found: Mapping[tuple[str, str], Paired], runs: Runs) -> Iterator[str]:
  """The paper's claims as sentences with our numbers; a miss is said as one.

  Args:
    found: see `orderings`.
    runs: results with `layers` and `packed differs by` (see the study `lq_nets`).
  """
  for one, other, claim in ORDERINGS:
    if pair := found.get((one, other)):
      yield (f'{claim}: {said(pair.difference >= 0)} ({one} {pair.one:.2f} %, {other} '
             f'{pair.other:.2f} %: {pair}).')
  packed = [
    x['packed differs by'] for seeds in runs.values() for x in seeds if 'packed differs by' in x
  ]
  if packed:
    yield (f'Packed weights reproduce the logits: {said(max(packed) == 0)} (largest difference '
           f'{max(packed):g} over {len(packed)} networks).')
  yield from errors(runs)
  yield from linear(runs)


def errors(runs: Runs) -> Iterator[str]:
  """Whether unequal levels do what they are fitted for: leave less error in the weights."""
  for one, other in (('w2', 'uniform_w2'), ('w3', 'uniform_w3'), ('w2a2', 'uniform_w2a2')):
    if one in runs and other in runs:
      a, b = (
        np.mean([entry['error'] for run in runs[arm] for entry in run['layers'].values()])
        for arm in (one, other)
      )
      yield ('Learned levels leave less squared error in the trained weights than equal steps: '
             f'{said(a < b)} ({one} {a:.4f} of their square, {other} {b:.4f}).')


def linear(runs: Runs) -> Iterator[str]:
  """How what was learned differs from a linear quantizer."""
  for arm, bits in (('w2', 2), ('w3', 3)):
    layers = [entry for run in runs.get(arm, ()) for entry in run['layers'].values()]
    if not layers:
      continue
    ratios = [r for entry in layers for of_pair in entry['ratios'] for r in of_pair]
    low, middle, high = np.quantile(ratios, (0.05, 0.5, 0.95))
    text = (f'Learned levels of {bits} bits ({arm}) beside a linear quantizer, whose basis doubles '
            f'from entry to entry: the ratio of neighbours is {middle:.2f} in the median, '
            f'{low:.2f} to {high:.2f} in nine of ten channels')
    fits = [
      entry['fits'][str(bits)] for run in runs.get('float', ()) for entry in run['layers'].values()
      if str(bits) in entry['fits']
    ]
    if fits:
      learned, equal = np.mean(fits, 0)
      text += (f'; on the weights of float networks they leave {100 * (1 - learned / equal):.1f} % '
               'less squared error')
    yield f'{text}.'
