"""The command line of every experiment: `app.run(stages, default_config=...)`."""

import contextlib
import filecmp
import json
import os
import pathlib
import platform
import shlex
import shutil
import subprocess
import sys
import warnings

from absl import app as absl_app
from absl import flags, logging
from ml_collections import config_flags

from jaxdl.config import check_overrides, config_argument, load_config
from jaxdl.errors import EXIT_BAD_INPUT, EXIT_FAILED, exit_code


def run(stages, *, default_config: str) -> None:
  """Parses the command line, runs the stages that are not done, and exits.

  Flags: `--config=FILE[:variant]` (default `default_config`), `--config.key=value` overrides,
  `--workdir`, `--data_dir` (or the environment variable JAXDL_DATA), `--dry_run`, and where to run:
  `--platform`, `--devices`, `--mode`, `--distributed` (see `jaxdl.parallel.configure`).
  Exit codes: 0 done; 1 the run failed (a NaN, a full disk); 2 bad input; 75 stopped by a signal
  with everything saved (run the same command again).

  Args:
    stages: `stages(config) -> list[Stage]`; `config` is a locked ConfigDict.
    default_config: path of the config file, absolute or relative to the experiment's folder.
  """
  from jaxdl import cpu

  if not {'--help', '--helpfull', '--helpshort', '--dry_run'} & set(sys.argv):
    cpu.reexec_with_huge_pages()
  experiment = pathlib.Path(sys.argv[0]).resolve()
  default = str(experiment.parent / default_config)
  config_flag = config_flags.DEFINE_config_file('config', None, 'Config file[:variant].')
  workdir_flag = flags.DEFINE_string('workdir', None, 'Output folder; default runs/NAME[-VARIANT].')
  data_flag = flags.DEFINE_string('data_dir', None, 'Folder of prepared data sets (or JAXDL_DATA).')
  dry_flag = flags.DEFINE_bool('dry_run', False, 'Print the plan and stop.')
  platform_flag = flags.DEFINE_string('platform', '', 'cpu, gpu or tpu; default the best there is.')
  devices_flag = flags.DEFINE_integer('devices', 0, 'Devices of each process; 0 for all.')
  mode_flag = flags.DEFINE_string('mode', 'auto', 'auto, jit, pmap or shard_map.')
  distributed_flag = flags.DEFINE_bool('distributed', False, 'This is one of several processes.')

  def main(argv):
    if len(argv) > 1:
      _fail(f'Unexpected argument {argv[1]!r}: options are written --name=value.')
    for flag in (workdir_flag, data_flag):
      if flag.value == '':
        _fail(f'--{flag.name} is empty: name a folder, or leave it out.')
    if data_flag.value and not pathlib.Path(data_flag.value).is_dir():
      _fail(f'There is no folder {data_flag.value} (--data_dir): give the one archives lie in.')
    name, variant = experiment.stem, argument.partition(':')[2]
    workdir = pathlib.Path(workdir_flag.value or f'runs/{name}{variant and "-" + variant}')
    if data_flag.value:
      os.environ['JAXDL_DATA'] = data_flag.value
    from jaxdl import parallel

    # Orbax tells a page of details for each checkpoint, and pages for one it could not write.
    logging.set_verbosity(logging.WARNING if 'JAXDL_DEBUG' in os.environ else logging.FATAL)
    with _readable_errors():
      parallel.configure(
        platform=platform_flag.value, devices=devices_flag.value, mode=mode_flag.value,
        distributed=distributed_flag.value,
      )
      _main(stages, config_flag.value, workdir, experiment, dry_flag.value, name)

  given = config_argument(sys.argv[1:])
  argument = default if given is None else given
  try:
    check_overrides(load_config(argument, default), sys.argv[1:])
  except ValueError as error:
    _explain(error, exit_code(error))
  # The default is given like a user's choice: as a flag's default, absl would load it even where
  # another file is asked for, and its errors could not be caught.
  argv = [sys.argv[0], *([f'--config={default}'] if given is None else []), *sys.argv[1:]]
  absl_app.run(main, argv, flags_parser=_parse_flags)


def _parse_flags(argv):
  try:
    return flags.FLAGS(argv)
  except (flags.Error, TypeError, ValueError) as error:
    _fail(' '.join(str(error).split()))


def _fail(sentence, code=EXIT_BAD_INPUT):
  print(f'{pathlib.Path(sys.argv[0]).name}: {sentence}', file=sys.stderr)
  sys.exit(code)


def _explain(error, code):
  """Ends with the error's message, or raises it where there is no code: a bug."""
  if code is None or 'JAXDL_DEBUG' in os.environ:
    raise error
  _fail(f'{" ".join(str(error).split())}\n(JAXDL_DEBUG=1 shows where.)', code)


@contextlib.contextmanager
def _readable_errors():
  from jaxdl.train import interrupt

  try:
    with interrupt.handling():
      yield
  except interrupt.Interrupted as stop:
    print(f'\nStopped by {stop}; everything is saved. Go on with:\n  {_command()}', file=sys.stderr)
    sys.exit(interrupt.EXIT_CODE)
  except Exception as error:
    from jaxdl.train.checkpoint import NotSaved
    from jaxdl.train.loop import NonFinite

    _explain(
      error, EXIT_FAILED if isinstance(error, NonFinite | NotSaved) else exit_code(error)
    )


