"""The waste tree: every level sums exactly, and every leaf is right by hand."""

import collections
import math

import hypothesis
import properties
import pytest
from hypothesis import strategies as st

from acereason_jax.reporting import levers, waste
from acereason_jax.rollout import trace as trace_lib
from acereason_jax.run import account, usage

Line = account.Line
# A process that began at 1000 is killed within its third step, which had lasted
# 4 seconds. The next begins 10 seconds later with the checkpoint of step 1.
KILLED = [
  Line(0, 0, 1010.0, dict(start=4, load=3, compile=3)),
  Line(0, 1, 1020.0, dict(sample=6, update=2, judge=1, save=1)),
  Line(0, 2, 1030.0, dict(sample=5, update=3, between=2)),
  Line(0, 2, 1034.0, dict(sample=4)),
  Line(1, 1, 1050.0, dict(start=4, restore=2)),
  Line(1, 2, 1058.0, dict(sample=1, update=4, save=3)),
  # One second of its step was not counted.
  Line(1, 3, 1068.0, dict(sample=5, update=4)),
  Line(1, 3, 1069.0, dict(save=1)),
  Line(1, 4, 1070.0, dict(sample=1)),
]
METRICS = [
  dict(
    step=1,
    prefill_share=0.1,
    host_share=0.2,
    slot_share_trained=0.5,
    slot_share_tail=0.5,
    packed_tokens=100,
    packed_response_tokens=50,
    packed_prompt_tokens=25,
  ),
  dict(
    step=2,
    prefill_share=0.0,
    host_share=0.2,
    slot_share_trained=0.25,
    slot_share_no_signal=0.75,
    packed_tokens=300,
    packed_response_tokens=100,
    packed_prompt_tokens=100,
  ),
  dict(step=3, prefill_share=0.0, host_share=1 / 9),
  # No start sampled this step but from the journal.
  dict(step=4, prefill_share=0.0, host_share=0.0),
]


def flat(node, above=()):
  """The seconds of each leaf, by the names of it and what is above it."""
  name = (*above, node.name)
  if not node.parts:
    return {name[1:]: node.milliseconds / 1000}
  return {k: v for part in node.parts for k, v in flat(part, name).items()}


def check_sums(node):
  if node.parts:
    assert sum(p.milliseconds for p in node.parts) == node.milliseconds
    times = [p.milliseconds for p in node.parts]
    assert times == sorted(times, reverse=True) and times[-1] > 0
    assert len({p.name for p in node.parts}) == len(node.parts)
  for part in node.parts:
    check_sums(part)


def test_a_run_that_was_killed_by_hand():
  found = waste.tree(KILLED, METRICS)
  check_sums(found.root)
  assert found.root.name == 'wall time'
  assert found.root.milliseconds == 70_000
  decode = ('sample', 'decode')
  assert flat(found.root) == {
    ('start',): 8,
    ('load',): 3,
    ('compile',): 3,
    ('restore',): 2,
    ('wait for judges',): 1,
    ('save',): 2,
    ('between phases',): 2,
    ('down',): 10,
    ('lost',): 8,
    ('unrecorded',): 1,
    # 6 s of step 1, 5 s of step 2, 4 s and 5 s of step 3.
    ('sample', 'prefill'): 0.6,
    ('sample', 'host'): 1.2 + 1 + 1,
    (*decode, 'trained tokens'): 2.1 + 1,
    (*decode, 'tokens without signal'): 3,
    (*decode, 'idle slots, none waits'): 2.1,
    (*decode, 'not measured'): 8,
    ('sample', 'not measured'): 1,
    ('update', 'response tokens'): 1 + 1,
    ('update', 'prompt tokens'): 0.5 + 1,
    ('update', 'padding'): 0.5 + 1,
    ('update', 'not measured'): 4,
  }
  (note,) = found.notes
  assert 'up to 10 seconds' in note


def figures(node):
  mine = {node.name: node.figure} if node.figure else {}
  return mine | {k: v for part in node.parts for k, v in figures(part).items()}


