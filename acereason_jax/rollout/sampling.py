"""Draws a token for each row of logits, with its log-probability.

`logp` is under the distribution drawn from: after temperature, top-k, top-p and
min-p. `full_logp` is under softmax(logits): temperature 1, nothing cut off. A
greedy draw takes the most likely token, and every logp is 0.
"""

import dataclasses
import hashlib
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from acereason_jax.rollout import thresholds

# A draw picks a block, then a token in it: noise for V / BLOCK + BLOCK
# numbers instead of V.
BLOCK = 256
# A vocabulary may be sharded over as many devices, with whole blocks on each.
SHARDS = 8
# Float32 arrays of logits that a draw may hold at once, and with top-p or top-k
# the keys and the limbs of the weights that are searched (thresholds.py).
ARRAYS, SEARCHED = 3, 4


@dataclasses.dataclass(frozen=True)
class Sampling:
  """Which tokens may be drawn; compiled into the program.

  top_p: probability mass of the most likely tokens to keep, above 0 to 1.
  top_k: number of the most likely tokens to keep; 0 keeps all.
  min_p: 0 to 1; drops tokens whose probability is below this share of the
    largest one (arXiv 2407.01082).
  greedy: temperature 0, which takes the most likely token. Any other
    temperature is an argument of `draw`.
  """

  top_p: float = 1.0
  top_k: int = 0
  min_p: float = 0.0
  greedy: bool = False

  @property
  def cuts(self) -> bool:
    return self.top_p < 1.0 or self.top_k > 0 or self.min_p > 0.0


class Draw(NamedTuple):
  """The draws of B rows.

  token_B: token ids, int32.
  logp_B: natural log-probability under the distribution drawn from, float32.
  full_logp_B: log-probability under softmax(logits), float32.
  entropy_B: entropy of the distribution drawn from, nats, float32.
  sound_B: whether the logits were finite; if not, the token means nothing.
  """

  token_B: jax.Array
  logp_B: jax.Array
  full_logp_B: jax.Array
  entropy_B: jax.Array
  sound_B: jax.Array


def prompt_seed(prompt_id: str) -> int:
  """A 32-bit number of a prompt's id, the same in every process."""
  return int.from_bytes(hashlib.sha256(prompt_id.encode()).digest()[:4])


def rollout_keys(
  seed: jax.Array, step: jax.Array, prompt_B: jax.Array, index_B: jax.Array
) -> jax.Array:
  """Keys [B] that depend only on (seed, step, prompt id, rollout index).

  `prompt_B` holds the `prompt_seed` of each row's prompt, uint32.
  """
  key = jax.random.fold_in(jax.random.key(seed), step)

  def one(prompt, index):
    return jax.random.fold_in(jax.random.fold_in(key, prompt), index)

  return jax.vmap(one)(prompt_B, index_B)


def keep_top(logits_BV: jax.Array, s: Sampling) -> jax.Array:
  """The logits, with -inf for the tokens that `s` cuts off.

  It keeps the top_k largest tokens that are at least min_p, and of these the
  smallest set of mass >= top_p (arXiv 1904.09751). top_p counts the mass that
  is left after min_p and top_k. Tokens tied with the last one kept are kept.
  `thresholds` says what is rounded; meshes that agree on the logits agree on
  the tokens that are kept.
  """
  if s.min_p > 0.0:
    least_B1 = jnp.max(logits_BV, -1, keepdims=True) + math.log(s.min_p)
    logits_BV = jnp.where(logits_BV >= least_B1, logits_BV, -jnp.inf)
  if s.top_p == 1.0 and s.top_k == 0:
    return logits_BV
  least_B1 = thresholds.least_kept(logits_BV, top_p=s.top_p, top_k=s.top_k)
  return jnp.where(logits_BV >= least_B1, logits_BV, -jnp.inf)


def block_size(vocab: int) -> int:
  """The largest power of two up to BLOCK that keeps blocks on one shard.

  It depends only on the vocabulary, so every mesh draws the same tokens.
  """
  sizes = (BLOCK >> i for i in range(BLOCK.bit_length()))
  return next((n for n in sizes if vocab % (n * SHARDS) == 0), BLOCK)


def draw(
  keys_B: jax.Array, logits_BV: jax.Array, s: Sampling, temperature: jax.Array
) -> Draw:
  """Draws a token for each row.

  `temperature` is a float32 scalar above 0 and may be traced; a greedy draw
  does not read it. Other draws are exact: first a block of tokens is drawn by
  its total mass, then a token by its share of the block, both by Gumbel-max.
  """
  logits_BV = logits_BV.astype(jnp.float32)
  full_norm_B = jax.nn.logsumexp(logits_BV, axis=-1)
  sound_B = jnp.isfinite(full_norm_B)
  if s.greedy:
    token_B = jnp.argmax(logits_BV, -1).astype(jnp.int32)
    zero_B = jnp.zeros_like(full_norm_B)
    full_logp_B = jnp.max(logits_BV, -1) - full_norm_B
    return Draw(token_B, zero_B, full_logp_B, zero_B, sound_B)
  # A product, because XLA makes one of a division by a constant; bits must
  # agree.
  logits_BV *= 1.0 / temperature
  if s.cuts:
    logits_BV = keep_top(logits_BV, s)
  B, V = logits_BV.shape
  block = block_size(V)
  pads = (0, 0), (0, -V % block)
  padded_BV = jnp.pad(logits_BV, pads, constant_values=-jnp.inf)
  logits_BCV = padded_BV.reshape(B, -1, block)
  mass_BC = jax.nn.logsumexp(logits_BCV, axis=-1)
  norm_B = jax.nn.logsumexp(mass_BC, axis=-1)
  split_B2 = jax.vmap(jax.random.split)(keys_B)
  block_B = jnp.argmax(mass_BC + _gumbel(split_B2[:, 0], mass_BC.shape[1]), -1)
  inside_BV = jnp.take_along_axis(logits_BCV, block_B[:, None, None], 1)[:, 0]
  place_B = jnp.argmax(inside_BV + _gumbel(split_B2[:, 1], block), -1)
  chosen_B = jnp.take_along_axis(inside_BV, place_B[:, None], 1)[:, 0]
  logp_BV = logits_BV - norm_B[:, None]
  probs_BV = jnp.exp(logp_BV)
  return Draw(
    token_B=(block_B * block + place_B).astype(jnp.int32),
    logp_B=chosen_B - norm_B,
    full_logp_B=chosen_B * temperature - full_norm_B,
    entropy_B=-jnp.sum(jnp.where(probs_BV > 0, probs_BV * logp_BV, 0.0), -1),
    # A tiny temperature can push finite logits out of the range of float32.
    sound_B=sound_B & jnp.isfinite(norm_B),
  )


def _gumbel(keys_B: jax.Array, count: int) -> jax.Array:
  return jax.vmap(lambda key: jax.random.gumbel(key, (count,)))(keys_B)
