"""The page of a report as a file: what is in it, without a browser."""

import base64
import collections
import gzip
import hashlib
import html.parser
import json
import math
import re

import hostile_texts
import pytest
import reports

from acereason_jax.console import terminal
from acereason_jax.reporting import page, pictures, static, values

# Of dist/uPlot.iife.min.js, dist/uPlot.min.css and LICENSE of uPlot 1.6.32 as
# npm has it.
VENDORED = {
  'uplot.min.js': (
    '19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f'
  ),
  'uplot.min.css': (
    'df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04'
  ),
  'LICENSE.uPlot': (
    '8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd'
  ),
}


class Parsed(html.parser.HTMLParser):
  """Elements in order, with attributes, and the text of each script."""

  def __init__(self, text):
    super().__init__()
    self.tags, self.scripts, self.styles, self.texts = [], [], [], []
    self._open = ''
    self.feed(text)

  def handle_starttag(self, tag, attrs):
    self._open = tag
    self.tags.append((tag, dict(attrs)))
    if tag == 'script':
      self.scripts.append((dict(attrs), ''))

  def handle_endtag(self, tag):
    self._open = ''

  def handle_data(self, data):
    if self._open == 'script':
      attributes, before = self.scripts[-1]
      self.scripts[-1] = attributes, before + data
    elif self._open == 'style':
      self.styles.append(data)
    else:
      self.texts.append(data)


def blocks(parsed):
  return {
    attributes['id']: gzip.decompress(base64.b64decode(text, validate=True))
    for attributes, text in parsed.scripts
    if attributes.get('type') == 'text/plain'
  }


def policy_of(parsed):
  (found,) = [a['content'] for t, a in parsed.tags if 'http-equiv' in a]
  return dict(rule.split(' ', 1) for rule in found.split('; '))


def hashed(text):
  return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


PAYLOADS = hostile_texts.FOR_PAGES
SMALL = reports.report(steps=9, groups=3, tokens=60)


@pytest.mark.parametrize('watch', [False, True])
def test_only_what_the_policy_names_runs(watch):
  parsed = Parsed(page.to_html(SMALL, watch=watch))
  policy = policy_of(parsed)
  run = [text for a, text in parsed.scripts if 'type' not in a]
  assert policy.pop('script-src').split() == [
    f"'sha256-{hashed(text)}'" for text in run
  ]
  (style,) = parsed.styles
  assert policy.pop('style-src') == f"'sha256-{hashed(style)}'"
  asks = {'connect-src': "'self'"} if watch else {}
  assert (
    policy
    == {
      'default-src': "'none'",
      'img-src': 'data:',
      'base-uri': "'none'",
      'form-action': "'none'",
    }
    | asks
  )
  (body,) = [a for t, a in parsed.tags if t == 'body']
  assert body == ({'data-watch': '1'} if watch else {})


def test_nothing_comes_from_elsewhere_and_no_handler_is_in_an_attribute():
  parsed = Parsed(page.to_html(SMALL))
  for tag, attributes in parsed.tags:
    for name, value in attributes.items():
      assert not name.startswith('on') and name not in ('style', 'src'), tag
      if name == 'href':
        assert value.startswith('#') or value == 'data:,', value


def test_the_same_report_is_the_same_page():
  again = reports.report(steps=9, groups=3, tokens=60)
  assert page.to_html(SMALL) == page.to_html(again)


def unpacked(data):
  """A rollout's block, read as its docstring says, in Python."""
  size = int.from_bytes(data[:4], 'little')
  head = json.loads(data[4 : 4 + size])
  count, rest = head['tokens'], data[4 + size :]
  columns = [rest[i : i + count] for i in range(0, len(rest), count or 1)]
  lengths = [
    low + (high << 8) + (top << 16) for low, high, top in zip(*columns[:3])
  ]
  return head, lengths, dict(zip(head['codes'], map(list, columns[3:])))


