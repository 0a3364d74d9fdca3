"""Stages: a study as a list of named, idempotent steps. Resume = run the same command again.

A stage that is DONE with the same fingerprint is skipped; one that was begun under another
configuration is refused, never overwritten. The fingerprint covers what a stage reads: its own
`config` and the fingerprints of what it `needs`, so adding a seed does not invalidate finished
cells.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from jaxdl import parallel
from jaxdl.train import interrupt
from jaxdl.train.progress import duration


class Context(NamedTuple):
  """What a running stage is given.

  Attributes:
    directory: the stage's own folder.
    results: name -> result of every stage it needs.
    directories: name -> folder of every stage it needs.
  """

  directory: pathlib.Path
  results: Mapping[str, Any]
  directories: Mapping[str, pathlib.Path]


class Stage(NamedTuple):
  """One cell of a study.

  Attributes:
    name: unique in the study, also its folder.
    run: `run(context) -> result`, a JSON-able value handed to the stages that need it.
    config: everything its result depends on, JSON-able.
    needs: names of earlier stages.
    always: run again even when done (a report).
    plan: optional `() -> {'parameters': int, 'MACs': int, 'work': float}` for `--dry_run`; `work`
      is the stage's number of multiply-accumulates.
    check: optional `(workdir) -> None`; raises ValueError where the stage cannot work. Asked before
      any stage runs, unless this one is done.
  """

  name: str
  run: Callable[[Context], Any]
  config: Mapping
  needs: Sequence[str] = ()
  always: bool = False
  plan: Callable[[], Mapping] | None = None
  check: Callable[[pathlib.Path], None] | None = None


class Refused(ValueError):
  """The workdir holds results of another configuration."""


def write_json(path, value) -> None:
  """Writes JSON atomically: readers see the old file or the new one. The first process does it."""
  if not parallel.is_first():
    return
  path, text = pathlib.Path(path), json.dumps(value, indent=1, sort_keys=True) + '\n'
  if path.exists() and path.read_text() == text:
    return  # a run that has nothing to do touches nothing
  path.parent.mkdir(parents=True, exist_ok=True)
  part = path.with_name(f'.{path.name}.part')
  part.write_text(text)
  os.replace(part, path)


def _read(path, key):
  """The JSON object in a file, which must have this key; None where there is no file."""
  if not path.exists():
    return None
  try:
    value = json.loads(path.read_text())
    value[key]
  except (ValueError, KeyError, TypeError) as error:
    raise ValueError(
      f'{path} is damaged: use another --workdir, or delete {path.parent} to run that stage anew.'
    ) from error
  return value


def _plain(config):
  return json.loads(json.dumps(config, sort_keys=True))


def _flat(config, prefix=''):
  if isinstance(config, dict):
    return {k: v for key, c in config.items() for k, v in _flat(c, f'{prefix}{key}.').items()}
  return {prefix[:-1]: config}


def _difference(old, new) -> str:
  old, new = _flat(old), _flat(new)
  changed = [k for k in sorted(old | new) if old.get(k) != new.get(k)]
  shown = [f'{k} was {old.get(k)!r} and is now {new.get(k)!r}' for k in changed[:3]]
  return '; '.join(shown) + (f' (and {len(changed) - 3} more)' if len(changed) > 3 else '')


def _check_names(stages):
  seen = set()
  for stage in stages:
    if stage.name in seen:
      raise ValueError(f'Two stages are called {stage.name!r}.')
    if missing := [n for n in stage.needs if n not in seen]:
      raise ValueError(f'Stage {stage.name!r} needs {missing[0]!r}, which does not come before it.')
    seen.add(stage.name)


def fingerprints(stages: Sequence[Stage]) -> dict[str, str]:
  """name -> hash of everything the stage reads."""
  _check_names(stages)
  out = {}
  for stage in stages:
    seen = [_plain(stage.config), {n: out[n] for n in stage.needs}]
    out[stage.name] = hashlib.sha256(json.dumps(seen, sort_keys=True).encode()).hexdigest()[:16]
  return out


def status(stages: Sequence[Stage], workdir) -> dict[str, str]:
  """name -> 'done', 'begun', 'other' (another configuration lies there) or 'to do'."""
  workdir, prints, out = pathlib.Path(workdir), fingerprints(stages), {}
  for stage in stages:
    begun = _read(workdir / stage.name / 'stage.json', 'fingerprint')
    done = _read(workdir / stage.name / 'DONE', 'result') is not None
    if begun is None:
      out[stage.name] = 'to do'
    elif begun['fingerprint'] != prints[stage.name] and not stage.always:
      out[stage.name] = 'other'
    else:
      out[stage.name] = 'done' if done else 'begun'
  return out


@contextlib.contextmanager
def _folder(stage, directory):
  """Where a stage writes. Several processes all make the report, but only that of the first stays;
  what they make in any other stage is the same, or a checkpoint that they write together."""
  if parallel.is_first() or not stage.always:
    yield directory
  else:
    with tempfile.TemporaryDirectory() as scratch:
      yield pathlib.Path(scratch)


def refuse_other(stages: Sequence[Stage], workdir) -> None:
  """Raises `Refused` where a stage's folder holds another configuration's work; writes nothing."""
  workdir, states = pathlib.Path(workdir), status(stages, workdir)
  for stage in stages:
    if states[stage.name] == 'other':
      begun = _read(workdir / stage.name / 'stage.json', 'fingerprint')
      what = _difference(begun['config'], _plain(stage.config)) or 'a stage it needs has changed'
      raise Refused(
        f'{workdir / stage.name} holds the work of another configuration: {what}. Use another '
        '--workdir, or delete that folder to run it anew.'
      )


def check_stages(stages: Sequence[Stage], workdir) -> None:
  """Raises ValueError where a stage that is not done says that it cannot work."""
  states = status(stages, workdir)
  for stage in stages:
    if stage.check and states[stage.name] != 'done':
      stage.check(pathlib.Path(workdir))


def run_stages(stages: Sequence[Stage], workdir, log: Callable[[str], None] = print) -> dict:
  """Runs what is not done yet, in order.

  Returns:
    name -> result.

  Raises:
    Refused: before anything runs, when a stage's folder holds another configuration's work.
    ValueError: before anything runs, when a stage cannot work.
    Interrupted: after a signal; the same command goes on.
  """
  workdir, prints = pathlib.Path(workdir), fingerprints(stages)
  refuse_other(stages, workdir)
  check_stages(stages, workdir)
  states = status(stages, workdir)
  parallel.barrier('stages')  # nobody writes before all have read
  results, directories = {}, {s.name: workdir / s.name for s in stages}
  for number, stage in enumerate(stages, 1):
    interrupt.poll()
    directory, head = directories[stage.name], f'[{number}/{len(stages)}] {stage.name}'
    if states[stage.name] == 'done' and not stage.always:
      results[stage.name] = _read(directory / 'DONE', 'result')['result']
      log(f'{head}: done before')
      continue
    entry = {'fingerprint': prints[stage.name], 'config': _plain(stage.config)}
    write_json(directory / 'stage.json', entry)
    parallel.barrier(f'{stage.name} begins')
    log(f'{head}: ' + ('goes on' if states[stage.name] == 'begun' else 'starts'))
    needed = [{n: of[n] for n in stage.needs} for of in (results, directories)]
    start = time.monotonic()
    with _folder(stage, directory) as folder:
      result = stage.run(Context(folder, *needed))
    seconds = time.monotonic() - start
    results[stage.name] = _plain(result)
    done = {'fingerprint': prints[stage.name], 'result': results[stage.name]}
    if not stage.always:
      done['seconds'] = round(seconds, 1)  # of the last session that worked on it
    write_json(directory / 'DONE', done)
    parallel.barrier(f'{stage.name} is done')
    log(f'{head}: done in {duration(seconds)}')
  return results
