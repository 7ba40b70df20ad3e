"""The change with which a run fits, tried before it is told.

Few fields decide what fits. `rollout_mesh.tensor` alone splits the weights of
rollouts, and a run chooses it; `mesh.tensor` splits each layer of the update,
`remat`, `mesh.sequence` and `microbatch` the activations; `optim.offload` takes
the moments off the devices. Combinations of them are tried by planning again,
those that change the least first, and in the end larger machines of the kind.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ml_collections

from acereason_jax import machines, types
from acereason_jax.config import stages as stages_lib
from acereason_jax.planning import fitting, reckon
from acereason_jax.planning.values import Assumed, Knob
from acereason_jax.rollout import serve

HARDWARE = 'hardware'
TENSOR, SEQUENCE = 'config.mesh.tensor', 'config.mesh.sequence'
DATA, FSDP = 'config.mesh.data', 'config.mesh.fsdp'
ROLLOUTS = 'config.rollout_mesh.tensor'
REMAT, OFFLOAD = 'config.remat', 'config.optim.offload'
SLOTS, PAGES = 'config.engine.slots', 'config.engine.pages'
ROWS = 'config.microbatch.rows'
COLUMNS = 'config.microbatch.columns'
DTYPE = 'config.dtype'
VOCAB = 'config.microbatch.vocab_chunk'
WHY = {
  TENSOR: 'splits each layer of the update',
  ROLLOUTS: 'splits the weights of rollouts; 0 is the size for the machine',
  SEQUENCE: 'splits the tokens of a row of the update',
  REMAT: 'keeps only the input of each layer',
  OFFLOAD: "keeps the moments in the hosts' memory between updates",
  SLOTS: 'a multiple of the shards, or 0: as many as fit',
  PAGES: 'as many pages as fit',
  ROWS: 'fewer tokens at once',
  COLUMNS: 'a multiple of mesh.sequence',
  VOCAB: 'fewer logits at once',
  DTYPE: "half the bytes of rollouts' weights and of activations",
  DATA: 'one, so that the mesh covers the devices',
  FSDP: 'all devices that are left',
  HARDWARE: 'the smallest of the kind on which it fits',
}
_SMALL_CHUNK = 512
# So many combinations that may fit are tried on each machine.
_TRIES = 6
_MOST_DEVICES = 2048

# Fields of the config by the names of `reckon.Stage`.
_RECKONED = {
  REMAT: 'remat',
  OFFLOAD: 'offload',
  ROWS: 'rows',
  VOCAB: 'vocab_chunk',
}

Fields = Mapping[str, Any]


def remedy(
  config: ml_collections.ConfigDict,
  hardware: machines.Hardware,
  assumed: Assumed,
) -> Knob | None:
  """A change with which every stage fits; None if none is found."""
  network = serve.read_model_sizes(config.model).network
  model = reckon.model_of(network, config)
  hardest = _hardest(config)

  def fits(fields: Fields, where: machines.Hardware) -> bool:
    changed = fitting.with_values(config, fields)
    try:
      quick = fitting.fits(changed, where, assumed, only=(hardest,))
      return quick and fitting.fits(changed, where, assumed)
    except ValueError:
      return False

  for where in (hardware, *_larger(hardware)):
    here = where == hardware
    promising = _promising(config, model, network.config, where)
    for fields in itertools.islice(promising, _TRIES):
      if here and not fields:
        continue
      if fits(fields, where):
        found = fields if here else {HARDWARE: where.text, **fields}
        return Knob(found, why(found))
  return None


def _promising(
  config: ml_collections.ConfigDict,
  model: reckon.Model,
  sizes: Any,
  hardware: machines.Hardware,
) -> Iterator[Fields]:
  """The combinations of which all stages may fit by their sizes."""
  gpu = hardware.kind.platform == 'gpu'
  one = dict(data=1, fsdp=1, tensor=1, sequence=1)
  # The kernel is not known yet: one of the least memory.
  stages = [
    reckon.stage_of(config, c, one, '', gpu)
    for c in stages_lib.stages(config).values()
  ]
  for chosen in combinations(config, sizes, hardware):
    found = settled(config, sizes, hardware, chosen)
    if found is None:
      continue
    fields, mesh, tensor = found
    own = {n: fields[f] for f, n in _RECKONED.items() if f in fields}
    if DTYPE in fields:
      own |= dict(itemsize=2, kv_itemsize=2, matrix_itemsize=2)
    changed = [reckon.moved(s._replace(**own), mesh, tensor) for s in stages]
    # Draws with top-p take more than is reckoned, so half of what fits may be
    # too many.
    most = _most_slots(model, changed, hardware)
    if SLOTS in chosen and config.engine.slots <= most / 2:
      continue
    if all(reckon.may_fit(model, s, hardware.kind.room) for s in changed):
      yield fields


def _most_slots(
  model: reckon.Model,
  stages: Sequence[reckon.Stage],
  hardware: machines.Hardware,
) -> float:
  """Slots, of all devices, whose chunks fit in every stage."""
  return min(
    reckon.slots_of_chunks(model, s, hardware.kind.room) * s.groups
    for s in stages
  )


def _hardest(config: ml_collections.ConfigDict) -> str:
  """The stage of the longest rows."""
  tokens = lambda item: (item[1].microbatch.columns, item[1].rollout.max_tokens)
  return max(stages_lib.stages(config).items(), key=tokens)[0]


def why(fields: Fields) -> str:
  return '; '.join(f'{name.split(".")[-1]}: {WHY[name]}' for name in fields)


def combinations(
  config: ml_collections.ConfigDict, sizes: Any, hardware: machines.Hardware
) -> Iterator[Fields]:
  """Changes of the config, those of few fields first; the first changes none.

  `sizes` are the heads of the model (`models.families.Network.config`).
  """
  c = config
  allowed = tensor_sizes(sizes.heads, sizes.kv_heads, hardware.devices)
  broken = c.mesh.tensor * c.mesh.sequence not in allowed

  def others(now: int, known: Sequence[int]) -> list[int]:
    """Larger sizes of an axis; smaller ones only if the heads forbid it."""
    smaller = [n for n in reversed(known) if n < now] if broken else []
    return smaller + [n for n in known if n > now]

  tensors = [{TENSOR: n} for n in others(c.mesh.tensor, allowed)]
  sequences = [{SEQUENCE: n} for n in others(c.mesh.sequence, (1, 2, 4, 8))]
  choices = [
    [{PAGES: 0}] if c.engine.pages else [],
    [{SLOTS: 0}] if c.engine.slots else [],
    [{REMAT: 'block'}] if c.remat != 'block' else [],
    [{ROWS: 1}] if c.microbatch.rows > 1 else [],
    [{ROLLOUTS: 0}] if c.rollout_mesh.tensor else [],
    tensors,
    [] if c.optim.offload else [{OFFLOAD: True}],
    sequences,
    [{VOCAB: _SMALL_CHUNK}] if c.microbatch.vocab_chunk > _SMALL_CHUNK else [],
    [{DTYPE: 'bfloat16'}] if c.dtype == 'float32' else [],
  ]
  for number in range(len(choices) + 1):
    for chosen in itertools.combinations(choices, number):
      for parts in itertools.product(*chosen):
        fields = {name: v for part in parts for name, v in part.items()}
        tensor = fields.get(TENSOR, c.mesh.tensor)
        if tensor * fields.get(SEQUENCE, c.mesh.sequence) in allowed:
          yield fields


def tensor_sizes(heads: int, kv_heads: int, devices: int) -> list[int]:
  """Sizes of a tensor axis that the heads and the devices allow."""
  return [
    n
    for n in range(1, heads + 1)
    if not heads % n
    and not devices % n
    and (not kv_heads % n or not n % kv_heads)
  ]


def rollout_tensors(
  config: ml_collections.ConfigDict,
  sizes: Any,
  hardware: machines.Hardware,
  fields: Fields = types.EMPTY,
) -> list[int]:
  """The tensor axes that rollouts may have: the config's, or any for 0.

  They stay in a slice of TPUs or a node of GPUs. On CPUs 0 is `mesh.tensor`.
  """
  given = fields.get(ROLLOUTS, config.rollout_mesh.tensor)
  if hardware.kind.platform == 'cpu':
    given = given or fields.get(TENSOR, config.mesh.tensor)
  gpu = hardware.kind.platform == 'gpu'
  each = hardware.devices // (hardware.hosts if gpu else hardware.slices)
  return [given] if given else tensor_sizes(sizes.heads, sizes.kv_heads, each)


def settled(
  config: ml_collections.ConfigDict,
  sizes: Any,
  hardware: machines.Hardware,
  fields: Fields,
) -> tuple[Fields, Mapping[str, int], int] | None:
  """(`fields` with what they bring about, mesh, tensor axis of rollouts).

  The mesh covers the devices, slots are the nearest multiple of the rollouts'
  shards, and columns one of the mesh's sequence axis. The tensor axis is the
  largest that rollouts may have. None if no mesh has such sizes. `sizes` are
  heads, as of `combinations`.
  """
  of_model = sizes
  own = dict(fields)
  sizes = {n: config.mesh[n] for n in ('data', 'fsdp', 'tensor', 'sequence')}
  sizes |= {
    name.split('.')[-1]: value
    for name, value in fields.items()
    if name.startswith('config.mesh.')
  }
  try:
    mesh = machines.mesh_sizes(sizes, hardware.devices, hardware.slices)
  except ValueError:
    sizes |= dict(data=1, fsdp=-1)
    try:
      mesh = machines.mesh_sizes(sizes, hardware.devices, hardware.slices)
    except ValueError:
      return None
    own |= {
      name: sizes[name.split('.')[-1]]
      for name in (DATA, FSDP)
      if config.mesh[name.split('.')[-1]] != sizes[name.split('.')[-1]]
    }
  tensors = rollout_tensors(config, of_model, hardware, fields)
  slots, tensor = fields.get(SLOTS, config.engine.slots), max(tensors)
  divides = [n for n in tensors if not slots % (hardware.devices // n)]
  if divides:
    tensor = max(divides)
  else:
    own[SLOTS] = nearest(slots, hardware.devices // tensor)
  if config.microbatch.columns % mesh['sequence']:
    own[COLUMNS] = -(-config.microbatch.columns // mesh['sequence'])
    own[COLUMNS] *= mesh['sequence']
  return own, mesh, tensor


def nearest(number: int, of: int) -> int:
  """The nearest multiple of `of`, at least one; the larger of two."""
  return max(1, (2 * number + of) // (2 * of)) * of


def _larger(hardware: machines.Hardware) -> Iterator[machines.Hardware]:
  """Larger machines of the kind, the smallest first."""
  kind = hardware.kind
  if kind.platform == 'cpu':
    return
  if kind.platform == 'gpu':
    nodes = (2**i for i in range(9))
    texts = ['1', '2', '4', '8', *(f'8*{n}' for n in nodes if n > 1)]
  elif kind.flat:
    texts = list(kind.flat)
  else:
    texts = ['2x2x1', '2x2x2', '2x2x4', '2x4x4', '4x4x4', '4x4x8', '4x8x8']
    texts += ['8x8x8', '8x8x16', '8x16x16']
  for text in texts:
    found = machines.hardware(f'{kind.name}:{text}')
    if hardware.devices < found.devices <= _MOST_DEVICES:
      yield found
