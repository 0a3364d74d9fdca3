"""Exact means on the device, and the files a run's numbers go to.

`Means` adds up inside the compiled step and divides once, on the host. `Writer` appends to
`metrics.jsonl`, the record every report is made from, and mirrors it to TensorBoard through
`clu.metric_writers`. Those import TensorFlow, which takes seconds: that happens in a background
thread, so that the first compilation hides it, and never where nobody opens a writer.
"""

import importlib.util
import json
import logging
import os
import queue
import threading
import warnings
from collections.abc import Mapping
from pathlib import Path

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array
METRICS_FILE = 'metrics.jsonl'


class Means(flax.struct.PyTreeNode):
  """Named means kept as (sum, count), so that merging them is exact.

  The same arithmetic as a `clu.metrics.Collection` of `Average`s (`to_clu` makes one), without
  a fixed list of names. A pytree: it passes through `jit`, `scan`, `psum` and `device_get`.
  `Means()` is the neutral element of `merge`.

  Attributes:
    total: name -> float32 sum of the values.
    count: name -> int32 number of the examples summed.
  """

  total: Mapping[str, Array] = flax.struct.field(default_factory=dict)
  count: Mapping[str, Array] = flax.struct.field(default_factory=dict)

  @classmethod
  def of(cls, values: Mapping[str, Array], mask: Array | None = None) -> 'Means':
    """The means of one batch.

    Args:
      values: name -> per-example array [B], or a scalar. A scalar is taken as a mean over the
        batch's examples and weighs as many as there are (see Returns).
      mask: bool or 0/1 [B], false for padding. What a masked place holds, NaN included, is
        ignored. Per-example values must then be [B].

    Returns:
      Means in which a [B] array counts B (or `mask.sum()`) times, and a scalar as often as the
      examples of the batch: `mask.sum()`, else the length of the [B] arrays beside it, else once.

    Raises:
      ValueError: a value has more than one axis, or its length is not the mask's.
    """
    arrays = {name: jnp.asarray(value).astype(jnp.float32) for name, value in values.items()}
    for name, value in arrays.items():
      if value.ndim > 1 or (value.ndim == 1 and mask is not None and value.shape != mask.shape):
        expected = 'a scalar or [B]' if mask is None else f'a scalar or {list(mask.shape)}'
        raise ValueError(f"metric '{name}' has shape {list(value.shape)}; expected {expected}.")
    examples = max((value.size for value in arrays.values()), default=1)
    keep = None if mask is None else jnp.asarray(mask).astype(bool)

    def count(value):
      if keep is not None:
        return jnp.sum(keep, dtype=jnp.int32)
      return jnp.asarray(value.size if value.ndim else examples, jnp.int32)

    def total(value, number):
      if value.ndim == 0:
        return jnp.where(number > 0, value * number, 0.0)
      return jnp.sum(value if keep is None else jnp.where(keep, value, 0.0))

    counts = {name: count(value) for name, value in arrays.items()}
    return cls({name: total(value, counts[name]) for name, value in arrays.items()}, counts)

  def merge(self, other: 'Means') -> 'Means':
    """The means over both sets of examples; a name only one of them has is kept as it is.

    Raises:
      ValueError: one of the two carries the leading axis of a `scan`: `reduce` it first.
    """
    for name in self.total.keys() & other.total.keys():
      if self.total[name].shape != other.total[name].shape:
        raise ValueError(
          f"metric '{name}' has shapes {self.total[name].shape} and {other.total[name].shape}; "
          'call reduce() on the stacked one before merge().'
        )
    add = lambda a, b: {k: a[k] + b[k] if k in a and k in b else {**a, **b}[k] for k in {**a, **b}}
    return Means(add(self.total, other.total), add(self.count, other.count))

  def reduce(self) -> 'Means':
    """Sums over the leading axes that `lax.scan` or `vmap` stacked, if any."""
    return jax.tree.map(jnp.sum, self)

  def compute(self) -> dict[str, float]:
    """Name -> mean as a Python float (NaN for no examples). Fetches from the device."""
    total, count = jax.device_get((dict(self.total), dict(self.count)))
    number = {name: int(np.sum(value, dtype=np.int64)) for name, value in count.items()}
    return {
      name: float(np.sum(value, dtype=np.float64) / number[name]) if number[name] else float('nan')
      for name, value in total.items()
    }

  def to_clu(self):
    """The same sums as a `clu.metrics.Collection`, for code that expects one."""
    from clu import metrics

    averages = {
      name: metrics.Average(total=self.total[name], count=self.count[name]) for name in self.total
    }
    collection = metrics.Collection.create(**dict.fromkeys(averages, metrics.Average))
    return collection.empty().replace(**averages)


