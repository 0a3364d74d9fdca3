"""What a run survives, as a user meets it: processes killed, signalled, out of disk, run again.

docs/PROMISES.md lists the promises; what needs no process of its own is tested in tests/train.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from warm import Run

STUDY = '''
import os, pathlib, time

import jax, jax.numpy as jnp, numpy as np

from jaxdl import app, data
from jaxdl.core import bind, init_state
from jaxdl.landscape.survey import survey
from jaxdl.models import create
from jaxdl.objectives import supervised
from jaxdl.optim import build
from jaxdl.train import classifier, interrupt
from jaxdl.train.evaluate import predict
from jaxdl.train.loop import Every, fit
from jaxdl.train.stages import Stage
from jaxdl.train.step import grad_step

reached = lambda what: pathlib.Path(f'reached.{what}').touch()


def train(c, context):
  return classifier.train(c.train.to_dict(), c.seed, context.directory)


def network():
  digits = data.load('digits')
  return digits, bind(create('mlp', 10, hidden=(16,)))


def evaluate(c, context):
  """Training whose evaluation takes minutes, or moments where QUICK is set; the result is one."""
  digits, model = network()
  tx = build({'name': 'sgd', 'lr': 0.1}, 6)

  def slow(state):
    images = digits.test.images[:20]
    if state.step == 4:
      reached('evaluation')
      if 'QUICK' not in os.environ:
        predict(model, state.params, state.model_state, np.repeat(images, 50_000, 0), chunk=20)
    return {'logit': predict(model, state.params, state.model_state, images).max()}

  fit(init=lambda: init_state(model.init, tx, jax.random.key(0), jnp.zeros((1, 8, 8, 1))),
      step=grad_step(supervised(model.apply), tx), data=data.resident(digits.train, 20, 0),
      steps=6, workdir=context.directory, evals={'test': slow},
      every=Every(log=3, evaluate=2, checkpoint=3))


def analyse(c, context):
  digits, model = network()
  params, state = model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
  arrays = digits.test.images[:20], digits.test.labels[:20]
  reached('analysis')
  options = {'relative': [0.1] * 100_000, 'absolute': [0.1], 'l2': [0.1], 'linf': [0.1],
             'bits': [4], 'draws': 1, 'attack_steps': 1, 'eigenvalues': 1, 'lanczos': 2}
  survey(model, params, state, arrays, arrays, arrays[0], options, jax.random.key(1))


def attack(c, context):
  """One device program of about c.seconds after another, as a long attack is."""
  turns = lambda n: jax.lax.fori_loop(0, n, lambda i, x: jnp.tanh(x @ x), jnp.eye(300))
  program = jax.jit(turns)
  program(1).block_until_ready()
  start = time.monotonic()
  program(100).block_until_ready()
  n = int(100 * c.seconds / (time.monotonic() - start))
  reached('attack')
  for turn in interrupt.polled(range(1000)):
    program(n).block_until_ready()
    reached('end of a turn')


def compile_(c, context):
  def slow(x):
    for i in range(100):
      x = jnp.sort(jnp.concatenate([x, x[: i + 1]]))[:1000] + jnp.sin(x)
    return x

  lowered = jax.jit(slow).lower(jnp.ones(1000))
  reached('compilation')
  lowered.compile()
  reached('end of the compilation')
  interrupt.poll()


def stages(c):
  jax.config.update('jax_enable_compilation_cache', c.stage != 'compile_')
  run = globals()[c.stage]
  config = {'train': c.train.to_dict(), 'seed': c.seed} if c.stage == 'train' else {}
  return [Stage('train', lambda context: run(c, context), config)]


if __name__ == '__main__':
  app.run(stages, default_config='configs/study.py')
'''
CONFIG = '''
from ml_collections import ConfigDict


def get_config(variant=''):
  return ConfigDict({'seed': 0, 'stage': 'train', 'seconds': 1.0, 'train': {
    'data': {'name': 'digits', 'per_class': 6, 'test': 40},
    'model': {'name': 'mlp', 'hidden': (16,)},
    'augment': {'pad': 1, 'mode': 'constant', 'flip': False},
    'epochs': 40.0, 'batch_size': 20,
    'optimizer': {'name': 'adam', 'lr': 0.01, 'ema': 0.9,
                  'perturbation': {'name': 'sam', 'rho': 0.05}},
    'log': 3, 'evaluate': 7, 'checkpoint': 1000}})
'''
OFTEN = '--config.train.checkpoint=2'


class Study:
  """The study above, in a workdir."""

  def __init__(self, home, name, workdir=None):
    self.home, self.workdir = home, workdir or home / name
    self.folder = self.workdir / 'train'
    self.checkpoints, self.record = self.folder / 'checkpoints', self.folder / 'metrics.jsonl'

  def start(self, *arguments, **environment) -> Run:
    environment = {'JAXDL_TENSORBOARD': '0', 'JAX_PLATFORMS': 'cpu'} | environment
    arguments = [f'--workdir={self.workdir}', *arguments]
    return Run(self.home / 'study.py', *arguments, folder=self.home, **environment)

  def finish(self, *arguments, **environment) -> str:
    run = self.start(*arguments, **environment)
    assert run.code() == 0, run.said()
    return run.said()

  def steps(self):
    return sorted(int(p.name) for p in self.checkpoints.glob('*') if p.name.isdigit())

  def unfinished(self):
    """The saves under way, or cut off."""
    return {(p.name, p.stat().st_ctime_ns) for p in self.checkpoints.glob('*orbax-checkpoint-tmp*')}

  def lines(self):
    return self.record.read_bytes().count(b'\n') if self.record.exists() else 0

  def state(self):
    """Every array of the newest checkpoint."""
    handler = ocp.StandardCheckpointHandler()
    with ocp.CheckpointManager(self.checkpoints, item_handlers=handler) as manager:
      tree = manager.restore(manager.latest_step())
    is_key = lambda x: jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
    return jax.tree.map(lambda x: np.asarray(jax.random.key_data(x) if is_key(x) else x), tree)

  def files(self):
    return {p: p.stat().st_mtime_ns for p in self.workdir.rglob('*') if p.is_file()}


def assert_same(one: Study, other: Study):
  """The same bits in every array that a run goes on from, and the same record."""
  assert one.record.read_bytes() == other.record.read_bytes()
  one, other = one.state(), other.state()
  assert jax.tree.structure(one) == jax.tree.structure(other)
  jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.fixture(scope='module')
def home(tmp_path_factory):
  folder = tmp_path_factory.mktemp('study')
  (folder / 'configs').mkdir()
  (folder / 'study.py').write_text(STUDY)
  (folder / 'configs' / 'study.py').write_text(CONFIG)
  return folder


@pytest.fixture(scope='module')
def straight(home):
  study = Study(home, 'straight')
  study.finish()
  return study


def sentence(run: Run, code: int) -> str:
  """What a run that ended with the code said, which must be no traceback."""
  assert run.code() == code, run.said()
  assert 'Traceback' not in run.said(), run.said()
  return run.said()


def test_twenty_kills_at_random_moments_change_nothing(home, straight):
  rng, study, torn = np.random.default_rng(7), Study(home, 'killed'), 0
  for kill in range(20):
    before, lines = study.unfinished(), study.lines()
    run = study.start(OFTEN)
    if kill % 3 == 0:  # anywhere: most often while it starts
      time.sleep(rng.uniform(0.05, 2))
    elif kill % 3 == 1:  # while it trains
      assert run.wait_for(lambda n=lines + rng.integers(1, 3): study.lines() >= n), run.said()
      time.sleep(rng.uniform(0, 0.05))
    else:  # while it saves
      assert run.wait_for(lambda known=before: study.unfinished() - known), run.said()
      time.sleep(rng.uniform(0, 0.03))
    run.send(signal.SIGKILL)
    assert run.code() == -signal.SIGKILL, run.said()
    torn += bool(study.unfinished() - before)
  assert torn >= 5  # saves were cut off indeed
  study.finish(OFTEN)
  assert not study.unfinished() and not (study.folder / 'checkpoints.unreadable').exists()
  assert_same(straight, study)


def test_signals_in_training_save_and_the_rest_is_the_same(home, straight):
  study, rng = Study(home, 'signalled'), np.random.default_rng(3)
  for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
    run, lines = study.start(), study.lines()
    assert run.wait_for(lambda n=lines + rng.integers(1, 5): study.lines() >= n), run.said()
    run.send(number)
    said = sentence(run, 75)
    command = f'{home}/study.py --workdir={study.workdir}'
    assert number.name in said and 'everything is saved' in said and command in said
    assert study.steps()[-1] < 120  # no save was due before the last step
  study.finish()
  assert_same(straight, study)


def test_a_signal_in_an_evaluation_loses_no_training(home):
  slow, quick = Study(home, 'slow-evaluation'), Study(home, 'quick-evaluation')
  run = slow.start('--config.stage=evaluate')
  marker = home / 'reached.evaluation'
  assert run.wait_for(marker.exists), run.said()
  time.sleep(0.3)
  run.send(signal.SIGTERM)
  assert 'SIGTERM' in sentence(run, 75)
  assert slow.steps() == [3, 4]  # step 4 was trained, and its evaluation was cut off
  slow.finish('--config.stage=evaluate', QUICK='1')
  quick.finish('--config.stage=evaluate', QUICK='1')
  assert_same(slow, quick)
  evaluated = [json.loads(line)['step'] for line in slow.record.read_text().splitlines()
               if 'test/logit' in line]
  assert evaluated == [2, 4, 6]


def test_a_kill_in_an_evaluation_loses_no_saved_training(home):
  study, quick = Study(home, 'killed-evaluation'), Study(home, 'quick-evaluation')
  marker = home / 'reached.evaluation'
  marker.unlink(missing_ok=True)
  run = study.start('--config.stage=evaluate')
  assert run.wait_for(marker.exists), run.said()
  run.send(signal.SIGKILL)
  run.code()
  study.finish('--config.stage=evaluate', QUICK='1')
  assert_same(study, quick)


@pytest.mark.parametrize('stage, seconds', [('analyse', 0), ('attack', 0.5), ('compile_', 0)])
def test_a_signal_stops_every_long_stage(home, stage, seconds):
  names = {'analyse': 'analysis', 'attack': 'attack', 'compile_': 'compilation'}
  marker = home / f'reached.{names[stage]}'
  marker.unlink(missing_ok=True)
  run = Study(home, f'signal-{stage}').start(
    f'--config.stage={stage}', f'--config.seconds={float(seconds)}'
  )
  assert run.wait_for(marker.exists), run.said()
  time.sleep(0.3)
  run.send(signal.SIGINT)
  said = sentence(run, 75)
  assert 'SIGINT' in said and f'--config.stage={stage}' in said


@pytest.mark.parametrize('stage, marker, end', [
  ('attack', 'attack', 'end of a turn'),
  ('compile_', 'compilation', 'end of the compilation'),
])
def test_a_second_signal_stops_at_once_inside_the_device_program(home, stage, marker, end):
  marker, end = home / f'reached.{marker}', home / f'reached.{end}'
  marker.unlink(missing_ok=True)
  end.unlink(missing_ok=True)
  run = Study(home, f'twice-{stage}').start(f'--config.stage={stage}', '--config.seconds=60.0')
  assert run.wait_for(marker.exists), run.said()
  time.sleep(0.3)
  run.send(signal.SIGINT)
  assert run.wait_for(lambda: 'Once more stops at once' in run.said(), 5), run.said()
  run.send(signal.SIGTERM)  # of the same moment: a launcher passing the terminal's signal on
  time.sleep(0.4)
  assert run.process.is_alive()
  run.send(signal.SIGTERM)
  assert run.code(5) == 128 + signal.SIGTERM
  assert not end.exists()


def test_the_same_seed_writes_the_same_metrics_byte_for_byte(home, straight):
  again, other = Study(home, 'again'), Study(home, 'other-seed')
  again.finish()
  other.finish('--config.seed=1')
  assert_same(again, straight)
  assert other.record.read_bytes() != straight.record.read_bytes()


def test_a_finished_run_is_left_alone(straight):
  before = straight.files()
  assert 'done before' in straight.finish()
  assert straight.files() == before


def test_a_damaged_final_checkpoint_is_trained_again_from_the_one_before(home, straight):
  study = Study(home, 'damaged')
  study.finish(OFTEN)
  for file in (study.checkpoints / '120').rglob('manifest.ocdbt'):
    file.write_bytes(b'')
  (study.folder / 'DONE').unlink()
  said = study.finish(OFTEN)
  assert 'Checkpoint 120' in said and 'cannot be read' in said
  assert study.steps() == [118, 120]
  assert_same(straight, study)


def test_a_loss_that_is_not_finite_fails_the_run(home):
  study = Study(home, 'diverges')
  said = sentence(study.start('--config.train.optimizer.lr=1e38'), 1)
  assert 'became NaN or infinite between step' in said and 'learning rate' in said


def test_another_configuration_overwrites_nothing(straight):
  before = straight.files()
  said = sentence(straight.start('--config.seed=5'), 2)
  assert 'seed was 0 and is now 5' in said
  assert straight.files() == before


def test_a_second_run_in_the_same_workdir_is_refused(home):
  study, marker = Study(home, 'twice'), home / 'reached.attack'
  marker.unlink(missing_ok=True)
  first = study.start('--config.stage=attack')
  assert first.wait_for(marker.exists), first.said()
  assert 'Another process is running' in sentence(study.start('--config.stage=attack'), 2)
  first.send(signal.SIGKILL)
  first.code()
  third = study.start('--config.stage=attack')  # a killed one leaves no lock behind
  marker.unlink()
  assert third.wait_for(marker.exists), third.said()
  third.send(signal.SIGKILL)
  third.code()


@pytest.fixture
def mounted(tmp_path):
  """A small disk of its own: `mounted(options)` mounts it and returns the folder."""
  where = []

  def mount(options):
    folder = tmp_path / f'disk{len(where)}'
    folder.mkdir()
    command = ['mount', '-t', 'tmpfs', '-o', options, 'tmpfs', str(folder)]
    if shutil.which('mount') is None or subprocess.run(command, capture_output=True).returncode:
      pytest.skip('mounting a small disk needs root')
    where.append(folder)
    return folder

  yield mount
  for folder in where:
    subprocess.run(['umount', str(folder)], check=True)


def test_a_disk_too_full_or_read_only_is_found_before_training(home, mounted):
  small = Study(home, 'small', mounted('size=8m') / 'run')
  said = sentence(small.start(), 2)
  assert str(small.workdir) in said and '8.4 MB free' in said and 'needs about 33.6 MB' in said
  assert small.files() == {}
  frozen = Study(home, 'frozen', mounted('ro') / 'run')
  said = sentence(frozen.start(), 2)
  assert str(frozen.workdir) in said and 'cannot be written' in said


def test_a_disk_that_fills_up_costs_no_saved_training(home, straight, mounted):
  disk = mounted('size=64m')
  study = Study(home, 'filled', disk / 'run')
  run = study.start(OFTEN)
  assert run.wait_for(study.steps), run.said()
  _fill(disk / 'filler')
  said = sentence(run, 1)
  assert 'the disk is full' in said or 'No space left on device' in said
  (disk / 'filler').unlink()
  assert study.steps()[-1] < 120
  study.finish(OFTEN)
  assert not study.unfinished()
  assert_same(straight, study)


def _fill(file):
  with contextlib.suppress(OSError), file.open('wb', buffering=0) as f:
    for size in (1 << 20, 1 << 12, 1):
      with contextlib.suppress(OSError):
        while True:
          f.write(os.urandom(size))
