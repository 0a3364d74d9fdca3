"""The scripts in launch/: what they would run, how they quote it, and how they end.

Other machines are played by programs on PATH that run what they are told in a folder here.
"""

import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).parents[1]
LAUNCH = ROOT / 'launch'
SCRIPTS = sorted(p.name for p in LAUNCH.iterdir() if p.suffix in ('.sh', '.sbatch'))
SOURCED = ('venv.sh', 'remote.sh')
COMMANDS = [name for name in SCRIPTS if name not in SOURCED]
SAVED = 75


def run(name, *arguments, cwd=ROOT, **environment):
  """Runs launch/NAME with what it needs of the environment and nothing of a cluster."""
  return subprocess.run(
    ['bash', f'{cwd}/launch/{name}', *arguments], cwd=cwd, env=clean(environment), text=True,
    capture_output=True, check=False, timeout=60, stdin=subprocess.DEVNULL,
  )


def clean(environment):
  cluster = re.compile('SLURM|JAX_|CUDA_VISIBLE|VIRTUAL_ENV|CONDA')
  kept = {k: v for k, v in os.environ.items() if not cluster.match(k)}
  return kept | {k: str(v) for k, v in environment.items()}


def until(condition, seconds=60):
  end = time.monotonic() + seconds
  while not condition():
    assert time.monotonic() < end, 'timed out'
    time.sleep(0.05)


@pytest.mark.skipif(not shutil.which('shellcheck'), reason='shellcheck is not installed')
def test_shellcheck_has_nothing_to_say():
  done = subprocess.run(['shellcheck', *(LAUNCH / name for name in SCRIPTS)], capture_output=True,
                        text=True, check=False)
  assert done.returncode == 0, done.stdout


@pytest.mark.parametrize('name', SCRIPTS)
def test_scripts_look_alike(name):
  text = (LAUNCH / name).read_text()
  assert max(map(len, text.splitlines())) <= 100
  assert name in SOURCED or '\nset -euo pipefail\n' in text


@pytest.mark.parametrize('name', COMMANDS)
def test_help_says_how_to_use_it(name):
  done = run(name, '--help')
  assert done.returncode == 0 and done.stdout.startswith('Usage: ') and not done.stderr
  assert f'launch/{name}' in done.stdout


@pytest.mark.parametrize('name, arguments, said', [
  ('local_multiprocess.sh', ['two', '--', 'true'], "not 'two'"),
  ('local_multiprocess.sh', ['0', '--', 'true'], "not '0'"),
  ('local_multiprocess.sh', ['--', 'true'], "not ''"),
  ('local_multiprocess.sh', ['2'], 'no command'),
  ('local_multiprocess.sh', ['2', 'python', 'a.py'], 'comes after --'),
  ('local_multiprocess.sh', ['2', '--ports=1', '--', 'true'], "'--ports=1'"),
  ('local_multiprocess.sh', ['2', '--port=x', '--', 'true'], "not 'x'"),
  ('local_multiprocess.sh', ['2', '--grace=-1', '--', 'true'], "not '-1'"),
  ('local_multiprocess.sh', ['2', '--gpus_per_process=0', '--', 'true'], "not '0'"),
  ('gpu_vm.sh', ['--', 'true'], 'USER@HOST'),
  ('gpu_vm.sh', ['ada@host'], 'no command'),
  ('gpu_vm.sh', ['ada@host', 'python', '--', 'true'], "'python'"),
  ('gpu_vm.sh', ['ada@host', '--attach', '--', 'true'], '--attach takes no COMMAND'),
  ('gpu_vm.sh', ['ada@host', '--attach', '--fetch'], 'one of --attach and --fetch'),
  ('gpu_vm.sh', ['ada@host', '--port=ssh', '--', 'true'], "not 'ssh'"),
  ('gpu_vm.sh', ['ada@host', '--folder=$(reboot)', '--', 'true'], '--folder'),
  ('tpu_vm.sh', ['tpu', '--', 'true'], 'NAME ZONE'),
  ('tpu_vm.sh', ['tpu', 'zone'], 'no command'),
  ('tpu_vm.sh', ['tpu', 'zone', '--worker=all', '--attach'], "not 'all'"),
  ('tpu_vm.sh', ['tpu', 'zone', '--resumee'], "'--resumee'"),
  ('slurm.sbatch', [], 'study is missing'),
  ('slurm.sbatch', ['--nodes=2', 'experiments/classify.py'], "'--nodes=2'"),
  ('slurm.sbatch', ['experiments/nothing.py'], 'experiments/nothing.py'),
  ('slurm.sbatch', ['--python=/no/python', 'experiments/classify.py'], '/no/python'),
  ('slurm.sbatch', [f'--python={sys.executable}', 'experiments/classify.py'], 'job script'),
  ('job.sh', ['begin', 'x'], "'begin'"),
  ('job.sh', ['start'], 'needs an argument'),
])
def test_bad_arguments_get_one_sentence(name, arguments, said):
  done = run(name, *arguments)
  assert done.returncode == 2 and said in done.stderr, done.stderr
  assert len(done.stderr.splitlines()) == 1 and not done.stdout


