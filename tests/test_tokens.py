"""Tokenizer, chat template and stop tokens.

The expected ids of the embedded model are those that transformers' own GGUF
tokenizer conversion gives; the rest use a tokenizer made here.
"""

import json

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from acereason_jax.models import tokens

MESSAGES = [{'role': 'user', 'content': 'What is 17 * 3?'}]


@pytest.fixture
def tiny(tmp_path):
  """A byte-level tokenizer without merges; ids 0 and 1 are special."""
  alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
  vocab = {t: i for i, t in enumerate(['<s>', '</s>', *alphabet])}
  tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
  tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  tokenizer.decoder = decoders.ByteLevel()
  tokenizer.add_special_tokens(['<s>', '</s>'])
  tokenizer.save(str(tmp_path / 'tokenizer.json'))
  template = (
    "{{ bos_token }}{% for m in messages %}{{ m['content'] }}{% endfor %}"
    '{% if add_generation_prompt %}!{% endif %}'
  )
  configure(tmp_path, chat_template=template, eos_token='</s>')
  return tmp_path


def configure(directory, **settings):
  # Published checkpoints name a wrong class, which is to be ignored.
  settings |= {'tokenizer_class': 'LlamaTokenizerFast', 'bos_token': '<s>'}
  settings |= {'add_bos_token': True}
  (directory / 'tokenizer_config.json').write_text(json.dumps(settings))


@pytest.mark.parametrize(
  'text', ['', 'plain', ' a  b\n\n\tc ', 'ünïcode 你好 🙂', "it 's , fine ."]
)
def test_decode_inverts_encode(tiny, text):
  tokenizer = tokens.load_tokenizer(tiny)
  ids = tokenizer.encode(text, add_special_tokens=False)
  assert len(ids) == len(text.encode())
  assert tokens.decode(tokenizer, np.asarray(ids, np.int32)) == text


DECODERS = {
  'bytes': decoders.ByteLevel(),
  'none': None,
  'metaspace': decoders.Metaspace(),
  'words': decoders.WordPiece(),
  'llama': decoders.Sequence(
    [
      decoders.Replace('▁', ' '),
      decoders.ByteFallback(),
      decoders.Fuse(),
      decoders.Strip(' ', 1, 0),
    ]
  ),
}


@pytest.mark.parametrize('kind', DECODERS)
def test_decode_is_that_of_transformers(tiny, kind):
  """Ours has another model and no merges; texts must be the same."""
  words = [
    '▁a',
    '▁',
    '##b',
    'b',
    '<0xE2>',
    '<0x82>',
    '<0xAC>',
    '<x>',
    '. ',
    "'s",
  ]
  vocab = {t: i for i, t in enumerate(['<s>', '</s>', *words])}
  made = Tokenizer(models.BPE(vocab=vocab, merges=[]))
  if DECODERS[kind] is not None:
    made.decoder = DECODERS[kind]
  made.add_special_tokens(['<s>', '</s>'])
  made.add_tokens(['<x>', 'new'])
  made.save(str(tiny / 'tokenizer.json'))
  (tiny / 'added_tokens.json').write_text('{"later": 13}')
  ours = tokens.load_tokenizer(tiny)
  oracle = PreTrainedTokenizerFast.from_pretrained(tiny)
  assert ours.get_vocab() == oracle.get_vocab()
  assert ours.eos_token_id == oracle.eos_token_id
  random = np.random.default_rng(0)
  for _ in range(200):
    ids = random.integers(0, len(oracle), 9)
    for skip in (True, False):
      want = oracle.decode(
        ids.tolist(),
        skip_special_tokens=skip,
        clean_up_tokenization_spaces=False,
      )
      assert ours.decode(ids.tolist(), skip_special_tokens=skip) == want


def test_decode_leaves_out_special_tokens(tiny):
  tokenizer = tokens.load_tokenizer(tiny)
  ids = tokenizer.encode('x</s>', add_special_tokens=False)
  assert ids[-1] == 1
  assert tokens.decode(tokenizer, ids) == 'x'


