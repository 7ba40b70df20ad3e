"""The rule `contaminated`: no row may be like a problem of a benchmark.

Which rules there are, and why, stands in index.py and respelled.py. Each row
that goes has the words that it shares with an item as evidence.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence

from acereason_jax.data.curate import index as index_lib
from acereason_jax.data.curate import programming, respelled
from acereason_jax.data.curate.values import (
  Context,
  Fate,
  Item,
  Row,
  Step,
  dropped,
  kept,
)

_LEAST_N = 5
_SHOWN_CHARS = 300


def contaminated(n: int = 9, shared: int = 3, code: bool = False) -> Step:
  """Drops rows that are like an item of a benchmark.

  n: tokens of an n-gram; one is enough.
  shared: items that make an n-gram boilerplate, which counts only if a row
    covers half of an item.
  code: whether rows are tasks of programming: examples and constraints of a
    statement don't count, addresses and titles do.
  """
  if n < _LEAST_N:
    raise ValueError(
      f'contaminated: n={n}; expected at least {_LEAST_N} tokens: shorter runs '
      'are in unrelated problems'
    )
  if shared < 2:
    raise ValueError(
      f'contaminated: shared={shared}; expected at least 2 items'
    )
  return Step('contaminated', whole=functools.partial(_whole, n, shared, code))


def unsearchable(items: Sequence[Item]) -> list[Item]:
  """The items without a word or a number, which no rule can find."""
  return [item for item in items if not index_lib.has_tokens(item.text)]


def _whole(
  n: int, shared: int, code: bool, rows: Sequence[Row], context: Context
) -> list[Fate]:
  given = [i for i in context.items if index_lib.has_tokens(i.text)]
  # Whatever the order of benchmarks, a row has the same item as evidence.
  order = sorted(range(len(given)), key=lambda i: _name(given[i]))
  items = [given[i] for i in order]
  clean = programming.story if code else str
  index = index_lib.build(items, [clean(i.text) for i in items], n, shared)
  # A window that several have is the first one's: one that is added at the end
  # takes none away.
  windows = respelled.build([clean(item.text) for item in given])
  places = programming.places(items) if code else None
  ranks = {i: rank for rank, i in enumerate(order)}
  hits = _hits(index, windows, ranks, rows, clean)
  return [
    _fate(row, items, (places and places.search(row)) or hit)
    for row, hit in zip(rows, hits, strict=True)
  ]


def _name(item: Item) -> tuple[str, str, str]:
  return item.benchmark, item.id, item.text


def _hits(
  index: index_lib.Index,
  windows: respelled.Windows,
  ranks: Mapping[int, int],
  rows: Sequence[Row],
  clean: Callable[[str], str],
) -> Iterator[index_lib.Hit | None]:
  """Yields what each row is found by; `ranks` are those of items of windows."""
  step = 4096
  for start in range(0, len(rows), step):
    texts = [clean(row.problem) for row in rows[start : start + step]]
    by_tokens = (index_lib.search(index, text) for text in texts)
    for hit, other in zip(by_tokens, respelled.search(windows, texts)):
      yield hit or (other and other._replace(item=ranks[other.item]))


def _fate(row: Row, items: Sequence[Item], hit: index_lib.Hit | None) -> Fate:
  if hit is None:
    return kept(row)
  item = items[hit.item]
  return dropped(
    row,
    hit.rule,
    benchmark=item.benchmark,
    item=item.id,
    words=' '.join(hit.words)[:_SHOWN_CHARS],
  )
