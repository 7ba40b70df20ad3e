"""Why a rollout has its verdict: what `judge` says, and what the step did.

Deadlines here are hang guards, not timings.
"""

import contextlib
import json
import math
import os
import re
import shlex

import hostile_texts
import kept_runs
import object_store
import pytest

from acereason_jax import judge, report, storage
from acereason_jax.console import terminal
from acereason_jax.data import archive
from acereason_jax.reporting import asking, samples, why
from acereason_jax.rl import reasons
from acereason_jax.verifiers import math as math_judge
from acereason_jax.verifiers.pool import pool as pool_lib

SECONDS = 600
CODE = 'acereason_jax.verifiers.code:verify'
OF_STEP = set(reasons.WHAT)

THOUGHT = 'so </think> '
RIGHT = [
  *((rf'{THOUGHT}\boxed{{{n}}}', f'{n}') for n in (0, 7, -3, 10**20)),
  *((rf'{THOUGHT}\boxed{{{n}/4}}', f'{n / 4}') for n in (1, 3, 5, 7)),
  *((rf'{THOUGHT}\boxed{{\frac{{{n}}}{{2}}}}', f'{n}/2') for n in (1, 3, 5)),
  *((rf'{THOUGHT}\boxed{{\sqrt{{{n * n}}}}}', f'{n}') for n in (2, 5, 9)),
  (rf'{THOUGHT}\boxed{{x=4}}', '4'),
  (rf'{THOUGHT}\boxed{{1,000}}', '1000'),
  (rf'{THOUGHT}\boxed{{\text{{Yes}}}}', 'yes'),
  (rf'{THOUGHT}\boxed{{(1, 2)}}', '(1,2)'),
  (rf'{THOUGHT}\boxed{{2\pi}}', r'2\pi'),
  (rf'{THOUGHT}\boxed{{50\%}}', r'50\%'),
]
WRONG = [
  *((rf'{THOUGHT}\boxed{{{n}}}', f'{n + 1}') for n in range(17)),
  (rf'{THOUGHT}\boxed{{\frac{{1}}{{3}}}}', '0.33'),
  (rf'{THOUGHT}\boxed{{{"9" * 3000}}}', '9'),
  (rf'{THOUGHT}\boxed{{\text{{No}}}}', 'yes'),
]
UNPARSED = [
  *((rf'\boxed{{{n}}}', f'{n}') for n in range(7)),
  (rf'{THOUGHT}\boxed{{}}', '4'),
  (f'{THOUGHT}\\boxed{{\x1b[2J\u202e}}', '4'),
  (rf'{THOUGHT}\boxed{{x+}}', 'x'),
  *((f'{THOUGHT} it is {n}', f'{n}') for n in range(6)),
  *((rf'{THOUGHT}\boxed{{{n}', f'{n}') for n in range(2)),
  ('', '4'),
  ('\x00\x1b[31m\ud800', '4'),
]
ERROR = [
  *((rf'{THOUGHT}\boxed{{{n}}}', '') for n in range(10)),
  *((rf'{THOUGHT}\boxed{{{n}}}', ' ') for n in range(10)),
]


def run_of(folder, pairs, fn=kept_runs.MATH, status=None, **config):
  """A run whose rollouts are these (response, answer), each a prompt."""
  kept_runs.write_config(folder, fn, **config)
  rows, texts = [], []
  for i, (response, answer) in enumerate(pairs):
    row = kept_runs.row(f'p{i:03}', step=1, status=status or 'wrong')
    reward = dict(right=1.0, wrong=0.0, unparsed=0.0).get(row.status, math.nan)
    row = row._replace(reward=reward)
    rows.append(row)
    texts.append((row, kept_runs.text(row, response, answer)))
  kept_runs.write(folder, rows, texts)
  return samples.choose(str(folder), most_bytes=10**9, size=lambda s: 1)


def judged(lines):
  """The judge's lines, as it wrote them, without those of the step."""
  return [
    f'{what}: {text}' if what else text
    for what, text in lines
    if what not in OF_STEP
  ]


