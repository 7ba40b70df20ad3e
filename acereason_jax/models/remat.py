"""What the backward pass keeps of a layer; it computes the rest again."""

import jax

from acereason_jax.kernels import attention

_KEEP = jax.checkpoint_policies
POLICIES = {
  # Products with weights, and attention: only cheap operations are repeated.
  # Also the fastest on a CPU, which writes memory slower than it multiplies.
  'dots': _KEEP.save_from_both_policies(
    _KEEP.dots_with_no_batch_dims_saveable,
    _KEEP.save_only_these_names(attention.SAVED),
  ),
  # Attention only: its cost grows with T squared, that of the rest with T.
  'attention': _KEEP.save_only_these_names(attention.SAVED),
  'block': _KEEP.nothing_saveable,
}
