"""Reads the checkpoints of a run, read only; saving.py writes them.

A checkpoint may come from a stranger, so sizes are checked before a file is
read, and whatever is wrong with it is one line.
"""

import contextlib
import json
import math
import os
import re
import stat as stat_lib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import fsspec
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from acereason_jax import storage
from acereason_jax.console import damage
from acereason_jax.run import orbax_manager

Tree = Any
Read = TypeVar('Read')

# Small files that Orbax reads whole. The largest holds the ids of the rows that
# a run left out.
_JSON_FILES = (
  'metadata',
  'metrics',
  '_METADATA',
  '_CHECKPOINT_METADATA',
  '_sharding',
)
_MAX_JSON_BYTES = 64 << 20
# The one with the times, in ns, at which a save began and ended.
_WHEN = '_CHECKPOINT_METADATA'
_MAX_LEDGER_BYTES = 1 << 30


class Damaged(ValueError):
  """A checkpoint that no run writes like this: one line for the user."""


class Restored(NamedTuple):
  """The contents of a checkpoint.

  step: number of steps done when it was saved.
  state: tree of arrays, on its devices.
  progress, meta: values as saved, plain JSON.
  ledger: bytes of a Parquet file.
  """

  step: int
  state: Tree
  progress: dict[str, Any]
  meta: dict[str, Any]
  ledger: bytes


def load(path: str | os.PathLike, abstract: Tree) -> Restored | None:
  """A checkpoint, read only, or None if there is none.

  `path` is a run's folder, which stands for its newest checkpoint, or the
  folder of one step: `workdir`/checkpoints/120. The run may still be in
  progress. `abstract` may hold a part of the state, for example {'params':
  ...}; the rest is not read.

  Raises:
    ValueError: one line naming a leaf that differs in the checkpoint.
  """
  read = lambda manager, step: read_all(manager, abstract, step, partial=True)
  return _read(path, read)


def load_meta(path: str | os.PathLike) -> dict[str, Any] | None:
  """`meta` of a checkpoint that `load` would read."""
  return _read(path, lambda manager, step: read_json(manager, step, 'meta'))


def load_progress(path: str | os.PathLike) -> dict[str, Any] | None:
  """`progress` of a checkpoint that `load` would read."""
  return _read(path, lambda manager, step: read_json(manager, step, 'progress'))


def stamp(path: str | os.PathLike) -> str:
  """A text that differs between two checkpoints of the same step."""
  with _opened(path) as (manager, step):
    if step is None:
      return ''
    file = storage.join(str(manager.directory), str(step), _WHEN)
    when = storage.read(file, _MAX_JSON_BYTES)
    return json.dumps([step, when and when.decode(errors='replace')])


def load_ledger(path: str | os.PathLike) -> bytes | None:
  """The ledger of a checkpoint that `load` would read; see ledger.py."""
  return _read(path, _read_ledger)


def _read(
  path: str | os.PathLike, read: Callable[[ocp.CheckpointManager, int], Read]
) -> Read | None:
  """What `read(manager, step)` gives; None if there is no checkpoint.

  A run that goes on removes older checkpoints, file by file. If the newest
  could not be read and is another one by now, that is read.
  """
  failed = None
  while True:
    with _opened(path) as (manager, step):
      if step is None:
        if failed is None:
          return None
        raise failed[1]
      try:
        return read(manager, step)
      except (Damaged, OSError) as e:
        if split(path)[1] is not None or (failed and failed[0] == step):
          raise
        failed = step, e


@contextlib.contextmanager
def _opened(
  path: str | os.PathLike,
) -> Iterator[tuple[ocp.CheckpointManager | None, int | None]]:
  """(manager, step) of the checkpoint that `path` names; None if absent."""
  workdir, step = split(path)
  directory = directory_of(workdir)
  with orbax_manager.as_os_error():
    there = directory.is_dir()
  if not there:
    yield None, None
    return
  check_files(directory)
  with contextlib.ExitStack() as stack:
    with reading(directory, 'list of steps'):
      manager = stack.enter_context(
        orbax_manager.open_manager(directory, read_only=True)
      )
    steps = manager.all_steps()
    if step is None:
      step = max(steps, default=None)
    yield manager, step if step in steps else None


def split(path: str | os.PathLike) -> tuple[str, int | None]:
  """(RUN, STEP) of RUN/checkpoints/STEP, else (RUN, None); RUN is absolute."""
  place = _absolute(path)
  # Not gs://checkpoints/5, which is a bucket of that name.
  step = re.fullmatch('(.*[^/])/checkpoints/([0-9]{1,18})', place, re.DOTALL)
  return (step[1], int(step[2])) if step else (place, None)


def _absolute(path: str | os.PathLike) -> str:
  path = os.fspath(path)
  return path.rstrip('/') if storage.is_remote(path) else os.path.abspath(path)


def directory_of(workdir: str | os.PathLike) -> epath.Path:
  """The folder of a run's checkpoints, which may not exist yet."""
  return epath.Path(_absolute(workdir)) / 'checkpoints'


def check_files(directory: epath.Path) -> None:
  """Raises Damaged for a file that would be read without limit.

  A checkpoint may come from a stranger.
  """
  for path, size, regular in _sizes(directory):
    folder, name = os.path.split(path)
    is_json = name in _JSON_FILES or folder.endswith('array_metadatas')
    if not regular or (is_json and size > _MAX_JSON_BYTES):
      raise Damaged(
        f'{path}: {size} bytes, or no regular file; expected a file of at most '
        f'{_MAX_JSON_BYTES} bytes: remove this checkpoint, or use another'
      )


