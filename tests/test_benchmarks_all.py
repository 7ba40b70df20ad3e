"""The page of benchmarks.all, from values as the benchmarks print them."""

import json
import re
import subprocess
import sys

import pytest

from benchmarks import all as every

TRL = dict(cpu_seconds=229.2, wall_seconds=120.0, peak_gb=19.4)
VALUES = {
  'step': dict(
    cpu_seconds=140.5,
    wall_seconds=71.0,
    sample_cpu_seconds=40.5,
    update_cpu_seconds=100.0,
    peak_gb=4.2,
    vs_trl=1.63,
    peak_gflop_per_cpu_s=83.0,
    floor_tflop=4.86,
    floor_cpu_seconds=58.6,
    floor_ratio=2.4,
    peers=dict(trl=TRL),
  ),
  'tail': dict(
    occupancy=0.902,
    occupancy_waiting=0.99,
    lockstep_occupancy=0.374,
    tokens_per_second=189.0,
    cpu_seconds=364.0,
    lockstep_cpu_seconds=1091.0,
    vs_lockstep=2.98,
    vs_lockstep_cpu=3.0,
    host_share=0.004,
  ),
  'short': {
    f'{name}_{count}': value
    for count in (8, 64)
    for name, value in dict(
      cpu_seconds=4.6,
      lockstep_cpu_seconds=4.26,
      vs_lockstep=0.93,
      hf_cpu_seconds=12.2,
      vs_hf=2.65,
    ).items()
  },
  'long': {
    f'{name}_{context}': value
    for context in (256, 2048)
    for name, value in dict(
      cpu_ms_a_step=312.0,
      wall_ms_a_step=176.0,
      ms_a_token=2.7,
      floor_flop_cpu_ms=98.0,
      floor_byte_ms=34.0,
      floor_ratio=3.18,
    ).items()
  },
  'kv': {
    f'{dtype}_{name}': 3e-5
    for dtype in ('float32', 'bfloat16', 'float8_e4m3fn')
    for name in ('mean', 'max')
  },
  'weights': {
    f'{dtype}_{name}': 3e-5
    for dtype in ('float32', 'int8', 'float8_e4m3fn')
    for name in ('mean', 'max', 'over')
  },
  'update': {
    name.replace('@', case): 1.5
    for case in ('16x128', '2x1024')
    for name in (
      *('vs_torch_@', 'memory_@'),
      *('ours_@_tokens_per_cpu_s', 'ours_@_peak_gb', 'ours_@_peak_share'),
      *('torch_@_tokens_per_cpu_s', 'torch_@_peak_gb', 'torch_@_peak_share'),
    )
  },
  'math': dict(
    workers=2,
    exact_per_s=59500.0,
    exact_floor_per_s=182000.0,
    floor_ratio=3.06,
    mixed_per_s=580.0,
    mixed_math_verify_per_s=85.0,
    batch_1024_seconds=0.8,
    hostile_count=2220,
    hostile_p50_ms=0.5,
    hostile_p99_ms=94.0,
    hostile_slowest_ms=207.0,
    hostile_right=0,
    hostile_failed=0,
    memory_verdicts=2000,
    memory_grown_mb=6.0,
  ),
  'code': dict(
    tier='T3',
    trivial_per_s=152.0,
    trivial_20_tests_per_s=165.0,
    trivial_100_tests_per_s=175.0,
    program_ms=70.0,
    overhead_share=0.1,
    start_ms=5.3,
    worker_start_s=0.18,
    runs=2000,
    runs_right=2000,
    runs_stray_processes=0,
    runs_grown_mb=-0.2,
  ),
}
ABOUT = every.machine() | dict(best=162.0, worst=83.0)


def results(values):
  return {
    name: every.Result(f'python -m {name}', found, '')
    for name, found in values.items()
  }


def rows(page):
  """The cells of every line of a table."""
  lines = [line for line in page.splitlines() if line.startswith('|')]
  return [[cell.strip() for cell in line[1:-1].split('|')] for line in lines]


