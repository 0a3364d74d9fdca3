"""The report of the study of robust features: tables, pictures of the sets, curves."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from jaxdl.robustness.published import TRANSFER, robust_features
from jaxdl.robustness.survey import SHOWN, shown_places
from jaxdl.viz.confusion import confusion_matrix
from jaxdl.viz.curves import lines
from jaxdl.viz.montage import montage
from jaxdl.viz.report import Report, aggregate, result_row, spread

ACCURACY, NEXT = 'test accuracy (%)', 'accuracy on next classes (%)'


def measures(radii: Sequence[float], linf: float | None) -> dict[str, tuple[str, float, Callable]]:
  """metric -> (what, L2 radius, function of one network's measurements in per cent or None).

  Args:
    radii: L2, at which the networks were attacked.
    linf: radius of the other norm, or None.
  """
  percent = lambda value: None if value is None else 100 * value
  own = radii.index(0.25) if 0.25 in radii else 0
  out = {ACCURACY: ('test', 0.0, lambda x: 100 * x['accuracy'])}
  for i, eps in enumerate(radii):
    out[f'L2 {eps:g} (%)'] = ('test', eps, lambda x, i=i: 100 * x['l2'][i])
  out[f'noise of norm {radii[-1]:g} (%)'] = ('noise', radii[-1], lambda x: 100 * x['noise'])
  if linf:
    name = f'L-infinity {255 * linf:g}/255 (%)'
    out[name] = ('linf', linf, lambda x: percent(x.get('linf')))
  out[f'own, L2 {radii[own]:g} (%)'] = (
    'own', radii[own], lambda x: percent(x['own l2'][own]) if 'own l2' in x else None
  )
  return {**out, NEXT: ('next', 0.0, lambda x: 100 * x['next'])}


def network_rows(settings, metrics, scale: float | None) -> list[dict]:
  """Result rows of networks: name -> measurements of each seed; `scale` None: nothing published."""
  rows = []
  for setting, runs in settings.items():
    for metric, (what, eps, read) in metrics.items():
      values = [read(run) for run in runs]
      if values[0] is not None:
        paper = () if scale is None else robust_features(setting, what, eps, scale)
        rows.append(result_row(setting, metric, *aggregate(values), *paper))
  return rows


def set_rows(looks: Mapping[str, Mapping], published: bool) -> list[dict]:
  """Result rows of the sets themselves.

  Args:
    looks: set -> what networks make of it: `moved`, and of a set that a network made `source`,
      `called` (network -> shares), `other` (an independent network), `representation`.
    published: the images are those of the paper.
  """
  rows = []
  for setting, x in looks.items():
    where = f'the set {setting}'
    rows.append(result_row(where, 'distance moved (L2)', x['moved']))
    if x.get('source'):
      share = lambda network, x=x: 100 * x['called'][network]['label']
      rows.append(result_row(where, 'called by its label, source (%)', share(x['source'])))
      if x.get('other'):
        paper = TRANSFER if published and setting in ('rand', 'det') else ()
        rows.append(result_row(
          where, 'called by its label, independent network (%)', share(x['other']), None, 1, *paper
        ))
    if 'representation' in x:
      ratio = x['representation']['after'] / x['representation']['before']
      rows.append(result_row(where, 'representation distance, after / before', ratio))
  return rows


def network_table(report: Report, settings, metrics, rows, steps: int) -> None:
  """Every network's accuracies, one line each."""
  cell = {(r['setting'], r['metric']): spread(r['value'], r['std'], r['n']) for r in rows}
  report.table(
    ['setting', *metrics], [[s, *(cell.get((s, m)) for m in metrics)] for s in settings],
    'Accuracy on the original test images, of the last step. L2 and L-infinity: under PGD with '
    f'{steps} steps of 2.5 eps / {steps}, L2 from the image itself; noise: random, of the largest '
    'of these norms; own: on the images of the set it learnt. Next classes: on the test images '
    'labelled with the class after theirs (table 10 of the paper).',
  )


def set_tables(report: Report, looks: Mapping[str, Mapping]) -> None:
  """What every network calls the images of every set, and how far these are from their origin."""
  names = list(dict.fromkeys(k for x in looks.values() for k in x['called']))
  percent = lambda x, k, what: 100 * x['called'][k][what] if k in x['called'] else None
  for what, caption in (
    ('label', 'Images called by the label of the set (%), by each network.'),
    ('class', 'Images called by the class of the original image (%), by each network.'),
  ):
    report.table(
      ['set', *names], [[s, *(percent(x, k, what) for k in names)] for s, x in looks.items()],
      caption, '.1f',
    )
  report.table(
    ['set', 'L2 moved, mean', 'most', 'L2 from the original', 'label is the class (%)',
     'representation, before', 'after'],
    [[s, x['moved'], x['moved at most'], x['from the original'], 100 * x['share of own labels'],
      *(x.get('representation', {}).get(k) for k in ('before', 'after'))]
     for s, x in looks.items()],
    'Moved: from where the image began. Representation: mean of ||g(x) - g(original)|| / '
    '||g(original)|| with the network that made the set.', '.3f',
  )


def show_set(report: Report, name: str, made, begun, originals, names, look) -> None:
  """Images of every label beside what they were made of, and what the standard network says.

  Args:
    report: to add to.
    name: of the set.
    made: its `images`, `labels` and `classes`.
    begun, originals: float [N, H, W, C]; where the images began, and what they are like.
    names: of the classes.
    look: what networks make of it; `said` are the classes that the standard network calls the
      images at `shown_places`.
  """
  places = shown_places(made['labels'], len(names))
  columns = {'from': begun, 'like': originals, 'made': made['images']}
  if np.array_equal(begun[0], originals[0]):
    change = 0.5 + 10 * (made['images'] - originals)
    columns = {'from': originals, 'made': made['images'], 'change': change}
  rows = [[x[i] for i in several for x in columns.values()] for several in places.values()]
  called = [', '.join(names[said] for said in look['said'][str(k)]) for k in places]
  report.figure(
    montage(
      np.array(rows), [f'{names[k]} (called {c})' for k, c in zip(places, called, strict=True)],
      [*columns] * SHOWN, [('', len(columns))] * SHOWN,
    ),
    f'set-{name}', f'{name}: each row has one label of the set; in brackets what the standard '
    'network calls its images.'
    + (' The change is shown tenfold around grey.' if 'change' in columns else ''),
  )
  if 'confusion' in look:
    report.figure(
      confusion_matrix(look['confusion'], names, name), f'called-{name}',
      f'What the standard network calls the images of {name}, by the class of the original image.',
    )


def accuracy_lines(settings, names: Sequence[str], radii: Sequence[float]):
  """Accuracy against the L2 radius, mean and band over seeds."""
  series = {}
  for s in names:
    values = 100 * np.array([[run['accuracy'], *run['l2']] for run in settings[s]])
    series[s] = values.mean(0), values.std(0, ddof=1) if len(values) > 1 else None
  return lines([0, *radii], series, 'L2 radius', 'accuracy (%)')


def crossed(report: Report, learnt, under, transfer, models) -> None:
  """Sets made by one network and learnt by another; and the paper's figure 3.

  Args:
    report: to add to.
    learnt, under: set -> (made by, learnt by) -> accuracy (%) on the test images, without and with
      the attack at the first radius.
    transfer: see `jaxdl.robustness.feature_claims.depth_claims`.
    models: in the order of their depth.
  """
  for name in learnt:
    for what, cells in (('test accuracy', learnt), ('accuracy under attack', under)):
      report.table(
        ['made by', *models], [[a, *(cells[name][a, b] for b in models)] for a in models],
        f'{name}: {what} (%), learnt by each network; attacked at the first L2 radius.', '.1f',
      )
  if 'rand' in learnt:
    mine = [learnt['rand'][models[0], m] for m in models]
    report.figure(
      lines({m: [transfer[m]] for m in models},
            {m: ([value], None) for m, value in zip(models, mine, strict=True)},
            f'images of rand by {models[0]} called by their label (%)', 'learnt from rand (%)'),
      'transfer', f'Networks that learn the set rand of {models[0]} better, and how far they are '
      'fooled by its images (the paper, figure 3).',
    )
