"""Rows of made-up rollouts, and a run's folder that holds them."""

import json
import random

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
  status = changes.get('status', 'right')
  defaults = dict(
    step=1,
    phase=archive.TRAIN,
    stage='math_8k',
    domain='math',
    prompt='sum-1',
    index=0,
    status=status,
    detail='',
    reward=float(status == 'right'),
    solved=status == 'right',
    advantage=0.5,
    counted=True,
    trained=True,
    length=100,
    stop='stop',
    logp=-10.0,
    entropy=20.0,
    kept='',
  )
  return archive.Row(**defaults | changes)


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
