"""Asks prompts until it is decided what a filter makes of each.

The results of a prompt count in the order of their indices. The first of them
that decide (`filtering.decided`) are its results, whatever else was drawn. So
they depend on no timing: not on a kill, a judge's speed or the number of
processes.

Each process judges its share. Between chunks, and each second while judges
work, processes exchange their new statuses, and only these count. So all
processes drop the same requests. They exchange details, which decide nothing,
at the end.
"""

import collections
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from acereason_jax import types
from acereason_jax.curriculum import filtering, ledger
from acereason_jax.data import archive
from acereason_jax.hosts import watchdog
from acereason_jax.models import base
from acereason_jax.rl import objective
from acereason_jax.rollout import engine as engine_lib
from acereason_jax.rollout import judging, requests
from acereason_jax.rollout import trace as trace_lib
from acereason_jax.run import answers, collect, judged, metrics
from acereason_jax.run import journal as journal_lib
from acereason_jax.run.values import Tools

# (prompt id, index)
Key = tuple[str, int]


class Question(NamedTuple):
  """Why prompts are asked.

  stage: name of the stage that asks. The journal keeps its results apart: a
    stage that ended at once asked at the same step.
  filter: what is to be decided, after at most `filter.of` rollouts of a prompt.
  rules: rules for the rewards of the stage.
  batch: failed verdicts are a share of at least so many: of a few, one that
    failed would be a large share.
  every: number of decided prompts after which a line is printed.
  """

  stage: str
  filter: filtering.Filter
  rules: objective.Rules
  batch: int
  every: int


def decide(
  engine: engine_lib.Engine,
  params: Callable[[], base.Tree],
  prompts: Sequence[types.Prompt],
  tools: Tools,
  asking: collect.Asking,
  question: Question,
  expected: Mapping[str, float] = types.EMPTY,
) -> dict[str, list[answers.Answer]]:
  """The first answers of each prompt that decide, by its id.

  Earlier prompts are asked first. They are of one domain. All rollouts are of
  one stream, so only its end has empty slots. The journal keeps the answer of
  each rollout, without its tokens: what was judged is not asked again. For
  `expected` see `requests.Request`, by id.

  Raises:
    signals.Asked: between chunks, or while judges work.
    judged.JudgeFailed: too many verdicts failed.
  """
  limit = engine.sizes.max_tokens
  asked = requests.for_prompts(prompts, question.filter.of, limit)
  earlier = read(question, asking, asked, tools.journal.found)
  if earlier:
    metrics.say(
      f'stage {question.stage}: {len(earlier):,} verdicts are in the journal'
    )
  board = _Board(asked, tools, asking, question, earlier)
  missing = [
    request._replace(expected=expected.get(request.prompt.id, math.inf))
    for request in in_order(asked, filtering.fewest(question.filter))
    if request.prompt.id in board.open and request.key not in earlier
  ]
  if missing:
    _ask(engine, params(), missing, board)
  board.share_details()
  board.note_failed(earlier)
  return board.results()


def in_order(
  asked: Sequence[Sequence[requests.Request]], fewest: int
) -> list[requests.Request]:
  """All requests; `asked` holds those of each prompt.

  No prompt is decided before `fewest` of its rollouts. These come first, prompt
  by prompt, since they share its pages. Then come the next of each prompt, and
  so on, because they may turn out to be superfluous.
  """
  first = [request for group in asked for request in group[:fewest]]
  later = zip(*(group[fewest:] for group in asked))
  return first + [request for wave in later for request in wave]


def _ask(
  engine: engine_lib.Engine,
  params: base.Tree,
  missing: Sequence[requests.Request],
  board: '_Board',
) -> None:
  """Asks until all prompts are decided. Raises: see `decide`."""
  stop, waiting, trace = board.tools.stop, board.waiting, trace_lib.Trace()
  seed, step = board.asking.origin

  def between_chunks() -> set[str]:
    # A stream of a whole data set would keep millions.
    trace.events.clear()
    return board.exchange(engine.sizes.slots)

  stop.heed()
  stream = engine.stream(
    params,
    missing,
    seed=seed,
    step=step,
    temperature=board.asking.temperature,
    trace=trace,
    until=stop.agreed,
    unwanted=between_chunks,
  )
  with watchdog.phase('sample', id(engine)):
    for rollout, verdict in judging.judged(stream, board.judge, waiting):
      board.take(rollout, verdict)
  stop.heed()

  def each_second() -> None:
    board.exchange(engine.sizes.slots)
    watchdog.progress()
    stop.heed()

  with watchdog.phase('judge'):
    for rollout, verdict in judging.late(waiting, board.patience, each_second):
      board.take(rollout, verdict)
    # As many rounds as the process does that waits longest.
    while board.open:
      each_second()


