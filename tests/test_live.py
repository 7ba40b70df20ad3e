"""The table that is drawn while a run goes on: what it shows, and where.

A small terminal of the tests' own (screens.py) says what a user would see.
"""

import io
import itertools
import math
import os
import random
import re
import sys

import pytest
import rich.cells
import rich.console
import tiny
from hypothesis import given
from hypothesis import strategies as st
from runs import metrics_of, saved_steps
from screens import Screen, Terminal, environment

from acereason_jax.console import live
from acereason_jax.run import metrics

STOPPED = 75
COLUMNS = tuple(
  live.Column(title, rank)
  for title, rank in (('stage', 3), ('reward', 1), ('len', 2), ('held', 4))
)
# Prints lines of many lengths between steps, as a run does. Then it rests: for
# a moment, or until there is a file.
CODE = """
import os, random, sys, time
from acereason_jax.console import live, terminal

def lines():
  source = random.Random(7)
  for i in range(30):
    yield f'line {i} [' + 'x' * source.choice([0, 3, 90, 91, 99, 100, 250])

def run(steps=30, seconds=0.02, stage='[b]one[/b]', until=''):
  phases = ['sample']
  doing = lambda: phases[-1]
  terminal.use_stdout()
  columns = [live.Column('stage', 2), live.Column('reward', 1)]
  with live.display(columns, 30, done=0, doing=doing) as advance:
    for i, line in zip(range(steps), lines()):
      terminal.say(line)
      cells = [live.Cell(stage), live.Cell(f'{i / 7:.2f}', i / 7)]
      advance(live.Row(i + 1, 30, cells))
      time.sleep(seconds)
    phases.append('rest')
    time.sleep(0 if until else 1.2)
    while until and not os.path.exists(until):
      time.sleep(0.01)
"""
# Drawn by its thread, some time after all lines.
RESTS = 'rest, [1-9][0-9]* s'


@pytest.fixture(scope='module')
def code(tmp_path_factory):
  folder = tmp_path_factory.mktemp('code')
  (folder / 'showing.py').write_text(CODE)
  sys.path.insert(0, str(folder))
  yield folder
  sys.path.remove(str(folder))


def show(code, call='run()', *, env=None, **terminal):
  paths = os.pathsep.join([str(code), environment()['PYTHONPATH']])
  env = environment(**(env or {})) | dict(PYTHONPATH=paths)
  script = f'import showing\nshowing.{call}\n'
  return Terminal(['-c', script], env, **terminal)


def printed(code):
  return list(__import__('showing').lines())


def rows(*values, stage='', held=()):
  return [
    live.Row(
      i,
      1200,
      [
        live.Cell(stage),
        live.Cell(f'{x:.2f}', x),
        live.Cell(f'{10 * x:.1f}', 10 * x),
        live.Cell(f'{held[i]:.0%}', held[i]) if i in held else live.Cell(''),
      ],
    )
    for i, x in enumerate(values, 1)
  ]


def drawn(table, width=200, **options):
  file = io.StringIO()
  console = rich.console.Console(file=file, width=width, **options)
  console.print(table)
  return file.getvalue()


def test_a_table_by_hand():
  table = live.table(COLUMNS, rows(0.25, 0.5, 1.0, held={2: 0.4}), width=80)
  assert [line.rstrip() for line in drawn(table).splitlines()] == [
    '  step  reward   len  held',
    '1/1200    0.25   2.5',
    '2/1200    0.50   5.0   40%',
    '3/1200    1.00  10.0',
    'last 3     ▁▃█   ▁▃█     ▅',
  ]


def test_only_the_newest_steps_are_listed_and_the_trend_covers_all():
  shown = drawn(live.table(COLUMNS, rows(*range(20)), width=80)).splitlines()
  steps = [line.split()[0] for line in shown[1:-1]]
  assert steps == [f'{i}/1200' for i in range(13, 21)]
  assert shown[-1].split()[:2] == ['last', '20']
  assert '▁▂▄▅▇█' in shown[-1]


