"""Verify functions for the tiny model, for worker processes.

Kept apart from tiny.py: a worker imports this file and nothing else.
"""

import hashlib
import pathlib
import time
from typing import Any

from acereason_jax.types import Verdict
from acereason_jax.verifiers import code


def verify(response: str, answer: str, *, reasons: bool) -> Verdict:
  """Right is an even or an odd number of letters before 'n'."""
  del reasons
  early = sum('a' <= c < 'n' for c in response) % 2
  return Verdict('right' if early == int(answer) else 'wrong', '', 0.0)


def says(response: str, answer: str, *, reasons: bool) -> Verdict:
  """`verify`, with a detail that is longer than what is kept."""
  verdict = verify(response, answer, reasons=reasons)
  detail = f'{answer} for {response!r}; ' + '\ud83d\ude00 and so on ' * 60
  return Verdict(verdict.status, detail, 0.0)


def all_right(response: str, answer: str, *, reasons: bool) -> Verdict:
  return Verdict('right', '', 0.0)


def known(response: str, answer: str, *, reasons: bool) -> Verdict:
  """As of a model that knows every question whose answer is 0, no other."""
  return Verdict('right' if answer == '0' else 'wrong', '', 0.0)


def program(
  response: str, answer: str, *, reasons: bool, **arguments: Any
) -> Verdict:
  """The code judge's, on a program that prints the parity of these letters."""
  early = sum('a' <= c < 'n' for c in response) % 2
  text = f'```python\nprint(int(input()) + {early})\n```'
  return code.verify(text, answer, reasons=reasons, **arguments)


program.prepare_worker = code.prepare_worker


def reference(response: str, answer: str) -> Verdict:
  """'right' for a number; the answer 'hang' never ends."""
  del response
  while answer == 'hang':
    time.sleep(1)
  int(answer)
  return Verdict('right', '', 0.0)


def explain(response: str, answer: str, *, reasons: bool) -> Verdict:
  """Says what it was given, unescaped, as a hostile judge might."""
  status = 'right' if answer in response else 'wrong'
  return Verdict(status, f'{response}\nagainst {answer}, {reasons=}', 0.0)


def fail(response: str, answer: str, *, reasons: bool) -> Verdict:
  raise OSError('the judge has a bad day')


def slow(response: str, answer: str, *, reasons: bool) -> Verdict:
  """Takes a second for what has an 'a'."""
  time.sleep('a' in response)
  return verify(response, answer, reasons=reasons)


def hangs(response: str, answer: str, *, reasons: bool) -> Verdict:
  while True:
    time.sleep(1)


def write(response: str, answer: str, *, reasons: bool) -> Verdict:
  """Right if it could make the file that `response` names."""
  with open(response, 'w'):
    return Verdict('right', answer, 0.0)


def is_bad(response: str) -> bool:
  """One response in four, whatever else is true of it."""
  return hashlib.sha256(response.encode()).digest()[0] % 4 == 0


def breaks(response: str, answer: str, *, reasons: bool) -> Verdict:
  """Fails on some responses, each time."""
  if is_bad(response):
    raise OSError('cannot judge this one')
  return verify(response, answer, reasons=reasons)


def recovers(
  response: str, answer: str, *, reasons: bool, folder: str
) -> Verdict:
  """Fails on the same responses, but only once."""
  name = hashlib.sha256(f'{answer} {response}'.encode()).hexdigest()
  path = pathlib.Path(folder, name)
  if is_bad(response) and not path.exists():
    path.touch()
    raise OSError('cannot judge this one now')
  return verify(response, answer, reasons=reasons)


def sleeps(response: str, answer: str) -> Verdict:
  """Takes a quarter of a second for everything."""
  time.sleep(0.25)
  return Verdict('wrong', '', 0.25)
