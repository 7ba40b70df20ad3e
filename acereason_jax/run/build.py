"""A config to everything that a run needs: the only place where parts meet.

Every field of the config is read once, here, in parts.py and in domains.py.
What is built is plain functions and values that never see the config.
"""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import optax

from acereason_jax import mesh as mesh_lib
from acereason_jax import types
from acereason_jax.config import reader
from acereason_jax.config import stages as stages_lib
from acereason_jax.curriculum import selection
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
from acereason_jax.rl import losses, packing, update
from acereason_jax.rollout import cache, sampling, schedule
from acereason_jax.rollout import engine as engine_lib
from acereason_jax.run import domains as domains_lib
from acereason_jax.run import metrics, parts
from acereason_jax.run.values import Domain, Run, Stage

# The sampler's and the trainer's logp of the same token may differ by rounding,
# on average over a batch; more is a bug, and the run says so. bfloat16's
# rounding grows with the spread of the logits: up to 9e-3 was seen in health.
# The cache's values are rounded too; in float8 that makes 5e-2.
MISMATCH_LIMIT = {'float32': 1e-4, 'bfloat16': 2e-2, 'float8_e4m3fn': 0.2}


class Network(NamedTuple):
  """The model of a run and its tokenizer.

  directory: where their files are.
  mesh: the devices.
  attention: the name of the kernel that trains.
  kernel: that kernel.
  model: the functions of the model.
  parts: what of its parameters is trained, and what is frozen.
  config: its config.json.
  tokenizer: its tokenizer.
  stops: the tokens that end a response.
  """

  directory: str
  mesh: Any
  attention: str
  kernel: attention.Kernel
  model: base.Model
  parts: lora.Parts
  config: decoder.DecoderConfig
  tokenizer: Any
  stops: tuple[int, ...]


class Shared(NamedTuple):
  """What all stages share.

  network: the model, its tokenizer and the devices.
  domains: by name.
  window: the longest prompt, tokens.
  abstract_params: shapes, dtypes and places of what is trained.
  cast_bytes: what rollouts' weights take of a device beside the state's, bytes.
  """

  network: Network
  domains: Mapping[str, Domain]
  window: int
  abstract_params: base.Tree
  cast_bytes: int


def build(config: ml_collections.ConfigDict) -> Run:
  """Reads every field of a valid config; nothing below sees it.

  Raises:
    ValueError, OSError: one line for the user.
  """
  c = reader.Reader(config)
  network = build_network(c)
  by_domain = {n: c.over(d) for n, d in stages_lib.domains(config).items()}
  # A run of one domain can be followed by one of several.
  alone = not len(config.domains)
  domains = build_domains(c.model, by_domain, alone, network)
  digests = digests_of(domains) | model_digests(network)
  load, load_frozen, abstract_params = build_params(
    c, network.parts, network.mesh, network.directory
  )
  rollout_params, cast_bytes = build_rollout_params(
    network.model.specs, network.parts, network.mesh, jnp.dtype(c.dtype)
  )
  shared = Shared(
    network=network,
    domains=domains,
    window=max(own.prompt.window for own in by_domain.values()),
    abstract_params=abstract_params,
    cast_bytes=cast_bytes,
  )
  configs = stages_lib.stages(config)
  # A stage has the same index whether all stages are run or only some.
  order = [stage['name'] for stage in config.stages] or list(configs)
  stages = build_stages(c, configs, order, shared)
  if c.checkpoint.best:
    parts.check_metric(c.checkpoint.best, domains, 'checkpoint.best', {})
  every_stage = stages_lib.every_stage(config).values()
  longest = max(stage.rollout.max_tokens for stage in every_stage)
  run = Run(
    config=json.loads(config.to_json()),
    attention=network.attention,
    seed=c.seed,
    domains=domains,
    stages=stages,
    digests=digests,
    heldout_engine=build_heldout(c, shared, stages, longest),
    heldout_temperature=c.heldout.temperature,
    heldout_groups=c.heldout.per_prompt,
    load_params=load,
    load_frozen=load_frozen,
    abstract_params=abstract_params,
    rollout_params=rollout_params,
    model_stamp=stamp(network.directory),
    start_run=c.start.run,
    best=c.checkpoint.best,
    checkpoint_every=c.checkpoint.every,
    checkpoint_keep=c.checkpoint.keep,
    samples=c.samples.kwargs(),
  )
  c.check_all_read(map(c.over, configs.values()), by_domain.values())
  return run


