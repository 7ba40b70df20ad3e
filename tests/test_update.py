"""One gradient however the batch is cut, and one step from it."""

import dataclasses
import functools
import math
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import oracles
import pytest
import tiny

from acereason_jax import mesh as mesh_lib
from acereason_jax import partition, types
from acereason_jax.kernels import attention, logprobs
from acereason_jax.models import decoder, sharding
from acereason_jax.planning import hlo, sends
from acereason_jax.rl import gradients, losses, optim, packing, update
from acereason_jax.rl import rows as rows_lib

CONFIG = oracles.tiny_config()
MODEL = decoder.make_model(CONFIG)
PARAMS = oracles.rough_params(MODEL.specs)
TEMPERATURE = 0.8
KNOBS = gradients.make_knobs(TEMPERATURE)
ON_POLICY = losses.on_policy()
CLIPPED = losses.clipped(0.2, 0.28)
# Relative to the largest entry of each leaf; measured: 2.5e-6 in k_norm, whose
# terms cancel, and 1.1e-6 of the norm of the whole gradient.
TOLERANCE = 4e-6


def trained_groups():
  """Three groups of 3, 2 and 4 rollouts; prompts of 6, 1 and 4 tokens."""
  rng = np.random.default_rng(2)
  draw = lambda n: rng.integers(0, CONFIG.vocab, n).astype(np.int32)
  groups = []
  for name, size, count in (('a', 6, 3), ('b', 1, 2), ('c', 4, 4)):
    prompt = types.Prompt(name, '', '', draw(size))
    group = []
    for index in range(count):
      tokens = draw(rng.integers(1, 11))
      # About log(1/96): the ratios of the clipped loss fall on both sides.
      logp = rng.normal(-4.5, 0.3, len(tokens)).astype(np.float32)
      rollout = types.Rollout(name, index, tokens, logp, logp, 'stop', '')
      adv, weight = rng.normal(), rng.uniform(0.01, 0.1)
      group.append(rows_lib.Trained(prompt, rollout, adv, weight))
    groups.append(group)
  return groups


GROUPS = trained_groups()
LONGEST = max(
  len(t.prompt.tokens) - 1 + len(t.rollout.tokens) for g in GROUPS for t in g
)

# Relative to the terms that add up to the loss, which partly cancel.
SIZE = sum(
  abs(t.adv) * t.weight * len(t.rollout.tokens)
  for group in GROUPS
  for t in group
)


@functools.cache
def updater(sizes=None, remat=None, loss=ON_POLICY, **options):
  """make_update on one device or on a mesh of (data, fsdp, tensor)."""
  kwargs = {} if remat is None else dict(remat=remat)
  placed = None
  if sizes:
    mesh = make_mesh(sizes)
    kwargs |= partition.pins(mesh)
    kwargs['attend'] = partition.split_attention(
      mesh, attention.packed_attention
    )
    placed = sharding.param_shardings(MODEL.specs, mesh)
  return update.make_update(
    decoder.make_model(CONFIG, **kwargs),
    loss,
    optax.sgd(1e-3),
    param_shardings=placed,
    **dict(vocab_chunk=40, dtype=jnp.float32) | options,
  )


def forward(dtype=jnp.float32, model=MODEL):
  return functools.partial(
    gradients.token_logp, model=model, vocab_chunk=40, dtype=dtype
  )


def make_mesh(sizes):
  return mesh_lib.make_mesh(**dict(zip(mesh_lib.AXES, sizes)))


def pack(groups, rows, columns, **kwargs):
  packed = packing.pack(
    groups, rows=rows, columns=columns, pad_token=0, **kwargs
  )
  return [batch for batch, _ in packed]


def total(batches):
  """The sums of these microbatches, as numpy."""
  sums = updater().zeros(PARAMS)
  for batch in batches:
    sums, _ = updater().add(PARAMS, sums, batch, KNOBS)
  return jax.device_get(sums)


def assert_same(got, want, tolerance=TOLERANCE):
  errors = jax.tree.map(oracles.relative_error, got, want)
  worst = max(jax.tree.leaves(errors))
  assert worst < tolerance, errors


def assert_bitwise(got, want):
  jax.tree.map(np.testing.assert_array_equal, got, want)


def alone(rows=4):
  """One rollout a row, so that nothing is shared and nothing is packed."""
  every = [pack([[t]], 1, 24)[0] for group in GROUPS for t in group]
  empty = jax.tree.map(np.zeros_like, every[0])
  every += [empty] * (-len(every) % rows)
  return [
    packing.PackedBatch(*map(np.concatenate, zip(*every[i : i + rows])))
    for i in range(0, len(every), rows)
  ]


@functools.cache
def reference():
  return total(alone())


def test_rows_share_prompts_in_one_layout_and_not_in_the_other():
  assert len(alone()) == 3
  assert [len(set(r) - {0}) for b in alone() for r in b.segment_BT] == (
    [2, 2, 2, 1, 1, 2, 2, 2, 2, 0, 0, 0]
  )
  (packed,) = pack(GROUPS, 4, 23)
  assert max(packed.segment_BT[0]) > 2


def test_any_packing_gives_one_gradient():
  (batch,) = pack(GROUPS, 4, 23)
  single = [
    jax.tree.map(lambda x, i=i: x * (np.arange(4) == i)[:, None], batch)
    for i in range(4)
  ]
  few = pack(GROUPS, 1, 40)
  assert len(few) > 1
  want = reference()
  for batches in ([batch], single, few):
    got = total(batches)
    assert_same(got.grads, want.grads)
    assert got.loss == pytest.approx(want.loss, abs=1e-6 * SIZE)
    assert got.tokens == want.tokens
    assert got.entropy == pytest.approx(want.entropy, rel=1e-6)
    assert got.mismatch == pytest.approx(want.mismatch, rel=1e-6)
    assert got.mismatch_max == pytest.approx(want.mismatch_max, rel=1e-6)


