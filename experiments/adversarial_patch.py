"""Adversarial patches: one image for all images, of several sizes, targets and source networks.

Victims are trained; for each arm and size, eleven patches (one untargeted, one for each class) are
trained at once on the arm's sources; each is pasted into the test images at several random places
and shown to every victim. See configs/adversarial_patch.py for the paper, variants and commands.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdl import app, parallel
from jaxdl.attacks.patch import UNTARGETED, first_patches, near, pixels, universal_patch
from jaxdl.attacks.placement import cover, draw, patched_images, placed, placement, sides
from jaxdl.core import TrainState
from jaxdl.data import first, resident, take
from jaxdl.optim import build, learning_rate
from jaxdl.options import check_number
from jaxdl.patches import measure
from jaxdl.patches.check import check
from jaxdl.patches.findings import Findings
from jaxdl.patches.report import write
from jaxdl.train import classifier
from jaxdl.train.cells import training_stages
from jaxdl.train.checkpoint import load_variables
from jaxdl.train.loop import Every, fit
from jaxdl.train.metrics import read_metrics
from jaxdl.train.stages import Stage
from jaxdl.train.step import grad_step


def stages(c):
  check(c)
  trained = training_stages([(victim(v), victim_config(c, v), c.seed) for v in c.victims])
  out = [stage for cell in trained for stage in cell]
  for arm, size in every_patch(c):
    out.append(Stage(
      f'{arm}-{size}', functools.partial(train_patches, c, arm, size),
      {'patch': c.patch.to_dict(), 'arm': c.arm[arm].to_dict() | {'sizes': size}, 'seed': c.seed,
       'place': c.places[c.arm[arm].place].to_dict(), 'chosen_on': c.evaluation.train},
      needs=[victim(v) for v in c.arm[arm].sources],
      plan=functools.partial(plan, c, arm, size),
      check=functools.partial(check_fits, c, arm, size),
    ))
  place = c.places[c.evaluation.place].to_dict()
  evaluation = c.evaluation.to_dict() | {'place': place}
  everyone = [victim(v) for v in c.victims]
  for arm, size in compared(c):
    out.append(Stage(
      f'{arm}-{size}-success', functools.partial(attack, c, arm, size), {'evaluation': evaluation},
      needs=[f'{arm}-{size}', *everyone],
    ))
  for size in all_sizes(c):
    out.append(Stage(
      f'controls-{size}', functools.partial(controls, c, size),
      {'evaluation': evaluation, 'size': size, 'seed': c.seed}, needs=everyone,
    ))
  places = {name: c.places[name].to_dict() for name in c.placements.arms}
  out.append(Stage(
    'placements', functools.partial(trained_elsewhere, c),
    {'evaluation': evaluation, 'places': places, 'test': c.placements.test},
    needs=[*(f'at_{name}-{c.placements.size}' for name in c.placements.arms),
           victim(c.arm[f'at_{c.placements.arms[0]}'].sources[0])],
  ))
  where, own = c.positions, [victim(c.arm[c.positions.arm].sources[0])]
  out.append(Stage(
    'positions', functools.partial(over_positions, c), {'positions': where.to_dict()},
    needs=[*(f'{where.arm}-{size}' for size in where.sizes), *own],
  ))
  largest = max(c.arm[c.arms[0]].sizes)
  shown = [(c.arms[0], size) for size in c.arm[c.arms[0]].sizes]
  shown += [(arm, largest) for arm in c.arms[1:] if largest in c.arm[arm].sizes]
  out.append(Stage(
    'pictures', functools.partial(pictures, c, shown), {'place': place},
    needs=[*('{}-{}'.format(*cell) for cell in shown), *everyone],
  ))
  report = functools.partial(write_report, c)
  return [*out, Stage('report', report, {}, needs=[s.name for s in out], always=True)]


def victim(name):
  return f'victim-{name}'


def victim_config(c, name):
  """The training configuration of one victim: the common one with its model (and adversary)."""
  return {**c.train.to_dict(), **c.victim[name].to_dict()}


def task(c, name):
  return classifier.task(victim_config(c, name))


def steps_of(c, arm):
  return c.arm[arm].get('steps') or c.patch.steps


def at(c, name, size, t):
  """Draws places of one kind for a patch of this size in the task's images."""
  return placement(t.dataset.image_shape, size, **c.places[name].to_dict())


def compared(c):
  return [(arm, size) for arm in c.arms for size in c.arm[arm].sizes]


def every_patch(c):
  return compared(c) + [(f'at_{name}', c.placements.size) for name in c.placements.arms]


def all_sizes(c):
  return sorted({size for arm in c.arms for size in c.arm[arm].sizes})


