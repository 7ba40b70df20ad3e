"""Turns public data sets' tests into code tasks, when data are prepared.

Every converter is a pure function of a source's own fields, and returns the
JSON form of a `CodeTask`: {'kind': 'stdin', 'tests': [{'stdin': '1 2\\n',
'expected': '3\\n'}]}, or {'kind': 'call', 'fn': 'Solution().add', 'tests':
[{'args': [1, 2], 'expected': 3}]}, with 'time_limit_seconds' and
'memory_bytes' where the source has limits, and 'float_tol' and 'float_error'
where its statement or its judge allows an error. It raises ValueError, one
line, for what it cannot convert. The fields are untrusted: nothing in them is
executed, evaluated or unpickled, and what they unpack to is bounded.

`statement` is the problem's text, in which `allowed_error` looks for one:
without it numbers are exact.

A call's arguments are plain JSON values, so tuples, sets and integer keys
cannot be passed; a tuple that is expected becomes a list, an integer key text.
"""

import ast
import base64
import contextlib
import html
import json
import keyword
import math
import re
import textwrap
import unicodedata
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

# The largest of LiveCodeBench's are some hundred MB of text.
_PRIVATE_BYTES = 512 << 20
# A syntax tree takes a hundred times the text's size.
_SOURCE_CHARS = 1 << 20
_HEADER_CHARS = 2000
_DEPTH = 64
# What Python reads and writes in decimal has at most 4,300 digits.
_BITS = 14_000
_SHOWN_CHARS = 80

# Limits are set for compiled languages. An interpreter with its usual modules
# has used 100 MB before a program's own first line.
_TIME_FACTOR = 3.0
_MAX_TIME_SECONDS = 60.0
_LEAST_MEMORY_BYTES = 1 << 30
_MOST_MEMORY_BYTES = 1 << 36

# What LeetCode's judge allows wherever a result is a float, and says so in most
# statements: "Answers within 10^-5 of the actual value will be accepted".
_LEETCODE_ERROR = {'float_tol': 1e-5, 'float_error': 'absolute'}

_FUNCTION = re.compile(r'(Solution\(\)\.)?([A-Za-z_][A-Za-z0-9_]*)')
_DEFINITION = re.compile(r'\bdef\s+([A-Za-z_]\w*)\s*\(', re.ASCII)
_CLASS = re.compile(r'^class\s+(\w+)', re.MULTILINE)
_NODES = re.compile(r'\b(ListNode|TreeNode|Node)\b')
_INTEGER = re.compile(r'-?[0-9]+')

# What pickle writes for one text, in protocols 2 to 5: the protocol, maybe the
# start of a frame, the text's length and the text; then it is memoised.
_PICKLE_START = re.compile(
  rb'\x80[\x02-\x05](?:\x95.{8})?(?:\x8c(.)|X(.{4})|\x8d(.{8}))', re.DOTALL
)
_PICKLE_END = re.compile(
  rb'(?:\x95.{8})?(?:\x94|q.|r.{4})?(?:\x95.{8})?\.', re.DOTALL
)