@pytest.fixture
def ask_judge(monkeypatch, capsys, tmp_path):
  """What the judge command prints; its workers are those of one pool."""
  with contextlib.ExitStack() as stack:
    pools = {}
    own = pool_lib.VerifierPool

    def shared(*args, **kwargs):
      key = repr((args, kwargs))
      if key not in pools:
        pools[key] = stack.enter_context(own(*args, **kwargs))
      return contextlib.nullcontext(pools[key])

    def ask(response, answer, *flags):
      file = tmp_path / 'response.txt'
      file.write_text(response, newline='')
      monkeypatch.setattr(pool_lib, 'VerifierPool', shared)
      named = f'--response_file={file}', f'--answer={answer}'
      judge.main(['', *named, *flags])
      *lines, last = capsys.readouterr().out.splitlines()
      return [line.removeprefix('  ') for line in lines], last

    yield ask


@pytest.mark.parametrize(
  'status, pairs',
  [
    ('right', RIGHT),
    ('wrong', WRONG),
    ('unparsed', UNPARSED),
    ('error', ERROR),
  ],
)
def test_the_lines_are_those_of_the_judge_command(
  status, pairs, tmp_path, ask_judge
):
  assert len(pairs) == 20
  statuses = {math_judge.verify(*pair).status for pair in pairs}
  assert statuses == {status}
  found = run_of(tmp_path, pairs, status=status)
  # The file of texts cannot hold lone surrogates.
  told = why.explain(found, str(tmp_path), seconds=SECONDS)
  for sample in told.samples:
    lines, last = ask_judge(sample.text, sample.answer)
    ours = [terminal.printable(line) for line in judged(sample.why.lines)]
    assert ours == lines
    assert last.startswith(f'verdict: {status} ')
    assert sample.why.note == ''
    what = [what for what, _ in sample.why.lines]
    assert set(what) >= OF_STEP and what[-3:] == list(reasons.WHAT)
  assert [s._replace(why=None) for s in told.samples] == [
    s._replace(why=None) for s in found.samples
  ]


PROGRAMS = [
  ('right', 'print(sum(map(int, input().split())))'),
  ('wrong', 'print(3)'),
  ('wrong', '1 / 0'),
  ('wrong', 'while True: pass'),
  ('wrong', 'x = bytearray(1 << 30)'),
  ('wrong', 'print("\x1b[2J\u202e")'),
  ('unparsed', None),
]


@pytest.mark.usefixtures('jails')
def test_programs_are_explained_as_by_the_judge_command(tmp_path, ask_judge):
  task = dict(
    kind='stdin',
    time_limit_seconds=1.0,
    memory_bytes=64 << 20,
    tests=[
      dict(stdin='1 2\n', expected='3\n'),
      dict(stdin='10 -4\n', expected='6\n'),
    ],
  )
  # A judge begins with tests that failed others, so each has its own task.
  pairs = [
    (
      f'</think>```python\n{program}\n```' if program else 'none',
      json.dumps(task | dict(memory_bytes=(64 << 20) + i)),
    )
    for i, (_, program) in enumerate(PROGRAMS)
  ]
  found = run_of(
    tmp_path, pairs, CODE, judge=dict(timeout_seconds=300.0, confine=False)
  )
  told = why.explain(found, str(tmp_path), seconds=SECONDS)
  # Measured again, these differ.
  measured = re.compile(r'[0-9.]+ (s|MiB)\b|user=[0-9]+')
  plain = lambda line: measured.sub('#', line)
  for sample, (status, program) in zip(told.samples, PROGRAMS, strict=True):
    lines, last = ask_judge(sample.text, sample.answer, '--code')
    ours = [terminal.printable(line) for line in judged(sample.why.lines)]
    ours = [line for line in ours if not line.startswith('verdict now')]
    assert [plain(x) for x in ours] == [plain(x.strip()) for x in lines]
    assert last.startswith(f'verdict: {status} ')
    said = dict(sample.why.lines)
    if status == 'wrong':
      first = 2 if program == 'print(3)' else 1
      assert said['first failed test'] == f'{first}'
      assert said['expected'] == ascii(task['tests'][first - 1]['expected'])
      assert '1 s CPU, 8 s wall and 64 MiB' in said['limits']


