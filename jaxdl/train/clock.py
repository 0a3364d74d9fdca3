"""How long training takes, without compilation and without the evaluations."""

import json
import pathlib
import time

import jax

from jaxdl.train.stages import write_json


class Clock:
  """Measures the time from the end of one evaluation to the start of the next.

  The stretch before a session's first evaluation, in which programs are compiled and a checkpoint
  is read, is never counted, so an interrupted run is measured as well as any. What is counted is
  all that the loop does in between: training, logging and, where they are due, checkpoints.

  Attributes:
    path: JSON file that keeps the intervals of earlier sessions.
    intervals: last step -> (first step, seconds).
  """

  def __init__(self, path, now=time.perf_counter):
    self.path, self._now, self._since = pathlib.Path(path), now, None
    saved = json.loads(self.path.read_text()) if self.path.exists() else []
    self.intervals = {stop: (start, seconds) for start, stop, seconds in saved}

  def between(self, evaluate):
    """`evaluate(state) -> dict`, with the clock standing still meanwhile."""

    def measured(state):
      step = int(jax.block_until_ready(state).step)
      now = self._now()
      if self._since is not None:
        first, then = self._since
        self.intervals[step] = (first, now - then)
        rows = [[a, b, s] for b, (a, s) in sorted(self.intervals.items())]
        write_json(self.path, rows)
      out = evaluate(state)
      self._since = (step, self._now())
      return out

    return measured

  @property
  def seconds_per_step(self) -> float | None:
    """Mean over all intervals; None before the second evaluation of a session."""
    steps = sum(stop - start for stop, (start, _) in self.intervals.items())
    return sum(seconds for _, seconds in self.intervals.values()) / steps if steps else None
