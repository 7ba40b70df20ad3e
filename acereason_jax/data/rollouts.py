"""Rollouts that `generate` wrote, read back with their reference answers.

The text of a rollout is hostile: it is read as data, within bounds, one line
at a time.
"""

import contextlib
import itertools
import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from acereason_jax.data import questions, records, sources

# A rollout of 32K tokens takes 1 MB with its tokens and their logps.
MAX_LINE_BYTES = 64 << 20
MAX_RESPONSE_BYTES = 4 << 20


class Response(NamedTuple):
  """A rollout in a file, with its reference.

  id: id of its prompt.
  index: index among the prompt's rollouts, from 0.
  text: the model's text.
  answer: the reference answer, or a code task as JSON.
  broken: why there is no response; None if there is one.
  step: step of a run that drew it; None for those of `generate`.
  """

  id: str
  index: int
  text: str
  answer: str
  broken: str | None
  step: int | None = None

  @property
  def name(self) -> str:
    where = '' if self.step is None else f'step {self.step} '
    return f'{where}{self.id}[{self.index}]'


def read_records(path: str) -> Iterator[tuple[str, dict[str, Any]]]:
  """('path:line', record) of each line that `generate` wrote, one at a time.

  Raises:
    ValueError: one line naming path:line.
  """
  return ((where, record) for where, _, record in read_places(path))


def read_places(path: str) -> Iterator[tuple[str, int, dict[str, Any]]]:
  """('path:line', offset in bytes, record) of each line; see `read_records`."""
  with records.opened(path, most_bytes=None) as file:
    for number in itertools.count(1):
      offset = file.tell()
      if not (line := file.readline(MAX_LINE_BYTES + 1)):
        return
      where = f'{path}:{number}'
      if len(line) > MAX_LINE_BYTES:
        raise ValueError(f'{where}: longer than {MAX_LINE_BYTES} bytes')
      if not line.strip():
        continue
      try:
        record = json.loads(line)
      except (ValueError, RecursionError) as e:
        if not line.endswith(b'\n'):
          return  # Its writer is not done, or was killed.
        raise ValueError(f'{where}: not one JSON object ({e})') from e
      match record:
        case {'id': str(), 'index': int(), 'text': str()}:
          yield where, offset, record
        case _:
          raise ValueError(
            f"{where}: no rollout: expected 'id', 'index' and 'text', as "
            'acereason_jax.generate writes them'
          )


def model_key(digests: Mapping[str, Any]) -> str:
  """A hash that is equal for responses of one model; '' if it is unknown.

  `digests` are those of the weights: `generate` writes them next to its
  rollouts. A checkpoint has a digest besides that of its model.
  """
  model, checkpoint = digests.get('model'), digests.get('checkpoint', '')
  if not isinstance(model, str) or not isinstance(checkpoint, str):
    return ''
  return questions.text_digest(json.dumps([model, checkpoint]))


def read_answers(path: str | None) -> dict[str, str] | None:
  """Answers by id, from a file of questions; None if there is no file."""
  if not path:
    return None
  return {row.id: row.answer for row in sources.jsonl(path)}


def read(
  path: str, answers: Mapping[str, str] | None, wanted: str | None = None
) -> Iterator[Response]:
  """The rollouts of a file, or only those of the prompt id `wanted`.

  Each has the answer of its id in `answers`, or, if that is None, the 'answer'
  of its line.

  Raises:
    ValueError: one line; a line is not a rollout, or has no answer.
  """
  for where, record in read_records(path):
    if wanted in (None, record['id']):
      broken = None
      if record.get('stop') == 'error':
        broken = str(record.get('detail', ''))
      yield Response(
        record['id'],
        record['index'],
        record['text'],
        _find_answer(where, record, answers),
        broken,
      )


def find(
  path: str, answers: Mapping[str, str] | None, wanted: str, index: int
) -> Response:
  """The rollout with this prompt id and index.

  Raises:
    ValueError: there is no such rollout, or it has no response.
  """
  others = []
  for response in read(path, answers, wanted):
    if response.index == index:
      break
    others.append(response.index)
  else:
    has = 'is not in it'
    if others:
      has = f'has indices {sorted(others)[:20]}, not {index}'
    raise ValueError(f'{path}: id {wanted!r:.220} {has}')
  if response.broken is not None:
    raise ValueError(
      f'{path}: {response.name}: no response, the rollout ended with an '
      f'error: {response.broken:.200}'
    )
  return response


def read_text(path: str) -> str:
  """One response: the text of a file or, for '-', of standard input.

  Raises:
    ValueError: one line; it is too long, or is not text.
  """
  with contextlib.ExitStack() as stack:
    file = sys.stdin.buffer
    if path != '-':
      file = stack.enter_context(records.opened(path))
    data = file.read(MAX_RESPONSE_BYTES + 1)
  if len(data) > MAX_RESPONSE_BYTES:
    raise ValueError(f'{path}: more than {MAX_RESPONSE_BYTES} bytes')
  try:
    return data.decode()
  except UnicodeDecodeError as e:
    raise ValueError(f'{path}: not UTF-8 text ({e})') from e


def _find_answer(
  where: str, record: Mapping[str, Any], answers: Mapping[str, str] | None
) -> str:
  if answers is None:
    answer = record.get('answer')
    remedy = "the line has no 'answer'; give --data, the file of questions"
  else:
    answer = answers.get(record['id'])
    remedy = f'--data has no id {record["id"]!r:.220}'
  if not isinstance(answer, str):
    raise ValueError(f'{where}: {remedy}')
  return answer
