"""Reading a configuration: checks first, and every field read or refused.

A field that nothing reads is a knob that does nothing, so start-up fails on
it; `Reader` notes what was read. A file that replaces a whole section can
leave fields out, or misspell them: `configs/base.py` says which there are.

A stage and a domain are what they change of the config: `stages` and `domains`
give each as a config of its own, which is checked and read like any other.
"""

import contextlib
import fnmatch
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import ml_collections

from acereason_jax import resolve
from acereason_jax.kernels import attention
from acereason_jax.models import remat
from acereason_jax.rl import advantages, packing
from configs import base

# What a run may change when it goes on; * is any name. It computes the same, up
# to rounding (mesh, microbatch, remat), or the same in another place
# (optim.offload); the judge's limits decide failures, not rewards.
# None of it decides what a step's rollouts are.
MAY_CHANGE = (
  'steps',
  'stop',
  'heldout.every',
  'checkpoint',
  'samples',
  'mesh',
  'microbatch',
  'remat',
  'attention',
  'optim.offload',
  'judge.workers',
  'judge.timeout_seconds',
  'judge.confine',
  'judge.batch_seconds',
  'judge.max_failed_share',
  'limits',
  'engine.slots',
  'engine.page',
  'engine.chunk',
  'engine.pages',
  'engine.prefill_prompts',
  'engine.prefill_tokens',
  'stages.*.steps',
  'stages.*.stop',
  'stages.*.limits',
  'stages.*.microbatch',
  'stages.*.engine.slots',
  'stages.*.engine.page',
  'stages.*.engine.chunk',
  'stages.*.engine.pages',
  'stages.*.engine.prefill_prompts',
  'stages.*.engine.prefill_tokens',
  'domains.*.heldout.every',
  'domains.*.judge.workers',
  'domains.*.judge.timeout_seconds',
  'domains.*.judge.confine',
  'domains.*.judge.batch_seconds',
  'domains.*.judge.max_failed_share',
)

# And this, which changes what held-out questions are asked from here on.
STEERED = ('heldout',)

# What a stage may change; the model, its mesh and its judges stay the run's.
STAGE_FIELDS = (
  'engine',
  'filter',
  'limits',
  'microbatch',
  'mix',
  'objective',
  'optim.transform',
  'optim.learning_rate',
  'optim.warmup_steps',
  'optim.clip_norm',
  'optim.updates',
  'optim.groups',
  'optim.decay_on',
  'optim.carry',
  'rollout',
  'steps',
  'stop',
)
DOMAIN_FIELDS = (
  'train_data',
  'heldout_data',
  'heldout.every',
  'prompt',
  'judge',
)
# The one stage, and the one domain, of a config that names none.
MAIN = 'main'
# Sections whose fields are the user's own.
_FREE = (
  'config.domains',
  'config.mix',
  'config.filter.domains',
)
# By `stages`, `domains` and `mix`, below.
_READ_AS_A_WHOLE = ('stages', 'start', 'domains', 'mix')
# Numbers that may change from step to step: see rl/control.py.
_MAY_BE_COMPONENTS = (
  'config.rollout.per_prompt',
  'config.rollout.temperature',
  'config.objective.entropy_bonus',
  'config.optim.learning_rate',
)

