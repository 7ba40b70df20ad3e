"""A config to everything a run needs: the only place where parts meet.

Every field of the config is read here, once; what is built is plain functions
and values that have never seen it.
"""

import dataclasses
import functools
import json
from collections.abc import Callable
from typing import Any, NamedTuple

import grain
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from acereason_jax import collect, references, settings, sharding, types
from acereason_jax.data import sources
from acereason_jax.kernels import attention
from acereason_jax.models import base, decoder, embedded, hf, lora, tokens
from acereason_jax.rl import advantages, optim, packing, update
from acereason_jax.rollout import cache, sampling, schedule
from acereason_jax.rollout import engine as engine_lib
from acereason_jax.verifiers import pool as pool_lib


class Run(NamedTuple):
  """Everything a run needs, built from its config before it starts.

  `prompts` and `digests` (of the rows as read) are by source: 'train_data' and
  'heldout_data'. Where checkpoints do not hold all weights, 'model' has a
  digest too: that of its files. `attention` names the kernel that trains, and
  `rollout_params` is of a state's `weights`.
  """

  config: dict[str, Any]
  attention: str
  seed: int
  steps: int
  engine: engine_lib.Engine
  heldout_engine: engine_lib.Engine
  prompts: dict[str, list[types.Prompt]]
  digests: dict[str, str]
  groups: int
  heldout_groups: int
  make_batches: Callable[[list[types.Prompt]], grain.DatasetIterator]
  open_pool: Callable[[], pool_lib.VerifierPool]
  open_reference_pool: Callable[[], pool_lib.VerifierPool] | None
  batch_seconds: float
  max_failed_share: float
  load_state: Callable[[], update.TrainState]
  load_frozen: Callable[[], base.Tree]
  abstract_state: update.TrainState
  rollout_params: Callable[[base.Tree], base.Tree]
  pack: Callable[[list[types.Group]], list[packing.PackedBatch]]
  update: update.Update
  mismatch_limit: float
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
    print(*args, flush=True)


def read_prompts(
  c: settings.Reader, name: str, tokenizer: Any
) -> tuple[list[types.Prompt], str]:
  """(prompts of config.train_data or config.heldout_data, the rows' digest)."""
  rows = getattr(c, name).build()
  prompts, dropped = sources.to_prompts(
    rows,
    tokenizer,
    chat_tokens=tokens.chat_tokens,
    system=c.prompt.system or None,
    examples=c.prompt.examples,
    suffix=c.prompt.suffix,
    max_tokens=c.prompt.window,
  )
  if dropped:
    say(
      f'{name}: dropped {len(dropped)} of {len(rows)} prompts longer than '
      f'config.prompt.window={c.prompt.window} tokens: '
      f'{references.first_few(dropped)}'
    )
  return prompts, sources.digest(rows)


def build_pools(
  c: settings.Reader,
) -> tuple[
  Callable[[], pool_lib.VerifierPool],
  Callable[[], pool_lib.VerifierPool] | None,
]:
  """What opens the judges of responses, and those of references if any."""
  make = functools.partial(
    pool_lib.VerifierPool,
    workers=c.judge.workers,
    timeout_seconds=c.judge.timeout_seconds,
    confine=c.judge.confine,
  )
  arguments = dict(reasons=c.prompt.reasons) | c.judge.arguments.kwargs()
  judges = functools.partial(make, c.judge.fn, arguments)
  if not c.judge.reference:
    return judges, None
  return judges, functools.partial(make, c.judge.reference, {})


