"""Finds problems of benchmarks in statements, by runs of their tokens.

An n-gram is a run of n tokens (keys.py). By itself it has holes: an item with
fewer than n tokens has none, nor has the beginning of a short item, nor a short
item with another word in its middle. Each of them has a rule of its own here.
"""

import collections
import itertools
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from acereason_jax.data.curate import keys, labels, values

Tokens = tuple[str, ...]
# A run of fewer tokens says nothing: 'what is the area'.
RUN = 5
# What is looked up first for items shorter than n; any run of RUN has two.
_PIECE = 4
# Of RUN tokens on two sides of a word, one side has so many.
_EDGE = 3
# Digits after which the beginning of a number tells which it is.
_LONG_NUMBER = 6


class Hit(NamedTuple):
  """Why a statement is that of an item.

  item: position of the item.
  rule: name of the rule.
  words: tokens that they share.
  """

  item: int
  rule: str
  words: Tokens


class Index(NamedTuple):
  """The runs of tokens of all items. Items are numbered as they were given.

  n: tokens of an n-gram.
  items: tokens of each item.
  names: benchmark of each item.
  own: n-gram -> the first item that it is typical of.
  common: n-gram -> all items with it, where it is boilerplate.
  grams: n-grams of both.
  whole: all tokens of an item -> the item.
  pieces: run of _PIECE tokens -> items shorter than n that are searched for
    when it is found.
  parts: run of fewer than n tokens -> (item, its end), where the run is half of
    the item.
  starts: the first tokens of an item, fewer than n -> (item, their number).
  changed: item without one word, (tokens before, tokens after) -> items; only
    where both sides are shorter than n.
  edges: first and last _EDGE tokens of such sides, to look up few statements.
  """

  n: int
  items: tuple[Tokens, ...]
  names: tuple[str, ...]
  own: dict[Tokens, int]
  common: dict[Tokens, list[int]]
  grams: frozenset[Tokens]
  whole: dict[Tokens, int]
  pieces: dict[Tokens, list[int]]
  parts: dict[Tokens, list[tuple[int, int]]]
  starts: dict[Tokens, list[tuple[int, int]]]
  changed: dict[tuple[Tokens, Tokens], list[int]]
  edges: tuple[frozenset[Tokens], frozenset[Tokens]]


def runs(tokens: Sequence[str], n: int) -> Iterator[Tokens]:
  """The runs of n tokens, from left to right."""
  return zip(*(itertools.islice(tokens, i, None) for i in range(n)))


def build(
  items: Sequence[values.Item], texts: Sequence[str], n: int, shared: int
) -> Index:
  """The index of items whose statements are `texts`.

  An n-gram is boilerplate in a benchmark if it is in `shared` items of it. So
  a benchmark that is added never makes a typical n-gram of another one common.
  """
  found = tuple(tuple(keys.tokens(text)) for text in texts)
  names = tuple(item.benchmark for item in items)
  own, common = _grams(found, names, n, shared)
  changed = _listed(
    (sides, i)
    for i, text in enumerate(texts)
    for sides in without_a_word(text, n)
  )
  return Index(
    n=n,
    items=found,
    names=names,
    own=own,
    common=common,
    grams=frozenset((*own, *common)),
    whole=_first((t, i) for i, t in enumerate(found) if t),
    pieces=_pieces(found, names, n, shared),
    parts=_parts(found, texts, n),
    starts=_listed(
      (tokens[:size], (i, size))
      for i, tokens in enumerate(found)
      for size in range(1, min(len(tokens), n))
      if len(tokens) >= RUN
    ),
    changed=changed,
    edges=(
      frozenset(before[:_EDGE] for before, _ in changed),
      frozenset(after[-_EDGE:] for _, after in changed),
    ),
  )


def _first(pairs: Iterable[tuple[Hashable, Any]]) -> dict:
  found: dict = {}
  for key, value in pairs:
    found.setdefault(key, value)
  return found