def test_a_narrow_terminal_loses_the_columns_of_the_highest_rank():
  made = rows(0.25, 0.5, stage='first', held={1: 0.4})
  titles = []
  for width in range(12, 60):
    text = drawn(live.table(COLUMNS, made, width=width), width)
    assert max(map(len, text.splitlines())) <= width
    titles.append(text.splitlines()[0].split())
  assert titles[0] == ['step']
  assert titles[-1] == ['step', 'stage', 'reward', 'len', 'held']
  assert ['step', 'reward', 'len'] in titles
  assert [len(t) for t in titles] == sorted(len(t) for t in titles)


NAMES = [n for n, *_ in metrics._COLUMNS] + ['seconds_step']
SHARES = 'reward', 'pass_rate', 'truncated_share', 'entropy', 'mismatch'
ONES = dict.fromkeys(SHARES, -1.0)


@pytest.mark.parametrize('width', [60, 80, 120, 200])
@pytest.mark.parametrize('stages', [1, 3])
def test_the_table_of_a_run_fits(width, stages):
  made = [
    metrics.table_row(
      step,
      60000,
      dict.fromkeys(NAMES, 1234.56) | ONES | {'heldout/main': 0.5},
      stage='a_stage_with_a_long_name',
      stages=stages,
    )
    for step in range(1, 30)
  ]
  text = drawn(live.table(metrics.TABLE, made, width=width), width)
  assert max(map(len, text.splitlines())) <= width
  assert len(text.splitlines()) == live.LISTED + 2
  head = text.splitlines()[0]
  assert 'reward' in head and 'held out' in head
  assert ('stage' in head) == (stages > 1 and width >= 120)
  assert 'update' in head or width < (200 if stages > 1 else 120)


def test_a_row_of_a_run_shows_what_its_line_shows():
  values = {n: 0.123 * i for i, n in enumerate(NAMES, 1)}
  values |= {'heldout/code': 0.25, 'heldout/math': 0.75}
  line = metrics.step_line(3, 9, values).split('  ')
  row = metrics.table_row(3, 9, values, stage='math', stages=2)
  assert (row.step, row.total) == (3, 9)
  cells = dict(zip([c.title for c in metrics.TABLE], row.cells))
  for title in ('reward', 'pass', 'len', 'trunc', 'ent', 'mis', 'sample'):
    assert f'{title} {cells[title].text}' in line
  assert f'{cells["tok/s"].text} tok/s' in line
  assert cells['stage'].text == 'math' and cells['held out'].text == '50.0%'
  assert cells['held out'].number == 0.5
  alone = metrics.table_row(
    3, 9, dict.fromkeys(NAMES, 1.0), stage='main', stages=1
  )
  assert (alone.cells[0].text, alone.cells[-1].text) == ('', '')


@pytest.mark.parametrize(
  'hostile',
  [
    '[bold red]x[/bold red]',
    ':smiley: [link=x]y',
    '\x1b[2J\x1b]0;x\x07',
    'a\r\nb\tc',
    '\u202eabc\u200b',
    '[/]',
    'x' * 100_000,
    '中' * 500,
    'é́́́́́',
  ],
)
def test_hostile_text_is_shown_escaped(hostile):
  options = dict(width=80, force_terminal=True, color_system='truecolor')
  shown = []
  for text in (hostile, 'benign'):
    table = live.table(COLUMNS, rows(0.5, stage=text), width=79)
    line = live.bar(1, 2, elapsed=1, left=1, doing=text, width=79)
    shown.append((drawn(table, **options), drawn(line, **options)))
  for ours, benign in zip(*shown):
    codes = re.findall(r'\x1b[^m]*m', ours)
    assert set(codes) <= set(re.findall(r'\x1b[^m]*m', benign)) | {'\x1b[0m'}
    plain = re.sub(r'\x1b\[[0-9;]*m', '', ours)
    assert plain.count('\n') == benign.count('\n')
    assert all(c.isprintable() or c == '\n' for c in plain)
    assert max(map(rich.cells.cell_len, plain.splitlines())) <= 79
  if hostile.startswith('['):
    assert hostile[: live.MOST - 1] in shown[0][0]


ANY = st.floats(width=64) | st.just(math.nan)


@given(st.lists(ANY, max_size=80), st.integers(1, 9))
def test_a_trend_of_any_numbers(numbers, cells):
  text = live.spark(numbers, cells)
  known = any(map(math.isfinite, numbers))
  assert len(text) == (min(cells, len(numbers)) if known else 0)
  assert set(text) <= set(' ▁▂▃▄▅▆▇█')


