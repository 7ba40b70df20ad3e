"""Saves the checkpoints of a run, and keeps the newest and the best.

A save returns before it is on disk; whether it got there is known only after
`wait`, or when the next `save` raises.
"""

import contextlib
import errno
import functools
import math
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from jax.experimental import multihost_utils

from acereason_jax import mesh as mesh_lib
from acereason_jax import storage
from acereason_jax.console import oserrors
from acereason_jax.run import checkpoint, orbax_manager

Tree = Any

# How long a network disk may show one host an older list of files.
_SEEN_SECONDS = 90


class Checkpoints:
  """Context manager: the checkpoints under `workdir`/checkpoints.

  The newest `keep` are kept, and the one with the highest score of the metric
  `best`, if any has a score. Scores of another metric, from before `best` was
  changed, do not count. The disk needs room for `keep` + 2.

  Only the run that owns `workdir` opens this, because opening removes the
  remains of an interrupted save; others read with `checkpoint.load`. All
  processes of a run call every method.
  """

  def __init__(self, workdir: str | os.PathLike, *, keep: int, best: str = ''):
    self._directory = checkpoint.directory_of(workdir)
    self._saving: int | None = None
    self._best = best
    self._score = functools.partial(_score, best)
    with orbax_manager.as_os_error():
      _sweep(self._directory)
    policies = ocp.checkpoint_managers.preservation_policy
    best = policies.BestN(
      get_metric_fn=self._score, n=1, keep_checkpoints_without_metrics=False
    )
    keeps = policies.AnyPreservationPolicy([policies.LatestN(keep), best])
    checkpoint.check_files(self._directory)
    with checkpoint.reading(self._directory, 'scores'):
      self._manager = orbax_manager.open_manager(
        self._directory, preservation_policy=keeps, best_fn=self._score
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
    return self._latest('meta')

  def latest_progress(self) -> dict[str, Any] | None:
    """`progress` of the newest checkpoint, or None."""
    return self._latest('progress')

  def best_step(self) -> int | None:
    """The step with the highest score, the newest of equals, or None."""
    with checkpoint.reading(self._directory, 'scores'):
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

  def restore(self, abstract: Tree) -> checkpoint.Restored | None:
    """The newest checkpoint in the shape of `abstract`, or None.

    `abstract` is a tree of jax.ShapeDtypeStruct, each with its sharding.

    Raises:
      ValueError: one line naming a leaf that differs in the checkpoint.
    """
    # Not by the manager that saves. In a bucket a save has no temporary names,
    # and Orbax forgets only on the first process that it is over: on others
    # this manager would refuse the step that it saved itself.
    with orbax_manager.open_manager(self._directory, read_only=True) as reader:
      step = self._manager.latest_step()
      return checkpoint.read_all(reader, abstract, step, partial=False)

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
      with orbax_manager.as_os_error():
        yield
    except (OSError, ValueError) as e:
      e = orbax_manager.store_error(self._directory, e)
      if (code := oserrors.code(e)) is None:
        raise
      why = f'{os.strerror(code).lower()}: {self._directory}'
      if code in (errno.ENOSPC, errno.EDQUOT):
        why = f'no space left on {self._directory}'
      todo = oserrors.remedy(code) or 'put that right'
      why = f'{why}; {todo} and start the same command again'
      if storage.is_remote(self._directory):
        why = str(getattr(e, 'strerror', e))  # It has a remedy of its own.
      raise OSError(
        code,
        f'checkpoint at step {self._saving} not written: {why}; {self._good()}',
      ) from None

  def _latest(self, name: str) -> dict[str, Any] | None:
    step = self._manager.latest_step()
    if step is None:
      return None
    return checkpoint.read_json(self._manager, step, name)

  def _good(self) -> str:
    try:
      with orbax_manager.as_os_error():
        self._manager.reload()  # It forgot steps that still exist.
    except OSError:
      return 'which are there could not be read'
    last = self._manager.latest_step()
    if last is None:
      return 'there is no earlier one'
    return f'the last good one is step {last}'


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


def _score(best: str, metrics: Mapping[str, Any]) -> float:
  # Checkpoints without `of` are from versions that followed one metric.
  return metrics['score'] if metrics.get('of', best) == best else -math.inf
