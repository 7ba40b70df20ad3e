"""The parts of a page that need no script: head, alarms, curves, config, time.

All texts of a report may be hostile: unprintable characters are escaped first,
then HTML, by `safe`. No part has a style of its own; widths are those of SVG.
"""

import html
import math
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from acereason_jax.console import terminal
from acereason_jax.reporting import pictures, values
from acereason_jax.reporting import waste as waste_lib

SECTIONS = (
  *('head', 'curves', 'rollouts', 'prompts', 'slots', 'time', 'config'),
  'tables',
)
_LEVELS = dict(
  bad=('&#9632;', 'act'), warn=('&#9650;', 'look'), good=('&#10003;', 'good')
)
_MAX_CHARS = 4000
_MAX_SHOWN = 200
_MAX_ROWS = 2000
_NOTHING = '<p class="quiet">Nothing to show: {}</p>'
_NO_RECIPE = (
  '<p class="quiet">The recipe\'s file is not in configs/ here, or was not '
  'read: nothing is compared with it.</p>'
)


def parts(report: values.Report) -> dict[str, str]:
  """The texts of the template, by name; each is HTML."""
  return dict(
    name=safe(report.name, _MAX_SHOWN),
    facts=_pairs(report.facts),
    alarms=_alarms(report.alarms),
    notes=_notes(report.notes),
    curves=pictures.curves(report.curves),
    held=_held(report.samples),
    prompts=_prompts(report.prompts),
    slots=_slots(report.slots),
    time=_time(report.waste),
    config=_config(report.fields),
    tables=''.join(map(_table, report.tables))
    or _NOTHING.format('the run has no evaluation and no plan.'),
  )


def safe(value: Any, most: int = _MAX_CHARS) -> str:
  """Text for HTML and for an attribute in double quotes, at most so long."""
  return html.escape(terminal.printable(terminal.cut(str(value), most)))


def _pairs(pairs: Sequence[tuple[str, str]]) -> str:
  return '\n'.join(
    f'<div><dt>{safe(name)}</dt><dd>{safe(value)}</dd></div>'
    for name, value in pairs
  )


def _notes(notes: Sequence[str]) -> str:
  lines = ''.join(f'<li>{safe(note)}</li>' for note in notes)
  return f'<ul class="notes">{lines}</ul>' if lines else ''


def _alarms(alarms: Sequence[values.Alarm]) -> str:
  if not alarms:
    return '<p class="quiet">No rule found anything to look at.</p>'
  return f'<ol class="alarms">{"".join(map(_alarm, alarms))}</ol>'


def _alarm(alarm: values.Alarm) -> str:
  level = alarm.level if alarm.level in _LEVELS else 'warn'
  mark, word = _LEVELS[level]
  section = alarm.section if alarm.section in SECTIONS else SECTIONS[0]
  link = html.escape('#' + section + _query(alarm.filters))
  return (
    f'<li class="{level}"><a href="{link}"><span class="mark">{mark} {word}'
    f'</span> <strong>{safe(alarm.title)}</strong> <span class="said">'
    f'{safe(alarm.detail)}</span> <span class="go">show in {section}</span>'
    '</a></li>'
  )


def _query(filters: Mapping[str, Any]) -> str:
  """The filters as the page's script reads them from its address."""
  text = lambda value: str(value)[:_MAX_SHOWN].encode(errors='backslashreplace')
  pairs = [
    (text(name), text(value))
    for name, given in filters.items()
    for value in (given if isinstance(given, list | tuple) else [given])
  ]
  return '?' + urllib.parse.urlencode(pairs) if pairs else ''


def _held(samples: values.Samples) -> str:
  count = len(samples.samples)
  note = f' {safe(samples.note)}' if samples.note else ''
  return (
    f'<p>This page holds {count:,} of {samples.held:,} rollouts whose text is '
    f'kept, of {samples.rollouts:,} in all.{note}</p>'
  )


def _prompts(prompts: values.Prompts | None) -> str:
  if prompts is None:
    return _NOTHING.format('the run has no ledger of its prompts.')
  counts = _pairs([(kind, f'{n:,}') for kind, n in prompts.counts.items()])
  said = [f'<dl class="facts">{counts}</dl>']
  if prompts.luck is not None:
    found, luck, asked = prompts.luck
    said.append(
      f'<p>Became solvable: {found:,} of the {asked:,} prompts that were asked '
      f'in both halves of the run. Luck explains {luck:,.1f} of them.</p>'
    )
  if prompts.note:
    said.append(f'<p class="quiet">{safe(prompts.note)}</p>')
  return ''.join(said)


def _slots(slots: values.Slots | None) -> str:
  if slots is None or not slots.stays:
    return _NOTHING.format('the run has no timeline of a step shown.')
  others = [pair for pair in slots.facts if pair[0] != 'step']
  facts = _pairs([('step', f'{slots.step:,}'), *others])
  return f'<dl class="facts">{facts}</dl>'


