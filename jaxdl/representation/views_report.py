"""The report of a study of representations learnt from two views of each image."""

import itertools
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from jaxdl.representation.labels import amount_name
from jaxdl.representation.tsne import scatter
from jaxdl.train.metrics import read_metrics
from jaxdl.viz.bars import grouped_bars
from jaxdl.viz.curves import learning_curves, lines
from jaxdl.viz.grids import image_grid
from jaxdl.viz.report import Report, aggregate, paper_table, result_row, spread

LINEAR, KNN, ONLINE = 'linear on h (%)', 'nearest neighbours on h (%)', 'online probe (%)'
LINEAR_Z, KNN_Z = 'linear on z (%)', 'nearest neighbours on z (%)'
SGD = 'linear on h by SGD, with crops and flips (%)'
METRICS = {  # metric -> (space, key, factor)
  LINEAR: ('pooled', 'linear', 100), KNN: ('pooled', 'knn', 100),
  LINEAR_Z: ('projected', 'linear', 100), KNN_Z: ('projected', 'knn', 100),
}
GEOMETRY = {
  'alignment of h': ('pooled', 'alignment', 1), 'uniformity of h': ('pooled', 'uniformity', 1),
  'spread of h': ('pooled', 'spread', 1),
  'alignment of z': ('projected', 'alignment', 1),
  'uniformity of z': ('projected', 'uniformity', 1),
  'spread of z': ('projected', 'spread', 1),
}
PUBLISHED = {  # (arm, metric) -> (CIFAR-10, source)
  ('simclr', LINEAR): (
    94.0, 'Chen et al. 2020, B.9: ResNet-50, batch 1024, 1000 epochs; ResNet-18, 1000 epochs: '
    'about 91 in the official README, 90.74 in that of solo-learn'),
  ('simclr', KNN): (84.7, 'lightly, documentation: ResNet-18, batch 128, 200 epochs'),
  ('simsiam', LINEAR): (
    91.8, 'Chen and He 2021, ResNet-18, 800 epochs, as quoted by a re-implementation'),
  ('supervised', LINEAR): (95.1, 'Chen et al. 2020, B.9: ResNet-50, trained on the labels'),
}
TABLE7 = [  # ImageNet, ResNet-50, top-1
  ['supervised', 25.4, 56.4], ['SimCLR, fine-tuned', 48.3, 65.6],
]


