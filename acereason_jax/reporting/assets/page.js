// The start of the page, and the steps of a run that goes on.
'use strict';

// ---- A run that goes on

async function poll(wait = 3000) {
  const run = page.data.curves[0];
  try {
    const after = run && run.steps.length ? run.steps.at(-1) : 0;
    const answer = await fetch(`steps.json?after=${after}`);
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    const news = await answer.json();
    if (run) append(run, news);
    $('reload').hidden = !news.new;
    $('live').textContent = `live: step ${number(run ? run.steps.at(-1) : 0)}`;
    wait = 3000;
  } catch (error) {
    $('live').textContent = `not connected (${cut(error.message, 60)})`;
    wait = Math.min(2 * wait, 30000);
  }
  setTimeout(() => poll(wait), wait);
}

/** Adds steps to a run's curves; those that it has are skipped. */
function append(run, news) {
  const last = run.steps.length ? run.steps.at(-1) : -Infinity;
  const fresh = news.steps.map((_, i) => i).filter((i) => news.steps[i] > last);
  if (!fresh.length) return;
  const before = run.steps.length;
  for (const name of ['steps', 'hours', 'tokens']) {
    run[name].push(...fresh.map((i) => news[name][i]));
  }
  for (const series of run.series) {
    while (series.values.length < before) series.values.push(null);
    const found = news.series[series.name] || [];
    series.values.push(...fresh.map((i) => found[i] ?? null));
  }
  run.restarts.push(...news.restarts.filter((s) => !run.restarts.includes(s)));
  for (const [stage, first, end] of news.bands) {
    const newest = run.bands.at(-1);
    if (newest && newest[0] === stage) newest[2] = Math.max(newest[2], end);
    else run.bands.push([stage, first, end]);
  }
  drawKeys(page.data.curves);
  page.charts.forEach((chart) => chart.plot && drawChart(chart));
  showZoom();
}

// ---- Theme and start

function startTheme() {
  const words = {'': 'as the system', light: 'light', dark: 'dark'};
  const order = ['', 'light', 'dark'];
  let theme = '';
  const apply = () => {
    document.documentElement.style.colorScheme = theme;
    $('theme').textContent = `theme: ${words[theme]}`;
    page.charts.forEach((chart) => chart.plot && drawChart(chart));
  };
  $('theme').addEventListener('click', () => {
    theme = order[(order.indexOf(theme) + 1) % order.length];
    apply();
  });
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', apply);
  // Paper has light colours, and holds curves that were never in view.
  matchMedia('print').addEventListener('change', () => page.charts.filter(
    (chart) => chart.holder.checkVisibility()).forEach((chart) => {
    drawChart(chart);
    // At once: Firefox copies the page for the paper right after this.
    chart.plot.batch(() => {});
  }));
  apply();
}

function startSections() {
  const links = new Map(Array.from(document.querySelectorAll('nav a'),
    (link) => [link.hash.slice(1), link]));
  const observer = new IntersectionObserver((seen) => {
    for (const {target, isIntersecting} of seen) {
      const link = links.get(target.id);
      if (isIntersecting) link.setAttribute('aria-current', 'true');
      else link.removeAttribute('aria-current');
    }
  }, {rootMargin: '-45% 0px -45% 0px'});
  document.querySelectorAll('main > section').forEach((s) => observer.observe(s));
}

async function start() {
  page.data = readJson(await unpack('index'));
  document.body.dataset.ready = '';
  startTheme();
  startSections();
  startCurves();
  startRollouts();
  startFields();
  drawSlots();
  $('reload').addEventListener('click', () => location.reload());
  await show();
  addEventListener('hashchange', () => {
    const hash = location.hash.slice(1);
    if (hash.includes('?')) show();
    else if ($(hash)) remember(hash);
  });
  document.body.dataset.ready = '1';
  if (document.body.dataset.watch) poll();
}

start();
