"""Every family provides the same parts, and nothing else knows the families."""

import ast
import dataclasses
import json
import pathlib

import jax
import pytest
import test_qwen3_moe
import tiny

from acereason_jax.models import base, families, sharding

PACKAGE = pathlib.Path(families.__file__).parents[1]
OWN_FILES = ('decoder', 'qwen3_moe')
CONFIGS = {
  name: (test_qwen3_moe.HF if 'Moe' in name else tiny.LLAMA)
  | {'architectures': [name]}
  for name in families.FAMILIES
}


def test_only_families_names_the_families_files():
  naming = set()
  for file in PACKAGE.rglob('*.py'):
    for node in ast.walk(ast.parse(file.read_text())):
      if (
        isinstance(node, ast.ImportFrom)
        and node.module.endswith('.models')
        and {a.name for a in node.names} & set(OWN_FILES)
      ):
        naming.add(file.relative_to(PACKAGE).as_posix())
  # The one builds on the other.
  assert naming == {'models/families.py', 'models/qwen3_moe.py'}


@pytest.mark.parametrize('name', CONFIGS)
def test_a_family_provides_what_others_read(name):
  network = families.from_config(CONFIGS[name])
  c = network.config
  assert c.vocab and c.context and c.heads % c.kv_heads == 0
  # It goes into a checkpoint's meta, where a run that goes on compares it.
  asdict = dataclasses.asdict(c)
  assert json.loads(json.dumps(asdict)) == asdict
  model = network.make_model()
  assert model.specs == network.specs and model.even_tokens > 0
  named = base.by_name(network.specs)
  assert named['embed'].shape[0] == c.vocab
  for parameter, spec in named.items():
    assert len(spec.shape) == len(spec.axes), parameter
    assert {a for a in spec.axes if a} <= set(sharding.RULES), parameter
    # A layer is the first index of a file's tensor, and what is stacked.
    assert (spec.stacked > 0) == parameter.startswith('layers.'), parameter
    assert len(spec.shape) - spec.stacked == (2 if spec.role.decays else 1)
    assert spec.role.decays or not (spec.role.matrix or spec.role.adapts)
  params = base.map_specs(
    lambda s: jax.ShapeDtypeStruct(s.shape, 'float32'), network.specs
  )
  assert model.head(params).shape == (c.vocab, c.embed)


@pytest.mark.parametrize(
  'given', [None, [], ['MixtralForCausalLM'], 'Qwen3', [7], {'a': 1}]
)
def test_a_family_that_is_not_there(given):
  with pytest.raises(ValueError, match=r'^config\.json: architecture ') as e:
    families.from_config(tiny.LLAMA | {'architectures': given})
  message = str(e.value)
  assert '\n' not in message
  assert all(name in message for name in families.FAMILIES)
