"""The values of a run: its parts and its progress, without functions.

`Run` is built from the config before a run starts. `Tools` are opened when it
starts. `Standing` is everything that changes, and a checkpoint holds it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from acereason_jax import types
from acereason_jax.console import signals
from acereason_jax.curriculum import ending, filtering, selection
from acereason_jax.curriculum import ledger as ledger_lib
from acereason_jax.models import base
from acereason_jax.models import shape as shape_lib
from acereason_jax.rl import control, objective, packing
from acereason_jax.rl import rows as rows_lib
from acereason_jax.rl import update as update_lib
from acereason_jax.rollout import engine as engine_lib
from acereason_jax.rollout import trace as trace_lib
from acereason_jax.run import journal as journal_lib
from acereason_jax.run import keeping
from acereason_jax.verifiers.pool import pool as pool_lib

# The fields of a stage, and of a run's progress, that controls change.
CONTROLS = 'temperature', 'entropy_bonus', 'groups'


class Stopped(RuntimeError):
  """A limit of the config is passed: one line for the user."""


class Judges(NamedTuple):
  """The judges of a domain's rollouts.

  pool: processes that judge.
  batch_seconds: seconds without a verdict, after a batch's last token, that end
    the wait for others.
  max_failed_share: share of failed verdicts above which the run stops.
  """

  pool: pool_lib.VerifierPool
  batch_seconds: float
  max_failed_share: float


class Domain(NamedTuple):
  """A kind of prompts and their judges.

  name: 'math', or 'main' in a run of one kind.
  where: prefix of its fields in the config: '' or 'domains.math.'.
  prompts: prompts by source, 'train_data' and 'heldout_data'.
  digests: digests of the rows as read, by source.
  evaluate_before: whether its held-out questions are asked before the first
    step.
  heldout_per_prompt: number of answers per held-out question.
  open_judges: starts the workers that judge its rollouts.
  open_reference_pool: starts the workers that check its reference answers; None
    if answers are not checked.
  """

  name: str
  where: str
  prompts: dict[str, list[types.Prompt]]
  digests: dict[str, str]
  evaluate_before: bool
  heldout_per_prompt: int
  open_judges: Callable[[], Judges]
  open_reference_pool: Callable[[], pool_lib.VerifierPool] | None


class Stage(NamedTuple):
  """A part of a run with settings of its own; config/base.py explains each.

  name: name, unique in the run.
  index: index among all stages of the config, from 0.
  stop: rules that end it.
  mix: share of each domain in its prompts, in any unit.
  filters: filter of each domain of `mix`, which leaves prompts out of epochs.
  evaluate_every: steps between evaluations of held-out questions, by domain; 0:
    only at the end of the stage, as for domains that are not in it.
  prompts: number of prompts per batch.
  groups: number of rollouts per prompt.
  most_rollouts: the most of a batch.
  refill: most rounds of further prompts that replace groups without a gradient.
  engine: engine that draws its rollouts.
  temperature: temperature of the softmax that rollouts are drawn from.
  entropy_bonus: weight of the entropy in the loss.
  objective: how judged groups become advantages and weights.
  layout: how rollouts are cut into microbatches.
  place: a packed batch of numpy arrays -> the same on the devices.
  update: jitted functions of an update.
  tempered: whether the trained policy has the rollouts' temperature.
  has_reference: whether the loss reads the logp of a reference model.
  has_first: whether the policy scores a batch before the first of its updates.
  reset_reference_every: steps after which the policy becomes the reference; 0:
    only at the start of the stage.
  abstract_state: shapes, dtypes and shardings of its train state.
  init: float32 parameters, which it takes over -> a new train state.
  carry: train state at the end of the previous stage -> train state at the
    start of this one, which keeps the moments; None if nothing is carried.
  limits: limits that stop the run if passed, by name.
  mismatch_limit: largest healthy mismatch of sampler and trainer, nats per
    token.
  """

  name: str
  index: int
  stop: ending.Stop
  mix: dict[str, float]
  filters: dict[str, filtering.Filter]
  evaluate_every: dict[str, int]
  prompts: int
  groups: control.Control
  most_rollouts: int
  refill: int
  engine: engine_lib.Engine
  temperature: control.Control
  entropy_bonus: control.Control
  objective: objective.Objective
  layout: rows_lib.Layout
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

  config: whole config as plain JSON.
  name: name of the config's file; '' if it came from none.
  attention: the name of the kernel that trains.
  shape: sizes of the model.
  peak: bfloat16 FLOPs per second of all devices; 0 if it is unknown.
  seed: seed of sampling keys and of the order of the data.
  domains: by name.
  stages: stages to run, in order.
  digests: digests of everything that a resumed run must find unchanged. By
    field of the config: all rows as read, and the tokens of prompts. Then the
    network, the tokenizer and the stop tokens. Also the files of the model, if
    checkpoints do not hold all weights.
  heldout_engine: engine that draws the answers to held-out questions.
  heldout_temperature: temperature of these answers.
  load_params: reads the trained parameters from the model's files.
  load_frozen: reads the frozen parameters; {} in full training.
  abstract_params: shapes, dtypes and places of what is trained.
  rollout_params: `weights` of a train state -> parameters of the engines.
  rollout_bytes: bytes of a device that these take in addition to the state.
  model_stamp: text that differs if other weights replace the model's.
  start_run: run whose weights this one begins with; '' for the model's.
  best: metric whose best checkpoint is kept; '' for none.
  checkpoint_every: steps between checkpoints.
  checkpoint_keep: number of the newest checkpoints that are kept.
  samples: steps between printed samples (every), number of rollouts (count),
    and characters of each.
  keep: groups of a step whose texts are kept (groups), and GB (1e9 bytes) of
    texts that stay (budget_gb).
  """

  config: dict[str, Any]
  name: str
  attention: str
  shape: shape_lib.Shape
  peak: float
  seed: int
  domains: dict[str, Domain]
  stages: list[Stage]
  digests: dict[str, str]
  heldout_engine: engine_lib.Engine
  heldout_temperature: float
  load_params: Callable[[], base.Tree]
  load_frozen: Callable[[], base.Tree]
  abstract_params: base.Tree
  rollout_params: Callable[[base.Tree], base.Tree]
  rollout_bytes: int
  model_stamp: str
  start_run: str
  best: str
  checkpoint_every: int
  checkpoint_keep: int
  samples: dict[str, int]
  keep: dict[str, float]