# 'mask': out of the loss; 'zero': reward 0; 'score': what the judge says.
TRUNCATED = ('mask', 'zero', 'score')
POLICIES = ('tempered', 'full')
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

  def over(self, config: ml_collections.ConfigDict) -> 'Reader':
    """The same of another config; what one reads, all have read."""
    return Reader(config, self._name, self._seen)

  def kwargs(self) -> dict[str, Any]:
    """All fields, for a function whose signature checks their names."""
    self._seen |= set(_leaves(self._config, self._name))
    return dict(self._config.to_dict())

  def build(self, **extra: Any) -> Any:
    """What the component dict(fn=..., **kwargs) builds."""
    return resolve.build(self.kwargs(), self._name, **extra)

  def check_all_read(
    self, stages: Iterable['Reader'], domains: Iterable['Reader']
  ) -> None:
    """Raises ValueError naming the fields that nothing has read.

    What each stage or each domain has its own of, nobody reads of this config.
    """
    leaves = lambda readers: {
      leaf for r in readers for leaf in _leaves(r._config, r._name)
    }
    field = lambda leaf: leaf.removeprefix('config.')
    own = (*DOMAIN_FIELDS, *_READ_AS_A_WHOLE)
    mine = {x for x in leaves(domains) if _is_among(field(x), DOMAIN_FIELDS)}
    rest = {x for x in leaves(stages) if not _is_among(field(x), own)}
    if unread := sorted((mine | rest) - self._seen):
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
  # A component's arguments are its function's affair.
  component = 'fn' in known
  for field in sorted({*known, *config}):
    path, got = f'{name}.{field}', config.get(field)
    if field not in known:
      if 'fn' not in known:
        raise ValueError(
          f'{path}={got!r}: no such field; {name} has {", ".join(known)}'
        )
    elif field not in config:
      if not component or field == 'fn':
        raise ValueError(f'{path}: missing; give it (see configs/base.py)')
    elif (
      component and isinstance(got, ml_collections.ConfigDict) and 'fn' in got
    ):
      # A component in a component, such as a schedule for learning_rate.
      continue
    elif isinstance(known[field], ml_collections.ConfigDict):
      if not isinstance(got, ml_collections.ConfigDict):
        raise ValueError(f'{path}={got!r}: give a dict, as in configs/base.py')
      if path not in _FREE:
        _check_fields(known[field], got, path)
    elif path in _MAY_BE_COMPONENTS and isinstance(
      got, ml_collections.ConfigDict
    ):
      continue
    else:
      kind = type(known[field])
      kinds = {float: (float, int), tuple: (tuple, list)}.get(kind, (kind,))
      if type(got) not in kinds:
        raise ValueError(
          f'{path}={got!r}: give a value of type {kind.__name__}'
        )


def overlaid(
  config: ml_collections.ConfigDict, changes: Mapping[str, Any]
) -> ml_collections.ConfigDict:
  """A copy of `config` with `changes`, section by section.

  A component that names its `fn`, and a section of the user's own fields,
  are taken whole.
  """
  whole = config.copy_and_resolve_references()
  # `_check_fields` is stricter, and names the field.
  with whole.unlocked(), whole.ignore_type():
    _overlay(whole, changes, 'config')
  return whole.lock()


def _overlay(section, changes: Mapping[str, Any], name: str) -> None:
  for field, value in changes.items():
    path = f'{name}.{field}'
    there = section.get(field)
    merged = isinstance(there, ml_collections.ConfigDict) and isinstance(
      value, Mapping | ml_collections.ConfigDict
    )
    if path in _FREE or not merged or 'fn' in value:
      section[field] = value
    else:
      _overlay(there, value, path)


def stages(
  config: ml_collections.ConfigDict,
) -> dict[str, ml_collections.ConfigDict]:
  """The config of each stage to run: of `start.stages`, or of all.

  Raises:
    ValueError: a stage that is no dict of fields that stages may change.
  """
  found, chosen = every_stage(config), config.start.stages
  if unknown := [n for n in chosen if n not in found]:
    raise ValueError(
      f'config.start.stages: no stage {unknown[0]!r}; there are: '
      f'{", ".join(found)}'
    )
  return {n: c for n, c in found.items() if not chosen or n in chosen}


def every_stage(
  config: ml_collections.ConfigDict,
) -> dict[str, ml_collections.ConfigDict]:
  """The config of each stage, in order. Raises: see `stages`."""
  if not config.stages:
    return {MAIN: config}
  found = {}
  for i, stage in enumerate(config.stages):
    where = f'config.stages[{i}]'
    if not isinstance(stage, Mapping) or not isinstance(stage.get('name'), str):
      raise ValueError(f'{where}: give a dict with a name and what it changes')
    changes = {
      field: value for field, value in stage.items() if field != 'name'
    }
    if stage['name'] in found or not stage['name'].isidentifier():
      raise ValueError(
        f'{where}.name={stage["name"]!r}: give each stage a name of its own, '
        'of letters, digits and _'
      )
    _check_may_change(changes, STAGE_FIELDS, where, 'a stage')
    found[stage['name']] = overlaid(config, changes)
  return found


