// The page: what is looked at, and what keys and clicks change of it.

const state = {
  at: 0, open: new Set(), chosen: null, moment: null, moments: [],
  get step() { return this.steps[this.at]; },
};

function take(data) {
  fillPool(data.numbers);
  Object.assign(state, {
    layers: data.layers, steps: data.steps, inputs: data.inputs,
    optimizer: data.optimizer, lossName: data.loss_name,
  });
  state.at = Math.min(state.at, state.steps.length - 1);
  document.title = `x-ray: ${data.title}`;
  byId('title').textContent = data.title;
  byId('about').textContent =
    `${data.backend} \u00b7 ${data.dtype} \u00b7 ${data.loss_name} \u00b7 ${data.optimizer}`;
}

/** What an act changes is drawn anew, and the moment is said. */
const acts = {
  choose(name) {
    openAround(name);
    const { phase } = state.moment;
    goTo(phase === 'loss' ? 'forward' : phase, name);
  },
  phase(phase) { goTo(phase, state.chosen); },
  loss() { goTo('loss', null); },
  toggle(name) {
    if (!state.open.delete(name)) state.open.add(name);
    remake();
    draw();
    document.querySelector(`[data-toggle="${CSS.escape(name)}"]`)?.focus();
  },
  step(at) {
    state.at = at;
    remake();
    draw();
  },
};

function goTo(phase, name) {
  const wanted = phase === 'update' ? null : name;
  const found = state.moments.find((one) => one.phase === phase && one.name === wanted);
  if (!found) return; // a layer that this step does not call
  if (name !== null) state.chosen = name;
  state.moment = found;
  draw();
}

/** Open all layers that hold a layer. */
function openAround(name) {
  const layer = state.layers.find((one) => one.name === name);
  if (layer.inside === null || state.open.has(layer.inside)) return;
  state.open.add(layer.inside);
  openAround(layer.inside);
  remake();
}

/** Make the moments of the layers that are seen, and stay at the one that was looked at. */
function remake() {
  const seen = visible(state.layers, state.open).filter((one) => state.step.layers[one.name]);
  const was = state.moment || { phase: 'forward', name: null };
  state.moments = momentsOf(seen);
  let { name } = was;
  while (name && !seen.some((one) => one.name === name)) {
    name = state.layers.find((one) => one.name === name)?.inside ?? null;
  }
  state.moment = state.moments.find((one) => one.phase === was.phase && one.name === name) ||
    state.moments[0];
  if (!seen.some((one) => one.name === state.chosen)) state.chosen = state.moment.name || seen[0]?.name;
}

function move(by) {
  if (!state.steps) return;
  const to = state.moments.indexOf(state.moment) + by;
  if (to < 0 || to >= state.moments.length) return;
  const { phase, name } = state.moments[to];
  goTo(phase, name ?? (phase === 'update' ? state.chosen : null));
}

function moveLayer(by) {
  const seen = state.moments.filter((one) => one.phase === 'forward').map((one) => one.name);
  const to = seen.indexOf(state.chosen) + by;
  if (to >= 0 && to < seen.length) acts.choose(seen[to]);
}

// Drawing

function draw() {
  if (!state.steps) return; // of a run that is followed, none was looked into so far
  const focused = document.activeElement;
  const kept = focused && focused !== document.body ? selectorOf(focused) : null;
  drawGraph(byId('graph'), state, acts, reachedBy(state.step, state.moments, state.moment));
  drawDetail(byId('detail'), state, acts);
  drawDepth(byId('depth'), state, acts);
  drawTraining(byId('training'), state, acts);
  drawBanner();
  const at = state.moments.indexOf(state.moment);
  byId('moment').textContent = inWords(state.moment, state.moments);
  byId('moment').className = state.moment.phase;
  byId('progress').style.width = `${100 * at / (state.moments.length - 1)}%`;
  byId('progress').className = state.moment.phase;
  byId('back').disabled = at === 0;
  byId('next').disabled = at === state.moments.length - 1;
  if (kept) document.querySelector(kept)?.focus({ preventScroll: true });
  showBox();
}

