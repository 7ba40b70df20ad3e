"""Any transform as data: its arguments, its errors, and that it resumes.

That a step is right is optax's affair; here each transform is given the
parameters of a real model, stacked and in shards.
"""

import functools
import inspect
import pathlib
import re
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import oracles
import own_parts
import pytest
import tiny

from acereason_jax import mesh as mesh_lib
from acereason_jax import train, types
from acereason_jax.config import checks
from acereason_jax.models import decoder, sharding
from acereason_jax.rl import (
  carried,
  gradients,
  losses,
  objective,
  optim,
  update,
)
from acereason_jax.run import saving, start

CONFIG = oracles.tiny_config(layers=3, embed=8, mlp=12, vocab=16, head_dim=4)
SPECS = decoder.make_model(CONFIG).specs
PARAMS = oracles.rough_params(SPECS)
NAMES = [
  jax.tree_util.keystr(path, simple=True, separator='.')
  for path, _ in jax.tree_util.tree_leaves_with_path(PARAMS)
]
VECTORS = {n for n in NAMES if n.endswith(('norm', 'bias'))}
ADAMW = dict(fn='optax:adamw', learning_rate=0.01, weight_decay=0.5)
SGD = dict(fn='optax:sgd', learning_rate=1.0)


def make(component, specs=SPECS, warmup_steps=0):
  return optim.make_optimizer(
    component, specs, warmup_steps=warmup_steps, clip_norm=1e9
  )


def flat(tree):
  return dict(zip(NAMES, jax.tree.leaves(tree), strict=True))


def updates_of(component, grads):
  """By name, the first update."""
  optimizer = make(component)
  # One program compiles sooner than each of its operations.
  one = jax.jit(lambda g, p: optimizer.update(g, optimizer.init(p), p)[0])
  return flat(one(grads, PARAMS))


def decayed(component):
  """Names of what a step changes that sees no gradient."""
  updates = updates_of(component, jax.tree.map(np.zeros_like, PARAMS))
  return {name for name, x in updates.items() if np.any(x)}


def aliases():
  """Every transform of optax that a learning rate is enough for."""
  for name, fn in sorted(vars(optax).items()):
    if not callable(fn) or name.startswith('scale_by_'):
      continue
    try:
      signature = inspect.signature(fn)
    except ValueError:
      continue
    needed = {
      p.name
      for p in signature.parameters.values()
      if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD
    }
    gives = str(signature.return_annotation)
    takes_it = 'learning_rate' in signature.parameters
    if takes_it and needed <= {'learning_rate'} and 'Transformation' in gives:
      yield f'optax:{name}'


# It asks for the loss's value, and for the loss itself.
ASKS_FOR_MORE = 'optax:lbfgs'
ALIASES = [fn for fn in aliases() if fn != ASKS_FOR_MORE]


def test_the_aliases_are_those_of_optax():
  known = 'adabelief adadelta adafactor adagrad adam adamax adamaxw adamw adan'
  known += ' amsgrad fromage lamb lars lion nadam nadamw noisy_sgd novograd'
  known += ' optimistic_adam_v2 optimistic_gradient_descent radam rmsprop rprop'
  known += ' sgd sign_sgd sm3 yogi'
  assert {f'optax:{name}' for name in known.split()} <= set(ALIASES)


@functools.cache
def shardings():
  mesh = mesh_lib.make_mesh(data=1, fsdp=2, tensor=2)
  return sharding.param_shardings(SPECS, mesh), mesh_lib.replicated(mesh)


@functools.cache
def sums():
  """A gradient in shards, unlike everywhere."""
  rng = np.random.default_rng(1)
  grads = jax.tree.map(lambda x: np.float32(rng.normal(size=x.shape)), PARAMS)
  return gradients.zeros(grads)._replace(
    grads=jax.tree.map(jax.device_put, grads, shardings()[0])
  )


