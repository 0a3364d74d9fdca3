import pickle
import subprocess
import sys
import types
import zipfile

import numpy as np
import pytest
from PIL import Image

from jaxdl.data import archive, make_dataset, make_split, resident, tfds_source
from jaxdl.data.__main__ import main
from jaxdl.data.sources import EMBEDDED, archive_path, load, resolve_data_dir


def some_split(n, shape=(4, 5, 3), seed=0):
  generator = np.random.default_rng(seed)
  images = generator.integers(0, 256, (n, *shape), np.uint8)
  return make_split(images, np.arange(n) % 3, {'box': generator.normal(size=(n, 4))})


def save(folder, name='toy', **arrays):
  np.savez(folder / f'{name}.npz', **arrays)
  return folder


@pytest.fixture
def offline(monkeypatch):
  """TFDS knows no set at all."""
  monkeypatch.setitem(sys.modules, 'tensorflow_datasets', FakeTfds({}))


class FakeTfds(types.ModuleType):
  """The four functions of TFDS that are called, over sets in memory."""

  def __init__(self, sets):
    super().__init__('tensorflow_datasets')
    self.sets, self.asked = sets, []

  def builder(self, name):
    self.asked.append(name)
    return self.sets[name]

  def as_numpy(self, examples):
    return examples


class FakeBuilder:
  def __init__(self, splits, names=('a', 'b'), features=('image', 'label'), error=None):
    label = types.SimpleNamespace(names=list(names))
    self.info = types.SimpleNamespace(
      features={f: label if f == 'label' else None for f in features}, splits=splits
    )
    self.error = error

  def is_prepared(self):
    return self.error is None

  def download_and_prepare(self):
    if self.error:
      raise self.error

  def as_dataset(self, split):
    return iter(self.info.splits[split])


def examples(n, side=3):
  return [{'image': np.full((side, side, 1), i, np.uint8), 'label': i % 2} for i in range(n)]


def test_write_then_load_gives_the_same_arrays(tmp_path):
  d = make_dataset('toy', some_split(7), some_split(4, seed=1), ['x', 'y', 'z'])
  archive.write(d, tmp_path / 'deep' / 'toy.npz')
  back = load('toy', tmp_path / 'deep')
  assert back.label_names == d.label_names and back.name == 'toy'
  for ours, theirs in ((back.train, d.train), (back.test, d.test)):
    assert (ours.images == theirs.images).all() and (ours.labels == theirs.labels).all()
    assert (ours.extras['box'] == theirs.extras['box']).all()
  assert [p.name for p in (tmp_path / 'deep').iterdir()] == ['toy.npz']


def test_a_failed_write_leaves_the_old_archive_and_no_other_file(tmp_path, monkeypatch):
  path = tmp_path / 'toy.npz'
  d = make_dataset('toy', some_split(3), some_split(3))
  archive.write(d, path)
  before = path.read_bytes()

  def broken(file, **arrays):
    file.write(b'half')
    raise OSError('disk full')

  monkeypatch.setattr(np, 'savez', broken)
  with pytest.raises(OSError, match='disk full'):
    archive.write(d, path)
  assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_a_plain_archive_needs_images_and_labels_only(tmp_path):
  s = some_split(6)
  save(tmp_path, train_images=s.images, train_labels=s.labels.astype(np.uint8))
  d = load('toy', tmp_path)
  assert len(d.train) == 6 and len(d.test) == 0
  assert d.label_names == ('0', '1', '2') and d.train.labels.dtype == np.int32


def test_arrays_that_are_not_per_example_are_left_out(tmp_path):
  s = some_split(6)
  save(
    tmp_path, test_images=s.images, test_labels=s.labels, test_from_jpeg=np.array([1, 5]),
    test_age=np.arange(6), lossy=np.array(False),
  )  # fmt: skip
  assert list(load('toy', tmp_path).test.extras) == ['age']


