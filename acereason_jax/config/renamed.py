"""The fields that had another name, and the line that says so.

A config with an old name is refused with a line that has the new one. A run
that was recorded with old names, or without fields that are new, can resume:
its record is read with today's.
"""

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from acereason_jax.config import fields

# Old path -> path; the fields inside a section move with it.
RENAMED = {
  'advantage': 'objective.advantage',
  'average': 'objective.average',
  'best': 'checkpoint.best',
  'carry_optimizer': 'optim.carry',
  'clip_norm': 'optim.clip_norm',
  'entropy_bonus': 'objective.entropy_bonus',
  'evaluate_every': 'heldout.every',
  'filters': 'filter.domains',
  'heldout.groups': 'heldout.per_prompt',
  'judge.arguments': 'judge.verify',
  'judge.fn': 'judge.verify.fn',
  'loss': 'objective.loss',
  'offload_moments': 'optim.offload',
  'optim.b1': 'optim.transform.b1',
  'optim.b2': 'optim.transform.b2',
  'optim.eps': 'optim.transform.eps',
  'optim.fn': 'optim.transform.fn',
  'optim.momentum': 'optim.transform.momentum',
  'optim.mu_dtype': 'optim.transform.mu_dtype',
  'optim.weight_decay': 'optim.transform.weight_decay',
  'overlong_tokens': 'objective.overlong_tokens',
  'policy': 'objective.policy',
  'refill': 'rollout.refill',
  'reset_reference_every': 'objective.reset_reference_every',
  'rollout.groups': 'rollout.per_prompt',
  'truncated': 'objective.truncated',
  'updates': 'optim.updates',
  'warmup_steps': 'optim.warmup_steps',
}
# Fields that decide rollouts or updates, and that older records lack. With these
# values a run does what it did without them.
_ADDED = {
  'optim.groups': [],
  'optim.decay_on': '',
  'filter.source': 'probe',
  'filter.tries': 8,
  'engine.weights': '',
}


def new_name(path: str) -> str | None:
  """Today's path of a field, by its old path; None: it is not an old path."""
  for old, new in RENAMED.items():
    if path == old or path.startswith(f'{old}.'):
      return new + path.removeprefix(old)
  return None


def check(values: Any, where: str) -> None:
  """Raises ValueError for an old name in nested dicts of a config."""
  for path, _ in _paths(values):
    if (new := new_name(path)) is not None:
      raise ValueError(f'{where}.{path}: is called {new} now')


def hint(complaint: str, argv: Sequence[str]) -> str:
  """'config.loss is called objective.loss now', '' where nothing was renamed.

  ml_collections' complaint about a missing field names only the last part of
  its path; the flags in `argv` have the whole path.
  """
  given = re.findall(r'--config\.([\w.]+)', ' '.join(argv))
  found = {path: new for path in given if (new := new_name(path))}
  name = re.search(r'["\'](\w+)["\']', complaint)
  # A path with today's name, whose last part is what is wrong, has no hint.
  is_todays = name and any(
    path.split('.')[-1] == name[1] and path in RENAMED.values()
    for path in given
  )
  if not found and not is_todays:
    found = {
      old: new
      for old, new in RENAMED.items()
      if name and old.rpartition('.')[2] == name[1]
    }
  return ', '.join(f'config.{o} is called {n} now' for o, n in found.items())


def today(record: Mapping[str, Any]) -> dict[str, Any]:
  """The config of a run's record, as JSON values, with today's fields."""
  config = copy.deepcopy(dict(record))
  if any(new_name(path) for path, _ in _paths(config)):
    domains = config.get('domains', {})
    for part in (config, *config.get('stages', ()), *domains.values()):
      _move(part)
  for path, value in _ADDED.items():
    _put(config, path.split('.'), value, over=False)
  return config


def _move(values: dict[str, Any]) -> None:
  """Moves the values at old paths of a config or a stage to the new paths."""
  for old, new in RENAMED.items():
    *section, name = old.split('.')
    part = values
    for key in section:
      part = part.get(key, {}) if isinstance(part, dict) else {}
    if isinstance(part, dict) and name in part:
      _put(values, new.split('.'), part.pop(name))
  # The optimizer's section used to be the transform, whose arguments can have
  # any name.
  if isinstance(optim := values.get('optim'), dict):
    for name in optim.keys() - set(fields.parts_of('optim')):
      _put(values, ['optim', 'transform', name], optim.pop(name))


def _put(
  values: dict[str, Any], path: list[str], value: Any, over: bool = True
) -> None:
  for name in path[:-1]:
    values = values.setdefault(name, {})
  there = values.get(path[-1])
  if isinstance(there, dict) and isinstance(value, dict):
    there.update(value)
  elif over or path[-1] not in values:
    values[path[-1]] = value


def _paths(values: Any, section: str = '') -> Iterator[tuple[str, Any]]:
  """(path, value) of everything in nested dicts, sections before their parts.

  The contents of a component or of a section with users' names have no old
  name.
  """
  for name, value in values.items():
    path = f'{section}.{name}' if section else name
    yield path, value
    if fields.is_dict(value) and path not in fields.BY_PATH:
      yield from _paths(value, path)