@given(st.lists(st.integers(-100, 100), min_size=2, max_size=6, unique=True))
def test_a_trend_keeps_the_order_of_its_numbers(numbers):
  text = live.spark(numbers, 6)
  for (x, a), (y, b) in itertools.combinations(zip(numbers, text), 2):
    assert a <= b if x < y else b <= a
  assert text[numbers.index(max(numbers))] == '█'
  assert text[numbers.index(min(numbers))] == '▁'


def test_trends_by_hand():
  assert live.spark([1, 2, 3], 6) == '▁▅█'
  assert live.spark([5, 5], 6) == '▅▅'
  assert live.spark([0, 2, 4, 6, 8, 10], 3) == '▁▅█'
  assert live.spark([0, math.nan, math.nan, math.nan, 1, 1], 3) == '▁ █'
  assert live.spark([-1e308, 1e308], 6) == '▁█'
  assert live.spark([1, 2, 3], 6, '_.-=^') == '_-^'
  assert live.spark([math.nan], 6) == live.spark([], 6) == ''


def test_the_bar_by_hand():
  doing = 'heldout: judge, 4 s'
  line = live.bar(3, 12, elapsed=65, left=7300, doing=doing, width=100)
  assert line.plain == (
    '━' * 6 + '─' * 18 + '  3/12  1m05s  eta 2h01m  heldout: judge, 4 s'
  )
  line = live.bar(0, 0, elapsed=0, left=math.nan, doing='x', width=20)
  assert line.plain == '━━━━━━━━  0/0  0s  x'
  line = live.bar(1, 2, elapsed=0, left=math.nan, doing='long', width=9)
  assert line.plain == '  1/2  0s'


@pytest.mark.parametrize('size', [(100, 40), (61, 14), (40, 9), (100, 3)])
def test_lines_stay_whole_above_what_is_drawn(code, tmp_path, size):
  width, height = size
  over = tmp_path / 'over'
  call = f'run(until={str(over)!r})'
  terminal = show(code, call, width=width, height=height)
  before = Screen(*size)
  before.feed(terminal.sent_until(RESTS))
  over.touch()
  after = Screen(*size)
  after.feed(terminal.ends(0))
  said = printed(code)
  seen = before.lines()
  assert seen[:30] == said
  assert any('━' in line and 'rest, ' in line for line in seen[30:])
  table = any(re.match(r'\s+step +stage +reward$', s) for s in seen[30:])
  assert table == (width > 48 and height > 7)
  if table:
    assert sum('[b]one[/b]' in s for s in seen[30:]) == min(8, height - 7)
  # Nothing of it stays.
  assert after.lines() == said
  assert '\x1b[?25l' not in terminal.sent.decode()


def test_it_lives_while_nothing_is_done(code, tmp_path):
  over = tmp_path / 'over'
  terminal = show(code, f'run(steps=0, until={str(over)!r})')
  for pattern in (', 0 s', RESTS):
    terminal.sent_until(pattern)
  over.touch()
  terminal.ends(0)


def test_a_terminal_that_is_resized(code):
  terminal = show(code)
  source = random.Random(0)
  for i in range(0, 30, 3):
    terminal.wait_for(f'line {i} [')
    terminal.resize(source.randrange(1, 200), source.randrange(1, 60))
  text = re.sub(r'\x1b\[[0-9;]*[A-Za-z]', '', terminal.ends(0))
  for line in printed(code):
    assert f'{line}\r\n' in text


@pytest.mark.parametrize(
  'env', [dict(TERM='dumb'), dict(TERM='unknown'), dict(TTY_INTERACTIVE='0')]
)
def test_where_the_terminal_cannot_there_are_the_lines_only(code, env):
  text = show(code, env=env).ends(0)
  assert text.replace('\r\n', '\n').split('\n') == [*printed(code), '']


def test_without_colours(code):
  text = show(code, env=dict(NO_COLOR='1')).ends(0)
  assert '━' in text
  # Bold and dim are no colours.
  assert set(re.findall(r'\x1b\[([0-9;]*)m', text)) <= {'0', '1', '2'}


