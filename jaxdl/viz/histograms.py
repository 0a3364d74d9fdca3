"""Histograms of several sets of numbers over shared bins."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from jaxdl.viz import style


@style.styled
def histograms(
  samples: Mapping[str, np.ndarray],
  xlabel: str,
  title: str = '',
  bins: int = 50,
  clip: float = 0.0,
  yscale: str = 'linear',
) -> Figure:
  """Densities as outlined, lightly filled steps.

  Args:
    samples: label -> numbers of any shape; values that are not finite are left out.
    xlabel: what the numbers are, with unit.
    bins: number of bins, shared by all labels.
    clip: fraction of all values left out at either end of the x axis, for long tails.
    yscale: 'linear' or 'log'.

  Raises:
    ValueError: a label has no finite value.
  """
  flat = {label: np.asarray(v, np.float64).ravel() for label, v in samples.items()}
  flat = {label: v[np.isfinite(v)] for label, v in flat.items()}
  for label, values in flat.items():
    if not values.size:
      raise ValueError(f"histogram '{label}' has no finite values.")
  pooled = np.concatenate(list(flat.values()))
  low, high = np.quantile(pooled, [clip, 1 - clip])
  # Too narrow a range has no 50 different edges in float64 (NumPy refuses it).
  if high - low <= 1e-9 * max(abs(low), abs(high), 1e-30):
    centre, margin = (low + high) / 2, max(abs(high) * 1e-3, 1e-6)
    low, high = centre - margin, centre + margin
  edges = np.linspace(low, high, bins + 1)
  figure, (ax,) = style.panels()
  for label, (colour, _, dash) in style.colours(flat).items():
    values = flat[label]
    heights = np.histogram(values, edges)[0] / (values.size * np.diff(edges))
    ax.stairs(heights, edges, fill=True, color=colour, alpha=0.22)
    ax.stairs(heights, edges, color=colour, linewidth=1.6, linestyle=dash, label=label)
  ax.set(xlabel=xlabel, ylabel='density', yscale=yscale)
  ax.set_title(title)
  style.legend_below(figure, [ax])
  return figure
