"""How long training takes, without compilation and without the evaluations."""

import json
import pathlib
import time
from typing import NamedTuple

import jax

from jaxdl.train.stages import write_json


class Interval(NamedTuple):
  """The stretch between two evaluations.

  Attributes:
    first, last: steps done at its start and at its end.
    seconds: of wall-clock time.
    processor: seconds that this process spent on all cores. On a CPU that other programs use too,
      this is the better measure; where another device does the work, it says nothing.
  """

  first: int
  last: int
  seconds: float
  processor: float


class Clock:
  """Measures the time from the end of one evaluation to the start of the next.

  The stretch before a session's first evaluation, in which programs are compiled and a checkpoint
  is read, is never counted, so an interrupted run is measured as well as any. What is counted is
  all that the loop does in between: training, logging and, where they are due, checkpoints.

  Attributes:
    path: JSON file that keeps the intervals of earlier sessions.
    intervals: last step -> `Interval`.
  """

  def __init__(self, path, now=lambda: (time.perf_counter(), time.process_time())):
    self.path, self._now, self._since = pathlib.Path(path), now, None
    saved = json.loads(self.path.read_text()) if self.path.exists() else []
    self.intervals = {row[1]: Interval(*row) for row in saved}

  def between(self, evaluate):
    """`evaluate(state) -> dict`, with the clock standing still meanwhile."""

    def measured(state):
      step = int(jax.block_until_ready(state).step)
      wall, processor = self._now()
      if self._since is not None:
        first, wall_then, processor_then = self._since
        self.intervals[step] = Interval(first, step, wall - wall_then, processor - processor_then)
        write_json(self.path, [list(i) for _, i in sorted(self.intervals.items())])
      out = evaluate(state)
      self._since = (step, *self._now())
      return out

    return measured

  def per_step(self, what: str = 'seconds') -> float | None:
    """Mean of 'seconds' or 'processor' seconds over the steps of all intervals.

    None before the second evaluation of a session.
    """
    steps = sum(i.last - i.first for i in self.intervals.values())
    return sum(getattr(i, what) for i in self.intervals.values()) / steps if steps else None
