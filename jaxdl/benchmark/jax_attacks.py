"""The library's own attacks at work, on the same network and images as those of others."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl import attacks, models, parallel
from jaxdl.attacks.evaluate import over_devices
from jaxdl.benchmark import victim as victims
from jaxdl.benchmark.set_up import facts, use
from jaxdl.benchmark.work import Work
from jaxdl.core import bind
from jaxdl.data.pipeline import unit_range
from jaxdl.losses.classification import cross_entropy
from jaxdl.train.evaluate import predict


def pgd(
  victim, batch_size, dtype='float32', rule=True, devices=1, steps=10, eps=8 / 255, alpha=2 / 255,
  only_gradients=False,
) -> Work:
  """PGD in an L-infinity ball, from one random start, the last image kept.

  Args:
    victim: path of a `jaxdl.benchmark.victim.Victim`.
    batch_size: its first images, attacked together.
    dtype, rule, devices: as of `jax_contenders.train`.
    steps, eps, alpha: of the attack.
    only_gradients: nothing but the gradients that it takes, in the same kind of loop.
  """
  layout = use(rule, devices, batch_size)
  network, variables, images, labels = _load(victim, batch_size, dtype)
  shared = layout.replicate(variables)
  x0, y = jax.device_put(layout.scatter((np.asarray(unit_range(images)), labels)))
  attack = attacks.pgd(eps, steps, alpha, keep_best=False)

  def run_attack(variables, key, images, labels):
    classify = attacks.classifier(network.apply, *variables)
    return attack(classify, images, labels, parallel.device_key(key))

  def gradients(variables, key, images, labels):
    classify = attacks.classifier(network.apply, *variables)
    gradient = jax.grad(lambda x: cross_entropy(classify(x), labels).sum())
    return jax.lax.fori_loop(0, steps, lambda _, x: x + gradient(x), images)

  program = over_devices(gradients if only_gradients else run_attack, layout, 2, 2)

  def run(n):
    for i in range(n):
      x = program(shared, layout.replicate(jax.random.key(i)), x0, y)
    return jax.block_until_ready(x)

  x = run(1)
  strength = {} if only_gradients else _strength(network, variables, images, x, labels)
  return Work(run, batch_size, {**facts(), **strength})


def robustness(victim, images, devices=1, eps=8 / 255, queries=5000, only=()) -> Work:
  """AutoAttack, standard; nothing is warmed up: a unit of work has all of its compilation.

  Args:
    victim: path of a `jaxdl.benchmark.victim.Victim`.
    images: how many of its images.
    devices: as of `jax_contenders.train`.
    eps: radius, L-infinity.
    queries: of Square.
    only: which of its attacks to run; all where empty.
  """
  use(True, devices, images)
  network, variables, x, labels = _load(victim, images, 'float32')
  told = facts()

  def run(n):
    for _ in range(n):
      found = attacks.autoattack(
        network, *variables, x, labels, eps, attacks=tuple(only) or None, batch=images,
        queries=queries, log=lambda line: None,
      )
    told.update(clean=found.accuracy['clean'], robust=float(found.robust.mean()),
                survives=found.robust.tolist())

  return Work(run, images, told)


def _load(path, count, dtype):
  """(model, its variables, images, labels)."""
  v = victims.load(path, count)
  options = {**v.model, 'dtype': jnp.dtype(dtype)}
  module = models.create(options.pop('name'), v.classes, **options)
  return bind(module, mean=v.mean, std=v.std), (v.params, v.state), v.images, v.labels


def _strength(network, variables, clean, x, labels):
  """What an attack did: accuracy before and after it, and the mean loss that it reached."""
  before, after = (predict(network, *variables, images) for images in (clean, jax.device_get(x)))
  return {
    'clean': float((before.argmax(-1) == labels).mean()),
    'robust': float((after.argmax(-1) == labels).mean()),
    'loss under attack': float(cross_entropy(after, labels).mean()),
  }


CONTENDERS = {'pgd': pgd, 'robustness': robustness}
