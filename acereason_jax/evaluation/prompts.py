"""From the problems of a benchmark to prompts, and what is checked of them."""

import dataclasses
import functools
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from acereason_jax import types
from acereason_jax.console import terminal
from acereason_jax.data import sources
from acereason_jax.evaluation import problems, values
from acereason_jax.models import tokens

LAST_CHARS = 60


def read(
  ready: problems.Ready, tokenizer: tokens.Tokenizer, stops: tuple[int, ...]
) -> list[types.Prompt]:
  """The prompts of a benchmark; their ids begin with its name.

  Raises:
    ValueError: one line.
  """
  bench = ready.benchmark
  where = f'config.benchmarks.{bench.name}.prompt'
  ask = bench.prompt
  found, _ = sources.to_prompts(
    [problem.row for problem in ready.problems],
    tokenizer,
    chats_tokens=functools.partial(tokens.chats_tokens, opens=ask.opens),
    system=ask.system or None,
    examples=ask.examples,
    suffix=ask.suffix,
    starter=ask.starter,
    max_tokens=sys.maxsize,
  )
  reasons = any(j.verify.get('reasons', True) for j in bench.judges.values())
  try:
    tokens.check_thinking(tokenizer, stops, opens=ask.opens, reasons=reasons)
  except ValueError as e:
    raise ValueError(f'{where}: {e}') from e
  bos = tokenizer.bos_token_id
  for prompt in found:
    if bos is not None and list(prompt.tokens[:2]) == [bos, bos]:
      raise ValueError(
        f'{where}: the prompt of {prompt.id!r:.60} begins with two BOS tokens '
        f'({bos}); expected one: fix the chat template of '
        f'{tokenizer.name_or_path}, or prompt.system'
      )
  return [
    dataclasses.replace(p, id=f'{bench.name}/{p.id}', domain=bench.name)
    for p in found
  ]


def about_first(
  prompts: Sequence[types.Prompt], tokenizer: tokens.Tokenizer
) -> dict[str, Any]:
  """What is printed and kept of a benchmark's first prompt.

  bos: number of BOS tokens in it; None if the tokenizer has none.
  ends: its last characters.
  """
  ids = prompts[0].tokens
  bos = tokenizer.bos_token_id
  text = tokenizer.decode(ids.tolist(), skip_special_tokens=False)
  return dict(
    id=prompts[0].id.partition('/')[2],
    tokens=len(ids),
    bos=None if bos is None else int(np.sum(ids == bos)),
    ends=text[-LAST_CHARS:],
  )


def window(
  plan: values.Plan,
  prompts: Mapping[str, list[types.Prompt]],
  model: str,
  context: int,
) -> int:
  """Most tokens of a prompt. Raises ValueError if one does not fit."""
  longest = 0
  for bench in plan.benchmarks:
    prompt = max(prompts[bench.name], key=lambda p: len(p.tokens))
    count = len(prompt.tokens)
    if plan.window and count > plan.window:
      raise ValueError(
        f'config.window={plan.window}: the prompt of {prompt.id!r:.100} has '
        f'{count} tokens; give at least that, or 0'
      )
    if count + bench.max_tokens > context:
      remedy = 'give shorter prompts'
      if count < context:
        remedy = f'give at most {context - count}'
      raise ValueError(
        f'config.benchmarks.{bench.name}.max_tokens={bench.max_tokens}: with '
        f'the {count} tokens of prompt {prompt.id!r:.100} longer than the '
        f'context of {model}, {context}; {remedy}'
      )
    longest = max(longest, count)
  return plan.window or longest


def opening(prompt: types.Prompt, bos: int | None) -> int:
  """Number of BOS tokens that a prompt begins with."""
  others = np.flatnonzero(prompt.tokens != bos)
  return int(others[0]) if len(others) else len(prompt.tokens)


def told(ready: problems.Ready, first: Mapping[str, Any], opening: int) -> str:
  """The line for a benchmark: its problems and how its first prompt begins.

  `opening` is the number of BOS tokens that it begins with.
  """
  bos = f'{opening} BOS' if opening else 'no BOS token'
  return (
    f'{ready.benchmark.name}: {problems.counted(ready)} problems x '
    f'{ready.benchmark.n}; the first prompt, '
    f'{terminal.one_line(first["id"], LAST_CHARS)}, has {first["tokens"]} '
    f'tokens, begins with {bos} and ends {first["ends"]!a}'
  )