class Tools(NamedTuple):
  """The resources that a run opens when it starts.

  prompts: prompts by domain and source, without those that were screened out.
  judges: by domain.
  journal: rollouts and verdicts since the last checkpoint.
  stop: whether a signal asked the run to stop.
  """

  prompts: Mapping[str, Mapping[str, Sequence[types.Prompt]]]
  judges: Mapping[str, Judges]
  journal: journal_lib.Journal
  stop: signals.StopRequest


class Progress(NamedTuple):
  """The progress of a run; plain JSON, in every checkpoint under these names.

  stage: name of the current stage.
  step: number of batches that were trained on.
  stage_step: number of these batches in this stage.
  cursor: place of the stage in its data; None before its first batch.
  temperature: temperature of the next step.
  entropy_bonus: entropy bonus of the next step.
  groups: rollouts per prompt in the next step, before rounding.
  carried: those of the three that the next stage continues with.
  temperatures: temperatures of the stage's steps so far.
  history: newest values of the stop rule's metric in this stage.
  nonfinite: number of consecutive last steps without a finite gradient.
  heldout: pass rates before the first stage, of the domains that were asked
    then, and at each stage's end.
  over: reason why this stage has no next batch; '' if it has one.
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
  """Everything that a run knows between two steps; a checkpoint holds it.

  state: parameters, moments and reference.
  progress: progress of the run.
  ledger: results of every prompt.
  seconds: time the run took so far, over all of its starts.
  """

  state: update_lib.TrainState
  progress: Progress
  ledger: ledger_lib.Ledger
  seconds: float = 0.0


class Step(NamedTuple):
  """The results of a step, in addition to the new standing.

  values: metrics of the step.
  groups: judged groups that it trained on.
  trace: trace of the engine in the first round of the batch.
  kept: all of its rollouts.
  looked: held-out answers after it; () if none were due.
  reason: reason why the stage is over after it; None if it is not.
  """

  values: dict[str, float]
  groups: list[types.Group]
  trace: trace_lib.Trace
  kept: keeping.Kept
  looked: Sequence[types.Group] = ()
  reason: str | None = None
