"""Distillation: digits after Hinton et al. 2015, roles and controls on CIFAR-10. See
configs/distillation.py.

A student is an ordinary classifier whose objective has a teacher: one whose logits were kept
(wherever nothing is augmented), or one that looks at every augmented batch. The arms of the second
part, from plain labels to ensembles and generations, are options of jaxdl/distillation/arms.py.
"""

import functools
import itertools

import numpy as np

from jaxdl import app
from jaxdl.data import take
from jaxdl.distillation import arms, digits, order, roles
from jaxdl.distillation.runs import LOGITS, load_run
from jaxdl.distillation.students import Student
from jaxdl.objectives import distilled
from jaxdl.objectives.distilled import cached, with_logits
from jaxdl.options import check_names, check_number, check_numbers, check_seeds
from jaxdl.train import classifier
from jaxdl.train.evaluate import predict
from jaxdl.train.stages import Stage
from jaxdl.uncertainty.mixture import mixture
from jaxdl.viz.report import Report

TEACHER = 'mnist-teacher'


def stages(c):
  parts = {'mnist': mnist_stages, 'cifar': cifar_stages}
  check_names('parts', c.parts, parts)
  out = [stage for part in c.parts for stage in parts[part](c[part])]
  report = functools.partial(write_report, c)
  return [*out, Stage('report', report, {}, needs=[s.name for s in out], always=True)]


def mnist_stages(m):
  """One teacher, its logits kept; students of many sizes, temperatures and transfer sets."""
  check_mnist(m)
  teacher = m.teacher.to_dict()
  out = [Stage(
    TEACHER, functools.partial(train_teacher, teacher), {'train': teacher, 'seed': 0},
    plan=functools.partial(classifier.plan, teacher),
    check=functools.partial(classifier.check, teacher),
  )]
  for student, seed in mnist_cells(m):
    config = student_config(m, student)
    out.append(Stage(
      f'{student.name}-{seed}', functools.partial(train_student, config, student, seed),
      {'train': config, 'student': student._asdict(), 'seed': seed},
      needs=[TEACHER] if student.alpha else [],
      plan=functools.partial(plan_student, config, student),
      check=functools.partial(check_student, config, student),
    ))
  return out


def check_mnist(m):
  o = m.omitted
  check_number('mnist.teacher.data.validation', m.teacher.data.validation, 1, whole=True)
  check_seeds(m.seeds)
  check_seeds(o.seeds)
  check_numbers('mnist.hidden', m.hidden, 1, whole=True)
  check_numbers('mnist.temperatures', m.temperatures, above=0)
  check_numbers('mnist.omitted.temperatures', o.temperatures, above=0)
  check_numbers('mnist.alphas', m.alphas, above=0, most=1)
  for key, part in (('headline', m.headline), ('omitted', o)):
    check_number(f'mnist.{key}.alpha', part.alpha, above=0, most=1)
    check_number(f'mnist.{key}.temperature', part.temperature, above=0)
  check_numbers('mnist.omitted.digits', o.digits, 0, 9, whole=True)
  check_numbers('mnist.omitted.only', o.only, 0, 9, whole=True)
  if m.student.augment:
    raise ValueError('mnist.student.augment must be None: the logits of its teacher are kept, and '
                     'they are those of images as they are.')
  if 'data' in m.student:
    raise ValueError('mnist.student has data of its own: leave it out, the logits of its teacher '
                     'are those of mnist.teacher.data.')


def mnist_cells(m):
  """Every (student, seed) that the tables need, once."""
  h = m.headline
  grid = itertools.product(m.hidden, m.alphas, m.temperatures)
  usual = [Student(h.hidden), Student(h.hidden, h.alpha, h.temperature)]
  usual += [Student(width) for width in m.hidden] + [Student(*cell) for cell in grid]
  cells = [(student, seed) for seed in m.seeds for student in usual]
  cells += [(student, seed) for seed in m.omitted.seeds for student in omitted_cells(m.omitted)]
  return list(dict.fromkeys(cells))


