"""Reading a configuration: checks first, and every field read or refused.

A field that nothing reads is a knob that does nothing, so start-up fails on
it; `Reader` notes what was read. A file that replaces a whole section can
leave fields out, or misspell them: `configs/base.py` says which there are.
"""

import math
from collections.abc import Iterator
from typing import Any

import ml_collections

from acereason_jax import resolve
from acereason_jax.kernels import attention
from acereason_jax.models import decoder
from acereason_jax.rl import packing
from configs import base

# What a run may change when it goes on. It computes the same, up to rounding
# (mesh, microbatch, remat); the judge's limits decide failures, not rewards.
MAY_CHANGE = (
  'steps',
  'checkpoint',
  'samples',
  'mesh',
  'microbatch',
  'remat',
  'attention',
  'judge.workers',
  'judge.timeout_seconds',
  'judge.confine',
  'judge.batch_seconds',
  'judge.max_failed_share',
  'engine.slots',
  'engine.page',
  'engine.chunk',
  'engine.pages',
  'engine.prefill_prompts',
  'engine.prefill_tokens',
)

KV_DTYPES = ('', 'float32', 'bfloat16', 'float8_e4m3fn')


class Reader:
  """A view of a ConfigDict that remembers which fields were read."""

  def __init__(self, config, name: str = 'config', seen: set | None = None):
    self._config = config
    self._name = name
    self._seen = set() if seen is None else seen

  def __getattr__(self, field: str) -> Any:
    name = f'{self._name}.{field}'
    if field not in self._config:
      raise AttributeError(f'{name}: no such field')
    value = self._config[field]
    if isinstance(value, ml_collections.ConfigDict):
      return Reader(value, name, self._seen)
    self._seen.add(name)
    return value

  def kwargs(self) -> dict[str, Any]:
    """All fields, for a function whose signature checks their names."""
    self._seen |= set(_leaves(self._config, self._name))
    return dict(self._config.to_dict())

  def build(self, **extra: Any) -> Any:
    """What the component dict(fn=..., **kwargs) builds."""
    return resolve.build(self.kwargs(), self._name, **extra)

  def check_all_read(self) -> None:
    """Raises ValueError naming the fields that nothing has read."""
    unread = sorted(set(_leaves(self._config, self._name)) - self._seen)
    if unread:
      raise ValueError(
        f'{", ".join(unread)}: nothing reads it; remove it, or correct its '
        'name (configs/base.py lists every field)'
      )


def _leaves(config, name: str) -> Iterator[str]:
  for field, value in config.items():
    if isinstance(value, ml_collections.ConfigDict):
      yield from _leaves(value, f'{name}.{field}')
    else:
      yield f'{name}.{field}'


def _check_fields(known, config, name: str) -> None:
  """Raises ValueError unless `config` has the fields of base.py, and types."""
  # A component's arguments are its function's affair; the judge's section
  # beside `fn` and `arguments` is the run's own.
  component = 'fn' in known and name != 'config.judge'
  for field in sorted({*known, *config}):
    path, got = f'{name}.{field}', config.get(field)
    if field not in known:
      if 'fn' not in known:
        raise ValueError(
          f'{path}={got!r}: no such field; {name} has {", ".join(known)}'
        )
    elif field not in config:
      if not component or field in ('fn', 'learning_rate'):
        raise ValueError(f'{path}: missing; give it (see configs/base.py)')
    elif (
      component and isinstance(got, ml_collections.ConfigDict) and 'fn' in got
    ):
      # A component in a component, such as a schedule for learning_rate.
      continue
    elif isinstance(known[field], ml_collections.ConfigDict):
      if not isinstance(got, ml_collections.ConfigDict):
        raise ValueError(f'{path}={got!r}: give a dict, as in configs/base.py')
      if field != 'arguments':
        _check_fields(known[field], got, path)
    else:
      kind = type(known[field])
      kinds = {float: (float, int), tuple: (tuple, list)}.get(kind, (kind,))
      if type(got) not in kinds:
        raise ValueError(
          f'{path}={got!r}: give a value of type {kind.__name__}'
        )


def _is_turn(turn: Any) -> bool:
  is_pair = isinstance(turn, tuple | list) and len(turn) == 2
  return is_pair and all(isinstance(text, str) for text in turn)


