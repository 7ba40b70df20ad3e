"""Which tokamax: modules of it that are not public are used.

So it is pinned, to the newest that each Python has.
"""

import importlib.metadata
import sys

# 0.0.13 and newer want Python 3.12.
NEW = sys.version_info >= (3, 12)
TOKAMAX = 'tokamax==0.0.17' if NEW else 'tokamax==0.0.12'


def has_tokamax() -> bool:
  """Whether it is there, in the version whose modules this project knows."""
  try:
    return f'tokamax=={importlib.metadata.version("tokamax")}' == TOKAMAX
  except importlib.metadata.PackageNotFoundError:
    return False
