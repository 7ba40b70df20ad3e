"""The held-out pass rates of a run, from the rows that it keeps."""

import math

import pytest

from acereason_jax import evaluate
from acereason_jax.data import archive


def write(folder, step, phase, *answers):
  """Rows of answers: (domain, prompt, index, status, length, stop)."""
  place = archive.Place(step, phase)
  rows = [
    archive.Row(
      *(step, phase, 's', domain, prompt, index, status, '', 0.0),
      *(status == 'right', math.nan, False, False, length, stop),
      *(-1.0, 1.0, 'heldout'),
    )
    for domain, prompt, index, status, length, stop in answers
  ]
  path = folder / 'rollouts' / place.name
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes(archive.rows_to_bytes(rows))


def answers(domain, *statuses, length=100, stop='stop'):
  """Statuses of each problem, as a word of r, w, u, t."""
  words = dict(r='right', w='wrong', u='unparsed', t='timeout')
  return [
    (domain, f'{domain}/{i}', index, words[letter], length, stop)
    for i, problem in enumerate(statuses)
    for index, letter in enumerate(problem)
  ]


def show(folder, capsys):
  assert evaluate.main(['', f'--show={folder}']) == 0
  out = capsys.readouterr().out
  assert all(c.isprintable() or c == '\n' for c in out)
  lines = out.splitlines()
  assert all(len(line) <= 80 for line in lines)
  return [line.split() for line in lines[3:]]


def test_looks_by_hand(tmp_path, capsys):
  write(tmp_path, 0, 'before', *answers('math', 'rw', 'wu'))
  write(tmp_path, 3, 'train', *answers('math', 'rr', 'rr'))
  write(tmp_path, 3, 'probe', *answers('math', 'rr', 'rw'))
  write(
    tmp_path,
    20,
    'heldout',
    *answers('code', 'w', 'r', 'r', 'r', length=2_500, stop='length'),
    # A failed verdict is in no rate, and a problem of such ones is none.
    *answers('math', 'rrw', 'rt', 'tt'),
  )
  got = show(tmp_path, capsys)
  # sqrt(1/2 * 1/2 / 1) / 2 draws; sd(0.5, 0) / sqrt(2).
  assert got[0] == [
    *('0', 'math', '2x2', '25.0', '+-25.0', '+-25.0', '0.0%', '100', '0')
  ]
  # One draw of a problem has no error over draws; sd = 1/2.
  assert got[1] == [
    *('20', 'code', '4x1', '75.0', '-', '+-25.0', '100.0%', '2.5K', '0')
  ]
  # 2 of 3 and 1 of 1.
  assert got[2][:4] == ['20', 'math', '2x2', '83.3'] and got[2][-1] == '3'
  assert len(got) == 3


def test_nothing_that_was_judged(tmp_path, capsys):
  write(tmp_path, 5, 'heldout', *answers('a\x1b[2J', 'tt', 't'))
  ((step, domain, *rates),) = show(tmp_path, capsys)
  assert step == '5' and domain.startswith('a\\x1')
  assert rates == ['0x-', '-', '-', '-', '0.0%', '100', '3']


@pytest.mark.parametrize('data', [b'', b'PAR1', b'x' * 100])
def test_damaged_rows_are_one_line(tmp_path, data):
  write(tmp_path, 5, 'heldout', *answers('a', 'r'))
  name = archive.Place(5, 'heldout').name
  (tmp_path / 'rollouts' / name).write_bytes(data)
  with pytest.raises(SystemExit, match=f'{name}: no readable') as e:
    evaluate.main(['', f'--show={tmp_path}'])
  assert str(e.value).isprintable()


def test_a_run_without_held_out_answers_is_one_line(tmp_path):
  write(tmp_path, 3, 'train', *answers('math', 'rr'))
  with pytest.raises(SystemExit, match='no held-out answers'):
    evaluate.main(['', f'--show={tmp_path}'])
