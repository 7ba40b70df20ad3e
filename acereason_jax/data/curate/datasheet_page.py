"""The datasheet as a page: a funnel of rows, reasons with examples, lengths.

One file without scripts or addresses: it shows strangers' texts, all escaped.
"""

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;
padding:0 1rem;color:#1d2430;background:#fff}
h1{font-size:1.6rem;margin-bottom:0}h2{font-size:1.15rem;margin-top:2.2rem}
p.sub{color:#5b6675;margin-top:.2rem}table{border-collapse:collapse;width:100%}
td,th{text-align:left;padding:.25rem .6rem;border-bottom:1px solid #e3e7ee;
vertical-align:top}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
.bar{background:#e9eef7;height:.8rem;border-radius:.2rem;min-width:12rem}
.bar i{display:block;height:100%;background:#3d6fd1;border-radius:.2rem}
.bar i.old{background:#b9c4d6}code,.ev{font:12.5px/1.45 ui-monospace,monospace;
color:#465062;overflow-wrap:anywhere}summary{cursor:pointer;padding:.3rem 0}
.q{overflow-wrap:anywhere}.off{color:#8a5300}
@media(prefers-color-scheme:dark){body{background:#12161d;color:#d7dde7}
td,th{border-color:#2a313d}.bar{background:#222a37}code,.ev{color:#9aa6b8}}
"""


def page(sheet: Mapping[str, Any]) -> str:
  """The whole page."""
  rows_in, rows_out = sheet['rows_in'], sheet['rows_out']
  share = f'{rows_out / rows_in:.1%}' if rows_in else ''
  return '\n'.join(
    [
      '<!doctype html><html lang="en"><meta charset="utf-8">',
      '<meta name="viewport" content="width=device-width">',
      f'<title>Datasheet</title><style>{_STYLE}</style>',
      f'<h1>{rows_out:,} of {rows_in:,} rows</h1>',
      f'<p class="sub">{share} are left after {len(sheet["steps"])} steps.</p>',
      _funnel(sheet['steps'], rows_in),
      _planted(sheet['planted']),
      *_distributions(sheet['distributions']),
      *_examples(sheet['steps']),
      _inputs(sheet['inputs']),
      _benchmarks(sheet['benchmarks']),
      _versions(sheet['versions']),
      '</html>',
      '',
    ]
  )


def _funnel(steps: Sequence[Mapping[str, Any]], rows_in: int) -> str:
  lines = []
  for step in steps:
    reasons = ', '.join(f'{k} {n:,}' for k, n in step['reasons'].items())
    if step['changed']:
      changed = f'changed {step["changed"]:,}'
      reasons = ', '.join(filter(None, [changed, reasons]))
    lost = step['rows_in'] - step['rows_out']
    lines.append(
      _row(
        _cell(step['name']),
        f'<td>{_bar(step["rows_out"], rows_in)}</td>',
        _cell(f'{step["rows_out"]:,}', 'n'),
        _cell(f'-{lost:,}' if lost else '', 'n'),
        _cell(f'flags: {reasons}', 'off')
        if step['action'] == 'flag' and reasons
        else _cell(reasons),
      )
    )
  head = '<tr><th>step<th>rows left<th class=n><th class=n>dropped<th>reasons'
  return _section('Steps', f'<table>{head}{"".join(lines)}</table>')


def _bar(count: int, whole: int, kind: str = '') -> str:
  width = 100 * count / whole if whole else 0
  mark = f' class="{kind}"' if kind else ''
  return f'<div class="bar"><i{mark} style="width:{width:.2f}%"></i></div>'


def _planted(planted: Mapping[str, Any] | None) -> str:
  if planted is None:
    return ''
  lines = ''.join(
    _row(_cell(way), _cell(f'{found:,} of {of:,}', 'n'))
    for way, (found, of) in planted['ways'].items()
  )
  total = f'{planted["found"]:,} of {planted["planted"]:,}'
  return _section(
    'Planted contamination',
    f'<p>{total} copies of benchmark problems were found.</p>'
    f'<table>{lines}</table>',
  )


def _distributions(found: Mapping[str, Any]) -> Iterable[str]:
  for kind, before in found['before'].items():
    after = found['after'].get(kind, {})
    names = [*before, *(name for name in after if name not in before)]
    most = max([*before.values(), *after.values(), 1])
    lines = ''.join(
      _row(
        _cell(name),
        f'<td>{_bar(before.get(name, 0), most, "old")}'
        f'{_bar(after.get(name, 0), most)}</td>',
        _cell(f'{before.get(name, 0):,}', 'n'),
        _cell(f'{after.get(name, 0):,}', 'n'),
      )
      for name in names[:40]
    )
    head = f'<tr><th>{_text(kind)}<th><th class=n>before<th class=n>after'
    yield _section(f'Rows by {kind}', f'<table>{head}{lines}</table>')


def _examples(steps: Sequence[Mapping[str, Any]]) -> Iterable[str]:
  for step in steps:
    parts = []
    for reason, rows in step['examples'].items():
      lines = ''.join(
        _row(
          f'<td><code>{_text(row["id"])}</code></td>',
          f'<td class="q">{_text(row["problem"])}'
          f'<div class="ev">{_text(row["evidence"])}</div></td>',
        )
        for row in rows
      )
      count = step['reasons'].get(reason, step['changed'])
      parts.append(
        f'<details><summary>{_text(reason)}: {len(rows)} of {count:,}</summary>'
        f'<table>{lines}</table></details>'
      )
    if parts:
      yield _section(f'Examples: {step["name"]}', ''.join(parts))


def _inputs(found: Sequence[Mapping[str, Any]]) -> str:
  lines = ''.join(
    _row(
      _cell(each['name']),
      _cell(each['licence'] or 'not given'),
      _cell(f'{each["lines"]:,}', 'n'),
      _cell(f'{each["repeats"]:,}', 'n'),
      '<td class="ev">'
      + '<br>'.join(_text(f'{k} {v}') for k, v in each['files'].items())
      + '</td>',
    )
    for each in found
  )
  head = (
    '<tr><th>name<th>licence<th class=n>lines<th class=n>repeats<th>SHA-256'
  )
  return _section('Inputs', f'<table>{head}{lines}</table>')


def _benchmarks(found: Sequence[Mapping[str, Any]]) -> str:
  if not found:
    return ''
  lines = ''.join(
    _row(
      _cell(each['name']),
      _cell(f'{each["problems"]:,}', 'n'),
      _cell(f'{each["elsewhere"]:,}', 'n'),
      _cell(f'{each["short"]:,}', 'n'),
      _cell(', '.join(each['unsearchable'])),
    )
    for each in found
  )
  head = (
    '<tr><th>name<th class=n>problems<th class=n>also in another<th class=n>'
    'short<th>no rule can search for'
  )
  return _section('Benchmarks', f'<table>{head}{lines}</table>')


def _versions(found: Mapping[str, str]) -> str:
  told = ', '.join(f'{name} {version}' for name, version in found.items())
  return _section('Versions', f'<p class="ev">{_text(told)}</p>')


def _section(title: str, inside: str) -> str:
  return f'<h2>{_text(title)}</h2>{inside}'


def _row(*cells: str) -> str:
  return f'<tr>{"".join(cells)}</tr>'


def _cell(text: str, kind: str = '') -> str:
  mark = f' class="{kind}"' if kind else ''
  return f'<td{mark}>{_text(text)}</td>'


def _text(text: str) -> str:
  """Escaped; what a browser would not show, or show elsewhere, is a blank."""
  shown = ''.join(c if c.isprintable() or c == '\n' else ' ' for c in str(text))
  return html.escape(shown)
