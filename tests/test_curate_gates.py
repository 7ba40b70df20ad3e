"""Gates before patterns: what they let through, and that they hide nothing."""

import itertools
import re
import sys

import curate_statements as labelled
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acereason_jax.data.curate import (
  choices,
  claims,
  dialogues,
  figures,
  freedoms,
  gates,
  harnesses,
  keys,
  labels,
  languages,
  leaks,
  parts,
  several,
  statements,
)

MODULES = (
  *(choices, claims, dialogues, figures, freedoms, harnesses, labels, leaks),
  several,
)
GATED = {
  f'{module.__name__.rsplit(".", 1)[1]}.{name}{i or ""}': pattern
  for module in MODULES
  for name, value in vars(module).items()
  for i, pattern in enumerate(value if isinstance(value, tuple) else (value,))
  if isinstance(pattern, gates.Gated)
}
ALTERNATIVES = {
  f'{name} {i}': alternative
  for name, gated in GATED.items()
  for i, alternative in enumerate(gated.alternatives)
}
TEXTS = [s['problem'] for s in labelled.STATEMENTS]
# Signs that some pattern takes for a letter, if it ignores case.
OTHER_LETTERS = {
  's': '\N{LATIN SMALL LETTER LONG S}',
  'k': '\N{KELVIN SIGN}',
  'i': '\N{LATIN CAPITAL LETTER I WITH DOT ABOVE}',
  'I': '\N{LATIN SMALL LETTER DOTLESS I}',
}


@st.composite
def texts(draw):
  """Pieces of labelled statements, in several cases."""
  pieces = []
  for _ in range(draw(st.integers(1, 3))):
    whole = draw(st.sampled_from(TEXTS))
    start = draw(st.integers(0, len(whole)))
    pieces.append(whole[start : start + draw(st.integers(1, 300))])
  text = draw(st.sampled_from(['', ' ', '. ', '\n', ', '])).join(pieces)
  change = draw(st.sampled_from([str, str.upper, str.title, str.swapcase]))
  text = change(text)
  for letter in draw(st.sets(st.sampled_from(sorted(OTHER_LETTERS)))):
    text = text.replace(letter, OTHER_LETTERS[letter])
  return text


def test_all_gates_are_found():
  assert len(GATED) > 30
  assert len(ALTERNATIVES) > 250


@pytest.mark.parametrize('letter', 'abcdefghijklmnopqrstuvwxyz')
def test_small_letters_are_those_that_patterns_see(letter):
  pattern = re.compile(letter, re.IGNORECASE)
  every = map(chr, range(sys.maxunicode + 1))
  found = [c for c in every if pattern.fullmatch(c)]
  assert len(found) >= 2
  assert {gates.small(c) for c in found} == {letter}


@pytest.mark.parametrize(
  ('pattern', 'needs'),
  [
    ('figure', [[{'figure'}]]),
    ('Figures? [0-9]', [[{'figure ', 'figures '}]]),
    (r'\bthe (?:map|net)\b', [[{'the map', 'the net'}]]),
    (r'see [a-z]+ below', [[{' below'}, {'see '}]]),
    (r'(?:as )?shown', [[{'shown'}]]),
    (r'factori[sz]e', [[{'factorise', 'factorize'}]]),
    # A repeat of none needs nothing, one of some does.
    (r'(?:abc)*(?:def)+', [[{'def'}]]),
    (r'(?<!the )figure(?! 8)', [[{'figure'}]]),
    (r'proof|\(a\)', [[{'proof'}], [{'(a)'}]]),
    (r'[|(]a|b\|c', [[{'(a', '|a'}], [{'b|c'}]]),
    (r'[^|]xyz|[]|]end', [[{'xyz'}], [{']end', '|end'}]]),
    # One letter, and any sign, are no words.
    (r'a|[^b]|\d\d|.', [[], [], [], []]),
  ],
)
def test_words_of_patterns(pattern, needs):
  found = gates.needs(pattern)
  assert [[set(words) for words in some] for some in found] == needs


def test_a_pattern_without_words_is_always_tried():
  pattern = gates.Gated(r'proof|\d\d')
  assert pattern.search('it is 42', 'it is 42')[0] == '42'
  assert list(pattern.finditer('12 34', '12 34'))


def admitted(alternative, text):
  """Whether a text has the words that an alternative needs."""
  low = gates.small(text)
  return all(any(w in low for w in some) for some in alternative.clauses)


@settings(max_examples=300)
@given(data=st.data())
def test_a_gate_admits_what_its_pattern_matches(data):
  """Texts are made from the pattern itself."""
  name = data.draw(st.sampled_from(sorted(ALTERNATIVES)))
  alternative = ALTERNATIVES[name]
  text = data.draw(st.from_regex(alternative.pattern.pattern))
  # A look at what is before or after the text may fail with other flags.
  assert admitted(alternative, text) or not alternative.pattern.search(text)


