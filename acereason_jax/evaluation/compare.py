"""Two models on the same problems: what changed, and what luck would give.

A and B are results.json as `reading.read` gives them. All statistics follow
from the counts of the problems that both have a verdict for; `pairs` has them.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from acereason_jax.console import terminal
from acereason_jax.evaluation import estimators, pairs, scores

SCHEMA = 1
_SHOWN_CHARS = 60
# What the rollouts of A and B may differ in without a word from the user. A
# seed chooses draws, and no number is about them.
_FREE = ('seed',)
_Results = Mapping[str, Any]
_Entry = Mapping[str, Any]


def compare(
  a: _Results, b: _Results, anyway: bool = False, only: Sequence[str] = ()
) -> dict[str, Any]:
  """What changed from A to B, for compare.json.

  a, b: name and step of the models. benchmarks: by benchmark and judge, the
    numbers of `_judged`; `headline` is the first judge that A and B share.
  differ: what makes the comparison unfair; empty without `anyway`.
  engines: differences of the engines, which may move a rate by themselves.
  holm: benchmarks whose headline p values are adjusted together.

  Args:
    a: results of the first model.
    b: results of the second.
    anyway: compares although data, prompts, sampling, judges or limits differ.
    only: names of benchmarks; () for all that both have.

  Raises:
    ValueError: one line; nothing in common, or not evaluated alike.
  """
  shared = {name: _judges(a, b, name) for name in _names(a, b, only)}
  differ = list(_differing(a, b, shared))
  if differ and not anyway:
    raise ValueError(
      f'A and B were not evaluated alike: {"; ".join(differ)}; --anyway '
      'compares them all the same, and says so'
    )
  found = {
    name: dict(
      headline=judges[0],
      judges={judge: _judged(a, b, name, judge) for judge in judges},
    )
    for name, judges in shared.items()
  }
  heads = [each['judges'][each['headline']] for each in found.values()]
  for head, p in zip(heads, pairs.holm([head['p'] for head in heads])):
    head['p_holm'] = p
  return dict(
    schema=SCHEMA,
    a=_model(a),
    b=_model(b),
    differ=differ,
    engines=list(_unequal('engine', a['engine'], b['engine'])),
    left_out=dict(
      a=[name for name in a['benchmarks'] if name not in found],
      b=[name for name in b['benchmarks'] if name not in found],
    ),
    holm=list(found),
    benchmarks=found,
  )


def _model(results: _Results) -> dict[str, Any]:
  return {name: results['model'][name] for name in ('name', 'step')}


def _names(a: _Results, b: _Results, only: Sequence[str]) -> list[str]:
  """The benchmarks that both have, in the order of A."""
  shared = [name for name in a['benchmarks'] if name in b['benchmarks']]
  every = [', '.join(each['benchmarks']) or 'none' for each in (a, b)]
  if not shared:
    raise ValueError(
      f'A and B have no benchmark in common: A has {every[0]}; B has {every[1]}'
    )
  if unknown := [name for name in only if name not in shared]:
    raise ValueError(
      f'--only={",".join(unknown)[:_SHOWN_CHARS]}: not in both; A and B share '
      f'{", ".join(shared)}'
    )
  return [name for name in shared if not only or name in only]


def _judges(a: _Results, b: _Results, name: str) -> list[str]:
  """The judges of a benchmark that both have, in the order of A."""
  mine, others = a['benchmarks'][name], b['benchmarks'][name]
  if shared := [judge for judge in mine if judge in others]:
    return shared
  raise ValueError(
    f'{name}: A was judged by {", ".join(mine) or "none"}, B by '
    f'{", ".join(others) or "none"}; judge one again: evaluate --judge DIR '
    '--judges=NAME'
  )


def _differing(
  a: _Results, b: _Results, shared: Mapping[str, Sequence[str]]
) -> Iterator[str]:
  """What A and B were not given alike, one text each."""
  yield from _unequal('sampling', a['sampling'], b['sampling'])
  for name, judges in shared.items():
    mine, others = a['data'][name], b['data'][name]
    # One file may give several sets of tests.
    for field in ('files', 'prompts', 'answers', 'max_tokens'):
      if mine[field] == others[field]:
        continue
      ends = [_end(each) for each in (mine, others)]
      if field == 'prompts' and all(ends):
        yield f'{name}: the prompts differ: {_ends(ends)}'
      else:
        yield _unlike(f'{name}.{field}', mine[field], others[field])
    for judge in judges:
      key = f'{name}.{judge}'
      yield from _unequal(
        f'judge {key}', a['judges'].get(key, {}), b['judges'].get(key, {})
      )


def _unequal(
  what: str, mine: Mapping[str, Any], others: Mapping[str, Any]
) -> Iterator[str]:
  for field in sorted((mine.keys() | others.keys()) - set(_FREE)):
    if mine.get(field) != others.get(field):
      yield _unlike(f'{what}.{field}', mine.get(field), others.get(field))


def _end(data: Mapping[str, Any]) -> str:
  """The end of the first prompt; '' if it is unknown, as in a stranger's."""
  match data.get('first_prompt'):
    case {'ends': str(text)}:
      return ascii(text[-_SHOWN_CHARS:])
  return ''


