"""Steps learn from batches, and stages continue each other, with real parts.

In one process, over the tiny model of `tiny`.
"""

import json

import jax
import numpy as np
import pytest
import runs
import tiny

from acereason_jax import train, types
from acereason_jax.config import checks
from acereason_jax.curriculum import ledger
from acereason_jax.rl import objective
from acereason_jax.rollout import requests
from acereason_jax.rollout import trace as trace_lib
from acereason_jax.run import answers, build, collect, deciding, journal
from acereason_jax.run import step as step_lib
from acereason_jax.run import values as run_values

pytestmark = pytest.mark.usefixtures('compiled_once')
LOSSES = 'acereason_jax.rl.losses:'
# As narrow as a step moves the tiny model.
CLIPPED = dict(fn=LOSSES + 'clipped', clip_low=0.01, clip_high=0.01)
COSINE = dict(fn='optax:cosine_decay_schedule', init_value=1e-2, decay_steps=3)


def staged(folder, *stages, **changes):
  config = tiny.config(folder)
  config.update_from_flattened_dict(changes)
  names = 'abcdef'
  config.stages = tuple(
    dict(name=names[i]) | stage for i, stage in enumerate(stages)
  )
  return config


def of_loss(loss):
  return dict(objective=dict(loss=loss))


def built(config):
  checks.validate(config)
  return build.build(config)


@pytest.fixture(scope='module')
def several(folder):
  """A run of stages of four updates a batch; (standing, groups) of one."""
  around = dict(loss=CLIPPED)
  run = built(
    staged(
      folder,
      of_loss(CLIPPED),
      of_loss(dict(fn=LOSSES + 'truncated_importance', limit=2.0, **around)),
      of_loss(dict(fn=LOSSES + 'icepop', low=0.5, high=5.0, **around)),
      of_loss(dict(CLIPPED, clip_low=0.9, clip_high=9.0)),
      **{'optim.updates': 4, 'optim.learning_rate': 3e-2},
    )
  )
  stage = run.stages[0]
  # An update gives its state away.
  state = jax.device_get(stage.init(run.load_params()))
  prompts = run.domains['main'].prompts['train_data'][:4]
  asked = requests.for_prompts(prompts, 4, 8, types.EMPTY)
  rollouts = {}
  for rollout in stage.engine.stream(
    state.params,
    [request for group in asked for request in group],
    seed=0,
    step=0,
    temperature=1.0,
    trace=trace_lib.Trace(),
  ):
    rollouts[rollout.prompt_id, rollout.index] = rollout
  groups = [
    types.Group(
      prompt,
      tuple(rollouts[prompt.id, i] for i in range(4)),
      tuple(
        types.Verdict('right' if i % 2 else 'wrong', '', 0.0) for i in range(4)
      ),
    )
    for prompt in prompts
  ]
  return run, state, groups


def learnt(several, i):
  """The parameters after a batch of stage i, in one vector."""
  run, state, groups = several
  stage = run.stages[i]
  at = run_values.Standing(
    jax.tree.map(jax.numpy.array, state),
    run_values.Progress(stage.name, temperature=1.0),
    ledger.Ledger(),
  )
  trained = objective.assign_advantages(groups, stage.objective)
  microbatches = objective.pack(trained, stage.layout)
  after, values, scores = step_lib.update_policy(
    stage, at, microbatches, 1.0, frozenset()
  )
  assert not scores
  assert after.step == 4 and values['nonfinite'] == 0
  params = jax.device_get(after.params)
  return np.concatenate([x.ravel() for x in jax.tree.leaves(params)])


def test_a_correction_clips_as_ppo_does_in_later_updates(several):
  clipped, tis, icepop, free = (learnt(several, i) for i in range(4))
  move = np.linalg.norm(clipped - free)
  # The clip mattered, and sampler and trainer differ by rounding only.
  assert move > 1e-2 * np.linalg.norm(free)
  for got in (tis, icepop):
    assert np.linalg.norm(got - clipped) < 1e-3 * move


def test_only_losses_that_read_it_are_scored_before_the_first_update(several):
  run, _, _ = several
  assert [s.has_first for s in run.stages] == [False, True, True, False]


@pytest.mark.parametrize(
  'loss',
  [
    dict(fn=LOSSES + 'on_policy'),
    dict(fn='own_parts:reinforce'),
    dict(
      fn=LOSSES + 'truncated_importance',
      limit=2.0,
      loss=dict(fn=LOSSES + 'on_policy'),
    ),
    dict(
      fn=LOSSES + 'icepop',
      low=0.5,
      high=2.0,
      loss=dict(fn='own_parts:reinforce'),
    ),
    dict(fn=LOSSES + 'with_kl', weight=0.1, loss=dict(fn=LOSSES + 'on_policy')),
  ],
)
def test_several_updates_without_a_ratio_are_refused(folder, loss):
  config = staged(folder, of_loss(loss) | dict(optim=dict(updates=2)))
  with pytest.raises(
    ValueError, match=r"^stage 'a': config\.optim\.updates=2"
  ) as e:
    built(config)
  assert '\n' not in str(e.value) and ':clipped' in str(e.value)
  assert built(staged(folder, of_loss(loss))).stages[0].has_first is False


