"""Where the wall time of a run went: a tree whose levels sum exactly.

The first level has the kinds of work of RUN/clock.jsonl, and three more:

down: from the last line of a start to the begin of the next. After a kill that
  line is up to 10 seconds old.
lost: all seconds that a start spent on steps which an earlier start had
  finished already. Their kinds do not have them. What a kill cut off within a
  step is not among them.
unrecorded: seconds of a start that no line has, such as those of a host that
  was suspended.

Below it, sampling and updates are divided by the metrics of their steps, step
by step. Sampling of a step that compiled is divided as in the other steps. All
are whole milliseconds, and rounding leaves no rest.

Each second belongs to one step, so the trees of single steps add up to that of
the run. A step has all since the end of the step before it, its probes too; the
first step of a start also has what came before that: starting, and being down.
The last step of the run also has what came after it, such as its last report.

MFU is told beside updates: of the steps that measured it, over the seconds of
the clock, which do not hold compiles.
"""

import collections
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from acereason_jax.reporting import levers, values
from acereason_jax.run import account

DOWN, LOST, UNRECORDED = 'down', 'lost', 'unrecorded'
# Seconds of a step that no metric divides.
UNKNOWN = 'not measured'
# The prefix of metrics that are shares of slot steps.
_SLOTS = 'slot_share_'
# In a step that compiled for more of its time of sampling, the compile is in
# its shares, and not in its seconds.
_COMPILED = 0.1
_OF_MFU = (
  "MFU: FLOPs of the model in updates, of the devices' bfloat16 peak. What the "
  'backward pass computes again does not count, nor do compiles.'
)
# A clock that was set back by less is only imprecise.
_TOLD_SECONDS = 1.0


# Seconds by path: the names of a part and of those above it, outermost first.
_Paths = Mapping[tuple[str, ...], float]


class _Part(NamedTuple):
  """A node whose time is not rounded yet.

  name: its name in `levers`.
  seconds: its time.
  parts: its parts.
  figure: see `values.Node`.
  """

  name: str
  seconds: float
  parts: Sequence['_Part'] = ()
  figure: str = ''


class _Spent(NamedTuple):
  """The seconds of a run, or of some steps.

  kinds: seconds by kind of work, DOWN, LOST and UNRECORDED.
  steps: seconds by step and kind, without those that are lost; None: before
    the first step of a start.
  set_back: seconds by which the host's clock was set back.
  """

  kinds: collections.Counter[str]
  steps: Mapping[int | None, Mapping[str, float]]
  set_back: float


def read_clock(text: str) -> list[account.Line]:
  """The lines of clock.jsonl; torn ones, and those of no run, are dropped."""
  return account.read(text)


def tree(
  lines: Sequence[account.Line],
  metrics: Sequence[Mapping[str, Any]],
  steps: range | None = None,
) -> values.Waste:
  """The wall time from the begin of the first start to the last line.

  With `steps` only the seconds of these steps. `metrics` are the objects of
  metrics.jsonl, in any order; the last of a step counts, and the last step is
  the run's. A metric that is missing, or is no share, divides nothing.
  """
  rows = {row['step']: row for row in metrics if type(row.get('step')) is int}
  spent = _spent(lines, steps, max(rows, default=account.MOST))
  below = dict(
    sample=_sampled(spent.steps, rows),
    update=_grouped(_divided(spent.steps, 'update', rows, _update)),
  )
  figures = dict(update=_mfu(spent.steps, rows))
  parts = [
    _Part(kind, seconds, below.get(kind, ()), figures.get(kind, ''))
    for kind, seconds in spent.kinds.items()
  ]
  whole = _Part('wall', sum(spent.kinds.values()), parts)
  root = _exact(whole, round(whole.seconds * 1000))
  notes = [*_notes(lines, spent, below), *[_OF_MFU] * bool(figures['update'])]
  return values.Waste(root, tuple(notes))


