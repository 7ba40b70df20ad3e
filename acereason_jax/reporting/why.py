"""Says why rollouts have their verdicts, rewards and gradients."""

import collections
import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow

from acereason_jax import storage, types
from acereason_jax.console import terminal
from acereason_jax.data import archive, verdicts
from acereason_jax.reporting import asking, samples, values
from acereason_jax.rl import reasons

_ID_CHARS, _SHOWN_CHARS, _TAIL_CHARS = 1000, 4000, 1500
_MOST_LINES, _WHAT_CHARS = 200, 40
# The code judge has a minute of CPU time for a verdict, and the same again.
_TELL_SECONDS = 600.0
# Files of rows that are searched for a prompt, and the steps that are named.
_SEARCHED, _NAMED = 500, 5


def explain(
  found: values.Samples, folder: str, *, seconds: float, trusted: bool = False
) -> values.Samples:
  """The same rollouts, each with why it has its verdict.

  The judges have `seconds` in total; see `asking.ask`. Raises: OSError.
  """
  groups = collections.defaultdict(list)
  for sample in found.samples:
    groups[_group_key(sample.row)].append(sample.row)
  known = asking.known(folder)
  said = asking.ask(found.samples, known, seconds, trusted)
  return found._replace(
    samples=[
      sample._replace(
        why=_why(
          sample.row, groups[_group_key(sample.row)], answer, known, folder
        )
      )
      for sample, answer in zip(found.samples, said)
    ]
  )


def command(folder: str, row: Mapping[str, Any]) -> str:
  """The command that explains a rollout, quoted for a shell."""
  words = [
    *('python', '-m', 'acereason_jax.report', '--why', folder),
    f'--prompt={shown_id(row["prompt"])}',
    f'--step={row["step"]}',
    f'--index={row["index"]}',
  ]
  if row['phase'] != archive.TRAIN:
    words.append(f'--phase={row["phase"]}')
  return shlex.join(words)


def shown_id(prompt: str) -> str:
  """An id on one line, escaped, so that it can be copied into a terminal."""
  return terminal.one_line(prompt, _ID_CHARS)


def _group_key(row: Mapping[str, Any]) -> tuple[int, str, str]:
  return row['step'], row['phase'], row['prompt']


def _why(
  row: Mapping[str, Any],
  group: Sequence[Mapping[str, Any]],
  said: types.Verdict | str,
  known: asking.Known,
  folder: str,
) -> values.Why:
  """`said` is the judge's explanation, or why there is none."""
  lines, note = [], ''
  if isinstance(said, str):
    note = said
  else:
    lines = explanation(said.detail)
    if said.status != row['status']:
      lines.append(('verdict now', said.status))
  return values.Why(
    [*lines, *row_reasons(row, group, known)], note, command(folder, row)
  )


def explanation(detail: str) -> list[tuple[str, str]]:
  """(what, text) of each line of a judge's explanation; what may be ''."""
  lines = terminal.cut(detail, verdicts.EXPLAINED_CHARS).split('\n')
  found = []
  for line in lines[:_MOST_LINES]:
    what, colon, text = line.partition(': ')
    if colon and 0 < len(what.strip()) <= _WHAT_CHARS:
      found.append((what.strip(), text))
    else:
      found.append(('', line))
  if (more := len(lines) - _MOST_LINES) > 0:
    found.append(('', f'... {more:,} more lines'))
  return found


def row_reasons(
  row: Mapping[str, Any],
  group: Sequence[Mapping[str, Any]],
  known: asking.Known,
) -> list[tuple[str, str]]:
  """Why a rollout has its reward, advantage and gradient.

  `group` has the rows of all rollouts of the prompt in the same file.
  """
  number = lambda value: math.nan if value is None else value
  rewards = [other['reward'] for other in group]
  return reasons.sentences(
    reasons.Facts(
      row['status'],
      row['stop'],
      row['length'],
      number(row['reward']),
      number(row['advantage']),
      row['counted'],
      row['trained'],
      [reward for reward in rewards if reward is not None],
      heldout=row['phase'] in (archive.HELDOUT, archive.BEFORE),
      probe=row['phase'] == archive.PROBE,
    ),
    known.rules.get(row['stage']),
  )


def tell(
  folder: str,
  prompt: str,
  *,
  step: int,
  index: int,
  phase: str = archive.TRAIN,
  trusted: bool = False,
) -> list[str]:
  """Lines about a rollout of a run, escaped for a terminal.

  `prompt` is the prompt's id, or what `shown_id` makes of it. The other
  arguments are those of data/archive.py:Row, and of `asking.ask`.

  Raises:
    ValueError, OSError: one line; there is no such rollout, and what there is.
  """
  place = archive.Place(step, phase)
  group = _group_rows(folder, place, prompt)
  row = next((row for row in group if row['index'] == index), None)
  if row is None:
    has = sorted(other['index'] for other in group)
    raise ValueError(
      f'--index={index}: step {step} has {_ranges(has)} of this prompt'
    )
  known = asking.known(folder)
  kept = samples.read_group(folder, place, row['prompt'])
  sample = next((s for s in kept if s.row['index'] == index), None)
  if sample is None:
    why = _why(row, group, _not_kept(row), known, folder)
  else:
    (said,) = asking.ask([sample], known, _TELL_SECONDS, trusted)
    why = _why(row, group, said, known, folder)
  return [*_told(row, why, sample), *_told_group(row, group)]