def test_masks_as_labels_become_an_extra(tmp_path):
  s = some_split(6)
  masks = (s.images[..., 0] > 99).astype(np.uint8)
  save(tmp_path, train_images=s.images, train_labels=masks, label_names=['ground', 'object'])
  d = load('toy', tmp_path)
  assert (d.train.extras['segmentation'] == masks).all() and not d.train.labels.any()
  assert d.num_classes == 2


def test_a_set_for_testing_only_loads_but_cannot_be_trained_on(tmp_path):
  s = some_split(6)
  save(
    tmp_path, train_images=s.images[:0], train_labels=s.labels[:0], test_images=s.images,
    test_labels=np.full(6, -1),
  )  # fmt: skip
  d = load('toy', tmp_path)
  assert len(d.train) == 0 and len(d.test) == 6 and d.num_classes == 0
  with pytest.raises(ValueError, match='split to train on is empty'):
    resident(d.train, 2, 0)


@pytest.mark.parametrize(
  ('arrays', 'message'),
  [
    ({}, 'holds neither'),
    ({'train_images': np.zeros((2, 2, 2, 1), np.uint8)}, "no 'train_labels'"),
    (
      {'train_images': np.zeros((2, 2, 2, 1)), 'train_labels': [0, 1]},
      r"'train' in .*toy.npz has images of type float64",
    ),
    (
      {'train_images': np.zeros((2, 2, 2, 1), np.uint8), 'train_labels': [0, 1],
       'label_names': ['a']},
      'labels from 0 to 1 but 1 classes',
    ),
    (
      {'train_images': np.zeros((2, 2, 2, 1), np.uint8), 'train_labels': np.array([0, {}])},
      'not a readable archive',
    ),
  ],
)  # fmt: skip
def test_wrong_archives_are_named(tmp_path, arrays, message):
  with pytest.raises(ValueError, match=message):
    load('toy', save(tmp_path, **arrays))


@pytest.mark.parametrize('content', [b'', b'PK\x03\x04 cut short', b'no archive at all'])
def test_a_broken_file_is_named_with_the_command_that_repairs_it(tmp_path, content):
  (tmp_path / 'toy.npz').write_bytes(content)
  with pytest.raises(ValueError, match='toy.npz is not a readable archive.*prepare toy'):
    load('toy', tmp_path)
  with pytest.raises(ValueError, match='not a readable archive'):
    archive.describe(tmp_path / 'toy.npz')


def hostile(path, members, declared=None):
  """An archive of raw members, the first of which may declare any size."""
  with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as file:
    for name, content in members.items():
      file.writestr(name, content)
    if declared:
      file.filelist[0].file_size = declared
  return path


def npy(shape, held=b'', descr='|u1'):
  header = repr({'descr': descr, 'fortran_order': False, 'shape': shape}).encode()
  return b'\x93NUMPY\x01\x00' + len(header).to_bytes(2, 'little') + header + held


class Witness:
  """Leaves a file behind when it is unpickled."""

  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return (open, (str(self.path), 'w'))


def test_nothing_is_unpickled(tmp_path):
  trap = pickle.dumps(Witness(tmp_path / 'opened'))
  s = some_split(3)
  save(tmp_path, train_images=s.images, train_labels=np.array([Witness(tmp_path / 'opened')] * 3))
  with pytest.raises(ValueError, match='train_labels.npy holds Python objects, which are never'):
    load('toy', tmp_path)
  with pytest.raises(ValueError, match='not a readable archive'):
    load('bare', hostile(tmp_path / 'bare.npz', {'train_images.npy': trap}).parent)
  hostile(tmp_path / 'other.npz', {'train_images.pkl': trap, 'train_images': trap, 'x.npy': trap})
  with pytest.raises(ValueError, match='holds neither'):
    load('other', tmp_path)
  assert not (tmp_path / 'opened').exists()


