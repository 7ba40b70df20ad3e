"""What the devices of a program send each other, from its HLO."""

import math
import re

from acereason_jax.planning import hlo
from acereason_jax.planning.compiled import Sends

_COLLECTIVES = (
  'all-gather',
  'all-reduce',
  'all-to-all',
  'collective-permute',
  'reduce-scatter',
)


def by_kind(ops: list[hlo.Op]) -> list[Sends]:
  """The collectives of a module, by kind.

  In a ring of n devices each sends (n - 1) / n of the bytes that are gathered,
  reduce-scattered or exchanged, and twice that of the bytes that are
  all-reduced. A TPU's fused reduce-scatter holds a whole sum in name only; the
  parts of one asynchronous op share a channel, and count once. Every branch of
  a conditional counts.

  Raises:
    ValueError: a collective in a loop whose number of rounds depends on data,
      or of a group in an unknown notation.
  """
  counts, by_channel = hlo.runs(ops), {}
  for i, op in enumerate(ops):
    kind = op.kind.removesuffix('-start')
    if kind in _COLLECTIVES:
      times = counts.get(op.computation, 0)
      if math.isnan(times):
        raise ValueError(
          f'no number of trips that this understands, of {op.computation}: '
          f'{op.line.strip()}'
        )
      channel = re.search(r'channel_id=(\d+)', op.line)
      key = channel[1] if channel else i
      one = Sends(kind, times, times * _sent_once(op))
      by_channel[key] = max(
        one, by_channel.get(key, one), key=lambda sends: sends.sent
      )
  kinds = sorted({each.kind for each in by_channel.values()})
  return [
    Sends(kind, sum(e.ops for e in own), sum(e.sent for e in own))
    for kind in kinds
    if (own := [e for e in by_channel.values() if e.kind == kind])
  ]


def sent(ops: list[hlo.Op]) -> float:
  """Bytes that a device sends in a call. Raises ValueError as `by_kind`."""
  return sum(each.sent for each in by_kind(ops))


def collectives(ops: list[hlo.Op]) -> list[int]:
  """Output bytes of each op that crosses devices, outside of the entry."""
  return [
    sum(op.outputs)
    for op in ops
    if op.kind.removesuffix('-start') in _COLLECTIVES and not op.entry
  ]


def _sent_once(op: hlo.Op) -> float:
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
