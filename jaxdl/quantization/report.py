"""The parts of a report that show quantised networks."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from jaxdl.quantization.claims import Runs
from jaxdl.quantization.figures import level_histograms, levels_of, per_layer
from jaxdl.quantization.tree import layers
from jaxdl.viz.histograms import histograms
from jaxdl.viz.report import Report


def weight_sections(
  report: Report, runs: Runs, weights: Mapping, arm: str, fit_bits: Sequence[int]
) -> None:
  """What quantisation does to the weights of each layer, beside equal steps.

  Args:
    report: gets the sections.
    runs: arm -> results of its seeds, each with `layers` (see `survey`).
    weights: arm -> (params, model_state), drawn layer by layer.
    arm: whose weights quantizers were fitted to.
    fit_bits: of those quantizers.
  """
  report.section('Weights before and after')
  for shown, trained in weights.items():
    report.figure(
      level_histograms({name: levels_of(layer) for name, layer in layers(*trained).items()}),
      f'levels_{shown}',
      f'{shown}, first seed: the float weights and what the layer computes with, each channel '
      'divided by its mean magnitude. Lines are medians over channels.',
    )
  if spacing := ratios_of(runs, weights):
    report.figure(
      histograms(spacing, 'ratio of neighbours in a basis', bins=40, clip=0.01), 'ratios',
      'Entries of a basis over the next smaller one, all channels and seeds: 2 is a linear '
      'quantizer.',
    )
  report.section('Learned levels against equal steps')
  surveyed = runs[arm][0]['layers']
  relative = {
    f'{b} bit' if b == 1 else f'{b} bits': {
      name: ratio(entry['fits'][str(b)]) for name, entry in surveyed.items()
    } for b in fit_bits
  }
  report.figure(
    per_layer(relative, 'error of LQ / error of equal steps'), 'error',
    f'Squared error of quantizers fitted to the same float weights ({arm}, first seed), by the '
    'same algorithm from the same start; below 1 unequal levels are better. One bit has no '
    'spacing.',
  )
  report.table(
    ['bits', 'LQ', 'equal steps', 'LQ / equal steps', 'LQ better in'],
    [fit_row(runs[arm], b) for b in fit_bits],
    f'Error over the square of the weights, the mean over layers and seeds ({arm}); of Gaussian '
    'weights the best equal steps leave 0.3634, 0.1188, 0.0374 and 0.0115 with 1 to 4 bits.', '.4g',
  )
  report.table(
    ['arm', 'error', 'entropy of a weight (bits)', 'entropy of an activation (bits)'],
    [[arm, *(mean_of(seeds, key) for key in ('error', 'entropy', 'input_entropy'))]
     for arm, seeds in runs.items()],
    'Of the trained quantizers, the mean over layers and seeds. Error as above, against the '
    "weights that are trained; DoReFa's lie on another scale.",
    '.3f',
  )


def ratios_of(runs: Runs, arms: Iterable[str]) -> dict[str, np.ndarray]:
  """'arm: v2 / v1' -> that ratio in each channel of each layer and seed."""
  out = {}
  for arm in arms:
    for run in runs[arm]:
      for entry in run['layers'].values():
        for j, values in enumerate(entry.get('ratios', ()), 1):
          out.setdefault(f'{arm}: v{j + 1} / v{j}', []).extend(values)
  return {label: np.array(values) for label, values in out.items() if values}


def ratio(pair):
  """One error over another; 1 where both are zero."""
  return pair[0] / pair[1] if pair[1] else 1.0


def fit_row(seeds, bits):
  pairs = np.array([
    entry['fits'][str(bits)] for run in seeds for entry in run['layers'].values()
  ])
  learned, uniform = pairs.mean(0)
  better = f'{(pairs[:, 0] < pairs[:, 1]).sum()} of {len(pairs)}'
  return [bits, learned, uniform, ratio((learned, uniform)), better]


def mean_of(seeds, key):
  values = [entry[key] for run in seeds for entry in run['layers'].values() if key in entry]
  return float(np.mean(values)) if values else None
