"""The report on two networks that teach each other: roles, features, controls."""

from collections.abc import Mapping, Sequence

from jaxdl.distillation.evidence import examine, similarity
from jaxdl.distillation.runs import Run, mean, over, paired, said
from jaxdl.viz.curves import learning_curves
from jaxdl.viz.heatmap import heatmaps
from jaxdl.viz.report import Report, aggregate, paper_table, result_row, spread

YUAN = 'Yuan et al. 2020, ResNet-18 for big, MobileNetV2 for small: the order compares'
PAPER = {
  'big': '75.87 (CIFAR-100)', 'small': '68.38 (CIFAR-100)', 'kd_T20': '71.05 (CIFAR-100)',
  'rekd_T20': '77.28 (CIFAR-100)', 'dekd': '70.65 (CIFAR-100, teacher of 15.48 %)',
  'big_smooth': '77.26 (CIFAR-100)', 'small_smooth': '69.32 (CIFAR-100)',
}
GROUPS = {  # figure -> arms, where they were run
  'small': ('small', 'small_smooth', 'kd_T4', 'kd_T20', 'dkd', 'fitnet', 'attention', 'dekd'),
  'controls': (
    'small', 'kd_T4', 'class_means', 'permuted', 'confidence', 'weighted', 'small_smooth',
  ),
  'teachers': ('small', 'kd_T4', 'kd_ensemble', 'born1', 'born2', 'born3', 'kd_smooth'),
  'big': ('big', 'big_smooth', 'rekd_T4', 'rekd_T20', 'big_dekd'),
}
TITLES = {
  'small': 'The small network, taught by the big one',
  'controls': 'What of the soft targets is needed',
  'teachers': 'Teachers: one, four, and earlier copies of the student',
  'big': 'The big network, taught by the small one',
}


def write(
  report: Report, runs: Mapping[str, Sequence[Run]], sizes: Mapping, class_names: Sequence[str], p
) -> None:
  """Adds the sections on roles and controls.

  Args:
    report: gets sections, figures and rows.
    runs: arm -> one run for each seed.
    sizes: arm -> {'parameters', 'MACs'}.
    class_names: of the set.
    p: the part `cifar` of the configuration.
  """
  data = p.train.data
  published = data.name == 'cifar10'
  part = f'{data.per_class} images a class' if data.per_class else 'all images'
  networks = ' and '.join(f'{k}: {_called(v)}' for k, v in p.networks.items())
  report.section(f'Roles: {data.name}')
  asked = ('The teacher sees the same augmented images as its student, in eval mode'
           if p.train.augment else
           'Nothing is augmented, so a teacher says once what it thinks of each image')
  smaller = f', made {p.shrink} times smaller' if p.shrink > 1 else ''
  brief = [f'{a} {p.arm[a].epochs * p.train.epochs:g}' for a in runs if p.arm[a].epochs != 1]
  report.text(
    f'{networks}; {part}{smaller}, {p.train.epochs:g} epochs, batch {p.train.batch_size}, seeds '
    f'{list(p.seeds)}. {asked}; each seed has its own teacher, an ensemble that of the seeds '
    f'{list(p.members)}.' + (f' Other numbers of epochs: {", ".join(brief)}.' if brief else '')
  )
  rows = [
    result_row(f'roles: {arm}', metric, *aggregate([f(run) for run in several]),
               *((PAPER[arm], YUAN) if published and arm in PAPER and 'best' in metric else ()))
    for arm, several in runs.items()
    for metric, f in (
      ('test accuracy (%)', Run.last), ('best test accuracy (%)', Run.best),
    )
  ]
  report.rows(rows)
  report.table(
    ['arm', 'network', 'teacher', 'alpha', 'T', 'parameters', 'MACs', 'last epoch (%)',
     'best epoch (%)', 'p against none'],
    [
      [arm, p.arm[arm].student, p.arm[arm].teacher, p.arm[arm].alpha, p.arm[arm].temperature,
       sizes[arm]['parameters'], sizes[arm]['MACs'], over(several, Run.last),
       over(several, Run.best), _against(runs, arm, p)]
      for arm, several in runs.items()
    ],
    'Test accuracy; p of McNemar\'s test against the same network without a teacher. The '
    'parameters of a hint\'s regressor are not counted: it is not needed after training.', '.3g',
  )
  if shown := [row for row in rows if row['paper'] is not None]:
    report.table(
      *paper_table(shown), 'The paper reports the best epoch. On CIFAR-10 it has, from memory and '
      'not checked, 95.12 % for ResNet-18 and 95.71 % where MobileNetV2 taught it, 90.98 % for '
      'MobileNetV2 and 91.69 % where ResNet-18 taught it.',
    )
  for group, names in GROUPS.items():
    logs = {arm: [run.log for run in runs[arm]] for arm in names if arm in runs}
    if len(logs) > 1:
      report.figure(
        learning_curves(logs, ['train/accuracy', 'test/accuracy'], columns=2), f'roles_{group}',
        f'{TITLES[group]}: accuracy on augmented training batches, and on the test set.',
      )
  _evidence(report, runs, class_names, p)
  report.section('Roles: claims')
  report.text('\n'.join(f'- {line}' for line in _claims(runs)))


