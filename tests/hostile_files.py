"""Files of models that nobody should trust: small on disk, each of one kind.

`TOKENIZERS` and `NETWORKS` are by name functions that spoil the directory that
`tiny.write_model` wrote.
"""

import json
import os
import pathlib

LARGE = 20 << 30
LETTER = 'a'


def sparse(path: pathlib.Path, size: int = LARGE) -> None:
  """A file of that many bytes, of which none takes room on the disk."""
  path.unlink(missing_ok=True)
  with path.open('wb') as file:
    file.truncate(size)


def pipe(path: pathlib.Path) -> None:
  path.unlink(missing_ok=True)
  os.mkfifo(path)


def device(path: pathlib.Path) -> None:
  path.unlink(missing_ok=True)
  path.symlink_to('/dev/zero')


def folder(path: pathlib.Path) -> None:
  path.unlink(missing_ok=True)
  path.mkdir()


def raw(name: str, content: bytes | str):
  content = content.encode() if isinstance(content, str) else content
  return lambda directory: (directory / name).write_bytes(content)


def put(name: str, make):
  return lambda directory: make(directory / name)


def changed(name: str, **fields):
  """Fields of a JSON file; the functions among them get the old value."""

  def change(directory: pathlib.Path) -> None:
    path = directory / name
    value = json.loads(path.read_text()) if path.exists() else {}
    for field, new in fields.items():
      value[field] = new(value.get(field)) if callable(new) else new
    path.write_text(json.dumps(value))

  return change


def template(text):
  return changed('tokenizer_config.json', chat_template=text)


def tokenizer(**fields):
  return changed('tokenizer.json', **fields)


def vocabulary(**more):
  return lambda model: model | {'vocab': model['vocab'] | more}


def grown(count: int, kind: str = 'Replace') -> list[dict]:
  """Rules, each of which doubles a letter."""
  return [
    {'type': kind, 'pattern': {'String': LETTER}, 'content': 2 * LETTER}
    for _ in range(count)
  ]


def added(**fields) -> dict:
  flags = ('single_word', 'lstrip', 'rstrip', 'normalized', 'special')
  return dict.fromkeys(flags, False) | fields


def sequence(name: str, parts: list) -> dict:
  return {'type': 'Sequence', name: parts}


DOUBLED = (
  "{% set ns = namespace(s='ab') %}{% for i in range(90) %}"
  '{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s }}'
)
LOOPS = (
  '{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}'
  '{% endfor %}'
)

TEMPLATES = {
  'nested loops': LOOPS,
  'loops in a macro': '{% macro m() %}' + LOOPS + '{% endmacro %}{{ m() }}',
  'a power': '{{ 9 ** 99999999 }}',
  'a power of a loop': (
    '{% for i in range(9999) %}{% set x = (i + 3) ** 999999 %}{% endfor %}'
  ),
  'a long text': "{{ 'ab' * 10**10 }}",
  'a text of a hundred million': "{{ 'ab' * 10**8 }}",
  'a text that doubles': DOUBLED,
  'a wide number': "{{ '%0999999999d' % 1 }}",
  'a wide column': "{{ '{:>9999999999}'.format('a') }}",
  'a long range': '{{ range(10**9) | list }}',
  'lists in lists': '{{ [[0] * 10**5] * 10**5 }}',
  'an error of its own': "{{ raise_exception('roles must alternate') }}",
  'bad syntax': '{% for %}',
  'what is not there': '{{ nothing.at.all }}',
  'nesting': '{% if 1 %}' * 5000 + '{% endif %}' * 5000,
  'brackets': '{{ ' + '(' * 9000 + '1' + ')' * 9000 + ' }}',
  'a macro in itself': '{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}',
  'its class': '{{ messages.__class__.__mro__ }}',
  'a file': "{% include '/etc/passwd' %}",
  'a number': 5,
  'a list': [1, 2],
  'none of its name': [{'name': 'tools', 'template': 'x'}],
}

J, C, G = 'tokenizer.json', 'tokenizer_config.json', 'generation_config.json'
JINJA = 'chat_template.jinja'

