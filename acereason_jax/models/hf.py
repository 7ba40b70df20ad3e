"""Import and export of Hugging Face model directories, a tensor at a time.

Export repeats its source: the same files, tensor order and dtypes, and the
source's JSON files byte for byte, because a config.json that transformers 5
rewrites makes transformers 4 read rope_theta = 10000 without a word.
"""

import collections
import contextlib
import functools
import json
import math
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from acereason_jax.models import base

DTYPES = {
  'BF16': np.dtype(jnp.bfloat16),
  'F16': np.dtype(np.float16),
  'F32': np.dtype(np.float32),
}
SINGLE = 'model.safetensors'
INDEX = 'model.safetensors.index.json'
# Copied from the source as they are, where it has them.
COMPANIONS = (
  'config.json',
  'generation_config.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'tokenizer.model',
  'special_tokens_map.json',
  'added_tokens.json',
  'vocab.json',
  'merges.txt',
  'chat_template.jinja',
  'LICENSE',
  INDEX,
)
HEAD, EMBED = 'lm_head.weight', 'model.embed_tokens.weight'


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


def read_config(directory: str) -> dict[str, Any]:
  """The model's config.json; see `read_json` for what it raises."""
  return read_json(os.path.join(directory, 'config.json'))


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


def _some(names: Iterable[str], most: int = 6) -> str:
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
      path,
      f'tensor {name!r} has {stop - start} bytes, which {dtype} {shape} has not',
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
        path, f'it and {INDEX} disagree on {_some(names ^ found.keys())}'
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


def _tensor_names(spec: base.ParamSpec) -> list[str]:
  """The file names of one parameter; one per layer where it is stacked."""
  if '{}' not in spec.name:
    return [spec.name]
  return [spec.name.format(i) for i in range(spec.shape[0])]


def _is_buffer(name: str) -> bool:
  return name.endswith('.rotary_emb.inv_freq')


def _check(
  tensors: Mapping[str, Tensor], specs: base.Tree, directory: str
) -> None:
  """Raises ValueError unless the files hold exactly the specs' tensors."""
  shapes = {}
  for spec in jax.tree.leaves(specs, is_leaf=base.is_spec):
    shape = spec.shape[1:] if '{}' in spec.name else spec.shape
    shapes |= dict.fromkeys(_tensor_names(spec), shape)
  optional = {n for n in tensors if _is_buffer(n)}
  if HEAD not in shapes and HEAD in tensors:  # tied, yet written out
    shapes[HEAD] = shapes[EMBED]
  remedy = 'a checkpoint of another architecture or shape than its config.json?'
  if missing := shapes.keys() - tensors.keys():
    raise ValueError(f'{directory}: lacks tensor {_some(missing)}: {remedy}')
  if extra := tensors.keys() - shapes.keys() - optional:
    raise ValueError(
      f'{directory}: holds unexpected tensor {_some(extra)}: {remedy}'
    )
  for name, shape in shapes.items():
    if tensors[name].shape != tuple(shape):
      raise ValueError(
        f'{directory}: tensor {name} has shape {tensors[name].shape}, '
        f'expected {tuple(shape)}: {remedy}'
      )


def _viewer(tensors: Mapping[str, Tensor]) -> Callable[[str], np.ndarray]:
  """name -> a read-only view of the mapped file; nothing is read yet."""
  paths = {t.path for t in tensors.values()}
  files = {path: np.memmap(path, np.uint8, 'r') for path in paths}

  def view(name: str) -> np.ndarray:
    t = tensors[name]
    return (
      files[t.path][t.start : t.stop].view(DTYPES[t.dtype]).reshape(t.shape)
    )

  return view


def load(
  directory: str, specs: base.Tree, *, dtype: Any, shardings: base.Tree = None
) -> base.Tree:
  """The parameters as `dtype`, placed as `shardings` (a tree like `specs`).

  Each device's slice alone is read; host memory peaks at the largest
  leaf's local slices. Without shardings all goes to one device.

  Raises:
    FileNotFoundError, ValueError: missing or damaged files, or tensors that
      are not exactly those of `specs`.
  """
  tensors = read_tensors(directory)
  _check(tensors, specs, directory)
  if shardings is None:
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    shardings = base.map_specs(lambda _: device, specs)
  leaf = functools.partial(_load_leaf, _viewer(tensors), jnp.dtype(dtype))
  return jax.tree.map(leaf, specs, shardings, is_leaf=base.is_spec)


