"""Which rows a run leaves out; the whole command is in test_train.py."""

import concurrent.futures
import json
import threading

import jax
import numpy as np
import pytest
from jax.experimental import multihost_utils

from acereason_jax import types
from acereason_jax.data import references, sources
from acereason_jax.verifiers.pool import pool as pool_lib
from benchmarks import references as checked

GUARD = 120.0
DIGESTS = dict(train_data='a', heldout_data='b')


class Pool:
  """Answers made of digits are right; `asked` are all, in order."""

  def __init__(self):
    self.asked = []

  def as_completed(self, tasks):
    for key, response, answer in tasks:
      assert response == ''
      self.asked.append(answer)
      good = answer.isdigit()
      yield key, types.Verdict('right' if good else 'error', 'no number', 0.0)


def rows(name, *pairs):
  tokens = np.zeros(1, np.int32)
  return [
    types.Prompt(f'{name}-{i}', question, answer, tokens)
    for i, (question, answer) in enumerate(pairs)
  ]


def prompts(train, heldout):
  return dict(train_data=rows('t', *train), heldout_data=rows('h', *heldout))


def found(given, pool):
  dropped = references.find(given, DIGESTS, pool)
  return [(d.id, d.reason) for d in dropped]


def test_rows_whose_reference_is_not_right_are_dropped_from_both():
  given = prompts(
    [('1', '1'), ('2', '\\frac{'), ('3', '3'), ('4', '')],
    [('5', '5'), ('6', '1/0')],
  )
  bad = 'error: no number'
  assert found(given, Pool()) == [('t-1', bad), ('t-3', bad), ('h-1', bad)]


def test_an_answer_is_asked_for_once():
  pool = Pool()
  train = [(str(i), str(i % 3)) for i in range(30)]
  assert found(prompts(train, [('q', '1')]), pool) == []
  assert sorted(pool.asked) == ['0', '1', '2']


def test_without_a_judge_references_are_taken_as_they_are():
  assert found(prompts([('1', 'one')], [('2', '')]), None) == []


def test_a_question_that_is_held_out_is_not_trained_on():
  given = prompts(
    [('1+1?', '2'), ('1+2?', '3'), ('2+2?', '4')], [('1+2?', '3'), ('9?', '9')]
  )
  expected = [('t-1', 'its question is in heldout_data')]
  assert found(given, Pool()) == expected
  assert found(given, None) == expected


@pytest.mark.parametrize(
  'train, heldout, words',
  [
    ([('1', 'x'), ('2', 'y')], [('3', '3')], r"train_data: all 2 .*t-0.*'x'"),
    ([('1', '1')], [('2', '\x1b[2J')], r'heldout_data: all 1 .*reference'),
    ([('1', '1')], [('1', '1')], r'train_data: all 1 .* other questions'),
  ],
)
def test_no_row_left_is_one_line(train, heldout, words):
  with pytest.raises(ValueError, match=r'config\.' + words) as e:
    found(prompts(train, heldout), Pool())
  assert str(e.value).isprintable()


def test_what_is_left_by_id():
  given = prompts([('1', '1'), ('2', 'x'), ('3', '3')], [('4', '4')])
  gone = references.ids(references.find(given, DIGESTS, Pool()))
  assert gone == dict(train_data=['t-1'], heldout_data=[])
  left = references.without(given, json.loads(json.dumps(gone)))
  assert [p.id for p in left['train_data']] == ['t-0', 't-2']
  assert [p.id for p in left['heldout_data']] == ['h-0']


def test_what_was_dropped_is_said_and_listed(tmp_path):
  train = [(f'q{i}', 'x\x1b[2J') for i in range(6)] + [('h?', '1'), ('r', '1')]
  given = prompts(train, [('h?', '1')])
  dropped = references.find(given, DIGESTS, Pool())
  file = tmp_path / 'dropped.jsonl'
  assert references.report(given, dropped, file) == [
    f'train_data: dropped 1 of 8 rows whose question is in heldout_data: t-6; '
    f'all in {file}',
    'train_data: dropped 6 of 8 rows whose reference the judge cannot read: '
    f't-0, t-1, t-2, t-3, t-4, ...; all in {file}',
  ]
  references.write(dropped, file)
  lines = file.read_text().splitlines()
  assert len(lines) == 7
  assert json.loads(lines[0]) == dict(
    source='train_data', id='t-0', answer='x\x1b[2J', reason='error: no number'
  )
  references.write([], file)
  assert not file.exists()


