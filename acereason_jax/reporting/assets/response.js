// The open rollout: why it has its verdict, its group, its tokens.
'use strict';

const CODES = ['surprise', 'entropy', 'mismatch'];
const COLOURS = [...CODES, 'advantage', 'none'];
const HIGH = 160;           // The least code that stands out.
const LONG = 100000;        // Characters of a question that are shown.
const FOLD = 2000;          // Characters of thinking that are not folded.
const BLOCK = [3000, 12000];  // Characters of a block, with and without a line.

/** Reads a block: see page.py:_packed. */
function readRollout(bytes) {
  const size = new DataView(bytes.buffer).getUint32(0, true);
  const found = readJson(bytes.subarray(4, 4 + size));
  const column = (i) => bytes.subarray(
    4 + size + i * found.tokens, 4 + size + (i + 1) * found.tokens);
  const [low, high, top] = [column(0), column(1), column(2)];
  // Token i is text.slice(starts[i], starts[i + 1]).
  found.starts = new Uint32Array(found.tokens + 1);
  for (let i = 0; i < found.tokens; i++) {
    found.starts[i + 1] = found.starts[i] + low[i] + 256 * high[i] +
      65536 * top[i];
  }
  found.codes.forEach((name, i) => { found[name] = column(i + 3); });
  return found;
}

/** The value of a code of a scale, and of where a bin of 32 codes begins. */
function valueOf(name, code) {
  const [unit, most] = page.data.scales[name];
  return unit * Math.expm1(Math.max(code, 0) * Math.log1p(most / unit) / 255);
}
const binStart = (name, bin) => valueOf(name, 32 * bin - 0.5);

async function openRollout(i, byHand = false) {
  const serial = ++page.opening;
  const rollout = readRollout(await unpack(`rollout-${i}`));
  if (serial !== page.opening) return;
  const row = page.data.rollouts[i];
  const isFirst = page.open === null;
  page.open = {number: i, row, rollout, token: -1};
  page.view.open = row.key;
  $('panes').classList.add('open');
  $('detail').hidden = false;
  drawDetail();
  markRow(row.key);
  if (!byHand) return;
  remember('rollouts');
  $('detail').scrollTop = 0;
  $('detail').focus({preventScroll: true});
  if (innerWidth < 1100) $('detail').scrollIntoView();
  else if (isFirst) $('panes').scrollIntoView();
}

function closeRollout(byHand = false) {
  const key = page.view.open;
  page.open = null;
  page.view.open = '';
  $('panes').classList.remove('open');
  $('detail').hidden = true;
  $('detail').replaceChildren();
  if (!byHand) return;
  remember('rollouts');
  for (const row of $('list').querySelectorAll('tr[data-key]')) {
    if (row.dataset.key === key) row.querySelector('button').focus();
  }
  markRow('');
}

function drawDetail() {
  const {row, rollout} = page.open;
  const button = (text, onclick) =>
    element('button', {type: 'button', onclick}, text);
  const link = button('copy link', () => copy(location.href, link));
  const parts = [
    element('div', {class: 'bar-row'},
      element('h3', {}, verdict(row.status),
        ` ${cut(row.prompt, 80)}, rollout ${row.index}`),
      button('previous (k)', () => step(-1)), button('next (j)', () => step(1)),
      link, button('close (Esc)', () => closeRollout(true))),
    facts(row), whyOf(rollout.why, row), members(row),
    ...textBox('Question', rollout.question),
    ...textBox('Reference', rollout.answer),
    element('div', {class: 'bar-row'}, element('h3', {}, 'Response'),
      button('next high value', () => nextHigh(1)),
      button('end', () => chooseToken(rollout.tokens - 1, true)),
      colourChoice()),
    element('div', {id: 'response-view'}),
  ];
  // A rollout without a group has no table of it.
  $('detail').replaceChildren(...parts.filter(Boolean));
  drawResponse();
}

/** A heading, and a text of which what does not fit can be scrolled. */
function textBox(title, text) {
  const box = element('div', {class: 'text', tabindex: '0', role: 'group',
                              'aria-label': title}, cut(text, LONG));
  return [element('h3', {}, title), box];
}