# --- local_multiprocess.sh

PROGRAM = """
import json, os, pathlib, signal, sys, time

rank, folder = os.environ['JAX_PROCESS_ID'], pathlib.Path(sys.argv[1])
signals = []

def note(number, frame):
  signals.append(number)
  (folder / f'signals-{rank}').write_text(json.dumps(signals))

for number in (signal.SIGTERM, signal.SIGINT):
  signal.signal(number, note)

def fail_when_all_run(code):
  while len(list(folder.glob('process-?'))) < int(os.environ['JAX_NUM_PROCESSES']):
    time.sleep(0.02)
  sys.exit(code)

def save_when_told(seconds=0):
  while not signals:
    time.sleep(0.02)
  time.sleep(seconds)
  sys.exit(75)

part = folder / f'part-{rank}'
part.write_text(json.dumps({
  'pid': os.getpid(), 'argv': sys.argv[2:],
  'variables': {k: v for k, v in os.environ.items() if k.startswith(('JAX_', 'CUDA_'))},
}))
part.rename(folder / f'process-{rank}')  # it appears whole
print('process', rank, 'speaks', flush=True)
"""


@pytest.fixture
def processes(tmp_path):
  """Starts processes of a program that goes on like PROGRAM; in a group of its own, as from a
  terminal."""

  def start(count, rest, *arguments, options=()):
    program = tmp_path / 'program.py'
    program.write_text(PROGRAM + rest)
    return subprocess.Popen(
      ['bash', LAUNCH / 'local_multiprocess.sh', str(count), f'--logs={tmp_path}/logs', *options,
       '--', sys.executable, program, tmp_path, *arguments],
      env=clean({}), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
      start_new_session=True, preexec_fn=hear_ctrl_c,
    )

  return start


def hear_ctrl_c():
  """What a shell starts in the background does not, nor do its children."""
  signal.signal(signal.SIGINT, signal.SIG_DFL)


def started(folder, count):
  until(lambda: all((folder / f'process-{r}').exists() for r in range(count)))
  return [json.loads((folder / f'process-{r}').read_text()) for r in range(count)]


def signals(folder, rank):
  path = folder / f'signals-{rank}'
  return json.loads(path.read_text()) if path.exists() else []


def is_alive(pid):
  try:
    return 'State:\tZ' not in pathlib.Path(f'/proc/{pid}/status').read_text()
  except OSError:
    return False


def test_every_process_is_told_its_place_and_gets_the_command_as_it_was_given(processes, tmp_path):
  arguments = ['two words', "it's $HOME", '--x=a,b']
  done = processes(3, '', *arguments)
  out, err = done.communicate(timeout=60)
  assert done.returncode == 0, err
  found = started(tmp_path, 3)
  for rank, process in enumerate(found):
    variables = process['variables']
    assert process['argv'] == [*arguments, '--distributed']
    assert variables['JAX_PROCESS_ID'] == str(rank) and variables['JAX_NUM_PROCESSES'] == '3'
    assert 'CUDA_VISIBLE_DEVICES' not in variables
  addresses = {p['variables']['JAX_COORDINATOR_ADDRESS'] for p in found}
  assert len(addresses) == 1 and re.fullmatch(r'127\.0\.0\.1:\d{5}', addresses.pop())
  assert out == 'process 0 speaks\n' and f'{tmp_path}/logs' in err
  for rank in (1, 2):
    assert (tmp_path / 'logs' / f'process-{rank}.log').read_text() == f'process {rank} speaks\n'


