"""Which activations of a layer the backward pass keeps, not recomputes."""

import jax

from acereason_jax.kernels import attention

_KEEP = jax.checkpoint_policies
POLICIES = {
  # Keeps products with weights and attention, so only cheap operations are
  # repeated. It is also the fastest on a CPU, which writes memory slower than
  # it multiplies.
  'dots': _KEEP.save_from_both_policies(
    _KEEP.dots_with_no_batch_dims_saveable,
    _KEEP.save_only_these_names(attention.SAVED),
  ),
  # Keeps only attention: its cost grows with T squared, that of the rest with
  # T.
  'attention': _KEEP.save_only_these_names(attention.SAVED),
  'block': _KEEP.nothing_saveable,
}
