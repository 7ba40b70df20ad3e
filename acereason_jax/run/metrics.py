"""The metrics files of a run, its line per step, and samples of rollouts.

Text that a model wrote is hostile: nothing here prints it unescaped.
"""

import contextlib
import json
import math
import os
import pathlib
import resource
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
from tensorboardX import event_file_writer
from tensorboardX import summary as summaries
from tensorboardX.proto import event_pb2

from acereason_jax import files, types
from acereason_jax.console import live, terminal
from acereason_jax.rl import objective, reasons

# The metrics of a step line, in order: name, text before, format, text after.
_COLUMNS = (
  ('reward', 'reward ', '.2f', ''),
  ('pass_rate', 'pass ', '.2f', ''),
  ('response_length', 'len ', '.1f', ''),
  ('truncated_share', 'trunc ', '.2f', ''),
  ('entropy', 'ent ', '.2f', ''),
  ('mismatch', 'mis ', '.0e', ''),
  ('tokens_per_second', '', '.0f', ' tok/s'),
  ('seconds_sample', 'sample ', '.1f', 's'),
  ('cpu_seconds_sample', 'cpu ', '.1f', 's'),
  ('seconds_judge', 'judge ', '.1f', 's'),
  ('seconds_update', 'update ', '.1f', 's'),
  ('cpu_seconds_update', 'cpu ', '.1f', 's'),
)

# Columns of the table below the step lines, in order: title, rank, and the
# metric that a column of `_COLUMNS` formats.
_TABLE = (
  ('reward', 1, 'reward'),
  ('pass', 2, 'pass_rate'),
  ('len', 4, 'response_length'),
  ('trunc', 6, 'truncated_share'),
  ('ent', 5, 'entropy'),
  ('mis', 7, 'mismatch'),
  ('tok/s', 8, 'tokens_per_second'),
  ('sample', 10, 'seconds_sample'),
  ('judge', 11, 'seconds_judge'),
  ('update', 12, 'seconds_update'),
)
TABLE = (
  live.Column('stage', 9),
  *(live.Column(title, rank) for title, rank, _ in _TABLE),
  live.Column('held out', 3),
)

# Prefixes of metrics that measure this machine and this start of the run. All
# other metrics are bit-identical, whatever interrupted the run.
MEASURED = (
  'seconds_',
  'cpu_seconds_',
  'tokens_per_second',
  'peak_gb',
  'reshard_gb',
  'hbm_',
  'decoded_tokens',
  'host_share',
  'judge_wait_share',
  'judge_slowest_process',
  'mfu',
  'occupancy',
  'page_use',
  'preempted',
  'prefill_',
  'recomputed_tokens',
  'saved_steps',
  'slot_share_',
  'wasted_steps',
)


class Writer:
  """Context manager: writes `workdir`/metrics.jsonl and TensorBoard events.

  `resume_step` is the first step that will be written. A killed run may have
  left lines of that step and later, or half a line; they are dropped. Only one
  process of a run may have a Writer.
  """

  def __init__(self, workdir: str | os.PathLike, *, resume_step: int):
    self._path = pathlib.Path(workdir) / 'metrics.jsonl'
    self._path.parent.mkdir(parents=True, exist_ok=True)
    self._resume_step = resume_step

  def __enter__(self) -> 'Writer':
    if self._path.exists():
      kept = _lines_before(self._path, self._resume_step)
      files.write_atomically(self._path, kept)
    self._file = self._path.open('a')
    self._events = _Events(self._path.parent / 'tensorboard')
    self._events.purge(self._resume_step)
    return self

  def __exit__(self, *exc) -> None:
    self._file.close()
    self._events.close()

  def write(self, step: int, metrics: Mapping[str, float]) -> None:
    """Adds a line; a value that is not finite becomes null in the file."""
    record = {'step': step} | {k: float(v) for k, v in metrics.items()}
    self._file.write(_dumps(record) + '\n')
    self._file.flush()
    for name, value in metrics.items():
      if math.isfinite(value):
        self._events.scalar(step, name, float(value))
    self._events.flush()


class _Events:
  """A file of TensorBoard events in `folder`, written without a thread.

  tensorboardX's own SummaryWriter writes from a thread, which ends in a
  traceback when the disk is full, and through a queue that needs /dev/shm.
  """

  def __init__(self, folder: pathlib.Path):
    folder.mkdir(parents=True, exist_ok=True)
    self._file = event_file_writer.EventsWriter(str(folder / 'events'))
    self.flush, self.close = self._file.flush, self._file.close

  def purge(self, step: int) -> None:
    """Makes readers forget values in earlier files from `step` on."""
    start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
    self._write(step, session_log=start)

  def scalar(self, step: int, name: str, value: float) -> None:
    self._write(step, summary=summaries.scalar(name, value))

  def _write(self, step: int, **what: Any) -> None:
    event = event_pb2.Event(step=step, wall_time=time.time(), **what)
    self._file.write_event(event)


def summary(workdir: str | os.PathLike, values: Mapping[str, Any]) -> None:
  """Writes `workdir`/summary.json, atomically."""
  path = pathlib.Path(workdir) / 'summary.json'
  path.parent.mkdir(parents=True, exist_ok=True)
  files.write_atomically(path, _dumps(values, indent=2) + '\n')


