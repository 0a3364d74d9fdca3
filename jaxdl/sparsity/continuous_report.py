"""The report of continuous sparsification and supermasks: what was found, at what density."""

from collections.abc import Mapping

import numpy as np

from jaxdl.train.metrics import read_metrics
from jaxdl.viz.bars import grouped_bars
from jaxdl.viz.curves import learning_curves, lines
from jaxdl.viz.report import Report, aggregate, paper_table, result_row, spread

CODE = "Savarese et al. 2020 (1912.04427), README of the authors' code, ResNet-20"
ZHOU = 'Zhou et al. 2019 (1905.01067), fully connected, MNIST'
DENSE = ('90-91', CODE)
TICKET = ('91.5-92.0', f'{CODE}, 20-30 % of the weights')
# Their masks keep large final weights that have their first sign.
HEURISTIC = {
  'rewind': (80.0, f'{ZHOU}, large final weights of the same sign [memory]'),
  'constant': (86.0, f'{ZHOU}, abstract: the best mask that is not learned [which: memory]'),
}
LEARNED = {
  'plain': (95.3, f'{ZHOU}, learned masks'),
  'signed_rescaled': (98.0, f'{ZHOU}, learned masks, signed constants, rescaled [memory]'),
}
TRAINED = (97.7, f'{ZHOU}, trained weights [memory]')
HARD = 1.0  # percent of masks that may be undecided where they count as hard


def write_report(c, context):
  """Writes the report of all stages of the study.

  Args:
    c: the configuration of the study.
    context: of the report's stage.
  """
  of = lambda name: [context.results[f'{name}-{seed}'] for seed in c.seeds]
  test = lambda name: [100 * r['test']['accuracy'] for r in of(name)]
  rounds, data, mlp = c.search.rounds, c.train.data, c.mlp.data
  images = f'{data.per_class} images a class' if data.per_class else 'all images'
  digits = f'{mlp.per_class} images a class' if mlp.per_class else 'all images'
  report = Report(
    'Continuous sparsification and supermasks', context.directory,
    f'{c.train.model.name} on {data.name}: {images}, rounds of {c.train.epochs:g} epochs, batch '
    f'{c.train.batch_size}, scores at {c.search.rate:g} times the rate of the weights. Supermasks: '
    f'{c.mlp.model.name} on {mlp.name}: {digits}, {c.masks.epochs:g} epochs. Seeds '
    f'{list(c.seeds)}; means over seeds ± one standard deviation. Densities are over the weights '
    'that may be pruned; those of the last layer are not among them.',
  )
  report.rows(result_rows(c, of, test))
  _searches(report, c, of, test)
  _tickets(report, c, of, test)
  _untrained(report, c, of, test)
  if published := [r for r in report.results if r['paper'] is not None]:
    report.section('The papers')
    report.table(*paper_table(published), 'Where our budget is smaller, compare the order.')
  report.section('Claims')
  report.text('\n'.join(f'- {line}' for line in claims(c, of, test)))
  report.section('Training')
  _curves(report, c, context)
  report.write()
  return {'rows': len(report.results), 'rounds': rounds}


def result_rows(c, of, test):
  """Every number of the report, for `results.json`."""
  resnet = c.train.data.name == 'cifar10' and c.train.model.name == 'resnet20'
  mnist = c.mlp.data.name == 'mnist'
  row = lambda setting, metric, values, paper=(): result_row(
    setting, metric, *aggregate(values), *paper)
  accuracy, density = 'test accuracy (%)', 'density (%)'
  out = [row('dense', accuracy, test('dense'), DENSE if resnet else ())]
  for name, n in _rounds(c):
    found = of(f'cs-{name}-{n}')
    kept = [100 * r['density'] for r in found]
    out += [
      row(_search(name, n), density, kept),
      row(_search(name, n), accuracy, test(f'cs-{name}-{n}')),
      row(_search(name, n), 'soft test accuracy (%)', [100 * r['soft']['accuracy'] for r in found]),
      row(_search(name, n), 'undecided masks (%)', [100 * r['undecided'] for r in found]),
    ]
    for arm, stage in _arms(c, name, n).items():
      paper = TICKET if resnet and arm == 'ticket' and 20 <= np.mean(kept) <= 30 else ()
      out.append(row(f'{arm} of {_search(name, n)}', accuracy, test(stage), paper))
      for metric, key in (('density of all parameters (%)', 'density_of_all'),
                          ('smallest layer (%)', 'smallest_layer')):
        shares = [100 * r[key] for r in of(stage)]
        out.append(row(f'{arm} of {_search(name, n)}', metric, shares))
  out.append(row('trained weights', accuracy, test('mlp'), TRAINED if mnist else ()))
  for (criterion, action), best in _best(c, of).items():
    paper = HEURISTIC[action] if mnist and criterion == 'large_final_same_sign' else ()
    out.append(row(f'untrained, {criterion}, {WEIGHTS[action]}', accuracy, best[1], paper))
  for name in c.supermasks:
    drawn = [100 * np.mean(r['draws']) for r in of(f'supermask-{name}')]
    out.append(row(f'supermask {name}', accuracy, drawn, LEARNED.get(name, ()) if mnist else ()))
    kept = [100 * r['density'] for r in of(f'supermask-{name}')]
    out.append(row(f'supermask {name}', 'expected density (%)', kept))
  return out


