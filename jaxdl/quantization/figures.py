"""The figures of quantised networks, for reports."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from jaxdl.quantization.lq import all_codes
from jaxdl.quantization.survey import fitted
from jaxdl.quantization.tree import Layer
from jaxdl.viz import style


class Levels(NamedTuple):
  """A layer's weights before and after quantisation, each channel divided by its mean magnitude.

  Attributes:
    before: float [N].
    after: float [N].
    learned: the median over channels of each level, float [L].
    uniform: the same of a quantizer with equal steps, fitted to the same weights.
  """

  before: np.ndarray
  after: np.ndarray
  learned: np.ndarray
  uniform: np.ndarray


def levels_of(layer: Layer) -> Levels:
  """The `Levels` of a trained layer."""
  flat = layer.kernel.reshape(-1, layer.kernel.shape[-1])
  scale = np.abs(flat).mean(0)
  kept = scale > 0
  flat, basis, scale = flat[:, kept], layer.basis[kept], scale[kept]
  learned = _levels(basis / scale[:, None])
  after = learned[np.arange(flat.shape[1]), _nearest(flat / scale, learned)]
  uniform = fitted(flat / scale, basis.shape[-1], uniform=True)[0]
  return Levels(
    (flat / scale).ravel(), after.ravel(), np.median(learned, 0), np.median(_levels(uniform), 0)
  )


def _levels(basis):
  """[C, K] -> ascending [C, L]."""
  return np.sort(basis @ all_codes(basis.shape[-1], signed=True).T, -1)


def _nearest(x, levels):
  """x [N, C], levels [C, L] -> the index of the nearest level, [N, C]."""
  middles = (levels[:, 1:] + levels[:, :-1]) / 2
  return (x[..., None] > middles).sum(-1)


@style.styled
def level_histograms(layers: Mapping[str, Levels], columns: int = 3) -> Figure:
  """One panel per layer: weights before (a density) and after quantisation (the share of each
  value), the learned levels as lines, those of equal steps as dashes below the axis."""
  figure, axes = style.panels(len(layers), columns)
  for ax, (name, layer) in zip(axes, layers.items(), strict=True):
    edges = np.linspace(-4, 4, 81)
    for label, values, colour in (
      ('before', layer.before, style.PALETTE[0]), ('after', layer.after, style.PALETTE[1])
    ):
      share = np.histogram(values, edges)[0] / values.size
      ax.stairs(share, edges, fill=True, color=colour, alpha=0.3)
      ax.stairs(share, edges, color=colour, linewidth=1, label=label)
    for i, level in enumerate(layer.learned):
      ax.axvline(level, color=style.INK, linewidth=1.2, label='learned levels' if not i else None)
    for i, level in enumerate(layer.uniform):
      ax.axvline(level, color=style.PALETTE[2], linewidth=1.2, linestyle=(0, (2, 2)),
                 label='levels of equal steps' if not i else None)
    ax.set(xlim=(-4, 4), xlabel='weight / channel mean |weight|', ylabel='share')
    ax.set_title(name, fontsize=9)
  style.legend_below(figure, axes)
  return figure


@style.styled
def per_layer(series: Mapping[str, Mapping[str, float]], ylabel: str) -> Figure:
  """Bars side by side: label -> layer -> number. Every label has the same layers."""
  names = list(next(iter(series.values())))
  figure, (ax,) = style.panels()
  figure.set_figwidth(9.4)
  width = 0.8 / len(series)
  for i, (label, (colour, _, _)) in enumerate(style.colours(series).items()):
    at = np.arange(len(names)) + (i - (len(series) - 1) / 2) * width
    ax.bar(at, [series[label][n] for n in names], width, color=colour, label=label)
  ax.set_xticks(range(len(names)), names, rotation=30, ha='right', fontsize=8)
  ax.set(ylabel=ylabel)
  ax.grid(axis='x', visible=False)
  style.legend_below(figure, [ax])
  return figure
