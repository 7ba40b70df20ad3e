"""Every field of a config, one row each: what it may be and who may change it.

Checks, stages, domains and resuming use this table. A new field is a default in
base.py and a row here; its reader is in run/.
"""

import functools
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import ml_collections

from acereason_jax.rl import advantages, packing

# Changes that a resumed run may make to a field.
# None: it decided steps that are already taken.
FIXED = 'fixed'
# Any. The result is the same up to rounding (mesh, microbatch, remat) or is
# only kept in another place (offload). Or the field decides no rollout: it sets
# ends of stages, saves, or the judge's limits: these make failures, no rewards.
SAME = 'same'
# Any, but the rollouts of an interrupted step are drawn anew: the field decides
# how held-out questions are asked from here on.
ANEW = 'anew'

# The names of attention.KERNELS and remat.POLICIES. They are not imported: a
# config is checked where jax is not there, or takes too long to load.
KERNELS = ('xla', 'fused_splash', 'splash', 'mosaic_gpu', 'triton')
REMAT = ('dots', 'attention', 'block')
TRUNCATED = ('mask', 'zero', 'score')
POLICIES = ('tempered', 'full')
KV_DTYPES = ('', 'float32', 'bfloat16', 'float8_e4m3fn')
# The dtypes of quantized.LARGEST.
WEIGHTS = ('', 'int8', 'float8_e4m3fn')
# Arguments of every transform that have fields of their own.
_OF_OPTIM = ('learning_rate', 'groups', 'decay_on')


class Check(NamedTuple):
  """A condition on a value that has the right type.

  good: (value, config of the stage) -> whether it is.
  remedy: the value to give instead; '{c.rollout.prompts}' is that field's
    value.
  """

  good: Callable[[Any, ml_collections.ConfigDict], bool]
  remedy: str


class Field(NamedTuple):
  """A field of a config.

  path: dotted path, such as 'rollout.per_prompt'.
  kind: type of its value; dict is a component or a dict of names that users
    choose.
  check: condition beyond the type, if there is one. A component in place of a
    number is checked when it is built.
  component: whether it may be a component (for kind dict: whether it is one),
    dict(fn='package.module:function', **arguments).
  stage: whether a stage may change it.
  domain: whether a domain may change it.
  resume: changes that a resumed run may make: FIXED, SAME or ANEW. A field that
    a stage may change is free as long as that stage has not begun.
  """

  path: str
  kind: type
  check: Check | None = None
  component: bool = False
  stage: bool = False
  domain: bool = False
  resume: str = FIXED


def at_least(low: int, meaning: str = '') -> Check:
  told = f'give {low} ({meaning}) or more' if meaning else f'give {low} or more'
  return Check(
    lambda value, c: value >= low,
    f'give at least {low}' if low else told,
  )


def one_of(*words: str) -> Check:
  return Check(lambda value, c: value in words, ' or '.join(words))


ABOVE_0 = Check(lambda value, c: 0 < value < math.inf, 'give more than 0')
FINITE = Check(lambda value, c: 0 <= value < math.inf, 'give 0 or more')
SHARE = Check(lambda value, c: 0 <= value <= 1, 'give 0 to 1')


def _is_turn(turn: Any) -> bool:
  is_pair = isinstance(turn, tuple | list) and len(turn) == 2
  return is_pair and all(isinstance(text, str) for text in turn)


# Rows by who may change them: a stage, a domain, a run that goes on.
_staged = functools.partial(Field, stage=True)
_domain = functools.partial(Field, domain=True)
_domain_free = functools.partial(Field, domain=True, resume=SAME)
_free = functools.partial(Field, resume=SAME)
_staged_free = functools.partial(Field, stage=True, resume=SAME)
_asked = functools.partial(Field, resume=ANEW)
_domain_asked = functools.partial(Field, domain=True, resume=ANEW)