def test_the_template_has_a_table_for_each_part():
  names = re.findall(r'^@(\w+)$', every.PAGE.read_text(), flags=re.M)
  assert names == [*every.PARTS, 'values']


def test_all_values_are_in_the_page():
  page = every.page(ABOUT, results(VALUES))
  template = rows(every.PAGE.read_text())
  found = rows(page)
  assert len(found) == len(template)
  for cells, source in zip(found, template):
    assert len(cells) == len(source)
    for cell, wanted in zip(cells, source):
      assert bool(cell) == bool(wanted), (source, wanted)
      if '{' in wanted:
        literal = re.sub(r'{[^}]*}', '', wanted)
        assert len(cell) > len(literal), (source, wanted)
  assert ['TRL', '229.2', '120.0', '19.40'] in found
  assert ['8', '4.60', '4.26', '0.93', '12.20', '2.65'] in found
  assert '{' not in page.partition('\n    {')[0]
  # The values can be read again.
  assert json.loads(page.splitlines()[-1]) == VALUES


def test_a_missing_peer_gives_empty_cells():
  values = {
    name: {k: v for k, v in found.items() if not re.search('trl|hf|peers', k)}
    for name, found in VALUES.items()
  }
  values['update'] = {
    k: v for k, v in VALUES['update'].items() if k.startswith('ours')
  }
  found = rows(every.page(ABOUT, results(values)))
  assert ['TRL', '', '', ''] in found
  assert ['8', '4.60', '4.26', '0.93', '', ''] in found
  assert ['16 x 128', '2', '', '', '1.50', '', '', '1.50', ''] in found


def test_a_failed_part_is_a_line_and_the_others_are_there():
  found = results(VALUES)
  found['math'] = every.Result('python -m math', {}, 'exit status 1: no memory')
  page = every.page(ABOUT, found)
  assert '`python -m math` **failed**: exit status 1: no memory\n' in page
  assert 'plain numbers' not in page and 'runs of a trivial' in page
  assert 'math' not in json.loads(page.splitlines()[-1])


def test_a_section_without_parts_is_left_out():
  page = every.page(ABOUT, results({'update': VALUES['update']}))
  assert re.findall('^## (.*)$', page, flags=re.M) == ['One update']


@pytest.mark.parametrize(
  'code, values, problem',
  [
    ('print("table"); print(\'{"a": 1}\')', {'a': 1}, ''),
    ('raise MemoryError("of no use")', {}, 'exit status 1: MemoryError: of no'),
    ('print("no JSON")', {}, 'exit status 0: no JSON'),
    ('', {}, 'exit status 0: '),
  ],
)
def test_what_a_benchmark_printed_is_read(code, values, problem, monkeypatch):
  real, asked = subprocess.run, []

  def run(words, **how):
    asked.extend(words)
    return real([sys.executable, '-c', code], **how)

  monkeypatch.setattr(subprocess, 'run', run)
  part = every.Part('step', '--steps 1', 'trl', '--peer=trl=')
  found = every.run(part, True, '/bin/peer')
  words = '-m benchmarks.step --steps 1 --peer=trl='
  assert ' '.join(asked[1:]) == f'{words}/bin/peer'
  assert found.command == f'python {words}PYTHON'
  assert found.values == values and found.problem.startswith(problem)
  assert bool(found.problem) == bool(problem)


def test_the_exit_status_tells_of_a_failure(monkeypatch, capsys):
  def run(part, quick, python):
    problem = 'exit status 1: broken' if part.command == 'update' else ''
    return every.Result(part.command, {} if problem else {'a': 1}, problem)

  monkeypatch.setattr(every, 'run', run)
  monkeypatch.setattr(every.step, 'peak_flops', lambda: 1e11)
  for parts, status in (('kv update code', 1), ('kv tail', 0)):
    words = ['all', '--quick', '--parts', *parts.split()]
    monkeypatch.setattr(sys, 'argv', words)
    assert every.main() == status
    page = capsys.readouterr().out
    assert '`rollout --cases kv`' in page and 'tail' not in page
    assert ('`judges code`' in page) == bool(status)
    assert 'at 100 GFLOP' in page