def test_mfu_beside_updates_by_hand():
  """Of the steps that measured it, over the clock's seconds of updates.

  Step 1 compiled for 9 s of the 10 that its metrics count: at the peak its
  updates would take 0.2 of 10 s, of the 4 s without the compile. Step 2: 0.5 of
  4 s. Step 3 ran on another machine, and step 4 was not finished.
  """
  lines = [
    Line(0, 0, 10.0, dict(start=10)),
    Line(0, 1, 24.0, dict(update=4, compile=9, sample=1)),
    Line(0, 2, 30.0, dict(update=6)),
    Line(0, 3, 36.0, dict(update=6)),
    Line(0, 3, 40.0, dict(update=4)),
  ]
  rows = [
    dict(step=1, mfu=0.2, seconds_update=10.0),
    dict(step=2, mfu=0.5, seconds_update=4.0),
    dict(step=3, seconds_update=6.0),
  ]
  found = waste.tree(lines, rows)
  # 2 s of 4, and 2 s of 6.
  assert figures(found.root) == dict(update='MFU 40.0%')
  assert sum('bfloat16 peak' in note for note in found.notes) == 1
  check_sums(found.root)


@pytest.mark.parametrize(
  'row',
  [
    dict(mfu=0.0, seconds_update=4.0),
    dict(mfu=None, seconds_update=4.0),
    dict(mfu=True, seconds_update=4.0),
    dict(mfu=1.5, seconds_update=4.0),
    dict(mfu=math.nan, seconds_update=4.0),
    dict(mfu=0.5, seconds_update=None),
    dict(mfu=0.5, seconds_update='4'),
    dict(mfu=0.5),
    # More than the peak.
    dict(mfu=0.5, seconds_update=100.0),
    dict(seconds_update=4.0),
  ],
)
def test_what_is_no_mfu_is_not_told(row):
  lines = [Line(0, 0, 10.0, dict(start=10)), Line(0, 1, 14.0, dict(update=4))]
  found = waste.tree(lines, [dict(row, step=1)])
  assert figures(found.root) == {}
  assert not any('MFU' in note for note in found.notes)


def test_the_seconds_of_a_step_by_hand():
  found = waste.tree(KILLED, METRICS, range(3, 4))
  check_sums(found.root)
  assert flat(found.root) == {
    # The one that no line has, and 4 s before the kill.
    ('unrecorded',): 1,
    ('sample', 'host'): 1,
    ('sample', 'decode'): 8,
    ('update',): 4,
  }
  assert 'up to 10 seconds' not in ''.join(found.notes)
  # The second start led to step 2, which it took again.
  found = waste.tree(KILLED, METRICS, range(2, 3))
  of_starts = {('down',): 10, ('start',): 4, ('restore',): 2, ('lost',): 8}
  assert flat(found.root).items() >= of_starts.items()
  assert found.root.milliseconds == (10 + 10 + 6 + 8) * 1000
  assert 'up to 10 seconds' in found.notes[0]
  nothing = waste.tree(KILLED, METRICS, range(7, 9))
  assert (nothing.root.milliseconds, nothing.root.parts) == (0, ())
  assert nothing.notes == ('The clock has no seconds of these steps.',)


@properties.tried(200)
@hypothesis.given(st.data())
def test_steps_add_up_to_the_run(data):
  """Of any clock, in any parts; each second is in one of them."""
  lines, rows = data.draw(LINES), data.draw(ROWS)
  ends = sorted(data.draw(st.sets(st.integers(1, 9), max_size=3)))
  parts = list(map(range, [0, *ends], [*ends, 20]))
  found = [waste.tree(lines, rows, part).root for part in parts]
  for root in found:
    check_sums(root)
  whole = waste.tree(lines, rows).root
  sums = collections.Counter()
  for root in found:
    sums.update({p.name: p.milliseconds for p in root.parts})
  for part in whole.parts:
    # Each is rounded.
    assert abs(sums[part.name] - part.milliseconds) <= 2 * len(parts)


