"""Responses that ended without an answer that a judge can read, and why."""

import collections
from collections.abc import Iterable
from typing import Any

from acereason_jax.evaluation import values


def counted(outcomes: Iterable[values.Outcome], judge: str) -> dict[str, Any]:
  """Their number and the judge's commonest reason; '' if it gives none.

  Truncated responses are left out: they did not end.
  """
  reasons = collections.Counter(
    outcome.reasons.get(judge, '')
    for outcome in outcomes
    if outcome.statuses.get(judge) == 'unparsed' and outcome.stop == 'stop'
  )
  # Not by the order of the outcomes, which is that in which they ended.
  first = min(
    reasons, key=lambda reason: (-reasons[reason], reason), default=''
  )
  return dict(count=reasons.total(), reason=first)
