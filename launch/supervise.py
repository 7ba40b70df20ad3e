"""Runs all processes of a run on this machine, as one gang.

    python -m launch.supervise --processes=2 -- \\
      python -m acereason_jax.train --config=configs/quickstart.py

Each process gets the flags that say who it is. The first that ends ends all,
and the worst exit status decides: 0, 1 and 2 are the end, after any other all
start again, a little later each time, unless three starts in a row added
nothing to --workdir. Ctrl+C, SIGTERM, SIGHUP and the end of the process
--launcher become one SIGTERM to each process, so that the run is saved; a
second Ctrl+C kills them. Nothing is left running, even after kill -9.
"""

import contextlib
import functools
import math
import os
import pathlib
import selectors
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from acereason_jax.console import command_line, exits, terminal
from acereason_jax.verifiers.isolation import sandbox
from launch import job

FLAGS = command_line.Flags()
FLAGS.integer('processes', 1, 'Processes of the run.', lower_bound=1)
FLAGS.integer('launcher', 0, 'A process; when it ends, the run is stopped.')

# After the first process ended without an error, or was told to: the others
# save. After an error they notice by themselves.
SAVE_SECONDS = float(job.GRACE_SECONDS)
NOTICE_SECONDS = 60.0
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0
IDLE_STARTS = 3
LONGEST_LINE, MOST_READS = 1 << 16, 64
_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Member(NamedTuple):
  """One process of the gang, the leader of a process group of its own.

  head: what its lines begin with.
  process: the process; its two outputs are one pipe.
  end: descriptor that can be read once the process has ended.
  part: what it has written of a line.
  """

  head: str
  process: subprocess.Popen
  end: int
  part: bytearray


class Stops:
  """Context manager: which signals asked to stop, and waiting for the next.

  asked: whether one came, or the launcher ended.
  hurried: whether Ctrl+C came twice.
  """

  def __init__(self, launcher: int):
    self.asked = self.hurried = False
    self._interrupts = 0
    self._launcher = launcher

  def __enter__(self) -> 'Stops':
    self._selector = selectors.DefaultSelector()
    self._wake, told = socket.socketpair()
    for end in (self._wake, told):
      end.setblocking(False)
    self._told = told
    signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
    # nohup has a process ignore SIGHUP.
    heeded = [n for n in _STOPS if signal.getsignal(n) != signal.SIG_IGN]
    self._before = {n: signal.signal(n, self._handle) for n in heeded}
    self._selector.register(self._wake, selectors.EVENT_READ, None)
    if self._launcher:
      try:
        descriptor = os.pidfd_open(self._launcher)
      except ProcessLookupError:
        self.asked = True
      else:
        self._selector.register(descriptor, selectors.EVENT_READ, 'launcher')
    return self

  def __exit__(self, *exc: object) -> None:
    for number, handler in self._before.items():
      signal.signal(number, handler)
    signal.set_wakeup_fd(-1)
    self._selector.close()

  def _handle(self, number: int, frame: object) -> None:
    self.asked = True
    self._interrupts += number == signal.SIGINT
    self.hurried = self._interrupts > 1

  def watch(self, descriptor: int, what: object) -> None:
    self._selector.register(descriptor, selectors.EVENT_READ, what)

  def forget(self, descriptor: int) -> None:
    with contextlib.suppress(KeyError):
      self._selector.unregister(descriptor)

  def events(self, seconds: float | None) -> Iterator[object]:
    """What was watched and can be read now, after at most `seconds`."""
    for key, _ in self._selector.select(seconds):
      if key.data is None:
        with contextlib.suppress(BlockingIOError):
          self._wake.recv(4096)
      elif key.data == 'launcher':
        self.asked = True
        self._selector.unregister(key.fd)
      else:
        yield key.data


def supervise(command: Sequence[str], count: int, stops: Stops) -> int:
  """Runs the gang until it has ended for good; returns the exit status."""
  workdir = next((c[10:] for c in command if c.startswith('--workdir=')), '')
  before, idle, wait = progress(workdir), 0, FIRST_WAIT
  while True:
    codes = run_once(command, count, stops)
    status = worst(codes)
    if status in (0, *job.ERRORS):
      return status
    if stops.asked:
      return exits.STOPPED
    after = progress(workdir)
    idle += 1
    if after is not None and after != before:
      idle, wait = 0, FIRST_WAIT
    before = after
    ends = ', '.join(f'process {i}: {code}' for i, code in enumerate(codes))
    if idle == (job.RESTARTS if after is None else IDLE_STARTS):
      say(
        f'error: {idle} starts in a row ended early ({ends}) without progress '
        f'in {workdir or "any --workdir"}; fix what the lines above say, then '
        'the same command resumes'
      )
      return status
    say(f'ended early ({ends}); starting again in {wait:g} s')
    rest(wait, stops)
    if stops.asked:
      return exits.STOPPED
    wait = min(2 * wait, LONGEST_WAIT)


def say(text: str) -> None:
  terminal.say(f'supervise: {text}')


def worst(codes: Sequence[int]) -> int:
  """The exit status of a gang: an error to fix, else the first other one."""
  shell = [128 - code if code < 0 else code for code in codes]
  errors = [code for code in shell if code in job.ERRORS]
  return next(iter([*errors, *filter(None, shell)]), 0)


