"""The config that a run wrote into its folder: its judges and its rewards.

The folder may be a stranger's: a config names functions, and nothing here
calls them.
"""

import contextlib
import json
import math
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import ml_collections

from acereason_jax import resolve
from acereason_jax.config import fields
from acereason_jax.config import stages as stages_lib
from acereason_jax.rl import objective

NAME = 'config.json'
MAX_BYTES = 16 << 20
# An explanation judges at least once more than a verdict.
EXPLAINING = 2
_MAX_SECONDS = 3600
OURS = 'acereason_jax.verifiers.'
_SANDBOXES = None, 'auto', 'T3', 'T2'


class Judge(NamedTuple):
  """The judge of a domain.

  fn: its function, 'module:function'.
  arguments: its arguments.
  timeout_seconds: limit of one verdict.
  confine: whether its workers are confined.
  """

  fn: str
  arguments: dict[str, Any]
  timeout_seconds: float
  confine: bool


def parse(content: bytes) -> ml_collections.ConfigDict:
  """The config of a config.json.

  Raises:
    ValueError: one line; it is none.
  """
  with _told():
    plain = json.loads(content)
    if not isinstance(plain, dict):
      raise ValueError('no JSON object')
    # Each stage and domain is made from these two.
    config = ml_collections.ConfigDict(plain, type_safe=False).lock()
    stages_lib.every_stage(config), stages_lib.domains(config)
    return config


def judges(config: ml_collections.ConfigDict) -> dict[str, Judge]:
  """The judge of each domain. Raises: ValueError, one line."""
  with _told():
    parts = stages_lib.domains(config)
    return {name: _judge(c) for name, c in parts.items()}


def unsafe(judge: Judge) -> str:
  """Why a folder of a stranger may not choose this judge; '' if it may."""
  if not judge.fn.startswith(OURS):
    return f'the judge {judge.fn!r:.100} is not of this package'
  if judge.arguments.get('tier') not in _SANDBOXES:
    return (
      f'the programs of the judge {judge.fn!r:.100} have the weakest sandbox'
    )
  return ''


def with_function(judge: Judge, name: str) -> Judge:
  """The judge's other function: `name` in place of 'verify'.

  lenient.py has verify_math500 and explain_math500. Among our own judges, only
  those that start programs prepare their workers, and confine them; a folder
  cannot choose that. An explanation has more time.

  Raises:
    ValueError: a sentence; the module cannot be imported, or has none.
  """
  try:
    resolve.resolve(judge.fn, 'judge.verify.fn')
  except ValueError as e:
    raise ValueError(f'The judge cannot be asked: {e}.') from e
  module, _, function = judge.fn.partition(':')
  other = function.replace('verify', name, 1)
  if not function.startswith('verify'):
    other = function if name == 'verify' else name
  found = getattr(sys.modules[module], other, None)
  if not callable(found):
    raise ValueError(f'The judge {judge.fn} has no {other}.')
  confine = judge.confine
  if judge.fn.startswith(OURS):
    confine = not hasattr(found, 'prepare_worker')
  seconds = judge.timeout_seconds * (EXPLAINING if name == 'explain' else 1)
  return judge._replace(
    fn=f'{module}:{other}', timeout_seconds=seconds, confine=confine
  )


def rules(config: ml_collections.ConfigDict) -> dict[str, objective.Rules]:
  """The rules for rewards, by stage. Raises: ValueError, one line."""
  with _told():
    parts = stages_lib.every_stage(config)
    return {name: _rules(c) for name, c in parts.items()}


def _judge(c: ml_collections.ConfigDict) -> Judge:
  judge = c.judge
  arguments = dict(reasons=c.prompt.reasons) | judge.verify.to_dict()
  made = Judge(
    arguments.pop('fn'), arguments, judge.timeout_seconds, judge.confine
  )
  _check(isinstance(made.fn, str), 'judge.verify.fn', made.fn)
  seconds = made.timeout_seconds
  good = _is_number(seconds) and 0 < seconds <= _MAX_SECONDS
  _check(good, 'judge.timeout_seconds', seconds)
  _check(isinstance(made.confine, bool), 'judge.confine', made.confine)
  return made


def _rules(c: ml_collections.ConfigDict) -> objective.Rules:
  made = objective.Rules(
    c.objective.truncated, c.objective.overlong_tokens, c.rollout.max_tokens
  )
  known = made.truncated in fields.TRUNCATED
  _check(known, 'objective.truncated', made.truncated)
  longest, soft = made.max_tokens, made.soft_tokens
  _check(type(longest) is int and longest > 0, 'rollout.max_tokens', longest)
  good = type(soft) is int and 0 <= soft <= longest
  _check(good, 'objective.overlong_tokens', soft)
  return made


def _is_number(value: Any) -> bool:
  return type(value) in (int, float) and math.isfinite(value)


def _check(good: bool, path: str, value: Any) -> None:
  if not good:
    raise ValueError(f'{path}={value!r:.60}')


@contextlib.contextmanager
def _told() -> Iterator[None]:
  """Makes one line of what ml_collections raises for what is no config."""
  try:
    yield
  except (
    *(ValueError, TypeError, KeyError, AttributeError),
    *(RecursionError, OverflowError),
  ) as e:
    reason = ' '.join(f'{type(e).__name__}: {e}'.split())
    raise ValueError(f'not the config of a run ({reason:.200})') from e
