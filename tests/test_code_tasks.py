import base64
import io
import itertools
import json
import math
import pickle
import zlib

import pytest

from acereason_jax.data import code_tasks, tolerance, unpacking
from acereason_jax.verifiers.programs import tasks

TWO_SUM = """\
class Solution:
    def twoSum(self, nums: List[int], target: int = 0) -> List[int]:
        """
NODES = """\
# class ListNode:
#     def __init__(self, val=0, next=None):
#         self.val = val
class Solution:
    def reverse(self, head: Optional[ListNode]) -> Optional[ListNode]:
        """
IN_PLACE = """\
class Solution:
    def rotate(self, nums: List[int], k: int) -> None:
        \"\"\"
        Do not return anything: modify nums.
        \"\"\"
"""
# Source that writes a file if anything runs it.
CODE = "__import__('pathlib').Path({path!r}).touch()"


class Touch:
  """Unpickled, it writes a file."""

  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return eval, (CODE.format(path=str(self.path)),)


def case(given, output, **more):
  return {'input': given, 'output': output, **more}


def packed(data):
  return base64.b64encode(zlib.compress(data)).decode()


def private(*cases, protocol=4):
  return packed(pickle.dumps(json.dumps(cases), protocol))


def stdin_case(given, output):
  return case(given, output, testtype='stdin')


def call_case(given, output):
  return case(given, output, testtype='functional')


def refusal(convert, *arguments):
  """Returns the one line of the ValueError that `convert` raises."""
  with pytest.raises(ValueError) as raised:
    convert(*arguments)
  message = str(raised.value)
  assert message and '\n' not in message and len(message) < 200
  assert message.isascii() and message.isprintable()
  return message


def accepted(task):
  """Returns the task if it is one, and JSON changes nothing in it."""
  text = json.dumps(task)
  again = json.loads(tasks.CodeTask.from_json(text).to_json())
  assert again | task == again and json.loads(text) == task
  return task


def calls(task):
  accepted(task)
  return task['fn'], [(t['args'], t['expected']) for t in task['tests']]


# APPS, TACO, PRIME


def apps_json(inputs, outputs, **more):
  return json.dumps({'inputs': inputs, 'outputs': outputs, **more})


def test_apps_stdin_is_text_or_lines():
  task = code_tasks.apps(apps_json(['1 2\n', ['3', '4\n']], ['3', ['7']]))
  assert accepted(task) == {
    'kind': 'stdin',
    'tests': [
      {'stdin': '1 2\n', 'expected': '3'},
      {'stdin': '3\n4\n', 'expected': '7\n'},
    ],
  }


def test_apps_calls_unwrap_results_that_all_are_one_element_lists():
  wrapped = apps_json([[1, 'a'], [2, 'b']], [[3], [[4]]], fn_name='f')
  assert calls(code_tasks.apps(wrapped)) == (
    'f',
    [([1, 'a'], 3), ([2, 'b'], [4])],
  )
  bare = apps_json([[1], [2]], [[3], [4, 5]], fn_name='f')
  assert calls(code_tasks.apps(bare)) == ('f', [([1], [3]), ([2], [4, 5])])
  in_class = code_tasks.apps(wrapped, 'class Solution:\n  def f(self, a, b):')
  assert calls(in_class)[0] == 'Solution().f'
  assert calls(in_class)[1][0] == ([1, 'a'], [3])
  commented = code_tasks.apps(wrapped, '# class Solution:\ndef f(a, b):')
  assert commented == code_tasks.apps(wrapped)


def test_apps_calls_may_be_lines_of_json():
  text = apps_json(['[1, 2]\n"a b"\n', ''], ['[3]', 'null'], fn_name='f')
  assert calls(code_tasks.apps(text)) == (
    'f',
    [([[1, 2], 'a b'], [3]), ([], None)],
  )


