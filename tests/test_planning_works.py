"""The work of stages, their state and hosts, against hand counts."""

import numpy as np
import pytest
import tiny

from acereason_jax import machines
from acereason_jax.config import stages as stages_lib
from acereason_jax.curriculum import filtering, ledger
from acereason_jax.models import families
from acereason_jax.planning import fitting, probes, questions, reckon, works
from acereason_jax.planning.values import Assumed
from acereason_jax.rollout import serve

ASSUMED = Assumed()
# Qwen2-7B: Hugging Face's own count.
PARAMS = 7_615_616_512


@pytest.fixture(scope='module')
def fits():
  c = tiny.shipped('acereason_7b').get_config()
  found = fitting.fit(c, machines.hardware('v5p:4x4x4'), ASSUMED)
  return {fit.name: fit for fit in found}


def test_sizes_of_the_model(fits):
  shape = fits['math_8k'].work.shape
  assert shape.params == shape.trained == PARAMS
  # Without the input embedding.
  assert shape.products == PARAMS - 152064 * 3584


def test_sizes_of_experts():
  files = serve.read_model_sizes('qwen3-30b-a3b')
  specs = files.network.specs
  shape = families.shape_of(files.network, specs, 'moe')
  assert shape.params == 30_532_122_624
  assert (shape.experts, shape.picked) == (128, 8)
  assert shape.expert == 3 * 2048 * 768
  # 120 of 128 experts of 48 layers and the embedding are not read.
  unread = 48 * 120 * 3 * 2048 * 768 + 151936 * 2048
  assert shape.products == shape.params - unread


def test_state_of_a_device(fits):
  work = fits['math_8k'].work
  # Norms, 28 layers' two and the last, are on each device; all else is spread.
  assert work.state_bytes == pytest.approx(12 * PARAMS / 64, rel=5e-3)
  assert work.train_sums == pytest.approx(4 * PARAMS / 64, rel=5e-3)
  assert work.checkpoint_bytes == pytest.approx(12 * PARAMS, rel=1e-6)


def test_batches_and_looks(fits):
  work = fits['math_24k'].work
  assert (work.prompts, work.groups, work.steps) == (128, 16, 500)
  # Every prompt was asked at 16K: 2.6 epochs.
  assert (work.asked, work.tries) == (0, 0.0)
  assert {(k.domain, k.questions, k.tries, k.every) for k in work.looks} == {
    ('math', 30, 32, 100),
    # Code is asked at the end of a stage of math.
    ('code', 279, 4, 0),
  }
  assert all(k.before for k in work.looks)
  every = {k.domain: k.every for k in fits['math_8k'].work.looks}
  assert every == dict(math=500, code=0)
  every = {k.domain: k.every for k in fits['code_24k'].work.looks}
  assert every == dict(math=0, code=100)
  # Held-out answers of the other domain are judged too.
  for name, shares in (('code_24k', (0, 1)), ('math_24k', (1, 0))):
    judges = {j.domain: j for j in fits[name].work.judges}
    assert (judges['math'].share, judges['code'].share) == shares
    assert judges['code'].seconds == ASSUMED.code_seconds
    assert judges['math'].seconds == ASSUMED.math_seconds
  assert fits['math_8k'].work.asked == 0


def test_what_a_probe_asks():
  c = tiny.shipped('acereason_7b').get_config()
  every = stages_lib.every_stage(c)
  hard = filtering.Filter(of=16, max_solved=6, source='ledger', tries=16)
  share = lambda filter, *before: probes.unknown_share(
    filter, 'math', before, 49585
  )
  steps = lambda name, steps: stages_lib.with_overrides(
    every[name], dict(steps=steps)
  )
  assert share(hard._replace(source='probe'), every['math_16k']) == 1.0
  assert share(hard) == share(hard, every['code_24k']) == 1.0
  assert share(hard, every['math_16k']) == 0.0
  # 128 steps of 128 prompts are a third of an epoch.
  third = 128 * 128 / 49585
  assert share(hard, steps('math_16k', 128)) == pytest.approx(1 - third)
  # 8 rollouts are half of what is wanted.
  assert share(hard, steps('math_8k', 128)) == 1.0
  both = steps('math_8k', 128), steps('math_16k', 128)
  assert share(hard, *both) == pytest.approx(1 - third)
  twice = share(hard, steps('math_8k', 128), steps('math_8k', 128))
  assert twice == pytest.approx(1 - third**2)
  assert share(hard._replace(tries=8), *both) == pytest.approx((1 - third) ** 2)
  # It asked what it did not know.
  assert share(hard, every['math_24k']) == 0.0
  hardest = dict(filter=dict(max_difficulty=4.0))
  some = stages_lib.with_overrides(every['math_16k'], hardest)
  assert share(hard, some) == 1.0


