"""Decoding several tokens a step: drafts, verified exactly.

Once few rollouts are left, a decode step computes mostly slots without one.
`verify` gives these to the rollouts that are left: each has W rows, for its
next token and for W - 1 drafts of the tokens after it. A step costs what a
decode step costs, and draws 1 to W tokens of each rollout.

A draft is a fixed token, copied from what the rollout has read and written
(`drafts`; such drafts are known as prompt lookup decoding). Speculative
sampling (arXiv 2211.17192, theorem 1) accepts a draft x from q with probability
min(1, p(x) / q(x)), and draws from norm(max(p - q, 0)) if it does not. With q a
point mass at x, that is: accept with probability p(x), else draw from p without
x. To draw y from p and accept if y = x is the same: P(y = x) = p(x), and y,
given that y is not x, has just that distribution. So nothing is drawn but y,
and with the key that `decode` has for its place: place by place, the tokens are
those of `decode`, not only their distribution. Drafts decide how many of them a
step gives, never which.

Nor do they change a bit of it where layers are apart, by tests on a CPU. A
batch's rows do not depend on each other, and one program decodes with drafts
and without them: only its arguments tell which rows are one rollout's. A row
attends arrays of the same values and shapes in both cases (`staging.Staging`).
Of stacked layers XLA for CPUs (jax 0.12) may round the last bit of a logp
otherwise. A TPU, which has stacked layers, reads pages once for the W queries
of a rollout, in a product of more rows: there nothing is shown.
"""

import functools

import jax
import jax.numpy as jnp

from acereason_jax.kernels import paged_attention
from acereason_jax.models import base
from acereason_jax.rollout import cache as cache_lib
from acereason_jax.rollout import exchange, programs, tail
from acereason_jax.rollout import sampling as sampling_lib
from acereason_jax.rollout import staging as staging_lib

# The most tokens before a place that a draft may have in common with it.
MATCHED = 4


def verify(
  model: base.Model,
  cache: cache_lib.Cache,
  params: base.Tree,
  pool: jax.Array,
  origin: jax.Array,
  temperature: jax.Array,
  control_BF: jax.Array,
  table_BP: jax.Array,
  history_RL: jax.Array,
  shared: jax.Array,
  *,
  width: int,
  chunk: int,
  sampling: sampling_lib.Sampling,
  ending: programs.Ending,
) -> tuple[jax.Array, exchange.Drawn]:
  """`programs.decode`; if `shared`, by steps of `width` tokens of each rollout.

  Then each `width` rows of `control_BF` and `table_BP` are the same, a group,
  and so are those of the result. `history_RL` holds what a group's drafts may
  be copied from: each row ends in the rollout's next input token, and begins
  with tail.NOTHING if it is shorter. A rollout that has its `chunk` tokens
  waits for the others: so chunks stay parts of pages, and the tokens staged
  together stay the same.
  """
  slot, shared = exchange.Slot(*control_BF.T), shared > 0
  keys_B, w_VD = programs.rollout_keys(origin, slot), model.head(params)
  stops = jnp.array(ending.tokens, jnp.int32)
  staging = staging_lib.choose(params)

  def step(carry: programs.Carry) -> programs.Carry:
    drawn, puts = carry.drawn, []
    rows = staging_lib.Rows(width, shared, drawn.count_B)
    token_B = _with_drafts(carry.token_B, drawn, history_RL, rows)

    def attend(layer, q, k, v):
      k, v = cache.spread_kv(k), cache.spread_kv(v)
      own, put = staging.attend_drafts(carry.staged, layer, q, k, v, rows)
      puts.append(put)
      where = table_BP, slot.prefix, slot.start, slot.length
      seen = cache.read_groups(width, shared, q, pool, layer, *where)
      return paged_attention.merge(own, seen).astype(q.dtype)

    x_BD, kv = model.extend(
      params, token_B, slot.position + rows.place_B, attend
    )
    kv = jax.tree.map(cache.spread_kv, kv)
    staged = staging.put_drafts(carry.staged, puts, kv, rows)
    place_B = slot.drawn + rows.place_B
    new = programs.draw(x_BD, w_VD, keys_B, place_B, sampling, temperature)
    accept = functools.partial(_accept, ending, stops, slot, rows, token_B, new)
    token_B, drawn = accept(carry.token_B, drawn)
    return programs.Carry(carry.step + 1, token_B, drawn, staged)

  more = lambda carry: jnp.any(_goes_on(carry.drawn))
  carry = programs.begin(slot, staging, pool, chunk, w_VD.dtype)
  carry = jax.lax.while_loop(more, step, carry)
  return programs.end(carry, slot, staging, cache, pool)


