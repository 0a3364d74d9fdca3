import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from jaxdl.optim.builders import build, learning_rate
from jaxdl.optim.leaves import kernels_mask
from jaxdl.optim.params_ema import ema_params
from jaxdl.optim.sharpness_aware import sharpness_aware
from jaxdl.optim.weight_noise import gaussian_weight_noise

DECAY = 0.1
T = 8


def is_kernel(params):
  return {
    'first': {'kernel': True, 'bias': False},
    'second': {'kernel': True, 'bias': False},
  }


HAND_MADE = {
  'sgd': (
    {'momentum': 0.9, 'nesterov': True, 'weight_decay': DECAY},
    lambda lr: optax.chain(optax.add_decayed_weights(DECAY),
                           optax.sgd(lr, momentum=0.9, nesterov=True)),
  ),
  'sgd, no momentum': ({'momentum': 0.0}, optax.sgd),
  'sgd, kernels': (
    {'weight_decay': DECAY, 'decay': 'kernels'},
    lambda lr: optax.chain(optax.add_decayed_weights(DECAY, is_kernel), optax.sgd(lr)),
  ),
  'sgd, clip': (  # the decay is not clipped
    {'weight_decay': DECAY, 'clip': 0.05},
    lambda lr: optax.chain(optax.clip_by_global_norm(0.05), optax.add_decayed_weights(DECAY),
                           optax.sgd(lr)),
  ),
  'adam': (
    {'name': 'adam', 'weight_decay': DECAY, 'b1': 0.5},
    lambda lr: optax.chain(optax.add_decayed_weights(DECAY), optax.adam(lr, b1=0.5)),
  ),
  'adamw': (
    {'name': 'adamw', 'weight_decay': DECAY, 'decay': 'kernels', 'b2': 0.9},
    lambda lr: optax.adamw(lr, b2=0.9, weight_decay=DECAY, mask=is_kernel),
  ),
  'lars': (
    {'name': 'lars', 'weight_decay': DECAY, 'decay': 'kernels', 'momentum': 0.8},
    lambda lr: optax.lars(lr, DECAY, is_kernel, trust_ratio_mask=is_kernel, momentum=0.8),
  ),
  'sam': (
    {'weight_decay': DECAY, 'clip': 0.5, 'perturbation': {'name': 'sam', 'rho': 0.1, 'steps': 2}},
    lambda lr: optax.chain(sharpness_aware(0.1, steps=2), optax.clip_by_global_norm(0.5),
                           optax.add_decayed_weights(DECAY), optax.sgd(lr)),
  ),
  'sam, rho scheduled': (
    {'perturbation': {'name': 'sam', 'rho': {'name': 'linear', 'peak': 0.2}}},
    lambda lr: optax.chain(sharpness_aware(optax.linear_schedule(0.2, 0.0, T)), optax.sgd(lr)),
  ),
  'gaussian': (
    {'perturbation': {'name': 'gaussian', 'sigma': 0.1, 'relative': True, 'mask': 'kernels'}},
    lambda lr: optax.chain(gaussian_weight_noise(0.1, True, is_kernel), optax.sgd(lr)),
  ),
  'ema': (
    {'perturbation': None, 'ema': 0.9, 'clip': None},
    lambda lr: optax.sgd(lr),
  ),
}


@pytest.mark.parametrize('case', HAND_MADE)
def test_equals_the_chain_made_by_hand(case, problem, run):
  config, by_hand = HAND_MADE[case]
  config = ConfigDict({'lr': 0.2, 'schedule': {'name': 'cosine', 'warmup': 1}, **config})
  rate = lambda t: jnp.where(t < 1, 0.2 * t, 0.1 * (1 + jnp.cos(jnp.pi * (t - 1) / (T - 1))))
  ours, state = run(build(config, T), problem, T)
  expected, _ = run(by_hand(rate), problem, T)
  chex.assert_trees_all_close(ours, expected, rtol=2e-4, atol=2e-5)
  assert max(jnp.abs(a - b).max() for a, b in zip(
    jax.tree.leaves(ours), jax.tree.leaves(problem.params), strict=True)) > 1e-3
  if 'ema' in config:
    lag = jax.tree.map(lambda a, w: float(jnp.abs(a - w).max()), ema_params(state), ours)
    assert max(jax.tree.leaves(lag)) > 1e-3


def test_l2_decay_enters_the_momentum_and_decoupled_decay_does_not():
  params = {'kernel': jnp.ones((2, 2))}
  zero = jax.tree.map(jnp.zeros_like, params)

  def second_update(config):
    tx = build({'lr': 0.1, 'weight_decay': DECAY, **config}, T)
    state = tx.init(params)
    for _ in range(2):
      updates, state = tx.update(zero, state, params)
    return float(updates['kernel'][0, 0])

  assert second_update({'momentum': 0.9}) == pytest.approx(-0.1 * DECAY * 1.9)
  assert second_update({'name': 'adam'}) == pytest.approx(-0.1, rel=1e-4)
  assert second_update({'name': 'adamw'}) == pytest.approx(-0.1 * DECAY)


def test_kernels_mask_goes_by_name():
  shape = jnp.zeros(1)
  params = {
    'conv': {'kernel': shape, 'bias': shape},
    'bn': {'scale': shape, 'bias': shape},
    'words': {'embedding': shape},
    'token': shape,
  }
  assert kernels_mask(params) == {
    'conv': {'kernel': True, 'bias': False},
    'bn': {'scale': False, 'bias': False},
    'words': {'embedding': True},
    'token': False,
  }
  assert kernels_mask(shape) is False


