"""SIGTERM and SIGINT: finish the step, save, say how to go on."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator

from jaxdl import parallel

EXIT_CODE = 75  # EX_TEMPFAIL: run the same command again
SAME = 0.3  # seconds: a launcher passes on what the terminal has sent already; both are one signal

_received: int | None = None


class Interrupted(BaseException):
  """Raised at a safe point after a signal arrived. Not an Exception: no handler may swallow it."""


def requested() -> bool:
  """Whether a signal has arrived since `handling` began, at any of the processes.

  Several processes agree here, so that all stop after the same step: each must ask as often.
  """
  global _received
  agreed = parallel.largest(_received or 0)
  if agreed:  # a signal that arrives meanwhile must not be overwritten: it counts the next time
    _received = agreed
  return bool(agreed)


def poll() -> None:
  """Raises `Interrupted` when a signal has arrived. Long loops call it between safe points."""
  if requested():
    raise Interrupted(signal.Signals(_received).name)


def polled(items: Iterable) -> Iterator:
  """The items, with a `poll` before each: for a loop whose turns take seconds."""
  for item in items:
    poll()
    yield item


@contextlib.contextmanager
def handling():
  """Within it the first signal asks for a stop at the next safe point; the second exits at once,
  with the code 128 + its number, even inside a compilation. To be used in the main thread."""
  global _received
  _received = None

  def handler(number, frame):
    global _received
    _received = _received or number

  previous = {s: signal.signal(s, handler) for s in (signal.SIGTERM, signal.SIGINT)}
  # Python runs a handler between two instructions of the main thread, which may be minutes away in
  # a compilation; the number of the signal is written to this pipe at once.
  arrivals, arrived = os.pipe()
  os.set_blocking(arrived, False)
  former = signal.set_wakeup_fd(arrived, warn_on_full_buffer=False)
  threading.Thread(target=_watch, args=(arrivals,), name='signals', daemon=True).start()
  try:
    yield
  finally:
    signal.set_wakeup_fd(former)
    os.close(arrived)
    for s, h in previous.items():
      signal.signal(s, h)
    _received = None


def _watch(arrivals: int) -> None:
  """Answers signals while the main thread cannot; ends when the pipe is closed."""
  first = None
  with open(arrivals, 'rb', buffering=0) as pipe:
    while byte := pipe.read(1):
      number, now = byte[0], time.monotonic()
      if number not in (signal.SIGTERM, signal.SIGINT):
        continue
      if first is None:
        first = now
        name = signal.Signals(number).name
        said = f'\n{name}: saving after this step. Once more stops at once, without saving.\n'
        os.write(2, said.encode())
      elif now - first > SAME:
        os._exit(128 + number)
