"""What a report says to look at first, for faults that are planted.

Curves are made up step by step, and rows of rollouts by hand.
"""

import math

import pytest
import reporting_rows
from reporting_rows import row

from acereason_jax.reporting import (
  alarms,
  curves,
  evidence,
  files,
  tallies,
  values,
)

CONFIG = dict(
  dtype='bfloat16',
  engine=dict(kv_dtype='', weights='', slots=0, speculate=0),
  rollout=dict(max_tokens=8192, temperature=0.85, refill=0, per_prompt=8),
  prompt=dict(suffix='', reasons=True),
  objective=dict(truncated='mask', entropy_bonus=0.0),
  optim=dict(learning_rate=1e-6),
  judge=dict(workers=16, max_failed_share=0.05),
  filter=dict(keep_unsolved=True),
  stages=[],
)
HEALTHY = dict(
  reward=lambda x: 0.3 + 0.3 * x,
  pass_rate=lambda x: 0.3 + 0.3 * x,
  response_length=lambda x: 3000 + 2500 * x,
  truncated_share=lambda x: 0.15 - 0.05 * x,
  unparsed_share=lambda x: 0.06 - 0.04 * x,
  judge_failed_share=lambda x: 0.001,
  zero_signal_share=lambda x: 0.4 + 0.1 * x,
  entropy=lambda x: 0.6 - 0.2 * x,
  mismatch=lambda x: 2e-3 + 1e-3 * x,
  nonfinite=lambda x: 0.0,
  judge_wait_share=lambda x: 0.05,
  slot_share_tail=lambda x: 0.1,
)


def found(steps=60, tally=None, starts=(), waste=None, config=(), **changes):
  """Alarms of a run whose metrics are functions of the time from 0 to 1."""
  made = HEALTHY | changes
  metrics = []
  for step in range(1, steps + 1):
    x = (step - 1) / max(steps - 1, 1)
    # Steps differ by some percent, as those of a run do.
    wave = 1 + 0.05 * math.sin(step)
    drawn = {k: f(x) * wave for k, f in made.items() if f(x) is not None}
    metrics.append(dict(drawn, step=step, stage=0.0))
  known = CONFIG | dict(config)
  return alarms.alarms(
    evidence.Evidence(
      metrics,
      curves.bands(metrics, files.stage_names(known)),
      known,
      tally or tallies.Tally(),
      starts,
      waste,
    )
  )


def urgent(alarms_):
  return [a for a in alarms_ if a.level != evidence.GOOD]


@pytest.mark.parametrize('steps', [0, 1, 2, 4, 8, 18, 60, 600])
def test_a_healthy_run_has_nothing_to_look_at(steps):
  assert not urgent(found(steps))


def test_a_run_that_learned_its_task_is_not_ill():
  """As the quick start: short, sure of itself, and most groups all right."""
  got = found(
    18,
    pass_rate=lambda x: 0.5 + 0.45 * x,
    entropy=lambda x: 0.5 * 0.08**x,
    response_length=lambda x: 30 * 0.4**x,
    zero_signal_share=lambda x: 0.1 + 0.7 * x,
  )
  assert not urgent(got)
  assert {a.title for a in got} == {
    'Entropy shrank as the task was learned',
    'Most prompts are solved',
  }


def only(alarms_, level=evidence.BAD):
  """The one alarm that is not good, of this level."""
  (alarm,) = urgent(alarms_)
  assert alarm.level == level
  return alarm


def test_a_missing_suffix(tmp_path):
  rows = [
    row(
      step=step,
      prompt=f'p{i % 8}',
      index=i,
      status='unparsed' if i % 4 else 'right',
      detail='no boxed answer' if i % 4 else 'string',
    )
    for step in (1, 2)
    for i in range(32)
  ]
  for step in (1, 2):
    mine = [r for r in rows if r.step == step]
    reporting_rows.write(tmp_path, mine, step)
  tally = tallies.tally(str(tmp_path), range(100))
  got = only(found(tally=tally, unparsed_share=lambda x: 0.75))
  assert 'cannot be read (unparsed)' in got.title and '76%' in got.title
  assert '"no boxed answer" 48 times' in got.detail
  assert "prompt.suffix (now '')" in got.detail
  assert got.section == 'rollouts' and got.filters['status'] == 'unparsed'
  assert got.filters['step_to'] == 60