def apportioned(total: int, weights: Sequence[int]) -> list[int]:
  """`total` divided in proportion to weights, in whole numbers.

  The parts that rounding down cut most get the rest. All 0 if the weights are.
  """
  whole = sum(weights)
  if not whole:
    return [0] * len(weights)
  parts = [divmod(total * weight, whole) for weight in weights]
  found = [quotient for quotient, _ in parts]
  by_rest = sorted(range(len(parts)), key=lambda i: -parts[i][1])
  for i in by_rest[: total - sum(found)]:
    found[i] += 1
  return found


def _exact(part: _Part, milliseconds: int) -> values.Node:
  """The part as a node; its parts that have no millisecond are left out."""
  weights = [round(p.seconds * 1e6) for p in part.parts]
  shared = apportioned(milliseconds, weights)
  nodes = [_exact(p, n) for p, n in zip(part.parts, shared) if n]
  nodes.sort(key=lambda node: -node.milliseconds)
  known = levers.of(part.name)
  lever = '' if nodes else known.lever
  return values.Node(
    known.title, milliseconds, lever, tuple(nodes), part.figure
  )


def _spent(
  lines: Sequence[account.Line], wanted: range | None, last: int
) -> _Spent:
  """Adds up the lines of the wanted steps; those of a start are in order.

  Lines that lead to a step after the last one of the run are of that one.
  """
  kinds, set_back = collections.Counter(), 0.0
  steps = collections.defaultdict(collections.Counter)
  ended, finished = None, 0
  for start in _starts(lines):
    gap, before = DOWN, None
    for line in start:
      length = sum(line.seconds.values())
      gone = 0.0 if ended is None else line.time - length - ended
      step = _step_of(before, line)
      leads_to = line.step + 1 if step is None else step
      if wanted is None or min(leads_to, last) in wanted:
        kinds[gap] += max(gone, 0.0)
        set_back += max(-gone, 0.0)
        if step is not None and step <= finished:
          kinds[LOST] += length
        else:
          kinds.update(line.seconds)
          steps[step].update(line.seconds)
      gap, before, ended = UNRECORDED, line, line.time
    finished = max([finished, *(line.step for line in start)])
  return _Spent(kinds, steps, set_back)


def _starts(lines: Sequence[account.Line]) -> list[list[account.Line]]:
  found = collections.defaultdict(list)
  for line in lines:
    found[line.start].append(line)
  return [found[start] for start in sorted(found)]


def _step_of(before: account.Line | None, line: account.Line) -> int | None:
  """The step that a line was spent on; None before the first step of a start.

  A start may end within a step: its last line has no further step.
  """
  return None if before is None else max(line.step, before.step + 1)


def _sampled(
  steps: Mapping[int | None, Mapping[str, float]],
  rows: Mapping[int, Mapping[str, Any]],
) -> list[_Part]:
  """The parts of sampling; steps that compiled are divided as the others."""
  compiled = lambda s: s.get(account.COMPILE, 0.0) > _COMPILED * s['sample']
  clean = {
    step: seconds
    for step, seconds in steps.items()
    if 'sample' in seconds and not compiled(seconds)
  }
  found = _divided(clean, 'sample', rows, _sample)
  if not found:
    return _grouped(_divided(steps, 'sample', rows, _sample))
  seconds = sum(s.get('sample', 0.0) for s in steps.values())
  scale = seconds / sum(found.values())
  return _grouped({path: scale * part for path, part in found.items()})


def _divided(
  steps: Mapping[int | None, Mapping[str, float]],
  kind: str,
  rows: Mapping[int, Mapping[str, Any]],
  divide: Callable[[float, Mapping[str, Any]], _Paths | None],
) -> _Paths:
  """The paths of a kind, each step divided by its own metrics.

  `divide(seconds, row)` gives the paths of a step; None if the row does not
  tell. Empty if no row tells.
  """
  sums, known = collections.Counter(), False
  for step, seconds in steps.items():
    if not (here := seconds.get(kind, 0.0)):
      continue
    found = divide(here, rows.get(step, {}))
    known |= found is not None
    sums.update({(UNKNOWN,): here} if found is None else found)
  return sums if known else {}


