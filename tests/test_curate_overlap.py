"""No row is like a problem of a benchmark: what is found, and what is not."""

import json
import os
import random
import subprocess
import sys

import hypothesis
import properties
import pytest
from hypothesis import strategies

from acereason_jax.data.curate import index, keys, overlap, respelled, values
from benchmarks import curate_rows

N = 9


def items(*texts, name='a'):
  return [values.Item(name, f'{i}', text) for i, text in enumerate(texts)]


def context(some):
  return values.Context(0, some, {}, None, None, None, None)


def fates(some, *problems, **arguments):
  step = overlap.contaminated(**arguments)
  rows = [values.Row(f'{i:06}', p, '0') for i, p in enumerate(problems)]
  return step.whole(rows, context(some))


def reasons(some, *problems, **arguments):
  return [fate.reason for fate in fates(some, *problems, **arguments)]


@pytest.fixture(scope='module')
def planted():
  """(way, tokens of the item, fate) of 2,000 copies among other rows."""
  some = items(*curate_rows.invented(250, seed=1))
  copies = [
    (way, len(keys.tokens(item.text)), change(item.text))
    for item in some
    for way, change in curate_rows.WAYS.items()
  ]
  others = curate_rows.recombined(
    curate_rows.invented(500, seed=2), 4000, 310, seed=3
  )
  found = fates(some, *(copy for *_, copy in copies), *others)
  return [
    (way, size, fate) for (way, size, _), fate in zip(copies, found[:2000])
  ]


@pytest.mark.parametrize('way', curate_rows.WAYS)
def test_planted_copies_are_found(planted, way):
  mine = [(size, fate) for w, size, fate in planted if w == way]
  assert len(mine) == 250
  assert sum(size < N for size, _ in mine) > 10
  missed = [(size, fate) for size, fate in mine if fate.kind != values.DROPPED]
  if way != 'one word changed':
    assert not missed
  else:
    assert len(missed) <= 0.03 * len(mine)
    assert all(size < 2 * N for size, _ in missed)


def test_random_words_are_no_copies():
  some = items(*curate_rows.invented(250, seed=1))
  words = sorted({w for item in some for w in keys.tokens(item.text)})
  draw = random.Random(0)
  rows = [
    ' '.join(draw.choices(words, k=draw.randint(5, 80))) for _ in range(5000)
  ]
  assert set(reasons(some, *rows)) == {''}


LONG = 'Nine purple foxes and seven grey owls share a den near the old canal.'


def test_evidence_names_the_item_and_the_words():
  row = f'Once more: {LONG} How many legs are there?'
  (fate,) = fates(items('Another one.', LONG, name='zoo'), row)
  assert (fate.kind, fate.reason, fate.row.problem) == (
    *(values.DROPPED, 'n-gram'),
    row,
  )
  assert fate.evidence == {
    **{'benchmark': 'zoo', 'item': '1'},
    'words': 'nine purple foxes and seven grey owls share a',
  }


def test_eight_words_are_not_nine():
  shared = keys.tokens('red blue green amber violet white black brown teal')
  item = ' '.join(shared) + ' and a long tail of other words after it'
  row = 'here are some words before {} plus others that follow them'
  for n in (8, 9, 10):
    for size in (7, 8, 9):
      found = reasons(items(item), row.format(' '.join(shared[:size])), n=n)
      assert found == (['n-gram'] if size >= n else [''])


PHRASE = 'where m and n are relatively prime positive integers find their sum'
HEADS = (
  'A frog leaps over stones and stops at the distance m by n, ',
  'The chance that two lamps burn at once is the fraction m by n, ',
  'Six cubes are glued and the share of hidden faces is m by n, ',
  'Rain fills a cone of glass up to the height m by n, ',
)


@pytest.mark.parametrize('count, dropped', [(1, True), (2, True), (3, False)])
def test_what_three_items_share_is_boilerplate(count, dropped):
  some = items(*(head + PHRASE for head in HEADS[:count]))
  row = 'Tiles cover the floor of a hall in the proportion m to k, ' + PHRASE
  assert reasons(some, row) == (['n-gram'] if dropped else [''])


def test_boilerplate_counts_if_it_covers_half_of_an_item():
  # 11 of 18 tokens.
  short = 'We roll many dice at once here, ' + PHRASE
  some = items(*(head + PHRASE for head in HEADS), short)
  row = f'Tiles of two colours cover a hall. {PHRASE}'
  (fate,) = fates(some, row)
  assert (fate.reason, fate.evidence['item']) == ('half an item', '4')
  # The items are found although each has only its head for itself.
  assert reasons(some, *(head + PHRASE for head in HEADS)) == [
    'same tokens'
  ] * len(HEADS)


def test_an_item_twice_makes_no_boilerplate():
  text = (
    f'{LONG} They sleep all day and hunt at night. How many legs are there?'
  )
  words = ' '.join(LONG.split()[:10])
  copies = (text, text.upper(), text + '!')
  assert reasons(items(*copies), f'Look: {words}!') == ['n-gram']
  lists = [i for name in 'abc' for i in items(*copies, name=name)]
  assert reasons(lists, f'Look: {words}!') == ['n-gram']


