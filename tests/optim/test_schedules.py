import numpy as np
import pytest
from ml_collections import ConfigDict

from jaxdl.optim.schedules import schedule

T = 200


def values(config, total=T, steps=None):
  f = schedule(config, total)
  return np.array([f(t) for t in (range(total + 1) if steps is None else steps)], np.float64)


def test_constant_is_the_default():
  np.testing.assert_allclose(values({'peak': 0.3}), 0.3)


def test_cosine():
  t = np.arange(T + 1)
  expected = 0.02 + 0.48 * (1 + np.cos(np.pi * t / T)) / 2
  np.testing.assert_allclose(
    values({'name': 'cosine', 'peak': 0.5, 'end': 0.02}), expected, rtol=1e-5
  )
  assert values({'name': 'cosine', 'peak': 0.5}, steps=[T, 2 * T]).tolist() == [0, 0]


def test_steps():
  v = values({'name': 'steps', 'peak': 1.0, 'milestones': (0.25, 0.5), 'factor': 0.2})
  expected = np.where(np.arange(T + 1) < 50, 1.0, np.where(np.arange(T + 1) < 100, 0.2, 0.04))
  np.testing.assert_allclose(v, expected, rtol=1e-6)


def test_linear_and_cyclic():
  t = np.arange(T + 1)
  np.testing.assert_allclose(
    values({'name': 'linear', 'peak': 2.0, 'end': 1.0}), 2 - t / T, rtol=1e-5
  )
  np.testing.assert_allclose(
    values({'name': 'cyclic', 'peak': 0.2}), 0.2 * (1 - abs(2 * t / T - 1)), atol=1e-7
  )
  v = values({'name': 'cyclic', 'peak': 0.2, 'warmup': 0.4})
  assert v.argmax() == 80 and v.max() == pytest.approx(0.2)


def test_a_warmup_may_start_above_zero():
  v = values({'name': 'steps', 'peak': 0.1, 'warmup': 40, 'start': 0.01})
  np.testing.assert_allclose(v[:41], 0.01 + 0.09 * np.arange(41) / 40, rtol=1e-5)
  np.testing.assert_allclose(v[[99, 100, 150]], (0.1, 0.01, 0.001), rtol=1e-5)
  with pytest.raises(ValueError, match='give it a warmup too'):
    schedule({'peak': 0.1, 'start': 0.01}, T)


@pytest.mark.parametrize('name', ['constant', 'cosine', 'steps', 'linear', 'cyclic'])
@pytest.mark.parametrize('warmup', [0.1, 20, 20.0])
def test_warmup_then_the_schedule_over_the_rest(name, warmup):
  config = {'name': name, 'peak': 0.5, 'warmup': warmup}
  v = values(config)
  np.testing.assert_allclose(v[:21], 0.5 * np.arange(21) / 20, rtol=1e-5)
  if name == 'steps':  # milestones are fractions of the whole run
    np.testing.assert_allclose(v[[99, 100, 149, 150]], [0.5, 0.05, 0.05, 0.005], rtol=1e-5)
  else:
    rest = values({'name': 'linear' if name == 'cyclic' else name, 'peak': 0.5}, T - 20)
    np.testing.assert_allclose(v[20:], rest, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize('total', [1, 2, 3])
@pytest.mark.parametrize('name', ['constant', 'cosine', 'steps', 'linear', 'cyclic'])
def test_very_short_runs_start_and_end_where_long_ones_do(name, total):
  v = values({'name': name, 'peak': 1.0}, total)
  assert np.isfinite(v).all() and v.max() <= 1
  end = {'constant': 1.0, 'steps': 0.01}.get(name, 0.0)
  assert v[-1] == pytest.approx(end, abs=1e-6)


def test_takes_a_config_dict():
  config = ConfigDict({'name': 'steps', 'peak': 1.0, 'milestones': [0.5]})
  np.testing.assert_allclose(values(config, 10)[[4, 5]], [1, 0.1], rtol=1e-6)


@pytest.mark.parametrize('config, message', [
  ({'name': 'cosin', 'peak': 1.0}, "Did you mean 'cosine'"),
  ({'peek': 1.0}, "Did you mean 'peak'"),
  ({'name': 'cosine'}, "needs 'peak'"),
  ({'peak': 1.0, 'warmup': T}, 'does not fit'),
  ({'peak': 1.0, 'warmup': -3}, "schedule's warmup must be a number, at least 0"),
  ({'name': 'steps', 'peak': 1.0, 'milestones': (0.5, 0.25)}, 'ascending'),
  ({'name': 'steps', 'peak': 1.0, 'milestones': (100, 150)}, 'fractions'),
  ({'name': 'steps', 'peak': 1.0, 'milestones': (0.1,), 'warmup': 0.2}, 'within the warm-up'),
])
def test_errors(config, message):
  with pytest.raises(ValueError, match=message):
    schedule(config, T)
  with pytest.raises(ValueError, match='at least one step'):
    schedule({'peak': 1.0}, 0)
