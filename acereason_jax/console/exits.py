"""How commands end: exit codes, and one line for errors of these kinds."""

import contextlib
import os
from collections.abc import Iterator

from absl import logging

from acereason_jax.console import oserrors, terminal

# The exit status of a command that a signal stopped and that can go on.
STOPPED = os.EX_TEMPFAIL


@contextlib.contextmanager
def mendable(*kinds: type[Exception], where: str = '') -> Iterator[None]:
  """Ends the run with one line for errors of these kinds.

  Wraps the reading of what a user gave, and known ends of a run; anything
  else is a bug, which keeps its traceback.
  """
  try:
    yield
  except kinds as e:
    logging.debug('where the error below comes from', exc_info=True)
    said = oserrors.explained(e) if isinstance(e, OSError) else e
    text = terminal.printable(' '.join(f'{where}{said}'.split()))
    raise SystemExit(f'error: {text}') from e