TOKENIZERS = {
  **{f'template: {name}': template(text) for name, text in TEMPLATES.items()},
  'template: no UTF-8': raw(JINJA, b'\xff\xfe'),
  'template: a pipe': put(JINJA, pipe),
  'template: a device': put(JINJA, device),
  'template: a folder': put(JINJA, folder),
  'template: 20 GB': put(JINJA, sparse),
  'json: empty': raw(J, ''),
  'json: a list': raw(J, '[]'),
  'json: an object': raw(J, '{}'),
  'json: cut': lambda d: raw(J, (d / J).read_bytes()[:-40])(d),
  'json: no UTF-8': raw(J, b'{"version": "\xff"}'),
  'json: nested': raw(J, '[' * 100_000),
  'json: a pipe': put(J, pipe),
  'json: a device': put(J, device),
  'json: a folder': put(J, folder),
  'json: 20 GB': put(J, sparse),
  'json: 100 MB of nothing': put(J, lambda path: sparse(path, 100 << 20)),
  'json: no model': tokenizer(model={}),
  'json: an unknown model': tokenizer(model={'type': 'Oracle'}),
  'json: an id below 0': tokenizer(model=vocabulary(zz=-1)),
  'json: an id too large': tokenizer(model=vocabulary(zz=2**40)),
  'json: an id twice': tokenizer(model=vocabulary(zz=7)),
  'json: a long token': tokenizer(model=vocabulary(**{'z' * 9999: 44})),
  'json: unknown merges': tokenizer(
    model=lambda m: dict(type='BPE', vocab=m['vocab'], merges=[['q#', 'r#']])
  ),
  'json: random merges': tokenizer(
    model=lambda m: dict(type='BPE', vocab=m['vocab'], merges=[], dropout=0.5)
  ),
  'json: no such unknown token': tokenizer(
    model=lambda m: dict(type='Unigram', vocab=[['a', 0.0]], unk_id=9)
  ),
  'json: a normalizer that doubles': tokenizer(
    normalizer=sequence('normalizers', grown(40))
  ),
  'json: one that doubles at load': tokenizer(
    normalizer=sequence('normalizers', grown(40)),
    added_tokens=lambda old: [
      *old,
      added(id=44, content=LETTER, normalized=True),
    ],
  ),
  'json: an unknown normalizer': tokenizer(normalizer={'type': 'Chaos'}),
  'json: a broken table of letters': tokenizer(
    normalizer={'type': 'Precompiled', 'precompiled_charsmap': 'AAAA'}
  ),
  'json: a broken pattern': tokenizer(
    pre_tokenizer={
      'type': 'Split',
      'pattern': {'Regex': '('},
      'behavior': 'Isolated',
      'invert': False,
    }
  ),
  'json: a decoder that doubles': tokenizer(
    decoder=sequence('decoders', grown(40))
  ),
  'json: a decoder with a pattern': tokenizer(
    decoder={'type': 'Replace', 'pattern': {'Regex': '(a+)+'}, 'content': 'b'}
  ),
  'json: a decoder of spaces': tokenizer(
    decoder={'type': 'BPEDecoder', 'suffix': ''}
  ),
  'json: a decoder of more spaces': tokenizer(
    decoder={
      'type': 'CTC',
      'pad_token': '<pad>',
      'word_delimiter_token': '',
      'cleanup': True,
    }
  ),
  'json: a decoder of many parts': tokenizer(
    decoder=sequence('decoders', [{'type': 'Fuse'}] * 99)
  ),
  'json: an unknown decoder': tokenizer(decoder={'type': 'Chaos'}),
  'config: a list': raw(C, '[]'),
  'config: no JSON': raw(C, '{'),
  'config: a pipe': put(C, pipe),
  'config: 20 GB': put(C, sparse),
  'config: nested': raw(C, '{"a":' * 100_000),
  'config: an end token that is a number': changed(C, eos_token=5),
  'config: an end token that is nothing': changed(C, eos_token={}),
  'config: added tokens': changed(C, added_tokens_decoder={'x': 1}),
  'config: no template': changed(C, chat_template=None),
  'config: a file elsewhere': changed(
    C, fast_tokenizer_files=['../tokenizer.4.0.0.json']
  ),
  'map: a number': raw('special_tokens_map.json', '5'),
  'added: a list': raw('added_tokens.json', '[5]'),
  **{
    f'stop: {eos!r}': changed(G, eos_token_id=eos)
    for eos in ('2', True, -1, 2.5, [1, '2'], [[1]], {'a': 1}, [None, False])
  },
  'stop: not a number': raw(G, '{"eos_token_id": NaN}'),
  'stop: a list': raw(G, '[2]'),
  'stop: no JSON': raw(G, '{'),
  'stop: a pipe': put(G, pipe),
  'stop: 20 GB': put(G, sparse),
}

W = 'model.safetensors'


def network(**fields):
  return changed('config.json', **fields)


def header(content: bytes, length: int | None = None, rest: int = 0):
  """A safetensors file of that header."""

  def write(directory: pathlib.Path) -> None:
    with (directory / W).open('wb') as file:
      size = len(content) if length is None else length
      file.write(size.to_bytes(8, 'little') + content)
      file.truncate(file.tell() + rest)

  return write


def many_tensors(count: int) -> bytes:
  entry = '"t%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
  return ('{' + ','.join(entry % i for i in range(count)) + '}').encode()


def rope(**fields):
  return network(rope_scaling=fields)


YARN = dict(type='yarn', original_max_position_embeddings=32)
LLAMA3 = dict(
  rope_type='llama3',
  factor=8.0,
  low_freq_factor=1.0,
  high_freq_factor=4.0,
  original_max_position_embeddings=32,
)