@pytest.mark.parametrize('name', ['../train_images.npy', '/etc/x.npy', 'a\\b.npy', '.train.npy'])
def test_members_that_are_paths_are_refused(tmp_path, name):
  hostile(tmp_path / 'toy.npz', {name: npy((0, 1, 1, 1))})
  with pytest.raises(ValueError, match='is a path, not the name of an array'):
    load('toy', tmp_path)


@pytest.mark.parametrize(('members', 'declared', 'message'), [
  ({'train_images.npy': npy((10**6, 1000, 1000, 3))}, None, 'says it holds 3,000,000,000,000 by'),
  ({'train_images.npy': npy((2**40,), b'x', '|u1')}, len(npy((2**40,))) + 2**40,
   'needs 1,099.5 GB of memory and .* GB are free'),
  ({'train_images.npy': b'\x93NUMPY\x09\x00'}, None, 'unknown version'),
  ({'train_images.npy': npy('(', b'')}, None, 'not a readable archive'),
  ({'train_images.npy': b'\x93NUMPY\x01\x00\xff\xff' + bytes(range(256)) * 256}, None,
   'not a readable archive'),
  ({'train_images.npy': npy((-1, 1, 1, 1))}, None, 'not a readable archive'),
])
def test_sizes_that_cannot_be_are_refused_before_reading(tmp_path, members, declared, message):
  hostile(tmp_path / 'toy.npz', members, declared)
  with pytest.raises(ValueError, match=message) as caught:
    load('toy', tmp_path)
  assert '\n' not in str(caught.value) and len(str(caught.value)) < 500


def test_every_damaged_byte_is_found_or_harmless(tmp_path):
  """Whatever is cut off or overwritten: a set, or a ValueError that names the file."""
  generator = np.random.default_rng(0)
  s = some_split(6)
  np.savez_compressed(tmp_path / 'toy.npz', train_images=s.images, train_labels=s.labels)
  whole = (tmp_path / 'toy.npz').read_bytes()
  found = []
  for _ in range(150):
    damaged = bytearray(whole)
    damaged[generator.integers(len(whole))] = generator.integers(256)
    damaged = damaged[: generator.integers(1, 3 * len(whole))]
    (tmp_path / 'toy.npz').write_bytes(damaged)
    try:
      found.append(len(load('toy', tmp_path).train))
    except ValueError as error:
      assert 'toy.npz' in str(error)
  assert len(found) < 150 and set(found) <= {6}


def test_a_near_name_is_suggested(tmp_path, offline):
  s = some_split(3)
  save(tmp_path, 'flowers', train_images=s.images, train_labels=s.labels)
  for wrong, near in (('cifar1O', 'cifar10'), ('Digits', 'digits'), ('flower', 'flowers')):
    with pytest.raises(ValueError, match=f"no set '{wrong}' .did you mean '{near}'"):
      load(wrong, tmp_path)


def test_the_folder_of_archives(tmp_path, monkeypatch):
  monkeypatch.delenv('JAXDL_DATA', raising=False)
  assert resolve_data_dir().parts[-3:] == ('.cache', 'jaxdl', 'data')
  monkeypatch.setenv('JAXDL_DATA', str(tmp_path / 'env'))
  assert resolve_data_dir() == tmp_path / 'env'
  assert resolve_data_dir(tmp_path) == tmp_path
  assert archive_path('cifar10') == tmp_path / 'env' / 'cifar10.npz'


def test_a_missing_set_says_what_where_and_how(tmp_path, offline):
  with pytest.raises(ValueError) as caught:
    load('toy', tmp_path)
  message = str(caught.value)
  assert "no set 'toy'" in message and str(tmp_path / 'toy.npz') in message
  assert "TensorFlow Datasets has no set 'toy'" in message
  assert 'python -m jaxdl.data prepare toy' in message and '\n' not in message


