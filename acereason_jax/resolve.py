"""'package.module:function' -> the callable: the only plug-in mechanism.

Importing a module runs it, so component paths belong in configs a user
wrote, never in data files or checkpoints.
"""

import difflib
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
      near = difflib.get_close_matches(part, dir(target), n=1)
      meant = f'such as {near[0]!r}' if near else 'that it defines'
      raise ValueError(
        f'{field}={path!r}: {module_name} has no {name!r}; give a name {meant}'
      )
    target = getattr(target, part)
  if not callable(target):
    raise ValueError(
      f'{field}={path!r}: of type {type(target).__name__}, which cannot be '
      'called; name a function'
    )
  return target


def signature(path: str, field: str = 'fn') -> inspect.Signature:
  """The signature of 'module:function'. Raises ValueError as `resolve` does."""
  target = resolve(path, field)
  try:
    return inspect.signature(target)
  except ValueError as e:
    raise ValueError(
      f'{field}={path!r}: expected a function of Python ({e})'
    ) from e


def build(component: Mapping[str, Any], field: str, **extra: Any) -> Any:
  """Calls dict(fn='module:function', **kwargs) with kwargs and `extra`.

  An argument that is a component itself is built first.

  Raises:
    ValueError: an argument the function does not take, or a missing one;
      names `field`, the function and what it accepts.
  """
  kwargs = {
    name: build(value, f'{field}.{name}')
    if isinstance(value, Mapping) and 'fn' in value
    else value
    for name, value in component.items()
    if name != 'fn'
  } | extra
  takes = signature(component['fn'], f'{field}.fn')
  try:
    takes.bind(**kwargs)
  except TypeError as e:
    accepted = ', '.join(takes.parameters)
    raise ValueError(
      f'{field}: {component["fn"]} was given {sorted(kwargs)}: {e}; '
      f'it accepts: {accepted}'
    ) from e
  return resolve(component['fn'])(**kwargs)
