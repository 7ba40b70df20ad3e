// What the scripts of a run's page share: state, text, elements, the address.
//
// Texts of a run are hostile. They come from blocks of base64 of gzip, and go
// into the page only through `element`, as text, with unprintable characters
// escaped. The address after # holds what is shown, so that it can be sent.
'use strict';

// Where the locale is C, WebKitGTK's language has the name C. Intl refuses it,
// and uPlot, which asks Intl for it, would not start.
try {
  new Intl.NumberFormat(navigator.language);
} catch {
  Object.defineProperty(navigator, 'language', {value: 'en'});
}

// The only state. `data` is the block `index`: see page.py:_index.
const page = {
  data: null,
  view: null,       // What the address holds: see DEFAULTS.
  charts: [],       // Those that are drawn: see drawChart.
  shown: [],        // Numbers of the rollouts that pass the filters, in order.
  first: 0,         // Number in `shown` of the list's first row.
  search: {query: '', hits: []},
  open: null,       // The open rollout: see openRollout.
  keys: new Map(),  // Numbers of rollouts by key, which the address names.
  searching: 0,     // Serial number of the newest search,
  opening: 0,       // and of the newest opening.
};

const CHOICES = {
  status: 'verdict', stage: 'stage', phase: 'phase', domain: 'domain',
  stop: 'stopped by', kept: 'kept because',
};
const TYPED = ['prompt', 'detail', 'text', 'step_from', 'step_to',
               'length_from', 'length_to'];
const DEFAULTS = {
  ...Object.fromEntries(Object.keys(CHOICES).map((name) => [name, []])),
  ...Object.fromEntries(TYPED.map((name) => [name, ''])),
  open: '', colour: 'surprise', sort: '',
  x: 'steps', smooth: '0', zoom: '', log: [], metric: '',
  kind: '', find_prompt: '', find_field: '', changed: 'any',
};
const WINDOWS = [0, 3, 5, 10, 20, 50, 100, 200, 500];
const PAGE_ROWS = 100;

// ---- Text and elements

const UNPRINTABLE = /(?![ \n\t])[\p{C}\p{Z}]/gu;
const $ = (id) => document.getElementById(id);

/** What console/terminal.py:printable gives, except that tabs stay. */
function printable(text) {
  return String(text).replace(UNPRINTABLE, (c) => {
    if (c === '\r') return '\\r';
    const hex = c.codePointAt(0).toString(16);
    if (hex.length <= 2) return '\\x' + hex.padStart(2, '0');
    return hex.length <= 4 ? '\\u' + hex.padStart(4, '0') :
      '\\U' + hex.padStart(8, '0');
  });
}

function cut(text, most = 300) {
  text = String(text);
  return text.length <= most ? text : text.slice(0, most) + ' …';
}

/** An element; `on...` are listeners, children are elements or text. */
function element(tag, attributes = {}, ...children) {
  const space = SVG_TAGS.has(tag) ? 'http://www.w3.org/2000/svg' :
    'http://www.w3.org/1999/xhtml';
  const made = document.createElementNS(space, tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? '' : printable(value));
  }
  for (const child of children) {
    if (child === null || child === undefined) continue;
    made.append(child instanceof Node ? child : printable(child));
  }
  return made;
}
const SVG_TAGS = new Set(['svg', 'rect', 'title']);

/** A number for people, with about four digits. */
function number(value) {
  if (value === null || value === undefined) return '–';
  const size = Math.abs(value);
  if (Number.isInteger(value) && size < 1e7) return value.toLocaleString('en');
  if (size >= 1e12 || (size > 0 && size < 1e-3)) {
    return value.toExponential(2).replace('e+', 'e');
  }
  for (const [unit, name] of [[1e9, ' B'], [1e6, ' M']]) {
    if (size >= unit) return Number((value / unit).toPrecision(4)) + name;
  }
  return Number(value.toPrecision(4)).toLocaleString(
    'en', {maximumFractionDigits: 6});
}

/** The bytes of a block of the page. */
async function unpack(id) {
  const packed = atob($(id).textContent);
  const bytes = new Uint8Array(packed.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = packed.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(
    new DecompressionStream('gzip'));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function readJson(bytes) {
  return JSON.parse(new TextDecoder().decode(bytes));
}

/** A colour of page.css, as a canvas takes it. */
function colour(name) {
  const probe = element('i', {hidden: true});
  document.body.append(probe);
  probe.style.color = `var(--${name})`;
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

function swatch(name, box = false) {
  const made = element('i', {class: box ? 'swatch box' : 'swatch'});
  made.style.background = `var(--${name})`;
  return made;
}

function verdict(status) {
  const letter = {right: '✓', wrong: '✗', unparsed: '?'}[status] || '!';
  return element('span', {class: `verdict v-${status}`},
    element('i', {'aria-hidden': 'true'}, letter), cut(status, 40));
}

/** Rows of which one page is shown, with buttons for the others. */
function pager(count, first, size, go) {
  if (count <= size) return null;
  const last = Math.min(first + size, count);
  const button = (text, to, off) => element('button',
    {type: 'button', disabled: off, onclick: () => go(to)}, text);
  return element('div', {class: 'pager'},
    button('previous', first - size, first === 0),
    `${number(first + 1)} to ${number(last)} of ${number(count)}`,
    button('next', first + size, last === count));
}

function heads(names) {
  return element('thead', {}, element('tr', {},
    ...names.map((name) => element('th', {scope: 'col'}, name))));
}

// ---- The address: #section?name=value&name=value

function recall() {
  const [section, query] = location.hash.slice(1).split(/\?(.*)/s);
  if (query !== undefined || page.view === null) {
    page.view = structuredClone(DEFAULTS);
    for (let [name, value] of new URLSearchParams(query || '')) {
      if (name === 'find') {
        name = section === 'config' ? 'find_field' : 'find_prompt';
      }
      if (!Object.hasOwn(DEFAULTS, name)) continue;
      if (Array.isArray(DEFAULTS[name])) page.view[name].push(value);
      else page.view[name] = value;
    }
    if (page.view.find_field && !query.includes('changed=')) {
      page.view.changed = 'all';
    }
  }
  return section;
}

/** Writes what is shown into the address, without a move of the page. */
function remember(section) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(page.view)) {
    if (Array.isArray(value)) value.forEach((one) => query.append(name, one));
    else if (value !== DEFAULTS[name]) query.set(name, value);
  }
  const text = query.toString();
  history.replaceState(null, '', `#${section}${text ? '?' + text : ''}`);
}

function goTo(section) {
  const target = section && $(section);
  if (!target || target.tagName !== 'SECTION') return;
  target.scrollIntoView();
  target.focus({preventScroll: true});
}

async function show() {
  const section = recall();
  $('axis').value = page.view.x;
  $('smooth').value = page.view.smooth;
  drawCharts();
  for (const name of TYPED) $('filters').elements[name].value = page.view[name];
  page.first = 0;
  drawPrompts();
  filterFields();
  await filterRollouts();
  const wanted = page.keys.get(page.view.open);
  if (wanted !== undefined) await openRollout(wanted);
  else closeRollout();
  goTo(section);
  if (section === 'curves') goToChart(page.view.metric);
}
