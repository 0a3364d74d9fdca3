"""The harness that speed is measured with; no test here depends on how long anything takes."""

import functools
import importlib.util
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from jaxdl import models
from jaxdl.benchmark import Contender, compare, ratio, report, start, summary, victim, worker
from jaxdl.benchmark.compare import Worker, WorkerFailed
from jaxdl.benchmark.figures import ratio_bars
from jaxdl.core import bind, count_params
from jaxdl.losses.classification import cross_entropy
from jaxdl.train.evaluate import predict

FAMILY = '''
import os, signal, sys
from jaxdl.benchmark.work import Work

def log(path, name):
  def run(n):
    with open(path, 'a') as f:
      f.write(f'{name}{n} ')
    print('a library prints this')
  return Work(run, 7, {'pid': os.getpid(), 'says': os.environ.get('SAYS')})

def dies(path, how, after=1):
  left = [after]
  def run(n):
    left[0] -= 1
    if left[0] < 0:
      print('the last words', file=sys.stderr)
      {'signal': lambda: os.kill(os.getpid(), signal.SIGKILL), 'exit': lambda: os._exit(3),
       'error': lambda: 1 / 0, 'value': lambda: int('x'), 'hang': signal.pause}[how]()
  return Work(run, 1, {})

CONTENDERS = {'log': log, 'dies': dies}
'''
SERVER = '''
from jaxdl.benchmark import worker
worker.FAMILIES['test'] = 'family_of_this_test'
worker.main()
'''


@pytest.fixture
def family(tmp_path, monkeypatch):
  """Contenders of this test, in a module that only its workers can import."""
  (tmp_path / 'family_of_this_test.py').write_text(FAMILY)
  (tmp_path / 'server.py').write_text(SERVER)
  monkeypatch.setenv('PYTHONPATH', f'{tmp_path}:{os.environ.get("PYTHONPATH", "")}')
  monkeypatch.setattr(Worker, 'COMMAND', (sys.executable, str(tmp_path / 'server.py')))
  return tmp_path


def log_of(path, name, **environment):
  return Contender(name, 'test/log', {'path': str(path), 'name': name}, environment)


def test_contenders_take_turns_in_an_order_that_is_reversed_every_other_round(family):
  path = family / 'turns'
  measured = compare([log_of(path, 'a'), log_of(path, 'b'), log_of(path, 'c')], 3, 2)
  assert path.read_text() == 'a2 b2 c2 c2 b2 a2 a2 b2 c2 '
  assert list(measured) == ['a', 'b', 'c']
  for m in measured.values():
    assert len(m['seconds']) == len(m['cpu']) == 3 and min(m['seconds']) > 0
    assert m['images'] == 7 and m['memory'] > 1 << 20 and m['idle'] >= 0
  pids = {m['facts']['pid'] for m in measured.values()}
  assert len(pids) == 3 and os.getpid() not in pids
  assert json.loads(json.dumps(measured)) == measured


def test_a_process_has_its_own_environment(family, monkeypatch):
  monkeypatch.setenv('SAYS', 'outside')
  path = family / 'turns'
  measured = compare(
    [log_of(path, 'a'), log_of(path, 'b', SAYS='b'), log_of(path, 'c', SAYS=None)], 1, 1
  )
  assert [m['facts']['says'] for m in measured.values()] == ['outside', 'b', None]
  assert os.environ['SAYS'] == 'outside'


@pytest.mark.parametrize('how, sentence', [
  ('signal', "bad: its worker died of SIGKILL; it last said 'the last words'."),
  ('exit', "bad: its worker ended with exit code 3; it last said 'the last words'."),
  ('error', 'bad: ZeroDivisionError: division by zero'),
  ('value', "bad: invalid literal for int() with base 10: 'x'"),
  ('hang', "bad: its worker took longer than 6 s; it last said 'the last words'."),
])  # fmt: skip
def test_a_worker_that_fails_is_one_sentence_and_the_others_go_on(family, how, sentence):
  path = family / 'turns'
  bad = Contender('bad', 'test/dies', {'path': '', 'how': how})
  limit = 6.0 if how == 'hang' else 120.0  # a busy machine may take seconds to start a worker
  measured = compare([bad, log_of(path, 'a')], 3, 1, limit=limit)
  assert measured['bad'] == {'error': sentence}
  assert path.read_text() == 'a1 a1 a1 ' and len(measured['a']['seconds']) == 3


