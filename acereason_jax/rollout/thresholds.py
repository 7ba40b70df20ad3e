"""The least logit that top-k and top-p keep, found without a sort.

A threshold is searched bit by bit in the ordered bits of float32: each of 32
passes reads all logits, and sums the weights of those at or above a candidate.
A vocabulary in shards sends only these sums. More bits a pass would be fewer
passes, but XLA fuses them worse: two are slower (docs/measured.md).

The sums are of whole numbers, so they are exact in any order: every mesh finds
the same threshold. Rounding is only in a token's weight, exp(logit - largest),
which is cut off after LIMBS x `limb_bits` binary digits, and in top_p times the
sum of all, which is rounded to float32.
"""

import jax
import jax.numpy as jnp

# Weights are whole numbers of so many limbs.
LIMBS = 3
_LOWEST = -(1 << 31)


def limb_bits(vocab: int) -> int:
  """Bits of a limb of a weight; sums over the vocabulary fit into int32.

  Weights below 2 ** -(LIMBS * bits) of the largest are 0: for 152,064 tokens,
  2 ** -39, so that what is cut off is less than 3e-7 of the largest.
  """
  return 31 - vocab.bit_length()


def least_kept(
  logits_BV: jax.Array, *, top_p: float = 1.0, top_k: int = 0
) -> jax.Array:
  """The least logit of each row that is kept, [B, 1].

  The top_k largest are kept (0: all), and of these the smallest set whose mass
  is at least top_p of theirs. -inf or NaN in a row do not change other rows.
  """
  V = logits_BV.shape[-1]
  bits = limb_bits(V)
  key_BV = _ordered(logits_BV)
  largest_B1 = jnp.max(logits_BV, axis=-1, keepdims=True)
  least_B1 = jnp.full_like(key_BV[:, :1], _LOWEST)
  top_k = min(top_k, V)
  ones = (jnp.ones_like(key_BV),)
  if top_k:
    target = (jnp.full_like(least_B1, top_k),)
    least_B1 = _search(key_BV, ones, target, bits)
  if top_p < 1.0:
    weight_BV = jnp.exp(logits_BV - largest_B1)
    limbs = _limbs(weight_BV, bits)
    total = _masked_sums(key_BV >= least_B1, limbs)
    if top_k:
      # Ties with the last of top_k are kept, but have no mass beyond top_k.
      (count,) = _masked_sums(key_BV >= least_B1, ones)
      last = (
        jnp.max(jnp.where(key_BV == least_B1, x, 0), -1, keepdims=True)
        for x in limbs
      )
      total = tuple(s - (count - top_k) * x for s, x in zip(total, last))
    target = _limbs(top_p * _number(total, bits), bits)
    found_B1 = _search(key_BV, limbs, target, bits)
    # No token at all reaches a mass that rounds to 0.
    found_B1 = jnp.minimum(found_B1, _ordered(largest_B1))
    least_B1 = jnp.maximum(least_B1, found_B1)
  return _logit(least_B1)


def _search(key_BV, weights, target, bits: int) -> jax.Array:
  """The largest key [B, 1] at or above which the weights reach `target`.

  `weights` and `target` are limbs, most significant first. The lowest key if
  all weights together do not reach it.
  """

  def one(i, least_B1):
    # The first bit leads from negative keys to the others: int32 wraps.
    here_B1 = least_B1 + (jnp.int32(1) << (31 - i))
    sums = _masked_sums(key_BV >= here_B1, weights)
    reached_B1 = _reaches(_carried(sums, bits), target)
    return jnp.where(reached_B1, here_B1, least_B1)

  start_B1 = jnp.full_like(key_BV[:, :1], _LOWEST)
  return jax.lax.fori_loop(0, 32, one, start_B1)


def _masked_sums(mask_BV, limbs) -> tuple[jax.Array, ...]:
  return tuple(
    jnp.sum(jnp.where(mask_BV, x, 0), axis=-1, keepdims=True) for x in limbs
  )


def _limbs(x: jax.Array, bits: int) -> tuple[jax.Array, ...]:
  """Whole numbers that add up to x, of units 2 ** -bits, 2 ** (-2 bits), ..."""
  found = []
  for _ in range(LIMBS):
    x *= float(1 << bits)
    whole = jnp.floor(x)
    found.append(whole.astype(jnp.int32))
    x -= whole
  return tuple(found)


def _carried(limbs, bits: int) -> tuple[jax.Array, ...]:
  """The same number, with all limbs except the first below 2 ** bits."""
  *rest, last = limbs
  found = []
  for limb in rest[::-1]:
    found.insert(0, last & ((1 << bits) - 1))
    last = limb + (last >> bits)
  return last, *found


def _reaches(limbs, target) -> jax.Array:
  """Whether a number is at least `target`; both are carried."""
  found = limbs[-1] >= target[-1]
  for x, y in zip(limbs[-2::-1], target[-2::-1]):
    found = (x > y) | ((x == y) & found)
  return found


def _number(limbs, bits: int) -> jax.Array:
  units = (2.0 ** (-bits * (i + 1)) for i in range(len(limbs)))
  return sum(x.astype(jnp.float32) * unit for x, unit in zip(limbs, units))


def _ordered(logits: jax.Array) -> jax.Array:
  """int32 keys in the order of the logits; equal only for equal ones."""
  key = jax.lax.bitcast_convert_type(logits, jnp.int32)
  return jnp.where(key < 0, key ^ jnp.int32(0x7FFFFFFF), key)


def _logit(key: jax.Array) -> jax.Array:
  """The logit of a key; what is below -inf becomes -inf."""
  bits = jnp.where(key < 0, key ^ jnp.int32(0x7FFFFFFF), key)
  logit = jax.lax.bitcast_convert_type(bits, jnp.float32)
  return jnp.where(jnp.isnan(logit), -jnp.inf, logit)
