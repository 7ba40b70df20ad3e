"""Programming problems that need more than standard input and output.

Named files, and classes that the source's system provides or calls.
"""

import re
from collections.abc import Mapping
from typing import Any

from acereason_jax.data.curate import gates, statements
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
_SIGNATURE = re.compile(r'^[ \t]{0,16}def (.{1,400})', re.MULTILINE)
_TYPE = re.compile(r'(?:[:\[,|(]|->) ?["\']?([A-Z]\w{1,40})\b(?! ?=)')
_TYPES = frozenset(
  (
    'List', 'Dict', 'Set', 'FrozenSet', 'Tuple', 'Optional', 'Any', 'Union',
    'Iterable', 'Iterator', 'Callable', 'Sequence', 'Mapping', 'Deque',
    'DefaultDict', 'Counter', 'OrderedDict', 'None', 'True', 'False', 'Literal',
    'Generator', 'Type', 'Hashable', 'Collection', 'MutableSequence',
    'MutableMapping', 'Final', 'ClassVar', 'NoReturn', 'Text', 'TypeVar',
    'Decimal', 'Fraction', 'Number', 'Integer', 'String', 'Bool', 'Self',
  )
)  # fmt: skip
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
_FILES = gates.Gated(
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

_NAME = re.compile(
  r'(?<![\w/.])(?P<disk>[a-z]:\\(?:\w{1,30}\\){0,6}'
  r'|\./)?[`"\'*(\u201c]{0,3}[\w\-]{1,40}\.(?:in|out|inp|txt|dat|ans|csv'
  r'|sol|res|tsv|outp|input|output|json|xml|text|data|bin|log|cfg|ini|conf'
  r'|inf|inn|ou|rez|sav|raw|pgm|bmp|wav)\b(?!\.\w)',
  re.IGNORECASE,
)
_PATH = re.compile(
  r'\b(?:read|reads|use|using|from|in|open|load|stored|into'
  r'|to) (?:the (?:file|folder|directory) )?/(?:usr|etc|home|tmp|var|data'
  r'|opt|mnt|root)/[\w./-]{1,60}',
  re.IGNORECASE,
)
# C:\\TASK\\INPUT.TXT, as it is written.
_DISK = re.compile(r'\b[A-Za-z]:\\[\w\\-]{1,80}\.[A-Za-z]{2,4}\b')
# In front of a name: what the program does with the file.
_OPENED = re.compile(
  r'\b(?:(?:file|files|called|named|name|titled|open|opens|opened|read|reads'
  r'|reading|create|creates|load|loads|process|parse|input|output'
  r'|contents? of|lines? of|freopen|fopen|ifstream'
  r'|ofstream|append to|overwrite)\W{0,3}(?:(?:is|are|:|the|a|text|data'
  r'|input|output|file|named|called|both) ?\W{0,2}){0,4}'
  r'|(?:read|reads|reading|input|output|write|writes|written|is|are|lies?'
  r'|resides?|sits?|stands?|take|takes|taken'
  r'|give|given|store|stores|stored|save|saves|saved|put|puts|place|placed'
  r'|comes?|goes?|go|find|found'
  r'|data|results?|answers?|print|printed|printing|located|contained'
  r'|contains?|obtained|fetched|supplied|provided|get|redirect\w*|sent|send'
  r'|dump\w*|export\w*|import\w*)\b[^.?!\n]{0,60}? '
  r'(?:from|to|into|in|inside|onto|via|through|as|of|at) (?:(?:the|a|text'
  r'|data|input|output|file|named|called) ){0,4})\W{0,3}\Z',
  re.IGNORECASE,
)
# Names of files that are data.
_MENTIONED = re.compile(
  r'\b(?:such as|e\.g|like|for example|for instance|as in|say|of the form'
  r'|extensions?'
  r'|end(?:s|ing)? (?:with|in)|renam\w+|becomes?|list of|names? (?:of )?an?'
  r'|names a'
  r'|paths?|domains?|masks?|log|command|hosts?|urls?|web|matches|pattern'
  r'|sorted|suffix|is given)\b',
  re.IGNORECASE,
)


def template(row: Row) -> Mapping[str, Any] | None:
  """A class other than Solution, or a type that Python does not have."""
  names = [n for n in _CLASS.findall(row.starter) if n != 'Solution']
  if names:
    return {'classes': names[:5]}
  if unknown := _unknown_type(row.starter):
    return {'classes': [unknown]}
  raw = row.problem[: statements.CHARS]
  for place, source in (('starter', row.starter), ('problem', raw)):
    match = _CLASSES.search(source) or (
      _DESIGN.search(source) if place == 'problem' else None
    )
    if match:
      return {'in': place, 'matched': match[0][:80]}
  return None


def _unknown_type(starter: str) -> str:
  """A class that a signature names and that Python does not have."""
  for line in _SIGNATURE.findall(starter):
    for name in _TYPE.findall(line):
      if name not in _TYPES:
        return name
  return ''


def file_io(row: Row) -> Mapping[str, Any] | None:
  """The name of a file that the program reads or writes."""
  words, _, small = statements.prepared(row.problem)
  match = (
    _FILES.search(words, small)
    or _opened(words)
    or _DISK.search(row.problem[: statements.CHARS])
  )
  if match is None:
    return None
  return {'matched': statements.shown(match.string, *match.span())}


def _opened(words: str) -> re.Match | None:
  """The name of a file that the program reads or writes."""
  for match in _NAME.finditer(words):
    start = max(
      words.rfind(mark, 0, match.start()) for mark in ('. ', '\n', '? ')
    )
    before = words[max(start + 1, match.start() - 200, 0) : match.start()]
    if _MENTIONED.search(before):
      continue
    if match['disk'] or _OPENED.search(before):
      return match
  for match in _PATH.finditer(words):
    if not _MENTIONED.search(
      words[max(match.start() - 100, 0) : match.start()]
    ):
      return match
  return None