def omitted_cells(o):
  rest = tuple(d for d in range(10) if d not in o.only)
  lacks = [((d,), o.temperature) for d in o.digits]
  lacks += [((o.curve,), t) for t in (*o.temperatures, None)]  # None: labels, the control
  lacks += [(rest, t) for t in (o.temperature, None)]
  return [
    Student(o.hidden, o.alpha, t, without) if t else Student(o.hidden, without=without)
    for without, t in dict.fromkeys(lacks)
  ]


def student_config(m, student):
  config = m.teacher.to_dict() | m.student.to_dict()
  config['model']['hidden'] = [student.hidden] * 2
  config['epochs'] *= m.longer.get(f'h{student.hidden}', 1)
  kept = 10 - len(student.without)
  if kept < 9:  # as many updates as where one digit lacks
    config['epochs'] *= 9 / kept
  return config


def check_student(config, student, workdir):
  classifier.check(config, workdir)
  left = int((~np.isin(classifier.task(config).train.labels, student.without)).sum())
  if left < config['batch_size']:
    raise ValueError(f'{student.name} has {left} training images, fewer than a batch of '
                     f'{config["batch_size"]}: leave out fewer digits, or take smaller batches.')


def train_teacher(config, context):
  t = classifier.task(config)
  result = classifier.train(config, 0, context.directory)
  return result | keep_logits(t, context.directory, also_train=True)


def train_student(config, student, seed, context):
  t = classifier.task(config)
  split, objective = t.train, None
  if student.alpha:
    told = np.load(context.directories[TEACHER] / LOGITS)['train']
    split = with_logits(split, told)
    objective = distilled(t.model.apply, cached(), student.alpha, student.temperature)
  t = t._replace(train=take(split, np.flatnonzero(~np.isin(split.labels, student.without))))
  result = classifier.train(config, seed, context.directory, t, objective)
  return result | keep_logits(t, context.directory)


def keep_logits(t, directory, also_train=False):
  """What a finished network says of every image that the report looks at."""
  weights = classifier.load_weights(directory)
  splits = {'test': t.test, 'validation': t.validation} | ({'train': t.train} if also_train else {})
  logits = {
    k: predict(t.model, *weights, split.images) for k, split in splits.items() if len(split)
  }
  np.savez(directory / LOGITS, **logits)
  return {'examples': {k: len(x) for k, x in logits.items()}}


def plan_student(config, student):
  labels, plan = classifier.task(config).train.labels, classifier.plan(config)
  return plan | {'work': plan['work'] * float((~np.isin(labels, student.without)).mean())}


def cifar_stages(p):
  """Networks that teach each other; every arm is one training, some are teachers of later ones."""
  check_cifar(p)
  out = []
  for arm, seed in cifar_cells(p):
    config, above, options = arm_config(p, arm), teacher_config(p, arm), arm_options(p, arm)
    teachers = [f'{name}-{of}' for name, of in teachers_of(p, arm, seed)]
    out.append(Stage(
      f'{arm}-{seed}', functools.partial(train_arm, config, above, options, teachers, seed),
      {'train': config, 'arm': options, 'seed': seed}, needs=teachers,
      plan=functools.partial(arms.plan, config, above, options),
      check=functools.partial(check_arm, config, above, options),
    ))
  reads = {'required': list(p.required), 'resamples': p.resamples}
  for seed, arm in itertools.product(p.seeds, p.arms):
    needs = [f'{name}-{seed}' for name in beside(p, arm)]
    out.append(Stage(
      f'{arm}-{seed}-order', functools.partial(find_order, p, arm, seed), reads, needs
    ))
  return out


def check_cifar(p):
  check_seeds(p.seeds)
  check_number('cifar.shrink', p.shrink, 1, whole=True)
  check_number('cifar.resamples', p.resamples, 1, whole=True)
  check_numbers('cifar.required', list(p.required), above=0, most=1)
  check_numbers('cifar.members', list(p.members), 0, 2**32 - 1, whole=True)
  check_number('cifar.train.data.validation', p.train.data.validation, 1, whole=True)
  arms.check_arms(p.arms, p.arm, p.networks, 'cifar')


def cifar_cells(p):
  """Every (arm, seed), a teacher before its students; an ensemble teaches the students of all seeds
  and may have members of further ones."""
  cells = {}

  def visit(arm, seed):
    for teacher in teachers_of(p, arm, seed):
      visit(*teacher)
    cells[arm, seed] = True

  for seed, arm in itertools.product(p.seeds, p.arms):
    visit(arm, seed)
  return list(cells)