def assert_same_bits(got, want):
  assert jax.tree.structure(got) == jax.tree.structure(want)
  data = lambda x: jax.random.key_data(x) if is_key(x) else np.asarray(x)
  for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
    assert x.dtype == y.dtype
    np.testing.assert_array_equal(data(x), data(y))


def is_key(x):
  return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


@pytest.mark.parametrize('fn', [*ALIASES, 'optax.contrib:muon'])
def test_every_alias_takes_steps_in_shards_and_resumes(fn, tmp_path):
  placed, everywhere = shardings()
  optimizer = make(dict(fn=fn, learning_rate=1e-2))
  params = jax.tree.map(jax.device_put, PARAMS, placed)
  state = update.init_state(params, optimizer)
  where = update.TrainState(
    placed,
    sharding.like_params(state.opt_state, PARAMS, placed, everywhere),
    everywhere,
  )
  state = jax.tree.map(jax.device_put, state, where)
  step = jax.jit(
    functools.partial(update.apply, optimizer=optimizer),
    out_shardings=(where, everywhere),
  )
  first, metrics = step(state, sums())
  assert metrics['nonfinite'] == 0
  abstract = jax.tree.map(
    lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
    first,
    where,
  )
  with saving.Checkpoints(tmp_path, keep=1) as checkpoints:
    checkpoints.save(1, first, {}, {}, b'-')
    checkpoints.wait()
    restored = checkpoints.restore(abstract).state
  assert_same_bits(restored, first)
  for x, lies in zip(jax.tree.leaves(restored), jax.tree.leaves(where)):
    assert x.sharding.is_equivalent_to(lies, x.ndim)
  second, _ = step(restored, sums())
  assert_same_bits(second, step(first, sums())[0])
  for name, x in flat(second.params).items():
    assert np.isfinite(x).all(), name
    assert (np.asarray(x) != flat(PARAMS)[name]).any(), name


def test_muon_turns_each_matrix_of_a_layer_and_nothing_else():
  rng = np.random.default_rng(3)
  grads = jax.tree.map(lambda x: np.float32(rng.normal(size=x.shape)), PARAMS)
  got = updates_of(dict(fn='optax.contrib:muon', learning_rate=1.0), grads)
  adam = updates_of(
    dict(fn='optax:adam', learning_rate=1.0, nesterov=True), grads
  )
  matrices = {f'layers.{n}' for n in ('q', 'k', 'v', 'o', 'gate', 'up', 'down')}
  for name, x in got.items():
    if name not in matrices:
      np.testing.assert_allclose(x, adam[name], rtol=1e-4, err_msg=name)
      continue
    for layer, grad in zip(x, flat(grads)[name]):
      # Like U V^T of the gradient's own SVD, up to a scale and the spread
      # that five steps of Newton and Schulz leave.
      u, _, vt = np.linalg.svd(grad.astype(np.float64), full_matrices=False)
      inside = -u.T @ layer @ vt.T
      spread = np.diag(inside) / np.diag(inside).mean()
      assert spread.min() > 0.5 and spread.max() < 1.5, name
      off = inside - np.diag(np.diag(inside))
      assert abs(off).max() < 1e-3 * np.diag(inside).mean(), name


def test_decay_acts_on_matrices_where_a_mask_is_taken():
  assert len(VECTORS) == 8 and len(NAMES) == 17
  matrices = set(NAMES) - VECTORS
  for fn in ('adamw', 'adamaxw', 'adan', 'lamb', 'lion', 'nadamw'):
    assert decayed(ADAMW | dict(fn=f'optax:{fn}')) == matrices, fn
  for fn, name in (
    ('optax:lars', 'weight_decay'),
    ('optax:adafactor', 'weight_decay_rate'),
    ('optax:adadelta', 'weight_decay'),
  ):
    component = {'fn': fn, 'learning_rate': 0.01, name: 0.5}
    assert decayed(component) == matrices, fn
  muon = ADAMW | dict(fn='optax.contrib:muon')
  # Its Adam has a decay of its own, adam_weight_decay.
  assert decayed(muon) == matrices - {'embed', 'head'}


