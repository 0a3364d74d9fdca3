"""A progress bar on a terminal, plain lines elsewhere."""

import sys
import time

from jaxdl import parallel


def duration(seconds: float) -> str:
  """`4s`, `3m20s`, `1h05m`."""
  s = int(round(seconds))
  if s < 60:
    return f'{s}s'
  return f'{s // 60}m{s % 60:02d}s' if s < 3600 else f'{s // 3600}h{s % 3600 // 60:02d}m'


class Progress:
  """Shows how far a run is, its examples per second and the time left.

  Args:
    label: what runs.
    total: the last step.
    start: the step it starts from.
    examples: examples per step.
    stream: a terminal gets one moving line; anything else a line every `period` seconds.
  """

  def __init__(self, label, total, start=0, examples=1, stream=None, period=15.0):
    self._label, self._total, self._examples = label, total, examples
    self._stream = sys.stderr if stream is None else stream
    self._terminal = self._stream.isatty()
    self._period = 0.2 if self._terminal else period
    self._first = self._shown = None  # (step, time): the first step is compilation, not speed
    self._start, self._notes = start, ''

  def __enter__(self):
    return self

  def __exit__(self, *_):
    if self._terminal and self._shown is not None:
      self._stream.write('\n')
      self._stream.flush()

  def note(self, metrics) -> None:
    """Keeps the newest metrics to show."""
    self._notes = '  '.join(f'{k} {v:.4g}' for k, v in metrics.items())

  def update(self, step: int) -> None:
    """Says that `step` is done; of several processes, the first does."""
    if not parallel.is_first():
      return
    now = time.monotonic()
    if self._first is None:
      self._first = (step, now)
    if self._shown is not None and now - self._shown < self._period and step < self._total:
      return
    self._shown = now
    (first, then), done = self._first, step / max(self._total, 1)
    speed = ''
    if step > first and now > then:
      rate = (step - first) / (now - then)
      left = duration((self._total - step) / rate)
      speed = f'  {rate * self._examples:,.0f} img/s  {left} left'
    text = f'{self._label}  {step:,}/{self._total:,}{speed}  {self._notes}'
    if self._terminal:
      bar = '█' * int(20 * done) + '·' * (20 - int(20 * done))
      self._stream.write(f'\r\x1b[K{bar} {text}'[:200])
    else:
      self._stream.write(f'{text}\n')
    self._stream.flush()
