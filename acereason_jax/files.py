"""Files that are there whole or not at all."""

import os
import pathlib


def write_atomically(path: pathlib.Path, text: str) -> None:
  temporary = path.with_name(path.name + '.tmp')
  with temporary.open('w') as file:
    file.write(text)
    file.flush()
    os.fsync(file.fileno())
  os.replace(temporary, path)
