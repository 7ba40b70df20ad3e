r"""Responses from files, rounds of generation, and CHAMP's sentences."""

import importlib.util
import json
import pathlib
import shlex

import pyarrow
import pyarrow.parquet
import pytest
import tiny

from acereason_jax.data import rollouts
from acereason_jax.data.curate import champ, responses, rounds, values
from acereason_jax.data.curate import vote as vote_lib
from acereason_jax.verifiers import math


def row(name, problem):
  return values.Row(name, problem, '4')


ROWS = (
  row('a', 'What is 2 + 2?'),
  row('b', 'How many legs does a cat have?'),
  row('c', 'Find the square of two.'),
)


def lines(path, *records):
  path.write_text(''.join(json.dumps(r) + '\n' for r in records))
  return str(path)


def read(found):
  """What attempts say, wherever their texts are."""
  return {
    name: [(a.text, a.tokens, a.model) for a in each]
    for name, each in found.items()
  }


def rollout(name, index, text, **more):
  return dict(id=name, index=index, stop='stop', length=9, text=text) | more


def one_line(call, message):
  with pytest.raises(ValueError, match=message) as error:
    call()
  assert '\n' not in str(error.value)


# --- generate's lines -------------------------------------------------------


@pytest.fixture
def made(tmp_path):
  """(rollouts, prompts) as `generate` leaves them; texts are changed."""
  prompts = lines(
    tmp_path / 'prompts.jsonl',
    *(dict(id=r.id, problem=r.problem) for r in ROWS),
  )
  out = lines(
    tmp_path / 'out.jsonl',
    rollout('b', 1, 'b1'),
    rollout('a', 0, 'a0', length=3),
    rollout('b', 0, 'b0'),
    rollout('a', 1, '', stop='error', detail='too long'),
  )
  header = dict(prompts=responses.digest(prompts), model='ab', n=2)
  (tmp_path / 'out.jsonl.json').write_text(json.dumps(header))
  return out, prompts


def test_rollouts_are_attempts_in_the_order_of_their_indices(made):
  out, prompts = made
  key = rollouts.model_key(dict(model='ab'))
  for named in ('', prompts):
    found = read(responses.generated(out, ROWS, named))
    assert found == {
      'a': [('a0', 3, key), ('', 9, key)],
      'b': [('b0', 9, key), ('b1', 9, key)],
    }


def test_rollouts_of_other_prompts_are_refused(made, tmp_path):
  out, prompts = made
  other = [row(r.id, f'{r.problem} And why?') for r in ROWS]
  one_line(
    lambda: responses.generated(out, other, prompts),
    r'4 responses answer other questions .*out.jsonl:1: id .b. is .*And why',
  )
  lines(tmp_path / 'prompts.jsonl', dict(id='a', problem='What is 2 + 3?'))
  one_line(
    lambda: responses.generated(out, ROWS, prompts),
    r'other prompts: its .json names the digest [0-9a-f]{12}, and',
  )
  strangers = [row('x', 'Why?')]
  one_line(
    lambda: responses.generated(out, strangers), '4 responses, none to one'
  )


def test_rows_of_other_ids_are_found_by_their_questions(made, tmp_path):
  out, prompts = made
  renamed = [row(f'in-{r.id}', f' {r.problem}\n') for r in ROWS]
  found = read(responses.generated(out, renamed, prompts))
  assert found == {
    f'in-{name}': each
    for name, each in read(responses.generated(out, ROWS)).items()
  }
  one_line(lambda: responses.generated(out, renamed), 'none to one of the 3')
  (tmp_path / 'out.jsonl.json').unlink()
  assert responses.generated(out, renamed, prompts).keys() == found.keys()
  lines(tmp_path / 'prompts.jsonl', dict(id='a', problem=ROWS[0].problem))
  one_line(
    lambda: responses.generated(out, renamed, prompts),
    r"out.jsonl:1: id 'b' is not in .*prompts.jsonl",
  )


