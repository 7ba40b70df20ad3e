"""Qwen3-MoE: routing and experts against float64, however they are computed.

`test_parity` compares its logits with Hugging Face's and `test_hf` its files,
as those of every family.
"""

import functools
import json
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import oracles
import pytest
import test_decoder
import test_update
import tiny
from runs import Command, metrics_of, state_of

from acereason_jax import export
from acereason_jax.models import base, families, hf, lora, qwen3_moe
from acereason_jax.rl import losses, optim, update

CONFIG = oracles.tiny_moe_config()
MODEL = qwen3_moe.make_model(CONFIG)
PARAMS = oracles.rough_params(MODEL.specs)
HF = tiny.LLAMA | {
  'architectures': ['Qwen3MoeForCausalLM'],
  'model_type': 'qwen3_moe',
  'moe_intermediate_size': 24,
  'num_experts': 5,
  'num_experts_per_tok': 2,
  'norm_topk_prob': True,
  'decoder_sparse_step': 1,
  'mlp_only_layers': [],
}
MOVED = ('router', 'gate', 'up', 'down')


def flat(tree):
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {base.path_name(path): np.asarray(x) for path, x in leaves}


def batches(rows):
  """The rollouts of `test_update`, one a row."""
  assert test_update.CONFIG.vocab == CONFIG.vocab
  groups = [[t] for group in test_update.GROUPS for t in group][:rows]
  return test_update.pack(groups, rows, 24)


def updater(model, placed=None):
  return update.make_update(
    model,
    losses.on_policy(),
    optax.sgd(1.0),
    vocab_chunk=40,
    dtype=jnp.float32,
    param_shardings=placed,
  )


def extended(model, params, count):
  """Hidden states of that many tokens, which attend to nothing but q."""
  tokens = np.arange(count) * 7 % CONFIG.vocab
  attend = lambda layer, q, k, v: q
  run = jax.jit(lambda params: model.extend(params, tokens, tokens, attend)[0])
  return np.asarray(run(params))


@functools.cache
def gradient():
  """The gradient on one device."""
  made = updater(MODEL)
  (batch,) = batches(rows=8)
  sums, _ = made.add(PARAMS, made.zeros(PARAMS), batch, test_update.KNOBS)
  return jax.device_get(sums.grads)


def test_apply_equals_float64_and_extend_equals_apply():
  rng = np.random.default_rng(0)
  lengths, R = np.array([6, 4]), 3
  pieces = rng.integers(0, CONFIG.vocab, (2, 2, 3))
  replies = rng.integers(0, CONFIG.vocab, (2, R))
  got = test_decoder.extend_all(CONFIG, MODEL, PARAMS, pieces, replies, lengths)
  whole = np.zeros((2, 6 + R), np.int64)
  for b, n in enumerate(lengths):
    whole[b, : n + R] = [*pieces[b].reshape(-1)[:n], *replies[b]]
  want = np.asarray(
    jax.jit(lambda *x: test_decoder.causal(MODEL, *x))(PARAMS, whole)
  )
  said = np.stack([want[b, n : n + R] for b, n in enumerate(lengths)])
  assert oracles.relative_error(got[1], said) < 2e-6
  logits = want[0] @ PARAMS['head'].T
  exact = oracles.logits(CONFIG, PARAMS, whole[0])
  assert oracles.relative_error(logits, exact) < 2e-6


@pytest.mark.parametrize('renormalized', [True, False])
def test_what_a_token_passes(renormalized):
  c = oracles.tiny_moe_config(renormalized=renormalized)
  logits = np.float32([[1.0, 3.0, 0.0, 2.0, -9.0], [0.0, 0.0, 0.0, 0.0, 0.0]])
  weight, expert = qwen3_moe.route(c, np.eye(2, dtype=np.float32), logits.T)
  # Every machine takes the first of equal ones.
  np.testing.assert_array_equal(expert, [[1, 3], [0, 1]])
  top = np.exp([3.0, 2.0])
  rest = 0.0 if renormalized else np.exp([1.0, 0.0, -9.0]).sum()
  want = [top / (top.sum() + rest), [0.5, 0.5] if renormalized else [0.2, 0.2]]
  np.testing.assert_allclose(weight, want, rtol=1e-6)


