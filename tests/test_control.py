"""Numbers that change between steps: bounded, and moving the right way."""

import functools
import itertools
import json
import math

import pytest

from acereason_jax import resolve
from acereason_jax.rl import control

ENTROPIES = (0.0, 0.01, 0.2, 0.29, 0.3, 0.31, 0.5, 2.0, 11.0, 1e300)


def seen(step=0, epoch=0, entropy=math.nan):
  return control.Seen(step, epoch, entropy)


def run(c, entropies):
  """The numbers of the steps whose batches have these entropies."""
  numbers = [c.first]
  for i, entropy in enumerate(entropies):
    numbers.append(c.after(numbers[-1], seen(i + 1, 0, entropy)))
  return numbers


def test_constant_is_constant():
  c = control.constant(0.6)
  every = [seen(s, e, h) for s, e, h in itertools.product(*[(0, 3)] * 3)]
  assert {c.first, *(c.after(9.0, x) for x in every)} == {0.6}
  assert {c.used(0.6, x) for x in every} == {0.6}


def test_by_epoch_goes_through_its_values_and_stays_at_the_last():
  c = control.by_epoch((0.6, 0.8, 1.0))
  assert c.first == 0.6
  # Whatever it was, as after a stage of other values.
  got = [c.after(7.0, seen(40, epoch)) for epoch in (0, 0, 1, 2, 3, 50)]
  assert got == [0.6, 0.6, 0.8, 1.0, 1.0, 1.0]


@pytest.mark.parametrize(
  'step, want',
  [(0, 0.6), (10, 0.6), (15, 0.7), (20, 0.8), (25, 0.7), (40, 0.4), (99, 0.4)],
)
def test_by_step_is_linear_between_its_points(step, want):
  c = control.by_step((0.6, 0.8, 0.4), (10, 20, 40))
  assert c.after(9.0, seen(step)) == pytest.approx(want, rel=1e-12)
  assert c.first == 0.6
  # It starts where step 0 is, not at the first value.
  first = control.by_step((0.0, 1.0), (-10, 10)).first
  assert first == pytest.approx(0.5)


near = functools.partial(control.near_entropy, 0.85, 0.3, 1.0, 0.5, 1.5)


def test_near_entropy_by_hand():
  after = near().after
  # exp(0.1) and exp(-0.2).
  assert after(0.8, seen(1, 0, 0.2)) == pytest.approx(0.8 * 1.1051709180756477)
  assert after(0.8, seen(1, 0, 0.5)) == pytest.approx(0.8 * 0.8187307530779818)
  assert after(0.8, seen(1, 0, 0.3)) == 0.8
  assert after(0.8, seen()) == 0.8
  assert after(1.4, seen(1, 0, 0.0)) == 1.5
  assert after(0.5, seen(1, 0, 0.4)) == 0.5


@pytest.mark.parametrize('gain', [0.0, 0.3, 1.0, 1e6])
def test_near_entropy_is_bounded_and_falls_with_entropy(gain):
  c = control.near_entropy(0.85, 0.3, gain, 0.5, 1.5)
  for number in (0.5, 0.85, 1.5):
    got = [c.after(number, seen(1, 0, entropy)) for entropy in ENTROPIES]
    assert got == sorted(got, reverse=True)
    assert all(0.5 <= x <= 1.5 for x in got)
    if gain:
      assert got[0] > got[-1]
  # Towards the target from either side, and no further than there.
  for entropy, sign in ((0.29, 1), (0.31, -1)):
    assert sign * (c.after(0.85, seen(1, 0, entropy)) - 0.85) >= 0


def test_near_entropy_settles_where_a_policy_has_the_target():
  # The entropy at T of two tokens whose logits differ by 2 is known.
  def entropy(t):
    p = 1 / (1 + math.exp(-2 / t))
    return -p * math.log(p) - (1 - p) * math.log(1 - p)

  c = near()
  number = c.first
  for i in range(200):
    number = c.after(number, seen(i + 1, 0, entropy(number)))
  assert entropy(number) == pytest.approx(0.3, abs=1e-6)
  assert 0.5 < number < 1.5


