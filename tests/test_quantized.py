"""Rollouts' weights in 8 bits: what is stored, read and trained.

The oracles are numpy in float64 and the float64 decoder, with the weights that
the 8 bits stand for.
"""

import functools

import hypothesis
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import oracles
import pytest
import test_engine
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from acereason_jax import mesh as mesh_lib
from acereason_jax import partition
from acereason_jax.models import (
  base,
  decoder,
  lora,
  quantized,
  qwen3_moe,
  sharding,
)
from acereason_jax.rollout import serve

DTYPES = tuple(quantized.LARGEST)
SPECS = decoder.param_specs(test_engine.CONFIG)
MOE = oracles.tiny_moe_config()
FULL = dict(rank=0, alpha=16.0, on='')
MATRICES = hnp.arrays(
  np.float32,
  hnp.array_shapes(min_dims=2, max_dims=3, max_side=5),
  elements=st.floats(-1e4, 1e4, width=32),
)


def numbers(x) -> np.ndarray:
  """float64 of an array of any dtype."""
  x = np.asarray(x)
  if x.dtype == ml_dtypes.float8_e4m3fn:
    x = x.astype(np.float32)
  return x.astype(np.float64)


def dequantized(w, dtypes):
  """Layers as the float64 matrices that the 8 bits stand for."""
  new = {n: x for n, x in w.items() if not n.endswith(quantized.SCALE)}
  for name in dtypes:
    scale_1F = numbers(w[name + quantized.SCALE])
    new[name] = numbers(w[name]) * np.swapaxes(scale_1F, -1, -2)
  return new


def crossing(specs, dtype, mesh, own=FULL, compute=jnp.float32):
  """(parameters -> those of rollouts, their bytes on a device, specs)."""
  of = quantized.specs(specs, dtype)
  parts = lora.split(specs, **own)
  made = serve.rollout_params(of, parts, mesh, jnp.dtype(compute), trained=mesh)
  return *made, of


# One number.


# The largest number of a channel is so small that its scale is no normal one.
TINY = np.array([[1.1754944e-38, 0.0], [0.5, 1e-38]], np.float32)


@hypothesis.given(MATRICES)
@hypothesis.example(TINY)
def test_no_weight_moves_by_more_than_half_a_step(w_FD):
  q_FD, scale_1F = quantized.quantize(jnp.asarray(w_FD), 'int8')
  assert q_FD.dtype == jnp.int8 and q_FD.shape == w_FD.shape
  scale_F1 = np.swapaxes(numbers(scale_1F), -1, -2)
  most_F1 = np.abs(w_FD).max(-1, keepdims=True)
  normal = most_F1 > 1e-30
  # float32 rounds the scale and the quotient.
  gap = np.abs(numbers(w_FD) - numbers(q_FD) * scale_F1)
  assert np.all((gap <= scale_F1 * (0.5 + 1e-4)) | ~normal)
  want_F1 = np.where(normal, most_F1 / 127, scale_F1)
  np.testing.assert_allclose(scale_F1, want_F1, rtol=1e-6)
  assert np.abs(numbers(q_FD)).max() <= 127
  assert np.isfinite(numbers(scale_1F)).all()


@hypothesis.given(MATRICES)
@hypothesis.example(TINY)
def test_a_weight_of_float8_moves_by_a_16th_of_itself(w_FD):
  """Three bits of mantissa; numbers below 2**-6 have steps of 2**-9."""
  q_FD, scale_1F = quantized.quantize(jnp.asarray(w_FD), 'float8_e4m3fn')
  scale_F1 = np.swapaxes(numbers(scale_1F), -1, -2)
  normal = np.abs(w_FD).max(-1, keepdims=True) > 1e-30
  gap = np.abs(numbers(w_FD) - numbers(q_FD) * scale_F1)
  bound = np.maximum(np.abs(numbers(w_FD)) / 16, scale_F1 * 2.0**-10)
  assert np.all((gap <= bound * (1 + 1e-4)) | ~normal)
  assert np.isfinite(numbers(q_FD)).all()


@pytest.mark.parametrize('dtype', DTYPES)
def test_multiples_of_a_power_of_two_stay_exact(dtype):
  """Each channel has its own power, its largest number and a negative one."""
  rng = np.random.default_rng(0)
  most = int(quantized.LARGEST[dtype])
  # All whole numbers up to 127 are int8's, up to 16 are float8's.
  reach = 127 if dtype == 'int8' else 16
  k_FD = rng.integers(-reach, reach + 1, (6, 9))
  k_FD[:, 3], k_FD[:, 5] = most, -most
  step_F1 = 2.0 ** np.arange(-9, -3)[:, None]
  w_FD = (k_FD * step_F1).astype(np.float32)
  q_FD, scale_1F = quantized.quantize(jnp.asarray(w_FD), dtype)
  assert (numbers(q_FD) == k_FD).all()
  assert (numbers(scale_1F) == step_F1.T).all()


