"""Import and export of Hugging Face model directories, tensor by tensor.

Export repeats its source: the same files, tensor order and dtypes, and the
source's JSON files byte for byte, because a config.json that transformers 5
rewrites makes transformers 4 read rope_theta = 10000 silently.
"""

import collections
import contextlib
import functools
import hashlib
import operator
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from acereason_jax import files
from acereason_jax.models import base, rows, tensorfiles

# Files copied unchanged from the source, if it has them.
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
)
_MAX_COMPANION_BYTES = 128 << 20
# Of larger files `sample` reads this many blocks, at even distances.
_WHOLE_BYTES = 64 << 20
_BLOCKS = 256
_BLOCK_BYTES = 16 << 10
_MOST_HEADER_BYTES = 16 << 20
HEAD, EMBED = 'lm_head.weight', 'model.embed_tokens.weight'


def read_config(directory: str) -> dict[str, Any]:
  """The model's config.json; see `tensorfiles.read_json` for what it raises."""
  return tensorfiles.read_json(os.path.join(directory, 'config.json'))


def digest(paths: list[pathlib.Path]) -> str:
  """SHA-256 of the files' names and contents."""
  whole = hashlib.sha256()
  for path in paths:
    with tensorfiles.open_regular(path) as file:
      found = hashlib.file_digest(file, 'sha256').hexdigest()
    whole.update(f'{path.name} {found}\n'.encode())
  return whole.hexdigest()


