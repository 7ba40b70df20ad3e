"""The trainer scores what the engine samples, wherever a rollout was.

Engines compile in seconds, so that those of one kind are shared.
"""

import dataclasses
import functools
import logging
import re

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from jax.sharding import AxisType

from acereason_jax import mesh as mesh_lib
from acereason_jax import partition, types
from acereason_jax.kernels import logprobs
from acereason_jax.models import base, decoder, sharding
from acereason_jax.rl import packing
from acereason_jax.rl import rows as rows_lib
from acereason_jax.rollout import cache as cache_lib
from acereason_jax.rollout import engine as engine_lib
from acereason_jax.rollout import engine_sizes, programs, requests, schedule
from acereason_jax.rollout import sampling as sampling_lib
from acereason_jax.rollout import trace as trace_lib
from acereason_jax.run import judged as judged_lib

WINDOW, ROOM = 24, 12
pytestmark = pytest.mark.usefixtures('users_fusions')
CONFIG = oracles.tiny_config()
PLAIN = decoder.make_model(CONFIG)
PARAMS = oracles.rough_params(PLAIN.specs)
# As an engine on one CPU is given them.
APART = base.apart(PARAMS)
TEMPERATURE = 0.8
# One in twelve tokens: about half of the rollouts stop in time.
STOPS = tuple(range(3, CONFIG.vocab, 12))
SIZES = engine_sizes.Sizes(
  slots=4,
  shards=1,
  page=4,
  chunk=2,
  pages=40,
  rows=2,
  piece=8,
  window=WINDOW,
  max_tokens=ROOM,
)


def prompt(name):
  """Its tokens and length depend only on its name, one letter.

  Capitals are long: of several pieces.
  """
  rng = np.random.default_rng(ord(name))
  length = 1 + ord(name) % 7 + (17 if name.isupper() else 0)
  tokens = rng.integers(1, CONFIG.vocab, length)
  return types.Prompt(name, '', '', tokens.astype(np.int32))


def prompts(names):
  return [prompt(name) for name in names]


def one_device():
  return sub_mesh((1, 1, 1), 0)


def sub_mesh(sizes, first):
  """A mesh of some of the devices."""
  devices = jax.devices()[first : first + int(np.prod(sizes))]
  return jax.make_mesh(
    (*sizes, 1), mesh_lib.AXES, devices=devices, axis_types=(AxisType.Auto,) * 4
  )


def to_text(tokens):
  return ' '.join(map(str, tokens))


def build(mesh, greedy=False, kv=jnp.float32, ending=None, **sizes):
  shards = mesh_lib.row_shards(mesh)
  model = decoder.make_model(CONFIG, **partition.pins(mesh))
  return engine_lib.make_engine(
    model,
    mesh,
    sizes=SIZES._replace(**dict(shards=shards, rows=max(2, shards)) | sizes),
    sampling=sampling_lib.Sampling(greedy=greedy),
    ending=ending or programs.Ending(STOPS),
    kv_dtype=kv,
    to_text=to_text,
  )


@functools.cache
def engine(stops=STOPS, **kwargs):
  """On one device."""
  ending = kwargs.pop('ending', programs.Ending(stops))
  return build(one_device(), ending=ending, **kwargs)


def sample(
  names,
  params=PARAMS,
  groups=2,
  seed=3,
  step=5,
  temperature=TEMPERATURE,
  trace=None,
  stacked=False,
  **kwargs,
):
  return engine(**kwargs).sample(
    params if stacked else base.apart(params),
    prompts(names),
    groups=groups,
    seed=seed,
    step=step,
    temperature=temperature,
    trace=trace,
  )


def flat(groups):
  return {(r.prompt_id, r.index): r for group in groups for r in group}


def assert_bitwise(got, want):
  assert set(got) == set(want)
  for name, rollout in want.items():
    for field in ('tokens', 'logp', 'full_logp'):
      x, y = (getattr(r, field) for r in (got[name], rollout))
      assert x.dtype == y.dtype
      np.testing.assert_array_equal(x, y)
    for field in ('stop', 'text', 'forced', 'detail'):
      assert getattr(got[name], field) == getattr(rollout, field)


def assert_close(got, want, atol=5e-6):
  """The same tokens, with logps as close as another order of sums leaves."""
  assert set(got) == set(want)
  for name, r in want.items():
    assert got[name].tokens.tolist() == r.tokens.tolist()
    assert got[name].stop == r.stop
    for field in ('logp', 'full_logp'):
      x, y = (getattr(r, field) for r in (got[name], r))
      np.testing.assert_allclose(x, y, rtol=0, atol=atol)


