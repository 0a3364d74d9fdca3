"""What the tasks of image synthesis made, as sections of a report."""

import numpy as np

from jaxdl.synthesis.seeds import SEEDS
from jaxdl.synthesis.tasks import RESIZES, RESTORATIONS, first_of_classes
from jaxdl.viz.montage import montage
from jaxdl.viz.report import result_row


def show(report, c, context, results, names) -> None:
  """Adds the sections of all tasks but the robustness.

  Args:
    report: `jaxdl.viz.report.Report`.
    c: the study's configuration: `arms` and the options of each task.
    context: of the stage, with a stage `ARM-TASK` for each, and `seeds`.
    results: task -> arm -> numbers.
    names: of the classes.
  """
  def images(task):
    return lambda arm, name: np.load(context.directories[f'{arm}-{task}'] / f'{name}.npy')

  _generation(report, c, context, results['generation'], images('generation'), names)
  for task, section in _SECTIONS.items():
    section(report, c, results[task], images(task), names)
    if task == 'translation' and results['binary']:
      _binary(report, c, context, results['binary'], names)


def _generation(report, c, context, results, load, names):
  report.section('Generation')
  seeds, o = context.results['seeds'], c.generation
  table = []
  for kind in SEEDS:
    table.append([kind, 'untouched', *opinions({'judge': seeds[kind]}), 0.0])
    for arm in c.arms:
      r = results[arm][kind]
      table.append([kind, arm, *opinions(r), r['moved']])
      report.rows([
        result_row(arm, f'generation from {kind}: {who} agreement (%)', 100 * r[who]['agreement'])
        for who in ('own', 'judge')
      ])
  report.table(
    ['seed', 'network', *OPINIONS, 'moved (L2)'], table,
    f'{o.steps} steps of {o.alpha:g} in a ball of {o.eps:g} (which a path of '
    f'{o.steps * o.alpha:g} can{"" if o.steps * o.alpha > o.eps else "not"} leave). '
    f'{o.per_class} seeds a class from its Gaussian, {o.controls} of noise and of another class, '
    'one grey one.', '.1f',
  )
  look = context.results['cross']
  lookers = ['judge', *c.arms]
  report.table(
    ['seed', 'made by', *lookers],
    [[kind, maker, *(100 * look[kind][maker][name] for name in lookers)]
     for kind in SEEDS for maker in ('untouched', *c.arms)],
    'What the networks see in what the others made: the share (%) that they take for the class '
    'aimed at. What fools one standard network may fool another: look at the robust networks other '
    'than the maker.', '.1f',
  )
  report.rows([
    result_row(f'{maker}, seen by {name}', f'generation from {kind}: agreement (%)',
               100 * look[kind][maker][name])
    for kind in ('class Gaussian', 'another class') for maker in ('untouched', *c.arms)
    for name in c.arms if name != maker
  ])
  scores = {'test images': seeds['real'], 'untouched seeds': seeds['class Gaussian'],
            **{arm: {**r['class Gaussian']['judge'], **r['class Gaussian']}
               for arm, r in results.items()}}
  report.table(
    ['images', "score, judge's", "Fréchet distance, judge's features"],
    [[name, r['score'], r['frechet']] for name, r in scores.items()],
    'From class Gaussians. Both with the features of the judge, not of Inception: compare the '
    'lines with each other only. (Published Inception scores of CIFAR-10, for the record: 7.5 for '
    'the robust classifier, 11.2 for real images.) The distance of the first line is that of as '
    'many training images.', '.2f',
  )
  report.rows([
    result_row(name, what, r[key])
    for name, r in scores.items()
    for what, key in (('classifier score', 'score'), ('classifier Fréchet distance', 'frechet'))
  ])
  for kind in SEEDS:
    with np.load(context.directories['seeds'] / f'{kind}.npz') as file:
      seed = first_of_classes(file['seeds'], len(names))
    parts = [seed, *(first_of_classes(load(arm, kind), len(names)) / 255 for arm in c.arms)]
    heads, n = ['seeds', *map(short, c.arms)], seed.shape[1]
    name, caption = kind.replace(' ', '_'), f'Seeds ({kind}), and what each network makes of them.'
    report.figure(
      montage(np.concatenate(parts, 1), names, groups=[(head, n) for head in heads]),
      f'generated_{name}', caption,
    )
    one = np.concatenate([part[:, :1] for part in parts], 1)
    report.figure(montage(one, names, heads), f'example_{name}', f'The first ones. {caption}')
  ways = [load(arm, 'way') for arm in c.arms]
  groups = [(short(arm), len(o.marks)) for arm in c.arms]
  report.figure(
    montage(np.concatenate(ways, 1), names, [str(n) for n in o.marks] * len(ways), groups), 'way',
    'On the way from the seed: the image after so many steps.',
  )


