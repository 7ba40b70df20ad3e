"""One token a row from logits, with the log-probability it was drawn with.

`logp` is under the distribution drawn from: after temperature, top-k and
top-p. A temperature of 0 is greedy, and then every logp is 0.
"""

import dataclasses
import hashlib

import jax
import jax.numpy as jnp

# A draw picks a block, then a token in it: noise for V / BLOCK + BLOCK
# numbers instead of V.
BLOCK = 256


@dataclasses.dataclass(frozen=True)
class Sampling:
  """temperature >= 0; 0 < top_p <= 1; top_k of 0 keeps all tokens."""

  temperature: float
  top_p: float
  top_k: int


def prompt_seed(prompt_id: str) -> int:
  """A 32-bit number of a prompt's id, the same in every process."""
  return int.from_bytes(hashlib.sha256(prompt_id.encode()).digest()[:4])


def rollout_keys(
  seed: jax.Array,
  step: jax.Array,
  seed_P: jax.Array,
  first_P: jax.Array,
  groups: int,
) -> jax.Array:
  """Keys [P * G] that hang on (seed, step, prompt id, rollout index) alone.

  `seed_P` holds the `prompt_seed` of each prompt, uint32, and `first_P` the
  index of its first rollout.
  """
  key = jax.random.fold_in(jax.random.key(seed), step)

  def one(prompt, index):
    return jax.random.fold_in(jax.random.fold_in(key, prompt), index)

  index_PG = first_P[:, None] + jnp.arange(groups)
  return jax.vmap(one)(jnp.repeat(seed_P, groups), index_PG.reshape(-1))


def keep_top(logits_BV: jax.Array, top_p: float, top_k: int) -> jax.Array:
  """-inf outside the top_k largest and the smallest set of mass >= top_p.

  Tokens tied with the last one kept are kept. top_p (arXiv 1904.09751) counts
  the mass that is left after top_k.
  """
  sorted_BV = -jnp.sort(-logits_BV, axis=-1)
  if top_k > 0:
    rank_V = jnp.arange(logits_BV.shape[-1])
    sorted_BV = jnp.where(rank_V < top_k, sorted_BV, -jnp.inf)
  probs_BV = jax.nn.softmax(sorted_BV, axis=-1)
  before_BV = jnp.cumsum(probs_BV, axis=-1) - probs_BV
  kept_BV = (before_BV < top_p) & (sorted_BV > -jnp.inf)
  least_B1 = jnp.min(
    jnp.where(kept_BV, sorted_BV, jnp.inf), axis=-1, keepdims=True
  )
  return jnp.where(logits_BV >= least_B1, logits_BV, -jnp.inf)


def draw(
  keys_B: jax.Array, logits_BV: jax.Array, sampling: Sampling
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """A token, its logp and the entropy of what it was drawn from; each [B].

  Natural log, float32. Exact: the block is drawn by its total mass, the
  token by its share of that block (Gumbel-max both times).
  """
  logits_BV = logits_BV.astype(jnp.float32)
  B, V = logits_BV.shape
  if sampling.temperature == 0.0:
    zero_B = jnp.zeros((B,), jnp.float32)
    return jnp.argmax(logits_BV, -1).astype(jnp.int32), zero_B, zero_B
  logits_BV /= sampling.temperature
  if sampling.top_p < 1.0 or sampling.top_k > 0:
    logits_BV = keep_top(logits_BV, sampling.top_p, sampling.top_k)
  logits_BV = jnp.pad(
    logits_BV, ((0, 0), (0, -V % BLOCK)), constant_values=-jnp.inf
  )
  logits_BCV = logits_BV.reshape(B, -1, BLOCK)
  mass_BC = jax.nn.logsumexp(logits_BCV, axis=-1)
  norm_B = jax.nn.logsumexp(mass_BC, axis=-1)
  split_B2 = jax.vmap(jax.random.split)(keys_B)
  block_B = jnp.argmax(mass_BC + _gumbel(split_B2[:, 0], mass_BC.shape[1]), -1)
  inside_BV = jnp.take_along_axis(logits_BCV, block_B[:, None, None], 1)[:, 0]
  place_B = jnp.argmax(inside_BV + _gumbel(split_B2[:, 1], BLOCK), -1)
  chosen_B = jnp.take_along_axis(inside_BV, place_B[:, None], 1)[:, 0]
  logp_BV = logits_BV - norm_B[:, None]
  probs_BV = jnp.exp(logp_BV)
  entropy_B = -jnp.sum(jnp.where(probs_BV > 0, probs_BV * logp_BV, 0.0), -1)
  token_B = (block_B * BLOCK + place_B).astype(jnp.int32)
  return token_B, chosen_B - norm_B, entropy_B


def _gumbel(keys_B: jax.Array, count: int) -> jax.Array:
  return jax.vmap(lambda key: jax.random.gumbel(key, (count,)))(keys_B)
