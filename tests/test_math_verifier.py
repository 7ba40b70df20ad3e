r"""The math verifier agrees with mathematics, and refuses what only looks so.

Cases are hand-made; `right` and `wrong` come in pairs wherever one exists.
"""

import fractions

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acereason_jax.verifiers import math

RIGHT = [
  ('string', r'42.', '42'),
  ('string', r'$42$', '42'),
  ('string', '42\\ ', '42'),
  ('string', '\u22127', '-7'),
  ('string', r'\dfrac{\pi}{2}', r'\tfrac{\pi}{2}'),
  ('string', r'\left( 1, 2 \right)', '(1,2)'),
  ('string', r'\text{east}', 'east'),
  ('string', '61,328', '61328'),
  ('string', r'1\,024', '1024'),
  ('string', '2{,}048{,}000', '2048000'),
  ('string', r'12,\! 345', '12345'),
  ('string', '-1,024.5', '-1024.5'),
  ('string', r'\$12', '12'),
  ('string', r'12\text{ cm}^2', '12'),
  ('string', '12 square units', '12'),
  ('string', r'45^\circ', '45'),
  ('string', r'30\%', '30'),
  ('string', r'\sqrt[3]2', r'\sqrt[3]{2}'),
  ('exact', '0.50', r'\frac12'),
  ('exact', r'\frac{-3}{6}', '-1/2'),
  ('exact', r'2\frac{3}{4}', '2.75'),
  ('exact', '2 3/4', '11/4'),
  ('exact', r'0.\overline{3}', '1/3'),
  ('exact', r'0.1\overline{6}', r'\frac{1}{6}'),
  ('exact', '.5', '0.5'),
  ('exact', '007', '7'),
  ('words', 'Yes', r'\text{yes}'),
  ('words', 'no solution', 'No solution'),
  ('sympy', r'\frac{6}{\sqrt{3}}', r'2\sqrt3'),
  ('sympy', r'\sqrt{8}', r'2\sqrt{2}'),
  ('sympy', 'x=5', '5'),
  ('sympy', '(a+b)^2', 'a^2+2ab+b^2'),
  ('sympy', r'\{3, 1\}', r'\{1, 3\}'),
  ('sympy', '(1, 0.5)', r'(1, \frac{1}{2})'),
  ('sympy', r'1 \le x \le 2', '[1,2]'),
  ('sympy', r'(-\infty, 0.5]', r'(-\infty, \frac12]'),
  ('sympy', r'\pm 4', '-4, 4'),
  ('sympy', r'(1+i)^2', '2i'),
  ('sympy', r'\cos 60^\circ', r'\frac12'),
  ('sympy', '5!', '120'),
  ('sympy', '0.8660254037844386', r'\frac{\sqrt3}{2}'),
]
WRONG = [
  ('exact', '41', '42'),
  ('exact', '0.333333', '1/3'),
  ('exact', '0.3', r'30\%'),
  ('exact', '1 1/2', '11/2'),
  ('exact', r'\frac12', r'\frac{1}{3}'),
  ('exact', '100000000000000000001', '100000000000000000000'),
  ('ratio', '2:3', '4:6'),
  ('ratio', '1:00', '12:00'),
  ('words', 'west', 'east'),
  ('words', 'BCA', 'ABC'),
  ('words', 'stop', 'pots'),
  ('sympy', '10^{-20}', '10^{-21}'),
  ('sympy', r'\frac{1}{2004!}', r'\frac{1}{2006!}'),
  ('sympy', 'x+10^{-20}', 'x+10^{-21}'),
  ('sympy', r'\{10^{-20}\}', r'\{10^{-21}\}'),
  ('sympy', '3.14159265', r'\pi'),
  ('sympy', '3t', '3'),
  ('sympy', '2c', '2'),
  ('sympy', '12,34', '1234'),
  ('sympy', '(2,1)', '(1,2)'),
  ('sympy', '[0,1)', '[0,1]'),
  ('sympy', '1<x<2', r'\{1,2\}'),
  ('sympy', '3', r'\pm 3'),
  ('sympy', r'\frac{0}{0}', '5'),
  ('letters of another case', 'X', 'x'),
  ('letters of another case', 'A+1', 'a+1'),
  ('a contradictory chain', '41=42', '42'),
  ('a contradictory chain', r'42 \approx 43', '42'),
  ('a function without argument', 'log=2', '2'),
  ('an inequation', r'x \neq 2', '2'),
  ('another base', '101_3', '101_2'),
]


