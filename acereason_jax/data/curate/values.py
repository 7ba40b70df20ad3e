"""The host values of curation: rows, what becomes of them, and steps."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from acereason_jax import types

KEPT, CHANGED, DROPPED, UNDECIDED = 'kept', 'changed', 'dropped', 'undecided'


@dataclasses.dataclass(frozen=True)
class Row:
  """A question with its reference, from its source to training.

  id: unique; made once from source and content, and never changed.
  problem: the question.
  answer: the reference answer, or a code task as JSON or by reference.
  source: name of the input that it came from.
  url: address of the problem, '' for none.
  date: day on which it was published, YYYY-MM-DD, or only the month YYYY-MM or
    the year YYYY; '' if unknown.
  starter: code that a program must begin with, '' for none.
  solutions: programs that its source accepted.
  wrong: programs that its source refused.
  difficulty: a number, None if unknown.
  about: columns that steps add, JSON values: tokens, right, judged, flags.
  """

  id: str
  problem: str
  answer: str
  source: str = ''
  url: str = ''
  date: str = ''
  starter: str = ''
  solutions: tuple[str, ...] = ()
  wrong: tuple[str, ...] = ()
  difficulty: float | None = None
  about: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class Fate(NamedTuple):
  """What a step did with a row.

  kind: 'undecided' if a judge failed twice: the row leaves, and is listed.
  row: the row afterwards; as it was if it was dropped.
  reason: a word or two that counts are made of; '' if it was kept.
  evidence: JSON values that show why: what matched, where, which counts.
  """

  kind: Literal['kept', 'changed', 'dropped', 'undecided']
  row: Row
  reason: str = ''
  evidence: Mapping[str, Any] = types.EMPTY


class Item(NamedTuple):
  """A problem of a benchmark that no training row may be like.

  benchmark: name of the benchmark.
  id: id of the problem in its file.
  text: its statement.
  url: address of the problem, '' for none.
  title: name of the problem, '' for none.
  """

  benchmark: str
  id: str
  text: str
  url: str = ''
  title: str = ''


class Attempt(NamedTuple):
  """A model's response to a row's question.

  text: the response.
  tokens: its length; None if unknown.
  model: name of the model, '' if unknown.
  """

  text: str
  tokens: int | None = None
  model: str = ''


class Context(NamedTuple):
  """What steps may use besides their rows.

  seed: seed of all choices, which are made by hashes of ids.
  items: problems of all benchmarks, each once.
  attempts: responses by row id; () for rows without any.
  judge: (component of a judge, [(response, answer)]) -> verdicts; what was
    judged before comes from `state/`, and a verdict that failed was asked for
    twice.
  remember: (name of a kind, key, make) -> value: JSON that `make()` gave for
    that key once, from `state/`.
  count_tokens: texts -> tokens of each by the named tokenizer.
  mine: whether this shard does the costly work of a row id.
  """

  seed: int
  items: Sequence[Item]
  attempts: Mapping[str, Sequence[Attempt]]
  judge: Callable[
    [Mapping[str, Any], Sequence[tuple[str, str]]], list[types.Verdict]
  ]
  remember: Callable[[str, str, Callable[[], Any]], Any]
  count_tokens: Callable[[Sequence[str]], list[int]]
  mine: Callable[[str], bool]


class Step(NamedTuple):
  """A rule. One of `each` and `whole` is given.

  name: its name in reports.
  each: row -> fate; runs in several processes, so it is a function of a module
    or a partial of one.
  whole: (rows, context) -> a fate for each row, in their order; it must not
    depend on that order.
  """

  name: str
  each: Callable[[Row], Fate] | None = None
  whole: Callable[[Sequence[Row], Context], Sequence[Fate]] | None = None


class Missing(Exception):
  """Raised by a step: rows need responses that are not there.

  The command writes the rows' questions to prompts.jsonl, says how they are
  answered, and can go on when they are.

  rows: the rows.
  n: number of responses that each should have then.
  """

  def __init__(self, rows: Sequence[Row], n: int):
    super().__init__(f'{len(rows):,} rows lack responses')
    self.rows = tuple(rows)
    self.n = n


def kept(row: Row) -> Fate:
  return Fate(KEPT, row)


def dropped(row: Row, reason: str, **evidence: Any) -> Fate:
  return Fate(DROPPED, row, reason, evidence)
