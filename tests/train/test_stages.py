"""Stages: skipped when done, refused under another configuration, resumable anywhere."""

import json

import pytest

from jaxdl.train.stages import Refused, Stage, fingerprints, run_stages, status

QUIET = {'log': lambda line: None}


def study(calls, a=1, b=2, fail=None, always=False):
  def run(name, value):
    def body(context):
      calls.append(name)
      if fail == name:
        raise RuntimeError(name)
      return {'value': value + sum(r['value'] for r in context.results.values())}

    return body

  return [
    Stage('one', run('one', a), {'a': a}),
    Stage('two', run('two', b), {'b': b, 'grid': {'rho': 0.1}}, needs=['one']),
    Stage('report', run('report', 0), {}, needs=['one', 'two'], always=always),
  ]


def test_results_flow_and_a_second_run_does_nothing(tmp_path):
  calls = []
  results = run_stages(study(calls), tmp_path, **QUIET)
  assert {k: v['value'] for k, v in results.items()} == {'one': 1, 'two': 3, 'report': 4}
  before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob('*')}
  assert run_stages(study(calls), tmp_path, **QUIET) == results
  assert calls == ['one', 'two', 'report']
  assert before == {p: p.stat().st_mtime_ns for p in tmp_path.rglob('*')}


def test_a_failed_stage_is_run_again_and_earlier_ones_are_not(tmp_path):
  calls = []
  with pytest.raises(RuntimeError):
    run_stages(study(calls, fail='two'), tmp_path, **QUIET)
  assert status(study(calls), tmp_path) == {'one': 'done', 'two': 'begun', 'report': 'to do'}
  run_stages(study(calls), tmp_path, **QUIET)
  assert calls == ['one', 'two', 'two', 'report']


def test_another_configuration_is_refused_by_name_before_anything_runs(tmp_path):
  calls = []
  run_stages(study(calls), tmp_path, **QUIET)
  with pytest.raises(Refused, match=r"two.*b was 2 and is now 5.*--workdir"):
    run_stages(study(calls, b=5), tmp_path, **QUIET)
  with pytest.raises(Refused, match=r'a was 1 and is now 7'):
    run_stages(study(calls, a=7), tmp_path, **QUIET)
  assert len(calls) == 3


def test_a_changed_need_changes_the_fingerprint_and_a_new_cell_does_not(tmp_path):
  old, new = fingerprints(study([])), fingerprints(study([], a=7))
  assert old['two'] != new['two'] and old['report'] != new['report']
  more = [Stage('zero', lambda c: 1, {}), *study([])]
  assert {k: v for k, v in fingerprints(more).items() if k != 'zero'} == old


def test_always_runs_again_even_when_its_inputs_changed(tmp_path):
  calls = []
  run_stages(study(calls, always=True), tmp_path, **QUIET)
  grown = study(calls, always=True)
  grown.insert(0, Stage('zero', lambda c: {'value': 0}, {}))
  grown[-1] = grown[-1]._replace(needs=['zero', 'one', 'two'])
  run_stages(grown, tmp_path, **QUIET)
  assert calls == ['one', 'two', 'report', 'report']


def test_names_are_checked():
  stages = study([])
  with pytest.raises(ValueError, match="called 'one'"):
    fingerprints([stages[0], stages[0]])
  with pytest.raises(ValueError, match="'two' needs 'one', which does not come before"):
    fingerprints(stages[1:])


def test_done_is_written_last_and_whole(tmp_path):
  run_stages(study([]), tmp_path, **QUIET)
  done = json.loads((tmp_path / 'two' / 'DONE').read_text())
  assert done['result'] == {'value': 3} and done['fingerprint'] == fingerprints(study([]))['two']
  assert not list(tmp_path.rglob('.DONE*'))
