"""Digits that a student never saw: how many it recognises, and what correcting one bias does."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxdl.distillation.evidence import best_bias, errors_on, shifted
from jaxdl.distillation.runs import Run, said
from jaxdl.distillation.students import ERRORS, HINTON, Student
from jaxdl.viz.curves import lines
from jaxdl.viz.report import Report, aggregate, paper_table, result_row, spread

WITHOUT = {  # what lacks -> metric -> published value
  (3,): {
    ERRORS: 206, 'unseen digit right (%)': 86.8, 'bias from test': 3.5,
    f'{ERRORS}, bias from test': 109, 'unseen digit right (%), bias from test': 98.6,
  },
  (0, 1, 2, 3, 4, 5, 6, 9): {
    ERRORS: 4730, f'{ERRORS}, bias from test': 1320, 'bias from test': -7.6,
  },
}  # fmt: skip


class Corrected(NamedTuple):
  """One student that lacks digits: errors per 10,000, and the share of unseen digits that it gets
  right (%), each as it is, with the bias from validation, and with the bias from the test set."""

  errors: tuple[float, float, float]
  unseen: tuple[float, float, float]
  bias: tuple[float, float]


def correct_bias(run: Run, without: Sequence[int]) -> Corrected:
  """Corrects one bias: that of the digits that lack, or of the seen ones where those are fewer."""
  seen = [d for d in range(run.logits['test'].shape[1]) if d not in without]
  moved = list(without) if len(without) <= len(seen) else seen
  biases = [best_bias(run.logits[s], run.labels[s], moved) for s in ('validation', 'test')]
  labels, errors, unseen = run.labels['test'], [], []
  for bias in (0.0, *biases):
    logits = shifted(run.logits['test'], moved, bias)
    wrong, n = errors_on(logits, labels)
    missed, there = errors_on(logits, labels, without)
    errors.append(1e4 * wrong / n)
    unseen.append(100 * (1 - missed / there))
  return Corrected(tuple(errors), tuple(unseen), tuple(biases))


def write(
  report: Report, runs: Mapping[Student, Sequence[Run]], o, published: bool
) -> dict[Student, list[Corrected]]:
  """Adds the section on omitted digits.

  Args:
    report: gets it, and its rows.
    runs: student -> one run for each seed; those of whose training set something lacks are shown.
    o: the part `mnist.omitted` of the configuration.
    published: whether the paper's numbers are shown beside.

  Returns:
    What `correct_bias` found, for `claims`.
  """
  report.section('Digits that the student never saw')
  report.text(
    f'{o.hidden} units, alpha {o.alpha:g}, seeds {list(o.seeds)}. The teacher knows all digits; '
    'the training set of the student lacks some. Their bias is then raised (or that of the seen '
    'digits lowered) by what leaves the fewest errors: on the validation images, which have all '
    'digits, and, as the paper did, on the test images themselves.'
  )
  out = {
    s: [correct_bias(run, s.without) for run in several]
    for s, several in runs.items() if s.without
  }
  labels = next(iter(runs.values()))[0].labels['test']
  cells, rows = [], []
  for s, several in out.items():
    paper = WITHOUT.get(s.without, {}) if published and s.temperature == 20 else {}
    numbers = {
      ERRORS: [x.errors[0] for x in several],
      'unseen digit right (%)': [x.unseen[0] for x in several],
    }
    for i, source in enumerate(('validation', 'test')):
      numbers |= {
        f'bias from {source}': [x.bias[i] for x in several],
        f'{ERRORS}, bias from {source}': [x.errors[i + 1] for x in several],
        f'unseen digit right (%), bias from {source}': [x.unseen[i + 1] for x in several],
      }
    rows += [
      result_row(f'digits: {_described(s)}', metric, *aggregate(values),
                 *((paper[metric], HINTON) if metric in paper else ()))
      for metric, values in numbers.items()
    ]
    text = [spread(*aggregate(values)) for values in numbers.values()]
    cells.append([_described(s), int(np.isin(labels, s.without).sum()), *text])
  report.rows(rows)
  report.table(
    ['student', 'unseen test images', 'errors', 'unseen right (%)', 'bias (validation)', 'errors',
     'unseen right (%)', 'bias (test)', 'errors', 'unseen right (%)'],
    cells, 'Test errors per 10,000 and unseen digits that are recognised: as trained, with the '
    'bias found on the validation images, and with that found on the test images. Learning from '
    'labels, a digit that never comes can only be lost.',
  )
  if shown := [row for row in rows if row['paper'] is not None]:
    report.table(*paper_table(shown))
  curve = [s for s in out if s.without == (o.curve,) and s.alpha]
  curve.sort(key=lambda s: s.temperature)
  over_seeds = lambda f: (
    np.array([np.mean([f(x) for x in out[s]]) for s in curve]),
    np.array([np.std([f(x) for x in out[s]], ddof=1) for s in curve]) if len(o.seeds) > 1 else None,
  )
  report.figure(
    lines([s.temperature for s in curve], {
      'as trained': over_seeds(lambda x: x.unseen[0]),
      'bias from validation': over_seeds(lambda x: x.unseen[1]),
      'bias from test': over_seeds(lambda x: x.unseen[2]),
    }, 'temperature', f'{o.curve}s recognised (%)', xscale='log'),
    'digits_unseen', f'Recognition of the {o.curve}s of the test set by students that never saw '
    'one.',
  )
  return out


def _described(s):
  taught = f'T {s.temperature:g}' if s.alpha else 'labels'
  if len(s.without) == 1:
    return f'without {s.without[0]}s, {taught}'
  seen = ', '.join(f'{d}s' for d in range(10) if d not in s.without)
  return f'only {seen}, {taught}'


def claims(corrected: Mapping[Student, Sequence[Corrected]], o) -> Iterator[str]:
  """The paper's claims on omitted digits with our numbers; a miss is said as one."""
  average = lambda students, f: float(np.mean([f(x) for s in students for x in corrected[s]]))
  singles = [
    Student(o.hidden, o.alpha, o.temperature, (d,)) for d in o.digits
  ]
  before, after, on_test = (average(singles, lambda x, i=i: x.unseen[i]) for i in range(3))
  yield (f'A digit that never came is recognised (mean over {len(singles)} digits): '
         f'{said(before > 50)} ({before:.1f} % of its images).')
  yield (f'Correcting one bias raises that: {said(after > before)} ({after:.1f} % with the bias '
         f'from validation images, {on_test:.1f} % with that from test images; errors per 10,000 '
         f'from {average(singles, lambda x: x.errors[0]):.0f} to '
         f'{average(singles, lambda x: x.errors[1]):.0f}).')
  control = average([Student(o.hidden, without=(o.curve,))], lambda x: x.unseen[0])
  yield (f'Learning from labels it is never recognised (control): {said(control < 1)} '
         f'({control:.1f} % of the {o.curve}s).')
  low, high = (
    Student(o.hidden, o.alpha, t, (o.curve,)) for t in (min(o.temperatures), max(o.temperatures))
  )
  a, b = (average([s], lambda x: x.unseen[0]) for s in (low, high))
  if low != high:
    yield (f'It is the softness that carries it: T {high.temperature:g} recognises more {o.curve}s '
           f'than T {low.temperature:g}: {said(b > a)} ({b:.1f} against {a:.1f} %).')
  rest = tuple(d for d in range(10) if d not in o.only)
  few = [Student(o.hidden, o.alpha, o.temperature, rest)]
  before, after = (average(few, lambda x, i=i: x.errors[i] / 100) for i in (0, 1))
  guess = 100 - 10 * len(o.only)
  yield (f'Images of {" and ".join(f"{d}s" for d in o.only)} alone teach other digits: '
         f'{said(after < guess - 10)} ({before:.1f} % errors, {after:.1f} % with the bias; about '
         f'{guess} % without any knowledge of the others).')
