"""The words, units and commands that a LaTeX answer may hold."""

import re


class Unreadable(ValueError):
  """The text is no answer that the grammar knows; the message says why."""


class Ambiguous(ValueError):
  """The text can be read in more than one way; the message says where."""


class TooLarge(ValueError):
  """What would take too long to read or to compute; the message says where."""


def words(text: str) -> frozenset[str]:
  return frozenset(text.split())


TRIGONOMETRIC = words('sin cos tan cot sec csc')
INVERSE = {name: f'arc{name}' for name in TRIGONOMETRIC}
FUNCTIONS = (
  TRIGONOMETRIC
  | frozenset(INVERSE.values())
  | words('sinh cosh tanh ln log lg exp gcd lcm max min Re Im')
)
CONSTANTS = {'pi': 'pi', 'infty': 'infinity', 'e': 'e', 'i': 'i'}
GREEK = words(
  'alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta '
  'iota kappa lambda mu nu xi rho sigma tau upsilon phi varphi chi '
  'psi omega Gamma Delta Theta Lambda Xi Sigma Phi Psi Omega ell hbar aleph'
)
RELATIONS = {
  'approx': '~',
  'simeq': '~',
  'le': '<=',
  'ge': '>=',
  'ne': '!=',
  'in': 'in',
  'equiv': '==',
}
NAMING = words('angle triangle measuredangle overline vec bar hat')
BOLD = words('boldsymbol bm')
# Letters that name functions where a parenthesis follows: f(x), P(x).
APPLIED = frozenset('fgFGPQW')
BASE_NAMES = {'two': 2, 'three': 3, 'four': 4, 'five': 5, 'six': 6}
BASE_NAMES |= {'seven': 7, 'eight': 8, 'nine': 9, 'ten': 10}

_UNITS = {
  'degree': 'degree degrees deg',
  'percent': 'percent percentage pct',
  'dollar': 'dollar dollars usd bucks',
  'cent': 'cent cents',
  'euro': 'euro euros',
  'yuan': 'yuan rmb',
  'rupee': 'rupee rupees rs',
  'pound': 'pound pounds lb lbs',
  'ounce': 'ounce ounces oz',
  'unit': 'unit units',
  'mm': 'mm millimeter millimeters millimetre millimetres',
  'cm': 'cm centimeter centimeters centimetre centimetres',
  'dm': 'dm decimeter decimeters decimetre decimetres',
  'm': 'meter meters metre metres m',
  'km': 'km kilometer kilometers kilometre kilometres',
  'inch': 'inch inches',
  'foot': 'foot feet ft',
  'yard': 'yard yards yd',
  'mile': 'mile miles mi',
  'mg': 'mg milligram milligrams',
  'g': 'gram grams g',
  'kg': 'kg kilogram kilograms kilo kilos',
  'liter': 'liter liters litre litres l',
  'ml': 'ml milliliter milliliters millilitre millilitres',
  'second': 'second seconds sec secs s',
  'minute': 'minute minutes min mins',
  'hour': 'hour hours hr hrs h',
  'day': 'day days',
  'week': 'week weeks',
  'month': 'month months',
  'year': 'year years yr yrs',
  'mph': 'mph',
  'ton': 'ton tons tonne tonnes',
  'kelvin': 'kelvin kelvins',
  'celsius': 'celsius centigrade',
  'fahrenheit': 'fahrenheit',
  'am': 'am',
  'pm': 'pm',
  'radian': 'radian radians rad',
  'acre': 'acre acres',
  'volt': 'volt volts',
  'watt': 'watt watts',
  'joule': 'joule joules',
  'newton': 'newton newtons',
  'hertz': 'hertz hz',
}
UNIT_OF = {
  spelling: unit
  for unit, spellings in _UNITS.items()
  for spelling in spellings.split()
}
# One letter, or letters whose case counts.
_SYMBOLS = {
  'C': 'coulomb',
  'N': 'newton',
  'J': 'joule',
  'W': 'watt',
  'V': 'volt',
  'A': 'ampere',
  'K': 'kelvin',
  'T': 'tesla',
  'F': 'farad',
  'Pa': 'pascal',
  'kJ': 'kilojoule',
  'kW': 'kilowatt',
  'eV': 'electronvolt',
  'mol': 'mole',
}
_LINKS = ('per', 'of', 'an', 'a')
# Written without \text, these could be variables.
BARE_UNITS = frozenset(
  s for s in UNIT_OF if len(s) > 2 or s in ('cm', 'mm', 'km', 'kg', 'ml')
) - {'min', 'sec', 'deg'} | {'square', 'cubic', 'sq'}
SEPARATORS = words('and or')
# After a number, words with one of these change what it says.
TELLING = words(
  'and or not no if when where for otherwise except mod modulo less more '
  'than least most about approximately between to from base times plus minus '
  'half halves never undefined greater fewer over under only below above zero '
  'zeros zeroes negative positive squared cubed factorial choose off hundred '
  'hundreds thousand thousands million millions billion billions trillion '
  'trillions lakh crore dozen dozens ten tens score scores pair pairs third '
  'thirds quarter quarters fourth fourths fifth fifths sixth sixths seventh '
  'sevenths eighth eighths ninth ninths tenth tenths hundredth hundredths '
  'thousandth thousandths double twice triple each'
)


def unit(text: str) -> str:
  """Returns the unit that a text names, '' for words that name none.

  Raises:
    Unreadable: they change the number they follow ('or more', 'million').
  """
  text = text.strip(' ()')
  if text in _SYMBOLS:
    return _SYMBOLS[text]
  cleaned = re.sub('[.$()]', '', text.lower()).replace('-', ' ')
  # In `cm^2` and `m2` the digit is a power.
  cleaned = re.sub(r'(?<=[a-z])\^?([23])(?![0-9])', r'^\1', cleaned)
  parts = re.split(r'[ /*]+', cleaned)
  if not TELLING.isdisjoint(parts):
    raise Unreadable(f'words after a value: {text!a}')
  powers = dict.fromkeys(('square', 'sq'), '^2')
  powers |= dict.fromkeys(('cubic', 'cu'), '^3')
  power = ''.join(powers[p] for p in parts if p in powers)
  parts = [p for p in parts if p not in powers and p not in _LINKS]
  if len(parts) == 2 and parts[0] in ('degree', 'degrees'):
    parts = parts[1:]
  names = [UNIT_OF.get(p.partition('^')[0], '') for p in parts]
  if len(text) > 60 or not parts:
    return ''
  if not any(names):
    if any(c.isdigit() for c in cleaned):
      raise Unreadable(f'a number after a value: {text!a}')
    if len(text) < 4:
      raise Unreadable(f'letters after a value: {text!a}')
    return ''
  # Apples per day are not apples per week.
  names = [n or '?' for n in names]
  # The power of `square meters` is that of the first, of `m/s^2` its own.
  spelled = [
    n + p[p.find('^') :] if '^' in p else n for n, p in zip(names, parts)
  ]
  return '/'.join([spelled[0] + power, *filter(None, spelled[1:])])