def test_logits_of_experts_are_not_rounded():
  x, router = np.ones((1, 3), jnp.bfloat16), np.ones((5, 3), jnp.bfloat16)
  router[:, 0] = [256, 256, 256, 256, 256]
  router[3, 1] = 1.0078125
  _, expert = qwen3_moe.route(CONFIG, x, router)
  assert expert[0, 0] == 3


def test_both_ways_to_compute_experts_are_one():
  """Their gradients too; expert 3 gets most tokens, and 4 gets none."""
  rng = np.random.default_rng(1)
  M = 40
  x_MD = np.float32(rng.normal(size=(M, CONFIG.embed)))
  weight_MK = np.float32(rng.uniform(0.1, 1, (M, 2)))
  expert_MK = jnp.int32([[3, rng.integers(3)] for _ in range(M)])
  w = {n: PARAMS['layers'][n][0] for n in ('gate', 'up', 'down')}
  toward_MD = np.float32(rng.normal(size=x_MD.shape))

  def both(fn):
    value = lambda *args: fn(args[0], args[1], expert_MK, args[2])
    scalar = lambda *args: jnp.vdot(value(*args), toward_MD)
    grads = jax.grad(scalar, argnums=(0, 1, 2))
    run = jax.jit(lambda *args: (value(*args), grads(*args)))
    return run(x_MD, weight_MK, w)

  got, want = both(qwen3_moe.grouped), both(qwen3_moe.every_expert)
  test_update.assert_same(got[0], want[0], 2e-6)
  test_update.assert_same(got[1], want[1], 2e-6)
  by_hand = np.zeros(x_MD.shape)
  for m, k in np.ndindex(expert_MK.shape):
    parts = (w[n][expert_MK[m, k]].astype(np.float64) for n in w)
    by_hand[m] += weight_MK[m, k] * oracles._gated(x_MD[m], *parts)
  assert oracles.relative_error(got[0], by_hand) < 2e-6
  assert not got[1][2]['gate'][4].any()


def test_a_step_moves_router_and_experts_by_the_float64_gradient():
  grads = gradient()['layers']
  rng = np.random.default_rng(0)
  rollouts = [[t] for group in test_update.GROUPS for t in group][:8]

  def objective(name, move):
    layers = {n: np.float64(x) for n, x in PARAMS['layers'].items()}
    layers[name] = layers[name] + move
    total = 0.0
    for ((t,),) in zip(rollouts):
      tokens = np.concatenate([t.prompt.tokens, t.rollout.tokens[:-1]])
      R = len(t.rollout.tokens)
      logits = oracles.logits(CONFIG, PARAMS | dict(layers=layers), tokens)
      logp = oracles.log_softmax(logits[-R:] / test_update.TEMPERATURE)
      said = logp[np.arange(R), t.rollout.tokens].sum()
      total -= t.adv * t.weight * said
    return total

  for name in MOVED:
    direction = 1e-6 * rng.normal(size=grads[name].shape)
    want = (objective(name, direction) - objective(name, -direction)) / 2
    error = abs(np.vdot(grads[name], direction) - want)
    assert error < 1e-11 * np.linalg.norm(grads[name]), name
    # Each layer's router and experts learn.
    assert (np.abs(grads[name]).reshape(CONFIG.layers, -1).max(1) > 0).all()
  made = updater(MODEL)
  state = update.init_state(jax.tree.map(jnp.array, PARAMS), optax.sgd(1.0))
  sums = made.zeros(PARAMS)._replace(grads=jax.tree.map(jnp.array, gradient()))
  after, _ = made.apply(state, sums)
  for name in MOVED:
    got = np.asarray(after.params['layers'][name])
    np.testing.assert_array_equal(got, PARAMS['layers'][name] - grads[name])


