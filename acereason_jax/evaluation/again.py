"""Judges rollouts that exist: kept ones anew, or those of a user's file."""

import contextlib
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from acereason_jax.console import exits, terminal
from acereason_jax.data import records, rollouts
from acereason_jax.evaluation import (
  judges,
  problems,
  reading,
  results,
  samples,
  settings,
  values,
)

# Called each second while judges work.
Heed = Callable[[], None]

_WORK_SECONDS = 1.0
_ENGINE = ('dtype', 'kv_dtype', 'window', 'device', 'jax')


def judge(plan: values.Plan, out: str, names: Sequence[str], heed: Heed) -> int:
  """Asks judges anew about the rollouts in a folder; returns the exit status.

  `names` are the judges; () asks all of them. An error of `heed` ends it.

  Raises:
    SystemExit: one line, something for the user to fix.
  """
  with exits.one_line_for(ValueError, OSError):
    folder = samples.folder_at(out)
    if (old := settings.read(folder)) is None:
      raise ValueError(
        f'--judge={out}: holds no evaluation; give what --out was'
      )
    plan = _as_asked(plan, old, out)
    ready = problems.read(plan, old)
    _check_questions(ready, old, out)
    chosen = _chosen(plan, names)
    new = _judged_now(old, ready, chosen)

  def prepare(store: samples.Store) -> None:
    # The verdicts go first: a kill in between leaves none of another judge.
    store.forget(chosen, [b.name for b in plan.benchmarks])
    settings.write(store.folder, new)

  store = samples.Store(out, _names(ready))
  return _evaluate(plan, ready, store, new, prepare, heed)


def _names(ready: Sequence[problems.Ready]) -> list[str]:
  """The judges of all benchmarks."""
  return sorted({name for r in ready for name in r.benchmark.judges})


def take(plan: values.Plan, file: str, out: str, heed: Heed) -> int:
  """Judges the responses of a user's file; returns the exit status.

  Its lines have id, index and text, and benchmark if the plan has several; they
  may have length and stop, as those of generate. An error of `heed` ends it.

  Raises:
    SystemExit: one line, something for the user to fix.
  """
  with exits.one_line_for(ValueError, OSError):
    folder = samples.folder_at(out)
    old = settings.read(folder)
    ready = problems.read(plan, old)
    new = settings.merged(folder, old, _of_file(plan, ready, file))

  def prepare(store: samples.Store) -> None:
    ids = {r.benchmark.name: {p.row.id for p in r.problems} for r in ready}
    gone = {(r.benchmark.name, name) for r in ready for name, _ in r.missing}
    seen = set()
    for where, record in rollouts.read_records(file):
      key = _key(where, record, plan)
      if key[:2] in gone:
        continue
      if key.id not in ids[key.benchmark]:
        raise ValueError(
          f'{where}: {key.benchmark} has no problem {key.id!r:.80}; give the '
          'ids of its data'
        )
      if key in seen:
        raise ValueError(
          f'{where}: rollout {key.index} of {key.id!r:.80} comes twice; give '
          'each an index of its own'
        )
      seen.add(key)
      if key not in store.own:
        store.write_sample(key, _record(record))
    if not seen:
      raise ValueError(f'{file}: holds no rollouts of the benchmarks')

  store = samples.Store(out, _names(ready), new=new)
  return _evaluate(plan, ready, store, new, prepare, heed)


def _evaluate(
  plan: values.Plan,
  ready: Sequence[problems.Ready],
  store: samples.Store,
  new: Mapping[str, Any],
  prepare: Callable[[samples.Store], None],
  heed: Heed,
) -> int:
  with contextlib.ExitStack() as stack:
    with exits.one_line_for(ValueError, OSError):
      stack.enter_context(store)
      pools = stack.enter_context(
        judges.Pools(plan.benchmarks, problems.workers(plan))
      )
      prepare(store)
    with exits.one_line_for(OSError):
      judging = judges.Judging(store, pools, ready)
      before = store.judge_seconds
      while not judging.work(_WORK_SECONDS):
        heed()
      told = results.told(store, pools, ready)
      results.add_start(
        store.folder, judge_seconds=store.judge_seconds - before
      )
      return results.finish(plan, ready, told, store.folder, new)


