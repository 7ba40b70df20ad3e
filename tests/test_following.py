"""The steps of a run that goes on, as they are read from its file."""

import json
import math
import os
import random

import object_store
import pytest
from watching import curves, line, parse

from acereason_jax import storage
from acereason_jax.reporting import following


def test_answers_are_bounded_and_add_up():
  steps = list(range(3, 7000, 2))
  whole = curves([dict(step=s, a=float(s)) for s in steps])
  got, after, bands = [], -1, []
  while part := following.answer(whole, after)['steps']:
    found = following.answer(whole, after)
    assert len(part) <= following.MOST_STEPS
    assert found['series']['a'] == part
    assert found['restarts'] == [s for s in part if s % 5 == 0]
    for stage, first, last in found['bands']:
      assert {f'stage {s // 10}' for s in part if first <= s <= last} == {stage}
      bands.append((first, last))
    got += part
    after = part[-1]
  assert got == steps
  covered = [s for s in steps if any(a <= s <= b for a, b in bands)]
  assert covered == steps


def test_numbers_that_are_none_are_null():
  odd = (math.nan, math.inf, -math.inf, None, 1.0)
  whole = curves([dict(step=i, a=x) for i, x in enumerate(odd)])
  found = following.answer(whole, -1)
  assert found['series']['a'] == [None, None, None, None, 1.0]
  json.dumps(found, allow_nan=False)


def drained(lines):
  other, text = lines.read()
  while more := lines.read()[1]:
    text += '\n' + more
  return other, text.split('\n') if text else []


def test_each_line_comes_once_however_it_was_written(tmp_path):
  path = tmp_path / 'lines'
  source, lines = random.Random(5), following.Lines(str(path))
  assert lines.read() == (False, '')
  written, got = [], []
  with path.open('ab', buffering=0) as file:
    for i in range(300):
      text = f'{i} ' + 'é' * source.choice([0, 1, 30])
      data, written = text.encode() + b'\n', [*written, text]
      cut = source.randrange(len(data) + 1)
      for part in (data[:cut], data[cut:]):
        file.write(part)
        if source.random() < 0.5:
          other, fresh = drained(lines)
          got += fresh
          assert not other and got == written[: len(got)]
  assert got + drained(lines)[1] == written


def test_a_line_that_is_too_long_is_left_out(tmp_path, monkeypatch):
  monkeypatch.setattr(following, '_MOST_LINE', 20)
  monkeypatch.setattr(following, '_CHUNK', 7)
  path = tmp_path / 'lines'
  for long in (21, 27, 28, 29, *range(100, 108)):
    path.write_text(f'before\n{"x" * long}\nafter\nlast\n')
    lines, got = following.Lines(str(path)), []
    for _ in range(60):
      got += [x for x in lines.read()[1].split('\n') if x]
    assert got[0] == 'before' and got[-2:] == ['after', 'last']
    assert len(got) == 3 or (len(got) == 4 and long < 28)
    lines.close()


def test_a_file_that_takes_the_place_is_another(tmp_path):
  path, new = tmp_path / 'lines', tmp_path / 'new'
  path.write_text('a\nb\nc')
  lines = following.Lines(str(path))
  assert drained(lines) == (False, ['a', 'b'])
  # The same length, and more.
  for text in ('a\nx\nc', 'a\nx\nc\nd\n'):
    new.write_text(text)
    new.replace(path)
    assert drained(lines) == (True, text.split('\n')[: text.count('\n')])
  # Cut, in place.
  path.write_text('q\n')
  assert drained(lines) == (True, ['q'])
  path.unlink()
  assert drained(lines) == (True, [])
  assert drained(lines) == (False, [])
  path.write_text('r\n')
  assert drained(lines) == (False, ['r'])


def test_what_is_no_file_and_what_is_too_large(tmp_path, monkeypatch):
  os.mkfifo(tmp_path / 'pipe')
  with pytest.raises(OSError, match='not a file'):
    following.Lines(str(tmp_path / 'pipe')).read()
  monkeypatch.setattr(following, '_MOST_BYTES', 10)
  (tmp_path / 'large').write_text('x' * 20)
  lines = following.Lines(str(tmp_path / 'large'))
  with pytest.raises(ValueError, match='more than 10 bytes'):
    lines.read() and lines.read()


def test_that_it_was_another_file_is_not_lost_with_an_error(tmp_path):
  path = tmp_path / 'lines'
  path.write_text('a\nb\n')
  lines = following.Lines(str(path))
  assert drained(lines) == (False, ['a', 'b'])
  path.unlink()
  path.mkdir()
  with pytest.raises(OSError):
    lines.read()
  path.rmdir()
  path.write_text('a\n')
  assert drained(lines) == (True, ['a'])


def test_the_steps_of_a_bucket(tmp_path):
  with object_store.started(tmp_path) as store:
    path = f'gs://runs/{tmp_path.name}/metrics.jsonl'
    steps = following.Steps(path, parse, curves)
    seen = []
    for content in (
      None,
      line(1) + line(2)[:7],
      line(1) + line(2),
      line(1) + line(2),
      line(1) + line(2, a=9.0) + line(3),
      '',
    ):
      if content is not None:
        storage.write(path, content.encode())
      before = len(store.seen)
      steps.refresh()
      assert len(store.seen) - before <= 6
      found = steps.after(0)
      seen.append((found['steps'], found['series'].get('a'), steps.changes))
    assert seen == [
      ([], None, 0),
      ([1], [0.25], 1),
      ([1, 2], [0.25, 0.5], 2),
      ([1, 2], [0.25, 0.5], 2),
      ([1, 2, 3], [0.25, 9.0, 0.75], 3),
      ([], None, 4),
    ]
    assert steps.every >= 30
