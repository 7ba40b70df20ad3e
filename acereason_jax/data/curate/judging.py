"""Verdicts for steps: from the state where they are known, else from judges.

A judge's failure is never a finding. A verdict that failed is asked for once
more; then it is kept as it is, and the row is undecided.
"""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from acereason_jax import types
from acereason_jax.data.curate import state as state_lib
from acereason_jax.verifiers import digest
from acereason_jax.verifiers.pool import pool as pool_lib

KIND = 'verdicts'
# Verdicts on one response: a failed one is asked for once more.
TRIES = 2
_FAILED = ('timeout', 'error')
# Longer than any reply of a worker.
_DETAIL_CHARS = 1 << 20
# Arguments of a judge's component that are the pool's: their defaults.
_OF_POOL = dict(timeout_seconds=8.0, confine=True)


class _Known(NamedTuple):
  """A verdict in the state.

  tries: number of verdicts that were asked for.
  """

  status: types.Status
  detail: str
  seconds: float
  tries: int

  @property
  def final(self) -> bool:
    return self.status not in _FAILED or self.tries >= TRIES


class Judges:
  """Context manager: the judges' workers, which start when they are needed.

  asked: number of verdicts that were asked for, not found.
  """

  def __init__(self, state: state_lib.State, workers: int):
    self._state = state
    self._workers = workers
    self._pools: dict[str, pool_lib.VerifierPool] = {}
    self._stack = contextlib.ExitStack()
    self.asked = 0

  def __enter__(self) -> 'Judges':
    return self

  def __exit__(self, *exc: object) -> None:
    self._stack.close()

  def judge(
    self, component: Mapping[str, Any], pairs: Sequence[tuple[str, str]]
  ) -> list[types.Verdict]:
    """A verdict for each (response, answer).

    `component` is dict(fn='module:verify', **arguments); timeout_seconds and
    confine are those of `verifiers.pool`.

    Raises:
      ValueError: one line; the judge cannot be found, or cannot start.
    """
    settings = dict(_OF_POOL | dict(component))
    source = digest.source(settings['fn'])
    names = [state_lib.key_of(settings, source, *pair) for pair in pairs]
    todo = dict(zip(names, pairs))
    while todo := {k: p for k, p in todo.items() if not self._is_final(k)}:
      pool = self._pool(settings)
      tasks = ((key, *pair) for key, pair in todo.items())
      for key, verdict in pool.as_completed(tasks):
        self.asked += 1
        self._keep(key, verdict)
    found = (self._known(key) for key in names)
    return [types.Verdict(k.status, k.detail, k.seconds) for k in found]

  def _known(self, key: str) -> _Known | None:
    found = self._state.get(KIND, key)
    return None if found is None else _Known(*found)

  def _is_final(self, key: str) -> bool:
    known = self._known(key)
    return known is not None and known.final

  def _keep(self, key: str, verdict: types.Verdict) -> None:
    known = self._known(key)
    tries = (known.tries if known else 0) + 1
    detail = verdict.detail[:_DETAIL_CHARS]
    # A detail may quote what a model wrote.
    detail = detail.encode('utf-8', 'backslashreplace').decode()
    self._state.put(
      KIND, key, [verdict.status, detail, round(verdict.seconds, 4), tries]
    )

  def _pool(self, settings: Mapping[str, Any]) -> pool_lib.VerifierPool:
    name = state_lib.key_of(settings)
    if name not in self._pools:
      arguments = dict(settings)
      fn, seconds, confine = (
        arguments.pop(n) for n in ('fn', 'timeout_seconds', 'confine')
      )
      try:
        pool = pool_lib.VerifierPool(
          fn, arguments, self._workers, seconds, confine=confine
        )
      except RuntimeError as e:
        raise ValueError(f'judge {fn}: {e}') from e
      self._pools[name] = self._stack.enter_context(pool)
    return self._pools[name]
