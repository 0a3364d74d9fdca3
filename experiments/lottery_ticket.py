"""Lottery tickets: magnitude pruning round by round, rewinding, and what a ticket is compared with.

Every network is one training inside a mask (`frozen['mask']`) from given weights at a given step
(`tickets.start`); an arm says which mask and which weights. See configs/lottery_ticket.py for the
papers, the claim, the variants and the commands.
"""

import functools

import jax

from jaxdl import app
from jaxdl.attacks import pgd, robust
from jaxdl.data.dataset import first
from jaxdl.landscape import evaluate_arrays, recalibrate
from jaxdl.optim import learning_rate
from jaxdl.options import check_keys, check_name, check_names, check_number, check_seeds
from jaxdl.sparsity import arms, connectivity, criteria, held, masks, saliency, tickets
from jaxdl.sparsity.found import Cell
from jaxdl.sparsity.report import ACTIONS, write_report
from jaxdl.train import classifier
from jaxdl.train.stages import Stage

PERIODS = ('log', 'evaluate', 'checkpoint')
TRUNK = ('k', 'levels', 'at', 'arms', 'training', 'search', 'scope', 'rate', 'rates')


def grow(config, options, make, folders, context):
  """Trains what `make` gives, and accounts for every weight of it."""
  t = classifier.task(config)
  folder = {role: context.directories[name] for role, name in folders.items()}
  seed = options['seed']
  params = tickets.drawn(t.model, t.dataset.image_shape, jax.random.key(seed)).params
  allowed = masks.prunable(params, options['ignore'])
  mask, weights = make(arms.Source(t, seed, options['k'], options['scope'], allowed, folder))
  tickets.save_mask(context.directory, mask)
  out = {'before': untrained(t, mask, weights)} if options.get('before') else {}
  if held.HELD in weights.model_state:
    t = t._replace(model=held.held(t.model))
  out |= classifier.train(
    config, options.get('order', seed), context.directory, t, frozen={'mask': mask},
    start=tickets.start(weights), stop=options.get('stop'),
  )
  params, state = classifier.load_weights(context.directory)
  out['weights'] = tickets.account(mask, allowed, params)
  out['updates'] = out['steps'] - weights.step
  if config['adversary']:
    a, test = options['attack'], first(t.test, options['attack']['images'])
    attack = pgd(config['adversary']['eps'], a['steps'], a['alpha'])
    survives = robust(t.model, params, state, *test[:2], attack, jax.random.key(0))
    out['robust'] = float(survives.mean())
  return out


def untrained(t, mask, weights):
  """Test accuracy of a mask over weights that were not trained inside it (a supermask)."""
  params = masks.apply(weights.params, mask)
  state = recalibrate(t.model, params, weights.model_state, t.train.images[:500])
  found = evaluate_arrays(t.model)(params, state, t.test.images, t.test.labels)
  return float(found['accuracy'])


def connect(config, options, pairs, context):
  """The line between trained networks, name -> line."""
  t, out = classifier.task(config), {}
  test = first(t.test, options['images'])
  for name, pair in pairs.items():
    one, other = (classifier.load_weights(context.directories[p]) for p in pair)
    line = connectivity.barrier(t.model, one, other, *test[:2],
                                t.train.images[: options['calibration']], options['on_line'])
    out[name] = line._asdict()
  return out


def stages(c):
  check_study(c)
  out = {}
  for seed in c.seeds:
    for cell, stage in grown(c, seed):
      out.setdefault(stage.name, (cell, stage))
  cells = {name: cell for name, (cell, _) in out.items() if cell}
  todo = [stage for _, stage in out.values()]
  report = functools.partial(write_report, c, cells)
  return [*todo, Stage('report', report, {}, needs=[s.name for s in todo], always=True)]


def grown(c, seed):
  """Every network of one seed and its stage, parents first."""
  for name in c.trunks:
    yield from trunk_cells(c, name, seed)
  if seed in c.seeds[: c.criteria.seeds]:
    yield from criterion_cells(c, seed)
  for name, n in c.connectivity.points:
    yield from connected_cells(c, name, n, seed)