def test_a_failed_process_ends_the_others_and_gives_its_code(processes, tmp_path):
  rest = 'fail_when_all_run(7) if rank == "1" else time.sleep(60)'
  done = processes(3, rest, options=['--grace=1'])
  _, err = done.communicate(timeout=60)
  assert done.returncode == 7, err
  assert 'Process 1 ended with exit code 7' in err and 'process 1 speaks' in err
  assert 'Killed' not in err and 'Terminated' not in err  # the shell's own notes
  assert not any(is_alive(p['pid']) for p in started(tmp_path, 3))


def test_a_killed_process_ends_the_others(processes, tmp_path):
  done = processes(2, 'save_when_told()')
  os.kill(started(tmp_path, 2)[1]['pid'], signal.SIGKILL)
  _, err = done.communicate(timeout=60)
  assert done.returncode == 128 + signal.SIGKILL, err
  assert signals(tmp_path, 0) == [signal.SIGTERM]


def test_ctrl_c_reaches_every_process_once(processes, tmp_path):
  done = processes(2, 'save_when_told(0.5)')
  started(tmp_path, 2)
  os.killpg(done.pid, signal.SIGINT)  # what a terminal does
  _, err = done.communicate(timeout=60)
  assert done.returncode == SAVED, err
  assert [signals(tmp_path, r) for r in range(2)] == [[signal.SIGINT]] * 2
  command = shlex.split(err.splitlines()[-1])
  assert command[:3] == ['bash', 'launch/local_multiprocess.sh', '2']
  assert command[-1] == str(tmp_path)


def test_a_stop_is_passed_on_and_nobody_who_saves_is_hurried(processes, tmp_path):
  rest = 'save_when_told(1.5 if rank == "0" else 0)'
  done = processes(2, rest, options=['--grace=10'])
  started(tmp_path, 2)
  done.send_signal(signal.SIGTERM)
  _, err = done.communicate(timeout=60)
  assert done.returncode == SAVED, err
  assert [signals(tmp_path, r) for r in range(2)] == [[signal.SIGTERM]] * 2


def test_one_process_stopped_by_itself_stops_the_others(processes, tmp_path):
  done = processes(2, 'save_when_told()', options=['--grace=1'])
  os.kill(started(tmp_path, 2)[1]['pid'], signal.SIGTERM)
  assert done.wait(timeout=60) == SAVED
  assert signals(tmp_path, 0) == [signal.SIGTERM]


def test_a_failure_while_saving_is_a_failure(processes, tmp_path):
  rest = '(sys.exit(75), None) if rank == "0" else (time.sleep(0.6), sys.exit(1))'
  done = processes(2, rest, options=['--grace=5'])
  assert done.wait(timeout=60) == 1


@pytest.mark.skipif(not shutil.which('setpriv'), reason='setpriv is not installed')
def test_no_process_is_left_behind_when_the_script_is_killed(processes, tmp_path):
  done = processes(2, 'save_when_told()')
  found = started(tmp_path, 2)
  done.kill()
  done.wait(timeout=60)
  until(lambda: not any(is_alive(p['pid']) for p in found))
  assert [signals(tmp_path, r) for r in range(2)] == [[signal.SIGTERM]] * 2


