"""The recipe's file of a run: the config of the same name in configs/."""

import json
import os
import pathlib
import re
from collections.abc import Sequence
from typing import Any

from acereason_jax.config import base
from acereason_jax.reporting import files

_NAME = re.compile(r'[A-Za-z_][A-Za-z0-9_]{0,99}')
# What a file that is not meant for this, or for another version, raises.
_WRONG = (
  *(OSError, ValueError, TypeError, AttributeError, KeyError, ImportError),
  SyntaxError,
)


def folders() -> list[pathlib.Path]:
  """Where recipes are: in configs/ here, and beside the package."""
  root = pathlib.Path(base.__file__).parents[2]
  return [pathlib.Path('configs'), root / 'configs']


def name_of(folder: str, starts: Sequence[files.Begun]) -> str:
  """The name of a run's config, as its starts say; else its folder's name."""
  told = [start.config for start in starts if start.config]
  return told[-1] if told else os.path.basename(os.path.normpath(folder))


def read(name: str, where: Sequence[pathlib.Path]) -> tuple[Any, str]:
  """(config as JSON, note); None without such a file, or if it is not one.

  `name` may be a stranger's: it chooses among the files that are there. After a
  first - it names an order, which the file's get_config takes.
  """
  stem, _, order = name.partition('-')
  if not _NAME.fullmatch(stem):
    return None, ''
  for folder in where:
    file = folder / f'{stem}.py'
    if not file.is_file():
      continue
    try:
      module = base.beside(str(file), stem)
      config = module.get_config(order) if order else module.get_config()
      return json.loads(config.to_json()), ''
    except _WRONG as e:
      reason = ' '.join(str(e).split())[:200]
      return None, f'The recipe {file} was not read: {reason}.'
  return None, ''


def default() -> Any:
  """The config of base.py as JSON."""
  return json.loads(base.get_config().to_json())