THINKS = {
  # R1-Distill and Qwen3: tokens of their own that are not special.
  'added': dict(normalized=False, special=False),
  # Families that call them special.
  'special': dict(special=True),
  # Qwen2.5, SmolLM2 and Llama: text as any other.
  'text': None,
}


def thinking(directory, kind, *tags, template='', **settings):
  """A byte-level tokenizer that knows thinking tags in one of three ways."""
  alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
  vocab = {t: i for i, t in enumerate(['<s>', '</s>', *alphabet])}
  tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
  tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  tokenizer.decoder = decoders.ByteLevel()
  tokenizer.add_special_tokens(['<s>', '</s>'])
  if (how := THINKS[kind]) is not None:
    added = [AddedToken(t, **how) for t in tags or ('<think>', '</think>')]
    add = (
      tokenizer.add_special_tokens if how['special'] else tokenizer.add_tokens
    )
    add(added)
  tokenizer.save(str(directory / 'tokenizer.json'))
  asked = "{% for m in messages %}[{{ m['content'] }}]{% endfor %}"
  asked += '{% if add_generation_prompt %}' + template + '{% endif %}'
  configure(directory, chat_template=asked, eos_token='</s>', **settings)
  return tokens.load_tokenizer(directory)


@pytest.mark.parametrize('kind', THINKS)
def test_the_end_of_thinking_survives_decoding(tmp_path, kind):
  tokenizer = thinking(tmp_path, kind)
  text = 'so <think> 2\n</think>\n\n\\boxed{5}'
  ids = tokenizer.encode(text + '</s>', add_special_tokens=False)
  assert (len(ids) < len(text)) == (kind != 'text')
  assert tokens.decode(tokenizer, np.asarray(ids, np.int32)) == text
  tokens.check_thinking(tokenizer, (1,), opens='<think>\n', reasons=True)


def test_a_special_token_that_is_no_thinking_tag_is_left_out(tmp_path):
  tokenizer = thinking(tmp_path, 'special', '</think>', '<|im_end|>', '<pad>')
  ids = tokenizer.encode('a<|im_end|>b</think><pad>c', add_special_tokens=False)
  assert len(ids) == 6
  assert tokens.decode(tokenizer, ids) == 'ab</think>c'


def test_the_embedded_tokenizer_lets_thinking_end(smollm_dir):
  tokenizer = tokens.load_tokenizer(smollm_dir)
  stops = tokens.stop_token_ids(tokenizer, smollm_dir)
  tokens.check_thinking(tokenizer, stops, opens='<think>\n', reasons=True)


def lossy(directory):
  """A tokenizer of words that lacks the signs of a tag."""
  vocab = {t: i for i, t in enumerate(['<pad>', '<eos>', 'so', '5'])}
  tokenizer = Tokenizer(models.WordLevel(vocab, unk_token='<pad>'))
  tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
  tokenizer.add_special_tokens(['<pad>', '<eos>'])
  tokenizer.save(str(directory / 'tokenizer.json'))
  template = "{{ messages[-1]['content'] }}"
  configure(directory, chat_template=template, eos_token='<eos>')
  return tokens.load_tokenizer(directory)


def spaced(directory):
  """A decoder that puts spaces between its tokens, as WordPiece's does."""
  words = ['<pad>', '<eos>', 'so', '5', '<', '</', 'think', '>']
  vocab = {t: i for i, t in enumerate(words)}
  tokenizer = Tokenizer(models.WordLevel(vocab, unk_token='<pad>'))
  tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
  tokenizer.decoder = decoders.WordPiece()
  tokenizer.save(str(directory / 'tokenizer.json'))
  template = "{{ messages[-1]['content'] }}"
  configure(directory, chat_template=template, eos_token='<eos>')
  return tokens.load_tokenizer(directory)