def _listed(pairs: Iterable[tuple[Hashable, Any]]) -> dict:
  found: dict = {}
  for key, value in pairs:
    found.setdefault(key, []).append(value)
  return found


def _grams(
  items: Sequence[Tokens], names: Sequence[str], n: int, shared: int
) -> tuple[dict[Tokens, int], dict[Tokens, list[int]]]:
  """(n-grams typical of an item, boilerplate with its items)."""
  among: dict[Tokens, list[int]] = {}
  own: dict[Tokens, int] = {}
  by_name = _listed((name, i) for i, name in enumerate(names))
  for members in by_name.values():
    mine: dict[Tokens, list[int]] = {}
    # A problem that a list has twice is one problem.
    for i in _first((items[i], i) for i in members).values():
      for gram in set(runs(items[i], n)):
        mine.setdefault(gram, []).append(i)
    for gram, some in mine.items():
      among.setdefault(gram, []).extend(some)
      if len(some) < shared:
        own.setdefault(gram, some[0])
  common = {g: found for g, found in among.items() if g not in own}
  return own, common


def _pieces(
  items: Sequence[Tokens], names: Sequence[str], n: int, shared: int
) -> dict[Tokens, list[int]]:
  """For items shorter than n, the piece that the fewest items have.

  Not for an item that is boilerplate: `shared` other items of its benchmark
  contain it.
  """
  counts: collections.Counter[Tokens] = collections.Counter()
  for tokens in set(items):
    counts.update(set(runs(tokens, _PIECE)))
  found = _listed(
    (min(runs(tokens, _PIECE), key=lambda p: (counts[p], p)), i)
    for i, tokens in enumerate(items)
    if RUN <= len(tokens) < n
  )
  within: collections.Counter[int] = collections.Counter()
  for tokens, name in dict.fromkeys(zip(items, names)):
    for piece in found.keys() & set(runs(tokens, _PIECE)):
      within.update(
        i
        for i in found[piece]
        if name == names[i]
        and len(tokens) > len(items[i])
        and contains(tokens, items[i])
      )
  return {
    piece: left
    for piece, some in found.items()
    if (left := [i for i in some if within[i] < shared])
  }