# 10^{-6}, 10 - 6 (its superscript was lost), 5*10^-3, 10**(-6), 1e-6, 0.000001.
_SMALL = re.compile(
  r'(?:([0-9](?:\.[0-9]+)?) ?(?:x|\*|\N{MULTIPLICATION SIGN}|times|cdot) ?)?'
  r'\b10 ?(?:\^|\*\*)? ?\(? ?- ?([0-9]{1,2})\b'
  r'|\b([0-9](?:\.[0-9]{1,4})?e ?- ?[0-9]{1,2})\b'
  r'|(?<![0-9.])(0?\.0*[125])(?![0-9]|\.[0-9]| ?%)'
)
# What a sentence speaks of that allows an error of the answer. There are errors
# and distances in stories too.
_OF_ERROR = re.compile(
  r'\berrors?\b|\bdiffer|\btolerance\b|\baccura(?:cy|te)\b|\bprecis(?:ion|e)\b'
  r'|\bdeviat|\boff by\b|\baccept\w* (?:\w+ ){0,4}within [-0-9.e^ ]{2,12}'
  r'|\bwithin [-0-9.e^ ]{2,12} (?:of|from)\b'
  r'|\babsolute or relative\b|\brelative or absolute\b'
  r'|\bcorrect (?:up )?to (?:within )?[0-9.]'
  r'|\|.{1,80}\|.{0,60}(?:<|\N{LESS-THAN OR EQUAL TO}|\ble|\bleq)'
)
_OF_ANSWER = re.compile(
  r'\babsolute\b|\brelative\b|\baccepted\b|\banswers?\b|\bcorrect\b|\bjudge'
  r'|\bjury|\bchecker|\boutput|\bprint|\bpermi|\ballow|\bcontain|\bresults?\b'
  r'|\btolerated\b|\bignored\b'
)
_OF_STORY = re.compile(
  r'probability of (?:an |the )?error|error (?:rate|prob)'
  r'|\bno (?:\w+ ){0,3}errors? (?:in \w+ \w+ )?(?:is|are)\b'
)
# It speaks of the input, or of what the input keeps from happening.
_PROMISE = re.compile(r'\bguarantee|\bassume')
# So much is not an answer's error, but a distance of the story.
_STORY_ERROR = 0.2
_EITHER = re.compile(r'\bmax ?\(|\bmin ?\(')
_RELATIVE = re.compile(r'\brelative\b|/ ?\||\bfrac ?\|')
# Tags, and TeX's braces and backslashes.
_MARKUP = re.compile(
  r'</?[a-z][a-z0-9]*(?:\s[^<>]*)?/?>'
  r'|\\(?:left|right|text|mathrm|,|!|;|:)?|[${}`]',
  re.ASCII,
)
_MINUS = re.compile('[\N{MINUS SIGN}\N{EN DASH}\N{HYPHEN}]')
_SENTENCE_END = re.compile(r'[.!?](?=\s|$)|\n\s*\n')
_STATEMENT_CHARS = 1 << 17

Task = dict[str, Any]


def allowed_error(statement: str) -> Task:
  """Returns the fields for the error that a problem's statement allows, or {}.

  "absolute or relative" is either, "relative" is that, all else is absolute. If
  several are named, the smallest counts.
  """
  _expect(isinstance(statement, str), 'the statement is not text')
  found: Task = {}
  for sentence in _sentences(statement[:_STATEMENT_CHARS]):
    if _OF_STORY.search(sentence) or not (
      _OF_ERROR.search(sentence) and _OF_ANSWER.search(sentence)
    ):
      continue
    if _PROMISE.search(sentence) and 'accepted' not in sentence:
      continue
    for number in _SMALL.finditer(sentence):
      times, power, scientific, decimal = number.groups()
      text = f'{times or 1}e-{power}' if power else scientific or decimal
      error = float(text.replace(' ', ''))
      if 0 < error < found.get('float_tol', _STORY_ERROR):
        found = {'float_tol': error, 'float_error': _error_of(sentence)}
  return found


def _sentences(statement: str) -> list[str]:
  """Returns them without markup, in lower case, with plain minus signs."""
  text = unicodedata.normalize('NFKC', html.unescape(statement))
  text = _MINUS.sub('-', _MARKUP.sub(' ', text.lower()))
  return [' '.join(s.split()) for s in _SENTENCE_END.split(text)]


def _error_of(sentence: str) -> str:
  either = _EITHER.search(sentence) or (
    'relative' in sentence and 'absolute' in sentence
  )
  if either:
    return 'either'
  return 'relative' if _RELATIVE.search(sentence) else 'absolute'


