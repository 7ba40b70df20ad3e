"""What an optimised HLO module copies and sends, read from its text."""

import math
import re
from typing import NamedTuple

_BYTES = {'pred': 1, 's8': 1, 'u8': 1, 'bf16': 2, 'f16': 2, 's64': 8, 'u64': 8}
_BYTES |= {'f8e4m3fn': 1, 'f8e5m2': 1, 'u32': 4, 's32': 4, 'f32': 4}
_COMPUTATION = re.compile(r'^(?:ENTRY )?%?([\w.\-]+) \(.*\{$')
_OP = re.compile(r'^\s+(?:ROOT )?%[\w.\-]+ = (.*?) ([\w\-]+)\(')
_COLLECTIVES = (
  'all-gather',
  'all-reduce',
  'all-to-all',
  'collective-permute',
  'reduce-scatter',
)
# What gives arrays that are already there.
_NAMES = (
  'bitcast',
  'call',
  'conditional',
  'dynamic-update-slice',
  'get-tuple-element',
  'optimization-barrier',
  'parameter',
  'scatter',
  'tuple',
  'while',
)


class Op(NamedTuple):
  """One op: where it stands, its kind and its outputs' bytes."""

  computation: str
  entry: bool
  kind: str
  outputs: tuple[int, ...]
  line: str


def parse(text: str) -> list[Op]:
  """The ops of a module, in order, those inside of fusions too."""
  ops, computation, entry = [], '', False
  for line in text.splitlines():
    if found := _COMPUTATION.match(line):
      computation, entry = found[1], line.startswith('ENTRY')
    elif found := _OP.match(line):
      ops.append(Op(computation, entry, found[2], _sizes(found[1]), line))
  return ops


def _sizes(shape: str) -> tuple[int, ...]:
  arrays = re.findall(r'\b(\w+)\[([\d,]*)\]', shape)
  return tuple(
    _BYTES[dtype] * math.prod(int(d) for d in dims.split(',') if d)
    for dtype, dims in arrays
    if dtype in _BYTES
  )


def biggest_copy(ops: list[Op]) -> int:
  """Bytes of the largest array that an op writes anew.

  Updates of an array in place do not count: whether they really are in place,
  the memory that the program needs shows.
  """
  inside = _inside_fusions(ops)
  updates = {
    (op.computation, max(op.outputs))
    for op in ops
    if op.kind in ('dynamic-update-slice', 'scatter')
  }

  def in_place(op: Op) -> bool:
    called = re.search(r'calls=%?([\w.\-]+)', op.line)
    return bool(called) and (called[1], max(op.outputs)) in updates

  sizes = (
    max(op.outputs)
    for op in ops
    if op.kind not in _NAMES
    and op.outputs
    and op.computation not in inside
    and not in_place(op)
  )
  return max(sizes, default=0)


def collectives(ops: list[Op]) -> list[int]:
  """Bytes of what each op that crosses devices gives, outside of the entry."""
  return [
    sum(op.outputs)
    for op in ops
    if op.kind.removesuffix('-start') in _COLLECTIVES and not op.entry
  ]


def relaid(ops: list[Op]) -> int:
  """Bytes that a SparseCore gives another layout, in the entry."""
  return sum(
    max(op.outputs)
    for op in ops
    if op.entry and op.kind == 'call-done' and 'data-format-call' in op.line
  )


def _inside_fusions(ops: list[Op]) -> set[str]:
  calls = (re.search(r'calls=%?([\w.\-]+)', op.line) for op in ops)
  return {
    found[1] for op, found in zip(ops, calls) if found and op.kind == 'fusion'
  }
