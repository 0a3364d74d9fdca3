"""From measured times to result rows: ratios, targets, and how strong the attacks were."""

import operator
import os

import numpy as np

from jaxdl.benchmark.compare import ratio, summary
from jaxdl.viz.report import aggregate, result_row, spread


def compared(title, k, measured):
  """One comparison: result rows, contender -> speed ratio, and the cells of its table.

  Args:
    title: of the comparison.
    k: its configuration, see configs/benchmarks.py.
    measured: what `jaxdl.benchmark.compare` returned.
  """
  good = {name: m for name, m in measured.items() if 'error' not in m}

  def time_ratio(a, b):
    # Of an image: a unit of several seeds trained together holds the images of all.
    image = lambda m: [seconds / m['images'] for seconds in m['seconds']]
    return ratio(image(good[a]), image(good[b])) if {a, b} <= set(good) else None

  speed_ratio = lambda a, b: time_ratio(b, a)
  rows, ratios, table = [], {}, []
  for name in k['contenders']:
    if name not in good:
      rows.append(result_row(f'{title}: {name}', 'images/s', None, source=measured[name]['error']))
      table.append([name, None, measured[name]['error'], None, None, None])
      continue
    s, r = summary(good[name]), speed_ratio(name, k['reference'])
    rows += [
      result_row(f'{title}: {name}', 'images/s', s['median'], s['std'], k['rounds'],
                 source=f'best {s["best"]:.4g}'),
      result_row(f'{title}: {name}', 'peak memory (MB)', s['memory']),
    ]
    if r:
      ratios[name] = r
    table.append([
      name, s['best'], spread(s['median'], s['std'], k['rounds']),
      spread(*r) if r else None, sum(good[name]['cpu']) / sum(good[name]['seconds']), s['memory'],
    ])
  targets = {(a, b): (sign, number) for a, b, sign, number in k['targets']}
  others = {(name, k['reference']): None for name in ratios if name != k['reference']}
  for (a, b), target in (others | targets).items():
    if target and target[0] == '<=':
      what, r = 'time', time_ratio(a, b)
    else:
      what, r = 'speed', speed_ratio(a, b)
    rows.append(result_row(
      f'{title}: {a}', f'{what}, as a ratio to {b}', *(r or (None,)),
      paper=target and f'{target[0]} {target[1]:g}', source=target and verdict(r, *target),
    ))
  if k['equal'] and set(k['equal']) <= set(good):
    one, two = (good[name]['facts']['parameters'] for name in k['equal'])
    rows.append(result_row(
      f'{title}: {" and ".join(k["equal"])}', 'relative difference of the weights, summed',
      abs(one - two) / abs(two),
    ))
  return rows, ratios, table


WHAT = {  # fact of a contender -> metric, scale
  'clean': ('accuracy without attack (%)', 100), 'robust': ('robust accuracy (%)', 100),
  'loss under attack': ('mean loss under attack', 1),
}


def attacked(title, k, measured):
  """How strong the attacks of a comparison were, as rows: whether one is fast because it is weak.

  Args:
    title, k, measured: see `compared`.
  """
  told_by = {name: m['facts'] for name, m in measured.items() if 'error' not in m}
  rows, first = [], k['reference']
  reference = told_by.get(first, {}).get('survives')
  for name, told in told_by.items():
    setting = f'{title}: {name}'
    rows += [result_row(setting, metric, scale * told[fact])
             for fact, (metric, scale) in WHAT.items() if fact in told]
    if 'survives' in told:
      seconds = float(np.median(measured[name]['seconds']))
      rows.append(result_row(setting, 'seconds, compilation included', seconds))
    if 'survives' in told and reference and name != first:
      same = 100 * float(np.mean(np.equal(told['survives'], reference)))
      rows.append(result_row(setting, f'images with the same verdict as by {first} (%)', same))
  return rows


def verdict(r, sign, number):
  """'met' or 'missed'; `r` is a `Ratio`, or None."""
  if r is None:
    return 'not measured'
  return 'met' if {'>=': operator.ge, '<=': operator.le}[sign](r.value, number) else 'missed'


def started(k, times):
  """Rows of the commands that were timed from their start.

  Args:
    k: their configuration.
    times: command -> `[{'seconds', 'cpu'}, ...]`.
  """
  rows = []
  for name, measured in times.items():
    limit = k.targets.get(name)
    seconds = [m['seconds'] for m in measured]
    _, std, n = aggregate(seconds)
    median = float(np.median(seconds))
    cpu = float(np.median([m['cpu'] for m in measured]))
    rows.append(result_row(
      name, f'seconds (CPU {cpu:.2f})', median, std, n, None if limit is None else f'< {limit:g}',
      None if limit is None else 'met' if median < limit else 'missed',
    ))
  return rows


def cores():
  return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()


def idle_share(results, comparisons):
  """The largest share of the others' time in which a worker kept a core busy."""
  shares = [0.0]
  for name, k in comparisons.items():
    good = {n: m for n, m in results[name].items() if 'error' not in m}
    total = sum(sum(m['seconds']) for m in good.values())
    for m in good.values():
      others = (total - sum(m['seconds'])) * k['units']
      shares.append(m['idle'] / others if others else 0.0)
  return max(shares)


def versions(results):
  versions = {m['facts']['version'] for r in results for m in r.values() if 'facts' in m}
  return ', '.join(sorted(versions))
