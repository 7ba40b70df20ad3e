"""Gangs: the processes of one run, on this machine."""

import socket


def free_port() -> int:
  with socket.socket() as s:
    s.bind(('127.0.0.1', 0))
    return s.getsockname()[1]


def flags(count: int, *, port: int | None = None) -> list[list[str]]:
  """The flags of each of `count` processes that meet at a port."""
  at = f'127.0.0.1:{free_port() if port is None else port}'
  both = [f'--coordinator={at}', f'--processes={count}']
  return [[*both, f'--process={i}'] for i in range(count)]


def start(command, workdir, count: int, *more: str, **how) -> list:
  """Starts `count` processes of the run in `workdir`; see runs.Command."""
  return [command(workdir, *more, *own, **how) for own in flags(count)]