@pytest.mark.parametrize(
  'text, words',
  [
    ('', 'input_output is not JSON'),
    (None, 'input_output is not text'),
    ('[' * 100_000, 'not JSON'),
    ('[]', 'not an object'),
    ('{}', 'not both lists'),
    (apps_json([], []), 'no tests'),
    (apps_json(['1'], []), '1 inputs do not match 0 outputs'),
    (apps_json(['1'], [1]), 'not text'),
    (apps_json(['1', '2'], [' ', '\n']), 'no test expects output'),
    (apps_json(['\ud800'], ['1']), 'half a surrogate pair'),
    (apps_json([], [], fn_name='f'), 'no tests'),
    (apps_json([[1]], [[1]], fn_name=3), 'fn_name is not text'),
    (apps_json([[1]], [[1]], fn_name='a.b'), 'no name of a function'),
    (apps_json([[1]], [[1]], fn_name='f()'), 'no name of a function'),
    (apps_json([[1]], [[1]], fn_name='f\n'), 'no name of a function'),
    (apps_json([[1]], [[1]], fn_name='import'), 'no name of a function'),
    (apps_json([[1]], [[1]], fn_name='__import__'), 'no name of a function'),
    (apps_json([1], [1], fn_name='f'), 'not a list of arguments'),
    (apps_json([[{'1': 2}]], [1], fn_name='f'), 'were integers'),
    (apps_json(['(1)'], ['1'], fn_name='f'), 'a line of an input'),
    (apps_json(['1'], [1], fn_name='f'), 'an output is not text'),
    (apps_json([[math.nan]], [1], fn_name='f'), 'not JSON'),
    ('{"inputs": [[1e999]], "outputs": [1], "fn_name": "f"}', 'infinite'),
    (
      apps_json(['[' * 65 + ']' * 65], ['1'], fn_name='f'),
      'nested more than 64',
    ),
  ],
)
def test_apps_refuses_in_one_line(text, words):
  assert words in refusal(code_tasks.apps, text)


# CodeContests


def columns(*pairs):
  return {'input': [i for i, _ in pairs], 'output': [o for _, o in pairs]}


def test_codecontests_takes_all_tests_and_limits():
  row = {
    'public_tests': columns(('1\n', '2\n')),
    'private_tests': columns(),
    'generated_tests': columns(('3\n', '4\n'), ('5\n', '6\n')),
    'time_limit': {'seconds': 2, 'nanos': 500_000_000},
    'memory_limit_bytes': 2 << 30,
    'input_file': '',
  }
  task = accepted(code_tasks.codecontests(row))
  assert [t['stdin'] for t in task['tests']] == ['1\n', '3\n', '5\n']
  assert task['time_limit_seconds'] == 7.5
  assert task['memory_bytes'] == 2 << 30


@pytest.mark.parametrize(
  'limits, expected',
  [
    ({}, {}),
    ({'time_limit': None, 'memory_limit_bytes': 0}, {}),
    ({'time_limit': {'seconds': 1, 'nanos': None}}, 3.0),
    ({'time_limit': 1000}, 60.0),
    ({'time_limit': 0.5}, 1.5),
    ({'memory_limit_bytes': 256_000_000}, {}),
  ],
)
def test_codecontests_limits_may_be_missing_or_small(limits, expected):
  task = code_tasks.codecontests({'public_tests': columns(('1', '2'))} | limits)
  if expected:
    expected = {'time_limit_seconds': expected}
  assert {k: v for k, v in task.items() if k not in ('kind', 'tests')} == (
    expected
  )


@pytest.mark.parametrize(
  'row, words',
  [
    ({}, 'no tests'),
    ({'public_tests': []}, 'public_tests is not an object'),
    ({'public_tests': {'input': ['1']}}, 'not both lists'),
    ({'public_tests': columns(('1', 2))}, 'not text'),
    ({'input_file': 'in.txt'}, 'a file'),
    ({'time_limit': 'fast'}, 'no time'),
    ({'time_limit': math.nan}, 'no time'),
    ({'time_limit': {'seconds': -1}}, 'no time'),
    ({'memory_limit_bytes': 'much'}, 'no size'),
    ({'memory_limit_bytes': -1}, 'no size'),
    ({'memory_limit_bytes': 1 << 60}, 'no size'),
  ],
)
def test_codecontests_refuses_in_one_line(row, words):
  whole = row if not row else {'public_tests': columns(('1', '2'))} | row
  assert words in refusal(code_tasks.codecontests, whole)


# LiveCodeBench


def test_livecodebench_stdin_joins_public_and_private():
  public = json.dumps([stdin_case('1\n', '2\n')])
  for hidden in (
    private(stdin_case('3\n', 'é\n')),
    json.dumps([stdin_case('3\n', 'é\n')]),
  ):
    task = code_tasks.livecodebench(public, hidden, '{}')
    assert task['kind'] == 'stdin' and 'fn' not in task
    assert [t['expected'] for t in task['tests']] == ['2\n', 'é\n']


