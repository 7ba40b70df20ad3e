"""Answers of a probe: what its journal and the run's rows keep of a rollout.

A probe may draw a million rollouts, so an answer has neither text nor tokens.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from acereason_jax import types
from acereason_jax.curriculum import ledger
from acereason_jax.data import archive
from acereason_jax.rl import objective


class Answer(NamedTuple):
  """A rollout of a probe and its verdict.

  result: its result, for the filter and the ledger.
  detail: the judge's reason, cut.
  reward: reward by the rules of the stage; nan where the judge failed.
  stop: 'stop', 'length' or 'error'.
  logp: sum of the sampler's logp, nats.
  entropy: sum of the sampler's entropies, nats.
  """

  result: ledger.Result
  detail: str
  reward: float
  stop: str
  logp: float
  entropy: float


class Probe(NamedTuple):
  """The answers of a stage's probe in one domain.

  stage: name of the stage.
  answers: (prompt, its first answers, as many as decide), in order.
  """

  stage: str
  answers: Sequence[tuple[types.Prompt, Sequence[Answer]]]


def possible(
  rollout: types.Rollout, rules: objective.Rules
) -> Mapping[types.Status, Answer]:
  """What a rollout will be once it has a verdict, by its status."""
  logp = float(rollout.logp.sum(dtype=np.float64))
  found = {}
  for status in types.STATUSES:
    verdict = types.Verdict(status, '', 0.0)
    reward = math.nan
    if verdict.judged:
      reward = objective.reward(rollout, verdict, rules)
    result = ledger.result(rollout, verdict, rules)
    result = result._replace(solved=status == 'right' and result.solved)
    found[status] = Answer(
      result, '', reward, rollout.stop, logp, rollout.entropy
    )
  return found


def to_note(answer: Answer) -> types.Verdict:
  """The answer as the journal keeps it."""
  status, *rest = answer.result
  # Not escaped, because two lone surrogates would be read back as one letter.
  note = json.dumps([*rest, *answer[1:]], ensure_ascii=False)
  return types.Verdict(status, note, 0.0)


def from_note(note: types.Verdict) -> Answer | None:
  """The answer of a note; None for one of an older version.

  That has too little for a row, so its rollout is drawn again.
  """
  match json.loads(note.detail):
    case [tokens, truncated, solved, *rest] if len(rest) == 5:
      result = ledger.Result(note.status, tokens, truncated, solved)
      return Answer(result, *rest)
  return None


def rows(probes: Iterable[Probe], step: int) -> Iterator[archive.Row]:
  """A row of each answer, in order; the probes were made after `step`."""
  for probe in probes:
    for prompt, answers in probe.answers:
      for index, answer in enumerate(answers):
        yield archive.Row(
          step=step,
          phase=archive.PROBE,
          stage=probe.stage,
          domain=prompt.domain,
          prompt=prompt.id,
          index=index,
          status=answer.result.status,
          detail=answer.detail,
          reward=answer.reward,
          solved=answer.result.solved,
          advantage=math.nan,
          counted=False,
          trained=False,
          length=answer.result.tokens,
          stop=answer.stop,
          logp=answer.logp,
          entropy=answer.entropy,
          kept='',
        )