def write_views_report(
  c, context, grid: Callable[..., str], images, views: Mapping[str, np.ndarray], size: int,
  classes: Sequence[str],
) -> dict:
  """Writes the report of `experiments/simclr.py`.

  Args:
    c: the configuration of the study.
    context: of the stage.
    grid: the name of the pre-training run of (batch size, epochs, learning rate, temperature).
    images: [N, H, W, C], of which `views` shows two views each.
    views: arm -> [2, N, H, W, C].
    size: number of training images.
    classes: K names.

  Returns:
    How many rows there are.
  """
  runs = {arm: [_outcome(context, f'{arm}-{seed}') for seed in c.seeds] for arm in c.arms}
  cells = _cells(c, context, grid)
  few, data = _few_labels(c, context), c.train.data
  rows = _rows(c, runs) + _grid_rows(cells) + _few_rows(few)
  report = Report(
    'Representations without labels', context.directory,
    f'{c.train.model.name} on {data.name}: {size} images'
    f'{f", made {data.shrink} times smaller" if data.shrink > 1 else ""}, '
    f'{c.train.epochs:g} epochs, batch {c.train.batch_size}, {c.train.optimizer.name}; '
    f'seeds {list(c.seeds)}. Values are means over seeds ± one standard deviation. h: what the '
    'network has before its classifier; z: behind the projection head. Nothing but a '
    'probe sees a label, except where that is said.',
  )
  report.rows(rows)
  cell = {(r['setting'], r['metric']): spread(r['value'], r['std'], r['n']) for r in rows}
  table = lambda names: [[arm, *(cell.get((arm, m), '–') for m in names)] for arm in c.arms]
  report.section('Results')
  names = [LINEAR, KNN, ONLINE, SGD, LINEAR_Z, KNN_Z]
  report.table(
    ['arm', *names], table(names), 'Test accuracy of classifiers of the frozen network. Linear: '
    'logistic regression on features computed once, its penalty chosen on training images held '
    'out. Online: a linear layer trained beside the network without moving it; the arm supervised: '
    'its own classifier. By SGD: a layer trained on cropped and flipped images.',
  )
  report.figure(
    grouped_bars({name: {arm: 100 * np.mean([run[space][key] for run in runs[arm]])
                         for arm in c.arms if space in runs[arm][0]}
                  for name, (space, key, _) in METRICS.items()}, 'test accuracy (%)'),
    'arms', 'Classifiers of the frozen networks, mean over seeds.',
  )
  if published := [r for r in rows if r['paper'] is not None]:
    report.section('The papers')
    report.table(*paper_table(published), 'On all of CIFAR-10 and for longer: compare the order.')
  report.section('Claims')
  report.text('\n'.join(f'- {line}' for line in claims(c, runs, few, cells)))
  report.section('Few labels')
  _write_few(report, few)
  if c.grid.batch_sizes and cells:
    report.section('Batch size and epochs')
    _write_grid(report, c, cells)
  report.section('During training')
  logs = {arm: [run['log'] for run in runs[arm]] for arm in c.arms if runs[arm][0]['log']}
  report.figure(
    learning_curves(logs, ['knn/accuracy', 'test/accuracy']), 'online',
    'Without stopping: nearest neighbours on h, and the online probe, on test images.',
  )
  learnt = {arm: seeds for arm, seeds in logs.items() if 'train/spread' in seeds[0]}
  report.figure(
    learning_curves(learnt, ['train/spread', 'train/positive_cosine', 'train/loss']), 'collapse',
    'Spread of the projections of a batch, 1 for uniform directions and 0 for a collapse; cosine '
    'of the two views of an image; loss (of different kinds).',
  )
  report.section('Geometry')
  report.table(
    ['arm', *GEOMETRY], table(GEOMETRY), 'On test images. Alignment: squared distance of the unit '
    'vectors of two views, 0 where the representation does not change, 2 for unrelated ones. '
    'Uniformity: the lower, the more evenly they cover the sphere.',
  )
  report.section('Pictures')
  for arm, pair in views.items():
    shown = np.concatenate([images, *np.asarray(pair)])
    report.figure(
      image_grid(shown, len(images), row_titles=['image', 'one view', 'other view']),
      f'views_{arm}', f'Two views of each image: {arm}.',
    )
  if c.probe.tsne:
    maps = {arm: seeds[0]['tsne'] for arm, seeds in runs.items()}
    points, labels = ({arm: m[k] for arm, m in maps.items()} for k in ('points', 'labels'))
    report.figure(scatter(points, labels, classes), 'tsne',
                  't-SNE of h of test images, first seed, coloured by class.')
  report.write()
  return {'rows': len(rows)}


def _outcome(context, name):
  """Everything known of one arm and seed."""
  trained = name in context.directories
  sgd = context.results.get(f'{name}-linear')
  picture = context.directories[f'{name}-analysis'] / 'tsne.npz'
  return {
    **context.results[f'{name}-analysis'],
    'online': context.results[name]['online'] if trained else None,
    'sgd': sgd and sgd['test']['accuracy'],
    'log': read_metrics(context.directories[name]) if trained else None,
    'tsne': dict(np.load(picture)) if picture.exists() else None,
  }


def _measures(run):
  for name, (space, key, factor) in (METRICS | GEOMETRY).items():
    if space in run:
      yield name, factor * run[space][key]
  for name, key in ((ONLINE, 'online'), (SGD, 'sgd')):
    if run[key] is not None:
      yield name, 100 * run[key]


