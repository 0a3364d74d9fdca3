"""Pruning masks: trees like the parameters, of bool arrays, True where a weight is kept.

Leaves that are not prunable (biases, normalisation) are True everywhere, so that a mask says
everything about which parameters exist. The counts are exact.
"""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.core import PyTree
from jaxdl.optim.leaves import is_kernel
from jaxdl.options import check_name, check_number

SCOPES = ('global', 'layer')


def path_name(path: tuple) -> str:
  """'stage1_block1/conv1/kernel'."""
  return jax.tree_util.keystr(path, simple=True, separator='/')


def prunable(params: PyTree, ignore: Sequence[str] = ()) -> PyTree:
  """Which leaves may be pruned, a tree of bool: the kernels of convolutions and dense layers.

  Args:
    params: of a Flax model, arrays or shapes.
    ignore: layers (or any part of a path, such as 'head' or 'stem_conv') that keep all weights.

  Raises:
    ValueError: nothing is left to prune, or a name in `ignore` is no part of any path.
  """
  parts = [path_name(path).split('/') for path, _ in jax.tree_util.tree_leaves_with_path(params)]
  for name in ignore:
    check_name('layer to leave unpruned', name, sorted({part for path in parts for part in path}))
  chosen = lambda path, _: is_kernel(path) and not set(ignore) & set(path_name(path).split('/'))
  allowed = jax.tree_util.tree_map_with_path(chosen, params)
  if not any(jax.tree.leaves(allowed)):
    raise ValueError('There is no kernel to prune among these parameters: pass those of a Flax '
                     'model, and leave some of them out of `ignore`.')
  return allowed


def full(params: PyTree) -> PyTree:
  """The mask that keeps everything."""
  return jax.tree.map(lambda w: jnp.ones(jnp.shape(w), bool), params)


def apply(params: PyTree, mask: PyTree) -> PyTree:
  """Pruned weights become exactly zero; NaN and infinity among them too."""
  return jax.tree.map(lambda w, m: jnp.where(m, w, jnp.zeros_like(w)), params, mask)


def counts(mask: PyTree, allowed: PyTree) -> dict[str, tuple[int, int]]:
  """Path of each prunable leaf -> (kept, all) weights."""
  named = jax.tree_util.tree_leaves_with_path(mask)
  return {
    path_name(path): (int(np.count_nonzero(m)), int(np.size(m)))
    for (path, m), a in zip(named, jax.tree.leaves(allowed), strict=True) if a
  }


def density(mask: PyTree, allowed: PyTree) -> float:
  """Kept fraction of the prunable weights."""
  kept, of = np.sum(list(counts(mask, allowed).values()), axis=0)
  return float(kept / of)


def occupancy(params: PyTree, mask: PyTree) -> dict[str, int]:
  """What a mask allows and what is there: `{'kept', 'nonzero', 'revived'}`, numbers of weights.

  Args:
    params: arrays.
    mask: of the same form. 'nonzero' counts within it, 'revived' outside, where there should be
      none.
  """
  pairs = list(zip(jax.tree.leaves(jax.device_get(params)), jax.tree.leaves(mask), strict=True))
  count = lambda f: int(sum(np.count_nonzero(f(np.asarray(w), np.asarray(m))) for w, m in pairs))
  return {
    'kept': count(lambda w, m: m),
    'nonzero': count(lambda w, m: m & (w != 0)),
    'revived': count(lambda w, m: ~m & (w != 0)),
  }