def _sizes(directory: epath.Path) -> Iterator[tuple[str, int, bool]]:
  """(path, bytes, whether it is a regular file) of everything below."""
  if storage.is_remote(directory):
    with orbax_manager.as_os_error():
      found = fsspec.filesystem('gcs').find(str(directory), detail=True)
    for name, about in found.items():
      yield storage.SCHEME + name, about['size'], True
    return
  for folder, _, names in os.walk(directory):
    for name in names:
      path = os.path.join(folder, name)
      with contextlib.suppress(FileNotFoundError):  # A save may be in progress.
        found = os.stat(path)
        yield path, found.st_size, stat_lib.S_ISREG(found.st_mode)


@contextlib.contextmanager
def reading(directory: Any, what: str) -> Iterator[None]:
  """Turns any error of Orbax on a damaged checkpoint into one line."""
  reason = lambda words: Damaged(
    f'checkpoint {directory}: its {what} cannot be read ({words}); is it '
    'damaged? use an earlier one, RUN/checkpoints/STEP, or remove it and '
    'resume from the one before'
  )
  with orbax_manager.as_os_error(), damage.told(reason):
    yield


def read_json(
  manager: ocp.CheckpointManager, step: int, name: str
) -> dict[str, Any]:
  """An item that is JSON: 'meta' or 'progress'."""
  items = ocp.args.Composite(**{name: ocp.args.JsonRestore()})
  where = f'{manager.directory}/{step}'
  with reading(where, name):
    value = manager.restore(step, args=items)[name]
  if not isinstance(value, dict):
    raise Damaged(
      f'checkpoint {where}: its {name} is of type {type(value).__name__}, '
      'expected an object; use an earlier one, RUN/checkpoints/STEP'
    )
  return value


def _read_ledger(manager: ocp.CheckpointManager, step: int) -> bytes:
  as_numpy = dict(parquet=ocp.RestoreArgs(restore_type=np.ndarray))
  items = ocp.args.Composite(
    ledger=ocp.args.PyTreeRestore(restore_args=as_numpy)
  )
  where = f'{manager.directory}/{step}'
  with reading(where, 'ledger'):
    stored = manager.item_metadata(step)['ledger'].tree
    _check_chunks(stored)
    (size,) = stored['parquet'].shape
    if size > _MAX_LEDGER_BYTES:
      raise ValueError(f'{size} bytes')
    return manager.restore(step, args=items)['ledger']['parquet'].tobytes()


def read_all(
  manager: ocp.CheckpointManager,
  abstract: Tree,
  step: int | None,
  *,
  partial: bool,
) -> Restored | None:
  """The contents of the checkpoint of `step`; None if there is none.

  `partial` says that `abstract` may hold a part of the state.
  """
  if step is None:
    return None
  where = f'{manager.directory}/{step}'
  with reading(where, 'state'):
    tree = manager.item_metadata(step)['state'].tree
    _check_chunks(tree)
    stored = _leaves(tree)
  _check_leaves(
    f'checkpoint {where}', stored, _leaves(abstract), partial=partial
  )
  args = ocp.args.PyTreeRestore(
    abstract,
    restore_args=ocp.checkpoint_utils.construct_restore_args(abstract),
    partial_restore=partial,
  )
  with reading(where, 'state'):
    state = manager.restore(step, args=ocp.args.Composite(state=args))['state']
  progress = read_json(manager, step, 'progress')
  meta = read_json(manager, step, 'meta')
  return Restored(step, state, progress, meta, _read_ledger(manager, step))


def _check_chunks(tree: Tree) -> None:
  """Raises ValueError for an array with chunks that are larger than itself.

  A chunk is unpacked whole, and a small file can unpack to any size.
  """
  for path, leaf in ocp.tree.to_flat_dict(tree).items():
    about = getattr(leaf, 'storage', None)
    chunk = (about and about.chunk_shape) or ()
    if math.prod(chunk) > math.prod(leaf.shape):
      raise ValueError(
        f'{".".join(path)} of shape {tuple(leaf.shape)} has chunks of shape '
        f'{tuple(chunk)}'
      )


def _leaves(tree: Tree) -> dict[str, str]:
  """'params.layers.w' -> 'float32(2, 3)', for arrays or their metadata."""
  flat = ocp.tree.to_flat_dict(tree)
  return {
    '.'.join(path): f'{leaf.dtype}{tuple(leaf.shape)}'
    for path, leaf in ((p, _as_stored(x)) for p, x in flat.items())
  }


def _as_stored(leaf: Any) -> Any:
  """The data of a PRNG key, as its metadata describes; else the leaf."""
  if isinstance(leaf, jax.ShapeDtypeStruct | jax.Array) and jnp.issubdtype(
    leaf.dtype, jax.dtypes.prng_key
  ):
    return jax.eval_shape(jax.random.key_data, leaf)
  return leaf


def _check_leaves(
  where: str,
  stored: Mapping[str, str],
  expected: Mapping[str, str],
  *,
  partial: bool,
) -> None:
  """Raises ValueError unless the leaves agree in name, shape and dtype."""
  absent = 'no such array'
  names = expected if partial else sorted(stored.keys() | expected.keys())
  wrong = [
    f'{name} is {stored.get(name, absent)}, expected '
    f'{expected.get(name, absent)}'
    for name in names
    if stored.get(name) != expected.get(name)
  ]
  if wrong:
    raise ValueError(
      f'{where}: {wrong[0]} ({len(wrong)} of {len(names)} arrays differ); '
      'use the model and optimizer it was saved with, or another --workdir'
    )
