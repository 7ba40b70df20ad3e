"""Runs jails as another user, and the collected programs and attacks.

    python jailed.py serve T3          answers pickled calls of Jail.run
    python jailed.py programs T3       judges code_programs, prints JSON
    python jailed.py attacks T3        judges code_attacks, prints JSON
    python jailed.py attacks T2 3      the same as if Landlock had only ABI 3
    python jailed.py attacks T2 3 leak escape     those of two categories

It needs no more than the standard library, so that any interpreter serves.
"""

import functools
import json
import pickle
import sys
import types

try:
  import numpy  # noqa: F401
except ImportError:
  # Only annotations name its arrays.
  sys.modules['numpy'] = types.ModuleType('numpy')
  sys.modules['numpy'].ndarray = object

import code_attacks
import code_programs

from acereason_jax.verifiers import code
from acereason_jax.verifiers.programs import jail, running

# Tests that the clock decides; they take most of the time.
_SLOW = 1.0


def serve(tier):
  with jail.Jail(tier) as jailed:
    reply = jailed.tier
    while True:
      pickle.dump(reply, sys.stdout.buffer)
      sys.stdout.buffer.flush()
      try:
        arguments = pickle.load(sys.stdin.buffer)
      except EOFError:
        return
      reply = jailed.run(*arguments)


def judge(program, task, tier):
  """The verdict's status, and the detail."""
  # No verdict of another tier may be remembered.
  code._memo.clear()
  response = f'</think>\n```python\n{program}\n```\n'
  text = json.dumps(task)
  verdict = code.verify(response, text, tier=tier, budget_seconds=4.0)
  return verdict.status, verdict.detail


def programs(tier):
  """{name: detail}."""
  every = code_programs.PROGRAMS
  return {p.name: judge(p.program, p.task, tier)[1] for p in every}


def attacks(tier, *categories):
  """{name: [status, detail, what the trainer found]}."""
  chosen = code_attacks.chosen(*categories)
  return {a.name: attack(a, tier) for a in chosen}


def attack(chosen, tier):
  with code_attacks.Context(_SLOW) as context:
    if chosen.category == 'leak':
      # Environment and descriptors leak only into what starts after them.
      vars(running.jails).clear()
    expected = context.expected(chosen)
    if chosen.kind == 'call':
      task = {'fn': 'solve', 'tests': [{'args': [], 'expected': expected}]}
    else:
      task = {'tests': [{'stdin': '', 'expected': expected}]}
    task |= {'kind': chosen.kind, 'time_limit_seconds': _SLOW}
    program = context.fill(chosen.program)
    for _ in range(chosen.runs):
      status, detail = judge(program, task, tier)
      if status == 'right':
        break
    return status, detail, chosen.check(context) if chosen.check else ''


if __name__ == '__main__':
  work, tier, *more = sys.argv[1:]
  if more:
    # Every jail here uses only features of Landlock that an older kernel has.
    jail.Jail = functools.partial(jail.Jail, newest_abi=int(more.pop(0)))
  if work == 'serve':
    serve(tier)
  else:
    work = {'programs': programs, 'attacks': attacks}[work]
    json.dump(work(tier, *more), sys.stdout)
