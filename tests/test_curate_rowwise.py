"""Rules of single rows in processes: how they end."""

import threading
import time

import pytest

from acereason_jax.data.curate import plan, rowwise, values

ROWS = 1024


def endless(row):
  """A step of which the second half of the rows never ends."""
  while int(row.id) >= ROWS // 2:
    time.sleep(1)
  return values.kept(row)


def rows_of_two_processes():
  rule = plan.Rule('endless', plan.DROP, values.Step('endless', endless))
  rows = [values.Row(f'{i}', 'What?', '1') for i in range(ROWS)]
  return rowwise.run([rule], rows, 2)


@pytest.mark.parametrize('ends', ['closed', 'interrupted'])
def test_rows_that_are_begun_are_not_waited_for(ends):
  parts = rows_of_two_processes()
  done, _ = next(parts)
  assert all(row.alive for row in done)
  # The row that never ends is begun.
  next(parts)
  time.sleep(0.5)

  def end():
    if ends == 'closed':
      parts.close()
    else:
      with pytest.raises(KeyboardInterrupt):
        parts.throw(KeyboardInterrupt)

  ending = threading.Thread(target=end, daemon=True)
  ending.start()
  ending.join(60)
  assert not ending.is_alive()
