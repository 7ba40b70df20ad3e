"""The time of a stage from what it has to do; simulated, never measured."""

import collections
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from acereason_jax import machines, types
from acereason_jax.planning import (
  judges,
  lengths,
  rollouts,
  traffic,
  updates,
  values,
)
from acereason_jax.rollout import engine_sizes

# Lengths of groups of an earlier run, by the limit of a response, tokens.
Known = Mapping[int, tuple[tuple[int, ...], ...]]


class _On(NamedTuple):
  """What everything is simulated with.

  work, hardware, assumed, known, measured: see `timed`.
  """

  work: values.Work
  hardware: machines.Hardware
  assumed: values.Assumed
  known: Known
  measured: values.Measured | None


class _Asked(NamedTuple):
  """A simulated batch with its judges.

  simulated: the batch.
  wait: seconds from the last token to the last verdict.
  """

  simulated: rollouts.Simulated
  wait: float

  @property
  def seconds(self) -> float:
    return self.simulated.decoded.seconds + self.wait


def timed(
  work: values.Work,
  hardware: machines.Hardware,
  assumed: values.Assumed,
  known: Known = types.EMPTY,
  measured: values.Measured | None = None,
) -> values.Timed:
  """The time of a stage on machines.

  `known` holds lengths by the limit of a response; others are assumed. A batch
  stands for all of the stage: nothing learns, and lengths stay. Seconds of
  programs that were `measured` take the place of those from a machine's rates.

  Raises:
    ValueError: one line: the machine's rates are not known, or a mean length is
      impossible.
  """
  on = _On(work, hardware, assumed, known, measured)
  batch = _ask(on, work.sizes, work.prompts, _groups(work), work.judges)
  updated = updates.update(
    work, batch.simulated.lengths, hardware, assumed, measured
  )
  if measured is None:
    reshard = updates.reshard_seconds(work, hardware, assumed)
  else:
    reshard = measured.rollout_params
  decoded = batch.simulated.decoded
  apart = decoded.parts['prefill'] + decoded.parts['host']
  phases = {
    'prefill': decoded.parts['prefill'],
    'decode': decoded.seconds - apart,
    'judges': batch.wait,
    'reshard': reshard,
    'update': updated.seconds,
    'host': decoded.parts['host'],
    'heldout': _heldout(on, reshard),
    'probe': _probe(on, reshard),
  }
  phases['checkpoint'] = _checkpoint(on, sum(phases.values()))
  return values.Timed(
    name=work.name,
    phases=phases,
    steps=work.steps,
    batch=decoded,
    microbatches=float(np.mean(updated.packed.microbatches)),
    filled=updated.packed.filled,
    mfu=updated.mfu,
    wastes=_wastes(on, phases, batch.simulated, updated),
  )


def _groups(work: values.Work) -> int:
  return max(1, round(work.groups))


def _ask(
  on: _On,
  sizes: engine_sizes.Sizes,
  prompts: int,
  groups: int,
  judged: Sequence[values.Judged],
) -> _Asked:
  """Simulates `groups` rollouts of each of so many prompts."""
  a = on.assumed
  draws = lengths_of(sizes.max_tokens, prompts, groups, a, on.known)
  price = _price(on, sizes)
  simulated = rollouts.simulate(sizes, draws, round(a.prompt_tokens), price)
  hosts = on.hardware.processes
  wait = judges.wait_seconds(simulated.ends, groups, judged, hosts, prompts)
  return _Asked(simulated, wait)


def lengths_of(
  limit: int,
  prompts: int,
  groups: int,
  assumed: values.Assumed,
  known: Known = types.EMPTY,
) -> lengths.Draws:
  """The lengths of a simulated batch whose responses have a limit."""
  return lengths.Draws(
    prompts=prompts,
    groups=groups,
    limit=limit,
    mean=lengths.mean_of(limit, assumed),
    spread=assumed.spread,
    seed=assumed.seed,
    known=known.get(limit, ()),
  )


def _price(
  on: _On, sizes: engine_sizes.Sizes
) -> rollouts.Price | rollouts.Clocked:
  """The price of an engine's calls."""
  if on.measured is None:
    return rollouts.price(on.work, sizes, on.hardware, on.assumed)
  of_rollouts = sizes == on.work.sizes
  found = on.measured.rollouts if of_rollouts else on.measured.heldout
  return rollouts.Clocked(found)


