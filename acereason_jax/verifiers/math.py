r"""Judges a math response: its last `\boxed{}` against the reference answer.

It works in layers, and the first that can decide does. The box is found
(`last_box`), and both texts get one spelling. Equal strings are right. Plain
numbers are compared as rationals, words as words, then trees of our own grammar
by value. Texts that the grammar cannot read go to math-verify after a screen
(`symbolic`). Text is never evaluated as code. Sizes bound the time up to
math-verify, whose sympy can still run away. So judge in a `VerifierPool`, whose
parent holds the deadline.

A false positive teaches a wrong answer, so equality is strict (arXiv
2505.16400, section 3.1 and Fig. 5). Each decision is a line with examples in
docs/judges.md, "What the math judge calls equal".
"""

import dataclasses
import functools
import re
import time
from fractions import Fraction
from typing import NamedTuple

from acereason_jax.types import Status, Verdict
from acereason_jax.verifiers.answers import (
  equality,
  forms,
  latex,
  numerals,
  options,
  spelling,
  symbolic,
  tree,
  units,
  values,
  vocabulary,
)
from acereason_jax.verifiers.answers.tree import Node
from acereason_jax.verifiers.answers.vocabulary import (
  Ambiguous,
  Refused,
  TooLarge,
  Unreadable,
)

_BOX_CHARS = 4000
_SHOWN_CHARS = 80
_UNREADABLE = 'unreadable reference'
_NUMBER = r'[0-9]{1,400}(?:\.[0-9]{0,400})?|\.[0-9]{1,400}'
_EXACT = re.compile(
  rf'([-+]?)(?:({_NUMBER})'
  r'|(?:\\[dt]?frac\{(-?[0-9]{1,400})\}\{([0-9]{1,400})\}'
  r'|([0-9]{1,400})/([0-9]{1,400})))'
)
_BOX_TOKEN = re.compile(r'\\boxed\s*\{|\\.|[{}]', re.DOTALL)
_BOX = re.compile(r'\\boxed\s{0,100}\{')
_WORDS = frozenset(['yes', 'no', 'true', 'false', 'none', 'even', 'odd'])
_SLIPPED = re.compile(r'\\boxed\s{0,9}\{([^{}\\]{1,100})\\\}[^{}\\]{0,20}$')
_ROMAN = re.compile(r'\(?([IVX]{2,})\)?|\(([ivx]{2,})\)')
# (2)(3) and (I)(IV) are two statements by their numbers, not products.
_STATEMENTS = re.compile(
  r'(?:\([0-9]+\)){2,}|(?=.*[IVX]{2})(?:\([IVX]+\)){2,}'
  r'|(?=.*[ivx]{2})(?:\([ivx]+\)){2,}'
)
# Parts of an answer, or products: (1) 5, (a) 5, (1)(2), (3)(4).
_PARTS = re.compile(
  r'(?:^|[,;] ?)(?:\((?:[0-9]+|[a-z])\) ?[0-9]|\(1\) ?(?:[A-Za-z(]|\\frac'
  r'|\\sqrt)|\([0-9]+\) ?\([0-9]+\)(?=[,;(]|$))'
)
# Words, optionally with a number after them: no solution, July 4.
_PHRASE = re.compile(
  r"[A-Za-z]+(?:'s)?(?:[ .][A-Za-z]+(?:'s)?)+|[A-Za-z]{3,}(?: [0-9]+)+"
)
_LETTERS = re.compile(r"[A-Za-z][A-Za-z '-]*[A-Za-z]")


def verify(response: str, answer: str, *, reasons: bool = True) -> Verdict:
  r"""Returns the verdict on `response`, `detail` naming layer and extract.

  With `reasons` only the text after the first `</think>` counts, and a response
  without one is 'unparsed': an answer inside the thinking does not count (arXiv
  2505.16400, section 3.1), and a policy that closes its thinking twice cannot
  choose. A reference that cannot be read is 'error'.
  """
  start = time.perf_counter()
  box, problem = extract(response, reasons)
  if box is None:
    status, detail = 'unparsed', problem
  else:
    status, layer = compare(box.strip(), answer.strip())
    detail = f'{layer}: {box[:_SHOWN_CHARS]!a}'
  return Verdict(status, detail, time.perf_counter() - start)


