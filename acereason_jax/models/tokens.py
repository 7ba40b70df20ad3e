"""Text to tokens and back, from the model's own tokenizer.json.

A tokenizer's files come from strangers, and a chat template is a program. So a
process with limits reads them, renders and encodes (tokens_worker.py). This one
only decodes, from a table of bounded texts (tokens_decode.py).

That process uses `PreTrainedTokenizerFast`, not `AutoTokenizer`: the latter
picks a class by name, and transformers 4 and 5 pick differently (one adds a BOS
token, another rebuilds the pre-tokenizer); the former reads tokenizer.json as
it is, and renders chat templates in a sandbox.
"""

import base64
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from acereason_jax import types
from acereason_jax.models import tensorfiles, tokens_decode, tokens_process

# A tokenizer of 262,144 tokens takes half a GiB and 3 seconds, 2 of them for
# imports.
MEMORY_BYTES = 2 << 30
LOAD_SECONDS = 30
# CPU time. No text may take more than the first. All texts together may take
# the second plus the third for each text. A text of 1,000 characters takes 0.5
# ms.
TEXT_SECONDS = 10
SHARED_SECONDS = 20
SECONDS_A_TEXT = 0.05
# The time that chat templates get, fixed so that prompts stay the same. It is
# the date that Llama 3's template uses without a clock.
CLOCK = '2024-07-26'

# Of one request to the process.
_MAX_CHATS, _MAX_CHARACTERS = 256, 1 << 20
_MAX_TOKENIZER_BYTES = 128 << 20
_MAX_FILE_BYTES = 16 << 20
_TEMPLATES = 'additional_chat_templates'
_FILES = (
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'added_tokens.json',
  'chat_template.jinja',
  'config.json',
)


# The turns of a conversation: role and content.
Chat = Sequence[Mapping[str, str]]


