"""The vote of a model's responses: is the reference what most of them say?

Answers are counted by what the judge calls equal. Those that it calls right are
one group, the reference's; the others are grouped among themselves, so 1/2 and
0.5 are one answer. A row stays if the group of its reference is larger than
every other.

A response without an answer has no vote, and neither has one whose verdict
failed. If the failed ones could have changed the outcome, the row is undecided:
a judge that fails never makes a reference wrong.

A vote is as good as its voters: a row that one model finds too hard looks like
a row with a wrong reference. The evidence of a disputed row has a response for
each answer, for a person to read.
"""

import collections
import dataclasses
import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from acereason_jax import types
from acereason_jax.data.curate import values
from acereason_jax.verifiers import votes

MATH = 'acereason_jax.verifiers.math:verify'
# Columns that the vote adds: verdicts, and what was asked.
RIGHT, JUDGED, RIGHT_AT, MODEL = 'right', 'judged', 'right_at', 'model'
DISPUTED, TIE, MINORITY, UNSOLVED = 'disputed', 'tie', 'minority', 'unsolved'
# Rows whose responses are in memory at a time.
_ROWS = 512
_SHOWN_GROUPS = 4
_SHOWN_ANSWER, _SHOWN_RESPONSE = 200, 2000


class Group(NamedTuple):
  """Responses that give one answer.

  answer: the answer of the first of them, cut short.
  response: the end of the first of them.
  votes: number of responses.
  """

  answer: str
  response: str
  votes: int


class Count(NamedTuple):
  """The votes on a row.

  asked: number of responses.
  right: indices of those that the judge calls right.
  judged: number that the judge read, with those that give no answer.
  failed: number of verdicts that failed.
  first_right: group of the right ones; None if there are none, or if these have
    won whatever the others say.
  others: other answers, the most frequent first; () if the right ones have won.
  most: votes that one other answer may have, where the judge took too long to
    compare some; None if it is `top`.
  """

  asked: int
  right: tuple[int, ...]
  judged: int
  failed: int
  first_right: Group | None
  others: tuple[Group, ...]
  most: int | None = None

  @property
  def top(self) -> int:
    """Votes for the most frequent other answer."""
    return self.others[0].votes if self.others else 0

  @property
  def unsure(self) -> int:
    """Votes against the reference that are not counted: verdicts failed."""
    return self.failed + max((self.most or 0) - self.top, 0)


class Rule(NamedTuple):
  """How votes decide.

  k: number of responses to a row; more are not read.
  ask: number of responses that are asked for at a time.
  majority: number of votes of which an answer needs more than half, to dispute
    a reference.
  """

  k: int
  ask: int
  majority: int


