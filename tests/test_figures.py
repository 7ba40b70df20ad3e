"""Pictures as XML: points where hand values say, strangers' text escaped."""

import math
import re
from xml.etree import ElementTree

import evaluated
import pytest

from acereason_jax.evaluation import compare, figures, svg

SVG = '{http://www.w3.org/2000/svg}'
SCRIPT = '</title></svg><script>alert(1)</script>'
HOSTILE = SCRIPT + '\x1b[2J\x00"\'&\u202e\n]]>\ud800'
LOW, HIGH = svg.HEIGHT - svg.BOTTOM, svg.TOP
LEFT, RIGHT = svg.LEFT, svg.WIDTH - svg.RIGHT


def parsed(text):
  root = ElementTree.fromstring(text)
  assert root.tag == f'{SVG}svg' and root.get('role') == 'img'
  assert root[0].tag == f'{SVG}title' and root[1].tag == f'{SVG}desc'
  assert not re.search(r'\b(src=|href|url\(|@import|<script)', text)
  for element in root.iter():
    inside(element)
  return root


def inside(element):
  """No coordinate outside the picture."""
  for name, most in (('x', svg.WIDTH), ('y', svg.HEIGHT)):
    for key in (name, f'{name}1', f'{name}2', f'c{name}'):
      assert 0 <= float(element.get(key, 0)) <= most
  for x, y in points(element):
    assert LEFT <= x <= RIGHT and HIGH <= y <= LOW


def points(element):
  text = element.get('points', '')
  return [tuple(map(float, pair.split(','))) for pair in text.split()]


def of_class(root, name, style):
  return [e for e in root.iter(f'{SVG}{name}') if e.get('class') == style]


def texts(root):
  return [e.text for e in root.iter(f'{SVG}text')]


def labels(root, style):
  return [e for e in root.iter(f'{SVG}text') if e.get('class') == style]


def compared(a, b, n, name='m'):
  one = evaluated.results({'aime24': a}, n=n, name=name)
  other = evaluated.results({'aime24': b}, n=n, name=name)
  return compare.compare(one, other)


def curve(name='m', problems=10, ks=(1, 2, 4), **changes):
  point = dict(value=0.5, rerun_error=0.01, problems_error=0.05) | changes
  return figures.Curve(name, problems, [dict(point, k=k) for k in ks])


def test_a_curve_is_where_its_numbers_are():
  values = [0.2, 0.4, 0.6]
  flat = dict(rerun_error=0.0, problems_error=0.0)
  made = figures.Curve(
    'm', 10, [dict(flat, k=k, value=v) for k, v in zip((1, 2, 4), values)]
  )
  root = parsed(figures.pass_at_k('aime24', [made]))
  # From 20% to 60%, with 0.15 of a doubling on either side of 1 to 4.
  width = (RIGHT - LEFT) / 2.3
  x = [LEFT + (0.15 + i) * width for i in range(3)]
  y = [LOW, (LOW + HIGH) / 2, HIGH]
  (line,) = of_class(root, 'polyline', 'line a-line dashed')
  for found, expected in zip(points(line), zip(x, y), strict=True):
    assert found == pytest.approx(expected, abs=0.006)
  ticks = [
    e for e in root.iter(f'{SVG}text') if e.get('class') == 'tick middle'
  ]
  assert [e.text for e in ticks] == ['1', '2', '4']
  assert [float(e.get('x')) for e in ticks] == pytest.approx(x, abs=0.006)
  rates = labels(root, 'tick end')
  assert [e.text for e in rates] == ['20', '30', '40', '50', '60']
  assert 'k, rollouts per problem (log scale)' in texts(root)
  assert 'solved by one of k rollouts (%)' in texts(root)
  assert root[1].text == 'm: 20.0% at 1, 40.0% at 2, 60.0% at 4.'