@pytest.mark.parametrize('work, options, sentence', [
  ('nonsense/train', {}, "Unknown work 'nonsense/train': its family is one of "),
  ('test/nonsense', {}, "Unknown work 'test/nonsense': test has log, dies."),
  ('test/log', {'colour': 1}, "TypeError: log() got an unexpected keyword argument 'colour'"),
])
def test_work_that_cannot_be_built_is_one_sentence(family, work, options, sentence):
  (measured,) = compare([Contender('it', work, options)], 1, 1).values()
  assert list(measured) == ['error'] and measured['error'].startswith(f'it: {sentence}')


def test_a_missing_library_is_one_sentence(family, monkeypatch):
  (family / 'torch.py').write_text("raise ModuleNotFoundError('x', name='torch')")
  (measured,) = compare([Contender('it', 'torch/train')], 1, 1).values()
  assert measured == {'error': 'it: torch is not installed.'}


def test_a_stop_between_turns_ends_the_workers(family):
  def poll():
    if (family / 'turns').exists():
      raise KeyboardInterrupt

  before = children()
  with pytest.raises(KeyboardInterrupt):
    compare([log_of(family / 'turns', 'a'), log_of(family / 'turns', 'b')], 3, 1, poll=poll)
  assert children() == before


def children():
  path = f'/proc/{os.getpid()}/task/{os.getpid()}/children'
  if not os.path.exists(path):
    pytest.skip('needs /proc')
  with open(path) as f:
    return f.read()


def test_a_worker_does_not_outlive_who_started_it(family):
  program = (
    'import os, sys; from jaxdl.benchmark.compare import Contender, Worker\n'
    f'Worker.COMMAND = ({sys.executable!r}, {str(family / "server.py")!r})\n'
    f'c = Contender("a", "test/log", {{"path": {str(family / "turns")!r}, "name": "a"}})\n'
    'w = Worker(c); r = w.ask({"work": c.work, "options": dict(c.options)})\n'
    'print(r["facts"]["pid"], flush=True); os.kill(os.getpid(), 9)'
  )
  done = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True)
  assert done.returncode == -signal.SIGKILL
  pid = int(done.stdout)
  for _ in range(500):
    try:
      os.kill(pid, 0)
    except ProcessLookupError:
      break
    time.sleep(0.02)
  else:
    raise AssertionError(f'worker {pid} is still there')


def test_compare_refuses_what_it_cannot_measure():
  with pytest.raises(ValueError, match='same name'):
    compare([Contender('a', 'jax/train')] * 2, 1, 1)
  with pytest.raises(ValueError, match='at least 1'):
    compare([Contender('a', 'jax/train')], 0, 1)


def test_peak_memory_is_that_of_this_process_alone():
  program = 'from jaxdl.benchmark.worker import peak_memory; print(peak_memory())'
  ballast = np.ones(400 << 17)  # 400 MB that the child must not be charged with
  done = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, check=True)
  assert (1 << 20) < int(done.stdout) < ballast.nbytes < worker.peak_memory()


def test_ratio_is_that_of_the_medians_and_its_spread_that_of_the_rounds():
  r = ratio([2.0, 4.0, 30.0], [1.0, 4.0, 10.0])
  assert r.value == 1.0 and r.n == 3
  np.testing.assert_allclose(r.spread, np.std([2.0, 1.0, 3.0], ddof=1))
  assert ratio([3.0], [2.0]) == (1.5, None, 1)
  for bad in ([], [1.0, 2.0]):
    with pytest.raises(ValueError, match='same rounds'):
      ratio(bad, [1.0])


def test_a_machine_that_slows_down_moves_neither_ratio_nor_spread():
  load = np.array([1.0, 5.0, 2.0, 9.0, 3.0])
  r = ratio(3 * load, load)
  np.testing.assert_allclose([r.value, r.spread], [3.0, 0.0], atol=1e-12)


