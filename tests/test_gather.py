"""What every process gives comes to all of them, whole and in order."""

import subprocess
import sys

import gangs
import gathering
import tiny

from acereason_jax.hosts import gather


def test_everyone_gets_everything(tmp_path):
  count = 3
  at = f'127.0.0.1:{gangs.free_port()}'
  script = str(tiny.TESTS / 'gathering.py')
  started = [
    subprocess.Popen(
      [sys.executable, script, at, str(count), str(i)],
      stdout=subprocess.PIPE,
      env=tiny.environment(tmp_path),
      text=True,
    )
    for i in range(count)
  ]
  wanted = [
    gathering.digest(gathering.share(i, size) for i in range(count))
    for size in gathering.SIZES
  ]
  for process in started:
    lines = process.communicate(timeout=300)[0].splitlines()
    said = [line for line in lines if not line.startswith('[Gloo]')]
    assert process.returncode == 0 and said == wanted


def test_one_process_gets_its_own():
  assert gather.everyones(b'all') == [b'all']
