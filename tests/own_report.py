"""What a run starts instead of its report, in tests: it does what RUN/how says.

Its page tells how it was started.
"""

import json
import os
import pathlib
import subprocess
import sys
import time

if __name__ == '__main__':
  run, *flags = sys.argv[1:]
  how = (pathlib.Path(run) / 'how').read_text()
  print(f'told to {how}', flush=True)
  if how == 'crash':
    raise RuntimeError('a report that crashes')
  if how == 'hang':
    child = subprocess.Popen(
      [sys.executable, '-c', 'import time; time.sleep(600)']
    )
    (pathlib.Path(run) / 'pids').write_text(f'{os.getpid()} {child.pid}')
    time.sleep(600)
  # The run sets it right after the start.
  while os.getpriority(os.PRIO_PROCESS, 0) != 19:
    time.sleep(0.01)
  page = next(f for f in flags if f.startswith('--out=')).removeprefix('--out=')
  told = dict(
    flags=flags,
    session=os.getsid(0) == os.getpid(),
    variables=dict(os.environ),
  )
  pathlib.Path(page).write_text(json.dumps(told))