WEIGHTS = {'rewind': 'initial weights', 'constant': 'signed constants'}


def _search(name, n):
  return f'search {name}, round {n}'


def _rounds(c):
  return [(name, n) for name in c.starts for n in range(1, c.search.rounds + 1)]


def _arms(c, name, n):
  """Arm -> stage of what was trained at the density of this round."""
  last = n == c.search.rounds
  out = {}
  if last or c.tickets == 'all':
    out['ticket'] = f'cs-{name}-{n}-ticket'
  if last:
    out |= {'random': f'cs-{name}-{n}-random', 'magnitude': f'imp-{name}-{n}'}
  return out


def _mean(values):
  return spread(*aggregate(values))


def _searches(report, c, of, test):
  report.section('Searches')
  rows = []
  for name, n in _rounds(c):
    found = of(f'cs-{name}-{n}')
    percent = lambda f, found=found: _mean([100 * f(r) for r in found])
    rows.append([
      name, f'{c.start[name]:g}', n, f'{n * c.train.epochs:g}', percent(lambda r: r['density']),
      percent(lambda r: min(r['layers'].values())), percent(lambda r: r['undecided']),
      percent(lambda r: r['soft']['accuracy']), _mean(test(f'cs-{name}-{n}')),
    ])
  report.table(
    ['search', 's_0', 'round', 'epochs so far', 'density (%)', 'smallest layer (%)',
     'undecided (%)', 'soft accuracy (%)', 'hard accuracy (%)'], rows,
    'The networks as they come out of each round, before any rewinding. Undecided: masks between '
    '0.05 and 0.95 at the last temperature. Soft and hard: test accuracy with sigmoid(beta s) and '
    'with 1[s > 0].')


def _tickets(report, c, of, test):
  report.section('Tickets')
  rows, points = [], {'ticket': [], 'random': [], 'magnitude': []}
  for name, n in _rounds(c):
    arms = _arms(c, name, n)
    density = float(np.mean([100 * r['density'] for r in of(f'cs-{name}-{n}')]))
    for arm, stage in arms.items():
      points[arm].append((density, float(np.mean(test(stage)))))
    if arms:
      cells = [_mean(test(arms[arm])) if arm in arms else None for arm in points]
      rows.append([name, n, density, *cells, f'{(n + 1) * c.train.epochs:g}'])
  report.table(
    ['search', 'round', 'density (%)', 'ticket (%)', 'random, same layers (%)', 'magnitude (%)',
     'epochs in all'], rows,
    f'Test accuracy after training for {c.train.epochs:g} epochs inside the mask, from the weights '
    f'at epoch {c.search.rewind}; dense, from there too: {_mean(test("dense"))} %. Magnitude is '
    'pruned in as many rounds to the same density, so that searching and training take the same '
    'number of epochs. One round of several searches is a parallel search, the rounds of one are a '
    'sequential one.')
  series = {arm: sorted(p) for arm, p in points.items() if p}
  span = {'dense': [0, 1.2 * max(d for p in series.values() for d, _ in p)]}
  report.figure(
    lines({arm: [d for d, _ in p] for arm, p in series.items()} | span,
          {arm: ([a for _, a in p], None) for arm, p in series.items()}
          | {'dense': ([float(np.mean(test('dense')))] * 2, None)},
          'density (%)', 'test accuracy (%)'),
    'tickets', 'Tickets of all searches and rounds, random masks with the same layers, and '
    'magnitude pruning at the density of the last rounds.')
  name, n = c.starts[-1], c.search.rounds
  arms = _arms(c, name, n)
  layer = lambda stage: {
    path.removesuffix('/kernel'): 100 * float(np.mean([r['layers'][path] for r in of(stage)]))
    for path in of(stage)[0]['layers']
  }
  report.figure(
    grouped_bars({arm: layer(arms[arm]) for arm in ('ticket', 'magnitude')}, 'density (%)'),
    'layers', f'Kept weights of each layer at the end of the search {name}, and of magnitude '
    'pruning at the same density.')