_RUN = (
  Field('seed', int, Check(lambda v, c: 0 <= v < 2**31, 'give 0 to 2**31 - 1')),
  _staged_free('steps', int, at_least(1)),
  _staged_free('stop.epochs', int, at_least(0, 'no limit')),
  _staged_free('stop.metric', str),
  _staged_free(
    'stop.window',
    int,
    Check(
      lambda v, c: v >= (2 if c.stop.metric else 0),
      'give at least 2, the steps or values over which stop.metric must rise',
    ),
  ),
  _staged_free(
    'stop.gain', float, Check(lambda v, c: math.isfinite(v), 'give a number')
  ),
  Field('stages', tuple),
  Field('start.run', str),
  Field('start.stages', tuple),
)
_MODEL = (
  Field(
    'model',
    str,
    Check(lambda v, c: v, "name a model directory or 'smollm2-135m'"),
  ),
  Field('dtype', str, one_of('bfloat16', 'float32')),
  Field('lora.rank', int, at_least(0, 'full training')),
  Field('lora.alpha', float, ABOVE_0),
  Field('lora.on', str),
  _free('remat', str, one_of(*REMAT)),
  _free('attention', str, one_of('auto', *KERNELS)),
  _free('mesh.data', int),
  _free('mesh.fsdp', int),
  _free('mesh.tensor', int),
  _free('mesh.sequence', int),
  _free('rollout_mesh.tensor', int, at_least(0, "the machine's")),
)
_QUESTIONS = (
  _domain('train_data', dict, component=True),
  _domain('heldout_data', dict, component=True),
  _domain('prompt.system', str),
  _domain('prompt.suffix', str),
  _domain(
    'prompt.starter',
    str,
    Check(
      lambda v, c: v.count('{starter}') == (1 if v else 0),
      "give words with one {{starter}}, where a row's own code goes, or ''",
    ),
  ),
  _domain('prompt.opens', str),
  _domain(
    'prompt.examples',
    tuple,
    Check(
      lambda v, c: all(map(_is_turn, v)), 'give (user, assistant) pairs of text'
    ),
  ),
  _domain('prompt.window', int, at_least(1)),
  _domain('prompt.reasons', bool),
  Field('domains', dict),
  _staged('mix', dict),
  _staged(
    'filter.max_difficulty',
    float,
    Check(lambda v, c: not math.isnan(v), 'give a number; below 0 keeps all'),
  ),
  _staged(
    'filter.max_solved',
    int,
    Check(
      lambda v, c: 0 <= v < max(c.filter.of, 1),
      'give 0, or less than the filter.of={c.filter.of} that are asked',
    ),
  ),
  _staged('filter.of', int, at_least(0, 'no probe')),
  _staged('filter.source', str, one_of('probe', 'ledger')),
  _staged('filter.tries', int, at_least(1)),
  _staged('filter.keep_unsolved', bool),
  _staged('filter.drop_solved', bool),
  _staged('filter.readmit', float, SHARE),
  _staged('filter.min_judged', float, SHARE),
  _staged('filter.domains', dict),
)
_ROLLOUTS = (
  _staged('rollout.prompts', int, at_least(1)),
  _staged(
    'rollout.per_prompt',
    int,
    Check(lambda v, c: v >= 2, 'a group of 1 has no baseline: give at least 2'),
    component=True,
  ),
  _staged('rollout.max_tokens', int, at_least(1)),
  _staged(
    'rollout.temperature',
    float,
    Check(
      ABOVE_0.good, 'the policy trained is the tempered one: give more than 0'
    ),
    component=True,
  ),
  _staged('rollout.refill', int, at_least(0)),
  _domain_free('heldout.before', bool),
  # A stage's is that of domains without one.
  _domain_free('heldout.every', int, at_least(0, 'at ends'), stage=True),
  _domain_asked('heldout.per_prompt', int, at_least(1)),
  _asked('heldout.temperature', float, FINITE),
  _asked(
    'heldout.top_p',
    float,
    Check(lambda v, c: 0 < v <= 1, 'give more than 0, at most 1'),
  ),
  _asked('heldout.top_k', int, at_least(0, 'all')),
  _asked('heldout.max_tokens', int, at_least(0)),
  _staged_free('engine.slots', int, at_least(0, 'by batch and memory')),
  _staged_free('engine.page', int, at_least(1)),
  _staged_free(
    'engine.chunk',
    int,
    Check(
      lambda v, c: v >= 1 and c.engine.page % v == 0,
      'give a divisor of engine.page={c.engine.page}',
    ),
  ),
  _staged_free('engine.pages', int, at_least(0)),
  _staged_free(
    'engine.speculate',
    int,
    Check(
      lambda v, c: 0 <= v < c.engine.chunk,
      'give 0, or less than engine.chunk={c.engine.chunk}',
    ),
  ),
  _staged_free('engine.prefill_prompts', int, at_least(1)),
  _staged_free(
    'engine.prefill_tokens',
    int,
    Check(
      lambda v, c: v >= 1 and v % c.engine.page == 0,
      'give a multiple of engine.page={c.engine.page}',
    ),
  ),
  _staged('engine.kv_dtype', str, one_of(*KV_DTYPES)),
  Field('engine.weights', str, one_of(*WEIGHTS)),
  _domain('judge.verify', dict, component=True),
  _domain('judge.reference', str),
  _domain_free('judge.workers', int, at_least(1)),
  _domain_free(
    'judge.timeout_seconds',
    float,
    Check(lambda v, c: 0 < v <= 3600, 'give more than 0, at most 3600'),
  ),
  _domain_free('judge.confine', bool),
  _domain_free(
    'judge.batch_seconds',
    float,
    Check(
      lambda v, c: v > c.judge.timeout_seconds,
      'give more than judge.timeout_seconds={c.judge.timeout_seconds}',
    ),
  ),
  _domain_free('judge.max_failed_share', float, SHARE),
)
_UPDATE = (
  _staged('objective.loss', dict, component=True),
  _staged('objective.advantage.epsilon', float, FINITE),
  _staged('objective.advantage.scale', str, one_of(*advantages.SCALES)),
  _staged('objective.average', str, one_of(*packing.AVERAGES)),
  _staged('objective.policy', str, one_of(*POLICIES)),
  _staged('objective.truncated', str, one_of(*TRUNCATED)),
  _staged(
    'objective.overlong_tokens',
    int,
    Check(
      lambda v, c: 0 <= v <= c.rollout.max_tokens,
      'give 0 to rollout.max_tokens={c.rollout.max_tokens}',
    ),
  ),
  _staged(
    'objective.entropy_bonus',
    float,
    Check(lambda v, c: 0 <= v < math.inf, 'give 0 or more'),
    component=True,
  ),
  _staged('objective.reset_reference_every', int, at_least(0, 'never')),
  _staged(
    'optim.transform',
    dict,
    Check(
      lambda v, c: not set(_OF_OPTIM) & set(v),
      f'give {", ".join(_OF_OPTIM)} in config.optim itself',
    ),
    component=True,
  ),
  _staged('optim.learning_rate', float, ABOVE_0, component=True),
  _staged('optim.warmup_steps', int, at_least(0)),
  _staged(
    'optim.clip_norm', float, Check(lambda v, c: v > 0, 'give more than 0')
  ),
  _staged(
    'optim.updates',
    int,
    Check(
      lambda v, c: 1 <= v <= c.rollout.prompts,
      'give 1 to rollout.prompts={c.rollout.prompts}',
    ),
  ),
  _staged('optim.groups', tuple),
  _staged('optim.decay_on', str),
  _staged('optim.carry', bool),
  _free('optim.offload', bool),
  _staged_free('microbatch.rows', int, at_least(1)),
  _staged_free('microbatch.columns', int, at_least(1)),
  _staged_free('microbatch.vocab_chunk', int, at_least(1)),
)
_RECORDS = (
  _staged_free(
    'limits.mismatch',
    float,
    Check(lambda v, c: 0 <= v < math.inf, 'give 0 (only warn) or more'),
  ),
  _staged_free(
    'limits.zero_signal',
    float,
    Check(lambda v, c: 0 < v <= 1, 'give more than 0, at most 1 (no limit)'),
  ),
  _staged_free('limits.nonfinite', int, at_least(1)),
  _free('checkpoint.every', int, at_least(1)),
  _free('checkpoint.keep', int, at_least(1)),
  _free('checkpoint.best', str),
  _free('samples.every', int, at_least(1)),
  _free('samples.count', int, at_least(0)),
  _free('samples.characters', int, at_least(1)),
  _free('keep.groups', int, at_least(0, 'no texts')),
  _free('keep.budget_gb', float, ABOVE_0),
)

