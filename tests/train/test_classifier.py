"""A classifier from a configuration: data options, compute type, averages, the plan."""

import copy
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl.data.pipeline import unit_range
from jaxdl.losses.classification import cross_entropy
from jaxdl.objectives import supervised
from jaxdl.train import classifier
from jaxdl.train.checkpoint import load_state, load_variables
from jaxdl.train.evaluate import classification, confusion, features, predict
from jaxdl.train.metrics import read_metrics

CONFIG = {
  'data': {'name': 'digits', 'per_class': 20, 'test': 50, 'validation': 100},
  'model': {'name': 'mlp', 'hidden': [16], 'dtype': 'float32'},
  'augment': {'pad': 1, 'mode': 'constant', 'flip': False},
  'epochs': 2.0, 'batch_size': 20, 'log': 5, 'evaluate': 10, 'checkpoint': 10,
  'optimizer': {'name': 'sgd', 'lr': 0.1, 'momentum': 0.9, 'schedule': {'name': 'cosine'}},
}


def changed(**changes):
  config = copy.deepcopy(CONFIG)
  for path, value in changes.items():
    *parents, last = path.split('__')
    where = config
    for parent in parents:
      where = where[parent]
    where[last] = value
  return config


def test_splits_are_what_was_asked_for_and_the_task_is_made_once():
  t = classifier.task(CONFIG)
  assert (len(t.train), len(t.validation), len(t.test)) == (200, 100, 50)
  assert np.bincount(t.train.labels).tolist() == [20] * 10
  assert t.steps(2.0, 20) == 20 and t.steps(0.001, 20) == 1
  assert classifier.task(copy.deepcopy(CONFIG)).model is t.model
  rows = {bytes(x.tobytes()) for x in t.validation.images}
  assert len(rows & {bytes(x.tobytes()) for x in t.train.images}) < 3  # digits repeat rarely


def test_result_is_the_accuracy_of_the_saved_weights(tmp_path):
  result = classifier.train(CONFIG, 3, tmp_path)
  t = classifier.task(CONFIG)
  params, model_state = load_variables(tmp_path)
  for part in ('train', 'validation', 'test'):
    split = getattr(t, part)
    want = classification(predict(t.model, params, model_state, split.images), split.labels)
    assert result[part] == pytest.approx(want, rel=1e-6)
  assert result['steps'] == 20 and result['parameters'] == 64 * 16 + 16 + 16 * 10 + 10
  assert result['train']['accuracy'] > 0.3


def test_bfloat16_computes_in_half_and_keeps_full_parameters(tmp_path):
  config = changed(model={'name': 'resnet8', 'width': 0.25, 'dtype': 'bfloat16'}, epochs=0.5)
  result = classifier.train(config, 0, tmp_path)
  params, model_state = load_variables(tmp_path)
  assert {x.dtype for x in jax.tree.leaves((params, model_state))} == {np.dtype('float32')}
  assert np.isfinite(result['test']['loss'])
  t = classifier.task(config)
  (logits, features), _ = t.model.apply(params, model_state, jnp.zeros((2, 8, 8, 1)))
  assert logits.dtype == jnp.float32 and features['stage1'].dtype == jnp.bfloat16


def test_an_average_of_the_weights_is_what_is_evaluated(tmp_path):
  result = classifier.train(changed(optimizer__ema=0.999), 0, tmp_path)
  t = classifier.task(CONFIG)
  params, model_state = load_variables(tmp_path)
  raw = classification(predict(t.model, params, model_state, t.test.images), t.test.labels)
  assert result['test']['loss'] != pytest.approx(raw['loss'], rel=1e-3)


def test_the_plan_counts_the_work():
  plan = classifier.plan(CONFIG, gradients=2)
  macs = 64 * 16 + 16 * 10
  assert plan['MACs'] == macs and plan['work'] == 3 * macs * 20 * 20 * 2
  assert plan['parameters'] == macs + 26


@pytest.mark.parametrize('change, message', [
  ({'model__dtype': 'float16'}, "Unknown dtype of the model 'float16'"),
  ({'model__name': 'resnet21'}, 'resnet2'),
  ({'data__name': 'no_such_set'}, 'no_such_set'),
  ({'data__per_class': 10_000}, 'fewer than the 10000'),
  ({'data__validation': 10**6}, 'hold out'),
])
def test_wrong_options_are_named(change, message):
  with pytest.raises(ValueError, match=message):
    classifier.task(changed(**change))