def test_summary():
  s = summary({'images': 100, 'seconds': [1.0, 2.0, 4.0], 'memory': 3_000_000})
  assert s['best'] == 100 and s['median'] == 50 and s['memory'] == 3
  np.testing.assert_allclose(s['std'], np.std([100, 50, 25], ddof=1))
  assert summary({'images': 1, 'seconds': [1.0], 'memory': 0})['std'] is None


def test_bars_are_drawn_to_length():
  one = {'a': ratio([2.0], [1.0]), 'b': ratio([1.0], [1.0])}
  groups = {'one': one, 'two': {'a': ratio([3.0, 3.0], [1.0, 1.0])}}
  (ax,) = ratio_bars(groups, 'speed').axes
  assert [bar.get_width() for bar in ax.patches] == [2.0, 1.0, 3.0]
  assert [label.get_text() for label in ax.get_yticklabels()] == ['a', 'b', 'a']
  assert len({bar.get_y() for bar in ax.patches}) == 3


def test_a_command_is_timed_to_its_end():
  t = start.command([sys.executable, '-c', 'print("well done"); exit(1)'], 'done')
  assert t['seconds'] > 0 and t['cpu'] > 0
  with pytest.raises(ValueError, match='exit code 3.*last said: oh no'):
    start.command([sys.executable, '-c', 'print("oh no"); exit(3)'], 'done')


def test_a_study_is_timed_to_its_first_line_of_metrics_and_killed(tmp_path):
  program = (
    'import os, pathlib, sys, time\n'
    'd = pathlib.Path(sys.argv[1].partition("=")[2]) / "cell"\n'
    'd.mkdir(parents=True); (d / "metrics.jsonl").touch()\n'
    'if os.environ.get("BAD"): sys.exit("no data")\n'
    '(d / "metrics.jsonl").write_text("{}"); time.sleep(600)'
  )
  (tmp_path / 'work').mkdir()
  t = start.first_step([sys.executable, '-c', program], tmp_path / 'work')
  assert 0 < t['seconds'] < 600 and t['cpu'] > 0
  with pytest.raises(ValueError, match='exit code 1.*last said: no data'):
    start.first_step([sys.executable, '-c', program], tmp_path / 'work', {'BAD': '1'})


def test_jax_contenders_do_their_work():
  from jaxdl.benchmark.jax_contenders import CONTENDERS

  tiny = {'model': {'name': 'mlp'}, 'batch_size': 4, 'image': (8, 8, 3)}
  works = {name: CONTENDERS[name](**tiny) for name in ('train', 'predict')}
  works['input'] = CONTENDERS['input'](4, (8, 8, 3), examples=16)
  works['gradients'] = CONTENDERS['train'](**tiny, input_gradients=2)
  adversary = {'name': 'pgd', 'eps': 0.1, 'steps': 2}
  works['adversarial'] = CONTENDERS['train'](**tiny, adversary=adversary)
  works['resident'] = CONTENDERS['train'](**tiny, source='resident', examples=16,
                                          augment={'pad': 1})
  works['augmented'] = CONTENDERS['train'](**tiny, augment={'pad': 1, 'mixup': {'alpha': 1.0}})
  works['view'] = CONTENDERS['train'](**tiny, augment='simclr')
  works['mask'] = CONTENDERS['train'](**tiny, density=0.2)
  works['cached'] = CONTENDERS['train'](**tiny, teacher='cached')
  works['asked'] = CONTENDERS['train'](**tiny, teacher='network')
  for work in works.values():
    work.run(2)
    assert work.images == 4 and json.dumps(work.facts)
  assert np.isfinite(works['train'].facts['loss'])
  assert works['adversarial'].facts['loss'] > works['train'].facts['loss']
  assert works['mask'].facts['parameters'] < 0.5 * works['train'].facts['parameters']
  np.testing.assert_allclose(
    works['cached'].facts['loss'], works['asked'].facts['loss'], rtol=1e-4
  )
  with pytest.raises(ValueError, match="'fixed', 'resident' or 'tf.data'"):
    CONTENDERS['train'](**tiny, source='disk')


