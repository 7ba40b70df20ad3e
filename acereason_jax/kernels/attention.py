"""Attention over packed rows, which training uses to score rollouts.

A row holds several segments, and a query sees its own segment up to itself and
one other, its `prefix`: the prompt that the rollouts of a group share. Segment
0 is padding: nothing sees it, and its output is 0.

The kernels of `KERNELS` compute the same, except that only 'xla' knows
prefixes. For the others every rollout needs its own copy of the prompt. None
of them makes an array of T * T elements.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from acereason_jax.kernels import attention_gpu, attention_tpu

# Remat policies keep the values that attention's backward pass needs by this
# name.
SAVED = 'attention'
# Rows of up to this many tokens are one block, and all rows go at once.
SHORT = 128
# The fewest and the most tokens of a block of longer rows. The scores of the
# smallest stay in the cache of a CPU: twice as fast as with 256.
BLOCK = 64, 512
# The number of blocks that a long row should have.
BLOCKS = 64
# Rows of a multiple of so many tokens are whole blocks of every kernel.
WHOLE = math.lcm(BLOCK[1], attention_tpu.BLOCK, attention_gpu.BLOCK)
# Finite, so that no difference of two is NaN.
MASKED = -1e30
# The least maximum of a row of scores. A row that sees nothing has weights of
# 0.
FLOOR = -1e29

_dot = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)


class Layout(NamedTuple):
  """Which tokens see which; int32, B leads; made once for all layers.

  segment_BT: segment of the token; 0 is padding.
  prefix_BT: segment that the token sees in addition to its own; 0 is none.
  start_BT: column where the token's segment begins.
  order_BIJ: for each block of queries all blocks of keys, visible ones first.
  count_BI: for each block of queries how many blocks of keys are visible.
  """

  segment_BT: jax.Array
  prefix_BT: jax.Array
  start_BT: jax.Array
  order_BIJ: jax.Array
  count_BI: jax.Array


Attend = Callable[[jax.Array, jax.Array, jax.Array, Layout], jax.Array]


class Kernel(NamedTuple):
  """One way to compute attention over packed rows.

  attend: attend(q_BTNH, k_BTKH, v_BTKH, layout) -> out_BTNH in q's dtype.
    Scores are scaled by H**-0.5 and normalized in float32.
  prefixes: whether it knows prefixes; if not, it ignores `layout.prefix_BT`.
  platforms: platforms it can run on, by jax's names; () is every one.
  """

  attend: Attend
  prefixes: bool
  platforms: tuple[str, ...]


def choose(
  name: str, platform: str, dtype: str, capability: str = ''
) -> tuple[str, Kernel]:
  """(name, kernel) for a name in `KERNELS` or for 'auto'.

  `platform` is 'tpu', 'gpu' or 'cpu', and `capability` is a GPU's compute
  capability from jax, such as '9.0' on CUDA.

  Raises:
    ValueError: no such kernel, a kernel for other platforms, or one whose
      package is not installed.
  """
  # Kernels that need more than their platform: a function that names what is
  # missing, and the kernel to take instead.
  mosaic_lacks = functools.partial(
    attention_gpu.mosaic_lacks, capability, dtype
  )
  special = {
    'fused_splash': (attention_tpu.fused_lacks, 'splash'),
    'splash': (attention_tpu.splash_lacks, 'xla'),
    'mosaic_gpu': (mosaic_lacks, 'triton'),
    'triton': (attention_gpu.triton_lacks, 'xla'),
  }
  if name == 'auto':
    name = {'tpu': 'fused_splash', 'gpu': 'mosaic_gpu'}.get(platform, 'xla')
    while name in special:
      lacks, plain = special[name]
      if not lacks():
        break
      name = plain
  if name not in KERNELS:
    expected = ', '.join(['auto', *KERNELS])
    raise ValueError(f'attention={name!r}: expected one of {expected}')
  kernel = KERNELS[name]
  if kernel.platforms and platform not in kernel.platforms:
    raise ValueError(
      f'attention={name!r} is for {", ".join(kernel.platforms)}, and this is '
      f"{platform}; use 'auto' or 'xla'"
    )
  lacks, plain = special.get(name, (str, ''))
  if lacking := lacks():
    raise ValueError(f'attention={name!r} needs {lacking}; or use {plain!r}')
  return name, kernel


def layout(segment_BT: jax.Array, prefix_BT: jax.Array) -> Layout:
  """Query t sees key s <= t if segment_s > 0 is segment_t or prefix_t.

  Both int32; prefix 0 is none. The ids of a row do not decrease, except for
  padding. A segment is contiguous, and a prefix comes before the segments that
  name it.
  """
  T = segment_BT.shape[1]
  queries_BT = segment_BT > 0
  own = _range(segment_BT, queries_BT)
  shared = _range(prefix_BT, queries_BT & (prefix_BT > 0))
  visible_BIJ = _overlap(own, own) | _overlap(shared, own)
  visible_BIJ &= jnp.tri(visible_BIJ.shape[1], dtype=bool)
  begins_BT = jnp.diff(segment_BT, axis=1, prepend=segment_BT[:, :1]) != 0
  return Layout(
    segment_BT,
    prefix_BT,
    jax.lax.cummax(jnp.where(begins_BT, jnp.arange(T), 0), axis=1),
    jnp.argsort(~visible_BIJ, axis=2).astype(jnp.int32),
    jnp.sum(visible_BIJ, axis=2, dtype=jnp.int32),
  )


def _range(id_BT, counts_BT):
  """The least and the greatest id of each block that counts, [B, I]."""
  least = jnp.where(counts_BT, id_BT, jnp.iinfo(jnp.int32).max)
  greatest = jnp.where(counts_BT, id_BT, 0)
  least, greatest = (_blocks(x, 1) for x in (least, greatest))
  # The last block is filled up with 0, which is no id.
  least = jnp.where(greatest > 0, least, jnp.iinfo(jnp.int32).max)
  return jnp.min(least, axis=2), jnp.max(greatest, axis=2)


def _overlap(query, key):
  """Whether ranges of query blocks and of key blocks meet, [B, I, J]."""
  (low_BI, high_BI), (low_BJ, high_BJ) = query, key
  return (low_BI[:, :, None] <= high_BJ[:, None]) & (
    low_BJ[:, None] <= high_BI[:, :, None]
  )


def block_size(T: int) -> int:
  """Tokens of a block, for rows of T tokens."""
  if T <= SHORT:
    return T
  return min(max(BLOCK[0], 2 ** (T - 1).bit_length() // BLOCKS), BLOCK[1])


def _blocks(x, axis: int):
  """[.., T, ..] -> [.., I, C, ..], filled up with zeros."""
  T = x.shape[axis]
  C = block_size(T)
  pad = [(0, 0)] * x.ndim
  pad[axis] = 0, -T % C
  shape = x.shape[:axis], x.shape[axis + 1 :]
  return jnp.pad(x, pad).reshape(*shape[0], -1, C, *shape[1])


def packed_attention(
  q_BTNH: jax.Array, k_BTKH: jax.Array, v_BTKH: jax.Array, layout: Layout
) -> jax.Array:
  """'xla': attention in plain JAX, for any platform, [B, T, N, H].

  The backward pass recomputes the scores from each query's log normaliser
  (arXiv 2307.08691). Long rows are computed one by one; each visits only the
  blocks that its own segments make visible.
  """
  B, T, N, H = q_BTNH.shape
  K = k_BTKH.shape[2]
  q_BKMTH = (q_BTNH * H**-0.5).reshape(B, T, K, N // K, H)
  q_BKMTH = q_BKMTH.transpose(0, 2, 3, 1, 4)
  k_BKSH, v_BKSH = (x.transpose(0, 2, 1, 3) for x in (k_BTKH, v_BTKH))
  out_BKMTH = _attend(q_BKMTH, k_BKSH, v_BKSH, layout)
  return out_BKMTH.transpose(0, 3, 1, 2, 4).reshape(B, T, N, H)


@jax.custom_vjp
def _attend(q_BKMTH, k_BKSH, v_BKSH, layout):
  return _attend_forward(q_BKMTH, k_BKSH, v_BKSH, layout)[0]


def _attend_forward(q_BKMTH, k_BKSH, v_BKSH, layout):
  walk = _short_forward if _is_short(layout) else _long_forward
  out_BKMTH, norm_BKMT1 = (
    checkpoint_name(x, SAVED) for x in walk(q_BKMTH, k_BKSH, v_BKSH, layout)
  )
  return out_BKMTH, (q_BKMTH, k_BKSH, v_BKSH, layout, out_BKMTH, norm_BKMT1)


def _attend_backward(residual, dout_BKMTH):
  q_BKMTH, k_BKSH, v_BKSH, layout, out_BKMTH, norm_BKMT1 = residual
  inner_BKMT1 = jnp.sum(
    dout_BKMTH.astype(jnp.float32) * out_BKMTH, -1, keepdims=True
  )
  walk = _short_backward if _is_short(layout) else _long_backward
  queries = q_BKMTH, dout_BKMTH, norm_BKMT1, inner_BKMT1
  return *walk(queries, k_BKSH, v_BKSH, layout), None


_attend.defvjp(_attend_forward, _attend_backward)


def _is_short(layout: Layout) -> bool:
  return layout.count_BI.shape[1] == 1


# The functions below take one block of queries and one of keys. The leading
# dimensions are B, K or only K; C is queries, S keys.


def _bias(query, key):
  """0 where a query sees a key and MASKED elsewhere, [.., 1, 1, C, S].

  Both are (index, segment, prefix) of a block.
  """
  index_C, segment_C, prefix_C = query
  index_S, segment_S, _ = key
  key_1S = jnp.where(segment_S > 0, segment_S, -1)[..., None, :]
  seen_CS = segment_C[..., None] == key_1S
  seen_CS |= prefix_C[..., None] == key_1S
  seen_CS &= index_C[:, None] >= index_S
  bias_CS = jnp.where(seen_CS, 0.0, MASKED)[..., None, None, :, :]
  # Computed once, not again for each head that it is added to.
  return jax.lax.optimization_barrier(bias_CS)


def _scores(q_MCH, k_SH, bias_CS):
  return _dot('...mch,...sh->...mcs', q_MCH, k_SH) + bias_CS


def _forward_block(q_MCH, k_SH, v_SH, bias_CS):
  """A softmax before its division: (largest score, sum of weights, product)."""
  scores_MCS = _scores(q_MCH, k_SH, bias_CS)
  top_MC1 = jnp.max(scores_MCS, axis=-1, keepdims=True, initial=FLOOR)
  weights_MCS = jnp.exp(scores_MCS - top_MC1)
  total_MC1 = jnp.sum(weights_MCS, axis=-1, keepdims=True)
  weights_MCS = weights_MCS.astype(v_SH.dtype)
  return top_MC1, total_MC1, _dot('...mcs,...sh->...mch', weights_MCS, v_SH)


def _merge(one, other):
  """`_forward_block` for the keys of both (arXiv 2205.14135)."""
  top = jnp.maximum(one[0], other[0])
  fades = [jnp.exp(part[0] - top) for part in (one, other)]
  total, product = (one[i] * fades[0] + other[i] * fades[1] for i in (1, 2))
  return top, total, product


def _finish(softmax, dtype):
  """Outputs and log normalisers; 0 and FLOOR for a query that saw nothing.

  The division comes after the product: H numbers per query instead of S.
  """
  top_MC1, total_MC1, product_MCH = softmax
  total_MC1 = jnp.where(total_MC1 > 0, total_MC1, 1.0)
  return (product_MCH / total_MC1).astype(dtype), top_MC1 + jnp.log(total_MC1)


def _backward_block(queries, k_SH, v_SH, bias_CS):
  """dq, dk and dv of this block, float32.

  They are added up over many blocks; in bfloat16 the error would grow with T.
  """
  q_MCH, dout_MCH, norm_MC1, inner_MC1 = queries
  probs_MCS = jnp.exp(_scores(q_MCH, k_SH, bias_CS) - norm_MC1)
  dprobs_MCS = _dot('...mch,...sh->...mcs', dout_MCH, v_SH)
  dscores_MCS = (probs_MCS * (dprobs_MCS - inner_MC1)).astype(q_MCH.dtype)
  probs_MCS = probs_MCS.astype(q_MCH.dtype)
  # Summed over M afterwards: one product over M and C is slower on a CPU.
  of_keys = lambda x_MCS, y_MCH: jnp.sum(
    _dot('...mcs,...mch->...msh', x_MCS, y_MCH), axis=-3
  )
  return (
    _dot('...mcs,...sh->...mch', dscores_MCS, k_SH),
    of_keys(dscores_MCS, q_MCH),
    of_keys(probs_MCS, dout_MCH),
  )


# Short rows are one block.


def _only(layout):
  index_T = jnp.arange(layout.segment_BT.shape[1])
  block = index_T, layout.segment_BT, layout.prefix_BT
  return _bias(block, block)


def _short_forward(q_BKMTH, k_BKSH, v_BKSH, layout):
  softmax = _forward_block(q_BKMTH, k_BKSH, v_BKSH, _only(layout))
  return _finish(softmax, v_BKSH.dtype)


def _short_backward(queries, k_BKSH, v_BKSH, layout):
  grads = _backward_block(queries, k_BKSH, v_BKSH, _only(layout))
  return tuple(x.astype(k_BKSH.dtype) for x in grads)


# Long rows are computed one after the other, only their visible blocks.


def _rows(layout: Layout):
  """((index, segment, prefix), (order, count)) of each row's blocks."""
  B, T = layout.segment_BT.shape
  index_BT = jnp.broadcast_to(jnp.arange(T), (B, T))
  arrays = index_BT, layout.segment_BT, layout.prefix_BT
  visible = layout.order_BIJ, layout.count_BI
  return tuple(_blocks(x, 1) for x in arrays), visible