def _rows(c, runs):
  known, rows = c.train.data.name == 'cifar10', []
  for arm, seeds in runs.items():
    for metric in dict(_measures(seeds[0])):
      paper = PUBLISHED.get((arm, metric), ()) if known else ()
      rows.append(result_row(
        arm, metric, *aggregate([dict(_measures(run))[metric] for run in seeds]), *paper
      ))
  return rows


def _cells(c, context, grid):
  """(batch size, epochs, learning rate, temperature) -> linear accuracies (%) by seed."""
  axes, out = (c.grid[k] for k in ('batch_sizes', 'epochs', 'lrs', 'temperatures')), {}
  for at in itertools.product(*axes):
    # The cell that is the arm itself has no run of its own.
    names = [f'{grid(*at)}-{seed}-analysis' for seed in c.seeds]
    if names[0] not in context.results:
      names = [f'simclr-{seed}-analysis' for seed in c.seeds]
    if names[0] in context.results:
      out[at] = [100 * context.results[name]['pooled']['linear'] for name in names]
  return out


def _grid_rows(cells):
  return [
    result_row(f'simclr, batch {b}, {e:g} epochs, lr {lr:g}, tau {tau:g}', LINEAR, *aggregate(v))
    for (b, e, lr, tau), v in cells.items()
  ]


def _few_labels(c, context):
  """amount -> how -> accuracies (%)."""
  out = {}
  for amount in c.labels.amounts:
    name = amount_name(amount)
    number = name.replace(' ', '_').replace('%', 'percent')
    of_arm = lambda arm, name=name: [
      100 * value for seed in c.seeds
      for found in [context.results[f'{arm}-{seed}-analysis']]
      for value in found['labels'].get(name, [found['pooled']['linear']])
    ]
    of_run = lambda kind, number=number: [
      100 * context.results[f'{kind}-{number}-{seed}']['test']['accuracy'] for seed in c.seeds
    ]
    out[name] = {
      f'linear on {arm}': of_arm(arm)
      for arm in dict.fromkeys((c.labels.arm, 'random')) if arm in c.arms
    } | {f'{c.labels.arm}, fine-tuned': of_run('tune'), 'from scratch': of_run('scratch')}
    runs = [context.results[f'scratch-{number}-{seed}'] for seed in c.seeds]
    out[name]['examples'] = [run['examples'] for run in runs]
    out[name]['steps'] = [run['steps'] for run in runs]
  return out


def _ways(few):
  return [way for way in next(iter(few.values())) if way not in ('examples', 'steps')]


def _few_rows(few):
  return [
    result_row(f'{name} of the labels', f'{way}: test accuracy (%)', *aggregate(values[way]))
    for name, values in few.items() for way in _ways(few)
  ]


def _write_few(report, few):
  ways = _ways(few)
  report.table(
    ['labels', 'examples', *ways, 'steps'],
    [[name, int(v['examples'][0]), *(spread(*aggregate(v[way])) for way in ways),
      int(v['steps'][0])] for name, v in few.items()],
    'Test accuracy (%) with some of the labels. Linear: over subsets and seeds. Fine-tuned and '
    'from scratch: the whole network, the same subset and as many steps.',
  )
  examples = [v['examples'][0] for v in few.values()]
  report.figure(
    lines(examples, {way: _mean_std([v[way] for v in few.values()]) for way in ways},
          'labelled examples', 'test accuracy (%)', xscale='log'),
    'few_labels', 'Accuracy against the number of labels.',
  )
  report.table(['ImageNet, published', '1 % of the labels', '10 %'], TABLE7,
               'Chen et al. 2020, table 7 and section 4.2: ResNet-50, top-1 (%).', '.1f')


def _mean_std(series):
  found = [aggregate(values) for values in series]
  stds = None if any(std is None for _, std, _ in found) else [std for _, std, _ in found]
  return [mean for mean, _, _ in found], stds