function facts(row) {
  const known = {
    step: number(row.step), phase: row.phase, stage: row.stage,
    domain: row.domain, reward: number(row.reward),
    advantage: number(row.advantage), tokens: number(row.length),
    'stopped by': row.stop, gradient: row.trained ? 'yes' : 'none',
    'in the loss': row.counted ? 'counted' : 'left out', solved: row.solved ? 'yes' : 'no',
    'kept because': row.kept,
  };
  return element('dl', {class: 'facts'},
    ...Object.entries(known).map(([name, value]) => element('div', {},
      element('dt', {}, name), element('dd', {}, cut(value) || '–'))));
}

function whyOf(why, row) {
  const button = element('button', {
    type: 'button', onclick: () => copy(why.command, button)}, 'copy');
  const lines = [['verdict', row.status + (row.detail ? `: ${row.detail}` : '')], ...why.lines];
  return element('div', {class: 'why'},
    element('h3', {}, 'Why this verdict'),
    element('dl', {}, ...lines.flatMap(([what, text]) => [
      element('dt', {}, cut(what)), element('dd', {}, cut(text, 20000))])),
    why.note ? element('p', {class: 'quiet'}, cut(why.note, 2000)) : null,
    why.command ? element('div', {class: 'command'},
      element('code', {}, cut(why.command, 4000)), button) : null);
}

async function copy(text, button) {
  const before = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = 'copied';
  } catch {
    button.textContent = 'not allowed: select and copy';
  }
  setTimeout(() => { button.textContent = before; }, 1500);
}

/** The rollouts of the same prompt and step, side by side. */
function members(row) {
  const group = page.data.rollouts.map((other, i) => [other, i]).filter(
    ([other]) => other.step === row.step && other.phase === row.phase &&
      other.prompt === row.prompt);
  if (group.length < 2) return null;
  const most = Math.max(...group.map(([other]) => other.length), 1);
  const rows = group.map(([other, i]) => element('tr', {
    class: 'member', 'aria-current': other === row ? 'true' : null,
    onclick: () => openRollout(i, true)},
    element('td', {}, element('button', {type: 'button',
      'aria-label': `open rollout ${other.index}`}, `#${other.index}`)),
    element('td', {}, verdict(other.status)),
    element('td', {class: 'n'}, number(other.reward)),
    element('td', {class: 'n'}, number(other.advantage)),
    element('td', {class: 'n'}, number(other.length)),
    element('td', {}, element('svg', {class: 'meter', viewBox: '0 0 100 8',
      preserveAspectRatio: 'none', 'aria-hidden': 'true'},
      element('rect', {class: 'fill', height: 8,
                       width: 100 * other.length / most}))),
    element('td', {}, other.extracted === null ? '–' : cut(other.extracted, 80))));
  const names = ['', 'verdict', 'reward', 'advantage', 'tokens', 'length',
                 'extracted'];
  return element('div', {class: 'scroll'}, element('table', {},
    element('caption', {}, `The group: ${group.length} rollouts of this prompt`),
    heads(names), element('tbody', {}, ...rows)));
}

function colourChoice() {
  const options = COLOURS.map((name) => element('option', {
    value: name, selected: colourMode() === name,
    disabled: CODES.includes(name) && !page.open.rollout[name]},
    name + (CODES.includes(name) && !page.open.rollout[name] ?
      ' (not known)' : '')));
  const select = element('select', {id: 'colour', onchange: () => {
    page.view.colour = select.value;
    remember('rollouts');
    drawResponse();
  }}, ...options);
  return element('label', {class: 'quiet'}, 'colour by ', select);
}

/** What the tokens are coloured by: what is chosen, if it is known. */
function colourMode() {
  const {colour} = page.view;
  if (!COLOURS.includes(colour)) return 'surprise';
  return CODES.includes(colour) && !page.open.rollout[colour] ?
    'surprise' : colour;
}

function legend(mode) {
  const {row} = page.open;
  if (mode === 'none') return null;
  if (mode === 'advantage') {
    const sign = row.advantage > 0 ? 'more' : row.advantage < 0 ? 'less' : 'b0';
    return element('div', {class: 'scale'}, element('span', {class: sign},
      `advantage ${number(row.advantage)}, of every token of this rollout`));
  }
  const bins = Array.from({length: 8}, (_, bin) => {
    const short = (at) => number(Number(binStart(mode, at).toPrecision(2)));
    const end = bin < 7 ? `– ${short(bin + 1)}` : 'and more';
    return element('span', {class: `b${bin}`}, `${short(bin)} ${end}`);
  });
  return element('div', {class: 'scale', 'data-of': mode}, ...bins,
    element('b', {class: 'quiet'}, ' nats'));
}

