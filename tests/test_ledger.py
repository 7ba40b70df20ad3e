import collections
import io
import json
import math
import os
import random

import hypothesis
import numpy as np
import properties
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import strategies as st

from acereason_jax import ledger as command
from acereason_jax import types
from acereason_jax.curriculum import ledger as ledger_lib
from acereason_jax.curriculum import outcomes, parquet
from acereason_jax.curriculum.ledger import Ledger, Record
from acereason_jax.evaluation import pairs
from acereason_jax.rl import objective

SCHEMA = pyarrow.schema(
  [
    pyarrow.field(name, kind, nullable=False)
    for name, kind in [
      ('kind', 'string'),
      ('stage', 'string'),
      ('epoch', 'int32'),
      ('step', 'int32'),
      ('domain', 'string'),
      ('prompt', 'string'),
      ('right', 'int32'),
      ('wrong', 'int32'),
      ('unparsed', 'int32'),
      ('timeout', 'int32'),
      ('error', 'int32'),
      ('truncated', 'int32'),
      ('tokens', 'int64'),
      ('longest', 'int32'),
      ('solved', 'int32'),
    ]
  ]
)
HOSTILE = 'a\x1b[2J\r\n\u202e' + 'x' * 200


def record(prompt, step, right, rollouts=4, **changes):
  """`right` of `rollouts` of 10 tokens each."""
  values = dict(
    kind='train',
    stage='s',
    epoch=0,
    step=step,
    domain='math',
    prompt=prompt,
    right=right,
    wrong=rollouts - right,
    unparsed=0,
    timeout=0,
    error=0,
    truncated=0,
    tokens=10 * rollouts,
    longest=10,
    solved=right,
  )
  return Record(**values | changes)


def group(prompt, *rollouts):
  """A group of rollouts, (status, length, stop) each."""
  return types.Group(
    prompt,
    tuple(
      types.Rollout(
        prompt.id,
        i,
        np.zeros(length, np.int32),
        np.zeros(length, np.float32),
        np.zeros(length, np.float32),
        stop,
        '',
      )
      for i, (_, length, stop) in enumerate(rollouts)
    ),
    tuple(types.Verdict(status, '', 0.0) for status, _, _ in rollouts),
  )


def made(seed):
  """Up to 30 records of few prompts, stages and epochs."""
  r = random.Random(seed)
  found = []
  for step in sorted(r.randint(1, 9) for _ in range(r.randint(0, 30))):
    verdicts = r.choices([0, 0, 1, 2], k=5)
    verdicts[r.randrange(5)] += 1
    lengths = r.choices(range(10), k=sum(verdicts))
    found.append(
      Record(
        r.choice(ledger_lib.KINDS),
        r.choice(['one', 'two']),
        r.randint(0, 2),
        step,
        r.choice(['', 'math', 'π']),
        r.choice(['p', 'q', 'r', '☃']),
        *verdicts,
        r.randint(0, len(lengths)),
        sum(lengths),
        max(lengths),
        r.randint(0, verdicts[0]),
      )
    )
  return found


def some_records():
  return st.integers(0, 1 << 32).map(made)


def checked(f):
  return properties.tried(150, derandomize=True)(f)


def judged(records):
  return [r for r in records if r.judged]