def apps(
  input_output: str, starter_code: str = '', statement: str = ''
) -> Task:
  """The tests of APPS, TACO or PRIME, from their field `input_output`.

  Arguments are a list, or text with one JSON value a line; then the result is
  JSON text too. Where there is no class Solution and every result is a list of
  one element, that element is the result: so the Codewars problems are stored,
  and nothing in the data tells them from functions that return such lists.
  """
  data = _json(input_output, 'input_output')
  _expect(isinstance(data, dict), 'input_output is not an object')
  pairs = _pairs(data, 'inputs', 'outputs')
  name = data.get('fn_name')
  if name is None:
    return _stdin_task(((_text(i), _text(o)) for i, o in pairs), statement)
  _expect(isinstance(name, str), 'fn_name is not text')
  in_class = 'Solution' in _CLASS.findall(_uncommented(starter_code))
  wrapped = not in_class and all(
    isinstance(inputs, list) and isinstance(output, list) and len(output) == 1
    for inputs, output in pairs
  )
  tests = [_apps_call(i, o[0] if wrapped else o) for i, o in pairs]
  name = f'Solution().{name}' if in_class else name
  return _call_task(name, tests, statement)


def codecontests(row: Mapping[str, Any]) -> Task:
  """The public, private and generated tests of a CodeContests row.

  Times are three times the source's, since that is meant for C++, and memory
  is at least 1 GiB; `description` says what error is allowed. The data do not
  say which problems have several right outputs; those few judge other right
  programs wrong.
  """
  _expect(
    not row.get('input_file') and not row.get('output_file'),
    'the program would have to read or write a file',
  )
  pairs = []
  for part in ('public_tests', 'private_tests', 'generated_tests'):
    if (tests := row.get(part)) is not None:
      _expect(isinstance(tests, Mapping), f'{part} is not an object')
      pairs += _pairs(tests, 'input', 'output')
  tests = ((_text(i), _text(o)) for i, o in pairs)
  task = _stdin_task(tests, row.get('description') or '')
  return task | _limits(row.get('time_limit'), row.get('memory_limit_bytes'))


def codeforces(row: Mapping[str, Any]) -> Task:
  """The official tests of an open-r1/codeforces row.

  Limits are as for CodeContests; `output_format`, `description` and `note` say
  what error is allowed. Interactive problems are refused, and so are those
  with files and those for which `generated_checker` would have to be run.
  """
  _expect(row.get('input_mode', 'stdio') == 'stdio', 'input is not stdin')
  _expect(not row.get('interaction_format'), 'the problem is interactive')
  statement = '\n\n'.join(
    str(row.get(field) or '')
    for field in ('description', 'output_format', 'note')
  )
  _expect(
    not row.get('generated_checker') or bool(allowed_error(statement)),
    'a checker decides: there are several right outputs',
  )
  cases = _cases(row.get('official_tests'), 'official_tests')
  tests = ((_text(c['input']), _text(c['output'])) for c in cases)
  megabytes = row.get('memory_limit') or 0
  _expect(
    type(megabytes) in (int, float) and 0 <= megabytes <= 1 << 16,
    'memory_limit is no size',
  )
  limits = _limits(row.get('time_limit'), int(megabytes * (1 << 20)))
  return _stdin_task(tests, statement) | limits


def _limits(time_limit: Any, memory_bytes: Any) -> Task:
  """Returns the fields of a source's limits, which are for C++."""
  limits: Task = {}
  if (seconds := _seconds(time_limit)) > 0:
    limits['time_limit_seconds'] = min(
      _TIME_FACTOR * seconds, _MAX_TIME_SECONDS
    )
  memory = memory_bytes or 0
  _expect(
    type(memory) is int and 0 <= memory <= _MOST_MEMORY_BYTES,
    'memory_limit_bytes is no size',
  )
  if memory > _LEAST_MEMORY_BYTES:
    limits['memory_bytes'] = memory
  return limits


def livecodebench(
  public_test_cases: str,
  private_test_cases: str,
  metadata: str,
  statement: str = '',
) -> Task:
  """All tests of a LiveCodeBench row, from its text fields.

  Private tests are JSON, or base64 of zlib of a pickled text of JSON: those
  few bytes around the text are matched here, and no unpickler runs.
  """
  cases = _cases(public_test_cases, 'public_test_cases')
  cases += _cases(_unpacked(private_test_cases), 'private_test_cases')
  kinds = {case.get('testtype', '') for case in cases}
  if kinds == {'stdin'}:
    tests = ((_text(c['input']), _text(c['output'])) for c in cases)
    return _stdin_task(tests, statement)
  _expect(kinds == {'functional'}, f'testtypes are {_shown(sorted(kinds))}')
  about = _json(metadata, 'metadata')
  name = about.get('func_name') if isinstance(about, dict) else None
  _expect(isinstance(name, str), 'metadata has no func_name')
  tests = [
    (_json_lines(c['input']), _json(c['output'], 'output')) for c in cases
  ]
  return _call_task(f'Solution().{name}', tests, statement)


