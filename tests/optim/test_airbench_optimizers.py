"""Against a NumPy account of the published update rules, in which losses are sums."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdl.optim.airbench import airbench_muon, airbench_sgd, triangle
from jaxdl.optim.fixed_norm import fixed_norm

STEPS, BATCH, WHITEN = 12, 50, 4


def params():
  rng = np.random.default_rng(0)
  draw = lambda *shape: rng.standard_normal(shape).astype(np.float32)
  return {
    'whiten': {'kernel': draw(2, 2, 3, 24), 'bias': draw(24)},
    'stage1_conv1': {'kernel': draw(3, 3, 24, 6)},
    'stage1_norm1': {'bias': draw(6)},
    'head': {'kernel': draw(6, 4)},
  }


def per_example_gradient(tree, t):
  """A mean gradient that depends on the weights and on the step."""
  return jax.tree.map(lambda w: 1e-3 * (np.cos(t) * w + np.sin(3 * w + t)), tree)


def run(tx):
  tree, state, history = params(), tx.init(params()), []
  update = jax.jit(tx.update)
  for t in range(STEPS):
    updates, state = update(per_example_gradient(tree, t), state, tree)
    tree = jax.tree.map(np.asarray, optax.apply_updates(tree, updates))
    history.append(tree)
  return history


def factor(t):
  rise = int(0.23 * STEPS)
  if t < rise:
    return 0.2 + 0.8 * t / rise
  return 1 - 0.93 * (t - rise) / (STEPS - rise)


def flat(tree):
  return {f'{a}/{b}': np.float64(w) for a, leaf in tree.items() for b, w in leaf.items()}


def torch_sgd(w, g, buffer, lr, momentum, decay):
  """One update of torch.optim.SGD(nesterov=True)."""
  g = g + decay * w
  buffer = momentum * buffer + g
  return w - lr * (g + momentum * buffer), buffer


def test_triangle():
  values = [float(triangle(STEPS)(t)) for t in range(STEPS + 1)]
  np.testing.assert_allclose(values, [factor(t) for t in range(STEPS + 1)], rtol=1e-6)
  assert values[0] == pytest.approx(0.2) and max(values) == 1 and values[-1] == pytest.approx(0.07)


@pytest.mark.parametrize('freeze', [True, False])
def test_sgd_is_the_published_rule(freeze):
  history = run(airbench_sgd(STEPS, BATCH, WHITEN, freeze=freeze, average=False))
  kilostep = 1024 * (1 + 1 / (1 - 0.85))
  lr, decay = 11.5 / kilostep, 0.0153 * BATCH / kilostep
  w = flat(params())
  buffers = {k: 0.0 for k in w}
  for t in range(STEPS):
    grads = flat(per_example_gradient(history[t - 1] if t else params(), t))
    for k in w:
      rate = lr * (64 if 'norm' in k else 1)
      if k == 'whiten/kernel' and freeze or k == 'whiten/bias' and t >= WHITEN:
        continue
      w[k], buffers[k] = torch_sgd(
        w[k], BATCH * grads[k], buffers[k], rate * factor(t), 0.85, decay / rate
      )
    for k, value in flat(history[t]).items():
      np.testing.assert_allclose(value, w[k], rtol=2e-4, atol=2e-5, err_msg=f'{k} at {t}')


def newton_schulz(g):
  """Three steps of the quintic iteration, rows the outputs, as published."""
  a, b, c = 3.4445, -4.7750, 2.0315
  x = g / (np.linalg.norm(g) + 1e-7)
  x = x.T if g.shape[0] > g.shape[1] else x
  for _ in range(3):
    s = x @ x.T
    x = a * x + (b * s + c * s @ s) @ x
  return x.T if g.shape[0] > g.shape[1] else x


def test_muon_is_the_published_rule():
  """Up to the bias correction of optax's momentum, undone here."""
  history = run(airbench_muon(STEPS, BATCH, WHITEN))
  w = flat(params())
  buffers, mean = {k: 0.0 for k in w}, np.zeros((6, 9 * 24))
  for t in range(STEPS):
    grads = flat(per_example_gradient(history[t - 1] if t else params(), t))
    for k in w:
      if k == 'whiten/kernel':
        continue
      if k == 'stage1_conv1/kernel':
        rows = lambda x: x.reshape(-1, 6).T
        g = rows(grads[k])
        mean = 0.6 * mean + 0.4 * g
        direction = 0.6 * mean / (1 - 0.6 ** (t + 2)) + 0.4 * g / (1 - 0.6 ** (t + 1))
        kernel = rows(w[k])
        kernel = kernel * np.sqrt(6) / np.linalg.norm(kernel)
        kernel = kernel - 0.24 * (1 - t / STEPS) * newton_schulz(direction)
        w[k] = kernel.T.reshape(w[k].shape)
        continue
      rate, length = (0.67, STEPS) if 'head' in k else (0.053, STEPS)
      length = WHITEN if k == 'whiten/bias' else length
      w[k], buffers[k] = torch_sgd(
        w[k], BATCH * grads[k], buffers[k], rate * max(0, 1 - t / length), 0.85, 2e-6 * BATCH / rate
      )
    for k, value in flat(history[t]).items():
      np.testing.assert_allclose(value, w[k], rtol=1e-3, atol=1e-3, err_msg=f'{k} at {t}')


@pytest.mark.parametrize('make', [airbench_sgd, airbench_muon])
def test_what_is_frozen_does_not_move_by_a_bit(make):
  history = run(make(STEPS, BATCH, WHITEN))
  first = params()['whiten']
  for t, tree in enumerate(history):
    np.testing.assert_array_equal(tree['whiten']['kernel'], first['kernel'])
    before = history[t - 1]['whiten']['bias'] if t else first['bias']
    # SGD's chain ends with a slow average, which moves the bias on.
    if make is airbench_muon:
      assert (tree['whiten']['bias'] == before).all() == (t >= WHITEN)


def test_mistakes_are_explained():
  for make, options, words in (
    (airbench_sgd, {'lr': 0}, 'lr must be a number, above 0'),
    (airbench_sgd, {'bias_scale': -1.0}, 'bias_scale must be'),
    (airbench_muon, {'head_lr': 0}, 'head_lr must be'),
    (airbench_muon, {'momentum': 1.0}, 'momentum must be'),
  ):
    with pytest.raises(ValueError, match=words):
      make(STEPS, **options)


def test_fixed_norm():
  tree = {'kernel': jnp.asarray(params()['head']['kernel']), 'bias': jnp.ones(3)}
  tx = fixed_norm()
  updates, _ = tx.update(jax.tree.map(lambda w: 0.5 * jnp.ones_like(w), tree), tx.init(tree), tree)
  after = optax.apply_updates(tree, updates)
  np.testing.assert_allclose(np.linalg.norm(after['kernel'] - 0.5), 2.0, rtol=1e-5)
  np.testing.assert_array_equal(after['bias'], np.full(3, 1.5))
  zero = {'kernel': jnp.zeros((2, 3))}
  updates, _ = tx.update(zero, tx.init(zero), zero)
  np.testing.assert_array_equal(updates['kernel'], np.zeros((2, 3)))
  some = fixed_norm({'kernel': False, 'bias': False})
  updates, _ = some.update(tree, some.init(tree), tree)
  np.testing.assert_array_equal(updates['kernel'], tree['kernel'])
  with pytest.raises(ValueError, match='rescales the parameters'):
    tx.update(tree, tx.init(tree))
