"""Counts tokens by a named model's tokenizer.

Apart from the steps, because it loads the modules of models, which are large.
"""

import os
from collections.abc import Callable, Sequence

from acereason_jax import hub
from acereason_jax.models import embedded, tokens

_FILES = ('*.json', '*.jinja')


def counter(model: str) -> Callable[[Sequence[str]], list[int]]:
  """texts -> tokens of each, without special ones.

  `model` is a directory, a model of the hub or an embedded one.

  Raises:
    ValueError: one line; there is no such tokenizer.
  """
  tokenizer = tokens.load_tokenizer(_directory(model))
  known: dict[str, int] = {}

  def count(texts: Sequence[str]) -> list[int]:
    for text in texts:
      if text not in known:
        known[text] = len(tokenizer.encode(text, add_special_tokens=False))
    return [known[text] for text in texts]

  return count


def _directory(model: str) -> str:
  if model in embedded.EMBEDDED:
    return embedded.path(model)
  if not os.path.isdir(model) and hub.is_model(model):
    return hub.model(model, _FILES)
  return model