def test_timeouts_are_told_apart(tmp_path):
  given = prompts([('1', 'x'), ('2', 'y'), ('3', '3')], [('4', '4')])
  dropped = [
    references.Dropped('train_data', 't-0', 'x', 'timeout: over 5 s'),
    references.Dropped('train_data', 't-1', 'y', 'error: no number'),
  ]
  (line,) = references.report(given, dropped, tmp_path)
  assert '2 of 3 rows' in line and 'cannot read (1 by timeout): t-0' in line


def test_names_are_escaped():
  assert references.first_few(['a\x1b[2J', 'b\nc']) == 'a\\x1b[2J, b\\nc'


def test_a_reference_that_hangs_is_dropped_as_a_timeout():
  with pool_lib.VerifierPool('tiny_judge:reference', {}, 1, 0.3) as pool:
    failed = references.unreadable(['hang'], pool)
  assert list(failed) == ['hang'] and failed['hang'].startswith('timeout: ')


@pytest.mark.parametrize('answer', ['\\frac{', '', ' ', '1/0', '\\frac{1}{0}'])
def test_the_math_judge_refuses(answer):
  fn = 'acereason_jax.verifiers.math:reference'
  with pool_lib.VerifierPool(fn, {}, 1, GUARD) as pool:
    failed = references.unreadable([answer, '\\frac{1}{2}', 'x^2+1'], pool)
  assert list(failed) == [answer]


def play(monkeypatch, count, given):
  """The findings of every process of a run; here they are threads."""
  local = threading.local()
  barrier = threading.Barrier(count, timeout=GUARD)
  slots = [None] * count

  def allgather(x):
    slots[local.index] = x
    barrier.wait()
    every = np.stack(slots)
    barrier.wait()
    return every

  def process(index):
    local.index = index
    mine = given(index)
    digests = DIGESTS | dict(train_data=mine['train_data'][0].answer)
    return references.find(mine, digests, Pool())

  monkeypatch.setattr(jax, 'process_count', lambda: count)
  monkeypatch.setattr(jax, 'process_index', lambda: local.index)
  monkeypatch.setattr(multihost_utils, 'process_allgather', allgather)
  with concurrent.futures.ThreadPoolExecutor(count) as threads:
    return list(threads.map(process, range(count)))


def test_every_process_drops_the_same(monkeypatch):
  train = [(str(i), str(i) if i % 3 else f'bad {i}') for i in range(1, 12)]
  given = prompts(train, [('h', 'bad')])
  given['heldout_data'] += rows('g', ('x', '1'))
  alone = references.find(given, DIGESTS, Pool())
  assert len(alone) == 4
  results = play(monkeypatch, 3, lambda i: given)
  assert results == [alone] * 3


def test_processes_that_read_other_rows_are_told(monkeypatch):
  given = lambda i: prompts([(f'{i}', f'{i}')], [('h', '7')])
  with pytest.raises(ValueError, match=r'config\.train_data: processes read'):
    play(monkeypatch, 2, given)


def test_the_digest_is_of_all_that_a_row_holds_and_of_their_order():
  a, b = sources.Row('a', 'q', '1'), sources.Row('b', 'r', '2')
  others = [
    [a, b],
    [b, a],
    [a],
    [a, sources.Row('c', 'r', '2')],
    [a, sources.Row('b', 's', '2')],
    [a, sources.Row('b', 'r', '3')],
    [a, sources.Row('b', 'r2', '')],
  ]
  assert len({sources.digest(rows) for rows in others}) == len(others)
  assert sources.digest([a, b]) == sources.digest(iter([a, b]))


def test_a_file_of_references(tmp_path):
  lines = tmp_path / 'rows.jsonl'
  lines.write_text('{"answer": "so 2 + 3\\n#### 5"}\n\n{"answer": 7}\n')
  array = tmp_path / 'rows.json'
  array.write_text('[{"key": ["1", "2"]}]')
  assert list(checked.answers(str(lines))) == ['5', '7']
  assert list(checked.answers(f'{array}:key')) == ['1', '2']
  with pytest.raises(ValueError, match='row 0 has no answer or'):
    list(checked.answers(str(array)))
