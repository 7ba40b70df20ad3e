"""Statements in another language than English, by py3langid without math."""

import functools
import importlib
import re
from collections.abc import Mapping
from typing import Any

from acereason_jax.data.curate import statements
from acereason_jax.data.curate.values import Row

_CHARS = 2000
_MATH = re.compile(
  r'\$\$[^$]{0,2000}\$\$|\$[^$\n]{1,400}\$|\\\([^\n]{1,400}?\\\)'
  r'|\\\[.{1,2000}?\\\]|\\begin\{(\w{1,12})\*?\}.{0,2000}?\\end\{\1\*?\}',
  re.DOTALL,
)
_NO_WORDS = re.compile(
  r'\\[a-zA-Z]+|https?://\S{1,300}|(?<!\w)[^\W\d_]{0,40}[\d_^][\w^]*'
  r'|\b[A-Za-z]\b'
)
# A pair of dollars is math, unless it holds words, as prices do.
_PROSE = re.compile(r'[^\W\d_]{2,} [^\W\d_]{2,} [^\W\d_]{1,}')
_WORD = re.compile(r"[^\W\d_](?:[^\W\d_]|['\u2019\u0300-\u036f])*")
# Scripts that put no blanks between words: Thai to Khmer, kana, Han.
_UNSPACED = re.compile(
  '[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff'
  '\u3400-\u9fff\uf900-\ufaff]'
)
# Latin letters, and Greek ones, which are math.
_LATIN = re.compile('[A-Za-z\u00c0-\u024f\u0370-\u03ff]')
_OTHER_SCRIPT = 'another script'
_ENGLISH = frozenset(
  (
    'the', 'of', 'and', 'is', 'are', 'what', 'how', 'many', 'much', 'find',
    'if', 'with', 'that', 'for', 'each', 'from', 'there', 'than', 'which',
    'has', 'have', 'does', 'when', 'their', 'she', 'they', 'his', 'her', 'it',
    'be', 'by', 'at', 'on', 'into', 'such', 'let', 'then', 'all', 'two', 'this',
    'where', 'value', 'number', 'to', 'was', 'were', 'will', 'would', 'after',
    'compute', 'determine',
  )
)  # fmt: skip
# Others in the list above are words of Dutch, Danish or Afrikaans, too.
_ONLY_ENGLISH = frozenset(
  ('the', 'and', 'what', 'how', 'which', 'with', 'each', 'there', 'are')
)
# Short statements in English look like Nigerian Pidgin, and names and formulas
# like none (zxx).
_LIKE_ENGLISH = ('en', 'pcm', 'zxx')
# Quotation marks, dashes and currencies, which are in English texts too.
_MARKS = str.maketrans(
  '\u2018\u2019\u201c\u201d\u2013\u2014\u20ac\xa3\xa2', '\'\'""--$$$'
)
_LETTERS = re.compile('[a-z]+')
_SURE_SHARE = 0.2
_SURE_WORDS = 3
# In a short statement, two will do.
_SHORT_WORDS = 10
_LEAST_WORDS = 6
_LEAST_LETTERS = 3


def language(row: Row) -> Mapping[str, Any] | None:
  """The language of a statement of six words or more, unless it is English."""
  text = _without_math(row.problem)
  if _plainly_english(text):
    return None
  text = _words_of(text)
  if evidence := _other_script(text):
    return evidence
  words = _WORD.findall(text.lower())
  if _surely_english(words):
    return None
  unspaced = 0 if text.isascii() else len(_UNSPACED.findall(text))
  # Two of its signs make about a word.
  spaced = sum(any(map(str.isalpha, word)) for word in text.split())
  if spaced + unspaced // 2 < _LEAST_WORDS:
    return None
  found, _ = _identifier().classify(text)
  if found in _LIKE_ENGLISH:
    return None
  return {'language': found, 'words': len(words), 'text': text[:120]}


def _other_script(text: str) -> Mapping[str, Any] | None:
  """Letters of which most are of another script: so is a short statement."""
  if text.isascii():
    return None
  letters = [c for c in text if c.isalpha()]
  others = sum(not _LATIN.match(c) for c in letters)
  if others < _LEAST_LETTERS or 2 * others <= len(letters):
    return None
  # The model tells which, from some words on.
  found, _ = _identifier().classify(text)
  if found in _LIKE_ENGLISH:
    found = _OTHER_SCRIPT
  return {
    'language': found,
    'words': len(_WORD.findall(text)),
    'text': text[:120],
  }


def _plainly_english(text: str) -> bool:
  """Whether `_surely_english` is true of its words, by bounds; False: unknown.

  Only words between blanks count as English, and each run of letters as a word.
  """
  if not text.isascii():
    text = text.translate(_MARKS)
  if len(text) > _CHARS or not text.isascii():
    return False
  small = text.lower()
  english = [word for word in small.split() if word in _ENGLISH]
  known = set(english)
  return (
    len(known) >= _SURE_WORDS
    and not known.isdisjoint(_ONLY_ENGLISH)
    and len(english) >= _SURE_SHARE * len(_LETTERS.findall(small))
  )


def _surely_english(words: list[str]) -> bool:
  """Whether so many words are English that no model needs to be asked."""
  english = [word for word in words if word in _ENGLISH]
  known = set(english)
  return (
    len(known) >= _SURE_WORDS - (len(words) <= _SHORT_WORDS)
    and not known.isdisjoint(_ONLY_ENGLISH)
    and len(english) >= _SURE_SHARE * len(words)
  )


def prose(problem: str) -> str:
  """The words of a statement without math, code and single letters."""
  return _words_of(_without_math(problem))


def _without_math(problem: str) -> str:
  text = statements.prepared(problem[: 4 * _CHARS]).text
  return _MATH.sub(lambda m: m[0] if _PROSE.search(m[0]) else ' ', text)


def _words_of(text: str) -> str:
  """A text without commands, addresses, names of variables and digits."""
  return ' '.join(_NO_WORDS.sub(' ', text).split())[:_CHARS]


@functools.cache
def _identifier() -> Any:
  try:
    module = importlib.import_module('py3langid.langid')
  except ImportError as e:
    raise ValueError(
      f'language: py3langid is not installed ({e}); pip install '
      "'acereason_jax[curate]', or leave the step out"
    ) from e
  return module.LanguageIdentifier.from_model_file(module.MODEL_FILE)
