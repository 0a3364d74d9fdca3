"""The largest Hessian eigenvalues of the mean loss."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree

from jaxdl.landscape.dataset import hessian_vector_product
from jaxdl.losses.classification import cross_entropy


class Eigenvalues(NamedTuple):
  """What `top_eigenvalues` found.

  Attributes:
    values: float [k], descending; each is below its true eigenvalue or equal to it.
    residuals: float [k], ||H v - value * v|| of the unit Ritz vectors: some eigenvalue of H lies
      within that distance of the value. Small beside the gap to the next value: converged.
    smallest: float scalar, the smallest Ritz value (negative at a saddle).
  """

  values: jax.Array
  residuals: jax.Array
  smallest: jax.Array


def top_eigenvalues(
  model, params, model_state, images, labels, *, key, k=5, iterations=25, chunk=125,
  loss=cross_entropy,
):
  """The algebraically largest eigenvalues of the Hessian of the mean loss, by Lanczos.

  Full reorthogonalisation (float32 would otherwise return copies of the top value). The model
  runs in eval mode. Cost: `iterations` Hessian-vector products over the images, each about two
  gradients; memory: `iterations` copies of the parameters.

  Args:
    model: a `jaxdl.core.Model` whose outputs are `(logits, features)`. It must support forward
      mode in eval mode (no `custom_vjp`).
    params: its parameters, all of them part of the Hessian.
    model_state: its state.
    images: a subset, uint8 [N, H, W, C] or float in [0, 1]; 500-2,000 are usual.
    labels: int [N].
    key: typed key of the start vector.
    k: how many eigenvalues.
    iterations: Krylov dimension, at least k; more than the number of parameters means that number.
    chunk: images per Hessian-vector product.
    loss: (logits, labels) -> [B].

  Returns:
    `Eigenvalues`.

  Raises:
    ValueError: fewer iterations (or parameters) than k.
  """
  size = sum(x.size for x in jax.tree.leaves(params))
  iterations = min(iterations, size)
  if not 1 <= k <= iterations:
    raise ValueError(f'k is {k}: pass 1 to {iterations}, the iterations or the parameters.')
  return _top_eigenvalues(
    model, params, model_state, images, labels, key, k=k, iterations=iterations, chunk=chunk,
    loss=loss,
  )


@functools.partial(jax.jit, static_argnames=('model', 'k', 'iterations', 'chunk', 'loss'))
def _top_eigenvalues(
  model, params, model_state, images, labels, key, *, k, iterations, chunk, loss
):
  flat, unravel = ravel_pytree(params)

  def matvec(v):
    product = hessian_vector_product(
      model, params, model_state, images, labels, unravel(v), chunk=chunk, loss=loss
    )
    return ravel_pytree(product)[0]

  diagonal, below = lanczos(matvec, flat.size, iterations, key, flat.dtype)
  matrix = jnp.diag(diagonal) + jnp.diag(below[:-1], 1) + jnp.diag(below[:-1], -1)
  values, vectors = jnp.linalg.eigh(matrix)
  residuals = jnp.abs(below[-1] * vectors[-1])
  return Eigenvalues(values[::-1][:k], residuals[::-1][:k], values[0])


def lanczos(matvec, size, iterations, key, dtype=jnp.float32):
  """Tridiagonalises a symmetric operator (Golub & Van Loan, Matrix Computations, section 10.3).

  Where the Krylov space is exhausted it continues with a random orthogonal vector, so that the
  tridiagonal matrix keeps holding true eigenvalues only.

  Args:
    matvec: v [size] -> A v [size], A symmetric.
    size: the dimension.
    iterations: 1 to `size`.
    key: typed key of the start vector.
    dtype: of the vectors.

  Returns:
    (diagonal [iterations], off-diagonal [iterations]); the last off-diagonal entry is the norm
    of the residual vector.
  """

  def orthogonal(v, basis):
    for _ in range(2):  # once leaves components of the order of the rounding error amplified
      v = v - basis.T @ (basis @ v)
    return v

  def random_unit(i, basis):
    v = orthogonal(jax.random.normal(jax.random.fold_in(key, i), (size,), dtype), basis)
    return v / jnp.linalg.norm(v)

  def step(carry, i):
    basis, v, scale = carry
    basis = basis.at[i].set(v)
    product = matvec(v)
    along = v @ product
    rest = orthogonal(product, basis)
    norm = jnp.linalg.norm(rest)
    scale = jnp.maximum(scale, jnp.linalg.norm(product))
    exhausted = norm <= 10 * jnp.finfo(dtype).eps * scale
    following = lax.cond(
      exhausted, lambda: random_unit(i + 1, basis), lambda: rest / jnp.where(exhausted, 1, norm)
    )
    return (basis, following, scale), (along, jnp.where(exhausted, 0, norm))

  empty = jnp.zeros((iterations, size), dtype)
  carry = (empty, random_unit(0, empty), jnp.zeros((), dtype))
  return lax.scan(step, carry, jnp.arange(iterations))[1]
