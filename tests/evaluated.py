"""Results of evaluations that tests make up, without a model."""

import json
import random
import unicodedata
from collections.abc import Mapping, Sequence

from acereason_jax.data import questions
from acereason_jax.evaluation import figures, scores, table, values


def problem(id, rating=None, **strata):
  row = questions.Row(id, f'What is {id}?', '1')
  return values.Problem(row, strata, rating)


def benchmark(name='sums', n=4, judges=('strict',), **changes):
  every = {judge: values.Judge({}, '', 1.0, True) for judge in judges}
  return values.Benchmark(
    name, {}, n, values.Prompting(), 512, every, **changes
  )


def outcome(
  id, index, status='right', stop='stop', length=10, answer=0, **more
):
  """An outcome that every judge finds the same in; `more`: other judges."""
  statuses = dict(strict=status, **more)
  classes = {
    judge: answer if found == 'wrong' and stop == 'stop' else None
    for judge, found in statuses.items()
    if found != 'right'
  }
  return values.Outcome(id, index, length, stop, statuses, classes)


def drawn(n: int, right: Mapping[str, int], seed=0) -> list[values.Outcome]:
  """n outcomes of each problem, `right` of them right, lengths at random."""
  source = random.Random(seed)
  return [
    outcome(
      id,
      i,
      'right' if i < count else 'wrong',
      length=source.randrange(5, 500),
      answer=i % 3,
    )
    for id, count in right.items()
    for i in range(n)
  ]


def results(
  counts: Mapping[str, Mapping[str, int]],
  n: int | Mapping[str, int] = 4,
  name: str = 'a-model',
  judges: Sequence[str] = ('strict',),
  seed: int = 0,
) -> dict:
  """results.json of benchmarks, by how often each problem was right."""
  data, ended, entries = {}, {}, {}
  for bench, right in counts.items():
    tries = n if isinstance(n, int) else n[bench]
    outcomes = [
      o._replace(
        statuses=dict.fromkeys(judges, o.statuses['strict']),
        answer=dict.fromkeys(judges, o.answer.get('strict')),
      )
      for o in drawn(tries, right, seed)
    ]
    made = benchmark(bench, tries, judges)
    problems = [problem(id) for id in right]
    entries[bench] = {
      judge: scores.score(made, judge, problems, outcomes, 0.01)
      | dict(published=None)
      for judge in judges
    }
    ended[bench] = dict(asked=tries * len(right), **scores.rollouts(outcomes))
    data[bench] = dict(
      files={f'{bench}.jsonl': '0' * 64},
      problems=len(right),
      missing=[],
      prompts='1' * 64,
      answers='6' * 64,
      n=tries,
      max_tokens=512,
    )
  made = dict(
    schema=1,
    model=dict(name=name, step=None, digests={}),
    sampling=dict(temperature=0.6, top_p=0.95, top_k=0, min_p=0.0, seed=0),
    engine=dict(dtype='float32', device='cpu'),
    versions={},
    judges={
      f'{bench}.{judge}': dict(fn='judge:verify', digest='2' * 64)
      for bench in counts
      for judge in judges
    },
    published=None,
    data=data,
    rollouts=ended,
    benchmarks=entries,
    cost=dict(
      tokens=42_500_000,
      seconds=2460.0,
      chips=16,
      chip_hours=10.9,
      price=4.2,
      judge_seconds=12.0,
    ),
  )
  return json.loads(json.dumps(made, allow_nan=False))


def shown_whole(made: Mapping) -> list[str]:
  """The table's lines; figures are drawn too."""
  figures.of_results(made)
  return table.told(made)


def columns(line: str) -> int:
  """Cells of a terminal that the line takes, by Unicode's own data."""
  # Skin tones (UTS 51) colour the emoji before them.
  widths = [
    0
    if unicodedata.category(c) in ('Mn', 'Me') or '🏻' <= c <= '🏿'
    else 1 + (unicodedata.east_asian_width(c) in 'WF')
    for c in line
  ]
  return sum(widths)
