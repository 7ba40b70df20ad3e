"""Files of models from strangers: each bad one is one line, in bounds.

The cases are in hostile_files.py. Time and memory are bounded by the kernel, so
nothing here is timed: a case without a bound does not end.
"""

import json
import resource

import hostile_files
import jax.numpy as jnp
import pytest
import tiny

from acereason_jax import types
from acereason_jax.models import base, decoder, hf, tokens

MESSAGES = [{'role': 'user', 'content': 'a+a?'}]


@pytest.fixture
def model(tmp_path):
  return tiny.write_model(tmp_path / 'model')


@pytest.fixture
def small_limits(monkeypatch):
  monkeypatch.setattr(tokens, 'MEMORY_BYTES', 1 << 30)
  monkeypatch.setattr(tokens, 'TEXT_SECONDS', 2)
  monkeypatch.setattr(tokens, 'SHARED_SECONDS', 4)


def use_tokenizer(directory):
  """The work of a run with it, to the end."""
  tokenizer = tokens.load_tokenizer(str(directory))
  try:
    ids = tokens.chat_tokens(tokenizer, MESSAGES)
    tokens.decode(tokenizer, ids)
    return ids, tokens.stop_token_ids(tokenizer, str(directory))
  finally:
    tokenizer.close()


def one_line(error):
  text = str(error.value)
  assert '\n' not in text and len(text) < 900, text
  return text


@pytest.mark.parametrize('name', hostile_files.TOKENIZERS)
def test_a_hostile_tokenizer_is_one_line(name, model, small_limits):
  hostile_files.TOKENIZERS[name](model)
  before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  with pytest.raises((ValueError, OSError)) as error:
    use_tokenizer(model)
  assert str(model) in one_line(error)
  # In KiB. Another process makes the tokenizer's requests for memory.
  after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  assert after - before < 300 << 10


@pytest.mark.parametrize('name', hostile_files.NETWORKS)
def test_a_hostile_network_is_one_line(name, model):
  hostile_files.NETWORKS[name](model)
  with pytest.raises((ValueError, OSError)) as error:
    config = decoder.DecoderConfig.from_hf(hf.read_config(str(model)))
    hf.load(str(model), decoder.param_specs(config), dtype=jnp.float32)
  assert one_line(error)


def test_there_are_enough_of_them():
  assert len(hostile_files.TOKENIZERS) >= 40
  assert len(hostile_files.NETWORKS) >= 30


def test_a_vocabulary_beyond_all_known_ones_is_one_line(model):
  more = {f'z{i}': 44 + i for i in range(1 << 20)}
  hostile_files.tokenizer(model=hostile_files.vocabulary(**more))(model)
  with pytest.raises(ValueError, match='expected at most 1,048,576') as error:
    tokens.load_tokenizer(str(model))
  assert one_line(error)


def test_what_is_not_hostile_works(model, small_limits):
  ids, stops = use_tokenizer(model)
  assert len(ids) == 6 and stops == (1,)


def test_no_text_uses_up_what_all_texts_share(model, monkeypatch):
  """Each takes less than it may; together they take too much."""
  loop = '{% for i in range(30000) %}{{ i }}{% endfor %}'
  hostile_files.template('{% set x %}' + loop + '{% endset %}a')(model)
  monkeypatch.setattr(tokens, 'SHARED_SECONDS', 0.2)
  monkeypatch.setattr(tokens, 'SECONDS_A_TEXT', 1e-4)
  tokenizer = tokens.load_tokenizer(str(model))
  with pytest.raises(ValueError, match='texts took more CPU time than they'):
    for _ in range(1000):
      tokens.chat_tokens(tokenizer, MESSAGES)
  tokenizer.close()


def test_texts_of_one_request_share_the_same_limits(model, monkeypatch):
  """Which is that of each, and that of all."""
  loop = '{% for i in range(30000) %}{{ i }}{% endfor %}'
  hostile_files.template('{% set x %}' + loop + '{% endset %}a')(model)
  monkeypatch.setattr(tokens, 'SHARED_SECONDS', 0.2)
  monkeypatch.setattr(tokens, 'SECONDS_A_TEXT', 1e-4)
  tokenizer = tokens.load_tokenizer(str(model))
  with pytest.raises(ValueError, match='texts took more CPU time than they'):
    tokens.chats_tokens(tokenizer, [MESSAGES] * 256)
  tokenizer.close()


