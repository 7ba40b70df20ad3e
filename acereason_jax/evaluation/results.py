"""From an evaluation's folder to results.json: outcomes, numbers, digests.

Everything in results.json except 'cost' depends only on the settings, so an
evaluation that was killed and went on has the same bytes.
"""

import collections
import importlib.metadata
import json
import os
import pathlib
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import acereason_jax
from acereason_jax import checkout, files, storage
from acereason_jax.console import exits, terminal
from acereason_jax.evaluation import (
  figures,
  judges,
  published,
  reading,
  samples,
  scores,
  settings,
  table,
  values,
)
from acereason_jax.evaluation.problems import Ready
from acereason_jax.verifiers import digest, votes

PACKAGES = ('jax', 'jaxlib', 'numpy', 'scipy', 'sympy', 'math-verify')
_STARTS = 'starts.jsonl'
_MAX_STARTS_BYTES = 16 << 20
_MOST_COST = 1e12
# Of a rollout, as processes tell it to each other.
Told = list[Any]


# --- settings ---------------------------------------------------------------


def judge_settings(judge: values.Judge) -> dict[str, Any]:
  """Everything that a judge's verdicts depend on, except the machine's speed.

  digest: SHA-256 of the judges' source; of the file of another judge.
  """
  arguments = {k: v for k, v in judge.verify.items() if k != 'fn'}
  fn = judge.verify['fn']
  return _plain(dict(fn=fn, arguments=arguments, digest=digest.source(fn)))


def benchmark_settings(ready: Ready, prompts: str) -> dict[str, Any]:
  """The settings of a benchmark; `prompts` is the digest of its prompts."""
  return _plain(
    dict(
      prompts=prompts,
      questions=ready.questions,
      answers=ready.answers,
      max_tokens=ready.benchmark.max_tokens,
      n=ready.benchmark.n,
      missing=ready.missing,
    )
  )


def all_judges(ready: Sequence[Ready]) -> dict[str, dict[str, Any]]:
  """`judge_settings` by 'benchmark.judge'."""
  return {
    f'{r.benchmark.name}.{name}': judge_settings(judge)
    for r in ready
    for name, judge in r.benchmark.judges.items()
  }


def _plain(value: Any) -> Any:
  """As JSON gives it back."""
  return json.loads(json.dumps(value))


# --- outcomes ---------------------------------------------------------------


def told(
  store: samples.Store,
  pools: judges.Pools,
  ready: Sequence[Ready],
  progress: Callable[[], None] = lambda: None,
) -> list[Told]:
  """This process's outcomes, as JSON: what `outcomes` takes of everyone.

  `progress` is called now and then.
  """
  classes: dict[tuple[samples.Key, str], int | None] = {}
  voting: set[tuple[str, str]] = set()
  for each in ready:
    if each.benchmark.majority:
      for judge in each.benchmark.judges:
        found = _classes(store, pools, each, judge, progress)
        if found is not None:
          voting.add((each.benchmark.name, judge))
          classes |= {(key, judge): number for key, number in found.items()}
  return [
    [
      *key,
      kept.length,
      kept.stop,
      {
        judge: 'error'
        if kept.stop == 'error'
        else store.verdicts[judge][key].status
        for judge in each.benchmark.judges
      },
      {
        judge: classes.get((key, judge))
        for judge in each.benchmark.judges
        if (each.benchmark.name, judge) in voting
      },
      {
        judge: found.reason
        for judge in each.benchmark.judges
        if (found := store.verdicts[judge].get(key)) and found.reason
      },
    ]
    for each in ready
    for key, kept in _of(store, each)
  ]


def outcomes(
  everyones: Iterable[Told], ready: Sequence[Ready]
) -> dict[str, list[values.Outcome]]:
  """The outcomes of each benchmark, in the order of problems and indices."""
  found: dict[str, list[values.Outcome]] = {r.benchmark.name: [] for r in ready}
  for benchmark, *rest in everyones:
    found[benchmark].append(values.Outcome(*rest))
  for each in ready:
    place = {p.row.id: i for i, p in enumerate(each.problems)}
    found[each.benchmark.name].sort(key=lambda o: (place[o.id], o.index))
  return found


