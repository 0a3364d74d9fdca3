import time

import jax.numpy as jnp
import pytest

from jaxdl.core import TrainState
from jaxdl.train.clock import Clock


class Time:
  """A clock that is moved by hand; processor time passes twice as fast."""

  def __init__(self):
    self.now = 100.0

  def __call__(self):
    return self.now, 2 * self.now


def at(step):
  return TrainState(jnp.int32(step), {}, {}, (), None)


def test_counts_training_between_evaluations_only(tmp_path):
  now = Time()
  clock = Clock(tmp_path / 'clock.json', now)

  def evaluate(state):
    now.now += 50
    return {'accuracy': 0.5}

  measured = clock.between(evaluate)
  now.now += 1000  # compilation
  assert measured(at(10)) == {'accuracy': 0.5}
  assert clock.per_step() is None
  for step, seconds in ((20, 3.0), (25, 2.0)):
    now.now += seconds
    measured(at(step))
  assert clock.intervals == {20: (10, 20, 3.0, 6.0), 25: (20, 25, 2.0, 4.0)}
  assert clock.per_step() == pytest.approx(5 / 15)
  assert clock.per_step('processor') == pytest.approx(10 / 15)


def test_goes_on_after_a_stop_without_the_second_start(tmp_path):
  now = Time()
  first = Clock(tmp_path / 'clock.json', now).between(lambda state: {})
  first(at(4))
  now.now += 2
  first(at(8))
  second = Clock(tmp_path / 'clock.json', now)
  assert second.per_step() == pytest.approx(0.5)
  measured = second.between(lambda state: {})
  now.now += 1000
  measured(at(12))
  now.now += 4
  measured(at(16))
  assert second.per_step() == pytest.approx(6 / 8)
  assert Clock(tmp_path / 'clock.json').intervals == {8: (4, 8, 2, 4), 16: (12, 16, 4, 8)}


def test_processor_time_passes_while_computing_but_not_while_waiting(tmp_path):
  clock = Clock(tmp_path / 'clock.json')
  measured = clock.between(lambda state: {})
  measured(at(0))
  time.sleep(0.2)
  measured(at(1))
  start = time.process_time()
  while time.process_time() < start + 0.2:
    pass
  measured(at(2))
  waiting, computing = clock.intervals[1], clock.intervals[2]
  assert waiting.seconds >= 0.2 > 0.1 > waiting.processor
  assert computing.seconds >= 0.19 and computing.processor >= 0.2
