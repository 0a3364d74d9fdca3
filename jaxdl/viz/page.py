"""Markdown and HTML of a report's blocks: the few constructs reports use, and nothing else."""

import html
import re
from collections.abc import Sequence

CSS = """
:root{--ink:#1f2328;--soft:#59636e;--line:#d8dee4;--stripe:#f6f8fa;--back:#fff;--accent:#0072b2;
--head:#eef2f6}
@media (prefers-color-scheme:dark){:root{--ink:#e6e9ed;--soft:#9aa4af;--line:#353c44;
--stripe:#1d2228;--back:#15191e;--accent:#6cb6f0;--head:#242b33}}
*{box-sizing:border-box}
html{scroll-behavior:smooth;-webkit-text-size-adjust:100%}
body{margin:0;background:var(--back);color:var(--ink);
font:16px/1.6 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
.page{max-width:76rem;margin:0 auto;padding:2.5rem 1.5rem 5rem}
main{min-width:0;max-width:58rem}
h1{font-size:2rem;line-height:1.2;margin:0 0 1rem;letter-spacing:-.015em;text-wrap:balance}
h2{font-size:1.35rem;line-height:1.3;margin:3rem 0 .8rem;padding-bottom:.35rem;
border-bottom:1px solid var(--line);scroll-margin-top:1rem}
p,ul,ol,pre{margin:0 0 1rem}
p,li{max-width:46rem}
.intro{color:var(--soft)}
a{color:var(--accent);text-decoration:none}
a:hover{text-decoration:underline}
code{font:.88em/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;
background:var(--stripe);border:1px solid var(--line);border-radius:4px;padding:.08em .35em;
overflow-wrap:anywhere}
pre{background:var(--stripe);border:1px solid var(--line);border-radius:8px;padding:.9rem 1rem;
overflow-x:auto}
pre code{background:none;border:0;padding:0}
nav{font-size:.9rem;margin:0 0 2rem;padding:.9rem 1.1rem;border:1px solid var(--line);
border-radius:8px}
nav b{display:block;font-size:.75rem;letter-spacing:.08em;text-transform:uppercase;
color:var(--soft);margin-bottom:.4rem}
nav ol{list-style:none;margin:0;padding:0}
nav li{margin:.2rem 0}
.table{overflow-x:auto;margin:0 0 1.6rem}
table{border-collapse:collapse;font-size:.92rem;line-height:1.45;
font-variant-numeric:tabular-nums}
caption{caption-side:bottom;text-align:left;color:var(--soft);font-size:.9rem;padding:.6rem 0 0}
th,td{padding:.45rem .85rem;text-align:left;vertical-align:top}
th{background:var(--head);font-weight:600;border-bottom:2px solid var(--line);
vertical-align:bottom}
td{border-bottom:1px solid var(--line)}
tbody tr:nth-child(even){background:var(--stripe)}
.number{text-align:right}
.number,.whole{white-space:nowrap}
figure{margin:0 0 2rem}
figure img{display:block;max-width:100%;height:auto;background:#fff;border:1px solid var(--line);
border-radius:8px;padding:8px}
figcaption{color:var(--soft);font-size:.9rem;margin-top:.55rem;max-width:46rem}
@media (min-width:74rem){.page.with-contents{display:grid;grid-template-columns:13rem minmax(0,1fr);
gap:3rem}
.with-contents nav{position:sticky;top:2rem;align-self:start;border:0;padding:0;
max-height:calc(100vh - 4rem);overflow:auto}}
@media print{nav{display:none}.page,.page.with-contents{display:block;padding:0}
h2{break-after:avoid}figure,tr{break-inside:avoid}}
"""


def inline(text: str) -> str:
  """`code`, **bold** and [text](address) as HTML; all else is escaped."""
  # Code is set aside first, so that nothing inside it is taken for markup.
  codes = re.findall(r'`([^`]+)`', text)
  out = html.escape(re.sub(r'`[^`]+`', '\0', text.replace('\0', '')))
  out = re.sub(r'\*\*(.+?)\*\*', r'<strong>\1</strong>', out)
  out = re.sub(r'\[([^\]]+)\]\(([^)\s]+)\)', _link, out)
  for code in codes:
    out = out.replace('\0', f'<code>{html.escape(code)}</code>', 1)
  return out


def plain(text: str) -> str:
  """The text without its inline markup, for places that take none."""
  text = re.sub(r'\[([^\]]+)\]\([^)\s]+\)', r'\1', text)
  return text.replace('`', '').replace('**', '').replace('[', '(').replace(']', ')')