def test_a_record_counts_what_its_group_holds():
  tokens = np.zeros(3, np.int32)
  a = types.Prompt('a', '', '', tokens, domain='math')
  b = types.Prompt('b', '', '', tokens)
  groups = [
    group(
      a, ('right', 5, 'stop'), ('wrong', 9, 'length'), ('error', 0, 'error')
    ),
    group(
      b,
      ('unparsed', 7, 'length'),
      ('timeout', 2, 'stop'),
      ('right', 1, 'stop'),
    ),
    group(a, ('right', 4, 'stop'), ('right', 4, 'stop'), ('wrong', 4, 'stop')),
  ]
  rules = objective.Rules('score', 0, 9)
  found = ledger_lib.records(groups, 'train', 's', [0, 3, 1], 7, rules)
  # right wrong unparsed timeout error truncated tokens longest solved
  assert found == [
    Record('train', 's', 0, 7, 'math', 'a', 1, 1, 0, 0, 1, 1, 14, 9, 1),
    Record('train', 's', 3, 7, '', 'b', 1, 0, 1, 1, 0, 1, 10, 7, 1),
    Record('train', 's', 1, 7, 'math', 'a', 2, 1, 0, 0, 0, 0, 12, 4, 2),
  ]
  assert [(r.judged, r.rollouts) for r in found] == [(2, 3), (2, 3), (3, 3)]
  assert list(Ledger(found)) == found
  with pytest.raises(ValueError, match='3 groups, 2 epochs'):
    ledger_lib.records(groups, 'train', 's', [0, 0], 7, rules)


@hypothesis.given(some_records(), some_records(), st.integers(0, 30))
@checked
def test_a_ledger_is_a_value(first, other, cut):
  cut = min(cut, len(first))
  old = Ledger(first[:cut])
  new = old.extended(first[cut:])
  last = old.rows['step'].max(initial=1)
  others = [r._replace(step=int(last) + r.step) for r in other]
  branch = old.extended(others)
  assert list(old) == first[:cut] and len(old) == cut
  assert list(new) == first and len(new) == len(first)
  assert list(branch) == first[:cut] + others
  assert new == Ledger(first) and branch == Ledger(first[:cut] + others)
  assert (new == branch) == (first[cut:] == others)
  assert old != [] and (new == old) == (cut == len(first))


def test_a_long_run_seldom_copies_its_ledger():
  ledger, copies = Ledger(), 0
  for step in range(1, 2001):
    longer = ledger.extended(record(f'p{i}', step, 1) for i in range(4))
    copies += not np.shares_memory(ledger.rows, longer.rows)
    ledger = longer
  assert len(ledger) == 8000
  assert copies <= math.log2(8000) + 1


@pytest.mark.parametrize(
  'wrong, words',
  [
    (record('p', 1, 1, kind='other'), "kind 'other'"),
    (record('p', 1, 5), 'record 2: a number below 0'),
    (record('p', 1, 1, epoch=-1), 'a number below 0'),
    (record('p', 1, 0, 0), 'no rollouts'),
    (record('p', 1, 1, truncated=5), 'more truncated'),
    (record('p', 1, 1, longest=41), 'tokens that do not fit'),
    (record('p', 1, 1, longest=9), 'tokens that do not fit'),
    (record('p', 0, 1, kind='probe'), 'a step before'),
    (record('p' * 1025, 1, 1), 'prompt .*at most 1024'),
    (record('\ud800', 1, 1), 'prompt .*valid Unicode'),
    (record('p', 1, 1, stage=None), 'stage None: expected'),
  ],
)
def test_a_record_that_cannot_be(wrong, words):
  ledger = Ledger([record('q', 1, 1)])
  with pytest.raises(ValueError, match=words) as e:
    ledger.extended([record('r', 1, 1), wrong._replace(domain='new')])
  assert '\n' not in str(e.value) and str(e.value).isprintable()
  # Nothing of it stays: not the good record, not a text.
  assert len(ledger) == 1
  good = [record('z', 2, 1)]
  assert ledger.extended(good) == Ledger([record('q', 1, 1), *good])


def test_a_probe_may_stand_before_the_first_step():
  assert len(Ledger([record('p', 0, 1, kind='probe'), record('p', 1, 1)])) == 2
  with pytest.raises(ValueError, match='record 0: a batch of step 0'):
    Ledger([record('p', 0, 1)])


