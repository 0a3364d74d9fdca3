"""Representations without labels: SimCLR, and two methods that need no negatives.

Every arm trains the same network on the same images; then it is frozen, and its features are
classified: by a line, by their neighbours, with all labels and with few. See configs/simclr.py for
the papers and the commands.
"""

import functools
import inspect
import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl import app
from jaxdl.augment import (
  colour_jitter,
  compose,
  grayscale,
  random_flip,
  random_resized_crop,
  simclr_augment,
  two_views,
)
from jaxdl.core import bind
from jaxdl.data import first
from jaxdl.data.pipeline import unit_range
from jaxdl.losses.contrastive import alignment, spread, uniformity
from jaxdl.models.projected import Projected, without_heads
from jaxdl.objectives.byol import byol, with_target
from jaxdl.objectives.simclr import simclr
from jaxdl.objectives.simsiam import simsiam
from jaxdl.options import (
  check_flags,
  check_keys,
  check_name,
  check_names,
  check_number,
  check_numbers,
  check_seeds,
)
from jaxdl.representation import (
  amount_name,
  check_amounts,
  choose,
  create_head,
  knn_accuracy,
  linear_probe,
  on_top,
  pretrained,
  tsne,
  with_steps,
)
from jaxdl.representation.views_report import write_views_report
from jaxdl.train import classifier
from jaxdl.train.evaluate import features
from jaxdl.train.stages import Stage

METHODS = {  # name -> (apply, steps, **options) -> Objective; None trains on labels, or not at all
  'simclr': lambda apply, steps, temperature=0.5, probe=1.0: simclr(apply, temperature, probe),
  'simsiam': lambda apply, steps, probe=1.0, stop=True: simsiam(apply, probe, stop),
  'byol': lambda apply, steps, decay=0.996, probe=1.0: byol(apply, steps, decay, probe),
  'supervised': None,
  'random': None,
}


def stages(c):
  check(c)
  out, cells = [], {}
  for seed in c.seeds:
    for name, recipe in recipes(c).items():
      cells[f'{name}-{seed}'] = recipe, seed
  for name, (recipe, seed) in cells.items():
    if trained(recipe):
      out.append(Stage(
        name, functools.partial(pretrain, recipe, seed, c.probe.to_dict()),
        {**recipe, 'seed': seed, 'knn': [c.probe.k, c.probe.temperature, c.probe.bank]},
        plan=functools.partial(plan, recipe), check=functools.partial(check_cell, c, recipe),
      ))
  for name, (recipe, seed) in cells.items():
    options = {'probe': c.probe.to_dict(), 'amounts': (), 'subsets': c.labels.subsets}
    if name.partition('-')[0] in c.arms:  # of the cells of the grid only the accuracy is asked for
      options |= {'amounts': c.labels.amounts, 'view': c.view.to_dict()}
    if seed != c.seeds[0] or 'view' not in options:
      options['probe']['tsne'] = 0
    out.append(Stage(
      f'{name}-analysis', functools.partial(analyse, recipe, seed, name, options),
      {**recipe, 'seed': seed, 'options': options}, needs=[name] if trained(recipe) else [],
    ))
  for name, (recipe, seed) in cells.items():
    if name.partition('-')[0] in c.linear.arms:
      out.append(on_labels(f'{name}-linear', c, recipe, seed, name, 'linear', 1.0))
  for seed, amount in itertools.product(c.seeds, c.labels.amounts):
    name = f'{c.labels.arm}-{seed}'
    recipe, number = cells[name][0], amount_name(amount).replace(' ', '_').replace('%', 'percent')
    out.append(on_labels(f'tune-{number}-{seed}', c, recipe, seed, name, 'tune', amount))
    out.append(on_labels(f'scratch-{number}-{seed}', c, recipe, seed, None, 'scratch', amount))
  report = functools.partial(write_report, c)
  return [*out, Stage('report', report, {}, needs=[s.name for s in out], always=True)]


def trained(recipe):
  return recipe['arm']['method'] != 'random'


def recipes(c):
  """Name -> everything a pre-training run depends on: the arms, then the cells of the grid."""
  out = {arm: recipe_of(c, arm) for arm in c.arms}
  if 'simclr' not in out:
    return out
  base = c.arm.simclr.to_dict()
  for cell in itertools.product(*grid_axes(c)):
    batch_size, epochs, lr, temperature = cell
    arm = {**base, 'options': {**base['options'], 'temperature': temperature}}
    recipe = recipe_of(c, 'simclr', arm, batch_size, epochs, lr)
    if recipe != out['simclr']:  # that one is there already
      out[grid_name(*cell)] = recipe
  return out


