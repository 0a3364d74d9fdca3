#!/usr/bin/env python3
"""Prints or runs a grid of commands of one study, resumes it, and tabulates what came out.

  python launch/sweep.py experiments/classify.py --config=experiments/configs/classify.py:cpu \\
      --grid config.train.optimizer.lr=0.05,0.1 --grid config.train.model.name=resnet8,resnet20 \\
      --seeds=0,1,2 --run

Every combination is a cell: a command of its own with a --workdir of its own under --root, named by
its settings. A cell that ended with exit code 0 is skipped the next time; one that was stopped or
killed goes on; one that failed is tried again. The same sweep command resumes a sweep.
"""

import argparse
import contextlib
import fcntl
import hashlib
import itertools
import json
import math
import os
import pathlib
import re
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import time
from typing import NamedTuple

EXIT_FAILED, EXIT_BAD_INPUT, EXIT_STOPPED = 1, 2, 75
RECORD, LOG = 'sweep.json', 'sweep.log'
SEEDS = 'seeds'  # the column of config.seeds
HELP = """values are split at the commas outside of brackets and quotes: (0,),(1,) are two values.
Every other --option=value is handed to each command as it is.

exit code: 0 all cells are done; 1 a cell failed; 2 bad input; 75 stopped, the same command goes on.
"""


class Cell(NamedTuple):
  """One combination of the grid.

  Attributes:
    settings: option -> value, as text.
    command: the arguments after the interpreter, without --workdir.
    workdir: the folder of its run.
  """

  settings: dict[str, str]
  command: list[str]
  workdir: pathlib.Path

  @property
  def fingerprint(self) -> str:
    return hashlib.sha256(json.dumps(self.command).encode()).hexdigest()[:16]

  @property
  def arguments(self) -> list[str]:
    return [*self.command, f'--workdir={self.workdir}']


class BadInput(ValueError):
  """What the user asked for cannot be done; the message says why."""


def parse(argv):
  """`(options, what is handed to every command)`."""
  parser = argparse.ArgumentParser(
    prog='sweep.py', allow_abbrev=False, epilog=HELP,
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
    usage='%(prog)s EXPERIMENT [--option=value ...] --grid KEY=V1,V2 [...] [--run]',
  )
  add = parser.add_argument
  add('experiment', metavar='EXPERIMENT', help='experiments/NAME.py')
  add('--grid', action='append', default=[], metavar='KEY=V1,V2',
      help='values of an option of the study, such as config.train.optimizer.lr=0.05,0.1; may be '
           'repeated, for other options or for more values')
  add('--value', action='append', default=[], metavar='KEY=V',
      help='one more value, taken whole with its commas')
  add('--seeds', metavar='S1,S2', help='the same as --grid config.seeds=(S1,),(S2,); the summary '
                                       'then also gives means over seeds')
  add('--root', metavar='DIR', help='folder of the cells; default runs/sweep-NAME[-VARIANT]')
  add('--run', action='store_true', help='run the commands instead of printing them')
  add('--jobs', type=int, default=1, metavar='N', help='cells that run at the same time (1)')
  add('--gpus', metavar='0,1', help='GPUs; each cell gets one of them, so as many run at once')
  add('--metric', action='append', default=[], metavar='NAME',
      help="column of the summary: a metric of report/results.json ('test accuracy (%%)') or of "
           "metrics.jsonl ('test/accuracy', the last value); 'SETTING: NAME' or 'STAGE: NAME' "
           'where there are several. Default: the first three of results.json')
  add('--format', choices=('lines', 'slurm-array'), default='lines',
      help='what is printed without --run: a command a line, or a script for sbatch')
  here = 'python' if shutil.which('python') == sys.executable else sys.executable
  add('--python', default=here, help='the interpreter of the commands; default: this one')
  options, rest = parser.parse_known_args(argv)
  for argument in rest:
    if not argument.startswith('-'):
      raise BadInput(f'Unexpected argument {argument!r}: options are written --name=value.')
    if argument.split('=')[0] in ('--workdir', '-workdir'):
      raise BadInput('Every cell has a --workdir of its own: give --root=DIR instead.')
  if not pathlib.Path(options.experiment).is_file():
    raise BadInput(f'There is no file {options.experiment}: the study comes first.')
  if options.jobs < 1:
    raise BadInput(f'--jobs must be at least 1, not {options.jobs}.')
  return options, rest


def split_values(text: str) -> list[str]:
  """Splits at the commas that stand outside of brackets and quotes."""
  parts, depth, quote = [''], 0, ''
  for c in text:
    if quote:
      quote = '' if c == quote else quote
    elif c in '\'"' and (depth or not parts[-1]):  # elsewhere it is an apostrophe
      quote = c
    elif c in '([{)]}':
      depth = max(0, depth + (1 if c in '([{' else -1))
    if c == ',' and not quote and depth == 0:
      parts.append('')
    else:
      parts[-1] += c
  return parts


