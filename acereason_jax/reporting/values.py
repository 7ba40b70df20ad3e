"""The values of a report, between those who read a run and the page.

All of them are plain: text, numbers, tuples, dicts. None stands for a number
that does not exist. Text is as found, hostile where a model or a file wrote it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

Number = float | None


class Alarm(NamedTuple):
  """Something to look at; the most urgent come first.

  level: 'bad', 'warn' or 'good'.
  title: what it is, in a few words.
  detail: the numbers that say so, where they were seen, and what to do.
  section: id of the page's section that shows it.
  filters: filters of the section's rollouts that show it, by field; {} for
    none.
  """

  level: str
  title: str
  detail: str
  section: str
  filters: Mapping[str, Any]


class Band(NamedTuple):
  """The steps of a stage.

  stage: its name.
  first, last: its first and last step that were taken.
  """

  stage: str
  first: int
  last: int


class Series(NamedTuple):
  """A metric over the steps of `Curves`.

  name: name in metrics.jsonl.
  title: what it is, in words.
  unit: unit of its values; '' for none.
  group: heading under which it is drawn.
  values: a value for each step.
  """

  name: str
  title: str
  unit: str
  group: str
  values: Sequence[Number]


class Curves(NamedTuple):
  """The metrics of a run.

  run: name of the run.
  steps: steps, ascending.
  hours: wall hours of the run at the end of each step, restarts included.
  tokens: tokens of all responses until the end of each step.
  bands: stages, in order.
  restarts: steps at which a start began.
  series: metrics in the order in which they are drawn, the most telling first.
  """

  run: str
  steps: Sequence[int]
  hours: Sequence[float]
  tokens: Sequence[float]
  bands: Sequence[Band]
  restarts: Sequence[int]
  series: Sequence[Series]


class Why(NamedTuple):
  """Why a rollout has its verdict.

  lines: (what, text) pairs. Those of the judge come first: 'extracted',
    'given', 'reference', 'decided by', 'test 3', 'input', 'expected', 'got',
    ...; '' where the judge names nothing. Then 'reward', 'advantage' and 'in
    the loss' of the step.
  note: why there are no lines of the judge; '' if there are.
  command: the command that asks the judge again.
  """

  lines: Sequence[tuple[str, str]]
  note: str
  command: str


class Sample(NamedTuple):
  """A rollout with its text.

  row: fields of data/archive.py:Row by name, numbers rounded; nan is None.
  question, answer, text: see data/archive.py:Text.
  characters: characters of the text for each token.
  surprise, entropy, mismatch: codes of each token; None if unknown.
  why: why it has its verdict.
  """

  row: Mapping[str, Any]
  question: str
  answer: str
  text: str
  characters: Sequence[int]
  surprise: Sequence[int]
  entropy: Sequence[int] | None
  mismatch: Sequence[int] | None
  why: Why


class Samples(NamedTuple):
  """The rollouts of the page.

  samples: rollouts with texts, whole groups, by step, prompt and index.
  held: rollouts of the run that have texts on the disk.
  rollouts: all rollouts of the run's files.
  note: what was left out and why; '' if nothing.
  scales: (unit, most) of the codes, by 'surprise', 'entropy' and 'mismatch'.
  """

  samples: Sequence[Sample]
  held: int
  rollouts: int
  note: str
  scales: Mapping[str, tuple[float, float]]


class Prompt(NamedTuple):
  """A prompt over the run.

  prompt: its id.
  domain: its domain.
  kind: 'became solvable', 'lost', 'never solved', 'always solved', 'mixed' or
    'judge failed'.
  rates: (step, solved, judged) of each time that it was asked.
  """

  prompt: str
  domain: str
  kind: str
  rates: Sequence[tuple[int, int, int]]


class Prompts(NamedTuple):
  """The prompts of a run.

  prompts: those listed, the most telling kinds first.
  counts: number of prompts of each kind.
  luck: became solvable, of these expected by luck, and prompts that were asked
    in both halves; None if it is unknown.
  note: what the list leaves out; '' if nothing.
  """

  prompts: Sequence[Prompt]
  counts: Mapping[str, int]
  luck: tuple[int, float, int] | None
  note: str


class Node(NamedTuple):
  """A part of a run's wall time; the parts of a node sum to it exactly.

  name: its name.
  milliseconds: its time.
  lever: what would shrink it; '' if nothing would or its parts say it.
  parts: its parts, the largest first.
  figure: a number that is told beside its name, with its own; '' for none.
  """

  name: str
  milliseconds: int
  lever: str
  parts: Sequence['Node']
  figure: str = ''


class Waste(NamedTuple):
  """The wall time of a run, by what it was spent on.

  root: the whole.
  notes: what the numbers do not hold, one sentence each.
  """

  root: Node
  notes: Sequence[str]


class Field(NamedTuple):
  """A field of the config.

  name: its path.
  value: its value here, as JSON; '' if only a stage or the recipe has it.
  recipe: its value in the file of the same name in configs/; None if it has
    none. No field has one where the file is unknown.
  default: its value in config/base.py; None if it has none.
  stages: its value in each stage that changes it, by name.
  others: its value in each compared run, by name, where it differs.
  """

  name: str
  value: str
  recipe: str | None
  default: str | None
  stages: Mapping[str, str]
  others: Mapping[str, str]


class Table(NamedTuple):
  """A table of texts, such as evaluation results or a plan beside the run.

  title: heading.
  note: a sentence below it; '' for none.
  head: names of the columns.
  rows: rows of texts.
  """

  title: str
  note: str
  head: Sequence[str]
  rows: Sequence[Sequence[str]]


class Stay(NamedTuple):
  """A rollout's stay in a slot: see rollout/trace.py:Event."""

  slot: int
  prompt_id: str
  index: int
  began: int
  ended: int
  reason: str


class Slots(NamedTuple):
  """The slots of the newest step.

  step: that step.
  facts: (name, value) of its header.
  stays: stays in slots; () if there is no timeline.
  """

  step: int
  facts: Sequence[tuple[str, str]]
  stays: Sequence[Stay]


class Report(NamedTuple):
  """All of a page.

  name: name of the run.
  facts: (name, value) pairs of the head: config, package, stage reached, best
    and last held-out rate with errors, rollouts, tokens, wall time.
  alarms: what to look at first.
  curves: metrics of this run, then of those it is compared with.
  samples: rollouts.
  prompts: prompts; None if the run has no ledger.
  slots: slots of the newest step; None if there is no timeline.
  waste: wall time; None if the run has no clock.
  fields: the config.
  tables: tables of evaluations and of a plan.
  notes: what is missing or was not read, one sentence each.
  """

  name: str
  facts: Sequence[tuple[str, str]]
  alarms: Sequence[Alarm]
  curves: Sequence[Curves]
  samples: Samples
  prompts: Prompts | None
  slots: Slots | None
  waste: Waste | None
  fields: Sequence[Field]
  tables: Sequence[Table]
  notes: Sequence[str]