def test_gpus_are_shared_out(processes, tmp_path):
  plan = ['3', '--dry_run', '--port=1234', '--gpus_per_process=2', '--', 'python', 'a b.py']
  shares = lambda done: [shlex.split(line)[3] for line in done.stdout.splitlines()]
  done = run('local_multiprocess.sh', *plan)
  assert shares(done) == [f'CUDA_VISIBLE_DEVICES={s}' for s in ('0,1', '2,3', '4,5')]
  assert [shlex.split(line)[4:] for line in done.stdout.splitlines()] == [
    ['python', 'a b.py', '--distributed']
  ] * 3
  done = run('local_multiprocess.sh', *plan, CUDA_VISIBLE_DEVICES='7,6,5,4,3,2')
  assert shares(done) == [f'CUDA_VISIBLE_DEVICES={s}' for s in ('7,6', '5,4', '3,2')]
  done = run('local_multiprocess.sh', *plan, CUDA_VISIBLE_DEVICES='0,1,2,3')
  assert done.returncode == 2 and 'need 6 GPUs' in done.stderr and 'names 4' in done.stderr
  processes(2, '', options=['--gpus_per_process=1']).communicate(timeout=60)
  assert [p['variables']['CUDA_VISIBLE_DEVICES'] for p in started(tmp_path, 2)] == ['0', '1']


def test_a_port_in_use_is_named():
  with socket.create_server(('127.0.0.1', 0)) as server:
    port = server.getsockname()[1]
    done = run('local_multiprocess.sh', '2', f'--port={port}', '--', 'true')
  assert done.returncode == 2 and f'port {port} is in use' in done.stderr


# --- job.sh

def test_a_job_outlives_its_starter_and_is_followed_stopped_and_started_again(tmp_path):
  program = tmp_path / 'a program.py'
  program.write_text(
    'import os, sys, time, signal\n'
    'signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))\n'
    'print(*sys.argv[1:], flush=True)\n'
    'time.sleep(0 if os.path.exists(sys.argv[0] + ".goes_on") else 60)\n'
  )
  job = lambda action, *rest: run('job.sh', action, str(tmp_path / 'job'), *rest)
  assert job('status').stdout == 'no job was started.\n'
  assert job('stop').returncode == 2 and job('again').returncode == 2
  first = job('start', sys.executable, str(program), "it's", 'a b')
  assert first.returncode == 0 and first.stdout.startswith('running: '), first.stderr
  again = job('start', 'true')
  assert again.returncode == 2 and 'a program.py' in again.stderr
  until(lambda: "it's a b" in (tmp_path / 'job' / 'log').read_text())
  assert 'ended with exit code 75' in job('stop').stdout
  followed = job('attach')
  assert followed.returncode == SAVED and "\nit's a b\n" in followed.stdout
  (tmp_path / 'a program.py.goes_on').touch()
  assert job('again').returncode == 0
  followed = job('attach')
  assert followed.returncode == 0 and followed.stdout.count("\nit's a b\n") == 2


# --- gpu_vm.sh and tpu_vm.sh, with other machines that are folders

FAKE = r"""#!{python}
import json, os, pathlib, shutil, subprocess, sys

home = pathlib.Path({home!r})
name, arguments = pathlib.Path(sys.argv[0]).name, sys.argv[1:]
with (home / 'calls').open('a') as calls:
  calls.write(json.dumps([name, *arguments]) + '\n')

def there(machine, line):
  if 'job.sh install' in line:
    return 0
  (home / machine).mkdir(exist_ok=True)
  return subprocess.call(['sh', '-c', line], cwd=home / machine,
                         env=os.environ | {{'HOME': str(home / machine)}})

def option(key):
  return next((a.partition('=')[2] for a in arguments if a.startswith(key + '=')), None)

if name == 'ssh':
  sys.exit(there(arguments[-2].partition('@')[2], arguments[-1]))
if name == 'rsync':
  source, target = arguments[-2:]
  if ':' in target:
    machine, folder = target.partition('@')[2].split(':')
    shutil.copytree(source, home / machine / folder, dirs_exist_ok=True,
                    ignore=shutil.ignore_patterns('runs', '.venv', '.git'))
  else:
    machine, folder = source.partition('@')[2].split(':')
    shutil.copytree(home / machine / folder, target, dirs_exist_ok=True)
if name == 'gcloud':
  workers = ['0', '1'] if option('--worker') == 'all' else [option('--worker')]
  if arguments[3] == 'scp':
    for worker in workers:
      (home / worker).mkdir(exist_ok=True)
      shutil.copy(arguments[4], home / worker)
  else:
    sys.exit(max([there(worker, option('--command')) for worker in workers]))
"""


