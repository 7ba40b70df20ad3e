"""From a model to an engine that serves it: for train, generate and evaluate.

`read_model` reads the small files, so prompts can be made and lengths checked.
`serve` then makes the engine and loads the weights. A function, `Weights.load`,
is the source of the weights: the one for a model directory is here, the one for
a run's checkpoint is in run/weights.py, since this folder knows no runs.
"""

import functools
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from acereason_jax import mesh as mesh_lib
from acereason_jax import partition, types
from acereason_jax.models import (
  base,
  embedded,
  families,
  hf,
  lora,
  quantized,
  sharding,
  tokens,
)
from acereason_jax.models import (
  sizes as known_sizes,
)
from acereason_jax.rollout import cache as cache_lib
from acereason_jax.rollout import engine as engine_lib
from acereason_jax.rollout import engine_sizes, programs
from acereason_jax.rollout import sampling as sampling_lib


class Weights(NamedTuple):
  """The source of the parameters of a model.

  directory: Hugging Face directory of its config.json and tokenizer.
  load: (specs, mesh, dtype) -> all parameters in `dtype`, sharded as by
    `placed`; raises ValueError or OSError, one line.
  digests: () -> names and hashes of everything that the parameters depend on,
    for callers that record which weights they served.
  step: step of a run's checkpoint; None for another model.
  """

  directory: str
  load: Callable[[base.Tree, Mesh, jnp.dtype], base.Tree]
  digests: Callable[[], dict[str, str]]
  step: int | None = None


class ModelFiles(NamedTuple):
  """The small files of a model's directory.

  directory: Hugging Face directory; a model's name if only sizes are known.
  network: family and sizes of the model.
  tokenizer: tokenizer of the model; `close` ends the process that encodes. None
    if only sizes are known: its programs can be built, but nothing can be run.
  stops: ids of the tokens that end a response, sorted.
  """

  directory: str
  network: families.Network
  tokenizer: tokens.Tokenizer | None
  stops: tuple[int, ...]


class Asked(NamedTuple):
  """Sizes of an engine that a user gives; 0 is replaced.

  slots: rollouts decoded at once, over all devices; see `cache.fit_slots`.
  page: tokens of a cache page.
  chunk: decode steps per call; divides `page`.
  pages: cache pages, over all devices.
  """

  slots: int = 0
  page: int = 0
  chunk: int = 0
  pages: int = 0


class Served(NamedTuple):
  """A model that is ready to answer.

  engine: compiled sampler.
  params: parameters on the mesh, as `Engine.stream` takes them.
  tokenizer: tokenizer of the model.
  """

  engine: engine_lib.Engine
  params: base.Tree
  tokenizer: tokens.Tokenizer


def from_directory(model: str) -> Weights:
  """The weights of a Hugging Face directory or of an embedded model's name.

  Raises:
    OSError: there is no such model.
  """
  directory = embedded.resolve_model(model)

  def load(specs: base.Tree, mesh: Mesh, dtype: jnp.dtype) -> base.Tree:
    return hf.load(directory, specs, dtype=dtype, shardings=placed(specs, mesh))

  digests = lambda: dict(model=hf.model_digest(directory))
  return Weights(directory, load, digests)


def read_model(directory: str) -> ModelFiles:
  """Raises ValueError or OSError, one line: missing or damaged files."""
  tokenizer = tokens.load_tokenizer(directory)
  return ModelFiles(
    directory=directory,
    network=families.read(directory),
    tokenizer=tokenizer,
    stops=tokens.stop_token_ids(tokenizer, directory),
  )


def read_model_sizes(model: str) -> ModelFiles:
  """The sizes of a model, without its tokenizer: enough to build programs.

  `model` is a directory that has a config.json, or a name that models/sizes.py
  knows. Nothing is fetched. The stop token is a placeholder.

  Raises:
    FileNotFoundError, ValueError: one line; no such model, or a bad config.
  """
  if os.path.isdir(model):
    network = families.read(model)
  else:
    network = families.from_config(known_sizes.config_json(model))
  return ModelFiles(model, network, None, (network.config.vocab - 1,))


def make_model(files: ModelFiles, mesh: Mesh) -> base.Model:
  """The functions of a model that is only served, not trained."""
  return files.network.make_model(**partition.pins(mesh))