def only(rollouts, names):
  return {key: r for key, r in rollouts.items() if key[0] in names}


def teacher_forced_gaps(groups, params, dtype):
  """|logp - engine's logp| of every sampled token, over packed rows."""
  params = base.cast(jax.tree.map(jnp.asarray, params), dtype)
  trained = [
    [rows_lib.Trained(prompt(r.prompt_id), r, 1.0, 1.0) for r in group]
    for group in groups
  ]
  (packed,) = packing.pack(trained, rows=8, columns=48, pad_token=0)
  batch = packed.batch

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
    )[0]

  gap_BT = np.abs(np.asarray(score(params)) - batch.logp_old_BT)
  said_BT = batch.weight_BT > 0
  assert said_BT.sum() == sum(len(r.tokens) for g in groups for r in g)
  return gap_BT[said_BT]


def oracle_logits(rollout):
  """float64 logits that each token of a rollout was drawn from, [R, V]."""
  tokens = [*prompt(rollout.prompt_id).tokens, *rollout.tokens[:-1]]
  logits = oracles.logits(CONFIG, PARAMS, np.array(tokens))
  return logits[-len(rollout.tokens) :]


def oracle_logp(rollout, temperature):
  logp = oracles.log_softmax(oracle_logits(rollout) / temperature)
  return logp[np.arange(len(rollout.tokens)), rollout.tokens]


def test_teacher_forced_logp_equals_the_engines_in_float32():
  gaps = teacher_forced_gaps(sample('abAB'), PARAMS, jnp.float32)
  # The promise is 1e-4; measured: 1.4e-6.
  assert gaps.max() < 5e-6


def test_teacher_forced_logp_equals_the_engines_in_bfloat16():
  # Logits as flat as a new head's: the gap grows with their spread.
  params = PARAMS | {'head': 0.3 * PARAMS['head']}
  narrow = base.cast(jax.tree.map(jnp.asarray, params), jnp.bfloat16)
  groups = sample('abAB', narrow, kv=jnp.bfloat16)
  gaps = teacher_forced_gaps(groups, params, jnp.bfloat16)
  assert gaps.mean() < 5e-3
  # It must have been bfloat16 that was compared.
  assert gaps.max() > 1e-4


def test_logp_is_that_of_a_float64_decoder():
  """Prompts of one token to 24: up to three pieces, six pages."""
  groups = sample('abcdbABCE', groups=1)
  lengths = {len(prompt(r.prompt_id).tokens) for (r,) in groups}
  assert {1, 22, 24} <= lengths
  for r in flat(groups).values():
    # Measured: 2e-6.
    for logp, temperature in ((r.logp, TEMPERATURE), (r.full_logp, 1.0)):
      want = oracle_logp(r, temperature)
      np.testing.assert_allclose(logp, want, rtol=0, atol=5e-6)


def test_each_token_is_drawn_with_a_key_of_its_own():
  """A key depends on name, index and place; all 32 bits of a seed count."""
  names = 'abcdABCD'
  assert max(map(sampling_lib.prompt_seed, names)) >= 2**31
  draw = jax.jit(sampling_lib.draw, static_argnums=2)
  for (name, index), r in flat(sample(names)).items():
    row = np.array([sampling_lib.prompt_seed(name)], np.uint32)
    (key,) = sampling_lib.rollout_keys(3, 5, row, np.array([index]))
    places = np.arange(ROOM)
    keys = jax.vmap(functools.partial(jax.random.fold_in, key))(places)
    logits = np.zeros((ROOM, CONFIG.vocab), np.float32)
    logits[: len(r.tokens)] = oracle_logits(r)
    want = draw(keys, logits, sampling_lib.Sampling(), TEMPERATURE).token_B
    assert r.tokens.tolist() == want[: len(r.tokens)].tolist()


def test_order_and_neighbours_change_no_bit():
  want = flat(sample('abcdAB'))
  assert_bitwise(flat(sample('BAdcba')), want)
  other = flat(sample('bxyAza'))
  assert_bitwise(only(other, 'abA'), only(want, 'abA'))


