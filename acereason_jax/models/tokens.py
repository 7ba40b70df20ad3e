"""Text to tokens and back, from the model's own tokenizer.json.

A tokenizer's files come from strangers, and a chat template is a program. So a
process with limits reads them, renders and encodes (tokens_worker.py); only
what decodes, a table of bounded texts, comes into this one.

That process uses `PreTrainedTokenizerFast`, not `AutoTokenizer`: the latter
picks a class by name, and transformers 4 and 5 pick differently (one adds a BOS
token, another rebuilds the pre-tokenizer); the former reads tokenizer.json as
it is, and renders chat templates in a sandbox.
"""

import hashlib
import json
import os
import select
import signal
import struct
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tokenizers

from acereason_jax import children, types
from acereason_jax.models import tensorfiles

# A judge of reasoning looks for the second; some families (not R1-Distill or
# Qwen3) call both special tokens, which decoding leaves out.
THINK = OPEN, CLOSE = '<think>', '</think>'

_WORKER = 'acereason_jax.models.tokens_worker'
_VARIABLES = {
  'HF_HUB_OFFLINE': '1',
  'TRANSFORMERS_VERBOSITY': 'error',
  # Threads reserve address space, which is limited.
  'TOKENIZERS_PARALLELISM': 'false',
  'RAYON_NUM_THREADS': '1',
  'MALLOC_ARENA_MAX': '1',
}
_LENGTH = struct.Struct('<Q')
# A tokenizer of 262,144 tokens takes half a GiB and 3 seconds, 2 of which go
# into imports.
MEMORY_BYTES = 2 << 30
LOAD_SECONDS = 30
# CPU time: no text may take more than the first; all of them share the second
# and the third a text. Of 1,000 characters one takes 0.5 ms.
TEXT_SECONDS = 10
SHARED_SECONDS = 20
SECONDS_A_TEXT = 0.05
# What chat templates are told is the time: a prompt must be the same tomorrow.
# The date that Llama 3's template takes where there is no clock.
CLOCK = '2024-07-26'

_MAX_REPLY_BYTES = 512 << 20
_MAX_TOKENIZER_BYTES = 128 << 20
_MAX_FILE_BYTES = 16 << 20
_MAX_TOKEN_CHARACTERS = 4096
_MAX_DECODERS = 64
_TEMPLATES = 'additional_chat_templates'
_FILES = (
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'added_tokens.json',
  'chat_template.jinja',
  'config.json',
)
# What decodes in time and memory of the tokens' own size; a Replace is looked
# at on its own.
_DECODERS = (
  'BPEDecoder',
  'ByteFallback',
  'ByteLevel',
  'CTC',
  'Fuse',
  'Metaspace',
  'Strip',
  'WordPiece',
)


class Tokenizer:
  """The tokenizer of a model directory, by the names that transformers uses.

  `digest` is the SHA-256 of all that decodes. `reads_clock` becomes True when
  a chat template has asked for the time, and was told CLOCK.
  """

  def __init__(self, directory: str):
    self.name_or_path = os.fspath(directory)
    _check_files(self.name_or_path)
    self.reads_clock = False
    self._texts = 0
    self._worker: _Worker | None = None
    told = self._start()
    self.chat_template = told['chat_template']
    self.eos_token_id = told['eos_token_id']
    self._vocab = told['vocab']
    self._decoding, self.digest = _decoding(self.name_or_path, told)

  def get_vocab(self) -> dict[str, int]:
    return dict(self._vocab)

  def apply_chat_template(
    self,
    messages: Sequence[Mapping[str, str]],
    *,
    tokenize: bool,
    add_generation_prompt: bool,
  ) -> str:
    """The conversation as text.

    Raises:
      ValueError: one line; the template fails, or takes too much.
    """
    assert not tokenize and add_generation_prompt
    return self._ask('its chat template cannot render', render=list(messages))

  def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
    """Raises ValueError: one line; the tokenizer fails, or takes too much."""
    return self._ask(
      'its tokenizer cannot encode', encode=text, special=add_special_tokens
    )

  def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
    """The text; thinking tags are no special tokens here: judges look for
    them."""
    return self._decoding.decode(ids, skip_special_tokens=skip_special_tokens)

  def close(self) -> None:
    """Ends the process that encodes; what encodes later starts another."""
    if self._worker is not None:
      self._worker.end()
      self._worker = None

  def _start(self) -> dict[str, Any]:
    self._worker = _Worker()
    try:
      reply = self._worker.ask(
        LOAD_SECONDS, load=os.path.abspath(self.name_or_path), clock=CLOCK
      )
    except _Failed as e:
      raise ValueError(
        f'{self.name_or_path}: its tokenizer cannot be loaded ({e}); download '
        'its tokenizer files again, or do not use it'
      ) from None
    self._texts, self._loaded_seconds = 0, reply['seconds']
    return reply['value']

  def _ask(self, cannot: str, **request: Any) -> Any:
    if self._worker is None or self._worker.ended:
      self._start()
    self._texts += 1
    left = SHARED_SECONDS + self._texts * SECONDS_A_TEXT
    left -= self._worker.seconds - self._loaded_seconds
    try:
      if left <= 0:
        raise _Failed(f'{self._texts} texts took more CPU time than they may')
      seconds = min(TEXT_SECONDS, int(left) + 1)
      reply = self._worker.ask(seconds, **request)
    except _Failed as e:
      raise ValueError(
        f'{self.name_or_path}: {cannot} a prompt ({e}); fix its tokenizer '
        'files, or do not use it'
      ) from None
    self.reads_clock |= bool(reply['clock'])
    return reply['value']


