"""The contract of every experiment, discovered: runs, resumes, does nothing twice, reports."""

import importlib.util
import json
import pathlib
import sys

import jax
import numpy as np
import pytest

from jaxdl import app
from jaxdl.train import interrupt
from jaxdl.train.checkpoint import load_variables
from jaxdl.train.metrics import read_metrics
from jaxdl.train.stages import run_stages

ROOT = pathlib.Path(__file__).parent.parent / 'experiments'
NAMES = sorted(p.stem for p in ROOT.glob('*.py'))
QUIET = {'log': lambda line: None}


def load(path):
  spec = importlib.util.spec_from_file_location(f'experiment_{path.parent.name}_{path.stem}', path)
  module = importlib.util.module_from_spec(spec)
  sys.modules[spec.name] = module
  spec.loader.exec_module(module)
  return module


def study(name, variant='smoke'):
  config = load(ROOT / 'configs' / f'{name}.py').get_config(variant)
  config.lock()
  return load(ROOT / f'{name}.py').stages(config)


@pytest.fixture(scope='module', params=NAMES)
def finished(request, tmp_path_factory):
  workdir = tmp_path_factory.mktemp(request.param)
  run_stages(study(request.param), workdir, **QUIET)
  return request.param, workdir


def test_report_is_complete(finished):
  _, workdir = finished
  report = workdir / 'report'
  rows = json.loads((report / 'results.json').read_text())
  assert rows and all(row['value'] is not None and np.isfinite(row['value']) for row in rows)
  markdown, html = (report / 'report.md').read_text(), (report / 'report.html').read_text()
  figures = {p.name for p in report.glob('*.png')}
  assert figures and all(f']({name})' in markdown for name in figures)
  assert html.count('data:image/png;base64,') == len(figures) and 'src="http' not in html


def test_losses_are_finite_and_fall(finished):
  _, workdir = finished
  logs = sorted(workdir.glob('*/metrics.jsonl'))
  assert logs
  for log in logs:
    metrics = read_metrics(log)
    assert all(np.isfinite(values).all() for _, values in metrics.values()), log
    loss = metrics['train/loss'][1]
    assert loss[-1] < loss[0], log


def test_every_trainable_subtree_moved(finished):
  _, workdir = finished
  for checkpoints in sorted(workdir.glob('*/checkpoints')):
    steps = sorted(int(p.name) for p in checkpoints.iterdir() if p.name.isdigit())
    assert len(steps) == 2, checkpoints
    final, _ = load_variables(checkpoints)
    first = _restore(checkpoints, steps[0])['state']['params']
    for name in final:
      same = jax.tree.map(lambda a, b: np.array_equal(a, b), first[name], final[name])
      assert not all(jax.tree.leaves(same)), f'{checkpoints}: {name}'


def _restore(directory, step):
  import orbax.checkpoint as ocp

  handler = ocp.StandardCheckpointHandler()
  with ocp.CheckpointManager(directory, item_handlers=handler) as manager:
    tree = manager.restore(step)
  is_key = lambda x: jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
  return jax.tree.map(lambda x: jax.random.key_data(x) if is_key(x) else x, tree)


def test_second_run_does_nothing(finished):
  name, workdir = finished
  kept = lambda: {p: p.stat().st_mtime_ns for p in workdir.rglob('*') if 'report' not in p.parts}
  report = lambda: {p.name: p.read_bytes() for p in (workdir / 'report').iterdir() if p.is_file()}
  written, before = report(), kept()
  said = []
  run_stages(study(name), workdir, log=said.append)
  assert all('done before' in line for line in said if 'report' not in line)
  assert kept() == before
  assert report() == written


def test_stopped_and_resumed_equals_straight(finished, tmp_path, monkeypatch):
  """Stopped again and again, up to and in the first stage that needs another one: every array of
  every state, every record and every result is the same, bit for bit."""
  name, straight = finished
  stages = study(name)[:-1]
  stages = stages[: 1 + next((i for i, s in enumerate(stages) if s.needs), 0)]
  left, stops, real = 17, 0, interrupt.requested

  def requested():
    nonlocal left
    left -= 1
    if left == 0:
      interrupt._received = 15
    return real()

  monkeypatch.setattr(interrupt, 'requested', requested)
  while True:
    try:
      with interrupt.handling():
        run_stages(stages, tmp_path, **QUIET)
      break
    except interrupt.Interrupted:
      stops += 1
      left = 17 * 2**stops  # a stage that starts over gets to its end some time
  assert stops
  for stage in stages:
    want, have = ((workdir / stage.name) for workdir in (straight, tmp_path))
    results = [json.loads((folder / 'DONE').read_text())['result'] for folder in (want, have)]
    assert results[0] == results[1]
    if (want / 'checkpoints').exists():
      steps = sorted(int(p.name) for p in (want / 'checkpoints').iterdir())
      last = _restore(want / 'checkpoints', steps[-1])
      same = _restore(have / 'checkpoints', steps[-1])
      assert {'state', 'window'} <= last.keys() and last.keys() == same.keys()
      jax.tree.map(np.testing.assert_array_equal, last, same)
      assert (want / 'metrics.jsonl').read_bytes() == (have / 'metrics.jsonl').read_bytes()
      with pytest.raises(AssertionError):  # the comparison can fail
        jax.tree.map(np.testing.assert_array_equal, last, _restore(want / 'checkpoints', steps[0]))


@pytest.mark.parametrize('name', NAMES)
def test_every_variant_makes_a_plan(name, capsys, monkeypatch, tmp_path):
  module = load(ROOT / 'configs' / f'{name}.py')
  assert module.__doc__ and 'cpu' in module.__doc__ and 'smoke' in module.__doc__
  app._print_plan(study(name), tmp_path)
  shown = capsys.readouterr().out
  assert 'to do' in shown and 'TMAC' in shown
  assert all(stage.name in shown for stage in study(name))
  for variant in ('', 'cpu'):
    assert study(name, variant)[-1].name == 'report'
  with pytest.raises(ValueError, match='Unknown variant'):
    module.get_config('nonsense')
