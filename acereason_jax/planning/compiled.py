"""What the compilers of absent machines say of a stage's programs.

Nothing runs: programs are compiled ahead of time (AOT), with the arguments that
a run gives them, and the compilers' reports are read. Known to be wrong in the
reports, and therefore not given, or corrected:

- XLA's cost model counts the body of a loop once, prices a collective by the
  memory that it touches, and adds -1 s for an op that it cannot price; it has
  none for GPUs. Nothing here is a time, except how long compiling took.
- `peak_memory_in_bytes` may be less than arguments and temporaries: `need` sums
  what `memory_analysis` lists.
- A compile for a GPU does not fail if the memory is too small, and one for a
  TPU knows only its own arguments: `fits` counts what else is on the device.
- A collective's bytes are those of its op times the rounds of the loops that it
  is in, where loops that may end early count with their most rounds.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import ml_collections

from acereason_jax import machines
from acereason_jax.planning import topologies


class Sends(NamedTuple):
  """The collectives of one kind in a call of a program.

  kind: name of the operation, such as 'all-gather'.
  ops: how often a device takes part in one, with all rounds of loops.
  sent: bytes that a device sends in all of them, in rings.
  """

  kind: str
  ops: float
  sent: float


class Program(NamedTuple):
  """What a compiler says of one program; bytes are of one device.

  name: name in `run.calls.abstract_calls`.
  problem: why it does not compile, one line; '' if it does.
  seconds: time that compiling took here.
  arguments, outputs, aliased, temporaries: bytes as in `memory_analysis`.
  donated: bytes of arguments that it may write its outputs to; `aliased` is
    less if it makes a copy of some.
  beside: bytes that stay on the device meanwhile, and are no argument.
  room: bytes of the device that programs may take.
  sends: its collectives.
  copied: bytes of the largest array that one op writes anew.
  slices: bytes of stacked weights that a call copies layer by layer, in all
    rounds; see `copies.copied_slices`.
  sorted: numbers in the longest row that it sorts; 0: nothing.
  spills: by kernel: vectors of a TPU's Pallas kernel, or bytes of a GPU's
    kernel, that do not stay in registers; kernels without any are left out on
    GPUs.
  unread: what could not be read from the reports, one line each.
  """

  name: str
  problem: str = ''
  seconds: float = 0.0
  arguments: int = 0
  outputs: int = 0
  aliased: int = 0
  temporaries: int = 0
  donated: int = 0
  beside: int = 0
  room: int = 0
  sends: Sequence[Sends] = ()
  copied: int = 0
  slices: float = 0.0
  sorted: int = 0
  spills: Mapping[str, int] = {}
  unread: Sequence[str] = ()

  @property
  def own(self) -> int:
    """Bytes that the program itself needs."""
    fresh = self.outputs - self.aliased
    return self.arguments + fresh + self.temporaries

  @property
  def need(self) -> int:
    return self.own + self.beside

  @property
  def fits(self) -> bool:
    return not self.problem and self.need <= self.room

  @property
  def sent(self) -> float:
    """Bytes that a device sends in a call."""
    return sum(each.sent for each in self.sends)


class Order(NamedTuple):
  """What `compiler.py` is to compile.

  config: a valid config.
  hardware: machines, as --hardware names them.
  stage: name of a stage of the config.
  only: names of programs to compile; (): all.
  done: names of programs that are not compiled again.
  dumps: folder that the compiler writes to.
  """

  config: ml_collections.ConfigDict
  hardware: str
  stage: str
  only: Sequence[str]
  done: Sequence[str]
  dumps: str

  def to_json(self) -> str:
    config = json.loads(self.config.to_json())
    return json.dumps(self._asdict() | dict(config=config))

  @classmethod
  def from_json(cls, text: str) -> 'Order':
    values = json.loads(text)
    config = ml_collections.ConfigDict(_tuples(values['config']))
    return cls(**values | dict(config=config))


def _tuples(value: Any) -> Any:
  """The value with the tuples of a config, of which JSON made lists."""
  if isinstance(value, dict):
    return {name: _tuples(each) for name, each in value.items()}
  return tuple(map(_tuples, value)) if isinstance(value, list) else value


def compiled(
  config: ml_collections.ConfigDict,
  hardware: machines.Hardware,
  stage: str,
  *,
  only: Sequence[str] = (),
  flags: Mapping[str, str] | None = None,
  dumps: str | None = None,
) -> Iterator[Program]:
  """The programs of a stage as the compiler of the machines reports them.

  Each comes when it is compiled, by a process of its own, which a crash of the
  compiler ends: the other programs go on in another. `flags` are environment
  variables that the run would start with, if not those of the kind of machine.
  What the compiler writes stays in the folder `dumps`, if one is given, for the
  last program.

  Raises:
    ValueError: one line; the config is not one for these machines, or the
      compiler is not installed.
  """
  if reason := topologies.lacks(hardware):
    raise ValueError(reason)
  done = []
  with tempfile.TemporaryDirectory() as temporary:
    folder = dumps or temporary
    environment = topologies.environment(hardware, folder, flags)
    while True:
      order = Order(config, hardware.text, stage, only, done, folder)
      left, last = None, ''
      for line in _lines(order, os.environ | environment):
        if 'refused' in line:
          raise ValueError(line['refused'])
        if 'left' in line:
          left = line['left']
        elif 'ended' in line:
          last = line['ended']
        else:
          done.append(line['name'])
          yield _program(line)
      if left is None:
        raise ValueError(
          f'{hardware.text}: the compiler could not be started: {last}'
        )
      if not (rest := [name for name in left if name not in done]):
        return
      done.append(rest[0])
      yield Program(rest[0], problem=f'the compiler crashed: {last}')


def _lines(order: Order, environment: Mapping[str, str]) -> Iterator[dict]:
  """The lines of JSON that the process writes, as they come.

  Then how it `ended`: the last line of its errors that says so.
  """
  command = [sys.executable, '-m', 'acereason_jax.planning.compiler']
  with (
    tempfile.TemporaryFile() as told,
    subprocess.Popen(
      command,
      env=environment,
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=told,
    ) as process,
  ):
    try:
      process.stdin.write(order.to_json().encode())
      process.stdin.close()
      for line in process.stdout:
        # libtpu may write here too.
        if line.startswith(b'{'):
          yield json.loads(line)
      status = process.wait()
    finally:
      process.kill()
    told.seek(0)
    lines = told.read().decode(errors='replace').splitlines()
    errors = [x for x in lines if re.match(r'F\d|.*([Ee]rror|signal|fatal)', x)]
    last = (errors or [f'exit status {status}'])[-1]
    yield dict(ended=last.strip()[:300])


def _program(line: Mapping[str, Any]) -> Program:
  sends = tuple(Sends(*each) for each in line['sends'])
  return Program(**dict(line) | dict(sends=sends))
