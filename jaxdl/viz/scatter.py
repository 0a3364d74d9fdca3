"""Points of several groups, and a line through some of them."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from jaxdl.viz import style


@style.styled
def scatter(
  points: Mapping[str, Sequence], xlabel: str, ylabel: str, title: str = '',
  line: tuple[float, float] | None = None,
) -> Figure:
  """One marker for each point, one colour for each label.

  Args:
    points: label -> [N, 2] of (x, y).
    xlabel, ylabel: with units.
    title: of the figure.
    line: (slope, intercept) of a line over the whole width.

  Raises:
    ValueError: there are no points, or they are not pairs.
  """
  points = {label: np.asarray(xy, np.float64) for label, xy in points.items() if len(xy)}
  if not points or any(xy.ndim != 2 or xy.shape[1] != 2 for xy in points.values()):
    raise ValueError('scatter() needs at least one point (x, y).')
  look = style.colours(points)
  figure, (ax,) = style.panels()
  if line is not None:
    x = np.concatenate([xy[:, 0] for xy in points.values()])
    ends = np.array([x.min(), x.max()])
    ax.plot(ends, line[0] * ends + line[1], '--', color=style.MUTED, linewidth=1.2)
  for label, xy in points.items():
    colour, marker, _ = look[label]
    ax.plot(*xy.T, linestyle='none', marker=marker, color=colour, alpha=0.8, label=label)
  ax.set(xlabel=xlabel, ylabel=ylabel)
  ax.set_title(title)
  style.legend_below(figure, [ax])
  return figure
