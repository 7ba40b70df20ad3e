"""Tokens to text in this process, from a table of bounded texts.

The table comes from the process that read the tokenizer's files; a decoder
whose text may be longer than its tokens, or take long, is an error.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import tokenizers

# A judge of reasoning looks for the second. Some families (not R1-Distill or
# Qwen3) mark both as special tokens, which decoding would leave out.
THINK = OPEN, CLOSE = '<think>', '</think>'
_MAX_TOKEN_CHARACTERS = 4096
_MAX_DECODERS = 64
# Decoders whose time and memory are linear in the tokens' size; a Replace is
# checked separately.
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


def make_decoder(
  directory: str, told: Mapping[str, Any]
) -> tuple[tokenizers.Tokenizer, str]:
  """A tokenizer that decodes at bounded cost, and the SHA-256 of its contents.

  `told` is the result of `tokens_worker.describe` for the tokenizer in
  `directory`.

  Raises:
    ValueError: one line; decoding would not be bounded or not one to one.
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
    # Decoding needs no merges.
    model=dict(type='WordLevel', vocab=vocab, unk_token=''),
  )
  text = json.dumps(whole, sort_keys=True)
  digest = hashlib.sha256(text.encode()).hexdigest()
  return tokenizers.Tokenizer.from_str(text), digest


def _grows(decoder: Any) -> str:
  """Why a decoder's text may be slow or longer than its tokens; else ''."""
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
      # An empty suffix is found everywhere, and becomes a space.
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
