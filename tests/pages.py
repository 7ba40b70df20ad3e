"""What the tests of the page share, whichever browser opens it."""

import contextlib
import http.server
import json
import threading

import reports

from acereason_jax.console import terminal
from acereason_jax.reporting import page, values

SMALL = reports.report(steps=60, groups=30, tokens=120)
CHOICES = ('status', 'stage', 'phase', 'domain', 'stop', 'kept')
# Functions: the page's policy forbids to evaluate a text again and again.
READY = """() => document.body.dataset.ready === '1' &&
  !document.body.dataset.busy"""

# ---- Filters


def contains(text, part):
  return part.lower() in text.lower()


def recount(samples, filters):
  """The samples that pass, by the words of the contract."""
  found = []
  for sample in samples:
    row = sample.row
    lists = all(row[n] in filters[n] for n in CHOICES if n in filters)
    both = contains(sample.question, filters.get('text', '')) or contains(
      sample.text, filters.get('text', '')
    )
    if (
      lists
      and both
      and contains(row['prompt'], filters.get('prompt', ''))
      and contains(row['detail'], filters.get('detail', ''))
      and row['step'] >= filters.get('step_from', 0)
      and row['step'] <= filters.get('step_to', 10**9)
      and row['length'] >= filters.get('length_from', 0)
      and row['length'] <= filters.get('length_to', 10**9)
    ):
      found.append(sample)
  return found


def some_filters(generator):
  """Some filters."""
  samples = SMALL.samples.samples
  found = {}
  for name in generator.sample(CHOICES, generator.randint(0, 3)):
    known = sorted({s.row[name] for s in samples})
    found[name] = generator.sample(known, generator.randint(1, len(known)))
  if generator.random() < 0.4:
    found['step_from'] = generator.randint(0, 600)
  if generator.random() < 0.4:
    found['length_to'] = generator.randint(60, 220)
  if generator.random() < 0.3:
    found['prompt'] = generator.choice(['1', 'sum-2', '-', '9'])
  if generator.random() < 0.3:
    found['text'] = generator.choice(['sum-1', 'frac', 'so', 'nowhere'])
  return found


def number_of(text):
  return float(text.replace(',', ''))


# ---- Hostile texts


def hostile(texts):
  """A rollout for each text, which is in all of its places."""
  random_numbers = reports.np.random.default_rng(0)
  samples = []
  for i, text in enumerate(texts):
    sample = reports.sample(
      random_numbers, step=i + 1, prompt=text, index=i, tokens=30
    )
    row = dict(sample.row) | dict(
      phase='train', stage=text, domain=text, detail=text, kept=text,
      status='wrong', advantage=1.0, stop='stop',
    )  # fmt: skip
    why = values.Why([(text, text), ('extracted', text)], text, text)
    samples.append(
      sample._replace(
        row=row, question=text, answer=text, text=text, why=why,
        characters=[len(text)], surprise=[9], entropy=None, mismatch=None,
      )
    )  # fmt: skip
  run = SMALL.curves[0]
  series = [
    one._replace(name=f'{text[:99]}{i}', title=text, unit=text, group='a')
    for i, (one, text) in enumerate(zip([run.series[2]] * 99, texts))
  ]
  bands = [values.Band(text, i + 1, i + 1) for i, text in enumerate(texts)]
  prompts = [values.Prompt(t, t, t, [(1, 0, 1)]) for t in texts]
  stays = [values.Stay(i, t, i, 0, 5, 'stop') for i, t in enumerate(texts)]
  fields = [values.Field(t, t, t, t, {t: t}, {t: t}) for t in texts]
  return SMALL._replace(
    name=texts[0],
    alarms=[values.Alarm('bad', t, t, t, {'text': t}) for t in texts],
    curves=[
      run._replace(run=texts[0], bands=bands, series=series),
      run._replace(run=texts[1], bands=bands, series=series),
    ],
    samples=values.Samples(samples, 9, 9, texts[2], reports.SCALES),
    prompts=values.Prompts(prompts, dict.fromkeys(texts, 1), None, texts[3]),
    slots=values.Slots(3, [(t, t) for t in texts], stays),
    waste=values.Waste(
      reports.node(texts[4], 5, reports.node(texts[5], 5, lever=texts[6])),
      list(texts),
    ),
    fields=fields,
    tables=[values.Table(t, t, [t], [[t]]) for t in texts],
  )


