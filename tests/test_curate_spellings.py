"""Spellings of one problem that keys and rules must see through."""
# ruff: noqa: RUF001

import re

import pytest

from acereason_jax.data.curate import keys, near, overlap, values

ITEM = (
  'A rope of $1{,}200$ cm is cut at $\\frac{1}{4}$ of its length, and the '
  'angle $\\varphi \\leq 2\\pi$ of triangle ABC is $x^2$. Find $x$.'
)
# Too short for an n-gram of nine tokens.
SHORT = 'Write $\\frac{7}{40}$ as a decimal.'
WAYS = {
  'entities': lambda t: t.replace(' ', '&nbsp;').replace('<', '&lt;'),
  'tags': lambda t: '<p class="x">' + t.replace(' ', '</b> <i>') + '</p>',
  'zero width': lambda t: '\u200b'.join(t),
  'soft hyphens': lambda t: re.sub(r'(\w\w)(\w\w)', '\\1\u00ad\\2', t),
  'cyrillic': lambda t: t.translate(str.maketrans('aeocxABC', 'аеосхАВС')),
  'full width': lambda t: ''.join(
    chr(ord(c) + 0xFEE0) if '!' <= c <= '~' else c for c in t
  ),
  'accents': lambda t: t.replace('e', 'é').replace('n', 'ñ'),
  'signs': lambda t: (
    t.replace('\\varphi', 'φ')
    .replace('\\leq', '≤')
    .replace('\\pi', 'π')
    .replace('^2', '²')
  ),
  'slash': lambda t: re.sub(r'\\frac\{(\d+)\}\{(\d+)\}', r'\1/\2', t),
  'instruction': lambda t: (
    f'{t} Please reason step by step, and put your '
    'final answer within \\boxed{}.'
  ),
}


def reasons(*problems):
  items = [
    values.Item('a', f'{i}', text) for i, text in enumerate((ITEM, SHORT))
  ]
  context = values.Context(0, items, {}, None, None, None, None)
  rows = [values.Row(f'{i}', p, '0') for i, p in enumerate(problems)]
  return [f.reason for f in overlap.contaminated().whole(rows, context)]


@pytest.mark.parametrize('way', WAYS)
def test_an_item_in_another_spelling_is_found(way):
  assert all(reasons(WAYS[way](ITEM), WAYS[way](SHORT)))


def test_a_very_short_item_is_found_with_an_instruction():
  items = [values.Item('a', '0', 'Simplify $\\sqrt{242}$.')]
  context = values.Context(0, items, {}, None, None, None, None)
  row = values.Row('0', WAYS['instruction'](items[0].text), '0')
  (fate,) = overlap.contaminated().whole([row], context)
  assert fate.kind == values.DROPPED


@pytest.mark.parametrize(
  ('one', 'other'),
  [
    ('$1{,}200$ cm', '1,200 cm'),
    ('1\\,200', '1\\,200'),
    ('$\\alpha \\leq \\varphi$', 'α ≤ ϕ'),
    ('$x^2$', 'x²'),
    ('triangle ABC', 'triangle АВС'),
    ('<b>Find</b> x &lt; 3', 'Find $x < 3$'),
    ("f'(x)", 'f’(x)'),
  ],
)
def test_one_key(one, other):
  assert keys.key(f'What is {one}?') == keys.key(f'What is {other}?')


@pytest.mark.parametrize(
  ('one', 'other'),
  [
    ("f'(3)", 'f(3)'),
    ("y'' + y", "y' + y"),
    ('x ≠ 3', 'x = 3'),
    ('a<b', 'a>b'),
    ('x ∉ A', 'x ∈ A'),
    ('1.5', '15'),
  ],
)
def test_two_keys(one, other):
  assert keys.key(f'What is {one}?') != keys.key(f'What is {other}?')


TALE = (
  'Anna has {} apples and her brother has five pears, and they share all of '
  'them with the {} neighbour on a sunny day in the garden behind their house. '
  'How many fruits does {} get in the end, and what does it say about ${}$?'
)
USUAL = ('three', 'oldest', 'he', 'x')


@pytest.mark.parametrize(
  ('place', 'word', 'same'),
  [
    (0, 'seven', False),
    (0, 'no', False),
    (2, 'twice he', False),
    (3, 'y', False),
    (3, "x'", False),
    (2, 'everyone', True),
    (1, 'nice', True),
  ],
)
def test_words_that_make_another_problem(place, word, same):
  changed = list(USUAL)
  changed[place] = word
  pair = TALE.format(*USUAL), TALE.format(*changed)
  assert near.alike(*pair, 0.8) == same
  assert bool(near.groups(pair, 0.8)) == same