def test_livecodebench_calls_are_lines_of_json():
  task = code_tasks.livecodebench(
    json.dumps([call_case('[1, 2]\n"a"', '3')]),
    private(call_case('[]\n""\n', 'true')),
    '{"func_name": "solve"}',
  )
  assert calls(task) == (
    'Solution().solve',
    [([[1, 2], 'a'], 3), ([[], ''], True)],
  )


# Frames, and lengths of one, four and eight bytes, begin at these sizes.
@pytest.mark.parametrize('size', [0, 3, 255, 256, 65_535, 65_536, 200_000])
def test_a_pickled_text_is_read_whoever_wrote_it(size):
  text = ('é[' * size)[:size]
  for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
    python = io.BytesIO()
    pickle._Pickler(python, protocol).dump(text)
    for data in (pickle.dumps(text, protocol), python.getvalue()):
      pieces = (data[i : i + 3] for i in range(0, len(data), 3))
      assert ''.join(unpacking.unpickled(pieces)) == text
      assert ''.join(unpacking.unpickled([data])) == text


def test_a_pickle_of_anything_else_is_refused(tmp_path):
  touched = tmp_path / 'touched'
  values = [
    Touch(touched),
    ['[]'],
    b'[]',
    1,
    None,
    {'a': '[]'},
    ('[]', Touch(touched)),
  ]
  protocols = range(pickle.HIGHEST_PROTOCOL + 1)
  for value, protocol in itertools.product(values, protocols):
    hidden = packed(pickle.dumps(value, protocol))
    assert 'pickle' in refusal(code_tasks.livecodebench, '[]', hidden, '{}')
  assert not touched.exists()


@pytest.mark.parametrize(
  'data',
  [
    b'',
    b'.',
    b'\x80\x04.',
    pickle.dumps('[]', 0),
    pickle.dumps('[]')[:-1],
    pickle.dumps('[]') + b'.',
    pickle.dumps('[]')[:-1] + b'0' + pickle.dumps('[]')[2:],
    b'\x80\x04\x8d' + b'\xff' * 8 + b'[]\x94.',
    b'\x80\x04X' + b'\xff' * 4 + b'[]\x94.',
    b'\x80\x04\x8c\x02[]r\xff\xff\xff\xffr\xff\xff\xff\xff.',
    b'\x80\x04\x8c\x02\xff\xff\x94.',
    # Ends, reduced by a function that is looked up in the text itself.
    b'\x80\x04\x8c\x02[]\x94\x8c\x02os\x8c\x06system\x93\x8c\x02id\x85R.',
    b'\x80\x04(' + b'(' * 100_000,
  ],
)
def test_a_hostile_pickle_is_refused(data):
  words = refusal(code_tasks.livecodebench, '[]', packed(data), '{}')
  assert 'pickle' in words


def test_a_zip_bomb_is_not_unpacked(monkeypatch):
  monkeypatch.setattr(unpacking, '_PRIVATE_BYTES', 1000)
  text = private(stdin_case('1' * 100, '2'))
  assert code_tasks.livecodebench('[]', text, '{}')['tests']
  bomb = private(stdin_case('1' * 10_000_000, '2'))
  words = refusal(code_tasks.livecodebench, '[]', bomb, '{}')
  assert 'more than 1000 bytes' in words