class _Board:
  """The answers that all processes know, and those on their way to it.

  rows: by prompt, its answers by index, None where there is none yet.
  open: the prompts that are not decided yet.
  drawn: rollouts without a known verdict: their answers by its status.
  details: details of this process's verdicts, by the place of the request. The
    answers have them, and those of others, after `share_details`.
  fresh: (place of the request, code of the status) that others do not know yet.
  waiting: rollouts of this process whose verdicts are missing.
  """

  def __init__(
    self,
    asked: Sequence[Sequence[requests.Request]],
    tools: Tools,
    asking: collect.Asking,
    question: Question,
    earlier: Mapping[Key, answers.Answer],
  ):
    self.tools, self.asking, self.question = tools, asking, question
    self.requests = [request for group in asked for request in group]
    self.place = {r.key: i for i, r in enumerate(self.requests)}
    self.rows: dict[str, list[answers.Answer | None]] = {
      group[0].prompt.id: [None] * len(group) for group in asked
    }
    self.open = set(self.rows)
    self.drawn: dict[Key, Mapping[types.Status, answers.Answer]] = {}
    self.details: dict[int, str] = {}
    self.fresh: collections.deque[tuple[int, int]] = collections.deque()
    self.waiting: judging.Waiting = {}
    self.known = self.failed = self.broken = 0
    for key, answer in earlier.items():
      self._add(key, answer)

  def judge(self, rollout: types.Rollout) -> judging.Answer:
    """The `judge` of `judging.judged`."""
    prompt_id, _ = rollout.key
    if prompt_id not in self.open:
      return None
    self.drawn[rollout.key] = answers.possible(rollout, self.question.rules)
    self.broken += rollout.stop == 'error'
    place = self.place[rollout.key]
    if place % jax.process_count() != jax.process_index():
      return None
    if rollout.stop == 'error':
      return types.Verdict('error', rollout.detail, 0.0)
    prompt = self.requests[place].prompt
    pool = self.tools.judges[prompt.domain].pool
    return pool.submit(rollout.text, prompt.answer)

  def patience(self, rollout: types.Rollout) -> judging.Patience:
    """The `patience` of `judging.late`."""
    domain = self.requests[self.place[rollout.key]].prompt.domain
    return judging.Patience(domain, self.tools.judges[domain].batch_seconds)

  def take(self, rollout: types.Rollout, verdict: types.Verdict | None) -> None:
    """Takes a verdict of this process; the journal keeps it if it judged."""
    if verdict is None or rollout.prompt_id not in self.open:
      return
    place = self.place[rollout.key]
    detail = verdict.detail[: archive.DETAIL_CHARS]
    self.details[place] = detail
    if verdict.judged:
      answer = self.drawn[rollout.key][verdict.status]
      self._note(rollout.key, answer._replace(detail=detail))
    self.fresh.append((place, types.STATUSES.index(verdict.status)))

  def exchange(self, most: int) -> set[str]:
    """Exchanges up to `most` statuses of each process; all call it together.

    Returns the prompts that they decided.

    Raises:
      judged.JudgeFailed: too many verdicts failed.
    """
    count = min(most, len(self.fresh))
    fresh = [self.fresh.popleft() for _ in range(count)]
    closed = set()
    for place, code in _everyones(fresh, most):
      key = self.requests[place].key
      drawn = self.drawn.pop(key, None)
      if drawn is not None and self._add(key, drawn[types.STATUSES[code]]):
        closed.add(key[0])
    self._check_judged()
    for prompt_id in closed:
      for index in range(len(self.rows[prompt_id])):
        self.drawn.pop((prompt_id, index), None)
    for future in [f for f, r in self.waiting.items() if r.prompt_id in closed]:
      del self.waiting[future]
      future.cancel()
    self._say(len(closed))
    return closed

  def results(self) -> dict[str, list[answers.Answer]]:
    """The answers that decide, by prompt; all are decided."""
    return {
      prompt_id: row[: len(self._deciding(row))]
      for prompt_id, row in self.rows.items()
    }

  def share_details(self) -> None:
    """Gives answers the details of all processes, which all call it."""
    for place, detail in collect.share_details(self.details).items():
      prompt_id, index = self.requests[place].key
      if (answer := self.rows[prompt_id][index]) is not None:
        self.rows[prompt_id][index] = answer._replace(detail=detail)
    self.details.clear()

  def note_failed(self, earlier: Mapping[Key, answers.Answer]) -> None:
    """Notes failed verdicts that count: another try would not ask again.

    Before the end they are not noted, so that a judge that was fixed is asked.
    """
    if jax.process_index() == 0:
      for prompt_id, found in self.results().items():
        for index, answer in enumerate(found):
          if not answer.result.judged and (prompt_id, index) not in earlier:
            self._note((prompt_id, index), answer)

  def _add(self, key: Key, answer: answers.Answer) -> bool:
    """Adds an answer that all know; returns whether it decided its prompt."""
    prompt_id, index = key
    row = self.rows[prompt_id]
    row[index] = answer
    self.known += 1
    self.failed += not answer.result.judged
    if prompt_id not in self.open or self._deciding(row) is None:
      return False
    self.open.remove(prompt_id)
    return True

  def _deciding(
    self, row: Sequence[answers.Answer | None]
  ) -> Sequence[ledger.Result] | None:
    results = [answer and answer.result for answer in row]
    return filtering.deciding(self.question.filter, results)

  def _note(self, key: Key, answer: answers.Answer) -> None:
    phase, step = _phase(self.asking, self.question), self.asking.step
    self.tools.journal.verdict(phase, step, *key, answers.to_note(answer))

  def _check_judged(self) -> None:
    domain = self.requests[0].prompt.domain
    share = self.tools.judges[domain].max_failed_share
    total = max(self.known, self.question.batch)
    if self.failed > share * total:
      # All processes are here: they know the same statuses.
      self.share_details()
      raise judged.judge_failed(
        self.failed, self.known, share, self.broken, *self._first_failed()
      )

  def _first_failed(self) -> tuple[str, types.Verdict]:
    """(prompt id, verdict) of the first answer that the judge failed on."""
    return next(
      (prompt_id, types.Verdict(a.result.status, a.detail, 0.0))
      for prompt_id, row in self.rows.items()
      for a in row
      if a is not None and not a.result.judged
    )

  def _say(self, closed: int) -> None:
    """Prints how many prompts are decided, after each `every` of them."""
    done, every = len(self.rows) - len(self.open), self.question.every
    if done // every > (done - closed) // every or (closed and not self.open):
      metrics.say(
        f'stage {self.question.stage}: {done:,} of {len(self.rows):,} prompts '
        f'decided, after {self.known:,} verdicts'
      )


