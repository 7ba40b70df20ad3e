"""The page of a report in Firefox and in WebKit, as a reader opens it.

tests/test_browser.py says more, about chromium. Here is where engines differ:
policy and file://, unpacking, pointer and keys, colours, paper, languages.
"""

import base64
import bisect
import contextlib
import itertools
import json
import random
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.parse

import hostile_texts
import kept_runs
import pages
import pytest
import reports
import tiny
import webdriver

from acereason_jax.console import terminal
from acereason_jax.reporting import page

pytestmark = pytest.mark.browser
SMALL = pages.SMALL
ENGINES = dict(firefox=webdriver.firefox, webkit=webdriver.webkit)
READY = f'return ({pages.READY})()'
DRAWN = """return document.querySelectorAll('.plot canvas').length"""
TEXT = 'return document.querySelector(arguments[0]).innerText'
VALUE = 'return document.querySelector(arguments[0]).value'
RUNS = """return [...document.querySelectorAll('#response .block span')].map(
  (node) => node.textContent)"""
# Where a character of a run of colour is.
PLACE = """const [run, character] = arguments;
  const node = document.querySelectorAll('#response .block span')[run];
  node.scrollIntoView({block: 'center', behavior: 'instant'});
  const range = new Range();
  range.setStart(node.firstChild, character);
  range.setEnd(node.firstChild, character + 1);
  const {left, width, top, height} = range.getBoundingClientRect();
  return [left + width / 3, top + height / 2]"""
# Whether a row of the list is the open one.
OPEN = """const rows = document.querySelectorAll('.list tbody tr');
  return document.getElementById('response') !== null &&
    rows[arguments[0]].hasAttribute('aria-current')"""
VISIBLE = """return [...document.querySelectorAll(arguments[0])].filter(
  (node) => node.checkVisibility()).length"""


@pytest.fixture(scope='module', params=list(ENGINES))
def browser(request, tmp_path_factory):
  lacks = webdriver.missing(request.param)
  if lacks:
    pytest.skip(lacks)
  folder = tmp_path_factory.mktemp(request.param)
  with ENGINES[request.param](folder) as found:
    found.resize(1280, 900)
    yield found


@pytest.fixture(scope='module')
def folder(browser, tmp_path_factory):
  return tmp_path_factory.mktemp('pages')


@pytest.fixture(scope='module')
def small(browser, folder):
  return written(browser, folder, 'small', page.to_html(SMALL))


def written(browser, folder, name, html):
  path = folder / f'{name}.html'
  path.write_text(browser.prepared(html), encoding='utf-8')
  return path.as_uri()


@contextlib.contextmanager
def opened(browser, address):
  """A page that is ready, loads nothing more and complains of nothing."""
  browser.open(address)
  browser.wait(READY)
  yield
  loaded = "return performance.getEntriesByType('resource').map((e) => e.name)"
  assert [
    name for name in browser.run(loaded) if '/steps.json' not in name
  ] == []
  assert browser.complaints() == []


def differs(browser, script, before):
  """Waits until a script returns something else."""
  look = lambda: browser.run(script) != before
  webdriver.eventually(look, lambda: f'still {before}: {script}')


def opens(browser, row):
  """Opens a row of the list, from 0."""
  browser.click(f'#list tbody tr:nth-child({row + 1}) button')
  browser.wait("return document.getElementById('response') !== null")


def chooses(browser, selector, value):
  """Chooses of a list, or types, as far as scripts can tell."""
  browser.run(
    """const [selector, value] = arguments;
    const node = document.querySelector(selector);
    node.value = value;
    for (const kind of ['input', 'change']) {
      node.dispatchEvent(new Event(kind, {bubbles: true}));
    }""",
    selector,
    value,
  )


def count_of(browser):
  browser.wait(READY)
  shown, of = re.match(
    r'([\d,]+) of ([\d,]+)', browser.run(TEXT, '#count')
  ).groups()
  assert int(of) == len(SMALL.samples.samples)
  return int(shown)


