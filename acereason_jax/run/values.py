"""What a run is made of, and where it stands: values without functions.

`Run` is built from the config before a run starts, `Tools` are opened when it
does, and `Standing` is all that changes: a checkpoint holds that.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from acereason_jax import types
from acereason_jax.curriculum import ending, filtering, selection
from acereason_jax.curriculum import ledger as ledger_lib
from acereason_jax.models import base
from acereason_jax.rl import control, objective, packing
from acereason_jax.rl import update as update_lib
from acereason_jax.rollout import engine as engine_lib
from acereason_jax.rollout import trace as trace_lib
from acereason_jax.run import journal as journal_lib
from acereason_jax.verifiers.pool import pool as pool_lib

# The fields of a stage, and of a run's progress, that controls change.
CONTROLS = 'temperature', 'entropy_bonus', 'groups'


class Stopped(RuntimeError):
  """A limit of the config is passed: one line for the user."""


class Interrupted(Exception):
  """A signal asked the run to stop; it goes on from `step`."""

  def __init__(self, step: int):
    super().__init__(step)
    self.step = step


class Judges(NamedTuple):
  """Who judges the rollouts of a domain.

  pool: the processes that judge.
  batch_seconds: how long after a batch's last token verdicts are waited for.
  max_failed_share: the share of failed verdicts that stops the run if passed.
  """

  pool: pool_lib.VerifierPool
  batch_seconds: float
  max_failed_share: float


class Domain(NamedTuple):
  """A kind of prompts and who judges them.

  name: 'math', or 'main' in a run of one kind.
  where: what its fields of the config begin with: '' or 'domains.math.'.
  prompts: by source, 'train_data' and 'heldout_data'.
  digests: of the rows as read, by source.
  evaluate_every: steps between looks at its held-out questions; 0: only where a
    stage ends.
  open_judges: starts the workers that judge its rollouts.
  open_reference_pool: starts those that check its reference answers; None where
    answers are taken as they are.
  """

  name: str
  where: str
  prompts: dict[str, list[types.Prompt]]
  digests: dict[str, str]
  evaluate_every: int
  open_judges: Callable[[], Judges]
  open_reference_pool: Callable[[], pool_lib.VerifierPool] | None


class Stage(NamedTuple):
  """What a run does for a while; config/base.py explains each choice.

  name: is unique in the run.
  index: its place among all stages of the config, from 0.
  stop: when it ends.
  mix: the share of each domain in its prompts, in any unit.
  filters: by domain of `mix`, which prompts an epoch leaves out.
  prompts: prompts of a batch.
  groups: rollouts a prompt.
  refill: most rounds of further prompts in place of groups without a gradient.
  engine: draws its rollouts.
  temperature: of the softmax that rollouts are drawn from.
  entropy_bonus: the weight of the entropy in the loss.
  objective: how judged groups become advantages and weights.
  layout: how rollouts are cut into microbatches.
  place: a packed batch of numpy arrays -> the same on the devices.
  update: the jitted functions of an update.
  tempered: whether the policy that is trained has the rollouts' temperature.
  has_reference: whether the loss reads the logp of a reference model.
  has_first: whether batches are scored by the policy before the first of their
    updates.
  reset_reference_every: steps after which the reference is the policy; 0: only
    where the stage begins.
  abstract_state: shapes, dtypes and places of its train state.
  init: float32 parameters, which it takes over -> a new train state.
  carry: the train state at the end of the stage before -> that at the beginning
    of this one, which keeps its moments; None where nothing is carried.
  limits: what stops the run if passed, by name.
  mismatch_limit: what sampler and trainer may differ by, nats a token.
  """

  name: str
  index: int
  stop: ending.Stop
  mix: dict[str, float]
  filters: dict[str, filtering.Filter]
  prompts: int
  groups: control.Control
  refill: int
  engine: engine_lib.Engine
  temperature: control.Control
  entropy_bonus: control.Control
  objective: objective.Objective
  layout: packing.Layout
  place: Callable[[packing.PackedBatch], packing.PackedBatch]
  update: update_lib.Update
  tempered: bool
  has_reference: bool
  has_first: bool
  reset_reference_every: int
  abstract_state: update_lib.TrainState
  init: Callable[[base.Tree], update_lib.TrainState]
  carry: Callable[[update_lib.TrainState], update_lib.TrainState] | None
  limits: dict[str, float]
  mismatch_limit: float


class Run(NamedTuple):
  """Everything that a run needs, built from its config before it starts.

  config: the whole config as plain JSON.
  attention: the name of the kernel that trains.
  seed: of sampling keys and of the order of the data.
  domains: by name.
  stages: those to run, in order.
  digests: of what a run that goes on must find as it was. By field of the
    config: all rows as read, and the tokens of prompts; then the network, the
    tokenizer and the stop tokens; and the files of the model, where checkpoints
    do not hold all weights.
  heldout_engine: draws the answers to held-out questions.
  heldout_temperature: of these answers.
  heldout_groups: answers to a held-out question.
  load_params: reads what is trained from the model's files.
  load_frozen: reads what is not trained; {} in full training.
  abstract_params: shapes, dtypes and places of what is trained.
  rollout_params: the `weights` of a train state -> what the engines read.
  model_stamp: tells the model's weights from others put there later.
  start_run: the run whose weights this one begins with; '' for the model's.
  best: the metric whose best checkpoint is kept; '' for none.
  checkpoint_every: steps between checkpoints.
  checkpoint_keep: how many of the newest are kept.
  samples: when (every) how many (count) rollouts are printed, and how many
    characters of each.
  """

  config: dict[str, Any]
  attention: str
  seed: int
  domains: dict[str, Domain]
  stages: list[Stage]
  digests: dict[str, str]
  heldout_engine: engine_lib.Engine
  heldout_temperature: float
  heldout_groups: int
  load_params: Callable[[], base.Tree]
  load_frozen: Callable[[], base.Tree]
  abstract_params: base.Tree
  rollout_params: Callable[[base.Tree], base.Tree]
  model_stamp: str
  start_run: str
  best: str
  checkpoint_every: int
  checkpoint_keep: int
  samples: dict[str, int]


class Tools(NamedTuple):
  """What a run opens when it starts.

  prompts: by domain and source, without those that were screened out.
  judges: by domain.
  journal: what was sampled and judged since the last checkpoint.
  """

  prompts: Mapping[str, Mapping[str, Sequence[types.Prompt]]]
  judges: Mapping[str, Judges]
  journal: journal_lib.Journal


class Progress(NamedTuple):
  """How far a run is; plain JSON, in every checkpoint under these names.

  stage: the name of the stage that it is in.
  step: batches that were trained on.
  stage_step: those of this stage.
  cursor: where the stage stands in its data; None before its first batch.
  temperature: that of the next step.
  entropy_bonus: that of the next step.
  groups: rollouts a prompt in the next step, before rounding.
  carried: those of the three that the next stage goes on with.
  temperatures: those of the stage's steps so far.
  history: the newest values of the stop rule's metric in this stage.
  nonfinite: how many steps in a row had no finite gradient.
  heldout: pass rates before the first stage and at each stage's end.
  over: why there is no next batch in this stage; '' if there is one.
  """

  stage: str
  step: int = 0
  stage_step: int = 0
  cursor: selection.Cursor | None = None
  temperature: float = 0.0
  entropy_bonus: float = 0.0
  groups: float = 0.0
  carried: Mapping[str, float] | None = None
  temperatures: Sequence[float] = ()
  history: Sequence[float] = ()
  nonfinite: int = 0
  heldout: Sequence[Mapping[str, Any]] = ()
  over: str = ''


class Standing(NamedTuple):
  """All that a run knows between two steps; a checkpoint holds it.

  state: parameters, moments and reference.
  progress: how far it is.
  ledger: what became of every prompt.
  seconds: how long the run took so far, over all of its starts.
  """

  state: update_lib.TrainState
  progress: Progress
  ledger: ledger_lib.Ledger
  seconds: float = 0.0


class Step(NamedTuple):
  """What a step found, beside where it left the run.

  values: its metrics.
  groups: the judged groups that it trained on.
  trace: what the engine did, in the first round of the batch.
  reason: why the stage is over after it; None if it is not.
  """

  values: dict[str, float]
  groups: list[types.Group]
  trace: trace_lib.Trace
  reason: str | None = None