@pytest.mark.usefixtures('jails')
def test_the_judge_command_explains_programs_of_a_run(tmp_path, capsys):
  """With the limits of the config, of which an explanation needs twice."""
  task = json.dumps(dict(kind='stdin', tests=[dict(stdin='', expected='3')]))
  response = '</think>```python\nprint(4)\n```'
  limits = dict(timeout_seconds=300.0, confine=False)
  run_of(tmp_path, [(response, task)], CODE, judge=limits)
  judge.main(['', f'--rollouts={tmp_path}', '--id=p000'])
  assert "\n  got: '4\\n'\n" in capsys.readouterr().out


def test_a_folder_does_not_unconfine_the_judge_command(tmp_path, monkeypatch):
  run_of(tmp_path, RIGHT[:1], judge=dict(confine=False))
  asked = []

  def pool(fn, arguments, workers, timeout_seconds, confine):
    asked.append((fn, timeout_seconds, confine))
    raise ValueError('seen')

  monkeypatch.setattr(pool_lib, 'VerifierPool', pool)
  for flags in ([], ['--id=p000']):
    with pytest.raises(SystemExit, match='seen'):
      judge.main(['', f'--rollouts={tmp_path}', *flags])
  math_explain = 'acereason_jax.verifiers.math:explain'
  assert asked == [(kept_runs.MATH, 8.0, True), (math_explain, 16.0, True)]


def own(folder, responses, **more):
  """A run whose judge is tiny_why's."""
  pairs = [(response, '4') for response in responses]
  fn = more.pop('fn', 'tiny_why:verify')
  found = run_of(folder, pairs, fn, **more)
  return found, {s.row['prompt']: i for i, s in enumerate(found.samples)}


def test_what_a_judge_may_do(tmp_path):
  """Every rollout gets an answer: explanations, or what went wrong."""
  responses = ['4', 'raise', 'die', 'flood', 'huge', 'hang', '\x1b\u202e: 5']
  found, _ = own(tmp_path, responses, judge=dict(timeout_seconds=3.0))
  told = why.explain(found, str(tmp_path), seconds=SECONDS, trusted=True)
  said = [judged(s.why.lines) for s in told.samples]
  assert said[0] == ['given: 4', '4', 'verdict now: right']
  assert said[1] == ['OSError: the judge\\nhas a bad day', 'verdict now: error']
  assert said[2][0].startswith('worker died twice')
  assert said[3][:2] == ['x: y', 'x: y'] and len(said[3]) < 250
  assert said[4][0].startswith('worker sent garbage')
  assert said[5] == ['over 6.0 s', 'verdict now: timeout']
  assert said[6] == ['given: \x1b\u202e: 5', '4']
  assert all(s.why.note == '' for s in told.samples)
  assert sum(len(text) for line in said for text in line) < 40_000


def test_the_time_ends_and_the_urgent_come_first(tmp_path, monkeypatch):
  monkeypatch.setattr(os, 'cpu_count', lambda: 1)
  kept_runs.write_config(
    tmp_path, 'tiny_why:verify', judge=dict(timeout_seconds=300.0)
  )
  kinds = [('right', 1.0), ('right', 0.0), ('error', math.nan), ('wrong', 0.0)]
  urgency = [2, 1, 0, 1]
  rows = [
    kept_runs.row(f'p{i:03}', status=kinds[i % 4][0], reward=kinds[i % 4][1])
    for i in range(120)
  ]
  texts = [(row, kept_runs.text(row, f'nap {row.prompt}')) for row in rows]
  # One that never ends, among the last.
  texts[-4] = (rows[-4], kept_runs.text(rows[-4], 'hang'))
  kept_runs.write(tmp_path, rows, texts)
  found = samples.choose(str(tmp_path), most_bytes=10**9, size=lambda s: 1)
  told = why.explain(found, str(tmp_path), seconds=8, trusted=True)
  done = [i for i, s in enumerate(told.samples) if not s.why.note]
  left = [i for i, s in enumerate(told.samples) if s.why.note]
  assert left, 'all of them sleep longer than that'
  for i in left:
    assert '--explain_seconds=8 were over' in told.samples[i].why.note
    assert judged(told.samples[i].why.lines) == []
  # One worker asks in this order.
  order = sorted(range(len(rows)), key=lambda i: (urgency[i % 4], i))
  assert sorted(done) == sorted(order[: len(done)])
  assert all(s.why.command for s in told.samples)