def grid_axes(c):
  return c.grid.batch_sizes, c.grid.epochs, c.grid.lrs, c.grid.temperatures


def grid_name(batch_size, epochs, lr, temperature):
  return f'B{batch_size}_E{epochs:g}_lr{lr:g}_tau{temperature:g}'


def recipe_of(c, name, arm=None, batch_size=None, epochs=None, lr=None):
  arm, config = arm or c.arm[name].to_dict(), c.train.to_dict()
  config['batch_size'] = batch_size or config['batch_size']
  config['epochs'] = epochs or config['epochs']
  config['optimizer'] = {**config['optimizer'], **arm['optimizer']} | ({'lr': lr} if lr else {})
  config['augment'] = c.augment.to_dict() if arm['method'] == 'supervised' else None
  schedule = config['optimizer']['schedule']
  config['optimizer'] = {
    **scaled(config['optimizer'], config['batch_size']),
    'schedule': {**schedule, 'warmup': c.warmup / config['epochs']},
  }
  every = {'evaluate': c.evaluate, 'checkpoint': c.checkpoint}
  view = {**c.view.to_dict(), **arm['view']}
  return {'train': config, 'arm': arm, 'view': view, 'every': every}


def scaled(optimizer, batch_size):
  """The learning rate is given for a batch of 256."""
  return {**optimizer, 'lr': optimizer['lr'] * batch_size / 256}


def task(recipe):
  """The data, and the network with what the arm adds to it."""
  return _task(*(json.dumps(recipe[k]) for k in ('train', 'arm')))


@functools.lru_cache(maxsize=32)
def _task(train, arm):
  t, arm = classifier.task(json.loads(train)), json.loads(arm)
  if METHODS[arm['method']] is None:
    return t
  mean, std = t.dataset.mean_std()
  heads = (tuple(arm[name]) for name in ('projection', 'predictor'))
  module = Projected(t.module, *heads, arm['last_norm'])
  model = bind(module, mean=mean, std=std)
  return t._replace(module=module, model=with_target(model) if arm['method'] == 'byol' else model)


def plain(recipe):
  """The task of the network alone."""
  return task({**recipe, 'arm': {**recipe['arm'], 'method': 'supervised'}})


def view_of(crop, colour, blur):
  """The augmentation of one view; without a crop `()`, or without colour distortion `0`."""
  if crop and colour:
    return simclr_augment(colour, tuple(crop), blur)
  links = [random_resized_crop(tuple(crop))] if crop else []
  change = 0.8 * colour
  distort = [colour_jitter(change, change, change, 0.2 * colour), grayscale()] if colour else []
  return compose(*links, random_flip(), *distort)


def pretrain(recipe, seed, knn, context):
  t, config, arm = task(recipe), dict(recipe['train']), recipe['arm']
  for name, epochs in recipe['every'].items():
    config[name] = t.steps(epochs, config['batch_size'])
  neighbours = {'knn': functools.partial(online_knn, t, knn)}
  method, objective, transform = METHODS[arm['method']], None, None
  if method:
    steps = t.steps(config['epochs'], config['batch_size'])
    objective, transform = method(t.model.apply, steps, **arm['options']), two_views(
      view_of(**recipe['view']))
  result = classifier.train(
    config, seed, context.directory, t, objective, transform=transform, evals=neighbours
  )
  return {'steps': result['steps'], 'online': result['test']['accuracy']}


def online_knn(t, knn, state):
  bank, (params, model_state) = first(t.train, knn['bank']), classifier.evaluation_weights(state)
  known, new = (
    features(t.model, params, model_state, s.images)['pooled'] for s in (bank, t.test)
  )
  accuracy = knn_accuracy(known, bank.labels, new, t.test.labels, knn['k'], knn['temperature'])
  return {'accuracy': accuracy}


def weights_of(recipe, seed, name, context):
  """Of an arm as it was trained; of a network that was not, its first ones."""
  if trained(recipe):
    return classifier.load_weights(context.directories[name])
  t = plain(recipe)
  return jax.jit(t.model.init)(jax.random.key(seed), jnp.zeros((1, *t.dataset.image_shape)))