def placed(specs: base.Tree, mesh: Mesh, *, apart: bool = False) -> base.Tree:
  """Shardings of parameters for rollouts, which are whole along fsdp.

  Each token reads every weight, so only tensor parallelism splits them. With
  `apart` they are those of the parameters whose layers are `base.apart`.
  """
  places = sharding.param_shardings(specs, mesh, gathered=True)
  return sharding.apart(specs, places) if apart else places


def param_bytes(specs: base.Tree, mesh: Mesh, dtype: jnp.dtype) -> int:
  """Bytes of each device that parameters sharded as by `placed` take."""
  return mesh_lib.device_bytes(
    sharding.abstract(specs, placed(specs, mesh), dtype)
  )


def rollout_params(
  specs: base.Tree,
  parts: lora.Parts,
  mesh: Mesh,
  dtype: jnp.dtype,
  *,
  trained: Mesh,
  stacked: bool = False,
) -> tuple[Callable[[base.Tree], base.Tree], int]:
  """(weights of a train state -> parameters of rollouts, their extra bytes).

  The weights are on the mesh `trained`. Rollouts read them on `mesh`, which has
  the same devices in the same order, so that one program casts, merges and
  reshards: in `dtype`, or in 8 bits where `specs` say so (`quantized.specs`),
  with adapters merged, whole along fsdp, and in the form that an engine reads
  fastest (`form`), unless they must be `stacked`. The state keeps its weights.
  The bytes are those of each device in addition to it.
  """
  apart = not stacked and mesh_lib.reads_apart(mesh)
  eight = quantized.names(specs)
  whole = mesh == trained and sharding.is_gathered(mesh)
  if whole and dtype == jnp.float32 and not parts.frozen and not eight:
    if not apart:
      return (lambda weights: weights), 0
    if mesh.size == 1:
      # What has no layers is shared.
      return base.apart, param_bytes(specs['layers'], mesh, dtype)
  finish = functools.partial(quantized.layers, dtypes=eight)
  pin = jax.lax.with_sharding_constraint
  ways = [sharding.param_shardings(specs, m) for m in (trained, mesh)]
  if apart:
    ways = [sharding.apart(specs, way) for way in ways]

  def cast(w):
    # Those that get 8 bits are not rounded twice.
    return {n: x if n in eight else x.astype(dtype) for n, x in w.items()}

  def one_layer(w):
    return finish(lora.merged_layer(cast(w), scale=parts.scale))

  def read(weights: base.Tree) -> base.Tree:
    layers = weights['layers']
    rest = {n: x for n, x in weights.items() if n != 'layers'}
    rest = base.cast(rest, dtype)
    if apart:
      # Taken apart first, so that no other stack of them is made.
      layers = tuple(map(one_layer, base.unstacked(layers)))
      weights = {**rest, 'layers': layers}
    else:
      weights = {**rest, 'layers': cast(layers)}
      weights = lora.merged(weights, scale=parts.scale, finish=finish)
      weights = {**weights, 'layers': finish(weights['layers'])}
    # Each device casts and merges its shard; shards are exchanged with the
    # devices that share a rollout, and then gathered. In one step GSPMD would
    # gather all weights on each device first.
    for way in ways:
      weights = pin(weights, way)
    return weights

  made = jax.jit(read, out_shardings=placed(specs, mesh, apart=apart))
  return made, param_bytes(specs, mesh, dtype)


def form(specs: base.Tree, mesh: Mesh) -> Callable[[base.Tree], base.Tree]:
  """Stacked parameters -> the form that an engine on `mesh` reads fastest."""
  if not mesh_lib.reads_apart(mesh):
    return lambda params: params
  if mesh.size == 1:
    return base.apart
  return jax.jit(base.apart, out_shardings=placed(specs, mesh, apart=True))


def check_context(lengths: Mapping[str, int], model: str, context: int) -> None:
  """Raises ValueError if two lengths do not fit into the context together.

  `lengths` are tokens by the name that the user knows; the error names the
  first.
  """
  if sum(lengths.values()) > context:
    (name, value), (other, rest) = lengths.items()
    raise ValueError(
      f'{name}={value}: with {other}={rest} longer than the context of '
      f'{model}, {context}; lower one of them'
    )


def check_vocabulary(name: str, vocab: int, ids: Iterable[int]) -> None:
  """Raises ValueError for a token without an embedding in the model."""
  used = set(ids)
  if min(used) < 0 or max(used) >= vocab:
    raise ValueError(
      f'{name}: token {max(used)} is outside its vocabulary of {vocab}; '
      'is the tokenizer that of another model?'
    )


