"""The study of RotNet: its sets, and what its report says of numbers."""

import numpy as np
from test_experiments import ROOT, load

from jaxdl.representation import rotnet_report

rotnet = load(ROOT / 'rotnet.py')


def config():
  return load(ROOT / 'configs' / 'rotnet.py').get_config('smoke')


def test_turned_test_images_and_hidden_labels():
  c = config()
  recipe = rotnet.recipe_of(c, 'rotnet')
  plain, t = rotnet.task(recipe), rotnet.pretext(recipe, 7)
  want = np.concatenate([np.rot90(plain.test.images[:7], k, (1, 2)) for k in range(4)])
  np.testing.assert_array_equal(t.test.images, want)
  np.testing.assert_array_equal(t.test.labels, np.repeat(np.arange(4), 7))
  np.testing.assert_array_equal(t.train.images, plain.train.images)
  assert not t.train.labels.any() and plain.train.labels.any() and not len(t.validation)


def test_labels_are_of_the_pool_and_subsets_of_few_are_the_same_for_every_way():
  c = config()
  recipe = rotnet.recipe_of(c, 'rotnet')
  pool = rotnet.labelled(rotnet.task(recipe), recipe)
  np.testing.assert_array_equal(np.bincount(pool.train.labels), [40] * 10)
  entry = {'amount': 10, 'subset': 1, 'batch_size': 64, 'optimizer': {}, 'log': 1, 'steps': 33}
  (t, changed), (again, _) = (rotnet.subset_of(recipe, entry) for _ in range(2))
  np.testing.assert_array_equal(t.train.images, again.train.images)
  assert t.steps(changed['epochs'], changed['batch_size']) == 33 and len(t.train) == 100
  known = {image.tobytes() for image in pool.train.images}
  assert all(image.tobytes() in known for image in t.train.images)


def test_shrunk_images_are_of_every_split():
  c = config()
  c.train.data.shrink = 2
  t = rotnet.task(rotnet.recipe_of(c, 'rotnet'))
  assert {s.images.shape[1:] for s in (t.train, t.validation, t.test)} == {(4, 4, 1)}
  assert t.dataset.image_shape == (4, 4, 1)


def made_up(last, random):
  """Results in which block 1 is right of 0.8, and block 2 as given."""
  one = lambda *values: {
    'blocks': {f'hidden{i}': {'map': v, 'mean': v, 'knn': v, 'map dev': v, 'mean dev': v}
               for i, v in enumerate(values, 1)},
    'heads': {f'{kind}_hidden{i}': {'dev': v, 'test': v} for kind in ('linear', 'mlp')
              for i, v in enumerate(values, 1)},
  }
  frozen = {'heads': one(0.8, last)['heads'], 'probe': 0.7}
  few = {10: {'heads': [frozen], 'tune': [frozen], 'scratch': [{'test': 0.5, 'examples': 100}]}}
  return {'rotnet': [one(0.8, last)], 'random': [one(0.4, random)]}, few


def claimed(last, random):
  blocks = dict.fromkeys(('rotnet', 'random'), ('hidden1', 'hidden2'))
  return list(rotnet_report._claims(config(), *made_up(last, random), blocks))


def test_a_claim_that_is_missed_is_said_to_be():
  seen = claimed(last=0.6, random=0.3)
  assert len(seen) == 9 and all('**seen**' in line and '**not' not in line for line in seen)
  missed = claimed(last=0.9, random=0.95)
  assert sum('**not seen**' in line for line in missed) == 8  # all but few labels
  assert 'rotnet 80.00 / 90.00 %, random 40.00 / 95.00 %' in missed[0]
