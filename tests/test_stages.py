"""A run of several stages: what each does, and that nothing interrupts it.

Waiting has a guard, which says that a run hangs; nothing here is timed.
"""

import json
import random
import re
import signal
import time

import gangs
import jax
import numpy as np
import pytest
import tiny
from runs import (
  Command,
  assert_same_run,
  ledger_of,
  metrics_of,
  saved_steps,
  state_of,
)

from acereason_jax import ledger, train
from acereason_jax.config import checks
from acereason_jax.run import checkpoint, values

pytestmark = pytest.mark.usefixtures('compiled_once')
BY_EPOCH = dict(fn='acereason_jax.rl.control:by_epoch')
# The three stages of `tiny.staged`.
ENDS = 2, 5, 7


@pytest.fixture(scope='module')
def command(folder, compiled):
  """A run of the three stages, given its workdir and flags."""
  return lambda *args, **kwargs: Command(
    folder, compiled, *args, **dict(config='staged_config') | kwargs
  )


@pytest.fixture(scope='module')
def reference(folder, command):
  """(workdir, printed text) of the run that nothing disturbed."""
  workdir = folder / 'reference'
  keep = f'--config.checkpoint.keep={ENDS[-1]}'
  return workdir, command(workdir, keep).ends(0)


def test_stages_follow_each_other(reference):
  workdir, said = reference
  rows = metrics_of(workdir)
  assert [row['step'] for row in rows] == list(range(1, 8))
  assert [row['stage'] for row in rows] == [0, 0, 1, 1, 1, 2, 2]
  assert all(row['response_length'] <= 4 for row in rows[:2])
  assert max(row['response_length'] for row in rows[2:]) > 4
  order = ['math_short: over, 2 steps', 'math_long: asking 10 prompts up to 4']
  order += ['math_long: over, 3 steps', 'both: over, 2 steps']
  places = [said.index(f'stage {text}') for text in order]
  assert places == sorted(places)
  # Each stage is saved at its end.
  assert {2, 5, 7} <= set(saved_steps(workdir))


def test_held_out_questions_are_asked_when_they_should(reference):
  workdir, _ = reference
  rows = metrics_of(workdir)
  asked = {
    name: [row['step'] for row in rows if f'heldout/{name}' in row]
    for name in ('math', 'code')
  }
  # At ends all; code at step 6, in the stage that has it, and not at step 3.
  assert asked == dict(math=[2, 3, 5, 6, 7], code=[2, 5, 6, 7])
  summary = json.loads((workdir / 'summary.json').read_text())
  ends = summary['heldout']
  assert [e['stage'] for e in ends] == ['', 'math_short', 'math_long', 'both']
  assert [e['step'] for e in ends] == [0, *ENDS]
  by_step = {row['step']: row for row in rows}
  for end in ends[1:]:
    assert end['heldout/code'] == by_step[end['step']]['heldout/code']
  best = max(asked['code'], key=lambda s: (by_step[s]['heldout/code'], s))
  assert summary['best_step'] == best


def test_the_ledger_has_every_group(reference):
  workdir, _ = reference
  known = ledger_of(workdir, 7)
  records = list(known)
  probes = [r for r in records if r.kind == 'probe']
  assert {(r.stage, r.step) for r in probes} == {('math_long', 2)}
  # Wrong once, and it is not right 4 times of 4.
  assert len(probes) == 10
  assert all(r.rollouts == (4 if r.right == 4 else r.right + 1) for r in probes)
  rows = metrics_of(workdir)
  for row in rows:
    mine = [r for r in records if r.kind == 'train' and r.step == row['step']]
    assert sum(r.tokens for r in mine) >= row['response_tokens'] > 0
    right = sum(r.right for r in mine) / sum(r.judged for r in mine)
    assert right == pytest.approx(row['pass_rate'])
    assert len(mine) == (4 if row['stage'] < 2 else row['asked'])
  easy = {r.prompt for r in probes if r.right > 3}
  asked = {
    r.prompt for r in records if r.kind == 'train' and r.step in (3, 4, 5)
  }
  assert easy and not easy & asked
  domains = [r.domain for r in records if r.step in (6, 7)]
  assert abs(domains.count('code') - 2 * domains.count('math')) <= 3
  assert all(r.prompt.startswith(f'{r.domain}/') for r in records)


