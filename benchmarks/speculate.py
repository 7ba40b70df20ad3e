"""Drafts for the last rollouts of a batch: what they save and change.

    python -m benchmarks.speculate
    python -m benchmarks.speculate --kinds=reason --live 1 --temperatures 0.6

SmolLM2-135M in float32 on this machine's CPU writes `tokens` tokens for each of
`live` prompts in an engine of `slots` slots, with drafts and without. The two
engines run in turn, `repeats` times; seconds are CPU seconds, the least of
each. `ratio` is plain over drafting, `steps_ratio` the same of decode steps;
`narrow` is an engine of as many slots as there are rollouts, over drafting: a
CPU pays for slots that have none, an accelerator hardly does. `different`
counts tokens that differ between drafting and plain, `gap` is the largest
difference of a logp. For 4 prompts x 4 rollouts, `tokens_a_step` is what drafts
of the texts would have given, for 1, 2 and 4 rollouts that wait for each other,
with `history` of a rollout's own text or of its siblings' too; `least` and
`most` are of one rollout. It prints one JSON line per case.
"""

import argparse
import functools
import json
import time

import jax
import numpy as np

from acereason_jax import types
from acereason_jax.models import tokens as tokens_lib
from acereason_jax.rollout import requests as requests_lib
from acereason_jax.rollout import trace as trace_lib
from acereason_jax.rollout import verify
from benchmarks import rollout

SUM = (
  'What is 2 + 5?\n2 + 5 = \\boxed{7}\nWhat is 11 + 4?\n11 + 4 = \\boxed{15}\n'
  'What is %d + %d?\n'
)
REASON = (
  'Question: A farmer has %d hens and %d ducks. Each hen lays 5 eggs a week '
  'and each duck lays 3. He sells the eggs in boxes of 6 for 4 dollars a box. '
  'How much does he earn in 8 weeks? Think step by step, check every step, and '
  'try a second way before you answer.\nAnswer: Let us think step by step.'
)
KINDS = dict(sums=SUM, reason=REASON)


def parse_args() -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  add = functools.partial(parser.add_argument, type=int)
  add('--slots', default=16)
  add('--speculate', default=3)
  add('--tokens', default=256)
  add('--page', default=64)
  add('--live', default=[1, 2, 4], nargs='*')
  add('--repeats', default=2)
  add('--texts', default=1, help='0: no lookups in texts.')
  parser.add_argument(
    '--temperatures', default=[1.0, 0.6], nargs='+', type=float
  )
  parser.add_argument('--kinds', default=list(KINDS), nargs='+')
  return parser.parse_args()


def make_engine(setup, args, slots: int, speculate: int):
  return rollout.make_engine(
    setup,
    slots=slots,
    page=args.page,
    chunk=args.page,
    window=args.page * 2,
    max_tokens=args.tokens,
    speculate=speculate,
  )


def run(setup, engine, asked, temperature):
  """(rollouts, CPU seconds, trace)."""
  trace, began = trace_lib.Trace(), time.process_time()
  rollouts = list(
    engine.stream(
      setup.own, asked, seed=1, step=0, temperature=temperature, trace=trace
    )
  )
  seconds = time.process_time() - began
  return {r.key: r for r in rollouts}, seconds, trace


@functools.partial(jax.jit, static_argnums=2)
def draft(text_RS, end_R, count):
  return verify.drafts(text_RS, end_R, count)


def taken(before: np.ndarray, drawn: np.ndarray, width: int) -> np.ndarray:
  """How many tokens a step would take that begins at each place of `drawn`.

  Drafts are a function of the text: of what is `before` a response, and of it.
  """
  text_S = np.concatenate([before, drawn])
  place_R = np.arange(len(drawn))
  text_RS = np.broadcast_to(text_S, (len(drawn), len(text_S)))
  found_RW = np.asarray(draft(text_RS, len(before) + place_R - 1, width - 1))
  next_RW = place_R[:, None] + np.arange(width - 1)
  # What is drawn last needs no draft.
  right_RW = (found_RW == np.take(drawn, next_RW, mode='clip')) & (
    next_RW < len(drawn) - 1
  )
  return 1 + np.cumprod(right_RW, axis=1).sum(1)


