"""How many examples a test of a property tries, and rows checked in bulk.

    python -m pytest -q -m hypothesis --hypothesis-profile=nightly

tries sixteen times as many as the default suite does, and new ones each time.
"""

from collections.abc import Callable, Iterable
from typing import Any

import hypothesis

# A machine that is busy or stands still makes no example wrong.
PATIENT = dict(
  deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
# Examples per hundred, and the number for a test that sets none. The default
# suite tries the same ones each time, so that it fails for what was changed.
hypothesis.settings.register_profile(
  'fast', max_examples=25, derandomize=True, **PATIENT
)
# Where the variable CI is set, hypothesis draws the same ones by default.
hypothesis.settings.register_profile(
  'nightly', max_examples=400, derandomize=False, print_blob=True, **PATIENT
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
