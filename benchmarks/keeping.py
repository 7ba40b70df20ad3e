r"""What a step costs to keep: CPU seconds, and bytes of a token.

    python -m benchmarks.keeping --groups 128 --rollouts 16 --tokens 10000

The tokens are those of this repository's documents and sources by the embedded
model's tokenizer; their numbers are drawn. `--generated FILE` takes rollouts
that `generate --tokens` wrote instead, for the bytes.
"""

import argparse
import json
import pathlib
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet

from acereason_jax import types
from acereason_jax.data import archive
from acereason_jax.models import characters, embedded, tokens
from acereason_jax.rl import objective
from acereason_jax.run import keeper, keeping, scoring

ROOT = pathlib.Path(__file__).parent.parent
RULES = objective.Rules('mask', 0, 32_768)
OBJECTIVE = objective.Objective(
  RULES, 1e-6, 'group', 'token', 'tempered', 1, False
)
STEP_SECONDS = 180.0


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
  """Its result, and CPU seconds of the whole process."""
  began = time.process_time()
  return call(), time.process_time() - began


def drawn(random: np.random.Generator, count: int, share: float) -> np.ndarray:
  """Nats, a share of which is above 0.01: most tokens are certain."""
  low = random.exponential(1e-3, count)
  high = random.exponential(1.0, count)
  return np.where(random.random(count) < share, high, low).astype(np.float32)


def corpus(tokenizer: tokens.Tokenizer) -> np.ndarray:
  files = sorted([*ROOT.glob('*.md'), *ROOT.glob('docs/*.md')])
  files += sorted(ROOT.glob('acereason_jax/**/*.py'))
  ids = [np.array(tokenizer.encode(f.read_text()), np.int32) for f in files]
  return np.concatenate(ids)


def groups_of(
  args: argparse.Namespace, text: np.ndarray, to_text: Callable
) -> list[types.Group]:
  """Slices of the corpus one after the other, as often as there are any."""
  random, found = np.random.default_rng(0), []
  for p in range(args.groups):
    name, rollouts, verdicts = f'prompt-{p}', [], []
    for i in range(args.rollouts):
      at = (p * args.rollouts + i) * args.tokens + np.arange(args.tokens)
      ids = text[at % len(text)]
      logp = -drawn(random, args.tokens, 0.4)
      rollouts.append(
        types.Rollout(name, i, ids, logp, logp, 'stop', to_text(ids), 0.3)
      )
      status = 'right' if random.random() < 0.5 else 'wrong'
      verdicts.append(types.Verdict(status, 'expected 12, got 13', 0.0))
    prompt = types.Prompt(name, 'What is 5 + 7?', '12', text[:100], 'math')
    found.append(types.Group(prompt, tuple(rollouts), tuple(verdicts)))
  return found


def kept_of(groups: list[types.Group], reasons: dict[int, str]) -> keeping.Kept:
  random = np.random.default_rng(1)
  parts = objective.assign_advantages(groups, OBJECTIVE)
  size = {r.key: len(r.tokens) for g in groups for r in g.rollouts}
  scores = {
    key: scoring.Score(
      np.zeros(size[key], np.float32),
      drawn(random, size[key], 0.4),
      drawn(random, size[key], 0.1) * np.float32(1e-2),
    )
    for key in sorted(keeping.keys(groups, reasons))
  }
  keys = objective.gradient_keys(parts, every=False)
  training = keeping.Training(OBJECTIVE, groups, keys, scores)
  place = archive.Place(17, archive.TRAIN)
  return keeping.Kept(place, 'math_8k', groups, reasons, training)


def sizes(texts: list[archive.Text]) -> None:
  """Prints the bytes a token of each column of a file of texts."""
  data = archive.texts_to_bytes(texts)
  count = sum(len(t.tokens) for t in texts)
  head = pyarrow.parquet.read_metadata(pyarrow.BufferReader(data))
  columns: dict[str, int] = {}
  for i in range(head.num_row_groups):
    for j in range(head.num_columns):
      column = head.row_group(i).column(j)
      name = column.path_in_schema.partition('.')[0]
      columns[name] = columns.get(name, 0) + column.total_compressed_size
  print(f'{len(texts)} texts, {count:,} tokens, {len(data):,} bytes')
  told = ', '.join(f'{n} {s / count:.2f}' for n, s in columns.items())
  print(f'bytes a token: {len(data) / count:.2f}; {told}')


def costs(args: argparse.Namespace, groups: list, to_text: Callable) -> None:
  """Prints the CPU seconds of a step's parts, on both threads."""
  choose = lambda: keeping.choose(
    groups, set(), seed=0, step=17, count=args.keep, rules=RULES
  )
  reasons, choosing = timed(choose)
  kept = kept_of(groups, reasons)
  rows, making = timed(lambda: list(keeping.rows(kept)))
  data, encoding = timed(lambda: archive.rows_to_bytes(rows))
  print(f'{len(reasons)} groups keep their texts; {len(rows):,} rows')
  print(f'rows: {len(data) / len(rows):.1f} bytes each')
  spelled = characters.Characters(to_text)
  texts, spelling = timed(lambda: keeping.texts(kept, spelled))
  _, packing = timed(lambda: archive.texts_to_bytes(texts))
  with (
    tempfile.TemporaryDirectory() as folder,
    keeper.Keeper(folder, None, 10.0, to_text) as writer,
  ):
    began = time.thread_time()
    writer.keep(kept)
    handing = time.thread_time() - began
    _, waiting = timed(writer.wait)
  behind = making + encoding + spelling + packing
  for name, seconds in (
    ('main thread: choose', choosing),
    ('main thread: hand over', handing),
    ('writer: rows', making),
    ('writer: rows to bytes', encoding),
    ('writer: texts, characters and codes', spelling),
    ('writer: texts to bytes', packing),
    ('writer: all of it again, files and all', waiting),
  ):
    print(f'{name}: {seconds:.3f} CPU s')
  share = (choosing + handing + behind) / STEP_SECONDS
  print(f'all: {share:.4%} of a step of {STEP_SECONDS:.0f} s')
  sizes(texts)


def generated(path: str, to_text: Callable) -> list[archive.Text]:
  """The texts of rollouts that `generate --tokens` wrote."""
  spelled, found = characters.Characters(to_text), []
  for line in pathlib.Path(path).read_text().splitlines():
    one = json.loads(line)
    ids = np.array(one['tokens'], np.int32)
    found.append(
      archive.Text(
        one['id'],
        one['index'],
        '',
        '',
        one['text'],
        ids,
        spelled.of(ids, one['text']),
        archive.SURPRISE.codes(-np.array(one['logps'])),
        None,
        None,
      )
    )
  return found


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--groups', type=int, default=128)
  parser.add_argument('--rollouts', type=int, default=16)
  parser.add_argument('--tokens', type=int, default=10_000)
  parser.add_argument('--keep', type=int, default=2)
  parser.add_argument('--generated')
  args = parser.parse_args()
  tokenizer = tokens.load_tokenizer(str(embedded.path('smollm2-135m')))
  to_text = lambda ids: tokens.decode(tokenizer, ids)
  if args.generated:
    sizes(generated(args.generated, to_text))
  else:
    text = corpus(tokenizer)
    print(f'{len(text):,} tokens of this repository')
    costs(args, groups_of(args, text, to_text), to_text)
  tokenizer.close()


if __name__ == '__main__':
  main()