def _best(c, of):
  """(criterion, action) -> (density, accuracies (%) of all seeds) where its mean is largest."""
  results, out = of('untrained'), {}
  for i, row in enumerate(results[0]):
    key = row['criterion'], row['action']
    reached = [100 * r[i]['accuracy'] for r in results]
    if key not in out or np.mean(reached) > np.mean(out[key][1]):
      out[key] = 100 * row['density'], reached
  return out


def _untrained(report, c, of, test):
  report.section('Supermasks')
  rows = [['weights trained', None, _mean(test('mlp'))]]
  for (criterion, action), (density, reached) in _best(c, of).items():
    rows.append([f'{criterion}, {WEIGHTS[action]}', density, _mean(reached)])
  for name in c.supermasks:
    found = of(f'supermask-{name}')
    density = 100 * float(np.mean([r['density'] for r in found]))
    drawn = [100 * np.mean(r['draws']) for r in found]
    rows.append([f'learned, {name}', density, _mean(drawn)])
  report.table(
    ['mask', 'density (%)', 'test accuracy (%)'], rows,
    'Masks over weights that were never trained. A criterion is shown at its best density; a '
    f'learned mask is drawn {c.untrained.draws} times, and its accuracy is the mean over the draws '
    '(its density: of the probabilities).')
  for action, name in (('rewind', 'untrained'), ('constant', 'untrained_signed')):
    _criteria(report, c, of, action, name)


def _criteria(report, c, of, action, name):
  """Accuracy against density for all criteria, and where learned masks of such weights lie."""
  results, series = of('untrained'), {}
  for i, row in enumerate(results[0]):
    if row['action'] == action:
      reached = aggregate([100 * r[i]['accuracy'] for r in results])
      series.setdefault(row['criterion'], []).append((100 * row['density'], reached))
  for mask in c.supermasks:
    if c.supermask[mask].signed == (action == 'constant'):
      found = of(f'supermask-{mask}')
      reached = aggregate([100 * np.mean(r['draws']) for r in found])
      density = 100 * float(np.mean([r['density'] for r in found]))
      series[f'learned, {mask}'] = [(density, reached)]
  for points in series.values():
    points.sort()
  band = lambda points: None if points[0][1][1] is None else [v[1] for _, v in points]
  report.figure(
    lines({label: [d for d, _ in p] for label, p in series.items()},
          {label: ([v[0] for _, v in p], band(p)) for label, p in series.items()},
          'density (%)', 'test accuracy (%)', WEIGHTS[action]),
    name, f'Masks over {WEIGHTS[action]}, which are not trained: taken from the trained network by '
    'a criterion, and learned.')


def claims(c, of, test):
  """The papers' claims as sentences with our numbers; a miss is said as one."""
  said = lambda seen: '**seen**' if seen else '**not seen**'
  mean = lambda values: float(np.mean(values))
  n, dense = c.search.rounds, mean(test('dense'))
  every = [of(f'cs-{name}-{i}') for name, i in _rounds(c)]
  undecided = max(100 * mean([r['undecided'] for r in found]) for found in every)
  yield (f'Masks end hard (at most {HARD:g} % undecided in any search): {said(undecided <= HARD)} '
         f'(at most {undecided:.2f} %).')
  gap = max(
    abs(100 * mean([r['soft']['accuracy'] - r['test']['accuracy'] for r in found]))
    for found in every
  )
  yield (f'Hardening costs no accuracy (within 1 point): {said(gap <= 1)} (soft and hard masks '
         f'differ by at most {gap:.2f} points).')
  ordered = sorted(c.starts, key=lambda name: c.start[name])
  if len(ordered) > 1:
    kept = [100 * mean([r['density'] for r in of(f'cs-{name}-{n}')]) for name in ordered]
    pairs = zip(ordered, kept, strict=True)
    shown = ', '.join(f'{c.start[name]:g}: {k:.3g} %' for name, k in pairs)
    sparser = all(a < b for a, b in zip(kept, kept[1:], strict=False))
    yield f'A lower first score gives a sparser ticket: {said(sparser)} ({shown}).'
  for name in c.starts:
    reached = {arm: mean(test(stage)) for arm, stage in _arms(c, name, n).items()}
    kept = 100 * mean([r['density'] for r in of(f'cs-{name}-{n}')])
    where = f'search {name}, {kept:.3g} % of the weights'
    ticket = reached['ticket']
    for claim, other, slack in (
      ('Tickets reach the dense network (within 0.2 point)', dense, 0.2),
      ('Tickets beat magnitude pruning at the same density and epochs', reached['magnitude'], 0),
      ('Tickets beat random masks with the same layers', reached['random'], 0),
    ):
      seen = ticket > other - slack
      yield f'{claim}: {said(seen)} ({where}: {ticket:.2f} % against {other:.2f} %).'
  yield from _supermask_claims(c, of, mean, said)