def _time(waste: values.Waste | None) -> str:
  if waste is None:
    return _NOTHING.format('the run has no clock.')
  root = waste.root
  rows = ''.join(_nodes(root, 0, 1000, 1000))
  return (
    f'{pictures.bars(root)}<div class="scroll"><table class="tree">'
    '<caption>Wall time, by what it was spent on</caption><thead><tr>'
    '<th scope="col">what</th><th scope="col" class="n">time</th>'
    '<th scope="col" class="n">of all</th><th scope="col" class="n">of the '
    'part above</th><th scope="col" class="n">its parts sum to</th>'
    '<th scope="col">share</th><th scope="col">what would shrink it</th></tr>'
    f'</thead><tbody>{rows}</tbody></table></div>{_notes(waste.notes)}'
  )


def _nodes(
  node: values.Node, depth: int, whole: int, parent: int
) -> Iterator[str]:
  """Rows of a part and of its parts; shares are thousandths."""
  found = sum(part.milliseconds for part in node.parts)
  total = f'{100 * found / max(node.milliseconds, 1):.1f}%'
  name = safe(node.name)
  if node.figure:
    name += f' <span class="quiet">{safe(node.figure)}</span>'
  yield (
    f'<tr class="d{min(depth, 6)}"><th scope="row">{name}</th>'
    f'<td class="n">{duration(node.milliseconds)}</td>'
    f'<td class="n">{whole / 10:.1f}%</td><td class="n">{parent / 10:.1f}%</td>'
    f'<td class="n">{total if node.parts and node.milliseconds else ""}</td>'
    f'<td>{pictures.bar(whole / 1000)}</td><td>{safe(node.lever)}</td></tr>'
  )
  sizes = [part.milliseconds for part in node.parts]
  split = waste_lib.apportioned
  for part, *shares in zip(node.parts, split(whole, sizes), split(1000, sizes)):
    yield from _nodes(part, depth + 1, *shares)


def duration(milliseconds: int) -> str:
  """For people, with two units at most."""
  seconds = milliseconds / 1000
  if seconds < 10:
    return f'{seconds:.2f} s'
  if seconds < 60:
    return f'{seconds:.1f} s'
  minutes = math.floor(seconds / 60)
  if minutes < 60:
    return f'{minutes} min {math.floor(seconds % 60):02d} s'
  return f'{minutes // 60:,} h {minutes % 60:02d} min'


def _config(fields: Sequence[values.Field]) -> str:
  """The table of fields; without the recipe's column if no field has one."""
  if not fields:
    return _NOTHING.format('the run has no config.')
  known = any(field.recipe is not None for field in fields)
  heads = ['field', 'value', 'default', 'stages', 'other runs']
  if known:
    heads.insert(2, "recipe's file")
  head = ''.join(f'<th scope="col">{name}</th>' for name in heads)
  rows = ''.join(_field(field, known) for field in fields)
  mark = ' data-recipe="1"' if known else ''
  return (
    f'{"" if known else _NO_RECIPE}<div class="scroll">'
    f'<table id="fields"{mark}><caption>Fields of the '
    f'config</caption><thead><tr>{head}</tr></thead><tbody>{rows}</tbody>'
    '</table></div>'
  )


def _field(field: values.Field, recipe: bool) -> str:
  """The row of a field, with a cell for the `recipe` if that is known."""
  same = (field.value, None)
  kinds = [
    *(['recipe'] * (field.recipe not in same)),
    *(['default'] * (field.default not in same)),
    *(['stages'] * bool(field.stages)),
    *(['runs'] * bool(field.others)),
  ]
  beside = (field.recipe, field.default) if recipe else (field.default,)
  cells = [
    _value(field.value),
    *(_other(x, field.value) for x in beside),
    *(_named(pairs) for pairs in (field.stages, field.others)),
  ]
  row = ''.join(f'<td>{cell}</td>' for cell in cells)
  changed = f' data-changed="{" ".join(kinds)}"' if kinds else ''
  name = f'<code>{safe(field.name, _MAX_SHOWN)}</code>'
  return f'<tr{changed}><th scope="row">{name}</th>{row}</tr>'


def _other(text: str | None, value: str) -> str:
  if text is None:
    return '<span class="quiet">none</span>'
  return '<span class="quiet">same</span>' if text == value else _value(text)


def _named(pairs: Mapping[str, str]) -> str:
  return ''.join(
    f'<div><span class="quiet">{safe(name, _MAX_SHOWN)}</span> '
    f'{_value(text)}</div>'
    for name, text in pairs.items()
  )


def _value(text: str) -> str:
  """A long one is folded."""
  if not text:
    return '<span class="quiet">not set</span>'
  if len(text) <= _MAX_SHOWN:
    return f'<code>{safe(text)}</code>'
  short = safe(text[: _MAX_SHOWN // 2])
  return (
    f'<details><summary><code>{short}</code> &hellip;</summary>'
    f'<code>{safe(text)}</code></details>'
  )


def _table(table: values.Table) -> str:
  head = ''.join(f'<th scope="col">{safe(x, 500)}</th>' for x in table.head)
  rows = ''.join(
    f'<tr>{"".join(f"<td>{safe(x)}</td>" for x in row)}</tr>'
    for row in table.rows[:_MAX_ROWS]
  )
  lost = len(table.rows) - _MAX_ROWS
  more = f' {lost:,} more rows are left out.' if lost > 0 else ''
  note = f'<p class="quiet">{safe(table.note)}{more}</p>'
  return (
    f'<h3>{safe(table.title)}</h3><div class="scroll"><table><thead><tr>{head}'
    f'</tr></thead><tbody>{rows}</tbody></table></div>{note}'
  )