def reference(response: str, answer: str) -> Verdict:
  """Returns 'right' if `answer` can be a reference, else 'error' and why.

  It must be readable, and equal to itself. `response` is ignored: the signature
  is that of a judge, so a pool can run it.
  """
  del response
  start = time.perf_counter()
  known = _reference(answer)
  status, detail = ('error', known.problem) if known.problem else ('right', '')
  return Verdict(status, detail, time.perf_counter() - start)


def explain(response: str, answer: str, *, reasons: bool = True) -> Verdict:
  """Returns `verify`'s verdict with a detail of several lines."""
  verdict = verify(response, answer, reasons=reasons)
  box, problem = extract(response, reasons)
  lines = [f'extracted: {problem if box is None else ascii(box[:1000])}']
  for name, text in (('given', box), ('reference', answer)):
    if text is not None:
      lines += [f'{name}: {line}' for line in _reading(text)]
  lines.append(f'decided by: {verdict.detail}')
  return dataclasses.replace(verdict, detail='\n'.join(lines))


def _reading(text: str) -> list[str]:
  """Returns the reading of a text, in two or three lines."""
  if len(text) > _BOX_CHARS:
    return [f'{len(text)} characters, more than {_BOX_CHARS}']
  normal = spelling.normalise(text)
  lines = [f'in one spelling: {normal[:1000]!a}']
  try:
    found, _ = numerals.readings(normal, _parse)
    for _, node in found:
      lines.append(f'read as: {tree.show(node)[:1000]}')
      if (value := values.constant(node)) is not None:
        lines.append(f'value: {values.show(value)}')
  except (Ambiguous, Unreadable, TooLarge) as e:
    lines.append(f'not read by our own grammar: {e}')
  return lines


def extract(response: str, reasons: bool) -> tuple[str | None, str]:
  r"""Returns (contents of the counted box, ''), or (None, why none counts)."""
  if reasons:
    _, tag, response = response.partition('</think>')
    if not tag:
      return None, 'no </think>'
  box = last_box(response)
  if box is None:
    return None, r'no balanced \boxed{}'
  return box, ''


def given(response: str, *, reasons: bool = True) -> str | None:
  """Returns the answer that `verify` compares, None if there is none."""
  box, _ = extract(response, reasons)
  return None if box is None else box.strip()


# Wrong answers are grouped by it; see votes.py.
verify.given = given


def last_box(text: str) -> str | None:
  r"""Returns the contents of the last balanced `\boxed{...}`, or None.

  The time is linear in the length. Escaped braces do not count. The outer one
  of nested boxes counts.
  """
  start = text.rfind('\\boxed')
  if start < 0:
    return None
  opening = _BOX.match(text, start)
  if opening is not None and (start == 0 or text[start - 1] != '\\'):
    end = spelling.closing(text, opening.end())
    # Mostly the box is near the end, and no open brace encloses it.
    if end is not None and spelling.closing(text, end + 1) is None:
      return text[opening.end() : end]
  box, open_braces = None, []
  for token in _BOX_TOKEN.finditer(text):
    if token[0].endswith('{') and token[0] != r'\{':
      open_braces.append(token.end() if len(token[0]) > 1 else None)
    elif token[0] == '}' and open_braces:
      begin = open_braces.pop()
      if begin is not None:
        box = begin, token.start()
  if box is None:
    return _slipped_box(text)
  return text[slice(*box)]


def _slipped_box(text: str) -> str | None:
  r"""Returns the contents of the only box, if `\}` stands for its brace."""
  match = _SLIPPED.search(text)
  return None if match is None else match[1]


def exact(text: str) -> Fraction | None:
  """Returns the rational that an ASCII integer, decimal or fraction spells.

  The pattern comes first because int() and Fraction() take far more.
  """
  match = _EXACT.fullmatch(text)
  if match is None:
    return None
  sign, number, *fraction = match.groups()
  if number is not None:
    value = (
      Fraction(int(number)) if number.isdigit() else Fraction(_closed(number))
    )
  else:
    above, below = (int(part) for part in fraction if part is not None)
    if below == 0:
      return None
    value = Fraction(above, below)
  return -value if sign == '-' else value


