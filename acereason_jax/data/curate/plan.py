"""What a curation does, as values: inputs, benchmarks and rules."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from acereason_jax import types
from acereason_jax.data.curate import values

DROP, FLAG = 'drop', 'flag'
# Columns that a row is read from, by the name of its field.
COLUMNS = (
  *('problem', 'answer', 'id', 'url', 'date', 'starter', 'solutions', 'wrong'),
  'difficulty',
)
FORMATS = ('', 'jsonl', 'json', 'parquet')


class Input(NamedTuple):
  """Rows of a data set.

  name: its name; rows without an id of their own get one that begins with it.
  paths: files, on a disk or at hf://.
  format: 'jsonl', 'json' (one array), 'parquet', or '' for what a file is.
  fields: column of a row's field, of COLUMNS, where it has an unusual name.
  keep: other columns that go to Row.about, for steps.
  prefix: text before the ids that files give.
  licence: its licence, for the datasheet.
  revision: branch, tag or commit of paths at hf:// that name none.
  rows: component that returns the rows, instead of files; None for files.
  """

  name: str
  paths: tuple[str, ...] = ()
  format: str = ''
  fields: Mapping[str, str] = types.EMPTY
  keep: tuple[str, ...] = ()
  prefix: str = ''
  licence: str = ''
  revision: str = ''
  rows: Mapping[str, Any] | None = None


class Benchmark(NamedTuple):
  """Problems that no row may be like.

  name: its name.
  paths, format, revision: its files, as those of an Input.
  field: column of a problem's statement; '' for the usual names.
  id: column of its id; '' for 'id', or the number of its line.
  rows: component that returns the problems as rows, instead of files.
  """

  name: str
  paths: tuple[str, ...] = ()
  format: str = ''
  field: str = ''
  id: str = ''
  revision: str = ''
  rows: Mapping[str, Any] | None = None


class Rule(NamedTuple):
  """A step, and what happens to the rows that it drops.

  name: unique; the step's own, or one that the config gives.
  action: DROP, or FLAG to keep them with a flag.
  step: the step.
  only: names of the inputs whose rows it sees; () for all.
  """

  name: str
  action: str
  step: values.Step
  only: tuple[str, ...] = ()

  def sees(self, row: values.Row) -> bool:
    return not self.only or row.source in self.only


class Plan(NamedTuple):
  """A whole curation.

  inputs, benchmarks: what is read.
  rules: what is done, in order.
  seed: seed of all choices.
  tokenizer: model whose tokens are counted; '' for none.
  responses: components that return the responses to rows.
  model: model that is asked for those that are missing; '' for none.
  generate: flags of acereason_jax.generate for that.
  config: the config as JSON, for the datasheet.
  """

  inputs: tuple[Input, ...]
  rules: tuple[Rule, ...]
  benchmarks: tuple[Benchmark, ...] = ()
  seed: int = 0
  tokenizer: str = ''
  responses: tuple[Mapping[str, Any], ...] = ()
  model: str = ''
  generate: Mapping[str, Any] = types.EMPTY
  config: Mapping[str, Any] = types.EMPTY
