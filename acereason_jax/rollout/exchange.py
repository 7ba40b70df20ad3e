"""What a call of an engine exchanges between host and device; no jax.

The host makes a `Slot` for each slot and `Pieces` of prompts. The device
returns what it has `Drawn`. On the host they are arrays of numpy, in a program
those of jax.
"""

from typing import NamedTuple

import numpy as np

# The state of each slot's rollout, which the device reports after a call.
RUNNING, STOP, LENGTH, ERROR = range(4)
REASONS = ('running', 'stop', 'length', 'error')


class Slot(NamedTuple):
  """The state of a slot at the start of a call; int32 each.

  live: 1 if it holds a rollout.
  token: id of the next input token.
  position: position of that token in prompt and response.
  prefix, start, length: see `paged_attention.paged_attention`.
  page, offset: place of this call's keys and values.
  drawn: number of tokens of the response so far.
  limit: most tokens of the response.
  forced: how many of the drawn tokens are an inserted end of thinking.
  closed: 1 if the thinking is over.
  seed: `sampling.prompt_seed` of the prompt's id.
  index: index among the prompt's rollouts; gives the key, with `seed`.
  """

  live: int = 0
  token: int = 0
  position: int = 0
  prefix: int = 0
  start: int = 0
  length: int = 0
  page: int = 0
  offset: int = 0
  drawn: int = 0
  limit: int = 0
  forced: int = 0
  closed: int = 0
  seed: int = 0
  index: int = 0


class Drawn(NamedTuple):
  """The result of a call for B slots and at most T steps.

  steps: number of decode steps that the call took, int32.
  tokens_BT: token ids, int32; the first count_B[b] columns of row b are valid.
  logp_BT: natural log-probability under the distribution drawn from, float32.
  full_logp_BT: log-probability under softmax(logits), float32.
  entropy_BT: entropy of the distribution drawn from, nats, float32.
  count_B: number of tokens drawn, int32.
  ended_B: RUNNING, STOP, LENGTH or ERROR, int32.
  forced_B, closed_B: as in `Slot`, after the call.
  """

  steps: np.ndarray
  tokens_BT: np.ndarray
  logp_BT: np.ndarray
  full_logp_BT: np.ndarray
  entropy_BT: np.ndarray
  count_B: np.ndarray
  ended_B: np.ndarray
  forced_B: np.ndarray
  closed_B: np.ndarray


class Pieces(NamedTuple):
  """One prefill call of A prompts; int32. Rows without a piece use page 0.

  tokens_AT: token ids of the piece.
  first_A: position of its first token in the prompt.
  table_AP: pages of the whole prompt.
  page_AP: pages that the piece fills.
  """

  tokens_AT: np.ndarray
  first_A: np.ndarray
  table_AP: np.ndarray
  page_AP: np.ndarray
