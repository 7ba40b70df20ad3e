"""The forked child confines itself, then becomes the program."""

import contextlib
import json
import os
import resource
from collections.abc import Callable
from typing import NamedTuple

from acereason_jax.verifiers.isolation import sandbox
from acereason_jax.verifiers.programs import (
  descriptors,
  interpreter,
  namespaces,
  paths,
)

_OPEN_FILES = 64
# The descriptor after the program's own, and the first words of its report.
_CONFINING, CONFINED = 4, b'confined: '
# Address space that the interpreter and its libraries take before a program.
_BASE_BYTES = 256 << 20
# asyncio uses a socketpair. Landlock and the mounts guard files; where neither
# exists, the filter lets files be opened only for reading.
_ALLOWED = {'T1': frozenset(('socketpair',))}
_ALLOWED['T2'] = _ALLOWED['T1'] | {'open', 'openat'}
# Landlock does not cover times and attributes; mounts protect them.
_ALLOWED['T3'] = _ALLOWED['T2'] | {
  *('creat', 'truncate', 'rename', 'renameat', 'renameat2', 'mkdir', 'mkdirat'),
  *('rmdir', 'unlink', 'unlinkat', 'utimensat'),
  *('getxattr', 'lgetxattr', 'fgetxattr'),
  *('listxattr', 'llistxattr', 'flistxattr'),
}


class Host(NamedTuple):
  """The facts about the host that a run needs.

  tier: tier of the jail, 'T1', 'T2' or 'T3'; see `jail`.
  processes: open /proc with the process ids that a fork returns, or -1.
  sweep: ends processes that a program may have left.
  newest_abi: newest ABI of Landlock that may be used.
  """

  tier: str
  processes: int
  sweep: Callable[[], None]
  newest_abi: int


def become(request: dict, files: list[int], confining: int, host: Host) -> None:
  """Turns the forked child into the program; does not return.

  It writes to `confining` that it was confined, or why not.
  """
  said = confining
  try:
    called, _, program = descriptors.read_all(files.pop()).partition(b'\n')
    called = json.loads(called)
    for target, file in enumerate(files):
      os.dup2(file, target)
    said = os.dup2(confining, _CONFINING)
    by_name = any(folder in program for folder in namespaces.STDIN_FOLDERS)
    held = _confine(request, host, by_name)
    # This fails if the zygote died before its death could end this process.
    os.write(_CONFINING, CONFINED + held.encode())
    os.close(_CONFINING)
  except BaseException as e:  # noqa: BLE001 (it is the end of this process)
    os.write(said, f'{type(e).__name__}: {e}'.encode()[:1000])
    os._exit(1)
  status = 1
  try:
    status = interpreter.run(**called, program=program)
  finally:
    os._exit(status)


def _confine(request: dict, host: Host, by_name: bool) -> str:
  """Closes other descriptors, sets the limits of a run, and confines the child.

  `by_name` says whether the child may open its input by name. Returns the
  confinement, as `sandbox.confine` does.
  """
  tier = host.tier
  os.setsid()
  # It gets its scratch folder before it gives up the right to mount.
  if tier == 'T3':
    namespaces.enter_scratch()
    if by_name:
      copy = os.open(namespaces.STDIN_COPY, os.O_WRONLY | os.O_CREAT, 0o600)
      # An input larger than the folder cannot be opened by name.
      with contextlib.suppress(OSError):
        descriptors.write_all(copy, descriptors.read_all(0))
  os.closerange(_CONFINING + 1, os.sysconf('SC_OPEN_MAX'))
  sandbox.die_with_parent()
  # In case the zygote is gone and cannot do it.
  cpu = int(2 * request['cpu_seconds']) + 2
  memory = request['memory_bytes'] + _BASE_BYTES
  output = request['output_bytes']
  _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
  files = min(_OPEN_FILES, files) if files >= 0 else _OPEN_FILES
  for limit, value in (
    (resource.RLIMIT_CPU, cpu),
    (resource.RLIMIT_AS, memory),
    (resource.RLIMIT_FSIZE, output + 1),
    (resource.RLIMIT_NOFILE, files),
    (resource.RLIMIT_NPROC, request['threads']),
    (resource.RLIMIT_CORE, 0),
    (resource.RLIMIT_MEMLOCK, 0),
    (resource.RLIMIT_MSGQUEUE, 0),
    (resource.RLIMIT_NICE, 0),
    (resource.RLIMIT_SIGPENDING, 64),
  ):
    resource.setrlimit(limit, (value, value))
  if sandbox.no_new_privs() != 'yes':
    raise OSError('no_new_privs')
  # RLIMIT_CORE does not keep a crash from starting the host's core helper.
  sandbox.libc().prctl(sandbox.PR_SET_DUMPABLE, 0, 0, 0, 0)
  capabilities = sandbox.drop_capabilities(
    0 if tier == 'T3' else sandbox.READING
  )
  writable = [os.devnull, *([namespaces.SCRATCH] if tier == 'T3' else [])]
  # Mounts hide in T3.
  hiding = paths.open_paths() if tier != 'T3' else (paths.system_paths(), ())
  readable, listed = hiding
  rules = sandbox.landlock(readable, writable, host.newest_abi, listed)
  machine = os.uname().machine
  code = sandbox.program(machine, os.getpid(), _ALLOWED[tier])
  calls = sandbox.seccomp(code)
  held = f'landlock={rules} seccomp={calls} capabilities={capabilities}'
  # Without namespaces, only Landlock guards files.
  if calls != 'yes' or (tier == 'T2' and not rules.startswith('abi')):
    raise OSError(held)
  counted = '' if host.processes >= 0 else ' asleep=uncounted'
  return f'{held} user={os.getuid()}{counted}'
