"""Memory of a plan, against the compilers' figures of docs/measured.md."""

import math

import pytest

from acereason_jax import machines
from acereason_jax.models import base, families, sizes
from acereason_jax.planning import activations, memory
from acereason_jax.rollout import engine_sizes

MODELS = {'7b': 'qwen2-7b', '14b': 'qwen2-14b', '1.5b': 'qwen2-1.5b'}
TOKENS = 1024 + 32768
# docs/measured.md, "One update": the column `memory`, a share of the device.
# (model, machine, fsdp, tensor, sequence, remat, kernel, offload, share)
UPDATES = [
  ('7b', 'v5p', 64, 1, 1, 'block', 'fused_splash', False, 0.18),
  ('7b', 'v5p', 64, 1, 1, 'attention', 'fused_splash', False, 0.26),
  ('7b', 'v6e', 256, 1, 1, 'block', 'fused_splash', False, 0.46),
  ('7b', 'tpu7x', 8, 1, 1, 'block', 'fused_splash', False, 0.38),
  ('14b', 'v5p', 2, 1, 4, 'block', 'fused_splash', False, 0.47),
  ('7b', 'h100', 8, 1, 1, 'block', 'mosaic_gpu', False, 0.39),
  ('7b', 'h100', 8, 1, 1, 'block', 'triton', False, 0.40),
  ('7b', 'v5p', 64, 1, 1, 'block', 'splash', False, 0.27),
  ('7b', 'v5p', 64, 1, 1, 'attention', 'splash', False, 0.37),
  ('7b', 'v6e', 256, 1, 1, 'block', 'splash', False, 0.71),
  ('7b', 'v5e', 64, 4, 1, 'block', 'splash', False, 0.70),
  ('7b', 'v5e', 64, 4, 1, 'block', 'splash', True, 0.69),
  ('14b', 'v5p', 64, 1, 1, 'block', 'splash', False, 0.41),
  ('1.5b', 'v5e', 256, 1, 1, 'block', 'splash', False, 0.48),
]
# The same of "The decode chunk".
# (model, machine, data, tensor, slots, room of a slot, page, share)
DECODES = [
  ('7b', 'v5e', 4, 4, 256, 10, 128, 0.79),
  ('7b', 'v5p', 2, 4, 256, 32, 128, 0.68),
  ('7b', 'v6e', 4, 4, 256, 24, 128, 0.79),
  ('7b', 'tpu7x', 2, 4, 256, 32, 256, 0.71),
  ('14b', 'v5p', 1, 8, 128, 24, 128, 0.87),
  ('1.5b', 'v5e', 2, 2, 64, 24, 128, 0.76),
  ('7b', 'h100', 8, 1, 512, 12, 128, 0.72),
]
# Decoding in configs/acereason_7b.py's first stage, 256 slots, as
# `plan --compile` gave it (jax 0.10.2, 2026-11-30); GB of arguments, of which
# the pool, and of temporaries.
# (model, machine, data x fsdp, tensor, arguments, temporaries)
FRESH = [
  ('7b', 'v5e', 4, 4, 9.506, 0.119),
  ('7b', 'v5p', 2, 4, 20.721, 0.362),
  ('7b', 'v6e', 4, 4, 12.266, 0.133),
  ('1.5b', 'v5e', 2, 2, 9.888, 0.237),
  ('7b', 'h100', 8, 1, 32.150, 0.689),
]


def network(name):
  """The compiled 1.5B had one table for embedding and head."""
  changes = dict(tie_word_embeddings=True) if name == '1.5b' else {}
  return families.from_config(sizes.config_json(MODELS[name]) | changes)


