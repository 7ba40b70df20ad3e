"""Checks that a run may resume from a checkpoint: it is of the same run.

A checkpoint may come from a stranger, so the type of each value is checked
before it is used.
"""

import json
from collections.abc import Mapping
from typing import Any

from acereason_jax.config import renamed, steering
from acereason_jax.run import checkpoint, metrics, saving
from acereason_jax.run.values import Progress, Run, Stage


def read_meta(
  run: Run, checkpoints: saving.Checkpoints
) -> dict[str, Any] | None:
  """`meta` of the newest checkpoint; None if there is no checkpoint.

  Changes of the config from here on are printed, and added to `changes`.

  Raises:
    ValueError: this run cannot resume from it.
  """
  if (meta := checkpoints.latest_meta()) is None:
    return None
  check_meta(meta)
  meta = dict(meta, config=renamed.today(meta['config']))
  progress = checkpoints.latest_progress()
  step_of(progress)
  steered, wrong = steering.steered(
    meta['config'], run.config, progress['stage']
  )
  before, after = (
    {c.field: v for c in wrong if (v := getattr(c, side)) is not None}
    for side in ('before', 'after')
  )
  steering.check(before, after, may_change=())
  # As JSON, because a stored tuple comes back as a list.
  now = json.loads(json.dumps(run.digests))
  for name, value in now.items():
    if name not in meta['data']:
      raise another_version(f'it has no digest of {name}')
    if (before := meta['data'].get(name)) != value:
      raise ValueError(
        f"{what_changed(name)} than this workdir's run began with "
        f'({brief(before)} -> {brief(value)}); put it back, or use another '
        '--workdir'
      )
  if not has_ids(run, meta['dropped']):
    raise checkpoint.Damaged(
      'checkpoint: the rows it left out are not those of this run; use an '
      'earlier one, RUN/checkpoints/STEP, or another --workdir'
    )
  for change in steered:
    metrics.say(f'from step {progress["step"]} on: {steering.describe(change)}')
  changes = [dict(step=progress['step'], **c._asdict()) for c in steered]
  return dict(
    meta, config=run.config, changes=[*meta.get('changes', ()), *changes]
  )


def check_meta(meta: Mapping[str, Any]) -> None:
  """Raises Damaged for values that no run saves: they may be a stranger's."""
  match meta:
    case {
      'config': {'lora': dict(), 'stages': [*stages]},
      'data': dict(),
      'dropped': dict(),
      'seconds': int() | float(),
    } if all(isinstance(s, dict) and 'name' in s for s in stages):
      return
  raise checkpoint.Damaged(
    'checkpoint: its meta is not that of a run; use an earlier one, '
    'RUN/checkpoints/STEP, or another --workdir'
  )


def has_ids(run: Run, dropped: Mapping[str, Any]) -> bool:
  """Whether `dropped` has a list of texts for each domain and source."""
  return all(
    isinstance(dropped.get(name), dict)
    and all(_is_texts(dropped[name].get(source)) for source in domain.prompts)
    for name, domain in run.domains.items()
  )


def _is_texts(value: Any) -> bool:
  return isinstance(value, list) and all(isinstance(x, str) for x in value)


def what_changed(name: str) -> str:
  """'config.train_data: gives other data', for a name in `Run.digests`."""
  if name in CHANGED:
    return f'config.model: {CHANGED[name]}'
  source, _, part = name.rpartition('.')
  if part == 'tokens':
    return (
      f"config.{source}: gives prompts of other tokens (the tokenizer's files "
      "or its chat template are others, or a template's text is never twice "
      'the same)'
    )
  return f'config.{name}: gives other data'


# Other parts of a model directory that a run must find unchanged.
CHANGED = {
  'model': 'files of another content',
  'decoder': 'config.json describes another network',
  'tokenizer': 'the tokenizer has other tokens or decodes them otherwise',
  'stop_tokens': 'responses end at other tokens',
}


def brief(value: Any) -> str:
  """Short for one line: the beginning of a digest, the JSON of other values."""
  if isinstance(value, str) and len(value) == 64:
    return f'SHA-256 {value[:12]}...'
  return 'unknown' if value is None else json.dumps(value)[:300]


def progress_of(run: Run, values: Mapping[str, Any]) -> Progress:
  """Raises Damaged for values that no run saves; see `check_meta`."""
  stages = [stage.name for stage in run.stages]
  defaults = Progress(stage='')._asdict()
  for what, names in (
    ('lacks', defaults.keys() - values.keys()),
    ('has', values.keys() - defaults.keys()),
  ):
    if names:
      raise another_version(f'its progress {what} {", ".join(sorted(names))}')
  wrong = []
  for name in values.keys() & defaults.keys():
    kinds = LIKE.get(type(defaults[name]), type(defaults[name]))
    if not isinstance(values[name], kinds):
      wrong.append(name)
  if wrong or values['stage'] not in stages:
    raise checkpoint.Damaged(
      'checkpoint: its progress is not that of this run '
      f'({", ".join(wrong) or values["stage"]!r:.200}); use an earlier one, '
      'RUN/checkpoints/STEP, or another --workdir'
    )
  return Progress(**values)


# The JSON types of a field, by the type of its default.
LIKE = {type(None): (dict, type(None)), float: (int, float), tuple: list}


def check_steps(stage: Stage, progress: Progress) -> None:
  """Raises ValueError if a stage has taken more steps than it may."""
  if progress.stage_step > stage.stop.steps:
    raise ValueError(
      f'config.steps={stage.stop.steps}: this workdir holds a run that has '
      f'taken {progress.stage_step} steps; give at least that, or use another '
      '--workdir'
    )


def step_of(progress: Mapping[str, Any]) -> int:
  """The step of a run's progress. Raises Damaged if it is not one."""
  match progress:
    case {'step': int(step), 'stage': str()}:
      return step
  raise checkpoint.Damaged(
    'checkpoint: its progress is not that of a run; use another'
  )


def another_version(what: str) -> checkpoint.Damaged:
  return checkpoint.Damaged(
    f'checkpoint: {what[:200]}; was its run made by another version of this '
    'program? go on with that version, or use another --workdir'
  )
