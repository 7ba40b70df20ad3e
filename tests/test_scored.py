"""Scores are by-products: `add` computes, sends and sums what it did before.

Compared with the function as it was (old_gradients.py), compiled as all tests
are, at XLA's optimization level 0. Optimized code for CPUs may add up the
metric `mismatch` in another order (measured on one device: 1e-7 of it); there
loss, entropy and gradients kept their bits.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import old_gradients
import optax
import pytest
import test_lora
import test_update

from acereason_jax import mesh as mesh_lib
from acereason_jax import partition
from acereason_jax.kernels import attention
from acereason_jax.models import base, decoder, lora, sharding
from acereason_jax.planning import hlo, sends
from acereason_jax.rl import losses, packing, update

# Its loss reads logp_ref and logp_first.
pytestmark = pytest.mark.usefixtures('users_fusions')
WITH_ALL = losses.with_kl(
  losses.truncated_importance(losses.clipped(0.2, 0.28), 2.0), 0.5
)
# (sizes of the mesh or None, adapters, loss, options).
CASES = {
  'adapters': (None, True, test_update.CLIPPED, {}),
  'everything': (
    None,
    False,
    WITH_ALL,
    dict(entropy_bonus=True, several=True),
  ),
  'fsdp and tensor': (
    (1, 2, 2),
    False,
    WITH_ALL,
    dict(entropy_bonus=True, several=True),
  ),
  'groups of data': ((2, 2, 1), False, WITH_ALL, dict(several=True)),
  'groups of data, adapters': ((2, 1, 2), True, test_update.CLIPPED, {}),
  'sequence': ((2, 1, 1, 2), False, test_update.CLIPPED, {}),
}


class Case:
  """Both functions of a case, and what they are called on."""

  def __init__(self, name):
    sizes, adapters, loss, options = CASES[name]
    kwargs, self.placed, rest = {}, None, None
    self.params, frozen = test_update.PARAMS, {}
    specs, frozen_specs = test_update.MODEL.specs, {}
    if adapters:
      parts = test_lora.split()
      self.params, frozen = test_lora.rough(parts)
      specs, frozen_specs, _ = parts
      kwargs['layer_weights'] = functools.partial(
        lora.merged_layer, scale=parts.scale
      )
    self.rows = None
    if sizes:
      mesh = test_update.make_mesh(sizes)
      kwargs |= partition.pins(mesh)
      kwargs['attend'] = partition.split_attention(
        mesh, attention.packed_attention
      )
      self.placed = sharding.param_shardings(specs, mesh)
      rest = sharding.param_shardings(frozen_specs, mesh)
      self.params = jax.device_put(self.params, self.placed)
      frozen = jax.device_put(frozen, rest)
      self.rows = mesh_lib.packed(mesh)
    self.weights = base.overlaid(frozen, self.params)
    model = decoder.make_model(test_update.CONFIG, **kwargs)
    self.made = update.make_update(
      model,
      loss,
      optax.sgd(1e-3),
      vocab_chunk=40,
      dtype=jnp.float32,
      param_shardings=self.placed,
      frozen_shardings=rest,
      **options,
    )
    self.old = old_gradients.adder(
      model, loss, placed=self.placed, frozen=rest, **options
    )

  def batch(self):
    """A batch with logp_ref and logp_first, which differ from logp."""
    (batch,) = test_update.pack(test_update.GROUPS, 4, 24)
    said, rng = batch.weight_BT > 0, np.random.default_rng(7)
    draw = lambda: np.where(said, rng.normal(-4.5, 0.3, said.shape), 0.0)
    batch = batch._replace(
      logp_ref_BT=draw().astype(np.float32),
      logp_first_BT=draw().astype(np.float32),
    )
    if self.rows is None:
      return jax.tree.map(jnp.asarray, batch)
    spread = functools.partial(mesh_lib.spread, sharding=self.rows)
    return packing.PackedBatch(*map(spread, batch))


SLOW = 'fsdp and tensor', 'groups of data, adapters', 'sequence'
EACH = [
  pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else [])
  for name in CASES
]


@pytest.mark.parametrize('name', EACH)
def test_sums_are_the_same_to_the_bit_and_cost_the_same(name):
  case = Case(name)
  batch, knobs = case.batch(), test_update.BONUS
  programs = []
  for fn in (case.old, case.made.add):
    sums = case.made.zeros(case.params)
    programs.append(fn.lower(case.weights, sums, batch, knobs).compile())
  # Two calls: the second adds to sums that are not 0.
  want, got = case.made.zeros(case.params), case.made.zeros(case.params)
  for _ in range(2):
    want = programs[0](case.weights, want, batch, knobs)
    got, scored = programs[1](case.weights, got, batch, knobs)
  test_update.assert_bitwise(jax.device_get(got), jax.device_get(want))
  assert float(np.sum(jax.device_get(got.tokens))) > 0
  check_scores(case, scored, batch, knobs)
  check_costs(*programs, scored)


def check_scores(case, scored, batch, knobs):
  """They are `Update.logp` where it says anything, in rows as the batch."""
  for x in scored:
    assert x.dtype == jnp.float32 and x.shape == batch.tokens_BT.shape
    if case.rows is not None:
      assert x.sharding.is_equivalent_to(case.rows, 2)
  said = np.asarray(batch.weight_BT) > 0
  logp = np.asarray(case.made.logp(case.weights, batch, knobs))
  # Another program: its sums may be in another order. Measured: 0.
  np.testing.assert_allclose(
    np.asarray(scored.logp_BT)[said], logp[said], rtol=0, atol=2e-6
  )
  assert (np.asarray(scored.entropy_BT)[said] > 0).all()


def check_costs(old, new, scored):
  """As many products and collectives; 8 bytes more a token, in results.

  A copy of logits would be among the temporaries.
  """
  texts = [hlo.parse(program.as_text()) for program in (old, new)]
  products = [
    sum(op.kind in ('dot', 'custom-call', 'while') for op in ops)
    for ops in texts
  ]
  assert products[0] == products[1] > 0
  assert sends.by_kind(texts[0]) == sends.by_kind(texts[1])
  before, after = (p.memory_analysis() for p in (old, new))
  tokens = np.prod(scored.logp_BT.sharding.shard_shape(scored.logp_BT.shape))
  # And two pointers in the tuple of results.
  grown = after.output_size_in_bytes - before.output_size_in_bytes
  assert 8 * tokens <= grown <= 8 * tokens + 64
  assert after.alias_size_in_bytes == before.alias_size_in_bytes
  assert after.temp_size_in_bytes <= before.temp_size_in_bytes
