// The prompts, the slots and the fields of the config.
'use strict';

function drawPrompts(first = 0) {
  const prompts = page.data.prompts;
  if (!prompts) return;
  const {find_prompt: find} = page.view;
  const kinds = [...new Set(prompts.map(([, , each]) => each))];
  const kind = kinds.includes(page.view.kind) ? page.view.kind : '';
  const shown = prompts.filter(([id, domain, each]) =>
    (!kind || kind === each) && (holds(id, find) || holds(domain, find)));
  const choose = element('select', {id: 'prompt-kind', onchange: (event) => {
    page.view.kind = event.target.value;
    remember('prompts');
    drawPrompts();
    $('prompt-kind').focus();
  }}, element('option', {value: ''}, 'all kinds'), ...kinds.map((each) =>
    element('option', {value: each, selected: each === kind},
      cut(each, 60))));
  const search = element('input', {
    type: 'search', id: 'find-prompt', value: find, placeholder: 'id or domain',
    onchange: (event) => {
      page.view.find_prompt = event.target.value;
      remember('prompts');
      drawPrompts();
    }});
  const rows = shown.slice(first, first + 50).map(promptRow);
  $('prompt-view').replaceChildren(...[
    element('div', {class: 'controls'},
      element('label', {}, 'kind ', choose), element('label', {}, 'find ', search),
      element('span', {role: 'status', id: 'prompt-count'},
        `${number(shown.length)} of ${number(prompts.length)} prompts`)),
    element('div', {class: 'scroll'}, element('table', {},
      heads(['prompt', 'domain', 'kind', 'solved, over time', 'first', 'last',
             'rollouts here']),
      element('tbody', {}, ...rows))),
    pager(shown.length, first, 50, drawPrompts)].filter(Boolean));
}

function promptRow([id, domain, kind, rates]) {
  const here = page.data.rollouts.filter((row) => row.prompt === id).length;
  const rate = (at) => (at ? `${at[1]} of ${at[2]}` : '–');
  const show = element('button', {type: 'button', onclick: () => {
    $('clear').click();
    page.view.prompt = $('filters').elements.prompt.value = id;
    changeFilters();
    goTo('rollouts');
  }}, `show ${here}`);
  return element('tr', {},
    element('td', {}, cut(id, 120)), element('td', {}, cut(domain, 60)),
    element('td', {}, cut(kind, 60)), element('td', {}, spark(rates)),
    element('td', {}, rate(rates[0])), element('td', {}, rate(rates.at(-1))),
    element('td', {}, here ? show : '–'));
}

function spark(rates) {
  const some = rates.slice(-40);
  const words = some.map(([step, solved, of]) => `step ${step}: ${solved} of ${of}`);
  const bars = some.flatMap(([, solved, of], i) => {
    const share = of ? solved / of : 0;
    return [element('rect', {class: 'track', x: 5 * i, width: 4, y: 0, height: 24}),
      element('rect', {class: 'fill', x: 5 * i, width: 4, y: 24 - 24 * share,
                       height: 24 * share})];
  });
  return element('svg', {class: 'spark', viewBox: '0 0 200 24', role: 'img',
    preserveAspectRatio: 'none', 'aria-label': words.join('; ')},
    element('title', {}, words.join('\n')), ...bars);
}

/** Stays in slots: a row a slot, decode steps to the right. */
function drawSlots() {
  const stays = page.data.slots;
  if (!stays || !stays.length) return;
  const slots = Math.max(...stays.map(([slot]) => slot)) + 1;
  const steps = Math.max(...stays.map(([, , , , ended]) => ended), 1);
  const height = Math.max(3, Math.min(16, 460 / slots));
  const said = element('p', {role: 'status', id: 'stay'},
    `0 to ${number(steps)} decode steps from left to right; each row is a slot. ` +
    'Point at a bar, or use the arrow keys.');
  const bars = stays.map(([slot, , , began, ended, reason]) => element('rect', {
    class: `s-${reason}`, x: 1000 * began / steps, y: height * slot,
    width: Math.max(1000 * (ended - began) / steps, 0.8),
    height: height * 0.85}));
  let at = -1;
  const choose = (i) => {
    if (i < 0 || i >= stays.length) return;
    if (at >= 0) bars[at].classList.remove('here');
    at = i;
    bars[at].classList.add('here');
    const [slot, prompt, index, began, ended, reason] = stays[i];
    said.textContent = printable(`slot ${slot}: ${cut(prompt, 80)} rollout ` +
      `${index}, decode steps ${number(began)} to ${number(ended)}, ${reason}`);
  };
  const picture = element('svg', {class: 'stays', tabindex: '0', role: 'group',
    viewBox: `0 0 1000 ${height * slots}`, preserveAspectRatio: 'none',
    'aria-label': 'Stays in slots; the arrow keys go from stay to stay',
    onmouseover: (event) => choose(bars.indexOf(event.target)),
    onkeydown: (event) => {
      const by = {ArrowLeft: -1, ArrowRight: 1}[event.key];
      if (!by) return;
      event.preventDefault();
      choose(at + by);
    }}, ...bars);
  picture.style.height = `${height * slots}px`;
  const names = ['stop', 'length', 'error', 'preempted'];
  const keys = names.map((name) => element('span', {},
    swatch(name, true),
    `${name} (${number(stays.filter((stay) => stay[5] === name).length)})`));
  $('slot-view').replaceChildren(element('div', {class: 'keys'}, ...keys,
    element('span', {}, slotWords(stays, slots, steps))), picture, said);
}

/** How busy the slots are, and when half of them stop. */
function slotWords(stays, slots, steps) {
  const busy = stays.reduce((sum, [, , , began, ended]) => sum + ended - began, 0);
  const ends = new Map();
  for (const [slot, , , , ended] of stays) {
    ends.set(slot, Math.max(ends.get(slot) || 0, ended));
  }
  const sorted = [...ends.values()].sort((a, b) => a - b);
  const half = sorted[Math.ceil(slots / 2) - 1] ?? sorted.at(-1);
  return `${(100 * busy / (slots * steps)).toFixed(1)}% of slot steps are busy; half ` +
    `of the slots are idle from step ${number(half)} of ${number(steps)}`;
}

function filterFields() {
  const rows = [...document.querySelectorAll('#fields tbody tr')];
  const {find_field: find} = page.view;
  $('changed').value = page.view.changed;
  // Empty too if the address holds no choice.
  const changed = $('changed').value || 'all';
  if (changed === 'all') $('changed').value = '';
  $('find-field').value = find;
  let count = 0;
  for (const row of rows) {
    const kinds = (row.dataset.changed || '').split(' ').filter(Boolean);
    const isKind = changed === 'all' || (changed === 'any' ? kinds.length > 0 :
      kinds.includes(changed));
    row.hidden = !isKind || !holds(row.textContent, find);
    count += !row.hidden;
  }
  $('field-count').textContent = `${number(count)} of ${number(rows.length)} fields`;
}

function startFields() {
  if (!document.querySelector('#fields[data-recipe]')) {
    $('changed').querySelector('[value=recipe]').remove();
  }
  if (!document.querySelector('#fields [data-changed]')) DEFAULTS.changed = 'all';
  const change = () => {
    page.view.changed = $('changed').value || 'all';
    page.view.find_field = $('find-field').value;
    filterFields();
    remember('config');
  };
  $('changed').addEventListener('change', change);
  $('find-field').addEventListener('input', change);
}
