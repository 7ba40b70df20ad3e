"""The words and commands that a LaTeX answer may hold."""


class Unreadable(ValueError):
  """The text is not an answer in the grammar; the message says why."""


class Ambiguous(ValueError):
  """The text can be read in more than one way; the message says where."""


class TooLarge(ValueError):
  """The text takes too long to read or to compute; the message says where."""


class Refused(ValueError):
  """An answer has no content or contradicts itself, so it equals nothing."""


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
BOLD = words('boldsymbol bm pmb')
ALPHABETS = words('mathrm mathbf mathsf mathit mathtt mathnormal')
# Letters that name functions if a parenthesis follows: f(x), P(x).
APPLIED = frozenset('fgFGPQW')
BASE_NAMES = {'two': 2, 'three': 3, 'four': 4, 'five': 5, 'six': 6}
BASE_NAMES |= {'seven': 7, 'eight': 8, 'nine': 9, 'ten': 10}

SEPARATORS = words('and or')
# Words with one of these change the meaning of the number before them.
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
