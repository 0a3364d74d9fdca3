import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdl.optim.lookahead import lookahead

PARAMS = {'a': jnp.array([1.0, -2.0]), 'b': jnp.array(0.3)}


@pytest.mark.parametrize(('steps', 'every'), [(20, 5), (17, 5), (9, 1), (4, 7)])
def test_equals_the_recursion_in_numpy(steps, every):
  tx = optax.chain(optax.sgd(0.1, momentum=0.9), lookahead(steps, every, decay=0.8, power=2.0))
  params, state = PARAMS, tx.init(PARAMS)
  w = {k: np.float64(v) for k, v in PARAMS.items()}
  slow, velocity = dict(w), {k: np.zeros_like(v) for k, v in w.items()}
  update = jax.jit(tx.update)
  for t in range(1, steps + 1):
    grads = jax.tree.map(lambda p: p + 1, params)
    updates, state = update(grads, state, params)
    params = optax.apply_updates(params, updates)
    for k in w:
      velocity[k] = 0.9 * velocity[k] + w[k] + 1
      w[k] = w[k] - 0.1 * velocity[k]
      if t % every == 0:
        d = 0.8 * (t / steps) ** 2
        slow[k] = d * slow[k] + (1 - d) * w[k]
        w[k] = slow[k]
      if t == steps:
        w[k] = slow[k]
    chex.assert_trees_all_close(params, w, rtol=1e-4, atol=1e-5)


def test_without_memory_it_is_the_identity_and_still_weights_stay_exactly():
  tx, plain = lookahead(40, decay=0.0), jnp.array([0.1, 0.7])
  state = tx.init(plain)
  for i in range(1, 41):
    update = jnp.array([0.01 * i, 0.0])
    out, state = tx.update(update, state, plain)
    np.testing.assert_allclose(out, update, rtol=1e-5)
    plain = plain + out
  still = jnp.array([0.1, 1 / 3])
  tx = lookahead(23)
  state, step = tx.init(still), jax.jit(tx.update)
  for _ in range(23):
    out, state = step(jnp.zeros(2), state, still)
    np.testing.assert_array_equal(out, np.zeros(2))


def test_errors():
  for arguments in ((0,), (5, 0), (5, 5, 1.0)):
    with pytest.raises(ValueError, match='lookahead needs'):
      lookahead(*arguments)
  tx = lookahead(5)
  with pytest.raises(ValueError, match='moves the parameters'):
    tx.update(PARAMS, tx.init(PARAMS))
