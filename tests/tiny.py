"""A tiny Llama, its tokenizer, its questions and its config, as files.

What `python -m acereason_jax.train` needs for a run of a few seconds. The
judge is `tiny_judge:verify`, so this folder belongs on PYTHONPATH.
"""

import json
import os
import pathlib
from typing import Any

import numpy as np
import safetensors.numpy
import tokenizers
import xla_flags
from tokenizers import decoders, models, pre_tokenizers

from acereason_jax.config import base as base_config
from acereason_jax.config import evaluation as evaluation_config
from acereason_jax.models import base, families

TESTS = pathlib.Path(__file__).parent
SPECIAL = ('<pad>', '<eos>', '<user>', '<assistant>')
LETTERS = 'abcdefghijklmnopqrstuvwxyz 0123456789+?'
TEMPLATE = (
  "{% for m in messages %}{{ '<' + m['role'] + '>' + m['content'] }}"
  "{% endfor %}{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)
LLAMA = {
  'architectures': ['LlamaForCausalLM'],
  'vocab_size': len(SPECIAL) + len(LETTERS),
  'hidden_size': 32,
  'intermediate_size': 48,
  'num_hidden_layers': 2,
  'num_attention_heads': 4,
  'num_key_value_heads': 2,
  'max_position_embeddings': 64,
  'rms_norm_eps': 1e-5,
  'rope_theta': 500.0,
  'tie_word_embeddings': True,
  'hidden_act': 'silu',
}


def shipped(name: str) -> Any:
  """The module of configs/`name`.py."""
  return base_config.beside(str(TESTS.parent / 'configs' / 'any'), name)


def write_tokenizer(directory: pathlib.Path) -> None:
  """One token a character, a chat template and an end token."""
  vocab = {t: i for i, t in enumerate([*SPECIAL, *LETTERS])}
  tokenizer = tokenizers.Tokenizer(models.WordLevel(vocab, unk_token='<pad>'))
  tokenizer.pre_tokenizer = pre_tokenizers.Split('', 'isolated')
  tokenizer.decoder = decoders.Fuse()
  tokenizer.add_special_tokens(list(SPECIAL))
  tokenizer.save(str(directory / 'tokenizer.json'))
  (directory / 'tokenizer_config.json').write_text(
    json.dumps(dict(eos_token='<eos>', chat_template=TEMPLATE))
  )


def write_model(directory: pathlib.Path, **changes: Any) -> pathlib.Path:
  """A Hugging Face directory of random weights; `changes` of config.json."""
  directory.mkdir(parents=True, exist_ok=True)
  config = LLAMA | changes
  (directory / 'config.json').write_text(json.dumps(config))
  write_tokenizer(directory)
  specs = families.from_config(config).specs
  random = np.random.default_rng(0)
  tensors = {}

  def add(spec: base.ParamSpec) -> None:
    value = np.ones(spec.shape, np.float32)
    if spec.std is not None:
      value = random.normal(0, 0.3, spec.shape).astype(np.float32)
    for index in np.ndindex(spec.shape[: spec.stacked]):
      tensors[spec.name.format(*index)] = value[index]

  base.map_specs(add, specs)
  safetensors.numpy.save_file(tensors, directory / 'model.safetensors')
  return directory


def write_questions(
  path: pathlib.Path, count: int, first: int = 0
) -> pathlib.Path:
  """Answers are what `tiny_judge:verify` wants: a parity of letters."""
  rows = [
    dict(id=f'{path.stem}-{i}', prompt=f'{i}+{i}?', answer=str(i % 2))
    for i in range(first, first + count)
  ]
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  return path


def config(folder: pathlib.Path) -> Any:
  """The tiny run over the files that `write` puts into `folder`."""
  c = base_config.get_config()
  c.steps = 4
  c.model = str(folder / 'model')
  c.dtype = 'float32'
  c.prompt.update(suffix='', window=12, reasons=False)
  c.train_data.path = str(folder / 'train.jsonl')
  c.heldout_data.path = str(folder / 'heldout.jsonl')
  c.rollout.update(prompts=4, per_prompt=4, max_tokens=8, temperature=1.0)
  c.heldout.update(temperature=1.0, top_p=1.0)
  c.engine.update(
    slots=4, page=4, chunk=2, prefill_prompts=2, prefill_tokens=12
  )
  c.judge.update(
    verify=dict(fn='tiny_judge:verify'),
    reference='tiny_judge:reference',
    workers=1,
    timeout_seconds=60.0,
  )
  c.objective.truncated = 'score'
  c.optim.learning_rate = 1e-2
  c.microbatch.update(rows=4, columns=32, vocab_chunk=32)
  c.checkpoint.every = 1
  c.samples.update(every=2, count=3, characters=80)
  return c


def staged(folder: pathlib.Path) -> Any:
  """`config` as a recipe: two kinds of questions, three stages of two steps.

  The second stage asks first which questions are too easy; it and the third
  leave out what was solved, and refill batches. Saves come at odd moments.
  """
  c = config(folder)
  c.steps = 2
  files = dict(path=str(folder / 'others.jsonl'))
  asked = dict(path=str(folder / 'others_heldout.jsonl'))
  c.domains = dict(math={}, code=dict(train_data=files, heldout_data=asked))
  c.stages = (
    dict(name='math_short', mix=dict(math=1), rollout=dict(max_tokens=4)),
    dict(
      name='math_long',
      steps=3,
      mix=dict(math=1),
      rollout=dict(
        temperature=dict(
          fn='acereason_jax.rl.control:near_entropy',
          first=1.0,
          target=2.0,
          gain=0.5,
          low=0.5,
          high=2.0,
        )
      ),
      filter=dict(of=4, max_solved=3),
      optim=dict(carry=False),
    ),
    dict(
      name='both',
      mix=dict(math=1, code=2),
      rollout=dict(prompts=3, refill=2),
      filter=dict(drop_solved=True, readmit=0.5),
      objective=dict(truncated='zero'),
    ),
  )
  c.heldout.every = 3
  c.checkpoint.update(every=2, best='heldout/code')
  return c


def evaluation(folder: pathlib.Path) -> Any:
  """Three benchmarks over the files that `write_evaluation` makes."""
  c = evaluation_config.get_config()
  c.model = str(folder / 'model')
  c.sampling.update(temperature=1.0, top_p=1.0)
  c.engine.update(slots=4, page=4, chunk=2)
  c.judge.workers = 1
  parity = evaluation_config.judge(
    'tiny_judge:verify',
    reference='tiny_judge:reference',
    timeout_seconds=60.0,
    reasons=False,
  )
  known = evaluation_config.judge(
    'tiny_judge:known', timeout_seconds=60.0, reasons=False
  )
  for name, n, length in (('few', 4, 8), ('long', 3, 20), ('more', 2, 6)):
    c.benchmarks[name] = evaluation_config.benchmark(
      data=dict(
        fn='acereason_jax.evaluation.files:rows_of',
        paths=(str(folder / f'{name}.jsonl'),),
      ),
      n=n,
      max_tokens=length,
      judges=dict(parity=parity)
      if name == 'more'
      else dict(parity=parity, known=known),
    )
  return c


def write_evaluation(folder: pathlib.Path) -> pathlib.Path:
  """Model, benchmarks and config into `folder`; returns the config's path."""
  write_model(folder / 'model')
  write_questions(folder / 'few.jsonl', 5)
  write_questions(folder / 'long.jsonl', 4, first=30)
  write_questions(folder / 'more.jsonl', 6, first=100)
  path = folder / 'tiny_eval.py'
  path.write_text(CONFIG_FILE.format('evaluation'))
  return path


CONFIG_FILE = """
import pathlib
import tiny

def get_config():
  return tiny.{}(pathlib.Path(__file__).parent)
"""


def write(folder: pathlib.Path) -> pathlib.Path:
  """Model, questions and config into `folder`; returns the config's path."""
  write_model(folder / 'model')
  write_questions(folder / 'train.jsonl', 10)
  write_questions(folder / 'heldout.jsonl', 6, first=50)
  write_questions(folder / 'others.jsonl', 7, first=20)
  write_questions(folder / 'others_heldout.jsonl', 5, first=70)
  (folder / 'staged_config.py').write_text(CONFIG_FILE.format('staged'))
  path = folder / 'tiny_config.py'
  path.write_text(CONFIG_FILE.format('config'))
  return path


def environment(cache: pathlib.Path, devices: int = 1) -> dict[str, str]:
  """For a subprocess: compiled programs of all of them go to `cache`."""
  paths = [str(TESTS), str(TESTS.parent), os.environ.get('PYTHONPATH', '')]
  return os.environ | {
    'PYTHONPATH': os.pathsep.join(filter(None, paths)),
    'JAX_PLATFORMS': 'cpu',
    'XLA_FLAGS': xla_flags.flags(devices),
    'JAX_COMPILATION_CACHE_DIR': str(cache),
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
    'PYTHONUNBUFFERED': '1',
  }
