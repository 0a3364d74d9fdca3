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
    first = _restore(checkpoints, steps[0])
    for name in final:
      same = jax.tree.map(lambda a, b: np.array_equal(a, b), first[name], final[name])
      assert not all(jax.tree.leaves(same)), f'{checkpoints}: {name}'


def _restore(directory, step):
  import orbax.checkpoint as ocp

  handler = ocp.StandardCheckpointHandler()
  with ocp.CheckpointManager(directory, item_handlers=handler) as manager:
    return manager.restore(step)['state']['params']


def test_second_run_does_nothing(finished):
  name, workdir = finished
  kept = lambda: {p: p.stat().st_mtime_ns for p in workdir.rglob('*') if 'report' not in p.parts}
  results, before = (workdir / 'report' / 'results.json').read_bytes(), kept()
  said = []
  run_stages(study(name), workdir, log=said.append)
  assert all('done before' in line for line in said if 'report' not in line)
  assert kept() == before
  assert (workdir / 'report' / 'results.json').read_bytes() == results


def test_stopped_and_resumed_equals_straight(finished, tmp_path, monkeypatch):
  name, straight = finished
  first = study(name)[:1]
  polls, real = iter(range(10_000)), interrupt.requested

  def requested():
    if next(polls) == 17:
      interrupt._received = 15
    return real()

  with interrupt.handling(), monkeypatch.context() as patch:
    patch.setattr(interrupt, 'requested', requested)
    with pytest.raises(interrupt.Interrupted):
      run_stages(first, tmp_path, **QUIET)
  with interrupt.handling():
    run_stages(first, tmp_path, **QUIET)
  want, have = (load_variables(workdir / first[0].name) for workdir in (straight, tmp_path))
  jax.tree.map(np.testing.assert_array_equal, want, have)
  log = pathlib.Path(first[0].name) / 'metrics.jsonl'
  assert (straight / log).read_bytes() == (tmp_path / log).read_bytes()


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
