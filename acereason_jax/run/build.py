"""Builds everything that a run needs from its config; only here parts meet.

Every field of the config is read once: here, in network.py, parts.py and
domains.py. The results are plain functions and values that never see the
config.
"""

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import optax

from acereason_jax import mesh as mesh_lib
from acereason_jax.config import reader
from acereason_jax.config import stages as stages_lib
from acereason_jax.curriculum import ending, filtering
from acereason_jax.models import base, embedded, sharding, tokens
from acereason_jax.rl import losses, packing, update
from acereason_jax.rollout import engine as engine_lib
from acereason_jax.rollout import sampling, serve
from acereason_jax.run import domains as domains_lib
from acereason_jax.run import network as network_lib
from acereason_jax.run import parts
from acereason_jax.run.values import Domain, Run, Stage

# The sampler's and the trainer's logp of the same token may differ by rounding.
# A larger difference, on average over a batch, is a bug, and the run reports
# it. bfloat16's rounding grows with the spread of the logits: healthy runs
# reached 9e-3. The cache's values are rounded too; float8 gives 5e-2.
MISMATCH_LIMIT = {'float32': 1e-4, 'bfloat16': 2e-2, 'float8_e4m3fn': 0.2}


class Shared(NamedTuple):
  """The values that all stages share.

  network: model, tokenizer and devices.
  domains: names of the domains.
  looks: by stage, see `stages.looks`.
  window: longest prompt, tokens.
  abstract_params: shapes, dtypes and shardings of the trained parameters.
  weight_bytes: bytes of a device that frozen parameters and rollouts' weights
    take in addition to what a checkpoint holds of the state.
  """

  network: network_lib.Network
  domains: tuple[str, ...]
  looks: dict[str, dict[str, int]]
  window: int
  abstract_params: base.Tree
  weight_bytes: int


class Programs(NamedTuple):
  """The part of a run that is made of the config and the model's sizes alone.

  Nothing is compiled, and no device holds anything.

  network: model, tokenizer and devices.
  dtype: dtype of the weights that rollouts read, and of frozen ones.
  params: source of the parameters of a new run.
  rollout_params: `weights` of a train state -> parameters of the engines.
  cast_bytes: bytes of a device that these take in addition to the state.
  window: longest prompt, tokens.
  stages: stages to run, in order.
  heldout_engine: engine that draws the answers to held-out questions.
  """

  network: network_lib.Network
  dtype: jnp.dtype
  params: network_lib.Params
  rollout_params: Callable[[base.Tree], base.Tree]
  cast_bytes: int
  window: int
  stages: list[Stage]
  heldout_engine: engine_lib.Engine

  @property
  def abstract_params(self) -> base.Tree:
    """Shapes, dtypes and shardings of the trained parameters."""
    return self.params.abstract


def build(
  config: ml_collections.ConfigDict, machine: mesh_lib.Machine | None = None
) -> Run:
  """Reads every field of a valid config; nothing below sees it.

  `machine` is this one if it is None.

  Raises:
    ValueError, OSError: one line for the user.
  """
  c = reader.Reader(config)
  machine = machine or mesh_lib.this_machine()
  mesh = network_lib.build_mesh(c, machine)
  files = serve.read_model(embedded.resolve_model(c.model))
  network = network_lib.build_network(c, machine, mesh, files)
  by_domain = readers(c, config)
  # A run of several domains can continue a run of one.
  alone = not len(config.domains)
  domains = build_domains(c.model, by_domain, alone, network)
  digests = digests_of(domains) | network_lib.digests_of(network)
  programs = programs_of(c, config, network)
  run = Run(
    config=json.loads(config.to_json()),
    attention=network.attention,
    seed=c.seed,
    domains=domains,
    stages=programs.stages,
    digests=digests,
    heldout_engine=programs.heldout_engine,
    heldout_temperature=c.heldout.temperature,
    load_params=programs.params.load,
    load_frozen=programs.params.load_frozen,
    abstract_params=programs.abstract_params,
    rollout_params=programs.rollout_params,
    model_stamp=network_lib.stamp(network.files.directory),
    start_run=c.start.run,
    best=c.checkpoint.best,
    checkpoint_every=c.checkpoint.every,
    checkpoint_keep=c.checkpoint.keep,
    samples=c.samples.kwargs(),
  )
  stages = map(c.over, stages_lib.stages(config).values())
  c.check_all_read(stages, by_domain.values())
  return run


def build_programs(
  config: ml_collections.ConfigDict,
  machine: mesh_lib.Machine,
  files: serve.ModelFiles,
) -> Programs:
  """The programs of a valid config on a machine, which need not be there.

  It reads no data and no weights. `files` may be `serve.read_model_sizes`:
  programs need no tokenizer, which only turns their tokens into texts.

  Raises:
    ValueError: one line for the user.
  """
  c = reader.Reader(config)
  mesh = network_lib.build_mesh(c, machine)
  network = network_lib.build_network(c, machine, mesh, files)
  return programs_of(c, config, network)


def readers(
  c: reader.Reader, config: ml_collections.ConfigDict
) -> dict[str, reader.Reader]:
  """The config with each domain's overrides, by name."""
  return {n: c.over(d) for n, d in stages_lib.domains(config).items()}


