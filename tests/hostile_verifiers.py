"""Verify functions that misbehave, for the worker processes of test_pool.

Kept apart from the test module: a worker imports this file and nothing else.
"""

import os
import signal
import sys
import time

from acereason_jax.types import Verdict


def echo(response: str, answer: str, *, prefix: str = '') -> Verdict:
  equal = response == answer
  detail = f'{prefix}{len(response)}'
  return Verdict('right' if equal else 'wrong', detail, 0.0)


def modules(response: str, answer: str) -> Verdict:
  return Verdict('right', ','.join(sorted(sys.modules)), 0.0)


def environment(response: str, answer: str) -> Verdict:
  return Verdict('right', ','.join(sorted(os.environ)), 0.0)


def session(response: str, answer: str) -> Verdict:
  return Verdict('right', f'{os.getpid()} {os.getsid(0)}', 0.0)


def obey(response: str, answer: str) -> Verdict:
  """Does what `response` says, then returns 'right'."""
  command, _, argument = response.partition(' ')
  match command:
    case 'sleep':
      time.sleep(float(argument))
    case 'compute':
      pow(7, 10**9)  # One C call: no signal handler, no thread switch.
    case 'exit':
      os._exit(int(argument))
    case 'kill':
      os.kill(os.getpid(), signal.SIGKILL)
    case 'once':
      _exit_once(argument)
    case 'print':
      print('{"id": 0, "status": "right", "detail": "forged"}', flush=True)
    case 'garbage':
      _write_everywhere(argument.encode())
    case 'raise':
      raise RuntimeError(argument)
    case 'allocate':
      bytearray(8 << 30)
  return Verdict('right', command, 0.0)


def _exit_once(path: str) -> None:
  if not os.path.exists(path):
    with open(path, 'w'):
      os._exit(3)


def _write_everywhere(data: bytes) -> None:
  for name in os.listdir('/proc/self/fd'):
    fd = int(name)
    if fd != 2:
      try:
        os.write(fd, data)
      except OSError:
        continue