def test_bands_are_95_percent_intervals():
  root = parsed(figures.pass_at_k('x', [curve(problems=10)]))
  height = {}
  for kind in ('problems', 'rerun'):
    (band,) = of_class(root, 'polygon', f'a-fill a-line {kind}')
    ys = [y for _, y in points(band)]
    height[kind] = max(ys) - min(ys)
  # t(.975, 9 degrees) = 2.262157 and z = 1.959964.
  ratio = 2.262157 * 0.05 / (1.959964 * 0.01)
  assert height['problems'] / height['rerun'] == pytest.approx(ratio, rel=1e-3)
  # And in pixels, by the labels of the axis.
  low, *_, high = labels(root, 'tick end')
  pixels = float(low.get('y')) - float(high.get('y'))
  scale = 100 * pixels / (int(high.text) - int(low.text))
  assert height['problems'] == pytest.approx(
    2 * 2.262157 * 0.05 * scale, rel=1e-3
  )


def test_bands_end_where_errors_do():
  made = curve()
  made.points[-1]['rerun_error'] = None
  root = parsed(figures.pass_at_k('x', [made]))
  (band,) = of_class(root, 'polygon', 'a-fill a-line rerun')
  assert len(points(band)) == 4
  (band,) = of_class(root, 'polygon', 'a-fill a-line problems')
  assert len(points(band)) == 6
  lonely = curve(problems=1, rerun_error=None, problems_error=None)
  root = parsed(figures.pass_at_k('x', [lonely]))
  assert of_class(root, 'polygon', 'a-fill a-line rerun') == []


@pytest.mark.parametrize('value', [0.0, 1.0, 0.999, 1e-6, 0.5])
def test_flat_curves_have_an_axis(value):
  flat = curve(value=value, rerun_error=0.0, problems_error=0.0)
  root = parsed(figures.pass_at_k('x', [flat, flat]))
  low, high, step = svg.rounded_range(value, value)
  assert 0 <= low <= value <= high <= 1 and high - low >= step * 0.999
  assert len(of_class(root, 'line', 'grid')) >= 2


def test_rounded_range_and_round_numbers():
  assert svg.rounded_range(0.21, 0.79) == pytest.approx((0.2, 0.8, 0.2))
  assert svg.rounded_range(0.0, 1.0) == pytest.approx((0.0, 1.0, 0.2))
  assert svg.rounded_range(0.512, 0.538) == pytest.approx((0.51, 0.54, 0.01))
  assert svg.rounded_range(0.3, 0.7)[:2] == pytest.approx((0.3, 0.7))
  assert svg.round_numbers(30) == [0, 5, 10, 15, 20, 25, 30]
  assert svg.round_numbers(175) == [0, 50, 100, 150, 175]
  assert svg.round_numbers(1055) == [0, 200, 400, 600, 800, 1055]
  assert svg.round_numbers(1) == [0, 1]


def test_two_models_differ_in_shape_too():
  root = parsed(figures.pass_at_k('x', [curve('A: one'), curve('B: two')]))
  # A key in the legend and three points each.
  assert len(of_class(root, 'rect', 'a-fill')) == 4
  assert len(of_class(root, 'circle', 'b-fill')) == 4
  assert {'A: one', 'B: two'} <= set(texts(root))


def test_solve_rates_are_where_they_should_be():
  found = compared(dict(p=0, q=4, r=2), dict(p=3, q=4, r=1), 4)
  root = parsed(figures.of_comparison(found)['aime24.compare.solve_rates.svg'])
  dots = [e for e in root.iter(f'{SVG}circle') if e[0].text != 'B']
  # Sorted by A: p 0, r 2/4, q 1; each a third of the width.
  third = (RIGHT - LEFT) / 3
  height = LOW - HIGH
  expected = [
    (LEFT + 0.5 * third, LOW - 0.75 * height, 'p: 0 of 4 in A, 3 of 4 in B'),
    (LEFT + 1.5 * third, LOW - 0.25 * height, 'r: 2 of 4 in A, 1 of 4 in B'),
    (LEFT + 2.5 * third, HIGH, 'q: 4 of 4 in A, 4 of 4 in B'),
  ]
  assert len(dots) == 3
  for dot, (x, y, title) in zip(dots, expected):
    assert float(dot.get('cx')) == pytest.approx(x, abs=0.006)
    assert float(dot.get('cy')) == pytest.approx(y, abs=0.006)
    assert dot[0].text == title
  (edge,) = of_class(root, 'polyline', 'line a-line')
  heights = [(LOW - y) / height for _, y in points(edge)]
  assert heights == pytest.approx([0, 0, 0.5, 0.5, 1, 1], abs=1e-4)
  stems = of_class(root, 'line', 'b-line stem')
  assert [float(s.get('y1')) for s in stems] == pytest.approx(
    [LOW, LOW - 0.5 * height, HIGH], abs=0.006
  )
  summary = '3 problems: 1 higher in B, 1 lower; 1 newly solved, 0.1 expected'
  assert any(t and t.startswith(summary) for t in texts(root))


