r"""CHAMP: 270 competition problems, each with 72 stored responses of models.

    pip install champ-dataset==1.0.0        (MIT, 73 MB unpacked, no network)

    inputs.champ = source(rows=dict(fn='acereason_jax.data.curate.champ:rows'))
    responses = (dict(fn='acereason_jax.data.curate.champ:responses'),)

Its responses end with a sentence that sums up, mostly without a box. The value
in that sentence gets one here, if it is plain which it is; else the response
has no vote. They serve the vote only: they are of models whose terms do not
allow that others are trained on them.
"""

import importlib.util
import json
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from acereason_jax.data import records
from acereason_jax.data.curate import responses as responses_lib
from acereason_jax.data.curate import values
from acereason_jax.verifiers import math

_PACKAGE, _FILE = 'champ_dataset', 'dataset_files/v0.json'
_URL = 'https://yujunmao1.github.io/CHAMP/'
_MAX_CHARS = 2000
_SMALL = ('zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven')
_NUMBER = r'-?\d[\d,]*(?:\.\d+)?'
_WORD = '|'.join(_SMALL)
_YES_NO = re.compile(r'(yes|no)\b[,.:]?(?! (?:more|less|such)\b)', re.I)
_DELIMITERS = re.compile(r'\\[()\[\]]|\$|\\boxed(?=\{)|\\displaystyle')
_SENTENCE = re.compile(r'(?<=[a-z0-9)$}\]][.!?])\s+(?=[A-Z\\$])')
# What says that a value follows.
_MARKS = re.compile(
  r'\b(?:is|are|equals|equal to|be|given by(?: the (?:expression|formula))?)\b'
  r':?'
)
_EQUALS = re.compile(r'(?<![<>!])=')
_NONE = re.compile(r"\b(?:no|not|cannot|never|none|nor)\b|n't\b", re.I)
# What follows a value, and is no part of it.
_TAIL = re.compile(
  r'[,;]?\s+(?:which|when|where|with|for|if|as|at|because|since|so|achieved'
  r'|attained|occurring|given|in|after|regardless|considering|rounded|using|by'
  r'|and (?:it|is|this|that|occurs)|that|of|only)\b.*',
  re.DOTALL,
)
# Words in a formula. Others make a text no value.
_MATHS = frozenset(
  (
    *('and', 'or', 'frac', 'dfrac', 'tfrac', 'sqrt', 'cdot', 'times', 'left'),
    *('right', 'binom', 'pi', 'sin', 'cos', 'tan', 'log', 'ln', 'pm', 'mod'),
    *('pmod', 'sum', 'infty', 'leq', 'geq', 'le', 'ge', 'ldots', 'cdots'),
    *('dots', 'text', 'mathbb'),
  )
)
_WORDS = re.compile(r'[A-Za-z]{2,}')
_COUNTED = re.compile(
  r'(?:(?:^|, )there (?:is|are|exists?) (?:exactly |only |a total of )?'
  rf'|^(?:you need )?at (?:least|most) )({_NUMBER}|{_WORD}|(?!a )\S{{1,60}})'
  r'(?=\s+[a-z(])',
  re.I,
)
_WAYS = re.compile(r'\bin (?:a total of )?(\S[^a-z]*?) (?:\w+ )?ways\b')
_UNITS = re.compile(rf'({_NUMBER})(?: [a-z-]+){{1,4}}')
# What the data's own answers say besides the value.
_ANSWER_HEAD = re.compile(r'[Tt]he limit exists and is equal to ')
_ANSWER_TAIL = re.compile(
  r' is the only possible value$| \(i\.e\.[^)]*\)$|, or equivalently .*$'
)


def rows() -> list[values.Row]:
  """The problems; ids are the data's own."""
  return [
    values.Row(
      id=name,
      problem=str(problem['_text']),
      answer=reference(str(problem['_answer'])),
      url=_URL,
    )
    for name, problem in sorted(_problems().items())
  ]