def vote(
  judge: str = MATH,
  arguments: Mapping[str, Any] = types.EMPTY,
  k: int = 8,
  ask: int = 4,
  majority: int = 0,
) -> values.Step:
  """Drops rows whose reference is not what most responses say.

  judge: 'module:function' that judges a response.
  arguments: its arguments, such as dict(reasons=False).
  k: number of responses to a row; more are not read.
  ask: number of responses that a row is given before it is looked at; a row
    that is decided is not asked again.
  majority: least number of votes that dispute a reference if more than half of
    them are for one other answer; 0 for more than half of k.

  The rows get the columns right, judged, right_at (places of the right
  responses) and model. Raises values.Missing where responses are missing.
  """
  if k < 1 or ask < 1 or majority < 0:
    raise ValueError(
      f'k={k}, ask={ask}, majority={majority}: give k and ask of at least 1, '
      'and a majority of 0 or more'
    )
  component = dict(arguments, fn=judge)
  if votes.reader(component) is None:
    raise ValueError(
      f'judge={judge!r}: has no answers to compare (its function has no '
      '`given`); give a judge of math'
    )
  rule = Rule(k, min(ask, k), majority or k // 2 + 1)
  return values.Step(
    'vote', whole=functools.partial(_whole, rule=rule, component=component)
  )


def _whole(
  rows: Sequence[values.Row],
  context: values.Context,
  rule: Rule,
  component: Mapping[str, Any],
) -> list[values.Fate]:
  attempts = {
    row.id: list(context.attempts.get(row.id, ()))[: rule.k]
    for row in rows
    if context.mine(row.id)
  }
  mine = [row for row in rows if row.id in attempts]
  counts = count(mine, attempts, context.judge, component, rule)
  _check_enough(mine, counts, rule)
  return [
    fate(row, attempts[row.id], counts[row.id], rule)
    if row.id in attempts
    else values.kept(row)
    for row in rows
  ]


def _check_enough(
  rows: Sequence[values.Row], counts: Mapping[str, Count], rule: Rule
) -> None:
  """Raises values.Missing for the rows that need responses first."""
  lacking = collections.defaultdict(list)
  for row in rows:
    if not is_decided(counts[row.id], rule):
      asked = counts[row.id].asked
      lacking[min(rule.k, asked - asked % rule.ask + rule.ask)].append(row)
  if lacking:
    n = min(lacking)
    raise values.Missing(lacking[n], n)


def is_decided(count: Count, rule: Rule) -> bool:
  """Whether a row needs no more responses.

  It has all, or so many are right that all others together could only tie.
  """
  left = rule.k - count.asked
  if left <= 0:
    return True
  if count.asked < rule.ask:
    return False
  return len(count.right) >= count.top + count.unsure + left


# --- counting ---------------------------------------------------------------


class _Asking:
  """The judge of a context, as votes.py asks it.

  late: keys of tasks for which the judge took too long.
  """

  def __init__(self, judge: Any, component: Mapping[str, Any]):
    self._judge, self._component = judge, component
    self.late: list[Any] = []

  def as_completed(
    self, tasks: Iterable[tuple[Any, str, str]]
  ) -> Iterator[tuple[Any, types.Verdict]]:
    tasks = list(tasks)
    pairs = [(response, answer) for _, response, answer in tasks]
    verdicts = self._judge(self._component, pairs) if pairs else []
    for (key, *_), verdict in zip(tasks, verdicts, strict=True):
      if verdict.status == 'timeout':
        self.late.append(key)
      yield key, verdict


def count(
  rows: Sequence[values.Row],
  attempts: Mapping[str, Sequence[values.Attempt]],
  judge: Any,
  component: Mapping[str, Any],
  rule: Rule,
) -> dict[str, Count]:
  """The votes on each row, by id; `judge` is that of a context.

  Some rows at a time, because texts may be many and long. Where the right
  responses have won whatever the others say, these are not compared.
  """
  found: dict[str, Count] = {}
  for start in range(0, len(rows), _ROWS):
    part = rows[start : start + _ROWS]
    found |= _count_some(part, attempts, judge, component, rule)
  return found


def _count_some(
  rows: Sequence[values.Row],
  attempts: Mapping[str, Sequence[values.Attempt]],
  judge: Any,
  component: Mapping[str, Any],
  rule: Rule,
) -> dict[str, Count]:
  texts = {row.id: [a.text for a in attempts[row.id]] for row in rows}
  # An attempt without a text is one that the engine could not make.
  pairs = [(text, row.answer) for row in rows for text in texts[row.id] if text]
  verdicts = iter(judge(component, pairs) if pairs else ())
  told = {
    name: [next(verdicts) if text else None for text in some]
    for name, some in texts.items()
  }
  read = votes.reader(component)
  found = {name: _judged(some) for name, some in told.items()}
  given = {
    name: [
      read(text) if v is not None and v.status == 'wrong' else None
      for text, v in zip(texts[name], told[name])
    ]
    for name, judged in found.items()
    if not _is_won(judged, rule)
  }
  asking = _Asking(judge, component)
  classes = votes.classes(asking, read, given)
  late = collections.defaultdict(list)
  for pair in asking.late:
    late[pair.problem].append((pair.text, pair.head))
  for name, answers in given.items():
    right = [texts[name][i] for i in found[name].right]
    first = (
      _group(read(right[0]) or '', right[0], len(right)) if right else None
    )
    found[name] = found[name]._replace(
      first_right=first,
      others=_groups(texts[name], answers, classes[name]),
      most=_most(answers, classes[name], late[name]),
    )
  return found


def _is_won(judged: Count, rule: Rule) -> bool:
  """Whether right ones win if all others, and all to come, are one answer."""
  right = len(judged.right)
  return right >= judged.asked - right + max(rule.k - judged.asked, 1)


def _most(
  given: Sequence[str | None],
  classes: Sequence[int | None],
  late: Sequence[tuple[str, str]],
) -> int | None:
  """The largest class if answers that were not compared were all equal."""
  if not late:
    return None
  number = dict(zip(given, classes))
  # A class -> the one that it may be.
  merged = {c: c for c in classes if c is not None}
  for pair in late:
    one, other = (merged[number[text]] for text in pair)
    merged = {c: one if m == other else m for c, m in merged.items()}
  sizes = collections.Counter(merged[c] for c in classes if c is not None)
  return max(sizes.values())


def _judged(verdicts: Sequence[types.Verdict | None]) -> Count:
  """The count of right responses; nothing of the others' groups."""
  made = [(i, v) for i, v in enumerate(verdicts) if v is not None]
  right = tuple(i for i, v in made if v.status == 'right')
  judged = sum(v.judged for _, v in made)
  failed = len(made) - judged
  return Count(len(verdicts), right, judged, failed, None, ())


def _groups(
  texts: Sequence[str],
  given: Sequence[str | None],
  classes: Sequence[int | None],
) -> tuple[Group, ...]:
  """The groups of equal answers, the largest first."""
  sizes = collections.Counter(c for c in classes if c is not None)
  groups = []
  # Equal numbers stay in the order of their first answers.
  for number, size in sorted(sizes.items(), key=lambda item: -item[1]):
    first = classes.index(number)
    groups.append(_group(given[first] or '', texts[first], size))
  return tuple(groups)


def _group(answer: str, response: str, size: int) -> Group:
  # The answer is at the end.
  return Group(answer[:_SHOWN_ANSWER], response[-_SHOWN_RESPONSE:], size)


def _shown(group: Group) -> dict[str, Any]:
  """A group for evidence."""
  return dict(
    answer=_safe(group.answer, _SHOWN_ANSWER),
    response=_safe(group.response, _SHOWN_RESPONSE),
    votes=group.votes,
  )


def _safe(text: str, most: int) -> str:
  """The start of a model's text, with what no file can hold spelled out."""
  text = text[:most].replace('\0', '\\x00')
  return text.encode('utf-8', 'backslashreplace').decode()


# --- fates ------------------------------------------------------------------


def fate(
  row: values.Row,
  attempts: Sequence[values.Attempt],
  count: Count,
  rule: Rule,
) -> values.Fate:
  """What the votes on a row mean for it."""
  row = dataclasses.replace(
    row, about=dict(row.about) | _about(attempts, count)
  )
  right, top = len(count.right), count.top
  if right > top + count.unsure:
    return values.kept(row)
  evidence = _evidence(row, count)
  if right > top or (count.failed and right + count.failed > top):
    return values.Fate(values.UNDECIDED, row, 'judge failed', evidence)
  return values.Fate(values.DROPPED, row, _reason(count, rule), evidence)


def _reason(count: Count, rule: Rule) -> str:
  right, top = len(count.right), count.top
  given = right + sum(group.votes for group in count.others)
  if not count.judged:
    return 'no response'
  if right and right == top:
    return TIE
  if given >= rule.majority and 2 * top > given:
    return DISPUTED
  return MINORITY if right else UNSOLVED


def _about(attempts: Sequence[values.Attempt], count: Count) -> dict[str, Any]:
  about = {
    RIGHT: len(count.right),
    JUDGED: count.judged,
    RIGHT_AT: list(count.right),
  }
  models = {attempt.model for attempt in attempts}
  # Counts of several models are those of none.
  if len(models) == 1 and (model := models.pop()):
    about[MODEL] = model
  return about


def _evidence(row: values.Row, count: Count) -> dict[str, Any]:
  """The counts, and a response for each answer."""
  groups = count.others[:_SHOWN_GROUPS]
  evidence = dict(
    reference=_safe(row.answer, _SHOWN_ANSWER),
    right=len(count.right),
    asked=count.asked,
    judged=count.judged,
    failed=count.failed,
    others=[_shown(group) for group in groups],
  )
  if count.first_right is not None:
    evidence['for_reference'] = _shown(count.first_right)
  return evidence
