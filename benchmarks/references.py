r"""Lists the reference answers that the math judge cannot read, and why.

    python -m benchmarks.references problems.jsonl gsm8k.jsonl:answer

A file is JSON lines or one JSON array of objects; after a colon, the field that
holds the answer. The check is that of training: a reference must be readable
and equal to itself. Only the text after `####` counts, as in GSM8K; each
element of a list counts. Refused answers are printed, escaped.
"""

import argparse
import json
import os
import pathlib
from collections.abc import Iterator

from acereason_jax.data import references
from acereason_jax.verifiers.pool.pool import VerifierPool

_FIELDS = ('answer', 'expected_answer', 'final_answer', 'ground_truth')
_SECONDS = 8.0


def answers(file: str) -> Iterator[str]:
  """Yields the answers of `path` or `path:field`.

  Raises:
    ValueError: a row without the field.
  """
  path, _, field = file.partition(':')
  text = pathlib.Path(path).read_text()
  rows = (
    json.loads(text)
    if text.lstrip().startswith('[')
    else map(json.loads, filter(str.strip, text.splitlines()))
  )
  for i, row in enumerate(rows):
    found = [name for name in ([field] if field else _FIELDS) if name in row]
    if not found:
      raise ValueError(
        f'{path}: row {i} has no {field or " or ".join(_FIELDS)}; name the '
        f'field as {path}:FIELD'
      )
    value = row[found[0]]
    for one in value if isinstance(value, list) else [value]:
      yield str(one).rpartition('####')[2].strip()


def main() -> None:
  parser = argparse.ArgumentParser(
    prog='python -m benchmarks.references',
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument('files', nargs='+', metavar='FILE[:FIELD]')
  parser.add_argument('--workers', type=int, default=os.cpu_count())
  args = parser.parse_args()
  judge = 'acereason_jax.verifiers.math:reference'
  total = refused = 0
  with VerifierPool(judge, {}, args.workers, _SECONDS) as pool:
    seen = set()
    for file in args.files:
      rows = list(answers(file))
      new = [a for a in dict.fromkeys(rows) if a not in seen]
      seen |= {*new}
      bad = references.unreadable(new, pool)
      total, refused = total + len(new), refused + len(bad)
      print(
        f'{file}: {len(rows):,} rows, {len(new):,} new, {len(bad):,} refused'
      )
      for answer, reason in bad.items():
        print(f'  {answer!a}\t{reason}')
  print(f'{total:,} distinct references, {refused:,} refused')


if __name__ == '__main__':
  main()
