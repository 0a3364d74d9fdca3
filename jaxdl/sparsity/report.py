"""The report of a study of lottery tickets: what each network reached, and at what density."""

from collections.abc import Mapping

import numpy as np

from jaxdl.options import check_name
from jaxdl.sparsity import criteria, held
from jaxdl.sparsity.claims import best, claims
from jaxdl.sparsity.found import (
  Cell,
  Found,
  accuracy_of,
  mean_of,
  percent_of,
  published,
  published_pgd,
  spread_of,
)
from jaxdl.train.metrics import read_metrics
from jaxdl.viz.bars import grouped_bars
from jaxdl.viz.curves import learning_curves, lines
from jaxdl.viz.report import Report, aggregate, paper_table, result_row, spread

# What the kept or the pruned weights of a ticket start from; a fresh draw is a baseline of its own.
ACTIONS = tuple(a for a in (*criteria.ACTIONS, *held.ACTIONS) if a not in ('rewind', 'reinit'))
KIND = {a: 'pruned' if a in held.ACTIONS else 'kept' for a in ACTIONS} | {'zero_if_shrunk': 'all'}


def write_report(c, cells: Mapping[str, Cell], context):
  """Writes the report of all stages of the study.

  Args:
    c: the configuration of the study.
    cells: name of a stage -> what it is.
    context: of the report's stage.
  """
  results, folders, barriers = {}, {}, {}
  for name, (trunk, level, arm, _, criterion) in cells.items():
    key = (trunk, level, arm, criterion)
    if arm == 'lines':
      barriers.setdefault((trunk, level), []).append(context.results[name])
      continue
    results.setdefault(key, []).append(context.results[name])
    folders.setdefault(key, []).append(context.directories[name])
  found = Found(c, results, folders)
  rows = result_rows(found, barriers)
  report = Report('Lottery tickets', context.directory, introduction(c))
  report.rows(rows)
  report.section('Accuracy and density')
  tables(report, found)
  curves_by_density(report, found)
  if beside := [r for r in rows if r['paper'] is not None]:
    report.section('The papers')
    report.table(*paper_table(beside), 'Published numbers belong to the networks of their '
                 'source, on all of CIFAR-10 or MNIST and at their full length.')
  report.section('Claims')
  report.text('\n'.join(f'- {line}' for line in claims(found, barriers)))
  report.section('The best way to find a ticket')
  report.text('\n'.join(f'- {line}' for line in best(found)))
  report.text('Differences smaller than the spread over seeds are ties.')
  layers(report, found)
  by_criterion(report, found)
  by_action(report, found)
  adversarial(report, found)
  connected(report, found, barriers)
  training(report, found)
  report.write()
  return {'rows': len(rows)}


def introduction(c):
  d = c.train.data
  part = f'{d.per_class} images a class' if d.per_class else 'all images'
  rounds = '; '.join(
    f'`{name}`: {c.trunk[name].scope}, {c.trunk[name].rate:.3g} of what is left in each of '
    f'{c.trunk[name].levels} rounds, rewound to step {c.trunk[name].k}'
    + (f', found by `{c.trunk[name].search}`' if c.trunk[name].search else '')
    + f', trained by `{c.trunk[name].training}`'
    for name in c.trunks
  )
  return (
    f'{c.train.model.name} on {d.name}: {part}, {c.train.epochs:g} epochs, batch '
    f'{c.train.batch_size}, {c.train.optimizer.name} at {c.train.optimizer.lr:g}; seeds '
    f'{list(c.seeds)}, {c.reinits} draw(s) of every random reinitialisation. Accuracies are those '
    'of the last step on the test images; no choice was made by them. Every ticket was trained '
    'inside its mask, and its pruned weights were counted (all zero) before, during and after '
    f'training. Searches: {rounds}.'
  )


