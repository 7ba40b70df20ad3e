"""One step: draw, sample, judge, assign advantages, pack, update, record.

Read `take_step` first, then down: each function is called by one above it, and
functions of other folders never call back. Prompts are drawn in curriculum/,
sampled in rollout/ and judged in verifiers/ (run/collect.py does both at once);
advantages, packed rows and updates are made in rl/.
"""

import contextlib
from collections.abc import Mapping, Sequence, Set
from typing import NamedTuple

import jax
import numpy as np

from acereason_jax import types
from acereason_jax.curriculum import filtering, ledger, outcomes, selection
from acereason_jax.data import archive, references
from acereason_jax.hosts import watchdog
from acereason_jax.models import base
from acereason_jax.rl import control, gradients, objective, packing, update
from acereason_jax.run import (
  clock,
  collect,
  judged,
  keeping,
  metrics,
  scoring,
  usage,
)
from acereason_jax.run.values import (
  CONTROLS,
  Run,
  Stage,
  Standing,
  Step,
  Stopped,
  Tools,
)


class Batch(NamedTuple):
  """The judged groups of a step.

  groups: groups to train on.
  asked: all groups, in the order in which their prompts were drawn.
  epochs: epoch of the prompt of each group in `asked`.
  cursor: place of the stage in its data after them.
  rounds: result of each round of `collect`.
  reshard: seconds until the devices had the weights of rollouts.
  """

  groups: list[types.Group]
  asked: list[types.Group]
  epochs: list[int]
  cursor: selection.Cursor
  rounds: list[collect.Collected]
  reshard: clock.Seconds


def take_step(
  run: Run, stage: Stage, at: Standing, tools: Tools
) -> tuple[Standing, Step]:
  """Takes one step, from prompts to updates; returns its standing and results.

  Raises:
    Stopped, judged.JudgeFailed: one line for the user.
    signals.Asked: before the update, so that `at` is still whole.
  """
  began = clock.now()
  batch = fill_batch(run, stage, at, tools)
  collected = clock.now()
  with watchdog.phase('pack'):
    chosen = choose_texts(run, stage, at, batch)
    trained = objective.assign_advantages(batch.groups, stage.objective)
    microbatches = objective.pack(trained, stage.layout)
  with watchdog.phase('report'):
    values = batch_metrics(stage, batch)
    used = usage_metrics(stage, batch, trained, microbatches)
  tools.stop.heed()
  wanted = keeping.keys(batch.asked, chosen)
  state, updated, scores = update_policy(
    stage, at, microbatches, values['entropy'], wanted
  )
  ended = clock.now()
  whole, updating = (clock.between(t, ended) for t in (began, collected))
  state = reset_reference(stage, state, at.progress.stage_step + 1)
  values = metrics.merge(
    values,
    used,
    updated,
    setting_metrics(stage, at, batch),
    clock.named('update', updating),
    usage.mfu(run.shape, microbatches, updating.wall, run.peak),
    clock.named('step', whole),
    dict(
      reshard_gb=run.rollout_bytes / 1e9,
      judge_wait_share=values['seconds_judge'] / max(whole.wall, 1e-9),
      peak_gb=metrics.peak_gb(),
    ),
    metrics.hbm(jax.local_devices()),
  )
  with watchdog.phase('report'):
    at = record(stage, at, state, batch, values)
    training = keeping.Training(
      stage.objective,
      batch.groups,
      objective.gradient_keys(trained, stage.objective.every),
      scores,
    )
    place = archive.Place(at.progress.step, archive.TRAIN)
    kept = keeping.Kept(place, stage.name, batch.asked, chosen, training)
  return at, Step(values, batch.groups, batch.rounds[0].trace, kept)


def fill_batch(run: Run, stage: Stage, at: Standing, tools: Tools) -> Batch:
  """Draws prompts, and has their rollouts sampled and judged.

  Groups of further prompts replace groups without a gradient, in at most
  `refill` rounds and as long as there are prompts. A batch that is still not
  full is trained on as it is.
  """
  progress, rules = at.progress, stage.objective.rules
  began = clock.now()
  with watchdog.phase('reshard'):
    # Waited for, so that its seconds are not sampling's.
    params = finished(run.rollout_params(at.state.weights))
  reshard = clock.between(began, clock.now())
  asking = collect.Asking(
    (run.seed, progress.step), 'train', progress.step, progress.temperature
  )
  cursor, asked, epochs, rounds = progress.cursor or {}, [], [], []
  while len(rounds) <= stage.refill:
    kept = sum(objective.has_signal(g, rules) for g in asked)
    if kept >= stage.prompts:
      break
    try:
      with watchdog.phase('draw'):
        drawn, cursor = draw(
          run, stage, at, tools, cursor, stage.prompts - kept
        )
        expected = outcomes.mean_lengths(at.ledger)
    except filtering.NothingLeft:
      # The end of the previous step already checked that the first batch
      # exists.
      assert rounds, 'a stage that is over takes no step'
      break
    found = collect.collect(
      stage.engine,
      params,
      [prompt for prompt, _ in drawn],
      tools,
      asking._replace(taken=collect.count_rollouts(asked)),
      groups=round(progress.groups),
      expected=expected,
    )
    asked += found.groups
    epochs += [epoch for _, epoch in drawn]
    rounds.append(found)
  judged.check_judged(asked, tools.judges)
  collect.keep_failed(asked, tools.journal, asking)
  chosen = choose_groups(asked, stage.prompts, rules)
  return Batch(chosen, asked, epochs, cursor, rounds, reshard)


