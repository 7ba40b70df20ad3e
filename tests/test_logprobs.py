"""token_logp equals the naive formula in float64, in far less memory."""

import functools
import math
import pathlib
import re
import subprocess
import sys
from typing import NamedTuple

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
import tiny

from acereason_jax.kernels import logprobs

TEMPERATURE = 0.8


def inputs(B, T, D, V):
  """x, w, target, cotangent of logp."""
  rng = np.random.default_rng(0)
  x = rng.normal(size=(B, T, D)).astype(np.float32)
  w = (2.0 * rng.normal(size=(V, D)) / np.sqrt(D)).astype(np.float32)
  target = rng.integers(0, V, (B, T)).astype(np.int32)
  return x, w, target, rng.normal(size=(B, T)).astype(np.float32)


def value_and_grads(fn, x, w, target, cotangent):
  """(logp, entropy, dx, dw); the entropy's cotangent is not 0 either."""

  def objective(x, w):
    logp_BT, entropy_BT = fn(x, w, target)
    total = jnp.sum(logp_BT * cotangent) + entropy_BT.sum()
    return total, (logp_BT, entropy_BT)

  grads, values = jax.grad(objective, argnums=(0, 1), has_aux=True)(x, w)
  return *values, *grads


@functools.cache
def jitted(temperature, chunk):
  fn = lambda *args: logprobs.token_logp(*args, temperature, chunk)
  return jax.jit(functools.partial(value_and_grads, fn))


def run(temperature, chunk, *args):
  return jitted(temperature, chunk)(*args)


def value_and_both_grads(
  x, w, target, cotangent, slope, temperature, chunk, placed=None
):
  """(logp, entropy, dx, dw), the entropy with a gradient of its own."""

  def objective(x, w):
    logp_BT, entropy_BT = logprobs.token_logp(
      x, w, target, temperature, chunk, placed, entropy_gradient=True
    )
    total = jnp.sum(logp_BT * cotangent + entropy_BT * slope)
    return total, (logp_BT, entropy_BT)

  grads, values = jax.grad(objective, argnums=(0, 1), has_aux=True)(x, w)
  return *values, *grads


both_grads = jax.jit(value_and_both_grads, static_argnums=6)


def naive64(x, w, target, cotangent, slope, temperature):
  """The same by jax.grad of the plain formula in float64."""

  def objective(x, w):
    logp_BT, entropy_BT = naive(x / temperature, w, target)
    total = jnp.sum(logp_BT * cotangent + entropy_BT * slope)
    return total, (logp_BT, entropy_BT)

  with jax.enable_x64(True):
    x, w, cotangent, slope = (
      jnp.asarray(a, jnp.float64) for a in (x, w, cotangent, slope)
    )
    run = jax.jit(jax.grad(objective, argnums=(0, 1), has_aux=True))
    grads, values = run(x, w)
    assert {a.dtype for a in (*values, *grads)} == {jnp.dtype(jnp.float64)}
    return jax.device_get((*values, *grads))


def slope_of(cotangent):
  """The cotangent of the entropy, which differs from that of logp."""
  return np.roll(cotangent, 1, axis=-1) * 0.7


def oracle(x, w, target, cotangent, temperature):
  """The same in float64, by hand."""
  x, w = (np.asarray(a, np.float64) for a in (x, w))
  every = oracles.log_softmax(np.einsum('btd,vd->btv', x, w) / temperature)
  probs = np.exp(every)
  hit = target[..., None] == np.arange(len(w))
  slope = cotangent[..., None] * (hit - probs) / temperature
  return (
    np.where(hit, every, 0.0).sum(-1),
    -(probs * every).sum(-1),
    np.einsum('btv,vd->btd', slope, w),
    np.einsum('btv,btd->vd', slope, x),
  )


def assert_close(got, want, tolerance=2e-6):
  # Measured: 5e-7.
  for a, b in zip(got, want, strict=True):
    assert a.shape == b.shape
    assert oracles.relative_error(a, b) < tolerance


