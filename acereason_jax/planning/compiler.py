"""Compiles the programs of a stage for absent machines, and reads what comes.

`compiled.py` starts this as a process of its own, because compilers read their
settings once, and may crash:

    python -m acereason_jax.planning.compiler < order > report

The order is a `compiled.Order` as JSON. The report is lines of JSON: the names
of all programs that are `left` to do, then a `compiled.Program` each; or why
the config is `refused`.
"""

import contextlib
import json
import math
import pathlib
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any
from unittest import mock

import jax
from absl import flags

from acereason_jax import machines
from acereason_jax import mesh as mesh_lib
from acereason_jax.kernels import pinned
from acereason_jax.planning import copies, hlo, llo, ptx, sends, topologies
from acereason_jax.planning.compiled import Order, Program
from acereason_jax.rollout import serve
from acereason_jax.run import build, calls
from acereason_jax.run.values import Stage


def programs_for(
  config: Any, hardware: machines.Hardware, files: serve.ModelFiles
) -> build.Programs:
  """The programs of a config on absent machines that can be compiled for.

  Programs that do not fit are built all the same: for devices of any memory.

  Raises:
    ValueError: one line for the user.
  """
  machine = mesh_lib.absent(hardware, devices=topologies.devices(hardware))
  try:
    return build.build_programs(config, machine, files)
  except ValueError:
    machine = machine._replace(memory=1 << 50)
    return build.build_programs(config, machine, files)


def compile_call(
  call: calls.Call, hardware: machines.Hardware, **options: str
) -> jax.stages.Compiled:
  """`options` are those of XLA for this program."""
  platform = topologies.compiler(hardware)
  with tokamax_elsewhere() if platform == 'cuda' else contextlib.nullcontext():
    traced = call.function.trace(*call.arguments)
  lowered = traced.lower(lowering_platforms=(platform,))
  return lowered.compile(compiler_options=options)


@contextlib.contextmanager
def tokamax_elsewhere() -> Iterator[None]:
  """tokamax would ask the compiling machine whether it has such a GPU."""
  if not pinned.has_tokamax():
    yield
    return
  config, utils = map(pinned.module, pinned.ELSEWHERE)
  # tokamax's flags are not on our command line.
  flags.FLAGS.mark_as_parsed()
  capability = mock.patch.object(utils, '_compute_capability', lambda _=None: 9)
  with config.cross_compile(True), capability:
    yield


def own_bytes(done: jax.stages.Compiled) -> int:
  """Bytes of a device that the program itself needs."""
  m = done.memory_analysis()
  fresh = m.output_size_in_bytes - m.alias_size_in_bytes
  return m.argument_size_in_bytes + fresh + m.temp_size_in_bytes


def report(
  name: str,
  call: calls.Call,
  hardware: machines.Hardware,
  beside: int,
  room: int,
  layers: int,
  dumps: str,
) -> Program:
  """Compiles one program; `dumps` is emptied first."""
  for file in pathlib.Path(dumps).iterdir():
    file.unlink()
  began = time.perf_counter()
  try:
    done = compile_call(call, hardware)
  # No memory, no such kernel. What else is raised ends this process, and is
  # told as a crash (`compiled.compiled`).
  except (RuntimeError, ValueError) as e:
    problem = (str(e).splitlines() or [type(e).__name__])[0][:400]
    return Program(name, problem=problem, beside=beside, room=room)
  seconds = time.perf_counter() - began
  m, ops, unread = done.memory_analysis(), hlo.parse(done.as_text()), []
  try:
    sent = sends.by_kind(ops)
  except ValueError as e:
    sent, _ = [], unread.append(f'collectives: {e}'[:300])
  try:
    spills = spills_of(ops, hardware, dumps)
  except (OSError, ValueError, subprocess.CalledProcessError) as e:
    spills, _ = {}, unread.append(f'spills: {e}'[:300])
  slices = copies.copied_slices(ops, stacks_of(call, layers))
  if math.isnan(slices):
    slices, _ = 0.0, unread.append('slices: in a loop of unknown length')
  return Program(
    name=name,
    seconds=seconds,
    arguments=m.argument_size_in_bytes,
    outputs=m.output_size_in_bytes,
    aliased=m.alias_size_in_bytes,
    temporaries=m.temp_size_in_bytes,
    donated=donated_bytes(call, done),
    beside=beside,
    room=room,
    sends=sent,
    copied=copies.biggest_copy(ops),
    slices=slices,
    sorted=copies.longest_sort(ops),
    spills=spills,
    unread=unread,
  )


