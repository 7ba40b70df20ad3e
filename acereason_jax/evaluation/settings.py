"""settings.json: everything that rollouts and verdicts depend on.

`benchmarks` and `judges` hold the settings of each benchmark and of each of its
judges; the others are the same for all. `n` may grow, and benchmarks and judges
may be added. `about` is for results.json, and may differ between starts.

`rounds` has how often a judge was asked anew about all rollouts; its verdicts
of earlier rounds count no more. `anew` names the judges whose round has begun
and has no results yet: it goes on when it is asked for again. Both have names
such as 'aime24.strict', and are left out if empty.
"""

import json
import pathlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from acereason_jax import files, storage
from acereason_jax.console import terminal
from acereason_jax.rollout import output

_MAX_BYTES = 64 << 20
_PARTS = ('benchmarks', 'judges')
_ABOUT = 'about'
# Digests of what made the rollouts: of a model, or of a user's file.
_WHOSE = ('model', 'rollouts')
_OF_FOLDER = ('rounds', 'anew')
_EMPTY: Mapping[str, Any] = dict(benchmarks={})
_SHOWN, _SHOWN_CHARS, _NAME_CHARS = 3, 200, 60
_ELSEWHERE = 'give another --out'
# What a start that was killed, or hung, leaves before there are settings.
_EARLY = re.compile(r'\.settings\.json\..*\.partial|stacks-\d+\.txt')
_SAMPLES = re.compile(r'\d+\.jsonl')


def read(
  folder: pathlib.Path, remedy: str = _ELSEWHERE
) -> dict[str, Any] | None:
  """The settings of a folder; None if it is empty or does not exist.

  Raises:
    ValueError, OSError: one line with `remedy`; it is not that of an
      evaluation.
  """
  path = folder / 'settings.json'
  if folder.exists() and not folder.is_dir():
    raise ValueError(f'{folder}: not a folder; {remedy}')
  content = storage.read(path, _MAX_BYTES)
  if content is None:
    holds = _strange(folder)
    if holds and path.exists():
      # Another process of this evaluation has just written them.
      return read(folder, remedy)
    if holds:
      raise ValueError(f'{folder}: {holds}; {remedy}')
    return None
  try:
    found = json.loads(content)
    if _is_whole(found):
      return found
  except (ValueError, RecursionError):
    pass
  raise ValueError(f'{path}: not the settings of an evaluation; {remedy}')


def _strange(folder: pathlib.Path) -> str:
  """What a folder without settings holds that is no evaluation's, or ''."""
  if (folder / 'checkpoints').is_dir():
    return 'holds a training run'
  if any(p.stat().st_size for p in folder.glob('samples/*.jsonl')):
    return 'has rollouts, and no settings.json that tells what made them'
  there = sorted(folder.iterdir()) if folder.is_dir() else []
  for path in there:
    early = (
      all(_SAMPLES.fullmatch(p.name) for p in path.iterdir())
      if path.name == 'samples' and path.is_dir()
      else _EARLY.fullmatch(path.name)
    )
    if not early:
      name = terminal.one_line(path.name, _NAME_CHARS)
      return f"has no settings.json, and holds {name}, which is no evaluation's"
  return ''


def _is_whole(found: Any) -> bool:
  """Whether a folder's settings, maybe a stranger's, hold what is read."""
  match found:
    case {
      'benchmarks': dict(benchmarks),
      'judges': dict(judges),
      'about': {
        'model': {'name': str(), 'step': int() | None},
        'sampling': dict(),
        'engine': {'window': int() | None},
        'first_prompts': dict(),
      },
    }:
      every = map(_is_benchmark, benchmarks.values())
      rounds, anew = found.get('rounds', {}), found.get('anew', [])
      return (
        all(every)
        and all(isinstance(j, dict) for j in judges.values())
        and isinstance(rounds, dict)
        and all(type(number) is int for number in rounds.values())
        and isinstance(anew, list)
        and all(isinstance(name, str) for name in anew)
      )
  return False


def _is_benchmark(found: Any) -> bool:
  match found:
    case {
      'prompts': str(),
      'questions': str(),
      'answers': str(),
      'n': int(n),
      'max_tokens': int(limit),
      'missing': list(missing),
    }:
      pairs = (isinstance(m, list) and len(m) == 2 for m in missing)
      return n > 0 and limit > 0 and all(pairs)
  return False


def write(folder: pathlib.Path, settings: Mapping[str, Any]) -> None:
  """Raises OSError, one line."""
  folder.mkdir(parents=True, exist_ok=True)
  text = json.dumps(settings, indent=2, sort_keys=True) + '\n'
  files.write_atomically(folder / 'settings.json', text)


def known_missing(
  old: Mapping[str, Any] | None, name: str, questions: str, answers: str
) -> list[tuple[str, str]] | None:
  """The problems that an earlier start has left out of the same rows.

  None if there was none, or its rows were others.
  """
  before = (old or _EMPTY)['benchmarks'].get(name, {})
  rows = before.get('questions'), before.get('answers')
  if rows != (questions, answers):
    return None
  return [(str(name), str(reason)) for name, reason in before['missing']]


