"""The datasheet of a curation: what came in, what left and why.

`of` gives the JSON value; `markdown` and datasheet_page.py show it. Everything
in it except `seconds` depends only on the config and its files, and the pages
leave the seconds out.
"""

import collections
import hashlib
import importlib.metadata
import json
import platform
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from acereason_jax.data.curate import (
  inputs,
  items,
  keys,
  pipeline,
  plan,
  values,
)

EXAMPLES = 20
_PROBLEM_CHARS, _EVIDENCE_CHARS = 300, 400
_PACKAGES = (
  *('acereason_jax', 'numpy', 'pyarrow', 'sympy', 'py3langid', 'rensa'),
)
# Problems shorter than this are searched for as a whole.
_WHOLE_TOKENS = 9
_SHOWN_IDS = 50
_INTEGER = re.compile(r'[-+]?\d[\d,]*')
_DECIMAL = re.compile(r'[-+]?\d*\.\d+')
_FRACTION = re.compile(r'[-+]?(\d+/\d+|\\[dt]?frac\{[^{}]+\}\{[^{}]+\})')
_LETTER = re.compile(r'\(?[A-Ja-j]\)?')
_WORDS = re.compile(r'[A-Za-z][A-Za-z ,.\'-]{3,}')


def of(todo: plan.Plan, result: pipeline.Result) -> dict[str, Any]:
  """The datasheet as a JSON value."""
  ids = [row.id for row in result.before]
  if len({*ids}) != len(result.rows) + len(result.dropped):
    raise AssertionError('a row is neither kept nor dropped, or both')
  sheet = dict(
    rows_in=len(result.before),
    rows_out=len(result.rows),
    steps=_steps(todo, result),
    inputs=[
      _input(source, result.reads[source.name]) for source in todo.inputs
    ],
    benchmarks=[
      _benchmark(name, found, result.benchmarks)
      for name, found in result.benchmarks.items()
    ],
    distributions=dict(
      before=distributions(result.before), after=distributions(result.rows)
    ),
    planted=_planted(result),
    seed=todo.seed,
    config=todo.config,
    versions=versions(),
  )
  return json.loads(json.dumps(sheet, allow_nan=False))


def versions() -> dict[str, str]:
  found = {'python': platform.python_version()}
  for name in _PACKAGES:
    try:
      found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      continue
  return found


def distributions(rows: Iterable[values.Row]) -> dict[str, dict[str, int]]:
  """Counts of rows by length, kind of answer, difficulty and source."""
  kinds: Mapping[str, Callable[[values.Row], str]] = dict(
    characters=lambda row: _bucket(len(row.problem)),
    answer=lambda row: answer_type(row.answer),
    difficulty=lambda row: _rounded(row.difficulty),
    source=lambda row: row.source,
  )
  rows = list(rows)
  return {name: _counted(map(kind, rows)) for name, kind in kinds.items()}


def answer_type(answer: str) -> str:
  """What a reference looks like; a rough grouping for people."""
  text = answer.strip().strip('$').strip()
  if not text:
    return 'none'
  if text.startswith('{') and ('"tests"' in text or '"kind"' in text):
    return 'program'
  for name, pattern in (
    ('integer', _INTEGER),
    ('decimal', _DECIMAL),
    ('fraction', _FRACTION),
    ('letter', _LETTER),
    ('words', _WORDS),
  ):
    if pattern.fullmatch(text[:200]):
      return name
  return 'expression'


def _rounded(number: float | None) -> str:
  """Two digits of it: every row may have a number of its own."""
  return 'unknown' if number is None else f'{float(f"{number:.2g}"):g}'


def _bucket(length: int) -> str:
  """'256-511': a power of 2 up to the next."""
  low = 1 << max(length.bit_length() - 1, 0)
  return f'{low}-{2 * low - 1}' if length else '0'