def grid_of(options) -> dict[str, list[str]]:
  """Option -> its values, in the order given."""
  grid: dict[str, list[str]] = {}
  for flag, texts, split in (
    ('--grid', options.grid, split_values), ('--value', options.value, lambda v: [v])
  ):
    for text in texts:
      key, equals, values = text.lstrip('-').partition('=')
      if not (key and equals and values):
        raise BadInput(f'{flag} {text!r} is not of the form KEY=VALUE.')
      grid.setdefault(key, []).extend(split(values))
  if options.seeds is not None:
    if not re.fullmatch(r'\d+(,\d+)*', options.seeds):
      raise BadInput(f'--seeds must be numbers such as 0,1,2, not {options.seeds!r}.')
    if 'config.seeds' in grid:
      raise BadInput('Seeds are given twice: by --seeds and by --grid config.seeds.')
    grid['config.seeds'] = [f'({seed},)' for seed in options.seeds.split(',')]
  for key, values in grid.items():
    if '' in values:
      raise BadInput(f'A value of {key} is empty.')
    if twice := [v for v in values if values.count(v) > 1]:
      raise BadInput(f'{key} has the value {twice[0]} twice.')
  if not grid:
    raise BadInput('There is no grid: give --grid KEY=V1,V2 or --seeds=0,1.')
  return grid


def short_names(keys) -> dict[str, str]:
  """key -> its shortest ending that tells it from the other keys."""
  ending = lambda key, n: '.'.join(key.split('.')[-n:])
  def short(key):
    lengths = range(1, key.count('.') + 2)
    alone = lambda n: all(other == key or ending(other, n) != ending(key, n) for other in keys)
    return ending(key, next((n for n in lengths if alone(n)), lengths[-1]))
  return {key: SEEDS if key == 'config.seeds' else short(key) for key in keys}


def folder_name(settings) -> str:
  """A readable folder name; values that lose something in it get a hash of the whole."""
  text = ','.join(f'{name}={value}' for name, value in settings.items())
  plain = re.sub(r'[^\w.,=+-]+', '_', re.sub(r"[()\[\]{}'\" ]", '', text)).strip(',')
  plain = re.sub(r',+(?=,)', '', plain)
  if len(plain) <= 120 and not re.search(r'[^\w.,=+()-]', text):
    return plain
  return f'{plain[:100]}-{hashlib.sha256(text.encode()).hexdigest()[:6]}'


def cells_of(options, rest) -> list[Cell]:
  """All combinations, the last option changing fastest."""
  grid = grid_of(options)
  names = short_names(list(grid))
  root = root_of(options, rest)
  cells = []
  for values in itertools.product(*grid.values()):
    chosen = dict(zip(grid, values, strict=True))
    command = [options.experiment, *rest, *(f'--{k}={v}' for k, v in chosen.items())]
    settings = {names[k]: re.sub(r'^\((\d+),\)$', r'\1', v) for k, v in chosen.items()}
    cells.append(Cell(settings, command, root / folder_name(settings)))
  if len({c.workdir for c in cells}) < len(cells):
    raise BadInput('Two cells would have the same folder: their values differ too little.')
  return cells


def root_of(options, rest) -> pathlib.Path:
  if options.root:
    return pathlib.Path(options.root)
  config = next((a.partition('=')[2] for a in reversed(rest) if re.match('--?config=', a)), '')
  variant = config.partition(':')[2]
  name = pathlib.Path(options.experiment).stem
  return pathlib.Path('runs') / f'sweep-{name}{variant and "-" + variant}'


def slurm_array(cells) -> str:
  """A script for sbatch that runs one cell in each task of a job array."""
  cases = '\n'.join(f'  {i}) set -- {shlex.join(c.arguments)} ;;' for i, c in enumerate(cells))
  return f"""#!/usr/bin/env bash
#SBATCH --array=0-{len(cells) - 1}
#SBATCH --job-name=jaxdl-sweep
#SBATCH --output=slurm-%A_%a.log
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:USR1@120
case $SLURM_ARRAY_TASK_ID in
{cases}
esac
exec bash "$SLURM_SUBMIT_DIR/launch/slurm.sbatch" "$@\""""


def write_json(path, value) -> None:
  part = path.with_name(f'.{path.name}.{os.getpid()}')
  part.write_text(json.dumps(value, indent=1) + '\n')
  os.replace(part, path)


def record_of(cell) -> dict:
  """What is known of a cell: `status` 'done', 'stopped', 'failed', 'begun' or 'to do'."""
  fresh = {'status': 'to do', 'seconds': 0.0}
  try:
    record = json.loads((cell.workdir / RECORD).read_text())
  except (OSError, ValueError):
    return fresh
  return record if record.get('fingerprint') == cell.fingerprint else fresh