@pytest.mark.parametrize(
  'loss, match',
  [
    (dict(fn='own_parts:nothing', learning_rate=1.0), 'gave a list, expected'),
    (dict(fn='optax:sgd', learning_rate=1.0), 'gave a GradientTransf'),
    (dict(fn='own_parts:one_number'), r'is no loss .*float32\[\]'),
    (dict(fn='own_parts:misspelt'), 'is no loss .*logp_odl_BT'),
  ],
)
def test_what_is_no_loss_is_refused_before_anything_runs(folder, loss, match):
  with pytest.raises(
    ValueError, match=r"'a': config\.objective\.loss\.fn='"
  ) as e:
    built(staged(folder, of_loss(loss)))
  assert e.match(match) and '\n' not in str(e.value)


def moved(workdir, step):
  """How far a step went, by the parameters that were saved."""
  a, b = (
    np.concatenate(
      [
        np.asarray(x).ravel()
        for x in jax.tree.leaves(runs.state_of(workdir, s)['params'])
      ]
    )
    for s in (step - 1, step)
  )
  return float(np.linalg.norm(b - a))


def counts(workdir, step):
  leaves = jax.tree.leaves(runs.state_of(workdir, step)['opt_state'])
  return sorted(int(x) for x in leaves if np.ndim(x) == 0)


@pytest.fixture(scope='module')
def faded(folder):
  """A run of two stages whose learning rate is 0 when they end."""
  config = staged(
    folder,
    {},
    {},
    **{'steps': 4, 'checkpoint.keep': 9, 'optim.warmup_steps': 1},
  )
  config.optim.learning_rate = COSINE
  workdir = folder / 'faded'
  assert train.train(built(config), workdir) == 0
  return config, workdir


def test_the_second_stage_learns_as_the_first_did(faded):
  _, workdir = faded
  # Adam's count goes on, the schedule's begins again.
  assert [counts(workdir, step) for step in (4, 5, 8)] == [
    [4, 4],
    [1, 5],
    [4, 8],
  ]
  far = {step: moved(workdir, step) for step in (2, 4, 5, 6, 8)}
  # The warm-up's half, the whole rate, and a quarter of it.
  assert far[6] > 1.3 * far[5] and far[6] > 2 * far[8] > 0
  assert far[5] > 0.2 * far[2]


def test_a_stage_from_another_run_begins_its_schedule_too(faded, folder):
  config, workdir = faded
  alone = config.copy_and_resolve_references()
  with alone.unlocked():
    alone.start = dict(run=str(workdir / 'checkpoints' / '4'), stages=('b',))
  assert train.train(built(alone), folder / 'alone') == 0
  for step in (5, 8):
    got, want = (runs.state_of(w, step) for w in (folder / 'alone', workdir))
    for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
      assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


def test_in_the_middle_of_a_stage_a_schedule_goes_on(faded, folder):
  """Stopped after steps 2 and 6, by taking no more."""
  config, workdir = faded
  target = folder / 'again'
  take_step, taken = step_lib.take_step, []

  class Enough(Exception):
    pass

  def interrupted(*args):
    if len(taken) in (2, 6) and taken[-1] != 'stopped':
      taken.append('stopped')
      raise Enough
    found = take_step(*args)
    if taken and taken[-1] == 'stopped':
      taken.pop()
    taken.append(found[0].progress.step)
    return found

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(step_lib, 'take_step', interrupted)
    for _ in range(2):
      with pytest.raises(Enough):
        train.train(built(config), target)
    assert train.train(built(config), target) == 0
  for x, y in zip(
    jax.tree.leaves(runs.state_of(target, 8)),
    jax.tree.leaves(runs.state_of(workdir, 8)),
    strict=True,
  ):
    assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


def test_a_schedule_that_moments_share_a_count_with(folder):
  prodigy = dict(transform=dict(fn='optax.contrib:prodigy'), learning_rate=1.0)
  own = prodigy | dict(warmup_steps=2)
  shared, alone = dict(optim=own), dict(optim=own | dict(carry=False))
  # Alone it may have one, and so may a stage that takes over nothing.
  assert built(staged(folder, shared)).stages[0].carry is None
  built(staged(folder, shared, alone))
  with pytest.raises(ValueError, match=r"^stage 'b': .* counts steps once"):
    built(staged(folder, shared, shared))


