"""Simulates a batch of rollouts: the engine's schedule, without a device.

`rollout.schedule.Schedule` decides slots, pages and calls as in a run. Only the
tokens are missing: a rollout ends when its simulated length is reached. A call
takes as long as the shard with the most to read.
"""

import functools
import math
from typing import NamedTuple

import numpy as np

from acereason_jax import machines, types
from acereason_jax.models import shape as shape_lib
from acereason_jax.planning import lengths as lengths_lib
from acereason_jax.planning import links, traffic, values
from acereason_jax.rollout import engine_sizes, exchange, schedule, slots, tail
from acereason_jax.rollout import requests as requests_lib
from acereason_jax.rollout import trace as trace_lib

CAUSES = (
  'weights',
  'kv',
  'products',
  'sampler',
  'network',
  'host',
  'prefill',
)


class Load(NamedTuple):
  """What the steps of a call read, by shard.

  rows_S: rollouts.
  context_S: tokens in their caches, on average over the steps.
  longest_S: cache positions up to the end of the longest rollout, at the start
    of the call.
  slots: slots of a shard; those without a rollout are computed too.
  steps: number of steps.
  """

  rows_S: np.ndarray
  context_S: np.ndarray
  longest_S: np.ndarray
  slots: int
  steps: int


class Price(NamedTuple):
  """What a decode step and a prefill call take; equal values are equal.

  shape: sizes of the model.
  rates: what a device reaches.
  tensor: devices that share a rollout.
  dtype_bytes, matrix_bytes, kv_bytes: see `values.Work`.
  sums: seconds of the sums over the tensor axis in a step.
  prefill: seconds of a prefill call.
  host: seconds of the host for each call of decode.
  accepted: see `values.Assumed`.
  """

  shape: shape_lib.Shape
  rates: traffic.Rates
  tensor: int
  dtype_bytes: int
  matrix_bytes: int
  kv_bytes: int
  sums: float
  prefill: float
  host: float
  accepted: float = 1.0

  def weights(
    self, rows: np.ndarray, slots: int
  ) -> tuple[np.ndarray, np.ndarray]:
    """Seconds of a step for weights, and for products beyond; by rollouts.

    `slots` are those of a shard: products also compute those without a rollout.
    """
    read = traffic.weight_bytes(
      self.shape, rows, self.dtype_bytes, self.matrix_bytes, self.tensor
    )
    read = np.broadcast_to(read / self.rates.bandwidth, rows.shape)
    flops = 2 * self.shape.products * slots / self.tensor
    return read, np.maximum(flops / self.rates.products - read, 0.0)

  def kv(self, load: Load) -> np.ndarray:
    """Seconds of a step in which each shard reads its cache."""
    token = traffic.token_bytes(self.shape, self.kv_bytes, self.tensor)
    return load.context_S * token / self.rates.bandwidth

  def step(self, load: Load, kv_S: np.ndarray) -> dict[str, float]:
    """Seconds of a step by cause, of the slowest shard."""
    weights_S, products_S = self.weights(load.rows_S, load.slots)
    slowest = int((kv_S + weights_S + products_S).argmax())
    # Slots without a rollout are sampled too.
    sampled = traffic.sampler_bytes(self.shape, load.slots, self.tensor)
    return {
      'weights': float(weights_S[slowest]),
      'kv': float(kv_S[slowest]),
      'products': float(products_S[slowest]),
      'sampler': sampled / self.rates.bandwidth,
      'network': self.sums,
      'host': self.host / load.steps,
    }


