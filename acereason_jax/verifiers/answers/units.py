"""Units and currencies: the unit that a text after a value names.

A unit is a product of names with powers, spelled in one way: `m*s^-2` for
'm/s^2', 'metres per second squared' and `m s^{-2}`. Nothing is converted:
minutes are not seconds, and cents are not dollars.
"""

import re

from acereason_jax.verifiers.answers import unit_table
from acereason_jax.verifiers.answers.vocabulary import (
  TELLING,
  Unreadable,
  words,
)

_PHRASES = re.compile(
  r'\b(?:per cent|nautical miles?|light[- ]years?|astronomical units?'
  r'|(?:fl|fluid) (?:oz|ounces?)|metric tons?|horse power|electron volts?'
  r'|pounds sterling|degrees? (?:celsius|fahrenheit|kelvin|centigrade|[cf])'
  r'|(?:us|hong kong|australian|canadian|singapore|new zealand|taiwan)'
  r' dollars?)(?![a-z])',
  re.IGNORECASE,
)
_SCALES = {'c': 'celsius', 'f': 'fahrenheit', 'centigrade': 'celsius'}
_TOKEN = re.compile(
  r'(?P<name>[A-Za-z_?]+)(?:\^?(?P<power>-?[0-9])(?![0-9]))?'
  r'|(?P<by>/)|(?P<times>[*-])|(?P<other>[^\s()\'",:;!])'
)
_SHORT = 4
_LONG = 60
_CAPITALS = words('KM CM MM KG ML FT LB AM PM KW KJ Kg Km Cm Ft Lb Rs RS')
_POWERS_BEFORE = {'square': 2, 'sq': 2, 'cubic': 3, 'cu': 3}
_POWERS_AFTER = {'squared': 2, 'cubed': 3}


def unit(text: str) -> str:
  """Returns the unit that a text names, '' for words that name none.

  Raises:
    Unreadable: the words change the number that they follow ('or more',
      'million').
  """
  text = _one_spelling(text)
  tokens = [*_TOKEN.finditer(text)]
  names = [t['name'].lower() if t['name'] else t[0] for t in tokens]
  found = [known(name) for name in names]
  if any(
    name in TELLING and not (name in _POWERS_AFTER and any(found[:i]))
    for i, name in enumerate(names)
  ):
    raise Unreadable(f'words after a value: {text!a}')
  # Excludes the t of t-shirts and the n of `any integer n`.
  if any(
    _is_variable(token, after)
    and (i == 0 or found[i - 1] or names[i - 1] == 'in')
    for i, (token, after) in enumerate(zip(tokens, [*names[1:], '']))
  ):
    raise Unreadable(f'letters after a value: {text!a}')
  if len(text) > _LONG or not tokens:
    return ''
  powers = _powers(tokens)
  if powers is None:
    if any(c.isdigit() for c in text):
      raise Unreadable(f'a number after a value: {text!a}')
    if len(text.strip(' ()')) < _SHORT:
      raise Unreadable(f'letters after a value: {text!a}')
    return ''
  if any(t['other'] for t in tokens):
    raise Unreadable(f'signs after a value: {text!a}')
  return _spelled(powers)


def _is_variable(token: re.Match, after: str) -> bool:
  name = token['name'] or ''
  letter = len(name) == 1 and name not in ('a', 'A', '?')
  return letter and not known(name) and after != '-'


def _one_spelling(text: str) -> str:
  text = re.sub(r'\\mu ?', 'u', text).replace(r'\Omega', 'ohm')
  text = re.sub(r'\\(?:cdot|times)(?![A-Za-z])', '*', text)
  text = re.sub(r'[.{}]', '', re.sub(r'\\?\$|\\ ', ' ', text))
  return _PHRASES.sub(_phrase, text).strip()


def _phrase(match: re.Match) -> str:
  text = match[0].lower().replace('-', ' ')
  first, _, last = text.partition(' ')
  if first == 'per':
    return 'percent'
  if first.startswith('degree'):
    return _SCALES.get(last, last)
  return text.replace(' ', '_')