def _command() -> str:
  python = 'python' if shutil.which('python') == sys.executable else sys.executable
  return shlex.join([python.removeprefix(f'{pathlib.Path.cwd()}/'), *sys.argv])


def _main(stages, config, workdir, experiment, dry_run, name):
  from jaxdl import cpu, parallel
  from jaxdl.train import preflight
  from jaxdl.train.stages import check_stages, refuse_other, run_stages, status

  warnings.filterwarnings('ignore', category=DeprecationWarning)
  _compilation_cache()
  cpu.install()
  config.lock()
  todo = stages(config)
  if dry_run:
    check_stages(todo, workdir)
    return _print_plan(todo, workdir)
  if not parallel.is_first():
    run_stages(todo, workdir, log=lambda _: None)
    return
  _refuse_another_study(workdir, name)
  refuse_other(todo, workdir)
  check_stages(todo, workdir)
  preflight.check_workdir(workdir, preflight.needed_bytes(todo, status(todo, workdir)))
  with preflight.alone(workdir):
    _snapshot(config, workdir, experiment)
    run_stages(todo, workdir)
  _say_where(workdir, name)


def _refuse_another_study(workdir, name) -> None:
  """Raises ValueError where the files that `_snapshot` writes are those of something else."""
  record, there = workdir / 'run.json', None
  if record.is_file():
    with contextlib.suppress(ValueError, AttributeError):
      there = json.loads(record.read_text()).get('experiment')
  if there != name and any((workdir / f).exists() for f in ('run.json', 'config.json', 'source')):
    raise ValueError(
      f'The workdir {workdir} holds {f"a run of {there}" if there else "other files"}, not one of '
      f'{name}; choose another with --workdir=DIR.'
    )


def _compilation_cache() -> None:
  """Keeps compiled programs in the user's cache folder, unless JAX is told another place."""
  import jax

  if jax.config.jax_compilation_cache_dir is None:
    base = pathlib.Path(os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache')
    jax.config.update('jax_compilation_cache_dir', str(base / 'jaxdl' / 'xla'))
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.2)


def _snapshot(config, workdir, experiment) -> None:
  """Writes what a reader needs to repeat the run: config, sources, versions, commit, command."""
  from importlib import metadata

  import jax

  from jaxdl.train.stages import write_json

  device = jax.devices()[0]
  packages = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'numpy')
  write_json(workdir / 'run.json', {
    'experiment': experiment.stem,
    'command': _command(),
    'commit': _commit(experiment.parent),
    'python': platform.python_version(),
    'platform': platform.platform(),
    'device': f'{device.platform}: {device.device_kind} x{jax.device_count()}',
    'cores': os.cpu_count(),
    'versions': {p: metadata.version(p) for p in packages},
  })
  write_json(workdir / 'config.json', json.loads(config.to_json_best_effort()))
  source = workdir / 'source'
  source.mkdir(exist_ok=True)
  config_file = experiment.parent / 'configs' / experiment.name
  for file, kept in ((experiment, experiment.name), (config_file, f'config_{experiment.name}')):
    copy = source / kept
    if file.exists() and not (copy.exists() and filecmp.cmp(file, copy, shallow=False)):
      shutil.copyfile(file, copy)


def _commit(folder) -> str:
  git = lambda *a: subprocess.run(
    ['git', '-C', str(folder), *a], capture_output=True, text=True, check=False
  ).stdout.strip()
  try:
    commit = git('rev-parse', '--short', 'HEAD')
    return commit + ('+changes' if commit and git('status', '--porcelain', '-uno') else '')
  except OSError:
    return ''


def _print_plan(stages, workdir) -> None:
  from jaxdl.train.stages import status

  states, total = status(stages, workdir), 0.0
  width = max(len(stage.name) for stage in stages) + 2
  print(f'{"stage":<{width}}{"state":<8}{"parameters":>12}{"MACs":>16}{"work, TMAC":>12}')
  for stage in stages:
    plan = dict(stage.plan()) if stage.plan else {}
    work = plan.get('work', 0.0)
    total += 0.0 if states[stage.name] == 'done' else work
    cell = lambda v, form: format(v, form) if v else '-'
    print(
      f'{stage.name:<{width}}{states[stage.name]:<8}{cell(plan.get("parameters"), ","):>12}'
      f'{cell(plan.get("MACs"), ","):>16}{cell(work / 1e12, ".3f"):>12}'
    )
  print(f'{len(stages)} stages in {workdir}; {total / 1e12:,.1f} TMAC to do (parameters and MACs '
        'are of one network and one image; a training step counts three times its forward pass).')


def _say_where(workdir, name) -> None:
  report = workdir / 'report' / 'report.html'
  print(f'\n{name} is done.')
  if report.exists():
    print(f'  report       {report}\n               {report.with_suffix(".md")}')
  checkpoints = sorted({p.parent.parent for p in workdir.glob('*/checkpoints/*') if p.is_dir()})
  if checkpoints:
    print(f'  checkpoints  {workdir}/*/checkpoints  ({len(checkpoints)} runs)')
  if any(workdir.glob('*/events.out.tfevents*')):
    print(f'  TensorBoard  tensorboard --logdir {workdir}')
  print(f'  metrics      {workdir}/*/metrics.jsonl')
