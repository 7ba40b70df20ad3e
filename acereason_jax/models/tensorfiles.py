"""safetensors files, read by mapping and written as a stream.

Files come from strangers: every number of a header is checked before it is
used, and pickled weights are never read.
"""

import collections
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

DTYPES = {
  'BF16': np.dtype(jnp.bfloat16),
  'F16': np.dtype(np.float16),
  'F32': np.dtype(np.float32),
}
SINGLE = 'model.safetensors'
INDEX = 'model.safetensors.index.json'


class Tensor(NamedTuple):
  """Where one tensor lies: bytes [start, stop) of the file `path`."""

  path: str
  dtype: str
  shape: tuple[int, ...]
  start: int
  stop: int


def read_json(path: str) -> dict[str, Any]:
  """The object in a JSON file.

  Raises:
    FileNotFoundError, ValueError: missing, or not a JSON object.
  """
  if not os.path.isfile(path):
    raise FileNotFoundError(
      f'{path}: not found; expected a Hugging Face model directory with a '
      f'{os.path.basename(path)}: check the path or download the model again'
    )
  with open(path, 'rb') as f:
    return _parse(f.read(), path)


def _parse(raw: bytes, path: str) -> dict[str, Any]:
  try:
    value = json.loads(raw, object_pairs_hook=_unique)
  except (ValueError, RecursionError) as e:
    raise _corrupt(path, f'invalid JSON ({e})') from e
  if not isinstance(value, dict):
    raise _corrupt(path, f'JSON of type {type(value).__name__}, not an object')
  return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  if len(dict(pairs)) < len(pairs):
    raise ValueError('an object names a key twice')
  return dict(pairs)


def _corrupt(path: str, what: str) -> ValueError:
  return ValueError(f'{path}: {what}; damaged file? download it again')


def some(names: Iterable[str], most: int = 6) -> str:
  names = sorted(names)
  more = f' and {len(names) - most} more' if len(names) > most else ''
  return ', '.join(names[:most]) + more


def read_header(path: str) -> dict[str, Tensor]:
  """The tensors of one safetensors file, in the order of their bytes.

  Nothing in the file is trusted: the tensors must tile it exactly.

  Raises:
    ValueError: the header lies about anything.
  """
  size = os.path.getsize(path)
  with open(path, 'rb') as f:
    length = int.from_bytes(f.read(8), 'little')
    if size < 8 or length > size - 8:
      raise _corrupt(path, f'header of {length} bytes in a file of {size}')
    header = _parse(f.read(length), path)
  header.pop('__metadata__', None)
  tensors = {
    name: _tensor(path, name, entry, 8 + length, size)
    for name, entry in header.items()
  }
  tensors = dict(sorted(tensors.items(), key=lambda item: item[1][-2:]))
  end = 8 + length
  for name, tensor in tensors.items():
    if tensor.start != end:
      raise _corrupt(
        path, f'tensor {name!r} starts at byte {tensor.start}, expected {end}'
      )
    end = tensor.stop
  if end != size:
    raise _corrupt(path, f'tensors end at byte {end}, the file at {size}')
  return tensors


def _tensor(path: str, name: str, entry: Any, base: int, size: int) -> Tensor:
  """One header entry, checked by itself; `base` is where the data begin."""
  match entry:
    case {'dtype': dtype, 'shape': [*shape], 'data_offsets': [start, stop]}:
      numbers = (*shape, start, stop)
    case _:
      raise _corrupt(path, f'tensor {name!r} has a malformed header entry')
  if not isinstance(dtype, str) or dtype not in DTYPES:
    raise ValueError(
      f'{path}: tensor {name!r} has dtype {dtype!r}; expected one of '
      f'{", ".join(DTYPES)}: use an unquantised checkpoint'
    )
  # The bounds also keep the product below small.
  whole = all(type(n) is int and 0 <= n <= size for n in numbers)
  if not whole or len(shape) > 8:
    raise _corrupt(path, f'tensor {name!r} has an impossible shape or offset')
  if stop - start != math.prod(shape) * DTYPES[dtype].itemsize:
    raise _corrupt(
      path, f'tensor {name!r}: {stop - start} bytes for {dtype} {shape}'
    )
  return Tensor(path, dtype, tuple(shape), base + start, base + stop)


def read_tensors(directory: str) -> dict[str, Tensor]:
  """Every tensor of a model directory, from one file or an indexed set.

  Raises:
    FileNotFoundError, ValueError: no weights, or files that contradict
      their index.
  """
  if os.path.isfile(os.path.join(directory, SINGLE)):
    return read_header(os.path.join(directory, SINGLE))
  if not os.path.isfile(os.path.join(directory, INDEX)):
    raise FileNotFoundError(
      f'{directory}: holds neither {SINGLE} nor {INDEX}; expected a Hugging '
      'Face model directory with safetensors weights (pickled .bin weights '
      'are not read: convert them first)'
    )
  index = os.path.join(directory, INDEX)
  weight_map = read_json(index).get('weight_map')
  if not isinstance(weight_map, dict):
    raise _corrupt(index, "no 'weight_map' object")
  listed = collections.defaultdict(set)
  for name, file in weight_map.items():
    listed[_safe_name(index, file)].add(name)
  tensors = {}
  for file, names in sorted(listed.items()):
    path = os.path.join(directory, file)
    if not os.path.isfile(path):
      raise FileNotFoundError(f'{path}: not found, though {INDEX} names it')
    found = read_header(path)
    if names != found.keys():
      raise _corrupt(
        path, f'it and {INDEX} disagree on {some(names ^ found.keys())}'
      )
    tensors |= found
  return tensors


def _safe_name(index: str, file: Any) -> str:
  plain = isinstance(file, str) and not set(file) & {'/', '\\', '\0'}
  if not plain or not file.endswith('.safetensors'):
    raise ValueError(
      f'{index}: names the file {file!r}; expected a .safetensors file name '
      'without a folder: do not load this model'
    )
  return file


def viewer(tensors: Mapping[str, Tensor]) -> Callable[[str], np.ndarray]:
  """name -> a read-only view of the mapped file; nothing is read yet."""
  paths = {t.path for t in tensors.values()}
  files = {path: np.memmap(path, np.uint8, 'r') for path in paths}

  def view(name: str) -> np.ndarray:
    t = tensors[name]
    return (
      files[t.path][t.start : t.stop].view(DTYPES[t.dtype]).reshape(t.shape)
    )

  return view


def write_tensors(
  path: str,
  tensors: Mapping[str, Any],
  values: Iterable[np.ndarray],
) -> None:
  """Writes a safetensors file: `tensors` gives name, dtype and shape of each
  of `values`, in order; `values` may be a generator, so that one tensor
  at a time is in memory."""
  header, end = {'__metadata__': {'format': 'pt'}}, 0
  for name, t in tensors.items():
    start, end = end, end + math.prod(t.shape) * DTYPES[t.dtype].itemsize
    shape, offsets = list(t.shape), [start, end]
    header[name] = {'dtype': t.dtype, 'shape': shape, 'data_offsets': offsets}
  raw = json.dumps(header, separators=(',', ':')).encode()
  raw += b' ' * (-len(raw) % 8)
  with open(path, 'wb') as f:
    f.write(len(raw).to_bytes(8, 'little') + raw)
    for _, value in zip(tensors, values, strict=True):
      # bfloat16 has no buffer protocol of its own.
      f.write(np.ascontiguousarray(value).reshape(-1).view(np.uint8))