def _write_grid(report, c, cells):
  groups = {}
  for (batch, epochs, _, tau), values in cells.items():
    label = f'batch {batch}' + (f', tau {tau:g}' if len(c.grid.temperatures) > 1 else '')
    groups.setdefault(label, {}).setdefault(f'{epochs:g} epochs', []).extend(values)
  means = {k: {e: float(np.mean(v)) for e, v in of.items()} for k, of in groups.items()}
  report.figure(
    grouped_bars(means, LINEAR), 'grid',
    f'The analogue of figure B.7, averaged over the learning rates {list(c.grid.lrs)} (for a batch '
    'of 256). The heights of the bars of the paper are not printed in it.',
  )
  report.table(
    ['batch', 'epochs', 'learning rate', 'tau', LINEAR],
    [[b, f'{e:g}', f'{lr:g}', f'{tau:g}', spread(*aggregate(v))]
     for (b, e, lr, tau), v in cells.items()], 'Every cell.',
  )


def claims(c, runs, few, cells):
  """The papers' claims as sentences with our numbers; a miss is said as one."""
  mean = lambda arm, metric: float(np.mean([dict(_measures(run))[metric] for run in runs[arm]]))
  said = lambda seen: '**seen**' if seen else '**not seen**'
  for claim, one, other in (
    ('Learning without labels beats the random network', 'simclr', 'random'),
    ('SimSiam does so without negatives', 'simsiam', 'random'),
    ('BYOL does so without negatives', 'byol', 'random'),
    ('With all labels, training on them is still better', 'supervised', 'simclr'),
    ('Colour distortion is needed', 'simclr', 'no_colour'),
    ('Crops are needed', 'simclr', 'no_crop'),
    ('The temperature 0.5 is better than 0.1', 'simclr', 'tau01'),
    ('The temperature 0.5 is better than 1', 'simclr', 'tau1'),
    ('A projection head helps', 'linear_head', 'no_head'),
    ('A head that is not linear helps more', 'simclr', 'linear_head'),
  ):
    if one in runs and other in runs:
      a, b = mean(one, LINEAR), mean(other, LINEAR)
      yield f'{claim}: {said(a > b)} (linear on h, {one} {a:.2f} %, {other} {b:.2f} %).'
  if 'simclr' in runs:
    a, b = mean('simclr', LINEAR), mean('simclr', LINEAR_Z)
    yield (f'What is before the projection head is the better representation: {said(a > b)} '
           f'(linear on h {a:.2f} %, on z {b:.2f} %).')
  for arm in ('simsiam', 'byol'):
    if arm in runs:
      s = mean(arm, 'spread of z')
      yield (f'{arm} does not collapse: {said(s > 0.5)} (spread of z {s:.2f}; 0 is a collapse, 1 '
             'uniform).')
  arm = c.labels.arm
  for name, values in few.items():
    line, tuned, scratch = (
      float(np.mean(values[way]))
      for way in (f'linear on {arm}', f'{arm}, fine-tuned', 'from scratch')
    )
    yield (f'With {name} of the labels ({int(values["examples"][0])} images) a line on frozen '
           f'features beats training from scratch: {said(line > scratch)}; fine-tuning does: '
           f'{said(tuned > scratch)} ({line:.2f}, {tuned:.2f} and {scratch:.2f} %).')
  for what, i in (('More epochs help', 1), ('A larger batch helps', 0)):
    ends = sorted({at[i] for at in cells})
    if len(ends) > 1:
      low, high = (
        float(np.mean([v for at, values in cells.items() if at[i] == end for v in values]))
        for end in (ends[0], ends[-1])
      )
      yield (f'{what}: {said(high > low)} (mean over the rest of the grid: {ends[0]:g} gives '
             f'{low:.2f} %, {ends[-1]:g} {high:.2f} %).')