def test_views_of_all_libraries_are_alike():
  from jaxdl.benchmark.view_contenders import CONTENDERS

  works = [CONTENDERS['views'](64, (8, 8, 3), library) for library in ('jaxdl', 'dm-pix')]
  for work in works:
    work.run(1)
    assert work.images == 64 and json.dumps(work.facts)
  ours, theirs = (work.facts['mean'] for work in works)
  assert abs(ours - theirs) < 0.03
  with pytest.raises(ValueError, match="'jaxdl' or 'dm-pix'"):
    CONTENDERS['views'](4, library='torchvision')


def test_metrics_of_both_libraries_are_the_same_numbers():
  from jaxdl.benchmark.metric_contenders import CONTENDERS

  ours, theirs = (CONTENDERS['ood_metrics'](999, library) for library in ('jaxdl', 'sklearn'))
  np.testing.assert_allclose(ours.facts['metrics'], theirs.facts['metrics'], rtol=1e-12)
  for work in (ours, theirs):
    work.run(2)
    assert work.images == 999 and json.dumps(work.facts)
  with pytest.raises(ValueError, match="'jaxdl' or 'sklearn'"):
    CONTENDERS['ood_metrics'](9, 'torch')


def test_scan_and_loop_do_the_same_updates():
  from jaxdl.benchmark.jax_contenders import train

  tiny = {'model': {'name': 'mlp'}, 'batch_size': 4, 'image': (8, 8, 3)}
  one, loop, scan = train(**tiny), train(**tiny, calls=3), train(**tiny, calls=3, scan=True)
  np.testing.assert_allclose(scan.facts['loss'], loop.facts['loss'], rtol=1e-5)
  np.testing.assert_allclose(scan.facts['parameters'], loop.facts['parameters'], rtol=1e-6)
  assert scan.images == loop.images == 12 and one.facts['loss'] != loop.facts['loss']


@pytest.mark.parametrize('name', ['resnet8', 'resnet20', 'resnet18'])
def test_the_networks_compared_have_the_same_weights(name):
  pytest.importorskip('torch')
  from jaxdl.benchmark import torch_networks

  theirs = torch_networks.create(name, 3, 10)
  init = lambda: models.create(name, 10).init(jax.random.key(0), np.zeros((1, 32, 32, 3)))
  ours = jax.eval_shape(init)
  shapes = lambda leaves: sorted(tuple(sorted(x.shape)) for x in leaves)
  assert sum(w.numel() for w in theirs.parameters()) == count_params(ours['params'])
  assert shapes(theirs.parameters()) == shapes(jax.tree.leaves(ours['params']))


@functools.cache
def network(name):
  """A model, and variables whose batch norms are no identity."""
  model = bind(models.create(name, 7), mean=MEAN, std=STD)
  params, state = jax.jit(model.init)(jax.random.key(0), np.zeros((1, 16, 16, 3)))
  rng = np.random.default_rng(0)
  shaken = lambda x: np.float32(x * rng.uniform(0.7, 1.4, x.shape) + rng.uniform(0, 0.1, x.shape))
  return model, *jax.tree.map(shaken, jax.device_get((params, state)))


MEAN, STD = np.float32([0.4, 0.5, 0.6]), np.float32([0.2, 0.25, 0.3])
IMAGES = np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3), np.uint8)


def a_victim(name='resnet8'):
  model, *variables = network(name)
  labels = predict(model, *variables, IMAGES).argmax(-1).astype(np.int32)
  labels[0] = (labels[0] + 1) % 7  # wrong from the start
  return victim.Victim({'name': name, 'dtype': 'float32'}, 7, *variables, MEAN, STD, IMAGES, labels)


def test_a_victim_comes_back_from_its_file(tmp_path):
  victim.save(tmp_path / 'v.npz', a_victim())
  back = victim.load(tmp_path / 'v.npz', 4)
  jax.tree.map(np.testing.assert_array_equal, back.params, dict(a_victim().params))
  jax.tree.map(np.testing.assert_array_equal, back.state, dict(a_victim().state))
  assert back.model == a_victim().model and back.classes == 7
  np.testing.assert_array_equal(back.images, IMAGES[:4])
  with pytest.raises(ValueError, match='has 6 images, not 7'):
    victim.load(tmp_path / 'v.npz', 7)
  (tmp_path / 'bad.npz').write_bytes((tmp_path / 'v.npz').read_bytes()[:300])
  for path in ('bad.npz', 'none.npz'):
    with pytest.raises(ValueError, match='is not a victim'):
      victim.load(tmp_path / path, 1)