def test_decay_acts_where_it_is_told_to():
  assert decayed(ADAMW | dict(decay_on='.*')) == set(NAMES)
  chosen = r'layers\.(gate|up_?|attn_norm)|head'
  assert decayed(ADAMW | dict(decay_on=chosen)) == {
    'layers.gate',
    'layers.up',
    'layers.attn_norm',
    'head',
  }
  assert not decayed(ADAMW | dict(weight_decay=0.0, decay_on='.*'))


def test_the_own_parts_of_the_docs_are_those_of_these_tests():
  page = pathlib.Path(__file__).parents[1] / 'docs' / 'extending.md'
  for part in (own_parts.sign_descent, own_parts.squared):
    source = textwrap.indent(inspect.getsource(part), '    ')
    assert source in page.read_text()
    assert len([line for line in source.splitlines() if line.strip()]) <= 10


def test_groups_by_hand():
  groups = [
    # The first that matches counts.
    ('embed|head', 0.25),
    (r'layers\..*_bias|head', 0),
    (r'layers\.q', dict(fn='optax:sign_sgd', learning_rate=0.125)),
  ]
  grads = jax.tree.map(lambda x: np.full_like(x, 3.0), PARAMS)
  got = updates_of(SGD | dict(groups=groups), grads)
  for name, x in got.items():
    want = -3.0
    if name in ('embed', 'head'):
      want = -0.75
    elif name.endswith('_bias'):
      want = 0.0
    elif name == 'layers.q':
      want = -0.125
    np.testing.assert_array_equal(x, np.full_like(x, want), err_msg=name)


def test_a_group_decays_as_the_rest_and_a_frozen_one_has_no_moments():
  groups = [('embed', 0), ('layers.*', 0.5)]
  component = ADAMW | dict(groups=groups)
  zeros = jax.tree.map(np.zeros_like, PARAMS)
  got, alone = updates_of(component, zeros), updates_of(ADAMW, zeros)
  assert decayed(component) == set(NAMES) - VECTORS - {'embed'}
  for name in set(NAMES) - {'embed'}:
    half = 0.5 if name.startswith('layers') else 1.0
    np.testing.assert_allclose(got[name], half * alone[name], rtol=1e-6)
  state = make(component).init(PARAMS)
  moments = sum(np.size(x) for x in jax.tree.leaves(state))
  left = sum(x.size for n, x in flat(PARAMS).items() if n != 'embed')
  assert 2 * left <= moments < 2 * left + 9


@pytest.mark.parametrize('warmup_steps', [0, 3])
@pytest.mark.parametrize('factor', [1.0, 0.5])
def test_a_schedule_is_a_component(warmup_steps, factor):
  cosine = dict(
    fn='optax:cosine_decay_schedule', init_value=2.0, decay_steps=4, alpha=0.1
  )
  component = SGD | dict(learning_rate=cosine, groups=[('embed', factor)])
  optimizer = make(component, warmup_steps=warmup_steps)
  state, rates = optimizer.init(PARAMS), []
  ones = jax.tree.map(np.ones_like, PARAMS)
  for _ in range(warmup_steps + 6):
    updates, state = optimizer.update(ones, state, PARAMS)
    rates.append([-float(updates[n][0, 0]) for n in ('embed', 'head')])
  rise = [2.0 * (i + 1) / (warmup_steps + 1) for i in range(warmup_steps)]
  fall = [
    2.0 * (0.9 * 0.5 * (1 + np.cos(np.pi * min(i, 4) / 4)) + 0.1)
    for i in range(6)
  ]
  want = np.array([*rise, *fall])
  np.testing.assert_allclose(
    rates, np.stack([factor * want, want], 1), rtol=1e-6
  )


