import threading

import jax
import numpy as np
import pytest

from jaxdl.data import eval_batches, make_split, resident, streaming, take
from jaxdl.data.pipeline import SplitSource


def some_split(n, seed=0):
  generator = np.random.default_rng(seed)
  images = generator.integers(0, 256, (n, 4, 5, 3), np.uint8)
  extras = {'box': generator.normal(size=(n, 4)).astype(np.float32), 'age': np.arange(n)}
  return make_split(images, generator.integers(0, 9, n), extras)


def assert_batches_equal(a, b):
  assert a.keys() == b.keys()
  for name in a:
    x, y = np.asarray(a[name]), np.asarray(b[name])
    assert x.shape == y.shape and (x == y).all(), name


def test_a_batch_holds_the_examples_of_its_indices():
  s = some_split(10)
  r = resident(s, 4, seed=0)
  batch = jax.device_get(jax.jit(r.batch_at)(r.arrays, 3))
  i = batch['index']
  np.testing.assert_allclose(batch['image'], s.images[i] / 255.0, rtol=1e-6)
  assert batch['image'].dtype == np.float32 and batch['label'].dtype == np.int32
  assert (batch['label'] == s.labels[i]).all() and (batch['box'] == s.extras['box'][i]).all()
  assert r.size == 10 and r.batch_size == 4 and r.arrays['image'].dtype == np.uint8


def test_pixels_fill_zero_to_one():
  ramp = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
  r = resident(make_split(ramp, [0]), 1, 0)
  image = np.asarray(r.batch_at(r.arrays, 0)['image']).ravel()
  assert image[0] == 0 and image[-1] == 1 and (np.diff(image) > 0).all()
  np.testing.assert_allclose(image, np.arange(256) / 255, rtol=1e-6)


def test_epochs_are_seen_whole():
  r = resident(some_split(10), 4, seed=1)
  batch_at = jax.jit(r.batch_at)
  index = np.concatenate([batch_at(r.arrays, n)['index'] for n in range(10)])
  assert (np.sort(index.reshape(4, 10)) == np.arange(10)).all()


def test_the_set_is_an_argument_not_a_constant():
  r = resident(some_split(2000), 4, seed=1)
  assert len(jax.jit(r.batch_at).lower(r.arrays, 0).as_text()) < 100_000
  other = {**r.arrays, 'label': r.arrays['label'] + 1}
  moved = r.batch_at(other, 5)['label'] - r.batch_at(r.arrays, 5)['label']
  assert (np.asarray(moved) == 1).all()


@pytest.mark.parametrize(('n', 'batch'), [(10, 4), (3, 8), (64, 64)])
def test_streaming_equals_resident(n, batch):
  split = some_split(n)
  r, s = resident(split, batch, seed=5), streaming(split, batch, seed=5)
  assert (s.size, s.batch_size) == (r.size, r.batch_size)
  batch_at = jax.jit(r.batch_at)
  from_start, later = s.batches(0), s.batches(6)
  for i in range(8):
    ours = next(from_start)
    assert_batches_equal(ours, batch_at(r.arrays, i))
    if i >= 6:
      assert_batches_equal(ours, next(later))


def test_streaming_with_many_threads_keeps_the_order():
  split = some_split(50)
  one, many = streaming(split, 8, 0).batches(), streaming(split, 8, 0, workers=4).batches()
  for _ in range(20):
    assert_batches_equal(next(one), next(many))


def test_parts_make_up_the_whole_batch():
  split = some_split(30)
  whole = streaming(split, 12, 0).read(4)
  parts = [streaming(split, 12, 0, part=i, parts=3).read(4) for i in range(3)]
  assert_batches_equal(whole, {k: np.concatenate([p[k] for p in parts]) for k in whole})