@pytest.mark.parametrize('name', ['resnet8', 'resnet18'])
def test_a_victim_is_the_same_network_in_both_libraries(name):
  torch = pytest.importorskip('torch')
  from jaxdl.benchmark.torch_networks import with_weights

  model, *variables = network(name)
  x = torch.from_numpy(IMAGES).permute(0, 3, 1, 2).float() / 255
  theirs = with_weights(a_victim(name))(x).numpy()
  np.testing.assert_allclose(theirs, predict(model, *variables, IMAGES), rtol=1e-3, atol=1e-3)


def test_blocks_are_in_the_order_of_their_numbers():
  pytest.importorskip('torch')
  from jaxdl.benchmark.torch_networks import _number

  names = ['stage1_block10', 'head', 'stage1_block2', 'stem_conv', 'stage2_block1']
  assert sorted(filter(_number, names), key=_number) == [names[2], names[0], names[4]]


def test_what_attacks_did_is_told(tmp_path):
  from jaxdl.benchmark import jax_attacks

  path = str(tmp_path / 'v.npz')
  victim.save(path, a_victim())
  facts = jax_attacks.pgd(path, 6, steps=3, eps=0.1, alpha=0.05).facts
  assert facts['clean'] == pytest.approx(5 / 6) and facts['robust'] <= facts['clean']
  model, *variables = network('resnet8')
  logits = predict(model, *variables, IMAGES)
  labels = a_victim().labels
  assert facts['loss under attack'] > float(cross_entropy(logits, labels).mean())
  still = jax_attacks.pgd(path, 6, steps=3, eps=0.0, alpha=0.05).facts
  assert still['loss under attack'] == pytest.approx(float(cross_entropy(logits, labels).mean()))
  assert 'robust' not in jax_attacks.pgd(path, 6, steps=2, only_gradients=True).facts
  suite = jax_attacks.robustness(path, 6, eps=0.02, queries=5, only=('apgd-ce',))
  assert 'survives' not in suite.facts  # nothing is done before it is timed
  suite.run(1)
  assert suite.facts['robust'] == np.mean(suite.facts['survives']) <= suite.facts['clean']
  assert not suite.facts['survives'][0] and json.dumps(suite.facts)


def test_attacks_of_torch_meet_the_same_victim(tmp_path):
  pytest.importorskip('torch')
  from jaxdl.benchmark import jax_attacks, torch_attacks

  path = str(tmp_path / 'v.npz')
  victim.save(path, a_victim())
  ours = jax_attacks.pgd(path, 6, eps=0.003).facts
  for library in ('', 'foolbox', 'torchattacks'):
    if library and not importlib.util.find_spec(library):
      continue
    theirs = torch_attacks.pgd(path, 6, eps=0.003, library=library).facts
    assert theirs['clean'] == ours['clean'] == pytest.approx(5 / 6)
    assert theirs['loss under attack'] == pytest.approx(ours['loss under attack'], rel=0.05)
  with pytest.raises(ValueError, match='runs all attacks'):
    torch_attacks._suite_of_torchattacks(None, 0.1, 100, (), None)


@pytest.mark.parametrize('library', ['autoattack', 'torchattacks'])
def test_suites_of_torch_meet_the_same_victim(tmp_path, library):
  """All of whose labels are wrong, so that there is nothing left to attack."""
  pytest.importorskip('torch')
  pytest.importorskip(library)
  from jaxdl.benchmark import torch_attacks

  path, v = str(tmp_path / 'v.npz'), a_victim()
  predicted = predict(network('resnet8')[0], v.params, v.state, IMAGES).argmax(-1)
  victim.save(path, v._replace(labels=((predicted + 1) % 7).astype(np.int32)))
  suite = torch_attacks.robustness(path, 6, library=library)
  suite.run(1)
  assert suite.facts['clean'] == suite.facts['robust'] == 0
  assert suite.facts['survives'] == [False] * 6 and json.dumps(suite.facts)