def test_a_label_makes_no_other_question(made):
  out, prompts = made
  labelled = [row(r.id, f'Problem 4.1:  {r.problem}') for r in ROWS]
  found = read(responses.generated(out, labelled, prompts))
  assert found == read(responses.generated(out, ROWS, prompts))


def test_a_file_that_changes_while_it_is_read(made):
  out, _ = made
  found = responses.generated(out, ROWS)
  with open(out, 'r+') as file:
    file.truncate(40)
  one_line(lambda: found['a'][0].text, 'was changed while it was read')


@pytest.mark.parametrize(
  'one, other, same',
  [
    ('What is 2 + 2?', ' What  is 2\n+ 2? ', True),
    ('12. What is 2 + 2?', 'What is 2 + 2?', True),
    ('What is 2 + 2?', 'What is 2 + 3?', False),
    ('What is 2 + 2?', '2?', False),
    ('What is 2 + 2?', '', False),
    ('What is 2 + 2?', 'What is 2 + 2? And 3?', False),
    ('Let x = 5. ' * 9 + 'What is x?', 'What is x?', False),
  ],
)
def test_questions_that_are_the_same(one, other, same):
  assert responses.is_same(one, other) == responses.is_same(other, one) == same


def test_damaged_files_of_generate(made, tmp_path):
  out, _ = made
  empty = lines(tmp_path / 'empty.jsonl')
  one_line(lambda: responses.generated(empty, ROWS), 'holds no responses')
  odd = lines(tmp_path / 'odd.jsonl', dict(id='a'))
  one_line(lambda: responses.generated(odd, ROWS), 'odd.jsonl:1: no rollout')
  for content in ('{', '[]', '[' * 100_000):
    (tmp_path / 'out.jsonl.json').write_text(content)
    one_line(lambda: responses.generated(out, ROWS), 'out.jsonl.json: ')
  (tmp_path / 'out.jsonl.json').unlink()
  assert responses.generated(out, ROWS)['a'][0].model == ''


# --- columns of another engine ----------------------------------------------

TABLE = [
  dict(key='1', q='What is 2 + 2?', said=['4', '5'], n=[7, 8]),
  dict(key='3', q='Find the square of two.', said=['4', None], n=[9, None]),
]
EXPECTED = {
  'a': [values.Attempt('4', 7, 'm'), values.Attempt('5', 8, 'm')],
  'c': [values.Attempt('4', 9, 'm'), values.Attempt('', None, 'm')],
}


@pytest.fixture(params=['jsonl', 'json', 'parquet'])
def table(request, tmp_path):
  path = tmp_path / f'table.{request.param}'
  if request.param == 'parquet':
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(TABLE), path)
  elif request.param == 'json':
    path.write_text(json.dumps(TABLE, indent=1))
  else:
    lines(path, *TABLE)
  return str(path)


def test_columns_by_the_question(table):
  read = lambda **named: responses.columns(
    table, ROWS, text='said', tokens='n', model='m', **named
  )
  assert read(question='q') == EXPECTED
  renamed = [
    values.Row(f'in-{i}', r.problem, '4') for i, r in enumerate(ROWS, 1)
  ]
  named = dict(id='key', prefix='in-', text='said', tokens='n', model='m')
  found = responses.columns(table, renamed, **named)
  assert [*found] == ['in-1', 'in-3']
  assert [*found.values()] == [*EXPECTED.values()]
  found = responses.columns(table, renamed, question='q', **named)
  assert [*found.values()] == [*EXPECTED.values()]
  swapped = [values.Row(r.id, 'Why?', '4') for r in renamed]
  one_line(
    lambda: responses.columns(table, swapped, question='q', **named),
    '4 responses answer other questions',
  )


