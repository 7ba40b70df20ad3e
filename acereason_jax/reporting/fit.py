"""Fits a page into its bytes: curves and tables first, then rollouts.

What is left is for rollouts with texts, which samples.py thins. Their
explanations take bytes too, but are only known when the judges have given them;
so if a page becomes too large, fewer rollouts are chosen again.
"""

from collections.abc import Mapping, Sequence

from acereason_jax.reporting import page as page_lib
from acereason_jax.reporting import samples as samples_lib
from acereason_jax.reporting import values, why

NO_SAMPLES = values.Samples((), 0, 0, '', {})
# Share of the room that samples get at first, by what is left for explanations,
# and what is taken off when a page is too large.
_AT_FIRST, _LESS = 0.9, 0.9
_TRIES = 5


def page(
  report: values.Report,
  folder: str,
  *,
  steps: range,
  most_bytes: int,
  seconds: float,
  watch: bool,
) -> str:
  """The page of a report that has no samples yet, with as many as fit.

  Args:
    report: all except the samples.
    folder: folder of the run.
    steps: steps of the samples.
    most_bytes: bytes of the page.
    seconds: seconds for the judges to explain verdicts.
    watch: whether the page asks its server for new steps.

  Raises:
    ValueError: one line; not even a page without samples fits.
  """
  bare = len(page_lib.to_html(report, watch=watch).encode())
  if bare > most_bytes:
    raise ValueError(
      f'--max_mb={most_bytes / 1e6:g}: without a rollout the page takes '
      f'{bare / 1e6:.1f} MB already; give more, or fewer --steps'
    )
  known, room = {}, (most_bytes - bare) * _AT_FIRST
  index = samples_lib.read_index(folder, ends_of(steps))
  for _ in range(_TRIES):
    chosen = samples_lib.choose(
      folder,
      most_bytes=round(room),
      size=page_lib.sample_bytes,
      steps=ends_of(steps),
      index=index,
    )
    if not known:
      known = why.explain(chosen.samples, folder, seconds)
    chosen = chosen._replace(samples=_explained(chosen.samples, known))
    html = page_lib.to_html(report._replace(samples=chosen), watch=watch)
    size = len(html.encode())
    if size <= most_bytes:
      return html
    room *= _LESS * (most_bytes - bare) / (size - bare)
  return page_lib.to_html(report, watch=watch)


def ends_of(steps: range) -> tuple[int, int]:
  """The first and the last step."""
  return steps[0], steps[-1]


def _explained(
  found: Sequence[values.Sample], known: Mapping[tuple, values.Why]
) -> list[values.Sample]:
  """The samples with what the judges said; others keep what they have."""
  return [
    s._replace(why=known.get(samples_lib.place_of(s), s.why)) for s in found
  ]