def draw(
  run: Run,
  stage: Stage,
  at: Standing,
  tools: Tools,
  cursor: selection.Cursor,
  count: int,
) -> tuple[list[tuple[types.Prompt, int]], selection.Cursor]:
  """The next prompts, each with its epoch, and the cursor after them.

  Raises:
    filtering.NothingLeft: they would begin an epoch without prompts.
    Stopped: the data differ from those that the stage began with.
  """
  try:
    return selection.draw(
      count,
      {d: tools.prompts[d][references.TRAIN] for d in stage.mix},
      stage.mix,
      stage.filters,
      at.ledger,
      cursor,
      seed=run.seed,
      stage=stage.name,
      stage_seed=run.seed + stage.index,
      step=at.progress.step + 1,
      since=at.progress.step - at.progress.stage_step,
    )
  except filtering.NothingLeft:
    raise
  except ValueError as e:
    raise Stopped(f'stage {stage.name!r}: config.filter: {e}') from e


def choose_groups(
  groups: Sequence[types.Group], count: int, rules: objective.Rules
) -> list[types.Group]:
  """The first `count` groups; groups with a gradient come before the others."""
  dull = lambda i: not objective.has_signal(groups[i], rules)
  best = sorted(range(len(groups)), key=dull)[:count]
  return [groups[i] for i in sorted(best)]


def choose_texts(
  run: Run, stage: Stage, at: Standing, batch: Batch
) -> dict[int, str]:
  """Why the texts of groups are kept, by their place in `batch.asked`."""
  return keeping.choose(
    batch.asked,
    outcomes.unsolved(at.ledger),
    seed=run.seed,
    step=at.progress.step + 1,
    count=run.keep['groups'],
    rules=stage.objective.rules,
  )


def batch_metrics(stage: Stage, batch: Batch) -> dict[str, float]:
  """Metrics of all groups asked; speed, slots and pages of the first round.

  In a stage that refills its batches `zero_signal_share` is over the groups
  that are trained on, after the refills.
  """
  rules, first = stage.objective.rules, batch.rounds[0]
  waits = np.sum([r.waits for r in batch.rounds], axis=0)
  speed = first.trace.tokens / max(first.sample.wall, 1e-9)
  values = metrics.merge(
    first.trace.metrics(),
    judged.response_metrics(batch.asked),
    dict(tokens_per_second=speed),
    clock.named('reshard', batch.reshard),
    clock.named('sample', clock.total(r.sample for r in batch.rounds)),
    clock.named('judge', clock.total(r.judge for r in batch.rounds)),
    dict(
      seconds_judge_slowest=float(waits.max()),
      judge_slowest_process=float(waits.argmax()),
    ),
    judged.judge_metrics(batch.asked, rules),
  )
  if stage.refill:
    values['zero_signal_share'] = judged.zero_signal_share(batch.groups, rules)
    values['rounds'] = float(len(batch.rounds))
    values['asked'] = float(len(batch.asked))
  return values


def usage_metrics(
  stage: Stage,
  batch: Batch,
  trained: usage.Parts,
  microbatches: Sequence[Sequence[packing.Packed]],
) -> dict[str, float]:
  """What became of the slot steps of the first round, and of the rows."""
  fates = usage.fates(batch.asked, trained, stage.objective)
  return metrics.merge(
    usage.slot_shares(batch.rounds[0].trace, fates),
    usage.packed_tokens(trained, microbatches),
  )


def setting_metrics(
  stage: Stage, at: Standing, batch: Batch
) -> dict[str, float]:
  """The settings that the step used."""
  return dict(
    stage=float(stage.index),
    epoch=float(selection.epochs_done(batch.cursor)),
    temperature=at.progress.temperature,
    entropy_bonus=at.progress.entropy_bonus,
    rollouts_a_prompt=float(round(at.progress.groups)),
  )