def trunk_cells(c, name, seed):
  trunk = c.trunk[name].to_dict()
  training, search = trunk['training'], trunk['search'] or trunk['training']
  dense, make = f'{search}-{seed}', lambda s: (s.everything(), s.drawn())
  for which in dict.fromkeys([search, training]):
    yield network(c, f'{which}-{seed}', Cell(which, 0, 'dense', seed), which, seed, make)
  folders = {'dense': dense}
  if trunk['k']:
    folders['early'] = f'{dense}-step{trunk["k"]}'
    yield network(c, folders['early'], None, search, seed, make, stop=trunk['k'])
  prune = {'rate': trunk['rate'], 'rates': trunk['rates']}
  parent = {'ticket': dense, 'finetune': dense}
  last = max(trunk['at'], default=0) if 'finetune' in trunk['arms'] else 0
  for n in range(1, trunk['levels'] + 1):
    base, add = f'{name}-{n}', functools.partial(network, c, trunk=trunk)
    make = functools.partial(arms.ticket, **prune)
    yield add(f'{base}-{seed}', Cell(name, n, 'ticket', seed), training, seed, make,
              {**folders, 'parent': parent['ticket']}, **prune)
    parent['ticket'] = f'{base}-{seed}'
    if n <= last:
      tuned = f'{base}-finetune-{seed}'
      yield add(tuned, Cell(name, n, 'finetune', seed), training, seed,
                functools.partial(arms.finetuned, **prune), {'parent': parent['finetune']}, **prune,
                tuning=True)
      parent['finetune'] = tuned
    for arm in arms_at(c, name, n, seed):
      of = {**folders, 'ticket': parent['ticket']}
      for draw in range(c.reinits) if arm == 'reinit' else (0,):
        if arm != 'finetune':
          make = arms.ARMS[arm]
          if arm in criteria.ACTIONS:
            make = functools.partial(make, draw=draw)
          number = draw or ''
          yield add(f'{base}-{arm}{number}-{seed}', Cell(name, n, arm, seed), training, seed, make,
                    of, arm=arm, draw=draw)


def arms_at(c, name, n, seed):
  """The arms of a search at one level, and what its weights may start from there."""
  trunk, actions = c.trunk[name], c.actions
  out = [*trunk.arms] if n in trunk.at else []
  if actions.trunk == name and n in actions.at and seed in c.seeds[: actions.seeds]:
    out += actions.names
  return dict.fromkeys(out)


def criterion_cells(c, seed):
  options = c.criteria.to_dict()
  name, trunk = options['trunk'], c.trunk[options['trunk']].to_dict()
  training = trunk['training']
  folders = {'dense': f'{training}-{seed}'}
  if trunk['k']:
    folders['early'] = f'{training}-{seed}-step{trunk["k"]}'
  for n in options['at']:
    if options['scope'] == 'layer':
      folders = {**folders, 'ticket': f'{name}-{n}-{seed}'}
    keep = tickets.densities(trunk['rate'], n)[-1]
    for criterion in options['names']:
      make = functools.partial(arms.chosen, name=criterion, keep=keep, images=options['per_class'])
      yield network(
        c, f'{name}-{n}-by-{criterion}-{seed}', Cell(name, n, criterion, seed, True), training,
        seed, make, folders, {**trunk, 'scope': options['scope']}, arm=criterion, keep=keep,
        before=True, k_used=0 if criterion in arms.AT_INIT else trunk['k'],
        images=options['per_class'],
      )


def connected_cells(c, name, n, seed):
  """The same ticket in another order of the data, and the lines to it and to the dense network."""
  trunk, options = c.trunk[name].to_dict(), c.connectivity.to_dict()
  training = trunk['training']
  dense = f'{training}-{seed}'
  level = f'{name}-{n}-{seed}' if n else dense
  folders = {'dense': dense, 'ticket': level}
  if trunk['k']:
    folders['early'] = f'{dense}-step{trunk["k"]}'
  twin, lines = f'{name}-{n}-order-{seed}', f'{name}-{n}-lines-{seed}'
  yield network(c, twin, None, training, seed, arms.again, folders, trunk, order=seed + 1000)
  pairs = {'another order of the data': (level, twin)}
  if n:
    pairs['the dense network'] = (dense, level)
  config = training_config(c, training)
  kept = {k: options[k] for k in ('on_line', 'images', 'calibration')}
  yield Cell(name, n, 'lines', seed), Stage(
    lines, functools.partial(connect, config, kept, pairs), {'lines': kept},
    needs=sorted({of for pair in pairs.values() for of in pair}),
  )


