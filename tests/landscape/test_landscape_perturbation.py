"""Weight noise against a plain loop, the worst case against closed forms."""

import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl.core import Model, bind
from jaxdl.landscape import gaussian_accuracy, recalibrate, worst_case
from jaxdl.losses import cross_entropy
from jaxdl.optim.leaves import kernels_mask
from jaxdl.optim.weight_noise import gaussian_noise

KEY = jax.random.key(5)
SIGMAS = [0.0, 0.3, 1.0]


class Linear(nn.Module):
  @nn.compact
  def __call__(self, x, train):
    return nn.Dense(1, use_bias=False)(x.reshape(len(x), -1)), {}


linear_loss = lambda logits, labels: logits[:, 0]
square_loss = lambda logits, labels: (logits[:, 0] - labels) ** 2 / 2


def linear_case(n=30, size=6):
  rng = np.random.default_rng(2)
  images = rng.uniform(size=(n, 1, 1, size)).astype(np.float32)
  w = rng.normal(size=(size, 1)).astype(np.float32)
  labels = (images.reshape(n, -1) @ w)[:, 0]
  return bind(Linear()), {'Dense_0': {'kernel': jnp.asarray(w)}}, {}, images, labels


def length(norm, eps):
  eps = np.concatenate([np.ravel(e) for e in jax.tree.leaves(eps)])
  return np.linalg.norm(eps, {'l2': 2, 'linf': np.inf}[norm])


def difference(found, params):
  return jax.tree.map(lambda a, b: np.asarray(a - b), found.params, params)


@pytest.mark.parametrize(
  ('relative', 'mask', 'calibrated'),
  [(False, None, False), (True, kernels_mask, False), (True, None, True)],
)
def test_gaussian_accuracy_is_a_plain_loop(conv, relative, mask, calibrated):
  calibration = conv.images[:11] if calibrated else None
  found = gaussian_accuracy(
    *conv, SIGMAS, KEY, draws=3, relative=relative, mask=mask, calibration_images=calibration,
    chunk=7,
  )
  x = conv.images.astype(np.float32) / 255
  losses, accuracies = np.zeros((2, 3, 3))
  for (i, sigma), d in itertools.product(enumerate(SIGMAS), range(3)):
    noise = gaussian_noise(jax.random.fold_in(KEY, d), conv.params, sigma, relative, mask)
    noisy = jax.tree.map(jnp.add, conv.params, noise)
    state = recalibrate(conv.model, noisy, conv.model_state, calibration) if calibrated else (
      conv.model_state)
    logits = jax.jit(conv.model.apply)(noisy, state, x)[0][0]
    losses[i, d] = cross_entropy(logits, conv.labels).mean()
    accuracies[i, d] = (logits.argmax(-1) == conv.labels).mean()
  close = lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-5)
  close(found['losses'], losses)
  close(found['accuracies'], accuracies)
  close(found['loss'], losses.mean(1))
  close(found['loss_std'], losses.std(1, ddof=1))
  close(found['accuracy'], accuracies.mean(1))
  close(found['accuracy_std'], accuracies.std(1, ddof=1))
  assert found['loss_std'][2] > 0.01


def test_gaussian_loss_has_the_spread_of_a_linear_model():
  model, params, state, images, _ = linear_case()
  labels = np.zeros(len(images), int)
  found = gaussian_accuracy(
    model, params, state, images, labels, [0.5], KEY, draws=1000, loss=linear_loss
  )
  direction = images.reshape(len(images), -1).mean(0)
  np.testing.assert_allclose(found['loss_std'], 0.5 * np.linalg.norm(direction), rtol=0.1)


def test_one_draw_has_no_spread(smooth):
  found = gaussian_accuracy(*smooth, [0.1, 0.2], KEY, draws=1)
  np.testing.assert_array_equal(found['loss_std'], 0)
  np.testing.assert_array_equal(found['accuracy_std'], 0)


@pytest.mark.parametrize(('norm', 'dual'), [('l2', 2), ('linf', 1)])
@pytest.mark.parametrize('rho', [0.05, 2.0])
def test_worst_case_of_a_linear_loss(norm, dual, rho):
  model, params, state, images, _ = linear_case()
  labels = np.zeros(len(images), int)
  found = worst_case(
    model, params, state, images, labels, rho, KEY, norm=norm, chunk=7, loss=linear_loss
  )
  slope = np.linalg.norm(images.reshape(len(images), -1).astype(np.float64).mean(0), dual)
  np.testing.assert_allclose(found.sharpness, rho * slope, rtol=2e-3)
  np.testing.assert_allclose(length(norm, difference(found, params)), rho, rtol=1e-4)


