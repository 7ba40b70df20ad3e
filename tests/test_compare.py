"""Comparisons of results by hand, what is refused, and what is told."""

import copy
import itertools
import json
import math

import evaluated
import hypothesis
import pytest
from hypothesis import strategies as st

from acereason_jax.evaluation import compare, compare_table, reading

A = {'aime24': dict(p=0, q=4, r=2, s=0), 'sums': dict(x=1, y=3)}
B = {'aime24': dict(p=4, q=4, r=3, s=1), 'sums': dict(x=2, y=3)}


def both(**kwargs):
  return evaluated.results(A, **kwargs), evaluated.results(B, **kwargs)


def compared(a, b, **kwargs):
  reading.check(a, 'A')
  reading.check(b, 'B')
  found = compare.compare(a, b, **kwargs)
  json.dumps(found, allow_nan=False)
  for line in compare_table.told(found):
    assert evaluated.columns(line) <= 80 and line.isprintable(), line
  return found


def head(found, name='aime24'):
  each = found['benchmarks'][name]
  return each['judges'][each['headline']]


def told(found):
  return ' '.join(' '.join(compare_table.told(found)).split())


def refused(a, b, match, **kwargs):
  with pytest.raises(ValueError) as e:
    compare.compare(a, b, **kwargs)
  assert '\n' not in str(e.value) and match in str(e.value), str(e.value)


def test_a_comparison_by_hand():
  one = head(compared(*both()))
  d = [1, 0, 0.25, 0.25]
  assert one['difference'] == pytest.approx(0.375)
  assert one['a']['avg'] == pytest.approx(0.375)
  assert one['b']['avg'] == pytest.approx(0.75)
  # r in A: .25 / 3; r and s in B: .1875 / 3 each.
  error = math.sqrt(0.25 / 3 + 2 * 0.1875 / 3) / 4
  assert one['rerun_error'] == pytest.approx(error)
  spread = math.sqrt(sum((x - 0.375) ** 2 for x in d) / 3)
  assert one['problems_error'] == pytest.approx(spread / 2)
  signs = itertools.product((1, -1), repeat=4)
  flipped = [abs(sum(s * x for s, x in zip(row, d))) for row in signs]
  assert one['p'] == sum(x >= 1.5 for x in flipped) / 16 == 0.25
  # t(.975, 3) + t(.8, 3).
  least = (3.182446 + 0.978472) * spread / 2
  assert one['detectable'] == pytest.approx(least, rel=1e-6)
  assert one['problems'] == 4 and one['apart'] == dict(a=0, b=0)


def test_flips_and_newly_solved_by_hand():
  one = head(compared(*both()))
  # 0 of 4 and 4 of 4: 1 of the C(8, 4) = 70 tables either way.
  flip = dict(id='p', a=[0, 4], b=[4, 4], p=pytest.approx(2 / 70))
  assert one['flips']['up'] == [flip] and one['flips']['down'] == []
  # Only a table of 4 right rollouts can reach 5%: p has one, and so has no
  # other problem (q has 8, r 5, s 1).
  assert one['flips']['expected_up'] == pytest.approx(1 / 70)
  newly = one['newly_solved']
  assert [x['id'] for x in newly['problems']] == ['p', 's']
  assert [x['p'] for x in newly['problems']] == pytest.approx([1 / 70, 1 / 2])
  assert [x['sure'] for x in newly['problems']] == [True, False]
  # r has 5 right rollouts, more than one side can hold.
  assert newly['count'] == 2
  assert newly['expected'] == pytest.approx(1 / 70 + 1 / 2)
  assert newly['p'] == pytest.approx(1 / 140)
  assert one['newly_lost']['count'] == 0 and one['newly_lost']['p'] == 1
  # 1 - .05^(1/4).
  assert one['never'] == dict(n=4, bound=pytest.approx(0.527129, abs=1e-6))


def test_problems_are_paired_by_their_ids():
  a, b = both()
  b['benchmarks']['aime24']['strict']['by_problem'].reverse()
  expected = head(compared(*both()))
  assert head(compared(a, b)) == expected


