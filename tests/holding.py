"""Runs acereason_jax.train, and tells which earlier rollouts a step still has.

    python holding.py all --config=...

prints 'held 0' at the begin of each step if no judged group of what came before
is in memory. Those that a thread still writes have time to go.
"""

import gc
import sys
import time
import weakref

from acereason_jax import train
from acereason_jax.console import command_line
from acereason_jax.run import collect

GUARD = 60.0
sys.argv.pop(1)
seen = []
whole = collect.collect


def left():
  gc.collect()
  return sum(group() is not None for group in seen)


def collecting(engine, params, prompts, tools, asking, **kwargs):
  if asking.phase == 'train' and not asking.taken:
    until = time.monotonic() + GUARD
    while (count := left()) and time.monotonic() < until:
      time.sleep(0.1)
    print(f'of {len(seen)} groups held {count}', flush=True)
  found = whole(engine, params, prompts, tools, asking, **kwargs)
  seen.extend(map(weakref.ref, found.groups))
  return found


collect.collect = collecting
command_line.run(train.main)