def open_writer(logdir, resume_step: int = 0) -> 'Writer':
  """Opens the record of a run in `logdir`; a context manager.

  Args:
    logdir: directory, made if missing. `JAXDL_TENSORBOARD=0` in the environment leaves the
      TensorBoard files out.
    resume_step: the step of the checkpoint the run continues from. What a killed run wrote after
      it is dropped, so that the file of an interrupted run ends up the same, byte for byte, as
      that of a run nobody stopped. 0 starts the record anew.

  Returns:
    A `Writer`. On processes other than the first it writes nothing.
  """
  return Writer(Path(logdir), resume_step, active=jax.process_index() == 0)


class Writer:
  """Writes `metrics.jsonl` and TensorBoard event files. Made by `open_writer`."""

  def __init__(self, logdir: Path, resume_step: int = 0, active: bool = True):
    self._file = self._board = None
    if not active:
      return
    logdir.mkdir(parents=True, exist_ok=True)
    path = logdir / METRICS_FILE
    _drop_after(path, resume_step)
    # Line buffered: what a killed process wrote is there up to its last line.
    self._file = path.open('a', buffering=1, encoding='utf-8')
    if _tensorboard_wanted():
      self._board = _TensorBoard(logdir, resume_step)

  def scalars(self, step: int, values: Mapping[str, float]) -> None:
    """Appends one line `{"step": step, name: value, ...}`; NaN and infinities as strings.

    Args:
      step: number of updates done.
      values: name -> number, or array with one element. 'step' is taken.
    """
    if self._file is None:
      return
    numbers = {name: _number(name, value) for name, value in values.items()}
    if 'step' in numbers:
      raise ValueError("a metric cannot be named 'step': that is the line's own number.")
    line = {'step': int(step), **{name: _encode(value) for name, value in numbers.items()}}
    self._file.write(json.dumps(line, allow_nan=False) + '\n')
    self._mirror('write_scalars', int(step), numbers)

  def images(self, step: int, images: Mapping[str, Array]) -> None:
    """Shows batches of images [N, H, W, C] (C = 1, 3 or 4), float in [0, 1], in TensorBoard."""
    if self._board is None:
      return
    arrays = {}
    for name, value in images.items():
      value = np.asarray(value)
      if value.ndim != 4 or value.shape[-1] not in (1, 3, 4) or value.dtype.kind in 'iu':
        raise ValueError(
          f"images '{name}' are {value.dtype} {list(value.shape)}; expected float [N, H, W, C] in "
          '[0, 1], C = 1, 3 or 4.'
        )
      arrays[name] = np.clip(np.nan_to_num(value.astype(np.float32)), 0, 1)
    self._mirror('write_images', int(step), arrays)

  def histograms(self, step: int, arrays: Mapping[str, Array]) -> None:
    """Adds histograms of the finite values of arrays of any shape; one without any is left out."""
    if self._board is None:
      return
    flat = {name: np.asarray(value, np.float64).ravel() for name, value in arrays.items()}
    finite = {name: value[np.isfinite(value)] for name, value in flat.items()}
    self._mirror('write_histograms', int(step), {k: v for k, v in finite.items() if v.size})

  def hparams(self, values: Mapping) -> None:
    """Records the configuration (nested dicts allowed) for TensorBoard's HParams page."""
    if not self._resumed:
      self._mirror('write_hparams', _flat(values))

  def text(self, step: int, texts: Mapping[str, str]) -> None:
    """Adds Markdown texts to TensorBoard."""
    self._mirror('write_texts', int(step), dict(texts))

  def flush(self) -> None:
    """Hands `metrics.jsonl` to the operating system; TensorBoard follows in its own time."""
    if self._file is not None:
      self._file.flush()
    self._mirror('flush')

  def close(self) -> None:
    """Writes everything out and waits for it. Closing twice is fine."""
    if self._file is not None:
      self._file.close()
    if self._board is not None:
      self._board.close()
    self._file = self._board = None

  @property
  def _resumed(self) -> bool:
    return self._board is not None and self._board.resume_step > 0

  def _mirror(self, method: str, *arguments) -> None:
    if self._board is not None:
      self._board.put(method, *arguments)

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self.close()


def read_lines(path):
  """Yields the lines that `Writer.scalars` wrote, as dicts with `step`.

  Args:
    path: `metrics.jsonl`, or the directory that holds it.
  """
  path = Path(path)
  path = path / METRICS_FILE if path.is_dir() else path
  if not path.exists():
    raise ValueError(f'{path} does not exist: no metrics were recorded there.')
  for _, line in _lines(path):
    yield line


