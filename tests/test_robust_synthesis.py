"""What the study of image synthesis refuses, and what it says of its numbers."""

import importlib.util
import pathlib
import sys

import jax
import numpy as np
import pytest

from jaxdl.core import Model
from jaxdl.data import make_split
from jaxdl.synthesis import seeds as S
from jaxdl.synthesis import tasks
from jaxdl.synthesis.claims import claims
from jaxdl.synthesis.opinions import Network

ROOT = pathlib.Path(__file__).parent.parent / 'experiments'


def load(path):
  spec = importlib.util.spec_from_file_location(f'synthesis_{path.parent.name}', path)
  module = importlib.util.module_from_spec(spec)
  sys.modules[spec.name] = module
  spec.loader.exec_module(module)
  return module


STUDY = load(ROOT / 'robust_synthesis.py')
CONFIG = load(ROOT / 'configs' / 'robust_synthesis.py')


def smoke(changes=()):
  c = CONFIG.get_config('smoke')
  for path, value in dict(changes).items():
    *sections, key = path.split('.')
    section = c
    for name in sections:
      section = section[name]
    section[key] = value
  return c


@pytest.mark.parametrize('path, value, words', [
  ('inpainting.side', 9, r'inpainting.side \(of the square, in pixels\) must be .* at most 8'),
  ('inpainting.steps', 0, 'inpainting.steps must be a whole number, at least 1'),
  ('inpainting.weight', -1.0, 'inpainting.weight must be a number, at least 0'),
  ('super_resolution.factor', 3, 'Images of 8 x 8 pixels have no blocks of 3 x 3'),
  ('super_resolution.per_class', 500, 'super_resolution.per_class must be .* at most'),
  ('super_resolution.eps', (-1.0,), 'Each of super_resolution.eps must be'),
  ('generation.grain', 5, 'Images of 8 x 8 pixels have no blocks of 5 x 5'),
  ('generation.alpha', 0.0, 'generation.alpha must be a number, above 0'),
  ('generation.marks', (), 'generation.marks must be a list of at least one number'),
  ('translation.pairs', (('0', 'eight'),), "Unknown class in translation.pairs 'eight'"),
  ('translation.pairs', (('0', '0'),), 'a pair is two different classes'),
  ('translation.pairs', ('01',), 'a pair is two different classes'),
  ('translation.pairs', (), 'names no pairs of classes'),
  ('binary.pairs', (('0', 'eight'),), "Unknown class in binary.pairs 'eight'"),
  ('painting.gain', 0.0, 'painting.gain must be a number, above 0'),
  ('robustness.images', 0, 'robustness.images must be a whole number, at least 1'),
])  # fmt: skip
def test_a_task_that_cannot_be_done_is_refused_before_training(path, value, words, tmp_path):
  stages = {stage.name: stage for stage in STUDY.stages(smoke({path: value}))}
  with pytest.raises(ValueError, match=words):
    stages['seeds'].check(tmp_path)


def test_a_network_without_that_relu_is_refused(tmp_path):
  c = smoke()
  c.train.model = {'name': 'vgg11_bn'}
  stages = {stage.name: stage for stage in STUDY.stages(c)}
  with pytest.raises(ValueError, match="a VGG has no such last ReLU"):
    stages['seeds'].check(tmp_path)


def test_unknown_arms_and_negative_radii_are_refused():
  with pytest.raises(ValueError, match="Unknown name in arms 'robust_2'"):
    STUDY.stages(smoke({'arms': ('standard', 'robust_2')}))
  with pytest.raises(ValueError, match='eps.robust_0p5 must be a number, at least 0'):
    STUDY.stages(smoke({'eps.robust_0p5': -0.5}))


def test_the_adversary_is_that_of_the_arm_and_the_judge_has_none():
  c = smoke()
  assert STUDY.arm_config(c, 'standard')['adversary'] is None
  assert STUDY.arm_config(c, 'robust_0p5')['adversary']['eps'] == 0.5
  judge = STUDY.judge_config(c)
  assert not judge.get('adversary') and judge['model'] != c.train.model.to_dict()


def test_two_classes_cost_their_share():
  plans = {stage.name: stage.plan() for stage in STUDY.stages(smoke()) if stage.plan}
  for arm in ('standard', 'robust_0p5'):
    assert plans[f'{arm}-3-5']['work'] == pytest.approx(plans[arm]['work'] / 5)


