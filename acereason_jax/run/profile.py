"""Traces of steps by jax's profiler, which TensorBoard's profile plugin opens.

    python -m acereason_jax.train ... --profile=3:5
    tensorboard --logdir=RUN/profile

Process 0 traces its own devices: all others do the same work. A trace changes
no result. The profiler keeps it in memory until it ends, so a few steps are
enough.
"""

import contextlib
import pathlib
import re
from collections.abc import Iterator
from typing import NamedTuple

import jax

from acereason_jax.hosts import watchdog
from acereason_jax.run import metrics

FOLDER = 'profile'


class Steps(NamedTuple):
  """The steps to trace, both included; the first step of a run is 1."""

  first: int
  last: int

  @classmethod
  def parse(cls, text: str) -> 'Steps':
    """'3:5' or '3'. Raises ValueError, one line."""
    found = re.fullmatch(r'([0-9]{1,9})(?::([0-9]{1,9}))?', text)
    first, last = (
      (int(n or found[1]) for n in found.groups()) if found else (0, 0)
    )
    if not 1 <= first <= last:
      raise ValueError(
        f'{text!r:.40}: expected a step, or first:last with 1 <= first <= '
        'last, such as 3:5'
      )
    return cls(first, last)


class Tracer:
  """Context manager: writes one trace of `steps` into `folder`/profile.

  Without steps, and on all processes except the first, it does nothing. A run
  that ends earlier leaves the trace of the steps that it took.
  """

  def __init__(self, steps: Steps | None, folder: pathlib.Path):
    self._steps = steps if jax.process_index() == 0 else None
    self._folder = folder / FOLDER
    self._tracing = False
    self._seen = False

  def __enter__(self) -> 'Tracer':
    return self

  def __exit__(self, *exc) -> None:
    self._end()
    if self._steps and not self._seen:
      first, last = self._steps
      metrics.say(
        f'--profile={first}:{last}: no such step was taken: nothing is traced'
      )

  @contextlib.contextmanager
  def step(self, number: int) -> Iterator[None]:
    """The block is step `number`."""
    if not self._steps or not self._steps.first <= number <= self._steps.last:
      yield
      return
    if not self._seen:
      self._begin()
    with jax.profiler.StepTraceAnnotation('step', step_num=number):
      yield
    if number == self._steps.last:
      self._end()

  def _begin(self) -> None:
    options = jax.profiler.ProfileOptions()
    # Without every call of a Python function, which are most of a trace.
    options.python_tracer_level = 0
    jax.profiler.start_trace(self._folder, profiler_options=options)
    self._tracing = self._seen = True

  def _end(self) -> None:
    if not self._tracing:
      return
    self._tracing = False
    try:
      with watchdog.phase('profile'):
        jax.profiler.stop_trace()
    except (OSError, RuntimeError) as e:
      reason = (str(e).splitlines() or [type(e).__name__])[0]
      metrics.say(f'WARNING: --profile: the trace is not written: {reason}')
    else:
      metrics.say(f'{self._folder}: a trace; tensorboard --logdir opens it')
