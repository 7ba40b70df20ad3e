"""One of two processes that train on a batch; writes the scores it gets.

python scoring_host.py FILE COORDINATOR PROCESSES PROCESS
"""

import sys

import jax
import numpy as np
import test_scoring
import tiny_stage


def main(file: str, coordinator: str, processes: int, process: int) -> None:
  jax.distributed.initialize(coordinator, processes, process)
  scored = {}
  for name, sizes in (('data', (2, 2, 1)), ('tensor', (1, 1, 4))):
    stage = tiny_stage.stage(test_scoring.LOSS, sizes=sizes)
    _, metrics, scores = test_scoring.trained(stage, test_scoring.EVERY)
    owners = {d.process_index for d in jax.devices()}
    assert owners == {0, 1} and len(jax.local_devices()) == 2
    for (prompt, index), score in scores.items():
      for field, x in score._asdict().items():
        scored[f'{name} {prompt} {index} {field}'] = x
    scored[f'{name} mismatch_max'] = np.float32(metrics['mismatch_max'])
  np.savez(file, **scored)


if __name__ == '__main__':
  main(*sys.argv[1:3], *map(int, sys.argv[3:]))
