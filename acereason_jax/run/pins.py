"""The commits of the hub's models and data that a run began with.

A name without a commit means another one when its owner adds to it. The first
start finds out which, writes it to the run's folder, and puts it into the
names of the config. Every later start does the same from what is written. So
the names in checkpoints, and what is exported from them, stay what they were.
"""

import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import ml_collections

from acereason_jax import hub, storage
from acereason_jax.console import terminal

NAME = 'hub.json'
_MAX_BYTES = 1 << 20


def pinned(
  config: ml_collections.ConfigDict, workdir: str, first: bool
) -> ml_collections.ConfigDict:
  """The config with a commit in every name of the hub.

  The `first` process of a run writes those that its folder does not have yet.
  jax need not be connected: the commits are a part of what processes compare.

  Raises:
    ValueError, OSError: one line; a name that the hub does not have, for
      example, or a damaged record.
  """
  places = dict.fromkeys(hub.place(name) for name in names(config))
  path = storage.join(workdir, NAME)
  before = read(path)
  now = {at.name: before.get(at.name) or hub.commit_of(at) for at in places}
  for at in places:
    if first and now[at.name] != at.revision:
      known = 'as this run began' if at.name in before else 'from here on'
      terminal.say(f'{at}: commit {now[at.name][:12]}, {known}')
  if first and now.keys() - before.keys():
    storage.write(path, json.dumps(before | now, indent=2).encode())

  def pin(name: str) -> str:
    at = hub.place(name)
    return str(at._replace(revision=now[at.name]))

  whole = config.copy_and_resolve_references()
  with whole.unlocked(), whole.ignore_type():
    _replace(whole, lambda text: pin(text) if hub.is_file(text) else text)
    if is_on_hub(whole.model):
      whole.model = pin(whole.model)
  return whole.lock()


def read(path: str) -> dict[str, str]:
  """The commit of each repository as the config names it; {} without a file.

  Raises:
    ValueError: one line; it is not what `pinned` writes.
  """
  content = storage.read(path, _MAX_BYTES)
  if content is None:
    return {}
  try:
    values = json.loads(content)
  except (ValueError, RecursionError):
    values = None
  if not isinstance(values, dict) or not all(
    isinstance(v, str) and hub.COMMIT.fullmatch(v) for v in values.values()
  ):
    raise ValueError(
      f'{path}: expected a commit of 40 digits for each name; put the file '
      "back, or take the commits from the run's config.json"
    )
  return values


def names(config: ml_collections.ConfigDict) -> list[str]:
  """The names of models and files of the hub in a config."""
  found = [text for text in _texts(config) if hub.is_file(text)]
  return [config.model, *found] if is_on_hub(config.model) else found


def is_on_hub(model: str) -> bool:
  """Whether this model is one of the hub; a directory comes first."""
  return hub.is_model(model) and not os.path.isdir(model)


def _texts(value: Any) -> Iterator[str]:
  if isinstance(value, str):
    yield value
  elif isinstance(value, ml_collections.ConfigDict | dict):
    for part in value.values():
      yield from _texts(part)
  elif isinstance(value, list | tuple):
    for part in value:
      yield from _texts(part)


def _replace(value: Any, change: Callable[[str], str]) -> Any:
  """`value` with its texts changed; a ConfigDict is changed in place."""
  if isinstance(value, str):
    return change(value)
  if isinstance(value, ml_collections.ConfigDict):
    for name, part in value.items():
      value[name] = _replace(part, change)
  elif isinstance(value, dict):
    return {name: _replace(part, change) for name, part in value.items()}
  elif isinstance(value, list | tuple):
    return type(value)(_replace(part, change) for part in value)
  return value
