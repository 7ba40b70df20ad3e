"""Work of stages by hand, for tests of planning."""

from acereason_jax.models import shape as shape_lib
from acereason_jax.planning import values
from acereason_jax.rollout import engine_sizes


def shape(name, layers, embed, heads, kv_heads, vocab, params, tied=False):
  embedding = 0 if tied else vocab * embed
  return shape_lib.Shape(
    name=name,
    layers=layers,
    embed=embed,
    heads=heads,
    kv_heads=kv_heads,
    head_dim=128,
    vocab=vocab,
    params=params,
    trained=params,
    products=params - embedding,
  )


# Parameters as in the models' files.
QWEN_1_5B = shape('1.5b', 28, 1536, 12, 2, 151936, 1_543_714_304, tied=True)
QWEN_7B = shape('7b', 28, 3584, 28, 4, 152064, 7_615_616_512)
QWEN_14B = shape('14b', 48, 5120, 40, 8, 152064, 14_770_033_664)
LLAMA_8B = shape('8b', 32, 4096, 32, 8, 128256, 8_030_261_248)
SMALL = shape_lib.Shape('small', 2, 8, 4, 2, 4, 32, 1000, 1000, 800)
SIZES = engine_sizes.Sizes(
  slots=8,
  shards=2,
  page=4,
  chunk=4,
  pages=200,
  rows=4,
  piece=8,
  window=16,
  max_tokens=64,
)


def mesh(data=1, fsdp=1, tensor=1, sequence=1):
  return dict(data=data, fsdp=fsdp, tensor=tensor, sequence=sequence)


def work(**changes):
  """A stage of the 7B model on 64 devices, 8 slots on each of 2 shards."""
  fields = dict(
    name='stage',
    steps=10,
    shape=QWEN_7B,
    mesh=mesh(fsdp=64),
    rollout_mesh=mesh(fsdp=64),
    sizes=SIZES,
    heldout=SIZES,
    prompts=8,
    groups=4,
    columns=128,
    rows=64,
    multiple=512,
    share_prompts=False,
    even_tokens=70_000.0,
    remat='attention',
    updates=1,
    dtype_bytes=2,
    kv_bytes=2,
    matrix_bytes=2,
    state_bytes=0.0,
    moment_bytes=0.0,
    offload=False,
    train_sums=0.0,
    asked=0,
    tries=0,
    looks=(),
    judges=(),
    checkpoint_every=0,
    checkpoint_bytes=0.0,
  )
  return values.Work(**(fields | changes))