def update_policy(
  stage: Stage,
  at: Standing,
  microbatches: Sequence[Sequence[packing.Packed]],
  entropy: float,
  wanted: Set[scoring.Key],
) -> tuple[
  update.TrainState, dict[str, float], dict[scoring.Key, scoring.Score]
]:
  """One update for each list of microbatches; their metrics and scores.

  `entropy` is that of the batch, nats per token. Only `wanted` rollouts have
  scores, if they were packed, each of the update that trained on it; the set is
  the same on every process. `at.state` is donated.
  """
  state, progress = at.state, at.progress
  seen = control.Seen(
    progress.stage_step, selection.epochs_done(progress.cursor or {}), entropy
  )
  knobs = gradients.make_knobs(
    progress.temperature if stage.tempered else 1.0,
    stage.entropy_bonus.used(progress.entropy_bonus, seen),
  )
  with watchdog.phase('pack'):
    parts = [[stage.place(p.batch) for p in part] for part in microbatches]
  if stage.has_first:
    # pi_old of all updates is the policy before the first update.
    with watchdog.phase('update', (stage.name, 'first')):
      parts = [
        [score_first(stage, state, batch, knobs) for batch in part]
        for part in parts
      ]
  found, scores = [], {}
  with watchdog.phase('update', stage.name):
    for packed, part in zip(microbatches, parts, strict=True):
      state, values, scored = update_once(
        stage, state, packed, part, knobs, wanted
      )
      found.append(values)
      scores |= scored
  return state, merge_updates(found), scores


def finished(tree: base.Tree) -> base.Tree:
  """The same arrays, computed: a phase is over when they are there."""
  jax.block_until_ready(tree)
  watchdog.progress()
  return tree


def microbatch(
  stage: Stage, what: str, batch: packing.PackedBatch
) -> contextlib.AbstractContextManager:
  """The phase in which a microbatch is computed; each width compiles anew."""
  width = batch.tokens_BT.shape[1]
  return watchdog.phase('microbatch', (stage.name, what, width))


def score_first(
  stage: Stage,
  state: update.TrainState,
  batch: packing.PackedBatch,
  knobs: gradients.Knobs,
) -> packing.PackedBatch:
  """The batch with logp_first, computed."""
  with microbatch(stage, 'first', batch):
    found = stage.update.first_pass(state.weights, batch, knobs)
    return jax.block_until_ready(found)


def update_once(
  stage: Stage,
  state: update.TrainState,
  microbatches: Sequence[packing.Packed],
  placed: Sequence[packing.PackedBatch],
  knobs: gradients.Knobs,
  wanted: Set[scoring.Key],
) -> tuple[
  update.TrainState, dict[str, np.ndarray], dict[scoring.Key, scoring.Score]
]:
  """Adds up the gradients of the microbatches and applies them.

  `placed` are the batches of the microbatches on the devices.
  """
  sums, scores = stage.update.zeros(state.params), {}
  for packed, batch in zip(microbatches, placed, strict=True):
    with microbatch(stage, 'add', batch):
      if stage.has_reference:
        batch = stage.update.score(state.reference_weights, batch, knobs)
      sums, scored = stage.update.add(state.weights, sums, batch, knobs)
      jax.block_until_ready(sums)
      scores |= scoring.fetch(scored, packed, wanted)
    # Else it stays on the devices while the next microbatch is computed.
    del scored
  state, values = stage.update.apply(state, sums)
  return state, jax.device_get(values), scores


def merge_updates(
  found: Sequence[Mapping[str, np.ndarray]],
) -> dict[str, float]:
  """A batch's metrics, from those of its updates: means, with exceptions.

  The mismatch is that of the first update: later updates train a policy that is
  no longer the sampler's.
  """
  first = lambda values: values[0]
  rules = dict(
    trained_tokens=sum, nonfinite=max, mismatch=first, mismatch_max=first
  )
  return {
    name: float(rules.get(name, np.mean)([values[name] for values in found]))
    for name in found[0]
  }


def reset_reference(
  stage: Stage, state: update.TrainState, stage_step: int
) -> update.TrainState:
  """Makes the policy the reference, if that is due after `stage_step` steps."""
  every = stage.reset_reference_every
  if stage.has_reference and every and not stage_step % every:
    with watchdog.phase('update', (stage.name, 'reference')):
      return stage.update.reset_reference(state)
  return state


def record(
  stage: Stage,
  at: Standing,
  state: update.TrainState,
  batch: Batch,
  values: Mapping[str, float],
) -> Standing:
  """The standing after the step, with its ledger and the next settings."""
  progress = at.progress
  stage_step = progress.stage_step + 1
  seen = control.Seen(
    stage_step, selection.epochs_done(batch.cursor), values['entropy']
  )
  settings = {
    name: getattr(stage, name).after(getattr(progress, name), seen)
    for name in CONTROLS
  }
  records = ledger.records(
    batch.asked,
    'train',
    stage.name,
    batch.epochs,
    progress.step + 1,
    stage.objective.rules,
  )
  progress = progress._replace(
    step=progress.step + 1,
    stage_step=stage_step,
    cursor=batch.cursor,
    carried=carried_settings(stage, settings),
    temperatures=[*progress.temperatures, progress.temperature],
    nonfinite=progress.nonfinite + 1 if values['nonfinite'] else 0,
    **settings,
  )
  return at._replace(
    state=state, progress=progress, ledger=at.ledger.extended(records)
  )


def carried_settings(
  stage: Stage, settings: Mapping[str, float]
) -> dict[str, float]:
  """The settings that the next stage continues with, if controls carry them."""
  return {
    name: value
    for name, value in settings.items()
    if getattr(stage, name).carried is not None
  }
