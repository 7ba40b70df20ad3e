"""Builds everything that a run needs from its config; only here parts meet.

Every field of the config is read once: here, in network.py, stage.py, parts.py
and domains.py. The results are plain functions and values that never see the
config.
"""

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import ml_collections

from acereason_jax import mesh as mesh_lib
from acereason_jax.config import reader
from acereason_jax.config import stages as stages_lib
from acereason_jax.models import base, embedded, families, tokens
from acereason_jax.rollout import engine as engine_lib
from acereason_jax.rollout import sampling, serve
from acereason_jax.run import domains as domains_lib
from acereason_jax.run import metrics, parts
from acereason_jax.run import network as network_lib
from acereason_jax.run import stage as stage_lib
from acereason_jax.run.values import Domain, Run, Stage


class Programs(NamedTuple):
  """The part of a run that is made of the config and the model's sizes alone.

  Nothing is compiled, and no device holds anything.

  network: model, tokenizer and devices.
  dtype: dtype of the weights that rollouts read, and of frozen ones.
  params: source of the parameters of a new run.
  rollouts: mesh of the engines, and their parameters.
  window: longest prompt, tokens.
  stages: stages to run, in order.
  heldout_engine: engine that draws the answers to held-out questions.
  most_rollouts: the most of a batch, of all stages of the config.
  """

  network: network_lib.Network
  dtype: jnp.dtype
  params: network_lib.Params
  rollouts: network_lib.Rollouts
  window: int
  stages: list[Stage]
  heldout_engine: engine_lib.Engine
  most_rollouts: int

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
    name='',
    attention=network.attention,
    shape=families.shape_of(
      network.files.network, network.parts.trained, c.model
    ),
    peak=network.kind.flops * mesh.size if network.kind else 0.0,
    seed=c.seed,
    domains=domains,
    stages=programs.stages,
    digests=digests,
    heldout_engine=programs.heldout_engine,
    heldout_temperature=c.heldout.temperature,
    load_params=programs.params.load,
    load_frozen=programs.params.load_frozen,
    abstract_params=programs.abstract_params,
    rollout_params=programs.rollouts.params,
    rollout_bytes=programs.rollouts.extra,
    model_stamp=network_lib.stamp(network.files.directory),
    start_run=c.start.run,
    best=c.checkpoint.best,
    checkpoint_every=c.checkpoint.every,
    checkpoint_keep=c.checkpoint.keep,
    samples=c.samples.kwargs(),
    keep=c.keep.kwargs(),
  )
  stages = {n: c.over(s) for n, s in stages_lib.stages(config).items()}
  c.check_all_read(stages.values(), by_domain.values())
  if line := uncorrected(c.engine.weights, stages):
    metrics.say(line)
  return run


def uncorrected(dtype: str, stages: Mapping[str, reader.Reader]) -> str:
  """Which stages train as if rollouts were drawn with whole weights, one line.

  '' if none does: `dtype`, of the rollouts' weights, is '', or the losses read
  the sampler's logp.
  """
  named = [
    name
    for name, own in stages.items()
    if dtype and 'logp_old_BT' not in parts.build_loss(own)[1]
  ]
  if not named:
    return ''
  return (
    f'config.engine.weights={dtype}: rollouts are drawn from another policy '
    f'than the trained one, and the loss of {", ".join(named)} does not '
    'correct for it; config.objective.loss=dict(fn='
    "'acereason_jax.rl.losses:truncated_importance', limit=2.0, loss=dict(..)) "
    'around it does'
  )


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
  window = max(own.prompt.window for own in by_domain.values())
  every = stages_lib.every_stage(config)
  longest = max(stage.rollout.max_tokens for stage in every.values())
  configs = stages_lib.stages(config)
  learning = stage_lib.build_learning(c, configs, network, params.abstract)
  frozen_bytes = mesh_lib.device_bytes(params.abstract_frozen)
  rollouts = network_lib.build_rollouts(
    c,
    network,
    {name: c.over(stage) for name, stage in every.items()},
    window,
    max(longest, c.heldout.max_tokens),
    frozen_bytes
    + stage_lib.most_state(each.training.abstract for each in learning),
  )
  shared = stage_lib.Shared(
    network=network,
    rollouts=rollouts,
    domains=tuple(by_domain),
    looks=stages_lib.looks(config),
    window=window,
    weight_bytes=rollouts.extra + frozen_bytes,
  )
  # A stage has the same index whether all stages are run or only some.
  order = [stage['name'] for stage in config.stages] or list(configs)
  stages = stage_lib.build_stages(learning, configs, order, shared)
  if c.checkpoint.best:
    # Stages that are not run count too: one by itself has the same config.
    looks = {}
    for those in shared.looks.values():
      looks |= {d: max(n, looks.get(d, 0)) for d, n in those.items()}
    parts.check_metric(
      c.checkpoint.best, shared.domains, looks, 'checkpoint.best', {}
    )
  most_rollouts = 0
  for name, stage in every.items():
    with stages_lib.named('stage', name):
      own = c.over(stage)
      count = parts.most_rollouts(own, parts.build_groups(own))
    most_rollouts = max(most_rollouts, count)
  return Programs(
    network=network,
    dtype=jnp.dtype(c.dtype),
    params=params,
    rollouts=rollouts,
    window=window,
    stages=stages,
    heldout_engine=build_heldout(c, shared, stages, longest, most_rollouts),
    most_rollouts=most_rollouts,
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


def build_heldout(
  c: reader.Reader,
  shared: stage_lib.Shared,
  stages: Sequence[Stage],
  longest: int,
  most_rollouts: int,
) -> engine_lib.Engine:
  """The engine for held-out questions; a stage's engine if it is the same.

  `longest` and `most_rollouts` are the longest response and the largest batch
  of all stages of the config, so a stage that is run by itself has the same
  evaluations as in the whole run. How many questions there are is not known
  before the data are read, so slots are those for the largest batch.
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
  engine = network_lib.build_engine(
    c,
    network,
    shared.rollouts,
    window=shared.window,
    max_tokens=max_tokens,
    own=own,
    reserved=shared.weight_bytes
    + stage_lib.most_state(stage.abstract_state for stage in stages),
    most_rollouts=most_rollouts,
  )
  # Equal programs need not be compiled twice.
  for stage in stages:
    same = stage.engine.sizes == engine.sizes
    if own == sampling.Sampling() and same and stage.engine.pool == engine.pool:
      return stage.engine
  return engine