def _closed(number: str) -> str:
  return number.removesuffix('.') or '0'


class _Reference(NamedTuple):
  """A reference, read once for its group.

  normal: reference in one spelling.
  letter: letter of an option, else ''.
  text: value as it is read, '' if there is only a letter; commas only separate.
  exact: rational that `text` spells, if it is one.
  node: tree of `text`, if our own grammar reads it.
  problem: why it cannot be a reference, else ''.
  """

  normal: str
  letter: str = ''
  text: str = ''
  exact: Fraction | None = None
  node: Node | None = None
  problem: str = ''


@functools.lru_cache(4096)
def _reference(answer: str) -> _Reference:
  if len(answer) > _BOX_CHARS:
    return _Reference('', problem=f'{len(answer)} characters')
  normal = spelling.normalise(answer)
  if not normal:
    return _Reference('', problem='empty reference')
  try:
    option = options.split(spelling.typeset(answer))
  except Ambiguous as e:
    return _Reference(normal, problem=f'reference: {e}')
  if option is None or option.colon:
    known = _known(normal)
    return known._replace(letter=options.letter(known.text))
  if not option.value:
    return _known(option.letter)._replace(normal=normal, letter=option.letter)
  known = _known(spelling.normalise(option.value))
  # If the value is in words that cannot be compared, only the letter counts.
  readable = not known.problem.startswith(_UNREADABLE)
  return known._replace(
    normal=normal,
    letter=option.letter,
    problem=known.problem if readable else '',
  )


def _known(normal: str) -> _Reference:
  """Returns a value as a reference."""
  text, node, problem = normal, None, ''
  try:
    found, sure = numerals.readings(normal, _parse)
    text, node = found[0]
    if not sure:
      problem = 'reference: commas between digits can be read in two ways'
    elif not equality.same(node, node):
      problem = 'a reference that does not equal itself'
  except (Ambiguous, Refused, TooLarge) as e:
    problem = f'reference: {e}'
  except Unreadable as e:
    text = numerals.texts(normal).texts[0]
    status, _ = symbolic.compare(text, text)
    if status != 'right':
      problem = f'{_UNREADABLE}: {e}'
  return _Reference(normal, '', text, exact(text), node, problem)


def compare(given: str, answer: str) -> tuple[Status, str]:
  """Returns status and the layer that decided; `answer` is the reference."""
  if given == answer and given:
    return 'right', 'string'
  if len(given) > _BOX_CHARS:
    return 'unparsed', f'{len(given)} characters'
  wanted = _reference(answer)
  x = None if wanted.exact is None else exact(given)
  # An unequal decimal may still be a long one of a fraction.
  if x is not None and (x == wanted.exact or '.' not in given + wanted.text):
    return _status(x == wanted.exact), 'exact'
  typeset = spelling.typeset(given)
  normal = spelling.packed(typeset)
  if not normal:
    return 'unparsed', 'empty'
  if normal == wanted.normal:
    return 'right', 'string'
  if wanted.problem:
    return 'error', wanted.problem
  try:
    option = options.split(typeset)
    if option is None and wanted.letter:
      option = _option(normal, wanted)
    if option is None or (option.colon and not wanted.letter):
      return _compare_values(normal, wanted, given + answer)
    return _compare_options(option, wanted, given + answer)
  except Ambiguous as e:
    return 'unparsed', str(e)


def _is_letter(wanted: _Reference) -> bool:
  """Whether a reference is the letter of an option and nothing else."""
  return bool(options.letter(wanted.text))


def _option(normal: str, wanted: _Reference) -> options.Option | None:
  """Returns the option in an answer, which only a reference with one reveals.

  Raises:
    Ambiguous: another letter is next to the value.
  """
  if letter := options.letter(normal):
    return options.Option(letter, '')
  option = options.named(normal)
  if option is not None and not _is_letter(wanted):
    return option
  if options.letters(normal) - options.letters(wanted.text) - {wanted.letter}:
    raise Ambiguous('another letter stands there too')
  if _is_letter(wanted) and options.doubts(normal):
    raise Ambiguous('words that change a letter')
  return None


