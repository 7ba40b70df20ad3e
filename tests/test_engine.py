"""What the engine samples is what the trainer scores, wherever it stood.

Engines compile in seconds, so that those of one kind are shared.
"""

import functools
import logging

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from acereason_jax import sharding, types
from acereason_jax.kernels import logprobs
from acereason_jax.models import decoder
from acereason_jax.rl import packing, update
from acereason_jax.rollout import engine as engine_lib
from acereason_jax.rollout import sampling as sampling_lib

WINDOW, ROOM, PAD = 7, 12, 0
CONFIG = oracles.tiny_config()
PLAIN = decoder.make_model(CONFIG)
PARAMS = oracles.rough_params(PLAIN.specs)
TEMPERATURE = 0.8
# One in twelve tokens: about half of the rollouts stop in time.
STOPS = tuple(range(3, CONFIG.vocab, 12))


def prompt(name):
  """Its tokens and length hang on its name, one letter, alone."""
  rng = np.random.default_rng(ord(name))
  tokens = rng.integers(0, CONFIG.vocab, 1 + ord(name) % WINDOW)
  return types.Prompt(name, '', '', tokens.astype(np.int32))


def prompts(names):
  return [prompt(name) for name in names]


@functools.cache
def engine(
  stops=STOPS, count=4, groups=2, temperature=TEMPERATURE, mesh_sizes=None
):
  """On one device, or on a mesh of (data, fsdp, tensor)."""
  model, place, replicated = PLAIN, jnp.asarray, None
  if mesh_sizes:
    mesh = make_mesh(mesh_sizes)
    model = decoder.make_model(CONFIG, constrain=sharding.pin_rows(mesh))
    place = functools.partial(sharding.spread, sharding=sharding.rows(mesh))
    replicated = sharding.replicated(mesh)
  return engine_lib.make_engine(
    model,
    prompts=count,
    groups=groups,
    window=WINDOW,
    room=ROOM,
    sampling=sampling_lib.Sampling(temperature, 1.0, 0),
    stop_tokens=stops,
    pad_token=PAD,
    to_text=lambda tokens: ' '.join(map(str, tokens)),
    place=place,
    replicated=replicated,
  )


def make_mesh(sizes):
  return sharding.make_mesh(**dict(zip(sharding.AXES, sizes)))


def sample(names, params=PARAMS, seed=3, step=5, **kwargs):
  return engine(**kwargs).sample(params, prompts(names), seed=seed, step=step)[
    0
  ]


def flat(groups):
  return {(r.prompt_id, r.index): r for group in groups for r in group}


def assert_bitwise(got, want):
  assert set(got) == set(want)
  for name, rollout in want.items():
    np.testing.assert_array_equal(got[name].tokens, rollout.tokens)
    np.testing.assert_array_equal(got[name].logp, rollout.logp)
    assert got[name].stop == rollout.stop
    assert got[name].text == rollout.text


def teacher_forced_gaps(groups, params, dtype):
  """|logp - engine's logp| of every sampled token, over packed rows."""
  params = update.cast(jax.tree.map(jnp.asarray, params), dtype)
  trained = [
    [packing.Trained(prompt(r.prompt_id), r, 1.0, 1.0) for r in group]
    for group in groups
  ]
  (batch,) = packing.pack(trained, rows=8, columns=40, pad_token=PAD)

  @jax.jit
  def score(params):
    x_BTD = PLAIN.apply(
      params,
      batch.tokens_BT,
      batch.position_BT,
      batch.segment_BT,
      batch.prefix_BT,
    )
    return logprobs.token_logp(
      x_BTD, PLAIN.head(params), batch.target_BT, TEMPERATURE, 16
    )

  gap_BT = np.abs(np.asarray(score(params)) - batch.logp_old_BT)
  said_BT = batch.weight_BT > 0
  assert said_BT.sum() == sum(len(r.tokens) for g in groups for r in g)
  return gap_BT[said_BT]


def test_teacher_forced_logp_equals_the_engines_in_float32():
  gaps = teacher_forced_gaps(sample('abcd'), PARAMS, jnp.float32)
  # The promise is 1e-4; measured: 1.4e-6.
  assert gaps.max() < 5e-6