@pytest.mark.parametrize(
  'V, chunk, temperature',
  [
    (77, 4, 1.0),
    (77, 10, 0.6),
    (77, 76, 1.7),
    (77, 77, 1.0),
    (5, 64, 1.0),
    (6, 1, 1.0),
    (64, 16, 0.3),
  ],
)
def test_values_and_gradients_equal_float64(V, chunk, temperature):
  args = inputs(3, 7, 16, V)
  got = run(temperature, chunk, *args)
  assert {a.dtype for a in got} == {jnp.dtype(jnp.float32)}
  assert_close(got, oracle(*args, temperature))


@pytest.mark.parametrize('V, chunk', [(24, 8), (27, 8), (23, 8)])
def test_every_target_at_every_edge_of_a_chunk(V, chunk):
  x, w, _, cotangent = inputs(2, V, 16, V)
  target = np.tile(np.arange(V), (2, 1))
  got = run(1.0, chunk, x, w, target, cotangent)
  assert_close(got, oracle(x, w, target, cotangent, 1.0))


@pytest.mark.parametrize('size', [1e4, -1e4])
def test_extreme_logits(size):
  # One token a row whose logit towers or drowns, in the first, odd chunk, in
  # the last or not at all; it is the target or not.
  V = 21
  x = np.ones((1, 8, 1), np.float32)
  logits = np.random.default_rng(1).normal(size=V).astype(np.float32)
  for place in (0, 4, 5, 20):
    w = logits.copy()
    w[place] = size
    target = np.array([[0, 1, 4, 5, 9, 10, 19, 20]])
    cotangent = np.ones((1, 8), np.float32)
    got = run(1.0, 5, x, w[:, None], target, cotangent)
    want = oracle(x, w[:, None], target, cotangent, 1.0)
    assert np.abs(want[0]).max() > 5000
    for a, b in zip(got, want, strict=True):
      # float32 of 1e4 has steps of 1e-3.
      np.testing.assert_allclose(a, b, rtol=1e-6, atol=2e-3)


def test_equal_logits_far_from_zero():
  V = 21
  for size in (1e4, -1e4):
    w = np.full((V, 1), size, np.float32)
    args = np.ones((1, 1, 1), np.float32), w, np.array([[3]]), np.ones((1, 1))
    logp, entropy, _, _ = run(1.0, 5, *args)
    assert logp == pytest.approx(-math.log(V), abs=1e-3)
    # Made of differences: nothing of the size is lost.
    assert entropy == pytest.approx(math.log(V), rel=1e-6)


def test_large_logits_do_not_overflow():
  x, w, target, cotangent = inputs(2, 6, 16, 77)
  x *= 300
  got = run(1.0, 10, x, w, target, cotangent)
  want = oracle(x, w, target, cotangent, 1.0)
  assert np.abs(want[0]).max() > 1000
  for a, b in zip((got[0], *got[2:]), (want[0], *want[2:])):
    assert oracles.relative_error(a, b) < 1e-5
  np.testing.assert_allclose(got[1], want[1], atol=1e-4)


def test_no_gradient_flows_through_the_entropy():
  x, w, target, _ = inputs(2, 6, 16, 77)
  entropy = lambda x, w: logprobs.token_logp(x, w, target, 1.0, 10)[1].sum()
  for grad in jax.jit(jax.grad(entropy, argnums=(0, 1)))(x, w):
    np.testing.assert_array_equal(grad, 0.0)


@pytest.mark.parametrize(
  'V, chunk, temperature',
  [(77, 10, 0.6), (77, 76, 1.7), (77, 77, 1.0), (5, 64, 1.0), (6, 1, 0.85)],
)
def test_the_entropys_gradient_equals_float64(V, chunk, temperature):
  x, w, target, cotangent = inputs(3, 7, 16, V)
  # Gradients of the entropy only, and of both.
  for other in (0 * cotangent, cotangent):
    args = x, w, target, other, slope_of(cotangent), temperature
    got = both_grads(*args, chunk)
    assert {a.dtype for a in got} == {jnp.dtype(jnp.float32)}
    assert_close(got, naive64(*args))