def test_one_text_of_a_request_takes_no_more_than_it_may(model, small_limits):
  slow = '{% for i in range(10 ** 5) %}{% for j in range(10 ** 5) %}'
  text = "{% if messages[0]['content'] == 'x' %}" + slow
  hostile_files.template(text + '{% endfor %}{% endfor %}{% endif %}a')(model)
  tokenizer = tokens.load_tokenizer(str(model))
  chats = [[{'role': 'user', 'content': c}] for c in 'abcdefgx']
  assert len(tokens.chats_tokens(tokenizer, chats[:-1])) == 7
  with pytest.raises(ValueError, match='more than 2 seconds of CPU') as error:
    tokens.chats_tokens(tokenizer, chats)
  assert one_line(error)


def test_a_tokenizer_works_again_after_a_text_that_failed(model):
  text = "{% if messages[0]['content'] == 'x' %}{{ raise_exception('no x') }}"
  hostile_files.template(text + '{% endif %}<eos>')(model)
  tokenizer = tokens.load_tokenizer(str(model))
  with pytest.raises(ValueError, match='TemplateError: no x'):
    tokens.chat_tokens(tokenizer, [{'role': 'user', 'content': 'x'}])
  assert tokens.chat_tokens(tokenizer, MESSAGES).tolist() == [1]
  tokenizer.close()
  assert tokens.chat_tokens(tokenizer, MESSAGES).tolist() == [1]


@pytest.mark.parametrize(
  'text',
  [
    "{{ strftime_now('%M%S') }}",
    "{{ strftime_now('%d %b %Y') }}",
    "{% if strftime_now is defined %}{{ strftime_now('%Y') }}{% endif %}",
  ],
)
def test_a_template_that_reads_the_clock_is_told_one_date(text, model):
  hostile_files.template(text)(model)
  tokenizer = tokens.load_tokenizer(str(model))
  assert not tokenizer.reads_clock
  render = lambda: tokenizer.apply_chat_template(
    MESSAGES, tokenize=False, add_generation_prompt=True
  )
  assert render() in ('0000', '26 Jul 2024', '2024')
  assert tokenizer.reads_clock
  assert tokens.CLOCK in tokens.clock_line(tokenizer)


def test_a_template_that_draws_lots_draws_the_same(model):
  hostile_files.template('{{ range(9999) | random }}')(model)
  first, second = (
    tokens.chat_tokens(tokens.load_tokenizer(str(model)), MESSAGES)
    for _ in range(2)
  )
  assert first.tolist() == second.tolist()


def test_a_template_cannot_write_a_file(model, tmp_path):
  """The process may not, whatever the template finds to call."""
  tokenizer = tokens.load_tokenizer(str(model))
  limits = resource.prlimit(
    tokenizer._worker._process.pid, resource.RLIMIT_FSIZE
  )
  assert max(limits) <= 1 << 20
  assert (
    resource.prlimit(tokenizer._worker._process.pid, resource.RLIMIT_AS)[1]
    == tokens.MEMORY_BYTES
  )


def test_the_process_ends_with_its_tokenizer(model):
  tokenizer = tokens.load_tokenizer(str(model))
  process = tokenizer._worker._process
  assert process.poll() is None
  del tokenizer
  assert process.wait(60) is not None


def digests(directory):
  """(of what decodes, of a prompt, stop tokens)."""
  tokenizer = tokens.load_tokenizer(str(directory))
  ids = tokens.chat_tokens(tokenizer, MESSAGES)
  prompt = types.Prompt('p', 'q', 'a', ids)
  stops = tokens.stop_token_ids(tokenizer, str(directory))
  tokenizer.close()
  return tokenizer.digest, tokens.digest([prompt]), stops


special = lambda old: [dict(t, special=False) for t in old]
swapped = lambda model: dict(
  model,
  vocab=model['vocab'] | {'y': model['vocab']['z'], 'z': model['vocab']['y']},
)
C, J, G = 'tokenizer_config.json', 'tokenizer.json', 'generation_config.json'


