"""Late verdicts are the judge's failure, and nothing waits for them."""

import concurrent.futures

from acereason_jax import types
from acereason_jax.run import collect


def test_a_late_verdict_is_a_timeout_and_is_cancelled():
  done, late, running = (concurrent.futures.Future() for _ in range(3))
  done.set_result(types.Verdict('right', '', 0.1))
  running.set_running_or_notify_cancel()
  futures = {3: done, 5: late, 9: running}
  found = collect._verdicts(futures, dict.fromkeys(futures, 0.01))
  assert [found[i].status for i in (3, 5, 9)] == ['right', 'timeout', 'timeout']
  assert not found[5].judged and '0.01 s after' in found[5].detail
  assert late.cancelled() and not running.cancelled()


def test_nothing_to_wait_for():
  assert collect._verdicts({}, {}) == {}
