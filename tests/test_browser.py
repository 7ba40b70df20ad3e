"""The page of a report in chromium, as a reader opens it: from the disk.

`REPORT_PICTURES=docs/pictures` writes pictures of the page there, of the file
that REPORT_PAGE names if it is set.
"""

import collections
import contextlib
import os
import pathlib
import random
import re
import shutil
import time
import types
import urllib.parse

import hostile_texts
import pages
import pytest
import reports
import webdriver

from acereason_jax.console import terminal
from acereason_jax.reporting import page

playwright = pytest.importorskip(
  'playwright.sync_api', reason="needs pip install -e '.[browser]'"
)
# Milliseconds.
GUARD = 1000 * webdriver.SECONDS
NAMES = ('chromium-headless-shell', 'chromium')
SMALL = pages.SMALL
PROGRAM = next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = [
  pytest.mark.browser,
  pytest.mark.skipif(
    PROGRAM is None,
    reason='needs apt-get install --no-install-recommends '
    'chromium-headless-shell',
  ),
]


@pytest.fixture(scope='module')
def browser():
  with playwright.sync_playwright() as started:
    options = dict(executable_path=PROGRAM, args=['--no-sandbox'])
    found = started.chromium.launch(**options, timeout=GUARD)
    yield found
    found.close()


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  return tmp_path_factory.mktemp('pages')


@pytest.fixture(scope='module')
def small(folder):
  return written(folder, 'small', SMALL)


def written(folder, name, report):
  path = folder / f'{name}.html'
  path.write_text(page.to_html(report), encoding='utf-8')
  return path.as_uri()


@contextlib.contextmanager
def opened(browser, address, *, width=1280, ready=True, **options):
  """A page without a network, and what it asked for and complained of."""
  options = dict(offline=True, viewport=dict(width=width, height=900)) | options
  context = browser.new_context(**options)
  context.set_default_timeout(GUARD)
  tab = context.new_page()
  seen = types.SimpleNamespace(requests=[], errors=[], dialogs=[])
  tab.on('request', lambda r: seen.requests.append(r.url))
  tab.on('console', lambda m: seen.errors.append(m.text))
  tab.on('pageerror', lambda e: seen.errors.append(str(e)))
  tab.on('dialog', lambda d: (seen.dialogs.append(d.message), d.dismiss()))
  tab.goto(address)
  if ready:
    tab.wait_for_function(pages.READY)
  yield tab, seen
  assert not seen.errors and not seen.dialogs
  context.close()


def settled(tab):
  tab.wait_for_function(pages.READY)


def opens(tab, row):
  """Opens a row of the list, from 0."""
  tab.locator('#list tbody tr').nth(row).locator('button').click()
  tab.wait_for_selector('#response')


def is_open(tab, row):
  """Waits until a row of the list is the open one."""
  tab.wait_for_function(
    "(row) => document.querySelectorAll('#list tbody tr')[row]"
    ".hasAttribute('aria-current')",
    arg=row,
  )


# ---- What it loads, and how fast


def test_one_request_and_no_error(browser, small):
  with opened(browser, small) as (tab, seen):
    for section in ('curves', 'rollouts', 'prompts', 'slots', 'time', 'config'):
      tab.locator(f'nav a[href="#{section}"]').click()
      tab.wait_for_timeout(300)
    opens(tab, 3)
    tab.wait_for_function(
      "() => document.querySelectorAll('.plot canvas').length > 5"
    )
    assert seen.requests == [small]


def test_what_it_promises_to_hold(browser, folder, capsys):
  """Its times are printed; only the size is a promise that a test can keep."""
  report = reports.large()
  address = written(folder, 'large', report)
  size = (folder / 'large.html').stat().st_size
  assert sum(len(s.characters) for s in report.samples.samples) > 1.4e6
  assert size <= 12e6
  start = time.perf_counter()
  with opened(browser, address) as (tab, seen):
    ready = time.perf_counter() - start
    heap = tab.evaluate('performance.memory.usedJSHeapSize')
    start = time.perf_counter()
    tab.locator('input[name=text]').fill('\\boxed{17}')
    tab.wait_for_timeout(1)
    settled(tab)
    searched = time.perf_counter() - start
    assert len(seen.requests) == 1
  with capsys.disabled():
    print(
      f'\n{size / 1e6:.1f} MB, ready {ready:.2f} s, heap {heap / 1e6:.0f} MB, '
      f'text search {searched:.2f} s'
    )


