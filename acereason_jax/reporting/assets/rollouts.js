// The rollouts: filters and their list.
'use strict';

const isWithin = (value, from, to) =>
  !(from !== '' && value < Number(from)) && !(to !== '' && value > Number(to));
const holds = (text, part) =>
  String(text).toLowerCase().includes(part.toLowerCase());

/** Whether a rollout passes the filters, except those of one choice. */
function passes(row, except) {
  const view = page.view;
  for (const name of Object.keys(CHOICES)) {
    if (name !== except && view[name].length &&
        !view[name].includes(printable(row[name] ?? ''))) return false;
  }
  return isWithin(row.step, view.step_from, view.step_to) &&
    isWithin(row.length, view.length_from, view.length_to) &&
    holds(row.prompt, view.prompt) && holds(row.detail, view.detail);
}

const isHit = (i) => !page.view.text || page.search.hits[i] === true;

/** Looks for the text in the rollouts that pass; false if another began. */
async function searchTexts(serial) {
  const {search, view, data} = page;
  if (search.query !== view.text) page.search = {query: view.text, hits: []};
  const hits = page.search.hits;
  for (let i = 0; view.text && i < data.rollouts.length; i++) {
    if (hits[i] !== undefined) continue;
    const {question, text} = readRollout(await unpack(`rollout-${i}`));
    if (serial !== page.searching) return false;
    hits[i] = holds(question, view.text) || holds(text, view.text);
    if (i % 50 === 49) {
      $('count').textContent = `searching: ${i + 1} of ${data.rollouts.length}`;
      await new Promise((done) => setTimeout(done));
    }
  }
  return serial === page.searching;
}

async function filterRollouts() {
  const serial = ++page.searching;
  document.body.dataset.busy = '1';
  if (!await searchTexts(serial)) return;
  const {rollouts} = page.data;
  page.shown = rollouts.map((_, i) => i).filter(
    (i) => passes(rollouts[i]) && isHit(i));
  sortShown();
  page.first = Math.min(page.first, Math.max(page.shown.length - 1, 0));
  $('count').textContent = `${number(page.shown.length)} of ` +
    `${number(rollouts.length)} rollouts`;
  drawChoices();
  drawList();
  delete document.body.dataset.busy;
}

function sortShown() {
  const name = page.view.sort.replace(/^-/, '');
  const column = COLUMNS.find((each) => each.name === name);
  if (!column) return;
  const sign = page.view.sort.startsWith('-') ? -1 : 1;
  const value = (i) => column.value(page.data.rollouts[i]) ?? -Infinity;
  const order = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
  page.shown.sort((i, j) => sign * order(value(i), value(j)) || i - j);
}

const ORDER = ['right', 'wrong', 'unparsed', 'timeout', 'error'];

function drawChoices() {
  const {rollouts} = page.data;
  const focus = document.activeElement && document.activeElement.dataset.choice;
  $('choices').replaceChildren(...Object.entries(CHOICES).map(([name, title]) => {
    const known = ORDER.filter((value) => name === 'status' &&
      rollouts.some((row) => row.status === value));
    const counts = new Map(known.map((value) => [value, 0]));
    for (const row of rollouts) counts.set(printable(row[name] ?? ''), 0);
    for (const value of page.view[name]) counts.set(value, 0);
    rollouts.forEach((row, i) => {
      if (!passes(row, name) || !isHit(i)) return;
      const value = printable(row[name] ?? '');
      counts.set(value, counts.get(value) + 1);
    });
    const chips = Array.from(counts, ([value, count]) => chip(name, value, count));
    return element('fieldset', {}, element('legend', {}, title), ...chips);
  }), commonReasons());
  if (!focus) return;
  for (const input of $('choices').querySelectorAll('[data-choice]')) {
    if (input.dataset.choice === focus) input.focus();
  }
}

/** The most frequent reasons of the judge, as buttons that filter. */
function commonReasons() {
  const counts = new Map();
  for (const i of page.shown) {
    const {detail} = page.data.rollouts[i];
    if (detail) counts.set(detail, (counts.get(detail) || 0) + 1);
  }
  const most = [...counts].sort((a, b) => b[1] - a[1]).slice(0, 6);
  const buttons = most.map(([detail, count]) => element('button', {
    type: 'button', class: 'reason', 'data-choice': `detail=${detail}`,
    onclick: () => {
      page.view.detail = $('filters').elements.detail.value = detail;
      changeFilters();
    }}, cut(detail, 80), element('b', {}, number(count))));
  return element('fieldset', {}, element('legend', {}, 'frequent reasons'),
    ...(buttons.length ? buttons : ['none']));
}

function chip(name, value, count) {
  const input = element('input', {
    type: 'checkbox', 'data-choice': `${name}=${value}`,
    checked: page.view[name].includes(value),
    onchange: () => {
      page.view[name] = page.view[name].filter((each) => each !== value);
      if (input.checked) page.view[name].push(value);
      changeFilters();
    }});
  const label = name === 'status' ? verdict(value) : cut(value, 60) || '(none)';
  return element('label', {class: count ? 'chip' : 'chip none'}, input,
    element('span', {}, label, element('b', {}, number(count))));
}

function changeFilters() {
  page.first = 0;
  remember('rollouts');
  return filterRollouts();
}