@pytest.mark.parametrize(
  'component',
  [
    dict(fn='optax:adamw', mu_dtype='bfloat16'),
    dict(fn='optax:lion', mu_dtype='bfloat16'),
    dict(fn='optax:sgd', momentum=0.9, accumulator_dtype='bfloat16'),
    dict(fn='optax:adafactor', momentum=0.9, dtype_momentum='bfloat16'),
    dict(fn='optax.contrib:muon', mu_dtype='bfloat16'),
  ],
)
def test_moments_are_of_the_dtype_that_is_asked_for(component):
  optimizer = make(component | dict(learning_rate=0.1))
  state = optimizer.init(PARAMS)
  updates, state = optimizer.update(PARAMS, state, PARAMS)
  held = [x for x in jax.tree.leaves(state) if x.dtype == jnp.bfloat16]
  assert sum(x.size for x in held) == sum(map(np.size, flat(PARAMS).values()))
  params = optax.apply_updates(PARAMS, updates)
  assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype('float32')}


def test_transforms_nest():
  inner = dict(fn='optax:sgd', learning_rate=0.5)
  component = dict(
    fn='optax.contrib:schedule_free', base_optimizer=inner, learning_rate=0.5
  )
  optimizer = optax.contrib.schedule_free(optax.sgd(0.5), 0.5)
  want, _ = optimizer.update(PARAMS, optimizer.init(PARAMS), PARAMS)
  got = updates_of(component, PARAMS)
  for name, x in flat(want).items():
    np.testing.assert_allclose(got[name], x, rtol=1e-6, atol=1e-7)


def restarts(component, warmup_steps=0, specs=SPECS):
  return carried.restarts(
    component, specs, warmup_steps=warmup_steps, clip_norm=1e9
  )


def taken_over(component, state, warmup_steps=0, params=PARAMS, specs=SPECS):
  """The state that the next stage begins with."""
  leaves, structure = jax.tree.flatten(state)
  new = jax.tree.leaves(make(component, specs, warmup_steps).init(params))
  flags = restarts(component, warmup_steps, specs)
  assert len(flags) == len(leaves)
  return structure.unflatten(
    [b if starts else a for a, b, starts in zip(leaves, new, flags)]
  )


def anew(component, warmup_steps=0, params=PARAMS, specs=SPECS):
  """Names of the leaves that start anew, without those of chains."""
  state = make(component, specs, warmup_steps).init(params)
  paths = [p for p, _ in jax.tree_util.tree_leaves_with_path(state)]
  flags = restarts(component, warmup_steps, specs)
  name = lambda path: jax.tree_util.keystr(path, simple=True, separator='.')
  return sorted(
    re.sub(r'\b\d+\.|inner_states?\.', '', name(path))
    for path, starts in zip(paths, flags)
    if starts
  )


SMALL = dict(a=np.float32([1.0, -2.0]), b=np.float32([[0.5]]))
SMALL_SPECS = oracles.plain_specs(SMALL)
ONES = jax.tree.map(np.ones_like, SMALL)


def steps_of(component, state, count, warmup_steps=0):
  """(what each step adds to b, the state after them) of gradients of 1."""
  optimizer = make(component, SMALL_SPECS, warmup_steps)
  found = []
  for _ in range(count):
    updates, state = optimizer.update(ONES, state, SMALL)
    found.append(float(updates['b'][0, 0]))
  return found, state


def two_stages(component, count, warmup_steps=0):
  """The update of each step, in a stage and in the next one."""
  state = make(component, SMALL_SPECS, warmup_steps).init(SMALL)
  first, state = steps_of(component, state, count, warmup_steps)
  state = taken_over(component, state, warmup_steps, SMALL, SMALL_SPECS)
  second, _ = steps_of(component, state, count, warmup_steps)
  return first, second


COSINE = dict(fn='optax:cosine_decay_schedule', init_value=1.0, decay_steps=4)