@pytest.mark.parametrize('norm', ['l2', 'linf'])
def test_worst_case_leaves_the_minimum_of_a_quadratic(norm):
  """At the minimum the gradient is zero: only the random start can find the way up."""
  model, params, state, images, labels = linear_case()
  rho = 0.3
  found = worst_case(
    model, params, state, images, labels, rho, KEY, norm=norm, chunk=30, loss=square_loss
  )
  x = images.reshape(len(images), -1).astype(np.float64)
  hessian = x.T @ x / len(x)
  if norm == 'l2':
    expected = rho**2 * np.linalg.eigvalsh(hessian)[-1] / 2
  else:  # a convex function's maximum over a cube is at a corner
    corners = rho * np.array(list(itertools.product([-1, 1], repeat=x.shape[1])))
    expected = np.einsum('ci,ij,cj->c', corners, hessian, corners).max() / 2
  np.testing.assert_allclose(found.sharpness, expected, rtol=1e-2)
  assert found.clean_loss < 1e-10


@pytest.mark.parametrize('norm', ['l2', 'linf'])
def test_worst_case_stays_in_the_ball_and_never_lowers_the_loss(conv, norm):
  last = 0.0
  for rho in (0.001, 0.01, 0.1):
    found = worst_case(*conv, rho, KEY, norm=norm, steps=8, chunk=8)
    assert length(norm, difference(found, conv.params)) <= rho * (1 + 1e-3)
    x = conv.images.astype(np.float32) / 255
    logits = jax.jit(conv.model.apply)(found.params, conv.model_state, x)[0][0]
    np.testing.assert_allclose(found.loss, cross_entropy(logits, conv.labels).mean(), rtol=1e-4)
    np.testing.assert_allclose(found.sharpness, found.loss - found.clean_loss, atol=1e-6)
    assert found.sharpness > last
    last = found.sharpness


@pytest.mark.parametrize('norm', ['l2', 'linf'])
def test_radius_zero_is_the_identity(conv, norm):
  found = worst_case(*conv, 0.0, KEY, norm=norm, steps=8, chunk=8)
  jax.tree.map(np.testing.assert_array_equal, found.params, conv.params)
  assert 0 <= found.sharpness < 1e-6


def test_a_constant_loss_moves_nothing_and_stays_finite(smooth):
  constant = lambda logits, labels: 0 * logits[:, 0]
  for norm in ('l2', 'linf'):
    found = worst_case(*smooth, 0.5, KEY, norm=norm, steps=3, loss=constant)
    jax.tree.map(np.testing.assert_array_equal, found.params, smooth.params)
    assert found.sharpness == 0


def test_steps_that_overshoot_cannot_lower_the_loss(smooth):
  found = worst_case(*smooth, 0.5, KEY, steps=2, step_size=-5.0)  # descends on purpose
  assert found.sharpness >= 0


@pytest.mark.parametrize('norm', ['l2', 'linf'])
def test_masked_weights_stay(smooth, norm):
  found = worst_case(*smooth, 0.1, KEY, norm=norm, steps=8, mask=kernels_mask)
  for layer in difference(found, smooth.params).values():
    assert layer['kernel'].any() and not layer['bias'].any()


def test_new_radii_sigmas_and_keys_do_not_trace_again(smooth):
  traces = []

  def apply(*args, **kwargs):
    traces.append(1)
    return smooth.model.apply(*args, **kwargs)

  case = (Model(smooth.model.init, apply), *smooth[1:])
  worst_case(*case, 0.1, KEY, steps=2)
  gaussian_accuracy(*case, [0.1, 0.2], KEY, draws=2)
  once = len(traces)
  worst_case(*case, 0.7, jax.random.key(9), steps=2)
  gaussian_accuracy(*case, [0.3, 0.9], jax.random.key(9), draws=2)
  assert len(traces) == once


def test_unknown_norms_are_refused(smooth):
  with pytest.raises(ValueError, match="norm is 'l1'"):
    worst_case(*smooth, 0.1, KEY, norm='l1')
