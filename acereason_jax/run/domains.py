"""A domain, from its fields of the config: its prompts and its judges."""

import dataclasses
import functools
from typing import Any

import jax

from acereason_jax import types
from acereason_jax.config import reader
from acereason_jax.console import terminal
from acereason_jax.data import references, sources
from acereason_jax.models import tokens
from acereason_jax.run import values
from acereason_jax.verifiers.pool import pool as pool_lib


def build_domain(
  c: reader.Reader,
  name: str,
  alone: bool,
  tokenizer: Any,
  stops: tuple[int, ...],
) -> values.Domain:
  """Builds a domain and reads its rows; its ids begin with its name, if any."""
  prefix = '' if alone else f'{name}/'
  try:
    tokens.check_thinking(
      tokenizer, stops, opens=c.prompt.opens, reasons=c.prompt.reasons
    )
  except ValueError as e:
    raise ValueError(f'config.prompt.{e}') from e
  prompts, digests = {}, {}
  for source in (references.TRAIN, references.HELDOUT):
    prompts[source], digests[source] = read_prompts(
      c, source, name, prefix, tokenizer
    )
  make = functools.partial(
    pool_lib.VerifierPool,
    workers=c.judge.workers,
    timeout_seconds=c.judge.timeout_seconds,
    confine=c.judge.confine,
  )
  arguments = dict(reasons=c.prompt.reasons) | c.judge.verify.kwargs()
  judges = functools.partial(make, arguments.pop('fn'), arguments)
  limits = c.judge.batch_seconds, c.judge.max_failed_share
  references_pool = None
  if c.judge.reference:
    references_pool = functools.partial(make, c.judge.reference, {})
  return values.Domain(
    name=name,
    where='' if alone else f'domains.{name}.',
    prompts=prompts,
    digests=digests,
    evaluate_before=c.heldout.before,
    heldout_per_prompt=c.heldout.per_prompt,
    open_judges=lambda: values.Judges(judges(), *limits),
    open_reference_pool=references_pool,
  )


def read_prompts(
  c: reader.Reader, name: str, domain: str, prefix: str, tokenizer: Any
) -> tuple[list[types.Prompt], str]:
  """(prompts of config.train_data or config.heldout_data, the rows' digest)."""
  rows = getattr(c, name).build()
  prompts, dropped = sources.to_prompts(
    rows,
    tokenizer,
    chats_tokens=functools.partial(tokens.chats_tokens, opens=c.prompt.opens),
    system=c.prompt.system or None,
    examples=c.prompt.examples,
    suffix=c.prompt.suffix,
    starter=c.prompt.starter,
    max_tokens=c.prompt.window,
  )
  # Not `metrics.say`: that loads TensorBoard, which plans do not need.
  if dropped and jax.process_index() == 0:
    terminal.say(
      f'{name}: dropped {len(dropped)} of {len(rows)} prompts longer than '
      f'config.prompt.window={c.prompt.window} tokens: '
      f'{references.first_few(dropped)}'
    )
  prompts = [
    dataclasses.replace(p, id=prefix + p.id, domain=domain) for p in prompts
  ]
  return prompts, sources.digest(rows)
