"""The kept rollouts of a run, read back from its folder; see archive.py.

The folder may be a stranger's, or at gs://. The text of a rollout is hostile.
"""

import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from acereason_jax import storage
from acereason_jax.data import archive, rollouts

_FIELDS = 'prompt', 'index', 'domain', 'stop', 'detail'


class Where(NamedTuple):
  """Which kept rollouts of a run are read.

  step: those of this step; None: of all.
  phase: those of this phase, one of `archive.PHASES`; None: of all.
  """

  step: int | None = None
  phase: str | None = None

  def __str__(self) -> str:
    step = '' if self.step is None else f' of step {self.step}'
    return step + ('' if self.phase is None else f' ({self.phase})')


def is_run(path: str) -> bool:
  """Whether a path is a folder, not a file of rollouts."""
  return storage.is_remote(path) or os.path.isdir(path)


def places(run: str, *folders: str) -> list[archive.Place]:
  """The files of rows of a run, in order, or those in a folder below them.

  Raises:
    OSError: one line.
  """
  names = storage.names(_path(run, *folders))
  found = [place for name in names if (place := archive.place(name))]
  # 'before' is at the step where training begins, a probe where a stage ended.
  order = archive.BEFORE, archive.HELDOUT, archive.TRAIN, archive.PROBE
  return sorted(found, key=lambda p: (p.step, order.index(p.phase)))


def rows(
  run: str, place: archive.Place, columns: Sequence[str] | None = None
) -> Any:
  """A pyarrow.Table of `columns` of the rows of a file.

  Raises:
    ValueError, OSError: one line, which names the file.
  """
  path = _path(run, place.name)
  return _read(path, lambda data: archive.read_rows(data, columns))


def domains(run: str, where: Where) -> list[str]:
  """The domains of the rollouts whose texts are kept.

  Raises:
    ValueError, OSError: one line; there are none, or a file is damaged.
  """
  found: set[str] = set()
  for place in _with_texts(run, where):
    found |= set(rows(run, place, ['domain'])['domain'].unique().to_pylist())
  return sorted(found)


def responses(
  run: str, where: Where, domain: str
) -> Iterator[rollouts.Response]:
  """The rollouts of a domain whose texts are kept; raises as `domains` does."""
  for place in _with_texts(run, where):
    for found, one in _with_domains(run, place):
      if found == domain:
        yield one


def find(
  run: str, where: Where, wanted: str, index: int
) -> tuple[str, rollouts.Response]:
  """(domain, rollout) with this id and index, of the newest step that has it.

  Raises:
    ValueError, OSError: one line; it is not there, or has no response, or a
      training and a held-out question of that step have this id.
  """
  others, found = set(), {}
  for place in reversed(_with_texts(run, where)):
    if found and place.step < next(iter(found)).step:
      break
    for domain, one in _with_domains(run, place):
      if one.id == wanted and one.index == index:
        found[place] = domain, one
        break
      if one.id == wanted:
        others.add(one.index)
  which = f'{run}: id {wanted!r:.220}{where}'
  if len(found) > 1:
    phases = ' and '.join(sorted(place.phase for place in found))
    step = next(iter(found)).step
    raise ValueError(
      f'{which} is in {phases} of step {step}: other questions may have the '
      'same id; give --phase'
    )
  if found:
    ((domain, one),) = found.values()
    return domain, _whole(run, one)
  has = 'has no kept text'
  if others:
    has = f'has indices {sorted(others)[:20]}, not {index}'
  raise ValueError(f'{which} {has}')


def _with_texts(run: str, where: Where) -> list[archive.Place]:
  found = [
    place
    for place in places(run, archive.TEXTS)
    if where.step in (None, place.step) and where.phase in (None, place.phase)
  ]
  if not found:
    raise ValueError(
      f'{run}: holds no kept texts{where}; config.keep.groups keeps them'
    )
  return found


def _with_domains(
  run: str, place: archive.Place
) -> Iterator[tuple[str, rollouts.Response]]:
  facts = {
    (row['prompt'], row['index']): row
    for row in rows(run, place, _FIELDS).to_pylist()
  }
  path = _path(run, archive.TEXTS, place.name)
  for text in _read(path, archive.read_texts):
    if (row := facts.get((text.prompt, text.index))) is None:
      raise ValueError(f'{path}: {text.prompt!r:.60} has no row')
    broken = row['detail'] if row['stop'] == 'error' else None
    yield (
      row['domain'],
      rollouts.Response(
        text.prompt, text.index, text.text, text.answer, broken, place.step
      ),
    )


def _whole(run: str, one: rollouts.Response) -> rollouts.Response:
  if one.broken is not None:
    raise ValueError(
      f'{run}: {one.name}: no response, the rollout ended with an error: '
      f'{one.broken:.200}'
    )
  return one


def _read(path: str, parse: Any) -> Any:
  if (data := storage.read(path, archive.MAX_FILE_BYTES)) is None:
    raise ValueError(f'{path}: there is no such file')
  try:
    return parse(data)
  except ValueError as e:
    raise ValueError(f'{path}: {e}') from e


def _path(run: str, *names: str) -> str:
  return storage.join(run, archive.FOLDER, *names)
