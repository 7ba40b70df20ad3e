"""Files on a disk or in a bucket: a path may be gs://BUCKET/NAME.

A bucket has no folders and cannot append: an object is written whole. Every
call asks the store, so it finds what any host wrote before. A store that does
not answer is asked again for about two minutes.
"""

import errno
import functools
import importlib.util
import os
import pathlib
import re
import stat
from typing import Any

import tensorstore

from acereason_jax import files

Path = str | os.PathLike

SCHEME = 'gs://'
# tensorstore's generation of what does not exist.
MISSING = b'\x02'
# Tries after the first: the waits between them double, from 1 s to 32 s.
_RETRIES = 7
# For a store that takes a request and never answers: it is tried again after
# so long without a byte. tensorstore reads this at its first request.
os.environ.setdefault('TENSORSTORE_CURL_LOW_SPEED_TIME_SECONDS', '20')
os.environ.setdefault('TENSORSTORE_CURL_LOW_SPEED_LIMIT_BYTES', '1')
# No call takes longer, whatever the store does.
_MOST_SECONDS = 600.0
_BUCKET = re.compile(r'[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]')
_MOST_NAME_BYTES = 1024


def is_remote(path: Path) -> bool:
  """Whether the path is in a bucket.

  Raises:
    ValueError: one line, a URL that is not gs://BUCKET/NAME, or gcsfs is not
      installed.
  """
  path = os.fspath(path)
  if '://' not in path:
    return False
  _split(path)
  if not _is_equipped():
    raise ValueError(f"{path}: needs gcsfs: pip install 'acereason_jax[gcs]'")
  return True


def join(root: Path, *parts: str) -> str:
  """The path of a file below a folder; '/' separates in a bucket."""
  if is_remote(root):
    return '/'.join([os.fspath(root).rstrip('/'), *parts])
  return os.path.join(root, *parts)


def read(path: Path, most_bytes: int) -> bytes | None:
  """The content; None if there is no such file.

  Raises:
    ValueError: one line, it is larger than `most_bytes`; it is not read.
    OSError: one line.
  """
  if not is_remote(path):
    return _read_local(path, most_bytes)
  return read_at(path, most_bytes)[0]


def read_at(path: Path, most_bytes: int) -> tuple[bytes | None, bytes]:
  """(content or None, generation) of an object; raises as `read` does."""
  bucket, name = _split(path)
  if not name:
    return None, MISSING
  store = _store(bucket)
  # Asking for more bytes than there are is an error, and a length cannot be
  # asked for. So this asks for the first byte too many, which should not be.
  beyond = slice(most_bytes, most_bytes + 1)
  try:
    found = _told(path, store.read(name, byte_range=beyond))
  except _OutOfRange:
    found = _told(path, store.read(name))
    return _value(found), found.stamp.generation
  if found.state == 'missing':
    return None, found.stamp.generation
  raise _too_large(path, most_bytes)


def start(path: Path, most_bytes: int) -> bytes | None:
  """At most so many first bytes; None if there is no such file.

  Raises:
    OSError: one line.
  """
  if not is_remote(path):
    try:
      return _start_local(path, most_bytes)
    except NotADirectoryError:
      return None
  bucket, name = _split(path)
  if not name:
    return None
  store, head = _store(bucket), slice(0, most_bytes)
  try:
    return _value(_told(path, store.read(name, byte_range=head)))
  except _OutOfRange:  # It is shorter.
    return _value(_told(path, store.read(name)))


def write(path: Path, content: bytes) -> None:
  """Writes the file whole, or not at all; folders are made. Raises: OSError."""
  if not is_remote(path):
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    files.write_atomically(path, content)
    return
  _change(path, content)


def create(path: Path, content: bytes) -> bool:
  """Writes a file that is new; False if it is there. Raises: OSError.

  Of several writers one gets True. A reader finds a local file before its
  content is whole.
  """
  if is_remote(path):
    return replace(path, content, MISSING) is not None
  os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
  try:
    with open(path, 'xb') as file:
      file.write(content)
  except FileExistsError:
    return False
  return True


def replace(
  path: Path, content: bytes | None, generation: bytes
) -> bytes | None:
  """Writes an object if it is still of this generation; None: delete it.

  Returns the new generation; None if another writer came first. An object that
  does not exist is of generation MISSING.

  If the answer is lost on the way and the store is asked again, this too gives
  None: only a look at the content tells whose it is. Raises: OSError.
  """
  bucket, name = _object(path)
  future = _store(bucket).write(name, content, if_equal=generation)
  return _told(path, future).generation or None


def names(folder: Path) -> list[str]:
  """The files below a folder at any depth, relative to it, in order."""
  if not is_remote(folder):
    found = pathlib.Path(folder).rglob('*')
    return sorted(str(p.relative_to(folder)) for p in found if p.is_file())
  bucket, name = _split(folder)
  prefix = _below(name)
  inside = tensorstore.KvStore.KeyRange(prefix, _after(prefix))
  keys = _told(folder, _store(bucket).list(inside, len(prefix.encode())))
  if not keys:
    # tensorstore 0.1.86 takes a refused list for an empty one; a refused read
    # is an error.
    _told(folder, _store(bucket).read(f'{prefix}?'))
  return sorted(key.decode() for key in keys)


def remove(path: Path) -> None:
  """Removes a file, if it is there. Raises: OSError."""
  if is_remote(path):
    _change(path, None)
  else:
    pathlib.Path(path).unlink(missing_ok=True)


class Refused(ValueError):
  """`error`, for libraries that take an OSError for a file that is missing."""

  def __init__(self, path: Path, reason: str):
    self.error = error(path, reason)
    super().__init__(self.error.strerror)