def _everyones(
  mine: Sequence[tuple[int, int]], most: int
) -> Iterable[tuple[int, int]]:
  """The pairs of all processes, each of which gives at most `most`."""
  if jax.process_count() == 1:
    return mine
  pairs = np.full((most, 2), -1, np.int32)
  pairs[: len(mine)] = np.reshape(mine, (-1, 2))
  with watchdog.phase('exchange'):
    every = multihost_utils.process_allgather(pairs).reshape(-1, 2)
  return map(tuple, every[every[:, 0] >= 0].tolist())


def _phase(asking: collect.Asking, question: Question) -> str:
  """The phase of a stage's probe in the journal."""
  return f'{asking.phase} {question.stage}'


def read(
  question: Question,
  asking: collect.Asking,
  asked: Sequence[Sequence[requests.Request]],
  found: Mapping[journal_lib.Key, journal_lib.Entry],
) -> dict[Key, answers.Answer]:
  """The answers that an interrupted try left in the journal."""
  known, phase = {}, _phase(asking, question)
  for request in (request for group in asked for request in group):
    key = journal_lib.Key(phase, asking.step, *request.key)
    if (entry := found.get(key)) is None:
      continue
    if (answer := answers.from_note(entry.verdict)) is not None:
      known[request.key] = answer
  return known
