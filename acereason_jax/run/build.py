"""A config to everything a run needs: the only place where parts meet.

Every field of the config is read here, once; what is built is plain functions
and values that have never seen it.
"""

import dataclasses
import functools
import itertools
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from acereason_jax import mesh as mesh_lib
from acereason_jax import types
from acereason_jax.config import reader as settings
from acereason_jax.console import terminal
from acereason_jax.curriculum import selection
from acereason_jax.data import references, sources
from acereason_jax.kernels import attention
from acereason_jax.models import (
  base,
  decoder,
  embedded,
  hf,
  lora,
  sharding,
  tokens,
)
from acereason_jax.rl import advantages, control, losses, optim, packing, update
from acereason_jax.rollout import cache, sampling, schedule
from acereason_jax.rollout import engine as engine_lib
from acereason_jax.run import collect
from acereason_jax.verifiers.pool import pool as pool_lib


class Domain(NamedTuple):
  """A kind of prompts and who judges them.

  `prompts` and `digests` (of the rows as read) are by source: 'train_data' and
  'heldout_data', fields of the config at `where`. Its held-out questions are
  asked every `evaluate_every` steps (0: at ends). `open_judges` starts workers.
  """

  name: str
  where: str
  prompts: dict[str, list[types.Prompt]]
  digests: dict[str, str]
  evaluate_every: int
  open_judges: Callable[[], collect.Judges]
  open_reference_pool: Callable[[], pool_lib.VerifierPool] | None


class Stage(NamedTuple):
  """What a run does for a while; see configs/base.py for what each field is.

  `init` makes a new state of float32 parameters, which it takes over; `carry`
  makes one of the state that the stage before ended with, whose moments it
  keeps, and is None where nothing is carried. `filters` are by domain of `mix`,
  `groups` the rollouts a prompt. `rules` say what reward a verdict is. `pack`
  gives microbatches, in a list for each update. With `has_first` batches are
  scored by the policy before the first of their updates. `mismatch_limit` is
  what sampler and trainer may differ by.
  """

  name: str
  index: int
  stop: selection.Stop
  mix: dict[str, float]
  filters: dict[str, selection.Filter]
  rules: advantages.Rules
  prompts: int
  groups: control.Control
  refill: int
  engine: engine_lib.Engine
  temperature: control.Control
  entropy_bonus: control.Control
  carry: Callable[[update.TrainState], update.TrainState] | None
  has_reference: bool
  has_first: bool
  tempered: bool
  reset_reference_every: int
  abstract_state: update.TrainState
  init: Callable[[base.Tree], update.TrainState]
  pack: Callable[[list[types.Group]], list[list[packing.PackedBatch]]]
  update: update.Update
  limits: dict[str, float]
  mismatch_limit: float


class Run(NamedTuple):
  """Everything a run needs, built from its config before it starts.

  `digests` are of what a run that goes on must find as it was: all rows as
  read and the tokens of prompts, by field of the config; the network, the
  tokenizer and the stop tokens; and where checkpoints do not hold all weights,
  the files of the model. `attention`
  names the kernel that trains, and `rollout_params` is of a state's `weights`.
  """

  config: dict[str, Any]
  attention: str
  seed: int
  domains: dict[str, Domain]
  stages: list[Stage]
  digests: dict[str, str]
  heldout_engine: engine_lib.Engine
  heldout_temperature: float
  heldout_groups: int
  load_params: Callable[[], base.Tree]
  load_frozen: Callable[[], base.Tree]
  abstract_params: base.Tree
  rollout_params: Callable[[base.Tree], base.Tree]
  model_stamp: str
  start_run: str
  best: str
  checkpoint_every: int
  checkpoint_keep: int
  samples: dict[str, int]


# The sampler's and the trainer's logp of the same token may differ by rounding
# alone, on average over a batch; more is a bug, and the run says so. bfloat16's
# rounding grows with the spread of the logits: up to 9e-3 was seen in health.
# What the cache holds rounds too; float8, by 5e-2.
MISMATCH_LIMIT = {'float32': 1e-4, 'bfloat16': 2e-2, 'float8_e4m3fn': 0.2}


