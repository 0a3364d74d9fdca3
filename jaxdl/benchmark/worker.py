"""`python -m jaxdl.benchmark.worker`: one contender, in a process of its own.

It speaks lines of JSON. The first line in, `{"work": "jax/train", "options": {...}}`, builds the
work and warms it up; the answer is `{"images", "facts", "seconds"}`. Every further line,
`{"units": n}`, is one round: n units of work, answered by `{"seconds", "cpu", "idle", "memory",
"facts"}`: wall and CPU seconds of the round, CPU seconds this process used while it was the others'
turn, the most memory it ever had resident, in bytes, and the facts as they are then.
`{"error": sentence}` answers what cannot be done.
The end of the input ends the process: a worker never outlives who asked for it.
"""

import importlib
import json
import os
import resource
import sys
import time
from pathlib import Path

# One module each, so that no worker imports the libraries of another.
FAMILIES = {
  'jax': 'jaxdl.benchmark.jax_contenders',
  'torch': 'jaxdl.benchmark.torch_contenders',
  'tensorflow': 'jaxdl.benchmark.tensorflow_contenders',
  'metrics': 'jaxdl.benchmark.metric_contenders',
  'views': 'jaxdl.benchmark.view_contenders',
  'contrast': 'jaxdl.benchmark.contrast_contenders',
}


def build(work: str, options):
  """The `Work` called 'family/name'.

  Raises:
    ValueError: there is none of this name, or its library is not installed.
  """
  family, _, name = work.partition('/')
  if family not in FAMILIES:
    raise ValueError(f'Unknown work {work!r}: its family is one of {", ".join(FAMILIES)}.')
  try:
    module = importlib.import_module(FAMILIES[family])
  except ModuleNotFoundError as error:
    raise ValueError(f'{error.name} is not installed.') from error
  if name not in module.CONTENDERS:
    raise ValueError(f'Unknown work {work!r}: {family} has {", ".join(module.CONTENDERS)}.')
  try:
    return module.CONTENDERS[name](**options)
  except ModuleNotFoundError as error:  # of a library that one contender of the family needs
    raise ValueError(f'{error.name} is not installed.') from error


def peak_memory() -> int:
  """Bytes: the largest resident size of this process since it was started."""
  try:
    # Not ru_maxrss: a process begins with the peak of the one that started it.
    for line in Path('/proc/self/status').read_text().splitlines():
      if line.startswith('VmHWM:'):
        return int(line.split()[1]) << 10
  except OSError:
    pass
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return peak if sys.platform == 'darwin' else peak << 10


def serve(requests, answer) -> None:
  """Answers lines of `requests` until there are no more; `answer(dict)` sends one reply."""
  first = next(requests, None)
  if first is None:
    return
  try:
    start = time.perf_counter()
    work = build(**json.loads(first))
    answer({
      'images': work.images, 'facts': dict(work.facts), 'seconds': time.perf_counter() - start,
    })
    rested = time.process_time()
    for line in requests:
      units = json.loads(line)['units']
      cpu, start = time.process_time(), time.perf_counter()
      work.run(units)
      wall, done = time.perf_counter() - start, time.process_time()
      answer({
        'seconds': wall, 'cpu': done - cpu, 'idle': cpu - rested, 'memory': peak_memory(),
        'facts': dict(work.facts),
      })
      rested = time.process_time()
  except Exception as error:
    if 'JAXDL_DEBUG' in os.environ:
      raise
    lines = str(error).strip().splitlines() or ['no message']
    answer({'error': lines[0] if isinstance(error, ValueError)
            else f'{type(error).__name__}: {lines[0]}'})


def main() -> None:
  # Only answers may go to the pipe, whatever a library prints.
  pipe = os.fdopen(os.dup(1), 'w')
  os.dup2(2, 1)

  def answer(reply):
    pipe.write(json.dumps(reply) + '\n')
    pipe.flush()

  serve(iter(sys.stdin), answer)


if __name__ == '__main__':
  main()