/** What finds an element again that is made anew; null for others. */
function selectorOf(element) {
  const { layer } = element.dataset;
  if (layer) return `[data-layer="${CSS.escape(layer)}"]`;
  const phase = element.closest('.phases') && element.className;
  return phase ? `.phases .${phase}` : null;
}

function drawBanner() {
  const bad = firstBad(state.layers, state.step);
  const banner = byId('banner');
  banner.hidden = !bad;
  if (!bad) {
    banner.replaceChildren();
    return;
  }
  const go = () => {
    openAround(bad.name);
    goTo(bad.phase, bad.name);
    byId('detail').scrollIntoView({ block: 'nearest' });
  };
  banner.replaceChildren(
    make('strong', {}, 'NaN or infinity began here: '),
    `${bad.name}, ${bad.what}, on the way ${bad.phase === 'forward' ? 'forward' : 'back'}. `,
    make('button', { type: 'button', onclick: go }, 'Show it'));
}

/** Scroll the graph, not the page, to the box that is looked at. */
function showBox() {
  const graph = byId('graph');
  const box = graph.querySelector('.now');
  if (!box) return;
  const [top, left] = [box.offsetTop, box.offsetLeft];
  const isSeen = top >= graph.scrollTop && left >= graph.scrollLeft &&
    top + box.offsetHeight <= graph.scrollTop + graph.clientHeight &&
    left + box.offsetWidth <= graph.scrollLeft + graph.clientWidth;
  if (isSeen) return;
  graph.scrollTop = top - graph.clientHeight / 2 + Math.min(box.offsetHeight, graph.clientHeight) / 2;
  graph.scrollLeft = left - graph.clientWidth / 2 + Math.min(box.offsetWidth, graph.clientWidth) / 2;
}

// Keys and buttons

const KEYS = {
  ArrowRight: () => move(1), ArrowLeft: () => move(-1),
  ArrowDown: () => moveLayer(1), ArrowUp: () => moveLayer(-1),
};

function onKey(event) {
  const isTaken = !state.steps || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey ||
    event.target.closest('input, select, textarea, .scroller');
  if (isTaken || !KEYS[event.key]) return;
  event.preventDefault();
  KEYS[event.key]();
}

function onTheme() {
  const chosen = byId('theme').value;
  if (chosen) document.documentElement.dataset.theme = chosen;
  else delete document.documentElement.dataset.theme;
  draw();
}

/** Where the page is served while a training goes on, ask for newer data every other second. */
function follow(address) {
  let known = null;
  const ask = async () => {
    try {
      const answer = await fetch(address, { headers: known ? { 'If-None-Match': known } : {} });
      if (answer.status === 200) {
        known = answer.headers.get('ETag');
        show(await answer.json());
      }
      byId('following').textContent = state.steps ? 'follows the training'
        : 'waits for the first step that is looked into';
    } catch {
      byId('following').textContent = 'the server does not answer';
    }
    setTimeout(ask, 2000);
  };
  byId('following').hidden = false;
  ask();
}

/** Show data; who follows a training and looks at the newest step goes on to the newest. */
function show(data) {
  const isFirst = !state.steps;
  const wasLast = isFirst || state.at === state.steps.length - 1;
  take(data);
  if (wasLast && document.documentElement.dataset.source) state.at = state.steps.length - 1;
  if (isFirst && state.layers.length <= 8) {
    for (const layer of state.layers) if (layer.inside !== null) state.open.add(layer.inside);
  }
  remake();
  draw();
}

function begin() {
  byId('back').addEventListener('click', () => move(-1));
  byId('next').addEventListener('click', () => move(1));
  byId('theme').addEventListener('change', onTheme);
  document.addEventListener('keydown', onKey);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', draw);
  let width = innerWidth;
  addEventListener('resize', () => {
    if (innerWidth !== width) draw();
    width = innerWidth;
  });
  const held = JSON.parse(byId('xray').textContent);
  if (held) show(held);
  const { source } = document.documentElement.dataset;
  if (source) follow(source);
}

begin();