def sample(path: str | os.PathLike) -> str:
  """Size and digest of a file; of a large file the digest of a sample.

  It has the header of a tensor file and blocks at even distances, so a tensor
  of at least a 256th of the file is seen. A small change elsewhere is not.
  """
  with tensorfiles.open_regular(path) as file:
    size = os.fstat(file.fileno()).st_size
    if size <= _WHOLE_BYTES:
      return f'{size:,} bytes, {short(hashlib.file_digest(file, "sha256"))}'
    header = int.from_bytes(file.read(8), 'little')
    found = hashlib.sha256(file.read(min(header, _MOST_HEADER_BYTES)))
    last = size - _BLOCK_BYTES
    for i in range(_BLOCKS):
      file.seek(last * i // (_BLOCKS - 1))
      found.update(file.read(_BLOCK_BYTES))
  return f'{size:,} bytes, {short(found)} of a sample'


def short(digest: Any) -> str:
  return f'SHA-256 {digest.hexdigest()[:16]}...'


def model_digest(directory: str) -> str:
  """Hash of everything a rollout depends on: weights, tokenizer, JSON files.

  Raises:
    FileNotFoundError, ValueError: missing or damaged files.
  """
  weights = {t.path for t in tensorfiles.read_tensors(directory).values()}
  others = [
    os.path.join(directory, name)
    for name in (*COMPANIONS, tensorfiles.INDEX)
    if name.endswith(('.json', '.jinja'))
  ]
  present = weights | set(filter(os.path.exists, others))
  return digest(sorted(map(pathlib.Path, present)))


def _tensors_of(spec: base.ParamSpec) -> Iterator[tuple[tuple[int, ...], str]]:
  """(index, tensor name) of each tensor that a parameter stacks."""
  for index in np.ndindex(spec.shape[: spec.stacked]):
    yield index, spec.name.format(*index)


def _is_buffer(name: str) -> bool:
  return name.endswith('.rotary_emb.inv_freq')


def _check(
  tensors: Mapping[str, tensorfiles.Tensor], specs: base.Tree, directory: str
) -> None:
  """Raises ValueError unless the files hold exactly the specs' tensors."""
  shapes = {}
  for spec in jax.tree.leaves(specs, is_leaf=base.is_spec):
    shape = spec.shape[spec.stacked :]
    shapes |= dict.fromkeys((name for _, name in _tensors_of(spec)), shape)
  optional = {n for n in tensors if _is_buffer(n)}
  if HEAD not in shapes and HEAD in tensors:  # tied, yet written out
    shapes[HEAD] = shapes[EMBED]
  other = 'a checkpoint of another architecture or shape than its config.json?'
  some = tensorfiles.some
  if missing := shapes.keys() - tensors.keys():
    raise ValueError(f'{directory}: lacks tensor {some(missing)}: {other}')
  if extra := tensors.keys() - shapes.keys() - optional:
    raise ValueError(f'{directory}: unexpected tensor {some(extra)}: {other}')
  for name, shape in shapes.items():
    if tensors[name].shape != tuple(shape):
      raise ValueError(
        f'{directory}: tensor {name} has shape {tensors[name].shape}, '
        f'expected {tuple(shape)}: {other}'
      )


def load(
  directory: str, specs: base.Tree, *, dtype: Any, shardings: base.Tree = None
) -> base.Tree:
  """The parameters as `dtype`, sharded by `shardings` (a tree like `specs`).

  With several processes each reads its share of the rows of each matrix (see
  `rows`); one alone reads each device's slices. Host memory peaks at the
  largest leaf's local slices. Without shardings everything goes to one device.

  Raises:
    FileNotFoundError, ValueError: missing or damaged files, or tensors that
      are not exactly those of `specs`.
  """
  tensors = tensorfiles.read_tensors(directory)
  _check(tensors, specs, directory)
  if shardings is None:
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    shardings = base.map_specs(lambda _: device, specs)
  alone = jax.process_count() == 1
  # Cached: parameters of one shape share a compiled move.
  route = rows.as_wanted if alone else functools.cache(rows.route)
  fill = _filler(tensors, alone)
  leaf = functools.partial(_load_leaf, route, fill, jnp.dtype(dtype))
  return jax.tree.map(leaf, specs, shardings, is_leaf=base.is_spec)


def _filler(
  tensors: Mapping[str, tensorfiles.Tensor], alone: bool
) -> Callable[[str, tuple[slice, ...], np.ndarray], None]:
  """(name, part of that tensor, out) -> None; fills `out` with the part."""
  view = tensorfiles.viewer(tensors)

  def fill(name: str, part: tuple[slice, ...], out: np.ndarray) -> None:
    if alone or out.shape[1:] != tensors[name].shape[1:]:
      out[...] = view(name)[part]
    else:
      tensorfiles.read_rows(tensors[name], part[0].start, out)

  return fill


def _load_leaf(route, fill, dtype, spec: base.ParamSpec, sharding) -> jax.Array:
  way = route(spec.shape, spec.stacked, sharding)

  # Cached: replicas of a slice share one host copy.
  @functools.cache
  def block(bounds: tuple[tuple[int, int], ...]) -> np.ndarray:
    # Returns a fresh array, never the mapped file, which jax would alias on a
    # CPU.
    out = np.empty([stop - start for start, stop in bounds], dtype)
    first = [start for start, _ in bounds[: spec.stacked]]
    within = tuple(slice(*b) for b in bounds[spec.stacked :])
    for place in np.ndindex(out.shape[: spec.stacked]):
      name = spec.name.format(*map(operator.add, first, place))
      fill(name, within, out[place])
    return out

  def shard(index: tuple[slice, ...]) -> np.ndarray:
    return block(tuple(s.indices(n)[:2] for s, n in zip(index, spec.shape)))

  read = jax.make_array_from_callback(spec.shape, way.read, shard, dtype)
  return way.move(read)


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
    FileNotFoundError, ValueError: as in `load`, for the source.
  """
  tensors = tensorfiles.read_tensors(source_directory)
  _check(tensors, specs, source_directory)
  files.refuse_existing(out_directory)
  companions = _companions(source_directory)
  fetch = _fetcher(params, specs) | _kept(tensors)
  fetch.setdefault(HEAD, fetch[EMBED])
  with _destination(out_directory) as directory:
    for path in sorted({t.path for t in tensors.values()}):
      part = {name: t for name, t in tensors.items() if t.path == path}
      values = (_as_stored(fetch[name](), t) for name, t in part.items())
      if directory is None:
        collections.deque(values, maxlen=0)  # only takes part in the gathers
      else:
        target = os.path.join(directory, os.path.basename(path))
        tensorfiles.write_tensors(target, part, values)
    if directory is not None:
      _copy(companions, directory)


def _destination(
  directory: str,
) -> contextlib.AbstractContextManager[str | None]:
  """`files.new_folder` on the first process, None on the others."""
  if jax.process_index():
    return contextlib.nullcontext()
  return files.new_folder(directory)


def _as_stored(value: np.ndarray, tensor: tensorfiles.Tensor) -> np.ndarray:
  return value.astype(tensorfiles.DTYPES[tensor.dtype], copy=False)


def _fetcher(params, specs) -> dict[str, Callable[[], np.ndarray]]:
  """Tensor name -> a function that gathers it to this host."""
  leaves, treedef = jax.tree.flatten(specs, is_leaf=base.is_spec)
  fetch = {}
  for spec, x in zip(leaves, treedef.flatten_up_to(params)):
    for index, name in _tensors_of(spec):
      fetch[name] = functools.partial(_gather, x, index)
  return fetch


def _kept(tensors) -> dict[str, Callable[[], np.ndarray]]:
  view = tensorfiles.viewer(tensors)
  return {n: functools.partial(view, n) for n in tensors if _is_buffer(n)}


def _gather(x: jax.Array, index: tuple[int, ...]) -> np.ndarray:
  """x[index] on every host.

  np.asarray(x) would keep a host copy for as long as x lives; this reads a
  fresh array that dies on return.
  """
  sharding = x.sharding
  if isinstance(sharding, jax.sharding.NamedSharding):
    replicated = jax.sharding.PartitionSpec()
    sharding = jax.sharding.NamedSharding(sharding.mesh, replicated)
  whole = jax.jit(_part, out_shardings=sharding)(x, index)
  return np.asarray(whole.addressable_data(0))


def _part(x: jax.Array, index: tuple[jax.Array, ...]) -> jax.Array:
  return x[index] if index else jnp.copy(x)


def _companions(source: str) -> list[str]:
  """The files to copy.

  The copies may be published, so a link must not lead to a user's file outside
  the model.

  Raises:
    ValueError: such a link, or a path that is not a regular file.
  """
  folder = pathlib.Path(source).resolve()
  homes = [folder]
  if folder.parent.name == 'snapshots':  # Hugging Face's cache uses links.
    own, shared = folder.parents[1], folder.parents[2]
    homes += [own / 'blobs', shared / 'blobs']
  found = []
  for name in (*COMPANIONS, tensorfiles.INDEX):
    path = folder / name
    if not os.path.lexists(path):
      continue
    tensorfiles.open_regular(path, _MAX_COMPANION_BYTES).close()
    if not any(path.resolve().is_relative_to(home) for home in homes):
      raise ValueError(
        f'{path}: a link to {path.resolve()}, outside of the model; copy the '
        'file there if it belongs to it'
      )
    found.append(str(path))
  return found


def _copy(paths: list[str], out: str) -> None:
  single = os.path.exists(os.path.join(out, tensorfiles.SINGLE))
  for path in paths:
    name = os.path.basename(path)
    if not (single and name == tensorfiles.INDEX):
      shutil.copyfile(path, os.path.join(out, name))
