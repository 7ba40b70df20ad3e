"""Proposals of a search, for JSON and for a terminal."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from acereason_jax import machines
from acereason_jax.evaluation import shown
from acereason_jax.planning import record, search, table, values


def records(
  found: Sequence[search.Found],
  hardware: machines.Hardware,
  assumed: values.Assumed,
) -> list[dict[str, Any]]:
  """Proposals as JSON holds them, the fastest first."""
  return [
    dict(
      fields=dict(each.knob.fields),
      why=each.knob.why,
      **{
        name: value
        for name, value in record.of(
          each.planned, hardware, assumed, {}
        ).items()
        if name in ('fits', 'hours', 'chip_hours', 'cost', 'stages')
      },
    )
    for each in found
  ]


def told(proposals: Sequence[Mapping[str, Any]]) -> Iterator[str]:
  """The lines about proposals, for 80 columns."""
  if not proposals:
    yield 'Search: nothing fits these machines.'
    return
  yield 'Search: hours of the whole run, simulated, and what to set.'
  for each in proposals:
    fields = ' '.join(
      f'--{name}={value}' for name, value in each['fields'].items()
    )
    text = f'{table.hours(each["hours"])} hours: {fields or "as it is"}'
    yield from shown.wrapped(text, indent=2)
