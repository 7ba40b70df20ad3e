"""Reads the files of a run's folder, which may be a stranger's or still grow.

A file that does not exist reads as nothing. A last line may be torn, because a
run was killed or writes it now; it is left out, as every line that is no JSON
object. Numbers that are not finite are None.
"""

import contextlib
import json
import math
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from acereason_jax import files, storage
from acereason_jax.rollout import trace

METRICS, CONFIG, CHANGES = 'metrics.jsonl', 'config.json', 'changes.json'
SUMMARY, STARTS, CLOCK = 'summary.json', 'starts.jsonl', 'clock.jsonl'
TIMELINE, PLAN = 'timeline.jsonl', 'plan.json'
_MOST_LINES_BYTES = 1 << 30
_MOST_JSON_BYTES = 64 << 20
# As much as a run would read of them.
_MOST_STARTS_BYTES = 1 << 20
_MOST_STEP = 1 << 40
# Characters of a version, or of a device's name.
_MOST_TEXT = 60
_MOST_METRICS = 2000
# Fewer than those of the largest float.
_MOST_DIGITS = 300


class Made(NamedTuple):
  """What made a start: see `run.versions.Made`; '' and 0 if it is unknown."""

  version: str = ''
  commit: str = ''
  python: str = ''
  jax: str = ''
  jaxlib: str = ''
  device: str = ''
  devices: int = 0


class Begun(NamedTuple):
  """A start of the run.

  step: step of the checkpoint that it began with; 0 without one.
  config: name of the config's file; '' if it is unknown.
  ended: 'done', 'asked' by a signal, 'told' the user what to fix; '' if it
    died or goes on.
  phase: last phase that it entered for the first time.
  made: what made it.
  """

  step: int
  config: str
  ended: str
  phase: str
  made: Made = Made()


def text(folder: str, name: str) -> str:
  """Text of a file of lines; '' without one. Raises: ValueError, OSError."""
  found = storage.read(storage.join(folder, name), _MOST_LINES_BYTES)
  return (found or b'').decode(errors='replace')


def objects(lines: str) -> Iterator[dict[str, Any]]:
  """The JSON objects among lines; other lines are left out."""
  for line in lines.splitlines():
    with contextlib.suppress(ValueError, RecursionError):
      if isinstance(found := json.loads(line), dict):
        yield found


def metrics(lines: str) -> list[dict[str, float | None]]:
  """The metrics of each step, in order of steps; the last line of each counts.

  The key 'step' is an int. A value that is no number is left out, and so are
  names after the first 2,000 of the file.
  """
  found, names = {}, set()
  for record in objects(lines):
    step = record.get('step')
    if type(step) is int and 0 <= step < _MOST_STEP:
      numbers = {k: _number(v) for k, v in record.items() if _is_number(v)}
      fresh = [name for name in numbers if name not in names]
      names.update(fresh[: _MOST_METRICS - len(names)])
      kept = {k: v for k, v in numbers.items() if k in names}
      found[step] = dict(kept, step=step)
  return [found[step] for step in sorted(found)]


def _is_number(value: Any) -> bool:
  return value is None or type(value) in (int, float)


def _number(value: Any) -> float | None:
  try:
    number = None if value is None else float(value)
  except OverflowError:
    return None
  return number if number is not None and math.isfinite(number) else None


def value(folder: str, name: str) -> Any:
  """The JSON value of a file; None without one.

  Raises:
    ValueError, OSError: one line; no JSON, or too large.
  """
  path = storage.join(folder, name)
  if (content := storage.read(path, _MOST_JSON_BYTES)) is None:
    return None
  try:
    return json.loads(content, parse_int=_whole)
  except (ValueError, RecursionError) as e:
    reason = ' '.join(str(e).split())[:100]
    raise ValueError(f'{path}: not JSON ({reason})') from e


def _whole(text: str) -> int | float:
  """An integer that can be made a float; a larger one is infinite."""
  return int(text) if len(text) <= _MOST_DIGITS else float(text)


def starts(folder: str) -> list[Begun]:
  """The starts of a run, in order. Raises: ValueError, OSError."""
  content = storage.read(storage.join(folder, STARTS), _MOST_STARTS_BYTES)
  found = []
  for record in objects((content or b'').decode(errors='replace')):
    texts = [record.get(name, '') for name in ('config', 'ended', 'phase')]
    step = record.get('step')
    if type(step) is int and all(isinstance(each, str) for each in texts):
      made = _made(record.get('made'))
      found.append(Begun(min(max(step, 0), _MOST_STEP), *texts, made))
  return found


def _made(record: Any) -> Made:
  """What a file says; a value of another type, or a long text, is unknown."""
  given = {name: at(record, name) for name in Made._fields}
  return Made(
    **{
      name: value
      for name, value in given.items()
      if (type(value) is str and name != 'devices' and len(value) <= _MOST_TEXT)
      or (type(value) is int and name == 'devices' and 0 < value < _MOST_STEP)
    }
  )


def timeline(folder: str) -> tuple[dict[str, Any], list[trace.Event]] | None:
  """(header, events) of the newest step; None without a timeline.

  Raises:
    ValueError, OSError: one line.
  """
  path = storage.join(folder, TIMELINE)
  if not storage.is_remote(folder):
    return trace.read_events(path) if os.path.exists(path) else None
  if (content := storage.read(path, _MOST_JSON_BYTES)) is None:
    return None
  with files.scratch() as local:
    copy = pathlib.Path(local) / TIMELINE
    copy.write_bytes(content)
    return trace.read_events(copy)


def at(record: Any, *path: str) -> Any:
  """The value at a path of nested objects; None where there is none."""
  for name in path:
    record = record.get(name) if isinstance(record, Mapping) else None
  return record


def stage_names(config: Any) -> list[str]:
  """Names of a stored config's stages, in order; ['main'] if it names none."""
  stages = at(config, 'stages')
  names = [
    str(at(stage, 'name'))
    for stage in (stages if isinstance(stages, list) else ())
  ]
  return names or ['main']