@pytest.mark.parametrize(
  'public, hidden, metadata, words',
  [
    ('[]', '[]', '{}', 'testtypes are []'),
    ('{}', '[]', '{}', 'public_test_cases is not a list'),
    ('[1]', '[]', '{}', 'without input and output'),
    ('[{"input": "1"}]', '[]', '{}', 'without input and output'),
    (json.dumps([case('1', '2', testtype=[])]), '[]', '{}', 'bad testtype'),
    (json.dumps([case('1', '2')]), '[]', '{}', "testtypes are ['']"),
    (json.dumps([stdin_case(1, 2)]), '[]', '{}', 'not text'),
    (
      json.dumps([stdin_case('1', '2'), call_case('1', '2')]),
      '[]',
      '{}',
      'testtypes are',
    ),
    ('[]', '!', '{}', 'not base64 of zlib'),
    ('[]', 'é', '{}', 'not base64 of zlib'),
    ('[]', base64.b64encode(b'not zlib').decode(), '{}', 'base64 of zlib'),
    (
      '[]',
      packed(pickle.dumps('[' + ' ' * 9999))[:-12],
      '{}',
      'cut off',
    ),
    ('[]', packed(pickle.dumps('[' * 100_000)), '{}', 'is not JSON'),
    (json.dumps([call_case('1', '2')]), '[]', '{}', 'no func_name'),
    (json.dumps([call_case('1', '2')]), '[]', '[]', 'no func_name'),
    (json.dumps([call_case('1', '2')]), '[]', '{"func_name": 1}', 'func_name'),
    (json.dumps([call_case('1', '2')]), '[]', '{"func_name": "a-b"}', 'name'),
    (json.dumps([call_case('f()', '2')]), '[]', '{"func_name": "f"}', 'JSON'),
  ],
)
def test_livecodebench_refuses_in_one_line(public, hidden, metadata, words):
  message = refusal(code_tasks.livecodebench, public, hidden, metadata)
  assert words in message


# LeetCode and the AceReason toolkit


def test_leetcode_puts_named_values_in_the_order_of_the_parameters():
  cases = [
    case('nums = [3,3], target = 6', '[0, 1]'),
    case('target = -1, nums = []', 'None'),
    case('nums = [1.5, "a, b = 2", [True]]', "{'a': (1,)}"),
    case('[3], 4', 'true'),
  ]
  task = code_tasks.leetcode('Solution().twoSum', TWO_SUM, cases)
  assert calls(task) == (
    'Solution().twoSum',
    [
      ([[3, 3], 6], [0, 1]),
      ([[], -1], None),
      ([[1.5, 'a, b = 2', [True]]], {'a': [1]}),
      ([[3], 4], True),
    ],
  )


def test_a_header_may_span_lines_and_hold_colons():
  starter = (
    "def f(\n  a: Dict[str, int] = {'x': 1},\n  *, b: int = 2\n) -> int:\n"
  )
  task = code_tasks.toolkit(starter, [case("{'y': 2}", '3')])
  assert calls(task) == ('f', [([{'y': 2}], 3)])


@pytest.mark.parametrize(
  'text, words',
  [
    ('nums = [1], other = 2', 'not a parameter'),
    ('target = 6', 'an argument is missing'),
    ('[1], 2, 3', 'too many'),
    ('[1], nums = 2', 'given twice'),
    ('nums = [1], nums = [2]', 'given twice'),
    ('nums = [1]), f(target = 6', 'not arguments'),
    ('nums = [1]) + _(target = 6', 'not arguments'),
    ('nums = [1])(target = 6', 'not arguments'),
    ('nums = [1], **{"target": 6}', 'not a parameter'),
    ('*[[1], 6]', 'more than a literal'),
    ('x for x in y', 'more than a literal'),
    ('nums = [1] * 10**9', 'more than a literal'),
    ('nums = 9**9**9**9', 'more than a literal'),
    ('nums = (1, 2)', 'no tuple'),
    ('nums = {1, 2}', 'no set'),
    ('nums = {1: 2}', 'keys that are not text'),
    ('nums = {[]: 1}', 'more than a literal'),
    ('nums = b"x"', 'no bytes'),
    ('nums = 1j', 'no complex'),
    ('nums = ...', 'no ellipsis'),
    ('nums = 1e999', 'infinite'),
    ('nums = 0x' + 'f' * 9999, 'too long'),
    ('nums = ' + '[' * 65 + ']' * 65, 'nested more than 64'),
    ('nums = ' + '[' * 100_000, 'not Python source'),
    ('nums = ' + '-' * 100_000 + '1', 'not Python source'),
    ('nums = ' + '1+' * 100_000 + '1', 'Python source'),
    ('nums = ' + 'not ' * 100_000 + '1', 'not Python source'),
    ('nums = "\ud800"', 'not Python source'),
    ('nums = "\0"', 'not Python source'),
    ('nums = "' + 'x' * (1 << 20) + '"', 'too many'),
    (None, 'not text'),
  ],
)
def test_hostile_arguments_are_refused_in_one_line(text, words):
  cases = [case(text, '1')]
  message = refusal(code_tasks.leetcode, 'Solution().twoSum', TWO_SUM, cases)
  assert words in message