def say(*args: Any) -> None:
  """Prints, on the first process alone."""
  if jax.process_index() == 0:
    terminal.say(*args)


def read_prompts(
  c: settings.Reader, name: str, domain: str, prefix: str, tokenizer: Any
) -> tuple[list[types.Prompt], str]:
  """(prompts of config.train_data or config.heldout_data, the rows' digest)."""
  rows = getattr(c, name).build()
  prompts, dropped = sources.to_prompts(
    rows,
    tokenizer,
    chat_tokens=functools.partial(tokens.chat_tokens, opens=c.prompt.opens),
    system=c.prompt.system or None,
    examples=c.prompt.examples,
    suffix=c.prompt.suffix,
    starter=c.prompt.starter,
    max_tokens=c.prompt.window,
  )
  if dropped:
    say(
      f'{name}: dropped {len(dropped)} of {len(rows)} prompts longer than '
      f'config.prompt.window={c.prompt.window} tokens: '
      f'{references.first_few(dropped)}'
    )
  prompts = [
    dataclasses.replace(p, id=prefix + p.id, domain=domain) for p in prompts
  ]
  return prompts, sources.digest(rows)


def build_domain(
  c: settings.Reader,
  name: str,
  alone: bool,
  tokenizer: Any,
  stops: tuple[int, ...],
) -> Domain:
  """Reads its rows. Ids of a domain that has a name begin with it."""
  prefix = '' if alone else f'{name}/'
  try:
    tokens.check_thinking(
      tokenizer, stops, opens=c.prompt.opens, reasons=c.prompt.reasons
    )
  except ValueError as e:
    raise ValueError(f'config.prompt.{e}') from e
  prompts, digests = {}, {}
  for source in (references.TRAIN, references.HELDOUT):
    prompts[source], digests[source] = read_prompts(
      c, source, name, prefix, tokenizer
    )
  make = functools.partial(
    pool_lib.VerifierPool,
    workers=c.judge.workers,
    timeout_seconds=c.judge.timeout_seconds,
    confine=c.judge.confine,
  )
  arguments = dict(reasons=c.prompt.reasons) | c.judge.arguments.kwargs()
  judges = functools.partial(make, c.judge.fn, arguments)
  limits = c.judge.batch_seconds, c.judge.max_failed_share
  references_pool = None
  if c.judge.reference:
    references_pool = functools.partial(make, c.judge.reference, {})
  return Domain(
    name=name,
    where='' if alone else f'domains.{name}.',
    prompts=prompts,
    digests=digests,
    evaluate_every=c.evaluate_every,
    open_judges=lambda: collect.Judges(judges(), *limits),
    open_reference_pool=references_pool,
  )


def build_params(c: settings.Reader, parts: lora.Parts, mesh, directory: str):
  """(load: () -> what is trained, load_frozen: () -> what is not, the former's
  shapes and places)."""
  seed, dtype = c.seed, jnp.dtype(c.dtype)
  placed = sharding.param_shardings(parts.trained, mesh)
  frozen = sharding.param_shardings(parts.frozen, mesh)

  def load_frozen() -> base.Tree:
    if not parts.frozen:
      return {}
    return hf.load(directory, parts.frozen, dtype=dtype, shardings=frozen)

  def load() -> base.Tree:
    if parts.frozen:
      draw = functools.partial(base.init_params, parts.trained)
      return jax.jit(draw, out_shardings=placed)(jax.random.key(seed))
    return hf.load(
      directory, parts.trained, dtype=jnp.float32, shardings=placed
    )

  return (
    load,
    load_frozen,
    sharding.abstract(parts.trained, placed, jnp.float32),
  )


def build_state(
  c: settings.Reader,
  parts: lora.Parts,
  mesh,
  abstract_params: base.Tree,
  has_reference: bool,
):
  """(optimiser, init: params -> TrainState, abstract TrainState of a step)."""
  optimizer = optim.make_optimizer(
    c.optim.kwargs(),
    abstract_params,
    warmup_steps=c.warmup_steps,
    clip_norm=c.clip_norm,
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
      offload=c.offload_moments,
    ),
    everywhere,
  )
  abstract = jax.tree.map(
    lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
    abstract,
    shardings,
  )
  # Donated: the state takes the parameters over, it does not copy them.
  init = jax.jit(init, out_shardings=shardings, donate_argnums=0)
  if has_reference:
    dtype = jnp.dtype(c.dtype)
    reference = sharding.abstract(parts.trained, placed, dtype)
    abstract = abstract.replace(reference=reference)
  return optimizer, init, abstract


