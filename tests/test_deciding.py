"""Probes that end once they decide: what they say, and what they ask.

The engine is a schedule whose rollouts have lengths and no tokens; outcomes
depend on the prompt and the index only, as of a real one.
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import itertools
import json
import math
import random
import threading
import types as python_types

import numpy as np
import pytest

from acereason_jax import types
from acereason_jax.curriculum import filtering
from acereason_jax.curriculum.filtering import Filter
from acereason_jax.curriculum.ledger import Ledger, Result, record
from acereason_jax.hosts import gather
from acereason_jax.rl import objective
from acereason_jax.rollout import engine_sizes, exchange, schedule
from acereason_jax.rollout import requests as requests_lib
from acereason_jax.rollout import trace as trace_lib
from acereason_jax.run import (
  answers,
  collect,
  deciding,
  journal,
  judged,
  values,
)

RULES = objective.Rules('score', 0, 64)
KINDS = {
  'r': Result('right', 3, False, True),
  'w': Result('wrong', 3, False, False),
  'f': Result('timeout', 3, False, False),
}


def prompt(name, domain=''):
  return types.Prompt(name, '', '', np.full(3, hash(name) % 997, np.int32))


# What decides.


def fates(filter, sequences):
  """Whether each prompt stays, by what it was asked; none was trained on."""
  prompts = [prompt(name) for name in sequences]
  known = Ledger(
    record(p, [KINDS[kind] for kind in p.id], 'probe', 's', 0, 0)
    for p in prompts
  )
  # One more keeps the epoch from being empty.
  kept = filtering.survivors(
    [*prompts, prompt('stays')],
    known,
    filter,
    stage='s',
    epoch=0,
    before_step=1,
    seed=0,
  )
  kept = {p.id for p in kept}
  return {name: name in kept for name in sequences}


RULES_OF_FILTERS = [
  Filter(of=of, max_solved=most, keep_unsolved=keep, min_judged=share)
  for of, most, keep, share in itertools.product(
    (1, 2, 3, 5), (0, 1, 2, 4), (True, False), (0.0, 0.5, 1.0)
  )
  if most < of
]


@pytest.mark.parametrize('filter', RULES_OF_FILTERS)
def test_the_first_that_decide_say_what_all_would(filter):
  """Of every sequence of right, wrong and failed verdicts; and no fewer do."""
  wholes = [''.join(s) for s in itertools.product('rwf', repeat=filter.of)]
  first = {}
  for whole in wholes:
    found = filtering.deciding(filter, [KINDS[kind] for kind in whole])
    first[whole] = whole[: len(found)]
    assert [KINDS[kind] for kind in first[whole]] == found
  whole_fates = fates(filter, wholes)
  prefix_fates = fates(filter, sorted(set(first.values())))
  for whole in wholes:
    assert whole_fates[whole] == prefix_fates[first[whole]], whole
  assert filtering.fewest(filter) == min(map(len, first.values()))
  # What was never solved and what was solved too often may both leave, each for
  # its own reason: only one of them can come back.
  if not filter.keep_unsolved:
    return
  for whole in wholes:
    for n in range(1, len(first[whole])):
      follow = {whole_fates[w] for w in wholes if w.startswith(whole[:n])}
      assert len(follow) == 2, (whole, n)


def test_of_sixteen_at_random():
  random.seed(0)
  for keep, most in itertools.product((True, False), (6, 10, 14, 15)):
    filter = Filter(of=16, max_solved=most, keep_unsolved=keep)
    rate = lambda: random.choices('rwf', [random.random() ** 2, 0.3, 0.1], k=16)
    wholes = sorted({''.join(rate()) for _ in range(400)})
    found = [
      filtering.deciding(filter, [KINDS[kind] for kind in whole])
      for whole in wholes
    ]
    first = {w: w[: len(f)] for w, f in zip(wholes, found)}
    whole_fates = fates(filter, wholes)
    prefix_fates = fates(filter, sorted(set(first.values())))
    assert all(whole_fates[w] == prefix_fates[first[w]] for w in wholes)


@pytest.mark.parametrize(
  'sequence, count',
  [
    # 7 right are too many, but all others might fail: half must be judged.
    ('r' * 16, 8),
    ('w' * 16, 10),
    ('wwrrrrrrr' + 'w' * 7, 9),
    ('rrrrrr' + 'w' * 10, 16),
    ('f' * 16, 9),
    # 3 more are at most 3 of 10; with 4 more it was 4 of 10.
    ('wf' * 8, 13),
    ('wfw' + 'w' * 13, 11),
  ],
)
def test_hard_by_hand(sequence, count):
  filter = Filter(of=16, max_solved=6)
  found = filtering.deciding(filter, [KINDS[kind] for kind in sequence])
  assert len(found) == count
  rest = [KINDS[kind] for kind in sequence[: count - 1]]
  assert filtering.deciding(filter, [*rest, None, *found]) is None
  assert filtering.fewest(filter) == 8


# Who is asked how often.


SIZES = engine_sizes.Sizes(
  slots=6,
  shards=2,
  page=4,
  chunk=4,
  pages=60,
  rows=2,
  piece=8,
  window=8,
  max_tokens=64,
)


class Engine:
  """A schedule without tokens. `asked` counts what was in a slot."""

  def __init__(self, sizes=SIZES, after=lambda: None):
    self.sizes, self.after = sizes, after
    self.asked = collections.Counter()
    self.order = []

  def stream(
    self, params, requests, *, seed, step, temperature, trace, until, unwanted
  ):
    plan, left = schedule.Schedule(self.sizes, requests, trace), {}
    while plan.busy:
      plan.admit(lambda _: 0)
      count, state = [], []
      for live in itertools.chain(*(shard.slots for shard in plan.shards)):
        if live is None:
          count.append(0)
          state.append(exchange.STOP)
          continue
        key = live.request.key
        if key not in left:
          self.asked[key] += 1
          self.order.append(key)
        left.setdefault(key, length(key))
        count.append(min(left[key], self.sizes.chunk))
        left[key] -= count[-1]
        state.append(exchange.RUNNING if left[key] else exchange.STOP)
      for live, _ in plan.advance(max(count), count, state):
        yield rollout(live.request)
      self.after()
      if until():
        break
      plan.drop(unwanted())


def length(key):
  return 1 + random.Random(str(key)).randrange(30)


def rollout(request):
  tokens = np.zeros(length(request.key), np.int32)
  name, index = request.key
  return types.Rollout(
    prompt_id=name,
    index=index,
    tokens=tokens,
    logp=np.full(len(tokens), -0.1 * (index + 1), np.float32),
    full_logp=tokens.astype(np.float32),
    stop='length' if length(request.key) == 30 else 'stop',
    text=f'{name} {index}',
    entropy=0.5 * index,
  )


def says(name, index, status):
  """A detail that is too long, with letters that are none."""
  return f'{status} {name} {index} \ud83d\ude00 ' + 300 * 'x'


class Pool:
  """Judges by a function of (prompt id, index), late and in any order."""

  def __init__(self, status, seed=0):
    self.status, self.random = status, random.Random(seed)
    self.waiting, self.asked = [], 0

  def submit(self, text, answer):
    self.asked += 1
    name, index = text.split(' ')
    future = concurrent.futures.Future()
    status = self.status(name, int(index))
    verdict = types.Verdict(status, says(name, int(index), status), 0.0)
    self.waiting.append((future, verdict))
    return future

  def some(self, most=3):
    """Some verdicts come."""
    self.random.shuffle(self.waiting)
    for _ in range(min(self.random.randint(0, most), len(self.waiting))):
      future, verdict = self.waiting.pop()
      if future.set_running_or_notify_cancel():
        future.set_result(verdict)


class Notes:
  """A journal in memory."""

  def __init__(self, found=types.EMPTY):
    self.found = dict(found)

  def verdict(self, phase, step, prompt_id, index, verdict):
    key = journal.Key(phase, step, prompt_id, index)
    self.found[key] = journal.Entry(None, verdict)


class Stop:
  """Asks nobody to stop; counts the safe points."""

  def __init__(self, point=lambda: None):
    self.points, self.point = 0, point

  def agreed(self):
    self.points += 1
    self.point()
    return False

  def heed(self):
    self.agreed()


HARD = Filter(of=16, max_solved=6)
PROMPTS = [prompt(f'p{i}') for i in range(12)]


def outcome(name, index):
  """Prompts from never to always right, some with failures."""
  rate = int(name[1:]) % 10 / 9
  draw = random.Random(f'{name} {index}').random
  if draw() < 0.03:
    return 'timeout'
  return 'right' if draw() < rate else random.choice(('wrong', 'unparsed'))


def certain(name, index):
  """As `outcome`, with the same words every time."""
  status = outcome(name, index)
  return 'wrong' if status == 'unparsed' else status


def decide(*args, **kwargs):
  """(results by prompt, the engine) of a probe."""
  found, engine = ask(*args, **kwargs)
  return {p: [a.result for a in row] for p, row in found.items()}, engine


def ask(
  notes,
  filter=HARD,
  status=certain,
  seed=0,
  sizes=SIZES,
  prompts=PROMPTS,
  stop=None,
  share=1.0,
  batch=64,
  stage='s',
):
  """(answers by prompt, the engine) of a probe."""
  pool = Pool(status, seed)
  engine = Engine(sizes, pool.some)
  stop = stop or Stop(pool.some)
  tools = values.Tools(
    prompts={},
    judges={'': values.Judges(pool, 60.0, share)},
    journal=notes,
    stop=stop,
  )
  question = deciding.Question(stage, filter, RULES, batch, 4)
  asking = collect.Asking((0, 1), 'probe', 7, 1.0)
  # Once all is drawn, verdicts come while the probe looks on.
  late = deciding.judging.late

  def hurried(waiting, *args):
    pool.some(10**6)
    while pool.waiting:
      pool.some(10**6)
    return late(waiting, *args)

  with pytest.MonkeyPatch.context() as patch:
    if threading.current_thread() is threading.main_thread():
      patch.setattr(deciding.judging, 'late', hurried)
    found = deciding.decide(
      engine, lambda: None, prompts, tools, asking, question
    )
  return found, engine


def expected(filter=HARD, status=certain, prompts=PROMPTS):
  """From all outcomes, which no probe sees."""
  found = {}
  for p in prompts:
    row = [status(p.id, i) for i in range(filter.of)]
    row = [
      Result(s, length((p.id, i)), length((p.id, i)) == 30, s == 'right')
      for i, s in enumerate(row)
    ]
    found[p.id] = filtering.deciding(filter, row)
  return found


def plain(found):
  """Answers as text: nan is not nan."""
  return {p: [repr(a) for a in row] for p, row in found.items()}


def expected_answers():
  """As `plain` has them."""
  rewards = dict(right=1.0, wrong=0.0, timeout=math.nan)
  return plain(
    {
      p: [
        answers.Answer(
          r,
          says(p, i, r.status)[:300],
          rewards[r.status],
          'length' if r.truncated else 'stop',
          r.tokens * float(np.float32(-0.1 * (i + 1))),
          0.5 * i,
        )
        for i, r in enumerate(row)
      ]
      for p, row in expected().items()
    }
  )


def test_a_probe_asks_until_it_knows():
  found, engine = decide(Notes())
  assert found == expected()
  assert max(engine.asked.values()) == 1
  counted = {(p, i) for p, row in found.items() for i in range(len(row))}
  assert counted <= set(engine.asked)
  # Many rollouts were not drawn: of 12 prompts all are 192.
  assert len(engine.asked) < 160


def test_its_answers_are_those_of_the_judge():
  found, _ = ask(Notes())
  assert plain(found) == expected_answers()


def test_an_answer_has_the_reward_of_its_stage():
  request = python_types.SimpleNamespace(key=('p0', 2))
  cut = dataclasses.replace(rollout(request), stop='length')
  tokens = len(cut.tokens)
  assert 1 < tokens < 30
  found = answers.possible(cut, objective.Rules('zero', 0, 64))
  assert found['right'].reward == 0 and not found['right'].result.solved
  # It loses a part of 1: (tokens - (max - soft)) / soft.
  found = answers.possible(
    cut, objective.Rules('score', tokens, 2 * tokens - 1)
  )
  assert found['right'].reward == pytest.approx(1 - 1 / tokens)
  assert found['unparsed'].reward == pytest.approx(-1 / tokens)
  assert found['right'].result.solved and not found['unparsed'].result.solved
  assert math.isnan(found['error'].reward)
  for status, answer in found.items():
    assert answer.result.status == status
    note = answers.to_note(answer)
    assert repr(answers.from_note(note)) == repr(answer)


def test_a_note_of_an_older_version_is_asked_again():
  notes = Notes()
  found, engine = decide(notes)
  for key, entry in notes.found.items():
    short = json.dumps(json.loads(entry.verdict.detail)[:3])
    verdict = types.Verdict(entry.verdict.status, short, 0.0)
    notes.found[key] = journal.Entry(None, verdict)
  again, other = decide(notes)
  assert again == found and other.asked == engine.asked


def test_the_first_that_can_decide_come_first():
  """Prompt by prompt, and then all others index by index."""
  asked = requests_lib.for_prompts(PROMPTS[:2], 4, 64)
  found = [request.key for request in deciding.in_order(asked, 2)]
  assert found == [
    *[('p0', 0), ('p0', 1), ('p1', 0), ('p1', 1)],
    *[('p0', 2), ('p1', 2), ('p0', 3), ('p1', 3)],
  ]


@pytest.mark.parametrize('slots', [2, 10, 64, 256])
@pytest.mark.parametrize('seed', [1, 2])
def test_its_results_depend_on_no_timing(slots, seed):
  sizes = SIZES._replace(slots=slots, pages=20 * slots + 2)
  found, engine = decide(Notes(), seed=seed, sizes=sizes)
  assert found == expected()
  assert max(engine.asked.values()) == 1


class Killed(BaseException):
  pass


def test_killed_at_any_point_it_asks_for_the_rest(tmp_path):
  """And again and again, with a journal on a disk."""
  quiet = lambda: None
  open_journal = lambda: journal.Journal(tmp_path / 'journal', 'print')
  kills, total = 0, collections.Counter()
  for kill in itertools.count(1):
    left = [kill]

    def point(left=left):
      left[0] -= 1
      if left[0] == 0:
        raise Killed

    with open_journal() as kept:
      before = {(k.prompt_id, k.index) for k in kept.found}
      pool_stop = Stop(point)
      try:
        found, engine = ask(kept, seed=kill, stop=pool_stop)
      except Killed:
        kills += 1
        continue
    assert not before & set(engine.asked)
    total += engine.asked
    break
  assert kills > 5 and plain(found) == expected_answers()
  # Now that all is known, nothing is asked, not even what failed.
  with open_journal() as kept:
    pool_stop = Stop(quiet)
    found, engine = ask(kept, stop=pool_stop)
  assert plain(found) == expected_answers() and not engine.asked
  words = [v.status for e in kept.found.values() for v in [e.verdict]]
  assert 'timeout' in words


def test_the_next_stages_probe_leaves_that_of_a_stage_that_ended_at_once():
  """Both asked at one step; after a kill neither is asked again."""
  notes = Notes()
  found, engine = decide(notes)
  assert engine.asked
  other, engine = decide(notes, stage='next', filter=Filter(of=4, max_solved=2))
  assert engine.asked
  again, engine = decide(notes)
  assert again == found and not engine.asked
  again, engine = decide(notes, stage='next', filter=Filter(of=4, max_solved=2))
  assert again == other and not engine.asked


class Gang:
  """Threads as processes of jax."""

  def __init__(self, count):
    self.barrier = threading.Barrier(count, timeout=60)
    self.local, self.parts = threading.local(), [None] * count
    self.rounds = 0

  def process_index(self):
    return self.local.index

  def process_count(self):
    return len(self.parts)

  def process_allgather(self, part):
    self.parts[self.local.index] = part
    self.barrier.wait()
    every = np.stack(self.parts)
    if self.barrier.wait() == 0:
      self.rounds += 1
    return every


@pytest.fixture
def gang(request, monkeypatch):
  """A gang of `request.param` threads, which deciding takes for processes."""
  made = Gang(request.param)
  quiet = python_types.SimpleNamespace(
    phase=lambda *_: contextlib.nullcontext(), progress=lambda: None
  )
  for module in (deciding, gather):
    monkeypatch.setattr(module, 'jax', made)
    monkeypatch.setattr(module, 'multihost_utils', made)
  for module in (deciding, collect):
    monkeypatch.setattr(module, 'watchdog', quiet)
  monkeypatch.setattr(deciding.metrics, 'say', lambda *_: None)
  return made


def together(gang, process):
  """The results of `process(index)` of all, or what they raised."""
  found = {}

  def run(index):
    gang.local.index = index
    try:
      found[index] = process(index)
    except judged.JudgeFailed as e:
      found[index] = e
    except BaseException:
      gang.barrier.abort()
      raise

  indices = range(gang.process_count())
  threads = [threading.Thread(target=run, args=(i,)) for i in indices]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  return [found[i] for i in indices]


@pytest.mark.parametrize('gang', [2, 3], indirect=True)
@pytest.mark.parametrize('seed', [0, 1, 2])
def test_several_processes_know_what_one_knows(gang, seed):
  count = gang.process_count()
  # Some verdicts are lost in the middle, and all that one process noted.
  notes = [Notes() for _ in range(count)]
  results = together(gang, lambda i: ask(notes[i], seed=seed + 10 * i))
  found, engines = zip(*results)
  one, _ = ask_alone(seed)
  for each in found:
    assert plain(each) == plain(one) == expected_answers()
  orders = [engines[i].order for i in range(count)]
  assert all(order == orders[0] for order in orders)
  # Each noted its share, and together they hold all that counts.
  shares = [set(n.found) for n in notes]
  assert not set.intersection(*shares) and all(shares)
  known = {(k.prompt_id, k.index) for k in set.union(*shares)}
  assert {(p, i) for p, row in one.items() for i in range(len(row))} <= known
  # What failed too, the first process has noted as a later try will read it.
  failed = [
    n for n in notes[0].found.items() if n[1].verdict.status == 'timeout'
  ]
  assert failed
  for key, entry in failed:
    answer = one[key.prompt_id][key.index]
    assert repr(answers.from_note(entry.verdict)) == repr(answer)


@pytest.mark.parametrize('gang', [2, 3], indirect=True)
@pytest.mark.parametrize('share', [0.3, 0.9])
def test_what_several_left_is_gone_on_with_by_others(gang, share):
  """Of a journal that holds a part of the notes, by as many and by one."""
  notes = [Notes() for _ in range(gang.process_count())]
  together(gang, lambda i: ask(notes[i], seed=i))
  every = {k: e for n in notes for k, e in n.found.items()}
  # Failed verdicts are noted at the end only.
  left = {
    key: entry
    for key, entry in every.items()
    if entry.verdict.status != 'timeout'
    and random.Random(str(key)).random() < share
  }
  again = together(gang, lambda i: ask(Notes(left), seed=9 + i))
  for found, _ in again:
    assert plain(found) == expected_answers()
  found, engine = ask_alone(3, Notes(left))
  assert plain(found) == expected_answers()
  assert not engine.asked.keys() & {(k.prompt_id, k.index) for k in left}


@pytest.mark.parametrize('gang', [2, 3], indirect=True)
def test_all_processes_know_why_the_judge_of_one_failed(gang):
  last = gang.process_count() - 1

  def broken(name, index):
    # Those of the last process.
    place = 16 * int(name[1:]) + index
    return 'error' if place % (last + 1) == last else 'wrong'

  found = together(
    gang, lambda i: ask(Notes(), status=broken, share=0.05, seed=i)
  )
  (line,) = {str(each) for each in found}
  assert f'; the first: p0: error: error p0 {last} ' in line


def ask_alone(seed, notes=None):
  with pytest.MonkeyPatch.context() as patch:
    alone = python_types.SimpleNamespace(
      process_count=lambda: 1, process_index=lambda: 0
    )
    for module in (deciding, gather):
      patch.setattr(module, 'jax', alone)
    return ask(Notes() if notes is None else notes, seed=seed)


def test_a_judge_that_fails_is_no_answer():
  """Its failures end the run, and once it is fixed all of them are asked."""
  notes = Notes()
  broken = lambda name, index: 'error' if index % 3 == 0 else 'wrong'
  with pytest.raises(judged.JudgeFailed, match=r'of \d+ verdicts failed.*: p'):
    decide(notes, status=broken, share=0.05)
  assert notes.found
  assert all(e.verdict.status == 'wrong' for e in notes.found.values())
  found, _ = decide(notes, status=lambda name, index: 'wrong', share=0.05)
  assert all(len(row) == 10 for row in found.values())


def test_few_failures_are_no_large_share_of_few_prompts():
  """They count once the probe is over, and another try does not ask again."""
  notes, few = Notes(), PROMPTS[:2]
  once = lambda name, index: 'timeout' if index == 1 else 'wrong'
  asked = dict(prompts=few, status=once, share=0.05, batch=64)
  found, _ = decide(notes, **asked)
  assert [r.status for r in found['p0']].count('timeout') == 1
  assert len(found['p0']) == 11
  again, engine = decide(notes, **asked)
  assert again == found and not engine.asked


def test_rollouts_that_could_not_be_drawn(monkeypatch):
  """They are the judge's failures, not answers."""
  whole = rollout
  cut = lambda r: dataclasses.replace(whole(r), stop='error', detail='nan')
  monkeypatch.setattr(
    'test_deciding.rollout', lambda r: cut(r) if r.index == 2 else whole(r)
  )
  found, _ = decide(Notes(), status=lambda *_: 'wrong')
  assert all(row[2].status == 'error' for row in found.values())
  assert all(len(row) == 11 for row in found.values())


def test_dropped_requests_change_no_other():
  asked = requests_lib.for_prompts(PROMPTS, 3, 64)
  flat = [request for group in asked for request in group]
  events = {}
  for unwanted in ((), ('p3', 'p11')):
    trace = trace_lib.Trace()
    engine = Engine()
    ended = engine.stream(
      None,
      flat,
      seed=0,
      step=0,
      temperature=1.0,
      trace=trace,
      until=lambda: False,
      unwanted=lambda unwanted=unwanted: unwanted,
    )
    events[unwanted] = {r.key: len(r.tokens) for r in ended}
  every, some = events.values()
  assert len(every) == 36 and every.items() >= some.items()
  gone = {name for name, _ in every.keys() - some.keys()}
  # p3 had begun before the first call was over.
  assert gone == {'p3', 'p11'} and ('p11', 0) not in some
