"""Reads untrusted Python source: literals, arguments and asserts.

It is parsed, never executed.
"""

import ast
import contextlib
import json
import re
import textwrap
from collections.abc import Iterator
from typing import Any

from acereason_jax.data import untrusted
from acereason_jax.data.untrusted import expect

# A syntax tree takes a hundred times the text's size.
_SOURCE_CHARS = 1 << 20
_HEADER_CHARS = 2000
DEFINITION = re.compile(r'\bdef\s+([A-Za-z_]\w*)\s*\(', re.ASCII)
_NODES = re.compile(r'\b(ListNode|TreeNode|Node)\b')


def literal(text: Any) -> Any:
  """Returns the value of JSON or of a Python literal.

  JSON is tried first: its escapes mean more, and it is read a hundred times
  faster.
  """
  expect(isinstance(text, str), 'an output is not text')
  try:
    return json.loads(text, parse_constant=untrusted.refuse)
  except (ValueError, RecursionError):
    return _constant(parsed(text.strip(), 'eval').body)


def parsed(source: str, mode: str) -> ast.Module | ast.Expression:
  """Returns the syntax tree; `mode` is that of `ast.parse`."""
  expect(isinstance(source, str), 'Python source is not text')
  expect(
    len(source) <= _SOURCE_CHARS,
    f'{len(source)} characters of Python source are too many',
  )
  try:
    return ast.parse(source, mode=mode)
  except (SyntaxError, ValueError, RecursionError, MemoryError) as e:
    raise ValueError(f'not Python source: {untrusted.shown(source)}') from e


def _constant(node: ast.expr) -> Any:
  try:
    return ast.literal_eval(node)
  except (ValueError, TypeError, SyntaxError, RecursionError) as e:
    raise ValueError('Python source is more than a literal') from e


def arguments(text: Any, parameters: tuple[str, ...], name: str = '') -> list:
  """Returns the arguments in 'nums = [3,3], target = 6', in order.

  They may be inside a call of `name`.
  """
  expect(isinstance(text, str), 'an input is not text')
  call = parsed(f'_({text}\n)', 'eval').body
  expect(_is_call(call, '_'), f'not arguments: {untrusted.shown(text)}')
  if name and len(call.args) == 1 and _is_call(call.args[0], name):
    call = call.args[0]
  expect(
    len(call.args) <= len(parameters),
    f'too many arguments: {untrusted.shown(text)}',
  )
  values = dict(zip(parameters, map(_constant, call.args)))
  for word in call.keywords:
    expect(
      word.arg in parameters and word.arg not in values,
      f'{untrusted.shown(word.arg)} is not a parameter, or given twice',
    )
    values[word.arg] = _constant(word.value)
  given = parameters[: len(values)]
  expect(
    set(given) == set(values),
    f'an argument is missing: {untrusted.shown(text)}',
  )
  return [values[parameter] for parameter in given]


def _is_call(node: ast.expr, name: str) -> bool:
  return (
    isinstance(node, ast.Call)
    and isinstance(node.func, ast.Name)
    and node.func.id == name
  )


def uncommented(starter_code: Any) -> str:
  """Returns the code without the lines that are comments."""
  expect(isinstance(starter_code, str), 'starter_code is not text')
  lines = textwrap.dedent(starter_code).splitlines()
  return '\n'.join(x for x in lines if not x.lstrip().startswith('#'))


def parameters(starter_code: str, name: str) -> tuple[str, ...]:
  """Returns the names of the parameters of the function `name`.

  Raises:
    ValueError: there is no such function, or JSON cannot carry its arguments or
      result.
  """
  header = _header(uncommented(starter_code), name)
  expect(not _NODES.search(header), f'{name} works on lists or trees of nodes')
  function = parsed(header, 'exec').body[0]
  expect(
    not (
      isinstance(function.returns, ast.Constant)
      and function.returns.value is None
    ),
    f'{name} returns nothing: it changes its arguments',
  )
  names = [a.arg for a in (*function.args.posonlyargs, *function.args.args)]
  return tuple(names[1:] if names[:1] == ['self'] else names)


def _header(code: str, name: str) -> str:
  """Returns the definition of `name`, with a body that does nothing."""
  matches = [m for m in DEFINITION.finditer(code) if m[1] == name]
  expect(len(matches) == 1, f'starter_code does not define {name} once')
  rest = code[matches[0].start() :]
  # Only Python's grammar can tell which colon ends the header.
  for colon in re.finditer(':', rest[:_HEADER_CHARS]):
    with contextlib.suppress(ValueError):
      header = rest[: colon.end()] + ' pass'
      parsed(header, 'exec')
      return header
  raise ValueError(f'starter_code has no header of {name}')


def is_test(node: ast.AST) -> bool:
  """Whether it asserts more than a constant (HumanEval asserts constants)."""
  return isinstance(node, ast.Assert) and not isinstance(
    node.test, ast.Constant
  )


def straight(tree: ast.Module) -> Iterator[ast.Assert]:
  """Yields the asserts that run once: at top level and in `check`."""
  for node in tree.body:
    if isinstance(node, ast.FunctionDef) and node.name == 'check':
      yield from filter(is_test, node.body)
    elif is_test(node):
      yield node


def assertion(node: ast.Assert) -> tuple[str, list, Any] | None:
  """Returns (name, arguments, result); None if it is no call on literals."""
  match node.test:
    case ast.Compare(
      left=ast.Call(func=ast.Name(id=name), args=args, keywords=[]),
      ops=[ast.Eq() | ast.Is()],
      comparators=[right],
    ):
      pass
    case _:
      return None
  try:
    values = [untrusted.argument(_constant(a)) for a in args]
    return name, values, untrusted.result(_constant(right))
  except ValueError:
    return None