def result_rows(found, barriers):
  rows = []
  for (trunk, _, arm, criterion), results in found.results.items():
    density = np.mean([r['weights']['density'] for r in results])
    of = f'{KIND[arm]} weights ' if arm in ACTIONS and not criterion else ''
    name = f'{trunk}: {of}{arm}' + (' (criterion)' if criterion else '')
    at = '' if arm == 'dense' else f' at {100 * density:.3g} %'
    paper, paper_pgd = (), ()
    if not criterion:
      clean, paper_pgd = published_pgd(found.c, trunk, arm)
      paper = clean or published(found.c, trunk, arm, density)
    reached = percent_of(results, accuracy_of)
    rows.append(result_row(name, f'test accuracy (%){at}', *reached, *paper))
    if all('robust' in r for r in results):
      survived = percent_of(results, lambda r: r['robust'])
      rows.append(result_row(name, f'PGD accuracy (%){at}', *survived, *paper_pgd))
    if criterion:
      before = percent_of(results, lambda r: r['before'])
      rows.append(result_row(name, f'test accuracy untrained (%){at}', *before))
  for (trunk, level), several in barriers.items():
    for other in several[0]:
      at = f' at {100 * found.density(trunk, level):.3g} %' if level else ', dense'
      values = [100 * lines_of[other]['barrier'] for lines_of in several]
      rows.append(result_row(f'{trunk}: to {other}', f'error barrier (points){at}',
                             *aggregate(values)))
  return rows


def tables(report, found):
  rows = []
  for key, results in found.results.items():
    trunk, level, arm, criterion = key
    if not criterion and arm not in ACTIONS:
      w = [r['weights'] for r in results]
      percent = lambda name, w=w: 100 * float(np.mean([x[name] for x in w]))
      rows.append([
        trunk, arm, percent('density'), percent('density_of_all'), percent('smallest_layer'),
        found.cost(*key), spread_of(results, accuracy_of),
      ])
  report.table(
    ['search', 'network', 'density (%)', 'of all (%)', 'smallest layer (%)', 'cost', 'test (%)'],
    rows, 'Density over the prunable weights, over all parameters, and of the layer that lost most '
    '(0: the layer has collapsed). The cost counts all updates that led to the network, the search '
    'too, in trainings of the dense network: where that is not trained to its end, a ticket may '
    'exceed it because its mask has learnt for longer.', '.3g',
  )


ARM_NAMES = {
  'ticket': 'winning ticket', 'reinit': 'ticket, random reinit', 'random': 'random mask',
  'finetune': 'pruned and finetuned', 'oneshot': 'one-shot ticket',
}
CHAINS = ('ticket', 'finetune')  # arms whose first network is the dense one


def curves_by_density(report, found):
  """Accuracy against density: the arms of each search, and all searches of one training."""
  c, trainings = found.c, {}
  for trunk in c.trunks:
    trainings.setdefault(c.trunk[trunk].training, []).append(trunk)
    arms = dict.fromkeys(arm for t, _, arm, crit in found.results if t == trunk and not crit)
    lined = {ARM_NAMES[arm]: _line(found, trunk, arm) for arm in arms if arm in ARM_NAMES}
    if len(lined) > 1:
      report.figure(
        density_figure(found, trunk, lined), f'density-{trunk}',
        f'Test accuracy against density, search `{trunk}` (rewound to step {c.trunk[trunk].k}, '
        f'trained by `{c.trunk[trunk].training}`).',
      )
  for name, trunks in trainings.items():
    if len(trunks) > 1:
      lined = {f'{t}, rewound to {c.trunk[t].k}': _line(found, t, 'ticket') for t in trunks}
      for arm in ('finetune', 'reinit', 'random'):
        if found.levels(trunks[0], arm):
          lined[f'{trunks[0]}: {ARM_NAMES[arm]}'] = _line(found, trunks[0], arm)
      report.figure(
        density_figure(found, trunks[0], lined), f'searches-{name}',
        f'Winning tickets of every search trained by `{name}`, and what else there is at their '
        'densities.',
      )


