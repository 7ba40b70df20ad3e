"""Sizes of known models, against the numbers that their authors publish."""

import json

import pytest
import tiny

from acereason_jax.models import base, embedded, families, sizes
from acereason_jax.rollout import serve

# Totals of the safetensors files, as their pages on the hub give them.
PUBLISHED = {
  'deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B': 1_777_088_000,
  'Qwen/Qwen2.5-1.5B': 1_543_714_304,
  'deepseek-ai/DeepSeek-R1-Distill-Qwen-7B': 7_615_616_512,
  'nvidia/AceReason-Nemotron-1.1-7B': 7_615_616_512,
  'deepseek-ai/DeepSeek-R1-Distill-Qwen-14B': 14_770_033_664,
  'Qwen/Qwen3-8B': 8_190_735_360,
  'Qwen/Qwen3-30B-A3B': 30_532_122_624,
}


@pytest.mark.parametrize('name', PUBLISHED)
def test_parameters_are_as_many_as_published(name):
  network = serve.read_model_sizes(name).network
  assert base.param_count(network.specs) == PUBLISHED[name]


def test_names_of_the_hub_have_sizes():
  for name, short in sizes.HUB.items():
    assert sizes.config_json(name) == sizes.CONFIGS[short]
  for name in sizes.CONFIGS:
    assert serve.read_model_sizes(name).tokenizer is None


def test_the_embedded_model_is_known_as_it_is(smollm_dir):
  (name,) = embedded.EMBEDDED
  known = serve.read_model_sizes(name).network
  there = families.read(str(smollm_dir))
  assert (known.config, known.specs) == (there.config, there.specs)


def test_a_folder_needs_its_config_json_alone(tmp_path):
  (tmp_path / 'config.json').write_text(json.dumps(tiny.LLAMA))
  files = serve.read_model_sizes(str(tmp_path))
  assert files.network.config.vocab == tiny.LLAMA['vocab_size']
  assert 0 <= files.stops[0] < tiny.LLAMA['vocab_size']


@pytest.mark.parametrize('name', ['qwen2-70b', 'someone/else', '/no/such'])
def test_another_name_gives_a_line_that_lists_the_names(name):
  with pytest.raises(FileNotFoundError) as e:
    serve.read_model_sizes(name)
  message = str(e.value)
  assert '\n' not in message and repr(name) in message
  for known in ('qwen2-7b', 'nvidia/AceReason-Nemotron-7B'):
    assert known in message
