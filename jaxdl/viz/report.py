"""The report of a run: one account of it as Markdown, as one HTML file, and as rows of numbers.

A `Report` collects blocks in order and writes them all at the end::

  report = Report('Sharpness-aware minimization', workdir / 'report', intro='...')
  report.section('Accuracy')
  report.rows([result_row('sam', 'test accuracy', *aggregate(over_seeds), paper=97.3)])
  report.table(*paper_table(report.results))
  report.figure(lines(...), 'accuracy_vs_sigma', 'Test accuracy under weight noise.')
  report.write()

Nothing in the files depends on the clock, so the same results give the same report.
"""

import base64
import io
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from jaxdl.viz import page

DPI = 120
NOTHING = '–'
FIELDS = ('setting', 'metric', 'value', 'std', 'n', 'paper', 'source')


class Section(NamedTuple):
  title: str


class Text(NamedTuple):
  markdown: str


class Table(NamedTuple):
  header: list[str]
  rows: list[list[str]]
  numeric: list[bool]  # per column: right-aligned
  caption: str


class Image(NamedTuple):
  name: str
  caption: str
  png: bytes
  width: float  # inches


class Report:
  """Collects sections, texts, tables, figures and result rows; `write` makes the files.

  Attributes:
    results: the rows added so far.
  """

  def __init__(self, title: str, directory, intro: str = ''):
    """Args: title; directory the files go to; intro, Markdown shown under the title."""
    self.title = title
    self.directory = Path(directory)
    self.intro = intro
    self.results: list[dict] = []
    self._blocks: list = []

  def section(self, title: str) -> None:
    """Starts a section; its title enters the table of contents."""
    self._blocks.append(Section(title))

  def text(self, markdown: str) -> None:
    """Adds paragraphs, `- ` and `1. ` lists and ``` code; inline `code`, **bold**, [a](link)."""
    self._blocks.append(Text(markdown.strip()))

  def table(
    self,
    header: Sequence[str],
    rows: Sequence[Sequence[Any]],
    caption: str = '',
    format: str | Sequence[str] = '.4g',
    best: Mapping[str, str] | None = None,
  ) -> None:
    """Adds a table.

    Args:
      header: column names.
      rows: cells: text (shown as it is, inline Markdown allowed), numbers, or None for nothing.
      caption: shown with the table.
      format: format of numbers, for all columns or one each.
      best: column name -> 'max' or 'min': that number (every equal one) is set in bold.

    Raises:
      ValueError: a row is not as long as the header, or `best` names no column.
    """
    header, rows = [str(name) for name in header], [list(row) for row in rows]
    for row in rows:
      if len(row) != len(header):
        raise ValueError(f'table row {row} has {len(row)} cells; the header has {len(header)}.')
    formats = [format] * len(header) if isinstance(format, str) else list(format)
    cells = [[_cell(cell, spec) for cell, spec in zip(row, formats, strict=True)] for row in rows]
    for name, which in (best or {}).items():
      if name not in header or which not in ('max', 'min'):
        raise ValueError(
          f"best={{'{name}': '{which}'}}: expected a column of {header} and 'max' or 'min'."
        )
      column = header.index(name)
      numbers = [row[column] for row in rows if _finite(row[column])]
      winner = {'max': max, 'min': min}[which](numbers, default=None)
      for row, shown in zip(rows, cells, strict=True):
        if _finite(row[column]) and row[column] == winner:
          shown[column] = f'**{shown[column]}**'
    numeric = [
      any(_is_number(row[i]) for row in rows)
      and all(_is_number(row[i]) or row[i] is None for row in rows)
      for i in range(len(header))
    ]
    self._blocks.append(Table(header, cells, numeric, caption))

  def figure(self, figure: Figure, name: str, caption: str) -> None:
    """Adds a figure, saved as `<name>.png`.

    Raises:
      ValueError: the name is taken, or is no plain file name.
    """
    if not re.fullmatch(r'[\w][\w.-]*', name):
      raise ValueError(f"figure name '{name}': use letters, digits, '_', '-' and '.' only.")
    if any(isinstance(block, Image) and block.name == name for block in self._blocks):
      raise ValueError(f"the report already has a figure named '{name}'.")
    self._blocks.append(Image(name, caption, _png(figure), float(figure.get_figwidth())))

  def rows(self, rows: Sequence[Mapping]) -> None:
    """Adds result rows (see `result_row`) to `results.json`.

    Raises:
      ValueError: a row breaks the format.
    """
    self.results.extend(validated(row) for row in rows)

  def write(self) -> Path:
    """Writes the PNGs, `results.json`, `report.html` and `report.md`; each appears whole.

    Returns:
      The path of `report.html`, which holds everything and opens without a server.
    """
    self.directory.mkdir(parents=True, exist_ok=True)
    for block in self._blocks:
      if isinstance(block, Image):
        write_atomically(self.directory / f'{block.name}.png', block.png)
    results = json.dumps(self.results, indent=1, allow_nan=False, ensure_ascii=False)
    write_atomically(self.directory / 'results.json', results + '\n')
    html = self.directory / 'report.html'
    write_atomically(html, self._html())
    write_atomically(self.directory / 'report.md', self._markdown())
    return html

  def _markdown(self) -> str:
    parts = [f'# {self.title}', self.intro.strip()]
    for block in self._blocks:
      match block:
        case Section(title):
          parts.append(f'## {title}')
        case Text(markdown):
          parts.append(markdown)
        case Table():
          parts += [page.markdown_table(block.header, block.rows, block.numeric)]
          parts += [f'*{block.caption}*'] if block.caption else []
        case Image(name, caption):
          parts += [f'![{page.plain(caption)}]({name}.png)', f'*{caption}*' if caption else '']
    return '\n\n'.join(part for part in parts if part) + '\n'

  def _html(self) -> str:
    body, contents, used = [], [], set()
    for block in self._blocks:
      match block:
        case Section(title):
          anchor = page.slug(title, used)
          contents.append((anchor, title))
          body.append(f'<h2 id="{anchor}">{page.inline(title)}</h2>')
        case Text(markdown):
          body.append(page.blocks(markdown))
        case Table():
          body.append(page.table(block.header, block.rows, block.numeric, block.caption))
        case Image(_, caption, png, width):
          source = f'data:image/png;base64,{base64.b64encode(png).decode()}'
          body.append(page.figure(source, caption, round(width * 96)))
    return page.document(self.title, page.blocks(self.intro), contents, '\n'.join(body))


