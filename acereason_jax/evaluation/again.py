"""Judges rollouts that exist: kept ones anew, or those of a user's file."""

import contextlib
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from acereason_jax.console import exits, signals, terminal
from acereason_jax.data import records, rollouts
from acereason_jax.evaluation import (
  judges,
  kept,
  problems,
  reading,
  results,
  samples,
  settings,
  values,
)

_WORK_SECONDS = 1.0
_WHAT_WAS = 'give what --out was'
_ENGINE = ('dtype', 'kv_dtype', 'window', 'device', 'jax')


def judge(
  plan: values.Plan,
  config: Mapping[str, Any],
  out: str,
  names: Sequence[str],
  stop: signals.StopRequest,
) -> int:
  """Asks judges anew about the rollouts in a folder; returns the exit status.

  `names` are the judges; () asks all of them. `config` is kept for the next
  time. If it is stopped, the same call goes on.

  Raises:
    SystemExit: one line, something for the user to fix.
  """
  with stop.interruptible(), exits.one_line_for(ValueError, OSError):
    folder = samples.folder_at(out, '--judge')
    if (old := settings.read(folder, _WHAT_WAS)) is None:
      raise ValueError(f'--judge={out}: holds no evaluation; {_WHAT_WAS}')
    plan = _as_asked(plan, old, out)
    ready = problems.read(plan, old)
    chosen = _chosen(plan, names)
    _judged_now(old, ready, chosen, out)

  def prepare(store: samples.Store) -> None:
    # Once more: nobody else writes the folder now.
    new = _judged_now(store.settings or {}, ready, chosen, out)
    _check_others(store, ready, new, chosen)
    store.change(new)

  store = samples.Store(out, _names(ready))
  return _evaluate(plan, config, ready, store, prepare, stop)


def _names(ready: Sequence[problems.Ready]) -> list[str]:
  """The judges of all benchmarks."""
  return sorted({name for r in ready for name in r.benchmark.judges})


def take(
  plan: values.Plan,
  config: Mapping[str, Any],
  file: str,
  out: str,
  stop: signals.StopRequest,
) -> int:
  """Judges the responses of a user's file; returns the exit status.

  Its lines have id, index and text, and benchmark if the plan has several; they
  may have length and stop, as those of generate. If it is stopped, the same
  call goes on.

  Raises:
    SystemExit: one line, something for the user to fix.
  """
  with stop.interruptible(), exits.one_line_for(ValueError, OSError):
    folder = samples.folder_at(out)
    old = settings.read(folder)
    ready = problems.read(plan, old)
    new = _of_file(plan, ready, file)
    settings.merged(folder, old, new)
    # Before anything is written, so that a file can be corrected.
    keys = _checked(plan, ready, file)

  def prepare(store: samples.Store) -> None:
    for where, record in rollouts.read_records(file):
      key = _key(where, record, plan)
      if key in keys and key not in store.own:
        store.write_sample(key, _record(record))

  store = samples.Store(out, _names(ready), new=new)
  return _evaluate(plan, config, ready, store, prepare, stop)


def _checked(
  plan: values.Plan, ready: Sequence[problems.Ready], file: str
) -> set[samples.Key]:
  """The rollouts of a user's file, without those of problems left out."""
  ids = {r.benchmark.name: {p.row.id for p in r.problems} for r in ready}
  gone = {(r.benchmark.name, name) for r in ready for name, _ in r.missing}
  seen: set[samples.Key] = set()
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
  if not seen:
    raise ValueError(f'{file}: holds no rollouts of the benchmarks')
  return seen


def _evaluate(
  plan: values.Plan,
  config: Mapping[str, Any],
  ready: Sequence[problems.Ready],
  store: samples.Store,
  prepare: Callable[[samples.Store], None],
  stop: signals.StopRequest,
) -> int:
  with contextlib.ExitStack() as stack:
    with stop.interruptible(), exits.one_line_for(ValueError, OSError):
      # Before settings are written: a judge may not start.
      pools = stack.enter_context(
        judges.Pools(plan.benchmarks, problems.workers(plan))
      )
      stack.enter_context(store)
      prepare(store)
      kept.write(store.folder, config, [b.name for b in plan.benchmarks])
    with exits.one_line_for(OSError):
      judging = judges.Judging(store, pools, ready)
      before = store.judge_seconds
      try:
        while not judging.work(_WORK_SECONDS):
          stop.heed()
      finally:
        results.add_start(
          store.folder, judge_seconds=store.judge_seconds - before
        )
      with stop.interruptible():
        told = results.told(store, pools, ready)
      return results.finish(plan, ready, told, store)


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
  out: str,
) -> dict[str, Any]:
  """The settings when judges are asked anew.

  Raises:
    ValueError: one line; other questions were asked, or there are other answers
      and some judge is not asked.
  """
  benchmarks, names = dict(old['benchmarks']), set()
  every = results.all_judges(ready)
  for each in ready:
    name, before = each.benchmark.name, old['benchmarks'][each.benchmark.name]
    if before['questions'] != each.questions:
      raise ValueError(
        f'--judge={out}: {name} has other questions than those that were '
        'asked; give the data that it was made with'
      )
    mine = [f'{name}.{judge}' for judge in each.benchmark.judges]
    asked = {full for full in mine if full.partition('.')[2] in chosen}
    if before['answers'] != each.answers:
      if left := sorted(set(mine) - asked):
        raise ValueError(
          f'--judges={",".join(chosen)}: {name} has other answers than those '
          f'that {", ".join(left)} knew; leave --judges out to ask all'
        )
      # Verdicts of a judge that the config has no more are of no use either.
      asked |= {full for full in old['judges'] if full.startswith(f'{name}.')}
    names |= asked
    benchmarks[name] = results.benchmark_settings(each, before['prompts'])
  anew = {
    name: value
    for name, value in every.items()
    if name in names or name not in old['judges']
  }
  both = dict(benchmarks=benchmarks, judges=old['judges'] | anew)
  return settings.begun(old, dict(old, **both), sorted(names))


def _check_others(
  store: samples.Store,
  ready: Sequence[problems.Ready],
  new: Mapping[str, Any],
  chosen: Sequence[str],
) -> None:
  """Raises ValueError if a judge that is not asked anew would be asked at all.

  Some of its verdicts would be of its settings now, and some of those before.
  """
  now = results.all_judges(ready)
  for each in ready:
    ids = {p.row.id for p in each.problems}
    for judge in set(each.benchmark.judges) - set(chosen):
      name = f'{each.benchmark.name}.{judge}'
      lacking = sum(
        key not in store.verdicts[judge]
        for key, one in store.own.items()
        if key.benchmark == each.benchmark.name
        and key.id in ids
        and one.stop != 'error'
      )
      if lacking and new['judges'][name] != now[name]:
        raise ValueError(
          f'{name}: has other settings than before, and no verdict on '
          f'{lacking:,} rollouts; name it in --judges too, or put them back'
        )


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