@settings(max_examples=200)
@given(text=texts())
def test_gates_hide_nothing(text):
  for name, alternative in ALTERNATIVES.items():
    if not admitted(alternative, text):
      assert not alternative.pattern.search(text), name


@pytest.mark.parametrize('change', [str, str.upper])
def test_gates_hide_nothing_of_labelled_statements(change):
  matched = 0
  some = [change(statements.prepared(text).text) for text in TEXTS[::7]]
  for alternative, text in itertools.product(ALTERNATIVES.values(), some):
    if alternative.pattern.search(text):
      matched += 1
      assert admitted(alternative, text), (alternative, text)
  assert matched > 300


WORDS = st.sampled_from(
  ('judge', 'jury', 'Reply', ' will ', ' the ', 'any', 'of', ' them', '?', '.')
)

EACH = (
  r'\b(?:judge|jury) will reply',
  r'any(?: of them)?\b',
  r'(?:the )?reply\?',
)


@given(st.lists(WORDS, max_size=8).map(''.join))
def test_searches_behind_gates_find_what_plain_ones_do(text):
  gated, low = gates.Gated('|'.join(EACH)), gates.small(text)
  found = [m.span() for m in gated.finditer(text, low)]
  wanted = [
    m.span() for part in EACH for m in re.finditer(part, text, re.IGNORECASE)
  ]
  assert found == wanted
  match = gated.search(text, low)
  assert (match and match.span()) == (wanted[0] if wanted else None)
  assert gated.admits(low) or not wanted


def test_most_statements_are_not_tried():
  """A gate that lets all through saves nothing."""
  small = [gates.small(text) for text in TEXTS]
  for name in ('figures._URL', 'claims._PASSIVE', 'choices._OF_THE_ABOVE'):
    assert sum(map(GATED[name].admits, small)) < len(small) / 2, name


PIECES = st.lists(
  st.sampled_from(
    [
      *('(a)', '(b)', 'a)', 'b)', 'a.', 'b.', 'A.', 'B.', '1.', '2.', '(1)'),
      *('(2)', '1)', '2)', '(i)', '(ii)', 'i.', 'ii.', 'I.', 'II.', '[1]'),
      *('[2]', 'Part 1:', 'Part 2:', 'part (a)', 'part (b)', '$(1)$', '$(2)$'),
      *('Question 1 -', 'Question 2 -', 'q1.', 'Q2.', '01.', '02.', 'task a\n'),
      *('task b\n', '1:', '2:', ' ', '\n', '. ', ' find the sum', '$', '12.'),
      *(
        ' Find the area',
        ' of x',
        '? ',
        'Part 1 Find',
        'Part 2 Find',
        'Q. 2 $',
      ),
      *('First, find', 'Second, find', 'The second question asks: ', 'One: '),
      *('Two: ', '#1 ', '#2 ', '1/ Find', '2/ Find', 'a - Find', 'b - Find'),
      *('1.1. Find', '1.2. Find', '5.1 Find', '5.2 Find', 'I.1. A', 'I.2. A'),
      *('$1^\\circ$', '$2^\\circ$'),
      *('the first sub-question is ', 'the second sub-question is ', 'b.) '),
    ]
  ),
  min_size=2,
  max_size=9,
)


@settings(max_examples=1000)
@given(PIECES)
def test_statements_in_parts_have_a_second_label(pieces):
  text = statements.prepared(''.join(pieces)).text
  if parts._sequence(text):
    assert parts._has_second(gates.small(text))


@settings(max_examples=500)
@given(PIECES)
def test_options_have_a_second_one(pieces):
  text = statements.prepared(''.join(pieces)).text
  if choices._runs(text):
    assert choices._SECOND.search(gates.small(text))


@settings(max_examples=500)
@given(texts())
def test_plainly_english_is_surely_english(text):
  bare = languages._without_math(text)
  if languages._plainly_english(bare):
    words = languages._WORD.findall(languages.prose(text).lower())
    assert languages._surely_english(words)
    assert not languages._other_script(languages.prose(text))


@settings(max_examples=500)
@given(
  st.one_of(
    texts(),
    st.text(st.characters(max_codepoint=127), max_size=40),
    st.text("ab'1.2,3-x{} \t\n\x0b\x1f^_$\\", max_size=30),
  )
)
def test_ascii_has_the_tokens_that_other_text_has(text):
  """A sign of another script at the end leaves all other tokens."""
  more = f'{text} ; \u4e2d'
  assert keys.tokens(more) == [*keys.tokens(text), '\u4e2d']
  ascii_only = keys.folded(text)
  if ascii_only.isascii():
    assert keys._ASCII_SIGNIFICANT.findall(
      ascii_only
    ) == keys._SIGNIFICANT.findall(ascii_only)


@given(st.text(st.sampled_from('ab \n\t\r\u00a0\u2009\x0b\x1c.'), max_size=12))
def test_single_blanks(text):
  if statements.has_single_blanks(text):
    assert re.sub(r'[^\S\n]+', ' ', text) == text
