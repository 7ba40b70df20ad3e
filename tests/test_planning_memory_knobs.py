"""What fits, and the change with which it does: the shipped configs."""

import pytest
import tiny

from acereason_jax import machines
from acereason_jax.kernels import attention
from acereason_jax.planning import fitting, knobs, search
from acereason_jax.planning.values import Assumed

ASSUMED = Assumed()


def config(name='acereason_7b', whole=False, **fields):
  """A shipped config; unless it is `whole`, its first and last stages."""
  c = tiny.shipped(name).get_config()
  if not whole:
    fields['stages'] = (c.stages[0], c.stages[-1])
  return fitting.with_values(c, {f'config.{k}': v for k, v in fields.items()})


def fit(c, hardware, **how):
  return fitting.fit(c, machines.hardware(hardware), ASSUMED, **how)


def remedy(c, hardware):
  return knobs.remedy(c, machines.hardware(hardware), ASSUMED)


def test_v5e_256_needs_a_tensor_axis():
  """SCALE row 3: whole bfloat16 weights are 15.2 of 16.9 GB.

  Rollouts have their axis as shipped. Updates of long rows want one too: of
  four with jax's splash; tokamax's holds fewer arrays.
  """
  kernel, _ = attention.choose('auto', 'tpu', 'bfloat16')
  tensor = {'splash': 4, 'fused_splash': 2}[kernel]
  c = config(whole=True)
  found = fit(c, 'v5e:16x16')
  assert not any(stage.refused for stage in found)
  full = [[p.name for p in stage.phases if not p.fits] for stage in found]
  assert full[:2] == [[], []] and full[-1] == ['update']
  weights = found[0].phases[1].parts['weights of rollouts']
  assert weights == pytest.approx(2 * 7_615_616_512 / 4, rel=1e-3)
  knob = remedy(c, 'v5e:16x16')
  assert knob.fields == {'config.mesh.tensor': tensor}
  tried = fit(fitting.with_values(c, knob.fields), 'v5e:16x16')
  assert all(stage.fits for stage in tried)
  sizes = dict(data=1, fsdp=256 // tensor, tensor=tensor, sequence=1)
  assert tried[0].work.mesh == sizes
  assert tried[0].work.rollout_mesh['tensor'] == 4


@pytest.mark.parametrize('hardware', ['v6e:16x16', 'v5p:4x4x4', 'h100:8*16'])
def test_the_others_fit_as_shipped(hardware):
  """SCALE rows 4 and 5: what is wrong there is the time, not the memory."""
  found = fit(config(whole=True), hardware)
  assert all(stage.fits for stage in found)
  shards = machines.hardware(hardware).devices // 4
  assert found[0].work.sizes.shards == shards
  # As many rollouts as the batch has: 128 prompts x 8, and x 16.
  for stage, rollouts in ((found[0], 1024), (found[-1], 2048)):
    assert stage.work.sizes.slots == rollouts


@pytest.mark.parametrize('tensor', [2, 4])
def test_v6e_has_a_tensor_axis(tensor):
  """SCALE row 4: jax alone cannot lay it out, and it was not caught."""
  c = config(**{'mesh.tensor': tensor})
  (found,) = fit(c, 'v6e:16x16', only=('math_32k',))
  assert found.fits and found.work.mesh['fsdp'] == 256 // tensor


def test_a_model_too_large_for_its_gpu():
  """16 bytes a parameter of state and gradients are 236 GB."""
  c = config('acereason_14b')
  found = fit(c, 'h100:1')
  update = next(p for p in found[0].phases if p.name == 'update')
  assert update.need > 16 * 14_770_033_664
  knob = remedy(c, 'h100:1')
  larger = knob.fields[knobs.HARDWARE]
  fields = {k: v for k, v in knob.fields.items() if k != knobs.HARDWARE}
  assert machines.hardware(larger).kind.name == 'h100'
  changed = fitting.with_values(c, fields)
  assert all(stage.fits for stage in fit(changed, larger))
  # Half of those do not hold weights, moments and gradients.
  half = machines.hardware(larger).devices // 2
  assert 16 * 14_770_033_664 / half > 0.7 * machines.KINDS['h100'].room


def test_float32_on_eight_small_chips():
  c = config(dtype='float32')
  assert not any(stage.fits for stage in fit(c, 'v5e:2x4'))
  knob = remedy(c, 'v5e:2x4')
  fields = dict(knob.fields)
  larger = fields.pop(knobs.HARDWARE)
  assert machines.hardware(larger).devices > 8
  changed = fitting.with_values(c, fields)
  assert all(stage.fits for stage in fit(changed, larger))


def test_long_rows_need_block():
  """Half of the memory of 'attention' is the attention's output."""
  c = config(dtype='bfloat16', **{'engine.slots': 1024})
  c = fitting.with_values(
    c, {'config.stages': (), 'config.mix': dict(math=1.0)}
  )
  c = fitting.with_values(
    c,
    {
      'config.rollout.max_tokens': 98304,
      'config.microbatch.columns': 99328,
    },
  )
  found = fit(c, 'h100:8')
  assert [p.name for p in found[0].phases if not p.fits] == ['update']
  assert remedy(c, 'h100:8').fields == {'config.remat': 'block'}


def test_slots_become_the_nearest_multiple():
  c = config(**{'engine.slots': 200})
  found = fit(c, 'v5p:4x4x4')
  assert 'config.engine.slots=200' in found[0].refused
  assert found[0].work is None
  assert remedy(c, 'v5p:4x4x4').fields == {'config.engine.slots': 208}


@pytest.mark.parametrize(
  'number, of, found', [(200, 64, 192), (1, 64, 64), (224, 64, 256), (7, 2, 8)]
)
def test_nearest(number, of, found):
  assert knobs.nearest(number, of) == found


def test_more_pages_than_fit():
  c = config(**{'engine.pages': 1 << 20})
  assert 'pages' in fit(c, 'v5p:4x4x4')[0].refused
  assert remedy(c, 'v5p:4x4x4').fields == {'config.engine.pages': 0}


def test_a_mesh_that_does_not_cover_the_devices():
  c = config(**{'mesh.fsdp': 8})
  assert 'does not cover 64 devices' in fit(c, 'v5p:4x4x4')[0].refused
  assert remedy(c, 'v5p:4x4x4').fields == {'config.mesh.fsdp': -1}


@pytest.mark.parametrize('axis', ['tensor', 'sequence'])
def test_an_axis_that_the_heads_do_not_allow(axis):
  """28 heads do not divide by 8; 4 is the nearest that they and 64 allow."""
  c = config(**{f'mesh.{axis}': 8})
  c = fitting.with_values(c, {'config.stages': c.stages[:1]})
  assert fit(c, 'v5p:4x4x4')[0].refused
  assert remedy(c, 'v5p:4x4x4').fields == {f'config.mesh.{axis}': 4}


def test_tensor_sizes_divide_heads_and_devices():
  """28 query and 4 kv heads: 7 and 14 neither divide 4 nor are multiples."""
  assert knobs.tensor_sizes(28, 4, 256) == [1, 2, 4]
  assert knobs.tensor_sizes(28, 4, 56) == [1, 2, 4, 28]
  assert knobs.tensor_sizes(40, 8, 8) == [1, 2, 4, 8]


def test_rollouts_on_a_mesh_of_their_own():
  """SCALE section 2, v5p-128 t4: a fourth of the weights, 16 shards."""
  whole, own = (
    fit(config(**{'rollout_mesh.tensor': n}), 'v5p:4x4x4', only=('math_32k',))
    for n in (1, 0)
  )
  (whole,), (own,) = whole, own
  assert own.work.mesh == whole.work.mesh == whole.work.rollout_mesh
  assert own.work.rollout_mesh == dict(data=1, fsdp=16, tensor=4, sequence=1)
  assert own.work.sizes.shards == 16 and whole.work.sizes.shards == 64
  name = 'weights of rollouts'
  four = whole.phases[1].parts[name] / own.phases[1].parts[name]
  # Norms are on every device.
  assert four == pytest.approx(4, rel=1e-3)
  # The update does not change.
  assert own.phases[2].parts == whole.phases[2].parts


def test_a_tensor_axis_that_does_not_fit_is_left_to_the_run():
  c = config(**{'rollout_mesh.tensor': 1})
  c = fitting.with_values(c, {'config.stages': c.stages[:1]})
  assert 'no shorter one fits' in fit(c, 'v5e:16x16')[0].refused
  assert remedy(c, 'v5e:16x16').fields == {'config.rollout_mesh.tensor': 0}


def test_search_proposes_slots_and_tensor_for_v5p():
  """256 slots are 4 a chip, for batches of 1,024 and more."""
  c = config(**{'engine.slots': 256, 'rollout_mesh.tensor': 1})
  found = search.search(c, machines.hardware('v5p:4x4x4'), ASSUMED)
  hours = [f.hours for f in found]
  assert hours == sorted(hours)
  asis, best = next(f for f in found if not f.knob.fields), found[0]
  assert best.knob.fields['config.engine.slots'] == 0
  assert [p.work.sizes.slots for p in best.planned] == [1024, 2048]
  assert best.knob.fields['config.rollout_mesh.tensor'] == 4
  assert best.hours < asis.hours / 2
  assert all(p.fits for f in found for p in f.planned)
  # Each proposal is a plan of exactly the fields that it names.
  changed = fitting.with_values(c, best.knob.fields)
  again = fit(changed, 'v5p:4x4x4')
  assert [p.work for p in best.planned] == [stage.work for stage in again]


def test_pages_leave_room_for_frozen_weights():
  """A run that filled its memory with pages had none left for them."""
  c = config(**{'lora.rank': 16, 'engine.slots': 512})
  (found,) = fit(c, 'h100:1', only=('math_8k',))
  sample = next(p for p in found.phases if p.name == 'sample')
  frozen = 2 * 7_615_616_512
  assert sample.parts['frozen weights'] == pytest.approx(frozen)
  # As many pages as fit, for 512 slots on one GPU, and no more.
  assert 0.85 * sample.room < sample.need < sample.room


def test_fewer_slots_where_their_chunks_do_not_fit():
  """Of 4,096 slots 28 layers x 2 heads x 2 x 128 x 128 numbers are 15 GB."""
  c = config(model='qwen2-1.5b', **{'engine.slots': 4096})
  c = fitting.with_values(c, {'config.stages': c.stages[:1]})
  (found,) = fit(c, 'h100:1')
  chunk = found.phases[1].parts['tokens of a chunk']
  # Twice: layers that are apart are stacked at the end of a chunk.
  assert chunk == 2 * 4096 * 28 * 2 * 2 * 128 * 128 * 2
  # Pages leave room for one of them.
  full = [p.name for p in found.phases if not p.fits]
  assert full == ['sample', 'heldout']
  assert remedy(c, 'h100:1').fields == {'config.engine.slots': 0}
  # A slip of the pen is no reason for larger machines.
  many = fitting.with_values(c, {'config.engine.slots': 4096 << 8})
  assert remedy(many, 'h100:1').fields == {'config.engine.slots': 0}