def test_temperature_follows_the_entropy(reference):
  rows = metrics_of(reference[0])
  first, *later = rows[2:5]
  assert first['temperature'] == 1.0
  for before, row in zip(rows[2:5], later):
    moved = before['temperature'] * np.exp(0.5 * (2.0 - before['entropy']))
    assert row['temperature'] == pytest.approx(np.clip(moved, 0.5, 2.0))
  assert rows[0]['temperature'] == rows[6]['temperature'] == 1.0


def test_an_optimizer_is_carried_or_new(reference):
  counts = {}
  for step in ENDS:
    leaves = jax.tree.leaves(state_of(reference[0], step)['opt_state'])
    counts[step] = {int(x) for x in leaves if np.ndim(x) == 0}
  assert counts == {2: {2}, 5: {3}, 7: {5}}


@pytest.mark.slow
def test_a_stage_alone_is_that_stage_of_the_whole(reference, folder, command):
  """From where the first stage ended, and with all that run knew."""
  workdir = folder / 'alone'
  flags = [
    f'--config.start.run={reference[0] / "checkpoints" / "2"}',
    "--config.start.stages=('math_long', 'both')",
  ]
  said = command(workdir, *flags).ends(0)
  assert f'going on from step 2 of {reference[0]}' in said
  assert [row['step'] for row in metrics_of(workdir)] == [3, 4, 5, 6, 7]
  assert metrics_of(workdir) == metrics_of(reference[0])[2:]
  a, b = state_of(workdir, 7), state_of(reference[0], 7)
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)):
    assert np.asarray(x).tobytes() == np.asarray(y).tobytes()
  assert ledger_of(workdir, 7) == ledger_of(reference[0], 7)


def test_a_killed_step_decodes_only_what_is_missing(reference, folder, command):
  workdir = folder / 'journal'
  for script in ('sample@0', 'add@3', 'sample@4', 'sample@6'):
    assert command(workdir, script=script).end() == -signal.SIGKILL
  command(workdir).ends(0)
  assert_same_run(workdir, reference[0], 7)
  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  rows = {row['step']: row for row in map(json.loads, lines)}
  # Step 4 was taken and lost: all of its rollouts were there.
  assert rows[4]['decoded_tokens'] == 0 < rows[4]['response_tokens']
  assert 0 < rows[5]['decoded_tokens'] < rows[5]['response_tokens']


@pytest.mark.slow
def test_killed_at_random_moments_a_run_ends_the_same(
  reference, folder, command
):
  """Twenty runs, each killed up to three times, wherever that is."""
  seen = set()
  random.seed(0)
  for i in range(20):
    workdir = folder / f'chaos-{i}'
    for _ in range(random.randint(1, 3)):
      if (workdir / 'summary.json').exists():
        break
      run = command(workdir)
      run.wait_for('judge workers')
      time.sleep(random.choice((0.3, 1.0, 2.0, 5.0, 10.0)) * random.random())
      run.process.kill()
      if run.end() == 0:
        break
      seen.add(phase_of(run.output))
      # Where starts are slow, three kills may come before any progress; a
      # fourth start is then refused, and this is what its message asks for.
      (workdir / 'starts.jsonl').unlink(missing_ok=True)
    command(workdir).ends(0)
    assert_same_run(workdir, reference[0], 7)
    steps = [row['step'] for row in metrics_of(workdir)]
    assert steps == list(range(1, 8))
  # That kills came in different phases; how many depends on the machine.
  assert len(seen) > 4, seen


