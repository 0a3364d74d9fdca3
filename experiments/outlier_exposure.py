"""A network that is shown outliers while it learns: does it notice others?

Half of a set's classes are learnt. Arms differ in the outliers beside them, in what is asked of
those, and in whether the network starts from nothing or from one that learnt without any. See
configs/outlier_exposure.py for the papers and the commands.
"""

import functools

import jax.numpy as jnp
import numpy as np

from jaxdl import app
from jaxdl.augment import crop_flip
from jaxdl.ood.exposure import (
  energy_losses,
  energy_margins,
  exposed,
  outlier_pool,
  uniform_loss,
  with_outliers,
)
from jaxdl.ood.exposure_report import BASE, KINDS, REST, write_exposure_report
from jaxdl.ood.metrics import ood_metrics, outside_positive
from jaxdl.ood.scores import energy, msp
from jaxdl.ood.sets import available, outside
from jaxdl.ood.subset import check, left_out, plan, subset_task
from jaxdl.options import (
  check_keys,
  check_name,
  check_names,
  check_number,
  check_numbers,
  check_seeds,
)
from jaxdl.train import classifier
from jaxdl.train.evaluate import predict
from jaxdl.train.metrics import read_metrics
from jaxdl.train.stages import Stage

SCORES = dict(zip(KINDS, (msp, energy), strict=True))
KEYS = ('loss', 'weight', 'start', 'classes', 'images')


def stages(c):
  check_config(c)
  sets = [name for name in c.sets if name == REST or available(name)]
  if not sets:
    raise ValueError(f'None of the sets {", ".join(c.sets)} is on this machine: prepare one, or '
                     f"add '{REST}' or a kind of noise to sets.")
  arms, out = {BASE: None, **arms_of(c)}, []
  classes, ratio = list(c.keep), c.outliers.ratio
  for seed in c.seeds:
    for name, arm in arms.items():
      config = train_config(c, arm)
      options = {'outliers': c.outliers.to_dict(), 'arm': arm, 'margins': c.margins.to_dict()}
      out.append(Stage(
        f'{name}-{seed}',
        functools.partial(train, config, classes, options if arm else {'arm': None}, seed),
        {'train': config, 'classes': classes, 'seed': seed, **(options if arm else {})},
        needs=[f'{BASE}-{seed}'] if arm and arm['start'] == BASE else [],
        plan=functools.partial(plan, config, classes, 1 + ratio if arm else 1),
        check=functools.partial(check_cell, config, classes, options, sets),
      ))
  for seed in c.seeds:
    for name in arms:
      out.append(Stage(
        f'{name}-{seed}-scores',
        functools.partial(score, train_config(c, None), classes, sets, c.test_images, name, seed),
        {'sets': sets, 'images': c.test_images}, needs=[f'{name}-{seed}'],
      ))
  report = functools.partial(write_report, c, sets)
  return [*out, Stage('report', report, {}, needs=[s.name for s in out], always=True)]


def check_config(c):
  check_seeds(c.seeds)
  check_names('arms', c.arms, c.arm)
  check_numbers('keep', list(c.keep), 0, whole=True)
  if not c.sets:
    raise ValueError('sets must be a list of at least one set to tell from the images learnt.')
  check_number('test_images', c.test_images, 0, whole=True)
  check_number('resamples', c.resamples, 1, whole=True)
  with_outliers(c.outliers.ratio)
  for name, arm in arms_of(c).items():
    check_keys(f'arm.{name}', arm, KEYS)
    check_name(f'loss of the arm {name}', arm['loss'], ('uniform', 'energy'))
    check_name(f'start of the arm {name}', arm['start'], ('scratch', BASE))
    exposed(None, arm['weight'])
    if arm['loss'] == 'energy' and arm['start'] != BASE and not c.margins.fixed:
      raise ValueError(f'The arm {name} learns energies from scratch, where there are none to take '
                       "margins from: give margins.fixed, or let it start from 'base'.")
  if c.margins.fixed:
    check_pair('margins.fixed', c.margins.fixed)
    energy_losses(*c.margins.fixed)
  check_pair('margins.quantiles', c.margins.quantiles)
  energy_margins(np.zeros((1, 2)), *c.margins.quantiles)
  check_name('arm that diversity is like', c.diversity.like, c.arm)


def check_pair(what, values):
  check_numbers(what, list(values))
  if len(values) != 2:
    raise ValueError(f'{what} must be two numbers, those of m_in and of m_out; got {len(values)}.')