@pytest.mark.parametrize('make', [lossy, spaced])
def test_a_tokenizer_that_loses_the_end_of_thinking(tmp_path, make):
  tokenizer = make(tmp_path)
  message = 'reasons=True: the tokenizer of .* gives </think> back as '
  with pytest.raises(ValueError, match=message) as e:
    tokens.check_thinking(tokenizer, (1,), opens='', reasons=True)
  assert 'reasons=False' in str(e.value) and '\n' not in str(e.value)
  tokens.check_thinking(tokenizer, (1,), opens='', reasons=False)


def test_a_stop_token_that_ends_thinking(tmp_path):
  tokenizer = thinking(tmp_path, 'added')
  close = tokenizer.get_vocab()['</think>']
  with pytest.raises(ValueError, match=f'</think>, token {close}, is a stop'):
    tokens.check_thinking(tokenizer, (1, close), opens='', reasons=True)
  tokens.check_thinking(tokenizer, (1, close), opens='', reasons=False)


def begins(tokenizer, opens):
  tokens.check_thinking(tokenizer, (1,), opens=opens, reasons=True)
  ids = tokens.chat_tokens(tokenizer, [dict(role='user', content='q')], opens)
  return tokenizer.decode(ids.tolist(), skip_special_tokens=False)


@pytest.mark.parametrize('kind', THINKS)
@pytest.mark.parametrize(
  'template, opens, text',
  [
    ('A:', '', '[q]A:'),
    ('A:', '<think>\n', '[q]A:<think>\n'),
    ("A:<think>{{ '\\n' }}", '<think>\n', '[q]A:<think>\n'),
    ("A:<think>{{ '\\n' }}", '', '[q]A:<think>\n'),
    ('A:<think>', '<think>', '[q]A:<think>'),
    ('A:', 'Sure: ', '[q]A:Sure: '),
    ('', '<think>\n', '[q]<think>\n'),
  ],
)
def test_what_a_reply_begins_after(tmp_path, kind, template, opens, text):
  assert begins(thinking(tmp_path, kind, template=template), opens) == text


@pytest.mark.parametrize(
  'template, opens, message',
  [
    ('A:<think>', '<think>\n', '<think> would stand there twice'),
    ("<think>{{ '\\n' * 2 }}", '<think>\n', '<think> would stand there twice'),
    ("<think>{{ '\\n' }}", '<think>', '<think> would stand there twice'),
    ('<think></think>', '<think>\n', '<think> would stand there twice'),
    ('Sure: A:', 'Sure: ', 'Sure: would stand there twice'),
    ('<think></think>', '', 'the reply begins after .* ends the thinking'),
    ('A:', '<think></think>', 'the reply begins after .* ends the thinking'),
  ],
)
def test_a_reply_that_cannot_begin_so(tmp_path, template, opens, message):
  tokenizer = thinking(tmp_path, 'added', template=template)
  with pytest.raises(ValueError, match=message) as e:
    begins(tokenizer, opens)
  assert '\n' not in str(e.value)
  assert str(e.value).startswith(('opens=', 'reasons=True: '))


def test_the_template_alone_adds_special_tokens(tiny):
  tokenizer = tokens.load_tokenizer(tiny)
  got = tokens.chat_tokens(tokenizer, [{'role': 'user', 'content': 'a'}])
  oracle = Tokenizer.from_file(str(tiny / 'tokenizer.json'))
  assert got.dtype == np.int32
  assert got.tolist() == [0, oracle.token_to_id('a'), oracle.token_to_id('!')]


def test_a_chat_template_cannot_reach_python(tiny):
  configure(tiny, chat_template='{{ messages.__class__.__mro__ }}')
  tokenizer = tokens.load_tokenizer(tiny)
  with pytest.raises(ValueError, match='SecurityError'):
    tokens.chat_tokens(tokenizer, MESSAGES)


def test_a_missing_template_is_named(tiny):
  configure(tiny)
  tokenizer = tokens.load_tokenizer(tiny)
  with pytest.raises(ValueError, match='no chat template; expected') as e:
    tokens.chat_tokens(tokenizer, MESSAGES)
  assert str(tiny) in str(e.value)


def test_a_missing_tokenizer_is_named(tmp_path):
  with pytest.raises(FileNotFoundError, match=r'tokenizer.json: not found'):
    tokens.load_tokenizer(tmp_path)