def domains(
  config: ml_collections.ConfigDict,
) -> dict[str, ml_collections.ConfigDict]:
  """The config of each domain of prompts.

  Raises:
    ValueError: a domain that changes what domains may not.
  """
  if not len(config.domains):
    return {MAIN: config}
  for name, changes in config.domains.items():
    where = f'config.domains.{name}'
    if not isinstance(changes, ml_collections.ConfigDict):
      raise ValueError(f'{where}={changes!r}: give a dict of what it changes')
    _check_may_change(changes.to_dict(), DOMAIN_FIELDS, where, 'a domain')
  return {
    name: overlaid(config, config.domains[name]) for name in config.domains
  }


def _check_may_change(changes, fields, where: str, what: str) -> None:
  for path, _ in _paths(changes, ''):
    if not _is_among(path, fields):
      raise ValueError(
        f'{where}.{path}: {what} cannot change that; it can: '
        f'{", ".join(fields)}'
      )


def mix(config: ml_collections.ConfigDict) -> dict[str, float]:
  """Each domain's share of a stage's prompts; they add up to 1.

  Raises:
    ValueError: a share of no domain, or shares that are none.
  """
  names = list(config.domains) or [MAIN]
  if not len(config.mix):
    if len(names) == 1:
      return {names[0]: 1.0}
    raise ValueError(
      f'config.mix: give the share of each domain; there are: '
      f'{", ".join(names)}'
    )
  for name, share in config.mix.items():
    if name not in names:
      raise ValueError(
        f'config.mix.{name}: no such domain; there are: {", ".join(names)}'
      )
    if type(share) not in (int, float) or not 0 < share < math.inf:
      raise ValueError(f'config.mix.{name}={share!r}: give more than 0')
  total = sum(config.mix.values())
  return {name: config.mix[name] / total for name in config.mix}


def filters(config: ml_collections.ConfigDict) -> dict[str, dict[str, Any]]:
  """The fields of each domain's filter in a stage: `filter`, and what
  `filter.domains` changes of it for that domain.

  Raises:
    ValueError: a filter of no domain, or with fields that filters lack.
  """
  names = list(config.domains) or [MAIN]
  shared = _without_domains(config.filter)
  known = _without_domains(base.get_config().filter)
  for name, changes in config.filter.domains.items():
    path = f'config.filter.domains.{name}'
    if name not in names:
      raise ValueError(f'{path}: no such domain; there are: {", ".join(names)}')
    if not isinstance(changes, ml_collections.ConfigDict):
      raise ValueError(f'{path}={changes!r}: give a dict of what it changes')
    whole = ml_collections.ConfigDict(shared | changes.to_dict())
    _check_fields(ml_collections.ConfigDict(known), whole, path)
  found = {}
  for name in mix(config):
    changes = config.filter.domains.get(name)
    found[name] = shared | (changes.to_dict() if changes is not None else {})
  return found


def _without_domains(section: ml_collections.ConfigDict) -> dict[str, Any]:
  return {k: v for k, v in section.to_dict().items() if k != 'domains'}


def _check_filter(path: str, fields: Mapping[str, Any]) -> None:
  """Raises ValueError for a bad value of a domain's filter."""
  of, max_solved = fields['of'], fields['max_solved']
  checks = [
    (
      'max_solved',
      0 <= max_solved < max(of, 1),
      f'give 0, or less than the filter.of={of} that are asked',
    ),
    ('of', of >= 0, 'give 0 (no probe) or more'),
    ('min_judged', 0 <= fields['min_judged'] <= 1, 'give 0 to 1'),
    ('readmit', 0 <= fields['readmit'] <= 1, 'give 0 to 1'),
  ]
  for field, good, remedy in checks:
    if not good:
      raise ValueError(f'{path}.{field}={fields[field]!r}: {remedy}')