ATTACKED = {
  'ours': {'seconds': [2.0], 'facts': {'clean': 0.5, 'robust': 0.25, 'survives': [0, 1, 0, 0]}},
  'theirs': {'seconds': [4.0], 'facts': {'clean': 0.5, 'robust': 0.5, 'survives': [0, 1, 1, 0]}},
  'absent': {'error': 'absent: it is not installed.'},
}


def test_rows_say_how_strong_attacks_were():
  rows = report.attacked('suite', {'reference': 'theirs'}, ATTACKED)
  said = {(r['setting'], r['metric']): r['value'] for r in rows}
  assert said['suite: ours', 'robust accuracy (%)'] == 25
  assert said['suite: theirs', 'accuracy without attack (%)'] == 50
  assert said['suite: ours', 'seconds, compilation included'] == 2
  assert said['suite: ours', 'images with the same verdict as by theirs (%)'] == 75
  assert not any('absent' in setting or 'verdict' in metric and 'theirs' in setting
                 for setting, metric in said)
  without = report.attacked('suite', {'reference': 'absent'}, ATTACKED)
  assert len(without) == 6 and not any('verdict' in r['metric'] for r in without)


def test_torch_contenders_do_their_work():
  pytest.importorskip('torch')
  from jaxdl.benchmark.torch_contenders import CONTENDERS

  tiny = {'model': {'name': 'resnet8'}, 'batch_size': 4, 'image': (8, 8, 3)}
  works = [
    CONTENDERS['train'](**tiny), CONTENDERS['train'](**tiny, source='loader', examples=8),
    CONTENDERS['predict'](**tiny), CONTENDERS['predict'](**tiny, frozen=True),
    CONTENDERS['input'](4, (8, 8, 3), examples=8),
  ]  # fmt: skip
  for work in works:
    work.run(1)
    assert work.images == 4 and json.dumps(work.facts)
  with pytest.raises(ValueError, match="has no 'vgg'"):
    CONTENDERS['train']({'name': 'vgg'}, 4)


def test_worker_failed_is_not_swallowed_outside_a_comparison(family):
  with Worker(Contender('a', 'test/nonsense')) as w, pytest.raises(WorkerFailed, match='^a: '):
    w.ask({'work': 'test/nonsense', 'options': {}})


def load(path):
  spec = importlib.util.spec_from_file_location(f'benchmarks_{path.parent.name}', path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


EXPERIMENTS = pathlib.Path(__file__).parent.parent / 'experiments'


@pytest.mark.parametrize('variant', ['', 'cpu', 'attacks', 'smoke'])
def test_every_comparison_names_contenders_that_there_are(variant):
  study = load(EXPERIMENTS / 'benchmarks.py')
  config = load(EXPERIMENTS / 'configs' / 'benchmarks.py').get_config(variant)
  for name, k in config.comparisons.items():
    table = {'input': study.INPUTS, 'seeds': study.SEEDS}.get(k.work, study.CONTENDERS)
    named = {k.reference, *k.contenders, *k.equal, *(n for a, b, *_ in k.targets for n in (a, b))}
    assert named == set(k.contenders) <= set(table), name
  stages = {stage.name: stage for stage in study.stages(config)}
  needing = {name for name, stage in stages.items() if 'victims' in stage.needs} - {'report'}
  assert needing == {n for n, k in config.comparisons.items() if 'victim' in k.options}
  assert all(stages[name].config['options']['victim'] == 'own' for name in needing)


def test_a_victim_that_is_given_is_met_by_autoattack(tmp_path):
  study = load(EXPERIMENTS / 'benchmarks.py')
  config = load(EXPERIMENTS / 'configs' / 'benchmarks.py').get_config('attacks')
  config.victim = str(tmp_path)
  with pytest.raises(ValueError, match='is not the folder of a trained classifier'):
    study.stages(config)
  (tmp_path / 'checkpoints').mkdir()
  (tmp_path / 'DONE').write_text('{}')
  (tmp_path / 'stage.json').write_text('{"fingerprint": "abc", "config": {"train": {"a": 1}}}')
  stages = {stage.name: stage.config for stage in study.stages(config)}
  assert stages['autoattack']['options']['victim'] == 'given'
  assert stages['pgd10']['options']['victim'] == 'own'
  assert stages['victims']['victims']['given'] == [{'a': 1}, 'abc']
