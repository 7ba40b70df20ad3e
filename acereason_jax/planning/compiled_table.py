"""What compilers say of a stage's programs, for JSON and for a terminal."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from acereason_jax.evaluation import shown
from acereason_jax.planning import compiled

_GB = 1e9
_HEAD = ('', 'GB', 'room', 'temp', 'sent', 'copied', 'spills', 'compiled in')
_LEGEND = (
  'GB: what a device holds while the program runs, with what is beside its '
  'arguments. sent: by a device in one call, in rings. copied: the largest '
  'array that is written anew.'
)


def record(program: compiled.Program) -> dict[str, Any]:
  """A program as JSON holds it."""
  return program._asdict() | dict(
    sends=[each._asdict() for each in program.sends],
    spills=dict(program.spills),
    unread=list(program.unread),
    own=program.own,
    need=program.need,
    sent=program.sent,
    fits=program.fits,
  )


def told(stage: str, programs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
  """The lines about a stage's programs, for 80 columns.

  Args:
    stage: name of the stage.
    programs: their records.
  """
  yield from shown.wrapped(
    f'{stage}: compiled ahead of time, not run', indent=2
  )
  rows = [
    (
      program['name'],
      *(f'{program[n] / _GB:.2f}' for n in ('need', 'room', 'temporaries')),
      *(f'{program[n] / _GB:.2f}' for n in ('sent', 'copied')),
      f'{sum(program["spills"].values()):,}',
      f'{program["seconds"]:.0f} s',
    )
    for program in programs
    if not program['problem']
  ]
  if rows:
    yield from shown.table([_HEAD, *rows], names=1)
    yield from shown.wrapped(_LEGEND, indent=2)
  for program in programs:
    for text in _notes(program):
      yield from shown.wrapped(f'{program["name"]}: {text}', indent=2)


def _notes(program: Mapping[str, Any]) -> Iterator[str]:
  """What a reader must know of a program, a text each."""
  if program['problem']:
    yield f'does not compile: {program["problem"]}'
    return
  if not program['fits']:
    yield (
      f'does not fit: {program["need"] / _GB:.1f} of '
      f'{program["room"] / _GB:.1f} GB a device'
    )
  lost = program['donated'] - program['aliased']
  if lost > 0.01 * _GB:
    yield (
      f'{lost / _GB:.2f} GB of donated arguments are not written in place, so '
      'there are two copies'
    )
  if program['slices']:
    yield (
      f'copies {program["slices"] / _GB:.1f} GB of stacked weights a call, '
      'layer by layer'
    )
  if program['sorted']:
    yield f'sorts rows of {program["sorted"]:,} numbers'
  for kind in program['sends']:
    yield f'{kind["kind"]}: {kind["ops"]:,.0f} a call, {_sent(kind["sent"])}'
  for text in program['unread']:
    yield f'not read: {text}'


def _sent(size: float) -> str:
  return f'{size / _GB:.3g} GB sent'
