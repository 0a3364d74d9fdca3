"""The robustness of a trained classifier: attacks from weak to strong, and signs of masking.

Each victim meets noise, FGSM and PGD, the attacks that look for the closest mistake, and
AutoAttack; then the checklist of Carlini et al. 2019 says whether to believe the numbers. See
configs/robust_eval.py for the papers, the variants and the commands, and `jaxdl.robustness` for how
a network is examined.
"""

import functools
import pathlib
from typing import NamedTuple

import numpy as np

from jaxdl import app
from jaxdl.attacks import ball
from jaxdl.attacks.autoattack import VERSIONS, autoattack, summary
from jaxdl.attacks.battery import NORMS, radius
from jaxdl.data.pipeline import unit_range
from jaxdl.options import check_name, check_number, check_numbers
from jaxdl.robustness import examination_report as told
from jaxdl.robustness.examined import Network, attacked_one_by_one, closest_mistakes
from jaxdl.train import classifier
from jaxdl.train.cells import training_stages
from jaxdl.train.evaluate import predict
from jaxdl.train.given import trained
from jaxdl.train.metrics import read_metrics
from jaxdl.train.stages import Stage, write_json
from jaxdl.viz.curves import learning_curves
from jaxdl.viz.report import Report

SURVIVES = 'survives.npy'  # bool [N]: which test images PGD, or AutoAttack, left right


class Victim(NamedTuple):
  """A classifier under examination.

  Attributes:
    name: of its stages.
    label: in the report.
    config: of its training.
    read: what its results depend on, for the fingerprint.
    folder: of its checkpoint; None for a stage of this study, which has its name.
  """

  name: str
  label: str
  config: dict
  read: dict
  folder: pathlib.Path | None = None


def stages(c):
  check_options(c)
  victims, out = find_victims(c), []
  if not c.checkpoint:
    cells = [(v.name, v.config, c.seed) for v in victims]
    out += [stage for group in training_stages(cells) for stage in group]
  options = {'norm': c.norm, 'eps': c.eps, 'seed': c.seed}
  for victim in victims:
    needs = [] if victim.folder else [victim.name]
    for name, run, settings, others in (
      ('attacks', attack_one_by_one, c.attacks, True),
      ('distances', measure_distances, c.distances, False),
      ('autoattack', run_autoattack, c.autoattack, False),
    ):
      read = {'victim': victim.read, name: settings.to_dict(), **options}
      sources = [v for v in victims if v is not victim] if others else []
      read |= {'sources': [v.read for v in sources]} if others else {}
      out.append(Stage(
        f'{victim.name}-{name}', functools.partial(run, read, victim, sources), read,
        needs=needs + [v.name for v in sources if not v.folder],
        check=functools.partial(check_victims, [victim, *sources]),
      ))
  report = functools.partial(write_report, c, victims)
  return [*out, Stage('report', report, {}, needs=[s.name for s in out], always=True)]


def check_options(c):
  ball(c.norm, c.eps)
  check_number('eps', c.eps, above=0)
  check_number('attacks.alpha', c.attacks.alpha, above=0)
  check_numbers('attacks.epsilons', list(c.attacks.epsilons), 0)
  check_numbers('attacks.counts', list(c.attacks.counts), 1, whole=True)
  check_name('autoattack.version', c.autoattack.version, VERSIONS)
  counts = {'attacks': ('images', 'steps', 'restarts', 'shown'), 'distances': c.distances,
            'autoattack': ('images', 'batch', 'steps', 'queries')}
  for part, names in counts.items():
    for name in names:
      check_number(f'{part}.{name}', c[part][name], 1, whole=True)
  if c.against and not c.checkpoint:
    raise ValueError('against is given without checkpoint: name the classifier to examine there.')


def find_victims(c):
  """The classifiers given, or the two that this study trains."""
  if c.checkpoint:
    given = {'given': c.checkpoint, 'against': c.against}
    folders = {name: pathlib.Path(folder) for name, folder in given.items() if folder}
    own = {folder.name for folder in folders.values()}
    out = []
    for name, folder in folders.items():
      config, fingerprint = trained(folder)
      label = folder.name if len(own) == len(folders) else f'{folder.parent.name}/{folder.name}'
      read = {'train': config, 'fingerprint': fingerprint}
      out.append(Victim(name, label, config, read, folder))
    return out
  config = c.train.to_dict()
  networks = {'standard': None, 'robust': c.adversary.to_dict()}
  return [Victim(name, name, config | {'adversary': adversary}, {'name': name})
          for name, adversary in networks.items()]


def check_victims(victims, workdir):
  """Refuses classifiers of different images."""
  shapes = {}
  for v in victims:
    dataset = classifier.task(v.config).dataset
    shapes[v.name] = (*dataset.image_shape, dataset.num_classes)
  if len(set(shapes.values())) > 1:
    raise ValueError(
      f'checkpoint and against are classifiers of different images or classes: {shapes}; attacks '
      'cannot be transferred between them.'
    )


def load(victim, context):
  """(network, test images, labels, class names)."""
  t = classifier.task(victim.config)
  folder = victim.folder or context.directories[victim.name]
  network = Network(t.model, *classifier.load_weights(folder))
  return network, t.test.images, t.test.labels, t.dataset.label_names


