"""The prompts of a run over its steps, from its ledger.

A prompt has one kind, the first of `KINDS` that holds.
"""

from collections.abc import Sequence

import numpy as np

from acereason_jax.curriculum import ledger as ledger_lib
from acereason_jax.curriculum import outcomes
from acereason_jax.evaluation import pairs
from acereason_jax.reporting import values

FAILED, BECAME, LOST = 'judge failed', 'became solvable', 'lost'
NEVER, ALWAYS, MIXED = 'never solved', 'always solved', 'mixed'
KINDS = FAILED, BECAME, LOST, NEVER, ALWAYS, MIXED
# Prompts of a kind that are listed, and the newest times of each.
_LISTED, _TIMES = 150, 200
_UNEQUAL = (
  'Some prompts were asked more often than others: if a filter left prompts '
  'out for their results, luck gives up to about twice as many.'
)


def prompts(ledger: ledger_lib.Ledger) -> values.Prompts:
  """The prompts of a ledger, the most telling kinds first."""
  names = ledger.texts('prompt')
  kind = _kinds(ledger)
  asked = np.bincount(ledger.rows['prompt'], minlength=len(names))
  listed = []
  for code in range(len(KINDS)):
    mine = np.flatnonzero((kind == code) & (asked > 0))
    # Those that were asked most often tell most.
    most = np.argsort(-asked[mine], kind='stable')[:_LISTED]
    listed += mine[most].tolist()
  rates = _rates(ledger, listed)
  domains = _domains(ledger)
  counts = {
    name: int(((kind == code) & (asked > 0)).sum())
    for code, name in enumerate(KINDS)
  }
  return values.Prompts(
    [
      values.Prompt(names[code], domains[code], KINDS[kind[code]], rates[code])
      for code in listed
    ],
    counts,
    luck(ledger),
    ' '.join(_notes(ledger, counts)),
  )


def luck(ledger: ledger_lib.Ledger) -> tuple[int, float, int] | None:
  """`values.Prompts.luck`; see `acereason_jax.ledger --became_solvable`."""
  halves = outcomes.halves(ledger)
  if not len(halves.first_judged):
    return None
  found = pairs.newly_solved(*halves)
  return len(found.places), found.expected, len(halves.first_judged)


def _notes(ledger: ledger_lib.Ledger, counts: dict[str, int]) -> list[str]:
  cut = [
    f'{_LISTED} of {count:,} {name}'
    for name, count in counts.items()
    if count > _LISTED
  ]
  notes = [f'Listed are, asked most often, {", ".join(cut)}.'] if cut else []
  if outcomes.asked_unequally(ledger):
    notes.append(_UNEQUAL)
  return notes


def _kinds(ledger: ledger_lib.Ledger) -> np.ndarray:
  """The place in KINDS of the kind of each prompt, by its code; int [P]."""
  rows, size = ledger.rows, len(ledger.texts('prompt'))
  total = lambda names: sum(
    np.bincount(rows['prompt'], rows[name], size) for name in names
  )
  judged, right = total(ledger_lib.JUDGED), total(('right',))
  failed = total(('timeout', 'error'))
  became, lost = (
    _among(ledger, found(ledger))
    for found in (outcomes.solvable, outcomes.lost)
  )
  # As many failed verdicts as others: what the others say tells little.
  conditions = [
    (failed > 0) & (failed >= judged),
    became,
    lost,
    right == 0,
    right == judged,
  ]
  return np.select(conditions, range(len(conditions)), len(conditions))


def _among(ledger: ledger_lib.Ledger, found: dict[str, int]) -> np.ndarray:
  return np.array([name in found for name in ledger.texts('prompt')], bool)


def _domains(ledger: ledger_lib.Ledger) -> list[str]:
  """The domain of each prompt, by its code."""
  found = np.zeros(len(ledger.texts('prompt')), np.int64)
  found[ledger.rows['prompt']] = ledger.rows['domain']
  names = ledger.texts('domain')
  return [names[code] for code in found.tolist()]


def _rates(
  ledger: ledger_lib.Ledger, codes: Sequence[int]
) -> dict[int, list[tuple[int, int, int]]]:
  """(step, right, judged) of the newest times that these prompts were asked."""
  rows = ledger.rows
  wanted = np.zeros(len(ledger.texts('prompt')), bool)
  wanted[list(codes)] = True
  mine = rows[wanted[rows['prompt']]]
  judged = sum(mine[name].astype(np.int64) for name in ledger_lib.JUDGED)
  found = {code: [] for code in codes}
  columns = (mine['prompt'], mine['step'], mine['right'], judged)
  for code, *rate in zip(*(column.tolist() for column in columns)):
    found[code].append(tuple(rate))
  return {code: rates[-_TIMES:] for code, rates in found.items()}
