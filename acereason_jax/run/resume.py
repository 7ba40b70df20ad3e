"""Whether a run may go on under a configuration that was changed."""

import fnmatch
import json
from collections.abc import Collection, Mapping
from typing import Any


def check(
  stored: Mapping[str, Any],
  current: Mapping[str, Any],
  may_change: Collection[str],
) -> None:
  """Checks that a run goes on under the configuration it began with.

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
  """The fields of a run's configuration that it must go on with, by path."""
  return {
    field: value
    for field, value in _flat(config).items()
    if not any(fnmatch.fnmatchcase(f'{field}.', f'{p}.*') for p in may_change)
  }


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
