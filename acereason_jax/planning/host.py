"""Memory of a host, and the bytes that a step writes to the journal.

A host of a pod has one process of the run. Sizes of arrays follow from the run;
those of processes are ours, measured on a Linux machine and rounded up.
"""

from collections.abc import Sequence
from typing import Any

import jax

from acereason_jax import machines
from acereason_jax.planning import memory
from acereason_jax.planning.values import Assumed, Phase, Work
from acereason_jax.rl import packing

# The program with jax and what its compiler holds: the quick start's steps take
# 4.4 GB, of which 3.3 are arrays. A judge's worker as it starts; an assumption.
PROGRAM, JUDGE = 1.1e9, 0.1e9
# A token of a rollout: three numbers of 4 bytes and about 4 bytes of text; and
# what a record has beside them.
TOKEN, RECORD = 16, 400
# What the same takes in memory: 200 MB of records took 0.37 GB
# (docs/measured.md, "Journal").
READ = 1.9
# A prompt's result in the ledger, for each time that it is asked.
RESULT = 200


def journal_bytes(work: Work, mean_tokens: float) -> float:
  """Bytes of the journal's records of one step, of all processes."""
  return work.prompts * work.groups * (mean_tokens * TOKEN + RECORD)


def parts(
  stage: Any,
  work: Work,
  hardware: machines.Hardware,
  mean_tokens: float,
  assumed: Assumed,
  phases: Sequence[Phase],
) -> dict[str, float]:
  """Bytes of a host at its fullest, in a step, by what takes them.

  Every process holds all rollouts of a batch and packs all of them. Orbax
  copies what a checkpoint holds, and writes it while the next steps run. A run
  that is started again reads the journal of the steps since the last
  checkpoint. Loading takes less: the local part of one matrix at a time.
  """
  local = hardware.chips * hardware.kind.devices
  state = stage.abstract_state
  saved = state.params, state.opt_state, state.reference
  copy = sum(memory.shard_bytes(x) for x in jax.tree.leaves(saved))
  _, away = memory.moment_bytes(state)
  tokens = work.prompts * work.groups * mean_tokens
  trained = tokens * assumed.kept
  results = work.steps * work.prompts + work.asked
  found = {
    'program': PROGRAM,
    'judges': JUDGE * sum(judge.workers for judge in work.judges),
    'moments': local * away,
    'checkpoint being written': float(local * copy),
    'rollouts and journal': READ
    * max(1, work.checkpoint_every)
    * journal_bytes(work, mean_tokens),
    'packed batch': len(packing.PackedBatch._fields) * 4.0 * trained,
    'ledger': float(RESULT * results),
  }
  if hardware.kind.platform == 'cpu':
    # CPU devices have no memory of their own.
    found['devices'] = local * max(phase.need for phase in phases)
  return {name: float(size) for name, size in found.items() if size}
