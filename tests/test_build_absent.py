"""Programs of machines that are not here: no data, tokenizer or weights."""

import re

import jax
import numpy as np
import pytest
import test_mesh
import tiny

from acereason_jax import machines, stand_ins
from acereason_jax import mesh as mesh_lib
from acereason_jax.config import checks
from acereason_jax.config import stages as stages_lib
from acereason_jax.rollout import serve
from acereason_jax.run import build, calls


def programs(hardware, changes=None, model='', memory=0, name='acereason_7b'):
  """The programs of a shipped config with 1,024 slots; `memory` if not 0."""
  config = tiny.shipped(name).get_config()
  config = stages_lib.with_overrides(
    config, dict(engine=dict(slots=1024)) | (changes or {})
  )
  checks.validate(config)
  machine = mesh_lib.absent(machines.hardware(hardware))
  if memory:
    machine = machine._replace(memory=memory)
  files = serve.read_model_sizes(model or config.model)
  return build.build_programs(config, machine, files)


@pytest.mark.parametrize(
  ('hardware', 'theirs'),
  [
    ('v5e:16x16', 'v5e 16x16'),
    ('v5e:2x4', 'v5e 2x4'),
    ('v5p:4x4x4', 'v5p 4x4x4'),
    ('v5p:4x4x8*2', 'v5p 4x4x8 x 2'),
    ('v6e:8x8', 'v6e 8x8'),
    ('tpu7x:4x4x4', 'v7x 4x4x4'),
    ('h100:8*16', 'h100 16x8'),
  ],
)
def test_devices_of_a_name(hardware, theirs):
  """As the tests of meshes have them, which know no table of machines."""
  fields = (
    *('id', 'platform', 'device_kind', 'process_index', 'slice_index'),
    *('coords', 'core_on_chip'),
  )
  of = lambda devices: [[getattr(d, f) for f in fields] for d in devices]
  got = stand_ins.devices(machines.hardware(hardware))
  assert of(got) == of(test_mesh.MACHINES[theirs])