def test_the_same_numbers_give_the_same_bytes():
  a = {f'id-{i}': i % 5 for i in range(40)}
  b = {f'id-{i}': (i + 2) % 5 for i in range(40)}
  first = figures.of_comparison(compared(a, b, 4))
  backwards = dict(reversed(a.items())), dict(reversed(b.items()))
  assert figures.of_comparison(compared(*backwards, 4)) == first
  assert list(first) == [
    'aime24.compare.pass_at_k.svg',
    'aime24.compare.solve_rates.svg',
  ]


def test_strangers_text_is_escaped():
  right = {HOSTILE: 1, 'other': 2}
  found = compared(right, right, 4, name=HOSTILE)
  for text in figures.of_comparison(found).values():
    assert '<script' not in text and '</svg><' not in text
    assert all(c.isprintable() or c == '\n' for c in text)
    text.encode()
    parsed(text)
  root = parsed(figures.of_comparison(found)['aime24.compare.solve_rates.svg'])
  titles = [e.text for e in root.iter(f'{SVG}title')]
  assert any(SCRIPT + r'\x1b[2J\x00' in title for title in titles)


def test_every_text_of_a_picture_is_escaped():
  mark = svg.mark('a', (9.0, 9.0), 4.0, HOSTILE)
  text = svg.page(HOSTILE, HOSTILE, [svg.note(HOSTILE), mark])
  assert '<script' not in text
  assert all(c.isprintable() or c == '\n' for c in text)
  words = [e.text for e in parsed(text).iter() if e.text and SCRIPT in e.text]
  assert len(words) == 5


def test_long_names_are_cut_visibly():
  root = parsed(figures.pass_at_k('x', [curve('n' * 5000)]))
  (name,) = (t for t in texts(root) if t.startswith('nnn'))
  assert len(name) <= 70 and name.endswith('..')


def test_a_thousand_problems():
  a = {f'id-{i}': i % 9 for i in range(1055)}
  b = {f'id-{i}': (i * 7) % 9 for i in range(1055)}
  text = figures.of_comparison(compared(a, b, 8))[
    'aime24.compare.solve_rates.svg'
  ]
  assert len(text) < 500_000
  assert len(list(parsed(text).iter(f'{SVG}circle'))) == 1056


def test_results_of_one_model():
  made = evaluated.results(
    {'aime24': dict(a=1, b=2), 'once': dict(a=1)}, n=dict(aime24=4, once=1)
  )
  drawn = figures.of_results(made)
  # One rollout has no curve.
  assert list(drawn) == ['aime24.pass_at_k.svg']
  root = parsed(drawn['aime24.pass_at_k.svg'])
  assert root[0].text == 'aime24 (strict): pass@k'
  assert math.isclose(float(root.get('width')), svg.WIDTH)


def test_files_are_written(tmp_path):
  drawn = {'x.pass_at_k.svg': figures.pass_at_k('x', [curve()])}
  folder = tmp_path / 'figures'
  (path,) = figures.write(str(folder), drawn)
  assert path == str(folder / 'x.pass_at_k.svg')
  assert (folder / 'x.pass_at_k.svg').read_text() == drawn['x.pass_at_k.svg']


def test_what_has_no_error_has_no_band():
  """A band of no width would say that the number is exact."""
  bands = lambda right: sum(
    picture.count('<polygon')
    for picture in figures.of_results(
      evaluated.results({'sums': right}, n=8)
    ).values()
  )
  assert bands(dict(a=4, b=7)) == 2
  assert bands(dict(a=8, b=8)) == 0 and bands(dict(a=8, b=0)) == 1
  assert bands(dict(a=4)) == 1
