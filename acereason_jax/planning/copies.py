"""The arrays that a program writes anew, slices and sorts, from its HLO."""

import math
import re
from collections.abc import Collection

from acereason_jax.planning import hlo

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


def biggest_copy(ops: list[hlo.Op]) -> int:
  """Bytes of the largest array that an op writes anew.

  Updates of an array in place do not count; the program's memory shows whether
  they really are in place.
  """
  inside = hlo.inside_fusions(ops)
  updates = {
    (op.computation, max(op.outputs))
    for op in ops
    if op.kind in ('dynamic-update-slice', 'scatter')
  }

  def in_place(op: hlo.Op) -> bool:
    called = re.search(r'calls=%?([\w.\-]+)', op.line)
    return bool(called) and (called[1], max(op.outputs)) in updates

  sizes = (
    max(op.outputs)
    for op in ops
    if op.kind not in _NAMES
    and op.outputs
    # Inputs are among the outputs; what it makes is that of its `-done`.
    and not op.kind.endswith('-start')
    and op.computation not in inside
    and not in_place(op)
  )
  return max(sizes, default=0)


def largest_array(ops: list[hlo.Op], *, stacked: int) -> int:
  """Elements of the largest array outside of fusions.

  Arrays that lead with `stacked` layers count as one layer.
  """
  inside = hlo.inside_fusions(ops)
  shapes = {op.shape for op in ops if op.computation not in inside}
  arrays = (dims for shape in shapes for _, dims in hlo.arrays(shape))
  return max(
    math.prod(dims[1:] if dims[:1] == [stacked] else dims) for dims in arrays
  )


def relaid(ops: list[hlo.Op]) -> int:
  """Bytes to which a SparseCore gives another layout, in the entry."""
  return sum(
    max(op.outputs)
    for op in ops
    if op.entry and op.kind == 'call-done' and 'data-format-call' in op.line
  )


def copied_slices(
  ops: list[hlo.Op], stacks: Collection[tuple[int, ...]]
) -> float:
  """Bytes of slices of stacked weights that a call writes, with all rounds.

  `stacks` are the shapes of the stacks on a device, [L, ..]. XLA's loop over
  layers reads each layer's weights where they are, or first copies its slice:
  then a step writes and reads the weights once more. Slices into a TPU's VMEM
  are no copies.
  """
  counts, inside = hlo.runs(ops), hlo.inside_fusions(ops)
  by_name = {(op.computation, op.name): op for op in ops}
  roots = {op.computation: op for op in ops if op.root}
  # A fusion in another, of a TPU, is a part of that kernel: it writes nothing.
  calls = ((op, re.search(r'calls=%?([\w.\-]+)', op.line)) for op in ops)
  nested = {c[1] for op, c in calls if c and op.computation in inside}
  total = 0.0
  for op in ops:
    if op.kind != 'dynamic-slice' or op.computation in nested:
      continue
    first = re.search(r' dynamic-slice\((?:[^%)]*)%([\w.\-]+)', op.line)
    whole = first and by_name.get((op.computation, first[1]))
    made = roots[op.computation] if op.computation in inside else op
    if (
      whole
      and _dims(whole) in stacks
      and math.prod(_dims(made)) == math.prod(_dims(op))
      and 'S(1)' not in made.shape
    ):
      total += counts.get(op.computation, 0) * op.outputs[0]
  return total


def longest_sort(ops: list[hlo.Op]) -> int:
  """Numbers in the longest row that is sorted; 0 if nothing is.

  XLA's own op, CUB's on a GPU, and `top_k`, by whatever name.
  """
  longest = 0
  for op in ops:
    sorts = op.kind in ('sort', 'topk') or re.search(
      r'custom_call_target="[^"]*(Sort|TopK|PartialReduce)', op.line
    )
    if sorts:
      # A sort gives what it takes; of top_k the operand is longer.
      operands = hlo.operands(op)
      shapes = [
        _dims(op),
        *(_dims(o) for o in ops if (o.computation, o.name) in operands),
      ]
      axis = re.search(r'dimensions=\{(\d+)\}', op.line)
      place = int(axis[1]) if axis else -1
      longest = max([longest, *(shape[place] for shape in shapes if shape)])
  return longest


def _dims(op: hlo.Op) -> tuple[int, ...]:
  found = hlo.arrays(op.shape)
  return tuple(found[0][1]) if found else ()