@pytest.mark.parametrize(
  'filter, mean',
  [
    # One rollout: it is right or not.
    (dict(of=1, max_solved=0), 1),
    # Right, right with 1/3: 2 of 2 are needed.
    (dict(of=2, max_solved=1, min_judged=0.0), 1.5),
    # Wrong once decides: 1/2, then 2/3 are right, then 3/4.
    (dict(of=4, max_solved=3), 1 + 1 / 2 + 1 / 3 + 1 / 4),
  ],
)
def test_rollouts_until_it_is_decided(filter, mean):
  found = probes.mean_tries(filtering.Filter(**filter))
  assert found == pytest.approx(mean)


def test_rollouts_until_it_is_decided_are_as_drawn():
  """Of every rate as many prompts, drawn."""
  hard = filtering.Filter(of=16, max_solved=6)
  random = np.random.default_rng(0)
  draws = random.random((4000, 16)) < random.random((4000, 1))
  counts = [
    len(
      filtering.deciding(
        hard, [ledger.Result('right', 1, False, bool(x)) for x in row]
      )
    )
    for row in draws
  ]
  error = np.std(counts) / len(counts) ** 0.5
  assert abs(np.mean(counts) - probes.mean_tries(hard)) < 4 * error


def test_all_are_asked_before_the_first_stage_of_all(fits):
  assert [name for name in fits if fits[name].work.first] == ['math_8k']
  (alone,) = fitting.fit(
    tiny.shipped('acereason_7b').get_config(),
    machines.hardware('v5p:4x4x4'),
    ASSUMED,
    only=('math_16k',),
  )
  assert not alone.work.first


CLIPPED = dict(
  fn='acereason_jax.rl.losses:clipped', clip_low=0.2, clip_high=0.2
)
KL = dict(fn='acereason_jax.rl.losses:with_kl', weight=0.1)
CORRECTED = dict(fn='acereason_jax.rl.losses:truncated_importance', limit=2.0)
CORRECTED = CORRECTED | dict(loss=CLIPPED)


@pytest.mark.parametrize(
  'loss, updates, scored',
  [
    (CLIPPED, 2, 0),
    (CORRECTED, 1, 0),
    (CORRECTED, 2, 1),
    (KL | dict(loss=CLIPPED), 1, 1),
    (KL | dict(loss=CORRECTED), 2, 2),
  ],
)
def test_passes_that_score_a_batch(loss, updates, scored):
  """A reference, and the policy before the first of several updates."""
  c = stages_lib.with_overrides(
    tiny.shipped('acereason_7b').get_config(),
    dict(objective=dict(loss=loss), optim=dict(updates=updates)),
  )
  (fit,) = fitting.fit(
    c, machines.hardware('v5p:4x4x4'), ASSUMED, only=('math_8k',)
  )
  assert fit.work.scored == scored


def test_groups_by_epoch(fits):
  """500 steps of 128 of 8,520 rows: 67 steps of 8, 66 of 12, the rest 16."""
  epochs = [int(step / (8520 / 128)) for step in range(500)]
  by_hand = sum((8, 12, 16)[min(epoch, 2)] for epoch in epochs) / 500
  assert fits['code_32k'].work.groups == pytest.approx(by_hand)
  assert 14 < by_hand < 15


def test_journal_and_host(fits):
  fit = fits['math_32k']
  # docs/measured.md: 2,048 x 13K tokens x 16 bytes a step.
  assert fit.journal_bytes == pytest.approx(2048 * 13000 * 16, rel=0.01)
  # A sixteenth of the state is on a host of four of 64 chips.
  assert fit.host['checkpoint being written'] == pytest.approx(
    12 * PARAMS / 16, rel=5e-3
  )
  assert 'moments' not in fit.host


