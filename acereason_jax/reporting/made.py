"""What made a run, and on which devices: facts of the head, and differences."""

import itertools
from collections.abc import Callable, Iterator, Sequence

from acereason_jax.reporting import files

UNKNOWN = 'not recorded'
# Of a run that changed more often, the first and the last are told.
_MOST = 3


def facts(starts: Sequence[files.Begun]) -> list[tuple[str, str]]:
  """(name, value) pairs; what changed between starts is told in order."""
  return [
    ('run by', _over_time(starts, programs)),
    ('devices', _over_time(starts, devices)),
  ]


def programs(made: files.Made) -> str:
  """The versions; UNKNOWN without them."""
  if not made.version:
    return UNKNOWN
  of = f' ({made.commit})' if made.commit else ''
  others = [('jax', made.jax), ('Python', made.python)]
  if made.jaxlib != made.jax:
    others.insert(1, ('jaxlib', made.jaxlib))
  told = (f', {name} {version}' for name, version in others if version)
  return f'acereason_jax {made.version}{of}{"".join(told)}'


def devices(made: files.Made) -> str:
  """Their number and kind; UNKNOWN without them."""
  return f'{made.devices:,} x {made.device}' if made.device else UNKNOWN


def differences(
  run: Sequence[files.Begun], other: Sequence[files.Begun], name: str
) -> Iterator[str]:
  """What made the newest starts of two runs, where both are known."""
  if not run or not other:
    return
  for what, text in (('run by', programs), ('run on', devices)):
    mine, theirs = text(run[-1].made), text(other[-1].made)
    if mine != theirs and UNKNOWN not in (mine, theirs):
      yield f'{name} was {what} {theirs}, this one {what[4:]} {mine}.'


def _over_time(
  starts: Sequence[files.Begun], text: Callable[[files.Made], str]
) -> str:
  """The texts of the starts, with the step after which each began."""
  groups = itertools.groupby(starts, key=lambda start: text(start.made))
  found = [(told, next(group).step) for told, group in groups]
  if not found:
    return UNKNOWN
  (first, _), *later = found
  later = [f'after step {step:,} {told}' for told, step in later]
  if len(found) > _MOST:
    later = [f'{len(later) - 1:,} changes', later[-1]]
  return '; '.join([first, *later])
