import jax.numpy as jnp
import pytest

from jaxdl.core import TrainState
from jaxdl.train.clock import Clock


class Time:
  """A clock that is moved by hand."""

  def __init__(self):
    self.now = 100.0

  def __call__(self):
    return self.now


def at(step):
  return TrainState(jnp.int32(step), {}, {}, (), None)


def test_counts_training_between_evaluations_only(tmp_path):
  time = Time()
  clock = Clock(tmp_path / 'clock.json', time)

  def evaluate(state):
    time.now += 50
    return {'accuracy': 0.5}

  measured = clock.between(evaluate)
  time.now += 1000  # compilation
  assert measured(at(10)) == {'accuracy': 0.5}
  assert clock.seconds_per_step is None
  for step, seconds in ((20, 3.0), (25, 2.0)):
    time.now += seconds
    measured(at(step))
  assert clock.intervals == {20: (10, 3.0), 25: (20, 2.0)}
  assert clock.seconds_per_step == pytest.approx(5 / 15)


def test_goes_on_after_a_stop_without_the_second_start(tmp_path):
  time = Time()
  first = Clock(tmp_path / 'clock.json', time).between(lambda state: {})
  first(at(4))
  time.now += 2
  first(at(8))
  second = Clock(tmp_path / 'clock.json', time)
  assert second.seconds_per_step == pytest.approx(0.5)
  measured = second.between(lambda state: {})
  time.now += 1000
  measured(at(12))
  time.now += 4
  measured(at(16))
  assert second.seconds_per_step == pytest.approx(6 / 8)
  assert Clock(tmp_path / 'clock.json').intervals == {8: (4, 2.0), 16: (12, 4.0)}
