"""Whether the stages of a run fit: they are built for a machine not here.

A stage that cannot be built is built once more as if memory had no end, so that
its phases show by how much it is too large.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import ml_collections

from acereason_jax import machines
from acereason_jax import mesh as mesh_lib
from acereason_jax.config import checks
from acereason_jax.config import stages as stages_lib
from acereason_jax.planning import host, lengths, memory, works
from acereason_jax.planning.values import Assumed, Phase, Work
from acereason_jax.rollout import serve
from acereason_jax.run import build

# Bytes of a device on which everything can be built.
_ENDLESS = 1 << 60


class Fit(NamedTuple):
  """What a stage takes of a machine.

  name: name of the stage.
  work: what it has to do; None if it cannot be built for any memory.
  phases: memory of a device, phase by phase; () without `work`.
  host: memory of a host, bytes by what takes them.
  journal_bytes: bytes of the journal that a step writes.
  refused: why it cannot be built, one line; '' if it can.
  """

  name: str
  work: Work | None
  phases: Sequence[Phase]
  host: Mapping[str, float]
  journal_bytes: float
  refused: str

  @property
  def fits(self) -> bool:
    return not self.refused and all(phase.fits for phase in self.phases)


def with_values(
  config: ml_collections.ConfigDict, fields: Mapping[str, Any]
) -> ml_collections.ConfigDict:
  """A copy of a config with values by full name, 'config.mesh.tensor'."""
  whole = config.copy_and_resolve_references()
  with whole.unlocked(), whole.ignore_type():
    for path, value in fields.items():
      *sections, name = path.removeprefix('config.').split('.')
      section = whole
      for part in sections:
        section = section[part]
      section[name] = value
  return whole.lock()


def fit(
  config: ml_collections.ConfigDict,
  hardware: machines.Hardware,
  assumed: Assumed,
  *,
  only: Sequence[str] = (),
) -> tuple[Fit, ...]:
  """What the stages of a config take, or those of the names `only`.

  Raises:
    ValueError: one line; the config is not valid, or its model not known.
  """
  checks.validate(config)
  machine = mesh_lib.absent(hardware)
  files = serve.read_model_sizes(config.model)
  configs = stages_lib.stages(config)
  one = _Fitting(config, configs, hardware, machine, files, assumed)
  names = [name for name in configs if not only or name in only]
  if only:
    return tuple(map(one.alone, names))
  try:
    programs = build.build_programs(config, machine, files)
    return tuple(
      map(functools.partial(one.of_stage, programs), programs.stages)
    )
  except ValueError:
    # For its memory, or for what only some stages ask.
    pass
  try:
    programs = build.build_programs(config, one.endless, files)
  except ValueError:
    return tuple(map(one.alone, names))
  return tuple(one.refitted(programs, stage) for stage in programs.stages)


def fits(
  config: ml_collections.ConfigDict,
  hardware: machines.Hardware,
  assumed: Assumed,
  only: Sequence[str] = (),
) -> bool:
  """Whether all stages of a config fit, or those of the names `only`.

  Raises: see `fit`.
  """
  checks.validate(config)
  machine = mesh_lib.absent(hardware)
  files = serve.read_model_sizes(config.model)
  configs = stages_lib.stages(config)
  built = config
  if only and len(config.stages):
    built = with_values(config, {'config.start.stages': tuple(only)})
  try:
    programs = build.build_programs(built, machine, files)
  except ValueError:
    return False
  return all(
    phase.fits
    for stage in programs.stages
    for phase in memory.phases(programs, stage, configs[stage.name], machine)
  )


class _Fitting(NamedTuple):
  """The values that the stages of a plan share; see `fit`."""

  config: ml_collections.ConfigDict
  configs: Mapping[str, ml_collections.ConfigDict]
  hardware: machines.Hardware
  machine: mesh_lib.Machine
  files: serve.ModelFiles
  assumed: Assumed

  @property
  def endless(self) -> mesh_lib.Machine:
    return self.machine._replace(memory=_ENDLESS)

  def alone(self, name: str) -> Fit:
    """A stage built by itself."""
    config = self.config
    if len(config.stages):
      config = with_values(config, {'config.start.stages': (name,)})
    try:
      programs = build.build_programs(config, self.machine, self.files)
      return self.of_stage(programs, programs.stages[0])
    except ValueError:
      pass
    try:
      programs = build.build_programs(config, self.endless, self.files)
    except ValueError as e:
      return Fit(name, None, (), {}, 0.0, str(e))
    return self.refitted(programs, programs.stages[0])

  def refitted(self, programs: Any, stage: Any) -> Fit:
    """A stage of programs for endless memory, with engines that fit, or why."""
    found, refused = self._engine(
      programs, stage, stage.engine, stage.most_rollouts
    )
    heldout, also = self._engine(
      programs, stage, programs.heldout_engine, programs.most_rollouts
    )
    return self.of_stage(programs, stage, (found, heldout), refused or also)

  def _engine(
    self, programs: Any, stage: Any, engine: Any, count: int
  ) -> tuple[memory.Rollouts, str]:
    """An engine in the true memory, and why it does not fit in it or ''.

    `count` is the most rollouts of a batch.
    """
    c = self.configs[stage.name]
    state = int(sum(memory.state_parts(programs, stage, c).values()))
    refitted = functools.partial(
      memory.refitted, programs, engine, c, state=state, count=count
    )
    try:
      return refitted(memory=self.machine.memory), ''
    except ValueError as e:
      problem = f'config.engine: {e}'
    # The least that decodes: one rollout of each shard.
    found = refitted(memory=_ENDLESS)
    sizes = found.sizes._replace(pages=found.sizes.table + 1)
    return found._replace(sizes=sizes), problem

  def of_stage(
    self,
    programs: Any,
    stage: Any,
    engines: Sequence[memory.Rollouts] = (),
    refused: str = '',
  ) -> Fit:
    c, own = self.configs[stage.name], tuple(engines) or None
    counts = works.counted(self.config, self.assumed)
    every = stages_lib.every_stage(self.config)
    before = [every[name] for name in [*every][: stage.index]]
    work = works.work(programs, stage, c, counts, self.assumed, before, own)
    phases = memory.phases(programs, stage, c, self.machine, *engines)
    mean = lengths.mean_of(work.sizes.max_tokens, self.assumed)
    return Fit(
      name=stage.name,
      work=work,
      phases=phases,
      host=host.parts(stage, work, self.hardware, mean, self.assumed, phases),
      journal_bytes=host.journal_bytes(work, mean),
      refused=refused,
    )