def test_predict_is_exact_for_any_chunk_and_confusion_counts():
  t = classifier.task(CONFIG)
  params, model_state = t.model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
  whole = predict(t.model, params, model_state, t.test.images, chunk=50)
  for chunk in (7, 500):
    chex.assert_trees_all_close(
      whole, predict(t.model, params, model_state, t.test.images, chunk=chunk), rtol=1e-5
    )
  counts = confusion(whole, t.test.labels, 10)
  assert counts.sum() == 50
  assert np.trace(counts) / 50 == classification(whole, t.test.labels)['accuracy']
  with pytest.raises(ValueError, match='no images'):
    predict(t.model, params, model_state, t.test.images[:0])


def test_features_are_those_of_the_network_pooled_or_flat():
  t = classifier.task(CONFIG | {'model': {'name': 'resnet8', 'width': 0.25}})
  params, model_state = t.model.init(jax.random.key(0), jnp.zeros((1, *t.dataset.image_shape)))
  images = t.test.images[:7]
  (_, found), _ = t.model.apply(params, model_state, images / np.float32(255))
  names = ('stem', 'pooled')
  have = features(t.model, params, model_state, images, names, chunk=3)
  flat = features(t.model, params, model_state, images, ('stem',), pool=False)
  np.testing.assert_allclose(have['stem'], np.asarray(found['stem']).mean((1, 2)), atol=1e-5)
  np.testing.assert_allclose(have['pooled'], found['pooled'], atol=1e-5)
  np.testing.assert_allclose(flat['stem'], np.asarray(found['stem']).reshape(7, -1), atol=1e-5)
  with pytest.raises(ValueError, match="no feature 'stage9'; it has pooled"):
    features(t.model, params, model_state, images, ('stage9',))


def test_a_transform_comes_after_the_augmentation_and_evals_beside_the_splits(tmp_path):
  t, seen = classifier.task(CONFIG), []

  def black(params, model_state, batch, key, frozen):
    seen.append(set(batch))
    return {**batch, 'image': frozen['scale'] * batch['image']}

  def run(name, **options):
    classifier.train(CONFIG, 0, tmp_path / name, t, **options)
    return load_state(tmp_path / name)['params']

  step = lambda state: {'step': float(state.step)}
  none = run('none', transform=lambda params, model_state, batch, key, frozen: batch)
  one = run('one', transform=black, frozen={'scale': jnp.float32(1)}, evals={'mine': step})
  zero = run('zero', transform=black, frozen={'scale': jnp.float32(0)})
  chex.assert_trees_all_close(none, one, atol=1e-5)
  with pytest.raises(AssertionError):
    chex.assert_trees_all_close(none, zero)
  assert {'image', 'label', 'index', 'step'} <= seen[0]
  steps, values = read_metrics(tmp_path / 'one')['mine/step']
  assert steps.tolist() == values.tolist() == [10, 20]


def test_label_smoothing_is_that_of_the_loss(tmp_path):
  smooth = CONFIG | {'label_smoothing': 0.2}
  t = classifier.task(CONFIG)
  loss = functools.partial(cross_entropy, smoothing=0.2)
  for name, config, objective in (
    ('config', smooth, None), ('loss', CONFIG, supervised(t.model.apply, loss)),
  ):
    classifier.train(config, 0, tmp_path / name, t, objective)
  weights = [load_state(tmp_path / name)['params'] for name in ('config', 'loss')]
  chex.assert_trees_all_equal(*weights)
  with pytest.raises(ValueError, match='label_smoothing is for the plain cross-entropy'):
    classifier.train(smooth, 0, tmp_path / 'both', t, supervised(t.model.apply))
  adversary = {'name': 'pgd', 'eps': 0.1, 'steps': 1}
  for options in ({'label_smoothing': 1.5}, {'label_smoothing': 0.1, 'adversary': adversary}):
    with pytest.raises(ValueError, match='label_smoothing'):
      classifier.check(CONFIG | options)


def test_images_made_smaller_are_means_of_squares_and_the_classes_stay():
  small = {**CONFIG, 'data': {**CONFIG['data'], 'shrink': 2}}
  t, whole = classifier.task(small), classifier.task(CONFIG)
  want = unit_range(whole.test.images).reshape(len(whole.test), 4, 2, 4, 2, 1).mean((2, 4))
  np.testing.assert_allclose(unit_range(t.test.images), want, atol=0.51 / 255)
  np.testing.assert_array_equal(t.train.labels, whole.train.labels)
  assert t.dataset.image_shape == (4, 4, 1) and len(t.train) == len(whole.train)
  with pytest.raises(ValueError, match='choose a factor that divides both sides'):
    classifier.check({**CONFIG, 'data': {**CONFIG['data'], 'shrink': 3}})