# How many there are of each element; any that runs or loads something.
ELEMENTS = """() => {
  const counts = {}, bad = [];
  for (const each of document.querySelectorAll('*')) {
    const tag = each.tagName.toLowerCase();
    counts[tag] = (counts[tag] || 0) + 1;
    for (const name of each.getAttributeNames()) {
      const value = each.getAttribute(name);
      const loads = ['href', 'src', 'srcdoc', 'action', 'xlink:href'];
      const ours = value.startsWith('#') || value === 'data:,';
      if (name.startsWith('on') || name === 'srcset' ||
          (loads.includes(name) && !ours)) bad.push([tag, name, value]);
    }
  }
  return [counts, bad];
}"""


def expected_text(text):
  """As the page shows it: tabs stay."""
  return '\t'.join(map(terminal.printable, text.split('\t')))


# ---- For everyone

# Text with less contrast than 4.5 to what is behind it, as WCAG 2.1 has it.
CONTRAST = """() => {
  const canvas = document.createElement('canvas').getContext(
    '2d', {willReadFrequently: true});
  const rgba = (text) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = text;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255).map((v) =>
    v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4).reduce(
      (sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (node) => {
    const box = node.tagName === 'text' &&
      node.parentNode.querySelector('rect');
    if (box) return rgba(getComputedStyle(box).fill);
    for (; node; node = node.parentElement) {
      const found = rgba(getComputedStyle(node).backgroundColor);
      if (found[3] === 255) return found;
      if (found[3]) throw new Error('half transparent: ' + node.className);
    }
    return [255, 255, 255, 255];
  };
  const bad = [];
  let count = 0;
  for (const node of document.querySelectorAll('body *')) {
    const own = [...node.childNodes].some(
      (c) => c.nodeType === 3 && c.data.trim());
    if (!own || !node.checkVisibility({visibilityProperty: true})) continue;
    const style = getComputedStyle(node);
    const ink = rgba(node instanceof SVGElement ? style.fill : style.color);
    const pair = [light(ink), light(behind(node))].sort((a, b) => b - a);
    const ratio = (pair[0] + 0.05) / (pair[1] + 0.05);
    count++;
    if (ratio < 4.5) {
      bad.push([node.tagName, String(node.className.baseVal ?? node.className),
                node.textContent.slice(0, 30), ratio.toFixed(2)]);
    }
  }
  return [count, bad];
}"""

UNNAMED = """() => [...document.querySelectorAll(
  'button, input, select, a, summary, svg, [tabindex="0"]')].filter((node) =>
    node.checkVisibility() && !node.closest('[aria-hidden=true]') &&
    !(node.labels && node.labels.length) && !node.ariaLabel &&
    !node.textContent.trim()).map((node) => node.outerHTML.slice(0, 200))"""

FOCUSABLE = """() => {
  const all = [...document.querySelectorAll(
    'button, input, select, a[href], summary, [tabindex="0"]')];
  return all.filter((n) => n.checkVisibility() && !n.disabled).map((n, i) => {
    n.dataset.walk = i;
    return i;
  });
}"""


# ---- A run that goes on


@contextlib.contextmanager
def served(answers, prepared=lambda html: html):
  """A server of a page and of the answers, each once and the last always.

  A test gives others once it has seen what those before them changed.
  """
  text = prepared(page.to_html(SMALL, watch=True)).encode()
  asked = []

  class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
      if self.path.startswith('/steps.json'):
        asked.append(self.path)
        answer = answers.pop(0) if answers[1:] else answers[0]
        data = json.dumps(answer).encode()
      else:
        data = text
      self.send_response(200)
      self.send_header('Content-Length', str(len(data)))
      self.end_headers()
      self.wfile.write(data)

    def log_message(self, *_):
      pass

  server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
  thread = threading.Thread(target=server.serve_forever)
  thread.start()
  try:
    yield f'http://127.0.0.1:{server.server_port}/', asked
  finally:
    server.shutdown()
    thread.join()
    server.server_close()


def news(steps, value, new):
  count = len(steps)
  return dict(
    steps=steps, hours=[9.0] * count, tokens=[1e9] * count,
    series=dict(reward=[value] * count), restarts=steps[:1],
    bands=[['more', s, s] for s in steps[:1]], new=new,
  )  # fmt: skip
