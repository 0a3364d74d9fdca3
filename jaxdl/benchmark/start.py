"""How long a command takes to start: until it ends, or until its first training step is written."""

import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from jaxdl.train.metrics import METRICS_FILE

_LOOK = 0.005  # seconds between two looks at a file


def command(
  arguments: Sequence[str], expect: str, environment: Mapping[str, str | None] | None = None
) -> dict:
  """Runs a command to its end: `{'seconds': wall, 'cpu': seconds}`.

  Args:
    arguments: the command.
    expect: what its output has in it if all is well (absl's `--help` exits with 1).
    environment: variables to set; None removes one.

  Raises:
    ValueError: it did not say so; with the last line it wrote.
  """
  return _timed(arguments, environment, lambda said, ended: ended and expect.encode() in said)


def first_step(
  arguments: Sequence[str], workdir, environment: Mapping[str, str | None] | None = None
) -> dict:
  """The time until a study's first line of metrics is in `workdir`; then the study is killed.

  Args:
    arguments: the command; it must log every step. `--workdir` is added.
    workdir: made anew.
    environment: variables to set; None removes one.

  Returns:
    `{'seconds': wall, 'cpu': seconds}` from the start of the process.

  Raises:
    ValueError: it ended before its first step; with the last line it wrote.
  """
  workdir = Path(workdir)
  shutil.rmtree(workdir, ignore_errors=True)
  written = lambda: any(p.stat().st_size for p in workdir.glob(f'*/{METRICS_FILE}'))
  return _timed([*arguments, f'--workdir={workdir}'], environment, lambda *_: written())


def _timed(arguments, environment, finished):
  """Times a process until `finished(output, whether it ended)`; then ends it."""
  variables = {**os.environ, **(environment or {})}
  start = time.perf_counter()
  with subprocess.Popen(
    list(arguments), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    env={k: v for k, v in variables.items() if v is not None},
  ) as process:
    os.set_blocking(process.stdout.fileno(), False)
    said = b''
    while True:
      ended, code, usage = os.wait4(process.pid, os.WNOHANG)
      said += process.stdout.read() or b''
      good = finished(said, bool(ended))
      if good or ended:
        break
      time.sleep(_LOOK)
    seconds = time.perf_counter() - start
    if not ended:
      process.kill()
      _, code, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(code)
  if not good:
    lines = said.decode(errors='replace').strip().splitlines() or ['nothing']
    raise ValueError(
      f'{" ".join(arguments)} ended with exit code {process.returncode} before it had done what '
      f'was to be timed; it last said: {lines[-1]}'
    )
  return {'seconds': seconds, 'cpu': usage.ru_utime + usage.ru_stime}
