"""Draws which rollout was in which slot, as one page without other files.

    python -m acereason_jax.timeline rollouts.jsonl.timeline.jsonl out.html

Ids are strangers' text: unprintable characters are escaped first, then HTML.
"""

import html
import re
from collections.abc import Iterator, Sequence
from typing import Any

from acereason_jax import outfile
from acereason_jax.console import command_line, exits, terminal
from acereason_jax.rollout import trace

FLAGS = command_line.Flags()
KIND = outfile.Kind(
  'a page of slots',
  re.compile(rb'<!DOCTYPE html>[\s\S]*<title>Timeline of slots</title>').match,
)
# The colour-blind can distinguish these too (Paul Tol's bright scheme).
COLOURS = {
  'stop': '#4477aa',
  'length': '#ccbb44',
  'error': '#ee6677',
  trace.PREEMPTED: '#aa3377',
}
# Pixels: height of a slot, space above the bars, space beside them, and least
# and greatest width.
ROW, TOP, LEFT = 14, 20, 60
NARROW, WIDE, A_STAY = 1000, 20_000, 20
_MAX_CHARS = 100
_PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; style-src 'unsafe-inline'">
<title>Timeline of slots</title>
<style>
body {{ font: 14px sans-serif; margin: 16px; }}
div {{ overflow-x: auto; }}
text {{ font: 10px sans-serif; }}
line {{ stroke: #ddd; }}
rect {{ stroke: white; stroke-width: 0.5; }}
{styles}
</style>
<p>{head}</p>
<p>{legend}</p>
<div>
{svg}
</div>
</html>
"""


def to_html(header: dict[str, Any], events: Sequence[trace.Event]) -> str:
  """A page: one row per slot, decode steps to the right, one bar per stay."""
  styles = [f'.{name} {{ fill: {c}; }}' for name, c in COLOURS.items()]
  legend = [
    f'<span style="color:{c}">&#9632;</span> {name} '
    f'({sum(e.reason == name for e in events)})'
    for name, c in COLOURS.items()
  ]
  head = [f'{_safe(name)} {_safe(value)}' for name, value in header.items()]
  return _PAGE.format(
    styles='\n'.join(styles),
    head=' &middot; '.join(head),
    legend=' &emsp; '.join(legend),
    svg='\n'.join(_svg(events)),
  )


def _svg(events: Sequence[trace.Event]) -> Iterator[str]:
  slots = max((e.slot for e in events), default=0) + 1
  steps = max((e.ended for e in events), default=0) or 1
  across = min(max(NARROW, A_STAY * len(events) // slots), WIDE)
  height = TOP + ROW * slots
  scale = across / steps
  yield (
    f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + across + 20}" '
    f'height="{height}" role="img" aria-label="decode steps by slot">'
  )
  for i in range(across // 100 + 1):
    x = LEFT + 100 * i
    yield f'<line x1="{x}" x2="{x}" y1="{TOP}" y2="{height}"/>'
    yield f'<text x="{x}" y="12">{100 * i / scale:.0f}</text>'
  for slot in range(slots):
    yield f'<text x="0" y="{TOP + ROW * slot + 10}">slot {slot}</text>'
  for e in events:
    # A stay that gave no token stays visible.
    width = max((e.ended - e.began) * scale, 1.0)
    yield (
      f'<rect class="{e.reason}" x="{LEFT + e.began * scale:.1f}" '
      f'y="{TOP + ROW * e.slot}" width="{width:.1f}" height="{ROW - 2}">'
      f'<title>{_safe(e.prompt_id)} rollout {e.index}: '
      f'{e.ended - e.began} steps, from step {e.began}, {e.reason}'
      '</title></rect>'
    )
  yield '</svg>'


def _safe(value: Any) -> str:
  text = f'{value:.4g}' if isinstance(value, float) else str(value)
  return html.escape(terminal.printable(terminal.cut(text, _MAX_CHARS)))


def main(argv: Sequence[str]) -> int:
  terminal.use_stdout()
  args = command_line.parse(FLAGS, argv, __doc__, places=('events', 'page'))
  with exits.one_line_for(ValueError, OSError):
    outfile.check('page', args.page, KIND)
    header, events = trace.read_events(args.events)
    with outfile.opened(args.page) as file:
      file.write(to_html(header, events))
  terminal.say(f'{terminal.printable(args.page)}: {len(events)} stays in slots')
  return 0


if __name__ == '__main__':
  command_line.run(main)