@pytest.mark.parametrize(
  ('generation', 'want'),
  [
    (None, (1,)),
    ({}, (1,)),
    ({'eos_token_id': 7}, (1, 7)),
    ({'eos_token_id': [9, 1, 7]}, (1, 7, 9)),
    ({'eos_token_id': None}, (1,)),
  ],
)
def test_stop_tokens_are_the_union(tiny, generation, want):
  if generation is not None:
    (tiny / 'generation_config.json').write_text(json.dumps(generation))
  tokenizer = tokens.load_tokenizer(tiny)
  assert tokens.stop_token_ids(tokenizer, tiny) == want


def test_no_stop_token_is_an_error(tiny):
  configure(tiny)
  tokenizer = tokens.load_tokenizer(tiny)
  with pytest.raises(ValueError, match='no stop token; expected eos_token'):
    tokens.stop_token_ids(tokenizer, tiny)


def test_the_embedded_model_tokenises_as_transformers_does(smollm_dir):
  tokenizer = tokens.load_tokenizer(smollm_dir)
  text = 'Hello world 12345 + x=3.14\n\n  def f(x):\n\treturn x**2'
  # fmt: off
  ids = [
    19556, 905, 216, 33, 34, 35, 36, 37, 1232, 1792, 45, 35, 30, 33, 36,
    8866, 753, 275, 24, 104, 727, 198, 197, 5406, 1792, 828, 34,
  ]
  # fmt: on
  assert tokenizer.encode(text) == ids
  assert tokens.decode(tokenizer, ids) == text


def test_the_embedded_model_decodes_as_transformers_does(smollm_dir):
  ours = tokens.load_tokenizer(smollm_dir)
  oracle = PreTrainedTokenizerFast.from_pretrained(smollm_dir)
  assert ours.get_vocab() == oracle.get_vocab()
  ids = np.random.default_rng(0).integers(0, len(oracle), (50, 40))
  for row in ids:
    want = oracle.decode(row.tolist(), skip_special_tokens=True)
    assert tokens.decode(ours, row) == want


def test_the_embedded_models_chat_template(smollm_dir):
  tokenizer = tokens.load_tokenizer(smollm_dir)
  # fmt: off
  assert tokens.chat_tokens(tokenizer, MESSAGES).tolist() == [
    1, 9690, 198, 2683, 359, 253, 5356, 5646, 11173, 3365, 3511, 308, 34519,
    28, 7018, 411, 407, 19712, 8182, 2, 198, 1, 4093, 198, 1780, 314, 216,
    33, 39, 1672, 216, 35, 47, 2, 198, 1, 520, 9531, 198,
  ]
  # fmt: on
  assert tokens.stop_token_ids(tokenizer, smollm_dir) == (2,)


def test_many_are_encoded_as_one_by_one(smollm_dir, monkeypatch):
  """Wherever one request ends and the next begins."""
  texts = [
    '',
    'a',
    'ünï 你好',
    ' x' * 40,
    '</s> <|im_end|>',
    *map(str, range(9)),
  ]
  chats = [[{'role': 'user', 'content': text}] for text in texts]
  chats[3] = [*MESSAGES, {'role': 'assistant', 'content': '51'}, *chats[3]]
  tokenizer = tokens.load_tokenizer(smollm_dir)
  one = [tokens.chat_tokens(tokenizer, chat, '<think>') for chat in chats]
  assert len({tuple(ids) for ids in one}) == len(chats)
  for most, characters in ((256, 1 << 20), (3, 1 << 20), (256, 10), (1, 0)):
    monkeypatch.setattr(tokens, '_MAX_CHATS', most)
    monkeypatch.setattr(tokens, '_MAX_CHARACTERS', characters)
    many = tokens.chats_tokens(tokenizer, chats, '<think>')
    assert [ids.dtype for ids in many] == [np.int32] * len(chats)
    assert [ids.tolist() for ids in many] == [ids.tolist() for ids in one]
  assert tokens.chats_tokens(tokenizer, []) == []