def test_answers_that_are_cut_off_are_not_a_missing_suffix(tmp_path):
  rows = [
    row(prompt=f'p{i}', status='unparsed', detail='no </think>', stop='length')
    for i in range(20)
  ]
  reporting_rows.write(tmp_path, [*rows, row()], 1)
  tally = tallies.tally(str(tmp_path), range(100))
  got = only(found(tally=tally, unparsed_share=lambda x: 0.3))
  assert '100% of them were cut off' in got.detail
  assert 'rollout.max_tokens (now 8192)' in got.detail
  assert 'suffix' not in got.detail


def test_cut_off_answers_do_not_hide_a_missing_suffix(tmp_path):
  """Most are cut off, but those that ended are not read either."""
  rows = [
    row(
      prompt=f'p{i // 8}',
      index=i % 8,
      status='unparsed',
      detail='no box',
      stop='stop' if i % 4 == 0 else 'length',
    )
    for i in range(160)
  ]
  reporting_rows.write(tmp_path, rows, 1)
  tally = tallies.tally(str(tmp_path), range(99))
  every = dict(unparsed_share=lambda x: 1.0, zero_signal_share=lambda x: 1.0)
  every |= dict(pass_rate=lambda x: 0.0, reward=lambda x: 0.0)
  first, *others = found(tally=tally, **every)
  assert '100% of the responses that ended by themselves' in first.detail
  assert "prompt.suffix (now '')" in first.detail
  assert 'rollout.max_tokens' not in first.detail
  (dull,) = (a for a in others if 'no gradient' in a.title)
  assert 'cannot be read' in dull.detail and 'refill' not in dull.detail


def test_unparsed_answers_that_become_more():
  got = only(found(unparsed_share=lambda x: 0.01 + 0.08 * x), evidence.WARN)
  assert '2% in steps 1 to 10' in got.detail


def test_the_domain_that_is_not_read_is_named():
  shares = {
    'math/unparsed_share': lambda x: 0.02,
    'code/unparsed_share': lambda x: 0.6,
  }
  got = only(found(**shares))
  assert 'of code' in got.title and got.filters['domain'] == 'code'
  assert 'domains.code.prompt.suffix' in got.detail


def of_sets(tmp_path, broken, status='wrong', detail='WA test 1: ..'):
  """The alarms of a run in which set b of two sets fails; `broken` ids."""
  for step in (1, 2, 3):
    rows = []
    for number in range(8):
      for index in range(4):
        good = dict(status='right' if index % 2 else 'wrong', detail='x')
        bad = dict(status=status, detail=detail)
        rows.append(row(step=step, prompt=f'a-{number}', index=index, **good))
        rows.append(
          row(
            step=step,
            prompt=f'b-{number}',
            index=index,
            **bad if number < broken else good,
          )
        )
    reporting_rows.write(tmp_path, rows, step)
  return found(tally=tallies.tally(str(tmp_path), range(100)))


def test_a_set_of_tests_that_fails(tmp_path):
  got = urgent(of_sets(tmp_path, 8))
  assert got[0].level == evidence.BAD
  assert got[0].title == "No prompt of the set 'b-#' was ever solved"
  assert '96 answers read and 0 failed verdicts of 8 prompts' in got[0].detail
  assert '"WA test 1: .."' in got[0].detail and 'tests' in got[0].detail
  assert got[0].filters == dict(prompt='b-')


def test_a_set_whose_judge_fails(tmp_path):
  got = urgent(of_sets(tmp_path, 8, 'error', 'SANDBOX_ERROR no such file'))
  assert 'set' in got[0].title and '96 failed' in got[0].detail


def test_prompts_that_fail_in_the_same_words(tmp_path):
  (got,) = urgent(of_sets(tmp_path, 6))
  assert got.title == '6 prompts of math always fail in the same words'
  assert 'WA test 1' in got.detail and got.filters['detail'] == 'WA test 1: ..'