@pytest.mark.parametrize(
  'hardware',
  [
    *('v5p:4x4x4', 'v5e:16x16', 'v6e:16x16', 'tpu7x:4x4x4', 'v5p:4x4x8*2'),
    *('h100:8', 'h100:8*16'),
  ],
)
@pytest.mark.parametrize('tensor', [1, 2, 4])
def test_one_stage_on_every_machine(hardware, tensor):
  """With moments in the hosts' memory, which stand-ins must have too."""
  changes = dict(
    mesh=dict(tensor=tensor),
    optim=dict(offload=True),
    start=dict(stages=('math_8k',), run='somewhere'),
  )
  p = programs(hardware, changes, memory=10**12)
  (stage,) = p.stages
  count = machines.hardware(hardware).devices
  assert p.network.mesh.size == count
  # All of these kinds are fastest where four devices share a rollout.
  assert p.rollouts.mesh.shape['tensor'] == 4
  assert stage.engine.sizes.shards * 4 == count
  # Norms are whole on every device, biases along fsdp: two moments of each, 4
  # bytes a number, and the count of steps.
  norms, biases = 28 * 2 * 3584 + 3584, 28 * (3584 + 2 * 512)
  copies = (count - 1) * norms + (count // tensor - 1) * biases
  moments = mesh_bytes(stage.abstract_state.opt_state)
  assert moments * count == 8 * (7_615_616_512 + copies) + 4 * count
  assert mesh_lib.device_bytes(stage.abstract_state.opt_state) < 100


def mesh_bytes(tree):
  """Bytes of a device and of its part of the host."""
  return sum(
    np.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize
    for x in jax.tree.leaves(tree)
  )


def test_every_stage_of_the_recipe():
  p = programs('v5p:4x4x4')
  assert len(p.stages) == 6
  for stage in p.stages:
    found = calls.abstract_calls(p, stage)
    assert {'init', 'rollout_params', 'decode', 'add'} <= found.keys()
    batch = found['add'].arguments[2]
    assert batch.tokens_BT.shape == (64, stage.layout.columns)


@pytest.mark.parametrize('changes', [{}, dict(lora=dict(rank=16))])
def test_all_that_a_stage_holds_while_it_samples_fits(changes):
  """Weights of rollouts, state, pages, and the tokens of a chunk.

  Frozen weights are in the state.
  """
  memory = 60 * 10**9
  changes = changes | dict(
    start=dict(stages=('math_8k',), run='somewhere'),
    rollout_mesh=dict(tensor=1),
  )
  p = programs('v5p:2x2x1', changes, memory=memory)
  (stage,) = p.stages
  held = (
    mesh_lib.device_bytes(calls.abstract_state(p, stage))
    + serve.param_bytes(p.network.model.specs, p.rollouts.mesh, p.dtype)
    + mesh_lib.device_bytes(stage.engine.pool)
  )
  # Layers, slots of a shard, kv heads, key and value, steps, numbers, bytes.
  held += 28 * 256 * 4 * 2 * 128 * 128 * 2
  # As many pages as fit, and no slots have more use for them.
  page = mesh_lib.device_bytes(stage.engine.pool) / stage.engine.sizes.pages
  assert 0.9 * memory - 2 * page < held <= 0.9 * memory


AUTO = dict(engine=dict(slots=0))
# The first stage, all of whose devices have rollouts of their own.
ALONE = AUTO | dict(
  start=dict(stages=('math_8k',), run='somewhere'),
  rollout_mesh=dict(tensor=1),
)


def test_slots_are_those_of_each_stages_batch():
  """128 prompts of 8 or 16, or of 8 to 16 over the epochs."""
  p = programs('v5p:4x4x4', AUTO)
  found = [stage.engine.sizes.slots for stage in p.stages]
  assert found == [1024, 2048, 2048, 1024, 2048, 2048]
  assert p.heldout_engine.sizes.slots == p.most_rollouts == 2048
  # The same held-out slots if a stage is run by itself.
  assert programs('v5p:4x4x4', ALONE).heldout_engine.sizes.slots == 2048


def test_slots_of_a_batch_that_shards_do_not_divide():
  changes = ALONE | dict(rollout=dict(prompts=5, per_prompt=13))
  (stage,) = programs('v5p:4x4x4', changes).stages
  # 65 rollouts on 64 shards.
  assert stage.most_rollouts == 65
  assert stage.engine.sizes.slots == 128


@pytest.mark.parametrize(
  'prompts, each', [(1, 4), (32 * 4, 4), (32 * 7, 8), (1 << 16, 256)]
)
def test_slots_of_drafts_are_whole_groups_for_all(prompts, each):
  engine = dict(slots=0, speculate=3)
  changes = ALONE | dict(engine=engine, rollout=dict(prompts=prompts))
  changes['rollout']['per_prompt'] = 2
  (stage,) = programs('v5p:4x4x4', changes, memory=10**13).stages
  assert stage.engine.sizes.slots == 64 * each


@pytest.mark.parametrize('tensor', [1, 2])
def test_slots_are_as_many_as_memory_holds_at_half_of_their_pages(tensor):
  memory = 60 * 10**9
  changes = ALONE | dict(rollout_mesh=dict(tensor=tensor))
  p = programs('v5p:2x2x1', changes, memory=memory)
  (stage,) = p.stages
  sizes = stage.engine.sizes
  state = mesh_lib.device_bytes(calls.abstract_state(p, stage))
  weights = serve.param_bytes(p.network.model.specs, p.rollouts.mesh, p.dtype)
  # Layers, kv heads, key and value, tokens of a page or chunk, numbers, bytes.
  page = 28 * 4 // tensor * 2 * 128 * 128 * 2
  # A page for every 128 of 1,024 and 8,192 tokens, less the prompt's last.
  slot = 72 / 2 * page + page + 7 * 4 * 152064 // tensor
  each = sizes.slots // sizes.shards
  left = 0.9 * memory - state - weights
  assert each * slot <= left < (each + 1) * slot
  assert each > 1 and sizes.slots < stage.most_rollouts
  # Pages take what is left; a slot has at least half of the longest rollout.
  assert sizes.pages >= each * 72 / 2


def test_a_shard_has_at_most_256_slots():
  """As many as 8 GPUs hold of a batch of 2,048 x 8."""
  changes = ALONE | dict(rollout=dict(prompts=2048))
  p = programs('h100:8', changes, memory=10**13)
  (stage,) = p.stages
  assert stage.engine.sizes.slots == 8 * 256


def test_too_little_memory_names_what_helps():
  """Rollouts' weights, 15.2 GB, are whole without tensor parallelism."""
  with pytest.raises(ValueError, match='no shorter one fits') as e:
    programs('v5e:16x16', dict(rollout_mesh=dict(tensor=1)))
  found = re.search(
    r'axis of more than 1, such as (\d+) or (\d+):', str(e.value)
  )
  for tensor in map(int, found.groups()):
    programs('v5e:16x16', dict(rollout_mesh=dict(tensor=tensor)))


def test_rollouts_may_be_split_where_heads_do_not_divide_by_both():
  """28 query and 4 kv heads: 4 splits them, sequence=2 times 4 does not."""
  p = programs('v5e:16x16', dict(mesh=dict(sequence=2)))
  assert dict(p.rollouts.mesh.shape) == dict(
    data=1, fsdp=64, tensor=4, sequence=1
  )


def test_no_tensor_axis_helps_where_heads_do_not_divide():
  """9 query heads on 8 devices."""
  with pytest.raises(
    ValueError, match='no tensor axis larger than 1 divides 8'
  ):
    programs('h100:8', memory=10**8, name='quickstart', model='smollm2-135m')


def test_the_same_error_lines_as_of_a_real_machine():
  with pytest.raises(ValueError, match='tensor x sequence=8: the model has 28'):
    programs('v6e:16x16', dict(mesh=dict(tensor=8)))
  with pytest.raises(ValueError, match="attention='triton' is for gpu"):
    programs('v6e:16x16', dict(attention='triton'))