@pytest.mark.parametrize('row', UPDATES, ids=lambda r: ' '.join(map(str, r)))
def test_an_update_takes_what_the_compiler_says(row):
  name, kind, fsdp, tensor, sequence, remat, kernel, offload, share = row
  net = network(name)
  c, count = net.config, base.param_count(net.specs)
  shards = fsdp * tensor * sequence
  load = activations.Load(
    tokens=TOKENS // sequence,
    layers=c.layers,
    embed=c.embed,
    queries=c.heads * c.head_dim // tensor,
    keys=max(1, c.kv_heads // tensor) * c.head_dim,
    heads=c.heads // tensor,
    mlp=c.mlp // tensor,
    layer_bytes=2 * base.param_count(net.specs['layers']) // c.layers // tensor,
    params=count // shards,
    itemsize=2,
    vocab_chunk=2048,
    remat=remat,
    kernel=kernel,
    gpu=kind == 'h100',
  )
  # Weights, moments and sums: 4, 8 and 4 bytes a parameter.
  state = (8 if offload else 16) * count / shards
  need = state + sum(activations.update_parts(load).values())
  compiled = share * machines.KINDS[kind].memory
  assert need == pytest.approx(compiled, rel=0.15)


@pytest.mark.parametrize('row', DECODES, ids=lambda r: ' '.join(map(str, r)))
def test_decoding_takes_what_the_compiler_says(row):
  name, kind, data, tensor, slots, room, page, share = row
  net, machine = network(name), machines.KINDS[kind]
  c = net.config
  pages = slots // data * room * 1024 // page + 1
  engine = engine_sizes.Sizes(
    slots=slots,
    shards=data,
    page=page,
    chunk=128,
    pages=pages,
    rows=4 * data,
    piece=256,
    window=1024,
    max_tokens=32768,
  )
  kv_heads = max(1, c.kv_heads // tensor)
  weights = 2 * base.param_count(net.specs) / tensor
  pool = pages * page * c.layers * kv_heads * 2 * c.head_dim * 2
  temporaries = memory.decode_parts(
    engine,
    layers=c.layers,
    kv_heads=kv_heads,
    head_dim=c.head_dim,
    vocab=c.vocab // tensor,
    itemsize=2,
    platform=machine.platform,
  )
  if kind == 'tpu7x':
    # Its compile shows a copy of all weights of products, 3.5 GB.
    anew = memory.laid_out_anew(machine.model, weights, c, 2, tensor)
    assert anew == pytest.approx(3.5e9, rel=0.02)
    temporaries['anew'] = anew
  need = weights + pool + sum(temporaries.values())
  assert need == pytest.approx(share * machine.memory, rel=0.05)


@pytest.mark.parametrize('row', FRESH, ids=lambda r: ' '.join(map(str, r)))
def test_temporaries_of_decoding_are_the_compilers(row):
  name, kind, shards, tensor, arguments, expected = row
  c, platform = network(name).config, machines.KINDS[kind].platform
  engine = engine_sizes.Sizes(
    slots=256,
    shards=shards,
    page=128,
    chunk=128,
    pages=2,
    rows=4 * shards,
    piece=256,
    window=1024,
    max_tokens=8192,
  )
  parts = memory.decode_parts(
    engine,
    layers=c.layers,
    kv_heads=max(1, c.kv_heads // tensor),
    head_dim=c.head_dim,
    vocab=c.vocab // tensor,
    itemsize=2,
    platform=platform,
  )
  need = arguments + sum(parts.values()) / 1e9
  assert need == pytest.approx(arguments + expected, rel=0.05)


def test_an_optimizers_step_is_in_place():
  """7B on 8 H100 (temporaries 0 GB) and on 2 x 8 (3.861 GB)."""
  weights = 4 * base.param_count(network('7b').specs) / 8
  for platform in ('gpu', 'tpu'):
    assert memory.applied(platform, weights, 1) == {}
  groups = memory.applied('gpu', weights, 2)
  assert sum(groups.values()) == pytest.approx(3.861e9, rel=0.02)


def test_dots_keep_every_product_of_a_layer():
  """Counted by hand for one token of a dense layer in float32."""
  load = activations.Load(
    tokens=1,
    layers=1,
    embed=10,
    queries=8,
    keys=4,
    heads=2,
    mlp=30,
    layer_bytes=0,
    params=0,
    itemsize=4,
    vocab_chunk=1,
    remat='dots',
    kernel='xla',
    gpu=False,
  )
  # Input 10, q 8, k 4, v 4, attention 8, o 10, gate 30, up 30, down 10.
  assert activations.kept(load) == 4 * 114 + 4 * 2
  block = activations.kept(load._replace(remat='block'))
  attention = activations.kept(load._replace(remat='attention'))
  assert (block, attention) == (4 * 10, 4 * 18 + 4 * 2)
  assert math.isfinite(activations.layer(load))