def _group_rows(
  folder: str, place: archive.Place, prompt: str
) -> list[dict[str, Any]]:
  """The rows of a prompt in a file. Raises: ValueError, OSError."""
  if (ids := _ids(folder, place)) is None:
    raise ValueError(_no_file(folder, place))
  if (found := _matching(prompt, ids)) is None:
    raise ValueError(_no_prompt(folder, place, prompt))
  rows = samples.read_rows(folder, place, [found]) or []
  # A stage that was over at once probed at the step of the next one.
  rows = [row for row in rows if row['stage'] == rows[-1]['stage']]
  return sorted(rows, key=lambda row: row['index'])


def _ids(folder: str, place: archive.Place) -> list[str] | None:
  """The ids in a file of rows; None without the file."""
  path = storage.join(folder, archive.FOLDER, place.name)
  data = storage.read(path, archive.MAX_FILE_BYTES)
  if data is None:
    return None
  try:
    table = archive.read_rows(data, ['prompt'])
    return table.column('prompt').unique().to_pylist()
  except (ValueError, pyarrow.ArrowException) as e:
    raise ValueError(f'{path}: {" ".join(str(e).split()):.200}') from e


def _matching(prompt: str, ids: Sequence[str]) -> str | None:
  """The id that is meant: itself, or the only one that is shown so."""
  if prompt in ids:
    return prompt
  shown = [name for name in ids if shown_id(name) == prompt]
  return shown[0] if len(shown) == 1 else None


def _no_file(folder: str, place: archive.Place) -> str:
  """Why a step has no file: one line."""
  there = samples.places(folder)
  if not there:
    return (
      f'{folder}: keeps no rollouts; is it the folder of a run of this version?'
    )
  steps = [p.step for p in there if p.phase == place.phase]
  if not steps:
    phases = dict.fromkeys(p.phase for p in there)
    return f'--phase={place.phase}: the run has {", ".join(phases)}'
  near = sorted(steps, key=lambda step: (abs(step - place.step), step))
  named = ', '.join(f'{step}' for step in sorted(near[:_NAMED]))
  return (
    f'--step={place.step}: no rollouts of this step ({place.phase}); the run '
    f'has {len(steps):,} steps with them, the nearest are {named}'
  )


def _no_prompt(folder: str, place: archive.Place, prompt: str) -> str:
  """Why a file does not have a prompt, and which files do: one line."""
  there = [p for p in samples.places(folder) if p.phase == place.phase]
  there.sort(key=lambda p: (abs(p.step - place.step), p.step))
  found = []
  for other in there[:_SEARCHED]:
    if _matching(prompt, _ids(folder, other) or ()) is not None:
      found.append(other.step)
    if len(found) == _NAMED:
      break
  where = f'none of the {min(len(there), _SEARCHED):,} nearest steps asks it'
  if found:
    where = f'it was in {", ".join(map(str, sorted(found)))}'
  start = terminal.one_line(prompt, 100)
  return f'--prompt={start}: not in step {place.step} ({place.phase}); {where}'


def _not_kept(row: Mapping[str, Any]) -> str:
  if row['phase'] == archive.PROBE:
    return 'The text was not kept: of a probe only rows are.'
  if row['kept']:
    return (
      'The text was removed: those of old steps go when all take more than '
      'keep.budget_gb.'
    )
  return (
    'The text was not kept. A step keeps the texts of whole groups: '
    'keep.groups of them drawn at random, and one for each other reason, such '
    'as a failed verdict. A larger keep.groups keeps more.'
  )


def _told(
  row: Mapping[str, Any], why: values.Why, sample: values.Sample | None
) -> Iterator[str]:
  """The rollout itself."""
  line = lambda text: terminal.one_line(text, _SHOWN_CHARS)
  stage = f', stage {row["stage"]}' if row['stage'] else ''
  yield line(f'{shown_id(row["prompt"])}[{row["index"]}]')
  yield line(
    f'step {row["step"]} ({row["phase"]}{stage}, domain {row["domain"]}), '
    f'{row["length"]:,} tokens, ended by {row["stop"]}'
  )
  yield line(f'{row["status"]}: {row["detail"]}').rstrip(': ')
  for what, text in why.lines:
    yield line(f'  {what}: {text}' if what else f'  {text}')
  if why.note:
    yield line(why.note)
  if sample is None:
    return
  yield from _block('question', sample.question, 'Q')
  yield from _block('answer', sample.answer, 'A')
  lost = max(len(sample.text) - _TAIL_CHARS, 0)
  head = f'response, without its first {lost:,} characters'
  yield from _block(head if lost else 'response', sample.text[lost:], '>')


def _block(head: str, text: str, mark: str) -> Iterator[str]:
  """A text under a head. The mark shows that no line of it is ours."""
  yield f'{head}:'
  shown = terminal.printable(terminal.cut(text, _SHOWN_CHARS))
  for line in shown.split('\n'):
    yield f'  {mark} {line}'


def _told_group(
  row: Mapping[str, Any], group: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
  """A line for each rollout of the group."""
  yield f'its group of {len(group)}:'
  number = lambda value: '-' if value is None else f'{value:g}'
  for other in group:
    mark = '*' if other['index'] == row['index'] else ' '
    text = (
      f'{mark} [{other["index"]}] {other["status"]}, reward '
      f'{number(other["reward"])}, advantage {number(other["advantage"])}, '
      f'{other["length"]:,} tokens, {other["stop"]}: {other["detail"]}'
    )
    yield terminal.one_line(text, 200).rstrip(': ')


def _ranges(numbers: Sequence[int]) -> str:
  """'indices 0 to 7', or those that there are, at most twenty."""
  if list(numbers) == list(range(numbers[0], numbers[-1] + 1)):
    return f'indices {numbers[0]} to {numbers[-1]}'
  return f'indices {", ".join(map(str, numbers[:20]))}'
