"""A run's stages, one step after the other.

Everything a step needs of the past is in `Standing`, and all of that is in a
checkpoint: after a restart the same steps are taken, and the journal gives the
rollouts of those that were taken already.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from acereason_jax import types
from acereason_jax.curriculum import ledger, outcomes, plateau, selection
from acereason_jax.data import references
from acereason_jax.rl import advantages, control, update
from acereason_jax.rollout import schedule
from acereason_jax.run import collect, metrics
from acereason_jax.run import journal as journal_lib
from acereason_jax.run.build import Run, Stage, say

# Steps of keys for what is not trained on; a run never takes so many.
_PROBES = 1 << 30


class Stopped(RuntimeError):
  """A limit of the config is passed: one line for the user."""


class Interrupted(Exception):
  """A signal asked the run to stop where there is nothing to save."""


class Progress(NamedTuple):
  """Where a run stands; plain JSON.

  `step` batches were trained on, `stage_step` of them in stage `stage` (its
  name). `cursor` is where the stage stands in its data, `temperature`,
  `entropy_bonus` and `groups` are those of the next step; `carried` are those
  of them that the next stage goes on with. `temperatures` are those of the
  stage's steps, `history` is the stop rule's metric in this stage, `nonfinite`
  how many steps in a row changed nothing; `heldout` is what was found at the
  end of stages and before the first. `over` is why the stage ends before its
  next batch: there is none; else ''.
  """

  stage: str
  step: int = 0
  stage_step: int = 0
  cursor: selection.Cursor | None = None
  temperature: float = 0.0
  entropy_bonus: float = 0.0
  groups: float = 0.0
  carried: Mapping[str, float] | None = None
  temperatures: Sequence[float] = ()
  history: Sequence[float] = ()
  nonfinite: int = 0
  heldout: Sequence[Mapping[str, Any]] = ()
  over: str = ''


class Standing(NamedTuple):
  """All that a run knows after a step."""

  state: update.TrainState
  progress: Progress
  ledger: ledger.Ledger


class Tools(NamedTuple):
  """What a run uses, beside what it is built of; `prompts` are by domain."""

  prompts: Mapping[str, Mapping[str, Sequence[types.Prompt]]]
  judges: Mapping[str, collect.Judges]
  journal: journal_lib.Journal


class Step(NamedTuple):
  """What a step found, beside where it left the run."""

  values: dict[str, float]
  groups: list[types.Group]
  trace: schedule.Trace
  reason: str | None


def epochs_done(progress: Progress) -> int:
  return selection.epochs_done(progress.cursor or {})


def stage_of(run: Run, progress: Progress) -> Stage:
  return next(s for s in run.stages if s.name == progress.stage)


def stop_reason(
  stage: Stage, progress: Progress, known: ledger.Ledger
) -> str | None:
  """Why a stage is over, or None."""
  reason = selection.should_stop(
    stage.stop,
    progress.stage_step,
    epochs_done(progress),
    rise(stage, progress, known),
  )
  return reason or progress.over or None


def rise(
  stage: Stage, progress: Progress, known: ledger.Ledger
) -> plateau.Rise | None:
  """What the stop rule goes by; see `curriculum.rise`."""
  return selection.rise(
    stage.stop,
    progress.history,
    known,
    stage.filters,
    stage=stage.name,
    since=progress.step - progress.stage_step,
    newest=progress.step,
    temperatures=progress.temperatures,
  )


def carried(stage: Stage, numbers: Mapping[str, float]) -> dict[str, float]:
  """Those whose controls have the next stage go on with them."""
  return {
    name: number
    for name, number in numbers.items()
    if getattr(stage, name).carried is not None
  }


def enter(
  run: Run,
  stage: Stage,
  at: Standing,
  tools: Tools,
  interrupted: Callable[[], bool],
) -> Standing:
  """A stage's beginning; `at` is where the stage before it ended.

  Raises:
    Interrupted: nothing is lost, the journal has what was asked.
  """
  state, progress = at.state, at.progress
  if progress.step and stage.carry is not None:
    state = stage.carry(state)
  elif progress.step:
    fresh = stage.init(state.params)
    state = fresh.replace(frozen=state.frozen, step=state.step)
  state = (
    stage.update.reset_reference(state)
    if stage.has_reference
    else state.replace(reference={})
  )
  before, begins = progress.carried or {}, {}
  for name in ('temperature', 'entropy_bonus', 'groups'):
    rule = getattr(stage, name)
    begins[name] = rule.first
    if rule.carried is not None and name in before:
      begins[name] = rule.carried(before[name])
  progress = progress._replace(
    stage=stage.name,
    stage_step=0,
    cursor=None,
    carried=carried(stage, begins),
    temperatures=(),
    history=(),
    over='',
    **begins,
  )
  at = Standing(state, progress, at.ledger)
  for domain, own in stage.filters.items():
    if own.of:
      at = probe(run, stage, domain, at, tools, interrupted)
  return looked_ahead(run, stage, at, tools)


def probe(
  run: Run,
  stage: Stage,
  domain: str,
  at: Standing,
  tools: Tools,
  interrupted: Callable[[], bool],
) -> Standing:
  """Asks every prompt of a domain as often as the stage's filter of it says,
  and notes what became.

  Of rollouts so many the journal holds the counts alone, chunk by chunk; one
  that is interrupted is asked again.

  Raises:
    Interrupted: between chunks.
  """
  step, times = at.progress.step, stage.filters[domain].of
  asked = easy_ones(stage, domain, tools.prompts[domain][references.TRAIN])
  noted = noted_probes(stage, step, asked, tools.journal.found)
  missing = [p for p in asked if p.id not in noted]
  where = f'stage {stage.name}: asking {len(asked):,} prompts {times} '
  say(f'{where}times' + (f', {len(noted):,} of them before' if noted else ''))
  params = run.rollout_params(at.state.weights)
  # Of one size: of a few verdicts one that failed would be a large share.
  count = max(1, -(-len(missing) // stage.prompts))
  for chunk in np.array_split(np.arange(len(missing)), count):
    if not len(chunk):
      break
    if interrupted():
      raise Interrupted
    groups, _, _ = collect.collect(
      stage.engine,
      params,
      [missing[i] for i in chunk],
      tools.judges,
      tools.journal,
      collect.Asking(
        (run.seed, _PROBES + stage.index), '', step, at.progress.temperature
      ),
      groups=times,
      expected=outcomes.mean_lengths(at.ledger),
    )
    collect.check_judged(groups, tools.judges)
    zeros = [0] * len(groups)
    for r in ledger.records(
      groups, 'probe', stage.name, zeros, step, stage.rules
    ):
      noted[r.prompt] = r
      if jax.process_index() == 0:
        note = types.Verdict('right', json.dumps(r), 0.0)
        tools.journal.verdict('probe', step, r.prompt, 0, note)
    say(f'stage {stage.name}: {len(noted):,} of {len(asked):,} prompts asked')
  records = [noted[prompt.id] for prompt in asked]
  return at._replace(ledger=at.ledger.extended(records))


def noted_probes(
  stage: Stage,
  step: int,
  prompts: Sequence[types.Prompt],
  found: Mapping[journal_lib.Key, journal_lib.Entry],
) -> dict[str, ledger.Record]:
  """What an interrupted probe of a stage at `step` left in the journal, by
  prompt."""
  noted = {}
  for prompt in prompts:
    key = journal_lib.Key('probe', step, prompt.id, 0)
    if (entry := found.get(key)) is not None:
      record = ledger.Record(*json.loads(entry.verdict.detail))
      # A stage before it that was over at once asked at the same step.
      if record.stage == stage.name:
        noted[prompt.id] = record
  return noted


def easy_ones(
  stage: Stage, domain: str, prompts: Sequence[types.Prompt]
) -> list[types.Prompt]:
  """Those of a domain that its filter leaves before the model is asked.

  Raises:
    ValueError: one line that begins with the name of a field of the filter.
  """
  return selection.survivors(
    prompts,
    ledger.Ledger(),
    selection.Filter(max_difficulty=stage.filters[domain].max_difficulty),
    stage=stage.name,
    epoch=0,
    before_step=0,
    seed=0,
  )


def draw(
  run: Run,
  stage: Stage,
  at: Standing,
  tools: Tools,
  cursor: selection.Cursor,
  count: int,
) -> tuple[list[tuple[types.Prompt, int]], selection.Cursor]:
  """The next prompts, each with its epoch.

  Raises:
    selection.NothingLeft: they would begin an epoch that has none.
    Stopped: the data are not those that the stage began with.
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
  except selection.NothingLeft:
    raise
  except ValueError as e:
    raise Stopped(f'stage {stage.name!r}: config.filter: {e}') from e


