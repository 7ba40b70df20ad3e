"""Reads a config; a field that nothing reads is an error.

A field that nothing reads is a knob that does nothing, so start-up fails on it.
`Reader` records which fields were read.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import ml_collections

from acereason_jax import resolve
from acereason_jax.config import fields

# stages.py reads these for all.
_READ_AS_A_WHOLE = (
  *('stages', 'start.stages', 'domains', 'mix'),
  'heldout.every',
)


class Reader:
  """A view of a ConfigDict that remembers which fields were read."""

  def __init__(self, config, name: str = 'config', seen: set | None = None):
    self._config = config
    self._name = name
    self._seen = set() if seen is None else seen

  def __getattr__(self, field: str) -> Any:
    name = f'{self._name}.{field}'
    if field not in self._config:
      raise AttributeError(f'{name}: no such field')
    value = self._config[field]
    if isinstance(value, ml_collections.ConfigDict):
      return Reader(value, name, self._seen)
    self._seen.add(name)
    return value

  def over(self, config: ml_collections.ConfigDict) -> 'Reader':
    """A reader of another config that shares the record of fields read."""
    return Reader(config, self._name, self._seen)

  def kwargs(self) -> dict[str, Any]:
    """All fields, for a function whose signature checks their names."""
    self._seen |= set(self.leaves())
    return dict(self._config.to_dict())

  def build(self, **extra: Any) -> Any:
    """Builds the component dict(fn=..., **kwargs)."""
    return resolve.build(self.kwargs(), self._name, **extra)

  def leaves(self) -> Iterator[str]:
    return _leaves(self._config, self._name)

  def check_all_read(
    self, stages: Iterable['Reader'], domains: Iterable['Reader']
  ) -> None:
    """Raises ValueError naming the fields that nothing has read.

    Fields that each stage or each domain has its own value of are not read from
    this config.
    """
    own = {leaf for r in domains for leaf in r.leaves() if _of_domain(leaf)}
    rest = {leaf for r in stages for leaf in r.leaves() if not _of_domain(leaf)}
    unread = (own | rest) - self._seen
    unread = sorted(x for x in unread if _path(x) not in _READ_AS_A_WHOLE)
    if unread:
      raise ValueError(
        f'{", ".join(unread)}: nothing reads it; remove it, or correct its '
        'name (acereason_jax/config/base.py has every field)'
      )


def _path(leaf: str) -> str:
  """The field of the table that 'config.optim.transform.b1' is a part of."""
  row = fields.row_of(leaf.removeprefix('config.'))
  return leaf if row is None else row.path


def _of_domain(leaf: str) -> bool:
  return _path(leaf) in fields.DOMAIN


def _leaves(config, name: str) -> Iterator[str]:
  for field, value in config.items():
    if isinstance(value, ml_collections.ConfigDict):
      yield from _leaves(value, f'{name}.{field}')
    else:
      yield f'{name}.{field}'
