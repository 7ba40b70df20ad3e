"""Attention equals float64, in every kernel that can run here.

The oracles loop over queries, or hold a dense mask. Splash and Triton run
interpreted; what they lack is told by the attribute of their kernels. tokamax's
Mosaic GPU kernel cannot run here.
"""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from acereason_jax import mesh as mesh_lib
from acereason_jax import partition
from acereason_jax.kernels import (
  attention,
  attention_gpu,
  attention_tpu,
  pinned,
)
from acereason_jax.models import decoder

HEADS = [(9, 3), (4, 4), (12, 2)]
# Measured: 5e-7.
TOLERANCE = 1e-6


def normal(rng, *shape):
  return rng.normal(size=shape).astype(np.float32)


def packed_row(*segments):
  """(segment_T, prefix_T) of (segment, prefix, length) triples."""
  parts = [np.full((n, 2), (s, p)) for s, p, n in segments]
  return np.concatenate(parts).T.astype(np.int32)


# Two rows of 23: a prompt shared by two rollouts, then a group without a
# prefix; a row that is padding at its end and one with padding inside.
LAYOUT = np.stack(
  [
    packed_row(
      (1, 0, 4), (2, 1, 5), (3, 1, 2), (4, 0, 3), (5, 4, 3), (0, 0, 6)
    ),
    packed_row((1, 0, 6), (0, 0, 3), (2, 1, 7), (3, 0, 7)),
  ],
  axis=1,
)
# Rows of 61: one segment; prompts whose rollouts are blocks away, with segments
# of one token; nothing; padding of more than a block on both sides.
LONG = np.stack(
  [
    packed_row((1, 0, 61)),
    packed_row(
      (1, 0, 3), (2, 1, 20), (3, 1, 1), (4, 1, 9), (5, 0, 1), (6, 5, 27)
    ),
    packed_row((0, 0, 61)),
    packed_row((0, 0, 18), (1, 0, 1), (2, 1, 2), (3, 0, 8), (0, 0, 32)),
  ],
  axis=1,
)
# The same without prefixes.
ALONE = np.stack([LONG[0], 0 * LONG[1]])


def sees(segment_T, prefix_T, t):
  """Indices that query t sees, by the docstring."""
  return [
    s
    for s in range(t + 1)
    if segment_T[s] > 0
    and (segment_T[s] == segment_T[t] or segment_T[s] == prefix_T[t])
  ]


def use_blocks(monkeypatch, size):
  """Walks even the shortest rows in blocks of `size`; 0: as they come."""
  if size:
    monkeypatch.setattr(attention, 'SHORT', 0)
    monkeypatch.setattr(attention, 'BLOCK', (size, size))


def packed(q, k, v, segment, prefix, attend=attention.packed_attention):
  layout = attention.layout(jnp.asarray(segment), jnp.asarray(prefix))
  return attend(q, k, v, layout)


def run_packed(*args):
  # A new jit each time: the size of blocks is read when it is traced.
  return np.asarray(jax.jit(lambda *x: packed(*x))(*args))


def packed_inputs(heads, kv_heads, T, H=8, rows=LAYOUT):
  rng = np.random.default_rng(T)
  segment, prefix = rows[:, :, :T]
  shape = segment.shape
  q, k, v = (normal(rng, *shape, n, H) for n in (heads, kv_heads, kv_heads))
  return q, k, v, segment, prefix


def assert_oracle(got, q, k, v, segment, prefix, tolerance):
  assert got.shape == q.shape
  assert (got[segment == 0] == 0).all()
  for b, t in np.argwhere(segment > 0):
    seen = sees(segment[b], prefix[b], t)
    want = oracles.attend(q[b, t], k[b, seen], v[b, seen])
    np.testing.assert_allclose(got[b, t], want, rtol=0, atol=tolerance)


@pytest.mark.parametrize('heads, kv_heads', HEADS)
@pytest.mark.parametrize('size', [0, 8])
def test_packed_attention_equals_the_oracle(size, heads, kv_heads, monkeypatch):
  use_blocks(monkeypatch, size)
  inputs = packed_inputs(heads, kv_heads, 23)
  assert_oracle(run_packed(*inputs), *inputs, TOLERANCE)


