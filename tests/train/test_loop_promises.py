"""What the loop promises: finite updates, no hidden transfers, one compilation, a quiet end."""

import logging

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny

from jaxdl.core import init_state
from jaxdl.objectives import supervised
from jaxdl.train import loop
from jaxdl.train.checkpoint import load_variables
from jaxdl.train.loop import Every, NonFinite, fit
from jaxdl.train.step import grad_step

EVERY = Every(log=4, evaluate=3, checkpoint=5, keep=2)


def test_an_update_that_is_infinite_stops_the_run_while_the_loss_is_still_finite(tmp_path):
  _, _, data, model = tiny.setup()

  def update(updates, state, params=None):
    blown = lambda u: jnp.where(state == 6, jnp.inf, u)
    return jax.tree.map(blown, updates), state + 1

  tx = optax.chain(
    optax.sgd(0.1), optax.GradientTransformation(lambda params: jnp.int32(0), update)
  )
  said = r'^update_norm became NaN or infinite between step 7 and 7; .*step 5 is kept.*loss 0\.'
  with pytest.raises(NonFinite, match=said):
    fit(
      init=lambda: init_state(model.init, tx, jax.random.key(0), jnp.zeros((1, 4, 4, 1))),
      step=grad_step(supervised(model.apply), tx), data=data, steps=12, workdir=tmp_path,
      every=Every(log=1, checkpoint=5),
    )
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(load_variables(tmp_path)))


@pytest.mark.parametrize('per_dispatch', [1, 100])
def test_no_hidden_transfers_once_it_runs(tmp_path, per_dispatch):
  """Under the guard every transfer that the code does not ask for by name is an error."""
  init, step, data, _ = tiny.setup()
  refused = []

  def evaluate(state):
    jax.config.update('jax_transfer_guard', 'disallow')  # from the first event on
    try:
      jax.jit(jnp.sin)(np.ones(3))
    except Exception as error:
      refused.append('Disallowed host-to-device transfer' in str(error))
    return {'nothing': 0.0}

  try:
    fit(init=init, step=step, data=data, steps=12, workdir=tmp_path, evals={'test': evaluate},
        every=EVERY, per_dispatch=per_dispatch)
  finally:
    jax.config.update('jax_transfer_guard', 'allow')
  assert refused == [True] * 4  # at 3, 6, 9 and 12: the guard was on, and would have said


@pytest.mark.parametrize('per_dispatch', [1, 100])
def test_one_compilation_over_a_whole_run_with_all_its_events(tmp_path, caplog, per_dispatch):
  init, step, data, _ = tiny.setup()
  compiled = lambda: [
    r.getMessage().split()[4] for r in caplog.records if 'Finished XLA compilation' in r.msg
  ]
  counts = []

  def evaluate(state):
    counts.append(len(compiled()))
    return {'nothing': 0.0}

  run = lambda steps: fit(
    init=init, step=step, data=data, steps=steps, workdir=tmp_path, evals={'test': evaluate},
    every=EVERY, per_dispatch=per_dispatch,
  )
  with jax.log_compiles(), caplog.at_level(logging.WARNING):
    run(21)
    assert compiled().count('jit(run)') == 1, compiled()
    # By step 6 it has logged, saved and evaluated; nothing is compiled from then on.
    assert len(counts) == 7 and counts[1] == counts[-1] == len(compiled()), compiled()
    caplog.clear()
    run(30)
    assert compiled().count('jit(run)') == 1, compiled()


def test_a_finished_run_opens_no_writer_and_touches_no_file(tmp_path, monkeypatch):
  init, step, data, _ = tiny.setup()
  run = lambda: fit(init=init, step=step, data=data, steps=12, workdir=tmp_path, every=EVERY,
                    evals={'test': lambda state: {'step': float(state.step)}})
  first = run()
  files = lambda: {p: p.stat().st_mtime_ns for p in tmp_path.rglob('*')}
  before = files()
  monkeypatch.setattr(loop, 'open_writer', None)
  again = run()
  assert files() == before
  jax.tree.map(np.testing.assert_array_equal, first.params, again.params)