def build_carry(
  c: settings.Reader,
  abstract: update.TrainState,
  optimizer: optax.GradientTransformation,
) -> Callable[[update.TrainState], update.TrainState]:
  """(the state at the end of the stage before) -> that at this one's beginning.

  What `optim.restarts` says is made anew, and all else is taken over as it is.

  Raises:
    ValueError: one line.
  """
  flags = optim.restarts(
    c.optim.kwargs(),
    abstract.params,
    warmup_steps=c.warmup_steps,
    clip_norm=c.clip_norm,
  )

  def anew(leaves: Sequence[Any]) -> list[Any]:
    return [leaf for leaf, starts in zip(leaves, flags) if starts]

  placed = anew([x.sharding for x in jax.tree.leaves(abstract.opt_state)])
  # What is not asked for is not made: moments take no room twice.
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


def build_rollout_params(
  specs: base.Tree, parts: lora.Parts, mesh, dtype: jnp.dtype
):
  """weights -> what rollouts read: compute dtype, merged, whole along fsdp;
  and what that takes beside them, in bytes of a device."""
  if dtype == jnp.float32 and sharding.is_gathered(mesh) and not parts.frozen:
    return (lambda weights: weights), 0
  shardings = sharding.param_shardings(specs, mesh, gathered=True)
  read = lambda weights: lora.merged(
    update.cast(weights, dtype), scale=parts.scale
  )
  taken = mesh_lib.device_bytes(sharding.abstract(specs, shardings, dtype))
  return jax.jit(read, out_shardings=shardings), taken


def build_pack(
  c: settings.Reader,
  mesh,
  rules: advantages.Rules,
  *,
  pad_token: int,
  even_tokens: float,
  share_prompts: bool,
  every: bool,
):
  """Judged groups -> microbatches of each update; the recipe's choices of what
  counts. `every`: see `packing.trained_rollouts`."""
  normalise = functools.partial(
    advantages.group_normalised, **c.advantage.kwargs()
  )
  weights = functools.partial(
    packing.token_weights, average=c.average, room=rules.room
  )
  rows = mesh_lib.packed_shards(mesh) * c.microbatch.rows
  columns = c.microbatch.columns
  full, updates = c.policy == 'full', c.updates
  place = functools.partial(mesh_lib.spread, sharding=mesh_lib.packed(mesh))

  def one_update(groups, adv_PG, length_PG, counted_PG):
    chosen = packing.trained_rollouts(
      groups, adv_PG, weights(length_PG, counted_PG), every=every
    )
    batches = packing.pack(
      chosen,
      rows=rows,
      columns=columns,
      pad_token=pad_token,
      even_tokens=even_tokens,
      share_prompts=share_prompts,
    )
    return [packing.PackedBatch(*map(place, batch)) for batch in batches]

  def pack(groups: list[types.Group]) -> list[list[packing.PackedBatch]]:
    adv_PG = normalise(*advantages.rewards(groups, rules))
    counted_PG = advantages.counted(groups, rules)
    if full:
      groups = [full_policy(group) for group in groups]
    rollouts = [g.rollouts for g in groups]
    length_PG = np.array([[len(r.tokens) for r in g] for g in rollouts])
    # As they were drawn, which is shuffled.
    parts = np.array_split(np.arange(len(groups)), min(updates, len(groups)))
    return [
      one_update(
        [groups[i] for i in part],
        adv_PG[part],
        length_PG[part],
        counted_PG[part],
      )
      for part in parts
    ]

  return pack


def full_policy(group: types.Group) -> types.Group:
  """The same with `logp` under the policy that is not tempered."""
  rollouts = (dataclasses.replace(r, logp=r.full_logp) for r in group.rollouts)
  return dataclasses.replace(group, rollouts=tuple(rollouts))