def targets_of(c, arm):
  """The untargeted patch, then one for each target class."""
  classes = c.arm[arm].targets
  count = task(c, c.arm[arm].sources[0]).dataset.num_classes
  return [UNTARGETED, *(range(count) if classes == 'all' else classes)]


# Patches.


def train_patches(c, arm, size, context):
  """All patches of one arm and size in one program; the same loop that trains the victims."""
  t, options, sources = task(c, c.arm[arm].sources[0]), c.patch, c.arm[arm].sources
  targets, channels = targets_of(c, arm), t.dataset.image_shape[-1]
  mask, picture = cover(size, c.arm[arm].shape), disguise(c, arm, size, t)
  bounds = () if picture is None else near(picture, c.arm[arm].disguise.eps)
  form = pixels(options.pixels, *bounds)
  models = {name: task(c, name).model for name in sources}
  objective = universal_patch(
    {name: model.apply for name, model in models.items()}, mask, targets, form, options.kappa
  )
  optimizer, steps = options.optimizer.to_dict(), steps_of(c, arm)
  tx = optax.chain(build(optimizer, steps), form.link)
  start = first_patches(len(targets), size, channels, options.noise, form)

  def init():
    key = jax.random.key(c.seed)
    params = {'patch': form.encode(start(jax.random.fold_in(key, 1)))}
    return TrainState(jnp.zeros((), jnp.int32), params, {}, tx.init(params), key)

  frozen = {name: classifier.load_weights(context.directories[victim(name)]) for name in sources}
  fit(
    init=init,
    step=grad_step(objective, tx, transform=placed(at(c, c.arm[arm].place, size, t)),
                   schedules={'learning_rate': learning_rate(optimizer, steps)}),
    data=resident(t.train, options.batch_size, c.seed),
    steps=steps,
    workdir=context.directory,
    frozen=frozen,
    every=Every(options.log, 0, options.checkpoint),
    layout=parallel.layout(options.batch_size),
    label=f'{arm}-{size}',
  )
  made = np.asarray(form.decode(load_variables(context.directory)[0]['patch']))
  np.save(context.directory / 'patches.npy', made)
  if picture is not None:
    np.save(context.directory / 'picture.npy', picture)
  return {'targets': targets} | strongest(c, arm, size, made, models, frozen)


def disguise(c, arm, size, t):
  """What a disguised patch must look like: the middle of a training image. None for the others."""
  hidden = c.arm[arm].get('disguise')
  return hidden and measure.crop(t.train, hidden.of, size, np.random.default_rng(c.seed))


def strongest(c, arm, size, made, models, frozen):
  """Which targeted patch errs most on training images, as an untargeted one: no test image chooses.
  """
  t = task(c, c.arm[arm].sources[0])
  order = np.random.default_rng(0).permutation(len(t.train))[: c.evaluation.train]
  split, mask = take(t.train, order), cover(size, c.arm[arm].shape)
  place = at(c, c.evaluation.place, size, t)
  rates = np.mean([
    measure.strongest(measure.victim(model, *frozen[name], split), made, mask, place,
                      jax.random.key(7))
    for name, model in models.items()
  ], 0)
  return {'train_untargeted': rates.tolist(), 'strongest': int(1 + np.argmax(rates[1:]))}


# Attack success.


def shown_to(c, name, count, context):
  """(task, a victim with so many test images)."""
  t, variables = task(c, name), classifier.load_weights(context.directories[victim(name)])
  return t, measure.victim(t.model, *variables, first(t.test, count))


def patches(context, arm, size):
  """float32 [T, h, w, C] in [0, 1]."""
  return np.load(context.directories[f'{arm}-{size}'] / 'patches.npy')


def attack(c, arm, size, context):
  """Every patch of one arm and size on every victim, at the same places."""
  made, targets = patches(context, arm, size), context.results[f'{arm}-{size}']['targets']
  out = {}
  for name in c.victims:
    t, v = shown_to(c, name, c.evaluation.test, context)
    place = at(c, c.evaluation.place, size, t)
    out[name] = measure.rates(v, made, targets, cover(size, c.arm[arm].shape), place,
                              c.evaluation.placements, t.dataset.num_classes)
  return out


def controls(c, size, context):
  """What a patch does that was not trained, to every victim."""
  out = {}
  for name in c.victims:
    t, v = shown_to(c, name, c.evaluation.test, context)
    out[name] = measure.control_rates(v, t.train, size, at(c, c.evaluation.place, size, t),
                                      c.evaluation.placements, c.seed)
  return out


