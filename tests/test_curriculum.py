import collections
import fractions
import json
import math
import random

import grain
import hypothesis
import numpy as np
import properties
import pytest
from hypothesis import strategies as st

from acereason_jax import types
from acereason_jax.curriculum import (
  ending,
  filtering,
  parquet,
  plateau,
  selection,
)
from acereason_jax.curriculum.ending import Stop
from acereason_jax.curriculum.filtering import Filter
from acereason_jax.curriculum.ledger import Ledger, Record

TOKENS = np.zeros(1, np.int32)


def some_prompts(n, domain='', difficulty=None):
  return [
    types.Prompt(f'{domain}{i}', '', '', TOKENS, domain, difficulty)
    for i in range(n)
  ]


def record(prompt, step, right, rollouts=4, failed=0, **changes):
  values = dict(
    kind='train',
    stage='s',
    epoch=0,
    step=step,
    domain='',
    prompt=prompt,
    right=right,
    wrong=rollouts - right - failed,
    unparsed=0,
    timeout=failed,
    error=0,
    truncated=0,
    tokens=rollouts,
    longest=1,
    solved=right,
  )
  return Record(**values | changes)


def probe(prompt, right, rollouts=16, **changes):
  return record(prompt, 0, right, rollouts, kind='probe', **changes)


def kept(prompts, ledger, filter, epoch=1, before_step=9, seed=0, stage='s'):
  found = filtering.survivors(
    prompts,
    ledger,
    filter,
    stage=stage,
    epoch=epoch,
    before_step=before_step,
    seed=seed,
  )
  return [p.id for p in found]


def draw(count, prompts, cursor, *, step=1, ledger=None, **changes):
  """A draw from all domains in equal shares, with nothing left out."""
  options = dict(
    mix=dict.fromkeys(prompts, 1.0),
    filters=dict.fromkeys(prompts, Filter()),
    ledger=Ledger() if ledger is None else ledger,
    cursor=cursor,
    seed=0,
    stage='s',
    stage_seed=3,
    step=step,
  )
  return selection.draw(count, prompts, **options | changes)


def ids(drawn):
  return [(prompt.id, epoch) for prompt, epoch in drawn]


def checked(f):
  # grain takes 4 ms to find the next of a few prompts.
  return properties.tried(40, derandomize=True)(f)


