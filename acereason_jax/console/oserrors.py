"""System errors in plain words: the system's message, and what to do.

Libraries report system errors in errors of their own, which contain the
system's message; `code` finds it there.
"""

import errno
import os

_SPACE = 'free space'
_RIGHTS = 'give this user the right to do so, or name another place'
_REMEDIES = {
  errno.ENOSPC: _SPACE,
  errno.EDQUOT: _SPACE,
  errno.EFBIG: 'raise the limit on the size of files (ulimit -f)',
  errno.EROFS: 'mount the file system for writing, or name another place',
  errno.EACCES: _RIGHTS,
  errno.EPERM: _RIGHTS,
  errno.EMFILE: 'raise the limit on open files (ulimit -n)',
  errno.ENFILE: "raise the system's limit on open files (fs.file-max)",
  errno.ENOMEM: 'free memory',
  errno.EIO: 'look at the disk, or at the network that it is on',
  errno.ESTALE: 'mount the file system again',
  errno.ENOTDIR: 'name a folder',
  errno.EISDIR: 'name a file',
  errno.EEXIST: 'name another place, or remove what is there',
  errno.ENOENT: 'put it there, or name another',
}
# The words of the two left out are too common to search for in other errors.
_TOLD = frozenset(_REMEDIES) - {errno.ENOENT, errno.EEXIST}


def code(error: BaseException) -> int | None:
  """The errno of an error that the system caused, or None."""
  if isinstance(error, OSError) and error.errno is not None:
    return error.errno
  text = str(error)
  return next((e for e in _TOLD if os.strerror(e) in text), None)


def remedy(code: int) -> str:
  """The remedy, or '' if none is known."""
  return _REMEDIES.get(code, '')


def explained(error: OSError) -> str:
  """The error in one line, with a remedy unless it names one itself."""
  if error.errno is None or error.strerror != os.strerror(error.errno):
    # This project raised it, with a message of its own.
    return error.strerror or str(error)
  parts = [error.strerror]
  if error.filename is not None:
    parts.append(f': {os.fsdecode(error.filename)!r}')
  if todo := remedy(error.errno):
    parts.append(f'; {todo}')
  return ''.join(parts)
