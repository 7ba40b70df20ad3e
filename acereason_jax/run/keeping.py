"""What a run keeps of judged rollouts: a row of each, and texts of some groups.

Pure functions: the same groups give the same rows, texts and choice on every
process and in every replay. run/keeper.py writes them.

Of a probe, which may ask for hundreds of thousands of rollouts, only rows are
kept; see run/answers.py.
"""

import hashlib
import itertools
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from acereason_jax import types
from acereason_jax.data import archive
from acereason_jax.models import characters as characters_lib
from acereason_jax.rl import objective as objective_lib
from acereason_jax.run import scoring

Key = scoring.Key
HELDOUT = 'heldout'
DRAWN = 'drawn'
# Its id, its characters and three codes.
_TOKEN_BYTES = 4 + 2 + 3


class Training(NamedTuple):
  """How a step trained on some of its groups.

  objective: the objective of the stage.
  groups: groups of the batch.
  keys: rollouts that have a gradient.
  scores: the trainer's numbers of rollouts whose texts are kept, as far as they
    were trained on.
  """

  objective: objective_lib.Objective
  groups: Sequence[types.Group]
  keys: Collection[Key]
  scores: Mapping[Key, scoring.Score]


class Kept(NamedTuple):
  """The rollouts of a file, as they are before they become bytes.

  place: name of the file.
  stage: name of the stage; '' before the first.
  groups: all judged groups, in order.
  reasons: why the texts of a group are kept, one of `archive.REASONS`, by the
    group's place in `groups`.
  training: how they were trained on; None for held-out answers.
  """

  place: archive.Place
  stage: str
  groups: Sequence[types.Group]
  reasons: Mapping[int, str]
  training: Training | None


def choose(
  groups: Sequence[types.Group],
  unsolved: Collection[str],
  *,
  seed: int,
  step: int,
  count: int,
  rules: objective_lib.Rules,
) -> dict[int, str]:
  """Why the texts of a group are kept, by its place; other groups' are not.

  `count` groups are drawn by a hash of (seed, step, prompt id); 0: nothing is
  kept. Each reason of a table below adds at most one more. A group with several
  reasons has the first of them. `unsolved` are the ids of prompts that were
  judged before and never solved.
  """
  if not count:
    return {}
  holds = dict(
    first_solved=lambda g: g.prompt.id in unsolved and _is_solved(g, rules),
    failed=lambda g: not all(v.judged for v in g.verdicts),
    truncated=lambda g: any(r.stop == 'length' for r in g.rollouts),
    wrong=lambda g: all(v.judged and v.status != 'right' for v in g.verdicts),
    mixed=lambda g: 0 < _right(g) < sum(v.judged for v in g.verdicts),
    drawn=lambda g: True,
  )
  chosen: dict[int, str] = {}
  for reason in archive.REASONS:
    if reason in holds:
      able = [i for i, group in enumerate(groups) if holds[reason](group)]
      # Each reason has its own order. Otherwise those that are drawn would be
      # those that are kept for a reason.
      able.sort(key=lambda i: _hash(seed, step, groups[i].prompt.id, reason))
      for i in able[: count if reason == DRAWN else 1]:
        chosen.setdefault(i, reason)
  return dict(sorted(chosen.items()))


def heldout(
  place: archive.Place, stage: str, groups: Sequence[types.Group]
) -> Kept:
  """Held-out answers; the texts of all of them are kept."""
  reasons = dict.fromkeys(range(len(groups)), HELDOUT)
  return Kept(place, stage, groups, reasons, None)


def keys(groups: Sequence[types.Group], places: Collection[int]) -> set[Key]:
  """The rollouts of the groups at these places."""
  return {r.key for i in places for r in groups[i].rollouts}