def test_the_entropys_gradient_by_hand():
  # For two tokens whose logits differ by d, H' = -d p (1 - p).
  x, w = np.ones((1, 1, 1), np.float32), np.float32([[1.0], [0.0]])
  args = x, w, np.array([[0]]), np.zeros((1, 1)), np.ones((1, 1)), 1.0
  *_, dw = both_grads(*args, 1)
  p = 1 / (1 + math.exp(-1))
  np.testing.assert_allclose(dw[:, 0], [-p * (1 - p), p * (1 - p)], rtol=1e-6)
  # As flat as can be: there is nowhere to go.
  *_, dw = both_grads(x, 0 * w, *args[2:], 1)
  np.testing.assert_allclose(dw, 0.0, atol=1e-7)


def test_the_entropys_gradient_of_extreme_logits_is_finite_and_right():
  V = 21
  x = np.ones((1, 4, 1), np.float32)
  for size in (1e4, -1e4):
    w = np.random.default_rng(1).normal(size=(V, 1)).astype(np.float32)
    w[5] = size
    args = x, w, np.array([[0, 4, 5, 20]]), np.zeros((1, 4)), np.ones((1, 4))
    got, want = both_grads(*args, 1.0, 5), naive64(*args, 1.0)
    for a, b in zip(got, want, strict=True):
      assert np.isfinite(a).all()
      # In dx = sum w dlogits, terms of 1e4 cancel; float32 of 1e4 is 1e-3.
      np.testing.assert_allclose(a, b, rtol=1e-5, atol=5e-3)


def test_bfloat16_inputs_and_the_entropys_gradient():
  x, w, target, cotangent = inputs(2, 9, 16, 77)
  x, w = (jnp.asarray(a, jnp.bfloat16) for a in (x, w))
  args = x, w, target, cotangent, slope_of(cotangent), 0.8
  *values, dx, dw = both_grads(*args, 10)
  want = naive64(*args)
  assert_close(values, want[:2])
  assert (dx.dtype, dw.dtype) == (jnp.bfloat16, jnp.bfloat16)
  for a, b in zip((dx, dw), want[2:]):
    assert oracles.relative_error(a, b) < 2**-7


def test_without_it_nothing_is_kept_or_computed_for_the_entropys_gradient():
  args = inputs(2, 6, 16, 77)[:3]

  def kept(entropy_gradient):
    fn = lambda x, w: logprobs.token_logp(
      x, w, args[2], 0.8, 10, entropy_gradient=entropy_gradient
    )
    _, back = jax.vjp(fn, *args[:2])
    return [x.shape for x in jax.tree.leaves(back) if jnp.shape(x) == (2, 6)]

  # The target and the norm; then the entropy too.
  assert (len(kept(False)), len(kept(True))) == (2, 3)


@pytest.mark.parametrize('temperature', [0.6, 0.85, 1.0, 1.3])
def test_a_traced_temperature_gives_the_bits_of_a_constant(temperature):
  args = inputs(2, 9, 16, 77)
  traced = jax.jit(
    lambda temperature, *args: value_and_grads(
      lambda *a: logprobs.token_logp(*a, temperature, 10), *args
    )
  )
  for a, b in zip(
    traced(np.float32(temperature), *args), run(temperature, 10, *args)
  ):
    np.testing.assert_array_equal(a, b)


def test_another_temperature_is_not_traced_again():
  traces = []
  args = inputs(2, 9, 16, 77)

  @jax.jit
  def fn(temperature, x, w, target, cotangent):
    traces.append(temperature)
    of = lambda *a: logprobs.token_logp(*a, temperature, 10)
    return value_and_grads(of, x, w, target, cotangent)

  for temperature in (0.6, 1.0, 1.7):
    got = fn(np.float32(temperature), *args)
    assert_close(got, oracle(*args, temperature))
  assert len(traces) == 1


def test_a_tied_head_gets_both_gradients():
  _, w, target, cotangent = inputs(2, 6, 16, 77)
  tokens = np.random.default_rng(3).integers(0, 77, (2, 6))

  def objective(w):
    logp_BT, _ = logprobs.token_logp(w[tokens], w, target, 1.0, 10)
    return jnp.sum(logp_BT * cotangent)

  _, _, dx, dw = oracle(w[tokens], w, target, cotangent, 1.0)
  np.add.at(dw, tokens, dx)
  assert_close([jax.jit(jax.grad(objective))(w)], [dw])