def known(name: str) -> str:
  """Returns the unit that one word is, or ''."""
  # M is not m, mM is not mm, and most pairs of capitals are segments.
  sure = len(name) > 2 or name.islower() or name in _CAPITALS
  small = unit_table.SMALL.get(name.lower(), '') if sure else ''
  return unit_table.CASED.get(name) or small


def _powers(tokens: list[re.Match]) -> dict[str, int] | None:
  """The powers of the named units, None if no unit is named.

  Everything after a slash or 'per' is in the denominator. Apples per day are
  not apples per week; in '5 cm long' and '5 litres of water' only the unit
  counts.
  """
  powers, counted, last = {}, False, ''
  sign, before = 1, 1
  for i, token in enumerate(tokens):
    name = token['name'] or ''
    after = tokens[i + 1] if i + 1 < len(tokens) else None
    if token['by'] or name == 'per' or _is_by(tokens, i, powers):
      sign = -1
    elif name.lower() in _POWERS_BEFORE:
      before = _POWERS_BEFORE[name.lower()]
    elif name.lower() in _POWERS_AFTER and last:
      for factor, power in unit_table.factors(last).items():
        powers[factor] += sign * power * (_POWERS_AFTER[name.lower()] - 1)
    elif name in ('of', 'for', 'after', 'with'):
      break
    elif found := _unit_name(token, after, i, tokens):
      times = sign * before * int(token['power'] or 1)
      for factor, power in unit_table.factors(found).items():
        powers[factor] = powers.get(factor, 0) + times * power
      last, before = found, 1
    elif name and not powers and sign > 0:
      counted = True
  if not powers:
    return None
  if all(power < 0 for power in powers.values()) and (counted or sign < 0):
    powers['?'] = 1
  return powers


def _unit_name(
  token: re.Match, after: re.Match | None, i: int, tokens: list[re.Match]
) -> str:
  """The unit that a word names; 'in' and single letters in prose name none."""
  name = token['name'] or ''
  if name.lower() == 'in' and (
    (after is not None and after['name'] and not known(after['name']))
    or (i and tokens[i - 1]['name'] and tokens[i - 1][0].lower() not in _AROUND)
  ):
    return ''
  return known(name)


def _is_by(tokens: list[re.Match], i: int, powers: dict[str, int]) -> bool:
  """Whether 'a' or 'an' is a 'per', as in '5 miles an hour'."""
  after = tokens[i + 1]['name'] if i + 1 < len(tokens) else None
  return bool(tokens[i][0] in ('a', 'an') and powers and after and known(after))


_AROUND = frozenset(['per', *_POWERS_BEFORE])


def _spelled(powers: dict[str, int]) -> str:
  return '*'.join(
    name if power == 1 else f'{name}^{power}'
    for name, power in sorted(powers.items())
    if power
  )


def is_currency(text: str) -> bool:
  """Whether a word before a number is its currency: USD 5, Rs. 5."""
  return text.strip(' .').lower() in unit_table.BEFORE


def combined(inner: str, outer: str) -> str:
  """The unit of `$15 per hour`: of a value with `inner`, then with `outer`.

  Raises:
    Unreadable: they contradict each other.
  """
  if inner and '?' in outer.split('*'):
    powers = unit_table.factors(outer)
    del powers['?']
    for name, power in unit_table.factors(inner).items():
      powers[name] = powers.get(name, 0) + power
    return _spelled(powers)
  if inner and outer and not agree(inner, outer):
    raise Unreadable('two units')
  return outer or inner


def agree(a: str, b: str) -> bool:
  """Whether two units can be the same; '' agrees with every unit."""
  if not a or not b or a == b:
    return True
  x, y = unit_table.factors(a), unit_table.factors(b)
  return len(x) == len(y) and _covered(x, y) and _covered(y, x)


def _covered(x: dict[str, int], y: dict[str, int]) -> bool:
  return all(
    any(
      power == other and not _meanings(name).isdisjoint(_meanings(spelled))
      for spelled, other in y.items()
    )
    for name, power in x.items()
  )


def _meanings(name: str) -> set[str]:
  return unit_table.MEANINGS.get(name, {name})


def is_prefix(name: str) -> bool:
  """Whether a unit is a currency, which more words may follow."""
  return name in unit_table.CURRENCIES
