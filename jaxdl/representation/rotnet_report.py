"""The report of a study of networks that learnt by telling turned images apart."""

import numpy as np

from jaxdl.representation.labels import amount_name
from jaxdl.representation.tsne import scatter
from jaxdl.train.metrics import read_metrics
from jaxdl.viz.bars import grouped_bars
from jaxdl.viz.confusion import confusion_matrix
from jaxdl.viz.curves import learning_curves, lines
from jaxdl.viz.grids import image_grid
from jaxdl.viz.report import Report, aggregate, paper_table, result_row, spread

MEMORY = 'table 1, from memory'
TABLE_1 = {  # encoder -> the non-linear classifier on each block
  'rotnet_3': (85.45, 88.26, 62.09), 'rotnet': (85.07, 89.06, 86.21, 61.73),
  'rotnet_5': (85.04, 89.76, 86.82, 74.50, 50.37),
}
TABLE_2 = {'rotnet': 89.06, 'eight': 88.51, 'half_turn': 87.46, 'side_turns': 85.52}
TABLE_3 = {('rotnet', 'conv'): 91.16, ('random', 'conv'): 72.50}
OTHERS = (  # of table 3
  ['supervised network in network', 92.80], ['RotNet + conv', 91.16],
  ['RotNet + conv, fine-tuned', 92.17], ['RotNet + non-linear', 89.06],
  ['RotNet + non-linear, fine-tuned (from memory)', 91.73], ['random + conv', 72.50],
  ['Exemplar-CNN', 84.3], ['DCGAN', 82.8], ['Roto-Scat', 82.3],
)
FIGURE_4 = {  # examples per class -> RotNet + conv, supervised
  20: (64.63, 33.66), 100: (75.28, 47.26), 400: (82.84, 74.19), 1000: (86.43, 83.47),
  5000: (91.95, 93.07),
}
KINDS = {'linear': 'linear (SGD)', 'mlp': 'non-linear', 'conv': 'convolutional'}
PROBES = {'map': 'linear on the map', 'mean': 'linear on its mean', 'knn': 'nearest neighbours'}


def write_rotnet_report(c, context, t, blocks):
  """Makes the report of experiments/rotnet.py.

  Args:
    c: its configuration.
    context: of the stage.
    t: the task, for names and sizes.
    blocks: encoder -> names of its blocks.

  Returns:
    {'rows': how many}.
  """
  runs = {n: [_outcome(context, f'{n}-{seed}') for seed in c.seeds] for n in c.encoders}
  few, data = _few(c, context), c.train.data
  rows = [*_encoder_rows(c, runs, blocks), *_few_rows(c, few)]
  report = Report(
    'RotNet', context.directory,
    f'{len(t.train):,} training images of {data.name or data.folder}, '
    f'{" x ".join(map(str, t.train.images.shape[1:3]))} pixels'
    f'{f" (made {data.shrink} times smaller)" if data.shrink > 1 else ""}, '
    f'{c.train.epochs:g} epochs; labels of {amount_name(c.labelled)}, '
    f'{len(t.validation):,} more to choose on, {len(t.test):,} to test; seeds {list(c.seeds)}. '
    'Encoders without angles keep their random weights, with the batch statistics of training '
    'images. Accuracies are of the test images, '
    'means over seeds ± one standard deviation; one of 50 % has a binomial standard error of '
    f'{50 / len(t.test) ** 0.5:.2g} points, and smaller differences than two of them say nothing.',
  )
  report.rows(rows)
  report.section('Claims')
  report.text('\n'.join(f'- {line}' for line in _claims(c, runs, few, blocks)))
  _write_rotations(report, c, context, runs, t)
  _write_blocks(report, c, runs, blocks)
  _write_few(report, c, few)
  report.section('The paper')
  if published := [r for r in rows if r['paper'] is not None]:
    report.table(*paper_table(published), 'Ours at the scale said above, theirs on all of CIFAR-10 '
                 'with 200 epochs: compare the order.')
  report.table(['CIFAR-10, all labels', 'published (%)'], OTHERS, 'Table 3 of the paper.', '.2f')
  _write_pictures(report, c, context, t, blocks)
  report.write()
  return {'rows': len(rows)}


def _outcome(context, cell):
  result = {**context.results.get(cell, {}), **context.results[f'{cell}-blocks']}
  return result | {'heads': context.results[f'{cell}-heads']['heads'], 'cell': cell}


def _few(c, context):
  """amount -> way -> its results over subsets."""
  name = lambda way, a, i: f'{way}-{amount_name(a).replace(" ", "_").replace("%", "percent")}-{i}'
  return {
    amount: {
      way: [context.results[name(way, amount, i)] for i in range(c.few.subsets)]
      for way in ('heads', 'tune', 'scratch')
    } for amount in c.few.amounts
  }


