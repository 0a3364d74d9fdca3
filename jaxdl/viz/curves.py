"""Curves: metrics over training, and any quantity against another with its spread."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from jaxdl.viz import style


@style.styled
def learning_curves(
  runs: Mapping[str, Mapping | Sequence[Mapping]],
  names: Sequence[str],
  *,
  titles: Sequence[str] | None = None,
  xlabel: str = 'step',
  yscale: str = 'linear',
  columns: int = 3,
) -> Figure:
  """One panel per metric, one line per label.

  Args:
    runs: label -> what `read_metrics` returns, {name: (steps [n], values [n])}; or a list of
      those, one per seed, drawn as mean and band of one standard deviation (ddof 1) over the
      steps they share. What was averaged over the steps since the last record ('train/...') is left
      out where these are fewer than half as many as before: a last batch or two is noise.
    names: metrics to show; a run without one is left out of that panel.
    titles: panel titles, `names` by default.
    yscale: 'linear', 'log' or 'symlog'.
    columns: panels beside each other.

  Raises:
    ValueError: no run has a metric of `names`.
  """
  look = style.colours(runs)
  figure, axes = style.panels(len(names), columns)
  for ax, name, title in zip(axes, names, titles or names, strict=True):
    drawn = False
    for label, several in runs.items():
      several = [several] if isinstance(several, Mapping) else several
      series = [_whole(name, *run[name]) for run in several if name in run]
      if not series:
        continue
      drawn = True
      colour, _, dash = look[label]
      steps, mean, std = _over_seeds(series)
      point = 'o' if len(steps) == 1 else None
      ax.plot(steps, mean, dash, color=colour, marker=point, label=label)
      if std is not None:
        ax.fill_between(steps, mean - std, mean + std, color=colour, alpha=0.18, linewidth=0)
    if not drawn:
      known = sorted({known for run in runs.values() for known in _names(run)})
      raise ValueError(f"no run recorded '{name}'; recorded: {', '.join(known) or 'nothing'}.")
    ax.set(xlabel=xlabel, yscale=yscale)
    ax.set_title(title)
  style.legend_below(figure, axes)
  return figure


@style.styled
def lines(
  x,
  series: Mapping[str, tuple],
  xlabel: str,
  ylabel: str,
  title: str = '',
  xscale: str = 'linear',
  yscale: str = 'linear',
  paper: Mapping[str, tuple] | None = None,
) -> Figure:
  """A quantity against another, one line per label, with bands of one standard deviation.

  Args:
    x: [P], shared by all labels; or label -> [P].
    series: label -> (mean [P], std [P] or None). NaN leaves a gap.
    xscale: 'linear', 'log' or 'symlog' (its linear part ends at the smallest positive x, so that
      x = 0 can be shown beside a log grid).
    yscale: the same for y, with matplotlib's defaults.
    paper: label -> (x [Q], y [Q]), published points, drawn as hollow stars in the label's colour.

  Raises:
    ValueError: an x and its mean differ in length.
  """
  paper = paper or {}
  look = style.colours(list(dict.fromkeys([*series, *paper])))
  figure, (ax,) = style.panels()
  seen = []
  for label, (mean, std) in series.items():
    colour, marker, dash = look[label]
    at = np.asarray(x[label] if isinstance(x, Mapping) else x, np.float64)
    mean = np.asarray(mean, np.float64)
    if at.shape != mean.shape:
      raise ValueError(f"line '{label}' has {mean.size} values for {at.size} places on x.")
    seen.append(at)
    ax.plot(at, mean, dash, color=colour, marker=marker, label=label)
    if std is not None:
      std = np.asarray(std, np.float64)
      ax.fill_between(at, mean - std, mean + std, color=colour, alpha=0.18, linewidth=0)
  for label, (at, values) in paper.items():
    ax.plot(
      at, values, linestyle='none', marker='*', markersize=11, markerfacecolor='white',
      markeredgewidth=1.4, color=look[label][0], label=f'{label} (paper)', zorder=3,
    )  # fmt: skip
  if xscale == 'symlog':
    positive = np.abs(np.concatenate(seen)) if seen else np.ones(1)
    positive = positive[positive > 0]
    ax.set_xscale('symlog', linthresh=positive.min() if positive.size else 1.0)
  else:
    ax.set_xscale(xscale)
  ax.set(xlabel=xlabel, ylabel=ylabel, yscale=yscale)
  ax.set_title(title)
  style.legend_below(figure, [ax])
  return figure


def _names(run) -> set:
  runs = [run] if isinstance(run, Mapping) else run
  return {name for one in runs for name in one}


def _whole(name, steps, values):
  """(steps, values) without a last average over few steps."""
  short = len(steps) > 2 and steps[-1] - steps[-2] < 0.5 * (steps[-2] - steps[-3])
  return (steps[:-1], values[:-1]) if short and name.startswith('train/') else (steps, values)


def _over_seeds(series):
  """(steps, mean, std or None) of one or several (steps, values)."""
  if len(series) == 1:
    steps, values = series[0]
    return np.asarray(steps), np.asarray(values, np.float64), None
  tables = [dict(zip(np.asarray(s).tolist(), v, strict=True)) for s, v in series]
  steps = sorted(set.intersection(*(set(table) for table in tables)))
  values = np.array([[table[step] for step in steps] for table in tables], np.float64)
  return np.array(steps), values.mean(0), values.std(0, ddof=1)
