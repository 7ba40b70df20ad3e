"""Parts of a stage, each from its fields of the config."""

import functools
import itertools
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import optax

from acereason_jax import mesh as mesh_lib
from acereason_jax.config import reader
from acereason_jax.config import stages as stages_lib
from acereason_jax.curriculum import ending, filtering
from acereason_jax.models import base, lora, sharding
from acereason_jax.rl import (
  carried,
  control,
  losses,
  objective,
  optim,
  update,
)
from acereason_jax.run import values


def build_loss(c: reader.Reader) -> tuple[losses.Loss, frozenset[str]]:
  """The loss, and the fields of a batch that it reads.

  Raises:
    ValueError: it is not a loss, or it is right for only one update.
  """
  loss, fn = c.objective.loss.build(), c.objective.loss.fn
  try:
    read, has_ratio = losses.reads(loss), losses.has_ratio(loss)
  except ValueError as e:
    raise ValueError(f'config.objective.loss.fn={fn!r}: {e}') from e
  if c.optim.updates > 1 and not has_ratio:
    raise ValueError(
      f'config.optim.updates={c.optim.updates}: config.objective.loss.fn='
      f'{fn!r} has no ratio of the policy to the one that the batch was drawn '
      'from, so only the first update of a batch would be right; give '
      "updates=1, or a loss such as 'acereason_jax.rl.losses:clipped' "
      '(configs/updates_cpu.py)'
    )
  return loss, read


def build_objective(c: reader.Reader, *, every: bool) -> objective.Objective:
  """`every`: see `packing.trained_rollouts`."""
  o = c.objective
  return objective.Objective(
    rules=objective.Rules(o.truncated, o.overlong_tokens, c.rollout.max_tokens),
    **o.advantage.kwargs(),
    average=o.average,
    policy=o.policy,
    updates=c.optim.updates,
    every=every,
  )


def build_control(c: reader.Reader, name: str, field: str) -> control.Control:
  """The control that the config names, or a constant one for a number."""
  value = getattr(c, name)
  if not isinstance(value, reader.Reader):
    return control.constant(value)
  try:
    made = value.build()
  except (TypeError, ValueError) as e:
    raise ValueError(f'config.{field}: {e}; see rl/control.py') from e
  if not isinstance(made, control.Control):
    raise ValueError(f'config.{field}: gave no control; see rl/control.py')
  if made.low < 0 or (made.low == 0 and name == 'temperature'):
    raise ValueError(
      f'config.{field}: goes down to {made.low}; give values above 0'
    )
  return made


def build_groups(c: reader.Reader) -> control.Control:
  """The control of the number of rollouts per prompt.

  Its value may be between two whole numbers: a step rounds it.
  """
  made = build_control(c.rollout, 'per_prompt', 'rollout.per_prompt')
  if made.low < 2:
    raise ValueError(
      f'config.rollout.per_prompt: goes down to {made.low}; a group of 1 has '
      'no baseline: give at least 2'
    )
  return made


def most_rollouts(c: reader.Reader, groups: control.Control) -> int:
  """The most rollouts of a batch; sys.maxsize if the control has no bound."""
  if math.isinf(groups.high):
    return sys.maxsize
  return c.rollout.prompts * round(groups.high)


def build_filters(
  c: reader.Reader, stage: ml_collections.ConfigDict
) -> dict[str, filtering.Filter]:
  """The filters by domain of the stage's mix."""
  c.filter.kwargs()
  found = {}
  for domain, fields in stages_lib.filters(stage).items():
    if fields['max_difficulty'] < 0:
      fields['max_difficulty'] = None
    found[domain] = filtering.Filter(**fields)
  return found


def check_metric(
  name: str,
  domains: Sequence[str],
  looks: Mapping[str, int],
  field: str,
  filters: Mapping[str, filtering.Filter],
) -> None:
  """Raises ValueError for a metric that cannot serve.

  No step has it, or it does not measure the model. `looks` is of
  `stages.looks`, for each of the `domains` that is asked before a stage ends.
  """
  known = [f'heldout/{domain}' for domain in domains]
  if field == 'stop.metric':
    known = [*ending.OF_BATCHES, ending.SAME_PROMPTS, *known]
  if name not in known:
    raise ValueError(f'config.{field}={name!r}: {" or ".join(known)}')
  domain = name.removeprefix('heldout/')
  measured = [f'heldout/{domain}' for domain in looks]
  if domain in domains and domain not in looks:
    raise ValueError(
      f'config.{field}={name!r}: a stage without this domain in its mix asks '
      f'its questions only at the end; give {" or ".join(measured)}, or add '
      f'{domain!r} to the mix'
    )
  if looks.get(domain) == 0:
    raise ValueError(
      f'config.heldout.every=0: config.{field}={name!r} needs looks at the '
      "held-out questions; give the steps between them (a domain's own counts, "
      "then a stage's)"
    )
  leaving = [
    domain
    for domain, f in filters.items()
    if f.drop_solved or not f.keep_unsolved
  ]
  if name in ending.OF_BATCHES and leaving:
    raise ValueError(
      f'config.{field}={name!r}: the filter of {leaving[0]!r} takes prompts '
      'out for how they were answered, so that later batches are other ones; '
      f'give {ending.SAME_PROMPTS!r}, or {known[-1]!r}'
    )