@hypothesis.given(some_records(), st.integers(0, 30))
@checked
def test_parquet_gives_the_same_ledger_and_equal_ledgers_equal_bytes(
  records, cut
):
  ledger = Ledger(records)
  data = parquet.to_bytes(ledger)
  found = parquet.from_bytes(data)
  assert found == ledger and list(found) == records
  pieces = Ledger(records[:cut])
  # An abandoned branch: its texts are none of this ledger's.
  pieces.extended([record('elsewhere', 9, 1)])
  assert parquet.to_bytes(pieces.extended(records[cut:])) == data
  assert parquet.to_bytes(found) == data
  more = [record('p', 9, 1)]
  assert found.extended(more) == ledger.extended(more)


def test_any_parquet_reader_reads_it(tmp_path):
  path = tmp_path / 'ledger.parquet'
  records = [record('p', 1, 3), record('q', 2, 0, stage='π')]
  path.write_bytes(parquet.to_bytes(Ledger(records)))
  rows = pyarrow.parquet.read_table(path).to_pylist()
  assert rows == [r._asdict() for r in records]


def test_ten_bytes_a_record():
  rng = np.random.default_rng(0)
  ids = [rng.bytes(8).hex() for _ in range(4900)]
  records = []
  for i, who in enumerate(np.concatenate([rng.permutation(4900)] * 13)):
    right, length = rng.integers(17), int(rng.integers(2000, 12000))
    records.append(
      record(
        ids[who],
        1 + i // 128,
        int(right),
        16,
        tokens=16 * length,
        longest=length + 900,
        epoch=i // 4900,
      )
    )
  size = len(parquet.to_bytes(Ledger(records)))
  assert size < 10 * len(records)


def as_parquet(columns, schema=None, **options):
  sink = io.BytesIO()
  table = pyarrow.table(columns, schema=schema or SCHEMA)
  options = dict(store_schema=False) | options
  pyarrow.parquet.write_table(table, sink, **options)
  return sink.getvalue()


def columns_of(*records):
  return {name: [getattr(r, name) for r in records] for name in Record._fields}


def refused(data, words):
  with pytest.raises(ValueError, match=words) as e:
    parquet.from_bytes(data)
  message = str(e.value)
  assert '\n' not in message and len(message) < 500


GOOD = [record('p', 1, 1), record('q', 2, 1)]


def test_the_hostile_files_below_are_near_good_ones():
  assert list(parquet.from_bytes(as_parquet(columns_of(*GOOD)))) == GOOD


@pytest.mark.parametrize(
  'data, words',
  [
    (b'', 'no readable ledger'),
    (b'PAR1', 'no readable ledger'),
    (b'{"step": 1}\n' * 99, 'no readable ledger'),
    (b'\x80\x04\x95' * 99, 'no readable ledger'),
    (parquet.to_bytes(Ledger(GOOD))[:-9], 'no readable ledger'),
    (parquet.to_bytes(Ledger(GOOD))[100:], 'no readable ledger'),
  ],
)
def test_bytes_that_are_no_parquet(data, words):
  refused(data, words)


@pytest.mark.parametrize(
  'changes, words',
  [
    (dict(kind='other'), 'kinds'),
    (dict(right=-1), 'a number below 0'),
    (dict(step=0), 'a batch of step 0'),
    (dict(step=9), 'a step before'),
    (dict(prompt='p' * 2000), 'at most 1024'),
    (dict(prompt='p' * (1 << 20)), 'at most 1024'),
    (dict(truncated=1 << 30), 'more truncated'),
  ],
)
def test_a_file_of_records_that_cannot_be(changes, words):
  bad = GOOD[0]._replace(**changes)
  refused(as_parquet(columns_of(bad, GOOD[1]), write_statistics=False), words)