def density_figure(found, trunk, lined):
  """Accuracy against density, from dense on the left to sparse, and the dense network as a line.

  Args:
    found: a `Found`.
    trunk: whose dense network it is.
    lined: label -> (densities (%), (means, standard deviations or None)).
  """
  every = [at for x, _ in lined.values() for at in x]
  mean, std, _ = percent_of(found.of(trunk, 0, 'dense'), accuracy_of)
  dense = [max(every), min(every)], ([mean] * 2, None if std is None else [std] * 2)
  x, series = ({**{label: pair[i] for label, pair in lined.items()}, 'dense': dense[i]}
               for i in (0, 1))
  figure = lines(x, series, 'density (%)', 'test accuracy (%)', xscale='log')
  (ax,) = figure.axes
  ticks = []
  for at in sorted({round(float(value), 1) for value in every}):
    if not ticks or at > 1.2 * ticks[-1]:
      ticks.append(at)
  ax.set_xticks(ticks, [f'{at:.3g}' for at in ticks])
  ax.minorticks_off()
  ax.invert_xaxis()
  return figure


def _line(found, trunk, arm):
  points = [found.of(trunk, n, arm) for n in (0,) * (arm in CHAINS) + (*found.levels(trunk, arm),)]
  x = [100 * mean_of(results, lambda r: r['weights']['density']) for results in points]
  values = [[100 * accuracy_of(r) for r in results] for results in points]
  several = all(len(v) > 1 for v in values)
  return x, ([np.mean(v) for v in values], [np.std(v, ddof=1) for v in values] if several else None)


def layers(report, found):
  """Where global and layer-wise pruning take the weights from, at the last level of each."""
  heights = {}
  for trunk in found.c.trunks:
    if found.training(trunk) == 'standard':
      level = found.c.trunk[trunk].levels
      w = [r['weights'] for r in found.of(trunk, level, 'ticket')]
      label = f'{trunk} ({100 * np.mean([x["density"] for x in w]):.3g} %)'
      short = lambda path: path.removesuffix('/kernel')
      heights[label] = {
        short(p): 100 * float(np.mean([x['layers'][p] for x in w])) for p in w[0]['layers']
      }
  if heights:
    report.section('Layers')
    report.figure(grouped_bars(heights, 'density (%)', yscale='log'), 'layers',
                  'Density of every layer at the last level of each search. A missing bar is a '
                  'layer without weights.')


SCOPE = {
  'global': 'all layers ranked together',
  'layer': 'as many weights of every layer as the ticket has; saliencies rank all layers together',
}


def by_criterion(report, found):
  keys = [key for key in found.results if key[3]]
  if not keys:
    return
  report.section('Criteria')
  rows, heights = [], {}
  for key in keys:
    results = found.results[key]
    density = 100 * np.mean([r['weights']['density'] for r in results])
    rows.append([
      key[2], density, 100 * min(r['weights']['smallest_layer'] for r in results),
      spread_of(results, lambda r: r['before']), spread_of(results, accuracy_of), found.cost(*key),
    ])
    dense = mean_of(found.of(key[0], 0, 'dense')[: len(results)], accuracy_of)  # of the same seeds
    above = found.accuracy(*key) - 100 * dense
    at = f'{100 * found.density(key[0], key[1]):.3g} %'
    heights.setdefault(at, {})[key[2]] = above
  trunk = keys[0][0]
  report.table(
    ['criterion', 'density (%)', 'smallest layer (%)', 'untrained (%)', 'trained (%)', 'cost'],
    rows, f'One-shot masks ({SCOPE[found.c.criteria.scope]}), pruned from the '
    f'dense network of `{found.training(trunk)}` and rewound to step {found.c.trunk[trunk].k}; '
    'SNIP, GraSP and SynFlow look at the initial weights and train from there. Untrained: test '
    'accuracy of the mask over the weights it starts from, batch statistics recomputed.', '.3g',
  )
  report.figure(
    grouped_bars(heights, 'accuracy above dense (points)'), 'criteria',
    'Test accuracy of one-shot masks by criterion, above that of the dense network.',
  )