def test_without_unicode(code, tmp_path):
  over = tmp_path / 'over'
  env = dict(LC_ALL='C', PYTHONUTF8='0', PYTHONCOERCECLOCALE='0')
  env |= dict(PYTHONIOENCODING='ascii')
  terminal = show(code, f'run(until={str(over)!r})', env=env)
  terminal.sent_until(RESTS)
  over.touch()
  text = terminal.ends(0)
  assert text.isascii() and '\\u' not in text


def test_standard_output_in_a_file(code, tmp_path):
  over = tmp_path / 'over'
  with (tmp_path / 'out').open('wb') as file:
    call = f'run(until={str(over)!r})'
    terminal = show(code, call, stdout=file.fileno())
  terminal.sent_until(RESTS)
  over.touch()
  text = terminal.ends(0)
  assert (tmp_path / 'out').read_text().splitlines() == printed(code)
  assert 'line' not in text


def test_standard_output_in_a_pipe_may_come_to_the_same_terminal(code):
  """As with `| tee`: what it shows would be torn."""
  read, write = os.pipe()
  terminal = show(code, stdout=write)
  os.close(write)
  assert terminal.ends(0) == ''
  with open(read) as file:
    assert file.read().splitlines() == printed(code)


def test_in_the_background_the_screen_is_the_shells(code):
  # The shell keeps the terminal, and starts the command in another group.
  head = (
    'import signal\n'
    'child = os.fork()\n'
    'if child:\n'
    '  sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n'
    'os.setpgid(0, 0)'
  )
  text = show(code, head=head).ends(0)
  assert text.replace('\r\n', '\n').split('\n') == [*printed(code), '']


def test_errors_are_lines_too(code):
  call = (
    'run(steps=3)\nfrom acereason_jax.console import live, terminal\n'
    'with live.display([], 3, done=0, doing=lambda: "x") as advance:\n'
    '  terminal.say("warning: [b]", to_stderr=True)\n'
    '  raise SystemExit("error: [c]")'
  )
  screen = Screen(100, 40)
  screen.feed(show(code, call).ends(1))
  assert screen.lines() == [
    *printed(code)[:3],
    'warning: [b]',
    'error: [c]',
  ]


# Runs of the tiny model.


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp('model')
  tiny.write(folder)
  return folder


def train(folder, workdir, *flags, config='tiny_config', **terminal):
  env = tiny.environment(folder / 'compiled') | environment()
  arguments = ['-m', 'acereason_jax.train', f'--config={folder}/{config}.py']
  arguments += [f'--workdir={workdir}', *flags]
  return Terminal(arguments, env, **terminal)


@pytest.mark.slow
def test_a_run_in_a_terminal(folder, tmp_path):
  run = train(folder, tmp_path / 'run', width=200, config='staged_config')
  screen = Screen(200, 40)
  screen.feed(run.ends(0))
  lines = screen.lines()
  steps = len(metrics_of(tmp_path / 'run'))
  assert steps == 7
  found = [line for line in lines if re.match(r'\w+  step ', line)]
  assert [line.split()[2] for line in found] == [f'{i}/7' for i in range(1, 8)]
  assert all(re.search(r' eta \w+(  held out .*)?$', s) for s in found)
  assert sum(s.startswith(f'{tmp_path}/run/summary.json: ') for s in lines) == 1
  assert not any('━' in line for line in lines)
  assert '━' in run.sent.decode()


def test_control_c_in_a_terminal(folder, tmp_path):
  run = train(folder, tmp_path / 'run', '--config.steps=100000')
  run.wait_for('step 2/')
  run.press(b'\x03')
  screen = Screen(100, 40)
  screen.feed(run.ends(STOPPED))
  saved = max(saved_steps(tmp_path / 'run'))
  said = f'stopped and saved after step {saved}; run it again'
  assert screen.lines()[-1] == said


def test_a_terminal_that_is_closed_during_a_run(folder, tmp_path):
  run = train(folder, tmp_path / 'run', '--config.steps=100000')
  run.wait_for('step 2/')
  run.close()
  run.ended(STOPPED)
  assert max(saved_steps(tmp_path / 'run')) >= 2