def _with_drafts(token_B, drawn, history_RL, rows) -> jax.Array:
  """The tokens that a step reads: a group's next one, and drafts after it."""
  W = rows.width
  text_RS = jnp.concatenate([history_RL, drawn.tokens_BT[::W]], axis=1)
  end_R = history_RL.shape[1] - 1 + drawn.count_B[::W]
  draft_RW = drafts(text_RS, end_R, W - 1)
  token_RW = jnp.concatenate([token_B[::W, None], draft_RW], axis=1)
  return jnp.where(rows.shared, token_RW.reshape(token_B.shape), token_B)


def _goes_on(drawn: exchange.Drawn) -> jax.Array:
  """Whether each row still wants tokens of this call."""
  room = drawn.count_B < drawn.tokens_BT.shape[1]
  return room & (drawn.ended_B == exchange.RUNNING)


def _accept(ending, stops, slot, rows, input_B, new_B, token_B, drawn):
  """Takes each rollout's tokens, up to the first that differs from its draft.

  `input_B` is what the step read, `new_B` what it drew; a row's draft of what
  it drew is the input of the next row of its group. Every token passes through
  the functions of `decode`. Returns each rollout's next input token and
  `drawn`.
  """
  going_B = _goes_on(drawn)
  for i in range(rows.width):
    if i:
      going_B &= rows.shared & (token_B == rows.of(i, input_B))
    new = sampling_lib.Draw(*(rows.of(i, x) for x in new_B))
    new, after = programs.force(ending, slot, new, drawn, drawn.count_B)
    after = programs.note(stops, slot, new, after, drawn.count_B)
    drawn = jax.tree.map(functools.partial(_take, going_B), after, drawn)
    token_B = _take(going_B, new.token_B, token_B)
    going_B &= _goes_on(drawn)
  return token_B, drawn


def _take(going_B, new, old):
  """The rows of `new` that go on, the others of `old`; scalars are shared."""
  if not old.ndim:
    return old
  return jnp.where(going_B.reshape(-1, *[1] * (old.ndim - 1)), new, old)


def drafts(text_RS: jax.Array, end_R: jax.Array, count: int) -> jax.Array:
  """`count` tokens that may follow each row's token at `end`, [R, count].

  They followed the latest of the earlier places that have the most of the last
  MATCHED tokens in common with it. A copy that reaches the end goes on with
  itself, as text does that repeats a period.
  """
  S = text_RS.shape[1]
  place_S, same_RS, matched_RS = jnp.arange(S), True, 0
  for n in range(MATCHED):
    last_R1 = jnp.take_along_axis(
      text_RS, jnp.maximum(end_R - n, 0)[:, None], axis=1
    )
    # What rolls around the end is not before the place.
    same_RS &= (jnp.roll(text_RS, n, axis=1) == last_R1) & (place_S >= n)
    matched_RS += same_RS.astype(jnp.int32)
  score_RS = jnp.where(
    place_S < end_R[:, None], matched_RS * S + place_S, tail.NOTHING
  )
  best_R = jnp.argmax(score_RS, axis=1)
  period_R = jnp.maximum(end_R - best_R, 1)
  after_RW = best_R[:, None] + 1 + jnp.arange(count) % period_R[:, None]
  after_RW = jnp.minimum(after_RW, end_R[:, None])
  return jnp.maximum(jnp.take_along_axis(text_RS, after_RW, axis=1), 0)
