"""Dates of problems, as far as files tell them: a day, a month or a year."""

import datetime
import re

_MONTHS = (
  *('jan', 'feb', 'mar', 'apr', 'may', 'jun'),
  *('jul', 'aug', 'sep', 'oct', 'nov', 'dec'),
)
_NAME = rf'({"|".join(_MONTHS)})[a-z]{{0,6}}\.?'
_YEAR = r'((?:19|20)\d\d)'
# 2024-08-02T10:00, 2024/8/2, 20240802, 2024-08, 2024.
_YEAR_FIRST = (
  re.compile(rf'{_YEAR}([-/.])(\d{{1,2}})\2(\d{{1,2}})(?!\d)', re.ASCII),
  re.compile(rf'{_YEAR}()(\d\d)(\d\d)(?!\d)', re.ASCII),
  re.compile(rf'{_YEAR}([-/.])(\d{{1,2}})()\Z', re.ASCII),
  re.compile(rf'{_YEAR}()()()\Z', re.ASCII),
)
# Aug 2, 2024; August 2024; 2 August 2024.
_NAMED = (
  re.compile(rf'{_NAME} ?()(\d{{1,2}})?,? {_YEAR}\b', re.ASCII),
  re.compile(rf'(\d{{1,2}})[. -]{{1,2}}{_NAME}[ -]{_YEAR}\b', re.ASCII),
)
# 2/8/2024 is in February or in August.
_YEAR_LAST = re.compile(rf'\d{{1,2}}([/.-])\d{{1,2}}\1{_YEAR}\b', re.ASCII)
# Seconds since 1970, from 2001 on.
_SECONDS = re.compile(r'(1\d{9})(?:\.0*)?\Z', re.ASCII)
_CHARS = 40


def known(text: str) -> str:
  """YYYY-MM-DD, YYYY-MM or YYYY, as much as a text tells; '' for none."""
  text = text.strip().lower()[:_CHARS]
  for pattern in _YEAR_FIRST:
    if found := pattern.match(text):
      year, _, month, day = found.groups()
      return _joined(year, month, day)
  if found := _NAMED[0].match(text):
    month, _, day, year = found.groups()
    return _joined(year, f'{_MONTHS.index(month) + 1}', day or '')
  if found := _NAMED[1].match(text):
    day, month, year = found.groups()
    return _joined(year, f'{_MONTHS.index(month) + 1}', day)
  if found := _YEAR_LAST.match(text):
    return found[2]
  if found := _SECONDS.match(text):
    moment = datetime.datetime.fromtimestamp(int(found[1]), datetime.UTC)
    return moment.date().isoformat()
  return ''


def last_day(known: str) -> str:
  """The last day that a date may be: 2024-08 is at most 2024-08-31."""
  return known + '-12-31'[len(known) - 4 :] if len(known) in (4, 7) else known


def _joined(year: str, month: str, day: str) -> str:
  """The date in one form; '' if there is no such month or day."""
  if not month:
    return year
  if not 1 <= int(month) <= 12:
    return ''
  if not day:
    return f'{year}-{int(month):02}'
  try:
    return datetime.date(int(year), int(month), int(day)).isoformat()
  except ValueError:
    return ''
