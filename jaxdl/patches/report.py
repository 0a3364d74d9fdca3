"""The report of adversarial patches: claims, tables and figures."""

import numpy as np

from jaxdl.attacks.placement import cover
from jaxdl.patches import figures
from jaxdl.patches.claims import claims
from jaxdl.patches.findings import ACCURACY, RATES, Findings
from jaxdl.patches.measure import CONTROLS, GOALS
from jaxdl.patches.published import REPORT, TRANSFER
from jaxdl.viz.curves import learning_curves
from jaxdl.viz.report import Report, aggregate, paper_table, result_row, spread


def write(f: Findings, directory) -> int:
  """Writes the report; returns its number of rows."""
  data, e = f.c.train.data, f.c.evaluation
  part = f'{data.per_class} images a class' if data.per_class else 'all images'
  report = Report(
    'Adversarial patches', directory,
    f'{data.name}, victims trained on {part} for {f.c.train.epochs:g} epochs. A patch is trained '
    f'for {f.c.patch.steps} steps of {f.c.patch.batch_size} training images, and evaluated on '
    f'{f.images} test images at {e.placements} random placements each '
    f'({f.c.places[e.place].to_dict()}); values are means over the placements ± one standard '
    'deviation. Success counts only images that the victim classifies correctly without a patch, '
    'and for a target only those of other classes.',
  )
  rows = result_rows(f)
  report.rows(rows)
  report.section('Claims')
  report.text('\n'.join(f'- {line}' for line in claims(f)))
  cells = {(r['setting'], r['metric']): spread(r['value'], r['std'], r['n']) for r in rows}
  for section in (_victims, _size, _controls, _transfer, _pictures, _places, _training):
    section(report, f, cells)
  report.write()
  return len(rows)


def setting(arm, size, victim) -> str:
  """Of a row."""
  return f'{arm} {size}x{size} on {victim}'


def result_rows(f: Findings) -> list[dict]:
  """All rates on the networks that a patch was made for, two on the others; the controls on all;
  places; and single targets for which there are published numbers."""
  rows = []
  add = lambda setting, metric, values, **paper: rows.append(
    result_row(setting, metric, *aggregate(100 * np.array(values)), **paper)
  )
  for v, result in f.victims.items():
    add(f'victim {v}', 'test accuracy (%)', result['test']['accuracy'])
  for (arm, size), result in f.rates.items():
    best = f.made[arm, size]['strongest']
    for v in f.c.victims:
      name = setting(arm, size, v)
      untargeted, targeted = np.array(result[v]['untargeted']), np.array(result[v]['targeted'][1:])
      add(name, RATES[0], untargeted[0])
      add(name, RATES[1], targeted.mean(0))
      if v in f.c.arm[arm].sources:
        each = targeted.mean(1)
        add(name, RATES[2], targeted[each.argmin()])
        add(name, RATES[3], targeted[each.argmax()])
        add(name, RATES[4], untargeted[best])
        add(name, ACCURACY, result[v]['accuracy'][0])
  for size, of in f.controls.items():
    for v, kinds in of.items():
      for kind, found in kinds.items():
        for goal, values in found.items():
          add(f'{kind} {size}x{size} on {v}', f'{goal} success (%)', values)
  kinds, size = f.c.placements.arms, f.c.placements.size
  for goal in GOALS:
    for trained, line in zip(kinds, f.placements[goal], strict=True):
      for pasted, value in zip(kinds, line, strict=True):
        add(f'{size}x{size} trained at {trained}, pasted at {pasted}', f'{goal} success (%)', value)
  if f.c.train.data.name == 'cifar10':
    rows += _beside_others(f)
  return rows


def _beside_others(f):
  arm = f.c.arms[0]
  for (v, target), published in TRANSFER.items():
    for size in f.sizes(arm) if v in f.c.victims and target in f.names else ():
      aims = f.made[arm, size]['targets']
      if size in published and f.names.index(target) in aims:
        values = f.rates[arm, size][v]['targeted'][aims.index(f.names.index(target))]
        yield result_row(
          setting(arm, size, v), f'success towards {target} (%)',
          *aggregate(100 * np.array(values)), paper=published[size], source=REPORT.format(v),
        )


