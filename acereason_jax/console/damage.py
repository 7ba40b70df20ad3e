"""One line for any error that a library raises on a damaged file."""

import contextlib
from collections.abc import Callable, Iterator

# Libraries that trust a damaged file can raise any of these. A bug of ours can
# too, so the line gives the kind of the error and its message.
_ENDS = (
  ArithmeticError,
  AttributeError,
  LookupError,
  OSError,
  RecursionError,
  TypeError,
  ValueError,
)
_REASON_CHARS = 300


@contextlib.contextmanager
def told(error: Callable[[str], Exception]) -> Iterator[None]:
  """Raises `error(reason)` in place of the error that a library raised."""
  try:
    yield
  except Exception as e:
    # jax and tokenizers raise a bare Exception for a file that cannot be read.
    if type(e) is not Exception and not isinstance(e, _ENDS):
      raise
    reason = ' '.join(f'{type(e).__name__}: {e}'.split())[:_REASON_CHARS]
    raise error(reason) from e
