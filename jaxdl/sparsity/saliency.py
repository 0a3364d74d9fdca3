"""Which weights to keep, told from gradients: SNIP, GraSP, SynFlow and a Taylor expansion.

SNIP (Lee et al. 2019, arXiv 1810.02340, equation 5), GraSP (Wang et al. 2020, arXiv 2002.07376,
equation 8), SynFlow (Tanaka et al. 2020, arXiv 2006.05467, algorithm 1), Taylor (a weight's share
of the first-order change of the loss, after Molchanov et al. 2019, arXiv 1906.10771, equation 8).
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.core import Model, PyTree
from jaxdl.data.pipeline import unit_range
from jaxdl.losses.classification import cross_entropy
from jaxdl.optim.leaves import is_multiplicative, leaf_name
from jaxdl.options import check_name, check_number
from jaxdl.sparsity import masks
from jaxdl.train import interrupt

NAMES = ('snip', 'grad', 'grasp', 'taylor', 'synflow')
TEMPERATURE = 200.0  # of GraSP's softmax
TAYLOR_BATCH = 100


def scores(
  name: str, model: Model, params: PyTree, model_state: PyTree, images, labels, key=None
) -> PyTree:
  """The saliency of every weight w with gradient g; higher is kept.

  - 'snip': |g w|, 'grad': |g|, of the mean loss of all images as one batch. Batch norm in train
    mode: at initialisation, where they belong, its running statistics mean nothing.
  - 'grasp': w (H g), so that what is removed lowers the gradient's norm least. The logits are
    divided by 200, the images cut into two halves of the same classes; g is the sum of their
    gradients, and so is the Hessian. Batch norm in train mode. The authors' code draws the
    weights of dense layers anew before it scores them; here they are what they will start from.
  - 'taylor': (g w)^2 summed over batches of 100 images, at trained weights, batch norm in eval
    mode.
  - 'synflow': |w dR/dw|, R the sum of the outputs for an image of ones, where every weight is
    |w|, biases and batch means are nothing and batch norm scales by its running variance: one
    linear map. No data: only the shape of `images` counts. Take `bind(module)` as the model,
    without the normalisation of images.

  Args:
    name: one of `NAMES`.
    model: a `Model` with outputs `(logits, features)`.
    params: its parameters; pruned weights are zero.
    model_state: its state.
    images: [N, H, W, C], uint8 or float in [0, 1]. The papers take 10 of each class (GraSP) and
      at least 100 (SNIP).
    labels: int [N].
    key: for models with dropout.

  Returns:
    A tree of float32 arrays like the parameters.

  Raises:
    ValueError: an unknown name; GraSP with a class of a single image; SynFlow with a model that
      is not linear in the way above, or whose output is beyond float32 either way.
  """
  check_name('saliency', name, NAMES)
  if name == 'synflow':
    return _synflow(model, params, model_state, jnp.shape(images)[1:])
  images, labels = jnp.asarray(images), jnp.asarray(labels)
  if name == 'taylor':
    return _taylor(model, params, model_state, images, labels)
  if name == 'grasp':
    halves = [(images[half], labels[half]) for half in _halves(np.asarray(labels))]
    return _grasp(model, params, model_state, halves, key)
  g = _gradient(model, params, model_state, images, labels, key)
  if name == 'grad':
    return jax.tree.map(jnp.abs, g)
  return jax.tree.map(lambda g, w: jnp.abs(g * w), g, params)


def mask(
  name: str, model: Model, params: PyTree, model_state: PyTree, images, labels, mask: PyTree,
  allowed: PyTree, keep: float, scope: str = 'global', key=None, rounds: int | None = None,
) -> PyTree:
  """The mask that a saliency chooses among the weights that are still kept.

  Args:
    name: one of `NAMES`, and the arguments up to `labels` as in `scores`.
    mask: the present mask; the weights it removes are zero while the scores are taken.
    allowed: from `masks.prunable`.
    keep: fraction of the still kept weights to keep, in (0, 1].
    scope: 'global' (as in the papers) or 'layer'.
    key: for models with dropout.
    rounds: the density falls exponentially to `keep` in so many rounds of scores and pruning;
      default 100 for SynFlow and 1 for the others, as in the papers.

  Returns:
    The new mask. See `layer_densities` for the layers that it may have cut off.

  Raises:
    ValueError: as `scores` and `masks.prune`; rounds below 1.
  """
  check_name('saliency', name, NAMES)
  check_number('The fraction of weights to keep', keep, above=0, most=1)
  rounds = rounds or (100 if name == 'synflow' else 1)
  check_number('The rounds of pruning', rounds, 1, whole=True)
  at_start = left = _kept(mask, allowed)
  for i in range(1, rounds + 1):
    interrupt.poll()
    values = scores(name, model, masks.apply(params, mask), model_state, images, labels, key)
    wanted = max(1, round(at_start * keep ** (i / rounds)))
    mask = masks.prune(values, mask, allowed, wanted / left, scope)
    left = _kept(mask, allowed)
  return mask


def _kept(mask, allowed):
  return sum(kept for kept, _ in masks.counts(mask, allowed).values())


def layer_densities(mask: PyTree, allowed: PyTree) -> dict[str, float]:
  """Path of each prunable leaf -> its kept fraction; 0 is a collapsed layer, which nothing passes.

  The smallest value is the check for layer collapse of Tanaka et al. (section 3).
  """
  return {name: kept / of for name, (kept, of) in masks.counts(mask, allowed).items()}


def _loss(model, model_state, x, y, key, train=True, temperature=1.0):
  def loss(params):
    (logits, _), _ = model.apply(params, model_state, x, train=train, key=key)
    return jnp.mean(cross_entropy(logits / temperature, y))

  return loss


@functools.partial(jax.jit, static_argnames='model')
def _gradient(model, params, model_state, images, labels, key):
  return jax.grad(_loss(model, model_state, unit_range(images), labels, key))(params)


@functools.partial(jax.jit, static_argnames='model')
def _grasp(model, params, model_state, halves, key):
  def loss(params):
    parts = [
      _loss(model, model_state, unit_range(x), y, key, temperature=TEMPERATURE)(params)
      for x, y in halves
    ]
    return sum(parts)

  gradient = jax.grad(loss)
  _, product = jax.jvp(gradient, (params,), (gradient(params),))
  return jax.tree.map(jnp.multiply, params, product)


def _halves(labels):
  """Two lists of places with the same number of examples of each class (an odd one is left)."""
  halves = [], []
  for label in np.unique(labels):
    of_class = np.flatnonzero(labels == label)
    if len(of_class) < 2:
      raise ValueError(f'GraSP cuts the images into two halves of the same classes, and class '
                       f'{label} has a single one: pass at least two of each, the same number.')
    n = len(of_class) // 2
    halves[0].extend(of_class[:n])
    halves[1].extend(of_class[n : 2 * n])
  return [np.asarray(half) for half in halves]


@functools.partial(jax.jit, static_argnames='model')
def _taylor(model, params, model_state, images, labels):
  size = min(TAYLOR_BATCH, len(images))
  batches = len(images) // size
  cut = lambda a: a[: batches * size].reshape(batches, size, *a.shape[1:])

  def add(total, batch):
    x, y = batch
    g = jax.grad(_loss(model, model_state, unit_range(x), y, None, train=False))(params)
    return jax.tree.map(lambda t, g, w: t + (g * w) ** 2, total, g, params), None

  zeros = jax.tree.map(jnp.zeros_like, params)
  return jax.lax.scan(add, zeros, (cut(images), cut(labels)))[0]


# The image of ones and the sum of the outputs are scaled by the same number: a gain of up to 1e76
# then stays within float32 in both passes, and the scores, linear in both, keep their order.
SCALES = (1.0, 1e-19, 1e-36)


def _synflow(model, params, model_state, shape):
  for scale in SCALES:
    values, output, twice = _flow(model, params, model_state, jnp.zeros((1, *shape)), scale)
    if not np.isfinite(twice):
      continue
    overflowed = scale != SCALES[0]
    if not np.isclose(twice, 2 * output, rtol=1e-3, atol=0) or (overflowed and output == 0):
      raise ValueError('SynFlow feeds the network an image of ones and needs it to be linear: pass '
                       'bind(module), without the mean and the standard deviation of the images.')
    if all(np.isfinite(v).all() for v in jax.tree.leaves(values)):
      return values
  raise ValueError('SynFlow: the product of the weights along the depth of this network is beyond '
                   'float32 even when rescaled; scale its weights down (the scores do not change).')


@functools.partial(jax.jit, static_argnames='model')
def _flow(model, params, model_state, blank, scale):
  """(scores, output of `scale` ones, output of twice that) of the linear network."""

  def linear(path, w):
    return jnp.abs(w) if is_multiplicative(path) else jnp.zeros_like(w)

  def statistic(path, s):
    return jnp.zeros_like(s) if leaf_name(path) == 'mean' else jnp.abs(s)

  weights = jax.tree_util.tree_map_with_path(linear, params)
  state = jax.tree_util.tree_map_with_path(statistic, model_state)

  def flow(weights, x):
    (logits, _), _ = model.apply(weights, state, x, train=False)
    return scale * jnp.sum(logits)

  output, g = jax.value_and_grad(flow)(weights, blank + scale)
  values = jax.tree.map(lambda g, w: jnp.abs(g * w), g, weights)
  return values, output, flow(weights, blank + 2 * scale)
