"""From a config and its programs to the work of each stage; no data are read.

Numbers of questions are those of questions.py, and means over a stage assume
that it takes all of its steps.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from acereason_jax.config import stages as stages_lib
from acereason_jax.models import families
from acereason_jax.planning import memory, probes, questions
from acereason_jax.planning.values import Assumed, Judged, Look, Work
from acereason_jax.rl import control

CODE = 'acereason_jax.verifiers.code:verify'
TRAIN, HELDOUT = 'train_data', 'heldout_data'


def counted(
  config: ml_collections.ConfigDict, assumed: Assumed
) -> dict[tuple[str, str], questions.Count]:
  """The numbers of questions, by domain and source ('train_data', ..).

  Raises:
    ValueError: `assumed` has the number of a path that no source has.
  """
  sources = {
    (name, source): own[source].to_dict()
    for name, own in stages_lib.domains(config).items()
    for source in (TRAIN, HELDOUT)
  }
  known = set().union(*(questions.paths(s) for s in sources.values()))
  if unknown := sorted({*assumed.questions} - known):
    raise ValueError(
      f'--questions: no source of the config has the path {unknown[0]!r}; '
      f'expected one of {", ".join(sorted(known)) or "none: no source has one"}'
    )
  return {
    key: questions.count(source, assumed.questions)
    for key, source in sources.items()
  }


def work(
  programs: Any,
  stage: Any,
  c: ml_collections.ConfigDict,
  counts: Mapping[tuple[str, str], questions.Count],
  assumed: Assumed,
  before: Sequence[ml_collections.ConfigDict],
  engines: tuple[memory.Rollouts, memory.Rollouts] | None = None,
) -> Work:
  """The work of one stage, whose whole config is `c`.

  `before` holds the configs of the stages before it. `engines` are those of its
  rollouts and of held-out questions, by default those of the programs.
  """
  network, state = programs.network, stage.abstract_state
  found, heldout = engines or (
    memory.rollouts(programs, stage.engine),
    memory.rollouts(programs, programs.heldout_engine),
  )
  rows = {domain: counts[domain, TRAIN].number for domain in stage.mix}
  moments, _ = memory.moment_bytes(state)
  asked, tries = asked_before(stage, before, rows)
  parts = memory.state_parts(programs, stage, c)
  return Work(
    name=stage.name,
    steps=stage.stop.steps,
    shape=families.shape_of(
      network.files.network, network.parts.trained, c.model
    ),
    mesh=dict(network.mesh.shape),
    rollout_mesh=dict(found.mesh.shape),
    sizes=found.sizes,
    heldout=heldout.sizes,
    prompts=stage.prompts,
    groups=mean_groups(stage, rows),
    columns=stage.layout.columns,
    rows=stage.layout.rows,
    multiple=stage.layout.multiple,
    share_prompts=stage.layout.share_prompts,
    even_tokens=stage.layout.even_tokens,
    remat=c.remat,
    updates=c.optim.updates,
    dtype_bytes=programs.dtype.itemsize,
    kv_bytes=memory.kv_dtype(c).itemsize,
    matrix_bytes=jnp.dtype(c.engine.weights or c.dtype).itemsize,
    state_bytes=sum(parts.values()),
    moment_bytes=moments,
    offload=c.optim.offload,
    train_sums=parts['trained weights'],
    asked=asked,
    tries=tries,
    looks=looks(c, counts, stage.evaluate_every),
    judges=judges(c, stage.mix, assumed),
    checkpoint_every=c.checkpoint.every,
    checkpoint_bytes=checkpoint_bytes(state),
    scored=stage.has_reference + stage.has_first,
    first=not stage.index,
  )


def asked_before(
  stage: Any,
  before: Sequence[ml_collections.ConfigDict],
  rows: Mapping[str, int],
) -> tuple[int, float]:
  """(prompts that a stage asks before it begins, rollouts of each)."""
  filters = {domain: f for domain, f in stage.filters.items() if f.of}
  asked = {
    domain: round(
      rows[domain] * probes.unknown_share(f, domain, before, rows[domain])
    )
    for domain, f in filters.items()
  }
  total = sum(asked.values())
  rollouts = sum(n * probes.mean_tries(filters[d]) for d, n in asked.items())
  return total, rollouts / max(total, 1)


def mean_groups(stage: Any, rows: Mapping[str, int]) -> float:
  """The mean number of rollouts of a prompt over a stage's steps.

  A control of the epoch sees the epochs of the stage's first domain; one of the
  entropy stays at its first value, as no entropy is known.
  """
  if not stage.stop.steps:
    return stage.groups.first
  (domain, share), *_ = stage.mix.items()
  epoch_steps = max(1.0, rows[domain] / (stage.prompts * share))
  number, total = stage.groups.first, 0
  for step in range(stage.stop.steps):
    seen = control.Seen(step, int(step / epoch_steps), math.nan)
    number = stage.groups.after(number, seen) if step else number
    total += round(stage.groups.used(number, seen))
  return total / stage.stop.steps


def looks(
  c: ml_collections.ConfigDict,
  counts: Mapping[tuple[str, str], questions.Count],
  every: Mapping[str, int],
) -> tuple[Look, ...]:
  """The looks at held-out questions; `every` as in `run.values.Stage`."""
  return tuple(
    Look(
      domain=name,
      questions=counts[name, HELDOUT].number,
      tries=own.heldout.per_prompt,
      every=every.get(name, 0),
      before=own.heldout.before,
    )
    for name, own in stages_lib.domains(c).items()
  )


def judges(
  c: ml_collections.ConfigDict, mix: Mapping[str, float], assumed: Assumed
) -> tuple[Judged, ...]:
  """The judges of all domains; any judge except code's counts as math's.

  Those of domains outside the stage judge answers to held-out questions.
  """
  seconds = {CODE: assumed.code_seconds}
  return tuple(
    Judged(
      domain=name,
      share=mix.get(name, 0.0),
      workers=own.judge.workers,
      seconds=seconds.get(own.judge.verify.fn, assumed.math_seconds),
    )
    for name, own in stages_lib.domains(c).items()
  )


def checkpoint_bytes(state: Any) -> float:
  """Bytes of a checkpoint, of all devices: parameters, moments, reference."""
  leaves = jax.tree.leaves((state.params, state.opt_state, state.reference))
  return float(sum(math.prod(x.shape) * x.dtype.itemsize for x in leaves))
