"""Which characters of a text each of its tokens adds.

Decoding every beginning of a text would take time that grows with its square.
So each token id is decoded once, after another one, and its text is looked up.
Only where a token ends inside a character, several tokens are decoded together.
"""

from collections.abc import Callable, Sequence

import numpy as np

# What a decoder gives for a part of a character.
_PART = '\ufffd'
# Tokens that one character may take; more are not one character.
_MOST_TOGETHER = 8
_MOST_CHARACTERS = np.iinfo(np.uint16).max


class Characters:
  """Remembers the text of each token id of a tokenizer.

  `to_text` gives the text of token ids, int32 [R].
  """

  def __init__(self, to_text: Callable[[np.ndarray], str]):
    self._to_text = to_text
    self._before: tuple[int, str] | None = None
    self._known: dict[int, str] = {}

  def of(self, tokens: np.ndarray, text: str) -> np.ndarray:
    """Characters of `text` that each token adds, uint16 [R].

    Tokens after a place where the text is not that of the tokens add nothing,
    so the sum is at most len(text).
    """
    ids = tokens.tolist()
    pieces = self._pieces(ids)
    if ids:
      # Some decoders remove a space from the first token.
      pieces[0] = self._text(ids[:1])
    self._join(ids, pieces)
    lengths = np.fromiter(map(len, pieces), np.int64, len(pieces))
    if ''.join(pieces) != text:
      lengths = _matching(pieces, lengths, text)
    return np.minimum(lengths, _MOST_CHARACTERS).astype(np.uint16)

  def _pieces(self, ids: Sequence[int]) -> list[str]:
    known = self._known
    for i in set(ids) - known.keys():
      known[i] = self._after_another(i)
    return [known[i] for i in ids]

  def _after_another(self, i: int) -> str:
    """The text of a token that is not the first one."""
    if self._before is None:
      text = self._text([i])
      if not text.strip() or _PART in text:
        return text
      self._before = i, text
    first, text = self._before
    both = self._text([first, i])
    return both[len(text) :] if both.startswith(text) else both

  def _join(self, ids: Sequence[int], pieces: list[str]) -> None:
    """Sets the pieces of tokens that end inside a character, run by run."""
    # A special token, which has no text, ends no character.
    parts = [i for i, piece in enumerate(pieces) if not piece or _PART in piece]
    begins = [i for i, last in zip(parts, [-2, *parts]) if i != last + 1]
    ends = [
      i + 1 for i, after in zip(parts, [*parts[1:], -2]) if i + 1 != after
    ]
    for begin, end in zip(begins, ends):
      run, whole = ids[begin:end], self._text(ids[begin:end])
      found = self._of_run(run)
      if ''.join(found) != whole:
        # Not valid text. The decoder marks bytes otherwise than one by one.
        kept = int(_matching(found, list(map(len, found)), whole).sum())
        found = _cut(found, kept)
        found[-1] += whole[kept:]
      pieces[begin:end] = found

  def _of_run(self, ids: Sequence[int]) -> list[str]:
    """What each token adds, by as few tokens together as are valid text."""
    found, i = [], 0
    while i < len(ids):
      stable = []
      for end in range(i + 1, min(i + _MOST_TOGETHER, len(ids)) + 1):
        whole = self._text(ids[i:end])
        stable.append(len(whole.rstrip(_PART)))
        if _PART not in whole:
          break
      else:
        whole, stable = self._text(ids[i : i + 1]), [0]
        stable[0] = len(whole)
      found += [whole[a:b] for a, b in zip([0, *stable], stable)]
      i += len(stable)
    return found

  def _text(self, ids: Sequence[int]) -> str:
    return self._to_text(np.asarray(ids, np.int32))


def _matching(
  pieces: Sequence[str], lengths: Sequence[int], text: str
) -> np.ndarray:
  """The lengths, 0 from the first piece on that the text does not have."""
  kept, place = np.zeros(len(pieces), np.int64), 0
  for i, (piece, length) in enumerate(zip(pieces, lengths)):
    if not text.startswith(piece, place):
      break
    kept[i] = length
    place += length
  return kept


def _cut(pieces: Sequence[str], most: int) -> list[str]:
  """The pieces up to so many characters; the others are ''."""
  kept = []
  for piece in pieces:
    kept.append(piece[:most])
    most -= len(kept[-1])
  return kept
