"""The two programs of an engine that run on the device: prefill and decode.

Inside a chunk of decode steps the pool is read-only: new keys and values are
staged, and written at the end of the chunk.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from acereason_jax.kernels import paged_attention
from acereason_jax.models import base
from acereason_jax.rollout import cache as cache_lib
from acereason_jax.rollout import exchange
from acereason_jax.rollout import sampling as sampling_lib
from acereason_jax.rollout import staging as staging_lib


class Ending(NamedTuple):
  """How a rollout, or its thinking, ends.

  tokens: ids of stop tokens; each is the last token of its rollout.
  strings: stop texts; the token that completes one is the last.
  budget: tokens without `close` after which `forced` is inserted; 0: no budget.
  close: id of '</think>'.
  forced: ids of the tokens that end the thinking.
  """

  tokens: tuple[int, ...]
  strings: tuple[str, ...] = ()
  budget: int = 0
  close: int = -1
  forced: tuple[int, ...] = ()


class Carry(NamedTuple):
  """State of the loop of `decode`, or of `verify.verify`.

  In `verify` rows differ in how many tokens they have: `drawn.count_B`.

  step: number of steps taken, int32.
  token_B: ids of the next input tokens, int32.
  drawn: tokens that the steps drew, see `exchange.Drawn`.
  staged: their keys and values, see `staging.Staging`.
  """

  step: jax.Array
  token_B: jax.Array
  drawn: exchange.Drawn
  staged: Any


def prefill(
  model: base.Model,
  cache: cache_lib.Cache,
  params: base.Tree,
  pool: jax.Array,
  pieces: exchange.Pieces,
) -> jax.Array:
  """The pool with the keys and values of one piece of each row's prompt."""
  A, T = pieces.tokens_AT.shape
  P, S = pieces.page_AP.shape[1], pool.shape[4]

  def attend(layer, q, k, v):
    k, v = cache.spread_kv(k), cache.spread_kv(v)
    return cache.prefix_read(
      q, k, v, pool, layer, pieces.table_AP, pieces.first_A
    )

  position_AT = pieces.first_A[:, None] + jnp.arange(T)
  _, kv = model.extend(params, pieces.tokens_AT, position_AT, attend)
  kv = jnp.stack([cache.spread_kv(x) for x in base.stacked_kv(kv)], axis=-2)
  L, _, _, K, _, H = kv.shape
  pages = kv.reshape(L, A, P, S, K, 2, H).transpose(0, 1, 2, 4, 5, 3, 6)
  page_W = pieces.page_AP.reshape(-1)
  return cache.write(
    pool, pages.reshape(L, A * P, K, 2, S, H), page_W, jnp.zeros_like(page_W)
  )


def decode(
  model: base.Model,
  cache: cache_lib.Cache,
  params: base.Tree,
  pool: jax.Array,
  origin: jax.Array,
  temperature: jax.Array,
  control_BF: jax.Array,
  table_BP: jax.Array,
  *,
  chunk: int,
  sampling: sampling_lib.Sampling,
  ending: Ending,
) -> tuple[jax.Array, exchange.Drawn]:
  """Up to `chunk` tokens of every live slot, and the pool with their kv.

  `origin` is (seed, step); the token of a rollout at place i is drawn with
  fold_in(its key, i). The loop ends early once no slot is live. `control_BF`
  holds the fields of `exchange.Slot`, `table_BP` the pages of each slot.
  """
  slot = exchange.Slot(*control_BF.T)
  keys_B, w_VD = rollout_keys(origin, slot), model.head(params)
  stops = jnp.array(ending.tokens, jnp.int32)
  staging = staging_lib.choose(params)

  def step(carry: Carry) -> Carry:
    i, drawn, puts = carry.step, carry.drawn, []

    def attend(layer, q, k, v):
      k, v = cache.spread_kv(k), cache.spread_kv(v)
      own, put = staging.attend(carry.staged, layer, q, k, v, i)
      puts.append(put)
      where = table_BP, slot.prefix, slot.start, slot.length
      return paged_attention.merge(
        own, cache.read(q, pool, layer, *where)
      ).astype(q.dtype)

    x_BD, kv = model.extend(params, carry.token_B, slot.position + i, attend)
    kv = jax.tree.map(cache.spread_kv, kv)
    staged = staging.put(carry.staged, puts, kv, i)
    new = draw(x_BD, w_VD, keys_B, slot.drawn + i, sampling, temperature)
    new, drawn = force(ending, slot, new, drawn, i)
    return Carry(i + 1, new.token_B, note(stops, slot, new, drawn, i), staged)

  more = lambda c: (
    (c.step < chunk) & jnp.any(c.drawn.ended_B == exchange.RUNNING)
  )
  carry = begin(slot, staging, pool, chunk, w_VD.dtype)
  carry = jax.lax.while_loop(more, step, carry)
  return end(carry, slot, staging, cache, pool)


