"""Finds a response's program: its last closed ```python block."""

import re

# A line that opens a block: list and quote marks, the fence, and the language.
# A title or attributes may follow.
_OPENING = re.compile(
  r'((?:[ \t]*+(?:>|(?:[-*+]|[0-9]{1,9}[.)])(?=[ \t]))){0,9}+[ \t]*+)'
  r'(`{3,}+(?=[^`]*$)|~{3,}+)[ \t]*+(?:\{[ \t]*+(?:#[\w-]++[ \t]++)?\.?)?'
  r'(?:python(?:3(?:\.[0-9]+)?)?|py3?)(?![\w+#.-])',
  re.IGNORECASE,
)
_CLOSING = re.compile(r'[ \t]*+(`{3,}+|~{3,}+)[ \t\r]*+$')
_TAB = 4
# In a line of Python: a comment, the quotes of a long string, a short string.
_LEXEME = re.compile(
  r'#.*|("""|\'{3})|"(?:[^"\\]++|\\.)*+"?+|' r"'(?:[^'\\]++|\\.)*+'?+"
)
# The rest of a long string, by its quotes.
_REST = {
  3 * quote: re.compile(
    rf'(?:[^{quote}\\]++|\\.|{quote}(?!{2 * quote}))*+{3 * quote}'
  )
  for quote in ('"', "'")
}


def extract(response: str, reasons: bool) -> str | None:
  """Returns the last closed ```python block after the first `</think>`.

  A block begins with a line of three or more ` or ~ and the language: python,
  python3 or py, in any case. It ends at the first line of as many, or more, of
  that character, except inside a long string of the program. If such a string
  never ends, the first such line ends the block. Each line loses the fence's
  own indentation, as in CommonMark, but no more than the first line has.
  """
  if reasons:
    _, tag, response = response.partition('</think>')
    if not tag:
      return None
  lines = response.split('\n')
  program, number, lexed = None, 0, True
  while number < len(lines):
    opening = _OPENING.match(lines[number])
    number += 1
    if not opening:
      continue
    lead, fence = opening.groups()
    quoted = re.compile(rf'(?:[ \t]*+> ?){{0,{lead.count(">")}}}+')
    end = _end(lines, number, fence, quoted, lexed)
    if end is None and lexed:
      # Searched only once, so the time is linear in the text.
      lexed = False
      end = _end(lines, number, fence, quoted, lexed)
    if end is None:
      break
    block = [_unquoted(line, quoted) for line in lines[number:end]]
    program = _dedented(block, _columns(_unquoted(lead, quoted)))
    number = end + 1
  return program


def _end(
  lines: list[str], number: int, fence: str, quoted: re.Pattern, lexed: bool
) -> int | None:
  """Returns which line closes the block that begins with line `number`."""
  string = ''
  for i in range(number, len(lines)):
    line = _unquoted(lines[i], quoted)
    closing = _CLOSING.match(line)
    if closing and not string and closing[1].startswith(fence):
      return i
    if lexed:
      string = _string_after(line, string)
  return None


def _string_after(line: str, string: str) -> str:
  """Returns the quotes of the long string that is open after a line.

  `string` holds the quotes of the long string open before the line, '' for
    none.
  """
  at = 0
  while True:
    following = _REST[string].match if string else _LEXEME.search
    found = following(line, at)
    if not found:
      return string
    at, string = found.end(), '' if string else found[1] or ''


def _unquoted(line: str, quoted: re.Pattern) -> str:
  return line[quoted.match(line).end() :]


def _columns(text: str) -> int:
  return len(text.expandtabs(_TAB))


def _dedented(lines: list[str], columns: int) -> str:
  """Returns the lines with up to `columns` columns of indentation removed."""
  first = next(filter(str.strip, lines), '')
  own = first[: len(first) - len(first.lstrip(' \t'))]
  columns = min(columns, _columns(own))
  return ''.join(f'{_without(line, columns)}\n' for line in lines)


def _without(line: str, columns: int) -> str:
  at = column = 0
  while column < columns and line[at : at + 1] in (' ', '\t'):
    column += 1 if line[at] == ' ' else _TAB - column % _TAB
    at += 1
  # The rest of a tab stays.
  return ' ' * (column - columns) + line[at:]