@pytest.mark.hosts
def test_two_processes_take_the_stages_of_one(folder, command):
  """Killed on the way, too: they share a journal."""
  workdir = folder / 'two'

  def two():
    return gangs.start(command, workdir, 2)

  runs = two()
  runs[0].wait_for('step 4/')
  for run in runs:
    run.process.kill()
    run.end()
  assert [run.end() for run in two()] == [0, 0]
  command(folder / 'one', devices=2).ends(0)
  assert ledger_of(workdir, 7) == ledger_of(folder / 'one', 7)
  two, one = metrics_of(workdir), metrics_of(folder / 'one')
  for name in ('pass_rate', 'response_length', 'heldout/code', 'asked'):
    assert [r.get(name) for r in two] == [r.get(name) for r in one]


def phase_of(said):
  """Where a run stood, by its last line."""
  line = said.splitlines()[-1]
  return re.sub(r'[\d.%]+', '', line)[:40]


@pytest.mark.parametrize(
  'changes, message',
  [
    (
      {'start.run': '', 'start.stages': ('both',)},
      "config.start.run: stage 'both' goes on from 'math_long'; name the",
    ),
    ({'start.stages': ('math_short', 'both')}, 'give stages that follow each'),
    (
      {'start.run': '/none', 'start.stages': ('both', 'math_long')},
      'give stages that follow each',
    ),
    ({'start.stages': ('maths',)}, "config.start.stages: no stage 'maths'; "),
    (
      {'checkpoint.best': 'heldout/poetry'},
      "config.checkpoint.best='heldout/poetry': heldout/",
    ),
    ({'heldout.every': 0}, 'config.heldout.every=0: config.checkpoint.best='),
    ({'heldout.before': 1}, 'config.heldout.before=1: give a value of type bo'),
    ({'start.run': '/none'}, 'config.start.run: /none: holds no checkpoint'),
  ],
)
def test_a_bad_recipe(folder, tmp_path, changes, message):
  config = tiny.staged(folder)
  config.update_from_flattened_dict(changes)
  refused(config, tmp_path, message)


@pytest.mark.parametrize(
  'changes, message',
  [
    (dict(rollout=dict(max_tokens=60)), "stage 'x': config.microbatch.columns"),
    (
      dict(rollout=dict(max_tokens=60), microbatch=dict(columns=72)),
      "stage 'x': config.rollout.max_tokens=60: with .* longer than the cont",
    ),
    (
      dict(rollout=dict(per_prompt=1)),
      "stage 'x': config.rollout.per_prompt=1: a ",
    ),
    (dict(filter=dict(of=4, max_solved=4)), 'filter.max_solved=4: give 0, or'),
    (dict(filter=dict(max_solved=2)), 'filter.max_solved=2: give 0, or less'),
    (dict(stop=dict(gain=float('nan'))), 'config.stop.gain=nan: give a numb'),
    (
      dict(rollout=dict(temperature=BY_EPOCH | dict(values=(0.6, -1.0)))),
      "stage 'x': config.rollout.temperature: goes down to -1.0; give values",
    ),
    (
      dict(rollout=dict(temperature=BY_EPOCH | dict(values=0.6))),
      "stage 'x': config.rollout.temperature: ",
    ),
    (
      dict(
        objective=dict(entropy_bonus=dict(fn='optax:sgd', learning_rate=1.0))
      ),
      "stage 'x': config.objective.entropy_bonus: gave no control",
    ),
    (
      dict(filter=dict(max_difficulty=3.0)),
      "stage 'x': config.filter.max_difficulty=3.0: 10 of 10 prompts have no",
    ),
    (dict(mix=dict(poetry=1)), "stage 'x': config.mix.poetry: no such domain"),
    (dict(mix={}), "stage 'x': config.mix: give the share of each domain"),
    (dict(seed=3), 'config.stages[0].seed: a stage cannot change that'),
    (dict(name=''), "config.stages[0].name='': give each stage a name"),
    (dict(stop=dict(metric='fun', window=2)), "config.stop.metric='fun': rew"),
    (dict(stop=dict(metric='reward')), 'config.stop.window=0: give at least'),
    (
      dict(optim=dict(updates=5)),
      "stage 'x': config.optim.updates=5: give 1 to ",
    ),
    (
      dict(optim=dict(transform=dict(fn='optax:none'))),
      "stage 'x': config.optim",
    ),
  ],
)
def test_a_bad_stage(folder, tmp_path, changes, message):
  config = tiny.staged(folder)
  config.stages = (dict(name='x', mix=dict(math=1)) | changes,)
  refused(config, tmp_path, message)


