"""A network as its own teacher: by its deepest section, by itself trained before, by none at all.

Every arm is the same network, data and schedule with another objective; the arms of Be Your Own
Teacher train exits beside it. See configs/self_distillation.py for the papers and the commands.
"""

import functools
import inspect

import numpy as np
import scipy.special

from jaxdl import app
from jaxdl.distillation import own_teacher
from jaxdl.distillation.arms import task
from jaxdl.losses.classification import cross_entropy
from jaxdl.losses.distillation import distillation, teacher_free, virtual_teacher
from jaxdl.objectives import distilled, self_distilled, supervised
from jaxdl.objectives.distilled import changed, network, permute_others
from jaxdl.options import (
  check_flags,
  check_keys,
  check_name,
  check_names,
  check_number,
  check_numbers,
  check_seeds,
)
from jaxdl.train import classifier, early_exit
from jaxdl.train.evaluate import predict
from jaxdl.train.metrics import read_metrics
from jaxdl.train.stages import Stage
from jaxdl.viz.calibration import calibration, nll
from jaxdl.viz.early_exits import Heads
from jaxdl.viz.report import Report


def from_labels(apply, teacher, smoothing=0.0):
  check_number('smoothing', smoothing, 0, 1)
  return supervised(apply, functools.partial(cross_entropy, smoothing=smoothing))


def from_network(apply, teacher, alpha=0.95, temperature=6.0, weight=0.5, shuffled=False):
  """Tf-KD_self. Shuffled: how sure the teacher is, but not which classes it finds alike."""
  check_number('weight', weight, 0)
  check_flags('a teacher', {'shuffled': shuffled}, 'shuffled')
  told = changed(network(teacher), permute_others) if shuffled else network(teacher)
  soft = lambda student, teacher, labels, T: weight * distillation(student, teacher, T)
  return distilled(apply, told, alpha, temperature, soft)


def from_virtual(apply, teacher, alpha=0.1, temperature=20.0, correct=0.99, weight=1.0):
  """Tf-KD_reg."""
  check_number('alpha', alpha, 0, 1)
  check_number('temperature', temperature, above=0)
  check_number('correct', correct, above=0, below=1)
  check_number('weight', weight, 0)

  def loss(logits, labels):
    regulariser = teacher_free(logits, labels, temperature, correct)
    return (1 - alpha) * cross_entropy(logits, labels) + alpha * weight * regulariser

  return supervised(apply, loss)


def from_sections(apply, teacher, alpha=0.3, temperature=3.0, feature=0.0, rescale=False):
  return self_distilled(apply, alpha, temperature, feature, rescale)


METHODS = {
  'labels': from_labels, 'network': from_network, 'virtual': from_virtual, 'sections': from_sections
}


def stages(c):
  check_seeds(c.seeds)
  check_names('arms', c.arms, c.arm)
  check_number('shrink', c.shrink, 1, whole=True)
  check_number('bins', c.bins, 1, whole=True)
  check_number('targets', c.targets, 1, whole=True)
  check_numbers('thresholds', list(c.thresholds), 0)
  for arm in c.arms:
    check_arm(c, arm)
  cells, out = [(arm, seed) for seed in c.seeds for arm in c.arms], []
  for arm, seed in cells:
    config, method = arm_config(c, arm), c.arm[arm].to_dict()
    out.append(Stage(
      f'{arm}-{seed}',
      functools.partial(train, config, method, c.shrink, seed),
      {'train': config, 'arm': method, 'shrink': c.shrink, 'seed': seed},
      needs=[f'{method["teacher"]}-{seed}'] if method['teacher'] else [],
      plan=functools.partial(plan, config, method, c.shrink),
      check=functools.partial(check_cell, config, method, c.shrink),
    ))
  for arm, seed in cells:
    config, method = arm_config(c, arm), c.arm[arm].to_dict()
    needs = [f'{name}-{seed}' for name in (arm, method['teacher']) if name]
    out.append(Stage(
      f'{arm}-{seed}-analysis',
      functools.partial(analyse, config, method, c.shrink, needs, c.bins, c.targets),
      {'bins': c.bins, 'targets': c.targets}, needs=needs,
    ))
  report = functools.partial(write_report, c)
  return [*out, Stage('report', report, {}, needs=[s.name for s in out], always=True)]


def check_arm(c, arm):
  """Refuses an arm whose loss or whose teacher cannot be."""
  method, options, teacher = (c.arm[arm][k] for k in ('method', 'options', 'teacher'))
  check_name(f'method of the arm {arm}', method, METHODS)
  known = list(inspect.signature(METHODS[method]).parameters)[2:]
  check_keys(f'arm.{arm}.options', options, known)
  METHODS[method](None, None, **options)
  if (method == 'network') != bool(teacher):
    raise ValueError(f'The arm {arm} has the method {method!r} and the teacher {teacher!r}: the '
                     "method 'network', and no other, has a teacher, the name of an arm.")
  if teacher and teacher not in c.arms[: c.arms.index(arm)]:
    raise ValueError(f'The arm {arm} learns from {teacher!r}, which must be one of the arms before '
                     'it: add it to arms.')


