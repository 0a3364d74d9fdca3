"""A classifier trained from a configuration: what most studies start from."""

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdl import flops, models, parallel
from jaxdl.attacks import fgsm, pgd, robust
from jaxdl.augment import builders, compose
from jaxdl.core import BatchTransform, Model, TrainState, bind, count_params, init_state
from jaxdl.data import Dataset, Split, first, hold_out, load, per_class, resident
from jaxdl.data.pipeline import Replayed, unit_range
from jaxdl.data.smaller import smaller
from jaxdl.data.sources import check_apart
from jaxdl.losses.classification import cross_entropy
from jaxdl.objectives import supervised
from jaxdl.optim import build, ema_params, learning_rate
from jaxdl.optim.leaves import is_kernel
from jaxdl.optim.params_ema import ParamsEmaState, reset_ema
from jaxdl.options import check_number
from jaxdl.sparsity import masks
from jaxdl.train import adversary
from jaxdl.train.checkpoint import load_state
from jaxdl.train.evaluate import classification, predict
from jaxdl.train.free_adversarial import free_adversarial, network_of, with_delta
from jaxdl.train.loop import Every, fit
from jaxdl.train.recipe import check_recipe, check_run, check_task
from jaxdl.train.seeds import SeedBatches, init_over, member, step_over
from jaxdl.train.step import grad_step


class Task(NamedTuple):
  """Data and network of one configuration.

  Attributes:
    dataset: the whole set.
    train, validation, test: the splits used; `validation` may be empty.
    module: the Flax module.
    model: the same as pure functions on images in [0, 1].
    steps: function of epochs, the number of updates.
  """

  dataset: Dataset
  train: Split
  validation: Split
  test: Split
  module: nn.Module
  model: Model

  def steps(self, epochs: float, batch_size: int) -> int:
    """Updates in `epochs` passes over the training split (at least one)."""
    return max(1, round(epochs * len(self.train) / batch_size))


@functools.lru_cache(maxsize=4)
def _load(name, folder, size, shrink):
  dataset = load(name, folder=folder, size=size)
  if shrink == 1:
    return dataset
  small = lambda split: split._replace(images=smaller(split.images, shrink))
  return dataset._replace(train=small(dataset.train), test=small(dataset.test))


def task(config: Mapping) -> Task:
  """Loads the data and makes the network. The same configuration gives the same object, so that
  what was compiled for its model serves every cell of a study.

  Args:
    config: `data` with `name` (or `folder`, a class-per-folder image tree, and `size`, the side to
      bring its images to) and optionally `shrink` (images are made smaller by this factor, see
      `jaxdl.data.smaller`), `per_class` (training examples per class), `validation`
      (examples held out of the training set), `test` (only the first so many test examples), `seed`
      of the split; `model` with `name` and the network's own options (`dtype`: 'float32' or
      'bfloat16' compute).

  Raises:
    ValueError: naming the option that is wrong.
  """
  check_task(config)
  return _task(json.dumps(config['data']), json.dumps(config['model']))


@functools.lru_cache(maxsize=64)
def _task(data, model) -> Task:
  (dataset, *splits, mean, std), m = _splits(data), json.loads(model)
  dtype = m.pop('dtype', 'float32')
  module = models.create(m.pop('name'), dataset.num_classes, dtype=jnp.dtype(dtype), **m)
  return Task(dataset, *splits, module, bind(module, mean=mean, std=std))


@functools.lru_cache(maxsize=4)
def _splits(data):
  d = json.loads(data)
  dataset = _load(
    d.get('name'), d.get('folder') or None, d.get('size') or None, d.get('shrink') or 1
  )
  train, seed = dataset.train, d.get('seed', 0)
  train, validation = hold_out(train, d.get('validation') or 0, seed)
  if d.get('per_class'):
    train = per_class(train, d['per_class'], seed)
  test = first(dataset.test, d['test']) if d.get('test') else dataset.test
  _check_dataset(dataset, train, test)
  return dataset, train, validation, test, *dataset.mean_std()