@pytest.mark.parametrize(
  'named, message',
  [
    (dict(text='told', question='q'), "has no column 'told'; it has: 'key'"),
    (dict(text='said', id='key'), 'none to one of the 3 rows'),
    (dict(text='said'), "id='': name the column"),
    (dict(text='n', question='q'), "n must be a text or a list of texts|'7'"),
    (dict(text='said', question='q', tokens='q'), '2 responses in'),
    (dict(text='said', id='n'), 'n must be text, got'),
    (dict(text='key', question='q', tokens='q'), 'q must be a number'),
  ],
)
def test_columns_that_do_not_fit(tmp_path, named, message):
  path = lines(tmp_path / 't.jsonl', *TABLE)
  if named['text'] == 'n':
    # Digits are text where a file has them.
    assert responses.columns(path, ROWS, **named)['a'][0].text == '7'
    path = lines(tmp_path / 't.jsonl', dict(TABLE[0], n={'x': 1}))
  one_line(lambda: responses.columns(path, ROWS, **named), message)


def test_responses_that_are_one_a_line(tmp_path):
  records = [dict(id='a', text=t) for t in 'xyz']
  path = lines(tmp_path / 't.jsonl', *records)
  found = responses.columns(path, ROWS, id='id', text='text')
  assert [a.text for a in found['a']] == [*'xyz']


# --- rounds -----------------------------------------------------------------


def test_a_round_that_is_not_complete_is_asked_for_again(tmp_path):
  out = str(tmp_path)
  first = rounds.begin(out, ROWS[::-1], 4, {})
  assert (first.number, first.n) == (1, 4)
  asked = (tmp_path / 'prompts.jsonl').read_text()
  assert [json.loads(x)['id'] for x in asked.splitlines()] == [*'abc']
  assert asked == (tmp_path / f'{first.prompts}').read_text()
  done = [rollout(r.id, i, f'{r.id}{i}') for r in ROWS for i in range(4)]
  header = dict(prompts=responses.digest(first.prompts))
  with open(f'{first.rollouts}.json', 'w') as file:
    json.dump(header, file)
  with open(first.rollouts, 'w') as file:
    file.write(''.join(json.dumps(r) + '\n' for r in done[:11]))
  had = rounds.attempts(out, ROWS)
  assert [len(had[name]) for name in 'abc'] == [4, 4, 3]
  assert rounds.begin(out, ROWS[2:], 4, had) == first
  assert (tmp_path / 'prompts.jsonl').read_text() == asked
  with open(first.rollouts, 'a') as file:
    file.write(json.dumps(done[11]) + '\n')
  had = rounds.attempts(out, ROWS)
  second = rounds.begin(out, ROWS[1:2], 8, had)
  assert (second.number, second.n) == (2, 4)
  assert [*rounds.find(out)] == [first, second]
  with open(second.rollouts, 'w') as file:
    file.write(json.dumps(rollout('b', 0, 'more')) + '\n')
  with open(f'{second.rollouts}.json', 'w') as file:
    json.dump(dict(prompts=responses.digest(second.prompts)), file)
  had = rounds.attempts(out, ROWS)
  assert [a.text for a in had['b']] == ['b0', 'b1', 'b2', 'b3', 'more']
  # Rows that are gone need no responses.
  assert rounds.attempts(out, ROWS[:1]).keys() == {'a'}
  # Other rounds draw other responses.
  seeds = [
    word
    for each in (first, second)
    for word in rounds.command(each, 'm', {})
    if word.startswith('--seed')
  ]
  assert seeds == ['--seed=1', '--seed=2']


def asked_rows(asked):
  text = pathlib.Path(asked.prompts).read_text()
  return [json.loads(line) for line in text.splitlines()]


def fill(asked, text='so'):
  """Plays `generate`."""
  rows = asked_rows(asked)
  done = [rollout(r['id'], i, text) for r in rows for i in range(asked.n)]
  with open(asked.rollouts, 'w') as file:
    file.write(''.join(json.dumps(r) + '\n' for r in done))
  with open(f'{asked.rollouts}.json', 'w') as file:
    json.dump(dict(prompts=responses.digest(asked.prompts)), file)