def _called(network):
  width = f', width {network.width:g}' if 'width' in network else ''
  return network.name + width


def _against(runs, arm, p):
  plain = p.arm[arm].student
  return None if arm == plain or plain not in runs else paired(runs[arm], runs[plain])


def _evidence(report, runs, class_names, p):
  """Entropy, calibration and similarity of every arm against the teacher of its direction."""
  report.section('Roles: why does it help?')
  keys = ('entropy', 'ECE', 'NLL', 'similarity', 'confidence', 'agree')
  cells, rows = [], []
  for arm, several in runs.items():
    reference = p.arm[arm].teacher or ('big' if p.arm[arm].student == 'small' else 'small')
    if reference not in runs:
      continue
    found = [
      examine(run.logits['test'], told.logits['test'], run.labels['test'])
      for run, told in zip(several, runs[reference], strict=True)
    ]
    scale = {'ECE': 100, 'agree': 100}
    cells.append([
      arm, reference,
      *(spread(*aggregate([x[k] * scale.get(k, 1) for x in found])) for k in keys),
    ])
    rows += [
      result_row(f'roles: {arm}', metric, *aggregate([x[k] for x in found]))
      for k, metric in (('ECE', 'ECE'), ('NLL', 'NLL'), ('entropy', 'entropy (nats)'),
                        ('similarity', f'similarity to {reference}'))
    ]
  report.rows(rows)
  report.table(
    ['arm', 'compared with', 'entropy (nats)', 'ECE (%)', 'NLL', 'similarity', 'confidence',
     'agreement (%)'], cells,
    'Of predictions on the test set, without softening. similarity: correlation of the logarithms '
    'of how both divide probability among wrong classes at T 4; confidence: rank correlation of '
    'their log odds. Networks without a teacher are compared with the other one. `permuted` keeps '
    'the teacher\'s probability of the label and shuffles those of the other classes for each '
    'image, `confidence` makes them equal.',
  )
  shown = [arm for arm in ('big', 'small', 'kd_T4', 'permuted', 'confidence', 'small_smooth')
           if arm in runs]
  tables = {
    arm: 100 * similarity(runs[arm][0].logits['test'], runs[arm][0].labels['test'], 4.0)
    for arm in shown
  }
  report.figure(
    heatmaps(tables, class_names, class_names, 'other class', 'true class',
             '% of the probability of wrong classes', high=40, across=3),
    'roles_similarity', 'How the probability that is not given to the true class is divided at T '
    '4, first seed.',
  )


CLAIMS = (
  ('Soft targets of the big network help the small one (T 4)', 'kd_T4', 'small'),
  ('They help with T 20 and alpha .6 too', 'kd_T20', 'small'),
  ('Reversed roles: the small network helps the big one (T 20)', 'rekd_T20', 'big'),
  ('Reversed roles with T 4', 'rekd_T4', 'big'),
  ('A hardly trained teacher helps the small network', 'dekd', 'small'),
  ('A hardly trained small network helps the big one', 'big_dekd', 'big'),
  ('Label smoothing helps the small network', 'small_smooth', 'small'),
  ('Label smoothing helps the big network', 'big_smooth', 'big'),
  ('Soft targets do more than label smoothing', 'kd_T4', 'small_smooth'),
  ('Which classes are alike matters: shuffling the wrong classes costs accuracy', 'kd_T4',
   'permuted'),
  ('Which classes are alike matters: making the wrong classes equal costs accuracy', 'kd_T4',
   'confidence'),
  ('What the teacher says of a class on average helps', 'class_means', 'small'),
  ('What it says of each image is more', 'kd_T4', 'class_means'),
  ('Four teachers are better than one', 'kd_ensemble', 'kd_T4'),
  ('A network taught by an earlier copy of itself is better', 'born1', 'small'),
  ('A hint at features helps', 'fitnet', 'small'),
  ('Attention maps help', 'attention', 'small'),
  ('Decoupled distillation beats the coupled one', 'dkd', 'kd_T4'),
)


def _claims(runs):
  for claim, one, other in CLAIMS:
    if one in runs and other in runs:
      a, b = mean(runs[one], Run.last), mean(runs[other], Run.last)
      p = paired(runs[one], runs[other])
      yield (f'{claim}: {said(a > b)} ({one} {a:.2f} %, {other} {b:.2f} %; McNemar p = {p:.2g}, '
             f'n = {len(runs[one])}).')