def test_a_file_of_other_columns():
  columns = columns_of(*GOOD)
  fields = {field.name: field for field in SCHEMA}
  changed = {
    'a column too many': dict(fields, more=pyarrow.field('more', 'int32')),
    'one with nulls': dict(fields, step=pyarrow.field('step', 'int32')),
    'floats': dict(
      fields, tokens=pyarrow.field('tokens', 'float64', nullable=False)
    ),
    'bytes': dict(
      fields, prompt=pyarrow.field('prompt', 'binary', nullable=False)
    ),
    'lists': dict(
      fields,
      prompt=pyarrow.field('prompt', pyarrow.list_(pyarrow.string())),
    ),
    'another order': dict(sorted(fields.items())),
  }
  columns['more'] = [1, 2]
  for what, wanted in changed.items():
    values = {n: columns[n] for n in wanted}
    if what == 'lists':
      values['prompt'] = [['p'], ['q']]
    words = 'not flat' if what == 'lists' else 'no ledger'
    refused(as_parquet(values, pyarrow.schema(wanted.values())), words)


def test_a_file_that_brings_types_of_its_own():
  """Arrow's schema beside Parquet's, which can name extension types."""
  refused(as_parquet(columns_of(*GOOD), store_schema=True), 'no ledger')
  fields = [
    pyarrow.field('prompt', pyarrow.json_(), nullable=False)
    if field.name == 'prompt'
    else field
    for field in SCHEMA
  ]
  columns = columns_of(*GOOD) | dict(
    prompt=pyarrow.array(['1', '2'], pyarrow.json_())
  )
  for stored in (True, False):
    refused(
      as_parquet(columns, pyarrow.schema(fields), store_schema=stored),
      'no ledger',
    )


def test_text_that_is_not_unicode():
  sink = io.BytesIO()
  values = columns_of(*GOOD)
  raw = pyarrow.array([b'\xff\xfe', b'q']).view('string')
  arrays = [
    raw if name == 'prompt' else pyarrow.array(values[name], field.type)
    for name, field in zip(Record._fields, SCHEMA)
  ]
  table = pyarrow.Table.from_arrays(arrays, schema=SCHEMA)
  pyarrow.parquet.write_table(table, sink, store_schema=False)
  refused(sink.getvalue(), '(?i)utf')


def test_a_small_file_that_says_it_is_large():
  """Files with one text a million times, and with more records than allowed."""
  n = ledger_lib.MAX_RECORDS + 1
  one = pyarrow.DictionaryArray.from_arrays(
    np.zeros(1 << 20, np.int32), ['p' * (1 << 20)]
  )
  whole = {
    name: np.full(1 << 20, getattr(GOOD[0], name))
    for name in ledger_lib.NUMBERS
  }
  texts = {
    name: one
    if name == 'prompt'
    else pyarrow.DictionaryArray.from_arrays(
      np.zeros(1 << 20, np.int32), [getattr(GOOD[0], name)]
    )
    for name in ('kind', 'stage', 'domain', 'prompt')
  }
  arrays = {n: pyarrow.array((whole | texts)[n]) for n in Record._fields}
  arrays = {
    name: array if name in texts else array.cast(field.type)
    for (name, array), field in zip(arrays.items(), SCHEMA)
  }
  schema = pyarrow.schema(
    [pyarrow.field(k, a.type, nullable=False) for k, a in arrays.items()]
  )
  data = as_parquet(arrays, schema)
  assert len(data) < 1 << 20
  refused(data, 'at most 1024')
  table = pyarrow.table(
    dict(kind=pyarrow.nulls(n, 'int32')),
  )
  sink = io.BytesIO()
  pyarrow.parquet.write_table(table, sink)
  refused(sink.getvalue(), f'{n:,} rows in 9 groups: at most {n - 1:,}')


