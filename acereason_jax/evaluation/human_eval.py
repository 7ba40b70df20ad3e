"""HumanEval (arXiv 2107.03374): 164 functions, each with a `check(candidate)`.

A program is right if it passes its problem's check, as in OpenAI's harness:
the prompt stands before it, all calls are made in one process, and nothing is
imported that the prompt or the program does not import. Unlike there, the check
runs without the program, so a program cannot change it: see
`verifiers.programs.checking`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from acereason_jax.data.curate import human_eval as rows
from acereason_jax.evaluation import program_rows, values
from acereason_jax.verifiers.programs import tasks

# CPU time of a call; there all calls together have 3 s of wall time.
_CALL_SECONDS = 3.0
_COLUMNS = ('task_id', 'prompt', 'entry_point', 'canonical_solution', 'test')


def human_eval(paths: Sequence[str] = ()) -> values.Loaded:
  """The problems of HumanEval.

  `paths` are files of its rows: JSON lines, gzipped or not, or the Parquet of
  openai_humaneval. Without them it is the file of the package human-eval.

  Raises:
    ValueError: one line; a file cannot be used, or there is no package.
  """
  return program_rows.load(paths or (rows.packaged(),), _COLUMNS, _task)


def _task(row: Mapping[str, Any]) -> tasks.CodeTask:
  if not isinstance(row['test'], str):
    raise ValueError(f'test is no text: {row["test"]!r:.60}')
  return tasks.CodeTask(
    'check',
    (),
    row['entry_point'],
    time_limit_seconds=_CALL_SECONDS,
    before=row['prompt'],
    check=row['test'],
    reference=row['prompt'] + row['canonical_solution'],
  )