@pytest.mark.parametrize('name', ['../toy', '.toy', 'a/b'])
def test_a_name_that_is_a_path_is_refused(name):
  with pytest.raises(ValueError, match="is not a set's name"):
    load(name)


def test_no_name_and_no_folder_is_refused():
  with pytest.raises(ValueError, match='Which set'):
    load()
  with pytest.raises(ValueError, match='only be asked for together with a folder'):
    load('digits', size=8)


def test_tfds_is_asked_by_its_own_name(tmp_path, monkeypatch):
  fake = FakeTfds({'svhn_cropped': FakeBuilder({'train': examples(5), 'test': examples(2)})})
  monkeypatch.setitem(sys.modules, 'tensorflow_datasets', fake)
  d = load('svhn', tmp_path)
  assert fake.asked == ['svhn_cropped'] and d.label_names == ('a', 'b')
  assert d.train.images[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]
  assert d.train.labels.tolist() == [0, 1, 0, 1, 0] and len(d.test) == 2


def test_tfds_validation_serves_as_test(monkeypatch):
  fake = FakeTfds({'toy': FakeBuilder({'train': examples(5), 'validation': examples(3)})})
  monkeypatch.setitem(sys.modules, 'tensorflow_datasets', fake)
  assert len(tfds_source.read('toy').test) == 3


@pytest.mark.parametrize(
  ('builder', 'message'),
  [
    (FakeBuilder({'train': examples(2)}), r"needs a train and a test .* it has \['train'\]"),
    (FakeBuilder({'train': examples(2) + examples(1, side=4), 'test': []}), 'different sizes'),
    (FakeBuilder({}, features=('image', 'objects')), r"has no \['label'\]"),
  ],
)
def test_tfds_sets_that_do_not_serve_are_named(monkeypatch, builder, message):
  monkeypatch.setitem(sys.modules, 'tensorflow_datasets', FakeTfds({'toy': builder}))
  with pytest.raises(ValueError, match=message):
    tfds_source.read('toy')


def test_a_failed_download_is_one_sentence(tmp_path, monkeypatch):
  builder = FakeBuilder({}, error=ConnectionError('HTTP 403\n  at https://example.org'))
  monkeypatch.setitem(sys.modules, 'tensorflow_datasets', FakeTfds({'toy': builder}))
  monkeypatch.setattr(tfds_source, '_online', lambda: True)
  with pytest.raises(ValueError, match=r"could not get 'toy' \(HTTP 403\)"):
    load('toy', tmp_path)
  monkeypatch.setattr(tfds_source, '_online', lambda: False)
  with pytest.raises(ValueError, match='there is no network'):
    load('toy', tmp_path)


def test_without_tfds_the_sentence_says_so(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'tensorflow_datasets', None)
  with pytest.raises(ValueError, match='TensorFlow Datasets is not installed'):
    load('toy', tmp_path)


@pytest.mark.parametrize(
  ('name', 'train', 'test', 'shape'),
  [('mnist5k', 4000, 1000, (28, 28, 1)), ('digits', 1438, 359, (8, 8, 1))],
)
def test_embedded_sets(name, train, test, shape):
  d = load(name)
  assert (len(d.train), len(d.test), d.image_shape) == (train, test, shape)
  assert load(name) is d and d.num_classes == 10
  assert d.train.images.min() == 0 and d.train.images.max() == 255
  share = np.bincount(d.test.labels) / np.bincount(np.append(d.train.labels, d.test.labels))
  np.testing.assert_allclose(share, 0.2, atol=0.005)
  assert len(set(d.train.labels[:30])) > 5  # shuffled, so that the first n serve as a small set
  flat = lambda s: {x.tobytes() for x in s.images}
  assert not flat(d.train) & flat(d.test)