def build_state(c: settings.Reader, parts: lora.Parts, mesh, directory: str):
  """(optimiser, load: () -> TrainState, load_frozen: () -> what is frozen in
  it, abstract TrainState)."""
  seed, dtype = c.seed, jnp.dtype(c.dtype)
  placed = sharding.param_shardings(parts.trained, mesh)
  frozen = sharding.param_shardings(parts.frozen, mesh)
  shapes = base.map_specs(
    lambda s: jax.ShapeDtypeStruct(s.shape, jnp.float32), parts.trained
  )
  optimizer = optim.make_optimizer(
    c.optim.kwargs(),
    shapes,
    warmup_steps=c.warmup_steps,
    clip_norm=c.clip_norm,
  )
  init = functools.partial(update.init_state, optimizer=optimizer)
  abstract = jax.eval_shape(init, shapes)
  everywhere = sharding.replicated(mesh)
  shardings = update.TrainState(
    placed,
    sharding.like_params(abstract.opt_state, shapes, placed, everywhere),
    everywhere,
  )
  abstract = jax.tree.map(
    lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
    abstract,
    shardings,
  ).replace(frozen=sharding.abstract(parts.frozen, frozen, dtype))

  def load_frozen() -> base.Tree:
    if not parts.frozen:
      return {}
    return hf.load(directory, parts.frozen, dtype=dtype, shardings=frozen)

  def load() -> update.TrainState:
    if parts.frozen:
      draw = functools.partial(base.init_params, parts.trained)
      params = jax.jit(draw, out_shardings=placed)(jax.random.key(seed))
    else:
      params = hf.load(
        directory, parts.trained, dtype=jnp.float32, shardings=placed
      )
    # Donated: the state takes the parameters over, it does not copy them.
    state = jax.jit(init, out_shardings=shardings, donate_argnums=0)(params)
    return state.replace(frozen=load_frozen())

  return optimizer, load, load_frozen, abstract


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
  taken = sharding.device_bytes(sharding.abstract(specs, shardings, dtype))
  return jax.jit(read, out_shardings=shardings), taken


