"""Prompts in, rollouts out: continuous batching over a paged cache.

Slots are static and every call has one shape, so that two programs, a chunk
of decode steps and a piece of prefill, serve every batch. Inside a chunk the
pool is read-only: new keys and values are staged, and written at its end. A
rollout starts at the start of a chunk, so that its bits hang on its own
tokens alone, whatever stands in the other slots.
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from acereason_jax import mesh as mesh_lib
from acereason_jax import types
from acereason_jax.kernels import paged_attention
from acereason_jax.models import base
from acereason_jax.rollout import cache as cache_lib
from acereason_jax.rollout import sampling as sampling_lib
from acereason_jax.rollout import schedule


class Ending(NamedTuple):
  """What ends a rollout, or its thinking.

  tokens: ids, each the last of its rollout. strings: texts; the token that
  completes one is the last. After `budget` tokens without `close` (the id of
  '</think>'), the tokens `forced` are put in; 0 is no budget.
  """

  tokens: tuple[int, ...]
  strings: tuple[str, ...] = ()
  budget: int = 0
  close: int = -1
  forced: tuple[int, ...] = ()


class _Carry(NamedTuple):
  """Of the decode loop."""

  step: jax.Array
  token_B: jax.Array
  drawn: schedule.Drawn
  staged_LBKCTH: jax.Array


def prefill(
  model: base.Model,
  cache: cache_lib.Cache,
  params: base.Tree,
  pool: jax.Array,
  pieces: schedule.Pieces,
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
  kv = jnp.stack([cache.spread_kv(x) for x in kv], axis=-2)
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
) -> tuple[jax.Array, schedule.Drawn]:
  """Up to `chunk` tokens of every live slot, and the pool with their kv.

  `origin` is (seed, step); the token of a rollout at place i is drawn with
  fold_in(its key, i). Ends early once no slot is live.
  """
  slot = schedule.Slot(*control_BF.T)
  B, T = control_BF.shape[0], chunk
  keys_B = sampling_lib.rollout_keys(
    origin[0], origin[1], slot.seed.astype(jnp.uint32), slot.index
  )
  w_VD = model.head(params)
  stops = jnp.array(ending.tokens, jnp.int32)

  def step(carry: _Carry) -> _Carry:
    i, drawn = carry.step, carry.drawn

    def attend(layer, q, k, v):
      k, v = cache.spread_kv(k), cache.spread_kv(v)
      staged = carry.staged_LBKCTH[layer]
      own = paged_attention.own_attention(q, k, v, staged, i)
      where = table_BP, slot.prefix, slot.start, slot.length
      return paged_attention.merge(
        own, cache.read(q, pool, layer, *where)
      ).astype(q.dtype)

    x_BD, kv = model.extend(params, carry.token_B, slot.position + i, attend)
    kv = jnp.stack([cache.spread_kv(x) for x in kv], axis=-2)
    staged = jax.lax.dynamic_update_slice_in_dim(
      carry.staged_LBKCTH, kv[:, :, :, :, None], i, 4
    )
    logits_BV = jnp.einsum(
      'bd,vd->bv', x_BD, w_VD, preferred_element_type=jnp.float32
    )
    keys = jax.vmap(jax.random.fold_in)(keys_B, slot.drawn + i)
    new = sampling_lib.draw(keys, logits_BV, sampling, temperature)
    new, drawn = _force(ending, slot, new, drawn, i)
    return _Carry(i + 1, new.token_B, _note(stops, slot, new, drawn, i), staged)

  zeros = lambda dtype: jnp.zeros((B, T), dtype)
  drawn = schedule.Drawn(
    jnp.int32(0),
    zeros(jnp.int32),
    *(zeros(jnp.float32) for _ in range(3)),
    count_B=jnp.zeros(B, jnp.int32),
    ended_B=jnp.where(slot.live > 0, schedule.RUNNING, schedule.STOP),
    forced_B=slot.forced,
    closed_B=slot.closed,
  )
  L, _, K, _, _, H = pool.shape
  staged = jnp.zeros((L, B, K, 2, T, H), w_VD.dtype)
  more = lambda c: (c.step < T) & jnp.any(c.drawn.ended_B == schedule.RUNNING)
  carry = _Carry(jnp.int32(0), slot.token, drawn, staged)
  carry = jax.lax.while_loop(more, step, carry)
  pool = cache.write(pool, carry.staged_LBKCTH, slot.page, slot.offset)
  return pool, carry.drawn._replace(steps=carry.step)


def _force(ending: Ending, slot, new, drawn, i):
  """The end of thinking in place of what was drawn, where it is due."""
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


def _note(stops, slot, new, drawn, i) -> schedule.Drawn:
  """`drawn` with one more column; rows that have ended stay as they are."""
  put = lambda x, y: jax.lax.dynamic_update_slice(x, y[:, None], (0, i))
  running_B = drawn.ended_B == schedule.RUNNING
  count_B = drawn.count_B + (running_B & new.sound_B)
  ended_B = jnp.select(
    [
      ~running_B,
      ~new.sound_B,
      jnp.isin(new.token_B, stops),
      slot.drawn + count_B >= slot.limit,
    ],
    [drawn.ended_B, schedule.ERROR, schedule.STOP, schedule.LENGTH],
    schedule.RUNNING,
  )
  return drawn._replace(
    tokens_BT=put(drawn.tokens_BT, new.token_B),
    logp_BT=put(drawn.logp_BT, new.logp_B),
    full_logp_BT=put(drawn.full_logp_BT, new.full_logp_B),
    entropy_BT=put(drawn.entropy_BT, new.entropy_B),
    count_B=count_B,
    ended_B=ended_B.astype(jnp.int32),
  )


@dataclasses.dataclass(frozen=True)
class Engine:
  """A compiled sampler; see `make_engine`. It holds nothing between calls."""

  sizes: schedule.Sizes
  vocab: int
  greedy: bool
  ending: Ending
  empty_pool: Callable[[], jax.Array]
  prefill: Callable[..., jax.Array]
  decode: Callable[..., tuple[jax.Array, schedule.Drawn]]
  place: Callable[[np.ndarray], jax.Array]
  to_text: Callable[[np.ndarray], str]

  def stream(
    self,
    params: base.Tree,
    requests: Sequence[schedule.Request],
    *,
    seed: int,
    step: int,
    temperature: float,
    trace: schedule.Trace | None = None,
  ) -> Iterator[types.Rollout]:
    """Rollouts as they end; while the caller has them, the next chunk runs.

    A request that cannot be served gives a rollout with stop 'error' at once.
    `trace` is filled on the way. Another `temperature` compiles nothing.

    Raises:
      ValueError: not a temperature of this engine: 0 if it is greedy, else
        above 0.
    """
    self._check_temperature(temperature)
    trace = schedule.Trace() if trace is None else trace
    began = time.perf_counter()
    problems = [self._problem(request) for request in requests]
    for request, problem in zip(requests, problems):
      if problem:
        trace.errors += 1
        yield _failed(request, problem)
    good = [r for r, problem in zip(requests, problems) if not problem]
    plan = schedule.Schedule(self.sizes, good, trace)
    origin = np.array([seed, step], np.int32)
    temperature = np.float32(temperature)
    find_stop = self._find_stop if self.ending.strings else None
    pool = self.empty_pool() if plan.busy else None
    # The device has nothing to do from `free` until it decodes, but prefill.
    ended, free = [], time.perf_counter()
    while plan.busy:
      prefilled = trace.prefill_seconds
      calls = plan.admit(sampling_lib.prompt_seed)
      pool = self._prefill(params, pool, calls, trace)
      control = map(self.place, plan.control())
      pool, drawn = self.decode(params, pool, origin, temperature, *control)
      trace.host_seconds += time.perf_counter() - free
      trace.host_seconds -= trace.prefill_seconds - prefilled
      yield from (self._rollout(*end) for end in ended)
      drawn = jax.device_get(drawn)
      free = time.perf_counter()
      ended = plan.record(drawn, find_stop)
      trace.seconds = free - began
    yield from (self._rollout(*end) for end in ended)

  def sample(
    self,
    params: base.Tree,
    prompts: Sequence[types.Prompt],
    *,
    groups: int,
    seed: int,
    step: int,
    temperature: float,
    trace: schedule.Trace | None = None,
  ) -> list[tuple[types.Rollout, ...]]:
    """`groups` rollouts of each prompt, in order; see `stream`."""
    asked = schedule.requests(prompts, groups, self.sizes.room)
    flat = [request for group in asked for request in group]
    rollouts = self.stream(
      params, flat, seed=seed, step=step, temperature=temperature, trace=trace
    )
    found = {(r.prompt_id, r.index): r for r in rollouts}
    return [
      tuple(found[r.prompt.id, r.index] for r in group) for group in asked
    ]

  def _prefill(self, params, pool, calls, trace: schedule.Trace) -> jax.Array:
    began = time.perf_counter()
    for pieces in calls:
      pieces = schedule.Pieces(*map(self.place, pieces))
      pool = self.prefill(params, pool, pieces)
    if calls:
      # Waited for only so that its time can be told from decoding's.
      jax.block_until_ready(pool)
      trace.prefill_seconds += time.perf_counter() - began
    return pool

  def _check_temperature(self, temperature: float) -> None:
    if self.greedy and temperature != 0:
      raise ValueError(
        f'temperature={temperature}: this engine is greedy; give 0, or make '
        'one with Sampling(greedy=False)'
      )
    # What float32 makes of it is what the device divides by.
    if not self.greedy and not 0 < np.float32(temperature) < np.inf:
      raise ValueError(
        f'temperature={temperature}: give more than 0, or 0 to an engine made '
        'with Sampling(greedy=True)'
      )

  def _problem(self, request: schedule.Request) -> str:
    """Why this request cannot be served; '' if it can."""
    tokens, sizes = request.prompt.tokens, self.sizes
    if not len(tokens):
      return 'the prompt is empty'
    if len(tokens) > sizes.window:
      return f'a prompt of {len(tokens)} tokens; at most {sizes.window} fit'
    if tokens.min() < 0 or tokens.max() >= self.vocab:
      bad = tokens[(tokens < 0) | (tokens >= self.vocab)][0]
      return f'token {bad} is outside the vocabulary of {self.vocab}'
    if not 1 <= request.limit <= sizes.room:
      return f'limit {request.limit}: give 1 to {sizes.room} tokens'
    return ''

  def _find_stop(self, live: schedule.Live, fresh: int) -> int | None:
    """Tokens up to the one that completes a stop string."""
    strings = self.ending.strings
    tokens = live.tokens()
    # A token has a byte at least, so that no string begins before this.
    tail = tokens[-(fresh + max(len(s.encode()) for s in strings)) :]

    def has(count: int) -> bool:
      text = self.to_text(tail[:count])
      return any(s in text for s in strings)

    if not has(len(tail)):
      return None
    first = len(tail) - fresh + 1
    ends = (n for n in range(first, len(tail) + 1) if has(n))
    return len(tokens) - len(tail) + next(ends)

  def _rollout(self, live: schedule.Live, reason: int) -> types.Rollout:
    columns = (np.concatenate(x)[: live.drawn] for x in zip(*live.parts))
    tokens, logp, full_logp, entropy = columns
    first = min(self.ending.budget, live.drawn)
    detail = 'the logits were not finite' if reason == schedule.ERROR else ''
    return types.Rollout(
      prompt_id=live.request.prompt.id,
      index=live.request.index,
      tokens=tokens,
      logp=logp,
      full_logp=full_logp,
      stop=schedule.REASONS[reason],
      text=self.to_text(tokens),
      entropy=float(entropy.sum(dtype=np.float64)),
      forced=(first, min(first + live.forced, live.drawn)),
      detail=detail,
    )


def _failed(request: schedule.Request, problem: str) -> types.Rollout:
  nothing = np.zeros(0, np.float32)
  return types.Rollout(
    prompt_id=request.prompt.id,
    index=request.index,
    tokens=np.zeros(0, np.int32),
    logp=nothing,
    full_logp=nothing,
    stop='error',
    text='',
    detail=problem,
  )


def make_engine(
  model: base.Model,
  mesh: Mesh,
  *,
  sizes: schedule.Sizes,
  sampling: sampling_lib.Sampling,
  ending: Ending,
  kv_dtype: jnp.dtype,
  to_text: Callable[[np.ndarray], str],
) -> Engine:
  """An engine on `mesh`; several may share one, each with a pool of its own.

  What a call draws comes back replicated, so that every process of the mesh
  holds every rollout and makes the same schedule.

  Raises:
    ValueError: sizes that do not fit each other, the mesh or the model.
  """
  schedule.check(sizes)
  if sizes.shards != (shards := mesh_lib.row_shards(mesh)):
    raise ValueError(f'shards={sizes.shards}: the mesh has {shards}')
  if '' in ending.strings:
    raise ValueError('a stop string is empty: it would end every rollout')
  if ending.budget and not ending.forced:
    raise ValueError(
      f'a thinking budget of {ending.budget} tokens needs the tokens to end it'
    )
  cache = cache_lib.make_cache(model, mesh)
  shape = cache.shape(sizes.shards * sizes.pages, sizes.page)
  everywhere = mesh_lib.replicated(mesh)
  return Engine(
    sizes=sizes,
    vocab=model.specs['embed'].shape[0],
    greedy=sampling.greedy,
    ending=ending,
    empty_pool=jax.jit(
      lambda: jnp.zeros(shape, kv_dtype), out_shardings=cache.sharding
    ),
    prefill=jax.jit(
      functools.partial(prefill, model, cache),
      donate_argnums=1,
      out_shardings=cache.sharding,
    ),
    decode=jax.jit(
      functools.partial(
        decode,
        model,
        cache,
        chunk=sizes.chunk,
        sampling=sampling,
        ending=ending,
      ),
      donate_argnums=1,
      out_shardings=(cache.sharding, everywhere),
    ),
    place=functools.partial(mesh_lib.spread, sharding=mesh_lib.rows(mesh)),
    to_text=to_text,
  )
