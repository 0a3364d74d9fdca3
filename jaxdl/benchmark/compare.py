"""Contenders that take turns, and the ratios of their times.

Times of one machine differ by 10 % and more between processes, hours and neighbours; what holds is
the ratio of two programs measured in the same minutes. So every contender is a process of its own
(thread pools and allocators are not shared), all are built and warmed up before the first round,
and then one works at a time, in an order that is reversed every other round. The ratio is that of
the medians; its spread is the standard deviation of the ratios within single rounds.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

LIMIT = 900.0  # seconds a worker may take for one answer
_GRACE = 10.0


class Contender(NamedTuple):
  """What one worker does.

  Attributes:
    name: unique in its comparison, shown in the report.
    work: 'family/name', see `jaxdl.benchmark.worker`.
    options: its keyword arguments, JSON-able.
    environment: variables set for its process; None removes one.
  """

  name: str
  work: str
  options: Mapping[str, Any] = {}
  environment: Mapping[str, str | None] = {}


class Ratio(NamedTuple):
  """Attributes:
    value: ratio of the medians.
    spread: standard deviation (ddof 1) of the ratios within single rounds; None for one round.
    n: rounds.
  """

  value: float
  spread: float | None
  n: int


class WorkerFailed(Exception):
  """One sentence: which contender, and what happened to it."""


class Worker:
  """A running worker process; a context manager that ends it."""

  COMMAND = (sys.executable, '-m', 'jaxdl.benchmark.worker')

  def __init__(self, contender: Contender, limit: float = LIMIT):
    environment = dict(os.environ)
    for key, value in contender.environment.items():
      environment.pop(key, None)
      if value is not None:
        environment[key] = value
    self.name, self.limit, self._late = contender.name, limit, False
    self._said = tempfile.TemporaryFile('w+', errors='replace')  # noqa: SIM115
    self._process = subprocess.Popen(
      self.COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said,
      text=True, env=environment,
      start_new_session=True,  # Ctrl-C is for this process alone, which then ends its workers
    )

  def ask(self, request: Mapping) -> dict:
    """Sends one request and waits for the answer.

    Raises:
      WorkerFailed: it answered with an error, died, or took longer than the limit.
    """
    alarm = threading.Timer(self.limit, self._expire)
    alarm.start()
    try:
      self._process.stdin.write(json.dumps(request) + '\n')
      self._process.stdin.flush()
      line = self._process.stdout.readline()
    except BrokenPipeError:
      line = ''
    finally:
      alarm.cancel()
    if not line:
      raise WorkerFailed(f'{self.name}: {self._obituary()}')
    answer = json.loads(line)
    if 'error' in answer:
      raise WorkerFailed(f'{self.name}: {answer["error"]}')
    return answer

  def _expire(self):
    self._late = True
    self._process.kill()

  def _obituary(self) -> str:
    code = self._process.wait()
    if self._late:
      why = f'took longer than {self.limit:g} s'
    elif code < 0:
      why = f'died of {signal.Signals(-code).name}'
    else:
      why = f'ended with exit code {code}'
    self._said.seek(0)
    lines = self._said.read().strip().splitlines()
    return f'its worker {why}' + (f'; it last said {lines[-1]!r}.' if lines else '.')

  def __enter__(self):
    return self

  def __exit__(self, *_):
    with contextlib.suppress(BrokenPipeError):
      self._process.stdin.close()
    try:
      self._process.wait(_GRACE)
    except subprocess.TimeoutExpired:
      self._process.kill()
      self._process.wait()
    self._process.stdout.close()
    self._said.close()


def compare(
  contenders: Sequence[Contender],
  rounds: int,
  units: int,
  *,
  poll: Callable[[], None] = lambda: None,
  limit: float = LIMIT,
) -> dict[str, dict]:
  """Measures the contenders against each other.

  Args:
    contenders: with different names.
    rounds: turns of each contender.
    units: units of work in a turn.
    poll: called between turns; may raise to stop the measurement.
    limit: seconds one answer may take.

  Returns:
    name -> `{'seconds': [rounds] per unit of work, 'cpu': [rounds] likewise, 'idle': CPU seconds
    used while others worked, 'memory': bytes, 'images': per unit, 'warm_up': seconds, 'facts'}`,
    or `{'error': sentence}` for a contender that failed; the others go on.

  Raises:
    ValueError: two contenders of one name, or no rounds.
  """
  names = [c.name for c in contenders]
  if len(set(names)) < len(names):
    raise ValueError(f'Two contenders have the same name: {names}.')
  if rounds < 1 or units < 1:
    raise ValueError(f'rounds and units must be at least 1, got {rounds} and {units}.')
  results, workers = {}, {}
  with contextlib.ExitStack() as stack:

    def turn(name, request):
      poll()
      try:
        return workers[name].ask(request)
      except WorkerFailed as error:
        results[name] = {'error': str(error)}
        del workers[name]
        return None

    for c in contenders:
      workers[c.name] = stack.enter_context(Worker(c, limit))
      ready = turn(c.name, {'work': c.work, 'options': dict(c.options)})
      if ready:
        results[c.name] = {
          'seconds': [], 'cpu': [], 'idle': 0.0, 'memory': 0, 'images': ready['images'],
          'warm_up': ready['seconds'], 'facts': ready['facts'],
        }
    for r in range(rounds):
      alive = [name for name in names if name in workers]
      for name in alive if r % 2 == 0 else reversed(alive):
        done = turn(name, {'units': units})
        if done:
          mine = results[name]
          mine['seconds'].append(done['seconds'] / units)
          mine['cpu'].append(done['cpu'] / units)
          mine['idle'] += done['idle']
          mine['memory'], mine['facts'] = done['memory'], done['facts']
  return {name: results[name] for name in names}


def ratio(seconds: Sequence[float], reference: Sequence[float]) -> Ratio:
  """How many times longer `seconds` are than `reference`, round by round the same length.

  Raises:
    ValueError: no rounds, or not equally many.
  """
  a, b = np.asarray(seconds, np.float64), np.asarray(reference, np.float64)
  if a.ndim != 1 or a.shape != b.shape or not a.size:
    raise ValueError(f'Expected times of the same rounds, got shapes {a.shape} and {b.shape}.')
  spread = float(np.std(a / b, ddof=1)) if a.size > 1 else None
  return Ratio(float(np.median(a) / np.median(b)), spread, int(a.size))


def summary(measured: Mapping) -> dict[str, float | None]:
  """Best and median images per second, their standard deviation over rounds, and memory in MB."""
  rates = measured['images'] / np.asarray(measured['seconds'], np.float64)
  return {
    'best': float(rates.max()),
    'median': float(np.median(rates)),
    'std': float(rates.std(ddof=1)) if rates.size > 1 else None,
    'memory': measured['memory'] / 1e6,
  }
