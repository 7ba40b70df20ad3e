"""A comparison as lines for a terminal of 80 columns."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from acereason_jax.console import terminal
from acereason_jax.evaluation import pairs, shown

_HEADER = ('', '', 'n', 'A', 'B', 'B-A', 'rerun', 'problems', 'p')
_LEGEND = (
  'n: problems x rollouts of each. A, B: right ones, in %. B-A is in points, '
  'with its standard errors for other draws on the same problems (rerun) and '
  'for other problems like these. p: how often luck alone gives a difference '
  'as large (random signs of the differences; for unequal numbers of rollouts, '
  'also rollouts dealt anew). least: the smallest difference that as many '
  'problems and rollouts show, at a level of 5%, in 80% of all runs.'
)
# A difference is clear if luck alone gives one as large this rarely.
_CLEAR = 0.05
# All signs alike: with five problems in 2 of 32 cases.
_FEWEST = 6
# Lines of a list of problems; compare.json has them all.
_LIST_LINES = 4
_Judged = Mapping[str, Any]


def told(comparison: Mapping[str, Any]) -> list[str]:
  """The lines: the answer, models, warnings, a table, then the problems.

  The first two say whether B is better, by how much, and if it could be luck.
  """
  lines = [f'{letter}: {_model(comparison[letter.lower()])}' for letter in 'AB']
  if comparison['differ']:
    lines.append('NOT EVALUATED ALIKE, compared because of --anyway:')
    lines += [f'- {each}' for each in comparison['differ']]
  if comparison['engines']:
    lines.append(f'engines differ: {"; ".join(comparison["engines"])}')
  for letter in 'AB':
    if names := comparison['left_out'][letter.lower()]:
      lines.append(f'only {letter} has {", ".join(names)}')
  return [
    *_answer(comparison),
    '',
    *_wrapped(lines),
    *shown.table(list(_rows(comparison)), names=2),
    *_wrapped(_legend(comparison)),
    *(
      line
      for name, each in comparison['benchmarks'].items()
      for line in _about(name, each)
    ),
  ]


def _answer(comparison: Mapping[str, Any]) -> Iterator[str]:
  warned = 'Not evaluated alike, see below. ' if comparison['differ'] else ''
  heads = {
    name: each['judges'][each['headline']]
    for name, each in comparison['benchmarks'].items()
  }
  if len(heads) > 1:
    yield from _answer_of_many(warned, heads)
    return
  ((name, found),) = heads.items()
  b_a, p = shown.points(found['difference']), shown.probability(found['p'])
  rates = [shown.percent(found[side]['avg']) for side in 'ab']
  said = dict(better='B is better', worse='B is worse', luck='Unclear')
  way = _way(found)
  yield from _wrapped(
    [
      f'{warned}{said[way]} on {name}: {b_a} points, {rates[0]}% -> '
      f'{rates[1]}%{_doubt(found)}.'
    ]
  )
  if way != 'luck':
    text = f'Luck alone rarely gives a difference as large: p {p}.'
  elif found['problems'] < _FEWEST:
    text = f'Fewer than {_FEWEST} problems cannot tell it from luck: p {p}.'
  else:
    text = f'It could be luck: p {p}.'
    if (least := found['detectable']) is not None:
      text += f' Clear would be some {shown.percent(least)} points or more.'
  yield from _wrapped([text])


def _answer_of_many(warned: str, heads: Mapping[str, _Judged]) -> Iterator[str]:
  ways = {name: _way(found) for name, found in heads.items()}
  count = lambda way: [*ways.values()].count(way) or 'none'
  yield from _wrapped(
    [
      f'{warned}B is better on {count("better")} of {len(heads)} benchmarks, '
      f'worse on {count("worse")}; {count("luck")} could be luck.'
    ]
  )
  for way, head in (
    *(('better', 'Better: '), ('worse', 'Worse: ')),
    ('luck', f'Could be luck (p > {_CLEAR} after Holm): '.replace('0.', '.')),
  ):
    items = [
      f'{name} {shown.points(found["difference"])}{_doubt(found)}'
      for name, found in heads.items()
      if ways[name] == way
    ]
    if items:
      yield from shown.listed(head, items, indent=2, lines=_LIST_LINES)


def _way(found: _Judged) -> str:
  if found['p_holm'] > _CLEAR:
    return 'luck'
  return 'better' if found['difference'] > 0 else 'worse'


def _doubt(found: _Judged) -> str:
  marked = found['a']['marked'] or found['b']['marked']
  return ' (too many judgements failed)' if marked else ''


def _wrapped(texts: Sequence[str]) -> Iterator[str]:
  for text in texts:
    yield from shown.wrapped(text, indent=2)


def _model(model: Mapping[str, Any]) -> str:
  step = '' if model['step'] is None else f', step {model["step"]}'
  return f'{terminal.one_line(model["name"], 200)}{step}'


def _is_family(comparison: Mapping[str, Any]) -> bool:
  return len(comparison['holm']) > 1


def _legend(comparison: Mapping[str, Any]) -> Iterator[str]:
  text = _LEGEND
  if _is_family(comparison):
    text += (
      f' Holm: p of the headline judges, adjusted for all '
      f'{len(comparison["holm"])} benchmarks.'
    )
  yield text
  for name, judge, found in _all_judged(comparison):
    apart = found['apart']
    if any(apart.values()):
      yield (
        f'{name} {judge}: both have a verdict for {found["problems"]} '
        f'problems; {apart["a"]} only in A, {apart["b"]} only in B'
      )
    if found['a']['marked'] or found['b']['marked']:
      yield f'{name} {judge}: ! too many judgements failed'


def _all_judged(
  comparison: Mapping[str, Any],
) -> Iterator[tuple[str, str, _Judged]]:
  for name, each in comparison['benchmarks'].items():
    for judge, found in each['judges'].items():
      yield name, judge, found


def _rows(comparison: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
  holm = _is_family(comparison)
  yield (*_HEADER, *(['Holm'] if holm else []), 'least')
  for name, judge, found in _all_judged(comparison):
    row = _numbers(found)
    if holm:
      row.append(shown.probability(found['p_holm']))
    yield name, judge, *row, shown.percent(found['detectable'])


def _numbers(found: _Judged) -> list[str]:
  marks = ['!' if found[side]['marked'] else '' for side in 'ab']
  return [
    f'{shown.count(found["problems"])}x{_k(found)}',
    shown.percent(found['a']['avg']) + marks[0],
    shown.percent(found['b']['avg']) + marks[1],
    shown.points(found['difference']),
    shown.error(found['rerun_error']),
    shown.error(found['problems_error']),
    shown.probability(found['p']),
  ]


def _k(found: _Judged) -> str:
  """Rollouts of each problem: '64', or '64/16' of A and of B."""
  ks = [shown.mean(found[side]['k']) for side in 'ab']
  return ks[0] if ks[0] == ks[1] else '/'.join(ks)


def _about(name: str, each: Mapping[str, Any]) -> Iterator[str]:
  """The headline judge's problems, curves and lengths."""
  found = each['judges'][each['headline']]
  yield ''
  yield from shown.wrapped(f'{name} {each["headline"]}', indent=2)
  yield from _flips(found)
  yield from _newly('newly solved', 'A', found['newly_solved'])
  yield from _newly('newly lost', 'B', found['newly_lost'])
  never = found['never']
  yield (
    f'  never in A: 0 of {never["n"]:,} fits a solve rate of up to '
    f'{shown.percent(never["bound"])}% (95%)'
  )
  yield from _curves(found['pass_at_k'])
  yield from shown.wrapped(_lengths(found), indent=4)


