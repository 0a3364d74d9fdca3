"""The confusion matrix."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from jaxdl.viz import style


@style.styled
def confusion_matrix(
  counts, names: Sequence[str] | None = None, title: str = '', normalise: bool = True
) -> Figure:
  """True classes down, predictions across.

  Args:
    counts: [K, K], counts[t, p] examples of class t taken for class p.
    names: K class names; numbers by default.
    normalise: colours and cells show per cent of the true class, otherwise counts. A class
      without examples stays empty.

  Raises:
    ValueError: counts is not square, or the names are not K.
  """
  counts = np.asarray(counts, np.float64)
  if counts.ndim != 2 or counts.shape[0] != counts.shape[1]:
    raise ValueError(f'counts have shape {list(counts.shape)}; expected [K, K].')
  k = len(counts)
  names = [str(i) for i in range(k)] if names is None else [str(name) for name in names]
  if len(names) != k:
    raise ValueError(f'{len(names)} class names for {k} classes.')
  totals = counts.sum(1, keepdims=True)
  shares = np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0)
  shown = 100 * shares if normalise else counts
  # The scale ends at 100 % unless every cell is far below: then the pattern would not show.
  highest = 100 if normalise and shown.max() > 50 else max(shown.max(), 1e-9)

  side = float(np.clip(0.46 * k, 2.4, 6.4))
  figure = Figure((side + 1.9, side + 1.1), layout='constrained')
  ax = figure.add_subplot()
  image = ax.imshow(shown, cmap=style.SEQUENTIAL, vmin=0, vmax=highest)
  ax.grid(False)
  ax.spines[:].set_visible(False)
  ax.set_title(title)
  ax.set(xlabel='predicted', ylabel='true')
  ax.tick_params(length=0)
  if k <= 30:
    slanted = max(map(len, names)) > 2
    angle, anchor = (45, 'right') if slanted else (0, 'center')
    ax.set_xticks(range(k), names, rotation=angle, ha=anchor, rotation_mode='anchor')
    ax.set_yticks(range(k), names)
  else:
    ax.set(xticks=[], yticks=[])
  if k <= 15:
    for t, p in np.argwhere(counts > 0):
      colour = 'white' if shown[t, p] > 0.55 * highest else style.INK
      value = shown[t, p]
      text = f'{value:.0f}' if not normalise or value >= 0.95 else f'{value:.1f}'
      ax.text(p, t, text, ha='center', va='center', fontsize=8, color=colour)
  bar = figure.colorbar(image, ax=ax, shrink=0.75, pad=0.02)
  bar.outline.set_visible(False)
  bar.set_label('% of the true class' if normalise else 'examples')
  return figure