@pytest.mark.parametrize(
  'component, warmup_steps',
  [
    (SGD | dict(learning_rate=COSINE), 0),
    (SGD | dict(learning_rate=COSINE), 3),
    (SGD, 4),
    (SGD | dict(learning_rate=COSINE, groups=[('b', 0.5)]), 2),
    (
      SGD | dict(groups=[('b', dict(fn='optax:sgd', learning_rate=COSINE))]),
      0,
    ),
    (dict(fn='own_parts:fading', learning_rate=1.0, steps=5), 0),
    (dict(fn='optax:sign_sgd', learning_rate=COSINE), 1),
  ],
)
def test_a_schedule_begins_again_with_a_stage(component, warmup_steps):
  first, second = two_stages(component, 8, warmup_steps)
  assert first == second
  assert len(set(first)) > 2


def test_moments_and_their_bias_correction_go_on_through_a_stage():
  """With a constant rate as if no stage had ended."""
  for component in (
    dict(fn='optax:adam', learning_rate=0.5, b1=0.5),
    dict(fn='optax:sgd', learning_rate=0.5, momentum=0.9),
    dict(fn='optax:rmsprop', learning_rate=0.5, bias_correction=True),
    dict(fn='own_parts:unbiased', learning_rate=0.5, decay=0.5),
    dict(fn='own_parts:sign_descent', learning_rate=0.5, decay=0.9),
    dict(fn='optax:adam', learning_rate=0.5, groups=[('b', 0.5)]),
  ):
    optimizer = make(component, SMALL_SPECS)
    state = optimizer.init(SMALL)
    grads = jax.tree.map(lambda x: np.float32(3.0) * x, ONES)
    for _ in range(3):
      _, state = optimizer.update(grads, state, SMALL)
    want, _ = steps_of(component, state, 3)
    state = taken_over(component, state, 0, SMALL, SMALL_SPECS)
    got, _ = steps_of(component, state, 3)
    assert got == want, component
    new, _ = steps_of(component, optimizer.init(SMALL), 3)
    assert component['fn'] == 'own_parts:sign_descent' or got != new


def test_adam_with_a_cosine_keeps_its_moments_and_begins_its_cosine_again():
  component = dict(fn='optax:adamw', learning_rate=COSINE, weight_decay=0.0)
  first, second = two_stages(component, 5)
  # Gradients are all 1, and so is what Adam makes of them.
  want = [-0.5 * (1 + np.cos(np.pi * i / 4)) for i in range(5)]
  # The bias correction of 1 - 0.999 rounds by 1e-5.
  np.testing.assert_allclose(first, want, rtol=2e-5, atol=1e-6)
  np.testing.assert_allclose(second, want, rtol=2e-5, atol=1e-6)
  assert anew(component) == ['count']


@pytest.mark.parametrize(
  'component, warmup_steps, names',
  [
    (ADAMW, 0, []),
    (ADAMW, 3, ['count']),
    (ADAMW | dict(groups=[('b', 0.5)]), 3, ['count', 'rest.count']),
    (ADAMW | dict(groups=[('b', 0)], learning_rate=COSINE), 0, ['rest.count']),
    (dict(fn='optax:adafactor', learning_rate=COSINE), 0, ['count']),
    (dict(fn='optax:lamb', learning_rate=0.1), 2, ['count']),
    # Noise that fades.
    (dict(fn='optax:noisy_sgd', learning_rate=0.1), 0, ['count', 'rng_key']),
    # Its own count is given to the schedule, and to nothing else.
    (
      dict(
        fn='optax.contrib:schedule_free',
        base_optimizer=dict(fn='optax:sgd', learning_rate=1.0),
        learning_rate=0.5,
      ),
      4,
      ['step_count'],
    ),
    # The rate itself is in the state.
    (
      dict(fn='own_parts:injected', learning_rate=0.5),
      0,
      [
        'count',
        *(f'hyperparams.{name}' for name in ('b1', 'b2', 'eps', 'eps_root')),
        'hyperparams.learning_rate',
      ],
    ),
    # Its accumulated gradients are of the previous stage.
    (
      dict(fn='own_parts:accumulated', learning_rate=0.5, every=2),
      3,
      [
        'acc_grads.a',
        'acc_grads.b',
        'gradient_step',
        'inner_opt_state.count',
        'mini_step',
      ],
    ),
    (dict(fn='own_parts:fading', learning_rate=1.0, steps=3), 0, ['count']),
    (dict(fn='own_parts:unbiased', learning_rate=1.0, decay=0.5), 0, []),
    # Its number may be anybody's.
    (
      dict(fn='own_parts:unbiased', learning_rate=1.0, decay=0.5, plain=True),
      0,
      ['0', 'a', 'b'],
    ),
  ],
)
def test_what_begins_anew_with_a_stage(component, warmup_steps, names):
  got = anew(component, warmup_steps, SMALL, SMALL_SPECS)
  assert [n for n in got if 'hyperparams_states' not in n] == names


