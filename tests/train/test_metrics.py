"""Means are exact whatever the batching; the record survives kills byte for byte."""

import json
import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl.train import metrics as metrics_lib
from jaxdl.train.metrics import Means, open_writer, read_metrics


@pytest.fixture
def no_board(monkeypatch):
  monkeypatch.setenv('JAXDL_TENSORBOARD', '0')


def _batches(values, size):
  """(padded batch, mask) pairs; the padding holds NaN, which must not come through."""
  for start in range(0, len(values), size):
    part = values[start : start + size]
    mask = np.arange(size) < len(part)
    yield np.pad(part, (0, size - len(part)), constant_values=np.nan), mask


@pytest.mark.parametrize('size', [1, 4, 7, 10, 23, 64])
def test_mean_over_a_set_does_not_depend_on_the_batch_size(size):
  values = np.random.default_rng(0).integers(0, 100, 23).astype(np.float32)
  means = Means()
  for batch, mask in _batches(values, size):
    means = means.merge(jax.jit(Means.of)({'x': batch}, mask))
  assert means.compute() == {'x': float(values.astype(np.float64).mean())}


def test_same_sums_as_clu():
  clu_metrics = pytest.importorskip('clu.metrics')
  rng = np.random.default_rng(1)
  values, mask = rng.normal(size=9).astype(np.float32), rng.random(9) < 0.6
  average = clu_metrics.Average.from_model_output(jnp.asarray(values), jnp.asarray(mask))
  means = Means.of({'x': values}, mask)
  assert means.total['x'] == average.total and means.count['x'] == average.count

  collection = means.merge(Means.of({'x': jnp.ones(5)})).to_clu()
  assert isinstance(collection, clu_metrics.Collection)
  merged = average.merge(clu_metrics.Average.from_model_output(jnp.ones(5)))
  np.testing.assert_array_equal(collection.compute()['x'], merged.compute())


def test_a_scalar_weighs_as_many_examples_as_its_batch():
  full = Means.of({'loss': jnp.float32(1.0), 'hit': jnp.ones(6)})
  last = Means.of({'loss': jnp.float32(4.0), 'hit': jnp.zeros(6)}, jnp.arange(6) < 2)
  assert full.merge(last).compute() == {'loss': (6 * 1 + 2 * 4) / 8, 'hit': 6 / 8}
  assert Means.of({'rate': jnp.float32(0.5)}).count['rate'] == 1


def test_a_fully_masked_batch_adds_nothing():
  empty = Means.of({'a': jnp.float32(jnp.nan), 'b': jnp.full(3, jnp.nan)}, jnp.zeros(3))
  assert all(np.isnan(value) for value in empty.compute().values())
  some = Means.of({'a': jnp.float32(2.0), 'b': jnp.arange(3.0)})
  assert empty.merge(some).compute() == {'a': 2.0, 'b': 1.0}


def test_merge_keeps_names_only_one_side_has():
  merged = Means.of({'a': jnp.ones(2)}).merge(Means.of({'b': jnp.zeros(3)}))
  assert merged.compute() == {'a': 1.0, 'b': 0.0}


def test_scan_stacks_and_reduce_or_compute_sum_exactly():
  values = np.random.default_rng(2).integers(0, 9, (5, 4)).astype(np.float32)
  mask = np.ones((5, 4), bool)
  mask[-1, 1:] = False

  carried, stacked = jax.jit(
    lambda: jax.lax.scan(
      lambda carry, xs: (carry.merge(m := Means.of({'x': xs[0]}, xs[1])), m),
      Means.of({'x': jnp.zeros(4)}, jnp.zeros(4)),
      (values, mask),
    )
  )()
  expected = {'x': float(values[mask].astype(np.float64).mean())}
  assert carried.compute() == stacked.compute() == stacked.reduce().compute() == expected
  with pytest.raises(ValueError, match='reduce'):
    carried.merge(stacked)


def test_psum_over_devices_gives_the_mean_over_all():
  values = jnp.arange(12.0).reshape(3, 4)
  means = jax.vmap(lambda x: jax.lax.psum(Means.of({'x': x}), 'd'), axis_name='d')(values)
  assert means.compute() == {'x': 5.5}


def test_wrong_shapes_are_refused():
  with pytest.raises(ValueError, match=r"'x' has shape \[2, 3\]"):
    Means.of({'x': jnp.ones((2, 3))})
  with pytest.raises(ValueError, match=r'\[4\].*\[3\]'):
    Means.of({'x': jnp.ones(4)}, jnp.ones(3))