def test_prompts_that_are_never_solved_while_others_are(tmp_path):
  """As those with a wrong reference; their details differ."""

  def of(rate):
    for step in range(1, 5):
      rows = [
        row(
          step=step,
          prompt=f'p-{number}',
          index=index,
          status='right' if number > 5 and index < rate(number) else 'wrong',
          detail=f'WA test {step}: {index}',
        )
        for number in range(40)
        for index in range(8)
      ]
      reporting_rows.write(tmp_path, rows, step)
    tally = tallies.tally(str(tmp_path), range(9))
    return urgent(found(tally=tally))

  (got,) = of(lambda number: 2 + number % 6)
  assert got.title == '15% of prompts of math were never solved'
  assert '6 of 40' in got.detail and 'not just harder' in got.detail
  assert got.filters == dict(kind='never solved')
  # Without a gap they may be the hard ones.
  assert not of(lambda number: 1 + number % 7)


def test_sets_that_are_solved_now_and_then_are_fine(tmp_path):
  assert not urgent(of_sets(tmp_path, 0))


def test_a_domain_without_a_right_answer(tmp_path):
  rows = [
    row(prompt=f'p{i}', index=i, status='wrong', detail=f"exact: '{i}'")
    for i in range(80)
  ]
  reporting_rows.write(tmp_path, rows, 1)
  got = only(found(tally=tallies.tally(str(tmp_path), range(9))))
  assert got.title == 'No answer of math was ever right'
  assert '80 answers' in got.detail


def test_verdicts_that_fail(tmp_path):
  rows = [
    row(prompt=f'p{i}', status='timeout', detail=f'over {i}.0 s')
    for i in range(7)
  ]
  reporting_rows.write(tmp_path, [*rows, row()], 3)
  tally = tallies.tally(str(tmp_path), range(9))
  got = only(found(tally=tally, judge_failed_share=lambda x: 0.04))
  assert '"over # s" 7 times (math, timeout, step 3)' in got.detail
  assert 'max_failed_share (now 0.05)' in got.detail


def test_a_shrinking_entropy():
  flat = lambda x: 0.4
  got = only(found(entropy=lambda x: 0.6 * 0.2**x, pass_rate=flat))
  assert got.title.startswith('Entropy fell to 2')
  assert 'steps 1 to 10' in got.detail and 'steps 51 to 60' in got.detail
  below = int(got.detail.split('since step ')[1].split('.')[0])
  assert 25 < below < 40
  assert 'rollout.temperature (now 0.85)' in got.detail


@pytest.mark.parametrize(
  ('fn', 'named'),
  [('my_losses:loss', True), ('acereason_jax.rl.losses:clipped', False)],
)
def test_a_shrinking_entropy_may_be_of_a_loss_of_ones_own(fn, named):
  changed = dict(objective=dict(CONFIG['objective'], loss=dict(fn=fn)))
  falls = dict(entropy=lambda x: 0.6 * 0.2**x, pass_rate=lambda x: 0.4)
  got = only(found(config=changed, **falls))
  told = f"Look at objective.loss (now '{fn}') first"
  assert (told in got.detail) == named


def test_entropy_is_compared_within_a_stage():
  """The second stage begins where the first one ended."""
  metrics = [
    dict(
      step=step,
      stage=float(step > 40),
      pass_rate=0.5,
      entropy=0.9 if step <= 40 else 0.3,
    )
    for step in range(1, 81)
  ]
  known = CONFIG | dict(stages=[dict(name='a'), dict(name='b')])
  bands = curves.bands(metrics, ['a', 'b'])
  seen = evidence.Evidence(metrics, bands, known, tallies.Tally(), (), None)
  assert not urgent(alarms.alarms(seen))
  for m in metrics[20:40]:
    m['entropy'] = 0.3
  got = only(alarms.alarms(seen))
  assert 'stage a' in got.detail and 'since step 21' in got.detail


FAULTS = dict(
  exploding=(dict(entropy=lambda x: 0.6 + 2 * x), 'Entropy rose', 'bad'),
  mismatch=(dict(mismatch=lambda x: 0.05), 'disagree', 'bad'),
  drift=(dict(mismatch=lambda x: 1e-3 + 1e-2 * x), 'drift apart', 'warn'),
  truncated=(dict(truncated_share=lambda x: 0.4), 'cut off', 'warn'),
  very_truncated=(dict(truncated_share=lambda x: 0.7), 'cut off', 'bad'),
  dull=(dict(zero_signal_share=lambda x: 0.7), 'no gradient', 'warn'),
  unrewarded=(dict(reward=lambda x: 0.02), 'get no reward', 'warn'),
  collapse=(
    dict(response_length=lambda x: 3000 * 0.2**x, pass_rate=lambda x: 0.3),
    'collapse',
    'warn',
  ),
  runaway=(
    dict(
      response_length=lambda x: 2000 + 6000 * x,
      truncated_share=lambda x: 0.25 * x,
    ),
    'run away',
    'warn',
  ),
  judges=(dict(judge_wait_share=lambda x: 0.3), 'waits for judges', 'warn'),
  tail=(dict(slot_share_tail=lambda x: 0.4), 'idle', 'warn'),
  nonfinite=(
    dict(nonfinite=lambda x: float(x > 0.98)),
    'no finite gradient',
    'bad',
  ),
)


