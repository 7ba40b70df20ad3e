"""The held-out look before the first step, which is in no line of metrics."""

import collections
from collections.abc import Mapping
from typing import Any

from acereason_jax.curriculum import ledger
from acereason_jax.data import archive
from acereason_jax.reporting import files, tallies


def before(summary: Any, tally: tallies.Tally) -> list[Mapping[str, Any]]:
  """Its record, like those of steps; [] if nothing was asked.

  A run that is over has it in its summary, with errors. Otherwise the rates are
  counted from rows, and have none.
  """
  looks = files.at(summary, 'heldout')
  for look in looks if isinstance(looks, list) else ():
    if isinstance(look, Mapping) and look.get('stage') == '':
      return [{**look, 'step': 0}]
  right, judged = collections.Counter(), collections.Counter()
  for (phase, _, domain, status), cell in tally.cells.items():
    if phase == archive.BEFORE and status in ledger.JUDGED:
      judged[domain] += cell.rollouts
      right[domain] += cell.rollouts if status == 'right' else 0
  rates = {f'heldout/{d}': right[d] / n for d, n in judged.items()}
  return [{**rates, 'step': 0}] if rates else []
