"""Stages and domains: the config of each, made from its overrides.

A stage and a domain are dicts of overrides. Each yields a whole config, which
is checked and read like any other.
"""

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import ml_collections

from acereason_jax.config import fields, renamed

# The one stage, and the one domain, of a config that names none.
MAIN = 'main'


def with_overrides(
  config: ml_collections.ConfigDict, changes: Any
) -> ml_collections.ConfigDict:
  """A copy of `config` with `changes`, section by section.

  A component that names its `fn` replaces the old value whole, and so does a
  section of names that users choose.
  """
  whole = config.copy_and_resolve_references()
  # checks.py is stricter, and names the field.
  with whole.unlocked(), whole.ignore_type():
    _override(whole, changes, '')
  return whole.lock()


def _override(
  section: ml_collections.ConfigDict, changes: Any, start: str
) -> None:
  for name, value in changes.items():
    there, row = section.get(name), fields.BY_PATH.get(start + name)
    free = row is not None and row.kind is dict and not row.component
    both = fields.is_dict(value) and fields.is_dict(there)
    if free or not both or fields.is_component(value):
      section[name] = value
    else:
      _override(there, value, f'{start}{name}.')


def stages(
  config: ml_collections.ConfigDict,
) -> dict[str, ml_collections.ConfigDict]:
  """The config of each stage to run: those in `start.stages`, or all.

  Raises:
    ValueError: a stage is not a dict of fields that stages may change.
  """
  found, chosen = every_stage(config), config.start.stages
  if unknown := [n for n in chosen if n not in found]:
    raise ValueError(
      f'config.start.stages: no stage {unknown[0]!r}; there are: '
      f'{", ".join(found)}'
    )
  return {n: c for n, c in found.items() if not chosen or n in chosen}


def every_stage(
  config: ml_collections.ConfigDict,
) -> dict[str, ml_collections.ConfigDict]:
  """The config of each stage, in order. Raises: see `stages`."""
  if not config.stages:
    return {MAIN: config}
  found = {}
  for i, stage in enumerate(config.stages):
    where = f'config.stages[{i}]'
    if not fields.is_dict(stage) or not isinstance(stage.get('name'), str):
      raise ValueError(f'{where}: give a dict with a name and what it changes')
    changes = {
      field: value for field, value in stage.items() if field != 'name'
    }
    if stage['name'] in found or not stage['name'].isidentifier():
      raise ValueError(
        f'{where}.name={stage["name"]!r}: give each stage a name of its own, '
        'of letters, digits and _'
      )
    _check_may_change(changes, fields.STAGE, where, 'a stage')
    found[stage['name']] = with_overrides(config, changes)
  return found


def domains(
  config: ml_collections.ConfigDict,
) -> dict[str, ml_collections.ConfigDict]:
  """The config of each domain of prompts.

  Raises:
    ValueError: a domain changes a field that domains may not change.
  """
  if not len(config.domains):
    return {MAIN: config}
  for name, changes in config.domains.items():
    where = f'config.domains.{name}'
    if not fields.is_dict(changes):
      raise ValueError(f'{where}={changes!r}: give a dict of what it changes')
    _check_may_change(changes, fields.DOMAIN, where, 'a domain')
  return {
    name: with_overrides(config, changes)
    for name, changes in config.domains.items()
  }


def _check_may_change(
  changes: Any, allowed: tuple[str, ...], where: str, what: str
) -> None:
  renamed.check(changes, where)
  for path, _ in fields.leaves(changes):
    # An error for an unknown name lists the names that the section has.
    known = '.' not in path or path in fields.BY_PATH
    if known and path not in allowed:
      raise ValueError(
        f'{where}.{path}: {what} cannot change that; it can: '
        f'{fields.told(allowed)}'
      )


def mix(config: ml_collections.ConfigDict) -> dict[str, float]:
  """Each domain's share of a stage's prompts; they add up to 1.

  Raises:
    ValueError: a share belongs to no domain, or the shares are not valid.
  """
  names = list(config.domains) or [MAIN]
  if not len(config.mix):
    if len(names) == 1:
      return {names[0]: 1.0}
    raise ValueError(
      f'config.mix: give the share of each domain; there are: '
      f'{", ".join(names)}'
    )
  for name, share in config.mix.items():
    if name not in names:
      raise ValueError(
        f'config.mix.{name}: no such domain; there are: {", ".join(names)}'
      )
    if type(share) not in (int, float) or not 0 < share < math.inf:
      raise ValueError(f'config.mix.{name}={share!r}: give more than 0')
  total = sum(config.mix.values())
  return {name: config.mix[name] / total for name in config.mix}


def looks(config: ml_collections.ConfigDict) -> dict[str, dict[str, int]]:
  """By stage and domain, steps between looks at held-out questions; 0: none.

  A stage looks at the domains of its mix, and at those that no stage has in its
  mix: they are there to be watched. Others have a look at its end only.
  """
  every = every_stage(config)
  mixes = {name: mix(stage) for name, stage in every.items()}
  trained = set().union(*mixes.values())
  return {
    name: {
      domain: own.heldout.every
      for domain, own in domains(stage).items()
      if domain in mixes[name] or domain not in trained
    }
    for name, stage in every.items()
  }


def filtered(
  stage: ml_collections.ConfigDict,
) -> dict[str, ml_collections.ConfigDict]:
  """A stage's config for each domain of its mix, with that domain's filter.

  Raises:
    ValueError: a filter belongs to no domain.
  """
  names = list(stage.domains) or [MAIN]
  for name, changes in stage.filter.domains.items():
    path = f'config.filter.domains.{name}'
    if name not in names:
      raise ValueError(f'{path}: no such domain; there are: {", ".join(names)}')
    if not fields.is_dict(changes) or 'domains' in changes:
      raise ValueError(f'{path}={changes!r}: give a dict of what it changes')
  return {
    name: with_overrides(stage, dict(filter=stage.filter.domains.get(name, {})))
    for name in mix(stage)
  }


def filters(stage: ml_collections.ConfigDict) -> dict[str, dict[str, Any]]:
  """The filter's fields by domain of a stage's mix. Raises: see `filtered`."""
  return {
    name: {k: v for k, v in c.filter.to_dict().items() if k != 'domains'}
    for name, c in filtered(stage).items()
  }


@contextlib.contextmanager
def named(what: str, name: str) -> Iterator[None]:
  """Adds the name of the stage or domain to errors, if there are several."""
  try:
    yield
  except ValueError as e:
    raise ValueError(str(e) if name == MAIN else f'{what} {name!r}: {e}') from e
