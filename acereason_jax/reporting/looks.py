"""The held-out look before the first step, which is in no line of metrics."""

import collections
import math
from collections.abc import Mapping, Sequence
from typing import Any

from acereason_jax.curriculum import ledger
from acereason_jax.data import archive
from acereason_jax.reporting import files, names, tallies


def before(
  summary: Any, tally: tallies.Tally, metrics: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
  """Its record, like those of steps: of the step before the first one.

  It has only rates and what belongs to them; [] without a rate. A run that is
  over has them in its summary, with errors. Otherwise the rates are counted
  from rows, and have none.
  """
  step = metrics[0]['step'] - 1
  looks = files.at(summary, 'heldout')
  for look in looks if isinstance(looks, list) else ():
    if isinstance(look, Mapping) and look.get('stage') == '':
      found = {k: v for k, v in look.items() if _is_number(k, v)}
      if any(name.startswith(names.HELDOUT) for name in found):
        return [{**found, 'step': step}]
  right, judged = collections.Counter(), collections.Counter()
  for (phase, _, domain, status), cell in tally.cells.items():
    if phase == archive.BEFORE and status in ledger.JUDGED:
      judged[domain] += cell.rollouts
      right[domain] += cell.rollouts if status == 'right' else 0
  rates = {f'{names.HELDOUT}{d}': right[d] / n for d, n in judged.items()}
  return [{**rates, 'step': step}] if rates else []


def _is_number(name: str, value: Any) -> bool:
  number = isinstance(value, int | float) and not isinstance(value, bool)
  return number and name.startswith('heldout') and math.isfinite(value)
