import numpy as np
import pytest
from PIL import Image

from jaxdl.data import memory, streaming
from jaxdl.data.folders import DEFAULT_SIZE, read, scan


def save(path, size=(6, 6), colour=(10, 20, 30), mode='RGB'):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.new(mode, size, colour).save(path)


def colours(split):
  return split.images[:, 0, 0].tolist()


def test_a_tree_with_both_halves(tmp_path):
  for half, shift in (('train', 0), ('test', 1)):
    for c, name in enumerate(('bee', 'ant')):
      for i in range(2):
        save(tmp_path / half / name / f'{i}.png', colour=(c, i, shift))
  d = read('insects', tmp_path)
  assert d.label_names == ('ant', 'bee')
  assert colours(d.train) == [[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 1, 0]]
  assert d.train.labels.tolist() == d.test.labels.tolist() == [0, 0, 1, 1]
  assert colours(d.test)[0] == [1, 0, 1] and d.image_shape == (6, 6, 3)


def test_val_serves_as_test_and_a_class_may_miss_from_it(tmp_path):
  save(tmp_path / 'train' / 'a' / '0.png')
  save(tmp_path / 'train' / 'b' / '0.png')
  save(tmp_path / 'val' / 'b' / '0.png')
  d = read('x', tmp_path)
  assert d.label_names == ('a', 'b') and d.test.labels.tolist() == [1]


def test_without_halves_a_tenth_is_test_and_always_the_same(tmp_path):
  for c in ('a', 'b'):
    for i in range(10):
      save(tmp_path / c / f'{i}.png', colour=(i, ord(c), 0))
  d, again = read('x', tmp_path), read('x', tmp_path)
  assert (len(d.train), len(d.test)) == (18, 2)
  assert len({tuple(c) for c in colours(d.train) + colours(d.test)}) == 20
  assert colours(d.test) == colours(again.test)


def test_hidden_files_other_files_and_deep_files(tmp_path):
  save(tmp_path / 'a' / 'deep' / 'er' / '1.PNG')
  save(tmp_path / 'a' / '0.jpg')
  save(tmp_path / 'a' / '._0.jpg')
  save(tmp_path / 'a' / '.thumbnails' / '0.png')
  save(tmp_path / '.git' / '0.png')
  (tmp_path / 'a' / 'notes.txt').write_text('no image')
  (tmp_path / 'LICENSE').write_text('no class')
  train, test, names = scan(tmp_path)
  assert names == ('a',)
  assert [p.name for p in train.paths + test.paths] == ['0.jpg', '1.PNG']


def test_grey_images_have_one_channel_unless_mixed_with_colour(tmp_path):
  save(tmp_path / 'a' / '0.png', colour=77, mode='L')
  assert read('x', tmp_path).train.images[0, 0, 0].tolist() == [77]
  save(tmp_path / 'a' / '1.png', colour=(1, 2, 3, 255), mode='RGBA')
  d = read('x', tmp_path)
  assert sorted(colours(d.train)) == [[1, 2, 3], [77, 77, 77]]


def test_common_sizes_are_kept_and_others_brought_to_one(tmp_path):
  save(tmp_path / 'a' / '0.png', size=(9, 7))
  assert read('x', tmp_path).image_shape == (7, 9, 3)
  assert read('x', tmp_path, size=5).image_shape == (5, 5, 3)
  save(tmp_path / 'a' / '1.png', size=(8, 7))
  assert read('x', tmp_path).image_shape == (DEFAULT_SIZE, DEFAULT_SIZE, 3)


def test_the_shorter_side_is_resized_and_the_middle_kept(tmp_path):
  image = np.zeros((10, 40, 3), np.uint8)
  image[:, 15:25] = 200
  (tmp_path / 'a').mkdir()
  Image.fromarray(image).save(tmp_path / 'a' / '0.png')
  pixels = read('x', tmp_path, size=10).train.images[0]
  assert (pixels == 200).all()
  assert read('x', tmp_path, size=20).train.images[0, :, 2:-2].min() > 190


def test_16_bit_grey_images_keep_their_range(tmp_path):
  (tmp_path / 'a').mkdir()
  values = np.array([[0, 32768, 65535]], np.uint16)
  Image.fromarray(values).save(tmp_path / 'a' / '0.png')
  assert read('x', tmp_path).train.images[0, 0, :, 0].tolist() == [0, 128, 255]


def test_unreadable_images_are_named(tmp_path):
  save(tmp_path / 'a' / '0.png', size=(64, 64))
  (tmp_path / 'a' / 'bad.png').write_bytes(b'not a png')
  with pytest.raises(ValueError, match=r'bad\.png cannot be read as an image'):
    read('x', tmp_path)
  whole = (tmp_path / 'a' / '0.png').read_bytes()
  (tmp_path / 'a' / 'bad.png').write_bytes(whole[: len(whole) // 2])
  with pytest.raises(ValueError, match=r'bad\.png cannot be read as an image'):
    read('x', tmp_path)


def test_missing_and_empty_folders_and_sizes_are_refused(tmp_path):
  with pytest.raises(ValueError, match='There is no folder'):
    read('x', tmp_path / 'none')
  (tmp_path / 'a').mkdir()
  with pytest.raises(ValueError, match='holds no images; expected'):
    read('x', tmp_path)
  with pytest.raises(ValueError, match='image size in pixels must be a whole number, at least 1'):
    read('x', tmp_path, size=0)


def test_a_class_without_images_is_named(tmp_path):
  save(tmp_path / 'train' / 'a' / '0.png')
  save(tmp_path / 'test' / 'b' / '0.png')
  assert read('x', tmp_path).label_names == ('a', 'b')
  (tmp_path / 'train' / 'c').mkdir()
  with pytest.raises(ValueError, match='class folder .*c holds no images; remove it'):
    read('x', tmp_path)


def test_a_tree_larger_than_memory_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
  for i in range(3):
    save(tmp_path / 'a' / f'{i}.png', size=(100, 100))
  monkeypatch.setattr(memory, '_free', lambda: 3 * 100 * 100 * 3)
  assert len(read('x', tmp_path).train) == 3
  monkeypatch.setattr(memory, '_free', lambda: 3 * 100 * 100 * 3 - 1)
  with pytest.raises(ValueError, match='the 3 images of .* GB are free'):
    read('x', tmp_path)


def test_a_folder_can_be_streamed(tmp_path):
  for i in range(7):
    save(tmp_path / 'a' / f'{i}.png', colour=(i * 10, 0, 0))
  train, _, _ = scan(tmp_path)
  batches = streaming(train, batch_size=3, seed=0).batches()
  seen = [next(batches) for _ in range(2)]
  assert sorted(np.concatenate([b['index'] for b in seen])) == list(range(6))
  in_memory = read('x', tmp_path).train.images
  for b in seen:
    np.testing.assert_allclose(b['image'] * 255, in_memory[b['index']], atol=1e-4)