def test_no_time_asks_no_judge(tmp_path, monkeypatch):
  found, _ = own(tmp_path, ['4'])
  monkeypatch.setattr(pool_lib, 'VerifierPool', None)
  (sample,) = why.explain(found, str(tmp_path), seconds=0, trusted=True).samples
  assert 'The judge was not asked' in sample.why.note
  assert {what for what, _ in sample.why.lines} == OF_STEP


@pytest.mark.parametrize(
  'config, trusted, note',
  [
    (dict(fn='tiny_why:verify'), False, 'is not of this package'),
    (dict(fn='os:system'), False, 'is not of this package'),
    (dict(fn='subprocess:getoutput'), True, 'has no explain'),
    (dict(fn='tiny_judge:all_right'), True, ''),
    (dict(fn='tiny_losses:verify'), True, 'The judge cannot be asked: judge'),
    (dict(fn='no_such_module:verify'), True, 'cannot import'),
    (dict(fn='tiny_why:verify_only'), True, 'has no explain_only'),
    (dict(fn='acereason_jax.verifiers.trial:verify'), False, 'has no explain'),
    (dict(fn='acereason_jax.verifiers.no:verify'), False, 'cannot import'),
    (dict(domains=dict(math={}, code={})), False, "no judge of the domain 'm"),
    (
      dict(
        fn=CODE,
        judge=dict(timeout_seconds=9.0),
      ),
      False,
      'one submission may take 244 s',
    ),
  ],
)
def test_judges_that_are_not_asked(config, trusted, note, tmp_path):
  found, _ = own(tmp_path, [r'</think>\boxed{4}'], **config)
  told = why.explain(found, str(tmp_path), seconds=SECONDS, trusted=trusted)
  (sample,) = told.samples
  assert note in sample.why.note and bool(note) == bool(sample.why.note)
  assert len(sample.why.note.splitlines()) <= 1
  assert dict(sample.why.lines)['reward']


def test_the_weakest_sandbox_needs_trust(tmp_path):
  found, _ = own(tmp_path, ['</think>'], fn=CODE)
  plain = json.loads((tmp_path / 'config.json').read_text())
  plain['judge']['verify']['tier'] = 'T1'
  (tmp_path / 'config.json').write_text(json.dumps(plain))
  (sample,) = why.explain(found, str(tmp_path), seconds=SECONDS).samples
  assert 'weakest sandbox' in sample.why.note


def test_a_stranger_cannot_unconfine_a_judge(tmp_path):
  """config.judge.confine=False is only for judges of one's own."""
  kept_runs.write_config(tmp_path, judge=dict(confine=False))
  known = asking.known(str(tmp_path))
  assert not known.judges['main'].confine
  assert asking.explainer('main', known, trusted=False).confine
  kept_runs.write_config(tmp_path, CODE, judge=dict(confine=True))
  known = asking.known(str(tmp_path))
  assert not asking.explainer('main', known, trusted=False).confine


@pytest.mark.parametrize('content', [None, b'{}', b'\xff', b'[' * 10**5])
def test_a_run_without_a_readable_config(content, tmp_path):
  found, _ = own(tmp_path, ['4'])
  (tmp_path / 'config.json').unlink()
  if content is not None:
    (tmp_path / 'config.json').write_bytes(content)
  told = why.explain(found, str(tmp_path), seconds=SECONDS)
  (sample,) = told.samples
  assert sample.why.note.startswith('The judge is unknown: config.json: ')
  assert len(sample.why.note.splitlines()) == 1
  assert {what for what, _ in sample.why.lines} == OF_STEP


