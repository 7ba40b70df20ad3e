"""Rollouts on a mesh of their own, beside that of updates."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import test_engine
import test_mesh
import tiny
from runs import metrics_of
from test_serve import ADAPTERS, FULL, SPECS, assert_equal, drawn

from acereason_jax import machines
from acereason_jax import mesh as mesh_lib
from acereason_jax.config import checks
from acereason_jax.config import stages as stages_lib
from acereason_jax.models import base, lora, sharding
from acereason_jax.rollout import serve
from acereason_jax.rollout import tensor as tensor_lib
from acereason_jax.run import build, whole

pytestmark = pytest.mark.usefixtures('compiled_once', 'users_fusions')


# Which devices share a rollout.


def are_together(group):
  """Whether devices fill a box of their chips, or each is next to the last."""
  chips = np.unique([device.coords for device in group], axis=0)
  places = np.array([device.coords for device in group])
  hops = np.abs(np.diff(places, axis=0)).sum(1).max()
  return np.prod(np.ptp(chips, axis=0) + 1) == len(chips) or hops <= 1


MESHES = [
  dict(data=1, fsdp=-1, tensor=1),
  dict(data=2, fsdp=-1, tensor=1),
  dict(data=1, fsdp=-1, tensor=4),
  dict(data=1, fsdp=-1, tensor=1, sequence=2),
]


def divides(sizes, devices):
  """Whether the axes of these sizes divide so many devices."""
  given = [size for size in sizes.values() if size > 0]
  return not len(devices) % math.prod(given)


@pytest.mark.parametrize(
  'name, sizes',
  [
    (name, sizes)
    for name, devices in test_mesh.MACHINES.items()
    for sizes in MESHES
    if divides(sizes, devices)
  ],
  ids=str,
)
def test_devices_that_share_a_rollout_are_neighbours(name, sizes):
  """TPUs of a slice fill a box, or go round a ring; GPUs share a node."""
  devices = test_mesh.MACHINES[name]
  mesh = mesh_lib.make_mesh(**sizes, devices=devices)
  for tensor in (2, 4):
    if mesh.size % tensor or mesh.shape['tensor'] == tensor:
      continue
    own = mesh_lib.rollout_mesh(mesh, tensor)
    assert list(own.devices.flat) == list(mesh.devices.flat)
    assert own.shape['tensor'] == tensor and own.size == mesh.size
    assert mesh_lib.neighbours(mesh, tensor)
    for group in own.devices.reshape(-1, tensor):
      assert len({d.slice_index for d in group}) == 1
      assert are_together(group)


def test_an_equal_tensor_axis_is_the_same_mesh():
  mesh = mesh_lib.make_mesh(data=1, fsdp=2, tensor=2)
  assert mesh_lib.rollout_mesh(mesh, 2) is mesh
  assert mesh_lib.rollout_mesh(mesh, 1).shape['fsdp'] == 4


def test_a_tensor_axis_that_does_not_divide_the_devices():
  mesh = mesh_lib.make_mesh(data=1, fsdp=4, tensor=1)
  with pytest.raises(
    ValueError, match=r'rollout_mesh\.tensor=3: does not divide 4 devices; give'
  ):
    mesh_lib.rollout_mesh(mesh, 3)
  slices = test_mesh.MACHINES['v5p 4x4x8 x 2']
  mesh = mesh_lib.make_mesh(data=2, fsdp=-1, tensor=1, devices=slices)
  with pytest.raises(ValueError, match='from one slice to another'):
    mesh_lib.rollout_mesh(mesh, 256)


# The size that the run chooses.

KIND = machines.Kind('x', 'gpu', chips=8, bandwidth=1e9, sends=1e8 / 0.8)
LOAD = tensor_lib.Load(
  devices=8,
  layers=1,
  embed=100,
  kv_heads=2,
  itemsize=2,
  token=10,
  rollouts=32,
  context=100,
  longest=300,
)


def test_the_seconds_of_a_step_by_hand():
  """8 slots a group of 2: 4e6 bytes of weights, 8 x 100 x 5 of the cache.

  Three sums of 8 x 100 x 2 bytes: half of them sent twice, and two hops.
  """
  seconds = tensor_lib.step_seconds(LOAD, 2, 4e6, 1e9, KIND)
  sums = 3 * 2 * (800 / 1e8 + 1e-6)
  assert seconds == pytest.approx((4e6 + 4000) / 1e9 + sums)
  # A device of four has a kv head that another has too: 5 bytes a token.
  seconds = tensor_lib.step_seconds(LOAD, 4, 2e6, 1e9, KIND)
  sums = 3 * 2 * 3 * (16 * 200 / 4 / 1e8 + 1e-6)
  assert seconds == pytest.approx((2e6 + 8000) / 1e9 + sums)
  # Room for half of the rollouts: twice the steps.
  half = tensor_lib.step_seconds(LOAD, 2, 4e6, 4e6 + 2000, KIND)
  sums = 3 * 2 * (400 / 1e8 + 1e-6)
  assert half == pytest.approx(2 * ((4e6 + 2000) / 1e9 + sums))


def choose(kind=KIND, own=1, whole=8e6, room=1e9, load=LOAD, sizes=(1, 2, 4)):
  weights = lambda n: whole / n
  return tensor_lib.choose(sizes, own, load, weights, room, kind)


def test_the_fastest_size_that_fits_is_chosen():
  """8 ms for 8 MB of weights, against microseconds of sums; then 8 us."""
  assert choose() == 4
  assert choose(whole=8e3) == 1
  # One rollout of 300 tokens has 5 bytes a token on two devices, 10 on one.
  assert choose(whole=8e3, room=8e3 + 3000) == 1
  assert choose(whole=8e3, room=8e3 + 2999) == 2
  # What fits nowhere is told by the engine of the training mesh's size.
  assert choose(whole=8e9, own=2) == 2


@pytest.mark.parametrize('kind', [None, machines.KINDS['cpu']])
def test_without_rates_it_is_that_of_the_training_mesh(kind):
  assert choose(kind, own=1) == 1 and choose(kind, own=4) == 4
  # 1 does not fit, and of 2 and 4 the nearer does.
  assert choose(kind, own=1, whole=8e6, room=5e6) == 2
  assert choose(kind, own=1, whole=8e6, room=3e6) == 4
  assert choose(kind, own=1, whole=8e6, room=1e6) == 1


def test_the_kind_of_a_machine_is_known_by_its_devices():
  for kind in machines.KINDS.values():
    assert machines.kind_of(kind.model) is kind
  assert machines.kind_of('Radeon') is None
  assert mesh_lib.this_machine().kind.name == 'cpu'


# The reshard.


def state_of(parts, mesh, dtype):
  """Weights of a train state on its mesh: float32, and frozen in `dtype`."""
  key = jax.random.key(1)
  frozen = jax.tree.map(
    lambda x: x.astype(dtype), base.init_params(parts.frozen, key)
  )
  trained = drawn(parts, 2)
  placed = lambda specs: sharding.param_shardings(specs, mesh)
  return base.overlaid(
    jax.device_put(frozen, placed(parts.frozen)),
    jax.device_put(trained, placed(parts.trained)),
  )


TRAINED = [
  dict(data=1, fsdp=4, tensor=1),
  dict(data=2, fsdp=2, tensor=1),
  dict(data=1, fsdp=2, tensor=2),
  dict(data=1, fsdp=2, tensor=1, sequence=2),
]


@pytest.mark.parametrize('sizes', TRAINED, ids=str)
@pytest.mark.parametrize('own', [FULL, ADAPTERS], ids=['full', 'adapters'])
@pytest.mark.parametrize('apart', [False, True], ids=['stacked', 'apart'])
def test_resharded_weights_are_those_of_one_device(
  sizes, own, apart, monkeypatch
):
  """Bit for bit, cast and merged, where the engines expect them."""
  monkeypatch.setattr(mesh_lib, 'reads_apart', lambda mesh: apart)
  dtype, parts = jnp.dtype('bfloat16'), lora.split(SPECS, **own)
  trained = mesh_lib.make_mesh(**sizes)
  state = state_of(parts, trained, dtype)
  one = mesh_lib.make_mesh(data=1, fsdp=1, tensor=1, devices=jax.devices()[:1])
  whole_state = jax.tree.map(np.asarray, state)
  want, _ = serve.rollout_params(
    SPECS, parts, one, dtype, trained=one, stacked=not apart
  )
  want = want(whole_state)
  for tensor in (1, 2, 4):
    mesh = mesh_lib.rollout_mesh(trained, tensor)
    made, extra = serve.rollout_params(
      SPECS, parts, mesh, dtype, trained=trained
    )
    got = made(state)
    assert_equal(got, want)
    placed = jax.tree.leaves(serve.placed(SPECS, mesh, apart=apart))
    assert [x.sharding for x in jax.tree.leaves(got)] == placed
    assert extra == mesh_lib.device_bytes(got)
    # The state lives on.
    assert not any(x.is_deleted() for x in jax.tree.leaves(state))


# The engine.


@pytest.mark.parametrize('sizes', [(4, 1, 1), (2, 1, 2)], ids=str)
def test_layers_apart_on_several_devices(sizes, monkeypatch):
  """As on GPUs: the same tokens as of stacked layers, and nearly their logp."""
  mesh, names = test_engine.sub_mesh(sizes, 0), ('a', 'b', 'c')
  engine = test_engine.build(mesh)
  monkeypatch.setattr(mesh_lib, 'reads_apart', lambda mesh: True)
  form = serve.form(test_engine.PLAIN.specs, mesh)
  found = [
    test_engine.flat(
      engine.sample(
        params,
        test_engine.prompts(names),
        groups=2,
        seed=3,
        step=5,
        temperature=test_engine.TEMPERATURE,
      )
    )
    for params in (test_engine.PARAMS, form(test_engine.PARAMS))
  ]
  stacked, apart = found
  for key, rollout in stacked.items():
    assert apart[key].tokens.tolist() == rollout.tokens.tolist()
    np.testing.assert_allclose(apart[key].logp, rollout.logp, atol=1e-5)


# Runs.


def trained(folder, workdir, changes):
  """The metrics of a run of two steps on four devices."""
  config = tiny.config(folder)
  config.steps = 2
  config = stages_lib.with_overrides(config, changes)
  checks.validate(config)
  run = build.build(config)
  assert not whole.train(run, workdir)
  return run, metrics_of(workdir, all_fields=True)


@pytest.mark.parametrize('own', [{}, dict(lora=dict(rank=2))], ids=str)
def test_a_run_on_two_meshes_draws_what_one_on_one_mesh_draws(
  own, folder, tmp_path
):
  """The same tokens, and sampler and trainer agree within rounding."""
  mesh = dict(data=1, fsdp=4, tensor=1)
  found = {}
  for tensor in (1, 2):
    changes = own | dict(mesh=mesh, rollout_mesh=dict(tensor=tensor))
    run, found[tensor] = trained(folder, tmp_path / str(tensor), changes)
    assert run.stages[0].engine.sizes.shards == 4 // tensor
  for one, two in zip(found[1], found[2]):
    for name in ('response_length', 'pass_rate', 'reward', 'decoded_tokens'):
      assert one[name] == two[name]
    assert max(one['mismatch_max'], two['mismatch_max']) < 1e-4
    assert two['loss'] == pytest.approx(one['loss'], abs=1e-5)
    assert two['seconds_reshard'] > 0 and two['reshard_gb'] > 0
    assert two['reshard_gb'] < one['reshard_gb']


BAD = {
  'rollout_mesh.tensor=3: does not divide 4 devices': dict(tensor=3),
  'rollout_mesh.tensor=-1: give 0': dict(tensor=-1),
}


@pytest.mark.parametrize('words', BAD)
def test_a_bad_tensor_axis_is_one_line(words, folder, tmp_path):
  with pytest.raises(ValueError, match=words):
    trained(folder, tmp_path, dict(rollout_mesh=BAD[words]))


def test_heads_that_do_not_divide_are_one_line(folder, tmp_path):
  """Three query heads."""
  tiny.write_model(
    tmp_path / 'model',
    num_attention_heads=3,
    num_key_value_heads=3,
    head_dim=8,
  )
  changes = dict(model=str(tmp_path / 'model'), rollout_mesh=dict(tensor=2))
  with pytest.raises(ValueError, match='tensor=2: the model has 3 query'):
    trained(folder, tmp_path, changes)


def test_slots_that_no_group_divides(folder, tmp_path):
  changes = dict(rollout_mesh=dict(tensor=1), engine=dict(slots=6))
  with pytest.raises(ValueError, match=r'slots=6: not a multiple of 4, the gr'):
    trained(folder, tmp_path, changes)