def test_lost_is_solved_the_other_way_round():
  a, b = both()
  there, back = head(compared(a, b)), head(compared(b, a))
  assert back['difference'] == -there['difference']
  assert back['p'] == there['p']
  for one, other in (('newly_lost', 'newly_solved'), ('flips', 'flips')):
    assert ids(back[one]) == ids(there[other])
  assert back['newly_lost']['expected'] == there['newly_solved']['expected']
  assert back['flips']['down'][0]['a'] == there['flips']['up'][0]['b']


def ids(part):
  listed = part['problems'] if 'problems' in part else part['up'] + part['down']
  return [x['id'] for x in listed]


def test_pass_at_k_of_both_with_bands():
  points = head(compared(*both()))['pass_at_k']
  assert [p['k'] for p in points] == [1, 2, 4]
  # In A, r has 2 of 4: 1 - C(2, 2) / C(4, 2) = 5/6, and q is 1.
  assert points[1]['a']['value'] == pytest.approx((1 + 5 / 6) / 4)
  assert points[1]['b']['value'] == pytest.approx((1 + 1 + 1 + 1 / 2) / 4)
  assert (
    points[0]['a']['rerun_error'] == head(compared(*both()))['a']['rerun_error']
  )
  assert points[2]['b']['rerun_error'] is None
  assert points[2]['b']['problems_error'] is not None


def test_a_k_above_the_rollouts_is_left_out():
  a, b = both()
  for each in (a, b):
    points = each['benchmarks']['aime24']['strict']['pass_at_k']
    points.append(dict(points[-1], k=9))
  assert [p['k'] for p in head(compared(a, b))['pass_at_k']] == [1, 2, 4]
  b['benchmarks']['aime24']['strict']['pass_at_k'] = []
  found = compared(a, b, only=('aime24',))
  assert head(found)['pass_at_k'] == [] and 'pass@k' not in told(found)


def test_holm_is_over_the_headline_judges():
  a, b = both(judges=('strict', 'toolkit'))
  found = compared(a, b)
  ps = [head(found, name)['p'] for name in A]
  assert ps == [0.25, 1.0]
  assert [head(found, name)['p_holm'] for name in A] == [0.5, 1.0]
  assert found['benchmarks']['aime24']['headline'] == 'strict'
  other = found['benchmarks']['aime24']['judges']['toolkit']
  assert other['p_holm'] is None and other['p'] == 0.25
  assert 'adjusted for all 2 benchmarks' in told(found)
  one = compared(a, b, only=('aime24',))
  assert head(one)['p_holm'] == 0.25 and 'Holm' not in told(one)


def test_the_headline_is_the_first_judge_of_both():
  a, b = both(judges=('strict', 'toolkit'))
  del b['benchmarks']['aime24']['strict']
  found = compared(a, b)
  assert found['benchmarks']['aime24']['headline'] == 'toolkit'
  del b['benchmarks']['aime24']['toolkit']
  refused(a, b, 'aime24: A was judged by strict, toolkit, B by none')


def test_problems_that_only_one_has_are_counted():
  a, b = both()
  b['data']['aime24']['files'] = a['data']['aime24']['files']
  more = evaluated.results({'aime24': dict(p=4, q=4, z=4)})
  found = compared(evaluated.results({'aime24': A['aime24']}), more)
  one = head(found)
  assert one['problems'] == 2 and one['apart'] == dict(a=2, b=1)
  assert one['a']['avg'] == 0.5 and one['b']['avg'] == 1
  assert 'for 2 problems; 2 only in A, 1 only in B' in told(found)


def test_different_numbers_of_rollouts():
  a = evaluated.results({'aime24': dict(p=0, q=8)}, n=64)
  b = evaluated.results({'aime24': dict(p=1, q=1)}, n=8)
  found = compared(a, b)
  one = head(found)
  # C(8, 1) / C(72, 1): eight of 72 rollouts are in B.
  assert one['newly_solved']['expected'] == pytest.approx(8 / 72)
  assert one['never']['n'] == 64
  assert [p['k'] for p in one['pass_at_k']] == [1, 2, 4, 8]
  assert '2x64/8' in told(found)