const COLUMNS = [
  {name: 'status', title: 'verdict', value: (row) => row.status},
  {name: 'step', title: 'step', value: (row) => row.step, n: true},
  {name: 'stage', title: 'stage', value: (row) => row.stage, wide: true},
  {name: 'domain', title: 'domain', value: (row) => row.domain, wide: true},
  {name: 'prompt', title: 'prompt', value: (row) => row.prompt},
  {name: 'index', title: '#', value: (row) => row.index, n: true},
  {name: 'length', title: 'tokens', value: (row) => row.length, n: true},
  {name: 'reward', title: 'reward', value: (row) => row.reward, n: true},
  {name: 'advantage', title: 'advantage', value: (row) => row.advantage,
   n: true, wide: true},
  {name: 'surprise', title: 'surprise', n: true, wide: true,
   value: (row) => (row.logp === null ? null : -row.logp / (row.length || 1))},
  {name: 'stop', title: 'stop', value: (row) => row.stop, wide: true},
  {name: 'detail', title: "judge's reason", value: (row) => row.detail,
   wide: true},
];

function drawList() {
  const {shown, first, view} = page;
  const rows = shown.slice(first, first + PAGE_ROWS).map(listRow);
  const table = element('table', {},
    element('caption', {}, 'Click a row, or use j and k, to open a rollout'),
    element('thead', {}, element('tr', {}, ...COLUMNS.map(listHead))),
    element('tbody', {}, ...rows));
  const go = (to) => { page.first = to; drawList(); };
  const pages = pager(shown.length, first, PAGE_ROWS, go);
  $('list').replaceChildren(table, ...(pages ? [pages] : []));
  markRow(view.open);
}

function listHead({name, title, n, wide}) {
  const {sort} = page.view;
  const order = sort === name ? 'ascending' :
    sort === `-${name}` ? 'descending' : null;
  const arrow = {ascending: ' ▲', descending: ' ▼'}[order] || '';
  const next = {ascending: `-${name}`, descending: ''}[order] ?? name;
  return element('th', {scope: 'col', 'aria-sort': order,
                        class: `${n ? 'n' : ''} ${wide ? 'wide' : ''}`},
    element('button', {type: 'button', 'data-sort': name, onclick: async () => {
      page.view.sort = next;
      await changeFilters();
      $('list').querySelector(`[data-sort="${name}"]`).focus();
    }}, title + arrow));
}

function listRow(i) {
  const row = page.data.rollouts[i];
  const open = () => openRollout(i, true);
  const cells = COLUMNS.map(({name, value, n, wide}) => {
    const found = value(row);
    const text = typeof found === 'number' || n ? number(found) : cut(found, 120);
    const content = name !== 'status' ? text : element('button', {
      type: 'button', 'aria-label': `open ${row.status}, step ${row.step}, ` +
        `prompt ${cut(row.prompt, 60)}, rollout ${row.index}`},
      verdict(row.status));
    const style = [n && 'n', wide && 'wide', !n && name !== 'status' && 'narrow'];
    return element('td', {class: style.filter(Boolean).join(' '),
                          title: n ? null : cut(found, 300)}, content);
  });
  return element('tr', {'data-key': row.key, onclick: open}, ...cells);
}

function markRow(key) {
  for (const row of $('list').querySelectorAll('tr[data-key]')) {
    const isOpen = row.dataset.key === key;
    if (isOpen) row.setAttribute('aria-current', 'true');
    else row.removeAttribute('aria-current');
    if (isOpen && $('panes').classList.contains('open')) {
      row.scrollIntoView({block: 'nearest'});
    }
  }
}

function startRollouts() {
  const isEmpty = !page.data.rollouts.length;
  for (const id of ['filters', 'count', 'panes']) $(id).hidden = isEmpty;
  page.data.rollouts.forEach((row, i) => {
    row.key = printable(`${row.step}.${row.phase}.${row.index}.` +
      cut(row.prompt, 200));
    page.keys.set(row.key, i);
  });
  let timer = 0;
  $('filters').addEventListener('input', (event) => {
    if (!TYPED.includes(event.target.name)) return;
    document.body.dataset.busy = '1';
    page.view[event.target.name] = event.target.value;
    clearTimeout(timer);
    timer = setTimeout(changeFilters, 200);
  });
  $('filters').addEventListener('submit', (event) => event.preventDefault());
  $('clear').addEventListener('click', () => {
    for (const name of [...Object.keys(CHOICES), ...TYPED]) {
      page.view[name] = structuredClone(DEFAULTS[name]);
    }
    $('filters').reset();
    changeFilters();
  });
  addEventListener('keydown', (event) => {
    if (/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === 'j') step(1);
    else if (event.key === 'k') step(-1);
    else if (event.key === 'Escape' && page.open) closeRollout(true);
  });
}

/** Opens the next rollout of the list, or the one before. */
function step(by) {
  const {shown, open} = page;
  const at = open ? shown.indexOf(open.number) : -1;
  const to = open ? at + by : 0;
  if (to < 0 || to >= shown.length) return;
  if (to < page.first || to >= page.first + PAGE_ROWS) {
    page.first = to - to % PAGE_ROWS;
    drawList();
  }
  openRollout(shown[to], true);
}
