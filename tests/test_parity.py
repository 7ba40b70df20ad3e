"""Our logits are transformers' logits: see golden/make_golden.py."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from acereason_jax.models import families, hf

GOLDEN = pathlib.Path(__file__).parent / 'golden'
NAMES = sorted(p.parent.name for p in GOLDEN.glob('*/config.json'))
TOLERANCE = 5e-4


def load(directory):
  model = families.read(directory).make_model()
  return model, hf.load(directory, model.specs, dtype=jnp.float32)


def logits(model, params, tokens_T):
  """float32 [T, V] of one causal sequence."""
  tokens_BT = jnp.asarray(tokens_T)[None]
  position_BT = jnp.arange(tokens_BT.shape[1])[None]
  ones, zeros = jnp.ones_like(tokens_BT), jnp.zeros_like(tokens_BT)

  @jax.jit
  def run(params):
    x_BTD = model.apply(params, tokens_BT, position_BT, ones, zeros)
    return x_BTD[0] @ model.head(params).T

  return np.asarray(run(params))


@pytest.mark.parametrize('name', NAMES)
def test_logits_equal_transformers_on_tiny_checkpoints(name):
  golden = np.load(GOLDEN / name / 'golden.npz')
  got = logits(*load(GOLDEN / name), golden['tokens'])
  np.testing.assert_allclose(got, golden['logits'], rtol=0, atol=TOLERANCE)


def test_every_family_and_dtype_has_a_golden():
  configs = [hf.read_config(GOLDEN / name) for name in NAMES]
  found = {c['architectures'][0] for c in configs}
  assert found == set(families.FAMILIES)
  dtypes = {c.get('dtype') or c.get('torch_dtype') for c in configs}
  assert dtypes == {'float32', 'float16', 'bfloat16'}


def test_logits_equal_transformers_on_the_embedded_model(smollm_dir):
  golden = np.load(GOLDEN / 'smollm2' / 'golden.npz')
  got = logits(*load(smollm_dir), golden['tokens'])
  stride = got.shape[1] // golden['logits'].shape[1]
  np.testing.assert_allclose(
    got[:, ::stride], golden['logits'], rtol=0, atol=TOLERANCE
  )
  np.testing.assert_allclose(
    jax.nn.logsumexp(got, -1), golden['logsumexp'], rtol=0, atol=TOLERANCE
  )


@pytest.mark.parity
@pytest.mark.parametrize('name', NAMES)
def test_transformers_loads_our_export_and_agrees(name, tmp_path):
  torch = pytest.importorskip('torch')
  transformers = pytest.importorskip('transformers')
  model, params = load(GOLDEN / name)
  key = jax.random.key(0)
  moved = jax.tree.map(
    lambda x: x + 0.1 * jax.random.normal(key, x.shape), params
  )
  hf.export(moved, model.specs, GOLDEN / name, tmp_path / 'out')
  # Read back, because a narrow dtype rounds what was exported.
  model, params = load(tmp_path / 'out')
  theirs = transformers.AutoModelForCausalLM.from_pretrained(
    tmp_path / 'out', dtype=torch.float32, attn_implementation='eager'
  )
  tokens_T = np.load(GOLDEN / name / 'golden.npz')['tokens']
  with torch.no_grad():
    want = theirs(torch.tensor(tokens_T[None]).long()).logits[0].numpy()
  got = logits(model, params, tokens_T)
  np.testing.assert_allclose(got, want, rtol=0, atol=TOLERANCE)
