"""Probes before a stage: asks every prompt for the counts of its filter."""

import json
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from acereason_jax import types
from acereason_jax.curriculum import filtering, ledger, outcomes
from acereason_jax.data import references
from acereason_jax.models import base
from acereason_jax.run import collect, judged, metrics, stored
from acereason_jax.run import journal as journal_lib
from acereason_jax.run.values import Run, Stage, Standing, Tools

# First step number in keys of probes; a run never takes so many steps.
_PROBES = 1 << 30


def probe(
  run: Run,
  stage: Stage,
  domain: str,
  at: Standing,
  tools: Tools,
) -> Standing:
  """Asks every prompt of a domain as often as its filter in the stage requires.

  The results are added to the ledger. Prompts whose data have them for this
  model are not asked.

  The journal stores only the counts, after each chunk of prompts; a chunk that
  is interrupted is asked again.

  Raises:
    signals.Asked: the journal has the chunks that are over.
  """
  step, times = at.progress.step, stage.filters[domain].of
  easy = easy_prompts(stage, domain, tools.prompts[domain][references.TRAIN])
  known = stored.probes(run, stage, domain, step, easy)
  asked = [p for p in easy if p.id not in known]
  if known:
    metrics.say(
      f'stage {stage.name}: {len(known):,} of {len(easy):,} prompts have pass '
      'counts of this model in their data'
    )
  if not asked:
    return at._replace(ledger=at.ledger.extended(known.values()))
  noted = read_probes(stage, step, asked, tools.journal.found)
  missing = [p for p in asked if p.id not in noted]
  where = f'stage {stage.name}: asking {len(asked):,} prompts {times} times'
  metrics.say(where + (f', {len(noted):,} of them before' if noted else ''))
  params = run.rollout_params(at.state.weights)
  # Chunks have one size: among a few verdicts a failed one would be a large
  # share.
  count = max(1, -(-len(missing) // stage.prompts))
  for places in np.array_split(np.arange(len(missing)), count):
    if not len(places):
      break
    tools.stop.heed()
    chunk = [missing[i] for i in places]
    for found in probe_chunk(run, stage, at, tools, params, chunk, times):
      noted[found.prompt] = found
      if jax.process_index() == 0:
        note = types.Verdict('right', json.dumps(found), 0.0)
        tools.journal.verdict('probe', step, found.prompt, 0, note)
    metrics.say(
      f'stage {stage.name}: {len(noted):,} of {len(asked):,} prompts asked'
    )
  noted |= known
  records = [noted[prompt.id] for prompt in easy]
  return at._replace(ledger=at.ledger.extended(records))


def probe_chunk(
  run: Run,
  stage: Stage,
  at: Standing,
  tools: Tools,
  params: base.Tree,
  prompts: Sequence[types.Prompt],
  times: int,
) -> list[ledger.Record]:
  """The results of `times` rollouts of each of the prompts."""
  groups = collect.collect(
    stage.engine,
    params,
    prompts,
    tools,
    collect.Asking(
      (run.seed, _PROBES + stage.index),
      '',
      at.progress.step,
      at.progress.temperature,
    ),
    groups=times,
    expected=outcomes.mean_lengths(at.ledger),
  ).groups
  judged.check_judged(groups, tools.judges)
  zeros = [0] * len(groups)
  rules = stage.objective.rules
  return ledger.records(
    groups, 'probe', stage.name, zeros, at.progress.step, rules
  )


def read_probes(
  stage: Stage,
  step: int,
  prompts: Sequence[types.Prompt],
  found: Mapping[journal_lib.Key, journal_lib.Entry],
) -> dict[str, ledger.Record]:
  """The results of an interrupted probe in the journal, by prompt.

  The probe is that of a stage at `step`.
  """
  noted = {}
  for prompt in prompts:
    key = journal_lib.Key('probe', step, prompt.id, 0)
    if (entry := found.get(key)) is not None:
      record = ledger.Record(*json.loads(entry.verdict.detail))
      # A previous stage that ended at once probed at the same step.
      if record.stage == stage.name:
        noted[prompt.id] = record
  return noted


def easy_prompts(
  stage: Stage, domain: str, prompts: Sequence[types.Prompt]
) -> list[types.Prompt]:
  """The prompts that a domain's filter leaves before the model is asked.

  Raises:
    ValueError: one line that begins with the name of a field of the filter.
  """
  return filtering.survivors(
    prompts,
    ledger.Ledger(),
    filtering.Filter(max_difficulty=stage.filters[domain].max_difficulty),
    stage=stage.name,
    epoch=0,
    before_step=0,
    seed=0,
  )
