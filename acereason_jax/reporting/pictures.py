"""Pictures of a page as SVG: curves where no script runs, and bars of time."""

import html
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from acereason_jax.console import terminal
from acereason_jax.reporting import values, waste

# Pixels of a curve's picture and of its edges.
_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 360, 150, 48, 22, 16
_MOST_CURVES, _MOST_RUNS, _MOST_POINTS = 12, 6, 240
# Of the bars of time.
_BAR_WIDTH, _BAR_HEIGHT, _DEPTH, _CHAR = 1200, 26, 4, 7.2


def curves(runs: Sequence[values.Curves]) -> str:
  """Small pictures of the first metrics, each with all runs."""
  if not runs or not any(run.steps for run in runs):
    return '<p class="quiet">Nothing to show: no step is done.</p>'
  drawn = runs[0].series[:_MOST_CURVES]
  pictures = ''.join(_curve(one, runs[:_MOST_RUNS]) for one in drawn)
  return f'<div class="static">{pictures}</div>'


class _Axes(NamedTuple):
  """Where values are: x from `first` to `last`, y from `low` to `high`."""

  first: float
  last: float
  low: float
  high: float

  def x(self, value: float) -> float:
    share = (value - self.first) / max(self.last - self.first, 1e-9)
    return _LEFT + share * (_WIDTH - _LEFT - 4)

  def y(self, value: float) -> float:
    # Halves: the difference of large numbers is not finite.
    span = self.high / 2 - self.low / 2
    share = (value / 2 - self.low / 2) / (span or 1.0)
    return _HEIGHT - _BOTTOM - share * (_HEIGHT - _BOTTOM - _TOP)


_Points = list[tuple[float, float]]


def _points(run: values.Curves, name: str) -> _Points:
  """(step, value) of the numbers of a metric."""
  return [
    (step, value)
    for one in run.series
    if one.name == name
    for step, value in zip(run.steps, one.values)
    if value is not None and math.isfinite(value)
  ]


def _curve(one: values.Series, runs: Sequence[values.Curves]) -> str:
  lines = [_points(run, one.name) for run in runs]
  every = [point for line in lines for point in line]
  title = _text(f'{one.title} ({one.unit})' if one.unit else one.title)
  label = f'<text class="title" x="4" y="14">{title}</text>'
  if not every:
    return _svg(title, [label, '<text x="48" y="80">no values</text>'])
  xs, ys = zip(*every)
  axes = _Axes(min(xs), max(xs), min(ys), max(ys))
  texts = [
    (4, _TOP + 8, f'{axes.high:.3g}', ''),
    (4, _HEIGHT - _BOTTOM, f'{axes.low:.3g}', ''),
    (_LEFT, _HEIGHT - 3, f'step {axes.first}', ''),
    (_WIDTH - 4, _HEIGHT - 3, str(axes.last), ' class="end"'),
  ]
  marks = [
    f'<text x="{x}" y="{y}"{more}>{_text(text)}</text>'
    for x, y, text, more in texts
  ]
  return _svg(
    title, [label, *_bands(runs[0], axes), *_drawn(lines, axes), *marks]
  )


def _svg(title: str, body: Sequence[str]) -> str:
  return (
    f'<svg class="curve" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
    f'aria-label="{title}">{"".join(body)}</svg>'
  )


def _bands(run: values.Curves, axes: _Axes) -> Iterator[str]:
  for i, band in enumerate(run.bands):
    left = axes.x(max(band.first - 0.5, axes.first))
    right = axes.x(min(band.last + 0.5, axes.last))
    if right > left:
      yield (
        f'<rect class="band{i % 4}" x="{left:.1f}" y="{_TOP}" '
        f'width="{right - left:.1f}" height="{_HEIGHT - _BOTTOM - _TOP}"/>'
      )


def _drawn(lines: Sequence[_Points], axes: _Axes) -> Iterator[str]:
  for i, line in enumerate(lines):
    at = [(axes.x(x), axes.y(y)) for x, y in _thinned(line)]
    points = ' '.join(f'{x:.1f},{y:.1f}' for x, y in at)
    yield f'<polyline class="run{i}" points="{points}"/>'


def _thinned(line: _Points) -> _Points:
  """The least and the greatest value of each of some intervals, in order."""
  if len(line) <= _MOST_POINTS:
    return line
  count = _MOST_POINTS // 2
  edges = [len(line) * i // count for i in range(count + 1)]
  kept = []
  for start, end in itertools.pairwise(edges):
    part = line[start:end]
    ends = {min(part, key=lambda p: p[1]), max(part, key=lambda p: p[1])}
    kept += sorted(ends)
  return kept


def bar(share: float) -> str:
  """A bar of a share of 1."""
  return (
    '<svg class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" '
    'aria-hidden="true"><rect class="track" width="100" height="8"/>'
    f'<rect class="fill" width="{100 * share:.2f}" height="8"/></svg>'
  )


def bars(root: values.Node) -> str:
  """Bars within bars: below each part its own parts, to scale."""
  if root.milliseconds <= 0:
    return ''
  scale = _BAR_WIDTH / root.milliseconds
  height = _BAR_HEIGHT * min(_levels(root), _DEPTH)
  boxes = ''.join(_boxes(root, 1000, _At(0, 0, 0), scale))
  return (
    f'<svg class="nested" viewBox="0 0 {_BAR_WIDTH} {height}" role="img" '
    'aria-label="Wall time as bars; the table below has the same numbers">'
    f'{boxes}</svg>'
  )


def _levels(node: values.Node) -> int:
  return 1 + max(map(_levels, node.parts), default=0)


class _At(NamedTuple):
  """Where a box is: its level, the time before it, and its part's colour."""

  depth: int
  start: int
  hue: int


def _boxes(
  node: values.Node, share: int, at: _At, scale: float
) -> Iterator[str]:
  """The box of a part of so many thousandths, and those of its parts."""
  depth, start, hue = at
  width = node.milliseconds * scale
  if depth >= _DEPTH or width < 0.5:
    return
  x, y = start * scale, depth * _BAR_HEIGHT
  name = _text(node.name)
  yield (
    f'<g class="h{hue % 7} l{depth}"><title>{name}: {share / 10:.1f}%</title>'
    f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" '
    f'height="{_BAR_HEIGHT - 2}"/>'
  )
  room = int((width - 8) / _CHAR)
  if room >= 4:
    shown = f'{node.name} {share / 10:.1f}%'
    shown = shown if len(shown) <= room else node.name[:room]
    yield f'<text x="{x + 5:.1f}" y="{y + 16}">{_text(shown)}</text>'
  yield '</g>'
  shares = waste.apportioned(share, [part.milliseconds for part in node.parts])
  for i, (part, share) in enumerate(zip(node.parts, shares)):
    below = _At(depth + 1, start, hue if depth else i)
    yield from _boxes(part, share, below, scale)
    start += part.milliseconds


def _text(text: str) -> str:
  return html.escape(terminal.one_line(text, 80))
