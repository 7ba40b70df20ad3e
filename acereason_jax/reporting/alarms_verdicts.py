"""Rules about verdicts: answers that are not read, judges and tests that fail.

They use the metrics of steps, and say why from the details in the rows of
rollouts, if the run has them.
"""

import collections
import itertools
import re
from collections.abc import Iterator, Sequence

from acereason_jax import types
from acereason_jax.data import archive
from acereason_jax.reporting import evidence as lib
from acereason_jax.reporting import tallies, values
from acereason_jax.reporting.evidence import BAD, WARN, Evidence

# Share of answers that are not read: in all, and what it rose by in a stage.
UNREAD, VERY_UNREAD, UNREAD_RISE = 0.1, 0.25, 0.05
# From this share on most unread answers were cut off.
MOSTLY = 0.6
# Share of verdicts that failed; the run stops at judge.max_failed_share.
FAILED, VERY_FAILED = 0.005, 0.025
# Answers that were read without a right one, from which on chance is no reason.
# A family of prompts has at least so many prompts, and the others of its domain
# are solved at least so often.
NONE_RIGHT, FAMILY, OTHERS_RIGHT = 64, 4, 0.1
# A prompt that is always wrong in the same words: rollouts, steps, and how many
# such prompts there are at least, also as a share of those asked as often.
SAME, SAME_STEPS, SAME_PROMPTS, SAME_SHARE = 8, 2, 5, 0.02
# Prompts that were asked in so many steps, and the share of them never solved.
# Fewer are odd if there is a gap: hardly one of the others is solved so rarely.
OFTEN, OFTEN_PROMPTS, NEVER = 4, 20, 0.3
ODD, ODD_SHARE, GAP, HARDLY = 5, 0.05, 0.2, 0.1
_DETAILS, _IDS = 3, 3
_DIGITS = re.compile('[0-9]+')


def unparsed(e: Evidence) -> Iterator[values.Alarm]:
  for domain, name in lib.by_domain(e, 'unparsed_share').items():
    found = lib.points(e, name)
    now, first = lib.newest(found), lib.oldest(found)
    if now is None:
      continue
    risen = bool(first) and now.mean > max(
      2 * first.mean, first.mean + UNREAD_RISE
    )
    if now.mean < UNREAD and not risen:
      continue
    before = f', {first.mean:.0%} in {first.steps}' if first else ''
    told = f'{now.mean:.0%} in {now.steps}{before}. '
    told += _details(e, ('unparsed',), domain)
    yield values.Alarm(
      BAD if now.mean >= VERY_UNREAD else WARN,
      f'{now.mean:.0%} of answers{lib.of(domain)} cannot be read (unparsed)',
      f'{told}{_unread_remedy(e, domain)}',
      'rollouts',
      lib.filters(domain, now, status='unparsed'),
    )


def _unread_remedy(e: Evidence, domain: str) -> str:
  """What to do about answers that are not read, by what was cut off.

  If answers that ended by themselves are not read either, a longer limit does
  not help.
  """
  ended, unread, cut = _ended(e, domain)
  if (
    unread + cut and cut >= MOSTLY * (unread + cut) and unread < MOSTLY * ended
  ):
    return (
      f'{cut / (unread + cut):.0%} of them were cut off before an answer: give '
      f'a larger rollout.max_tokens{lib.setting(e, "rollout.max_tokens")}.'
    )
  section = f'domains.{domain}.prompt' if domain else 'prompt'
  own = lib.field(e, f'{section}.suffix')
  suffix = lib.field(e, 'prompt.suffix') if own is None else own
  now = '' if suffix is None else f' (now {suffix!r:.80})'
  few = ''
  if ended:
    few = (
      f'{unread / ended:.0%} of the responses that ended by themselves are '
      'not read. '
    )
  return (
    f'{few}The prompt may not say how to answer: look at '
    f'{section}.suffix{now}, prompt.system and prompt.examples, and at '
    'prompt.reasons'
    f'{lib.setting(e, "prompt.reasons")}: with True, only an answer after '
    '</think> counts.'
  )