class _OutOfRange(OSError):
  """The object is smaller than what was asked for."""


@functools.cache
def _is_equipped() -> bool:
  # Orbax needs it for checkpoints; this file does not.
  return importlib.util.find_spec('gcsfs') is not None


@functools.cache
def _store(bucket: str) -> tensorstore.KvStore:
  context = tensorstore.Context(
    dict(
      gcs_request_retries=dict(
        max_retries=_RETRIES, initial_delay='1s', max_delay='32s'
      )
    )
  )
  spec = dict(driver='gcs', bucket=bucket)
  return tensorstore.KvStore.open(spec, context=context).result()


def _change(path: Path, content: bytes | None) -> None:
  """Writes an object, or removes it (None). Raises: OSError."""
  bucket, name = _object(path)
  answer = _told(path, _store(bucket).write(name, content))
  if not answer.generation:
    raise error(path, 'FAILED_PRECONDITION')


def _object(path: Path) -> tuple[str, str]:
  """`_split` of a path that is no bucket. Raises: OSError."""
  bucket, name = _split(path)
  if not name:
    raise OSError(errno.EISDIR, f'{path}: a bucket; give gs://BUCKET/NAME')
  return bucket, name


def _split(path: Path) -> tuple[str, str]:
  """(bucket, name) of gs://BUCKET/NAME. Raises: ValueError, one line."""
  path = os.fspath(path)
  if not path.startswith(SCHEME):
    raise ValueError(
      f'{path}: no such kind of place; give gs://BUCKET/FOLDER, or a folder of '
      'a disk'
    )
  bucket, _, name = path[len(SCHEME) :].partition('/')
  parts = name.rstrip('/').split('/')
  if not _BUCKET.fullmatch(bucket):
    raise ValueError(
      f'{path}: {bucket!r} is not the name of a bucket; give gs://BUCKET/FOLDER'
    )
  # '#' and '?' end the path of a URL, which Orbax takes it for.
  if odd := next((c for c in name if c in '#?' or not c.isprintable()), ''):
    raise ValueError(f'{path!r:.200}: expected a name without {odd!r}')
  odd = name and any(part in ('', '.', '..') for part in parts)
  if odd or len(name.encode('utf-8', 'replace')) > _MOST_NAME_BYTES:
    raise ValueError(
      f'{path:.200}: expected names between single slashes, without . and .., '
      f'and at most {_MOST_NAME_BYTES} bytes; give gs://BUCKET/FOLDER'
    )
  return bucket, name.rstrip('/')


def _below(name: str) -> str:
  return f'{name}/' if name else ''


def _after(prefix: str) -> str:
  """The first key after all that begin with a prefix, which ends in '/'."""
  return f'{prefix[:-1]}0' if prefix else ''  # '0' follows '/'.


def _read_local(path: Path, most_bytes: int) -> bytes | None:
  content = _start_local(path, most_bytes + 1)
  if content is not None and len(content) > most_bytes:
    raise _too_large(path, most_bytes)
  return content


def _start_local(path: Path, most_bytes: int) -> bytes | None:
  try:
    # Does not wait for the writer of a pipe.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
  except FileNotFoundError:
    return None
  # open() of a directory's descriptor would name the number in its error.
  if not stat.S_ISREG(os.fstat(descriptor).st_mode):
    os.close(descriptor)
    raise OSError(errno.EINVAL, f'{path}: not a file; remove it')
  with open(descriptor, 'rb') as file:
    return file.read(most_bytes)


def _value(found: Any) -> bytes | None:
  return None if found.state == 'missing' else found.value


def _too_large(path: Path, most_bytes: int) -> ValueError:
  return ValueError(
    f'{path}: more than {most_bytes:,} bytes; is it the file that was meant?'
  )


def _told(path: Path, future: tensorstore.Future) -> Any:
  """What the store answers. Raises: OSError, one line; _OutOfRange."""
  try:
    return future.result(timeout=_MOST_SECONDS)
  except TimeoutError:
    reason = f'no answer in {_MOST_SECONDS:.0f} seconds'
  except ValueError as e:
    # The rest is the body of the answer.
    reason = ' '.join(str(e).partition(' [http_')[0].split())
    if reason.startswith('OUT_OF_RANGE'):
      raise _OutOfRange(*error(path, reason).args) from e
  raise error(path, reason)


def error(path: Path, reason: str) -> OSError:
  """The store's error, which begins with a name of its kind, in one line."""
  bucket = '/'.join(os.fspath(path).split('/')[:3])
  kinds = (
    (
      # tensorstore takes 401 for PERMISSION_DENIED.
      ('UNAUTHENTICATED', 'Unauthorized'),
      errno.EACCES,
      'the store does not know who asks; log in with `gcloud auth '
      'application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS',
    ),
    (
      ('PERMISSION_DENIED',),
      errno.EACCES,
      "this host's account may not do so; give it the role "
      f'storage.objectUser on {bucket}',
    ),
    (
      ('NOT_FOUND',),
      errno.ENOENT,
      f'there is no bucket {bucket}; make it, or name another',
    ),
    (
      ('ABORTED', 'UNAVAILABLE', 'DEADLINE', 'no answer'),
      errno.ETIMEDOUT,
      'the store cannot be reached; look at the network, and start the same '
      'command again',
    ),
  )
  code, why = errno.EIO, 'the store refused; see its words'
  for words, number, text in kinds:
    if any(word in reason for word in words):
      code, why = number, text
      break
  return OSError(code, f'{path}: {why} ({reason[:200]})')
