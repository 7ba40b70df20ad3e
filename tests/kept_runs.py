"""Folders of runs whose rollouts are made by hand, as a run would leave them.

They have config.json and the rows and texts of rollouts, nothing else.
"""

import collections
import json

import numpy as np

from acereason_jax.config import base
from acereason_jax.data import archive
from acereason_jax.reporting import values

MATH = 'acereason_jax.verifiers.math:verify'


def row(prompt='p', index=0, **changes):
  """A right rollout of step 1 that was trained on, with its text."""
  made = archive.Row(
    step=1,
    phase='train',
    stage='main',
    domain='main',
    prompt=prompt,
    index=index,
    status='right',
    detail='ok',
    reward=1.0,
    solved=True,
    advantage=0.5,
    counted=True,
    trained=True,
    length=3,
    stop='stop',
    logp=-1.25,
    entropy=2.5,
    kept='drawn',
  )
  return made._replace(**changes)


def text(of, response='so', answer='4', question='What?', tokens=None):
  """The text of a row."""
  count = of.length if tokens is None else tokens
  numbers = (np.arange(count) + of.index) % 256
  return archive.Text(
    of.prompt,
    of.index,
    question,
    answer,
    response,
    numbers.astype(np.int32),
    np.ones(count, np.uint16),
    numbers.astype(np.uint8),
    numbers[::-1].astype(np.uint8) if of.trained else None,
    None,
  )


def write(folder, rows, texts):
  """Files of rows and of texts; `texts` are pairs of a row and its text."""
  files = collections.defaultdict(list)
  for each in rows:
    files[archive.Place(each.step, each.phase).name].append(each)
  whole = collections.defaultdict(list)
  for each, its in texts:
    whole[archive.Place(each.step, each.phase).name].append(its)
  below = folder / archive.FOLDER / archive.TEXTS
  below.mkdir(parents=True, exist_ok=True)
  for name, part in files.items():
    (below.parent / name).write_bytes(archive.rows_to_bytes(part))
  for name, part in whole.items():
    (below / name).write_bytes(archive.texts_to_bytes(part))


def write_config(folder, fn=MATH, judge=(), objective=(), rollout=(), **rest):
  """config.json with this judge; `judge` are other fields of its section."""
  plain = json.loads(base.get_config().to_json())
  plain['judge'] |= dict(judge) | dict(verify=dict(fn=fn))
  plain['objective'] |= dict(objective)
  plain['rollout'] |= dict(rollout)
  plain |= rest
  folder.mkdir(parents=True, exist_ok=True)
  (folder / 'config.json').write_text(json.dumps(plain))


def samples(pairs):
  """Values of (row, text), in order, as a page has them."""
  plain = [
    values.Sample(
      {k: None if v != v else v for k, v in of._asdict().items()},
      its.question,
      its.answer,
      its.text,
      its.characters.tolist(),
      its.surprise.tolist(),
      None,
      None,
      values.Why((), 'not asked', ''),
    )
    for of, its in pairs
  ]
  return values.Samples(plain, len(plain), len(plain), '', {})
