"""The last rollouts of a batch, and the rows of `verify` for them; no jax.

Once each shard has at most one rollout for W = speculate + 1 of its slots, each
has a group of W rows. Before that a row is a slot.
"""

import numpy as np

from acereason_jax.rollout import engine_sizes, exchange, schedule

# What fills a history. No token is negative.
NOTHING = -1


def groups(plan: schedule.Schedule) -> np.ndarray | None:
  """The slot of each group, -1 for none; None while too many are live."""
  sizes = plan.sizes
  room = sizes.slots // sizes.shards // (sizes.speculate + 1)
  slots = []
  for shard in plan.shards:
    used = [b for b, x in enumerate(shard.slots, shard.first) if x is not None]
    if len(used) > room:
      return None
    slots += used + [-1] * (room - len(used))
  return np.array(slots)


def of_groups(
  plan: schedule.Schedule, slots_R: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """`Schedule.control` of each row's slot, and history [R, L].

  A history holds the prompt and the response of a group's rollout, int32.
  """
  sizes = plan.sizes
  history_RL = np.full(history_shape(sizes), NOTHING, np.int32)
  live_B = [live for shard in plan.shards for live in shard.slots]
  for row, slot in enumerate(slots_R):
    if slot >= 0:
      live = live_B[slot]
      parts = (part[0] for part in live.parts)
      text = np.concatenate([live.request.prompt.tokens, *parts])
      history_RL[row, -len(text) :] = text
  slot_B = np.repeat(slots_R, sizes.speculate + 1)
  rows = lambda x: np.where(slot_B[:, None] < 0, 0, x[slot_B])
  return *map(rows, plan.control()), history_RL


def history_shape(sizes: engine_sizes.Sizes) -> tuple[int, int]:
  rows = sizes.slots // (sizes.speculate + 1)
  return rows, sizes.window + sizes.max_tokens


def whole(drawn: exchange.Drawn, slots_R: np.ndarray) -> exchange.Drawn:
  """The result of groups as that of all slots."""
  width = len(drawn.count_B) // len(slots_R)

  def one(x_B: np.ndarray) -> np.ndarray:
    if not x_B.ndim:
      return x_B
    all_B = np.zeros_like(x_B)
    all_B[slots_R[slots_R >= 0]] = x_B[::width][slots_R >= 0]
    return all_B

  return exchange.Drawn(*map(one, drawn))


def saved_steps(drawn: exchange.Drawn) -> int:
  """Steps that the call would have taken without drafts, less those it took."""
  # A step whose logits are not finite gives no token.
  alone_B = drawn.count_B + (drawn.ended_B == exchange.ERROR)
  return int(alone_B.max() - drawn.steps)


def draft_steps(drawn: exchange.Drawn, slots_R: np.ndarray) -> int:
  """Slot steps of the call in rows that computed drafts, of groups in use."""
  width = len(drawn.count_B) // len(slots_R)
  took_R = np.minimum(drawn.count_B[::width], drawn.steps)
  return (width - 1) * int(took_R[slots_R >= 0].sum())
