"""Proposes the fields that make a run faster on given machines.

Few choices decide it. Rollouts: the tensor axis, which splits the weights that
each step reads, and as many slots as the batch has and memory holds. Update:
the mesh, remat and rows that memory holds. They are reckoned by sizes
(reckon.py), timed for the stage that takes most hours, and the best are planned
in full, for all stages, before they are told.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import ml_collections

from acereason_jax import machines, types
from acereason_jax.config import stages as stages_lib
from acereason_jax.planning import (
  fitting,
  knobs,
  plans,
  reckon,
  timing,
)
from acereason_jax.planning.values import Assumed, Knob, Planned, Work
from acereason_jax.rollout import engine_sizes, serve

# So many proposals are planned in full.
_MOST = 4
# Rows of a shard's microbatch that are tried.
_ROWS = (1, 2, 4)
# The formulas of an update are right to within this factor where a compiler's
# figure is known, so a proposal leaves that much room.
_MARGIN = 1.15
# Remats, the fastest first.
_REMATS = ('dots', 'attention', 'block')


class Found(NamedTuple):
  """A proposal.

  knob: the fields to set.
  planned: its plan, stage by stage.
  """

  knob: Knob
  planned: Sequence[Planned]

  @property
  def hours(self) -> float:
    return sum(p.timed.hours for p in self.planned if p.timed)


class _Setup(NamedTuple):
  """A choice, with the work of the slowest stage under it."""

  fields: Mapping[str, Any]
  work: Work


def search(
  config: ml_collections.ConfigDict,
  hardware: machines.Hardware,
  assumed: Assumed,
  known: timing.Known = types.EMPTY,
) -> tuple[Found, ...]:
  """Proposals for a run, the fewest hours first.

  `known` are lengths of an earlier run (`timing.timed`). The config as it is,
  or with the change that makes it fit, is among them, by no or by those fields.
  () if nothing fits on these machines.

  Raises: see `plans.plan`.
  """
  start: Mapping[str, Any] = {}
  planned = plans.plan(config, hardware, assumed, known=known)
  if not all(p.fits for p in planned):
    knob = planned[0].knob or next((p.knob for p in planned if p.knob), None)
    if knob is None or knobs.HARDWARE in knob.fields:
      return ()
    start = knob.fields
    changed = fitting.with_values(config, start)
    planned = plans.plan(changed, hardware, assumed, known=known)
  found = [Found(Knob(start, knobs.why(start)), planned)]
  slowest = max(planned, key=lambda p: p.timed.hours)
  seconds = lambda s: (
    timing.timed(s.work, hardware, assumed, known).step_seconds
  )
  setups = sorted(
    _setups(config, hardware, assumed, slowest.work, start), key=seconds
  )
  new = (s for s in _distinct(setups) if s.fields != dict(start))
  whole = (_planned(config, hardware, assumed, known, s) for s in new)
  found += itertools.islice(filter(None, whole), _MOST)
  return tuple(sorted(found, key=lambda f: f.hours))


def _distinct(setups: Iterable[_Setup]) -> Iterator[_Setup]:
  """The first of the setups whose rollouts are the same."""
  seen = set()
  for setup in setups:
    key = setup.work.rollout_mesh['tensor'], setup.work.sizes.slots
    if key not in seen:
      seen.add(key)
      yield setup


def _planned(
  config: ml_collections.ConfigDict,
  hardware: machines.Hardware,
  assumed: Assumed,
  known: timing.Known,
  setup: _Setup,
) -> Found | None:
  """The proposal of a setup; None if not all stages fit."""
  changed = fitting.with_values(config, setup.fields)
  try:
    fitted = fitting.fit(changed, hardware, assumed)
    if not all(fit.fits for fit in fitted):
      return None
    planned = plans.planned(fitted, hardware, assumed, known)
  except ValueError:
    return None
  return Found(Knob(setup.fields, knobs.why(setup.fields)), planned)


def _setups(
  config: ml_collections.ConfigDict,
  hardware: machines.Hardware,
  assumed: Assumed,
  work: Work,
  start: Mapping[str, Any],
) -> Iterator[_Setup]:
  """Choices that may fit, with the work of a stage under each."""
  network = serve.read_model_sizes(config.model).network
  model = reckon.model_of(network, config)
  room = hardware.kind.room
  tensors = knobs.tensor_sizes(
    network.config.heads, network.config.kv_heads, hardware.devices
  )
  base = fitting.with_values(config, start)
  anew = {knobs.ROLLOUTS: 0}
  of_rollouts = knobs.rollout_tensors(config, network.config, hardware, anew)
  configs = stages_lib.stages(base)
  gpu = hardware.kind.platform == 'gpu'
  stages = {
    name: reckon.stage_of(base, c, work.mesh, '', gpu)
    for name, c in configs.items()
  }
  every = tuple(stages.values())
  updates = _fastest(
    (
      (u, _updated(work, model, stages[work.name], u))
      for u in _updates(base, hardware, model, every, tensors)
    ),
    hardware,
    assumed,
  )
  c = configs[work.name]
  for (own, changed), t in itertools.product(updates, of_rollouts):
    mesh = rollout_mesh = own.mesh
    if t != mesh['tensor']:
      left = hardware.devices // t
      rollout_mesh = dict(data=left, fsdp=1, tensor=t, sequence=1)
    stage = stages[work.name]._replace(offload=own.offload)
    stage = reckon.moved(stage, mesh, t)
    shards = hardware.devices // t
    for asked, slots in _slots(model, stage, room, work, shards, c):
      sizes = _sizes(model, stage, room, work.sizes, shards, slots, c)
      if sizes is None:
        continue
      named = dict(start) | own.fields
      if asked != config.engine.slots or knobs.SLOTS in named:
        named[knobs.SLOTS] = asked
      # As it is, it is what the config says or the run chooses.
      if t != work.rollout_mesh['tensor']:
        named[knobs.ROLLOUTS] = t
      yield _Setup(
        named, changed._replace(rollout_mesh=rollout_mesh, sizes=sizes)
      )


def _updated(
  work: Work, model: reckon.Model, stage: reckon.Stage, u: '_Update'
) -> Work:
  """The work with another update, and without held-out looks and probes."""
  own = reckon.moved(stage._replace(offload=u.offload), u.mesh)
  return work._replace(
    mesh=u.mesh,
    rows=u.rows * u.mesh['data'] * u.mesh['fsdp'],
    remat=u.remat,
    offload=u.offload,
    state_bytes=reckon.state_bytes(model, own),
    moment_bytes=8 * model.trained / own.shards,
    train_sums=4 * model.trained / own.shards,
    looks=(),
    asked=0,
  )


def _fastest(
  updates: Iterable[tuple['_Update', Work]],
  hardware: machines.Hardware,
  assumed: Assumed,
) -> list[tuple['_Update', Work]]:
  """The fastest update of each tensor and data axis.

  More groups of 'data' send less, but hold more of the state: what that costs
  rollouts is timed later.
  """
  best = {}
  for u, work in updates:
    seconds = timing.timed(work, hardware, assumed).phases['update']
    key = u.mesh['tensor'], u.mesh['data']
    if key not in best or seconds < best[key][0]:
      best[key] = seconds, u, work
  return [(u, work) for _, u, work in best.values()]


class _Update(NamedTuple):
  """A choice for the update: the fields that change, and what they are."""

  fields: Mapping[str, Any]
  mesh: Mapping[str, int]
  remat: str
  rows: int
  offload: bool


def _updates(
  config: ml_collections.ConfigDict,
  hardware: machines.Hardware,
  model: reckon.Model,
  stages: Sequence[reckon.Stage],
  tensors: Sequence[int],
) -> Iterator[_Update]:
  """Updates that fit with _MARGIN to spare.

  For each mesh the fastest remat, with moments on the devices if they fit, and
  numbers of rows. A longer sequence axis is taken only if shorter ones do not
  fit.
  """
  room = hardware.kind.room / _MARGIN
  sequences = dict.fromkeys((config.mesh.sequence, 2, 4, 8))
  # Within a node of GPUs or a slice of TPUs parameters are sharded.
  datas = dict.fromkeys((1, hardware.slices, hardware.processes))
  for tensor, data in itertools.product(tensors, datas):
    for sequence in sequences:
      whole = dict(data=data, fsdp=-1, tensor=tensor, sequence=sequence)
      both = tensor * sequence
      if both not in tensors or hardware.devices % (data * both):
        continue
      mesh = machines.mesh_sizes(whole, hardware.devices, hardware.slices)
      found = [
        (rows, remat, offload)
        for offload, remat in itertools.product((False, True), _REMATS)
        for rows in _ROWS
        if all(
          reckon.update_bytes(
            model,
            reckon.moved(s, mesh)._replace(
              rows=rows, remat=remat, offload=offload
            ),
          )
          < room
          for s in stages
        )
      ]
      for rows, remat, offload in found:
        if (remat, offload) == found[0][1:]:
          fields = _changes(config, whole, remat, rows, offload)
          yield _Update(fields, mesh, remat, rows, offload)
      if found:
        break


def _changes(
  config: ml_collections.ConfigDict,
  mesh: Mapping[str, int],
  remat: str,
  rows: int,
  offload: bool,
) -> dict[str, Any]:
  """The fields of a choice that differ from the config's."""
  every = {f'config.mesh.{name}': size for name, size in mesh.items()}
  every |= {knobs.REMAT: remat, knobs.ROWS: rows, knobs.OFFLOAD: offload}

  def old(path: str) -> Any:
    section = config
    for part in path.removeprefix('config.').split('.'):
      section = section[part]
    return section

  return {path: value for path, value in every.items() if old(path) != value}


