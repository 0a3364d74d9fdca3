"""What the study refuses before it trains, and which cells it makes."""

import importlib.util
import pathlib

import pytest

from jaxdl.distillation import order
from jaxdl.train.stages import check_stages

ROOT = pathlib.Path(__file__).parents[2] / 'experiments'


def load(path):
  spec = importlib.util.spec_from_file_location(f'study_{path.parent.name}', path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


STUDY, CONFIG = (load(ROOT / part / 'distillation.py') for part in ('.', 'configs'))


def refused(change, match, tmp_path=None):
  c = CONFIG.get_config('smoke')
  change(c)
  with pytest.raises(ValueError, match=match):
    stages = STUDY.stages(c)
    check_stages(stages, tmp_path)


@pytest.mark.parametrize('key, value, match', [
  ('temperatures', (0.0,), 'Each of mnist.temperatures must be a number, above 0'),
  ('alphas', (1.5,), 'Each of mnist.alphas must be a number'),
  ('seeds', (0, 0), 'seeds has 0 more than once'),
])
def test_bad_values_of_the_digits(key, value, match):
  refused(lambda c: c.mnist.update({key: value}), match)


def test_biases_need_validation_images():
  refused(lambda c: c.mnist.teacher.data.update({'validation': 0}),
          'mnist.teacher.data.validation must be a whole number, at least 1')


def test_digits_whose_kept_logits_would_not_fit():
  refused(lambda c: c.mnist.student.update({'augment': {'pad': 2}}), 'augment must be None')

  def own_data(c):
    c.mnist.student.data = {'name': 'digits'}

  refused(own_data, 'mnist.student has data of its own')


def test_a_transfer_set_smaller_than_a_batch(tmp_path):
  def small(c):
    c.mnist.teacher.data.per_class = 20
    c.mnist.omitted.only = (7,)

  refused(small, 'h32-a1-T4-without012345689 has 20 training images', tmp_path)


@pytest.mark.parametrize('arm, change, match', [
  ('kd_T4', {'teacher': 'fitnet'}, "learns from 'fitnet': put that before it"),
  ('kd_T4', {'teacher': None}, 'has no teacher: give it one'),
  ('kd_T4', {'loss': 'dkt'}, "Unknown cifar.arm.kd_T4.loss 'dkt'. Did you mean 'dkd'"),
  ('small', {'student': 'smal'}, "Unknown cifar.arm.small.student 'smal'. Did you mean 'small'"),
  ('small', {'epochs': 0.0}, 'cifar.arm.small.epochs must be a number, above 0'),
  ('kd_T4', {'targets': 'class_mean'}, "Did you mean 'class_means'"),
  ('kd_T4', {'below': 0.0}, 'cifar.arm.kd_T4.below must be a number, above 0'),
  ('kd_T4', {'ensemble': 1}, 'ensemble of cifar.arm.kd_T4 must be True or False'),
  ('small', {'ranking': -1.0}, 'cifar.arm.small.ranking must be a number, at least 0'),
  ('small', {'smoothing': 0.1, 'penalty': 0.1}, 'has both smoothing and penalty'),
  ('fitnet', {'ensemble': True}, 'has logits and no features'),
  ('kd_ensemble', {'teacher': 'fitnet'}, 'has the regressor of a hint besides'),
])
def test_bad_arms(arm, change, match):
  def write(c):
    with c.unlocked(), c.cifar.arm[arm].ignore_type():
      c.cifar.arm[arm].update(change)

  refused(write, match)


def test_an_unknown_feature_of_a_hint_is_found_before_training(tmp_path):
  def change(c):
    c.cifar.hint = 'hiden1'

  refused(change, "Unknown feature 'hiden1'. Did you mean 'hidden1'", tmp_path)


def test_attention_to_features_that_are_no_maps(tmp_path):
  def change(c):
    c.cifar.arm.kd_T4.attention = 1.0
    c.cifar.attention = ('hidden1',)

  refused(change, 'Attention transfer compares maps', tmp_path)


def test_a_teacher_comes_before_its_students_and_an_ensemble_has_seeds_of_its_own():
  for variant in ('', 'confidence', 'cpu', 'smoke'):
    p = CONFIG.get_config(variant).cifar
    cells = STUDY.cifar_cells(p)
    assert len(set(cells)) == len(cells)
    assert set(cells) >= {(arm, seed) for arm in p.arms for seed in p.seeds}
    for i, (arm, seed) in enumerate(cells):
      assert set(STUDY.teachers_of(p, arm, seed)) <= set(cells[:i])
  p = CONFIG.get_config('confidence').cifar
  assert STUDY.teachers_of(p, 'kd_ensemble', 2) == [('big', seed) for seed in (0, 1, 2, 3)]
  assert STUDY.teachers_of(p, 'born3', 2) == [('born2', 2)]
  further = set(STUDY.cifar_cells(p)) - {(arm, seed) for arm in p.arms for seed in p.seeds}
  assert further == {('big', 3)}


def test_every_hypothesis_is_about_arms_that_its_variant_runs():
  arms = set(CONFIG.get_config('confidence').cifar.arms)
  for *_, one, other in order.HYPOTHESES:
    assert {one, other} <= arms
  cpu = set(CONFIG.get_config('cpu').cifar.arms)
  assert cpu >= {one for *_, one, _ in order.HYPOTHESES} - {'ranking'}


def test_every_digit_is_omitted_in_turn_and_has_its_controls():
  c = CONFIG.get_config('cpu')
  cells = STUDY.mnist_cells(c.mnist)
  assert len({(s.name, seed) for s, seed in cells}) == len(cells)
  students = {s for s, _ in cells}
  o = c.mnist.omitted
  assert {s.without for s in students if len(s.without) == 1} == {(d,) for d in range(10)}
  curve = {s.temperature for s in students if s.without == (o.curve,) and s.alpha}
  assert curve == set(o.temperatures) and 1.0 in curve
  assert {s.without for s in students if s.without and not s.alpha} == {
    (o.curve,), (0, 1, 2, 3, 4, 5, 6, 9),
  }