def by_name(config: Mapping[str, Any]) -> dict[str, Any]:
  """A stored config with its stages by name, to tell which of them changed."""
  stages = {stage['name']: stage for stage in config['stages']}
  order = [stage['name'] for stage in config['stages']]
  return dict(config, stages=stages, order_of_stages=order)


class Change(NamedTuple):
  """A field of a stored config that another has otherwise; None: it is absent.

  In `field` a stage goes by its name: stages.math_8k.steps.
  """

  field: str
  before: Any
  after: Any


def shown(change: Change) -> str:
  """'steps: 4 -> 6'."""
  before, after = (
    'absent' if value is None else json.dumps(value)
    for value in (change.before, change.after)
  )
  return f'{change.field}: {before} -> {after}'


def steered(
  stored: Mapping[str, Any], current: Mapping[str, Any], stage: str
) -> tuple[list[Change], list[Change]]:
  """(what changes for a run that stands in `stage`; what of it may not).

  Both are configs as JSON values. A run may change what MAY_CHANGE and STEERED
  list, and every field of a stage that has not begun; stages that have not
  begun may also come, go and change places. What may not be changed decided
  what happened already.
  """
  old, new = (ml_collections.ConfigDict(c) for c in (stored, current))
  befores, afters = every_stage(old), every_stage(new)
  order = list(befores)
  begun = order[: order.index(stage) + 1]
  changes = _changes(by_name(stored), by_name(current))
  if list(afters)[: len(begun)] != begun:
    wrong = [Change('order_of_stages', begun, list(afters)[: len(begun)])]
  else:
    # A stage's fields may stand there, or in the whole config.
    elsewhere = 'stages', 'order_of_stages', *STAGE_FIELDS
    if not stored['stages']:
      begun, elsewhere = [], ()
    wrong = [c for c in changes if not _is_among(c.field, elsewhere)]
    named = {c.field: c for c in changes}
    for name in begun:
      found = _changes(_of_stage(befores[name]), _of_stage(afters[name]))
      found = [c._replace(field=f'stages.{name}.{c.field}') for c in found]
      wrong += [named.get(c.field, c) for c in found]
    wrong = [c for c in wrong if not _is_among(c.field, MAY_CHANGE + STEERED)]
    # An end that is past stays what it was.
    ends = [f'stages.{n}.{f}' for n in begun[:-1] for f in ('steps', 'stop')]
    wrong += [c for c in changes if _is_among(c.field, ends)]
  return changes, wrong


def _of_stage(config: ml_collections.ConfigDict) -> dict[str, Any]:
  whole = json.loads(config.to_json())
  return {k: v for k, v in _paths(whole, '') if _is_among(k, STAGE_FIELDS)}


def _changes(
  before: Mapping[str, Any], after: Mapping[str, Any]
) -> list[Change]:
  """The leaves that differ, by path; sections without fields have none."""
  old, new = (dict(_paths(values, '')) for values in (before, after))
  return [
    Change(path, old.get(path), new.get(path))
    for path in sorted(old.keys() | new.keys())
    if old.get(path) != new.get(path)
  ]


def _paths(values: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any]]:
  for field, value in values.items():
    if isinstance(value, Mapping):
      yield from _paths(value, f'{path}{field}.')
    else:
      yield path + field, value


def _is_among(field: str, patterns: Iterable[str]) -> bool:
  """Whether `field` is one of these, or part of one; * is any name."""
  return any(fnmatch.fnmatchcase(f'{field}.', f'{p}.*') for p in patterns)


def _is_turn(turn: Any) -> bool:
  is_pair = isinstance(turn, tuple | list) and len(turn) == 2
  return is_pair and all(isinstance(text, str) for text in turn)