def _counted(names: Iterable[str]) -> dict[str, int]:
  """Counts by name, in the order of the numbers that the names begin with."""
  counts = collections.Counter(names)

  def order(name: str) -> tuple[int, float, str]:
    number = re.match(r'-?\d+(\.\d+)?', name)
    return (0, float(number[0]), name) if number else (1, 0.0, name)

  return {name: counts[name] for name in sorted(counts, key=order)}


def _steps(todo: plan.Plan, result: pipeline.Result) -> list[dict[str, Any]]:
  by_step = collections.defaultdict(list)
  for change in (*result.dropped, *result.changes):
    by_step[change.step].append(change)
  return [
    dict(
      name=tally.name,
      rows_in=tally.rows_in,
      rows_out=tally.rows_out,
      seconds=round(tally.seconds, 3),
      action=plan.FLAG if tally.flagged else plan.DROP,
      changed=tally.changed,
      reasons=dict(tally.reasons),
      examples=_examples(todo.seed, by_step[tally.name]),
    )
    for tally in result.tallies
  ]


def _examples(
  seed: int, changes: Sequence[pipeline.Change]
) -> dict[str, list[dict[str, Any]]]:
  """20 rows of each reason, drawn by hash."""
  groups = collections.defaultdict(list)
  for change in changes:
    groups[change.fate.reason or change.fate.kind].append(change)

  def order(change: pipeline.Change) -> bytes:
    return hashlib.sha256(f'{seed}/{change.fate.row.id}'.encode()).digest()

  return {
    reason: [
      dict(
        id=change.fate.row.id,
        problem=_cut(change.fate.row.problem, _PROBLEM_CHARS),
        evidence=_cut(
          json.dumps(dict(change.fate.evidence), sort_keys=True),
          _EVIDENCE_CHARS,
        ),
      )
      for change in sorted(group, key=order)[:EXAMPLES]
    ]
    for reason, group in sorted(groups.items())
  }


def _cut(text: str, most: int) -> str:
  return text if len(text) <= most else f'{text[:most]} ...'


def _input(source: plan.Input, found: inputs.Read) -> dict[str, Any]:
  return dict(
    name=source.name,
    licence=source.licence,
    revision=source.revision,
    files=dict(found.files),
    lines=found.lines,
    rows=len(found.rows) + len(found.refused),
    repeats=found.lines - len(found.rows) - len(found.refused),
  )


def _benchmark(
  name: str, found: items.Items, everything: Mapping[str, items.Items]
) -> dict[str, Any]:
  """Its sizes, and which of its problems a rule can hardly search for."""
  counts = {item.id: len(keys.tokens(item.text)) for item in found.items}
  others = {
    tuple(keys.tokens(item.text))
    for other, each in everything.items()
    if other != name
    for item in each.items
  }
  none = [item for item, count in counts.items() if not count]
  short = [i for i, count in counts.items() if 0 < count < _WHOLE_TOKENS]
  return dict(
    name=name,
    files=dict(found.files),
    problems=len(found.items),
    elsewhere=sum(tuple(keys.tokens(i.text)) in others for i in found.items),
    unsearchable=none[:_SHOWN_IDS],
    short=len(short),
    short_ids=short[:_SHOWN_IDS],
  )


def _planted(result: pipeline.Result) -> dict[str, Any] | None:
  if result.planted is None:
    return None
  planted, found, missed = result.planted
  total = sum(planted.values())
  return dict(
    planted=total,
    found=sum(found.values()),
    recall=round(sum(found.values()) / total, 4) if total else None,
    ways={way: [found[way], planted[way]] for way in planted},
    missed=[list(each) for each in missed],
  )


def text(sheet: Mapping[str, Any]) -> str:
  return json.dumps(sheet, indent=1, sort_keys=False, allow_nan=False) + '\n'


# --- markdown ---------------------------------------------------------------


