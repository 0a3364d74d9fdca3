"""Which weights to keep, told from their initial and final values, and what to restart them from.

Zhou et al. 2019, Deconstructing Lottery Tickets (arXiv 1905.01067): mask criteria and mask-1
actions (mask-0 actions: `jaxdl.sparsity.held`). Everything here is on the host, in NumPy.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

from jaxdl.core import PyTree
from jaxdl.options import check_name
from jaxdl.sparsity import masks

_same = lambda i, f: np.sign(i) == np.sign(f)
_grown = lambda i, f: np.abs(f) - np.abs(i)

# name -> (initial, final) -> score of each weight, higher is kept
_SIMPLE = {
  'large_final': lambda i, f: np.abs(f),
  'small_final': lambda i, f: -np.abs(f),
  'large_init': lambda i, f: np.abs(i),
  'small_init': lambda i, f: -np.abs(i),
  'magnitude_increase': _grown,
  'movement': lambda i, f: np.abs(f - i),
  'large_final_same_sign': lambda i, f: np.abs(f) * _same(i, f),
  'large_final_diff_sign': lambda i, f: np.abs(f) * ~_same(i, f),
  'magnitude_increase_same_sign': lambda i, f: _grown(i, f) * _same(i, f),
  'magnitude_increase_diff_sign': lambda i, f: _grown(i, f) * ~_same(i, f),
}
# name -> +1 or -1: the sign of the magnitudes of which both must be large
_BOTH = {'large_init_large_final': 1, 'small_init_small_final': -1}
NAMES = (*_SIMPLE, *_BOTH, 'random')


def scores(name: str, initial: PyTree, final: PyTree, key) -> PyTree:
  """The score of every weight; higher is kept.

  Args:
    name: one of `NAMES`.
    initial: parameters at the start (or at the step that is rewound to).
    final: parameters after training.
    key: of the criterion 'random'.

  Returns:
    A tree of float64 arrays like the parameters. Scores of one layer compare; those of several
    layers too, but for 'large_init_large_final' and 'small_init_small_final', whose scores are
    percentiles within a layer: `mask` takes them over the scope it prunes.

  Raises:
    ValueError: an unknown name.
  """
  check_name('mask criterion', name, NAMES)
  start, end, treedef = _leaves(initial, final)
  if name == 'random':
    draw = _generator(key)
    return treedef.unflatten([draw.random(w.shape) for w in start])
  if name in _BOTH:
    every = [np.ones(w.shape, bool) for w in start]
    groups = [[i] for i in range(len(start))]
    return treedef.unflatten(_shared_percentile(_BOTH[name], start, end, every, groups))
  return treedef.unflatten([_SIMPLE[name](i, f) for i, f in zip(start, end, strict=True)])


def mask(
  name: str, initial: PyTree, final: PyTree, mask: PyTree, allowed: PyTree, keep: float,
  scope: str = 'global', key=None, rates: Mapping[str, float] | None = None,
  like: PyTree | None = None,
) -> PyTree:
  """The mask that a criterion chooses among the weights that are still kept.

  'large_init_large_final' keeps the weights whose initial and final magnitudes both reach the
  percentile t of the kept ones, the same t for both, which the paper's code finds by bisection so
  that the number kept is right. A weight passes exactly while t is at most the smaller of its two
  percentiles, so that number is its score and no search is needed.

  Args:
    name: one of `NAMES`.
    initial, final: parameters at the start and after training.
    mask: the present mask.
    allowed: from `masks.prunable`.
    keep: fraction of the still kept weights to keep, in (0, 1].
    scope: 'global' or 'layer' (as in the paper).
    key: typed key; it breaks ties and draws the random criterion. Default `jax.random.key(0)`.
    rates: as in `masks.prune`.
    like: with the scope 'layer' and a full mask, keep as many weights in every layer as this mask
      does, whatever `keep` and `rates` say: the paper compares criteria at the ticket's layers.

  Returns:
    The new mask; the count is exact, equal scores are chosen at random.

  Raises:
    ValueError: an unknown name or scope, keep out of range, NaN scores.
  """
  check_name('mask criterion', name, NAMES)
  check_name('scope of pruning', scope, masks.SCOPES)
  key = jax.random.key(0) if key is None else key
  value_key, tie_key = jax.random.split(key)
  values = scores(name, initial, final, value_key)
  if name in _BOTH:
    start, end, treedef = _leaves(initial, final)
    kept = [np.asarray(m, bool) for m in treedef.flatten_up_to(mask)]
    chosen = [i for i, a in enumerate(treedef.flatten_up_to(allowed)) if a]
    groups = [chosen] if scope == 'global' else [[i] for i in chosen]
    values = treedef.unflatten(_shared_percentile(_BOTH[name], start, end, kept, groups))
  values = without_ties(values, tie_key)
  if like is not None:
    return masks.prune_like(values, like, allowed)
  return masks.prune(values, mask, allowed, keep, scope, rates)


def without_ties(values: PyTree, key) -> PyTree:
  """The rank of every value over the whole tree, equal ones in random order (float64; NaN stays).

  Args:
    values: tree of float arrays.
    key: typed key.
  """
  leaves, treedef = jax.tree.flatten(values)
  leaves = [np.asarray(x, np.float64) for x in leaves]
  flat = np.concatenate([x.ravel() for x in leaves])
  rank = np.unique(flat, return_inverse=True)[1] + _generator(key).random(flat.size)
  rank = np.where(np.isnan(flat), np.nan, rank)
  cuts = np.cumsum([x.size for x in leaves])[:-1]
  parts = zip(np.split(rank, cuts), leaves, strict=True)
  return treedef.unflatten([part.reshape(x.shape) for part, x in parts])


def _shared_percentile(sign, initial, final, kept, groups):
  """min(percentile of the initial, of the final magnitude) of the kept weights of each group."""
  out = [np.zeros(w.shape) for w in initial]
  for group in groups:
    pool = np.concatenate([kept[i].ravel() for i in group])
    percentiles = []
    for weights in (initial, final):
      size = sign * np.abs(np.concatenate([weights[i].ravel() for i in group]))
      rank = np.zeros(len(pool))
      rank[pool] = scipy.stats.rankdata(size[pool], method='max') / max(1, pool.sum())
      percentiles.append(rank)
    smaller, start = np.minimum(*percentiles), 0
    for i in group:
      out[i] = smaller[start : start + out[i].size].reshape(out[i].shape)
      start += out[i].size
  return out


def _leaves(initial, final):
  start, treedef = jax.tree.flatten(initial)
  end = treedef.flatten_up_to(final)
  exact = lambda leaves: [np.asarray(w, np.float64) for w in leaves]
  return exact(start), exact(end), treedef


def _generator(key):
  return np.random.default_rng(np.asarray(jax.random.key_data(key)))


Draw = Callable[[jax.Array], PyTree]  # key -> freshly initialised parameters


def rewind(initial: PyTree, mask: PyTree, allowed: PyTree, key, draw: Draw) -> PyTree:
  """The initial values: the original lottery ticket."""
  return initial


def reinit(initial: PyTree, mask: PyTree, allowed: PyTree, key, draw: Draw) -> PyTree:
  """A fresh draw of all parameters."""
  return draw(key)


def reinit_same_sign(initial: PyTree, mask: PyTree, allowed: PyTree, key, draw: Draw) -> PyTree:
  """A fresh draw, the prunable weights with the signs they had."""
  return _signed(draw(key), initial, allowed)


def reshuffle(initial: PyTree, mask: PyTree, allowed: PyTree, key, draw: Draw) -> PyTree:
  """The initial values of the kept weights, permuted among them within each layer."""
  generator = _generator(key)

  def permuted(w, m):
    w, m = np.array(w), np.asarray(m, bool)
    w[m] = generator.permutation(w[m])
    return jnp.asarray(w)

  return _where_allowed(permuted, initial, mask, allowed)


def reshuffle_same_sign(initial: PyTree, mask: PyTree, allowed: PyTree, key, draw: Draw) -> PyTree:
  """`reshuffle`, each weight with the sign it had."""
  return _signed(reshuffle(initial, mask, allowed, key, draw), initial, allowed)


def constant(initial: PyTree, mask: PyTree, allowed: PyTree, key, draw: Draw) -> PyTree:
  """One magnitude in each layer, the standard deviation of its initial weights; the signs stay."""
  return _where_allowed(lambda w, m: jnp.sign(w) * jnp.std(w), initial, mask, allowed)


def constant_random_sign(initial: PyTree, mask: PyTree, allowed: PyTree, key, draw: Draw) -> PyTree:
  """`constant` with random signs: what the signs alone are worth."""
  generator = _generator(key)
  sign = lambda w: jnp.asarray(generator.choice((-1.0, 1.0), np.shape(w)), w.dtype)
  return _where_allowed(lambda w, m: sign(w) * jnp.std(w), initial, mask, allowed)


def _where_allowed(change, params, mask, allowed):
  return jax.tree.map(lambda w, m, a: change(w, m) if a else w, params, mask, allowed)


def _signed(params, like, allowed):
  same = lambda w, i, a: jnp.copysign(w, i) if a else w
  return jax.tree.map(same, params, like, allowed)


# Mask-1 actions: what the kept weights of a ticket start from.
# name -> (initial, mask, allowed, key, draw) -> parameters, dense: train them inside the mask
ACTIONS = {
  f.__name__: f
  for f in (rewind, reinit, reinit_same_sign, reshuffle, reshuffle_same_sign, constant,
            constant_random_sign)
}  # fmt: skip
