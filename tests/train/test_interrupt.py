"""Signals that arrive while several processes agree on whether one has."""

import os
import signal

import pytest

from jaxdl import parallel
from jaxdl.train import interrupt


def test_a_signal_that_arrives_while_the_processes_agree_is_not_lost(monkeypatch):
  def agree(number):
    if not sent:
      sent.append(True)
      os.kill(os.getpid(), signal.SIGTERM)
    return number

  sent = []
  monkeypatch.setattr(parallel, 'largest', agree)
  with interrupt.handling():
    assert not interrupt.requested()  # the others have heard of none: all go on
    assert interrupt.requested()
    with pytest.raises(interrupt.Interrupted, match='SIGTERM'):
      interrupt.poll()


def test_a_signal_at_another_process_stops_this_one(monkeypatch):
  monkeypatch.setattr(parallel, 'largest', lambda number: max(number, int(signal.SIGINT)))
  with interrupt.handling(), pytest.raises(interrupt.Interrupted, match='SIGINT'):
    interrupt.poll()