def _verify(box, answer):
  return math.verify(rf'So \boxed{{{box}}}.', answer, reasons=False)


@pytest.mark.parametrize(('layer', 'box', 'answer'), RIGHT)
def test_right(layer, box, answer):
  verdict = _verify(box, answer)
  assert (verdict.status, verdict.detail.split(':')[0]) == ('right', layer)


@pytest.mark.parametrize(('layer', 'box', 'answer'), WRONG)
def test_wrong(layer, box, answer):
  verdict = _verify(box, answer)
  assert (verdict.status, verdict.detail.split(':')[0]) == ('wrong', layer)


@pytest.mark.parametrize(
  'box', ['', ' ', '$$', '\uff14\uff12', r'\frac{1}{', '4' * 4001]
)
def test_unreadable_box_is_unparsed(box):
  assert _verify(box, '42').status == 'unparsed'


@pytest.mark.parametrize('answer', ['', r'\frac{', r'\frac{1}{0}', '0/0'])
def test_unreadable_reference_is_the_judges_failure(answer):
  verdict = _verify('42', answer)
  assert verdict.status == 'error'
  assert not verdict.judged


@pytest.mark.parametrize(
  ('text', 'box'),
  [
    (r'\boxed{41}, no: \boxed{42}', '42'),
    (r'\boxed{\frac{a_{1}}{2^{n}}}', r'\frac{a_{1}}{2^{n}}'),
    (r'\boxed{x = \boxed{5}}', r'x = \boxed{5}'),
    (r'\boxed{\{1, 2\}}', r'\{1, 2\}'),
    (r'\boxed{\left\{1\right.}', r'\left\{1\right.'),
    (r'\boxed{7} and \boxed{8', '7'),
    (r'{ \boxed {7} } }', '7'),
    (r'\boxed{8', None),
    ('the answer is 8', None),
    (r'\boxed8', None),
    ('', None),
  ],
)
def test_last_box(text, box):
  assert math.last_box(text) == box


def test_scan_is_linear():
  assert math.last_box('\\boxed{' * 200_000) is None
  assert math.last_box('{' * 500_000 + r'\boxed{1}') == '1'


@pytest.mark.parametrize(
  ('response', 'status'),
  [
    (r'thinking</think>\boxed{4}', 'right'),
    (r'\boxed{4}</think>done', 'unparsed'),
    (r'\boxed{4}', 'unparsed'),
    (r'\boxed{4}</think>\boxed{5}', 'wrong'),
    (r'a</think>\boxed{4}</think>', 'right'),
  ],
)
def test_only_what_follows_the_thinking_counts(response, status):
  assert math.verify(response, '4', reasons=True).status == status


def test_detail_is_one_short_line():
  verdict = _verify('7\n\ud800' * 500, '8')
  assert verdict.detail.isprintable()
  assert len(verdict.detail) < 600


@given(st.integers())
def test_integers(n):
  assert _verify(f'{n:,}', str(n)).status == 'right'
  assert _verify(str(n + 1), str(n)).status == 'wrong'


@given(st.fractions())
def test_fractions(x):
  latex = rf'\frac{{{x.numerator}}}{{{x.denominator}}}'
  assert _verify(latex, f'{x.numerator}/{x.denominator}').status == 'right'
  assert _verify(str(x + fractions.Fraction(1, 7)), latex).status == 'wrong'


@settings(deadline=None, max_examples=200)
@given(st.text(), st.text(max_size=12))
def test_no_text_raises(response, answer):
  math.verify(response, answer, reasons=True)
  math.verify(rf'</think>\boxed{{{response}}}', answer, reasons=True)


@settings(deadline=None, max_examples=150)
@given(st.text(alphabet='0123/.,-+{}()[]=<xyi_%$\\ \n', max_size=12))
def test_no_mathlike_text_raises(text):
  math.verify(rf'\boxed{{{text}}}', '3', reasons=False)
  math.verify(r'\boxed{3}', text, reasons=False)
