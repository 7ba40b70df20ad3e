"""Rollouts and verdicts as bytes, and back bit for bit, or not at all.

A file or an object of the journal is a head and records. Numbers are
little-endian.

    head    8 bytes of magic, version (u32), SHA-256 of the fingerprint
    record  bytes of JSON (u64), bytes of numbers (u64), CRC-32 of all else in
            the record (u32), JSON, numbers
    numbers of a verdict: seconds (float64); of a rollout: entropy (float64),
            tokens (int32), logp and full_logp (float32)
"""

import hashlib
import json
import struct
import zlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from acereason_jax import types

_MAGIC, _VERSION = b'rollouts', 1
_HEAD = struct.Struct('<8sI32s')
_SIZES = struct.Struct('<QQ')
_CRC = struct.Struct('<I')
_NUMBER = struct.Struct('<d')
_ARRAYS = dict(tokens='int32', logp='float32', full_logp='float32')
Bytes = bytes | bytearray | memoryview


class Key(NamedTuple):
  """The rollout that an entry is about.

  phase: purpose of the rollout, such as 'train' or 'heldout'.
  step: step that draws the rollout.
  prompt_id: id of its prompt.
  index: index among the prompt's rollouts, from 0.
  """

  phase: str
  step: int
  prompt_id: str
  index: int


class Entry(NamedTuple):
  """The known results of a key.

  rollout: rollout; None if it is not finished, or was lost.
  verdict: verdict; None if there is none. It may exist without its rollout.
  """

  rollout: types.Rollout | None = None
  verdict: types.Verdict | None = None


class Contents(NamedTuple):
  """What `read` found.

  records: whole records, in the order of writing.
  end: the byte where they end; 0 if not even the head is right.
  problem: what is wrong there; '' if nothing is.
  """

  records: list[tuple[Key, types.Rollout | types.Verdict]]
  end: int
  problem: str = ''


def head(fingerprint: str) -> bytes:
  """The head of all that a run with this fingerprint writes."""
  digest = hashlib.sha256(fingerprint.encode('utf-8', 'surrogatepass'))
  return _HEAD.pack(_MAGIC, _VERSION, digest.digest())


def rollout_record(key: Key, rollout: types.Rollout) -> bytes:
  """The record of a rollout.

  Raises:
    ValueError: arrays whose dtypes or shapes differ from `types.Rollout`.
  """
  numbers = [_NUMBER.pack(rollout.entropy)]
  shape = rollout.tokens.shape[:1]
  for name, dtype in _ARRAYS.items():
    array = getattr(rollout, name)
    if array.dtype != dtype or array.shape != shape:
      raise ValueError(
        f'rollout {key.prompt_id!r}, {key.index}: {name} is {array.dtype} '
        f'{array.shape}, expected {dtype} [R]; give what types.Rollout says'
      )
    numbers.append(array.astype(array.dtype.newbyteorder('<')).tobytes())
  text = dict(
    key=key,
    stop=rollout.stop,
    forced=[int(place) for place in rollout.forced],
    text=rollout.text,
    detail=rollout.detail,
  )
  return _record(text, b''.join(numbers))


def verdict_record(key: Key, verdict: types.Verdict) -> bytes:
  text = dict(key=key, status=verdict.status, detail=verdict.detail)
  return _record(text, _NUMBER.pack(verdict.seconds))


def read(content: Bytes, head: bytes) -> Contents:
  """The records of a file whose head must be `head`; see `Contents`.

  No memory is taken for what is not there, whatever sizes it names.
  """
  view = memoryview(content)
  if (start := bytes(view[: len(head)])) != head:
    if head.startswith(start):
      return Contents([], 0, 'torn before its first record')
    problem = 'of another configuration, data or version, or damaged'
    return Contents([], 0, problem)
  records, end = [], len(head)
  while end < len(view):
    body = end + _SIZES.size + _CRC.size
    if body > len(view):
      return Contents(records, end, 'ends in a torn record')
    of_text, of_numbers = _SIZES.unpack_from(view, end)
    middle, after = body + of_text, body + of_text + of_numbers
    if after > len(view):
      return Contents(records, end, 'ends in a torn record')
    sizes, crc = view[end : body - _CRC.size], view[body - _CRC.size : body]
    text, numbers = view[body:middle], view[middle:after]
    if crc != _CRC.pack(_checksum(sizes, text, numbers)):
      return Contents(records, end, 'a damaged record')
    try:
      records.append(_parse(text, numbers))
    except (ValueError, RecursionError):
      return Contents(records, end, 'a record of something else')
    end = after
  return Contents(records, end)


def _record(text: Mapping, numbers: bytes) -> bytes:
  # Not escaped, because two lone surrogates would be read back as one letter.
  text = json.dumps(text, ensure_ascii=False).encode('utf-8', 'surrogatepass')
  sizes = _SIZES.pack(len(text), len(numbers))
  crc = _CRC.pack(_checksum(sizes, text, numbers))
  return b''.join((sizes, crc, text, numbers))


def _checksum(*parts: Bytes) -> int:
  crc = 0
  for part in parts:
    crc = zlib.crc32(part, crc)
  return crc


def _parse(
  text: memoryview, numbers: memoryview
) -> tuple[Key, types.Rollout | types.Verdict]:
  """Raises ValueError or RecursionError for a record of another format."""
  match json.loads(bytes(text).decode('utf-8', 'surrogatepass')):
    case {
      'key': [str(phase), int(step), str(prompt_id), int(index)],
      'status': str(status),
      'detail': str(detail),
    } if len(numbers) == _NUMBER.size:
      (seconds,) = _NUMBER.unpack(numbers)
      key = Key(phase, step, prompt_id, index)
      return key, types.Verdict(status, detail, seconds)
    case {
      'key': [str(phase), int(step), str(prompt_id), int(index)],
      'stop': str(stop),
      'forced': [int(first), int(last)],
      'text': str(response),
      'detail': str(detail),
    } if len(numbers) % (4 * len(_ARRAYS)) == _NUMBER.size:
      (entropy,) = _NUMBER.unpack_from(numbers)
      words = np.frombuffer(numbers, np.uint32)[_NUMBER.size // 4 :]
      arrays = {
        name: part.view(np.dtype(dtype).newbyteorder('<')).astype(dtype)
        for part, (name, dtype) in zip(np.split(words, 3), _ARRAYS.items())
      }
      return Key(phase, step, prompt_id, index), types.Rollout(
        prompt_id=prompt_id,
        index=index,
        **arrays,
        stop=stop,
        text=response,
        entropy=entropy,
        forced=(first, last),
        detail=detail,
      )
  raise ValueError('neither a rollout nor a verdict')
