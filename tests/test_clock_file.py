"""clock.jsonl keeps a line a step, whatever ends its process."""

import errno
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time

import object_store
import pytest
import tiny

from acereason_jax import storage
from acereason_jax.run import account as account_lib
from acereason_jax.run import clock_file

GUARD = 60


class Hands:
  """An account whose seconds are all of one kind, moved by hand."""

  def __init__(self):
    self.now = 0.0
    self.account = account_lib.Account(clock=lambda: self.now)


@pytest.fixture
def said():
  return []


@pytest.fixture
def opened(tmp_path, said):
  """Opens the clock of a start in tmp_path; the thread never gets its turn."""

  def open_clock(hands, root=None, step=0):
    root = os.fspath(tmp_path) if root is None else root
    return clock_file.opened(tmp_path, root, hands.account, step, said.append)

  return open_clock


def lines(folder):
  text = (folder / clock_file.NAME).read_text()
  assert text.endswith('\n')
  return [json.loads(line) for line in text.splitlines()]


def brief(folder):
  """(start, step, seconds) of each line."""
  return [
    (line['start'], line['step'], sum(line['seconds'].values()))
    for line in lines(folder)
  ]


def test_a_line_a_step_and_one_for_the_end(opened, tmp_path, said):
  hands = Hands()
  with opened(hands, step=4) as clock:
    assert brief(tmp_path) == [(0, 4, 0)]
    hands.now += 1
    clock.write()
    hands.now += 2
    clock.steps_begin(4)
    for step in (5, 6):
      for _ in range(3):
        hands.now += 4
        clock.write()
        # The line of the step that is going on is the last.
        assert brief(tmp_path)[-1][:2] == (0, step - 1)
      clock.step_ended(step)
    hands.now += 8
  want = [(0, 4, 3), (0, 5, 12), (0, 6, 12), (0, 6, 8)]
  assert brief(tmp_path) == want
  hands = Hands()
  with opened(hands, step=5) as clock:
    hands.now += 1
    clock.steps_begin(5)
    hands.now += 1
    clock.step_ended(6)
  # Lines of earlier starts stay, those of repeated steps too.
  assert brief(tmp_path) == [*want, (1, 5, 1), (1, 6, 1), (1, 6, 0)]
  kinds = [list(line['seconds']) for line in lines(tmp_path)]
  assert kinds[:2] == [['start'], ['between']]
  times = [line['time'] for line in lines(tmp_path)]
  assert times == sorted(times) and abs(times[-1] - time.time()) < 3600
  assert not said


def test_a_shorter_line_leaves_nothing_of_a_longer(opened, tmp_path):
  hands = Hands()
  with opened(hands) as clock:
    hands.now += 1.234567
    clock.write()
    hands.now += 1 - 0.234567
    clock.write()
    assert brief(tmp_path) == [(0, 0, 2)]


@pytest.mark.parametrize('torn', ['', '{"start": 7', '\0\0', '{"start": 9}\n'])
def test_a_torn_line_does_not_spoil_the_next(opened, tmp_path, torn):
  good = account_lib.Line(7, 2, 5.0, dict(sample=1.0))
  file = tmp_path / clock_file.NAME
  file.write_text(account_lib.to_text(good) + torn)
  with opened(Hands()):
    pass
  old, new = account_lib.read(file.read_text())
  assert old == good and new.start == 8


def test_a_process_that_is_killed_leaves_all_but_the_last_seconds(tmp_path):
  code = """
import sys, time
from acereason_jax.run import account, clock_file
clock_file.SECONDS = 0.05
own = account.Account()
with clock_file.opened(sys.argv[1], sys.argv[1], own, 0, print) as clock:
  clock.steps_begin(0)
  own.phases(('update',))
  print('began', flush=True)
  time.sleep(1000)
"""
  process = subprocess.Popen(
    [sys.executable, '-c', code, tmp_path],
    stdout=subprocess.PIPE,
    text=True,
    env=tiny.environment(tmp_path),
  )
  assert process.stdout.readline() == 'began\n'
  # The rest of a longer line may be there until the file is cut.
  text = (tmp_path / clock_file.NAME).read_text
  newest = lambda: account_lib.read(text())[-1]
  give_up = time.monotonic() + GUARD
  while newest().seconds.get('update', 0) < 0.5:
    assert time.monotonic() < give_up
    time.sleep(0.05)
  process.send_signal(signal.SIGKILL)
  process.communicate()
  assert newest().seconds['update'] >= 0.5 and newest().step == 0