class _Failed(Exception):
  """Why there is no reply."""


class _Worker:
  """The process of tokens_worker.py; ends with its last reference."""

  def __init__(self):
    self.ended = False
    self.seconds = 0.0
    self._errors = tempfile.TemporaryFile()  # noqa: SIM115
    try:
      self._process = subprocess.Popen(
        [sys.executable, '-P', '-m', _WORKER, str(MEMORY_BYTES)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=self._errors,
        bufsize=0,
        env=children.environment(**_VARIABLES),
        # A Ctrl+C at the terminal is for this process, which ends that one.
        start_new_session=True,
      )
    except OSError as e:
      raise OSError(e.errno, f'no process for the tokenizer: {e}') from e
    os.set_blocking(self._process.stdin.fileno(), False)
    self.end = weakref.finalize(self, _end, self._process, self._errors)

  def ask(self, cpu_seconds: int, **request: Any) -> dict[str, Any]:
    """The reply to a request. Raises: _Failed; the process has ended then."""
    message = json.dumps(request | dict(cpu_seconds=cpu_seconds)).encode()
    # For what waits instead of computing; others share these processors.
    until = time.monotonic() + 60 + 10 * cpu_seconds
    try:
      reply = self._exchange(message, until)
    except EOFError:
      reply = dict(failed=self._why(cpu_seconds))
    except BaseException:
      self._leave()
      raise
    if 'failed' in reply:
      self._leave()
      raise _Failed(reply['failed'])
    self.seconds = reply['seconds']
    return reply

  def _leave(self) -> None:
    self.ended = True
    self.end()

  def _exchange(self, message: bytes, until: float) -> dict[str, Any]:
    to, rest = self._process.stdin, _LENGTH.pack(len(message)) + message
    rest = memoryview(rest)
    while rest:
      _wait(to, select.POLLOUT, until)
      try:
        rest = rest[os.write(to.fileno(), rest) :]
      except BrokenPipeError:
        raise EOFError from None
    (size,) = _LENGTH.unpack(self._read(_LENGTH.size, until))
    if size > _MAX_REPLY_BYTES:
      raise _Failed(f'a reply of {size} bytes')
    reply = json.loads(self._read(size, until))
    return reply

  def _read(self, size: int, until: float) -> bytes:
    data = bytearray()
    while len(data) < size:
      _wait(self._process.stdout, select.POLLIN, until)
      part = os.read(
        self._process.stdout.fileno(), min(1 << 20, size - len(data))
      )
      if not part:
        raise EOFError
      data += part
    return bytes(data)

  def _why(self, cpu_seconds: int) -> str:
    """Why the process is gone."""
    try:
      status = self._process.wait(10)
    except subprocess.TimeoutExpired:
      return 'it closed its pipe'
    if status == -signal.SIGXCPU:
      return f'it takes more than {cpu_seconds} seconds of CPU time'
    self._errors.seek(0)
    said = self._errors.read(1 << 20).decode(errors='replace').strip()
    said = said.rpartition('\n')[-1][:300]
    if 'MemoryError' in said or status in (-signal.SIGABRT, -signal.SIGSEGV):
      return f'it takes more than {MEMORY_BYTES >> 20} MiB of memory: {said}'
    return f'exit status {status}: {said}'


def _end(process: subprocess.Popen, errors: Any) -> None:
  process.kill()
  process.wait()
  process.stdin.close()
  process.stdout.close()
  errors.close()


def _wait(pipe: Any, event: int, until: float) -> None:
  poll = select.poll()
  poll.register(pipe, event)
  left = until - time.monotonic()
  if left <= 0 or not poll.poll(int(1000 * left) + 1):
    raise _Failed('no answer in time')


def _check_files(directory: str) -> None:
  """Raises ValueError, OSError: no file, or one that should not be opened."""
  folder = os.path.join(directory, _TEMPLATES)
  names = list(_FILES)
  if os.path.isdir(folder):
    names += [os.path.join(_TEMPLATES, name) for name in os.listdir(folder)]
  for name in names:
    path = os.path.join(directory, name)
    most = _MAX_FILE_BYTES
    if name == 'tokenizer.json':
      most = _MAX_TOKENIZER_BYTES
    elif not os.path.lexists(path):
      continue
    try:
      tensorfiles.open_regular(path, most).close()
    except FileNotFoundError as e:
      raise FileNotFoundError(
        f'{path}: not found; expected a model directory with a fast tokenizer: '
        'copy the tokenizer files of its base model there'
      ) from e


def _decoding(
  directory: str, told: Mapping[str, Any]
) -> tuple[tokenizers.Tokenizer, str]:
  """What decodes, of bounded cost, and its digest.

  Raises:
    ValueError: one line; decoding would not be bounded, or not be one to one.
  """
  vocab, added, decoder = told['vocab'], told['added'], told['decoder']
  refuse = lambda what: ValueError(
    f'{directory}: tokenizer.json: {what}; do not use this tokenizer'
  )
  if len(set(vocab.values())) < len(vocab):
    raise refuse('two tokens have the same id')
  longest = max(map(len, vocab), default=0)
  if longest > _MAX_TOKEN_CHARACTERS:
    raise refuse(
      f'a token of {longest} characters, expected at most '
      f'{_MAX_TOKEN_CHARACTERS}'
    )
  if what := _grows(decoder):
    raise refuse(f'its decoder {what}')
  flags = dict.fromkeys(
    ('single_word', 'lstrip', 'rstrip', 'normalized'), False
  )
  whole = dict(
    version='1.0',
    truncation=None,
    padding=None,
    added_tokens=[
      dict(
        id=vocab[content],
        content=content,
        special=special and content not in THINK,
        **flags,
      )
      for content, special in added
    ],
    normalizer=None,
    pre_tokenizer=None,
    post_processor=None,
    decoder=decoder,
    # Merges are of no use here.
    model=dict(type='WordLevel', vocab=vocab, unk_token=''),
  )
  text = json.dumps(whole, sort_keys=True)
  digest = hashlib.sha256(text.encode()).hexdigest()
  return tokenizers.Tokenizer.from_str(text), digest


def _grows(decoder: Any) -> str:
  """Why a decoder's text may be longer than its tokens, or take long; ''."""
  todo, seen = [decoder], 0
  while todo:
    part = todo.pop()
    seen += 1
    if seen > _MAX_DECODERS:
      return f'has more than {_MAX_DECODERS} parts'
    match part:
      case None:
        pass
      case {'type': 'Sequence', 'decoders': [*parts]}:
        todo += parts
      case {
        'type': 'Replace',
        'pattern': {'String': str(old)},
        'content': str(new),
      }:
        if not len(new) <= len(old) <= _MAX_TOKEN_CHARACTERS:
          return f'replaces {old!r:.40} by the longer {new!r:.40}'
      # Nothing found, a space put in everywhere.
      case {'type': 'BPEDecoder', 'suffix': ''} | {
        'type': 'CTC',
        'word_delimiter_token': '',
      }:
        return 'puts a space between all letters'
      case {'type': str(kind)} if kind in _DECODERS:
        pass
      case {'type': kind}:
        return f'is of type {kind!r:.40}, which is not supported'
      case _:
        return 'cannot be read'
  return ''


def load_tokenizer(directory: str) -> Tokenizer:
  """The tokenizer of a model directory; `close` it when all is encoded.

  Raises:
    FileNotFoundError: it has no tokenizer.json.
    ValueError, OSError: one line; files that cannot be read, or take too much.
  """
  return Tokenizer(directory)


def chat_tokens(
  tokenizer: Tokenizer,
  messages: Sequence[Mapping[str, str]],
  opens: str = '',
) -> np.ndarray:
  """The templated conversation, up to where the reply begins: int32 [S].

  The reply begins after `opens`, which is added where the template does not
  end with it; see `check_thinking`.

  Raises:
    ValueError: the tokenizer has no chat template, or one that fails.
  """
  if tokenizer.chat_template is None:
    raise ValueError(
      f'{tokenizer.name_or_path}: the tokenizer has no chat template; '
      "expected 'chat_template' in tokenizer_config.json or a "
      'chat_template.jinja: copy it from an instruction-tuned model'
    )
  text = tokenizer.apply_chat_template(
    list(messages), tokenize=False, add_generation_prompt=True
  )
  if not text.endswith(opens):
    text += opens
  # The template writes its own BOS token; encode must not add another.
  ids = tokenizer.encode(text, add_special_tokens=False)
  return np.asarray(ids, np.int32)


def decode(tokenizer: Tokenizer, tokens: np.ndarray) -> str:
  """The text of `tokens`; special tokens, a stop token say, leave none.

  Thinking tags stay, special or not: judges look for them.
  """
  return tokenizer.decode(np.asarray(tokens).tolist())


def check_thinking(
  tokenizer: Tokenizer,
  stops: Sequence[int],
  *,
  opens: str,
  reasons: bool,
) -> None:
  """Checks where a reply begins and, if it `reasons`, that a judge can find
  the end of its thinking.

  Raises:
    ValueError: one line that begins with a field of config.prompt.
  """
  name = tokenizer.name_or_path
  there = _before_reply(tokenizer)
  tags = [tag for tag in THINK if tag in there] or [opens.strip()]
  if opens and not there.endswith(opens) and tags[0] in there:
    raise ValueError(
      f'opens={opens!r}: the chat template of {name} begins the reply with '
      f'{there[-80:]!r}, and {tags[0]} would stand there twice; expected one '
      "that ends with opens, or has none of it; give what it ends with, or ''"
    )
  if not reasons:
    return
  else_false = 'or set reasons=False for a model that does not think'
  if CLOSE in there + opens:
    raise ValueError(
      f'reasons=True: the reply begins after {(there + opens)[-80:]!r}, which '
      f'ends the thinking; expected {CLOSE} in the reply, without which every '
      f'reward is 0; change the chat template or opens, {else_false}'
    )
  ids = tokenizer.encode(f'so\n{CLOSE}\n\n5', add_special_tokens=False)
  got = decode(tokenizer, np.asarray(ids, np.int32))
  if CLOSE not in got:
    raise ValueError(
      f'reasons=True: the tokenizer of {name} gives {CLOSE} back as '
      f'{got!r:.60}; expected the same text, without which every reward is 0; '
      f'use the tokenizer of a model that thinks, {else_false}'
    )
  close = tokenizer.get_vocab().get(CLOSE)
  if close in stops:
    raise ValueError(
      f'reasons=True: {CLOSE}, token {close}, is a stop token of {name}; '
      'expected an answer after it, without which every reward is 0; take it '
      f'out of generation_config.json or tokenizer_config.json, {else_false}'
    )


def _before_reply(tokenizer: Tokenizer) -> str:
  """What the template puts between the last question and the reply."""
  question = 'What is 2 + 3?'
  text = tokenizer.apply_chat_template(
    [{'role': 'user', 'content': question}],
    tokenize=False,
    add_generation_prompt=True,
  )
  return text.rpartition(question)[2]


def stop_token_ids(tokenizer: Tokenizer, directory: str) -> tuple[int, ...]:
  """Every token that ends a response, sorted: the tokenizer's end token and
  those of generation_config.json, if there is one.

  Raises:
    ValueError: neither names a token, or what they name is none.
  """
  stops = {tokenizer.eos_token_id}
  file = os.path.join(directory, 'generation_config.json')
  if os.path.lexists(file):
    found = tensorfiles.read_json(file).get('eos_token_id')
    found = found if isinstance(found, list) else [found]
    for stop in found:
      if stop is not None and (type(stop) is not int or stop < 0):
        raise ValueError(
          f'{file}: eos_token_id holds {stop!r:.40}; expected token ids: whole '
          'numbers from 0'
        )
    stops |= set(found)
  stops.discard(None)
  if not stops:
    raise ValueError(
      f'{directory}: no stop token; expected eos_token in '
      'tokenizer_config.json or eos_token_id in generation_config.json'
    )
  return tuple(sorted(stops))


def digest(prompts: Iterable[types.Prompt]) -> str:
  """SHA-256 of ids and tokens, in order: of what an engine is given."""
  whole = hashlib.sha256()
  for prompt in prompts:
    head = [prompt.id, len(prompt.tokens)]
    whole.update(json.dumps(head).encode() + b'\n')
    whole.update(np.asarray(prompt.tokens, '<i4').tobytes())
  return whole.hexdigest()


def clock_line(tokenizer: Tokenizer) -> str:
  """For the user, where a chat template `reads_clock`."""
  return (
    f'{tokenizer.name_or_path}: its chat template asks for the time; it is '
    f'told {CLOCK}, so that prompts stay as they are'
  )
