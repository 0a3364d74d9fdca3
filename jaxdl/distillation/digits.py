"""The report on digits: sizes and temperatures."""

from collections.abc import Mapping, Sequence

import numpy as np

from jaxdl.distillation import unseen
from jaxdl.distillation.evidence import entropy, examine, similarity, wrong_mass
from jaxdl.distillation.runs import Run, band, mean, over, paired, said
from jaxdl.distillation.students import ERRORS, HINTON, Student
from jaxdl.viz.curves import learning_curves, lines
from jaxdl.viz.heatmap import heatmaps
from jaxdl.viz.report import Report, aggregate, paper_table, result_row, spread

PAPER = {'teacher': 67, 'labels': 146, 'distilled': 74}


def write(report: Report, teacher: Run, runs: Mapping[Student, Sequence[Run]], sizes, m) -> None:
  """Adds the sections on digits.

  Args:
    report: gets sections, figures and rows.
    teacher: its logits are of the 'train' split too.
    runs: student -> one run for each seed.
    sizes: hidden width, or None for the teacher -> {'parameters', 'MACs'}.
    m: the part `mnist` of the configuration.
  """
  published = m.teacher.data.name == 'mnist'
  what = m.teacher.data.name
  h = m.headline
  pair = {
    'labels': Student(h.hidden), 'distilled': Student(h.hidden, h.alpha, h.temperature),
  }
  report.section(f'Digits: {what}')
  report.text(
    f'{len(teacher.labels["train"])} training, {len(teacher.labels["validation"])} validation and '
    f'{len(teacher.labels["test"])} test images. The teacher has dropout, max norm '
    f'{m.teacher.optimizer.get("max_norm") or 0:.3g} and shifted images, and trains for '
    f'{m.teacher.epochs:g} epochs; students see images as they are for {m.student.epochs:g} '
    f'epochs. Seeds {list(m.seeds)}, one teacher.'
  )
  _networks(report, teacher, runs, sizes, pair, m, published)
  _temperatures(report, teacher, runs, m)
  corrected = unseen.write(report, runs, m.omitted, published)
  _evidence(report, teacher, runs, pair, m)
  report.section('Digits: claims')
  report.text('\n'.join(f'- {line}' for line in _claims(runs, pair, corrected, m)))


def _networks(report, teacher, runs, sizes, pair, m, published):
  named = {'teacher': (None, [teacher])}
  named |= {f'{k}, {s.hidden} units': (s.hidden, runs[s]) for k, s in pair.items()}
  named |= {f'labels, {w} units': (w, runs[Student(w)]) for w in m.hidden}
  for width in m.hidden:
    best = _best(runs, width, m)
    label = f'distilled, {width} units (alpha {best.alpha:g}, T {best.temperature:g}: validation)'
    named[label] = width, runs[best]
  measures = {'training': 'train', 'validation': 'validation', 'test': 'test'}
  errors = lambda split: lambda run: 1e4 * (1 - run.result[split]['accuracy'])
  cells, rows = [], []
  for name, (width, several) in named.items():
    size = sizes[width]
    cells.append([
      name, size['parameters'], size['MACs'], 2 * size['MACs'],
      *(over(several, errors(split)) for split in measures.values()),
      over(several, lambda run: 100 * (100 - run.best())),
    ])
    paper = PAPER.get(name.split(',')[0]) if published and width in (None, 800) else None
    rows += [
      result_row(f'digits: {name}', f'{split} errors per 10,000',
                 *aggregate([errors(key)(run) for run in several]),
                 *((paper, HINTON) if paper and split == 'test' else ()))
      for split, key in measures.items()
    ]
  report.rows(rows)
  report.table(
    ['network', 'parameters', 'MACs', 'FLOPs', *(f'{k} errors' for k in measures), 'best epoch'],
    cells, 'Errors per 10,000 images. A multiply-accumulate (MAC) is two FLOPs; matrix products '
    'only, one image. The best epoch is the best of all on the test set.',
  )
  if shown := [row for row in rows if row['paper'] is not None]:
    report.table(*paper_table(shown))
  logs = {k: [run.log for run in runs[s]] for k, s in pair.items()} | {'teacher': [teacher.log]}
  report.figure(
    learning_curves(logs, ['train/accuracy', 'validation/accuracy', 'test/accuracy']),
    'digits_curves', f'The teacher, and {m.headline.hidden} units with and without it. The '
    'training accuracy of the teacher is under dropout, on shifted images.',
  )


def _best(runs, width, m) -> Student:
  """The temperature and alpha of the fewest validation errors."""
  grid = [Student(width, a, t) for a in m.alphas for t in m.temperatures]
  return min(grid, key=lambda s: mean(runs[s], lambda run: run.wrong('validation')))