def _grouped(sums: _Paths) -> list[_Part]:
  """The tree of paths; a node's seconds are those of the paths below it."""
  below = collections.defaultdict(dict)
  for (first, *rest), seconds in sums.items():
    below[first][tuple(rest)] = seconds
  return [
    _Part(name, sum(found.values()), _grouped(_without_end(found)))
    for name, found in below.items()
  ]


def _without_end(found: _Paths) -> _Paths:
  """The paths that go on; what ends here, beside others, is not measured."""
  longer = {path: seconds for path, seconds in found.items() if path}
  if longer and found.get((), 0.0):
    longer[(UNKNOWN,)] = longer.get((UNKNOWN,), 0.0) + found[()]
  return longer


def _sample(seconds: float, row: Mapping[str, Any]) -> _Paths | None:
  """The parts of sampling: prefill, host, and decode by slot steps."""
  names = 'prefill_share', 'host_share'
  prefill, host = (_share(row.get(name)) for name in names)
  # Both are 0 where all rollouts of the step came from the journal: the row is
  # not of the start that sampled.
  if prefill is None or host is None or not 0 < prefill + host <= 1:
    return None
  decode = seconds * (1 - prefill - host)
  found = {('prefill',): seconds * prefill, ('host',): seconds * host}
  slots = {
    name.removeprefix(_SLOTS): share
    for name, value in row.items()
    if name.startswith(_SLOTS) and (share := _share(value)) is not None
  }
  whole = sum(slots.values())
  if not whole:
    return found | {('decode',): decode}
  return found | {
    ('decode', name): decode * share / whole for name, share in slots.items()
  }


def _update(seconds: float, row: Mapping[str, Any]) -> _Paths | None:
  """The parts of an update: the columns of its rows."""
  names = 'packed_tokens', 'packed_response_tokens', 'packed_prompt_tokens'
  found = [row.get(name) for name in names]
  if not all(map(_is_number, found)):
    return None
  packed, response, prompt = found
  padding = packed - response - prompt
  if not packed or padding < 0:
    return None
  columns = dict(response=response, prompt=prompt, padding=padding)
  return {(name,): seconds * n / packed for name, n in columns.items()}


def _mfu(
  steps: Mapping[int | None, Mapping[str, float]],
  rows: Mapping[int, Mapping[str, Any]],
) -> str:
  """The MFU of all updates as a text; '' if no step measured it.

  A step's own is over the seconds of its metrics, which hold its compiles.
  """
  least, took = 0.0, 0.0
  for step, seconds in steps.items():
    row, here = rows.get(step, {}), seconds.get('update', 0.0)
    share, measured = _share(row.get('mfu')), row.get('seconds_update')
    if share and here and _is_number(measured):
      # At the peak it would have taken this.
      least += share * measured
      took += here
  return f'MFU {least / took:.1%}' if 0 < least <= took else ''


def _share(value: Any) -> float | None:
  """A share from 0 to 1; None if it is none."""
  return value if _is_number(value) and value <= 1 else None


def _is_number(value: Any) -> bool:
  """Whether it is finite and not negative."""
  number = isinstance(value, int | float) and not isinstance(value, bool)
  return number and 0 <= value < account.MOST and math.isfinite(value)


def _notes(
  lines: Sequence[account.Line],
  spent: _Spent,
  below: Mapping[str, Sequence[_Part]],
) -> Iterator[str]:
  if not lines:
    yield 'The run has no clock.'
    return
  if not spent.kinds:
    yield 'The clock has no seconds of these steps.'
  if spent.kinds[DOWN] or spent.kinds[LOST]:
    yield (
      'After a kill, up to 10 seconds before it count as down; lost are steps '
      'that an earlier start had finished.'
    )
  for kind, parts in below.items():
    if spent.kinds[kind] and not parts:
      yield f'No metrics say what {levers.of(kind).title} was spent on.'
  if spent.set_back > _TOLD_SECONDS:
    yield (
      f"The host's clock was set back by {spent.set_back:,.0f} s, so the parts "
      'sum to more than the time between its readings.'
    )