def _ends(ends: Sequence[str]) -> str:
  if ends[0] == ends[1]:
    return f'the first ends {ends[0]} in both'
  return f'the first ends {ends[0]} in A, {ends[1]} in B'


def _unlike(what: str, mine: Any, others: Any) -> str:
  words = [
    'unknown' if each is None else terminal.one_line(str(each), _SHOWN_CHARS)
    for each in (mine, others)
  ]
  what = terminal.one_line(what, 2 * _SHOWN_CHARS)
  return f'{what}: {words[0]} in A, {words[1]} in B'


def _judged(a: _Results, b: _Results, name: str, judge: str) -> dict[str, Any]:
  """The numbers of one benchmark and judge.

  problems: those that both have a verdict for. apart: problems of A and of B
    that are not among them.
  a, b: avg@k with its errors on these problems, k, and lengths; those of right
    and of wrong responses are of all problems.
  difference, rerun_error, problems_error, p, detectable: see `pairs.Paired`.
  p_holm: p adjusted for the other benchmarks; None except for a headline.
  flips, newly_solved, newly_lost: see `pairs`; problems by their ids.
  never: what 0 right of the fewest rollouts in A means.
  pass_at_k: of both, at the k that both have. solve_rates: [right, judged] of
    every problem in A and in B.
  """
  mine, others = (each['benchmarks'][name][judge] for each in (a, b))
  rows = _paired_rows(name, mine, others)
  n_a, c_a, n_b, c_b = counts = np.array(
    [(x['n'], x['right'], y['n'], y['right']) for x, y in rows], np.int64
  ).T
  paired = pairs.paired(*counts)
  lost = pairs.newly_solved(n_b, c_b, n_a, c_a)
  fewest = int(n_a.min())
  return dict(
    problems=len(rows),
    apart=dict(
      a=mine['problems'] - len(rows), b=others['problems'] - len(rows)
    ),
    a=_side(mine, n_a, c_a, [x for x, _ in rows]),
    b=_side(others, n_b, c_b, [y for _, y in rows]),
    difference=scores.number(paired.difference),
    rerun_error=scores.number(paired.rerun_error),
    problems_error=scores.number(paired.problems_error),
    p=scores.number(paired.p),
    p_holm=None,
    detectable=scores.number(paired.detectable),
    flips=_flips(rows, pairs.flips(*counts)),
    newly_solved=_newly(rows, pairs.newly_solved(*counts)),
    newly_lost=_newly(rows, lost),
    never=dict(n=fewest, bound=estimators.never_bound(fewest)),
    pass_at_k=_curves(mine, others, counts),
    solve_rates=[
      dict(id=x['id'], a=[x['right'], x['n']], b=[y['right'], y['n']])
      for x, y in rows
    ],
  )