DIFFERENCES = {
  'sampling.temperature: 0.6 in A, 1.0 in B': lambda b: b['sampling'].update(
    temperature=1.0
  ),
  'aime24.max_tokens: 512 in A, 32768 in B': lambda b: b['data'][
    'aime24'
  ].update(max_tokens=32768),
  'aime24.prompts: 1111': lambda b: b['data']['aime24'].update(
    prompts='3' * 64
  ),
  'aime24.answers: 6666': lambda b: b['data']['aime24'].update(
    answers='7' * 64
  ),
  'aime24.files: {': lambda b: b['data']['aime24']['files'].update(
    {'aime24.jsonl': '4' * 64}
  ),
  'judge aime24.strict.digest: 2222': lambda b: b['judges'][
    'aime24.strict'
  ].update(digest='5' * 64),
  'judge aime24.strict.fn: judge:verify in A, other:verify in B': (
    lambda b: b['judges']['aime24.strict'].update(fn='other:verify')
  ),
}


@pytest.mark.parametrize('match', DIFFERENCES)
def test_what_was_not_evaluated_alike_is_refused(match):
  a, b = both()
  DIFFERENCES[match](b)
  refused(a, b, match)
  refused(b, a, match.split(':')[0])
  found = compared(a, b, anyway=True)
  assert len(found['differ']) == 1 and match in found['differ'][0]
  assert 'NOT EVALUATED ALIKE' in told(found)
  assert head(found) == head(compared(*both()))


def test_all_differences_are_named_at_once():
  a, b = both()
  for change in DIFFERENCES.values():
    change(b)
  for match in DIFFERENCES:
    refused(a, b, match)


def test_what_may_differ():
  a, b = both()
  b['sampling']['seed'] = 7
  # A judge or a benchmark that is not compared.
  b['judges']['aime24.other'] = dict(fn='x:y')
  b['data']['sums']['max_tokens'] = 9
  found = compared(a, b, only=('aime24',))
  assert found['differ'] == [] and 'ALIKE' not in told(found)
  b['engine']['dtype'] = 'bfloat16'
  found = compared(a, b, only=('aime24',))
  line = 'engine.dtype: float32 in A, bfloat16 in B'
  assert found['engines'] == [line] and line in told(found)


def test_nothing_in_common():
  a = evaluated.results({'aime24': dict(a=1)})
  refused(
    a,
    evaluated.results({'sums': dict(a=1)}),
    'no benchmark in common: A has aime24; B has sums',
  )
  refused(
    a,
    evaluated.results({'aime24': {'b\x1b\n': 1}}),
    r'aime24: A and B share no ids: A has a; B has b\x1b\n; give results',
  )
  refused(*both(), '--only=lcb: not in both', only=('lcb',))


def test_no_verdict_in_common():
  a = evaluated.results({'aime24': dict(a=1)})
  b = copy.deepcopy(a)
  entry = b['benchmarks']['aime24']['strict']
  entry['by_problem'][0].update(n=0, right=0, failed=4)
  entry.update(judged=0, failed=4, problems=0, avg=None, k=None)
  refused(a, b, 'aime24: no problem has a verdict in both A and B')


def test_benchmarks_that_only_one_has():
  a, b = both()
  del b['benchmarks']['sums']
  found = compared(a, b)
  assert found['left_out'] == dict(a=['sums'], b=[])
  assert 'only A has sums' in told(found)


def test_what_is_told():
  text = told(compared(*both()))
  for part in (
    '4x4 37.5 75.0 +37.5',
    'few: k is over half of the rollouts',
    'changed (Fisher p <= .05 each): 1 up, 0.0 expected by luck; 0 down, 0.0',
    'up: p 0/4->4/4',
    'newly solved (never in A): 2, 0.5 expected by luck, p .0071; 1 clear',
    'clear: p 0/4->4/4',
    'newly lost (never in B): 0, 0.5 expected by luck, p 1.00',
    'never in A: 0 of 4 fits a solve rate of up to 52.7% (95%)',
    '4 few 50.0 - +-28.9 100.0 - -',
    '; truncated 0.0% -> 0.0%',
  ):
    assert part in text, part