def rollout_keys(origin: jax.Array, slot: exchange.Slot) -> jax.Array:
  """The key of each slot's rollout, of a run's (seed, step)."""
  return sampling_lib.rollout_keys(
    origin[0], origin[1], slot.seed.astype(jnp.uint32), slot.index
  )


def draw(
  x_BD: jax.Array,
  w_VD: jax.Array,
  keys_B: jax.Array,
  place_B: jax.Array,
  sampling: sampling_lib.Sampling,
  temperature: jax.Array,
) -> sampling_lib.Draw:
  """Draws each row's token, at its place in the response, from its output."""
  logits_BV = jnp.einsum(
    'bd,vd->bv', x_BD, w_VD, preferred_element_type=jnp.float32
  )
  keys_B = jax.vmap(jax.random.fold_in)(keys_B, place_B)
  return sampling_lib.draw(keys_B, logits_BV, sampling, temperature)


def begin(
  slot: exchange.Slot,
  staging: staging_lib.Staging,
  pool: jax.Array,
  T: int,
  dtype: jnp.dtype,
) -> Carry:
  """The state before the first of at most T steps."""
  L, _, K, _, _, H = pool.shape
  staged = staging.empty((L, len(slot.token), K, 2, T, H), dtype)
  return Carry(jnp.int32(0), slot.token, nothing(slot, T), staged)


def end(
  carry: Carry,
  slot: exchange.Slot,
  staging: staging_lib.Staging,
  cache: cache_lib.Cache,
  pool: jax.Array,
) -> tuple[jax.Array, exchange.Drawn]:
  """The pool with what is staged, and what was drawn, after the last step."""
  staged_LBKCTH = staging.whole(carry.staged)
  pool = cache.write(pool, staged_LBKCTH, slot.page, slot.offset)
  return pool, carry.drawn._replace(steps=carry.step)


def nothing(slot: exchange.Slot, T: int) -> exchange.Drawn:
  """The result of T steps before the first of them."""
  B = slot.token.shape[0]
  zeros = lambda dtype: jnp.zeros((B, T), dtype)
  return exchange.Drawn(
    jnp.int32(0),
    zeros(jnp.int32),
    *(zeros(jnp.float32) for _ in range(3)),
    count_B=jnp.zeros(B, jnp.int32),
    ended_B=jnp.where(slot.live > 0, exchange.RUNNING, exchange.STOP),
    forced_B=slot.forced,
    closed_B=slot.closed,
  )


def force(ending: Ending, slot, new, drawn, i):
  """Replaces the drawn tokens by the end of thinking, where that is due.

  `i` is their column, one for all rows or one for each.
  """
  if not ending.budget:
    return new, drawn
  forced = jnp.array(ending.forced, jnp.int32)
  due_B = (drawn.closed_B == 0) & (slot.drawn + i >= ending.budget)
  token_B = forced[jnp.minimum(drawn.forced_B, len(forced) - 1)]
  zero = lambda x: jnp.where(due_B, 0.0, x)
  new = new._replace(
    token_B=jnp.where(due_B, token_B, new.token_B),
    logp_B=zero(new.logp_B),
    full_logp_B=zero(new.full_logp_B),
    entropy_B=zero(new.entropy_B),
  )
  count_B = drawn.forced_B + due_B
  over_B = (count_B == len(forced)) | (~due_B & (new.token_B == ending.close))
  closed_B = drawn.closed_B | over_B.astype(jnp.int32)
  return new, drawn._replace(forced_B=count_B, closed_B=closed_B)


def note(stops, slot, new, drawn, i) -> exchange.Drawn:
  """`drawn` with column i, or i of each row; ended rows have no more tokens."""
  if jnp.ndim(i):
    here_BT = jnp.arange(drawn.tokens_BT.shape[1]) == i[:, None]
    put = lambda x, y: jnp.where(here_BT, y[:, None], x)
  else:
    put = lambda x, y: jax.lax.dynamic_update_slice(x, y[:, None], (0, i))
  running_B = drawn.ended_B == exchange.RUNNING
  count_B = drawn.count_B + (running_B & new.sound_B)
  ended_B = jnp.select(
    [
      ~running_B,
      ~new.sound_B,
      jnp.isin(new.token_B, stops),
      slot.drawn + count_B >= slot.limit,
    ],
    [drawn.ended_B, exchange.ERROR, exchange.STOP, exchange.LENGTH],
    exchange.RUNNING,
  )
  return drawn._replace(
    tokens_BT=put(drawn.tokens_BT, new.token_B),
    logp_BT=put(drawn.logp_BT, new.logp_B),
    full_logp_BT=put(drawn.full_logp_BT, new.full_logp_B),
    entropy_BT=put(drawn.entropy_BT, new.entropy_B),
    count_B=count_B,
    ended_B=ended_B.astype(jnp.int32),
  )
