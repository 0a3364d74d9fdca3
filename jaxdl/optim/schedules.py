"""Learning-rate schedules from plain values, built on optax."""

import collections
from collections.abc import Mapping
from typing import Any

import optax

from jaxdl.options import check_keys, check_name, check_number, check_numbers

NAMES = ('constant', 'cosine', 'steps', 'linear', 'cyclic')
KEYS = ('name', 'peak', 'warmup', 'start', 'milestones', 'factor', 'end')


def schedule(config: Mapping[str, Any], total_steps: int) -> optax.Schedule:
  """The value at every step of a run.

  All names start with a linear warm-up from `start` to `peak`, if there is one, and then:
  `constant` stays; `cosine` falls along half a cosine to `end`; `linear` falls straight to `end`;
  `steps` is multiplied by `factor` at every milestone; `cyclic` is one triangle, `linear` with its
  peak in the middle of the run unless `warmup` says otherwise. Past the end the last value holds.

  Args:
    config: `name`; `peak`; `warmup` (below 1: a fraction of the run, otherwise a number of steps;
      default 0); `start` (of the warm-up, default 0); `milestones` (ascending fractions of the run,
      default (.5, .75)); `factor` (default .1); `end` (default 0).
    total_steps: length of the run.

  Raises:
    ValueError: an unknown name or key, a missing peak, a warm-up as long as the run, a start
      without a warm-up, milestones that do not ascend within (0, 1), a value that is no number or
      is negative.
  """
  check_keys('schedule', config, KEYS)
  name = config.get('name', 'constant')
  check_name('schedule', name, NAMES)
  if config.get('peak') is None:
    raise ValueError(f"The schedule {name!r} needs 'peak', its largest value.")
  if total_steps < 1:
    raise ValueError(f'A schedule needs at least one step, got total_steps={total_steps}.')
  for key in ('peak', 'start', 'end', 'factor', 'warmup'):
    check_number(f"The schedule's {key}", config.get(key, 0), 0)
  peak, end = config['peak'], config.get('end', 0.0)
  warmup = _warmup_steps(config.get('warmup', 0.5 if name == 'cyclic' else 0), total_steps)
  rest = total_steps - warmup

  if name == 'constant':
    main = optax.constant_schedule(peak)
  elif name == 'cosine':
    main = optax.cosine_decay_schedule(peak, rest, alpha=end / peak if peak else 0.0)
  elif name == 'steps':
    milestones = config.get('milestones', (0.5, 0.75))
    check_numbers('milestones', milestones)
    if any(not 0 < m < 1 for m in milestones) or list(milestones) != sorted(set(milestones)):
      raise ValueError(f'milestones are ascending fractions of the run, got {milestones}.')
    if any(m * total_steps < warmup for m in milestones):
      raise ValueError(f'The milestone {milestones[0]} lies within the warm-up.')
    factors = collections.defaultdict(lambda: 1.0)
    for m in milestones:  # in a very short run two of them may fall on one step
      factors[max(1, round(m * total_steps) - warmup)] *= config.get('factor', 0.1)
    main = optax.piecewise_constant_schedule(peak, dict(factors))
  else:
    main = optax.linear_schedule(peak, end, rest)
  if not warmup:
    if config.get('start'):
      raise ValueError("The schedule's start is where its warm-up begins: give it a warmup too.")
    return main
  rise = optax.linear_schedule(config.get('start', 0.0), peak, warmup)
  return optax.join_schedules([rise, main], [warmup])


def _warmup_steps(warmup: float, total_steps: int) -> int:
  steps = round(warmup * total_steps) if warmup < 1 else int(warmup)
  if not 0 <= steps < total_steps:
    raise ValueError(f'A warm-up of {warmup} does not fit into {total_steps} steps.')
  return steps
