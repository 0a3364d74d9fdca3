"""The look every figure shares: one font, one colour-blind-safe palette, no decoration.

Figures are made without pyplot, so nothing global is left behind and no display is needed.
"""

import functools
import itertools

import matplotlib
import numpy as np
from matplotlib.figure import Figure

# Okabe & Ito (2008), https://jfly.uni-koeln.de/color/, ordered for contrast between neighbours.
PALETTE = (
  '#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#4D4D4D', '#B8A800',
)  # fmt: skip
MARKERS = ('o', 's', '^', 'D', 'v', 'P', 'X', '*')
SEQUENTIAL = 'Blues'
SURFACE = 'viridis'
INK = '#222222'
MUTED = '#666666'

RC = {
  'font.family': 'DejaVu Sans',
  'font.size': 10,
  'text.color': INK,
  'axes.edgecolor': '#9A9A9A',
  'axes.labelcolor': INK,
  'axes.labelsize': 10,
  'axes.titlesize': 11,
  'axes.titleweight': 'bold',
  'axes.titlelocation': 'left',
  'axes.titlepad': 8,
  'axes.spines.top': False,
  'axes.spines.right': False,
  'axes.grid': True,
  'axes.axisbelow': True,
  'axes.formatter.limits': (-4, 5),
  'axes.formatter.useoffset': False,
  'grid.color': '#E4E4E4',
  'grid.linewidth': 0.8,
  'lines.linewidth': 1.8,
  'lines.markersize': 4.5,
  'xtick.color': '#9A9A9A',
  'ytick.color': '#9A9A9A',
  'xtick.labelcolor': INK,
  'ytick.labelcolor': INK,
  'xtick.labelsize': 9,
  'ytick.labelsize': 9,
  'legend.frameon': False,
  'legend.fontsize': 9,
  'figure.facecolor': 'white',
  'figure.constrained_layout.h_pad': 0.06,
  'figure.constrained_layout.w_pad': 0.06,
  'figure.titlesize': 12,
  'figure.titleweight': 'bold',
  'image.interpolation': 'nearest',
}


def styled(function):
  """Runs a plotting function under the shared settings."""

  @functools.wraps(function)
  def wrapped(*args, **kwargs):
    with matplotlib.rc_context(RC):
      return function(*args, **kwargs)

  return wrapped


def panels(count: int = 1, columns: int = 3) -> tuple[Figure, list]:
  """A figure of `count` axes, at most `columns` beside each other.

  Several panels share the width of a page (9.4 inches), so that their text keeps its size there.
  """
  if count < 1:
    raise ValueError('a figure needs at least one panel: no names were given.')
  columns = min(columns, count)
  rows = -(-count // columns)
  width = 5.6 if columns == 1 else 9.4 / columns
  height = 0.45 + rows * min(3.3, 1.3 + 0.42 * width)
  figure = Figure((width * columns, height), layout='constrained')
  axes = [figure.add_subplot(rows, columns, i + 1) for i in range(count)]
  return figure, axes


def colours(labels) -> dict[str, tuple[str, str, str]]:
  """label -> (colour, marker, line style), all different for up to 32 labels."""
  cycle = itertools.product(('-', '--', ':', '-.'), zip(PALETTE, MARKERS, strict=True))
  return {label: (c, m, dash) for label, (dash, (c, m)) in zip(labels, cycle, strict=False)}


def legend_below(figure: Figure, axes) -> None:
  """One legend for the whole figure, under it: no curve is ever covered."""
  found = {}
  for ax in axes:
    for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
      found.setdefault(label, handle)
  if not found:
    return
  # Columns that fit the width: a character is about 0.085 inch, the line sample 0.5.
  widest = max(len(label) for label in found) * 0.085 + 0.5
  columns = int(np.clip(figure.get_figwidth() // widest, 1, len(found)))
  figure.legend(found.values(), found.keys(), loc='outside lower center', ncols=columns)
