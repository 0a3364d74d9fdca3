"""Slices of a loss around a solution (Li et al. 2018, arXiv 1712.09913)."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from jaxdl.viz import style


@style.styled
def loss_surface(a, b, values, title: str = '', levels: int = 18) -> Figure:
  """Filled contours of a loss over two directions, on a logarithmic scale.

  Args:
    a: [A] coordinates along the first direction (across).
    b: [B] coordinates along the second (up).
    values: [A, B] positive losses; values[i, j] is at (a[i], b[j]). Places that are not finite
      or not positive stay blank.
    levels: number of contours.

  Raises:
    ValueError: shapes do not match, or no value is finite and positive.
  """
  a, b, values = (np.asarray(x, np.float64) for x in (a, b, values))
  if values.shape != (a.size, b.size):
    raise ValueError(f'values have shape {list(values.shape)}; expected {[a.size, b.size]}.')
  usable = np.isfinite(values) & (values > 0)
  if not usable.any():
    raise ValueError('no value is finite and positive: nothing to draw on a log scale.')
  logs = np.ma.masked_array(np.log10(np.where(usable, values, 1.0)), ~usable)
  low, high = float(logs.min()), float(logs.max())
  if high - low < 1e-6:
    low, high = low - 0.5, high + 0.5
  at = np.linspace(low, high, levels + 1)
  figure = Figure((5.4, 4.4), layout='constrained')
  ax = figure.add_subplot()
  filled = ax.contourf(a, b, logs.T, levels=at, cmap=style.SURFACE)
  ax.contour(a, b, logs.T, levels=at[::2], colors='white', linewidths=0.5, alpha=0.6)
  ax.plot(0, 0, '+', color='white', markersize=11, markeredgewidth=2)
  ax.grid(False)
  ax.set(xlabel='direction 1', ylabel='direction 2', aspect='equal')
  ax.set_title(title)
  bar = figure.colorbar(filled, ax=ax, pad=0.02, ticks=np.linspace(low, high, 6))
  bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{10**value:.2g}'))
  bar.outline.set_visible(False)
  bar.set_label('loss (log scale)')
  return figure


@style.styled
def loss_lines(
  t, series: Mapping[str, np.ndarray], title: str = '', ylabel: str = 'loss', yscale: str = 'log'
) -> Figure:
  """A loss along one direction for several solutions.

  Args:
    t: [T] coordinates, 0 at the solution.
    series: label -> [T] losses, or [R, T] over R directions, drawn as mean and band of one
      standard deviation.
    yscale: 'log' or 'linear'.
  """
  t = np.asarray(t, np.float64)
  figure, (ax,) = style.panels()
  for label, (colour, _, dash) in style.colours(series).items():
    values = np.atleast_2d(np.asarray(series[label], np.float64))
    if values.shape[-1] != t.size:
      raise ValueError(f"line '{label}' has {values.shape[-1]} values for {t.size} places.")
    mean = values.mean(0)
    ax.plot(t, mean, dash, color=colour, label=label)
    if len(values) > 1:
      std = values.std(0, ddof=1)
      ax.fill_between(t, mean - std, mean + std, color=colour, alpha=0.18, linewidth=0)
  ax.axvline(0, color=style.MUTED, linewidth=0.8, linestyle=':')
  ax.set(xlabel='distance along the direction', ylabel=ylabel, yscale=yscale)
  ax.set_title(title)
  style.legend_below(figure, [ax])
  return figure