def test_a_rollout_of_32768_tokens(browser, folder, capsys):
  samples = reports.samples(1, 30, seed=3)
  long = reports.sample(
    reports.np.random.default_rng(1),
    step=1, prompt='long', index=0, tokens=32768,
  )  # fmt: skip
  report = SMALL._replace(samples=samples._replace(samples=[long]))
  address = written(folder, 'long', report)
  with opened(browser, address) as (tab, _):
    button = tab.locator('#list tbody button').first
    start = time.perf_counter()
    button.click()
    tab.wait_for_selector('#response')
    tab.evaluate(
      "() => { document.querySelector('#response details').open = true; "
      'return new Promise((done) => requestAnimationFrame('
      '() => requestAnimationFrame(done))); }'
    )
    took = time.perf_counter() - start
    text = tab.evaluate(
      "[...document.querySelectorAll('#response .block')].map("
      "(b) => b.textContent).join('')"
    )
    assert text == terminal.printable(long.text)
    spans = tab.locator('#response .block span').count()
  with capsys.disabled():
    print(f'\n32,768 tokens in {spans:,} runs of colour: {took:.2f} s')


# ---- Filters


def count_of(tab):
  settled(tab)
  shown, of = re.match(
    r'([\d,]+) of ([\d,]+)', tab.locator('#count').inner_text()
  ).groups()
  assert int(of.replace(',', '')) == len(SMALL.samples.samples)
  return int(shown.replace(',', ''))


def test_every_choice_counts_as_python_does(browser, small):
  samples = SMALL.samples.samples
  with opened(browser, small) as (tab, _):
    assert count_of(tab) == len(samples)
    tried = 0
    for name in pages.CHOICES:
      for value in sorted({s.row[name] for s in samples}):
        chip = tab.locator(f'[data-choice="{name}={value}"]')
        expected = len(pages.recount(samples, {name: [value]}))
        said = chip.locator('xpath=..').locator('b').inner_text()
        assert int(said) == expected
        chip.check()
        assert count_of(tab) == expected, (name, value)
        chip.uncheck()
        tried += 1
    assert tried > 15
    for name, value in (
      *(('prompt', 'SUM-1'), ('detail', 'box'), ('text', 'number sum-3?')),
      *(('text', '\\FRAC'), ('text', 'not there'), ('step_from', 400)),
      *(('step_to', 400), ('length_from', 100), ('length_to', 100)),
    ):
      field = tab.locator(f'#filters [name={name}]')
      field.fill(str(value))
      assert count_of(tab) == len(pages.recount(samples, {name: value})), name
      field.fill('')
    assert count_of(tab) == len(samples)


def test_combinations_count_as_python_does(browser, small):
  generator = random.Random(7)
  samples = SMALL.samples.samples
  counts = set()
  with opened(browser, small) as (tab, _):
    for _ in range(40):
      filters = pages.some_filters(generator)
      query = urllib.parse.urlencode(filters, doseq=True)
      tab.evaluate(
        "(h) => { document.body.dataset.busy = '1'; location.hash = h; }",
        f'rollouts?{query}&smooth={generator.random()}',
      )
      expected = len(pages.recount(samples, filters))
      assert count_of(tab) == expected, filters
      counts.add(expected)
  assert len(counts) > 8


def test_a_list_is_in_the_order_of_its_column(browser, small):
  with opened(browser, small) as (tab, _):
    for order in (sorted, lambda x: sorted(x, reverse=True)):
      tab.locator('[data-sort=length]').click()
      settled(tab)
      cells = tab.locator('#list tbody tr td:nth-child(7)').all_inner_texts()
      numbers = [int(cell.replace(',', '')) for cell in cells]
      every = [s.row['length'] for s in SMALL.samples.samples]
      assert numbers == order(every)[: len(numbers)]


