"""Orbax's small files in a bucket: gcsfs, made patient and truthful.

Orbax writes arrays with tensorstore, and lists folders and writes small files
with gcsfs. Only fsspec imports this module, at the first gs:// path.

gcsfs gives up after half a minute, writes a file in several requests, keeps
lists of files although other hosts write, and takes a refused question for a
folder that is not there: a run would begin anew beside its own checkpoints.
"""

import asyncio
import io
import logging
from typing import Any

import aiohttp
from gcsfs import core, retry

from acereason_jax import storage

# Seconds before each try, as in storage.py.
_WAITS = 0, 1, 2, 4, 8, 16, 32, 32
# Seconds for one answer; the files are small.
_MOST_SECONDS = 60
_ask = core.GCSFileSystem._request.__wrapped__


class _Whole(io.BytesIO):
  """A file that is written in one request, which may be sent again."""

  def __init__(self, system: core.GCSFileSystem, path: str):
    super().__init__()
    self._system, self._path = system, path

  def close(self) -> None:
    if not self.closed:
      content = self.getvalue()
      super().close()
      self._system.pipe_file(self._path, content)


class Files(core.GCSFileSystem):
  """The file system of gs:// paths."""

  def __init__(self, *args, **kwargs):
    super().__init__(*args, **{'use_listings_cache': False} | kwargs)

  def _open(self, path: str, mode: str = 'rb', **kwargs) -> Any:
    if mode == 'wb':
      return _Whole(self, path)
    return super()._open(path, mode, **kwargs)

  async def _request(self, method: str, path: str, *args, **kwargs) -> Any:
    """Raises: FileNotFoundError, FileExistsError, storage.Refused."""
    for wait in _WAITS:
      await asyncio.sleep(wait)
      try:
        answer = _ask(self, method, path, *args, **kwargs)
        return await asyncio.wait_for(answer, _MOST_SECONDS)
      except (FileNotFoundError, FileExistsError):
        raise
      except (aiohttp.ClientError, OSError, retry.HttpError) as e:
        error = e
        if not isinstance(e, TimeoutError) and not retry.is_retriable(e):
          break
    raise storage.Refused(_place(path, args), _kind(error)) from error


def _place(path: str, args: tuple) -> str:
  """gs://BUCKET/NAME of a request; its address, where it names none."""
  return storage.SCHEME + '/'.join(map(str, args)) if args else path


def _kind(error: Exception) -> str:
  """The error in the words of `storage.error`."""
  words = ' '.join(f'{type(error).__name__} {error}'.split())
  status = str(getattr(error, 'code', ''))
  if status == '401':
    return f'UNAUTHENTICATED: {words}'
  if 'Forbidden' in words:
    return f'PERMISSION_DENIED: {words}'
  if status[:1] == '4' and not retry.is_retriable(error):
    return f'REFUSED: {words}'
  return f'UNAVAILABLE: {words}'


# It prints errors, with tracebacks, that the caller gets too.
logging.getLogger('gcsfs').setLevel(logging.CRITICAL + 1)