def validate(config: ml_collections.ConfigDict) -> None:
  """Raises ValueError with field, value and remedy of the first bad field."""
  _check_fields(base.get_config(), config, 'config')
  _check_start(config)
  asked_of = domains(config)
  for name, c in asked_of.items():
    with named('domain', name):
      _check_fields(base.get_config(), c, 'config')
  window = max(c.prompt.window for c in asked_of.values())
  for name, stage in stages(config).items():
    with named('stage', name):
      _check_fields(base.get_config(), stage, 'config')
      mix(stage)
      for c in asked_of.values():
        _check_values(stage, c, window)
      for domain, fields in filters(stage).items():
        own = f'.domains.{domain}' if domain in stage.filter.domains else ''
        _check_filter(f'config.filter{own}', fields)


@contextlib.contextmanager
def named(what: str, name: str) -> Iterator[None]:
  """Errors say which stage or domain they are about, if there are several."""
  try:
    yield
  except ValueError as e:
    raise ValueError(str(e) if name == MAIN else f'{what} {name!r}: {e}') from e


def _check_start(c: ml_collections.ConfigDict) -> None:
  """Raises ValueError unless the stages chosen follow each other."""
  chosen = list(stages(c))
  every = [stage['name'] for stage in c.stages]
  if not every:
    if c.start.stages:
      raise ValueError(
        f'config.start.stages={c.start.stages!r}: config.stages names none'
      )
    return
  first = every.index(chosen[0])
  in_order = not c.start.stages or list(c.start.stages) == chosen
  if not in_order or every[first : first + len(chosen)] != chosen:
    raise ValueError(
      f'config.start.stages={c.start.stages!r}: give stages that follow each '
      f'other, of: {", ".join(every)}'
    )
  if first and not c.start.run:
    raise ValueError(
      f'config.start.run: stage {chosen[0]!r} goes on from '
      f'{every[first - 1]!r}; name the folder of a run that holds that'
    )