def test_an_optimizer_that_cannot_be_carried(folder, tmp_path):
  config = tiny.staged(folder)
  lion = dict(transform=dict(fn='optax:lion'))
  config.stages = (
    dict(name='a', mix=dict(math=1)),
    dict(name='b', mix=dict(math=1), optim=lion),
  )
  refused(config, tmp_path, "stage 'b': config.optim.carry=True: its optim")


def test_a_warm_up_after_a_constant_rate(folder, tmp_path):
  """Refused with the way to have both, which then is taken."""
  config = tiny.staged(folder)
  first = dict(name='a', mix=dict(math=1))
  second = dict(name='b', mix=dict(math=1), optim=dict(warmup_steps=2))
  config.stages = (first, second)
  refused(config, tmp_path, "dict(fn='optax:constant_schedule', value=1e-6)")
  rate = dict(fn='optax:constant_schedule', value=1e-2)
  config.stages = (first | dict(optim=dict(learning_rate=rate)), second)
  checks.validate(config)
  assert train.build(config).stages[1].carry is not None


def refused(config, workdir, message):
  """Checks that a run of `config` ends with one line before it compiles."""
  with pytest.raises((ValueError, SystemExit)) as caught:
    checks.validate(config)
    train.train(train.build(config), workdir / 'refused')
  said = str(caught.value)
  assert re.search(re.escape(message).replace(r'\.\*', '.*'), said), said
  assert '\n' not in said


def test_other_stages_than_the_run_began_with(reference, folder, tmp_path):
  config = tiny.staged(folder)
  config.checkpoint.keep = 7
  first, *rest = config.stages
  config.stages = (first | dict(steps=9), *rest)
  changed = (
    r'of another configuration: stages\.math_short\.steps: absent -> 9; '
  )
  with pytest.raises(SystemExit, match=changed):
    train.train(train.build(config), reference[0])


def test_a_stage_that_does_not_follow_that_of_the_other_run(
  reference, folder, tmp_path
):
  config = tiny.staged(folder)
  config.start = dict(run=str(reference[0]), stages=('math_long', 'both'))
  message = "stands in stage 'both', and 'math_long' goes on from 'math_short'"
  refused(config, tmp_path, message)


def test_what_a_stage_may_change_when_a_run_goes_on(reference, folder):
  config = tiny.staged(folder)
  config.checkpoint.keep = 7
  first, *rest = config.stages
  limits = dict(mismatch=0.5)
  config.stages = (first | dict(limits=limits, engine=dict(slots=8)), *rest)
  config.domains.code.judge = dict(workers=2)
  assert train.train(train.build(config), reference[0]) == 0
  config.stages = (first | dict(objective=dict(average='group')), *rest)
  changed = r'other configuration: stages\.math_short\.objective\.average: abs'
  with pytest.raises(SystemExit, match=changed):
    train.train(train.build(config), reference[0])


STEERED = (
  '--config.heldout.every=2',
  '--config.checkpoint.best=heldout/math',
  '--config.heldout.temperature=0.5',
)