def build_network(c: reader.Reader) -> Network:
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
  model, split, config = build_model(c, mesh, directory, kernel)
  return Network(
    directory=directory,
    mesh=mesh,
    attention=chosen,
    kernel=kernel,
    model=model,
    parts=split,
    config=config,
    tokenizer=tokenizer,
    stops=stops,
  )


def build_domains(
  model: str,
  by_domain: Mapping[str, reader.Reader],
  alone: bool,
  network: Network,
) -> dict[str, Domain]:
  """`by_domain` is the config as each domain changes it; `alone` says that the
  config names none. Errors name the `model`."""
  domains = {}
  for name, own in by_domain.items():
    with stages_lib.named('domain', name):
      domains[name] = domains_lib.build_domain(
        own,
        name,
        alone,
        network.tokenizer,
        network.stops,
      )
      for prompts in domains[name].prompts.values():
        check_vocabulary(model, network.model, network.stops, prompts)
  return domains


def digests_of(domains: Mapping[str, Domain]) -> dict[str, str]:
  """Of each domain's rows and of its prompts' tokens."""
  rows = {
    d.where + source: digest
    for d in domains.values()
    for source, digest in d.digests.items()
  }
  return rows | {
    f'{d.where}{source}.tokens': tokens.digest(prompts)
    for d in domains.values()
    for source, prompts in d.prompts.items()
  }


def model_digests(network: Network) -> dict[str, Any]:
  """Of what a run that goes on reads again of the model's files.

  Closes the tokenizer's worker, which nothing asks after this.
  """
  tokenizer, split = network.tokenizer, network.parts
  digests = dict(
    decoder=dataclasses.asdict(network.config),
    tokenizer=tokenizer.digest,
    stop_tokens=list(network.stops),
  )
  tokenizer.close()
  if tokenizer.reads_clock:
    metrics.say(tokens.clock_line(tokenizer))
  if split.frozen:
    # Checkpoints lack it, so a run that goes on must find it as it was.
    digests['model'] = hf.model_digest(network.directory)
    metrics.say(
      f'trains {base.param_count(split.trained):,} parameters beside '
      f'{base.param_count(split.frozen):,} frozen ones'
    )
  return digests


def build_stages(
  c: reader.Reader,
  configs: Mapping[str, ml_collections.ConfigDict],
  order: Sequence[str],
  shared: Shared,
) -> list[Stage]:
  """`configs` is the config as each stage that is to run changes it; `order`
  holds the names of all stages."""
  stages = []
  for name, config in configs.items():
    with stages_lib.named('stage', name):
      own = c.over(config)
      mix = stages_lib.mix(config)
      filters = parts.build_filters(own, config)
      stages.append(
        build_stage(own, name, order.index(name), mix, filters, shared)
      )
  parts.check_carried(stages)
  return stages


def build_stage(
  c: reader.Reader,
  name: str,
  index: int,
  mix: dict[str, float],
  filters: dict[str, selection.Filter],
  shared: Shared,
) -> Stage:
  network = shared.network
  check_lengths(c, network.mesh, shared.window, network.config.context)
  if c.stop.metric:
    parts.check_metric(c.stop.metric, shared.domains, 'stop.metric', filters)
  loss, read = parts.build_loss(c)
  bonus = c.objective.entropy_bonus
  entropy_bonus = parts.build_control(
    c.objective, 'entropy_bonus', 'objective.entropy_bonus'
  )
  has_bonus = isinstance(bonus, reader.Reader) or bonus > 0
  has_reference = 'logp_ref_BT' in read
  training = parts.build_training(
    c, network.parts, network.mesh, shared.abstract_params, has_reference
  )
  # A stage that nothing comes before takes over nothing.
  carries = c.optim.carry and (index > 0 or c.start.run != '')
  dtypes = c.dtype, c.engine.kv_dtype or c.dtype
  packed = mesh_lib.packed(network.mesh)
  return Stage(
    name=name,
    index=index,
    stop=selection.Stop(steps=c.steps, **c.stop.kwargs()),
    mix=mix,
    filters=filters,
    prompts=c.rollout.prompts,
    groups=parts.build_groups(c),
    refill=c.rollout.refill,
    engine=build_training_engine(c, shared, training.abstract),
    temperature=parts.build_control(
      c.rollout, 'temperature', 'rollout.temperature'
    ),
    entropy_bonus=entropy_bonus,
    objective=parts.build_objective(
      c, every=has_bonus or losses.needs_every(loss)
    ),
    layout=build_layout(c, network),
    place=functools.partial(place, sharding=packed),
    update=build_update(c, network, loss, training.optimizer, has_bonus),
    tempered=c.objective.policy == 'tempered',
    has_reference=has_reference,
    has_first=c.optim.updates > 1 and 'logp_first_BT' in read,
    reset_reference_every=c.objective.reset_reference_every,
    abstract_state=training.abstract,
    init=training.init,
    carry=parts.build_carry(c, training) if carries else None,
    limits=c.limits.kwargs(),
    mismatch_limit=max(MISMATCH_LIMIT[dtype] for dtype in dtypes),
  )