# --- the terminal -----------------------------------------------------------


def a_run(folder, prompt='sum-3-4', detail="numbers: '5'"):
  """A group of four: three with texts that were kept with a reason."""
  kept_runs.write_config(
    folder,
    objective=dict(truncated='zero', overlong_tokens=0),
    rollout=dict(max_tokens=8),
  )
  say = r'</think>\boxed{{{}}}'.format
  rows = [
    kept_runs.row(prompt, 0, detail='numbers: \'7\'', advantage=1.5),
    kept_runs.row(
      prompt, 1, status='wrong', reward=0.0, advantage=-0.5, detail=detail
    ),
    kept_runs.row(
      prompt, 2, stop='length', length=8, reward=0.0, advantage=-0.5
    ),
    kept_runs.row(
      prompt, 3, status='timeout', reward=math.nan, advantage=0.0,
      counted=False, trained=False,
    ),
  ]  # fmt: skip
  others = [
    kept_runs.row('other', i, kept='', reward=1.0, advantage=0.0, trained=False)
    for i in range(4)
  ]
  later = [
    kept_runs.row(prompt, i, step=step, kept='')
    for step in (5, 9)
    for i in range(2)
  ]
  look = kept_runs.row(
    'h1', 0, step=9, phase='heldout', advantage=math.nan, counted=False,
    trained=False, kept='heldout',
  )  # fmt: skip
  texts = [
    (row, kept_runs.text(row, text, '7'))
    for row, text in zip(rows, [say(7), say(5), say(7), 'x' * 4000 + say(7)])
  ]
  texts.append((look, kept_runs.text(look, say(4))))
  kept_runs.write(folder, [*rows, *others, *later, look], texts)
  return rows


def tell(folder, *args, **kwargs):
  lines = why.tell(str(folder), *args, **kwargs)
  assert all(line.isprintable() for line in lines)
  return lines


def test_tell(tmp_path):
  a_run(tmp_path)
  lines = tell(tmp_path, 'sum-3-4', step=1, index=1)
  assert lines[:3] == [
    'sum-3-4[1]',
    'step 1 (train, stage main, domain main), 3 tokens, ended by stop',
    "wrong: numbers: '5'",
  ]
  assert "  extracted: '5'" in lines
  assert '  reward: 0, because the answer is wrong' in lines
  assert (
    '  advantage: -0.5, because the mean reward of the 3 judged rollouts of '
    'the group is 0.333333'
    in lines[: lines.index('question:')]
    or any(x.startswith('  advantage: -0.5, because the mean') for x in lines)
  )
  assert lines[lines.index('question:') + 1 :][:5] == [
    '  Q What?',
    'answer:',
    '  A 7',
    'response:',
    r'  > </think>\boxed{5}',
  ]
  assert lines[-5:] == [
    'its group of 4:',
    "  [0] right, reward 1, advantage 1.5, 3 tokens, stop: numbers: '7'",
    "* [1] wrong, reward 0, advantage -0.5, 3 tokens, stop: numbers: '5'",
    '  [2] right, reward 0, advantage -0.5, 8 tokens, length: ok',
    '  [3] timeout, reward -, advantage 0, 3 tokens, stop: ok',
  ]


def test_tell_why_a_right_answer_has_no_reward(tmp_path):
  a_run(tmp_path)
  lines = tell(tmp_path, 'sum-3-4', step=1, index=2)
  assert (
    '  reward: 0, because the answer is right; the response was cut off at 8 '
    "tokens and objective.truncated is 'zero'"
  ) in lines


def test_tell_of_a_failed_verdict_cuts_the_response(tmp_path):
  a_run(tmp_path)
  lines = tell(tmp_path, 'sum-3-4', step=1, index=3)
  assert '  reward: none, because the judge failed' in lines
  assert '  in the loss: no: the judge failed' in lines
  assert '  verdict now: right' in lines
  at = lines.index('response, without its first 2,517 characters:')
  assert lines[at + 1] == '  > ' + 'x' * 1483 + r'</think>\boxed{7}'