def build_model(
  c: settings.Reader, mesh, directory: str, kernel: attention.Kernel
) -> tuple[base.Model, lora.Parts, decoder.DecoderConfig]:
  """The model of a directory, what of it is trained, and its config.json."""
  config = decoder.DecoderConfig.from_hf(hf.read_config(directory))
  mesh_lib.check_heads(mesh, mesh_lib.HEADS, config.heads, config.kv_heads)
  parts = lora.split(decoder.param_specs(config), **c.lora.kwargs())
  model = decoder.make_model(
    config,
    remat=c.remat,
    attend=mesh_lib.split_attention(mesh, kernel.attend),
    layer_weights=functools.partial(lora.merged_layer, scale=parts.scale),
    **mesh_lib.pins(mesh),
  )
  return model, parts, config


def check_lengths(c: settings.Reader, mesh, window: int, context: int) -> None:
  """Raises ValueError if the context cannot hold a rollout of a stage, or the
  mesh cannot cut its slots or rows."""
  if window + c.rollout.max_tokens > context:
    raise ValueError(
      f'config.rollout.max_tokens={c.rollout.max_tokens}: with '
      f'config.prompt.window={window} longer than the context of '
      f'{c.model}, {context}; lower one of them'
    )
  rollouts = mesh_lib.row_shards(mesh)
  if c.engine.slots % rollouts:
    raise ValueError(
      f'config.engine.slots={c.engine.slots}: not a multiple of {rollouts}, '
      'the data x fsdp x sequence shards of config.mesh; give one'
    )
  shards = mesh.shape['sequence']
  if c.microbatch.columns % shards:
    raise ValueError(
      f'config.microbatch.columns={c.microbatch.columns}: not a multiple of '
      f'config.mesh.sequence={shards}; give one'
    )


def check_vocabulary(
  name: str,
  model: base.Model,
  stops: tuple[int, ...],
  prompts: list[types.Prompt],
) -> None:
  """Raises ValueError for a token that the model has no embedding of."""
  vocab = model.specs['embed'].shape[0]
  for prompt in prompts:
    if len(prompt.tokens) == 0:
      raise ValueError(f'{name}: the chat template gave {prompt.id} no tokens')
  used = {*stops, *(int(p.tokens.max()) for p in prompts)}
  if min(used) < 0 or max(used) >= vocab:
    raise ValueError(
      f'{name}: token {max(used)} is outside its vocabulary of {vocab}; '
      'is the tokenizer that of another model?'
    )


def build_engine(
  c: settings.Reader,
  model: base.Model,
  mesh,
  tokenizer: Any,
  stops: tuple[int, ...],
  *,
  window: int,
  room: int,
  own: sampling.Sampling,
  reserved: int,
) -> engine_lib.Engine:
  """An engine for prompts of `window` and responses of `room` tokens.

  `reserved` bytes of each device are not its.
  """
  kv_dtype = jnp.dtype(c.engine.kv_dtype or c.dtype)
  shards = mesh_lib.row_shards(mesh)
  sizes = schedule.Sizes(
    slots=c.engine.slots,
    shards=shards,
    page=c.engine.page,
    chunk=c.engine.chunk,
    pages=c.engine.pages,
    rows=c.engine.prefill_prompts * shards,
    piece=c.engine.prefill_tokens,
    window=window,
    room=room,
  )
  try:
    sizes = cache.fit_pages(sizes, model, mesh, kv_dtype, reserved)
    schedule.check(sizes)
  except ValueError as e:
    raise ValueError(f'config.engine: {e}') from e
  return engine_lib.make_engine(
    model,
    mesh,
    sizes=sizes,
    sampling=own,
    ending=engine_lib.Ending(stops),
    kv_dtype=kv_dtype,
    to_text=functools.partial(tokens.decode, tokenizer),
  )