def test_offloaded_moments_move_to_the_host():
  c = tiny.shipped('acereason_7b').get_config()
  c = fitting.with_values(c, {'config.optim.offload': True})
  (fit,) = fitting.fit(
    c, machines.hardware('h100:8'), ASSUMED, only=('math_8k',)
  )
  assert fit.host['moments'] == pytest.approx(8 * PARAMS, rel=1e-3)
  phases = {p.name: p.parts for p in fit.phases}
  assert phases['update']['optimizer'] < 1e3
  assert phases['apply']['moments from the host'] == pytest.approx(
    8 * PARAMS / 8, rel=1e-3
  )


def test_sources_are_counted_or_known(tmp_path):
  rows = tiny.write_questions(tmp_path / 'rows.jsonl', 7)
  count = lambda given=(), **source: questions.count(source, dict(given)).number
  jsonl = 'acereason_jax.data.sources:jsonl'
  assert count(fn=jsonl, path=str(rows)) == 7
  assert count({str(rows): 5}, fn=jsonl, path=str(rows)) == 5
  assert count(fn=jsonl, path='somewhere/code.jsonl') == 8520
  sums = dict(fn='acereason_jax.data.sources:arithmetic', count=300)
  assert count(**sums) == 300
  both = [sums, dict(fn=jsonl, path=str(rows))]
  assert count(fn='acereason_jax.data.sources:joined', sources=both) == 307
  unknown = questions.count(dict(fn=jsonl, path='nowhere.jsonl'), {})
  assert unknown.number == questions.UNKNOWN and 'assumed' in unknown.how


def test_the_number_of_a_path_that_no_source_has_is_refused():
  c = tiny.shipped('acereason_7b').get_config()
  given = ASSUMED._replace(questions={'code.jsonl': 9})
  assert works.counted(c, given)['code', 'train_data'].number == 9
  with pytest.raises(
    ValueError, match=r"--questions: .*'cod.jsonl'.*code.jsonl"
  ):
    works.counted(c, ASSUMED._replace(questions={'cod.jsonl': 9}))


@pytest.mark.parametrize('tensor', [1, 4])
def test_reckoned_sizes_are_those_of_the_programs(tensor):
  """`reckon` knows no shardings, and comes out within 2%."""
  hardware = machines.hardware('v5p:4x4x4')
  c = tiny.shipped('acereason_7b').get_config()
  fields = 'config.mesh.tensor', 'config.rollout_mesh.tensor'
  c = fitting.with_values(c, dict(zip(fields, (tensor, 4 // tensor))))
  (fit,) = fitting.fit(c, hardware, ASSUMED, only=('math_32k',))
  need = {p.name: p for p in fit.phases}
  own = stages_lib.stages(c)['math_32k']
  network = serve.read_model_sizes(c.model).network
  model = reckon.model_of(network, c)
  meshes = fit.work.mesh, fit.work.rollout_mesh
  assert [m['tensor'] for m in meshes] == [tensor, 4 // tensor]
  stage = reckon.stage_of(c, own, meshes[0], '', False, 4 // tensor)
  weights = reckon.weights_bytes(model, stage)
  assert weights == pytest.approx(
    need['sample'].parts['weights of rollouts'], rel=0.02
  )
  assert reckon.state_bytes(model, stage) == pytest.approx(
    fit.work.state_bytes, rel=0.02
  )
  pages = need['sample'].parts['pages'] / fit.work.sizes.pages / 128
  assert reckon.token_bytes(model, stage) == pytest.approx(pages, rel=1e-6)
  # The kernel's own arrays apart, which depend on the Python that plans.
  update = sum(need['update'].parts.values())
  kernels = reckon.stage_of(c, own, fit.work.mesh, 'splash', False)
  bounds = [reckon.update_bytes(model, s) for s in (stage, kernels)]
  assert 0.98 * bounds[0] < update < 1.02 * bounds[1]


def test_the_quick_start_takes_what_was_measured():
  """docs/measured.md: steps 4.4 GB, and 6.4 GB while a checkpoint is saved."""
  c = tiny.shipped('quickstart').get_config()
  (fit,) = fitting.fit(c, machines.hardware('cpu:1'), ASSUMED)
  whole = sum(fit.host.values())
  assert whole == pytest.approx(6.4e9, rel=0.15)
  steps = whole - fit.host['checkpoint being written']
  assert steps == pytest.approx(4.4e9, rel=0.15)
