r"""Benchmarks of questions and answers, from files as their packagers publish.

Each function is a source that a config names. `paths` are one or more files,
which are joined; a path may begin with hf://. A file is JSON lines, one JSON
array or Parquet. These load unchanged:

  source     files
  aime       HuggingFaceH4/aime_2024, Maxwell-Jia/AIME_2024, math-ai/aime25,
             MathArena/aime_2025, yentinglin/aime_2025, opencompass/AIME2025
             (two files), aime24 and aime25 of NeMo-Skills and of the toolkit
  matharena  MathArena/hmmt_feb_2025, brumo_2025 and other contests of theirs
  math500    HuggingFaceH4/MATH-500, Open-Reasoner-Zero's math500.json
  gsm8k      openai/grade-school-math's test.jsonl
  rows_of    others with a question and an answer; docs/data.md lists the names

Packages of one benchmark differ in their texts, so a result names the SHA-256
of each file.
"""

import dataclasses
import logging
import re
from collections.abc import Mapping, Sequence

from acereason_jax.data import questions, sources
from acereason_jax.evaluation import entries, values

_KNOWN = (
  '; formats known: those of acereason_jax/evaluation/files.py; rename the '
  'columns to problem and answer'
)
_GROUP_CHARS = 80
_SHOWN = 3
# Some packages write degrees or dollars.
_AIME_ANSWER = re.compile(r'\$?([0-9]{1,3})(?:°|\^\{?\\circ\}?)?\$?')
# 2024_AIME_II_Problems in an address, 2024-II-4 as an id, aime2025-II as a
# file's name.
_AIME_PAPER = re.compile(r'[-_](II|I)(?=[-_.]|$)')
_LAST_NUMBER = re.compile(r'(?<![0-9])[0-9]{1,3}$')
_AIME_ROWS, _PAPER_ROWS = 30, 15


def aime(paths: str | Sequence[str]) -> values.Loaded:
  """Problems of the AIME of one year; strata: paper, and problem_type.

  Answers lose leading zeros ('073' is '73') and a sign for degrees. The paper,
  I or II, is told by a row's address or id, or by the name of its file. If 30
  problems are counted from 0 or 1, the first 15 are of paper I.
  """
  read = entries.read(paths, ('problem_type', 'url'), known=_KNOWN)
  halves = _halves([e.row.id for e in read.entries])
  found = []
  for entry in read.entries:
    texts = dict(entry.texts)
    told = (texts.pop('url', ''), entry.row.id, entry.file)
    papers = [m[1] for m in map(_AIME_PAPER.search, told) if m]
    if paper := next(iter(papers), halves.get(entry.row.id)):
      texts['paper'] = paper
    answer = _AIME_ANSWER.fullmatch(entry.row.answer.strip())
    reason = ''
    if answer:
      row = dataclasses.replace(entry.row, answer=str(int(answer[1])))
      entry = entry._replace(row=row)
    elif entry.row.answer:
      reason = f'answer {entry.row.answer!r:.40} is no integer from 0 to 999'
    found.append((entry._replace(texts=texts), reason))
  return _loaded(found, read.files)


def matharena(paths: str | Sequence[str]) -> values.Loaded:
  """Problems of a contest as MathArena publishes it; strata: problem_type."""
  return rows_of(paths, strata=('problem_type',))


def math500(paths: str | Sequence[str]) -> values.Loaded:
  """MATH-500; strata: subject and level, where the file has them."""
  return rows_of(paths, strata=('subject', 'level'))


def gsm8k(paths: str | Sequence[str]) -> values.Loaded:
  """GSM8K; the answer is what follows '####' in a worked solution."""
  return rows_of(paths)


def rows_of(
  paths: str | Sequence[str],
  id: str = '',
  strata: Sequence[str] = (),
) -> values.Loaded:
  """Rows of files with a question and an answer; docs/data.md has the names.

  id: the column of ids; '' for the first of id, ID, unique_id and problem_idx
    that a row has, or else a hash of the question.
  strata: columns that group the problems.
  """
  read = entries.read(paths, strata, id, _KNOWN)
  return _loaded([(entry, '') for entry in read.entries], read.files)


def problems(rows: Sequence[questions.Row]) -> values.Loaded:
  """The rows of a training source as a benchmark, such as generated sums."""
  return values.Loaded(
    tuple(map(values.Problem, rows)), {'rows': sources.digest(rows)}
  )


def rows(benchmark: values.Loaded) -> list[questions.Row]:
  """The rows of a benchmark as a training source.

      heldout_data = dict(
        fn='acereason_jax.evaluation.files:rows',
        benchmark=dict(fn='acereason_jax.evaluation.files:aime', paths=...))

  Problems that cannot be used are left out, and logged.
  """
  if benchmark.missing:
    logging.warning(
      'left out %d problems that cannot be used: %s',
      len(benchmark.missing),
      '; '.join(f'{i}: {why}' for i, why in benchmark.missing[:_SHOWN]),
    )
  return [problem.row for problem in benchmark.problems]


def _halves(ids: Sequence[str]) -> dict[str, str]:
  """The paper of each id, if the last numbers of the ids count to 30."""
  numbers = [int(m[0]) for m in map(_LAST_NUMBER.search, ids) if m]
  first = min(numbers, default=-1)
  counted = [*range(first, first + _AIME_ROWS)]
  if (
    first not in (0, 1) or len(ids) != _AIME_ROWS or sorted(numbers) != counted
  ):
    return {}
  return {
    name: 'I' if number - first < _PAPER_ROWS else 'II'
    for name, number in zip(ids, numbers, strict=True)
  }


def _loaded(
  found: Sequence[tuple[entries.Entry, str]], files: Mapping[str, str]
) -> values.Loaded:
  """The problems without a reason against them, and those with one."""
  usable, missing = [], []
  for entry, reason in found:
    if reason or not entry.row.answer.strip():
      missing.append((entry.row.id, reason or 'it has no answer'))
    else:
      usable.append(values.Problem(entry.row, _strata(entry)))
  if not usable:
    name, reason = missing[0]
    raise ValueError(
      f'{", ".join(files)}: none of {len(missing):,} problems can be used; the '
      f'first, id {name!r:.60}: {reason}; is it a file of this benchmark?'
    )
  return values.Loaded(tuple(usable), files, tuple(missing))


def _strata(entry: entries.Entry) -> dict[str, str]:
  for kind, value in entry.texts.items():
    if len(value) > _GROUP_CHARS or not value.isprintable():
      raise ValueError(
        f'id {entry.row.id!r:.60}: {kind} is {value!r:.60}; expected at most '
        f'{_GROUP_CHARS} printable characters for a group of problems'
      )
  return dict(entry.texts)