def by_action(report, found):
  """What the kept and the pruned weights of a ticket start from, beside the ticket itself."""
  rows, heights = [], {}
  for trunk, n, arm, crit in found.results:
    if arm in ACTIONS and not crit:
      shown = ('ticket', 'reinit', *(a for a in ACTIONS if n in found.levels(trunk, a)))
      at = f'{trunk}, {100 * found.density(trunk, n):.3g} %'
      if at not in heights:
        heights[at] = {a: found.accuracy(trunk, n, a) - found.accuracy(trunk, n, 'ticket')
                       for a in shown[1:] if found.of(trunk, n, a)}
        rows += [[at, a, KIND.get(a, 'kept'),
                  spread_of(found.of(trunk, n, a), accuracy_of)]
                 for a in shown if found.of(trunk, n, a)]
  if not rows:
    return
  report.section('What weights start from')
  report.table(
    ['search, density', 'action', 'of weights', 'test (%)'], rows,
    'Ticket: kept weights rewound, pruned ones zero. Kept weights may be drawn anew, reshuffled '
    'within a layer, or set to one constant in each, with the signs they had or others. Pruned '
    'weights may be frozen where they started, all of them or all but those that training had '
    'shrunk or grown, or as many random ones, which are zero; with zero_if_shrunk kept weights '
    'that had shrunk start at zero too. Frozen weights take part in the network, so it is not '
    'sparse: the density is that of the trained weights.',
  )
  report.figure(grouped_bars(heights, 'accuracy above the ticket (points)'), 'actions',
                'What the kept and the pruned weights of a ticket start from.')


def adversarial(report, found):
  rows = [
    [found.training(trunk), trunk, arm, 100 * results[0]['weights']['density'],
     spread_of(results, accuracy_of), spread_of(results, lambda r: r['robust'])]
    for (trunk, _, arm, _), results in found.results.items()
    if all('robust' in r for r in results)
  ]
  if rows:
    a = found.c.attack
    report.section('Under adversarial training')
    report.table(
      ['training', 'search', 'network', 'density (%)', 'clean (%)', f'PGD-{a.steps} (%)'], rows,
      f'PGD on the first {a.images} test images. Small networks lose much by adversarial training; '
      'Li et al. take VGG-16 and ResNet-18.', '.3g',
    )


def connected(report, found, barriers):
  if not barriers:
    return
  report.section('Linear mode connectivity')
  x, series, rows = {}, {}, []
  for (trunk, level), several in barriers.items():
    at = f'{100 * found.density(trunk, level):.3g} %' if level else 'dense'
    for other in several[0]:
      label = f'{trunk}, {at}, to {other}'
      errors = 100 * np.array([s[other]['error'] for s in several])
      x[label] = several[0][other]['alpha']
      series[label] = (errors.mean(0), errors.std(0, ddof=1) if len(errors) > 1 else None)
      values = [100 * s[other]['barrier'] for s in several]
      rows.append([trunk, found.c.trunk[trunk].k, at, other, spread(*aggregate(values))])
  report.table(['search', 'step', 'density', 'to', 'barrier (points)'], rows,
               'Largest error on the line minus the mean of its ends; batch statistics recomputed '
               'at every point.')
  report.figure(lines(x, series, 'place on the line', 'test error (%)'), 'connectivity',
                'Test error on the straight line between two networks.')


def training(report, found):
  """Training curves of the first search at several densities."""
  c = found.c
  trunk = c.trunks[0]
  check_name('trunk', trunk, c.trunk)
  logs = {}
  for level in [n for n in c.curves if n <= c.trunk[trunk].levels]:
    key = (trunk, level, 'ticket', False) if level else (found.training(trunk), 0, 'dense', False)
    label = f'{100 * found.density(trunk, level):.3g} %'
    logs[label] = [read_metrics(folder) for folder in found.folders[key]]
  last = (trunk, max(c.trunk[trunk].at, default=0), 'reinit', False)
  if last in found.folders:
    label = f'{100 * found.density(trunk, last[1]):.3g} %, reinit'
    logs[label] = [read_metrics(folder) for folder in found.folders[last]]
  report.section('Training')
  report.figure(
    learning_curves(logs, ['train/loss', 'test/accuracy']), 'curves',
    f'Training of the tickets of `{trunk}` at several densities, from step {c.trunk[trunk].k}, and '
    'of the last one randomly initialised anew.',
  )