def _as_asked(
  plan: values.Plan, old: Mapping[str, Any], out: str
) -> values.Plan:
  """The plan with n and max_tokens of the rollouts in the folder."""
  found = []
  for benchmark in plan.benchmarks:
    if (known := old['benchmarks'].get(benchmark.name)) is None:
      terminal.say(f'{benchmark.name}: not in {terminal.printable(out)}')
      continue
    found.append(
      benchmark._replace(n=known['n'], max_tokens=known['max_tokens'])
    )
  if not found:
    raise ValueError(
      f'--judge={out}: has {", ".join(old["benchmarks"])}, and none of the '
      'benchmarks of the config; give the config that it was made with'
    )
  return plan._replace(benchmarks=tuple(found))


def _check_questions(
  ready: Sequence[problems.Ready], old: Mapping[str, Any], out: str
) -> None:
  """Raises ValueError if other questions were asked; answers may differ."""
  for each in ready:
    name = each.benchmark.name
    if old['benchmarks'][name].get('questions') != each.questions:
      raise ValueError(
        f'--judge={out}: {name} has other questions than those that were '
        'asked; give the data that it was made with'
      )


def _chosen(plan: values.Plan, names: Sequence[str]) -> list[str]:
  there = sorted({name for b in plan.benchmarks for name in b.judges})
  if unknown := [name for name in names if name not in there]:
    raise ValueError(
      f'--judges={",".join(unknown)}: no such judge; the config has '
      f'{", ".join(there)}'
    )
  return list(names) or there


def _judged_now(
  old: Mapping[str, Any],
  ready: Sequence[problems.Ready],
  chosen: Sequence[str],
) -> dict[str, Any]:
  """The settings after judges were asked anew."""
  benchmarks = dict(old['benchmarks'])
  for each in ready:
    name = each.benchmark.name
    benchmarks[name] = benchmarks[name] | results.benchmark_settings(
      each, benchmarks[name]['prompts']
    )
  anew = {
    name: value
    for name, value in results.all_judges(ready).items()
    if name.partition('.')[2] in chosen or name not in old['judges']
  }
  both = dict(benchmarks=benchmarks, judges=old['judges'] | anew)
  return settings.ordered(dict(old, **both))


def _of_file(
  plan: values.Plan, ready: Sequence[problems.Ready], file: str
) -> dict[str, Any]:
  """Settings of rollouts that another program made; much is unknown."""
  with records.opened(file, None) as opened:
    digests = dict(rollouts=hashlib.file_digest(opened, 'sha256').hexdigest())
  return dict(
    schema=reading.SCHEMA,
    **digests,
    benchmarks={
      r.benchmark.name: results.benchmark_settings(r, r.questions)
      for r in ready
    },
    judges=results.all_judges(ready),
    about=dict(
      model=dict(name=file, step=None, digests=digests),
      sampling=dict.fromkeys((*plan.sampling._fields, 'seed')),
      engine=dict.fromkeys(_ENGINE),
      first_prompts={},
    ),
  )


def _key(
  where: str, record: Mapping[str, Any], plan: values.Plan
) -> samples.Key:
  names = {b.name: b.n for b in plan.benchmarks}
  name = record.get('benchmark', next(iter(names)) if len(names) == 1 else None)
  if name not in names:
    raise ValueError(
      f'{where}: benchmark {name!r:.60}; expected one of {", ".join(names)}'
    )
  index = record['index']
  if type(index) is not int or not 0 <= index < names[name]:
    raise ValueError(
      f'{where}: index {index!r:.30}; expected 0 to {names[name] - 1}, or set '
      f'config.benchmarks.{name}.n higher'
    )
  return samples.Key(name, record['id'], index)


def _record(record: Mapping[str, Any]) -> dict[str, Any]:
  length, stop = record.get('length'), record.get('stop')
  return dict(
    stop=stop if stop in ('stop', 'length', 'error') else 'stop',
    length=length if type(length) is int and length >= 0 else 0,
    text=record['text'],
  )
