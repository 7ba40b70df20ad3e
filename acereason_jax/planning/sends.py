"""What the devices of a program send each other, from its HLO."""

import math
import re

import numpy as np

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
    if is_collective(op):
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
  return [sum(op.outputs) for op in ops if is_collective(op) and not op.entry]


def is_collective(op: hlo.Op) -> bool:
  """Whether it sends; the `-done` of an asynchronous one does not."""
  return op.kind.removesuffix('-start') in _COLLECTIVES


def _sent_once(op: hlo.Op) -> float:
  kind, outputs = op.kind.removesuffix('-start'), op.outputs
  if kind == 'collective-permute':
    return outputs[0]
  n = groups(op).shape[1]
  times = (n - 1) / n
  if kind == 'reduce-scatter':
    times *= n
  elif kind == 'all-reduce' and 'all-reduce-scatter' not in op.computation:
    times *= 2
  if op.kind.endswith('-start') and kind != 'all-reduce':
    # The inputs are among the outputs.
    outputs = outputs[len(outputs) // 2 :]
  return times * sum(outputs)


def groups(op: hlo.Op) -> np.ndarray:
  """The devices of each group of a collective, [groups, members].

  Of a collective-permute these are the pairs of a sender and a receiver.

  Raises:
    ValueError: one line; they are in an unknown notation.
  """
  line, found = op.line, None
  if found := re.search(
    r'(?:replica_groups|source_target_pairs)=\{(\{[\d,{}]+\})\}', line
  ):
    lists = re.findall(r'\{([\d,]+)\}', found[1])
    return np.array([_numbers(one) for one in lists])
  if found := re.search(r'replica_groups=\[(\d+,\d+)\]<=(\S+?),? ', line + ' '):
    return _order(found[2]).reshape(_numbers(found[1]))
  if found := re.search(
    r'replica_groups=mesh\[([^]]*)\](?:, device_ids=\((\S+)\))? \{(.*?)\}', line
  ):
    return _along_axes(*found.groups())
  raise ValueError(f'no replica groups that this understands: {line}')


def _numbers(text: str) -> list[int]:
  return [int(n) for n in text.split(',')]


def _order(text: str) -> np.ndarray:
  """All devices, in the order of [sizes]T(axes): counted, then transposed."""
  found = re.fullmatch(r'\[([\d,]+)\](?:T\(([\d,]+)\))?', text)
  if not found:
    raise ValueError(f'no order of devices that this understands: {text}')
  sizes = _numbers(found[1])
  axes = _numbers(found[2]) if found[2] else range(len(sizes))
  every = np.arange(math.prod(sizes)).reshape(sizes)
  return every.transpose(axes).ravel()


def _along_axes(mesh: str, order: str | None, chosen: str) -> np.ndarray:
  """Groups along axes of a mesh, or parts of them: 'name':(before)size."""
  sizes = {name: int(n) for name, n in re.findall(r"'(\w+)'=(\d+)", mesh)}
  parts = re.findall(r"'(\w+)'(?::\((\d+)\)(\d+))?", chosen)
  dims, places = [], {}
  for name, size in sizes.items():
    before, own = next(
      ((int(b or 1), int(s or size)) for n, b, s in parts if n == name),
      (size, 1),
    )
    places[name] = len(dims) + 1
    dims += [before, own, size // (before * own)]
  members = [places[name] for name, *_ in parts]
  rest = [i for i in range(len(dims)) if i not in members]
  every = _order(order or f'[{math.prod(dims)}]').reshape(dims)
  return every.transpose(rest + members).reshape(
    -1, math.prod(dims[i] for i in members)
  )