/** A function from a token to the class of its colour. */
function painter(mode) {
  const {row, rollout} = page.open;
  if (CODES.includes(mode)) return (i) => `b${rollout[mode][i] >> 5}`;
  const sign = row.advantage > 0 ? 'more' : row.advantage < 0 ? 'less' : '';
  return () => (mode === 'advantage' ? sign : '');
}

function drawResponse() {
  const {open} = page, {rollout} = open;
  const mode = colourMode();
  open.spans = [];            // {first, last, node}: runs of equal colour.
  open.token = -1;
  const body = element('div', {
    class: 'response', id: 'response', tabindex: '0', role: 'group',
    'aria-label': 'Response: the arrow keys go from token to token, with Shift ' +
      'to the next one of a high value',
    onmousemove: hover, onkeydown: moveToken});
  const split = thoughtEnd(rollout);
  if (split) {
    const characters = rollout.starts[split];
    const thinking = element('details', {open: characters <= FOLD},
      element('summary', {}, `thinking: ${number(split)} tokens, ` +
        `${number(characters)} characters`));
    fill(thinking, 0, split, painter(mode));
    body.append(thinking);
  }
  fill(body, split, rollout.tokens, painter(mode));
  const rest = rollout.text.slice(rollout.starts[rollout.tokens]);
  for (let i = 0; i < rest.length; i += BLOCK[1]) {
    body.append(element('div', {class: 'block'}, rest.slice(i, i + BLOCK[1])));
  }
  const token = element('div', {class: 'token', id: 'token', role: 'status'},
    'Point at a token, or use the arrow keys in the response.');
  const parts = [legend(mode), minimap(mode), token, body];
  $('response-view').replaceChildren(...parts.filter(Boolean));
}

/** The number of tokens up to the end of the thinking; 0 without an end. */
function thoughtEnd({text, starts, tokens}) {
  const at = text.indexOf('</think>');
  if (at < 0) return 0;
  let first = 0;
  while (first < tokens && starts[first] < at + 8) first++;
  return first;
}

/** Puts tokens into blocks, which the browser draws when they are in view. */
function fill(parent, first, last, paint) {
  const {rollout, spans} = page.open, {starts, text} = rollout;
  let block = null, size = 0, begin = first;
  for (let i = first; i < last; i++) {
    block = block || parent.appendChild(element('div', {class: 'block'}));
    const isLine = text[starts[i + 1] - 1] === '\n';
    size += starts[i + 1] - starts[i];
    const isFull = size > (isLine ? BLOCK[0] : BLOCK[1]);
    const style = paint(begin);
    if (i + 1 < last && !isFull && paint(i + 1) === style) continue;
    const node = element('span', {class: style || null},
      text.slice(starts[begin], starts[i + 1]));
    spans.push({first: begin, last: i + 1, node});
    block.append(node);
    begin = i + 1;
    if (isFull) { block = null; size = 0; }
  }
}

/** The greatest value in each of some parts of the response. */
function minimap(mode) {
  const {rollout} = page.open, codes = rollout[mode];
  if (!CODES.includes(mode) || rollout.tokens < 40) return null;
  const count = Math.min(160, rollout.tokens);
  const bars = Array.from({length: count}, (_, i) => {
    const first = Math.floor(i * rollout.tokens / count);
    const last = Math.floor((i + 1) * rollout.tokens / count);
    const top = codes.subarray(first, last).reduce((a, b) => Math.max(a, b), 0);
    return element('rect', {x: i, width: 0.85, y: 32 - top / 8,
                            height: Math.max(top / 8, 0.3)});
  });
  const onclick = (event) => {
    const {left, width} = event.currentTarget.getBoundingClientRect();
    const share = (event.clientX - left) / width;
    chooseToken(Math.floor(share * rollout.tokens), true);
  };
  return element('svg', {class: 'minimap', viewBox: `0 0 ${count} 32`,
    preserveAspectRatio: 'none', role: 'img', onclick,
    'aria-label': `greatest ${mode} along the response; click to go there`},
    ...bars);
}