FIELDS = (*_RUN, *_MODEL, *_QUESTIONS, *_ROLLOUTS, *_UPDATE, *_RECORDS)
BY_PATH = {field.path: field for field in FIELDS}
STAGE = tuple(field.path for field in FIELDS if field.stage)
DOMAIN = tuple(field.path for field in FIELDS if field.domain)


def row_of(path: str) -> Field | None:
  """The row of a field, or of the field that `path` is a part of."""
  while path and path not in BY_PATH:
    path = path.rpartition('.')[0]
  return BY_PATH.get(path)


def parts_of(section: str, table: Iterable[str] = BY_PATH) -> list[str]:
  """The names in a section of the config; '' is all of it."""
  start = f'{section}.' if section else ''
  inside = (p.removeprefix(start) for p in table if p.startswith(start))
  return list(dict.fromkeys(name.partition('.')[0] for name in inside))


def is_dict(value: Any) -> bool:
  return isinstance(value, Mapping | ml_collections.ConfigDict)


def is_component(value: Any) -> bool:
  return is_dict(value) and 'fn' in value


def leaves(values: Any, section: str = '') -> Iterator[tuple[str, Any]]:
  """(path, value) of each field that nested dicts give, by the table.

  A path that the table does not know is given too, down to the part that the
  table knows.
  """
  for name, value in values.items():
    path = f'{section}.{name}' if section else name
    if is_dict(value) and path not in BY_PATH and parts_of(path):
      yield from leaves(value, path)
    else:
      yield path, value


def value_at(config: ml_collections.ConfigDict, path: str) -> Any:
  return functools.reduce(operator.getitem, path.split('.'), config)


def told(paths: tuple[str, ...]) -> str:
  """These fields in one line; a section that is complete goes by its name."""
  names = []
  for path in paths:
    section = path.partition('.')[0]
    whole = {p for p in BY_PATH if p.startswith(f'{section}.')}
    names.append(section if whole and whole <= set(paths) else path)
  return ', '.join(dict.fromkeys(names))