def test_a_short_batch_changes_no_bit():
  want = flat(sample('abcdAB'))
  for name in 'cB':
    got = sample(name)
    assert [len(group) for group in got] == [2]
    assert_bitwise(flat(got), only(want, name))


def test_the_size_of_a_group_changes_no_bit():
  whole = flat(sample('Bd', groups=7))
  want = flat(sample('abcdAB'))
  got = {key: r for key, r in whole.items() if key[1] < 2}
  assert_bitwise(got, only(want, 'Bd'))
  assert len({r.text for r in whole.values()}) > 10


def test_layers_apart_sample_what_stacked_ones_do():
  """Prompts of one piece and of several."""
  got, want = (
    flat(sample('abcdAB', groups=3, stacked=stacked))
    for stacked in (False, True)
  )
  assert_close(got, want)


@pytest.mark.parametrize(
  'sizes',
  [
    dict(slots=1),
    dict(slots=7, rows=3),
    dict(page=8, chunk=8),
    dict(page=3, chunk=1, piece=3),
    dict(page=12, chunk=4, piece=24),
  ],
  ids=str,
)
def test_sizes_change_no_token(sizes):
  assert_close(flat(sample('abcAB', **sizes)), flat(sample('abcAB')))


def test_no_deal_changes_a_bit():
  """On four shards, few slots and few pages, by what is expected of each."""
  fours = build(sub_mesh((2, 2, 1), 0), pages=14, slots=8)
  asked = requests.for_prompts(prompts('abcAB'), 4, ROOM)
  asked = [r for group in asked for r in group]
  random, deals = np.random.default_rng(0), set()
  found = []
  for _ in range(3):
    guesses = random.uniform(0, ROOM, len(asked))
    order = random.permutation(len(asked))
    trace = trace_lib.Trace()
    drawn = fours.stream(
      PARAMS,
      [asked[i]._replace(expected=guesses[i]) for i in order],
      seed=3,
      step=5,
      temperature=TEMPERATURE,
      trace=trace,
    )
    found.append({r.key: r for r in drawn})
    deals.add(tuple(sorted(e[:3] for e in trace.events)))
  assert len(deals) == 3
  for other in found[1:]:
    assert_bitwise(other, found[0])
  # As one device draws them.
  assert_close(found[0], flat(sample('abcAB', groups=4)))


@pytest.mark.parametrize('spare', [0, 1, 3])
def test_preemption_changes_no_bit(spare):
  names, groups = 'abAB', 3
  want = flat(sample(names, groups=groups, stops=()))
  pages = SIZES.table + 1 + spare
  whole = engine(stops=())
  if spare:
    # The same programs, of whose pool a part is used.
    tight = dataclasses.replace(whole, sizes=SIZES._replace(pages=pages))
  else:
    tight = engine(stops=(), pages=pages)
  trace = trace_lib.Trace()
  got = tight.sample(
    APART,
    prompts(names),
    groups=groups,
    seed=3,
    step=5,
    temperature=TEMPERATURE,
    trace=trace,
  )
  assert trace.preempted > 0
  assert_bitwise(flat(got), want)


def test_a_prompt_that_stands_twice_goes_on_with_its_indices():
  first, _, again, _ = sample('abac')
  assert [r.index for r in first + again] == [0, 1, 2, 3]
  whole = flat(sample('ab', groups=4))
  assert_bitwise(flat([first, again]), only(whole, 'a'))
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
  (group,) = engine(stops=()).sample(
    APART, [twin], groups=2, seed=3, step=5, temperature=TEMPERATURE
  )
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
    for field in ('logp', 'full_logp'):
      x, y = (getattr(r, field) for r in (r, free[name]))
      assert x.shape == (length,)
      np.testing.assert_allclose(x, y[:length], rtol=0, atol=5e-6)
    assert r.text == to_text(r.tokens)
    assert r.detail == ''


def test_stop_tokens_cut_what_is_sampled_without_them():
  got, free = flat(sample('abcdAB')), flat(sample('abcdAB', stops=()))
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
  for r in flat(sample('abA', temperature=0.0, greedy=True, stops=())).values():
    assert r.tokens.tolist() == oracle_logits(r).argmax(-1).tolist()
    assert (r.logp == 0).all()
    want = oracle_logp(r, 1.0)
    np.testing.assert_allclose(r.full_logp, want, rtol=0, atol=5e-6)