def build_loss(c: settings.Reader) -> tuple[losses.Loss, frozenset[str]]:
  """The loss, and the fields of a batch that it reads.

  Raises:
    ValueError: it is no loss, or one that is right for one update only.
  """
  loss = c.loss.build()
  try:
    read, has_ratio = losses.reads(loss), losses.has_ratio(loss)
  except ValueError as e:
    raise ValueError(f'config.loss.fn={c.loss.fn!r}: {e}') from e
  if c.updates > 1 and not has_ratio:
    raise ValueError(
      f'config.updates={c.updates}: config.loss.fn={c.loss.fn!r} has no ratio '
      'of the policy to the one that the batch was drawn from, so only the '
      'first update of a batch would be right; give updates=1, or a loss such '
      "as 'acereason_jax.rl.losses:clipped' (configs/updates_cpu.py)"
    )
  return loss, read


def build_control(c: settings.Reader, name: str, field: str) -> control.Control:
  """A number of the config, or the control that it names."""
  value = getattr(c, name)
  if not isinstance(value, settings.Reader):
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


def build_groups(c: settings.Reader) -> control.Control:
  """Rollouts a prompt; whole numbers, which a control between two may miss."""
  made = build_control(c.rollout, 'groups', 'rollout.groups')
  if made.low < 2:
    raise ValueError(
      f'config.rollout.groups: goes down to {made.low}; a group of 1 has no '
      'baseline: give at least 2'
    )
  return made


def build_filters(
  c: settings.Reader, stage: ml_collections.ConfigDict
) -> dict[str, selection.Filter]:
  """By domain of the stage's mix."""
  c.filter.kwargs()
  c.filters.kwargs()
  found = {}
  for domain, fields in settings.filters(stage).items():
    if fields['max_difficulty'] < 0:
      fields['max_difficulty'] = None
    found[domain] = selection.Filter(**fields)
  return found


def check_metric(
  name: str,
  domains: Mapping[str, Domain],
  field: str,
  filters: Mapping[str, selection.Filter],
) -> None:
  """Raises ValueError for a metric that no step will have, or that says
  nothing of the model."""
  known = [f'heldout/{domain}' for domain in domains]
  if field == 'stop.metric':
    known = [*selection.OF_BATCHES, selection.SAME_PROMPTS, *known]
  if name not in known:
    raise ValueError(f'config.{field}={name!r}: {" or ".join(known)}')
  asked = domains.get(name.removeprefix('heldout/'))
  if asked is not None and not asked.evaluate_every:
    raise ValueError(
      f'config.evaluate_every=0: config.{field}={name!r} needs looks at the '
      "held-out questions; give the steps between them (a domain's own counts)"
    )
  leaving = [
    domain
    for domain, f in filters.items()
    if f.drop_solved or not f.keep_unsolved
  ]
  if name in selection.OF_BATCHES and leaving:
    raise ValueError(
      f'config.{field}={name!r}: the filter of {leaving[0]!r} takes prompts '
      'out for how they were answered, so that later batches are other ones; '
      f'give {selection.SAME_PROMPTS!r}, or {known[-1]!r}'
    )


def check_carried(stages: Sequence[Stage]) -> None:
  """Raises ValueError if a stage cannot take over the optimiser before it."""
  shape = lambda stage: jax.tree.map(
    lambda x: (x.shape, x.dtype), stage.abstract_state.opt_state
  )
  for before, stage in itertools.pairwise(stages):
    if stage.carry and shape(before) != shape(stage):
      raise ValueError(
        f'stage {stage.name!r}: config.carry_optimizer=True: its optimiser has '
        f'another state than that of stage {before.name!r}; set it False, or '
        'give both the same config.optim; where one of them has a schedule or '
        'warmup_steps and the other a constant rate, give that as a schedule '
        "too: learning_rate=dict(fn='optax:constant_schedule', value=1e-6)"
      )


class Builder(NamedTuple):
  """What all stages share."""

  model: base.Model
  parts: lora.Parts
  context: int
  mesh: Any
  kernel: attention.Kernel
  tokenizer: Any
  stops: tuple[int, ...]
  abstract_params: base.Tree
  window: int
  cast_bytes: int
  domains: Mapping[str, Domain]