@pytest.mark.parametrize('dtype', DTYPES)
def test_a_channel_of_zeros_stays_zero(dtype):
  q_FD, scale_1F = quantized.quantize(jnp.zeros((2, 3)), dtype)
  assert (numbers(q_FD) == 0).all() and (numbers(scale_1F) == 1).all()


# A product.


@pytest.mark.parametrize('rows', [3, decoder.FEW_ROWS + 1])
def test_a_product_differs_by_half_a_step_a_weight(rows):
  """|x @ (w - q s)| is at most the sum of |x| times half of a scale."""
  rng = np.random.default_rng(1)
  w_FD = rng.normal(size=(24, 40)).astype(np.float32)
  x_BD = rng.normal(size=(rows, 40)).astype(np.float32)
  w = quantized.layers({'q': jnp.asarray(w_FD)}, {'q': 'int8'})
  got_BF = numbers(decoder.linear(jnp.asarray(x_BD), w, 'q'))
  own_FD = dequantized(w, ['q'])['q']
  np.testing.assert_allclose(got_BF, x_BD @ own_FD.T, rtol=0, atol=2e-5)
  bound_BF = np.abs(x_BD).sum(-1)[:, None] * numbers(w['q_scale']) / 2
  gap_BF = np.abs(got_BF - numbers(x_BD) @ numbers(w_FD).T)
  assert (gap_BF <= bound_BF + 2e-5).all() and gap_BF.max() > 1e-3


def test_a_bias_is_added_after_the_scale():
  w = quantized.layers({'q': jnp.full((1, 2), 254.0)}, {'q': 'int8'})
  w['q_bias'] = jnp.array([1.0])
  # Two times 254, and 1.
  assert decoder.linear(jnp.ones((1, 2)), w, 'q') == 509.0


# A model.


@pytest.mark.parametrize('stacked', [True, False])
@pytest.mark.parametrize('dtype', DTYPES)
def test_the_sampler_is_the_float64_decoder_of_the_stored_weights(
  dtype, stacked
):
  """So nothing but the storage differs from a sampler of whole weights."""
  of = quantized.specs(SPECS, dtype)
  layers = jax.tree.map(jnp.asarray, test_engine.PARAMS['layers'])
  layers = quantized.layers(layers, quantized.names(of))
  params = {**test_engine.PARAMS, 'layers': layers}
  groups = test_engine.sample('abAB', params, groups=1, stacked=stacked)
  own = {**params, 'layers': dequantized(layers, quantized.names(of))}
  gaps = []
  for (r,) in groups:
    tokens = [*test_engine.prompt(r.prompt_id).tokens, *r.tokens[:-1]]
    for params, found in ((own, gaps), (test_engine.PARAMS, None)):
      logits = oracles.logits(test_engine.CONFIG, params, np.array(tokens))
      logp = oracles.log_softmax(logits[-len(r.tokens) :])
      want = logp[np.arange(len(r.tokens)), r.tokens]
      if found is None:
        # It is another policy than that of the whole weights.
        assert np.abs(r.full_logp - want).max() > 1e-3
      else:
        np.testing.assert_allclose(r.full_logp, want, rtol=0, atol=1e-5)


def test_experts_read_their_own_scales():
  """Few tokens read each expert once, many take grouped copies."""
  specs = qwen3_moe.param_specs(MOE)
  of = quantized.specs(specs, 'int8')
  assert 'router_scale' not in of['layers'] and 'up_scale' in of['layers']
  names = quantized.names(of)
  stack = jax.tree.map(jnp.asarray, oracles.rough_params(specs)['layers'])
  layers = quantized.layers(stack, names)
  one = lambda tree: {
    n: jnp.asarray(x[0], jnp.float32) for n, x in tree.items()
  }
  plain = one(dequantized(layers, names))
  w = {n: x[0] for n, x in layers.items()}
  for tokens in (3, qwen3_moe.MANY + 1):
    h = jax.random.normal(jax.random.key(2), (tokens, MOE.embed))
    run = functools.partial(qwen3_moe.EXPERTS.apply, MOE, partition.unsplit, h)
    np.testing.assert_allclose(run(w), run(plain), rtol=0, atol=2e-5)


# The way from the train state.


def flat(tree):
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {base.path_name(path): x for path, x in leaves}