def _check_dataset(dataset, train, test):
  for split, what in ((train, 'training'), (test, 'test')):
    if not split:
      raise ValueError(
        f'The set {dataset.name!r} has no {what} images; a study needs both training and test '
        'images: make the set again with some (of a folder, a tenth is held out for the test).'
      )
    if split.labels.min() < 0:
      raise ValueError(f'The set {dataset.name!r} has {what} images without a label (-1); leave '
                       'them out of the set.')
  if dataset.num_classes < 2:
    raise ValueError(f'The set {dataset.name!r} has the single class {dataset.label_names[0]!r}; '
                     'a classifier needs at least two.')


def check(config: Mapping, workdir=None) -> None:
  """Refuses a configuration that `train` cannot run, where possible before the data is read.

  Args:
    config: as for `train`.
    workdir: of the study; must be apart from the folder of the data.

  Raises:
    ValueError: naming the option that is wrong, or what is wrong with the data.
  """
  check_recipe(config)
  data = config['data']
  if workdir is not None:
    check_apart(workdir, data.get('name'), data.get('folder'))
  _check_run(config, task(config))


def _check_run(config, t):
  _layout(config)  # refuses a batch that the devices do not divide
  check_run(config)
  steps = t.steps(config['epochs'], config['batch_size'])
  check_run(config, t.train.images.shape, steps)


def plan(config: Mapping, gradients: float = 1.0) -> dict:
  """What a training run costs, without running it.

  Args:
    config: as for `train`.
    gradients: gradients per step (2 for SAM).
  """
  t = task(config)
  gradients = adversary.cost(config.get('adversary'), gradients)
  images = t.steps(config['epochs'], config['batch_size']) * config['batch_size']
  return cost(t.model, t.dataset.image_shape, 3.0 * images * gradients)


def cost(model: Model, shape: tuple[int, ...], passes: float = 1.0) -> dict:
  """What a plan says of so many forward passes: `{'parameters', 'MACs', 'work'}`.

  Args:
    model: the network.
    shape: (H, W, C) of an image.
    passes: of one image each; a gradient of the weights takes as much as two.
  """
  image = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
  params, model_state = jax.eval_shape(model.init, jax.random.key(0), image)
  macs = flops.count(lambda p, s, x: model.apply(p, s, x)[0], params, model_state, image).macs
  return {'parameters': count_params(params), 'MACs': int(macs), 'work': macs * passes}


def train(
  config: Mapping, seed: int, directory, t: Task | None = None, objective=None, *, frozen=None,
  start=None, stop: int | None = None, transform: BatchTransform | None = None,
  evals: Mapping[str, Callable] | None = None,
) -> dict:
  """Trains one classifier in `directory`, or goes on with it.

  Args:
    config: as for `task`, with `epochs`, `batch_size`, `optimizer` (see `jaxdl.optim.build`), and
      optionally `augment` (see `jaxdl.augment.builders.build`; None for none), `label_smoothing`
      (default 0), `adversary` (attacks to train against, see `jaxdl.train.adversary.method`; None
      for none), `log`, `evaluate` and `checkpoint` (periods in steps).
    seed: of initialisation, data order and augmentation.
    t: the task, when the caller has it already.
    objective: default that of the adversary, or `supervised(t.model.apply)`.
    frozen: handed to the objective and the optimizer, never saved: `{'teacher': ...}`. Where it
      has a 'mask' (see `jaxdl.sparsity.masks`), pruned weights are exactly zero throughout; every
      evaluation counts them again.
    start: applied to the first state, see `jaxdl.train.loop.fit`.
    stop: the last step to make, 1..all; the schedule is that of the whole run.
    transform: applied to a batch after `augment`, and before an adversary: two views, outliers, ...
    evals: name -> function of the state that gives metrics; at every evaluation, beside those of
      the splits.

  Returns:
    `{'steps', 'parameters', 'train': {...}, 'validation': {...} or None, 'test': {...}}`: loss and
    accuracy of the last step's weights (of their average where the optimizer keeps one) over the
    whole splits, the training split without augmentation.
  """
  t = t or task(config)
  _check_run(config, t)
  masked = hasattr(frozen, 'keys') and 'mask' in frozen
  if objective is not None and config.get('label_smoothing'):
    raise ValueError('label_smoothing is for the plain cross-entropy, and this run has an '
                     'objective of its own: leave it out.')
  recipe = _recipe(config, t, objective, masked, transform)
  if stop is not None:
    check_number('stop', stop, 1, recipe.steps, whole=True)
  steps = recipe.steps if stop is None else stop
  if masked:
    masks.check_mask(frozen['mask'], jax.eval_shape(recipe.init, jax.random.key(seed)).params)
  splits = {'validation': t.validation, 'test': t.test} if len(t.validation) else {'test': t.test}
  state = fit(
    init=lambda: recipe.init(jax.random.key(seed)),
    start=_inside(frozen['mask'], start) if masked else start,
    frozen=frozen,
    step=recipe.step,
    data=recipe.data(resident(t.train, config['batch_size'], seed)),
    steps=steps,
    workdir=directory,
    evals={k: functools.partial(_evaluate, t, split) for k, split in splits.items()}
    | _probe(config, t) | dict(evals or {})
    | ({'mask': lambda state: masks.occupancy(state.params, frozen['mask'])} if masked else {}),
    watch=_watch(t, _augment(config, t), seed),
    every=recipe.every,
    layout=_layout(config),
    hparams={'seed': seed, **config},
  )
  return _result(t, state, steps)