def test_nothing_in_arguments_or_results_runs(tmp_path):
  touched = tmp_path / 'touched'
  touch = CODE.format(path=str(touched))
  texts = [touch, f'[{touch}]', f'nums = {touch}', f'nums = f"{{{touch}}}"']
  for text in texts:
    for given, output in ((text, '1'), ('[1]', text)):
      cases = [case(given, output)]
      for convert, name in (
        (code_tasks.leetcode, 'Solution().twoSum'),
        (lambda _, *rest: code_tasks.toolkit(*rest), ''),
      ):
        refusal(convert, name, TWO_SUM, cases)
    refusal(code_tasks.asserts, f'assert f({text}) == 1')
    refusal(code_tasks.asserts, text)
  refusal(code_tasks.toolkit, f'def f(a={touch}):', [case('nums = 1', '2')])
  assert not touched.exists()


@pytest.mark.parametrize(
  'entry_point, starter_code, words',
  [
    ('Solution().reverse', NODES, 'of nodes'),
    ('Solution().rotate', IN_PLACE, 'changes its arguments'),
    ('Solution().other', TWO_SUM, 'does not define other'),
    ('Solution().twoSum', TWO_SUM * 2, 'does not define twoSum once'),
    ('Solution().twoSum', 'def twoSum(self, nums', 'no header'),
    ('Solution().twoSum', 'def twoSum(' + '(' * 9999, 'no header'),
    ('Solution().twoSum', 'def twoSum(' + ':' * 9999, 'no header'),
    ('Solution().a.b', TWO_SUM, 'entry_point'),
    (None, TWO_SUM, 'entry_point is not text'),
    ('f', 'def f(nums=' + '-' * 900 + '1) -> None:', 'its arguments'),
    ('eval', TWO_SUM, 'does not define eval'),
    ('Solution().twoSum', None, 'not text'),
  ],
)
def test_leetcode_refuses_what_json_cannot_carry(
  entry_point, starter_code, words
):
  cases = [case('nums = [1]', '1')]
  message = refusal(code_tasks.leetcode, entry_point, starter_code, cases)
  assert words in message


def test_toolkit_takes_the_name_from_the_starter_code():
  cases = [case('nums = [1, 2], target = 3', '[0, 1]')]
  in_class = code_tasks.toolkit(TWO_SUM, cases)
  assert calls(in_class) == ('Solution().twoSum', [([[1, 2], 3], [0, 1])])
  starter = (
    'from typing import List\n\n# def g(x):\ndef f(nums, target):\n  pass\n'
  )
  forms = [
    'nums = [1, 2], target = 3',
    'f(nums = [1, 2], target = 3)',
    '[1, 2], 3',
    '[1, 2]\n3\n',
  ]
  for form in forms:
    task = code_tasks.toolkit(starter, [case(form, "('a', None)")])
    assert calls(task) == ('f', [([[1, 2], 3], ['a', None])])


def test_toolkit_without_starter_code_reads_stdin():
  task = code_tasks.toolkit('', [case('1 2\n', '3\n')])
  assert accepted(task) == {
    'kind': 'stdin',
    'tests': [{'stdin': '1 2\n', 'expected': '3\n'}],
  }


@pytest.mark.parametrize(
  'starter_code, words',
  [
    ('x = 1', 'defines 0 functions'),
    ('def f(a):\n  pass\ndef g(a):\n  pass', 'defines 2 functions'),
    ('class Stack:\n  def f(self, a):', 'another class'),
    (NODES, 'of nodes'),
    (None, 'not text'),
  ],
)
def test_toolkit_refuses_in_one_line(starter_code, words):
  message = refusal(code_tasks.toolkit, starter_code, [case('1', '2')])
  assert words in message


# Asserts


def test_mbpp_asserts_are_tests():
  source = '\n'.join(
    [
      'import math',
      'assert add(1, [2]) == 3',
      "assert add('a') == (1, {2: 'b'}), 'a message'",
      'assert add() is None',
      'assert add((1, 2)) == 3',
      'assert set(add(1)) == {1}',
      'assert math.isclose(add(1), 2)',
      'assert add(x=1) == 2',
      'assert add(1) == 2 == 2',
      'assert add(*[1]) == 2',
      'assert add(1) == y',
      'assert not add(1)',
    ]
  )
  task, left = code_tasks.asserts(source)
  assert calls(task) == (
    'add',
    [([1, [2]], 3), (['a'], [1, {'2': 'b'}]), ([], None)],
  )
  assert left == 8