class Training(NamedTuple):
  """How a stage turns gradients into parameters.

  optimizer: transform of gradients.
  init: float32 parameters, which it consumes -> a new train state.
  abstract: shapes, dtypes and shardings of that state.
  """

  optimizer: optax.GradientTransformation
  init: Callable[[base.Tree], update.TrainState]
  abstract: update.TrainState


def optimizer_component(c: reader.Reader) -> dict[str, Any]:
  """The transform, with the arguments that rl/optim.py interprets."""
  rate = c.optim.learning_rate
  if isinstance(rate, reader.Reader):
    rate = rate.kwargs()
  component = c.optim.transform.kwargs() | dict(learning_rate=rate)
  more = dict(groups=c.optim.groups, decay_on=c.optim.decay_on)
  return component | {name: value for name, value in more.items() if value}


def build_training(
  c: reader.Reader,
  parts: lora.Parts,
  mesh: Any,
  abstract_params: base.Tree,
  has_reference: bool,
) -> Training:
  optimizer = optim.make_optimizer(
    optimizer_component(c),
    parts.trained,
    warmup_steps=c.optim.warmup_steps,
    clip_norm=c.optim.clip_norm,
  )
  init = functools.partial(update.init_state, optimizer=optimizer)
  abstract = jax.eval_shape(init, abstract_params)
  placed = sharding.param_shardings(parts.trained, mesh)
  everywhere = mesh_lib.replicated(mesh)
  shardings = update.TrainState(
    placed,
    sharding.like_params(
      abstract.opt_state,
      abstract_params,
      placed,
      everywhere,
      offload=c.optim.offload,
    ),
    everywhere,
  )
  abstract = jax.tree.map(
    lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
    abstract,
    shardings,
  )
  # Donated: the state takes the parameters without a copy.
  init = jax.jit(init, out_shardings=shardings, donate_argnums=0)
  if has_reference:
    dtype = jnp.dtype(c.dtype)
    reference = sharding.abstract(parts.trained, placed, dtype)
    abstract = abstract.replace(reference=reference)
  return Training(optimizer, init, abstract)


def build_carry(
  c: reader.Reader, specs: base.Tree, training: Training
) -> Callable[[update.TrainState], update.TrainState]:
  """A function: the state at the previous stage's end -> at this one's start.

  Leaves that `carried.restarts` names are made anew; the others are kept.

  Raises:
    ValueError: one line.
  """
  optimizer, _, abstract = training
  flags = carried.restarts(
    optimizer_component(c),
    specs,
    warmup_steps=c.optim.warmup_steps,
    clip_norm=c.optim.clip_norm,
  )

  def anew(leaves: Sequence[Any]) -> list[Any]:
    return [leaf for leaf, starts in zip(leaves, flags) if starts]

  placed = anew([x.sharding for x in jax.tree.leaves(abstract.opt_state)])
  # Only restarted leaves are made: moments must not take memory twice.
  fresh = jax.jit(
    lambda params: anew(jax.tree.leaves(optimizer.init(params))),
    out_shardings=placed,
  )

  def carry(state: update.TrainState) -> update.TrainState:
    if not any(flags):
      return state
    leaves, structure = jax.tree.flatten(state.opt_state)
    made = iter(fresh(state.params))
    leaves = [next(made) if s else leaf for leaf, s in zip(leaves, flags)]
    return state.replace(opt_state=structure.unflatten(leaves))

  return carry


def check_carried(stages: Sequence[values.Stage]) -> None:
  """Raises ValueError if a stage cannot carry the optimizer state before it."""
  shape = lambda stage: jax.tree.map(
    lambda x: (x.shape, x.dtype), stage.abstract_state.opt_state
  )
  for before, stage in itertools.pairwise(stages):
    if stage.carry and shape(before) != shape(stage):
      raise ValueError(
        f'stage {stage.name!r}: config.optim.carry=True: its optimizer has '
        f'another state than that of stage {before.name!r}; set it False, or '
        'give both the same config.optim; where one of them has a schedule or '
        'warmup_steps and the other a constant rate, give that as a schedule '
        "too: learning_rate=dict(fn='optax:constant_schedule', value=1e-6)"
      )