def test_bfloat16_inputs_give_float32_values():
  # Rounding of x and w aside, nothing may be lost: logits are float32.
  x, w, target, cotangent = inputs(2, 9, 16, 77)
  x, w = (jnp.asarray(a, jnp.bfloat16) for a in (x, w))
  *values, dx, dw = run(1.0, 10, x, w, target, cotangent)
  want = oracle(x, w, target, cotangent, 1.0)
  assert {a.dtype for a in values} == {jnp.dtype(jnp.float32)}
  assert_close(values, want[:2])
  assert (dx.dtype, dw.dtype) == (jnp.bfloat16, jnp.bfloat16)
  for a, b in zip((dx, dw), want[2:]):
    # bfloat16 has 8 bits: 2**-8 is half a unit of the largest number.
    assert oracles.relative_error(a, b) < 2**-7


def test_a_float32_head_is_read_as_bfloat16_and_has_a_float32_gradient():
  x, w, target, cotangent = inputs(2, 9, 16, 77)
  x, narrow = (jnp.asarray(a, jnp.bfloat16) for a in (x, w))
  got = run(1.0, 10, x, w, target, cotangent)
  same = run(1.0, 10, x, narrow, target, cotangent)
  for a, b in zip(got[:3], same[:3]):
    np.testing.assert_array_equal(a, b)
  assert got[3].dtype == jnp.float32
  np.testing.assert_array_equal(got[3].astype(jnp.bfloat16), same[3])
  assert (got[3] != same[3]).any()


# Many chunks, and nothing else is as large as the logits.
SHAPE = dict(B=2, T=256, D=32, V=600)
CHUNK = 32


def arrays_of(jaxpr):
  """The shape of every value of a jaxpr and of those inside it."""
  for eqn in jaxpr.eqns:
    for var in eqn.outvars:
      yield var.aval.shape
    for inner in jax.extend.core.jaxprs_in_params(eqn.params):
      yield from arrays_of(inner)


def naive(x_BTD, w_VD, target_BT):
  every = jax.nn.log_softmax(jnp.einsum('BTD,VD->BTV', x_BTD, w_VD), -1)
  logp_BT = jnp.take_along_axis(every, target_BT[..., None], -1)[..., 0]
  return logp_BT, -(jnp.exp(every) * every).sum(-1)


def chunked(*args):
  return logprobs.token_logp(*args, 1.0, CHUNK)


def largest(fn):
  run = functools.partial(value_and_grads, fn)
  closed = jax.make_jaxpr(run)(*inputs(**SHAPE))
  return max(map(math.prod, arrays_of(closed.jaxpr)))


def temporary_bytes(fn, V):
  run = jax.jit(functools.partial(value_and_grads, fn))
  compiled = run.lower(*inputs(**SHAPE | dict(V=V))).compile()
  return compiled.memory_analysis().temp_size_in_bytes


def test_no_array_of_rows_times_vocabulary_exists():
  B, T, D, V = SHAPE.values()
  assert largest(naive) == B * T * V
  assert largest(chunked) == max(B * T * CHUNK, V * D)


@pytest.mark.parametrize('V', [600, 2400])
def test_compiled_memory_is_as_documented_and_does_not_grow_with_V(V):
  B, T, D, _ = SHAPE.values()
  assert temporary_bytes(naive, V) > 4 * B * T * V
  N, C = B * T, CHUNK
  # Measured: 0.9 of it. And of [B, T] there are some numbers too.
  most = 8 * (N * D + N * C) + 12 * C * D + 40 * N
  assert temporary_bytes(chunked, V) < most
  assert most < 4 * B * T * 600 / 4


# Meshes.


class Case(NamedTuple):
  """mesh is (data, fsdp, tensor, sequence)."""

  mesh: tuple[int, int, int, int]
  B: int
  T: int
  D: int
  V: int
  chunk: int
  entropy_gradient: bool = False

  @property
  def name(self):
    both = ('both',) if self.entropy_gradient else ()
    return '-'.join(map(str, (*self.mesh, self.D, self.V, *both)))


