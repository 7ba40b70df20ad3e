"""CPU time, memory and recall of curation's rules over texts.

    python -m benchmarks.curate
    python -m benchmarks.curate --rows=50000 --parts=ngram
    python -m benchmarks.curate --items=a.jsonl,b.jsonl --texts=train.jsonl

Rows are recombined sentences of `--texts` with other numbers, about 310
characters each, and copies of items in eight ways. Without files the texts are
our own. Seconds are of one process, children included; memory includes the
rows. The last line has all values as JSON.

  ngram_cpu_seconds  the rule `contaminated`, n = 9
  floor_cpu_seconds  tokens of the rows and a look-up of each 9-gram in a set
  planted_recall     copies that it found, by way
  near_cpu_seconds   candidates and comparisons of the rule `near`
  near_recall        pairs with Jaccard of at least 0.8 that it found
  text_cpu_seconds   these two and all other rules over texts; rules of single
                     rows follow each other row by row, as in a curation
  row_rules_wall_seconds  the rules of single rows, by --workers processes
  peak_gb            most memory at the end
"""

import argparse
import functools
import json
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from acereason_jax.data.curate import (
  index,
  keys,
  near,
  overlap,
  plan,
  rowwise,
  text,
  values,
)
from acereason_jax.evaluation import files
from benchmarks import curate_rows

_ITEMS, _CHARS = 2000, 310
_PLANTED_ITEMS = 250
_NEAR_PAIRS = 5000
_N, _THRESHOLD = 9, 0.8
_PARTS = ('ngram', 'near', 'text')


def _cpu() -> float:
  whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
  used = map(resource.getrusage, whose)
  return sum(u.ru_utime + u.ru_stime for u in used)


def _peak_gb() -> float:
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def _timed(name: str, call: Callable[[], Any]) -> tuple[Any, float]:
  start, wall = _cpu(), time.perf_counter()
  found = call()
  seconds, wall = _cpu() - start, time.perf_counter() - wall
  print(
    f'{name:22} {seconds:8.1f} s of CPU {wall:8.1f} s {_peak_gb():6.2f} GB',
    flush=True,
  )
  return found, seconds


def _texts(paths: str, default: Sequence[str]) -> list[str]:
  if not paths:
    return list(default)
  loaded = (files.rows_of(path) for path in paths.split(','))
  return [p.row.question for some in loaded for p in some.problems]


def _row(number: int, problem: str) -> values.Row:
  # In the order of a step's rows.
  return values.Row(f'{number:09}', problem, '0')


