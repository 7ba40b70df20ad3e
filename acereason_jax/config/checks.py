"""`validate`: finds the first bad field of a config and names value and remedy.

It runs before anything is built. Checks that depend on the model, the devices
or the files of a run are in run/, where those are known.
"""

from collections.abc import Mapping
from typing import Any

import ml_collections

from acereason_jax.config import fields, renamed, stages

# A whole number is a float too, and JSON makes lists of tuples.
_ALSO = {float: (float, int), tuple: (tuple, list)}


def validate(config: ml_collections.ConfigDict) -> None:
  """Raises ValueError with field, value and remedy of the first bad field."""
  if 'inputs' in config:
    raise ValueError(
      'config.inputs: this is the config of a curation; give it to '
      'acereason_jax.curate, or the config of a run'
    )
  if 'benchmarks' in config:
    raise ValueError(
      'config.benchmarks: this is the config of an evaluation; give it to '
      'acereason_jax.evaluate, or the config of a run'
    )
  renamed.check(config, 'config')
  check_shape(config)
  _check_start(config)
  domains = stages.domains(config)
  for name, domain in domains.items():
    with stages.named('domain', name):
      check_shape(domain)
  window = max(domain.prompt.window for domain in domains.values())
  for name, stage in stages.stages(config).items():
    with stages.named('stage', name):
      check_shape(stage)
      stages.mix(stage)
      for part, domain in stages.domains(stage).items():
        _check_values(domain, part, stage)
      _check_room(stage, window)
      _check_filters(stage)


def check_shape(
  section: ml_collections.ConfigDict,
  path: str = '',
  where: str = 'config',
  table: Mapping[str, fields.Field] = fields.BY_PATH,
  file: str = 'base.py',
) -> None:
  """Raises ValueError unless a section has its fields, of their types.

  `path` is the section's path in the table, `where` the name that users know,
  `file` the file of this folder that explains the fields.
  """
  known = fields.parts_of(path, table)
  for name in sorted({*known, *section}):
    inner = f'{path}.{name}' if path else name
    if name not in known:
      raise ValueError(
        f'{where}.{name}={section[name]!r}: no such field; {where} has '
        f'{", ".join(known)}'
      )
    if name not in section:
      raise ValueError(
        f'{where}.{name}: missing; give it (see acereason_jax/config/{file})'
      )
    row = table.get(inner)
    if row is not None:
      check_type(row, section[name], f'{where}.{name}')
    elif fields.is_dict(section[name]):
      check_shape(section[name], inner, f'{where}.{name}', table, file)
    else:
      raise ValueError(
        f'{where}.{name}={section[name]!r}: give a dict of '
        f'{", ".join(fields.parts_of(inner, table))}'
      )


def check_type(row: fields.Field, got: Any, where: str) -> None:
  """Raises ValueError unless a field's value has its type."""
  if row.component and fields.is_dict(got):
    if not isinstance(got.get('fn'), str):
      raise ValueError(
        f"{where}.fn: missing; give it as 'package.module:function'"
      )
  elif row.kind is dict:
    if not fields.is_dict(got):
      inside = "(fn='package.module:function', ...)" if row.component else ''
      raise ValueError(f'{where}={got!r}: give a dict{inside}')
  elif type(got) not in _ALSO.get(row.kind, (row.kind,)):
    raise ValueError(
      f'{where}={got!r}: give a value of type {row.kind.__name__}'
    )


def _check_start(c: ml_collections.ConfigDict) -> None:
  """Raises ValueError unless the stages chosen follow each other."""
  chosen = list(stages.stages(c))
  every = [stage['name'] for stage in c.stages]
  if not every:
    if c.start.stages:
      raise ValueError(
        f'config.start.stages={c.start.stages!r}: config.stages names none'
      )
    return
  first = every.index(chosen[0])
  in_order = not c.start.stages or list(c.start.stages) == chosen
  if not in_order or every[first : first + len(chosen)] != chosen:
    raise ValueError(
      f'config.start.stages={c.start.stages!r}: give stages that follow each '
      f'other, of: {", ".join(every)}'
    )
  if first and not c.start.run:
    raise ValueError(
      f'config.start.run: stage {chosen[0]!r} goes on from '
      f'{every[first - 1]!r}; name the folder of a run that holds that'
    )


def _check_values(
  config: ml_collections.ConfigDict,
  domain: str,
  stage: ml_collections.ConfigDict,
) -> None:
  """Raises ValueError for a bad value of a stage, or of a domain in it.

  `config` is that of the domain, which is named if the stage's own is good.
  """
  for row in fields.FIELDS:
    # A filter's values are checked with the overrides of each domain.
    if row.path.startswith('filter.'):
      continue
    try:
      _check_field(row, config)
    except ValueError:
      _check_field(row, stage)
      with stages.named('domain', domain):
        raise


def _check_field(row: fields.Field, config: ml_collections.ConfigDict) -> None:
  value = fields.value_at(config, row.path)
  check_value(row, value, config, f'config.{row.path}')


def check_value(
  row: fields.Field, value: Any, stage: ml_collections.ConfigDict, where: str
) -> None:
  """Raises ValueError unless a field's value meets its check."""
  built = row.kind is not dict and fields.is_component(value)
  if row.check and not built and not row.check.good(value, stage):
    remedy = row.check.remedy.format(c=stage)
    raise ValueError(f'{where}={value!r}: {remedy}')


def _check_room(stage: ml_collections.ConfigDict, window: int) -> None:
  """Raises ValueError if a row of the update is too short for a rollout."""
  need, columns = window + stage.rollout.max_tokens, stage.microbatch.columns
  if columns < need:
    raise ValueError(
      f'config.microbatch.columns={columns}: prompt.window + '
      f'rollout.max_tokens is {need}: give at least that'
    )


def _check_filters(stage: ml_collections.ConfigDict) -> None:
  """Raises ValueError for a bad filter of a domain in a stage."""
  for name, own in stages.filtered(stage).items():
    where = 'config.filter'
    if name in stage.filter.domains:
      where = f'{where}.domains.{name}'
    check_shape(own.filter, 'filter', where)
    for field, value in own.filter.items():
      row = fields.BY_PATH[f'filter.{field}']
      check_value(row, value, own, f'{where}.{field}')
