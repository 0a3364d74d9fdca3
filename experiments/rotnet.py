"""RotNet: representations learnt by telling by what angle an image was turned.

Encoders are trained without labels, or not at all, and frozen; every block of them is then asked
what it knows of the classes. See configs/rotnet.py for the paper and the commands.
"""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special

from jaxdl import app, models
from jaxdl.core import Model, bind
from jaxdl.data import first, take
from jaxdl.data.pipeline import unit_range
from jaxdl.landscape import recalibrate
from jaxdl.objectives.rotnet import check_angles, rotated, rotnet
from jaxdl.options import (
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
  each_head,
  knn_accuracy,
  linear_probe,
  pretrained,
  tsne,
  with_heads,
  with_steps,
)
from jaxdl.representation.maps import blocks_of, cells
from jaxdl.representation.rotnet_report import write_rotnet_report
from jaxdl.train import classifier
from jaxdl.train.evaluate import confusion, features, predict
from jaxdl.train.stages import Stage

WAYS = ('heads', 'tune', 'scratch')  # of using labels: frozen, fine-tuned, without pre-training


def stages(c):
  check(c)
  out = []
  for seed in c.seeds:
    for name in c.encoders:
      out += of_encoder(c, name, seed)
  few, kept = c.few.to_dict(), recipe_of(c, c.few.encoder)
  for amount in few['amounts']:
    for subset in range(few['subsets']):
      seed = c.seeds[subset % len(c.seeds)]
      for way in WAYS:
        out.append(of_labels(c, kept, f'{few["encoder"]}-{seed}', way, amount, subset))
  needs = [s.name for s in out]
  return [*out, Stage('report', functools.partial(write_report, c), {}, needs=needs, always=True)]


def check(c):
  """Refuses what cannot be, without the data."""
  check_seeds(c.seeds)
  check_names('encoders', c.encoders, c.encoder)
  check_amounts([c.labelled])
  for name in c.encoders:
    check_keys(f'encoder.{name}', c.encoder[name], ('model', 'angles', 'epochs'))
    check_number(f'encoder.{name}.epochs', c.encoder[name].epochs, 0)
    if c.encoder[name].angles:
      check_angles(c.encoder[name].angles)
  check_names('heads.kinds', c.heads.kinds, ('linear', 'mlp', 'conv'))
  for kind in c.heads.kinds:
    head_of(kind, c.heads, 2)
  check_name('head of few', c.few.head, c.heads.kinds)
  check_name('encoder of few', c.few.encoder, c.encoders)
  if not c.encoder[c.few.encoder].angles:
    raise ValueError(f'few.encoder is {c.few.encoder!r}, which is not trained: name one with '
                     'angles.')
  check_amounts(c.few.amounts)
  check_number('few.subsets', c.few.subsets, 1, whole=True)
  for way in WAYS:
    check_number(f'few.steps.{way}', c.few.steps[way], 1, whole=True)
  probe = c.probe
  check_numbers('probe.l2', probe.l2, 0)
  check_number('k of the nearest neighbours', probe.k, 1, whole=True)
  check_number('temperature of the nearest neighbours', probe.temperature, above=0)
  for name, least in (('side', 0), ('turned', 1), ('bank', 1), ('tsne', 5)):
    check_number(f'probe.{name}', probe[name], least, whole=True)


def recipe_of(c, name):
  """What an encoder is made of; the same for every seed."""
  encoder, train = c.encoder[name].to_dict(), c.train.to_dict()
  train = {**train, 'model': encoder['model'], 'epochs': encoder['epochs'] or train['epochs']}
  return {'train': train, 'angles': list(encoder['angles']), 'labelled': c.labelled}


def of_encoder(c, name, seed):
  """Pre-training, where there is any, and what is asked of the frozen network."""
  recipe, probe, cell = recipe_of(c, name), c.probe.to_dict(), f'{name}-{seed}'
  learnt, out = bool(recipe['angles']), []
  checks = functools.partial(check_cell, c, recipe)
  if learnt:
    out.append(Stage(
      cell, functools.partial(pretrain, recipe, probe, seed),
      {**recipe, 'probe': probe, 'seed': seed},
      plan=functools.partial(plan_pretrain, recipe), check=checks,
    ))
  needs, drawn = [cell] * learnt, name in (c.few.encoder, 'random')
  out.append(Stage(
    f'{cell}-blocks', functools.partial(analyse, recipe, probe, drawn, seed, cell),
    {**recipe, 'probe': probe, 'drawn': drawn, 'seed': seed}, needs=needs,
    check=None if learnt else checks,
  ))
  heads = c.heads.to_dict()
  out.append(Stage(
    f'{cell}-heads', functools.partial(train_heads, recipe, heads, seed, cell),
    {**recipe, 'heads': heads, 'seed': seed}, needs=needs,
    plan=functools.partial(plan_heads, recipe, heads),
  ))
  return out


