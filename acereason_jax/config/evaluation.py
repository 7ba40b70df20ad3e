"""Every field of an evaluation's config once; `plan` checks them all.

    from acereason_jax.config import evaluation

    def get_config():
      c = evaluation.get_config()
      c.benchmarks.aime24 = evaluation.benchmark(
        data=dict(fn='...', paths=('aime24.jsonl',)),
        n=64,
        judges=dict(strict=evaluation.judge('...:verify')),
      )
      return c

`--config.benchmarks.aime24.n=16` changes one field, so `benchmark` and `judge`
fill in those that are not given.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections

from acereason_jax.config import checks, fields
from acereason_jax.evaluation import published, values

# Names are parts of ids and of paths.
_NAME = re.compile(r'[A-Za-z0-9][A-Za-z0-9_-]{0,39}')


def get_config() -> ml_collections.ConfigDict:
  c = ml_collections.ConfigDict(type_safe=False)
  # A Hugging Face directory, a model of the hub, an embedded one, a run or
  # RUN/checkpoints/STEP. --model replaces it.
  c.model = ''
  # Seeds the keys of all rollouts.
  c.seed = 0
  # Compute and weights; '' is float32 on a CPU, else bfloat16.
  c.dtype = ''
  # Most tokens of a prompt; 0: those of the longest.
  c.window = 0
  # How rollouts are drawn [P 4.1]; the same for all benchmarks, because one
  # compiled program draws them all.
  c.sampling = dict(temperature=0.6, top_p=0.95, top_k=0, min_p=0.0)
  # Rollouts at a time, tokens of a cache page, decode steps of a call, cache
  # pages; 0 chooses. kv_dtype: '' is the dtype.
  c.engine = dict(slots=0, page=0, chunk=0, pages=0, kv_dtype='')
  # Devices; -1: what is left. Weights are whole along fsdp.
  c.mesh = dict(data=-1, fsdp=1, tensor=1)
  c.judge = dict(
    # Worker processes of each judge; 0: one a CPU.
    workers=0,
    # Share of a benchmark's verdicts that may fail before its numbers are
    # marked and the exit status is 1.
    max_failed_share=0.01,
  )
  # Row of evaluation/published.py that the table compares with; '': none.
  c.published = ''
  # Price of an hour of one accelerator, in any currency; 0: unknown.
  c.price_per_chip_hour = 0.0
  # Benchmarks by name; the table has them in the order of their names. See
  # `benchmark`.
  c.benchmarks = ml_collections.ConfigDict()
  c.lock()
  # A config adds to them.
  c.benchmarks.unlock()
  return c


def benchmark(
  *,
  data: Mapping[str, Any],
  judges: Mapping[str, Mapping[str, Any]],
  n: int = 1,
  max_tokens: int = 32768,
  prompt: Mapping[str, Any] | None = None,
  ks: Sequence[int] = (),
  majority: bool = True,
  expect: int = 0,
  allow_missing: bool = False,
  published: str = '',
) -> ml_collections.ConfigDict:
  """A benchmark with every field; `values.Benchmark` says what they mean."""
  ask = dict(system='', suffix='', starter='', opens='', examples=())
  c = ml_collections.ConfigDict(type_safe=False)
  c.data = data
  c.n = n
  c.max_tokens = max_tokens
  # `values.Prompting` says what they mean.
  c.prompt = ask | dict(prompt or {})
  # Judges by name; see `judge`. Copies: benchmarks may be given the same.
  c.judges = {name: _plain(each) for name, each in judges.items()}
  # The one that comes first in the table.
  c.headline = next(iter(judges), '')
  c.ks = tuple(ks)
  c.majority = majority
  c.expect = expect
  c.allow_missing = allow_missing
  c.published = published
  return c


def _plain(c: Mapping[str, Any] | ml_collections.ConfigDict) -> dict:
  return c.to_dict() if isinstance(c, ml_collections.ConfigDict) else dict(c)


def judge(
  fn: str,
  *,
  reference: str = '',
  timeout_seconds: float = 8.0,
  confine: bool = True,
  **arguments: Any,
) -> ml_collections.ConfigDict:
  """A judge `fn` with `arguments`; `values.Judge` says what the rest means.

  The code judge needs timeout_seconds=300.0 and confine=False, because it
  stops and confines the programs that it runs itself.
  """
  c = ml_collections.ConfigDict(type_safe=False)
  c.verify = dict(arguments, fn=fn)
  c.reference = reference
  c.timeout_seconds = timeout_seconds
  c.confine = confine
  return c


_1, _0 = fields.at_least(1), fields.at_least(0, 'chooses')
_Table = Mapping[str, fields.Field]


def _published(names: Sequence[str]) -> fields.Check:
  return fields.Check(
    lambda v, c: v in ('', *names), f"give one of {', '.join(names)}, or ''"
  )


def _table(*rows: fields.Field) -> _Table:
  return {row.path: row for row in rows}


_EVALUATION = _table(
  fields.Field('model', str),
  fields.Field(
    'seed',
    int,
    fields.Check(lambda v, c: 0 <= v < 2**31, 'give 0 to 2**31 - 1'),
  ),
  fields.Field(
    'dtype',
    str,
    fields.Check(
      lambda v, c: v in ('', 'bfloat16', 'float32'),
      "give bfloat16, float32 or '', which chooses",
    ),
  ),
  fields.Field('window', int, fields.at_least(0, 'the longest')),
  fields.Field('sampling.temperature', float, fields.FINITE),
  fields.Field(
    'sampling.top_p',
    float,
    fields.Check(lambda v, c: 0 < v <= 1, 'give more than 0, at most 1'),
  ),
  fields.Field('sampling.top_k', int, fields.at_least(0, 'all')),
  fields.Field('sampling.min_p', float, fields.SHARE),
  fields.Field('engine.slots', int, _0),
  fields.Field('engine.page', int, _0),
  fields.Field('engine.chunk', int, _0),
  fields.Field('engine.pages', int, _0),
  fields.Field('engine.kv_dtype', str, fields.one_of(*fields.KV_DTYPES)),
  fields.Field('mesh.data', int),
  fields.Field('mesh.fsdp', int),
  fields.Field('mesh.tensor', int),
  fields.Field('judge.workers', int, _0),
  fields.Field('judge.max_failed_share', float, fields.SHARE),
  fields.Field('published', str, _published(published.NAMES)),
  fields.Field('price_per_chip_hour', float, fields.FINITE),
  fields.Field('benchmarks', dict),
)
_BENCHMARK = _table(
  fields.Field('data', dict, component=True),
  fields.Field('n', int, _1),
  fields.Field('max_tokens', int, _1),
  *(
    fields.BY_PATH[f'prompt.{name}']
    for name in ('system', 'suffix', 'starter', 'opens', 'examples')
  ),
  fields.Field(
    'judges',
    dict,
    fields.Check(lambda v, c: len(v) > 0, 'give one judge or more'),
  ),
  fields.Field(
    'headline',
    str,
    fields.Check(
      lambda v, c: v in c.judges, 'give the name of one of its judges'
    ),
  ),
  fields.Field(
    'ks',
    tuple,
    fields.Check(
      lambda v, c: all(type(k) is int and 1 <= k <= c.n for k in v),
      'give whole numbers from 1 to n={c.n}; pass@k of more than n rollouts '
      'does not exist',
    ),
  ),
  fields.Field('majority', bool),
  fields.Field('expect', int, fields.at_least(0, 'any number')),
  fields.Field('allow_missing', bool),
  fields.Field('published', str, _published(published.COLUMNS)),
)
_JUDGE = _table(
  fields.Field('verify', dict, component=True),
  fields.Field('reference', str),
  fields.BY_PATH['judge.timeout_seconds']._replace(path='timeout_seconds'),
  fields.Field('confine', bool),
)


def is_evaluation(config: ml_collections.ConfigDict) -> bool:
  """Whether a config is one of an evaluation, not of a run."""
  return 'benchmarks' in config and 'inputs' not in config


def plan(config: ml_collections.ConfigDict) -> values.Plan:
  """The evaluation that a config describes.

  Raises:
    ValueError: one line with field, value and remedy of the first bad field.
  """
  if not is_evaluation(config):
    raise ValueError(
      'config.benchmarks: missing; is it the config of a run? Give one of an '
      'evaluation, such as configs/eval_aime24.py'
    )
  _check(config, _EVALUATION, 'config')
  if not config.benchmarks:
    raise ValueError('config.benchmarks: empty; give one or more')
  return values.Plan(
    benchmarks=tuple(
      _benchmark(name, config.benchmarks[name]) for name in config.benchmarks
    ),
    sampling=values.Sampling(
      temperature=float(config.sampling.temperature),
      top_p=float(config.sampling.top_p),
      top_k=config.sampling.top_k,
      min_p=float(config.sampling.min_p),
    ),
    seed=config.seed,
    window=config.window,
    dtype=config.dtype,
    **config.engine.to_dict(),
    mesh=config.mesh.to_dict(),
    workers=config.judge.workers,
    max_failed_share=float(config.judge.max_failed_share),
    published=config.published,
    price_per_chip_hour=float(config.price_per_chip_hour),
  )


def _benchmark(name: str, c: Any) -> values.Benchmark:
  where = f'config.benchmarks.{name}'
  _check_name(name, 'config.benchmarks')
  _check(c, _BENCHMARK, where)
  return values.Benchmark(
    name=name,
    data=c.data.to_dict(),
    n=c.n,
    prompt=values.Prompting(
      **c.prompt.to_dict() | dict(examples=tuple(map(tuple, c.prompt.examples)))
    ),
    max_tokens=c.max_tokens,
    judges={
      name: _judge(name, c.judges[name], f'{where}.judges')
      for name in sorted(c.judges, key=lambda name: (name != c.headline, name))
    },
    ks=tuple(sorted(set(c.ks))),
    majority=c.majority,
    expect=c.expect,
    allow_missing=c.allow_missing,
    published=c.published,
  )


def _judge(name: str, c: Any, section: str) -> values.Judge:
  _check_name(name, section)
  _check(c, _JUDGE, f'{section}.{name}')
  return values.Judge(
    c.verify.to_dict(), c.reference, float(c.timeout_seconds), c.confine
  )


def _check_name(name: str, section: str) -> None:
  if not _NAME.fullmatch(name):
    raise ValueError(
      f'{section}.{name!r:.60}: give a name of at most 40 letters, digits, _ '
      'and -'
    )


def _check(c: Any, table: _Table, where: str) -> None:
  """Raises ValueError for the first field that is missing, unknown or bad."""
  if not fields.is_dict(c):
    raise ValueError(f'{where}={c!r:.60}: give a dict of {", ".join(table)}')
  checks.check_shape(c, '', where, table, 'evaluation.py')
  for path, row in table.items():
    checks.check_value(row, fields.value_at(c, path), c, f'{where}.{path}')
