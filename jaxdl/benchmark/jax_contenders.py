"""JAX at work: one training step, inference, the input path; for attacks see `jax_attacks`."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl import models, parallel
from jaxdl.attacks import classifier
from jaxdl.augment import builders, crop_flip, simclr_augment
from jaxdl.benchmark import jax_attacks
from jaxdl.benchmark.set_up import batch_of, facts, random_split, use
from jaxdl.benchmark.work import Work
from jaxdl.core import bind, init_state
from jaxdl.data import resident
from jaxdl.data.pipeline import unit_range
from jaxdl.losses.classification import cross_entropy
from jaxdl.objectives import distilled, supervised
from jaxdl.objectives.distilled import cached, teacher_logits
from jaxdl.objectives.distilled import network as asked
from jaxdl.optim import build
from jaxdl.sparsity import masks
from jaxdl.train.adversary import method
from jaxdl.train.seeds import init_over, step_over
from jaxdl.train.step import grad_step

SGD = {'name': 'sgd', 'lr': 0.01, 'momentum': 0.9, 'weight_decay': 5e-4}


def train(
  model, batch_size, image=(32, 32, 3), classes=10, dtype='float32', rule=True, devices=1,
  optimizer=SGD, augment=None, adversary=None, quantization=None, density=None,
  input_gradients=0, teacher=None, source='fixed', examples=10_000, calls=1, scan=False,
) -> Work:
  """Updates of a network.

  Args:
    model: `name` and the network's own options.
    batch_size: images per update.
    image: [H, W, C].
    classes: K.
    dtype: that of the computation.
    rule: False leaves convolutions as JAX lowers them.
    devices: 1 for the plain program; else as `parallel.configure` has it (0: all).
    optimizer: see `jaxdl.optim.build`.
    augment: see `jaxdl.augment.builders`, 'simclr' for one view of SimCLR's, or None.
    adversary: to train against, see `jaxdl.train.adversary.method`, or None.
    input_gradients: takes so many gradients of the images first, and nothing else of an attack.
    quantization: of the network, see `jaxdl.models.create`, or None.
    density: trains inside a random mask that keeps this fraction of the weights; None for none.
    teacher: distillation from a network of the same kind that is asked at every step ('network'),
      or whose logits come with the batch ('cached'); None for none.
    source: 'fixed' (the same batch again), 'resident' (a set on the device) or 'tf.data'.
    examples: in the set of the latter two.
    calls: updates in one unit of work.
    scan: those updates in one program, with `lax.scan`, instead of one program each.
  """
  layout = use(rule, devices, batch_size)
  masked = density is not None
  if quantization:
    model = {**model, 'quantization': quantization}
  network, state, tx = _network(model, batch_size, image, classes, dtype, optimizer, masked)
  split = random_split(batch_size if source == 'fixed' else examples, image, classes)
  frozen, objective = {}, supervised(network.apply)
  if masked:
    keep = lambda w: jnp.asarray(np.random.default_rng(w.size).random(w.shape) < density)
    frozen['mask'] = jax.tree.map(keep, state.params)
    state = state.replace(params=masks.apply(state.params, frozen['mask']))
  if teacher:
    frozen['teacher'] = network.init(jax.random.key(1), jnp.zeros((1, *image)))
    told = {'network': asked(network.apply), 'cached': cached()}[teacher]
    objective = distilled(network.apply, told, 0.9, 4.0)
    if teacher == 'cached':
      split = teacher_logits(network, *frozen.pop('teacher'), split)
  state, frozen = layout.replicate((state, frozen))
  transform = (
    simclr_augment() if augment == 'simclr' else builders.build(augment, classes, fill=0.5)
  )
  if adversary:
    transform, objective, _ = method(adversary, network.apply)
  if input_gradients:
    transform = along_gradients(network.apply, input_gradients)
  step = grad_step(objective, tx, transform=transform)

  if source == 'tf.data':
    from jaxdl.benchmark.tensorflow_contenders import pipeline

    batches = pipeline(split, batch_size)
    following = lambda: layout.split(next(batches))
  elif source == 'resident':
    data, plain = resident(split, batch_size, seed=0), step
    arrays = layout.replicate(data.arrays)
    step = lambda s, arrays, frozen: plain(
      s, data.batch_at(arrays, s.step, *parallel.part()), frozen
    )
    following = lambda: arrays
  elif source == 'fixed':
    batch = jax.device_put(layout.split(batch_of(split)))
    following = lambda: batch
  else:
    raise ValueError(f"source must be 'fixed', 'resident' or 'tf.data', not {source!r}.")

  def many(state, source, frozen):
    state, metrics = jax.lax.scan(lambda s, _: step(s, source, frozen), state, length=calls)
    return state, jax.tree.map(lambda m: m[-1], metrics)

  update = parallel.compile_step(many if scan else step, layout, resident=source == 'resident')

  def run(n):
    nonlocal state
    for _ in range(n if scan else n * calls):
      state, metrics = update(state, following(), frozen)
    jax.block_until_ready(state)
    return metrics

  metrics = run(1)
  total = jax.tree.reduce(
    lambda a, w: a + float(np.abs(np.asarray(w, np.float64)).sum()), state.params, 0.0
  )
  trained = {**facts(), 'loss': float(metrics['loss']), 'parameters': total}
  run(1)
  return Work(run, calls * batch_size, trained)


def along_gradients(apply, count):
  """A BatchTransform that takes `count` plain steps along the images' gradients, in eval mode: what
  training against PGD has to compute at the least."""

  def transform(params, model_state, batch, key, frozen):
    classify = classifier(apply, params, model_state)
    gradient = jax.grad(lambda x: cross_entropy(classify(x), batch['label']).sum())
    step = lambda _, x: x + 0.01 * gradient(x)
    return {**batch, 'image': jax.lax.fori_loop(0, count, step, batch['image'])}

  return transform


def train_seeds(
  model, batch_size, image=(32, 32, 3), classes=10, dtype='float32', seeds=4, axis='vmap'
) -> Work:
  """Updates of as many networks as there are seeds, as one program on one device.

  Args:
    model, batch_size, image, classes, dtype: as of `train`; the batch is that of each network.
    seeds: how many.
    axis: 'vmap' or 'map', see `jaxdl.train.seeds`.
  """
  use(True, 1, batch_size)
  network, _, tx = _network(model, batch_size, image, classes, dtype)
  init = lambda key: init_state(network.init, tx, key, jnp.zeros((1, *image)))
  step = step_over(grad_step(supervised(network.apply), tx), range(seeds), axis)
  batch = batch_of(random_split(batch_size, image, classes))
  batch = jax.device_put(jax.tree.map(lambda x: np.stack([x] * seeds), batch))
  update, state = parallel.compile_step(step), jax.jit(init_over(init, range(seeds)))()

  def run(n):
    nonlocal state
    for _ in range(n):
      state, _ = update(state, batch)
    jax.block_until_ready(state)

  run(2)
  return Work(run, seeds * batch_size, facts())


def predict(
  model, batch_size, image=(32, 32, 3), classes=10, dtype='float32', rule=True, devices=1
) -> Work:
  """The logits of a batch of uint8 images, batch norm in eval mode."""
  layout = use(rule, devices, batch_size)
  network, state, _ = _network(model, batch_size, image, classes, dtype)
  variables = layout.replicate((state.params, state.model_state))
  images = jax.device_put(layout.scatter(random_split(batch_size, image, classes).images))

  @jax.jit
  def forward(variables, images):
    return network.apply(*variables, unit_range(images), train=False)[0][0]

  def run(n):
    for _ in range(n):
      logits = forward(variables, images)
    jax.block_until_ready(logits)

  run(2)
  return Work(run, batch_size, facts())


def resident_input(batch_size, image=(32, 32, 3), classes=10, examples=10_000, pad=4) -> Work:
  """Augmented batches of a set that lives on the device, without any training."""
  use(True, 1, batch_size)
  data = resident(random_split(examples, image, classes), batch_size, seed=0)
  augment = crop_flip(pad)

  @jax.jit
  def batch_at(arrays, n):
    key = jax.random.fold_in(jax.random.key(0), n)
    return augment(None, None, data.batch_at(arrays, n), key, None)

  position = 0

  def run(n):
    nonlocal position
    for _ in range(n):
      jax.block_until_ready(batch_at(data.arrays, position))
      position += 1

  run(2)
  return Work(run, batch_size, facts())


def _network(model, batch_size, image, classes, dtype, optimizer=SGD, masked=False):
  options = {'dtype': jnp.dtype(dtype), **model}
  network = bind(models.create(options.pop('name'), classes, **options), mean=0.5, std=0.25)
  tx = build(optimizer, 1000, masked)
  init = lambda: init_state(network.init, tx, jax.random.key(0), jnp.zeros((1, *image)))
  return network, jax.jit(init)(), tx


CONTENDERS = {
  'train': train, 'seeds': train_seeds, 'predict': predict, 'input': resident_input,
  **jax_attacks.CONTENDERS,
}
