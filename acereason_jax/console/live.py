"""The newest steps of a run as a table, drawn below its step lines.

The step lines are printed as ever and scroll away above. Below them stay the
table, a bar, and what the process does now, which a thread draws twice a
second. Where the terminal cannot do this, nothing is drawn.
"""

import contextlib
import itertools
import math
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import rich.console
import rich.live
import rich.live_render
import rich.segment
import rich.table
import rich.text

from acereason_jax.console import terminal

# Steps that the trends cover, and that the table lists.
KEPT, LISTED = 64, 8
# Cells of a trend, and the most of any other text in the table.
TREND, MOST = 6, 24
# Lines of the table that are no step, of the bar, and left to the step lines.
_OTHER_LINES = 2 + 1 + 4
_GAP = 2
_BAR = 24
_LEVELS, _PLAIN_LEVELS = '▁▂▃▄▅▆▇█', '_.-=^'
_BAR_MARKS, _PLAIN_BAR_MARKS = '━─', '#-'
_PER_SECOND = 2


class Column(NamedTuple):
  """A column of the table.

  title: heading.
  rank: in a narrow terminal, columns of the highest rank are left out.
  """

  title: str
  rank: int


class Cell(NamedTuple):
  """What a step has in a column.

  text: shown as it is; '' for nothing. It may be hostile.
  number: for the trend; nan if there is none.
  """

  text: str
  number: float = math.nan


class Row(NamedTuple):
  """A step that is done.

  step: number of steps done with it.
  total: the run's last step.
  cells: one of each column.
  """

  step: int
  total: int
  cells: Sequence[Cell]


def table(
  columns: Sequence[Column],
  rows: Sequence[Row],
  *,
  width: int,
  listed: int = LISTED,
  levels: str = _LEVELS,
) -> rich.table.Table:
  """The last `listed` of rows, and below them the trend over all of them.

  It is at most `width` wide, if that is 12 or more. Columns without any text
  are left out.
  """
  last = rows[-listed:]
  bodies = [
    [
      _text('step'),
      *(_text(f'{r.step}/{r.total}') for r in last),
      _text(f'last {len(rows)}'),
    ]
  ]
  for i, column in enumerate(columns):
    cells = [_text(r.cells[i].text) for r in last]
    trend = spark([r.cells[i].number for r in rows], TREND, levels)
    filled = any(cell.plain for cell in cells)
    bodies.append([_text(column.title), *cells, _text(trend)] * filled)
  made = rich.table.Table(
    box=None,
    show_header=False,
    padding=(0, _GAP, 0, 0),
    pad_edge=False,
  )
  chosen = [bodies[0]]
  for i in _fitting([_width(b) for b in bodies], columns, width):
    chosen.append(bodies[i])
  for body in chosen:
    made.add_column(justify='right', no_wrap=True, width=_width(body))
  for n, line in enumerate(zip(*chosen)):
    made.add_row(*line, style='dim' if n in (0, len(last) + 1) else '')
  return made


