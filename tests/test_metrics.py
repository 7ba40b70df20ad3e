import io
import json
import math
import os
import pathlib
import re
import struct
import sys

import numpy as np
import pytest
from tensorboardX.proto import event_pb2

from acereason_jax import types
from acereason_jax.console import terminal
from acereason_jax.rl import objective
from acereason_jax.run import metrics


class Terminal(io.StringIO):
  def isatty(self):
    return True


def refuse(constant):
  raise AssertionError(f'{constant} is not JSON')


def records(workdir):
  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  return [json.loads(line, parse_constant=refuse) for line in lines]


def scalars(workdir):
  """(step, name, value) of every scalar in the TensorBoard event files."""
  found = []
  for path in sorted((workdir / 'tensorboard').iterdir()):
    data = path.read_bytes()
    while data:
      size = struct.unpack('Q', data[:8])[0]
      event = event_pb2.Event.FromString(data[12 : 12 + size])
      data = data[16 + size :]
      for value in event.summary.value:
        found.append((event.step, value.tag, value.simple_value))
  return found


def group(
  text='text', prompt_id='p', detail='ok', status='right', stop='stop', length=3
):
  tokens = np.zeros(length, np.int32)
  rollout = types.Rollout(prompt_id, 0, tokens, tokens, tokens, stop, text)
  return types.Group(
    types.Prompt(prompt_id, 'What?', '42', tokens),
    (rollout,),
    (types.Verdict(status, detail, 0.1),),
  )


RULES = objective.Rules('mask', 0, 8)
STEP = {
  'reward': 0.234,
  'pass_rate': 0.231,
  'response_length': 21.4,
  'truncated_share': 0.02,
  'entropy': 0.61,
  'mismatch': 1.2e-6,
  'tokens_per_second': 412.3,
  'seconds_sample': 6.1,
  'cpu_seconds_sample': 11.8,
  'seconds_judge': 0.1,
  'seconds_update': 14.2,
  'cpu_seconds_update': 27.9,
  'seconds_step': 20.0,
}


def test_writer_writes_strict_json_and_events(tmp_path):
  with metrics.Writer(tmp_path, resume_step=0) as writer:
    writer.write(0, {'reward': np.float32(0.5), 'loss': 2})
    # A killed run keeps what it wrote.
    assert records(tmp_path) == [{'step': 0, 'reward': 0.5, 'loss': 2.0}]
    writer.write(1, {'reward': math.nan, 'loss': -math.inf, 'len': 7.0})
  assert records(tmp_path)[1] == {
    'step': 1,
    'reward': None,
    'loss': None,
    'len': 7.0,
  }
  assert scalars(tmp_path) == [
    (0, 'reward', 0.5),
    (0, 'loss', 2.0),
    (1, 'len', 7.0),
  ]


def test_resume_drops_the_steps_to_come_and_a_torn_line(tmp_path):
  with metrics.Writer(tmp_path, resume_step=0) as writer:
    for step in range(5):
      writer.write(step, {'run': 1.0})
  with (tmp_path / 'metrics.jsonl').open('a') as file:
    file.write('[1]\n5\n{"step": "2"}\n{}\n' + '[' * 100_000 + '\n')
    file.write('{"step": 1, "ru')
  with metrics.Writer(tmp_path, resume_step=3) as writer:
    for step in range(3, 6):
      writer.write(step, {'run': 2.0})
  runs = [(r['step'], r['run']) for r in records(tmp_path)]
  assert runs == [(0, 1), (1, 1), (2, 1), (3, 2), (4, 2), (5, 2)]


def test_summary_replaces_the_old_one_whole(tmp_path, monkeypatch):
  metrics.summary(tmp_path, {'a': 1})
  metrics.summary(tmp_path, {'b': {'c': [math.inf, 2.0]}})
  text = (tmp_path / 'summary.json').read_text()
  assert json.loads(text) == {'b': {'c': [None, 2.0]}}
  with pytest.raises(TypeError):
    metrics.summary(tmp_path, {'a': object()})

  def full_disk(descriptor):
    raise OSError('no space')

  monkeypatch.setattr(os, 'fsync', full_disk)
  with pytest.raises(OSError, match='no space'):
    metrics.summary(tmp_path, {'c': 3})
  assert (tmp_path / 'summary.json').read_text() == text


def test_step_line():
  assert metrics.step_line(3, 18, STEP) == (
    'step 3/18  reward 0.23  pass 0.23  len 21.4  trunc 0.02  ent 0.61  '
    'mis 1e-6  412 tok/s  sample 6.1s  cpu 11.8s  judge 0.1s  update 14.2s  '
    'cpu 27.9s  eta 5m00s'
  )


@pytest.mark.parametrize(
  'seconds, words',
  [(2.0, 'eta 30s'), (500.0, 'eta 2h05m'), (math.nan, 'eta ?')],
)
def test_time_left(seconds, words):
  line = metrics.step_line(3, 18, STEP | {'seconds_step': seconds})
  assert line.endswith(words)


