"""Starts experiments in processes forked from one that has imported everything already.

A start then costs tens of milliseconds in place of seconds, which is what makes it possible to kill
twenty of them. No backend is running in the process they are forked from.
"""

import multiprocessing
import os
import pathlib
import runpy
import signal
import sys
import time

CONTEXT = multiprocessing.get_context('forkserver')
CONTEXT.set_forkserver_preload([
  'jax', 'flax.linen', 'optax', 'orbax.checkpoint', 'sklearn.datasets', 'scipy.special',
  'ml_collections', 'jaxdl.app', 'jaxdl.train.classifier', 'jaxdl.landscape.survey',
])


def _main(file, arguments, folder, environment, log):
  os.chdir(folder)
  os.environ.update(environment)
  with open(log, 'ab', buffering=0) as out:
    os.dup2(out.fileno(), 1)
    os.dup2(out.fileno(), 2)
  sys.argv = [file, *arguments]
  runpy.run_path(file, run_name='__main__')


class Run:
  """`python FILE ARGUMENTS` in `folder`, started and not waited for."""

  def __init__(self, file, *arguments, folder, **environment):
    folder = pathlib.Path(folder)
    number = len(list(folder.glob('log.*')))
    self._log = folder / f'log.{number}'
    # Set, it keeps the process from restarting itself for huge pages.
    environment = {'GLIBC_TUNABLES': '', 'XLA_FLAGS': '', 'XDG_CACHE_HOME': str(folder / 'cache'),
                   **environment}
    arguments = (str(file), list(arguments), str(folder), environment, str(self._log))
    self.process = CONTEXT.Process(target=_main, args=arguments, daemon=True)
    self.process.start()

  def said(self) -> str:
    return self._log.read_text(errors='replace') if self._log.exists() else ''

  def send(self, number=signal.SIGTERM) -> None:
    os.kill(self.process.pid, number)

  def wait_for(self, condition, seconds=60):
    """Waits until `condition()` is true; whether it was before the process ended."""
    end = time.monotonic() + seconds
    while not condition():
      if not self.process.is_alive():
        return condition()
      assert time.monotonic() < end, f'waited {seconds} s in vain; it said:\n{self.said()}'
      time.sleep(0.001)
    return True

  def code(self, seconds=60) -> int:
    """The exit code, negative for the signal that killed it."""
    self.process.join(seconds)
    if self.process.is_alive():
      self.process.kill()
      raise AssertionError(f'still running after {seconds} s; it said:\n{self.said()}')
    return self.process.exitcode