def of_labels(c, recipe, cell, way, amount, subset):
  """One way of using the labels of one subset."""
  heads, few, probe = c.heads.to_dict(), c.few.to_dict(), c.probe.to_dict()
  entry = {
    'way': way, 'amount': amount, 'subset': subset, 'block': few['block'], 'head': few['head'],
    'steps': few['steps'][way], 'batch_size': few['batch_size'], 'log': few['log'],
    'optimizer': heads['optimizer'] if way == 'heads' else few[way],
  }
  return Stage(
    f'{way}-{amount_name(amount).replace(" ", "_").replace("%", "percent")}-{subset}',
    functools.partial(train_on_labels, recipe, heads, probe, entry, cell),
    {**recipe, 'heads': heads, 'l2': probe['l2'], 'side': probe['side'], **entry},
    needs=[] if way == 'scratch' else [cell],
    plan=functools.partial(plan_on_labels, recipe, heads, entry),
  )


def check_cell(c, recipe, workdir):
  classifier.check(recipe['train'], workdir)
  t = task(recipe)
  check_angles(recipe['angles'] or (0, 90), t.train.images.shape)
  # Of the pool that labels are taken from: more than there are is said before anything runs.
  choose(t.train, c.labelled, 0)
  check_amounts(list(c.few.amounts), labelled(t, recipe).train)
  found = blocks(task(recipe_of(c, c.few.encoder)))
  check_name(f'block of few (of the encoder {c.few.encoder})', c.few.block, found)


# The tasks: the classes, and the angles.


def task(recipe):
  """The encoder with a classifier of the classes."""
  return classifier.task(recipe['train'])


def pretext(recipe, turned):
  """Images without their labels, and a network that says by which angle they were turned.

  The label of a training image is the upright 0, which only the evaluation of it reads.
  """
  t = task(recipe)
  train = t.train._replace(labels=np.zeros_like(t.train.labels), extras={})
  few = unit_range(first(t.test, turned).images)
  images, labels = jax.device_get(rotated(few, recipe['angles']))
  test = t.test._replace(images=np.uint8(np.round(255 * images)), labels=labels, extras={})
  model = _rotation_model(json.dumps(recipe['train']), len(recipe['angles']))
  return t._replace(train=train, validation=take(t.validation, []), test=test, model=model)


@functools.lru_cache(maxsize=8)
def _rotation_model(train, angles) -> Model:
  train = json.loads(train)
  options, (mean, std) = dict(train['model']), classifier.task(train).dataset.mean_std()
  dtype = options.pop('dtype', 'float32')
  module = models.create(options.pop('name'), angles, dtype=jnp.dtype(dtype), **options)
  return bind(module, mean=mean, std=std)


def labelled(t, recipe):
  """The task with the training images whose labels may be used."""
  return t._replace(train=take(t.train, choose(t.train, recipe['labelled'], 0)))


def encoder(recipe, seed, cell, context):
  """The network and its weights: pre-trained, or random with the batch statistics of the images."""
  t = task(recipe)
  if recipe['angles']:
    model = pretext(recipe, 1).model
    return model, *classifier.load_weights(context.directories[cell])
  params, state = jax.jit(t.model.init)(
    jax.random.key(seed), jnp.zeros((1, *t.train.images.shape[1:]))
  )
  state = recalibrate(t.model, params, state, t.train.images[:500])
  return t.model, *jax.device_get((params, state))


def blocks(t):
  return blocks_of(t.model, t.train.images.shape[1:])


# What the stages do.


