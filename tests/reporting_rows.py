"""Rows of made-up rollouts, and a run's folder that holds them."""

import json
import random

import kept_runs

from acereason_jax.data import archive

STATUSES = 'right', 'wrong', 'unparsed', 'timeout', 'error'
DETAILS = {
  'right': ('string',),
  'wrong': ("exact: '12'", "exact: '7'", "sympy: 'x'"),
  'unparsed': ('no boxed answer', 'no </think>'),
  'timeout': ('over 8.0 s',),
  'error': ('worker died twice (-9)', 'no worker'),
}


def row(**changes):
  """A row of `kept_runs` without a text, rewarded as its status says."""
  right = changes.get('status', 'right') == 'right'
  own = dict(stage='math_8k', domain='math', prompt='sum-1', detail='')
  own |= dict(length=100, logp=-10.0, entropy=20.0, kept='')
  return kept_runs.row(
    **own | dict(reward=float(right), solved=right) | changes
  )


def rows(seed, step, *, phase=archive.TRAIN, prompts=6, each=4, **changes):
  """Rollouts of random verdicts, details, lengths and domains."""
  draw = random.Random(seed)
  found = []
  for prompt in draw.sample(range(20), prompts):
    for index in range(each):
      status = draw.choice(STATUSES)
      drawn = dict(
        status=status,
        detail=draw.choice(DETAILS[status]),
        stage=draw.choice(('math_8k', 'math_16k')),
        domain='math' if prompt % 2 else 'code',
        reward=float('nan')
        if status in ('timeout', 'error')
        else float(status == 'right' and draw.random() < 0.8),
        counted=draw.random() < 0.8,
        trained=draw.random() < 0.5,
        length=draw.randrange(1, 8192),
        stop=draw.choice(('stop', 'length', 'error')),
      )
      key = dict(step=step, phase=phase, prompt=f'p-{prompt}', index=index)
      found.append(row(**key | drawn | changes))
  return found


def write(folder, found, step, phase=archive.TRAIN):
  """A file of rows; returns its path."""
  path = folder / archive.FOLDER / archive.Place(step, phase).name
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes(archive.rows_to_bytes(found))
  return path


def write_metrics(folder, records):
  folder.mkdir(parents=True, exist_ok=True)
  lines = ''.join(json.dumps(record) + '\n' for record in records)
  (folder / 'metrics.jsonl').write_text(lines)
