"""Attention over pages equals float64, whatever is in unseen positions.

The kernels run interpreted, on the same cases as the plain implementation.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from acereason_jax.kernels import (
  attention,
  paged_attention,
  paged_attention_gpu,
  paged_attention_tpu,
)

IMPLEMENTATIONS = {
  'plain': paged_attention.plain_attention,
  # Page by page.
  'plain, 1': functools.partial(paged_attention.plain_attention, block=1),
  'plain, pages': functools.partial(
    paged_attention.plain_attention, flat=False
  ),
  # Blocks of two pages: rows of several, and of a part of one.
  'tpu': functools.partial(
    paged_attention_tpu.paged_attention, pages=2, interpret=True
  ),
  # Few splits, of several blocks each: interpreted, all take their time.
  'gpu': functools.partial(
    paged_attention_gpu.paged_attention, splits=2, interpret=True
  ),
}
# Query heads, kv heads and their size; published models', whole or a slice.
HEADS = [
  (28, 4, 128),
  (40, 8, 64),
  (12, 2, 128),
  (9, 3, 64),
  (7, 1, 64),
  (7, 1, 128),
]
LAYERS, LAYER, SIZE, TABLE = 2, 1, 16, 6
# (prefix, start, length) of each row; the last two share their prompts' pages.
ROWS = [
  (0, 0, 0),  # an empty slot
  (0, 0, 1),
  (0, 0, SIZE - 1),
  (0, 0, SIZE),
  (0, 0, SIZE + 1),
  (SIZE, SIZE, 2 * SIZE - 1),
  (SIZE, SIZE, 2 * SIZE),
  (20, 2 * SIZE, 2 * SIZE + 1),
  (5, SIZE, SIZE + 3),  # a hole
  (5, SIZE, 5),  # before the first token of a response
  (SIZE + 1, 5 * SIZE, 6 * SIZE),  # pages without any visible token; full
  (0, SIZE, SIZE),  # a length, and nothing that is visible
  (0, SIZE, SIZE + 2),
  (20, 2 * SIZE, 3 * SIZE + 7),
  (20, 2 * SIZE, 2 * SIZE + 9),
]
SHARED = len(ROWS) - 1


def visible(row):
  prefix, start, length = row
  return [p for p in range(length) if p < prefix or p >= start]


def oracle(q_NH, k_SKH, v_SKH):
  """One query over the keys that it sees, in float64: out and lse."""
  (N, H), (S, K, _) = q_NH.shape, k_SKH.shape
  out, lse = np.zeros((N, H)), np.full(N, attention.MASKED)
  if not S:
    return out, lse
  for n in range(N):
    k, v = (x[:, n * K // N].astype(np.float64) for x in (k_SKH, v_SKH))
    scores = k @ q_NH[n].astype(np.float64) / H**0.5
    top = scores.max()
    lse[n] = top + np.log(np.exp(scores - top).sum())
    out[n] = np.exp(scores - lse[n]) @ v
  return out, lse


class Case:
  """Inputs of one call. Whatever no row sees is NaN, or no page at all."""

  def __init__(self, heads, kv_heads, dim, dtype=np.float32, pool=None):
    rng = np.random.default_rng(heads + dim)
    self.q_BNH = rng.normal(size=(len(ROWS), heads, dim)).astype(dtype)
    self.pages = self._pages(rng)
    # Page 0 and the last two are nobody's.
    X = 3 + len(set(itertools.chain(*self.pages)))
    shape = (LAYERS, X, kv_heads, 2, SIZE, dim)
    values = rng.normal(size=shape).astype(pool or dtype)
    self.pool = np.full_like(values, np.nan)
    for b, row in enumerate(ROWS):
      for p in visible(row):
        at = np.s_[LAYER, self.pages[b][p // SIZE], :, :, p % SIZE]
        self.pool[at] = values[at]
    junk = [-7, -1, 0, X - 1, X, 10**9, -(2**31), 2**31 - 1]
    self.table_BP = rng.choice(junk, (len(ROWS), TABLE)).astype(np.int32)
    for b, pages in enumerate(self.pages):
      self.table_BP[b, : len(pages)] = pages
    self.where = [np.array(x, np.int32) for x in zip(*ROWS)]

  def _pages(self, rng):
    """The pages of each row, in no order."""
    counts = [-(-length // SIZE) for _, _, length in ROWS]
    free = (1 + rng.permutation(sum(counts) - 2)).tolist()
    pages = [[free.pop() for _ in range(n)] for n in counts[:SHARED]]
    prompt = pages[-1][:2]
    return [*pages, prompt + free]

  def arguments(self):
    layer = np.int32(LAYER)
    return self.q_BNH, self.pool, layer, self.table_BP, *self.where

  def seen(self, b):
    """(k, v), each [S, K, H], that row b sees."""
    K, H = self.pool.shape[2], self.pool.shape[5]
    entries = [
      self.pool[LAYER, self.pages[b][p // SIZE], :, :, p % SIZE]
      for p in visible(ROWS[b])
    ]
    kv = np.array(entries, np.float64).reshape(-1, K, 2, H)
    return kv[:, :, 0], kv[:, :, 1]


# By what is compiled, as tests put others in place of a name.
compiled = functools.cache(jax.jit)


def run(name, *arguments):
  return [np.asarray(x) for x in compiled(IMPLEMENTATIONS[name])(*arguments)]


def check(name, case, error):
  out, lse = run(name, *case.arguments())
  assert out.dtype == lse.dtype == np.float32
  for b, row in enumerate(ROWS):
    want_out, want_lse = oracle(case.q_BNH[b], *case.seen(b))
    np.testing.assert_allclose(out[b], want_out, rtol=0, atol=error)
    if visible(row):
      np.testing.assert_allclose(lse[b], want_lse, rtol=0, atol=error)
    else:
      assert not out[b].any()
      assert (lse[b] == np.float32(attention.MASKED)).all()


@pytest.mark.parametrize('name', IMPLEMENTATIONS)
@pytest.mark.parametrize('heads, kv_heads, dim', HEADS)
def test_float32_equals_float64(name, heads, kv_heads, dim):
  check(name, Case(heads, kv_heads, dim), 2e-6)


@pytest.mark.parametrize(
  'platform, module',
  [('tpu', paged_attention_tpu), ('gpu', paged_attention_gpu)],
)
def test_what_a_kernel_does_not_serve_plain_jax_does(
  platform, module, monkeypatch
):
  """Pages of 16 and heads of 64 on a TPU; pages of 96 on a GPU."""
  unused = lambda *args, **kwargs: pytest.fail('the kernel was called')
  monkeypatch.setattr(module, 'paged_attention', unused)
  case = Case(4, 2, 64) if platform == 'tpu' else Case(4, 2, 96)
  monkeypatch.setitem(
    IMPLEMENTATIONS,
    platform,
    functools.partial(paged_attention.paged_attention, platform=platform),
  )
  check(platform, case, 2e-6)


@pytest.mark.parametrize('name', IMPLEMENTATIONS)
@pytest.mark.parametrize('pool', [jnp.bfloat16, jnp.float8_e4m3fn])
def test_narrow_pools_are_read_exactly(name, pool):
  # They widen to the float32 of the queries: nothing is rounded.
  check(name, Case(7, 1, 64, pool=pool), 2e-6)


@pytest.mark.parametrize('name', IMPLEMENTATIONS)
@pytest.mark.parametrize('pool', [jnp.bfloat16, jnp.float8_e4m3fn])
def test_bfloat16_equals_float64_up_to_its_rounding(name, pool):
  # Weights and queries have 8 bits.
  check(name, Case(7, 1, 64, jnp.bfloat16, pool), 2e-2)


def assert_same_bits(got, want, rows):
  for x, y in zip(got, want):
    assert x[rows].tobytes() == y[rows].tobytes()


@pytest.mark.parametrize('name', IMPLEMENTATIONS)
def test_a_row_hangs_on_what_it_sees_alone(name):
  """Bit for bit: not on page numbers, junk, slots or the other rows."""
  case = Case(9, 3, 64)
  q, pool, layer, table, *where = case.arguments()
  want = run(name, q, pool, layer, table, *where)
  every = np.arange(len(ROWS))
  moved = np.random.default_rng(1).permutation(pool.shape[1])
  # Page x is now at moved[x]. Junk entries name other junk, or used pages.
  other = moved[np.clip(table, 0, pool.shape[1] - 1)].astype(np.int32)
  got = run(name, q, pool[:, np.argsort(moved)], layer, other, *where)
  assert_same_bits(got, want, every)
  zeros = np.nan_to_num(pool)
  assert_same_bits(run(name, q, zeros, layer, table, *where), want, every)
  back = [x[::-1].copy() for x in (q, table, *where)]
  got = run(name, back[0], pool, layer, *back[1:])
  assert_same_bits([x[::-1] for x in got], want, every)
  for keep in (every % 2 == 0, every == SHARED):
    alone = [np.where(keep, x, 0).astype(np.int32) for x in where]
    got = run(name, q, pool, layer, table, *alone)
    assert_same_bits(got, want, keep)
    assert not got[0][~keep].any()


def test_more_splits_or_cores_or_blocks_are_as_right(monkeypatch):
  case = Case(9, 3, 64)
  gpu, tpu = paged_attention_gpu, paged_attention_tpu
  for name, kernel, options in (
    ('gpu, splits as usual', gpu, dict()),
    ('gpu, blocks of half a page', gpu, dict(splits=3, block=8)),
    ('tpu, 3 cores', tpu, dict(cores=3, pages=1)),
    ('tpu, all pages a block', tpu, dict(buffers=2)),
  ):
    monkeypatch.setitem(
      IMPLEMENTATIONS,
      name,
      functools.partial(kernel.paged_attention, interpret=True, **options),
    )
    check(name, case, 2e-6)


def test_on_a_cpu_the_plain_one_is_taken():
  arguments = Case(9, 3, 64).arguments()
  got = paged_attention.paged_attention(*arguments, platform='cpu')
  want = paged_attention.plain_attention(*arguments)
  assert_same_bits(*[[np.asarray(x) for x in y] for y in (got, want)], ...)


@pytest.mark.parametrize(
  'dim, platform', [(64, 'cpu'), (64, 'tpu'), (96, 'gpu')]
)
def test_only_a_cpu_merges_the_dimensions_of_a_page(dim, platform):
  """A TPU tiles the last two, and would write the whole pool anew."""
  arguments = q_BNH, pool, layer, table_BP, first_B, *_ = Case(
    4, 2, dim
  ).arguments()
  pages = pool.shape[0] * pool.shape[1]
  merged = f'[{pages},{pool.size // pages}]'
  read = functools.partial(paged_attention.paged_attention, platform=platform)
  piece = functools.partial(paged_attention.piece_attention, platform=platform)
  kv = jnp.zeros((len(q_BNH), 1, 2, dim))
  pieces = q_BNH[:, None], kv, kv, pool, layer, table_BP, first_B
  for fn, given in ((read, arguments), (piece, pieces)):
    text = str(jax.make_jaxpr(fn)(*given))
    assert (merged in text) == (platform == 'cpu')


def normal(rng, *shape):
  return rng.normal(size=shape).astype(np.float32)


@pytest.mark.parametrize('heads, kv_heads', [(4, 4), (9, 3), (7, 1)])
def test_own_attention_equals_the_oracle(heads, kv_heads):
  B, T, H = 3, 5, 8
  rng = np.random.default_rng(0)
  q, k, v = (normal(rng, B, n, H) for n in (heads, kv_heads, kv_heads))
  staged = normal(rng, B, kv_heads, 2, T, H)
  own = jax.jit(paged_attention.own_attention)
  for count in range(T + 1):
    # Later tokens are not staged yet.
    cache = staged.copy()
    cache[:, :, :, count:] = 1e4
    out, lse = own(q, k, v, cache, np.int32(count))
    for b in range(B):
      past = staged[b, :, :, :count].transpose(1, 2, 0, 3)
      seen = [np.concatenate([x, new[b][None]]) for x, new in zip(past, (k, v))]
      want_out, want_lse = oracle(q[b], *seen)
      np.testing.assert_allclose(out[b], want_out, rtol=0, atol=2e-6)
      np.testing.assert_allclose(lse[b], want_lse, rtol=0, atol=2e-6)


@pytest.mark.parametrize('heads, kv_heads', [(4, 4), (9, 3), (7, 1)])
def test_pieces_of_a_prompt_equal_the_oracle(heads, kv_heads):
  """Prompts in pages, from any first token on; what is after it is NaN."""
  B, T, H, S, P = 5, 6, 8, 4, 5
  first = np.array([0, 3, 4, 17, 20], np.int32)
  rng = np.random.default_rng(2)
  q, k, v = (normal(rng, B, T, n, H) for n in (heads, kv_heads, kv_heads))
  table = 1 + rng.permutation(B * P).reshape(B, P).astype(np.int32)
  before = normal(rng, B, P * S, kv_heads, 2, H)
  pool = np.full((2, 2 + B * P, kv_heads, 2, S, H), np.nan, np.float32)
  for b in range(B):
    for p in range(first[b]):
      pool[1, table[b, p // S], :, :, p % S] = before[b, p]
    table[b, -(-first[b] // S) :] = 10**9
  got = jax.jit(paged_attention.piece_attention)(
    q, k, v, pool, np.int32(1), table, first
  )
  assert got.dtype == np.float32
  for b in range(B):
    for t in range(T):
      seen = [
        np.concatenate([before[b, : first[b], :, c], new[b, : t + 1]])
        for c, new in enumerate((k, v))
      ]
      want, _ = oracle(q[b, t], *seen)
      np.testing.assert_allclose(got[b, t], want, rtol=0, atol=2e-6)


def test_merged_parts_are_the_whole():
  """Parts without a token weigh nothing, also where scores are large."""
  rng = np.random.default_rng(3)
  q, k, v = normal(rng, 4, 8), normal(rng, 9, 2, 8), normal(rng, 9, 2, 8)
  for scale in (1.0, 300.0):
    for cuts in ((0, 9), (0, 0, 9), (0, 4, 9), (0, 1, 1, 8, 9), (0, 9, 9)):
      parts = [
        [x.astype(np.float32) for x in oracle(scale * q, k[a:b], v[a:b])]
        for a, b in itertools.pairwise(cuts)
      ]
      got = paged_attention.merge(*parts)
      want, _ = oracle(scale * q, k, v)
      # Scores of 300 are float32 to 3e-5.
      np.testing.assert_allclose(got, want, rtol=0, atol=2e-6 * scale)