def test_the_last_step_ends_with_the_run():
  """What comes after it is of no other step that can be asked for."""
  lines = [
    Line(0, 0, 10.0, dict(start=10)),
    Line(0, 1, 12.0, dict(sample=2)),
    Line(0, 2, 15.0, dict(sample=3)),
    Line(0, 2, 20.0, dict(heldout=1, out=4)),
    # A start that found nothing to do.
    Line(1, 2, 27.0, dict(start=5)),
  ]
  rows = [dict(step=1), dict(step=2)]
  first, last = (waste.tree(lines, rows, range(i, i + 1)) for i in (1, 2))
  assert first.root.milliseconds == 12_000
  assert last.root.milliseconds == 15_000
  assert waste.tree(lines, rows).root.milliseconds == 27_000
  found = {p.name: p.milliseconds for p in last.root.parts}
  names = {levers.of(kind).title: kind for kind in ('sample', 'start', 'down')}
  assert {names[n]: found[n] for n in names} == dict(
    sample=3000, start=5000, down=2000
  )


def test_all_that_was_taken_twice_is_lost():
  """The second start is killed within a step that the first finished."""
  lines = [
    Line(0, 0, 10.0, dict(start=10)),
    *(Line(0, i, 10.0 + i, dict(sample=1)) for i in (1, 2, 3)),
    Line(1, 0, 14.0, dict(start=1)),
    Line(1, 1, 15.0, dict(sample=0.5, compile=0.5)),
    Line(1, 1, 15.25, dict(sample=0.25)),
    Line(2, 0, 17.0, dict(start=1)),
    *(Line(2, i, 17.0 + i, dict(sample=1)) for i in (1, 2, 3, 4)),
  ]
  found = waste.tree(lines, [])
  assert flat(found.root) == dict(
    zip([('start',), ('sample',), ('lost',), ('down',)], (12, 4, 4.25, 0.75))
  )
  assert 'No metrics say what sample was spent on.' in found.notes


def test_sampling_of_a_step_that_compiled_is_divided_as_in_the_others():
  """Its shares hold the compile, in which the device waited for the host."""
  lines = [
    Line(0, 0, 10.0, dict(start=10)),
    Line(0, 1, 50.0, dict(sample=4, compile=36)),
    Line(0, 2, 56.0, dict(sample=6)),
  ]
  shares = [(0.1, 0.85), (0.5, 0.25)]
  rows = [
    dict(step=i, prefill_share=p, host_share=h)
    for i, (p, h) in enumerate(shares, 1)
  ]
  found = flat(waste.tree(lines, rows).root)
  assert found['sample', 'prefill'] == 5
  assert found['sample', 'host'] == found['sample', 'decode'] == 2.5
  # If all compiled, they are all that there is.
  found = flat(waste.tree(lines[:2], rows).root)
  assert found['sample', 'prefill'] == 0.4


def test_without_a_clock_there_is_nothing():
  found = waste.tree(waste.read_clock('{"step": 1}\n'), METRICS)
  assert (found.root.milliseconds, found.root.parts) == (0, ())
  assert found.notes == ('The run has no clock.',)


@pytest.mark.parametrize('seconds, told', [(0.5, False), (3600.0, True)])
def test_a_clock_that_was_set_back_takes_nothing_away(seconds, told):
  lines = [
    Line(0, 0, 1000.0, dict(start=10)),
    Line(0, 1, 1010.0 - seconds, dict(sample=10)),
    Line(0, 2, 1020.0 - seconds, dict(sample=10)),
  ]
  found = waste.tree(lines, [])
  assert flat(found.root) == {('start',): 10, ('sample',): 20}
  assert any('was set back by 3,600 s' in note for note in found.notes) == told


BAD = [None, math.nan, math.inf, -0.1, 1.1, '1', True, [], {}, 10**400]


@pytest.mark.parametrize('bad', BAD, ids=repr)
def test_metrics_that_are_no_shares_divide_nothing(bad):
  lines = [*KILLED[:2], Line(0, 2, 1030.0, dict(update=1, sample=9))]
  want = flat(waste.tree(lines, METRICS[:1]).root)
  rows = [METRICS[0]]
  rows += [METRICS[1] | {name: bad} for name in METRICS[1] if name != 'step']
  for row in rows[1:]:
    found = waste.tree(lines, [METRICS[0], row])
    check_sums(found.root)
    assert found.root.milliseconds == 30_000
  everything = METRICS[1] | dict.fromkeys(METRICS[1].keys() - {'step'}, bad)
  assert flat(waste.tree(lines, [METRICS[0], everything]).root) == want
  waste.tree(lines, [dict(step=bad), {}])