# ---- What it loads


FAULTS = dict(
  thrown=('', '(() => { throw new Error("x"); })()'),
  forbidden=("default-src 'none'; script-src 'none'", 'alert(1)'),
)


@pytest.mark.parametrize('name', list(FAULTS))
def test_a_fault_of_a_page_is_noticed(browser, folder, name):
  """Otherwise a page without complaints would say nothing."""
  policy, script = FAULTS[name]
  html = f"""<!DOCTYPE html><meta http-equiv="Content-Security-Policy"
    content="{policy}"><title>x</title><script>{script}</script>"""
  browser.open(written(browser, folder, name, html))
  assert len(browser.complaints()) == 1


def test_sections_and_curves(browser, small):
  with opened(browser, small):
    for name in ('curves', 'rollouts', 'prompts', 'slots', 'time', 'config'):
      browser.click(f'nav a[href="#{name}"]')
      browser.wait('return document.activeElement.id === arguments[0]', name)
      top = 'return document.activeElement.getBoundingClientRect().top'
      assert 0 <= browser.run(top) < 900
    browser.click('nav a[href="#curves"]')
    browser.wait(f'{DRAWN} > 5')
    colours = browser.run(
      """const {width, height} = document.querySelector('.plot canvas');
      const pixels = document.querySelector('.plot canvas').getContext('2d')
        .getImageData(0, 0, width, height).data;
      return new Set(new Uint32Array(pixels.buffer)).size"""
    )
    # Bands, lines of two runs, text.
    assert colours > 20


def test_it_is_ready_and_how_fast(browser, folder, capsys):
  """Its times are printed; a test cannot keep a promise of them."""
  report = reports.large()
  random_numbers = reports.np.random.default_rng(1)
  long = reports.sample(
    random_numbers, step=1, prompt='long', index=0, tokens=32768
  )
  samples = [long, *report.samples.samples]
  report = report._replace(samples=report.samples._replace(samples=samples))
  address = written(browser, folder, 'large', page.to_html(report))
  start = time.perf_counter()
  with opened(browser, address):
    ready = time.perf_counter() - start
    start = time.perf_counter()
    opens(browser, 0)
    browser.run("document.querySelector('#response details').open = true")
    browser.run('return document.body.offsetHeight')
    took = time.perf_counter() - start
    text = browser.run(
      """return [...document.querySelectorAll('#response .block')].map(
        (block) => block.textContent).join('')"""
    )
    assert text == terminal.printable(long.text)
    start = time.perf_counter()
    chooses(browser, '[name=text]', '\\boxed{17}')
    browser.wait(READY)
    searched = time.perf_counter() - start
  with capsys.disabled():
    print(
      f'\n{type(browser).__name__}: ready {ready:.2f} s, a rollout of 32,768 '
      f'tokens {took:.2f} s, text search {searched:.2f} s'
    )


# ---- Filters and links


def test_choices_count_as_python_does(browser, small):
  samples = SMALL.samples.samples
  with opened(browser, small):
    assert count_of(browser) == len(samples)
    for name in pages.CHOICES:
      value = sorted({sample.row[name] for sample in samples})[-1]
      expected = len(pages.recount(samples, {name: [value]}))
      chip = f'[data-choice="{name}={value}"]'
      assert int(browser.run(TEXT, f'{chip} + span b')) == expected
      browser.click(chip)
      assert count_of(browser) == expected, (name, value)
      browser.click(chip)
      assert count_of(browser) == len(samples)


def test_links_count_as_python_does(browser, small):
  generator = random.Random(7)
  samples = SMALL.samples.samples
  counts = set()
  with opened(browser, small):
    for _ in range(15):
      filters = pages.some_filters(generator)
      query = urllib.parse.urlencode(filters, doseq=True)
      browser.run(
        """document.body.dataset.busy = '1';
        location.hash = arguments[0];""",
        f'rollouts?{query}&smooth={generator.random()}',
      )
      expected = len(pages.recount(samples, filters))
      assert count_of(browser) == expected, filters
      counts.add(expected)
  assert len(counts) > 5


