"""The plan of a run: what it takes of absent machines, and how long.

Nothing is compiled and no file of data or weights is read. All figures are
simulated or computed; none was measured on an accelerator.
"""

from collections.abc import Mapping, Sequence

import ml_collections

from acereason_jax import machines, types
from acereason_jax.planning import fitting, knobs, timing
from acereason_jax.planning.values import Assumed, Knob, Measured, Planned


def plan(
  config: ml_collections.ConfigDict,
  hardware: machines.Hardware,
  assumed: Assumed,
  known: timing.Known = types.EMPTY,
  measured: Mapping[str, Measured] = types.EMPTY,
) -> tuple[Planned, ...]:
  """The plan of each stage of a config on machines that need not be there.

  `known` are lengths of an earlier run, `measured` seconds of programs by stage
  (`timing.timed`).

  A change with which all stages fit is tried before it is told. It is the same
  for all stages that do not fit.

  Raises:
    ValueError: one line; the config is not valid, its model not known, or what
      is assumed is impossible.
  """
  found = fitting.fit(config, hardware, assumed)
  knob = None
  if not all(fit.fits for fit in found):
    knob = knobs.remedy(config, hardware, assumed)
  return planned(found, hardware, assumed, known, knob, measured)


def planned(
  found: Sequence[fitting.Fit],
  hardware: machines.Hardware,
  assumed: Assumed,
  known: timing.Known = types.EMPTY,
  knob: Knob | None = None,
  measured: Mapping[str, Measured] = types.EMPTY,
) -> tuple[Planned, ...]:
  """The plans of stages that are fitted, with the `knob` of those too large.

  Raises:
    ValueError: one line; what is assumed is impossible.
  """
  return tuple(
    Planned(
      name=fit.name,
      work=fit.work,
      phases=fit.phases,
      host=fit.host,
      journal_bytes=fit.journal_bytes,
      refused=fit.refused,
      knob=None if fit.fits else knob,
      timed=None
      if fit.refused
      else timing.timed(
        fit.work, hardware, assumed, known, measured.get(fit.name)
      ),
    )
    for fit in found
  )