def looked_ahead(
  run: Run, stage: Stage, at: Standing, tools: Tools
) -> Standing:
  """The same, with a word in `over` if there is no next batch.

  A batch that cannot be filled is not begun: the fewer than a batch's prompts
  that the last epoch has left stay out. Raises: Stopped, see `draw`.
  """
  cursor = at.progress.cursor or {}
  if not selection.may_begin_epoch(cursor, stage.mix, stage.prompts):
    return at
  try:
    draw(run, stage, at, tools, cursor, stage.prompts)
  except selection.NothingLeft as e:
    over = f'config.filter.{e}'
    return at._replace(progress=at.progress._replace(over=over))
  return at


def sample(
  run: Run, stage: Stage, at: Standing, tools: Tools
) -> tuple[
  list[types.Group],
  list[ledger.Record],
  selection.Cursor,
  dict[str, float],
  schedule.Trace,
]:
  """The groups to train on; records of all; the cursor; metrics; the trace.

  Groups without a gradient are replaced by those of further prompts, in at most
  `refill` rounds and as long as there are prompts: a batch that is still not
  full is trained on as it is. The metrics are those of all groups asked, except
  `zero_signal_share`; what they say of slots and pages, and the trace, are of
  the first round.
  """
  progress = at.progress
  params = run.rollout_params(at.state.weights)
  cursor, every, epochs, rounds = progress.cursor or {}, [], [], []
  asking = collect.Asking(
    (run.seed, progress.step), 'train', progress.step, progress.temperature
  )
  while not rounds or len(rounds) <= stage.refill:
    kept = [g for g in every if advantages.has_signal(g, stage.rules)]
    if len(kept) >= stage.prompts:
      break
    try:
      drawn, cursor = draw(
        run, stage, at, tools, cursor, stage.prompts - len(kept)
      )
    except selection.NothingLeft:
      # The first batch of a step was looked for when the step before ended.
      assert rounds, 'a stage that is over takes no step'
      break
    groups, found, trace = collect.collect(
      stage.engine,
      params,
      [prompt for prompt, _ in drawn],
      tools.judges,
      tools.journal,
      asking._replace(taken=collect.taken(every)),
      groups=round(progress.groups),
      expected=outcomes.mean_lengths(at.ledger),
    )
    every += groups
    epochs += [epoch for _, epoch in drawn]
    rounds.append((found, trace))
  collect.check_judged(every, tools.judges)
  collect.keep_failed(every, tools.journal, asking)
  chosen = filled(every, stage.prompts, stage.rules)
  records = ledger.records(
    every, 'train', stage.name, epochs, progress.step + 1, stage.rules
  )
  values = rounds[0][0] | collect.said(every)
  values |= collect.judge_metrics(every, stage.rules)
  for name in ('seconds_sample', 'seconds_judge'):
    values[name] = sum(found[name] for found, _ in rounds)
  if stage.refill:
    dull = [not advantages.has_signal(g, stage.rules) for g in chosen]
    values |= dict(
      zero_signal_share=sum(dull) / len(dull),
      rounds=float(len(rounds)),
      asked=float(len(every)),
    )
  return chosen, records, cursor, values, rounds[0][1]