def analyse(recipe, seed, name, options, context):
  """The frozen network: h by neighbours and lines, z likewise, how two views lie."""
  t, probe = task(recipe), options['probe']
  weights = weights_of(recipe, seed, name, context)
  spaces = ('pooled', 'projected') if METHODS[recipe['arm']['method']] else ('pooled',)
  read = functools.partial(features, t.model, *weights, names=spaces)
  train, test = read(t.train.images), read(t.test.images)
  classes, out = t.dataset.num_classes, {}
  line = functools.partial(linear_probe, classes=classes, l2=probe['l2'], seed=seed)
  for space in spaces:
    known, new = (train[space], t.train.labels), (test[space], t.test.labels)
    out[space] = {
      'linear': line(known, new).accuracy,
      'knn': knn_accuracy(*known, *new, probe['k'], probe['temperature']),
    }
  out['labels'] = {amount_name(amount): [
    line((train['pooled'][rows], t.train.labels[rows]), (test['pooled'], t.test.labels)).accuracy
    for rows in (choose(t.train, amount, s) for s in range(options['subsets']))
  ] for amount in options['amounts'] if amount != 1.0}

  if 'view' not in options:
    return out
  two = jax.jit(two_views(view_of(**options['view'])), static_argnums=(0, 1, 4))
  images = {'image': unit_range(t.test.images[: probe['views']])}
  one, other = (
    read(np.asarray(x)) for x in two(None, None, images, jax.random.key(seed), None)['views']
  )
  for space in spaces:
    out[space] |= {
      'alignment': float(alignment(one[space], other[space])),
      'uniformity': float(uniformity(test[space][: probe['views']])),
      'spread': float(spread(jnp.asarray(test[space]))),
    }
  if probe['tsne']:
    points = tsne(test['pooled'][: probe['tsne']], seed)
    np.savez(context.directory / 'tsne.npz', points=points, labels=t.test.labels[: len(points)])
  return out


def on_labels(stage, c, recipe, seed, name, kind, amount):
  """A stage that trains a linear classifier on the frozen network, the network with one, or anew.

  Args:
    name: of the stage whose weights to start from, or None.
    kind: 'linear', 'tune' or 'scratch'.
  """
  options = (c.linear if kind == 'linear' else c.labels).to_dict()
  config = {
    **{key: c.train.to_dict()[key] for key in ('data', 'model')}, 'augment': c.augment.to_dict(),
    'batch_size': options['batch_size'], 'log': options['log'],
    'optimizer': options['optimizer' if kind == 'linear' else kind],
    'epochs': options['epochs'],
  }
  least = 1 if kind == 'linear' else options['least']
  entry = {'train': config, 'kind': kind, 'amount': amount, 'least': least, 'seed': seed,
           'evaluate': c.evaluate}
  started = name is not None and trained(recipe)
  return Stage(
    stage, functools.partial(train_on_labels, recipe, name, entry), entry,
    needs=[name] if started else [], plan=functools.partial(plan_on_labels, recipe, entry),
  )


