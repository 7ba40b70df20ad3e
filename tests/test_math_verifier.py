r"""The math judge agrees with mathematics, and refuses what only looks so.

Pairs were labelled by hand, apart from the judge (math_pairs.py); the policy is
docs/judges.md's table; hostile texts may be anything but right, slow or fatal.
"""

import fractions
import os
import pathlib
import re

import hostile_math
import math_pairs
import math_pairs_found
import math_pairs_signs
import math_pairs_styles
import properties
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from acereason_jax.verifiers import math
from acereason_jax.verifiers.answers import latex, spelling, units, vocabulary
from acereason_jax.verifiers.answers.vocabulary import TooLarge
from acereason_jax.verifiers.pool.pool import VerifierPool

DOCS = pathlib.Path(__file__).parent.parent / 'docs' / 'judges.md'
LAYERS = [
  ('right', 'string', r'\dfrac{\pi}{2}', r'\tfrac{\pi}{2}'),
  ('right', 'string', r'\left( 1, 2 \right)', '(1,2)'),
  ('right', 'string', 'any \x0c text', 'any \x0c text'),
  ('right', 'exact', '0.50', '1/2'),
  ('right', 'exact', r'\frac{-3}{6}', '-1/2'),
  ('right', 'string', '61,328', '61328'),
  ('right', 'exact', '007', '7'),
  ('wrong', 'exact', '100000000000000000001', '100000000000000000000'),
  ('right', 'words', 'East', 'east'),
  ('wrong', 'words', 'stop', 'pots'),
  ('right', 'value', r'\frac{6}{\sqrt{3}}', r'2\sqrt3'),
  ('right', 'value', r'\cos 36^\circ', r'\frac{1+\sqrt5}{4}'),
  ('wrong', 'value', '10^{-20}', '10^{-21}'),
  ('wrong', 'value', '3t', '3'),
  ('wrong', 'a contradictory chain', '41=42', '42'),
  ('unparsed', 'a power of over a million bits', '9^{9^9}', '42'),
  ('right', 'math-verify', r'\sum_{k=0}^{3} k', r'\sum_{j=0}^{3} j'),
  (
    'wrong',
    'letters of another case',
    r'\sum_{k=0}^{3} A',
    r'\sum_{k=0}^{3} a',
  ),
]


def _policy():
  """(status, given, reference) of every example in docs/judges.md's table."""
  section = DOCS.read_text().partition('## What the math judge')[2]
  section = section.partition('\n## ')[0]
  for row in re.findall(r'^\|(.*)\|$', section, re.MULTILINE)[2:]:
    _, _, right, wrong = re.split(r' *\| *', row.strip())
    for status, cell in (('right', right), ('other', wrong)):
      for pair in filter(None, cell.split('; ')):
        given, reference = re.fullmatch('`(.+)` = `(.+)`', pair).groups()
        yield status, given, reference


POLICY = list(_policy())
PAIRS = math_pairs.PAIRS + math_pairs_styles.PAIRS + math_pairs_found.PAIRS
PAIRS += math_pairs_signs.PAIRS


def _verify(box, answer):
  return math.verify(rf'So \boxed{{{box}}}.', answer, reasons=False)


def test_there_are_enough_cases():
  assert len(set(PAIRS)) >= 2900
  assert len(POLICY) >= 75
  assert len(hostile_math.HOSTILE) >= 300


@pytest.mark.parametrize('kind', sorted({pair[0] for pair in PAIRS}))
def test_pairs(kind):
  def check(_, given, reference, right):
    verdict = _verify(given, reference)
    assert (verdict.status == 'right') == right, verdict
    assert verdict.judged or math.reference('', reference).status == 'error'

  properties.each([pair for pair in PAIRS if pair[0] == kind], check)


def test_policy():
  def check(status, given, reference):
    verdict = _verify(given, reference)
    assert (verdict.status == 'right') == (status == 'right'), verdict

  properties.each(POLICY, check)