def test_a_memory_map_can_be_streamed(tmp_path):
  split = some_split(20)
  np.save(tmp_path / 'x.npy', split.images)
  mapped = split._replace(images=np.load(tmp_path / 'x.npy', mmap_mode='r'))
  assert_batches_equal(streaming(split, 6, 0).read(3), streaming(mapped, 6, 0).read(3))


def test_closing_the_iterator_ends_its_threads():
  before = threading.active_count()
  batches = streaming(some_split(10), 4, 0).batches()
  next(batches)
  assert threading.active_count() > before
  batches.close()
  assert threading.active_count() == before


class Source:
  """Examples made by a function of their number."""

  def __init__(self, n, example):
    self.n, self.example = n, example

  def __len__(self):
    return self.n

  def __getitem__(self, i):
    return self.example(i)


def test_names_and_ids_are_left_out_and_unit_images_pass():
  s = Source(5, lambda i: {'image': np.full((2, 2, 1), i / 4), 'label': i, 'id': b'x', 'file': 'y'})
  batch = streaming(s, 3, 0).read(0)
  assert set(batch) == {'image', 'label', 'index'}
  assert batch['image'].dtype == np.float32 and batch['label'].dtype == np.int32
  assert (batch['image'][:, 0, 0, 0] == batch['index'] / 4).all()


def test_an_error_in_the_source_is_raised_at_its_batch():
  split = SplitSource(some_split(8))

  def example(i):
    if i == bad:
      raise OSError('disk on fire')
    return split[i]

  bad = -1
  order = [streaming(Source(8, example), 2, 0).read(n)['index'] for n in range(4)]
  bad = order[2][0]
  batches = streaming(Source(8, example), 2, 0).batches()
  assert [(next(batches)['index'] == order[n]).all() for n in range(2)] == [True, True]
  with pytest.raises(OSError, match='disk on fire'):
    next(batches)


def test_examples_of_different_shapes_are_named():
  s = Source(6, lambda i: {'image': np.zeros((2 + (i == 3), 2, 1), np.uint8), 'label': 0})
  with pytest.raises(ValueError, match="'image' of example .* has shape"):
    streaming(s, 6, 0).read(0)


@pytest.mark.parametrize(
  ('source', 'options', 'message'),
  [
    (Source(0, None), {}, 'source to stream from is empty'),
    (Source(3, lambda i: {'image': 0}), {}, "need 'image' and 'label'"),
    (Source(3, lambda i: {'image': 0, 'label': 0, 'mask': 0}), {}, "must not have .*'mask'"),
    (some_split(3), {'parts': 3}, 'no part 0 of 3'),
    (some_split(3), {'part': 2, 'parts': 2}, 'no part 2 of 2'),
    (some_split(3), {'prefetch': 0}, 'prefetch >= 1'),
  ],
)
def test_wrong_sources_are_refused(source, options, message):
  with pytest.raises(ValueError, match=message):
    streaming(source, 4, 0, **options)


@pytest.mark.parametrize('n', [1, 7, 8, 9])
def test_eval_batches_show_every_example_once_in_one_shape(n):
  s = some_split(n)
  batches = list(eval_batches(s, 4))
  assert {b['image'].shape for b in batches} == {(4, 4, 5, 3)} and len(batches) == -(-n // 4)
  real = np.concatenate([b['mask'] for b in batches])
  assert real.dtype == np.float32 and real.sum() == n and set(real) <= {0.0, 1.0}
  join = lambda name: np.concatenate([b[name] for b in batches])[real == 1]
  assert (join('index') == np.arange(n)).all() and (join('label') == s.labels).all()
  assert (join('age') == np.arange(n)).all()
  np.testing.assert_allclose(join('image'), s.images / 255.0, rtol=1e-6)


def test_empty_splits_and_batches_are_refused():
  s = some_split(3)
  for make in (lambda s, b: resident(s, b, 0), eval_batches):
    with pytest.raises(ValueError, match='is empty'):
      make(take(s, []), 2)
    with pytest.raises(ValueError, match='at least 1, got 0'):
      make(s, 0)
