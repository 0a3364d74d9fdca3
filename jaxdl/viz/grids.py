"""Grids of images."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from jaxdl.viz import style


@style.styled
def image_grid(
  images,
  columns: int | None = None,
  titles: Sequence[str] | None = None,
  row_titles: Sequence[str] | None = None,
  size: float | None = None,
) -> Figure:
  """Images in rows, in order.

  Args:
    images: [N, H, W, C] or [N, H, W]; float in [0, 1] (clipped) or uint8; C = 1 or 3.
    columns: images per row; by default the nearest to a square, at most 10.
    titles: one per image, or one per column (then over the first row only).
    row_titles: one per row, left of it.
    size: inches per image; by default such that the grid is about 7 inches wide.

  Raises:
    ValueError: wrong shape, or as many titles as neither images nor columns.
  """
  images = np.asarray(images)
  images = images[..., None] if images.ndim == 3 else images
  if images.ndim != 4 or images.shape[-1] not in (1, 3) or not len(images):
    raise ValueError(
      f'images have shape {list(images.shape)}; expected [N, H, W, C] with N > 0 and C = 1 or 3.'
    )
  if images.dtype != np.uint8:
    images = (np.clip(np.nan_to_num(images.astype(np.float32)), 0, 1) * 255).round()
    images = images.astype(np.uint8)
  count = len(images)
  columns = min(columns or min(int(np.ceil(np.sqrt(count))), 10), count)
  rows = -(-count // columns)
  titles = list(titles or [])
  if titles and len(titles) not in (columns, count):
    raise ValueError(f'{len(titles)} titles for {count} images in {columns} columns.')
  if row_titles is not None and len(row_titles) != rows:
    raise ValueError(f'{len(row_titles)} row titles for {rows} rows.')

  size = size or float(np.clip(7 / columns, 0.6, 1.6))
  height = size * images.shape[1] / images.shape[2]
  line = 0.19  # inches a line of text takes
  lines = 1 + max((title.count('\n') for title in titles), default=-1)
  text_rows = 0 if not titles else rows if len(titles) == count and rows > 1 else 1
  margin = 0.085 * max((len(title) for title in row_titles or ()), default=0)
  figure = Figure(
    (size * columns + margin + 0.1, height * rows + line * lines * text_rows + 0.1),
    layout='constrained',
  )
  figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
  for i in range(rows * columns):
    ax = figure.add_subplot(rows, columns, i + 1)
    ax.set(xticks=[], yticks=[])
    ax.grid(False)
    ax.spines[:].set_visible(False)
    if i < count:
      ax.imshow(images[i].squeeze(-1) if images.shape[-1] == 1 else images[i],
                cmap='gray', vmin=0, vmax=255, aspect='auto')  # fmt: skip
      if i < len(titles):
        ax.set_title(titles[i], fontsize=8, fontweight='normal', loc='center', pad=3)
    if row_titles is not None and i % columns == 0:
      ax.set_ylabel(row_titles[i // columns], rotation=0, ha='right', va='center', fontsize=9)
  return figure
