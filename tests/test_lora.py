"""Adapters: what is merged, their gradients, what stays as it was."""

import functools
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import oracles
import pytest
import test_update
import tiny

from acereason_jax.models import base, decoder, lora
from acereason_jax.models import remat as remat_lib
from acereason_jax.rl import update

CONFIG, MODEL = test_update.CONFIG, test_update.MODEL
RANK, ALPHA = 3, 4.5
EVERY = r'layers\..*'
# Relative to the largest entry; measured: 2.6e-6.
TOLERANCE = 5e-6


def split(on=EVERY, rank=RANK, alpha=ALPHA):
  return lora.split(MODEL.specs, rank=rank, alpha=alpha, on=on)


def rough(parts, dtype=np.float32):
  """(adapters whose b is not zero, frozen weights)."""
  adapters = oracles.rough_params(parts.trained, seed=1)
  layers = {
    n: x / 2 if n.endswith('_a') else np.float32(0.3 * np.sign(x) - x)
    for n, x in adapters['layers'].items()
  }
  return {'layers': layers}, base.cast(test_update.PARAMS, dtype)


def merged64(params, adapters, scale):
  """The sum in float64 numpy."""
  layers = {n: np.float64(x) for n, x in params['layers'].items()}
  for n in list(layers):
    if f'{n}_a' in adapters['layers']:
      a, b = (np.float64(adapters['layers'][n + end]) for end in ('_a', '_b'))
      layers[n] += scale * np.stack([b[i] @ a[i] for i in range(len(a))])
  return params | {'layers': layers}


def test_what_is_trained():
  parts = split(r'layers\.(q|down)')
  shapes = {n: s.shape for n, s in parts.trained['layers'].items()}
  assert shapes == dict(
    q_a=(2, 3, 32), q_b=(2, 32, 3), down_a=(2, 3, 48), down_b=(2, 32, 3)
  )
  axes = {n: s.axes for n, s in parts.trained['layers'].items()}
  assert axes['q_a'] == ('layer', None, 'embed')
  assert axes['q_b'] == ('layer', 'heads', None)
  assert parts.frozen == MODEL.specs
  assert base.param_count(parts.trained) == 2 * 3 * ((32 + 32) + (48 + 32))
  # q and o; k and v; gate, up and down: rank * (in + out) of each layer.
  every = 2 * (32 + 32) + 2 * (32 + 16) + 3 * (32 + 48)
  assert base.param_count(split().trained) == 2 * 3 * every


def test_adapters_of_a_published_size():
  config = oracles.tiny_config(
    layers=28, embed=3584, mlp=18944, heads=28, kv_heads=4, head_dim=128
  )
  specs = decoder.param_specs(config)
  parts = lora.split(specs, rank=16, alpha=32.0, on=EVERY)
  by_hand = 2 * (3584 + 3584) + 2 * (3584 + 512) + 3 * (3584 + 18944)
  assert base.param_count(parts.trained) == 28 * 16 * by_hand == 40_370_176


def test_a_rank_of_0_trains_all_parameters():
  assert split(rank=0) == lora.Parts(MODEL.specs, {}, 0.0)


@pytest.mark.parametrize(
  'on', ['embed', 'head', 'q', r'layers\.q_bias', r'layers\.attn_norm', '']
)
def test_a_regex_that_matches_no_matrix(on):
  with pytest.raises(ValueError, match='matches no matrix; expected') as e:
    split(on)
  assert str(e.value).startswith(f'config.lora.on={on!r}: ')
  assert 'layers.gate' in str(e.value) and '\n' not in str(e.value)


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
def test_it_starts_at_the_model_bit_for_bit(dtype):
  parts = split()
  adapters = base.init_params(parts.trained, jax.random.key(3))
  a = np.asarray(adapters['layers']['down_a'])
  # A normal cut at two deviations keeps 0.8796 of its deviation.
  assert a.std() == pytest.approx(0.8796 * 48**-0.5, rel=0.1)
  frozen = base.cast(test_update.PARAMS, dtype)
  read = jax.jit(functools.partial(lora.merged, scale=parts.scale))
  got = read(base.overlaid(frozen, base.cast(adapters, dtype)))
  assert jax.tree.structure(got) == jax.tree.structure(frozen)
  for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(frozen)):
    assert x.dtype == dtype
    assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
