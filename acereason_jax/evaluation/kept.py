"""config.json: the config that an evaluation was made with, for --judge.

A folder may be a stranger's, and a config names functions that are called. So
one from a folder may name only sources and judges of this package.
"""

import inspect
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from acereason_jax import files, resolve, storage, types
from acereason_jax.data import questions
from acereason_jax.evaluation import values

NAME = 'config.json'
_MAX_BYTES = 16 << 20
# What the functions of a config give: problems, rows, verdicts.
_PARTS = (
  ('acereason_jax.evaluation.', values.Loaded),
  ('acereason_jax.data.', list[questions.Row]),
  ('acereason_jax.verifiers.', types.Verdict),
)


def write(
  folder: pathlib.Path, config: Mapping[str, Any], names: Sequence[str]
) -> None:
  """Keeps a config with its benchmarks `names`, besides those kept before.

  Raises:
    OSError: one line.
  """
  try:
    before = _content(folder)['benchmarks']
  except (ValueError, OSError):
    before = {}
  asked = {name: config['benchmarks'][name] for name in names}
  both = dict(config, benchmarks=before | asked)
  text = json.dumps(both, indent=2, sort_keys=True) + '\n'
  files.write_atomically(folder / NAME, text)


def read(folder: str) -> dict[str, Any]:
  """The config that a folder holds.

  Raises:
    ValueError, OSError: one line; there is none, or it names a function that is
      not of this package.
  """
  path = pathlib.Path(folder)
  config = _content(path)
  for fn in _functions(config):
    if not _is_ours(fn):
      raise ValueError(
        f'{path / NAME}: names {fn!r:.100}, which is no source or judge of '
        'this package and is not called from a file; give --config'
      )
  return config


def _content(folder: pathlib.Path) -> dict[str, Any]:
  path = folder / NAME
  if (content := storage.read(path, _MAX_BYTES)) is None:
    raise ValueError(f'{folder}: has no {NAME}; give the --config')
  try:
    match json.loads(content):
      case {'benchmarks': dict()} as config:
        return config
  except (ValueError, RecursionError):
    pass
  raise ValueError(f'{path}: not the config of an evaluation; give --config')


def _functions(config: Mapping[str, Any]) -> Iterator[Any]:
  """Everything in a config that may be taken for the name of a function."""
  left: list[Any] = [config]
  while left:
    part = left.pop()
    if isinstance(part, list):
      left += part
    elif isinstance(part, dict):
      left += part.values()
      yield from (part[name] for name in ('fn', 'reference') if part.get(name))


def _is_ours(fn: Any) -> bool:
  """Whether it is a public function that gives what one of `_PARTS` gives."""
  if not isinstance(fn, str):
    return False
  module, _, name = fn.partition(':')
  gives = [kind for start, kind in _PARTS if module.startswith(start)]
  if not gives or name.startswith('_') or not name.isidentifier():
    return False
  try:
    found = resolve.resolve(fn)
    kind = inspect.signature(found).return_annotation
  except (ValueError, TypeError):
    return False
  # What a module imports from elsewhere is not of this package.
  is_own = getattr(found, '__module__', '').startswith('acereason_jax.')
  return is_own and kind in gives
