"""Runs a stranger's tokenizer and chat template in a separate process.

`python -m acereason_jax.models.tokens_worker BYTES`: tokens.py starts it with
its limit of memory. A chat template is a program, and a tokenizer file holds
rules that can make gigabytes of a word, so the kernel ends a process that
exceeds its limits. It never imports jax.

A message is its length (u64, little-endian) and JSON, both ways.
"""

import array
import base64
import datetime
import json
import math
import os
import random
import resource
import struct
import sys
from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedTokenizerFast
from transformers.utils import chat_template_utils

LENGTH = struct.Struct('<Q')
# Size limit of stderr, which is kept for the parent; other files are forbidden.
_WRITTEN_BYTES = 1 << 20
_MAX_CHARACTERS = 16 << 20
# The largest known vocabularies have 262,144 tokens, 6,000 of them added. The
# time to add tokens grows faster than their number.
_MAX_TOKENS = 1 << 20
_MAX_ADDED = 1 << 16
TOO_LONG = '{} texts took more CPU time than they may'
# No library may print between the replies.
_REPLIES, sys.stdout = sys.stdout.buffer, sys.stderr


class Clock(datetime.datetime):
  """The time that a template gets: the parent's, always the same."""

  fixed = datetime.datetime(1970, 1, 1)
  read = False

  @classmethod
  def now(cls, tz: Any = None) -> datetime.datetime:
    cls.read = True
    return cls.fixed


def limit(bytes_: int) -> None:
  """Limits memory and files for good; each request limits its own CPU time."""
  limits = {resource.RLIMIT_FSIZE: _WRITTEN_BYTES, resource.RLIMIT_CORE: 0}
  if sys.platform == 'linux':
    limits[resource.RLIMIT_AS] = bytes_
  for kind, value in limits.items():
    _lower(kind, value)


def spent() -> float:
  """Seconds of CPU time that this process has used."""
  used = resource.getrusage(resource.RUSAGE_SELF)
  return used.ru_utime + used.ru_stime


def allow(seconds: int) -> None:
  """Lets this process use `seconds` more of CPU time, rounded up."""
  _lower(resource.RLIMIT_CPU, math.ceil(spent()) + seconds, keep_hard=True)


def _lower(kind: int, value: int, keep_hard: bool = False) -> None:
  _, hard = resource.getrlimit(kind)
  if hard != resource.RLIM_INFINITY:
    value = min(value, hard)
  resource.setrlimit(kind, (value, hard if keep_hard else value))


def load(directory: str) -> PreTrainedTokenizerFast:
  settings = os.path.join(directory, 'tokenizer_config.json')
  if os.path.exists(settings):
    with open(settings, encoding='utf-8') as file:
      if 'fast_tokenizer_files' in json.load(file):
        raise ValueError(
          'fast_tokenizer_files in tokenizer_config.json names other files '
          'than tokenizer.json, anywhere on the disk; remove it'
        )
  return PreTrainedTokenizerFast.from_pretrained(
    directory, local_files_only=True
  )


def describe(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
  """Everything that the parent needs to decode, and two special tokens."""
  backend = tokenizer.backend_tokenizer
  if getattr(backend.model, 'dropout', None):
    raise ValueError(
      f'model.dropout={backend.model.dropout} in tokenizer.json would give '
      'other tokens each time; set it to null'
    )
  count = backend.get_vocab_size(with_added_tokens=True)
  added = backend.get_added_tokens_decoder()
  if count > _MAX_TOKENS or len(added) > _MAX_ADDED:
    raise ValueError(
      f'tokenizer.json has {count:,} tokens, of which {len(added):,} are '
      f'added; expected at most {_MAX_TOKENS:,} and {_MAX_ADDED:,}'
    )
  decoder = backend.decoder
  return dict(
    vocab=backend.get_vocab(with_added_tokens=True),
    added=[[t.content, t.special] for _, t in sorted(added.items())],
    decoder=None if decoder is None else json.loads(decoder.__getstate__()),
    bos_token_id=tokenizer.bos_token_id,
    eos_token_id=tokenizer.eos_token_id,
    chat_template=tokenizer.chat_template,
  )


def render(tokenizer: PreTrainedTokenizerFast, messages: list) -> str:
  # The `random` filter of Jinja draws from this.
  random.seed(0)
  text = tokenizer.apply_chat_template(
    messages, tokenize=False, add_generation_prompt=True
  )
  if len(text) > _MAX_CHARACTERS:
    raise ValueError(f'a prompt of {len(text)} characters')
  return text


def encode_chats(
  tokenizer: PreTrainedTokenizerFast, request: Mapping[str, Any]
) -> dict[str, Any]:
  """The tokens of every conversation: their numbers, and all as one array.

  Each may take the request's `cpu_seconds` to render and to encode, all
  together its `all_seconds`.
  """
  until = spent() + request['all_seconds']
  lengths, joined = [], array.array('i')

  def allow_one() -> None:
    if (left := until - spent()) <= 0:
      raise TimeoutError(TOO_LONG.format(len(request['chats'])))
    allow(min(request['cpu_seconds'], int(left) + 1))

  for messages in request['chats']:
    allow_one()
    text = render(tokenizer, messages)
    if not text.endswith(request['opens']):
      text += request['opens']
    allow_one()
    # The template writes its own BOS token; encode must not add another.
    ids = tokenizer.encode(text, add_special_tokens=False)
    lengths.append(len(ids))
    joined.extend(ids)
  return dict(lengths=lengths, tokens=base64.b64encode(joined).decode())


def answer(
  tokenizer: PreTrainedTokenizerFast, request: Mapping[str, Any]
) -> Any:
  if 'chats' in request:
    return encode_chats(tokenizer, request)
  if 'render' in request:
    return render(tokenizer, request['render'])
  return tokenizer.encode(
    request['encode'], add_special_tokens=request['special']
  )


def receive() -> dict[str, Any] | None:
  """The next request; None if the parent is gone."""
  head = sys.stdin.buffer.read(LENGTH.size)
  if len(head) < LENGTH.size:
    return None
  return json.loads(sys.stdin.buffer.read(*LENGTH.unpack(head)))


def send(**reply: Any) -> None:
  reply |= dict(clock=Clock.read, seconds=spent())
  raw = json.dumps(reply).encode()
  _REPLIES.write(LENGTH.pack(len(raw)) + raw)
  _REPLIES.flush()


def serve() -> None:
  """Answers until the parent is gone; reports an error and then ends."""
  tokenizer = None
  while (request := receive()) is not None:
    allow(request['cpu_seconds'])
    try:
      if tokenizer is None:
        Clock.fixed = datetime.datetime.fromisoformat(request['clock'])
        tokenizer = load(request['load'])
        value = describe(tokenizer)
      else:
        value = answer(tokenizer, request)
    except BaseException as e:  # A panic of Rust is no Exception.
      send(failed=f'{type(e).__name__}: {e}'[:1000])
      raise
    send(value=value)


def main() -> None:
  limit(int(sys.argv[1]))
  if chat_template_utils.datetime is not datetime.datetime:
    raise ImportError('transformers reads the clock otherwise than expected')
  chat_template_utils.datetime = Clock
  serve()


if __name__ == '__main__':
  main()
