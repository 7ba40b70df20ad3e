r"""Stored solutions of GSM8K as rollouts, and their labels next to our judges.

    python -m benchmarks.gsm8k_solutions example_model_solutions.jsonl OUT
    python -m benchmarks.gsm8k_solutions example_model_solutions.jsonl OUT \
      --test=test.jsonl

The file is that of openai/grade-school-math: for each test problem the
solutions of four models, with labels. OUT gets a file of rollouts a model. A
solution ends with a line `A: 18`, which no judge reads. So that line is written
as `A: \boxed{18}`, and nothing else is changed; a solution without such a line
has no answer. With --test, the file of problems, both judges of math read all
rollouts, and each verdict that differs from its label is printed.
"""

import argparse
import collections
import json
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from acereason_jax import files, outfile
from acereason_jax.console import terminal
from acereason_jax.data import fields, records
from acereason_jax.evaluation import files as benchmark_files
from acereason_jax.verifiers.pool import pool as pool_lib

KIND = outfile.Kind(
  'a file of solutions',
  re.compile(rb'\{"id": "[^"]+", "index": 0, "text": "').match,
)
_MARK = 'A:'
_SHOWN_CHARS = 60
_SECONDS = 8.0
# By name: function, arguments.
_JUDGES = {
  'strict': ('acereason_jax.verifiers.math:verify', dict(reasons=False)),
  'toolkit': ('acereason_jax.verifiers.lenient:verify', {}),
}


class Solution(NamedTuple):
  """A stored solution.

  model: name of its model, as in the file.
  id: id of the problem, as `evaluation/files.py:gsm8k` makes it.
  text: solution with a box.
  label: whether the file says that it is right.
  """

  model: str
  id: str
  text: str
  label: bool


def solutions(path: str) -> Iterator[Solution]:
  """Yields all solutions in the order of the file.

  Raises:
    ValueError: one line naming path:line.
  """
  for where, record in records.jsonl(path):
    if not isinstance(record, Mapping):
      raise ValueError(f'{where}: expected an object, got {record!r:.60}')
    row = fields.row_of(where, record)
    for model, value in record.items():
      match value:
        case {'solution': str(text), 'is_correct': bool(label)}:
          yield Solution(model, row.id, boxed(text), label)


def boxed(text: str) -> str:
  """The solution with its answer, the last line after `A:`, in a box."""
  body, newline, last = text.rstrip().rpartition('\n')
  answer = last.removeprefix(_MARK)
  if answer == last or not answer.strip():
    return text
  return f'{body}{newline}{_MARK} \\boxed{{{answer.strip()}}}'


def write(found: Iterator[Solution], out: pathlib.Path) -> list[Solution]:
  """Writes a file of rollouts for each model; returns all solutions."""
  kept = list(found)
  out.mkdir(parents=True, exist_ok=True)
  by_model = collections.defaultdict(list)
  for each in kept:
    line = dict(id=each.id, index=0, text=each.text)
    by_model[each.model].append(json.dumps(line) + '\n')
  for model, lines in by_model.items():
    # The name is a stranger's.
    if not model.replace('_', '').isalnum():
      raise ValueError(f'{model!r:.60}: expected the name of a model')
    outfile.check('out', out / f'{model}.jsonl', KIND)
    files.write_atomically(out / f'{model}.jsonl', ''.join(lines))
  return kept


def compare(kept: list[Solution], test: str, workers: int) -> Iterator[str]:
  """Yields a line for each model and judge, and for each difference."""
  answers = {
    problem.row.id: problem.row.answer
    for problem in benchmark_files.gsm8k(test).problems
  }
  for judge, (fn, arguments) in _JUDGES.items():
    with pool_lib.VerifierPool(fn, arguments, workers, _SECONDS) as pool:
      verdicts = dict(
        pool.as_completed(
          (i, each.text, answers[each.id]) for i, each in enumerate(kept)
        )
      )
    yield from _told(judge, kept, answers, verdicts)


def _told(
  judge: str,
  kept: list[Solution],
  answers: Mapping[str, str],
  verdicts: Mapping[int, Any],
) -> Iterator[str]:
  counts: dict[str, collections.Counter] = {}
  differing = []
  for i, each in enumerate(kept):
    status = verdicts[i].status
    mine = counts.setdefault(each.model, collections.Counter())
    mine.update(labels=each.label, **{status: 1})
    if each.label != (status == 'right'):
      mine['differ'] += 1
      last = each.text.rstrip().rpartition('\n')[2]
      differing.append(
        f'  {each.model} {each.id} label {each.label}, {judge} {status}: '
        f'{terminal.one_line(last, _SHOWN_CHARS)} reference '
        f'{terminal.one_line(answers[each.id], _SHOWN_CHARS)}'
      )
  for model, mine in counts.items():
    told = ', '.join(f'{name} {count}' for name, count in sorted(mine.items()))
    yield f'{judge} {model}: {told}'
  yield from differing


def main() -> None:
  parser = argparse.ArgumentParser(
    prog='python -m benchmarks.gsm8k_solutions',
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument('solutions')
  parser.add_argument('out', type=pathlib.Path)
  parser.add_argument('--test', default='')
  parser.add_argument('--workers', type=int, default=2)
  args = parser.parse_args()
  try:
    kept = write(solutions(args.solutions), args.out)
    for line in compare(kept, args.test, args.workers) if args.test else ():
      terminal.say(line)
  except (ValueError, OSError) as e:
    raise SystemExit(f'{e}') from e


if __name__ == '__main__':
  main()
