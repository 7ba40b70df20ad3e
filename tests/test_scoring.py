"""Chosen rollouts get the trainer's own logp, entropy and mismatch.

They are compared with a float64 model, with `Update.logp`, and with the metrics
of the update, which are means over all trained tokens.
"""

import dataclasses
import functools
import subprocess
import sys

import gangs
import jax
import numpy as np
import pytest
import test_update
import tiny
import tiny_stage

from acereason_jax.rl import losses
from acereason_jax.run import scoring
from acereason_jax.run import step as step_lib

LOSS = losses.clipped(0.2, 0.28)


def forced(group):
  """The group; of its longest rollout two tokens were not drawn."""
  longest = max(group, key=lambda t: len(t.rollout.tokens))
  return [
    t._replace(rollout=dataclasses.replace(t.rollout, forced=(1, 3)))
    if t is longest
    else t
    for t in group
  ]


GROUPS = [forced(group) for group in test_update.GROUPS]
TRAINED = {t.key: t for group in GROUPS for t in group}
EVERY = frozenset(TRAINED)
# Rows, columns and more of `packing.pack`, and whether two widths are used.
LAYOUTS = {
  'shared prompts': ((4, 24), {}),
  'whole prompts': ((4, 24), dict(share_prompts=False)),
  'two widths': ((3, 24), dict(multiple=4)),
  'a row each': ((1, 24), {}),
}


def trained(stage, wanted, layout='shared prompts', **kwargs):
  """(state, metrics, scores) of one update on all groups."""
  shape, options = LAYOUTS[layout]
  microbatches = tiny_stage.packed(GROUPS, *shape, **options | kwargs)
  at = tiny_stage.standing(stage)
  return step_lib.update_policy(stage, at, [microbatches], 1.0, wanted)


@functools.cache
def one_stage():
  """A stage on one device, whose programs are compiled once."""
  return tiny_stage.stage(LOSS)


def drawn(t):
  """Which of its tokens the policy drew."""
  here = np.ones(len(t.rollout.tokens), bool)
  here[slice(*t.rollout.forced)] = False
  return here


def check_float64(scores, params=test_update.PARAMS, atol=5e-6):
  """Each is what the float64 model says of each token, forced ones too."""
  assert len(scores) > 0
  for t, logp, entropy in test_update.said_logp(params):
    if t.key not in scores:
      continue
    score = scores[t.key]
    for x in score:
      assert x.dtype == np.float32 and x.shape == t.rollout.tokens.shape
    np.testing.assert_allclose(score.logp, logp, rtol=0, atol=atol)
    np.testing.assert_allclose(score.entropy, entropy, rtol=0, atol=atol)
    gap = np.where(drawn(TRAINED[t.key]), abs(logp - t.rollout.logp), 0.0)
    np.testing.assert_allclose(score.mismatch, gap, rtol=0, atol=atol)
    assert (score.mismatch[~drawn(TRAINED[t.key])] == 0).all()


def check_metrics(scores, metrics):
  """Their means over all trained tokens are the metrics."""
  here = {key: drawn(t) for key, t in TRAINED.items()}
  assert scores.keys() == here.keys()
  join = lambda field: np.concatenate(
    [getattr(scores[key], field)[drew] for key, drew in here.items()]
  ).astype(np.float64)
  assert metrics['trained_tokens'] == len(join('logp'))
  assert metrics['trained_tokens'] < sum(map(len, here.values()))
  # The metrics are sums of float32.
  near = lambda value: pytest.approx(value, rel=2e-6)
  assert metrics['mismatch'] == near(join('mismatch').mean())
  assert metrics['mismatch_max'] == join('mismatch').max()
  assert metrics['trained_entropy'] == near(join('entropy').mean())


@pytest.mark.parametrize('layout', LAYOUTS)
def test_scores_are_float64s_and_their_means_are_the_metrics(layout):
  stage = one_stage()
  _, metrics, scores = trained(stage, EVERY, layout)
  check_float64(scores)
  check_metrics(scores, metrics)


def test_scores_are_those_of_a_pass_of_the_same_weights():
  stage = one_stage()
  _, _, scores = trained(stage, EVERY)
  shape, options = LAYOUTS['shared prompts']
  for batch, places in tiny_stage.packed(GROUPS, *shape, **options):
    logp_BT = stage.update.logp(test_update.PARAMS, batch, test_update.KNOBS)
    for key, place in places.items():
      want = np.asarray(logp_BT)[place.row, place.columns]
      drew = drawn(TRAINED[key])
      # The same function in another program, which may round otherwise.
      np.testing.assert_allclose(
        scores[key].logp[drew], want[drew], rtol=0, atol=2e-6
      )