def test_teacher_forced_logp_equals_the_engines_in_bfloat16():
  # Logits as flat as a new head's: the gap grows with their spread.
  params = PARAMS | {'head': 0.3 * PARAMS['head']}
  narrow = update.cast(jax.tree.map(jnp.asarray, params), jnp.bfloat16)
  gaps = teacher_forced_gaps(sample('abcd', narrow), params, jnp.bfloat16)
  assert gaps.mean() < 5e-3
  # It must have been bfloat16 that was compared.
  assert gaps.max() > 1e-4


def test_order_and_neighbours_change_no_bit():
  want = flat(sample('abcd'))
  assert_bitwise(flat(sample('dcba')), want)
  other = flat(sample('bxya'))
  assert_bitwise(
    {k: v for k, v in other.items() if k[0] in 'ab'},
    {k: v for k, v in want.items() if k[0] in 'ab'},
  )


def test_a_short_batch_changes_no_bit():
  want = flat(sample('abcd'))
  got = sample('c')
  assert [len(group) for group in got] == [2]
  assert_bitwise(flat(got), {k: v for k, v in want.items() if k[0] == 'c'})


def test_the_size_of_batch_and_group_changes_no_token():
  want = flat(sample('abcd'))
  got = flat(sample('db', count=2, groups=4))
  for name in ('b', 'd'):
    for index in range(2):
      a, b = got[name, index], want[name, index]
      assert a.tokens.tolist() == b.tokens.tolist()
      np.testing.assert_allclose(a.logp, b.logp, rtol=0, atol=5e-6)


def test_a_prompt_that_stands_twice_goes_on_with_its_indices():
  first, _, again, _ = sample('abac')
  assert [r.index for r in first + again] == [0, 1, 2, 3]
  whole = flat(sample('ab', count=2, groups=4))
  for r in first + again:
    assert r.tokens.tolist() == whole['a', r.index].tokens.tolist()
  assert len({r.text for r in first + again}) == 4


def test_seed_step_and_prompt_each_change_the_rollouts():
  texts = [
    {r.text for group in groups for r in group}
    for groups in (
      sample('abcd', stops=()),
      sample('abcd', stops=(), step=6),
      sample('abcd', stops=(), seed=4),
      sample('abcd', stops=(), seed=5, step=3),
    )
  ]
  assert len(set.union(*texts)) == 4 * 8
  # The name is in the key, not the tokens.
  twin = types.Prompt('z', '', '', prompt('a').tokens)
  (group,), _ = engine(stops=()).sample(PARAMS, [twin], seed=3, step=5)
  assert {r.text for r in group}.isdisjoint(texts[0])


def assert_cut(got, free, stops):
  """`got` is what was sampled freely, up to its first stop token."""
  assert set(got) == set(free)
  for name, r in got.items():
    tokens = free[name].tokens
    found = np.flatnonzero(np.isin(tokens, stops))
    length = found[0] + 1 if len(found) else ROOM
    assert r.tokens.tolist() == tokens[:length].tolist()
    assert r.stop == ('stop' if len(found) else 'length')
    assert r.logp.shape == (length,)
    np.testing.assert_allclose(
      r.logp, free[name].logp[:length], rtol=0, atol=5e-6
    )
    assert r.text == ' '.join(map(str, r.tokens))


def test_stop_tokens_cut_what_is_sampled_without_them():
  got, free = flat(sample('abcd')), flat(sample('abcd', stops=()))
  assert {(len(r.tokens), r.stop) for r in free.values()} == {(ROOM, 'length')}
  assert_cut(got, free, STOPS)
  assert {r.stop for r in got.values()} == {'stop', 'length'}


def test_the_first_and_the_last_column_can_stop():
  free = flat(sample('abcd', stops=()))
  early, late = [(name, 0) for name in 'ab']
  # Each stands nowhere before in its own rollout.
  stops = (int(free[early].tokens[0]), int(free[late].tokens[-1]))
  assert not np.isin(free[late].tokens[:-1], stops).any()
  got = flat(sample('abcd', stops=stops))
  assert_cut(got, free, stops)
  assert (len(got[early].tokens), got[early].stop) == (1, 'stop')
  assert (len(got[late].tokens), got[late].stop) == (ROOM, 'stop')