def test_another_temperature_is_another_policy():
  for temperature in (0.4, 1.3):
    rollouts = flat(sample('abAB', temperature=temperature))
    for r in rollouts.values():
      for logp, t in ((r.logp, temperature), (r.full_logp, 1.0)):
        np.testing.assert_allclose(logp, oracle_logp(r, t), rtol=0, atol=1e-5)
    other = flat(sample('abAB'))
    assert any(r.text != other[key].text for key, r in rollouts.items())


@pytest.mark.parametrize(
  'greedy, temperature, match',
  [
    (False, 0.0, 'temperature=0.0: give more than 0'),
    (False, -1.0, 'temperature=-1.0: give more than 0'),
    (False, float('nan'), 'temperature=nan: give more than 0'),
    (False, float('inf'), 'temperature=inf: give more than 0'),
    # float32 makes 0 of it.
    (False, 1e-60, 'temperature=1e-60: give more than 0'),
    (True, 0.5, 'temperature=0.5: this engine is greedy; give 0'),
  ],
)
def test_a_temperature_of_another_engine_is_one_line(
  greedy, temperature, match
):
  with pytest.raises(ValueError, match=match) as e:
    sample('a', greedy=greedy, temperature=temperature)
  assert '\n' not in str(e.value)


def test_the_trace_is_that_of_the_rollouts():
  trace = trace_lib.Trace()
  groups = sample('abcA', groups=3, trace=trace)
  every = list(flat(groups).values())
  judged = [types.Group(prompt('a'), group, ()) for group in groups]
  got = trace.metrics() | judged_lib.response_metrics(judged)
  lengths = [len(r.tokens) for r in every]
  assert got['response_tokens'] == sum(lengths)
  assert got['response_length'] == pytest.approx(np.mean(lengths), rel=1e-6)
  cut = np.mean([r.stop == 'length' for r in every])
  assert got['truncated_share'] == pytest.approx(cut, rel=1e-6)
  assert got['decoded_tokens'] == got['response_tokens']
  entropies = []
  for r in every:
    logp = oracles.log_softmax(oracle_logits(r) / TEMPERATURE)
    entropy = -np.sum(np.exp(logp) * logp, -1)
    assert r.entropy == pytest.approx(entropy.sum(), rel=2e-6)
    entropies.extend(entropy)
  assert got['entropy'] == pytest.approx(np.mean(entropies), rel=2e-6)
  assert trace.prompt_tokens == sum(len(prompt(n).tokens) - 1 for n in 'abcA')
  stays = {(e.prompt_id, e.index): e for e in trace.events}
  for r in every:
    event = stays[r.prompt_id, r.index]
    assert event.ended - event.began == len(r.tokens)
    assert event.reason == r.stop
  assert 0 < got['occupancy'] <= got['occupancy_waiting'] <= 1
  for share in ('prefill_share', 'host_share', 'page_use'):
    assert 0 < got[share] < 1


@functools.cache
def on_mesh(sizes):
  mesh = mesh_lib.make_mesh(**dict(zip(mesh_lib.AXES, sizes)))
  return build(mesh), placed(mesh)


def placed(mesh):
  shardings = sharding.param_shardings(PLAIN.specs, mesh, gathered=True)
  return jax.tree.map(jax.device_put, PARAMS, shardings)


# tensor=4 repeats each of 2 kv heads.
@pytest.mark.parametrize('sizes', [(2, 2, 1), (1, 1, 4), (2, 1, 2)])
def test_a_mesh_samples_what_one_device_samples(sizes):
  mesh_engine, params = on_mesh(sizes)
  got = mesh_engine.sample(
    params, prompts('abcAB'), groups=2, seed=3, step=5, temperature=TEMPERATURE
  )
  # Measured: 2e-6.
  assert_close(flat(got), flat(sample('abcAB')), 1e-5)


def test_logits_stay_sharded_over_the_vocabulary():
  """No collective of one decode step has as many numbers as the logits."""
  mesh_engine, params = on_mesh((1, 1, 4))
  asked = requests.for_prompts(prompts('a'), 1, ROOM)[0]
  plan = schedule.Schedule(mesh_engine.sizes, asked, trace_lib.Trace())
  plan.admit(sampling_lib.prompt_seed)
  control = mesh_engine.rows(*plan.control())
  text = mesh_engine.decode.lower(
    params,
    mesh_engine.empty_pool(),
    np.zeros(2, np.int32),
    np.float32(1.0),
    *control,
  )
  found = collectives(text.compile().as_text())
  assert any(kind == 'all-reduce' for kind, _ in found)
  logits = SIZES.slots * CONFIG.vocab
  assert not [x for x in found if x[1] >= logits]