@pytest.fixture
def machines(tmp_path):
  """A small repository, and a `call(name, *arguments)` for which other machines are folders."""
  home, repository, programs = (tmp_path / n for n in ('machines', 'repository', 'programs'))
  for folder in (home, programs, repository / 'experiments', repository / 'runs' / 'old',
                 repository / '.venv'):
    folder.mkdir(parents=True)
  shutil.copytree(LAUNCH, repository / 'launch', ignore=shutil.ignore_patterns('__pycache__'))
  shutil.copy(ROOT / '.gitignore', repository)
  (repository / 'runs' / 'old' / 'here').touch()
  (repository / '.venv' / 'here').touch()
  (repository / 'experiments' / 'study.py').write_text(
    'import json, os, pathlib, sys\n'
    'folder = pathlib.Path("runs/study/report")\n'
    'folder.mkdir(parents=True, exist_ok=True)\n'
    '(folder / "report.html").write_text("made by " + json.dumps(sys.argv[1:]))\n'
    '(folder.parent / "seed-0" / "checkpoints").mkdir(parents=True, exist_ok=True)\n'
    '(folder.parent / "seed-0" / "checkpoints" / "big").touch()\n'
    'print("ran", json.dumps(sys.argv[1:]))\n'
    'sys.exit(75 if "--stop" in sys.argv else 0)\n'
  )
  for name in ('ssh', 'rsync', 'gcloud'):
    program = programs / name
    program.write_text(FAKE.format(python=sys.executable, home=str(home)))
    program.chmod(0o755)

  def call(name, *arguments):
    calls = home / 'calls'
    calls.unlink(missing_ok=True)
    done = run(name, *arguments, cwd=repository, PATH=f'{programs}:{os.environ["PATH"]}')
    lines = calls.read_text().splitlines() if calls.exists() else []
    return done, [json.loads(line) for line in lines]

  call.home, call.repository = home, repository
  return call


GPU = ('gpu_vm.sh', 'ada@gpu', '--port=2222')
TPU = ('tpu_vm.sh', 'my-tpu', 'us-central2-b', '--project=p')
COMMAND = (sys.executable, 'experiments/study.py', "--config.name=it's $HOME", '--a=b c')


@pytest.mark.parametrize('target', [GPU, TPU], ids=['gpu', 'tpu'])
def test_dry_run_prints_exactly_what_is_run(machines, target):
  dry, none = machines(*target, '--dry_run', '--', *COMMAND)
  assert dry.returncode == 0 and none == [] and list(machines.home.iterdir()) == []
  done, calls = machines(*target, '--', *COMMAND)
  assert done.returncode == 0, done.stderr
  printed = [shlex.split(line) for line in dry.stdout.splitlines()]
  temporary = re.compile(r'/\S*jaxdl\.\w{6}')
  plain = lambda commands: [[temporary.sub('TEMP', a) for a in c] for c in commands]
  assert plain([c for c in printed if c[0] != 'tar']) == plain(calls)


@pytest.mark.parametrize('target, machine', [(GPU, 'gpu'), (TPU, '0')], ids=['gpu', 'tpu'])
def test_a_command_runs_there_as_it_was_given(machines, target, machine):
  done, _ = machines(*target, '--', *COMMAND)
  assert done.returncode == 0, done.stderr
  given = list(COMMAND[2:]) + (['--distributed'] if target is TPU else [])
  assert f'ran {json.dumps(given)}' in done.stdout
  there = machines.home / machine / 'jaxdl'
  assert not (there / '.venv').exists() and not (there / 'runs' / 'old').exists()
  status, _ = machines(*target, '--status')
  assert 'ended with exit code 0' in status.stdout
  fetched, _ = machines(*target, '--fetch')
  assert fetched.returncode == 0, fetched.stderr
  report = next(machines.repository.glob('runs/from-*/study/report/report.html'))
  assert report.read_text() == f'made by {json.dumps(given)}'
  assert str(report.relative_to(machines.repository)) in fetched.stdout