def test_step_line_shows_what_is_not_finite_and_misses_what_is_missing():
  line = metrics.step_line(3, 18, STEP | {'entropy': math.nan})
  assert 'ent nan' in line
  with pytest.raises(KeyError, match='entropy'):
    metrics.step_line(3, 18, {k: STEP[k] for k in STEP if k != 'entropy'})


def test_rollouts_show_question_answer_text_and_verdict():
  text = metrics.format_rollouts(
    [group('so\n42'), group(), group(prompt_id='unseen')],
    RULES,
    count=2,
    max_chars=100,
  )
  assert text.split('\n')[:5] == [
    'p  rollout 0  3 tokens, ended by stop  right: ok',
    '  Q What?',
    '  A 42',
    '  > so',
    '  > 42',
  ]
  assert 'unseen' not in text


@pytest.mark.parametrize(
  'status, truncated, soft, line',
  [
    (
      'right',
      'zero',
      0,
      '  reward: 0, because the answer is right; the response was cut off at 8 '
      "tokens and objective.truncated is 'zero'",
    ),
    (
      'right',
      'score',
      4,
      '  reward: 0, because the answer is right; the response was cut off at 8 '
      'tokens; it loses 1 because 8 tokens are among the last 4 before the '
      'limit of 8 (objective.overlong_tokens)',
    ),
    *(
      (
        status,
        'mask',
        0,
        '  in the loss: no: masked, because the response was cut off at 8 '
        "tokens and objective.truncated is 'mask'",
      )
      for status in ('right', 'wrong', 'unparsed')
    ),
    ('right', 'score', 0, '  Q What?'),
    ('wrong', 'zero', 0, '  Q What?'),
    ('timeout', 'mask', 0, '  Q What?'),
  ],
)
def test_rollouts_say_what_a_verdict_does_not_suggest(
  status, truncated, soft, line
):
  text = metrics.format_rollouts(
    [group(status=status, stop='length', length=8)],
    objective.Rules(truncated, soft, 8),
    count=1,
    max_chars=100,
  )
  assert text.split('\n')[1] == line


def test_hostile_text_cannot_reach_the_terminal_or_forge_a_line():
  hostile = (
    '\x1b[2J\x1b]0;title\x07 \r\x00\x7f\x9b31m \u202e\u2066\u200b\ud800'
    '\u2028\nstep 9/9  reward 1.00'
  )
  text = metrics.format_rollouts(
    [group(hostile, prompt_id=hostile, detail=hostile)],
    RULES,
    count=1,
    max_chars=1000,
  )
  assert all(c.isprintable() or c == '\n' for c in text)
  text.encode()
  assert '\\x1b[2J' in text and '\\u202e' in text
  assert not any(line.startswith('step') for line in text.splitlines())
  assert len(text.splitlines()) == 5
  assert (
    terminal.printable('naïve $\\frac{1}{2}$ 中') == 'naïve $\\frac{1}{2}$ 中'
  )


@pytest.mark.parametrize('n', [0, 1, 10, 11, 12, 5000])
@pytest.mark.parametrize('max_chars', [0, 1, 11])
def test_cut_keeps_both_ends_and_counts_the_rest(n, max_chars):
  text = ''.join(chr(0x4E00 + i) for i in range(n))
  short = terminal.cut(text, max_chars)
  if n <= max_chars:
    assert short == text
    return
  head, note, tail = short.split(' ... ')
  assert note == f'[{n - max_chars} characters cut]'
  assert len(head) + len(tail) == max_chars
  assert text.startswith(head) and text.endswith(tail)


def test_progress_draws_on_a_terminal_only(monkeypatch):
  for stream, drawn in ((io.StringIO(), False), (Terminal(), True)):
    monkeypatch.setattr(sys, 'stderr', stream)
    with terminal.progress_bar(7, done=3) as advance:
      advance()
      advance()
    assert ('5/7' in stream.getvalue()) == drawn
    assert bool(stream.getvalue()) == drawn


def test_progress_leaves_a_redirected_stdout_alone(monkeypatch):
  out, err = io.StringIO(), Terminal()
  monkeypatch.setattr(sys, 'stdout', out)
  monkeypatch.setattr(sys, 'stderr', err)
  with terminal.progress_bar(2, done=0):
    print('line')
  assert out.getvalue() == 'line\n' and 'line' not in err.getvalue()


@pytest.mark.skipif(sys.platform != 'linux', reason='reads /proc')
def test_peak_gb_is_what_the_kernel_says():
  status = pathlib.Path('/proc/self/status').read_text()
  peak_kib = int(re.search(r'VmHWM:\s+(\d+) kB', status)[1])
  assert metrics.peak_gb() == pytest.approx(peak_kib * 1024 / 1e9, rel=0.05)
