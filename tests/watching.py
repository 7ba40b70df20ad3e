"""Watches a folder, with a report of a few lines: watching.py RUN PORT."""

import contextlib
import itertools
import json
import pathlib
import sys

from acereason_jax.console import exits, terminal
from acereason_jax.reporting import following, values, watch

POLICY = "default-src 'none'; connect-src 'self'"


def page(text):
  steps = [json.loads(line)['step'] for line in text.splitlines()]
  return (
    f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    f'<p>steps {steps} \udc80'
  )


def parse(text):
  found = []
  for line in text.splitlines():
    with contextlib.suppress(ValueError):
      found.append(json.loads(line))
  return found


def curves(records):
  steps = [r['step'] for r in records]
  series = [
    values.Series(n, n, '', '', [r.get(n) for r in records]) for n in 'ab'
  ]
  bands = [
    values.Band(f'stage {name}', *(lambda x: (x[0], x[-1]))(list(group)))
    for name, group in itertools.groupby(steps, lambda step: step // 10)
  ]
  hours = [step / 2 for step in steps]
  tokens = [10 * step for step in steps]
  restarts = [s for s in steps if s % 5 == 0]
  return values.Curves('run', steps, hours, tokens, bands, restarts, series)


def line(step, **more):
  return json.dumps(dict(step=step, a=step / 4) | more) + '\n'


def main(folder, port):
  path = pathlib.Path(folder) / 'metrics.jsonl'

  def render():
    if not path.exists():
      raise ValueError(f'{folder}: no such <run>')
    return page(path.read_text())

  terminal.use_stdout()
  # Pages are made as soon as there is news.
  watch._POLLED = watch._SHARE = 0.0
  steps = following.Steps(str(path), parse, curves)
  with exits.one_line_for(OSError):
    watch.serve(render, steps, int(port))


if __name__ == '__main__':
  main(*sys.argv[1:])