@pytest.mark.parametrize('target', [GPU, TPU], ids=['gpu', 'tpu'])
def test_exit_codes_come_back_and_resume_repeats_the_command(machines, target):
  done, _ = machines(*target, '--', *COMMAND, '--stop')
  assert done.returncode == SAVED, done.stderr
  again, calls = machines(*target, '--resume')
  assert again.returncode == SAVED and again.stdout.count('\nran ') == 2
  assert not any('rsync' in c or 'scp' in c for c in calls)


def test_all_tpu_workers_run_it_and_lose_what_is_gone_here(machines):
  machines(*TPU, '--', *COMMAND)
  gone = machines.repository / 'experiments' / 'gone here.py'
  gone.touch()
  machines(*TPU, '--detach', '--as_is', '--', *COMMAND)
  there = [machines.home / worker / 'jaxdl' for worker in '01']
  report = [folder / 'runs' / 'study' / 'report' / 'report.html' for folder in there]
  until(lambda: all('--distributed' not in r.read_text() for r in report))
  assert all((folder / 'experiments' / gone.name).exists() for folder in there)
  until(lambda: all((folder / 'runs' / '.job' / 'exit_code').exists() for folder in there))
  gone.unlink()
  done, calls = machines(*TPU, '--setup=touch "set up"', '--', *COMMAND)
  assert done.returncode == 0, done.stderr
  assert not any((folder / 'experiments' / gone.name).exists() for folder in there)
  assert all(r.exists() for r in report)  # what the runs wrote stays
  assert all((machines.home / worker / 'set up').exists() for worker in '01')
  assert all('--zone=us-central2-b' in c and '--project=p' in c for c in calls)


def test_fetch_leaves_checkpoints_there(machines):
  machines(*TPU, '--', *COMMAND)
  machines(*TPU, '--fetch')
  assert next(machines.repository.glob('runs/from-my-tpu/study/seed-0')).is_dir()
  assert not list(machines.repository.glob('runs/from-my-tpu/study/seed-0/checkpoints'))
  _, calls = machines(*GPU, '--fetch')
  assert '--exclude=checkpoints*/' in calls[0]


def test_rsync_deletes_what_is_gone_but_nothing_the_machine_made(machines):
  _, calls = machines(*GPU, '--setup=touch "set up"', '--python=/usr/bin/python3.12', '--',
                      *COMMAND)
  assert calls[0] == ['ssh', '-p', '2222', 'ada@gpu', 'touch "set up"']
  rsync = next(c for c in calls if c[0] == 'rsync')
  assert rsync[1:6] == ['-az', '--delete-after', '-e', 'ssh -p 2222', '--exclude=/.git']
  assert '--exclude=/runs' in rsync and '--exclude=/.venv*' in rsync
  assert rsync[-2:] == [f'{machines.repository}/', 'ada@gpu:jaxdl/']
  install = next(c for c in calls if 'job.sh install' in c[-1])
  assert shlex.split(install[-1])[-3:] == ['install', '[cuda]', '/usr/bin/python3.12']


def test_a_missing_program_is_named(machines, tmp_path):
  tools = tmp_path / 'tools'
  tools.mkdir()
  for tool in ('bash', 'dirname', 'basename'):
    (tools / tool).symlink_to(shutil.which(tool))
  for target, program in ((GPU, 'ssh'), (TPU, 'gcloud')):
    done = run(*target, '--', 'true', PATH=tools)
    assert done.returncode == 2 and f"'{program}' is not on PATH" in done.stderr


# --- slurm.sbatch, with a scheduler that is a folder