/** The run of equal colour that a token is in. */
function spanOf(token) {
  const {spans} = page.open;
  let low = 0, high = spans.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (spans[middle].first <= token) low = middle; else high = middle - 1;
  }
  return spans[low];
}

const shownLength = ({text, starts}, i) =>
  printable(text.slice(starts[i], starts[i + 1])).length;

function hover(event) {
  const {open} = page;
  let node, offset;
  if (document.caretPositionFromPoint) {
    const spot = document.caretPositionFromPoint(event.clientX, event.clientY);
    if (spot) [node, offset] = [spot.offsetNode, spot.offset];
  } else if (document.caretRangeFromPoint) {
    const range = document.caretRangeFromPoint(event.clientX, event.clientY);
    if (range) [node, offset] = [range.startContainer, range.startOffset];
  }
  const span = node && node.parentNode !== event.target ? null :
    open.spans.find((each) => each.node === event.target);
  if (!span) return;
  let token = span.first;
  while (token < span.last - 1 &&
         (offset -= shownLength(open.rollout, token)) >= 0) token++;
  chooseToken(token, false);
}

function moveToken(event) {
  const {open} = page, {rollout} = open;
  if (event.target.id !== 'response') return;
  const by = {ArrowLeft: -1, ArrowRight: 1}[event.key];
  let to = {Home: 0, End: rollout.tokens - 1}[event.key];
  if (by) {
    if (event.shiftKey) nextHigh(by);
    else to = open.token + by;
  }
  if (by) event.preventDefault();
  if (to === undefined) return;
  event.preventDefault();
  chooseToken(to, true);
}

/** Goes to the next token, by steps of 1 or -1, whose colour is a strong one. */
function nextHigh(by) {
  const {token, rollout} = page.open, codes = rollout[colourMode()];
  let to = token + by;
  const isLow = () => codes[to] < HIGH && to > 0 && to < rollout.tokens - 1;
  while (codes && isLow()) to += by;
  chooseToken(to, true);
}

/** Shows a token's numbers; scrolls to it if asked. */
function chooseToken(token, scroll) {
  const {open} = page, {rollout} = open;
  if (!rollout.tokens) return;
  token = Math.max(0, Math.min(rollout.tokens - 1, token));
  if (token === open.token) return;
  open.token = token;
  const text = rollout.text.slice(
    rollout.starts[token], rollout.starts[token + 1]);
  const numbers = CODES.filter((name) => rollout[name]).map((name) => {
    const code = rollout[name][token], bin = code >> 5;
    const end = bin < 7 ? number(binStart(name, bin + 1)) : '…';
    const chance = name !== 'surprise' ? '' :
      ` (p = ${number(Math.exp(-valueOf(name, code)))})`;
    return element('span', {'data-name': name, 'data-bin': bin},
      ` ${name} ${number(valueOf(name, code))}${chance}` +
      ` in ${number(binStart(name, bin))} – ${end}`);
  });
  $('token').replaceChildren(`token ${number(token + 1)} `,
    element('code', {}, cut(JSON.stringify(text), 60)),
    ...numbers.flatMap((each, i) => (i ? [' · ', each] : [each])));
  highlight(token, scroll);
}

function highlight(token, scroll) {
  const {rollout} = page.open;
  const {first, node} = spanOf(token);
  const folded = node.closest('details');
  if (folded && scroll) folded.open = true;
  if (!node.firstChild) return;
  let from = 0;
  for (let i = first; i < token; i++) from += shownLength(rollout, i);
  const length = node.firstChild.length;
  const range = new Range();
  range.setStart(node.firstChild, Math.min(from, length));
  range.setEnd(node.firstChild,
    Math.min(from + shownLength(rollout, token), length));
  if (globalThis.Highlight) CSS.highlights.set('token', new Highlight(range));
  if (!scroll) return;
  const {top, bottom} = range.getBoundingClientRect();
  if (top < 100 || bottom > innerHeight - 20) {
    node.scrollIntoView({block: 'center'});
  }
}
