"""The digest of the code that a judge is made of: verdicts depend on it."""

import contextlib
import functools
import hashlib
import importlib.util
import pathlib

_ROOT = pathlib.Path(__file__).parent.parent
_VERIFIERS = 'acereason_jax.verifiers.'


@functools.cache
def source(fn: str) -> str:
  """SHA-256 of the judges' files; of the file of another 'module:function'."""
  module = fn.partition(':')[0]
  if f'{module}.'.startswith(_VERIFIERS):
    found = sorted((_ROOT / 'verifiers').rglob('*.py'))
  else:
    spec = None
    with contextlib.suppress(ImportError, ValueError):  # The pool says it.
      spec = importlib.util.find_spec(module)
    located = spec is not None and spec.has_location
    found = [pathlib.Path(spec.origin)] if located else []
  whole = hashlib.sha256()
  for path in found:
    name = path.relative_to(_ROOT) if path.is_relative_to(_ROOT) else path.name
    whole.update(f'{name}\n'.encode() + path.read_bytes())
  return whole.hexdigest()
