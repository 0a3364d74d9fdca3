"""Masks: exact counts, nothing comes back, and a mask of another model is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdl import models
from jaxdl.sparsity import masks


@pytest.fixture(scope='module')
def params():
  net = models.create('resnet8', 10, width=0.25)
  return net.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))['params']


def magnitudes(params):
  return jax.tree.map(jnp.abs, params)


def test_what_may_be_pruned(params):
  allowed = masks.counts(masks.full(params), masks.prunable(params))
  assert all(name.endswith('kernel') for name in allowed) and 'head/kernel' in allowed
  without = masks.counts(masks.full(params), masks.prunable(params, ('head', 'stem_conv')))
  assert set(allowed) - set(without) == {'head/kernel', 'stem_conv/kernel'}
  with pytest.raises(ValueError, match="'haed'.*mean 'head'"):
    masks.prunable(params, ('haed',))
  with pytest.raises(ValueError, match='no kernel to prune'):
    masks.prunable({'bias': jnp.zeros(3)})


@pytest.mark.parametrize('scope', masks.SCOPES)
@settings(max_examples=15, deadline=None)
@given(keep=st.floats(0.01, 1.0), again=st.floats(0.1, 1.0), seed=st.integers(0, 9))
def test_counts_are_exact_and_masks_shrink(scope, keep, again, seed):
  rng = np.random.default_rng(seed)
  tree = {'a': {'kernel': rng.normal(size=(7, 9)), 'bias': np.zeros(9)},
          'b': {'kernel': rng.integers(0, 3, (3, 3, 2, 4)).astype(float)}}
  allowed = masks.prunable(tree)
  first = masks.prune(tree, masks.full(tree), allowed, keep, scope)
  second = masks.prune(tree, first, allowed, again, scope)
  was = masks.counts(masks.full(tree), allowed)
  for mask, before, fraction in ((first, was, keep),
                                 (second, masks.counts(first, allowed), again)):
    now = masks.counts(mask, allowed)
    expected = lambda n, fraction=fraction: max(1, round(fraction * n))
    if scope == 'layer':
      assert {k: v[0] for k, v in now.items()} == {k: expected(v[0]) for k, v in before.items()}
    else:
      total = lambda c: sum(v[0] for v in c.values())
      assert total(now) == expected(total(before))
  assert bool(second['a']['bias'].all())
  assert not any(jax.tree.leaves(jax.tree.map(lambda a, b: bool((b & ~a).any()), first, second)))


def test_the_threshold_is_that_of_a_sort(params):
  allowed, scores = masks.prunable(params), magnitudes(params)
  mask = masks.prune(scores, masks.full(params), allowed, 0.3)
  chosen = lambda tree: np.concatenate(
    [np.ravel(x) for x, a in zip(jax.tree.leaves(tree), jax.tree.leaves(allowed), strict=True) if a]
  )
  flat, kept = chosen(scores), chosen(mask).astype(bool)
  assert flat[kept].min() >= flat[~kept].max()
  assert masks.density(mask, allowed) == kept.mean()


def test_rates_of_layers(params):
  allowed = masks.prunable(params)
  mask = masks.prune(
    magnitudes(params), masks.full(params), allowed, 0.6, 'layer', {'head': 0.5, 'stem_conv': 0}
  )
  for name, (kept, of) in masks.counts(mask, allowed).items():
    keep = {'head/kernel': 0.8, 'stem_conv/kernel': 1.0}.get(name, 0.6)
    assert kept == round(keep * of), name


def test_a_kept_weight_with_the_worst_score_goes_last_but_pruned_ones_never_return():
  scores = {'kernel': jnp.array([1.0, -jnp.inf, 3.0, jnp.inf])}
  mask = {'kernel': jnp.array([True, True, True, False])}
  allowed = {'kernel': True}
  kept = lambda keep: masks.prune(scores, mask, allowed, keep)['kernel'].tolist()
  assert kept(1.0) == [True, True, True, False]
  assert kept(2 / 3) == [True, False, True, False]
  assert kept(0.01) == [False, False, True, False]


def test_a_random_mask_has_the_same_layers_and_its_own_places(params):
  allowed = masks.prunable(params)
  mask = masks.prune(magnitudes(params), masks.full(params), allowed, 0.2)
  other = masks.random_like(mask, allowed, jax.random.key(1))
  assert masks.counts(other, allowed) == masks.counts(mask, allowed)
  moved = jax.tree.map(lambda a, b: bool((a != b).any()), mask, other)
  assert moved['stage3_block1']['conv1']['kernel'] and not moved['head']['bias']


def test_applying_is_exact_even_on_nan():
  tree, mask = {'w': jnp.array([1.0, jnp.nan, 2.0])}, {'w': jnp.array([True, False, False])}
  assert masks.apply(tree, mask)['w'].tolist() == [1.0, 0.0, 0.0]


@pytest.mark.parametrize('arguments, said', [
  ({'keep': 0}, 'fraction of weights to keep must be a number, above 0'),
  ({'keep': 1.2}, 'at most 1, got 1.2'),
  ({'scope': 'glob'}, "mean 'global'"),
  ({'rates': {'head': 0.5}}, "need the scope 'layer'"),
  ({'scope': 'layer', 'rates': {'haed': 0.5}}, "mean 'head'"),
  ({'scope': 'layer', 'rates': {'head': 3.0}}, "rate of 'head'"),
])  # fmt: skip
def test_bad_arguments_are_one_sentence(params, arguments, said):
  with pytest.raises(ValueError, match=said):
    masks.prune(params, masks.full(params), masks.prunable(params), **{'keep': 0.5, **arguments})


def test_scores_that_are_nan_are_refused(params):
  broken = jax.tree.map(lambda w: jnp.full(w.shape, jnp.nan), params)
  with pytest.raises(ValueError, match='kernel are NaN'):
    masks.prune(broken, masks.full(params), masks.prunable(params), 0.5)


def test_a_mask_of_another_model_is_refused_by_name(params):
  masks.check_mask(masks.full(params), params)
  wider = models.create('resnet8', 10, width=0.5)
  other = wider.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))['params']
  with pytest.raises(ValueError, match='belongs to another model: .* has shape'):
    masks.check_mask(masks.full(other), params)
  with pytest.raises(ValueError, match='head/bias is only in the model'):
    masks.check_mask({k: v for k, v in masks.full(params).items() if k != 'head'}, params)
  with pytest.raises(ValueError, match='float32, not bool'):
    masks.check_mask(params, params)


def test_the_counts_of_another_mask_are_kept_layer_by_layer():
  draw = np.random.default_rng(3)
  params = {'a': {'kernel': draw.normal(size=(4, 5))}, 'b': {'kernel': draw.normal(size=7)},
            'norm': {'scale': np.ones(3)}}
  allowed = masks.prunable(params)
  like = {'a': {'kernel': draw.random((4, 5)) < 0.3}, 'b': {'kernel': np.arange(7) < 0},
          'norm': {'scale': np.ones(3, bool)}}
  new = masks.prune_like(params, like, allowed)
  count = int(like['a']['kernel'].sum())
  best = np.sort(params['a']['kernel'].ravel())[-count:]
  kept = params['a']['kernel'][np.asarray(new['a']['kernel'])]
  np.testing.assert_array_equal(np.sort(kept), best)
  assert not new['b']['kernel'].any() and new['norm']['scale'].all()
  params['b']['kernel'][2] = np.nan
  with pytest.raises(ValueError, match='scores of b/kernel are NaN'):
    masks.prune_like(params, like, allowed)
