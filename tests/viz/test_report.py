"""The report says what it was told, as Markdown, as one HTML file and as numbers."""

import base64
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from jaxdl.viz import page
from jaxdl.viz.curves import lines
from jaxdl.viz.report import Report, aggregate, paper_table, result_row, spread

VOID = {'meta', 'img', 'br', 'link', 'hr'}


class Tree(HTMLParser):
  """Collects texts per tag, attributes, and whether every tag was closed in order."""

  def __init__(self, text):
    super().__init__()
    self.open, self.texts, self.attributes = [], {}, []
    self.feed(text)
    assert self.open == []

  def handle_starttag(self, tag, attrs):
    self.attributes += [(tag, *pair) for pair in attrs]
    if tag not in VOID:
      self.open.append(tag)
      self.texts.setdefault(tag, []).append('')

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    for tag in set(self.open):
      self.texts[tag][-1] += data


def _report(directory):
  report = Report('SAM & <friends>', directory, 'See [the paper](https://arxiv.org/abs/2010.01412).')
  report.section('Accuracy')
  report.text('Means over **3** seeds; `a < b`.\n\n- one\n- two\n  goes on\n\n```\nx = "<1>"\n```')
  report.rows([result_row('sam', 'test accuracy (%)', 92.347, 0.123, 3, 92.5, 'table 6')])
  report.table(*paper_table(report.results), caption='Ours beside theirs.')
  report.table(['arm', 'acc'], [['a|b', 0.5], ['c', 0.75], ['d', None]], best={'acc': 'max'})
  report.section('Accuracy')
  report.figure(lines([1, 2], {'a': ([1, 2], None)}, 'x', 'y'), 'noise', 'Under [noise](x.md).')
  return report


def test_html_is_one_valid_self_contained_page(tmp_path):
  path = _report(tmp_path / 'report').write()
  text = path.read_text()
  tree = Tree(text)
  assert path == tmp_path / 'report' / 'report.html'
  assert tree.texts['title'] == tree.texts['h1'] == ['SAM & <friends>']
  assert tree.texts['strong'] == ['3', '0.75']
  assert tree.texts['code'] == ['a < b', 'x = "<1>"']
  assert [item.strip() for item in tree.texts['li']][-2:] == ['one', 'two goes on']
  assert 'a|b' in tree.texts['td'] and '92.35 ± 0.12 (n = 3)' in tree.texts['td']

  (source,) = [value for tag, name, value in tree.attributes if (tag, name) == ('img', 'src')]
  png = base64.b64decode(source.removeprefix('data:image/png;base64,'))
  assert png == (path.parent / 'noise.png').read_bytes()
  outside = [v for _, name, v in tree.attributes if name in ('src', 'href') and v != source]
  assert outside.count('https://arxiv.org/abs/2010.01412') == 1
  anchors = {value for _, name, value in tree.attributes if name == 'id'}
  linked = {value[1:] for value in outside if value.startswith('#')}
  assert anchors == linked == {'accuracy', 'accuracy-2'}


def test_markdown_and_results_say_the_same(tmp_path):
  _report(tmp_path).write()
  markdown = (tmp_path / 'report.md').read_text()
  assert markdown.startswith('# SAM & <friends>\n\nSee [the paper]')
  assert '![Under noise.](noise.png)' in markdown
  assert '| arm | acc |\n|:---|---:|\n| a\\|b | 0.5 |\n| c | **0.75** |\n| d | – |' in markdown
  assert json.loads((tmp_path / 'results.json').read_text()) == [
    {
      'setting': 'sam', 'metric': 'test accuracy (%)', 'value': 92.347, 'std': 0.123, 'n': 3,
      'paper': 92.5, 'source': 'table 6',
    }
  ]  # fmt: skip


def test_same_report_same_bytes_and_no_leftovers(tmp_path):
  _report(tmp_path / 'a').write()
  _report(tmp_path / 'b').write()
  _report(tmp_path / 'b').write()
  names = ['noise.png', 'report.html', 'report.md', 'results.json']
  assert sorted(p.name for p in (tmp_path / 'b').iterdir()) == names
  for name in names:
    assert (tmp_path / 'a' / name).read_bytes() == (tmp_path / 'b' / name).read_bytes()


def test_an_empty_report_is_a_report(tmp_path):
  Tree(Report('Nothing yet', tmp_path).write().read_text())
  assert json.loads((tmp_path / 'results.json').read_text()) == []


