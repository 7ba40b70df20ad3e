"""safetensors files, read by mapping and written as a stream.

Files come from strangers: every number of a header is checked before it is
used, and pickled weights are never read.
"""

import collections
import json
import math
import os
import stat
from collections.abc import Callable, Iterable, Mapping
from typing import Any, BinaryIO, NamedTuple

import jax.numpy as jnp
import numpy as np

DTYPES = {
  'BF16': np.dtype(jnp.bfloat16),
  'F16': np.dtype(np.float16),
  'F32': np.dtype(np.float32),
}
SINGLE = 'model.safetensors'
INDEX = 'model.safetensors.index.json'
# The names of these files in public models; others hold the same weights again.
PATTERNS = 'model*.safetensors', INDEX
# The format's limit; its own library refuses more.
_MAX_HEADER_BYTES = 100_000_000
_MAX_JSON_BYTES = 16 << 20
# Limited because Python's values are larger than their JSON. Real headers have
# a tenth of this.
_MAX_JSON_PARTS = 2_000_000
# The largest dense models have under 2,000; one of 128 experts in each of 94
# layers has 37,000.
_MAX_TENSORS = 100_000
# At once, so that a copy in the file's dtype stays small.
_READ_BYTES = 16 << 20


class Tensor(NamedTuple):
  """Where one tensor is stored.

  path: path of its file.
  dtype: a key of `DTYPES`.
  shape: its dimensions.
  start, stop: its bytes in the file are [start, stop).
  """

  path: str
  dtype: str
  shape: tuple[int, ...]
  start: int
  stop: int


def open_regular(path: str, most_bytes: int | None = None) -> BinaryIO:
  """The file, open to read; a pipe or device, which could block, is refused.

  Raises:
    FileNotFoundError, OSError: it cannot be opened.
    ValueError: not a regular file, or one of more bytes.
  """
  descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
  file = os.fdopen(descriptor, 'rb') if _is_regular(descriptor) else None
  if file is None:
    os.close(descriptor)
    raise ValueError(
      f'{path}: not a regular file; put the file itself there, or a link to it'
    )
  size = os.fstat(descriptor).st_size
  if most_bytes is not None and size > most_bytes:
    file.close()
    raise ValueError(
      f'{path}: {size} bytes, expected at most {most_bytes}; is it another '
      'file under this name?'
    )
  return file


def _is_regular(descriptor: int) -> bool:
  return stat.S_ISREG(os.fstat(descriptor).st_mode)


def read_json(path: str) -> dict[str, Any]:
  """The object in a JSON file.

  Raises:
    FileNotFoundError, ValueError: missing, or not a JSON object.
  """
  most = _MAX_HEADER_BYTES if path.endswith(INDEX) else _MAX_JSON_BYTES
  try:
    with open_regular(path, most) as f:
      return _parse(f.read(), path)
  except FileNotFoundError as e:
    raise FileNotFoundError(
      f'{path}: not found; expected a Hugging Face model directory with a '
      f'{os.path.basename(path)}: check the path or download the model again'
    ) from e


def _parse(raw: bytes, path: str) -> dict[str, Any]:
  if (parts := sum(map(raw.count, (b'[', b'{', b',')))) > _MAX_JSON_PARTS:
    raise _corrupt(path, f'JSON of {parts} values, at most {_MAX_JSON_PARTS}')
  try:
    value = json.loads(
      raw, object_pairs_hook=_unique, parse_constant=_no_constant
    )
  except (ValueError, RecursionError) as e:
    raise _corrupt(path, f'invalid JSON ({e})') from e
  if not isinstance(value, dict):
    raise _corrupt(path, f'JSON of type {type(value).__name__}, not an object')
  return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  if len(dict(pairs)) < len(pairs):
    raise ValueError('an object names a key twice')
  return dict(pairs)


def _no_constant(name: str) -> None:
  raise ValueError(f'{name} is no number of JSON')


def _corrupt(path: str, what: str) -> ValueError:
  return ValueError(f'{path}: {what}; damaged file? download it again')


def some(names: Iterable[str], most: int = 6) -> str:
  names = sorted(name[:200] for name in names)
  more = f' and {len(names) - most} more' if len(names) > most else ''
  return ', '.join(names[:most]) + more