def leetcode(
  entry_point: str,
  starter_code: str,
  input_output: Sequence[Mapping[str, str]],
  statement: str = '',
) -> Task:
  """The tests of a LeetCode-style row, such as LeetCodeDataset's.

  An input reads 'nums = [3,3], target = 6'; its values are put in the order
  of the parameters that `starter_code` declares. Problems about linked lists,
  trees and arguments changed in place are refused.
  """
  _expect(isinstance(entry_point, str), 'entry_point is not text')
  match = _FUNCTION.fullmatch(entry_point)
  _expect(match is not None, f'entry_point is {_shown(entry_point)}')
  parameters = _parameters(starter_code, match[2])
  cases = _cases(input_output, 'input_output')
  tests = [
    (_arguments(c['input'], parameters), _literal(c['output'])) for c in cases
  ]
  return _call_task(entry_point, tests, statement)


def toolkit(
  starter_code: str,
  input_output: Sequence[Mapping[str, str]],
  statement: str = '',
) -> Task:
  """The tests of a row of the AceReason evaluation toolkit.

  Without starter code the inputs are stdin. With it they are the arguments of
  its one function as Python source, with or without the call around them, or
  one JSON value a line. An input that is a path is not told from text.
  """
  cases = _cases(input_output, 'input_output')
  code = _uncommented(starter_code)
  if not code.strip():
    tests = ((_text(c['input']), _text(c['output'])) for c in cases)
    return _stdin_task(tests, statement)
  names, classes = _DEFINITION.findall(code), _CLASS.findall(code)
  _expect(len(names) == 1, f'starter_code defines {len(names)} functions')
  _expect(classes in ([], ['Solution']), 'starter_code has another class')
  name, parameters = names[0], _parameters(code, names[0])
  tests = [
    (_toolkit_arguments(c['input'], name, parameters), _literal(c['output']))
    for c in cases
  ]
  name = f'Solution().{name}' if classes else name
  return _call_task(name, tests, statement)


def asserts(source: str, entry_point: str = '') -> tuple[Task, int]:
  """A task of the tests in `assert f(1, 2) == 3` lines, and what was left.

  Reads MBPP's tests joined by line ends, and HumanEval's `check(candidate)`.
  The second result counts the asserts that are not a call on literals equal
  to a literal, as those in loops, with tolerances or with tuples as arguments;
  a task with some left is weaker than its source. Without an entry point it is
  the one name that the asserts call. Floats are exact, as `==` is.
  """
  tree = _parsed(source, 'exec')
  candidates = {
    argument.arg
    for node in tree.body
    if isinstance(node, ast.FunctionDef) and node.name == 'check'
    for argument in node.args.args
  }
  found = [node for node in ast.walk(tree) if _is_test(node)]
  tests = [t for node in _straight(tree) if (t := _assertion(node))]
  _expect(bool(tests), f'none of {len(found)} asserts compares literals')
  names = {entry_point if n in candidates else n for n, _, _ in tests}
  name = entry_point or next(iter(names))
  _expect(names == {name}, f'the asserts call {_shown(sorted(names))}')
  task = _call_task(name, [(args, expected) for _, args, expected in tests])
  return task, len(found) - len(tests)


# Tasks


def _stdin_task(tests: Iterable[tuple[str, str]], statement: str) -> Task:
  tests = [{'stdin': i, 'expected': o} for i, o in tests]
  _expect(bool(tests), 'there are no tests')
  # A program that does nothing would be right.
  _expect(any(t['expected'].strip() for t in tests), 'no test expects output')
  return {'kind': 'stdin', 'tests': tests, **allowed_error(statement)}


