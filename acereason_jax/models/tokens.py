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
  tokenizer: PreTrainedTokenizerFast, messages: Sequence[Mapping[str, str]]
) -> np.ndarray:
  """The templated conversation, up to where the reply begins: int32 [S].

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
  # The template writes its own BOS token; encode must not add another.
  ids = tokenizer.encode(text, add_special_tokens=False)
  return np.asarray(ids, np.int32)


def decode(tokenizer: PreTrainedTokenizerFast, tokens: np.ndarray) -> str:
  """The text of `tokens`; special tokens, a stop token say, leave none."""
  return tokenizer.decode(
    np.asarray(tokens).tolist(),
    skip_special_tokens=True,
    clean_up_tokenization_spaces=False,
  )


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
