"""The script for a machine with a GPU, at tiny sizes without one."""

import json
import math

import pytest

from benchmarks import gpu


@pytest.mark.parametrize('part', ['attention', 'paged', 'logp'])
def test_kernels_are_next_to_float64(part):
  (found,) = gpu.RUNS[part](interpret=True)
  assert 0 < found['error'] < found['limit']
  assert found['seconds'] > 0 and found['floor']


@pytest.mark.slow
@pytest.mark.parametrize('part, rows', [('decode', 3), ('update', 3)])
def test_programs_of_the_small_shape_are_timed(part, rows):
  found = [*gpu.RUNS[part](interpret=True)]
  assert len(found) == rows
  assert all(math.isfinite(each['seconds']) for each in found)
  # A CPU has no peak in the table of machines, so no share.
  assert not any('share' in each for each in found)


@pytest.mark.slow
def test_a_part_that_fails_is_a_line_and_the_others_run(
  monkeypatch, tmp_path, capsys
):
  monkeypatch.setitem(gpu.PARTS, 'decode', 0.2)
  out = tmp_path / 'gpu.json'
  argv = ['--interpret', '--parts', 'decode', 'logp', '--out', str(out)]
  out.write_text('{"mine": 1}')
  with pytest.raises(SystemExit, match='not the figures of a GPU'):
    gpu.main(argv)
  assert out.read_text() == '{"mine": 1}'
  out.write_text('{"interpret": true, "about": {}}')
  assert gpu.main(argv) == 1
  told = capsys.readouterr().out
  assert '  failed: more than 0 s' in told and 'logp, 64 of 512' in told
  found = json.loads(out.read_text())
  assert found['interpret'] and not found['logp']['failed']
  assert found['about']['rows'][0]['platform'] == 'cpu'


def test_parts_together_take_at_most_twelve_minutes():
  assert sum(gpu.PARTS.values()) <= 12 * 60