def budget(recipe, entry):
  """The task on the subset, and its configuration: equal steps however the network starts."""
  t, config = plain(recipe), entry['train']
  rows = choose(t.train, entry['amount'], entry['seed'])
  train = t.train._replace(images=t.train.images[rows], labels=t.train.labels[rows], extras={})
  t = t._replace(train=train)
  batch = min(config['batch_size'], len(t.train))
  steps = max(entry['least'], t.steps(config['epochs'], batch))
  config = with_steps(config, len(t.train), steps, config['optimizer']['lr'])
  return t, {**config, 'evaluate': 0, 'checkpoint': max(1, steps // 4)}


def train_on_labels(recipe, name, entry, context):
  t, config = budget(recipe, entry)
  start, frozen = None, entry['kind'] == 'linear'
  if name is not None:
    weights = weights_of(recipe, entry['seed'], name, context)
    weights = without_heads(*weights) if METHODS[recipe['arm']['method']] else weights
    head = create_head('linear', t.dataset.num_classes)
    t = t._replace(model=on_top(t.model, head, 'pooled', frozen))
    start = pretrained(weights, frozen)
  result = classifier.train(config, entry['seed'], context.directory, t, start=start)
  return {key: result[key] for key in ('steps', 'train', 'test')} | {'examples': len(t.train)}


def plan(recipe):
  t, config = task(recipe), recipe['train']
  # Two views forward and back; BYOL's target sees both too.
  passes = {'simclr': 6, 'simsiam': 6, 'byol': 8, 'supervised': 3}[recipe['arm']['method']]
  images = t.steps(config['epochs'], config['batch_size']) * config['batch_size']
  return classifier.cost(t.model, t.dataset.image_shape, passes * images)


def plan_on_labels(recipe, entry):
  t, config = budget(recipe, entry)
  images = t.steps(config['epochs'], config['batch_size']) * config['batch_size']
  passes = images if entry['kind'] == 'linear' else 3 * images
  return classifier.cost(t.model, t.dataset.image_shape, passes)


def check(c):
  """Refuses what cannot be, without the data."""
  check_seeds(c.seeds)
  check_names('arms', c.arms, c.arm)
  check_number('warmup', c.warmup, 0)
  for name in ('evaluate', 'checkpoint'):
    check_number(name, c[name], above=0)
  for arm in c.arms:
    check_arm(arm, c.arm[arm].to_dict(), c.view.to_dict())
  for name, least in (('batch_sizes', 2), ('epochs', 0), ('lrs', 0), ('temperatures', 0)):
    if c.grid[name] or name != 'batch_sizes':
      limits = {'least': least, 'whole': True} if least else {'above': 0}
      check_numbers(f'grid.{name}', list(c.grid[name]), **limits)
  for epochs in (c.train.epochs, *(c.grid.epochs if c.grid.batch_sizes else ())):
    if c.warmup >= epochs:
      raise ValueError(f'A warm-up of {c.warmup:g} epochs does not fit into a run of {epochs:g}: '
                       'set warmup to less.')
  check_number('batch_size', c.train.batch_size, 2, whole=True)
  check_name('labels.arm', c.labels.arm, c.arms)
  if c.linear.arms:
    check_names('linear.arms', list(c.linear.arms), c.arms)
  check_amounts(list(c.labels.amounts))
  for options, name in ((c.linear, 'epochs'), (c.labels, 'epochs')):
    check_number(name, options[name], above=0)
  for options, name in ((c.labels, 'subsets'), (c.labels, 'least'), (c.linear, 'batch_size'),
                        (c.labels, 'batch_size'), (c.probe, 'k'), (c.probe, 'bank')):
    check_number(name, options[name], 1, whole=True)
  check_number('probe.views', c.probe.views, 2, whole=True)
  check_number('probe.tsne', c.probe.tsne, 5 if c.probe.tsne else 0, whole=True)
  check_number('probe.temperature', c.probe.temperature, above=0)
  check_numbers('probe.l2', list(c.probe.l2), 0)


def check_arm(name, arm, view):
  check_name(f'method of the arm {name}', arm['method'], METHODS)
  view = {**view, **arm['view']}
  check_keys(f'view of the arm {name}', view, ('crop', 'colour', 'blur'))
  check_flags('view', view, 'blur')
  view_of(**view)
  for head in ('projection', 'predictor'):
    if arm[head]:
      check_numbers(f'arm.{name}.{head}', list(arm[head]), 1, whole=True)
  make = METHODS[arm['method']]
  if make:
    known = list(inspect.signature(make).parameters)[2:]
    check_keys(f'arm.{name}.options', arm['options'], known)
    make(None, 1, **arm['options'])
  if arm['method'] in ('simsiam', 'byol') and not arm['predictor']:
    raise ValueError(f'The arm {name} has the method {arm["method"]!r}, which needs a predictor: '
                     f'give arm.{name}.predictor its widths.')


def check_cell(c, recipe, workdir):
  config = recipe['train']
  classifier.check(config, workdir)
  t = task(recipe)
  check_amounts(list(c.labels.amounts), t.train)


def write_report(c, context):
  t = classifier.task(c.train.to_dict())
  images = unit_range(t.test.images[:8])
  views = {}
  for arm in c.arms:
    if METHODS[c.arm[arm].method] and (arm == 'simclr' or c.arm[arm].view):
      two = two_views(view_of(**recipe_of(c, arm)['view']))
      batch = {'image': jnp.asarray(images)}
      views[arm] = two(None, None, batch, jax.random.key(0), None)['views']
  return write_views_report(
    c, context, grid_name, images, views, len(t.train), t.dataset.label_names
  )


if __name__ == '__main__':
  app.run(stages, default_config='configs/simclr.py')