@pytest.mark.parametrize('sizes', [(1, 2, 2), (2, 2, 1)])
def test_a_mesh_gives_the_scores_of_one_device(sizes):
  loss = losses.truncated_importance(LOSS, 2.0)
  stage = tiny_stage.stage(losses.with_kl(loss, 0.5), sizes=sizes, several=True)
  assert stage.has_reference and stage.has_first
  _, metrics, scores = trained(stage, EVERY)
  check_float64(scores)
  check_metrics(scores, metrics)
  _, _, some = trained(stage, frozenset([('b', 1), ('c', 0)]))
  assert some.keys() == {('b', 1), ('c', 0)}
  for key, score in some.items():
    for x, y in zip(score, scores[key]):
      np.testing.assert_array_equal(x, y)


def test_only_microbatches_that_hold_a_wanted_rollout_are_fetched(monkeypatch):
  stage, fetched = one_stage(), []
  everywhere = scoring.everywhere
  monkeypatch.setattr(
    scoring, 'everywhere', lambda x: fetched.append(1) or everywhere(x)
  )
  microbatches = tiny_stage.packed(GROUPS, 1, 24)
  holding = {key: i for i, (_, p) in enumerate(microbatches) for key in p}
  assert len(microbatches) == 4
  wanted = {('a', 0), ('c', 1), ('nobody', 0), ('a', 99)}
  states = []
  for some in (wanted, frozenset()):
    fetched.clear()
    state, metrics, scores = trained(stage, some, 'a row each')
    states.append(jax.device_get((state.params, metrics)))
    known = some & EVERY
    assert scores.keys() == known
    assert len(fetched) == len({holding[key] for key in known}) < 4
  # Nobody who looks changes anything, nor compiles another `add`.
  test_update.assert_bitwise(*states)


def test_looking_compiles_no_other_program():
  stage = tiny_stage.stage(LOSS)
  for wanted in (frozenset(), EVERY, frozenset([('a', 0)])):
    trained(stage, wanted, 'two widths')
  assert stage.update.add._cache_size() == 2
  assert stage.update.logp._cache_size() == 0


def test_a_rollout_has_the_score_of_the_update_that_trained_it():
  """Two updates on two parts of the batch; the second sees what moved."""
  stage = tiny_stage.stage(LOSS, several=True, rate=5.0)
  parts = [tiny_stage.packed(part, 4, 24) for part in (GROUPS[:1], GROUPS[1:])]
  at = tiny_stage.standing(stage)
  moved, _, first = step_lib.update_policy(stage, at, parts[:1], 1.0, EVERY)
  between = jax.device_get(moved.params)
  at = tiny_stage.standing(stage)
  _, metrics, scores = step_lib.update_policy(stage, at, parts, 1.0, EVERY)
  assert scores.keys() == EVERY and first.keys() == {t.key for t in GROUPS[0]}
  check_float64(first)
  early = {key: scores[key] for key in first}
  check_float64(early)
  late = {key: score for key, score in scores.items() if key not in first}
  check_float64(late, between)
  with pytest.raises(AssertionError):
    check_float64(late)
  # The metric is the first update's.
  assert metrics['mismatch_max'] == max(
    s.mismatch.max() for s in early.values()
  )


def test_what_is_not_packed_has_no_score():
  stage = one_stage()
  left_out = {t.key for t in GROUPS[2]}
  at = tiny_stage.standing(stage)
  microbatches = tiny_stage.packed(GROUPS[:2], 4, 24)
  _, _, scores = step_lib.update_policy(stage, at, [microbatches], 1.0, EVERY)
  assert scores.keys() == EVERY - left_out


@pytest.mark.hosts
def test_two_processes_get_the_same_scores(tmp_path):
  """Each holds half of the rows, or all of them."""
  count = 2
  at = f'127.0.0.1:{gangs.free_port()}'
  script = str(tiny.TESTS / 'scoring_host.py')
  files = [tmp_path / f'{i}.npz' for i in range(count)]
  started = [
    subprocess.Popen(
      [sys.executable, script, str(files[i]), at, str(count), str(i)],
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      env=tiny.environment(tmp_path / 'cache', devices=2),
      text=True,
    )
    for i in range(count)
  ]
  for process in started:
    said = process.communicate(timeout=500)[0]
    assert process.returncode == 0, said
  first, second = (dict(np.load(file)) for file in files)
  assert first.keys() == second.keys()
  for name, x in first.items():
    assert x.tobytes() == second[name].tobytes(), name
  for name in ('data', 'tensor'):
    scores = {
      (prompt, index): scoring.Score(
        *(first[f'{name} {prompt} {index} {f}'] for f in scoring.Score._fields)
      )
      for prompt, index in EVERY
    }
    check_float64(scores)
    most = max(score.mismatch.max() for score in scores.values())
    assert first[f'{name} mismatch_max'] == most