def rest(seconds: float, stops: Stops) -> None:
  """Waits, unless asked to stop."""
  until = time.monotonic() + seconds
  while not stops.asked and (left := until - time.monotonic()) > 0:
    list(stops.events(left))


def progress(workdir: str) -> object:
  """What changes when a run makes progress; None if that cannot be seen."""
  if not workdir or '://' in workdir:
    return None
  folder = pathlib.Path(workdir)
  saved = sorted(path.name for path in folder.glob('checkpoints/*'))
  # Rollouts since then, and the steps told.
  files = [*folder.glob('journal/*'), folder / 'metrics.jsonl']
  sizes = {}
  for path in files:
    with contextlib.suppress(OSError):
      sizes[path.name] = path.stat().st_size
  return saved, sizes


def run_once(command: Sequence[str], count: int, stops: Stops) -> list[int]:
  """Starts the gang and waits for its end; returns the exit statuses."""
  members = start(command, count)
  running = list(members)
  deadline, told = math.inf, False
  for member in members:
    stops.watch(member.process.stdout.fileno(), (show, member))
    stops.watch(member.end, (end, member))
  while running:
    if stops.asked and not told:
      told, deadline = True, time.monotonic() + SAVE_SECONDS
      for member in running:
        member.process.send_signal(signal.SIGTERM)
    left = deadline - time.monotonic()
    if stops.hurried or left <= 0:
      say(f'killing {len(running)} of {count} processes')
      break
    for act, member in stops.events(left if left < math.inf else None):
      act(member, stops)
      if act is end:
        running.remove(member)
        code = member.process.returncode
        known = code in (0, *job.MOVED)
        patience = SAVE_SECONDS if known else NOTICE_SECONDS
        deadline = min(deadline, time.monotonic() + patience)
  for member in running:
    end(member, stops)
  for member in members:
    close(member, stops)
  return [member.process.returncode for member in members]


def start(command: Sequence[str], count: int) -> list[Member]:
  """Starts all processes of the gang.

  Raises:
    OSError: the command cannot be started.
  """
  at = f'127.0.0.1:{free_port()}'
  members = []
  for index in range(count):
    own = [f'--coordinator={at}', f'--processes={count}', f'--process={index}']
    process = subprocess.Popen(
      [*command, *(own if count > 1 else ())],
      stdin=subprocess.DEVNULL,
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      # Ctrl+C in a terminal reaches the supervisor alone.
      start_new_session=True,
      preexec_fn=functools.partial(die_with, os.getpid()),
    )
    os.set_blocking(process.stdout.fileno(), False)
    head = f'[{index}] ' if count > 1 else ''
    end = os.pidfd_open(process.pid)
    members.append(Member(head, process, end, bytearray()))
  return members


def die_with(parent: int) -> None:
  """Makes the kernel kill this process when the supervisor ends."""
  sandbox.die_with_parent()
  if os.getppid() != parent:
    os._exit(exits.BUG)


def free_port() -> int:
  with socket.socket() as s:
    s.bind(('127.0.0.1', 0))
    return s.getsockname()[1]


def show(member: Member, stops: Stops) -> bool:
  """Prints whole lines of what a process has written; whether there was any."""
  pipe = member.process.stdout.fileno()
  try:
    got = os.read(pipe, LONGEST_LINE)
  except BlockingIOError:
    return False
  if not got:
    # Closed, though the process may go on.
    stops.forget(pipe)
  *lines, rest = (member.part + got).split(b'\n')
  if len(rest) >= LONGEST_LINE:
    lines, rest = [*lines, rest], b''
  member.part[:] = rest
  for line in lines:
    say_line(member, line)
  return bool(got)


def say_line(member: Member, line: bytes) -> None:
  text = terminal.printable(line.decode(errors='backslashreplace'))
  terminal.say(member.head + text)


def end(member: Member, stops: Stops) -> None:
  """Kills what is left of a process and its group, and waits for it."""
  # Before it is waited for, so that no other group has its number.
  with contextlib.suppress(ProcessLookupError):
    os.killpg(member.process.pid, signal.SIGKILL)
  stops.forget(member.end)
  os.close(member.end)
  member.process.wait()


def close(member: Member, stops: Stops) -> None:
  """Prints what is left in a process's pipe, and closes it."""
  # A process that got away may write forever.
  for _ in range(MOST_READS):
    if not show(member, stops):
      break
  if member.part:
    say_line(member, member.part)
  stops.forget(member.process.stdout.fileno())
  member.process.stdout.close()


def main(argv: Sequence[str]) -> int:
  terminal.use_stdout()
  cut = argv.index('--') if '--' in argv else len(argv)
  args = command_line.parse(FLAGS, argv[:cut], __doc__)
  command = argv[cut + 1 :]
  if not command:
    raise command_line.refused(
      'got no command, expected one after --',
      'such as -- python -m acereason_jax.train --config=FILE',
    )
  if not hasattr(os, 'pidfd_open'):
    raise SystemExit('error: launch.supervise: needs Linux 5.3 or newer')
  with Stops(args.launcher) as stops, exits.one_line_for(OSError):
    return supervise(command, args.processes, stops)


if __name__ == '__main__':
  command_line.run(main)
