"""results.json as a table for a terminal of 80 columns, and what it means."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from acereason_jax.console import terminal
from acereason_jax.evaluation import estimators, shown

_HEADER = ('', '', 'n', 'avg', 'rerun', 'problems', 'trunc', 'len')
_PUBLISHED = ('published', 'diff')
_MINUTE, _HOUR = 60, 3600
_MOST_ERRORS = 99.9
_MOST_GROUPS, _MOST_SOURCES = 12, 3
_LEGEND = (
  'n: problems x rollouts of each. avg: right ones, in %. Its standard errors: '
  'rerun for other draws on the same problems, problems for other problems '
  'like these; - if there is nothing to estimate it from.'
)
_LEGEND_OF_PUBLISHED = (
  'diff: avg minus the published number, in standard errors (SE) of that '
  'difference over reruns; luck alone exceeds 2 in one of 20 cases.'
)
_Entry = Mapping[str, Any]


def told(results: Mapping[str, Any]) -> list[str]:
  """The lines: model, table, what to know about its numbers, cost.

  A row is a benchmark and a judge; a benchmark's first row is the headline.
  avg and errors are in percent; '!' marks an average of which too many
  judgements failed; '-' stands where a number does not exist.
  """
  compared = any(entry['published'] for *_, entry in _entries(results))
  rows = [(*_HEADER, *_PUBLISHED) if compared else _HEADER]
  for bench, judge, entry in _entries(results):
    row = _row(results, bench, judge, entry)
    rows.append((bench, judge, *row, *_difference(entry)[: 2 * compared]))
  return [
    *shown.wrapped(_model(results), indent=2),
    *shown.table(rows, names=2),
    *_wrapped(f'{_LEGEND} {_LEGEND_OF_PUBLISHED}' if compared else _LEGEND),
    *(line for note in _notes(results) for line in _wrapped(note)),
    *_wrapped(_failures(results)),
    *_wrapped(_cost(results)),
  ]


def _wrapped(text: str) -> Iterator[str]:
  return shown.wrapped(text, indent=2)


def _entries(results: Mapping[str, Any]) -> Iterator[tuple[str, str, _Entry]]:
  for bench, judges in results['benchmarks'].items():
    for judge, entry in judges.items():
      yield bench, judge, entry


def _model(results: Mapping[str, Any]) -> str:
  model = results['model']
  step = '' if model['step'] is None else f', step {model["step"]}'
  return f'{model["name"]}{step}'


def _row(
  results: Mapping[str, Any], bench: str, judge: str, entry: _Entry
) -> list[str]:
  every = results['benchmarks'][bench]
  mark = '!' if entry['marked'] else ' '
  if not any(e['marked'] for *_, e in _entries(results)):
    mark = ''
  trunc = length = ''
  # The rollouts are the same for every judge.
  if judge == next(iter(every)):
    trunc = shown.percent(entry['truncated'])
    trunc = trunc if trunc == shown.NONE else f'{trunc}%'
    # A response has a token at least; rollouts of a file may have no lengths.
    length = shown.size(results['rollouts'][bench]['length']['mean'] or None)
  return [
    f'{_problems(results["data"][bench], entry)}x{shown.mean(entry["k"])}',
    shown.percent(entry['avg']) + mark,
    shown.error(entry['rerun_error']),
    shown.error(entry['problems_error']),
    trunc,
    length,
  ]


def _problems(data: Mapping[str, Any], entry: _Entry) -> str:
  """'30', or '29/30' if the average is not over all that the files hold."""
  every = data['problems'] + len(data['missing'])
  found = shown.count(entry['problems'])
  return (
    found if entry['problems'] == every else f'{found}/{shown.count(every)}'
  )


def _difference(entry: _Entry) -> tuple[str, str]:
  """The published number, and the difference in standard errors."""
  paper = entry['published']
  if not paper:
    return '', ''
  value, difference = paper['value'], paper['difference']
  told = shown.NONE
  if difference is not None:
    over = '' if abs(difference) <= _MOST_ERRORS else '>'
    bounded = max(-_MOST_ERRORS, min(_MOST_ERRORS, difference))
    told = f'{over}{shown.signed(bounded)} SE'
  return _of_paper(value), told


def _of_paper(value: float | None) -> str:
  """A rate in percent, or a rating as it is."""
  if value is None or value <= 1:
    return shown.percent(value)
  return _whole(value)


def _notes(results: Mapping[str, Any]) -> Iterator[str]:
  """What a reader must know about the rows, one text each."""
  for bench, judges in results['benchmarks'].items():
    headline: list[str] = []
    for judge, entry in judges.items():
      is_drawn = results['engine'].get('dtype') is not None
      notes = [*_about(results['data'][bench], entry, is_drawn)]
      # Another judge's notes are told where they differ.
      new = [note for note in notes if note not in headline]
      if not headline:
        headline = notes
        new += _groups(entry)
      yield from (f'{bench} {judge}: {note}' for note in new)
  for bench, data in results['data'].items():
    if missing := data['missing']:
      ids = ', '.join(terminal.one_line(id, 40) for id, _ in missing[:3])
      more = ' ...' if len(missing) > 3 else ''
      yield (
        f'{bench}: {data["problems"]} problems, without {len(missing)} that '
        f'cannot be used: {ids}{more}'
      )
  if paper := results['published']:
    yield _published(paper, [entry for *_, entry in _entries(results)])


def _published(paper: str, entries: Sequence[_Entry]) -> str:
  found = [entry['published'] for entry in entries if entry['published']]
  text = f'published: {terminal.one_line(paper, 60)}'
  if sources := sorted({terminal.one_line(p['source'], 60) for p in found}):
    text += f' ({", ".join(sources[:_MOST_SOURCES])})'
  if any(p.get('estimated') for p in found):
    text += (
      '; where it gives no error, its error is that of our solve rates at its k'
    )
  return text


def _about(
  data: Mapping[str, Any], entry: _Entry, is_drawn: bool
) -> Iterator[str]:
  if entry['k'] is None:
    yield 'no rollout was judged'
    return
  k, avg = shown.mean(entry['k']), shown.percent(entry['avg'])
  if entry['judged'] < entry['asked']:
    yield f'avg@{k} of {data["n"]}: {_lost(data, entry, is_drawn)}'
  if entry['rerun_error'] == 0:
    n = math.floor(entry['k'])
    bound = shown.percent(estimators.never_bound(n))
    yield (
      'every problem was always or never right, so no rerun error can be '
      f'estimated; 0 of {n:,} fits a solve rate of up to {bound}% (95%)'
    )
  reach = entry['rerun_error'] or 0
  unread = entry.get('unread')
  if unread and unread['count'] > reach * entry['judged']:
    yield _unread(entry['judged'], unread['count'], unread['reason'])
  best = entry['if_truncated_right']
  if best is not None and best - entry['avg'] > reach:
    without = shown.percent(entry['if_truncated_left_out'])
    yield (
      f'{avg} would be {shown.percent(best)} with every truncated response '
      f'right, and is {without} without them'
    )
  fewest = min(row['n'] for row in entry['by_problem'] if row['n'])
  if fewest < data['n']:
    yield (
      f'pass@k and maj@k end at k = {fewest:,}, the fewest verdicts of a '
      'problem'
    )
  if many := _of_many(entry):
    yield many
  if entry['rating']:
    yield from _rating(entry)


def _unread(judged: int, count: int, reason: str) -> str:
  text = (
    f'{count:,} of {_counted(judged, "response")} ended without an answer that '
    'the judge can read'
  )
  if reason:
    text += f', most often: {terminal.one_line(reason, 80)}'
  if reason == 'no </think>':
    return f'{text}; give the judge reasons=False if the model does not reason'
  return f'{text}; look at verdicts/'


def _lost(data: Mapping[str, Any], entry: _Entry, is_drawn: bool) -> str:
  """What is between the rollouts that were asked for and the verdicts.

  Those that a user's file lacks are not drawn later.
  """
  told = []
  if entry['failed']:
    told.append(f'{_counted(entry["failed"], "judgement")} failed')
  given = entry['judged'] + entry['failed']
  if (absent := entry['asked'] - given) > 0:
    told.append(
      f'{_counted(absent, "rollout")} not there yet'
      if is_drawn
      else f'{given:,} of {_counted(entry["asked"], "rollout")} given'
    )
  if (unjudged := data['problems'] - entry['problems']) > 0:
    told.append(f'{_counted(unjudged, "problem")} without a verdict left out')
  return ', '.join(told)


def _counted(number: int, noun: str) -> str:
  return f'{number:,} {noun}{"" if number == 1 else "s"}'


def _of_many(entry: _Entry) -> str:
  """pass@k at the largest k that has an error, and maj@k at the largest."""
  found = []
  if above := [p for p in entry['pass_at_k'] if p['k'] > 1]:
    point = max(above, key=lambda p: (p['rerun_error'] is not None, p['k']))
    few = ', few rollouts' if point['few'] else ''
    found.append(
      f'pass@{point["k"]} {shown.percent(point["value"])} '
      f'({shown.error(point["rerun_error"])} rerun, '
      f'{shown.error(point["problems_error"])} problems{few})'
    )
  if above := [p for p in entry['majority'] or () if p['k'] > 1]:
    found.append(f'maj@{above[-1]["k"]} {shown.percent(above[-1]["value"])}')
  return ', '.join(found)


def _groups(entry: _Entry) -> Iterator[str]:
  """avg@k of the groups of problems, one text a kind."""
  for kind, groups in entry['strata'].items():
    told = [
      f'{terminal.one_line(value, 40)} {shown.percent(group["avg"])} '
      f'{shown.error(group["problems_error"])} ({group["problems"]})'
      for value, group in [*groups.items()][:_MOST_GROUPS]
    ]
    if more := len(groups) - len(told):
      told.append(f'{more:,} more in results.json')
    yield f'by {terminal.one_line(kind, 40)} (problems): {", ".join(told)}'


def _rating(entry: _Entry) -> Iterator[str]:
  """Ours by the problems' ratings, next to the published one; in contests."""
  rating, paper = entry['rating'], entry['published']
  if rating['value'] is not None:
    bound, why = {
      'all': ('at least ', ': everything was solved'),
      'none': ('at most ', ': nothing was solved'),
    }.get(rating['bound'], ('', ''))
    text = f'rating {bound}{_rated(rating, " rerun")}{why}'
    if paper and paper['value'] is not None and paper['value'] > 1:
      text += f'; published: {_whole(paper["value"])}{_above(paper)}'
    yield text
  if contests := rating['contests']:
    part = f'{contests["contests"]:,} of {contests["given"]:,} contests'
    if contests['value'] is None:
      yield f'no rating in contests: {part} have a verdict for every problem'
    else:
      yield f'rating in {part}: {_rated(contests, " over contests")}'


