"""The report on classifiers that were examined: rows, tables, figures."""

from collections.abc import Mapping, Sequence

import numpy as np

from jaxdl.attacks.autoattack import VERSIONS
from jaxdl.attacks.battery import NORMS, radius
from jaxdl.robustness.examined import checklist
from jaxdl.viz.curves import lines
from jaxdl.viz.grids import image_grid
from jaxdl.viz.report import Report, paper_table, result_row

WONG = 'Wong et al. 2020, PreActResNet-18; by the authors of AutoAttack'
PAPER = {'clean': 83.34, 'PGD': 46.06, 'AutoAttack': 43.21}  # FGSM-RS, L-infinity, 8/255


def metrics(options: Mapping) -> dict[str, str]:
  """attack -> what a row calls it: a robust accuracy means nothing without the attack's numbers.

  Args:
    options: `steps`, `alpha`, `restarts` of PGD and `version`, `queries` of AutoAttack.
  """
  o, starts = options, f'{options["restarts"]} starts' if options['restarts'] > 1 else 'one start'
  return {
    'clean': 'clean (%)', 'noise': 'noise (%)', 'FGSM': 'FGSM (%)',
    'PGD': f'PGD, {o["steps"]} steps of {radius(o["alpha"])}, {starts} (%)',
    'AutoAttack': f'AutoAttack {o["version"]}, {o["queries"]} queries (%)',
  }


def accuracies(run: Mapping, entry: Mapping) -> dict[str, float]:
  """attack -> accuracy in percent; arguments: see `result_rows`."""
  percent = {name: 100 * run[name] for name in ('clean', 'noise', 'FGSM', 'PGD')}
  return percent | {'AutoAttack': entry['autoattack_acc']}


def result_rows(
  label: str, options: Mapping, run: Mapping, entry: Mapping, distances: Mapping, published: bool
) -> list[dict]:
  """Result rows of one network.

  Args:
    label: the network's name.
    options: see `metrics`; `norm` and `eps` of the ball.
    run: `jaxdl.robustness.examined.Attacked.accuracy`.
    entry: of AutoAttack, see `jaxdl.attacks.autoattack.summary`.
    distances: of `jaxdl.robustness.examined.closest_mistakes`.
    published: it was trained as the network of `PAPER`, and meets the same ball.
  """
  setting = f'{label}, {NORMS[options["norm"]]} {radius(options["eps"])}'
  paper = PAPER if published else {}
  rows, named = [], metrics(options)
  for attack, value in accuracies(run, entry).items():
    known = (paper[attack], WONG) if attack in paper else ()
    rows.append(result_row(setting, named[attack], value, None, 1, *known))
  parts = [part for part in entry['accuracy'] if part != 'clean'][:-1]
  rows += [result_row(setting, f'AutoAttack after {part} (%)', entry['accuracy'][part])
           for part in parts]
  rows += [result_row(setting, f'PGD made on {source} (%)', 100 * left)
           for source, left in run['transfer'].items()]
  return rows + [
    result_row(label, f'{attack}: median distance', d['median'])
    for attack, d in distances.items() if d['median'] is not None
  ]


def accuracy_tables(report: Report, rows, runs: Mapping, entries: Mapping, version: str) -> None:
  """Accuracy under each attack, after each attack of AutoAttack, and beside what was published.

  Args:
    report: to add to.
    rows: of all networks.
    runs, entries: label -> see `result_rows`.
    version: of AutoAttack.
  """
  values = {label: accuracies(runs[label], entries[label]) for label in runs}
  sources = sorted({source for run in runs.values() for source in run['transfer']})
  report.table(
    ['network', *next(iter(values.values())), *(f'PGD made on {s}' for s in sources)],
    [[label, *of.values(), *(_percent(runs[label]['transfer'].get(s)) for s in sources)]
     for label, of in values.items()],
    'Images classified rightly without and with the attack, %.',
  )
  parts = ['clean', *VERSIONS[version]]
  report.table(['network', *parts],
               [[label, *(e['accuracy'][p] for p in parts)] for label, e in entries.items()],
               'Accuracy (%) after each attack of AutoAttack, the worst case of all so far.')
  if some := [row for row in rows if row['paper'] is not None]:
    report.table(*paper_table(some), 'Another network or budget: compare the order.')


def masking(report: Report, options: Mapping, runs: Mapping, both: Mapping, entries: Mapping):
  """The checklist of each network, as sentences, and AutoAttack's warnings.

  Args:
    report, runs, entries: see `accuracy_tables`.
    options: `epsilons`, `counts`.
    both: label -> accuracy under PGD and AutoAttack on the images that met both.
  """
  said = {True: '**seen**', False: '**not seen**'}
  for label, run in runs.items():
    signs = checklist(options['epsilons'], options['counts'], run, both[label])
    report.text(f'{label}:\n\n' + '\n'.join(
      f'- {what}: {said[bool(seen)]} ({numbers}).' for what, seen, numbers in signs))
  warnings = [f'- {label}: {w}' for label, e in entries.items() for w in e['warnings']]
  report.text('\n'.join(warnings) or 'AutoAttack gave no warning.')


def curves(report: Report, options: Mapping, runs: Mapping) -> None:
  """Accuracy under PGD against the radius and against its steps; arguments: see `masking`."""
  scale, unit = (255, 'radius (1/255)') if options['norm'] == 'linf' else (1, 'radius')
  of = lambda what: {label: (100 * np.array(run[what]), None) for label, run in runs.items()}
  report.figure(
    lines(scale * np.array(options['epsilons']), of('at epsilons'), unit, 'accuracy (%)'),
    'radii', f'Accuracy under PGD of {options["steps"]} steps against the radius.',
  )
  report.figure(
    lines(np.array(options['counts']), of('at steps'), 'steps', 'accuracy (%)'),
    'steps', f'Accuracy under PGD of {radius(options["alpha"])} a step, from one start, in the '
    f'ball of {radius(options["eps"])}.',
  )


def pictures(report: Report, number: int, label: str, shown: Mapping[str, np.ndarray]) -> None:
  """Images, what PGD made of them, and the difference.

  Args:
    report: to add to.
    number: in the figure's name.
    label: the network's name.
    shown: `clean` and `adversarial` [N, H, W, C], `said` [2, N]: what the network says of them.
  """
  clean, adversarial, said = (shown[k] for k in ('clean', 'adversarial', 'said'))
  difference = adversarial - clean
  largest = np.abs(difference).max() or 1
  titles: Sequence[str] = [*said[0], *said[1], *[''] * len(clean)]
  report.figure(
    image_grid(np.concatenate([clean, adversarial, 0.5 + 0.5 * difference / largest]), len(clean),
               titles, ['clean', 'under PGD', 'difference']),
    f'images-{number}', f'{label}: images, what PGD made of them, and the difference, magnified '
    f'{0.5 / largest:.0f} times around gray; above them what the network says.',
  )


def _percent(share):
  return None if share is None else 100 * share