# 77 is odd, and 18 no multiple of 4; at the last, one of the two is divided.
MESH_CASES = [
  Case(mesh, 8, 8, D, V, 24)
  for mesh in (
    *((8, 1, 1, 1), (1, 8, 1, 1), (1, 4, 2, 1), (2, 2, 2, 1), (1, 1, 8, 1)),
    *((1, 1, 1, 8), (1, 2, 2, 2), (2, 1, 1, 4)),
  )
  for D, V in ((16, 80), (18, 77))
]
MESH_CASES += [
  Case((1, 4, 2, 1), 8, 8, D, V, 24) for D, V in ((16, 77), (18, 80))
]
MESH_CASES += [
  Case(mesh, 8, 8, D, V, 24, entropy_gradient=True)
  for mesh, D, V in (
    ((8, 1, 1, 1), 16, 77),
    ((1, 1, 8, 1), 16, 80),
    ((2, 2, 2, 1), 18, 80),
    ((1, 2, 2, 2), 16, 80),
    ((1, 2, 2, 2), 18, 77),
  )
]
LARGE = Case((2, 2, 2, 1), 8, 64, 32, 1100, 60)


@pytest.fixture(scope='module')
def on_meshes(tmp_path_factory):
  directory = tmp_path_factory.mktemp('meshes')
  script = pathlib.Path(__file__).parent / 'mesh_logprobs.py'
  environment = tiny.environment(directory / 'cache')
  command = [sys.executable, str(script), str(directory)]
  done = subprocess.run(
    command, env=environment, capture_output=True, text=True, timeout=300
  )
  assert done.returncode == 0, done.stderr
  return directory


@functools.cache
def on_one_device(case):
  args = inputs(case.B, case.T, case.D, case.V)
  if case.entropy_gradient:
    return both_grads(*args, slope_of(args[-1]), TEMPERATURE, case.chunk)
  return run(TEMPERATURE, case.chunk, *args)


@pytest.mark.parametrize('case', MESH_CASES, ids=lambda case: case.name)
def test_any_mesh_gives_what_one_device_does(on_meshes, case):
  with np.load(on_meshes / f'{case.name}.npz') as file:
    got = [file[name] for name in file.files]
  args = inputs(case.B, case.T, case.D, case.V)
  if case.entropy_gradient:
    want = naive64(*args, slope_of(args[-1]), TEMPERATURE)
  else:
    want = oracle(*args, TEMPERATURE)
  assert_close(got, want)
  assert_close(got, on_one_device(case._replace(mesh=(1, 1, 1))))


def test_on_a_mesh_neither_head_nor_gradient_nor_logits_are_ever_whole(
  on_meshes,
):
  data, fsdp, tensor, _ = LARGE.mesh
  tokens = LARGE.B * LARGE.T // (data * fsdp)
  rows = LARGE.V // tensor
  chunk = LARGE.chunk * LARGE.D
  assert rows % LARGE.chunk
  sizes, sent = [], {}
  for line in (on_meshes / 'large.hlo').read_text().splitlines():
    if found := re.match(r'\s+(?:ROOT )?%?[\w.\-]+ = (.*?) ([\w\-]+)\(', line):
      arrays = re.findall(r'\w+\[([\d,]+)\]', found[1])
      here = [math.prod(map(int, dims.split(','))) for dims in arrays]
      sizes += here
      sent.setdefault(found[2], []).extend(here)
  assert max(sizes) < rows * LARGE.D < tokens * rows
  assert max(sizes) == max(tokens * LARGE.chunk, rows * LARGE.D // fsdp)
  assert max(sent['all-gather']) == chunk
  assert max(sent['reduce-scatter']) == chunk // fsdp
  # The gradient of x, once; the others are of [B, T] or of a chunk.
  assert max(sent['all-reduce']) == tokens * LARGE.D
  assert sorted(sent['all-reduce'])[-2] <= chunk // fsdp
  assert not sent.keys() & {'all-to-all', 'collective-permute'}
