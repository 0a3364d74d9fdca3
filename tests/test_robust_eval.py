"""What is particular to robust_eval: classifiers given by their folders, and its checklist."""

import importlib.util
import json
import pathlib

import pytest

from jaxdl.robustness.examination_report import result_rows
from jaxdl.robustness.examined import checklist

ROOT = pathlib.Path(__file__).parent.parent / 'experiments'
TRAIN = {
  'data': {'name': 'digits'}, 'model': {'name': 'mlp', 'hidden': [8]}, 'epochs': 1.0,
  'batch_size': 50, 'optimizer': {'name': 'sgd', 'lr': 0.1},
}


def load(path):
  spec = importlib.util.spec_from_file_location(f'robust_eval_{path.parent.name}', path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


STUDY = load(ROOT / 'robust_eval.py')


def config(**changes):
  c = load(ROOT / 'configs' / 'robust_eval.py').get_config('smoke')
  c.update(changes)
  return c


def finished_run(folder, train=TRAIN, fingerprint='abc'):
  """What the stage of a trained classifier leaves behind, without its weights."""
  (folder / 'checkpoints').mkdir(parents=True)
  (folder / 'DONE').write_text('{}')
  stage = {'fingerprint': fingerprint, 'config': {'train': train, 'seed': 0}}
  (folder / 'stage.json').write_text(json.dumps(stage))
  return str(folder)


def test_a_given_classifier_is_not_trained_again(tmp_path):
  run = finished_run(tmp_path / 'run')
  names = [stage.name for stage in STUDY.stages(config(checkpoint=run))]
  assert names == ['given-attacks', 'given-distances', 'given-autoattack', 'report']
  both = STUDY.stages(config(checkpoint=run, against=finished_run(tmp_path / 'other')))
  assert 'against-autoattack' in [stage.name for stage in both]
  assert [v.label for v in STUDY.find_victims(config(checkpoint=run, against=run))] == [
    f'{tmp_path.name}/run'] * 2
  for stage in both:
    if stage.check:
      stage.check(tmp_path)


def test_another_classifier_in_the_same_folder_is_another_evaluation(tmp_path):
  read = lambda run: STUDY.stages(config(checkpoint=run))[2].config
  one, other = (finished_run(tmp_path / n, fingerprint=n) for n in 'ab')
  assert read(one) != read(other) and read(one) == read(one)
  assert str(tmp_path) not in json.dumps(read(one))  # a run may be moved


@pytest.mark.parametrize('damage', ['nothing there', 'checkpoints', 'DONE', 'stage.json', 'train'])
def test_a_folder_without_a_classifier_is_one_sentence(tmp_path, damage):
  run = pathlib.Path(finished_run(tmp_path / 'run'))
  if damage == 'nothing there':
    run = tmp_path / 'elsewhere'
  elif damage == 'checkpoints':
    (run / damage).rmdir()
  elif damage == 'train':
    (run / 'stage.json').write_text('{"fingerprint": "a", "config": {}}')
  else:
    (run / damage).unlink()
  with pytest.raises(ValueError, match='is not the folder of a trained classifier'):
    STUDY.stages(config(checkpoint=str(run)))


def test_bad_combinations_are_one_sentence(tmp_path):
  with pytest.raises(ValueError, match='against is given without checkpoint'):
    STUDY.stages(config(against='x'))
  with pytest.raises(ValueError, match='eps must be'):
    STUDY.stages(config(eps=-0.1))
  other = finished_run(tmp_path / 'b', TRAIN | {'data': {'name': 'shapes'}})
  c = config(checkpoint=finished_run(tmp_path / 'a'), against=other)
  with pytest.raises(ValueError, match='different images'):
    STUDY.stages(c)[0].check(tmp_path)


HONEST = {'clean': 0.9, 'noise': 0.88, 'FGSM': 0.6, 'PGD': 0.5, 'unbounded': 0.0,
          'transfer': {'other': 0.8}, 'at epsilons': [0.9, 0.5, 0.0], 'at steps': [0.7, 0.5, 0.499]}


@pytest.mark.parametrize('change, both, sign', [
  ({}, (0.5, 0.45), None),
  ({'unbounded': 0.2}, (0.5, 0.45), 'without a bound'),
  ({'FGSM': 0.4}, (0.5, 0.45), 'no more than FGSM'),
  ({'noise': 0.55}, (0.5, 0.45), 'Noise'),
  ({'transfer': {'other': 0.3}}, (0.5, 0.45), 'made on other'),
  ({'at epsilons': [0.9, 0.5, 0.6]}, (0.5, 0.45), 'larger radius'),
  ({'at steps': [0.5, 0.52, 0.52]}, (0.5, 0.45), 'More steps'),
  ({'at steps': [0.7, 0.5, 0.45]}, (0.5, 0.45), 'from 20 to 50'),
  ({}, (0.5, 0.55), 'AutoAttack'),
])
def test_checklist_finds_each_sign_of_masking(change, both, sign):
  signs = checklist([0, 0.1, 1], [5, 20, 50], HONEST | change, both)
  missing = [what for what, seen, _ in signs if not seen]
  assert len(missing) == (sign is not None) and all(sign in what for what in missing)


def test_rows_say_norm_radius_steps_and_starts():
  """A robust accuracy without them cannot be compared."""
  options = {'norm': 'linf', 'eps': 8 / 255, 'steps': 20, 'alpha': 2 / 255, 'restarts': 5,
             'version': 'standard', 'queries': 5000}
  entry = {'autoattack_acc': 45.0, 'accuracy': {'clean': 90.0, 'apgd-ce': 48.0, 'square': 45.0}}
  distances = {'CW, L2': {'median': 0.3, 'found': 1.0}, 'DeepFool, L2': {'median': None}}
  rows = result_rows('net', options, HONEST, entry, distances, published=True)
  said = {(r['setting'], r['metric']): r for r in rows}
  ball = 'net, L-infinity 8/255'
  assert said[ball, 'PGD, 20 steps of 2/255, 5 starts (%)']['value'] == 50
  assert said[ball, 'PGD, 20 steps of 2/255, 5 starts (%)']['paper'] == 46.06
  assert said[ball, 'AutoAttack standard, 5000 queries (%)']['value'] == 45
  assert said[ball, 'AutoAttack after apgd-ce (%)']['value'] == 48
  assert said[ball, 'PGD made on other (%)']['value'] == 80
  assert said['net', 'CW, L2: median distance']['value'] == 0.3 and len(rows) == 8
  assert all(r['paper'] is None for r in result_rows('n', options, HONEST, entry, {}, False))


def test_paper_numbers_stand_beside_networks_trained_like_theirs_alone(tmp_path):
  of = lambda adversary, data='cifar10': STUDY.find_victims(config(checkpoint=finished_run(
    tmp_path / f'{adversary}-{data}', TRAIN | {'data': {'name': data},
                                               'adversary': {'name': adversary}})))[0]
  c = config(eps=8 / 255)
  assert STUDY.as_published(c, of('fgsm_rs'))
  assert not STUDY.as_published(c, of('pgd')) and not STUDY.as_published(c, of('fgsm_rs', 'digits'))
  assert not STUDY.as_published(config(eps=0.1), STUDY.find_victims(config())[1])
