"""Rules about wall time: restarts, and what the time was spent on."""

from collections.abc import Iterator, Mapping

from acereason_jax.reporting import evidence as lib
from acereason_jax.reporting import values
from acereason_jax.reporting.evidence import BAD, WARN, Evidence

# Starts in a row that died at one step.
VAIN = 3
# Shares of a run's wall time, by the name of a part of the waste tree.
PARTS: Mapping[str, tuple[float, str]] = {
  'unrecorded': (0.01, 'No part of the program says what it did then.'),
  'down': (
    0.1,
    'The run was not started again at once: let a supervisor do that.',
  ),
  'between phases': (0.05, 'Nothing is known of it: please report it.'),
  'lost': (
    0.05,
    'Work was repeated after restarts: a smaller checkpoint.every loses less.',
  ),
}
JUDGES, TAIL = 0.2, 0.3


def restarts(e: Evidence) -> Iterator[values.Alarm]:
  count = 0
  for start in reversed(e.starts):
    if start.ended or start.step != e.starts[-1].step:
      break
    count += 1
  # The newest start may go on.
  if count > VAIN:
    last = e.starts[-1]
    phase = f', in phase {last.phase!r:.60}' if last.phase else ''
    yield values.Alarm(
      BAD,
      f'{count - 1} starts got nowhere',
      f'They began at step {last.step} and died{phase} before the next '
      'checkpoint. Look at the output and at stacks-*.txt in the folder.',
      'time',
      {},
    )


def parts(e: Evidence) -> Iterator[values.Alarm]:
  root = e.waste.root if e.waste else None
  for node in root.parts if root else ():
    limit, remedy = PARTS.get(node.name, (1.0, ''))
    share = node.milliseconds / max(root.milliseconds, 1)
    if share > limit:
      yield values.Alarm(
        WARN,
        f'{share:.0%} of the wall time is {node.name}',
        f'{node.milliseconds / 3.6e6:.2f} of {root.milliseconds / 3.6e6:.2f} '
        f'hours. {remedy}',
        'time',
        {},
      )


def judges(e: Evidence) -> Iterator[values.Alarm]:
  now = lib.newest(lib.points(e, 'judge_wait_share'))
  if now and now.mean > JUDGES:
    yield values.Alarm(
      WARN,
      f'{now.mean:.0%} of a step waits for judges',
      f'In {now.steps}, after the last token. Give more judge.workers'
      f'{lib.setting(e, "judge.workers")}, or a lower budget for each verdict.',
      'time',
      {},
    )


def tail(e: Evidence) -> Iterator[values.Alarm]:
  now = lib.newest(lib.points(e, 'slot_share_tail'))
  if now and now.mean > TAIL:
    yield values.Alarm(
      WARN,
      f'{now.mean:.0%} of slot steps are idle at the end of a batch',
      f'In {now.steps}, slots without a rollout wait for a few long responses. '
      f'Give fewer engine.slots{_slots(e)} for the same batch, '
      'a larger batch, or drafts (engine.speculate'
      f'{lib.setting(e, "engine.speculate")}).',
      'slots',
      {},
    )


def _slots(e: Evidence) -> str:
  if lib.field(e, 'engine.slots') == 0:
    return ' (now 0: all of the batch that fits)'
  return lib.setting(e, 'engine.slots')


RULES = restarts, parts, judges, tail
