"""Adversarial training and what it withstands. See configs/adversarial_training.py.

Every arm is the same training with another adversary in the step's transform or objective (and,
with AWP or SAM, another link in its optax chain); every network meets FGSM, PGD and AutoAttack, and
the images that PGD makes with another network.
"""

import functools

import numpy as np

from jaxdl import app
from jaxdl.attacks.battery import NORMS, radius
from jaxdl.options import check_name, check_names, check_number, check_seeds
from jaxdl.robustness import attacked
from jaxdl.robustness import training_report as tell
from jaxdl.robustness.training_claims import claims, masking_claims, overfitting_claims
from jaxdl.train import classifier
from jaxdl.train.adversary import cost
from jaxdl.train.cells import training_stages
from jaxdl.train.metrics import read_metrics
from jaxdl.train.stages import Stage
from jaxdl.viz.curves import learning_curves
from jaxdl.viz.report import Report


def stages(c):
  check_seeds(c.seeds)
  check_names('arms', c.arms, c.arm)
  check_name('surrogate', c.surrogate, c.arms)
  options = {**c.evaluation.to_dict(), 'norm': c.norm, 'eps': c.eps}
  cells = [(arm, seed) for seed in c.seeds for arm in c.arms]
  trained = training_stages(
    [(f'{arm}-{seed}', arm_config(c, arm), seed) for arm, seed in cells], c.seed_axis,
    lambda config: 2 if config['optimizer']['perturbation'] else 1,
  )
  out = [stage for stages in trained for stage in stages]
  for arm, seed in cells:
    name, config = f'{arm}-{seed}', arm_config(c, arm)
    out.append(Stage(
      f'{name}-attacks', functools.partial(attack, config, options, name), {'attacks': options},
      needs=[name], check=lambda workdir: attacked.check_evaluation(options),
    ))
    if arm != c.surrogate:
      other = f'{c.surrogate}-{seed}'
      out.append(Stage(
        f'{name}-transfer', functools.partial(transfer, config, options, name, other),
        {'attacks': options, 'surrogate': c.surrogate}, needs=[name, other],
      ))
  report = functools.partial(write_report, c)
  return [*out, Stage('report', report, {}, needs=[s.name for s in out], always=True)]


def arm_config(c, arm):
  """The training configuration of one arm."""
  config, change = c.train.to_dict(), c.arm[arm].to_dict()
  check_number(f'arm.{arm}.epochs', change['epochs'], above=0)
  config['epochs'] *= change['epochs']
  config['adversary'] = change['adversary'] and {**change['adversary'], 'probe': c.probe}
  config['optimizer'] |= {'perturbation': change['perturbation'], 'ema': change['ema']}
  return config


def attack(config, options, name, context):
  """Accuracy under every attack, and images for the report."""
  t, weights = classifier.task(config), classifier.load_weights(context.directories[name])
  np.savez(context.directory / 'shown.npz', **attacked.pictures(t, weights, options))
  return attacked.withstands(t, weights, options, context.directory / 'autoattack')


def transfer(config, options, name, other, context):
  """Accuracy on the images that PGD makes with another network."""
  victim, surrogate = (classifier.load_weights(context.directories[n]) for n in (name, other))
  t = classifier.task(config)
  return {'transfer': attacked.withstands_transfer(t, victim, surrogate, options)}


def write_report(c, context):
  seen = lambda arm, kind: [context.results.get(f'{arm}-{s}-{kind}') for s in c.seeds]
  runs = {arm: seen(arm, 'attacks') for arm in c.arms}
  moved = {arm: [x and x['transfer'] for x in seen(arm, 'transfer')] for arm in c.arms}
  logs = {
    arm: [read_metrics(context.directories[f'{arm}-{s}'] / 'metrics.jsonl') for s in c.seeds]
    for arm in c.arms
  }
  probed = [arm for arm in c.arms if c.arm[arm].adversary] if c.probe else []
  t = classifier.task(c.train.to_dict())
  e, images = c.evaluation, min(c.evaluation.images, len(t.test))

  report = Report('Adversarial training', context.directory, introduction(c, t))
  published = c.train.data.name == 'cifar10' and c.norm == 'linf'
  rows = tell.result_rows(runs, moved, published)
  report.rows(rows)
  report.section('Accuracy under attack')
  tell.accuracy_tables(report, rows, runs, {arm: gradients(c, arm) for arm in c.arms}, c.surrogate)
  report.section('Claims')
  said = [*claims(runs, images, min(e.autoattack, images)), *masking_claims(runs, moved, images)]
  said += overfitting_claims(
    {arm: logs[arm] for arm in probed}, {arm: tell.ball_of(c.arm[arm].adversary) for arm in probed},
    c.fragile,
  )
  for arm, seeds in runs.items():
    for warning in dict.fromkeys(w for run in seeds for w in run['warnings']):
      said.append(f'{arm}: AutoAttack warns: {warning}')
  report.text('\n'.join(f'- {line}' for line in said))
  report.section('Radius')
  report.figure(
    tell.radii(runs, e.epsilons, c.norm), 'radii',
    f'Accuracy under PGD of {e.steps} steps against the radius: where no gradient is hidden, all '
    'fall to zero.',
  )
  report.section('Training')
  report.figure(
    learning_curves(logs, ['train/loss', 'train/accuracy', 'test/accuracy']), 'curves',
    'Loss and accuracy on the batches trained on (attacked, but for standard and trades, whose '
    'accuracy is that on clean images), and clean test accuracy.',
  )
  if probed:
    report.figure(
      tell.overfitting(logs, probed), 'overfitting',
      f'{c.probe} training images under FGSM and under PGD-10 while training: catastrophic '
      'overfitting shows as the second falling to zero while the first rises.',
    )
  report.section('What the gradients look like')
  shown = {
    arm: np.load(context.directories[f'{arm}-{c.seeds[0]}-attacks'] / 'shown.npz') for arm in c.arms
  }
  report.figure(tell.picture_rows(shown, 'gradient'), 'gradients',
                'The gradient of the loss with respect to the image (scaled to its 99th '
                'percentile; gray is zero), first seed.')
  report.figure(tell.picture_rows(shown, 'far'), 'far',
                'Images moved far towards the next class in the list of '
                f'{", ".join(t.dataset.label_names)}, first seed.')
  report.write()
  return {'rows': len(rows)}


def introduction(c, t):
  e, (height, width, _) = c.evaluation, t.dataset.image_shape
  part = f'{c.train.data.per_class} images a class' if c.train.data.per_class else 'all images'
  return (
    f'{c.train.model.name} on {c.train.data.name}, {height} x {width} pixels: {part}, '
    f'{c.train.epochs:g} epochs, batch {c.train.batch_size}; seeds {list(c.seeds)}. '
    f'{NORMS[c.norm]} ball of {radius(c.eps)}; PGD of {e.steps} steps of {radius(e.alpha)} with '
    f'{e.restarts} random start, on the first {e.images} test images; AutoAttack on the first '
    f'{e.autoattack} (Square with {e.queries} queries). Weights of the last step, or their average '
    'where one is kept.'
  )


def gradients(c, arm):
  adversary = c.arm[arm].adversary
  return cost(adversary and adversary.to_dict(), 2 if c.arm[arm].perturbation else 1)


if __name__ == '__main__':
  app.run(stages, default_config='configs/adversarial_training.py')
