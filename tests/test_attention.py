"""Attention equals a float64 oracle that loops over queries and heads."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from acereason_jax.kernels import attention

HEADS = [(9, 3), (4, 4), (12, 2)]
# Measured: 3e-7.
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


def sees(segment_T, prefix_T, t):
  """Indices that query t sees, by the docstring."""
  return [
    s
    for s in range(t + 1)
    if segment_T[s] > 0
    and (segment_T[s] == segment_T[t] or segment_T[s] == prefix_T[t])
  ]


def packed(q, k, v, segment, prefix):
  bias = attention.packed_bias(segment, prefix)
  return attention.packed_attention(q, k, v, bias)


def run_packed(*args):
  # A new jit each time: CHUNK is read when it is traced.
  return np.asarray(jax.jit(lambda *x: packed(*x))(*args))


def packed_inputs(heads, kv_heads, T, H=8):
  rng = np.random.default_rng(T)
  q, k, v = (normal(rng, 2, T, n, H) for n in (heads, kv_heads, kv_heads))
  segment, prefix = LAYOUT[:, :, :T]
  return q, k, v, segment, prefix


@pytest.mark.parametrize('heads, kv_heads', HEADS)
def test_packed_attention_equals_the_oracle(heads, kv_heads):
  q, k, v, segment, prefix = packed_inputs(heads, kv_heads, 23)
  got = run_packed(q, k, v, segment, prefix)
  for b, t in np.argwhere(segment > 0):
    seen = sees(segment[b], prefix[b], t)
    want = oracles.attend(q[b, t], k[b, seen], v[b, seen])
    np.testing.assert_allclose(got[b, t], want, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize('T', [1, 8, 9, 23])
def test_chunks_of_queries_change_nothing(T, monkeypatch):
  q, k, v, segment, prefix = packed_inputs(4, 2, T)
  monkeypatch.setattr(attention, 'CHUNK', 8)
  got = run_packed(q, k, v, segment, prefix)
  assert got.shape == q.shape
  for b, t in np.argwhere(segment > 0):
    seen = sees(segment[b], prefix[b], t)
    want = oracles.attend(q[b, t], k[b, seen], v[b, seen])
    np.testing.assert_allclose(got[b, t], want, rtol=0, atol=TOLERANCE)


def test_attention_is_finite_and_scaled_where_scores_are_large():
  # Scores of +-1e4 overflow a softmax that does not subtract its maximum.
  q, k, v, segment, prefix = packed_inputs(4, 2, 23)
  q *= 3000
  got = run_packed(q, k, v, segment, prefix)
  for b, t in np.argwhere(segment > 0):
    seen = sees(segment[b], prefix[b], t)
    want = oracles.attend(q[b, t], k[b, seen], v[b, seen])
    # float32 scores of 1e4 are exact to 1e-3.
    np.testing.assert_allclose(got[b, t], want, rtol=0, atol=5e-3)


@pytest.mark.parametrize('chunk', [256, 12])
def test_padding_is_finite_and_changes_nothing(chunk, monkeypatch):
  monkeypatch.setattr(attention, 'CHUNK', chunk)
  q, k, v, segment, prefix = packed_inputs(4, 2, 23)
  real = segment > 0
  mask = jnp.asarray(real)[..., None, None]

  def objective(q, k, v):
    out = packed(q, k, v, segment, prefix)
    return jnp.sum(jnp.where(mask, jnp.sin(out), 0.0)), out

  run = jax.jit(jax.value_and_grad(objective, argnums=(0, 1, 2), has_aux=True))
  (_, out), grads = run(q, k, v)
  assert np.isfinite(out).all()
  for grad in grads:
    assert np.isfinite(grad).all()
    assert (np.asarray(grad)[~real] == 0).all()
    assert (np.asarray(grad)[real] != 0).any()
  junk = [np.where(real[..., None, None], x, 1e4) for x in (q, k, v)]
  (_, other), same = run(*junk)
  np.testing.assert_array_equal(np.asarray(other)[real], np.asarray(out)[real])
  for x, y in zip(grads, same):
    np.testing.assert_array_equal(np.asarray(x)[real], np.asarray(y)[real])


def naive(q, k, v, segment, prefix):
  """The same with one dense mask and repeated heads."""
  T, times = q.shape[1], q.shape[2] // k.shape[2]
  mask = np.zeros((len(q), 1, T, T), bool)
  for b, t in np.argwhere(segment > 0):
    mask[b, 0, t, sees(segment[b], prefix[b], t)] = True
  # Padding attends to itself here: any value, as its cotangent is 0.
  mask |= np.eye(T, dtype=bool)
  k, v = (jnp.repeat(x, times, 2) for x in (k, v))
  scores = jnp.einsum('btnh,bsnh->bnts', q, k) / np.sqrt(q.shape[-1])
  probs = jax.nn.softmax(jnp.where(mask, scores, -jnp.inf), -1)
  return jnp.einsum('bnts,bsnh->btnh', probs, v)


@pytest.mark.parametrize(
  'heads, kv_heads, chunk', [(9, 3, 8), (4, 4, 12), (12, 2, 256)]
)
def test_packed_gradients_equal_float64(heads, kv_heads, chunk, monkeypatch):
  monkeypatch.setattr(attention, 'CHUNK', chunk)
  q, k, v, segment, prefix = packed_inputs(heads, kv_heads, 23)
  cotangent = normal(np.random.default_rng(1), *q.shape)
  cotangent *= (segment > 0)[..., None, None]

  def gradients(fn, *qkv):
    objective = lambda *x: jnp.sum(fn(*x, segment, prefix) * cotangent)
    return jax.jit(jax.grad(objective, argnums=(0, 1, 2)))(*qkv)

  got = gradients(packed, q, k, v)
  with jax.enable_x64(True):
    want = gradients(naive, *(x.astype(np.float64) for x in (q, k, v)))
    assert want[0].dtype == np.float64
    want = [np.asarray(x) for x in want]
  for x, y in zip(got, want):
    assert oracles.relative_error(x, y) < TOLERANCE