def test_short_items():
  some = items('How many owls share one den?', 'Two foxes?', 'Evaluate 2 + 3.')
  assert reasons(
    some,
    # From five tokens on, anywhere.
    'In a wood near here, how many owls share one den if three have left?',
    'How many owls share a den?',
    # Below that, only as the whole row.
    'two   Foxes',
    'Problem 3. Two foxes?',
    'Two foxes meet.',
    '$2 + 3$',
    'evaluate $2+3$',
  ) == [
    *('short item', 'one other word', 'same tokens', 'same tokens', '', ''),
    'same tokens',
  ]


def test_a_short_item_that_others_contain_is_boilerplate():
  short = 'Find the value of x.'
  rest = ('if 3x = 12', 'such that x + 2 = 9', 'where x is even and below 4')
  others = [f'Find the value of $x$ {r} in this figure.' for r in rest]
  row = 'Two lamps burn for x hours. Find the value of x in minutes.'
  assert reasons(items(short, *others[:2]), row) == ['short item']
  assert reasons(items(short, *others), row) == ['']
  assert reasons(items(short, *others), short) == ['same tokens']
  # Benchmarks that are added make nothing boilerplate.
  later = [*items(short, name='a'), *items(*others, name='b')]
  assert reasons(later, row) == ['short item']


def test_four_tokens_are_searched_for_as_a_whole_row():
  some = items('How many grey owls?')
  assert reasons(
    some, 'So how many grey owls are there?', 'how many GREY owls'
  ) == [*('', 'same tokens')]


def test_other_numbers_are_other_problems():
  some = items(
    'What is 3 + 5?',
    'Compute the sum of 12 + 3',
    'Find the remainder of 47 when divided by 6.',
    'Find the sum of 7 and 16.',
  )
  assert (
    reasons(
      some,
      *('What is 3 + 6?', 'What is 3 + 56?', 'What is 3?'),
      *('Compute the sum of 1 + 23', 'Compute the sum of 1 + 2 + 3'),
      'Find the remainder of 48 when divided by 6.',
      'Find the sum of 7 and 1',
    )
    == [''] * 7
  )


def test_beginnings_of_short_items():
  some = items('Write the decimal form of the fraction $\\frac{7}{16}$.')
  assert reasons(
    some,
    'Write the decimal form of the',
    # The last word is cut.
    'Write the decimal form of the frac',
    'Write the decimal form of the fraction $\\frac{7}{1',
    # Nothing is left of its 1.
    'Write the decimal form of $\\frac{7}{1',
    # Nothing is asked.
    'Write the',
    # Another end.
    'Write the decimal form of five',
    'Write a decimal',
  ) == ['part of an item'] * 2 + ['n-gram', '', 'part of an item', '', '']


def test_other_blanks_and_lost_signs():
  item = (
    'In triangle $ABC$ let $\\left(BM\\right)$ meet $AC$ in $\\dfrac{1}{2}AM$.'
    ' Find $\\angle{MBC}$ if $\\tan\\theta = \\sqrt{12.5}$.'
  )
  spaced = (
    'In triangle $A B C$ let $( B M )$ meet $A C$ in $\\frac { 1 } { 2 } A M$.'
    ' Find $\\angle { M B C }$ if $\\tan \\theta = \\sqrt { 12.5 }$.'
  )
  bare = ''.join(c for c in item if c.isalnum() or c == ' ')
  assert reasons(items(item), spaced, bare) == [respelled.RULE] * 2
  assert reasons(items(item), spaced.replace('12.5', '13.5')[:80]) == ['']


def test_half_of_the_letters_of_an_item():
  letters = 'abcdefghijklmnopqrstuvwxyz' * 8
  draw = random.Random(1)
  item = ''.join(draw.choices(letters, k=200))
  spread = ' '.join(item)
  for share, expected in ((0.9, respelled.RULE), (0.3, '')):
    size = int(share * len(spread))
    assert reasons(items(item), f'{spread[:size]} and more') == [expected]


@pytest.mark.parametrize(
  'parts, wholes, expected',
  [
    (['12', '3'], ['123'], True),
    (['1', '23'], ['12', '3'], False),
    (['1', '2', '3'], ['12', '3'], True),
    (['1', '2'], ['1'], False),
    (['1'], ['1', '2'], False),
    ([], [], True),
  ],
)
def test_numbers_may_only_lose_what_is_between_them(parts, wholes, expected):
  # 12 + 3 without signs is 123, and so is 1 + 23.
  item = ' + '.join(['Calculate this sum of', *parts])
  row = ' '.join(['Calculatethissumof', *wholes])
  assert (reasons(items(item), row) == [respelled.RULE]) == expected