OPINIONS = ('judge agrees (%)', "judge's confidence (%)", 'own agreement (%)', 'own confidence (%)')


def opinions(r):
  """The cells of `OPINIONS`; nothing for an opinion that was not asked for."""
  return [
    100 * r[who][what] if who in r else None
    for who in ('judge', 'own') for what in ('agreement', 'confidence')
  ]


def _inpainting(report, c, results, load, names):
  report.section('Inpainting')
  o, table = c.inpainting, []
  for arm, of in results.items():
    for name, r in of.items():
      table.append([arm, name, r['psnr'], r.get('outside'), *opinions(r)])
      report.rows([
        result_row(arm, f'inpainting, {name}: PSNR in the square (dB)', r['psnr']),
        result_row(arm, f'inpainting, {name}: judge agreement (%)', 100 * r['judge']['agreement']),
      ])
  report.table(
    ['network', 'method', 'PSNR in the square (dB)', 'moved outside (L2)', *OPINIONS], table,
    f'A square of {o.side} x {o.side} pixels of {o.per_class} test images a class, filled with the '
    f'mean colour (cut), then {o.steps} steps of {o.alpha:g} within {o.eps:g}; penalty weight '
    f'{o.weight:g}. Blind: towards what the network itself takes the cut image for; wrong in '
    f'{_wrong(results, "cut")}. '
    + 'The last ReLU passes every gradient but where it is said.' * o.fake_relu,
    ['', '', '.2f', '.2f', '.0f', '.0f', '.0f', '.0f'],
  )
  k, of = len(names), lambda arm, name: first_of_classes(load(arm, name), len(names))
  first = [of(c.arms[0], name)[:, :1] for name in ('originals', 'cut')]
  shown = ['penalty', 'hard', 'hard, blind']
  filled = [of(arm, name)[:, :1] for arm in c.arms for name in shown]
  heads = ['original', 'cut', *(['penalty', 'hard', 'blind'] * len(c.arms))]
  groups = [('', 2), *((short(arm), 3) for arm in c.arms)]
  report.figure(
    montage(np.concatenate([*first, *filled], 1), names, heads, groups), 'inpainted',
    'One image of each class, by every network; blind is the hard one without the label.',
  )
  for arm in c.arms:
    trios = np.stack([of(arm, name) for name in ('originals', 'cut', 'penalty')], 2)
    n = trios.shape[1]
    report.figure(
      montage(trios.reshape(k, n * 3, *trios.shape[3:]), names, groups=[('', 3)] * n),
      f'inpainted_{arm}',
      f'{arm}: original, cut, filled (penalty).',
    )


def short(arm):
  """'robust_0p5' -> 'robust 0.5'."""
  return arm.replace('_', ' ').replace('0p', '0.')


def _wrong(results, start):
  """The share of wrong targets where a network guesses them from what the task starts from."""
  return ', '.join(f'{arm} {100 - 100 * r[start]["own"]["agreement"]:.0f} %'
                   for arm, r in results.items())


def _restored_rows(setting, r):
  return [
    result_row(setting, f'super-resolution: {what}', value)
    for what, value in (('PSNR (dB)', r['psnr']), ('SSIM', r['ssim']),
                        ('judge agreement (%)', 100 * r['judge']['agreement']))
  ]


