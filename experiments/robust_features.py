"""Sets that hold robust or non-robust features alone: built, looked at, and learnt by new networks.

See configs/robust_features.py for the paper, the claims, the sets, the variants and the commands.

1. Sources: for each model a standard network, a robust one (PGD training), and for the first model
   an independent standard one.
2. `build`: each set is made of all training images with one source (`jaxdl.robustness.sets`).
3. `look`: what the networks call its images, and how far these are from where they began.
4. `learn`: standard training of a new network on the set, for each seed.
5. `measure`: each network on the original test images, as they are and attacked.
"""

import functools
import zlib

import numpy as np

from jaxdl import app, parallel
from jaxdl.attacks.construct import forget, load_set, save_set
from jaxdl.data import Split
from jaxdl.data.pipeline import unit_range
from jaxdl.options import check_names, check_number, check_seeds
from jaxdl.robustness import feature_report as tell
from jaxdl.robustness import sets, survey
from jaxdl.robustness.feature_claims import claims, depth_claims
from jaxdl.train import classifier
from jaxdl.train.cells import training_stages
from jaxdl.train.evaluate import confusion
from jaxdl.train.metrics import read_metrics
from jaxdl.train.stages import Stage
from jaxdl.viz.curves import learning_curves
from jaxdl.viz.report import Report, paper_table


def stages(c):
  options = check_options(c)
  first, chunk = c.models[0], c.chunk
  sources = [(kind, model) for model in c.models for kind in makers(options)]
  sources += [('independent', first)]
  cells = [
    (f'{kind}-{model}', source_config(c, kind, model), c.source_seed + (kind == 'independent'))
    for kind, model in sources
  ]
  out = [stage for group in training_stages(cells) for stage in group]

  builds = [(name, model) for model in c.models for name in c.sets
            if model == first or name in c.cross]
  for name, model in builds:
    config, source = set_config(c, name, model), options[name].get('source')
    made = {k: options[name][k] for k in ('kind', *sets.KEYS[options[name]['kind']])}
    data = {'data': config['data'], 'model': config['model']}
    out.append(Stage(
      f'build-{name}-{model}',
      functools.partial(build, data, made, c.source_seed, source and f'{source}-{model}', chunk),
      {**data, 'set': made, 'seed': c.source_seed, 'chunk': chunk},
      needs=[f'{source}-{model}'] if source else [],
      plan=functools.partial(sets.plan, config, made),
      check=functools.partial(sets.check_make, config, made),
    ))
  for name, model in builds:
    data = {k: set_config(c, name, model)[k] for k in ('data', 'model')}
    models = {other: c.model[other].to_dict() for other in c.models}
    out.append(Stage(
      f'look-{name}-{model}',
      functools.partial(look, data, options[name], c.source_seed, name, model, sources, models),
      {**data, 'set': options[name]['kind'], 'models': models},
      needs=[f'build-{name}-{model}', *(f'{kind}-{m}' for kind, m in sources)],
    ))

  learnt = [
    (name, builder, student, seed) for seed in c.seeds for name, builder in builds
    for student in (c.models if name in c.cross else [builder])
  ]
  for name, builder, student, seed in learnt:
    config = set_config(c, name, student)
    out.append(Stage(
      learner(name, builder, student, seed),
      functools.partial(learn, config, seed, f'build-{name}-{builder}'),
      {'train': config, 'seed': seed},
      needs=[f'build-{name}-{builder}'],
      plan=functools.partial(classifier.plan, config),
      check=functools.partial(classifier.check, config),
    ))
  measured = [(name, config, None, 'robust' in name) for name, config, _ in cells]
  measured += [
    (learner(name, builder, student, seed), set_config(c, name, student), f'build-{name}-{builder}',
     name in ('robust_image', 'robust_noise') and seed == c.seeds[0])
    for name, builder, student, seed in learnt
  ]
  for name, config, own, thorough in measured:
    data = {'data': c.train.data.to_dict(), 'model': config['model']}
    settings = c.attack.to_dict()
    settings |= {'linf': None if own else settings['linf'],
                 'long': settings['long'] if thorough else None}
    out.append(Stage(
      f'measure-{name}',
      functools.partial(measure, data, settings, name, own),
      {**data, 'attack': settings},
      needs=[name, *([own] if own else [])],
    ))
  report = functools.partial(write_report, c, sources, builds, learnt)
  return [*out, Stage('report', report, {}, needs=[s.name for s in out], always=True)]


def check_options(c):
  """Refuses what cannot run; the options of each set."""
  check_seeds(c.seeds)
  check_number('source_seed', c.source_seed, 0, 2**32 - 2, whole=True)
  check_names('models', c.models, c.model)
  check_names('sets', c.sets, c.set)
  if c.cross:
    check_names('cross', c.cross, c.sets)
  options = {name: c.set[name].to_dict() for name in c.sets}
  for name in c.sets:
    sets.check_set(f'set.{name}', options[name])
  survey.check_attack(c.attack)
  check_number('chunk', c.chunk, 1, whole=True)
  return options