@pytest.mark.parametrize(
  'n, size', [(12, 4), (10, 4), (7, 3), (3, 8), (1, 2), (50, 50)]
)
def test_without_filters_the_order_is_that_of_grain(n, size):
  prompts = some_prompts(n)
  dataset = grain.MapDataset.source(prompts).seed(3).shuffle().repeat()
  in_memory = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
  batches = iter(dataset.to_iter_dataset(in_memory).batch(size, batch_fn=list))
  cursor, epochs = {}, []
  for step in range(1, 3 * n // size + 3):
    drawn, cursor = draw(size, {'': prompts}, cursor, step=step)
    assert [p.id for p, _ in drawn] == [p.id for p in next(batches)]
    epochs += [epoch for _, epoch in drawn]
  assert epochs == [i // n for i in range(len(epochs))] and epochs[-1] >= 2


def test_difficulty():
  prompts = [
    types.Prompt(i, '', '', TOKENS, '', d)
    for i, d in (('a', 5.0), ('b', 5.5), ('c', 0.0), ('d', 8.0))
  ]
  hard = Filter(max_difficulty=5)
  assert kept(prompts, Ledger(), hard) == ['a', 'c']
  # Not for the model's sake: it never comes back.
  assert kept(prompts, Ledger(), hard._replace(readmit=1.0)) == ['a', 'c']
  assert kept(prompts, Ledger(), Filter()) == ['a', 'b', 'c', 'd']
  with pytest.raises(ValueError, match=r"max_difficulty=5: 3 of 7 .* 'x0'"):
    kept(prompts + some_prompts(3, 'x'), Ledger(), hard)


def test_the_probe_of_this_stage():
  """Easy, Medium and Hard of arXiv 2505.16400, section 3.4."""
  prompts = some_prompts(17)
  ledger = Ledger(probe(str(i), i) for i in range(17))
  for most in (14, 10, 6):
    found = kept(prompts, ledger, Filter(max_solved=most, of=16), epoch=0)
    assert found == [str(i) for i in range(most + 1)]
  dropped = Filter(max_solved=6, of=16, keep_unsolved=False)
  assert kept(prompts, ledger, dropped) == ['1', '2', '3', '4', '5', '6']
  with pytest.raises(ValueError, match=r"of=16: .* no probe of stage 'other'"):
    kept(prompts, ledger, Filter(max_solved=6, of=16), stage='other')
  with pytest.raises(ValueError, match=r'no probe .* before step 0'):
    kept(prompts, ledger, Filter(max_solved=6, of=16), before_step=0)


def test_failed_verdicts_of_a_probe_leave_it_in_proportion():
  ledger = Ledger(
    [
      probe('0', 4, failed=8),  # 4 of 8: as 8 of 16.
      probe('1', 3, failed=8),  # As 6 of 16.
      probe('2', 0, failed=16),  # Nothing is known of it.
    ]
  )
  filter = Filter(max_solved=6, of=16, keep_unsolved=False)
  assert kept(some_prompts(3), ledger, filter) == ['1', '2']


@pytest.mark.parametrize(
  'right, failed, share, is_known',
  [
    (1, 15, 0.5, False),
    (7, 9, 0.5, False),
    (8, 8, 0.5, True),
    (16, 0, 0.5, True),
    (0, 16, 0.0, False),
    (1, 15, 0.0, True),
    (15, 1, 1.0, False),
    (16, 0, 1.0, True),
    (12, 4, 0.75, True),
    (11, 5, 0.75, False),
  ],
)
def test_of_a_prompt_whose_verdicts_failed_nothing_is_known(
  right, failed, share, is_known
):
  """Neither that it is solved, nor that it never was."""
  prompts, of_all = some_prompts(2), 16
  f = Filter(min_judged=share)
  never = probe('0', 0, failed=failed), record('0', 1, 0, 16, failed)
  solved = probe('0', right, failed=failed), record('0', 1, right, 16, failed)
  if right:
    assert right + failed == of_all
  # The other prompt keeps the epoch from being empty.
  rest = probe('1', 4), record('1', 1, 4, 16)
  left = ['1'] if is_known else ['0', '1']

  def ids_left(one, filter):
    asked, trained = zip(one, rest)
    return kept(prompts, Ledger([*asked, *trained]), filter)

  assert ids_left(solved, f._replace(of=16, max_solved=14)) == left
  assert ids_left(solved, f._replace(drop_solved=True)) == left
  assert ids_left(never, f._replace(keep_unsolved=False)) == left


def test_a_filter_by_the_epoch_before_if_the_newest_says_too_little():
  prompts, f = some_prompts(3), Filter(drop_solved=True)
  ledger = Ledger(
    [
      *(record(p.id, 1, 4) for p in prompts),
      record('0', 2, 0, failed=3, epoch=1),
      record('1', 2, 0, failed=2, epoch=1),
      # Twice in an epoch: each batch says enough or does not.
      record('2', 2, 1, failed=3, epoch=1),
      record('2', 3, 2, failed=0, epoch=1),
    ]
  )
  assert kept(prompts, ledger, f) == ['1', '2']
  assert kept(prompts, ledger, f._replace(min_judged=0.9)) == ['2']


def test_nothing_is_known_of_any_prompt():
  """They were asked, and all stay."""
  ledger = Ledger([probe('0', 1, failed=15), probe('1', 0, failed=16)])
  found = kept(some_prompts(2), ledger, Filter(of=16, max_solved=0))
  assert found == ['0', '1']


def test_a_batch_that_nothing_is_left_for():
  prompts = dict(a=some_prompts(4, 'a'), b=some_prompts(40, 'b'))
  filters = dict(a=Filter(drop_solved=True), b=Filter())
  ledger, cursor = Ledger(), {}
  draw_next = lambda step: draw(
    4, prompts, cursor, step=step, ledger=ledger, filters=filters
  )
  for step in (1, 2):
    # An epoch of `a` may begin where its four are within reach.
    may = selection.may_begin_epoch(cursor, filters, 4)
    assert may
    drawn, cursor = draw_next(step)
    ledger = ledger.extended(record(p.id, step, 4) for p, _ in drawn)
  assert cursor['a']['position'] == cursor['a']['size'] == 4
  before = json.dumps(cursor)
  with pytest.raises(
    filtering.NothingLeft, match='drop_solved=True: nothing is left of 4'
  ):
    draw_next(3)
  assert json.dumps(cursor) == before
  assert not selection.may_begin_epoch(cursor, ['b'], 4)
  assert selection.may_begin_epoch(cursor, ['a'], 1)


def test_the_last_epoch_of_this_stage():
  ledger = Ledger(
    [
      record('0', 1, 4),
      record('1', 1, 3, failed=1),  # All that were judged.
      record('2', 1, 3),
      record('3', 1, 0),
      record('4', 1, 0, failed=4),
      record('5', 1, 4, stage='other'),
      record('6', 1, 4),
      record('7', 1, 4),
      record('8', 1, 1),
      record('9', 1, 4),
      record('6', 2, 3),  # Twice in the epoch.
      record('7', 3, 1, epoch=1),
      record('8', 3, 4, epoch=1),
      record('9', 3, 0, failed=4, epoch=1),
      probe('0', 0)._replace(step=4),
    ]
  )
  prompts, f = some_prompts(11), Filter(drop_solved=True)
  left = ['2', '3', '4', '5', '6', '7', '10']
  assert kept(prompts, ledger, f) == left
  assert kept(prompts, ledger, f, before_step=3) == [*'234568', '10']
  left.remove('3')
  assert kept(prompts, ledger, f._replace(keep_unsolved=False)) == left
  # Before the first epoch nothing is known.
  assert len(kept(prompts, ledger, f, before_step=1)) == 11


def test_what_left_an_epoch_stays_out_until_it_is_readmitted():
  """And what was asked again and is not solved any more is back."""
  solved = [record(str(i), 1, 4) for i in range(2)]
  again = [record('0', 2, 3, epoch=1)]
  f, prompts = Filter(drop_solved=True), some_prompts(3)
  for epoch in range(1, 6):
    assert kept(prompts, Ledger(solved), f, epoch) == ['2']
    assert kept(prompts, Ledger(solved + again), f, epoch) == ['0', '2']


def test_the_share_that_comes_back():
  n = 4000
  prompts = some_prompts(n)
  ledger = Ledger(record(p.id, 1, 4) for p in prompts[1:])
  f = Filter(drop_solved=True)
  assert kept(prompts, ledger, f) == ['0']
  assert len(kept(prompts, ledger, f._replace(readmit=1.0))) == n
  several = {}
  for epoch, seed, stage, share in [
    (1, 0, 's', 0.1),
    (2, 0, 's', 0.1),
    (1, 1, 's', 0.1),
    (1, 0, 's', 0.01),
    (1, 0, 's', 0.5),
  ]:
    found = kept(
      prompts, ledger, f._replace(readmit=share), epoch, seed=seed, stage=stage
    )
    assert found == sorted(found, key=int)
    # Six standard deviations.
    slack = 6 * math.sqrt(n * share * (1 - share))
    assert abs(len(found) - 1 - n * share) < slack
    several[epoch, seed, share] = set(found)
    assert found == kept(
      prompts, ledger, f._replace(readmit=share), epoch, seed=seed, stage=stage
    )
  # Others each time, as chance would have it; a larger share takes in a less.
  for other in ((2, 0, 0.1), (1, 1, 0.1)):
    both = several[1, 0, 0.1] & several[other]
    assert abs(len(both) - n * 0.01) < 6 * math.sqrt(n * 0.01)
  assert several[1, 0, 0.01] < several[1, 0, 0.1] < several[1, 0, 0.5]


@pytest.mark.parametrize(
  'filter, words',
  [
    (Filter(readmit=1.5), r'readmit=1\.5: give a share'),
    (Filter(readmit=math.nan), 'readmit=nan'),
    (Filter(min_judged=1.1), r'min_judged=1\.1: give a share'),
    (Filter(min_judged=math.nan), 'min_judged=nan'),
    (Filter(max_solved=6), 'max_solved=6: give 0 to of=0'),
    (Filter(max_solved=17, of=16), 'max_solved=17: give 0 to of=16'),
    (Filter(max_solved=-1, of=16), 'max_solved=-1'),
    (Filter(drop_solved=True), 'drop_solved=True: nothing is left of 3'),
    (Filter(max_difficulty=0), 'max_difficulty=0: nothing is left of 3'),
    (Filter(max_solved=0, of=4), 'max_solved=0: nothing is left of 3'),
  ],
)
def test_a_filter_that_cannot_be_or_leaves_nothing(filter, words):
  prompts = some_prompts(3, difficulty=1.0)
  ledger = Ledger(
    [
      *(probe(p.id, 4, 4) for p in prompts),
      *(record(p.id, 1, 4) for p in prompts),
    ]
  )
  with pytest.raises(ValueError, match=words) as e:
    kept(prompts, ledger, filter)
  assert '\n' not in str(e.value)


def test_a_filter_is_json():
  f = Filter(max_difficulty=5.0, max_solved=6, of=16, readmit=0.1)
  assert Filter(**json.loads(json.dumps(f._asdict()))) == f


@hypothesis.given(
  st.lists(
    st.one_of(st.integers(1, 1000), st.floats(1e-3, 1e3)),
    min_size=1,
    max_size=6,
  )
)
@hypothesis.example([10, 10, 1, 1000, 1000, 32, 1000])
@checked
def test_every_domain_is_within_one_of_its_share_at_every_time(weights):
  mix = {f'd{i}': w for i, w in enumerate(weights)}
  prompts = {d: some_prompts(500, d) for d in mix}
  total = sum(map(fractions.Fraction, weights))
  # Tijdeman's bound; a single domain has what there is.
  bound = 1 - fractions.Fraction(1, max(2 * len(mix) - 2, 1))
  drawn, cursor = draw(60, prompts, {}, mix=mix)
  seen = collections.Counter()
  for n, (prompt, _) in enumerate(drawn, 1):
    seen[prompt.domain] += 1
    for domain, weight in mix.items():
      share = n * fractions.Fraction(weight) / total
      assert abs(share - seen[domain]) <= bound < 1
  assert {d: place['drawn'] for d, place in cursor.items()} == {
    d: seen[d] for d in mix
  }


def test_domains_without_a_share_are_not_drawn_from():
  prompts = {d: some_prompts(4, d) for d in 'abc'}
  drawn, cursor = draw(40, prompts, {}, mix=dict(a=3, b=1, c=0.0))
  count = collections.Counter(p.domain for p, _ in drawn)
  assert count == dict(a=30, b=10) and set(cursor) == {'a', 'b'}


@pytest.mark.parametrize(
  'changes, words',
  [
    (dict(mix={}), r'mix=\{\}: give shares'),
    (dict(mix=dict(a=0.0)), 'give shares'),
    (dict(mix=dict(a=-1.0, b=2.0)), 'give shares'),
    (dict(mix=dict(a=math.nan)), 'give shares'),
    (dict(mix=dict(a=math.inf)), 'give shares'),
    (dict(mix=dict(a=1.0, other=1.0)), "mix: has domain 'other'"),
    (dict(mix=dict(a=1.0, empty=1.0)), "mix: has domain 'empty'"),
    (dict(filters=dict(a=Filter())), "mix: has domain 'b'"),
  ],
)
def test_a_mix_that_cannot_be(changes, words):
  prompts = dict(a=some_prompts(2, 'a'), b=some_prompts(2, 'b'), empty=[])
  options = dict(mix=dict(a=1.0, b=1.0)) | changes
  with pytest.raises(ValueError, match=words) as e:
    draw(2, prompts, {}, **options)
  assert '\n' not in str(e.value)


class Case:
  """A made-up stage: data, filters, and what a model would do."""

  def __init__(self, seed):
    self.random = r = random.Random(seed)
    self.seed = seed
    self.batch = r.randint(1, 40)
    domains = r.sample(['math', 'code', 'π'], r.randint(1, 3))
    self.prompts = {
      d: some_prompts(r.choice([1, 5, 20, 30, 60]), d, 1.0) for d in domains
    }
    self.options = dict(
      mix={d: r.choice([0.1, 1, 2, 7]) for d in domains},
      filters={d: self.filter() for d in domains},
      seed=seed,
      stage_seed=r.randint(0, 9),
    )
    self.before = Ledger(
      probe(p.id, r.randint(0, 4), 4, domain=d)
      for d in domains
      for p in self.prompts[d]
    )

  def filter(self):
    r = self.random
    of = r.choice([0, 4])
    return Filter(
      max_solved=r.randint(1, 4) if of else 0,
      of=of,
      keep_unsolved=r.random() < 0.5,
      drop_solved=r.random() < 0.7,
      readmit=r.choice([0.0, 0.3, 1.0]),
    )

  def draw(self, count, ledger, cursor, step):
    return draw(
      count, self.prompts, cursor, step=step, ledger=ledger, **self.options
    )

  def judged(self, drawn, step):
    """Records of a batch; the same whenever it is drawn."""
    r = random.Random(f'{self.seed} {step}')
    return [
      record(
        prompt.id,
        step,
        r.choice([0, 2, 4]),
        epoch=epoch,
        domain=prompt.domain,
      )
      for prompt, epoch in drawn
    ]

  def run(self, steps, between=lambda ledger, cursor: (ledger, cursor)):
    """([(id, epoch)] of each step, or why it ended; ledger; cursors)."""
    ledger, cursor, batches, cursors = self.before, {}, [], []
    for step in range(1, steps + 1):
      ledger, cursor = between(ledger, cursor)
      try:
        drawn, cursor = self.draw(self.batch, ledger, cursor, step)
      except ValueError as e:
        assert 'nothing is left' in str(e)
        return [*batches, str(e)], ledger, cursors
      batches.append(ids(drawn))
      cursors.append(cursor)
      ledger = ledger.extended(self.judged(drawn, step))
    return batches, ledger, cursors


@hypothesis.given(st.integers(0, 1 << 32), st.integers(0, 1 << 32))
@checked
def test_a_run_that_goes_on_draws_what_it_would_have_drawn(seed, restarts):
  r = random.Random(restarts)

  def restart(ledger, cursor):
    if r.random() < 0.4:
      ledger = parquet.from_bytes(parquet.to_bytes(ledger))
      cursor = json.loads(json.dumps(cursor))
    return ledger, cursor

  expected, ledger, cursors = Case(seed).run(8)
  found = Case(seed).run(8, restart)
  assert found == (expected, ledger, cursors)


@hypothesis.given(
  st.integers(0, 1 << 32), st.integers(0, 40), st.integers(0, 40)
)
@checked
def test_draws_of_one_step_add_up(seed, n, m):
  case = Case(seed)
  try:
    whole, last = case.draw(n + m, case.before, {}, 5)
  except ValueError:
    hypothesis.reject()
  first, cursor = case.draw(n, case.before, {}, 5)
  second, cursor = case.draw(m, case.before, json.loads(json.dumps(cursor)), 5)
  assert ids(first + second) == ids(whole) and cursor == last


@hypothesis.given(st.integers(0, 1 << 32))
@checked
def test_an_epoch_holds_each_survivor_once_and_nothing_changes_it(seed):
  case = Case(seed)
  batches, ledger, cursors = case.run(8)
  domain_of = {p.id: d for d, ps in case.prompts.items() for p in ps}
  drawn = collections.defaultdict(list)
  for batch in batches:
    if isinstance(batch, list):
      for prompt, epoch in batch:
        drawn[domain_of[prompt], epoch].append(prompt)
  began = {}
  for cursor in cursors:
    for domain, place in cursor.items():
      began[domain, place['epoch']] = place['began']
  for (domain, epoch), found in drawn.items():
    if (domain, epoch) not in began:
      continue  # It began and ended within a batch.
    # With the whole ledger, most of which is of later steps.
    expected = filtering.survivors(
      case.prompts[domain],
      ledger,
      case.options['filters'][domain],
      stage='s',
      epoch=epoch,
      before_step=began[domain, epoch],
      seed=seed,
    )
    assert len(set(found)) == len(found)
    names = {p.id for p in expected}
    if (domain, epoch + 1) in drawn:
      assert set(found) == names
    else:
      assert set(found) <= names
    if epoch:
      assert (domain, epoch - 1) in drawn


def test_an_epoch_begins_with_what_was_known_before_its_first_batch():
  """Nothing is known of an epoch's last batch, though it is drawn at once."""
  prompts = {'': some_prompts(6)}
  filters = {'': Filter(drop_solved=True)}
  ledger, cursor = Ledger(), {}
  seen = []
  for step in (1, 2):
    drawn, cursor = draw(
      4, prompts, cursor, step=step, ledger=ledger, filters=filters
    )
    ledger = ledger.extended(record(p.id, step, 4) for p, e in drawn if not e)
    seen += ids(drawn)
  first, second = seen[:4], seen[4:]
  assert [e for _, e in seen] == [0] * 6 + [1] * 2
  # The two that the first batch did not hold.
  assert {i for i, _ in second[:2]} == {i for i, _ in second[2:]}
  assert cursor['']['began'] == 2 and cursor['']['size'] == 2
  assert not {i for i, _ in first} & {i for i, _ in second}
  with pytest.raises(ValueError, match=r'drop_solved=True: .* epoch 2'):
    draw(1, prompts, cursor, step=3, ledger=ledger, filters=filters)


def test_a_run_that_goes_on_with_other_data_is_told():
  prompts = {'': some_prompts(6)}
  _, cursor = draw(4, prompts, {})
  with pytest.raises(ValueError, match='began with 6 prompts, and now has 5'):
    draw(1, {'': some_prompts(5)}, cursor, step=2)


def test_what_8_of_8_solved_stays_out_where_16_are_asked():
  """The share counts, not the number, whichever way it changes."""
  prompts = some_prompts(4)
  first = [record(str(i), 1, right, 8) for i, right in enumerate((8, 7, 8, 0))]
  second = [record('1', 2, 16, 16, epoch=1), record('3', 2, 8, 16, epoch=1)]
  solved = Filter(drop_solved=True)
  after_one = Ledger(first)
  assert kept(prompts, after_one, solved) == ['1', '3']
  assert kept(prompts, after_one.extended(second), solved, epoch=2) == ['3']
  third = [record('3', 3, 4, 4, epoch=2), record('1', 3, 3, 4, epoch=2)]
  all_three = after_one.extended(second).extended(third)
  assert kept(prompts, all_three, solved, epoch=3) == ['1']


def test_epochs_done_and_progress():
  assert selection.epochs_done({}) == selection.progress({}) == 0
  prompts = dict(a=some_prompts(4, 'a'), b=some_prompts(8, 'b'))
  cursor, done, progress = {}, [], []
  for step in range(1, 13):
    _, cursor = draw(2, prompts, cursor, step=step)
    done.append(selection.epochs_done(cursor))
    progress.append(selection.progress(cursor))
  # One of each a step: `b` takes twice as long.
  assert progress == [n / 8 for n in range(1, 13)]
  assert done == [0] * 7 + [1] * 5
  _, cursor = draw(1, dict(a=prompts['a'], b=prompts['b']), {})
  assert selection.progress(cursor) == 0


def test_when_a_stage_stops():
  stop, flat = ending.should_stop, plateau.Rise(0.0, 0.0)
  assert stop(Stop(), 10**9, 10**9, None) is None
  assert stop(Stop(steps=5), 4, 9, None) is None
  assert stop(Stop(steps=5), 5, 0, None) == '5 steps'
  assert stop(Stop(epochs=2), 99, 1, None) is None
  assert stop(Stop(epochs=2), 99, 2, None) == '2 epochs'
  assert stop(Stop(steps=5, epochs=2), 5, 2, None) == '5 steps'
  rule = Stop(metric='same_prompts', window=3, gain=0.125)
  found = stop(rule, 1, 0, plateau.Rise(0.0625, 0.03, 1234))
  assert found == (
    'same_prompts rose by 0.0625 (standard error 0.03) over a window of 3 of '
    '1,234 prompts, surely less than 0.125'
  )
  assert stop(rule, 1, 0, plateau.Rise(0.0625, 0.03125)) is None
  assert stop(rule, 1, 0, flat) and not stop(rule._replace(gain=0), 1, 0, flat)


@pytest.mark.parametrize(
  'history, stops',
  [
    ([], False),
    ([0.5] * 5, False),  # Not twice the window.
    ([0.5] * 6, True),
    ([0.0, 0.1, 0.2, 0.3, 0.4, 0.5], False),  # Means 0.1 and 0.4.
    ([0.9, 0.0, 0.0, 0.25, 0.25, 0.25], False),  # It fell, as noise does.
    ([0.9, 0.8, 0.9, 0.25, 0.25, 0.25], True),
    ([0.0] * 9 + [0.5] * 3, False),
    ([0.0] * 3 + [0.5] * 6, True),  # Only the newest count.
    ([0.25] * 3 + [0.375] * 3, False),  # Just the gain.
    ([0.25] * 3 + [0.3749] * 3, True),
    ([0.5, math.nan] * 5 + [math.inf], False),  # Five values.
    ([0.5, math.nan] * 6, True),
  ],
)
def test_a_plateau(history, stops):
  rule = Stop(metric='pass_rate', window=3, gain=0.125)

  def rises(rule):
    place = dict(stage='s', since=0, newest=9, temperatures=())
    return ending.rise(rule, history, Ledger(), {}, **place)

  found = ending.should_stop(rule, 1, 0, rises(rule))
  assert (found is not None) == stops
  if stops:
    assert 'pass_rate rose by' in found and 'less than 0.125' in found
  assert rises(rule._replace(metric='')) is None
