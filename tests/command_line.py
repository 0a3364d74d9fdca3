"""Runs real command lines fast: one process imports everything once and forks a child for each.

The child gets its own arguments, folder, environment and output, and runs the file as __main__, so
that what a test sees is what a shell would. Nothing but the imports is shared: no backend of JAX is
started in the parent, and no flag is defined there.
"""

import json
import os
import pathlib
import runpy
import subprocess
import sys
import tempfile
import traceback
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parent.parent
SECONDS = 120


class Done(NamedTuple):
  """The end of a command: exit code (minus the signal that killed it), stdout and stderr."""

  code: int
  out: str
  err: str


def environment(**changes) -> dict[str, str]:
  """A user's environment, without what this machine sets for JAX and for this library."""
  kept = {k: v for k, v in os.environ.items() if not k.startswith(('JAXDL_', 'XLA_', 'TF_'))}
  own = {'JAX_PLATFORMS': 'cpu', 'JAXDL_TENSORBOARD': '0', 'MPLBACKEND': 'Agg'}
  return kept | own | {'GLIBC_TUNABLES': 'glibc.malloc.hugetlb=0'} | changes


class Preloaded:
  """A context manager; `run` is called within it, from one thread."""

  def __enter__(self):
    self._server = subprocess.Popen(
      [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
      cwd=ROOT, env=environment(),
    )
    return self

  def __exit__(self, *_):
    self._server.stdin.close()
    self._server.wait(SECONDS)

  def run(self, argv, cwd, **env) -> Done:
    """Runs `python argv...` (a file, or -m and a module) in `cwd`."""
    task = {'argv': [str(a) for a in argv], 'cwd': str(cwd), 'env': environment(**env)}
    self._server.stdin.write(json.dumps(task) + '\n')
    self._server.stdin.flush()
    return Done(*json.loads(self._server.stdout.readline()))


def plain(argv, cwd, **env) -> Done:
  """The same by a new interpreter."""
  done = subprocess.run(
    [sys.executable, *map(str, argv)], cwd=cwd, env=environment(**env), text=True, timeout=SECONDS,
    capture_output=True, check=False,
  )
  return Done(done.returncode, done.stdout, done.stderr)


def _serve():
  import jax
  import matplotlib.pyplot  # noqa: F401
  import optax  # noqa: F401
  import orbax.checkpoint  # noqa: F401
  import PIL.Image  # noqa: F401
  import sklearn.datasets  # noqa: F401

  from jaxdl.data import sources  # noqa: F401
  from jaxdl.train import classifier  # noqa: F401
  from jaxdl.viz import report  # noqa: F401

  sys.modules['tensorflow_datasets'] = None  # not installed: no case may ask the network
  assert not jax._src.xla_bridge.backends_are_initialized()
  for line in sys.stdin:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
      child = os.fork()
      if child == 0:
        _become(out.fileno(), err.fileno(), **json.loads(line))
      code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
      texts = []
      for file in (out, err):
        file.seek(0)
        texts.append(file.read().decode(errors='replace'))
    print(json.dumps([code, *texts]), flush=True)


def _become(out, err, argv, cwd, env):
  """The child: never returns."""
  code = 1
  try:
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(out, 1)
    os.dup2(err, 2)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    code = _run(argv)
  finally:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _run(argv) -> int:
  module = argv[1] if argv[0] == '-m' else None
  sys.argv = argv[1:] if module else argv
  sys.path[0] = os.getcwd() if module else str(pathlib.Path(argv[0]).resolve().parent)
  try:
    if module:
      runpy.run_module(module, run_name='__main__', alter_sys=True)
    else:
      runpy.run_path(argv[0], run_name='__main__')
  except SystemExit as stop:
    if stop.code is None or isinstance(stop.code, int):
      return stop.code or 0
    print(stop.code, file=sys.stderr)
    return 1
  except BaseException:
    traceback.print_exc()
    return 1
  return 0


if __name__ == '__main__':
  _serve()
