"""Adversarial training: a batch transform that attacks, and the objectives that need more."""

import jax
import jax.numpy as jnp
import optax
from jax import lax

from jaxdl import parallel
from jaxdl.attacks.ascend import ascend, steepest, step
from jaxdl.attacks.balls import ball
from jaxdl.attacks.victim import ClassifierAttack, Classify, classifier
from jaxdl.core import (
  Apply,
  Array,
  BatchTransform,
  Loss,
  Objective,
  Output,
  example_keys,
)
from jaxdl.losses.classification import correct, cross_entropy


def attacked(apply: Apply, attack: ClassifierAttack, into: str = 'image') -> BatchTransform:
  """Replaces the images of a batch by adversarial ones, made on the current weights in eval mode
  (Madry et al. 2018, arXiv:1706.06083, eq. 2.1: the inner maximisation).

  Args:
    apply: `Model.apply`.
    attack: each image draws from its own key.
    into: the batch's key for them; another than 'image' leaves the clean images there.
  """

  def transform(params, model_state, batch, key, frozen):
    keys = example_keys(key, batch)
    classify = classifier(apply, params, model_state)
    return {**batch, into: attack(classify, batch['image'], batch['label'], keys)}

  return transform


def adversarial(objective: Objective, transform: BatchTransform) -> Objective:
  """An objective that attacks its batch itself, at the weights where it is asked for a gradient.

  As a transform the attack is made once a step, at w; inside the objective SAM meets a new one at
  w + e. No gradient flows through the attack.
  """

  def wrapped(params, model_state, batch, key, frozen):
    still = lax.stop_gradient(params)
    batch = lax.stop_gradient(transform(still, model_state, batch, key, frozen))
    return objective(params, model_state, batch, key, frozen)

  return wrapped


def divergence(log_p: Array, log_q: Array) -> Array:
  """KL(p || q) of each row, in nats: log-probabilities [B, K] -> [B]."""
  return jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)


def trades_attack(eps, steps: int, alpha, norm: str = 'linf') -> ClassifierAttack:
  """Climbs KL(p(x0) || p(x)) from x0 + 0.001 N(0, 1) (Zhang et al. 2019, arXiv:1901.08573,
  algorithm 1, line 7); reads no labels.

  Args:
    eps: radius in pixel units.
    steps: gradients.
    alpha: step length, in the norm of the ball.
    norm: of the ball.
  """
  region = ball(norm, eps)

  def start(keys, x0):
    draw = lambda key: jax.random.normal(key, x0.shape[1:], x0.dtype)
    return region.project(x0 + 1e-3 * jax.vmap(draw)(keys), x0)

  climb = ascend(steps, optax.chain(steepest(region), step(alpha)), region.project, start=start)

  def attack(classify: Classify, x0, labels, key):
    clean = jax.nn.log_softmax(classify(x0))
    return climb(lambda x: divergence(clean, jax.nn.log_softmax(classify(x))), x0, key)

  return attack


def trades(apply: Apply, beta: float) -> Objective:
  """CE(f(x), y) + beta KL(p(x) || p(x')), the mean over the batch (Zhang et al. 2019, eq. 5).

  Reads x' from the batch's 'adversarial' (`attacked(..., into='adversarial')`). The batch
  statistics move with the clean images, then with the adversarial ones; the authors' code passes
  the clean ones a third time, which changes the statistics alone.
  """

  def objective(params, model_state, batch, key, frozen):
    keys = jax.random.split(key)
    run = lambda x, state, key: apply(params, state, x, train=True, key=key)
    (clean, _), model_state = run(batch['image'], model_state, keys[0])
    (moved, _), model_state = run(batch['adversarial'], model_state, keys[1])
    gap = divergence(jax.nn.log_softmax(clean), jax.nn.log_softmax(moved))
    natural = cross_entropy(clean, batch['label'])
    accuracy = correct(clean, batch['label'])
    metrics = {'accuracy': accuracy, 'natural_loss': natural, 'divergence': gap}
    return jnp.mean(natural + beta * gap), Output(model_state, metrics)

  return objective


def free(apply: Apply, loss: Loss = cross_entropy) -> Objective:
  """The loss at image + delta, of which one gradient moves both the network and delta (Shafahi et
  al. 2019, arXiv:1904.12843, algorithm 1).

  Args:
    apply: `Model.apply`, called with `params['network']`; `params['delta']` is [B, H, W, C], B the
      batch over all devices (see `jaxdl.train.free_adversarial`).
    loss: per example.
  """

  def objective(params, model_state, batch, key, frozen):
    image, (number, _) = batch['image'], parallel.part()
    delta = lax.dynamic_slice_in_dim(params['delta'], number * len(image), len(image))
    x = jnp.clip(image + delta, 0, 1)
    (logits, _), model_state = apply(params['network'], model_state, x, train=True, key=key)
    metrics = {'accuracy': correct(logits, batch['label'])}
    return jnp.mean(loss(logits, batch['label'])), Output(model_state, metrics)

  return objective