def _super_resolution(report, c, results, load, names):
  report.section('Super-resolution')
  o, table = c.super_resolution, []
  line = lambda r: [r['psnr'], r['ssim'], r['low-resolution error'], *opinions(r)]
  resized = next(iter(results.values()))
  for name in RESIZES:
    table.append([None, name, *line(resized[name])[:-2], None, None])
    report.rows(_restored_rows(name, resized[name]))
  for arm, of in results.items():
    for name in RESTORATIONS:
      for eps, r in zip(o.eps, of[name], strict=True):
        table.append([arm, f'{name}, eps {eps:g}', *line(r)])
        report.rows(_restored_rows(f'{arm}, {name}, eps {eps:g}', r))
  report.table(
    ['network', 'method', 'PSNR (dB)', 'SSIM', 'low-resolution error (L2)', *OPINIONS], table,
    f'{o.per_class} test images a class, at 1/{o.factor} of the resolution by block means and '
    f'back; {o.steps} steps of {o.alpha:g} from the nearest-neighbour enlargement. Faithful: the '
    'block means are put back after every step. Blind: towards what the network itself takes the '
    f'nearest-neighbour enlargement for; wrong in {_wrong(results, "nearest")}.',
    ['', '', '.2f', '.3f', '.3f', *['.0f'] * 4],
  )
  k = len(names)
  of = lambda arm, name: load(arm, name)
  one = lambda x: x.reshape(k, -1, *x.shape[1:])[:, :1]
  e = len(o.eps) // 2
  parts = [one(of(c.arms[0], name)) for name in ('nearest', 'bicubic')]
  parts += [one(of(arm, name)[:, e]) for arm in c.arms for name in ('plain', 'faithful')]
  parts.append(one(of(c.arms[0], 'originals')))
  heads = ['low', 'bicubic', *(['plain', 'faithful'] * len(c.arms)), 'original']
  groups = [('', 2), *((short(arm), 2) for arm in c.arms), ('', 1)]
  report.figure(
    montage(np.concatenate(parts, 1), names, heads, groups),
    'restored', f'One image of each class; eps {o.eps[e]:g}.',
  )


def _translation(report, c, results, load, names):
  report.section('Translation')
  o, first = c.translation, next(iter(results.values()))
  table = []
  for arm, of in results.items():
    table.append([arm, 'source', *opinions(of['sources']), None, 0.0])
    for eps, r in zip(o.eps, of['made'], strict=True):
      table.append([arm, f'eps {eps:g}', *opinions(r), 100 * r['source class'], r['moved']])
      report.rows([result_row(
        f'{arm}, eps {eps:g}', 'translation: judge sees the target (%)',
        100 * r['judge']['agreement'],
      )])
  report.table(
    ['network', 'image', *OPINIONS, 'judge sees the source (%)', 'moved (L2)'], table,
    f'{len(first["ways"])} ways between {len(o.pairs)} pairs of classes, {o.per_class} test images '
    f'each, {o.steps} steps of {o.alpha:g}; agreement is with the target.', '.1f',
  )
  parts = [load(c.arms[0], 'sources')[:, None]]
  parts += [load(arm, 'made') for arm in c.arms]
  rows = [f'{names[a]} to {names[b]}' for a, b in first['ways']]
  heads = ['source', *(f'eps {eps:g}' for arm in c.arms for eps in o.eps)]
  groups = [('', 1), *((short(arm), len(o.eps)) for arm in c.arms)]
  report.figure(
    montage(np.concatenate(parts, 1), rows, heads, groups), 'translated', 'The first image of each.'
  )


