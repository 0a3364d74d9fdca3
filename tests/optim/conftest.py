"""A small BN-free classifier and a minimal version of the training step."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
import pytest
from jax import lax


class Problem(NamedTuple):
  params: dict
  batch: tuple


def loss_of(params, batch):
  x, y = batch
  hidden = jnp.tanh(x @ params['first']['kernel'] + params['first']['bias'])
  logits = hidden @ params['second']['kernel'] + params['second']['bias']
  return optax.losses.softmax_cross_entropy_with_integer_labels(logits, y).mean()


def chunk_of(batch, chunk):
  if chunk is None:
    return batch
  i, n = chunk
  return jax.tree.map(
    lambda x: lax.dynamic_slice_in_dim(x, i * (len(x) // n), len(x) // n), batch
  )


def step_of(tx, axis_name=None, loss=loss_of):
  """(params, opt_state, batch, key) -> (params, opt_state), with the library's extra arguments."""
  average = (lambda t: t) if axis_name is None else (lambda t: lax.pmean(t, axis_name))
  tx = optax.with_extra_args_support(tx)

  def step(params, opt_state, batch, key):
    local_grad_fn = lambda p, chunk=None: jax.grad(loss)(p, chunk_of(batch, chunk))
    value, local_grads = jax.value_and_grad(loss)(params, batch)
    updates, opt_state = tx.update(
      average(local_grads), opt_state, params,
      value=average(value), key=key, local_grads=local_grads, local_grad_fn=local_grad_fn,
      grad_fn=lambda p, chunk=None: average(local_grad_fn(p, chunk)),
    )
    return optax.apply_updates(params, updates), opt_state

  return step


@pytest.fixture(scope='session')
def problem():
  key = lambda i: jax.random.fold_in(jax.random.key(3), i)
  params = {
    'first': {
      'kernel': jax.random.normal(key(0), (5, 6)) * 0.5, 'bias': jnp.full(6, 0.1, jnp.float32),
    },
    'second': {'kernel': jax.random.normal(key(1), (6, 3)) * 0.5, 'bias': jnp.zeros(3)},
  }
  batch = jax.random.normal(key(2), (8, 5)), jax.random.randint(key(3), (8,), 0, 3)
  return Problem(params, batch)


@pytest.fixture(scope='session')
def loss():
  return loss_of


@pytest.fixture(scope='session')
def make_step():
  return step_of


@pytest.fixture(scope='session')
def run():
  """Parameters after `steps` updates on one batch."""

  def run(tx, problem, steps=4):
    step = jax.jit(step_of(tx))
    params, opt_state = problem.params, tx.init(problem.params)
    for i in range(steps):
      params, opt_state = step(params, opt_state, problem.batch, jax.random.key(i))
    return params, opt_state

  return run