def prune(
  scores: PyTree, mask: PyTree, allowed: PyTree, keep: float, scope: str = 'global',
  rates: Mapping[str, float] | None = None,
) -> PyTree:
  """Keeps the best-scored fraction of the weights that are still kept.

  Exactly round(keep * n) of n stay (at least one, in all and in each layer pruned by itself). Of
  equal scores the first ones in the order of the leaves stay: add noise to the scores where a
  random choice is wanted. What is pruned stays pruned, whatever its score.

  Args:
    scores: float arrays like the parameters; higher is kept. Infinite ones are allowed.
    mask: the present mask.
    allowed: from `prunable`.
    keep: fraction of the still kept weights, in (0, 1].
    scope: 'global' (one threshold over all layers) or 'layer' (the same fraction in each).
    rates: with scope 'layer', layer -> factor of its pruned fraction 1 - keep. A layer is any part
      of a path; Frankle and Carbin (2019) prune the output layer at half the rate:
      `{'head': 0.5}`.

  Returns:
    The new mask.

  Raises:
    ValueError: keep out of range, an unknown scope, a rate that names no layer or prunes more than
      all, NaN among the scores of kept weights.
  """
  check_number('The fraction of weights to keep', keep, above=0, most=1)
  check_name('scope of pruning', scope, SCOPES)
  rates = dict(rates or {})
  if rates and scope != 'layer':
    raise ValueError("Rates of single layers need the scope 'layer'.")
  leaves, treedef = jax.tree_util.tree_flatten_with_path(mask)
  names = [path_name(path).split('/') for path, _ in leaves]
  for layer, rate in rates.items():
    check_name('layer with a rate', layer, sorted({part for path in names for part in path}))
    check_number(f'The rate of {layer!r}', rate, 0, 1 / (1 - keep) if keep < 1 else None)
  masks = [np.array(m, bool) for _, m in leaves]
  values = [np.asarray(s, np.float64) for s in treedef.flatten_up_to(scores)]
  chosen = [i for i, a in enumerate(treedef.flatten_up_to(allowed)) if a]
  for i in chosen:
    _check_ranks('/'.join(names[i]), values[i][masks[i]])
  groups = [chosen] if scope == 'global' else [[i] for i in chosen]
  for group in groups:
    rate = [rate for layer, rate in rates.items() if layer in names[group[0]]]
    left = sum(int(masks[i].sum()) for i in group)
    share = 1 - (1 - keep) * rate[0] if rate else keep
    _prune_group(values, masks, group, max(1, round(share * left)) if left else 0)
  return treedef.unflatten([jnp.asarray(m) for m in masks])


def prune_like(scores: PyTree, like: PyTree, allowed: PyTree) -> PyTree:
  """The best weights of every layer, as many of them as another mask keeps there.

  Args:
    scores: as for `prune`.
    like: the mask whose counts are kept.
    allowed: from `prunable`.

  Raises:
    ValueError: NaN among the scores.
  """
  leaves, treedef = jax.tree_util.tree_flatten_with_path(like)
  values = [np.asarray(s, np.float64) for s in treedef.flatten_up_to(scores)]
  masks = [np.ones(np.shape(m), bool) for _, m in leaves]
  for i, a in enumerate(treedef.flatten_up_to(allowed)):
    if a:
      _check_ranks(path_name(leaves[i][0]), values[i])
      _prune_group(values, masks, [i], int(np.count_nonzero(leaves[i][1])))
  return treedef.unflatten([jnp.asarray(m) for m in masks])


def _check_ranks(name, values):
  if np.isnan(values).any():
    raise ValueError(f'The scores of {name} are NaN: they rank nothing.')


def _prune_group(values, masks, group, wanted):
  """Keeps so many of the best of these leaves together, in place."""
  kept = np.concatenate([masks[i].ravel() for i in group])
  score = np.concatenate([values[i].ravel() for i in group])
  order = np.argsort(np.where(kept, -score, np.inf), kind='stable')
  # A kept weight may score -inf and sort among the pruned ones: those go last.
  order = np.concatenate([order[kept[order]], order[~kept[order]]])
  new = np.zeros(len(kept), bool)
  new[order[:wanted]] = True
  start = 0
  for i in group:
    masks[i] = new[start : start + masks[i].size].reshape(masks[i].shape)
    start += masks[i].size


def random_like(mask: PyTree, allowed: PyTree, key) -> PyTree:
  """A random mask with the same number of kept weights in every layer."""
  leaves, treedef = jax.tree.flatten(mask)
  out = [
    jax.random.permutation(jax.random.fold_in(key, i), jnp.ravel(m)).reshape(jnp.shape(m)) if a
    else m
    for i, (m, a) in enumerate(zip(leaves, treedef.flatten_up_to(allowed), strict=True))
  ]
  return treedef.unflatten(out)


def check_mask(mask: PyTree, params: PyTree) -> None:
  """Raises ValueError unless the mask fits the parameters, naming the first difference.

  Args:
    mask: any tree.
    params: arrays or shapes.
  """
  named = lambda tree: {path_name(p): x for p, x in jax.tree_util.tree_leaves_with_path(tree)}
  of, wanted = named(mask), named(params)
  problem = ''
  for name in dict.fromkeys([*wanted, *of]):
    if name not in of or name not in wanted:
      problem = f"{name} is only in the {'model' if name in wanted else 'mask'}"
    elif jnp.shape(of[name]) != tuple(wanted[name].shape):
      problem = (f'{name} has shape {jnp.shape(of[name])} in the mask and '
                 f'{tuple(wanted[name].shape)} in the model')
    elif jnp.result_type(of[name]) != jnp.bool_:
      problem = f'{name} of the mask is of type {jnp.result_type(of[name])}, not bool'
    if problem:
      raise ValueError(f'The mask belongs to another model: {problem}. Use the mask that was made '
                       'for this network.')