class Clocked(NamedTuple):
  """`Price` of measured programs, whose seconds are not known by cause.

  Steps count as 'weights', which all read. 'host' is what a call takes beside
  its steps.
  """

  timings: values.Timings

  # Drafts were not timed.
  accepted = 1.0

  @property
  def prefill(self) -> float:
    return self.timings.prefill

  def kv(self, load: Load) -> np.ndarray:
    read_S, width = load.context_S, self.timings.width
    if width:
      read_S = load.slots * (-(-load.longest_S // width) * width)
    return read_S * self.timings.token

  def step(self, load: Load, kv_S: np.ndarray) -> dict[str, float]:
    return dict.fromkeys(CAUSES[:-1], 0.0) | {
      'weights': self.timings.step,
      'kv': float(kv_S.max()),
      'host': self.timings.call / load.steps,
    }


class Simulated(NamedTuple):
  """A simulated batch.

  decoded: its figures.
  ends: (prompt, rollout, seconds from the start) of each, in order of ends.
  lengths: length of each rollout, tokens, [prompts, groups].
  idle: seconds of the tail times the share of slots that are idle in it.
  uneven: seconds before the tail in which the busiest shard reads more than the
    mean of the cache.
  reread: seconds before the tail in which weights are read.
  """

  decoded: values.Decoded
  ends: tuple[tuple[int, int, float], ...]
  lengths: np.ndarray
  idle: float
  uneven: float
  reread: float


def price(
  work: values.Work,
  sizes: engine_sizes.Sizes,
  hardware: machines.Hardware,
  assumed: values.Assumed,
) -> Price:
  """The price of an engine's steps on the mesh of rollouts."""
  shape, tensor = work.shape, work.rollout_mesh['tensor']
  rates = traffic.rates(hardware.kind, assumed)
  ring = links.rings(work.rollout_mesh, hardware, assumed)['tensor']
  return Price(
    shape=shape,
    rates=rates,
    tensor=tensor,
    dtype_bytes=work.dtype_bytes,
    matrix_bytes=work.matrix_bytes,
    kv_bytes=work.kv_bytes,
    sums=layer_sums(shape, sizes.slots / sizes.shards, work.dtype_bytes, ring),
    prefill=prefill_seconds(work, sizes, rates, ring),
    host=assumed.host_seconds,
    accepted=assumed.accepted,
  )


def layer_sums(
  shape: shape_lib.Shape, tokens: float, dtype_bytes: int, ring: links.Ring
) -> float:
  """Seconds of the sums of a forward pass: two a layer, one of embeddings."""
  size = tokens * shape.embed * dtype_bytes
  return (2 * shape.layers + 1) * ring.sum(size)


def prefill_seconds(
  work: values.Work,
  sizes: engine_sizes.Sizes,
  rates: traffic.Rates,
  ring: links.Ring,
) -> float:
  """Seconds of a prefill call, which always computes all rows of `piece`."""
  shape, rows = work.shape, sizes.rows // sizes.shards
  tokens = rows * sizes.piece
  read = traffic.weight_bytes(
    shape, tokens, work.dtype_bytes, work.matrix_bytes, ring.devices
  )
  flops = traffic.prefill_flops(shape, rows, sizes.piece) / ring.devices
  sums = layer_sums(shape, tokens, work.dtype_bytes, ring)
  return max(read / rates.bandwidth, flops / rates.products) + sums


@functools.lru_cache(maxsize=256)
def simulate(
  sizes: engine_sizes.Sizes,
  draws: lengths_lib.Draws,
  prompt_tokens: int,
  price: Price | Clocked,
) -> Simulated:
  """A batch of simulated lengths; see `run`."""
  return run(sizes, lengths_lib.draw(draws), prompt_tokens, price)


def run(
  sizes: engine_sizes.Sizes,
  lengths_PG: np.ndarray,
  prompt_tokens: int | np.ndarray,
  price: Price | Clocked,
  expected_P: np.ndarray | None = None,
) -> Simulated:
  """A batch of these lengths, requested as `run.collect` does.

  `prompt_tokens` is one number, or one for each prompt. A prompt's tokens do
  not matter, only that two prompts differ. `expected_P` are the mean lengths
  that a ledger has of the prompts, tokens; None: it has none.
  """
  P, G = lengths_PG.shape
  tokens_P = np.minimum(np.broadcast_to(prompt_tokens, P), sizes.window)
  prompts = [
    types.Prompt(str(i), '', '', np.full(max(n, 1), i, np.int32))
    for i, n in enumerate(tokens_P.tolist())
  ]
  groups = requests_lib.for_prompts(prompts, G, sizes.max_tokens)
  asked = [request for group in groups for request in group]
  if expected_P is not None:
    told = {prompt.id: n for prompt, n in zip(prompts, expected_P.tolist())}
    asked = requests_lib.longest_first(asked, told)
  trace = trace_lib.Trace()
  plan = schedule.Schedule(sizes, asked, trace)
  calls = _Calls(sizes, lengths_PG, price)
  while plan.busy:
    calls.prefilled(len(plan.admit(lambda _: 0)))
    steps, count_B, ended_B = calls.next(plan)
    calls.ended(plan.advance(steps, count_B, ended_B))
  return Simulated(
    decoded=calls.decoded(trace),
    ends=tuple(calls.ends),
    lengths=lengths_PG,
    idle=calls.idle,
    uneven=calls.uneven,
    reread=calls.reread,
  )


class _Calls:
  """The device of a simulation: counts tokens and seconds of calls.

  held: the rollout of each slot, or None.
  left_B, context_B: tokens that it still draws, and tokens in its cache.
  hole_B: positions of its last prompt page that hold nothing.
  """

  def __init__(
    self,
    sizes: engine_sizes.Sizes,
    lengths_PG: np.ndarray,
    price: Price | Clocked,
  ):
    self.sizes, self.price = sizes, price
    self.length = lengths_PG.tolist()
    self.held: list[slots.Live | None] = [None] * sizes.slots
    self.left_B = np.zeros(sizes.slots, np.int64)
    self.context_B = np.zeros(sizes.slots, np.int64)
    self.hole_B = np.zeros(sizes.slots, np.int64)
    self.parts = dict.fromkeys(CAUSES, 0.0)
    self.seconds = self.tail = self.idle = 0.0
    self.uneven = self.reread = 0.0
    # Tokens that the busiest shard and the mean shard read: all, before the
    # tail.
    self.read = np.zeros((2, 2))
    self.count = 0
    self.ends: list[tuple[int, int, float]] = []

  def prefilled(self, calls: int) -> None:
    self.parts['prefill'] += calls * self.price.prefill
    self.seconds += calls * self.price.prefill

  def _look(self, plan: schedule.Schedule) -> None:
    """Notes which slots have another rollout than before."""
    for shard in plan.shards:
      for b, live in enumerate(shard.slots, shard.first):
        if live is self.held[b]:
          continue
        self.held[b] = live
        self.left_B[b] = self.context_B[b] = self.hole_B[b] = 0
        if live is not None:
          row = self.length[int(live.request.prompt.id)]
          self.left_B[b] = min(row[live.request.index], live.request.limit)
          prompt = len(live.prefix.tokens)
          self.context_B[b] = prompt
          self.hole_B[b] = len(live.prefix.pages) * self.sizes.page - prompt

  def next(self, plan: schedule.Schedule) -> tuple[int, list[int], list[int]]:
    """(steps, tokens of each slot, state of each slot) of the next call."""
    self._look(plan)
    live_B = self.left_B > 0
    count_B = np.minimum(self.left_B, self.sizes.chunk)
    steps = int(count_B.max())
    if self.sizes.speculate and tail.groups(plan) is not None:
      steps = math.ceil(steps / self.price.accepted)
    self._pay(steps, int(count_B.sum()), live_B)
    # The end of a rollout by its limit and otherwise cost the same.
    ended_B = np.where(
      self.left_B > self.sizes.chunk, exchange.RUNNING, exchange.STOP
    )
    self.left_B -= count_B
    self.context_B += count_B
    return steps, count_B.tolist(), ended_B.tolist()

  def _pay(self, steps: int, tokens: int, live_B: np.ndarray) -> None:
    """The seconds of a call, in which contexts grow by a token each step."""
    s = self.sizes
    by_shard = lambda x_B: x_B.reshape(s.shards, -1)
    load = Load(
      rows_S=by_shard(live_B).sum(1),
      context_S=by_shard(np.where(live_B, self.context_B + steps / 2, 0.0)).sum(
        1
      ),
      longest_S=by_shard(np.where(live_B, self.context_B + self.hole_B, 0)).max(
        1
      ),
      slots=s.slots // s.shards,
      steps=steps,
    )
    kv_S = self.price.kv(load)
    step = self.price.step(load, kv_S)
    seconds = steps * sum(step.values())
    for cause, each in step.items():
      self.parts[cause] += steps * each
    self.count += 1
    self.seconds += seconds
    mean = float(kv_S.mean())
    context_S = load.context_S
    read = steps * np.array([context_S.max(), context_S.mean()])
    self.read[0] += read
    busy = tokens / (steps * s.slots)
    if busy < 0.5:
      self.tail += seconds
      self.idle += seconds * (1 - busy)
    else:
      self.read[1] += read
      self.uneven += steps * (step['kv'] - mean)
      self.reread += steps * step['weights']

  def ended(self, ended) -> None:
    for live, _ in ended:
      request = live.request
      self.ends.append((int(request.prompt.id), request.index, self.seconds))

  def decoded(self, trace: trace_lib.Trace) -> values.Decoded:
    busiest, busiest_full = (
      float(most / mean) if mean else 1.0 for most, mean in self.read
    )
    return values.Decoded(
      seconds=self.seconds,
      steps=trace.steps,
      calls=self.count,
      tokens=trace.busy,
      occupancy=trace.busy / max(trace.slots * trace.steps, 1),
      tail=self.tail / max(self.seconds, 1e-30),
      busiest=busiest,
      busiest_full=busiest_full,
      preempted=trace.preempted,
      parts=self.parts,
    )