def collectives(text):
  """(kind, numbers in its largest result) of each collective in HLO text."""
  kinds = 'all-gather|all-reduce|all-to-all|collective-permute'
  found = re.findall(rf'= (.*?) ({kinds})(?:-start)?\(', text)
  counts = []
  for shapes, kind in found:
    dims = re.findall(r'\w+\[([\d,]*)\]', shapes)
    sizes = [np.prod([int(n) for n in d.split(',') if n]) for d in dims]
    counts.append((kind, int(max(sizes))))
  return counts


def test_two_engines_on_parts_of_the_devices_sample_the_same():
  want = flat(sample('abAB'))
  streams = []
  for first in (0, 2):
    mesh = sub_mesh((1, 1, 2), first)
    half = build(mesh)
    asked = [
      r for g in requests.for_prompts(prompts('abAB'), 2, ROOM) for r in g
    ]
    stream = half.stream(
      placed(mesh), asked, seed=3, step=5, temperature=TEMPERATURE
    )
    streams.append((stream, {}))
  # By turns: each keeps its own place.
  for _ in range(len(want)):
    for stream, got in streams:
      r = next(stream)
      got[r.prompt_id, r.index] = r
  (_, first), (_, second) = streams
  assert_bitwise(first, second)
  assert_close(first, want, 1e-5)


def test_only_the_first_batch_compiles(caplog):
  programs = lambda: [
    getattr(engine(), name)._cache_size()
    for name in ('decode', 'prefill', 'empty_pool')
  ]
  with jax.log_compiles(), caplog.at_level(logging.WARNING):
    jax.jit(lambda x: x + 1)(0)
    assert 'Compiling' in caplog.text
    sample('abcA')
    before = programs()
    caplog.clear()
    sample('b', seed=17, step=1)
    sample('xyzzAAB', groups=5, seed=18, step=2)
    sample('b', temperature=1.3)
    sample('b', temperature=np.float64(0.5))
  assert 'Compiling' not in caplog.text
  assert programs() == before


def test_rollouts_come_while_others_still_wait():
  trace = trace_lib.Trace()
  asked = [r for g in requests.for_prompts(prompts('abcA'), 5, ROOM) for r in g]
  stream = engine().stream(
    APART, asked, seed=3, step=5, temperature=TEMPERATURE, trace=trace
  )
  first = next(stream)
  assert 0 < trace.finished <= SIZES.slots
  came = [first, *stream]
  assert trace.finished == len(came) == 20
  assert_bitwise(flat([came]), flat(sample('abcA', groups=5)))
  # A stream that is left holds nothing.
  stream = engine().stream(
    APART, asked, seed=3, step=5, temperature=TEMPERATURE
  )
  assert next(stream).text == first.text
  stream.close()
  assert_bitwise(flat(sample('abcA', groups=5)), flat([came]))


def test_each_request_has_a_limit_of_its_own():
  free = flat(sample('abA', stops=()))
  asked = [
    requests.Request(prompt(n), 0, limit)
    for n, limit in (('a', 1), ('b', 5), ('A', ROOM))
  ]
  for r in engine(stops=()).stream(
    APART, asked, seed=3, step=5, temperature=TEMPERATURE
  ):
    (limit,) = (x.limit for x in asked if x.prompt.id == r.prompt_id)
    want = free[r.prompt_id, 0]
    assert r.stop == 'length'
    assert r.tokens.tolist() == want.tokens[:limit].tolist()
    np.testing.assert_array_equal(r.logp, want.logp[:limit])


def tokens_prompt(name, tokens):
  return types.Prompt(name, '', '', np.array(tokens, np.int32))