def _measures(c):
  """name -> function of a run and a block: accuracy (%) on dev or test images."""
  own = {
    title: lambda run, block, split='test', k=k:
      100 * run['blocks'][block][k if split == 'test' else f'{k} dev']
    for k, title in PROBES.items() if k != 'knn'
  }
  return own | {
    KINDS[kind]: lambda run, block, split='test', kind=kind:
      100 * run['heads'][f'{kind}_{block}'][split]
    for kind in c.heads.kinds
  }


def _mean(runs, f, *at):
  return float(np.mean([f(run, *at) for run in runs]))


def _chosen(runs, f, names):
  """The block that is best on the dev images."""
  return max(names, key=lambda block: _mean(runs, f, block, 'dev'))


def _published(c, name, metric, block):
  if c.train.data.name != 'cifar10':
    return ()
  place = int(block[5:]) if block.startswith('block') else 0
  if metric == KINDS['mlp']:
    if place == 2 and name in TABLE_2:
      return TABLE_2[name], 'table 2'
    values = TABLE_1.get(name, ())
    return (values[place - 1], MEMORY) if 0 < place <= len(values) else ()
  if metric == KINDS['conv'] and place == 2 and (name, 'conv') in TABLE_3:
    return TABLE_3[name, 'conv'], 'table 3'
  return ()


def _encoder_rows(c, runs, blocks):
  rows, measures = [], _measures(c)
  for name, seeds in runs.items():
    if c.encoder[name].angles:
      right = [100 * run['rotation'] for run in seeds]
      rows.append(result_row(name, 'rotation accuracy (%)', *aggregate(right)))
    for block in blocks[name]:
      for metric, f in measures.items():
        values = aggregate([f(run, block) for run in seeds])
        paper = _published(c, name, metric, block)
        rows.append(result_row(f'{name}, {block}', f'{metric} (%)', *values, *paper))
      near = aggregate([100 * run['blocks'][block]['knn'] for run in seeds])
      rows.append(result_row(f'{name}, {block}', f'{PROBES["knn"]} (%)', *near))
    for metric, f in measures.items():
      best = _chosen(seeds, f, blocks[name])
      values = aggregate([f(run, best) for run in seeds])
      rows.append(result_row(f'{name}, block chosen on dev', f'{metric} (%)', *values,
                             source=f'ours: {best}'))
  return rows


def _ways(c):
  """title -> (way, function of its result: accuracy in %)."""
  block = c.few.block
  frozen = {
    f'frozen, {KINDS[kind]}': ('heads', lambda r, k=kind: 100 * r['heads'][f'{k}_{block}']['test'])
    for kind in c.heads.kinds
  }
  return {
    'frozen, linear (L-BFGS)': ('heads', lambda r: 100 * r['probe']), **frozen,
    f'fine-tuned, {KINDS[c.few.head]}': (
      'tune', lambda r: 100 * r['heads'][f'{c.few.head}_{block}']['test']),
    'supervised from scratch': ('scratch', lambda r: 100 * r['test']),
  }


def _per_class(c, amount, few):
  """Labelled examples of a class."""
  if isinstance(amount, int) or amount > 1:
    return int(amount)
  whole = few[amount]['scratch'][0]['examples']
  return round(whole / 10) if c.train.data.name == 'cifar10' else whole


def _few_rows(c, few):
  rows, known = [], c.train.data.name == 'cifar10' and c.few.encoder == 'rotnet'
  for amount, ways in few.items():
    for title, (way, f) in _ways(c).items():
      paper = ()
      all_of_them = amount == 1.0 and c.labelled == 1.0
      at = 5000 if all_of_them else _per_class(c, amount, few)
      if known and at in FIGURE_4 and c.few.block == 'block2':
        if title == f'frozen, {KINDS["conv"]}':
          paper = FIGURE_4[at][0], f'figure 4, {at} per class'
        elif way == 'scratch':
          paper = FIGURE_4[at][1], f'figure 4, {at} per class'
        elif way == 'tune' and all_of_them and c.few.head == 'conv':
          paper = 92.17, 'table 3'
      values = aggregate([f(r) for r in ways[way]])
      rows.append(result_row(f'{title}, {amount_name(amount)}', 'accuracy (%)', *values, *paper))
  return rows


