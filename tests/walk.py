"""Runs README's commands one after the other in an empty folder, as CI does.

    python tests/walk.py FOLDER

The first one trains for 2 steps where README's trains for 18, and evaluations
ask twice where README's ask 16 times. The others are those of "What you get"
and the launcher's dry runs, to the letter.
"""

import json
import os
import pathlib
import re
import shlex
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
FILES = {
  'prompts.jsonl': [{'id': 'a', 'problem': 'What is 3 + 4?'}],
  'problems.jsonl': [{'id': 'a', 'problem': 'What is 3 + 4?', 'answer': '7'}],
}
MADE = (
  *('rollouts.jsonl', 'slots.html', 'my_model/config.json'),
  *('evals/trained/results.json', 'evals/trained/compare.json'),
  *('curated/cpu/rows.parquet', 'runs/quickstart/report.html'),
)


def sections(text: str) -> dict[str, str]:
  """{title: text} of a page's `##` sections."""
  parts = re.split(r'^## (.*)\n', text, flags=re.M)
  return dict(zip(parts[1::2], parts[2::2]))


def commands(text: str) -> list[str]:
  """Commands in indented blocks, without `&&` and what stands before it."""
  joined = text.replace('\\\n', ' ')
  lines = re.findall(
    r'^    (?:.*&& )?(python (?:-m|launch/\S+) .*)$', joined, flags=re.M
  )
  return [' '.join(line.split()) for line in lines]


def walked() -> list[str]:
  """The commands that `main` runs, as README has them."""
  page = sections((ROOT / 'README.md').read_text())
  everything = [c for section in page.values() for c in commands(section)]
  return [
    commands(page['Quick start'])[0],
    *commands(page['What you get']),
    *[c for c in everything if c.endswith(' --dry_run')],
  ]


def main(folder: str) -> None:
  os.chdir(folder)
  os.symlink(ROOT / 'configs', 'configs')
  for name, rows in FILES.items():
    text = ''.join(f'{json.dumps(row)}\n' for row in rows)
    pathlib.Path(name).write_text(text)
  for number, command in enumerate(walked()):
    words = shlex.split(command)
    if number == 0:
      words.append('--config.steps=2')
    if '--config=configs/eval_sums.py' in words:
      words.append('--config.benchmarks.sums.n=2')
    print('$', shlex.join(words), flush=True)
    if words[1] != '-m':
      words[1] = str(ROOT / words[1])
    subprocess.run([sys.executable, *words[1:]], check=True)
  summary = json.loads(pathlib.Path('runs/quickstart/summary.json').read_text())
  assert summary['steps'] == 2, summary
  for name in MADE:
    assert pathlib.Path(name).stat().st_size, name


if __name__ == '__main__':
  main(sys.argv[1])