@pytest.mark.parametrize(
  'T, size', [(1, 1), (8, 8), (9, 8), (16, 8), (16, 1), (61, 1), (61, 13)]
)
def test_blocks_change_nothing(T, size, monkeypatch):
  use_blocks(monkeypatch, size)
  inputs = packed_inputs(4, 2, T, rows=LONG)
  assert_oracle(run_packed(*inputs), *inputs, TOLERANCE)


@pytest.mark.parametrize('size', [0, 8])
def test_attention_is_finite_and_scaled_where_scores_are_large(
  size, monkeypatch
):
  # Scores of +-1e4 overflow a softmax that does not subtract its maximum.
  use_blocks(monkeypatch, size)
  q, *rest = packed_inputs(4, 2, 23)
  q *= 3000
  # float32 scores of 1e4 are exact to 1e-3.
  assert_oracle(run_packed(q, *rest), q, *rest, 5e-3)


def dense_mask(segment, prefix):
  mask = np.zeros((*segment.shape, segment.shape[1]), bool)
  for b, t in np.argwhere(segment > 0):
    mask[b, t, sees(segment[b], prefix[b], t)] = True
  return mask


def naive(q, k, v, segment, prefix):
  """The same with one dense mask and repeated heads."""
  mask = dense_mask(segment, prefix)[:, None]
  k, v = (jnp.repeat(x, q.shape[2] // k.shape[2], 2) for x in (k, v))
  scores = jnp.einsum('btnh,bsnh->bnts', q, k) / np.sqrt(q.shape[-1])
  # Padding attends to itself before it is cleared.
  open_mask = mask | np.eye(q.shape[1], dtype=bool)
  probs = jax.nn.softmax(jnp.where(open_mask, scores, -jnp.inf), -1)
  return jnp.einsum('bnts,bsnh->btnh', jnp.where(mask, probs, 0.0), v)


def out_and_gradients(fn, arrays, segment, prefix, cotangent):
  def objective(*x):
    out = fn(*x, segment, prefix)
    return jnp.sum(out * cotangent.astype(out.dtype)), out

  run = jax.value_and_grad(objective, argnums=(0, 1, 2), has_aux=True)
  (_, out), grads = jax.jit(run)(*arrays)
  return [np.asarray(x) for x in (out, *grads)]


def assert_equals_float64(fn, inputs, tolerance, wide=None):
  """Outputs and gradients; padding has exactly none of the latter.

  `wide` gives the oracle other q, k and v, which `inputs` are roundings of.
  """
  q, k, v, segment, prefix = inputs
  # Padding too: its queries must not matter.
  cotangent = normal(np.random.default_rng(1), *q.shape)
  got = out_and_gradients(fn, (q, k, v), segment, prefix, cotangent)
  with jax.enable_x64(True):
    arrays = [np.asarray(x, np.float64) for x in wide or (q, k, v)]
    wide_cotangent = cotangent.astype(np.float64)
    want = out_and_gradients(naive, arrays, segment, prefix, wide_cotangent)
  assert want[0].dtype == np.float64
  for x, y in zip(got, want):
    assert (x[segment == 0] == 0).all()
    assert (x[segment > 0] != 0).any()
    assert oracles.relative_error(x, y) < tolerance


@pytest.mark.parametrize(
  'heads, kv_heads, size', [(9, 3, 0), (9, 3, 8), (4, 4, 12), (12, 2, 1)]
)
def test_packed_gradients_equal_float64(heads, kv_heads, size, monkeypatch):
  use_blocks(monkeypatch, size)
  assert_equals_float64(packed, packed_inputs(heads, kv_heads, 23), TOLERANCE)


@pytest.mark.parametrize('size', [0, 7, 16])
def test_gradients_of_long_rows_equal_float64(size, monkeypatch):
  use_blocks(monkeypatch, size)
  inputs = packed_inputs(4, 2, 61, rows=LONG)
  assert_equals_float64(packed, inputs, TOLERANCE)


def test_blocks_as_they_are_shipped_equal_float64():
  """Three blocks, the last not whole, and prefixes across them."""
  rows = np.stack(
    [
      packed_row((1, 0, 60), (2, 1, 30), (3, 1, 45), (4, 0, 10), (5, 4, 5)),
      packed_row((1, 0, 150)),
    ],
    axis=1,
  )
  assert attention.block_size(150) == 64
  assert_equals_float64(
    packed, packed_inputs(2, 1, 150, rows=rows), 2 * TOLERANCE
  )


@pytest.mark.parametrize('size', [0, 8])
def test_bfloat16_gradients_are_those_of_rounded_inputs(size, monkeypatch):
  """Measured against float64: 0.007; bfloat16 rounds to 0.004."""
  use_blocks(monkeypatch, size)
  *arrays, segment, prefix = packed_inputs(4, 2, 61, rows=LONG)
  narrow = [jnp.asarray(x, jnp.bfloat16) for x in arrays]
  assert_equals_float64(packed, (*narrow, segment, prefix), 0.015, narrow)


@pytest.mark.parametrize('size', [0, 8])
def test_what_padding_holds_changes_no_bit(size, monkeypatch):
  use_blocks(monkeypatch, size)
  *arrays, segment, prefix = packed_inputs(4, 2, 61, rows=LONG)
  real = (segment > 0)[..., None, None]
  cotangent = normal(np.random.default_rng(1), *arrays[0].shape)
  want = out_and_gradients(packed, arrays, segment, prefix, cotangent)
  junk = [np.where(real, x, 1e4) for x in arrays]
  cotangent = np.where(real, cotangent, 1e4)
  got = out_and_gradients(packed, junk, segment, prefix, cotangent)
  for x, y in zip(got, want):
    assert np.isfinite(x).all()
    np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize('size', [0, 8])
def test_a_segment_has_no_gradient_of_another(size, monkeypatch):
  """Nor of tokens after it; of its prefix it has one."""
  use_blocks(monkeypatch, size)
  *arrays, segment, prefix = packed_inputs(4, 2, 61, rows=LONG)
  where = (segment[1] == 4) & (np.arange(61) < 30)
  cotangent = np.zeros(arrays[0].shape, np.float32)
  cotangent[1, where] = 1.0
  _, *grads = out_and_gradients(packed, arrays, segment, prefix, cotangent)
  queries, keys, values = (np.any(g != 0, axis=(2, 3)) for g in grads)
  np.testing.assert_array_equal(queries[1], where)
  for reached in (keys, values):
    np.testing.assert_array_equal(reached[1], where | (segment[1] == 1))
  for reached in (queries, keys, values):
    assert not reached[[0, 2, 3]].any()


@pytest.mark.parametrize('rows', [LAYOUT, LONG])
@pytest.mark.parametrize('size', [1, 4, 8])
def test_layout_lists_the_blocks_that_are_seen(rows, size, monkeypatch):
  use_blocks(monkeypatch, size)
  segment, prefix = rows
  layout = attention.layout(jnp.asarray(segment), jnp.asarray(prefix))
  layout = jax.tree.map(np.asarray, layout)
  mask = dense_mask(segment, prefix)
  B, T = segment.shape
  blocks = -(-T // size)
  pad = blocks * size - T
  mask = np.pad(mask, ((0, 0), (0, pad), (0, pad)))
  seen = mask.reshape(B, blocks, size, blocks, size).any((2, 4))
  for b, i in np.ndindex(B, blocks):
    order, count = layout.order_BIJ[b, i], layout.count_BI[b, i]
    assert sorted(order.tolist()) == list(range(blocks))
    # Exact where blocks are tokens, else at least what is seen.
    want = set(np.flatnonzero(seen[b, i]).tolist())
    assert set(order[:count].tolist()) >= want
    assert set(order[:count].tolist()) == want or size > 1
    # Segments begin where ids change.
    for t in range(T):
      same = segment[b, : t + 1] == segment[b, t]
      first = t + 1 - np.argmin(np.append(same[::-1], False))
      assert layout.start_BT[b, t] == first


def test_blocks_of_other_rollouts_are_left_out(monkeypatch):
  use_blocks(monkeypatch, 8)
  # A prompt of two blocks; six rollouts of two.
  row = packed_row((1, 0, 16), *((s, 1, 16) for s in range(2, 8)))
  layout = attention.layout(*jnp.asarray(row)[:, None])
  assert layout.count_BI[0].tolist() == [1, 2] + [3, 4] * 6
  assert sorted(layout.order_BIJ[0, -1, :4].tolist()) == [0, 1, 12, 13]


def tensors(fn, *args):
  """Elements of each array that a program has before it is optimised."""
  text = jax.jit(fn).lower(*args).as_text()
  shapes = re.findall(r'tensor<((?:\d+x)*)', text)
  return {int(np.prod([int(n) for n in s.split('x')[:-1]])) for s in shapes}


def test_no_array_grows_with_the_square_of_a_row():
  T = 4096
  array = jax.ShapeDtypeStruct((1, T, 2, 8), jnp.float32)
  ids = jax.ShapeDtypeStruct((1, T), jnp.int32)

  def gradients(q, k, v, segment, prefix):
    objective = lambda *x: jnp.sum(packed(*x, segment, prefix))
    return jax.value_and_grad(objective, argnums=(0, 1, 2))(q, k, v)

  def dense(q, k):
    return jnp.sum(jnp.einsum('btnh,bsnh->bnts', q, k))

  # The array of attention without blocks is found.
  assert max(tensors(dense, array, array)) == 2 * T * T
  sizes = tensors(gradients, array, array, array, ids, ids)
  assert max(sizes) == 2 * T * 8


def splash(q, k, v, segment, prefix):
  del prefix
  return attention_tpu.splash(q, k, v, segment, saved='name', interpret=True)


def fused(q, k, v, segment, prefix):
  del prefix
  # Only what `layout` says of segments is read.
  layout = attention.layout(segment, 0 * segment)
  return attention_tpu.fused_splash(
    q, k, v, layout.segment_BT, layout.start_BT, saved='name', interpret=True
  )


LACKS = attention_tpu.fused_lacks()
FUSED = pytest.param(
  fused, marks=pytest.mark.skipif(bool(LACKS), reason=f'needs {LACKS}')
)


def triton(q, k, v, segment, prefix):
  del prefix
  return attention_gpu.triton(q, k, v, segment, interpret=True)


# Rows of 300. Segments that end inside of blocks of 128, one of them a token;
# padding on both sides; one segment; segments that end where blocks do, then
# one of a token; padding between blocks that are nothing else.
SPLASH = np.stack(
  [
    packed_row((1, 0, 100), (2, 0, 90), (3, 0, 1), (4, 0, 109)),
    packed_row((0, 0, 5), (1, 0, 195), (0, 0, 100)),
    packed_row((1, 0, 300)),
    packed_row((1, 0, 128), (2, 0, 128), (3, 0, 1), (4, 0, 43)),
    packed_row((1, 0, 127), (0, 0, 129), (2, 0, 1), (3, 0, 43)),
  ],
  axis=1,
)


def use_splash_blocks(monkeypatch, held=256):
  monkeypatch.setattr(attention_tpu, 'BLOCK', 128)
  monkeypatch.setattr(attention_tpu, 'HELD', held)


@pytest.mark.parametrize('heads, kv_heads', [(6, 2), (2, 2)])
@pytest.mark.parametrize('kernel', [splash, FUSED])
def test_splash_equals_float64(kernel, heads, kv_heads, monkeypatch):
  """Two blocks and a half, filled up; so are heads of 16."""
  use_splash_blocks(monkeypatch)
  inputs = packed_inputs(heads, kv_heads, 300, H=16, rows=SPLASH)
  assert_equals_float64(kernel, inputs, 2 * TOLERANCE)


@pytest.mark.parametrize('kernel', [splash, FUSED])
def test_splash_of_short_rows_equals_float64(kernel):
  inputs = packed_inputs(2, 1, 61, H=16, rows=ALONE)
  assert_equals_float64(kernel, inputs, 2 * TOLERANCE)


# More blocks than the three in which the fused one sums dq, and than the two up
# to which it sums dk and dv elsewhere; blocks held are those multiplied, too.
@pytest.mark.parametrize('kernel', [FUSED])
@pytest.mark.parametrize('held', [128, 256])
def test_long_rows_of_fused_splash_equal_float64(kernel, held, monkeypatch):
  use_splash_blocks(monkeypatch, held)
  rows = np.stack(
    [packed_row((1, 0, 1000)), packed_row((1, 0, 399), (2, 0, 601))], axis=1
  )
  inputs = packed_inputs(2, 1, 1000, H=16, rows=rows)
  assert_equals_float64(kernel, inputs, 2 * TOLERANCE)


@pytest.mark.parametrize('kernel', [FUSED])
def test_fused_splash_in_bfloat16(kernel, monkeypatch):
  """Measured against float64 of the same roundings: 0.006."""
  use_splash_blocks(monkeypatch, 128)
  row = packed_row((1, 0, 1000))[:, None]
  *arrays, segment, prefix = packed_inputs(2, 1, 1000, H=16, rows=row)
  narrow = [jnp.asarray(x, jnp.bfloat16) for x in arrays]
  assert_equals_float64(kernel, (*narrow, segment, prefix), 0.015, narrow)


@pytest.mark.parametrize('kernel', [FUSED])
def test_fused_splash_leaves_out_tiles_of_two_segments(kernel, monkeypatch):
  """0 * NaN is NaN: a tile that is only masked would show it."""
  use_splash_blocks(monkeypatch, 128)
  rows = packed_row((1, 0, 128), (2, 0, 256), (0, 0, 128), (3, 0, 128))
  q, k, v, segment, prefix = packed_inputs(2, 1, 640, H=16, rows=rows[:, None])
  others = (segment != 2)[..., None, None]
  q, k, v = (np.where(others, np.nan, x) for x in (q, k, v))
  cotangent = np.where(others, 0.0, np.ones(q.shape, np.float32))
  out, *grads = out_and_gradients(kernel, (q, k, v), segment, prefix, cotangent)
  for x in (out, *grads):
    assert np.isfinite(x[segment == 2]).all()
  # A part that is not left out does show it.
  out, *_ = out_and_gradients(splash, (q, k, v), segment, prefix, cotangent)
  assert np.isnan(out[segment == 2]).any()


def test_costs_of_fused_splash_by_hand():
  """Rows of 2 x 2 blocks; of the 16 tiles of 2 heads, causality leaves 12."""
  forward, backward = attention_tpu.fused_costs(
    T=1024, heads=2, block=256, held=512, itemsize=2
  )
  tile = 256 * 512
  assert forward.transcendentals == backward.transcendentals == 12 * tile
  # Products of 128: scores and outputs; scores, dv, dprobs, dk and dq.
  assert forward.flops == 12 * tile * 2 * 128 * 2
  assert backward.flops == 12 * tile * 2 * 128 * 5
  # A block of 256 keys and values for each tile; q, out and two of float32.
  assert forward.bytes_accessed == (
    12 * 256 * 128 * (2 + 2) + 2 * 1024 * 128 * (2 + 2 + 4 + 4)
  )
  # For 256 queries: q, dout, dq twice, and two numbers eightfold; k and v, and
  # two gradients in float32, read and written.
  assert backward.bytes_accessed == (
    12 * 256 * (128 * 4 * 2 + 8 * 2 * 4)
    + 2 * 1024 * 128 * (2 + 2 + 4 * (2 + 2))
  )


def test_costs_of_fused_splash_are_causal():
  T = 33792
  exact = 28 * T * (T + 1) // 2
  for cost in attention_tpu.fused_costs(T, 28, 512, 1024, 2):
    assert exact < cost.transcendentals < 1.05 * exact


@pytest.mark.skipif(bool(LACKS), reason=f'needs {LACKS}')
def test_the_compiler_is_told_the_costs_of_fused_splash():
  """As they are of the blocks that are shipped; by Mosaic, for a TPU."""
  T, N = 2048, 3
  array = lambda n: jax.ShapeDtypeStruct((1, T, n, 128), jnp.bfloat16)
  ids = jax.ShapeDtypeStruct((1, T), jnp.int32)

  def gradients(q, k, v, segment):
    kernel = attention.KERNELS['fused_splash'].attend
    attend = functools.partial(packed, attend=kernel, prefix=0 * segment)
    objective = lambda *x: jnp.sum(attend(*x, segment), dtype=jnp.float32)
    return jax.grad(objective, argnums=(0, 1, 2))(q, k, v)

  traced = jax.jit(gradients).trace(array(N), array(1), array(1), ids)
  text = traced.lower(lowering_platforms=('tpu',)).as_text()
  told = re.findall(r'\\22flops\\22: ?(\d+)', text)
  costs = attention_tpu.fused_costs(T, N, 512, 1024, 2)
  assert sorted(map(int, told)) == sorted(cost.flops for cost in costs)


def test_triton_equals_float64():
  rows = np.stack(
    [
      packed_row((1, 0, 100), (2, 0, 39), (3, 0, 1), (4, 0, 10)),
      packed_row((0, 0, 5), (1, 0, 45), (0, 0, 100)),
    ],
    axis=1,
  )
  inputs = packed_inputs(4, 2, 150, H=16, rows=rows)
  assert_equals_float64(triton, inputs, 2 * TOLERANCE)


def kept(attend, policy, inputs, capsys):
  """Computed arrays that the backward pass of a layer is given."""
  q, k, v, segment, prefix = inputs
  layer = lambda *x: jnp.sin(attend(*x, segment, prefix))
  jax.ad_checkpoint.print_saved_residuals(
    jax.checkpoint(layer, policy=policy), q, k, v
  )
  lines = capsys.readouterr().out.splitlines()
  return sum(not re.search('from (the argument|a constant)', x) for x in lines)


def test_outputs_and_normalisers_are_kept_by_name(capsys):
  inputs = packed_inputs(2, 1, 61, H=16, rows=ALONE)
  mesh = mesh_lib.make_mesh(data=2, fsdp=2, tensor=1)
  local = lambda q, k, v, layout: splash(q, k, v, layout.segment_BT, None)
  on_mesh = partition.split_attention(mesh, local)
  cases = [
    (packed, attention.SAVED),
    (splash, 'name'),
    *([] if LACKS else [(fused, 'name')]),
    (functools.partial(packed, attend=on_mesh), 'name'),
  ]
  for attend, name in cases:
    keep = jax.checkpoint_policies.save_only_these_names(name)
    assert kept(attend, keep, inputs, capsys) == 2
    keep = jax.checkpoint_policies.save_only_these_names('another')
    assert kept(attend, keep, inputs, capsys) == 0


# Heads on the axis; a kv head picked; neither fits. All with rows.
MESHES = [
  (dict(data=2, fsdp=1, tensor=2), 4, 2),
  (dict(data=1, fsdp=1, tensor=4), 8, 2),
  (dict(data=1, fsdp=2, tensor=2), 9, 3),
  (dict(data=2, fsdp=2, tensor=1), 4, 2),
]


@pytest.mark.parametrize('sizes, heads, kv_heads', MESHES)
def test_a_mesh_changes_nothing(sizes, heads, kv_heads, monkeypatch):
  use_blocks(monkeypatch, 16)
  mesh = mesh_lib.make_mesh(**sizes)
  attend = partition.split_attention(mesh, attention.packed_attention)
  split = functools.partial(packed, attend=attend)
  inputs = packed_inputs(heads, kv_heads, 61, rows=LONG)
  assert_equals_float64(split, inputs, TOLERANCE)


@pytest.mark.parametrize('sizes, heads, kv_heads', MESHES[1:3])
@pytest.mark.parametrize('kernel', [splash, FUSED])
def test_splash_runs_on_a_mesh(kernel, sizes, heads, kv_heads):
  mesh = mesh_lib.make_mesh(**sizes)
  local = lambda q, k, v, layout: kernel(q, k, v, layout.segment_BT, None)
  attend = partition.split_attention(mesh, local)
  split = functools.partial(packed, attend=attend)
  inputs = packed_inputs(heads, kv_heads, 61, rows=ALONE)
  assert_equals_float64(split, inputs, 2 * TOLERANCE)


@pytest.mark.parametrize('remat', ['dots', 'attention'])
def test_a_model_attends_with_what_it_is_given(remat, monkeypatch):
  """Its gradients too, through scan, remat, a mesh and blocks."""
  config = oracles.tiny_config()
  params = oracles.rough_params(decoder.param_specs(config))
  segment, prefix = LONG
  tokens = np.arange(segment.size).reshape(segment.shape) % config.vocab
  mask = (segment > 0)[..., None]

  def gradients(**kwargs):
    model = decoder.make_model(config, remat=remat, **kwargs)

    def objective(params):
      x = model.apply(params, tokens, 0 * tokens, segment, prefix)
      logits = x @ model.head(params).T
      return jnp.sum(jnp.where(mask, jnp.sin(logits), 0.0))

    return jax.jit(jax.grad(objective))(params)

  want = gradients()
  use_blocks(monkeypatch, 16)
  mesh = mesh_lib.make_mesh(data=2, fsdp=1, tensor=2)
  attend = partition.split_attention(mesh, attention.packed_attention)
  got = gradients(attend=attend, **partition.pins(mesh))
  errors = jax.tree.map(oracles.relative_error, got, want)
  assert max(jax.tree.leaves(errors)) < 1e-5, errors


@pytest.mark.parametrize(
  'installed, capability, dtype, name',
  [
    (True, '9.0', 'bfloat16', 'mosaic_gpu'),
    (True, '9.0', 'float32', 'triton'),
    (True, '8.0', 'bfloat16', 'triton'),
    (True, '12.0', 'bfloat16', 'triton'),
    (True, 'gfx942', 'bfloat16', 'triton'),
    (False, '10.0', 'bfloat16', 'triton'),
  ],
)
def test_auto_is_the_fastest_of_a_gpu(
  installed, capability, dtype, name, monkeypatch
):
  monkeypatch.setattr(pinned, 'has_tokamax', lambda: installed)
  chosen = attention.choose('auto', 'gpu', dtype, capability)
  assert chosen == (name, attention.KERNELS[name])


@pytest.mark.parametrize(
  'installed, new, name',
  [
    (True, True, 'fused_splash'),
    (False, True, 'splash'),
    # That of 3.11 has a splash whose gradients are wrong.
    (True, False, 'splash'),
  ],
)
def test_auto_is_the_fastest_of_a_tpu(installed, new, name, monkeypatch):
  monkeypatch.setattr(pinned, 'has_tokamax', lambda: installed)
  monkeypatch.setattr(pinned, 'NEW', new)
  chosen = attention.choose('auto', 'tpu', 'bfloat16')
  assert chosen == (name, attention.KERNELS[name])
  # A kernel named in the config is used.
  for asked in ('splash', 'xla'):
    chosen = attention.choose(asked, 'tpu', 'bfloat16')
    assert chosen == (asked, attention.KERNELS[asked])


def test_auto_is_plain_jax_on_a_cpu():
  kernels = attention.KERNELS
  assert attention.choose('auto', 'cpu', 'float32') == ('xla', kernels['xla'])
  assert [n for n, kernel in kernels.items() if kernel.prefixes] == ['xla']


def test_a_kernel_that_cannot_run_is_refused(monkeypatch):
  monkeypatch.setattr(pinned, 'has_tokamax', lambda: False)
  with pytest.raises(ValueError, match=r"'fast': expected one of auto, xla"):
    attention.choose('fast', 'cpu', 'float32')
  for name in ('splash', 'fused_splash'):
    with pytest.raises(ValueError, match=r"splash' is for tpu, and this is c"):
      attention.choose(name, 'cpu', 'float32')
  install = r'pip install .tokamax==0\.0\.\d\d.`; or use '
  with pytest.raises(ValueError, match=install + "'triton'"):
    attention.choose('mosaic_gpu', 'gpu', 'bfloat16', '9.0')
  monkeypatch.setattr(pinned, 'NEW', True)
  with pytest.raises(ValueError, match=install + "'splash'"):
    attention.choose('fused_splash', 'tpu', 'bfloat16')
  monkeypatch.setattr(pinned, 'NEW', False)
  with pytest.raises(ValueError, match=r'needs Python 3.12 or newer; or use'):
    attention.choose('fused_splash', 'tpu', 'bfloat16')
  monkeypatch.setattr(pinned, 'has_tokamax', lambda: True)
  with pytest.raises(ValueError, match=r'capability 9\.0 or 10\.0'):
    attention.choose('mosaic_gpu', 'gpu', 'bfloat16', '8.0')
  with pytest.raises(ValueError, match=r"needs bfloat16; or use 'triton'"):
    attention.choose('mosaic_gpu', 'gpu', 'float32', '9.0')


def test_the_pinned_tokamax_is_that_of_the_interpreter(monkeypatch):
  for version, found in (('0.0.1', False), (pinned.TOKAMAX[9:], True)):
    read = lambda name, version=version: version
    monkeypatch.setattr(pinned.importlib.metadata, 'version', read)
    assert pinned.has_tokamax() == found
