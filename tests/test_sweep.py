"""Sweeps: which commands, their folders, resuming, stopping, and the summary."""

import importlib.util
import itertools
import json
import os
import pathlib
import shlex
import signal
import statistics
import subprocess
import sys
import time

import pytest

SWEEP = pathlib.Path(__file__).parents[1] / 'launch' / 'sweep.py'
STOPPED = 75

STUDY = """
import json, os, pathlib, signal, sys, time
options = dict(a.lstrip('-').split('=', 1) for a in sys.argv[1:])
work = pathlib.Path(options['workdir'])
log = work / 'starts'
gpu = os.environ.get('CUDA_VISIBLE_DEVICES', '-')
log.write_text((log.read_text() if log.exists() else '') + gpu)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
flag = pathlib.Path('fail-' + options.get('config.lr', ''))
print('trains', options.get('config.lr'), flush=True)
if flag.exists():
  sys.exit(f'{flag} is there')
if pathlib.Path('wait').exists():
  time.sleep(60)
lr, seed = float(options.get('config.lr', 0)), int(options.get('config.seeds', '(0,)')[1:-2])
for stage in options.get('stages', 'train').split(','):
  (work / stage).mkdir(exist_ok=True)
  with (work / stage / 'metrics.jsonl').open('w') as f:
    for step in (1, 2):
      print(json.dumps({'step': step, 'train/loss': 1 / step + lr}), file=f)
    print(json.dumps({'step': 2, 'test/accuracy': lr + seed}), file=f)
(work / 'report').mkdir(exist_ok=True)
row = lambda metric, value, setting='net': {'setting': setting, 'metric': metric, 'value': value}
rows = [row('accuracy (%)', 100 * lr + seed), row('error', -lr), row('missing', None)]
(work / 'report' / 'results.json').write_text(json.dumps(rows))
"""


@pytest.fixture
def sweep(tmp_path):
  """`sweep(*arguments)` in a folder with the study s.py; `.start` returns the process."""
  (tmp_path / 's.py').write_text(STUDY)

  def start(*arguments):
    return subprocess.Popen(
      [sys.executable, SWEEP, 's.py', *arguments], cwd=tmp_path, text=True,
      stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )

  def call(*arguments):
    process = start(*arguments)
    out, err = process.communicate(timeout=60)
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)

  call.start, call.root = start, tmp_path / 'runs' / 'sweep-s'
  return call


@pytest.fixture(scope='module')
def module():
  spec = importlib.util.spec_from_file_location('sweep', SWEEP)
  loaded = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(loaded)
  return loaded


def until(condition):
  end = time.monotonic() + 20
  while not condition():
    assert time.monotonic() < end, 'timed out'
    time.sleep(0.02)


def test_help_is_quick_and_needs_no_jax():
  command = [sys.executable, '-X', 'importtime', SWEEP, '--help']
  done = subprocess.run(command, capture_output=True, text=True, check=True)
  assert 'exit code' in done.stdout and '--grid' in done.stdout
  imported = {line.rsplit('|', 1)[1].strip().split('.')[0] for line in done.stderr.splitlines()}
  foreign = {'jax', 'jaxdl', 'numpy', 'absl', 'ml_collections'}
  assert 'argparse' in imported and not foreign & imported


def test_commands_are_the_product_of_the_grids_and_keep_their_quoting(sweep):
  done = sweep(
    '--config=a b.py:cpu', '--grid', 'config.lr=0.1,0.2', '--grid=config.data.names=(1,2),[3,4]',
    '--value', "config.text=it's a, b", '--seeds=0,1', '--python=py',
  )
  assert done.returncode == 0, done.stderr
  commands = [shlex.split(line) for line in done.stdout.splitlines()]
  expected = itertools.product(
    ['0.1', '0.2'], ['(1,2)', '[3,4]'], ["it's a, b"], ['(0,)', '(1,)']
  )
  assert [c[:-1] for c in commands] == [
    ['py', 's.py', '--config=a b.py:cpu', f'--config.lr={lr}', f'--config.data.names={names}',
     f'--config.text={text}', f'--config.seeds={seed}']
    for lr, names, text, seed in expected
  ]
  folders = [c[-1].removeprefix('--workdir=') for c in commands]
  assert len(set(folders)) == 8 and not pathlib.Path(folders[0]).is_absolute()
  for folder in folders:
    head, name = os.path.split(folder)
    assert head == 'runs/sweep-s-cpu' and not set(name) & set(' /\'"()[]')


