"""Two real processes train one model: with the result of one process, through faults."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).parents[1]
SAVED = 75
LIMIT = 300  # seconds; the processes take a few

CONFIG = f"""
import runpy

def get_config(variant=''):
  c = runpy.run_path({str(ROOT / 'experiments' / 'configs' / 'classify.py')!r})['get_config']()
  c.seeds = (0,)
  c.train.data.update(name='digits', per_class=40, test=64)
  c.train.model = {{'name': 'mlp', 'dtype': 'float32'}}
  c.train.augment.update(pad=1, flip=False)
  c.train.optimizer.update(lr=0.05, schedule={{'name': 'constant'}})
  c.train.update(epochs=60.0, batch_size=40, log=20, evaluate=200, checkpoint=50)
  return c
"""


class Runs:
  """Starts the study in `folder`, as one process or as two."""

  def __init__(self, folder):
    self.folder = folder
    self.config = folder / 'tiny.py'
    self.config.write_text(CONFIG)
    kept = {k: v for k, v in os.environ.items() if k != 'XLA_FLAGS'}
    if kept.pop('PYTHONDONTWRITEBYTECODE', None):  # seven starts would compile every module anew
      kept['PYTHONPYCACHEPREFIX'] = str(folder / 'bytecode')
    # Set, it keeps a process from restarting itself for huge pages.
    self.environment = {'GLIBC_TUNABLES': '', **kept}

  def study(self, name):
    return [sys.executable, str(ROOT / 'experiments' / 'classify.py'), f'--config={self.config}',
            f'--workdir={self.folder / name}', '--platform=cpu']

  def start(self, command):
    return subprocess.Popen(command, cwd=self.folder, env=self.environment, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

  def one(self, name):
    return self.start([*self.study(name), '--devices=2'])

  def two(self, name):
    launcher = ['bash', ROOT / 'launch' / 'local_multiprocess.sh', '2', '--grace=5',
                f'--logs={self.folder}/logs', '--']
    return self.start([*launcher, *self.study(name)])

  def checkpoints(self, name):
    folder = self.folder / name / 'seed-0' / 'checkpoints'
    return [int(p.name) for p in folder.glob('*') if p.name.isdigit()]

  def metrics(self, name):
    lines = (self.folder / name / 'seed-0' / 'metrics.jsonl').read_text().splitlines()
    return [json.loads(line) for line in lines]


def finish(process, code):
  out, _ = process.communicate(timeout=LIMIT)
  assert process.returncode == code, out
  return out


def until_trained(process, condition):
  end = time.monotonic() + LIMIT
  while not condition():
    assert process.poll() is None, process.communicate()[0]
    assert time.monotonic() < end, 'timed out'
    time.sleep(0.01)


def second_of(launcher):
  """The pid of process 1."""
  children = pathlib.Path(f'/proc/{launcher.pid}/task/{launcher.pid}/children').read_text().split()
  return next(
    int(pid) for pid in children
    if b'JAX_PROCESS_ID=1\0' in pathlib.Path(f'/proc/{pid}/environ').read_bytes()
  )


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
  return Runs(tmp_path_factory.mktemp('processes'))


def test_two_processes_killed_and_stopped_end_where_one_does(runs):
  finish(runs.one('one'), 0)

  process = runs.two('two')
  until_trained(process, lambda: runs.checkpoints('two'))
  os.kill(second_of(process), signal.SIGKILL)
  out = finish(process, 128 + signal.SIGKILL)
  assert 'Process 1 ended with exit code 137' in out

  process, before = runs.two('two'), max(runs.checkpoints('two'))
  until_trained(process, lambda: max(runs.checkpoints('two'), default=0) > before)
  process.send_signal(signal.SIGTERM)
  out = finish(process, SAVED)
  assert 'everything is saved' in out and 'local_multiprocess.sh 2' in out
  assert before < max(runs.checkpoints('two')) < 600

  out = finish(runs.two('two'), 0)
  assert 'seed-0: goes on' in out and 'classify is done' in out
  one, two = runs.metrics('one'), runs.metrics('two')
  assert [sorted(line) for line in one] == [sorted(line) for line in two]
  for a, b in zip(one, two, strict=True):
    assert a == pytest.approx(b, rel=1e-4, abs=1e-6)
  assert one[-1]['step'] == 600
  results = [json.loads((runs.folder / n / 'report' / 'results.json').read_text())
             for n in ('one', 'two')]
  for a, b in zip(*results, strict=True):
    assert (a['metric'], a['n']) == (b['metric'], b['n'])
    assert a['value'] == pytest.approx(b['value'], rel=1e-3, abs=1e-6)
