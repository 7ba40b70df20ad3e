"""EvalPlus (arXiv 2305.01210): HumanEval+ and MBPP+, from its released files.

A program is right if its results agree with those of the row's own solution on
all inputs, as `evalplus_check` compares them. The solution runs in the jail of
the check, so expected results are stored nowhere. JSON has no tuples, sets and
complex numbers: `_FORMS` lists which arguments of MBPP+ are some.
"""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from acereason_jax.evaluation import evalplus_check, program_rows, values
from acereason_jax.verifiers.programs import calls, tasks

# Bytes that EvalPlus gives a program.
_MEMORY_BYTES = 4 << 30
_COLUMNS = (
  *('task_id', 'prompt', 'entry_point', 'canonical_solution'),
  *('base_input', 'plus_input', 'atol'),
)


def evalplus(paths: Sequence[str], tests: str = 'plus') -> values.Loaded:
  """The problems of HumanEvalPlus.jsonl or MbppPlus.jsonl, gzipped or not.

  `tests` is 'plus' for the benchmark's own inputs and those of EvalPlus, 'base'
  for the first only. Of two files, each is a group of its own: the average over
  all problems is not the mean of the two averages, which others print.

  Raises:
    ValueError: one line; a file cannot be used, or there are no such `tests`.
  """
  if tests not in ('plus', 'base'):
    raise ValueError(f"tests={tests!r}: expected 'plus' or 'base'")
  names = ('base_input', 'plus_input') if tests == 'plus' else ('base_input',)
  loaded = program_rows.load(
    paths, _COLUMNS, functools.partial(_task, names=names)
  )
  grouped = (
    problem._replace(strata={'set': problem.row.id.partition('/')[0]})
    for problem in loaded.problems
  )
  return loaded._replace(problems=tuple(grouped))


def _task(row: Mapping[str, Any], names: Sequence[str]) -> tasks.CodeTask:
  benchmark, _, number = row['task_id'].partition('/')
  if benchmark not in ('HumanEval', 'Mbpp'):
    raise ValueError("task_id begins with neither 'HumanEval/' nor 'Mbpp/'")
  atol = row['atol']
  if type(atol) not in (int, float) or not 0 <= atol < 1:
    raise ValueError(f'atol is no error: {atol!r:.60}')
  inputs = []
  for name in names:
    if not isinstance(row[name], list):
      raise ValueError(f'{name} is no list')
    inputs += row[name]
  if not inputs or not all(isinstance(i, list) for i in inputs):
    raise ValueError('its inputs are not lists of arguments')
  base = len(row['base_input'])
  form = _FORM_OF.get(number) if benchmark == 'Mbpp' else None
  arguments = (_formed(i, form) if form else i for i in inputs)
  source = inspect.getsource(evalplus_check)
  compared = f'{atol!r}, {benchmark!r}, {row["entry_point"]!r}'
  return tasks.CodeTask(
    'check',
    tuple(
      tasks.Test('', tuple(calls.encoded(list(a))), None) for a in arguments
    ),
    row['entry_point'],
    memory_bytes=_MEMORY_BYTES,
    # The prompts of MBPP+ are texts, no code that a program needs.
    before=row['prompt'] if benchmark == 'HumanEval' else '',
    check=(
      f'{source}\n\ndef check(candidate):\n'
      # Like EvalPlus, which runs the two lists one after the other.
      f'  for inputs in INPUTS[:{base}], INPUTS[{base}:]:\n'
      f'    assert_results(candidate, REFERENCE, inputs, {compared})\n'
    ),
    reference=row['prompt'] + row['canonical_solution'],
  )


def _formed(args: list, form: Sequence[Callable]) -> list:
  """The arguments as the problem has them; the last form holds for the rest."""
  forms = [*form, *form[-1:] * len(args)]
  try:
    return [make(a) for make, a in zip(forms, args)]
  except (ValueError, TypeError, AttributeError, OverflowError) as e:
    raise ValueError(f'an argument is not of its form: {e}') from e


def _same(value: Any) -> Any:
  return value


def _tuple(value: Any) -> Any:
  return tuple(value) if isinstance(value, list) else value


def _deep(value: Any) -> Any:
  return tuple(map(_deep, value)) if isinstance(value, list) else value


def _two(value: Any) -> Any:
  return tuple(map(_tuple, value)) if isinstance(value, list) else value


def _tuples(value: Any) -> list:
  return [_tuple(v) for v in value]


def _sets(value: Any) -> list:
  return [(set(v) if v else {}) if isinstance(v, list) else v for v in value]


def _dict(value: Any) -> dict:
  return {k: _tuple(v) for k, v in value.items()}


# The forms of the arguments, and the numbers of the problems that have them.
_FORMS: tuple[tuple[tuple[Callable, ...], str], ...] = (
  (
    (_tuple,),
    '2 116 132 143 222 261 273 394 399 421 424 429 470 560 579 596 616 630 726 '
    '740 744 809',
  ),
  ((_tuples,), '63 64 70 94 120 237 272 299 400 409 417 438 473 614 780'),
  ((_tuples, _same), '75 413 444 753'),
  ((_same, _tuple), '106 750'),
  ((_tuple, _same), '250 307 405 446 617 720 763 808'),
  ((_two,), '259 278 401 445'),
  ((_deep,), '580 615 791'),
  ((_sets,), '115'),
  ((float, complex), '124'),
  ((complex,), '252'),
  ((_dict, _same), '722'),
)
_FORM_OF = {n: form for form, numbers in _FORMS for n in numbers.split()}