def _run(logdir, start, stop, rate=2):
  with open_writer(logdir, start) as writer:
    for step in range(start + 1 if start else 0, stop + 1):
      if step % rate == 0:
        writer.scalars(step, {'loss': jnp.float32(1 / (step + 1)), 'lr': 0.1 * step})
      if step % 4 == 0:
        writer.scalars(step, {'eval/accuracy': np.float64(step) / 3})


def test_lines_are_json_with_every_digit(tmp_path, no_board):
  with open_writer(tmp_path / 'new' / 'dir') as writer:
    writer.scalars(3, {'a': 0.1 + 0.2, 'b': jnp.float32(0.1), 'n': 7, 'nan': np.nan})
    writer.scalars(4, {'a': np.float64('-inf'), 'one': np.ones((1, 1), np.float32), 'hit': True})
  lines = (tmp_path / 'new' / 'dir' / 'metrics.jsonl').read_text().splitlines()
  refuse = lambda constant: pytest.fail(f'{constant} is not JSON')
  parsed = [json.loads(line, parse_constant=refuse) for line in lines]
  assert lines[0] == (
    '{"step": 3, "a": 0.30000000000000004, "b": 0.10000000149011612, "n": 7, "nan": "nan"}'
  )
  assert parsed[1] == {'step': 4, 'a': '-inf', 'one': 1.0, 'hit': 1}
  read = read_metrics(tmp_path / 'new' / 'dir')
  assert read['a'][0].tolist() == [3, 4] and read['a'][1].tolist() == [0.1 + 0.2, -np.inf]
  assert np.isnan(read['nan'][1][0]) and read['n'][1].dtype == np.float64


@pytest.mark.parametrize('checkpoint,killed', [(4, 5), (4, 4), (6, 11), (3, 9), (0, 7)])
@pytest.mark.parametrize('torn', ['', '{"step": 9, "lo', '{"step": 2', '\n'])
def test_interrupted_record_equals_the_straight_one(tmp_path, no_board, checkpoint, killed, torn):
  _run(tmp_path / 'straight', 0, 12)
  _run(tmp_path / 'killed', 0, killed)
  with (tmp_path / 'killed' / 'metrics.jsonl').open('a') as file:
    file.write(torn)
  _run(tmp_path / 'killed', checkpoint, 12)
  files = [tmp_path / name / 'metrics.jsonl' for name in ('straight', 'killed')]
  assert files[0].read_bytes() == files[1].read_bytes()
  assert sorted(p.name for p in files[1].parent.iterdir()) == ['metrics.jsonl']


def test_lines_are_on_disk_before_close(tmp_path, no_board):
  writer = open_writer(tmp_path)
  writer.scalars(1, {'x': 1.0})
  assert read_metrics(tmp_path)['x'][1].tolist() == [1.0]
  writer.close()
  writer.close()
  with pytest.raises(ValueError, match='does not exist'):
    read_metrics(tmp_path / 'nowhere')


def test_misuse_is_refused(tmp_path, no_board):
  with open_writer(tmp_path) as writer:
    with pytest.raises(ValueError, match="'step'"):
      writer.scalars(1, {'step': 2})
    with pytest.raises(ValueError, match=r"'x' has shape \[3\]"):
      writer.scalars(1, {'x': np.ones(3)})
  assert (tmp_path / 'metrics.jsonl').read_text() == ''


def test_other_processes_write_nothing(tmp_path, monkeypatch):
  monkeypatch.setattr(jax, 'process_index', lambda: 1)
  with open_writer(tmp_path / 'run') as writer:
    writer.scalars(1, {'x': 1.0})
    writer.images(1, {'x': np.zeros((1, 2, 2, 3))})
    writer.histograms(1, {'x': np.zeros(3)})
    writer.hparams({'x': 1})
    writer.text(1, {'x': 'y'})
    writer.flush()
  assert not (tmp_path / 'run').exists()


def test_without_tensorflow_one_warning(tmp_path, monkeypatch):
  monkeypatch.delenv('JAXDL_TENSORBOARD', raising=False)
  monkeypatch.setattr(metrics_lib, '_warned', False)
  monkeypatch.setattr(metrics_lib.importlib.util, 'find_spec', lambda name: None)
  with pytest.warns(UserWarning, match='tensorflow.*not installed') as caught:
    open_writer(tmp_path / 'a').close()
    open_writer(tmp_path / 'b').close()
  assert len(caught) == 1
  assert not list(tmp_path.glob('*/events*'))