def test_a_run_is_steered(reference, folder, command, tmp_path):
  """Future stages can change, which is printed and kept; past ones stay."""
  (tmp_path / 'steered.py').write_text(
    'import pathlib, tiny\n'
    'def get_config():\n'
    f'  c = tiny.staged(pathlib.Path({str(folder)!r}))\n'
    '  short, long, _ = c.stages\n'
    "  long = long | dict(steps=4, stop=dict(metric='same_prompts', window=2,"
    ' gain=-9.0))\n'
    "  last = dict(name='last', mix=dict(code=1), steps=1,\n"
    "    objective=dict(loss=dict(fn='tiny_losses:clipped')),\n"
    '    optim=dict(learning_rate=1e-3, updates=2),\n'
    '    rollout=dict(max_tokens=6))\n'
    '  c.stages = (short, long, last)\n'
    '  return c\n'
  )
  workdir = tmp_path / 'run'
  run = command(workdir, script='add@4')
  assert run.end() == -signal.SIGKILL
  steered = command(workdir, *STEERED, config=tmp_path / 'steered')
  said = steered.ends(0)
  changes = json.loads((workdir / 'changes.json').read_text())
  # The kill may have come before the last save was on disk.
  (at,) = {c['step'] for c in changes}
  assert at in (2, 4)
  # Until there it is the run that nothing changed.
  assert metrics_of(workdir)[:at] == metrics_of(reference[0])[:at]
  rows = metrics_of(workdir)
  assert [row['stage'] for row in rows] == [0, 0, 1, 1, 1, 1, 2]
  asked = [r['step'] for r in rows if 'heldout/math' in r]
  assert asked == ([2, 4, 6, 7] if at == 2 else [2, 3, 6, 7])
  by_field = {c['field']: (c['before'], c['after']) for c in changes}
  assert by_field['heldout.every'] == (3, 2)
  assert by_field['heldout.temperature'] == (1.0, 0.5)
  assert by_field['checkpoint.best'] == ('heldout/code', 'heldout/math')
  assert by_field['stages.math_long.steps'] == (3, 4)
  assert by_field['stages.last.optim.learning_rate'] == (None, 1e-3)
  for field in by_field:
    assert f'from step {at} on: {field}: ' in said
  meta = checkpoint.load_meta(workdir)
  assert meta['changes'] == changes
  best = json.loads((workdir / 'summary.json').read_text())['best_step']
  scores = {r['step']: r.get('heldout/math') for r in rows if r['step'] > at}
  scores = {s: v for s, v in scores.items() if v is not None}
  assert best == max(scores, key=lambda s: (scores[s], s))
  # Once more, unchanged, it has nothing to say.
  again = command(workdir, *STEERED, config=tmp_path / 'steered').ends(0)
  assert 'on: ' not in again and 'finished already' in again


@pytest.mark.slow
def test_groups_grow_over_epochs_and_the_filter_remembers(
  folder, command, tmp_path
):
  """2 and then 4 rollouts; what both of 2 solved is not asked again."""
  (tmp_path / 'grows.py').write_text(
    'import pathlib, tiny\n'
    'def get_config():\n'
    f'  c = tiny.config(pathlib.Path({str(folder)!r}))\n'
    f'  c.train_data.path = {str(folder / "others.jsonl")!r}\n'
    '  c.steps = 4\n'
    '  c.rollout.per_prompt = dict(\n'
    "    fn='acereason_jax.rl.control:by_epoch', values=(2, 4))\n"
    '  c.rollout.prompts = 2\n'
    '  c.filter.drop_solved = True\n'
    "  c.judge.verify.fn = 'tiny_judge:known'\n"
    '  return c\n'
  )
  run = command(tmp_path, config=tmp_path / 'grows')
  run.wait_for('step 3/')
  run.process.kill()
  run.end()
  command(tmp_path, config=tmp_path / 'grows').ends(0)
  records = list(ledger_of(tmp_path, 4))
  # The fourth batch ends the first epoch, of 7, and begins the second.
  assert [r.rollouts for r in records] == [2] * 8
  solved = {r.prompt for r in records[:6] if r.right == r.judged}
  assert solved, 'there is nothing to remember'
  assert records[7].epoch == 1 and records[7].prompt not in solved
  command(tmp_path, '--config.steps=6', config=tmp_path / 'grows').ends(0)
  records = list(ledger_of(tmp_path, 6))
  assert [r.rollouts for r in records[8:]] == [4] * 4
  # Questions that both rollouts solved before the second epoch began are not
  # asked again; all others of the first epoch are, with 4 rollouts.
  solved = {r.prompt for r in records[:6] if r.right == r.judged}
  later = [r for r in records if r.epoch]
  assert solved and not solved & {r.prompt for r in later}
  first, second = ({r.prompt for r in records if r.epoch == e} for e in (0, 1))
  assert len(first) == 7 and second == first - solved
  assert {r.rollouts for r in later[1:]} == {4}


