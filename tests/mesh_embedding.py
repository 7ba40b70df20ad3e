"""Memory of embeddings on meshes of eight devices; other tests have four.

    python mesh_embedding.py

`test_update` runs this; what it asserts is one of its tests.
"""

import jax
import jax.numpy as jnp

from acereason_jax import mesh as mesh_lib
from acereason_jax import partition
from acereason_jax.planning import copies, hlo

# If the table is not smaller than the embeddings, GSPMD moves the embeddings.
T, D, VOCAB = 512, 256, 1024
MESHES = [
  dict(fsdp=8, tensor=1, sequence=1),
  dict(fsdp=2, tensor=1, sequence=4),
  dict(fsdp=2, tensor=2, sequence=2),
]


def largest_array(sizes) -> int:
  """Elements of the largest array of a device, in either pass."""
  mesh = mesh_lib.make_mesh(data=1, **sizes)
  pins = partition.pins(mesh)

  def gradient(table_VD, tokens_BT, cotangent_BTD):
    def objective(table_VD):
      table_VD = table_VD.astype(jnp.bfloat16)
      x_BTD = pins['pin_packed'](pins['look_up'](table_VD, tokens_BT))
      return jnp.sum(x_BTD * cotangent_BTD)

    return jax.value_and_grad(objective)(table_VD)

  place = jax.NamedSharding(mesh, jax.P('tensor', mesh_lib.SHARDED))
  packed = mesh_lib.packed(mesh)
  tokens = jax.ShapeDtypeStruct((sizes['fsdp'], T), jnp.int32, sharding=packed)
  arrays = (
    jax.ShapeDtypeStruct((VOCAB, D), jnp.float32, sharding=place),
    tokens,
    jax.ShapeDtypeStruct((*tokens.shape, D), jnp.float32, sharding=packed),
  )
  fn = jax.jit(gradient, out_shardings=(None, place))
  text = fn.lower(*arrays).compile().as_text()
  return copies.largest_array(hlo.parse(text), stacked=0)


def main() -> None:
  for sizes in MESHES:
    # Its rows' own tokens, or its own part of D of all.
    share = sizes['fsdp'] * sizes['sequence']
    assert largest_array(sizes) == sizes['fsdp'] * T * D // share, sizes


if __name__ == '__main__':
  main()
