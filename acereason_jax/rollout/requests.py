"""Requests to an engine, one for each rollout, and their order."""

import collections
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from acereason_jax import types


class Request(NamedTuple):
  """One rollout to draw.

  prompt: prompt that the model reads.
  index: index among the prompt's rollouts; part of its random key.
  limit: most tokens of the response.
  expected: tokens that the response is expected to have; inf if nothing is
    known. The schedule depends on it, the tokens never.
  """

  prompt: types.Prompt
  index: int
  limit: int
  expected: float = math.inf

  @property
  def key(self) -> tuple[str, int]:
    """(prompt id, index), unique among the requests of a stream."""
    return self.prompt.id, self.index


def for_prompts(
  prompts: Sequence[types.Prompt],
  per_prompt: int,
  limit: int,
  taken: Mapping[str, int] = types.EMPTY,
) -> list[list[Request]]:
  """`per_prompt` requests for each prompt, of at most `limit` tokens each.

  `taken` is how many rollouts of a prompt id exist already. A prompt that is
  listed twice, or that has rollouts already, continues with the next indices:
  the same index would give the same rollout again.
  """
  seen = collections.Counter(taken)
  asked = []
  for prompt in prompts:
    first = seen[prompt.id]
    seen[prompt.id] += per_prompt
    indices = range(first, first + per_prompt)
    asked.append([Request(prompt, index, limit) for index in indices])
  return asked


def longest_first(
  requests: Iterable[Request], expected: Mapping[str, float]
) -> list[Request]:
  """The requests, ordered by the `expected` length of their prompt's rollouts.

  A long rollout that starts last would run by itself at the end. A prompt
  without an expectation counts as the longest, because it may be. Each request
  carries its expectation, by which the schedule evens the shards.
  """
  told = [
    r._replace(expected=expected.get(r.prompt.id, math.inf)) for r in requests
  ]
  return sorted(told, key=lambda r: r.expected, reverse=True)
