"""Prompts in, rollouts out: a lockstep batch with a KV cache, in one jit.

The seam that continuous batching will fill: `Engine.sample` takes prompts
and gives rollouts, and nothing outside knows how they were batched. Shapes
are fixed at construction, so nothing recompiles after the first batch.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from acereason_jax import types
from acereason_jax.models import base
from acereason_jax.rollout import sampling as sampling_lib


class Samples(NamedTuple):
  """Device values of B = P * G rollouts; columns past `length_B` are junk."""

  tokens_BR: jax.Array
  logp_BR: jax.Array
  entropy_BR: jax.Array
  length_B: jax.Array
  stopped_B: jax.Array


def _record(stops: jax.Array, out: Samples, drawn, i: jax.Array) -> Samples:
  """`out` with what was drawn at offset i; ended rollouts stay as long."""
  token_B, logp_B, entropy_B = drawn
  put = lambda x, y: jax.lax.dynamic_update_slice(x, y[:, None], (0, i))
  return Samples(
    put(out.tokens_BR, token_B),
    put(out.logp_BR, logp_B),
    put(out.entropy_BR, entropy_B),
    out.length_B + ~out.stopped_B,
    out.stopped_B | jnp.isin(token_B, stops),
  )


def sample(
  model: base.Model,
  params: base.Tree,
  tokens_PS: jax.Array,
  length_P: jax.Array,
  keys_B: jax.Array,
  *,
  room: int,
  sampling: sampling_lib.Sampling,
  stop_tokens: tuple[int, ...],
) -> Samples:
  """G = B / P rollouts of up to `room` tokens for each right-padded prompt.

  Token i of a rollout is drawn with fold_in(key, i). The loop ends when all
  rollouts have: a stop token is the last token of its rollout. A prompt of
  length 0 is padding, whose rollouts count as ended.
  """
  B, R = keys_B.shape[0], room
  groups = B // tokens_PS.shape[0]
  padding_B = jnp.repeat(length_P == 0, groups)
  length_P = jnp.maximum(length_P, 1)
  w_VD = model.head(params)

  def next_token(x_D, i):
    logits = jnp.einsum(
      'bd,vd->bv', x_D, w_VD, preferred_element_type=jnp.float32
    )
    if i is None:
      logits, i = jnp.repeat(logits, groups, axis=0), 0
    keys = jax.vmap(jax.random.fold_in, (0, None))(keys_B, i)
    return sampling_lib.draw(keys, logits, sampling)

  record = functools.partial(_record, jnp.array(stop_tokens, jnp.int32))

  def step(carry):
    i, token_B, out, cache = carry
    x_BD, cache = model.decode(params, token_B, i - 1, cache)
    drawn = next_token(x_BD, i)
    return i + 1, drawn[0], record(out, drawn, i), cache

  zeros = lambda dtype: jnp.zeros((B, R), dtype)
  out = Samples(
    zeros(jnp.int32),
    zeros(jnp.float32),
    zeros(jnp.float32),
    jnp.zeros((B,), jnp.int32),
    padding_B,
  )
  x_PD, cache = model.prefill(params, tokens_PS, length_P, groups, R)
  drawn = next_token(x_PD, None)
  carry = jnp.int32(1), drawn[0], record(out, drawn, 0), cache
  more = lambda carry: (carry[0] < R) & ~jnp.all(carry[2].stopped_B)
  return jax.lax.while_loop(more, step, carry)[2]


@dataclasses.dataclass(frozen=True)
class Engine:
  """A compiled sampler of `prompts` x `groups` rollouts; see `make_engine`."""

  prompts: int
  groups: int
  window: int
  pad_token: int
  run: Callable[..., Samples]
  place: Callable[[np.ndarray], jax.Array]
  to_text: Callable[[np.ndarray], str]

  def sample(
    self,
    params: base.Tree,
    prompts: Sequence[types.Prompt],
    *,
    seed: int,
    step: int,
  ) -> tuple[list[tuple[types.Rollout, ...]], dict[str, float]]:
    """The G rollouts of each prompt, and metrics of the batch.

    At most `self.prompts` prompts, none longer than `self.window` tokens; a
    short batch is padded, so that its shapes, and bits, stay the same.
    """
    ids = [p.id for p in prompts]
    rows = self.prompts - len(prompts)
    tokens_PS = np.full((self.prompts, self.window), self.pad_token, np.int32)
    length_P = np.zeros(self.prompts, np.int32)
    for row, prompt in enumerate(prompts):
      length_P[row] = len(prompt.tokens)
      tokens_PS[row, : len(prompt.tokens)] = prompt.tokens
    # A prompt that stands twice in a batch goes on with the next indices:
    # the same key would give it the same rollouts again.
    first_P = np.zeros(self.prompts, np.int32)
    for row, prompt_id in enumerate(ids):
      first_P[row] = self.groups * ids[:row].count(prompt_id)
    seeds = [sampling_lib.prompt_seed(i) for i in ids] + [0] * rows
    inputs = tokens_PS, length_P, np.array(seeds, np.uint32), first_P
    origin = np.array([seed, step], np.int32)
    out = jax.device_get(self.run(params, origin, *map(self.place, inputs)))
    real = len(prompts) * self.groups
    out = Samples(*(x[:real] for x in out))
    rollouts = [
      self._rollout(out, ids[b // self.groups], first_P[b // self.groups], b)
      for b in range(real)
    ]
    grouped = [
      tuple(rollouts[i : i + self.groups]) for i in range(0, real, self.groups)
    ]
    return grouped, _metrics(out)

  def _rollout(
    self, out: Samples, prompt_id: str, first: int, b: int
  ) -> types.Rollout:
    length = int(out.length_B[b])
    tokens = out.tokens_BR[b, :length]
    return types.Rollout(
      prompt_id=prompt_id,
      index=int(first) + b % self.groups,
      tokens=tokens,
      logp=out.logp_BR[b, :length],
      stop='stop' if out.stopped_B[b] else 'length',
      text=self.to_text(tokens),
    )


def _metrics(out: Samples) -> dict[str, float]:
  R = out.tokens_BR.shape[1]
  real_BR = np.arange(R) < out.length_B[:, None]
  return dict(
    response_tokens=float(out.length_B.sum()),
    response_length=float(out.length_B.mean()),
    truncated_share=float(1.0 - out.stopped_B.mean()),
    entropy=float(out.entropy_BR[real_BR].mean()),
  )


def make_engine(
  model: base.Model,
  *,
  prompts: int,
  groups: int,
  window: int,
  room: int,
  sampling: sampling_lib.Sampling,
  stop_tokens: tuple[int, ...],
  pad_token: int,
  to_text: Callable[[np.ndarray], str],
  place: Callable[[np.ndarray], jax.Array],
  replicated: jax.sharding.Sharding,
) -> Engine:
  """An engine for prompts of up to `window` and responses of `room` tokens.

  `place` puts a host array with a leading prompt dimension on the mesh; what
  comes back is `replicated`, so that every process holds every rollout.
  """

  @functools.partial(jax.jit, out_shardings=replicated)
  def run(params, origin, tokens_PS, length_P, seed_P, first_P):
    keys_B = sampling_lib.rollout_keys(
      origin[0], origin[1], seed_P, first_P, groups
    )
    return sample(
      model,
      params,
      tokens_PS,
      length_P,
      keys_B,
      room=room,
      sampling=sampling,
      stop_tokens=stop_tokens,
    )

  return Engine(prompts, groups, window, pad_token, run, place, to_text)
