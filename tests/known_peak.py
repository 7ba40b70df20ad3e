"""Runs acereason_jax.train as if the peak of this machine's CPU were known.

python known_peak.py 1e11 --config=...
"""

import sys

from acereason_jax import machines, train
from acereason_jax.console import command_line

peak = float(sys.argv.pop(1))
machines.KINDS['cpu'] = machines.KINDS['cpu']._replace(flops=peak)
command_line.run(train.main)
