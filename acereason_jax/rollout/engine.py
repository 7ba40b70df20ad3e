"""Prompts in, rollouts out: continuous batching over a paged cache.

Slots are static and every call has one shape, so two programs, a chunk of
decode steps and a piece of prefill (programs.py), serve every batch. A rollout
starts at the start of a chunk, so its bits depend only on its own tokens, not
on the other slots.
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Collection, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from acereason_jax import mesh as mesh_lib
from acereason_jax import types
from acereason_jax.hosts import watchdog
from acereason_jax.models import base
from acereason_jax.rollout import cache as cache_lib
from acereason_jax.rollout import (
  engine_sizes,
  exchange,
  programs,
  schedule,
  slots,
  tail,
  verify,
)
from acereason_jax.rollout import requests as requests_lib
from acereason_jax.rollout import sampling as sampling_lib
from acereason_jax.rollout import trace as trace_lib


@dataclasses.dataclass(frozen=True)
class Engine:
  """A compiled sampler, made by `make_engine`; it holds no state between calls.

  sizes: static sizes of the engine.
  vocab: size of the vocabulary; token ids are below it.
  greedy: whether it takes the most likely tokens.
  ending: rules that end a rollout.
  pool: shape, dtype and sharding of the cache pool.
  empty_pool: () -> a new cache pool.
  prefill: `programs.prefill`, compiled.
  decode: `programs.decode`, or `verify.verify` if it drafts, compiled.
  place: host array -> the same array with its rows sharded over the mesh.
  to_text: token ids -> text.
  """

  sizes: engine_sizes.Sizes
  vocab: int
  greedy: bool
  ending: programs.Ending
  pool: jax.ShapeDtypeStruct
  empty_pool: Callable[[], jax.Array]
  prefill: Callable[..., jax.Array]
  decode: Callable[..., tuple[jax.Array, exchange.Drawn]]
  place: Callable[[np.ndarray], jax.Array]
  to_text: Callable[[np.ndarray], str]

  def stream(
    self,
    params: base.Tree,
    requests: Sequence[requests_lib.Request],
    *,
    seed: int,
    step: int,
    temperature: float,
    trace: trace_lib.Trace | None = None,
    until: Callable[[], bool] = lambda: False,
    unwanted: Callable[[], Collection[str]] = tuple,
  ) -> Iterator[types.Rollout]:
    """Yields rollouts as they end; the next chunk runs while the caller works.

    A request that cannot be served gives a rollout with stop 'error' at once.
    `trace` is filled meanwhile. A new `temperature` compiles nothing. `until`
    is asked once after each chunk; once true, the stream ends with the rollouts
    that have ended by then. So is `unwanted`, for ids of prompts whose waiting
    requests are dropped: the stream does not yield those.

    Raises:
      ValueError: a temperature that this engine does not support: a greedy
        engine takes 0, any other takes more than 0.
    """
    self._check_temperature(temperature)
    trace = trace_lib.Trace() if trace is None else trace
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
    # From `free` until it decodes, the device is idle except for prefill.
    ended, free = [], time.perf_counter()
    while plan.busy:
      prefilled = trace.prefill_seconds
      calls = plan.admit(sampling_lib.prompt_seed)
      pool = self._prefill(params, pool, calls, trace)
      # Every process makes the same choice, of the same schedule.
      slots_R = tail.groups(plan) if self.sizes.speculate else None
      rows = self.rows(
        *(plan.control() if slots_R is None else tail.of_groups(plan, slots_R))
      )
      pool, drawn = self.decode(params, pool, origin, temperature, *rows)
      trace.host_seconds += time.perf_counter() - free
      trace.host_seconds -= trace.prefill_seconds - prefilled
      yield from (self._rollout(*end) for end in ended)
      drawn = jax.device_get(drawn)
      free = time.perf_counter()
      if slots_R is not None:
        trace.saved_steps += tail.saved_steps(drawn)
        trace.draft_steps += tail.draft_steps(drawn, slots_R)
        drawn = tail.whole(drawn, slots_R)
      ended = plan.record(drawn, find_stop)
      trace.seconds = free - began
      watchdog.progress()
      if until():
        break
      plan.drop(unwanted())
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
    trace: trace_lib.Trace | None = None,
  ) -> list[tuple[types.Rollout, ...]]:
    """`groups` rollouts of each prompt, in order; see `stream`."""
    asked = requests_lib.for_prompts(prompts, groups, self.sizes.max_tokens)
    flat = [request for group in asked for request in group]
    rollouts = self.stream(
      params, flat, seed=seed, step=step, temperature=temperature, trace=trace
    )
    found = {rollout.key: rollout for rollout in rollouts}
    return [tuple(found[r.key] for r in group) for group in asked]

  def _prefill(
    self,
    params: base.Tree,
    pool: jax.Array,
    calls: Sequence[exchange.Pieces],
    trace: trace_lib.Trace,
  ) -> jax.Array:
    began = time.perf_counter()
    for pieces in calls:
      pieces = exchange.Pieces(*map(self.place, pieces))
      pool = self.prefill(params, pool, pieces)
    if calls:
      # This waits only to separate its time from that of decoding.
      jax.block_until_ready(pool)
      trace.prefill_seconds += time.perf_counter() - began
    return pool

  def rows(
    self,
    control_BF: np.ndarray,
    table_BP: np.ndarray,
    history_RL: np.ndarray | None = None,
  ) -> tuple[jax.Array | np.ndarray, ...]:
    """The last arguments of `decode`: rows that are slots, or are groups.

    They are groups of W if they have a history, as by `tail.of_groups`.
    """
    control = self.place(control_BF), self.place(table_BP)
    if not self.sizes.speculate:
      return control
    shared = np.int32(history_RL is not None)
    if not shared:
      history_RL = np.zeros(tail.history_shape(self.sizes), np.int32)
    return *control, self.place(history_RL), shared

  def _check_temperature(self, temperature: float) -> None:
    if self.greedy and temperature != 0:
      raise ValueError(
        f'temperature={temperature}: this engine is greedy; give 0, or make '
        'one with Sampling(greedy=False)'
      )
    # The device divides by the float32 value.
    if not self.greedy and not 0 < np.float32(temperature) < np.inf:
      raise ValueError(
        f'temperature={temperature}: give more than 0, or 0 to an engine made '
        'with Sampling(greedy=True)'
      )

  def _problem(self, request: requests_lib.Request) -> str:
    """Why this request cannot be served; '' if it can be."""
    tokens, sizes = request.prompt.tokens, self.sizes
    if not len(tokens):
      return 'the prompt is empty'
    if len(tokens) > sizes.window:
      return f'a prompt of {len(tokens)} tokens; at most {sizes.window} fit'
    if tokens.min() < 0 or tokens.max() >= self.vocab:
      bad = tokens[(tokens < 0) | (tokens >= self.vocab)][0]
      return f'token {bad} is outside the vocabulary of {self.vocab}'
    if not 1 <= request.limit <= sizes.max_tokens:
      return f'limit {request.limit}: give 1 to {sizes.max_tokens} tokens'
    return ''

  def _find_stop(self, live: slots.Live, fresh: int) -> int | None:
    """Tokens up to the one that completes a stop string."""
    strings = self.ending.strings
    tokens = live.tokens()
    # A token has at least one byte, so no string begins before this.
    end = tokens[-(fresh + max(len(s.encode()) for s in strings)) :]

    def has(count: int) -> bool:
      text = self.to_text(end[:count])
      return any(s in text for s in strings)

    if not has(len(end)):
      return None
    first = len(end) - fresh + 1
    ends = (n for n in range(first, len(end) + 1) if has(n))
    return len(tokens) - len(end) + next(ends)

  def _rollout(self, live: slots.Live, reason: int) -> types.Rollout:
    columns = (np.concatenate(x)[: live.drawn] for x in zip(*live.parts))
    tokens, logp, full_logp, entropy = columns
    first = min(self.ending.budget, live.drawn)
    detail = 'the logits were not finite' if reason == exchange.ERROR else ''
    return types.Rollout(
      prompt_id=live.request.prompt.id,
      index=live.request.index,
      tokens=tokens,
      logp=logp,
      full_logp=full_logp,
      stop=exchange.REASONS[reason],
      text=self.to_text(tokens),
      entropy=float(entropy.sum(dtype=np.float64)),
      forced=(first, min(first + live.forced, live.drawn)),
      detail=detail,
    )


def _failed(request: requests_lib.Request, problem: str) -> types.Rollout:
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
  sizes: engine_sizes.Sizes,
  sampling: sampling_lib.Sampling,
  ending: programs.Ending,
  kv_dtype: jnp.dtype,
  to_text: Callable[[np.ndarray], str],
) -> Engine:
  """An engine on `mesh`; several may share a mesh, each with its own pool.

  The tokens of a call come back replicated, so that every process of the mesh
  holds every rollout and makes the same schedule.

  Raises:
    ValueError: sizes that do not fit each other, the mesh or the model.
  """
  engine_sizes.check(sizes)
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
  decode = programs.decode
  if sizes.speculate:
    width = sizes.speculate + 1
    decode = functools.partial(verify.verify, width=width)
  return Engine(
    sizes=sizes,
    vocab=model.specs['embed'].shape[0],
    greedy=sampling.greedy,
    ending=ending,
    pool=jax.ShapeDtypeStruct(shape, kv_dtype, sharding=cache.sharding),
    empty_pool=jax.jit(
      lambda: jnp.zeros(shape, kv_dtype), out_shardings=cache.sharding
    ),
    prefill=jax.jit(
      functools.partial(programs.prefill, model, cache),
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
