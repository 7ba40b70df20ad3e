"""Judges that explain well, badly or never, for the worker processes of tests.

Kept apart from the tests: a worker imports this file and nothing else.
"""

import os
import time

from acereason_jax.types import Verdict


def verify(response: str, answer: str, *, reasons: bool) -> Verdict:
  return Verdict('right' if answer in response else 'wrong', '', 0.0)


def explain(response: str, answer: str, *, reasons: bool) -> Verdict:
  """Does what the response says."""
  if 'hang' in response:
    time.sleep(3600)
  if 'nap' in response:
    time.sleep(0.3)
  if 'raise' in response:
    raise OSError('the judge\nhas a bad day')
  if 'die' in response:
    os._exit(3)
  if 'flood' in response:
    return Verdict('wrong', 'x: y\n' * 100_000, 0.0)
  if 'huge' in response:
    return Verdict('wrong', 'x' * (2 << 20), 0.0)
  verdict = verify(response, answer, reasons=reasons)
  return Verdict(verdict.status, f'given: {response}\n{answer}', 0.0)


def verify_only(response: str, answer: str, *, reasons: bool) -> Verdict:
  return verify(response, answer, reasons=reasons)
