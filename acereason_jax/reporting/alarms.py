"""What to look at first: what the rules find in a run, the worst first.

A rule gives an alarm only if its numbers leave little doubt: a healthy run has
none that is bad. Their limits are constants at the top of each file.
"""

from acereason_jax.reporting import (
  alarms_learning,
  alarms_time,
  alarms_verdicts,
  values,
)
from acereason_jax.reporting.evidence import BAD, GOOD, WARN, Evidence

# The causes of others come first: what is not read is never right.
RULES = (
  *alarms_verdicts.RULES,
  *alarms_learning.RULES,
  *alarms_time.RULES,
)
_ORDER = BAD, WARN, GOOD
# Of one rule.
_MOST = 5


def alarms(evidence: Evidence) -> list[values.Alarm]:
  """The alarms of a run; [] if there is nothing to say yet."""
  found = [a for rule in RULES for a in list(rule(evidence))[:_MOST]]
  return sorted(found, key=lambda alarm: _ORDER.index(alarm.level))