@pytest.mark.parametrize('name', FAULTS)
def test_each_fault_is_named(name):
  changes, words, level = FAULTS[name]
  got = only(found(**changes), level)
  assert words in got.title
  # A remedy names a field, or where to look.
  assert '.' in got.detail and got.section in (
    *('curves', 'rollouts', 'prompts', 'slots', 'time'),
  )


def test_held_out_rates_that_fall_or_rise():
  def of(*rates, error=0.02):
    metrics = [
      {
        'step': i + 1,
        'stage': 0.0,
        'heldout/main': rate,
        'heldout_error/main': error,
      }
      for i, rate in enumerate(rates)
    ]
    bands = curves.bands(metrics, ['main'])
    seen = evidence.Evidence(metrics, bands, CONFIG, tallies.Tally(), (), None)
    return alarms.alarms(seen)

  assert only(of(0.5, 0.6, 0.4)).title == 'The held-out rate fell'
  # 4 points are 1.4 errors of the difference.
  assert not of(0.5, 0.54, 0.5)
  (rose,) = of(0.4, 0.5, 0.6)
  assert rose.level == 'good' and '40.0% +-2.0 (step 1)' in rose.detail
  # The best of many looks is high by luck.
  assert not urgent(of(*[0.5, 0.53] * 30, 0.47))
  assert not of(0.5, 0.1, error=None)


def test_starts_that_got_nowhere():
  died = files.Begun(4, '', '', 'update')
  assert not found(starts=[died] * 3)
  got = only(found(starts=[died] * 5))
  assert got.title == '4 starts got nowhere' and "'update'" in got.detail
  assert not found(starts=[*[died] * 5, died._replace(ended='asked')])
  assert not found(starts=[*[died] * 5, died._replace(step=5)])


def test_wall_time_that_nobody_used():
  def tree(**parts):
    nodes = [values.Node(n, 1000 * s, '', ()) for n, s in parts.items()]
    total = sum(n.milliseconds for n in nodes)
    return values.Waste(values.Node('wall time', total, '', nodes), ())

  assert not found(waste=tree(sample=90, down=5, lost=4, unrecorded=0))
  assert 'down' in only(found(waste=tree(sample=80, down=20)), 'warn').title
  got = only(found(waste=tree(sample=9700, unrecorded=300)), 'warn')
  assert got.title == '3% of the wall time is unrecorded'


def test_slots_that_idle_say_how_many_there_are():
  for slots, said in ((0, ' (now 0: all'), (48, ' (now 48)')):
    engine = CONFIG['engine'] | dict(slots=slots)
    changes = dict(config=dict(engine=engine), slot_share_tail=lambda x: 0.5)
    got = only(found(**changes), evidence.WARN)
    assert f'engine.slots{said}' in got.detail


def test_settings_are_those_of_the_last_stage():
  stage = dict(name='long', rollout=dict(max_tokens=16384))
  got = only(
    found(truncated_share=lambda x: 0.5, config=dict(stages=[stage])),
    evidence.WARN,
  )
  assert 'max_tokens (now 16384)' in got.detail


def test_a_config_that_is_none_of_ours_is_no_error():
  for config in (None, [], dict(stages='x'), dict(stages=[3], rollout=7)):
    known = dict(config) if isinstance(config, dict) else {}
    got = found(truncated_share=lambda x: 0.5, config=known)
    assert len(urgent(got)) == 1


def test_a_pass_rate_that_rises_while_entropy_falls_is_less_urgent():
  falls = lambda x: 0.6 * 0.2**x
  got = only(found(entropy=falls, pass_rate=lambda x: 0.4))
  assert 'pass rate rose' not in got.detail
  got = only(found(entropy=falls, pass_rate=lambda x: 0.2 + 0.4 * x), 'warn')
  assert 'while the pass rate rose' in got.detail
