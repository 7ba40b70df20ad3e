"""Reads the problems of benchmarks and checks them, before any is asked."""

import collections
import dataclasses
import importlib.util
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from acereason_jax import resolve
from acereason_jax.console import terminal
from acereason_jax.data import questions, references, sources
from acereason_jax.evaluation import settings, values
from acereason_jax.verifiers.pool import pool as pool_lib

_SOURCES = 'acereason_jax.evaluation'
_SHOWN = 3
_SHOWN_CHARS = 100
_QUESTION_CHARS = 1 << 20
_GROUP_CHARS = 80


class Ready(NamedTuple):
  """A benchmark whose problems were read.

  benchmark: benchmark as it was planned.
  problems: problems that are asked, in the order of the files.
  files: SHA-256 of each file, by its name.
  missing: (id, reason) of each problem that is not asked.
  questions: SHA-256 of the ids and questions of all rows that were read.
  answers: SHA-256 of their answers too.
  humans: contestants to compare a rating with.
  """

  benchmark: values.Benchmark
  problems: tuple[values.Problem, ...]
  files: Mapping[str, str]
  missing: tuple[tuple[str, str], ...]
  questions: str
  answers: str
  humans: values.Humans = values.NOBODY


def chosen(plan: values.Plan, only: Sequence[str]) -> values.Plan:
  """The plan with the benchmarks named in `only`; () keeps all.

  Raises:
    ValueError: one line; there is no benchmark of such a name.
  """
  names = [b.name for b in plan.benchmarks]
  if unknown := [name for name in only if name not in names]:
    raise ValueError(
      f'--only={",".join(unknown)}: the config has no such benchmark; it has '
      f'{", ".join(names)}'
    )
  kept = [b for b in plan.benchmarks if not only or b.name in only]
  return plan._replace(benchmarks=tuple(kept))


def workers(plan: values.Plan) -> int:
  """Worker processes of each judge."""
  return plan.workers or os.cpu_count() or 1


def read(plan: values.Plan, old: Mapping[str, Any] | None) -> tuple[Ready, ...]:
  """The benchmarks of a plan with their problems; `old` are kept settings.

  Raises:
    ValueError: one line.
  """
  found = []
  for ready in [load(benchmark) for benchmark in plan.benchmarks]:
    known = settings.known_missing(
      old, ready.benchmark.name, ready.questions, ready.answers
    )
    found.append(without_unreadable(ready, known, workers(plan)))
  return tuple(found)


def load(benchmark: values.Benchmark) -> Ready:
  """Reads the files of a benchmark.

  Raises:
    ValueError: one line; a file cannot be read, ids occur twice, or there are
      more or fewer problems than expected.
  """
  where = f'config.benchmarks.{benchmark.name}'
  if near := _nearest(benchmark.data['fn']):
    raise ValueError(
      f'{where}.data.fn={benchmark.data["fn"]!r}: no such module; give {near!r}'
    )
  try:
    loaded = resolve.build(benchmark.data, f'{where}.data')
  except (ValueError, OSError) as e:
    words = str(e)
    raise ValueError(
      words if words.startswith(where) else f'{where}.data: {words}'
    ) from e
  if not isinstance(loaded, values.Loaded):
    raise ValueError(
      f'{where}.data: {benchmark.data["fn"]} gave {type(loaded).__name__}, '
      'expected evaluation.values.Loaded; name a source of '
      'acereason_jax.evaluation'
    )
  if not loaded.problems:
    raise ValueError(f'{where}.data: no problems; name files that have some')
  for problem in loaded.problems:
    _check(problem, f'{where}.data: id {problem.row.id!r:.60}')
  rows = [problem.row for problem in loaded.problems]
  counts = collections.Counter(row.id for row in rows)
  if twice := [name for name, count in counts.items() if count > 1]:
    raise ValueError(
      f'{where}.data: {len(twice)} ids occur twice, such as '
      f'{_named(twice)}; give each problem an id of its own'
    )
  count = len(rows) + len(loaded.missing)
  if benchmark.expect and count != benchmark.expect:
    raise ValueError(
      f'{where}: {count} problems in {", ".join(loaded.files) or "its data"}, '
      f'expected {benchmark.expect}; give the files that have them, or set '
      f'expect={count}'
    )
  return Ready(
    benchmark,
    loaded.problems,
    loaded.files,
    loaded.missing,
    sources.digest(dataclasses.replace(row, answer='') for row in rows),
    sources.digest(rows),
    loaded.humans,
  )


