"""What is found out before anything runs."""

import collections
import errno
import os
import shutil

import pytest

from jaxdl.train import preflight
from jaxdl.train.preflight import KEEP, MARGIN, NoSpace, alone, check_workdir, needed_bytes
from jaxdl.train.stages import Stage

Usage = collections.namedtuple('Usage', 'total used free')


def free(monkeypatch, n):
  monkeypatch.setattr(shutil, 'disk_usage', lambda path: Usage(10**12, 10**12 - n, n))


def test_a_good_folder_is_made_and_left_empty(tmp_path):
  check_workdir(tmp_path / 'a' / 'b', needed=1000)
  assert list((tmp_path / 'a' / 'b').iterdir()) == []


def test_too_little_room_is_said_with_both_numbers(tmp_path, monkeypatch):
  free(monkeypatch, 5_000_000)
  check_workdir(tmp_path, needed=5_000_000)
  with pytest.raises(NoSpace, match=f'{tmp_path} has 5.0 MB free .* about 1,234.0 MB.*--workdir'):
    check_workdir(tmp_path, needed=1_234_000_000)


@pytest.mark.parametrize('number', [errno.ENOSPC, errno.EDQUOT])
def test_a_quota_is_met_by_writing(tmp_path, monkeypatch, number):
  """A disk may have room that this user has not: only writing tells."""

  def refuse(descriptor):
    raise OSError(number, os.strerror(number))

  monkeypatch.setattr(os, 'fsync', refuse)
  with pytest.raises(NoSpace, match='0.0 MB free'):
    check_workdir(tmp_path, needed=1000)
  assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('name', ['file', 'file/below', 'link'])
def test_what_is_no_folder_cannot_be_written(tmp_path, name):
  (tmp_path / 'file').write_text('')
  (tmp_path / 'link').symlink_to(tmp_path / 'nowhere' / 'else')
  with pytest.raises(PermissionError, match=f'{tmp_path / name} cannot be written'):
    check_workdir(tmp_path / name)


@pytest.mark.skipif(os.geteuid() == 0, reason='a mode does not bind root')
def test_a_folder_without_write_permission(tmp_path):
  tmp_path.chmod(0o500)
  with pytest.raises(PermissionError, match='cannot be written .Permission denied'):
    check_workdir(tmp_path)


def test_a_folder_of_the_kernel_that_even_root_cannot_write():
  with pytest.raises(PermissionError, match='/proc/self/jaxdl cannot be written'):
    check_workdir('/proc/self/jaxdl')


def test_only_what_is_to_do_needs_room():
  plan = lambda parameters: lambda: {'parameters': parameters}
  stages = [
    Stage('small', None, {}, plan=plan(1_000)),
    Stage('large', None, {}, plan=plan(1_000_000)),
    Stage('other', None, {}, plan=lambda: {}),
    Stage('report', None, {}),
  ]
  done = dict.fromkeys(['small', 'large', 'other', 'report'], 'done')
  assert needed_bytes(stages, done) == MARGIN
  states = {'small': 'begun', 'large': 'to do', 'other': 'to do', 'report': 'to do'}
  weights_and_moments = 4 * preflight.ARRAYS
  want = KEEP * weights_and_moments * 1_001_000 + weights_and_moments * 1_000_000 + MARGIN
  assert needed_bytes(stages, states) == want


def test_alone(tmp_path):
  with alone(tmp_path), pytest.raises(ValueError, match='Another process'), alone(tmp_path):
    pass
  with alone(tmp_path):  # free again
    pass


def test_a_file_system_without_locks_is_no_obstacle(tmp_path, monkeypatch):
  def refuse(*_):
    raise OSError(errno.ENOLCK, 'No locks available')

  monkeypatch.setattr(preflight.fcntl, 'flock', refuse)
  entered = []
  with alone(tmp_path):
    entered.append(1)
  assert entered