def pretrain(recipe, probe, seed, context):
  t = pretext(recipe, probe['turned'])
  seen, objective = labelled(task(recipe), recipe), rotnet(t.model.apply, recipe['angles'])
  middle = blocks(t)[1]

  def neighbours(state):
    read = lambda split: features(
      t.model, *classifier.evaluation_weights(state), split.images, (middle,)
    )[middle]
    bank, test = first(seen.train, probe['bank']), first(seen.test, probe['turned'])
    return {'accuracy': knn_accuracy(
      read(bank), bank.labels, read(test), test.labels, probe['k'], probe['temperature']
    )}

  result = classifier.train(
    recipe['train'], seed, context.directory, t, objective, evals={'knn': neighbours}
  )
  batch = recipe['train']['batch_size']
  return {
    'steps': result['steps'], 'parameters': result['parameters'],
    'images': result['steps'] * batch * len(recipe['angles']),
    'rotation': result['test']['accuracy'],
  }


def analyse(recipe, probe, drawn, seed, cell, context):
  """Every block by lines and by neighbours; which angles and which images are confused."""
  model, *weights = encoder(recipe, seed, cell, context)
  t, out, saved = labelled(task(recipe), recipe), {}, {}
  names, classes, splits = blocks(t), t.dataset.num_classes, (t.train, t.validation, t.test)
  images, ends = np.concatenate([s.images for s in splits]), np.cumsum([len(s) for s in splits])
  means = features(model, *weights, images, names)
  for name in names:
    map_of = features(cells(model, probe['side']), *weights, images, (name,), pool=False)[name]
    lines = {}
    for what, x in (('map', map_of), ('mean', means[name])):  # neighbours and pictures: the mean
      parts = zip(np.split(x, ends[:-1]), splits, strict=True)
      train, dev, test = ((part, split.labels) for part, split in parts)
      lines[what] = linear_probe(train, test, classes, dev, probe['l2'], seed=seed)
    out[name] = {
      'knn': knn_accuracy(*train, *test, probe['k'], probe['temperature']),
      **{what: line.accuracy for what, line in lines.items()},
      **{f'{what} dev': max(line.dev, default=0.0) for what, line in lines.items()},
    }
    if drawn:
      saved[f'points_{name}'] = tsne(test[0][: probe['tsne']], seed)
  saved['labels'] = t.test.labels[: probe['tsne']]
  result = {'blocks': out, 'rotation': None}
  if recipe['angles']:
    result['rotation'], more = turns(recipe, probe, model, weights)
    saved |= more
  kernels = [w for w in jax.tree.leaves(weights[0]) if np.ndim(w) == 4]
  channels = t.train.images.shape[-1]
  saved['filters'] = next((w for w in kernels if w.shape[2] == channels), np.zeros((0,) * 4))
  np.savez(context.directory / 'blocks.npz', **saved)
  return result


def turns(recipe, probe, model, weights, shown=12):
  """Accuracy of the angle; its confusion, by class, and the images it is surest and wrong of."""
  t, angles = pretext(recipe, probe['turned']), len(recipe['angles'])
  logits = predict(model, *weights, t.test.images)
  p, truth = scipy.special.softmax(np.float64(logits), -1), t.test.labels
  said, right = p.argmax(-1), p.argmax(-1) == truth
  classes = np.tile(task(recipe).test.labels[: probe['turned']], angles)
  surest = np.argsort(np.where(right, -1, p.max(-1)), kind='stable')[::-1][:shown]
  return float(right.mean()), {
    'confusion': confusion(logits, truth, angles),
    'by_class': np.array([right[classes == k].mean() if (classes == k).any() else np.nan
                          for k in range(task(recipe).dataset.num_classes)]),
    'wrong': t.test.images[surest], 'wrong_said': said[surest], 'wrong_true': truth[surest],
  }


def head_of(kind, options, classes):
  given = {'mlp': ('hidden',), 'conv': ('width',)}.get(kind, ())
  return create_head(kind, classes, **{key: options[key] for key in given})


def bank(t, heads, names):
  """A head of every kind on each of these features."""
  return tuple(
    (f'{kind}_{name}', name, head_of(kind, heads, t.dataset.num_classes))
    for kind in heads['kinds'] for name in names
  )


def train_heads(recipe, heads, seed, cell, context):
  """Heads of every kind on every block of the frozen network, in one training run."""
  model, *weights = encoder(recipe, seed, cell, context)
  t = labelled(task(recipe), recipe)
  config = {
    **{key: recipe['train'][key] for key in ('data', 'model', 'augment')},
    **{key: heads[key] for key in ('epochs', 'batch_size', 'optimizer', 'log')},
  }
  return fit_heads(config, t, model, weights, bank(t, heads, blocks(t)), seed, context.directory)