def markdown(sheet: Mapping[str, Any]) -> str:
  """The datasheet for people who read a terminal or a repository."""
  return '\n'.join(
    [
      '# Datasheet',
      '',
      f'{sheet["rows_in"]:,} rows came in, {sheet["rows_out"]:,} are left.',
      *_table('Inputs', _INPUT_HEAD, map(_input_line, sheet['inputs'])),
      *_table('Steps', _STEP_HEAD, map(_step_line, sheet['steps'])),
      *_table(
        'Benchmarks',
        ('name', 'problems', 'also in another', 'short', 'unsearchable'),
        map(_benchmark_line, sheet['benchmarks']),
      ),
      *_planted_lines(sheet['planted']),
      *_distribution_lines(sheet['distributions']),
      *_example_lines(sheet['steps']),
      '',
      '## Versions',
      '',
      ', '.join(f'{k} {v}' for k, v in sheet['versions'].items()),
      '',
    ]
  )


_INPUT_HEAD = ('name', 'licence', 'lines', 'rows', 'repeats', 'files (SHA-256)')
_STEP_HEAD = ('step', 'in', 'out', 'changed', 'action', 'reasons')


def _input_line(each: Mapping[str, Any]) -> tuple:
  files = ', '.join(f'{k} {v[:16]}' for k, v in each['files'].items())
  return (
    each['name'],
    each['licence'] or 'not given',
    f'{each["lines"]:,}',
    f'{each["rows"]:,}',
    f'{each["repeats"]:,}',
    files,
  )


def _step_line(each: Mapping[str, Any]) -> tuple:
  return (
    each['name'],
    f'{each["rows_in"]:,}',
    f'{each["rows_out"]:,}',
    f'{each["changed"]:,}',
    each['action'],
    ', '.join(f'{k} {v:,}' for k, v in each['reasons'].items()),
  )


def _benchmark_line(each: Mapping[str, Any]) -> tuple:
  return (
    each['name'],
    f'{each["problems"]:,}',
    f'{each["elsewhere"]:,}',
    f'{each["short"]:,}',
    ', '.join(each['unsearchable']),
  )


def _table(
  title: str, head: Sequence[str], lines: Iterable[Sequence[Any]]
) -> list[str]:
  lines = list(lines)
  if not lines:
    return []
  return [
    '',
    f'## {title}',
    '',
    f'| {" | ".join(head)} |',
    f'|{"---|" * len(head)}',
    *(f'| {" | ".join(safe(str(cell)) for cell in line)} |' for line in lines),
  ]


def safe(cell: str) -> str:
  """A stranger's text as one cell of a table, in which nothing is markup."""
  shown = ''.join(c if c.isprintable() else ' ' for c in cell)
  return re.sub(r'([\\`*_{}\[\]<>|#!~$&])', r'\\\1', ' '.join(shown.split()))


def _planted_lines(planted: Mapping[str, Any] | None) -> list[str]:
  if planted is None:
    return []
  return [
    *_table(
      'Planted contamination',
      ('copied', 'found', 'of'),
      [(way, *pair) for way, pair in planted['ways'].items()],
    ),
    '',
    f'{planted["found"]:,} of {planted["planted"]:,} copies of benchmark '
    'problems were found; they were taken away afterwards.',
  ]


def _distribution_lines(found: Mapping[str, Any]) -> list[str]:
  lines = []
  for kind, before in found['before'].items():
    after = found['after'].get(kind, {})
    lines += _table(
      f'Rows by {kind}',
      (kind, 'before', 'after'),
      [
        (name, f'{n:,}', f'{after.get(name, 0):,}')
        for name, n in (
          before | {k: 0 for k in after if k not in before}
        ).items()
      ],
    )
  return lines


def _example_lines(steps: Sequence[Mapping[str, Any]]) -> list[str]:
  lines = []
  for step in steps:
    for reason, rows in step['examples'].items():
      lines += _table(
        f'{step["name"]}: {safe(reason)}',
        ('id', 'problem', 'evidence'),
        [(row['id'], row['problem'], row['evidence']) for row in rows],
      )
  return lines