def train_together(config: Mapping, seeds: Sequence[int], axis: str, directory) -> list[dict]:
  """What `train` does, for several seeds in one program (see `jaxdl.train.seeds`).

  Args:
    config: as for `train`.
    seeds: of the runs.
    axis: 'vmap' or 'map'.
    directory: gets the checkpoints of all, and metrics named `train/seed0/loss`, ...

  Returns:
    The result of `train` for each seed.
  """
  t = task(config)
  _check_run(config, t)
  recipe = _recipe(config, t)
  splits = {'validation': t.validation, 'test': t.test} if len(t.validation) else {'test': t.test}
  state = fit(
    init=init_over(recipe.init, seeds),
    step=step_over(recipe.step, seeds, axis),
    data=recipe.data(SeedBatches(t.train, config['batch_size'], seeds)),
    steps=recipe.steps,
    workdir=directory,
    evals={
      f'{k}/seed{seed}': lambda state, i=i, split=split: _evaluate(t, split, member(state, i))
      for k, split in splits.items() for i, seed in enumerate(seeds)
    },
    every=recipe.every,
    layout=parallel.Layout(),
    hparams={'seeds': list(seeds), **config},
  )
  return [_result(t, member(state, i), recipe.steps) for i in range(len(seeds))]


def _inside(mask, start):
  """`start`, and then every pruned weight zero, in the average of the weights too."""

  def started(state):
    state = state if start is None else start(state)
    return reset_ema(state.replace(params=masks.apply(state.params, mask)))

  return started


class _Recipe(NamedTuple):
  init: Callable
  step: Callable
  data: Callable
  steps: int
  every: Every


def _augment(config, t):
  options = config.get('augment')
  if not options:
    return None
  # The mean colour takes a pass over the set: only where something is filled with it.
  fill = t.dataset.mean_std()[0] if set(options) - set(builders.CROP) else 0.0
  return builders.build(options, t.dataset.num_classes, fill)


