"""All collected programs and attacks, judged in jails of every tier.

As root and as another user. Minutes each: python -m pytest -m sweeps. There, of
what older versions of Landlock hold, only the attacks that depend on it most;
all of them, and in T3: python -m pytest -m abis.
"""

import functools
import json
import subprocess
import sys

import code_attacks
import code_programs
import pytest
import test_jail

from acereason_jax.verifiers.programs import jail

if sys.platform != 'linux':
  pytest.skip('only Linux confines', allow_module_level=True)

GUARD = 1200
COMBINATIONS = [
  pytest.param(*c, marks=pytest.mark.sweeps, id=str(c))
  for c in test_jail.COMBINATIONS
]
# Signals came to Landlock with ABI 6, requests to devices with 5, truncating
# with 3.
ABIS = (1, 3, 5)
OLDER = [
  pytest.param(*c, abi, marks=pytest.mark.abis, id=str((*c, abi)))
  for c in test_jail.COMBINATIONS
  for abi in ABIS
]
OLDER_T2 = [
  pytest.param(user, tier, abi, marks=pytest.mark.sweeps, id=f'{user}, {abi}')
  for user, tier in test_jail.COMBINATIONS
  for abi in ABIS
  if tier == 'T2'
]


@functools.cache
def _judged(work, user, tier, *more):
  done = subprocess.run(
    test_jail.command(user, work, tier, *more),
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


def _check_attacks(found, *categories):
  worked = {
    name: result
    for name, result in found.items()
    if result[0] in ('right', 'error')
    or result[2]
    or 'breaks the jail' in result[1]
  }
  assert not worked
  assert set(found) == {a.name for a in code_attacks.chosen(*categories)}


@pytest.mark.parametrize(('user', 'tier'), COMBINATIONS)
def test_attacks_fail(user, tier):
  _allowed(user, tier)
  _check_attacks(_judged('attacks', user, tier))


@pytest.mark.parametrize(('user', 'tier', 'abi'), OLDER_T2)
def test_acts_against_others_fail_on_older_kernels(user, tier, abi):
  _allowed(user, tier)
  some = 'persist', 'escape'
  _check_attacks(_judged('attacks', user, tier, str(abi), *some), *some)


@pytest.mark.parametrize(('user', 'tier', 'abi'), OLDER)
def test_all_attacks_fail_on_older_kernels(user, tier, abi):
  _allowed(user, tier)
  _check_attacks(_judged('attacks', user, tier, str(abi)))
