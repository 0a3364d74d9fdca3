"""The command line, as a user meets it: one sentence and a documented exit code."""

import json
import os
import subprocess
import sys

import pytest

EXPERIMENT = '''
"""A study of two stages."""
import os, signal
from jaxdl import app
from jaxdl.train import interrupt
from jaxdl.train.loop import NonFinite
from jaxdl.train.stages import Stage

def stages(c):
  def train(context):
    if c.fail == 'nan':
      raise NonFinite('loss became NaN between step 1 and 2.')
    if c.fail == 'signal':
      os.kill(os.getpid(), signal.SIGTERM)
      interrupt.poll()
    if c.fail == 'disk':
      raise OSError(28, 'No space left on device', 'runs')
    if c.fail == 'value':
      raise ValueError('The set nothing is nowhere: prepare it.')
    return {'lr': c.lr}
  plan = lambda: {'parameters': 1234, 'MACs': 5678, 'work': 3e12}
  return [Stage('train', train, {'lr': c.lr}, plan=plan)]

if __name__ == '__main__':
  app.run(stages, default_config='configs/tiny.py')
'''
CONFIG = '''
from ml_collections import ConfigDict

def get_config(variant=''):
  if variant not in ('', 'fast'):
    raise ValueError(f"Unknown variant {variant!r}: choose '' or 'fast'.")
  return ConfigDict({'lr': 0.1 if variant else 0.2, 'fail': ''})
'''


@pytest.fixture
def call(tmp_path):
  (tmp_path / 'configs').mkdir()
  (tmp_path / 'tiny.py').write_text(EXPERIMENT)
  (tmp_path / 'configs' / 'tiny.py').write_text(CONFIG)

  def run(*arguments):
    environment = os.environ | {'XLA_FLAGS': ''}
    environment.pop('JAXDL_DEBUG', None)
    return subprocess.run(
      [sys.executable, 'tiny.py', *arguments], cwd=tmp_path, env=environment, text=True,
      capture_output=True, check=False,
    )

  return run


def sentence(done, code):
  assert done.returncode == code, done.stderr
  assert 'Traceback' not in done.stderr
  return done.stderr


def test_a_run_is_recorded_and_found_done_and_another_configuration_is_refused(call, tmp_path):
  first = call('--config=configs/tiny.py:fast', '--workdir=out')
  assert first.returncode == 0 and 'tiny is done' in first.stdout, first.stderr
  recorded = json.loads((tmp_path / 'out' / 'run.json').read_text())
  assert recorded['command'].endswith('tiny.py --config=configs/tiny.py:fast --workdir=out')
  assert recorded['versions']['jax'] and recorded['device'].startswith('cpu')
  assert json.loads((tmp_path / 'out' / 'config.json').read_text())['lr'] == 0.1
  assert (tmp_path / 'out' / 'source' / 'tiny.py').read_text() == EXPERIMENT
  assert (tmp_path / 'out' / 'source' / 'config_tiny.py').read_text() == CONFIG
  other = sentence(call('--config.lr=0.3', '--workdir=out'), 2)
  assert 'lr was 0.1 and is now 0.3' in other and '--workdir' in other
  assert json.loads((tmp_path / 'out' / 'train' / 'DONE').read_text())['result'] == {'lr': 0.1}


def test_dry_run_prints_the_plan_and_makes_nothing(call, tmp_path):
  done = call('--dry_run')
  assert done.returncode == 0 and '1,234' in done.stdout and '3.000' in done.stdout, done.stderr
  assert 'to do' in done.stdout and not (tmp_path / 'runs').exists()


@pytest.mark.parametrize('arguments, expected', [
  (['--config.lrr=1'], "lr"),
  (['--config=configs/tiny.py:slow'], "Unknown variant 'slow'"),
  (['--config=configs/none.py'], 'none.py'),
  (['--config.lr=fast'], 'fast'),
  (['--wrokdir=x'], 'workdir'),
  (['workdir=x'], "Unexpected argument 'workdir=x'"),
  (['--config.fail=value'], 'prepare it'),
  (['--workdir=tiny.py'], 'cannot be written'),
], ids=['typo', 'variant', 'file', 'type', 'flag', 'argument', 'value', 'workdir'])
def test_bad_input_is_one_sentence(call, arguments, expected):
  said = sentence(call(*arguments), 2)
  assert expected in said and len(said.strip().splitlines()) <= 3, said


def test_a_failed_run_has_its_own_exit_code(call):
  assert 'became NaN' in sentence(call('--config.fail=nan'), 1)
  assert 'No space left' in sentence(call('--config.fail=disk', '--workdir=other'), 1)


def test_a_signal_tells_the_command_that_goes_on(call):
  said = sentence(call('--config.fail=signal', '--workdir=my out'), 75)
  assert 'SIGTERM' in said and "tiny.py --config.fail=signal '--workdir=my out'" in said
