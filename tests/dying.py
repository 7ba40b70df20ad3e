"""Runs acereason_jax.train, and dies by SIGKILL right after a chosen call.

    python dying.py add@2 --config=...

kills itself after the gradient of the step that follows step 2 of the run.
"""

import dataclasses
import os
import signal
import sys

from acereason_jax import train
from acereason_jax.console import command_line
from acereason_jax.rl import update
from acereason_jax.rollout import engine
from acereason_jax.run import collect, saving, stores

where, _, when = sys.argv.pop(1).partition('@')
now = -1
make_update = update.make_update


def dying(name, call):
  def wrapped(*args, **kwargs):
    result = call(*args, **kwargs)
    if (name, now) == (where, int(when)):
      os.kill(os.getpid(), signal.SIGKILL)
    return result

  return wrapped


def dying_stream(stream):
  """Dies while rollouts are on their way."""

  def wrapped(*args, **kwargs):
    global now
    now = kwargs['step']
    for i, rollout in enumerate(stream(*args, **kwargs)):
      if ('sample', now, i) == (where, int(when), 3):
        os.kill(os.getpid(), signal.SIGKILL)
      yield rollout

  return wrapped


def make_dying_update(*args, **kwargs):
  made = make_update(*args, **kwargs)
  return dataclasses.replace(made, add=dying('add', made.add))


engine.Engine.stream = dying_stream(engine.Engine.stream)
collect.collect = dying('judge', collect.collect)
update.make_update = make_dying_update
# A save goes on in the background after it returns.
saving.Checkpoints.save = dying('save', saving.Checkpoints.save)
# In a bucket it would die before anything is kept there.
stores.Segments.seconds = 0.1
command_line.run(train.main)
