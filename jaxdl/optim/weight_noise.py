"""Gaussian noise on the weights, for training with it and for measuring what it costs."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from jaxdl.core import Array, PyTree
from jaxdl.options import check_number


def gaussian_noise(
  key: Array,
  params: PyTree,
  sigma: float | Array,
  relative: bool = False,
  mask: PyTree | Callable[[PyTree], PyTree] | None = None,
) -> PyTree:
  """A draw of noise for every parameter.

  Args:
    key: typed key. Leaf i (in the order of `jax.tree.leaves`) uses `fold_in(key, i)`, so a leaf's
      noise does not depend on the mask.
    params: float arrays.
    sigma: standard deviation. Absolute, in the units of the weights; or, where `relative`, in
      multiples of the tensor's root mean square ||w||_2 / sqrt(n), which makes nets whose weights
      differ in scale comparable.
    relative: see sigma.
    mask: tree of bool like `params`, or a function params -> such a tree; leaves marked False get
      zero noise. None = all leaves get noise.

  Returns:
    Noise in float32, shaped like `params`.
  """
  leaves, treedef = jax.tree.flatten(params)
  mask = mask(params) if callable(mask) else mask
  chosen = [True] * len(leaves) if mask is None else treedef.flatten_up_to(mask)

  def draw(i, w, noisy):
    w = w.astype(jnp.float32)
    deviation = sigma * jnp.sqrt(jnp.mean(jnp.square(w))) if relative else sigma
    noise = deviation * jax.random.normal(jax.random.fold_in(key, i), w.shape)
    return jnp.where(noisy, noise, 0.0)

  return treedef.unflatten(map(draw, range(len(leaves)), leaves, chosen))


def gaussian_weight_noise(
  sigma: float,
  relative: bool = False,
  mask: PyTree | Callable[[PyTree], PyTree] | None = None,
) -> optax.GradientTransformationExtraArgs:
  """Replaces the gradient at w by the gradient at w + noise, drawn anew at every update.

  Naive noise-aware training: the step is applied at w. Needs the extra arguments `grad_fn(params)
  -> grads` and `key`, a typed key that differs from step to step; where the key differs between
  devices, every device draws its own noise and the gradients are averaged.

  Args:
    sigma: standard deviation, see `gaussian_noise`; 0 is exactly the plain gradient.
    relative: see `gaussian_noise`.
    mask: see `gaussian_noise`.

  Raises:
    ValueError: sigma is negative; at the first update, a missing extra argument.
  """
  check_number('sigma', sigma, 0)
  if sigma == 0:
    return optax.with_extra_args_support(optax.identity())

  def init(params):
    del params
    return optax.EmptyState()

  def update(updates, state, params=None, *, grad_fn=None, key=None, **extra):
    del updates, extra
    if params is None or grad_fn is None or key is None:
      raise ValueError(
        'gaussian_weight_noise needs the parameters, their gradient function and a key: call '
        'tx.update(grads, opt_state, params, grad_fn=grad_fn, key=key), as '
        'jaxdl.train.step.grad_step does.'
      )
    noise = gaussian_noise(jax.random.fold_in(key, 0x9A55), params, sigma, relative, mask)
    grads = grad_fn(jax.tree.map(lambda w, e: (w + e).astype(w.dtype), params, noise))
    return jax.tree.map(lambda g, w: g.astype(w.dtype), grads, params), state

  return optax.GradientTransformationExtraArgs(init, update)
