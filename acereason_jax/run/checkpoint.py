"""Checkpoints of a run.

A save returns before it is on disk; whether it got there is known only after
`wait`, or when the next `save` raises.
"""

import contextlib
import errno
import functools
import json
import logging
import math
import os
import re
import stat as stat_lib
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import fsspec
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from jax.experimental import multihost_utils

from acereason_jax import mesh as mesh_lib
from acereason_jax import storage
from acereason_jax.console import damage, oserrors

Tree = Any

# Texts of Orbax warnings to hide.
_NO_NEWS = (
  *('tracked_metric', 'read_only=True', 'is read only'),
  'Waiting for previous save',
)
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
# How long a network disk may show one host an older list of files.
_SEEN_SECONDS = 90


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


class Checkpoints:
  """Context manager: the checkpoints under `workdir`/checkpoints.

  The newest `keep` are kept, and the one with the highest score of the metric
  `best`, if any has a score. Scores of another metric, from before `best` was
  changed, do not count. The disk needs room for `keep` + 2.

  Only the run that owns `workdir` opens this, because opening removes the
  remains of an interrupted save; others read with `load`. All processes of a
  run call every method.
  """

  def __init__(self, workdir: str | os.PathLike, *, keep: int, best: str = ''):
    self._workdir = workdir
    self._saving: int | None = None
    self._best = best
    self._score = functools.partial(_score, best)
    with _told():
      _sweep(_directory(workdir))
    policies = ocp.checkpoint_managers.preservation_policy
    best = policies.BestN(
      get_metric_fn=self._score, n=1, keep_checkpoints_without_metrics=False
    )
    keeps = policies.AnyPreservationPolicy([policies.LatestN(keep), best])
    _check_files(_directory(workdir))
    with _reading(_directory(workdir), 'scores'):
      self._manager = _manager(
        workdir, preservation_policy=keeps, best_fn=self._score
      )
    _agree(self._manager)

  def __enter__(self) -> 'Checkpoints':
    return self

  def __exit__(self, *exc) -> None:
    self.close()

  def latest_step(self) -> int | None:
    """The newest step saved; it may not be on disk yet."""
    return self._manager.latest_step()

  def latest_meta(self) -> dict[str, Any] | None:
    """`meta` of the newest checkpoint, or None; its state is not read."""
    step = self._manager.latest_step()
    return None if step is None else _read_json(self._manager, step, 'meta')

  def latest_progress(self) -> dict[str, Any] | None:
    """`progress` of the newest checkpoint, or None."""
    step = self._manager.latest_step()
    if step is None:
      return None
    return _read_json(self._manager, step, 'progress')

  def best_step(self) -> int | None:
    """The step with the highest score, the newest of equals, or None."""
    with _reading(self._manager.directory, 'scores'):
      metrics = {s: self._manager.metrics(s) for s in self._manager.all_steps()}
      scores = {s: self._score(m) for s, m in metrics.items() if m}
    scores = {s: score for s, score in scores.items() if score > -math.inf}
    return max(scores, key=lambda step: (scores[step], step), default=None)

  def save(
    self,
    step: int,
    state: Tree,
    progress: Mapping[str, Any],
    meta: Mapping[str, Any],
    ledger: bytes,
    score: float | None = None,
  ) -> None:
    """Starts to save as `step`; it is on disk when `wait` has returned.

    The arrays are copied before this returns, so the next step may donate them.

    Args:
      step: steps done.
      state: a tree of arrays.
      progress, meta: JSON values.
      ledger: the bytes of a file, at least one.
      score: score of the metric `best`; None if it was not measured at this
        step.

    Raises:
      ValueError: this step is saved already.
      OSError: one line; this save or the previous one could not be written.
    """
    self.wait()
    self._saving = step
    state = jax.tree.map(_kept, state)
    with self._one_line():
      self._manager.save(
        step,
        args=ocp.args.Composite(
          state=ocp.args.PyTreeSave(state),
          ledger=ocp.args.PyTreeSave(
            dict(parquet=np.frombuffer(ledger, np.uint8))
          ),
          progress=ocp.args.JsonSave(dict(progress)),
          meta=ocp.args.JsonSave(dict(meta)),
        ),
        metrics=None if score is None else dict(score=score, of=self._best),
        force=True,  # Only the caller decides when to save.
      )

  def restore(self, abstract: Tree) -> Restored | None:
    """The newest checkpoint in the shape of `abstract`, or None.

    `abstract` is a tree of jax.ShapeDtypeStruct, each with its sharding.

    Raises:
      ValueError: one line naming a leaf that differs in the checkpoint.
    """
    # Not by the manager that saves. In a bucket a save has no temporary names,
    # and Orbax forgets only on the first process that it is over: on others
    # this manager would refuse the step that it saved itself.
    with _manager(self._workdir, read_only=True) as reader:
      step = self._manager.latest_step()
      return _restore(reader, abstract, step, partial=False)

  def wait(self) -> None:
    """Returns when the last save is on disk. Raises: OSError, see `save`."""
    with self._one_line():
      self._manager.wait_until_finished()

  def close(self) -> None:
    """Waits, then frees threads. Raises: OSError, see `save`."""
    try:
      self.wait()
    finally:
      self._manager.close()

  @contextlib.contextmanager
  def _one_line(self) -> Iterator[None]:
    """Turns Orbax's errors, such as that for a full disk, into one line."""
    try:
      with _told():
        yield
    except (OSError, ValueError) as e:
      e = _of_store(self._manager.directory, e)
      if (code := oserrors.code(e)) is None:
        raise
      why = f'{os.strerror(code).lower()}: {self._manager.directory}'
      if code in (errno.ENOSPC, errno.EDQUOT):
        why = f'no space left on {self._manager.directory}'
      todo = oserrors.remedy(code) or 'put that right'
      why = f'{why}; {todo} and start the same command again'
      if storage.is_remote(self._manager.directory):
        why = str(getattr(e, 'strerror', e))  # It has a remedy of its own.
      raise OSError(
        code,
        f'checkpoint at step {self._saving} not written: {why}; {self._good()}',
      ) from None

  def _good(self) -> str:
    try:
      with _told():
        self._manager.reload()  # It forgot steps that still exist.
    except OSError:
      return 'which are there could not be read'
    last = self._manager.latest_step()
    if last is None:
      return 'there is no earlier one'
    return f'the last good one is step {last}'