def _paired_rows(
  name: str, mine: _Entry, others: _Entry
) -> list[tuple[_Entry, _Entry]]:
  """by_problem of A and B, for the ids that both have a verdict for."""
  of_b = {row['id']: row for row in others['by_problem']}
  rows = [(x, of_b.get(x['id'])) for x in mine['by_problem']]
  judged = [(x, y) for x, y in rows if y and x['n'] and y['n']]
  if judged:
    return judged
  if any(y for _, y in rows):
    raise ValueError(f'{name}: no problem has a verdict in both A and B')
  few = [
    ', '.join(terminal.one_line(row['id'], 40) for row in e['by_problem'][:2])
    for e in (mine, others)
  ]
  raise ValueError(
    f'{name}: A and B share no ids: A has {few[0] or "none"}; B has '
    f'{few[1] or "none"}; give results of the same file'
  )


def _side(
  entry: _Entry, n: np.ndarray, c: np.ndarray, rows: Sequence[_Entry]
) -> dict[str, Any]:
  found = estimators.average(n, c)
  lengths = [
    row['mean_length'] for row in rows if row['mean_length'] is not None
  ]
  return dict(
    avg=scores.number(found.avg),
    rerun_error=scores.number(found.rerun_error),
    problems_error=scores.number(found.problems_error),
    k=scores.number(found.k),
    marked=entry['marked'],
    truncated=sum(row['truncated'] for row in rows) / int(n.sum()),
    length=dict(
      mean=sum(lengths) / len(lengths) if lengths else None,
      right=entry['lengths']['right']['mean'],
      wrong=entry['lengths']['wrong']['mean'],
    ),
  )


def _problem(row: tuple[_Entry, _Entry], p: float) -> dict[str, Any]:
  """A problem with [right, judged] in A and in B, and its Fisher p."""
  x, y = row
  return dict(
    id=x['id'], a=[x['right'], x['n']], b=[y['right'], y['n']], p=float(p)
  )


def _flips(
  rows: Sequence[tuple[_Entry, _Entry]], found: pairs.Flips
) -> dict[str, Any]:
  # The surest first.
  listed = lambda places: [
    _problem(rows[i], found.p[i])
    for i in sorted(places, key=lambda i: (found.p[i], i))
  ]
  return dict(
    up=listed(found.up),
    down=listed(found.down),
    expected_up=float(found.expected_up),
    expected_down=float(found.expected_down),
  )


def _newly(
  rows: Sequence[tuple[_Entry, _Entry]], found: pairs.Newly
) -> dict[str, Any]:
  order = sorted(zip(found.fisher, found.places))
  sure = set(found.sure)
  return dict(
    count=len(found.places),
    expected=float(found.expected),
    p=float(found.p),
    problems=[dict(_problem(rows[i], p), sure=i in sure) for p, i in order],
  )


def _curves(
  mine: _Entry, others: _Entry, counts: Sequence[np.ndarray]
) -> list[dict[str, Any]]:
  """pass@k of both on the common problems, at the k that both curves have."""
  n_a, c_a, n_b, c_b = counts
  known = [{point['k'] for point in e['pass_at_k']} for e in (mine, others)]
  # A stranger's file may name any k.
  most = min(int(n_a.min()), int(n_b.min()))
  ks = sorted(k for k in known[0] & known[1] if k <= most)
  if not ks:
    return []
  return [
    dict(k=x['k'], a=_without_k(x), b=_without_k(y))
    for x, y in zip(scores.curve(n_a, c_a, ks), scores.curve(n_b, c_b, ks))
  ]


def _without_k(point: Mapping[str, Any]) -> dict[str, Any]:
  return {name: value for name, value in point.items() if name != 'k'}