def test_a_rate_in_the_state_is_that_of_the_stage():
  old = dict(fn='own_parts:injected', learning_rate=0.5)
  state = make(old, SMALL_SPECS).init(SMALL)
  _, state = steps_of(old, state, 3)
  new = old | dict(learning_rate=0.125)
  got, _ = steps_of(new, taken_over(new, state, 0, SMALL, SMALL_SPECS), 2)
  np.testing.assert_allclose(got, [-0.125] * 2, rtol=1e-5)


@pytest.mark.parametrize(
  'fn', ['optax.contrib:prodigy', 'optax.contrib:dadapt_adamw']
)
def test_a_count_of_moments_and_of_a_schedule_cannot_be_taken_over(fn):
  component = dict(fn=fn, learning_rate=1.0)
  assert restarts(component, 0, SMALL_SPECS)
  for learning_rate, warmup_steps in ((1.0, 2), (COSINE, 0)):
    component = dict(fn=fn, learning_rate=learning_rate)
    with pytest.raises(ValueError, match=r'give config\.optim\.carry=F') as e:
      restarts(component, warmup_steps, SMALL_SPECS)
    assert '\n' not in str(e.value) and fn in str(e.value)


@pytest.mark.parametrize('fn', [*ALIASES, 'optax.contrib:muon'])
def test_every_alias_begins_its_warm_up_again_and_keeps_its_moments(fn):
  component = dict(fn=fn, learning_rate=1e-2)
  try:
    flags = restarts(component, 3)
  except ValueError as e:
    assert 'if it takes no schedule, give learning_rate a number' in str(e)
    assert fn in ('optax:optimistic_adam', 'optax:rprop', 'optax:sm3')
    return
  shapes = jax.eval_shape(make(component, warmup_steps=3).init, PARAMS)
  leaves = jax.tree.leaves(shapes)
  # The restarted leaves hold no moments, and include a schedule's count.
  assert all(np.size(x) <= 2 for x, s in zip(leaves, flags) if s)
  assert any(x.dtype == jnp.int32 for x, s in zip(leaves, flags) if s)


