"""SVG files of an evaluation and of a comparison, without other packages.

A and B differ in colour and in shape. The numbers of a mark appear under the
pointer.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from acereason_jax import storage
from acereason_jax.evaluation import estimators, shown, svg

_RADIUS = 4.0
_ID_CELLS = 80
_BANDS = '95% bands: narrow for other draws, wide for other problems like these'


class Curve(NamedTuple):
  """pass@k of one model.

  name: what the legend says.
  problems: number of problems.
  points: dicts of k, value, rerun_error and problems_error.
  """

  name: str
  problems: int
  points: Sequence[Mapping[str, Any]]


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
      drawn[f'{bench}.compare.pass_at_k.svg'] = pass_at_k(
        f'{where}: pass@k', curves
      )
    drawn[f'{bench}.compare.solve_rates.svg'] = solve_rates(where, names, found)
  return drawn


def write(folder: str, drawn: Mapping[str, str]) -> list[str]:
  """Writes each picture to its name in the folder; returns the paths."""
  paths = [storage.join(folder, name) for name in drawn]
  for path, picture in zip(paths, drawn.values()):
    storage.write(path, picture.encode())
  return paths


def pass_at_k(title: str, curves: Sequence[Curve]) -> str:
  """One or two curves over log2 k, with both 95% bands."""
  ks = sorted({point['k'] for curve in curves for point in curve.points})
  bands = [list(_bands(curve)) for curve in curves]
  ends = [y for band in bands for rows in band for _, *ys in rows for y in ys]
  ends += [point['value'] for curve in curves for point in curve.points]
  low, high, step = svg.rounded_range(min(ends), max(ends))
  ticks = {math.log2(k): f'{k:,}' for k in ks}
  axes = svg.Axes(min(ticks) - 0.15, max(ticks) + 0.15, low, high)
  body = [
    *svg.y_axis(axes, step, 'solved by one of k rollouts (%)'),
    *svg.x_axis(axes, ticks, 'k, rollouts per problem (log scale)'),
    svg.note(_BANDS),
  ]
  for i, (side, curve, band) in enumerate(zip('ab', curves, bands)):
    body += _drawn_curve(axes, side, curve, band)
    y = svg.legend_y(i)
    key = [
      svg.line(_style(side), (svg.LEFT, y), (svg.LEFT + 30, y)),
      svg.mark(side, (svg.LEFT + 15.0, y), _RADIUS, side.upper()),
    ]
    body += svg.legend(i, key, curve.name)
  return svg.page(title, ' '.join(map(_in_words, curves)), body)


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
  axes = svg.Axes(0, len(rows), 0, 1)
  radius = min(_RADIUS, max(1.5, 0.35 * (axes.x(1) - axes.x(0))))
  up = sum(rate(row['b']) > rate(row['a']) for row in rows)
  down = sum(rate(row['b']) < rate(row['a']) for row in rows)
  newly = found['newly_solved']
  summary = (
    f'{len(rows):,} problems: {up:,} higher in B, {down:,} lower; '
    f'{newly["count"]:,} newly solved, {newly["expected"]:.1f} expected by luck'
  )
  ticks = {i: f'{i:,}' for i in svg.round_numbers(len(rows))}
  body = [
    *svg.y_axis(axes, 0.2, 'solve rate (%)'),
    *svg.x_axis(axes, ticks, 'problems, by their solve rate in A'),
    svg.note(summary),
    *_before(axes, [rate(row['a']) for row in rows]),
  ]
  for i, row in enumerate(rows):
    body += _after(axes, i, row, radius)
  keys = _key_of_area(svg.legend_y(0)), _key_of_dot(svg.legend_y(1))
  for i, (side, name, key) in enumerate(zip('AB', names, keys)):
    body += svg.legend(i, key, f'{side}: {name}')
  title = f'{where}: solve rate of every problem'
  return svg.page(title, f'{summary}.', body)


def _bands(curve: Curve) -> Iterator[list[tuple[int, float, float]]]:
  """(k, low, high) of the problems' band, then of the rerun band."""
  of_problems = lambda value, error: estimators.interval(
    value, error, curve.problems
  )
  kinds = (
    ('problems_error', of_problems if curve.problems > 1 else None),
    ('rerun_error', estimators.rerun_interval),
  )
  for name, interval in kinds:
    # A band ends where there is no error, as that of reruns where k is all
    # rollouts. One of no width would say that a number is exact.
    yield [
      (p['k'], max(0.0, low), min(1.0, high))
      for p in curve.points
      if p[name] and interval
      for low, high in [interval(p['value'], p[name])]
    ]


def _drawn_curve(
  axes: svg.Axes, side: str, curve: Curve, bands: Sequence[Sequence[tuple]]
) -> Iterator[str]:
  for kind, rows in zip(('problems', 'rerun'), bands):
    upper = [(math.log2(k), high) for k, _, high in rows]
    lower = [(math.log2(k), low) for k, low, _ in reversed(rows)]
    if len(rows) > 1:
      style = f'{side}-fill {side}-line {kind}'
      yield svg.shape('polygon', style, axes.points(upper + lower))
  points = axes.points([(math.log2(p['k']), p['value']) for p in curve.points])
  yield svg.shape('polyline', _style(side), points)
  for at, p in zip(points, curve.points):
    about = (
      f'pass@{p["k"]} {shown.percent(p["value"])}% '
      f'({shown.error(p["rerun_error"])} rerun, '
      f'{shown.error(p["problems_error"])} problems)'
    )
    yield svg.mark(side, at, _RADIUS, about)


def _style(side: str) -> str:
  return f'line {side}-line' + (' dashed' if side == 'a' else '')


def _before(axes: svg.Axes, rates: Sequence[float]) -> Iterator[str]:
  """A's rates, as steps with the area under them."""
  edge = [(i + end, rate) for i, rate in enumerate(rates) for end in (0, 1)]
  area = [*edge, (len(rates), 0), (0, 0)]
  yield svg.shape('polygon', 'a-fill before', axes.points(area))
  yield svg.shape('polyline', 'line a-line', axes.points(edge))


def _after(
  axes: svg.Axes, i: int, row: Mapping[str, Any], radius: float
) -> Iterator[str]:
  """B's rate as a dot, with a stem from A's."""
  (right_a, n_a), (right_b, n_b) = row['a'], row['b']
  x, y = axes.x(i + 0.5), axes.y(right_b / n_b)
  yield svg.line('b-line stem', (x, axes.y(right_a / n_a)), (x, y))
  # The end of an id is cut first, and never the numbers.
  name = shown.name(row['id'], _ID_CELLS)
  about = f'{name}: {right_a} of {n_a} in A, {right_b} of {n_b} in B'
  yield svg.mark('b', (x, y), radius, about)


def _key_of_area(y: float) -> list[str]:
  area = dict(x=svg.LEFT, y=y - 5, width=30, height=10)
  top = (svg.LEFT, y - 5), (svg.LEFT + 30, y - 5)
  return [
    svg.tag('rect', style='a-fill before', **area),
    svg.line('line a-line', *top),
  ]


def _key_of_dot(y: float) -> list[str]:
  return [svg.mark('b', (svg.LEFT + 15.0, y), _RADIUS, 'B')]


def _in_words(curve: Curve) -> str:
  """The curve for a reader who does not see it."""
  values = ', '.join(
    f'{shown.percent(p["value"])}% at {p["k"]}' for p in curve.points
  )
  return f'{shown.name(curve.name, _ID_CELLS)}: {values}.'