def test_domains_are_looked_at_in_their_own_time(folder, command, tmp_path):
  """And each has its own filter."""
  (tmp_path / 'own.py').write_text(
    'import pathlib, tiny\n'
    'def get_config():\n'
    f'  c = tiny.staged(pathlib.Path({str(folder)!r}))\n'
    '  c.domains.math.heldout = dict(every=1, per_prompt=3)\n'
    '  c.domains.code.heldout = dict(every=2, before=False)\n'
    '  c.stages = (dict(name="both", steps=3, mix=dict(math=1, code=1),\n'
    '    filter=dict(domains=dict(code=dict(of=4, max_solved=3)))),)\n'
    '  return c\n'
  )
  said = command(tmp_path, config=tmp_path / 'own').ends(0)
  assert 'stage both: asking 7 prompts up to 4 times' in said
  rows = metrics_of(tmp_path)
  assert [r['step'] for r in rows if 'heldout/math' in r] == [1, 2, 3]
  assert [r['step'] for r in rows if 'heldout/code' in r] == [2, 3]
  # Step lines tell the looks of their steps, with errors.
  lines = re.findall('^(?:both  )?step .*', said, re.M)
  looks = [line.partition('  held out ')[2] for line in lines]
  rate = r'(0\.0%|100\.0%|\d+\.\d% \+-\d+\.\d)'
  assert re.fullmatch(f'math {rate}', looks[0])
  for told in looks[1:]:
    assert re.fullmatch(f'code {rate}, math {rate}', told)
  assert re.search(f'held-out pass rate before: math {rate}\n', said)
  ends = f'math {rate} before, code {rate}, math {rate} after'
  assert re.search(f'held-out pass rate: {ends}\n', said)
  summary = json.loads((tmp_path / 'summary.json').read_text())
  first, last = summary['heldout']
  assert 'heldout/math' in first and 'heldout/code' not in first
  assert summary['heldout_before'] is None
  rates = [last[f'heldout/{domain}'] for domain in ('math', 'code')]
  assert summary['heldout_after'] == pytest.approx(sum(rates) / 2)
  records = list(ledger_of(tmp_path, 3))
  probes = {r.prompt: r for r in records if r.kind == 'probe'}
  assert len(probes) == 7 and {r.domain for r in probes.values()} == {'code'}
  easy = {p for p, r in probes.items() if r.right > 3}
  assert not easy & {r.prompt for r in records if r.kind == 'train'}


@pytest.mark.slow
def test_a_judge_that_was_corrected_is_asked_again(command, tmp_path):
  """Its failures are no part of the journal."""
  run = lambda seconds: command(
    tmp_path,
    '--config.judge.verify.fn=tiny_judge:slow',
    f'--config.judge.timeout_seconds={seconds}',
    '--config.steps=1',
    config='tiny_config',
  )
  said = run(0.5).ends(1)
  assert ': timeout: ' in said.splitlines()[-1]
  run(60.0).ends(0)


def test_a_probe_that_is_killed_asks_only_for_the_rest(
  reference, folder, command
):
  workdir = folder / 'probed'
  run = command(workdir, script='says@of 10 prompts decided')
  assert run.end() == -signal.SIGKILL
  said = command(workdir).ends(0)
  (known,) = re.findall(r'math_long: (\d+) verdicts are in the journal', said)
  # 4 prompts were decided. Where the judge is late, all 40 rollouts were
  # drawn meanwhile, and it may have told more verdicts than counted by then.
  assert 4 <= int(known) <= 40
  assert_same_run(workdir, reference[0], 7)


