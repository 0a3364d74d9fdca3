"""The study of adversarial training: its arms, what it measures, and what it says of that."""

import importlib.util
import pathlib

import jax
import numpy as np
import pytest

from jaxdl.attacks import classifier as victim
from jaxdl.attacks import pgd
from jaxdl.data.pipeline import unit_range
from jaxdl.losses.classification import cross_entropy
from jaxdl.robustness import attacked
from jaxdl.robustness.training_claims import (
  catastrophe,
  claims,
  masking_claims,
  overfitting_claims,
)
from jaxdl.robustness.training_report import ball_of, result_rows, visible
from jaxdl.robustness.verdict import verdict
from jaxdl.train import classifier
from jaxdl.train.evaluate import predict
from jaxdl.train.stages import check_stages

ROOT = pathlib.Path(__file__).parent.parent / 'experiments'


def load(path):
  spec = importlib.util.spec_from_file_location(f'study_{path.parent.name}_{path.stem}', path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


STUDY = load(ROOT / 'adversarial_training.py')
CONFIG = load(ROOT / 'configs' / 'adversarial_training.py')
OPTIONS = {
  'norm': 'linf', 'eps': 0.1, 'images': 40, 'steps': 4, 'alpha': 0.05, 'restarts': 1,
  'autoattack': 6, 'autoattack_batch': 6, 'queries': 5, 'epsilons': (0.0, 0.1, 0.5), 'shown': 3,
}


@pytest.fixture(scope='module')
def networks():
  """A task on digits and two networks as they are drawn, one of them with a large head."""
  config = CONFIG.get_config('smoke').train.to_dict()
  config['data'] |= {'test': 60, 'per_class': 20}
  t = classifier.task(config)
  x = np.zeros((1, *t.dataset.image_shape), np.float32)
  return t, *(t.model.init(jax.random.key(seed), x) for seed in (0, 1))


@pytest.mark.parametrize('variant', ['', 'resnet20', 'cpu', 'small', 'overfit', 'smoke'])
def test_every_arm_of_every_variant_is_a_training_that_can_run(variant):
  c = CONFIG.get_config(variant)
  names = [s.name for s in STUDY.stages(c)]
  assert len(names) == len(set(names)) and set(c.fragile) <= set(c.arms)
  for arm in c.arm:
    classifier.adversary.check(STUDY.arm_config(c, arm)['adversary'] or {'name': 'fgsm_rs',
                                                                         'eps': 0})
  for arm, more in (('pgd_awp', 1), ('pgd_sam', 1), ('pgd_ema', 0)):
    assert STUDY.gradients(c, arm) == STUDY.gradients(c, 'pgd') + more
  transfers = {n for n in names if n.endswith('-transfer')}
  assert transfers == {
    f'{arm}-{s}-transfer' for arm in c.arms for s in c.seeds if arm != c.surrogate}


def test_an_arm_changes_what_it_names_and_nothing_else():
  c = CONFIG.get_config('smoke')
  plain, awp = (STUDY.arm_config(c, arm) for arm in ('pgd', 'pgd_awp_ema'))
  assert awp['optimizer'].pop('perturbation') == {'name': 'sam', 'norm': 'layer', 'rho': 5e-3}
  assert awp['optimizer'].pop('ema') == 0.9
  assert plain['optimizer'].pop('perturbation') is None and plain['optimizer'].pop('ema') is None
  assert plain == awp
  assert plain['adversary']['probe'] == c.probe


def test_what_is_measured_is_what_the_attacks_leave(networks):
  t, weights, _ = networks
  out = attacked.withstands(t, weights, OPTIONS, None)
  images, labels = t.test.images[:40], t.test.labels[:40]
  right = predict(t.model, *weights, images).argmax(-1) == labels
  assert out['clean'] == pytest.approx(right.mean())
  classify = victim(t.model.apply, *weights)
  g = jax.grad(lambda x: cross_entropy(classify(x), labels).sum())(unit_range(images))
  moved = np.clip(unit_range(images) + 0.1 * np.sign(g), 0, 1)
  fgsm = (predict(t.model, *weights, moved).argmax(-1) == labels) & right
  assert out['FGSM'] == pytest.approx(fgsm.mean()) and out['FGSM there'] == fgsm[:6].mean()
  assert out['AutoAttack'] <= out['PGD there'] <= right[:6].mean()
  assert out['AutoAttack'] == pytest.approx(out['AutoAttack parts']['square'])
  assert out['at epsilons'][0] == pytest.approx(right[:6].mean())
  assert np.all(np.diff(out['at epsilons']) <= 0)


def test_transfer_shows_the_images_of_another_network(networks):
  t, weights, other = networks
  images, labels = t.test.images[:40], t.test.labels[:40]
  mine = attacked.withstands_transfer(t, weights, weights, OPTIONS)
  assert mine == pytest.approx(attacked.withstands(t, weights, OPTIONS, None)['PGD'])
  attack, keys = pgd(0.1, 4, 0.05), jax.vmap(lambda i: jax.random.fold_in(
    jax.random.key(attacked.KEY), i))(np.arange(40))
  moved = attack(victim(t.model.apply, *other), unit_range(images), labels, keys)
  right = [predict(t.model, *weights, x).argmax(-1) == labels for x in (images, moved)]
  theirs = attacked.withstands_transfer(t, weights, other, OPTIONS)
  assert abs(theirs - (right[0] & right[1]).mean()) <= 1 / 40 + 1e-6  # a tie may fall otherwise


def test_pictures_go_towards_the_next_class(networks):
  t, weights, _ = networks
  found = attacked.pictures(t, weights, OPTIONS)
  labels = t.test.labels[:3]
  before, after = (predict(t.model, *weights, found[k]) for k in ('images', 'far'))
  rows, target = np.arange(3), (labels + 1) % 10
  assert (cross_entropy(after, target) < cross_entropy(before, target)).all()
  shown = visible(found['gradient'])
  assert shown.shape == found['images'].shape and abs(np.median(shown) - 0.5) < 0.1
  np.testing.assert_array_equal(visible(np.zeros((2, 4, 4, 1))), 0.5)
  assert len(rows) == len(before)


@pytest.mark.parametrize('fgsm, pgd_accuracy, fell', [
  ([0.3, 0.5, 0.9], [0.2, 0.3, 0.0], True),
  ([0.3, 0.5, 0.5], [0.2, 0.3, 0.3], False),
  ([0.3, 0.5, 0.1], [0.2, 0.3, 0.1], False),  # both fell: the network forgot, it was not fooled
  ([0.3, 0.5, 0.9], [0.0, 0.01, 0.02], False),  # never learnt to withstand PGD
])
def test_catastrophic_overfitting(fgsm, pgd_accuracy, fell):
  assert catastrophe(fgsm, pgd_accuracy) is fell


def test_a_difference_within_the_noise_is_not_seen():
  assert verdict(3.0, 2.0) == '**seen**' and verdict(-3.0, 2.0) == '**not seen**'
  assert verdict(1.0, 2.0).startswith('**not seen**, the difference is within')


def run(**values):
  base = {'clean': 0.6, 'noise': 0.59, 'FGSM': 0.4, 'PGD': 0.35, 'AutoAttack': 0.3,
          'FGSM there': 0.4, 'PGD there': 0.35, 'at epsilons': [0.6, 0.02], 'warnings': []}
  return {**base, **values}


def test_claims_tell_seen_from_not_seen():
  runs = {
    'standard': [run(clean=0.8, PGD=0.0)] * 2, 'pgd': [run()] * 2,
    'trades': [run(AutoAttack=0.31)] * 2, 'fgsm_rs': [run(PGD=0.2)] * 2,
  }
  told = {line.split(':')[0]: line for line in claims(runs, 1_000, 1_000)}
  assert '**seen**' in told['pgd withstands PGD better than standard training']
  assert '**seen**' in told['Robustness costs clean accuracy']
  assert 'within two standard errors' in told[
    'TRADES withstands AutoAttack better than PGD training']
  assert '**not seen**' in next(line for line in told.values() if 'as good as many' in line)
  few = [line for line in claims(runs, 20, 20) if 'as good as many' in line]
  assert '**seen**' in few[0]


def test_signs_of_hidden_gradients():
  fine = {'pgd': [run()], 'trades': [run()]}
  transfer = {'pgd': [None], 'trades': [0.5]}
  assert all('**seen**' in line for line in masking_claims(fine, transfer, 100))
  masked = {'pgd': [run()], 'trades': [run(**{
    'PGD there': 0.45, 'noise': 0.4, 'at epsilons': [0.6, 0.3]})]}
  told = list(masking_claims(masked, {'pgd': [None], 'trades': [0.1]}, 100))
  assert len(told) == 4 and all('**not seen**' in line for line in told)
  assert len(list(masking_claims({'pgd': [run()]}, {'pgd': [None]}, 100))) == 3


def test_overfitting_is_expected_of_the_fragile_arms_alone():
  log = lambda *accuracy: {'probe/fgsm_accuracy': ([1, 2], [0.4, 0.9]),
                           'probe/pgd_accuracy': ([1, 2], list(accuracy))}
  logs = {'one': [log(0.3, 0.0), log(0.3, 0.3)], 'many': [log(0.3, 0.3)], 'bad': [log(0.3, 0.0)]}
  radius = {'one': ball_of({'eps': 16 / 255}), 'many': 'r', 'bad': 'r'}
  one, many, bad = overfitting_claims(logs, radius, ('one',))
  assert one.startswith('one (trained within 16/255) overfits') and '**not seen**' in one
  assert 'in 1 of 2 runs' in one and 'many (r) is spared' in many and '**seen**' in many
  assert '**not seen**' in bad


def test_rows_carry_what_was_published_of_the_same_data_alone():
  runs, transfer = {'pgd': [run(), run(clean=0.7)]}, {'pgd': [0.5, 0.6]}
  rows = {r['metric']: r for r in result_rows(runs, transfer, True)}
  assert rows['clean (%)']['value'] == pytest.approx(65) and rows['clean (%)']['paper'] == 87.30
  assert rows['transfer (%)']['value'] == pytest.approx(55) and rows['transfer (%)']['n'] == 2
  assert all(r['paper'] is None for r in result_rows(runs, transfer, False))
  assert len(result_rows(runs, {'pgd': [None, None]}, True)) == 5


@pytest.mark.parametrize('change, says', [
  ({'surrogate': 'pgdd'}, "surrogate 'pgdd'"), ({'arms': ('pgdd',)}, "Did you mean 'pgd'"),
])
def test_what_no_study_has_is_refused(change, says):
  c = CONFIG.get_config('smoke')
  with c.unlocked(), pytest.raises(ValueError, match=says):
    c.update(change)
    STUDY.stages(c)


def test_an_evaluation_that_cannot_run_is_refused_before_training(tmp_path):
  c = CONFIG.get_config('smoke')
  c.evaluation.queries = 0
  with pytest.raises(ValueError, match='evaluation.queries must be a whole number'):
    check_stages(STUDY.stages(c), tmp_path)
  assert not list(tmp_path.iterdir())