def step_line(step: int, total: int, metrics: Mapping[str, float]) -> str:
  """One readable line, when `step` of `total` steps are done.

  Reads the metrics named in `_COLUMNS`, and `seconds_step`, the wall time of
  the whole step, from which the time left is estimated.

  Raises:
    KeyError: one of them is missing.
  """
  columns = [
    f'{before}{_number(metrics[name], spec)}{after}'
    for name, before, spec, after in _COLUMNS
  ]
  left = terminal.duration((total - step) * metrics['seconds_step'])
  return '  '.join([f'step {step}/{total}', *columns, f'eta {left}'])


def table_row(
  step: int,
  total: int,
  metrics: Mapping[str, float],
  *,
  stage: str,
  stages: int,
) -> live.Row:
  """The step in the table below the step lines, a cell of each of `TABLE`.

  The held-out rate is the mean of those domains that were asked. A run of one
  stage does not name it. Reads what `step_line` reads.
  """
  formats = {name: (spec, after) for name, _, spec, after in _COLUMNS}
  cells = [live.Cell(stage if stages > 1 else '')]
  for _, _, name in _TABLE:
    spec, after = formats[name]
    unit = 's' if after == 's' else ''
    text = f'{_number(metrics[name], spec)}{unit}'
    cells.append(live.Cell(text, float(metrics[name])))
  rates = [v for k, v in metrics.items() if k.startswith('heldout/')]
  if rates:
    rate = sum(rates) / len(rates)
    cells.append(live.Cell(f'{rate:.1%}', rate))
  else:
    cells.append(live.Cell(''))
  return live.Row(step, total, cells)


def format_rollouts(
  groups: Sequence[types.Group],
  rules: objective.Rules,
  *,
  count: int,
  max_chars: int,
) -> str:
  """The first rollouts of up to `count` groups, with their verdicts.

  A line says why a right answer has no full reward, and why a response is not
  trained on, by the `rules` of the stage. Text longer than `max_chars` loses
  its middle; a note gives its length.
  """
  blocks = []
  for group in groups[:count]:
    rollout, verdict = group.rollouts[0], group.verdicts[0]
    title = (
      f'{terminal.one_line(group.prompt.id, max_chars)}  '
      f'rollout {rollout.index}  '
      f'{len(rollout.tokens)} tokens, ended by {rollout.stop}  '
      f'{verdict.status}: {terminal.one_line(verdict.detail, max_chars)}'
    )
    parts = (
      ('Q', group.prompt.question),
      ('A', group.prompt.answer),
      ('>', rollout.text),
    )
    lines = [
      f'  {mark} {line}'
      for mark, text in parts
      for line in terminal.printable(terminal.cut(text, max_chars)).split('\n')
    ]
    why = [f'  {what}: {s}' for what, s in reasons.unusual(group, 0, rules)]
    blocks.append('\n'.join([title, *why, *lines]))
  return '\n'.join(blocks)


def display(
  total: int, *, done: int, doing: Callable[[], str]
) -> contextlib.AbstractContextManager[Callable[[live.Row], None]]:
  """`live.display` of the steps, on the first process only."""
  if jax.process_index() != 0:
    return contextlib.nullcontext(lambda row: None)
  return live.display(TABLE, total, done=done, doing=doing)


def say(*args: Any) -> None:
  """Prints a line, on the first process only."""
  if jax.process_index() == 0:
    terminal.say(*args)


def merge(*parts: Mapping[str, float]) -> dict[str, float]:
  """All metrics in one dict.

  Raises:
    ValueError: two parts have a metric of the same name.
  """
  merged = {}
  for part in parts:
    if twice := merged.keys() & part.keys():
      raise ValueError(f'{", ".join(sorted(twice))}: a metric of two values')
    merged |= part
  return merged


def peak_gb() -> float:
  """The peak memory of this process, in GB (1e9 bytes)."""
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  unit = 1 if sys.platform == 'darwin' else 1024
  return peak * unit / 1e9


def hbm(devices: Iterable[Any]) -> dict[str, float]:
  """GB (1e9 bytes) of a device's memory, the largest over `devices`.

  hbm_gb: in use now. hbm_peak_gb: most since the process started. A metric that
  the devices do not report, as CPUs, is left out.
  """
  known = [stats for device in devices if (stats := device.memory_stats())]
  names = dict(hbm_gb='bytes_in_use', hbm_peak_gb='peak_bytes_in_use')
  found = {
    name: [s[key] for s in known if key in s] for name, key in names.items()
  }
  return {name: max(sizes) / 1e9 for name, sizes in found.items() if sizes}


def _number(value: float, spec: str) -> str:
  return format(float(value), spec).replace('e-0', 'e-').replace('e+0', 'e+')


def _strict(value: Any) -> Any:
  """The value with None for NaN and infinity, which JSON does not have."""
  if isinstance(value, Mapping):
    return {k: _strict(v) for k, v in value.items()}
  if isinstance(value, list | tuple):
    return [_strict(v) for v in value]
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value


def _dumps(value: Any, indent: int | None = None) -> str:
  return json.dumps(_strict(value), allow_nan=False, indent=indent)


def _lines_before(path: pathlib.Path, step: int) -> str:
  """The whole lines of steps before `step`, the latest line of each step."""
  kept = {}
  for line in path.read_text(errors='replace').splitlines():
    # A run killed while it wrote leaves half a line.
    with contextlib.suppress(ValueError, RecursionError):
      match json.loads(line):
        case {'step': int(found)} if found < step:
          kept[found] = line
  return ''.join(f'{line}\n' for line in kept.values())