def _of(
  store: samples.Store, ready: Ready
) -> Iterator[tuple[samples.Key, samples.Kept]]:
  """The rollouts of a benchmark's problems, without those now left out."""
  ids, name = {p.row.id for p in ready.problems}, ready.benchmark.name
  for key, kept in store.own.items():
    # Nobody asked for more than n; a user may have added them.
    is_asked = key.index < ready.benchmark.n and key.id in ids
    if key.benchmark == name and is_asked:
      yield key, kept


def _classes(
  store: samples.Store,
  pools: judges.Pools,
  ready: Ready,
  judge: str,
  progress: Callable[[], None],
) -> dict[samples.Key, int | None] | None:
  """The classes of wrong answers; None for a judge that has no answers."""
  benchmark = ready.benchmark
  read = votes.reader(benchmark.judges[judge].verify)
  if read is None:
    return None
  by_problem = collections.defaultdict(list)
  for key, kept in _of(store, ready):
    found = store.verdicts[judge].get(key)
    # A truncated response gives no answer, whatever it holds.
    if kept.stop == 'stop' and found and found.status == 'wrong':
      by_problem[key.id].append(key)
  keys = {name: sorted(each) for name, each in sorted(by_problem.items())}
  answers = {
    name: [read(store.text(key)) for key in each] for name, each in keys.items()
  }
  pool = pools.of(benchmark.name, judge)
  found = votes.classes(pool, read, answers, progress)
  return {
    key: number
    for name, each in keys.items()
    for key, number in zip(each, found[name], strict=True)
  }


# --- results ----------------------------------------------------------------


def assemble(
  plan: values.Plan,
  ready: Sequence[Ready],
  found: Mapping[str, list[values.Outcome]],
  of: Mapping[str, Any],
  cost: Mapping[str, Any],
  before: Mapping[str, Any] | None,
) -> dict[str, Any]:
  """results.json; `of`: the settings; `before`: what a start wrote earlier.

  Its entries of benchmarks that are not asked now stay.
  """
  about = of['about']
  parts: dict[str, dict[str, Any]] = {
    part: {
      name: value
      for name, value in (before or {}).get(part, {}).items()
      if name in of['benchmarks'] and _is_current(before, of, name)
    }
    for part in ('data', 'rollouts', 'benchmarks')
  }
  if before and before['published'] != (plan.published or None):
    # The row is told once: numbers of another one must not stand under it.
    parts['benchmarks'] = {
      name: {judge: e | dict(published=None) for judge, e in entries.items()}
      for name, entries in parts['benchmarks'].items()
    }
  for each in ready:
    bench, name = each.benchmark, each.benchmark.name
    parts['data'][name] = _data(each, of)
    parts['rollouts'][name] = dict(
      asked=bench.n * len(each.problems), **scores.rollouts(found[name])
    )
    parts['benchmarks'][name] = {}
    for judge in bench.judges:
      entry = scores.score(
        bench,
        judge,
        each.problems,
        found[name],
        plan.max_failed_share,
        each.humans,
      )
      entry['published'] = scores.published(
        entry, bench, published.row(plan.published) if plan.published else None
      )
      parts['benchmarks'][name][judge] = entry
  return _plain(
    dict(
      schema=reading.SCHEMA,
      model=about['model'],
      sampling=about['sampling'],
      engine=about['engine'],
      versions=_versions(),
      judges=dict(sorted(of['judges'].items())),
      published=plan.published or None,
      **{part: dict(sorted(value.items())) for part, value in parts.items()},
      cost=cost,
    )
  )