def test_values_split_outside_of_brackets_and_quotes(module):
  assert module.split_values('a,b') == ['a', 'b']
  assert module.split_values('(0,),(1,2)') == ['(0,)', '(1,2)']
  assert module.split_values('"a,b",{1: [2,3]}') == ['"a,b"', '{1: [2,3]}']
  assert module.split_values("(')',1),b") == ["(')',1)", 'b']
  assert module.split_values("it's,)a") == ["it's", ')a']


def test_short_names_tell_the_options_apart(module):
  keys = ['config.a.lr', 'config.b.lr', 'config.model.name', 'lr', 'config.seeds', 'x.seeds']
  names = module.short_names(keys)
  assert names == {
    'config.a.lr': 'a.lr', 'config.b.lr': 'b.lr', 'config.model.name': 'name', 'lr': 'lr',
    'config.seeds': 'seeds', 'x.seeds': 'x.seeds',
  }
  assert module.short_names(['a.lr', 'b.a.lr']) == {'a.lr': 'a.lr', 'b.a.lr': 'b.a.lr'}


def test_folder_names_are_readable_and_different_for_different_values(module):
  assert module.folder_name({'lr': '0.05', 'name': 'resnet8'}) == 'lr=0.05,name=resnet8'
  texts = ['a/b', 'a b', 'a_b', '../a', 'x' * 300, 'x' * 299 + 'y', '(1,2)', '[1,2]', '']
  names = [module.folder_name({'v': text}) for text in texts]
  assert len(set(names)) == len(texts)
  assert all('/' not in n and len(n) < 130 and not n.startswith('.') for n in names)


@pytest.mark.parametrize('arguments, said', [
  ([], 'no grid'),
  (['--grid', 'config.lr'], "'config.lr'"),
  (['--grid', 'config.lr=0.1,,0.2'], 'config.lr is empty'),
  (['--grid', 'config.lr=0.1,0.1'], '0.1 twice'),
  (['--seeds=a'], "not 'a'"),
  (['--seeds=0', '--grid', 'config.seeds=1'], 'twice'),
  (['--seeds=0', '--workdir=x'], '--root'),
  (['--seeds=0', 'stray'], "'stray'"),
  (['--seeds=0', '--jobs=0'], '--jobs'),
])
def test_bad_input_gets_one_sentence(sweep, arguments, said):
  done = sweep(*arguments)
  assert done.returncode == 2 and said in done.stderr and 'Traceback' not in done.stderr
  assert len(done.stderr.splitlines()) == 1


def test_a_missing_study_or_a_root_that_cannot_be_made_is_named(sweep, tmp_path):
  done = subprocess.run([sys.executable, SWEEP, 'none.py', '--seeds=0'], cwd=tmp_path, text=True,
                        capture_output=True, check=False)
  assert done.returncode == 2 and 'none.py' in done.stderr
  (tmp_path / 'file').touch()
  done = sweep('--seeds=0', '--root=file/in', '--run')
  assert done.returncode == 2 and 'file/in' in done.stderr and 'Traceback' not in done.stderr


