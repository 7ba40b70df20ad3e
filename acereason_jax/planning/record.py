"""A plan as a mapping that JSON can hold: what --json writes.

Seconds, bytes, hours of wall clock, shares from 0 to 1; None where a number
does not exist, as the time of a stage that cannot be built.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from acereason_jax import machines
from acereason_jax.planning import traffic, values

NOT_MEASURED = 'simulated, not measured'


def of(
  planned: Sequence[values.Planned],
  hardware: machines.Hardware,
  assumed: values.Assumed,
  about: Mapping[str, Any],
) -> dict[str, Any]:
  """The whole plan.

  Args:
    planned: the stages of the run, in order.
    hardware: its machines.
    assumed: what the plan assumes.
    about: more fields of the record, such as the config's name.
  """
  stages = [_stage(stage, hardware, assumed) for stage in planned]
  return dict(about) | dict(
    note=NOT_MEASURED,
    hardware=hardware.text,
    chips=chips(hardware),
    devices=hardware.devices,
    hosts=hardware.processes,
    device_bytes=hardware.kind.memory,
    fits=all(stage['fits'] for stage in stages),
    hours=_sum(stage['hours'] for stage in stages),
    chip_hours=_sum(stage['chip_hours'] for stage in stages),
    cost=_sum(stage['cost'] for stage in stages),
    assumed=_assumed(traffic.of_kind(hardware.kind, assumed)),
    stages=stages,
  )


def chips(hardware: machines.Hardware) -> int:
  """All chips; TPU7x has two of jax's devices on each."""
  return hardware.processes * hardware.chips


def _stage(
  planned: values.Planned,
  hardware: machines.Hardware,
  assumed: values.Assumed,
) -> dict[str, Any]:
  work, knob = planned.work, planned.knob
  return (
    dict(
      name=planned.name,
      fits=planned.fits,
      refused=planned.refused,
      knob=knob and dict(fields=dict(knob.fields), why=knob.why),
      chips=chips(hardware),
      slots=work and work.sizes.slots,
      mesh=work and dict(work.mesh),
      rollout_mesh=work and dict(work.rollout_mesh),
      prompts=work and work.prompts,
      rollouts=work and work.prompts * work.groups,
      max_tokens=work and work.sizes.max_tokens,
      checkpoint_bytes=work and work.checkpoint_bytes,
      host=dict(planned.host),
      host_bytes=planned.host_bytes,
      journal_bytes=planned.journal_bytes,
      memory=[_phase(phase) for phase in planned.phases],
    )
    | _sizes(work)
    | _time(planned.timed, hardware, assumed)
  )


def _sizes(work: values.Work | None) -> dict[str, Any]:
  """The sizes of the model and of the microbatch, to work figures out with."""
  if work is None:
    return dict(shape=None, pages=None, microbatch=None)
  return dict(
    shape=work.shape._asdict(),
    pages=work.sizes.pages * work.sizes.shards,
    microbatch=dict(rows=work.rows, columns=work.columns, remat=work.remat),
  )


def _phase(phase: values.Phase) -> dict[str, Any]:
  return dict(
    name=phase.name,
    fits=phase.fits,
    bytes=phase.need,
    room=phase.room,
    parts=dict(phase.parts),
  )


def _time(
  timed: values.Timed | None,
  hardware: machines.Hardware,
  assumed: values.Assumed,
) -> dict[str, Any]:
  if timed is None:
    names = (
      *('step_seconds', 'hours', 'steps', 'generation_share', 'chip_hours'),
      *('cost', 'seconds', 'decode', 'occupancy', 'tail', 'mfu', 'filled'),
      *('microbatches', 'tokens_per_second_a_chip', 'wastes'),
    )
    return dict.fromkeys(names)
  batch = timed.batch
  chip_hours = timed.hours * chips(hardware)
  return dict(
    step_seconds=timed.step_seconds,
    hours=timed.hours,
    steps=timed.steps,
    generation_share=timed.generation_share,
    chip_hours=chip_hours,
    cost=chip_hours * assumed.price if assumed.price else None,
    seconds=dict(timed.phases),
    decode=dict(
      seconds=batch.seconds,
      steps=batch.steps,
      calls=batch.calls,
      tokens=batch.tokens,
      busiest=batch.busiest,
      busiest_full=batch.busiest_full,
      preempted=batch.preempted,
      parts=dict(batch.parts),
    ),
    occupancy=batch.occupancy,
    tail=batch.tail,
    microbatches=timed.microbatches,
    filled=timed.filled,
    mfu=timed.mfu,
    tokens_per_second_a_chip=batch.tokens
    / (timed.step_seconds * chips(hardware)),
    wastes=[waste._asdict() for waste in timed.wastes],
  )


def _assumed(assumed: values.Assumed) -> dict[str, Any]:
  # JSON's keys are texts.
  return {
    name: {str(key): each for key, each in value.items()}
    if isinstance(value, Mapping)
    else value
    for name, value in assumed._asdict().items()
  }


def _sum(numbers: Any) -> float | None:
  """None if one of them is not known."""
  found = list(numbers)
  return None if None in found else math.fsum(found)
