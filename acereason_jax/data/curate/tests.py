"""Which tests a task keeps: each input once, and as few as decide as much."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

from acereason_jax.data.curate import code, values
from acereason_jax.verifiers import trial
from acereason_jax.verifiers.programs import compare, tasks

# Columns of steps before, which only `tests` needs.
_USED = ('golden', 'killers')


def unique() -> values.Step:
  """Leaves out tests with the input of another test.

  If their outputs differ, all tests of that input are out, the row is flagged
  'conflict', and it is dropped if none is left. Comes before `golden`.
  """
  return values.Step('unique_tests', each=_unique)


def tests(
  most: int = 64, most_bytes: int = 4 << 20, seconds: float = 16.0
) -> values.Step:
  """Chooses tests: those that ended wrong programs, then the largest inputs.

  They have `most_bytes` together, and the slowest accepted program takes at
  most `seconds` for all: about a quarter of what the judge allows. Comes last.
  """
  for name, value in (('most', most), ('most_bytes', most_bytes)):
    if value < 1:
      raise ValueError(f'{name}={value}: expected at least 1')
  each = functools.partial(
    _chosen, most=most, most_bytes=most_bytes, seconds=seconds
  )
  return values.Step('tests', each=each)


def _unique(row: values.Row) -> values.Fate:
  task = code.task_of(row)
  if not task or task.kind == 'check':
    return values.kept(row)
  numbers, conflicts = distinct(task)
  if len(numbers) == len(task.tests):
    return values.kept(row)
  counts = {'tests': len(task.tests), 'left': len(numbers)}
  if conflicts:
    counts['inputs with two outputs'] = conflicts
  if not numbers:
    return values.dropped(row, 'conflict', **counts)
  about = code.flagged(row.about, 'conflict') if conflicts else row.about
  answer = code.with_tests(task, numbers)
  new = dataclasses.replace(row, answer=answer, about=about)
  return values.Fate(values.CHANGED, new, '', counts)


def distinct(task: tasks.CodeTask) -> tuple[list[int], int]:
  """(first test of each input, number of inputs with two outputs).

  An input with two outputs has no test.
  """
  first: dict[bytes, int] = {}
  bad: set[bytes] = set()
  for number, test in enumerate(task.tests):
    key = _input(test, task.kind)
    known = first.setdefault(key, number)
    if known == number or key in bad:
      continue
    if not _same(test.expected, task.tests[known].expected, task):
      bad.add(key)
  return [n for key, n in first.items() if key not in bad], len(bad)


def _input(test: tasks.Test, kind: str) -> bytes:
  """A digest that is equal for equal inputs."""
  if kind == 'stdin':
    # A program cannot count on blanks at the ends of lines.
    lines = test.stdin.strip().splitlines()
    text = '\n'.join(line.rstrip() for line in lines)
  else:
    text = json.dumps(test.args)
  return hashlib.sha256(text.encode('utf-8', 'surrogatepass')).digest()


def _same(given: Any, expected: Any, task: tasks.CodeTask) -> bool:
  if task.kind == 'stdin':
    differ, given = compare.printed, given.encode('utf-8', 'surrogateescape')
  else:
    differ, given = compare.returned, json.dumps(given).encode()
  return not differ(given, expected, task.float_tol, task.float_error)


def _chosen(
  row: values.Row, most: int, most_bytes: int, seconds: float
) -> values.Fate:
  task = code.task_of(row)
  about = {k: v for k, v in row.about.items() if k not in _USED}
  done = dataclasses.replace(row, about=about)
  if not task or task.kind == 'check':
    return values.kept(row) if done == row else _changed(done)
  sizes = [_sizes(t, task.kind) for t in task.tests]
  times = row.about.get('golden', {}).get('times', '')
  left = [most, most_bytes, seconds]
  numbers = []
  for number in _in_order(row, task, [size for size, _ in sizes]):
    needs = 1, sum(sizes[number]), trial.of_test(times, number)
    if all(need <= has for need, has in zip(needs, left)):
      left = [has - need for need, has in zip(needs, left)]
      numbers.append(number)
  if not numbers:
    return values.dropped(row, 'too large', tests=len(sizes))
  counts = {'tests': len(sizes), 'left': len(numbers)}
  if len(numbers) < len(sizes):
    answer = code.with_tests(task, sorted(numbers))
    done = dataclasses.replace(done, answer=answer)
  return values.kept(row) if done == row else _changed(done, **counts)


def _changed(row: values.Row, **evidence: int) -> values.Fate:
  return values.Fate(values.CHANGED, row, '', evidence)


def _in_order(
  row: values.Row, task: tasks.CodeTask, sizes: Sequence[int]
) -> Iterator[int]:
  """Tests in the order in which they are chosen."""
  numbers, _ = distinct(task)
  left = set(numbers)
  killers = [n for n in row.about.get('killers', ()) if n in left]
  yield from killers
  yield from sorted(left - set(killers), key=lambda n: (-sizes[n], n))


def _sizes(test: tasks.Test, kind: str) -> tuple[int, int]:
  """Bytes of the input, and of the output."""
  if kind == 'stdin':
    texts = test.stdin, test.expected
  else:
    texts = json.dumps(test.args), json.dumps(test.expected)
  given, expected = (len(t.encode('utf-8', 'surrogatepass')) for t in texts)
  return given, expected