def makers(options):
  """The standard network, with which all are compared, and the robust one where a set needs it."""
  needed = {'standard', *(o.get('source') for o in options.values())}
  return [kind for kind in sets.MAKERS if kind in needed]


def learner(name, builder, student, seed):
  return f'learn-{name}-{builder}-{student}-{seed}'


def source_config(c, kind, model):
  """The training configuration of a network that sets are made with."""
  config = {**c.train.to_dict(), 'model': c.model[model].to_dict()}
  if kind == 'robust':
    config |= {'epochs': c.robust.epochs, 'adversary': c.robust.adversary.to_dict()}
    config['optimizer']['lr'] = c.robust.lr
  return config


def set_config(c, name, model):
  """The training configuration of a network that learns a set: standard training, table 3."""
  config, how = {**c.train.to_dict(), 'model': c.model[model].to_dict()}, c.set[name]
  config['data']['per_class'] = how.per_class or c.train.data.per_class
  config['epochs'], config['optimizer']['lr'] = how.epochs, how.lr
  config['augment'] = config['augment'] if how.augment else None
  return config


def build(config, options, seed, source, chunk, context):
  """Makes a set of all training images: float32 images, their labels, and where they are from."""
  path, parts = context.directory / 'set.npz', context.directory / 'parts'
  if not path.exists():
    network = classifier.load_weights(context.directories[source]) if source else ()
    save_set(path, sets.make(config, options, seed, network, parts, chunk))
  forget(parts)
  parallel.barrier('the set is saved')  # the first process alone writes it
  made = load_set(path)
  return {
    'images': len(made['images']),
    'checksum': zlib.crc32(made['images'].tobytes()),
    'share of own labels': float((made['labels'] == made['classes']).mean()),
  }


def look(config, options, seed, name, model, sources, models, context):
  """What the networks call the images of a set, and how far these are from where they began."""
  t, made = classifier.task(config), built(context, name, model)
  begun, originals = sets.starts(options, t.train, seed), unit_range(t.train.images)
  out = survey.distances(made, begun, originals) | {
    'called': {}, 'share of own labels': float((made['labels'] == made['classes']).mean()),
  }
  for kind, other in sources:
    network = classifier.task({**config, 'model': models[other]}).model, *weights(
      context, f'{kind}-{other}')
    out['called'][f'{kind}-{other}'], logits = survey.called(network, made)
    if (kind, other) == ('standard', model):
      count, said = t.dataset.num_classes, logits.argmax(-1)
      out['confusion'] = confusion(logits, made['classes'], count).tolist()
      places = survey.shown_places(made['labels'], count)
      out['said'] = {str(k): said[several].tolist() for k, several in places.items()}
  if 'source' in options:
    out['source'] = f'{options["source"]}-{model}'
  if f'independent-{model}' in out['called']:
    out['other'] = f'independent-{model}'
  if options['kind'] == 'invert':
    out['representation'] = survey.likeness(
      t.model, *weights(context, out['source']), made, begun, originals
    )
  return out


def built(context, name, model):
  return load_set(context.directories[f'build-{name}-{model}'] / 'set.npz')


def weights(context, name):
  return classifier.load_weights(context.directories[name])


def learn(config, seed, build, context):
  """Standard training on a set; tested on the original test images, at the last step."""
  made, t = load_set(context.directories[build] / 'set.npz'), classifier.task(config)
  train = Split(made['images'], made['labels'], {})
  return classifier.train(config, seed, context.directory, t._replace(train=train))


def measure(config, options, name, own, context):
  """Accuracy of one network on the original test images, as they are and attacked."""
  t = classifier.task(config)
  made = load_set(context.directories[own] / 'set.npz') if own else None
  network = t.model, *weights(context, name)
  return survey.withstands(network, t.dataset.num_classes, t.test, options, made)