def steps_of(counts: np.ndarray, chunk: int) -> np.ndarray:
  """Steps of each chunk of a rollout; a chunk ends a step."""
  steps = np.zeros(-(-len(counts) // chunk), int)
  for i in range(len(steps)):
    at, end = i * chunk, min((i + 1) * chunk, len(counts))
    while at < end:
      at += counts[at]
      steps[i] += 1
  return steps


def texts(setup, args, engines, kind: str, temperature: float):
  """Lookups in the texts of 4 prompts x 4 rollouts, by width and history."""
  prompts = make_prompts(setup, kind, 4)
  asked = [
    r for g in requests_lib.for_prompts(prompts, 4, args.tokens) for r in g
  ]
  sizes = 16, 0
  if sizes not in engines:
    engines[sizes] = make_engine(setup, args, *sizes)
  found, _, _ = run(setup, engines[sizes], asked, temperature)
  rows = []
  for history in ('own', 'siblings'):
    for width in (2, 4, 8):
      steps = []
      for (name, index), r in found.items():
        (prompt,) = (p.tokens for p in prompts if p.id == name)
        # The siblings have ended; a rollout's own text is later, so preferred.
        others = [
          x.tokens for (n, i), x in found.items() if n == name and i != index
        ]
        before = np.concatenate(
          [*(others if history == 'siblings' else []), prompt]
        )
        counts = taken(before, r.tokens, width)
        steps.append(steps_of(counts, args.page))
      steps = np.array(steps)
      # Of each four rollouts: one, two or all together wait for each other.
      together = {
        n: args.tokens
        / steps.reshape(-1, n, steps.shape[1]).max(1).sum(1).mean()
        for n in (1, 2, 4)
      }
      rows.append(
        dict(
          kind=kind,
          temperature=temperature,
          history=history,
          width=width,
          tokens_a_step=together,
          least=float(args.tokens / steps.sum(1).max()),
          most=float(args.tokens / steps.sum(1).min()),
        )
      )
  return rows


def make_prompts(setup, kind: str, count: int) -> list[types.Prompt]:
  tokenizer = tokens_lib.load_tokenizer(setup.directory)
  prompts = [
    types.Prompt(
      f'{kind}{i}',
      '',
      '',
      np.array(tokenizer.encode(KINDS[kind] % (7 + i, 4 + i)), np.int32),
    )
    for i in range(count)
  ]
  tokenizer.close()
  return prompts


def case(setup, args, engines, kind: str, live: int, temperature: float):
  prompts = make_prompts(setup, kind, live)
  asked = [
    r for g in requests_lib.for_prompts(prompts, 1, args.tokens) for r in g
  ]
  names = dict(plain=(args.slots, 0), drafts=(args.slots, args.speculate))
  names |= dict(narrow=(live, 0))
  seconds = {name: [] for name in names}
  found, traces = {}, {}
  for again in range(args.repeats + 1):
    for name, sizes in names.items():
      if sizes not in engines:
        engines[sizes] = make_engine(setup, args, *sizes)
      found[name], spent, traces[name] = run(
        setup, engines[sizes], asked, temperature
      )
      # The first compiles.
      if again:
        seconds[name].append(spent)
  least = {name: min(spent) for name, spent in seconds.items()}
  pairs = [(r, found['drafts'][key]) for key, r in found['plain'].items()]
  return dict(
    kind=kind,
    live=live,
    temperature=temperature,
    ratio=least['plain'] / least['drafts'],
    narrow=least['narrow'] / least['drafts'],
    steps_ratio=traces['plain'].steps / traces['drafts'].steps,
    different=int(sum((a.tokens != b.tokens).sum() for a, b in pairs)),
    gap=float(max(np.abs(a.logp - b.logp).max() for a, b in pairs)),
    cpu_seconds=least,
  )


def main() -> None:
  args = parse_args()
  setup, engines = rollout.setup(), {}
  for kind in args.kinds:
    for temperature in args.temperatures if args.texts else ():
      for found in texts(setup, args, engines, kind, temperature):
        print(json.dumps(found), flush=True)
    for live in args.live:
      for temperature in args.temperatures:
        found = case(setup, args, engines, kind, live, temperature)
        print(json.dumps(found), flush=True)


if __name__ == '__main__':
  main()