def test_tell_of_a_held_out_answer(tmp_path):
  a_run(tmp_path)
  lines = tell(tmp_path, 'h1', step=9, index=0, phase='heldout')
  assert '  in the loss: no: it is a held-out question' in lines
  assert "  extracted: '4'" in lines


def test_tell_of_a_probe(tmp_path):
  """Of the stage that began; one that was over at once asked the same."""
  a_run(tmp_path)
  asked = [
    kept_runs.row(
      'sum-3-4', i, stage=stage, phase='probe', kept='', advantage=math.nan,
      counted=False, trained=False, status=status, reward=reward,
    )
    for stage, count in (('over', 3), ('main', 2))
    for i, (status, reward) in enumerate([('wrong', 0.0), ('right', 1.0)] * 2)
    if i < count
  ]  # fmt: skip
  kept_runs.write(tmp_path, asked, [])
  lines = tell(tmp_path, 'sum-3-4', step=1, index=0, phase='probe')
  assert lines[1].startswith('step 1 (probe, stage main, domain main), 3 tok')
  assert '  reward: 0, because the answer is wrong' in lines
  assert '  in the loss: no: a probe asked for it, before the stage' in lines
  assert 'The text was not kept: of a probe only rows are.' in lines
  assert not any('advantage:' in line for line in lines)
  assert lines[-3] == 'its group of 2:'
  row = asked[-1]._asdict()
  assert why.command('runs/x', row).endswith('--phase=probe')


def test_tell_without_the_text(tmp_path):
  a_run(tmp_path)
  lines = tell(tmp_path, 'other', step=1, index=2)
  assert any('keep.groups' in line for line in lines)
  assert (
    '  advantage: 0, because all 4 judged rollouts of the group got reward 1'
  ) in lines
  name = archive.Place(1, 'train').name
  (tmp_path / archive.FOLDER / archive.TEXTS / name).unlink()
  lines = tell(tmp_path, 'sum-3-4', step=1, index=1)
  assert any('keep.budget_gb' in line for line in lines)
  assert 'response:' not in lines


@pytest.mark.parametrize(
  'prompt, where, match',
  [
    ('sum-3-4', dict(step=1, index=9), 'index=9: step 1 has indices 0 to 3'),
    ('sum-3-4', dict(step=5, index=-1), 'step 5 has indices 0 to 1'),
    ('sum-3-4', dict(step=6, index=0), r'has 3 steps .* are 1, 5, 9$'),
    ('other', dict(step=5, index=0), r'not in step 5 \(train\); it was in 1$'),
    ('nobody', dict(step=5, index=0), 'none of the 3 nearest steps asks it'),
    ('h1', dict(step=0, index=0, phase='before'), 'has train, heldout'),
    ('h1', dict(step=2, index=0, phase='heldout'), 'the nearest are 9'),
  ],
)
def test_tell_of_what_does_not_exist(prompt, where, match, tmp_path):
  a_run(tmp_path)
  with pytest.raises(ValueError, match=match) as e:
    why.tell(str(tmp_path), prompt, **where)
  assert len(str(e.value).splitlines()) == 1


def test_tell_of_damaged_files_is_one_line(tmp_path):
  with pytest.raises(ValueError, match='keeps no rollouts'):
    why.tell(str(tmp_path), 'p', step=1, index=0)
  a_run(tmp_path)
  below = tmp_path / archive.FOLDER
  name = archive.Place(1, 'train').name
  (below / archive.TEXTS / name).write_bytes(b'PAR1')
  with pytest.raises(ValueError, match='no readable file') as e:
    why.tell(str(tmp_path), 'sum-3-4', step=1, index=0)
  assert len(str(e.value).splitlines()) == 1
  (below / name).write_bytes(b'')
  with pytest.raises(ValueError, match='no readable file'):
    why.tell(str(tmp_path), 'sum-3-4', step=1, index=0)