@pytest.mark.parametrize('family', ['dense', 'moe'])
@pytest.mark.parametrize('sizes', [(2, 2, 1), (1, 2, 2), (1, 1, 4)])
def test_every_mesh_stores_the_same_bits(sizes, family):
  """Channels are split over tensor, and their scales with them."""
  specs = SPECS if family == 'dense' else qwen3_moe.param_specs(MOE)
  mesh = mesh_lib.make_mesh(**dict(zip(mesh_lib.AXES, sizes)))
  read, size, of = crossing(specs, 'int8', mesh)
  state = oracles.rough_params(specs)
  placed = sharding.param_shardings(specs, mesh)
  got = flat(read(jax.tree.map(jax.device_put, state, placed)))
  want = {
    **state,
    'layers': quantized.layers(
      jax.tree.map(jnp.asarray, state['layers']), quantized.names(of)
    ),
  }
  want = flat(want)
  assert got.keys() == want.keys() == set(flat(serve.placed(of, mesh)))
  for name, x in want.items():
    assert got[name].dtype == x.dtype
    assert np.asarray(got[name]).tobytes() == np.asarray(x).tobytes(), name
  # What the device holds is what its memory was counted for.
  (device,) = jax.devices()[:1]
  held = [
    s.data.nbytes
    for x in got.values()
    for s in x.addressable_shards
    if s.device == device
  ]
  assert sum(held) == size


def test_the_matrices_take_half_the_bytes():
  mesh = mesh_lib.make_mesh(data=4, fsdp=1, tensor=1)
  state = jax.tree.map(jnp.asarray, oracles.rough_params(SPECS))
  sizes = {}
  for dtype in ('', 'int8'):
    read, _, _ = crossing(SPECS, dtype, mesh, compute=jnp.bfloat16)
    found = flat(read(state))
    sizes[dtype] = sum(
      found[f'layers.{n}'].nbytes
      for n, spec in SPECS['layers'].items()
      if spec.role.matrix
    )
  scales = sum(x.nbytes for n, x in found.items() if n.endswith('_scale'))
  channels = sum(
    spec.shape[0] * spec.shape[1]
    for spec in SPECS['layers'].values()
    if spec.role.matrix
  )
  assert sizes['int8'] * 2 == sizes[''] and scales == 4 * channels
  assert found['embed'].dtype == found['head'].dtype == jnp.bfloat16


@pytest.mark.parametrize('devices', [1, 4])
def test_adapters_are_merged_before(devices):
  own = dict(rank=2, alpha=4.0, on='layers.[qo]')
  mesh = (
    test_engine.one_device()
    if devices == 1
    else mesh_lib.make_mesh(data=4, fsdp=1, tensor=1)
  )
  read, _, of = crossing(SPECS, 'int8', mesh, own)
  parts = lora.split(SPECS, **own)
  weights = base.overlaid(
    oracles.rough_params(SPECS), oracles.rough_params(parts.trained, 3)
  )
  weights = jax.tree.map(jnp.asarray, weights)
  got = read(weights)
  if base.are_apart(got):
    got = {
      **got,
      'layers': jax.tree.map(lambda *x: jnp.stack(x), *got['layers']),
    }
  want = lora.merged(weights, scale=parts.scale)['layers']
  assert np.abs(want['q'] - weights['layers']['q']).max() > 0.1
  want = quantized.layers(want, quantized.names(of))
  assert got['layers'].keys() == want.keys() == of['layers'].keys()
  for name, x in want.items():
    gap = np.abs(numbers(got['layers'][name]) - numbers(x))
    # A sum in another order may round a weight to the next step.
    assert gap.max() <= (1 if x.dtype == jnp.int8 else 1e-6), name
    assert (gap > 0).mean() < 0.01 or x.dtype != jnp.int8


@pytest.mark.parametrize('sizes', [(2, 2, 1), (1, 1, 4)])
def test_a_mesh_samples_what_one_device_samples(sizes):
  mesh_engine, _ = test_engine.on_mesh(sizes)
  mesh = mesh_lib.make_mesh(**dict(zip(mesh_lib.AXES, sizes)))
  found = {}
  for name, engine, where in (
    ('one', test_engine.engine(), test_engine.one_device()),
    ('mesh', mesh_engine, mesh),
  ):
    read, _, _ = crossing(SPECS, 'int8', where)
    placed = sharding.param_shardings(SPECS, where)
    params = read(jax.tree.map(jax.device_put, test_engine.PARAMS, placed))
    groups = engine.sample(
      params,
      test_engine.prompts('abAB'),
      groups=2,
      seed=3,
      step=5,
      temperature=test_engine.TEMPERATURE,
    )
    found[name] = test_engine.flat(groups)
  test_engine.assert_close(found['mesh'], found['one'], 1e-5)