def _check_values(
  c: ml_collections.ConfigDict, domain: ml_collections.ConfigDict, window: int
) -> None:
  """Raises ValueError for a bad value of a stage, or of a domain in it."""
  rollout, batch, engine = c.rollout, c.microbatch, c.engine
  prompt, judge, objective = domain.prompt, domain.judge, c.objective
  need = window + rollout.max_tokens
  is_control = lambda value: isinstance(value, ml_collections.ConfigDict)
  checks = [
    ('seed', 0 <= c.seed < 2**31, 'give 0 to 2**31 - 1'),
    ('steps', c.steps >= 1, 'give at least 1'),
    ('model', c.model, "name a model directory or 'smollm2-135m'"),
    ('dtype', c.dtype in ('bfloat16', 'float32'), 'bfloat16 or float32'),
    ('lora.rank', c.lora.rank >= 0, 'give 0 (full training) or more'),
    ('lora.alpha', 0 < c.lora.alpha < math.inf, 'give more than 0'),
    ('remat', c.remat in remat.POLICIES, ' or '.join(remat.POLICIES)),
    (
      'attention',
      c.attention in ('auto', *attention.KERNELS),
      ' or '.join(('auto', *attention.KERNELS)),
    ),
    ('rollout.prompts', rollout.prompts >= 1, 'give at least 1'),
    (
      'rollout.per_prompt',
      # A control is a component; building it checks it.
      is_control(rollout.per_prompt) or rollout.per_prompt >= 2,
      'a group of 1 has no baseline: give at least 2',
    ),
    ('rollout.max_tokens', rollout.max_tokens >= 1, 'give at least 1'),
    (
      'rollout.temperature',
      is_control(rollout.temperature) or 0 < rollout.temperature < math.inf,
      'the policy trained is the tempered one: give more than 0',
    ),
    ('heldout.temperature', c.heldout.temperature >= 0, 'give 0 or more'),
    ('heldout.top_p', 0 < c.heldout.top_p <= 1, 'give more than 0, at most 1'),
    ('heldout.top_k', c.heldout.top_k >= 0, 'give 0 (all) or more'),
    ('heldout.per_prompt', c.heldout.per_prompt >= 1, 'give at least 1'),
    ('heldout.max_tokens', c.heldout.max_tokens >= 0, 'give 0 or more'),
    ('objective.policy', objective.policy in POLICIES, ' or '.join(POLICIES)),
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
    (
      'prompt.starter',
      prompt.starter.count('{starter}') == (1 if prompt.starter else 0),
      "give words with one {starter}, where a row's own code goes, or ''",
    ),
    ('judge.workers', judge.workers >= 1, 'give at least 1'),
    (
      'judge.timeout_seconds',
      0 < judge.timeout_seconds <= 3600,
      'give more than 0, at most 3600',
    ),
    ('judge.batch_seconds', judge.batch_seconds > 0, 'give more than 0'),
    (
      'judge.max_failed_share',
      0 <= judge.max_failed_share <= 1,
      'give 0 to 1',
    ),
    (
      'objective.average',
      objective.average in packing.AVERAGES,
      ' or '.join(packing.AVERAGES),
    ),
    (
      'objective.truncated',
      objective.truncated in TRUNCATED,
      ' or '.join(TRUNCATED),
    ),
    (
      'objective.overlong_tokens',
      0 <= objective.overlong_tokens <= rollout.max_tokens,
      f'give 0 to rollout.max_tokens={rollout.max_tokens}',
    ),
    (
      'optim.updates',
      1 <= c.optim.updates <= rollout.prompts,
      f'give 1 to rollout.prompts={rollout.prompts}',
    ),
    ('rollout.refill', rollout.refill >= 0, 'give 0 or more'),
    (
      'objective.entropy_bonus',
      is_control(objective.entropy_bonus)
      or 0 <= objective.entropy_bonus < math.inf,
      'give 0 or more',
    ),
    (
      'objective.reset_reference_every',
      objective.reset_reference_every >= 0,
      'give 0 (never) or more',
    ),
    ('stop.epochs', c.stop.epochs >= 0, 'give 0 (no limit) or more'),
    (
      'stop.window',
      c.stop.window >= (2 if c.stop.metric else 0),
      'give at least 2, the steps or values over which stop.metric must rise',
    ),
    ('stop.gain', math.isfinite(c.stop.gain), 'give a number'),
    ('heldout.every', domain.heldout.every >= 0, 'give 0 (at ends) or more'),
    (
      'limits.mismatch',
      0 <= c.limits.mismatch < math.inf,
      'give 0 (warn alone) or more',
    ),
    (
      'limits.zero_signal',
      0 < c.limits.zero_signal <= 1,
      'give more than 0, at most 1 (no limit)',
    ),
    ('limits.nonfinite', c.limits.nonfinite >= 1, 'give at least 1'),
    (
      'objective.advantage.scale',
      objective.advantage.scale in advantages.SCALES,
      ' or '.join(advantages.SCALES),
    ),
    (
      'objective.advantage.epsilon',
      objective.advantage.epsilon >= 0,
      'give 0 or more',
    ),
    (
      'optim.learning_rate',
      # A schedule is a component; building the optimiser checks it.
      isinstance(c.optim.learning_rate, ml_collections.ConfigDict)
      or 0 < c.optim.learning_rate < math.inf,
      'give more than 0',
    ),
    (
      'optim.transform',
      not {'learning_rate', 'groups', 'decay_on'} & set(c.optim.transform),
      'give learning_rate, groups and decay_on in config.optim itself',
    ),
    ('optim.warmup_steps', c.optim.warmup_steps >= 0, 'give 0 or more'),
    ('optim.clip_norm', c.optim.clip_norm > 0, 'give more than 0'),
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
      value = domain if _is_among(field, DOMAIN_FIELDS) else c
      for part in field.split('.'):
        value = value[part]
      raise ValueError(f'config.{field}={value!r}: {remedy}')