def filled(
  groups: Sequence[types.Group], count: int, rules: advantages.Rules
) -> list[types.Group]:
  """`count` of the groups as they were drawn, those with a gradient first."""
  dull = lambda i: not advantages.has_signal(groups[i], rules)
  best = sorted(range(len(groups)), key=dull)[:count]
  return [groups[i] for i in sorted(best)]


def learn(
  stage: Stage, at: Standing, groups: list[types.Group], entropy: float
) -> tuple[update.TrainState, dict[str, float]]:
  """One update for each part of a batch; the mismatch is that of the first.

  pi_old of all parts is the policy before the first update, so what a loss
  reads of it is computed before that. `entropy` is the batch's.
  """
  state, progress = at.state, at.progress
  seen = control.Seen(progress.stage_step, epochs_done(progress), entropy)
  knobs = update.make_knobs(
    progress.temperature if stage.tempered else 1.0,
    stage.entropy_bonus.used(progress.entropy_bonus, seen),
  )
  parts, found = stage.pack(groups), []
  if stage.has_first:
    first_pass = stage.update.first_pass
    parts = [
      [first_pass(state.weights, batch, knobs) for batch in batches]
      for batches in parts
    ]
  for batches in parts:
    sums = stage.update.zeros(state.params)
    for batch in batches:
      if stage.has_reference:
        batch = stage.update.score(state.reference_weights, batch, knobs)
      sums = stage.update.add(state.weights, sums, batch, knobs)
    state, values = stage.update.apply(state, sums)
    found.append(jax.device_get(values))
  values = {k: float(np.mean([v[k] for v in found])) for k in found[0]}
  values['trained_tokens'] = float(sum(v['trained_tokens'] for v in found))
  values |= {k: float(found[0][k]) for k in ('mismatch', 'mismatch_max')}
  values['nonfinite'] = float(max(v['nonfinite'] for v in found))
  return state, values