def _binary(report, c, context, results, names):
  o, table, rows, strips = c.translation, [], [], []
  for (pair, arm), of in results.items():
    way, folder = ' and '.join(pair), context.directories[f'{arm}-{"-".join(pair)}-translation']
    table.append([way, arm, 'source', *opinions(of['sources']), 0.0])
    for eps, r in zip(o.eps, of['made'], strict=True):
      table.append([way, arm, f'eps {eps:g}', *opinions(r), r['moved']])
      report.rows([result_row(
        f'{arm}, {way} alone, eps {eps:g}', 'translation: judge sees the target (%)',
        100 * r['judge']['agreement'],
      )])
    if arm == c.binary.arms[0]:
      rows += [f'{a} to {b}' for a, b in (pair, pair[::-1])]
      strips += [[np.load(folder / 'sources.npy')[:, None]]]
    strips[-1].append(np.load(folder / 'made.npy'))
  report.table(
    ['classes', 'network', 'image', *OPINIONS, 'moved (L2)'], table,
    "The paper's form: a classifier of the two classes alone, which is aimed at the other one.",
    '.1f',
  )
  heads = ['source', *(f'eps {eps:g}' for _ in c.binary.arms for eps in o.eps)]
  groups = [('', 1), *((short(arm), len(o.eps)) for arm in c.binary.arms)]
  whole = np.concatenate([np.concatenate(strip, 1) for strip in strips])
  report.figure(montage(whole, rows, heads, groups), 'translated_two',
                'By a classifier of the two classes alone: the first image of each.')


def _sketching(report, c, results, load, names):
  report.section('Sketches')
  o, table = c.sketching, []
  for arm, of in results.items():
    for when in ('before', 'after'):
      table.append([arm, {'before': 'sketch', 'after': 'drawn'}[when], *opinions(of[when]),
                    of['moved'] if when == 'after' else 0.0])
    report.rows([result_row(
      arm, f'sketches: judge agreement (%), {when}', 100 * of[when]['judge']['agreement']
    ) for when in ('before', 'after')])
  report.table(
    ['network', 'image', *OPINIONS, 'moved (L2)'], table,
    f'Edges of {o.per_class} test images a class, dark on white; {o.steps} steps of {o.alpha:g} '
    f'within {o.eps:g} towards the class.', '.1f',
  )
  of = lambda arm, name: first_of_classes(load(arm, name), len(names))[:, :3]
  parts = [of(c.arms[0], 'originals'), of(c.arms[0], 'sketches'),
           *(of(arm, 'made') for arm in c.arms)]
  groups = [(title, parts[0].shape[1]) for title in ('images', 'sketches', *map(short, c.arms))]
  report.figure(montage(np.concatenate(parts, 1), names, groups=groups), 'sketched',
                'Sketches of test images, and what each network makes of them.')


def _painting(report, c, results, load, names):
  report.section('Feature painting')
  o, table = c.painting, []
  for arm, of in results.items():
    for when in ('before', 'after'):
      table.append([arm, when, of[when]['unit'], *opinions(of[when])])
    report.rows([result_row(
      arm, f'painting: judge sees the class (%), {when}', 100 * of[when]['judge']['agreement']
    ) for when in ('before', 'after')])
  report.table(
    ['network', 'painting', 'activation of the unit', *OPINIONS], table,
    'Into a random square of images of each class goes the unit of the representation with the '
    f'largest weight for the next class: {o.steps} steps of {o.alpha:g} within {o.eps:g}, square '
    f'of {o.side} pixels, gain {o.gain:g}, penalty {o.weight:g} outside. Agreement is with that '
    'next class.', '.2f',
  )
  of = lambda arm, name: first_of_classes(load(arm, name), len(names))[:, :3]
  parts = [of(c.arms[0], 'originals'), *(of(arm, 'painted') for arm in c.arms)]
  rows = [f'{name} in {names[i - 1]}' for i, name in enumerate(names)]
  n = parts[0].shape[1]
  report.figure(
    montage(np.concatenate([np.roll(p, 1, 0) for p in parts], 1), rows,
            groups=[(title, n) for title in ('images', *map(short, c.arms))]),
    'painted', 'The unit of a class painted into images of another.',
  )


_SECTIONS = {
  'inpainting': _inpainting,
  'super_resolution': _super_resolution,
  'translation': _translation,
  'sketching': _sketching,
  'painting': _painting,
}