def check_prompts(
  name: str, vocab: int, prompts: Sequence[types.Prompt]
) -> None:
  """Raises ValueError for a prompt that is empty or outside the vocabulary."""
  for prompt in prompts:
    if len(prompt.tokens) == 0:
      raise ValueError(f'{name}: the chat template gave {prompt.id} no tokens')
  check_vocabulary(name, vocab, [int(p.tokens.max()) for p in prompts])


def choose_sizes(
  asked: Asked, mesh: Mesh, *, window: int, max_tokens: int
) -> engine_sizes.Sizes:
  """The requested sizes; those that are 0 get values that suit the device.

  `window` and `max_tokens` are the most tokens of a prompt and of a response.
  `slots` and `pages` stay as given; `fit_sizes` fits them to the memory.
  """
  on_cpu = mesh.devices.flat[0].platform == 'cpu'
  shards = mesh_lib.row_shards(mesh)
  page = asked.page or (16 if on_cpu else 128)
  return engine_sizes.Sizes(
    slots=asked.slots,
    shards=shards,
    page=page,
    chunk=asked.chunk or math.gcd(page, 8 if on_cpu else 128),
    pages=asked.pages,
    rows=4 * shards,
    piece=min(-(-window // page), 4) * page,
    window=window,
    max_tokens=max_tokens,
  )


def fit_sizes(
  sizes: engine_sizes.Sizes,
  model: base.Model,
  mesh: Mesh,
  dtype: jnp.dtype,
  kv_dtype: jnp.dtype,
  reserved: int,
  memory: int,
  rollouts: int,
) -> engine_sizes.Sizes:
  """The sizes with `pages` per shard that fit into a device's memory.

  In the input `pages` are of all shards, and 0 means as many as are useful or
  fit; 0 slots means enough for all `rollouts`, or as many as fit. `reserved`
  bytes of each device's `memory` stay free, and room for the tokens of a chunk
  in `dtype`, that of compute.

  Raises:
    ValueError: sizes that do not fit each other, the model or the memory.
  """
  sizes = cache_lib.fit_slots(
    sizes, model, mesh, dtype, kv_dtype, reserved, memory, rollouts
  )
  reserved += cache_lib.staged_bytes(sizes, model, mesh, dtype)
  sizes = cache_lib.fit_pages(sizes, model, mesh, kv_dtype, reserved, memory)
  engine_sizes.check(sizes)
  return sizes


def make_engine(
  model: base.Model,
  mesh: Mesh,
  tokenizer: tokens.Tokenizer | None,
  *,
  sizes: engine_sizes.Sizes,
  sampling: sampling_lib.Sampling,
  ending: programs.Ending,
  kv_dtype: jnp.dtype,
) -> engine_lib.Engine:
  """An engine of sizes that fit; the tokenizer decodes its texts."""
  return engine_lib.make_engine(
    model,
    mesh,
    sizes=sizes,
    sampling=sampling,
    ending=ending,
    kv_dtype=kv_dtype,
    to_text=functools.partial(tokens.decode, tokenizer),
  )


def serve(
  weights: Weights,
  files: ModelFiles,
  mesh: Mesh,
  *,
  sizes: engine_sizes.Sizes,
  sampling: sampling_lib.Sampling,
  ending: programs.Ending,
  dtype: jnp.dtype,
  kv_dtype: jnp.dtype,
  rollouts: int,
) -> Served:
  """The engine and the weights of a model directory or a run's checkpoint.

  `sizes` are those of `choose_sizes`; `dtype` is that of weights and compute,
  `kv_dtype` that of the cache; `rollouts` is how many there are to draw,
  counting those that are done already: the number of slots can change the
  rounding of a logit.

  Raises:
    ValueError, OSError: one line, see `fit_sizes` and `Weights.load`.
  """
  model = make_model(files, mesh)
  reserved = param_bytes(model.specs, mesh, dtype)
  memory = mesh_lib.device_memory(mesh.local_mesh.devices.flat)
  sizes = fit_sizes(
    sizes, model, mesh, dtype, kv_dtype, reserved, memory, rollouts
  )
  engine = make_engine(
    model,
    mesh,
    files.tokenizer,
    sizes=sizes,
    sampling=sampling,
    ending=ending,
    kv_dtype=kv_dtype,
  )
  params = form(model.specs, mesh)(weights.load(model.specs, mesh, dtype))
  return Served(engine, params, files.tokenizer)
