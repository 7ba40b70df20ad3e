"""Programming problems that need more than standard input and output.

Named files, and classes that the source's system provides or calls.
"""

import re
from collections.abc import Mapping
from typing import Any

from acereason_jax.data.curate import demands, statements
from acereason_jax.data.curate.values import Row

_CLASSES = re.compile(
  r'\b(?:class|struct) +(?:ListNode|TreeNode|Node|NestedInteger|Employee'
  r'|Interval'
  r'|MountainArray|GraphNode|UndirectedGraphNode|RandomListNode|PolyNode'
  r'|TreeLinkNode|DoublyListNode|Point|HtmlParser|Master|Robot|CustomFunction'
  r'|BinaryMatrix|ArrayReader|Sea|Iterator)\b'
  r'|\b(?:Optional\[)?["\']?(?:ListNode|TreeNode|NestedInteger|MountainArray'
  r'|GraphNode|PolyNode)\b'
  r'|\bDefinition for (?:a |an )?(?:singly|doubly|binary|n-?ary|tree|linked'
  r'|node|polynomial|quad|undirected|interval|\w+ (?:list|tree|node))'
)
_CLASS = re.compile(r'^[ \t]{0,8}class +(\w{1,60})', re.MULTILINE)
_DESIGN = re.compile(
  r'\b(?i:implement|design|complete|write|create) (?:the |a |an )?(?:data'
  r' structure )?(?:called |named )?[`\'"]{0,2}[A-Z]\w{2,40}[`\'"]{0,2} class\b'
  r'|\bobject will be instantiated and called\b|\b(?i:implement|complete|fill'
  r' in) the (?:class|following class|class template|template|given (?:class'
  r'|template))\b|\b(?:initiali[sz]es? the|constructor of the)'
  r' [`\'"]{0,2}[A-Z]\w+[`\'"]{0,2} (?:object'
  r'|class)\b|\bdo not (?:change|modify) the (?:class|template|signature of'
  r' the class)'
)
_FILE_NAME = r'[`"\'*$]{0,3}[\w\-*]{1,40}\.(?:in|out|inp|txt|dat|ans)\b'
_FILES = re.compile(
  # INPUT FORMAT (file cow.in), input file: b.in, Input is in the file a.txt
  rf'\b(?:input|output)s?\b[^\w\n]{{0,4}}(?:format|data|is|are|will be|file'
  rf' ?name|files?'
  rf'|from|to|in|name|of the program| ){{0,4}}[^\w\n]{{0,4}}\bfiles?\b(?:'
  rf' named?| called| is| with name| name)?[^\w\n]{{0,6}} ?{_FILE_NAME}'
  rf'|\b(?:input|output)[ :]{{0,3}}\n? ?(?:input|output)\.txt\b'
  rf'|\b(?:read|reads|reading|given|contained|stored|provided|written|write'
  rf'|writes|output|print|printed|placed|entered|saved'
  rf'|located)\b[^.?!\n]{{0,60}}\b(?:file'
  rf'|files) (?:named |called |with the name )?{_FILE_NAME}'
  rf'|\b(?:read|reads|input|write|writes|written|output'
  rf'|print)\b[^.?!\n]{{0,40}}'
  r'\b(?:from|to|in|into) [`"\']{0,2}(?:input|output)\.(?:txt|in|out|dat)\b'
  rf'|\bfile ?(?:name)?s?[ :]{{1,3}}{_FILE_NAME}'
  r'|\b(?:input|output) files? (?:is|are|will be) (?:named|called) '
  r'|\b(?:read|reads|write|writes|input|output|from|to|into) ["\'`]{1,2}'
  r'[\w\-*]{1,40}\.(?:in|out|inp|ans)\b["\'`]{1,2}'
  rf'|^\(?{_FILE_NAME}\)?(?:/| ?, ?| and ){_FILE_NAME}',
  re.IGNORECASE | re.MULTILINE,
)


def template(row: Row) -> Mapping[str, Any] | None:
  names = [n for n in _CLASS.findall(row.starter) if n != 'Solution']
  if names:
    return {'classes': names[:5]}
  raw = row.problem[: statements.CHARS]
  for place, source in (('starter', row.starter), ('problem', raw)):
    match = _CLASSES.search(source) or (
      _DESIGN.search(source) if place == 'problem' else None
    )
    if match:
      return {'in': place, 'matched': match[0][:80]}
  return None


def file_io(row: Row) -> Mapping[str, Any] | None:
  words = statements.prepared(row.problem).text
  match = _FILES.search(words)
  if match is None:
    return None
  return {'matched': statements.shown(words, *match.span())}
