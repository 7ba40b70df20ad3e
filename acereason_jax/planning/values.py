"""The values of a plan; no jax, no functions that compute.

A plan is made of three answers. Memory: a `Phase` for each time at which a
device is full of something else. Time: a `Timed` for each stage, from its
`Work`. Compiled: what the compiler of the absent machine says.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from acereason_jax.models import shape as shape_lib
from acereason_jax.rollout import engine_sizes, tensor


class Phase(NamedTuple):
  """What fills a device at one time of a stage.

  name: 'load', 'sample', 'update' or 'heldout'.
  parts: bytes of one device, by what takes them.
  room: bytes of a device that a program may take.
  """

  name: str
  parts: Mapping[str, float]
  room: float

  @property
  def need(self) -> float:
    return sum(self.parts.values())

  @property
  def fits(self) -> bool:
    return self.need <= self.room


class Knob(NamedTuple):
  """A change of the config.

  fields: values by full name, such as {'config.mesh.tensor': 4}.
  why: what it does, for people.
  """

  fields: Mapping[str, object]
  why: str


class Look(NamedTuple):
  """Looks at a domain's held-out questions.

  domain: name of the domain.
  questions: number of questions.
  tries: answers to each.
  every: steps between two looks; 0: only at the end of the stage.
  before: whether there is a look before the run's first step.
  """

  domain: str
  questions: int
  tries: int
  every: int
  before: bool = True


class Judged(NamedTuple):
  """The judges of a domain.

  domain: name of the domain.
  share: share of the stage's rollouts, 0 to 1.
  workers: worker processes on each host.
  seconds: CPU seconds of a verdict.
  """

  domain: str
  share: float
  workers: int
  seconds: float


class Work(NamedTuple):
  """What one stage has to do, as far as its time depends on it.

  name: name of the stage.
  steps: most steps.
  shape: sizes of the model.
  mesh: sizes of the mesh's axes, in training.
  rollout_mesh: the same for rollouts.
  sizes: the engine's.
  heldout: sizes of the engine of held-out questions.
  prompts: prompts of a batch.
  groups: rollouts of a prompt; the mean over the stage.
  columns, rows: of a microbatch, rows over all devices.
  multiple: see `rl.rows.Layout`.
  share_prompts: whether the packer stores a group's prompt once.
  even_tokens: see `models.base.Model.even_tokens`.
  remat: name in `models.remat.POLICIES`.
  updates: updates on a batch.
  dtype_bytes, kv_bytes: bytes of a weight of rollouts, and of a cached number.
  matrix_bytes: bytes of a weight of their layers.
  state_bytes: bytes of the train state on one device.
  moment_bytes: of these the optimizer's.
  offload: whether the moments are in the hosts' memory.
  train_sums: bytes of the gradients on one device.
  asked: prompts that are asked before the stage; 0: none.
  tries: the mean number of rollouts that each of them is asked for.
  looks: looks at held-out questions.
  judges: judges of all domains; the share of those outside the stage is 0.
  checkpoint_every: steps between two checkpoints.
  checkpoint_bytes: bytes of one, of all devices.
  scored: passes that score a batch before its update: one for a loss with a
    reference, one for the first policy of several updates.
  first: whether it is the run's first stage, before which all held-out
    questions are asked too.
  """

  name: str
  steps: int
  shape: shape_lib.Shape
  mesh: Mapping[str, int]
  rollout_mesh: Mapping[str, int]
  sizes: engine_sizes.Sizes
  heldout: engine_sizes.Sizes
  prompts: int
  groups: float
  columns: int
  rows: int
  multiple: int
  share_prompts: bool
  even_tokens: float
  remat: str
  updates: int
  dtype_bytes: int
  kv_bytes: int
  matrix_bytes: int
  state_bytes: float
  moment_bytes: float
  offload: bool
  train_sums: float
  asked: int
  tries: float
  looks: Sequence[Look]
  judges: Sequence[Judged]
  checkpoint_every: int
  checkpoint_bytes: float
  scored: int = 0
  first: bool = False


class Decoded(NamedTuple):
  """One simulated batch of rollouts.

  seconds: of all calls.
  steps: decode steps.
  calls: calls of the decode program.
  tokens: tokens drawn.
  occupancy: share of slots x steps that held a rollout.
  tail: share of `seconds` in which fewer than half of the slots were busy.
  busiest: tokens of the cache that steps read in the busiest shard, over those
    in the mean shard; sums over all steps.
  busiest_full: the same over the steps before the tail.
  preempted: rollouts that lost their slot.
  parts: seconds by cause, all together `seconds`: 'weights', 'kv', 'products'
    (what they take longer than their weights), 'sampler', 'network', 'host' and
    'prefill'.
  """

  seconds: float
  steps: int
  calls: int
  tokens: int
  occupancy: float
  tail: float
  busiest: float
  busiest_full: float
  preempted: int
  parts: Mapping[str, float]


class Waste(NamedTuple):
  """A part of a stage's time that could be less.

  seconds: of a step.
  what: what takes them.
  lever: what to change.
  """

  seconds: float
  what: str
  lever: str


class Timed(NamedTuple):
  """The time of a stage.

  name: name of the stage.
  phases: seconds of one step by phase: 'prefill', 'decode', 'judges' (the wait
    after the last token), 'reshard', 'update', 'host', and, spread over the
    steps, 'checkpoint', 'heldout' and 'probe'.
  steps: number of steps.
  batch: the simulated batch.
  microbatches: number of microbatches of an update.
  filled: share of their tokens that is real.
  mfu: useful FLOPs of an update, of the peak over its seconds.
  wastes: largest first.
  """

  name: str
  phases: Mapping[str, float]
  steps: int
  batch: Decoded
  microbatches: float
  filled: float
  mfu: float
  wastes: Sequence[Waste]

  @property
  def step_seconds(self) -> float:
    return sum(self.phases.values())

  @property
  def hours(self) -> float:
    return self.steps * self.step_seconds / 3600

  @property
  def generation_share(self) -> float:
    """Share of generation in generation and update."""
    generation = self.phases['prefill'] + self.phases['decode']
    return generation / (generation + self.phases['update'])


class Timings(NamedTuple):
  """Seconds of an engine's programs, measured on the machine that is here.

  call: of a call of decode beside its steps, with what the host does for it.
  step: of a decode step that reads nothing of the cache.
  token: of a decode step, for each position of the cache that it reads.
  prefill: of a prefill call.
  width: positions of the cache that a block of the kernel takes. All rows go
    through the blocks of the longest one. 0: each row reads only its own.
  """

  call: float
  step: float
  token: float
  prefill: float
  width: int = 0


class Measured(NamedTuple):
  """Seconds of a stage's programs, measured on the machine that is here.

  rollouts, heldout: of the engines.
  rollout_params: of the weights of rollouts, from those of the state.
  add: of a microbatch with rows of all columns.
  score: of a pass that only scores one; 0 if the stage has none.
  apply: of the optimizer, once for each update, with zeros for the gradients.
  peak: FLOPs per second of the best product, of all devices.
  """

  rollouts: Timings
  heldout: Timings
  rollout_params: float
  add: float
  score: float
  apply: float
  peak: float


class Assumed(NamedTuple):
  """What a plan assumes; each is a flag of the command.

  mean_tokens: mean response, tokens, by the most tokens of a response; the
    papers' curves where known [P Fig. 2 and 4].
  spread: standard deviation of the natural logarithm of a response's length.
  prompt_tokens: mean prompt, tokens.
  kept: share of the groups that have a gradient.
  bandwidth: share of a device's memory bandwidth that decoding reaches; 0: that
    of the compiler for the kind of machine.
  products: share of a device's peak that the products of the update reach; 0:
    that of the compiler for the kind of machine.
  links: share of the links' bandwidth that collectives reach.
  hop_seconds: latency of one hop of a collective.
  host_seconds: of the host, for each call of decode.
  accepted: tokens that a rollout draws in a decode step that drafts
    (engine.speculate); such a step takes as long as another.
  known: share of a probe's prompts whose pass counts are in their data.
  math_seconds, code_seconds: CPU seconds of a verdict.
  checkpoint_bandwidth: bytes per second of each host to the store.
  price: of a chip hour, in any currency; 0: no cost is shown.
  questions: numbers of questions by path of a source, where `questions.py`
    knows none or another one.
  seed: of the simulated lengths.
  """

  mean_tokens: Mapping[int, float] = {
    8192: 4500,
    16384: 6500,
    24000: 11000,
    24576: 11000,
    32768: 13000,
  }
  spread: float = 0.6
  prompt_tokens: float = 150
  kept: float = 0.6
  bandwidth: float = 0.0
  products: float = 0.0
  links: float = tensor.LINKS
  hop_seconds: float = tensor.HOP_SECONDS
  host_seconds: float = 0.01
  accepted: float = 1.0
  known: float = 0.0
  math_seconds: float = 0.004
  code_seconds: float = 2.0
  checkpoint_bandwidth: float = 1e9
  price: float = 0.0
  questions: Mapping[str, int] = {}
  seed: int = 0


class Planned(NamedTuple):
  """The plan of a stage.

  name: name of the stage.
  work: what it has to do.
  phases: memory of a device, phase by phase.
  host: memory of a host at its fullest, bytes by what takes them.
  journal_bytes: bytes of the journal that a step writes.
  refused: why it cannot be built, one line; '' if it can.
  knob: the change with which it fits, tried; None if it fits or none is known.
  timed: its time; None if it cannot be built.
  """

  name: str
  work: Work | None
  phases: Sequence[Phase]
  host: Mapping[str, float]
  journal_bytes: float
  refused: str
  knob: Knob | None
  timed: Timed | None

  @property
  def host_bytes(self) -> float:
    return sum(self.host.values())

  @property
  def fits(self) -> bool:
    return not self.refused and all(phase.fits for phase in self.phases)