@pytest.mark.parametrize(
  'tokens, limit, said',
  [
    ([], ROOM, 'the prompt is empty'),
    ([5] * (WINDOW + 1), ROOM, 'a prompt of 25 tokens; at most 24 fit'),
    ([5, 96], ROOM, 'token 96 is outside the vocabulary of 96'),
    ([-1, 5], ROOM, 'token -1 is outside the vocabulary of 96'),
    ([5], 0, 'limit 0: give 1 to 12 tokens'),
    ([5], ROOM + 1, 'limit 13: give 1 to 12 tokens'),
  ],
)
def test_a_bad_request_is_an_error_and_changes_no_bit(tokens, limit, said):
  good = [r for g in requests.for_prompts(prompts('abA'), 2, ROOM) for r in g]
  bad = requests.Request(tokens_prompt('bad', tokens), 0, limit)
  trace = trace_lib.Trace()
  asked = [*good[:3], bad, *good[3:]]
  came = list(
    engine().stream(
      APART, asked, seed=3, step=5, temperature=TEMPERATURE, trace=trace
    )
  )
  rollouts = flat([came])
  r = rollouts.pop(('bad', 0))
  assert (r.stop, r.detail, r.text, len(r.tokens)) == ('error', said, '', 0)
  assert (r.tokens.dtype, r.logp.dtype) == (np.int32, np.float32)
  assert trace.errors == 1
  assert_bitwise(rollouts, flat(sample('abA')))


def test_only_bad_requests_need_no_device():
  bad = [tokens_prompt('x', []), tokens_prompt('y', [99])]
  groups = engine().sample(
    None, bad, groups=2, seed=0, step=0, temperature=TEMPERATURE
  )
  assert [[r.stop for r in group] for group in groups] == [['error'] * 2] * 2
  assert (
    engine().sample(None, [], groups=2, seed=0, step=0, temperature=TEMPERATURE)
    == []
  )


def poisoned():
  """Parameters in which only token 95 gives NaN, and prompts without it."""
  embed = PARAMS['embed'].copy()
  embed[95] = np.nan
  names = [n for n in 'abcdABCDEF' if 95 not in prompt(n).tokens]
  clean = flat(sample(names))
  return PARAMS | {'embed': embed}, [
    n
    for n in names
    if not any(95 in r.tokens[:-1] for r in only(clean, n).values())
  ]


@pytest.mark.parametrize('place', [0, 9, 19])
def test_logits_that_are_not_finite_end_their_own_rollouts(place):
  """The bad token first, inside or last: nothing else changes a bit."""
  params, names = poisoned()
  assert len(names) >= 4
  tokens = prompt('A').tokens.copy()[:20]
  tokens[place] = 95
  bad = tokens_prompt('bad', tokens)
  trace = trace_lib.Trace()
  asked = [*prompts(names[:2]), bad, *prompts(names[2:])]
  got = flat(
    engine().sample(
      base.apart(params),
      asked,
      groups=2,
      seed=3,
      step=5,
      temperature=TEMPERATURE,
      trace=trace,
    )
  )
  for index in range(2):
    r = got.pop(('bad', index))
    assert (r.stop, len(r.tokens), r.text) == ('error', 0, '')
    assert r.detail == 'the logits were not finite'
  assert trace.errors == 2
  assert_bitwise(got, flat(sample(names)))


def test_what_pads_a_piece_of_a_prompt_poisons_nobody():
  """Token 0 could pad: NaN times a causal weight of 0 is NaN."""
  names = [n for n in 'abcdABCDEF' if 0 not in prompt(n).tokens]
  clean = flat(sample(names))
  names = [
    n for n in names if not any(0 in r.tokens for r in only(clean, n).values())
  ]
  assert len(names) >= 2
  embed = PARAMS['embed'].copy()
  embed[0] = np.nan
  got = flat(sample(names, PARAMS | {'embed': embed}))
  assert_bitwise(got, {k: r for k, r in clean.items() if k[0] in names})


def test_an_error_on_the_way_keeps_the_tokens_before_it():
  """A rollout draws the bad token itself: sound up to there."""
  free = flat(sample('abcdAB', stops=()))
  embed = PARAMS['embed'].copy()
  bad = int(free['a', 0].tokens[4])
  assert not any(bad in prompt(n).tokens for n in 'abcdAB')
  embed[bad] = np.nan
  got = flat(sample('abcdAB', PARAMS | {'embed': embed}, stops=()))
  assert got['a', 0].stop == 'error'
  for key, r in got.items():
    tokens = free[key].tokens
    found = np.flatnonzero(tokens[:-1] == bad)
    length = found[0] + 1 if len(found) else ROOM
    assert r.stop == ('error' if len(found) else 'length')
    assert r.tokens.tolist() == tokens[:length].tolist()
    np.testing.assert_array_equal(r.logp, free[key].logp[:length])


def with_strings(*strings):
  """Stop strings are the host's matter: the compiled programs are shared."""
  free = engine(stops=())
  return dataclasses.replace(
    free, ending=free.ending._replace(strings=strings), to_text=spelt
  )


