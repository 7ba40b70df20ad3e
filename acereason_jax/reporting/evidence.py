"""What the rules of alarms look at, and how they look: windows of steps.

A rule compares a few steps with a few others, because single steps are noisy:
the newest ones with a fixed limit, or with the first ones of their stage.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from acereason_jax.reporting import files, tallies, values

# Steps of a window: a sixth of the stage's, within these.
_LEAST, _MOST = 4, 50
BAD, WARN, GOOD = 'bad', 'warn', 'good'


class Evidence(NamedTuple):
  """What is known of a run.

  metrics: metrics of the steps, in order; see `files.metrics`.
  bands: their stages.
  config: config as JSON; None if it is unknown.
  tally: sums of the rows of rollouts.
  starts: starts of the run.
  waste: wall time; None without a clock.
  """

  metrics: Sequence[Mapping[str, Any]]
  bands: Sequence[values.Band]
  config: Any
  tally: tallies.Tally
  starts: Sequence[files.Begun]
  waste: values.Waste | None


class Window(NamedTuple):
  """The mean of a metric over some steps, the first and the last of them."""

  mean: float
  first: int
  last: int

  @property
  def steps(self) -> str:
    return steps(self.first, self.last)


Points = Sequence[tuple[int, float]]


def steps(first: int, last: int) -> str:
  return f'step {first}' if first == last else f'steps {first} to {last}'


def times(count: int) -> str:
  return 'once' if count == 1 else f'{count:,} times'


def points(
  evidence: Evidence, name: str, band: values.Band | None = None
) -> list[tuple[int, float]]:
  """(step, value) of a metric in a stage; None: in the last one."""
  if band is None:
    band = evidence.bands[-1] if evidence.bands else None
  steps = range(band.first, band.last + 1) if band else ()
  return [
    (m['step'], m[name])
    for m in evidence.metrics
    if m['step'] in steps and m.get(name) is not None
  ]


def newest(found: Points) -> Window | None:
  """The mean of the newest points; None without any."""
  return _mean(found[-_size(found) :])


def oldest(found: Points) -> Window | None:
  """The mean of the first points, if others are left to compare; else None."""
  size = _size(found)
  return _mean(found[:size]) if len(found) >= 2 * size else None


def _size(found: Points) -> int:
  return min(max(len(found) // 6, _LEAST), _MOST)


def _mean(found: Points) -> Window | None:
  if not found:
    return None
  total = sum(value for _, value in found)
  return Window(total / len(found), found[0][0], found[-1][0])


def since(found: Points, below: float) -> int:
  """The first step from which on no value is above a limit."""
  step = found[-1][0]
  for at, value in reversed(found):
    if value > below:
      break
    step = at
  return step


def by_domain(evidence: Evidence, name: str) -> dict[str, str]:
  """The name of a metric by domain; {'': name} where one domain is asked."""
  last = evidence.metrics[-1] if evidence.metrics else {}
  found = {
    key.removesuffix(f'/{name}'): key
    for key in last
    if key.endswith(f'/{name}')
  }
  return found or {'': name}


def of(domain: str) -> str:
  """' of math', '' for the one domain of a run."""
  return f' of {domain}' if domain else ''


def filters(domain: str, window: Window, **more: Any) -> dict[str, Any]:
  """Filters of the page's rollouts that show a domain in a window."""
  found = dict(more, step_from=window.first, step_to=window.last)
  return found | (dict(domain=domain) if domain else {})


def setting(evidence: Evidence, path: str) -> str:
  """' (now 0.85)', for a field in the last stage; '' if it is unknown."""
  value = field(evidence, path)
  return '' if value is None else f' (now {value!r:.80})'


def field(evidence: Evidence, path: str) -> Any:
  """The value of a field in the last stage; None if it is unknown."""
  parts = path.split('.')
  name = evidence.bands[-1].stage if evidence.bands else ''
  stages = files.at(evidence.config, 'stages')
  for stage in stages if isinstance(stages, list) else ():
    own = files.at(stage, *parts)
    if files.at(stage, 'name') == name and own is not None:
      return own
  return files.at(evidence.config, *parts)