def _rated(rating: Mapping[str, Any], kind: str = '') -> str:
  """'1475 +-60 (above 84.8% of contestants)'; `kind` follows the error."""
  text = _whole(rating['value'])
  if rating['error'] is not None:
    text += f' +-{_whole(rating["error"])}{kind}'
  return text + _above(rating)


def _above(rating: Mapping[str, Any]) -> str:
  if (share := rating['percentile']) is None:
    return ''
  return f' (above {shown.percent(share)}% of contestants)'


def _whole(value: float) -> str:
  return shown.size(value) if abs(value) >= 10_000 else f'{value:.0f}'


def _failures(results: Mapping[str, Any]) -> str:
  entries = [entry for *_, entry in _entries(results)]
  failed = sum(entry['failed'] for entry in entries)
  judged = sum(entry['judged'] for entry in entries)
  text = f'judge failures {failed:,} of {judged + failed:,}'
  if any(entry['marked'] for entry in entries):
    text += '; ! marks averages of which too many judgements failed'
  return text


def _cost(results: Mapping[str, Any]) -> str:
  """Tokens, time, chips and price, as far as they are known."""
  cost = results['cost']
  text = f'{shown.size(cost.get("tokens"))} tokens'
  if (seconds := cost.get('seconds')) is None:
    return text
  text += f', {_time(seconds)}'
  device = terminal.one_line(str(results['engine'].get('device', '')), 40)
  if chips := cost.get('chips'):
    hours = cost.get('chip_hours') or 0.0
    text += f' on {chips:.0f} {device}'.rstrip() + f' = {hours:,.1f} chip-h'
    if price := cost.get('price'):
      total = price * hours
      text += f' (${total:,.2f} at price_per_chip_hour={price:g})'
  return text


def _time(seconds: float) -> str:
  if seconds < 2 * _MINUTE:
    return f'{seconds:.0f} s'
  if seconds < 2 * _HOUR:
    return f'{seconds / _MINUTE:.0f} min'
  return f'{seconds / _HOUR:,.1f} h'