def load(path: str | os.PathLike, abstract: Tree) -> Restored | None:
  """A checkpoint, read only, or None if there is none.

  `path` is a run's folder, which stands for its newest checkpoint, or the
  folder of one step: `workdir`/checkpoints/120. The run may still be in
  progress. `abstract` may hold a part of the state, for example {'params':
  ...}; the rest is not read.

  Raises:
    ValueError: one line naming a leaf that differs in the checkpoint.
  """
  with _opened(path) as (manager, step):
    if step is None:
      return None
    return _restore(manager, abstract, step, partial=True)


def load_meta(path: str | os.PathLike) -> dict[str, Any] | None:
  """`meta` of a checkpoint that `load` would read."""
  with _opened(path) as (manager, step):
    return None if step is None else _read_json(manager, step, 'meta')


def load_progress(path: str | os.PathLike) -> dict[str, Any] | None:
  """`progress` of a checkpoint that `load` would read."""
  with _opened(path) as (manager, step):
    return None if step is None else _read_json(manager, step, 'progress')


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
  with _opened(path) as (manager, step):
    return None if step is None else _read_ledger(manager, step)


@contextlib.contextmanager
def _opened(
  path: str | os.PathLike,
) -> Iterator[tuple[ocp.CheckpointManager | None, int | None]]:
  """(manager, step) of the checkpoint that `path` names; None if absent."""
  workdir, step = split(path)
  with _told():
    there = _directory(workdir).is_dir()
  if not there:
    yield None, None
    return
  _check_files(_directory(workdir))
  with contextlib.ExitStack() as stack:
    with _reading(_directory(workdir), 'list of steps'):
      manager = stack.enter_context(_manager(workdir, read_only=True))
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


def _kept(leaf: Any) -> Any:
  """A copy, shard by shard, of a leaf in host memory; other leaves unchanged.

  Orbax writes such arrays in place and holds them until they are on disk, and
  an array that is held cannot be donated.
  """
  if (
    not isinstance(leaf, jax.Array)
    or leaf.sharding.memory_kind != mesh_lib.HOST
  ):
    return leaf
  copies = [
    jax.device_put(s.data, s.data.sharding, may_alias=False)
    for s in leaf.addressable_shards
  ]
  return jax.make_array_from_single_device_arrays(
    leaf.shape, leaf.sharding, copies
  )


def _directory(workdir: str | os.PathLike) -> epath.Path:
  return epath.Path(_absolute(workdir)) / 'checkpoints'


def _sweep(directory: epath.Path) -> None:
  """Removes the remains of an interrupted save.

  Orbax's own option does so in a thread, which ends in a traceback if the run
  ends first.
  """
  if jax.process_index() != 0 or not directory.is_dir():
    return
  for path in directory.iterdir():
    if ocp.utils.is_tmp_checkpoint(path):
      path.rmtree()


def _agree(manager: ocp.CheckpointManager) -> None:
  """Makes all processes go on from the newest step that the first one finds.

  A network disk may show them other lists of steps for a while.

  Raises:
    OSError: one line, this process does not get to see that step.
  """
  if jax.process_count() == 1:
    return
  latest = manager.latest_step()
  mine = np.int64(-1 if latest is None else latest)
  step = int(multihost_utils.broadcast_one_to_all(mine))
  give_up = time.monotonic() + _SEEN_SECONDS
  while manager.latest_step() != (None if step < 0 else step):
    if time.monotonic() > give_up:
      raise OSError(
        errno.ESTALE,
        f'{manager.directory}: process 0 finds step {step} as the newest, '
        f'process {jax.process_index()} finds {manager.latest_step()}; give '
        'all hosts the same folder',
      )
    time.sleep(1)
    manager.reload()