def test_the_report_command_tells(tmp_path, capsys):
  a_run(tmp_path)
  row = kept_runs.row('sum-3-4', 1)._asdict()
  words = shlex.split(why.command(str(tmp_path), row))
  assert words[:3] == ['python', '-m', report.__name__]
  assert report.main(['', *words[3:]]) == 0
  out = capsys.readouterr().out
  assert out.splitlines() == tell(tmp_path, 'sum-3-4', step=1, index=1)
  with pytest.raises(SystemExit, match='--index=7: step 1 has ind'):
    report.main(['', *words[3:-1], '--index=7'])


def test_hostile_texts_are_escaped_and_their_commands_find_them(
  tmp_path, monkeypatch
):
  """As ids, answers, responses, details, stages and domains."""
  assert len(hostile_texts.FOR_TERMINALS) >= 40
  monkeypatch.setattr(
    asking,
    'ask',
    lambda asked, *rest: [math_judge.explain(s.text, s.answer) for s in asked],
  )
  pairs = []
  for i, text in enumerate(hostile_texts.FOR_TERMINALS):
    row = kept_runs.row(
      text, i, detail=text, stage=text, domain=text, status='unparsed'
    )
    pairs.append((row, kept_runs.text(row, text, text, text)))
  kept_runs.write(tmp_path, [row for row, _ in pairs], pairs)
  folder = str(tmp_path)
  found = samples.choose(folder, most_bytes=10**9, size=lambda s: 1)
  told = why.explain(found, folder, seconds=1)
  assert len(told.samples) == len(pairs)
  for sample in told.samples:
    command = sample.why.command
    assert command.isprintable()
    words = shlex.split(command)
    assert words[:5] == [
      'python',
      '-m',
      'acereason_jax.report',
      '--why',
      folder,
    ]
    flags = dict(word.removeprefix('--').split('=', 1) for word in words[5:])
    assert flags.keys() == {'prompt', 'step', 'index'}
    index = int(flags['index'])
    lines = tell(folder, flags['prompt'], step=1, index=index)
    assert lines[-1].startswith(f'* [{index}] unparsed')
    assert sample.row['prompt'] == hostile_texts.FOR_TERMINALS[index]
    marked = [x for x in lines if x[:4] in ('  Q ', '  A ', '  > ')]
    assert len(marked) >= 3
    # What a text says is always behind a mark.
    assert not [x for x in lines if x.startswith(('verdict: ', 'fake: '))]


def test_the_command_of_another_phase():
  row = kept_runs.row("it's", 2, step=0, phase='before')._asdict()
  assert why.command('a folder', row) == (
    "python -m acereason_jax.report --why 'a folder' "
    "'--prompt=it'\"'\"'s' --step=0 --index=2 --phase=before"
  )


def test_equal_shown_ids_are_told_apart_by_the_id_itself(tmp_path):
  rows = [kept_runs.row(p, kept='') for p in ('\x1b', r'\x1b', '\x1c')]
  kept_runs.write(tmp_path, rows, [])
  shown = tell(tmp_path, r'\x1b', step=1, index=0)
  assert shown[0] == r'\x1b[0]'
  assert tell(tmp_path, r'\x1c', step=1, index=0)[0] == r'\x1c[0]'


def test_a_run_in_a_bucket(tmp_path):
  a_run(tmp_path / 'local')
  local = str(tmp_path / 'local')
  with object_store.started(tmp_path / 'objects') as store:
    remote = store.make_bucket('why-runs') + '/one'
    for path in (tmp_path / 'local').rglob('*'):
      if path.is_file():
        name = path.relative_to(tmp_path / 'local').as_posix()
        storage.write(storage.join(remote, name), path.read_bytes())
    size = lambda sample: 1
    here = samples.choose(local, most_bytes=10**6, size=size)
    there = samples.choose(remote, most_bytes=10**6, size=size)
    assert here == there and len(there.samples) == 5
    one = dict(step=1, index=1)
    assert tell(remote, 'sum-3-4', **one) == tell(local, 'sum-3-4', **one)