def build_stage(
  c: settings.Reader,
  name: str,
  index: int,
  mix: dict[str, float],
  filters: dict[str, selection.Filter],
  b: Builder,
) -> Stage:
  check_lengths(c, b.mesh, b.window, b.context)
  if c.stop.metric:
    check_metric(c.stop.metric, b.domains, 'stop.metric', filters)
  loss, read = build_loss(c)
  rules = advantages.Rules(c.truncated, c.overlong_tokens, c.rollout.max_tokens)
  entropy_bonus = build_control(c, 'entropy_bonus', 'entropy_bonus')
  has_bonus = (
    isinstance(c.entropy_bonus, settings.Reader) or c.entropy_bonus > 0
  )
  has_reference = 'logp_ref_BT' in read
  optimizer, init, abstract = build_state(
    c, b.parts, b.mesh, b.abstract_params, has_reference
  )
  # A stage that nothing comes before takes over nothing.
  carries = c.carry_optimizer and (index > 0 or c.start.run != '')
  engine = build_engine(
    c,
    b.model,
    b.mesh,
    b.tokenizer,
    b.stops,
    window=b.window,
    room=c.rollout.max_tokens,
    # What is trained is the tempered policy, whole: nothing is cut off it.
    own=sampling.Sampling(),
    reserved=mesh_lib.device_bytes(abstract) + b.cast_bytes,
  )
  return Stage(
    name=name,
    index=index,
    stop=selection.Stop(steps=c.steps, **c.stop.kwargs()),
    mix=mix,
    filters=filters,
    rules=rules,
    prompts=c.rollout.prompts,
    groups=build_groups(c),
    refill=c.refill,
    engine=engine,
    temperature=build_control(c.rollout, 'temperature', 'rollout.temperature'),
    entropy_bonus=entropy_bonus,
    carry=build_carry(c, abstract, optimizer) if carries else None,
    has_reference=has_reference,
    has_first=c.updates > 1 and 'logp_first_BT' in read,
    tempered=c.policy == 'tempered',
    reset_reference_every=c.reset_reference_every,
    abstract_state=abstract,
    init=init,
    pack=build_pack(
      c,
      b.mesh,
      rules,
      pad_token=b.stops[0],
      even_tokens=decoder.even_tokens(b.model.specs),
      share_prompts=b.kernel.prefixes,
      every=has_bonus or losses.needs_every(loss),
    ),
    update=update.make_update(
      b.model,
      loss,
      optimizer,
      vocab_chunk=c.microbatch.vocab_chunk,
      dtype=jnp.dtype(c.dtype),
      entropy_bonus=has_bonus,
      several=c.updates > 1,
      param_shardings=sharding.param_shardings(b.parts.trained, b.mesh),
      frozen_shardings=sharding.param_shardings(b.parts.frozen, b.mesh),
      offload=c.offload_moments,
    ),
    limits=c.limits.kwargs(),
    mismatch_limit=max(
      MISMATCH_LIMIT[d] for d in (c.dtype, c.engine.kv_dtype or c.dtype)
    ),
  )


