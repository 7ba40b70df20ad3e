"""Text to tokens and back, from the model's own tokenizer.json.

`PreTrainedTokenizerFast` and not `AutoTokenizer`: the latter picks a class
by name, and transformers 4 and 5 pick differently (one adds a BOS token,
another rebuilds the pre-tokenizer); the former reads tokenizer.json as it
is, and renders chat templates, which strangers wrote, in a sandbox. Its
import takes about a second; modules that need no tokens do without.
"""

import os
from collections.abc import Mapping, Sequence

import numpy as np
from transformers import PreTrainedTokenizerFast

from acereason_jax.models import tensorfiles

# A judge of reasoning looks for the second; some families (not R1-Distill or
# Qwen3) call both special tokens, which decoding leaves out.
THINK = OPEN, CLOSE = '<think>', '</think>'


def load_tokenizer(directory: str) -> PreTrainedTokenizerFast:
  """The tokenizer of a model directory.

  Raises:
    FileNotFoundError: it has no tokenizer.json.
  """
  file = os.path.join(directory, 'tokenizer.json')
  if not os.path.isfile(file):
    raise FileNotFoundError(
      f'{file}: not found; expected a model directory with a fast tokenizer: '
      'copy the tokenizer files of its base model there'
    )
  return PreTrainedTokenizerFast.from_pretrained(directory)


def chat_tokens(
  tokenizer: PreTrainedTokenizerFast,
  messages: Sequence[Mapping[str, str]],
  opens: str = '',
) -> np.ndarray:
  """The templated conversation, up to where the reply begins: int32 [S].

  The reply begins after `opens`, which is added where the template does not
  end with it; see `check_thinking`.

  Raises:
    ValueError: the tokenizer has no chat template.
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


def decode(tokenizer: PreTrainedTokenizerFast, tokens: np.ndarray) -> str:
  """The text of `tokens`; special tokens, a stop token say, leave none.

  Thinking tags stay, special or not: judges look for them.
  """
  skipped = _skipped(tokenizer)
  return tokenizer.decode(
    [token for token in np.asarray(tokens).tolist() if token not in skipped],
    skip_special_tokens=False,
    clean_up_tokenization_spaces=False,
  )


def _skipped(tokenizer: PreTrainedTokenizerFast) -> frozenset[int]:
  """The special tokens except thinking tags."""
  # Found once: a batch is decoded rollout by rollout. The tokenizer is nobody
  # else's, and nothing adds tokens to it.
  found = tokenizer.__dict__.get('_acereason_skipped')
  if found is None:
    every = tokenizer.added_tokens_decoder.items()
    found = frozenset(
      i for i, t in every if t.special and t.content not in THINK
    )
    tokenizer.__dict__['_acereason_skipped'] = found
  return found


def check_thinking(
  tokenizer: PreTrainedTokenizerFast,
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


def _before_reply(tokenizer: PreTrainedTokenizerFast) -> str:
  """What the template puts between the last question and the reply."""
  question = 'What is 2 + 3?'
  text = tokenizer.apply_chat_template(
    [{'role': 'user', 'content': question}],
    tokenize=False,
    add_generation_prompt=True,
  )
  return text.rpartition(question)[2]


def stop_token_ids(
  tokenizer: PreTrainedTokenizerFast, directory: str
) -> tuple[int, ...]:
  """Every token that ends a response, sorted: the tokenizer's end token and
  those of generation_config.json, if there is one.

  Raises:
    ValueError: neither names a token.
  """
  stops = {tokenizer.eos_token_id}
  file = os.path.join(directory, 'generation_config.json')
  if os.path.isfile(file):
    found = tensorfiles.read_json(file).get('eos_token_id')
    stops |= set(found if isinstance(found, list) else [found])
  stops.discard(None)
  if not stops:
    raise ValueError(
      f'{directory}: no stop token; expected eos_token in '
      'tokenizer_config.json or eos_token_id in generation_config.json'
    )
  return tuple(sorted(stops))
