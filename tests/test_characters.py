"""Which characters of a text each token adds, on real and odd tokenizers."""

import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import decoders, models

from acereason_jax.models import characters, tokens

REAL = (
  'The sum is 3 + 4 = 7, so \\boxed{7}.\n\n```python\nprint(1)\n```',
  'h\u00e9llo \U0001f600\U0001f600 \u2211\u222b \u65e5\u672c\u8a9e text',
  '\u65e5\u672c\u8a9e\u30c6\u30ad\u30b9\u30c8\u51e6\u7406',
  'a \U0001f468\u200d\U0001f467 and \u51e6\U0001f600',
  '  leading and trailing  ',
  'a real \ufffd mark \ufffd\ufffd',
)


@pytest.fixture(scope='module')
def smollm(smollm_dir):
  with_process = tokens.load_tokenizer(str(smollm_dir))
  yield with_process
  with_process.close()


def grown(to_text, ids):
  """The characters that each token adds: all beginnings are decoded.

  The end of a beginning that is not yet valid text is no character.
  """
  ends = [len(to_text(ids[:n]).rstrip('\ufffd')) for n in range(1, len(ids))]
  ends.append(len(to_text(ids)))
  return np.diff(np.maximum.accumulate(ends), prepend=0)


@pytest.mark.parametrize('text', REAL[:-1])
def test_as_all_beginnings_say(smollm, text):
  to_text = lambda ids: tokens.decode(smollm, ids)
  ids = np.array(smollm.encode(text), np.int32)
  found = characters.Characters(to_text)
  got = found.of(ids, to_text(ids))
  assert got.dtype == np.uint16
  assert got.tolist() == grown(to_text, ids).tolist()
  # What is remembered changes nothing.
  assert found.of(ids, to_text(ids)).tolist() == got.tolist()


def test_marks_that_the_text_itself_has(smollm):
  to_text = lambda ids: tokens.decode(smollm, ids)
  ids = np.array(smollm.encode(REAL[-1]), np.int32)
  got = characters.Characters(to_text).of(ids, to_text(ids))
  assert got.sum() == len(REAL[-1])


@given(seed=st.integers(0, 2**32 - 1), most=st.sampled_from([20, 300, 49_152]))
def test_any_tokens_cover_the_whole_text(smollm, seed, most):
  """Ids below 300 are mostly single bytes: text that is not valid."""
  to_text = lambda ids: tokens.decode(smollm, ids)
  random = np.random.default_rng(seed)
  ids = random.integers(0, most, random.integers(1, 60)).astype(np.int32)
  text = to_text(ids)
  got = characters.Characters(to_text).of(ids, text).tolist()
  assert sum(got) == len(text)
  # Where a beginning is valid text of its own, its tokens cover just that.
  for n in range(1, len(ids)):
    begin = to_text(ids[:n])
    if '\ufffd' not in begin:
      assert sum(got[:n]) == len(begin)


def test_a_text_that_is_cut_and_one_that_differs(smollm):
  to_text = lambda ids: tokens.decode(smollm, ids)
  ids = np.array(smollm.encode('one two three'), np.int32)
  found = characters.Characters(to_text)
  assert found.of(ids, 'one two').tolist() == [3, 4, 0]
  assert found.of(ids, 'one tw').tolist() == [3, 0, 0]
  assert found.of(ids, 'another text').tolist() == [0, 0, 0]
  assert found.of(ids[:0], 'a text').tolist() == []


def odd(decoder, *vocab):
  made = tokenizers.Tokenizer(
    models.WordLevel({t: i for i, t in enumerate(vocab)}, unk_token=vocab[0])
  )
  made.decoder = decoder
  return lambda ids: made.decode(np.asarray(ids).tolist())


def test_a_decoder_that_removes_the_first_space():
  to_text = odd(decoders.Metaspace(), '\u2581the', '\u2581cat', 's')
  ids = np.array([0, 1, 2, 0], np.int32)
  assert to_text(ids) == 'the cats the'
  got = characters.Characters(to_text).of(ids, to_text(ids))
  assert got.tolist() == [3, 4, 1, 4]


def test_a_decoder_of_bytes_in_names():
  """As Llama 2's: a byte is a token <0xE6>."""
  to_text = odd(
    decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()]),
    *('a', '<0xE6>', '<0x97>', '<0xA5>', 'b'),
  )
  ids = np.array([0, 1, 2, 3, 4, 1], np.int32)
  text = to_text(ids)
  assert text.startswith('a\u65e5b')
  got = characters.Characters(to_text).of(ids, text)
  assert got.tolist() == [1, 0, 0, 1, 1, len(text) - 3]


def test_a_token_longer_than_a_number_holds():
  to_text = lambda ids: 'x' * 70_000 * len(ids)
  ids = np.zeros(1, np.int32)
  got = characters.Characters(to_text).of(ids, to_text(ids))
  assert got.tolist() == [65_535]