def test_temperature_0_takes_the_likeliest_token():
  for (name, _), r in flat(sample('ab', temperature=0.0, stops=())).items():
    tokens = np.concatenate([prompt(name).tokens, r.tokens])
    logits = oracles.logits(CONFIG, PARAMS, tokens[:-1])[-ROOM:]
    assert r.tokens.tolist() == logits.argmax(-1).tolist()
    assert (r.logp == 0).all()


def test_logp_is_that_of_a_float64_decoder():
  for (name, _), r in flat(sample('abcd')).items():
    tokens = np.concatenate([prompt(name).tokens, r.tokens[:-1]])
    logits = oracles.logits(CONFIG, PARAMS, tokens)[-len(r.tokens) :]
    want = oracles.log_softmax(logits / TEMPERATURE)
    want = want[np.arange(len(r.tokens)), r.tokens]
    # Measured: 2e-6.
    np.testing.assert_allclose(r.logp, want, rtol=0, atol=5e-6)


def test_metrics_are_those_of_the_rollouts():
  groups, got = engine().sample(PARAMS, prompts('abc'), seed=3, step=5)
  every = list(flat(groups).values())
  lengths = [len(r.tokens) for r in every]
  assert got['response_tokens'] == sum(lengths)
  assert got['response_length'] == pytest.approx(np.mean(lengths), rel=1e-6)
  cut = np.mean([r.stop == 'length' for r in every])
  assert got['truncated_share'] == pytest.approx(cut, rel=1e-6)
  entropies = []
  for r in every:
    tokens = np.concatenate([prompt(r.prompt_id).tokens, r.tokens[:-1]])
    logits = oracles.logits(CONFIG, PARAMS, tokens)[-len(r.tokens) :]
    logp = oracles.log_softmax(logits / TEMPERATURE)
    entropies.extend(-np.sum(np.exp(logp) * logp, -1))
  assert got['entropy'] == pytest.approx(np.mean(entropies), rel=2e-6)


@pytest.mark.parametrize('sizes', [(2, 2, 1), (1, 1, 4)])
def test_a_mesh_samples_what_one_device_samples(sizes):
  # 4 heads and 2 kv heads: tensor=4 replicates the latter.
  shardings = sharding.param_shardings(
    PLAIN.specs, make_mesh(sizes), gathered=True
  )
  params = jax.tree.map(jax.device_put, PARAMS, shardings)
  got = flat(sample('abcd', params, mesh_sizes=sizes))
  want = flat(sample('abcd'))
  assert set(got) == set(want)
  for name, r in want.items():
    assert got[name].tokens.tolist() == r.tokens.tolist()
    # Measured: 2e-6.
    np.testing.assert_allclose(got[name].logp, r.logp, rtol=0, atol=1e-5)


def test_only_the_first_batch_compiles(caplog):
  with jax.log_compiles(), caplog.at_level(logging.WARNING):
    jax.jit(lambda x: x + 1)(0)
    assert 'Compiling' in caplog.text
    sample('abcd')
    programs = engine().run._cache_size()
    caplog.clear()
    sample('b', seed=17, step=1)
    sample('xyzz', seed=18, step=2)
  assert 'Compiling' not in caplog.text
  assert engine().run._cache_size() == programs


def test_padding_prompts_end_at_once():
  """Else a short batch would go on for all of `room` behind nobody's back."""
  greedy = dict(temperature=0.0, stops=())
  ((rollout, _),) = sample('a', **greedy)
  first = int(rollout.tokens[0])
  short = engine(temperature=0.0, stops=(first,))
  tokens_PS = np.full((4, WINDOW), PAD, np.int32)
  one = prompt('a').tokens
  tokens_PS[0, : len(one)] = one
  length_P = np.array([len(one), 0, 0, 0], np.int32)
  zeros = np.zeros(4, np.int32)
  out = short.run(
    PARAMS, zeros[:2], tokens_PS, length_P, zeros.astype(np.uint32), zeros
  )
  assert np.array_equal(out.length_B, [1, 1, 0, 0, 0, 0, 0, 0])
  # The loop never ran: no token was written behind the first.
  assert not np.asarray(out.tokens_BR[:, 1:]).any()
  # The same rows without padding go on: this test could fail.
  length_P[1:] = 1
  out = short.run(
    PARAMS, zeros[:2], tokens_PS, length_P, zeros.astype(np.uint32), zeros
  )
  assert np.asarray(out.tokens_BR[:, 1:]).any()
