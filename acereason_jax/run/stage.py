"""Puts stages together from their fields of the config and their parts.

What a stage learns with is built first, for all stages: an engine gets the
memory that train states leave.
"""

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import optax

from acereason_jax import mesh as mesh_lib
from acereason_jax.config import reader
from acereason_jax.config import stages as stages_lib
from acereason_jax.curriculum import ending, filtering
from acereason_jax.kernels import attention
from acereason_jax.models import base, sharding
from acereason_jax.rl import losses, mismatch, packing, update
from acereason_jax.rl import rows as rows_lib
from acereason_jax.rollout import engine as engine_lib
from acereason_jax.rollout import sampling
from acereason_jax.run import network as network_lib
from acereason_jax.run import parts
from acereason_jax.run.values import Stage

# The field of a batch that a loss with a reference reads.
REFERENCE = 'logp_ref_BT'


class Shared(NamedTuple):
  """The values that all stages share.

  network: model, tokenizer and devices.
  rollouts: mesh of the engines, and the model on it.
  domains: names of the domains.
  looks: by stage, see `stages.looks`.
  window: longest prompt, tokens.
  weight_bytes: bytes of a device that frozen parameters and rollouts' weights
    take in addition to what a checkpoint holds of the state.
  """

  network: network_lib.Network
  rollouts: network_lib.Rollouts
  domains: tuple[str, ...]
  looks: dict[str, dict[str, int]]
  window: int
  weight_bytes: int


class Learning(NamedTuple):
  """How a stage learns; its engine has the memory that this leaves.

  config: config of the stage.
  loss: loss of a token.
  read: fields of a batch that the loss reads.
  training: optimizer and train state.
  """

  config: reader.Reader
  loss: losses.Loss
  read: frozenset[str]
  training: parts.Training

  @property
  def has_reference(self) -> bool:
    return REFERENCE in self.read


def build_learning(
  c: reader.Reader,
  configs: Mapping[str, ml_collections.ConfigDict],
  network: network_lib.Network,
  abstract_params: base.Tree,
) -> list[Learning]:
  """How each stage of `configs` learns, in order."""
  found = []
  for name, config in configs.items():
    with stages_lib.named('stage', name):
      own = c.over(config)
      loss, read = parts.build_loss(own)
      training = parts.build_training(
        own,
        network.parts,
        network.mesh,
        abstract_params,
        REFERENCE in read,
      )
    found.append(Learning(own, loss, read, training))
  return found


def most_state(states: Iterable[update.TrainState]) -> int:
  """Bytes of a device that the largest train state takes."""
  return max(map(mesh_lib.device_bytes, states))


def build_stages(
  learning: Sequence[Learning],
  configs: Mapping[str, ml_collections.ConfigDict],
  order: Sequence[str],
  shared: Shared,
) -> list[Stage]:
  """Builds the stages.

  `configs` holds the config with the overrides of each stage to run, `learning`
  how each learns; `order` holds the names of all stages.
  """
  stages = []
  for own, (name, config) in zip(learning, configs.items()):
    with stages_lib.named('stage', name):
      mix = stages_lib.mix(config)
      filters = parts.build_filters(own.config, config)
      stages.append(
        build_stage(own, name, order.index(name), mix, filters, shared)
      )
  parts.check_carried(stages)
  return stages


def build_stage(
  learning: Learning,
  name: str,
  index: int,
  mix: dict[str, float],
  filters: dict[str, filtering.Filter],
  shared: Shared,
) -> Stage:
  c, loss, read, training = learning
  network, looks = shared.network, shared.looks[name]
  network_lib.check_lengths(c, network, shared.rollouts.mesh, shared.window)
  if c.stop.metric:
    parts.check_metric(
      c.stop.metric, shared.domains, looks, 'stop.metric', filters
    )
  bonus = c.objective.entropy_bonus
  has_bonus = isinstance(bonus, reader.Reader) or bonus > 0
  # A stage without a previous stage carries nothing over.
  carries = c.optim.carry and (index > 0 or c.start.run != '')
  dtypes = c.dtype, c.engine.kv_dtype or c.dtype, c.engine.weights or c.dtype
  groups = parts.build_groups(c)
  most_rollouts = parts.most_rollouts(c, groups)
  return Stage(
    name=name,
    index=index,
    stop=ending.Stop(steps=c.steps, **c.stop.kwargs()),
    mix=mix,
    filters=filters,
    evaluate_every=looks,
    prompts=c.rollout.prompts,
    groups=groups,
    most_rollouts=most_rollouts,
    refill=c.rollout.refill,
    engine=build_training_engine(c, shared, training.abstract, most_rollouts),
    temperature=parts.build_control(
      c.rollout, 'temperature', 'rollout.temperature'
    ),
    entropy_bonus=parts.build_control(
      c.objective, 'entropy_bonus', 'objective.entropy_bonus'
    ),
    objective=parts.build_objective(
      c, every=has_bonus or losses.needs_every(loss)
    ),
    layout=build_layout(c, network),
    place=functools.partial(place, sharding=mesh_lib.packed(network.mesh)),
    update=build_update(c, network, loss, training.optimizer, has_bonus),
    tempered=c.objective.policy == 'tempered',
    has_reference=learning.has_reference,
    has_first=c.optim.updates > 1 and 'logp_first_BT' in read,
    reset_reference_every=c.objective.reset_reference_every,
    abstract_state=training.abstract,
    init=training.init,
    carry=parts.build_carry(c, network.parts.trained, training)
    if carries
    else None,
    limits=c.limits.kwargs(),
    mismatch_limit=mismatch.limit(dtypes),
  )


def place(
  batch: packing.PackedBatch, sharding: jax.sharding.Sharding
) -> packing.PackedBatch:
  """The batch placed on the devices of a sharding."""
  return packing.PackedBatch(*(mesh_lib.spread(x, sharding) for x in batch))


def build_layout(
  c: reader.Reader, network: network_lib.Network
) -> rows_lib.Layout:
  return rows_lib.Layout(
    rows=mesh_lib.packed_shards(network.mesh) * c.microbatch.rows,
    columns=c.microbatch.columns,
    multiple=math.lcm(attention.WHOLE, network.mesh.shape['sequence']),
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
  c: reader.Reader,
  shared: Shared,
  abstract: update.TrainState,
  most_rollouts: int,
) -> engine_lib.Engine:
  """The engine of a stage whose state is `abstract`, for so many rollouts."""
  return network_lib.build_engine(
    c,
    shared.network,
    shared.rollouts,
    window=shared.window,
    max_tokens=c.rollout.max_tokens,
    # The trained tempered policy is the full distribution: nothing is cut off.
    own=sampling.Sampling(),
    reserved=mesh_lib.device_bytes(abstract) + shared.weight_bytes,
    most_rollouts=most_rollouts,
  )