def test_humaneval_asserts_are_of_check():
  source = """
METADATA = {'author': 'x'}

def check(candidate):
    assert True, "not a test"
    assert candidate([1.0, 2.0], 0.5) == True
    assert abs(candidate([1.0], 0.5) - 0.3) < 1e-6
    for i in range(100):
        assert candidate([], i) == False
    def inner():
        assert candidate([], 0.5) == False
"""
  task, left = code_tasks.asserts(source, 'close')
  assert calls(task) == ('close', [([[1.0, 2.0], 0.5], True)])
  assert left == 3


@pytest.mark.parametrize(
  'source, words',
  [
    ('', 'none of 0 asserts'),
    ('assert True', 'none of 0 asserts'),
    ('assert f(x) == 1', 'none of 1 asserts'),
    ('def other():\n  assert f(1) == 1', 'none of 1 asserts'),
    ('assert f(1) == 1\nassert g(1) == 1', "call ['f', 'g']"),
    ('assert (', 'not Python source'),
    ('assert f(1) == 1\n' * 100_000, 'too many'),
    ('assert f(' + '[' * 100_000, 'not Python source'),
    ('assert f(1) == 1' + ' + 1' * 100_000, 'not Python source'),
    ('assert f(1) == ' + 'lambda: ' * 10_000 + '1', 'not Python source'),
    (None, 'not text'),
  ],
)
def test_asserts_refuses_in_one_line(source, words):
  assert words in refusal(code_tasks.asserts, source)


def test_asserts_must_call_the_entry_point():
  words = refusal(code_tasks.asserts, 'assert f(1) == 1', 'g')
  assert "call ['f']" in words


# The error that a statement allows

ALLOWED = [
  # Codeforces; its formulas, and what CodeContests left of them.
  (
    'An answer is correct if its absolute or relative error does not exceed '
    '$$$10^{-6}$$$.\n\nFormally, let yours be $$$a$$$, the jury\'s $$$b$$$. '
    'It is accepted if and only if $$$\\frac{\\left|a - b\\right|}{\\max(1, '
    '\\left|b\\right|)} \\le 10^{-6}$$$.',
    1e-6,
    'either',
  ),
  ("If its absolute or relative error doesn't exceed 10 - 9, accepted.", 1e-9),
  ('Relative or absolute errors of at most 10^{ - 4} are accepted.', 1e-4),
  ('Accepted if $|a-b|/\\max(1,|b|) \\leq 10^{-5}$', 1e-5),
  ('It is judged as correct if min(|x-y|, |x-y|/|y|) <= 1e-7.', 1e-7),
  # AtCoder, Google, Kattis.
  ('Correct when the absolute or relative error is at most 10^{-6}.', 1e-6),
  ('An absolute error or relative error of at most 10^{-9} is allowed.', 1e-9),
  ('correct if it is within an absolute or relative error of 10-6 of it', 1e-6),
  ('Answers may have a relative or absolute error of 5*10^-3.', 5e-3),
  ('Accepted if within `1e-4` absolute or relative error of ours', 1e-4),
  ('answers with absolute or relative error below 10⁻⁸ are fine', 1e-8),
  # Aizu.
  ('The output may contain an error of 10\N{MINUS SIGN}6 or less.', 1e-6,
   'absolute'),
  (
    '<p>It should not contain an error greater than&nbsp;<var>10<sup>-8</sup>'
    '</var>.</p>',
    1e-8,
    'absolute',
  ),
  ('At least 0.01 long.  No error greater than 0.00001 in the output.', 1e-5,
   'absolute'),
  ('Absolute errors of the answer of 1.0 \\times 10^{-4} are ok.', 1e-4,
   'absolute'),
  # LeetCode.
  ('Answers within <code>10<sup>-5</sup></code> of the actual value will be '
   'accepted.', 1e-5, 'absolute'),
  ('Answers within 10-5 of the actual answer will be accepted.', 1e-5,
   'absolute'),
  ('Answers within `10^-5` of the actual value will be accepted.', 1e-5,
   'absolute'),
  # Others.
  ('The answer may differ from the correct one by at most 0.01.', 1e-2,
   'absolute'),
  ('Print it with an accuracy of 1E-3.', 1e-3, 'absolute'),
  ('The answer is checked with a tolerance of 1e-12', 1e-12, 'absolute'),
  ('Print it. The relative error must be at most 1e-9, answers say.', 1e-9,
   'relative'),
  ('Accepted if |a-b|/|b| < 10^{-6}', 1e-6, 'relative'),
  ('Your output must be correct up to 10^-6 (absolute or relative).', 1e-6),
  ('Correct to within 0.001, the judge says.', 1e-3, 'absolute'),
  ('An error margin of ±0.01 will be tolerated.', 1e-2,
   'absolute'),
  ('Rounding errors up to 1e-5 are tolerated.', 1e-5, 'absolute'),
  ('It is guaranteed that answers with an error of 1e-4 are accepted.', 1e-4,
   'absolute'),
  ('The checker will accept answers within 1e-6.', 1e-6, 'absolute'),
  ('Answers may be off by 10^(-4).', 1e-4, 'absolute'),
  ('The answer must be precise to 10**-5.', 1e-5, 'absolute'),
  ('Answers that deviate by less than 10<SUP>-6</SUP> from ours are accepted.',
   1e-6, 'absolute'),
  ('Errors of at most 10^{-7} will be ignored.', 1e-7, 'absolute'),
  ('Correct if $\\frac{|p-q|}{q} \\le 10^{-9}$', 1e-9, 'relative'),
  # The smaller of two.
  ('The absolute error of the answer may be 0.01. The relative error of the '
   'answer may be 0.001.', 1e-3, 'relative'),
]  # fmt: skip


