"""Draws the pictures of README.md from files that runs wrote.

    pip install matplotlib==3.11.2
    python docs/pictures/draw.py

`quickstart.jsonl` is metrics.jsonl of the quick start with seed 0, and
`quickstart.json` its summary.json. `slots.jsonl` is the timeline of `generate`
on the model that it exported. README.md says by which commands they were made.
The same files give the same bytes.
"""

import json
import pathlib

import matplotlib

matplotlib.use('svg')

from matplotlib import pyplot

from acereason_jax import timeline
from acereason_jax.rollout import trace

HERE = pathlib.Path(__file__).parent
# Paul Tol's bright scheme, which the colour-blind tell apart.
BLUE, RED, GREEN, GREY = '#4477aa', '#ee6677', '#228833', '#777777'
STYLE = {
  'svg.fonttype': 'none',  # Text stays text.
  'svg.hashsalt': 'acereason_jax',  # Ids are the same each time.
  'font.size': 9,
  'axes.spines.top': False,
  'axes.spines.right': False,
  'axes.grid': True,
  'grid.color': '#dddddd',
}


def curve(metrics: list[dict], summary: dict) -> pyplot.Figure:
  """Pass rate of each batch and of the held-out sums; entropy and mismatch."""
  steps = [m['step'] for m in metrics]
  figure, (left, right) = pyplot.subplots(
    1, 2, figsize=(7.5, 2.6), width_ratios=(3, 2), layout='constrained'
  )
  left.plot(
    steps, [100 * m['pass_rate'] for m in metrics], color=BLUE, marker='.'
  )
  ends = 0, summary['steps']
  held_out = summary['heldout_before'], summary['heldout_after']
  rates = [100 * rate for rate in held_out]
  left.plot(ends, rates, 'o--', color=RED)
  for step, rate in zip(ends, rates):
    left.annotate(f'{rate:.1f}%', (step, rate), (0, 6), color=RED, **LABEL)
  left.annotate('held-out sums', (15, 48), (0, -14), color=RED, **LABEL)
  left.annotate('training batches', (11, 88), (-30, -4), color=BLUE, **LABEL)
  left.set(
    xlabel='step',
    ylabel='right answers, %',
    ylim=(0, 100),
    xticks=range(0, steps[-1] + 1, 3),
  )
  right.plot(steps, [m['entropy'] for m in metrics], color=GREEN, marker='.')
  right.set(
    xlabel='step',
    ylabel='entropy per token, nats',
    ylim=(0, None),
    xticks=range(0, steps[-1] + 1, 3),
  )
  return figure


LABEL = dict(textcoords='offset points', ha='center')


def slots(header: dict, events: list[trace.Event]) -> pyplot.Figure:
  """A bar for each stay of a rollout in a slot, in decode steps."""
  figure, axes = pyplot.subplots(figsize=(7.5, 2.4), layout='constrained')
  for reason in sorted({event.reason for event in events}):
    stays = [event for event in events if event.reason == reason]
    axes.barh(
      [event.slot for event in stays],
      [event.ended - event.began for event in stays],
      left=[event.began for event in stays],
      height=0.9,
      color=timeline.COLOURS[reason],
      edgecolor='white',
      linewidth=0.5,
      label=f'ended by {reason}',
    )
  axes.set(
    xlabel='decode step',
    ylabel='slot',
    xlim=(0, None),
    yticks=range(header['slots']),
  )
  axes.grid(False)
  axes.invert_yaxis()
  figure.legend(loc='outside upper right', ncols=3, frameon=False)
  figure.suptitle(
    f'{len(events)} rollouts in {header["slots"]} slots, '
    f'{header["occupancy"]:.0%} of them busy',
    x=0.01,
    ha='left',
    fontsize=9,
  )
  return figure


def main() -> None:
  lines = (HERE / 'quickstart.jsonl').read_text().splitlines()
  summary = json.loads((HERE / 'quickstart.json').read_text())
  with pyplot.rc_context(STYLE):
    pictures = {
      'curve.svg': curve([json.loads(line) for line in lines], summary),
      'slots.svg': slots(*trace.read_events(HERE / 'slots.jsonl')),
    }
    for name, figure in pictures.items():
      # A date would differ each time.
      figure.savefig(HERE / name, metadata={'Date': None})


if __name__ == '__main__':
  main()
