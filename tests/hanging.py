"""Runs acereason_jax.train, and hangs at the start of a chosen call.

    python hanging.py update --config=...

hangs in the first update. The thread sleeps, as one that waits for a network.
"""

import time

from acereason_jax import train
from acereason_jax.console import command_line
from acereason_jax.models import hf
from acereason_jax.rl import update
from acereason_jax.rollout import engine
from acereason_jax.run import checkpoint, collect, heldout, probe, start, step

PLACES = {
  'load': (hf, 'load'),
  'screen': (start, 'screen'),
  'heldout': (heldout, 'ask_heldout'),
  'probe': (probe, 'probe_chunk'),
  'sample': (engine.Engine, '_prefill'),
  'judge': (collect, '_judge'),
  'update': (step, 'update_once'),
  'cast': (update, 'cast'),
  'save': (checkpoint.Checkpoints, 'save'),
  'restore': (checkpoint.Checkpoints, 'restore'),
}


def hang(*args, **kwargs):
  time.sleep(3600)


def main(argv):
  owner, name = PLACES[argv.pop(1)]
  assert hasattr(owner, name), name
  setattr(owner, name, hang)
  return train.main(argv)


if __name__ == '__main__':
  command_line.run(main)
