"""How a trained network bears moved weights: by chance (Gaussian) and at worst (ascent).

Absolute sizes are confounded by the weight norm, to which networks with BatchNorm are invariant:
compare models by relative noise, or report the weight norm beside.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from jaxdl.landscape.dataset import mean_loss, mean_loss_and_grad, mean_metrics
from jaxdl.landscape.recalibration import recalibrate
from jaxdl.losses.classification import cross_entropy
from jaxdl.optim.weight_noise import gaussian_noise


def gaussian_accuracy(
  model, params, model_state, images, labels, sigmas, key, *, draws=20, relative=False, mask=None,
  calibration_images=None, chunk=125, loss=cross_entropy,
):
  """Accuracy and loss at w + noise, for each sigma, over several draws.

  Draw d uses one key at every sigma, so that curves over sigma, and models compared under one
  key, are paired. Cost: `len(sigmas) * draws` forward passes over the images.

  Args:
    model: a `jaxdl.core.Model` whose outputs are `(logits, features)`.
    params: its parameters.
    model_state: its state.
    images: uint8 [N, H, W, C], or float in [0, 1].
    labels: int [N].
    sigmas: float [S], traced. Absolute: the noise's standard deviation. Relative: in units of
      each tensor's root mean square, N(0, (sigma * ||w|| / sqrt(n))^2).
    key: typed key.
    draws: noise samples for each sigma.
    relative: the meaning of `sigmas`.
    mask: params -> tree of bools, True where noise goes (`jaxdl.optim.leaves.kernels_mask`);
      None: all. A function defined anew for each call compiles anew.
    calibration_images: training images [M, H, W, C] from which the BatchNorm statistics are
      recomputed after each draw, as by `recalibrate`; None keeps the trained ones.
    chunk: images per forward pass.
    loss: (logits, labels) -> [B].

  Returns:
    Dict of float arrays: `accuracy`, `accuracy_std`, `loss`, `loss_std` [S] (mean and sample
    standard deviation over draws, 0 for a single draw) and `accuracies`, `losses` [S, draws].
  """
  return _gaussian_accuracy(
    model, params, model_state, images, labels, jnp.asarray(sigmas, jnp.float32), key,
    calibration_images, draws=draws, relative=relative, mask=mask, chunk=chunk, loss=loss,
  )


@functools.partial(jax.jit, static_argnames=('model', 'draws', 'relative', 'mask', 'chunk', 'loss'))
def _gaussian_accuracy(
  model, params, model_state, images, labels, sigmas, key, calibration_images, *,
  draws, relative, mask, chunk, loss,
):
  def one(sigma_and_draw):
    sigma, draw = sigma_and_draw
    noise = gaussian_noise(jax.random.fold_in(key, draw), params, sigma, relative, mask)
    noisy = jax.tree.map(jnp.add, params, noise)
    state = model_state
    if calibration_images is not None:
      state = recalibrate(model, noisy, state, calibration_images)
    return mean_metrics(model, noisy, state, images, labels, chunk=chunk, loss=loss)

  size = len(sigmas)
  cells = (jnp.repeat(sigmas, draws), jnp.tile(jnp.arange(draws), size))
  rows = jax.tree.map(lambda x: x.reshape(size, draws), lax.map(one, cells))
  spread = lambda x: x.std(1, ddof=1) if draws > 1 else jnp.zeros(size)
  return {
    'accuracy': rows['accuracy'].mean(1), 'accuracy_std': spread(rows['accuracy']),
    'loss': rows['loss'].mean(1), 'loss_std': spread(rows['loss']),
    'accuracies': rows['accuracy'], 'losses': rows['loss'],
  }


class WorstCase(NamedTuple):
  """What `worst_case` found.

  Attributes:
    params: w + eps*, a tree like the parameters.
    sharpness: L(w + eps*) - L(w), never negative.
    loss: L(w + eps*) over the subset.
    clean_loss: L(w) over the subset.
  """

  params: Any
  sharpness: jax.Array
  loss: jax.Array
  clean_loss: jax.Array


def worst_case(
  model, params, model_state, images, labels, rho, key, *, norm='l2', steps=20, step_size=2.5,
  start=0.1, mask=None, chunk=125, loss=cross_entropy,
):
  """The weights within `rho` that raise the loss most: projected steepest ascent.

  `argmax L(w + eps)` over `||eps||_p <= rho` (the inner problem of Foret et al. 2010.01412,
  equation 1) from a random start, the best iterate kept, w itself among them. One norm spans all
  parameters, BatchNorm and biases included, unless `mask` leaves them out. Cost: `steps` gradients
  and two evaluations over the images; a new `rho` does not compile again.

  Args:
    model: a `jaxdl.core.Model` whose outputs are `(logits, features)`; it runs in eval mode.
    params: its parameters.
    model_state: its state.
    images: a fixed subset, uint8 [N, H, W, C] or float in [0, 1].
    labels: int [N].
    rho: radius, 0 or more, traced. 0 returns `params`.
    key: typed key of the random start.
    norm: 'l2' or 'linf'.
    steps: gradients taken.
    step_size: the length of all steps together, in units of rho.
    start: the size of the random start, in units of rho.
    mask: params -> tree of bools, True where weights may move, as in `gaussian_accuracy`.
    chunk: images per gradient.
    loss: (logits, labels) -> [B].

  Returns:
    `WorstCase`.

  Raises:
    ValueError: an unknown norm.
  """
  if norm not in _GEOMETRIES:
    raise ValueError(f"norm is {norm!r}: pass 'l2' or 'linf'.")
  return _worst_case(
    model, params, model_state, images, labels, rho, key, step_size, start,
    norm=norm, steps=steps, mask=mask, chunk=chunk, loss=loss,
  )


@functools.partial(jax.jit, static_argnames=('model', 'norm', 'steps', 'mask', 'chunk', 'loss'))
def _worst_case(
  model, params, model_state, images, labels, rho, key, step_size, start, *,
  norm, steps, mask, chunk, loss,
):
  direction, project, sample = _GEOMETRIES[norm]
  arrays = (model_state, images, labels)
  moved = lambda eps: jax.tree.map(jnp.add, params, eps)
  chosen = jax.tree.map(lambda _: True, params) if mask is None else mask(params)
  masked = lambda tree: jax.tree.map(lambda m, x: x if m else jnp.zeros_like(x), chosen, tree)
  value = lambda eps: mean_loss(model, moved(eps), *arrays, chunk=chunk, loss=loss)

  def keep_better(best, eps, at_eps):
    best_eps, best_loss = best
    better = at_eps > best_loss  # False for NaN
    pick = lambda new, old: jnp.where(better, new, old)
    return jax.tree.map(pick, eps, best_eps), pick(at_eps, best_loss)

  def step(carry, _):
    eps, best = carry
    at_eps, grads = mean_loss_and_grad(model, moved(eps), *arrays, chunk=chunk, loss=loss)
    best = keep_better(best, eps, at_eps)
    ascent = direction(masked(grads))
    eps = jax.tree.map(lambda e, d: e + step_size * rho / steps * d, eps, ascent)
    return (project(eps, rho), best), None

  nowhere = jax.tree.map(jnp.zeros_like, params)
  clean = value(nowhere)
  first = project(jax.tree.map(lambda d: start * rho * d, sample(key, params, masked)), rho)
  (eps, best), _ = lax.scan(step, (first, (nowhere, clean)), None, length=steps)
  eps, worst = keep_better(best, eps, value(eps))
  return WorstCase(moved(eps), worst - clean, worst, clean)


def _unit(tree):
  """The tree over its global norm; zero stays zero."""
  norm = optax.tree.norm(tree)
  return jax.tree.map(lambda x: x / jnp.where(norm > 0, norm, 1), tree)


def _onto_sphere(eps, rho):
  norm = optax.tree.norm(eps)
  scale = jnp.where(norm > rho, rho / jnp.where(norm > 0, norm, 1), 1)
  return jax.tree.map(lambda e: e * scale, eps)


def _into_cube(eps, rho):
  return jax.tree.map(lambda e: jnp.clip(e, -rho, rho), eps)


def _random_unit(key, params, masked):
  return _unit(masked(optax.tree.random_like(key, params, jax.random.normal)))


def _random_cube(key, params, masked):
  uniform = lambda key, shape, dtype: jax.random.uniform(key, shape, dtype, -1, 1)
  return masked(optax.tree.random_like(key, params, uniform))


# norm -> (steepest ascent direction of unit size, projection onto the ball, random start)
_GEOMETRIES = {
  'l2': (_unit, _onto_sphere, _random_unit),
  'linf': (lambda tree: jax.tree.map(jnp.sign, tree), _into_cube, _random_cube),
}
