"""Resuming a run: the config fields that may change, and those that do.

Both configs are JSON values: the one in the run's record, and today's.
"""

import fnmatch
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import ml_collections

from acereason_jax.config import fields, stages


def _everywhere(resume: str) -> tuple[str, ...]:
  """The fields with that `resume`, also as parts of stages and domains."""
  rows = [row for row in fields.FIELDS if row.resume == resume]
  return (
    *(row.path for row in rows),
    *(f'stages.*.{row.path}' for row in rows if row.stage),
    *(f'domains.*.{row.path}' for row in rows if row.domain),
  )


# * is any name. None of these fields decides the rollouts of a step.
MAY_CHANGE = _everywhere(fields.SAME)
# These change which held-out questions are asked from here on.
STEERED = _everywhere(fields.ANEW)


def by_name(config: Mapping[str, Any]) -> dict[str, Any]:
  """A stored config with its stages by name, to find which of them changed."""
  named = {stage['name']: stage for stage in config['stages']}
  return dict(config, stages=named, order_of_stages=list(named))


class Change(NamedTuple):
  """A field that differs between two stored configs.

  field: dotted path, with a stage by its name: stages.math_8k.steps.
  before: its value in the first config; None if it is absent.
  after: its value in the second config; None if it is absent.
  """

  field: str
  before: Any
  after: Any


def describe(change: Change) -> str:
  """'steps: 4 -> 6'."""
  before, after = (
    'absent' if value is None else json.dumps(value)
    for value in (change.before, change.after)
  )
  return f'{change.field}: {before} -> {after}'


def steered(
  stored: Mapping[str, Any], current: Mapping[str, Any], stage: str
) -> tuple[list[Change], list[Change]]:
  """(the changes for a run that is in `stage`; those that are not allowed).

  Both are configs as JSON values. A run may change the fields that MAY_CHANGE
  and STEERED list, and every field of a stage that has not begun. Stages that
  have not begun may also be added, removed and reordered. The other fields
  decided steps that are already taken.
  """
  old, new = (ml_collections.ConfigDict(c) for c in (stored, current))
  befores, afters = stages.every_stage(old), stages.every_stage(new)
  order = list(befores)
  begun = order[: order.index(stage) + 1]
  changes = _changes(by_name(stored), by_name(current))
  if list(afters)[: len(begun)] != begun:
    wrong = [Change('order_of_stages', begun, list(afters)[: len(begun)])]
  else:
    # A stage's fields may be in the stage or in the whole config.
    elsewhere = 'stages', 'order_of_stages', *fields.STAGE
    if not stored['stages']:
      begun, elsewhere = [], ()
    wrong = [c for c in changes if not _is_among(c.field, elsewhere)]
    named = {c.field: c for c in changes}
    for name in begun:
      found = _changes(_of_stage(befores[name]), _of_stage(afters[name]))
      found = [c._replace(field=f'stages.{name}.{c.field}') for c in found]
      wrong += [named.get(c.field, c) for c in found]
    wrong = [c for c in wrong if not _is_among(c.field, MAY_CHANGE + STEERED)]
    # An end that is past stays as it was.
    ends = [f'stages.{n}.{f}' for n in begun[:-1] for f in ('steps', 'stop')]
    wrong += [c for c in changes if _is_among(c.field, ends)]
  return changes, wrong


def check(
  stored: Mapping[str, Any],
  current: Mapping[str, Any],
  may_change: Collection[str],
) -> None:
  """Checks that a run resumes under the configuration that it began with.

  Both are nested dicts of JSON values. `may_change` holds dotted prefixes, in
  which * stands for any name.

  Raises:
    ValueError: one line naming every other field that differs.
  """
  before, now = fixed(stored, may_change), fixed(current, may_change)
  changed = [
    f'{field}: {_show(before, field)} -> {_show(now, field)}'
    for field in sorted(before.keys() | now.keys())
    if _show(before, field) != _show(now, field)
  ]
  if changed:
    raise ValueError(
      f'this workdir holds a run of another configuration: '
      f'{"; ".join(changed)}; use another --workdir, or put the old '
      'values back'
    )


def fixed(
  config: Mapping[str, Any], may_change: Collection[str]
) -> dict[str, Any]:
  """The fields of a run's configuration that must not change, by path."""
  return {
    field: value
    for field, value in _flat(config).items()
    if not _is_among(field, may_change)
  }


def _of_stage(config: ml_collections.ConfigDict) -> dict[str, Any]:
  whole = json.loads(config.to_json())
  return {k: v for k, v in _paths(whole, '') if _is_among(k, fields.STAGE)}


def _changes(
  before: Mapping[str, Any], after: Mapping[str, Any]
) -> list[Change]:
  """The leaves that differ, by path; sections without fields have no leaves."""
  old, new = (dict(_paths(values, '')) for values in (before, after))
  return [
    Change(path, old.get(path), new.get(path))
    for path in sorted(old.keys() | new.keys())
    if old.get(path) != new.get(path)
  ]


def _paths(values: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any]]:
  for field, value in values.items():
    if isinstance(value, Mapping):
      yield from _paths(value, f'{path}{field}.')
    else:
      yield path + field, value


def measures_anew(field: str) -> bool:
  """Whether a change of `field` makes values of the stop's metric incomparable.

  It names another metric, or held-out questions are asked in another way.
  """
  return _is_among(field, (*STEERED, 'stop.metric', '*.stop.metric'))


def _is_among(field: str, patterns: Iterable[str]) -> bool:
  """Whether `field` is one of these, or part of one; * is any name."""
  return any(fnmatch.fnmatchcase(f'{field}.', f'{p}.*') for p in patterns)


def _flat(tree: Mapping[str, Any], prefix: str = '') -> dict[str, Any]:
  """{'a': {'b': 1}} -> {'a.b': 1}; an empty dict stays a value."""
  flat = {}
  for key, value in tree.items():
    if isinstance(value, Mapping) and value:
      flat |= _flat(value, f'{prefix}{key}.')
    else:
      flat[f'{prefix}{key}'] = value
  return flat


def _show(flat: Mapping[str, Any], field: str) -> str:
  # As JSON, because a stored tuple came back as a list.
  return json.dumps(flat[field]) if field in flat else 'absent'
