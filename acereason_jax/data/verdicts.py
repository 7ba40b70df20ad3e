"""Verdicts on a file of rollouts: counted, timed, and written as JSON lines."""

import collections
import heapq
import itertools
import json
import typing
from collections.abc import Iterable, Iterator
from typing import TextIO

from acereason_jax import types
from acereason_jax.console import terminal
from acereason_jax.data import rollouts
from acereason_jax.verifiers.pool import pool as pool_lib

# Characters of an explanation that are shown; its middle is cut.
EXPLAINED_CHARS = 16_000
_NAME_CHARS = 80
_SLOWEST = 5


class Tally:
  """Counts verdicts and, if there is a file for them, writes them to it."""

  def __init__(self, file: TextIO | None):
    self._file = file
    self._order = itertools.count()
    # A heap of (seconds, order of arrival, line): the slowest few.
    self._slowest: list[tuple[float, int, str]] = []
    self.counts: collections.Counter[str] = collections.Counter()

  def add(self, response: rollouts.Response, verdict: types.Verdict) -> None:
    self.counts[verdict.status] += 1
    name = terminal.one_line(response.name, _NAME_CHARS)
    line = f'{verdict.seconds:.3f} s {name} {verdict.status}'
    heapq.heappush(self._slowest, (verdict.seconds, next(self._order), line))
    if len(self._slowest) > _SLOWEST:
      heapq.heappop(self._slowest)
    if self._file is not None:
      record = dict(
        id=response.id,
        index=response.index,
        status=verdict.status,
        detail=verdict.detail,
        seconds=round(verdict.seconds, 4),
      )
      if response.step is not None:
        record['step'] = response.step
      self._file.write(json.dumps(record) + '\n')

  def summary(self) -> str:
    """Counts, the pass rate and the slowest verdicts, one line each."""
    found = {s: self.counts[s] for s in typing.get_args(types.Status)}
    judged = found['right'] + found['wrong'] + found['unparsed']
    rate = f'{found["right"] / judged:.1%}' if judged else 'none'
    slowest = [line for _, _, line in sorted(self._slowest, reverse=True)]
    return '\n'.join(
      [
        '  '.join(f'{status} {count}' for status, count in found.items()),
        f'pass rate {rate} of {judged} judged',
        f'slowest: {", ".join(slowest)}',
      ]
    )


def judge(
  responses: Iterable[rollouts.Response],
  pool: pool_lib.VerifierPool,
  file: TextIO | None,
) -> Tally:
  """Judges all responses and holds only a few of them at a time.

  A rollout without a response counts as an error and asks no judge.
  """
  tally = Tally(file)

  def asked() -> Iterator[tuple[rollouts.Response, str, str]]:
    for response in responses:
      # The pool keeps the key while it judges, so the key omits the text.
      key = response._replace(text='', answer='')
      if response.broken is not None:
        tally.add(key, types.Verdict('error', response.broken, 0.0))
      else:
        yield key, response.text, response.answer

  for key, verdict in pool.as_completed(asked()):
    tally.add(key, verdict)
  return tally