def test_cells_run_once_and_the_summary_has_their_numbers(sweep):
  arguments = ['--grid', 'config.lr=0.1,0.2', '--seeds=0,2', '--run', '--jobs=3']
  done = sweep(*arguments)
  assert done.returncode == 0, done.stderr
  found = json.loads((sweep.root / 'summary.json').read_text())
  assert found['columns'] == ['lr', 'seeds'] and found['metrics'] == ['accuracy (%)', 'error']
  cells = {(c['settings']['lr'], c['settings']['seeds']): c for c in found['cells']}
  for (lr, seed), cell in cells.items():
    assert cell['status'] == 'done' and cell['seconds'] > 0
    assert cell['values'] == {'accuracy (%)': 100 * float(lr) + int(seed), 'error': -float(lr)}
  for mean in found['means']:
    lr = float(mean['settings']['lr'])
    seeds = [100 * lr, 100 * lr + 2]
    assert mean['values']['accuracy (%)'] == {
      'mean': pytest.approx(statistics.fmean(seeds)), 'std': pytest.approx(2**0.5), 'n': 2
    }
  text = (sweep.root / 'summary.md').read_text()
  assert '| 0.2 | 2     | 22' in text and '21 ± 1.414' in text and text.count('done') == 4
  assert text.split('\n', 2)[2].strip() in done.stdout
  again = sweep(*arguments)
  assert again.returncode == 0 and again.stdout.count('done before') == 4
  assert all(log.read_text() == '-' for log in sweep.root.glob('*/starts'))
  assert json.loads((sweep.root / 'summary.json').read_text()) == found


def test_metrics_are_found_in_the_logs_and_missing_ones_are_no_error(sweep):
  chosen = ['train/loss', 'test/accuracy', 'error', 'nothing', 'a: train/loss']
  flags = [f'--metric={name}' for name in chosen]
  values = lambda: json.loads((sweep.root / 'summary.json').read_text())['cells'][0]['values']
  assert sweep('--grid', 'config.lr=0.5', '--run', *flags).returncode == 0
  assert values() == dict(zip(chosen, [1.0, 0.5, -0.5, None, None], strict=True))
  done = sweep('--grid', 'config.lr=0.25', '--stages=a,b', '--run', *flags)
  assert done.returncode == 0 and '–' in done.stdout
  assert values() == dict(zip(chosen, [None, None, -0.25, None, 0.75], strict=True))


def test_another_fixed_option_runs_the_cells_again(sweep):
  sweep('--grid', 'config.lr=0.1', '--run')
  sweep('--grid', 'config.lr=0.1', '--run', '--config.other=1')
  assert (sweep.root / 'lr=0.1' / 'starts').read_text() == '--'


def test_a_failed_cell_does_not_stop_the_others_and_is_tried_again(sweep, tmp_path):
  (tmp_path / 'fail-0.1').touch()
  arguments = ['--grid', 'config.lr=0.1,0.2', '--run']
  done = sweep(*arguments)
  assert done.returncode == 1 and 'fail-0.1 is there' in done.stdout
  assert 'lr=0.1/sweep.log' in done.stdout and 'Traceback' not in done.stderr
  cells = json.loads((sweep.root / 'summary.json').read_text())['cells']
  assert [c['status'] for c in cells] == ['failed', 'done']
  (tmp_path / 'fail-0.1').unlink()
  assert sweep(*arguments).returncode == 0
  starts = [(sweep.root / f'lr={lr}' / 'starts').read_text() for lr in (0.1, 0.2)]
  assert starts == ['--', '-']