class Tokenizer:
  """The tokenizer of a model directory, by the names that transformers uses.

  `digest` is the SHA-256 of everything that decoding depends on. `reads_clock`
  becomes True when a chat template reads the time, and gets CLOCK.
  """

  def __init__(self, directory: str):
    self.name_or_path = os.fspath(directory)
    _check_files(self.name_or_path)
    self.reads_clock = False
    self._texts = 0
    self._worker: tokens_process.Worker | None = None
    told = self._start()
    self.chat_template = told['chat_template']
    self.bos_token_id = told['bos_token_id']
    self.eos_token_id = told['eos_token_id']
    self._vocab = told['vocab']
    self._decoding, self.digest = tokens_decode.make_decoder(
      self.name_or_path, told
    )

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
      ValueError: one line; the template fails, or takes too much time or
        memory.
    """
    assert not tokenize and add_generation_prompt
    return self._ask(
      'its chat template cannot render', 1, render=list(messages)
    )

  def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
    """Raises ValueError, one line: the tokenizer fails or exceeds a limit."""
    return self._ask(
      'its tokenizer cannot encode', 1, encode=text, special=add_special_tokens
    )

  def encode_chats(
    self, chats: Sequence[Chat], opens: str = ''
  ) -> list[np.ndarray]:
    """The tokens of each conversation, as `chat_tokens` gives them.

    Raises:
      ValueError: one line; one of them fails or exceeds a limit.
    """
    found = []
    for part in _batches(chats):
      told = self._ask(
        'its template or tokenizer cannot take',
        2 * len(part),
        chats=part,
        opens=opens,
      )
      joined = np.frombuffer(base64.b64decode(told['tokens']), np.int32)
      found += np.split(joined, np.cumsum(told['lengths'])[:-1])
    return found

  def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
    """The text. Thinking tags stay in it: judges look for them."""
    return self._decoding.decode(ids, skip_special_tokens=skip_special_tokens)

  def close(self) -> None:
    """Ends the process that encodes; a later `encode` starts another."""
    if self._worker is not None:
      self._worker.end()
      self._worker = None

  def _start(self) -> dict[str, Any]:
    self._worker = tokens_process.Worker(MEMORY_BYTES)
    try:
      reply = self._worker.ask(
        LOAD_SECONDS, load=os.path.abspath(self.name_or_path), clock=CLOCK
      )
    except tokens_process.Failed as e:
      raise ValueError(
        f'{self.name_or_path}: its tokenizer cannot be loaded ({e}); download '
        'its tokenizer files again, or do not use it'
      ) from None
    self._texts, self._loaded_seconds = 0, reply['seconds']
    return reply['value']

  def _ask(self, cannot: str, texts: int, **request: Any) -> Any:
    if self._worker is None or self._worker.ended:
      self._start()
    self._texts += texts
    left = SHARED_SECONDS + self._texts * SECONDS_A_TEXT
    left -= self._worker.seconds - self._loaded_seconds
    try:
      if left <= 0:
        raise tokens_process.Failed(
          f'{self._texts} texts took more CPU time than they may'
        )
      seconds = min(TEXT_SECONDS, int(left) + 1)
      all_seconds = min(left, TEXT_SECONDS * texts)
      reply = self._worker.ask(seconds, all_seconds, **request)
    except tokens_process.Failed as e:
      raise ValueError(
        f'{self.name_or_path}: {cannot} a prompt ({e}); fix its tokenizer '
        'files, or do not use it'
      ) from None
    self.reads_clock |= bool(reply['clock'])
    return reply['value']


def _check_files(directory: str) -> None:
  """Raises ValueError, OSError for files that are missing or unsafe to open."""
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


def load_tokenizer(directory: str) -> Tokenizer:
  """The tokenizer of a model directory; `close` it when all is encoded.

  Raises:
    FileNotFoundError: it has no tokenizer.json.
    ValueError, OSError: one line; files that cannot be read, or exceed the
      limits.
  """
  return Tokenizer(directory)


def chat_tokens(
  tokenizer: Tokenizer, chat: Chat, opens: str = ''
) -> np.ndarray:
  """The templated conversation, up to where the reply begins: int32 [S].

  The reply begins after `opens`, which is added where the template does not
  end with it; see `check_thinking`.

  Raises:
    ValueError: the tokenizer has no chat template, or its template fails.
  """
  return chats_tokens(tokenizer, [chat], opens)[0]


def chats_tokens(
  tokenizer: Tokenizer, chats: Sequence[Chat], opens: str = ''
) -> list[np.ndarray]:
  """`chat_tokens` of each, by requests of many."""
  if tokenizer.chat_template is None:
    raise ValueError(
      f'{tokenizer.name_or_path}: the tokenizer has no chat template; '
      "expected 'chat_template' in tokenizer_config.json or a "
      'chat_template.jinja: copy it from an instruction-tuned model'
    )
  return tokenizer.encode_chats(chats, opens)


def _batches(chats: Sequence[Chat]) -> Iterator[list[Chat]]:
  """The conversations in parts that are small to send."""
  part, size = [], 0
  for chat in chats:
    characters = sum(len(turn['content']) for turn in chat)
    if part and (
      len(part) == _MAX_CHATS or size + characters > _MAX_CHARACTERS
    ):
      yield part
      part, size = [], 0
    part.append(chat)
    size += characters
  if part:
    yield part


def decode(tokenizer: Tokenizer, tokens: np.ndarray) -> str:
  """The text of `tokens`, without special tokens such as a stop token.

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
  """Checks where a reply begins, and where its thinking ends.

  If it `reasons`, a judge must be able to find the end of its thinking.

  Raises:
    ValueError: one line that begins with a field of config.prompt.
  """
  name, tag = tokenizer.name_or_path, tokens_decode.CLOSE
  there = _before_reply(tokenizer)
  tags = [t for t in tokens_decode.THINK if t in there] or [opens.strip()]
  if opens and not there.endswith(opens) and tags[0] in there:
    raise ValueError(
      f'opens={opens!r}: the chat template of {name} begins the reply with '
      f'{there[-80:]!r}, and {tags[0]} would stand there twice; expected one '
      "that ends with opens, or has none of it; give what it ends with, or ''"
    )
  if not reasons:
    return
  else_false = 'or set reasons=False for a model that does not think'
  if tag in there + opens:
    raise ValueError(
      f'reasons=True: the reply begins after {(there + opens)[-80:]!r}, which '
      f'ends the thinking; expected {tag} in the reply, without which every '
      f'reward is 0; change the chat template or opens, {else_false}'
    )
  ids = tokenizer.encode(f'so\n{tag}\n\n5', add_special_tokens=False)
  got = decode(tokenizer, np.asarray(ids, np.int32))
  if tag not in got:
    raise ValueError(
      f'reasons=True: the tokenizer of {name} gives {tag} back as '
      f'{got!r:.60}; expected the same text, without which every reward is 0; '
      f'use the tokenizer of a model that thinks, {else_false}'
    )
  close = tokenizer.get_vocab().get(tag)
  if close in stops:
    raise ValueError(
      f'reasons=True: {tag}, token {close}, is a stop token of {name}; '
      'expected an answer after it, without which every reward is 0; take it '
      f'out of generation_config.json or tokenizer_config.json, {else_false}'
    )


def _before_reply(tokenizer: Tokenizer) -> str:
  """The text that the template puts between the last question and the reply."""
  question = 'What is 2 + 3?'
  text = tokenizer.apply_chat_template(
    [{'role': 'user', 'content': question}],
    tokenize=False,
    add_generation_prompt=True,
  )
  return text.rpartition(question)[2]


def stop_token_ids(tokenizer: Tokenizer, directory: str) -> tuple[int, ...]:
  """Every token that ends a response, sorted.

  These are the tokenizer's end token and those of generation_config.json, if
  there is one.

  Raises:
    ValueError: neither names a token, or the named token does not exist.
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
  """SHA-256 of ids and tokens, in order, as an engine gets them."""
  whole = hashlib.sha256()
  for prompt in prompts:
    head = [prompt.id, len(prompt.tokens)]
    whole.update(json.dumps(head).encode() + b'\n')
    whole.update(np.asarray(prompt.tokens, '<i4').tobytes())
  return whole.hexdigest()


def clock_line(tokenizer: Tokenizer) -> str:
  """The message for the user if a chat template `reads_clock`."""
  return (
    f'{tokenizer.name_or_path}: its chat template asks for the time; it is '
    f'told {CLOCK}, so that prompts stay as they are'
  )