def finish(
  plan: values.Plan,
  ready: Sequence[Ready],
  everyones: Iterable[Told],
  store: samples.Store,
) -> int:
  """Writes results.json and prints the table; returns the exit status.

  It is 1 if too many verdicts of a benchmark failed.
  """
  folder = store.folder
  made = assemble(
    plan,
    ready,
    outcomes(everyones, ready),
    store.settings,
    cost(folder, plan.price_per_chip_hour),
    read(folder),
  )
  write(folder, made)
  done = settings.ended(store.settings, all_judges(ready))
  if done != store.settings:
    settings.write(folder, done)
  figures.write(folder / 'figures', figures.of_results(made))
  for line in table.told(made):
    terminal.say(line)
  terminal.say(f'all in {terminal.printable(str(folder))}')
  marked = [
    f'{name}.{judge}'
    for name, entries in made['benchmarks'].items()
    for judge, entry in entries.items()
    if entry['marked']
  ]
  if not marked:
    return 0
  terminal.say(
    f'error: more than {plan.max_failed_share:.2%} of the verdicts of '
    f'{", ".join(marked)} failed; look at verdicts/ for the reasons, and ask '
    f'anew with --judge={terminal.printable(str(folder))}',
    to_stderr=True,
  )
  return exits.FOR_USER


def _is_current(
  before: Mapping[str, Any], of: Mapping[str, Any], benchmark: str
) -> bool:
  """Whether the judges of a benchmark are still those of earlier results."""
  names = [f'{benchmark}.{judge}' for judge in before['benchmarks'][benchmark]]
  return all(before['judges'].get(n) == of['judges'].get(n) for n in names)


def write(folder: pathlib.Path, results: Mapping[str, Any]) -> None:
  """Raises OSError, one line."""
  text = json.dumps(results, indent=1, allow_nan=False) + '\n'
  files.write_atomically(folder / reading.NAME, text)


def read(folder: pathlib.Path) -> dict[str, Any] | None:
  """What an earlier start wrote; None if there is nothing that can be read."""
  try:
    return reading.read(folder)
  except (ValueError, OSError):
    return None


def _data(ready: Ready, of: Mapping[str, Any]) -> dict[str, Any]:
  bench = ready.benchmark
  return dict(
    files=dict(ready.files),
    problems=len(ready.problems),
    missing=ready.missing,
    prompts=of['benchmarks'][bench.name]['prompts'],
    answers=ready.answers,
    n=bench.n,
    max_tokens=bench.max_tokens,
    prompting=bench.prompt._asdict(),
    first_prompt=of['about']['first_prompts'].get(bench.name),
  )


def _versions() -> dict[str, str | None]:
  found = dict(
    acereason_jax=acereason_jax.__version__,
    commit=checkout.commit() or None,
    python=platform.python_version(),
  )
  for package in PACKAGES:
    try:
      found[package] = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
      found[package] = None
  return found


# --- cost -------------------------------------------------------------------


def add_start(folder: pathlib.Path, **start: float) -> None:
  """Keeps the cost of a start that ends. Raises OSError."""
  with (folder / _STARTS).open('a') as file:
    file.write(json.dumps(start) + '\n')


def cost(folder: pathlib.Path, price: float) -> dict[str, Any]:
  """The cost of all starts that ended, or were stopped; a kill loses its own.

  tokens: tokens decoded. seconds: wall time. chips: accelerators of the last
  start that decoded. chip_hours: sum over starts; None without chips. price: of
  a chip-hour; None if unknown. judge_seconds: running time of process 0's
  verdicts.
  """
  starts = []
  content = storage.read(os.path.join(folder, _STARTS), _MAX_STARTS_BYTES)
  for line in (content or b'').splitlines():
    try:
      start = {k: float(v) for k, v in json.loads(line).items()}
    except (ValueError, AttributeError, TypeError, RecursionError):
      continue  # Half a line of a process that was killed.
    if all(0 <= value < _MOST_COST for value in start.values()):
      starts.append(start)
  total = lambda name: sum(s.get(name, 0.0) for s in starts)
  hours = sum(s.get('chips', 0) * s.get('seconds', 0) for s in starts) / 3600
  return dict(
    tokens=int(total('tokens')),
    seconds=round(total('seconds'), 1),
    chips=int(next((s['chips'] for s in reversed(starts) if 'chips' in s), 0)),
    chip_hours=round(hours, 3) if hours else None,
    price=price or None,
    judge_seconds=round(total('judge_seconds'), 1),
  )