def _checkpoint(on: _On, others: float) -> float:
  """Seconds of a step that a run waits for checkpoints.

  Devices copy their part to the host. Hosts write theirs while the next steps
  run, which take `others` seconds each, and the next save waits for the last
  (`run.checkpoint`). The last step of a stage is saved too.
  """
  work = on.work
  if not work.checkpoint_every:
    return 0.0
  count = -(-work.steps // work.checkpoint_every)
  size, hardware = work.checkpoint_bytes, on.hardware
  copied = size / hardware.devices / traffic.HOST_LINK
  written = size / hardware.processes / on.assumed.checkpoint_bandwidth
  late = max(0.0, written - work.checkpoint_every * others)
  return count * (copied + late) / work.steps


def due_looks(
  looks: Sequence[values.Look], steps: int, first: bool = False
) -> Iterator[tuple[tuple[values.Look, ...], int]]:
  """(domains that are asked together, how often) over a stage.

  All are asked after the last step, those that say so before the run's `first`
  stage, and each after every `every` steps.
  """
  found = collections.Counter()
  for step in range(0 if first else 1, steps + 1):
    due = tuple(look for look in looks if _is_due(look, step, steps))
    if due:
      found[due] += 1
  yield from found.items()


def _is_due(look: values.Look, step: int, steps: int) -> bool:
  if step in (0, steps):
    return bool(step) or look.before
  return bool(look.every) and not step % look.every


def _heldout(on: _On, reshard: float) -> float:
  """Seconds of a step for held-out looks. Top-p's search is not counted."""
  work, seconds = on.work, 0.0
  for due, times in due_looks(work.looks, work.steps, work.first):
    rollouts_of = {look.domain: look.questions * look.tries for look in due}
    total = sum(rollouts_of.values())
    if not total:
      continue
    judged = [
      j._replace(share=rollouts_of.get(j.domain, 0) / total)
      for j in work.judges
    ]
    # One stream asks questions with different numbers of tries; the mean
    # number has the same rollouts.
    questions = sum(look.questions for look in due)
    tries = max(1, round(total / questions))
    count = max(1, round(total / tries))
    asked = _ask(on, work.heldout, count, tries, judged)
    seconds += times * (asked.seconds + reshard)
  return seconds / work.steps


def _probe(on: _On, reshard: float) -> float:
  """Seconds of a step for the probe before the stage.

  All of it is one stream (`run.deciding`). So of more than two batches each
  further one takes as long as the second, whose slots are filled by the first.
  """
  work = on.work
  asked, tries = work.asked * (1 - on.assumed.known), max(1, round(work.tries))
  if not round(asked):
    return 0.0
  ask = lambda prompts: _ask(on, work.sizes, prompts, tries, work.judges)
  batches = asked * work.tries / (work.prompts * tries)
  if batches <= 2:
    seconds = ask(max(1, round(batches * work.prompts))).seconds
  else:
    one, two = ask(work.prompts).seconds, ask(2 * work.prompts).seconds
    seconds = one + (batches - 1) * (two - one)
  return (seconds + reshard) / work.steps


def _wastes(
  on: _On,
  phases: Mapping[str, float],
  simulated: rollouts.Simulated,
  updated: updates.Updated,
) -> list[values.Waste]:
  """Parts of a step that could be less, largest first; they may overlap.

  A waste is what its cure would save at most, not what it will.
  """
  work, decoded = on.work, simulated.decoded
  parts, decode = decoded.parts, phases['decode'] + phases['host']
  drawn = max(decoded.tokens, 1)
  lost = drawn - int(simulated.lengths.sum())
  count = simulated.lengths.size
  slots = min(1.0, work.sizes.slots / count)
  drafts = '' if work.sizes.speculate else 'engine.speculate, or '
  found = [
    values.Waste(
      simulated.idle,
      'the tail: steps with fewer than half of the slots busy',
      f'{drafts}a larger rollout_mesh.tensor',
    ),
    values.Waste(
      simulated.reread * (1 - slots),
      'weights are read for few rollouts',
      f'engine.slots=0 or more memory for pages (now {work.sizes.slots} slots '
      f'for {count} rollouts)',
    ),
    values.Waste(
      simulated.uneven,
      'the cache of the busiest shard is larger than the mean',
      'fewer shards with more tensor parallelism',
    ),
    values.Waste(
      updated.products * (1 - updated.packed.filled),
      'padding in microbatches',
      'fewer or narrower rows in a microbatch',
    ),
    values.Waste(
      parts['network'] + updated.network,
      'waiting for the network',
      'a mesh whose tensor, sequence and fsdp axes stay within a node or slice',
    ),
    values.Waste(
      phases['judges'], 'judges after the last token', 'more judge.workers'
    ),
    values.Waste(
      phases['probe'],
      'the probe before the stage',
      "filter.source='ledger', or counts from curation",
    ),
    values.Waste(
      phases['heldout'],
      'held-out looks',
      'heldout.every, heldout.per_prompt or heldout.max_tokens',
    ),
    values.Waste(
      decode * lost / drawn,
      f'{decoded.preempted} rollouts that lost their pages',
      'more engine.pages or fewer engine.slots',
    ),
    values.Waste(phases['checkpoint'], 'checkpoints', 'checkpoint.every'),
  ]
  return sorted((w for w in found if w.seconds > 0), key=lambda w: -w.seconds)