class _Manager(ocp.CheckpointManager):
  """Orbax's manager, which leaves jax's preemption point to the run.

  jax has one counter of safe points, signals.StopRequest's. Orbax would set it
  to the step, in a thread too: a signal just then was never heeded, or by one
  process alone.
  """

  def reached_preemption(self, step: int) -> bool:
    return False


def _manager(workdir: str | os.PathLike, **options) -> ocp.CheckpointManager:
  return _Manager(
    _directory(workdir),
    options=ocp.CheckpointManagerOptions(**options),
    item_handlers={
      'state': ocp.PyTreeCheckpointHandler(),
      'ledger': ocp.PyTreeCheckpointHandler(),
      'progress': ocp.JsonCheckpointHandler(),
      'meta': ocp.JsonCheckpointHandler(),
    },
  )


def _check_files(directory: epath.Path) -> None:
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
    with _told():
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


def _of_store(directory: epath.Path, e: Exception) -> Exception:
  """What tensorstore raised for a store of objects as an OSError, one line."""
  words = ' '.join(str(e).split())
  if storage.is_remote(directory) and re.search(r'\b[A-Z_]{6,}: ', words):
    return e if isinstance(e, OSError) else storage.error(directory, words)
  return e


@contextlib.contextmanager
def _told() -> Iterator[None]:
  """Raises what a store of objects answered as an OSError, one line."""
  try:
    yield
  except Exception as e:
    # Orbax raises errors of its own, from these.
    cause = e
    while cause is not None and not isinstance(cause, storage.Refused):
      cause = cause.__cause__
    if cause is None:
      raise
    raise cause.error from e


@contextlib.contextmanager
def _reading(directory: Any, what: str) -> Iterator[None]:
  """Turns any error of Orbax on a damaged checkpoint into one line."""
  reason = lambda words: Damaged(
    f'checkpoint {directory}: its {what} cannot be read ({words}); is it '
    'damaged? use an earlier one, RUN/checkpoints/STEP, or remove it and '
    'resume from the one before'
  )
  with _told(), damage.told(reason):
    yield


def _score(best: str, metrics: Mapping[str, Any]) -> float:
  # Checkpoints without `of` are from versions that followed one metric.
  return metrics['score'] if metrics.get('of', best) == best else -math.inf


def _read_json(
  manager: ocp.CheckpointManager, step: int, name: str
) -> dict[str, Any]:
  items = ocp.args.Composite(**{name: ocp.args.JsonRestore()})
  where = f'{manager.directory}/{step}'
  with _reading(where, name):
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
  with _reading(where, 'ledger'):
    stored = manager.item_metadata(step)['ledger'].tree
    _check_chunks(stored)
    (size,) = stored['parquet'].shape
    if size > _MAX_LEDGER_BYTES:
      raise ValueError(f'{size} bytes')
    return manager.restore(step, args=items)['ledger']['parquet'].tobytes()


def _restore(
  manager: ocp.CheckpointManager,
  abstract: Tree,
  step: int | None,
  *,
  partial: bool,
) -> Restored | None:
  if step is None:
    return None
  where = f'{manager.directory}/{step}'
  with _reading(where, 'state'):
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
  with _reading(where, 'state'):
    state = manager.restore(step, args=ocp.args.Composite(state=args))['state']
  progress = _read_json(manager, step, 'progress')
  meta = _read_json(manager, step, 'meta')
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


def _is_news(record: logging.LogRecord) -> bool:
  """False for errors that the caller gets anyway.

  Orbax logs such errors as pages of traceback. It also warns about each
  checkpoint without a score, and about each that is opened read-only.
  """
  if any(words in str(record.msg) for words in _NO_NEWS):
    return False
  return record.levelno < logging.ERROR or not record.exc_info


def _closed_loop_is_no_news(
  kind: type[BaseException], error: BaseException, trace: Any
) -> None:
  """`sys.excepthook` without what follows from an error of Orbax.

  When one array of a save fails, Orbax leaves its event loop. tensorstore then
  prints a traceback for each array that ends after that.
  """
  if not (kind is RuntimeError and str(error) == 'Event loop is closed'):
    sys.__excepthook__(kind, error, trace)


sys.excepthook = _closed_loop_is_no_news
fsspec.register_implementation(
  'gcs', 'acereason_jax.run.bucket.Files', clobber=True
)
# Also for what only reads a checkpoint; a filter that is there is not added.
logging.getLogger('absl').addFilter(_is_news)