def _compare_options(
  option: options.Option, wanted: _Reference, raw: str
) -> tuple[Status, str]:
  """Letter and value must both agree, where both sides have them."""
  value = spelling.normalise(option.value)
  if not wanted.letter:
    return _compare_values(value or option.letter, wanted, raw)
  if option.letter != wanted.letter or not value or _is_letter(wanted):
    return _status(option.letter == wanted.letter), 'option'
  return _compare_values(value, wanted, raw)


def _compare_values(
  normal: str, wanted: _Reference, raw: str
) -> tuple[Status, str]:
  """Compares texts in one spelling; `raw` is both as written.

  Raises:
    Ambiguous: the given text can be read in more than one way.
  """
  texts = numerals.texts(normal).texts
  if wanted.text in texts:
    return 'right', 'string'
  if wanted.exact is not None and wanted.exact in map(exact, texts):
    return 'right', 'exact'
  if _are_words(normal, wanted.text, raw):
    return _status(_fold(normal) == _fold(wanted.text)), 'words'
  return _compare_trees(normal, wanted)


def _compare_trees(normal: str, wanted: _Reference) -> tuple[Status, str]:
  """Compares by our own grammar, or by math-verify if it cannot decide."""
  try:
    found, _ = numerals.readings(normal, _parse)
    if wanted.node is not None:
      return _status(
        any(equality.same(n, wanted.node) for _, n in found)
      ), 'value'
  except Refused as e:
    return 'wrong', str(e)
  except TooLarge as e:
    return 'unparsed', str(e)
  except Unreadable:
    pass
  text = numerals.texts(normal).texts[0]
  status, layer = symbolic.compare(text, wanted.text)
  # The reference was read already, so the model causes this failure, which must
  # not remove the rollout from its group.
  return 'unparsed' if status == 'error' else status, layer


def _status(equal: bool) -> Status:
  return 'right' if equal else 'wrong'


def _parse(normal: str) -> Node:
  """Returns the tree; a phrase is its words, not products of letters.

  Raises:
    Unreadable, TooLarge: as in `latex.parse`.
    Ambiguous: parts of an answer by their numbers, or products.
  """
  if match := _ROMAN.fullmatch(normal):
    return Node('text', (match[1] or match[2],))
  if _STATEMENTS.fullmatch(normal):
    labels = normal.strip('()').split(')(')
    if len({*labels}) < len(labels):
      raise Ambiguous('a statement twice, or a product')
    return latex.parse(normal.replace(')(', '),('))
  if _PARTS.search(normal):
    raise Ambiguous('parts by their numbers, or a product')
  if _are_foreign(normal):
    return Node('text', (normal,))
  if _PHRASE.fullmatch(normal):
    words = re.split('[ .]', normal)
    known = {'and', 'or', 'pi', *vocabulary.FUNCTIONS}
    priced = units.is_currency(words[0]) and words[-1].isdigit()
    if known.isdisjoint(words) and max(map(len, words)) > 3 and not priced:
      return Node('text', (tree.fold(normal),))
  return latex.parse(normal)


def _are_foreign(text: str) -> bool:
  """Whether these are words in other scripts, such as Chinese."""
  letters = text.replace(' ', '')
  return letters.isalpha() and not any(c.isascii() for c in letters)


def _fold(text: str) -> str:
  """Words in small letters; labels, and mixtures of both, unchanged."""
  words = ' '.join(text.split())
  if words.casefold() in _WORDS:
    return words.casefold()
  plain = words.islower() or words.istitle() or words.capitalize() == words
  long = len(words) > 2
  return words.casefold() if plain and long else words


def _are_words(a: str, b: str, raw: str) -> bool:
  """Whether these are prose or labels, not products of variables.

  As products `stop` and `pots`, or `BCA` and `ABC`, would be equal.
  """
  if not (_LETTERS.fullmatch(a) and _LETTERS.fullmatch(b)):
    return False
  if {a.casefold(), b.casefold()} & _WORDS or '\\text' in raw:
    return not {a.casefold(), b.casefold()} & forms.WORDS.keys()
  alone = a.isalpha() and b.isalpha()
  if alone and {a.isupper(), b.isupper()} == {True} and len(a) == len(b) == 2:
    return False
  return alone and min(len(a), len(b)) > 2