def spark(numbers: Sequence[float], cells: int, levels: str = _LEVELS) -> str:
  """Numbers as at most `cells` characters, from the least to the greatest.

  A character is the mean of as many neighbours as another, or of one more; ' '
  if none of them is finite.
  """
  count = min(cells, len(numbers))
  cuts = [len(numbers) * i // count for i in range(count + 1)] if count else []
  means = []
  for begin, end in itertools.pairwise(cuts):
    finite = [x for x in numbers[begin:end] if math.isfinite(x)]
    # Divided before they are added: the sum of large numbers is not finite.
    means.append(sum(x / len(finite) for x in finite) if finite else None)
  known = [mean for mean in means if mean is not None]
  if not known:
    return ''
  low, high = min(known), max(known)
  # Halves, as the difference of large numbers is not finite either.
  span = high / 2 - low / 2
  place = lambda x: (x / 2 - low / 2) / span if span else 0.5
  top = len(levels) - 1
  return ''.join(
    ' ' if mean is None else levels[round(place(mean) * top)] for mean in means
  )


def bar(
  done: int,
  total: int,
  *,
  elapsed: float,
  left: float,
  doing: str,
  width: int,
  marks: str = _BAR_MARKS,
) -> rich.text.Text:
  """One line: how far, seconds elapsed and left (nan: unknown), what it does.

  `doing` may be hostile. The line is cut to `width`; the bar itself only has
  what the words leave of it.
  """
  known = '' if math.isnan(left) else f'eta {terminal.duration(left)}  '
  text = rich.text.Text.assemble(
    f'  {done}/{total}  {terminal.duration(elapsed)}  {known}',
    (_safe(doing), 'bold'),
  )
  cells = max(0, min(_BAR, width - text.cell_len))
  full = cells if done >= total else cells * done // total
  line = rich.text.Text.assemble(
    (marks[0] * full, 'green'),
    (marks[1] * (cells - full), 'dim'),
    text,
    no_wrap=True,
    end='',
  )
  line.truncate(max(width, 1))
  return line


@contextlib.contextmanager
def display(
  columns: Sequence[Column],
  total: int,
  *,
  done: int,
  doing: Callable[[], str],
) -> Iterator[Callable[[Row], None]]:
  """Yields a function to call after each step; inside, the display is drawn.

  print() works while it is drawn. `doing` names what the process does now; a
  thread calls it.
  """
  console = _console()
  if console is None:
    yield lambda row: None
    return
  drawn = _Display(columns, total, done, doing)
  with _Live(
    get_renderable=lambda: drawn,
    console=console,
    refresh_per_second=_PER_SECOND,
    transient=True,
    # The default would send output to stderr that a user sent to a file.
    redirect_stdout=_is_same(sys.stdout, sys.stderr),
  ):
    yield drawn.advance


class _Console(rich.console.Console):
  """Leaves the cursor shown: a killed process could not show it again."""

  def show_cursor(self, show: bool = True) -> bool:
    return False


class _Live(rich.live.Live):
  """Draws nothing in the background, where a shell has the screen."""

  def process_renderables(self, renderables: list[Any]) -> list[Any]:
    if _is_in_front(self.console.file):
      return super().process_renderables(renderables)
    # What was drawn is no longer just above the cursor.
    self._live_render = rich.live_render.LiveRender(self.renderable)
    return renderables


class _Display:
  """What is drawn; the main thread replaces its values, a thread reads them."""

  def __init__(
    self,
    columns: Sequence[Column],
    total: int,
    done: int,
    doing: Callable[[], str],
  ):
    self._columns, self._doing = columns, doing
    self._began = time.monotonic()
    # When each of the newest steps ended, the display's beginning first.
    self._ends = (self._began,)
    self._rows, self._at = (), (done, total)
    self._now = ('', self._began)
    # Drawing a table takes milliseconds, and most of the time it is the same.
    self._key, self._lines = None, []

  def advance(self, row: Row) -> None:
    self._rows = (*self._rows, row)[-KEPT:]
    self._ends = (*self._ends, time.monotonic())[-KEPT:]
    self._at = row.step, row.total
    self._now = ('', time.monotonic())

  def __rich_console__(
    self, console: rich.console.Console, options: rich.console.ConsoleOptions
  ) -> Iterator[Any]:
    plain, rows = options.ascii_only, self._rows
    # The last cell stays empty: a character there wraps on some terminals.
    width = options.max_width - 1
    listed = min(LISTED, console.height - _OTHER_LINES)
    if rows and listed > 0 and width >= 2 * MOST:
      key = rows, width, listed
      if key != self._key:
        levels = _PLAIN_LEVELS if plain else _LEVELS
        made = table(
          self._columns, rows, width=width, listed=listed, levels=levels
        )
        self._lines = console.render_lines(made, options, pad=False)
        self._key = key
      for line in self._lines:
        yield from line
        yield rich.segment.Segment.line()
    yield self._bar(width, _PLAIN_BAR_MARKS if plain else _BAR_MARKS)

  def _bar(self, width: int, marks: str) -> rich.text.Text:
    now, ends, (done, total) = time.monotonic(), self._ends, self._at
    doing = self._doing()
    before, since = self._now
    if doing != before:
      since = now
      self._now = doing, since
    # The first step compiles: it is a measure only while there is no other.
    ends = ends[1:] if len(ends) > 2 else ends
    left = math.nan
    if len(ends) > 1:
      a_step = (ends[-1] - ends[0]) / (len(ends) - 1)
      left = max(0.0, (total - done) * a_step - (now - ends[-1]))
    return bar(
      done,
      total,
      elapsed=now - self._began,
      left=left,
      doing=f'{doing}, {now - since:,.0f} s',
      width=width,
      marks=marks,
    )


def _fitting(
  widths: Sequence[int], columns: Sequence[Column], width: int
) -> list[int]:
  """Indices of the widths, after the first, that fit beside it, in order."""
  chosen, used = [], widths[0] + _GAP
  for i in sorted(range(1, len(widths)), key=lambda i: columns[i - 1].rank):
    needed = widths[i] + _GAP
    if widths[i] and used + needed <= width:
      chosen.append(i)
      used += needed
  return sorted(chosen)


def _width(body: Sequence[rich.text.Text]) -> int:
  return max((text.cell_len for text in body), default=0)


def _safe(text: str) -> str:
  return terminal.printable(text).replace('\n', '\\n')


def _text(text: str) -> rich.text.Text:
  made = rich.text.Text(_safe(text[: 2 * MOST]), end='')
  made.truncate(MOST, overflow='ellipsis')
  return made


def _console() -> rich.console.Console | None:
  """The console of stderr; None if the display cannot be drawn there."""
  if sys.stderr is None or not sys.stderr.isatty():
    return None
  if _is_pipe(sys.stdout):
    # As with `| tee`: its lines may come to the same screen, between ours.
    return None
  console = _Console(
    file=terminal.Terminal(sys.stderr),
    markup=False,
    emoji=False,
    highlight=False,
    # Lines that are longer than the screen stay whole.
    soft_wrap=True,
  )
  able = console.is_terminal and console.is_interactive
  return console if able and not console.is_dumb_terminal else None


def _is_pipe(file: Any) -> bool:
  with contextlib.suppress(OSError, ValueError, AttributeError):
    mode = os.fstat(file.fileno()).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
  return False


def _is_same(file: Any, other: Any) -> bool:
  """Whether two files are the same terminal."""
  with contextlib.suppress(OSError, ValueError, AttributeError):
    if not (file.isatty() and other.isatty()):
      return False
    return os.fstat(file.fileno()).st_rdev == os.fstat(other.fileno()).st_rdev
  return False


def _is_in_front(file: Any) -> bool:
  """False in the background of a terminal that controls this process."""
  with contextlib.suppress(OSError, ValueError, AttributeError):
    return os.tcgetpgrp(file.fileno()) == os.getpgrp()
  return True