def _call_task(
  fn: str, tests: Iterable[tuple[list, Any]], statement: str = ''
) -> Task:
  match = _FUNCTION.fullmatch(fn)
  _expect(
    match is not None
    and not keyword.iskeyword(match[2])
    # A task must not call what every program has.
    and not match[2].startswith('__'),
    f'{_shown(fn)} is no name of a function',
  )
  tests = [
    {'args': [_argument(a) for a in args], 'expected': _expected(expected)}
    for args, expected in tests
  ]
  _expect(bool(tests), 'there are no tests')
  error = allowed_error(statement)
  if not error and match[1] and any(_has_float(t['expected']) for t in tests):
    # A class Solution is LeetCode's.
    error = _LEETCODE_ERROR
  return {'kind': 'call', 'fn': fn, 'tests': tests, **error}


def _has_float(value: Any) -> bool:
  if isinstance(value, list | dict):
    values = value.values() if isinstance(value, dict) else value
    return any(map(_has_float, values))
  return isinstance(value, float)


def _apps_call(inputs: Any, output: Any) -> tuple[list, Any]:
  """Returns (arguments, result) of one call as APPS and its kin store it."""
  if isinstance(inputs, str):
    return _json_lines(inputs), _json(output, 'an output')
  _expect(isinstance(inputs, list), 'inputs are not a list of arguments')
  for value in inputs:
    # JSON made their keys text, and what they had been is lost.
    _expect(
      not isinstance(value, dict)
      or not value
      or not all(_INTEGER.fullmatch(key) for key in value),
      'the keys of an argument were integers',
    )
  return inputs, output


def _toolkit_arguments(
  text: Any, name: str, parameters: tuple[str, ...]
) -> list:
  _expect(isinstance(text, str), 'an input is not text')
  if '\n' in text.strip():
    return _json_lines(text)
  return _arguments(text, parameters, name)


# Fields


def _expect(condition: bool, otherwise: str) -> None:
  if not condition:
    raise ValueError(otherwise)


def _shown(value: Any) -> str:
  """Returns a short piece of a text or of a list of texts, on one line."""
  return ascii(value)[:_SHOWN_CHARS]


def _pairs(data: Mapping, inputs: str, outputs: str) -> list[tuple[Any, Any]]:
  left, right = data.get(inputs), data.get(outputs)
  _expect(
    isinstance(left, list) and isinstance(right, list),
    f'{inputs} and {outputs} are not both lists',
  )
  _expect(
    len(left) == len(right),
    f'{len(left)} {inputs} do not match {len(right)} {outputs}',
  )
  return list(zip(left, right))


def _cases(value: Any, what: str) -> list[Mapping[str, Any]]:
  """Returns the list, maybe as JSON text, of {'input', 'output'} objects."""
  cases = _json(value, what) if isinstance(value, str) else value
  _expect(isinstance(cases, list), f'{what} is not a list')
  for case in cases:
    _expect(
      isinstance(case, Mapping) and 'input' in case and 'output' in case,
      f'{what} has an element without input and output',
    )
    _expect(
      isinstance(case.get('testtype', ''), str), f'{what} has a bad testtype'
    )
  return list(cases)


def _text(value: Any) -> str:
  """Returns stdin's or stdout's text, given whole or as a list of lines."""
  if isinstance(value, list) and all(isinstance(line, str) for line in value):
    value = ''.join(line.removesuffix('\n') + '\n' for line in value)
  _expect(isinstance(value, str), 'an input or output is not text')
  return _encodable(value)


def _encodable(text: str) -> str:
  try:
    text.encode()
  except UnicodeEncodeError as e:
    raise ValueError('a text has half a surrogate pair') from e
  return text


def _seconds(limit: Any) -> float:
  """Returns a time limit, {'seconds', 'nanos'} or a number; 0 for none."""
  if isinstance(limit, Mapping):
    parts = [limit.get('seconds') or 0, limit.get('nanos') or 0]
  else:
    parts = [limit or 0, 0]
  _expect(
    all(type(p) in (int, float) and 0 <= p < 1e12 for p in parts),
    'time_limit is no time',
  )
  return parts[0] + parts[1] / 1e9