def blocks(markdown: str) -> str:
  """Paragraphs, `- ` and `1. ` lists and fenced code as HTML."""
  out = []
  for i, part in enumerate(re.split(r'^```[^\n]*\n(.*?)^```[ ]*$', markdown, flags=re.M | re.S)):
    if i % 2:
      out.append(f'<pre><code>{html.escape(part.rstrip())}</code></pre>')
    else:
      out += [_paragraph(text) for text in re.split(r'\n\s*\n', part) if text.strip()]
  return '\n'.join(out)


def table(header: Sequence[str], rows, numeric: Sequence[bool], caption: str) -> str:
  """An HTML table that scrolls by itself where it is wider than the page."""
  kind = lambda cell, right: ' class="number"' if right else ' class="whole"' * ('±' in cell)

  def line(tag, cells):
    pairs = zip(cells, numeric, strict=True)
    return '<tr>' + ''.join(f'<{tag}{kind(c, n)}>{inline(c)}</{tag}>' for c, n in pairs) + '</tr>'

  parts = ['<div class="table"><table>']
  parts += [f'<caption>{inline(caption)}</caption>'] if caption else []
  parts += [f'<thead>{line("th", header)}</thead>', '<tbody>']
  parts += [line('td', row) for row in rows]
  return '\n'.join([*parts, '</tbody></table></div>'])


def figure(source: str, caption: str, width: int) -> str:
  """An image with its caption; `width` in CSS pixels."""
  note = f'<figcaption>{inline(caption)}</figcaption>' if caption else ''
  alt = html.escape(plain(caption))
  return f'<figure><img src="{source}" alt="{alt}" width="{width}">{note}</figure>'


def document(title: str, intro: str, contents: Sequence[tuple[str, str]], body: str) -> str:
  """The whole page; `contents` are (anchor, title) of its sections."""
  items = '\n'.join(f'<li><a href="#{anchor}">{inline(text)}</a></li>' for anchor, text in contents)
  nav = f'<nav aria-label="Contents"><b>Contents</b><ol>\n{items}\n</ol></nav>' if contents else ''
  kind = 'page with-contents' if contents else 'page'
  return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{html.escape(plain(title))}</title>
<style>{CSS}</style>
</head>
<body>
<div class="{kind}">
{nav}
<main>
<h1>{inline(title)}</h1>
<div class="intro">{intro}</div>
{body}
</main>
</div>
</body>
</html>
"""


def markdown_table(header: Sequence[str], rows, numeric: Sequence[bool]) -> str:
  """A pipe table; bars and line breaks inside cells cannot break it."""
  safe = lambda cell: ' '.join(cell.split()).replace('|', r'\|')
  line = lambda cells: '| ' + ' | '.join(safe(cell) for cell in cells) + ' |'
  rule = '|' + '|'.join('---:' if right else ':---' for right in numeric) + '|'
  return '\n'.join([line(header), rule, *(line(row) for row in rows)])


def slug(title: str, used: set[str]) -> str:
  """An anchor for a title, not among `used`, to which it is added."""
  base = re.sub(r'[^a-z0-9]+', '-', plain(title).lower()).strip('-') or 'section'
  anchor, number = base, 2
  while anchor in used:
    anchor, number = f'{base}-{number}', number + 1
  used.add(anchor)
  return anchor


def _link(found: re.Match) -> str:
  text, address = found.groups()
  # An address with another scheme (javascript:) is left as text.
  if re.match(r'[a-zA-Z][\w+.-]*:', address) and not re.match(r'(https?|mailto):', address):
    return found.group(0)
  return f'<a href="{address}">{text}</a>'


def _paragraph(text: str) -> str:
  """One block of lines: a run of list items becomes a list, the rest paragraphs."""
  out, kind, items, prose = [], None, [], []

  def close():
    nonlocal kind
    if items:
      out.append(f'<{kind}>' + ''.join(f'<li>{inline(item)}</li>' for item in items) + f'</{kind}>')
    if prose:
      out.append(f'<p>{inline(" ".join(prose))}</p>')
    items.clear()
    prose.clear()
    kind = None

  for line in text.strip('\n').splitlines():
    bullet = re.match(r'\s*(?:([-*])|\d+\.)\s+(.*)', line)
    if bullet:
      new = 'ul' if bullet.group(1) else 'ol'
      if prose or kind != new:
        close()
      kind = new
      items.append(bullet.group(2))
    elif items and line.startswith(' '):
      items[-1] += ' ' + line.strip()
    else:
      if items:
        close()
      prose.append(line.strip())
  close()
  return '\n'.join(out)
