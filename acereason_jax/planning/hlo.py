"""Reads from an optimised HLO module's text what it holds, copies and sends."""

import math
import re
from typing import NamedTuple

_BYTES = {'pred': 1, 's8': 1, 'u8': 1, 'bf16': 2, 'f16': 2, 's64': 8, 'u64': 8}
_BYTES |= {'f8e4m3fn': 1, 'f8e5m2': 1, 'u32': 4, 's32': 4, 'f32': 4}
_COMPUTATION = re.compile(r'^(?:ENTRY )?%?([\w.\-]+) \(.*\{$')
_OP = re.compile(r'^\s+(?:ROOT )?%[\w.\-]+ = (.*?) ([\w\-]+)\(')
_CALLED = re.compile(
  r'(?:body|calls|to_apply|\w+_computations?)=(\{[^}]*\}|[^ ,]+)'
)
_COLLECTIVES = (
  'all-gather',
  'all-reduce',
  'all-to-all',
  'collective-permute',
  'reduce-scatter',
)
# Ops whose outputs already exist.
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
  """One op of a module.

  computation: name of the computation that it is in.
  entry: whether that is the entry.
  kind: name of its operation.
  shape: its output shapes, as in the text.
  outputs: bytes of each output.
  line: its whole line.
  """

  computation: str
  entry: bool
  kind: str
  shape: str
  outputs: tuple[int, ...]
  line: str


def parse(text: str) -> list[Op]:
  """The ops of a module, in order, those inside of fusions too."""
  ops, computation, entry = [], '', False
  for line in text.splitlines():
    if found := _COMPUTATION.match(line):
      computation, entry = found[1], line.startswith('ENTRY')
    elif found := _OP.match(line):
      shape, kind = found.groups()
      ops.append(Op(computation, entry, kind, shape, _sizes(shape), line))
  return ops


def _sizes(shape: str) -> tuple[int, ...]:
  return tuple(
    _BYTES[dtype] * math.prod(dims)
    for dtype, dims in _arrays(shape)
    if dtype in _BYTES
  )


def _arrays(shape: str) -> list[tuple[str, list[int]]]:
  found = re.findall(r'\b(\w+)\[([\d,]*)\]', shape)
  return [(dtype, [int(d) for d in x.split(',') if d]) for dtype, x in found]


