"""Numbers and names as short text that fits a terminal of 80 columns.

Names may be a stranger's: they are made printable, and measured in cells,
because some characters take two.
"""

import decimal
import math
from collections.abc import Iterator, Sequence

from rich import cells

from acereason_jax.console import terminal

COLUMNS = 80
NONE = '-'
_CUT = '..'
_NAME_CHARS = 200
_UNITS = ((1e12, 'T'), (1e9, 'G'), (1e6, 'M'), (1e3, 'K'))


def percent(rate: float | None) -> str:
  """'81.3' for 13 of 16: halves are rounded up, as papers do.

  Only none is '0.0' and only all is '100.0'.
  """
  if rate is None:
    return NONE
  rounded = _rounded(100 * rate)
  if not rounded and rate > 0:
    return '<0.1'
  return '>99.9' if rounded == 100 and rate < 1 else f'{rounded:.1f}'


def points(difference: float | None) -> str:
  """A difference of two rates, in points of a percent: '+12.6'."""
  return NONE if difference is None else signed(100 * difference)


def signed(number: float) -> str:
  """'+12.6'; '0.0' for what rounds to it, which is neither + nor -."""
  rounded = _rounded(number)
  return f'{rounded:+.1f}' if rounded else '0.0'


def _rounded(number: float) -> float:
  """To a tenth, halves away from 0; of the number's shortest decimals."""
  tenth = decimal.Decimal('.1')
  # Rates are below 100; larger numbers need no tenths.
  if abs(number) >= 1e15:
    return number
  shortest = decimal.Decimal(repr(float(number)))
  return float(shortest.quantize(tenth, decimal.ROUND_HALF_UP))


def error(value: float | None) -> str:
  """A standard error in points of a percent: '+-0.9'; '-' if there is none.

  0 is none: nothing varied, so there is nothing to estimate an error from.
  """
  if not value:
    return NONE
  if value < 5e-5:
    return '<0.01'
  digits = 1 if value >= 9.5e-4 else 2
  return f'+-{100 * value:.{digits}f}'


def count(number: int) -> str:
  """A number of problems, exact below 100,000."""
  return f'{number}' if number < 100_000 else size(number)


def size(number: float | None) -> str:
  """A count in at most six characters: '812', '11.8K', '42.5M'."""
  if number is None:
    return NONE
  for unit, letter in _UNITS:
    if number >= 0.9995 * unit:
      scaled = number / unit
      return f'{scaled:.1f}{letter}' if scaled < 999.5 else f'{number:.0e}'
  return f'{number:.0f}'


def probability(p: float | None) -> str:
  """A p-value: '.034', '.0012', '2e-05', '<1e-9'."""
  if p is None:
    return NONE
  if p < 1e-9:
    return '<1e-9'
  if p < 5e-4:
    return f'{p:.0e}'
  text = f'{p:.4f}' if p < 0.00995 else f'{p:.3f}' if p < 0.0995 else f'{p:.2f}'
  return text.removeprefix('0')


def mean(k: float | None) -> str:
  """A mean of counts: '64', or '63.9' if they differ, never rounded up."""
  if k is None:
    return NONE
  return f'{k:.0f}' if k == int(k) else f'{math.floor(10 * k) / 10:.1f}'


def name(text: str, most: int) -> str:
  """`text` on one line, in at most `most` cells; '..' says that it was cut."""
  text = terminal.one_line(text, _NAME_CHARS)
  if cells.cell_len(text) <= most:
    return text
  return cells.set_cell_size(text, most - len(_CUT)).rstrip() + _CUT


def wrapped(text: str, indent: int = 0) -> Iterator[str]:
  """Lines of at most 80 cells; the second and later ones are indented."""
  words = terminal.printable(text).split()
  start = ' ' * (len(text) - len(text.lstrip(' ')))
  return _filled(start, words, indent)


def listed(
  head: str, items: Sequence[str], indent: int, lines: int
) -> Iterator[str]:
  """Items after a head, with commas; the last line says how many are missing.

  An item stays on one line unless it is longer than that.
  """
  texts = [f'{terminal.printable(item)},' for item in items[:-1]]
  texts += [terminal.printable(item) for item in items[-1:]]
  for count in range(min(len(texts), 40 * lines), -1, -1):
    missing = len(texts) - count
    note = [f'... {missing:,} more'] if missing else []
    found = list(_filled(head, texts[:count] + note, indent))
    if len(found) <= lines:
      break
  yield from found


def _filled(head: str, words: Sequence[str], indent: int) -> Iterator[str]:
  line = head
  for word in words:
    for piece in cells.chop_cells(word, COLUMNS - indent):
      space = '' if line.endswith(' ') or not line else ' '
      if cells.cell_len(line + space + piece) > COLUMNS:
        yield line.rstrip()
        line, space = ' ' * indent, ''
      line += space + piece
  yield line.rstrip()


def table(rows: Sequence[Sequence[str]], names: int) -> Iterator[str]:
  """Lines of at most 80 cells; the first `names` columns are cut if need be.

  Names are aligned to the left, numbers to the right. Two spaces separate the
  columns, or one if there is no room for two.
  """
  widths = [max(map(cells.cell_len, column)) for column in zip(*rows)]
  numbers = sum(widths[names:])
  gap = 2 if sum(widths) + 2 * (len(widths) - 1) <= COLUMNS else 1
  room = COLUMNS - numbers - gap * (len(widths) - 1)
  while sum(widths[:names]) > room:
    widths[widths.index(max(widths[:names]))] -= 1
  for row in rows:
    yield (
      (' ' * gap)
      .join(
        cells.set_cell_size(name(cell, width), width)
        if i < names
        else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(row, widths))
      )
      .rstrip()
    )
