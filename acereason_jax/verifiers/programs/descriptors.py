"""Whole reads and writes of open files."""

import os


def write_all(file: int, data: bytes) -> None:
  rest = memoryview(data)
  while rest:
    rest = rest[os.write(file, rest) :]


def read_all(file: int) -> bytes:
  """Returns the whole content of a file; its position does not change."""
  parts, position = [], 0
  while part := os.pread(file, 1 << 24, position):
    parts.append(part)
    position += len(part)
  return b''.join(parts)


def read_text(path: str, folder: int) -> str:
  file = os.open(path, os.O_RDONLY, dir_fd=folder)
  try:
    return os.read(file, 1 << 12).decode()
  finally:
    os.close(file)
