"""Checkpoints: complete or invisible, the last few kept, an unreadable newest one stepped over.

The only file that imports Orbax.
"""

import pathlib
import shutil
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp


def _manager(directory, options=None):
  # Without its handler a manager that has not saved yet cannot read the metadata.
  handler = ocp.StandardCheckpointHandler()
  return ocp.CheckpointManager(directory, item_handlers=handler, options=options)


class Mismatch(ValueError):
  """The checkpoint belongs to another model or optimizer."""


def _shapes(tree):
  """path -> shape of every leaf, parameters first; a typed key is saved as its words."""
  is_key = lambda x: jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
  words = lambda x: jax.eval_shape(jax.random.key_data, x) if is_key(x) else x
  name = lambda path: jax.tree_util.keystr(path, simple=True, separator='/')
  leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
  shapes = {name(path): tuple(words(leaf).shape) for path, leaf in leaves}
  return dict(sorted(shapes.items(), key=lambda item: not item[0].startswith('state/params')))


def _check(saved, wanted, where):
  """Names the first parameter paths and shapes in which two trees differ."""
  saved, wanted = _shapes(saved), _shapes(wanted)
  problems = [f'{p} is only in the checkpoint' for p in saved if p not in wanted]
  problems += [f'{p} is not in the checkpoint' for p in wanted if p not in saved]
  problems += [
    f'{p} has shape {saved[p]} in the checkpoint and {wanted[p]} here'
    for p in wanted if p in saved and saved[p] != wanted[p]
  ]
  if problems:
    more = f' (and {len(problems) - 3} more differences)' if len(problems) > 3 else ''
    raise Mismatch(
      f'The checkpoint {where} belongs to another model or optimizer: '
      + '; '.join(problems[:3]) + more + '. Use another --workdir, or the config it was made with.'
    )


class Checkpoints:
  """The checkpoints of one training run, in one directory.

  Saving is asynchronous and atomic; the last `keep` are kept. A context manager: leaving it waits
  for the save under way.
  """

  def __init__(self, directory, keep: int = 2):
    self.directory = pathlib.Path(directory).absolute()
    self._keep = keep
    self._open()

  def _open(self):
    options = ocp.CheckpointManagerOptions(max_to_keep=self._keep, create=True)
    self._manager = _manager(self.directory, options)

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self._manager.wait_until_finished()
    self._manager.close()

  def latest(self) -> int | None:
    """The newest complete step, or None."""
    return self._manager.latest_step()

  def save(self, step: int, tree) -> None:
    """Saves a tree of arrays under `step`; a step that is already saved is left alone."""
    if step not in self._manager.all_steps():
      self._manager.save(step, args=ocp.args.StandardSave(tree))

  def restore(self, like):
    """The newest readable checkpoint as `(step, tree)`, or None where there is none.

    Args:
      like: a tree of the same structure, of arrays or `jax.ShapeDtypeStruct`.

    Raises:
      Mismatch: naming the first differing paths and shapes.
    """
    while (step := self._manager.latest_step()) is not None:
      saved = self._attempt(step, self._manager.item_metadata, step)
      if saved is None:
        continue
      _check(getattr(saved, 'tree', saved), like, self.directory / str(step))
      restore = ocp.args.StandardRestore(like)
      if (tree := self._attempt(step, self._manager.restore, step, args=restore)) is not None:
        return step, tree
    return None

  def _attempt(self, step, read, *args, **kwargs):
    """What `read` returns; None, with the checkpoint set aside, where it cannot be read."""
    try:
      if (found := read(*args, **kwargs)) is not None:
        return found
      error = OSError('no metadata')
    except Exception as e:  # whatever a damaged file makes Orbax raise
      error = e
    self._set_aside(step, error)
    return None

  def _set_aside(self, step, error):
    aside = self.directory.parent / f'{self.directory.name}.unreadable' / str(step)
    warnings.warn(
      f'Checkpoint {step} in {self.directory} cannot be read ({type(error).__name__}); it was '
      f'moved to {aside} and the next older one is used.', stacklevel=4,
    )
    self._manager.close()
    aside.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(aside, ignore_errors=True)
    (self.directory / str(step)).rename(aside)
    self._open()


def load_variables(directory):
  """`(params, model_state)` of the newest complete checkpoint, as NumPy arrays.

  Args:
    directory: a stage's folder, or its `checkpoints` folder.

  Raises:
    FileNotFoundError: when there is no complete checkpoint.
  """
  directory = pathlib.Path(directory).absolute()
  if (directory / 'checkpoints').is_dir():
    directory = directory / 'checkpoints'
  if not directory.is_dir():
    raise FileNotFoundError(f'No checkpoint in {directory}: train it first.')
  with _manager(directory) as manager:
    step = manager.latest_step()
    if step is None:
      raise FileNotFoundError(f'No complete checkpoint in {directory}: train it first.')
    state = manager.restore(step, args=ocp.args.StandardRestore())['state']
  numpy = lambda t: jax.tree.map(np.asarray, t)
  return numpy(state['params']), numpy(state.get('model_state') or {})