def _recipe(config, t, objective=None, masked=False, transform=None):
  """What one run is made of, apart from its seed."""
  steps, optimizer = t.steps(config['epochs'], config['batch_size']), dict(config['optimizer'])
  tx = build(optimizer, steps, masked)
  loss = functools.partial(cross_entropy, smoothing=config.get('label_smoothing') or 0.0)
  method = adversary.Method(None, supervised(t.model.apply, loss))
  model_init, shape = t.model.init, t.dataset.image_shape
  if config.get('adversary'):
    method = adversary.method(config['adversary'], t.model.apply)
    if config['adversary']['name'] == 'free':
      tx = free_adversarial(tx, config['adversary']['eps'])
      model_init = with_delta(model_init, (config['batch_size'], *shape))
  links = [link for link in (_augment(config, t), transform, method.transform) if link is not None]
  step = grad_step(
    objective or method.objective, tx,
    transform=(links[0] if len(links) == 1 else compose(*links)) if links else None,
    schedules={'learning_rate': learning_rate(optimizer, steps)},
    replays=method.replays,
  )
  periods = (config.get(k, p) for k, p in (('log', 100), ('evaluate', 0), ('checkpoint', 1000)))
  init = lambda key: init_state(model_init, tx, key, jnp.zeros((1, *shape)))
  data = lambda data: Replayed(data, method.replays) if method.replays > 1 else data
  return _Recipe(init, step, data, steps, Every(*periods, keep=2))


def _layout(config):
  perturbation = config['optimizer'].get('perturbation') or {}
  return parallel.layout(config['batch_size'], perturbation.get('microbatches') or 1)


def _evaluate(t, split, state):
  return classification(predict(t.model, *evaluation_weights(state), split.images), split.labels)


def _probe(config, t):
  """The check for catastrophic overfitting (Wong et al. 2020, section 5.4): where a network has
  learnt to fool FGSM, its accuracy under PGD falls to nothing while that under FGSM rises."""
  options = config.get('adversary') or {}
  if not options.get('probe'):
    return {}
  split, norm = first(t.train, options['probe']), options.get('norm') or 'linf'
  attacks = {'fgsm': fgsm(options['eps'], norm), 'pgd': pgd(options['eps'], 10, norm=norm)}

  def probe(state):
    weights = evaluation_weights(state)
    return {
      f'{name}_accuracy': float(
        robust(t.model, *weights, *split[:2], attack, jax.random.key(0)).mean()
      )
      for name, attack in attacks.items()
    }

  return {'probe': probe}


def _result(t, state, steps):
  return {
    'steps': steps,
    'parameters': count_params(network_of(state.params)),
    'train': _evaluate(t, t.train, state),
    'validation': _evaluate(t, t.validation, state) if len(t.validation) else None,
    'test': _evaluate(t, t.test, state),
  }


def evaluation_weights(state: TrainState):
  """`(params, model_state)` to evaluate: the average of the weights where one is kept.

  Batch statistics stay those of the raw weights; `jaxdl.landscape.recalibrate` recomputes them.
  """
  try:
    return ema_params(state.opt_state), state.model_state
  except ValueError:
    return network_of(state.params), state.model_state


def load_weights(directory):
  """`evaluation_weights` of a run's newest checkpoint, as NumPy arrays.

  Args:
    directory: a stage's folder.

  Raises:
    FileNotFoundError: when there is no complete checkpoint.
  """
  state = load_state(directory)
  # Orbax returns named tuples as dicts.
  is_average = lambda x: isinstance(x, dict) and set(x) == set(ParamsEmaState._fields)
  found = jax.tree.leaves(state['opt_state'], is_leaf=is_average)
  averages = [x['ema'] for x in found if is_average(x)]
  return averages[0] if averages else network_of(state['params']), state.get('model_state') or {}


def _watch(t: Task, augment, seed):
  """Writes a grid of augmented training images once, and histograms of the kernels."""
  some = first(t.train, 16)
  batch = {'image': unit_range(jnp.asarray(some.images)), 'label': jnp.asarray(some.labels)}
  shown = []

  def watch(writer, n, state):
    if not shown:
      shown.append(n)
      augmented = batch
      if augment:
        key = jax.random.key(seed)
        augmented = jax.jit(lambda batch: augment(None, None, batch, key, None))(batch)
      writer.images(n, {'train/augmented': augmented['image']})
    kernels = {
      jax.tree_util.keystr(path, simple=True, separator='/'): leaf
      for path, leaf in jax.tree_util.tree_flatten_with_path(state.params)[0]
      if is_kernel(path)
    }
    writer.histograms(n, {f'kernels/{k}': v for k, v in kernels.items()})

  return watch
