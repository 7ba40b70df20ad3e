"""The process that model-written programs are forked from, one for each run.

A fresh interpreter with an empty environment that has never seen an expected
output; `jail` starts it and asks it. It enters its namespaces once (tier T3),
imports the modules that programs get, and then for each run forks a child that
confines itself and becomes the program. The zygote runs no such code itself,
reads nothing from a child except its report of confinement, and ends with its
parent. Every child has a copy of its memory, so programs, inputs and outputs
are in files that it only passes on.
"""

import contextlib
import gc
import json
import os
import resource
import socket
import struct
import sys
import threading
import time

from acereason_jax.verifiers.isolation import sandbox
from acereason_jax.verifiers.programs import (
  child,
  namespaces,
  paths,
  users,
  waiting,
)

HEADER = struct.Struct('>I')
_STACK_BYTES = 256 << 20
_FILES_OF_A_RUN = 5
# A thread's stack is by default as large as the main thread's may become.
_THREAD_STACK_BYTES = 8 << 20
# Seconds to retry on a host that has no process left.
_FORK_SECONDS = 5.0


def start(request: dict, files: list[int], host: child.Host) -> waiting.Run:
  """Starts one program in a fresh process.

  `files` are its stdin, stdout, stderr, the result of a call, and a file with
  the call, one line of JSON, followed by the program.

  Raises:
    OSError: the host has no process or descriptor left.
  """
  if host.tier != 'T3':
    # Outside a user namespace all processes of the user count.
    request['threads'] += users.threads_of(os.getuid())
  confined, confining = os.pipe()
  end = time.monotonic() + _FORK_SECONDS
  while True:
    began, busy = time.monotonic(), waiting.busy(host.processes)
    try:
      pid = os.fork()
      break
    except BlockingIOError:
      # Threads of other programs or users may soon be gone.
      if time.monotonic() > end:
        raise
      time.sleep(waiting.CHECK_SECONDS)
  if pid == 0:
    os.close(confined)
    child.become(request, files, confining, host)
  os.close(confining)
  return waiting.Run(pid, began, busy, confined)


def finish(request: dict, run: waiting.Run, host: child.Host) -> dict:
  """Ends a program with everything it started; returns what happened to it.

  Raises:
    OSError: it cannot be waited for, or its remains cannot be ended.
  """
  timed_out, asleep = waiting.wait(run, request, host.processes)
  _, status, used = os.wait4(run.pid, 0)
  host.sweep()
  said = os.read(run.confined, 1 << 12)
  happened = dict(
    exit=os.waitstatus_to_exitcode(status),
    timed_out=timed_out,
    cpu_seconds=used.ru_utime + used.ru_stime,
    wall_seconds=time.monotonic() - run.began,
    peak_bytes=used.ru_maxrss * 1024,
    asleep_seconds=asleep,
  )
  if said.startswith(child.CONFINED):
    happened['confined'] = said.removeprefix(child.CONFINED).decode()
  else:
    text = said.decode('utf-8', 'replace') or 'it ended'
    happened = dict(broken=f'confining failed: {text}', began=False)
  os.close(run.confined)
  return happened


def _receive(channel: socket.socket) -> tuple[bytes, list[int]]:
  """Returns a message and the files that came with it."""
  header, files, _, _ = socket.recv_fds(channel, HEADER.size, _FILES_OF_A_RUN)
  header += _exactly(channel, HEADER.size - len(header))
  return _exactly(channel, *HEADER.unpack(header)), files


def _exactly(channel: socket.socket, size: int) -> bytes:
  data = bytearray()
  while len(data) < size:
    part = channel.recv(min(size - len(data), 1 << 20))
    if not part:
      sys.exit(0)
    data += part
  return bytes(data)


def _send(channel: socket.socket, message: dict) -> None:
  text = json.dumps(message).encode()
  channel.sendall(HEADER.pack(len(text)) + text)


def answer(channel: socket.socket, host: child.Host) -> bool:
  """Answers one request; returns whether there can be another."""
  text, files = _receive(channel)
  request, began = json.loads(text), False
  try:
    started = start(request, files, host)
    began = True
    happened = finish(request, started, host)
  except OSError as e:
    happened = dict(broken=str(e), began=began)
  for file in files:
    os.close(file)
  _send(channel, happened)
  return 'broken' not in happened


def serve(channel: socket.socket, host: child.Host) -> None:
  """Answers requests until the other end is closed, or something failed.

  Each request has a call of its own, so nothing is left for the next to see.
  """
  while answer(channel, host):
    pass


def _volunteer() -> None:
  """Makes the kernel end programs, not the trainer, if memory runs out."""
  with contextlib.suppress(OSError):
    file = os.open('/proc/self/oom_score_adj', os.O_WRONLY)
    try:
      os.write(file, b'1000')
    finally:
      os.close(file)


def main(parent: int, descriptor: int, tier: str, newest_abi: int) -> None:
  soft, hard = resource.getrlimit(resource.RLIMIT_STACK)
  if soft != resource.RLIM_INFINITY and soft < _STACK_BYTES:
    # The kernel leaves room for a deeper stack only when a program starts.
    most = hard if hard != resource.RLIM_INFINITY else _STACK_BYTES
    resource.setrlimit(resource.RLIMIT_STACK, (min(_STACK_BYTES, most), hard))
    if min(_STACK_BYTES, most) > soft:
      os.execv(sys.executable, sys.orig_argv)
  threading.stack_size(_THREAD_STACK_BYTES)
  for limit in (resource.RLIMIT_AS, resource.RLIMIT_CPU, resource.RLIMIT_FSIZE):
    # The parent's soft limits do not apply to programs.
    _, hard = resource.getrlimit(limit)
    resource.setrlimit(limit, (hard, hard))
  channel = socket.socket(fileno=descriptor)
  os.environ.clear()
  os.environ.update(OPENBLAS_NUM_THREADS='1', OMP_NUM_THREADS='1')
  os.environ['TMPDIR'] = namespaces.SCRATCH
  processes = waiting.open_processes()
  # Done once for all runs, while it sees all of them.
  paths.library_paths()
  paths.open_paths()
  _volunteer()
  sweep = lambda: None
  try:
    if tier == 'T3':
      namespaces.enter()
      sweep = namespaces.start_init()
    else:
      os.chdir('/')
      users.become_another(tier)
  except OSError as e:
    _send(channel, dict(refused=str(e)))
    return
  # This comes after the change of user, which clears it.
  sandbox.die_with_parent()
  if os.getppid() != parent:
    return
  # Forked memory stays shared while no references in it are counted.
  gc.disable()
  gc.freeze()
  _send(channel, dict(ready=True))
  serve(channel, child.Host(tier, processes, sweep, newest_abi))


if __name__ == '__main__':
  main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
