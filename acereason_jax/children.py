"""The environment of processes that read what strangers wrote.

It holds only the variables that their interpreter needs, so no secret of the
trainer can leak through it.
"""

import os
import sys

_KEPT = ('PATH', 'LD_LIBRARY_PATH', 'PYTHONHOME', 'TMPDIR')


def environment(**more: str) -> dict[str, str]:
  """All environment variables of a child, which imports from the same paths."""
  kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
  return kept | {
    'PYTHONPATH': os.pathsep.join(os.path.abspath(p) for p in sys.path),
    # The order of hashed sets must not change from process to process.
    'PYTHONHASHSEED': '0',
    # Each thread of these reserves address space, which is limited.
    'OPENBLAS_NUM_THREADS': '1',
    'OMP_NUM_THREADS': '1',
    **more,
  }