def result_row(
  setting: str,
  metric: str,
  value: float | None,
  std: float | None = None,
  n: int = 1,
  paper: float | str | None = None,
  source: str | None = None,
) -> dict:
  """One line of `results.json`.

  Args:
    setting: the arm, for example 'sam, rho 0.05'.
    metric: what was measured, with its unit, for example 'test accuracy (%)'.
    value: mean over the runs. A run that diverged (NaN, infinity) is recorded as null.
    std: standard deviation over the runs (ddof 1), or None for a single run.
    n: number of runs.
    paper: the published number, or text such as '92.0-92.8'.
    source: where it was published ('table 2'), or a remark.
  """
  number = lambda x: float(x) if x is not None and math.isfinite(x) else None
  paper = paper if isinstance(paper, str) else number(paper)
  row = (str(setting), str(metric), number(value), number(std), int(n), paper, source)
  return validated(dict(zip(FIELDS, row, strict=True)))


def validated(row: Mapping) -> dict:
  """The row with its fields in order.

  Raises:
    ValueError: a field is missing, unknown, or of the wrong kind.
  """
  row = dict(row)
  if set(row) != set(FIELDS):
    raise ValueError(f'result row has fields {sorted(row)}; expected {sorted(FIELDS)}.')
  where = f"result row '{row['setting']}', '{row['metric']}'"
  for name in ('setting', 'metric'):
    if not isinstance(row[name], str) or not row[name]:
      raise ValueError(f"{where}: '{name}' must be a non-empty string.")
  for name in ('value', 'std'):
    if row[name] is not None and not _finite(row[name]):
      raise ValueError(f"{where}: '{name}' is {row[name]!r}; expected a finite number or null.")
  if not isinstance(row['n'], int) or row['n'] < 1:
    raise ValueError(f"{where}: 'n' is {row['n']!r}; expected a whole number of runs.")
  if not (row['paper'] is None or isinstance(row['paper'], str) or _finite(row['paper'])):
    raise ValueError(f"{where}: 'paper' is {row['paper']!r}; expected a number, text or null.")
  if not (row['source'] is None or isinstance(row['source'], str)):
    raise ValueError(f"{where}: 'source' must be text or null.")
  return {name: row[name] for name in FIELDS}


def aggregate(values) -> tuple[float, float | None, int]:
  """(mean, standard deviation with ddof 1 or None for one value, number) of the runs' values [n].

  A NaN makes the mean NaN: a seed that diverged is not averaged away.
  """
  values = np.asarray(values, np.float64).ravel()
  if values.size == 0:
    raise ValueError('aggregate() needs at least one value.')
  std = float(values.std(ddof=1)) if values.size > 1 else None
  return float(values.mean()), std, int(values.size)


def paper_table(rows: Sequence[Mapping]) -> tuple[list[str], list[list[str]]]:
  """Header and cells comparing result rows with what was published, for `Report.table`."""
  header = ['setting', 'metric', 'ours', 'paper', 'source']
  cells = []
  for row in rows:
    paper = row['paper']
    cells.append(
      [
        row['setting'],
        row['metric'],
        spread(row['value'], row['std'], row['n']),
        NOTHING if paper is None else paper if isinstance(paper, str) else f'{paper:.5g}',
        row['source'] or NOTHING,
      ]
    )
  return header, cells


def spread(value: float | None, std: float | None = None, n: int = 1) -> str:
  """'91.42 ± 0.13 (n = 3)': rounded to the two leading digits of std, else to four digits."""
  if value is None:
    return NOTHING
  if std is None:
    return f'{value:.4g}'
  places = 2 if std <= 0 else min(max(1 - math.floor(math.log10(std)), 0), 6)
  return f'{value:.{places}f} ± {std:.{places}f} (n = {n})'


def write_atomically(path: Path, content: str | bytes) -> None:
  """Writes beside `path`, then moves: a reader never sees half a file."""
  partial = path.with_name(f'.{path.name}.partial')
  partial.write_bytes(content.encode() if isinstance(content, str) else content)
  os.replace(partial, path)


def _png(figure: Figure) -> bytes:
  buffer = io.BytesIO()
  figure.savefig(buffer, format='png', dpi=DPI, metadata={'Software': None})
  return buffer.getvalue()


def _is_number(cell) -> bool:
  return isinstance(cell, (int, float, np.number)) and not isinstance(cell, bool)


def _finite(cell) -> bool:
  return _is_number(cell) and math.isfinite(cell)


def _cell(cell, spec: str) -> str:
  if cell is None:
    return NOTHING
  if isinstance(cell, (int, np.integer)) and not isinstance(cell, bool):
    return str(int(cell))
  return format(float(cell), spec) if _is_number(cell) else str(cell)
