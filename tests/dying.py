"""Runs acereason_jax.train, and dies by SIGKILL right after a chosen call.

    python dying.py add@2 --config=...

kills itself after the gradient of the step that follows step 2 of the run.

    python dying.py SIGTERM:says@compiling --config=...

sends itself SIGTERM once, after a line that has the word 'compiling'. A test
that reads the line and sends the signal itself may be late.
"""

import dataclasses
import os
import signal
import sys

from acereason_jax import train
from acereason_jax.console import command_line
from acereason_jax.rl import update
from acereason_jax.rollout import engine
from acereason_jax.run import collect, metrics, saving, stores

what, _, when = sys.argv.pop(1).partition('@')
number, _, where = what.rpartition(':')
number = signal.Signals[number or 'SIGKILL']
now = -1
sent = False
make_update = update.make_update


def strike():
  global sent
  if not sent:
    sent = True
    os.kill(os.getpid(), number)


def dying(name, call):
  def wrapped(*args, **kwargs):
    result = call(*args, **kwargs)
    if (name, str(now)) == (where, when):
      strike()
    return result

  return wrapped


def dying_stream(stream):
  """Dies while rollouts are on their way."""

  def wrapped(*args, **kwargs):
    global now
    now = kwargs['step']
    for i, rollout in enumerate(stream(*args, **kwargs)):
      if ('sample', str(now), i) == (where, when, 3):
        strike()
      yield rollout

  return wrapped


def dying_say(say):
  def wrapped(line):
    say(line)
    if where == 'says' and when in line:
      strike()

  return wrapped


def make_dying_update(*args, **kwargs):
  made = make_update(*args, **kwargs)
  return dataclasses.replace(made, add=dying('add', made.add))


engine.Engine.stream = dying_stream(engine.Engine.stream)
collect.collect = dying('judge', collect.collect)
update.make_update = make_dying_update
# A save goes on in the background after it returns.
saving.Checkpoints.save = dying('save', saving.Checkpoints.save)
metrics.say = dying_say(metrics.say)
# In a bucket it would die before anything is kept there.
stores.Segments.seconds = 0.1
command_line.run(train.main)