def network(c, name, cell, training, seed, make, folders=None, trunk=None, *, tuning=False,
            **options):
  """`(cell, stage)` of one trained network."""
  config, trunk = training_config(c, training), trunk or {}
  k, stop = trunk.get('k', 0), options.get('stop')
  if tuning:
    config = tuning_config(c, config)
  if stop:
    config |= {key: max(1, min(config[key], stop // 4)) for key in PERIODS}
  options |= {'seed': seed, 'k': k, 'scope': trunk.get('scope', 'global'),
              'ignore': list(c.ignore)}
  if config['adversary']:
    options['attack'] = c.attack.to_dict()
  begin = 0 if tuning or options.get('arm') in arms.FRESH else options.get('k_used', k)

  def plan():
    out = classifier.plan(config)
    steps = classifier.task(config).steps(config['epochs'], config['batch_size'])
    return out | {'work': out['work'] * ((stop or steps) - begin) / steps}

  def check(workdir):
    classifier.check(config, workdir)
    t = classifier.task(config)
    steps = t.steps(config['epochs'], config['batch_size'])
    check_number(f'k, the step that {name} rewinds to,', stop or begin, 0, below=steps, whole=True)
    if cell and cell.arm == 'dense':
      check_layers(c, t)

  folders = folders or {}
  return cell, Stage(
    name, functools.partial(grow, config, options, make, folders),
    {'train': config, 'ticket': options}, needs=list(dict.fromkeys(folders.values())), plan=plan,
    check=check,
  )


def training_config(c, name):
  """`c.train` with the changes of one training."""
  def merged(old, new):
    if not (isinstance(old, dict) and isinstance(new, dict)):
      return new
    return {**old, **{k: merged(old.get(k), v) for k, v in new.items()}}

  return merged(c.train.to_dict(), c.training[name].to_dict())


def tuning_config(c, config):
  """A round of fine-tuning: short, at the last learning rate of the training."""
  optimizer, many = dict(config['optimizer']), 10**6  # the schedule is in fractions of the run
  last = round(float(learning_rate(optimizer, many)(many - 1)), 9)
  if last == 0:
    raise ValueError("The learning rate ends at 0, where the arm 'finetune' cannot train: give the "
                     "schedule an 'end' above 0, or leave that arm out.")
  optimizer |= {'lr': last, 'schedule': {'name': 'constant'}}
  shorter = {key: max(1, int(config[key] * c.finetune)) for key in PERIODS}
  return {**config, **shorter, 'epochs': config['epochs'] * c.finetune, 'optimizer': optimizer}


def check_study(c):
  """Refuses a study that cannot run, before the data is read."""
  check_seeds(c.seeds)
  check_names('trunks', c.trunks, c.trunk)
  check_number('reinits', c.reinits, 1, whole=True)
  check_number('finetune', c.finetune, above=0, most=1)
  for name in c.trunks:
    check_trunk(c, f'trunk.{name}', c.trunk[name].to_dict())
  check_name('trunk of the criteria', c.criteria.trunk, c.trunks)
  check_levels('criteria.at', c.criteria.at, c.trunk[c.criteria.trunk].levels)
  for name in c.criteria.names:
    check_name('criterion', name, (*criteria.NAMES, *saliency.NAMES))
  check_number('criteria.per_class', c.criteria.per_class, 2, whole=True)
  if c.actions.names:
    check_name('trunk of the actions', c.actions.trunk, c.trunks)
    check_levels('actions.at', c.actions.at, c.trunk[c.actions.trunk].levels)
  for name in c.actions.names:
    check_name('action', name, ACTIONS)
  for what in ('criteria', 'actions'):
    check_number(f'{what}.seeds', c[what].seeds, 0, whole=True)
  for name, n in c.connectivity.points:
    check_name('trunk in connectivity.points', name, c.trunks)
    check_number('The level in connectivity.points', n, 0, c.trunk[name].levels, whole=True)
  check_number('connectivity.on_line', c.connectivity.on_line, 3, whole=True)
  for key in ('images', 'steps'):
    check_number(f'attack.{key}', c.attack[key], 1, whole=True)


def check_trunk(c, what, trunk):
  check_keys(what, trunk, TRUNK)
  check_name(f'training of {what}', trunk['training'], c.training)
  check_number(f'{what}.k', trunk['k'], 0, whole=True)
  check_number(f'{what}.rate', trunk['rate'], above=0, below=1)
  check_number(f'{what}.levels', trunk['levels'], 1, whole=True)
  check_levels(f'{what}.at', trunk['at'], trunk['levels'])
  check_name('scope of pruning', trunk['scope'], masks.SCOPES)
  for arm in trunk['arms']:
    check_name(f'arm of {what}', arm, (*arms.ARMS, 'finetune'))
  if trunk['search']:
    check_name(f'search of {what}', trunk['search'], c.training)
    if trunk['levels'] > 1:
      raise ValueError(f'{what} prunes a network of another training ({trunk["search"]}), which '
                       'takes one round: set its levels to 1, or leave out its search.')
  if trunk['rates'] and trunk['scope'] != 'layer':
    raise ValueError(f"{what}.rates are of single layers: they need its scope 'layer'.")


def check_levels(what, levels, most):
  for n in levels:
    check_number(f'Each of {what}', n, 1, most, whole=True)


def check_layers(c, t):
  """Refuses layers that the network does not have."""
  x = jax.ShapeDtypeStruct((1, *t.dataset.image_shape), 'float32')
  params, _ = jax.eval_shape(t.model.init, jax.random.key(0), x)
  masks.prunable(params, c.ignore)
  for name in c.trunks:
    for layer in c.trunk[name].rates or ():
      check_name(f'layer in trunk.{name}.rates', layer, params)


if __name__ == '__main__':
  app.run(stages, default_config='configs/lottery_ticket.py')