def test_digits_are_those_of_scikit_learn():
  from sklearn.datasets import load_digits

  d, bunch = load('digits'), load_digits()
  ours = sorted(
    (int(y), x.tobytes())
    for s in (d.train, d.test)
    for x, y in zip(s.images, s.labels, strict=True)
  )
  theirs = sorted(
    (int(y), bytes(round(v * 255 / 16) for v in x.ravel()))
    for x, y in zip(bunch.images, bunch.target, strict=True)
  )
  assert ours == theirs


def write_tree(folder, classes=('cat', 'dog'), n=5):
  for c, name in enumerate(classes):
    (folder / name).mkdir(parents=True)
    for i in range(n):
      Image.new('RGB', (6, 6), (c * 100, i * 10, 7)).save(folder / name / f'{i}.png')
  return folder


def test_prepare_a_folder_then_load_and_list_it(tmp_path, capsys):
  tree = write_tree(tmp_path / 'tree')
  where = ['--data_dir', str(tmp_path / 'archives')]
  assert main(['prepare', 'pets', '--folder', str(tree), '--size', '4', *where]) == 0
  assert '9 training and 1 test images of shape 4x4x3, 2 classes' in capsys.readouterr().out
  d = load('pets', tmp_path / 'archives')
  assert d.label_names == ('cat', 'dog') and d.image_shape == (4, 4, 3)
  (tmp_path / 'archives' / 'broken.npz').write_bytes(b'?')
  assert main(['list', *where]) == 0
  lines = capsys.readouterr().out.splitlines()
  row = next(line for line in lines if line.startswith('pets'))
  assert row.split() == ['pets', '9', '1', '4x4x3', str(tmp_path / 'archives' / 'pets.npz')]
  assert main(['prepare', 'pets', '--folder', str(tree), *where]) == 2
  assert 'pets.npz exists; give --overwrite' in capsys.readouterr().err
  assert load('pets', tmp_path / 'archives').image_shape == (4, 4, 3)
  assert main(['prepare', 'pets', '--folder', str(tree), '--overwrite', *where]) == 0
  assert load('pets', tmp_path / 'archives').image_shape == (6, 6, 3)
  assert any(line.startswith('broken') and 'not readable' in line for line in lines)
  assert {line.split()[0] for line in lines if line.endswith('embedded')} == set(EMBEDDED)


def test_prepare_from_tfds(tmp_path, monkeypatch):
  fake = FakeTfds({'toy': FakeBuilder({'train': examples(5), 'test': examples(2)})})
  monkeypatch.setitem(sys.modules, 'tensorflow_datasets', fake)
  assert main(['prepare', 'toy', '--data_dir', str(tmp_path)]) == 0
  monkeypatch.setitem(sys.modules, 'tensorflow_datasets', None)
  assert len(load('toy', tmp_path).train) == 5


@pytest.mark.parametrize(
  'arguments',
  [
    ['prepare', 'toy'],
    ['prepare', 'digits'],
    ['prepare', '../toy'],
    ['prepare', 'toy', '--size', '8'],
    ['prepare', 'toy', '--folder', 'no/such/folder'],
  ],
)
def test_errors_of_the_command_are_one_sentence(arguments, tmp_path, capsys, offline):
  assert main([*arguments, '--data_dir', str(tmp_path)]) == 2
  output = capsys.readouterr()
  assert output.out == '' and output.err.startswith('jaxdl.data: ')
  assert output.err.count('\n') == 1 and output.err.endswith('.\n')
  assert list(tmp_path.iterdir()) == []


def test_loading_an_archive_imports_no_tensorflow(tmp_path):
  s = some_split(6)
  save(tmp_path, train_images=s.images, train_labels=s.labels)
  code = (
    'import sys; from jaxdl import data, augment; import jaxdl.data.__main__;'
    f"assert len(data.load('toy', {str(tmp_path)!r}).train) == 6;"
    "assert not {'tensorflow', 'tensorflow_datasets'} & set(sys.modules)"
  )
  subprocess.run([sys.executable, '-c', code], check=True)
