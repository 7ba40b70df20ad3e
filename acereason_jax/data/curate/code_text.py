"""Steps over the statements of code problems, for a config's `steps`.

They find what tests of one right output, standard input and plain programs
cannot judge. All rules are anchored at words of instructions: stories mention
queries, files, pictures and any order too.
"""

import functools
import re
from collections.abc import Mapping
from typing import Any

from acereason_jax.data.curate import (
  dates,
  dialogues,
  figures,
  freedoms,
  gates,
  harnesses,
  keys,
  statements,
  text,
)
from acereason_jax.data.curate.values import (
  CHANGED,
  Fate,
  Row,
  Step,
  dropped,
  kept,
)

LAST_DAY = '2024-08-01'
_DATE = re.compile(r'\d{4}-\d\d-\d\d')

# Sections whose pictures only illustrate.
_EXAMPLES = re.compile(
  r'\n ?(?:#|\*|-){0,5} ?(?:(?:sample|example)s?\b|notes?\b|explanations?\b'
  r'|input\b'
  r'|output\b|constraints?\b)',
  re.IGNORECASE,
)
# As shown below: *** is a picture in words, and so is an example.
_IN_TEXT = re.compile(
  r'\b(?:below|here|above|shown|following)\b[^.?!\n]{0,30}(?:[:\n]|examples?\b'
  r'|samples?\b)',
  re.IGNORECASE,
)
_PICTURE = re.compile(
  r'\b(?:figures?|pictures?|images?|diagrams?|drawings?|illustrations?)\b',
  re.IGNORECASE,
)
_STANDS_ALONE = 40
# What is spoken of beside an image, as if it were seen.
_DEICTIC = re.compile(
  r'\b(?:this|these|that|the|following|such an?|our'
  r'|its) (?:\w+ ){0,2}?(?:figures?|pictures?|images?|diagrams?'
  r'|drawings?|illustrations?|patterns?|maps?|graphs?|trees?|maze|grid|board'
  r'|shapes?|table|chart|circuit|network|layout|scheme|plan|spiral|puzzle'
  r'|logo|flag|triangle|field|numbering|regions?|areas?)\b'
  r'|\b(?:looks? like|like this|as follows|shown|depicted|pictured|drawn'
  r'|here|see|grey|gray|shaded|hatched|marked|colou?red)\b',
  re.IGNORECASE,
)
# A picture of signs, on lines of its own.
_ART = re.compile(r'\n[ \t]*[^\w\s][^A-Za-z\n]{1,60}(?=\n|\Z)')
_NEAR = 80


def special_judge() -> Step:
  """Statements that accept several outputs for one input.

  An error of floats is accepted if its size can be read, since the judge then
  allows it; letter case and order are not.
  """
  return text.step('special_judge', freedoms.special)


def interactive() -> Step:
  """Programs that talk to a judge, or call what only its system has."""
  return text.step('interactive', dialogues.interactive)


def image() -> Step:
  """Statements that need an image."""
  return text.step('image', _image)


def template() -> Step:
  """Programs around classes that the source's system provides or calls."""
  return text.step('template', harnesses.template)


def file_io() -> Step:
  """Programs that read and write named files."""
  return text.step('file_io', harnesses.file_io)


def released(until: str = LAST_DAY, undated: str = 'flag') -> Step:
  """Problems published after a day.

  until: the last day, YYYY-MM-DD.
  undated: 'flag' keeps rows without a date and flags them, 'drop' drops them.
  """
  if not _DATE.fullmatch(until):
    raise ValueError(f'released: until={until!r}: expected YYYY-MM-DD')
  text.check('released', 'undated', undated, ('flag', 'drop'))
  return Step('released', functools.partial(_released, until, undated))


def _released(until: str, undated: str, row: Row) -> Fate:
  date = dates.known(row.date)
  if date:
    # Of a month or a year, any day may be its own.
    if dates.last_day(date) > until:
      return dropped(row, 'released', date=date, until=until)
    return kept(row)
  if undated == 'drop':
    return dropped(row, 'undated', date=row.date[:40])
  new = text.flagged(row, 'undated')
  same = new.about == row.about
  return kept(row) if same else Fate(CHANGED, new, 'undated', {})


def _image(row: Row) -> Mapping[str, Any] | None:
  raw = row.problem[: statements.CHARS]
  section = _EXAMPLES.search(raw)
  told = raw[: section.start()] if section else raw
  image = figures.IMAGE.search(raw, gates.small(raw))
  # The name of a file is no image, except at the end of an address.
  if image and image[0][0].isalnum() and raw[image.start() - 1] not in '/<=':
    image = None
  words = None if _ART.search(told) else figures.reference_in_words(told)
  if words and (image or not _IN_TEXT.search(words) or _PICTURE.search(words)):
    return {'matched': words, 'image': image is not None}
  if image and (section is None or image.start() < section.start()):
    bare = figures.without_images(told)
    around = (
      figures.without_images(
        told[max(image.start() - _NEAR, 0) : image.start()]
      )
      + figures.without_images(told[image.start() :])[:_NEAR]
    )
    if len(keys.tokens(bare)) < _STANDS_ALONE or _DEICTIC.search(around):
      return {'matched': image[0][:80], 'image': True}
  return None
