"""One line for whatever a library makes of a file that is damaged."""

import contextlib
from collections.abc import Callable, Iterator

# Libraries that believe what a file says end in any of these. A bug of ours
# does too: the line names the kind and the words.
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
  """Raises `error(reason)` in place of what a library raised inside."""
  try:
    yield
  except Exception as e:
    # jax and tokenizers say that a file cannot be read with a bare Exception.
    if type(e) is not Exception and not isinstance(e, _ENDS):
      raise
    reason = ' '.join(f'{type(e).__name__}: {e}'.split())[:_REASON_CHARS]
    raise error(reason) from e
