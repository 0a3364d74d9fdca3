"""SIGTERM and SIGINT: finish the step, save, say how to go on."""

import contextlib
import os
import signal

EXIT_CODE = 75  # EX_TEMPFAIL: run the same command again

_received: int | None = None


class Interrupted(BaseException):
  """Raised at a safe point after a signal arrived. Not an Exception: no handler may swallow it."""


def requested() -> bool:
  """Whether a signal has arrived since `handling` began."""
  return _received is not None


def poll() -> None:
  """Raises `Interrupted` when a signal has arrived. Long loops call it between safe points."""
  if _received is not None:
    raise Interrupted(signal.Signals(_received).name)


@contextlib.contextmanager
def handling():
  """Within it the first signal asks for a stop at the next safe point; the second exits at once."""
  global _received
  _received = None

  def handler(number, frame):
    global _received
    if _received is not None:
      os._exit(128 + number)
    _received = number

  previous = {s: signal.signal(s, handler) for s in (signal.SIGTERM, signal.SIGINT)}
  try:
    yield
  finally:
    for s, h in previous.items():
      signal.signal(s, h)
    _received = None