def test_the_blocks_hold_the_report():
  found = blocks(Parsed(page.to_html(SMALL)))
  index = json.loads(found.pop('index'))
  assert len(found) == len(SMALL.samples.samples) == len(index['rollouts'])
  for i, sample in enumerate(SMALL.samples.samples):
    row = dict(index['rollouts'][i])
    read = dict(sample.why.lines).get('extracted')
    assert row.pop('extracted') == read
    assert row == sample.row
    head, lengths, codes = unpacked(found[f'rollout-{i}'])
    assert head['text'] == sample.text and head['question'] == sample.question
    assert head['answer'] == sample.answer
    assert head['why']['command'] == sample.why.command
    assert lengths == sample.characters
    known = ('surprise', 'entropy', 'mismatch')
    assert codes == {
      name: getattr(sample, name)
      for name in known
      if getattr(sample, name) is not None
    }
  for run, read in zip(SMALL.curves, index['curves'], strict=True):
    assert read['steps'] == run.steps
    for name in ('hours', 'tokens'):
      assert read[name] == pytest.approx(getattr(run, name), rel=1e-8)
    for one, got in zip(run.series, read['series'], strict=True):
      assert got['name'] == one.name and got['group'] == one.group
      for value, shown in zip(one.values, got['values'], strict=True):
        assert (value is None) == (shown is None)
        assert value is None or shown == pytest.approx(value, rel=1e-4)


def test_characters_are_those_of_javascript():
  text = 'a\U0001f600b\U0001f600\U0001f600\u4e2d\ud800'
  sample = SMALL.samples.samples[0]._replace(
    text=text, characters=[2, 0, 3, 1, 1], surprise=[1, 2, 3, 4, 5],
    entropy=None, mismatch=None,
  )  # fmt: skip
  _, lengths, codes = unpacked(page._packed(sample))
  # A smiley is two of them.
  assert lengths == [3, 0, 5, 1, 1] and codes == {'surprise': [1, 2, 3, 4, 5]}


def test_a_token_of_many_characters():
  sample = SMALL.samples.samples[0]._replace(
    text='x' * 70_001 + '\U0001f600' * 65_535, characters=[70_001, 65_535],
    surprise=[1, 2], entropy=None, mismatch=None,
  )  # fmt: skip
  _, lengths, codes = unpacked(page._packed(sample))
  assert lengths == [70_001, 131_070] and codes == {'surprise': [1, 2]}


def test_numbers_that_json_does_not_have():
  nan = float('nan')
  run = SMALL.curves[0]
  series = run.series[1]._replace(values=[nan, math.inf, -math.inf] * 3)
  sample = SMALL.samples.samples[0]
  odd = SMALL._replace(
    curves=[run._replace(series=[series])],
    samples=SMALL.samples._replace(
      samples=[sample._replace(row=dict(sample.row) | dict(reward=nan))]
    ),
  )
  index = json.loads(blocks(Parsed(page.to_html(odd)))['index'])
  assert index['curves'][0]['series'][0]['values'] == [None] * 9
  assert index['rollouts'][0]['reward'] is None


def test_what_a_rollout_takes_of_the_page():
  some = reports.samples(6, 3000, seed=5)
  without = SMALL._replace(samples=some._replace(samples=[]))
  grown = len(page.to_html(SMALL._replace(samples=some)))
  grown -= len(page.to_html(without))
  said = sum(map(page.sample_bytes, some.samples))
  assert said == pytest.approx(grown, rel=0.02)


def test_a_report_of_nothing():
  nothing = values.Samples([], 0, 0, '', reports.SCALES)
  empty = values.Report('', [], [], [], nothing, None, None, None, [], [], [])
  text = page.to_html(empty)
  index = json.loads(blocks(Parsed(text))['index'])
  assert index['rollouts'] == [] and index['prompts'] is None
  for reason in ('no ledger', 'no timeline', 'no clock', 'no config'):
    assert reason in text