def biggest_copy(ops: list[Op]) -> int:
  """Bytes of the largest array that an op writes anew.

  Updates of an array in place do not count; the program's memory shows whether
  they really are in place.
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
  """Output bytes of each op that crosses devices, outside of the entry."""
  return [
    sum(op.outputs)
    for op in ops
    if op.kind.removesuffix('-start') in _COLLECTIVES and not op.entry
  ]


def largest_array(ops: list[Op], *, stacked: int) -> int:
  """Elements of the largest array outside of fusions.

  Arrays that lead with `stacked` layers count as one layer.
  """
  inside = _inside_fusions(ops)
  shapes = {op.shape for op in ops if op.computation not in inside}
  arrays = (dims for shape in shapes for _, dims in _arrays(shape))
  return max(
    math.prod(dims[1:] if dims[:1] == [stacked] else dims) for dims in arrays
  )


def sent(ops: list[Op]) -> float:
  """Bytes that a device sends in total, with all iterations of loops.

  In a ring of n devices it sends (n - 1) / n of the bytes that are gathered,
  reduce-scattered or exchanged, and twice that of the bytes that are
  all-reduced. A TPU's fused reduce-scatter holds a whole sum in name only; the
  parts of one asynchronous op share a channel, and count once.
  """
  runs, by_channel = _runs(ops), {}
  for i, op in enumerate(ops):
    if op.kind.removesuffix('-start') in _COLLECTIVES:
      channel = re.search(r'channel_id=(\d+)', op.line)
      key = channel[1] if channel else i
      size = runs.get(op.computation, 0) * _sent_once(op)
      by_channel[key] = max(size, by_channel.get(key, 0))
  return sum(by_channel.values())


def _sent_once(op: Op) -> float:
  kind, outputs = op.kind.removesuffix('-start'), op.outputs
  if kind == 'collective-permute':
    return outputs[0]
  n = _group_size(op.line)
  times = (n - 1) / n
  if kind == 'reduce-scatter':
    times *= n
  elif kind == 'all-reduce' and 'all-reduce-scatter' not in op.computation:
    times *= 2
  if op.kind.endswith('-start') and kind != 'all-reduce':
    # The inputs are among the outputs.
    outputs = outputs[len(outputs) // 2 :]
  return times * sum(outputs)


def _group_size(line: str) -> int:
  """The number of devices of a collective, in any of its notations."""
  if found := re.search(r'replica_groups=\{\{([\d,]+)\}', line):
    return len(found[1].split(','))
  if found := re.search(r'replica_groups=\[\d+,(\d+)\]', line):
    return int(found[1])
  if found := re.search(r'replica_groups=mesh\[(.*?)\].*? \{(.*?)\}', line):
    sizes = dict(re.findall(r"'(\w+)'=(\d+)", found[1]))
    parts = re.findall(r"'(\w+)'(?::\(\d+\)(\d+))?", found[2])
    return math.prod(int(part or sizes[axis]) for axis, part in parts)
  raise ValueError(f'no replica groups that this understands: {line}')


def _runs(ops: list[Op]) -> dict[str, int]:
  """How often each computation is run; every branch of a conditional counts."""
  runs = {op.computation: 1 for op in ops if op.entry}
  # A text lists a computation before those that call it.
  for op in reversed(ops):
    if op.kind.endswith(('-update', '-done')):
      continue
    times = runs.get(op.computation, 0)
    if op.kind == 'while':
      condition = re.search(r'condition=%?([\w.\-]+)', op.line)[1]
      times *= _trips(ops, op, condition)
    for called in _CALLED.findall(op.line):
      for name in re.findall(r'[\w.\-]+', called):
        runs[name] = runs.get(name, 0) + times
  return runs


def _trips(ops: list[Op], loop: Op, condition: str) -> int:
  """The known trip count of the loop, or the bound in its condition.

  Counters start from 0. Those of a `lax.scan` or `fori_loop` grow by 1; XLA's
  loops of products and permutations do two steps at once.

  Raises:
    ValueError: the condition does not compare with a constant.
  """
  if known := re.search(r'known_trip_count\W+n\W+(\d+)', loop.line):
    return int(known[1])
  lines = _lines(ops, condition)
  bounds = [n for line in lines.values() if (n := _constant(line))]
  if not bounds:
    raise ValueError(f'no number of trips that this understands: {loop.line}')
  body = _lines(ops, re.search(r'body=%?([\w.\-]+)', loop.line)[1])
  return -(-max(bounds) // _step(lines, body))


def _lines(ops: list[Op], computation: str) -> dict[str, str]:
  """The lines of a computation, by the name that they define."""
  lines = (op.line for op in ops if op.computation == computation)
  return {re.search(r'%([\w.\-]+) = ', line)[1]: line for line in lines}


def _constant(line: str) -> int:
  found = re.search(r' [su]32\[\]\S* constant\((\d+)\)', line)
  return int(found[1]) if found else 0


def _operands(line: str, kind: str) -> list[str]:
  found = re.search(rf' {kind}\((.*?)\)', line)
  return re.findall(r'%([\w.\-]+)', found[1]) if found else []


def _step(condition: dict[str, str], body: dict[str, str]) -> int:
  """The increment in a body of the element that a condition compares, or 1."""
  compared = [x for c in condition.values() for x in _operands(c, 'compare')]
  texts = (condition[x] for x in compared)
  index = next((x for t in texts if (x := re.search(r'index=(\d+)', t))), None)
  roots = [line for line in body.values() if ' ROOT ' in line]
  if index is None or not roots:
    return 1
  after = _operands(roots[0], 'tuple')[int(index[1]) :][:1]
  added = [x for name in after for x in _operands(body[name], 'add')]
  return max((_constant(body[x]) for x in added), default=0) or 1


def relaid(ops: list[Op]) -> int:
  """Bytes to which a SparseCore gives another layout, in the entry."""
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