def arm_config(c, arm):
  config = c.train.to_dict()
  config['model']['exits'] = c.arm[arm].method == 'sections'
  return config


def check_cell(config, method, shrink, workdir):
  classifier.check(config, workdir)
  plan(config, method, shrink)  # makes the network on shapes: exits need sections


def plan(config, method, shrink):
  """A teacher's forward pass counts too: a third of what its student's gradient takes."""
  t = task(config, shrink)
  images = t.steps(config['epochs'], config['batch_size']) * config['batch_size']
  return classifier.cost(t.model, t.dataset.image_shape, (4 if method['teacher'] else 3) * images)


def train(config, method, shrink, seed, context):
  t, teacher = task(config, shrink), method['teacher']
  # The teacher is the same network: one function serves both.
  objective = METHODS[method['method']](t.model.apply, t.model.apply, **method['options'])
  frozen = None
  if teacher:
    frozen = {'teacher': classifier.load_weights(context.directories[f'{teacher}-{seed}'])}
  return classifier.train(config, seed, context.directory, t, objective, frozen=frozen)


def analyse(config, method, shrink, names, bins, targets, context):
  """Numbers of the deepest head on test images and of the soft targets; what every head says."""
  t = task(config, shrink)
  *taught, own = [classifier.load_weights(context.directories[n]) for n in reversed(names)]
  logits = early_exit.head_logits(t.model, *own, t.test.images).astype(np.float64)
  labels, heads = t.test.labels, scipy.special.softmax(logits, -1)
  p, correct = heads[-1], heads.argmax(-1) == labels
  found = calibration(p, labels, bins)
  np.savez(
    context.directory / 'test.npz', confidence=heads.max(-1), correct=correct,
    ensemble=logits.mean(0).argmax(-1) == labels, bins=[found.confidence, found.accuracy],
    of_class=[p[labels == k].mean(0) for k in np.unique(labels)],
  )
  images, known = t.train.images[:targets], t.train.labels[:targets]
  soft = soft_targets(predict(t.model, *(taught or [own])[0], images), known, **method)
  return {
    'ece': found.ece,
    'nll': nll(p, labels),
    'entropy': float(scipy.special.entr(p).sum(-1).mean()),
    'target entropy': float(scipy.special.entr(soft).sum(-1).mean()),
    'target at label': float(soft[np.arange(len(soft)), known].mean()),
    'costs': early_exit.costs(t.module, t.dataset.image_shape)._asdict(),
  }


def soft_targets(logits, labels, method, options, teacher):
  """What an arm learns beside the label, [N, K]; `logits` are the teacher's, or its own."""
  classes = logits.shape[-1]
  if method == 'labels':
    smoothing = options['smoothing']
    return (1 - smoothing) * np.eye(classes)[labels] + smoothing / classes
  if method == 'virtual':
    logits = virtual_teacher(labels, classes, options['correct'])
  return scipy.special.softmax(np.float64(logits) / options['temperature'], -1)


def write_report(c, context):
  data = c.train.data
  part = f'{data.per_class} images a class' if data.per_class else 'all images'
  smaller = f', made {c.shrink} times smaller' if c.shrink > 1 else ''
  report = Report(
    'Self-distillation', context.directory,
    f'{c.train.model.name} on {data.name}: {part}{smaller}, {c.train.epochs:g} epochs for every '
    f'arm, batch {c.train.batch_size}; seeds {list(c.seeds)}. Values are means over seeds ± one '
    'standard deviation, of the deepest head where nothing else is said.',
  )
  runs = {arm: [outcome(context, f'{arm}-{seed}') for seed in c.seeds] for arm in c.arms}
  own_teacher.write(report, runs, c)
  report.write()
  return {'rows': len(report.results)}


def outcome(context, name):
  """Everything known of one trained network."""
  analysis = context.results[f'{name}-analysis']
  arrays = dict(np.load(context.directories[f'{name}-analysis'] / 'test.npz'))
  heads = Heads(*(arrays[k] for k in ('confidence', 'correct', 'ensemble')),
                early_exit.Costs(**analysis['costs']))
  log = read_metrics(context.directories[name])
  return {**context.results[name], **analysis, 'arrays': arrays, 'heads': heads, 'log': log}


if __name__ == '__main__':
  app.run(stages, default_config='configs/self_distillation.py')