def test_lars_without_mask_decays_and_adapts_everything():
  params = {'kernel': jnp.array([3.0, 4.0]), 'bias': jnp.array([0.6, 0.8])}
  grads = {'kernel': jnp.array([0.0, 2.0]), 'bias': jnp.array([2.0, 0.0])}
  tx = build({'name': 'lars', 'lr': 1.0, 'momentum': 0.0, 'decay': 'all'}, T)
  updates, _ = tx.update(grads, tx.init(params), params)
  lengths = jax.tree.map(jnp.linalg.norm, updates)
  np.testing.assert_allclose([lengths['kernel'], lengths['bias']], [0.005, 0.001], rtol=1e-4)
  tx = build({'name': 'lars', 'lr': 1.0, 'momentum': 0.0, 'decay': 'kernels'}, T)
  updates, _ = tx.update(grads, tx.init(params), params)
  lengths = jax.tree.map(jnp.linalg.norm, updates)
  np.testing.assert_allclose([lengths['kernel'], lengths['bias']], [0.005, 2.0], rtol=1e-4)


def test_muon():
  key = jax.random.key(0)
  params = {'conv': {'kernel': jnp.ones((3, 3, 4, 8)), 'bias': jnp.ones(8)}}
  grads = jax.tree.map(lambda w: jax.random.normal(key, w.shape), params)

  def update(**config):
    tx = build({'name': 'muon', 'lr': 1.0, **config}, T)
    return tx.update(grads, tx.init(params), params)[0]['conv']

  # A convolution is orthogonalised as a (window x inputs) x outputs matrix; a bias takes Adam.
  plain = update()
  spread = lambda w: np.divide(*np.linalg.svd(np.reshape(w, (36, 8)), compute_uv=False)[[0, -1]])
  assert spread(plain['kernel']) < 2 < spread(grads['conv']['kernel'])
  adam = optax.adam(1.0, nesterov=True)
  expected, _ = adam.update(grads['conv']['bias'], adam.init(params['conv']['bias']))
  np.testing.assert_allclose(plain['bias'], expected, rtol=1e-5)

  change = lambda **config: jax.tree.map(
    lambda a, b: float((a - b).mean()), update(weight_decay=DECAY, **config), plain
  )
  assert change(decay='kernels') == pytest.approx({'kernel': -DECAY, 'bias': 0.0}, rel=1e-4)
  assert change(decay='all') == pytest.approx({'kernel': -DECAY, 'bias': -DECAY}, rel=1e-4)


def test_the_learning_rate_can_be_read_back():
  rate = learning_rate({'name': 'sgd', 'lr': 0.4, 'momentum': 0.9, 'schedule': 'linear'}, 10)
  np.testing.assert_allclose([rate(t) for t in (0, 5, 10)], [0.4, 0.2, 0.0], rtol=1e-6)
  rate = learning_rate({'schedule': {'name': 'linear', 'peak': 0.4}}, 10)
  assert float(rate(5)) == pytest.approx(0.2)
  assert float(learning_rate({'lr': 0.4}, 10)(7)) == pytest.approx(0.4)


@pytest.mark.parametrize('config, message', [
  ({'name': 'sdg', 'lr': 0.1}, "Did you mean 'sgd'"),
  ({'lr': 0.1, 'momentun': 0.9}, "Did you mean 'momentum'"),
  ({'name': 'adam', 'lr': 0.1, 'momentum': 0.9}, "key of optimizer adam 'momentum'"),
  ({'lr': 0.1, 'schedule': 'cosinus'}, "Did you mean 'cosine'"),
  ({'lr': 0.1, 'schedule': {'nam': 'cosine'}}, "Did you mean 'name'"),
  ({'lr': 0.1, 'decay': 'kernel'}, "Did you mean 'kernels'"),
  ({'lr': 0.1, 'perturbation': {'name': 'samm', 'rho': 0.1}}, "Did you mean 'sam'"),
  ({'lr': 0.1, 'perturbation': {'rho': 0.1}}, 'Unknown perturbation None'),
  ({'lr': 0.1, 'perturbation': {'name': 'sam', 'step': 2, 'rho': 0.1}}, "Did you mean 'steps'"),
  ({'lr': 0.1, 'perturbation': {'name': 'sam'}}, "needs 'rho'"),
  ({'lr': 0.1, 'perturbation': {'name': 'gaussian'}}, "needs 'sigma'"),
  ({'lr': 0.1, 'perturbation': {'name': 'gaussian', 'sigma': 0.1, 'mask': 'kernel'}},
   "Did you mean 'kernels'"),
  ({'name': 'sgd'}, 'learning rate once'),
  ({'lr': 0.1, 'schedule': {'peak': 0.1}}, 'learning rate once'),
  ('sgd', 'optimizer must be a mapping'),
  ({'lr': -0.1}, 'lr must be a number, at least 0, got -0.1'),
  ({'lr': '0.1'}, "lr must be a number, at least 0, got '0.1'"),
  ({'lr': float('nan')}, 'lr must be a number, at least 0, got nan'),
  ({'lr': 0.1, 'momentum': 1}, 'momentum must be a number, at least 0 and below 1, got 1'),
  ({'lr': 0.1, 'nesterov': 1}, 'nesterov of optimizer must be True or False'),
  ({'lr': 0.1, 'clip': 0.0}, 'clip must be a number, above 0'),
  ({'lr': 0.1, 'schedule': 5}, 'schedule must be a mapping'),
  ({'lr': 0.1, 'perturbation': 'sam'}, 'perturbation must be a mapping'),
  ({'lr': 0.1, 'perturbation': {'name': 'sam', 'rho': 0.1, 'adaptive': 'no'}}, 'adaptive'),
])
def test_errors(config, message):
  with pytest.raises(ValueError, match=message):
    build(config, T)