@pytest.mark.parametrize(
  'text,expected',
  [
    ('a `**b**` **c `d`**', 'a <code>**b**</code> <strong>c <code>d</code></strong>'),
    ('<script>', '&lt;script&gt;'),
    ('[a](javascript:alert(1))', '[a](javascript:alert(1))'),
    ('[a & b](../x.md#y)', '<a href="../x.md#y">a &amp; b</a>'),
    ('[a](http://x/?q="><b>)', '<a href="http://x/?q=&quot;&gt;&lt;b&gt;">a</a>'),
    ('x[0] (y) 2 ** 3', 'x[0] (y) 2 ** 3'),
    ('a \0 `b`', 'a  <code>b</code>'),
    (r'\1 `\1`', r'\1 <code>\1</code>'),
  ],
)
def test_inline_markup(text, expected):
  assert page.inline(text) == expected


def test_lists_and_paragraphs():
  assert page.blocks('a\nb\n\n1. x\n2. y\nafter') == (
    '<p>a b</p>\n<ol><li>x</li><li>y</li></ol>\n<p>after</p>'
  )
  assert page.blocks('text:\n- x\n* y') == '<p>text:</p>\n<ul><li>x</li><li>y</li></ul>'
  assert page.blocks('```python\na\n\nb\n```') == '<pre><code>a\n\nb</code></pre>'
  assert page.blocks('') == ''


def test_tables_format_align_and_mark(tmp_path):
  report = Report('t', tmp_path)
  rows = [['a', 1, 0.12345, 3.0], ['b', np.int64(22), np.float32(0.5), float('nan')]]
  report.table(['x', 'n', 'y', 'z'], rows, format=['', '', '.2f', '.1f'], best={'y': 'min'})
  html = report.write().read_text()
  cells = re.findall(r'<td(?: class="(\w+)")?>(.*?)</td>', html)
  assert cells == [
    ('', 'a'), ('number', '1'), ('number', '<strong>0.12</strong>'), ('number', '3.0'),
    ('', 'b'), ('number', '22'), ('number', '0.50'), ('number', 'nan'),
  ]  # fmt: skip
  with pytest.raises(ValueError, match='has 1 cells; the header has 2'):
    report.table(['a', 'b'], [['x']])
  with pytest.raises(ValueError, match="expected a column of \\['a'\\]"):
    report.table(['a'], [['x']], best={'b': 'max'})


def test_figure_names_are_plain_and_unique(tmp_path):
  report = Report('t', tmp_path)
  figure = lines([1], {'a': ([1], None)}, 'x', 'y')
  report.figure(figure, 'ok-1.a', '')
  for name, message in (('ok-1.a', 'already'), ('../up', 'use letters'), ('', 'use letters')):
    with pytest.raises(ValueError, match=message):
      report.figure(figure, name, '')


@pytest.mark.parametrize(
  'change,message',
  [
    ({'value': float('nan')}, "'value' is nan"),
    ({'value': '91'}, "'value' is '91'"),
    ({'std': float('inf')}, "'std' is inf"),
    ({'n': 0}, "'n' is 0"),
    ({'metric': ''}, "'metric' must be"),
    ({'paper': float('nan')}, "'paper' is nan"),
    ({'source': 3}, "'source' must be"),
    ({'extra': 1}, 'has fields'),
  ],
)
def test_rows_are_validated(tmp_path, change, message):
  row = {**result_row('a', 'b', 1.0), **change}
  with pytest.raises(ValueError, match=re.escape(message)):
    Report('t', tmp_path).rows([row])


def test_a_diverged_run_is_null():
  row = result_row('a', 'b', np.float32('nan'), None, paper='92.0-92.8')
  assert row['value'] is None and row['paper'] == '92.0-92.8'
  assert paper_table([row])[1] == [['a', 'b', '–', '92.0-92.8', '–']]


def test_aggregate_is_the_sample_mean_and_deviation():
  assert aggregate([1.0, 2.0, 6.0]) == (3.0, pytest.approx(7**0.5), 3)
  assert aggregate(np.float32(0.5)) == (0.5, None, 1)
  assert np.isnan(aggregate([1.0, np.nan])[0])
  with pytest.raises(ValueError, match='at least one'):
    aggregate([])


@pytest.mark.parametrize(
  'arguments,expected',
  [
    ((92.3476,), '92.35'),
    ((0.00123456,), '0.001235'),
    ((92.3476, 0.1234, 5), '92.35 ± 0.12 (n = 5)'),
    ((92.3476, 12.0, 2), '92 ± 12 (n = 2)'),
    ((1.0, 0.0, 3), '1.00 ± 0.00 (n = 3)'),
    ((0.5, 0.000456, 3), '0.50000 ± 0.00046 (n = 3)'),
    ((None,), '–'),
  ],
)
def test_spread_rounds_to_what_the_deviation_allows(arguments, expected):
  assert spread(*arguments) == expected