def rows(kept: Kept) -> Iterator[archive.Row]:
  """A row of each rollout, in order."""
  batch = _batch(kept.training)
  for i, group in enumerate(kept.groups):
    for rollout, verdict in zip(group.rollouts, group.verdicts):
      advantage, counted = batch.get(rollout.key, (np.nan, False))
      reward = _reward(rollout, verdict, kept.training)
      yield archive.Row(
        step=kept.place.step,
        phase=kept.place.phase,
        stage=kept.stage,
        domain=group.prompt.domain,
        prompt=rollout.prompt_id,
        index=int(rollout.index),
        status=verdict.status,
        detail=verdict.detail[: archive.DETAIL_CHARS],
        reward=reward,
        solved=verdict.status == 'right' and reward > 0,
        advantage=float(advantage),
        counted=bool(counted),
        trained=bool(kept.training and rollout.key in kept.training.keys),
        length=len(rollout.tokens),
        stop=rollout.stop,
        logp=float(rollout.logp.sum(dtype=np.float64)),
        entropy=rollout.entropy,
        kept=kept.reasons.get(i, ''),
      )


def texts(
  kept: Kept, characters: characters_lib.Characters
) -> list[archive.Text]:
  """The texts of the rollouts of chosen groups, in order.

  The last groups are left out of a file that would be too large to be read.
  """
  scores = kept.training.scores if kept.training else {}
  groups = [kept.groups[i] for i in kept.reasons]
  ends = itertools.accumulate(map(_most_bytes, groups))
  return [
    _text(group.prompt, rollout, scores.get(rollout.key), characters)
    for group, end in zip(groups, ends)
    if end <= archive.MOST_TEXT_BYTES
    for rollout in group.rollouts
  ]


def _most_bytes(group: types.Group) -> int:
  """Bytes that the texts of a group take at most, unpacked."""
  prompt, size = group.prompt, lambda text: len(archive.safe(text).encode())
  around = sum(map(size, (prompt.id, prompt.question, prompt.answer)))
  return sum(
    around + size(r.text) + _TOKEN_BYTES * len(r.tokens) for r in group.rollouts
  )


def _text(
  prompt: types.Prompt,
  rollout: types.Rollout,
  score: scoring.Score | None,
  characters: characters_lib.Characters,
) -> archive.Text:
  entropy = mismatch = None
  if score is not None:
    entropy = archive.ENTROPY.codes(score.entropy)
    mismatch = archive.MISMATCH.codes(score.mismatch)
  return archive.Text(
    prompt=rollout.prompt_id,
    index=int(rollout.index),
    question=prompt.question,
    answer=prompt.answer,
    text=rollout.text,
    tokens=rollout.tokens,
    characters=characters.of(rollout.tokens, rollout.text),
    surprise=archive.SURPRISE.codes(-rollout.logp),
    entropy=entropy,
    mismatch=mismatch,
  )


def _batch(training: Training | None) -> dict[Key, tuple[float, bool]]:
  """(advantage, whether it counts) of each rollout of the batch."""
  if training is None or not training.groups:
    return {}
  found = objective_lib.advantages_of(training.groups, training.objective)
  counts = objective_lib.counted(training.groups, training.objective.rules)
  return {
    rollout.key: pair
    for group, advs, counted in zip(training.groups, found, counts)
    for rollout, *pair in zip(group.rollouts, advs, counted)
  }


def _reward(
  rollout: types.Rollout, verdict: types.Verdict, training: Training | None
) -> float:
  if not verdict.judged:
    return np.nan
  if training is None:
    return verdict.reward
  return objective_lib.reward(rollout, verdict, training.objective.rules)


def _is_solved(group: types.Group, rules: objective_lib.Rules) -> bool:
  return any(
    v.status == 'right' and objective_lib.reward(r, v, rules) > 0
    for r, v in zip(group.rollouts, group.verdicts)
  )


def _right(group: types.Group) -> int:
  return sum(v.status == 'right' for v in group.verdicts)


def _hash(*parts: int | str) -> bytes:
  text = json.dumps(parts)
  return hashlib.sha256(text.encode()).digest()
