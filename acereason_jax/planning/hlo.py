"""An optimised HLO module's ops, from its text, and how often each is run."""

import math
import re
from typing import NamedTuple

_BYTES = {'pred': 1, 's8': 1, 'u8': 1, 'bf16': 2, 'f16': 2, 's64': 8, 'u64': 8}
_BYTES |= {'f8e4m3fn': 1, 'f8e5m2': 1, 'u32': 4, 's32': 4, 'f32': 4}
_COMPUTATION = re.compile(r'^(?:ENTRY )?%?([\w.\-]+) \(.*\{$')
_OP = re.compile(r'^\s+(ROOT )?%([\w.\-]+) = (.*?) ([\w\-]+)\(')
_CALLED = re.compile(
  r'(?:body|calls|to_apply|\w+_computations?)=(\{[^}]*\}|[^ ,]+)'
)


class Op(NamedTuple):
  """One op of a module.

  computation: name of the computation that it is in.
  entry: whether that is the entry.
  name: name of its output.
  root: whether the computation returns that.
  kind: name of its operation.
  shape: its output shapes, as in the text.
  outputs: bytes of each output.
  line: its whole line.
  """

  computation: str
  entry: bool
  name: str
  root: bool
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
      root, name, shape, kind = found.groups()
      sizes = _sizes(shape)
      ops.append(
        Op(computation, entry, name, bool(root), kind, shape, sizes, line)
      )
  return ops


def _sizes(shape: str) -> tuple[int, ...]:
  return tuple(
    _BYTES[dtype] * math.prod(dims)
    for dtype, dims in arrays(shape)
    if dtype in _BYTES
  )


def arrays(shape: str) -> list[tuple[str, list[int]]]:
  """Dtype and dimensions of each array of a shape."""
  found = re.findall(r'\b(\w+)\[([\d,]*)\]', shape)
  return [(dtype, [int(d) for d in x.split(',') if d]) for dtype, x in found]


def runs(ops: list[Op]) -> dict[str, float]:
  """How often each computation is run; every branch of a conditional counts.

  nan for those in a loop whose number of rounds depends on data.
  """
  counts = {op.computation: 1 for op in ops if op.entry}
  # A text lists a computation before those that call it.
  for op in reversed(ops):
    if op.kind.endswith(('-update', '-done')):
      continue
    times = counts.get(op.computation, 0)
    if op.kind == 'while':
      condition = re.search(r'condition=%?([\w.\-]+)', op.line)[1]
      times *= _trips(ops, op, condition)
    for called in _CALLED.findall(op.line):
      for name in re.findall(r'[\w.\-]+', called):
        counts[name] = counts.get(name, 0) + times
  return counts


def _trips(ops: list[Op], loop: Op, condition: str) -> float:
  """The known trip count of the loop, or the bound in its condition.

  Counters start from 0. Those of a `lax.scan` or `fori_loop` grow by 1; XLA's
  loops of products and permutations do two steps at once. nan if the condition
  does not compare with a constant.
  """
  if known := re.search(r'known_trip_count\W+n\W+(\d+)', loop.line):
    return int(known[1])
  lines = _lines(ops, condition)
  # On GPUs the comparison is in a fusion, which the condition calls.
  texts = [*lines.values()]
  for line in lines.values():
    for called in re.findall(r'calls=%?([\w.\-]+)', line):
      texts += _lines(ops, called).values()
  bounds = [n for text in texts if (n := _constant(text))]
  if not bounds:
    return math.nan
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


def inside_fusions(ops: list[Op]) -> set[str]:
  """The computations that are one kernel each."""
  calls = (re.search(r'calls=%?([\w.\-]+)', op.line) for op in ops)
  return {
    found[1]
    for op, found in zip(ops, calls)
    if found and op.kind in ('fusion', 'fusion-start')
  }


def operands(op: Op) -> set[tuple[str, str]]:
  """Computation and name of each of the op's operands."""
  found = re.search(rf' {re.escape(op.kind)}\((.*?)\)', op.line)
  names = re.findall(r'%([\w.\-]+)', found[1]) if found else []
  return {(op.computation, name) for name in names}
