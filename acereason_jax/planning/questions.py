"""How many questions the sources of a config have, without reading any.

A file that is there is counted, by its lines or by Parquet's own count. Of the
published sets that the shipped configs name the numbers are known. A number of
the user's own comes first.
"""

import os
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import pyarrow.parquet

# By what a path ends with: as the papers and the sets' own pages count them.
KNOWN = {
  'AceReason-Math/math.jsonl': 49585,
  'AIME_2024/aime_2024_problems.parquet': 30,
  'code.jsonl': 8520,
  'livecodebench_v5.jsonl': 279,
}
# Of a source of which nothing is known: so many, and the plan says so.
UNKNOWN = 10000
_MOST_BYTES = 1 << 30
# Of 1,000 groups of 20 columns, about.
_MOST_HEAD_BYTES = 4 << 20


class Count(NamedTuple):
  """The number of questions of a source.

  number: how many.
  how: where the number is from, for people.
  """

  number: int
  how: str


def count(source: Mapping[str, Any], given: Mapping[str, int]) -> Count:
  """The questions of a component; `given` are numbers by path."""
  if 'sources' in source:
    parts = [count(part, given) for part in source['sources']]
    how = '; '.join(dict.fromkeys(part.how for part in parts))
    return Count(sum(part.number for part in parts), how)
  path = str(source.get('path', ''))
  if path in given:
    return Count(given[path], f'{path}: {given[path]:,}, as given')
  if isinstance(source.get('count'), int):
    return Count(source['count'], f'{source["fn"]}: {source["count"]:,}')
  if path and os.path.isfile(path) and (lines := _counted(path)):
    return Count(lines, f'{path}: {lines:,}, counted')
  for end, number in KNOWN.items():
    if path.endswith(end):
      return Count(number, f'{path}: {number:,}, as published')
  name = path or source.get('fn', '')
  return Count(UNKNOWN, f'{name}: unknown, {UNKNOWN:,} assumed')


def paths(source: Mapping[str, Any]) -> set[str]:
  """The paths of a component and of the sources in it."""
  own = {str(source['path'])} if source.get('path') else set()
  return own.union(*(paths(part) for part in source.get('sources', ())))


def _counted(path: str) -> int:
  """Rows of a file; 0 if it is too large to count, or of another kind."""
  try:
    with open(path, 'rb') as file:
      if file.read(4) == b'PAR1':
        # Arrow makes up to 200 bytes of each byte of its metadata.
        file.seek(-8, os.SEEK_END)
        if int.from_bytes(file.read(4), 'little') > _MOST_HEAD_BYTES:
          return 0
        return max(0, pyarrow.parquet.read_metadata(path).num_rows)
    if pathlib.Path(path).stat().st_size > _MOST_BYTES:
      return 0
    with open(path, 'rb') as file:
      return sum(bool(line.strip()) for line in file)
  except (OSError, ValueError):
    return 0
