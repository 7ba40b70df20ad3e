"""The calls that a plan compiles are those that a run makes.

A run trains the tiny model, and each jitted function records the program that
it lowers to from its real arguments. The abstract calls must lower to the same
text, and no function may lack one.
"""

import collections
import functools

import jax
import pytest
import tiny

from acereason_jax import mesh as mesh_lib
from acereason_jax.config import checks
from acereason_jax.config import stages as stages_lib
from acereason_jax.hosts import watchdog
from acereason_jax.kernels import attention
from acereason_jax.models import base
from acereason_jax.rollout import serve
from acereason_jax.run import build, calls, whole

pytestmark = pytest.mark.usefixtures('compiled_once')


class Recorder:
  """The texts of the programs that wrapped functions ran, by name."""

  def __init__(self):
    self.texts = collections.defaultdict(set)
    self.seen = set()

  def wrap(self, name, function, lower):
    """`function`, which records what `lower` of its arguments gives."""

    @functools.wraps(function)
    def call(*arguments):
      leaves, structure = jax.tree.flatten(arguments)
      like = [(x.shape, x.dtype, getattr(x, 'sharding', 0)) for x in leaves]
      key = name, str(structure), str(like)
      if key not in self.seen:
        self.seen.add(key)
        self.texts[name].add(lower(*arguments).as_text())
      return function(*arguments)

    return call

  def engine(self, engine, prefix=''):
    for name in ('empty_pool', 'prefill', 'decode'):
      function = getattr(engine, name)
      wrapped = self.wrap(prefix + name, function, function.lower)
      # A frozen dataclass.
      object.__setattr__(engine, name, wrapped)

  def run(self, run):
    """The run with all of its functions wrapped."""
    (stage,) = run.stages
    made, step = run.rollout_params, stage.update
    if made is base.apart:
      lower = lambda weights: base.unstacked.lower(weights['layers'])
      made = self.wrap('rollout_params', made, lower)
    elif hasattr(made, 'lower'):
      made = self.wrap('rollout_params', made, made.lower)
    for name in ('zeros', 'add', 'apply', 'reset_reference'):
      function = getattr(step, name)
      object.__setattr__(step, name, self.wrap(name, function, function.lower))
    for name in ('score', 'first_pass'):
      function = getattr(step, name)
      object.__setattr__(step, name, self.wrap(name, function, step.logp.lower))
    self.engine(stage.engine)
    if run.heldout_engine is not stage.engine:
      self.engine(run.heldout_engine, 'heldout_')
    init = self.wrap('init', stage.init, stage.init.lower)
    return run._replace(stages=[stage._replace(init=init)], rollout_params=made)


CLIPPED = dict(
  fn='acereason_jax.rl.losses:clipped', clip_low=0.2, clip_high=0.2
)
KL = dict(fn='acereason_jax.rl.losses:with_kl', loss=CLIPPED, weight=0.1)
CASES = {
  # An engine of its own for held-out questions.
  'one device': dict(devices=1, heldout=dict(top_p=0.9)),
  'one device, adapters': dict(devices=1, lora=dict(rank=2)),
  'adapters': dict(
    lora=dict(rank=2),
    dtype='bfloat16',
    mesh=dict(data=1, fsdp=2, sequence=2),
  ),
  'a reference, two updates': dict(
    objective=dict(loss=KL, reset_reference_every=1),
    optim=dict(updates=2, offload=True),
    dtype='bfloat16',
    steps=2,
  ),
  'two meshes': dict(
    lora=dict(rank=2),
    dtype='bfloat16',
    mesh=dict(data=2, fsdp=2),
    rollout_mesh=dict(tensor=2),
  ),
  'tensor': dict(
    mesh=dict(data=2, fsdp=1, tensor=2),
    engine=dict(kv_dtype='bfloat16', speculate=1),
  ),
}
# The others are run with -m slow.
DEFAULT = 'one device', 'two meshes'


def configured(folder, changes):
  config = tiny.config(folder)
  config.steps = 1
  config = stages_lib.with_overrides(config, changes)
  checks.validate(config)
  return config


@pytest.mark.parametrize(
  'name',
  [
    name if name in DEFAULT else pytest.param(name, marks=pytest.mark.slow)
    for name in CASES
  ],
)
def test_a_run_calls_what_is_planned(name, folder, tmp_path):
  check_run(name, folder, tmp_path)


@pytest.mark.slow
def test_narrower_microbatches_are_planned(folder, tmp_path, monkeypatch):
  """Rows of 32 tokens may be of 8, 16 or 24; each width is a phase anew."""
  monkeypatch.setattr(attention, 'WHOLE', 8)
  phases, phase = set(), watchdog.phase

  def told(name, of=''):
    phases.add((name, of))
    return phase(name, of)

  monkeypatch.setattr(watchdog, 'phase', told)
  used = check_run('a reference, two updates', folder, tmp_path)
  assert used and used <= {8, 16, 24}
  widths = {of[2] for name, of in phases if name == 'microbatch'}
  assert widths == used


def check_run(name, folder, tmp_path):
  """Compares a run's calls with the planned ones; returns widths of rows."""
  changes = dict(CASES[name])
  machine = mesh_lib.this_machine()
  count = changes.pop('devices', 4)
  machine = machine._replace(devices=machine.devices[:count])
  config = configured(folder, changes)
  recorder = Recorder()
  assert not whole.train(
    recorder.run(build.build(config, machine)), tmp_path / 'run'
  )
  files = serve.read_model_sizes(config.model)
  # Of the tokenizer only the stop tokens are in a program.
  stops = serve.read_model(config.model).stops
  programs = build.build_programs(config, machine, files._replace(stops=stops))
  (stage,) = programs.stages
  planned = {
    name: call.function.lower(*call.arguments).as_text()
    for name, call in calls.abstract_calls(programs, stage).items()
  }
  narrower = {
    width: {
      name: call.function.lower(*call.arguments).as_text()
      for name, call in found.items()
    }
    for width, found in calls.narrower_calls(programs, stage).items()
  }
  if programs.heldout_engine is stage.engine:
    planned = {k: v for k, v in planned.items() if 'heldout' not in k}
  recorder.texts.pop('heldout_empty_pool', '')
  assert recorder.texts.keys() == planned.keys()
  used = set()
  for name, texts in recorder.texts.items():
    others = {n for n, found in narrower.items() if found.get(name) in texts}
    widest = planned[name] in texts
    # Later calls also pass the old reference.
    several = name == 'reset_reference'
    assert len(texts) == widest + len(others) + several, name
    if name == 'add':
      used = others | ({stage.layout.columns} if widest else set())
    else:
      assert widest or others, name
  return used