def _unpacked(text: Any) -> str:
  """Returns LiveCodeBench's private tests as JSON text."""
  _expect(isinstance(text, str), 'private_test_cases is not text')
  if text.lstrip()[:1] == '[':
    return text
  try:
    packed = base64.b64decode(text, validate=True)
    unpacker = zlib.decompressobj()
    data = unpacker.decompress(packed, _PRIVATE_BYTES)
  except (ValueError, zlib.error) as e:
    raise ValueError('private_test_cases is not base64 of zlib') from e
  _expect(
    unpacker.eof and not unpacker.unused_data,
    f'private_test_cases is cut off, or more than {_PRIVATE_BYTES} bytes',
  )
  return _pickled_text(data)


def _pickled_text(data: bytes) -> str:
  """Returns the text that `data` is a pickle of, without unpickling."""
  start = _PICKLE_START.match(data)
  _expect(start is not None, 'the pickle does not hold a text')
  size = next(group for group in start.groups() if group is not None)
  stop = start.end() + int.from_bytes(size, 'little')
  _expect(
    stop < len(data) and _PICKLE_END.fullmatch(data, stop) is not None,
    'the pickle holds more or less than one text',
  )
  try:
    return data[start.end() : stop].decode()
  except UnicodeDecodeError as e:
    raise ValueError('the pickled text is not UTF-8') from e


def _json(text: Any, what: str) -> Any:
  _expect(isinstance(text, str), f'{what} is not text')
  try:
    return json.loads(text, parse_constant=_refuse)
  except (ValueError, RecursionError) as e:
    raise ValueError(f'{what} is not JSON: {_shown(text)}') from e


def _refuse(constant: str) -> NoReturn:
  raise ValueError(f'{constant} is not JSON')


def _json_lines(text: Any) -> list:
  """Returns the arguments in a text of one JSON value a line."""
  _expect(isinstance(text, str), 'an input is not text')
  lines = text.strip().split('\n') if text.strip() else []
  return [_json(line, 'a line of an input') for line in lines]


# Values


def _argument(value: Any, depth: int = _DEPTH) -> Any:
  """Returns `value` if JSON carries it as it is."""
  _expect(depth > 0, f'a value is nested more than {_DEPTH} deep')
  if isinstance(value, list):
    return [_argument(v, depth - 1) for v in value]
  if isinstance(value, dict):
    _expect(
      all(isinstance(key, str) for key in value),
      'an argument has keys that are not text',
    )
    return {_encodable(k): _argument(v, depth - 1) for k, v in value.items()}
  if isinstance(value, str):
    return _encodable(value)
  _expect(
    value is None or type(value) in (bool, int, float),
    f'JSON has no {type(value).__name__}',
  )
  if isinstance(value, float):
    _expect(math.isfinite(value), 'a number is infinite')
  elif isinstance(value, int):
    _expect(value.bit_length() <= _BITS, 'an integer is too long for JSON')
  return value


def _expected(value: Any, depth: int = _DEPTH) -> Any:
  """Returns a result as JSON carries it: tuples as lists, keys as text."""
  _expect(depth > 0, f'a value is nested more than {_DEPTH} deep')
  if isinstance(value, (list, tuple)):
    return [_expected(v, depth - 1) for v in value]
  if isinstance(value, dict):
    _expect(
      all(type(key) in (str, int) for key in value),
      'a result has keys that are neither text nor integers',
    )
    keys = [_encodable(str(key)) for key in value]
    _expect(len(set(keys)) == len(keys), 'two keys of a result are one text')
    values = [_expected(v, depth - 1) for v in value.values()]
    return dict(zip(keys, values))
  return _argument(value)


def _literal(text: Any) -> Any:
  """Returns the value of JSON or of a Python literal.

  JSON is first: its escapes mean more, and it is read a hundred times faster.
  """
  _expect(isinstance(text, str), 'an output is not text')
  try:
    return json.loads(text, parse_constant=_refuse)
  except (ValueError, RecursionError):
    return _constant(_parsed(text.strip(), 'eval').body)