@pytest.mark.parametrize(
  'change, said',
  [
    # No transform.
    (dict(fn='optax:sdg'), r"\.fn='optax:sdg': .* no 'sdg'; .* 'sgd'"),
    (dict(fn='sgd'), r"\.fn='sgd': expected 'package\.module:function'"),
    (dict(fn='own_parts:nothing'), r"\.fn='own_parts:nothing': .* a list, exp"),
    (dict(fn='builtins:dict'), r"\.fn='builtins:dict': expected a function"),
    (
      dict(fn='optax:cosine_decay_schedule'),
      r'\.fn=.* takes no learning_rate, expected .* it accepts: init_value',
    ),
    # It wants more than gradients and parameters, or changes its state.
    (dict(fn=ASKS_FOR_MORE), r": optax:lbfgs .*'value'.*gradients and param"),
    (dict(fn='optax:polyak_sgd'), r'\.fn=.* learning_rate,.* accepts: max_l'),
    (
      dict(fn='own_parts:forgetful'),
      r': own_parts:forgetful gives state .*: float32\(\).*expected int32\(\)',
    ),
    # Arguments.
    (dict(momentun=0.9), r': optax:sgd was given .*momentun.*accepts: learn'),
    (dict(momentum='much'), r': optax:sgd fails on the shapes'),
    (dict(accumulator_dtype='float12'), r"\.accumulator_dtype='float12': no"),
    (dict(decay_on='.*'), r"\.decay_on='\.\*': optax:sgd takes no mask"),
    (
      dict(fn='optax:lion', decay_on='heads'),
      r"\.decay_on='heads': matches no",
    ),
    # Learning rates.
    (dict(learning_rate='much'), r"\.learning_rate='much': expected a number"),
    (dict(learning_rate=-1.0), r'\.learning_rate=-1\.0: expected a number'),
    (dict(learning_rate=float('nan')), r'\.learning_rate=nan: expected a numb'),
    (
      dict(learning_rate=dict(fn='own_parts:squared', strength=1)),
      r'\.learning_rate=.*gave a function .* expected a schedule',
    ),
    (dict(learning_rate=dict(peak=1)), r'\.learning_rate=.* or a schedule'),
    (
      dict(learning_rate=SGD),
      r'\.learning_rate=.*gave a Gradient.* expected a schedule: step -> learn',
    ),
    (
      dict(learning_rate=COSINE | dict(decay_step=4)),
      r"\.learning_rate: optax:cosine_decay_schedule .*'decay_step'",
    ),
    (
      dict(learning_rate=COSINE | dict(decay_steps=-4)),
      r'\.learning_rate: .*decay_schedule refuses its arguments: ValueError',
    ),
    (
      dict(fn='optax:rprop', learning_rate=COSINE),
      r': optax:rprop .*; if it takes no schedule, give .*warmup_steps=0',
    ),
    # Groups.
    (dict(groups=0.5), r'\.groups=0\.5: expected \(regex, factor\) pairs'),
    (dict(groups=[('embed',)]), r"\.groups\[0\]=\('embed',\): expected a pair"),
    (dict(groups=[('embed', 1), ('embeds', 1)]), r"\[1\]='embeds': matches no"),
    (dict(groups=[('.*', 1), ('head', 1)]), r"\[1\]='head': matches no"),
    (dict(groups=[('*', 1)]), r"\[0\]='\*': no regular expression"),
    (dict(groups=[('embed', 'half')]), r"\[0\]='half': expected a factor"),
    (dict(groups=[('embed', -1)]), r'\[0\]=-1: expected a factor'),
    (
      dict(groups=[('embed', dict(fn='optax:lion'))]),
      r"\[0\]: .*'learning_rate",
    ),
    (
      dict(groups=[('embed', dict(fn='optax.contrib:momo', learning_rate=1))]),
      r": optax:sgd, optax\.contrib:momo fails .*'value'",
    ),
    (
      dict(groups=[('embed', ADAMW | dict(b3=1))]),
      r"\[0\]: optax:adamw was given .*'b3'",
    ),
  ],
  ids=str,
)
def test_what_cannot_be_is_one_line(change, said):
  with pytest.raises(ValueError, match=r'^config\.optim.*' + said) as e:
    make(SGD | change)
  assert '\n' not in str(e.value)


def test_a_schedule_that_starts_at_0_is_its_own_warm_up():
  rising = dict(
    fn='optax:linear_schedule',
    init_value=0.0,
    end_value=1.0,
    transition_steps=4,
  )
  make(SGD | dict(learning_rate=rising))
  with pytest.raises(
    ValueError, match=r'expected config\.optim\.warmup_steps=0'
  ):
    make(SGD | dict(learning_rate=rising), warmup_steps=2)