class Sweep:
  """Runs cells, a few at a time. The first signal tells each to save; the second ends them."""

  def __init__(self, cells, python, jobs, gpus):
    self.cells, self.python = cells, python
    self.slots = list(gpus or range(jobs))
    self.gpus = bool(gpus)
    self.running = {}  # process -> (cell, slot, seconds before, start)
    self.stopping = None

  def run(self, lock: int) -> None:
    """Returns when every cell had its turn, or was told to stop and has ended.

    Args:
      lock: a file descriptor that the commands keep open, so that the folder stays locked for as
        long as one of them lives, even if this process is killed.
    """
    todo = []
    for cell in self.cells:
      if record_of(cell)['status'] == 'done':
        self._say(cell, 'done before')
      else:
        todo.append(cell)
    previous = {s: signal.signal(s, self._signal) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
      while self.running or (todo and not self.stopping):
        while todo and self.slots and not self.stopping:
          self._start(todo.pop(0), lock)
        self._collect()
        time.sleep(0.05)
    finally:
      for s, handler in previous.items():
        signal.signal(s, handler)

  def _signal(self, number, frame):
    self.stopping = signal.Signals(number).name
    for process in self.running:
      with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)

  def _say(self, cell, what):
    number = self.cells.index(cell) + 1
    print(f'[{number}/{len(self.cells)}] {cell.workdir.name}: {what}', flush=True)

  def _start(self, cell, lock):
    before, slot = record_of(cell), self.slots.pop(0)
    cell.workdir.mkdir(parents=True, exist_ok=True)
    environment = os.environ | ({'CUDA_VISIBLE_DEVICES': str(slot)} if self.gpus else {})
    entry = {'fingerprint': cell.fingerprint, 'command': shlex.join(cell.command)}
    write_json(cell.workdir / RECORD, entry | {'status': 'begun', 'seconds': before['seconds']})
    with (cell.workdir / LOG).open('a') as log:
      # A session of its own: Ctrl-C at the terminal reaches the sweep alone, which passes it on.
      process = subprocess.Popen(
        [self.python, *cell.arguments], stdin=subprocess.DEVNULL, stdout=log,
        stderr=subprocess.STDOUT, env=environment, start_new_session=True, pass_fds=(lock,),
      )
    self.running[process] = cell, slot, entry, before['seconds'], time.monotonic()
    self._say(cell, 'starts' if before['status'] == 'to do' else 'goes on')
    if self.stopping:  # the signal came while it was being started
      process.send_signal(signal.SIGTERM)

  def _collect(self):
    for process in [p for p in self.running if p.poll() is not None]:
      cell, slot, entry, before, start = self.running.pop(process)
      self.slots.append(slot)
      code, seconds = process.returncode, round(before + time.monotonic() - start, 1)
      killed = code < 0
      status = 'done' if code == 0 else 'stopped' if killed or code == EXIT_STOPPED else 'failed'
      write_json(
        cell.workdir / RECORD, entry | {'status': status, 'exit_code': code, 'seconds': seconds}
      )
      if status == 'failed':
        lines = (cell.workdir / LOG).read_text(errors='replace').strip().splitlines()
        last = ''.join(f'\n    {line}' for line in lines[-3:])
        self._say(cell, f'failed with exit code {code}, see {cell.workdir / LOG}:{last}')
      elif status == 'stopped':
        self._say(cell, f'killed by signal {-code}' if killed else 'stopped, everything saved')
      else:
        self._say(cell, f'done in {seconds:.0f} s')


def result_values(workdir) -> dict[str, float]:
  """Column name -> value of report/results.json; the setting is named where there are several."""
  try:
    rows = json.loads((workdir / 'report' / 'results.json').read_text())
  except (OSError, ValueError):
    return {}
  several = len({row['setting'] for row in rows}) > 1
  name = lambda row: f'{row["setting"]}: {row["metric"]}' if several else row['metric']
  return {name(row): row['value'] for row in rows if isinstance(row['value'], int | float)}


def last_values(workdir) -> dict[str, float]:
  """Column name -> last value in the metrics.jsonl of its stages; named where there are several."""
  stages = {}
  for path in sorted(workdir.glob('*/metrics.jsonl')):
    last = {}
    for line in path.read_text().splitlines():
      with contextlib.suppress(ValueError):  # a line that a killed run left unfinished
        last |= json.loads(line)
    last.pop('step', None)
    stages[path.parent.name] = last
  several = len(stages) > 1
  return {
    f'{stage}: {name}' if several else name: value
    for stage, values in stages.items() for name, value in values.items()
    if isinstance(value, int | float)
  }