def _write_rotations(report, c, context, runs, t):
  report.section('Telling rotations')
  learnt = {n: seeds for n, seeds in runs.items() if c.encoder[n].angles}
  report.table(
    ['encoder', 'network', 'angles', 'parameters', 'steps', 'images seen', 'accuracy (%)',
     'chance (%)'],
    [[n, c.encoder[n].model.name, ', '.join(map(str, c.encoder[n].angles)), seeds[0]['parameters'],
      seeds[0]['steps'], seeds[0]['images'],
      spread(*aggregate([100 * run['rotation'] for run in seeds])),
      f'{100 / len(c.encoder[n].angles):g}'] for n, seeds in learnt.items()],
    'Angles are counter-clockwise, in degrees. Images seen: every copy counts. Accuracy on turned '
    'test images.',
  )
  logs = {n: [read_metrics(context.directories[run['cell']]) for run in seeds]
          for n, seeds in learnt.items()}
  report.figure(
    learning_curves(logs, ['train/accuracy', 'test/accuracy', 'knn/accuracy'],
                    titles=['angle, batches', 'angle, test images', 'class, neighbours']), 'curves',
    'Telling the angle, and the class of test images by their nearest neighbours in the second '
    'block (mean of its map).',
  )
  for name in learnt:
    saved = np.load(context.directories[f'{runs[name][0]["cell"]}-blocks'] / 'blocks.npz')
    degrees = [f'{angle}°' for angle in c.encoder[name].angles]
    if name == c.few.encoder:
      report.figure(confusion_matrix(saved['confusion'], degrees, name), 'confusion',
                    f'Angles of turned test images, {name}, first seed.')
      titles = [f'{degrees[a]} → {degrees[b]}'
                for a, b in zip(saved['wrong_true'], saved['wrong_said'], strict=True)]
      report.figure(image_grid(saved['wrong'], 6, titles), 'confusing',
                    'The turned test images that it is surest of and wrong: true angle → said. '
                    'What has no upright, or stands in the picture already turned.')
      classes = dict(zip(t.dataset.label_names, (100 * saved['by_class']).tolist(), strict=True))
      report.figure(
        grouped_bars({name: {k: v for k, v in classes.items() if np.isfinite(v)}}, 'accuracy (%)'),
        'by_class', 'Telling the angle, by the class of the image, first seed.')


def _write_blocks(report, c, runs, blocks):
  measures = _measures(c)
  report.section('What each block knows of the classes')
  report.table(
    ['encoder', 'block', *measures, PROBES['knn']],
    [[name, block, *(spread(*aggregate([f(run, block) for run in seeds]))
                     for f in measures.values()),
      spread(*aggregate([100 * run['blocks'][block]['knn'] for run in seeds]))]
     for name, seeds in runs.items() for block in blocks[name]],
    'Test accuracy (%) of classifiers on the frozen network. Linear on the map'
    f'{f", averaged over at most {c.probe.side} cells a side," if c.probe.side else ""} and on its '
    'mean: L-BFGS, penalty chosen on dev images. The others are trained by SGD, with the '
    'augmentation of the classes where there is one. Neighbours: of the mean, '
    f'k = {c.probe.k}.',
  )
  report.table(
    ['encoder', *(x for name in measures for x in (name, 'block'))],
    [[name, *(x for f in measures.values() for best in [_chosen(seeds, f, blocks[name])]
              for x in (spread(*aggregate([f(run, best) for run in seeds])), best))]
     for name, seeds in runs.items()],
    'Test accuracy (%) of the block that is best on the dev images. For the comparison with SimCLR '
    'take the encoder with its network, and the mean of its map.',
  )
  for title, f in measures.items():
    groups = {n: {f'block {i}': _mean(seeds, f, block) for i, block in enumerate(blocks[n], 1)}
              for n, seeds in runs.items()}
    slug = title.replace(' ', '_').replace('(', '').replace(')', '')
    report.figure(grouped_bars(groups, 'accuracy (%)', title), f'blocks_{slug}',
                  f'Test accuracy by block: {title}.')


def _write_few(report, c, few):
  report.section('Few labels')
  ways = _ways(c)
  report.table(
    ['labels', 'examples', *ways],
    [[amount_name(amount), found['scratch'][0]['examples'],
      *(spread(*aggregate([f(r) for r in found[way]])) for way, f in ways.values())]
     for amount, found in few.items()],
    f'Test accuracy (%): classifiers on {c.few.block} of {c.few.encoder}, frozen and fine-tuned, '
    'and the same network from scratch on the same images. Steps: '
    f'{", ".join(f"{way} {c.few.steps[way]}" for way in ("heads", "tune", "scratch"))}. L-BFGS '
    'chooses its penalty on a fifth of the labels themselves.',
  )
  at = [_per_class(c, amount, few) for amount in few]
  series = {}
  shown = ('frozen, linear (L-BFGS)', f'frozen, {KINDS[c.few.head]}',
           f'fine-tuned, {KINDS[c.few.head]}', 'supervised from scratch')
  for title in shown:  # the others are in the table
    way, f = ways[title]
    values = [aggregate([f(r) for r in found[way]]) for found in few.values()]
    std = [v[1] for v in values]
    series[title] = [v[0] for v in values], None if None in std else std
  paper = {}
  if c.train.data.name == 'cifar10':
    for i, title in enumerate((f'frozen, {KINDS["conv"]}', 'supervised from scratch')):
      if title in series:
        paper[title] = list(FIGURE_4), [pair[i] for pair in FIGURE_4.values()]
  report.figure(
    lines(at, series, 'labelled examples per class', 'accuracy (%)', xscale='log', paper=paper),
    'few_labels', 'Test accuracy against labels; stars are figure 4 of the paper.',
  )


