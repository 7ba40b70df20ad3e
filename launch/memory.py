"""The least memory that a run takes of a device, reckoned without jax.

It is a lower bound, from the number of parameters alone: what it refuses
cannot fit, and what it lets pass may still not.
"""

import json
import math
import pathlib
import re
from collections.abc import Mapping
from typing import Any

from acereason_jax.machines import Hardware

_MAX_BYTES = 1 << 20
# float32: the parameter, its gradient and two moments of the optimizer.
_TRAINED = 16
_DTYPES = {'float32': 4, 'bfloat16': 2}
GB = 1e9


def verdict(config: Any, hardware: Hardware, mesh: Mapping[str, int]) -> str:
  """A line that says what the weights take, and whether that fits.

  Raises:
    ValueError: it cannot fit.
  """
  size = parameters(config.model)
  if hardware.kind.platform == 'cpu':
    return 'not reckoned: processes share the memory of this machine'
  if size is None:
    return f'not reckoned: the size of {config.model!r} is not known here'
  if config.lora.rank:
    return 'not reckoned: only adapters are trained'
  count, source = size
  whole = math.prod(mesh[axis] for axis in ('fsdp', 'sequence', 'tensor'))
  trained = _TRAINED * count / whole
  sampling = _DTYPES[config.dtype] * count / mesh['tensor']
  room = hardware.kind.memory * float(
    hardware.kind.flags.get('XLA_PYTHON_CLIENT_MEM_FRACTION', 1)
  )
  need = trained + sampling
  told = (
    f'{count / 1e9:.3g}B parameters ({source}): {trained / GB:.1f} GB trained, '
    f'{sampling / GB:.1f} GB to sample with, of {room / GB:.1f} GB a device'
  )
  if need >= room:
    raise ValueError(
      f'--hardware={hardware.text}: {told}: does not fit; give more devices, '
      'or a larger config.mesh.tensor'
    )
  return f'{told}; {(room - need) / GB:.1f} GB left for all else'


def parameters(model: str) -> tuple[float, str] | None:
  """(number of parameters, where that is from); None if it is not known."""
  try:
    with (pathlib.Path(model) / 'config.json').open('rb') as file:
      return counted(json.loads(file.read(_MAX_BYTES))), 'config.json'
  except (OSError, ValueError, KeyError, TypeError, RecursionError):
    pass
  if match := re.search(
    r'(?<![\w.])(\d+(?:\.\d+)?)([BbMm])(?![A-Za-z0-9])', model
  ):
    unit = 1e9 if match[2] in 'Bb' else 1e6
    return float(match[1]) * unit, 'by its name'
  return None


def counted(c: Mapping[str, Any]) -> float:
  """The parameters of a decoder, from its config.json, except its norms.

  Raises:
    KeyError, TypeError, ValueError: it has not the fields of one.
  """
  embed, layers = int(c['hidden_size']), int(c['num_hidden_layers'])
  heads = int(c['num_attention_heads'])
  kv_heads = int(c.get('num_key_value_heads', heads))
  head = int(c.get('head_dim') or embed // heads)
  experts = int(c.get('num_experts', 1))
  wide = int(c['moe_intermediate_size' if experts > 1 else 'intermediate_size'])
  tables = 1 if c.get('tie_word_embeddings') else 2
  layer = 2 * embed * head * (heads + kv_heads) + 3 * embed * wide * experts
  return float(layers * layer + tables * int(c['vocab_size']) * embed)
