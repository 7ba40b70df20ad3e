"""What all processes of a run must have in common, compared before it starts.

Processes that disagree about it would train something silently wrong, or wait
for each other forever.
"""

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import platform
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax

from acereason_jax import storage
from acereason_jax.console import terminal
from acereason_jax.hosts import gang as gang_lib
from acereason_jax.models import embedded, hf, tensorfiles
from acereason_jax.run import checkpoint, values

PACKAGES = (
  *('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'tensorstore'),
  *('transformers', 'tokenizers', 'jinja2', 'numpy', 'sympy', 'math-verify'),
)
# Settings of jax that change numbers.
SETTINGS = (
  'jax_enable_x64',
  'jax_default_matmul_precision',
  'jax_default_prng_impl',
  'jax_threefry_partitionable',
)
_PART = re.compile(r'([A-Za-z_][\w.]*):[A-Za-z_][\w.]*')
_MOST_FILES = 2000
_READ = '.safetensors', '.json', '.jinja', '.txt', '.model'
# A shared disk may show a new file to other machines only after a while.
_TOKEN_SECONDS = 10.0
_MOST_SHOWN = 160
_ABSENT = 'nothing'
WORKDIR = 'workdir'
_SHARED = 'shared'


def check(gang: gang_lib.Gang, config: Any, workdir: str) -> None:
  """Ends all processes, in one line, if they do not agree about the run.

  Nothing has been compiled or built. `config` is the run's ConfigDict.

  Raises:
    ValueError, OSError: one line; something of this process cannot be read.
  """
  if gang.alone:
    return
  gang.agree(facts(config), difference)
  # Only now: a process that cannot read its own files leaves no token behind.
  check_folder(gang, workdir)


def check_folder(gang: gang_lib.Gang, workdir: str) -> None:
  """Ends all processes if they do not see one folder; makes it."""
  path = token_path(workdir, gang.start.word)
  if gang.own.process == 0:
    storage.write(path, gang.start.word.encode())

  def compare(every: Sequence[gang_lib.Told]) -> str:
    storage.remove(path)  # All have looked.
    return difference(every, workdir)

  gang.agree({WORKDIR: sees_token(path, gang.start.word)}, compare)


def check_digests(gang: gang_lib.Gang, run: values.Run) -> None:
  """The same for what is known once the run is built: data, tokens, network."""
  known = {
    f'config.{name}' if 'data' in name else name: brief(value)
    for name, value in run.digests.items()
  }
  if run.start_run:
    known['config.start.run'] = f'checkpoint {checkpoint.stamp(run.start_run)}'
  gang.agree(known, difference)


def facts(config: Any, model: str = '') -> dict[str, str]:
  """What this process knows: text by name, in the order to compare it in.

  `model` is the directory of the model's files; '': what `config.model` names.

  Raises:
    ValueError, OSError: one line; the model cannot be read.
  """
  plain = json.loads(config.to_json())
  model = model or embedded.resolve_model(config.model)
  versions = {name: _version(name) for name in PACKAGES}
  return {
    'Python': platform.python_version(),
    **versions,
    **{name: str(getattr(jax.config, name)) for name in SETTINGS},
    **dict(sources(plain)),
    **dict(_flat('config', plain)),
    **dict(_files(model)),
  }


def _version(package: str) -> str:
  try:
    return importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:
    return _ABSENT


def sources(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
  """Digests of this package's files, and of a user's that the config names."""
  root = pathlib.Path(__file__).parent.parent
  for file in sorted(root.rglob('*.py')):
    yield f'source {root.name}/{file.relative_to(root)}', _digest(file)
  for module in sorted(_modules(config)):
    file = _source_of(module)
    if file is not None and not file.is_relative_to(root):
      yield f'source of {module}', _digest(file)


def _modules(value: Any) -> Iterator[str]:
  """The modules of all 'package.module:function' in a config."""
  match value:
    case dict():
      for inner in value.values():
        yield from _modules(inner)
    case list():
      for inner in value:
        yield from _modules(inner)
    case str() if found := _PART.fullmatch(value):
      yield found[1]


def _source_of(module: str) -> pathlib.Path | None:
  try:
    spec = importlib.util.find_spec(module)
  except (ImportError, ValueError):
    return None  # What names it reports it.
  if spec is None or not spec.has_location:
    return None
  return pathlib.Path(spec.origin)


def _flat(name: str, value: Any) -> Iterator[tuple[str, str]]:
  """The leaves of a config, as JSON, by the names that flags have."""
  match value:
    case dict() if value:
      inner = value.items()
    case [dict(), *_]:
      inner = enumerate(value)
    case _:
      yield name, json.dumps(value)
      return
  for key, part in inner:
    yield from _flat(f'{name}.{key}', part)


def _files(directory: str) -> Iterator[tuple[str, str]]:
  """A text of each file of a model directory that tells its content."""
  names = sorted(
    entry.name
    for entry in os.scandir(directory)
    if entry.name.endswith(_READ) and entry.is_file()
  )
  for name in names[:_MOST_FILES]:
    yield f'model file {name}', hf.sample(os.path.join(directory, name))


def _digest(path: str | os.PathLike) -> str:
  with tensorfiles.open_regular(path) as file:
    return hf.short(hashlib.file_digest(file, 'sha256'))


def brief(value: Any) -> str:
  """A value of a run's digests for one line; a long one by its digest."""
  if isinstance(value, str) and re.fullmatch('[0-9a-f]{64}', value):
    return f'SHA-256 {value[:16]}...'
  return json.dumps(value)


# --- the folder -------------------------------------------------------------


def token_path(workdir: str, word: str) -> str:
  """The file by which the processes know that they see one folder.

  Its name is new at every start: a network disk remembers what was not there.
  """
  return storage.join(workdir, f'.start-{word}')


def sees_token(path: str, word: str) -> str:
  """'shared', or what is found where process 0 wrote its token."""
  until = time.monotonic() + _TOKEN_SECONDS
  while storage.read(path, 1000) != word.encode():
    if time.monotonic() > until:
      return path
    time.sleep(0.2)
  return _SHARED


# --- the comparison ---------------------------------------------------------


def difference(every: Sequence[gang_lib.Told], workdir: str = '') -> str:
  """The first thing that not all processes know alike, in one line; or ''.

  Of three and more processes it names one of the fewest, beside one of the
  most.
  """
  names = dict.fromkeys(name for told in every for name in told.facts)
  for name in names:
    groups: dict[str, list[gang_lib.Told]] = {}
    for told in every:
      groups.setdefault(told.facts.get(name, _ABSENT), []).append(told)
    if len(groups) > 1:
      return _line(name, groups, workdir)
  return ''


def _line(
  name: str, groups: Mapping[str, Sequence[gang_lib.Told]], workdir: str
) -> str:
  # Equal ones stay in order: process 0's first.
  most, *_, fewest = sorted(groups.items(), key=lambda g: -len(g[1]))
  if name == WORKDIR:
    first = next(
      t for value, g in groups.items() if value != _SHARED for t in g
    )
    return (
      f'error: process {first.process} on {first.host} sees another folder at '
      f'{workdir} than process 0 on {groups[_SHARED][0].host}; use a disk that '
      'all hosts share, or gs://'
    )
  both = sorted((most, fewest), key=lambda g: g[1][0].process)
  shown = ', '.join(_told(value, group) for value, group in both)
  return (
    f'error: the processes differ in {_shown(name)}: {shown}; {_remedy(name)}'
  )


def _told(value: str, group: Sequence[gang_lib.Told]) -> str:
  first = group[0]
  more = f' and {len(group) - 1} more' if len(group) > 1 else ''
  return f'{_shown(value)} on {first.host} (process {first.process}{more})'


def _shown(text: str) -> str:
  return terminal.one_line(text, _MOST_SHOWN)


def _remedy(name: str) -> str:
  if name.startswith('config.'):
    return 'give all the same config and data'
  if name.startswith(
    ('model file', 'decoder', 'tokenizer', 'stop_tokens', 'model')
  ):
    return 'give all the same model directory'
  return 'install the same on all'
