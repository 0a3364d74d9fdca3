"""What of a configuration of patches cannot work."""

from jaxdl.attacks.patch import PIXELS
from jaxdl.attacks.placement import check_placement
from jaxdl.optim import build
from jaxdl.options import check_keys, check_name, check_names, check_number, check_numbers

_SHARED = ('sources', 'sizes', 'place', 'shape', 'targets')  # what every arm says


def check(c) -> None:
  """Refuses what no data is needed to see.

  Args:
    c: the configuration of the study.

  Raises:
    ValueError: naming the option that is wrong.
  """
  check_names('victims', c.victims, c.victim)
  check_names('arms', c.arms, c.arm)
  check_names('placements.arms', c.placements.arms, c.places)
  for name in c.places:
    check_placement(c.places[name].to_dict())
  for name in (*c.arms, *(f'at_{kind}' for kind in c.placements.arms)):
    check_name('arm', name, c.arm)
    arm = c.arm[name]
    check_keys(f'arm.{name}', arm, (*_SHARED, 'disguise', 'steps'))
    check_names(f'arm.{name}.sources', arm.sources, c.victims)
    check_numbers(f'arm.{name}.sizes', arm.sizes, 1, whole=True)
    check_name(f'place of arm.{name}', arm.place, c.places)
    if arm.targets != 'all':
      check_numbers(f'arm.{name}.targets', arm.targets, 0, whole=True)
    if 'steps' in arm:
      check_number(f'arm.{name}.steps', arm.steps, 1, whole=True)
    if arm.get('disguise'):
      check_keys(f'arm.{name}.disguise', arm.disguise, ('of', 'eps'))
      check_number(f'arm.{name}.disguise.eps', arm.disguise.eps, above=0, most=1)
  check_name('place of the evaluation', c.evaluation.place, c.places)
  check_name('pixels', c.patch.pixels, PIXELS)
  check_number('patch.kappa', c.patch.kappa, 0)
  check_number('patch.noise', c.patch.noise, 0, 0.49)
  for key in ('batch_size', 'steps', 'checkpoint', 'log'):
    check_number(f'patch.{key}', c.patch[key], 1, whole=True)
  for group, keys in (('evaluation', ('placements', 'test', 'train')), ('placements', ('test',)),
                      ('positions', ('images', 'stride'))):
    for key in keys:
      check_number(f'{group}.{key}', c[group][key], 1, whole=True)
  build(c.patch.optimizer.to_dict(), c.patch.steps)
  check_name('positions.arm', c.positions.arm, c.arms)
  check_numbers('positions.sizes', c.positions.sizes, 1, whole=True)
  if missing := set(c.positions.sizes) - set(c.arm[c.positions.arm].sizes):
    raise ValueError(
      f'positions.sizes has {min(missing)}, but arm.{c.positions.arm} has the sizes '
      f'{tuple(c.arm[c.positions.arm].sizes)}: choose among them.'
    )