def test_every_section_is_there_in_order():
  parsed = Parsed(page.to_html(SMALL))
  ids = [a['id'] for tag, a in parsed.tags if tag == 'section']
  assert (
    tuple(ids)
    == static.SECTIONS
    == (
      *('head', 'curves', 'rollouts', 'prompts', 'slots', 'time', 'config'),
      'tables',
    )
  )
  links = [a['href'] for t, a in parsed.tags if t == 'a']
  assert [f'#{name}' for name in ids] == links[1 : len(ids) + 1]


def hostile(text):
  """A report with the text in all places of the parts made here."""
  alarm = values.Alarm(text, text, text, text, {'status': [text], text: text})
  field = values.Field(text, text, text, text, {text: text}, {text: text})
  table = values.Table(text, text, [text, text], [[text, text]])
  run = SMALL.curves[0]
  run = run._replace(
    run=text,
    bands=[values.Band(text, 1, 9)],
    series=[values.Series(text, text, text, text, [1.0] * 9)],
  )
  prompts = values.Prompts(
    [values.Prompt(text, text, text, [(1, 0, 1)])], {text: 1}, None, text
  )
  slots = values.Slots(3, [(text, text)], [values.Stay(0, text, 0, 0, 4, text)])
  waste = values.Waste(
    reports.node(text, 5, reports.node(text, 5, lever=text)), [text]
  )
  samples = reports.samples(1, 40, seed=1)._replace(note=text)
  return values.Report(
    text, [(text, text)], [alarm], [run], samples, prompts, slots, waste,
    [field], [table], [text],
  )  # fmt: skip


BENIGN = Parsed(page.to_html(hostile('plain')))


@pytest.mark.parametrize('payload', PAYLOADS, ids=range(len(PAYLOADS)))
def test_no_text_leaves_its_place(payload):
  parsed = Parsed(page.to_html(hostile(payload)))
  shape = lambda p: [(tag, sorted(a)) for tag, a in p.tags]
  assert shape(parsed) == shape(BENIGN)
  assert len(parsed.scripts) == len(BENIGN.scripts)
  assert policy_of(parsed) == policy_of(BENIGN)
  for tag, attributes in parsed.tags:
    if tag == 'a':
      assert re.match('#[a-z]+([?]|$)', attributes['href'])
  shown = terminal.printable(payload)
  count = ''.join(parsed.texts).count(shown)
  assert count >= 20, 'it is not shown as it is'
  hidden = [c for t in parsed.texts for c in t if not c.isprintable()]
  assert set(hidden) <= {'\n'}


def test_a_text_of_a_megabyte_is_cut():
  text = page.to_html(hostile(hostile_texts.LONG))
  parsed = Parsed(text)
  assert 'characters cut' in text
  static_bytes = len(text) - sum(len(t) for _, t in parsed.scripts)
  assert static_bytes < 1 << 18


def rows_of(waste):
  """(depth, name, [numbers in percent]) of the rows of the tree."""
  text = static.parts(SMALL._replace(waste=waste))['time']
  found = []
  for depth, name, rest in re.findall(
    r'<tr class="d(\d)"><th scope="row">(.*?)</th>(.*?)</tr>', text
  ):
    shares = re.findall(r'([0-9.]+)%</td>', rest)
    found.append((int(depth), name, list(map(float, shares))))
  return found


def test_every_level_of_time_sums_to_a_hundred():
  rows = rows_of(reports.waste())
  assert len(rows) == 14
  assert rows[0] == (0, 'wall time', [100.0] * 3)
  sums = collections.defaultdict(lambda: [0.0, 0.0])
  path = []
  for depth, name, (whole, above, *total) in rows:
    del path[depth:]
    if path:
      sums[tuple(path)][0] += whole
      sums[tuple(path)][1] += above
    path.append((name, whole))
    assert total in ([], [100.0])
  assert len(sums) == 4
  for parents, (whole, above) in sums.items():
    assert above == pytest.approx(100, abs=1e-6)
    assert whole == pytest.approx(parents[-1][1], abs=1e-6)


