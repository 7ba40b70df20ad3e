"""Runs acereason_jax.train, and hangs for ever at a chosen call.

    python hanging.py update@2 --config=...

hangs in the update of the step that follows step 2 of the run. `saved@2` rests
for some seconds after that step was saved.
"""

import sys
import time

from acereason_jax import train
from acereason_jax.console import command_line
from acereason_jax.rollout import engine
from acereason_jax.run import build, collect, start, step, writing

where, _, when = sys.argv.pop(1).partition('@')
now = -1


def hang():
  print('hangs', flush=True)
  while True:
    time.sleep(1)


def hanging(name, call):
  def wrapped(*args, **kwargs):
    if (name, now) == (where, int(when)):
      hang()
    return call(*args, **kwargs)

  return wrapped


def resting(call):
  """Rests after the call for longer than jax takes to notice a signal."""

  def wrapped(*args, **kwargs):
    call(*args, **kwargs)
    if ('saved', now) == (where, int(when)):
      print('rests', flush=True)
      time.sleep(5)

  return wrapped


def hanging_stream(stream):
  """Hangs while rollouts are on their way; tells the step that is taken."""

  def wrapped(*args, **kwargs):
    global now
    now = kwargs['step']
    for i, rollout in enumerate(stream(*args, **kwargs)):
      if ('sample', now, i) == (where, int(when), 3):
        hang()
      yield rollout

  return wrapped


engine.Engine.stream = hanging_stream(engine.Engine.stream)
step.draw = hanging('draw', step.draw)
step.update_once = hanging('update', step.update_once)
collect._exchange = hanging('exchange', collect._exchange)
collect._wait = hanging('judge', collect._wait)
writing.save = resting(hanging('save', writing.save))
start.restore = hanging('restore', start.restore)
train.build = hanging('load', build.build)
command_line.run(train.main)
