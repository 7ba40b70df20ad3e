"""Runs a command, which sends itself a signal once it has written some lines.

    python signalled.py SIGKILL 5 generate --model=...
    python signalled.py SIGTERM 2 verdicts --judge=...

The lines are generate's rollouts, or an evaluation's samples or verdicts. A
test that waits for them and then sends the signal may find the command over.
"""

import os
import signal
import sys

from acereason_jax import evaluate, generate
from acereason_jax.console import command_line
from acereason_jax.evaluation import samples
from acereason_jax.rollout import output

number, count, what = sys.argv[1:4]
del sys.argv[1:4]
command, writer, name = dict(
  generate=(generate, output.Output, 'write'),
  samples=(evaluate, samples.Store, 'write_sample'),
  verdicts=(evaluate, samples.Store, 'write_verdict'),
)[what]
write = getattr(writer, name)
left = int(count)


def writing(*args):
  global left
  write(*args)
  left -= 1
  if not left:
    os.kill(os.getpid(), getattr(signal, number))


setattr(writer, name, writing)
command_line.run(command.main)