def spills_of(
  ops: list[hlo.Op], hardware: machines.Hardware, dumps: str
) -> dict[str, int]:
  """See `Program.spills`. Raises what `llo` and `ptx` raise."""
  if hardware.kind.platform == 'tpu':
    kernels = [op.name for op in ops if '"tpu_custom_call"' in op.line]
    return {name: llo.spills_of(dumps, name) for name in kernels}
  if hardware.kind.platform == 'cpu' or not any(
    pathlib.Path(dumps).glob('*.ptx')
  ):
    return {}
  bytes_of = lambda used: used['spill_stores'] + used['spill_loads']
  found = ptx.usage(dumps, '').items()
  return {
    name.rpartition(':')[2]: bytes_of(used)
    for name, used in found
    if bytes_of(used)
  }


def stacks_of(call: calls.Call, layers: int) -> set[tuple[int, ...]]:
  """The shapes on a device of the arguments that stack all layers."""
  return {
    x.sharding.shard_shape(x.shape)
    for x in jax.tree.leaves(call.arguments)
    if hasattr(x, 'sharding') and x.ndim > 1 and x.shape[0] == layers
  }


def donated_bytes(call: calls.Call, done: jax.stages.Compiled) -> int:
  """Bytes of a device's memory in arguments that the function takes over."""
  donated = [x.donated for x in jax.tree.leaves(done.args_info[0])]
  leaves = jax.tree.leaves(call.arguments)
  return mesh_lib.device_bytes([x for x, d in zip(leaves, donated) if d])


def beside_bytes(
  name: str, call: calls.Call, programs: build.Programs, stage: Stage
) -> int:
  """Bytes of a device that stay while the program runs, and are no argument.

  The train state always stays. Rollouts' weights and their pool are gone before
  an update.
  """
  state = mesh_lib.device_bytes(calls.abstract_state(programs, stage))
  sums = mesh_lib.device_bytes(programs.abstract_params)
  first = mesh_lib.device_bytes(call.arguments[:1])
  match name.removeprefix('heldout_'):
    case 'prefill' | 'decode':
      return state + programs.rollouts.extra - first
    case 'empty_pool':
      return state + programs.rollouts.extra
    case 'rollout_params' | 'zeros' | 'add' | 'first_pass':
      return state - first
    case 'score':
      return state - first + sums
  return 0


def main() -> None:
  order = Order.from_json(sys.stdin.read())
  # What libraries print must not be among the lines.
  out, sys.stdout = sys.stdout, sys.stderr
  tell = lambda **line: print(json.dumps(line), file=out, flush=True)
  hardware = machines.hardware(order.hardware)
  try:
    files = serve.read_model_sizes(order.config.model)
    programs = programs_for(order.config, hardware, files)
    stage = next((s for s in programs.stages if s.name == order.stage), None)
    if stage is None:
      names = ', '.join(s.name for s in programs.stages)
      raise ValueError(f'no stage {order.stage}; the stages are {names}')
  except (ValueError, OSError) as e:
    tell(refused=str(e))
    return
  todo = {
    name: call
    for name, call in calls.abstract_calls(programs, stage).items()
    if name not in order.done and (not order.only or name in order.only)
  }
  tell(left=[*todo])
  room = mesh_lib.absent(hardware, devices=programs.network.mesh.devices).memory
  layers = files.network.config.layers
  for name, call in todo.items():
    beside = beside_bytes(name, call, programs, stage)
    made = report(name, call, hardware, beside, room, layers, order.dumps)
    tell(**made._asdict())


if __name__ == '__main__':
  main()
