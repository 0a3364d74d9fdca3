"""Figures of adversarial patches."""

import numpy as np

from jaxdl.attacks.patch import UNTARGETED
from jaxdl.attacks.placement import cover
from jaxdl.patches.findings import Findings
from jaxdl.patches.measure import CONTROLS, GOALS, enlarged
from jaxdl.viz.curves import lines
from jaxdl.viz.grids import image_grid
from jaxdl.viz.heatmap import heatmaps

_CELL = 0.78  # inches of a picture: the longest class name fits
_BLOCKS = 48  # dots of an enlarged patch
_GRAY = 0.7  # of frames, and beside a round patch


def success(f: Findings):
  """Success against the side, white box, and of what was not trained."""
  series, x = {}, {}

  def add(label, sizes, values):
    values = 100 * np.array(values)
    x[label] = sizes
    series[label] = values.mean(1), values.std(1, ddof=1) if values.shape[1] > 1 else None

  for arm in f.plain():
    if f.full(arm):
      for goal in GOALS:
        add(f'{arm}, {goal}', f.sizes(arm),
            [f.rounds(arm, s, f.own(arm), goal) for s in f.sizes(arm)])
  first = f.c.victims[0]
  for kind in CONTROLS:
    add(f'{kind}, untargeted', list(f.controls),
        [f.controls[s][first][kind]['untargeted'] for s in f.controls])
  return lines(x, series, 'side of the patch (pixels)', 'success (%)')


def targets(f: Findings):
  """Class by size: success of every targeted patch on its own network."""
  table = lambda arm: np.array([list(f.of_targets(arm, s, f.own(arm)).values())
                                for s in f.sizes(arm)]).T
  return _by_size(f, 'targeted', table, 'target', 'success (%)')


def predicted(f: Findings):
  """Class by size: what images with the untargeted patch are taken for."""
  table = lambda arm: 100 * np.array([f.rates[arm, s][f.own(arm)]['predicted'][0]
                                      for s in f.sizes(arm)]).T
  return _by_size(f, 'untargeted', table, 'predicted', 'images (%)')


def _by_size(f, goal, table, ylabel, label):
  arms = [arm for arm in f.c.arms if f.full(arm)]
  titles = [f'{s} x {s}' for s in f.sizes(f.c.arms[0])]
  return heatmaps({f'{arm}: {goal}': table(arm) for arm in arms}, f.names, titles, 'patch', ylabel,
                  label, across=min(3, len(arms)) if len(arms) != 4 else 2)


def transfer(f: Findings, goal):
  """Arm by victim, one panel for each size that several arms have; arms with every target."""
  arms = [arm for arm in f.c.arms if f.c.arm[arm].targets == 'all']
  sizes = [s for s in f.controls if sum((arm, s) in f.rates for arm in arms) > 1]
  table = lambda s: np.array([[f.percent(arm, s, v, goal) for v in f.c.victims] for arm in arms])
  return heatmaps({f'{s} x {s}': table(s) for s in sizes}, arms, f.c.victims, 'victim',
                  'made for', 'success (%)')


def placements(f: Findings):
  """Trained at one kind of place by pasted at another."""
  kinds, tables = f.c.placements.arms, {goal: 100 * np.array(f.placements[goal]) for goal in GOALS}
  return heatmaps(tables, kinds, kinds, 'pasted', 'trained', 'success (%)', high=_top(tables))


def positions(f: Findings, size):
  """Success over the place of the upper left pixel."""
  maps = f.positions[size]
  tables = {'untargeted': 100 * np.array(maps['untargeted']),
            f'target {f.names[maps["target"]]}': 100 * np.array(maps['targeted'])}
  few = lambda side: [str(x) for x in side] if len(side) <= 16 else None
  return heatmaps(tables, few(maps['rows']), few(maps['columns']), 'column', 'row', 'success (%)',
                  high=_top(tables))


def _top(tables):
  """The end of a scale on which the largest rate is dark."""
  return max(1.0, *(np.max(table) for table in tables.values()))


def gallery(f: Findings, arm):
  """All patches of an arm, one size a row, each pixel a block, framed, gray outside the mask."""
  images, rows = [], f.sizes(arm)
  for size in rows:
    shown = [f.pictures[arm, size][None]] if (arm, size) in f.pictures else []
    whole = enlarged(np.concatenate([*shown, f.patches[arm, size]]),
                     cover(size, f.c.arm[arm].shape), (_BLOCKS, _BLOCKS), _GRAY)
    images.append(np.pad(whole, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=_GRAY))
  titles = ['any' if k == UNTARGETED else f.names[k] for k in f.made[arm, rows[0]]['targets']]
  titles = ['picture'] * (len(images[0]) > len(titles)) + titles
  return image_grid(np.concatenate(images), len(titles), titles, [f'{s} x {s}' for s in rows],
                    _CELL)


def samples(f: Findings):
  """One test image for each patch of the first arm, titled by the target and the prediction."""
  arm = f.c.arms[0]
  aims, rows = f.made[arm, f.sizes(arm)[0]]['targets'], f.sizes(arm)
  titles = [
    f'{"any" if k == UNTARGETED else f.names[k]}\n{f.names[found]}'
    for predicted in f.samples for k, found in zip(aims, predicted, strict=True)
  ]
  return image_grid(np.concatenate(f.sampled), len(aims), titles, [f'{s} x {s}' for s in rows],
                    _CELL)