def take_step(
  run: Run, stage: Stage, at: Standing, tools: Tools
) -> tuple[Standing, Step]:
  """One batch: sample and judge, update, and what follows from it.

  Raises:
    Stopped, collect.JudgeFailed: one line for the user.
  """
  began = time.monotonic()
  progress = at.progress
  groups, records, cursor, values, trace = sample(run, stage, at, tools)
  collected = time.monotonic()
  state, updated = learn(stage, at, groups, values['entropy'])
  ended = time.monotonic()
  values |= updated
  values |= dict(
    stage=float(stage.index),
    epoch=float(selection.epochs_done(cursor)),
    temperature=progress.temperature,
    entropy_bonus=progress.entropy_bonus,
    rollouts_a_prompt=float(round(progress.groups)),
    seconds_update=ended - collected,
    seconds_step=ended - began,
    judge_wait_share=values['seconds_judge'] / max(ended - began, 1e-9),
    peak_gb=metrics.peak_gb(),
  )
  known = at.ledger.extended(records)
  stage_step = progress.stage_step + 1
  every = stage.reset_reference_every
  if stage.has_reference and every and not stage_step % every:
    state = stage.update.reset_reference(state)
  done = progress.step + 1
  due = [
    name
    for name, domain in run.domains.items()
    if domain.evaluate_every and not done % domain.evaluate_every
  ]
  heldout = ask_heldout(run, state, progress.step, tools, due)
  values |= heldout
  seen = control.Seen(
    stage_step, selection.epochs_done(cursor), values['entropy']
  )
  ahead = {
    name: getattr(stage, name).after(getattr(progress, name), seen)
    for name in ('temperature', 'entropy_bonus', 'groups')
  }
  progress = progress._replace(
    step=done,
    stage_step=stage_step,
    cursor=cursor,
    carried=carried(stage, ahead),
    temperatures=[*progress.temperatures, progress.temperature],
    **ahead,
    history=follow(stage.stop, progress.history, values),
    nonfinite=progress.nonfinite + 1 if values['nonfinite'] else 0,
  )
  if (found := rise(stage, progress, known)) is not None:
    values |= dict(stop_gain=found.gain, stop_gain_error=found.error)
  at = Standing(state, progress, known)
  if not stop_reason(stage, progress, known):
    at = looked_ahead(run, stage, at, tools)
  reason = stop_reason(stage, at.progress, known)
  if reason:
    rest = [d for d in run.domains if f'heldout/{d}' not in heldout]
    heldout |= ask_heldout(run, state, progress.step - 1, tools, rest)
    values |= heldout
    ends = dict(stage=stage.name, step=done, **heldout)
    heldout_so_far = [*progress.heldout, ends]
    at = at._replace(progress=at.progress._replace(heldout=heldout_so_far))
  return at, Step(values, groups, trace, reason)