KINDS = st.sampled_from([*account.KINDS.values(), 'compile', 'start', 'other'])
SECONDS = st.one_of(st.floats(0, 1e6), st.just(0.0), st.floats(0, 2e-3))
SHARE = st.one_of(st.floats(-0.1, 1.1), st.none())
NAMES = [
  *('prefill_share', 'host_share', 'packed_tokens'),
  *('packed_response_tokens', 'packed_prompt_tokens'),
  *(f'slot_share_{fate}' for fate in usage.FATES),
]
ROWS = st.lists(
  st.builds(
    lambda step, values: dict(values, step=step),
    st.integers(0, 8),
    st.dictionaries(st.sampled_from(NAMES), SHARE),
  ),
  max_size=9,
)
LINES = st.lists(
  st.builds(
    Line,
    st.integers(0, 3),
    st.integers(0, 8),
    st.floats(0, 1e7),
    st.dictionaries(KINDS, SECONDS, max_size=5),
  ),
  max_size=30,
)


@properties.tried(400)
@hypothesis.given(LINES, ROWS)
def test_every_level_sums_to_the_whole_of_any_clock(lines, rows):
  """Also of clocks that no run writes: in no order, back and forth."""
  found = waste.tree(lines, rows)
  check_sums(found.root)
  counted = sum(s for line in lines for s in line.seconds.values())
  assert found.root.milliseconds >= counted * 1000 - 1


@properties.tried(400)
@hypothesis.given(st.data())
def test_of_a_clock_in_order_nothing_but_gaps_is_added(data):
  """The whole is the time from the first begin to the last end."""
  now, lines, finished = 1e9, [], 0
  for start in range(data.draw(st.integers(1, 4))):
    now += data.draw(SECONDS) if start else 0.0
    step = data.draw(st.integers(0, finished))
    for _ in range(data.draw(st.integers(1, 6))):
      seconds = data.draw(st.dictionaries(KINDS, SECONDS, max_size=5))
      now += sum(seconds.values())
      lines.append(Line(start, step, now, seconds))
      finished, step = max(finished, step), step + 1
  found = waste.tree(lines, data.draw(ROWS))
  check_sums(found.root)
  began = lines[0].time - sum(lines[0].seconds.values())
  assert found.root.milliseconds == pytest.approx((now - began) * 1e3, abs=2)
  unrecorded = [p for p in found.root.parts if p.name == 'unrecorded']
  assert sum(p.milliseconds for p in unrecorded) <= 1


@hypothesis.given(
  st.integers(0, 10**15), st.lists(st.integers(0, 10**18), max_size=20)
)
def test_what_is_apportioned_is_all_and_nearly_in_proportion(total, weights):
  found = waste.apportioned(total, weights)
  assert len(found) == len(weights)
  if not any(weights):
    assert not any(found)
    return
  assert sum(found) == total
  for part, weight in zip(found, weights):
    # Within one of its share, in whole numbers.
    assert abs(part * sum(weights) - total * weight) < sum(weights)


def test_the_parts_have_names_and_levers():
  kinds = [*account.KINDS.values(), account.START, account.COMPILE]
  kinds += [account.BETWEEN, waste.DOWN, waste.LOST, waste.UNRECORDED]
  slots = trace_lib.slot_steps(trace_lib.Trace(), {}, usage.FATES)
  columns = 'response', 'prompt', 'padding', 'prefill', 'host', 'decode'
  names = {*kinds, *slots, *columns}
  assert levers.KNOWN.keys() == names | {'wall', waste.UNKNOWN}
  useful = {'trained', 'response'}
  for name in names:
    known = levers.of(name)
    assert bool(known.lever) == (name not in useful), name
    assert not known.lever or known.lever.endswith('.')
  titles = [known.title for known in levers.KNOWN.values()]
  assert len(set(titles)) == len(titles)
  found = waste.tree(KILLED, METRICS).root
  assert next(p for p in found.parts if p.name == 'lost').lever
