"""Accuracy against average precision: networks that lost bits, beside those with fixed bits."""

from collections.abc import Iterator, Mapping

import numpy as np

from jaxdl.quantization.claims import Runs, said
from jaxdl.quantization.figures import per_layer
from jaxdl.quantization.sparse import SCALES
from jaxdl.viz.curves import lines
from jaxdl.viz.report import Report, aggregate, spread

OF_SCALE = {
  'one': 'lam itself',
  'layer': 'lam times the mean magnitude of the weights of its layer',
  'channel': 'lam times the mean magnitude of the weights of its channel',
}
LABELS = {
  'one': 'soft threshold', 'layer': 'relative to the layer', 'channel': 'relative to the channel',
}
FIXED = ('w1', 'w2', 'w3')


class MixedPrecision:
  """Networks that a soft threshold gave bits to, beside those with fixed bits."""

  def __init__(self, runs: Runs, mixed: Mapping, options):
    """Args: runs, arm -> results of its seeds; mixed, (kind, lam) -> the same, a kind being the
    threshold's scale or a variant of it; options of the sweep."""
    seeds = max((len(each) for each in mixed.values()), default=None)  # the same of both
    self.options = options
    self.fixed = {arm: runs[arm][:seeds] for arm in FIXED if arm in runs}
    self.mixed = mixed

  def claims(self) -> Iterator[str]:
    """What the sweep shows, as sentences with our numbers; always over the same seeds."""
    for scale in SCALES:
      swept = sorted((lam, bits(seeds)) for (kind, lam), seeds in self.mixed.items()
                     if kind == scale)
      if len(swept) > 1:
        left = [b for _, b in swept]
        falls = all(a >= b for a, b in zip(left, left[1:], strict=False))
        yield (f'A stronger threshold leaves fewer bits ({LABELS[scale]}): '
               f'{said(falls)} ({", ".join(f"{b:.2f}" for b in left)} bits).')
    for (kind, lam), seeds in sorted(self.mixed.items(), key=lambda x: bits(x[1])):
      if kind in SCALES:
        yield from self._against_fixed(kind, lam, seeds)
      elif kind != 'revive':
        yield from self._against_blind(kind, lam, seeds)

  def _against_fixed(self, kind, lam, seeds):
    b, levels = bits(seeds), self.fixed
    points = sorted((bits(each), accuracy(each)) for each in levels.values())
    if len(points) < 2 or not points[0][0] <= b <= points[-1][0]:
      return
    line, ours = float(np.interp(b, *zip(*points, strict=True))), accuracy(seeds)
    near = min(levels, key=lambda arm: abs(bits(levels[arm]) - b))
    yield (f'At {b:.2f} average bits ({LABELS[kind]}, lam {lam:g}) the soft threshold is no worse '
           f'than the line between fixed bits: {said(ours >= line)} ({shown(seeds)} % against '
           f'{line:.2f} %; {near} {shown(levels[near])} %).')

  def _against_blind(self, kind, lam, seeds):
    learned = self.mixed[self.options.scale, lam]
    ours, theirs = accuracy(learned), accuracy(seeds)
    yield (f'Learned bits are no worse than {kind} ones (lam {lam:g}): {said(ours >= theirs)} '
           f'({shown(learned)} % with {bits(learned):.2f} bits, {shown(seeds)} % with '
           f'{bits(seeds):.2f}).')


def accuracy(seeds) -> float:
  return 100 * float(np.mean([x['test']['accuracy'] for x in seeds]))


def shown(seeds) -> str:
  """Mean and spread of the test accuracy (%)."""
  return spread(*aggregate([100 * x['test']['accuracy'] for x in seeds]))


def bits(seeds) -> float:
  return float(np.mean([x['bits']['average'] for x in seeds]))


def precision_sections(report: Report, curve: MixedPrecision) -> None:
  """Accuracy against average precision, and where the bits go."""
  s = curve.options
  kinds = list(dict.fromkeys(kind for kind, _ in curve.mixed))
  report.section('Bits that vanish')
  report.text(
    f'LQ-Nets with {s.weights} bits; after every moving average each entry of a basis moves '
    f'towards zero: {"; ".join(f"{LABELS[k]}, by {OF_SCALE[k]}" for k in kinds if k in SCALES)}. '
    f'The strength rises from {s.start:.0%} to {s.full:.0%} of the run and is zero from '
    f'{s.freeze:.0%} on, so that what is left is learned without bias. An entry that reaches zero '
    'stays there (`revive`: until then it may grow again). A channel keeps at least '
    f'{s.least} bits; with none its weights are all zero.'
  )
  groups = {LABELS.get(kind, kind): [v for (k, _), v in curve.mixed.items() if k == kind]
            for kind in kinds}
  series = {'fixed bits': list(curve.fixed.values()), **groups}
  series = {label: sorted(group, key=bits) for label, group in series.items() if group}
  report.figure(
    lines(
      {label: [bits(seeds) for seeds in group] for label, group in series.items()},
      {label: ([accuracy(seeds) for seeds in group], deviations(group))
       for label, group in series.items()},
      'average bits of a weight (quantised layers)', 'test accuracy (%)',
    ),
    'precision',
    'Accuracy against average precision, all over the same seeds. `shuffled` and `even` train anew '
    'with as many bits as the soft threshold left, at random among the channels of a layer, or '
    'spread evenly over layers.',
  )
  for scale in SCALES:
    swept = {f'lam {lam:g}': seeds[0] for (kind, lam), seeds in curve.mixed.items()
             if kind == scale}
    if swept:
      report.figure(
        per_layer({label: run['bits']['layers'] for label, run in swept.items()}, 'average bits'),
        f'layer_bits_{scale}',
        f'Average bits of each layer that the soft threshold leaves, first seed ({LABELS[scale]}).',
      )
  report.table(
    ['network', 'test accuracy (%)', 'bits', 'bits, all layers', 'size (kB)', 'empty channels'],
    [[f'{kind} {lam:g}', *(spread(*aggregate([f(x) for x in seeds])) for f in (
      lambda x: 100 * x['test']['accuracy'], lambda x: x['bits']['average'],
      lambda x: x['bits']['average of all'], lambda x: x['bits']['size'] / 1000,
      lambda x: x['bits']['empty channels'],
    ))] for (kind, lam), seeds in curve.mixed.items()],
    'Bits: the mean over the weights of the quantised layers, and over all layers.',
  )


def deviations(group):
  """Over seeds, of each network; None where there is one seed."""
  if any(len(seeds) < 2 for seeds in group):
    return None
  return [np.std([100 * x['test']['accuracy'] for x in seeds], ddof=1) for seeds in group]