def follow(
  stop: selection.Stop, history: Sequence[float], values: Mapping[str, float]
) -> list[float]:
  """The newest values of the stop rule's metric, as many as it looks at."""
  if stop.metric not in values:
    return list(history)
  return [*history, values[stop.metric]][-2 * stop.window :]


def ask_heldout(
  run: Run,
  state: update.TrainState,
  step: int,
  tools: Tools,
  domains: Sequence[str],
  phase: str = 'heldout',
) -> dict[str, float]:
  """Pass rates on held-out questions of domains; the same draws every time.

  A verdict that failed is in no rate; how many there are is said.
  """
  if not domains:
    return {}
  prompts = [
    prompt
    for domain in domains
    for prompt in tools.prompts[domain][references.HELDOUT]
  ]
  rates = collect.heldout_pass_rates(
    run.heldout_engine,
    run.rollout_params(state.weights),
    prompts,
    tools.judges,
    tools.journal,
    collect.Asking((run.seed, 0), phase, step, run.heldout_temperature),
    groups=run.heldout_groups,
  )
  for domain, (_, judged, failed) in rates.items():
    if failed:
      say(
        f'held-out questions of {domain}: {failed} of {judged + failed} '
        'verdicts failed; the pass rate is of the others'
      )
  found = {f'heldout/{domain}': r.rate for domain, r in rates.items()}
  return found | {
    f'heldout_failed/{d}': float(r.failed) for d, r in rates.items()
  }


def check_limits(stage: Stage, at: Standing, step: Step) -> None:
  """Raises Stopped if a limit of the stage is passed; warns before."""
  values, limits = step.values, stage.limits
  where = f'step {at.progress.step}'
  if values['nonfinite']:
    say('WARNING: the gradient was not finite: that update changed nothing')
    if at.progress.nonfinite >= limits['nonfinite']:
      raise Stopped(
        f'{where}: the gradient was not finite in {at.progress.nonfinite} '
        f'steps in a row (config.limits.nonfinite={limits["nonfinite"]}); its '
        'batch is in nonfinite_*.npz; go on from an earlier checkpoint '
        '(config.start.run, another --workdir) at a lower learning rate'
      )
  if limits['mismatch'] and not values['mismatch'] <= limits['mismatch']:
    raise Stopped(
      f'{where}: sampler and trainer differ by {values["mismatch"]:.1e} a '
      f'token, more than config.limits.mismatch={limits["mismatch"]}; rounding '
      f'alone is up to {stage.mismatch_limit:.0e}: please report'
    )
  if not values['mismatch'] <= stage.mismatch_limit:
    say(
      f'WARNING: sampler and trainer differ by {values["mismatch"]:.1e} a '
      f'token, more than rounding ({stage.mismatch_limit:.0e}); please report'
    )
  if values['zero_signal_share'] > limits['zero_signal']:
    raise Stopped(
      f'{where}: {values["zero_signal_share"]:.0%} of the groups have no '
      f'gradient, more than config.limits.zero_signal={limits["zero_signal"]}; '
      'go on with config.start.run and another --workdir, and other prompts '
      '(config.filter) or more rounds of config.refill'
    )


def arrays_of(groups: Sequence[types.Group]) -> dict[str, np.ndarray]:
  """A batch as arrays by name, for a file: all rollouts one after the other."""
  pairs = [(g, r, v) for g in groups for r, v in zip(g.rollouts, g.verdicts)]
  return dict(
    prompt_id=np.array([r.prompt_id for _, r, _ in pairs]),
    index=np.array([r.index for _, r, _ in pairs]),
    status=np.array([v.status for _, _, v in pairs]),
    prompt_length=np.array([len(g.prompt.tokens) for g, _, _ in pairs]),
    prompt_tokens=np.concatenate([g.prompt.tokens for g, _, _ in pairs]),
    length=np.array([len(r.tokens) for _, r, _ in pairs]),
    tokens=np.concatenate([r.tokens for _, r, _ in pairs]),
    logp=np.concatenate([r.logp for _, r, _ in pairs]),
  )
