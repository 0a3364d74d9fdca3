"""Image synthesis with a single classifier, robust or not.

Every task is normalised descent on a loss of the image; only the seed, the loss and the projection
differ. Each network does all of them, and a standard network that gave no gradient is the judge.
See configs/robust_synthesis.py for the paper, the claim, the variants and the commands.
"""

import functools

import jax

from jaxdl import app
from jaxdl.ood import subset
from jaxdl.options import check_names, check_number
from jaxdl.synthesis import figures
from jaxdl.synthesis.check import check_pairs, check_tasks
from jaxdl.synthesis.claims import claims
from jaxdl.synthesis.opinions import Network
from jaxdl.synthesis.seeds import cross, draw_seeds
from jaxdl.synthesis.tasks import TASKS, Bench, between_two
from jaxdl.train import classifier
from jaxdl.train.cells import training_stages
from jaxdl.train.metrics import read_metrics
from jaxdl.train.stages import Stage
from jaxdl.viz.curves import learning_curves, lines
from jaxdl.viz.report import Report, paper_table, result_row

ENGSTROM = 'Engstrom et al. 2019 (robustness library): ResNet-50, 20 PGD steps'
PAPER = {  # training eps -> test eps -> accuracy (%)
  0.0: {0.0: 95.25, 0.25: 8.66, 0.5: 0.28, 1.0: 0.0, 2.0: 0.0},
  0.25: {0.0: 92.77, 0.25: 81.21, 0.5: 62.30, 1.0: 21.18, 2.0: 0.58},
  0.5: {0.0: 90.83, 0.25: 82.34, 0.5: 70.17, 1.0: 40.47, 2.0: 5.23},
  1.0: {0.0: 81.62, 0.25: 75.53, 0.5: 68.63, 1.0: 52.72, 2.0: 18.59},
}


def stages(c):
  check_names('arms', c.arms, c.eps)
  check_names('binary.arms', c.binary.arms, c.eps)
  cells = [(arm, arm_config(c, arm), c.seed) for arm in c.arms]
  cells.append(('judge', judge_config(c), c.seed + 1))
  out = [stage for group in training_stages(cells) for stage in group]
  test = {'data': judge_config(c)['data'], 'seed': c.seed}
  out.append(Stage(
    'seeds', functools.partial(seeds, c), {'generation': c.generation.to_dict(), **test},
    needs=['judge'], check=functools.partial(check, c),
  ))
  # All networks of a task before the next task: they share its compiled programs.
  for task in TASKS:
    options = c[task].to_dict()
    for arm in c.arms:
      out.append(Stage(
        f'{arm}-{task}', functools.partial(synthesise, c, arm, task), {task: options, **test},
        needs=[arm, 'judge', *(['seeds'] if task == 'generation' else [])],
      ))
  for pair, arm in binary(c):
    name, config = f'{arm}-{"-".join(pair)}', arm_config(c, arm)
    out.append(Stage(
      name, functools.partial(train_pair, config, pair, c.seed),
      {'train': config, 'pair': list(pair), 'seed': c.seed},
      plan=functools.partial(plan_pair, config, pair),
    ))
    out.append(Stage(
      f'{name}-translation', functools.partial(translate, c, arm, pair),
      {'translation': c.translation.to_dict(), **test}, needs=[name, 'judge'],
    ))
  made = [f'{arm}-generation' for arm in c.arms]
  out.append(Stage('cross', functools.partial(look_across, c), {'seed': c.seed},
                   needs=[*c.arms, 'judge', 'seeds', *made]))
  report = functools.partial(write_report, c)
  return [*out, Stage('report', report, {}, needs=[stage.name for stage in out], always=True)]


def arm_config(c, arm):
  """The training configuration of one network: with an adversary, unless its eps is 0."""
  config, eps = c.train.to_dict(), c.eps[arm]
  check_number(f'eps.{arm}', eps, 0)
  return config | {'adversary': {**c.adversary.to_dict(), 'eps': eps} if eps else None}


def judge_config(c):
  """The training configuration of the judge: a standard network of its own."""
  config = c.train.to_dict() | {'model': c.judge.model.to_dict(), 'epochs': c.judge.epochs}
  config['data']['per_class'] = c.judge.per_class
  return config


def check(c, workdir):
  t = classifier.task(c.train.to_dict())
  check_tasks({task: c[task].to_dict() for task in TASKS}, t)
  check_pairs('binary.pairs', c.binary.pairs, t.dataset.label_names)


def network(config, directory):
  return Network(classifier.task(config).model, *classifier.load_weights(directory))


def ignoring_last_relu(config):
  """The network's functions with a last ReLU that passes every gradient, so that also units that
  are off can be woken (the authors' `fake_relu`)."""
  return classifier.task(config | {'model': {**config['model'], 'fake_relu': True}}).model


def seeds(c, context):
  """What every network starts from, and what the judge sees in it."""
  config = judge_config(c)
  t, judge = classifier.task(config), network(config, context.directories['judge'])
  return draw_seeds(c.generation, judge, t.train, t.test, t.dataset.num_classes,
                    jax.random.key(c.seed), context.directory)


