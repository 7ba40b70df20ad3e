"""Which worker gets which task: those with one answer go to one worker.

A worker that has judged an answer has it in memory: the parsed reference, or
the offsets of a stored task's tests. So it prefers tasks with answers that it
had before, then those with answers that no worker has, then any. No worker
waits while a task does, and no task is passed by more than `_PASSED` later
ones. Nothing here waits or locks; the pool does.
"""

import collections
import itertools
import typing
from collections.abc import Iterator
from typing import Any

# About twice the rollouts of a step of the paper.
_PASSED = 4096
# Answers whose workers are remembered.
_REMEMBERED = 4096

Task = typing.TypeVar('Task')


class Waiting(typing.Generic[Task]):
  """Tasks that wait for a worker, and what the workers have seen.

  Equal answers have equal keys. Each operation takes constant time, for a given
  number of workers.
  """

  def __init__(self):
    self._numbers = itertools.count()
    # (key, task) by number, in order.
    self._tasks: collections.OrderedDict[int, tuple[Any, Task]] = (
      collections.OrderedDict()
    )
    # The numbers that wait, by key.
    self._of_key: dict[Any, collections.OrderedDict[int, None]] = {}
    # Workers by key, the first that had it first.
    self._owners: collections.OrderedDict[Any, list[int]] = (
      collections.OrderedDict()
    )
    # Keys with tasks that wait: of a worker, or (None) of no worker.
    self._ready: dict[int | None, collections.OrderedDict[Any, None]] = (
      collections.defaultdict(collections.OrderedDict)
    )

  def __len__(self) -> int:
    return len(self._tasks)

  def __iter__(self) -> Iterator[Task]:
    return (task for _, task in self._tasks.values())

  def clear(self) -> None:
    self._tasks.clear()
    self._of_key.clear()
    self._ready.clear()

  def add(self, key: Any, task: Task) -> None:
    number = next(self._numbers)
    self._tasks[number] = key, task
    if key not in self._of_key:
      self._of_key[key] = collections.OrderedDict()
      for owner in self._owners.get(key) or [None]:
        self._ready[owner][key] = None
    self._of_key[key][number] = None

  def workers(self, key: Any) -> list[int]:
    """The workers that have had this key, as far as is remembered."""
    return list(self._owners.get(key, ()))

  def take(self, worker: int) -> Task:
    """Removes and returns the task that this worker should get.

    Raises:
      IndexError: none waits.
    """
    if not self._tasks:
      raise IndexError('no task waits')
    oldest = next(iter(self._tasks))
    number = oldest
    for owner in (worker, None):
      if keys := self._ready[owner]:
        number = next(iter(self._of_key[next(iter(keys))]))
        break
    if number > oldest + _PASSED:
      number = oldest
    key, task = self._tasks.pop(number)
    self._leave(number, key, worker)
    return task

  def _leave(self, number: int, key: Any, worker: int) -> None:
    """A worker has got this task."""
    numbers = self._of_key[key]
    del numbers[number]
    owners = self._owners.get(key, [])
    if not numbers:
      del self._of_key[key]
      for owner in owners or [None]:
        del self._ready[owner][key]
    elif worker not in owners:
      self._ready[worker][key] = None
      if not owners:
        del self._ready[None][key]
    if worker not in owners:
      self._owners[key] = [*owners, worker]
    self._owners.move_to_end(key)
    self._forget()

  def _forget(self) -> None:
    """Drops the workers of a key that was not used for long."""
    if len(self._owners) <= _REMEMBERED:
      return
    key, owners = self._owners.popitem(last=False)
    if key in self._of_key:
      for owner in owners:
        del self._ready[owner][key]
      self._ready[None][key] = None