def read_header(path: str) -> dict[str, Tensor]:
  """The tensors of one safetensors file, in the order of their bytes.

  Nothing in the file is trusted: the tensors must tile it exactly.

  Raises:
    ValueError: anything in the header is wrong.
  """
  with open_regular(path) as f:
    size = os.fstat(f.fileno()).st_size
    length = int.from_bytes(f.read(8), 'little')
    if size < 8 or length > size - 8:
      raise _corrupt(path, f'header of {length} bytes in a file of {size}')
    if length > _MAX_HEADER_BYTES:
      raise _corrupt(
        path, f'header of {length} bytes, at most {_MAX_HEADER_BYTES}'
      )
    header = _parse(f.read(length), path)
  header.pop('__metadata__', None)
  if len(header) > _MAX_TENSORS:
    raise _corrupt(path, f'{len(header)} tensors, at most {_MAX_TENSORS}')
  tensors = {
    name: _tensor(path, name, entry, 8 + length, size)
    for name, entry in header.items()
  }
  tensors = dict(sorted(tensors.items(), key=lambda item: item[1][-2:]))
  end = 8 + length
  for name, tensor in tensors.items():
    if tensor.start != end:
      raise _corrupt(
        path,
        f'tensor {name!r:.200} starts at byte {tensor.start}, expected {end}',
      )
    end = tensor.stop
  if end != size:
    raise _corrupt(path, f'tensors end at byte {end}, the file at {size}')
  return tensors


def _tensor(path: str, name: str, entry: Any, base: int, size: int) -> Tensor:
  """One header entry, checked by itself; `base` is the offset of the data."""
  match entry:
    case {'dtype': dtype, 'shape': [*shape], 'data_offsets': [start, stop]}:
      numbers = (*shape, start, stop)
    case _:
      raise _corrupt(path, f'tensor {name!r:.200} has a malformed header entry')
  if not isinstance(dtype, str) or dtype not in DTYPES:
    raise ValueError(
      f'{path}: tensor {name!r:.200} has dtype {dtype!r:.60}; expected one of '
      f'{", ".join(DTYPES)}: use an unquantised checkpoint'
    )
  # The bounds also keep the product below small.
  whole = all(type(n) is int and 0 <= n <= size for n in numbers)
  if not whole or len(shape) > 8:
    raise _corrupt(
      path, f'tensor {name!r:.200} has an impossible shape or offset'
    )
  if stop - start != math.prod(shape) * DTYPES[dtype].itemsize:
    raise _corrupt(
      path, f'tensor {name!r:.200}: {stop - start} bytes for {dtype} {shape}'
    )
  return Tensor(path, dtype, tuple(shape), base + start, base + stop)


def read_tensors(directory: str) -> dict[str, Tensor]:
  """Every tensor of a model directory, from one file or an indexed set.

  Raises:
    FileNotFoundError, ValueError: no weights, or files that contradict
      their index.
  """
  if os.path.exists(os.path.join(directory, SINGLE)):
    return read_header(os.path.join(directory, SINGLE))
  if not os.path.exists(os.path.join(directory, INDEX)):
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
    if not os.path.exists(path):
      raise FileNotFoundError(
        f'{path}: not found, though {INDEX} names it; download it again'
      )
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


def read_rows(tensor: Tensor, start: int, out: np.ndarray) -> None:
  """Fills `out`, of any dtype, with the tensor's rows from `start` on.

  Other bytes of the file are not read. Of a mapped file the kernel would read
  megabytes around each page.

  Raises:
    ValueError: the file has become shorter.
  """
  dtype = DTYPES[tensor.dtype]
  row = math.prod(tensor.shape[1:]) * dtype.itemsize
  step = max(1, _READ_BYTES // max(1, row))
  with open_regular(tensor.path) as file:
    if hasattr(os, 'posix_fadvise'):
      os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
    for first in range(0, len(out), step):
      part = out[first : first + step]
      raw = np.empty(len(part) * row, np.uint8)
      _read_into(file, tensor.start + (start + first) * row, raw)
      part[...] = raw.view(dtype).reshape(part.shape)


def _read_into(file: BinaryIO, offset: int, raw: np.ndarray) -> None:
  done = 0
  while done < len(raw):
    count = os.preadv(file.fileno(), [raw[done:]], offset + done)
    if not count:
      raise _corrupt(file.name, f'it ends at byte {offset + done}')
    done += count


def write_tensors(
  path: str,
  tensors: Mapping[str, Any],
  values: Iterable[np.ndarray],
) -> None:
  """Writes a safetensors file.

  `tensors` gives name, dtype and shape of each of `values`, in order. `values`
  may be a generator, so only one tensor at a time is in memory.
  """
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