def test_a_full_disk_costs_a_line_and_no_second(
  opened, tmp_path, said, monkeypatch
):
  hands, pwrite = Hands(), os.pwrite
  full = False

  def limited(file, data, place):
    """A disk that is full takes a part first."""
    if full and len(data) < 20:
      raise OSError(errno.ENOSPC, 'No space left on device')
    return pwrite(file, data[: len(data) // 2] if full else data, place)

  monkeypatch.setattr(os, 'pwrite', limited)
  with opened(hands) as clock:
    clock.steps_begin(0)
    hands.now += 1
    clock.step_ended(1)
    full = True
    for step in (2, 3):
      hands.now += 1
      clock.step_ended(step)
    full = False
    hands.now += 1
    clock.step_ended(4)
  assert brief(tmp_path) == [(0, 0, 0), (0, 1, 1), (0, 4, 3), (0, 4, 0)]
  assert said == [
    'WARNING: clock.jsonl: No space left on device; the clock of this run has '
    'gaps'
  ]


def test_what_is_no_file_of_a_run_costs_the_clock(
  opened, tmp_path, said, monkeypatch
):
  file = tmp_path / clock_file.NAME
  other = tmp_path / 'other'
  other.write_text('mine')

  def large():
    file.write_bytes(b'x' * 100)
    monkeypatch.setattr(clock_file, 'MOST_BYTES', 99)

  for make in (
    file.mkdir,
    lambda: file.symlink_to(other),
    lambda: os.mkfifo(file),
    large,
  ):
    make()
    with opened(Hands()) as clock:
      assert clock is None
    assert said.pop().endswith('; this start has no clock') and not said
    if file.is_dir():
      file.rmdir()
    else:
      file.unlink()
  assert other.read_text() == 'mine'


def test_two_threads_leave_whole_lines(opened, tmp_path, monkeypatch):
  monkeypatch.setattr(clock_file, 'SECONDS', 1e-4)
  account = account_lib.Account()
  hands = Hands()
  hands.account = account
  kinds = itertools.cycle([('sample',), ('update',), ()])
  with opened(hands) as clock:
    clock.steps_begin(0)
    for step in range(1, 301):
      account.phases(next(kinds))
      clock.step_ended(step)
  found = account_lib.read((tmp_path / clock_file.NAME).read_text())
  assert [line.step for line in found] == [*range(301), 300]
  assert len(lines(tmp_path)) == 302


def test_a_bucket_gets_the_file_while_the_run_goes_on(
  opened, tmp_path, said, monkeypatch, tmp_path_factory
):
  monkeypatch.setattr(clock_file, 'SECONDS', 0.05)
  monkeypatch.setattr(clock_file, 'UPLOAD_SECONDS', 0.1)
  url = 'gs://runs/clocked'
  with (
    object_store.started(tmp_path_factory.mktemp('objects')) as store,
    opened(Hands(), url) as clock,
  ):
    clock.steps_begin(0)
    clock.step_ended(1)
    give_up = time.monotonic() + GUARD
    while True:
      content = storage.read(f'{url}/{clock_file.NAME}', 1000) or b''
      if len(account_lib.read(content.decode())) == 3:
        break
      assert time.monotonic() < give_up
      time.sleep(0.05)
    # A store without rights is a line, once.
    store.forbidden.add('runs')
    while not said:
      assert time.monotonic() < give_up
      time.sleep(0.05)
    clock.step_ended(2)
  assert [line[1] for line in brief(tmp_path)] == [0, 1, 2, 2]
  assert len(said) == 1 and said[0].startswith('WARNING: clock.jsonl: gs://')
  assert not any(t.name == 'clock' for t in threading.enumerate())
