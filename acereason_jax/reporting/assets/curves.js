// The curves of runs over each other, with uPlot.
'use strict';

function drawCharts() {
  page.charts.forEach((chart) => chart.plot && chart.plot.destroy());
  page.charts = [];
  const runs = page.data.curves;
  drawKeys(runs);
  const groups = new Map();
  for (const run of runs) {
    run.named = new Map(run.series.map((one) => [one.name, one]));
    for (const one of run.series) {
      if (isError(one.name)) continue;
      if (!groups.has(one.group)) groups.set(one.group, new Map());
      const group = groups.get(one.group);
      if (!group.has(one.name)) group.set(one.name, one);
    }
  }
  const folded = new Set(Array.from(
    document.querySelectorAll('.group:not([open])'), (g) => g.dataset.name));
  const known = $('charts').childElementCount > 0;
  $('charts').replaceChildren(...Array.from(groups, ([name, series]) => {
    const isOpen = known ? !folded.has(name) : name !== 'more';
    const cells = Array.from(series.values(), makeChart);
    return element('details', {class: 'group', 'data-name': name, open: isOpen},
      element('summary', {}, cut(name, 80) || 'metrics'),
      element('div', {class: 'grid'}, ...cells));
  }));
  showZoom();
}

const isLook = (name) => name.startsWith('heldout/');
const isError = (name) => name.startsWith('heldout_error/');
const errorOf = (run, name) => run.named.get(
  name.replace(/^heldout\//, 'heldout_error/'));

function drawKeys(runs) {
  const keys = runs.length > 1 ? runs.map((run, i) => element('span', {},
    swatch(`run${i}`), cut(run.run, 60))) : [];
  const bands = runs.length ? runs[0].bands : [];
  bands.forEach(([stage, first, last], i) => keys.push(element('span', {},
    swatch(`band${i % 4}`, true),
    `stage ${cut(stage, 60)}: steps ${number(first)} to ${number(last)}`)));
  const starts = runs.length ? runs[0].restarts.length : 0;
  if (starts) keys.push(element('span', {}, `▼ a start (${starts})`));
  $('keys').replaceChildren(...keys);
}

/** The cell of a metric; the plot is drawn when it comes into view. */
function makeChart(series) {
  const chart = {series, plot: null, values: element('div', {class: 'values'}),
                 holder: element('div', {class: 'plot', tabindex: '0',
                   role: 'img', onkeydown: (e) => moveCursor(chart, e)})};
  const unit = series.unit ? ` (${series.unit})` : '';
  chart.holder.setAttribute('aria-label', printable(
    cut(`${series.title}${unit}; arrow keys move along it`)));
  const isLog = () => page.view.log.includes(series.name);
  const log = element('button', {
    type: 'button', 'aria-pressed': String(isLog()),
    'aria-label': `log scale of ${cut(series.title, 80)}`,
    onclick: () => {
      page.view.log = isLog() ?
        page.view.log.filter((n) => n !== series.name) :
        [...page.view.log, series.name];
      log.setAttribute('aria-pressed', String(isLog()));
      drawChart(chart);
      remember('curves');
    }}, 'log');
  const cell = element('div', {class: 'chart', title: series.name},
    element('header', {}, element('strong', {}, cut(series.title, 120)),
      element('span', {class: 'quiet'}, cut(series.unit, 40)), log),
    chart.values, chart.holder);
  chart.isLog = isLog;
  new IntersectionObserver((seen, observer) => {
    if (!seen.some((entry) => entry.isIntersecting)) return;
    observer.disconnect();
    drawChart(chart);
  }, {rootMargin: '400px'}).observe(cell);
  page.charts.push(chart);
  return cell;
}

/** Means of the last `count` values, without those that are null. */
function smoothed(values, count) {
  let sum = 0, known = 0;
  return values.map((value, i) => {
    if (value !== null) { sum += value; known++; }
    const gone = i >= count ? values[i - count] : null;
    if (gone !== null) { sum -= gone; known--; }
    return known && value !== null ? sum / known : null;
  });
}

/** Opens the group of a metric's curve, scrolls to it and marks it. */
function goToChart(name) {
  for (const {series, holder} of page.charts) {
    const cell = holder.parentNode;
    cell.classList.toggle('marked', series.name === name);
    if (series.name !== name) continue;
    cell.closest('details').open = true;
    cell.scrollIntoView({block: 'center'});
  }
}

/** How far each step is in its stage: 1.5 is the middle of the second one. */
function placesInStages(run) {
  const names = [...new Set(page.data.curves.flatMap(
    (each) => each.bands.map(([stage]) => stage)))];
  let at = 0;
  return run.steps.map((step) => {
    while (at + 1 < run.bands.length && step >= run.bands[at + 1][1]) at++;
    if (!run.bands.length) return null;
    const [stage, first, last] = run.bands[at];
    return names.indexOf(stage) + (step - first) / (last - first + 1);
  });
}

/** The places of a run's steps on the axis; the steps if there are none. */
function axisOf(run) {
  if (page.view.x === 'stages' && run.stages?.length !== run.steps.length) {
    run.stages = placesInStages(run);
  }
  const found = run[page.view.x];
  const good = found && found.length === run.steps.length &&
    found.every((x, i) => x !== null && !(x < found[i - 1]));
  return good ? found : run.steps;
}

/** [lines, data] of a chart: what each line is, and uPlot's columns. */
function linesOf(chart) {
  const count = WINDOWS[Number(page.view.smooth)] || 0;
  const lines = [], tables = [];
  page.data.curves.forEach((run, i) => {
    const series = run.named.get(chart.series.name);
    if (!series || !run.steps.length) return;
    const keep = chart.isLog() ? (v) => (v > 0 ? v : null) : (v) => v;
    const raw = series.values.map(keep);
    const known = raw.filter((value) => value !== null).length;
    const sparse = known < raw.length / 2 || isLook(chart.series.name);
    const columns = [axisOf(run), raw];
    const smooth = count > 1 && !sparse;
    lines.push({run, index: i, sparse, faint: smooth, points: known <= 30});
    if (smooth) {
      columns.push(smoothed(raw, count));
      lines.push({run, index: i, sparse: false, faint: false, points: false});
    }
    tables.push(columns);
  });
  if (!tables.length) return [[], [[0], [null]]];
  return [lines, tables.length > 1 ? uPlot.join(tables) : tables[0]];
}

function extent() {
  const all = page.data.curves.filter((run) => run.steps.length).map(axisOf);
  const low = Math.min(...all.map((xs) => xs[0]));
  const high = Math.max(...all.map((xs) => xs[xs.length - 1]));
  return high > low ? [low, high] : [low - 1, low + 1];
}

/** The ends of the axis. uPlot never ends if no number is between them. */
function zoom() {
  const [low, high] = page.view.zoom.split(',').map(Number);
  const least = 1e-9 * Math.max(Math.abs(low), Math.abs(high));
  return high - low > least ? [low, high] : extent();
}

function setZoom(range) {
  page.view.zoom = range ?
    range.map((x) => Number(x.toPrecision(6))).join(',') : '';
  const [min, max] = zoom();
  for (const {plot} of page.charts) plot && plot.setScale('x', {min, max});
  showZoom();
  remember('curves');
}

function showZoom() {
  const count = WINDOWS[Number(page.view.smooth)];
  $('smooth-said').textContent = count ? `mean of ${count} steps` : 'none';
  if (!page.data.curves.some((run) => run.steps.length)) return;
  const [low, high] = zoom();
  $('zoom-from').value = Number(low.toPrecision(6));
  $('zoom-to').value = Number(high.toPrecision(6));
}

function drawChart(chart) {
  if (chart.plot) chart.plot.destroy();
  const [lines, data] = linesOf(chart);
  chart.lines = lines;
  const dashes = [[], [7, 3], [2, 3], [9, 3, 2, 3], [4, 4], [12, 4]];
  const axis = {stroke: colour('quiet'), font: '11px system-ui, sans-serif',
                grid: {stroke: colour('line'), width: 1},
                ticks: {stroke: colour('line'), width: 1, size: 4}};
  const text = (_, splits) => splits.map((v) => (v === null ? '' : number(v)));
  const options = {
    width: chart.holder.clientWidth, height: 190, padding: [8, 24, 0, 0], legend: {show: false},
    scales: {x: {time: false, range: () => zoom()},
             y: chart.isLog() ? {distr: 3} : {range: rangeOf(chart)}},
    axes: [{...axis, size: 26, gap: 3, values: text},
           {...axis, size: 58, gap: 3, values: text}],
    series: [{}, ...lines.map((line) => ({
      stroke: colour(`run${line.index}`), width: line.faint ? 1 : 1.5,
      alpha: line.faint ? 0.25 : 1, dash: dashes[line.index],
      spanGaps: line.sparse, points: {show: line.sparse || line.points, size: 5},
    }))],
    cursor: {sync: {key: 'curves'}, y: false, drag: {setScale: false, x: true},
             points: {size: 7}, dataIdx: nearest,
             bind: {dblclick: () => () => setZoom(null)}},
    hooks: {
      drawClear: [(plot) => drawBands(plot)],
      draw: [(plot) => drawMarks(plot, chart)],
      setCursor: [(plot) => showValues(plot, chart)],
      setSelect: [(plot) => {
        const {left, width} = plot.select;
        if (width < 4) return;
        plot.setSelect({left: 0, width: 0, top: 0, height: 0}, false);
        setZoom([left, left + width].map((at) => plot.posToVal(at, 'x')));
      }],
    },
  };
  chart.plot = new uPlot(options, data, chart.holder);
  showValues(chart.plot, chart);
}

/** A function from the least and greatest value in view to the axis' ends. */
function rangeOf({lines, series}) {
  const errors = lines.map(({run}) => errorOf(run, series.name));
  const more = !isLook(series.name) ? 0 : Math.max(0, ...errors.map(
    (each) => (each ? each.values.reduce((a, b) => Math.max(a, b ?? 0), 0) : 0)));
  return (_, low, high) => {
    if (low === null) return [0, 1];
    if (low === 0 && high === 0 && !more) return [0, 1];
    const flat = low === high && !more ? Math.abs(low) / 10 : 0;
    return uPlot.rangeNum(low - more - flat, high + more + flat, 0.08, true);
  };
}

/** The index of the value next to an index that has none. */
function nearest(plot, line, index) {
  const values = plot.data[line];
  for (let i = 0; i < values.length; i++) {
    if (values[index - i] != null) return index - i;
    if (values[index + i] != null) return index + i;
  }
  return index;
}

/** Where a step of the first run is on the axis. */
function placeOf(run, step) {
  const i = run.steps.findIndex((each) => each >= step);
  return axisOf(run)[i < 0 ? run.steps.length - 1 : i];
}

function drawBands(plot) {
  const run = page.data.curves[0];
  if (!run.steps.length) return;
  const {ctx, bbox} = plot;
  ctx.save();
  // As it is at first; uPlot's axes leave their own.
  [ctx.textAlign, ctx.textBaseline] = ['start', 'alphabetic'];
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  run.bands.forEach(([stage, first], i) => {
    const at = (step) => plot.valToPos(placeOf(run, step), 'x', true);
    const next = run.bands[i + 1];
    const left = i ? at(first) : bbox.left;
    const right = next ? at(next[1]) : at(run.steps[run.steps.length - 1]);
    ctx.fillStyle = colour(`band${i % 4}`);
    ctx.fillRect(left, bbox.top, right - left, bbox.height);
    ctx.font = `${10 * devicePixelRatio}px system-ui, sans-serif`;
    const name = printable(cut(stage, 30));
    if (ctx.measureText(name).width + 8 < right - left) {
      ctx.fillStyle = colour('quiet');
      ctx.fillText(name, left + 5, bbox.top + 12 * devicePixelRatio);
    }
  });
  ctx.restore();
}

/** Starts as marks at the top, and the errors of held-out rates as bars. */
function drawMarks(plot, chart) {
  const {ctx, bbox} = plot, size = 4 * devicePixelRatio;
  const inside = (x) => x >= bbox.left - 1 && x <= bbox.left + bbox.width + 1;
  ctx.save();
  const first = page.data.curves[0];
  ctx.fillStyle = colour('warn');
  for (const step of first.steps.length ? first.restarts : []) {
    const x = plot.valToPos(placeOf(first, step), 'x', true);
    if (!inside(x)) continue;
    ctx.beginPath();
    ctx.moveTo(x - size, bbox.top);
    ctx.lineTo(x + size, bbox.top);
    ctx.lineTo(x, bbox.top + 1.6 * size);
    ctx.fill();
  }
  for (const {run, index} of chart.lines) {
    const errors = errorOf(run, chart.series.name);
    if (!isLook(chart.series.name) || !errors) continue;
    const xs = axisOf(run), values = run.named.get(chart.series.name).values;
    ctx.strokeStyle = colour(`run${index}`);
    ctx.lineWidth = devicePixelRatio;
    ctx.globalAlpha = values.filter((v) => v !== null).length > 60 ? 0.3 : 1;
    values.forEach((value, i) => {
      const x = plot.valToPos(xs[i], 'x', true);
      if (value === null || errors.values[i] === null || !inside(x)) return;
      const ends = [-1, 1].map((sign) => plot.valToPos(
        value + sign * errors.values[i], 'y', true));
      ctx.beginPath();
      ctx.moveTo(x, ends[0]);
      ctx.lineTo(x, ends[1]);
      ctx.stroke();
    });
  }
  ctx.restore();
}

/** The values at the cursor, or the last ones. */
function showValues(plot, chart) {
  const at = plot.cursor.idx;
  const shown = [];
  chart.lines.forEach((line, i) => {
    if (line.faint) return;
    const values = plot.data[i + 1];
    const index = nearest(plot, i + 1, at ?? values.length - 1);
    const many = page.data.curves.length > 1;
    const errors = errorOf(line.run, chart.series.name);
    const step = line.run.steps[axisOf(line.run).indexOf(plot.data[0][index])];
    const error = errors && errors.name !== chart.series.name &&
      errors.values[line.run.steps.indexOf(step)];
    shown.push(element('span', {title: line.run.run},
      many ? swatch(`run${line.index}`) : null,
      number(values[index]) + (error ? ` ± ${number(error)}` : ''),
      shown.length ? null : element('span', {class: 'quiet'},
        at == null ? 'last' : `step ${number(step)}`)));
  });
  chart.values.replaceChildren(
    ...(shown.length ? shown : [element('span', {}, 'no values')]));
}

function moveCursor(chart, event) {
  const by = {ArrowLeft: -1, ArrowRight: 1}[event.key];
  if (!by || !chart.plot) return;
  event.preventDefault();
  const xs = chart.plot.data[0];
  const from = chart.plot.cursor.idx ?? xs.length - 1;
  const to = Math.max(0, Math.min(xs.length - 1, from + by));
  const left = chart.plot.valToPos(xs[to], 'x');
  chart.plot.setCursor({left, top: 10}, true, true);
}

/** A noisy curve of many steps is smoothed from the start. */
function usualSmoothing() {
  const steps = Math.max(0, ...page.data.curves.map((run) => run.steps.length));
  const above = WINDOWS.filter((count) => steps >= 300 && count <= steps / 40);
  return String(Math.max(above.length - 1, 0));
}

function startCurves() {
  DEFAULTS.smooth = usualSmoothing();
  const change = (name, key) => $(name).addEventListener('input', () => {
    page.view[key] = $(name).value;
    if (key === 'x') page.view.zoom = '';
    page.charts.forEach((chart) => chart.plot && drawChart(chart));
    showZoom();
    remember('curves');
  });
  change('axis', 'x');
  change('smooth', 'smooth');
  const typed = () => setZoom(
    [$('zoom-from').value, $('zoom-to').value].map(Number));
  $('zoom-from').addEventListener('change', typed);
  $('zoom-to').addEventListener('change', typed);
  $('zoom-reset').addEventListener('click', () => setZoom(null));
  addEventListener('resize', () => page.charts.forEach(({plot, holder}) =>
    plot && plot.setSize({width: holder.clientWidth, height: 190})));
}
