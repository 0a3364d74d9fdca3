"""RESULTS.md is made of the committed records and of nothing else."""

import json
from pathlib import Path

import numpy as np
import pytest

from jaxdl.viz import results
from jaxdl.viz.grids import image_grid
from jaxdl.viz.report import Report, result_row

EXPERIMENTS = Path(__file__).parents[2] / 'experiments'
META = {
  'experiment': 'sam', 'variant': 'cpu', 'dataset': 'digits', 'scale': '1,000 images, 5 epochs',
  'hardware': '2 CPU cores', 'commit': 'abc1234', 'date': '2026-01-02',
  'command': 'python experiments/sam.py', 'minutes': 12.5,
}  # fmt: skip


def _run(directory):
  report = Report('SAM', directory)
  report.rows([result_row('sam | rho', 'accuracy', 0.91, 0.01, 3, 0.92, 'table 1')])
  report.figure(image_grid(np.zeros((1, 4, 4, 3))), 'images', 'Images.')
  report.write()


def test_published_results_make_the_page(tmp_path, capsys):
  _run(tmp_path / 'run')
  out = tmp_path / 'experiments' / 'results'
  assert results.publish(tmp_path / 'run', out, META, ['images']) == out / 'sam-cpu.json'
  results.publish(tmp_path / 'run', out, {**META, 'variant': ''})
  results.publish(tmp_path / 'run', out, {**META, 'experiment': 'attack'})
  page = tmp_path / 'experiments' / 'RESULTS.md'
  results.main(['--results', str(out), '--out', str(page)])
  assert capsys.readouterr().out.endswith('3 results\n')
  text = page.read_text()
  order = [text.index(f'\n## {name}') for name in ('attack: cpu', 'sam: paper', 'sam: cpu')]
  assert order == sorted(order)
  assert '| sam \\| rho | accuracy | 0.910 ± 0.010 (n = 3) | 0.92 | table 1 |' in text
  for value in ('digits', '1,000 images, 5 epochs', '2 CPU cores', 'abc1234', '12.5 minutes'):
    assert value in text
  assert '![sam-cpu-images](results/figures/sam-cpu-images.png)' in text
  picture = out / 'figures' / 'sam-cpu-images.png'
  assert picture.read_bytes() == (tmp_path / 'run' / 'images.png').read_bytes()
  for anchor in ('attack-cpu', 'sam-paper', 'sam-cpu'):
    assert text.count(f'(#{anchor})') == text.count(f'<a id="{anchor}">') == 1

  before = page.read_bytes()
  results.publish(tmp_path / 'run', out, META, ['images'])
  results.main(['--results', str(out), '--out', str(page)])
  assert page.read_bytes() == before


def test_what_cannot_be_published_is_said(tmp_path):
  _run(tmp_path)
  out = tmp_path / 'out'
  with pytest.raises(ValueError, match='meta has fields'):
    results.publish(tmp_path, out, {'experiment': 'sam'})
  with pytest.raises(ValueError, match="no figure 'curve'"):
    results.publish(tmp_path, out, META, ['curve'])
  (tmp_path / 'huge.png').write_bytes(b'x' * 300_001)
  with pytest.raises(ValueError, match='300 kB; at most 300'):
    results.publish(tmp_path, out, META, ['huge'])
  with pytest.raises(ValueError, match='does not exist'):
    results.publish(tmp_path / 'nowhere', out, META)
  assert not out.exists()


def test_a_broken_record_is_named(tmp_path):
  (tmp_path / 'a-b.json').write_text(json.dumps({**META, 'rows': [{'setting': 'x'}]}))
  with pytest.raises(ValueError, match='a-b.json: result row has fields'):
    results.load(tmp_path)
  (tmp_path / 'a-b.json').write_text('{}')
  with pytest.raises(ValueError, match='a-b.json: lacks experiment'):
    results.load(tmp_path)


def test_the_committed_page_matches_its_sources():
  records = results.load(EXPERIMENTS / 'results')
  if not records:
    pytest.skip('no results are committed yet')
  expected = results.render(records)
  assert (EXPERIMENTS / 'RESULTS.md').read_text(encoding='utf-8') == expected
  missing = [f for r in records for f in r['figures'] if not (EXPERIMENTS / 'results' / f).exists()]
  assert missing == []