def read_metrics(path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
  """Reads what `Writer.scalars` wrote.

  Args:
    path: `metrics.jsonl`, or the directory that holds it.

  Returns:
    name -> (steps int64 [n], values float64 [n]), in the order written.
  """
  series: dict[str, list] = {}
  for line in read_lines(path):
    step = line.pop('step')
    for name, value in line.items():
      series.setdefault(name, []).append((step, float(value)))
  return {
    name: (np.array([s for s, _ in pairs], np.int64), np.array([v for _, v in pairs], np.float64))
    for name, pairs in series.items()
  }


def _number(name, value) -> int | float:
  value = np.asarray(value)
  if value.size != 1:
    raise ValueError(
      f"scalar '{name}' has shape {list(value.shape)}; a scalar has one element "
      '(use histograms() for arrays).'
    )
  value = value.item()
  return int(value) if isinstance(value, bool) else value


def _encode(value: int | float) -> int | float | str:
  return value if np.isfinite(value) else str(value)


def _flat(values: Mapping, prefix: str = '') -> dict:
  """Nested dicts as one with '/' in its names, values of the types HParams knows."""
  flat = {}
  for name, value in values.items():
    if isinstance(value, Mapping):
      flat.update(_flat(value, f'{prefix}{name}/'))
    else:
      known = isinstance(value, (bool, int, float, str))
      flat[f'{prefix}{name}'] = value if known else str(value)
  return flat


def _lines(path: Path):
  """Yields (text, parsed) for every whole line; a torn one is passed over."""
  for text in path.read_text(encoding='utf-8', errors='replace').splitlines(keepends=True):
    try:
      line = json.loads(text)
    except json.JSONDecodeError:
      continue
    if text.endswith('\n') and isinstance(line, dict) and 'step' in line:
      yield text, line


def _drop_after(path: Path, step: int) -> None:
  """Keeps the lines up to `step` (none for 0), replacing the file in one move."""
  if not path.exists():
    return
  kept = [text for text, line in _lines(path) if line['step'] <= step] if step > 0 else []
  partial = path.with_suffix('.partial')
  partial.write_text(''.join(kept), encoding='utf-8')
  os.replace(partial, path)


_warned = False


def _tensorboard_wanted() -> bool:
  """Whether TensorBoard files are asked for and possible; says once when they are not possible."""
  global _warned
  if os.environ.get('JAXDL_TENSORBOARD', '1') == '0':
    return False
  needed = ('tensorflow', 'tensorboard', 'clu')
  missing = [name for name in needed if importlib.util.find_spec(name) is None]
  if missing and not _warned:
    _warned = True
    warnings.warn(
      f'TensorBoard files are off: {", ".join(missing)} not installed. '
      f'All numbers are in {METRICS_FILE}.',
      stacklevel=4,
    )
  return not missing


class _TensorBoard:
  """A thread that imports TensorFlow, then writes event files in the order things were put."""

  def __init__(self, logdir: Path, resume_step: int):
    self.resume_step = resume_step
    self._logdir = logdir
    self._queue: queue.SimpleQueue = queue.SimpleQueue()
    self._thread = threading.Thread(target=self._work, name='tensorboard', daemon=True)
    self._thread.start()

  def put(self, method: str, *arguments) -> None:
    self._queue.put((method, arguments))

  def close(self) -> None:
    self.put('close')
    self._thread.join()

  def _work(self) -> None:
    # A run must not die of its plots: the numbers are in metrics.jsonl.
    try:
      writer = _summary_writer(self._logdir, self.resume_step)
      while True:
        method, arguments = self._queue.get()
        getattr(writer, method)(*arguments)
        if method == 'close':
          return
    except Exception as error:
      logging.getLogger('jaxdl').warning(
        'TensorBoard files in %s end here: %s', self._logdir, error, exc_info=True
      )


def _summary_writer(logdir: Path, resume_step: int):
  # Read when TensorFlow is loaded: no start-up chatter on the terminal.
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
  os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')
  import tensorflow as tf

  tf.config.set_visible_devices([], 'GPU')  # or it would take the memory JAX needs
  from clu.metric_writers.summary_writer import SummaryWriter

  for path in sorted(logdir.glob('events.out.tfevents.*')):
    _drop_events_after(tf, path, resume_step)
  return SummaryWriter(str(logdir))


def _drop_events_after(tf, path: Path, step: int) -> None:
  """What `_drop_after` does, for a TensorBoard event file."""
  if step <= 0:
    path.unlink()
    return
  kept = []
  try:
    for record in tf.data.TFRecordDataset(str(path)):
      if tf.compat.v1.Event.FromString(record.numpy()).step <= step:
        kept.append(record.numpy())
  except tf.errors.DataLossError:
    pass  # the torn record a killed run ends with
  partial = path.with_name(f'partial.{path.name}')
  with tf.io.TFRecordWriter(str(partial)) as writer:
    for record in kept:
      writer.write(record)
  os.replace(partial, path)