def test_parts_that_do_not_sum_are_seen():
  part = values.Node('part', 90, '', ())
  rows = rows_of(values.Waste(values.Node('all', 100, '', (part,)), ()))
  assert rows[0][2] == [100.0, 100.0, 90.0]


@pytest.mark.parametrize(
  'milliseconds, said',
  [
    (0, '0.00 s'),
    (9_990, '9.99 s'),
    (59_940, '59.9 s'),
    (60_000, '1 min 00 s'),
    (3_599_999, '59 min 59 s'),
    (3_600_000, '1 h 00 min'),
    (90_061_000, '25 h 01 min'),
  ],
)
def test_durations(milliseconds, said):
  assert static.duration(milliseconds) == said


def test_a_figure_beside_a_part_of_the_time():
  hostile = values.Node('update', 5, '', (), 'MFU <b>')
  text = static.parts(SMALL._replace(waste=values.Waste(hostile, ())))['time']
  assert '>update <span class="quiet">MFU &lt;b&gt;</span></th>' in text
  plain = values.Waste(hostile._replace(figure=''), ())
  assert '>update</th>' in static.parts(SMALL._replace(waste=plain))['time']


def test_what_a_field_is_marked_with():
  text = static.parts(
    SMALL._replace(
      fields=[
        values.Field('a', '1', '1', '1', {}, {}),
        values.Field('b', '1', '2', None, {}, {}),
        values.Field('c', '1', None, '2', {'s': '3'}, {'r': '4'}),
        values.Field('d', '', None, None, {'s': '3'}, {}),
      ]
    )
  )['config']
  marks = re.findall(r'<tr(?: data-changed="(.*?)")?><th scope="row">', text)
  assert marks == ['', 'recipe', 'default stages runs', 'stages']
  assert text.count('not set') == 1


def test_a_recipe_that_is_unknown_has_no_column():
  fields = reports.config_fields(12)
  cells = lambda text: {
    len(re.findall('<td>', row)) for row in re.findall('<tr.*?</tr>', text)
  }
  known = static.parts(SMALL._replace(fields=fields))['config']
  assert "recipe's file</th>" in known and 'compared with' not in known
  # The first row is that of the headings.
  assert cells(known) == {0, 5}
  bare = [field._replace(recipe=None) for field in fields]
  text = static.parts(SMALL._replace(fields=bare))['config']
  assert "recipe's file</th>" not in text and cells(text) == {0, 4}
  assert text.count('nothing is compared with it') == 1


def test_an_alarm_links_to_what_shows_it():
  alarm = values.Alarm(
    'bad', 't', 'd', 'rollouts', dict(status=['wrong', 'a&b'], step_from=3)
  )
  text = static.parts(SMALL._replace(alarms=[alarm]))['alarms']
  assert (
    'href="#rollouts?status=wrong&amp;status=a%26b&amp;step_from=3"' in text
  )


def test_a_picture_of_the_largest_numbers_has_places_for_them():
  found = [(-1) ** i * 1.7e308 for i in range(20)]
  series = values.Series('reward', 'Reward', '', 'learning', found)
  run = reports.curves('x', 20, 0)._replace(series=[series])
  drawn = re.search(r'<polyline[^>]* points="([^"]*)"', pictures.curves([run]))
  places = [tuple(map(float, p.split(','))) for p in drawn[1].split()]
  assert len(places) == 20 and {y for _, y in places} == {22.0, 134.0}


def test_a_thinned_curve_keeps_its_ends():
  line = [(i, math.sin(i / 50)) for i in range(6000)]
  line[3111] = (3111, 9.0)
  line[4222] = (4222, -9.0)
  kept = pictures._thinned(line)
  assert {(3111, 9.0), (4222, -9.0)} <= set(kept) <= set(line)
  assert len(kept) <= 240 and kept == sorted(kept)


def test_the_charts_are_of_the_package_as_it_was_published():
  for name, digest in VENDORED.items():
    data = (page._ASSETS / name).read_bytes()
    assert hashlib.sha256(data).hexdigest() == digest, name