def responses(
  rows: Sequence[values.Row], model: str = 'GPT-4 Turbo'
) -> responses_lib.Attempts:
  """The 18 responses of a model to each of its problems, in their order.

  Raises:
    ValueError: one line; there are no responses of this model.
  """
  problems = _problems()
  wanted = {row.id.rpartition('/')[2]: row for row in rows}
  found: responses_lib.Attempts = {}
  models: set[str] = set()
  for name, problem in problems.items():
    told = problem['conversations']
    models |= {key.partition('|')[0] for key in told}
    row = wanted.get(name)
    if row is not None and responses_lib.is_same(problem['_text'], row.problem):
      found[row.id] = [
        values.Attempt(_text(conversation['messages']), None, model)
        for key, conversation in told.items()
        if key.partition('|')[0] == model
      ]
  if model not in models:
    raise ValueError(
      f'model={model!r:.60}: CHAMP has responses of {", ".join(sorted(models))}'
    )
  return found


def reference(answer: str) -> str:
  """The value in an answer of the data, which are short sentences at times."""
  return _ANSWER_TAIL.sub('', _ANSWER_HEAD.sub('', answer)).strip()


def value(sentence: str) -> str | None:
  """The value that a summing-up sentence gives; None if that is not plain."""
  text = sentence.strip()[-_MAX_CHARS:]
  if (box := math.last_box(text)) is not None:
    return box.strip()
  if (told := _YES_NO.match(text)) is not None:
    return told[1].capitalize()
  text = ' '.join(_DELIMITERS.sub('', text).split())
  text = _SENTENCE.split(text)[-1].rstrip(' .')
  if _NONE.search(text):
    return None
  if (counted := _COUNTED.search(text)) is not None:
    word = counted[1].lower()
    if word in _SMALL:
      return str(_SMALL.index(word))
    return counted[1] if _is_formula(word) else None
  if (ways := _WAYS.search(text)) is not None and _is_formula(ways[1]):
    return ways[1].strip()
  for mark in _MARKS.finditer(text):
    rest = _TAIL.sub('', text[mark.end() :]).strip(' ,;:')
    if (unit := _UNITS.fullmatch(rest)) is not None:
      return unit[1]
    if _is_formula(rest):
      # Several values are one answer to the judge if commas part them.
      return re.sub(r',?\s+and\s+', ', ', rest)
  for mark in _EQUALS.finditer(text):
    if _is_formula(rest := text[mark.end() :].strip()):
      return rest
  return None


def _is_formula(text: str) -> bool:
  """Whether a text is a value: something, and no words."""
  if not re.search(r'[0-9a-zA-Z]', text) or re.match(r'[=<>*/^)]', text):
    return False
  return all(word.lower() in _MATHS for word in _WORDS.findall(text))


def _text(messages: Sequence[Mapping[str, Any]]) -> str:
  """The answer and the sentence that sums it up, with its value in a box."""
  told = [m['text'] for m in messages if m['role'].startswith('Model.')]
  if not told or not all(isinstance(text, str) for text in told):
    return ''  # It became too long.
  *_, sentence = told
  text = '\n\n'.join(told[-2:])
  if (found := value(sentence)) is not None:
    text += f'\n\n\\boxed{{{found}}}'
  return text


def _problems() -> dict[str, Any]:
  spec = importlib.util.find_spec(_PACKAGE)
  if spec is None or not spec.submodule_search_locations:
    raise ValueError(
      'CHAMP is not installed; install it: pip install champ-dataset==1.0.0'
    )
  place = pathlib.Path(spec.submodule_search_locations[0], _FILE)
  with records.opened(place, records.MAX_LINE_BYTES) as file:
    content = file.read()
  try:
    return dict(json.loads(content)['problems'])
  except (ValueError, KeyError, TypeError) as e:
    raise ValueError(
      f'{place}: not the file of champ-dataset 1.0.0; install it again'
    ) from e