def test_the_frequent_reasons(browser, small):
  with opened(browser, small) as (tab, _):
    tab.locator('[data-choice="status=wrong"]').check()
    settled(tab)
    wrong = pages.recount(SMALL.samples.samples, dict(status=['wrong']))
    counts = collections.Counter(s.row['detail'] for s in wrong)
    said = dict.fromkeys(counts)
    for button in tab.locator('.reason').all():
      count = button.locator('b').inner_text()
      said[button.inner_text().removesuffix(count).strip()] = int(count)
    assert said == counts
    tab.locator('.reason').first.click()
    assert count_of(tab) == max(counts.values())


def test_an_alarm_sets_filters(browser, small):
  with opened(browser, small) as (tab, _):
    tab.locator('.alarms a').first.click()
    tab.wait_for_selector('[data-choice="status=unparsed"]:checked')
    filters = dict(status=['unparsed'], step_from=200, step_to=400)
    assert count_of(tab) == len(pages.recount(SMALL.samples.samples, filters))


# ---- The open rollout


def test_a_deep_link_opens_the_same_view(browser, small):
  with opened(browser, small) as (tab, _):
    tab.locator('[data-choice="status=wrong"]').check()
    settled(tab)
    opens(tab, 2)
    tab.locator('#colour').select_option('entropy')
    address, before = tab.url, tab.locator('#detail').inner_text()
    chosen = tab.locator('tr[aria-current] button').first.get_attribute(
      'aria-label'
    )
  with opened(browser, address) as (tab, _):
    tab.wait_for_selector('#response')
    assert tab.locator('#detail').inner_text() == before
    assert tab.locator('#colour').input_value() == 'entropy'
    assert tab.locator('[data-choice="status=wrong"]').is_checked()
    now = tab.locator('tr[aria-current] button').first
    assert now.get_attribute('aria-label') == chosen


def test_keys_go_through_the_list(browser, small):
  with opened(browser, small) as (tab, _):
    found = []
    for key, row in (('j', 0), ('j', 1), ('j', 2), ('k', 1)):
      tab.keyboard.press(key)
      is_open(tab, row)
      found.append(tab.locator('#detail h3').first.inner_text())
    assert found[0] != found[1] != found[2] and found[3] == found[1]
    prompts = [s.row['prompt'] for s in SMALL.samples.samples[:3]]
    for said, prompt in zip(found, prompts):
      assert prompt in said
    tab.keyboard.press('Escape')
    assert tab.locator('#detail').is_hidden()


def test_a_rollout_without_a_group(browser, folder):
  random_numbers = reports.np.random.default_rng(2)
  one = reports.sample(
    random_numbers, step=1, prompt='p', index=0, tokens=30, detail='', stage=''
  )
  samples = SMALL.samples._replace(samples=[one._replace(text='', answer='')])
  address = written(folder, 'one', SMALL._replace(samples=samples))
  with opened(browser, address) as (tab, _):
    opens(tab, 0)
    said = tab.locator('#detail').inner_text()
    assert 'null' not in said and 'undefined' not in said
    assert tab.locator('.member').count() == 0


def test_a_group_and_why(browser, small):
  with opened(browser, small) as (tab, _):
    opens(tab, 5)
    sample = SMALL.samples.samples[5]
    group = [
      s.row for s in SMALL.samples.samples
      if s.row['prompt'] == sample.row['prompt']
    ]  # fmt: skip
    rows = tab.locator('.member')
    assert rows.count() == len(group) == 4
    for i, row in enumerate(group):
      cells = rows.nth(i).locator('td').all_inner_texts()
      assert row['status'] in cells[1] and int(cells[4]) == row['length']
    said = tab.locator('.why').inner_text()
    for what, text in sample.why.lines:
      assert what in said and text in said
    assert sample.why.command in said or sample.why.note in said
    rows.nth(0).locator('button').click()
    tab.wait_for_function(
      "() => document.querySelector('.member').matches('[aria-current]')"
    )


