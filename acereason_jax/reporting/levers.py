"""The names of the parts of a run's wall time, and what would shrink each."""

from collections.abc import Mapping
from typing import NamedTuple


class Known(NamedTuple):
  """A part of the wall time.

  title: its name for people.
  lever: a sentence that says what would shrink it; '' if nothing should.
  """

  title: str
  lever: str


# By kind of work in clock.jsonl, name of a metric of slots, or place in a row.
KNOWN: Mapping[str, Known] = {
  'wall': Known('wall time', ''),
  'start': Known(
    'start',
    'Restart less often: Python, its imports and the wait for other processes '
    'take this each time.',
  ),
  'load': Known('load', 'Put the model and the data on a faster disk.'),
  'screen': Known(
    'screen answers', 'Raise judge.workers; only the first start does this.'
  ),
  'restore': Known(
    'restore', 'Restart less often, or keep checkpoints on a faster disk.'
  ),
  'compile': Known(
    'compile',
    'Keep compiled programs from one start to the next '
    '(JAX_COMPILATION_CACHE_DIR).',
  ),
  'heldout': Known(
    'held-out questions',
    'Ask less often (heldout.every), or draw fewer rollouts of a question '
    '(heldout.per_prompt).',
  ),
  'probe': Known(
    'probe of prompts',
    'Ask each prompt less often (filter.of), or use the verdicts of earlier '
    "stages (filter.source='ledger').",
  ),
  'draw': Known('draw prompts', 'Train on a smaller data set.'),
  'reshard': Known(
    'reshard weights',
    'Bring the rollout mesh (rollout_mesh.tensor) closer to the training mesh.',
  ),
  'sample': Known('sample', 'Use more devices, or lower rollout.max_tokens.'),
  'judge': Known(
    'wait for judges',
    'Raise judge.workers, or lower judge.batch_seconds if judges hang.',
  ),
  'pack': Known('pack rows', 'Train on fewer rollouts a step.'),
  'update': Known(
    'update', 'Use more devices, or train on fewer tokens a step.'
  ),
  'save': Known(
    'save', 'Save less often (checkpoint.every), or to a faster disk.'
  ),
  'write': Known('write metrics', 'Put the run on a faster disk.'),
  'report': Known(
    'lines and report',
    'Print rollouts less often (samples.every); the end of a run waits for '
    'its report.html.',
  ),
  'between': Known(
    'between phases', 'Nothing known: report it if it is more than 1%.'
  ),
  'down': Known('down', 'Have a supervisor that starts the run again sooner.'),
  'lost': Known(
    'lost', 'Save more often (checkpoint.every): these steps were taken twice.'
  ),
  'unrecorded': Known(
    'unrecorded', 'Use a host that is not suspended and whose clock is not set.'
  ),
  'prefill': Known(
    'prefill', 'Draw more rollouts of each prompt, or shorten prompts.'
  ),
  'host': Known(
    'host', 'Raise engine.chunk: the device waits for the host between chunks.'
  ),
  'decode': Known('decode', 'Use more devices, or lower rollout.max_tokens.'),
  'trained': Known('trained tokens', ''),
  'no_signal': Known(
    'tokens without signal',
    'Leave out prompts that are too easy or too hard (filter), or replace '
    'their groups (rollout.refill).',
  ),
  'masked': Known(
    'truncated, not trained on',
    'Raise rollout.max_tokens, or let these count (objective.truncated).',
  ),
  'failed': Known(
    'failed verdicts', 'Find out why the judge failed on these rollouts.'
  ),
  'error': Known(
    'failed rollouts', 'Find out why the engine could not continue these.'
  ),
  'recomputed': Known(
    'drawn again', 'Raise engine.pages, or lower engine.slots.'
  ),
  'drafts': Known(
    'drafts', 'Lower engine.speculate, if few drafts are accepted.'
  ),
  'waiting': Known(
    'idle slots, rollouts wait', 'Raise engine.pages, or lower engine.chunk.'
  ),
  'tail': Known(
    'idle slots, none waits',
    'Draw more rollouts a step than there are slots, lower '
    'rollout.max_tokens, or draft tokens (engine.speculate).',
  ),
  'response': Known('response tokens', ''),
  'prompt': Known(
    'prompt tokens', 'Draw more rollouts of each prompt, or shorten prompts.'
  ),
  'padding': Known(
    'padding', 'Choose microbatch.rows and columns that leave less of a row.'
  ),
  'not measured': Known('not measured', ''),
}


def of(name: str) -> Known:
  """What is known of a part; of an unknown kind, only its name."""
  return KNOWN.get(name, Known(name, ''))