SCHEDULER = r"""#!{python}
import json, os, pathlib, signal, subprocess, sys

home = pathlib.Path({home!r})
name, arguments = pathlib.Path(sys.argv[0]).name, sys.argv[1:]
with (home / 'calls').open('a') as calls:
  calls.write(json.dumps([name, *arguments]) + '\n')
if name == 'srun':
  first = next(i for i, a in enumerate(arguments) if not a.startswith('-'))
  child = subprocess.Popen(arguments[first:])
  (home / 'step.part').write_text(str(child.pid))
  (home / 'step.part').rename(home / 'step')
  sys.exit(child.wait())
if name == 'scancel':
  os.kill(int((home / 'step').read_text()), signal.SIGTERM)
"""
STUDY = """
import json, os, pathlib, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
pathlib.Path('ran').write_text(json.dumps([sys.argv[1:], os.environ.get('JAX_LOCAL_DEVICE_IDS')]))
if code := [a for a in sys.argv if a.startswith('--code=')]:
  sys.exit(int(code[0][7:]))
time.sleep(60)
"""


@pytest.fixture
def cluster(tmp_path):
  """A repository with one study, and `submit(*arguments, **variables)`: what sbatch would start."""
  repository, programs = tmp_path / 'repository', tmp_path / 'programs'
  for folder in (repository / 'launch', repository / 'experiments', programs):
    folder.mkdir(parents=True)
  for name in ('remote.sh', 'slurm.sbatch'):
    shutil.copy(LAUNCH / name, repository / 'launch')
  (repository / 'experiments' / 'study.py').write_text(STUDY)
  for name in ('srun', 'scancel', 'scontrol'):
    (programs / name).write_text(SCHEDULER.format(python=sys.executable, home=str(tmp_path)))
    (programs / name).chmod(0o755)
  spooled = shutil.copy(LAUNCH / 'slurm.sbatch', tmp_path / 'slurm_script')  # as slurmd does

  def submit(*arguments, **variables):
    environment = clean({
      'SLURM_JOB_ID': 7, 'SLURM_SUBMIT_DIR': repository,
      'PATH': f'{programs}:{os.environ["PATH"]}', **variables,
    })
    return subprocess.Popen(
      ['bash', spooled, f'--python={sys.executable}', 'experiments/study.py', *arguments],
      cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )

  submit.repository = repository
  submit.calls = lambda: [json.loads(c) for c in (tmp_path / 'calls').read_text().splitlines()]
  submit.step = lambda: int((tmp_path / 'step').read_text())
  return submit


def test_near_the_time_limit_the_run_saves_and_the_job_is_requeued(cluster):
  job = cluster('--a=b c', SLURM_NNODES=2, SLURM_GPUS_ON_NODE=4, SLURM_CPUS_PER_TASK=16)
  until((cluster.repository / 'ran').exists)
  job.send_signal(signal.SIGUSR1)
  out, _ = job.communicate(timeout=60)
  assert job.returncode == SAVED, out
  srun, *others = cluster.calls()
  assert srun[:5] == ['srun', '--nodes=2', '--ntasks=2', '--ntasks-per-node=1', '--gpu-bind=none']
  assert '--cpus-per-task=16' in srun
  assert others == [['scancel', '-s', 'TERM', '7'], ['scontrol', 'requeue', '7']]
  ran = json.loads((cluster.repository / 'ran').read_text())
  assert ran == [['--a=b c', '--distributed'], '0,1,2,3']


def test_a_job_that_its_user_stops_is_not_requeued(cluster):
  job = cluster()
  until((cluster.repository / 'ran').exists)
  os.kill(cluster.step(), signal.SIGTERM)  # scancel --signal=TERM 7
  assert job.wait(timeout=60) == SAVED
  assert [c[0] for c in cluster.calls()] == ['srun']


@pytest.mark.parametrize('code', [0, 1])
def test_a_job_that_ends_passes_its_code_on(cluster, code):
  job = cluster(f'--code={code}')
  out, _ = job.communicate(timeout=60)
  assert job.returncode == code and f'Exit code {code}' in out
  assert [c[0] for c in cluster.calls()] == ['srun']
  assert json.loads((cluster.repository / 'ran').read_text()) == [[f'--code={code}'], None]