def spelt(tokens):
  """Two letters a token, without anything between."""
  return ''.join(chr(97 + t // 10) + chr(107 + t % 10) for t in tokens)


@pytest.mark.parametrize('first', [0, 3, 4, 5, ROOM - 2])
@pytest.mark.parametrize('parts', [(0, 2), (0, 4), (1, 3), (2, 3)])
def test_stop_strings_cut_at_the_token_that_completes_them(first, parts):
  """In one token and over two, also where these are of two calls."""
  free = flat(sample('abcdAB', stops=()))
  tokens = free['A', 1].tokens
  string = spelt(tokens[first : first + 2])[slice(*parts)]
  got = flat(
    with_strings('never', string).sample(
      APART,
      prompts('abcdAB'),
      groups=2,
      seed=3,
      step=5,
      temperature=TEMPERATURE,
    )
  )
  assert got['A', 1].stop == 'stop'
  for key, r in got.items():
    tokens = free[key].tokens
    has = [string in spelt(tokens[: n + 1]) for n in range(ROOM)]
    length = has.index(True) + 1 if any(has) else ROOM
    assert r.tokens.tolist() == tokens[:length].tolist()
    assert r.text == spelt(tokens[:length])
    assert r.stop == ('stop' if any(has) else 'length')
    np.testing.assert_array_equal(r.logp, free[key].logp[:length])
    np.testing.assert_array_equal(r.full_logp, free[key].full_logp[:length])


def test_a_stop_string_that_never_comes_ends_by_length():
  got = with_strings('zzz').sample(
    APART, prompts('abA'), groups=2, seed=3, step=5, temperature=TEMPERATURE
  )
  free = flat(sample('abA', stops=()))
  for key, r in flat(got).items():
    assert r.stop == 'length'
    assert r.tokens.tolist() == free[key].tokens.tolist()


def thinking(budget=5):
  """The closing token is the third that ('a', 0) draws; and the forced end."""
  free = flat(sample('abcdAB', stops=()))
  close = int(free['a', 0].tokens[2])
  forced = (7, 9, close)
  ending = programs.Ending((), (), budget, close, forced)
  return free, ending


def test_thinking_past_its_budget_is_closed():
  free, ending = thinking()
  budget, over = ending.budget, ending.budget + len(ending.forced)
  got = flat(sample('abcdAB', ending=ending))
  closed = {k for k, r in free.items() if ending.close in r.tokens[:budget]}
  assert ('a', 0) in closed
  assert len(closed) < len(free)
  for key in closed:
    r = got[key]
    assert r.forced[0] == r.forced[1]
    assert r.tokens.tolist() == free[key].tokens.tolist()
    np.testing.assert_allclose(r.logp, free[key].logp, rtol=0, atol=5e-6)
  for key in free.keys() - closed:
    r = got[key]
    assert r.forced == (budget, over)
    assert r.tokens[:budget].tolist() == free[key].tokens[:budget].tolist()
    assert r.tokens[budget:over].tolist() == [*ending.forced]
    assert len(r.tokens) == ROOM
    # Sampled again from there on, after what was put in.
    for logp, temperature in ((r.logp, TEMPERATURE), (r.full_logp, 1.0)):
      want = oracle_logp(r, temperature)
      want[budget:over] = 0
      assert not logp[budget:over].any()
      np.testing.assert_allclose(logp, want, rtol=0, atol=5e-6)
  ends = {tuple(r.tokens[over:].tolist()) for r in got.values()}
  assert len(ends) == len(got)


def test_the_end_of_thinking_is_cut_where_the_rollout_ends():
  _, ending = thinking()
  asked = [requests.Request(prompt('b'), 0, limit) for limit in (3, 5, 6, 12)]
  asked = [r._replace(index=i) for i, r in enumerate(asked)]
  came = engine(ending=ending).stream(
    APART, asked, seed=3, step=5, temperature=TEMPERATURE
  )
  for r in came:
    limit = asked[r.index].limit
    assert len(r.tokens) == limit
    assert r.forced == (min(limit, 5), min(limit, 8))


def test_preemption_amid_the_end_of_thinking_changes_no_bit():
  _, ending = thinking()
  want = flat(sample('abcdAB', ending=ending))
  tight = dataclasses.replace(
    engine(ending=ending), sizes=SIZES._replace(pages=SIZES.table + 2)
  )
  trace = trace_lib.Trace()
  got = tight.sample(
    APART,
    prompts('abcdAB'),
    groups=2,
    seed=3,
    step=5,
    temperature=TEMPERATURE,
    trace=trace,
  )
  assert trace.preempted > 0
  assert_bitwise(flat(got), want)


def test_a_cache_of_float8_is_near_and_not_the_same():
  gaps = []
  for r in flat(sample('abcdAB', stops=(), kv=jnp.float8_e4m3fn)).values():
    assert np.isfinite(r.logp).all()
    gaps.extend(np.abs(r.logp - oracle_logp(r, TEMPERATURE)))
  assert 1e-4 < np.mean(gaps) < 0.1


def test_numbers_beyond_float8_become_its_largest():
  x = jnp.array([1.0, 460.0, 470.0, -1e9, jnp.nan, jnp.inf])
  got = np.asarray(cache_lib.narrow(x, jnp.float8_e4m3fn).astype(jnp.float32))
  assert got[:4].tolist() == [1.0, 448.0, 448.0, -448.0]
  assert not np.isfinite(got[4:]).any()


def test_every_process_has_the_pages_of_the_one_with_least(monkeypatch):
  """Else their schedules would part, and one wait for ever."""
  devices = jax.local_devices()
  alone = mesh_lib.device_memory(devices)
  monkeypatch.setattr(jax, 'process_count', lambda: 2)
  monkeypatch.setattr(
    mesh_lib.multihost_utils,
    'process_allgather',
    lambda x: np.array([x, x // 2]),
  )
  assert mesh_lib.device_memory(devices) == alone // 2 >> 20 << 20


@pytest.mark.parametrize(
  'changes, said',
  [
    (dict(shards=2), 'shards=2: the mesh has 1'),
    (dict(pages=3), 'pages=3 on each of 1 shards'),
    (dict(chunk=3), 'page=4: give a multiple of chunk, 3'),
    (
      dict(ending=programs.Ending((), ('ok', ''))),
      'a stop string is empty: it would end every rollout',
    ),
    (
      dict(ending=programs.Ending((), budget=5, close=3)),
      'a thinking budget of 5 tokens needs the tokens to end it',
    ),
  ],
)
def test_an_engine_that_cannot_work_is_refused(changes, said):
  with pytest.raises(ValueError, match=re.escape(said)) as e:
    build(one_device(), **changes)
  assert '\n' not in str(e.value)


@pytest.mark.parametrize('heads, kv_heads', [(6, 2), (12, 6)])
def test_heads_that_the_tensor_axis_does_not_fit_are_refused(heads, kv_heads):
  mesh = mesh_lib.make_mesh(data=1, fsdp=1, tensor=4)
  c = oracles.tiny_config(heads=heads, kv_heads=kv_heads)
  said = rf'config\.mesh\.tensor=4: the model has {heads} query and {kv_heads}'
  with pytest.raises(ValueError, match=said):
    cache_lib.make_cache(decoder.make_model(c), mesh)


def test_pieces_are_written_in_place_and_to_their_pages():
  rng = np.random.default_rng(0)
  pool = rng.normal(size=(2, 5, 3, 2, 4, 8)).astype(np.float32)
  kv = rng.normal(size=(2, 3, 3, 2, 2, 8)).astype(np.float32)
  pages, offsets = np.array([4, 1, 1]), np.array([0, 2, 0])
  want = pool.copy()
  for w in range(3):
    at = np.s_[:, pages[w], :, :, offsets[w] : offsets[w] + 2]
    want[at] = kv[:, w]
  got = jax.jit(cache_lib.write)(pool, kv, pages, offsets)
  np.testing.assert_array_equal(got, want)


def test_dropped_requests_leave_the_others_their_bits():
  asked = requests.for_prompts(prompts('abcdefgh'), 3, ROOM)
  flat_requests = [request for group in asked for request in group]

  def drawn(**kwargs):
    stream = engine().stream(
      APART, flat_requests, seed=3, step=5, temperature=TEMPERATURE, **kwargs
    )
    return {rollout.key: rollout for rollout in stream}

  every, some = drawn(), drawn(unwanted=lambda: {'c', 'h'})
  gone = every.keys() - some.keys()
  assert {name for name, _ in gone} == {'c', 'h'}
  assert_bitwise(some, {key: every[key] for key in some})
