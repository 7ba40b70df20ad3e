"""The host values of an evaluation: frozen, plain, without jax."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from acereason_jax import types
from acereason_jax.data import questions


class Problem(NamedTuple):
  """One problem of a benchmark.

  row: question, reference answer and id; the id is that of the file, without
    the benchmark's name.
  strata: groups that the problem belongs to, by kind: {'level': '5'}.
  rating: difficulty on Codeforces' scale; None if the file has none.
  contest: its contest and its index there, ('1843', 'A'); None if unknown.
  """

  row: questions.Row
  strata: Mapping[str, str] = types.EMPTY
  rating: float | None = None
  contest: tuple[str, str] | None = None


class Humans(NamedTuple):
  """Human contestants that a model is compared with; see humans.py.

  ratings: those of all contestants, in rising order; () if unknown.
  contests: standings of contests; see `ratings.contest_rating`.
  """

  ratings: Sequence[float] = ()
  contests: tuple[Mapping[str, Any], ...] = ()


NOBODY = Humans()


class Loaded(NamedTuple):
  """The problems that a benchmark's files hold.

  problems: problems, in the order of the files.
  files: SHA-256 of each file, by its name without folders.
  missing: (id, reason) of each problem that cannot be used.
  humans: contestants to compare a rating with.
  """

  problems: tuple[Problem, ...]
  files: Mapping[str, str]
  missing: tuple[tuple[str, str], ...] = ()
  humans: Humans = NOBODY


class Prompting(NamedTuple):
  """How a problem becomes a prompt.

  system: system turn; '' for none.
  suffix: text after each question.
  starter: text in place of the suffix for rows with a starter, which replaces
    {starter} in it.
  opens: text that the reply follows; added if the chat template lacks it.
  examples: (user, assistant) turns before the question.
  """

  system: str = ''
  suffix: str = ''
  starter: str = ''
  opens: str = ''
  examples: tuple[tuple[str, str], ...] = ()


class Judge(NamedTuple):
  """A judge and the workers that run it.

  verify: component dict(fn='module:function', **arguments) of a function
    (response, answer, **arguments) -> Verdict.
  reference: 'module:function' that says whether an answer can be judged; '' if
    none does.
  timeout_seconds: limit of one verdict.
  confine: whether workers lose network, files and programs.
  """

  verify: Mapping[str, Any]
  reference: str
  timeout_seconds: float
  confine: bool


class Benchmark(NamedTuple):
  """One benchmark: its problems, and how they are asked and judged.

  name: name without '/', the first part of its prompts' ids.
  data: component of a function () -> Loaded.
  n: rollouts of each problem.
  prompt: how a problem becomes a prompt.
  max_tokens: most tokens of a response.
  judges: judges by name; the first is the headline.
  ks: values of k for pass@k; () for 1, 2, 4 ... n.
  majority: whether maj@k is computed: answers, not programs.
  expect: number of problems that there must be; 0 for any.
  allow_missing: whether problems that cannot be used are left out.
  published: its column in evaluation/published.py; '' for none.
  """

  name: str
  data: Mapping[str, Any]
  n: int
  prompt: Prompting
  max_tokens: int
  judges: Mapping[str, Judge]
  ks: tuple[int, ...] = ()
  majority: bool = True
  expect: int = 0
  allow_missing: bool = False
  published: str = ''


class Sampling(NamedTuple):
  """How rollouts are drawn; the same for all benchmarks of an evaluation.

  temperature: 0 takes the most likely token.
  top_p: probability mass of the most likely tokens to keep.
  top_k: number of the most likely tokens to keep; 0 for all.
  min_p: least probability to keep, as a share of the largest.
  """

  temperature: float = 0.6
  top_p: float = 0.95
  top_k: int = 0
  min_p: float = 0.0


class Plan(NamedTuple):
  """An evaluation, as its config describes it.

  benchmarks: benchmarks in the order of the table.
  sampling: how rollouts are drawn.
  seed: seed of the random keys, 0 to 2**31 - 1.
  window: most tokens of a prompt; 0 for those of the longest.
  dtype: dtype of weights and compute; '' chooses one for the device.
  kv_dtype: dtype of the cache; '' for `dtype`.
  slots, page, chunk, pages: sizes of the engine; 0 chooses.
  mesh: sizes of the axes data, fsdp and tensor.
  workers: worker processes of each judge; 0 for one a CPU.
  max_failed_share: share of a benchmark's verdicts that may fail before its
    numbers are marked and the exit status is 1.
  published: row of evaluation/published.py to compare with; '' for none.
  price_per_chip_hour: price of an hour of one accelerator in dollars; 0 if
    unknown.
  """

  benchmarks: tuple[Benchmark, ...]
  sampling: Sampling
  seed: int = 0
  window: int = 0
  dtype: str = ''
  kv_dtype: str = ''
  slots: int = 0
  page: int = 0
  chunk: int = 0
  pages: int = 0
  mesh: Mapping[str, int] = types.EMPTY
  workers: int = 0
  max_failed_share: float = 0.01
  published: str = ''
  price_per_chip_hour: float = 0.0


class Outcome(NamedTuple):
  """What is kept in memory of a rollout: counts need no text.

  id: id of its problem, without the benchmark's name.
  index: index among the problem's rollouts.
  length: tokens of the response.
  stop: 'stop', 'length' or 'error'.
  statuses: status of each judge's verdict, by the judge's name.
  answer: class of its answer by judge, for maj@k: right answers have none,
    wrong ones a number, abstentions None; see verifiers/votes.py.
  reasons: why a judge can read no answer, by judge; others are left out.
  """

  id: str
  index: int
  length: int
  stop: str
  statuses: Mapping[str, types.Status]
  answer: Mapping[str, int | None] = types.EMPTY
  reasons: Mapping[str, str] = types.EMPTY
