"""How many examples a test of a property tries, and rows checked in bulk.

    python -m pytest -q -m hypothesis --hypothesis-profile=nightly

tries sixteen times as many as the default suite does.
"""

from collections.abc import Callable, Iterable
from typing import Any

import hypothesis

# Examples per hundred, and the number for a test that sets none. The default
# suite tries the same each time; the nightly run looks for others. No test
# fails because the machine is busy.
_PATIENT = dict(
  deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.register_profile(
  'fast', max_examples=25, derandomize=True, **_PATIENT
)
hypothesis.settings.register_profile(
  'nightly', max_examples=400, derandomize=False, **_PATIENT
)
hypothesis.settings.load_profile('fast')


def tried(times: int, **kwargs: Any) -> hypothesis.settings:
  """A quarter of `times` by default, four times `times` in the nightly run."""
  share = hypothesis.settings.default.max_examples / 100
  return hypothesis.settings(max_examples=round(times * share), **kwargs)


def each(rows: Iterable[Any], check: Callable[..., None]) -> None:
  """Calls `check(*row)` for every row; an error names all that failed."""
  failed = []
  for row in rows:
    try:
      check(*row)
    except Exception as e:  # noqa: BLE001
      failed.append(f'{row!r:.300}: {type(e).__name__}: {e}')
  assert not failed, '\n'.join([f'{len(failed)} rows failed', *failed])