def _fold(step, state, query, visible, keys):
  """step(state, j, bias_CS) for the key blocks j that one query block sees."""
  order_J, count = visible

  def body(n, state):
    j = order_J[n]
    return step(state, j, _bias(query, [x[j] for x in keys]))

  return jax.lax.fori_loop(0, count, body, state)


def _to_blocks(x_BKTH):
  """[B, .., T, H] -> [B, I, .., C, H]."""
  return jnp.moveaxis(_blocks(x_BKTH, x_BKTH.ndim - 2), -3, 1)


def _from_blocks(x_BIKCH, T: int):
  x = jnp.moveaxis(x_BIKCH, 1, -3)
  return x.reshape(*x.shape[:-3], -1, x.shape[-1])[..., :T, :]


def _long_forward(q_BKMTH, k_BKSH, v_BKSH, layout):
  def one_row(args):
    q_IKMCH, k_JKCH, v_JKCH, (tokens, visible) = args
    shape, dtype = q_IKMCH.shape[1:], v_JKCH.dtype

    def one_block(args):
      q_KMCH, query, visible = args

      def step(softmax, j, bias_CS):
        part = _forward_block(q_KMCH, k_JKCH[j], v_JKCH[j], bias_CS)
        return _merge(softmax, part)

      column = (*shape[:-1], 1)
      nothing = jnp.full(column, FLOOR), jnp.zeros(column), jnp.zeros(shape)
      softmax = _fold(step, nothing, query, visible, tokens)
      return _finish(softmax, dtype)

    return jax.lax.map(one_block, (q_IKMCH, tokens, visible))

  arrays = (_to_blocks(x) for x in (q_BKMTH, k_BKSH, v_BKSH))
  done = jax.lax.map(one_row, (*arrays, _rows(layout)))
  return [_from_blocks(x, q_BKMTH.shape[3]) for x in done]


