"""Rotary positions: reads them from config.json, and rotates heads.

transformers 4 and 5 write the parameters in different places; both are read
into one dict.
"""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from acereason_jax.models import config_json as fields

# The numbers of each type: the least value of each, and whether it is required.
TYPES = {
  'default': {},
  'linear': {'factor': (1, True)},
  'llama3': {
    'factor': (1, True),
    'low_freq_factor': (0, True),
    'high_freq_factor': (0, True),
  },
  'yarn': {
    'factor': (1, True),
    'attention_factor': (0, False),
    'beta_fast': (0, False),
    'beta_slow': (0, False),
    'mscale': (0, False),
    'mscale_all_dim': (0, False),
  },
}
_ORIGINAL = 'original_max_position_embeddings'


def read(config: Mapping[str, Any]) -> dict[str, Any]:
  """One dict with rope_type and rope_theta, whichever version wrote it.

  It is read as transformers 5 does, with two exceptions: the parameters of a
  layer type count, and no number may be missing, unlikely or text.

  Raises:
    ValueError: one line.
  """
  field, given = _field(config)
  where = f'{field}: '
  kind = given.get('rope_type') or given.get('type') or 'default'
  if not isinstance(kind, str) or kind not in TYPES:
    raise ValueError(
      f'config.json: {where}rope_type={kind!r:.60} is not supported; expected '
      f'one of {", ".join(TYPES)}'
    )
  rope = dict(rope_type=kind)
  holder = given if 'rope_theta' in given else config
  theta = 10000.0
  if 'rope_theta' in holder:
    theta = fields.number(holder, 'rope_theta')
    if theta <= 1:
      raise fields.refused(holder, 'rope_theta', 'a number above 1')
  rope['rope_theta'] = theta
  rope[_ORIGINAL] = context = config['max_position_embeddings']
  # Phi has this field at the top level; transformers reads that place first.
  holder = config if config.get(_ORIGINAL) is not None else given
  if _ORIGINAL in holder and kind in ('llama3', 'yarn'):
    rope[_ORIGINAL] = fields.number(holder, _ORIGINAL, where)
    if rope[_ORIGINAL] < 1:
      raise fields.refused(holder, _ORIGINAL, 'a number from 1', where)
  if kind == 'yarn' and given.get('factor', 0) is None:
    given = {**given, 'factor': context / rope[_ORIGINAL]}
  rope |= _numbers(kind, given, where)
  if kind == 'yarn' and 'truncate' in given:
    rope['truncate'] = fields.flag(given, 'truncate', where)
  if given.get('partial_rotary_factor') not in (None, 1):
    raise fields.refused(given, 'partial_rotary_factor', '1', where)
  return rope


def _numbers(
  kind: str, given: Mapping[str, Any], where: str
) -> dict[str, float]:
  """The numbers that this type of rope needs."""
  found = {}
  for name, (low, needed) in TYPES[kind].items():
    if given.get(name) is not None or needed:
      found[name] = fields.number(given, name, where)
      if found[name] < low:
        raise fields.refused(given, name, f'a number from {low}', where)
  if kind == 'llama3' and found['high_freq_factor'] <= found['low_freq_factor']:
    raise fields.refused(
      given, 'high_freq_factor', 'more than low_freq_factor', where
    )
  return found


def _field(config: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
  """The name of the field of rope parameters, and the dict in it."""
  names = [n for n in ('rope_scaling', 'rope_parameters') if config.get(n)]
  if not names:
    return 'rope_parameters', {}
  first, last = names[0], names[-1]
  if config[first] != config[last]:
    raise fields.refused(
      config, first, f'{last}, which is there too, or one of them'
    )
  given = config[first]
  if isinstance(given, Mapping) and any(
    isinstance(x, Mapping) or k.endswith('_attention') for k, x in given.items()
  ):
    # transformers 5 has a dict for each layer type; this decoder's layers are
    # alike.
    if given.keys() != {'full_attention'}:
      raise fields.refused(config, first, "parameters of 'full_attention' only")
    first, given = f'{first}.full_attention', given['full_attention']
  if not isinstance(given, Mapping):
    raise ValueError(f'config.json: {first}={given!r:.60}; expected an object')
  return first, given


def frequencies(
  rope: Mapping[str, Any], head_dim: int
) -> tuple[np.ndarray, float]:
  """Inverse frequencies, float64 [H/2], and the scale of cos and sin.

  Sources: arXiv 2104.09864; Llama 3.1's piecewise scaling; YaRN,
  arXiv 2309.00071, section 3 (frequencies) and equation 22 (scale).
  """
  theta, kind = rope['rope_theta'], rope['rope_type']
  inverse = theta ** -(np.arange(0, head_dim, 2) / head_dim)
  if kind == 'default':
    return inverse, 1.0
  if kind == 'linear':
    return inverse / rope['factor'], 1.0
  original = rope[_ORIGINAL]
  if kind == 'llama3':
    low, high = rope['low_freq_factor'], rope['high_freq_factor']
    turns = original * inverse / (2 * math.pi)
    keep = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return inverse * (keep + (1 - keep) / rope['factor']), 1.0
  if kind == 'yarn':
    return _yarn(rope, inverse, head_dim, original)
  raise ValueError(
    f'config.json: rope_type={kind!r} is not supported; expected one of '
    f'{", ".join(TYPES)}'
  )


def _yarn(rope, inverse, head_dim, original) -> tuple[np.ndarray, float]:
  factor = rope['factor']

  def dimension(turns: float) -> float:
    ratio = original / (turns * 2 * math.pi)
    return head_dim * math.log(ratio) / (2 * math.log(rope['rope_theta']))

  def scale(mscale: float) -> float:
    return 1.0 if factor <= 1 else 0.1 * mscale * math.log(factor) + 1.0

  low = dimension(rope.get('beta_fast') or 32)
  high = dimension(rope.get('beta_slow') or 1)
  if rope.get('truncate', True):
    low, high = math.floor(low), math.ceil(high)
  low, high = max(low, 0), min(high, head_dim - 1)
  high = high if high != low else high + 0.001
  ramp = np.clip((np.arange(head_dim // 2) - low) / (high - low), 0.0, 1.0)
  attention_factor = rope.get('attention_factor')
  if attention_factor is None:
    mscale, every = rope.get('mscale'), rope.get('mscale_all_dim')
    both = mscale and every
    attention_factor = scale(mscale) / scale(every) if both else scale(1.0)
  return inverse * (1 - ramp) + inverse / factor * ramp, attention_factor


def rotation(
  frequencies: np.ndarray, scale: float, position: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """cos and sin, each [..., 1, H], of positions [...]."""
  angle = position[..., None].astype(jnp.float32) * frequencies
  angle = jnp.concatenate([angle, angle], -1)[..., None, :]
  return jnp.cos(angle) * scale, jnp.sin(angle) * scale


def rotate(x: jax.Array, turn: tuple[jax.Array, jax.Array]) -> jax.Array:
  """x [..., heads, H] rotated by `rotation` in the pairs (i, i + H / 2)."""
  cos, sin = turn
  first, second = jnp.split(x.astype(jnp.float32), 2, -1)
  turned = jnp.concatenate([-second, first], -1)
  return (x * cos + turned * sin).astype(x.dtype)
