"""Statements of programming problems: their story, addresses and titles."""

import re
from collections.abc import Sequence
from typing import NamedTuple
from urllib import parse

from acereason_jax.data.curate import index as index_lib
from acereason_jax.data.curate import keys
from acereason_jax.data.curate.values import Item, Row

_MOST_HEADING_CHARS = 60
_HEADING = re.compile(r'[^A-Za-z]*([A-Za-z][A-Za-z ]*?)[^A-Za-z]*')
# 'The first line contains a single integer' is in these parts of most problems.
_LEFT_OUT = re.compile(
  r'constraints?|limits|examples?|samples?|notes?|explanations?|scoring'
  r'|(?:sample|example) (?:tests?|cases?|inputs?|outputs?|explanations?)'
  r'|subtasks?|(?:time|memory) limit|follow up'
  r'|(?:input|output)(?: format| specification| description)?',
  re.IGNORECASE,
)
_KEPT = re.compile(
  r'(?:problem )?(?:description|statement|task|story|legend|problem)|your task',
  re.IGNORECASE,
)
# (1 <= n <= 10^5)
_BOUNDS = re.compile(
  r'\([^()\n]{0,80}(?:<|\\l(?:e|t)|\N{LESS-THAN OR EQUAL TO})[^()\n]{0,80}\)'
)
# The story of a statement that has fewer tokens is the whole statement.
_LEAST_TOKENS = 20
_MOST_URL_CHARS = 2000
_SITES = tuple(
  (re.compile(pattern), form)
  for pattern, form in (
    (
      r'(?:m\d?\.)?codeforces\.(?:com|ml)/(?:contest|gym)/(\d+)/problem/(\w+)',
      r'codeforces \1 \2',
    ),
    (
      r'(?:m\d?\.)?codeforces\.(?:com|ml)/problemset/problem/(\d+)/(\w+)',
      r'codeforces \1 \2',
    ),
    (r'atcoder\.jp/contests/[\w-]+/tasks/([\w-]+)', r'atcoder \1'),
    (r'[\w-]+\.contest\.atcoder\.jp/tasks/([\w-]+)', r'atcoder \1'),
    (
      r'leetcode\.(?:com|cn)/(?:contest/[\w-]+/)?problems/([\w-]+)(?:/.*)?',
      r'leetcode \1',
    ),
    (r'codechef\.com/(?:[\w-]+/)?problems/(\w+)', r'codechef \1'),
    # The same problems on other sites.
    (
      r'(?:luogu\.com(?:\.cn)?/(?:problem|remote_problem)|vjudge\.net/problem)/'
      r'(?:cf|codeforces-)(\d+)([a-z]\d?)',
      r'codeforces \1 \2',
    ),
    (
      r'(?:luogu\.com(?:\.cn)?/(?:problem|remote_problem)|vjudge\.net/problem)/'
      r'(?:at_|atcoder-)(\w+)',
      r'atcoder \1',
    ),
    # Ids of LiveCodeBench's problems.
    (r'((?:abc|arc|agc|ahc)\d{3}_\w+)', r'atcoder \1'),
    (r'(\d{1,5})_?([a-z]\d?)', r'codeforces \1 \2'),
  )
)
# 1873A -  A.  B2:  3)
_NUMBERED = re.compile(
  r'(?:[0-9]{1,5}[A-Z]?[0-9]?|[A-Z][0-9]?)(?:[.:)]| +[-\N{EN DASH}]) *'
)
_LEAST_TITLE = 2
_MOST_TITLE = 10


def story(statement: str) -> str:
  """The statement without its constraints, forms of input, and examples."""
  lines, on = [], True
  for line in statement.splitlines():
    if len(line) <= _MOST_HEADING_CHARS and (
      heading := _HEADING.fullmatch(line)
    ):
      if _LEFT_OUT.fullmatch(heading[1]):
        on = False
        continue
      on = on or bool(_KEPT.fullmatch(heading[1]))
    if on:
      lines.append(_BOUNDS.sub(' ', line))
  told = '\n'.join(lines)
  enough = len(keys.tokens(told)) >= _LEAST_TOKENS
  return told if enough else statement


def address(url: str) -> str:
  """One form for all addresses of a problem; '' if it is none.

  A contest and an index, or a slug, where the site is known.
  """
  url = url.strip().lower()
  if not url or len(url) > _MOST_URL_CHARS:
    return ''
  bare = re.sub(r'^https?://', '', url).removeprefix('www.')
  bare = re.split(r'[?#]', bare, maxsplit=1)[0].rstrip('/')
  bare = parse.unquote(bare)
  for pattern, form in _SITES:
    if found := pattern.fullmatch(bare):
      return found.expand(form)
  # A site's own page is no problem.
  return bare if '/' in bare else ''


def title(text: str) -> str:
  """One form for a problem's title; '' if it has too few words to tell."""
  text = text.strip(' \t#*')
  numbered = _NUMBERED.match(text)
  found = keys.tokens(text[numbered.end() if numbered else 0 :])
  if not _LEAST_TITLE <= len(found) <= _MOST_TITLE:
    return ''
  return ' '.join(found)


def heading(statement: str) -> str:
  """The title that stands above a statement, '' for none."""
  first, _, _ = statement.lstrip()[:_MOST_URL_CHARS].partition('\n')
  marked = first.startswith('#') or _NUMBERED.match(first.strip('* '))
  if not marked or first.rstrip(' *').endswith(('.', '?', '!', ':')):
    return ''
  return title(first)


class Places(NamedTuple):
  """Where the items are found.

  addresses: address -> item.
  titles: title -> item.
  """

  addresses: dict[str, int]
  titles: dict[str, int]

  def search(self, row: Row) -> index_lib.Hit | None:
    """The item with the row's address or title, None for none."""
    place = address(row.url)
    if place in self.addresses:
      item = self.addresses[place]
      return index_lib.Hit(item, 'same address', (place,))
    told = row.about.get('title')
    name = title(told) if isinstance(told, str) else heading(row.problem)
    if name in self.titles:
      return index_lib.Hit(self.titles[name], 'same title', (name,))
    return None


def places(items: Sequence[Item]) -> Places:
  addresses: dict[str, int] = {}
  titles: dict[str, int] = {}
  for i, item in enumerate(items):
    for place in (address(item.url), address(item.id)):
      addresses.setdefault(place, i)
    for name in (title(item.title), heading(item.text)):
      titles.setdefault(name, i)
  addresses.pop('', None)
  titles.pop('', None)
  return Places(addresses, titles)
