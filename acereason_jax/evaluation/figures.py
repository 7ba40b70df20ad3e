"""SVG files of an evaluation and of a comparison, without other packages.

The same numbers give the same bytes. Names and ids are strangers' text:
unprintable characters are escaped first, then XML. A and B differ in colour
and in shape, and the colours follow the viewer's light or dark scheme.
"""

import html
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from acereason_jax import storage
from acereason_jax.console import terminal
from acereason_jax.evaluation import estimators, shown

# Pixels of the whole picture, and the space around its axes.
WIDTH, HEIGHT = 720, 420
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 104, 56
_NAME_CELLS = 70
_Y_STEPS = (0.01, 0.02, 0.05, 0.1, 0.2)
_MOST_LINES = 6
# Paul Tol's schemes, which the colour-blind can distinguish.
_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #222; }
.title { font-size: 16px; font-weight: 600; }
.note, .tick { fill: #595959; font-size: 12px; }
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


class Curve(NamedTuple):
  """pass@k of one model.

  name: what the legend says.
  problems: number of problems.
  points: dicts of k, value, rerun_error and problems_error.
  """

  name: str
  problems: int
  points: Sequence[Mapping[str, Any]]


class _Axes(NamedTuple):
  """Where values are: x from `left` to `right`, y from `low` to `high`."""

  left: float
  right: float
  low: float
  high: float

  def x(self, value: float) -> float:
    share = (value - self.left) / (self.right - self.left)
    return LEFT + share * (WIDTH - LEFT - RIGHT)

  def y(self, value: float) -> float:
    share = (value - self.low) / (self.high - self.low)
    return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def of_results(results: Mapping[str, Any]) -> dict[str, str]:
  """Pictures by file name: each benchmark's pass@k, by its headline judge."""
  drawn = {}
  for bench, judges in results['benchmarks'].items():
    judge = next(iter(judges), None)
    if judge is not None and len(judges[judge]['pass_at_k']) > 1:
      entry = judges[judge]
      curve = Curve(
        results['model']['name'], entry['problems'], entry['pass_at_k']
      )
      title = f'{bench} ({judge}): pass@k'
      drawn[f'{bench}.pass_at_k.svg'] = pass_at_k(title, [curve])
  return drawn


def of_comparison(comparison: Mapping[str, Any]) -> dict[str, str]:
  """Pictures by file name: pass@k of both, and solve rates before and after."""
  drawn = {}
  names = [comparison[side]['name'] for side in 'ab']
  for bench, each in comparison['benchmarks'].items():
    judge = each['headline']
    found = each['judges'][judge]
    where = f'{bench} ({judge})'
    if len(points := found['pass_at_k']) > 1:
      curves = [
        Curve(
          f'{side.upper()}: {name}',
          found['problems'],
          [dict(point[side], k=point['k']) for point in points],
        )
        for side, name in zip('ab', names)
      ]
      drawn[f'{bench}.pass_at_k.svg'] = pass_at_k(f'{where}: pass@k', curves)
    drawn[f'{bench}.solve_rates.svg'] = solve_rates(where, names, found)
  return drawn


def write(folder: str, drawn: Mapping[str, str]) -> list[str]:
  """Writes each picture to its name in the folder; returns the paths."""
  paths = [storage.join(folder, name) for name in drawn]
  for path, svg in zip(paths, drawn.values()):
    storage.write(path, svg.encode())
  return paths


def pass_at_k(title: str, curves: Sequence[Curve]) -> str:
  """One or two curves over log2 k, with both 95% bands."""
  ks = sorted({point['k'] for curve in curves for point in curve.points})
  bands = [list(_bands(curve)) for curve in curves]
  ends = [y for band in bands for rows in band for _, *ys in rows for y in ys]
  low, high, step = _range(min(ends), max(ends))
  axes = _Axes(math.log2(ks[0]) - 0.15, math.log2(ks[-1]) + 0.15, low, high)
  body = [
    *_grid(axes, step, 'solved by one of k rollouts (%)'),
    *_ticks(axes, {math.log2(k): f'{k:,}' for k in ks}),
    _text(_middle(axes), HEIGHT - 14, 'k, rollouts per problem (log scale)'),
  ]
  for side, curve, band in zip('ab', curves, bands):
    body += _drawn_curve(axes, side, curve, band)
  body += _legend([curve.name for curve in curves], _key_of_curve)
  body.append(
    _note(
      '95% bands: narrow for other draws, wide for other problems like these'
    )
  )
  return _svg(title, ' '.join(map(_in_words, curves)), body)


def solve_rates(
  where: str, names: Sequence[str], found: Mapping[str, Any]
) -> str:
  """Every problem's solve rate in A and in B, sorted by that in A.

  A is an area, B a dot above or below its edge.

  Args:
    where: benchmark and judge.
    names: of A and B.
    found: numbers of a comparison, see `compare.compare`.
  """
  rate = lambda counts: counts[0] / counts[1]
  rows = sorted(
    found['solve_rates'],
    key=lambda row: (rate(row['a']), rate(row['b']), row['id']),
  )
  axes = _Axes(0, len(rows), 0, 1)
  radius = min(4.0, max(1.5, 0.35 * (axes.x(1) - axes.x(0))))
  up = sum(rate(row['b']) > rate(row['a']) for row in rows)
  down = sum(rate(row['b']) < rate(row['a']) for row in rows)
  newly = found['newly_solved']
  summary = (
    f'{len(rows):,} problems: {up:,} higher in B, {down:,} lower; '
    f'{newly["count"]:,} newly solved, {newly["expected"]:.1f} expected by luck'
  )
  body = [
    *_grid(axes, 0.2, 'solve rate (%)'),
    *_ticks(axes, {i: f'{i:,}' for i in _counted(len(rows))}),
    _text(_middle(axes), HEIGHT - 14, 'problems, by their solve rate in A'),
    *_before(axes, [rate(row['a']) for row in rows]),
    *(_after(axes, i, row, radius) for i, row in enumerate(rows)),
    *_legend(
      [f'{side}: {name}' for side, name in zip('AB', names)], _key_of_rates
    ),
    _note(summary),
  ]
  return _svg(f'{where}: solve rate of every problem', f'{summary}.', body)


def _bands(curve: Curve) -> Iterator[list[tuple[int, float, float]]]:
  """(k, low, high) of the problems' band, then of the rerun band."""
  yield [
    (p['k'], *_clipped(p['value'], reach))
    for p in curve.points
    for reach in [_reach(p['problems_error'], curve.problems)]
  ]
  # There is no rerun error where k is all rollouts: the band ends before.
  yield [
    (p['k'], *_clipped(p['value'], _reach(p['rerun_error'], None)))
    for p in curve.points
    if p['rerun_error'] is not None
  ]


def _reach(error: float | None, problems: int | None) -> float:
  if error is None:
    return 0.0
  if problems is None:
    return estimators.rerun_interval(0.0, error)[1]
  return estimators.interval(0.0, error, problems)[1] if problems > 1 else 0.0


def _clipped(value: float, reach: float) -> tuple[float, float]:
  return max(0.0, value - reach), min(1.0, value + reach)


def _range(low: float, high: float) -> tuple[float, float, float]:
  """(low, high, step) of an axis that holds both and has a few round lines."""
  wide = [s for s in _Y_STEPS if (high - low) / s <= _MOST_LINES - 1]
  step = wide[0] if wide else _Y_STEPS[-1]
  # Rounding must not move an end that is on a line to the next one.
  first = math.floor(low / step + 1e-9) * step
  last = math.ceil(high / step - 1e-9) * step
  return max(0.0, first), min(1.0, max(last, first + step)), step


def _drawn_curve(
  axes: _Axes, side: str, curve: Curve, bands: Sequence[Sequence[tuple]]
) -> Iterator[str]:
  x = lambda k: axes.x(math.log2(k))
  for kind, rows in zip(('problems', 'rerun'), bands):
    upper = [(x(k), axes.y(high)) for k, _, high in rows]
    lower = [(x(k), axes.y(low)) for k, low, _ in reversed(rows)]
    if len(rows) > 1:
      style = f'{side}-fill {side}-line {kind}'
      yield f'<polygon class="{style}" points="{_at(upper + lower)}"/>'
  points = [(x(p['k']), axes.y(p['value'])) for p in curve.points]
  dashed = ' dashed' if side == 'a' else ''
  yield f'<polyline class="line {side}-line{dashed}" points="{_at(points)}"/>'
  for (px, py), p in zip(points, curve.points):
    about = (
      f'pass@{p["k"]} {shown.percent(p["value"])}% '
      f'({shown.error(p["rerun_error"])} rerun, '
      f'{shown.error(p["problems_error"])} problems)'
    )
    yield _mark(side, px, py, 4, about)


def _before(axes: _Axes, rates: Sequence[float]) -> Iterator[str]:
  """A's rates, as steps with the area under them."""
  edge = [
    (axes.x(i + end), axes.y(rate))
    for i, rate in enumerate(rates)
    for end in (0, 1)
  ]
  floor = [(axes.x(len(rates)), axes.y(0)), (axes.x(0), axes.y(0))]
  yield f'<polygon class="a-fill before" points="{_at(edge + floor)}"/>'
  yield f'<polyline class="line a-line" points="{_at(edge)}"/>'


def _after(axes: _Axes, i: int, row: Mapping[str, Any], radius: float) -> str:
  """B's rate as a dot, with a stem from A's."""
  (right_a, n_a), (right_b, n_b) = row['a'], row['b']
  x, before = axes.x(i + 0.5), axes.y(right_a / n_a)
  after = axes.y(right_b / n_b)
  stem = (
    f'<line class="b-line stem" x1="{_n(x)}" x2="{_n(x)}" y1="{_n(before)}" '
    f'y2="{_n(after)}"/>'
  )
  about = f'{row["id"]}: {right_a} of {n_a} in A, {right_b} of {n_b} in B'
  return stem + _mark('b', x, after, radius, about)


def _mark(side: str, x: float, y: float, radius: float, about: str) -> str:
  """A square for A, a disc for B; its title appears under the pointer."""
  place = (
    f'rect class="a-fill" x="{_n(x - radius)}" y="{_n(y - radius)}" '
    f'width="{_n(2 * radius)}" height="{_n(2 * radius)}"'
  )
  if side == 'b':
    place = f'circle class="b-fill" cx="{_n(x)}" cy="{_n(y)}" r="{_n(radius)}"'
  kind = place.partition(' ')[0]
  return f'<{place}><title>{_safe(about)}</title></{kind}>'


def _grid(axes: _Axes, step: float, label: str) -> Iterator[str]:
  for i in range(round((axes.high - axes.low) / step) + 1):
    value = axes.low + i * step
    y = _n(axes.y(value))
    yield (
      f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>'
    )
    yield (
      f'<text class="tick" x="{LEFT - 8}" y="{_n(axes.y(value) + 4)}" '
      f'text-anchor="end">{round(100 * value)}</text>'
    )
  base = HEIGHT - BOTTOM
  yield (
    f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{base}" '
    f'y2="{base}"/>'
  )
  middle = (TOP + base) / 2
  yield (
    f'<text x="18" y="{_n(middle)}" text-anchor="middle" '
    f'transform="rotate(-90 18 {_n(middle)})">{_safe(label)}</text>'
  )


def _ticks(axes: _Axes, labels: Mapping[float, str]) -> Iterator[str]:
  base = HEIGHT - BOTTOM
  for value, label in labels.items():
    x = _n(axes.x(value))
    yield f'<line class="axis" x1="{x}" x2="{x}" y1="{base}" y2="{base + 4}"/>'
    yield (
      f'<text class="tick" x="{x}" y="{base + 18}" text-anchor="middle">'
      f'{label}</text>'
    )


def _counted(number: int) -> list[int]:
  """0, a few round numbers below `number`, and `number` itself."""
  step = next(
    scale * 10**power
    for power in range(20)
    for scale in (1, 2, 5)
    if scale * 10**power * _MOST_LINES >= number
  )
  # The last round number must not touch the end.
  return [*range(0, number - step // 4, step), number]


def _legend(names: Sequence[str], key: Any) -> Iterator[str]:
  for i, (side, name) in enumerate(zip('ab', names)):
    y = 46 + 18 * i
    yield key(side, y - 4)
    text = _safe(shown.name(name, _NAME_CELLS))
    yield f'<text x="{LEFT + 38}" y="{y}">{text}</text>'


def _key_of_curve(side: str, y: float) -> str:
  dashed = ' dashed' if side == 'a' else ''
  return (
    f'<line class="line {side}-line{dashed}" x1="{LEFT}" x2="{LEFT + 30}" '
    f'y1="{y}" y2="{y}"/>' + _mark(side, LEFT + 15, y, 4, side.upper())
  )


def _key_of_rates(side: str, y: float) -> str:
  if side == 'b':
    return _mark('b', LEFT + 15, y, 4, 'B')
  return (
    f'<rect class="a-fill before" x="{LEFT}" y="{y - 5}" width="30" '
    f'height="10"/><line class="line a-line" x1="{LEFT}" x2="{LEFT + 30}" '
    f'y1="{y - 5}" y2="{y - 5}"/>'
  )


def _in_words(curve: Curve) -> str:
  """The curve for a reader who does not see it."""
  values = ', '.join(
    f'{shown.percent(p["value"])}% at {p["k"]}' for p in curve.points
  )
  return f'{curve.name}: {values}.'


def _middle(axes: _Axes) -> float:
  return (axes.x(axes.left) + axes.x(axes.right)) / 2


def _note(text: str) -> str:
  return f'<text class="note" x="{LEFT}" y="{TOP - 18}">{_safe(text)}</text>'


def _text(x: float, y: float, text: str) -> str:
  return (
    f'<text x="{_n(x)}" y="{_n(y)}" text-anchor="middle">{_safe(text)}</text>'
  )


def _svg(title: str, words: str, body: Sequence[str]) -> str:
  heading = _safe(shown.name(title, _NAME_CELLS))
  return '\n'.join(
    [
      f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" '
      f'height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
      f'<title>{heading}</title>',
      f'<desc>{_safe(words, 4000)}</desc>',
      f'<style>{_STYLE}</style>',
      f'<rect class="paper" width="{WIDTH}" height="{HEIGHT}"/>',
      f'<text class="title" x="{LEFT}" y="24">{heading}</text>',
      *body,
      '</svg>\n',
    ]
  )


def _at(points: Sequence[tuple[float, float]]) -> str:
  return ' '.join(f'{_n(x)},{_n(y)}' for x, y in points)


def _n(value: float) -> str:
  """A coordinate, to a hundredth of a pixel."""
  return f'{value:.2f}'.rstrip('0').rstrip('.')


def _safe(text: str, most: int = 200) -> str:
  return html.escape(terminal.one_line(text, most))