def place(
  batch: packing.PackedBatch, sharding: jax.sharding.Sharding
) -> packing.PackedBatch:
  """The batch on the devices of a sharding."""
  return packing.PackedBatch(*(mesh_lib.spread(x, sharding) for x in batch))


def build_layout(c: reader.Reader, network: Network) -> packing.Layout:
  return packing.Layout(
    rows=mesh_lib.packed_shards(network.mesh) * c.microbatch.rows,
    columns=c.microbatch.columns,
    pad_token=network.stops[0],
    share_prompts=network.kernel.prefixes,
    even_tokens=decoder.even_tokens(network.model.specs),
  )


def build_update(
  c: reader.Reader,
  network: Network,
  loss: losses.Loss,
  optimizer: optax.GradientTransformation,
  has_bonus: bool,
) -> update.Update:
  mesh, split = network.mesh, network.parts
  return update.make_update(
    network.model,
    loss,
    optimizer,
    vocab_chunk=c.microbatch.vocab_chunk,
    dtype=jnp.dtype(c.dtype),
    entropy_bonus=has_bonus,
    several=c.optim.updates > 1,
    param_shardings=sharding.param_shardings(split.trained, mesh),
    frozen_shardings=sharding.param_shardings(split.frozen, mesh),
    offload=c.optim.offload,
  )


def build_training_engine(
  c: reader.Reader, shared: Shared, abstract: update.TrainState
) -> engine_lib.Engine:
  """The engine for the rollouts of a stage whose state is `abstract`."""
  network = shared.network
  return build_engine(
    c,
    network.model,
    network.mesh,
    network.tokenizer,
    network.stops,
    window=shared.window,
    room=c.rollout.max_tokens,
    # The tempered policy that is trained is the whole one: nothing is cut off.
    own=sampling.Sampling(),
    reserved=mesh_lib.device_bytes(abstract) + shared.cast_bytes,
  )


def build_heldout(
  c: reader.Reader, shared: Shared, stages: Sequence[Stage], longest: int
) -> engine_lib.Engine:
  """The engine for held-out questions: a stage's, where that is the same.

  `longest` is the longest response of all stages of the config, so that a stage
  that is run by itself has the looks that it has in the whole run.
  """
  network = shared.network
  max_tokens = c.heldout.max_tokens or longest
  if shared.window + max_tokens > network.config.context:
    raise ValueError(
      f'config.heldout.max_tokens={max_tokens}: with '
      f'config.prompt.window={shared.window} longer than the context of '
      f'{c.model}, {network.config.context}; lower one of them'
    )
  own = sampling.Sampling(
    c.heldout.top_p, c.heldout.top_k, greedy=c.heldout.temperature == 0
  )
  # The same programs need not be compiled twice.
  for stage in stages:
    if own == sampling.Sampling() and stage.engine.sizes.room == max_tokens:
      return stage.engine
  most = max(mesh_lib.device_bytes(stage.abstract_state) for stage in stages)
  return build_engine(
    c,
    network.model,
    network.mesh,
    network.tokenizer,
    network.stops,
    window=shared.window,
    room=max_tokens,
    own=own,
    reserved=most + shared.cast_bytes,
  )


def stamp(directory: str) -> str:
  """Tells the weights of a directory from others that are put there later."""
  files = sorted(pathlib.Path(directory).glob('*.safetensors'))
  told = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files]
  return json.dumps(told)


def build_model(
  c: reader.Reader, mesh, directory: str, kernel: attention.Kernel
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


def build_params(c: reader.Reader, parts: lora.Parts, mesh, directory: str):
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


def check_lengths(c: reader.Reader, mesh, window: int, context: int) -> None:
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
  c: reader.Reader,
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
