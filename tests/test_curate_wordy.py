"""Words that patterns cannot do without, next to the patterns themselves."""

import itertools
import re

import curate_statements as labelled
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acereason_jax.data.curate import (
  choices,
  claims,
  dialogues,
  figures,
  freedoms,
  harnesses,
  several,
  statements,
  wordy,
)

MODULES = (
  *(choices, claims, dialogues, figures, freedoms, harnesses, several),
)


def gates_in(value):
  """All gates in a module's constant, which may nest them."""
  if isinstance(value, wordy.Gate):
    return [value]
  if isinstance(value, tuple):
    return [gate for part in value for gate in gates_in(part)]
  return []


GATES = [
  gate
  for module in MODULES
  for value in vars(module).values()
  for gate in gates_in(value)
]
TEXTS = [
  statements.prepared(s['problem']).text for s in labelled.STATEMENTS[::7]
]


@pytest.mark.parametrize(
  'pattern, wanted',
  [
    ('judge', {('judge',)}),
    ('(?:judge|jury) will', {('judge', 'jury'), (' will',), ('dge', 'ry')}),
    ('ab|cd', {('ab', 'cd')}),
    # A class of characters has no words.
    ('a|b', set()),
    ('(?:one )?two', {('two',)}),
    (r'\bJudge\b[^.]{0,9}REPLY', {('judge',), ('reply',)}),
    ('x*', set()),
    ('(?:no|x?)', set()),
    ('(?:see ){2,3}it', {('see ',), ('it',)}),
    ('figures?', {('figure',)}),
    ('[ab]c', {('c',)}),
    (r'(?!not )any(?= of)', {('any',)}),
  ],
)
def test_words_of_a_pattern(pattern, wanted):
  found = wordy.needs(pattern)
  assert {tuple(sorted(group)) for group in found} == wanted


@pytest.mark.parametrize(
  'pattern, wanted',
  [
    ('a|b', ['a', 'b']),
    ('a(?:b|c)|d', ['a(?:b|c)', 'd']),
    (r'[|]|\||[^|]|[]|]|[^]|]', ['[|]', r'\|', '[^|]', '[]|]', '[^]|]']),
    (r'[\]|]|\(|\[a', [r'[\]|]', r'\(', r'\[a']),
    ('', ['']),
  ],
)
def test_alternatives_of_a_pattern(pattern, wanted):
  assert wordy.branches(pattern) == wanted


def test_a_text_that_a_pattern_matches_has_its_words():
  """For 545 texts of labelled statements and all patterns of the rules."""
  assert len(GATES) > 150
  matched = 0
  for gate, text in itertools.product(GATES, TEXTS):
    if gate.pattern.search(text):
      matched += 1
      low = text.lower()
      assert all(any(w in low for w in group) for group in gate.needs), gate
  assert matched > 300


WORDS = st.sampled_from(
  ('judge', 'jury', 'Reply', ' will ', ' the ', 'any', 'of', ' them', '?', '.')
)


@given(st.lists(WORDS, max_size=8).map(''.join))
def test_a_search_behind_gates_is_a_search(text):
  pattern = r'\b(?:judge|jury) will reply|any(?: of them)?\b|(?:the )?reply\?'
  gated = wordy.gates(pattern)
  plain = re.compile(pattern, re.IGNORECASE).search(text)
  found = wordy.search(gated, text, text.lower())
  assert (found is None) == (plain is None)
  spans = {m.span() for m in wordy.found(gated, text, text.lower())}
  assert plain is None or plain.start() in {start for start, _ in spans}


def test_words_of_several_gates():
  one, other = wordy.gates('judge|jury'), wordy.gates('judges|any')
  assert set(wordy.words(one, other)) == {'judge', 'jury', 'any'}
  assert wordy.words(one, wordy.gates('x*')) == ('',)