def teachers_of(p, arm, seed):
  """[(arm, seed)]: of the same seed, or all members of an ensemble."""
  a = p.arm[arm]
  return [(a.teacher, of) for of in (p.members if a.ensemble else (seed,))] if a.teacher else []


def arm_config(p, arm):
  """What an arm's network is trained with, apart from its objective."""
  change = p.arm[arm]
  config = {**p.train.to_dict(), 'model': p.networks[change.student].to_dict()}
  config['epochs'] *= change.epochs
  return config


def teacher_config(p, arm):
  return arm_config(p, p.arm[arm].teacher) if p.arm[arm].teacher else None


def arm_options(p, arm):
  features = {'hint': p.hint, 'attention': list(p.attention)}
  members = len(p.members) if p.arm[arm].ensemble else 1
  return {**p.arm[arm].to_dict(), 'features': features, 'shrink': p.shrink, 'members': members}


def check_arm(config, above, options, workdir):
  classifier.check(config, workdir)
  arms.check_arm(config, above, options)


def train_arm(config, above, options, teachers, seed, context):
  folders = [context.directories[name] for name in teachers]
  weights = [classifier.load_weights(folder) for folder in folders]
  t, objective, frozen = arms.taught(config, above, options, weights, opinion(folders))
  result = classifier.train(config, seed, context.directory, t, objective, frozen=frozen)
  return result | keep_logits(t, context.directory)


def opinion(folders):
  """What the teachers say together of the validation images; None without a teacher."""
  logits = [np.load(folder / LOGITS)['validation'] for folder in folders]
  return mixture(logits) if len(logits) > 1 else logits[0] if logits else None


def beside(p, arm):
  """The arms whose networks of one seed an arm's is seen beside, itself the first."""
  others = [*order.partners(arm, p), order.teacher_of(arm, p)]
  return list(dict.fromkeys([arm, *(other for other in others if other in p.arms)]))


def find_order(p, arm, seed, context):
  """How well a network knows its mistakes, and what it has of this from its teacher."""
  return order.find(arm, {name: cifar_run(p, name, seed, context) for name in beside(p, arm)}, p)


def cifar_run(p, arm, seed, context):
  return load_run(context, f'{arm}-{seed}', arms.task(arm_config(p, arm), p.shrink))


def write_report(c, context):
  report = Report('Knowledge distillation', context.directory, (
    'A student learns from (1 - alpha) CE + alpha T^2 KL(teacher at T || student at T), averaged '
    'over the batch. Values are means over seeds ± one standard deviation, of the last epoch; the '
    'best epoch on the test set, which much of the literature reports, is shown beside it and is '
    'biased upwards.'
  ))
  if 'mnist' in c.parts:
    mnist_report(report, c.mnist, context)
  if 'cifar' in c.parts:
    cifar_report(report, c.cifar, context)
  report.write()
  return {'rows': len(report.results)}


def mnist_report(report, m, context):
  t, runs = classifier.task(m.teacher.to_dict()), {}
  for student, seed in mnist_cells(m):
    runs.setdefault(student, []).append(load_run(context, f'{student.name}-{seed}', t))
  sizes = {s.hidden: classifier.plan(student_config(m, s)) for s in runs if not s.without}
  sizes[None] = classifier.plan(m.teacher.to_dict())
  digits.write(report, load_run(context, TEACHER, t), runs, sizes, m)


def cifar_report(report, p, context):
  runs = {arm: [cifar_run(p, arm, seed, context) for seed in p.seeds] for arm in p.arms}
  sizes = {arm: arms.plan(arm_config(p, arm), None, arm_options(p, arm)) for arm in p.arms}
  names = arms.task(arm_config(p, p.arms[0]), p.shrink).dataset.label_names
  found = {arm: [context.results[f'{arm}-{seed}-order'] for seed in p.seeds] for arm in p.arms}
  roles.write(report, runs, sizes, names, p)
  order.write(report, order.gather(found), runs, p)


if __name__ == '__main__':
  app.run(stages, default_config='configs/distillation.py')
