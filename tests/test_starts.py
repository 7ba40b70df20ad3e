"""A run that dies again and again where it began is not started once more."""

import contextlib
import json
import signal
import types

import pytest
import tiny
from runs import Command

from acereason_jax.console import signals
from acereason_jax.hosts import watchdog
from acereason_jax.run import starts, versions
from acereason_jax.run.values import Stopped

DIED = starts.Start('then', 'host-a', 1, 'code', 4, 20, 'update')


@pytest.mark.parametrize(
  'before, vain',
  [
    ([], 0),
    ([DIED], 1),
    ([DIED] * 5, 5),
    # It was the start before that found nothing new.
    ([DIED._replace(entries=10), DIED], 1),
    ([DIED._replace(step=3), DIED], 1),
    ([DIED, DIED._replace(ended='asked')], 0),
    ([DIED, DIED._replace(ended='told')], 0),
    ([DIED, DIED._replace(ended='done'), DIED], 1),
    ([DIED, DIED._replace(what='other code'), DIED], 1),
    ([DIED, DIED._replace(processes=2)], 0),
  ],
)
def test_which_starts_were_in_vain(before, vain):
  assert len(starts.in_vain(before, DIED)) == vain


def test_how_a_start_ends_is_written(tmp_path):
  """What nobody can fix by a line is written as a death."""
  ends = [
    (None, 'done'),
    (signals.Asked(), 'asked'),
    (Stopped('a limit'), 'told'),
    (OSError('no room'), 'told'),
    (KeyboardInterrupt(), 'told'),
    (RuntimeError('a bug'), ''),
  ]
  for error, _ in ends:
    kind = pytest.raises(type(error)) if error else contextlib.nullcontext()
    with kind, starts.recorded(tmp_path, DIED), watchdog.phase('sample'):
      if error:
        raise error
  lines = (tmp_path / starts.NAME).read_text().splitlines()
  found = [json.loads(line) for line in lines]
  assert [(f['ended'], f['phase']) for f in found] == [
    (ended, 'sample') for _, ended in ends
  ]


def test_a_users_own_code_that_was_fixed_is_another_try(tmp_path, monkeypatch):
  file = tmp_path / 'own_loss.py'
  monkeypatch.syspath_prepend(tmp_path)
  run = types.SimpleNamespace(config=dict(loss=dict(fn='own_loss:loss')))
  file.write_text('broken')
  before = starts.digest(run)
  assert starts.digest(run) == before
  file.write_text('fixed')
  assert starts.digest(run) != before


def test_lines_that_no_run_wrote_count_for_nothing(tmp_path):
  good = json.dumps(DIED._asdict())
  bad = [
    *('', '[]', '{}', 'null', '{"step": 1}', '[' * 10**5, '\0', good[:-5]),
    json.dumps(DIED._asdict() | dict(step='4')),
    json.dumps(DIED._asdict() | dict(more=1)),
    json.dumps(DIED._asdict() | dict(made=[])),
  ]
  file = tmp_path / starts.NAME
  file.write_text('\n'.join([*bad, good, good]))
  with starts.recorded(tmp_path, DIED):
    pass
  assert len(file.read_text().splitlines()) == 3
  file.write_text('\n'.join([*bad, good, good, good]))
  with pytest.raises(Stopped, match=r"3 starts .* in phase 'update': look at"):
    starts.recorded(tmp_path, DIED).__enter__()


def test_a_line_of_an_older_version_counts(tmp_path):
  """It says nothing of what made it; no start loses what another says."""
  old = {k: v for k, v in DIED._asdict().items() if k not in ('made', 'config')}
  file = tmp_path / starts.NAME
  file.write_text(json.dumps(old))
  for number in (1, 2):
    here = DIED._replace(made=dict(version=f'{number}'))
    with starts.recorded(tmp_path, here):
      pass
  found = [json.loads(line) for line in file.read_text().splitlines()]
  assert [line['made'] for line in found] == [{}, {'version': '1'}, here.made]


def test_a_folder_that_goes_meanwhile_does_not_hide_why(tmp_path):
  folder = tmp_path / 'run'
  folder.mkdir()
  with (
    pytest.raises(OSError, match='the real reason'),
    starts.recorded(folder, DIED),
  ):
    (folder / starts.NAME).unlink()
    folder.rmdir()
    raise OSError('the real reason')


def test_three_starts_in_vain_end_a_run(compiled, tmp_path):
  tiny.write(tmp_path)
  workdir = tmp_path / 'run'
  command = lambda **how: Command(tmp_path, compiled, workdir, **how)
  # The first start draws the rollouts of a step; the second finds them.
  for _ in range(2):
    assert command(script='add@0').end() == -signal.SIGKILL
  file = workdir / 'starts.jsonl'
  lines = file.read_text().splitlines()
  file.write_text('\n'.join([*lines, lines[-1], lines[-1]]))
  last = command().ends(1).splitlines()[-1]
  assert last == (
    f'error: {workdir}: 3 starts without progress, the last ended in phase '
    "'microbatch': look at its stacks-*.txt and output; remove "
    f'{workdir}/starts.jsonl to try again'
  )
  file.unlink()
  command().ends(0)
  (line,) = file.read_text().splitlines()
  found = json.loads(line)
  assert found['ended'] == 'done'
  assert found['made'] == versions.here()._replace(devices=1)._asdict()


def test_a_file_of_another_size_is_one_line(tmp_path):
  (tmp_path / starts.NAME).write_bytes(b'x' * (starts._MAX_BYTES + 1))
  with (
    pytest.raises(SystemExit, match=r'^error: .*more than 1,048,576 '),
    starts.recorded(str(tmp_path), DIED),
  ):
    pass
