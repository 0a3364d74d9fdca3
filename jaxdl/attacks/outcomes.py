"""What was found chunk by chunk, as files, so that an evaluation goes on after a stop."""

import json
import os
import pathlib
import zipfile

import numpy as np

from jaxdl import parallel
from jaxdl.train.stages import write_json

TIMES = 'times.json'  # attack -> seconds


class Outcomes:
  """Files in `workdir`, of one call of `autoattack`; nothing where that is None.

  Args:
    workdir: their folder, made where it is needed.
    call: the arguments, JSON-able; those of the call that began must be the same.

  Raises:
    ValueError: the folder holds another evaluation.
  """

  def __init__(self, workdir, call):
    self.folder = None if workdir is None else pathlib.Path(workdir)
    if self.folder is None:
      return
    begun = self.folder / 'call.json'
    if begun.exists():
      there = json.loads(begun.read_text())
      if changed := [k for k in call if there.get(k) != call[k]]:
        raise ValueError(
          f'{self.folder} holds an evaluation with another {changed[0]}; use another folder, or '
          'delete this one to evaluate anew.'
        )
    write_json(begun, call)

  def load(self, name):
    """The outcome of a chunk; None where it has to be computed (again)."""
    outcome = None
    if self.folder is not None:
      try:
        with np.load(self.folder / f'{name}.npz') as arrays:
          outcome = dict(arrays)
      except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        outcome = None
    # All processes compute a chunk together, or none does.
    return None if parallel.largest(int(outcome is None)) else outcome

  def save(self, name, outcome, attack, seconds):
    if self.folder is None or not parallel.is_first():
      return
    part = self.folder / f'.{name}.part'
    with part.open('wb') as file:
      np.savez(file, **outcome)
    os.replace(part, self.folder / f'{name}.npz')
    times = self.folder / TIMES
    spent = json.loads(times.read_text()) if times.exists() else {}
    write_json(times, spent | {attack: round(spent.get(attack, 0) + seconds, 3)})
