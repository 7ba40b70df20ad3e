"""The trainer's own view of chosen rollouts: logp, entropy and mismatch.

`update.Update.add` computes them for each microbatch that it trains on, so they
cost no second pass. On several processes the rows of a rollout may be on
another one's devices. So all processes must ask for the same rollouts: fetching
is a collective.
"""

import functools
from collections.abc import Callable, Set
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from acereason_jax import mesh as mesh_lib
from acereason_jax.rl import gradients, packing
from acereason_jax.rl import rows as rows_lib

# Prompt id and index of a rollout.
Key = tuple[str, int]


class Score(NamedTuple):
  """What the update that trained on a rollout saw of its R response tokens.

  All are float32 [R], of the weights before that update. A value is finite
  unless the forward pass gave one that is not.

  logp: logp of the token under the trained policy, nats.
  entropy: entropy of that policy where the token is drawn, nats.
  mismatch: |logp - the sampler's logp|, nats; 0 for a token that was forced.
    Its mean over all trained tokens is the metric `mismatch`.
  """

  logp: np.ndarray
  entropy: np.ndarray
  mismatch: np.ndarray


def fetch(
  scored: gradients.Scored, packed: packing.Packed, wanted: Set[Key]
) -> dict[Key, Score]:
  """The scores of the wanted rollouts that a microbatch holds.

  A microbatch that holds none of them is not fetched. `packed` is what every
  process packed, on the host.
  """
  places = {k: p for k, p in packed.places.items() if k in wanted}
  if not places:
    return {}
  on_host = everywhere(scored)
  return {
    key: _score(on_host, packed.batch, place) for key, place in places.items()
  }


def everywhere(scored: gradients.Scored) -> gradients.Scored:
  """The scores of all rows, as numpy; a collective of all processes."""
  if not scored.logp_BT.is_fully_addressable:
    scored = _replicate(scored.logp_BT.sharding.mesh)(scored)
  return jax.device_get(scored)


@functools.cache
def _replicate(mesh: Mesh) -> Callable[[gradients.Scored], gradients.Scored]:
  """A jitted identity that gives each device all rows."""
  return jax.jit(lambda x: x, out_shardings=mesh_lib.replicated(mesh))


def _score(
  scored: gradients.Scored, batch: packing.PackedBatch, place: rows_lib.Place
) -> Score:
  at = place.row, place.columns
  logp, entropy = scored.logp_BT[at], scored.entropy_BT[at]
  # As `gradients.weighted_loss` measures it.
  gap = np.abs(logp - batch.logp_old_BT[at])
  mismatch = np.where(batch.weight_BT[at] > 0, gap, np.float32(0))
  return Score(logp.copy(), entropy.copy(), mismatch)
