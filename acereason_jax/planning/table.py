"""A plan's record as tables: for a terminal of 80 columns, and as Markdown.

The figures of a stage that does not fit are those with the change that makes it
fit; its name has a star then.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from acereason_jax.evaluation import shown

_GB, _MB = 1e9, 1e6
_NONE = shown.NONE
# What the phases of a step are called in a column.
_PHASES = {'checkpoint': 'save'}
_MOST_PARTS = 4
_SIZES = {
  'host_bytes': 'memory of a host',
  'checkpoint_bytes': 'a checkpoint',
  'journal_bytes': 'the journal of a step',
}
_LEGEND = (
  'step: seconds of one step, by phase; save, heldout and probe are spread '
  'over the steps of the stage. full: share of slots x decode steps with a '
  'rollout. tail: share of the decoding time with fewer than half of the '
  'slots busy. tok/s: tokens drawn a second on each chip, over the whole '
  'step. MFU: of an update. hours: at the most steps of a stage; it may end '
  'earlier.'
)

_Stage = Mapping[str, Any]


class Table(NamedTuple):
  """A head and rows of texts; the first column holds names."""

  head: Sequence[str]
  rows: Sequence[Sequence[str]]


def told(plan: Mapping[str, Any]) -> list[str]:
  """The lines for a terminal."""
  lines = list(_wrapped(_machines(plan)))
  for table in (_seconds(plan), _shares(plan)):
    if table.rows:
      lines += ['', *shown.table([table.head, *table.rows], names=1)]
  lines.append('')
  for text in (*_memory(plan), *_notes(plan), _LEGEND, *_ends(plan)):
    lines += _wrapped(text)
  return lines


def markdown(plan: Mapping[str, Any]) -> str:
  """The same as Markdown."""
  parts = [_machines(plan)]
  for table in (_seconds(plan), _shares(plan)):
    if table.rows:
      parts.append(pipes(table))
  notes = *_memory(plan), *_notes(plan)
  parts.append('\n'.join(f'- {note}' for note in notes))
  parts += [_LEGEND, *_ends(plan)]
  return '\n\n'.join(filter(None, parts)) + '\n'


def pipes(table: Table) -> str:
  """A table of Markdown."""
  rule = ['---'] + ['--:'] * (len(table.head) - 1)
  rows = [table.head, rule, *table.rows]
  return '\n'.join(f'| {" | ".join(_cell(c) for c in row)} |' for row in rows)


def _cell(text: str) -> str:
  return text.replace('|', r'\|') or ' '


def _wrapped(text: str) -> Iterator[str]:
  return shown.wrapped(text, indent=2)


def _machines(plan: Mapping[str, Any]) -> str:
  hosts = f'{plan["hosts"]} host{"s" * (plan["hosts"] > 1)}'
  chips = f'{plan["chips"]} chip{"s" * (plan["chips"] > 1)}'
  memory = plan['device_bytes']
  each = f', {memory / _GB:.1f} GB a device' if memory else ''
  return (
    f'{plan["note"]}: {plan["config"]}, {plan["model"]}, on '
    f'{plan["hardware"]}: {chips}, {hosts}{each}'
  )


def figures(stage: _Stage) -> _Stage:
  """The stage, or what it is with the change that makes it fit."""
  return stage.get('with_knob') or stage


def name(stage: _Stage) -> str:
  return stage['name'] + ('' if stage['fits'] else '*')


def _timed(plan: Mapping[str, Any]) -> list[tuple[str, _Stage]]:
  """Names and figures of the stages that have a time."""
  found = [(name(stage), figures(stage)) for stage in plan['stages']]
  return [(n, stage) for n, stage in found if stage['seconds'] is not None]


def _seconds(plan: Mapping[str, Any]) -> Table:
  """Seconds of a step by phase; phases that take none anywhere are left out."""
  stages = _timed(plan)
  phases = [
    phase
    for phase in dict.fromkeys(p for _, s in stages for p in s['seconds'])
    if any(s['seconds'].get(phase, 0) for _, s in stages)
  ]
  head = ('seconds', 'step', *(_PHASES.get(phase, phase) for phase in phases))
  return Table(
    head,
    [
      (
        n,
        seconds(s['step_seconds']),
        *(seconds(s['seconds'].get(phase, 0)) for phase in phases),
      )
      for n, s in stages
    ],
  )


def _shares(plan: Mapping[str, Any]) -> Table:
  stages = _timed(plan)
  priced = any(s['cost'] is not None for _, s in stages)
  head = (
    *('stage', 'slots', 'full', 'tail', 'tok/s', 'MFU', 'steps', 'hours'),
    *('chip-h', *(['cost'] if priced else [])),
  )
  rows = [
    (
      n,
      f'{s["slots"]:,}',
      percent(s['occupancy']),
      percent(s['tail']),
      whole(s['tokens_per_second_a_chip']),
      percent(s['mfu']),
      f'{s["steps"]:,}',
      hours(s['hours']),
      whole(s['chip_hours']),
      *([whole(s['cost'])] if priced else []),
    )
    for n, s in stages
  ]
  # The sum is of what fits as it is.
  if len(rows) > 1 and plan['hours'] is not None and plan['fits']:
    cost = [whole(plan['cost'])] if priced else []
    last = hours(plan['hours']), whole(plan['chip_hours']), *cost
    rows.append(('all', *[''] * 6, *last))
  return Table(head, rows)


def _memory(plan: Mapping[str, Any]) -> Iterator[str]:
  """What fills a device when it is fullest, a text a stage.

  Of the stage as the config has it; stages of one text share it.
  """
  texts: dict[str, list[str]] = {}
  for stage in plan['stages']:
    if phase := fullest(stage):
      texts.setdefault(_filled(phase), []).append(stage['name'])
  for text, names in texts.items():
    yield f'{", ".join(names)}: {text}'


def _filled(phase: Mapping[str, Any]) -> str:
  need, room = phase['bytes'], phase['room']
  share = f' ({percent(need / room)})' if room else ''
  parts = sorted(phase['parts'].items(), key=lambda item: -item[1])
  most = [
    f'{part} {size / _GB:.1f}'
    for part, size in parts[:_MOST_PARTS]
    if size >= 0.05 * _GB
  ]
  return (
    f'memory is fullest in {phase["name"]}, {need / _GB:.1f} of '
    f'{room / _GB:.1f} GB a device{share}: {", ".join(most)}'
  )


def fullest(stage: _Stage) -> Mapping[str, Any] | None:
  """The phase in which a device is fullest; None if none is known."""
  share = lambda phase: phase['bytes'] / phase['room'] if phase['room'] else 0
  return max(stage['memory'], key=share, default=None)


def _notes(plan: Mapping[str, Any]) -> Iterator[str]:
  """Why stages do not fit, what helps, and where the time goes, a text each.

  Stages for which only numbers differ share a text, with those of the first.
  """
  bad = [stage for stage in plan['stages'] if not stage['fits']]
  for alike in _grouped(bad, lambda stage: re.sub(r'[\d.,-]+', '', why(stage))):
    yield f'{alike[0]["name"]}: {why(alike[0])}'
    if rest := ', '.join(stage['name'] for stage in alike[1:]):
      yield f'{rest}: likewise, with other numbers'
  # What no memory would help says itself what to change.
  large = [stage for stage in bad if stage['knob'] or stage['memory']]
  for alike in _grouped(large, change):
    yield f'{", ".join(stage["name"] for stage in alike)}: {remedy(alike)}'
  for n, stage in _timed(plan):
    for waste in stage['wastes'][:1]:
      yield (
        f'{n}: {seconds(waste["seconds"])} s of '
        f'{seconds(stage["step_seconds"])} s: {waste["what"]}; '
        f'{waste["lever"]}'
      )


def _grouped(
  stages: Sequence[_Stage], key: Callable[[_Stage], str]
) -> list[list[_Stage]]:
  groups: dict[str, list[_Stage]] = {}
  for stage in stages:
    groups.setdefault(key(stage), []).append(stage)
  return [*groups.values()]


def why(stage: _Stage) -> str:
  """Why a stage does not fit."""
  if stage['refused']:
    own = f"stage '{stage['name']}': "
    return f'cannot be built: {stage["refused"].removeprefix(own)}'
  over = [phase for phase in stage['memory'] if not phase['fits']]
  told = ', '.join(
    f'{phase["name"]} takes {phase["bytes"] / _GB:.1f} of '
    f'{phase["room"] / _GB:.1f} GB a device'
    for phase in over
  )
  return f'does not fit: {told}'


def remedy(stages: Sequence[_Stage]) -> str:
  """What makes stages of one knob fit, and what they take then."""
  knob = stages[0]['knob']
  if knob is None:
    return 'no change is known with which it fits; take more devices'
  text = f'with {change(stages[0])} it fits ({knob["why"]})'
  then = [figures(stage) for stage in stages]
  if any(s['step_seconds'] is None or not s['fits'] for s in then):
    return text
  each = [seconds(s['step_seconds']) for s in then]
  total = hours(math.fsum(s['hours'] for s in then))
  return (
    f'{text}: {", ".join(each)} s a step, {total} hours; the tables show this, '
    'with stars'
  )


def change(stage: _Stage) -> str:
  """The knob of a stage as flags."""
  fields = (stage['knob'] or dict(fields={}))['fields']
  return ' '.join(f'--{field}={value}' for field, value in fields.items())


def _ends(plan: Mapping[str, Any]) -> Iterator[str]:
  """The meshes, sizes outside the devices, and the assumptions."""
  meshes: dict[str, list[str]] = {}
  for n, stage in _timed(plan):
    meshes.setdefault(_mesh(stage), []).append(n)
  for mesh, names in meshes.items():
    yield f'{", ".join(names)}: {mesh}'
  sizes = []
  for field, what in _SIZES.items():
    if found := [s[field] for s in plan['stages'] if s[field]]:
      sizes.append(f'{what} {_size(max(found))}')
  if sizes:
    yield f'At most, {", ".join(sizes)}.'
  if counts := [*dict.fromkeys(plan.get('questions', ()))]:
    yield f'Questions: {"; ".join(counts)}.'
  yield f'Assumed, each a flag: {assumptions(plan["assumed"])}.'
  if plan.get('lengths'):
    yield f'Lengths of responses: from {plan["lengths"]}, where it has them.'
  if plan['fits']:
    total = plan['hours']
    end = '' if total is None else f': {hours(total)} hours'
    yield f'It fits{end}, {plan["note"]}.'
  else:
    bad = [stage['name'] for stage in plan['stages'] if not stage['fits']]
    yield f'It does not fit: {", ".join(bad)}.'


def _mesh(stage: _Stage) -> str:
  """'mesh fsdp=16 tensor=4', and that of rollouts where it is another."""
  told = lambda mesh: (
    ' '.join(f'{axis}={n}' for axis, n in mesh.items() if n > 1)
    or 'of one device'
  )
  mesh, own = told(stage['mesh']), told(stage['rollout_mesh'])
  return f'mesh {mesh}' + (f'; of rollouts {own}' if own != mesh else '')


def _size(value: float) -> str:
  unit, name = (_GB, 'GB') if value >= 0.1 * _GB else (_MB, 'MB')
  return f'{value / unit:,.1f} {name}'


def assumptions(assumed: Mapping[str, Any]) -> str:
  told = []
  for field, value in assumed.items():
    if isinstance(value, Mapping):
      value = ','.join(f'{key}:{each:g}' for key, each in value.items())
    elif isinstance(value, float):
      value = f'{value:g}'
    if value != '':
      told.append(f'{field}={value}')
  return ', '.join(told)


def seconds(value: float | None) -> str:
  """'1,234', '161', '16.1', '1.61', '0.02', '0'."""
  if value is None or not math.isfinite(value):
    return _NONE
  if value == 0:
    return '0'
  if value >= 99.95:
    return f'{value:,.0f}' if value < 1e6 else shown.size(value)
  return f'{value:.1f}' if value >= 9.995 else f'{value:.2f}'


def hours(value: float | None) -> str:
  """As seconds are; '<0.01' for less than half a minute."""
  return '<0.01' if value is not None and 0 < value < 0.01 else seconds(value)


def percent(share: float | None) -> str:
  """'81%'."""
  return _NONE if share is None else f'{100 * share:.0f}%'


def whole(value: float | None) -> str:
  if value is None:
    return _NONE
  return f'{value:,.0f}' if value < 1e6 else shown.size(value)