def fit_heads(config, t, model, weights, heads, seed, directory, frozen=True):
  """Trains them and measures each: {'steps', 'examples', 'heads': {name: {'dev', 'test'}}}."""
  model = with_heads(model, heads, frozen)
  steps = t.steps(config['epochs'], config['batch_size'])
  config = {**config, 'evaluate': 0, 'checkpoint': max(1, steps // 2)}
  result = classifier.train(
    config, seed, directory, t._replace(model=model), each_head(model.apply),
    start=pretrained(weights, frozen),
  )
  names, trained = [name for name, _, _ in heads], classifier.load_weights(directory)
  found = {
    key: features(model, *trained, split.images, names) | {'labels': split.labels}
    for key, split in (('dev', t.validation), ('test', t.test))
  }
  share = lambda f, name: float((f[name].argmax(1) == f['labels']).mean())
  measured = {name: {key: share(f, name) for key, f in found.items()} for name in names}
  return {'steps': result['steps'], 'examples': len(t.train), 'heads': measured}


def subset_of(recipe, entry):
  """The task on a subset of the labels, and how to train on it."""
  t = labelled(task(recipe), recipe)
  t = t._replace(train=take(t.train, choose(t.train, entry['amount'], entry['subset'])))
  config = {key: recipe['train'][key] for key in ('data', 'model', 'augment')}
  config |= {key: entry[key] for key in ('batch_size', 'optimizer', 'log')}
  return t, with_steps(config, len(t.train), entry['steps'])


def train_on_labels(recipe, heads, probe, entry, cell, context):
  (t, config), way, block = subset_of(recipe, entry), entry['way'], entry['block']
  seed = entry['subset']
  if way == 'scratch':
    config = {**config, 'evaluate': 0, 'checkpoint': max(1, entry['steps'] // 2)}
    result = classifier.train(config, seed, context.directory, t)
    return {'steps': result['steps'], 'examples': len(t.train), 'test': result['test']['accuracy']}
  model, *weights = encoder(recipe, seed, cell, context)
  if way == 'tune':
    kind = entry['head']
    top = ((f'{kind}_{block}', block, head_of(kind, heads, t.dataset.num_classes)),)
    return fit_heads(config, t, model, weights, top, seed, context.directory, frozen=False)
  result = fit_heads(
    config, t, model, weights, bank(t, heads, (block,)), seed, context.directory
  )
  read = lambda split: features(
    cells(model, probe['side']), *weights, split.images, (block,), pool=False
  )[block]
  # Without dev images: the labels of the subset also choose the penalty.
  line = linear_probe((read(t.train), t.train.labels), (read(t.test), t.test.labels),
                      t.dataset.num_classes, l2=probe['l2'], seed=seed)
  return result | {'probe': line.accuracy}


# What the stages cost.


def plan_pretrain(recipe):
  t, config = pretext(recipe, 1), recipe['train']
  images = t.steps(config['epochs'], config['batch_size']) * config['batch_size']
  return classifier.cost(
    t.model, t.train.images.shape[1:], 3.0 * images * len(recipe['angles'])
  )


def plan_heads(recipe, heads):
  t = labelled(task(recipe), recipe)
  images = t.steps(heads['epochs'], heads['batch_size']) * heads['batch_size']
  return plan_frozen(t, bank(t, heads, blocks(t)), images)


def plan_frozen(t, heads, images):
  shape = t.train.images.shape[1:]
  whole = classifier.cost(with_heads(t.model, heads), shape)
  below = classifier.cost(t.model, shape)['MACs']
  return {**whole, 'work': (3.0 * (whole['MACs'] - below) + below) * images}


def plan_on_labels(recipe, heads, entry):
  t, config = subset_of(recipe, entry)
  images, shape = entry['steps'] * config['batch_size'], t.train.images.shape[1:]
  if entry['way'] == 'heads':
    return plan_frozen(t, bank(t, heads, (entry['block'],)), images)
  return classifier.cost(t.model, shape, 3.0 * images)


def write_report(c, context):
  t = task(recipe_of(c, c.few.encoder))
  return write_rotnet_report(c, context, t, {name: blocks(task(recipe_of(c, name)))
                                             for name in c.encoders})


if __name__ == '__main__':
  app.run(stages, default_config='configs/rotnet.py')
