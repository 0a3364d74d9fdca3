"""What the study of patches refuses, what it measures, and what it says of its numbers."""

import importlib.util
import pathlib

import jax
import numpy as np
import pytest

from jaxdl.attacks.patch import UNTARGETED
from jaxdl.attacks.placement import cover, placement
from jaxdl.core import Model
from jaxdl.data import make_split
from jaxdl.patches import measure
from jaxdl.patches.claims import claims
from jaxdl.patches.findings import Findings
from jaxdl.patches.report import result_rows
from jaxdl.train.stages import check_stages

EXPERIMENTS = pathlib.Path(__file__).parents[1] / 'experiments'


def load(path):
  spec = importlib.util.spec_from_file_location(f'patch_study_{path.parent.name}', path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


CONFIG = load(EXPERIMENTS / 'configs' / 'adversarial_patch.py')


@pytest.mark.parametrize(
  ('change', 'words'),
  [
    (lambda c: c.arm.mlp.update(sizes=(4, 9)), 'does not fit into images of 8 x 8'),
    (lambda c: c.arm.mlp.update(targets=(10,)), 'at least 0 and at most 9, got 10'),
    (lambda c: c.arm.mlp.update(sources=('resnet',)), "Unknown name in arm.mlp.sources 'resnet'"),
    (lambda c: c.arm.mlp.update(place='anywhere'), "Unknown place of arm.mlp 'anywhere'"),
    (lambda c: c.arm.mlp.update(shape='ring'), "Unknown shape of a patch 'ring'"),
    (lambda c: c.arm.disguised.disguise.update(eps=0.0), 'disguised.disguise.eps must be a number'),
    (lambda c: c.arm.disguised.disguise.update(of=10), 'disguise.of must be .* at most 9, got 10'),
    (lambda c: c.arm.longer.update(steps=0), 'arm.longer.steps must be a whole number'),
    (lambda c: c.positions.update(sizes=(3,)), 'positions.sizes has 3'),
    (lambda c: c.patch.update(batch_size=5000), 'patch.batch_size must be a whole number'),
    (lambda c: c.patch.update(steps=0), 'patch.steps must be a whole number'),
    (lambda c: c.places.fixed.update(location='corner'), "Unknown location 'corner'"),
    (lambda c: c.patch.update(kappa=-1.0), 'kappa must be a number, at least 0'),
  ],
)
def test_the_study_refuses_what_cannot_work_before_it_starts(change, words, tmp_path):
  config = CONFIG.get_config('smoke')
  with config.ignore_type():
    change(config)
  with pytest.raises(ValueError, match=words):
    check_stages(load(EXPERIMENTS / 'adversarial_patch.py').stages(config), tmp_path)


# Measuring, with a victim that can be followed by hand: it sees the brightest of three channels.


def brightest(params, model_state, x, **_):
  return (x.sum((1, 2)), {}), model_state


def images(labels, side=6):
  """Images whose brightest channel is the label, by a small margin."""
  out = np.full((len(labels), side, side, 3), 100, np.uint8)
  out[np.arange(len(labels)), :, :, labels] += 10
  return make_split(out, labels)


LABELS = np.array([0, 1, 2, 0, 1, 2])
VICTIM = measure.victim(Model(None, brightest), {}, {}, images(LABELS))
COLOURS = np.eye(3, dtype=np.float32)[:, None, None] * np.ones((3, 2, 2, 1), np.float32)


def test_rates_of_patches_that_are_known():
  """A patch of one full channel adds 155 x 4 to it and takes 100 x 4 from the others; the image's
  margin is 10 x 36: the patch wins everywhere."""
  patches = np.concatenate([COLOURS[:1], COLOURS])
  targets = [UNTARGETED, 0, 1, 2]
  out = measure.rates(VICTIM, patches, targets, cover(2), placement((6, 6), 2), 3, 3)
  assert out['clean'] == 1.0
  assert np.array(out['untargeted']).shape == (4, 3)
  np.testing.assert_allclose(out['untargeted'], 2 / 3)  # its own class stays right
  np.testing.assert_allclose(out['targeted'], [[0] * 3, *[[1] * 3] * 3])
  np.testing.assert_allclose(out['accuracy'], 1 / 3)
  np.testing.assert_array_equal(out['predicted'], np.eye(3)[[0, 0, 1, 2]])
  rates = measure.strongest(VICTIM, patches, cover(2), placement((6, 6), 2), jax.random.key(0))
  np.testing.assert_allclose(rates, 2 / 3)


def test_controls_are_what_they_are_called():
  train = images(np.repeat(np.arange(3), 4))
  out = measure.control_rates(VICTIM, train, 2, placement((6, 6), 2), 2, 0)
  assert set(out) == set(measure.CONTROLS)
  # Gray changes no channel against another; the middle of an image favours its class by less than
  # what it covers, so neither moves a prediction. Noise of four pixels can.
  for kind in ('gray', 'real'):
    assert out[kind] == {'untargeted': [0.0, 0.0], 'targeted': [0.0, 0.0]}
  rng = np.random.default_rng([0, 2, 0])
  noise = rng.random((2, 2, 3), np.float32)
  shift = 255 * noise.sum((0, 1)) - 400.0
  sums = images(LABELS).images.sum((1, 2)).astype(float)
  sums += shift - 40 * np.eye(3)[LABELS]  # the covered part had the margin as well
  wrong = np.mean(sums.argmax(1) != LABELS)
  assert out['noise']['untargeted'][0] == pytest.approx(wrong)
  for size in (2, (1, 3)):
    piece = measure.crop(train, 1, size, np.random.default_rng(0))
    np.testing.assert_allclose(piece, np.broadcast_to([100, 110, 100], piece.shape) / 255, 1e-6)


def test_a_map_of_positions_ends_at_the_border_and_knows_where_it_is():
  """A patch wins where it lies on the victim's eye, which sees the upper left quarter only."""
  corner = lambda p, s, x, **_: ((x[:, :3, :3].sum((1, 2)), {}), s)
  v = measure.victim(Model(None, corner), {}, {}, images(LABELS))
  both = np.stack([COLOURS[0], COLOURS[1]])
  out = measure.over_positions(v, both, [UNTARGETED, 1], 2, 3)
  assert out['rows'] == out['columns'] == [0, 3, 4] and out['target'] == 1
  want = np.zeros((3, 3))
  want[0, 0] = 1
  np.testing.assert_allclose(out['untargeted'], want * 2 / 3)
  np.testing.assert_allclose(out['targeted'], want)


def test_success_at_places():
  centre, free = (placement((6, 6), 2, where, turns=False) for where in ((0, 0), 'random'))
  middle = lambda p, s, x, **_: ((x[:, :2, :2].sum((1, 2)), {}), s)
  v = measure.victim(Model(None, middle), {}, {}, images(LABELS))
  out = measure.at_places(v, COLOURS, [UNTARGETED, 1, 2], cover(2), [centre, free])
  assert out['untargeted'][0] == pytest.approx(2 / 3) and out['targeted'][0] == 1.0
  assert out['targeted'][1] < 1


def test_enlarging_repeats_pixels_and_leaves_gray_beside_a_round_patch():
  patch = np.arange(12, dtype=np.float32).reshape(1, 2, 2, 3) / 12
  out = measure.enlarged(patch, np.array([[1, 1], [1, 0]]), (4, 6))
  np.testing.assert_allclose(out[0, :2, :3], np.broadcast_to(patch[0, 0, 0], (2, 3, 3)))
  np.testing.assert_allclose(out[0, 2:, 3:], 0.5)


# What is said of the numbers.


def findings(**change):
  """Numbers as the paper and the course expect them; `change` names what goes the other way."""
  c = CONFIG.get_config('smoke')
  c.victim.hard = {'model': c.victim.mlp.model, 'adversary': {'name': 'pgd'}}
  c.victims = ('mlp', 'wide', 'hard')
  c.arm.hard = {**c.arm.mlp.to_dict(), 'sources': ('hard',)}
  c.arm.round = {**c.arm.mlp.to_dict(), 'shape': 'circle'}
  c.arms = ('mlp', 'hard', 'both', 'round', 'longer', 'disguised')
  cells = [(arm, s) for arm in c.arms for s in c.arm[arm].sizes]
  rate = lambda x: [[x, x]]

  def of(arm, size, v):
    home = v in c.arm[arm].sources
    power = {2: 0.3, 4: 0.9}[size if not change.get('size') else 6 - size]
    power *= {'both': 0.9, 'round': 0.7, 'disguised': 0.1 if change.get('disguise') else 0.8,
              'longer': 0.9 if change.get('longer') else 1.1,
              'hard': 1.05 if change.get('robust') else 0.5}.get(arm, 1)
    if not home:
      power *= (1.5 if change.get('transfer') else 0.5)
      power *= 0.5 if change.get('several') and arm == 'both' else 1.5 if arm == 'both' else 1
    if arm == 'round' and change.get('round'):
      power *= 2
    aimed = power * (1.2 if change.get('harder') else 0.8)
    share = np.full(10, 0.1)
    if not change.get('spread'):
      share = np.eye(10)[3]
    return {
      'untargeted': rate(power) + rate(power * (1.1 if change.get('best') else 0.9)) * 10,
      'targeted': rate(0.0) + rate(aimed) * 10, 'accuracy': rate(0.5) * 11,
      'predicted': [share.tolist()] * 11,
    }

  low = 0.95 if change.get('controls') else 0.05
  kinds = {kind: {goal: [low, low] for goal in measure.GOALS} for kind in measure.CONTROLS}
  middle = np.full((3, 3), 0.2)
  middle[1, 1] = 0.1 if change.get('middle') else 0.3
  maps = {'rows': [0, 1, 2], 'columns': [0, 1, 2], 'target': 2,
          **{goal: middle.tolist() for goal in measure.GOALS}}
  here = 0.1 if change.get('elsewhere') else 0.5
  return Findings(
    c=c, names=tuple('0123456789'), shape=(8, 8), images=100,
    victims={v: {'parameters': 10, 'test': {'accuracy': 0.9}} for v in c.victims},
    made={cell: {'targets': [UNTARGETED, *range(10)], 'strongest': 1} for cell in cells},
    rates={cell: {v: of(*cell, v) for v in c.victims} for cell in cells},
    controls={size: {v: kinds for v in c.victims} for size in (2, 4)},
    placements={goal: [[here, 0.2], [0.2, 0.2]] for goal in measure.GOALS},
    positions={'4': maps}, samples=[],
    filling=dict.fromkeys(c.arms, [0, *range(10)]), patches={},
    pictures={('disguised', 4): None}, sampled=None, logs={},
  )


def missed(**change):
  return [line for line in claims(findings(**change)) if '**not seen**' in line]


def test_claims_hold_where_the_numbers_are_as_expected():
  assert missed() == []
  lines = list(claims(findings()))
  assert len(lines) > 20 and any('10 of 10 are taken for their target' in x for x in lines)


@pytest.mark.parametrize(('change', 'words'), [
  ('size', 'Success grows with the size'), ('longer', 'More steps make a stronger patch'),
  ('controls', 'beats noise at every size'),
  ('controls', 'part of a real image'), ('harder', 'A target is harder than any error'),
  ('best', 'errs at least as often as the best targeted'), ('spread', 'makes one class'),
  ('round', 'A round patch'), ('transfer', 'do less to networks they were not made for'),
  ('several', 'Several sources transfer better'), ('disguise', 'keeps half of its power'),
  ('robust', 'adversarially trained network'), ('elsewhere', 'trained at one place fails'),
  ('middle', 'more in the middle than in the corners'),
])  # fmt: skip
def test_each_claim_is_missed_where_its_numbers_are_the_other_way(change, words):
  assert any(words in line for line in missed(**{change: True}))


def test_rows_name_every_victim_and_the_numbers_of_others():
  f = findings()
  rows = {(r['setting'], r['metric']): r for r in result_rows(f)}
  assert rows['mlp 4x4 on wide', 'untargeted success (%)']['value'] == pytest.approx(45)
  assert rows['mlp 4x4 on mlp', 'highest targeted success (%)']['value'] == pytest.approx(72)
  assert rows['real 2x2 on hard', 'targeted success (%)']['value'] == pytest.approx(5)
  assert rows['4x4 trained at fixed, pasted at affine', 'targeted success (%)']['value'] == 20
  assert not any(r['paper'] for r in rows.values())
