"""The options of a classifier's training run: refused, where they cannot work, before it starts."""

from collections.abc import Mapping

from jaxdl import models
from jaxdl.augment import builders
from jaxdl.optim import build
from jaxdl.options import check_keys, check_mapping, check_name, check_number
from jaxdl.train import adversary

KEYS = (
  'data', 'model', 'augment', 'label_smoothing', 'adversary', 'epochs', 'batch_size', 'optimizer',
  'log', 'evaluate', 'checkpoint',
)  # fmt: skip
NEEDED = ('data', 'model', 'epochs', 'batch_size', 'optimizer')
COUNTS = ('size', 'shrink', 'per_class', 'validation', 'test', 'seed')
MAX_STEPS = 2**31 - 1  # the step is an int32


def check_recipe(config: Mapping) -> None:
  """Checks everything that can be checked without the data; see `classifier.train` for the options.

  Raises:
    ValueError: naming the option.
  """
  check_keys('train', config, KEYS)
  for key in NEEDED:
    if config.get(key) is None:
      raise ValueError(f'train has no {key!r}; give one.')
  check_task(config)
  check_run(config)


def check_task(config: Mapping) -> None:
  """Checks `data` and `model`, without the data.

  Raises:
    ValueError: naming the option.
  """
  data, model = config.get('data'), config.get('model')
  check_keys('data', data, ('name', 'folder', *COUNTS))
  for key in COUNTS:
    check_number(f'data.{key}', data.get(key) or 0, 0, whole=True)
  check_mapping('model', model)
  options = {key: value for key, value in model.items() if key not in ('name', 'dtype')}
  check_name('dtype of the model', model.get('dtype', 'float32'), ('float32', 'bfloat16'))
  models.create(model.get('name'), 2, **options)


def check_run(config: Mapping, shape: tuple[int, ...] | None = None, steps: int | None = None):
  """Checks how it is trained.

  Args:
    config: of the run.
    shape: [N, H, W, C] of the training images, once it is known.
    steps: of the run, once they are known.

  Raises:
    ValueError: naming the option.
  """
  epochs, batch = config.get('epochs'), config.get('batch_size')
  check_number('epochs', epochs, above=0)
  check_number('batch_size', batch, 1, whole=True)
  for key in ('log', 'evaluate', 'checkpoint'):
    check_number(key, config.get(key, 0), 0, whole=True)
  if shape is not None and batch > shape[0]:
    raise ValueError(f'batch_size is {batch}, more than the {shape[0]} training images; take '
                     f'1..{shape[0]}.')
  if steps is not None:
    check_number('The number of steps', steps, 1, MAX_STEPS)
  optimizer = config.get('optimizer')
  build(optimizer, steps or MAX_STEPS)
  parts = (optimizer.get('perturbation') or {}).get('microbatches', 1)
  if batch % parts:
    raise ValueError(f'batch_size is {batch}, which {parts} microbatches do not divide.')
  if config.get('augment'):
    builders.check(config['augment'], shape)
  check_number('label_smoothing', config.get('label_smoothing') or 0, 0, 1)
  if config.get('adversary'):
    adversary.check(config['adversary'])
    if config.get('label_smoothing'):
      raise ValueError('label_smoothing is for training without an adversary, whose losses have '
                       'their own targets: leave one of them out.')
    if config['adversary']['name'] == 'free' and optimizer.get('perturbation'):
      raise ValueError("The adversary 'free' takes one gradient a step and optimizer.perturbation "
                       "needs more: leave one of them out.")