def test_steps_may_change_a_question_before_it_is_asked(tmp_path):
  """The responses are the row's, however it was asked."""
  out, read = str(tmp_path), {r.id: r.problem for r in ROWS}
  asked = [row(r.id, f'Now: {r.problem.upper()} (a long story)') for r in ROWS]
  fill(rounds.begin(out, asked, 2, {}, read))
  assert {k: len(v) for k, v in rounds.attempts(out, ROWS).items()} == {
    **dict(a=2, b=2, c=2)
  }
  # A row that is another one now has none.
  other = (*ROWS[:2], row('c', 'Find the cube of two.'))
  one_line(
    lambda: rounds.attempts(out, other), "'c' is 'Find the cube of two.'"
  )


def test_a_round_that_nobody_began_is_written_anew(tmp_path):
  out = str(tmp_path)
  rounds.begin(out, ROWS, 4, {}, model='typo')
  asked = rounds.begin(out, ROWS[1:], 8, {}, model='m')
  assert (asked.number, asked.n) == (1, 8) and [*rounds.find(out)] == [asked]
  assert [r['id'] for r in asked_rows(asked)] == [*'bc']
  fill(asked)
  assert rounds.attempts(out, ROWS, 'm').keys() == {*'bc'}


def test_responses_of_another_model_are_not_mixed_in(tmp_path):
  out = str(tmp_path)
  fill(rounds.begin(out, ROWS, 4, {}, model='m'))
  found = [read(rounds.attempts(out, ROWS, name)) for name in ('', 'm')]
  assert found[0] == found[1] and found[0].keys() == {*'abc'}
  one_line(
    lambda: rounds.attempts(out, ROWS, 'n'),
    "holds responses of 'm', and config.model='n'; choose another",
  )


def test_the_command_of_a_round(tmp_path):
  asked = rounds.Round(1, f'{tmp_path}/a b', 4)
  command = rounds.command(
    asked, 'm', dict(max_tokens=9, stop=['x y', 'z'], tokens=True), seed=7
  )
  line = rounds.shown(command)
  assert shlex.split(line) == ['python', *command]
  assert command[:2] == ['-m', 'acereason_jax.generate']
  assert {'--seed=8', '--n=4', '--stop=x y', '--stop=z'} < {*command}
  assert '--tokens=true' in command
  for name in ('n', 'seed', 'out', 'prompts', 'model'):
    one_line(lambda n=name: rounds.command(asked, 'm', {n: 1}), f'{name}=1: a')


def test_a_round_that_is_damaged(tmp_path):
  asked = rounds.begin(str(tmp_path), ROWS, 4, {})
  with open(f'{asked.folder}/n.json', 'w') as file:
    file.write('many')
  one_line(lambda: [*rounds.find(str(tmp_path))], 'n.json: not a number')


def test_generate_fills_the_rounds(tmp_path, compiled, monkeypatch):
  """The real command: four responses, four more, then all is decided."""
  for name, value in tiny.environment(compiled).items():
    monkeypatch.setenv(name, value)
  model = tiny.write_model(tmp_path / 'model')
  out = str(tmp_path / 'out')
  flags = dict(max_tokens=6, temperature=1.0, slots=4, page=4, chunk=2)
  rows = [row(name, f'{i}+{i}?') for i, name in enumerate('ab')]
  step = vote_lib.vote(arguments=dict(reasons=False))

  def judge(component, pairs):
    return [math.verify(*pair, reasons=False) for pair in pairs]

  asked = []
  while True:
    had = rounds.attempts(out, rows)
    context = values.Context(0, (), had, judge, None, None, lambda name: True)
    try:
      fates = step.whole(rows, context)
      break
    except values.Missing as e:
      each = rounds.begin(out, e.rows, e.n, had)
      asked.append((each.number, each.n, e.n, len(e.rows)))
      assert rounds.run(rounds.command(each, str(model), flags))
  assert asked == [(1, 4, 4, 2), (2, 4, 8, 2)]
  assert [len(had[name]) for name in 'ab'] == [8, 8]
  texts = [a.text for a in had['a']]
  assert texts[:4] != texts[4:]
  (key,) = {a.model for each in had.values() for a in each}
  assert len(key) == 64
  assert [f.reason for f in fates] == ['unsolved'] * 2
  one_line(
    lambda: rounds.run(rounds.command(each, str(tmp_path / 'no'), flags)),
    'generate failed with status 1; its reason is above',
  )