def test_a_deep_link_opens_the_same_view(browser, small):
  with opened(browser, small):
    browser.click('[data-choice="status=wrong"]')
    browser.wait(READY)
    opens(browser, 2)
    chooses(browser, '#colour', 'entropy')
    address = browser.run('return location.href')
    before = browser.run(TEXT, '#detail')
  with opened(browser, address):
    browser.wait("return document.getElementById('response') !== null")
    assert browser.run(TEXT, '#detail') == before
    assert browser.run(VALUE, '#colour') == 'entropy'
    wrong = """return document.querySelector(
      '[data-choice="status=wrong"]').checked"""
    assert browser.run(wrong)


# ---- The open rollout


def test_keys_go_through_the_list(browser, small):
  heading = "return document.querySelector('#detail h3')?.innerText ?? ''"
  with opened(browser, small):
    found = []
    for key in ('j', 'j', 'j', 'k'):
      before = browser.run(heading)
      browser.press(key)
      differs(browser, heading, before)
      found.append(browser.run(heading))
    prompts = [s.row['prompt'] for s in SMALL.samples.samples[:3]]
    for said, prompt in zip(found, prompts):
      assert prompt in said
    assert found[3] == found[1] and len(set(found)) == 3
    browser.press('Escape')
    assert browser.run("return document.getElementById('detail').hidden")


def test_tokens_by_keys(browser, small):
  trained = [
    i for i, s in enumerate(SMALL.samples.samples) if s.mismatch is not None
  ]
  sample = SMALL.samples.samples[trained[0]]
  with opened(browser, small):
    opens(browser, trained[0])
    browser.run("document.getElementById('response').focus()")
    browser.press('Home')
    start = 0
    for token in range(12):
      assert browser.run(TEXT, '#token').startswith(f'token {token + 1} ')
      for name in ('surprise', 'entropy', 'mismatch'):
        code = getattr(sample, name)[token]
        said = browser.run(TEXT, f'#token [data-name={name}]')
        low, high = reports.bounds(reports.SCALES[name], code)
        assert low * 0.99 <= pages.number_of(said.split()[1]) <= high * 1.01
      marked = "return [...CSS.highlights.get('token')].map(String)"
      end = start + sample.characters[token]
      assert browser.run(marked) == [sample.text[start:end]]
      start = end
      browser.press('ArrowRight')
    browser.press('Home')
    browser.press('ArrowRight', 'Shift')
    codes = sample.surprise
    high = [i for i in range(1, len(codes)) if codes[i] >= 160]
    token = high[0] if high else len(codes) - 1
    assert browser.run(TEXT, '#token').startswith(f'token {token + 1} ')