@pytest.mark.parametrize('share', [True, False])
@pytest.mark.parametrize('rows, columns', [(1, 19), (3, 31), (8, 120)])
def test_shared_prompts_and_whole_ones_give_one_gradient(share, rows, columns):
  want = reference()
  batches = pack(GROUPS, rows, columns, share_prompts=share, even_tokens=9.0)
  for batch in batches:
    assert share or not batch.prefix_BT.any()
  got = total(batches)
  assert_same(got.grads, want.grads)
  assert got.loss == pytest.approx(want.loss, abs=1e-6 * SIZE)
  assert got.tokens == want.tokens
  assert got.mismatch == pytest.approx(want.mismatch, rel=1e-6)


@pytest.mark.parametrize('share', [True, False])
def test_microbatches_of_two_widths_give_the_gradient_of_one(share):
  """Sums of gradients are those of one row for each rollout."""
  batches = pack(GROUPS, 3, 24, multiple=4, share_prompts=share)
  assert [batch.tokens_BT.shape for batch in batches] == [(3, 24), (3, 12)]
  got, want = total(batches), reference()
  assert_same(got.grads, want.grads)
  assert got.loss == pytest.approx(want.loss, abs=1e-6 * SIZE)
  assert got.tokens == want.tokens
  assert got.entropy == pytest.approx(want.entropy, rel=1e-6)
  assert got.mismatch == pytest.approx(want.mismatch, rel=1e-6)
  # One program of `add` for each width.
  compiled = updater().add._cache_size()
  assert_bitwise(total(batches), got)
  assert updater().add._cache_size() == compiled


# Recomputation and kept activations may not change a gradient either.
@pytest.mark.parametrize(
  'sizes, remat',
  [
    ((4, 1, 1), 'attention'),
    ((2, 2, 1), 'attention'),
    ((1, 2, 2), 'block'),
    ((1, 1, 2, 2), 'block'),
    ((1, 1, 1, 4), 'attention'),
    ((2, 1, 1, 2), 'dots'),
  ],
)
def test_any_mesh_gives_one_gradient(sizes, remat):
  check_mesh(sizes, remat, rows=4)


@pytest.mark.slow
def test_meshes_of_eight_devices_give_one_gradient(tmp_path):
  done = subprocess.run(
    [sys.executable, str(pathlib.Path(__file__).parent / 'mesh_update.py')],
    env=tiny.environment(tmp_path, devices=8),
    capture_output=True,
    text=True,
    timeout=600,
  )
  assert done.returncode == 0, done.stderr


def test_no_device_holds_the_embeddings_of_all_rows(tmp_path):
  done = subprocess.run(
    [sys.executable, str(pathlib.Path(__file__).parent / 'mesh_embedding.py')],
    env=tiny.environment(tmp_path, devices=8),
    capture_output=True,
    text=True,
    timeout=300,
  )
  assert done.returncode == 0, done.stderr


def check_mesh(sizes, remat, rows):
  """Asserts that this mesh gives what one device does.

  Of the last microbatch all rows but one are padding, so groups of 'data' have
  nothing else.
  """
  mesh = make_mesh(sizes)
  placed = sharding.param_shardings(MODEL.specs, mesh)
  params = jax.tree.map(jax.device_put, PARAMS, placed)
  spread = functools.partial(mesh_lib.spread, sharding=mesh_lib.packed(mesh))
  made = updater(sizes, remat)
  sums = made.zeros(params)
  for batch in alone(rows):
    batch = packing.PackedBatch(*map(spread, batch))
    sums, _ = made.add(params, sums, batch, KNOBS)
    # A gradient that is whole on each device does not fit on a large mesh.
    assert_placed(sums, gradients.place_sums(placed))
  assert made.add._cache_size() == 1
  got, want = whole(sums, sizes[0]), reference()
  assert_same(got.grads, want.grads)
  state = update.init_state(params, optax.sgd(1e-3))
  state, metrics = made.apply(state, sums)
  assert_placed(state.params, placed)
  assert metrics['grad_norm'] == pytest.approx(
    np.linalg.norm([np.linalg.norm(x) for x in jax.tree.leaves(want.grads)])
  )
  assert metrics['trained_tokens'] == want.tokens
  assert metrics['mismatch'] == pytest.approx(want.mismatch / want.tokens)
  assert metrics['mismatch_max'] == pytest.approx(want.mismatch_max)
  assert metrics['loss'] == pytest.approx(want.loss, abs=1e-6 * SIZE)
  moved = jax.tree.map(lambda p, g: p - 1e-3 * g, PARAMS, want.grads)
  assert_same(jax.device_get(state.params), moved)
  if sizes[0] > 1:
    check_groups(made, sizes[0], params, sums, batch, state)


def whole(sums, groups):
  """The sums over all groups of 'data', as numpy."""
  sums = jax.device_get(sums)
  if groups == 1:
    return sums
  assert {len(x) for x in jax.tree.leaves(sums)} == {groups}
  added = jax.tree.map(lambda x: x.sum(0), sums)
  return added._replace(mismatch_max=sums.mismatch_max.max())


