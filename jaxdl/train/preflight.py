"""What is found out before anything runs: a folder that cannot be written, a full disk, a second
process in the same folder."""

import contextlib
import errno
import fcntl
import os
import pathlib
import shutil
from collections.abc import Mapping, Sequence

from jaxdl.train.stages import Stage

ARRAYS = 3  # of the parameters' size in a checkpoint: the weights and two moments
KEEP = 2  # checkpoints of a stage
MARGIN = 32 << 20  # bytes: metrics, figures, event files
_PROBE = bytes(1 << 16)


class NoSpace(ValueError):
  """The disk has less room than the run needs."""


def needed_bytes(stages: Sequence[Stage], states: Mapping[str, str]) -> int:
  """An estimate of what the stages that are not done will write, from their plans.

  Args:
    stages: of the study.
    states: name -> 'done' or anything else, see `jaxdl.train.stages.status`.
  """
  todo = [stage for stage in stages if stage.plan and states[stage.name] != 'done']
  sizes = [4 * ARRAYS * stage.plan().get('parameters', 0) for stage in todo]
  return KEEP * sum(sizes) + max(sizes, default=0) + MARGIN


def check_workdir(workdir, needed: int = 0) -> None:
  """Makes the folder, writes to it, and compares the room there with what is needed.

  Args:
    workdir: the folder of the run.
    needed: bytes.

  Raises:
    PermissionError: the folder cannot be made or written.
    NoSpace: less than `needed` bytes are free, or not even a few kilobytes can be written.
  """
  workdir = pathlib.Path(workdir)
  probe = workdir / f'.probe.{os.getpid()}'
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(workdir).free
    if free >= needed:
      _write(probe)
      return
  except OSError as error:
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
      raise PermissionError(
        f'The workdir {workdir} cannot be written ({error.strerror}); choose another with '
        '--workdir=DIR.'
      ) from error
    free = 0
  raise NoSpace(
    f'The disk of the workdir {workdir} has {_megabytes(free)} free and this run needs about '
    f'{_megabytes(max(needed, len(_PROBE)))}; make room there, or choose another with '
    '--workdir=DIR.'
  )


def _write(probe):
  try:
    with probe.open('wb') as file:
      file.write(_PROBE)
      os.fsync(file.fileno())
  finally:
    with contextlib.suppress(OSError):
      probe.unlink()


def _megabytes(n: int) -> str:
  return f'{n / 1e6:,.1f} MB'


@contextlib.contextmanager
def alone(workdir):
  """Keeps a second run out of the folder; the lock ends with the process, however it ends.

  Raises:
    ValueError: another process runs there.
  """
  with open(pathlib.Path(workdir) / '.lock', 'a') as lock:
    try:
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      raise ValueError(
        f'Another process is running in the workdir {workdir}: wait for it, or choose another '
        'with --workdir=DIR.'
      ) from None
    except OSError:  # a file system without locks
      pass
    yield