@pytest.mark.parametrize(('status', 'layer', 'box', 'answer'), LAYERS)
def test_layer(status, layer, box, answer):
  verdict = _verify(box, answer)
  assert (verdict.status, verdict.detail.split(': ')[0]) == (status, layer)


@pytest.mark.parametrize(
  'box',
  ['', ' ', '$$', '\u0664\u0662', '\u202e24', r'\frac{1}{', '4' * 4001],
)
def test_unreadable_box_is_unparsed(box):
  assert _verify(box, '42').status == 'unparsed'


@pytest.mark.parametrize(
  'answer',
  ['', r'\frac{', r'\frac{1}{0}', '0/0', '9^{9^{9}}', '41=42', '4' * 4001, '$'],
)
def test_unreadable_reference_is_the_judges_failure(answer):
  verdict = _verify('42', answer)
  assert verdict.status == 'error'
  assert not verdict.judged
  assert math.reference('', answer).status == 'error'


@pytest.mark.parametrize('answer', math_pairs_found.UNSURE_REFERENCES)
def test_unsure_reference_is_dropped(answer):
  verdict = math.reference('', answer)
  assert verdict.status == 'error'
  assert verdict.detail.startswith('reference: ')
  assert _verify('42', answer).status == 'error'
  assert _verify(answer, answer).status == 'right'


def test_references_that_can_be_read():
  pairs = math_pairs.PAIRS + math_pairs_styles.PAIRS + math_pairs_signs.PAIRS
  references = {p[2] for p in pairs}
  bad = [r for r in references if math.reference('', r).status != 'right']
  assert not bad


def test_units_have_one_spelling():
  for names in (
    ('m/s^2', r'm\,s^{-2}', 'metres per second squared', 'm/s/s'),
    ('lb/in^2', 'psi', 'lbs per square inch', 'lb/sq. in.'),
    ('kWh', 'kilowatt-hours', r'kW\cdot h'),
    ('km/h', 'kph', 'kilometers an hour', 'km per hr'),
    (r'\mu m', 'micrometers'),
    ('U.S. dollars', 'USD', 'bucks'),
    ('cm', 'cm long', 'centimetres of rope'),
    ('', 'in total', 'students', 'red marbles'),
  ):
    assert len({units.unit(spelling.typeset(name)) for name in names}) == 1


def test_known_units_never_agree_with_others():
  spelled = {units.unit(name) for name in ('mW', 'MW', 'kW', 'W', 'mWh')}
  assert len(spelled) == 5
  spelled |= {units.unit(name) for name in ('USD', 'EUR', 'HKD', 'cents')}
  for a in spelled:
    assert units.agree(a, '')
    assert [b for b in spelled if units.agree(a, b)] == [a]


