"""Fields of a model's config.json, each checked when it is read.

The file comes from strangers, so a number must be a number of a likely size.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

# Inverses and products of such numbers are finite.
_LARGEST_NUMBER = 1e15


def refused(
  config: Mapping[str, Any], field: str, expected: str, where: str = ''
) -> ValueError:
  return ValueError(
    f'config.json: {where}{field}={config.get(field)!r:.60}; expected '
    f'{expected}: is it that of a whole model, as its authors published it?'
  )


def architecture(config: Mapping[str, Any], known: Collection[str]) -> str:
  """The first of config.json's architectures, which must be a known one."""
  match config.get('architectures') or ['(none)']:
    case [str(name), *_] if name in known:
      return name
    case [first, *_]:
      pass
    case first:
      pass
  raise ValueError(
    f'config.json: architecture {first!r:.60} is not supported; '
    f'expected one of {", ".join(known)}'
  )


def require(config: Mapping[str, Any], fields: Sequence[str]) -> None:
  """Raises ValueError unless config.json has all of `fields`."""
  if missing := [field for field in fields if field not in config]:
    raise ValueError(
      f'config.json: lacks {", ".join(missing)}; is it that of a whole model?'
    )


def whole(config: Mapping[str, Any], field: str, most: int) -> int:
  """A whole number from 1 to `most`."""
  value = config.get(field)
  if type(value) is not int or not 1 <= value <= most:
    raise refused(config, field, f'a whole number, 1 to {most}')
  return value


def optional(config: Mapping[str, Any], field: str, most: int) -> int | None:
  """As `whole`; None where the field is missing or null."""
  return None if config.get(field) is None else whole(config, field, most)


def number(holder: Mapping[str, Any], field: str, where: str = '') -> float:
  """A finite number whose inverse is finite, or 0."""
  value = holder.get(field)
  if type(value) not in (int, float) or not (
    value == 0 or 1 / _LARGEST_NUMBER <= abs(value) <= _LARGEST_NUMBER
  ):
    raise refused(holder, field, 'a number', where)
  return value


def flag(config: Mapping[str, Any], field: str, where: str = '') -> bool:
  """True or false; false where the field is missing."""
  value = config.get(field, False)
  if not isinstance(value, bool):
    raise refused(config, field, 'true or false', where)
  return value