def _nearest(fn: str) -> str:
  """The source of this package that a name without its package means, or ''."""
  module, _, name = fn.partition(':')
  ours = f'{_SOURCES}.{module}'
  if not module.isidentifier() or not importlib.util.find_spec(ours):
    return ''
  if importlib.util.find_spec(module):
    return ''
  found = hasattr(importlib.import_module(ours), name)
  return f'{ours}:{name}' if found else ''


def _check(problem: values.Problem, where: str) -> None:
  """Raises ValueError for texts that a prompt or a result cannot hold."""
  row = problem.row
  groups = problem.strata.items()
  for name, text, most, printable in (
    ('id', row.id, questions.MAX_ID_CHARS, True),
    ('question', row.question, _QUESTION_CHARS, False),
    ('starter', row.starter, _QUESTION_CHARS, False),
    ('system', row.system or '', _QUESTION_CHARS, False),
    *((kind, text, _GROUP_CHARS, True) for kind, text in groups),
  ):
    bad = ''
    if len(text) > most:
      bad = f'has {len(text):,} characters, more than {most:,}'
    elif name in ('id', 'question') and not text.strip():
      bad = 'is blank'
    elif '\0' in text or (printable and not text.isprintable()):
      bad = f'has characters that cannot be printed, {text!r:.60}'
    elif any('\ud800' <= c <= '\udfff' for c in text):
      bad = 'has half a surrogate pair'
    if bad:
      raise ValueError(f'{where}: {name} {bad}; correct or remove the row')


def without_unreadable(
  ready: Ready, known: Sequence[tuple[str, str]] | None, count: int
) -> Ready:
  """Leaves out the problems whose answer some judge cannot read.

  `known` are the problems that an earlier start has left out; None asks the
  judges' `reference` functions, in `count` processes.

  Raises:
    ValueError: one line; problems are missing and may not be, or none is left.
  """
  missing = list(ready.missing) if known is None else [*map(tuple, known)]
  if known is None:
    bad: dict[str, str] = {}
    answers = list(dict.fromkeys(p.row.answer for p in ready.problems))
    for judge in _references(ready.benchmark):
      bad |= _unreadable(judge, answers, count)
    missing += [
      (p.row.id, f'its answer cannot be judged: {bad[p.row.answer]}')
      for p in ready.problems
      if p.row.answer in bad
    ]
  gone = {name for name, _ in missing}
  problems = tuple(p for p in ready.problems if p.row.id not in gone)
  where = f'config.benchmarks.{ready.benchmark.name}'
  total = len(problems) + len(missing)
  if missing and not ready.benchmark.allow_missing:
    told = '; '.join(
      terminal.one_line(f'{name}: {reason}', 2 * _SHOWN_CHARS)
      for name, reason in missing[:_SHOWN]
    )
    raise ValueError(
      f'{where}: {len(missing)} of {total} problems cannot be used: {told}'
      f'{"; ..." if len(missing) > _SHOWN else ""}; fix them, or set '
      'allow_missing=True to ask the others'
    )
  if not problems:
    raise ValueError(f'{where}: none of its {total} problems can be used')
  return ready._replace(problems=problems, missing=tuple(missing))


def _references(benchmark: values.Benchmark) -> Iterable[values.Judge]:
  """The judges that have a `reference`, one of each."""
  found = {j.reference: j for j in benchmark.judges.values() if j.reference}
  return found.values()


def _unreadable(
  judge: values.Judge, answers: Sequence[str], count: int
) -> dict[str, str]:
  try:
    pool = pool_lib.VerifierPool(
      judge.reference,
      {},
      min(count, len(answers)),
      judge.timeout_seconds,
      confine=judge.confine,
    )
  except (ValueError, RuntimeError) as e:
    raise ValueError(f'{judge.reference}: {e}') from e
  with pool:
    return references.unreadable(answers, pool)


def counted(ready: Ready) -> str:
  """'30', or '497/500' if problems are missing."""
  count = len(ready.problems)
  return (
    f'{count}/{count + len(ready.missing)}' if ready.missing else f'{count}'
  )


def left_out(ready: Ready) -> str:
  """The line for the problems that are left out."""
  names = references.first_few([name for name, _ in ready.missing])
  return (
    f'{ready.benchmark.name}: {counted(ready)} problems; left out: {names} '
    f'({terminal.one_line(ready.missing[0][1], _SHOWN_CHARS)})'
  )


def _named(names: Sequence[str]) -> str:
  return ', '.join(terminal.one_line(n, _SHOWN_CHARS) for n in names[:_SHOWN])