def _temperatures(report, teacher, runs, m):
  report.section('Digits: temperature')
  ts = list(m.temperatures)
  wrong = lambda run: run.wrong()
  report.table(
    ['units', 'alpha', 'labels', *(f'T {t:g}' for t in ts)],
    [
      [width, alpha, over(runs[Student(width)], wrong),
       *(over(runs[Student(width, alpha, t)], wrong) for t in ts)]
      for width in m.hidden for alpha in m.alphas
    ],
    'Test errors per 10,000. alpha 1 has soft targets alone, below it labels too.',
  )
  report.rows([
    result_row(f'digits: {w} units, alpha {a:g}, T {t:g}', ERRORS,
               *aggregate([run.wrong() for run in runs[Student(w, a, t)]]))
    for w in m.hidden for a in m.alphas for t in ts
  ])
  for width in m.hidden:
    series = {
      f'alpha {alpha:g}': band([runs[Student(width, alpha, t)] for t in ts], wrong)
      for alpha in m.alphas
    }
    series['labels'] = tuple(
      None if x is None else np.repeat(x, len(ts)) for x in band([runs[Student(width)]], wrong)
    )
    report.figure(
      lines(ts, series, 'temperature', ERRORS, f'{width} units', xscale='log'),
      f'digits_temperature_{width}', f'Test errors of two layers of {width} units against the '
      'temperature of teacher and student.',
    )
  logits, labels = teacher.logits['train'], teacher.labels['train']
  pure, width = max(m.alphas), max(m.hidden)
  entropies = {
    'soft targets at T': ([entropy(logits, t) for t in ts], None),
    f'student at 1 ({width} units, alpha {pure:g})': band(
      [runs[Student(width, pure, t)] for t in ts], lambda run: entropy(run.logits['test'])
    ),
  }
  report.figure(
    lines(ts, entropies, 'temperature', 'entropy (nats)', xscale='log'), 'digits_entropy',
    'Mean entropy of the soft targets, and of what students that learnt from them say without '
    f'softening; log 10 = {np.log(10):.2f} says nothing.',
  )
  report.table(
    ['T', 'entropy of the soft targets (nats)', 'probability of wrong classes (%)'],
    [[t, entropy(logits, t), 100 * wrong_mass(logits, labels, t)] for t in ts],
    f'The teacher on the training set. At T 1 what it knows about the wrong classes weighs '
    f'{100 * wrong_mass(logits, labels):.2g} %.',
  )


def _evidence(report, teacher, runs, pair, m):
  report.section('Digits: what the soft targets hold')
  width, alpha = max(m.hidden), max(m.alphas)
  shown = pair | {f'labels, {width} units': Student(width)}
  shown |= {
    f'T {t:g}, {width} units': Student(width, alpha, t) for t in m.temperatures
  }
  told, labels = teacher.logits['test'], teacher.labels['test']
  keys = ('entropy', 'ECE', 'NLL', 'similarity', 'confidence', 'agree')
  found = {
    name: [examine(run.logits['test'], told, labels) for run in runs[s]]
    for name, s in shown.items()
  }
  report.table(
    ['network', 'entropy (nats)', 'ECE (%)', 'NLL', 'similarity', 'confidence', 'agreement (%)'],
    [
      [name, *(spread(*aggregate([x[k] * (100 if k in ('ECE', 'agree') else 1) for x in several]))
               for k in keys)]
      for name, several in found.items()
    ],
    'On the test set, without softening: similarity is the correlation of the logarithms of how '
    'student and teacher divide probability among wrong classes (class by class, at T 4), '
    'confidence the rank correlation of their log odds, image by image.',
  )
  report.rows([
    result_row(f'digits: {name}', metric, *aggregate([x[k] for x in several]))
    for name, several in found.items()
    for k, metric in (('similarity', 'similarity to the teacher'), ('ECE', 'ECE'))
  ])
  tables = {'teacher': similarity(told, labels, 4.0)}
  tables |= {
    name: similarity(runs[s][0].logits['test'], labels, 4.0) for name, s in pair.items()
  }
  names = [str(d) for d in range(told.shape[1])]
  report.figure(
    heatmaps({k: 100 * v for k, v in tables.items()}, names, names, 'other class', 'true class',
             '% of the probability of wrong classes', high=50, across=3),
    'digits_similarity', 'How the probability that is not given to the true digit is divided among '
    f'the others at T 4: the teacher, and students of {m.headline.hidden} units.',
  )


def _claims(runs, pair, corrected, m):
  """The paper's claims with our numbers; a miss is said as one."""
  wrong = lambda s: mean(runs[s], lambda run: run.wrong())
  hard, soft = (wrong(pair[k]) for k in ('labels', 'distilled'))
  p = paired(runs[pair['distilled']], runs[pair['labels']])
  yield (f'Soft targets help {m.headline.hidden} units: {said(soft < hard)} ({soft:.0f} against '
         f'{hard:.0f} errors per 10,000; McNemar p = {p:.2g}).')
  for width in m.hidden:
    best = _best(runs, width, m)
    yield (f'They help {width} units, alpha and T chosen on validation images: '
           f'{said(wrong(best) < wrong(Student(width)))} ({wrong(best):.0f} against '
           f'{wrong(Student(width)):.0f}).')
  alpha = max(m.alphas)
  reach = {}
  for width in m.hidden:
    errors = [wrong(Student(width, alpha, t)) for t in m.temperatures if t > 1]
    reach[width] = (max(errors) - min(errors)) / min(errors) if min(errors) else 0.0
  small, large = min(m.hidden), max(m.hidden)
  if small < large and len(m.temperatures) > 2:
    yield (f'Temperature matters more to {small} than to {large} units: '
           f'{said(reach[small] > reach[large])} (above T 1 the worst has '
           f'{100 * reach[small]:.0f} % more errors than the best, against '
           f'{100 * reach[large]:.0f} %).')
  middle = [t for t in m.temperatures if 2.5 <= t <= 4]
  high = [t for t in m.temperatures if t >= 8]
  if middle and high:
    a, b = (np.mean([wrong(Student(small, alpha, t)) for t in ts]) for ts in (middle, high))
    yield (f'{small} units do better with T 2.5 to 4 than with 8 and more: {said(a < b)} ({a:.0f} '
           f'against {b:.0f}).')
  yield from unseen.claims(corrected, m.omitted)
