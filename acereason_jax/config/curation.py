"""Every field of a curation's config once; `plan` checks them all.

    from acereason_jax.config import curation

    def get_config():
      c = curation.get_config()
      c.inputs.mine = curation.source('problems.jsonl', licence='MIT')
      c.benchmarks.aime24 = curation.benchmark('aime24.jsonl')
      c.steps = (
        dict(fn='acereason_jax.data.curate.text:sentinels'),
        dict(fn='my_rules:short', most=300, action='flag'),
      )
      return c

A step is a component that returns a data.curate.values.Step. Three keys are not
its function's: `action`, 'drop' or 'flag'; `name`, where one function is two
steps; `only`, the inputs whose rows it sees, where they are of several kinds.
--config.inputs.mine.path=FILE changes one field.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections

from acereason_jax import resolve
from acereason_jax.config import checks, fields
from acereason_jax.data.curate import plan as plans
from acereason_jax.data.curate import values

# Names are parts of ids.
_NAME = re.compile(r'[A-Za-z0-9][A-Za-z0-9_.-]{0,39}')
_ACTIONS = (plans.DROP, plans.FLAG)
# What the result does not depend on.
_FREE = ('out', 'workers')


def get_config() -> ml_collections.ConfigDict:
  c = ml_collections.ConfigDict(type_safe=False)
  # The folder of results; data/curate/outputs.py lists its files.
  c.out = ''
  # Seeds all choices, which are made by hashes of ids.
  c.seed = 0
  # Processes; 0: one a CPU. The result is the same for any number.
  c.workers = 0
  # Model whose tokenizer counts tokens: a directory, 'owner/name' of the hub or
  # an embedded one; '' where no step counts them.
  c.tokenizer = ''
  # Components that return responses by row id; they are called with the rows.
  c.responses = ()
  # Model that answers where responses are missing: the command then calls
  # acereason_jax.generate itself. '': it says the command and ends.
  c.model = ''
  # Flags of acereason_jax.generate for that, such as max_tokens=32768.
  c.generate = ml_collections.ConfigDict()
  # Inputs by name; see `source`.
  c.inputs = ml_collections.ConfigDict()
  # Benchmarks by name that no row may be like; see `benchmark`.
  c.benchmarks = ml_collections.ConfigDict()
  # Steps, in order.
  c.steps = ()
  c.lock()
  # A config adds to them.
  c.inputs.unlock()
  c.benchmarks.unlock()
  c.generate.unlock()
  return c


def source(
  path: str | Sequence[str] = '',
  *,
  format: str = '',
  fields: Mapping[str, str] | None = None,
  keep: Sequence[str] = (),
  prefix: str = '',
  licence: str = '',
  revision: str = '',
  rows: Mapping[str, Any] | None = None,
) -> ml_collections.ConfigDict:
  """An input with every field; `plan.Input` says what they mean."""
  c = ml_collections.ConfigDict(type_safe=False)
  c.path = _path(path)
  c.format = format
  c.fields = dict(fields or {})
  c.keep = tuple(keep)
  c.prefix = prefix
  c.licence = licence
  c.revision = revision
  c.rows = dict(rows or {})
  c.fields.unlock()
  return c


def benchmark(
  path: str | Sequence[str] = '',
  *,
  format: str = '',
  field: str = '',
  id: str = '',
  revision: str = '',
  rows: Mapping[str, Any] | None = None,
) -> ml_collections.ConfigDict:
  """A benchmark with every field; `plan.Benchmark` says what they mean."""
  c = ml_collections.ConfigDict(type_safe=False)
  c.path = _path(path)
  c.format = format
  c.field = field
  c.id = id
  c.revision = revision
  c.rows = dict(rows or {})
  return c


def _path(path: str | Sequence[str]) -> str | tuple[str, ...]:
  return path if isinstance(path, str) else tuple(path)


def _table(*rows: fields.Field) -> Mapping[str, fields.Field]:
  return {row.path: row for row in rows}


_FORMAT = fields.Check(
  lambda v, c: v in plans.FORMATS,
  "give jsonl, json, parquet or '', which looks at the file",
)
_CURATION = _table(
  fields.Field('out', str),
  fields.Field(
    'seed',
    int,
    fields.Check(lambda v, c: 0 <= v < 2**31, 'give 0 to 2**31 - 1'),
  ),
  fields.Field('workers', int, fields.at_least(0, 'one a CPU')),
  fields.Field('tokenizer', str),
  fields.Field('responses', tuple),
  fields.Field('model', str),
  fields.Field('generate', dict),
  fields.Field('inputs', dict),
  fields.Field('benchmarks', dict),
  fields.Field('steps', tuple),
)
_SOURCE = _table(
  fields.Field('format', str, _FORMAT),
  fields.Field(
    'fields',
    dict,
    fields.Check(
      lambda v, c: (
        set(v) <= {*plans.COLUMNS}
        and all(isinstance(column, str) for column in v.values())
      ),
      f'give a column each for some of {", ".join(plans.COLUMNS)}',
    ),
  ),
  fields.Field('keep', tuple),
  fields.Field('prefix', str),
  fields.Field('licence', str),
  fields.Field('revision', str),
  fields.Field('rows', dict),
)
_BENCHMARK = _table(
  fields.Field('format', str, _FORMAT),
  fields.Field('field', str),
  fields.Field('id', str),
  fields.Field('revision', str),
  fields.Field('rows', dict),
)


def is_curation(config: ml_collections.ConfigDict) -> bool:
  """Whether a config is one of a curation."""
  return 'inputs' in config


def plan(config: ml_collections.ConfigDict) -> plans.Plan:
  """The curation that a config describes; its steps are built.

  Raises:
    ValueError: one line with field, value and remedy of the first bad field.
  """
  if not is_curation(config):
    raise ValueError(
      'config.inputs: missing; give the config of a curation, such as '
      'configs/curate_math.py'
    )
  _check(config, _CURATION, 'config')
  if not config.inputs:
    raise ValueError('config.inputs: empty; give one or more')
  if not config.steps:
    raise ValueError('config.steps: empty; give one or more')
  responses = tuple(map(_plain, config.responses))
  for i, component in enumerate(responses):
    _check_component(component, f'config.responses[{i}]')
  known = {n: v for n, v in _plain(config).items() if n not in _FREE}
  try:
    json.dumps(known, allow_nan=False)
  except (TypeError, ValueError) as e:
    raise ValueError(
      f'config: the datasheet holds it as JSON, which has no such value: {e}'
    ) from e
  return plans.Plan(
    inputs=tuple(_input(name, config.inputs[name]) for name in config.inputs),
    rules=_rules(config.steps, [*config.inputs]),
    benchmarks=tuple(
      _of_benchmark(name, config.benchmarks[name]) for name in config.benchmarks
    ),
    seed=config.seed,
    tokenizer=config.tokenizer,
    responses=responses,
    model=config.model,
    generate=_plain(config.generate),
    config=known,
  )


def _input(name: str, c: Any) -> plans.Input:
  where = f'config.inputs.{name}'
  _check_name(name, 'config.inputs')
  paths, c = _paths(c, where)
  _check(c, _SOURCE, where)
  rows = _rows(c, paths, where)
  return plans.Input(
    name=name,
    paths=paths,
    format=c.format,
    fields=_plain(c.fields),
    keep=tuple(c.keep),
    prefix=c.prefix,
    licence=c.licence,
    revision=c.revision,
    rows=rows,
  )


def _of_benchmark(name: str, c: Any) -> plans.Benchmark:
  where = f'config.benchmarks.{name}'
  _check_name(name, 'config.benchmarks')
  paths, c = _paths(c, where)
  _check(c, _BENCHMARK, where)
  rows = _rows(c, paths, where)
  return plans.Benchmark(name, paths, **_plain(c) | dict(rows=rows))


def _rows(c: Any, paths: Sequence[str], where: str) -> Mapping[str, Any] | None:
  """The component that returns the rows; None if they are in files."""
  rows = _plain(c.rows)
  if bool(paths) == bool(rows):
    raise ValueError(
      f'{where}: give either path, files, or rows, a component that returns '
      'them'
    )
  if rows:
    _check_component(rows, f'{where}.rows')
  return rows or None


def _paths(c: Any, where: str) -> tuple[tuple[str, ...], Any]:
  """(paths, the section without them): a path is a text or several."""
  if not fields.is_dict(c):
    raise ValueError(f'{where}={c!r:.60}: give curation.source or .benchmark')
  value = c.get('path')
  paths = (value,) if isinstance(value, str) else value
  if not isinstance(paths, tuple | list) or not all(
    isinstance(path, str) for path in paths
  ):
    raise ValueError(f'{where}.path={value!r:.60}: give a file, or several')
  rest = {name: each for name, each in _plain(c).items() if name != 'path'}
  return tuple(filter(None, paths)), ml_collections.ConfigDict(rest)


def _rules(
  steps: Sequence[Any], known: Sequence[str]
) -> tuple[plans.Rule, ...]:
  """The steps, each built.

  Raises:
    ValueError: one line; an unknown step or argument, or two of one name.
  """
  rules: list[plans.Rule] = []
  for i, given in enumerate(steps):
    where = f'config.steps[{i}]'
    component = _plain(given) if fields.is_dict(given) else given
    _check_component(component, where)
    action = component.pop('action', plans.DROP)
    name = component.pop('name', '')
    only = component.pop('only', ())
    if action not in _ACTIONS:
      raise ValueError(f'{where}.action={action!r:.60}: give drop or flag')
    if not isinstance(only, tuple) or not {*only} <= {*known}:
      raise ValueError(
        f'{where}.only={only!r:.60}: give a tuple of names of inputs, which '
        f'are {", ".join(known)}'
      )
    step = _built(component, where)
    name = name or step.name
    if not isinstance(name, str) or not _NAME.fullmatch(name):
      raise ValueError(
        f'{where}.name={name!r:.60}: give at most 40 letters, digits, _ . -'
      )
    if any(rule.name == name for rule in rules):
      raise ValueError(
        f'{where}: the second step of the name {name!r}; give it another name, '
        'as name=...'
      )
    rules.append(plans.Rule(name, action, step, only))
  return tuple(rules)


def _built(component: Mapping[str, Any], where: str) -> values.Step:
  try:
    step = resolve.build(component, where)
  except ValueError as e:
    told = str(e)
    raise ValueError(
      told if told.startswith(where) else f'{where}: {told}'
    ) from e
  if not isinstance(step, values.Step) or (step.each is None) == (
    step.whole is None
  ):
    raise ValueError(
      f'{where}.fn={component["fn"]!r}: expected a function that returns a '
      'data.curate.values.Step with either each or whole'
    )
  return step


def _check_component(component: Any, where: str) -> None:
  if not fields.is_component(component) or not isinstance(component['fn'], str):
    raise ValueError(
      f"{where}={component!r:.60}: give dict(fn='package.module:function', ...)"
    )


def _check_name(name: str, section: str) -> None:
  if not _NAME.fullmatch(name):
    raise ValueError(
      f'{section}.{name!r:.60}: give a name of at most 40 letters, digits, _ . '
      'and -'
    )


def _plain(value: Any) -> Any:
  """The value with dicts of Python in place of the config's."""
  if fields.is_dict(value):
    return {name: _plain(value[name]) for name in value}
  if isinstance(value, tuple | list):
    return tuple(map(_plain, value))
  return value


def _check(c: Any, table: Mapping[str, fields.Field], where: str) -> None:
  """Raises ValueError for the first field that is missing, unknown or bad."""
  checks.check_shape(c, '', where, table, 'curation.py')
  for path, row in table.items():
    # A plain dict has a name of one line.
    value = _plain(fields.value_at(c, path))
    checks.check_value(row, value, c, f'{where}.{path}')
