"""Drafts change the number of steps, and no token of a rollout."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
import test_engine as plain

from acereason_jax import mesh as mesh_lib
from acereason_jax import types
from acereason_jax.models import base, decoder
from acereason_jax.rollout import engine as engine_lib
from acereason_jax.rollout import (
  engine_sizes,
  programs,
  requests,
  schedule,
  tail,
  verify,
)
from acereason_jax.rollout import sampling as sampling_lib
from acereason_jax.rollout import trace as trace_lib

pytestmark = pytest.mark.usefixtures('users_fusions')
ROOM = 40
# Eight slots for two rollouts: four tokens a step of each.
SIZES = dict(
  slots=8, page=16, chunk=8, pages=60, piece=16, max_tokens=ROOM, speculate=3
)
COLD = 0.3


def run(engine, names, params=plain.APART, groups=1, temperature=COLD, **asked):
  trace = trace_lib.Trace()
  found = engine.sample(
    params,
    plain.prompts(names),
    groups=groups,
    seed=3,
    step=5,
    temperature=temperature,
    trace=trace,
  )
  return plain.flat(found), trace


@pytest.fixture
def never(monkeypatch):
  """A function that runs an engine without drafts: the same program."""

  def without(*args, **kwargs):
    with monkeypatch.context() as patch:
      patch.setattr(tail, 'groups', lambda plan: None)
      return run(*args, **kwargs)

  return without


def assert_same(engine, never, *args, **kwargs):
  """With drafts and without: equal bits. Returns the rollouts and the trace."""
  want, slow = never(engine, *args, **kwargs)
  got, trace = run(engine, *args, **kwargs)
  plain.assert_bitwise(got, want)
  assert [r.entropy for r in got.values()] == [want[key].entropy for key in got]
  assert slow.saved_steps == 0 <= trace.saved_steps
  return got, trace


def test_drafts_follow_the_latest_of_the_longest_matches():
  rng = np.random.default_rng(0)
  length, count = 24, 5
  text = rng.integers(0, 3, (200, length)).astype(np.int32)
  end = rng.integers(0, length, 200).astype(np.int32)
  begin = rng.integers(0, length, 200)
  for row, last in enumerate(end):
    text[row, : min(begin[row], last)] = tail.NOTHING
  found = np.asarray(jax.jit(verify.drafts, static_argnums=2)(text, end, count))
  for row, last in enumerate(end):
    known = [t for t in text[row, : last + 1].tolist() if t != tail.NOTHING]
    assert found[row].tolist() == oracle_drafts(known, count)


def oracle_drafts(known, count):
  """By strings: most of the last tokens in common, then the latest."""
  for n in range(verify.MATCHED, 0, -1):
    suffix = known[len(known) - n :]
    for at in range(len(known) - n - 1, -1, -1):
      if len(suffix) == n and known[at : at + n] == suffix:
        out = list(known)
        for i in range(count):
          out.append(out[at + n + i])
        return out[len(known) :]
  return [known[-1]] * count


def test_drafts_of_stacked_layers_change_no_token(never):
  """With jax 0.12 a logp may differ in its last bit."""
  engine = plain.engine(stops=(), **SIZES)
  for names in ('a', 'b', 'A', 'aA'):
    want, _ = never(engine, names, plain.PARAMS)
    got, trace = run(engine, names, plain.PARAMS)
    plain.assert_close(got, want)
    assert trace.saved_steps > 0


def test_drafts_change_no_bit(never):
  """Also of prompts of one token ('b'), and of several pieces ('A')."""
  engine, params = plain.engine(stops=(), **SIZES), plain.APART
  for temperature in (COLD, plain.TEMPERATURE):
    names = 'abA'
    for name in names:
      got, trace = assert_same(
        engine, never, name, params, temperature=temperature
      )
    if temperature == COLD:
      assert trace.saved_steps > 0
    both, _ = assert_same(engine, never, 'aA', params, temperature=temperature)
    assert_bits_of = plain.only(both, 'A')
    plain.assert_bitwise(plain.only(got, 'A'), assert_bits_of)
    # More rollouts than groups: drafts begin when two are left.
    many, _ = assert_same(
      engine, never, names, params, groups=4, temperature=temperature
    )
    plain.assert_bitwise({('A', 0): many['A', 0]}, assert_bits_of)
    # And the tokens are those of an engine that drafts nothing.
    kwargs = SIZES | dict(speculate=0)
    want, _ = run(
      plain.engine(stops=(), **kwargs),
      names,
      params,
      groups=4,
      temperature=temperature,
    )
    plain.assert_close(many, want)


def answers(patch, rollout, junk=None):
  """Makes `verify.drafts` the rollout's own tokens, so that all are right.

  `junk` is a token to draft instead of every third.
  """
  length = len(plain.prompt(rollout.prompt_id).tokens)
  tokens = np.concatenate([rollout.tokens, np.zeros(9, np.int32)])

  def drafts(text_RS, end_R, count):
    before = jnp.arange(text_RS.shape[1]) <= end_R[:, None]
    drawn_R = jnp.sum((text_RS >= 0) & before, axis=1) - length
    place = jnp.clip(drawn_R[:, None] + jnp.arange(count), 0, len(tokens) - 1)
    draft = jnp.array(tokens)[place]
    return draft if junk is None else jnp.where(place % 3 == 2, junk, draft)

  patch.setattr(verify, 'drafts', drafts)


def fresh(ending=None, greedy=False, **sizes):
  """An engine that is not shared: it compiles what is patched."""
  return plain.build(
    plain.one_device(),
    ending=ending or programs.Ending(()),
    greedy=greedy,
    **SIZES | sizes,
  )


def calls(engine, rollout):
  """Steps of a rollout alone whose drafts are all right."""
  chunk, width = engine.sizes.chunk, engine.sizes.speculate + 1
  parts = range(0, len(rollout.tokens), chunk)
  counts = (min(chunk, len(rollout.tokens) - first) for first in parts)
  return sum(-(-count // width) for count in counts)


def test_right_drafts_are_all_taken(monkeypatch, never):
  free, _ = never(plain.engine(stops=(), **SIZES), 'a', temperature=1.0)
  rollout = free['a', 0]
  with monkeypatch.context() as patch:
    answers(patch, rollout)
    engine = fresh()
    got, trace = run(engine, 'a', temperature=1.0)
    plain.assert_bitwise(got, free)
    assert trace.steps == calls(engine, rollout) == ROOM // 4
    assert trace.saved_steps == ROOM - ROOM // 4
    (event,) = trace.events
    assert (event.began, event.ended) == (0, ROOM // 4)
    assert trace.busy == ROOM
    # Each step had three rows for drafts.
    assert trace.draft_steps == 3 * (ROOM // 4)


def test_a_stop_among_drafts_ends_the_rollout(monkeypatch, never):
  free, _ = never(plain.engine(stops=(), **SIZES), 'a', temperature=1.0)
  tokens = free['a', 0].tokens
  new = [i for i, t in enumerate(tokens) if t not in tokens[:i]]
  (place,) = [i for i in new if i % 4 == 2][-1:]
  with monkeypatch.context() as patch:
    answers(patch, free['a', 0])
    engine = fresh(programs.Ending((int(tokens[place]),)))
    got, trace = run(engine, 'a', temperature=1.0)
    plain.assert_cut(got, free, tokens[place])
    assert trace.steps == calls(engine, got['a', 0])
    # A limit, too.
    limit = ROOM - 3
    request = requests.Request(plain.prompt('a'), 0, limit)
    (short,) = fresh().stream(
      plain.APART, [request], seed=3, step=5, temperature=1.0
    )
  assert short.stop == 'length'
  assert short.tokens.tolist() == tokens[:limit].tolist()
  np.testing.assert_array_equal(short.logp, free['a', 0].logp[:limit])


def test_a_stop_string_cuts_drafted_tokens():
  engine = plain.engine(stops=(), **SIZES)
  free, _ = run(engine, 'a')
  string = plain.spelt(free['a', 0].tokens[5:7])
  ending = engine.ending._replace(strings=(string,))
  cut = plain.dataclasses.replace(engine, ending=ending, to_text=plain.spelt)
  got, trace = run(cut, 'a')
  tokens = free['a', 0].tokens
  has = [string in plain.spelt(tokens[: n + 1]) for n in range(ROOM)]
  length = has.index(True) + 1
  assert got['a', 0].stop == 'stop'
  assert got['a', 0].tokens.tolist() == tokens[:length].tolist()
  (event,) = trace.events
  assert 0 <= event.began <= event.ended <= trace.steps


def test_the_end_of_thinking_is_forced_among_drafts(monkeypatch, never):
  ending = programs.Ending((), (), 9, 95, (7, 9, 95))
  engine = fresh(ending)
  for temperature in (COLD, 1.0):
    assert_same(engine, never, 'aA', temperature=temperature)
  free, _ = run(engine, 'a', temperature=1.0)
  rollout = free['a', 0]
  assert rollout.tokens[9:12].tolist() == [7, 9, 95]
  assert rollout.forced == (9, 12)
  with monkeypatch.context() as patch:
    answers(patch, rollout)
    engine = fresh(ending)
    got, trace = run(engine, 'a', temperature=1.0)
    plain.assert_bitwise(got, free)
    assert trace.steps == calls(engine, rollout)


def test_greedy(never):
  engine = fresh(greedy=True)
  _, trace = assert_same(engine, never, 'aA', temperature=0.0)
  assert trace.saved_steps > 0


def test_drafts_that_poison_change_no_bit(monkeypatch, never):
  """A draft whose keys and values are NaN, where another token is drawn."""
  free, _ = run(plain.engine(stops=(), **SIZES), 'a', temperature=1.0)
  tokens = free['a', 0].tokens
  junk = next(
    t
    for t in range(96)
    if t not in tokens and t not in plain.prompt('a').tokens
  )
  embed = plain.PARAMS['embed'].copy()
  embed[junk] = np.nan
  for form in (base.apart, lambda params: params):
    with monkeypatch.context() as patch:
      answers(patch, free['a', 0], junk)
      params = form(plain.PARAMS | {'embed': embed})
      got, trace = run(fresh(), 'a', params, temperature=1.0)
    assert trace.saved_steps > 0
    plain.assert_close(got, free)
  # A rollout that draws the token itself ends there, with drafts and without.
  embed = plain.PARAMS['embed'].copy()
  embed[tokens[17]] = np.nan
  assert tokens[17] not in plain.prompt('a').tokens
  poisoned = base.apart(plain.PARAMS | {'embed': embed})
  engine = plain.engine(stops=(), **SIZES)
  got, _ = assert_same(engine, never, 'a', poisoned, temperature=1.0)
  assert got['a', 0].stop == 'error'
  assert len(got['a', 0].tokens) == tokens.tolist().index(tokens[17]) + 1


def test_preemption_changes_no_bit(never):
  engine = plain.engine(stops=(), **SIZES)
  want, _ = never(engine, 'abA', groups=3)
  sizes = engine.sizes._replace(pages=engine.sizes.table + 2)
  tight = plain.dataclasses.replace(engine, sizes=sizes)
  got, trace = run(tight, 'abA', groups=3)
  assert trace.preempted and trace.saved_steps
  plain.assert_bitwise(got, want)


@pytest.mark.parametrize('mesh', [(2, 2, 1), (1, 2, 2)])
def test_shards_draft_by_themselves(mesh, never):
  made = mesh_lib.make_mesh(**dict(zip(mesh_lib.AXES, mesh)))
  engine = plain.build(
    made,
    ending=programs.Ending(()),
    **SIZES | dict(rows=4, slots=8 * mesh_lib.row_shards(made)),
  )
  params = plain.placed(made)
  got, trace = assert_same(engine, never, 'aA', params, groups=2)
  assert trace.saved_steps > 0
  want, _ = run(plain.engine(stops=(), **SIZES), 'aA', groups=2)
  plain.assert_close(got, want, 1e-5)


def test_a_resumed_batch_has_the_bits_of_the_whole(never):
  """What is left after a kill drafts earlier than it would have."""
  engine = plain.engine(stops=(), **SIZES)
  whole, _ = run(engine, 'abA', groups=5)
  left, _ = run(engine, 'A', groups=1)
  plain.assert_bitwise(left, {('A', 0): whole['A', 0]})


@pytest.mark.parametrize(
  'sizes, match',
  [
    (dict(speculate=2), 'speculate=2: give 0, or less than chunk=8'),
    (dict(speculate=8), 'speculate=8'),
    (dict(speculate=-1), 'speculate=-1'),
  ],
)
def test_widths_that_do_not_fit_are_one_line(sizes, match):
  with pytest.raises(ValueError, match=match) as e:
    fresh(**sizes)
  assert '\n' not in str(e.value)


VOCAB, DRAWS = 12, 2**14


@functools.cache
def small():
  """A model of few tokens, and an engine that drafts for 1,024 rollouts."""
  config = oracles.tiny_config(vocab=VOCAB)
  model = decoder.make_model(config)
  params = oracles.rough_params(model.specs, seed=1)
  return config, params, model


def joint(config, params, first, temperature, own):
  """p(y1, y2, y3) after one token, from a float64 decoder."""

  def after(*tokens):
    logits = oracles.logits(config, params, np.array([first, *tokens]))[-1]
    kept = sampling_lib.keep_top((logits / temperature)[None], own)[0]
    return np.exp(oracles.log_softmax(np.asarray(kept, np.float64)))

  p_1 = after()
  p_2 = np.stack([after(a) for a in range(VOCAB)])
  p_3 = np.stack([[after(a, b) for b in range(VOCAB)] for a in range(VOCAB)])
  return p_1[:, None, None] * p_2[:, :, None] * p_3


@pytest.mark.parametrize(
  'temperature, own',
  [(0.7, sampling_lib.Sampling()), (1.0, sampling_lib.Sampling(top_p=0.8))],
  ids=['cold', 'top_p'],
)
def test_three_tokens_are_distributed_as_the_model_says(temperature, own):
  """Against the exact joint distribution, of tokens that were drafted."""
  config, params, model = small()
  rows = 1024
  sizes = engine_sizes.Sizes(
    slots=4 * rows,
    shards=1,
    page=4,
    chunk=4,
    pages=rows + 8,
    rows=2,
    piece=4,
    window=1,
    max_tokens=3,
    speculate=3,
  )
  engine = engine_lib.make_engine(
    model,
    plain.one_device(),
    sizes=sizes,
    sampling=own,
    ending=programs.Ending(()),
    kv_dtype=jnp.float32,
    to_text=str,
  )
  prompt = types.Prompt('x', '', '', np.array([5], np.int32))
  seen, steps, pool = np.zeros((VOCAB,) * 3), 0, engine.empty_pool()
  for first in range(0, DRAWS, rows):
    asked = [requests.Request(prompt, first + i, 3) for i in range(rows)]
    plan = schedule.Schedule(sizes, asked, trace_lib.Trace())
    plan.admit(sampling_lib.prompt_seed)
    groups = tail.groups(plan)
    call = engine.rows(*tail.of_groups(plan, groups))
    pool, drawn = engine.decode(
      base.apart(params),
      pool,
      np.array([0, 0], np.int32),
      np.float32(temperature),
      *call,
    )
    tokens = tail.whole(jax.device_get(drawn), groups).tokens_BT[groups, :3]
    np.add.at(seen, tuple(tokens.T), 1)
    steps += int(drawn.steps)
  want = joint(config, params, 5, temperature, own) * DRAWS
  assert seen.sum() == DRAWS
  assert not seen[want == 0].any()
  check_chi_square(seen, want)
  for axes in ((1, 2), (0, 2), (0, 1), 2):
    check_chi_square(seen.sum(axes), want.sum(axes))


def check_chi_square(seen, want):
  """Five sigma, by Wilson and Hilferty; cells of less than 8 are one."""
  big = want >= 8
  seen, want = (np.append(x[big], x[~big].sum()) for x in (seen, want))
  seen, want = seen[want > 0], want[want > 0]
  degrees = len(want) - 1
  square = np.sum((seen - want) ** 2 / want)
  spread = 2 / (9 * degrees)
  assert ((square / degrees) ** (1 / 3) - (1 - spread)) / spread**0.5 < 5