def test_any_mesh_gives_one_gradient_and_one_rollout(tmp_path):
  script = pathlib.Path(__file__).parent / 'mesh_moe.py'
  done = subprocess.run(
    [sys.executable, str(script), str(tmp_path / 'got.npz')],
    env=tiny.environment(tmp_path / 'cache'),
    capture_output=True,
    text=True,
    timeout=600,
  )
  assert done.returncode == 0, done.stderr
  want = flat(gradient())
  rollouts = {n: extended(MODEL, PARAMS, n) for n in (8, 3)}
  with np.load(tmp_path / 'got.npz') as got:
    for mesh in ('fsdp', 'all', 'groups'):
      for n, x in want.items():
        error = oracles.relative_error(got[f'{mesh}.grads.{n}'], x)
        assert error < test_update.TOLERANCE, (mesh, n)
      for count, x in rollouts.items():
        found = got[f'{mesh}.extend.{count}']
        assert oracles.relative_error(found, x) < 2e-6, (mesh, count)
    assert str(got['fsdp.placed']) == "(None, None, None, 'fsdp')"
    assert "'tensor'" in str(got['all.placed'])


def test_adapters_of_experts_and_none_of_the_router():
  parts = lora.split(MODEL.specs, rank=3, alpha=4.5, on=r'layers\..*')
  shapes = {n: s.shape for n, s in parts.trained['layers'].items()}
  assert shapes['gate_a'] == (2, 5, 3, 32) and shapes['gate_b'] == (2, 5, 24, 3)
  assert shapes['down_a'] == (2, 5, 3, 24) and shapes['down_b'] == (2, 5, 32, 3)
  assert not [n for n in shapes if n.startswith('router')]
  assert parts.trained['layers']['up_a'].name == (
    'model.layers.{}.mlp.experts.{}.up_proj.lora_A.weight'
  )
  with pytest.raises(ValueError, match='matches no matrix; expected'):
    lora.split(MODEL.specs, rank=3, alpha=4.5, on=r'layers\.router')
  adapters = oracles.rough_params(parts.trained, seed=1)
  merged = jax.jit(functools.partial(lora.merged, scale=parts.scale))(
    base.overlaid(PARAMS, adapters)
  )
  for n in ('gate', 'down', 'q'):
    a, b = (np.float64(adapters['layers'][n + end]) for end in ('_a', '_b'))
    want = PARAMS['layers'][n] + 1.5 * b @ a
    assert oracles.relative_error(merged['layers'][n], want) < 2e-7, n
  np.testing.assert_array_equal(
    merged['layers']['router'], PARAMS['layers']['router']
  )


def test_muon_turns_the_matrix_of_each_expert():
  specs = {'layers': {n: MODEL.specs['layers'][n] for n in MOVED}}
  params = {'layers': {n: PARAMS['layers'][n] for n in MOVED}}
  optimizer = optim.make_optimizer(
    dict(fn='optax.contrib:muon', learning_rate=1.0),
    specs,
    warmup_steps=0,
    clip_norm=1e9,
  )
  one = jax.jit(lambda p: optimizer.update(p, optimizer.init(p), p)[0])
  updates = one(params)['layers']
  for name in MOVED:
    for index in np.ndindex(updates[name].shape[:-2]):
      singular = np.linalg.svd(updates[name][index], compute_uv=False)
      assert singular.min() > 0.5 * singular.max(), (name, index)


def test_a_run_over_fsdp_samples_as_it_trains_and_is_exported(tmp_path):
  tiny.write(tmp_path)
  tiny.write_model(tmp_path / 'model', **HF)
  workdir = tmp_path / 'run'
  flags = ['--config.steps=2', '--config.mesh.fsdp=2', '--config.mesh.data=1']
  run = Command(tmp_path, tmp_path / 'cache', workdir, *flags, devices=2)
  run.ends(0)
  for values in metrics_of(workdir):
    assert values['mismatch_max'] < 1e-4 and values['grad_norm'] > 0
  assert export.export(workdir, str(tmp_path / 'out')) == 2
  specs = families.read(str(tmp_path / 'out')).specs
  load = lambda d: hf.load(str(tmp_path / d), specs, dtype=np.float32)
  got, before, saved = load('out'), load('model'), state_of(workdir, 2)
  test_update.assert_bitwise(got, saved['params'])
  for name in MOVED:
    old = before['layers'][name]
    assert (np.asarray(got['layers'][name]) != old).mean() > 0.5, name