def merged(
  folder: pathlib.Path,
  old: Mapping[str, Any] | None,
  new: Mapping[str, Any],
) -> dict[str, Any]:
  """The settings to write: those of benchmarks that are not asked now stay.

  Raises:
    ValueError: one line; `old` are those of other rollouts or verdicts.
  """
  if old is None:
    return ordered(new)
  kept = {part: old[part] for part in _OF_FOLDER if part in old}
  new = {name: each for name, each in new.items() if name not in _OF_FOLDER}
  # What only one of them has may be added, or was not asked now.
  common = {part: old[part].keys() & new[part].keys() for part in _PARTS}
  before, after = (
    {n: v for n, v in each.items() if n not in (_ABOUT, *_OF_FOLDER)}
    | {part: {n: each[part][n] for n in common[part]} for part in _PARTS}
    for each in (old, new)
  )
  differ = output.changed(before, after)
  # An argument of a judge may be named n too, and may not grow.
  differ += [
    f'judges.{name}: {json.dumps(each)} -> {json.dumps(after["judges"][name])}'
    for name, each in before['judges'].items()
    if each != after['judges'][name]
    and not any(line.startswith(f'judges.{name}.') for line in differ)
  ]
  if any(before.get(name) != after.get(name) for name in _WHOSE):
    raise ValueError(
      f'{folder}: holds rollouts of {_whose(old, new)}; {_ELSEWHERE}'
    )
  if differ:
    raise ValueError(
      f'{folder}: holds rollouts of other settings: {_told(differ)}; '
      f'{_remedy(folder, differ)}'
    )
  both = {part: old[part] | new[part] for part in _PARTS}
  about = _about(old[_ABOUT], new[_ABOUT])
  return ordered({**new, **both, **kept, _ABOUT: about})


def round_of(
  settings: Mapping[str, Any] | None, benchmark: str, judge: str
) -> int:
  """The round whose verdicts count."""
  return (settings or {}).get('rounds', {}).get(f'{benchmark}.{judge}', 0)


def begun(
  old: Mapping[str, Any], new: Mapping[str, Any], names: Iterable[str]
) -> dict[str, Any]:
  """`new`, in which the judges `names` are asked anew.

  A round that has begun goes on, unless what it depends on differs in `old`.
  """
  rounds, anew = dict(old.get('rounds', {})), set(old.get('anew', []))
  for name in names:
    if name not in anew or _asked(old, name) != _asked(new, name):
      rounds[name] = rounds.get(name, 0) + 1
    anew.add(name)
  return ordered(dict(new, rounds=rounds, anew=sorted(anew)))


def ended(settings: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
  """The settings when the judges `names` have judged everything."""
  anew = sorted(set(settings.get('anew', [])) - set(names))
  rest = {name: each for name, each in settings.items() if name != 'anew'}
  return ordered(rest | (dict(anew=anew) if anew else {}))


def _asked(settings: Mapping[str, Any], name: str) -> list[Any]:
  """What a judge's verdicts depend on, besides the rollouts."""
  benchmark = settings['benchmarks'][name.partition('.')[0]]
  return [settings['judges'].get(name), benchmark['answers']]


def ordered(settings: Mapping[str, Any]) -> dict[str, Any]:
  """As `read` gives them back, so that results have the same order."""
  return json.loads(json.dumps(settings, sort_keys=True))


def _about(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
  engine, first = dict(new['engine']), new['first_prompts']
  windows = [each['engine'].get('window') for each in (old, new)]
  # The longest prompt of all that was asked.
  engine['window'] = max((w for w in windows if w is not None), default=None)
  return {
    **new,
    'engine': engine,
    'first_prompts': old['first_prompts'] | first,
  }


def _whose(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
  """'smollm2-135m, not of runs/my_run, step 18'."""
  names = []
  for model in (old[_ABOUT]['model'], new[_ABOUT]['model']):
    step = '' if model['step'] is None else f', step {model["step"]}'
    names.append(f'{terminal.one_line(model["name"], _SHOWN_CHARS)}{step}')
  if names[0] == names[1]:
    return f'{names[0]} whose files were others'
  return f'{names[0]}, not of {names[1]}'


def _told(differ: list[str]) -> str:
  more = f'; {len(differ) - _SHOWN} more' if len(differ) > _SHOWN else ''
  return '; '.join(line[:_SHOWN_CHARS] for line in differ[:_SHOWN]) + more


def _remedy(folder: pathlib.Path, differ: list[str]) -> str:
  if all(line.startswith('judges.') for line in differ):
    return (
      f'evaluate --judge={folder} --config=... asks the judges anew, or put '
      'them back'
    )
  return 'give another --out, or put them back'