def test_import_is_light():
  code = (
    'import sys, jaxdl.train.metrics; '
    "print([m for m in ('tensorflow', 'tensorboard', 'clu') if m in sys.modules])"
  )
  done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
  assert done.stdout.strip() == '[]'


def _events(logdir):
  from tensorboard.backend.event_processing import event_accumulator as ea

  everything = {'tensors': 0, 'images': 0, 'histograms': 0, 'scalars': 0}
  return ea.EventAccumulator(str(logdir), size_guidance=everything).Reload()


def test_tensorboard_reads_back_what_was_written(tmp_path, monkeypatch):
  pytest.importorskip('tensorflow')
  pytest.importorskip('tensorboard')
  pytest.importorskip('clu')
  monkeypatch.delenv('JAXDL_TENSORBOARD', raising=False)
  import io

  import tensorflow as tf
  from PIL import Image
  from tensorboard.plugins.hparams import plugin_data_pb2

  images = np.random.default_rng(0).random((2, 4, 5, 3))
  narrow = np.array([1.0, 1.0 + 1e-7, np.nan, np.inf, 1.0], np.float32)

  def run(start, steps):
    with open_writer(tmp_path, start) as writer:
      writer.hparams({'optimizer': {'rho': 0.05, 'name': 'sam'}, 'seeds': (1, 2), 'ema': None})
      for step in steps:
        writer.scalars(step, {'loss': 1 / (step + 1), 'bad': np.nan})
      if 1 in steps:
        writer.images(1, {'samples': images, 'wild': 3 * images - 1})
        writer.histograms(1, {'w': np.arange(100.0), 'narrow': narrow, 'none': [np.nan]})
        writer.text(1, {'note': 'hello'})
        for wrong in (np.zeros((1, 2, 2, 3), np.uint8), np.zeros((2, 2, 3))):
          with pytest.raises(ValueError, match="images 'x' are"):
            writer.images(1, {'x': wrong})

  with warnings.catch_warnings():
    warnings.simplefilter('error')
    run(0, [0])  # forgotten: the next one starts anew
    run(0, [1, 2, 3, 4])
    # A kill leaves half a record behind.
    (file,) = tmp_path.glob('events*')
    with file.open('ab') as handle:
      handle.write(b'\x18\x00\x00\x00')
    run(2, [3, 4, 5])

  record = _events(tmp_path)
  tensor = lambda tag: [(e.step, tf.make_ndarray(e.tensor_proto)) for e in record.Tensors(tag)]
  loss = tensor('loss')
  assert [step for step, _ in loss] == [1, 2, 3, 4, 5]
  np.testing.assert_allclose([v for _, v in loss], [1 / (s + 1) for s in range(1, 6)], rtol=1e-6)
  assert all(np.isnan(v) for _, v in tensor('bad'))
  assert record.summary_metadata['loss'].plugin_data.plugin_name == 'scalars'

  for tag, expected in (('samples', images), ('wild', np.clip(3 * images - 1, 0, 1))):
    ((step, encoded),) = tensor(tag)
    shown = [np.asarray(Image.open(io.BytesIO(png))) for png in encoded[2:]]
    assert step == 1 and encoded[:2].tolist() == [b'5', b'4']
    np.testing.assert_allclose(np.stack(shown) / 255, expected, atol=1.01 / 255)
  assert record.summary_metadata['samples'].plugin_data.plugin_name == 'images'

  ((step, buckets),) = tensor('w')
  assert step == 1 and buckets[:, 2].sum() == 100
  np.testing.assert_allclose([buckets[0, 0], buckets[-1, 1]], [0, 99])
  assert tensor('narrow')[0][1][:, 2].sum() == 3
  assert record.summary_metadata['w'].plugin_data.plugin_name == 'histograms'
  assert 'none' not in record.Tags()['tensors']
  assert tensor('note')[0][1].item() == b'hello'

  started = record.summary_metadata['_hparams_/session_start_info']
  data = plugin_data_pb2.HParamsPluginData.FromString(started.plugin_data.content)
  values = data.session_start_info.hparams
  assert values['optimizer/rho'].number_value == 0.05
  assert values['optimizer/name'].string_value == 'sam'
  assert values['seeds'].string_value == '(1, 2)' and values['ema'].string_value == 'None'
