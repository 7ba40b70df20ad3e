"""All collected programs and attacks, judged in jails of every tier.

As root and as another user. Minutes each: python -m pytest -m sweeps.
"""

import functools
import json
import subprocess
import sys

import code_attacks
import code_programs
import pytest
import test_jail

from acereason_jax.verifiers import jail

if sys.platform != 'linux':
  pytest.skip('Linux alone confines', allow_module_level=True)

GUARD = 1200
COMBINATIONS = [
  pytest.param(*c, marks=pytest.mark.sweeps, id=str(c))
  for c in test_jail.COMBINATIONS
]


@functools.cache
def _judged(work, user, tier):
  done = subprocess.run(
    test_jail.command(user, work, tier),
    capture_output=True,
    text=True,
    timeout=GUARD,
    **test_jail.as_user(user),
  )
  assert done.returncode == 0, done.stderr
  return json.loads(done.stdout)


def _allowed(user, tier):
  try:
    test_jail.Remote(user, tier).close()
  except jail.SandboxError as e:
    pytest.skip(f'this host refuses {tier} to {user}: {e}')


# How fast lines are printed decides whether time or space is used up first.
OTHERWISE = {'one line for ever': ('OLE', 'TLE')}


@pytest.mark.parametrize(('user', 'tier'), COMBINATIONS)
def test_programs_earn_their_status(user, tier):
  _allowed(user, tier)
  found = _judged('programs', user, tier)
  wrong = {}
  for program in code_programs.PROGRAMS:
    expected = OTHERWISE.get(program.name, (program.status,))
    detail = found[program.name]
    if program.needs and 'ModuleNotFoundError' in detail:
      continue
    if detail.split()[0] not in expected:
      wrong[program.name] = (program.status, detail)
  assert not wrong


@pytest.mark.parametrize(('user', 'tier'), COMBINATIONS)
def test_attacks_fail(user, tier):
  _allowed(user, tier)
  found = _judged('attacks', user, tier)
  worked = {
    name: result
    for name, result in found.items()
    if result[0] in ('right', 'error') or result[2]
  }
  assert not worked
  assert set(found) == {a.name for a in code_attacks.ATTACKS}