@pytest.mark.parametrize('allowed', ALLOWED, ids=lambda a: ascii(a[0][-40:]))
def test_the_error_that_a_statement_allows(allowed):
  statement, tol, kind = (*allowed, 'either')[:3]
  expected = {'float_tol': pytest.approx(tol), 'float_error': kind}
  assert tolerance.allowed_error(statement) == expected
  story = 'Alice has 0.5 apples and moves within 0.1 metres.'
  longer = f'{story}\n\nOutput\n\n{statement}\n\nExample\n\n0.25 0.001\n'
  assert tolerance.allowed_error(longer) == expected


@pytest.mark.parametrize(
  'statement',
  [
    '',
    'Print the answer.',
    'Print the answer modulo 10^9 + 7.',
    'Print the answer rounded to 2 digits after the decimal point.',
    'Print at least 6 digits after the point.',
    'Any error in the output is a wrong answer.',
    'The sensor has an error of 0.1 degrees.',
    'The robot stays within 0.5 of the wall.',
    'Print how many pairs differ by at most 10^5.',
    'The probability of an error is 0.1; print the expected number of errors.',
    'Print the error rate, at least 0.01.',
    'Numbers in the output are 10 - 6 or 1e-3.',
    'The absolute value of each answer is at least 0.001.',
    'Print |a - b|.',
    'The relative error of the answer must be small.',
    'The answer is correct within 3 - 5 days.',
    'The error must not exceed 1 in the output.',
    # Promises of the input, and what nobody may do.
    'It is guaranteed that the absolute or relative difference of the answer '
    'to an integer is at least 10^{-6}.',
    'Tests guarantee that an error of 1e-6 does not change the answer.',
    'Guaranteed: no result is within 10^-6 of the boundary, so that precision '
    'is no problem.',
    'Assume that the answer does not change if numbers differ by 1e-9.',
    'An error of 0.1% is allowed in the answer.',
    'Print the cost if the lengths differ by at most 0.5, else the other one.',
    'No absolute error is allowed: print multiples of 0.01.',
    'No error in the output is allowed; the step is 0.001.',
  ],
)
def test_no_error_is_allowed_that_no_statement_allows(statement):
  assert tolerance.allowed_error(statement) == {}


@pytest.mark.parametrize(
  'text',
  ['|error answer ' * 40_000, '10 ' * 100_000, 'error answer ' + '|a' * 60_000,
   'guarantee answer error ' * 40_000, 'no error ' * 40_000,
   '<a ' * 100_000, '1' * 300_000, '.0' * 100_000, '. ' * 100_000],
)  # fmt: skip
def test_a_hostile_statement_is_read_all_the_same(text):
  assert tolerance.allowed_error(text) == {}


