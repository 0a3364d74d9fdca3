"""The cells of a study: one trained network for each configuration and seed."""

import functools
import json
from collections.abc import Callable, Mapping, Sequence

from jaxdl.train import classifier
from jaxdl.train.checkpoint import Checkpoints, load_variables
from jaxdl.train.metrics import open_writer, read_lines
from jaxdl.train.seeds import member, resolve
from jaxdl.train.stages import Stage

Cell = tuple[str, Mapping, int]  # name, configuration as for `classifier.train`, seed


def training_stages(cells: Sequence[Cell], axis: str = 'off',
                    gradients: Callable[[Mapping], float] = lambda config: 1) -> list[list[Stage]]:
  """The stages that train the cells of a study, one list for each cell.

  A cell's own stage has its name, its checkpoint and its metrics, whatever the axis. With an axis,
  the cells of one configuration are trained together in a stage `NAME-together` before the first of
  them, and their own stages take their parts out of it.

  Args:
    cells: of the study, in order.
    axis: 'off', or one of `jaxdl.train.seeds.AXES`.
    gradients: configuration -> gradients per step, for the plan.
  """
  axis = resolve(axis)
  if axis == 'off':
    return [[_alone(cell, gradients)] for cell in cells]
  groups, out = {}, []
  for cell in cells:
    groups.setdefault(_key(cell), []).append(cell)
  for cell in cells:
    group = groups[_key(cell)]
    first = [_together(group, axis, gradients)] if cell is group[0] else []
    out.append([*first, _member(cell, group)])
  return out


def _key(cell):
  return json.dumps(cell[1], sort_keys=True)


def _alone(cell, gradients):
  name, config, seed = cell
  return Stage(
    name,
    lambda context: classifier.train(config, seed, context.directory),
    {'train': config, 'seed': seed},
    plan=lambda: classifier.plan(config, gradients(config)),
    check=functools.partial(classifier.check, config),
  )


def _together(group, axis, gradients):
  (name, config, _), seeds = group[0], [seed for _, _, seed in group]
  return Stage(
    f'{name}-together',
    lambda context: classifier.train_together(config, seeds, axis, context.directory),
    {'train': config, 'seeds': seeds, 'axis': axis},
    plan=lambda: classifier.plan(config, gradients(config) * len(seeds)),
    check=functools.partial(classifier.check, config),
  )


def _member(cell, group):
  name, config, seed = cell
  source, i = f'{group[0][0]}-together', group.index(cell)
  take = functools.partial(_take_member, source, i, seed)
  return Stage(name, take, {'train': config, 'seed': seed}, needs=[source])


def _take_member(source, i, seed, context):
  """One seed's checkpoint and metrics, out of those of all."""
  result = context.results[source][i]
  params, model_state = member(load_variables(context.directories[source]), i)
  with Checkpoints(context.directory / 'checkpoints') as checkpoints:
    checkpoints.save(result['steps'], {'state': {'params': params, 'model_state': model_state}})
  own = f'/seed{seed}/'
  with open_writer(context.directory) as writer:
    for line in read_lines(context.directories[source]):
      values = {k.replace(own, '/'): v for k, v in line.items() if own in k}
      if values:
        writer.scalars(line['step'], values)
  return result
