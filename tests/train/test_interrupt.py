"""Signals: the first asks, the second ends, and what is not one of them changes nothing."""

import os
import signal
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from warm import CONTEXT

from jaxdl.core import Model
from jaxdl.train import interrupt
from jaxdl.train.evaluate import predict


def send(number):
  os.kill(os.getpid(), number)


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_asks_for_a_stop(number):
  before = signal.getsignal(number)
  with interrupt.handling():
    assert not interrupt.requested()
    interrupt.poll()
    send(number)
    assert interrupt.requested()
    with pytest.raises(interrupt.Interrupted, match=number.name):
      interrupt.poll()
    assert not isinstance(interrupt.Interrupted(), Exception)  # `except Exception` lets it through
  assert signal.getsignal(number) == before and not interrupt.requested()


def test_other_signals_and_other_wakeups_are_left_as_they_were():
  reader, writer = os.pipe()
  os.set_blocking(writer, False)
  former, old = signal.set_wakeup_fd(writer), signal.signal(signal.SIGUSR1, lambda *_: None)
  try:
    with interrupt.handling():
      for _ in range(3):
        send(signal.SIGUSR1)
      assert not interrupt.requested()
    assert signal.set_wakeup_fd(former) == writer
  finally:
    signal.set_wakeup_fd(former)
    signal.signal(signal.SIGUSR1, old)
    os.close(reader)
    os.close(writer)


def test_its_thread_ends_with_it():
  alive = lambda: [t for t in threading.enumerate() if t.name == 'signals']
  with interrupt.handling():
    assert alive()
  end = time.monotonic() + 5
  while alive() and time.monotonic() < end:
    time.sleep(0.01)
  assert not alive()


def _twice(pause):
  with interrupt.handling():
    send(signal.SIGINT)
    time.sleep(pause)
    send(signal.SIGTERM)
    time.sleep(1)
  os._exit(0)


@pytest.mark.parametrize('pause, code', [(0.05, 0), (interrupt.SAME + 0.2, 128 + signal.SIGTERM)],
                         ids=['the same one, passed on', 'a second one'])
def test_two_signals(pause, code):
  process = CONTEXT.Process(target=_twice, args=(pause,))
  process.start()
  process.join(60)
  assert process.exitcode == code


def test_polled_stops_between_two_items():
  seen = []
  with interrupt.handling(), pytest.raises(interrupt.Interrupted):
    for item in interrupt.polled(range(5)):
      seen.append(item)
      if item == 2:
        send(signal.SIGTERM)
  assert seen == [0, 1, 2]


def test_predict_stops_within_two_chunks():
  """However slow a chunk is: without waiting, all of them would be under way at once."""
  done = []

  def apply(params, model_state, x, *, train=False):
    busy = jax.lax.fori_loop(0, 50, lambda i, m: jnp.tanh(m @ m), jnp.eye(200) * x.mean())
    jax.debug.callback(lambda _: done.append(1), busy[0, 0])
    return (x.reshape(len(x), -1)[:, :2] + 0 * busy[0, 0], None), model_state

  model = Model(None, apply)
  images = np.ones((40, 2, 2, 1), np.uint8)
  assert predict(model, {}, {}, images, chunk=1).shape == (40, 2)
  assert len(done) == 40
  done.clear()
  with interrupt.handling(), pytest.raises(interrupt.Interrupted):
    predict(model, {}, {}, _Signalling(images, at=10), chunk=1)
  jax.effects_barrier()
  assert 9 <= len(done) <= 12


class _Signalling:
  """Images of which reading number `at` sends a signal."""

  def __init__(self, images, at):
    self.images, self.at = images, at

  def __len__(self):
    return len(self.images)

  def __getitem__(self, rows):
    if rows.start == self.at:
      send(signal.SIGTERM)
    return self.images[rows]