words = strategies.lists(
  strategies.sampled_from('abc'), min_size=1, max_size=14
).map(' '.join)
some_words = strategies.lists(words, min_size=1, max_size=6)


@properties.tried(200)
@hypothesis.given(some_words, some_words)
def test_the_n_gram_rule_is_that_of_brute_force(texts, rows):
  n, shared = 5, 3
  distinct = {tuple(t.split()) for t in texts}

  def has(tokens, gram):
    return any(tokens[i : i + n] == gram for i in range(len(tokens)))

  found = fates(items(*texts), *rows, n=n, shared=shared)
  for fate in found:
    tokens = tuple(fate.row.problem.split())
    grams = [tokens[i : i + n] for i in range(len(tokens) - n + 1)]
    counts = [sum(has(item, gram) for item in distinct) for gram in grams]
    if any(0 < count < shared for count in counts):
      assert fate.reason in ('n-gram', 'same tokens')
    else:
      assert fate.reason != 'n-gram'
    if not any(counts):
      assert fate.reason != 'half an item'


@properties.tried(200)
@hypothesis.given(some_words, some_words, some_words, strategies.randoms())
def test_another_benchmark_adds_no_rows_and_order_is_nothing(
  texts, more, rows, draw
):
  first = items(*texts, name='a')
  both = [*first, *items(*more, name='b')]

  def kept(some):
    found = fates(some, *rows, n=7)
    return {f.row.id for f in found if f.kind == values.KEPT}

  assert kept(both) <= kept(first)
  # Nor does one that is put before others, by its place or its name.
  assert kept([*items(*more, name='b'), *first]) == kept(both)
  assert kept([*items(*more, name='A'), *first]) <= kept(first)
  turned = overlap.contaminated(n=7).whole(
    [values.Row(f'{i}', row, '0') for i, row in enumerate(rows)],
    context([*both[len(first) :], *first]),
  )
  step = overlap.contaminated(n=7)
  ordered = [values.Row(f'{i}', row, '0') for i, row in enumerate(rows)]
  mixed = draw.sample(ordered, len(ordered))
  told = {f.row.id: f for f in step.whole(mixed, context(both))}
  assert step.whole(ordered, context(both)) == [told[r.id] for r in ordered]
  assert turned == [told[r.id] for r in ordered]


SCRIPT = """
import json, sys
sys.path.insert(0, 'tests')
import test_curate_overlap as tests
from benchmarks import curate_rows
some = tests.items(*curate_rows.invented(60, seed=1))
rows = [way(i.text) for i in some for way in curate_rows.WAYS.values()]
found = tests.fates(some, *rows, *curate_rows.invented(100, seed=5))
print(json.dumps([[f.kind, f.reason, dict(f.evidence)] for f in found]))
"""


def test_processes_agree_to_the_letter():
  outputs = [
    subprocess.run(
      [sys.executable, '-c', SCRIPT],
      env=os.environ | {'PYTHONHASHSEED': seed},
      **dict(check=True, capture_output=True, text=True),
    ).stdout
    for seed in ('1', '2')
  ]
  assert outputs[0] == outputs[1]
  assert len(json.loads(outputs[0])) == 580


@pytest.mark.parametrize(
  'text',
  [
    *('', '$+$', '\0', '\ud800', '(' * 200_000, '1.' * 100_000),
    *(' ' * 200_000, '\n' * 200_000, 'a ' * 100_000, 'ab' * 100_000),
    *('\u4e2d\u6587' * 1000, '\\frac' * 50_000, '$' + '9' * 200_000),
  ],
  ids=lambda text: f'{text[:8]!a}-{len(text)}',
)
@pytest.mark.parametrize('code', [False, True])
def test_hostile_rows_and_items_have_a_fate(text, code):
  some = [*items(text, LONG), *items('Two foxes?', name='b')]
  found = fates(some, text, LONG, 'Nothing of all this.', code=code)
  searchable = bool(keys.tokens(text))
  assert [f.kind for f in found] == [
    values.DROPPED if searchable else values.KEPT,
    *(values.DROPPED, values.KEPT),
  ]
  assert len(json.dumps(dict(found[0].evidence))) < 5000


def test_items_that_no_rule_can_find_are_told():
  some = items('$+$', 'Two foxes?', '...')
  assert [item.id for item in overlap.unsearchable(some)] == ['0', '2']
  assert reasons(some, '$+$', '...') == ['', '']
  assert reasons([], 'Two foxes?') == ['']


@pytest.mark.parametrize(
  'arguments, message', [(dict(n=4), 'n=4'), (dict(shared=1), 'shared=1')]
)
def test_arguments_out_of_range_are_one_line(arguments, message):
  with pytest.raises(ValueError, match=message) as caught:
    overlap.contaminated(**arguments)
  assert '\n' not in str(caught.value)


def test_runs_are_all_windows():
  assert [*index.runs('abcd', 3)] == [('a', 'b', 'c'), ('b', 'c', 'd')]
  assert [*index.runs('ab', 3)] == []
