r"""Finds problems of benchmarks whose tokens were split otherwise.

Text recognition writes `A B C` for `ABC`, and text without signs has `frac12`
for `\frac{1}{2}`. Such copies share few tokens with their originals, but the
same letters and digits in the same order. A statement is that of an item if it
has half of the item's runs of `WINDOW` characters; blanks and signs don't
count.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from acereason_jax.data.curate import index as index_lib

RULE = 'respelled'
WINDOW = 30
# A shorter statement is too little without its signs.
_LEAST = 12
_CHUNK_BYTES = 1 << 20
# Most windows of rows are not in a table of so many bits.
_TABLE_BITS = 24
# Odd, so that it has an inverse modulo 2^64.
_BASE = 0x9E3779B97F4A7C15
_INVERSE = pow(_BASE, -1, 1 << 64)
_SIGNS = bytes(c for c in range(128) if not chr(c).isalnum())
_SMALL = bytes(range(256)).lower()
# Words of TeX that only change how a formula looks.
_LOOKS = re.compile(
  rb'displaystyle|operatorname|textstyle|math(?:rm|bf)|text(?:rm|bf)?|left|right'
  rb'|[dt]?frac'
)
_DIGITS = re.compile(r'\d+')


class Windows(NamedTuple):
  """The windows of all items.

  hashes: sorted hashes of the different windows, uint64 [K].
  items: the first item with each, int64 [K].
  table: whether a hash begins with these bits, bool [2^_TABLE_BITS].
  counts: windows of which each item is the first, int64 [M].
  texts: letters and digits of each item.
  whole: letters and digits -> the first item.
  digits: runs of digits of each item.
  """

  hashes: np.ndarray
  items: np.ndarray
  table: np.ndarray
  counts: np.ndarray
  texts: tuple[bytes, ...]
  whole: dict[bytes, int]
  digits: tuple[list[str], ...]


def squeezed(text: str) -> bytes:
  """Letters and digits in small letters, without words of typesetting."""
  if not text.isascii():
    text = unicodedata.normalize('NFKC', text).lower()
    text = ''.join(c for c in text if c.isalnum())
  # Half a surrogate is not in a file, but may be in a row.
  found = text.encode(errors='replace').translate(_SMALL, _SIGNS)
  return _LOOKS.sub(b'', found)


def build(texts: Sequence[str]) -> Windows:
  """The windows of items whose statements are `texts`."""
  found = tuple(map(squeezed, texts))
  joined = b'\n'.join(found)
  hashes = _hashed(joined)
  inside = np.ones(len(hashes), bool)
  starts = _starts(found)
  for end in starts[1:] - 1:
    # A window over the end of an item.
    inside[max(end - WINDOW + 1, 0) : end + 1] = False
  (places,) = np.nonzero(inside)
  hashes, first = np.unique(hashes[places], return_index=True)
  items = np.searchsorted(starts, places[first], side='right') - 1
  table = np.zeros(1 << _TABLE_BITS, bool)
  table[_short(hashes)] = True
  whole: dict[bytes, int] = {}
  for i, text in enumerate(found):
    if len(text) >= _LEAST:
      whole.setdefault(text, i)
  return Windows(
    hashes=hashes,
    items=items,
    table=table,
    counts=np.bincount(items, minlength=len(found)),
    texts=found,
    whole=whole,
    digits=tuple(_DIGITS.findall(text) for text in texts),
  )


def search(
  windows: Windows, texts: Sequence[str]
) -> Iterator[index_lib.Hit | None]:
  """Yields for each statement the item that it is, None for none."""
  for part, found in _chunks(texts):
    hits = [
      _whole(windows, text, letters) for text, letters in zip(part, found)
    ]
    for row, item in _alike(windows, found):
      if hits[row] is None:
        hits[row] = _half(windows, found[row], item)
    yield from hits


def _chunks(
  texts: Sequence[str],
) -> Iterator[tuple[list[str], list[bytes]]]:
  """Yields statements with their letters and digits, about 1 MB at a time."""
  part: list[str] = []
  found: list[bytes] = []
  size = 0
  for text in texts:
    part.append(text)
    found.append(squeezed(text))
    size += len(found[-1])
    if size > _CHUNK_BYTES:
      yield part, found
      part, found, size = [], [], 0
  yield part, found


def _starts(texts: Sequence[bytes]) -> np.ndarray:
  """Where each text begins among all, with one character between them."""
  sizes = np.fromiter((len(t) + 1 for t in texts), np.int64, len(texts))
  return np.cumsum(sizes) - sizes


def _hashed(joined: bytes) -> np.ndarray:
  """The hash of the window at each place, uint64; modulo 2^64."""
  size = len(joined)
  if size < WINDOW:
    return np.zeros(0, np.uint64)
  letters = np.frombuffer(joined, np.uint8).astype(np.uint64)
  sums = np.zeros(size + 1, np.uint64)
  np.cumsum(letters * _powers(_BASE, size), out=sums[1:])
  count = size - WINDOW + 1
  # The window at i has the weights of place 0 again.
  return (sums[WINDOW:] - sums[:count]) * _powers(_INVERSE, count)


def _powers(base: int, size: int) -> np.ndarray:
  found = np.full(size, base, np.uint64)
  found[0] = 1
  return np.cumprod(found)


def _short(hashes: np.ndarray) -> np.ndarray:
  """The highest bits, which depend on all characters."""
  return (hashes >> np.uint64(64 - _TABLE_BITS)).astype(np.int64)


def _alike(
  windows: Windows, found: Sequence[bytes]
) -> Iterator[tuple[int, int]]:
  """Yields (row, item) that share half of the windows that are the item's."""
  hashes = _hashed(b'\n'.join(found))
  if not len(windows.hashes) or not len(hashes):
    return
  (places,) = np.nonzero(windows.table[_short(hashes)])
  at = np.searchsorted(windows.hashes, hashes[places])
  at = np.minimum(at, len(windows.hashes) - 1)
  same = windows.hashes[at] == hashes[places]
  rows = np.searchsorted(_starts(found), places[same], side='right') - 1
  many = len(windows.texts)
  pairs, counts = np.unique(
    rows * many + windows.items[at[same]], return_counts=True
  )
  for pair in pairs[2 * counts >= windows.counts[pairs % many]]:
    yield divmod(int(pair), many)