NETWORKS = {
  **{
    f'{field}={value!r}': network(**{field: value})
    for field, values in {
      'num_hidden_layers': (10**9, 0, -1, 2.0, '2', True, None, [2]),
      'hidden_size': (10**12, 0, -32),
      'vocab_size': (0, 10**10, '44'),
      'num_attention_heads': (0, -4, 5),
      'num_key_value_heads': (0, 3, 8),
      'head_dim': (0, 7, -8, '8'),
      'intermediate_size': (0, 1 << 40),
      'max_position_embeddings': (0, -1, 1e9),
      'rms_norm_eps': (0, -1e-5, '1e-5', float('nan'), float('inf'), None, 2),
      'tie_word_embeddings': ('false', 1, None),
      'architectures': (5, {}, [None], [['x']], 'LlamaForCausalLM', [{}]),
      'layer_types': (5, 'full_attention', [['full_attention']]),
      'rope_theta': (0, -5, '1e4', float('nan'), None, True),
      'partial_rotary_factor': (0.5, '1'),
      'hidden_act': ([], None),
      'attention_bias': ('false', [1]),
    }.items()
    for value in values
  },
  'rope: yarn without factor': rope(**YARN),
  **{
    f'rope: yarn with factor={value!r}': rope(**YARN, factor=value)
    for value in (0, -4, '4', True, float('nan'), 0.5, [4])
  },
  **{
    f'rope: yarn with {name}={value!r}': rope(**YARN | {name: value}, factor=4)
    for name, value in (
      ('original_max_position_embeddings', 0),
      ('original_max_position_embeddings', '32'),
      ('beta_fast', -1),
      ('beta_slow', '1'),
      ('attention_factor', 'x'),
      ('truncate', 'no'),
    )
  },
  **{
    f'rope: llama3 without {name}': rope(
      **{k: v for k, v in LLAMA3.items() if k != name}
    )
    for name in ('factor', 'low_freq_factor', 'high_freq_factor')
  },
  'rope: llama3 with equal factors': rope(**LLAMA3 | dict(low_freq_factor=4.0)),
  'rope: linear without factor': rope(type='linear'),
  'rope: linear with factor null': rope(type='linear', factor=None),
  'rope: unknown': rope(type='longrope', factor=4),
  'rope: of no type': rope(type=['yarn']),
  'rope: text': network(rope_scaling='yarn'),
  'rope: a list': network(rope_parameters=[1]),
  'rope: of another layer type': network(
    rope_parameters={'sliding_attention': {'rope_theta': 777.0}}
  ),
  'rope: of two layer types': network(
    rope_parameters={
      'full_attention': {'rope_theta': 777.0},
      'sliding_attention': {'rope_theta': 10.0},
    }
  ),
  'rope: a layer type and a number': network(
    rope_parameters={'full_attention': {'rope_theta': 777.0}, 'rope_theta': 5.0}
  ),
  'rope: a layer type of nothing': network(
    rope_parameters={'full_attention': None}
  ),
  'rope: twice, in two ways': network(
    rope_parameters={'rope_theta': 777.0}, rope_scaling=dict(YARN, factor=4)
  ),
  'config: empty': raw('config.json', ''),
  'config: no UTF-8': raw('config.json', b'{"a": "\xff"}'),
  'config: nested': raw('config.json', '{"a":' * 100_000),
  'config: a key twice': raw('config.json', '{"a": 1, "a": 2}'),
  'config: a long number': raw('config.json', '{"a": ' + '9' * 9999 + '}'),
  'config: many values': raw('config.json', '[' + '[],' * 2_100_000 + '[]]'),
  'config: a pipe': put('config.json', pipe),
  'config: a device': put('config.json', device),
  'config: 20 GB': put('config.json', sparse),
  'weights: empty': raw(W, b''),
  'weights: cut': lambda d: raw(W, (d / W).read_bytes()[:-40])(d),
  'weights: 20 GB of nothing': put(W, sparse),
  'weights: a pipe': put(W, pipe),
  'weights: a device': put(W, device),
  'weights: a folder': put(W, folder),
  'weights: a link to itself': lambda d: (
    (d / W).unlink(),
    (d / W).symlink_to(W),
  ),
  'weights: all header': header(b'{', length=150 << 20, rest=150 << 20),
  'weights: a header of 2**63': header(b'{', length=1 << 63),
  'weights: nested': header(b'{"a":' * 100_000),
  'weights: no UTF-8': header(b'{"\xff": 1}'),
  'weights: not a number': header(b'{"__metadata__": NaN}'),
  'weights: many empty tensors': header(many_tensors(110_000)),
  'weights: more empty tensors': header(many_tensors(400_000)),
  'weights: an unknown dtype': header(
    b'{"a": {"dtype": "Q4", "shape": [0], "data_offsets": [0, 0]}}'
  ),
  'weights: a dtype that is a list': header(
    b'{"a": {"dtype": [], "shape": [0], "data_offsets": [0, 0]}}'
  ),
  'weights: a shape below 0': header(
    b'{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 0]}}'
  ),
  'weights: beyond the end': header(
    b'{"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}}'
  ),
  'weights: an index without files': lambda d: (
    (d / W).unlink(),
    raw(f'{W}.index.json', '{"weight_map": {"a": "b.safetensors"}}')(d),
  ),
  'weights: an index that leads out': lambda d: (
    (d / W).unlink(),
    raw(f'{W}.index.json', '{"weight_map": {"a": "../b.safetensors"}}')(d),
  ),
}