def test_ctrl_c_lets_the_cells_save_and_the_same_command_goes_on(sweep, tmp_path):
  (tmp_path / 'wait').touch()
  arguments = ['--grid', 'config.lr=0.1,0.2,0.3', '--run', '--jobs=2']
  process = sweep.start(*arguments)
  logs = [sweep.root / f'lr={lr}' / 'sweep.log' for lr in (0.1, 0.2)]
  until(lambda: all(log.exists() and 'trains' in log.read_text() for log in logs))
  os.killpg(process.pid, signal.SIGINT)  # what a terminal does
  out, err = process.communicate(timeout=30)
  assert process.returncode == STOPPED and 'Traceback' not in err, err
  assert 'SIGINT' in err and shlex.quote('config.lr=0.1,0.2,0.3') in err
  cells = json.loads((sweep.root / 'summary.json').read_text())['cells']
  assert [c['status'] for c in cells] == ['stopped', 'stopped', 'to do']
  (tmp_path / 'wait').unlink()
  done = sweep(*arguments)
  assert done.returncode == 0 and done.stdout.count('goes on') == 2, done.stdout
  cells = json.loads((sweep.root / 'summary.json').read_text())['cells']
  assert all(c['status'] == 'done' for c in cells)


def test_a_killed_cell_goes_on_the_next_time(sweep, tmp_path):
  (tmp_path / 'wait').touch()
  process = sweep.start('--grid', 'config.lr=0.1', '--run')
  log = sweep.root / 'lr=0.1' / 'sweep.log'
  until(lambda: log.exists() and 'trains' in log.read_text())
  children = pathlib.Path(f'/proc/{process.pid}/task/{process.pid}/children').read_text().split()
  os.kill(int(children[0]), signal.SIGKILL)
  out, _ = process.communicate(timeout=30)
  assert process.returncode == STOPPED and 'killed by signal 9' in out
  (tmp_path / 'wait').unlink()
  assert sweep('--grid', 'config.lr=0.1', '--run').returncode == 0


def test_the_folder_stays_locked_while_a_command_of_a_killed_sweep_lives(sweep, tmp_path):
  (tmp_path / 'wait').touch()
  process = sweep.start('--grid', 'config.lr=0.1', '--run')
  log = sweep.root / 'lr=0.1' / 'sweep.log'
  until(lambda: log.exists() and 'trains' in log.read_text())
  child = int(pathlib.Path(f'/proc/{process.pid}/task/{process.pid}/children').read_text())
  process.kill()
  process.communicate(timeout=30)
  try:
    done = sweep('--grid', 'config.lr=0.2', '--run')
    assert done.returncode == 2 and 'is running in' in done.stderr
  finally:
    os.kill(child, signal.SIGTERM)
  (tmp_path / 'wait').unlink()
  until(lambda: sweep('--grid', 'config.lr=0.1,0.2', '--run').returncode == 0)


def test_every_job_has_a_gpu_of_its_own(sweep):
  done = sweep('--grid', 'config.lr=0.1,0.2,0.3,0.4', '--run', '--gpus=5,7')
  assert done.returncode == 0, done.stderr
  used = [(sweep.root / f'lr={lr}' / 'starts').read_text() for lr in (0.1, 0.2, 0.3, 0.4)]
  assert set(used[:2]) == {'5', '7'} and set(used) == {'5', '7'}


def test_a_slurm_array_hands_every_task_its_cell(sweep, tmp_path):
  arguments = ['--grid', 'config.lr=0.1,0.2', '--value', 'config.text=a b']
  lines = sweep(*arguments).stdout.splitlines()
  script = sweep(*arguments, '--format=slurm-array').stdout
  assert '#SBATCH --array=0-1\n' in script and '#SBATCH --signal=B:USR1@120\n' in script
  (tmp_path / 'launch').mkdir()
  job = tmp_path / 'launch' / 'slurm.sbatch'
  job.write_text("import sys, json; print(json.dumps(sys.argv[1:]))")
  script = script.replace('exec bash', f'exec {sys.executable}')
  for task, line in enumerate(lines):
    variables = {'SLURM_ARRAY_TASK_ID': str(task), 'SLURM_SUBMIT_DIR': str(tmp_path)}
    done = subprocess.run(['bash', '-c', script], env=os.environ | variables, text=True,
                          capture_output=True, check=True)
    assert json.loads(done.stdout) == shlex.split(line)[1:]
