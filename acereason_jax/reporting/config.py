"""A run's config beside its recipe's file, the defaults, and other runs.

Configs are the JSON values that a run records, or those of a file of configs/.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from acereason_jax.reporting import values

_MOST_FIELDS, _MOST_DEPTH, _MOST_CHARS = 5000, 12, 2000


def fields(
  config: Any, recipe: Any, default: Any, others: Mapping[str, Any]
) -> list[values.Field]:
  """The fields of a config, in its order; then those that it does not have.

  These are arguments of components that a stage, or the recipe's file, has.

  Args:
    config: config of the run.
    recipe: config of the recipe's file; None if it is unknown.
    default: config of base.py.
    others: configs of compared runs, by name.
  """
  mine, base = flat(config), flat(default)
  file = None if recipe is None else flat(recipe)
  stages = _by_stage(config)
  rest = {name: flat(other) for name, other in others.items()}
  more = [path for stage in stages.values() for path in stage]
  more += [p for p, v in (file or {}).items() if v != base.get(p)]
  return [
    values.Field(
      path,
      mine.get(path, ''),
      None if file is None else file.get(path),
      base.get(path),
      _where_other(path, mine, stages),
      _where_other(path, mine, rest),
    )
    for path in dict.fromkeys([*mine, *more])
  ]


def _where_other(
  path: str,
  mine: Mapping[str, str],
  others: Mapping[str, Mapping[str, str]],
) -> dict[str, str]:
  """The values of a field in those that have another one."""
  return {
    name: other[path]
    for name, other in others.items()
    if path in other and other[path] != mine.get(path)
  }


def flat(config: Any) -> dict[str, str]:
  """The value of each field as JSON, by its path; stages as their names."""
  if not isinstance(config, Mapping):
    return {}
  named = dict(config)
  if isinstance(stages := named.get('stages'), list):
    named['stages'] = [
      s.get('name') if isinstance(s, Mapping) else s for s in stages
    ]
  found = {}
  for path, value in _leaves(named, '', 0):
    if len(found) == _MOST_FIELDS:
      break
    found[path] = json.dumps(value)[:_MOST_CHARS]
  return found


def _by_stage(config: Any) -> dict[str, dict[str, str]]:
  """What each stage changes, by its name."""
  stages = config.get('stages') if isinstance(config, Mapping) else None
  return {
    str(stage.get('name')): flat(
      {k: v for k, v in stage.items() if k != 'name'}
    )
    for stage in (stages if isinstance(stages, list) else ())
    if isinstance(stage, Mapping)
  }


def _leaves(
  section: Mapping[str, Any], start: str, depth: int
) -> Iterator[tuple[str, Any]]:
  for name, value in section.items():
    if isinstance(value, Mapping) and value and depth < _MOST_DEPTH:
      yield from _leaves(value, f'{start}{name}.', depth + 1)
    else:
      yield f'{start}{name}', value