def judged(prompt, rewards):
  """A group of responses of one to four tokens."""
  rollouts, verdicts = [], []
  for i, right in enumerate(rewards):
    tokens = np.arange(4, 5 + i, dtype=np.int32)
    logp = np.full(len(tokens), -2.0, np.float32)
    rollouts.append(types.Rollout(prompt.id, i, tokens, logp, logp, 'stop', ''))
    verdicts.append(types.Verdict('right' if right else 'wrong', '', 0.0))
  return types.Group(prompt, tuple(rollouts), tuple(verdicts))


def test_a_researchers_own_transform_and_loss_by_config_alone(folder):
  config = tiny.config(folder)
  config.optim.transform = dict(fn='own_parts:sign_descent', decay=0.75)
  config.optim.learning_rate = 0.5
  config.objective.loss = dict(fn='own_parts:squared', strength=0.0)
  checks.validate(config)
  run = train.build(config)
  state = start.begin(run).state
  before = jax.device_get(state.params)
  own = run.stages[0].update
  sums = own.zeros(state.params)
  prompts = run.domains['main'].prompts['train_data']
  groups = [judged(p, [1, 0, 0, 1]) for p in prompts[:2]]
  stage = run.stages[0]
  trained = objective.assign_advantages(groups, stage.objective)
  (packed,) = objective.pack(trained, stage.layout)
  batches = [stage.place(batch) for batch, _ in packed]
  for batch in batches:
    sums, _ = own.add(state.params, sums, batch, gradients.make_knobs(1.0))
  grads = jax.device_get(sums.grads)
  after = jax.device_get(own.apply(state, sums)[0].params)
  # The first average has the gradient's sign.
  jax.tree.map(
    lambda x, y, g: np.testing.assert_allclose(y, x - 0.5 * np.sign(g), 1e-6),
    before,
    after,
    grads,
  )
  # Without the pull the loss is REINFORCE, whose gradient is `on_policy`'s.
  known = update.make_update(
    decoder.make_model(
      decoder.DecoderConfig.from_hf(tiny.LLAMA), remat=config.remat
    ),
    losses.on_policy(),
    optax.sgd(1.0),
    vocab_chunk=32,
    dtype=jnp.float32,
  )
  want = known.zeros(before)
  for batch in jax.device_get(batches):
    want, _ = known.add(before, want, batch, gradients.make_knobs(1.0))
  errors = jax.tree.map(oracles.relative_error, grads, want.grads)
  assert max(jax.tree.leaves(errors)) < 2e-5


def test_schedules_groups_and_dtypes_come_through_a_config(folder):
  config = tiny.config(folder)
  config.optim.transform = dict(
    fn='optax:adamw', weight_decay=0.1, mu_dtype='bfloat16'
  )
  config.optim.learning_rate = dict(COSINE)
  config.optim.decay_on = '.*'
  config.optim.groups = (('embed', 0.1), (r'layers\..*_norm', dict(SGD)))
  config.optim.warmup_steps = 2
  checks.validate(config)
  run = train.build(config)
  state = start.begin(run).state
  abstract_state = run.stages[0].abstract_state
  for leaf, abstract in zip(
    jax.tree.leaves(state), jax.tree.leaves(abstract_state), strict=True
  ):
    assert leaf.dtype == abstract.dtype
    assert leaf.sharding.is_equivalent_to(abstract.sharding, leaf.ndim)
  moment = state.opt_state[1].inner_states['rest'].inner_state[0].mu
  placed = state.params['layers']['q'].sharding
  assert not placed.is_fully_replicated
  assert moment['layers']['q'].sharding.is_equivalent_to(placed, 3)
  assert moment['layers']['q'].dtype == jnp.bfloat16
  config.optim.groups = (('embeds', 0.1),)
  checks.validate(config)
  with pytest.raises(ValueError, match=r"config\.optim\.groups\[0\]='embeds'"):
    train.build(config)