def _write_pictures(report, c, context, t, blocks):
  report.section('Pictures')
  names = [n for n in (c.few.encoder, 'random') if n in c.encoders]
  saved = {n: np.load(context.directories[f'{n}-{c.seeds[0]}-blocks'] / 'blocks.npz')
           for n in names}
  for name in names:
    filters = np.moveaxis(saved[name]['filters'], -1, 0)[:24]
    if filters.size and filters.shape[-1] in (1, 3):
      low, high = (f(filters, axis=(1, 2, 3), keepdims=True) for f in (np.min, np.max))
      report.figure(image_grid((filters - low) / np.maximum(high - low, 1e-9), 12),
                    f'filters_{name}', f'First filters of {name}, each on its own scale.')
  points = {f'{n}, {b}': saved[n][f'points_{b}'] for n in names for b in blocks[n]}
  columns = min(3, len(blocks[names[0]])) if len(blocks[names[0]]) != 4 else 4
  report.figure(scatter(points, saved[names[0]]['labels'], t.dataset.label_names, columns), 'tsne',
                'Test images by t-SNE of the mean of each block, coloured by class.')


def _claims(c, runs, few, blocks):
  """The paper's claims as sentences with our numbers; a miss is said as one."""
  said = lambda seen: '**seen**' if seen else '**not seen**'
  measures, main, names = _measures(c), c.few.encoder, blocks[c.few.encoder]
  over = lambda n, f: [_mean(runs[n], f, block) for block in blocks[n]]
  listed = lambda values: ' / '.join(f'{v:.2f}' for v in values)
  for title, f in measures.items():
    ours = over(main, f)
    if 'random' in runs and len(blocks['random']) == len(names):
      other = over('random', f)
      seen = all(a > b for a, b in zip(ours, other, strict=True))
      yield (f'Learnt features beat random ones at every block, {title}: {said(seen)} '
             f'({main} {listed(ours)} %, random {listed(other)} %).')
    yield (f'The last block is worse than the best before it, {title}: '
           f'{said(ours[-1] < max(ours[:-1]))} ({main} {listed(ours)} %).')
  counted = KINDS['mlp'] if KINDS['mlp'] in measures else PROBES['map']
  f, block = measures[counted], c.few.block
  for other in ('half_turn', 'side_turns', 'eight'):
    if other in runs and other != main and block in blocks[other]:
      a, b = _mean(runs[main], f, block), _mean(runs[other], f, block)
      yield (f'Four rotations are no worse than {other}, {counted} on {block}: {said(a >= b)} '
             f'({a:.2f} %, {b:.2f} %).')
  if KINDS['conv'] in measures and KINDS['mlp'] in measures:
    a, b = (_mean(runs[main], measures[KINDS[k]], block) for k in ('conv', 'mlp'))
    yield (f'The convolutional classifier is better than the non-linear one on {block}: '
           f'{said(a > b)} ({a:.2f} %, {b:.2f} %).')
  ways = _ways(c)
  value = lambda amount, title: float(np.mean(
    [ways[title][1](r) for r in few[amount][ways[title][0]]]))
  order = sorted(few, key=lambda amount: _per_class(c, amount, few))
  head = KINDS[c.few.head]
  for amount in order:
    line, a, b, tuned = (value(amount, way) for way in (
      'frozen, linear (L-BFGS)', f'frozen, {head}', 'supervised from scratch', f'fine-tuned, {head}'
    ))
    yield (f'Labels, {amount_name(amount)}: the {head} classifier on the frozen encoder beats a '
           f'supervised network: {said(a > b)} ({a:.2f} %, {b:.2f} %); a linear one: '
           f'{said(line > b)} ({line:.2f} %); fine-tuned: {said(tuned > b)} ({tuned:.2f} %).')
  for name in runs:
    if name.startswith('resnet') and c.encoder[name].angles:
      f = measures[PROBES['mean']]
      ours, best = over(name, f), _chosen(runs[name], f, blocks[name])
      best_of, last = _mean(runs[name], f, best), ours[-1]
      yield (f'In the residual network {name} too the last stage is not the one to use, '
             f'{PROBES["mean"]}: {said(best_of > last)} (best on dev: {best}, {best_of:.2f} %; '
             f'last {last:.2f} %).')
