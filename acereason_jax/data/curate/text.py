"""Steps over texts of problems and their references, for a config's `steps`.

Each function makes a step: dict(fn='acereason_jax.data.curate.text:parts'). The
rules are in the files beside this one; each returns evidence, or None.
"""

import dataclasses
import functools
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from acereason_jax.data.curate import (
  answers,
  choices,
  claims,
  comparing,
  figures,
  keys,
  labels,
  languages,
  leaks,
  statements,
)
from acereason_jax.data.curate import parts as parts_lib
from acereason_jax.data.curate.values import (
  CHANGED,
  Context,
  Fate,
  Row,
  Step,
  dropped,
  kept,
)

_READS = {'fn': 'acereason_jax.verifiers.math:reference'}
_COMPARES = {'fn': 'acereason_jax.verifiers.math:verify', 'reasons': False}
# Zero-width characters, byte order marks, and controls except tab and newline.
_INVISIBLE = re.compile(
  '[\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff\u00ad'
  '\x00-\x08\x0b\x0c\x0e-\x1f\x7f]'
)
_SURROGATE = re.compile('[\ud800-\udfff]')
_LINE_ENDS = re.compile('\r\n?|\u2028|\u2029|\x85')
_FEWEST_TOKENS = 5
_MOST_TOKENS = 1024
_MOST_ANSWER_CHARS = 100
Rule = Callable[..., Mapping[str, Any] | None]


def fate(rule: Rule, reason: str, row: Row) -> Fate:
  """What a rule's finding means for a row."""
  evidence = rule(row)
  return kept(row) if evidence is None else dropped(row, reason, **evidence)


def step(name: str, rule: Rule, **arguments: Any) -> Step:
  """A step that drops what a rule finds; `name` is the reason."""
  rule = functools.partial(rule, **arguments) if arguments else rule
  return Step(name, functools.partial(fate, rule, name))


def normalise() -> Step:
  """One form of Unicode and of line ends; labels at the start go away."""
  return Step('normalise', _normalised)


def sentinels() -> Step:
  """References that are empty, or words such as proof, notfound, n/a."""
  return step('sentinel', answers.sentinel)._replace(name='sentinels')


def exact(judge: Mapping[str, Any] | None = _COMPARES) -> Step:
  """One row of each key (`keys.key`); unequal answers are a conflict.

  judge: component that compares answers; None if they are no answers, as code
    tasks.
  """
  return Step('exact', whole=functools.partial(comparing.exact, judge))


def parts() -> Step:
  """Questions in parts: (a) ... (b) ..., 1. ... 2. ..., part a ... part b."""
  return step('parts', parts_lib.parts)


def choice(keep: str = '') -> Step:
  """Multiple choice; keep='value' keeps those whose reference is a value."""
  check('choice', 'keep', keep, ('', 'value'))
  return step('choice', choices.choice, keep=keep)


def true_false() -> Step:
  """References yes, no, true or false, and questions whether it is true."""
  return step('true_false', claims.true_false)


def proof() -> Step:
  """Prove, disprove, show that."""
  return step('proof', claims.proof)


def language() -> Step:
  """Statements in another language, from six words on."""
  return step('language', languages.language)


def figure(asy: str = 'keep') -> Step:
  """Statements that need an image or a link.

  asy: 'keep' flags those with code of a drawing, 'drop' drops them.
  """
  check('figure', 'asy', asy, ('keep', 'drop'))
  return Step('figure', functools.partial(_figure, asy))


def brief(tokens: int = _FEWEST_TOKENS) -> Step:
  """Statements of fewer tokens."""
  return step('brief', _brief, tokens=tokens)


def long(
  tokens: int = _MOST_TOKENS, answer_chars: int = _MOST_ANSWER_CHARS
) -> Step:
  """Long statements and references, and several values with words between.

  tokens: most tokens of a statement, by the run's tokenizer.
  answer_chars: most characters of a reference.
  """
  whole = functools.partial(_long, tokens, answer_chars)
  return Step('long', whole=whole)


def leak() -> Step:
  r"""Statements with 'answer is' or \boxed and the reference behind it."""
  return step('leak', leaks.leak)


def reference(judge: Mapping[str, Any] = _READS) -> Step:
  """References that the judge cannot read, or finds unequal to themselves."""
  return Step('reference', whole=functools.partial(comparing.reference, judge))


def flagged(row: Row, flag: str) -> Row:
  """The row with one more entry in its column `flags`, once."""
  flags = dict.fromkeys([*row.about.get('flags', ()), flag])
  return dataclasses.replace(row, about={**row.about, 'flags': [*flags]})


def _normalised(row: Row) -> Fate:
  problem, label = labels.without_label(clean(row.problem))
  answer = clean(row.answer)
  if (problem, answer) == (row.problem, row.answer):
    return kept(row)
  changed = dataclasses.replace(row, problem=problem, answer=answer)
  evidence = {}
  if label:
    evidence = {'label': label[:200]}
  elif problem != row.problem:
    evidence = {'before': row.problem[:200]}
  if answer != row.answer:
    evidence['answer'] = row.answer[:200]
  return Fate(CHANGED, changed, 'label' if label else 'characters', evidence)


def clean(text: str) -> str:
  """NFC, one kind of line end, nothing invisible, no blanks at both ends."""
  text = _SURROGATE.sub('\ufffd', _LINE_ENDS.sub('\n', text))
  return unicodedata.normalize('NFC', _INVISIBLE.sub('', text)).strip()


def _figure(asy: str, row: Row) -> Fate:
  found = fate(functools.partial(figures.figure, asy=asy), 'figure', row)
  drawings = figures.drawings(row) if found.row is row else ()
  if found.kind == 'dropped' or not drawings:
    return found
  new = flagged(row, drawings[0])
  if new.about == row.about:
    return kept(row)
  return Fate(CHANGED, new, 'drawing', {'kind': drawings[0]})


def _brief(row: Row, tokens: int) -> Mapping[str, Any] | None:
  problem = labels.without_label(row.problem[: statements.CHARS])[0]
  count = len(keys.tokens(problem))
  return {'tokens': count, 'fewest': tokens} if count < tokens else None


def _long(
  most: int, chars: int, rows: Sequence[Row], context: Context
) -> list[Fate]:
  # A token is at least one byte, so most statements need no counting.
  sizes = [len(row.problem.encode('utf-8', 'replace')) for row in rows]
  asked = [row.problem for row, size in zip(rows, sizes) if size > most]
  counts = iter(context.count_tokens(asked) if asked else ())
  fates = []
  for row, size in zip(rows, sizes):
    count = next(counts) if size > most else 0
    evidence = answers.long(row, chars)
    if count > most:
      fates.append(dropped(row, 'long question', tokens=count, most=most))
    elif evidence is not None:
      fates.append(dropped(row, 'long answer', **evidence))
    else:
      fates.append(kept(row))
  return fates


def check(name: str, field: str, value: str, known: Sequence[str]) -> None:
  """Raises ValueError for a step's argument that is not known."""
  if value not in known:
    raise ValueError(f'{name}: {field}={value!r}: expected one of {[*known]}')