@pytest.mark.parametrize('n, shows', [(1, False), (3, False), (4, True)])
def test_few_rollouts_cannot_show_a_change(n, shows):
  """0 of 3 and 3 of 3 have p = 2 / C(6, 3) = .1; 4 have 2 / C(8, 4) = .029."""
  a = evaluated.results({'aime24': dict(a=0, b=0)}, n=n)
  b = evaluated.results({'aime24': dict(a=n, b=0)}, n=n)
  text = told(compared(a, b))
  line = f'each): cannot show with {n} rollouts a problem'
  assert (line in text) is not shows
  assert ('1 up' in text) is shows


def answer(a, b, lines=2, **kwargs):
  found = compare_table.told(compared(a, b, **kwargs))
  assert found[lines] == '', found
  return found[:lines]


def test_the_first_two_lines_are_the_answer():
  ids = [f'p{i}' for i in range(30)]
  low = evaluated.results({'aime24': dict.fromkeys(ids, 4)}, n=8)
  high = evaluated.results({'aime24': dict.fromkeys(ids, 7)}, n=8)
  better = 'B is better on aime24: +37.5 points, 50.0% -> 87.5%.'
  rarely = 'Luck alone rarely gives a difference as large: p 1e-05.'
  assert answer(low, high) == [better, rarely]
  assert answer(high, low)[0] == (
    'B is worse on aime24: -37.5 points, 87.5% -> 50.0%.'
  )
  assert answer(low, low) == [
    'Unclear on aime24: 0.0 points, 50.0% -> 50.0%.',
    'It could be luck: p 1.00.',
  ]
  mixed = {id: 3 + 2 * (i % 2) + (i == 0) for i, id in enumerate(ids)}
  mixed = evaluated.results({'aime24': mixed}, n=8)
  first, second = answer(low, mixed)
  assert first == 'Unclear on aime24: +0.4 points, 50.0% -> 50.4%.'
  # d is 1/8 (15), -1/8 (14) and 0; t(.975, 29) + t(.8, 29) = 2.899.
  assert second.startswith('It could be luck: p ') and second.endswith(
    'Clear would be some 6.6 points or more.'
  )


def test_what_differs_is_told_in_words():
  a, b = both()
  for each, end in ((a, '<user>\x1b1?'), (b, '<think>\n')):
    data = each['data']['aime24']
    data.update(prompts=end, first_prompt=dict(ends=end))
  b['sampling']['temperature'] = None
  refused(a, b, 'sampling.temperature: 0.6 in A, unknown in B')
  ends = r"the first ends '<user>\x1b1?' in A, '<think>\n' in B"
  refused(a, b, f'aime24: the prompts differ: {ends}')
  b['data']['aime24']['first_prompt']['ends'] = 7
  refused(a, b, 'aime24.prompts: <user>')


def test_few_problems_cannot_tell():
  a = evaluated.results({'aime24': dict.fromkeys('abcde', 0)}, n=64)
  b = evaluated.results({'aime24': dict.fromkeys('abcde', 64)}, n=64)
  assert answer(a, b) == [
    'Unclear on aime24: +100.0 points, 0.0% -> 100.0%.',
    'Fewer than 6 problems cannot tell it from luck: p .062.',
  ]


def test_the_answer_for_several_benchmarks():
  ids = [f'p{i}' for i in range(20)]
  every = lambda **right: evaluated.results(
    {name: dict.fromkeys(ids, count) for name, count in right.items()}, n=8
  )
  a, b = every(one=1, two=5, three=3), every(one=4, two=1, three=3)
  assert answer(a, b, 4) == [
    'B is better on 1 of 3 benchmarks, worse on 1; 1 could be luck.',
    'Better: one +37.5',
    'Worse: two -50.0',
    'Could be luck (p > .05 after Holm): three 0.0',
  ]
  b['benchmarks']['one']['strict']['marked'] = True
  b['sampling']['temperature'] = 1.0
  lines = answer(a, b, 5, anyway=True)
  assert lines[0].startswith('Not evaluated alike, see below. B is better')
  assert lines[2] == 'Better: one +37.5 (too many judgements failed)'