def test_a_colour_is_that_of_its_legend(browser, small):
  """The runs of a colour, taken apart again, are the tokens' bins."""
  sample = SMALL.samples.samples[0]
  with opened(browser, small):
    opens(browser, 0)
    for name in ('surprise', 'entropy', 'mismatch'):
      chooses(browser, '#colour', name)
      runs = browser.run(
        """const colour = (node) => getComputedStyle(node).backgroundColor;
        return [...document.querySelectorAll('#response .block span')].map(
          (node) => [node.textContent, colour(node)])"""
      )
      legend = browser.run(
        """return [...document.querySelectorAll('.scale span')].map(
          (node) => getComputedStyle(node).backgroundColor)"""
      )
      assert len(set(legend)) == 8
      assert [colour for text, colour in runs for _ in text] == [
        legend[code // 32]
        for code, count in zip(getattr(sample, name), sample.characters)
        for _ in range(count)
      ]


def points(browser, run, character, words):
  """Points at a character until the page says so; lines move as it draws."""

  def look():
    # A pointer that stays where it is has no event.
    browser.point(1, 1)
    browser.point(*browser.run(PLACE, run, character))
    return browser.run(TEXT, '#token').startswith(words)

  webdriver.eventually(look, lambda: f'{words}: {browser.run(TEXT, "#token")}')


def test_the_token_below_the_pointer(browser, small):
  """Engines name the character below a pointer in different ways."""
  sample = SMALL.samples.samples[0]
  with opened(browser, small):
    opens(browser, 0)
    for span in (3, 8, 12):
      start, end = (
        sum(map(len, browser.run(RUNS)[:many])) for many in (span, span + 1)
      )
      # The last character but one of a run, so that it is not its first token.
      before = max(end - 2, start)
      ends = list(itertools.accumulate(sample.characters))
      token = bisect.bisect_right(ends, before)
      points(browser, span, before - start, f'token {token + 1} ')


def test_a_copy_says_what_came_of_it(browser, small):
  with opened(browser, small):
    opens(browser, 0)
    browser.click('.command button')
    browser.wait(
      """return ['copied', 'not allowed: select and copy'].includes(
        document.querySelector('.command button').textContent)"""
    )


# ---- Hostile texts


def visit(browser, address, texts):
  """Elements with each rollout open, and the text that was shown of it."""
  shown = []
  with opened(browser, address):
    for i in range(len(texts)):
      browser.press('j')
      browser.wait(OPEN, i)
      found, bad = browser.run(f'return ({pages.ELEMENTS})()')
      assert not bad
      said = "return document.getElementById('detail').textContent"
      shown.append((found, browser.run(said)))
    browser.click('nav a[href="#curves"]')
    browser.wait(f'{DRAWN} > 5')
    assert browser.run('return document.documentElement.scrollWidth') <= 1280
  return shown


def test_hostile_texts_stay_texts(browser, folder):
  texts = list(hostile_texts.FOR_PAGES)
  benign = [f'plain {i}' for i in range(len(texts))]
  shown, plain = (
    visit(
      browser,
      written(browser, folder, name, page.to_html(pages.hostile(each))),
      each,
    )
    for name, each in (('hostile', texts), ('benign', benign))
  )
  for text, (found, said), (usual, _) in zip(texts, shown, plain, strict=True):
    # The chart of a metric is drawn when it comes into view.
    for each in (found, usual):
      each.pop('canvas', None), each.pop('div')
    assert found == usual, ascii(text)
    assert said.count(pages.expected_text(text)) >= 7, ascii(text)


# ---- For everyone


@contextlib.contextmanager
def like(browser, folder, scheme='light', scripts=True):
  """The browser, or another of its kind, with other preferences."""
  if isinstance(browser, webdriver.WebKit):
    with webdriver.webkit(folder, scheme=scheme, scripts=scripts) as found:
      yield found
    return
  browser.prefer(scheme=scheme, scripts=scripts)
  try:
    yield browser
  finally:
    browser.prefer(scheme='light', scripts=True)


def test_without_a_script(browser, small, tmp_path):
  with like(browser, tmp_path, scripts=False) as still:
    still.open(small)
    assert still.run(TEXT, 'h1') == SMALL.name
    assert still.run(VISIBLE, '.alarms li') == len(SMALL.alarms)
    assert still.run(VISIBLE, 'svg.curve') >= 8
    assert still.run(VISIBLE, '#fields tbody tr') == len(SMALL.fields)
    assert still.run(VISIBLE, '.tree tbody tr') == 14
    assert still.run(VISIBLE, '#tables table') == 1
    assert still.run(VISIBLE, '.script') == 0
    assert still.complaints() == []


GROUND = 'return getComputedStyle(document.body).backgroundColor'
GROUNDS = dict(light='rgb(246, 247, 249)', dark='rgb(17, 19, 23)')


@pytest.mark.parametrize('scheme', list(GROUNDS))
def test_contrast_in_the_readers_theme(browser, small, scheme):
  with opened(browser, small):
    assert browser.run(GROUND) == GROUNDS['light']
    for _ in range(1 + (scheme == 'dark')):
      browser.click('#theme')
    assert scheme in browser.run(TEXT, '#theme')
    assert browser.run(GROUND) == GROUNDS[scheme]
    opens(browser, 0)
    for name in ('surprise', 'entropy', 'mismatch', 'advantage'):
      chooses(browser, '#colour', name)
      count, bad = browser.run(f'return ({pages.CONTRAST})()')
      assert count > 300 and not bad


def test_a_dark_system(browser, small, tmp_path):
  with like(browser, tmp_path, scheme='dark') as dark, opened(dark, small):
    assert dark.run(GROUND) == GROUNDS['dark']
    dark.click('#theme')
    assert dark.run(GROUND) == GROUNDS['light']


def test_paper_has_every_curve_in_light_colours(browser, small, tmp_path):
  if isinstance(browser, webdriver.WebKit):
    pytest.skip('WebKit has no command that prints a page')
  with like(browser, tmp_path, scheme='dark'), opened(browser, small):
    plots = browser.run(VISIBLE, '.plot')
    assert browser.run(DRAWN) < plots
    paper = base64.b64decode(browser.send('Print'))
    assert len(re.findall(rb'/Subtype\s*/Image', paper)) >= plots
    browser.draw_as_paper()
    card = "return getComputedStyle(document.querySelector('section'))"
    assert browser.run(f'{card}.backgroundColor') == 'rgb(255, 255, 255)'


@pytest.mark.parametrize('width', [1280, 600])
def test_no_horizontal_scroll(browser, small, width):
  browser.resize(width, 900)
  with opened(browser, small):
    wide = 'return document.documentElement.scrollWidth'
    assert browser.run(wide) <= width
    opens(browser, 0)
    assert browser.run(wide) <= width
  browser.resize(1280, 900)


def test_the_keyboard_reaches_everything(browser, folder):
  report = reports.report(steps=9, groups=2, tokens=40)
  address = written(browser, folder, 'walk', page.to_html(report))
  with opened(browser, address):
    opens(browser, 1)
    browser.run('document.activeElement.blur(); scrollTo(0, 0)')
    wanted = set(browser.run(f'return ({pages.FOCUSABLE})()'))
    assert len(wanted) > 100
    reached = set()
    for _ in range(2 * len(wanted)):
      browser.press('Tab')
      walk = browser.run('return document.activeElement.dataset.walk ?? null')
      reached.add(int(walk) if walk else None)
      if wanted <= reached:
        break
    assert wanted <= reached


# ---- Curves


def test_curves_zoom(browser, small):
  ends = """return ['from', 'to'].map(
    (name) => Number(document.getElementById(`zoom-${name}`).value))"""
  with opened(browser, small):
    browser.click('nav a[href="#curves"]')
    browser.wait(f'{DRAWN} > 2')
    x, y, width = browser.run(
      """const node = document.querySelectorAll('.plot .u-over')[1];
      node.scrollIntoView({block: 'center', behavior: 'instant'});
      const {left, top, width, height} = node.getBoundingClientRect();
      return [left, top + height / 2, width];"""
    )
    browser.drag(x + 0.25 * width, y, x + 0.75 * width)
    # A quarter and three quarters of 1 to 60.
    assert browser.run(ends) == pytest.approx([15.75, 45.25], abs=0.5)
    first, address = browser.run(ends), browser.run('return location.href')
    browser.click('.plot .u-over', 1, times=2)
    differs(browser, ends, first)
    assert browser.run(ends) == [1, 60]
  with opened(browser, address):
    assert browser.run(ends) == first


def test_a_stages_name_stays_in_its_stage(browser, small):
  """A second drawing of a curve begins as uPlot's first one has left off."""
  with opened(browser, small):
    browser.click('nav a[href="#curves"]')
    browser.wait(f'{DRAWN} > 2')
    browser.run(
      """const {prototype} = CanvasRenderingContext2D;
      const draw = prototype.fillText;
      window.placed = [];
      prototype.fillText = function(text, ...at) {
        if (text === 'warm') window.placed.push(this.textAlign);
        return draw.call(this, text, ...at);
      };"""
    )
    chooses(browser, '#zoom-to', '40')
    placed = browser.wait('return window.placed.length && window.placed')
    assert set(placed) == {'start'}


def test_the_value_at_the_cursor(browser, small):
  with opened(browser, small):
    browser.click('nav a[href="#curves"]')
    browser.wait(f'{DRAWN} > 2')
    (series,) = [s for s in SMALL.curves[0].series if s.name == 'reward']
    span = '.chart[title=reward] .values span'
    said = browser.run(TEXT, span)
    assert float(said.split()[0]) == pytest.approx(series.values[-1], rel=1e-3)
    browser.run("document.querySelector('.chart[title=reward] .plot').focus()")
    browser.press('ArrowLeft')
    said = browser.run(TEXT, span)
    assert 'step 59' in said
    assert float(said.split()[0]) == pytest.approx(series.values[-2], rel=1e-3)


# ---- A run that goes on


def test_new_steps_arrive(browser):
  answers = [
    pages.news([61, 62], 0.125, False),
    pages.news([], 0.0, False),
  ]
  live = """return document.getElementById('live').textContent
    .includes(arguments[0])"""
  reward = '.chart[title=reward] .values span'
  with (
    pages.served(answers, browser.prepared) as (address, asked),
    opened(browser, address),
  ):
    browser.click('nav a[href="#curves"]')
    browser.wait(live, 'step 62')
    assert '0.125' in browser.run(TEXT, reward)
    answers[:] = pages.news([63], 0.875, True), pages.news([], 0.0, True)
    browser.wait(live, 'step 63')
    assert '0.875' in browser.run(TEXT, reward)
    assert browser.run(VALUE, '#zoom-to') == '63'
    assert asked[:2] == ['/steps.json?after=60', '/steps.json?after=62']
    browser.run('window.isOld = true')
    browser.click('#reload')
    browser.wait(f'return !window.isOld && ({pages.READY})()')


@contextlib.contextmanager
def watched(folder):
  """The address at which the command shows a run of a folder."""
  command = [sys.executable, '-m', 'acereason_jax.report', str(folder)]
  process = subprocess.Popen(
    [*command, '--watch'],
    stdout=subprocess.PIPE,
    text=True,
    env=tiny.environment(folder),
  )
  guard = threading.Timer(120, process.kill)
  guard.start()
  try:
    yield process.stdout.readline().split()[0]
  finally:
    process.send_signal(signal.SIGINT)
    process.communicate()
    guard.cancel()


def test_a_run_that_is_watched(browser, tmp_path):
  """The server sends the page's policy once more, as a header."""
  kept_runs.write_config(tmp_path)
  rows = [kept_runs.row(index=i) for i in range(2)]
  kept_runs.write(
    tmp_path, rows, [(each, kept_runs.text(each)) for each in rows]
  )
  with open(tmp_path / 'metrics.jsonl', 'w', buffering=1) as metrics:
    for step in (1, 2):
      metrics.write(
        json.dumps(dict(step=step, stage='main', reward=step)) + '\n'
      )
    with watched(tmp_path) as address:
      browser.open(address)
      browser.wait(READY)
      metrics.write(json.dumps(dict(step=3, stage='main', reward=0.375)) + '\n')
      live = "return document.getElementById('live').textContent"
      browser.wait(f"{live} === 'live: step 3'")
      opens(browser, 1)
      response = "return document.getElementById('response').textContent"
      assert browser.run(response) == 'so'
      assert browser.complaints() == []