def arms_of(c):
  """name -> arm: those asked for, and one for each number of classes with all of their images and
  with equally many in all, unless an arm is just that."""
  arms, d = {name: c.arm[name].to_dict() for name in c.arms}, c.diversity
  for k, images in [(k, 0) for k in d.classes] + [(k, d.images) for k in d.control]:
    arm = {**c.arm[d.like].to_dict(), 'classes': k, 'images': images}
    if arm not in arms.values():
      arms[f'k{k}-{images}' if images else f'k{k}'] = arm
  return arms


def train_config(c, arm):
  config = c.train.to_dict()
  if arm and arm['start'] == BASE:
    tune = c.tune.to_dict()
    config['optimizer'] |= tune.pop('optimizer')
    config |= tune
  return config


def check_cell(config, classes, options, sets, workdir):
  check(config, classes, workdir)
  t = subset_task(config, classes)
  if options['arm']:
    pool(options, t, 0)
  else:
    for place in sets:
      if place != REST:
        outside(place, 1, t.dataset.image_shape)


def pool(options, t, seed):
  arm = options['arm']
  return outlier_pool(options['outliers']['name'], arm['classes'], arm['images'],
                      t.dataset.image_shape, seed)


def train(config, classes, options, seed, context):
  t, arm = subset_task(config, classes), options['arm']
  if arm is None:
    return classifier.train(config, seed, context.directory, t)
  start, weights, chosen, base = None, None, None, context.directories.get(f'{BASE}-{seed}')
  if base:
    weights = classifier.load_weights(base)
    start = lambda state: state.replace(params=weights[0], model_state=weights[1])
  parts = {'outside': uniform_loss}
  if arm['loss'] == 'energy':
    chosen = margins(options['margins'], t, weights)
    inside, out = energy_losses(*chosen)
    parts = {'outside': out, 'inside': inside}
  outliers, crop = pool(options, t, seed), config.get('augment') or {}
  crop = {key: crop[key] for key in ('pad', 'mode', 'flip') if key in crop}
  result = classifier.train(
    config, seed, context.directory, t, exposed(t.model.apply, arm['weight'], **parts),
    frozen={'outliers': jnp.asarray(outliers)}, start=start,
    transform=with_outliers(options['outliers']['ratio'], crop_flip(**crop) if crop else None),
  )
  return result | {'outliers': len(outliers), 'margins': chosen}


def margins(options, t, weights):
  """The published ones, or those that the network's own energies suggest."""
  if options['fixed']:
    return options['fixed']
  logits = predict(t.model, *weights, t.train.images[: options['images']])
  return list(energy_margins(logits, *options['quantiles']))


def score(config, classes, sets, count, name, seed, context):
  """Metrics of every score on every set, and the scores themselves."""
  t = subset_task(config, classes)
  weights = classifier.load_weights(context.directories[f'{name}-{seed}'])
  logits_of = functools.partial(predict, t.model, *weights)
  known = {kind: f(logits_of(t.test.images)) for kind, f in SCORES.items()}
  arrays, found = {f'{kind} known': x for kind, x in known.items()}, {}
  for place in sets:
    if place == REST:
      images = left_out(config, classes)[: count or None]
    else:
      images = outside(place, count, t.dataset.image_shape, seed=seed)
    logits = logits_of(images)
    unknown = {kind: f(logits) for kind, f in SCORES.items()}
    arrays |= {f'{kind} {place}': x for kind, x in unknown.items()}
    found[place] = {k: ood_metrics(known[k], unknown[k])._asdict() for k in SCORES}
    found[place]['OE'] = outside_positive(known['MSP'], unknown['MSP'])._asdict()
  np.savez(context.directory / 'scores.npz', **arrays)
  return found


def write_report(c, sets, context):
  runs = {arm: [outcome(context, f'{arm}-{seed}') for seed in c.seeds]
          for arm in (BASE, *arms_of(c))}
  task = subset_task(c.train.to_dict(), c.keep)
  return {'rows': write_exposure_report(c, runs, sets, task, context)}


def outcome(context, name):
  return {
    **context.results[name], 'sets': context.results[f'{name}-scores'],
    'arrays': dict(np.load(context.directories[f'{name}-scores'] / 'scores.npz')),
    'log': read_metrics(context.directories[name]),
  }


if __name__ == '__main__':
  app.run(stages, default_config='configs/outlier_exposure.py')
