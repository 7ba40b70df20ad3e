"""Axes, text and marks of an SVG picture, as lines of its file.

The same numbers give the same bytes. Text may be a stranger's: unprintable
characters are escaped first, then XML. The colours follow the viewer's light or
dark scheme.
"""

import html
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from acereason_jax.console import terminal
from acereason_jax.evaluation import shown

# Pixels of the whole picture, and the space around its axes.
WIDTH, HEIGHT = 720, 420
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 104, 56
_END, _BASE = WIDTH - RIGHT, HEIGHT - BOTTOM
_NAME_CELLS, _TEXT_CHARS = 70, 4000
_Y_STEPS = (0.01, 0.02, 0.05, 0.1, 0.2)
_MOST_LINES = 6
# The colour-blind can distinguish these two (after Paul Tol's schemes).
_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #222; }
.title { font-size: 16px; font-weight: 600; }
.note, .tick { fill: #595959; font-size: 12px; }
.middle { text-anchor: middle; } .end { text-anchor: end; }
.paper { fill: #fff; }
.grid { stroke: #ddd; } .axis { stroke: #777; }
.line { fill: none; stroke-width: 2; } .dashed { stroke-dasharray: 6 4; }
.a-line { stroke: #4477aa; } .a-fill { fill: #4477aa; }
.b-line { stroke: #cc3344; } .b-fill { fill: #cc3344; }
.problems { fill-opacity: 0.1; stroke-opacity: 0.35; }
.rerun { fill-opacity: 0.28; stroke-opacity: 0; } .before { fill-opacity: 0.3; }
.stem { stroke-opacity: 0.45; }
@media (prefers-color-scheme: dark) {
text { fill: #eee; } .note, .tick { fill: #b4b4b4; }
.paper { fill: #16181d; } .grid { stroke: #3a3d44; } .axis { stroke: #999; }
.a-line { stroke: #77bbee; } .a-fill { fill: #77bbee; }
.b-line { stroke: #ff8899; } .b-fill { fill: #ff8899; }
}
"""
_Point = tuple[float, float]


class Axes(NamedTuple):
  """Where values are: x from `left` to `right`, y from `low` to `high`."""

  left: float
  right: float
  low: float
  high: float

  def x(self, value: float) -> float:
    share = (value - self.left) / (self.right - self.left)
    return LEFT + share * (_END - LEFT)

  def y(self, value: float) -> float:
    share = (value - self.low) / (self.high - self.low)
    return _BASE - share * (_BASE - TOP)

  def points(self, values: Sequence[_Point]) -> list[_Point]:
    return [(self.x(x), self.y(y)) for x, y in values]


def page(title: str, words: str, body: Sequence[str]) -> str:
  """The whole file; `words` is for readers who do not see the picture."""
  heading = shown.name(title, _NAME_CELLS)
  size = dict(width=WIDTH, height=HEIGHT)
  return '\n'.join(
    [
      f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" '
      f'height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
      tag('title', heading),
      tag('desc', words),
      f'<style>{_STYLE}</style>',
      tag('rect', style='paper', **size),
      tag('text', heading, style='title', x=LEFT, y=24),
      *body,
      '</svg>\n',
    ]
  )


def tag(name: str, text: str = '', *, style: str = '', **fields: object) -> str:
  """An element of a class with a text, which is cut and escaped.

  Coordinates are to a hundredth of a pixel.
  """
  inside = html.escape(terminal.one_line(text, _TEXT_CHARS))
  return _element(name, inside, style, fields)


def _element(
  name: str, inside: str, style: str, fields: Mapping[str, object]
) -> str:
  fields = ({'class': style} if style else {}) | dict(fields)
  words = ''.join(
    f' {key}="{_pixels(v) if isinstance(v, float) else html.escape(str(v))}"'
    for key, v in fields.items()
  )
  return f'<{name}{words}>{inside}</{name}>' if inside else f'<{name}{words}/>'


def _pixels(value: float) -> str:
  return f'{value:.2f}'.rstrip('0').rstrip('.')


def shape(name: str, style: str, points: Sequence[_Point]) -> str:
  """A polyline or a polygon."""
  at = ' '.join(f'{_pixels(x)},{_pixels(y)}' for x, y in points)
  return tag(name, style=style, points=at)


def line(style: str, start: _Point, stop: _Point) -> str:
  (x1, y1), (x2, y2) = start, stop
  return tag('line', style=style, x1=x1, y1=y1, x2=x2, y2=y2)


def mark(side: str, at: _Point, radius: float, about: str) -> str:
  """A square for 'a', a disc for 'b'; `about` appears under the pointer."""
  x, y = at
  title = tag('title', about)
  style = f'{side}-fill'
  if side == 'b':
    return _element('circle', title, style, dict(cx=x, cy=y, r=radius))
  place = dict(x=x - radius, y=y - radius)
  sides = dict(width=2 * radius, height=2 * radius)
  return _element('rect', title, style, place | sides)


def legend(i: int, key: Sequence[str], name: str) -> Iterator[str]:
  """Row i of the legend: a key that fits LEFT to LEFT + 30, and a name."""
  yield from key
  text = shown.name(name, _NAME_CELLS)
  yield tag('text', text, x=LEFT + 38, y=legend_y(i) + 4)


def legend_y(i: int) -> float:
  """The middle of row i of the legend."""
  return 42.0 + 18 * i


def note(text: str) -> str:
  """A line between the legend and the axes."""
  return tag('text', text, style='note', x=LEFT, y=TOP - 18)


def x_axis(axes: Axes, ticks: Mapping[float, str], label: str) -> Iterator[str]:
  """The axis, its ticks by value, and its label."""
  yield line('axis', (LEFT, _BASE), (_END, _BASE))
  for value, text in ticks.items():
    x = axes.x(value)
    yield line('axis', (x, _BASE), (x, _BASE + 4))
    yield tag('text', text, style='tick middle', x=x, y=_BASE + 18)
  x = (LEFT + _END) / 2
  yield tag('text', label, style='middle', x=x, y=HEIGHT - 14)


def y_axis(axes: Axes, step: float, label: str) -> Iterator[str]:
  """A line and a percentage every `step` of a rate, and a label."""
  for i in range(round((axes.high - axes.low) / step) + 1):
    value = axes.low + i * step
    y = axes.y(value)
    yield line('grid', (LEFT, y), (_END, y))
    percent = f'{round(100 * value)}'
    yield tag('text', percent, style='tick end', x=LEFT - 8, y=y + 4)
  y = (TOP + _BASE) / 2
  turned = f'rotate(-90 18 {_pixels(y)})'
  yield tag('text', label, style='middle', x=18, y=y, transform=turned)


def rounded_range(low: float, high: float) -> tuple[float, float, float]:
  """(low, high, step) of an axis of rates that needs only a few lines."""
  fitting = (s for s in _Y_STEPS if (high - low) / s <= _MOST_LINES - 1)
  step = next(fitting, _Y_STEPS[-1])
  # Rounding must not move an end that is on a line to the next one.
  last = max(step, min(1.0, math.ceil(high / step - 1e-9) * step))
  first = max(0.0, min(math.floor(low / step + 1e-9) * step, last - step))
  return first, last, step


def round_numbers(most: int) -> list[int]:
  """0, a few round numbers below `most`, and `most` itself."""
  steps = (c * 10**power for power in range(20) for c in (1, 2, 5))
  step = next(s for s in steps if s * _MOST_LINES >= most)
  # The label of the last round number must not touch that of the end.
  return [*range(0, most - 2 * step // 5, step), most]