def _lengths(found: _Judged) -> str:
  a, b = found['a'], found['b']
  sizes = [
    f'{kind} {shown.size(a["length"][kind] or None)} -> '
    f'{shown.size(b["length"][kind] or None)}'
    for kind in ('mean', 'right', 'wrong')
  ]
  cut = [shown.percent(side['truncated']) for side in (a, b)]
  return f'  tokens: {", ".join(sizes)}; truncated {cut[0]}% -> {cut[1]}%'


def _flips(found: _Judged) -> Iterator[str]:
  flips = found['flips']
  tries = {(x['a'][1], x['b'][1]) for x in found['solve_rates']}
  if not any(pairs.flips([a], [0], [b], [b]).up for a, b in tries):
    yield from shown.wrapped(
      f'  changed (Fisher p <= .05 each): cannot show with {_k(found)} '
      'rollouts a problem',
      indent=4,
    )
    return
  text = (
    f'  changed (Fisher p <= .05 each): {len(flips["up"])} up, '
    f'{flips["expected_up"]:.1f} expected by luck; '
    f'{len(flips["down"])} down, {flips["expected_down"]:.1f} expected'
  )
  yield from shown.wrapped(text, indent=4)
  for way in ('up', 'down'):
    yield from _list(way, flips[way])


def _newly(what: str, first: str, newly: Mapping[str, Any]) -> Iterator[str]:
  sure = [each for each in newly['problems'] if each['sure']]
  text = (
    f'  {what} (never in {first}): {newly["count"]}, {newly["expected"]:.1f} '
    f'expected by luck, p {shown.probability(newly["p"])}'
  )
  if sure:
    text += f'; {len(sure)} clear (Fisher p <= .05 each)'
  yield from shown.wrapped(text, indent=4)
  yield from _list('clear', sure)


def _list(what: str, problems: Sequence[Mapping[str, Any]]) -> Iterator[str]:
  if not problems:
    return
  words = [
    f'{terminal.one_line(each["id"], 40)} '
    f'{each["a"][0]}/{each["a"][1]}->{each["b"][0]}/{each["b"][1]}'
    for each in problems
  ]
  yield from shown.listed(f'    {what}: ', words, indent=6, lines=_LIST_LINES)


def _curves(points: Sequence[Mapping[str, Any]]) -> Iterator[str]:
  if len(points) < 2:
    return
  rows = [('  pass@k', 'A', 'rerun', 'problems', 'B', 'rerun', 'problems')]
  for point in points:
    few = ' few' if point['a']['few'] or point['b']['few'] else ''
    rows.append(
      (f'  {point["k"]}{few}', *_side(point['a']), *_side(point['b']))
    )
  yield from shown.table(rows, names=1)
  if any(point['a']['few'] or point['b']['few'] for point in points):
    yield '  few: k is over half of the rollouts, so its errors are rough'


def _side(point: Mapping[str, Any]) -> Iterator[str]:
  yield shown.percent(point['value'])
  yield shown.error(point['rerun_error'])
  yield shown.error(point['problems_error'])
