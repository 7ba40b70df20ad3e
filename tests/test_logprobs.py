"""token_logp equals the naive formula in float64, in far less memory."""

import functools
import math

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from acereason_jax.kernels import logprobs


def inputs(B, T, D, V):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(B, T, D)).astype(np.float32)
  w = (2.0 * rng.normal(size=(V, D)) / np.sqrt(D)).astype(np.float32)
  return x, w, rng.integers(0, V, (B, T)), rng.normal(size=(B, T))


def naive(x_BTD, w_VD, target_BT, temperature):
  logits = jnp.einsum('btd,vd->btv', x_BTD, w_VD) / temperature
  every = jax.nn.log_softmax(logits.astype(jnp.result_type(float)), -1)
  return jnp.take_along_axis(every, target_BT[..., None], -1)[..., 0]


def value_and_grads(logp, x, w, target, cotangent):
  def objective(x, w):
    logp_BT = logp(x, w, target)
    return jnp.sum(logp_BT * cotangent), logp_BT

  run = jax.jit(jax.value_and_grad(objective, argnums=(0, 1), has_aux=True))
  (_, logp_BT), grads = run(x, w)
  return logp_BT, *grads


def float64_oracle(x, w, target, cotangent, temperature):
  with jax.enable_x64(True):
    wide = [np.asarray(a, np.float64) for a in (x, w)]
    fn = functools.partial(naive, temperature=temperature)
    out = value_and_grads(fn, *wide, target, cotangent)
    assert out[0].dtype == np.float64
    return [np.asarray(a) for a in out]


@pytest.mark.parametrize(
  'T, chunk, temperature',
  [(12, 4, 1.0), (13, 4, 0.6), (5, 64, 1.7), (7, 1, 1.0), (1, 1, 1.0)],
)
def test_value_and_gradients_equal_float64(T, chunk, temperature):
  x, w, target, cotangent = inputs(3, T, 16, 77)
  fn = lambda *args: logprobs.token_logp(*args, temperature, chunk)
  got = value_and_grads(fn, x, w, target, cotangent)
  want = float64_oracle(x, w, target, cotangent, temperature)
  assert got[0].dtype == jnp.float32
  for a, b in zip(got, want):
    # Measured: 4e-7.
    assert oracles.relative_error(a, b) < 2e-6


def test_large_logits_do_not_overflow():
  x, w, target, cotangent = inputs(2, 6, 16, 77)
  x *= 300
  fn = lambda *args: logprobs.token_logp(*args, 1.0, 4)
  got = value_and_grads(fn, x, w, target, cotangent)
  want = float64_oracle(x, w, target, cotangent, 1.0)
  assert np.abs(want[0]).max() > 1000
  for a, b in zip(got, want):
    assert oracles.relative_error(a, b) < 1e-5


def test_bfloat16_inputs_give_float32_values():
  # Rounding of x and w aside, nothing may be lost: logits are float32.
  x, w, target, cotangent = inputs(2, 9, 16, 77)
  x, w = (jnp.asarray(a, jnp.bfloat16) for a in (x, w))
  fn = lambda *args: logprobs.token_logp(*args, 1.0, 4)
  logp, dx, dw = value_and_grads(fn, x, w, target, cotangent)
  want = float64_oracle(x, w, target, cotangent, 1.0)
  assert logp.dtype == jnp.float32
  assert oracles.relative_error(logp, want[0]) < 2e-6
  assert (dx.dtype, dw.dtype) == (jnp.bfloat16, jnp.bfloat16)
  for a, b in zip((dx, dw), want[1:]):
    # bfloat16 has 8 bits: 2**-8 is half a unit of the largest number.
    assert oracles.relative_error(a, b) < 2**-7


# T is much longer than a chunk, and V * D smaller than a chunk's logits.
SHAPE = dict(B=2, T=512, D=8, V=300)
CHUNK = 8


def arrays_of(jaxpr):
  """The shape of every value of a jaxpr and of those inside it."""
  for eqn in jaxpr.eqns:
    for var in eqn.outvars:
      yield var.aval.shape
    for inner in jax.extend.core.jaxprs_in_params(eqn.params):
      yield from arrays_of(inner)


def gradient_function(fn):
  return jax.value_and_grad(
    lambda x, w, target: jnp.sum(fn(x, w, target)), argnums=(0, 1)
  )


def largest(fn):
  x, w, target, _ = inputs(**SHAPE)
  closed = jax.make_jaxpr(gradient_function(fn))(x, w, target)
  return max(map(math.prod, arrays_of(closed.jaxpr)))


def temporary_bytes(fn):
  x, w, target, _ = inputs(**SHAPE)
  compiled = jax.jit(gradient_function(fn)).lower(x, w, target).compile()
  return compiled.memory_analysis().temp_size_in_bytes


chunked = lambda *args: logprobs.token_logp(*args, 1.0, CHUNK)
whole = functools.partial(naive, temperature=1.0)


def test_no_array_of_rows_times_vocabulary_exists():
  B, T, D, V = SHAPE.values()
  assert largest(whole) == B * T * V
  assert largest(chunked) <= max(B * CHUNK * V, B * T * D, V * D)


def test_compiled_memory_is_that_of_a_chunk():
  B, T, D, V = SHAPE.values()
  assert temporary_bytes(whole) > 4 * B * T * V
  # Measured: 0.11 MB; the logits of one row are 0.61 MB.
  assert temporary_bytes(chunked) < 4 * (4 * B * CHUNK * V + 4 * B * T * D)
  assert 4 * (4 * B * CHUNK * V + 4 * B * T * D) < 4 * T * V
