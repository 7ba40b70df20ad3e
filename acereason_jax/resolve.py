"""'package.module:function' -> the callable: the only plug-in mechanism.

Importing a module runs it, so component paths belong in configs a user
wrote, never in data files or checkpoints.
"""

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any


def resolve(path: str, field: str = 'fn') -> Callable[..., Any]:
  """Returns the attribute that 'module:function' names.

  Raises:
    ValueError: one line naming `field`, what was got and the remedy.
  """
  module_name, colon, name = path.partition(':')
  if not (colon and module_name and name):
    raise ValueError(
      f"{field}={path!r}: expected 'package.module:function', "
      "for example 'optax:adamw'"
    )
  try:
    target = importlib.import_module(module_name)
  except ImportError as e:
    raise ValueError(
      f'{field}={path!r}: cannot import {module_name!r} ({e}); is it '
      'installed, and on PYTHONPATH?'
    ) from e
  for part in name.split('.'):
    if not hasattr(target, part):
      raise ValueError(f'{field}={path!r}: {module_name} has no {name!r}')
    target = getattr(target, part)
  if not callable(target):
    raise ValueError(f'{field}={path!r}: not callable')
  return target


def build(component: Mapping[str, Any], field: str, **extra: Any) -> Any:
  """Calls dict(fn='module:function', **kwargs) with kwargs and `extra`.

  Raises:
    ValueError: an argument the function does not take, or a missing one;
      names `field`, the function and what it accepts.
  """
  kwargs = {k: v for k, v in component.items() if k != 'fn'} | extra
  fn = resolve(component['fn'], f'{field}.fn')
  signature = inspect.signature(fn)
  try:
    signature.bind(**kwargs)
  except TypeError as e:
    accepted = ', '.join(signature.parameters)
    raise ValueError(
      f'{field}: {component["fn"]} was given {sorted(kwargs)}: {e}; '
      f'it accepts: {accepted}'
    ) from e
  return fn(**kwargs)
