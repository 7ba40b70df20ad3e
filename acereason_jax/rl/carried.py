"""What of the optimizer's state a stage takes over from the stage before it.

Moments do, counts of schedules do not. Any optax transform may be the
optimizer, so which leaf is which is read from the state's tree and from the
program of an update.
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import optax
from jax.interpreters import partial_eval

from acereason_jax.rl import optim

Tree = Any


def restarts(
  component: Mapping[str, Any],
  specs: Tree,
  *,
  warmup_steps: int,
  clip_norm: float,
) -> list[bool]:
  """For each leaf of the state, whether a new stage resets it.

  A stage keeps moments: leaves with the names of parameters. It also keeps the
  values next to moments in their own NamedTuple or dict, such as the count that
  corrects their bias. Everything else starts as `init` makes it: counts of
  schedules, of warm-ups and of transforms without moments, hyperparameters that
  are in the state, and the gradients that optax.MultiSteps has added up. The
  input of a learning-rate schedule always starts anew.

  In a plain tuple a number next to moments may belong to them or to the next
  transform of a chain. Then both start anew, which is right in either case.

  Raises:
    ValueError: a count serves both moments and the schedule.
  """
  make = functools.partial(
    optim.make_optimizer,
    component,
    specs,
    warmup_steps=warmup_steps,
    clip_norm=clip_norm,
  )

  def told(rate: optax.Schedule) -> optax.Schedule:
    def still(step):
      # An effect, so that its input counts as used.
      jax.debug.callback(lambda step: None, step)
      return rate(0)

    return still

  params = optim.shapes_of(specs)
  state = jax.eval_shape(make().init, params)
  kept = _moments(state, params)
  of_schedules = _used(make(follow=told), params, updates=False)
  of_updates = _used(make(follow=lambda rate: lambda step: rate(0)), params)
  if any(map(all, zip(kept, of_schedules, of_updates))):
    raise ValueError(
      f'{optim.TRANSFORM}.fn={component["fn"]!r}: it counts steps once for its '
      "moments and for its learning rate's schedule, so a stage cannot take "
      'over the one without the other; give config.optim.carry=False, or a '
      'constant learning_rate and config.optim.warmup_steps=0'
    )
  return [not k or s for k, s in zip(kept, of_schedules)]


def _moments(state: Tree, params: Tree) -> list[bool]:
  """For each leaf of a state, whether it is in or beside a tree of moments."""
  names = {path for path, _ in jax.tree_util.tree_leaves_with_path(params)}
  paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(state)]
  whole = {path: _moments_tree(path, names) for path in paths}
  is_field = lambda key: not isinstance(key, jax.tree_util.SequenceKey)
  # States that hold moments in named fields, and states that hold them in a
  # tuple.
  fields, items = set(), set()
  for tree in whole.values():
    if tree:
      (fields if is_field(tree[-1]) else items).add(tree[:-1])
  bare = {p[:-1] for p in paths if whole[p] is None and not is_field(p[-1])}
  dropped = _accumulated(state)

  def kept(path: tuple) -> bool:
    tree = whole[path]
    if any(path[: len(d)] == d for d in dropped):
      return False
    if tree is None:
      return is_field(path[-1]) and path[:-1] in fields
    return not tree or tree[:-1] not in items & bare

  return [kept(path) for path in paths]


def _moments_tree(path: tuple, names: set[tuple]) -> tuple | None:
  """The path of the tree of moments that a leaf belongs to, or None.

  A parameter's name may be followed by more, where its moments are several
  arrays.
  """
  for start in range(len(path)):
    if any(path[start:end] in names for end in range(start + 1, len(path) + 1)):
      return path[:start]
  return None


def _accumulated(state: Tree) -> list[tuple]:
  """The paths of each optax.MultiSteps' own fields, without its inner state."""
  is_one = lambda node: isinstance(node, optax.MultiStepsState)
  found = jax.tree_util.tree_leaves_with_path(state, is_leaf=is_one)
  return [
    (*path, jax.tree_util.GetAttrKey(field))
    for path, node in found
    if is_one(node)
    for field in node._fields
    if field != 'inner_opt_state'
  ]


def _used(
  optimizer: optax.GradientTransformation, params: Tree, updates: bool = True
) -> list[bool]:
  """For each leaf of the state, whether the updates depend on it.

  updates=False: whether an effect of the update depends on it.
  """
  state = jax.eval_shape(optimizer.init, params)
  program = jax.make_jaxpr(optimizer.update)(params, state, params).jaxpr
  count = len(jax.tree.leaves(params))
  wanted = [updates] * count
  wanted += [False] * (len(program.outvars) - count)
  _, used = partial_eval.dce_jaxpr(program, wanted)
  return used[count:-count]
