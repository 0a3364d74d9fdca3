"""The guide's worked example, taken from its page and run as a reader would."""

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

PAGE = pathlib.Path(__file__).parent.parent / 'docs' / 'ADD_A_PAPER.md'
FILES = ('confidence_penalty.py', 'test_confidence_penalty.py', 'configs/confidence.py',
         'confidence.py')  # in the order of the page


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  blocks = re.findall(r'^```python\n(.*?)^```$', PAGE.read_text(), re.DOTALL | re.MULTILINE)
  assert len(blocks) == len(FILES)
  where = tmp_path_factory.mktemp('paper')
  for name, block in zip(FILES, blocks, strict=True):
    assert f'`{name}`' in PAGE.read_text()
    (where / name).parent.mkdir(exist_ok=True)
    (where / name).write_text(block)
  return where


def run(folder, *arguments):
  environment = os.environ | {'XLA_FLAGS': '', 'PYTHONPATH': str(folder)}
  return subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, text=True,
                        capture_output=True, check=False)


def test_its_tests_pass(folder):
  done = run(folder, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', 'test_confidence_penalty.py')
  assert done.returncode == 0 and '3 passed' in done.stdout, done.stdout + done.stderr


def test_its_study_runs_shows_the_claim_and_is_then_done(folder):
  command = ('confidence.py', '--config=configs/confidence.py:smoke', '--workdir=out')
  done = run(folder, *command)
  assert done.returncode == 0, done.stderr
  rows = json.loads((folder / 'out' / 'report' / 'results.json').read_text())
  values = {(row['setting'], row['metric']): row['value'] for row in rows}
  assert values['beta 0', 'test accuracy (%)'] > 50
  assert values['beta 0.5', 'mean confidence'] < values['beta 0', 'mean confidence']
  again = run(folder, *command)
  assert again.returncode == 0 and again.stdout.count('done before') == 2, again.stderr


def test_it_is_written_like_the_rest(folder):
  settings = str(PAGE.parent.parent / 'pyproject.toml')  # imports sort by where the file will lie
  lint = run(folder, '-m', 'ruff', 'check', '--config', settings, '--ignore', 'I001', '.')
  assert lint.returncode == 0, lint.stdout
