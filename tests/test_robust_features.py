"""The sets of the study of robust features, built on digits, and its account of what was found."""

import importlib.util
import pathlib

import jax
import numpy as np
import pytest

from jaxdl.attacks.construct import load_set
from jaxdl.attacks.inversion import representing
from jaxdl.data.pipeline import unit_range
from jaxdl.robustness import feature_report, survey
from jaxdl.robustness.feature_claims import claims, depth_claims, error
from jaxdl.robustness.published import robust_features
from jaxdl.train import classifier, interrupt
from jaxdl.train.checkpoint import load_variables
from jaxdl.train.evaluate import predict
from jaxdl.train.stages import Context, check_stages, run_stages
from jaxdl.viz.report import Report

ROOT = pathlib.Path(__file__).parent.parent / 'experiments'


def load(path):
  spec = importlib.util.spec_from_file_location(f'study_{path.parent.name}_{path.stem}', path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


STUDY = load(ROOT / 'robust_features.py')
CONFIG = load(ROOT / 'configs' / 'robust_features.py')


def small(**sets):
  """One small network on few digits, with these sets."""
  c = CONFIG.get_config('smoke')
  c.models, c.sets = ('small',), tuple(sets) or c.sets
  c.model.small = {'name': 'mlp', 'hidden': (32,), 'dtype': 'float32'}
  for name, change in sets.items():
    c.set[name].update(change)
  c.train.data.per_class, c.train.epochs, c.robust.epochs, c.chunk = 30, 8.0, 4.0, 90
  return c


@pytest.fixture(scope='module')
def built(tmp_path_factory):
  """The stages up to the sets, and the folder in which they ran."""
  c = small(robust_image={'keep_best': True}, nonrobust_noise={}, rand={}, det={}, original={},
            random_noise={}, random_labels={'lr': 0.05})
  workdir = tmp_path_factory.mktemp('sets')
  stages = [s for s in STUDY.stages(c) if not s.name.startswith(('learn', 'measure', 'report'))]
  return c, stages, workdir, run_stages(stages, workdir, log=lambda line: None)


def test_every_set_has_the_labels_it_is_told_by(built):
  c, _, workdir, _ = built
  train = classifier.task(STUDY.set_config(c, 'rand', 'small')).train
  sets = {name: load_set(workdir / f'build-{name}-small' / 'set.npz') for name in c.sets}
  for made in sets.values():
    assert made['images'].dtype == np.float32 and made['images'].shape == train.images.shape
    assert made['images'].min() >= 0 and made['images'].max() <= 1
    np.testing.assert_array_equal(made['classes'], train.labels)
  for name in ('robust_image', 'nonrobust_noise', 'original'):
    np.testing.assert_array_equal(sets[name]['labels'], train.labels)
  np.testing.assert_array_equal(sets['det']['labels'], (train.labels + 1) % 10)
  assert 0.03 < (sets['rand']['labels'] == train.labels).mean() < 0.2
  np.testing.assert_array_equal(sets['original']['images'], unit_range(train.images))
  np.testing.assert_array_equal(sets['random_labels']['images'], unit_range(train.images))


def test_relabelled_images_stay_in_the_ball_and_reach_their_labels(built):
  c, _, workdir, results = built
  train = classifier.task(STUDY.set_config(c, 'rand', 'small')).train
  for name in ('rand', 'det', 'random_noise'):
    images = load_set(workdir / f'build-{name}-small' / 'set.npz')['images'].astype(np.float64)
    moved = np.linalg.norm((images - unit_range(train.images)).reshape(len(images), -1), axis=1)
    assert moved.max() <= c.set[name].eps * (1 + 1e-5) and moved.min() > 0
    assert results[f'look-{name}-small']['moved at most'] == pytest.approx(moved.max(), rel=1e-4)
  called = results['look-det-small']['called']['standard-small']
  assert called['label'] > 0.5 > called['class']
  counts = np.array(results['look-det-small']['confusion'])
  assert counts.sum() == len(train) and np.trace(np.roll(counts, -1, 1)) == pytest.approx(
    called['label'] * len(train))


def test_matched_images_are_represented_like_their_originals(built):
  _, _, _, results = built
  for name in ('robust_image', 'nonrobust_noise'):
    distance = results[f'look-{name}-small']['representation']
    assert distance['after'] < 0.6 * distance['before']
  assert results['look-robust_image-small']['from the original'] > 1


def test_the_representation_is_what_the_last_layer_reads(built):
  c, _, workdir, _ = built
  t = classifier.task(STUDY.set_config(c, 'rand', 'small'))
  params, state = load_variables(workdir / 'standard-small')
  x = unit_range(t.train.images[:5])
  pooled, _ = representing(t.model).apply(params, state, x)
  head = params['head']
  np.testing.assert_allclose(
    pooled[0] @ head['kernel'] + head['bias'], t.model.apply(params, state, x)[0][0], rtol=1e-5,
    atol=1e-5,
  )


def test_a_stopped_build_gives_the_same_bytes(built, tmp_path, monkeypatch):
  c, stages, workdir, results = built
  stage = next(s for s in stages if s.name == 'build-rand-small')
  context = Context(tmp_path, results, {s.name: workdir / s.name for s in stages})
  poll, asked = interrupt.poll, []

  def stop():
    asked.append(1)
    if len(asked) == 3:
      raise interrupt.Interrupted('SIGTERM')
    poll()

  monkeypatch.setattr(interrupt, 'poll', stop)
  with pytest.raises(interrupt.Interrupted):
    stage.run(context)
  assert len(list((tmp_path / 'parts').iterdir())) == 2 and not (tmp_path / 'set.npz').exists()
  assert stage.run(context) == results['build-rand-small']
  assert (tmp_path / 'set.npz').read_bytes() == (
    workdir / 'build-rand-small' / 'set.npz').read_bytes()
  assert [p.name for p in tmp_path.iterdir()] == ['set.npz']
  assert stage.run(context) == results['build-rand-small']  # the chunks are gone, the set is not


@pytest.mark.parametrize('name, change, says', [
  ('rand', {'kind': 'attak'}, "Unknown set.rand.kind 'attak'. Did you mean 'attack'"),
  ('rand', {'source': 'indep'}, "Unknown set.rand.source 'indep'"),
  ('rand', {'labels': 'own'}, "Unknown set.rand.labels 'own'"),
  ('rand', {'eps': -1.0}, 'set.rand.eps must be a number, at least 0'),
  ('rand', {'steps': 0}, 'set.rand.steps must be a whole number, at least 1'),
  ('robust_image', {'start': 'nois'}, "set.robust_image.start 'nois'. Did you mean 'noise'"),
  ('robust_image', {'alpha': -0.1}, 'set.robust_image.alpha must be a number'),
  ('original', {'per_class': -1}, 'set.original.per_class must be a whole number'),
])
def test_a_set_that_cannot_be_made_is_refused(name, change, says):
  c = small()
  with c.unlocked(), pytest.raises(ValueError, match=says.replace('.', r'\.')):
    c.set[name].update(change)
    STUDY.stages(c)


def test_an_option_that_a_set_lacks_or_does_not_have():
  c = small()
  del c.set.rand['eps']
  with pytest.raises(ValueError, match="set.rand has no 'eps'; give one"):
    STUDY.stages(c)
  c = small()
  c.set.rand['start'] = 'noise'
  with pytest.raises(ValueError, match="Unknown key of set.rand 'start'"):
    STUDY.stages(c)


def test_what_the_data_or_the_network_cannot_do_is_said_before_anything_runs(tmp_path):
  c = small(rand={'per_class': 10_000})
  with pytest.raises(ValueError, match='fewer than the 10000 asked for'):
    check_stages(STUDY.stages(c), tmp_path)
  c = small(nonrobust_noise={})
  c.model.small = {'name': 'vgg11_bn', 'dtype': 'float32'}
  with pytest.raises(ValueError, match="no option 'fake_relu'"):
    check_stages(STUDY.stages(c), tmp_path)
  c = small()
  c.attack.eps = (0.25, -0.5)
  with pytest.raises(ValueError, match='Each of attack.eps must be a number, above 0'):
    STUDY.stages(c)
  assert not list(tmp_path.iterdir())


def test_claims_say_what_was_seen_and_what_was_not():
  run = lambda accuracy, *l2: [{'accuracy': accuracy, 'l2': list(l2), 'next': 0.1}]
  settings = {
    'standard': run(0.9, 0.1, 0.0), 'robust': run(0.8, 0.6, 0.4), 'rand': run(0.6, 0.05, 0.01),
    'robust_image': run(0.7, 0.4, 0.01), 'original': run(0.85, 0.1, 0.0),
    'random_noise': run(0.11, 0.0, 0.0),
  }
  told = lambda images=300: list(claims(settings, (0.25, 0.5), 10, images, 2_000))
  assert sum('not seen' in line for line in told()) == 1
  assert any('robust_image' in line and 'L2 0.5' in line and 'not seen' in line for line in told())
  assert sum('not seen' in line for line in told(10)) == 2  # 40 and 10 % of ten images are no more
  settings['rand'] = run(0.11, 0.1, 0.1)
  line = next(line for line in told() if line.startswith('rand '))
  assert line.count('not seen') == 2
  settings['rand_by_robust'] = run(0.12, 0.1, 0.1)
  assert '**not seen**' in next(line for line in told() if 'teach less' in line)
  settings['robust'] = [{**settings['robust'][0], 'brief': 0.5, 'long': 0.49},
                        *settings['robust']]  # the longer attack is for the first seed alone
  assert '**seen**' in told()[-1] and '50.0 and 49.0' in told()[-1]
  settings['robust'][0]['long'] = 0.4
  assert '**not seen**' in told()[-1]


def test_two_standard_errors():
  """Of the difference of two shares of 400 images: twice sqrt(2 * .25 / 400)."""
  assert error(50, 50, 400) == pytest.approx(100 * 2 * np.sqrt(2 * 0.25 / 400))
  assert error(0, 100, 10) == 0


def test_claims_of_depth():
  models = ('a', 'b')
  learnt = {'rand': {('a', 'a'): 20.0, ('b', 'b'): 30.0, ('a', 'b'): 25.0, ('b', 'a'): 12.0}}
  own, deeper, fooled = depth_claims(learnt, {'a': 90.0, 'b': 95.0}, models, 10)
  assert 'made (above 15 %): **seen**' in own and 'others made: **not seen**' in own
  assert '**seen**' in deeper and '**seen**' in fooled
  *_, fooled = depth_claims(learnt, {'a': 90.0, 'b': 60.0}, models, 10)
  assert '**not seen**' in fooled


def test_published_numbers_stand_beside_the_same_perturbation():
  """On images of half the sides, means of squares of four pixels, a radius is half as long."""
  assert robust_features('robust_image', 'test', 0.25)[0] == 48.20
  value, source = robust_features('robust_image', 'test', 0.25, 2.0)
  assert value == 21.85 and 'L2 0.5 on 32 x 32' in source
  assert robust_features('det', 'next', 0.0, 2.0)[0] == 16.2
  assert robust_features('robust_image', 'noise', 0.25) == ()


def test_depths_are_crossed(tmp_path):
  """Two models: every one makes the crossed sets and learns them from all; and figure 3."""
  c = small(rand={}, original={})
  c.model.other = {'name': 'mlp', 'hidden': (16,), 'dtype': 'float32'}
  c.models, c.cross = ('small', 'other'), ('rand',)
  names = [s.name for s in STUDY.stages(c)]
  assert {f'learn-rand-{a}-{b}-0' for a in c.models for b in c.models} <= set(names)
  assert 'build-original-small' in names and 'build-original-other' not in names
  needs = {s.name: s.needs for s in STUDY.stages(c)}
  assert needs['learn-rand-other-small-0'] == ['build-rand-other']
  assert needs['build-rand-other'] == ['standard-other']

  run = lambda accuracy: [{'accuracy': accuracy, 'l2': [accuracy / 2, 0.0], 'next': 0.1}]
  settings = {
    'rand': run(0.5), 'rand by small, other': run(0.25), 'rand by other, small': run(0.375),
    'rand, other': run(0.75),
  }
  called = {k: {'label': v, 'class': 0.1} for k, v in {
    'standard-small': 0.99, 'independent-small': 0.5, 'standard-other': 0.4}.items()}
  report = Report('Crossed', tmp_path)
  found = STUDY.crossed(c, settings, {'rand': {'called': called}})
  assert found[2] == {'small': 50, 'other': 40}
  feature_report.crossed(report, *found, c.models)
  text = report.write().with_name('report.md').read_text()
  assert '| small | 50.0 | 25.0 |' in text and '| other | 37.5 | 75.0 |' in text
  assert '| small | 25.0 | 12.5 |' in text and (tmp_path / 'transfer.png').exists()


def test_robust_accuracy_is_that_of_pgd(built):
  """The evaluation of all radii at once against each on its own."""
  from jaxdl.attacks import pgd, robust

  c, _, workdir, _ = built
  t = classifier.task(STUDY.set_config(c, 'rand', 'small'))
  network = t.model, *load_variables(workdir / 'standard-small')
  images, labels, key = t.test.images[:60], t.test.labels[:60], jax.random.key(7)
  have = survey.accuracies(network, images, labels, (0.3, 0.9), 4, key)
  for eps, accuracy in zip((0.3, 0.9), have, strict=True):
    attack = pgd(eps, 4, norm='l2', random_start=False, early_stop=True)
    alone = robust(*network, images, labels, attack, key).mean()
    assert abs(alone - accuracy) <= 1 / 60 + 1e-6  # a tie may fall otherwise in another program
  assert have[0] > have[1]


def test_sets_are_made_with_the_weights_that_a_source_is_evaluated_with(tmp_path):
  """The network beside Free's delta, and its average where one is kept."""
  c = small(det_by_robust={})
  with c.unlocked():
    c.robust.adversary = {'name': 'free', 'eps': 0.1, 'replays': 2}
    c.train.optimizer.ema = 0.9
  stages = [s for s in STUDY.stages(c) if s.name in ('robust-small', 'build-det_by_robust-small')]
  run_stages(stages, tmp_path, log=lambda line: None)
  made = load_set(tmp_path / 'build-det_by_robust-small' / 'set.npz')
  t = classifier.task(STUDY.source_config(c, 'robust', 'small'))
  weights = classifier.load_weights(tmp_path / 'robust-small')
  called = predict(t.model, *weights, made['images']).argmax(-1)
  before = predict(t.model, *weights, t.train.images).argmax(-1)
  assert np.mean(called == made['labels']) > np.mean(before == made['labels']) + 0.2