def _ended(e: Evidence, domain: str) -> tuple[int, int, int]:
  """Training rollouts that ended by themselves, of them unread, unread and cut.

  All 0 without rows.
  """
  ended = unread = cut = 0
  for (phase, _, where, status), cell in e.tally.cells.items():
    if phase == archive.TRAIN and domain in ('', where):
      ended += cell.rollouts - cell.truncated
      if status == 'unparsed':
        unread += cell.rollouts - cell.truncated
        cut += cell.truncated
  return ended, unread, cut


def failed(e: Evidence) -> Iterator[values.Alarm]:
  for domain, name in lib.by_domain(e, 'judge_failed_share').items():
    now = lib.newest(lib.points(e, name))
    if now is None or now.mean < FAILED:
      continue
    section = f'domains.{domain}.judge' if domain else 'judge'
    yield values.Alarm(
      BAD if now.mean >= VERY_FAILED else WARN,
      f'{now.mean:.1%} of verdicts{lib.of(domain)} failed',
      f'In {now.steps}. {_details(e, ("timeout", "error"), domain)}'
      'Such rollouts train nothing; the run stops at a share of '
      f'judge.max_failed_share{lib.setting(e, "judge.max_failed_share")}. Fix '
      f'the judge {section}.verify or the answers it reads; for timeouts raise '
      f'{section}.timeout_seconds or judge.workers.',
      'rollouts',
      lib.filters(domain, now, status=('timeout', 'error')),
    )


def _details(e: Evidence, statuses: Sequence[str], domain: str) -> str:
  """What the judges say most often, with counts; '' without rows."""
  mine = [
    d
    for d in e.tally.details
    if d.phase == archive.TRAIN
    and d.status in statuses
    and domain in ('', d.domain)
  ]
  if not mine:
    return ''
  shown = [
    f'{_quoted(d.kind)} {lib.times(d.count)} ({d.domain}, {d.status}, '
    f'{lib.steps(d.first, d.last)})'
    for d in mine[:_DETAILS]
  ]
  if mine[0].example != mine[0].kind:
    shown[0] += f', such as {_quoted(mine[0].example)}'
  return f'The judge says {"; ".join(shown)}. '


def _quoted(detail: str) -> str:
  return f'"{detail[:100]}"' if detail else 'nothing'


def domains(e: Evidence) -> Iterator[values.Alarm]:
  """Domains without a right rollout."""
  for domain, mine in _grouped(e, lambda asked: asked.domain).items():
    total = sum(map(_judged, mine))
    if total >= NONE_RIGHT and not any(asked.right for asked in mine):
      yield values.Alarm(
        BAD,
        f'No answer{lib.of(domain)} was ever right',
        f'{total:,} answers to {len(mine):,} prompts were read. '
        f'{_details(e, ("wrong",), domain)}{_tests(domain)}',
        'rollouts',
        dict(domain=domain, phase=archive.TRAIN, status='wrong'),
      )


def families(e: Evidence) -> Iterator[values.Alarm]:
  """Sets of prompts, told apart by their ids, without a right rollout."""
  # Ids may have no numbers, and then there are as many sets as prompts.
  judged, solved = collections.Counter(), collections.Counter()
  for asked in e.tally.prompts:
    judged[asked.domain] += _judged(asked)
    solved[asked.domain] += asked.right
  found = _grouped(e, lambda asked: (asked.domain, family(asked.prompt)))
  for (domain, name), mine in found.items():
    others = judged[domain] - (total := sum(map(_judged, mine)))
    right = solved[domain]
    failing = sum(map(_failed, mine))
    is_dead = total + failing >= NONE_RIGHT and len(mine) >= FAMILY
    if (
      not is_dead
      or any(asked.right for asked in mine)
      or not others
      or right / others < OTHERS_RIGHT
    ):
      continue
    said = collections.Counter(asked.detail or '' for asked in mine)
    detail, count = said.most_common(1)[0]
    same = f' For {count} of them all verdicts say {_quoted(detail)}.'
    yield values.Alarm(
      # Problems that are only too hard fail in different ways.
      BAD if detail and count > len(mine) / 2 else WARN,
      f'No prompt of the set {name[:60]!r} was ever solved',
      f'{total:,} answers read and {failing:,} failed verdicts of '
      f'{len(mine):,} prompts with such ids ({_ids(mine)}), none right; '
      f'{right / others:.0%} of other rollouts of {domain} are.'
      f'{same if detail else ""} {_tests(domain)}',
      'rollouts',
      dict(prompt=_common(mine)),
    )


