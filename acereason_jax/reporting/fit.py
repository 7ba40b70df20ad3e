"""Fits a page into its bytes: curves and tables first, then rollouts.

What is left is for rollouts with texts, which samples.py thins. Their
explanations take bytes too, but are only known when the judges have given them;
so if a page becomes too large, fewer of the explained rollouts stay.
"""

from collections.abc import Callable

from acereason_jax.reporting import page as page_lib
from acereason_jax.reporting import samples as samples_lib
from acereason_jax.reporting import values

NO_SAMPLES = values.Samples((), 0, 0, '', {})
# Share of the room that rollouts get at first: explanations get the rest. A
# page that is too large gets so much less than what would just fit.
_AT_FIRST, _LESS = 0.9, 0.95
_TRIES = 5


def page(
  report: values.Report,
  folder: str,
  *,
  steps: range,
  most_bytes: int,
  explain: Callable[[values.Samples], values.Samples],
  watch: bool,
) -> str:
  """The page of a report that has no samples yet, with as many as fit.

  Args:
    report: all except the samples.
    folder: folder of the run.
    steps: steps of the samples.
    most_bytes: bytes of the page.
    explain: adds what the judges say.
    watch: whether the page asks its server for new steps.

  Raises:
    ValueError, OSError: one line; not even a page without samples fits.
  """
  made = lambda chosen: page_lib.to_html(
    report._replace(samples=chosen), watch=watch
  )
  bare = len(made(NO_SAMPLES).encode())
  if bare > most_bytes:
    raise ValueError(
      f'--max_mb={most_bytes / 1e6:g}: without a rollout the page takes '
      f'{bare / 1e6:.1f} MB already; give more, or fewer --steps'
    )
  room = round((most_bytes - bare) * _AT_FIRST)
  ends = steps[0], steps[-1]
  index = samples_lib.read_index(folder, ends)
  known = None
  for _ in range(_TRIES):
    chosen = samples_lib.choose(
      folder,
      most_bytes=room,
      size=page_lib.sample_bytes,
      steps=ends,
      index=index,
    )
    if known is None:
      said = explain(chosen).samples
      known = {samples_lib.place_of(s): s.why for s in said}
    kept = [
      s._replace(why=known.get(samples_lib.place_of(s), s.why))
      for s in chosen.samples
    ]
    html = made(chosen._replace(samples=kept))
    size = len(html.encode())
    if size <= most_bytes:
      return html
    room = round(room * _LESS * (most_bytes - bare) / (size - bare))
  return made(chosen._replace(samples=(), note='No rollout fits.'))