def synthesise(c, arm, task, context):
  """One task of one network."""
  config, judging = arm_config(c, arm), judge_config(c)
  t, own = classifier.task(judging), network(config, context.directories[arm])
  bench = Bench(
    network=own,
    fake=own._replace(model=ignoring_last_relu(config)) if c[task].get('fake_relu') else None,
    judge=network(judging, context.directories['judge']),
    test=t.test, names=t.dataset.label_names, key=jax.random.key(c.seed),
    folder=context.directory, seeds=context.directories.get('seeds'),
  )
  return TASKS[task](c[task].to_dict(), bench)


def binary(c):
  return [(tuple(pair), arm) for pair in c.binary.pairs for arm in c.binary.arms]


def indices(config, pair):
  """The two classes as labels of the whole set."""
  return [classifier.task(config).dataset.label_names.index(name) for name in pair]


def plan_pair(config, pair):
  """What `train_pair` costs: the share of the two classes."""
  of_all, t = classifier.plan(config), subset.subset_task(config, indices(config, pair))
  share = len(t.train) / len(classifier.task(config).train)
  return of_all | {'work': share * of_all['work']}


def train_pair(config, pair, seed, context):
  """A classifier of two classes only."""
  t = subset.subset_task(config, indices(config, pair))
  return classifier.train(config, seed, context.directory, t)


def translate(c, arm, pair, context):
  """Both ways between two classes, by their own classifier."""
  config, judging = arm_config(c, arm), judge_config(c)
  t, classes = classifier.task(judging), indices(config, pair)
  weights = classifier.load_weights(context.directories[f'{arm}-{"-".join(pair)}'])
  bench = Bench(
    network=Network(subset.subset_task(config, classes).model, *weights), fake=None,
    judge=network(judging, context.directories['judge']), test=t.test, names=t.dataset.label_names,
    key=jax.random.key(c.seed), folder=context.directory,
  )
  return between_two(c.translation.to_dict(), bench, classes)


def look_across(c, context):
  """What every network sees in the images of the others."""
  configs = {arm: arm_config(c, arm) for arm in c.arms} | {'judge': judge_config(c)}
  networks = {name: network(config, context.directories[name]) for name, config in configs.items()}
  made = {arm: context.directories[f'{arm}-generation'] for arm in c.arms}
  return cross(networks, made, context.directories['seeds'])


def write_report(c, context):
  t = classifier.task(c.train.to_dict())
  results = {task: {arm: context.results[f'{arm}-{task}'] for arm in c.arms} for task in TASKS}
  results['binary'] = {
    (pair, arm): context.results[f'{arm}-{"-".join(pair)}-translation'] for pair, arm in binary(c)
  }
  report = Report(
    'Image synthesis with a single classifier', context.directory,
    f'{c.train.model.name} on {c.train.data.name}, '
    f'{c.train.data.per_class or "all"} training images a class, {c.train.epochs:g} epochs, seed '
    f'{c.seed}; L2 adversaries of {c.adversary.steps} steps. The judge, {c.judge.model.name}, is a '
    'standard network that gave no gradient. Agreement is the share of images that a network takes '
    'for the class that was aimed at.',
  )
  report.section('Answers')
  report.text('\n'.join(f'- {line}' for line in claims(c, context.results, results)))
  show_networks(report, c, context, results['robustness'])
  figures.show(report, c, context, results, t.dataset.label_names)
  report.write()
  return {'rows': len(report.results)}


def show_networks(report, c, context, results):
  report.section('The networks')
  radii = list(c.robustness.eps)
  paper = lambda arm, eps: PAPER.get(c.eps[arm], {}).get(eps) if (
    c.train.data.name == 'cifar10') else None
  rows = [
    result_row(arm, f'accuracy (%) at eps {eps:g}', value, paper=paper(arm, eps),
               source=ENGSTROM if paper(arm, eps) is not None else None)
    for arm in c.arms for eps, value in zip(radii, results[arm], strict=True)
  ]
  judge = context.results['judge']['test']['accuracy']
  report.rows([*rows, result_row('judge', 'test accuracy (%)', 100 * judge)])
  report.table(
    ['trained at', *(f'eps {eps:g}' for eps in radii)],
    [[f'{arm} (eps {c.eps[arm]:g})', *results[arm]] for arm in c.arms],
    f'Accuracy (%) on {min(c.robustness.images, c.train.data.test or c.robustness.images):,} test '
    f'images under {c.robustness.steps} L2 PGD steps. The judge: {100 * judge:.2f} % of the test '
    'images.', '.2f',
  )
  if any(row['paper'] is not None for row in rows):
    report.table(*paper_table([r for r in rows if r['paper'] is not None]),
                 'Another network and another budget: compare the order.')
  report.figure(
    lines(radii, {arm: (results[arm], None) for arm in c.arms}, 'eps (L2, pixel units)',
          'accuracy (%)', paper={arm: (list(PAPER[c.eps[arm]]), list(PAPER[c.eps[arm]].values()))
                                 for arm in c.arms if paper(arm, 0.0) is not None}),
    'robustness', 'Accuracy under attack, and the published one of ResNet-50.',
  )
  logs = {arm: read_metrics(context.directories[arm] / 'metrics.jsonl')
          for arm in [*c.arms, 'judge']}
  report.figure(
    learning_curves(logs, ['train/loss', 'train/accuracy', 'test/accuracy']), 'curves',
    'Training: loss and accuracy on the (attacked) training batches, clean test accuracy.',
  )


if __name__ == '__main__':
  app.run(stages, default_config='configs/robust_synthesis.py')