def test_what_is_merged(dtype):
  parts = split(r'layers\.(k|up)')
  assert parts.scale == 1.5
  adapters, frozen = rough(parts, dtype)
  weights = base.overlaid(frozen, base.cast(adapters, dtype))
  got = jax.jit(functools.partial(lora.merged, scale=1.5))(weights)
  want = merged64(frozen, base.cast(adapters, dtype), 1.5)
  for n, x in got['layers'].items():
    error = oracles.relative_error(x, want['layers'][n])
    # Added in float32, then rounded once.
    assert error < (2**-8 if dtype == jnp.bfloat16 else 2e-7)
    changed = not np.array_equal(x, frozen['layers'][n])
    assert changed == (n in ('k', 'up'))
  # Rollouts read the weights that training makes of each layer.
  layer = jax.jit(functools.partial(lora.merged_layer, scale=1.5))
  for i in range(CONFIG.layers):
    mine = layer(jax.tree.map(lambda x, i=i: x[i], weights['layers']))
    assert set(mine) == set(got['layers'])
    for n, x in mine.items():
      np.testing.assert_array_equal(x, got['layers'][n][i])


def updater(
  parts,
  optimizer,
  dtype=jnp.float32,
  remat='dots',
  loss=test_update.ON_POLICY,
):
  layer_weights = functools.partial(lora.merged_layer, scale=parts.scale)
  return update.make_update(
    decoder.make_model(CONFIG, remat=remat, layer_weights=layer_weights),
    loss,
    optimizer,
    vocab_chunk=40,
    dtype=dtype,
  )


def sums_of(parts, adapters, frozen, **kwargs):
  made = updater(parts, optax.sgd(1.0), **kwargs)
  sums = made.zeros(adapters)
  for batch in test_update.alone():
    sums, _ = made.add(
      base.overlaid(frozen, adapters), sums, batch, test_update.KNOBS
    )
  return jax.device_get(sums)


@pytest.mark.parametrize('remat', remat_lib.POLICIES)
def test_the_gradient_is_the_chain_rule_of_the_full_one(remat):
  parts = split()
  adapters, frozen = rough(parts)
  got = sums_of(parts, adapters, frozen, remat=remat)
  assert jax.tree.structure(got.grads) == jax.tree.structure(adapters)
  whole = base.cast(merged64(frozen, adapters, parts.scale), jnp.float32)
  sums = test_update.updater().zeros(whole)
  for batch in test_update.alone():
    sums, _ = test_update.updater().add(whole, sums, batch, test_update.KNOBS)
  assert got.loss == pytest.approx(
    float(sums.loss), abs=1e-6 * test_update.SIZE
  )
  mine = adapters['layers']
  for n in (n[:-2] for n in mine if n.endswith('_a')):
    w = np.float64(sums.grads['layers'][n])
    a, b = np.float64(mine[f'{n}_a']), np.float64(mine[f'{n}_b'])
    want_a = parts.scale * np.einsum('lor,loi->lri', b, w)
    want_b = parts.scale * np.einsum('loi,lri->lor', w, a)
    for end, want in (('_a', want_a), ('_b', want_b)):
      error = oracles.relative_error(got.grads['layers'][n + end], want)
      assert error < TOLERANCE, n + end


def test_the_gradient_is_that_of_float64_differences():
  parts = split(r'layers\.(v|down)')
  adapters, frozen = rough(parts)
  grads = sums_of(parts, adapters, frozen).grads['layers']
  rng = np.random.default_rng(0)

  def objective(name, move):
    layers = {n: np.float64(x) for n, x in adapters['layers'].items()}
    layers[name] = layers[name] + move
    params = merged64(frozen, {'layers': layers}, parts.scale)
    said = test_update.said_logp(params)
    return sum(-t.adv * t.weight * logp.sum() for t, logp, _ in said)

  assert len(grads) == 4
  for name, grad in grads.items():
    direction = 1e-5 * rng.normal(size=grad.shape)
    want = (objective(name, direction) - objective(name, -direction)) / 2
    error = abs(np.vdot(grad, direction) - want) / np.linalg.norm(grad)
    assert error < TOLERANCE * 1e-5, name


def test_only_adapters_change_and_only_they_have_moments():
  parts = split(r'layers\.(q|up)')
  adapters = base.init_params(parts.trained, jax.random.key(0))
  frozen = base.cast(test_update.PARAMS, jnp.bfloat16)
  before = jax.device_get(frozen)
  optimizer = optax.adamw(1e-2)
  made = updater(parts, optimizer, jnp.bfloat16)
  state = update.init_state(adapters, optimizer)
  state = jax.tree.map(jnp.array, state.replace(frozen=frozen))
  first = jax.device_get(state.params)
  for _ in range(2):
    sums = made.zeros(state.params)
    for batch in test_update.alone():
      sums, _ = made.add(state.weights, sums, batch, test_update.KNOBS)
    state, metrics = made.apply(state, sums)
    assert metrics['grad_norm'] > 0
  test_update.assert_bitwise(jax.device_get(state.frozen), before)
  count = base.param_count(parts.trained)
  sizes = lambda tree: sum(x.size for x in jax.tree.leaves(tree))
  assert sizes(sums.grads) == sizes(state.params) == count
  # Two moments, and the count of steps.
  assert sizes(state.opt_state) == 2 * count + 1
  assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(state.params))
  for n, x in first['layers'].items():
    assert (np.asarray(state.params['layers'][n]) != x).mean() > 0.9, n
  assert not jax.tree.leaves(state.saved().frozen)
  assert state.saved().params is state.params


