"""The host values of a run: frozen, plain, without jax.

A `Verdict` of `timeout` or `error` says that the *judge* failed, never that
the answer is wrong: such a rollout has no reward at all (see `reward`).
"""

import dataclasses
import types
import typing

import numpy as np

EMPTY: typing.Mapping = types.MappingProxyType({})

Status = typing.Literal['right', 'wrong', 'unparsed', 'timeout', 'error']
# Processes exchange a status as its place in here.
STATUSES: tuple[Status, ...] = typing.get_args(Status)


class Passes(typing.NamedTuple):
  """How often a model solved a question before the run, as curation stored it.

  right: responses that the judge called right.
  judged: responses that it read, 1 or more.
  model: hash of the model's weights; see data/rollouts.py:model_key.
  """

  right: int
  judged: int
  model: str


@dataclasses.dataclass(frozen=True)
class Prompt:
  """One question. `id` is stable: sampling keys depend on it.

  `tokens` is the whole templated model input, int32 [S]; `question` is the bare
  problem text and `answer` its reference. `domain` decides which judge it gets;
  `difficulty` is the number that its data set gives, None for none, and
  `passes` the pass counts that it has, None for none.
  """

  id: str
  question: str
  answer: str
  tokens: np.ndarray
  domain: str = ''
  difficulty: float | None = None
  passes: Passes | None = None


@dataclasses.dataclass(frozen=True)
class Rollout:
  """One sampled response, int32 `tokens` [R], stop token included.

  `logp` (float32 [R], natural log) is under the distribution each token was
  drawn from, `full_logp` under softmax(logits) as the model gave them; both are
  0 for the tokens `forced[0]` to `forced[1]`, which nothing drew. `entropy` is
  the sum, in nats, of the entropies of the distributions drawn from. `stop` is
  'stop' (a stop token or string ended it), 'length' or 'error' (it could not
  continue, and `detail` says why).
  """

  prompt_id: str
  index: int
  tokens: np.ndarray
  logp: np.ndarray
  full_logp: np.ndarray
  stop: typing.Literal['stop', 'length', 'error']
  text: str
  entropy: float = 0.0
  forced: tuple[int, int] = (0, 0)
  detail: str = ''

  @property
  def key(self) -> tuple[str, int]:
    """(prompt id, index), unique among the rollouts of a step."""
    return self.prompt_id, self.index


@dataclasses.dataclass(frozen=True)
class Verdict:
  """A judge's finding; `seconds` is running time, never queueing time.

  right | wrong: the answer was read and compared. unparsed: the response
  holds no readable answer (reward 0). timeout | error: the judge failed.
  """

  status: Status
  detail: str
  seconds: float

  @property
  def judged(self) -> bool:
    return self.status in ('right', 'wrong', 'unparsed')

  @property
  def reward(self) -> float:
    """1.0 or 0.0; raises ValueError where the judge itself failed."""
    if not self.judged:
      raise ValueError(
        f'a verdict of {self.status!r} has no reward ({self.detail}); '
        'leave the rollout out of its group'
      )
    return 1.0 if self.status == 'right' else 0.0


@dataclasses.dataclass(frozen=True)
class Group:
  """The G judged rollouts of one prompt."""

  prompt: Prompt
  rollouts: tuple[Rollout, ...]
  verdicts: tuple[Verdict, ...]