def validate(c: ml_collections.ConfigDict) -> None:
  """Raises ValueError with field, value and remedy of the first bad field."""
  _check_fields(base.get_config(), c, 'config')
  rollout, prompt, batch, engine = c.rollout, c.prompt, c.microbatch, c.engine
  need = prompt.window + rollout.max_tokens
  checks = [
    ('seed', 0 <= c.seed < 2**31, 'give 0 to 2**31 - 1'),
    ('steps', c.steps >= 1, 'give at least 1'),
    ('model', c.model, "name a model directory or 'smollm2-135m'"),
    ('dtype', c.dtype in ('bfloat16', 'float32'), 'bfloat16 or float32'),
    ('lora.rank', c.lora.rank >= 0, 'give 0 (full training) or more'),
    ('lora.alpha', 0 < c.lora.alpha < math.inf, 'give more than 0'),
    ('remat', c.remat in decoder.REMAT, ' or '.join(decoder.REMAT)),
    (
      'attention',
      c.attention in ('auto', *attention.KERNELS),
      ' or '.join(('auto', *attention.KERNELS)),
    ),
    ('rollout.prompts', rollout.prompts >= 1, 'give at least 1'),
    (
      'rollout.groups',
      rollout.groups >= 2,
      'a group of 1 has no baseline: give at least 2',
    ),
    ('rollout.max_tokens', rollout.max_tokens >= 1, 'give at least 1'),
    (
      'rollout.temperature',
      0 < rollout.temperature < math.inf,
      'the policy trained is the tempered one: give more than 0',
    ),
    ('heldout.temperature', c.heldout.temperature >= 0, 'give 0 or more'),
    ('heldout.top_p', 0 < c.heldout.top_p <= 1, 'give more than 0, at most 1'),
    ('heldout.top_k', c.heldout.top_k >= 0, 'give 0 (all) or more'),
    ('heldout.groups', c.heldout.groups >= 1, 'give at least 1'),
    ('policy', c.policy in ('tempered', 'full'), 'tempered or full'),
    ('engine.slots', engine.slots >= 1, 'give at least 1'),
    ('engine.page', engine.page >= 1, 'give at least 1'),
    (
      'engine.chunk',
      engine.chunk >= 1 and engine.page % engine.chunk == 0,
      f'give a divisor of engine.page={engine.page}',
    ),
    ('engine.pages', engine.pages >= 0, 'give 0 or more'),
    ('engine.prefill_prompts', engine.prefill_prompts >= 1, 'give at least 1'),
    (
      'engine.prefill_tokens',
      engine.prefill_tokens >= 1 and engine.prefill_tokens % engine.page == 0,
      f'give a multiple of engine.page={engine.page}',
    ),
    ('engine.kv_dtype', engine.kv_dtype in KV_DTYPES, ' or '.join(KV_DTYPES)),
    ('prompt.window', prompt.window >= 1, 'give at least 1'),
    (
      'prompt.examples',
      all(map(_is_turn, prompt.examples)),
      'give (user, assistant) pairs of text',
    ),
    ('judge.workers', c.judge.workers >= 1, 'give at least 1'),
    (
      'judge.timeout_seconds',
      0 < c.judge.timeout_seconds <= 3600,
      'give more than 0, at most 3600',
    ),
    ('judge.batch_seconds', c.judge.batch_seconds > 0, 'give more than 0'),
    (
      'judge.max_failed_share',
      0 <= c.judge.max_failed_share <= 1,
      'give 0 to 1',
    ),
    ('average', c.average in packing.AVERAGES, ' or '.join(packing.AVERAGES)),
    ('truncated', c.truncated in ('mask', 'score'), 'mask or score'),
    ('advantage.epsilon', c.advantage.epsilon >= 0, 'give 0 or more'),
    (
      'optim.learning_rate',
      # A schedule is a component; building the optimiser checks it.
      isinstance(c.optim.learning_rate, ml_collections.ConfigDict)
      or 0 < c.optim.learning_rate < math.inf,
      'give more than 0',
    ),
    ('warmup_steps', c.warmup_steps >= 0, 'give 0 or more'),
    ('clip_norm', c.clip_norm > 0, 'give more than 0'),
    ('microbatch.rows', batch.rows >= 1, 'give at least 1'),
    (
      'microbatch.columns',
      batch.columns >= need,
      f'prompt.window + rollout.max_tokens is {need}: give at least that',
    ),
    ('microbatch.vocab_chunk', batch.vocab_chunk >= 1, 'give at least 1'),
    ('checkpoint.every', c.checkpoint.every >= 1, 'give at least 1'),
    ('checkpoint.keep', c.checkpoint.keep >= 1, 'give at least 1'),
    ('samples.every', c.samples.every >= 1, 'give at least 1'),
    ('samples.count', c.samples.count >= 0, 'give 0 or more'),
    ('samples.characters', c.samples.characters >= 1, 'give at least 1'),
  ]
  for field, good, remedy in checks:
    if not good:
      value = c
      for part in field.split('.'):
        value = value[part]
      raise ValueError(f'config.{field}={value!r}: {remedy}')