def numbers(robust, small, standard):
  """Configuration and results: all networks agree with each other as it is given."""
  c = smoke({'arms': ('standard', 'robust_0p25', 'robust_0p5', 'robust_1')})
  def one(agreement):
    r = {'judge': {'agreement': agreement, 'score': agreement}, 'psnr': 10 * agreement,
         'own': {'agreement': 1.0, 'confidence': 0.99}, 'frechet': 1 - agreement}
    blind = {**r, 'judge': {'agreement': 0.9 * agreement if agreement > 0.5 else 0.95}}
    start = {**r, 'psnr': 3.0, 'judge': {'agreement': 0.3}, 'own': {'agreement': 0.75}}
    return {
      'generation': {kind: r for kind in S.SEEDS},
      'inpainting': {'cut': start, 'penalty': r, 'penalty, blind': blind},
      'super_resolution': {
        **{name: [blind if 'blind' in name else r] for name in tasks.RESTORATIONS},
        'nearest': start, 'bicubic': {'psnr': 8.5, 'judge': {'agreement': 0.6}},
      },
      'translation': {'made': [r]},
      'sketching': {'before': start, 'after': r},
      'painting': {'before': {**r, 'judge': {'agreement': 0.1}}, 'after': r},
    }

  shares = {'standard': standard, 'robust_0p25': small, 'robust_0p5': robust, 'robust_1': robust}
  of = {arm: one(share) for arm, share in shares.items()}
  seeds = {kind: {'agreement': 0.2, 'frechet': 2.0} for kind in (*S.SEEDS, 'real')}
  look = {'untouched': 0.2, **shares}
  across = {kind: {
    maker: dict.fromkeys(('judge', *c.arms), share) for maker, share in look.items()
  } for kind in S.SEEDS}
  results = {task: {arm: r[task] for arm, r in of.items()} for task in of['standard']}
  results['binary'] = {(('3', '5'), arm): of[arm]['translation'] for arm in c.binary.arms}
  return c, {'seeds': seeds, 'cross': across}, results


def test_answers_follow_the_numbers():
  as_published = list(claims(*numbers(robust=0.97, small=0.9, standard=0.22)))
  assert [line for line in as_published if '**not seen**' in line] == []
  # The other way round, nothing of it holds but what is said of the one network alone.
  otherwise = list(claims(*numbers(robust=0.22, small=0.25, standard=0.97)))
  assert [line for line in otherwise if '**seen**' in line] == []
  assert len(otherwise) == len(as_published) > 18
  assert '97.0 %' in as_published[1] and '25.0 %' in otherwise[1]
  assert any('wrong in 25.0 % of the images' in line for line in as_published)


def test_the_ranking_by_radius_is_said_where_there_are_three_kinds():
  c, stages, results = numbers(robust=0.97, small=0.98, standard=0.22)
  ranked = [line for line in claims(c, stages, results) if 'a training radius' in line]
  assert len(ranked) == 4 and all('**not seen**' in line for line in ranked)
  c.arms = ('standard', 'robust_0p5')
  assert not any('a training radius' in line for line in claims(c, stages, results))


def test_between_two_classes_aims_at_the_other_one(tmp_path):
  """A network of two channels' means; the judge, of four classes, looks at the same two."""
  rng = np.random.default_rng(0)
  images, labels = rng.integers(100, 120, (12, 4, 4, 3), np.uint8), np.arange(12) % 4
  images[labels == 1, ..., 0] += 20
  images[labels == 3, ..., 1] += 20
  logits = lambda x: 60 * x.mean((1, 2))
  two = Model(None, lambda p, s, x, **_: ((logits(x)[:, :2], {}), s))
  four = Model(None, lambda p, s, x, **_: ((
    jax.numpy.stack([0 * x[:, 0, 0, 0], logits(x)[:, 0], 0 * x[:, 0, 0, 0], logits(x)[:, 1]], 1), {}
  ), s))
  bench = tasks.Bench(
    Network(two, {}, {}), None, Network(four, {}, {}), make_split(images, labels), tuple('abcd'),
    jax.random.key(0), tmp_path,
  )
  o = {'per_class': 3, 'eps': (0.0, 2.0), 'alpha': 0.2, 'steps': 20}
  out = tasks.between_two(o, bench, [1, 3])
  assert out['sources']['own']['agreement'] == out['sources']['judge']['agreement'] == 0.0
  still, turned = out['made']
  assert still['moved'] == 0 and still['own']['agreement'] == 0.0
  assert turned['own']['agreement'] == turned['judge']['agreement'] == 1.0
  assert turned['moved'] <= 2.0 + 1e-5
  assert np.load(tmp_path / 'made.npy').shape == (2, 2, 4, 4, 3)


def test_psnr_of_the_square_alone():
  images = np.random.default_rng(0).uniform(0, 1, (4, 6, 6, 3))
  mask = np.zeros((4, 6, 6, 1))
  mask[:, 1:3, 2:5] = 1
  other = images + 0.1 * mask + 0.5 * (1 - mask)
  assert tasks.psnr_inside(other, images, mask) == pytest.approx(20.0)


def test_every_network_looks_at_the_images_of_the_others(tmp_path):
  def constant(label):
    logits = np.eye(3, dtype=np.float32)[label]
    model = Model(None, lambda p, s, x, **_: ((p + x.mean((1, 2)) * logits, {}), s))
    return Network(model, np.zeros(3, np.float32), {})

  seeds = np.full((6, 4, 4, 1), 0.5, np.float32)
  for kind in S.SEEDS:
    np.savez(tmp_path / f'{kind}.npz', seeds=seeds, targets=np.array([0, 0, 0, 1, 1, 2]))
    np.save(tmp_path / f'{kind}.npy', np.full((6, 4, 4, 1), 200, np.uint8))
  networks = {'a': constant(0), 'b': constant(2)}
  out = S.cross(networks, {'a': tmp_path}, tmp_path)
  assert set(out) == set(S.SEEDS)
  for looks in out.values():
    assert looks == {maker: {'a': 3 / 6, 'b': 1 / 6} for maker in ('untouched', 'a')}