# --- CHAMP ------------------------------------------------------------------

# Own sentences, of the kinds that models end with.
SENTENCES = [
  ('The number of ways to climb the stairs is 89.', '89'),
  ('There are 1,024 ways to colour the fence.', '1,024'),
  ('There are n(n+1)/2 handshakes among n + 1 guests.', 'n(n+1)/2'),
  ('The least value is 3, which occurs when x = y.', '3'),
  (r'The least value of \(x + y\) is \( \frac{7}{2} \).', r'\frac{7}{2}'),
  (r'The sum is $\boxed{\frac{1}{2}}$.', r'\frac{1}{2}'),
  ('The value of a that makes one root twice the other is a = -4.', 'a = -4'),
  ('The possible remainders of n^2 mod 8 are 0, 1, and 4.', '0, 1, 4'),
  ('No, such a polygon cannot exist.', 'No'),
  ('Yes, it can be done in 5 steps.', 'Yes'),
  ('At least two of the numbers must be even.', '2'),
  ('They can be seated in 5! ways.', '5!'),
  ('f(x) + f(1/x) = 2x.', '2x'),
  ('The chance is given by the formula 1/(n+1).', '1/(n+1)'),
  ('You need at least 12 weighings.', '12'),
  # It is not plain which value is meant, or there is none.
  ('There are no integer solutions to x^2 - 3y^2 = 17.', None),
  ('The sequence has no limit.', None),
  ('The answer depends on the parity of n.', None),
  ('It is impossible to say.', None),
  ('The sequence diverges to infinity.', None),
  ('', None),
]


@pytest.mark.parametrize('sentence, expected', SENTENCES)
def test_the_value_that_a_sentence_gives(sentence, expected):
  assert champ.value(sentence) == expected


@pytest.mark.parametrize('odd', ['is ', '= ', ', which ', ' and ', '\\(', '1'])
def test_long_sentences_end(odd):
  champ.value(odd * 100_000)
  champ.value('x ' + odd * 700 + '!')


def test_references_of_champ():
  assert champ.reference('7 is the only possible value') == '7'
  assert champ.reference('100 (i.e., all values)') == '100'
  assert champ.reference('The limit exists and is equal to 2/3') == '2/3'
  assert champ.reference('2x + 1') == '2x + 1'


def conversation(*told):
  return [dict(role='User', text='?', error=None)] + [
    dict(role='Model.m', text=text, error=None) for text in told
  ]


def test_rows_and_responses_of_champ(monkeypatch):
  problems = dict(
    P_1=dict(
      _text='What is 2 + 2?',
      _answer='4 is the only possible value',
      conversations={
        'm|0': dict(messages=conversation('2 + 2 = 4', 'The sum is 4.')),
        'm|1': dict(messages=conversation('It is late.', 'Nobody knows.')),
        'm|2': dict(messages=conversation(None, None)),
        'other|0': dict(messages=conversation('', 'The sum is 5.')),
      },
    )
  )
  monkeypatch.setattr(champ, '_problems', lambda: problems)
  (found,) = champ.rows()
  assert (found.id, found.answer) == ('P_1', '4')
  told = champ.responses([found], 'm')['P_1']
  statuses = [
    math.verify(a.text, found.answer, reasons=False).status
    for a in told
    if a.text
  ]
  assert statuses == ['right', 'unparsed'] and told[2].text == ''
  assert {a.model for a in told} == {'m'}
  assert len(champ.responses([found], 'other')['P_1']) == 1
  one_line(lambda: champ.responses([found], 'x'), 'has responses of m, other')


def test_champ_as_it_is_installed():
  if importlib.util.find_spec('champ_dataset') is None:
    one_line(champ.rows, 'pip install champ-dataset==1.0.0')
    pytest.skip('champ-dataset is not installed')
  rows = champ.rows()
  assert len(rows) == 270
  found = champ.responses(rows)
  assert {len(each) for each in found.values()} == {18}