def _slots(
  model: reckon.Model,
  stage: reckon.Stage,
  room: float,
  work: Work,
  shards: int,
  c: ml_collections.ConfigDict,
) -> list[tuple[int, int]]:
  """(config.engine.slots, slots): what 0 chooses, half of it, and the config's.

  Numbers that are given are whole groups for drafts on each of the `shards`.
  """
  width = work.sizes.speculate + 1
  most = shards * reckon.slots_of_shard(
    model,
    stage._replace(groups=shards),
    room,
    work.sizes.table,
    math.ceil(work.prompts * work.groups),
    width,
  )
  groups = shards * width
  given = {n for n in (most // 2 // groups * groups, c.engine.slots) if n}
  return [(0, most), *((n, n) for n in sorted(given) if not n % groups)]


def _sizes(
  model: reckon.Model,
  stage: reckon.Stage,
  room: float,
  sizes: engine_sizes.Sizes,
  shards: int,
  slots: int,
  c: ml_collections.ConfigDict,
) -> engine_sizes.Sizes | None:
  """The engine's sizes; None if no rollout fits."""
  page = reckon.token_bytes(model, stage) * sizes.page
  fit = int(reckon.pages_room(model, stage, room) // page) - 1
  if fit < sizes.table:
    return None
  return sizes._replace(
    slots=slots,
    shards=shards,
    rows=c.engine.prefill_prompts * shards,
    pages=min(slots // shards * sizes.table, fit) + 1,
  )