def build(config: ml_collections.ConfigDict) -> Run:
  """Reads every field of a valid config; nothing below sees it.

  Raises:
    ValueError, OSError: one line for the user.
  """
  c = settings.Reader(config)
  mesh = mesh_lib.make_mesh(**c.mesh.kwargs())
  directory = embedded.resolve_model(c.model)
  tokenizer = tokens.load_tokenizer(directory)
  stops = tokens.stop_token_ids(tokenizer, directory)
  try:
    capability = getattr(jax.devices()[0], 'compute_capability', '')
    chosen, kernel = attention.choose(
      c.attention, jax.default_backend(), c.dtype, str(capability)
    )
  except ValueError as e:
    raise ValueError(f'config.{e}') from e
  model, parts, network = build_model(c, mesh, directory, kernel)
  each = {n: c.over(d) for n, d in settings.domains(config).items()}
  domains = {}
  for name, own in each.items():
    with settings.named('domain', name):
      # A run of one domain can be followed by one of several.
      alone = not len(config.domains)
      domains[name] = build_domain(own, name, alone, tokenizer, stops)
      for prompts in domains[name].prompts.values():
        check_vocabulary(c.model, model, stops, prompts)
  digests = {
    d.where + source: digest
    for d in domains.values()
    for source, digest in d.digests.items()
  }
  digests |= {
    f'{d.where}{source}.tokens': tokens.digest(prompts)
    for d in domains.values()
    for source, prompts in d.prompts.items()
  }
  # The rest of what a run that goes on reads of the directory again.
  digests |= dict(
    decoder=dataclasses.asdict(network),
    tokenizer=tokenizer.digest,
    stop_tokens=list(stops),
  )
  tokenizer.close()
  if tokenizer.reads_clock:
    say(tokens.clock_line(tokenizer))
  if parts.frozen:
    # Checkpoints lack it, so a run that goes on must find it as it was.
    digests['model'] = hf.model_digest(directory)
    say(
      f'trains {base.param_count(parts.trained):,} parameters beside '
      f'{base.param_count(parts.frozen):,} frozen ones'
    )
  load, load_frozen, abstract_params = build_params(c, parts, mesh, directory)
  rollout_params, cast_bytes = build_rollout_params(
    model.specs, parts, mesh, jnp.dtype(c.dtype)
  )
  builder = Builder(
    model=model,
    parts=parts,
    context=network.context,
    mesh=mesh,
    kernel=kernel,
    tokenizer=tokenizer,
    stops=stops,
    abstract_params=abstract_params,
    window=max(own.prompt.window for own in each.values()),
    cast_bytes=cast_bytes,
    domains=domains,
  )
  configs = settings.stages(config)
  order = [stage['name'] for stage in config.stages] or list(configs)
  stages = []
  for name, stage in configs.items():
    with settings.named('stage', name):
      mix = settings.mix(stage)
      index = order.index(name)
      own = c.over(stage)
      filters = build_filters(own, stage)
      stages.append(build_stage(own, name, index, mix, filters, builder))
  check_carried(stages)
  if c.best:
    check_metric(c.best, domains, 'best', {})
  longest = max(
    stage.rollout.max_tokens for stage in settings.every_stage(config).values()
  )
  heldout_engine = build_heldout(c, builder, stages, longest)
  run = Run(
    config=json.loads(config.to_json()),
    attention=chosen,
    seed=c.seed,
    domains=domains,
    stages=stages,
    digests=digests,
    heldout_engine=heldout_engine,
    heldout_temperature=c.heldout.temperature,
    heldout_groups=c.heldout.groups,
    load_params=load,
    load_frozen=load_frozen,
    abstract_params=abstract_params,
    rollout_params=rollout_params,
    model_stamp=stamp(directory),
    start_run=c.start.run,
    best=c.best,
    checkpoint_every=c.checkpoint.every,
    checkpoint_keep=c.checkpoint.keep,
    samples=c.samples.kwargs(),
  )
  c.check_all_read(map(c.over, configs.values()), each.values())
  return run


def stamp(directory: str) -> str:
  """Tells the weights of a directory from others that are put there later."""
  files = sorted(pathlib.Path(directory).glob('*.safetensors'))
  told = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files]
  return json.dumps(told)


def build_heldout(
  c: settings.Reader, b: Builder, stages: Sequence[Stage], longest: int
) -> engine_lib.Engine:
  """The engine for held-out questions: a stage's, where that is the same."""
  # Of all stages, chosen or not: looks of a stage alone are those of the whole.
  room = c.heldout.max_tokens or longest
  if b.window + room > b.context:
    raise ValueError(
      f'config.heldout.max_tokens={room}: with config.prompt.window={b.window} '
      f'longer than the context of {c.model}, {b.context}; lower one of them'
    )
  own = sampling.Sampling(
    c.heldout.top_p, c.heldout.top_k, greedy=c.heldout.temperature == 0
  )
  # The same programs need not be compiled twice.
  for stage in stages:
    if own == sampling.Sampling() and stage.engine.sizes.room == room:
      return stage.engine
  most = max(mesh_lib.device_bytes(stage.abstract_state) for stage in stages)
  return build_engine(
    c,
    b.model,
    b.mesh,
    b.tokenizer,
    b.stops,
    window=b.window,
    room=room,
    own=own,
    reserved=most + b.cast_bytes,
  )