def test_what_config_json_says():
  c = families.from_config(HF).config
  assert (c.experts, c.picked, c.mlp, c.renormalized) == (5, 2, 24, True)
  assert c.qk_norm and not c.qkv_bias
  # As transformers 5 writes it; what is missing is as there.
  five = dict(HF, num_local_experts=5)
  for name in ('num_experts', 'norm_topk_prob', 'mlp_only_layers'):
    del five[name]
  assert not families.from_config(five).config.renormalized
  assert families.from_config(five).config.experts == 5
  json.dumps(vars(c))


def test_the_parameters_of_a_published_model():
  """Qwen3-30B-A3B: 30.5 billion, of which a token passes 3.3."""
  c = oracles.tiny_moe_config(
    **dict(vocab=151936, layers=48, embed=2048, mlp=768, heads=32),
    **dict(kv_heads=4, head_dim=128, experts=128, picked=8),
  )
  specs = qwen3_moe.param_specs(c)
  count = base.param_count(specs)
  assert count == 30_532_122_624
  idle = 48 * (128 - 8) * 3 * 768 * 2048
  assert count - idle == 3_353_032_704
  # All weights except norms and the input's embedding, by q of all layers.
  passed = count - idle - 151936 * 2048
  vectors = 48 * (2 * 2048 + 2 * 128) + 2048
  even = qwen3_moe.make_model(c).even_tokens
  assert even == pytest.approx((passed - vectors) / (48 * 4096), rel=1e-12)


@pytest.mark.parametrize(
  'change, said',
  [
    ({'num_experts': 0}, 'num_experts=0; expected a whole number, 1 to 4096'),
    ({'num_experts': 1 << 40}, 'num_experts=1099511627776; expected a whole'),
    ({'num_experts': True}, 'num_experts=True; expected a whole number'),
    ({'num_experts': '8'}, "num_experts='8'; expected a whole number"),
    ({'num_experts': None}, 'num_experts=None; expected a whole number'),
    ({'num_local_experts': 6}, 'num_experts=5; expected num_local_experts, or'),
    ({'num_experts_per_tok': 6}, 'num_experts_per_tok=6; expected a whole nu'),
    ({'num_experts_per_tok': 0}, 'num_experts_per_tok=0; expected a whole nu'),
    ({'num_experts_per_tok': 2.0}, 'num_experts_per_tok=2.0; expected a whol'),
    ({'moe_intermediate_size': -1}, 'moe_intermediate_size=-1; expected a wh'),
    ({'norm_topk_prob': 'yes'}, "norm_topk_prob='yes'; expected true or fals"),
    ({'decoder_sparse_step': 2}, 'decoder_sparse_step=2; expected 1: experts'),
    ({'mlp_only_layers': [0]}, 'mlp_only_layers=[0]; expected []: experts in'),
    ({'mlp_only_layers': 'x'}, "mlp_only_layers='x'; expected []: experts"),
    ({'attention_bias': True}, 'attention_bias=True is not supported'),
    ({'use_sliding_window': True}, 'use_sliding_window=True is not supporte'),
  ],
)
def test_a_config_json_that_is_refused(change, said):
  with pytest.raises(ValueError, match=r'^config\.json: ') as e:
    families.from_config(HF | change)
  assert said in str(e.value) and '\n' not in str(e.value)


@pytest.mark.parametrize(
  'field', ['num_experts', 'num_experts_per_tok', 'moe_intermediate_size']
)
def test_a_config_json_that_lacks_a_field(field):
  config = {k: v for k, v in HF.items() if k != field}
  with pytest.raises(ValueError, match=field) as e:
    families.from_config(config)
  assert '\n' not in str(e.value)