def test_truncation_is_that_of_the_common_problems():
  a, b = both()
  for each in (a, b):
    rows = each['benchmarks']['aime24']['strict']['by_problem']
    rows[0]['truncated'] = 4
  rows = b['benchmarks']['aime24']['strict']['by_problem']
  assert head(compared(a, b))['b']['truncated'] == 1 / 4
  entry = b['benchmarks']['aime24']['strict']
  entry['by_problem'] = rows[1:]
  entry.update(judged=12, problems=3, avg=2 / 3)
  assert head(compared(a, b))['a']['truncated'] == 0


def test_a_marked_average_is_marked():
  a, b = both()
  b['benchmarks']['aime24']['strict']['marked'] = True
  text = told(compared(a, b))
  assert '37.5 75.0! +37.5' in text
  assert 'aime24 strict: ! too many judgements failed' in text


def test_hundreds_of_problems_stay_a_few_lines():
  right = {f'problem-{i}': 0 for i in range(300)}
  a = evaluated.results({'aime24': right}, n=8)
  b = evaluated.results({'aime24': dict.fromkeys(right, 8)}, n=8)
  lines = compare_table.told(compared(a, b))
  assert len(lines) < 40
  assert sum('more' in line for line in lines) == 2
  assert 'newly solved (never in A): 300, 0.0 expected by luck, p <1e-9' in (
    ' '.join(' '.join(lines).split())
  )


@hypothesis.given(
  ids=st.lists(
    st.text(min_size=1, max_size=90), min_size=1, max_size=12, unique=True
  ),
  name=st.text(max_size=300),
  seed=st.integers(0, 99),
)
def test_hostile_ids_and_names_stay_on_lines_of_eighty(ids, name, seed):
  a = evaluated.results({'aime24': dict.fromkeys(ids, 0)}, name=name)
  b = evaluated.results({'aime24': dict.fromkeys(ids, 4)}, name=name, seed=seed)
  b['engine']['device'] = name
  compared(a, b)


# --- reading ----------------------------------------------------------------


def test_results_are_read_from_a_folder_or_a_file(tmp_path):
  a, _ = both()
  (tmp_path / 'results.json').write_text(json.dumps(a))
  assert reading.read(tmp_path) == a
  assert reading.read(tmp_path / 'results.json') == a


def damaged(change):
  a = evaluated.results(A)
  change(a, a['benchmarks']['aime24']['strict'])
  return a


DAMAGES = {
  'schema is 2, expected 1; read it with the version that wrote it': (
    lambda a, e: a.update(schema=2)
  ),
  'schema is True': lambda a, e: a.update(schema=True),
  'model.name is None, expected a text': lambda a, e: a['model'].update(
    name=None
  ),
  'data.aime24 is None, expected an object': lambda a, e: a['data'].pop(
    'aime24'
  ),
  'rollouts.sums is None': lambda a, e: a['rollouts'].pop('sums'),
  'benchmarks is [], expected an object': lambda a, e: a.update(benchmarks=[]),
  'expected a name of at most 40': lambda a, e: a['benchmarks'].update(
    {'../../etc': {}}
  ),
  'strict.avg is 1.5, expected a number from 0 to 1': lambda a, e: e.update(
    avg=1.5
  ),
  "strict.avg is '0.4'": lambda a, e: e.update(avg='0.4'),
  'strict.avg is 0.9, expected 0.375 as by_problem': lambda a, e: e.update(
    avg=0.9
  ),
  'strict.judged is 17, expected 16 as by_problem': lambda a, e: e.update(
    judged=17
  ),
  'strict.k is 3, expected 4.0 as by_problem': lambda a, e: e.update(k=3),
  'strict.k is None': lambda a, e: e.update(k=None),
  'by_problem[1].right is 5, expected at most n, 4': (
    lambda a, e: e['by_problem'][1].update(right=5)
  ),
  'by_problem[0].n is -1': lambda a, e: e['by_problem'][0].update(n=-1),
  'by_problem[0].failed is False': (
    lambda a, e: e['by_problem'][0].update(failed=False)
  ),
  'by_problem[0].n is 4.0': lambda a, e: e['by_problem'][0].update(n=4.0),
  "by_problem[3].id is 'p', expected ids that differ": (
    lambda a, e: e['by_problem'][3].update(id='p')
  ),
  'pass_at_k[0].k is 0': lambda a, e: e['pass_at_k'][0].update(k=0),
  'strict.marked is 1': lambda a, e: e.update(marked=1),
  'strict.lengths.right.mean is -3': lambda a, e: e['lengths']['right'].update(
    mean=-3
  ),
  'strict.majority is {}': lambda a, e: e.update(majority={}),
  "cost.tokens is 'x'": lambda a, e: a['cost'].update(tokens='x'),
}


