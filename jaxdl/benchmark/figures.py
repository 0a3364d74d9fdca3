"""Ratios as bars."""

from collections.abc import Mapping

from matplotlib.figure import Figure

from jaxdl.benchmark.compare import Ratio
from jaxdl.viz import style


@style.styled
def ratio_bars(groups: Mapping[str, Mapping[str, Ratio]], xlabel: str) -> Figure:
  """Horizontal bars, one group under the other; the line at 1 is the group's reference.

  Args:
    groups: title of a comparison -> contender -> ratio.
    xlabel: what the ratio is.
  """
  bars = [(title, name, r) for title, rs in groups.items() for name, r in rs.items()]
  positions, at = [], 0.0
  for group in groups.values():
    positions += [at + 1 + i for i in range(len(group))]
    at += len(group) + 1.2
  figure = Figure((9.4, 1.0 + 0.26 * at), layout='constrained')
  ax = figure.add_subplot()
  palette = dict(zip(groups, style.PALETTE * len(groups), strict=False))
  for y, (title, _, r) in zip(positions, bars, strict=True):
    ax.barh(y, r.value, 0.8, xerr=r.spread, color=palette[title], ecolor=style.MUTED)
    ax.annotate(f'{r.value:.2f}', (r.value + (r.spread or 0), y), (4, 0),
                textcoords='offset points', va='center', fontsize=8)
  first = {}
  for y, (title, _, _) in zip(positions, bars, strict=True):
    first.setdefault(title, y)
  for title, y in first.items():
    ax.text(0, y - 0.62, title, fontsize=9, fontweight='bold', va='bottom')
  ax.axvline(1, color=style.INK, linewidth=1)
  ax.set_xlim(left=0)  # a spread may be wider than its bar is long
  ax.set_yticks(positions, [name for _, name, _ in bars])
  ax.set(xlabel=xlabel, ylim=(at - 0.5, -0.4))
  ax.margins(x=0.12)
  ax.grid(axis='y', visible=False)
  return figure