def _load_leaf(view, dtype, spec: base.ParamSpec, sharding) -> jax.Array:
  # Cached: replicas of a slice share one host copy.
  @functools.cache
  def block(bounds: tuple[tuple[int, int], ...]) -> np.ndarray:
    # A fresh array, never the mapped file, which jax on a CPU would alias.
    out = np.empty([stop - start for start, stop in bounds], dtype)
    index = tuple(slice(*b) for b in bounds)
    if '{}' in spec.name:
      for row, layer in enumerate(range(*bounds[0])):
        out[row] = view(spec.name.format(layer))[index[1:]]
    else:
      out[...] = view(spec.name)[index]
    return out

  def shard(index: tuple[slice, ...]) -> np.ndarray:
    return block(tuple(s.indices(n)[:2] for s, n in zip(index, spec.shape)))

  return jax.make_array_from_callback(spec.shape, sharding, shard, dtype)


def export(
  params: base.Tree,
  specs: base.Tree,
  source_directory: str,
  out_directory: str,
) -> None:
  """Writes `params` as a directory like `source_directory`, atomically.

  Every process of a run must call it; the first writes. Each tensor gets
  the dtype it has in the source.

  Raises:
    FileExistsError: `out_directory` exists and is not empty.
    FileNotFoundError, ValueError: as `load`, for the source.
  """
  tensors = read_tensors(source_directory)
  _check(tensors, specs, source_directory)
  _refuse_existing(out_directory)
  fetch = _fetcher(params, specs) | _kept(tensors)
  if HEAD not in fetch:
    fetch[HEAD] = fetch[EMBED]
  writes = jax.process_index() == 0
  with (
    new_directory(out_directory) if writes else contextlib.nullcontext() as d
  ):
    for path in sorted({t.path for t in tensors.values()}):
      part = {name: t for name, t in tensors.items() if t.path == path}
      values = (fetch[name]().astype(DTYPES[part[name].dtype]) for name in part)
      if writes:
        write_tensors(os.path.join(d, os.path.basename(path)), part, values)
      else:
        collections.deque(values, maxlen=0)  # takes part in the gathers
    if writes:
      _copy_companions(source_directory, d)


def _fetcher(params, specs) -> dict[str, Callable[[], np.ndarray]]:
  """Tensor name -> a function that gathers it to this host."""
  leaves, treedef = jax.tree.flatten(specs, is_leaf=base.is_spec)
  fetch = {}
  for spec, x in zip(leaves, treedef.flatten_up_to(params)):
    for layer, name in enumerate(_tensor_names(spec)):
      stacked = '{}' in spec.name
      fetch[name] = functools.partial(_gather, x, layer if stacked else None)
  return fetch


def _kept(tensors) -> dict[str, Callable[[], np.ndarray]]:
  view = _viewer(tensors)
  return {n: functools.partial(view, n) for n in tensors if _is_buffer(n)}


def _gather(x: jax.Array, layer: int | None) -> np.ndarray:
  """All of `x`, or one layer of it, on every host.

  np.asarray(x) would keep a host copy for as long as x lives; what is read
  here is a fresh array that dies on return.
  """
  sharding = x.sharding
  if isinstance(sharding, jax.sharding.NamedSharding):
    replicated = jax.sharding.PartitionSpec()
    sharding = jax.sharding.NamedSharding(sharding.mesh, replicated)
  if layer is None:
    whole = jax.jit(jnp.copy, out_shardings=sharding)(x)
  else:
    whole = jax.jit(_layer, out_shardings=sharding)(x, layer)
  return np.asarray(whole.addressable_data(0))


def _layer(x: jax.Array, index: jax.Array) -> jax.Array:
  return jax.lax.dynamic_index_in_dim(x, index, keepdims=False)


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
    header[name] = dict(
      dtype=t.dtype, shape=list(t.shape), data_offsets=[start, end]
    )
  raw = json.dumps(header, separators=(',', ':')).encode()
  raw += b' ' * (-len(raw) % 8)
  with open(path, 'wb') as f:
    f.write(len(raw).to_bytes(8, 'little') + raw)
    for value in values:
      # bfloat16 has no buffer protocol of its own.
      f.write(np.ascontiguousarray(value).reshape(-1).view(np.uint8))


def _copy_companions(source: str, out: str) -> None:
  for name in COMPANIONS:
    path = os.path.join(source, name)
    if os.path.isfile(path):
      shutil.copyfile(path, os.path.join(out, name))


def _refuse_existing(directory: str) -> None:
  if os.path.exists(directory) and (
    not os.path.isdir(directory) or os.listdir(directory)
  ):
    raise FileExistsError(
      f'{directory}: already exists and is not empty; remove it or choose '
      'another output directory'
    )


@contextlib.contextmanager
def new_directory(directory: str) -> Iterator[str]:
  """A temporary directory that becomes `directory` if the block succeeds.

  Raises:
    FileExistsError: `directory` exists and is not empty.
  """
  _refuse_existing(directory)
  parent, name = os.path.split(os.path.abspath(directory))
  temporary = os.path.join(parent, f'.{name}.{uuid.uuid4().hex}.partial')
  os.makedirs(temporary)
  try:
    yield temporary
    os.rename(temporary, directory)
  finally:
    shutil.rmtree(temporary, ignore_errors=True)