def _whole(windows: Windows, text: str, letters: bytes) -> index_lib.Hit | None:
  """An item of the same letters and digits.

  12 + 3 is not 1 + 23: numbers of the statement are joined ones of the item.
  """
  item = windows.whole.get(letters)
  if item is None or not _joins(windows.digits[item], _DIGITS.findall(text)):
    return None
  return index_lib.Hit(item, RULE, (letters.decode(errors='replace'),))


def _joins(parts: Sequence[str], wholes: Sequence[str]) -> bool:
  """Whether each whole is some parts, one after the other, and all are used."""
  at = 0
  for whole in wholes:
    joined = ''
    while len(joined) < len(whole) and at < len(parts):
      joined += parts[at]
      at += 1
    if joined != whole:
      return False
  return at == len(parts)


def _half(windows: Windows, letters: bytes, item: int) -> index_lib.Hit | None:
  """Half of the windows of the item, compared as text."""
  wanted = windows.texts[item]
  mine = {letters[i : i + WINDOW] for i in range(len(letters) - WINDOW + 1)}
  starts = range(len(wanted) - WINDOW + 1)
  shared = [i for i in starts if wanted[i : i + WINDOW] in mine]
  if not shared or 2 * len(shared) < len(starts):
    return None
  words = wanted[shared[0] : shared[0] + WINDOW].decode(errors='replace')
  return index_lib.Hit(item, RULE, (words,))