def test_a_statement_that_is_no_text_is_refused():
  for statement in (None, 3, ['error 1e-6 in answers']):
    assert 'not text' in refusal(tolerance.allowed_error, statement)


ERROR = 'An absolute or relative error of 1e-4 is allowed in the answer.'
EITHER = {'float_tol': 1e-4, 'float_error': 'either'}
LEETCODE = {'float_tol': 1e-5, 'float_error': 'absolute'}


def error_of(task):
  return {k: v for k, v in accepted(task).items() if k.startswith('float')}


def test_converters_read_statements():
  text = apps_json(['1\n'], ['0.5\n'])
  assert error_of(code_tasks.apps(text)) == {}
  assert error_of(code_tasks.apps(text, statement=ERROR)) == EITHER
  row = {'public_tests': columns(('1', '0.5'))}
  assert error_of(code_tasks.codecontests(row)) == {}
  row['description'] = ERROR
  assert error_of(code_tasks.codecontests(row)) == EITHER
  cases = json.dumps([stdin_case('1', '0.5')])
  assert error_of(code_tasks.livecodebench(cases, '[]', '{}')) == {}
  task = code_tasks.livecodebench(cases, '[]', '{}', ERROR)
  assert error_of(task) == EITHER
  assert error_of(code_tasks.toolkit('', [case('1', '0.5')])) == {}
  task = code_tasks.toolkit('', [case('1', '0.5')], ERROR)
  assert error_of(task) == EITHER


def test_leetcode_allows_an_error_where_results_are_floats():
  starter = 'class Solution:\n  def f(self, n: int) -> float:\n    '
  convert = lambda *outputs, **more: error_of(
    code_tasks.leetcode(
      'Solution().f', starter, [case('n = 1', o) for o in outputs], **more
    )
  )
  assert convert('1', '2') == {}
  assert convert('1', '2.50000') == LEETCODE
  assert convert('[[0.5], []]') == LEETCODE
  assert convert('{"a": 1.5}') == LEETCODE
  assert convert('"0.5"', 'true') == {}
  assert convert('0.5', statement=ERROR) == EITHER
  # Elsewhere, == decides.
  text = apps_json([[1], [2]], [[0.5], [1.5]], fn_name='f')
  assert error_of(code_tasks.apps(text)) == {}
  assert error_of(code_tasks.apps(text, starter)) == LEETCODE
  assert error_of(code_tasks.asserts('assert f(1) == 0.5')[0]) == {}


# open-r1/codeforces


def problem(**fields):
  row = {
    'official_tests': [case('1\n', '0.5\n'), case('2\n', '1\n')],
    'time_limit': 2.0,
    'memory_limit': 256.0,
    'input_mode': 'stdio',
    'interaction_format': None,
    'generated_checker': None,
    'description': 'Halve it.',
    'output_format': 'Print a half.',
    'note': None,
  }
  return row | fields


def test_codeforces():
  task = accepted(code_tasks.codeforces(problem()))
  assert [t['stdin'] for t in task['tests']] == ['1\n', '2\n']
  assert task['time_limit_seconds'] == 6.0
  assert 'memory_bytes' not in task and 'float_tol' not in task
  task = accepted(code_tasks.codeforces(problem(memory_limit=2048)))
  assert task['memory_bytes'] == 2 << 30
  for field in ('description', 'output_format', 'note'):
    row = problem(**{field: ERROR}, generated_checker='import sys')
    assert error_of(code_tasks.codeforces(row)) == EITHER


@pytest.mark.parametrize(
  'fields, words',
  [
    ({'input_mode': 'file'}, 'not stdin'),
    ({'interaction_format': 'Ask.'}, 'interactive'),
    ({'generated_checker': 'import sys'}, 'several right outputs'),
    ({'official_tests': None}, 'official_tests is not a list'),
    ({'official_tests': []}, 'no tests'),
    ({'official_tests': [{'input': '1'}]}, 'without input and output'),
    ({'time_limit': -1}, 'no time'),
    ({'memory_limit': '256'}, 'no size'),
    ({'memory_limit': 1e30}, 'no size'),
    ({'memory_limit': math.nan}, 'no size'),
  ],
)
def test_codeforces_refuses_in_one_line(fields, words):
  assert words in refusal(code_tasks.codeforces, problem(**fields))
