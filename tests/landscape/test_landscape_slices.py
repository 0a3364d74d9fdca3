"""Filter normalisation and loss slices against plain loops."""

import jax
import numpy as np
import pytest

from jaxdl.landscape import filter_normalized_direction, loss_line, loss_surface
from jaxdl.losses import cross_entropy

KEY = jax.random.key(4)


def plain(case, params):
  x = case.images.astype(np.float32) / 255
  logits = jax.jit(case.model.apply)(params, case.model_state, x)[0][0]
  return {
    'loss': cross_entropy(logits, case.labels).mean(),
    'accuracy': (logits.argmax(-1) == case.labels).mean(),
  }


def assert_rows(rows, expected):
  for name in ('loss', 'accuracy'):
    np.testing.assert_allclose(rows[name], [e[name] for e in expected], rtol=1e-4, atol=1e-6)


def moved(params, *steps):
  for size, direction in steps:
    params = jax.tree.map(lambda w, d, size=size: w + size * d, params, direction)
  return params


@pytest.fixture(scope='module')
def directions(conv):
  return [filter_normalized_direction(jax.random.fold_in(KEY, i), conv.params) for i in (0, 1)]


def test_every_filter_has_the_norm_of_its_weights(conv, directions):
  for layer in ('conv', 'head'):
    w, d = (np.asarray(t[layer]['kernel'], np.float64) for t in (conv.params, directions[0]))
    for channel in range(w.shape[-1]):
      np.testing.assert_allclose(
        np.linalg.norm(d[..., channel]), np.linalg.norm(w[..., channel]), rtol=1e-5)
    cosine = (w * d).sum() / (np.linalg.norm(w) * np.linalg.norm(d))
    assert abs(cosine) < 0.9, 'the direction must be random, not the weights'
  other = directions[1]['conv']['kernel']
  assert not np.allclose(directions[0]['conv']['kernel'], other)


def test_biases_and_norms_stay(directions):
  d = directions[0]
  for leaf in (d['conv']['bias'], d['norm']['scale'], d['norm']['bias'], d['head']['bias']):
    np.testing.assert_array_equal(leaf, 0)


def test_a_filter_of_zeros_gets_no_direction(conv):
  params = jax.tree.map(np.zeros_like, conv.params)
  jax.tree.map(
    lambda d: np.testing.assert_array_equal(d, 0), filter_normalized_direction(KEY, params))


def test_line_is_a_plain_loop_and_its_centre_the_network(conv, directions):
  alphas = [-1.0, 0.0, 0.5]
  rows = loss_line(*conv, directions[0], alphas, chunk=5)
  assert_rows(rows, [plain(conv, moved(conv.params, (a, directions[0]))) for a in alphas])
  np.testing.assert_allclose(rows['loss'][1], plain(conv, conv.params)['loss'], rtol=1e-5)


def test_surface_is_a_plain_loop_with_alphas_first(conv, directions):
  alphas, betas = [-0.5, 0.0], [0.0, 0.7, 2.0]
  rows = loss_surface(*conv, directions, alphas, betas, chunk=5)
  for i, a in enumerate(alphas):
    points = [moved(conv.params, (a, directions[0]), (b, directions[1])) for b in betas]
    assert_rows({name: x[i] for name, x in rows.items()}, [plain(conv, p) for p in points])
  np.testing.assert_allclose(rows['loss'][1, 0], plain(conv, conv.params)['loss'], rtol=1e-5)