def attack_one_by_one(read, victim, sources, context):
  """Accuracy under the attacks with gradients, under those made on other networks, and against the
  radius and the steps; all as fractions."""
  a = read['attacks']
  network, images, labels, classes = load(victim, context)
  images, labels = images[: a['images']], labels[: a['images']]
  others = {source.label: load(source, context)[0] for source in sources}
  accuracy, survives, adversarial = attacked_one_by_one(
    network, images, labels, a | {k: read[k] for k in ('norm', 'eps', 'seed')}, others
  )
  np.save(context.directory / SURVIVES, survives)
  before = predict(*network, images).argmax(-1)
  if len(chosen := np.flatnonzero(before == labels)[: a['shown']]):
    after = predict(*network, adversarial[chosen]).argmax(-1)
    said = [[classes[k] for k in ks] for ks in (before[chosen], after)]
    np.savez(context.directory / 'shown.npz', clean=np.asarray(unit_range(images[chosen])),
             adversarial=adversarial[chosen], said=np.array(said))
  return accuracy


def measure_distances(read, victim, sources, context):
  d = read['distances']
  network, images, labels, _ = load(victim, context)
  options = d | {'seed': read['seed']}
  return closest_mistakes(network, images[: d['images']], labels[: d['images']], options)


def run_autoattack(read, victim, sources, context):
  """An entry of a leaderboard."""
  a = read['autoattack']
  network, images, labels, _ = load(victim, context)
  evaluation = autoattack(
    *network, images[: a['images']], labels[: a['images']], read['eps'], read['norm'],
    a['version'], read['seed'], context.directory / 'chunks', a['batch'], steps=a['steps'],
    queries=a['queries'],
  )
  t = classifier.task(victim.config)
  entry = summary(evaluation, model=victim.config['model']['name'], dataset=t.dataset.name,
                  norm=read['norm'], eps=read['eps'])
  write_json(context.directory / 'result.json', entry)
  np.save(context.directory / SURVIVES, evaluation.robust)
  return entry


def on_the_same(name, context):
  """Accuracy of a victim under PGD and under AutoAttack on the images that met both."""
  left = [np.load(context.directories[f'{name}-{stage}'] / SURVIVES)
          for stage in ('attacks', 'autoattack')]
  return [float(x[: min(map(len, left))].mean()) for x in left]


def write_report(c, victims, context):
  result = lambda stage: {v.label: context.results[f'{v.name}-{stage}'] for v in victims}
  runs, entries, distances = (result(s) for s in ('attacks', 'autoattack', 'distances'))
  options = {**c.attacks.to_dict(), 'norm': c.norm, 'eps': c.eps,
             'version': c.autoattack.version, 'queries': c.autoattack.queries}
  rows = []
  for v in victims:
    rows += told.result_rows(v.label, options, runs[v.label], entries[v.label],
                             distances[v.label], as_published(c, v))
  a, n = c.attacks, entries[victims[0].label]['n']
  starts = f'{a.restarts} random starts' if a.restarts > 1 else 'a random start'
  report = Report(
    'How robust is it?', context.directory,
    f'{describe(victims)}. {NORMS[c.norm]} ball of {radius(c.eps)}. PGD of {a.steps} steps of '
    f'{radius(a.alpha)} with {starts}, on the first {a.images} test images; AutoAttack '
    f'({c.autoattack.version}, {c.autoattack.steps} steps, {c.autoattack.queries} queries) on the '
    f'first {n}.',
  )
  report.rows(rows)
  report.section('Accuracy under attack')
  told.accuracy_tables(report, rows, runs, entries, c.autoattack.version)
  report.section('The closest mistakes')
  report.table(
    ['network', 'attack', 'median distance', 'found (%)'],
    [[label, attack, d['median'], 100 * d['found']]
     for label, found in distances.items() for attack, d in found.items()],
    f'Of the first {c.distances.images} test images those that are right; distances in the norm '
    'named, in pixel units.',
  )
  report.section('Is it masking its gradients?')
  both = {v.label: on_the_same(v.name, context) for v in victims}
  told.masking(report, options, runs, both, entries)
  report.section('Radius and steps')
  told.curves(report, options, runs)
  report.section('Adversarial images')
  for number, v in enumerate(victims, 1):
    file = context.directories[f'{v.name}-attacks'] / 'shown.npz'
    if file.exists():  # else it was right about no image
      with np.load(file) as shown:
        told.pictures(report, number, v.label, shown)
  if not c.checkpoint:
    report.section('Training')
    logs = {v.name: [read_metrics(context.directories[v.name] / 'metrics.jsonl')] for v in victims}
    report.figure(learning_curves(logs, ['train/loss', 'train/accuracy', 'test/accuracy']),
                  'curves', 'Training loss and accuracy on the batches trained on, and clean test '
                  'accuracy.')
  report.write()
  return {'rows': len(rows)}


def as_published(c, victim):
  """Whether the network's data, training and ball are those of the published numbers."""
  adversary = victim.config.get('adversary') or {}
  return (c.norm == 'linf' and abs(c.eps - 8 / 255) < 1e-9
          and victim.config['data'].get('name') == 'cifar10' and adversary.get('name') == 'fgsm_rs')


def describe(victims):
  return '; '.join(
    f'{v.label}: {v.config["model"]["name"]} on {v.config["data"].get("name") or "a folder"}'
    + (f', trained against {v.config["adversary"]["name"]}' if v.config.get('adversary') else '')
    for v in victims
  )


if __name__ == '__main__':
  app.run(stages, default_config='configs/robust_eval.py')
