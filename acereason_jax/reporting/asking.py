"""Asks the judges of a run to explain verdicts, within a time.

The judge's `explain` runs in workers that are killed when the time is over. A
run's folder may be a stranger's, and its config.json names the judge: one that
is not of this package is asked only if the folder is trusted.
"""

import collections
import concurrent.futures
import contextlib
import itertools
import json
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from acereason_jax import storage, types
from acereason_jax.config import recorded
from acereason_jax.reporting import values
from acereason_jax.rl import objective
from acereason_jax.verifiers.pool import pool as pool_lib

# Workers of a judge, and judges: each domain of a config may have its own.
_MOST_WORKERS, _MOST_JUDGES = 16, 16
_TOO_MANY = (
  f'The judge was not asked: the run has more than {_MOST_JUDGES} judges. The '
  'command asks it.'
)
_FAILED, _WITHOUT_REWARD, _REWARDED = range(3)


class Known(NamedTuple):
  """What the config of a run says about its verdicts and rewards.

  judges: judge of each domain.
  rules: rules for rewards, by stage.
  problem: why they are unknown; '' if they are known.
  """

  judges: Mapping[str, recorded.Judge]
  rules: Mapping[str, objective.Rules]
  problem: str


class Explainer(NamedTuple):
  """What a pool needs to ask a judge for explanations.

  fn: 'module:function'.
  arguments: its arguments, as JSON.
  timeout_seconds: limit of one explanation.
  confine: whether the workers are confined.
  """

  fn: str
  arguments: str
  timeout_seconds: float
  confine: bool


def known(folder: str) -> Known:
  """What the run's config.json says. Raises: OSError."""
  path = storage.join(folder, recorded.NAME)
  try:
    if (content := storage.read(path, recorded.MAX_BYTES)) is None:
      raise ValueError('there is none')
    config = recorded.parse(content)
    return Known(recorded.judges(config), recorded.rules(config), '')
  except ValueError as e:
    return Known({}, {}, f'The judge is unknown: {recorded.NAME}: {e}.')


def ask(
  asked: Sequence[values.Sample],
  facts: Known,
  seconds: float,
  trusted: bool,
) -> list[types.Verdict | str]:
  """The judge's explanation of each rollout, or a sentence why there is none.

  In `seconds` the judges are asked first about rollouts that they failed on,
  then about those without a reward. With `trusted` also a judge is asked that
  is not of this package, or whose programs have the weakest sandbox.
  """
  until = time.monotonic() + seconds
  said: list[types.Verdict | str] = [_left_out(seconds)] * len(asked)
  if seconds <= 0:
    return said
  parts = collections.defaultdict(list)
  for i, sample in enumerate(asked):
    if sample.row['stop'] == 'error':
      said[i] = 'There is no response: the rollout ended with an error.'
      continue
    try:
      of = explainer(sample.row['domain'], facts, trusted)
    except ValueError as e:
      said[i] = str(e)
      continue
    parts[of].append(i)
  for places in list(parts.values())[_MOST_JUDGES:]:
    for i in places:
      said[i] = _TOO_MANY
  futures = {}
  with contextlib.ExitStack() as stack:
    pools = {}
    for of, places in itertools.islice(parts.items(), _MOST_JUDGES):
      # The workers of a judge take seconds to start.
      if time.monotonic() >= until:
        break
      try:
        pool = _pool(of, len(places), until)
      except (ValueError, RuntimeError) as e:
        note = ' '.join(f'The judge cannot be asked: {e}.'.split())
        for i in places:
          said[i] = note
        continue
      pools |= dict.fromkeys(places, stack.enter_context(pool))
    for i in sorted(pools, key=lambda i: (_urgency(asked[i].row), i)):
      futures[pools[i].submit(asked[i].text, asked[i].answer)] = i
    left = max(until - time.monotonic(), 0.0)
    concurrent.futures.wait(futures, timeout=left)
    for future in futures:
      future.cancel()
  for future, i in futures.items():
    if not future.cancelled() and future.result().detail != pool_lib.ENDED:
      said[i] = future.result()
  return said


def _left_out(seconds: float) -> str:
  return (
    f'The judge was not asked: --explain_seconds={seconds:g} were over. The '
    'command asks it.'
  )


def _urgency(row: Mapping[str, Any]) -> int:
  if row['status'] in ('timeout', 'error'):
    return _FAILED
  return _REWARDED if (row['reward'] or 0) > 0 else _WITHOUT_REWARD


def _pool(
  explained_by: Explainer, tasks: int, until: float
) -> pool_lib.VerifierPool:
  """Raises ValueError or RuntimeError if the judge cannot start."""
  return pool_lib.VerifierPool(
    explained_by.fn,
    json.loads(explained_by.arguments),
    min(tasks, os.cpu_count() or 1, _MOST_WORKERS),
    explained_by.timeout_seconds,
    explained_by.confine,
    until,
  )


def explainer(domain: str, facts: Known, trusted: bool) -> Explainer:
  """The `explain` of a domain's judge.

  Raises:
    ValueError: a sentence; it has none, or may not be asked.
  """
  if (judge := facts.judges.get(domain)) is None:
    raise ValueError(
      facts.problem
      or f'The config names no judge of the domain {domain!r:.100}.'
    )
  if not trusted and (reason := recorded.unsafe(judge)):
    raise ValueError(
      f'{reason[0].upper()}{reason[1:]}: it is asked only with --trusted, '
      'because a folder can name anything.'
    )
  found = recorded.with_function(judge, 'explain')
  return Explainer(
    found.fn,
    json.dumps(judge.arguments, sort_keys=True),
    found.timeout_seconds,
    found.confine,
  )