def _long_backward(queries, k_BKSH, v_BKSH, layout):
  dtype = k_BKSH.dtype

  def one_row(args):
    queries, k_JKCH, v_JKCH, (tokens, visible) = args

    def one_block(grads, args):
      block, query, visible = args

      def step(carry, j, bias_CS):
        part = _backward_block(block, k_JKCH[j], v_JKCH[j], bias_CS)
        dq, dk, dv = carry
        return dq + part[0], dk.at[j].add(part[1]), dv.at[j].add(part[2])

      start = jnp.zeros(block[0].shape), *grads
      dq, *grads = _fold(step, start, query, visible, tokens)
      return tuple(grads), dq.astype(dtype)

    start = tuple(jnp.zeros(x.shape) for x in (k_JKCH, v_JKCH))
    grads, dq = jax.lax.scan(one_block, start, (queries, tokens, visible))
    return dq, *(x.astype(dtype) for x in grads)

  queries = tuple(_to_blocks(x) for x in queries)
  arrays = queries, _to_blocks(k_BKSH), _to_blocks(v_BKSH)
  done = jax.lax.map(one_row, (*arrays, _rows(layout)))
  return [_from_blocks(x, k_BKSH.shape[2]) for x in done]


def _splash(q_BTNH, k_BTKH, v_BTKH, layout):
  return attention_tpu.splash(
    q_BTNH, k_BTKH, v_BTKH, layout.segment_BT, saved=SAVED
  )


def _fused_splash(q_BTNH, k_BTKH, v_BTKH, layout):
  return attention_tpu.fused_splash(
    q_BTNH, k_BTKH, v_BTKH, layout.segment_BT, layout.start_BT, saved=SAVED
  )


def _mosaic(q_BTNH, k_BTKH, v_BTKH, layout):
  return attention_gpu.mosaic(
    q_BTNH, k_BTKH, v_BTKH, layout.segment_BT, layout.start_BT, saved=SAVED
  )


def _triton(q_BTNH, k_BTKH, v_BTKH, layout):
  return attention_gpu.triton(q_BTNH, k_BTKH, v_BTKH, layout.segment_BT)


KERNELS = {
  'xla': Kernel(packed_attention, True, ()),
  'fused_splash': Kernel(_fused_splash, False, ('tpu',)),
  'splash': Kernel(_splash, False, ('tpu',)),
  'mosaic_gpu': Kernel(_mosaic, False, ('gpu',)),
  'triton': Kernel(_triton, False, ('gpu',)),
}