def summary(cells, metrics) -> dict:
  """`{'columns', 'metrics', 'cells': [...], 'means': [...]}`; means are over the seeds."""
  rows, first = [], []
  for cell in cells:
    record, results = record_of(cell), result_values(cell.workdir)
    first += [m for m in list(results)[:3] if m not in first]
    values = last_values(cell.workdir) | results if metrics else results
    rows.append({
      'settings': cell.settings, 'status': record['status'], 'seconds': record['seconds'],
      'values': values, 'workdir': str(cell.workdir),
    })
  metrics = list(metrics or first)
  for row in rows:
    row['values'] = {m: row['values'].get(m) for m in metrics}
  return {
    'columns': list(cells[0].settings), 'metrics': metrics, 'cells': rows,
    'means': means_over_seeds(rows, metrics),
  }


def means_over_seeds(rows, metrics) -> list[dict]:
  """Per setting of everything but the seed: mean, standard deviation and number of done cells."""
  if SEEDS not in rows[0]['settings']:
    return []
  groups = {}
  for row in rows:
    settings = {k: v for k, v in row['settings'].items() if k != SEEDS}
    groups.setdefault(json.dumps(settings), []).append(row)
  out = []
  for key, members in groups.items():
    values = {}
    for metric in metrics:
      x = [r['values'][metric] for r in members if r['status'] == 'done']
      x = [v for v in x if v is not None]
      spread = statistics.stdev(x) if len(x) > 1 else None
      values[metric] = {'mean': statistics.fmean(x) if x else None, 'std': spread, 'n': len(x)}
    out.append({'settings': json.loads(key), 'values': values})
  return out


def number(x) -> str:
  return '–' if x is None or not math.isfinite(x) else f'{x:.4g}'


def table(header, rows) -> str:
  """A Markdown table whose columns are aligned as text too."""
  cells = [[str(c).replace('|', '\\|') for c in row] for row in [header, *rows]]
  widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(header))]
  line = lambda row: '| ' + ' | '.join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + ' |'
  return '\n'.join([line(cells[0]), line(['-' * w for w in widths]), *map(line, cells[1:])])


def as_markdown(found) -> str:
  columns, metrics = found['columns'], found['metrics']
  text = table([*columns, *metrics, 'status', 'seconds'], [
    [*(row['settings'][c] for c in columns), *(number(row['values'][m]) for m in metrics),
     row['status'], f'{row["seconds"]:.0f}']
    for row in found['cells']
  ])
  if found['means']:
    others = [c for c in columns if c != SEEDS]
    spread = lambda v: number(v['mean']) + (f' ± {number(v["std"])}' if v['n'] > 1 else '')
    text += '\n\nMean ± standard deviation over the seeds:\n\n' + table(
      [*others, *metrics, 'seeds'], [
        [*(row['settings'][c] for c in others), *(spread(row['values'][m]) for m in metrics),
         max((row['values'][m]['n'] for m in metrics), default=0)]
        for row in found['means']
      ]
    )
  return text


@contextlib.contextmanager
def alone(root):
  """Holds the folder's lock, so that two sweeps do not run the same cell at once."""
  try:
    root.mkdir(parents=True, exist_ok=True)
    lock = (root / '.lock').open('w')
  except OSError as error:
    raise BadInput(f'The folder {root} cannot be written: choose another --root.') from error
  with lock:
    try:
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
      raise BadInput(f'Another sweep, or a command of one, is running in {root}.') from error
    yield lock.fileno()


def run(options, cells) -> int:
  """Runs the cells, prints and writes the summary, and returns the exit code."""
  root = cells[0].workdir.parent
  with alone(root) as lock:
    sweep = Sweep(cells, options.python, options.jobs, options.gpus and options.gpus.split(','))
    sweep.run(lock)
    found = summary(cells, options.metric)
    text = as_markdown(found)
    write_json(root / 'summary.json', found)
    (root / 'summary.md').write_text(f'# {options.experiment}\n\n{text}\n')
  print(f'\n{text}\n\nAlso in {root}/summary.md and summary.json.')
  states = [row['status'] for row in found['cells']]
  if sweep.stopping or 'stopped' in states:
    why = f'Stopped by {sweep.stopping}' if sweep.stopping else 'Cells were stopped'
    command = shlex.join([sys.executable, *sys.argv])
    print(f'{why}; everything is saved. Go on with:\n  {command}', file=sys.stderr)
  if 'failed' in states:
    return EXIT_FAILED
  return 0 if all(s == 'done' for s in states) else EXIT_STOPPED


def main(argv) -> int:
  try:
    options, rest = parse(argv)
    cells = cells_of(options, rest)
    if options.run:
      return run(options, cells)
  except BadInput as error:
    print(f'sweep.py: {error}', file=sys.stderr)
    return EXIT_BAD_INPUT
  if options.format == 'slurm-array':
    print(slurm_array(cells))
  else:
    for cell in cells:
      print(shlex.join([options.python, *cell.arguments]))
  return 0


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