def trained_elsewhere(c, context):
  """Patches trained at one kind of place, pasted at each kind: mean success [trained][pasted]."""
  size, kinds, out = c.placements.size, c.placements.arms, {goal: [] for goal in measure.GOALS}
  t, v = shown_to(c, c.arm[f'at_{kinds[0]}'].sources[0], c.placements.test, context)
  places = [at(c, kind, size, t) for kind in kinds]
  for arm in (f'at_{kind}' for kind in kinds):
    targets, mask = context.results[f'{arm}-{size}']['targets'], cover(size, c.arm[arm].shape)
    found = measure.at_places(v, patches(context, arm, size), targets, mask, places)
    for goal in measure.GOALS:
      out[goal].append(found[goal])
  return out


def over_positions(c, context):
  """Success of the untargeted and the strongest targeted patch, pasted upright at every place."""
  arm, out = c.positions.arm, {}
  _, v = shown_to(c, c.arm[arm].sources[0], c.positions.images, context)
  for size in c.positions.sizes:
    made = context.results[f'{arm}-{size}']
    both = [0, made['strongest']]
    out[str(size)] = measure.over_positions(
      v, patches(context, arm, size)[both], [made['targets'][i] for i in both], size,
      c.positions.stride,
    )
  return out


def pictures(c, cells, context):
  """One test image with each patch of the first arm, and what it is taken for; and what the largest
  patches of every arm are taken for when they fill an image."""
  images, predicted, filling = [], [], {}
  for arm, size in cells:
    made, mask = patches(context, arm, size), cover(size, c.arm[arm].shape)
    t, v = shown_to(c, c.arm[arm].sources[0], len(made), context)
    filling[arm] = v.predict(measure.enlarged(made, mask, t.dataset.image_shape[:2])).tolist()
    if arm == c.arms[0]:
      place = at(c, c.evaluation.place, size, t)
      places = draw(place, jax.random.fold_in(jax.random.key(11), 0), len(made))
      every = [patched_images(v.split.images, patch, mask, places) for patch in made]
      images.append(np.stack([x[i] for i, x in enumerate(every)]))
      predicted.append(v.predict(images[-1]).tolist())
  np.save(context.directory / 'images.npy', np.stack(images))
  return {'predicted': predicted, 'filling': filling}


# What can be wrong, and what it costs.


def check_fits(c, arm, size, workdir):
  """Refuses a patch larger than the images, or a target that is no class of the data."""
  t = task(c, c.arm[arm].sources[0])
  for place in {c.arm[arm].place, c.evaluation.place}:
    at(c, place, size, t)
  cover(size, c.arm[arm].shape)
  classes = t.dataset.num_classes
  for target in targets_of(c, arm)[1:]:
    check_number(f'Each of arm.{arm}.targets', target, 0, classes - 1, whole=True)
  if c.arm[arm].get('disguise'):
    check_number(f'arm.{arm}.disguise.of', c.arm[arm].disguise.of, 0, classes - 1, whole=True)
  check_number('patch.batch_size', c.patch.batch_size, 1, len(t.train), whole=True)
  parallel.layout(c.patch.batch_size)


def plan(c, arm, size):
  """A gradient of the image costs two forward passes."""
  macs = sum(classifier.plan(victim_config(c, name))['MACs'] for name in c.arm[arm].sources)
  t = task(c, c.arm[arm].sources[0])
  count = len(targets_of(c, arm))
  images = count * c.patch.batch_size * steps_of(c, arm)
  h, w = sides(size)
  return {'parameters': count * h * w * t.dataset.image_shape[-1], 'MACs': macs,
          'work': 2.0 * macs * images}


# The report.


def write_report(c, context):
  """All numbers, told as claims, tables and figures."""
  t, every = task(c, c.victims[0]), compared(c)
  hidden = [(arm, size) for arm, size in every if c.arm[arm].get('disguise')]
  folder = lambda arm, size: context.directories[f'{arm}-{size}']
  shown = context.results['pictures']
  found = Findings(
    c=c, names=t.dataset.label_names, shape=t.dataset.image_shape[:2],
    images=min(c.evaluation.test, len(t.test)),
    victims={v: context.results[victim(v)] for v in c.victims},
    made={cell: context.results['{}-{}'.format(*cell)] for cell in every},
    rates={cell: context.results['{}-{}-success'.format(*cell)] for cell in every},
    controls={size: context.results[f'controls-{size}'] for size in all_sizes(c)},
    placements=context.results['placements'], positions=context.results['positions'],
    samples=shown['predicted'], filling=shown['filling'],
    patches={cell: patches(context, *cell) for cell in every},
    pictures={cell: np.load(folder(*cell) / 'picture.npy') for cell in hidden},
    sampled=np.load(context.directories['pictures'] / 'images.npy'),
    logs={f'{arm} {s}': read_metrics(folder(arm, s)) for arm, s in every if arm == c.arms[0]},
  )
  return {'rows': write(found, context.directory)}


if __name__ == '__main__':
  app.run(stages, default_config='configs/adversarial_patch.py')