adaptive = functools.partial(
  control.adaptive_entropy, 0.01, target=0.2, delta=0.005, high=0.02
)


def test_adaptive_entropy_by_hand():
  c = adaptive()
  numbers = run(c, [0.1, 0.1, 0.1, 0.2, 0.3, 0.3, 0.3, 0.3, 0.3, 0.1])
  want = [10, 15, 20, 20, 20, 15, 10, 5, 0, 0, 5]
  assert numbers == pytest.approx([x / 1000 for x in want])
  assert c.after(0.01, seen()) == 0.01
  # At the target it is used; above it, and before any batch, not.
  got = [c.used(0.01, seen(1, 0, x)) for x in (0.1, 0.2, 0.2001, math.nan)]
  assert got == [0.01, 0.01, 0.0, 0.0]


def test_adaptive_entropy_is_bounded_and_falls_with_entropy():
  for entropies in itertools.product(ENTROPIES[::3], repeat=4):
    assert all(0 <= x <= 0.02 for x in run(adaptive(), entropies))
  got = [adaptive().after(0.01, seen(1, 0, entropy)) for entropy in ENTROPIES]
  assert got == sorted(got, reverse=True)
  assert got[0] > got[-1]


@pytest.mark.parametrize(
  'made',
  [
    near(),
    adaptive(),
    control.constant(3),
    control.by_epoch((8, 16, 12)),
    control.by_step((2, 9, 4), (1, 3, 7)),
  ],
)
def test_numbers_stay_within_their_bounds(made):
  number = made.first
  for step, entropy in enumerate(ENTROPIES * 3):
    now = seen(step, step // 2, entropy)
    assert made.low <= number <= made.high
    assert made.low <= made.used(number, now) <= made.high
    number = made.after(number, now)


@pytest.mark.parametrize('make', [near, adaptive])
def test_the_number_is_all_of_the_state(make):
  entropies = (0.25, 0.31, 0.28, 0.6, 0.1, 0.05, 0.33)
  want = run(make(), entropies)
  for cut in range(len(entropies)):
    begun = run(make(), entropies[:cut])
    kept = json.loads(json.dumps(begun[-1]))
    rest = run(make()._replace(first=kept), entropies[cut:])
    assert begun[:-1] + rest == want


NEAR = dict(
  fn='acereason_jax.rl.control:near_entropy',
  first=0.85,
  target=0.3,
  gain=1.0,
  low=0.5,
  high=1.5,
)
NAME = 'acereason_jax.rl.control:'


@pytest.mark.parametrize(
  'component, match',
  [
    (
      NEAR | dict(low=0.0),
      r'near_entropy: first=0\.85, low=0\.0, .*: give 0 <',
    ),
    (NEAR | dict(first=2.0), 'near_entropy: first=2.0'),
    (NEAR | dict(gain=-1.0), 'gain of 0 or more'),
    (NEAR | dict(target=math.nan), 'near_entropy: target=nan: give a finite'),
    (dict(fn=NAME + 'constant', value=math.inf), 'constant: value=inf'),
    (dict(fn=NAME + 'by_epoch', values=()), r'by_epoch: values=\(\): give at'),
    (dict(fn=NAME + 'by_epoch', values=(1.0, math.nan)), 'values=nan'),
    (
      dict(fn=NAME + 'by_step', values=(1.0, 2.0), steps=(5,)),
      r'by_step: steps=\(5,\): give 2 rising numbers',
    ),
    (
      dict(fn=NAME + 'by_step', values=(1.0, 2.0), steps=(5, 5)),
      'rising numbers',
    ),
    (
      dict(
        fn=NAME + 'adaptive_entropy', first=1.0, target=0.2, delta=0.1, high=0.5
      ),
      r'adaptive_entropy: first=1\.0, high=0\.5',
    ),
  ],
)
def test_bad_numbers_are_one_line(component, match):
  with pytest.raises(ValueError, match=match) as e:
    resolve.build(component, 'config.rollout.temperature')
  assert '\n' not in str(e.value)