def build_pack(
  c: settings.Reader,
  mesh,
  *,
  pad_token: int,
  even_tokens: float,
  share_prompts: bool,
):
  """Judged groups -> microbatches; the recipe's choices of what counts."""
  mask_truncated = c.truncated == 'mask'
  normalise = functools.partial(
    advantages.group_normalised, **c.advantage.kwargs()
  )
  weights = functools.partial(
    packing.token_weights, average=c.average, room=c.rollout.max_tokens
  )
  rows = sharding.packed_shards(mesh) * c.microbatch.rows
  columns = c.microbatch.columns
  full = c.policy == 'full'
  place = functools.partial(sharding.spread, sharding=sharding.packed(mesh))

  def pack(groups: list[types.Group]) -> list[packing.PackedBatch]:
    reward_PG, judged_PG = collect.rewards(groups)
    adv_PG = normalise(reward_PG, judged_PG)
    if full:
      groups = [full_policy(group) for group in groups]
    every = [g.rollouts for g in groups]
    length_PG = np.array([[len(r.tokens) for r in g] for g in every])
    cut_PG = np.array([[r.stop == 'length' for r in g] for g in every])
    counted_PG = judged_PG & ~(cut_PG & mask_truncated)
    chosen = packing.trained_rollouts(
      groups, adv_PG, weights(length_PG, counted_PG)
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

  return pack


def full_policy(group: types.Group) -> types.Group:
  """The same with `logp` under the policy that is not tempered."""
  rollouts = (dataclasses.replace(r, logp=r.full_logp) for r in group.rollouts)
  return dataclasses.replace(group, rollouts=tuple(rollouts))


def check_mesh(c: settings.Reader, mesh, config: decoder.DecoderConfig) -> None:
  """Raises ValueError if rows or heads cannot be cut as the mesh has it."""
  shards = mesh.shape['sequence']
  if c.microbatch.columns % shards:
    raise ValueError(
      f'config.microbatch.columns={c.microbatch.columns}: not a multiple of '
      f'config.mesh.sequence={shards}; give one'
    )
  sharding.check_heads(mesh, sharding.HEADS, config.heads, config.kv_heads)


def build_model(
  c: settings.Reader, mesh, directory: str, kernel: attention.Kernel
) -> tuple[base.Model, lora.Parts]:
  """The model of a directory, whose context must hold a rollout, and what of
  it is trained."""
  config = decoder.DecoderConfig.from_hf(hf.read_config(directory))
  if c.prompt.window + c.rollout.max_tokens > config.context:
    raise ValueError(
      f'config.rollout.max_tokens={c.rollout.max_tokens}: with '
      f'config.prompt.window={c.prompt.window} longer than the context of '
      f'{c.model}, {config.context}; lower one of them'
    )
  check_mesh(c, mesh, config)
  parts = lora.split(decoder.param_specs(config), **c.lora.kwargs())
  model = decoder.make_model(
    config,
    remat=c.remat,
    attend=sharding.split_attention(mesh, kernel.attend),
    layer_weights=functools.partial(lora.merged_layer, scale=parts.scale),
    **sharding.pins(mesh),
  )
  return model, parts


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


def build_engines(
  c: settings.Reader,
  model: base.Model,
  mesh,
  tokenizer: Any,
  stops: tuple[int, ...],
  reserved: int,
) -> tuple[engine_lib.Engine, engine_lib.Engine]:
  """The engine that trains and the one that asks held-out questions.

  `reserved` bytes of each device are not theirs.
  """
  kv_dtype = jnp.dtype(c.engine.kv_dtype or c.dtype)
  shards = sharding.row_shards(mesh)
  sizes = schedule.Sizes(
    slots=c.engine.slots,
    shards=shards,
    page=c.engine.page,
    chunk=c.engine.chunk,
    pages=c.engine.pages,
    rows=c.engine.prefill_prompts * shards,
    piece=c.engine.prefill_tokens,
    window=c.prompt.window,
    room=c.rollout.max_tokens,
  )
  try:
    sizes = cache.fit_pages(sizes, model, mesh, kv_dtype, reserved)
    schedule.check(sizes)
  except ValueError as e:
    raise ValueError(f'config.engine: {e}') from e
  make = functools.partial(
    engine_lib.make_engine,
    model,
    mesh,
    sizes=sizes,
    ending=engine_lib.Ending(stops),
    kv_dtype=kv_dtype,
    to_text=functools.partial(tokens.decode, tokenizer),
  )
  # What is trained is the tempered policy, whole: nothing is cut off it.
  own = sampling.Sampling(c.rollout.temperature)
  heldout = sampling.Sampling(
    c.heldout.temperature, c.heldout.top_p, c.heldout.top_k
  )
  engine = make(sampling=own)
  # The same programs need not be compiled twice.
  return engine, engine if heldout == own else make(sampling=heldout)


def build(config: ml_collections.ConfigDict) -> Run:
  """Reads every field of a valid config; nothing below sees it.

  Raises:
    ValueError, OSError: one line for the user.
  """
  c = settings.Reader(config)
  mesh = sharding.make_mesh(**c.mesh.kwargs())
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
  model, parts = build_model(c, mesh, directory, kernel)
  prompts, digests = {}, {}
  for name in (references.TRAIN, references.HELDOUT):
    prompts[name], digests[name] = read_prompts(c, name, tokenizer)
    check_vocabulary(c.model, model, stops, prompts[name])
  open_pool, open_reference_pool = build_pools(c)
  optimizer, load, load_frozen, abstract = build_state(
    c, parts, mesh, directory
  )
  if parts.frozen:
    # Checkpoints lack it, so a run that goes on must find it as it was.
    digests['model'] = hf.model_digest(directory)
    say(
      f'trains {base.param_count(parts.trained):,} parameters beside '
      f'{base.param_count(parts.frozen):,} frozen ones'
    )
  dtype = jnp.dtype(c.dtype)
  rollout_params, cast_bytes = build_rollout_params(
    model.specs, parts, mesh, dtype
  )
  engine, heldout_engine = build_engines(
    c,
    model,
    mesh,
    tokenizer,
    stops,
    reserved=sharding.device_bytes(abstract) + cast_bytes,
  )
  run = Run(
    config=json.loads(config.to_json()),
    attention=chosen,
    seed=c.seed,
    steps=c.steps,
    engine=engine,
    heldout_engine=heldout_engine,
    prompts=prompts,
    digests=digests,
    groups=c.rollout.groups,
    heldout_groups=c.heldout.groups,
    make_batches=functools.partial(
      sources.batches, batch_size=c.rollout.prompts, seed=c.seed
    ),
    open_pool=open_pool,
    open_reference_pool=open_reference_pool,
    batch_seconds=c.judge.batch_seconds,
    max_failed_share=c.judge.max_failed_share,
    load_state=load,
    load_frozen=load_frozen,
    abstract_state=abstract,
    rollout_params=rollout_params,
    pack=build_pack(
      c,
      mesh,
      pad_token=stops[0],
      even_tokens=decoder.even_tokens(model.specs),
      share_prompts=kernel.prefixes,
    ),
    update=update.make_update(
      model,
      c.loss.build(),
      optimizer,
      temperature=c.rollout.temperature if c.policy == 'tempered' else 1.0,
      vocab_chunk=c.microbatch.vocab_chunk,
      dtype=dtype,
      param_shardings=sharding.param_shardings(parts.trained, mesh),
      frozen_shardings=sharding.param_shardings(parts.frozen, mesh),
    ),
    mismatch_limit=max(
      MISMATCH_LIMIT[d] for d in (c.dtype, c.engine.kv_dtype or c.dtype)
    ),
    checkpoint_every=c.checkpoint.every,
    checkpoint_keep=c.checkpoint.keep,
    samples=c.samples.kwargs(),
  )
  c.check_all_read()
  return run