def family(prompt: str) -> str:
  """The set that a prompt's id belongs to: its id with # for numbers."""
  return _DIGITS.sub('#', prompt[:200])


def same_words(e: Evidence) -> Iterator[values.Alarm]:
  """Prompts that always fail with the same detail."""
  for domain, every in _grouped(e, lambda asked: asked.domain).items():
    often = [
      asked
      for asked in every
      if asked.steps >= SAME_STEPS and _judged(asked) + _failed(asked) >= SAME
    ]
    mine = [a for a in often if not a.right and a.detail]
    if len(mine) < max(SAME_PROMPTS, SAME_SHARE * len(often)):
      continue
    said = collections.Counter(asked.detail for asked in mine)
    detail, count = said.most_common(1)[0]
    yield values.Alarm(
      WARN,
      f'{len(mine):,} prompts of {domain or "the run"} always fail in the same '
      'words',
      f'Of {len(often):,} that were asked {SAME_STEPS} times or more. Most '
      f'often, for {count:,} prompts: {_quoted(detail)}. For example '
      f'{_ids(mine)}. {_tests(domain)}',
      'rollouts',
      dict(domain=domain, detail=detail[:100]),
    )


def never_solved(e: Evidence) -> Iterator[values.Alarm]:
  """Prompts that were asked often and never solved, if many or odd."""
  for domain, every in _grouped(e, lambda asked: asked.domain).items():
    often = [a for a in every if a.steps >= OFTEN and _judged(a)]
    mine = [a for a in often if not a.right]
    others = sorted(a.right / _judged(a) for a in often if a.right)
    if len(often) < OFTEN_PROMPTS or not others:
      continue
    share = len(mine) / len(often)
    gap = others[int(HARDLY * len(others))]
    is_odd = len(mine) >= ODD and share >= ODD_SHARE and gap >= GAP
    if share < NEVER and not is_odd:
      continue
    told = (
      f'{len(mine):,} of {len(often):,} that were asked in {OFTEN} steps or '
      f'more, for example {_ids(mine)}. '
    )
    if is_odd:
      told += (
        f'{1 - HARDLY:.0%} of the others are solved in {gap:.0%} of their '
        f'tries or more, so these are not just harder. {_tests(domain)} '
      )
    yield values.Alarm(
      WARN,
      f'{share:.0%} of prompts{lib.of(domain)} were never solved',
      f'{told}To leave such prompts out: filter.keep_unsolved'
      f'{lib.setting(e, "filter.keep_unsolved")}.',
      'prompts',
      dict(kind='never solved'),
    )


def _tests(domain: str) -> str:
  who = f' of {domain}' if domain else ''
  return (
    f'The reference answers or tests{who} may be wrong: open some of these '
    'rollouts, and compare what was given with what was expected.'
  )


def _judged(asked: tallies.Asked) -> int:
  """Rollouts whose answer was read; for others there is `unparsed`."""
  return _count(asked, 'right', 'wrong')


def _failed(asked: tallies.Asked) -> int:
  return _count(asked, 'timeout', 'error')


def _count(asked: tallies.Asked, *statuses: str) -> int:
  pairs = zip(types.STATUSES, asked.counts)
  return sum(count for status, count in pairs if status in statuses)


def _grouped(e: Evidence, key) -> dict:
  found = collections.defaultdict(list)
  for asked in e.tally.prompts:
    found[key(asked)].append(asked)
  return dict(found)


def _ids(mine: Sequence[tallies.Asked]) -> str:
  ranked = sorted(mine, key=lambda asked: -asked.rollouts)
  return ', '.join(repr(asked.prompt[:60]) for asked in ranked[:_IDS])


def _common(mine: Sequence[tallies.Asked]) -> str:
  """The beginning that all their ids share."""
  low, high = (f(asked.prompt for asked in mine) for f in (min, max))
  pairs = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(low, high))
  return ''.join(a for a, _ in pairs)


# Wrong tests and references come first: nothing else would help.
RULES = domains, families, unparsed, failed, same_words, never_solved
