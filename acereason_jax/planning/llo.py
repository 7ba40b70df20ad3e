"""Static schedules of a Pallas TPU kernel, read from libtpu's LLO dumps.

A bundle is one VLIW instruction, one clock if nothing stalls. The listing shows
neither memory nor matrix unit stalls: a count is a lower bound on time.
"""

import os
import pathlib
import re
from typing import NamedTuple

_LINE = re.compile(r'^\s*(0x[0-9a-f]+|0)\s+([A-Z]{2})?\s*:')
_BRANCH = re.compile(r'sbr\.rel \((!?%p\w+)\) target = \$region(\d+)')
# Columns of the utilisation listing: vector fills and spills.
_FILL, _SPILL = 6, 8


class Loop(NamedTuple):
  """One loop of a kernel.

  first, last: its first and last bundle, both in the body.
  always: number of bundles of the body that no forward branch can skip.
  spills: number of vector spill stores and fill loads in the whole body.
  """

  first: int
  last: int
  always: int
  spills: int

  @property
  def bundles(self) -> int:
    return self.last - self.first + 1


def flags(directory: str | os.PathLike) -> str:
  """LIBTPU_INIT_ARGS that dump final schedules to `directory`."""
  return (
    f'--xla_jf_dump_to={directory} --xla_jf_dump_llo_text=true '
    # Everything would be twenty times as much: 0.5 GB of a small model.
    '--xla_jf_dump_llo_pass_label_regex=final.*'
  )


def spills_of(directory: str | os.PathLike, kernel: str) -> int:
  """Vector spill stores and fill loads of the kernel `kernel`.

  Raises: see `loops_of`.
  """
  _, slots = _listings(directory, kernel)
  return sum(row[_FILL] + row[_SPILL] for row in slots)


def loops_of(directory: str | os.PathLike, kernel: str) -> list[Loop]:
  """Loops of the kernel whose name contains `kernel`, in program order.

  Raises:
    FileNotFoundError: the dump has no such kernel.
    ValueError: a listing in an unknown format.
  """
  bundles, slots = _listings(directory, kernel)
  return [_loop(bundles, slots, *span) for span in _spans(bundles)]


def _listings(
  directory: str | os.PathLike, kernel: str
) -> tuple[list[tuple[str | None, str]], list[list[int]]]:
  """The bundles of a kernel, and the slots that each uses."""
  names = pathlib.Path(directory).glob(f'*{kernel}*-final_bundles.txt')
  listings = sorted(names)
  if not listings:
    raise FileNotFoundError(f'no final_bundles of {kernel!r} in {directory}')
  listing = listings[-1]
  stem = re.match(r'(.*)-\d+-final_bundles', listing.name)[1]
  usage = listing.parent.glob(
    f'{stem}-*-final_hlo-static-per-bundle-utilization.txt'
  )
  bundles = _parse_bundles(listing.read_text())
  slots = _parse_usage(next(usage).read_text())
  if len(bundles) != len(slots):
    raise ValueError(f'{len(bundles)} bundles but usage of {len(slots)}')
  return bundles, slots


def _parse_bundles(text: str) -> list[tuple[str | None, str]]:
  """(mark, text) of each bundle; the mark is LH, LB, LE, PB, PF, .. or None."""
  bundles = []
  for line in text.splitlines():
    if found := _LINE.match(line):
      if int(found[1], 16) != len(bundles):
        raise ValueError(f'bundle {found[1]} at place {len(bundles)}')
      bundles.append((found[2], line))
  return bundles


def _parse_usage(text: str) -> list[list[int]]:
  """Slots used by each bundle, one number per unit."""
  rows = text.split('== UTILIZATION:')[1].split('\n')
  return [[int(x) for x in row.split()] for row in rows if row.strip()]


def _spans(bundles) -> list[tuple[int, int]]:
  """First and last bundle of each loop.

  LB opens one, a branch back to its region closes it; the bundles of the
  branch's delay slots, up to the end mark, belong to it.
  """
  texts = [text for _, text in bundles]
  spans = []
  for first, (mark, text) in enumerate(bundles):
    if mark != 'LB':
      continue
    region = re.search(r'Start region (\d+)', text)[1]
    target, end = f'target = $region{region} ', f'End region {region} '
    back = max(i for i, t in enumerate(texts) if target in t + ' ')
    last = next((i for i in range(back, len(texts)) if end in texts[i]), back)
    spans.append((first, last))
  return spans


def _loop(bundles, slots, first: int, last: int) -> Loop:
  body = range(first, last + 1)
  skipped = _skippable([text for _, text in bundles], first, last)
  spills = sum(slots[i][_FILL] + slots[i][_SPILL] for i in body)
  return Loop(first, last, len(body) - len(skipped), spills)


def _skippable(texts, first: int, last: int) -> set[int]:
  """Bundles between a forward branch of the body and its target region."""
  skipped = set()
  for i in range(first, last + 1):
    for _, region in _BRANCH.findall(texts[i]):
      end = re.compile(rf'[Ee]nd (empty )?region {region}\b')
      target = next((j for j in range(i, last + 1) if end.search(texts[j])), i)
      skipped |= set(range(i + 1, target))
  return skipped