def _supermask_claims(c, of, mean, said):
  best = {key: (density, mean(reached)) for key, (density, reached) in _best(c, of).items()}
  get = lambda criterion: best.get((criterion, 'rewind'), (0.0, -1.0))[1]
  pairs = (('large_final', 'random'), ('large_final_same_sign', 'large_final'))
  for one, other in pairs:
    if get(one) >= 0 and get(other) >= 0:
      yield (f'Untrained, the criterion {one} beats {other}: {said(get(one) > get(other))} '
             f'({get(one):.2f} % against {get(other):.2f} %).')
  learned = {name: mean([100 * np.mean(r['draws']) for r in of(f'supermask-{name}')])
             for name in c.supermasks}
  top = max(accuracy for _, accuracy in best.values())
  name = max(learned, key=learned.get)
  yield (f'A learned mask beats every criterion over untrained weights: '
         f'{said(learned[name] > top)} ({name} {learned[name]:.2f} % against {top:.2f} %).')
  if {'plain', 'signed_rescaled'} <= learned.keys():
    better = learned['signed_rescaled'] > learned['plain']
    yield (f"Signed constants and rescaling improve learned masks: {said(better)} "
           f"({learned['signed_rescaled']:.2f} % against {learned['plain']:.2f} %).")


def _curves(report, c, context):
  """Figures over epochs; the rounds of a search follow each other."""
  read = lambda stage: read_metrics(context.directories[stage] / 'metrics.jsonl')
  logs = {name: [_joined(c, name, seed, read) for seed in c.seeds] for name in c.starts}
  report.figure(
    learning_curves(
      logs, ['train/beta', 'train/density', 'train/soft_density', 'train/undecided'],
      titles=['temperature', 'density, 1[s > 0]', 'mean soft mask', 'undecided masks'],
      xlabel='epoch', columns=2),
    'search', 'The searches: temperature, densities, and masks between 0.05 and 0.95.')
  report.figure(
    learning_curves(
      logs, ['train/loss', 'train/accuracy', 'test/accuracy'],
      titles=['loss, soft masks', 'training accuracy, soft masks', 'test accuracy, hard masks'],
      xlabel='epoch'),
    'search_accuracy', 'The searches: loss with the penalty and accuracy on augmented batches with '
    'soft masks, and accuracy on the test images with the masks made hard.')
  n = c.search.rounds
  tickets = {'dense': [read(f'dense-{seed}') for seed in c.seeds]}
  for name in c.starts:
    for arm, stage in _arms(c, name, n).items():
      tickets[f'{arm}, {name}'] = [read(f'{stage}-{seed}') for seed in c.seeds]
  report.figure(
    learning_curves(tickets, ['train/loss', 'train/accuracy', 'test/accuracy']), 'training',
    f'Training inside the masks of round {n}, and the dense network.')
  masks = {name: [read(f'supermask-{name}-{seed}') for seed in c.seeds] for name in c.supermasks}
  report.figure(
    learning_curves(masks, ['train/loss', 'train/accuracy'], columns=2), 'learning_masks',
    'Learning masks: every step draws another one.')


def _joined(c, name, seed, read):
  """The metrics of a search against its epochs."""
  out: dict[str, list] = {}
  for n in range(1, c.search.rounds + 1):
    metrics = read(f'cs-{name}-{n}-{seed}')
    last = metrics['train/loss'][0][-1]
    for key, (steps, values) in metrics.items():
      at = (n - 1 + np.asarray(steps) / last) * c.train.epochs
      out.setdefault(key, []).append((at, values))
  join: Mapping = {
    key: tuple(np.concatenate(parts) for parts in zip(*pairs, strict=True))
    for key, pairs in out.items()
  }
  return join