def programs_of(
  c: reader.Reader,
  config: ml_collections.ConfigDict,
  network: network_lib.Network,
) -> Programs:
  """`build_programs` for a network that is built."""
  by_domain = readers(c, config)
  params = network_lib.build_params(c, network)
  dtype = jnp.dtype(c.dtype)
  rollout_params, cast_bytes = serve.rollout_params(
    network.model.specs, network.parts, network.mesh, dtype
  )
  shared = Shared(
    network=network,
    domains=tuple(by_domain),
    looks=stages_lib.looks(config),
    window=max(own.prompt.window for own in by_domain.values()),
    abstract_params=params.abstract,
    weight_bytes=cast_bytes + mesh_lib.device_bytes(params.abstract_frozen),
  )
  configs = stages_lib.stages(config)
  # A stage has the same index whether all stages are run or only some.
  order = [stage['name'] for stage in config.stages] or list(configs)
  stages = build_stages(c, configs, order, shared)
  if c.checkpoint.best:
    # Stages that are not run count too: one by itself has the same config.
    looks = {}
    for every in shared.looks.values():
      looks |= {d: max(n, looks.get(d, 0)) for d, n in every.items()}
    parts.check_metric(
      c.checkpoint.best, shared.domains, looks, 'checkpoint.best', {}
    )
  longest = max(
    stage.rollout.max_tokens
    for stage in stages_lib.every_stage(config).values()
  )
  return Programs(
    network=network,
    dtype=dtype,
    params=params,
    rollout_params=rollout_params,
    cast_bytes=cast_bytes,
    window=shared.window,
    stages=stages,
    heldout_engine=build_heldout(c, shared, stages, longest),
  )


def build_domains(
  model: str,
  by_domain: Mapping[str, reader.Reader],
  alone: bool,
  network: network_lib.Network,
) -> dict[str, Domain]:
  """Builds the domains.

  `by_domain` holds the config with each domain's overrides. `alone` says that
  the config names no domain. Errors name the `model`.
  """
  domains, files = {}, network.files
  serve.check_vocabulary(model, files.network.config.vocab, files.stops)
  for name, own in by_domain.items():
    with stages_lib.named('domain', name):
      domains[name] = domains_lib.build_domain(
        own,
        name,
        alone,
        files.tokenizer,
        files.stops,
      )
      for prompts in domains[name].prompts.values():
        serve.check_prompts(model, files.network.config.vocab, prompts)
  return domains


def digests_of(domains: Mapping[str, Domain]) -> dict[str, str]:
  """Digests of each domain's rows and of its prompts' tokens."""
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


def build_stages(
  c: reader.Reader,
  configs: Mapping[str, ml_collections.ConfigDict],
  order: Sequence[str],
  shared: Shared,
) -> list[Stage]:
  """Builds the stages.

  `configs` holds the config with the overrides of each stage to run; `order`
  holds the names of all stages.
  """
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
  filters: dict[str, filtering.Filter],
  shared: Shared,
) -> Stage:
  network, looks = shared.network, shared.looks[name]
  network_lib.check_lengths(c, network, shared.window)
  if c.stop.metric:
    parts.check_metric(
      c.stop.metric, shared.domains, looks, 'stop.metric', filters
    )
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
  # A stage without a previous stage carries nothing over.
  carries = c.optim.carry and (index > 0 or c.start.run != '')
  dtypes = c.dtype, c.engine.kv_dtype or c.dtype
  packed = mesh_lib.packed(network.mesh)
  return Stage(
    name=name,
    index=index,
    stop=ending.Stop(steps=c.steps, **c.stop.kwargs()),
    mix=mix,
    filters=filters,
    evaluate_every=looks,
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
    carry=parts.build_carry(c, network.parts.trained, training)
    if carries
    else None,
    limits=c.limits.kwargs(),
    mismatch_limit=max(MISMATCH_LIMIT[dtype] for dtype in dtypes),
  )


def place(
  batch: packing.PackedBatch, sharding: jax.sharding.Sharding
) -> packing.PackedBatch:
  """The batch placed on the devices of a sharding."""
  return packing.PackedBatch(*(mesh_lib.spread(x, sharding) for x in batch))


def build_layout(
  c: reader.Reader, network: network_lib.Network
) -> packing.Layout:
  return packing.Layout(
    rows=mesh_lib.packed_shards(network.mesh) * c.microbatch.rows,
    columns=c.microbatch.columns,
    pad_token=network.files.stops[0],
    share_prompts=network.kernel.prefixes,
    even_tokens=network.model.even_tokens,
  )


def build_update(
  c: reader.Reader,
  network: network_lib.Network,
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
  return network_lib.build_engine(
    c,
    network,
    window=shared.window,
    max_tokens=c.rollout.max_tokens,
    # The trained tempered policy is the full distribution: nothing is cut off.
    own=sampling.Sampling(),
    reserved=mesh_lib.device_bytes(abstract) + shared.weight_bytes,
  )


def build_heldout(
  c: reader.Reader, shared: Shared, stages: Sequence[Stage], longest: int
) -> engine_lib.Engine:
  """The engine for held-out questions; a stage's engine if it is the same.

  `longest` is the longest response of all stages of the config, so a stage that
  is run by itself has the same evaluations as in the whole run.
  """
  network = shared.network
  max_tokens = c.heldout.max_tokens or longest
  lengths = {
    'config.heldout.max_tokens': max_tokens,
    'config.prompt.window': shared.window,
  }
  serve.check_context(lengths, c.model, network.files.network.config.context)
  own = sampling.Sampling(
    c.heldout.top_p, c.heldout.top_k, greedy=c.heldout.temperature == 0
  )
  # Equal programs need not be compiled twice.
  for stage in stages:
    if (
      own == sampling.Sampling() and stage.engine.sizes.max_tokens == max_tokens
    ):
      return stage.engine
  most = max(mesh_lib.device_bytes(stage.abstract_state) for stage in stages)
  return network_lib.build_engine(
    c,
    network,
    window=shared.window,
    max_tokens=max_tokens,
    own=own,
    reserved=most + shared.weight_bytes,
  )