def test_a_flipped_bit_is_seen_or_changes_nothing():
  ledger = Ledger(
    [record(f'p{i}', 1 + i // 4, i % 5, timeout=i % 2) for i in range(40)]
  )
  data = parquet.to_bytes(ledger)
  seen = 0
  for i in range(0, len(data), 2):
    broken = bytearray(data)
    broken[i] ^= 1 << i % 8
    try:
      found = parquet.from_bytes(bytes(broken))
    except ValueError as e:
      seen += 1
      assert '\n' not in str(e)
    else:
      assert found == ledger, i
  assert seen > len(data) / 4


@hypothesis.given(some_records())
@checked
def test_newest_is_the_last_of_each_prompt(records):
  ledger = Ledger(records)
  assert outcomes.newest(ledger) == {r.prompt: r for r in records}
  for kind in (None, 'probe'):
    for stage in (None, 'one', 'none'):
      for before in (None, 1, 5, 99):
        assert outcomes.newest(ledger, kind, stage, before) == {
          r.prompt: r
          for r in records
          if kind in (None, r.kind)
          and stage in (None, r.stage)
          and (before is None or r.step < before)
        }
  assert outcomes.mean_lengths(ledger) == {
    r.prompt: r.tokens / r.rollouts for r in records
  }


@hypothesis.given(some_records(), st.integers(1, 10))
@checked
def test_counts_are_of_the_newest_judged_epoch(records, before):
  mine = [
    r
    for r in judged(records)
    if (r.kind, r.stage) == ('train', 'one') and r.step < before
  ]
  expected = {}
  for prompt in {r.prompt for r in mine}:
    epoch = max(r.epoch for r in mine if r.prompt == prompt)
    last = [r for r in mine if (r.prompt, r.epoch) == (prompt, epoch)]
    expected[prompt] = (
      sum(r.solved for r in last),
      sum(r.judged for r in last),
    )
  found = outcomes.counts(
    Ledger(records), kind='train', stage='one', before_step=before
  )
  assert found == expected


def test_solved_later_and_lost():
  records = [
    record('never', 1, 0),
    record('became', 1, 0),
    record('always', 1, 2),
    record('lost', 1, 1),
    record('twice', 1, 0),
    record('twice', 1, 3),
    record('broken', 1, 0, wrong=0, timeout=4),
    record('became', 2, 0),
    record('lost', 2, 4),
    record('never', 2, 0),
    record('broken', 2, 2),
    record('always', 2, 1, kind='probe'),
    record('became', 3, 1),
    record('lost', 3, 0),
    record('twice', 3, 0, stage='t'),
    record('became', 4, 4),
    record('lost', 4, 0, wrong=0, error=4),
    record('broken', 4, 0),
    record('broken', 5, 0),
  ]
  ledger = Ledger(records)
  # A group of which nothing was judged is no first look at a prompt.
  assert outcomes.solvable(ledger) == {'became': 3}
  assert outcomes.lost(ledger) == {'lost': 2, 'twice': 1, 'broken': 2}
  assert outcomes.lost(ledger, misses=2) == {'broken': 2}
  assert outcomes.solvable(Ledger()) == outcomes.lost(Ledger()) == {}
  # Prompts that two steps judged, in the order of their first records.
  halves = outcomes.halves(ledger)
  assert [h.tolist() for h in halves] == [
    [4, 4, 4, 4, 8, 4],  # never, became, always, lost, twice, broken
    [0, 0, 2, 1, 3, 2],
    [4, 12, 4, 8, 4, 8],
    [0, 5, 1, 4, 0, 0],
  ]
  assert [len(h) for h in outcomes.halves(Ledger())] == [0] * 4


@hypothesis.given(some_records(), st.integers(1, 3))
@checked
def test_solvable_and_lost_read_the_history_of_each_prompt(records, misses):
  history = collections.defaultdict(list)
  for r in judged(records):
    history[r.prompt].append(r)
  became, lost = {}, {}
  for prompt, mine in history.items():
    first = [r for r in mine if r.step == mine[0].step]
    later = mine[len(first) :]
    right = [r for r in mine if r.right]
    if not any(r.right for r in first) and right:
      became[prompt] = right[0].step
    last = later[-misses:]
    if (
      any(r.right for r in first)
      and len(last) == misses
      # No record is a miss in a step that another record solved.
      and not any(r.right or r.step == right[-1].step for r in last)
    ):
      lost[prompt] = right[-1].step
  assert outcomes.solvable(Ledger(records)) == became
  found = pairs.newly_solved(*outcomes.halves(Ledger(records)))
  assert len(found.places) == len(became)
  assert outcomes.lost(Ledger(records), misses) == lost


def test_a_summary_by_hand():
  records = [
    record('a', 0, 16, 16, kind='probe'),
    record('a', 1, 4, truncated=1),
    record('b', 1, 0),
    record('c', 1, 1, tokens=25),
    record('d', 1, 0, wrong=0, timeout=3, error=1),
    record('a', 2, 2, unparsed=1, wrong=1, epoch=1),
    record('b', 2, 0, wrong=0, error=4, stage='t'),
    record('a', 2, 2, epoch=1),
  ]
  nan = math.nan
  expected = [
    ('s', 'probe', 0, 1, 16, 1.0, 1.0, 0.0, 0.0, 0.0, 10.0, 0),
    ('s', 'train', 0, 4, 16, 5 / 12, 1 / 3, 1 / 3, 1 / 3, 1 / 16, 145 / 16, 4),
    ('s', 'train', 1, 1, 8, 0.5, 0.0, 1.0, 0.0, 0.0, 10.0, 0),
    ('t', 'train', 0, 1, 4, nan, nan, nan, nan, 0.0, 10.0, 4),
  ]
  found = [tuple(row) for row in outcomes.summary(Ledger(records))]
  assert repr(found) == repr(expected)
  assert outcomes.summary(Ledger()) == []


@pytest.fixture
def file(tmp_path):
  path = tmp_path / 'ledger.parquet'
  records = [
    record('sum-1', 1, 0),
    record(HOSTILE, 1, 1),
    record('sum-1', 2, 3, stage='t\x1b'),
    record(HOSTILE, 2, 0),
    record('sum-2', 3, 0, stage='t\x1b'),
  ]
  path.write_bytes(parquet.to_bytes(Ledger(records)))
  return path


def said(capsys, *argv):
  assert command.main(['', *map(str, argv)]) == 0
  found = capsys.readouterr().out
  assert all(c.isprintable() or c == '\n' for c in found)
  return [line.split() for line in found.splitlines()]


def failed(capsys, *argv):
  with pytest.raises(SystemExit) as e:
    command.main(['', *map(str, argv)])
  assert e.value.code.startswith('error: ') and e.value.code.isprintable()
  return e.value.code


def test_the_command_shows_the_summary(capsys, file):
  head, *rows = said(capsys, file)
  assert head == list(outcomes.Summary._fields)
  assert [row[:6] for row in rows] == [
    ['s', 'train', '0', '2', '12', '0.083'],
    ['t\\x1b', 'train', '0', '2', '8', '0.375'],
  ]
  assert [r[0] for r in said(capsys, file, '--stage=s')] == ['stage', 's']


def test_the_command_shows_a_prompt(capsys, file):
  head, *rows = said(capsys, file, '--prompt=sum-1')
  at = [head.index(name) for name in ('stage', 'step', 'right', 'wrong')]
  assert [[row[i] for i in at] for row in rows] == [
    ['s', '1', '0', '4'],
    ['t\\x1b', '2', '3', '1'],
  ]
  assert len(said(capsys, file, f'--prompt={HOSTILE}')) == 3
  assert '--prompt=none: none of the 5 records' in failed(
    capsys, file, '--prompt=none'
  )


def test_the_command_shows_what_became_solvable_and_what_was_lost(capsys, file):
  _, *rows, luck, unequal = said(capsys, file, '--became_solvable')
  assert rows == [['2', 'sum-1']]
  # A prompt was asked once, the others twice: a filter may have left it out.
  assert ' '.join(unequal).startswith('some prompts were asked more often')
  # 3 right of 4 + 4: all in the last 4 with 4 / 56. 1 of 4 + 4: with 1 / 2.
  expected, p = 4 / 56 + 1 / 2, 1 - (1 - 4 / 56) * (1 - 1 / 2)
  assert ' '.join(luck) == (
    f'1 of 2 prompts became solvable, {expected:.1f} expected by luck, '
    f'p = {p:.1g}'
  )
  *rows, luck, _ = said(capsys, file, '--became_solvable', '--stage=s')
  assert rows == [['step', 'prompt']]
  assert ' '.join(luck).startswith('0 of 1 prompts became solvable, 0.5 exp')
  ((step, *name),) = said(capsys, file, '--lost')[1:]
  assert step == '1' and name[0].startswith('a\\x1b[2J\\r\\n\\u202e')


def test_prompts_that_were_asked_equally_often():
  every = [record(name, step, 1) for step in (1, 2) for name in 'ab']
  assert not outcomes.asked_unequally(Ledger(every))
  assert not outcomes.asked_unequally(Ledger())
  assert outcomes.asked_unequally(Ledger([*every, record('c', 3, 1)]))
  # Domains may have epochs of their own.
  code = record('c', 3, 1, domain='code')
  assert not outcomes.asked_unequally(Ledger([*every, code]))
  # A verdict that failed was asked for all the same.
  failed = [record('c', step, 0, wrong=0, error=4) for step in (3, 4)]
  assert not outcomes.asked_unequally(Ledger([*every, *failed]))


@pytest.mark.parametrize('most', [8, 7, 3])
def test_luck_holds_where_a_filter_drops_what_was_solved(most):
  """200 prompts in 5 epochs of 8; more than `most` right ones end a prompt."""
  rng = np.random.default_rng(3)
  seen, expected, ps = [], [], []
  for _ in range(400):
    p = rng.beta(0.35, 0.6, 200)
    first = last = rng.binomial(8, p)
    judged, right = np.zeros((2, 200), int)
    for _ in range(4):
      again = last <= most
      last = np.where(again, rng.binomial(8, p), last)
      judged, right = judged + 8 * again, right + last * again
    asked = judged > 0
    found = pairs.newly_solved(
      np.full(asked.sum(), 8), first[asked], judged[asked], right[asked]
    )
    seen.append(len(found.places))
    expected.append(found.expected)
    ps.append(found.p)
  assert np.mean(expected) == pytest.approx(np.mean(seen), rel=0.03)
  assert np.mean([p <= 0.05 for p in ps]) <= 0.06


def test_sure_gains_are_told_in_few_digits(capsys, tmp_path):
  path = tmp_path / 'ledger.parquet'
  names = [f'p{i}' for i in range(9)]
  records = [record(n, s, 4 * (s > 1)) for s in (1, 2, 3) for n in names]
  path.write_bytes(parquet.to_bytes(Ledger(records)))
  # 8 right of 12, all in the last 8: 1 / C(12, 4) = 1 / 495 for each.
  assert ' '.join(said(capsys, path, '--became_solvable')[-1]) == (
    '9 of 9 prompts became solvable, 0.0 expected by luck, p < 1e-9'
  )


def test_the_command_writes_parquet(capsys, file):
  out = file.with_name('out.parquet')
  said(capsys, file, f'--out={out}')
  assert out.read_bytes() == file.read_bytes()
  said(capsys, file, f'--out={out}', '--stage=s')
  kept = list(parquet.from_bytes(out.read_bytes()))
  assert kept == [
    r for r in parquet.from_bytes(file.read_bytes()) if r.stage == 's'
  ]
  assert len(kept) == 3
  assert {p.name for p in file.parent.iterdir()} == {file.name, out.name}


def test_the_command_and_what_is_no_ledger(capsys, tmp_path, file):
  path = tmp_path / 'bad\x1b.parquet'
  path.write_text(json.dumps([1]))
  assert 'no readable ledger' in failed(capsys, path)
  assert 'none' in failed(capsys, tmp_path / 'none')
  assert 'stages s, t\\x1b' in failed(capsys, file, '--stage=none')


def test_a_pipe_is_no_ledger(tmp_path):
  os.mkfifo(tmp_path / 'pipe')
  with pytest.raises(ValueError, match='a pipe; expected a file'):
    command.read(str(tmp_path / 'pipe'))
