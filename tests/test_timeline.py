import json
import os
import re
from xml.etree import ElementTree

import pytest

from acereason_jax import timeline
from acereason_jax.rollout import trace
from acereason_jax.rollout.trace import Event

HOSTILE = '</title></script><script>\x1b[2J\x00"\'&\u202e\n]]>\ud800'
EVENTS = [
  Event(0, 'a', 0, 0, 8, 'stop'),
  Event(1, 'a', 1, 0, 20, 'length'),
  Event(0, 'b', 0, 8, 8, 'error'),
  Event(0, 'b', 1, 16, 19, 'preempted'),
]
SVG = '{http://www.w3.org/2000/svg}'


def bars(page):
  """[(class, x, y, width, title)] of the bars in a page."""
  svg = re.search(r'<svg.*</svg>', page, re.DOTALL)[0]
  found = []
  for rect in ElementTree.fromstring(svg).iter(f'{SVG}rect'):
    numbers = (float(rect.get(name)) for name in ('x', 'y', 'width'))
    found.append((rect.get('class'), *numbers, rect.find(f'{SVG}title').text))
  return found


def refused(capsys, path, match):
  with pytest.raises(SystemExit) as e:
    timeline.main(['', str(path), str(path.parent / 'out.html')])
  said = e.value.code
  assert said.startswith('error: ') and said.isprintable()
  assert match in said


def test_events_come_back_as_they_were(tmp_path):
  path = tmp_path / 'events.jsonl'
  events = [*EVENTS, Event(2, HOSTILE, 3, 1, 2, 'stop')]
  trace.write_events(path, events, slots=3, occupancy=0.5)
  assert path.read_bytes().isascii()
  assert len(path.read_text().splitlines()) == 6
  header, found = trace.read_events(path)
  assert header == dict(slots=3, occupancy=0.5)
  assert found == events
  trace.write_events(path, [])
  assert trace.read_events(path) == ({}, [])


def test_a_bar_a_stay():
  page = timeline.to_html(dict(slots=2, occupancy=0.123456), EVENTS)
  assert 'slots 2 &middot; occupancy 0.1235' in page
  for reason in timeline.COLOURS:
    assert f'{reason} (1)' in page
  a, b, c, d = bars(page)
  assert [x[0] for x in (a, b, c, d)] == [
    'stop',
    'length',
    'error',
    'preempted',
  ]
  step = b[3] / 20
  assert a[3] == pytest.approx(8 * step) and d[3] == pytest.approx(3 * step)
  assert d[1] - a[1] == pytest.approx(16 * step)
  assert a[2] == c[2] == d[2] == b[2] - timeline.ROW
  # No token, and yet to be seen.
  assert c[3] == 1.0
  assert a[4] == 'a rollout 0: 8 steps, from step 0, stop'


def test_the_page_is_one_file_without_scripts():
  page = timeline.to_html(
    {HOSTILE: HOSTILE}, [Event(0, HOSTILE, 0, 0, 1, 'stop')]
  )
  assert '<script' not in page and '</script' not in page
  assert all(c.isprintable() or c == '\n' for c in page)
  assert page.count('</title>') == 2
  assert not re.search(r'\b(src=|href|url\(|@import)', page)
  assert page.count('http') == 2  # http-equiv and the name of SVG.
  ((*_, title),) = bars(page)
  assert title.startswith('</title></script><script>\\x1b[2J\\x00"\'&\\u202e')


def test_nothing_happened():
  assert bars(timeline.to_html({}, [])) == []


def test_ten_thousand_stays(tmp_path):
  events = [
    Event(i % 64, f'prompt-{i // 16}', i % 16, i, i + 500, 'stop')
    for i in range(10_000)
  ]
  path, page = tmp_path / 'events.jsonl', tmp_path / 'page.html'
  trace.write_events(path, events, slots=64)
  assert timeline.main(['', str(path), str(page)]) == 0
  found = bars(page.read_text())
  assert len(found) == 10_000
  assert max(x + width for _, x, _, width, _ in found) < timeline.WIDE + 100
  assert page.stat().st_size < 4e6


@pytest.mark.parametrize(
  'change',
  [
    dict(slot=-1),
    dict(slot=1 << 30),
    dict(slot=0.5),
    dict(index='0'),
    dict(began=9, ended=8),
    dict(ended=1 << 60),
    dict(prompt_id=None),
    dict(reason='"><script>\x1b'),
    dict(reason=['stop']),
    dict(more=1),
  ],
)
def test_an_event_that_is_none(tmp_path, capsys, change):
  path = tmp_path / 'events.jsonl'
  lines = [{}, EVENTS[0]._asdict(), EVENTS[0]._asdict() | change]
  path.write_text(''.join(json.dumps(line) + '\n' for line in lines))
  refused(capsys, path, f'{path}:3: ')


@pytest.mark.parametrize(
  'text, message',
  [
    ('', 'holds no header'),
    ('{}\n{"slot": 0', 'events.jsonl:2: not one JSON object'),
    ('[]\n', 'events.jsonl:1: expected an object'),
    ('{}\n' + '[' * 100_000, 'events.jsonl:2: not one JSON object'),
    ('\x1b[2J', 'events.jsonl:1: not one JSON object'),
    ('{}\n' + ' ' * (2 << 20), 'events.jsonl:2: longer than'),
  ],
)
def test_a_file_that_is_no_timeline(tmp_path, capsys, text, message):
  path = tmp_path / 'events.jsonl'
  path.write_text(text)
  refused(capsys, path, message)


def test_a_pipe_is_no_timeline(tmp_path, capsys):
  os.mkfifo(tmp_path / 'pipe')
  refused(capsys, tmp_path / 'pipe', 'a pipe; expected a file')


def test_a_missing_file_and_missing_arguments(tmp_path, capsys):
  refused(capsys, tmp_path / 'none\x1b.jsonl', 'none')
  with pytest.raises(SystemExit, match='2'):
    timeline.main(['', 'one'])
  said = capsys.readouterr().err
  assert 'got 1 arguments without a flag, expected EVENTS PAGE' in said