def _context(items: Sequence[values.Item]) -> values.Context:
  return values.Context(
    seed=0,
    items=items,
    attempts={},
    judge=lambda judge, pairs: [],
    remember=lambda kind, key, make: make(),
    # A tokenizer is no rule of ours.
    count_tokens=lambda texts: [len(t) // 4 for t in texts],
    mine=lambda row_id: True,
  )


def _planted(
  items: Sequence[values.Item],
) -> Iterator[tuple[str, str]]:
  """Yields (way, copy) of some items with enough tokens for every rule."""
  long = [i.text for i in items if len(keys.tokens(i.text)) >= index.RUN]
  stride = max(len(long) // _PLANTED_ITEMS, 1)
  for told in long[::stride][:_PLANTED_ITEMS]:
    for way, change in curate_rows.WAYS.items():
      yield way, change(told)


def _ngram(
  rows: list[values.Row], items: Sequence[values.Item]
) -> dict[str, Any]:
  planted = list(_planted(items))
  more = [_row(len(rows) + i, copy) for i, (_, copy) in enumerate(planted)]
  step = overlap.contaminated(n=_N)
  fates, seconds = _timed(
    'contaminated', lambda: step.whole([*rows, *more], _context(items))
  )
  recall: dict[str, list[bool]] = {}
  for (way, _), fate in zip(planted, fates[len(rows) :]):
    recall.setdefault(way, []).append(fate.kind == values.DROPPED)
  hits = sum(f.kind == values.DROPPED for f in fates[: len(rows)])
  _, floor = _timed('its floor', lambda: _floor(rows, items))
  return {
    'ngram_cpu_seconds': seconds,
    'floor_cpu_seconds': floor,
    'ngram_peak_gb': _peak_gb(),
    'ngram_hits': hits,
    'planted': len(planted),
    'planted_recall': {k: sum(v) / len(v) for k, v in recall.items()},
  }


def _floor(rows: Sequence[values.Row], items: Sequence[values.Item]) -> int:
  """The rows with a 9-gram of an item, by plain sets."""
  known = {g for i in items for g in index.runs(keys.tokens(i.text), _N)}
  return sum(
    not known.isdisjoint(index.runs(keys.tokens(row.problem), _N))
    for row in rows
  )


def _near(rows: Sequence[values.Row]) -> dict[str, Any]:
  """Pairs are rows and copies of them with one other word."""
  problems = [row.problem for row in rows]
  pairs = []
  for at in range(0, len(rows), max(len(rows) // _NEAR_PAIRS, 1)):
    problems.append(curate_rows.WAYS['one word changed'](problems[at]))
    pairs.append((at, len(problems) - 1))
  pairs = [
    p for p in pairs if near.alike(*(problems[i] for i in p), _THRESHOLD)
  ]
  found, seconds = _timed('near', lambda: near.groups(problems, _THRESHOLD))
  group = {at: number for number, some in enumerate(found) for at in some}
  hits = sum(a in group and group[a] == group.get(b) for a, b in pairs)
  return {
    'near_cpu_seconds': seconds,
    'near_pairs': len(pairs),
    'near_recall': hits / max(len(pairs), 1),
  }


def _text(
  rows: Sequence[values.Row], context: values.Context, workers: int
) -> dict[str, Any]:
  """The other rules, as a curation takes its rows through them."""
  groups = (
    (text.normalise(), text.sentinels()),
    (text.exact(None),),
    (
      *(text.parts(), text.choice(), text.true_false(), text.proof()),
      *(text.language(), text.figure(), text.brief()),
    ),
    (text.long(),),
    (text.leak(),),
  )
  spent: dict[str, float] = {}
  dropped: dict[str, int] = {}
  wall = 0.0
  for steps in groups:
    names = [step.name for step in steps]
    if steps[0].whole is not None:
      whole = functools.partial(steps[0].whole, rows, context)
      fates, spent[names[0]] = _timed(names[0], whole)
      dropped[names[0]] = sum(f.kind == values.DROPPED for f in fates)
      continue
    start = time.perf_counter()
    (shares, lost), seconds = _timed(
      f'{names[0]} ... {names[-1]}' if names[1:] else names[0],
      functools.partial(_each, steps, rows, workers),
    )
    wall += time.perf_counter() - start
    spent |= {n: seconds * share for n, share in zip(names, shares)}
    dropped |= dict(zip(names, lost))
  return {
    'text_seconds': spent,
    'text_dropped': dropped,
    'row_rules_wall_seconds': wall,
  }


def _each(
  steps: Sequence[values.Step], rows: Sequence[values.Row], workers: int
) -> tuple[list[float], list[int]]:
  """(each rule's share of the time, rows that it dropped)."""
  rules = [plan.Rule(step.name, plan.DROP, step) for step in steps]
  seconds, dropped = [0.0] * len(rules), [0] * len(rules)
  for done, times in rowwise.run(rules, rows, workers):
    seconds = [a + b for a, b in zip(seconds, times)]
    for event in (e for row in done for e in row.events):
      dropped[event.place] += event.fate.kind == values.DROPPED
  return [each / sum(seconds) for each in seconds], dropped


def main() -> None:
  parser = argparse.ArgumentParser(
    prog='python -m benchmarks.curate',
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument('--rows', type=int, default=500_000)
  parser.add_argument('--items', default='', help='files, with commas')
  parser.add_argument('--texts', default='', help='files, with commas')
  parser.add_argument('--parts', default=','.join(_PARTS))
  parser.add_argument('--workers', type=int, default=1, help='of single rows')
  args = parser.parse_args()
  parts = args.parts.split(',')
  statements = _texts(args.items, curate_rows.invented(_ITEMS, 1))
  items = [
    values.Item('items', f'{i}', told) for i, told in enumerate(statements)
  ]
  own = _texts(args.texts, curate_rows.invented(_ITEMS, 2))
  rows = [
    _row(i, problem)
    for i, problem in enumerate(
      curate_rows.recombined(own, args.rows, _CHARS, 0)
    )
  ]
  chars = sum(len(row.problem) for row in rows) / max(len(rows), 1)
  print(
    f'{len(rows):,} rows of {chars:.0f} characters, {len(items):,} items, '
    f'{_peak_gb():.2f} GB'
  )
  found: dict[str, Any] = {}
  if 'ngram' in parts:
    found |= _ngram(rows, items)
  if 'near' in parts:
    found |= _near(rows)
  if 'text' in parts:
    found |= _text(rows, _context(items), args.workers)
    found['text_cpu_seconds'] = sum(found['text_seconds'].values()) + sum(
      found.get(f'{name}_cpu_seconds', 0) for name in ('ngram', 'near')
    )
  found['peak_gb'] = _peak_gb()
  print(json.dumps(found))


if __name__ == '__main__':
  main()