# Python source, only ever parsed


def _parsed(source: str, mode: str) -> ast.Module | ast.Expression:
  _expect(isinstance(source, str), 'Python source is not text')
  _expect(
    len(source) <= _SOURCE_CHARS,
    f'{len(source)} characters of Python source are too many',
  )
  try:
    return ast.parse(source, mode=mode)
  except (SyntaxError, ValueError, RecursionError, MemoryError) as e:
    raise ValueError(f'not Python source: {_shown(source)}') from e


def _constant(node: ast.expr) -> Any:
  try:
    return ast.literal_eval(node)
  except (ValueError, TypeError, SyntaxError, RecursionError) as e:
    raise ValueError('Python source is more than a literal') from e


def _arguments(text: Any, parameters: tuple[str, ...], name: str = '') -> list:
  """Returns the arguments in 'nums = [3,3], target = 6', in order.

  They may stand in a call of `name`.
  """
  _expect(isinstance(text, str), 'an input is not text')
  call = _parsed(f'_({text}\n)', 'eval').body
  _expect(_is_call(call, '_'), f'not arguments: {_shown(text)}')
  if name and len(call.args) == 1 and _is_call(call.args[0], name):
    call = call.args[0]
  _expect(
    len(call.args) <= len(parameters), f'too many arguments: {_shown(text)}'
  )
  values = dict(zip(parameters, map(_constant, call.args)))
  for word in call.keywords:
    _expect(
      word.arg in parameters and word.arg not in values,
      f'{_shown(word.arg)} is not a parameter, or given twice',
    )
    values[word.arg] = _constant(word.value)
  given = parameters[: len(values)]
  _expect(set(given) == set(values), f'an argument is missing: {_shown(text)}')
  return [values[parameter] for parameter in given]


def _is_call(node: ast.expr, name: str) -> bool:
  return (
    isinstance(node, ast.Call)
    and isinstance(node.func, ast.Name)
    and node.func.id == name
  )


def _uncommented(starter_code: Any) -> str:
  """Returns the code without the lines that are comments."""
  _expect(isinstance(starter_code, str), 'starter_code is not text')
  lines = textwrap.dedent(starter_code).splitlines()
  return '\n'.join(x for x in lines if not x.lstrip().startswith('#'))


def _parameters(starter_code: str, name: str) -> tuple[str, ...]:
  """Returns the names of what the function `name` is called with.

  Raises:
    ValueError: there is none, or JSON cannot carry its arguments or result.
  """
  header = _header(_uncommented(starter_code), name)
  _expect(not _NODES.search(header), f'{name} works on lists or trees of nodes')
  function = _parsed(header, 'exec').body[0]
  _expect(
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
  matches = [m for m in _DEFINITION.finditer(code) if m[1] == name]
  _expect(len(matches) == 1, f'starter_code does not define {name} once')
  rest = code[matches[0].start() :]
  # Which colon ends the header, only Python's grammar knows.
  for colon in re.finditer(':', rest[:_HEADER_CHARS]):
    with contextlib.suppress(ValueError):
      header = rest[: colon.end()] + ' pass'
      _parsed(header, 'exec')
      return header
  raise ValueError(f'starter_code has no header of {name}')


def _is_test(node: ast.AST) -> bool:
  """Whether it is an assert of more than a constant, which HumanEval has."""
  return isinstance(node, ast.Assert) and not isinstance(
    node.test, ast.Constant
  )


def _straight(tree: ast.Module) -> Iterator[ast.Assert]:
  """Yields the asserts that run once: at top level and in `check`."""
  for node in tree.body:
    if isinstance(node, ast.FunctionDef) and node.name == 'check':
      yield from filter(_is_test, node.body)
    elif _is_test(node):
      yield node


def _assertion(node: ast.Assert) -> tuple[str, list, Any] | None:
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
    values = [_argument(_constant(a)) for a in args]
    return name, values, _expected(_constant(right))
  except ValueError:
    return None