def write_report(c, sources, builds, learnt, context):
  first, settings, logs = c.models[0], {}, {}
  for kind, model in sources:
    settings[setting_name(first, kind, model, model)] = [context.results[f'measure-{kind}-{model}']]
  for cell in learnt:
    setting, stage = setting_name(first, *cell[:3]), learner(*cell)
    settings.setdefault(setting, []).append(context.results[f'measure-{stage}'])
    logs.setdefault(setting, []).append(read_metrics(context.directories[stage]))
  looks = {
    setting_name(first, name, model, model): context.results[f'look-{name}-{model}']
    for name, model in builds
  }
  t = classifier.task(source_config(c, 'standard', first))
  published = c.train.data.name == 'cifar10'
  scale = 32 / t.dataset.image_shape[0] if published else None
  metrics = tell.measures(c.attack.eps, c.attack.linf)
  rows = tell.network_rows(settings, metrics, scale) + tell.set_rows(looks, published)

  report = Report('Robust and non-robust features', context.directory, introduction(c, t))
  report.rows(rows)
  report.section('What new networks learn from the sets')
  tell.network_table(report, settings, metrics, rows, c.attack.steps)
  if compared := [r for r in rows if r['paper'] is not None]:
    report.table(*paper_table(compared), 'Another network and scale: compare the order.')
  compared_with = [kind for kind in sets.MAKERS if kind in settings]
  for group, names in groups(c).items():
    report.figure(
      tell.accuracy_lines(settings, [*compared_with, *names], c.attack.eps), f'robustness-{group}',
      f'The {group} sets: accuracy on the original test images against the L2 radius.',
    )
  report.section('Claims')
  attacked = min(c.attack.test, len(t.test))
  said = list(claims(settings, c.attack.eps, t.dataset.num_classes, attacked, len(t.test)))
  across = crossed(c, settings, looks)
  if across:
    said += depth_claims(across[0], across[2], c.models, t.dataset.num_classes)
  report.text('\n'.join(f'- {line}' for line in said))
  report.text(
    'More and less are told where they exceed two standard errors of the difference of two '
    f'accuracies on {attacked} attacked or {len(t.test)} other images. What has learnt nothing has '
    'no accuracy under attack either, as the controls show: a low one tells of non-robust features '
    'only where the accuracy without attack is well above chance. The sources may have had more '
    'images and steps than the sets: the reference for the matched sets is `original`.'
  )
  if across:
    report.section('Networks of other depths')
    tell.crossed(report, *across, c.models)
  report.section('Training')
  for group, names in groups(c).items():
    report.figure(
      learning_curves({n: logs[n] for n in names}, ['train/accuracy', 'test/accuracy']),
      f'curves-{group}', f'The {group} sets: accuracy on batches of the set, and on the original '
      'test images.',
    )
  report.section('The sets')
  tell.set_tables(report, looks)
  for name in c.sets:
    config, options = set_config(c, name, first), c.set[name].to_dict()
    train = classifier.task(config).train
    tell.show_set(
      report, name, built(context, name, first), sets.starts(options, train, c.source_seed),
      unit_range(train.images), t.dataset.label_names, looks[name],
    )
  report.write()
  return {'rows': len(rows)}


def crossed(c, settings, looks):
  """(learnt, under, transfer) for networks of several depths, see `feature_report.crossed`."""
  if len(c.models) < 2 or not c.cross:
    return None
  first = c.models[0]
  mean = lambda name, a, b, read: 100 * float(
    np.mean([read(run) for run in settings[setting_name(first, name, a, b)]]))
  learnt, under = (
    {name: {(a, b): mean(name, a, b, read) for a in c.models for b in c.models}
     for name in c.cross}
    for read in (lambda run: run['accuracy'], lambda run: run['l2'][0])
  )
  transfer = {}
  if 'rand' in c.cross:
    called = looks['rand']['called']
    transfer = {
      m: 100 * called[f'{"independent" if m == first else "standard"}-{m}']['label']
      for m in c.models
    }
  return learnt, under, transfer


def groups(c):
  """The sets in two groups, those compared with the images themselves and those with chance."""
  matched = [n for n in c.sets if c.set[n].get('labels', 'own') == 'own']
  both = {'matched': matched, 'relabelled': [n for n in c.sets if n not in matched]}
  return {group: names for group, names in both.items() if names}


def setting_name(first, name, builder, student):
  """'rand' with the first model alone; otherwise with what made the set and what learns it."""
  if builder == student:
    return name if student == first else f'{name}, {student}'
  return f'{name} by {builder}, {student}'


def introduction(c, t):
  size = lambda n: f'{n} a class' if n else 'all'
  images = {n: size(c.set[n].per_class or c.train.data.per_class) for n in c.sets}
  sizes = ', '.join(f'{n} {k}' for n, k in images.items()) if len(set(images.values())) > 1 else (
    next(iter(images.values())))
  radii = {c.set[n].eps for n in c.sets if 'eps' in c.set[n]}
  height, width, _ = t.dataset.image_shape
  return (
    f'{", ".join(c.models)} on {c.train.data.name}, images of {height} x {width} pixels. The '
    f'sources learn from {size(c.train.data.per_class)} training images; the sets hold {sizes}'
    + ''.join(f'. Relabelled images are moved by at most {eps:g}' for eps in sorted(radii))
    + f'. Adversarial training: {c.robust.adversary.steps} steps of {c.robust.adversary.alpha:g}, '
    f'L2, eps {c.robust.adversary.eps:g}. One network of each kind makes the sets; the seeds '
    f'{list(c.seeds)} are those of the networks that learn them, and values are means over these ± '
    'one standard deviation.'
  )


if __name__ == '__main__':
  app.run(stages, default_config='configs/robust_features.py')
