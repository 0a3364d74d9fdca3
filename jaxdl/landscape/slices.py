"""Loss along filter-normalised random directions (Li et al. 2018, 1712.09913, section 4)."""

import functools

import jax
import jax.numpy as jnp
import optax
from jax import lax

from jaxdl.landscape.dataset import mean_metrics
from jaxdl.losses.classification import cross_entropy
from jaxdl.optim.leaves import is_kernel
from jaxdl.train.interrupt import polled


def filter_normalized_direction(key, params):
  """A Gaussian direction whose every filter has the norm of the network's filter.

  A filter is what feeds one output channel: the last axis of a kernel counts filters. Biases and
  normalisation parameters get zero, as in the paper.

  Args:
    key: typed key.
    params: parameter tree.

  Returns:
    A tree like `params`.
  """

  def one(path, w, noise):
    if not is_kernel(path):
      return jnp.zeros_like(w)
    norm = lambda x: jnp.sqrt(jnp.sum(x**2, tuple(range(x.ndim - 1)), keepdims=True))
    size = norm(noise)
    return noise * norm(w) / jnp.where(size > 0, size, 1)

  noise = optax.tree.random_like(key, params, jax.random.normal)
  return jax.tree_util.tree_map_with_path(one, params, noise)


def loss_line(
  model, params, model_state, images, labels, direction, alphas, *, chunk=125, loss=cross_entropy
):
  """Loss and accuracy at `w + alpha * direction`.

  Args:
    model: a `jaxdl.core.Model` whose outputs are `(logits, features)`; it runs in eval mode.
    params: its parameters w.
    model_state: its state.
    images: uint8 [N, H, W, C], or float in [0, 1].
    labels: int [N].
    direction: tree like `params`.
    alphas: float [A]; the paper shows -1 to 1.
    chunk: images per forward pass.
    loss: (logits, labels) -> [B].

  Returns:
    `{'loss', 'accuracy'}`, float [A].
  """
  points = jnp.asarray(alphas, jnp.float32)[:, None]
  return _at_points(
    model, params, model_state, images, labels, (direction,), points, chunk=chunk, loss=loss
  )


def loss_surface(
  model, params, model_state, images, labels, directions, alphas, betas, *, chunk=125,
  loss=cross_entropy,
):
  """Loss and accuracy at `w + alpha * directions[0] + beta * directions[1]` over a grid.

  Args:
    model: as in `loss_line`, and so are the others.
    directions: two trees like `params`.
    alphas: float [A].
    betas: float [B].

  Returns:
    `{'loss', 'accuracy'}`, float [A, B].
  """
  alphas, betas = jnp.asarray(alphas, jnp.float32), jnp.asarray(betas, jnp.float32)
  grid = jnp.stack(jnp.meshgrid(alphas, betas, indexing='ij'), -1)
  row = lambda points: jax.block_until_ready(_at_points(
    model, params, model_state, images, labels, tuple(directions), points, chunk=chunk, loss=loss
  ))
  return jax.tree.map(lambda *rows: jnp.stack(rows), *[row(points) for points in polled(grid)])


@functools.partial(jax.jit, static_argnames=('model', 'chunk', 'loss'))
def _at_points(model, params, model_state, images, labels, directions, points, *, chunk, loss):
  def one(point):
    shifted = lambda w, *ds: w + sum(c * d for c, d in zip(point, ds, strict=True))
    moved = jax.tree.map(shifted, params, *directions)
    return mean_metrics(model, moved, model_state, images, labels, chunk=chunk, loss=loss)

  return lax.map(one, points)