def check_groups(made, groups, params, sums, batch, state):
  """Groups of 'data' exchange sums in `apply`, once, and nothing in `add`."""
  each = jax.device_count() // groups
  fns = made.add, made.apply
  texts = [
    fn.lower(*arguments).compile().as_text()
    for fn, arguments in zip(
      fns, ((params, sums, batch, KNOBS), (state, sums)), strict=True
    )
  ]
  crossing = []
  for text in texts:
    ops = [op for op in hlo.parse(text) if sends.is_collective(op)]
    crossing.append(
      [op for op in ops if np.ptp(sends.groups(op) // each, axis=1).any()]
    )
  within, across = crossing
  assert not within
  # Each gradient and each scalar, a device's part of it, once; without a
  # reference no one reads kl.
  leaves = jax.tree.leaves(sums._replace(kl=None))
  parts = [x.sharding.shard_shape(x.shape) for x in leaves]
  reduced = [
    math.prod(dims)
    for op in across
    for _, dims in hlo.arrays(op.shape)
    if op.kind == 'all-reduce'
  ]
  assert sum(reduced) == sum(map(math.prod, parts))


def test_the_optimizers_state_stays_where_it_is_and_takes_no_new_room():
  placed = sharding.param_shardings(MODEL.specs, make_mesh((1, 2, 2)))
  params = jax.tree.map(jax.device_put, PARAMS, placed)
  optimizer = optax.adamw(1e-3)
  made = update.make_update(
    MODEL,
    ON_POLICY,
    optimizer,
    vocab_chunk=40,
    dtype=jnp.float32,
    param_shardings=placed,
  )
  state = update.init_state(params, optimizer)
  compiled = made.apply.lower(state, made.zeros(params)).compile()
  out, _ = compiled.output_shardings
  assert_placed(state.params, out.params)
  adam, same = state.opt_state[0], out.opt_state[0]
  assert_placed([adam.mu, adam.nu], [placed, placed])
  assert_placed([adam.mu, adam.nu], [same.mu, same.nu])
  masters_and_moments = 3 * mesh_lib.device_bytes(params)
  assert compiled.memory_analysis().alias_size_in_bytes >= masters_and_moments


def test_offloaded_moments_give_the_same_bits():
  placed = sharding.param_shardings(MODEL.specs, make_mesh((1, 2, 2)))
  everywhere = mesh_lib.replicated(make_mesh((1, 2, 2)))
  optimizer = optax.adamw(1e-2)
  rng = np.random.default_rng(3)
  draw = lambda x, s: jax.device_put(np.float32(rng.normal(size=x.shape)), s)
  steps = [jax.tree.map(draw, PARAMS, placed) for _ in range(3)]
  ends = []
  for offload in (False, True):
    made = update.make_update(
      MODEL,
      ON_POLICY,
      optimizer,
      vocab_chunk=40,
      dtype=jnp.float32,
      param_shardings=placed,
      offload=offload,
    )
    params = jax.tree.map(jax.device_put, PARAMS, placed)
    state = update.init_state(params, optimizer)
    moments = sharding.like_params(
      state.opt_state, params, placed, everywhere, offload=offload
    )
    state = state.replace(opt_state=jax.device_put(state.opt_state, moments))
    for grads in steps:
      before = state
      state, _ = made.apply(state, made.zeros(params)._replace(grads=grads))
      assert_placed(state.opt_state, moments)
      assert all(x.is_deleted() for x in jax.tree.leaves(before.opt_state))
      params = state.params
    ends.append(jax.device_get((state.params, state.opt_state)))
  assert {x.sharding.memory_kind for x in jax.tree.leaves(state.opt_state)} == {
    'device',  # The count.
    'pinned_host',
  }
  assert_bitwise(*ends)
  assert_moved(ends[0][0], PARAMS)


def assert_moved(got, old):
  jax.tree.map(lambda x, y: np.testing.assert_((x != y).all()), got, old)


def assert_placed(tree, shardings):
  same = jax.tree.map(
    lambda x, s: x.sharding.is_equivalent_to(s, x.ndim), tree, shardings
  )
  assert all(jax.tree.leaves(same)), same


def said_logp(params):
  """Every rollout, with the float64 logp and entropy of each of its tokens."""
  for t in (t for group in GROUPS for t in group):
    tokens = np.concatenate([t.prompt.tokens, t.rollout.tokens[:-1]])
    logits = oracles.logits(CONFIG, params, tokens)[-len(t.rollout.tokens) :]
    logp = oracles.log_softmax(logits / TEMPERATURE)
    entropy = -(np.exp(logp) * logp).sum(-1)
    yield t, logp[np.arange(len(t.rollout.tokens)), t.rollout.tokens], entropy


def test_the_on_policy_gradient_is_reinforce():
  # Each parameter in turn moves along a random direction in float64.
  leaves, treedef = jax.tree.flatten(PARAMS)
  leaves = [x.astype(np.float64) for x in leaves]
  rng = np.random.default_rng(0)

  def objective(params):
    return sum(
      -t.adv * t.weight * logp.sum() for t, logp, _ in said_logp(params)
    )

  for i, grad in enumerate(jax.tree.leaves(reference().grads)):
    direction = rng.normal(size=grad.shape)
    move = lambda step, i=i, direction=direction: objective(
      treedef.unflatten(
        [x + step * direction if i == j else x for j, x in enumerate(leaves)]
      )
    )
    h = 1e-5
    want = (move(h) - move(-h)) / (2 * h)
    # Against the size of the gradient: a direction may be nearly level.
    error = abs(np.vdot(grad, direction) - want) / np.linalg.norm(grad)
    assert error < TOLERANCE


BONUS = gradients.make_knobs(TEMPERATURE, 0.3)


def bonus_sums(knobs, batches):
  made = updater(entropy_bonus=True)
  sums = made.zeros(PARAMS)
  for batch in batches:
    sums, _ = made.add(PARAMS, sums, batch, knobs)
  return jax.device_get(sums)


def test_an_entropy_bonus_adds_the_entropys_gradient():
  # Along the gradient itself and at random, in float64.
  got = bonus_sums(BONUS, alone())
  without = reference().grads
  bonus = jax.tree.map(np.subtract, got.grads, without)
  rng = np.random.default_rng(0)

  def objective(params):
    return sum(
      -0.3 * t.weight * entropy.sum() for t, _, entropy in said_logp(params)
    )

  value = objective(PARAMS)
  assert got.loss - reference().loss == pytest.approx(value, rel=1e-5)
  leaves, treedef = jax.tree.flatten(PARAMS)
  leaves = [x.astype(np.float64) for x in leaves]
  for i, grad in enumerate(jax.tree.leaves(bonus)):
    random = rng.normal(size=grad.shape)
    direction = grad / np.linalg.norm(grad) + random / np.linalg.norm(random)
    h = 1e-5
    up, down = (
      objective(
        treedef.unflatten(
          [x + step * direction if i == j else x for j, x in enumerate(leaves)]
        )
      )
      for step in (h, -h)
    )
    want = (up - down) / (2 * h)
    error = abs(np.vdot(grad, direction) - want) / np.linalg.norm(grad)
    # It is a difference of float32 gradients.
    assert error < 10 * TOLERANCE


def test_any_packing_gives_one_gradient_of_the_bonus():
  want = bonus_sums(BONUS, alone())
  for rows, columns, share in ((4, 23, True), (1, 40, True), (3, 31, False)):
    batches = pack(GROUPS, rows, columns, share_prompts=share)
    got = bonus_sums(BONUS, batches)
    assert_same(got.grads, want.grads)
    assert got.loss == pytest.approx(want.loss, abs=1e-6 * SIZE)


def test_a_bonus_of_weight_0_is_none():
  got = bonus_sums(gradients.make_knobs(TEMPERATURE, 0.0), alone())
  assert_same(got.grads, reference().grads)
  # And an update made without one reads no weight.
  sums = updater().zeros(PARAMS)
  for batch in alone():
    sums, _ = updater().add(PARAMS, sums, batch, BONUS)
  assert_bitwise(jax.device_get(sums), reference())


def test_other_knobs_compile_nothing_and_are_read():
  made = updater(entropy_bonus=True)
  (batch,) = pack(GROUPS, 4, 23)
  before = None
  for knobs in ((0.8, 0.3), (0.6, 0.3), (0.6, 0.1)):
    knobs = gradients.make_knobs(*knobs)
    sums, _ = made.add(PARAMS, made.zeros(PARAMS), batch, knobs)
    assert before is None or float(sums.loss) != float(before.loss)
    if before is None:
      compiled = made.add._cache_size()
    before = sums
  assert made.add._cache_size() == compiled


# One that forgets the policy: all that is left is the pull to the reference.
PULL = losses.with_kl(losses.clipped(0.2, 0.28), 0.5)


def level(batch):
  """The batch without advantages."""
  return batch._replace(adv_BT=np.zeros_like(batch.adv_BT))


def pull_step(made, state, batch):
  """(state after a step, gradient, metrics) of one scored batch."""
  scored = made.score(state.reference_weights, batch, KNOBS)
  sums, _ = made.add(state.weights, made.zeros(state.params), scored, KNOBS)
  grads = jax.device_get(sums.grads)
  state, metrics = made.apply(state, sums)
  return state, grads, jax.device_get(metrics), scored


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
def test_kl_is_0_at_the_reference_more_after_a_step_and_0_when_reset(dtype):
  made = update.make_update(
    MODEL, PULL, optax.sgd(0.01), vocab_chunk=40, dtype=dtype
  )
  state = update.init_state(jax.tree.map(jnp.array, PARAMS), optax.sgd(0.01))
  assert state.saved().reference == {}
  state = made.reset_reference(state)
  assert {x.dtype for x in jax.tree.leaves(state.reference)} == {
    jnp.dtype(dtype)
  }
  (batch,) = pack(GROUPS, 4, 23)
  norm = lambda grads: np.sqrt(
    sum((x**2).sum() for x in jax.tree.leaves(grads))
  )
  state, grads, metrics, scored = pull_step(made, state, level(batch))
  said = batch.weight_BT > 0
  assert (np.asarray(scored.logp_ref_BT)[~said] == 0).all()
  # Two compilations differ by roundings, whose square this is.
  assert 0 <= metrics['kl'] < 1e-10
  none = norm(grads)
  # Away from it, by the policy's own gradient.
  state, grads, metrics, _ = pull_step(made, state, batch)
  moved = norm(grads)
  assert none < 1e-5 * moved
  state, grads, metrics, _ = pull_step(made, state, level(batch))
  assert metrics['kl'] > 1e-4
  assert norm(grads) > 100 * none
  # A step down that gradient goes back to it.
  before = metrics['kl']
  state, _, metrics, _ = pull_step(made, state, level(batch))
  assert metrics['kl'] < before
  kept = state.saved()
  assert kept.reference is state.reference
  state = made.reset_reference(state)
  _, _, metrics, _ = pull_step(made, state, level(batch))
  assert 0 <= metrics['kl'] < 1e-10


def test_score_is_the_logp_of_what_was_said():
  made = updater(loss=PULL)
  got = [
    logp
    for batch in pack(GROUPS, 2, 31)
    for row, weight in zip(
      np.asarray(made.score(PARAMS, batch, KNOBS).logp_ref_BT), batch.weight_BT
    )
    for logp in row[weight > 0]
  ]
  want = np.concatenate([logp for _, logp, _ in said_logp(PARAMS)])
  np.testing.assert_allclose(sorted(got), np.sort(want), atol=5e-6)


def test_a_loss_that_reads_no_reference_has_no_kl():
  made = updater()
  state = update.init_state(jax.tree.map(jnp.array, PARAMS), optax.sgd(1e-3))
  _, metrics = made.apply(state, made.zeros(PARAMS))
  assert 'kl' not in metrics


def test_a_mesh_keeps_the_reference_in_its_place():
  mesh = make_mesh((1, 2, 2))
  placed = sharding.param_shardings(MODEL.specs, mesh)
  params = jax.tree.map(jax.device_put, PARAMS, placed)
  spread = functools.partial(mesh_lib.spread, sharding=mesh_lib.packed(mesh))
  (batch,) = pack(GROUPS, 4, 24)
  made = updater((1, 2, 2), loss=PULL)
  state = made.reset_reference(update.init_state(params, optax.sgd(1e-3)))
  assert_placed(state.reference, placed)
  on_mesh = packing.PackedBatch(*map(spread, batch))
  state, _, metrics, scored = pull_step(made, state, on_mesh)
  assert_placed(state.reference, placed)
  assert scored.logp_ref_BT.sharding.spec == mesh_lib.packed(mesh).spec
  want = updater(loss=PULL).score(PARAMS, batch, KNOBS).logp_ref_BT
  np.testing.assert_allclose(scored.logp_ref_BT, want, atol=5e-6)
  assert 0 <= metrics['kl'] < 1e-10
  # A reset has the old reference's room.
  compiled = made.reset_reference.lower(state).compile()
  m = compiled.memory_analysis()
  size = mesh_lib.device_bytes(state.reference)
  assert m.alias_size_in_bytes >= 2 * size and m.temp_size_in_bytes < size


def test_groups_of_data_take_the_same_steps():
  """Two updates with all that an update may have, next to fsdp's.

  Clipped by the norm of all groups, with a reference, an entropy bonus and
  moments on the hosts.
  """
  optimizer = optax.chain(
    optax.clip_by_global_norm(0.5), optax.sgd(0.1, momentum=0.9)
  )
  batches = alone()
  ends = []
  for sizes in ((1, 4, 1), (2, 2, 1), (4, 1, 1)):
    mesh = make_mesh(sizes)
    placed = sharding.param_shardings(MODEL.specs, mesh)
    everywhere = mesh_lib.replicated(mesh)
    spread = functools.partial(mesh_lib.spread, sharding=mesh_lib.packed(mesh))
    made = update.make_update(
      decoder.make_model(CONFIG, **partition.pins(mesh)),
      losses.with_kl(losses.clipped(0.2, 0.28), 0.5),
      optimizer,
      vocab_chunk=40,
      dtype=jnp.float32,
      entropy_bonus=True,
      several=True,
      param_shardings=placed,
      offload=True,
    )
    params = jax.tree.map(jax.device_put, PARAMS, placed)
    state = made.reset_reference(update.init_state(params, optimizer))
    moments = sharding.like_params(
      state.opt_state, params, placed, everywhere, offload=True
    )
    state = state.replace(opt_state=jax.device_put(state.opt_state, moments))
    for part in (batches[:2], batches[2:]):
      sums = made.zeros(state.params)
      for batch in part:
        batch = packing.PackedBatch(*map(spread, batch))
        batch = made.first_pass(state.weights, batch, BONUS)
        batch = made.score(state.reference_weights, batch, BONUS)
        sums, _ = made.add(state.weights, sums, batch, BONUS)
      state, metrics = made.apply(state, sums)
    assert_placed(state.params, placed)
    assert_placed(state.opt_state, moments)
    ends.append(jax.device_get((state.params, state.opt_state, metrics)))
  want = ends[0]
  assert want[2]['grad_norm'] > 0.5 and want[2]['kl'] > 1e-6
  for params, opt_state, metrics in ends[1:]:
    moved = jax.tree.map(np.subtract, params, PARAMS)
    assert_same(moved, jax.tree.map(np.subtract, want[0], PARAMS), 1e-4)
    assert_same(opt_state, want[1], 1e-5)
    for name, value in want[2].items():
      assert metrics[name] == pytest.approx(value, rel=1e-4, abs=1e-7), name


GSPO = losses.gspo(0.01, 0.02)


def test_any_packing_and_split_gives_one_gradient_of_gspo():
  made = updater(loss=GSPO)

  def total(batches):
    sums = made.zeros(PARAMS)
    for batch in batches:
      sums, _ = made.add(PARAMS, sums, batch, KNOBS)
    return jax.device_get(sums)

  # Ratios near 1: some responses are clipped, others not.
  near = [
    [
      t._replace(rollout=dataclasses.replace(t.rollout, logp=logp))
      for t, logp in group
    ]
    for group in near_policy()
  ]
  pack_near = lambda rows, columns, **kwargs: pack(
    near, rows, columns, **kwargs
  )
  want = total(pack_near(1, 24, share_prompts=False))
  for rows, columns, share in ((4, 23, True), (2, 40, False), (8, 120, True)):
    got = total(pack_near(rows, columns, share_prompts=share))
    assert_same(got.grads, want.grads, 4 * TOLERANCE)
    assert got.loss == pytest.approx(want.loss, abs=1e-6 * SIZE)


def near_policy():
  """(rollout, logp about the policy's own) by group."""
  rng = np.random.default_rng(5)
  said = said_logp(PARAMS)
  for group in GROUPS:
    found = []
    for t in group:
      _, logp, _ = next(said)
      move = rng.normal(0, 0.02, len(logp)) + rng.normal(0, 0.02)
      found.append((t, (logp + move).astype(np.float32)))
    yield found


def test_the_loss_and_the_metrics_are_sums_over_tokens():
  got = reference()
  every = list(said_logp(PARAMS))
  lengths = [len(logp) for _, logp, _ in every]
  want = -sum(t.adv * t.weight * n for (t, *_), n in zip(every, lengths))
  assert got.loss == pytest.approx(want, rel=1e-5)
  assert got.tokens == sum(lengths)
  entropy = sum(entropy.sum() for *_, entropy in every)
  assert got.entropy == pytest.approx(entropy, rel=2e-6)
  gaps = np.concatenate([abs(logp - t.rollout.logp) for t, logp, _ in every])
  assert got.mismatch == pytest.approx(gaps.sum(), rel=2e-6)
  assert got.mismatch_max == pytest.approx(gaps.max(), rel=2e-6)


# A row: prompt 1 with rollouts 2 and 3, prompt 4 with rollout 5, padding.
LAYOUT = [(1, 0, 3), (2, 1, 4), (3, 1, 3), (4, 0, 2), (5, 4, 3), (0, 0, 3)]
SEGMENT = np.concatenate([np.full(n, s) for s, _, n in LAYOUT])
PREFIX = np.concatenate([np.full(n, p) for _, p, n in LAYOUT])
T = len(SEGMENT)


@functools.cache
def row_logp():
  """logp_T of a row of T tokens, whose embedding is row t of a table."""

  @jax.jit
  def logp(table_TD, target_T):
    params = PARAMS | {'embed': table_TD}
    x_BTD = MODEL.apply(
      params, *(jnp.asarray(x)[None] for x in (range(T), POSITION)), *MASK
    )
    return logprobs.token_logp(
      x_BTD, params['head'], target_T[None], TEMPERATURE, 40
    )[0][0]

  return logp


POSITION = np.concatenate(
  [np.arange(n) + (3 if p == 1 else 2 if p == 4 else 0) for _, p, n in LAYOUT]
)
MASK = SEGMENT[None], PREFIX[None]
TABLE = PARAMS['embed'][:T]
TARGET = np.random.default_rng(4).integers(0, CONFIG.vocab, T)


def may_see(t, s):
  """Whether the logp of a real token t may depend on the input s."""
  return s <= t and SEGMENT[s] in (SEGMENT[t], PREFIX[t]) and SEGMENT[s] > 0


def test_a_token_has_no_gradient_to_other_segments_or_later_tokens():
  gradient = jax.jit(jax.grad(lambda table, t: row_logp()(table, TARGET)[t]))
  for t in np.flatnonzero(SEGMENT):
    grad_SD = np.asarray(gradient(TABLE, t))
    assert np.isfinite(grad_SD).all()
    want = [may_see(t, s) for s in range(T)]
    assert (grad_SD != 0).any(-1).tolist() == want


def test_a_token_changes_no_bit_of_other_segments_or_earlier_tokens():
  before = np.asarray(row_logp()(TABLE, TARGET))
  for s in range(T):
    table = TABLE.copy()
    table[s] = PARAMS['embed'][T + s]
    changed = np.asarray(row_logp()(table, TARGET)) != before
    for t in np.flatnonzero(SEGMENT):
      assert changed[t] == may_see(t, s)


def batch_of(adv, logp_old):
  fields = dict.fromkeys(packing.PackedBatch._fields)
  return packing.PackedBatch(
    **fields | dict(adv_BT=np.float32(adv), logp_old_BT=np.float32(logp_old))
  )


@pytest.mark.parametrize(
  'ratio, adv, want, slope',
  [
    # d loss / d logp is -ratio * adv, or 0 where the clip holds.
    (1.5, 1.0, -1.28, 0.0),
    (1.5, -1.0, 1.5, 1.5),
    (1.25, 2.0, -2.5, -2.5),
    (0.5, 1.0, -0.5, -0.5),
    (0.5, -1.0, 0.8, 0.0),
    (0.9, -3.0, 2.7, 2.7),
  ],
)
def test_clipped_by_hand(ratio, adv, want, slope):
  batch = batch_of(adv, -1.0)
  value, grad = jax.value_and_grad(CLIPPED)(
    jnp.float32(-1.0 + np.log(ratio)), batch
  )
  assert value == pytest.approx(want, rel=1e-6)
  assert grad == pytest.approx(slope, rel=1e-6)


@pytest.mark.parametrize('adv', [2.0, -0.5, 0.0])
def test_on_policy_by_hand(adv):
  # The sampler's logp is far off: it must not be read.
  value, grad = jax.value_and_grad(ON_POLICY)(
    jnp.float32(-3.0), batch_of(adv, -7.0)
  )
  assert (float(value), float(grad)) == (-adv, -adv)


def add_with_table(params_VD, head_VD, batch, loss, knobs=KNOBS, **kwargs):
  """gradients.add of a model whose hidden states are the rows of a table."""
  model = MODEL._replace(
    apply=lambda params, tokens, *_: params[tokens], head=lambda _: head_VD
  )
  add = functools.partial(
    gradients.add, forward=forward(model=model), loss=loss, **kwargs
  )
  return jax.jit(add)(params_VD, gradients.zeros(params_VD), batch, knobs)[0]


def test_token_mean_is_the_mean_over_all_tokens():
  every = [t for group in GROUPS for t in group]
  lengths = np.array([[len(t.rollout.tokens) for t in every]])
  weight = packing.token_weights(lengths, lengths > 0, 'token', max_tokens=10)[
    0
  ]
  table, head = PARAMS['embed'], PARAMS['head']
  terms = []
  for t in every:
    inputs = np.concatenate([t.prompt.tokens[-1:], t.rollout.tokens[:-1]])
    logits = table[inputs].astype(np.float64) @ head.T / TEMPERATURE
    logp = oracles.log_softmax(logits)[np.arange(len(inputs)), t.rollout.tokens]
    ratio = np.exp(logp - t.rollout.logp)
    inside = np.clip(ratio, 0.8, 1.28)
    terms.extend(-np.minimum(ratio * t.adv, inside * t.adv))
  weighted = [[t._replace(weight=w)] for t, w in zip(every, weight)]
  (batch,) = pack(weighted, 4, 40)
  got = add_with_table(table, head, batch, CLIPPED)
  assert len(terms) == lengths.sum() == got.tokens
  # Measured: 1e-7.
  assert got.loss == pytest.approx(np.mean(terms), rel=1e-6)


def test_a_loss_that_overflows_at_padding_has_a_finite_gradient():
  # logp of padding's target, 0, is about -600; of response tokens, about -1.
  batch = packing.PackedBatch(
    tokens_BT=np.array([[1, 1, 2]]),
    target_BT=np.array([[0, 1, 0]]),
    segment_BT=np.array([[1, 2, 0]]),
    prefix_BT=np.array([[0, 1, 0]]),
    position_BT=np.array([[0, 1, 0]]),
    logp_old_BT=np.array([[0, -1, 0]], np.float32),
    adv_BT=np.array([[0, 1, 0]], np.float32),
    weight_BT=np.array([[0, 1, 0]], np.float32),
    logp_ref_BT=np.zeros((1, 3), np.float32),
    logp_first_BT=np.zeros((1, 3), np.float32),
  )
  loss = lambda logp_BT, batch: jnp.exp(batch.logp_old_BT - logp_BT)
  head = np.array([[-500.0], [1.0], [2.0]], np.float32)
  sums = add_with_table(np.ones((3, 1), np.float32), head, batch, loss)
  assert np.isfinite(sums.loss)
  assert np.isfinite(sums.grads).all()
  assert sums.grads[1] != 0


def stepper(component, warmup_steps=0, clip_norm=1e9):
  """(apply, a state of small parameters)."""
  params = dict(a=jnp.array([1.0, -2.0, 3.0]), b=jnp.array([0.5]))
  optimizer = optim.make_optimizer(
    component,
    oracles.plain_specs(params),
    warmup_steps=warmup_steps,
    clip_norm=clip_norm,
  )
  made = update.make_update(
    MODEL,
    ON_POLICY,
    optimizer,
    vocab_chunk=40,
    dtype=jnp.float32,
  )
  return made.apply, update.init_state(params, optimizer)


def sums_of(a, b):
  grads = dict(a=jnp.array(a, jnp.float32), b=jnp.array(b, jnp.float32))
  return gradients.zeros(grads)._replace(grads=grads)


SGD = dict(fn='optax:sgd', learning_rate=0.5)


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
def test_a_gradient_that_is_not_finite_changes_nothing_but_the_step(bad):
  step, state = stepper(dict(fn='optax:adamw', learning_rate=0.1), 3)
  state, metrics = step(state, sums_of([1.0, 2.0, 3.0], [4.0]))
  assert metrics['nonfinite'] == 0
  before = jax.device_get(state)
  state, metrics = step(state, sums_of([1.0, bad, 3.0], [4.0]))
  after = jax.device_get(state)
  assert metrics['nonfinite'] == 1
  assert (before.step, after.step) == (1, 2)
  assert_bitwise(after.params, before.params)
  # The count of the schedule too: the warm-up waits.
  assert_bitwise(after.opt_state, before.opt_state)
  # It goes on as if the step had not been.
  state, metrics = step(state, sums_of([1.0, 2.0, 3.0], [4.0]))
  assert metrics['nonfinite'] == 0
  assert (np.asarray(state.params['a']) != before.params['a']).all()


@pytest.mark.parametrize('decide', [update.selected, update.branched])
def test_a_state_is_kept_to_the_bit_or_replaced(decide):
  """On GPUs and TPUs numbers are selected, on CPUs steps are branched."""
  params = dict(a=jnp.array([1.0, -2.0, -0.0]), b=jnp.array([jnp.inf]))
  optimizer = optax.chain(optax.adam(0.1), optax.scale_by_schedule(lambda n: n))
  opt_state = optimizer.init(params)

  def step(params, opt_state):
    grads = jax.tree.map(lambda x: x * jnp.nan, params)
    updates, opt_state = optimizer.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state

  decided = jax.jit(lambda finite, *state: decide(finite, step, *state))
  bits = lambda tree: [np.asarray(x).tobytes() for x in jax.tree.leaves(tree)]
  kept = decided(jnp.array(False), params, opt_state)
  assert bits(kept) == bits((params, opt_state))
  replaced = decided(jnp.array(True), params, opt_state)
  assert bits(replaced) == bits(step(params, opt_state))
  assert np.isnan(replaced[0]['a']).all()


def test_metrics_of_a_token_are_means_over_the_trained_ones():
  step, state = stepper(SGD)
  sums = sums_of([0.0] * 3, [1.0])
  number = jnp.float32
  _, metrics = step(
    state,
    sums._replace(tokens=number(4), entropy=number(6), mismatch=number(2)),
  )
  assert (metrics['trained_entropy'], metrics['mismatch']) == (1.5, 0.5)


def test_clip_norm_scales_what_is_longer():
  grads = sums_of([2.0, 0.0, 4.0], [4.0])
  step, state = stepper(SGD, clip_norm=1.5)
  state, metrics = step(state, grads)
  assert metrics['grad_norm'] == 6.0
  np.testing.assert_allclose(
    state.params['a'], [1 - 0.25, -2.0, 3 - 0.5], rtol=1e-6
  )
  np.testing.assert_allclose(state.params['b'], [0.5 - 0.5], atol=1e-7)
  step, state = stepper(SGD, clip_norm=6.5)
  state, _ = step(state, grads)
  np.testing.assert_array_equal(state.params['a'], [0.0, -2.0, 1.0])


@pytest.mark.parametrize(
  'component, want',
  [
    (SGD, [0.5, -2.0, 5.0]),
    # A sign: momentum is 0 at first.
    (
      dict(fn='optax:lion', learning_rate=0.25, weight_decay=0.0),
      [0.75, -2.0, 3.25],
    ),
    # The first step of Adam is a sign; decay takes 0.1 * 0.5 of each.
    (
      dict(
        fn='optax:adamw',
        learning_rate=0.1,
        weight_decay=0.5,
        eps=0.0,
        decay_on='.*',
      ),
      [1 - 0.1 - 0.05, np.nan, 3 + 0.1 - 0.15],
    ),
  ],
)
def test_any_optax_transform_by_its_path(component, want):
  step, state = stepper(component)
  state, _ = step(state, sums_of([1.0, 0.0, -4.0], [1.0]))
  # Adam without epsilon says nothing of a gradient of 0.
  known = np.isfinite(want)
  np.testing.assert_allclose(
    np.asarray(state.params['a'])[known], np.array(want)[known], rtol=1e-6
  )


@pytest.mark.parametrize(
  'change, said',
  [
    ({'momentun': 0.9}, 'momentun'),
    ({'fn': 'optax:sdg'}, "config.optim.transform.fn='optax:sdg'"),
    ({'fn': 'sgd'}, "config.optim.transform.fn='sgd'"),
  ],
)
def test_a_wrong_optimizer_is_one_line(change, said):
  with pytest.raises(ValueError, match=r'^config\.optim') as e:
    stepper(SGD | change)
  assert said in str(e.value)
  assert '\n' not in str(e.value)


@pytest.mark.parametrize(
  'warmup_steps, want',
  [(0, [1, 1, 1]), (1, [0.5, 1, 1]), (4, [0.2, 0.4, 0.6, 0.8, 1, 1])],
)
def test_the_learning_rate_rises_to_its_peak(warmup_steps, want):
  step, state = stepper(dict(fn='optax:sgd', learning_rate=1.0), warmup_steps)
  rates = []
  for _ in want:
    before = float(state.params['b'][0])
    state, _ = step(state, sums_of([0.0] * 3, [1.0]))
    rates.append(before - float(state.params['b'][0]))
  np.testing.assert_allclose(rates, want, rtol=1e-6)


def test_nothing_drifts_at_a_learning_rate_of_0():
  made = update.make_update(
    MODEL,
    ON_POLICY,
    optimizer := optax.adamw(0.0, weight_decay=0.0),
    vocab_chunk=40,
    dtype=jnp.bfloat16,
  )
  (batch,) = pack(GROUPS, 4, 23)
  state = update.init_state(jax.tree.map(jnp.array, PARAMS), optimizer)
  for step in range(200):
    sums, _ = made.add(state.params, made.zeros(state.params), batch, KNOBS)
    if step == 0:
      first = jax.device_get(sums)
    state, _ = made.apply(state, sums)
  assert_bitwise(jax.device_get(state.params), PARAMS)
  assert_bitwise(jax.device_get(sums), first)


def test_bfloat16_compute_is_near_float32():
  """The gradient, by a few of its roundings of 2^-9; measured: 0.022."""
  (batch,) = pack(GROUPS, 4, 23)

  def gradient(dtype):
    add = functools.partial(
      gradients.add, forward=forward(dtype), loss=ON_POLICY
    )
    sums, _ = jax.jit(add)(PARAMS, gradients.zeros(PARAMS), batch, KNOBS)
    grads = sums.grads
    return jnp.concatenate([x.ravel() for x in jax.tree.leaves(grads)])

  low, high = gradient(jnp.bfloat16), gradient(jnp.float32)
  error = jnp.linalg.norm(low - high) / jnp.linalg.norm(high)
  assert 1e-3 < error < 0.05


def test_bfloat16_compute_adds_up_float32_gradients():
  (batch,) = pack(GROUPS, 4, 23)
  add = functools.partial(
    gradients.add, forward=forward(jnp.bfloat16), loss=ON_POLICY
  )
  closed, (sums, scored) = jax.make_jaxpr(add, return_shape=True)(
    PARAMS, gradients.zeros(PARAMS), batch, KNOBS
  )
  dtypes = {x.dtype for x in jax.tree.leaves((sums, scored))}
  assert dtypes == {jnp.dtype(jnp.float32)}
  products = str(closed).count('bf16[4,23,32] = dot_general')
  assert products > 0
  # The head's chunks are read as bfloat16, but its gradient is not rounded.
  assert str(closed).count('bf16[40,32] = convert_element_type') > 0
  sums, _ = jax.jit(add)(PARAMS, gradients.zeros(PARAMS), batch, KNOBS)
  grad_VD = sums.grads['head']
  assert (grad_VD != grad_VD.astype(jnp.bfloat16)).mean() > 0.5
