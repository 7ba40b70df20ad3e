"""The optimizer: any optax transform by import path, after a clip.

A component is data: dict(fn='optax:adamw', learning_rate=1e-6, ...). Its
arguments are the transform's own, except these:

- learning_rate: a number, or a schedule that is a component itself:
  dict(fn='optax:cosine_decay_schedule', init_value=1e-6, decay_steps=1000).
  Any other argument that is a component is built too, so transforms nest.
- groups: (regex, other) pairs. Parameters whose full name ('layers.q_bias',
  'embed') a regex matches follow the `other` of the first such regex: a factor
  of the learning rate (0 freezes them, without moments), or a whole component.
- decay_on: a regex of the names that weight decay acts on. Without it decay
  acts on matrices, not on norms and biases, if the transform accepts a mask.
  Transforms without a mask (sgd, adam) decay nothing or everything.
- a dtype is its name: mu_dtype='bfloat16'.

Layers, and experts, are stacked, so their leaves have more dimensions than a
transform that looks at shapes expects. Muon gets the list of matrices
(`ParamSpec.role`); embeddings, head, norms and biases go to its Adam, whose
adam_weight_decay takes no mask. lamb, lars, novograd, fromage and sm3 treat a
stack as one parameter.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
import optax.contrib

from acereason_jax import resolve
from acereason_jax.models import base

FIELD = 'config.optim'
# The config's path of the transform. learning_rate, groups and decay_on are in
# the same section.
TRANSFORM = f'{FIELD}.transform'
Tree = Any
# Specs by the full names of parameters.
Named = Mapping[str, base.ParamSpec]


def make_optimizer(
  component: Mapping[str, Any],
  specs: Tree,
  *,
  warmup_steps: int,
  clip_norm: float,
  follow: Callable[[optax.Schedule], optax.Schedule] = lambda rate: rate,
) -> optax.GradientTransformation:
  """clip_by_global_norm, then the component, for parameters of these specs.

  The learning rate rises linearly over `warmup_steps`. Then it is constant, or
  follows its schedule from the schedule's start. A transform gets only
  gradients and parameters. Checks use shapes only; nothing is compiled here.
  `follow` replaces the schedules of learning rates; see `carried.restarts`.

  Raises:
    ValueError: one line that names the field, the value and the expected value.
  """
  named, params = base.by_name(specs), shapes_of(specs)
  own = {k: v for k, v in component.items() if k != 'groups'}
  groups = _check_groups(component.get('groups', ()), named)
  others = {
    str(i): _group(
      own, other, f'{FIELD}.groups[{i}]', named, warmup_steps, follow
    )
    for i, (_, other) in enumerate(groups)
  }
  transform = _transform(own, FIELD, named, warmup_steps, follow)
  if groups:
    labels = jax.tree_util.tree_map_with_path(
      lambda path, _: _label(groups, base.path_name(path)), params
    )
    transform = optax.partition({'rest': transform, **others}, labels)
  optimizer = optax.chain(optax.clip_by_global_norm(clip_norm), transform)
  parts = [own, *(other for _, other in groups if isinstance(other, Mapping))]
  _check_by_shapes(
    optimizer,
    params,
    ', '.join(part['fn'] for part in parts),
    has_schedule=warmup_steps > 0
    or any(isinstance(part['learning_rate'], Mapping) for part in parts),
  )
  return optimizer


def _shape(x: Any) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(x.shape, x.dtype)


def shapes_of(specs: Tree) -> Tree:
  """The shapes of trained parameters, float32."""
  return base.map_specs(
    lambda s: jax.ShapeDtypeStruct(s.shape, jnp.float32), specs
  )


def _matches(pattern: Any, field: str, names: Iterable[str]) -> list[str]:
  """The names that a regex of the user matches, at least one."""
  names = list(names)
  try:
    found = [n for n in names if re.fullmatch(pattern, n)]
  except (re.error, TypeError) as e:
    raise ValueError(f'{field}={pattern!r}: no regular expression ({e})') from e
  if not found:
    raise ValueError(
      f'{field}={pattern!r}: matches no parameter (that is left); expected a '
      f'regular expression of whole names such as {", ".join(names[:4])}'
    )
  return found


def _check_groups(groups: Any, named: Named) -> list[tuple]:
  """(regex, factor or component) pairs, each with a parameter of its own."""
  field, left = f'{FIELD}.groups', list(named)
  if not isinstance(groups, list | tuple):
    raise ValueError(f'{field}={groups!r}: expected (regex, factor) pairs')
  for i, group in enumerate(groups):
    if not (isinstance(group, list | tuple) and len(group) == 2):
      raise ValueError(
        f'{field}[{i}]={group!r}: expected a pair of a regular expression and '
        'a factor of the learning rate, or a component'
      )
    taken = _matches(group[0], f'{field}[{i}]', left)
    left = [n for n in left if n not in taken]
  return list(groups)


def _label(groups: Sequence[tuple], name: str) -> str:
  found = (str(i) for i, g in enumerate(groups) if re.fullmatch(g[0], name))
  return next(found, 'rest')


def _group(
  own: Mapping[str, Any],
  other: Any,
  field: str,
  named: Named,
  warmup_steps: int,
  follow: Callable[[optax.Schedule], optax.Schedule],
) -> optax.GradientTransformation:
  """A component, or `own` with its learning rate times a factor."""
  if isinstance(other, Mapping):
    return _transform(other, field, named, warmup_steps, follow)
  if not _is_number(other) or other < 0:
    raise ValueError(
      f'{field}={other!r}: expected a factor of the learning rate, 0 or more, '
      'or a component'
    )
  if other == 0:
    return optax.set_to_zero()
  return _transform(own, FIELD, named, warmup_steps, follow, factor=other)


def _is_number(x: Any) -> bool:
  plain = isinstance(x, int | float) and not isinstance(x, bool)
  return plain and math.isfinite(x)


def _transform(
  component: Mapping[str, Any],
  field: str,
  named: Named,
  warmup_steps: int,
  follow: Callable[[optax.Schedule], optax.Schedule],
  factor: float = 1.0,
) -> optax.GradientTransformation:
  for needed in ('fn', 'learning_rate'):
    if needed not in component:
      raise ValueError(f'{field}: {dict(component)} lacks {needed!r}; give it')
  where = TRANSFORM if field == FIELD else field
  takes = resolve.signature(component['fn'], f'{where}.fn')
  try:
    takes.bind_partial(learning_rate=component['learning_rate'])
  except TypeError as e:
    raise ValueError(
      f'{where}.fn={component["fn"]!r}: takes no learning_rate, expected an '
      "optimizer such as 'optax:adamw'; it accepts: "
      f'{", ".join(takes.parameters)}'
    ) from e
  rate = _learning_rate(
    component['learning_rate'], f'{field}.learning_rate', named, warmup_steps
  )
  if callable(rate):
    followed = follow(rate)
    scaled = lambda step: factor * followed(step)
  else:
    scaled = factor * rate
  built = _build({**component, 'learning_rate': scaled}, where, named)
  if not isinstance(built, optax.GradientTransformation):
    raise ValueError(
      f'{where}.fn={component["fn"]!r}: gave a {type(built).__name__}, '
      'expected an optax.GradientTransformation (init, update)'
    )
  return built


def _learning_rate(
  rate: Any, field: str, named: Named, warmup_steps: int
) -> float | optax.Schedule:
  """The learning rate: a number, or a schedule if it changes."""
  if isinstance(rate, Mapping) and 'fn' in rate:
    schedule = _build(rate, field, named)
    try:
      first = float(schedule(0))
    except (TypeError, ValueError):
      first = math.nan
    if not (first >= 0 and math.isfinite(first)):
      raise ValueError(
        f'{field}={dict(rate)}: gave a {type(schedule).__name__} that starts '
        f'at {first}, expected a schedule: step -> learning rate'
      )
    if not warmup_steps:
      return schedule
    if first == 0:
      raise ValueError(
        f'{field}={dict(rate)}: starts at 0, so it has a warm-up of its own; '
        'expected config.optim.warmup_steps=0'
      )
    warmup = optax.linear_schedule(
      first / (warmup_steps + 1), first, warmup_steps
    )
    return optax.join_schedules([warmup, schedule], [warmup_steps])
  if not _is_number(rate) or rate <= 0:
    raise ValueError(
      f'{field}={rate!r}: expected a number more than 0, or a schedule: '
      "dict(fn='optax:cosine_decay_schedule', ...)"
    )
  if not warmup_steps:
    return rate
  # Step 0 already has a learning rate above 0; an update of 0 would waste a
  # batch.
  return optax.linear_schedule(rate / (warmup_steps + 1), rate, warmup_steps)


def _build(component: Mapping[str, Any], field: str, named: Named) -> Any:
  """The value of a component, whose arguments may be components too."""
  kwargs = {
    name: _argument(name, value, f'{field}.{name}', named)
    for name, value in component.items()
    if name != 'decay_on'
  }
  takes = resolve.signature(component['fn'], f'{field}.fn').parameters.keys()
  masks = {'mask', 'weight_decay_mask'} & takes
  if masks and {'weight_decay', 'weight_decay_rate'} & takes:
    kwargs = {masks.pop(): _decay_mask(component, field, named)} | kwargs
  elif 'decay_on' in component:
    raise ValueError(
      f'{_of_decay(field)}={component["decay_on"]!r}: {component["fn"]} takes '
      'no mask of weight decay; leave it out'
    )
  if 'muon_weight_dimension_numbers' in takes:
    kwargs = {'muon_weight_dimension_numbers': _muon_dimensions(named)} | kwargs
  try:
    return resolve.build(kwargs, field)
  except (TypeError, ValueError) as e:
    if str(e).startswith(field):
      raise
    raise ValueError(
      f'{field}: {component["fn"]} refuses its arguments: {_first_line(e)}'
      f'{_doubt(callable(kwargs.get("learning_rate")))}'
    ) from e


def _argument(name: str, value: Any, field: str, named: Named) -> Any:
  if isinstance(value, Mapping) and 'fn' in value:
    return _build(value, field, named)
  if 'dtype' in name and isinstance(value, str):
    try:
      return jnp.dtype(value)
    except TypeError as e:
      raise ValueError(
        f"{field}={value!r}: no dtype; expected 'bfloat16' or 'float32'"
      ) from e
  return value


def _of_decay(field: str) -> str:
  return f'{FIELD if field == TRANSFORM else field}.decay_on'


def _decay_mask(
  component: Mapping[str, Any],
  field: str,
  named: Named,
) -> Callable[[Tree], Tree]:
  """A function: parameters -> whether each decays."""
  if 'decay_on' in component:
    chosen = _matches(component['decay_on'], _of_decay(field), named)
  else:
    chosen = [name for name, spec in named.items() if spec.role.decays]
  decays = lambda path, _: base.path_name(path) in chosen
  return lambda tree: jax.tree_util.tree_map_with_path(decays, tree)


def _muon_dimensions(
  named: Named,
) -> Callable[[Tree], Tree]:
  """A function: parameters -> the matrix axes of each; Muon skips None."""

  def one(path, leaf):
    if not named[base.path_name(path)].role.matrix:
      return None
    # Weights [.., out, in] multiply from the left.
    return optax.contrib.MuonDimensionNumbers(
      reduction_axis=leaf.ndim - 1, output_axis=leaf.ndim - 2
    )

  return lambda tree: jax.tree_util.tree_map_with_path(one, tree)


def _check_by_shapes(
  optimizer: optax.GradientTransformation,
  params: Tree,
  fn: str,
  *,
  has_schedule: bool,
) -> None:
  """Raises ValueError unless `optimizer` updates such parameters."""
  shapes = jax.tree.map(_shape, params)
  try:
    before = jax.eval_shape(optimizer.init, shapes)
    updates, after = jax.eval_shape(optimizer.update, shapes, before, shapes)
    # Updates are cast when they are applied, so their dtype is free.
    updates = jax.tree.map(
      lambda x, p: jax.ShapeDtypeStruct(x.shape, p.dtype), updates, shapes
    )
  except (TypeError, ValueError) as e:
    raise ValueError(
      f'{FIELD}: {fn} fails on the shapes of the parameters: {_first_line(e)}; '
      'expected a transform that needs only gradients and parameters'
      f'{_doubt(has_schedule)}'
    ) from e
  for what, got, expected in (
    ('updates', updates, shapes),
    ('state', jax.tree.map(_shape, after), jax.tree.map(_shape, before)),
  ):
    if got != expected:
      raise ValueError(
        f'{FIELD}: {fn} gives {what} of other shapes: {_shapes(got)}, expected '
        f'{_shapes(expected)}'
      )


def _shapes(tree: Tree) -> str:
  leaves = jax.tree.leaves(tree)
  return ', '.join(f'{x.dtype}{x.shape}' for x in leaves[:4]) + ', ...'


def _doubt(has_schedule: bool) -> str:
  """A hint: a few transforms accept only a number as learning rate."""
  if not has_schedule:
    return ''
  return (
    '; if it takes no schedule, give learning_rate a number, and '
    'config.optim.warmup_steps=0'
  )


def _first_line(e: Exception) -> str:
  return f'{type(e).__name__}: {str(e).strip()}'.splitlines()[0]