def test_a_ledger_of_another_data_set(reference, folder, tmp_path):
  config = tiny.staged(folder)
  config.start.run = str(reference[0])
  for i, domain in enumerate(('math', 'code')):
    path = tmp_path / f'{domain}.jsonl'
    source = dict(fn='acereason_jax.data.sources:jsonl')
    tiny.write_questions(path, 9, first=100 * (i + 1))
    config.domains[domain] = dict(train_data=source | dict(path=str(path)))
  refused(config, tmp_path, 'its ledger is of another data set')


LIMITS = [
  ('limits.zero_signal=0.01', 'of the groups have no gradient, more than conf'),
  ('limits.mismatch=1e-12', 'sampler and trainer differ by '),
]


@pytest.mark.parametrize('limit, message', LIMITS)
def test_a_limit_stops_the_run(folder, command, tmp_path, limit, message):
  said = command(tmp_path, f'--config.{limit}', config='tiny_config').ends(1)
  last = said.splitlines()[-1]
  assert last.startswith(f'error: {tmp_path}: step ') and message in last


def test_gradients_that_are_not_finite(folder, command, tmp_path):
  flags = (
    '--config.objective.loss.fn=tiny_losses:not_finite',
    '--config.steps=9',
  )
  said = command(tmp_path, *flags, config='tiny_config').ends(1)
  assert said.count('WARNING: the gradient was not finite') == 3
  last = said.splitlines()[-1]
  assert 'in 3 steps in a row (config.limits.nonfinite=3)' in last
  with np.load(tmp_path / 'nonfinite_3.npz', allow_pickle=False) as batch:
    assert len(batch['tokens']) == batch['length'].sum() > 0
    assert len(batch['status']) == 16
  # The saved model is the model as it was.
  step = saved_steps(tmp_path)[-1]
  params = state_of(tmp_path, step)['params']
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(params))


@pytest.mark.parametrize('updates', [2, 4])
def test_several_updates_a_batch(folder, command, tmp_path, updates):
  flags = [
    f'--config.optim.updates={updates}',
    '--config.steps=2',
    '--config.objective.loss.fn=tiny_losses:clipped',
  ]
  command(tmp_path, *flags, config='tiny_config').ends(0)
  leaves = jax.tree.leaves(state_of(tmp_path, 2)['opt_state'])
  assert {int(x) for x in leaves if np.ndim(x) == 0} == {2 * updates}
  rows = metrics_of(tmp_path)
  assert [row['step'] for row in rows] == [1, 2]
  # The first part of a batch is on-policy; the others are not.
  assert max(row['mismatch'] for row in rows) < 1e-4


def test_the_ledger_is_told(reference, capsys):
  workdir, _ = reference
  ledger.main(['', str(workdir)])
  said = capsys.readouterr().out
  assert 'math_long' in said and 'probe' in said


def test_a_reference_is_reset(folder, command, tmp_path):
  flags = [
    '--config.objective.loss.fn=tiny_losses:with_kl',
    '--config.objective.reset_reference_every=2',
    '--config.steps=3',
  ]
  command(tmp_path, *flags, config='tiny_config').ends(0)
  state = state_of(tmp_path, 3)
  after_2 = state_of(tmp_path, 2)
  for now, then in zip(
    jax.tree.leaves(state['reference']), jax.tree.leaves(after_2['params'])
  ):
    np.testing.assert_array_equal(np.asarray(now), np.asarray(then))


def test_progress_is_plain_json():
  progress = values.Progress('a', history=[0.1], temperature=0.7)
  again = values.Progress(**json.loads(json.dumps(progress._asdict())))
  assert again == progress._replace(heldout=[], temperatures=[])