@pytest.mark.parametrize(
  'change, others',
  [
    (hostile_files.template(tiny.TEMPLATE + 'b'), {1}),
    (hostile_files.raw('chat_template.jinja', 'a{{ messages }}'), {1}),
    (hostile_files.changed(C, eos_token='<user>'), {2}),
    (hostile_files.changed(G, eos_token_id=[5, 1]), {2}),
    # Letters that are in no prompt.
    (hostile_files.tokenizer(model=swapped), {0}),
    (hostile_files.tokenizer(added_tokens=special), {0}),
    (hostile_files.tokenizer(decoder=None), {0}),
    (hostile_files.raw('added_tokens.json', '{"<new>": 44}'), {0}),
    (hostile_files.changed(C, additional_special_tokens=['<new>']), {0}),
    (hostile_files.tokenizer(normalizer={'type': 'NFC'}), set()),
    (hostile_files.changed(C, padding_side='left'), set()),
    (hostile_files.changed(C, model_max_length=5), set()),
    (hostile_files.changed(G, eos_token_id=[1, 1], top_p=0.5), set()),
  ],
)
def test_what_changes_rollouts_changes_a_digest(change, others, model):
  before = digests(model)
  change(model)
  after = digests(model)
  assert {i for i in range(3) if before[i] != after[i]} == others


def test_the_order_of_stop_tokens_is_none(model):
  (model / G).write_text(json.dumps({'eos_token_id': [3, 1]}))
  one = digests(model)
  (model / G).write_text(json.dumps({'eos_token_id': [1, 3]}))
  assert digests(model) == one


def rope_of(**changes):
  return decoder.DecoderConfig.from_hf(tiny.LLAMA | changes).rope


def test_parameters_of_the_one_layer_type_count():
  nested = {'full_attention': {'rope_type': 'default', 'rope_theta': 777.0}}
  assert rope_of(rope_parameters=nested)['rope_theta'] == 777.0


@pytest.mark.parametrize(
  'original, factor', [({}, 1.0), ({'original_max_position_embeddings': 16}, 4)]
)
def test_a_yarn_factor_of_null_is_the_ratio_of_contexts(original, factor):
  """As transformers 5 computes it."""
  given = rope_of(rope_scaling=dict(type='yarn', factor=None, **original))
  assert given['factor'] == factor


def test_an_original_length_at_the_top_comes_first():
  """As transformers 5 reads Phi's configs."""
  scaling = dict(type='yarn', factor=4, original_max_position_embeddings=16)
  got = rope_of(rope_scaling=scaling, original_max_position_embeddings=32)
  assert got['original_max_position_embeddings'] == 32


def test_the_same_rope_in_both_fields_is_one():
  scaling = dict(rope_type='linear', factor=2.0, rope_theta=50.0)
  got = rope_of(rope_scaling=scaling, rope_parameters=scaling)
  assert (got['factor'], got['rope_theta']) == (2.0, 50.0)


def test_a_byte_order_mark_is_read(model):
  config = (model / 'config.json').read_bytes()
  (model / 'config.json').write_bytes(b'\xef\xbb\xbf' + config)
  assert hf.read_config(str(model)) == tiny.LLAMA


@pytest.mark.parametrize('cache', [False, True])
def test_export_takes_no_file_from_elsewhere(cache, model, tmp_path):
  secret = tmp_path / 'blobs' / 'secret'
  secret.parent.mkdir()
  secret.write_text('mine')
  home = tmp_path / 'snapshots' if cache else tmp_path / 'models'
  home.mkdir()
  source = model.rename(home / 'model')
  (source / 'LICENSE').symlink_to(secret)
  specs = decoder.param_specs(decoder.DecoderConfig.from_hf(tiny.LLAMA))
  params = hf.load(str(source), specs, dtype=jnp.float32)
  assert base.param_count(specs)
  out = tmp_path / 'out'
  if cache:  # As the cache of Hugging Face does.
    hf.export(params, specs, str(source), str(out))
    assert (out / 'LICENSE').read_text() == 'mine'
  else:
    with pytest.raises(ValueError, match=r'LICENSE: a link to .*secret'):
      hf.export(params, specs, str(source), str(out))
    assert not out.exists()