@pytest.mark.parametrize('variables, tasks, local', [
  ({}, (1, 1), None),
  ({'SLURM_NNODES': 2}, (2, 1), None),
  ({'SLURM_GPUS_ON_NODE': 4}, (1, 1), '0,1,2,3'),
  ({'SLURM_NNODES': 2, 'SLURM_GPUS_ON_NODE': 4, 'SLURM_NTASKS_PER_NODE': 4}, (8, 4), None),
  ({'SLURM_NNODES': 2, 'SLURM_GPUS_ON_NODE': 2, 'SLURM_NTASKS': 4}, (4, 2), None),
])
def test_one_process_a_node_or_one_a_gpu(variables, tasks, local):
  done = run('slurm.sbatch', '--dry_run', f'--python={sys.executable}', 'experiments/classify.py',
             '--a=b c', **variables)
  assert done.returncode == 0, done.stderr
  *variable, command = done.stdout.splitlines()
  assert variable == ([f'JAX_LOCAL_DEVICE_IDS={local}'] if local else [])
  words = shlex.split(command)
  assert f'--ntasks={tasks[0]}' in words and f'--ntasks-per-node={tasks[1]}' in words
  assert words[words.index(sys.executable):] == [
    sys.executable, 'experiments/classify.py', '--a=b c',
    *(['--distributed'] if tasks[0] > 1 else []),
  ]


def test_processes_that_do_not_fit_the_gpus_are_refused():
  done = run('slurm.sbatch', '--dry_run', f'--python={sys.executable}', 'experiments/classify.py',
             SLURM_GPUS_ON_NODE=4, SLURM_NTASKS_PER_NODE=2)
  assert done.returncode == 2 and '--gpus-per-node=2' in done.stderr


def test_sbatch_reads_its_options_before_the_first_command():
  lines = (LAUNCH / 'slurm.sbatch').read_text().splitlines()
  options = [line for line in lines if line.startswith('#SBATCH ')]
  assert lines[1:1 + len(options)] == options
  assert '#SBATCH --signal=B:USR1@120' in options and '#SBATCH --open-mode=append' in options


# --- the guide


def guide_commands():
  blocks = re.findall(r'```bash\n(.*?)```', (ROOT / 'docs' / 'CLUSTERS.md').read_text(), re.S)
  lines = '\n'.join(blocks).replace('\\\n', ' ').splitlines()
  return [words for line in lines if (words := shlex.split(line, comments=True))]


@pytest.mark.parametrize('command', guide_commands(), ids=' '.join)
def test_commands_of_the_guide_are_accepted(command):
  words = [w for w in command if not re.match(r'[A-Z_]+=', w) and not w.startswith('>')]
  if words[0] == 'sbatch' and words[-1] == 'array.sbatch':
    return  # what sweep.py has printed
  if words[0] == 'sbatch':
    script = words.index('launch/slurm.sbatch')
    gpus = dict(w.lstrip('-').split('=') for w in words[1:script])
    variables = {
      'SLURM_NNODES': gpus.get('nodes', 1), 'SLURM_GPUS_ON_NODE': gpus['gpus-per-node'],
      'SLURM_NTASKS_PER_NODE': gpus.get('ntasks-per-node', 1),
    }
    done = run('slurm.sbatch', f'--python={sys.executable}', '--dry_run', *words[script + 1:],
               **variables)
  elif words[0] == 'bash':
    name, arguments = pathlib.Path(words[1]).name, words[2:]
    if name == 'slurm.sbatch':
      arguments.insert(0, f'--python={sys.executable}')
    else:
      arguments.insert(arguments.index('--') if '--' in arguments else len(arguments), '--dry_run')
    done = run(name, *arguments)
  elif words[1] == 'launch/sweep.py':
    done = subprocess.run([sys.executable, *words[1:]], cwd=ROOT, text=True, capture_output=True,
                          check=False)
  else:
    assert words[0] == 'gcloud' or (ROOT / words[1]).is_file(), words
    return
  assert done.returncode == 0 and done.stdout, done.stderr
  studies = [w for w in words if w.startswith('experiments/')]
  assert all((ROOT / w).is_file() for w in studies)