def test_a_filter_that_leaves_nothing_ends_its_stage_only(folder, capsys):
  """In a later epoch, and before the first step; the run goes on."""
  config = staged(
    folder,
    dict(filter=dict(drop_solved=True)),
    dict(filter=dict(of=2, max_solved=1)),
    dict(steps=1),
    **{'steps': 9, 'checkpoint.keep': 9},
  )
  config.judge.verify.fn = 'tiny_judge:all_right'
  workdir = folder / 'emptied'
  assert train.train(built(config), workdir) == 0
  said = capsys.readouterr().out
  # Ten questions, four at a time: the third batch asks the last two, and once
  # more, since it began the next epoch before they were solved.
  assert (
    'stage a: over, config.filter.drop_solved=True: nothing is left of 10 pr'
    in said
  )
  assert (
    'stage b: over, config.filter.max_solved=1: nothing is left of 10 prompts'
    in said
  )
  assert 'stage c: over, 1 steps' in said
  rows = runs.metrics_of(workdir)
  assert [row['stage'] for row in rows] == [0, 0, 0, 2]
  summary = json.loads((workdir / 'summary.json').read_text())
  assert [end['stage'] for end in summary['heldout']] == ['', 'a', 'c']
  assert summary['steps'] == 4
  # It is over, and the same command says so.
  assert train.train(built(config), workdir) == 0
  assert 'finished already' in capsys.readouterr().out


def test_a_run_of_one_stage_says_why_it_ended(folder, capsys):
  config = tiny.config(folder)
  config.judge.verify.fn = 'tiny_judge:all_right'
  config.filter.drop_solved = True
  config.steps = 9
  workdir = folder / 'emptied_alone'
  assert train.train(built(config), workdir) == 0
  said = capsys.readouterr().out
  assert 'stage main: over, config.filter.drop_solved=True: nothing' in said
  assert train.train(built(config), workdir) == 0
  assert 'finished already' in capsys.readouterr().out


def test_an_end_that_is_put_off_may_find_nothing_left(folder, capsys):
  """Where its steps end a stage, nobody looks for the batch after them."""
  config = tiny.config(folder)
  config.judge.verify.fn = 'tiny_judge:all_right'
  config.filter.drop_solved = True
  # Ten questions, four at a time: the third batch ends the epoch, and no
  # second is left except the two that it asked already.
  config.steps = 3
  workdir = folder / 'put_off'
  assert train.train(built(config), workdir) == 0
  assert 'nothing is left' not in capsys.readouterr().out
  config.steps = 9
  for _ in range(2):
    assert train.train(built(config), workdir) == 0
    said = capsys.readouterr().out
    assert 'stage main: over, config.filter.drop_solved=True: nothing' in said
  assert json.loads((workdir / 'summary.json').read_text())['steps'] == 3


def test_a_change_that_is_taken_back_before_a_save_is_none(folder, capsys):
  config = tiny.config(folder)
  config.steps = 1
  workdir = folder / 'taken_back'
  assert train.train(built(config), workdir) == 0
  assert not (workdir / 'changes.json').exists()

  class Enough(Exception):
    pass

  def enough(*args):
    raise Enough

  config.steps, config.heldout.every = 2, 2
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(step_lib, 'take_step', enough)
    with pytest.raises(Enough):
      train.train(built(config), workdir)
  fields = lambda: {
    change['field']
    for change in json.loads((workdir / 'changes.json').read_text())
  }
  assert fields() == {'steps', 'heldout.every'}
  config.heldout.every = 0
  assert train.train(built(config), workdir) == 0
  assert fields() == {'steps'}


def test_a_probe_of_another_stage_at_the_same_step_is_not_taken(folder):
  """The stage that asked it was over at once; the journal has both."""
  config = staged(
    folder,
    dict(filter=dict(of=2, max_solved=1)),
    dict(filter=dict(of=3, max_solved=2)),
  )
  run = built(config)
  questions = run.domains['main'].prompts['train_data']
  asked = requests.for_prompts(questions, 2, 8)
  asking = collect.Asking((0, 0), 'probe', 0, 1.0)
  known = answers.Answer(
    ledger.Result('right', 8, True, True), 'exact', 1.0, 'length', -2.5, 4.5
  )
  verdict = answers.to_note(known)
  noted = {
    journal.Key('probe a', 0, p.id, 0): journal.Entry(None, verdict)
    for p in questions
  }
  question = lambda stage: deciding.Question(
    stage.name,
    stage.filters['main'],
    stage.objective.rules,
    stage.prompts,
    stage.prompts,
  )
  read = lambda stage: deciding.read(question(stage), asking, asked, noted)
  assert not read(run.stages[1])
  assert read(run.stages[0]) == {(p.id, 0): known for p in questions}
