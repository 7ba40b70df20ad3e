"""What the right responses to a row say of it: their length, and how many.

Both come after `vote`, which adds the columns that they read. A row of another
shard has none and stays.
"""

import dataclasses
import functools
import hashlib
import itertools
import json
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from acereason_jax.data.curate import values
from acereason_jax.data.curate import vote as vote_lib

TOKENS = 'tokens'
# Responses whose stored lengths are compared with the tokenizer's.
_CHECKED = 64
# A model may spell a text in more tokens than its tokenizer would, and the
# stored number counts the token that ended the response.
_TOLERANCE = 0.1


def length(
  least: int = 2000, most: int = 4000, share: float = 0.5
) -> values.Step:
  """Drops rows that are answered in few tokens.

  least: rows whose right responses have a smaller median length are dropped
    (2,000 in arXiv 2505.16400).
  most: of the others, those below this one are kept with a `share`, by a hash
    of their ids.

  The rows get the column tokens, the median. Tokens are counted by
  config.tokenizer where responses do not tell their number.
  """
  if not 0 <= least <= most:
    raise ValueError(f'least={least}, most={most}: give 0 <= least <= most')
  if not 0 <= share <= 1:
    raise ValueError(f'share={share}: give 0.0 to 1.0')
  each = functools.partial(_of_length, least=least, most=most, share=share)
  return values.Step('length', whole=functools.partial(_lengths, each=each))


def difficulty(k: int = 8) -> values.Step:
  """Writes the difficulty: failures of k, by the share that failed.

  `filter.max_difficulty` of a stage reads it.
  """
  if k < 1:
    raise ValueError(f'k={k}: give at least 1')
  return values.Step('difficulty', whole=functools.partial(_difficulties, k=k))


def _difficulties(
  rows: Sequence[values.Row], context: values.Context, k: int
) -> list[values.Fate]:
  fates = []
  for row in rows:
    if _is_counted('difficulty', row, context) and row.about[vote_lib.JUDGED]:
      right, judged = row.about[vote_lib.RIGHT], row.about[vote_lib.JUDGED]
      failures = k * (judged - right) / judged
      row = dataclasses.replace(row, difficulty=failures)
    fates.append(values.kept(row))
  return fates


def _is_counted(step: str, row: values.Row, context: values.Context) -> bool:
  """Whether the vote has counted a row. Raises ValueError if it should."""
  if vote_lib.RIGHT_AT in row.about:
    return True
  if context.mine(row.id):
    raise ValueError(
      f'step {step}: row {row.id!r:.60} has no column {vote_lib.RIGHT_AT!r}; '
      'put the step acereason_jax.data.curate.vote:vote before it'
    )
  return False


def _lengths(
  rows: Sequence[values.Row],
  context: values.Context,
  each: Callable[[values.Row, float, int], values.Fate],
) -> list[values.Fate]:
  _check_tokenizer(rows, context)
  fates = []
  for row in rows:
    tokens = []
    if _is_counted('length', row, context):
      tokens = _tokens(_right(row, context), context)
    if tokens:
      fates.append(each(row, statistics.median(tokens), context.seed))
    else:
      fates.append(values.kept(row))
  return fates


def _of_length(
  row: values.Row,
  tokens: float,
  seed: int,
  least: int,
  most: int,
  share: float,
) -> values.Fate:
  about: dict[str, Any] = dict(row.about) | {TOKENS: float(tokens)}
  row = dataclasses.replace(row, about=about)
  if tokens < least:
    return values.dropped(row, 'short', tokens=tokens, least=least)
  if tokens < most and (luck := chance(seed, row.id)) >= share:
    evidence = dict(tokens=tokens, most=most, share=share, chance=luck)
    return values.dropped(row, 'sampled out', **evidence)
  return values.kept(row)


def chance(seed: int, row_id: str) -> float:
  """A number in [0, 1) for a row, whatever other rows there are."""
  # Not `random` or numpy: their streams may change with their versions.
  text = json.dumps([seed, 'length', row_id])
  return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6]) / 2**48


def _right(row: values.Row, context: values.Context) -> list[values.Attempt]:
  attempts = context.attempts[row.id]
  return [attempts[i] for i in row.about[vote_lib.RIGHT_AT]]


def _tokens(
  attempts: Sequence[values.Attempt], context: values.Context
) -> list[int]:
  unknown = [a.text for a in attempts if a.tokens is None]
  counted = iter(context.count_tokens(unknown) if unknown else ())
  return [next(counted) if a.tokens is None else a.tokens for a in attempts]


def _check_tokenizer(
  rows: Sequence[values.Row], context: values.Context
) -> None:
  """Raises ValueError if the tokenizer counts otherwise than the responses."""
  told = (
    attempt
    for row in rows
    if vote_lib.RIGHT_AT in row.about
    for attempt in _right(row, context)
    if attempt.tokens is not None
  )
  found = list(itertools.islice(told, _CHECKED))
  if not found:
    return
  try:
    counted = sum(context.count_tokens([a.text for a in found]))
  except ValueError:
    return  # None is named; the responses tell all lengths that are needed.
  stored = sum(a.tokens or 0 for a in found)
  # One for the token that ended each.
  if abs(stored - counted) > _TOLERANCE * counted + len(found):
    raise ValueError(
      f'step length: {len(found)} responses have {stored:,} tokens by their '
      f'file and {counted:,} by config.tokenizer; name the tokenizer of the '
      'model that wrote them, or leave out the column of tokens'
    )