def _victims(report, f, cells):
  report.section('Victims')
  report.table(
    ['victim', 'network', 'parameters', 'test accuracy (%)'],
    [[v, f.c.victim[v].model.name + (', adversarially trained' * bool(
      f.c.victim[v].get('adversary'))), result['parameters'], 100 * result['test']['accuracy']]
     for v, result in f.victims.items()],
    'Without a patch, over the whole test set.',
  )


def _size(report, f, cells):
  report.section('Success against size')
  metrics, pixels = [*RATES, ACCURACY], np.prod(f.shape)
  for arm in (arm for arm in f.c.arms if f.alone(arm)):
    hidden = f.c.arm[arm].get('disguise')
    kept = f' Within {hidden.eps:g} of a picture ({f.names[hidden.of]}).' if hidden else ''
    steps = f' {f.c.arm[arm].steps} steps.' if 'steps' in f.c.arm[arm] else ''
    report.table(
      ['side', 'area (%)', *metrics],
      [[f'{s}', f'{100 * cover(s, f.c.arm[arm].shape).sum() / pixels:.2f}',
        *(cells[setting(arm, s, f.own(arm)), m] for m in metrics)] for s in f.sizes(arm)],
      f'{arm}: white box, on the network it was made for.{kept}{steps} The best targeted patch was '
      'chosen on training images; the accuracy is with the untargeted patch.',
    )
  report.figure(figures.success(f), 'success', 'Success against the side of the patch, white box, '
                'and of the controls on the first victim.')
  report.figure(figures.targets(f), 'targets',
                'Success of each targeted patch on the network it was made for.')
  report.figure(
    figures.predicted(f), 'predicted', 'What the images with the untargeted patch are taken for, '
    'those of that class included: a patch that makes everything one class cannot exceed about '
    '90 %.',
  )


def _controls(report, f, cells):
  report.section('Controls')
  shown = lambda values: spread(*aggregate(100 * np.array(values)))
  report.table(
    ['side', 'victim', *(f'{kind}, {goal} (%)' for kind in CONTROLS for goal in GOALS)],
    [[f'{s}', v, *(shown(of[v][kind][goal]) for kind in CONTROLS for goal in GOALS)]
     for s, of in f.controls.items() for v in f.c.victims],
    'Not trained: noise, gray, and the middle of a real training image (targeted: of the target '
    'class; untargeted: of every class).',
  )


def _transfer(report, f, cells):
  report.section('Transfer')
  for goal in GOALS:
    report.figure(
      figures.transfer(f, goal), f'transfer_{goal}',
      f'{goal.capitalize()} success of the patches of each arm on each victim.',
    )
  beside = [row for row in report.results if row['paper'] is not None]
  if beside:
    report.table(*paper_table(beside),
                 'Two classes of the transfer, beside an earlier report on other networks.')


def _pictures(report, f, cells):
  report.section('Pictures')
  for arm in f.c.arms:
    hidden = 'the picture it must look like, ' if f.c.arm[arm].get('disguise') else ''
    report.figure(
      figures.gallery(f, arm), f'patches_{arm}',
      f'{arm}: {hidden}the untargeted patch and one for each class; each row is one size, '
      'enlarged.',
    )
  main = f.c.arms[0]
  report.figure(
    figures.samples(f), 'samples', f'Test images with patches made for {f.own(main)} at the first '
    'placement; above each, its target, and what the network takes it for.',
  )


def _places(report, f, cells):
  report.section('Places')
  kinds, size = f.c.placements.arms, f.c.placements.size
  report.figure(
    figures.placements(f), 'placements', f'Patches of {size} x {size} trained at one kind of place '
    f'(rows) and pasted at another (columns), on {f.own(f"at_{kinds[0]}")}: '
    + '; '.join(f'{k} {f.c.places[k].to_dict()}' for k in kinds) + '.',
  )
  where = f.c.positions
  for size in f.positions:
    report.figure(
      figures.positions(f, size), f'positions_{size}', f'Success of {where.arm} {size} x {size} '
      f'over the place of its upper left pixel, every {where.stride} pixels, on '
      f'{min(where.images, f.images)} images.',
    )


def _training(report, f, cells):
  report.section('Training')
  report.figure(
    learning_curves(f.logs, ['train/loss', 'train/success_untargeted', 'train/success_targeted']),
    'curves', f'Training of the patches of {f.c.arms[0]}: loss summed over the patches, and '
    'success on the training batches.',
  )
