// How a step fares along the depth: norms of deltas and gradients, updates, dead units, ends.

const USUAL = 1e-3; // the size of an update beside that of its weights

function norm(arrays) {
  const norms = arrays.filter((one) => one && one.norm !== null).map((one) => one.norm);
  return norms.length ? Math.hypot(...norms) : null;
}

/** Numbers of one layer in one step; null where there are none. */
function healthOf(layer, record) {
  const params = Object.keys(record.updates).map((name) => record.params[name]);
  const weights = norm(params);
  const change = norm(Object.values(record.updates));
  return {
    name: layer.name,
    delta: norm(listed(record.delta)),
    grad: norm(Object.values(record.grads)),
    ratio: weights && change !== null ? change / weights : null,
    ...record.health,
    bad: badArrays(record).reduce((sum, [, array]) => sum + array.nonfinite, 0),
  };
}

function told(words) {
  return make('span', { class: 'value' }, words);
}

/** A bar from the smallest to the largest of some numbers, in powers of ten. */
function logBar(value, all) {
  if (!(value > 0)) return told(short(value));
  const logs = all.filter((one) => one > 0).map(Math.log10);
  const low = Math.floor(Math.min(...logs) - 0.5);
  const high = Math.max(...logs);
  const bar = make('span', { class: 'log', 'aria-hidden': 'true' });
  bar.style.width = `${Math.max(2, 100 * (Math.log10(value) - low) / (high - low || 1))}%`;
  return make('span', { class: 'measure' }, told(short(value)),
    make('span', { class: 'track' }, bar));
}

/** Where a ratio lies between 1e-6 and 1, with a mark at what is usual. */
function ratioMark(ratio) {
  if (ratio === null) return told(short(ratio));
  const place = (value) => `${Math.min(100, Math.max(0, 100 * (Math.log10(value) + 6) / 6))}%`;
  const usual = make('span', { class: 'usual' });
  const dot = make('span', { class: 'dot' });
  usual.style.left = place(USUAL);
  dot.style.left = place(ratio || 1e-9);
  return make('span', { class: 'measure' }, told(short(ratio)),
    make('span', { class: 'track', 'aria-hidden': 'true' }, usual, dot),
    make('span', { class: 'remark' }, ratioInWords(ratio)));
}

function ratioInWords(ratio) {
  if (ratio > 30 * USUAL) return 'large';
  if (ratio < USUAL / 30) return 'small';
  return '';
}

function caution(words, isNeeded) {
  return isNeeded ? make('span', { class: 'caution' }, words) : words;
}

/** Of outputs, or of each gate. */
function saturatedInWords({ saturated, gates }) {
  const shares = Object.entries(saturated === null ? gates : { '': saturated });
  return shares.length ? shares.map(([name, share]) => caution(`${name} ${percent(share)} `, share > 0.5))
    : short(null);
}

const COLUMNS = [
  ['\u2016\u03b4\u2016, the delta that reaches it', (row, rows) => logBar(row.delta, rows.map((one) => one.delta))],
  ['\u2016dL/dW\u2016, its gradients', (row, rows) => logBar(row.grad, rows.map((one) => one.grad))],
  ['update / weight', (row) => ratioMark(row.ratio)],
  ['dead units', ({ dead, units }) => (dead === null ? short(dead) : caution(`${dead} of ${units}`, dead > 0))],
  ['saturated', saturatedInWords],
  ['NaN or \u221e', (row) => (row.bad ? make('span', { class: 'bad' }, row.bad.toLocaleString('en')) : '0')],
];

function drawDepth(place, state, acts) {
  const rows = visible(state.layers, state.open).filter((layer) => state.step.layers[layer.name])
    .map((layer) => healthOf(layer, state.step.layers[layer.name]));
  place.parentNode.hidden = !rows.length;
  const head = make('tr', { role: 'row' }, ['layer', ...COLUMNS.map(([title]) => title)].map((title) =>
    make('th', { scope: 'col', role: 'columnheader' }, title)));
  const body = rows.map((row) => make('tr', {
    role: 'row', class: row.name === state.chosen ? 'chosen' : '',
  },
  make('th', { scope: 'row', role: 'rowheader' }, make('button', {
    type: 'button', class: 'plain', onclick: () => acts.choose(row.name),
  }, row.name)),
  COLUMNS.map(([title, show]) =>
    make('td', { role: 'cell', 'data-title': title }, show(row, rows)))));
  place.replaceChildren(make('table', { class: 'depth', role: 'table', 'aria-labelledby': 'depth-title' },
    make('thead', { role: 'rowgroup' }, head), make('tbody', { role: 'rowgroup' }, body)));
}