def test_the_reference_is_of_adapters_alone_over_the_frozen_weights():
  parts = split(r'layers\.(q|up)')
  adapters, frozen = rough(parts, jnp.bfloat16)
  optimizer = optax.sgd(0.1)
  made = updater(parts, optimizer, jnp.bfloat16, loss=test_update.PULL)
  state = update.init_state(adapters, optimizer).replace(frozen=frozen)
  state = made.reset_reference(jax.tree.map(jnp.array, state))
  assert set(state.reference['layers']) == set(adapters['layers'])
  assert all(x.dtype == jnp.bfloat16 for x in jax.tree.leaves(state.reference))
  test_update.assert_bitwise(jax.device_get(state.frozen), frozen)
  (batch,) = test_update.pack(test_update.GROUPS, 4, 23)
  knobs = test_update.KNOBS
  first = made.score(state.weights, batch, knobs).logp_ref_BT
  sums, _ = made.add(state.weights, made.zeros(state.params), batch, knobs)
  state, _ = made.apply(state, sums)
  again = made.score(state.reference_weights, batch, knobs).logp_ref_BT
  moved = made.score(state.weights, batch, knobs).logp_ref_BT
  np.testing.assert_array_equal(again, first)
  assert (np.asarray(moved) != first).any()
  saved = state.saved()
  assert saved.reference is state.reference and not saved.frozen


def shapes_within(jaxpr):
  """(operation, shape) of all that it computes, loops' bodies too."""
  for eqn in jaxpr.eqns:
    for inner in jax.extend.core.jaxprs_in_params(eqn.params):
      yield from shapes_within(inner)
    yield from ((str(eqn.primitive), v.aval.shape) for v in eqn.outvars)


@pytest.mark.parametrize('remat', remat_lib.POLICIES)
@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
def test_no_matrix_is_ever_merged_or_differentiated_as_a_whole(remat, dtype):
  parts = split()
  adapters, frozen = rough(parts, dtype)
  made = updater(parts, optax.sgd(1.0), dtype, remat)
  (batch,) = test_update.pack(test_update.GROUPS, 4, 23)
  weights, sums = base.overlaid(frozen, adapters), made.zeros(adapters)
  made_of = jax.make_jaxpr(made.add)(weights, sums, batch, test_update.KNOBS)
  found = set(shapes_within(made_of.jaxpr))
  L, D, F, Q, KV = 2, 32, 48, 32, 16
  matrices = [(Q, D), (KV, D), (D, Q), (F, D), (D, F)]
  assert {('add', m) for m in matrices} <= found
  whole = {(L, *m) for m in matrices}
  assert not {(p, shape) for p, shape in found if shape in whole}


def test_any_mesh_gives_one_gradient_and_one_model(tmp_path):
  script = pathlib.Path(__file__).parent / 'mesh_lora.py'
  command = [sys.executable, str(script), str(tmp_path / 'got.npz')]
  environment = tiny.environment(tmp_path / 'cache')
  done = subprocess.run(
    command, env=environment, capture_output=True, text=True, timeout=300
  )
  assert done.returncode == 0, done.stderr
  parts = split()
  adapters, frozen = rough(parts)
  grads = sums_of(parts, adapters, frozen).grads['layers']
  want = merged64(frozen, adapters, parts.scale)['layers']
  drawn = base.init_params(parts.trained, jax.random.key(5))['layers']
  with np.load(tmp_path / 'got.npz') as got:
    for n, x in grads.items():
      assert oracles.relative_error(got[f'grads.{n}'], x) < TOLERANCE, n
      np.testing.assert_allclose(got[f'drawn.{n}'], drawn[n], rtol=1e-6)
    for n, x in want.items():
      assert oracles.relative_error(got[f'merged.{n}'], x) < 2e-7, n
    # rank 3 of 8 devices: shards of only the other dimensions.
    placed = {n: str(got[f'placed.{n}']) for n in ('q_a', 'q_b', 'down_b')}
  assert placed == dict(
    q_a="(None, None, 'fsdp')",
    q_b="(None, 'tensor', None)",
    down_b="(None, 'fsdp', None)",
  )


def test_a_tree_laid_over_another():
  tree = {'a': 1, 'b': {'c': 2, 'd': 3}}
  part = {'b': {'c': 4, 'e': 5}}
  over = base.overlaid(tree, part)
  assert over == {'a': 1, 'b': {'c': 4, 'd': 3, 'e': 5}}
  assert base.part_of(over, part) == part
  assert base.overlaid({}, tree) == tree == base.part_of(tree, tree)
  assert tree == {'a': 1, 'b': {'c': 2, 'd': 3}}