def test_a_token_has_the_number_of_its_code(browser, small):
  with opened(browser, small) as (tab, _):
    trained = [
      i for i, s in enumerate(SMALL.samples.samples) if s.mismatch is not None
    ]
    sample = SMALL.samples.samples[trained[0]]
    opens(tab, trained[0])
    tab.locator('#response').focus()
    tab.keyboard.press('Home')
    for token in range(25):
      said = tab.locator('#token').inner_text()
      assert said.startswith(f'token {token + 1} ')
      for name in ('surprise', 'entropy', 'mismatch'):
        code = getattr(sample, name)[token]
        part = tab.locator(f'#token [data-name={name}]')
        assert part.get_attribute('data-bin') == str(code // 32)
        value = pages.number_of(part.inner_text().split()[1])
        low, high = reports.bounds(reports.SCALES[name], code)
        assert low * 0.99 <= value <= high * 1.01
      tab.keyboard.press('ArrowRight')


def test_a_colour_is_that_of_its_legend(browser, small):
  """The runs of a colour, taken apart again, are the tokens' bins."""
  sample = SMALL.samples.samples[0]
  with opened(browser, small) as (tab, _):
    opens(tab, 0)
    for name in ('surprise', 'entropy', 'mismatch'):
      tab.locator('#colour').select_option(name)
      runs = tab.evaluate(
        "[...document.querySelectorAll('#response .block span')].map("
        '(s) => [s.className, s.textContent])'
      )
      painted = [style for style, text in runs for _ in text]
      expected = [
        f'b{code // 32}'
        for code, count in zip(getattr(sample, name), sample.characters)
        for _ in range(count)
      ]
      assert painted == expected
      legend = tab.locator('.scale span').all_inner_texts()
      assert len(legend) == 8
      for i, text in enumerate(legend):
        low, _ = reports.bounds(reports.SCALES[name], 32 * i)
        first = pages.number_of(text.split()[0])
        # Two digits.
        assert first == pytest.approx(low, rel=0.05, abs=1e-9)
    tab.locator('#colour').select_option('advantage')
    expected = 'more' if sample.row['advantage'] > 0 else 'less'
    assert (
      tab.locator('#response .block span').first.get_attribute('class')
      == expected
    )


def test_the_token_below_the_pointer(browser, small):
  sample = SMALL.samples.samples[0]
  with opened(browser, small) as (tab, _):
    opens(tab, 0)
    tab.locator('#response').scroll_into_view_if_needed()
    span = tab.locator('#response .block span').nth(8)
    span.scroll_into_view_if_needed()
    before = tab.evaluate(
      "[...document.querySelectorAll('#response .block span')].slice(0, 8)"
      ".map((s) => s.textContent).join('').length"
    )
    total, token = 0, 0
    while total + sample.characters[token] <= before:
      total += sample.characters[token]
      token += 1

    def points():
      """Lines move as the page draws; a pointer that stays has no event."""
      x, y = tab.evaluate(
        '(s) => { const r = new Range(); r.setStart(s.firstChild, 0);'
        ' r.setEnd(s.firstChild, 1); const b = r.getBoundingClientRect();'
        ' return [b.left + b.width / 3, b.top + b.height / 2]; }',
        span.element_handle(),
      )
      tab.mouse.move(1, 1)
      tab.mouse.move(x, y)
      return said().startswith(f'token {token + 1} ')

    said = lambda: tab.locator('#token').inner_text()
    webdriver.eventually(points, said)


# ---- Hostile texts


def elements(tab):
  found, bad = tab.evaluate(pages.ELEMENTS)
  assert not bad
  return found


def visit(browser, address, texts):
  """Elements with each rollout open, and the text that was shown of it."""
  shown = []
  with opened(browser, address) as (tab, seen):
    for row in range(len(texts)):
      tab.keyboard.press('j')
      is_open(tab, row)
      assert tab.locator('.plot').count() == len(texts)
      shown.append((elements(tab), tab.locator('#detail').text_content()))
    # The charts draw what comes into view.
    tab.evaluate("document.getElementById('curves').scrollIntoView()")
    tab.wait_for_timeout(300)
    tab.locator('.stays').focus()
    tab.keyboard.press('ArrowRight')
    assert len(seen.requests) == 1
    body = tab.locator('body').text_content()
  return shown, body


def test_hostile_texts_stay_texts(browser, folder):
  texts = list(hostile_texts.FOR_PAGES)
  benign = [f'plain {i}' for i in range(len(texts))]
  address = written(folder, 'hostile', pages.hostile(texts))
  shown, body = visit(browser, address, texts)
  plain, _ = visit(
    browser, written(folder, 'benign', pages.hostile(benign)), benign
  )
  for text, (found, said), (usual, _) in zip(texts, shown, plain, strict=True):
    assert found == usual, ascii(text)
    # Id, question, answer, response, reason, and the lines of why.
    assert said.count(pages.expected_text(text)) >= 7, ascii(text)
    assert terminal.printable(text) in body
  for each in body:
    assert each.isprintable() or each in '\n\t'


def test_a_line_of_a_megabyte(browser, folder):
  texts = [hostile_texts.LONG, *(f'plain {i}' for i in range(9))]
  address = written(folder, 'megabyte', pages.hostile(texts))
  with opened(browser, address) as (tab, seen):
    opens(tab, 0)
    elements(tab)
    text = tab.locator('#response').text_content()
    assert text == hostile_texts.LONG
    assert tab.evaluate('document.documentElement.scrollWidth') <= 1280
    assert len(seen.requests) == 1


# ---- For everyone


def test_without_a_script(browser, small):
  options = dict(java_script_enabled=False, ready=False)
  with opened(browser, small, **options) as (tab, seen):
    assert tab.locator('h1').inner_text() == SMALL.name
    assert tab.locator('.alarms li:visible').count() == len(SMALL.alarms)
    assert tab.locator('svg.curve:visible').count() >= 8
    assert tab.locator('#fields tbody tr:visible').count() == len(SMALL.fields)
    assert tab.locator('.tree tbody tr:visible').count() == 14
    assert tab.locator('#tables table:visible').count() == 1
    assert tab.locator('.script:visible').count() == 0
    assert len(seen.requests) == 1


@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_contrast(browser, small, scheme):
  with opened(browser, small, color_scheme=scheme) as (tab, _):
    opens(tab, 0)
    for name in ('surprise', 'entropy', 'mismatch', 'advantage'):
      tab.locator('#colour').select_option(name)
      tab.locator('#response').focus()
      tab.keyboard.press('End')
      count, bad = tab.evaluate(pages.CONTRAST)
      assert count > 300 and not bad


def test_the_theme_is_the_systems_or_the_readers(browser, small):
  ground = 'getComputedStyle(document.body).backgroundColor'
  grounds = {}
  for scheme in ('light', 'dark'):
    with opened(browser, small, color_scheme=scheme) as (tab, _):
      grounds[scheme] = tab.evaluate(ground)
      for name in ('light', 'dark'):
        tab.locator('#theme').click()
        assert name in tab.locator('#theme').inner_text()
        if name in grounds:
          assert tab.evaluate(ground) == grounds[name]
  assert len(set(grounds.values())) == 2


def test_everything_has_a_name(browser, small):
  with opened(browser, small) as (tab, _):
    opens(tab, 0)
    assert not tab.evaluate(pages.UNNAMED)
    ids = tab.evaluate(
      "[...document.querySelectorAll('[id]')].map((n) => n.id)"
    )
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize('width', [1280, 400])
def test_no_horizontal_scroll(browser, small, width):
  with opened(browser, small, width=width) as (tab, _):
    wide = 'document.documentElement.scrollWidth'
    assert tab.evaluate(wide) <= width
    opens(tab, 0)
    assert tab.evaluate(wide) <= width


def test_the_keyboard_reaches_everything(browser, folder):
  report = reports.report(steps=9, groups=2, tokens=40)
  address = written(folder, 'walk', report)
  with opened(browser, address) as (tab, _):
    opens(tab, 1)
    tab.evaluate('document.activeElement.blur(); scrollTo(0, 0)')
    wanted = set(tab.evaluate(pages.FOCUSABLE))
    assert len(wanted) > 100
    reached = set()
    for _ in range(2 * len(wanted)):
      tab.keyboard.press('Tab')
      walk = tab.evaluate('document.activeElement.dataset.walk')
      reached.add(int(walk) if walk else None)
      if wanted <= reached:
        break
    assert wanted <= reached


def test_prompts_and_fields_are_filtered(browser, small):
  with opened(browser, small) as (tab, _):
    tab.locator('#prompt-kind').select_option('lost')
    lost = [p for p in SMALL.prompts.prompts if p.kind == 'lost']
    expected = f'{len(lost)} of {len(SMALL.prompts.prompts)} prompts'
    assert tab.locator('#prompt-count').inner_text() == expected
    for choice, kept in (
      ('', lambda f: True),
      ('recipe', lambda f: f.recipe not in (None, f.value)),
      ('default', lambda f: f.default not in (None, f.value)),
      ('stages', lambda f: f.stages),
      ('runs', lambda f: f.others),
    ):
      tab.locator('#changed').select_option(choice)
      count = tab.locator('#fields tbody tr:visible').count()
      assert count == len(list(filter(kept, SMALL.fields)))
    tab.locator('#changed').select_option('')
    tab.locator('#find-field').fill('FIELD_17')
    assert tab.locator('#fields tbody tr:visible').count() == 1


def test_without_the_recipes_file_no_choice_compares_with_it(browser, folder):
  fields = [field._replace(recipe=None) for field in SMALL.fields]
  address = written(folder, 'bare', SMALL._replace(fields=fields))
  with opened(browser, f'{address}#config?changed=recipe') as (tab, _):
    assert tab.locator('#changed option[value=recipe]').count() == 0
    assert tab.locator('#fields tbody tr:visible').count() == len(fields)


# ---- Curves


def test_curves_zoom_and_change_their_axis(browser, small):
  with opened(browser, small) as (tab, _):
    tab.locator('#curves').scroll_into_view_if_needed()
    plot = tab.locator('.plot .u-over').nth(1)
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    middle = box['y'] + box['height'] / 2
    tab.mouse.move(box['x'] + 0.25 * box['width'], middle)
    tab.mouse.down()
    tab.mouse.move(box['x'] + 0.75 * box['width'], middle, steps=4)
    tab.mouse.up()
    first = float(tab.locator('#zoom-from').input_value())
    last = float(tab.locator('#zoom-to').input_value())
    # A quarter and three quarters of 1 to 60.
    assert first == pytest.approx(15.75, abs=0.5)
    assert last == pytest.approx(45.25, abs=0.5)
    address = tab.url
    plot.dblclick()
    assert tab.locator('#zoom-to').input_value() == '60'
    tab.locator('#axis').select_option('hours')
    hours = SMALL.curves[0].hours[-1]
    assert float(tab.locator('#zoom-to').input_value()) == pytest.approx(
      max(hours, SMALL.curves[1].hours[-1]), rel=1e-4
    )
  with opened(browser, address) as (tab, _):
    assert float(tab.locator('#zoom-from').input_value()) == first


@pytest.mark.parametrize(
  'zoom',
  ['1,1.0000000000000002', '1e15,1000000000000000.2', '0,Infinity', '5', 'x,y'],
)
def test_a_zoom_that_shows_nothing_is_none(browser, small, zoom):
  """uPlot looks without an end for numbers between two that have none."""
  with opened(browser, f'{small}#curves?zoom={zoom}') as (tab, _):
    for name, end in (('from', '1'), ('to', '60')):
      assert tab.locator(f'#zoom-{name}').input_value() == end


def test_choices_that_are_none_show_all(browser, small):
  with opened(browser, f'{small}#config?changed=x&kind=x') as (tab, _):
    assert tab.locator('#field-count').inner_text() == '60 of 60 fields'
    assert tab.locator('#prompt-count').inner_text() == '40 of 40 prompts'
    assert tab.locator('#changed').input_value() == ''


def test_runs_are_aligned_by_their_stages(browser, small):
  with opened(browser, f'{small}#curves?x=stages') as (tab, _):
    assert tab.locator('#axis').input_value() == 'stages'
    xs = tab.evaluate(
      'page.data.curves.map((run) => axisOf(run).map((x) => x.toFixed(6)))'
    )
    assert float(tab.locator('#zoom-from').input_value()) == 0
  for run, found in zip(SMALL.curves, xs, strict=True):
    expected = [
      f'{i + (step - band.first) / (band.last - band.first + 1):.6f}'
      for i, band in enumerate(run.bands)
      for step in range(band.first, band.last + 1)
    ]
    assert found == expected
  # The second run's stages end elsewhere.
  assert len(xs[0]) != len(xs[1])


def test_a_link_to_a_curve(browser, small):
  with opened(browser, f'{small}#curves?metric=grad_norm') as (tab, _):
    cell = tab.locator('.chart[title=grad_norm]')
    assert 'marked' in cell.get_attribute('class')
    # Its group is folded otherwise.
    assert cell.is_visible()
    tab.wait_for_function(
      '(cell) => { const {top} = cell.getBoundingClientRect(); '
      'return 0 < top && top < innerHeight; }',
      arg=cell.element_handle(),
    )


def test_paper_has_every_curve_in_light_colours(browser, small):
  with opened(browser, small, color_scheme='dark') as (tab, _):
    drawn = tab.locator('.plot canvas').count()
    tab.emulate_media(media='print', color_scheme='dark')
    visible = tab.locator('.plot:visible').count()
    assert visible > drawn
    tab.wait_for_function(
      "(n) => document.querySelectorAll('.plot canvas').length === n",
      arg=visible,
    )
    ground = 'getComputedStyle(document.querySelector("section"))'
    assert tab.evaluate(f'{ground}.backgroundColor') == 'rgb(255, 255, 255)'
    assert tab.evaluate("colour('ink')") == 'rgb(27, 31, 38)'


def test_the_value_at_the_cursor(browser, small):
  with opened(browser, small) as (tab, _):
    cell = tab.locator('.chart[title=reward]')
    cell.scroll_into_view_if_needed()
    cell.locator('canvas').wait_for()
    (series,) = [s for s in SMALL.curves[0].series if s.name == 'reward']
    said = cell.locator('.values span').first.inner_text()
    assert float(said.split()[0]) == pytest.approx(series.values[-1], rel=1e-3)
    cell.locator('.plot').focus()
    tab.keyboard.press('ArrowLeft')
    said = cell.locator('.values span').first.inner_text()
    assert 'step 59' in said
    assert float(said.split()[0]) == pytest.approx(series.values[-2], rel=1e-3)
    other = tab.locator('.chart[title=pass_rate] .values span').first
    assert 'step 59' in other.inner_text()


# ---- A run that goes on


def test_new_steps_arrive(browser):
  answers = [
    pages.news([61, 62], 0.125, False),
    pages.news([], 0.0, False),
  ]
  with (
    pages.served(answers) as (address, asked),
    opened(browser, address, offline=False) as (tab, _),
  ):
    live = "(t) => document.getElementById('live').textContent.includes(t)"
    reward = tab.locator('.chart[title=reward] .values span').first
    tab.wait_for_function(live, arg='step 62')
    reward.scroll_into_view_if_needed()
    assert '0.125' in reward.inner_text()
    assert tab.locator('#reload').is_hidden()
    # A step that the page has is skipped.
    later = [pages.news([62, 63], 0.875, True), pages.news([], 0.0, True)]
    answers[:] = later
    tab.wait_for_function(live, arg='step 63')
    assert '0.875' in reward.inner_text()
    assert tab.locator('#zoom-to').input_value() == '63'
    tab.locator('.chart[title=reward] .plot').focus()
    tab.keyboard.press('ArrowLeft')
    assert '0.125' in reward.inner_text() and 'step 62' in reward.inner_text()
    assert 'stage more' in tab.locator('#keys').inner_text()
    assert asked[:2] == ['/steps.json?after=60', '/steps.json?after=62']
    tab.locator('#reload').click()
    settled(tab)


def test_a_page_whose_server_has_gone(browser):
  with pages.served([pages.news([], 0.0, False)]) as (address, _):
    context = browser.new_context()
    tab = context.new_page()
    tab.goto(address)
    settled(tab)
  tab.wait_for_function(
    "() => document.getElementById('live').textContent.includes('not con')"
  )
  context.close()


# ---- Pictures


@pytest.mark.skipif('REPORT_PICTURES' not in os.environ, reason='not asked for')
@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_pictures(browser, folder, scheme):
  address = os.environ.get('REPORT_PAGE')
  if address is None:
    address = written(folder, 'pictures', reports.report(steps=200))
  else:
    address = pathlib.Path(address).resolve().as_uri()
  path = pathlib.Path(os.environ['REPORT_PICTURES'], f'report_{scheme}.png')
  with opened(browser, address, color_scheme=scheme) as (tab, _):
    tab.set_viewport_size(dict(width=1280, height=1700))
    tab.wait_for_timeout(500)
    tab.screenshot(path=path)
  assert path.stat().st_size < 400_000