@pytest.mark.parametrize(
  ('text', 'box'),
  [
    (r'\boxed{41}, no: \boxed{42}', '42'),
    (r'\boxed{\frac{a_{1}}{2^{n}}}', r'\frac{a_{1}}{2^{n}}'),
    (r'\boxed{x = \boxed{5}}', r'x = \boxed{5}'),
    (r'\boxed{\boxed{5} + x} = y}', r'\boxed{5} + x'),
    (r'\boxed{\{1, 2\}}', r'\{1, 2\}'),
    (r'\boxed{\left\{1\right.}', r'\left\{1\right.'),
    (r'\boxed{7} and \boxed{8', '7'),
    (r'{ \boxed {7} } }', '7'),
    (r'\boxed{185\}', '185'),
    (r'\boxed{1} \boxed{185\}', '1'),
    (r'\\boxed{3}', None),
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
  assert math.last_box(r'\boxed{1}' + '\\boxed{' * 200_000) == '1'


@pytest.mark.parametrize(
  ('response', 'status'),
  [
    (r'thinking</think>\boxed{4}', 'right'),
    (r'\boxed{4}</think>done', 'unparsed'),
    (r'\boxed{4}', 'unparsed'),
    (r'\boxed{4}</think>\boxed{5}', 'wrong'),
    (r'a</think>\boxed{4}</think>', 'right'),
    (r'a</think>\boxed{4}</think>\boxed{5}', 'wrong'),
  ],
)
def test_only_what_follows_the_thinking_counts(response, status):
  assert math.verify(response, '4').status == status


def test_detail_is_one_short_line():
  verdict = _verify('7\n\ud800' * 500, '8')
  assert verdict.detail.isprintable()
  assert len(verdict.detail) < 1000


def test_explanation_says_how_it_was_read():
  explained = math.explain(r'</think>\boxed{x=\sqrt{4}}', '2').detail
  assert r"extracted: 'x=\\sqrt{4}'" in explained
  assert 'read as: relation([=], x, root(4, 2))' in explained
  assert 'decided by: value' in explained
  for name, text in hostile_math.HOSTILE:
    verdict = math.explain(rf'</think>\boxed{{{text}}}', '2')
    assert all(line.isprintable() for line in verdict.detail.split('\n')), name


# --- properties -------------------------------------------------------------

_NAMES = st.sampled_from(['x', 'y', 'n', r'\theta', 'a_1', 'x_{12}'])
_ATOMS = st.one_of(
  st.integers(0, 99).map(str),
  _NAMES,
  st.sampled_from([r'\pi', r'\sqrt{2}', '3.25', r'\sqrt[3]{5}']),
)


def _compound(inner):
  pair = st.tuples(inner, inner)
  return st.one_of(
    pair.map(lambda p: rf'{p[0]}+{p[1]}'),
    pair.map(lambda p: rf'\left({p[0]}-{p[1]}\right)'),
    pair.map(lambda p: rf'{{{p[0]}}} \cdot \left({p[1]}\right)'),
    pair.map(lambda p: rf'\frac{{{p[0]}}}{{1+\left({p[1]}\right)^{{2}}}}'),
    inner.map(lambda e: rf'\left({e}\right)^{{3}}'),
    # Small numbers only: that of 99^{27} is too large to be read.
    _ATOMS.map(lambda e: rf'\sin\left({e}\right)'),
    inner.map(lambda e: rf'-\left({e}\right)'),
  )


EXPRESSIONS = st.recursive(_ATOMS, _compound, max_leaves=8)
ANSWERS = st.one_of(
  EXPRESSIONS,
  st.lists(EXPRESSIONS, min_size=2, max_size=4).map(
    lambda e: f'({", ".join(e)})'
  ),
  st.lists(EXPRESSIONS, min_size=1, max_size=4).map(
    lambda e: rf'\{{{"; ".join(e)}\}}'
  ),
  st.tuples(_NAMES, EXPRESSIONS).map(' = '.join),
)
_PIECES = [
  *'0123/.,-+{}()[]=<>|!^_:;xyi% ',
  *sorted(
    vocabulary.words(r'\frac \sqrt \{ \} \left \sin \log \text{ \cup \in')
  ),
  *sorted(
    vocabulary.words(r'\infty \\ & \le \pm \overline{ ^\circ \binom and 10')
  ),
  *sorted(vocabulary.words(r'\lfloor \rfloor \begin{pmatrix} \end{pmatrix}')),
]
_RESPELL = (
  (r'\left(', '('),
  (r'\right)', ')'),
  (r'\frac', r'\dfrac'),
  (r'\cdot', r'\times'),
  ('+', r'\, + \;'),
  (', ', r',\quad '),
)


@properties.tried(300)
@given(ANSWERS)
def test_everything_equals_itself(text):
  assert math.reference('', text).status == 'right'
  assert math.compare(f'{text} ', text) == ('right', 'string')


@properties.tried(300)
@given(ANSWERS, st.integers(0, 2 ** len(_RESPELL) - 1))
def test_spelling_does_not_matter(text, mask):
  other = text
  for i, (old, new) in enumerate(_RESPELL):
    if mask >> i & 1:
      other = other.replace(old, new)
  assert _verify(f'$ {other} $', text).status == 'right'


@properties.tried(300)
@given(ANSWERS, ANSWERS)
def test_symmetric(a, b):
  """A name may be given on either side, so all of these are symmetric."""
  assert math.compare(a, b)[0] == math.compare(b, a)[0]


@properties.tried(300)
@given(EXPRESSIONS, EXPRESSIONS)
@example(
  r'\left(\left(\left(\sin\left(\pi\right)\right)^{3}\right)^{3}\right)^{3}',
  r'\left(\sin\left(x\right)\right)^{3}',
)
def test_sums_commute_and_differ(a, b):
  assert math.compare(f'({a})+({b})', f'({b})+({a})')[0] == 'right'
  assert math.compare(f'({a})+1', f'{a}')[0] == 'wrong'


@given(st.integers())
def test_integers(n):
  assert _verify(f'{n:,}', str(n)).status == 'right'
  assert _verify(str(n + 1), str(n)).status == 'wrong'


@given(st.fractions())
def test_fractions(x):
  spelled = rf'\frac{{{x.numerator}}}{{{x.denominator}}}'
  assert _verify(spelled, f'{x.numerator}/{x.denominator}').status == 'right'
  assert _verify(str(x + fractions.Fraction(1, 7)), spelled).status == 'wrong'


@given(st.lists(st.integers(-99, 99), min_size=2, max_size=6), st.randoms())
def test_lists_have_no_order_and_tuples_have(numbers, random):
  shuffled = random.sample(numbers, len(numbers))
  given, answer = (', '.join(map(str, x)) for x in (shuffled, numbers))
  assert _verify(given, answer).status == 'right'
  assert _verify(f'({given})', f'({answer})').judged
  right = _verify(f'({given})', f'({answer})').status == 'right'
  assert right == (shuffled == numbers)


@properties.tried(300)
@given(st.text(), st.text(max_size=12))
def test_no_text_raises(response, answer):
  math.verify(response, answer)
  math.verify(rf'</think>\boxed{{{response}}}', answer)


@properties.tried(500)
@given(st.lists(st.sampled_from(_PIECES), max_size=14).map(''.join))
def test_no_mathlike_text_raises(text):
  math.verify(rf'\boxed{{{text}}}', '3', reasons=False)
  math.verify(r'\boxed{3}', text, reasons=False)


def test_depth_is_bounded_before_pythons_stack():
  """At the deepest that is read, evaluation still fits the stack."""
  wraps = (
    ('(', ')'),
    ('-2(', '+1)!^{2}'),
    (r'\frac{1}{', '}'),
    (r'\sqrt[3]{1+2^', '}'),
    (r'\sin^2 \left(-', r'\right)'),
  )
  for opening, closing in wraps:
    readable = 0
    for depth in range(1, 60):
      text = opening * depth + 'x' + closing * depth
      try:
        latex.parse(spelling.normalise(text))
        readable = depth
      except TooLarge:
        pass
      assert math.verify(rf'\boxed{{{text}}}', 'x+1', reasons=False).status in (
        'wrong',
        'unparsed',
      )
    assert 7 < readable < 60


# --- hostile ----------------------------------------------------------------


# References that the parser and the comparison take each its own way.
_REFERENCES = '42', r'\sqrt{2}', 'x^2+1', '(1,2)', r'\frac{3}{7}', '[0,1]'
# math-verify reads none of these, our own grammar all.
_OWN_REFERENCES = (
  '1234567',
  '5!',
  r'\binom{10}{3}',
  '2^{1000}',
  r'\text{May 4}',
)


def _in_turn(texts, references):
  """Each text with one reference, each reference with as many texts."""
  for i, text in enumerate(texts):
    yield text, references[i % len(references)]


def _hostile_is_judged(text, answer):
  verdict = math.verify(rf'\boxed{{{text}}}', answer, reasons=False)
  assert verdict.status in ('wrong', 'unparsed'), verdict.detail
  assert len(verdict.detail) < 1000


def test_hostile_text_is_judged():
  """Judged, never right, and without the pool's help."""
  texts = [text for _, text in hostile_math.HOSTILE]
  properties.each(_in_turn(texts, _REFERENCES), _hostile_is_judged)


@pytest.mark.slow
@pytest.mark.parametrize('answer', _REFERENCES)
def test_hostile_text_is_judged_next_to_every_reference(answer):
  texts = [text for _, text in hostile_math.HOSTILE]
  properties.each([(text, answer) for text in texts], _hostile_is_judged)


@pytest.mark.parametrize(('name', 'text'), hostile_math.COSTLY)
def test_costly_reference_is_dropped(name, text):
  """Each part of it would be cheap: the sum is counted."""
  verdict = math.reference('', text)
  assert verdict.status == 'error'
  assert 'arithmetic' in verdict.detail or 'gamma' in verdict.detail


def _no_excuse(text, answer):
  verdict = math.verify(rf'\boxed{{{text}}}', answer, reasons=False)
  assert verdict.judged, verdict


_EXCUSES = [text for _, text in hostile_math.HOSTILE] + [r'\foo', '5 x =', '@']


def test_no_text_excuses_itself_from_its_group():
  """Where the reference is good, what cannot be judged is the model's doing."""
  for answer in _OWN_REFERENCES:
    assert math.reference('', answer).status == 'right'
  properties.each(_in_turn(_EXCUSES, _OWN_REFERENCES), _no_excuse)


@pytest.mark.slow
@pytest.mark.parametrize('answer', _OWN_REFERENCES)
def test_no_text_excuses_itself_next_to_any_reference(answer):
  properties.each([(text, answer) for text in _EXCUSES], _no_excuse)


@pytest.mark.parametrize('text', math_pairs_found.SLOW_OR_FATAL)
def test_what_was_slow_or_fatal_is_judged(text):
  for box, answer in ((text, '(1,2)'), ('42', text), (text, f'{text} ')):
    for judge in (math.verify, math.explain, math.reference):
      verdict = judge(rf'</think>\boxed{{{box}}}', answer)
      assert verdict.detail.isascii()


@pytest.mark.parametrize(
  'name', [name for name, _ in hostile_math.HOSTILE_RESPONSES]
)
def test_hostile_response_is_judged(name):
  response = dict(hostile_math.HOSTILE_RESPONSES)[name]
  for reasons in (False, True):
    verdict = math.verify(response, '42', reasons=reasons)
    assert verdict.status in ('wrong', 'unparsed')


def test_after_them_the_pool_judges_on():
  verify = 'acereason_jax.verifiers.math:verify'
  # A worker's own limit is CPU time: 8 seconds, however busy the machine is.
  limit = 8.0 / len(os.sched_getaffinity(0))
  with VerifierPool(verify, dict(reasons=False), 2, limit) as pool:
    pool._timeout_seconds = 600.0
    hostile = [
      pool.submit(rf'\boxed{{{text}}}', r'\sqrt{2}')
      for _, text in hostile_math.HOSTILE
    ]
    ordinary = [
      pool.submit(rf'So \boxed{{{n}}}.', str(n + n % 2)) for n in range(1000)
    ]
    assert {f.result().status for f in hostile} <= {'wrong', 'unparsed'}
    found = [f.result().status for f in ordinary]
    assert found == ['right', 'wrong'] * 500
    assert pool.stats().restarts == 0


def test_code_in_answers_is_never_run(tmp_path):
  """Every text would create the file if anything evaluated it as Python."""
  path = tmp_path / 'evaluated'
  for name, template in hostile_math.CODE_EFFECTS:
    text = template.format(path=path)
    for answer in ('42', 'x+1', text):
      math.verify(rf'\boxed{{{text}}}', answer, reasons=False)
      math.verify(r'\boxed{42}', text, reasons=False)
      math.reference('', text)
    assert not os.path.exists(path), name
