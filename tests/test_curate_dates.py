"""Dates of problems in the forms that files write."""

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acereason_jax.data.curate import code_text, dates, values


@pytest.mark.parametrize(
  ('text', 'known'),
  [
    ('2024-08-02', '2024-08-02'),
    ('2024-08-02T10:00:00Z', '2024-08-02'),
    ('2024-08-02 10:00:00', '2024-08-02'),
    (' 2024/8/2', '2024-08-02'),
    ('2024.8.2', '2024-08-02'),
    ('20240802', '2024-08-02'),
    ('2024-08', '2024-08'),
    ('2024', '2024'),
    ('Aug 2, 2024', '2024-08-02'),
    ('August 2024', '2024-08'),
    ('2 August 2024', '2024-08-02'),
    ('02-Aug-2024', '2024-08-02'),
    ('02/08/2024', '2024'),
    ('1722556800', '2024-08-02'),
    ('2024-13-01', ''),
    ('2023-02-30', ''),
    ('202408021', ''),
    ('yesterday', ''),
    ('5', ''),
    ('', ''),
  ],
)
def test_known_dates(text, known):
  assert dates.known(text) == known
  assert dates.known(known) == known


@given(st.dates(datetime.date(1900, 1, 1), datetime.date(2099, 12, 31)))
def test_each_day_is_before_the_last_one(day):
  text = day.isoformat()
  assert dates.known(text) == dates.last_day(text) == text
  assert text <= dates.last_day(text[:7]) <= dates.last_day(text[:4])


@given(st.text(max_size=60))
def test_any_text_is_a_date_or_none(text):
  known = dates.known(text)
  assert dates.known(known) == known


@pytest.mark.parametrize(
  ('date', 'kind'),
  [
    ('2024-08-01', 'kept'),
    ('2024-07', 'kept'),
    ('2023', 'kept'),
    # It may be of the time after.
    ('2024-08', 'dropped'),
    ('2024', 'dropped'),
    ('2025', 'dropped'),
    ('20240902', 'dropped'),
    ('Sep 2024', 'dropped'),
  ],
)
def test_released_by_a_part_of_a_date(date, kind):
  row = values.Row('a', 'x', '1', date=date)
  assert code_text.released().each(row).kind == kind