def _parts(
  items: Sequence[Tokens], texts: Sequence[str], n: int
) -> dict[Tokens, list[tuple[int, int]]]:
  """Runs of fewer than n tokens that are half of an item, or half its words."""
  found: dict[Tokens, dict[tuple[int, int], None]] = {}
  for i, tokens in enumerate(items):
    if len(tokens) < RUN:
      continue
    length = len(tokens)
    for size in range(-(-length // 2), min(length, n)):
      for start in range(length - size + 1):
        run = tokens[start : start + size]
        found.setdefault(run, {})[i, start + size] = None
    sizes = [*itertools.accumulate(map(len, _words(texts[i])))]
    for size in sizes[(len(sizes) - 1) // 2 : -1]:
      if size >= n:
        break
      found.setdefault(tokens[:size], {})[i, size] = None
  return {run: list(places) for run, places in found.items()}


def _words(text: str) -> list[Tokens]:
  """The tokens of each word between blanks that has some."""
  found = (tuple(keys.tokens(word)) for word in keys.folded(text).split())
  return [tokens for tokens in found if tokens]


def without_a_word(text: str, n: int) -> Iterator[tuple[Tokens, Tokens]]:
  """Yields (tokens before, tokens after) each word that leaves no n-gram.

  Both together are at least half of the tokens, and RUN.
  """
  words = _words(text)
  tokens = tuple(itertools.chain(*words))
  start = 0
  for word in words:
    end = start + len(word)
    rest = len(tokens) - len(word)
    if start < n > len(tokens) - end and rest >= max(RUN, len(word)):
      yield tokens[:start], tokens[end:]
    start = end
    if start >= n:
      return


def has_tokens(text: str) -> bool:
  return bool(keys.tokens(text))


def contains(tokens: Sequence[str], run: Sequence[str]) -> bool:
  return any(window == run for window in runs(tokens, len(run)))


def numbers(tokens: Iterable[str]) -> list[str]:
  """The numbers among tokens, in order: another one is another problem."""
  return [token for token in tokens if token[0].isdecimal()]


def search(index: Index, text: str) -> Hit | None:
  """The first rule by which a statement is that of an item; None for none."""
  tokens = tuple(keys.tokens(text))
  if not tokens:
    return None
  whole = tokens
  if len(tokens) <= 4 * index.n:
    # Whole items are all that the shortest ones are searched for.
    bare = labels.without_ending(labels.without_label(text)[0])
    whole = tuple(keys.tokens(bare))
  for some in (tokens, whole):
    if (item := index.whole.get(some)) is not None:
      return Hit(item, 'same tokens', some)
  # Most statements share no n-gram, and need no more than this.
  if not index.grams.isdisjoint(runs(tokens, index.n)):
    grams = [g for g in runs(tokens, index.n) if g in index.grams]
    for gram in grams:
      if gram in index.own:
        return Hit(index.own[gram], 'n-gram', gram)
    if hit := _half(index, grams):
      return hit
  return (
    _short(index, tokens)
    or _part(index, tokens, text)
    or _changed(index, tokens, text)
  )


def _half(index: Index, common: Sequence[Tokens]) -> Hit | None:
  """Boilerplate that covers half of an item."""
  mine = set(common)
  for item in sorted({i for gram in common for i in index.common[gram]}):
    tokens, covered = index.items[item], set()
    for start, gram in enumerate(runs(tokens, index.n)):
      if gram in mine:
        covered.update(range(start, start + index.n))
    if 2 * len(covered) >= len(tokens):
      return Hit(
        item, 'half an item', tuple(tokens[i] for i in sorted(covered))
      )
  return None


def _short(index: Index, tokens: Tokens) -> Hit | None:
  if index.pieces.keys().isdisjoint(runs(tokens, _PIECE)):
    return None
  for piece in runs(tokens, _PIECE):
    for item in index.pieces.get(piece, ()):
      if contains(tokens, index.items[item]):
        return Hit(item, 'short item', index.items[item])
  return None


def _part(index: Index, tokens: Tokens, text: str) -> Hit | None:
  """A short statement that is a piece of an item, or its beginning."""
  if len(tokens) > index.n:
    return None
  # It ends inside a formula.
  cut = text.count('$') % 2 == 1
  # Any beginning will do where nothing is asked.
  lists = (index.parts, index.starts)
  if not cut and (len(tokens) >= RUN or numbers(tokens)):
    lists = (index.parts,)
  for item, _ in itertools.chain(*(k.get(tokens, ()) for k in lists)):
    return Hit(item, 'part of an item', tokens)
  begun, last = tokens[:-1], tokens[-1]
  if not (cut or last.isalpha() or len(last) >= _LONG_NUMBER):
    return None
  for item, end in itertools.chain(*(k.get(begun, ()) for k in lists)):
    following = index.items[item][end : end + 1]
    if following and following[0].startswith(last):
      return Hit(item, 'part of an item', tokens)
  return None


def _changed(index: Index, tokens: Tokens, text: str) -> Hit | None:
  """An item with one other word.

  Below 2n tokens its numbers must be the item's: 3 + 5 and 3 + 6 are two
  problems. From 2n on they share a run of n tokens, except where the word is a
  long formula.
  """
  starts, ends = index.edges
  if len(tokens) >= 4 * index.n or (
    tokens[:_EDGE] not in starts and tokens[-_EDGE:] not in ends
  ):
    return None
  for sides in without_a_word(text, index.n):
    for item in index.changed.get(sides, ()):
      whole = index.items[item]
      if len(whole) >= 2 * index.n or numbers(whole) == numbers(tokens):
        return Hit(item, 'one other word', sides[0] + sides[1])
  return None