@pytest.mark.parametrize('match', DAMAGES)
def test_damaged_results_are_one_line(tmp_path, match):
  (tmp_path / 'results.json').write_text(json.dumps(damaged(DAMAGES[match])))
  with pytest.raises(ValueError) as e:
    reading.read(tmp_path)
  text = str(e.value)
  assert text.startswith(f'{tmp_path}/results.json: ') and match in text, text
  assert text.isprintable() and len(text) < 600


@pytest.mark.parametrize(
  'content, match',
  [
    (b'', 'not one JSON object'),
    (b'{"schema": 1', 'not one JSON object'),
    (b'[]', 'the file is [], expected an object'),
    (b'{"schema": NaN}', 'NaN is no JSON'),
    (b'{"schema": 1, "schema": 1}', 'a key stands twice'),
    (b'[' * 100_000, 'nested too deep'),
    (b'\xff\xfe', 'not one JSON object'),
    (b'{"schema": 1e999}', 'schema is inf'),
    (b'1' * 5000, 'not one JSON object'),
  ],
)
def test_what_is_no_results(tmp_path, content, match):
  (tmp_path / 'results.json').write_bytes(content)
  with pytest.raises(ValueError, match=r'results\.json: ') as e:
    reading.read(tmp_path)
  assert match in str(e.value) and str(e.value).isprintable()


def test_absent_results_are_one_line(tmp_path):
  with pytest.raises(FileNotFoundError, match=r'holds no results\.json; give'):
    reading.read(tmp_path)
  with pytest.raises(FileNotFoundError, match='none: no such folder; give'):
    reading.read(tmp_path / 'none')
  with (tmp_path / 'results.json').open('wb') as file:
    file.truncate(reading.MAX_BYTES + 1)
  with pytest.raises(ValueError, match='more than 67,108,864'):
    reading.read(tmp_path)


JSON = st.recursive(
  st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
  lambda inner: (
    st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=5), inner, max_size=3)
  ),
  max_leaves=5,
)


def paths(value, path=()):
  yield path
  items = value.items() if isinstance(value, dict) else ()
  items = enumerate(value) if isinstance(value, list) else items
  for key, each in items:
    yield from paths(each, (*path, key))


PLACES = sorted(paths(evaluated.results(A)), key=repr)


@hypothesis.given(
  place=st.sampled_from(PLACES), value=JSON, remove=st.booleans()
)
def test_any_value_anywhere_is_refused_or_harmless(place, value, remove):
  """What `check` lets through, table, comparison and figures can take."""
  whole = evaluated.results(A)
  if not place:
    whole = value
  else:
    inner = whole
    for key in place[:-1]:
      inner = inner[key]
    if remove:
      del inner[place[-1]]
    else:
      inner[place[-1]] = value
  try:
    reading.check(whole, 'a file')
  except ValueError as e:
    assert str(e).startswith('a file: ') and str(e).isprintable()
    return
  table_lines = evaluated.shown_whole(whole)
  assert all(len(line) <= 160 for line in table_lines)
  try:
    compared(evaluated.results(A), whole, anyway=True)
  except ValueError as e:
    assert '\n' not in str(e)
