"""A tiny decoder with rough parameters, and the same in float64 numpy.

Rough: the usual std of 0.02 gives near-uniform logits, which hide mistakes.
"""

import numpy as np

from acereason_jax.models import base, decoder, qwen3_moe
from acereason_jax.models import rope as rope_lib

DEFAULT_ROPE = dict(
  rope_type='default',
  rope_theta=10000.0,
  original_max_position_embeddings=512,
)


def tiny_config(**changes) -> decoder.DecoderConfig:
  sizes = dict(
    vocab=96,
    layers=2,
    embed=32,
    mlp=48,
    heads=4,
    kv_heads=2,
    head_dim=8,
    norm_epsilon=1e-6,
    tied=False,
    qkv_bias=True,
    qk_norm=True,
    context=512,
    rope=DEFAULT_ROPE,
  )
  return decoder.DecoderConfig(**(sizes | changes))


def tiny_moe_config(**changes) -> qwen3_moe.MoeConfig:
  """24 and 5 experts: a tensor axis divides the one, nothing the other."""
  dense = vars(tiny_config(qkv_bias=False, mlp=24))
  experts = dict(experts=5, picked=2, renormalized=True)
  return qwen3_moe.MoeConfig(**(dense | experts | changes))


def rough_params(specs: base.Tree, seed: int = 0) -> base.Tree:
  """float32 numpy; every leaf matters, logits spread by about 1."""
  rng = np.random.default_rng(seed)

  def one(spec: base.ParamSpec) -> np.ndarray:
    noise = rng.normal(size=spec.shape)
    if spec.std is None:
      noise = 1.0 + 0.3 * noise
    elif spec.std == 0.0:
      noise *= 0.3
    else:
      noise /= np.sqrt(spec.shape[-1])
    return noise.astype(np.float32)

  return base.map_specs(one, specs)


def plain_specs(params: dict[str, np.ndarray]) -> base.Tree:
  """Specs of a few arrays that belong to no model."""

  def one(x):
    role = base.TABLE if x.ndim > 1 else base.VECTOR
    return base.ParamSpec(x.shape, (None,) * x.ndim, None, '', role)

  return {name: one(x) for name, x in params.items()}


def log_softmax(x: np.ndarray) -> np.ndarray:
  x = np.asarray(x, np.float64)
  x = x - x.max(-1, keepdims=True)
  return x - np.log(np.exp(x).sum(-1, keepdims=True))


def attend(q_NH, k_SKH, v_SKH) -> np.ndarray:
  """One query over the keys that it sees, [N, H], in float64."""
  N, H = q_NH.shape
  K = k_SKH.shape[1]
  out = np.zeros((N, H))
  for n in range(N):
    k_SH, v_SH = (
      x[:, n // (N // K)].astype(np.float64) for x in (k_SKH, v_SKH)
    )
    probs_S = np.exp(
      log_softmax(k_SH @ q_NH[n].astype(np.float64) / np.sqrt(H))
    )
    out[n] = probs_S @ v_SH
  return out


def _norm(x, weight, epsilon):
  return x / np.sqrt((x * x).mean(-1, keepdims=True) + epsilon) * weight


def _rotate(x_TNH, inverse, scale):
  """Pairs (i, i + H/2) turned by t * inverse[i]."""
  T, _, H = x_TNH.shape
  out = np.empty_like(x_TNH)
  for i in range(H // 2):
    angle_T1 = np.arange(T)[:, None] * inverse[i]
    a, b = x_TNH[..., i], x_TNH[..., i + H // 2]
    out[..., i] = a * np.cos(angle_T1) - b * np.sin(angle_T1)
    out[..., i + H // 2] = b * np.cos(angle_T1) + a * np.sin(angle_T1)
  return out * scale


def _gated(h, gate, up, down):
  gate = h @ gate.T
  return (gate / (1 + np.exp(-gate)) * (h @ up.T)) @ down.T


def _mlp(c, h_TD, w):
  """Where there is a router: a token after the other, an expert after the
  other, those of the largest probabilities."""
  if 'router' not in w:
    return _gated(h_TD, w['gate'], w['up'], w['down'])
  out_TD = np.zeros_like(h_TD)
  for t, h_D in enumerate(h_TD):
    probs_E = np.exp(log_softmax(w['router'] @ h_D))
    picked = sorted(range(c.experts), key=lambda e: -probs_E[e])[: c.picked]
    total = sum(probs_E[e] for e in picked) if c.renormalized else 1.0
    for e in picked:
      one = _gated(h_D, w['gate'][e], w['up'][e], w['down'][e])
      out_TD[t] += probs_E[e] / total * one
  return out_TD


def logits(c: decoder.DecoderConfig, params, tokens_T) -> np.ndarray:
  """float64 [T, V] of one causal sequence; rope by its tested table."""
  rope = rope_lib.frequencies(c.rope, c.head_dim)
  x_TD = np.asarray(params['embed'], np.float64)[tokens_T]
  T = len(tokens_T)
  for layer in range(c.layers):
    w = {
      k: np.asarray(v[layer], np.float64) for k, v in params['layers'].items()
    }
    h = _norm(x_TD, w['attn_norm'], c.norm_epsilon)
    q, k, v = (
      (h @ w[n].T + w.get(f'{n}_bias', 0.0)).reshape(T, -1, c.head_dim)
      for n in 'qkv'
    )
    if c.qk_norm:
      q = _norm(q, w['q_norm'], c.norm_epsilon)
      k = _norm(k, w['k_norm'], c.norm_epsilon)
    q, k = (_rotate(x, *rope) for x in (q, k))
    out = np.stack([attend(q[t], k[: t + 1], v[: t + 1]) for t in range(T)])
    x_TD = x_TD + out.reshape(T, -1) @ w['o'].T
    h = _norm(x_TD, w['mlp_norm'], c.norm_epsilon)
    x_TD = x_TD + _mlp(c, h, w)
  x_TD = _norm(
    x_TD, np.asarray(params['final_norm'], np.float64), c.norm_epsilon
  )
  head = params['embed'] if c.tied else params['head']
  return x_TD @ np.asarray(head, np.float64).T


def relative_error(got, want) -> float:
  """max |got - want| over max |want|."""
  got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
  return float(np.abs(got - want).max() / np.abs(want).max())
