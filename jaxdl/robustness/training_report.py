"""The report of the study of adversarial training: tables and figures."""

from collections.abc import Mapping, Sequence

import numpy as np

from jaxdl.attacks.battery import radius
from jaxdl.robustness.published import ADVERSARIAL_TRAINING
from jaxdl.viz.curves import learning_curves, lines
from jaxdl.viz.grids import image_grid
from jaxdl.viz.report import Report, aggregate, paper_table, result_row, spread

METRICS = {  # of the report -> of `jaxdl.robustness.attacked.withstands`
  'clean (%)': 'clean', 'noise (%)': 'noise', 'FGSM (%)': 'FGSM', 'PGD (%)': 'PGD',
  'AutoAttack (%)': 'AutoAttack',
}
TRANSFER = 'transfer (%)'
PARTS = ('clean', 'apgd-ce', 'apgd-t', 'fab-t', 'square')
PROBES = ['probe/fgsm_accuracy', 'probe/pgd_accuracy']


def result_rows(runs, transfer, published: bool) -> list[dict]:
  """Result rows: arm -> measurements of each seed; `published`: the papers' data and ball."""
  paper = ADVERSARIAL_TRAINING if published else {}
  rows = []
  for arm, seeds in runs.items():
    for metric, key in METRICS.items():
      found = paper.get((arm, metric), ())
      rows.append(result_row(arm, metric, *aggregate([100 * run[key] for run in seeds]), *found))
    if None not in transfer[arm]:
      rows.append(result_row(arm, TRANSFER, *aggregate([100 * x for x in transfer[arm]])))
  return rows


def accuracy_tables(report: Report, rows, runs, costs: Mapping[str, float], surrogate: str) -> None:
  """Accuracy under attack, beside what was published, and after each attack of AutoAttack."""
  cell = {(r['setting'], r['metric']): spread(r['value'], r['std'], r['n']) for r in rows}
  metrics = [*METRICS, TRANSFER]
  report.table(
    ['arm', 'gradients a step', *metrics],
    [[arm, costs[arm], *(cell.get((arm, m)) for m in metrics)] for arm in runs],
    'Images that are classified rightly without and with the attack. A gradient of the image alone '
    f'counts two thirds of one of the weights. Transfer: images that PGD made with {surrogate}.',
    '.3g',
  )
  if compared := [r for r in rows if r['paper'] is not None]:
    report.table(*paper_table(compared), 'Other networks and budgets: compare the order.')
  report.table(
    ['arm', *PARTS],
    [[arm, *(100 * float(np.mean([run['AutoAttack parts'][p] for run in seeds])) for p in PARTS)]
     for arm, seeds in runs.items()],
    'Robust accuracy (%) after each attack of AutoAttack, mean over seeds.', '.4g',
  )


def radii(runs, epsilons: Sequence[float], norm: str):
  """Accuracy under PGD against the radius."""
  return lines(
    [255 * eps for eps in epsilons] if norm == 'linf' else list(epsilons),
    {arm: _curve([run['at epsilons'] for run in seeds]) for arm, seeds in runs.items()},
    'radius (1/255)' if norm == 'linf' else 'radius', 'accuracy (%)',
  )


def overfitting(logs, names: Sequence[str]):
  """Training images under FGSM and under PGD-10 while training."""
  return learning_curves(
    {arm: logs[arm] for arm in names}, PROBES,
    titles=['training images under FGSM', 'the same under PGD-10'], columns=2,
  )


def ball_of(options: Mapping | None) -> str:
  """The radius that an arm was trained with, in words."""
  return f'trained within {radius(options["eps"])}' if options else 'no attack'


def picture_rows(shown: Mapping[str, Mapping], which: str):
  """Images, and below them each arm's gradient there (`gradient`), or where it moves them (`far`).

  Args:
    shown: arm -> `jaxdl.robustness.attacked.pictures`.
    which: 'gradient' or 'far'.
  """
  images = next(iter(shown.values()))['images']
  rows = [visible(x[which]) if which == 'gradient' else x[which] for x in shown.values()]
  return image_grid(np.concatenate([images, *rows]), len(images), row_titles=['images', *shown])


def visible(gradient: np.ndarray) -> np.ndarray:
  """Each example's gradient around middle gray, its 99th percentile at black or white."""
  scale = np.percentile(np.abs(gradient), 99, axis=(1, 2, 3), keepdims=True)
  return 0.5 + 0.5 * gradient / np.where(scale > 0, scale, 1)


def _curve(values):
  """(mean, standard deviation or None) over seeds, in per cent."""
  values = 100 * np.asarray(values)
  return values.mean(0), values.std(0, ddof=1) if len(values) > 1 else None
